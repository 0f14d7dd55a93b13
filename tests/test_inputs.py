"""Inputs: from a request's JSON, form or query to an endpoint's keyword arguments."""

import asyncio
import base64
import contextvars
import dataclasses
import datetime
import decimal
import enum
import inspect
import io
import json
import pathlib
import socket
import sys
import threading
import typing
import uuid
from collections.abc import Awaitable, Callable, Sequence
from typing import Annotated, Any, Literal, NamedTuple, NewType, Optional, TypeVar
from urllib.parse import quote

import PIL.Image
import pytest
import typing_extensions
from fastapi import Body, Depends, File, Form, Header, UploadFile
from fastapi.exceptions import RequestValidationError
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import (
    AfterValidator,
    AliasPath,
    AllowInfNan,
    BaseModel,
    ConfigDict,
    Field,
    Json,
    RootModel,
    ValidationInfo,
    field_validator,
)
from pydantic import Strict as Strictly
from pydantic.fields import FieldInfo
from pydantic_core import from_json, to_json
from starlette.background import BackgroundTasks
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.testclient import TestClient
from starlette.types import Message
from starlette.websockets import WebSocket
from tests.served import ASYNC, PNG, data, serving

import streamapp
from streamapp.budget import SHARE, Budget
from streamapp.endpoint import inspect_endpoint
from streamapp.errors import DefinitionError, InvalidInput, PayloadTooLarge, StreamAppError
from streamapp.fetch import MediaLimits, limits_here
from streamapp.inputs import InputReader
from streamapp.jobs.job import JobRequest
from streamapp.settings import Settings

OPTIONAL = Optional[list[str]]  # noqa: UP045 - as older code writes it, which is another type
LIMITS = MediaLimits(max_bytes=4_000_000, max_pixels=1000, timeout_s=5, allow_private_urls=False)


class Prompt(BaseModel):
    prompt: str = Field(min_length=1)
    steps: int = Field(default=20, ge=1)
    tags: list[str] = []


def reader(function: Callable[..., Any], path: str = "/x") -> InputReader:
    return InputReader(inspect_endpoint(streamapp.endpoint(path)(function)), LIMITS)


async def read(reading: InputReader, request: Request) -> dict[str, Any]:
    content_type = request.headers.get("content-type")
    given = await reading.read(request, is_get=request.method == "GET", content_type=content_type)
    return given.arguments


def whole(self: Any, input: Prompt) -> None:
    """Take one model: the whole body."""


def keys(self: Any, prompt: str, steps: int = 20, tags: list[str] | None = None) -> None:
    """Take several plain parameters: keys of the body."""


WHOLE = reader(whole)
KEYS = reader(keys)


def post(body: bytes = b"", content_type: str | None = "application/json") -> Request:
    headers = [] if content_type is None else [(b"content-type", content_type.encode())]

    async def receive() -> Message:
        return {"type": "http.request", "body": body}

    return Request({"type": "http", "method": "POST", "headers": headers, "app": None, "query_string": b""}, receive)


def get(query: str) -> Request:
    return Request({"type": "http", "method": "GET", "headers": [], "query_string": query.encode()})


def multipart(*parts: tuple[str, str | bytes]) -> Request:
    """Make a form; bytes become a file."""
    body = b""
    for name, value in parts:
        file = '; filename="a.png"\r\nContent-Type: image/png' if isinstance(value, bytes) else ""
        content = value if isinstance(value, bytes) else value.encode()
        body += f'--b\r\nContent-Disposition: form-data; name="{name}"{file}\r\n\r\n'.encode() + content + b"\r\n"
    return post(body + b"--b--\r\n", "multipart/form-data; boundary=b")


async def refused(reading: InputReader, request: Request) -> list[dict[str, Any]]:
    with pytest.raises(RequestValidationError) as caught:
        await read(reading, request)
    return list(caught.value.errors())


# Bodies


async def test_one_model_is_the_whole_body() -> None:
    arguments = await read(WHOLE, post(b'{"prompt": "a cat", "steps": 3}'))
    assert arguments == {"input": Prompt(prompt="a cat", steps=3)}


async def test_what_the_endpoint_fetches_itself_is_limited_like_its_input() -> None:
    await read(WHOLE, post(b'{"prompt": "a cat"}'))
    assert limits_here() == LIMITS


async def test_several_parameters_are_keys_of_the_body() -> None:
    arguments = await read(KEYS, post(b'{"prompt": "a cat", "tags": ["x"]}'))
    assert arguments == {"prompt": "a cat", "steps": 20, "tags": ["x"]}


async def test_two_models_are_keys_of_the_body() -> None:
    def endpoint(self: Any, a: Prompt, b: Prompt) -> None: ...

    arguments = await read(reader(endpoint), post(b'{"a": {"prompt": "x"}, "b": {"prompt": "y"}}'))
    assert [arguments["a"].prompt, arguments["b"].prompt] == ["x", "y"]


class Square(BaseModel):
    kind: Literal["square"] = "square"
    width: int


class Circle(BaseModel):
    kind: Literal["circle"] = "circle"
    radius: int
    image: streamapp.Image | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class Frozen:
    width: int
    image: streamapp.Image | None = None


class Typed(typing_extensions.TypedDict):
    width: int
    image: typing_extensions.NotRequired[streamapp.Image]


class Rooted(RootModel[list[int]]):
    """Be a list."""


Shape = typing_extensions.TypeAliasType("Shape", Square | Circle)
Made = NewType("Made", Square)
Bound = TypeVar("Bound", bound=Square)


