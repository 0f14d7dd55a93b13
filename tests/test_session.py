# mypy: disable-error-code="empty-body"
"""What a session's signature says: its mode, what an input fills, and what is wrong with it."""

import math
from collections.abc import AsyncIterator, Callable, Iterator
from types import FunctionType
from typing import Any, get_args

import pytest
from fastapi import WebSocket
from pydantic import BaseModel

import streamapp
from streamapp.errors import DefinitionError
from streamapp.session import SessionSpec, inspect_session


class Stroke(BaseModel):
    x: int


class Line(BaseModel):
    length: int


def unary(self: Any, stroke: Stroke) -> Line: ...
async def unary_async(self: Any, stroke: Stroke) -> Line: ...
def keys(self: Any, x: int, y: int = 2) -> dict[str, int]: ...
def watching(self: Any, stroke: Stroke, stream: streamapp.Stream) -> Line: ...
def batches(self: Any, *strokes: Stroke) -> Line: ...
def a_first(self: Any, stroke: Stroke, *strokes: Stroke) -> Line: ...
def a_first_of_others(self: Any, stroke: Stroke, *strokes: Line) -> Line: ...
def two_first(self: Any, stroke: Stroke, other: Stroke, *strokes: Stroke) -> Line: ...
def server(self: Any, stroke: Stroke) -> Iterator[Line]: ...
def generator(self: Any, stroke: Stroke) -> Any:
    yield stroke


def client(self: Any, strokes: Iterator[Stroke]) -> Line: ...
async def client_async(self: Any, strokes: AsyncIterator[Stroke]) -> Line: ...
def both(self: Any, strokes: Iterator[Stroke]) -> Iterator[Line]: ...
async def both_async(self: Any, strokes: AsyncIterator[Stroke]) -> AsyncIterator[Line]:
    async for stroke in strokes:
        yield Line(length=stroke.x)


def receiving(self: Any, stream: streamapp.Stream) -> None: ...


def spec_of(function: Callable[..., Any], **options: Any) -> SessionSpec:
    return inspect_session(streamapp.realtime("/realtime", **options)(copy_of(function)))


