"""JSON of strangers: how much it may become, and where it is read."""

import json
import threading
from typing import Any

import pytest

from streamapp.errors import PayloadTooLarge
from streamapp.jsontext import LARGE_BYTES, MOST_VALUES, read_json, weigh

MANY = MOST_VALUES + 1


@pytest.mark.parametrize("text", [b"1", b'"a"', b"", b"\xff"])
def test_a_single_value_weighs_nothing_besides_its_text(text: bytes) -> None:
    assert weigh(text) == 0


def test_lists_objects_values_and_names_weigh_alike() -> None:
    one = weigh(b"[")
    assert (weigh(b"[1,2]"), weigh(b'{"a":1,"b":[]}')) == (2 * one, 5 * one)


@pytest.mark.parametrize(
    "text",
    [
        b"[" + b"1," * MANY + b"1]",
        b"[" + b"[]," * MANY + b"1]",
        b"[" + b"{}," * MANY + b"1]",
        b"[" * MANY,
        b"{" + b'"a":1,' * MANY + b'"a":1}',
        b"[" + b'"",' * MANY + b'""]',
        b"[" + rb'"\"",' * MANY + b'""]',
        b'["' + b"a" * MANY + b'",' + b"1," * MANY + b"1]",
        rb'["\\",' + b"1," * MANY + b"1]",
        b'"' * 3 * MANY + b"," * MANY,  # which is no JSON
    ],
)
def test_what_has_too_many_values_is_refused_with_words(text: bytes) -> None:
    with pytest.raises(PayloadTooLarge, match="more than 1048576 values and names; send such an amount as a file"):
        weigh(text)


@pytest.mark.parametrize("text", ["1,2;" * MANY, '{"a": [1, 2]}, ' * (MANY // 2), "a: b, " * MANY, '\\",[' * MANY])
def test_a_long_text_is_one_value_whatever_is_in_it(text: str) -> None:
    """A table, JSON in a text, prose, a program."""
    assert weigh(json.dumps({"text": text, "n": [1, 2]}).encode()) == weigh(b'{"text":"","n":[1,2]}')


async def test_what_a_text_says_is_read() -> None:
    assert await read_json(b'{"a": [1]}') == {"a": [1]}


@pytest.mark.parametrize(("size", "is_here"), [(10, True), (LARGE_BYTES, False)])
async def test_a_large_text_is_read_in_another_thread(size: int, is_here: bool) -> None:
    def parse(text: bytes) -> Any:
        return threading.get_ident()

    assert (await read_json(b'"%b"' % (b"a" * size), parse) == threading.get_ident()) == is_here


async def test_what_is_no_json_is_told() -> None:
    with pytest.raises(ValueError, match="EOF"):
        await read_json(b"[")
