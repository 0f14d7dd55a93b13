"""Text for the wire."""

from collections import deque
from enum import Enum
from typing import Any

import pytest

from streamapp.text import all_whole, whole, without_line_ends


class Lone(Enum):
    A = "\ud83d"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("plain é 😀", "plain é 😀"),
        ("\ud83d", "�"),
        ("a\ud83d\ud83db", "a��b"),
        ("\ude00\ud83d", "��"),
        ("\ud83d\ude00", "😀"),
        ("\ufeff\udcff", "\ufeff�"),
    ],
)
def test_a_surrogate_without_a_partner_is_replaced(text: str, expected: str) -> None:
    assert whole(text) == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ({"\ud83d": ["\ud83d", ("\ud83d", 1)]}, {"�": ["�", ["�", 1]]}),
        (deque(["\ud83d"]), ["�"]),
        (Lone.A, "�"),
        (None, None),
        (b"\xff", b"\xff"),
    ],
)
def test_so_it_is_anywhere_in_plain_data(value: Any, expected: Any) -> None:
    assert all_whole(value) == expected


def test_json_of_one_line_is_one_for_all_readers() -> None:
    """`str.splitlines` cuts at ten characters; JSON escapes those that are control characters."""
    json = '"a\u2028b\u2029c\x85d é…\u3000"'
    written = without_line_ends(json.encode())
    assert written == '"a\\u2028b\\u2029c\\u0085d é…\u3000"'.encode()
    assert written.decode().splitlines() == [written.decode()]


def test_json_of_ascii_is_left_as_it_is() -> None:
    assert without_line_ends(b'"a"') == b'"a"'
