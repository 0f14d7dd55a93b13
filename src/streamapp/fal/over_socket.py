"""Answer requests that come over one WebSocket: `/ws/{owner}/{app}[/path]`, as `ws.fal.run` has it.

Each message is the body of a request to what is at `/run/{owner}/{app}[/path]`, and is answered as by HTTP: a `start`
with status and headers, the body in pieces as they come, an `end`. They are answered in order, one at a time; the
client may send the next ones meanwhile. What is behind the server's guards is called again for each, with the caller
of the handshake. When the client leaves, the request under way hears of it as by HTTP, and the others are dropped.

Source: https://docs.fal.ai/model-apis/model-endpoints/websockets, and `ws` of `fal.apps` of the package `fal`.
"""

import asyncio
import json
import re
import time
from collections import deque
from collections.abc import Collection, Iterable
from contextlib import suppress
from functools import partial

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ..budget import Budget
from ..errors import SHUTTING_DOWN, StreamAppError, Unavailable, describe
from ..http.call import header_in, nameless_in, payer_in
from ..http.connection import TRANSPORT_EXTENSION
from ..http.middleware import BodyLimit, RequestId, UnhandledErrors, refuse
from ..runtime import Runtime
from ..sockets.wire import Wire, wire_of

_PATH = re.compile(r"/ws/([^/]+)/([^/]+)(/.*)?", re.DOTALL)
_SCHEMES = {"ws": "http", "wss": "https"}
# Of the handshake, or of one request alone.
_NOT_PASSED_ON = frozenset(
    {b"connection", b"upgrade", b"content-length", b"content-type", b"transfer-encoding", b"expect"}
    | {b"idempotency-key", b"last-event-id"}
)
# What was sent ahead of the answers; a client that is further ahead waits.
_MAX_AHEAD, _MAX_AHEAD_BYTES = 64, 1024 * 1024
_PIECE_BYTES = 256 * 1024  # clients refuse messages over 1 MiB
_CLOSE_S = 1.0


class OverSocket:
    """Lead the requests that come over WebSockets at `/ws/` to where those by HTTP go.

    Args:
        app_names: the apps that are served.
    """

    def __init__(self, app: ASGIApp, app_names: Collection[str], runtime: Runtime) -> None:
        self.app = app
        self._names = frozenset(app_names)
        self._runtime = runtime
        settings = runtime.settings
        told = UnhandledErrors(app, partial(describe, where="the server", debug=settings.debug))
        self._answering = RequestId(BodyLimit(told, settings.max_body_bytes, runtime.inputs))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer the requests of one socket, until its client leaves."""
        root = scope.get("root_path", "")
        match = _PATH.fullmatch(scope["path"].removeprefix(root)) if scope["type"] == "websocket" else None
        if match is None or match[2] not in self._names:
            return await self.app(scope, receive, send)
        request = _as_http(scope, f"{root}/run/{match[1]}/{match[2]}{match[3] or ''}")
        requests = _Requests(self._answering, request, receive, send, wire_of(scope), self._runtime.inputs)
        places = self._runtime.places
        try:
            network = nameless_in(scope)
            places.take(requests, app=match[2], kind="websocket", network=network, end=requests.see_off)
        except Unavailable as error:
            return await refuse(describe(error), {}, scope, receive, send)
        try:
            await receive()  # that it connects
            await send({"type": "websocket.accept"})
            await requests.answer()
        finally:
            places.leave(requests)


def _as_http(scope: Scope, path: str) -> Scope:
    """Return a request's scope, but for its body, of a handshake's."""
    headers = [(name, value) for name, value in scope["headers"] if not _is_the_sockets(name)]
    return {
        **{name: scope[name] for name in scope if name not in ("subprotocols", "raw_path")},
        "type": "http",
        "method": "POST",
        "scheme": _SCHEMES[scope.get("scheme", "ws")],
        "path": path,
        "headers": [*headers, (b"content-type", b"application/json")],
        "extensions": {TRANSPORT_EXTENSION: None},  # it is not this request's to end
    }


def _is_the_sockets(name: bytes) -> bool:
    return name in _NOT_PASSED_ON or name.startswith(b"sec-websocket-")


class _Requests:
    """Answer what one socket brings.

    Args:
        budget: for the inputs of all requests, in which those that wait count.
    """

    def __init__(
        self, app: ASGIApp, scope: Scope, receive: Receive, send: Send, wire: Wire | None, budget: Budget
    ) -> None:
        self._app = app
        self._scope = scope
        self._receive = receive
        self._send = send
        self._wire = wire
        self._ahead = deque[bytes]()
        self._share = budget.share(payer_in(scope), self)
        self._has_changed = asyncio.Event()
        self._has_room = asyncio.Event()
        self._has_left = asyncio.Event()
        self._closing: tuple[int, str] | None = None

    def see_off(self, code: int = 1012, reason: str = SHUTTING_DOWN) -> None:
        """Answer no request after the one under way, and close the socket."""
        self._closing = self._closing or (code, reason)
        self._has_changed.set()

    async def answer(self) -> None:
        """Answer one after another; return when the client has left, is seen off, or an answer broke off."""
        reading = asyncio.create_task(self._read())
        try:
            while await self._has_next():
                if not await self._answer_next():
                    self.see_off(1011, "the answer broke off")
            if self._closing is not None:
                await self._close(*self._closing)
        finally:
            reading.cancel()
            self._share.let_go(self)

    async def _read(self) -> None:
        """Read ahead, as far as that goes: who waits for answers may have left."""
        while self._put(await self._receive()):
            while len(self._ahead) >= _MAX_AHEAD or self._share.size > _MAX_AHEAD_BYTES:
                self._has_room.clear()
                await self._has_room.wait()
        self._leave()

    def _put(self, message: Message) -> bool:
        """Have a request wait for its turn; False where this is none, as the client has left."""
        if message["type"] != "websocket.receive":
            return False
        text = message.get("text")
        body = text.encode() if text is not None else message["bytes"]
        try:
            self._share.take(len(body))
        except StreamAppError:
            self.see_off(1013, "the inputs of other requests leave no room for it; send it again later")
        if self._closing is None:
            self._ahead.append(body)
            self._has_changed.set()
        return True

    @property
    def _is_over(self) -> bool:
        return self._closing is not None or self._has_left.is_set()

    def _leave(self) -> None:
        self._has_left.set()
        self._has_changed.set()

    async def _deliver(self, message: Message) -> None:
        """Send, as a server does by HTTP: without an error where the client has left."""
        if not self._has_left.is_set():
            try:
                await self._send(message)
            except OSError:
                self._leave()

    async def _has_next(self) -> bool:
        """Wait for the next request; False when no more is to be answered."""
        while not self._ahead and not self._is_over:
            self._has_changed.clear()
            await self._has_changed.wait()
        return not self._is_over

    async def _answer_next(self) -> bool:
        """Answer the first that waits; return whether wholly. Who reads its body is who keeps it."""
        waiting = [self._ahead.popleft()]
        answer = _Answer(self._deliver)
        await self._app(_one(self._scope, len(waiting[0])), partial(self._receive_one, waiting), answer.send)
        self._take(waiting)
        return answer.is_whole

    async def _receive_one(self, waiting: list[bytes]) -> Message:
        if waiting:
            return {"type": "http.request", "body": self._take(waiting), "more_body": False}
        await self._has_left.wait()
        return {"type": "http.disconnect"}

    def _take(self, waiting: list[bytes]) -> bytes:
        """Return a body that waits, which does not count here any more; nothing where it was taken."""
        body = waiting.pop() if waiting else b""
        self._share.give_back(len(body))
        self._has_room.set()
        return body

    async def _close(self, code: int, reason: str) -> None:
        """Close the socket, at once where its client does not read."""
        try:
            async with asyncio.timeout(_CLOSE_S):
                await self._deliver({"type": "websocket.close", "code": code, "reason": reason})
        except TimeoutError:
            if self._wire is not None:
                self._wire.abort()


def _one(scope: Scope, size: int) -> Scope:
    """Return the scope of one of a socket's requests, whose body has so many bytes."""
    return {
        **scope,
        "headers": [*scope["headers"], (b"content-length", b"%d" % size)],
        "extensions": {**scope["extensions"]},
        "state": {**scope.get("state", {})},
    }


