"""Endpoints: what `@endpoint` refuses, and what is read from a method's signature."""

import asyncio
import collections.abc
import contextlib
import functools
import typing
from collections.abc import AsyncIterator, Generator, Iterable, Iterator
from typing import Annotated, Any, Literal, Optional

import pytest
from fastapi import Header
from pydantic import BaseModel
from starlette.responses import Response, StreamingResponse
from typing_extensions import TypeAliasType

import streamapp
from streamapp.endpoint import EndpointMark, EndpointSpec, HealthCheck, get_mark, inspect_endpoint
from streamapp.errors import DefinitionError


class Item(BaseModel):
    n: int


class App:
    """Methods of every kind; a plain class, since marks and specs know nothing of `streamapp.App`."""

    @streamapp.endpoint("/value")
    def value(self, n: int) -> Item:
        """Give one value.

        And say more about it.
        """
        return Item(n=n)

    @streamapp.endpoint("/async-value")
    async def async_value(self) -> dict[str, int]:
        return {}

    @streamapp.endpoint("/generator")
    def generator(self) -> Generator[Item, None, str]:
        yield Item(n=1)
        return "end"

    @streamapp.endpoint("/async-generator")
    async def async_generator(self) -> AsyncIterator[Item]:
        yield Item(n=1)

    @streamapp.endpoint("/untyped-generator")
    def untyped_generator(self):  # type: ignore[no-untyped-def]
        yield 1

    @streamapp.endpoint("/with-stream")
    def with_stream(self, n: int, stream: streamapp.Stream) -> Item:
        return Item(n=n)

    @streamapp.endpoint("/async-with-stream")
    async def async_with_stream(self, stream: streamapp.Stream) -> None: ...

    @streamapp.endpoint("/iterator")
    def iterator(self) -> Iterator[int]:
        return iter([1])

    @streamapp.endpoint("/bare-iterator")
    def bare_iterator(self) -> typing.Iterator:  # type: ignore[type-arg]
        return iter([1])

    @streamapp.endpoint("/async-iterator")
    def async_iterator(self) -> AsyncIterator[int]:
        return self.async_generator()  # type: ignore[return-value]

    @streamapp.endpoint("/response")
    def response(self) -> StreamingResponse:
        return StreamingResponse(iter(()))

    @streamapp.endpoint("/optional-response")
    def optional_response(self) -> Response | None:
        return None


def spec(name: str) -> EndpointSpec:
    return inspect_endpoint(getattr(App, name))


@pytest.mark.parametrize(
    ("name", "kind", "is_async", "item_type"),
    [
        ("value", "value", False, Item),
        ("async_value", "value", True, dict[str, int]),
        ("generator", "stream", False, Item),
        ("async_generator", "stream", True, Item),
        ("untyped_generator", "stream", False, Any),
        ("with_stream", "stream", False, Item),
        ("async_with_stream", "stream", True, type(None)),
        ("iterator", "stream", False, int),
        ("bare_iterator", "stream", False, Any),
        ("async_iterator", "stream", True, int),
        ("response", "response", False, Any),
        ("optional_response", "response", False, Any),
    ],
)
def test_the_signature_says_what_an_endpoint_is(name: str, kind: str, is_async: bool, item_type: Any) -> None:
    found = spec(name)
    assert (found.name, found.kind, found.is_async, found.item_type) == (name, kind, is_async, item_type)


@pytest.mark.parametrize(
    "returns",
    [
        StreamingResponse,
        "StreamingResponse",
        Annotated[Response, "own"],
        dict[str, int] | StreamingResponse,
        "typing.Union[Annotated[Response, 1], int]",
        TypeAliasType("Own", Annotated[Response, "own"]),
    ],
)
def test_an_endpoint_that_may_return_a_response_is_declared_in_many_ways(returns: Any) -> None:
    @streamapp.endpoint("/x")
    def method(self: Any) -> Any: ...

    method.__annotations__["return"] = returns
    assert inspect_endpoint(method).kind == "response"