def lone(annotation: Any, default: Any = inspect.Parameter.empty) -> InputReader:
    """Read an endpoint with a single parameter."""

    def endpoint(self: Any, input: Any) -> None: ...

    endpoint.__annotations__["input"] = annotation
    if default is not inspect.Parameter.empty:
        endpoint.__defaults__ = (default,)
    return reader(endpoint)


@pytest.mark.parametrize(
    ("annotation", "body", "value"),
    [
        (Annotated[Square, "documented"], b'{"width": 1}', Square(width=1)),
        (Annotated[Square, Body()], b'{"width": 1}', Square(width=1)),
        (Annotated[Square, Form()], b'{"width": 1}', Square(width=1)),
        (Square | Circle, b'{"radius": 1}', Circle(radius=1)),
        (Annotated[Square | Circle, Field(discriminator="kind")], b'{"kind": "circle", "radius": 1}', Circle(radius=1)),
        (Square | None, b"null", None),
        (Shape, b'{"width": 1}', Square(width=1)),
        (Made, b'{"width": 1}', Square(width=1)),
        (Bound, b'{"width": 1}', Square(width=1)),
        (Frozen, b'{"width": 1}', Frozen(1)),
        (Annotated[Frozen | Circle, "either"], b'{"radius": 1}', Circle(radius=1)),
        (Typed, b'{"width": 1}', {"width": 1}),
        (Rooted, b"[1]", Rooted([1])),
        (Square | str, b'"text"', "text"),
        (Square | list[int], b"[1]", [1]),
        (Annotated[list[int], Body()], b"[1]", [1]),
        (Annotated[dict[str, int], Body()], b'{"a": 1}', {"a": 1}),
        (Annotated[str, Body()], b'"text"', "text"),
    ],
    ids=str,
)
async def test_one_parameter_with_fields_or_a_body_of_its_own_is_the_whole_body(
    annotation: Any, body: bytes, value: Any
) -> None:
    assert await read(lone(annotation), post(body)) == {"input": value}


@pytest.mark.parametrize(
    ("annotation", "value"),
    [
        *(
            (list[int], [1]),
            (list[Square], [Square(width=1)]),
            (dict[str, int], {"a": 1}),
            (Any, {"a": 1}),
            (str, "text"),
        ),
        *(
            (Annotated[Square, Body(embed=True)], Square(width=1)),
            (Annotated[str, Form()], "text"),
            (streamapp.Image | None, None),
        ),
    ],
    ids=str,
)
async def test_one_parameter_without_fields_is_a_key_of_the_body(annotation: Any, value: Any) -> None:
    assert await read(lone(annotation), post(to_json({"input": value}))) == {"input": value}


@pytest.mark.parametrize(
    "default", [None, Body(None), Field(default=None), Square(width=9), Field(default=Square(width=9))]
)
async def test_a_body_that_is_left_out_is_the_default(default: Any) -> None:
    reading = lone(Square | None, default)
    for request in (post(), post(b" "), multipart(("width", "")), get(""), get("_events=named"), get("_input={}")):
        given = await read(reading, request)
        assert given == {"input": default.default if isinstance(default, FieldInfo) else default}
    assert await read(reading, post(b'{"width": 1}')) == {"input": Square(width=1)}


async def test_a_default_is_nobody_elses() -> None:
    reading = lone(Circle, Circle(radius=1))
    first, second = [(await read(reading, post()))["input"] for _ in range(2)]
    first.radius = 2
    assert second.radius == 1


async def test_a_default_of_the_whole_input_is_read_again_from_nothing() -> None:
    reading = lone(Square, Square(width=9))
    for request in (post(), get("")):
        given = await reading.read(request, is_get=request.method == "GET", content_type="application/json")
        again = await reading.read_again(asked(reading, given.plain))
        assert (given.plain, again) == (b"", {"input": Square(width=9)})


@pytest.mark.parametrize("annotation", [Frozen, Typed, Circle | Frozen, Typed | None])
async def test_media_are_fetched_whatever_holds_them(annotation: Any) -> None:
    uri = "data:image/png;base64," + base64.b64encode(png()).decode()
    body = json.dumps({"width": 1, "image": uri}).encode()
    given = await lone(annotation).read(post(body), is_get=False, content_type="application/json")
    for arguments in (given.arguments, await lone(annotation).read_again(asked(lone(annotation), given.plain))):
        image = arguments["input"]["image"] if isinstance(arguments["input"], dict) else arguments["input"].image
        assert (image.width, image.height) == (3, 2)


async def test_a_query_has_the_fields_of_whatever_holds_them() -> None:
    assert await read(lone(Shape), get("radius=1")) == {"input": Circle(radius=1)}
    assert await read(lone(Frozen), get("width=1")) == {"input": Frozen(1)}
    assert await read(lone(Rooted), get("input=1&input=2")) == {"input": Rooted([1, 2])}


async def test_a_whole_that_is_no_object_is_refused_beside_other_fields() -> None:
    for request, place in ((get("input=x&width=1"), "query"), (multipart(("input", "x"), ("width", "1")), "body")):
        errors = await refused(lone(Square), request)
        assert [(error["loc"], error["msg"]) for error in errors] == [
            ((place,), "expected input as a JSON object, as there is also width")
        ]


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-be"])
async def test_json_may_have_a_byte_order_mark_and_other_encodings(encoding: str) -> None:
    given = await KEYS.read(
        post('{"prompt": "\u00e9"}'.encode(encoding)), is_get=False, content_type="application/json"
    )
    assert (given.arguments["prompt"], json.loads(given.plain or b"")) == ("\u00e9", {"prompt": "\u00e9"})


async def test_a_mark_alone_is_an_empty_body() -> None:
    assert await read(lone(Square | None, None), post(b"\xef\xbb\xbf")) == {"input": None}


