"""Events: what may be emitted, and the bytes that it becomes."""

import base64
import io
import json
import math
import re
from collections import deque
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import Enum
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, get_args

import numpy
import PIL.Image
import pytest
from pydantic import BaseModel, ConfigDict, Field, RootModel, computed_field
from pydantic.alias_generators import to_camel
from pydantic.dataclasses import dataclass as pydantic_dataclass
from tests.pictures import Keeping

from streamapp.errors import ErrorReport, MalformedRequest, NotEncodable
from streamapp.jobs.events import (
    KINDS,
    Event,
    EventId,
    Kind,
    Log,
    Output,
    Preview,
    Progress,
    dumped,
    encode,
    input_error,
    is_name,
    parse_event_id,
    terminal,
    to_event,
    to_event_at_once,
)
from streamapp.media import File, Image
from streamapp_client._core import MEANINGS

JAVASCRIPT = Path(__file__).parent.parent / "client_sdk" / "js" / "src"

PIXELS = PIL.Image.new("RGB", (4, 2), "red")
LARGE = File(bytes(2**20 + 1))


class WithFile(BaseModel):
    file: File


class WithFileOrText(BaseModel):
    file: File | str


@dataclass
class Holding:
    file: File


class Tensor:
    """Looks like torch's: `numel`, `tolist`, and a `size` that is a method."""

    def __init__(self, *items: float) -> None:
        self.items = items

    def numel(self) -> int:
        return len(self.items)

    def size(self) -> tuple[int]:
        return (len(self.items),)

    def tolist(self) -> list[float]:
        return list(self.items)


class Scalar:
    def item(self) -> int:
        return 3


class Point(BaseModel):
    x: int


@dataclass
class Size:
    width: int


def decoded(media: dict[str, Any]) -> PIL.Image.Image:
    return PIL.Image.open(io.BytesIO(base64.b64decode(media["url"].partition(",")[2])))


@pytest.mark.parametrize(
    ("value", "data"),
    [
        ({"a": [1, None, True]}, b'{"a":[1,null,true]}'),
        (Point(x=1), b'{"x":1}'),
        (Size(width=2), b'{"width":2}'),
        ([math.nan, -math.inf], b"[null,null]"),
        ("é\n", '"é\\n"'.encode()),
        (None, b"null"),
        (numpy.float32(0.5), b"0.5"),
        (numpy.arange(3), b"[0,1,2]"),
        ({"t": Tensor(1.0, math.nan)}, b'{"t":[1.0,null]}'),
        (Scalar(), b"3"),
    ],
)
def test_a_plain_value_becomes_an_output_in_compact_json(value: Any, data: bytes) -> None:
    event = to_event(value)
    assert (event.kind, event.name, event.data) == ("output", "output", data)


def test_an_image_anywhere_in_a_value_becomes_a_png_with_its_type_and_size() -> None:
    media = to_event({"images": [PIXELS]}).json()["images"][0]
    assert (media["content_type"], media["width"], media["height"]) == ("image/png", 4, 2)
    assert decoded(media).getpixel((0, 0)) == (255, 0, 0)


def test_an_encoded_image_is_passed_on_as_it_is() -> None:
    image = Image.from_pil(PIXELS, "WEBP")
    assert to_event({"image": image}).json()["image"]["url"] == image.data_uri()


def test_files_anywhere_in_a_payload_come_whole() -> None:
    files = [File(bytes([n]) * 100_000, "application/x-thing") for n in range(3)]
    payload = {"one": files[0], "list": [{"of": files[1]}, files[0]], "model": WithFile(file=files[2]), "text": "é-0;"}
    assert to_event(payload).json() == {
        "one": files[0].as_json(),
        "list": [{"of": files[1].as_json()}, files[0].as_json()],
        "model": {"file": files[2].as_json()},
        "text": "é-0;",
    }


