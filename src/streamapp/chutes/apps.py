"""Make an app of a chute: each cord becomes an endpoint, whose method calls the function with the chute as `self`.

Where a function runs: `def` ones in the inference thread, as those of any app; `async` ones, and all that they make,
on the chute's own loop (`home`). How a cord answers is decided here, by what it says and what its annotations say:

    yields values, or says JSON or text      a stream's events, as those of any endpoint
    yields what is not known before          the items as they come, in the form that the first one has (`answers`)
    returns                                  a value, or the `Response` that it made
"""

import asyncio
import collections.abc
import inspect
import re
import typing
from collections.abc import AsyncIterator, Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Annotated, Any, ClassVar

from fastapi import Body
from pydantic import BaseModel
from pydantic_core import from_json
from starlette.requests import Request
from starlette.responses import Response
from starlette.websockets import WebSocket

from ..app import App
from ..endpoint import (
    EndpointMark,
    SessionMark,
    is_stream,
    item_type,
    iterates,
    layers_of,
    marking,
    marking_session,
    resolve_hints,
    runs_on_loop,
    with_annotation,
)
from ..errors import Cancelled, DefinitionError, WorkerStuck
from ..jobs.pause import Pause
from ..jobs.stream import OwnLoopStream, Stream, current_stream, enter_stream
from ..process.logs import logger
from ..runtime import running
from ..settings import current_settings
from ..workers.results import close, close_now, is_iterator
from .answers import LINES, SSE, failing_of, passed_on, stream_of, stream_of_sync, typed
from .crossed import crossed
from .home import Home

_STREAM = "streamapp_stream"  # the parameter of a method that gets its job's stream
_CANCEL_S = 1.0  # for what a job's end cancels to hear of it
_END_S = 3.0  # for the thread to end; `teardown` has ten seconds
_JSON = {"application/json", LINES, "application/jsonl"}
_TEXT = "text/plain"
_UNSAID = (Any, str, bytes, object, inspect.Parameter.empty)
_OBJECTS = (dict, collections.abc.Mapping, collections.abc.MutableMapping)


@dataclass(frozen=True, slots=True)
class Cord:
    """Hold what was written in `@chute.cord(...)`.

    Attributes:
        path: where it is served.
        method: GET or POST; what answers GET answers POST as well.
        stream: it was said to be a stream; it is one also where it yields.
        others: all else that was written, as Chutes has it.
    """

    function: Callable[..., Any]
    path: str
    method: str = "POST"
    stream: bool = False
    input_schema: Any = None
    output_content_type: str | None = None
    others: Mapping[str, Any] = field(default_factory=dict)

    @property
    def where(self) -> str:
        """Return where it was written, for messages."""
        return f"@chute.cord({self.path!r}) on {self.function.__qualname__}"

    @property
    def content_type(self) -> str | None:
        """Return the bare content type."""
        said = self.output_content_type
        return None if said is None else said.partition(";")[0].strip().lower()


@dataclass(frozen=True, slots=True)
class Hook:
    """Hold a function of `@chute.on_startup` or `@chute.on_shutdown`."""

    function: Callable[..., Any]
    priority: int


@dataclass(frozen=True, slots=True)
class Socket:
    """Hold a function of `@chute.websocket`."""

    function: Callable[..., Any]
    path: str


class ChuteApp(App):
    """Serve a chute: the base of the apps that `app_of` makes."""

    chute: ClassVar[Any] = None
    startup: ClassVar[Sequence[Hook]] = ()
    shutdown: ClassVar[Sequence[Hook]] = ()

    def setup(self) -> None:
        """Start the chute's loop, and run its hooks of the startup."""
        settings = current_settings()
        self.is_debug = settings.debug
        stuck_s = settings.timeout_s + settings.stuck_s
        self.home = Home(str(type(self).app_name), stuck_s=stuck_s, on_stuck=self._break)
        self.home.start()
        try:
            for hook in self.startup:
                self._run(hook)
        except BaseException:
            self._end()
            raise

    def teardown(self) -> None:
        """Run the chute's hooks of the shutdown, whatever one of them raises, and end its loop."""
        for hook in self.shutdown:
            try:
                self._run(hook)
            except (Exception, SystemExit):
                logger.exception("@chute.on_shutdown() on %s failed", hook.function.__qualname__)
        self._end()

    def _run(self, hook: Hook) -> None:
        result = hook.function(self.chute)
        if inspect.isawaitable(result):
            self.home.call(_finished(result))

    def _break(self) -> None:
        """Have the process end, whose supervisor starts it again: a job is over, its code blocks the loop for good."""
        error = WorkerStuck(f"the chute {self.home.name} blocks its loop, and does not come back from a job")
        logger.critical("%s", error)
        for served in (served for runtime in running for served in runtime.served if served.app is self):
            served.on_broken(error)

    def _end(self) -> None:
        if not self.home.end(_END_S):
            logger.error("the loop of the chute %s did not end: its code blocks it", self.home.name)