@pytest.mark.parametrize("around", [collections.abc.Awaitable, collections.abc.Coroutine])
def test_a_function_that_is_declared_to_return_an_awaitable_belongs_on_the_loop(around: Any) -> None:
    @streamapp.endpoint("/x")
    def method(self: Any) -> Any: ...

    for inner, kind in ((Response, "response"), (Iterator[int], "stream"), (int, "value")):
        method.__annotations__["return"] = (
            around[inner] if around is collections.abc.Awaitable else around[Any, Any, inner]
        )
        found = inspect_endpoint(method)
        assert (found.kind, found.is_async) == (kind, True)


# Under decorators


def plain(function: Any) -> Any:
    """Call it, as a decorator does that takes the time."""

    @functools.wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        return function(*args, **kwargs)

    return wrapper


def awaiting(function: Any) -> Any:
    @functools.wraps(function)
    async def wrapper(*args: Any, **kwargs: Any) -> Any:
        return function(*args, **kwargs)

    return wrapper


def generating(function: Any) -> Any:
    @functools.wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        yield function(*args, **kwargs)

    return wrapper


def bare(function: Any) -> Any:
    """Keep neither annotations nor mark, only what is wrapped."""
    return functools.update_wrapper(
        lambda *args: function(*args), function, assigned=("__name__", "__qualname__"), updated=()
    )


class Suppressing(contextlib.ContextDecorator):
    def __enter__(self) -> None: ...

    def __exit__(self, *raised: object) -> None: ...


@pytest.mark.parametrize(
    ("decorator", "name", "kind", "is_async"),
    [
        (plain, "value", "value", False),
        (plain, "async_value", "value", True),
        (plain, "generator", "stream", False),
        (plain, "untyped_generator", "stream", False),
        (plain, "async_generator", "stream", True),
        (plain, "response", "response", False),
        (Suppressing(), "untyped_generator", "stream", False),
        (Suppressing(), "async_value", "value", True),
        (functools.lru_cache, "untyped_generator", "stream", False),
        (awaiting, "value", "value", True),
        (awaiting, "untyped_generator", "stream", True),
        (generating, "value", "stream", False),
        (generating, "async_value", "stream", False),
        (bare, "generator", "stream", False),
    ],
)
@pytest.mark.parametrize("is_above", [True, False])
def test_the_outermost_function_that_is_not_plain_says_what_an_endpoint_is(
    decorator: Any, name: str, kind: str, is_async: bool, is_above: bool
) -> None:
    method = getattr(App, name)
    decorated = decorator(method)
    if not is_above or get_mark(decorated) is None:
        decorated = plain(decorated)
        decorated.__dict__.update(method.__dict__)
    found = inspect_endpoint(decorated)
    assert (found.kind, found.is_async, found.parameters) == (kind, is_async, spec(name).parameters)


@pytest.mark.parametrize("written", ["*args, **kwargs", "self, *args, **kwargs", "self, **kwargs"])
def test_a_decorator_that_hides_the_parameters_is_told_how_to_keep_them(written: str) -> None:
    decorated = streamapp.endpoint("/x")(eval(f"lambda {written}: None"))
    with pytest.raises(DefinitionError, match=r"in a decorator that hides their names write @functools\.wraps"):
        inspect_endpoint(decorated)


def test_a_decorator_may_put_an_object_in_the_place_of_the_function() -> None:
    @streamapp.endpoint("/x")
    @functools.lru_cache
    def cached(self: Any, prompt: str) -> Iterator[str]:
        yield prompt

    spec = inspect_endpoint(cached)
    assert (spec.kind, [parameter.name for parameter in spec.parameters]) == ("stream", ["prompt"])


