"""Mark methods as sessions, which a WebSocket feeds with inputs, and read from their signatures what they are.

`@realtime` is for inputs and outputs, in fal's four modes; `@websocket` leaves the socket to the method. What a mark
means is decided when the app is compiled, as for endpoints.
"""

import collections.abc
import inspect
import typing
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, Literal, TypeVar

from fastapi import Body
from starlette.websockets import WebSocket, WebSocketDisconnect

from .endpoint import (
    EndpointMark,
    EndpointSpec,
    SessionMark,
    get_session_mark,
    gives,
    is_stream,
    item_type,
    iterates,
    layers_of,
    marking_session,
    resolve_hints,
    runs_on_loop,
    where_is,
    with_annotation,
)
from .errors import DefinitionError, InputsEnded

F = TypeVar("F", bound=Callable[..., Any])
SessionMode = Literal["unary", "server_streaming", "client_streaming", "bidi", "raw"]
#: behind the path of a session that may be opened by WebRTC: where it is offered
SIGNALLING = "/webrtc"

_INPUT = "input"
#: what a session's code raises when it is done: nothing more comes, or, as fal's apps say it, the client has left
LEAVINGS = (InputsEnded, WebSocketDisconnect)
_MOST_BUFFERED = 1000
_ASYNC_ITERATORS = (collections.abc.AsyncIterator, collections.abc.AsyncGenerator, collections.abc.AsyncIterable)
_ITERATORS = (
    *_ASYNC_ITERATORS,
    *(collections.abc.Iterator, collections.abc.Generator, collections.abc.Iterable),
)
# A parameter of one of these that is alone is the whole input, as fal has it; of others its key.
_ANY_OBJECT = (Any, dict, collections.abc.Mapping, collections.abc.MutableMapping)


@dataclass(frozen=True, slots=True)
class SessionSpec:
    """Describe a session's method after its annotations were resolved.

    Attributes:
        mode: what goes each way; "raw" where the method gets the socket.
        function: what is called: the outermost of its decorators.
        is_async: runs on the loop instead of in the inference thread.
        inputs: the endpoint that one input would be the whole input of; its `parameters` are what an input fills.
        input_parameter: the one that gets the iterator of inputs; None where inputs fill parameters, or come by
            `Stream.receive`.
        takes_batches: the method gets several inputs at once, one positional argument each.
        stream_parameter: the one that gets the `Stream`, or None.
        output_type: what its outputs are, where an annotation says it.
    """

    name: str
    path: str
    function: Callable[..., Any]
    mode: SessionMode
    is_async: bool
    inputs: EndpointSpec
    input_parameter: str | None
    takes_batches: bool
    stream_parameter: str | None
    output_type: Any
    mark: SessionMark

    @property
    def summary(self) -> str:
        """Return the first line of the docstring, else the name in words."""
        return self.inputs.summary

    @property
    def description(self) -> str:
        """Return the docstring."""
        return self.inputs.description


