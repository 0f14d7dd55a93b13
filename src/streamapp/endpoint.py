"""Mark methods as endpoints, and read from their signatures what they are.

`@endpoint` checks its own arguments and hangs an `EndpointMark` on the function, nothing else. `inspect_endpoint`
resolves the annotations later, when the app is compiled, since they may name things defined further down.
"""

import collections.abc
import inspect
import typing
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, TypeVar

from starlette.responses import Response
from typing_extensions import TypeAliasType

from .errors import DefinitionError
from .generics import resolve_variables
from .jobs.stream import Stream

F = TypeVar("F", bound=Callable[..., Any])
EndpointKind = Literal["value", "stream", "response"]
MediaType = Literal["text/event-stream", "application/x-ndjson", "text/plain"]

_MARK = "__streamapp_endpoint__"
_SESSION_MARK = "__streamapp_session__"
_PLAIN = (bool, int, float, str, list, dict)
_MEDIA_TYPES: tuple[str, ...] = typing.get_args(MediaType)
_SYNC_ITERATORS = (collections.abc.Iterator, collections.abc.Generator, collections.abc.Iterable)
_ASYNC_ITERATORS = (collections.abc.AsyncIterator, collections.abc.AsyncGenerator, collections.abc.AsyncIterable)
_AWAITABLES = (collections.abc.Awaitable, collections.abc.Coroutine)


@dataclass(frozen=True, slots=True)
class EndpointMark:
    """Hold what was written in `@endpoint(...)`.

    Attributes:
        is_got: it answers GET, too, where it answers once.
        written: the decorator's name, for messages.
    """

    path: str
    media_type: MediaType | None = None
    timeout_s: float | None = None
    queue_timeout_s: float | None = None
    max_resume_window_s: float | None = None
    join: bool | None = None
    is_got: bool = False
    written: str = "endpoint"

    @property
    def decorator(self) -> str:
        """Return how it was written, for messages."""
        return f"@{self.written}({self.path!r})"


@dataclass(frozen=True, slots=True)
class SessionMark:
    """Hold what was written in `@realtime(...)` or `@websocket(...)`.

    Attributes:
        is_raw: the method gets the WebSocket itself.
        webrtc: it is reached by WebRTC, too.
        input_type, output_type: instead of the annotations, where they are not None.
        encode, decode: of binary frames; msgpack when None.
        written: the decorator's name, for messages, where it is another one.
    """

    path: str
    is_raw: bool = False
    buffering: int | None = None
    max_batch_size: int = 1
    session_timeout: float | None = None
    timeout_s: float | None = None
    max_resume_window_s: float | None = None
    webrtc: bool = False
    input_type: Any = None
    output_type: Any = None
    content_type: str = "application/msgpack"
    encode: Callable[[Any], bytes] | None = None
    decode: Callable[[bytes], Any] | None = None
    written: str = ""

    @property
    def decorator(self) -> str:
        """Return how it was written, for messages."""
        return f"@{self.written or ('websocket' if self.is_raw else 'realtime')}({self.path!r})"


@dataclass(frozen=True, slots=True)
class HealthCheck:
    """Say how fal's runners probe an endpoint; kept for deployment, without effect here."""

    start_period_seconds: int = 30
    timeout_seconds: int = 5
    failure_threshold: int = 3
    call_regularly: bool = True
    method: str = "POST"


@dataclass(frozen=True, slots=True)
class EndpointSpec:
    """Describe an endpoint after its annotations were resolved.

    Attributes:
        kind: "value" answers once, "stream" emits events, "response" returns a Starlette `Response` of its own.
        function: what is called: the outermost of its decorators.
        is_async: runs on the loop instead of in the inference thread.
        parameters: those that a request fills, with resolved annotations.
        stream_parameter: the one that gets the `Stream`, or None.
        item_type: what the stream's outputs are, where an annotation says it.
        result_type: what its result is.
        joins: the result of its stream is the text of all outputs, where the endpoint returns no other.
    """

    name: str
    path: str
    function: Callable[..., Any]
    kind: EndpointKind
    is_async: bool
    parameters: tuple[inspect.Parameter, ...]
    stream_parameter: str | None
    item_type: Any
    result_type: Any
    joins: bool
    mark: EndpointMark

    @property
    def summary(self) -> str:
        """Return the first line of the docstring, else the name in words."""
        doc = inspect.getdoc(self.function)
        return doc.splitlines()[0] if doc else self.name.replace("_", " ").capitalize()

    @property
    def description(self) -> str:
        """Return the docstring."""
        return inspect.getdoc(self.function) or ""