def app_of(
    chute: Any, cords: Sequence[Cord], sockets: Sequence[Socket], startup: Sequence[Hook], shutdown: Sequence[Hook]
) -> type[App]:
    """Return the app that serves a chute.

    Raises:
        DefinitionError: something of it is written wrongly; says what to write.
    """
    declared: list[Cord | Socket | Hook] = [*cords, *sockets, *startup, *shutdown]
    if not cords and not sockets:
        raise DefinitionError(
            f'Chute({chute.name!r}) has no cord; write @chute.cord(public_api_path="/stream") above a function'
        )
    for hooks, decorator in ((startup, "on_startup"), (shutdown, "on_shutdown")):
        for hook in hooks:
            _check_hook(hook.function, f"@chute.{decorator}() on {hook.function.__qualname__}")
    told: dict[str, Any] = {
        "__doc__": chute.readme.strip(),
        "__module__": declared[0].function.__module__,
        "title": chute.tagline or None,
        "chute": chute,
        "startup": sorted(startup, key=lambda hook: hook.priority),
        "shutdown": sorted(shutdown, key=lambda hook: hook.priority),
    }
    if chute.concurrency is not None:
        told |= {"max_multiplexing": chute.concurrency, "max_running": chute.concurrency}
    for n, cord in enumerate(cords):
        told[f"cord_{n}"] = _endpoint(chute, cord)
    for n, socket in enumerate(sockets):
        told[f"socket_{n}"] = _session(chute, socket)
    words = re.findall(r"[A-Za-z0-9]+", chute.name)
    return type("".join(word.capitalize() for word in words) or "Chute", (ChuteApp,), told, name=chute.name)


def _check_hook(function: Callable[..., Any], where: str) -> None:
    if not inspect.signature(function).parameters:
        raise DefinitionError(f"{where}: the first argument is the chute; write {function.__name__}(self)")
    if _is_generator(function):
        raise DefinitionError(
            f"{where}: it yields, so nothing of it would run; write what is to run at the end in @chute.on_shutdown()"
        )


# Methods


def _endpoint(chute: Any, cord: Cord) -> Callable[..., Any]:
    layers = layers_of(cord.function)
    parameters, returns = _signature(layers, cord.where)
    dumped = _apply_schema(parameters, cord)
    has_stream = any(is_stream(parameter.annotation) for parameter in parameters)
    is_async = runs_on_loop(layers, returns)
    yields = iterates(returns) or any(map(_is_generator, layers))
    mark = EndpointMark(cord.path, is_got=cord.method == "GET", written="chute.cord")
    run = _Run(chute, cord, dumped)
    call: Callable[..., Any]
    if yields and _emits(cord, returns):
        call = run.emit if is_async else run.emit_sync
        is_text = cord.content_type == _TEXT
        media: Any = _TEXT if is_text else LINES if cord.content_type in _JSON else None
        mark = replace(mark, media_type=media, join=True if is_text else None)
        if is_async and not has_stream:
            parameters.append(inspect.Parameter(_STREAM, inspect.Parameter.KEYWORD_ONLY, annotation=Stream))
    else:
        call = run.answer if is_async else run.answer_sync
        if (yields or cord.stream) and not has_stream:
            returns = Response
    return marking(mark)(_dressed(call, cord.function, parameters, returns))


def _session(chute: Any, socket: Socket) -> Callable[..., Any]:
    where = f"@chute.websocket({socket.path!r}) on {socket.function.__qualname__}"
    layers = layers_of(socket.function)
    parameters, returns = _signature(layers, where)
    if parameters and parameters[0].annotation is Any:
        parameters[0] = parameters[0].replace(annotation=WebSocket)
    is_coroutine = runs_on_loop(layers, returns) and not _is_generator(socket.function)
    if not is_coroutine or not any(each.annotation is WebSocket for each in parameters):
        raise DefinitionError(f"{where}: write async def {socket.function.__name__}(self, websocket: WebSocket)")

    async def session(app: ChuteApp, given: dict[str, Any]) -> None:
        mine = {name: crossed(value) for name, value in given.items()}
        await app.home.run(_called(socket.function, chute, mine))

    mark = SessionMark(socket.path, is_raw=True, written="chute.websocket")
    return marking_session(mark)(_dressed(session, socket.function, parameters, None))