class _Answer:
    """Write one answer to the socket as it comes."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self._began_at = time.monotonic()
        self._first_byte_s = 0.0
        self._status = 0
        self._request_id = ""
        self._is_text = False
        self.is_whole = False

    async def send(self, message: Message) -> None:
        """Take one message of HTTP's."""
        if message["type"] == "http.response.start":
            await self._start(message)
        elif message["type"] == "http.response.body":
            await self._write(message.get("body", b""), is_last=not message.get("more_body", False))

    async def _start(self, message: Message) -> None:
        headers = list(message.get("headers", ()))
        self._status = message["status"]
        self._request_id = (header_in(headers, b"x-fal-request-id") or b"").decode("latin-1")
        self._first_byte_s = time.monotonic() - self._began_at
        self._is_text = _is_text(header_in(headers, b"content-type") or b"")
        await self._tell("start", headers=_named(headers))

    async def _write(self, body: bytes, *, is_last: bool) -> None:
        while body:
            end = _PIECE_BYTES
            while end < len(body) and self._is_text and body[end] & 0xC0 == 0x80:  # amid a character
                end -= 1
            piece, body = body[:end], body[end:]
            await self._piece(piece)
        if is_last:
            self.is_whole = True
            await self._tell("end", time_to_first_byte_seconds=round(self._first_byte_s, 6))

    async def _piece(self, piece: bytes) -> None:
        """Send text as text, unless it could be taken for what is said of the answer."""
        with suppress(UnicodeDecodeError):
            if self._is_text and b'"request_id"' not in piece:
                return await self._send({"type": "websocket.send", "text": piece.decode()})
        await self._send({"type": "websocket.send", "bytes": piece})

    async def _tell(self, type: str, **told: object) -> None:
        said = {"type": type, "request_id": self._request_id, "status": self._status, **told}
        await self._send({"type": "websocket.send", "text": json.dumps(said)})


def _is_text(content_type: bytes) -> bool:
    kind = content_type.lower()
    is_utf8 = b"charset" not in kind or b"utf-8" in kind
    return is_utf8 and (kind.startswith(b"text/") or kind.partition(b";")[0].endswith(b"json"))


def _named(headers: Iterable[tuple[bytes, bytes]]) -> dict[str, str]:
    """Return headers by their names as they are usually written, each once."""
    told: dict[str, str] = {}
    for name, value in headers:
        usual = name.decode("latin-1").title()
        told[usual] = f"{told[usual]}, {value.decode('latin-1')}" if usual in told else value.decode("latin-1")
    return told