def test_a_decorator_whose_objects_are_no_methods_is_refused() -> None:
    class Calling:
        def __init__(self, function: Any) -> None:
            functools.update_wrapper(self, function)  # type: ignore[arg-type]

    with pytest.raises(
        DefinitionError, match="Calling object .* is no method; decorate it by a function, below @endpoint"
    ):
        inspect_endpoint(Calling(App.value))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("returns", "join", "joins", "result_type"),
    [
        (Iterator[str], None, True, str),
        (AsyncIterator[str], None, True, str),
        (Generator[str, None, None], None, True, str),
        (Iterable[Annotated[str, "a token"]], None, True, str),
        (Iterator[str | None], None, True, str),
        (Iterator[None], None, False, None),
        (Iterator[Literal["loading", "done"]], None, False, Literal["loading", "done"]),
        (Generator[str, None, Item], None, True, Item),
        (Iterator[str], False, False, str),
        (Iterator[str | Item], None, False, str | Item),
        (Iterator[str | Item], True, True, str),
        (Iterator[Item], None, False, Item),
        (Iterator, None, False, Any),
        (str, None, False, str),  # of what is returned
    ],
)
def test_the_outputs_of_a_stream_of_strings_are_joined(
    returns: Any, join: bool | None, joins: bool, result_type: Any
) -> None:
    def method(self: Any, stream: streamapp.Stream) -> Any: ...

    method.__annotations__["return"] = returns
    found = inspect_endpoint(streamapp.endpoint("/x", join=join)(method))
    assert (found.joins, found.result_type) == (joins, result_type)


@pytest.mark.parametrize("join", [True, False])
def test_what_answers_once_has_nothing_to_join(join: bool) -> None:
    def method(self: Any) -> str: ...  # type: ignore[empty-body]

    with pytest.raises(DefinitionError, match=r"^@endpoint\('/x'\) on .*: join is for streams, and it answers once"):
        inspect_endpoint(streamapp.endpoint("/x", join=join)(method))


def test_the_stream_parameter_is_no_input() -> None:
    found = spec("with_stream")
    assert found.stream_parameter == "stream"
    assert [(parameter.name, parameter.annotation) for parameter in found.parameters] == [("n", int)]
    assert spec("value").stream_parameter is None


def test_the_docstring_is_summary_and_description() -> None:
    assert spec("value").summary == "Give one value."
    assert spec("value").description == "Give one value.\n\nAnd say more about it."


def test_without_a_docstring_the_name_is_the_summary() -> None:
    assert (spec("async_value").summary, spec("async_value").description) == ("Async value", "")


def test_the_mark_holds_what_was_written() -> None:
    @streamapp.endpoint("/x", media_type="text/plain", timeout_s=5, queue_timeout_s=2, max_resume_window_s=0)
    def method(self: Any) -> None: ...

    mark = get_mark(method)
    assert mark is not None
    assert (mark.path, mark.media_type, mark.timeout_s, mark.queue_timeout_s, mark.max_resume_window_s) == (
        "/x",
        "text/plain",
        5,
        2,
        0,
    )
    assert get_mark(len) is None


def test_the_decorated_function_stays_the_function() -> None:
    assert App().value(3) == Item(n=3)
    assert asyncio.run(App().async_value()) == {}


def test_annotations_are_read_late_and_may_be_strings() -> None:
    @streamapp.endpoint("/x")
    def method(self: Any, item: "Item") -> "Iterator[Item]":
        yield item

    assert inspect_endpoint(method).parameters[0].annotation is Item


def test_without_an_annotation_a_plain_default_tells_the_type() -> None:
    @streamapp.endpoint("/x")
    def method(self, a, b=1, c=None, d=Header("x")): ...  # type: ignore[no-untyped-def]

    assert [p.annotation for p in inspect_endpoint(method).parameters] == [Any, int, Any, Any]


def marked(path: Any, **options: Any) -> None:
    @streamapp.endpoint(path, **options)
    def paint(self: Any) -> None: ...


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"path": "stream"},
            r'@endpoint\(\'stream\'\) on .*paint: a path starts with "/"; write @endpoint\("/stream"\)',
        ),
        ({"path": ""}, r'write @endpoint\("/"\)'),
        ({"path": "/x", "media_type": "image/png"}, "expected media_type as one of .*text/plain, got 'image/png'"),
        ({"path": "/x", "timeout_s": 0}, "expected timeout_s in seconds, more than 0, got 0"),
        ({"path": "/x", "queue_timeout_s": -1}, "expected queue_timeout_s in seconds, more than 0, got -1"),
        ({"path": "/x", "max_resume_window_s": -1}, "expected max_resume_window_s in seconds, 0 or more, got -1"),
    ],
)
def test_a_wrong_argument_is_refused_where_it_is_written(options: dict[str, Any], message: str) -> None:
    with pytest.raises(DefinitionError, match=message):
        marked(**options)