async def test_an_endpoint_without_inputs_takes_no_body() -> None:
    def endpoint(self: Any) -> None: ...

    reading = reader(endpoint)
    for body in (b"", b"{}", b' {"left": "over"} '):
        assert await read(reading, post(body)) == {}


async def test_an_empty_body_is_an_empty_object() -> None:
    errors = await refused(WHOLE, post(b" \n"))
    assert [(error["type"], error["loc"]) for error in errors] == [("missing", ("body", "prompt"))]


@pytest.mark.parametrize(
    "content_type", [None, "application/json; charset=utf-8", "application/ld+json", "APPLICATION/JSON"]
)
async def test_json_goes_by_several_names(content_type: str | None) -> None:
    assert (await read(KEYS, post(b'{"prompt": "x"}', content_type)))["prompt"] == "x"


@pytest.mark.parametrize("body", [b"null", b"[]", b'"text"', b"3"])
async def test_json_that_is_no_object_is_refused(body: bytes) -> None:
    for reading in (WHOLE, KEYS):
        assert [error["loc"] for error in await refused(reading, post(body))] == [("body",)]


@pytest.mark.parametrize(
    "body",
    [
        b"{",
        b'{"prompt": "x"} {}',
        b'{"prompt": "\xff"}',
        b'{"prompt": "\\ud800"}',
        b'{"prompt": "x", "steps": NaN}',
        b'{"prompt": "x", "steps": -Infinity}',
        b"[" * 100_000,
        b"\x00",
        b"\xff\xfe\x00",
        b"\xef",
    ],
)
async def test_what_is_no_json_is_refused(body: bytes) -> None:
    errors = await refused(KEYS, post(body))
    assert [(error["type"], error["loc"]) for error in errors] == [("json_invalid", ("body",))]
    assert errors[0]["msg"].startswith("JSON decode error: ")


async def test_every_wrong_field_is_named() -> None:
    errors = await refused(WHOLE, post(b'{"prompt": "", "steps": "many"}'))
    assert [(error["loc"], error["type"]) for error in errors] == [
        (("body", "prompt"), "string_too_short"),
        (("body", "steps"), "int_parsing"),
    ]


@pytest.mark.parametrize("content_type", ["text/plain", "application/octet-stream", "image/png", ""])
async def test_other_types_are_refused_with_the_way_out(content_type: str) -> None:
    with pytest.raises(HTTPException, match="with curl add -H 'Content-Type: application/json'") as caught:
        await read(KEYS, post(b'{"prompt": "x"}', content_type))
    assert caught.value.status_code == 415


@pytest.mark.parametrize("body", [b' {"prompt": "x"}', b'\xef\xbb\xbf{"prompt": "x"}', b"[1]"])
async def test_json_under_curls_own_type_is_refused_with_the_way_out(body: bytes) -> None:
    with pytest.raises(HTTPException, match="with curl add"):
        await read(KEYS, post(body, "application/x-www-form-urlencoded"))


async def test_a_validators_own_error_is_told() -> None:
    class Even(BaseModel):
        n: int

        @field_validator("n")
        @classmethod
        def check(cls, n: int) -> int:
            if n % 2:
                raise ValueError("not even")
            return n

    def endpoint(self: Any, input: Even) -> None: ...

    assert (await refused(reader(endpoint), post(b'{"n": 1}')))[0]["msg"] == "Value error, not even"


async def test_parameters_may_be_called_what_models_call_their_own() -> None:
    def endpoint(self: Any, model_name: str, model_config_name: str = "x") -> None: ...

    assert (await read(reader(endpoint), post(b'{"model_name": "sdxl"}')))["model_name"] == "sdxl"


# Bodies in one pass: what is made of the bytes is what was made of the values that they hold.


class Color(enum.Enum):
    RED = 1
    BLUE = "b"


class Nested(BaseModel):
    n: int = 1
    inner: "Nested | None" = None
    more: dict[str, list[float]] = {}


class Checked(BaseModel):
    name: str = Field(default="x", alias="theName", max_length=3)

    @field_validator("name")
    @classmethod
    def _lower(cls, name: str) -> str:
        return name.lower()


class Told(BaseModel):
    how: str = ""

    @field_validator("how")
    @classmethod
    def _tell(cls, how: str, info: ValidationInfo) -> str:
        return f"{how} {info.mode}"


class Before(BaseModel):
    value: set[int] = set()

    @field_validator("value", mode="before")
    @classmethod
    def _one(cls, value: Any) -> Any:
        return value if isinstance(value, list) else {value}