def realtime(
    path: str,
    *,
    buffering: int | None = None,
    max_batch_size: int = 1,
    session_timeout: float | None = None,
    timeout_s: float | None = None,
    max_resume_window_s: float | None = None,
    webrtc: bool = False,
    input_modal: Any = None,
    output_modal: Any = None,
    content_type: str = "application/msgpack",
    encode_message: Callable[[Any], bytes] | None = None,
    decode_message: Callable[[bytes], Any] | None = None,
) -> Callable[[F], F]:
    """Serve a method of an `App` over a WebSocket: inputs come in while outputs go out.

    The annotations say how, as in fal: `(self, input: In) -> Out` is called for each input; with `-> Iterator[Out]` for
    one, with a stream of outputs; with `inputs: Iterator[In]` (or `AsyncIterator`) it goes through them itself, for one
    output or for a stream of them. With `stream: streamapp.Stream` alone it asks for them by `stream.receive()`.

    A `def` method that is called for each input runs in the inference thread. One that goes through them itself has a
    thread of its own, which runs instead of that one, never beside it, and lets others run while it waits for an input.

    Args:
        path: starts with "/".
        buffering: how many inputs may wait unread; the newest win. Where None none is dropped: the client waits.
        max_batch_size: how many waiting inputs a method `(self, *inputs: In)`, or `(self, input: In, *inputs: In)`,
            gets at once, of those for which `In.can_batch(next, n)` holds.
        session_timeout: seconds without an input after which the session ends; never when None.
        timeout_s: how long an input may take, or the whole of a method that goes through them; the deployment's
            `timeout_s` when None.
        max_resume_window_s: the most that a client can have the session wait for it when its connection is lost.
        webrtc: serve it by WebRTC as well, where its images are frames of a video; needs the extra `webrtc`.
        input_modal: a type, instead of what the annotation says.
        output_modal: likewise.
        content_type: of binary messages, where they are not msgpack.
        encode_message: writes one.
        decode_message: reads one.
    Raises:
        DefinitionError: an argument is not of that form; says what to write.
    """
    mark = SessionMark(
        path,
        buffering=buffering,
        max_batch_size=max_batch_size,
        session_timeout=session_timeout,
        timeout_s=timeout_s,
        max_resume_window_s=max_resume_window_s,
        webrtc=webrtc,
        input_type=input_modal,
        output_type=output_modal,
        content_type=content_type,
        encode=encode_message,
        decode=decode_message,
    )
    if buffering is not None and not 1 <= buffering <= _MOST_BUFFERED:
        raise DefinitionError(f"{mark.decorator}: expected buffering from 1 to {_MOST_BUFFERED}, got {buffering!r}")
    if max_batch_size < 1:
        raise DefinitionError(f"{mark.decorator}: expected max_batch_size of 1 or more, got {max_batch_size!r}")
    for name, seconds in (("session_timeout", session_timeout), ("timeout_s", timeout_s)):
        if seconds is not None and not seconds > 0:  # nor NaN, which would mix up the loop's timers
            raise DefinitionError(f"{mark.decorator}: expected {name} in seconds, more than 0, got {seconds!r}")
    if max_resume_window_s is not None and max_resume_window_s < 0:
        window = f"max_resume_window_s in seconds, 0 or more, got {max_resume_window_s!r}"
        raise DefinitionError(f"{mark.decorator}: expected {window}")
    return marking_session(mark)


def websocket(path: str) -> Callable[[F], F]:
    """Serve an `async def` method of an `App` over a WebSocket that it gets itself: `(self, socket: WebSocket)`.

    Path parameters, `"/rooms/{name}"`, the query, headers and dependencies come as FastAPI fills them.

    Raises:
        DefinitionError: the path is none; says what to write.
    """
    return marking_session(SessionMark(path, is_raw=True))


def inspect_session(function: Callable[..., Any], cls: type | None = None) -> SessionSpec:
    """Resolve a session's annotations and decide its mode.

    Args:
        cls: the class that is served, which may give types to the variables of a generic one that has the function.
    Raises:
        DefinitionError: an annotation cannot be resolved, or a parameter cannot be filled.
    """
    mark = get_session_mark(function)
    assert mark is not None
    where = where_is(mark, function)
    layers = layers_of(function)
    hints = resolve_hints(layers, where, cls)
    signature = list(inspect.signature(function).parameters.values())
    if not signature or signature[0].name != "self":
        raise DefinitionError(f"{where}: a session is a method; write def {function.__name__}(self, ...)")
    parameters = [with_annotation(parameter, hints) for parameter in signature[1:]]
    returns = hints.get("return", inspect.Parameter.empty)
    is_async = runs_on_loop(layers, returns)
    if mark.is_raw:
        _check_raw(parameters, where, is_async=is_async)
        return _spec(function, mark, "raw", is_async, parameters)
    streams = [parameter.name for parameter in parameters if is_stream(parameter.annotation)]
    own = [parameter for parameter in parameters if parameter.name not in streams]
    if len(streams) > 1:
        raise DefinitionError(
            f"{where}: the parameters {' and '.join(streams)} are both the session's stream; keep one"
        )
    iterators = [parameter for parameter in own if gives(parameter.annotation, *_ITERATORS)]
    if iterators:
        _check_iterator(iterators[0], where, is_async=is_async, is_alone=len(own) == 1)
    streams_out = iterates(returns) or any(map(_is_generator, layers))
    output_type = mark.output_type or item_type(returns)
    name = streams[0] if streams else None
    if iterators or (streams and not own):
        given = item_type(iterators[0].annotation) if iterators else Any
        mode: SessionMode = "bidi" if streams_out or not iterators else "client_streaming"
        inputs = [_whole(_INPUT, mark.input_type or given)]
        through = iterators[0].name if iterators else None
        return _spec(function, mark, mode, is_async, inputs, through, stream=name, output_type=output_type)
    mode = "server_streaming" if streams_out else "unary"
    takes_batches = bool(own) and own[-1].kind is inspect.Parameter.VAR_POSITIONAL
    if takes_batches and parameters[-1].kind is inspect.Parameter.VAR_POSITIONAL and name is not None:
        raise DefinitionError(f"{where}: {own[-1]} takes all that has no name; write {name} behind it")
    _check_batches(mark, own, mode, where, takes_batches=takes_batches)
    if takes_batches:
        own = [_whole(_INPUT, mark.input_type or own[0].annotation)]
    elif len(own) == 1 and (mark.input_type is not None or _is_any_object(own[0].annotation)):
        own = [_whole(own[0].name, mark.input_type or own[0].annotation)]
    return _spec(function, mark, mode, is_async, own, None, takes_batches, name, output_type)