@pytest.mark.parametrize("payload", [PIXELS, {"image": PIXELS}])
def test_an_image_of_a_preview_is_a_jpeg(payload: Any) -> None:
    event = to_event(Preview(payload, step=2, total=4, key="left"))
    assert (event.kind, event.key) == ("preview", "left")
    assert decoded(event.json()["image"]).format == "JPEG"
    assert (event.json()["step"], event.json()["total"]) == (2, 4)


def test_a_preview_without_a_step_is_its_payload() -> None:
    assert to_event(Preview({"x": 1})).json() == {"x": 1}


def test_a_preview_that_is_no_mapping_stands_beside_its_step() -> None:
    assert to_event(Preview("so far", step=1)).json() == {"data": "so far", "step": 1, "total": None}


def test_progress_says_step_total_and_message() -> None:
    assert to_event(Progress(1)).json() == {"step": 1, "total": None}
    event = to_event(Progress(1, 4, "decoding", key="b"))
    assert (event.json(), event.key) == ({"step": 1, "total": 4, "message": "decoding"}, "b")


def test_a_log_says_message_level_and_source() -> None:
    event = to_event(Log("loaded", "WARN", "app"))
    assert (event.kind, event.text) == ("log", "loaded")
    told = event.json()
    assert datetime.now(UTC) - datetime.fromisoformat(told.pop("timestamp")) < timedelta(seconds=10)
    assert told == {"message": "loaded", "level": "WARN", "source": "app"}


def test_what_an_event_holds_as_msgpack_counts_with_its_data() -> None:
    event = to_event({"a": 1})
    event.pack(b"\x81\xa1a\x01")
    assert (event.packed, event.size) == (b"\x81\xa1a\x01", 11)


def test_an_output_can_have_a_name_of_its_own() -> None:
    assert is_name("token") and is_name("output") and not is_name("a b")
    event = to_event(Output("hi", event="token"))
    assert (event.kind, event.name, event.text, event.data) == ("output", "token", "hi", b'"hi"')
    assert to_event(Output({"a": 1})).text is None


def test_an_output_may_say_what_stands_for_it_in_plain_text() -> None:
    event = to_event(Output({"done": 3}, text="three are done\n"))
    assert (event.json(), event.text) == ({"done": 3}, "three are done\n")
    assert to_event(Output("a", text="")).text == ""


@pytest.mark.parametrize("name", sorted(KINDS.keys() - {"output"}))
def test_a_name_of_the_frameworks_own_is_refused(name: str) -> None:
    assert not is_name(name)
    with pytest.raises(NotEncodable, match=f'"{name}" is the framework\'s own'):
        to_event(Output(1, event=name))


@pytest.mark.parametrize("name", ["", "a b", "a\nid: 1", "1st", "x" * 65])
def test_a_name_that_would_break_the_wire_is_refused(name: str) -> None:
    with pytest.raises(NotEncodable, match="must match"):
        to_event(Output(1, event=name))


def test_a_value_without_a_form_is_refused_by_its_type() -> None:
    with pytest.raises(NotEncodable, match=r"no JSON form for builtins\.object; emit dicts, lists"):
        to_event({"a": object()})


def test_an_array_that_is_too_large_is_refused() -> None:
    with pytest.raises(NotEncodable, match="an array of 70000 items is too large for JSON"):
        to_event(numpy.zeros(70_000))


def test_what_refers_to_itself_is_refused() -> None:
    loop: list[Any] = []
    loop.append(loop)
    for encoding in (encode, to_event):
        with pytest.raises(NotEncodable, match="list cannot be encoded"):
            encoding(loop)


class Named(BaseModel):
    text: str = Field(alias="theText")
    free: Any = None


class Lone(Enum):
    A = "\ud83d"
    B = 1


