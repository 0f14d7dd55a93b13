"""Forms and queries: what the texts and uploads of an input's fields stand for."""

import dataclasses
import datetime
import enum
import io
import uuid
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, Optional

import pytest
import starlette.datastructures
import typing_extensions
from fastapi import UploadFile
from pydantic import (
    AfterValidator,
    AliasChoices,
    AliasPath,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    HttpUrl,
    Json,
    JsonValue,
    PlainValidator,
    RootModel,
    SecretStr,
    TypeAdapter,
    create_model,
    model_validator,
)
from pydantic.alias_generators import to_camel
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.types import Message
from tests.full_disk import file_size_limit

import streamapp
from streamapp.errors import StorageFull
from streamapp.forms import FormReader, JsonText, has_fields, read_form, write_form
from streamapp.jsontext import weigh


class Style(enum.Enum):
    OIL = "oil"


class Unstyled(enum.Enum):
    NONE = ""


class Size(BaseModel):
    width: int


class Node(BaseModel):
    name: str = ""
    nodes: list["Node"] = []


class Checked(BaseModel):
    sizes: list[int] = []

    @model_validator(mode="before")
    @classmethod
    def _before(cls, value: Any) -> Any:
        return value

    @model_validator(mode="wrap")
    @classmethod
    def _around(cls, value: Any, checked: Any) -> Any:
        return checked(value)


class Pair(NamedTuple):
    a: int
    b: int


@dataclasses.dataclass
class Plain:
    sizes: list[int]
    n: int = 0


class Typed(typing_extensions.TypedDict):
    sizes: typing_extensions.NotRequired[list[int]]


class Sizes(RootModel[list[int]]):
    """Be a list."""


class Whole(RootModel[Size | Plain]):
    """Be one of two objects."""


def reader(annotation: Any, name: str | None = None) -> FormReader:
    return FormReader(TypeAdapter(annotation).core_schema, name)


def field(annotation: Any) -> FormReader:
    """Read an input with one field, x."""
    return reader(create_model("Input", x=(annotation, ...)))


def upload(content: bytes, content_type: str = "", name: str = "a") -> UploadFile:
    headers = Headers({"content-type": content_type} if content_type else {})
    return UploadFile(io.BytesIO(content), size=len(content), filename=name, headers=headers)


# Nothing


@pytest.mark.parametrize(
    "annotation",
    [
        *(int, float, bool, int | None, Optional[float], datetime.date, uuid.UUID, HttpUrl, Style, Literal["oil"]),  # noqa: UP045
        *(list[int], list[str], list[str] | None, set[int], tuple[int, ...], dict[str, int], Size, Plain, Typed, None),
        *(Size | None, Size | Literal["square"], Sizes, streamapp.Image, streamapp.File | None, UploadFile),
        *(list[UploadFile], Annotated[int, BeforeValidator(int)], Annotated[int, AfterValidator(abs)], type[int]),
        *(Callable[..., int], Pair),
    ],
    ids=str,
)
def test_an_empty_text_is_nothing_where_no_text_can_be(annotation: Any) -> None:
    assert field(annotation).read([("x", "")]) == {}


@pytest.mark.parametrize(
    "annotation",
    [
        *(
            str,
            str | None,
            int | str,
            SecretStr,
            bytes,
            Any,
            Path,
            Literal["", "oil"],
            Unstyled,
            Json[int],
            list[str] | str,
        ),
        *(Annotated[str, Field(min_length=1)], Annotated[Any, PlainValidator(str)], str | Size),
    ],
    ids=str,
)
def test_an_empty_text_is_one_where_a_text_can_be(annotation: Any) -> None:
    assert field(annotation).read([("x", "")]) == {"x": ""}


def test_an_empty_text_among_others_is_left_out_of_numbers_only() -> None:
    several = [("x", "1"), ("x", "")]
    assert [field(annotation).read(several)["x"] for annotation in (list[int], list[str])] == [["1"], ["1", ""]]