def copy_of(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return a copy, as a mark stays on a function."""
    assert isinstance(function, FunctionType)
    copy = FunctionType(function.__code__, function.__globals__, function.__name__, function.__defaults__)
    copy.__annotations__ = function.__annotations__
    return copy


@pytest.mark.parametrize(
    ("function", "mode", "is_async", "names"),
    [
        (unary, "unary", False, ["stroke"]),
        (unary_async, "unary", True, ["stroke"]),
        (keys, "unary", False, ["x", "y"]),
        (watching, "unary", False, ["stroke"]),
        (batches, "unary", False, ["input"]),
        (a_first, "unary", False, ["input"]),
        (server, "server_streaming", False, ["stroke"]),
        (generator, "server_streaming", False, ["stroke"]),
        (client, "client_streaming", False, ["input"]),
        (client_async, "client_streaming", True, ["input"]),
        (both, "bidi", False, ["input"]),
        (both_async, "bidi", True, ["input"]),
        (receiving, "bidi", False, ["input"]),
    ],
)
def test_the_annotations_say_what_goes_each_way(
    function: Callable[..., Any], mode: str, is_async: bool, names: list[str]
) -> None:
    spec = spec_of(function)
    assert (spec.mode, spec.is_async) == (mode, is_async)
    assert [parameter.name for parameter in spec.inputs.parameters] == names


def test_a_session_knows_the_parameters_of_its_inputs_and_its_stream() -> None:
    assert spec_of(both).input_parameter == "strokes"
    assert spec_of(receiving).stream_parameter == "stream"
    assert spec_of(watching).stream_parameter == "stream"
    assert spec_of(batches, max_batch_size=4).takes_batches
    assert spec_of(a_first, max_batch_size=4).takes_batches
    assert spec_of(both).output_type is Line


def test_types_in_the_mark_go_before_the_annotations() -> None:
    spec = spec_of(unary, input_modal=Line, output_modal=Stroke)
    assert spec.output_type is Stroke
    assert Line in spec.inputs.parameters[0].annotation.__args__


def test_a_raw_session_gets_the_socket() -> None:
    class Chat(streamapp.App):
        @streamapp.websocket("/ws/{room}")
        async def chat(self, socket: WebSocket, room: str) -> None: ...

        @streamapp.endpoint("/ws", is_websocket=True)
        async def other(self, socket: WebSocket) -> None: ...

    assert [(spec.path, spec.mode) for spec in Chat.session_specs()] == [("/ws/{room}", "raw"), ("/ws", "raw")]
    assert Chat.endpoints() == []


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"buffering": 0}, "expected buffering from 1 to 1000, got 0"),
        ({"max_batch_size": 0}, "expected max_batch_size of 1 or more, got 0"),
        ({"session_timeout": 0}, "expected session_timeout in seconds, more than 0, got 0"),
        ({"session_timeout": math.nan}, "expected session_timeout in seconds, more than 0, got nan"),
        ({"timeout_s": -1}, "expected timeout_s in seconds, more than 0, got -1"),
        ({"max_resume_window_s": -1}, "expected max_resume_window_s in seconds, 0 or more, got -1"),
        ({"max_batch_size": 2}, r"write \(self, \*inputs: Input\)"),
    ],
)
def test_options_that_cannot_be_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(DefinitionError, match=message):
        spec_of(unary, **options)


def test_a_raw_session_that_gets_no_socket_is_refused() -> None:
    def no_socket(self: Any, socket: str) -> None: ...

    with pytest.raises(DefinitionError, match="async def chat"):
        inspect_session(streamapp.websocket("/ws")(no_socket))


def test_an_iterator_of_inputs_is_of_the_kind_of_its_method() -> None:
    def calls(self: Any, inputs: AsyncIterator[int]) -> int:
        return 1

    async def waits(self: Any, inputs: Iterator[int]) -> int:
        return 1

    with pytest.raises(DefinitionError, match=r"which is def; write inputs: Iterator\[Input\]"):
        inspect_session(streamapp.realtime("/rt")(calls))
    with pytest.raises(DefinitionError, match=r"which is async def; write inputs: AsyncIterator\[Input\]"):
        inspect_session(streamapp.realtime("/rt")(waits))


def test_a_stream_before_a_batch_is_refused() -> None:
    def batch(self: Any, stream: streamapp.Stream, *inputs: int) -> int:
        return 1

    with pytest.raises(DefinitionError, match="write stream behind it"):
        inspect_session(streamapp.realtime("/rt")(batch))


@pytest.mark.parametrize("function", [a_first_of_others, two_first])
def test_a_batch_has_at_most_one_parameter_before_it_of_the_same_type(function: Callable[..., Any]) -> None:
    with pytest.raises(DefinitionError, match=r"or \(self, input: Input, \*inputs: Input\)"):
        spec_of(function)


def test_inputs_beside_the_iterator_of_all_inputs_are_refused() -> None:
    def mixed(self: Any, strokes: Iterator[Stroke], color: str) -> None: ...

    with pytest.raises(DefinitionError, match="strokes is all inputs; leave out the other parameters"):
        spec_of(mixed)


def test_what_no_message_can_fill_is_refused() -> None:
    def free(input: Stroke) -> None: ...

    def two(self: Any, one: streamapp.Stream, other: streamapp.Stream) -> None: ...

    def named(self: Any, **strokes: Stroke) -> None: ...

    def batch(self: Any, color: str, *strokes: Stroke) -> None: ...

    def lines(self: Any, *strokes: Stroke) -> Iterator[Line]: ...

    for function, message in (
        (free, r"a session is a method; write def free\(self, \.\.\.\)"),
        (two, "the parameters one and other are both the session's stream; keep one"),
        (named, "the parameter .* cannot be filled from an input; name each"),
        (batch, r"takes inputs in batches; write \(self, \*inputs: Input\)"),
        (lines, "and return one output"),
    ):
        with pytest.raises(DefinitionError, match=message):
            spec_of(function)


def test_a_batch_without_a_type_is_of_anything() -> None:
    def batch(self, *inputs):  # type: ignore[no-untyped-def]
        """Take all.

        Of any kind.
        """

    spec = spec_of(batch)
    assert get_args(spec.inputs.parameters[0].annotation)[0] is Any
    assert (spec.summary, spec.description) == ("Take all.", "Take all.\n\nOf any kind.")


def test_a_method_has_one_mark() -> None:
    with pytest.raises(DefinitionError, match="has an @realtime already"):
        streamapp.endpoint("/x")(streamapp.realtime("/y")(copy_of(unary)))


def test_an_endpoint_and_a_session_have_paths_of_their_own() -> None:
    class Twice(streamapp.App):
        @streamapp.endpoint("/draw")
        def draw(self, x: int) -> int: ...

        @streamapp.realtime("/draw/")
        def live(self, x: int) -> int: ...

    with pytest.raises(DefinitionError, match="draw and live are both at"):
        Twice.endpoints()