def _spec(
    function: Callable[..., Any],
    mark: SessionMark,
    mode: SessionMode,
    is_async: bool,
    parameters: list[inspect.Parameter],
    input_parameter: str | None = None,
    takes_batches: bool = False,
    stream: str | None = None,
    output_type: Any = Any,
) -> SessionSpec:
    inputs = EndpointSpec(
        name=function.__name__,
        path=mark.path,
        function=function,
        kind="stream",
        is_async=is_async,
        parameters=tuple(parameters),
        stream_parameter=stream,
        item_type=output_type,
        result_type=output_type,
        joins=False,
        mark=EndpointMark(mark.path),
    )
    return SessionSpec(
        name=function.__name__,
        path=mark.path,
        function=function,
        mode=mode,
        is_async=is_async,
        inputs=inputs,
        input_parameter=input_parameter,
        takes_batches=takes_batches,
        stream_parameter=stream,
        output_type=output_type,
        mark=mark,
    )


def _whole(name: str, annotation: Any) -> inspect.Parameter:
    """Return a parameter that the whole input fills."""
    return inspect.Parameter(name, inspect.Parameter.POSITIONAL_OR_KEYWORD, annotation=Annotated[annotation, Body()])


def _is_any_object(annotation: Any) -> bool:
    return annotation in _ANY_OBJECT or typing.get_origin(annotation) in _ANY_OBJECT


def _is_generator(layer: Any) -> bool:
    return inspect.isgeneratorfunction(layer) or inspect.isasyncgenfunction(layer)


def _check_iterator(parameter: inspect.Parameter, where: str, *, is_async: bool, is_alone: bool) -> None:
    name = parameter.name
    if not is_alone:
        raise DefinitionError(f"{where}: {name} is all inputs; leave out the other parameters")
    if gives(parameter.annotation, *_ASYNC_ITERATORS) != is_async:
        kind, iterator = ("async def", "AsyncIterator") if is_async else ("def", "Iterator")
        raise DefinitionError(
            f"{where}: {name} is gone through where the method runs, which is {kind}; write {name}: {iterator}[Input]"
        )


def _check_batches(
    mark: SessionMark, own: list[inspect.Parameter], mode: SessionMode, where: str, *, takes_batches: bool
) -> None:
    if takes_batches and (not _is_batch(own) or mode != "unary"):
        raise DefinitionError(
            f"{where}: {own[-1]} takes inputs in batches; write (self, *inputs: Input), or (self, input: Input, "
            "*inputs: Input), and return one output"
        )
    if mark.max_batch_size > 1 and not takes_batches:
        raise DefinitionError(f"{where}: max_batch_size is for several inputs at once; write (self, *inputs: Input)")
    for parameter in own:
        if parameter.kind in (parameter.VAR_KEYWORD, parameter.POSITIONAL_ONLY):
            raise DefinitionError(f"{where}: the parameter {parameter} cannot be filled from an input; name each")


def _is_batch(own: list[inspect.Parameter]) -> bool:
    """Say whether the parameters are inputs of one kind: all alike, or a first and the others."""
    *first, others = own
    if not first:
        return True
    alike = (first[0].annotation, Any, inspect.Parameter.empty)
    return len(first) == 1 and first[0].kind is first[0].POSITIONAL_OR_KEYWORD and others.annotation in alike


def _check_raw(parameters: list[inspect.Parameter], where: str, *, is_async: bool) -> None:
    sockets = [p for p in parameters if isinstance(p.annotation, type) and issubclass(p.annotation, WebSocket)]
    if not is_async or not sockets:
        raise DefinitionError(
            f"{where}: it gets the socket itself, so write async def, with a parameter annotated as fastapi.WebSocket: "
            "async def chat(self, socket: WebSocket)"
        )
