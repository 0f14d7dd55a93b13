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
from streamapp.media import File, Image


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


class Reel:
    """Show images by noting them."""

    def __init__(self) -> None:
        self.shown: list[Any] = []

    def show(self, image: PIL.Image.Image | Image) -> dict[str, Any]:
        self.shown.append(image)
        return {"frame": len(self.shown)}

    def follow(self, before: Any) -> None:
        raise AssertionError


class Painted(BaseModel):
    model_config = {"arbitrary_types_allowed": True}
    picture: PIL.Image.Image = Field(serialization_alias="image")


PIL_IMAGE = PIL.Image.new("RGB", (2, 2))
IMAGE = Image.from_pil(PIL_IMAGE)


@pytest.mark.parametrize(
    ("value", "data"),
    [
        (PIL_IMAGE, {"frame": 1}),
        (IMAGE, {"frame": 1}),
        (IMAGE.data, {"frame": 1}),
        (io.BytesIO(IMAGE.data), {"frame": 1}),
        ({"a": 1, "image": IMAGE}, {"a": 1, "image": {"frame": 1}}),
        ([1, PIL_IMAGE, 2], [1, {"frame": 1}, 2]),
        ((PIL_IMAGE,), [{"frame": 1}]),
        ({"images": [{"image": PIL_IMAGE}]}, {"images": [{"image": {"frame": 1}}]}),
        (Painted(picture=PIL_IMAGE), {"image": {"frame": 1}}),
        (Output({"image": PIL_IMAGE}), {"image": {"frame": 1}}),
        (Preview(PIL_IMAGE, 1, 2), {"image": {"frame": 1}, "step": 1, "total": 2}),
        (Preview(IMAGE), {"image": {"frame": 1}}),
        (Preview({"look": PIL_IMAGE}, key="a"), {"look": {"frame": 1}, "key": "a"}),
    ],
)
def test_an_image_goes_to_the_film_of_a_client_that_has_one(value: Any, data: Any) -> None:
    event = to_packed_event(value, None, reel := Reel(), at_once=True)
    assert event.json() == data
    assert len(reel.shown) == 1


@pytest.mark.parametrize("value", [{"a": [1, "b", None]}, "text", [], File(b"x", "text/plain"), b"x", {1, 2}])
def test_what_has_no_image_is_written_as_ever_where_there_is_a_film(value: Any) -> None:
    assert to_packed_event(value, None, reel := Reel()).data == to_packed_event(value).data
    assert reel.shown == []


def test_a_model_without_an_image_writes_itself_where_there_is_a_film() -> None:
    assert to_packed_event(Part(b"x"), None, Reel()).data == to_packed_event(Part(b"x")).data


def test_of_several_images_the_first_goes_to_the_film() -> None:
    event = to_packed_event({"a": IMAGE, "b": IMAGE}, None, Reel()).json()
    assert (event["a"], event["b"]["content_type"]) == ({"frame": 1}, "image/png")


def test_progress_has_no_image_for_a_film() -> None:
    assert to_packed_event(Progress(1, 2), None, Reel()).kind == "progress"


def test_what_contains_itself_is_told_where_there_is_a_film() -> None:
    loop: list[Any] = []
    loop.append(loop)
    with pytest.raises(NotEncodable):
        to_packed_event(loop, None, Reel())


class Torn(Reel):
    """Fail as Pillow does at an image that is empty, or whose file ends too early."""

    def show(self, image: PIL.Image.Image | Image) -> dict[str, Any]:
        raise OSError("image file is truncated")


@pytest.mark.parametrize("value", [PIL.Image.new("RGB", (0, 0)), [PIL.Image.new("RGB", (0, 0))]])
def test_what_a_film_cannot_show_is_told_as_where_there_is_none(value: Any) -> None:
    with pytest.raises(NotEncodable, match="empty image"):
        to_packed_event(value, None, Torn())