async def test_a_file_that_was_not_chosen_is_nothing() -> None:
    for annotation in (streamapp.Image, list[streamapp.Image], UploadFile | None, list[UploadFile], bytes, Any):
        assert await field(annotation).read_uploads([("x", upload(b"", "application/octet-stream", name=""))]) == {}


async def test_an_empty_file_that_was_chosen_is_one() -> None:
    chosen = upload(b"")
    assert await field(UploadFile).read_uploads([("x", chosen)]) == {"x": chosen}


# Certain values


class Side(enum.Enum):
    SMALL = 16
    HALF = 0.5


@pytest.mark.parametrize(
    ("annotation", "text", "value"),
    [
        *((Literal[16, 32], "32", 32), (Literal[16, None], "16", 16), (Literal[16] | None, "16", 16)),
        *((Literal[True, "auto"], "true", True), (Literal[True, "auto"], "auto", "auto"), (Literal[-1], "-1", -1)),
        *((Side, "16", 16), (Side, "0.5", 0.5), (Literal[16], "17", "17"), (Literal[16, "16"], "16", "16")),
        (Literal[16] | str, "16", "16"),
        *((list[Literal[16, 32]], "16", [16]), (Literal[16] | Size, '{"width": 1}', {"width": 1})),
    ],
    ids=str,
)
def test_a_number_that_is_one_of_certain_values_is_it(annotation: Any, text: str, value: Any) -> None:
    assert field(annotation).read([("x", text)]) == {"x": value}


def test_a_list_of_certain_values_has_them_as_they_are() -> None:
    assert field(list[Literal[16, 32]]).read([("x", "16"), ("x", "32")]) == {"x": [16, 32]}


# Lists


@pytest.mark.parametrize(
    "annotation",
    [
        *(list[int], list, set[int], frozenset[int], tuple[int, int], tuple[int, ...], deque[int], Sequence[int], Pair),
        *(Iterable[int], list[int] | None, Optional[list[int]], Optional[Annotated[list[int], Field(max_length=4)]]),  # noqa: UP045
        *(Annotated[list[int] | None, "some"], list[Literal["1", "2"]], list[int | None], list[int] | set[str], Sizes),
        *(Annotated[list[int], AfterValidator(list)], list[int] | int, list[Annotated[int, Field(ge=0)]], list[Style]),
    ],
    ids=str,
)
def test_a_list_has_all_values_of_its_name(annotation: Any) -> None:
    assert field(annotation).read([("x", "1"), ("x", "2")]) == {"x": ["1", "2"]}


def test_one_value_is_a_list_unless_it_may_be_more_than_that() -> None:
    assert [field(annotation).read([("x", "1")])["x"] for annotation in (list[int] | None, list[int] | int)] == [
        ["1"],
        "1",
    ]


def test_of_what_is_no_list_the_last_value_counts() -> None:
    for annotation in (int, str, Size, dict[str, int]):
        assert field(annotation).read([("x", "1"), ("x", "2"), ("other", "3"), ("other", "4")]) == {
            "x": "2",
            "other": "4",
        }


# Names


def test_a_field_is_read_by_each_of_its_names() -> None:
    class Named(BaseModel):
        model_config = ConfigDict(alias_generator=to_camel)

        image_urls: list[str]
        by_choice: list[int] = Field(validation_alias=AliasChoices("one", AliasPath("other"), AliasPath("deep", "er")))
        first: int = Field(validation_alias=AliasPath("many", 0))

    pairs = [("imageUrls", "a"), ("one", "1"), ("other", "2"), ("deep", '{"er": [3]}'), ("many", "4")]
    assert reader(Named).read(pairs) == {
        "imageUrls": ["a"],
        "one": ["1"],
        "other": ["2"],
        "deep": {"er": [3]},
        "many": ["4"],
    }