@pytest.mark.parametrize(
    ("value", "data"),
    [
        ("\ud83d", "�"),
        ({"a\ud83d": ["\ud83d", ("\ud83d",), {"\ud83d"}]}, {"a�": ["�", ["�"], ["�"]]}),
        (
            {"m": Named(theText="\ud83d", free={"\ud83d": datetime(2026, 1, 2)})},
            {"m": {"theText": "�", "free": {"�": "2026-01-02T00:00:00"}}},
        ),
        (Size("\ud83d"), {"width": "�"}),  # type: ignore[arg-type]
        ("\ud83d\ude00", "😀"),
        (Output({"a": "\ud83d"}, "token"), {"a": "�"}),
        (Preview({"a": "\ud83d"}, key="\ud83d"), {"a": "�", "key": "�"}),
        (Progress(1, 2, "\ud83d"), {"step": 1, "total": 2, "message": "�"}),
        (deque(["\ud83d", {"a": deque(["\udcff"])}]), ["�", {"a": ["�"]}]),
        ({Lone.A: Lone.A, "n": Lone.B}, {"�": "�", "n": 1}),
        ({"a": numpy.array(["\ud83d"]), "b": numpy.array(["\ud83d"])[0]}, {"a": ["�"], "b": "�"}),
        ({"a": iter(["\ud83d", "b"])}, {"a": ["�", "b"]}),
    ],
)
def test_of_text_that_is_no_unicode_what_can_be_told_is_told(value: Any, data: Any) -> None:
    assert to_event(value).json() == data


def test_files_beside_text_that_is_no_unicode_come_whole() -> None:
    file = File(b"abc", "text/plain", "\udcff.txt")
    told = to_event({"file": file, "image": PIXELS, "model": WithFile(file=file), "text": "\ud83d"}).json()
    assert told["file"] == told["model"]["file"] == {**file.as_json(), "file_name": "�.txt"}
    assert decoded(told["image"]).size == (4, 2)


def test_a_log_line_that_is_no_unicode_is_told() -> None:
    assert to_event(Log("\ud83d")).json()["message"] == "�"


def test_json_has_no_character_at_which_readers_of_lines_cut_it() -> None:
    value = {"a\u2028": "\u2029\x85\x0b\x0c\x1c\x1d\x1e\r\n"}
    written = to_event(value).data.decode()
    assert json.loads(written) == value
    assert written.splitlines() == [written]


class Camel(BaseModel):
    model_config = ConfigDict(alias_generator=to_camel, serialize_by_alias=False)
    image_url: str = "x"

    @computed_field(alias="isLarge")  # type: ignore[prop-decorator]
    @property
    def is_large(self) -> bool:
        return True


@pydantic_dataclass
class Aliased:
    width: Annotated[int, Field(serialization_alias="w")]


@pytest.mark.parametrize(
    ("value", "data"),
    [
        (Named(theText="a"), {"theText": "a", "free": None}),
        ({"all": [Camel()]}, {"all": [{"imageUrl": "x", "isLarge": True}]}),
        (RootModel[list[Camel]]([Camel()]), [{"imageUrl": "x", "isLarge": True}]),
        (Aliased(1), {"w": 1}),
        (Output(Camel()), {"imageUrl": "x", "isLarge": True}),
    ],
)
def test_models_are_written_by_their_aliases(value: Any, data: Any) -> None:
    assert to_event(value).json() == data
    event = to_event_at_once(value)
    assert event is not None
    assert event.json() == data


def test_as_plain_values_models_keep_the_bytes_in_them() -> None:
    class Frame(BaseModel):
        data: bytes = Field(serialization_alias="d")

    assert dumped(Frame(data=b"\xff")) == {"d": b"\xff"}


def test_an_encoded_event_is_not_encoded_again() -> None:
    with pytest.raises(NotEncodable, match=r"got the encoded <Event 0 output b'1'>; emit its payload"):
        to_event(to_event(1))


def test_the_end_of_a_job_that_went_well_carries_its_data() -> None:
    event = terminal("done", {"status": "succeeded"})
    assert (event.kind, event.data, event.error) == ("done", b'{"status":"succeeded"}', None)


def test_an_error_carries_what_it_says() -> None:
    error = ErrorReport(503, "draining", "the server is shutting down", True)
    event = terminal("error", error)
    assert (event.json(), event.error) == (error.body, error)