def endpoint(
    path: str,
    *,
    media_type: MediaType | None = None,
    timeout_s: float | None = None,
    queue_timeout_s: float | None = None,
    max_resume_window_s: float | None = None,
    join: bool | None = None,
    health_check: "HealthCheck | None" = None,
    billing: Any = None,
    is_websocket: bool = False,
) -> Callable[[F], F]:
    """Serve a method of an `App` at `path`.

    The method may be a function or `async def` that returns a value, a generator, take a `stream: streamapp.Stream`
    parameter, or return a Starlette `Response`. Sync methods run in the app's inference thread, one at a time.

    Args:
        path: starts with "/"; may hold path parameters, "/documents/{name}". With a slash at its end or without: it is
            served both ways.
        media_type: what a stream is sent as when the request does not name another format.
        timeout_s: how long a job may run, instead of the deployment's `timeout_s`.
        queue_timeout_s: how long a job may wait for its turn.
        max_resume_window_s: the most that a request's `Streamapp-Resume` can ask for.
        join: the result of a stream is all strings that it emits, joined, instead of the last output; so it is where
            the annotation says that they are strings, `Iterator[str]`, and this is None. What the endpoint returns
            after them goes before.
        health_check: taken from fal's apps; without effect here.
        billing: as that.
        is_websocket: the method gets the WebSocket itself, as with `@websocket`.
    Raises:
        DefinitionError: an argument is not of that form; says what to write.
    """
    if not isinstance(path, str):
        name = getattr(path, "__qualname__", repr(path))
        raise DefinitionError(f'Expected @endpoint with a path, got {name}; write @endpoint("/stream")')
    if is_websocket:
        return marking_session(SessionMark(path, is_raw=True))
    return marking(EndpointMark(path, media_type, timeout_s, queue_timeout_s, max_resume_window_s, join))


def marking(mark: EndpointMark) -> Callable[[F], F]:
    """Return what leaves an endpoint's mark on a method.

    Raises:
        DefinitionError: as `endpoint` says.
    """

    def decorate(function: F) -> F:
        _check_mark(mark, function)
        setattr(function, _MARK, mark)
        return function

    return decorate


def get_mark(function: Any) -> EndpointMark | None:
    """Return the mark that `@endpoint` left, or None."""
    return getattr(function, _MARK, None)


def marking_session(mark: SessionMark) -> Callable[[F], F]:
    """Return what leaves a session's mark on a method.

    Raises:
        DefinitionError: the path is none, or what is marked has a mark already, or is no function.
    """
    if not isinstance(mark.path, str):
        kind = "websocket" if mark.is_raw else "realtime"
        raise DefinitionError(f'Expected @{kind} with a path, got {mark.path!r}; write @{kind}("/{kind}")')

    def decorate(function: F) -> F:
        if not inspect.isfunction(function) and not is_wrapper(function):
            raise DefinitionError(f"{mark.decorator} marks a function, got {function!r}; write it above a def")
        _check_path(mark, function)
        setattr(function, _SESSION_MARK, mark)
        return function

    return decorate


def get_session_mark(function: Any) -> SessionMark | None:
    """Return the mark that `@realtime` or `@websocket` left, or None."""
    return getattr(function, _SESSION_MARK, None)


def check_not_hidden(attribute: str, value: Any) -> None:
    """Refuse a decorator above `@endpoint` that returns a function without its mark: the endpoint would be missing.

    Raises:
        DefinitionError: says how the decorator keeps it.
    """
    for cell in getattr(value, "__closure__", None) or ():
        with suppress(ValueError):  # an empty cell
            hidden = cell.cell_contents
            mark = get_mark(hidden) or get_session_mark(hidden)
            if mark is not None and hidden.__name__ == attribute != value.__name__:
                raise DefinitionError(
                    f"{where_is(mark, hidden)}: the decorator above hides it; write @functools.wraps(function) in that"
                )