@pytest.mark.parametrize(
    "annotation",
    [Plain, Typed, Plain | Typed | None, Annotated[Plain, "one"], Checked, Whole, Whole | Checked],
    ids=str,
)
def test_an_input_has_fields_whatever_it_is(annotation: Any) -> None:
    assert reader(annotation).read([("sizes", "1"), ("n", "")]).get("sizes") == ["1"]


def test_members_of_a_union_may_have_a_list_and_a_number_of_the_same_name() -> None:
    class One(BaseModel):
        x: int

    class Many(BaseModel):
        kind: Literal["many"]
        x: list[int]

    either = reader(One | Many)
    assert [either.read([("x", "1")]), either.read([("x", "1"), ("x", "2")])] == [{"x": "1"}, {"x": ["1", "2"]}]


def test_members_that_are_told_by_a_tag_have_fields() -> None:
    class One(BaseModel):
        kind: Literal["one"]
        x: int

    class Many(BaseModel):
        kind: Literal["many"]
        y: list[int]

    assert reader(Annotated[One | Many, Field(discriminator="kind")]).read([("x", ""), ("y", "1")]) == {"y": ["1"]}


# JSON


@pytest.mark.parametrize(
    ("annotation", "text", "value"),
    [
        (Size, '{"width": 1}', {"width": 1}),
        (Size | None, ' {"width": 1}', {"width": 1}),
        (Plain, '{"n": 1}', {"n": 1}),
        (dict[str, int], '{"a": 1}', {"a": 1}),
        (Size | Literal["square"], '{"width": 1}', {"width": 1}),
        (Size | Literal["square"], "square", "square"),
        (Size, '{"width', '{"width'),
        (Size, '{"width": NaN}', '{"width": NaN}'),
        (streamapp.Image, '{"url": "data:,"}', {"url": "data:,"}),
        (list[int], "[1, 2]", [1, 2]),
        (list[Size], '[{"width": 1}]', [{"width": 1}]),
        (list[Size], '{"width": 1}', [{"width": 1}]),
        (Node, '{"nodes": [{"nodes": []}]}', {"nodes": [{"nodes": []}]}),
        (list[str], '["a"]', ['["a"]']),
        (str, '{"a": 1}', '{"a": 1}'),
        (str | Size, '{"width": 1}', '{"width": 1}'),
        (int, "[1]", "[1]"),
    ],
)
def test_a_text_that_begins_as_json_is_an_object_where_no_text_can_be(annotation: Any, text: str, value: Any) -> None:
    assert field(annotation).read([("x", text)]) == {"x": value}


class Tree(RootModel[list["Tree"] | str]):
    """Be a tree of texts."""


@pytest.mark.parametrize(
    "annotation", [JsonValue, list[JsonValue], Tree, list[list[Tree]], dict[str, JsonValue]], ids=str
)
def test_what_holds_itself_is_read_as_well(annotation: Any) -> None:
    assert field(annotation).read([("x", "[[]]"), ("y", "")])["x"] in ("[[]]", ["[[]]"], [[]])


async def test_an_upload_of_json_is_what_it_says() -> None:
    for annotation, content, value in [
        (Size, b'{"width": 1}', {"width": 1}),
        (list[str], b'["a"]', ["a"]),
        (int, b"1", 1),
        (int, b"\xef\xbb\xbf1", 1),
    ]:
        assert await field(annotation).read_uploads([("x", upload(content, "application/json"))]) == {"x": value}


@pytest.mark.parametrize("count", [10, 500_000])
async def test_the_values_of_json_in_a_form_are_counted(count: int) -> None:
    taken = list[int]()
    text = "[" + "1," * count + "1]"
    for value in (text, upload(text.encode(), "application/json")):
        given = await field(list[int]).read_uploads([("x", value), ("other", "[]")], taken.append)
        assert given["x"] == [1] * (count + 1)
    assert taken == [weigh(text.encode())] * 2