def test_an_error_whose_detail_has_no_form_is_told_without_it() -> None:
    """An app raises HTTPException(400, detail=object()); its readers must hear of the end all the same."""
    event = terminal("error", ErrorReport(400, "refused", "no", detail=object()))
    assert event.json()["detail"] == "no"
    assert event.error is not None
    assert event.error.detail is None


def test_what_is_wrong_with_an_input_says_with_which() -> None:
    report = ErrorReport(422, "invalid_input", "no", detail=[1])
    event = input_error(report, 3)
    assert (event.kind, event.is_terminal) == ("input_error", False)
    assert event.json() == {**report.body, "input": 3}
    assert input_error(ErrorReport(400, "refused", "no", detail=object()), 1).json()["detail"] == "no"


@pytest.mark.parametrize(
    ("kind", "is_terminal"), [("done", True), ("error", True), ("cancelled", True), ("output", False), ("log", False)]
)
def test_three_kinds_end_a_log(kind: Kind, is_terminal: bool) -> None:
    assert Event(kind, b"{}").is_terminal == is_terminal


def test_the_table_of_kinds_has_them_all() -> None:
    assert KINDS.keys() == {*get_args(Kind), "job"}


def test_what_a_kind_is_said_to_be_goes_together() -> None:
    for traits in KINDS.values():
        assert traits.is_terminal == (traits.meaning in ("end", "failure"))
        assert not (traits.is_replaceable and (traits.is_terminal or traits.meaning == "result"))


def meaning(*meanings: str) -> set[str]:
    return {kind for kind, traits in KINDS.items() if traits.meaning in meanings}


def test_the_python_client_takes_names_for_what_the_server_means() -> None:
    """It is a distribution of its own, and has the table too."""
    assert {kind: traits.meaning for kind, traits in KINDS.items()} == MEANINGS


def test_the_javascript_client_takes_names_for_what_the_server_means() -> None:
    """Its source names each where it is used: a table would take 90 of the 6000 bytes that it may have."""
    conversation, client = ((JAVASCRIPT / file).read_text() for file in ("conversation.ts", "client.ts"))
    passing = re.search(r"NEVER_THE_RESULT: .* = new Set\(\[(.*)\]\);", conversation)
    ends = re.search(r"for \(const name of \[(.*)\]\)", client)
    assert passing is not None
    assert ends is not None
    assert set(re.findall(r"\w+", passing[1])) == meaning("passing", "opening")
    assert set(re.findall(r"\w+", ends[1])) == meaning("end", "failure")
    compared = re.findall(r'\bname [!=]== "(\w+)"', conversation)
    assert set(compared) == meaning("restart", "opening", "end", "failure")


@pytest.mark.parametrize(
    "payload",
    [
        {"a": 1},
        b"bytes",
        {"image": Image.from_pil(PIXELS)},
        {"file": File(b"x")},
        {"file": File(bytes(2**20))},
        File(b"x"),
        WithFile(file=File(b"x")),
        Preview(File(b"x"), step=1),
        {"array": numpy.arange(3), "point": Point(x=1)},
        "text",
        Output([1], "token"),
        Log("a"),
    ],
    ids=repr,
)
def test_what_has_no_images_and_no_large_files_is_encoded_at_once(payload: Any) -> None:
    event, expected = to_event_at_once(payload), to_event(payload)
    assert event is not None
    assert (event.kind, event.name, event.text) == (expected.kind, expected.name, expected.text)
    assert event.kind == "log" or event.data == expected.data


@pytest.mark.parametrize(
    "payload",
    [
        PIXELS,
        {"a": PIXELS},
        {"images": [PIXELS]},
        {"a": [[[[[PIXELS]]]]]},
        Output({"a": {"b": PIXELS}}),
        MappingProxyType({"a": [PIXELS]}),
        Preview(PIXELS),
        {"a": object()},
    ],
)
def test_images_and_what_cannot_be_encoded_are_left_to_a_thread(payload: Any) -> None:
    assert to_event_at_once(payload) is None


