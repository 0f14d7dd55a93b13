"""Make an app of a chute: each cord becomes an endpoint, whose method calls the function with the chute as `self`.

Where a function runs: `def` ones in the inference thread, as those of any app; `async` ones, and all that they make,
on the chute's own loop (`home`). How a cord answers is decided here, by what it says and what its annotations say:

    yields values, or says JSON or text      a stream's events, as those of any endpoint
    yields what is not known before          the items as they come, in the form that the first one has (`answers`)
    returns                                  a value, or the `Response` that it made
"""

import collections.abc
import inspect
import re
import typing
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Any, ClassVar

from fastapi import Body
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
from ..errors import DefinitionError, WorkerStuck
from ..jobs.stream import Stream
from ..process.logs import logger
from ..runtime import running
from ..settings import current_settings
from .answers import LINES, SSE
from .cords import JSON, STREAM, TEXT, Cord, CordRun, called
from .crossed import crossed
from .home import Home

_END_S = 3.0  # for the thread to end; `teardown` has ten seconds
_UNSAID = (Any, str, bytes, object, inspect.Parameter.empty)
_OBJECTS = (dict, collections.abc.Mapping, collections.abc.MutableMapping)


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
    run = CordRun(chute, cord, dumped)
    call: Callable[..., Any]
    if yields and _emits(cord, returns):
        call = run.emit if is_async else run.emit_sync
        is_text = cord.content_type == TEXT
        media: Any = TEXT if is_text else LINES if cord.content_type in JSON else None
        mark = replace(mark, media_type=media, join=True if is_text else None)
        if is_async and not has_stream:
            parameters.append(inspect.Parameter(STREAM, inspect.Parameter.KEYWORD_ONLY, annotation=Stream))
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
        await app.home.run(called(socket.function, chute, mine))

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
    if cord.content_type in JSON or cord.content_type == TEXT:
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


async def _finished(result: Any) -> None:
    await result