def _is_generator(layer: Any) -> bool:
    return inspect.isgeneratorfunction(layer) or inspect.isasyncgenfunction(layer)


def _signature(layers: Sequence[Callable[..., Any]], where: str) -> tuple[list[inspect.Parameter], Any]:
    """Return the parameters of a function behind `self`, with resolved annotations, and what it returns."""
    hints = resolve_hints(list(layers), where, None)
    parameters = list(inspect.signature(layers[0]).parameters.values())
    if not parameters or parameters[0].name != "self":
        name = layers[0].__name__
        raise DefinitionError(f"{where}: the first argument is the chute; write async def {name}(self, ...)")
    return [with_annotation(each, hints) for each in parameters[1:]], hints.get("return", inspect.Parameter.empty)


def _apply_schema(parameters: list[inspect.Parameter], cord: Cord) -> set[str]:
    """Have the schema that a cord names say what its one parameter is, and a dict alone be the whole body.

    Returns:
        the parameters that take what a schema has validated as a dict.
    """
    own = [n for n, each in enumerate(parameters) if not _is_filled(each, cord.path)]
    if len(own) != 1 or parameters[own[0]].default is not inspect.Parameter.empty:
        return set()
    parameter = parameters[own[0]]
    is_object = (typing.get_origin(parameter.annotation) or parameter.annotation) in _OBJECTS
    has_schema = cord.input_schema is not None and (is_object or parameter.annotation is Any)
    if has_schema or is_object:
        schema = cord.input_schema if has_schema else parameter.annotation
        parameters[own[0]] = parameter.replace(annotation=Annotated[schema, Body()])
    return {parameter.name} if has_schema and is_object else set()


def _is_filled(parameter: inspect.Parameter, path: str) -> bool:
    """Say whether a parameter is filled by something else than the body."""
    is_own = is_stream(parameter.annotation) or parameter.annotation in (Request, Response)
    return is_own or re.search(rf"{{{parameter.name}[:}}]", path) is not None


def _emits(cord: Cord, returns: Any) -> bool:
    """Say whether what a cord yields is known to be events, before the first one."""
    if cord.content_type in _JSON or cord.content_type == _TEXT:
        return True
    return cord.content_type in (None, SSE) and item_type(returns) not in _UNSAID


def _dressed(
    call: Callable[..., Any], function: Callable[..., Any], parameters: list[inspect.Parameter], returns: Any
) -> Callable[..., Any]:
    """Return a method with the name and the signature of the function that it calls, and of its own kind."""
    if inspect.iscoroutinefunction(call):

        async def method(self: ChuteApp, **given: Any) -> Any:
            return await call(self, given)

    elif inspect.isgeneratorfunction(call):

        def method(self: ChuteApp, **given: Any) -> Any:  # type: ignore[misc]
            return (yield from call(self, given))

    else:

        def method(self: ChuteApp, **given: Any) -> Any:  # type: ignore[misc]
            return call(self, given)

    named = [
        each.replace(kind=each.KEYWORD_ONLY) if each.kind is each.POSITIONAL_OR_KEYWORD else each for each in parameters
    ]
    own = inspect.Parameter("self", inspect.Parameter.POSITIONAL_OR_KEYWORD)
    method.__name__, method.__qualname__ = function.__name__, function.__qualname__
    method.__doc__, method.__module__ = function.__doc__, function.__module__
    method.__annotations__ = {each.name: each.annotation for each in parameters}
    if returns is not inspect.Parameter.empty:
        method.__annotations__["return"] = returns
    # Not checked by `Signature`: what stands in a wrong order, `inspect_endpoint` refuses in its own words.
    signature = inspect.Signature([own, *named], __validate_parameters__=False)
    method.__signature__ = signature  # type: ignore[attr-defined]
    return method