class Strict(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid")
    day: datetime.date | None = None
    pair: tuple[int, int] = (1, 2)


class Texts(BaseModel):
    model_config = ConfigDict(coerce_numbers_to_str=True, extra="allow")
    text: str = ""


class Base64(BaseModel):
    model_config = ConfigDict(val_json_bytes="base64")
    data: bytes = b""


class Deep(BaseModel):
    first: int = Field(default=0, validation_alias=AliasPath("list", 0))


class Pair(NamedTuple):
    a: int
    b: str = ""


@dataclasses.dataclass
class Point:
    x: float
    y: float = 0


ONE_PASS = [
    *(Any, bool, int, float, str, None, int | None, list[int], list[Any]),
    *(dict[str, int], dict[int, str], dict[str, Any]),
    *(Literal[1, "a", True], dict[Literal["a", "1"], int], Nested, Checked, list[Checked], streamapp.File),
    *(Annotated[int, Field(ge=1, multiple_of=2)], Annotated[dict[str, int], Field(min_length=2)]),
    *(Annotated[str, Field(pattern="^a", max_length=3)], Annotated[float, AllowInfNan(True)]),
]
TWO_PASSES = [
    *(bytes, datetime.date, datetime.timedelta, decimal.Decimal, uuid.UUID, Color, Pair, Point, set[int], complex),
    *(tuple[int, str], frozenset[str], int | str, str | datetime.date, float | int, Json[list[int]], pathlib.Path),
    *(Told, Before, Strict, Texts, Base64, Deep, Annotated[int, Strictly()]),
]
ODD = [
    *(b"1", b"1.0", b"-0", b"-0.0", b"1e2", b"1e400", b"9007199254740993", b"1" * 40, b"1" * 5000, b"true", b"null"),
    *(b'"1"', b'" 1 "', b'"1_000"', b'"yes"', b'"b"', b'"2020-01-01"', b'"PT1S"', b'"\\u0000"', b'"\xc3\xa9"'),
    *(b'"\\ud83d\\ude00"', b'"\\ud800"', b'"\xff"', b'"NaN"', b"NaN", b"-Infinity", b'"Infinity"', b'"aGk="', b'"[1]"'),
    *(b"[]", b"[1]", b'[1, "2"]', b"[1, 1]", b"[[1]]", b"{}", b'{"a": 1}', b'{"a": 1, "a": 2}', b'{"a": "x", "a": 2}'),
    *(b'{"1": "a", "1.0": "b"}', b'{"a": 1, "b": "2"}', b'{"": 1}', b'{"n": "3", "inner": {"n": 2.0}, "x": 1}'),
    *(b'{"theName": "ABC", "name": "d"}', b'{"theName": "long"}', b'{"more": {"a": [1, "2"]}}', b'{"how": "so"}'),
    *(b'{"day": "2020-01-01"}', b'{"pair": [1, 2]}', b'{"text": 1.0}', b'{"data": "aGk="}', b'{"list": [7]}'),
    *(b'{"value": 3}', b'{"url": "data:text/plain,x"}', b'"data:;base64,aGk="', b'{"x": 1}', b"[1, 2,]", b"{'a': 1}"),
    *(b'{"n": 1, "more": {"a": [NaN]}}', b"0.1", b"0.10000000000000000001", b"1 2", b"[" * 300 + b"]" * 300),
]
FILE = b'"data:text/plain;base64,aGk="'
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.sampled_from(["1", "a", "b"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["a", "1", "n", "more"]), inner),
    max_leaves=6,
)


def taking(annotation: Any) -> InputReader:
    def endpoint(self: Any, x: Any) -> None: ...

    endpoint.__annotations__["x"] = annotation
    return reader(endpoint)


async def outcome(arguments: Awaitable[dict[str, Any]]) -> str:
    try:
        return repr(await arguments)
    except RequestValidationError as error:
        return repr(error.errors())


async def assert_alike(reading: InputReader, body: bytes) -> None:
    """Compare what a body gives with what the values give that it holds; both may be refused."""
    try:
        values = from_json(body, allow_inf_nan=False)
    except ValueError as error:
        assert f"JSON decode error: {error}" in await outcome(read(reading, post(body)))
    else:
        assert await outcome(read(reading, post(body))) == await outcome(reading.validate(values))


@pytest.mark.parametrize("annotation", [*ONE_PASS, *TWO_PASSES], ids=str)
async def test_a_text_gives_what_its_values_give(annotation: Any) -> None:
    reading = taking(annotation)
    for value in ODD:
        for body in [value] if reading.whole else [b'{"x": %b}' % value, b'{"x": 0, "x": %b}' % value]:
            await assert_alike(reading, body)


@settings(max_examples=25, deadline=None)
@given(value=JSON)
@pytest.mark.parametrize("annotation", ONE_PASS, ids=str)
def test_any_text_gives_what_its_values_give(annotation: Any, value: Any) -> None:
    """The json module writes NaN and Infinity, which are refused both ways."""
    asyncio.run(assert_alike(taking(annotation), json.dumps({"x": value}).encode()))


