"""Serve the methods that get their WebSocket themselves, `@websocket`, and stand around each of their sockets.

FastAPI fills the parameters. What this is about is that a session ends well whatever the code in it does: its place is
given back, a drain and whoever has an eye on it can end it, and the client is told why by the code of the close.
Leaving is no error: neither is what user code does with a socket whose client has gone. Code that does not hear of it,
as it neither reads nor sends, is cancelled half a minute later.

    1000        the code has returned, and has left the socket open
    1009        a message is larger than `max_message_bytes`
    1011        the code has raised; the log says what
    1012        the server is shutting down
    4000 + n    the code has raised an error of the caller's, with HTTP status n

Before the socket is accepted all of it is an HTTP answer in the one error shape.

Divergence: exception handlers that are registered on the FastAPI of `compile_app` are not asked: they answer by a
`Response`, which an open socket has no place for.
"""

import asyncio
import inspect
import time
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress
from typing import Any, TypeVar

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError, WebSocketRequestValidationError
from fastapi.routing import APIWebSocketRoute
from starlette.exceptions import HTTPException, WebSocketException
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from starlette.websockets import WebSocket, WebSocketDisconnect, WebSocketDisconnected

from ..app import enter_app
from ..errors import SHUTTING_DOWN, DefinitionError, Draining, StreamAppError, describe
from ..http.call import nameless_in
from ..http.handling import invalid_input
from ..http.middleware import refuse
from ..process.logs import logger
from ..runtime import Runtime, ServedApp
from ..session import SessionSpec
from .wire import Wire, cut_reason, size_of, wire_of

T = TypeVar("T")

#: in the scope of each socket: its `RawSession`
SESSION = "streamapp.raw_session"
# For a close where the server lends no wire: behind what a client does not take it is not sent.
_CLOSE_S = 0.5
_TURN_S = 0.001
_PATIENCE_S = 0.2  # after the drain's end, for code that hears of it only then
_UNHEARD_S = 30.0  # for code that neither reads nor sends to hear that its session is over


class RawSession:
    """Hold one WebSocket that user code has, from its handshake to its end; on the loop.

    Attributes:
        wire: what the server lends to write frames at once.
        is_over: nothing comes and goes any more, as either side has ended it.
        writers: called whenever the client has taken enough again, where there is a `wire`.
    """

    def __init__(self, scope: Scope, receive: Receive, send: Send, max_bytes: int) -> None:
        self.wire: Wire | None = wire_of(scope)
        self.writers: list[Callable[[], None]] = []
        self.is_over = False
        self.is_answered = False
        self._receive, self._send = receive, send
        self._max_bytes = max_bytes
        self._code = _Code()
        self._waiting: asyncio.Task[Any] | None = None
        self._is_connected = self._is_accepted = False
        self._end = (1006, "")
        self._turn_given = time.monotonic()
        self._closing: asyncio.Task[None] | None = None
        if self.wire is not None:
            self.wire.on_ended = self._code.watch

    async def receive(self) -> Message:
        """Return what comes next; what has ended the session from here is heard as the client's leaving."""
        if not self._is_connected:
            self._is_connected = True
            return {"type": "websocket.connect"}
        self._code.asked += 1
        message = await self.unless_over(self._receive)
        if message is not None and message["type"] == "websocket.receive":
            if size_of(message) <= self._max_bytes:
                return message
            self.end(1009, f"a message is larger than {self._max_bytes} bytes")
        elif message is not None:
            self._note_end(message.get("code", 1005), message.get("reason") or "")
        self._code.has_heard = True
        code, reason = self._end
        return {"type": "websocket.disconnect", "code": code, "reason": reason}

    async def unless_over(self, wait: Callable[[], Awaitable[T]]) -> T | None:
        """Wait for something; None as soon as the session is over."""
        if self.is_over:
            return None
        self._waiting = task = asyncio.current_task()
        try:
            return await wait()
        except asyncio.CancelledError:
            assert task is not None
            if not self.is_over or task.uncancel() > 0:  # it is somebody else's
                raise
            return None
        finally:
            self._waiting = None

    async def send(self, message: Message) -> None:
        """Send what user code says; to close once more is no error, to send anything else is the client's leaving."""
        kind = message["type"]
        self._code.asked += 1
        self._code.has_heard = self.is_over or kind == "websocket.close"
        if self.is_over:
            if kind == "websocket.close":
                return
            raise WebSocketDisconnect(*self._end)
        if kind == "websocket.close":
            message = {**message, "reason": cut_reason(message.get("reason") or "")}
        self.is_answered = True
        try:
            await self._send(message)
        except (OSError, RuntimeError) as error:
            if isinstance(error, RuntimeError) and not self._is_accepted:
                raise
            self._code.has_heard = True
            self._note_end(1006, "")  # by uvicorn's word, too, which has closed it for a ping or a bad frame
            if kind != "websocket.close":
                raise WebSocketDisconnect(*self._end) from None
        match kind:
            case "websocket.accept":
                self._accept()
            case "websocket.close":
                self._note_end(message.get("code", 1000), message["reason"])
            case "websocket.http.response.body" if not message.get("more_body", False):
                self._note_end(1006, "")
            case "websocket.send":
                await self._give_turn()

    async def _give_turn(self) -> None:
        """Let others have the loop, once a millisecond: who sends to a client that takes all is never made to wait."""
        now = time.monotonic()
        if now - self._turn_given > _TURN_S:
            self._turn_given = now
            await asyncio.sleep(0)

    def _accept(self) -> None:
        self._is_accepted = True
        if self.wire is not None:
            self.wire.on_writable = self._tell_writers

    def _tell_writers(self) -> None:
        for write in self.writers[:]:
            write()

    def end(self, code: int, reason: str) -> None:
        """Close the socket; the code that has it hears that the client has left. Again is without effect."""
        if self.is_over:
            return
        self._note_end(code, cut_reason(reason))
        if self._waiting is not None:
            self._waiting.cancel()
        if self._is_accepted and self.wire is not None:
            self.wire.close(*self._end)
        elif self._is_accepted:
            self._closing = asyncio.create_task(self._close())
            self._code.watch()

    def _note_end(self, code: int, reason: str) -> None:
        self.is_over, self._end = True, (code, reason)

    async def _close(self) -> None:
        code, reason = self._end
        # Nobody is there to read it; or user code has closed it meanwhile. A timeout is an OSError, too.
        with suppress(OSError, RuntimeError):
            async with asyncio.timeout(_CLOSE_S):
                await self._send({"type": "websocket.close", "code": code, "reason": reason})

    def cut(self) -> None:
        """Cancel the code that still has the socket; again is without effect."""
        self._code.cut()

    def was_cut(self) -> bool:
        """Say whether it was this that has cancelled the code, and nobody else."""
        return self._code.was_cut()

    async def finish(self) -> None:
        """Close what user code has left open, when it has returned."""
        self._code.leave()
        if not self.is_over and self._is_accepted:
            self.end(1000, "")
        if self._closing is not None:
            await asyncio.wait({self._closing}, timeout=_CLOSE_S)


