"""What a session emits, as msgpack besides where bytes are in it."""

import io
from dataclasses import dataclass
from typing import Any

import msgpack
import PIL.Image
import pytest
from pydantic import BaseModel, Field

from streamapp.errors import NotEncodable
from streamapp.jobs.events import Log, Output, Preview, Progress
from streamapp.jobs.packing import to_packed_event
from streamapp.media import File


class Frame(BaseModel):
    data: bytes
    number: int = Field(default=1, serialization_alias="n")


@dataclass
class Part:
    data: bytes
    frame: Frame | None = None


def packed(value: Any) -> Any:
    content = to_packed_event(value).packed
    return None if content is None else msgpack.unpackb(content)


@pytest.mark.parametrize(
    ("value", "unpacked"),
    [
        (b"\xff", b"\xff"),
        ({"image": b"\xff", "n": 1}, {"image": b"\xff", "n": 1}),
        ([bytearray(b"a"), (memoryview(b"b"), io.BytesIO(b"c"))], [b"a", [b"b", b"c"]]),
        (Frame(data=b"\xff"), {"data": b"\xff", "n": 1}),
        (Part(b"\xff", Frame(data=b"\xfe")), {"data": b"\xff", "frame": {"data": b"\xfe", "n": 1}}),
        (Output({"a": b"\xff"}, "frame"), {"a": b"\xff"}),
        (Preview({"image": b"\xff"}, 1, 2), {"image": b"\xff", "step": 1, "total": 2}),
        ({"k": [Frame(data=b"\xff")]}, {"k": [{"data": b"\xff", "n": 1}]}),
        ({1: b"", "bad \ud800": None, "text": "\ud800"}, {"1": b"", "bad \ufffd": None, "text": "\ufffd"}),
    ],
)
def test_bytes_are_in_it_as_they_are(value: Any, unpacked: Any) -> None:
    assert packed(value) == unpacked


def test_both_forms_count() -> None:
    event = to_packed_event(b"\xff")
    assert event.size == len(event.data) + len(event.packed or b"")


def test_a_models_bytes_are_a_file_in_json() -> None:
    assert to_packed_event(Frame(data=b"\xff")).json()["data"]["url"] == "data:application/octet-stream;base64,/w=="


def test_all_else_is_what_it_is_in_json() -> None:
    event = to_packed_event(
        {"data": b"\xff", "image": PIL.Image.new("RGB", (2, 2)), "nan": float("nan"), "file": File(b"x")}
    )
    assert event.packed is not None
    assert msgpack.unpackb(event.packed) == {**event.json(), "data": b"\xff"}


@pytest.mark.parametrize(
    "value", [{"a": 1}, [{"a": [1, File(b"x")]}], Part, Progress(1), Log("a"), "text", {"file": File(b"x")}]
)
def test_without_bytes_there_is_nothing_but_json(value: Any) -> None:
    if value is Part:
        with pytest.raises(NotEncodable):
            to_packed_event(value)
        return
    assert to_packed_event(value).packed is None


@pytest.mark.parametrize("first", [b"\xff", 1])
def test_what_contains_itself_is_refused_as_elsewhere(first: Any) -> None:
    value = [first]
    value.append(value)
    with pytest.raises(NotEncodable):
        to_packed_event(value)


def test_what_msgpack_does_not_have_is_json_alone() -> None:
    assert to_packed_event({"data": b"\xff", "n": 1 << 64}).packed is None