def inspect_endpoint(function: Callable[..., Any], cls: type | None = None) -> EndpointSpec:
    """Resolve an endpoint's annotations and decide its kind.

    Args:
        cls: the class that is served, which may give types to the variables of a generic one that has the function.
    Raises:
        DefinitionError: an annotation cannot be resolved, or a parameter cannot be filled.
    """
    mark = get_mark(function)
    assert mark is not None
    where = where_is(mark, function)
    if not hasattr(function, "__get__"):
        raise DefinitionError(f"{where}: {function!r} is no method; decorate it by a function, below @endpoint")
    layers = layers_of(function)
    hints = resolve_hints(layers, where, cls)
    parameters = list(inspect.signature(function).parameters.values())
    for parameter in parameters[:1]:
        if parameter.kind is parameter.VAR_POSITIONAL:
            _check_parameter(parameter, where)
    if not parameters or parameters[0].name != "self":
        raise DefinitionError(f"{where}: an endpoint is a method; write def {function.__name__}(self, ...)")
    resolved = [with_annotation(parameter, hints) for parameter in parameters[1:]]
    streams = [parameter.name for parameter in resolved if is_stream(parameter.annotation)]
    if len(streams) > 1:
        raise DefinitionError(f"{where}: the parameters {' and '.join(streams)} are both the job's stream; keep one")
    for parameter in resolved:
        _check_parameter(parameter, where)
    returns = hints.get("return", inspect.Parameter.empty)
    kind = _kind(layers, returns, has_stream=bool(streams))
    if mark.join is not None and kind != "stream":
        raise DefinitionError(f"{where}: join is for streams, and it answers once; leave it out, or yield the text")
    joins = kind == "stream" and (_yields_text(returns) if mark.join is None else mark.join)
    return EndpointSpec(
        name=function.__name__,
        path=mark.path,
        function=function,
        kind=kind,
        is_async=runs_on_loop(layers, returns),
        parameters=tuple(parameter for parameter in resolved if parameter.name not in streams),
        stream_parameter=streams[0] if streams else None,
        item_type=item_type(returns),
        result_type=_result_type(returns, joins=joins),
        joins=joins,
        mark=mark,
    )


def with_annotation(parameter: inspect.Parameter, hints: dict[str, Any]) -> inspect.Parameter:
    """Return `parameter` with its resolved annotation; without one, the type of a plain default, else `Any`."""
    plain = type(parameter.default) if isinstance(parameter.default, _PLAIN) else Any
    return parameter.replace(annotation=hints.get(parameter.name, plain))


def is_stream(annotation: Any) -> bool:
    """Say so also where it is optional, as a parameter behind a default has to be."""
    if typing.get_origin(annotation) in (Annotated, typing.Union, UnionType):
        return any(map(is_stream, typing.get_args(annotation)))
    return annotation is Stream


def layers_of(function: Callable[..., Any]) -> list[Callable[..., Any]]:
    """Return a function and those that it wraps (`functools.wraps`), the outermost first."""
    layers = [function]
    while (inner := getattr(layers[-1], "__wrapped__", None)) is not None:
        layers.append(inner)
    return layers


def runs_on_loop(layers: list[Callable[..., Any]], returns: Any) -> bool:
    """Say whether a call gives what belongs on the loop. A plain wrapper gives back what the function inside gives."""
    for layer in layers:
        if inspect.isgeneratorfunction(layer):
            return False
        if inspect.iscoroutinefunction(layer) or inspect.isasyncgenfunction(layer):
            return True
    return gives(returns, *_ASYNC_ITERATORS, *_AWAITABLES)


def _kind(layers: list[Callable[..., Any]], returns: Any, *, has_stream: bool) -> EndpointKind:
    if has_stream or any(inspect.isgeneratorfunction(f) or inspect.isasyncgenfunction(f) for f in layers):
        return "stream"
    returned = awaited(returns)
    if any(map(_is_response, _options(returned))):
        return "response"
    return "stream" if iterates(returns) else "value"


def gives(annotation: Any, *types: Any) -> bool:
    """Say whether an annotation is of one of these generic types."""
    bare = _bare(annotation)
    return (typing.get_origin(bare) or bare) in types


def _bare(annotation: Any) -> Any:
    """Return an annotation without its metadata, and what a `type` alias names."""
    while isinstance(annotation, TypeAliasType) or typing.get_origin(annotation) is Annotated:
        is_alias = isinstance(annotation, TypeAliasType)
        annotation = annotation.__value__ if is_alias else annotation.__origin__
    return annotation


def awaited(annotation: Any) -> Any:
    """Return what an awaitable gives; another annotation as it is."""
    arguments = typing.get_args(_bare(annotation))
    return arguments[-1] if arguments and gives(annotation, *_AWAITABLES) else annotation


def _options(annotation: Any) -> tuple[Any, ...]:
    bare = _bare(annotation)
    is_union = typing.get_origin(bare) in (typing.Union, UnionType)
    return tuple(map(_bare, typing.get_args(bare))) if is_union else (bare,)


def _is_response(annotation: Any) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, Response)


def item_type(returns: Any) -> Any:
    """Return what an annotation says of the items of an iterator, else of the value itself."""
    returned = awaited(returns)
    if iterates(returns):
        return next(iter(typing.get_args(_bare(returned))), Any)
    if returned is inspect.Parameter.empty or any(map(_is_response, _options(returned))):
        return Any
    return returned