class _Run:
    """Run one cord for the jobs of its endpoint.

    Args:
        dumped: the parameters that take a validated model as a dict.
    """

    def __init__(self, chute: Any, cord: Cord, dumped: set[str]) -> None:
        self._chute = chute
        self._cord = cord
        self._function = cord.function
        self._content_type = cord.content_type
        self._dumped = dumped

    async def emit(self, app: ChuteApp, given: dict[str, Any]) -> None:
        """Emit what an `async` cord yields, from where it runs."""
        mine = self._taken(given)
        mine.pop(_STREAM, None)
        await app.home.run(self._emit_at_home(mine))

    def emit_sync(self, app: ChuteApp, given: dict[str, Any]) -> Generator[Any, None, Any]:
        """Yield what a `def` cord yields."""
        items = iter(self._function(self._chute, **self._dumped_of(given)))
        try:
            while True:
                try:
                    item = next(items)
                except StopIteration as stop:
                    return stop.value
                yield self._value(item)
        finally:
            close_now(items)

    async def answer(self, app: ChuteApp, given: dict[str, Any]) -> Any:
        """Answer with what an `async` cord returns, or with what it yields as it comes."""
        mine = self._taken(given)
        if inspect.isasyncgenfunction(self._function):
            return await stream_of(app.home.items(self._items(mine)), self._content_type)
        return await self._told(app, await app.home.run(_called(self._function, self._chute, mine)))

    def answer_sync(self, app: ChuteApp, given: dict[str, Any]) -> Any:
        """Do the same for a `def` cord; what of it is a loop's comes back to be awaited."""
        result = self._function(self._chute, **self._dumped_of(given))
        if isinstance(result, Response) or hasattr(result, "__aiter__"):
            return self._told(app, result)
        if is_iterator(result):
            return stream_of_sync(result, self._content_type)
        return typed(result, self._content_type)

    async def _told(self, app: ChuteApp, result: Any) -> Any:
        if isinstance(result, Response):
            return await passed_on(result, app.home, failing_of(self._cord.path, debug=app.is_debug))
        if is_iterator(result):
            result = _stepping(result)
        if hasattr(result, "__aiter__"):
            return await stream_of(app.home.items(result), self._content_type)
        return typed(result, self._content_type)

    def _taken(self, given: dict[str, Any]) -> dict[str, Any]:
        """Return arguments as they are used on the chute's loop."""
        return {name: crossed(value) for name, value in self._dumped_of(given).items()}

    def _dumped_of(self, given: dict[str, Any]) -> dict[str, Any]:
        return {
            name: value.model_dump() if name in self._dumped and isinstance(value, BaseModel) else value
            for name, value in given.items()
        }

    # On the chute's loop.

    async def _emit_at_home(self, given: dict[str, Any]) -> None:
        stream = _own_stream()
        assert stream is not None
        items = self._items(given)
        try:
            async for item in items:
                pauses = isinstance(item, Pause)
                rest = asyncio.sleep(item.for_s) if pauses else stream.begin_aemit(self._value(item))
                if rest is not None:
                    await rest
        except Cancelled:  # the job's end is about to cancel this task as well: not in the midst of its cleanup
            await asyncio.sleep(_CANCEL_S)
            raise
        finally:
            await close(items)

    def _items(self, given: dict[str, Any]) -> AsyncIterator[Any]:
        named = {name: OwnLoopStream.of(v) if isinstance(v, Stream) else v for name, v in given.items()}
        if inspect.isasyncgenfunction(self._function):
            items: AsyncIterator[Any] = self._function(self._chute, **named)
            return items
        return _gone_through(_called(self._function, self._chute, named))

    def _value(self, item: Any) -> Any:
        """Return what a cord yields as an event's value: Chutes' own are text, of JSON where the cord says so."""
        if isinstance(item, bytes) and self._content_type == _TEXT:
            return item.decode(errors="replace")
        if isinstance(item, str | bytes) and self._content_type in _JSON:
            try:
                return from_json(item)
            except ValueError:  # text after all
                return item
        return item


async def _called(function: Callable[..., Any], chute: Any, given: dict[str, Any]) -> Any:
    """Call a function on the chute's loop, where its job's stream is another one."""
    _own_stream()
    named = {name: OwnLoopStream.of(value) if isinstance(value, Stream) else value for name, value in given.items()}
    result = function(chute, **named)
    while inspect.isawaitable(result):
        result = await result
    return result


async def _gone_through(coroutine: Any) -> AsyncIterator[Any]:
    """Go through what a coroutine returns."""
    items = await coroutine
    async for item in items if hasattr(items, "__aiter__") else _stepping(items):
        yield item


async def _stepping(items: Iterator[Any]) -> AsyncIterator[Any]:
    """Go through a blocking iterator on the chute's loop, which is there to be blocked."""
    for item in items:
        yield item


def _own_stream() -> OwnLoopStream | None:
    """Make the job's stream one for this loop; None in a session, which is no job."""
    try:
        stream = OwnLoopStream.of(current_stream())
    except LookupError:
        return None
    enter_stream(stream)
    return stream


async def _finished(result: Any) -> None:
    await result