async def test_an_upload_is_left_as_it_is_where_it_is_no_json() -> None:
    for annotation in (UploadFile, streamapp.File, Any, Annotated[Any, PlainValidator(str)], Size):
        for file in (upload(b"{", "application/json"), upload(b"{}", "text/plain"), upload(b"{}")):
            assert await field(annotation).read_uploads([("x", file), ("other", file)]) == {"x": file, "other": file}


async def test_an_upload_is_left_as_it_is_where_a_class_of_its_kind_is_asked_for() -> None:
    class Raw(BaseModel):
        model_config = ConfigDict(arbitrary_types_allowed=True)

        x: io.BytesIO | starlette.datastructures.UploadFile

    file = upload(b"{}", "application/json")
    assert await reader(Raw).read_uploads([("x", file)]) == {"x": file}


@pytest.mark.parametrize(
    ("annotation", "text", "value"),
    [
        (list[str], '["a", "b"]', ["a", "b"]),
        (str | Size, '{"width": 1}', {"width": 1}),
        (str | list[Size], '[{"width": 1}]', [{"width": 1}]),
        (Size, '{"width": 1}', {"width": 1}),
        (Size, "{", "{"),
        (Size, '\ufeff{"width": 1}', {"width": 1}),
        (Any, '{"width": 1}', {"width": 1}),
        (int | None, "null", None),
        (datetime.date, '"2026-01-01"', "2026-01-01"),
        (str, '{"width": 1}', '{"width": 1}'),
        (Json[Size], '{"width": 1}', '{"width": 1}'),
    ],
)
def test_a_text_that_is_said_to_be_json_is_an_object_where_one_can_be(annotation: Any, text: str, value: Any) -> None:
    assert field(annotation).read([("x", JsonText(text))]) == {"x": value}


def sent(*parts: str) -> Request:
    """Make a request with a form of these parts, which comes byte by byte."""
    body = "".join(f"--b\r\n{part}\r\n" for part in parts).encode() + b"--b--\r\n"
    messages: list[Message] = [{"type": "http.request", "body": bytes([byte]), "more_body": True} for byte in body]
    messages.append({"type": "http.request", "body": b"", "more_body": False})

    async def receive() -> Message:
        return messages.pop(0)

    headers = [(b"content-type", b"multipart/form-data; boundary=b")]
    return Request({"type": "http", "method": "POST", "headers": headers, "query_string": b""}, receive)


def part(name: str, content: str, content_type: str = "", more: str = "") -> str:
    typed = f"Content-Type: {content_type}\r\n" if content_type else ""
    return f'{typed}Content-Disposition: form-data; name="{name}"{more}\r\n\r\n{content}'


async def test_a_part_of_a_form_says_that_it_is_json() -> None:
    parts = part("a", "{}", "application/JSON"), part("b", "{}"), part("c", "{}", "text/plain")
    form = await read_form(request := sent(*parts), max_part_size=10)
    assert {name: type(value) for name, value in form.multi_items()} == {"a": JsonText, "b": str, "c": str}
    assert await request.form() is form is await read_form(request, max_part_size=10)


async def test_a_part_with_a_file_name_is_an_upload_whatever_it_says() -> None:
    form = await read_form(sent(part("a", "{}", "application/json", '; filename="a"')), max_part_size=10)
    assert isinstance(form["a"], starlette.datastructures.UploadFile)
    await form.close()


async def test_a_part_that_is_too_large_is_refused() -> None:
    with pytest.raises(HTTPException, match="Part exceeded maximum size") as caught:
        await read_form(sent(part("a", "x" * 11)), max_part_size=10)
    assert caught.value.status_code == 400


async def test_a_form_that_finds_the_disk_full_is_told_so() -> None:
    body = f"--b\r\n{part('a', 'x' * 2_000_000, more='; filename=a')}\r\n--b--\r\n".encode()

    async def receive() -> Message:
        return {"type": "http.request", "body": body, "more_body": False}

    large = Request(sent().scope, receive)
    with file_size_limit(10), pytest.raises(StorageFull, match="the form's files cannot be kept: File too large"):
        await read_form(large, max_part_size=10)