def test_an_iterator_is_left_to_a_thread_untouched() -> None:
    payload = {"a": iter(["x", PIXELS])}
    assert to_event_at_once(payload) is None
    assert len(to_event(payload).json()["a"]) == 2


@pytest.mark.parametrize(
    "payload",
    [
        LARGE,
        Image(b"\x89PNG\r\n\x1a\n" + bytes(2**20), width=1, height=1),
        {"a": LARGE},
        {"a": [[[[[LARGE]]]]]},
        [{"a": LARGE}],
        WithFile(file=LARGE),
        {"a": WithFileOrText(file=LARGE)},
        Holding(LARGE),
        Output(LARGE, "token"),
        Preview(LARGE),
    ],
    ids=repr,
)
def test_large_files_are_left_to_a_thread_before_they_are_kept(payload: Any) -> None:
    publisher = Keeping()
    assert to_event_at_once(payload, publisher) is None
    assert publisher.kept == []


@pytest.mark.parametrize("payload", [File(b"x"), {"a": [File(b"x")]}, WithFile(file=File(b"x")), Output({"a": b"x"})])
def test_files_to_be_kept_are_left_to_a_thread(payload: Any) -> None:
    publisher = Keeping(inline_bytes=-1)
    assert to_event_at_once(payload, publisher) is None
    assert publisher.kept == []
    assert b"http://x.test/files/a" in to_event(payload, publisher).data
    assert publisher.kept == [File(b"x")]


@pytest.mark.parametrize(
    "payload",
    [PIXELS, {"image": PIXELS}, LARGE, {"a": [b"x"]}],
    ids=["image", "image in a dict", "large file", "bytes"],
)
def test_what_previews_show_is_in_them(payload: Any) -> None:
    """A file for each step would fill the store."""
    publisher = Keeping(inline_bytes=-1)
    assert b"data:" in to_event(Preview(payload), publisher).data
    assert publisher.kept == []


# Ids


JOB = "0123456789abcdef" * 2


def test_an_id_is_read_as_it_is_written() -> None:
    event_id = EventId(JOB, 2, 17)
    assert str(event_id) == f"{JOB}:2.17"
    assert parse_event_id(f" {event_id} ") == event_id


@pytest.mark.parametrize("value", ["", "17", f"{JOB}:1", f"{JOB}:1.", f"{JOB}:1.-1", f"x{JOB}:1.1", f"{JOB}:1.٣"])
def test_an_id_of_another_form_is_refused(value: str) -> None:
    with pytest.raises(MalformedRequest, match="expected an id of this server's streams"):
        parse_event_id(value)


@pytest.mark.parametrize("event_id", [EventId(JOB, 1, 0), EventId(JOB, 1, 5), EventId(JOB, 3, 1), EventId(JOB, 9, 70)])
def test_a_place_in_the_log_is_an_attempt_and_a_number(event_id: EventId) -> None:
    assert EventId.at(JOB, event_id.place) == event_id
    assert parse_event_id(str(event_id)) == event_id


def test_places_compare_as_attempt_and_number_do() -> None:
    ids = [EventId(JOB, 1, 1), EventId(JOB, 1, 900), EventId(JOB, 2, 0), EventId(JOB, 2, 1), EventId(JOB, 10, 1)]
    assert sorted(ids, key=lambda event_id: event_id.place) == ids


@pytest.mark.parametrize("value", [f"{JOB}:0.1", f"{JOB}:1.{1 << 40}"])
def test_an_id_that_no_event_can_have_is_malformed(value: str) -> None:
    with pytest.raises(MalformedRequest, match="no attempt or event"):
        parse_event_id(value)


def test_what_an_error_says_in_detail_is_plain_data() -> None:
    """A log can be kept: it holds no object of the app's own."""
    event = terminal("error", ErrorReport(418, "teapot", "no", detail=(n for n in range(2))))
    assert event.error is not None
    assert event.error.detail == event.json()["detail"] == [0, 1]