def test_what_fals_runners_read_is_taken() -> None:
    @streamapp.endpoint("/x", health_check=HealthCheck(timeout_seconds=1), billing=object())
    def check(self: Any) -> None: ...

    assert get_mark(check) == EndpointMark("/x")


def test_the_decorator_without_a_path_is_refused() -> None:
    with pytest.raises(DefinitionError, match=r'got .*paint; write @endpoint\("/stream"\)'):

        @streamapp.endpoint  # type: ignore[arg-type]
        def paint(self: Any) -> None: ...


def test_a_method_has_one_path() -> None:
    with pytest.raises(DefinitionError, match="has an @endpoint already"):

        @streamapp.endpoint("/a")
        @streamapp.endpoint("/b")
        def paint(self: Any) -> None: ...


@pytest.mark.parametrize("value", [type, staticmethod(print), classmethod(print)])
def test_only_functions_are_marked(value: Any) -> None:
    with pytest.raises(DefinitionError, match="marks a function, got <.*>; write it above a def"):
        streamapp.endpoint("/x")(value)


def refused(function: Any) -> str:
    with pytest.raises(DefinitionError) as caught:
        inspect_endpoint(streamapp.endpoint("/x")(function))
    return str(caught.value)


def test_a_name_that_is_not_known_is_told() -> None:
    def paint(self: Any, item: "Missing") -> None: ...  # type: ignore[name-defined] # noqa: F821

    assert "paint: an annotation cannot be read (name 'Missing' is not defined); import or define" in refused(paint)


def test_an_annotation_that_is_no_python_is_told() -> None:
    def paint(self: Any, item: "a picture") -> None: ...  # type: ignore[valid-type] # noqa: F722

    assert "an annotation cannot be read" in refused(paint)


def test_a_function_without_self_is_told_what_to_write() -> None:
    def paint(prompt: str) -> None: ...

    def draw() -> None: ...

    assert refused(paint).endswith("an endpoint is a method; write def paint(self, ...)")
    assert refused(draw).endswith("write def draw(self, ...)")


def test_parameters_that_no_request_can_fill_are_refused() -> None:
    def positional(self: Any, *args: int) -> None: ...

    def keywords(self: Any, **options: int) -> None: ...

    def positional_only(self: Any, n: int, /) -> None: ...

    assert "the parameter *args: int cannot be filled from a request" in refused(positional)
    assert "the parameter **options: int cannot" in refused(keywords)
    assert "cannot be filled" in refused(positional_only)


def test_a_parameter_with_an_underscore_is_refused() -> None:
    def paint(self: Any, _seed: int) -> None: ...

    message = refused(paint)
    assert "'_seed' starts with an underscore" in message
    assert message.endswith("write 'seed'")


def test_a_stream_behind_a_default_is_the_jobs_however_it_is_written() -> None:
    def none(self: Any, n: int = 1, stream: streamapp.Stream = None) -> None: ...  # type: ignore[assignment]

    def optional(self: Any, n: int = 1, stream: streamapp.Stream | None = None) -> None: ...

    def older(self: Any, n: int = 1, stream: Optional[streamapp.Stream] = None) -> None: ...  # noqa: UP045

    def annotated(self: Any, n: int = 1, stream: Annotated[streamapp.Stream | None, "the job's"] = None) -> None: ...

    def by_name(self: Any, n: int = 1, *, stream: Annotated[streamapp.Stream, "the job's"]) -> None: ...

    for function in (none, optional, older, annotated, by_name):
        spec = inspect_endpoint(streamapp.endpoint("/x")(function))
        assert (spec.stream_parameter, spec.kind, [p.name for p in spec.parameters]) == ("stream", "stream", ["n"])


def test_a_second_stream_is_refused() -> None:
    def paint(self: Any, a: streamapp.Stream, b: streamapp.Stream) -> None: ...

    assert "the parameters a and b are both the job's stream" in refused(paint)


def test_a_path_that_ends_with_two_slashes_is_refused() -> None:
    with pytest.raises(DefinitionError, match=r'a path ends with one "/" at most; write @endpoint\("/stream/"\)'):

        @streamapp.endpoint("/stream//")
        def stream(self: Any) -> int:
            return 1