class _Code:
    """Stand for the code that has a session, in the task that makes this.

    Where it never asks for what would tell it that the session is over it is cut: it would keep the place of a client
    that has gone for ever.
    """

    def __init__(self) -> None:
        self.asked = 0  # times that it has read or sent
        self.has_heard = False
        self._task = asyncio.current_task()
        self._is_cut = False
        self._timer: asyncio.TimerHandle | None = None

    def watch(self) -> None:
        """See to it that it hears of the end, which has come."""
        if self._task is not None:
            self._timer = self._task.get_loop().call_later(_UNHEARD_S, self._look, self.asked)

    def _look(self, asked: int) -> None:
        if asked != self.asked:  # it goes through what came before the end
            self.watch()
        elif not self.has_heard:
            self.cut()

    def cut(self) -> None:
        """Cancel it, once."""
        if not self._is_cut:
            self._is_cut = self._task is not None and self._task.cancel()

    def was_cut(self) -> bool:
        """Say whether it was this that has cancelled it, and nobody else."""
        assert self._task is not None
        return self._is_cut and self._task.uncancel() == 0

    def leave(self) -> None:
        """Note that it has returned."""
        self._task = None
        if self._timer is not None:
            self._timer.cancel()


def session_of(socket: WebSocket) -> RawSession:
    """Return the session that a socket is of.

    Raises:
        DefinitionError: it is none that `@websocket` serves.
    """
    session = socket.scope.get(SESSION)
    if not isinstance(session, RawSession):
        raise DefinitionError(
            f'{socket.url.path}: only a socket of @streamapp.websocket("/path") joins a room; serve it by that'
        )
    return session


class RawEndpoint:
    """Serve one method of an app that gets its socket itself."""

    def __init__(self, runtime: Runtime, served: ServedApp, spec: SessionSpec) -> None:
        self._runtime = runtime
        self._served = served
        self._spec = spec

    def route(self, path: str, api: FastAPI) -> APIWebSocketRoute:
        """Return its route at one of its paths."""
        function = self._function()
        route = APIWebSocketRoute(path, function, name=self._spec.name, dependency_overrides_provider=api)
        route.app = _Around(route.app, self._runtime, self._served, self._spec)
        return route

    def _function(self) -> Callable[..., Coroutine[Any, Any, None]]:
        """Return a function with the signature from which FastAPI fills the method's own parameters."""
        method = self._spec.function.__get__(self._served.app)

        async def session(**filled: Any) -> None:
            await method(**filled)

        parameters = [p.replace(kind=inspect.Parameter.KEYWORD_ONLY) for p in self._spec.inputs.parameters]
        session.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        return session