def _yields_text(returns: Any) -> bool:
    """Say whether an annotation is an iterator of strings, or of None where there is nothing to say."""
    said = [option for option in _options(item_type(returns)) if option is not NoneType]
    return iterates(returns) and said == [str]


def _result_type(returns: Any, *, joins: bool) -> Any:
    """Return what an annotation says of the result: what a generator returns, else what it yields, joined or not."""
    arguments = typing.get_args(_bare(returns))
    if gives(returns, collections.abc.Generator) and len(arguments) == 3 and arguments[2] not in (None, NoneType):
        return arguments[2]
    return str if joins else item_type(returns)


def iterates(returns: Any) -> bool:
    """Say whether what is returned is to be gone through."""
    return gives(awaited(returns), *_SYNC_ITERATORS, *_ASYNC_ITERATORS)


def resolve_hints(layers: list[Callable[..., Any]], where: str, cls: type | None) -> dict[str, Any]:
    """Return the annotations of a function, with the types that a generic class gives to its variables.

    Raises:
        DefinitionError: one cannot be read.
    """
    base = next((c for c in getattr(cls, "__mro__", ()) if any(v is layers[0] for v in vars(c).values())), None)
    annotated = next((layer for layer in layers if getattr(layer, "__annotations__", None)), layers[0])
    try:
        hints = typing.get_type_hints(annotated, include_extras=True)
        hints.pop("self", None)
        return hints if cls is None or base is None else resolve_variables(hints, cls, base=base)
    except DefinitionError as error:
        raise DefinitionError(f"{where}: {error.message}") from None
    except (NameError, AttributeError, SyntaxError, TypeError) as error:
        raise DefinitionError(
            f"{where}: an annotation cannot be read ({error}); import or define what it names at the top of the module"
        ) from error


def _check_mark(mark: EndpointMark, function: Any) -> None:
    if not inspect.isfunction(function) and not is_wrapper(function):
        raise DefinitionError(f"@endpoint({mark.path!r}) marks a function, got {function!r}; write it above a def")
    where = where_is(mark, function)
    _check_path(mark, function)
    if mark.media_type is not None and mark.media_type not in _MEDIA_TYPES:
        raise DefinitionError(
            f"{where}: expected media_type as one of {', '.join(_MEDIA_TYPES)}, got {mark.media_type!r}"
        )
    for name in ("timeout_s", "queue_timeout_s"):
        seconds = getattr(mark, name)
        if seconds is not None and seconds <= 0:
            raise DefinitionError(f"{where}: expected {name} in seconds, more than 0, got {seconds!r}")
    if mark.max_resume_window_s is not None and mark.max_resume_window_s < 0:
        raise DefinitionError(
            f"{where}: expected max_resume_window_s in seconds, 0 or more, got {mark.max_resume_window_s!r}"
        )


def _check_path(mark: EndpointMark | SessionMark, function: Any) -> None:
    where, path, written = where_is(mark, function), mark.path, mark.decorator.partition("(")[0]
    if not path.startswith("/"):
        raise DefinitionError(f'{where}: a path starts with "/"; write {written}("/{path}")')
    if path.endswith("//"):
        raise DefinitionError(f'{where}: a path ends with one "/" at most; write {written}("{path.rstrip("/")}/")')
    if (other := get_mark(function) or get_session_mark(function)) is not None:
        kind = other.decorator.partition("(")[0]
        raise DefinitionError(f"{where}: the method has an {kind} already; give each path a method of its own")


def is_wrapper(value: Any) -> bool:
    """Say whether a decorator put this object of its own in a function's place, as `functools.lru_cache` does."""
    return hasattr(value, "__wrapped__") and not isinstance(value, staticmethod | classmethod)


def _check_parameter(parameter: inspect.Parameter, where: str) -> None:
    if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD, parameter.POSITIONAL_ONLY):
        raise DefinitionError(
            f"{where}: the parameter {parameter} cannot be filled from a request; name each input; in a decorator that "
            "hides their names write @functools.wraps(function)"
        )
    if parameter.name.startswith("_"):
        raise DefinitionError(
            f"{where}: the parameter {parameter.name!r} starts with an underscore, which is reserved for the server's "
            f"own query parameters; write {parameter.name.lstrip('_')!r}"
        )


def where_is(mark: EndpointMark | SessionMark, function: Any) -> str:
    """Return where a mark was written, for messages."""
    return f"{mark.decorator} on {function.__qualname__}"