async def test_a_form_whose_connection_breaks_is_no_matter_of_the_disk() -> None:
    async def broken() -> Message:
        raise ConnectionResetError

    request = Request(sent(part("a", "x")).scope, broken)
    with pytest.raises(ConnectionResetError):
        await read_form(request, max_part_size=10)


async def test_bytes_are_the_content_of_an_upload() -> None:
    one, two = (upload(content, "application/json") for content in (b"\xff", b"{}"))
    assert await field(bytes).read_uploads([("x", one)]) == {"x": b"\xff"}
    assert await field(list[bytes] | None).read_uploads([("x", one), ("x", two)]) == {"x": [b"", b"{}"]}


# The whole


def test_an_input_may_be_given_whole_by_its_name() -> None:
    whole = reader(Plain, "input")
    assert whole.read([("input", '{"sizes": [1], "n": 2}'), ("n", "3")]) == {"sizes": [1], "n": "3"}
    assert reader(list[int], "input").read([("input", "1"), ("input", "2")]) == ["1", "2"]


def test_a_whole_that_is_no_object_has_no_fields_beside_it() -> None:
    assert reader(Plain, "input").read([("input", "text")]) == "text"
    with pytest.raises(ValueError, match="expected input as a JSON object, as there is also n, m"):
        reader(Plain, "input").read([("input", "text"), ("n", "3")], {"n": 1, "m": 2})


def test_what_is_given_beside_is_overruled() -> None:
    assert reader(Plain).read([("n", "3"), ("sizes", "")], {"n": 1, "sizes": [2]}) == {"n": "3", "sizes": [2]}


def test_a_field_that_is_called_as_the_whole_is_the_field() -> None:
    assert reader(create_model("Input", input=(int, 1)), "input").read([("input", "2")]) == {"input": "2"}


@pytest.mark.parametrize(
    ("annotation", "expected"),
    [
        *(
            (each, True)
            for each in (Size, Plain, Typed, Sizes, Whole, Checked, Node, Size | None, Size | str, Size | list)
        ),
        *(
            (each, False)
            for each in (int, list[Size], dict[str, Size], Any, Pair, streamapp.Image, UploadFile, Json[Size])
        ),
    ],
)
def test_what_has_fields_is_told_by_the_schema(annotation: Any, expected: bool) -> None:
    assert has_fields(TypeAdapter(create_model("Input", x=(annotation, ...))).core_schema, "x") is expected


def written(*parts: tuple[str, Any]) -> bytes:
    pieces: list[bytes] = []
    write_form(starlette.datastructures.FormData(list(parts)), pieces.append)
    return b"".join(pieces)


def test_a_form_is_written_with_all_that_it_says() -> None:
    file = UploadFile(io.BytesIO(b"content"), filename="a.txt", size=7)
    assert written(("n", "ab"), ("file", file)) == b"3:str1:n2:ab" + b"10:UploadFile4:file5:a.txt0:7:content"


def test_a_file_is_written_whole_and_read_on_where_it_was() -> None:
    file = UploadFile(io.BytesIO(b"content"), filename="a.txt", size=7)
    file.file.seek(3)
    assert written(("file", file)).endswith(b"7:content")
    assert file.file.read() == b"tent"


def test_a_file_that_is_closed_is_written_by_its_name() -> None:
    file = UploadFile(io.BytesIO(b"content"), filename="a.txt", size=7)
    file.file.close()
    assert written(("file", file)).endswith(b"5:a.txt0:7:")


@pytest.mark.parametrize("other", [[("a", "1b"), ("c", "")], [("a", JsonText("1"))], [("a", "1\ud800")]])
def test_forms_that_say_something_else_are_written_otherwise(other: list[tuple[str, Any]]) -> None:
    assert written(*other) != written(("a", "1"))