class _Around:
    """Stand around each socket of one method: an ASGI app."""

    def __init__(self, app: ASGIApp, runtime: Runtime, served: ServedApp, spec: SessionSpec) -> None:
        self._app = app
        self._runtime = runtime
        self._served = served
        self._where = f"{spec.path} ({type(served.app).__name__}.{spec.name})"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one socket."""
        await receive()  # that there is a handshake
        session = RawSession(scope, receive, send, self._runtime.settings.max_message_bytes)
        refusal: BaseException | None = None
        try:
            self._enter(session, nameless_in(scope))
            await self._run(scope, session)
        except asyncio.CancelledError as error:
            if not session.was_cut():
                refusal = self._told(_own(error), session)
        except (Exception, SystemExit, KeyboardInterrupt) as error:  # the app's own code, which ends its session alone
            refusal = self._told(error, session)
        finally:
            self._runtime.places.leave(session)
        if session.is_answered and refusal is not None:
            session.end(*self._closing_for(refusal))
        await session.finish()
        if not session.is_answered:
            await self._refuse(refusal or _unanswered(session), scope, receive, send)

    def _enter(self, session: RawSession, network: str) -> None:
        runtime = self._runtime

        def see_off() -> None:
            session.end(1012, SHUTTING_DOWN)
            asyncio.get_running_loop().call_later(runtime.drain_left_s(_PATIENCE_S), session.cut)

        if not runtime.is_draining:
            runtime.start()
        runtime.places.take(session, app=self._served.name, kind="websocket", network=network, end=see_off)

    async def _run(self, scope: Scope, session: RawSession) -> None:
        ready = self._served.ready
        if not ready.done():
            await session.unless_over(lambda: asyncio.wait({asyncio.wrap_future(ready)}))
        if not session.is_over:
            ready.result()
            enter_app(self._served.app)
            # No handlers of exceptions: what the code raises is told here.
            own = {**scope, SESSION: session, "starlette.exception_handlers": ({}, {})}
            await self._app(own, session.receive, session.send)

    def _told(self, error: BaseException, session: RawSession) -> BaseException | None:
        """Return what the client is to hear of an error, and None of its own leaving; log what is the app's."""
        if _is_leaving(error, session):
            return None
        if isinstance(error, WebSocketRequestValidationError):
            return invalid_input(RequestValidationError(error.errors()))
        is_refusal = isinstance(error, StreamAppError) and error.status_code != StreamAppError.status_code
        if not is_refusal and not isinstance(error, HTTPException | WebSocketException):
            logger.error("the session %s failed", self._where, exc_info=error)
        return error

    def _closing_for(self, error: BaseException) -> tuple[int, str]:
        if isinstance(error, WebSocketException):
            return error.code, error.reason
        report = describe(error, where=f"the session {self._where}", debug=self._runtime.settings.debug)
        return 4000 + report.status_code if report.status_code < 500 else 1011, report.message

    async def _refuse(self, error: BaseException, scope: Scope, receive: Receive, send: Send) -> None:
        if isinstance(error, WebSocketException):
            error = HTTPException(403, error.reason or None)
        report = describe(error, where=f"the session {self._where}", debug=self._runtime.settings.debug)
        with suppress(OSError):  # the client has gone
            await refuse(report, {}, scope, receive, send)


def _unanswered(session: RawSession) -> StreamAppError | HTTPException:
    """Say why a socket is refused that user code has neither accepted nor closed."""
    return Draining(SHUTTING_DOWN) if session.is_over else HTTPException(403, "the session has not been accepted")


def _own(error: asyncio.CancelledError) -> asyncio.CancelledError:
    """Return what code has met by waiting for what was cancelled; raise it where the task itself is to end."""
    task = asyncio.current_task()
    assert task is not None
    if task.cancelling():
        raise error
    return error


def _is_leaving(error: BaseException, session: RawSession) -> bool:
    """Say whether an error only says that the session is over."""
    if isinstance(error, BaseExceptionGroup):
        return all(_is_leaving(each, session) for each in error.exceptions)
    return isinstance(error, WebSocketDisconnect) or (session.is_over and isinstance(error, WebSocketDisconnected))