@pytest.fixture
def readings(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """Note what is read before it is validated."""
    noted: list[bytes] = []

    def reading(body: bytes, **options: Any) -> Any:
        noted.append(body)
        return from_json(body, **options)

    monkeypatch.setattr("streamapp.inputs.from_json", reading)
    return noted


@pytest.mark.parametrize("annotation", ONE_PASS, ids=str)
async def test_a_body_of_plain_types_is_validated_as_it_is_read(annotation: Any, readings: list[bytes]) -> None:
    bodies = [b'{"x": %b}' % value for value in (b"1", b"2", b"true", b"null", b'"abc"', b"[1]", b"{}", FILE)]
    bodies += [b'{"x": {"1": %b, "2": %b}}' % values for values in ((b"1", b"2"), (b'"a"', b'"b"'))]
    bodies += [b'{"x": {"a": 1, "1": 2}}', b'{"x": [{}]}', b"{}"]
    tried = [await outcome(read(taking(annotation), post(body))) for body in bodies]
    assert len(readings) < len(tried)  # only those that are refused are read again, to be told as ever


async def test_a_large_body_is_read_first(readings: list[bytes]) -> None:
    body = json.dumps({"prompt": "x" * 70_000}).encode()
    assert (await read(KEYS, post(body)))["prompt"] == "x" * 70_000
    assert readings == [body]


@pytest.mark.parametrize("annotation", TWO_PASSES, ids=str)
async def test_a_body_of_other_types_is_read_first(annotation: Any, readings: list[bytes]) -> None:
    await outcome(read(taking(annotation), post(b'{"x": 1}')))
    assert readings == [b'{"x": 1}']


# Forms


async def test_a_form_gives_values_lists_and_uploads() -> None:
    def endpoint(self: Any, steps: int, tags: list[str], file: UploadFile) -> None: ...

    request = multipart(("steps", "3"), ("tags", "a"), ("tags", "b"), ("file", b"content"))
    arguments = await read(reader(endpoint), request)
    assert (arguments["steps"], arguments["tags"], arguments["file"].file.read()) == (3, ["a", "b"], b"content")


async def test_an_upload_is_closed_when_nobody_holds_it() -> None:
    def endpoint(self: Any, file: UploadFile) -> None: ...

    arguments = await read(reader(endpoint), multipart(("file", b"x" * 2_000_000)))  # more than is kept in memory
    file = arguments["file"].file
    assert not file.closed
    del arguments
    assert file.closed


async def test_an_urlencoded_form_is_read() -> None:
    request = post(b"prompt=a+cat&steps=3&tags=x&tags=y", "application/x-www-form-urlencoded")
    assert await read(KEYS, request) == {"prompt": "a cat", "steps": 3, "tags": ["x", "y"]}


async def test_a_body_that_is_no_json_comes_as_it_is_to_a_parameter_that_is_the_body() -> None:
    def sized(self: Any, data: Annotated[bytes, Body(media_type="application/octet-stream")] = b"none") -> None: ...

    def shown(self: Any, text: str = Body(media_type="text/plain")) -> None: ...

    size, show = reader(sized), reader(shown)
    assert await read(size, post(b"\xff{", "application/octet-stream")) == {"data": b"\xff{"}
    assert await read(size, post(b"", "application/octet-stream")) == {"data": b"none"}
    assert await read(show, post(b"a b", "text/plain; charset=utf-8")) == {"text": "a b"}
    assert await read(show, post(b'"a b"')) == {"text": "a b"}
    (error,) = await refused(show, post(b"\xff{", "application/octet-stream"))
    assert error["type"] == "string_unicode"


async def test_a_body_that_came_as_it_is_stays_in_its_process() -> None:
    def sized(self: Any, data: bytes = Body()) -> None: ...

    read = await reader(sized).read(post(b"\xff", "image/x"), is_get=False, content_type="image/x")
    assert read.plain is None


# How much an input may be


def numbers(self: Any, x: list[int] | None = None, text: str = "") -> None:
    """Take a list, and a text."""


NUMBERS = reader(numbers)
MANY = b"[" + b"1," * 1_100_000 + b"1]"
FORM = "application/x-www-form-urlencoded"


@pytest.mark.parametrize(
    "request_",
    [
        lambda: post(b'{"x":' + MANY + b"}"),
        lambda: post(('{"x":' + MANY.decode() + "}").encode("utf-16")),
        lambda: post(b'{"y":[' + b'{"":[]},' * 600_000 + b"1]}"),
        lambda: post(b"x=" + MANY, FORM),
        lambda: multipart(("x", MANY.decode())),
        lambda: post(b"text=" + b"%41" * 1_100_000, FORM),
    ],
)
async def test_an_input_of_too_many_values_is_refused_with_words(request_: Callable[[], Request]) -> None:
    with pytest.raises(PayloadTooLarge, match="values and names|escapes"):
        await read(NUMBERS, request_())


@pytest.mark.parametrize(
    "request_",
    [
        lambda text: post(json.dumps({"text": text}).encode()),
        lambda text: post(json.dumps({"text": text}).encode("utf-16")),
        lambda text: post(f"text={text}".encode(), FORM),
        lambda text: multipart(("text", text)),
    ],
)
async def test_a_long_text_is_read_whatever_is_in_it(request_: Callable[[str], Request]) -> None:
    text = "[1,2;" * 300_000
    assert (await read(NUMBERS, request_(text)))["text"] == text


async def test_a_large_input_is_validated_in_another_thread() -> None:
    threads = list[int]()

    class Noted(BaseModel):
        text: Annotated[str, AfterValidator(lambda text: threads.append(threading.get_ident()) or text)]

    for length in (10, 2_000_000):
        await read(lone(Noted), post(json.dumps({"text": "a" * length}).encode()))
    assert [thread == threading.get_ident() for thread in threads] == [True, False]


def table(self: Any, x: dict[str, Any]) -> None:
    """Take an object of whatever."""


TABLE = reader(table)


@pytest.mark.parametrize("depth", [201, 100_000])
@pytest.mark.parametrize(
    "request_",
    [
        lambda depth: post(b'{"x":' + b"[" * depth + b"]" * depth + b"}"),
        lambda depth: post(b'{"x":' * depth + b"1" + b"}" * depth),
        lambda depth: post(b"x=" + b"[" * depth, FORM),
        lambda depth: multipart(("x", "[" * depth)),
        lambda depth: get("_input=" + "[" * depth),
        lambda depth: get("x=" + "[" * depth),
    ],
)
async def test_an_input_that_is_nested_too_deeply_is_refused(request_: Callable[[int], Request], depth: int) -> None:
    assert await refused(TABLE, request_(depth))


@pytest.mark.parametrize(
    "number", ["9" * 1_000_000, "-" + "9" * 1_000_000, "9" * 1_000_000 + ".5", '"' + "9" * 1_000_000 + '"']
)
async def test_a_number_of_a_million_digits_is_refused(number: str) -> None:
    assert await refused(NUMBERS, post(f'{{"x":[{number}]}}'.encode()))


async def test_of_very_many_errors_only_their_number_is_told() -> None:
    errors = await refused(NUMBERS, post(b'{"x":[' + b'"a",' * 20_000 + b"1]}"))
    assert [error["msg"] for error in errors] == ["20000 of its values are not what the endpoint takes"]


async def test_what_an_input_takes_is_counted() -> None:
    """The values of a large JSON text, and what was fetched, with its place in the job's request."""
    budget = Budget(40_000_000)
    for request, least in [
        (post(b'{"x":[' + b"1," * 50_000 + b"1]}"), 50_000),
        (multipart(("x", "[" + "1," * 50_000 + "1]")), 50_000),
        (post(b"x=[" + b"1," * 50_000 + b"1]", FORM), 50_000),
    ]:
        request.scope[SHARE] = share = budget.share("", "request")
        await read(NUMBERS, request)
        assert share.size > least
    request = multipart(("input", b"a" * 1000))
    request.scope[SHARE] = share = budget.share("", "request")
    await read(lone(streamapp.File), request)
    assert 2300 < share.size < 2500


# Forms, and bodies as they are


@pytest.mark.parametrize("body", [b"", b"--b\r\nContent-Disposition: nonsense\r\n\r\nx\r\n--b--\r\n"])
async def test_a_broken_form_is_refused(body: bytes) -> None:
    with pytest.raises((HTTPException, RequestValidationError)):
        await read(KEYS, post(body, "multipart/form-data; boundary=b"))


async def test_a_form_without_a_boundary_is_refused() -> None:
    with pytest.raises(HTTPException) as caught:
        await read(KEYS, post(b"prompt=x", "multipart/form-data"))
    assert caught.value.status_code == 400


# Queries


async def test_a_query_fills_the_same_endpoint() -> None:
    assert await read(WHOLE, get("prompt=a%20cat&steps=3&tags=x&tags=y")) == {
        "input": Prompt(prompt="a cat", steps=3, tags=["x", "y"])
    }


async def test_of_a_name_given_twice_the_last_counts() -> None:
    assert (await read(KEYS, get("prompt=a&prompt=b")))["prompt"] == "b"


@pytest.mark.parametrize(
    "annotation", [list[str], list[str] | None, OPTIONAL, set[str], tuple[str, ...], Sequence[str], list]
)
async def test_a_list_takes_all_values_of_its_name(annotation: Any) -> None:
    def endpoint(self: Any, tags: Any = None) -> None: ...

    endpoint.__annotations__["tags"] = annotation
    assert sorted((await read(reader(endpoint), get("tags=a&tags=b")))["tags"]) == ["a", "b"]


async def test_a_list_takes_all_values_of_its_alias() -> None:
    class Aliased(BaseModel):
        image_urls: list[str] = Field(alias="imageUrls")

    def endpoint(self: Any, input: Aliased) -> None: ...

    assert (await read(reader(endpoint), get("imageUrls=a&imageUrls=b")))["input"].image_urls == ["a", "b"]


async def test_a_whole_object_fits_into_one_query_parameter() -> None:
    given = quote(json.dumps({"prompt": "a cat", "tags": ["x"]}))
    assert await read(KEYS, get(f"_input={given}&steps=3")) == {"prompt": "a cat", "steps": 3, "tags": ["x"]}


@pytest.mark.parametrize("given", ["[]", "null", "3", "", "{", "%ff"])
async def test_an_input_parameter_that_is_no_object_is_refused(given: str) -> None:
    assert [error["loc"] for error in await refused(KEYS, get(f"_input={given}"))] == [("query", "_input")]


async def test_the_servers_own_parameters_are_no_input() -> None:
    assert (await read(KEYS, get("prompt=x&_events=named&_token=secret")))["prompt"] == "x"


async def test_errors_say_that_they_are_in_the_query() -> None:
    assert [error["loc"] for error in await refused(KEYS, get("steps=3"))] == [("query", "prompt")]


# Media


def png(size: tuple[int, int] = (3, 2)) -> bytes:
    buffer = io.BytesIO()
    PIL.Image.new("RGB", size, "red").save(buffer, "PNG")
    return buffer.getvalue()


def edit(self: Any, image: streamapp.Image, strength: float = 0.5) -> None:
    """Take an image."""


EDIT = reader(edit)


@pytest.mark.parametrize("is_object", [False, True])
async def test_an_image_comes_as_a_data_uri_or_an_object(is_object: bool) -> None:
    uri = "data:image/png;base64," + base64.b64encode(png()).decode()
    body = {"image": {"url": uri} if is_object else uri}
    image = (await read(EDIT, post(json.dumps(body).encode())))["image"]
    assert (image.width, image.height, image.to_pil().getpixel((0, 0))) == (3, 2, (255, 0, 0))


async def test_an_image_comes_as_an_upload() -> None:
    arguments = await read(EDIT, multipart(("image", png()), ("strength", "0.7")))
    assert (arguments["image"].width, arguments["strength"]) == (3, 0.7)


async def test_a_data_uri_in_a_form_may_be_as_large_as_media_may() -> None:
    uri = "data:application/x-stl;base64," + base64.b64encode(b"x" * 2_000_000).decode()

    def endpoint(self: Any, mesh: streamapp.File) -> None: ...

    assert len((await read(reader(endpoint), multipart(("mesh", uri))))["mesh"].data) == 2_000_000


@pytest.mark.parametrize("content", [b"no image", png((100, 100)), png()[:30]])
async def test_an_image_that_cannot_be_had_is_an_error_of_its_field(content: bytes) -> None:
    errors = await refused(EDIT, multipart(("image", content)))
    assert [(error["loc"], error["msg"].partition(":")[0]) for error in errors] == [(("body",), "image")]


# What is not input


def is_injected(function: Callable[..., Any], path: str = "/x") -> dict[str, bool]:
    reading = reader(function, path)
    injected = {parameter.name for parameter in reading.injected}
    taken = reading.adapter.json_schema()["properties"]
    assert not injected & set(taken)
    return {name: name in injected for name in (*injected, *taken)}


def test_what_fastapi_fills_is_left_to_it() -> None:
    def endpoint(
        self: Any,
        name: str,
        number: int,
        agent: Annotated[str, Header()],
        accept: str = Header(),
        user: str = Depends(lambda: "x"),
        prompt: str = "",
        tags: Annotated[list[str], Field(max_length=3)] = [],  # noqa: B006 - pydantic copies it
    ) -> None: ...

    assert is_injected(endpoint, "/docs/{name}/{number:int}") == {
        "name": True,
        "number": True,
        "agent": True,
        "accept": True,
        "user": True,
        "prompt": False,
        "tags": False,
    }


def test_what_fastapi_fills_has_dependencies_where_there_is_a_depends() -> None:
    def with_default(self: Any, user: str = Depends(lambda: "x")) -> None: ...

    def with_annotation(self: Any, user: Annotated[str, Depends(lambda: "x")]) -> None: ...

    def without(self: Any, agent: Annotated[str, Header()], accept: str = Header()) -> None: ...

    found = [reader(function).has_dependencies for function in (with_default, with_annotation, without)]
    assert found == [True, True, False]


def test_the_body_of_a_get_is_there_for_who_asks_the_request() -> None:
    class Asks(streamapp.App):
        @streamapp.endpoint("/asks")
        async def asks(self, request: Request) -> Response:
            return Response(await request.body())

    with serving(Asks) as client:
        assert client.request("GET", "/asks", content=b"of a GET").text == "of a GET"
        assert client.get("/asks").text == ""


async def test_the_request_itself_is_filled_beside_the_whole_body() -> None:
    def endpoint(self: Any, input: Prompt, request: Request) -> None: ...

    request = post(b'{"prompt": "x"}')
    assert await read(reader(endpoint), request) == {"input": Prompt(prompt="x"), "request": request}


async def test_a_response_to_set_headers_on_is_made_for_each_request() -> None:
    def endpoint(self: Any, input: Prompt, response: Response) -> None: ...

    own = reader(endpoint)
    first, second = [await read(own, post(b'{"prompt": "x"}')) for _ in range(2)]
    assert isinstance(own.own_response(first), Response)
    assert own.own_response(first) is not own.own_response(second)


@pytest.mark.parametrize("annotation", [PIL.Image.Image, BackgroundTasks, WebSocket, list[streamapp.Stream]])
def test_a_type_that_no_request_can_hold_is_refused(annotation: Any) -> None:
    def paint(self: Any, thing: Any) -> None: ...

    paint.__annotations__["thing"] = annotation
    with pytest.raises(DefinitionError, match=r"on .*paint: no request can hold a parameter of this type: .*; take"):
        reader(paint)


def test_a_model_without_fields_of_its_own_is_refused() -> None:
    own = TypeVar("own", bound=BaseModel)

    def bare(self: Any, input: BaseModel) -> None: ...

    def inside(self: Any, n: int, several: list[BaseModel] | None = None) -> None: ...

    def variable(self: Any, input: own) -> own:
        return input

    for function in (bare, inside, variable):
        with pytest.raises(DefinitionError, match="BaseModel itself has no fields, so all .* would be lost"):
            reader(function)


def test_a_typed_dict_of_this_pythons_own_is_told_what_to_write() -> None:
    class Old(typing.TypedDict):
        width: int

    if sys.version_info >= (3, 12):
        assert lone(Old).whole == "input"
    else:
        with pytest.raises(DefinitionError, match=r"Please use `typing_extensions.TypedDict`"):
            lone(Old)


def test_a_dataclass_whose_annotations_name_nothing_is_told() -> None:
    @dataclasses.dataclass
    class Broken:
        field: "Missing"  # type: ignore[name-defined] # noqa: F821

    with pytest.raises(DefinitionError, match="name 'Missing' is not defined"):
        lone(Broken)


# Over HTTP


def test_one_model_is_the_body(inputs: TestClient) -> None:
    assert inputs.post("/model", json={"prompt": "a cat"}).json() == {"prompt": "a cat", "steps": 1}


def test_several_parameters_are_keys_of_the_body_or_the_query(inputs: TestClient) -> None:
    assert data(inputs.post("/keys", json={"prompt": "x", "tags": ["a"]}).text) == [["x", ["a"]]]
    assert data(inputs.get("/keys?prompt=x&tags=a&tags=b").text)[1] == ["x", ["a", "b"]]
    assert data(inputs.get("/keys", params={"_input": '{"prompt":"y"}'}).text)[1] == ["y", None]


@pytest.mark.parametrize("headers", [{}, ASYNC])
def test_an_upload_is_open_while_the_endpoint_runs(inputs: TestClient, headers: dict[str, str]) -> None:
    answer = inputs.post("/upload", files={"file": ("a.txt", b"content")}, headers=headers)
    if headers:
        inputs.post("/model", json={"prompt": "behind it in the queue"})
        answer = inputs.get(answer.headers["location"] + "/result")
    assert answer.json() == ["a.txt", "content"]


def test_an_image_is_decoded_before_the_inference_thread_sees_it(inputs: TestClient) -> None:
    assert inputs.post("/image", json={"image": f"data:image/png;base64,{PNG}"}).json() == [2, "inference-inputs"]


def test_an_image_by_a_private_url_is_refused(inputs: TestClient) -> None:
    answer = inputs.post("/image", json={"image": "http://127.0.0.1/secret.png"})
    assert (answer.status_code, answer.json()["detail"][0]["loc"]) == (422, ["body"])
    assert "expected a public address" in answer.json()["error"]["message"]


def test_a_url_whose_host_is_silent_may_be_sent_again(inputs: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    def getaddrinfo(*arguments: Any, **options: Any) -> None:
        raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    answer = inputs.post("/image", json={"image": "https://example.com/a.png"})
    assert (answer.status_code, answer.json()["error"]["code"]) == (422, "download_timeout")
    assert answer.json()["error"]["retryable"] is True


# Plain data, of which the same is read again


def named(self: Any, name: Any, prompt: str, n: int = 3) -> None:
    """Take a part of the path, and two of the body."""


def only_named(self: Any, name: Any) -> None:
    """Take a part of the path."""


def number(self: Any, n: float = 0.5) -> None:
    """Take a number."""


NAMED, ONLY_NAMED, NUMBER = reader(named, "/{name}"), reader(only_named, "/{name}"), reader(number)


def asked(reading: InputReader, plain: bytes | None, **injected: Any) -> JobRequest:
    parameters = reading.plain_parameters(injected)
    return JobRequest(id="0" * 32, app="app", endpoint="/x", input=plain, parameters=parameters or b"")


async def test_what_was_read_is_read_again_from_its_plain_data() -> None:
    reading = NAMED
    read = await reading.read(post(b'{"prompt": "p"}'), is_get=False, content_type="application/json")
    again = await reading.read_again(asked(reading, read.plain, name="a"))
    assert again == {"prompt": "p", "n": 3, "name": "a"}


@pytest.mark.parametrize("value", [None, True, 1, 1.5, "text", [1, {"a": []}]])
def test_plain_values_are_those_that_json_gives_back(value: Any) -> None:
    reading = ONLY_NAMED
    assert json.loads(reading.plain_parameters({"name": value}) or b"null") == {"name": value}


@pytest.mark.parametrize("value", [float("inf"), b"bytes", {1: 2}, (1,), Prompt(prompt="p"), "\ud800", object()])
def test_other_values_stay_in_their_process(value: Any) -> None:
    assert ONLY_NAMED.plain_parameters({"name": value}) is None


async def test_what_stayed_in_its_process_is_not_read_elsewhere() -> None:
    reading = NUMBER
    with pytest.raises(StreamAppError, match="a value that is no JSON"):
        await reading.read_again(asked(reading, None))


@pytest.mark.parametrize(
    ("plain", "problem"), [(b'{"n": "x"}', "n: Input should be"), (b"{}", "no value came for name")]
)
async def test_plain_data_that_the_endpoint_does_not_take_is_invalid(plain: bytes, problem: str) -> None:
    reading = ONLY_NAMED if plain == b"{}" else NUMBER
    with pytest.raises(InvalidInput, match=problem):
        await reading.read_again(JobRequest(id="0" * 32, app="app", endpoint="/x", input=plain))


async def test_a_number_that_json_does_not_have_keeps_a_form_in_its_process() -> None:
    reading = NUMBER
    read = await reading.read(get("_input=%7B%22n%22%3A1e999%7D"), is_get=True, content_type=None)
    assert (read.arguments, read.plain) == ({"n": float("inf")}, None)


def test_user_code_is_limited_as_inputs_are() -> None:
    def limited() -> int:
        NUMBER.enter()
        return limits_here().max_pixels

    assert contextvars.copy_context().run(limited) == LIMITS.max_pixels


def test_fields_and_files_of_a_form_stand_side_by_side() -> None:
    class Formed(streamapp.App):
        @streamapp.endpoint("/form")
        def form(self, input: Annotated[Square, Form()], file: Annotated[UploadFile, File()]) -> Any:
            return [input.width, file.filename]

        @streamapp.endpoint("/beside")
        def beside(self, input: Square, file: Annotated[UploadFile, File()], note: Annotated[str, Form()]) -> Any:
            return [input.width, file.filename, note]

    with TestClient(streamapp.compile_app(Formed, settings=Settings(drain_s=0))) as client:
        for path, found in {"/form": [1, "a.txt"], "/beside": [1, "a.txt", "n"]}.items():
            form: Any = {"files": {"file": ("a.txt", b"content")}, "data": {"width": "1", "note": "n"}}
            assert client.post(path, **form).json() == found


def named_by_form(name: Annotated[str, Form()]) -> str:
    return name


@pytest.mark.parametrize("kind", ["data", "files"])
def test_a_form_that_fastapi_has_read_is_not_read_again(kind: str) -> None:
    class Formed(streamapp.App):
        @streamapp.endpoint("/form")
        def form(self, name: Annotated[str, Depends(named_by_form)], n: int = 1) -> Any:
            return [name, n]

    fields: Any = {"name": "a", "n": "2"} if kind == "data" else {"name": (None, "a"), "n": (None, "2")}
    with TestClient(streamapp.compile_app(Formed, settings=Settings(drain_s=0))) as client:
        assert client.post("/form", **{kind: fields}).json() == ["a", 2]
        for _ in range(2):
            assert client.post("/form", headers={"Idempotency-Key": "1"}, **{kind: fields}).json() == ["a", 2]


@pytest.mark.parametrize(
    ("body", "asks"),
    [
        (b'{"prompt": "a", "sync_mode": true}', True),
        (b'{"prompt": "a", "sync_mode": "true"}', True),
        (b'{"prompt": "a", "sync_mode": false}', False),
        (b'{"prompt": "\\"sync_mode\\": true"}', False),
        (b'{"prompt": "a", "of": {"sync_mode": true}}', False),
        (b'{"prompt": "sync_mode"}', False),
    ],
)
async def test_an_input_asks_for_files_inline_by_sync_mode(body: bytes, asks: bool) -> None:
    given = await WHOLE.read(post(body), is_get=False, content_type="application/json")
    assert given.asks_inline == asks
