"""Speak WebSocket on a connection that HTTP hands over: https://www.rfc-editor.org/rfc/rfc6455.

A client is bounded in all that it can make the server hold or do: what it sends is read a little at a time, and no
further than the app has taken it; a message has as much time as a body, and its bytes are counted with those of bodies;
of pings only what the client reads is answered. It is asked for a sign of life every `heartbeat_s`, and has as long to
give it. Whoever breaks the protocol is told why by the code of its close frame, and its app hears no more of it.

Nothing is compressed: a client's compressor takes 41 kB, where all else of an idle one takes 21 (measured), what goes
to many would have to be compressed for each, and images and sound do not get smaller.

Divergence: not uvicorn's protocol. It keeps all pongs that the client does not read, has a client whose messages the
app does not take die for want of its pong, which is not read either, logs tracebacks of bad frames, and ends the
connections of apps that have failed, or returned, without a word.
"""

import asyncio
import base64
import binascii
import hashlib
import logging
import random
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import quote

from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Scope
from uvicorn.protocols.http.httptools_impl import HEADER_RE, HEADER_VALUE_RE, STATUS_LINE

from ..budget import Budget, Share
from ..errors import SHUTTING_DOWN, ErrorReport, PayloadTooLarge, StreamAppError, describe
from ..http.call import payer_in
from ..process.logs import logger
from ..sockets.wire import BINARY, CLOSE, PING, PONG, TEXT, close_frame, frame
from .connections import (
    BODY_BYTES,
    BODY_S,
    LEAVING_S,
    Address,
    Connections,
    Fault,
    Standing,
    descriptor_of,
    raw_answer,
    shut_down,
)
from .incoming import ABNORMAL, TOO_BIG, BadFrame, Incoming, close_in, is_close_code, text_in

if TYPE_CHECKING:
    from uvicorn.server import ServerState

#: the code with which connections are closed when the server ends
DRAINING = 1012
_TOO_SLOW, _INTERNAL_ERROR, _TRY_AGAIN = 1008, 1011, 1013
_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
# What of a client waits until the app takes it, and how much of it is taken apart before others have their turn.
_MAX_UNREAD, _MAX_UNREAD_BYTES = 64, 64 * 1024
_FRAMES_AT_ONCE = 128
_SENT_AT_ONCE = 32  # messages of an app that waits for nothing, likewise
_MAX_EARLY_BYTES = 64 * 1024  # before the app has accepted
_UNCOUNTED_BYTES = 16 * 1024
_LATE_S = 1.0  # a beat that is so late shows that the loop was blocked, and nothing of the client

#: `asked`: the app has not answered; `refusing`: it does so by a response; `closing`: a close frame was sent; `over`:
#: nothing more is sent or heard
Phase = Literal["asked", "refusing", "open", "closing", "over"]


@dataclass(frozen=True, slots=True)
class Terms:
    """Hold what is the same for all WebSockets of a server.

    Attributes:
        budget: for the inputs of all requests.
        heartbeat_s: between two pings; and how long a client may take for the answer.
        send_timeout_s: how long it may take nothing of what it is sent.
        is_logged: each handshake has a line in the access log.
    """

    budget: Budget
    max_message_bytes: int
    heartbeat_s: float
    send_timeout_s: float
    is_logged: bool


@dataclass(frozen=True, slots=True)
class Handshake:
    """Hold what of a request's headers a WebSocket is opened by."""

    accept: bytes
    subprotocols: Sequence[str]

    @classmethod
    def of(cls, headers: Iterable[tuple[bytes, bytes]]) -> "Handshake | ErrorReport":
        """Read a request's headers; returns what to tell the client where they are none of a handshake."""
        keys, versions = _values(headers, b"sec-websocket-key"), _values(headers, b"sec-websocket-version")
        if versions != [b"13"]:
            message = "Expected the header Sec-WebSocket-Version: 13"
            return ErrorReport(426, "malformed_request", message, headers={"Sec-WebSocket-Version": "13"})
        if len(keys) != 1 or not _is_key(keys[0]):
            return ErrorReport(400, "malformed_request", "Expected one Sec-WebSocket-Key, of 16 bytes in base64")
        offered = b",".join(_values(headers, b"sec-websocket-protocol")).decode("latin-1").split(",")
        accept = base64.b64encode(hashlib.sha1(keys[0] + _GUID, usedforsecurity=False).digest())
        return cls(accept, [name.strip() for name in offered if name.strip()])


def _values(headers: Iterable[tuple[bytes, bytes]], name: bytes) -> list[bytes]:
    return [value.strip() for given, value in headers if given == name]


def _is_key(key: bytes) -> bool:
    try:
        return len(base64.b64decode(key, validate=True)) == 16
    except binascii.Error:
        return False


class SocketProtocol(asyncio.Protocol):
    """One WebSocket: a `Wire` for who sends, a `Guest` among the connections; on the event loop only.

    More than 15 attributes: what these two show of it.

    Args:
        scope: the handshake's.
        accept: what proves to the client that the handshake was read.
    """

    __slots__ = (
        *("address", "is_paused", "left_s", "on_ended", "on_writable", "phase", "scope", "transport"),
        *("_accept", "_connections", "_incoming", "_is_held", "_is_scheduled", "_is_tls", "_loop", "_owed_pong"),
        *("_pulse", "_share", "_state", "_talk", "_terms", "_written"),
    )

    def __init__(
        self, terms: Terms, connections: Connections, state: "ServerState", *, scope: Scope, accept: bytes
    ) -> None:
        self.scope = scope
        self.phase: Phase = "asked"
        self.transport: asyncio.Transport
        self.address: Address | None = None
        self.left_s: float = BODY_S
        self.on_ended: Callable[[], None] | None = None
        self.on_writable: Callable[[], None] | None = None
        self.is_paused = False
        self._accept = accept
        self._connections = connections
        self._incoming = Incoming(terms.max_message_bytes)
        self._is_held = self._is_scheduled = False  # reading is paused; it will go on by itself
        self._is_tls = scope["scheme"] == "wss"  # before a proxy says otherwise
        self._loop = asyncio.get_running_loop()
        self._owed_pong: bytes | None = None
        self._pulse: Pulse | None = None
        self._share: Share | None = None
        self._state = state
        self._talk = Talk(self)
        self._terms = terms
        self._written = 0

    def begin(self, transport: asyncio.Transport, app: ASGIApp, early: bytes) -> None:
        """Ask the app; what the client has sent behind its handshake is kept for when that has accepted."""
        self.transport = transport
        transport.set_protocol(self)
        self._state.connections.add(self)  # type: ignore[arg-type]  # uvicorn names its own classes
        task = self._loop.create_task(self._talk.run(app))
        self._state.tasks.add(task)
        task.add_done_callback(self._state.tasks.discard)
        if early:
            self.data_received(early)

    # What comes

    def data_received(self, data: bytes) -> None:
        """Take what the client has sent."""
        if self.phase in ("refusing", "over"):
            return
        self.left_s = min(self.left_s + len(data) / BODY_BYTES, BODY_S)
        self._incoming.feed(data)
        self._read()

    def _read_on(self) -> None:
        self._is_scheduled = False
        if self.phase != "over":
            self._read()

    def _read(self) -> None:
        """Take apart what has come, until the app has enough to do, or it is the turn of others."""
        is_more = False
        try:
            if self.phase in ("open", "closing"):
                is_more = self._take_apart()
            self._pay()
        except BadFrame as bad:
            return self.fail(bad.code, bad.reason)
        if self.phase == "over":
            return
        if is_more:
            self._read_soon()
        is_early = self.phase == "asked" and self._incoming.held_bytes > _MAX_EARLY_BYTES
        self._hold(is_more or is_early or (self._talk.is_full and self.phase == "open"))
        if not self._incoming.is_between:
            self._connections.wait_for(self)

    def _take_apart(self) -> bool:
        """Hear some frames; returns whether there may be more."""
        for _ in range(_FRAMES_AT_ONCE):
            if (self._talk.is_full and self.phase == "open") or (came := self._incoming.take()) is None:
                return False
            self._hear(*came)
            if self.phase == "over":
                return False
        return True

    def _hear(self, opcode: int, content: bytes) -> None:
        if opcode == PING:
            self._pong(content)
        elif opcode == PONG:
            if self._pulse is not None:
                self._pulse.hear(content)
        elif opcode == CLOSE:
            code, reason = close_in(content)
            if self.phase == "open":
                self._write(frame(CLOSE, content[:2]))
                self._talk.end(code, reason)
            self._part()
        elif opcode:
            self.left_s = BODY_S
            if self.phase == "open":
                named: dict[str, Any] = {"text": text_in(content)} if opcode == TEXT else {"bytes": content}
                self._talk.hear({"type": "websocket.receive", **named}, len(content))

    def _pong(self, content: bytes) -> None:
        """Answer a ping; where the client does not read only the newest, when it does again."""
        if self.phase != "open":
            return
        if self.is_paused:
            self._owed_pong = content
        else:
            self._write(frame(PONG, content))

    def _pay(self) -> None:
        """Count what is held of the client, with the bodies of requests."""
        held = self._incoming.held_bytes + self._talk.unread_bytes
        if held <= _UNCOUNTED_BYTES:
            if self._share is not None:
                self._share.let_go(self)
                self._share = None
            return
        self._share = self._share or self._terms.budget.share(payer_in(self.scope), self)
        if held > self._share.size:
            try:
                self._share.take(held - self._share.size)
            except StreamAppError as error:
                code = TOO_BIG if isinstance(error, PayloadTooLarge) else _TRY_AGAIN
                raise BadFrame(code, str(error)) from None

    def _hold(self, is_held: bool) -> None:
        if is_held == self._is_held or self.transport.is_closing():
            return
        self._is_held = is_held
        if is_held:
            self.transport.pause_reading()
        else:
            self.transport.resume_reading()

    def _read_soon(self) -> None:
        if not self._is_scheduled:
            self._is_scheduled = True
            self._loop.call_soon(self._read_on)

    def go_on(self) -> None:
        """Read on, where that was held up until the app had taken some."""
        if self._share is not None:
            self._pay()
        if self._is_held:
            self._read_soon()

    # What is sent

    @property
    def is_open(self) -> bool:
        """Say whether what is sent may still arrive."""
        return self.phase == "open"

    @property
    def unsent_bytes(self) -> int:
        """Return how much waits here for the client to take it."""
        is_gone = self.phase == "over" and self.transport.is_closing()  # which may not even be asked
        return 0 if is_gone else self.transport.get_write_buffer_size()

    @property
    def taken_bytes(self) -> int:
        """Return how much the client has taken in all."""
        return self._written - self.unsent_bytes

    def send_frame(self, frame: bytes) -> None:
        """Write a whole message that is framed already; nothing happens where the WebSocket is not open."""
        if self.phase == "open":
            self._write(frame)

    def _write(self, data: bytes) -> None:
        self._written += len(data)
        self.transport.write(data)

    def pause_writing(self) -> None:
        """Hold writers back."""
        self.is_paused = True

    def resume_writing(self) -> None:
        """Let writers go on."""
        self.is_paused = False
        if self._owed_pong is not None:
            owed, self._owed_pong = self._owed_pong, None
            self._pong(owed)
        self._talk.wake_writers()
        if self.on_writable is not None:
            self.on_writable()

    def accept(self, subprotocol: str | None, headers: Iterable[tuple[bytes, bytes]]) -> None:
        """Open it."""
        named = [(b"sec-websocket-protocol", subprotocol.encode("latin-1"))] if subprotocol else []
        own = [(b"upgrade", b"websocket"), (b"connection", b"Upgrade"), (b"sec-websocket-accept", self._accept), *named]
        self._write_head(101, [*own, *headers])
        self.phase = "open"
        self._pulse = Pulse(self, self._terms, self._loop)
        if self._incoming.held_bytes:
            self._read_soon()

    def refuse(self, report: ErrorReport) -> None:
        """Answer the handshake by an error."""
        self._log(report.status_code)
        self._write(raw_answer(report))
        self._part()

    def begin_refusal(self, status: int, headers: Iterable[tuple[bytes, bytes]]) -> None:
        """Answer the handshake by a response, whose body follows."""
        self._write_head(status, [*headers, (b"connection", b"close")])
        self.phase = "refusing"

    def go_on_refusing(self, body: bytes, *, is_last: bool) -> None:
        """Send of the response's body."""
        self._write(body)
        if is_last:
            self._part()

    def _write_head(self, status: int, headers: Iterable[tuple[bytes, bytes]]) -> None:
        lines = [STATUS_LINE[status]]
        for name, value in (*self._state.default_headers, *headers):
            if HEADER_RE.search(name) or HEADER_VALUE_RE.search(value):
                raise RuntimeError(f"Expected a header's name and value, got {name!r} and {value!r}")
            lines += [name, b": ", value, b"\r\n"]
        self._log(status)
        self._write(b"".join([*lines, b"\r\n"]))

    def _log(self, status: int) -> None:
        """Log the handshake, without its query, where keys stand."""
        if self._terms.is_logged:
            host, port = self.scope.get("client") or ("", 0)
            line = '%s:%d - "WebSocket %s" %d'
            logging.getLogger("uvicorn.access").info(line, host, port, quote(self.scope["path"]), status)

    # The end

    def close(self, code: int = 1000, reason: str = "") -> None:
        """Send all that waits and then a close frame; nothing happens where one was sent."""
        if self.phase != "open":
            return
        self._write(close_frame(code, reason))
        self.phase = "closing"
        self._talk.end(code, reason, drops=True)
        self.left_s = LEAVING_S
        self._connections.wait_for(self)
        self.go_on()

    def abort(self) -> None:
        """End the connection now, whatever it still holds."""
        self.transport.abort()

    def fail(self, code: int, reason: str) -> None:
        """Close it without waiting for the client's close frame, nor reading anything else."""
        if self.phase == "open":
            self._write(close_frame(code, reason))
        self._talk.end(code, reason, drops=True)
        self.phase = "over"
        self._hold(False)
        if self._is_tls:
            self._part()
            return
        self._let_go()
        self._connections.linger(self.transport)

    def _part(self) -> None:
        """Close the connection; all that was written is sent first."""
        self.phase = "over"
        self.left_s = LEAVING_S
        self._connections.wait_for(self)
        self.transport.close()

    def shutdown(self) -> None:
        """End it, as uvicorn asks for when the server does: the time for a better end is over."""
        self.close(DRAINING, SHUTTING_DOWN)
        self.transport.close()

    def eof_received(self) -> None:
        """Close: a client that sends no more has left."""

    def connection_lost(self, exc: Exception | None) -> None:
        """End it; for the client also where a child of the app's holds a copy of the socket."""
        if not self._is_tls:  # there the socket may be closed already, and its number another's
            shut_down(self.descriptor)
        self._talk.end(ABNORMAL, "")
        self.phase = "over"
        self._let_go()

    def _let_go(self) -> None:
        self._connections.leave(self)
        self._state.connections.discard(self)
        if self._pulse is not None:
            self._pulse.stop()
        if self._share is not None:
            self._share.let_go(self)
        if self.is_paused:  # nobody else says so any more
            self.resume_writing()

    # Among the connections

    @property
    def standing(self) -> Standing:
        """Say what is to come next, and from whom."""
        if self.phase in ("closing", "over"):
            return "held" if self.unsent_bytes else "sending"
        if self._is_held:
            return "held"
        return "answered" if self._incoming.is_between or self.phase in ("asked", "refusing") else "sending"

    def give_up(self) -> Fault:
        """End it: what it owes has not come in time."""
        if self.phase != "open":
            self.abort()
            return None
        self.fail(_TOO_SLOW, "the message came to a standstill; send it faster, or in smaller ones")
        return "too late"

    def make_way(self) -> None:
        """End it at once, in favour of another."""
        self.abort()

    @property
    def owes_pong(self) -> bool:
        """Say whether the client could have answered a ping: it is read, and not in the midst of a large frame."""
        return not self._is_held and self._incoming.is_between

    @property
    def descriptor(self) -> int:
        """Return the socket's number, -1 when it is closed."""
        return descriptor_of(self.transport)

    @property
    def is_answering(self) -> bool:
        """Say whether the server has to wait for it: until the connection is gone, which over TLS both have to end."""
        return True

    @property
    def is_sending(self) -> bool:
        """Say whether all that is waited for is the client's."""
        return self.phase in ("closing", "over")


class Pulse:
    """Ask a client for signs of life, from the opening of its WebSocket on; drop one that gives none.

    One that is too far behind to have been asked has to take something in `send_timeout_s`.
    """

    __slots__ = ("_asked", "_beats", "_due", "_loop", "_socket", "_taken", "_taken_at", "_terms", "_timer")

    def __init__(self, socket: SocketProtocol, terms: Terms, loop: asyncio.AbstractEventLoop) -> None:
        self._socket = socket
        self._terms = terms
        self._loop = loop
        self._beats = 0
        self._asked: bytes | None = None  # what its pong has to say
        self._taken, self._taken_at = 0, time.monotonic()
        self._wait(terms.heartbeat_s * (1 + random.random()) / 2)  # those that came together are not asked together

    def hear(self, pong: bytes) -> None:
        """Take the answer that is waited for; anybody may send other pongs."""
        if pong == self._asked:
            self._asked = None

    def stop(self) -> None:
        """Ask no more."""
        self._timer.cancel()

    def _wait(self, wait_s: float) -> None:
        self._due = time.monotonic() + wait_s
        self._timer = self._loop.call_later(wait_s, self._beat)

    def _beat(self) -> None:
        socket, now = self._socket, time.monotonic()
        is_late = now - self._due > _LATE_S
        if socket.taken_bytes != self._taken or is_late:
            self._taken, self._taken_at = socket.taken_bytes, now
        if self._asked is not None and socket.is_open and socket.owes_pong and not is_late:
            return socket.fail(_INTERNAL_ERROR, f"a ping had no answer for {self._terms.heartbeat_s:g} s")
        if socket.unsent_bytes and now - self._taken_at > self._terms.send_timeout_s:
            return socket.abort()
        if self._asked is None and not socket.unsent_bytes:
            self._beats += 1
            self._asked = b"%d" % self._beats
            socket.send_frame(frame(PING, self._asked))
            self._taken = socket.taken_bytes
        self._wait(self._terms.heartbeat_s)


class Talk:
    """Have the app hear and say by ASGI what there is of a WebSocket.

    Attributes:
        unread_bytes: what the app has not taken.
    """

    __slots__ = ("_end", "_heard", "_readers", "_sent", "_socket", "_writers", "unread_bytes")

    def __init__(self, socket: SocketProtocol) -> None:
        self._socket = socket
        self._heard: list[tuple[Message, int]] = [({"type": "websocket.connect"}, 0)]
        self._end: Message | None = None
        self._readers: list[asyncio.Future[None]] = []
        self._writers: list[asyncio.Future[None]] = []
        self._sent = 0
        self.unread_bytes = 0

    @property
    def is_full(self) -> bool:
        """Say whether the app has enough to take."""
        return self.unread_bytes >= _MAX_UNREAD_BYTES or len(self._heard) >= _MAX_UNREAD

    def hear(self, message: Message, size: int) -> None:
        """Tell the app something."""
        self._heard.append((message, size))
        self.unread_bytes += size
        _wake(self._readers)

    def end(self, code: int, reason: str, *, drops: bool = False) -> None:
        """Tell the app that it is over, by the first reason that there is.

        Args:
            drops: what it has not taken is not worth taking.
        """
        if self._end is not None:
            return
        self._end = {"type": "websocket.disconnect", "code": code, "reason": reason}
        if drops:
            self._heard.clear()
            self.unread_bytes = 0
        _wake(self._readers)
        if self._socket.on_ended is not None:
            self._socket.on_ended()

    def wake_writers(self) -> None:
        """Let them look again whether they may go on."""
        _wake(self._writers)

    async def run(self, app: ASGIApp) -> None:
        """Run the app, and end what it has left open."""
        socket = self._socket
        try:
            await app(socket.scope, self.receive, self.send)
        except asyncio.CancelledError:  # the server has not waited for it any longer
            socket.close(DRAINING, SHUTTING_DOWN)
        except BaseException:  # the app's own error, or that of middleware around it
            logger.exception("the WebSocket %s failed", quote(socket.scope["path"]))
            socket.close(_INTERNAL_ERROR, "the server failed")
        else:
            socket.close()
        if socket.phase == "asked":
            socket.refuse(describe(HTTPException(500, "the WebSocket was not answered")))
        elif socket.phase == "refusing":
            socket.abort()

    async def receive(self) -> Message:
        """Return what is next; at the end, as often as it is asked for, that."""
        while not self._heard:
            if self._end is not None:
                return {**self._end}
            await _waken(self._readers)
        message, size = self._heard.pop(0)
        self.unread_bytes -= size
        self._socket.go_on()
        return message

    async def send(self, message: Message) -> None:
        """Do what the app says.

        Raises:
            ConnectionError: the WebSocket is over, or has never been open.
        """
        socket, kind = self._socket, message["type"]
        self._sent += 1
        if self._sent % _SENT_AT_ONCE == 0:
            await asyncio.sleep(0)
        while socket.is_paused:
            await _waken(self._writers)
        if kind == "websocket.send" and socket.phase == "open":
            text = message.get("text")
            content = message["bytes"] if text is None else text.encode()
            socket.send_frame(frame(BINARY if text is None else TEXT, content))
        elif socket.phase in ("closing", "over"):
            if kind != "websocket.close":
                raise ConnectionAbortedError("the WebSocket is closed")
        elif kind == "websocket.close":
            self._close(message.get("code", 1000), message.get("reason") or "")
        elif socket.phase == "asked" and kind == "websocket.accept":
            socket.accept(message.get("subprotocol"), message.get("headers", ()))
        elif socket.phase == "asked" and kind == "websocket.http.response.start":
            socket.begin_refusal(message["status"], message.get("headers", ()))
        elif socket.phase == "refusing" and kind == "websocket.http.response.body":
            socket.go_on_refusing(message.get("body", b""), is_last=not message.get("more_body", False))
        else:
            raise RuntimeError(f"Expected no {kind!r} of an app whose WebSocket is {socket.phase}")

    def _close(self, code: int, reason: str) -> None:
        if self._socket.phase == "asked":
            self._end = {"type": "websocket.disconnect", "code": ABNORMAL, "reason": ""}
            self._socket.refuse(describe(HTTPException(403, reason or "the app has refused the WebSocket")))
        elif not is_close_code(code):
            raise ValueError(f"Expected a close code of 1000 to 1003, 1007 to 1014 or 3000 to 4999, got {code!r}")
        else:
            self._socket.close(code, reason)


async def _waken(sleepers: list[asyncio.Future[None]]) -> None:
    """Sleep until woken."""
    sleeper = asyncio.get_running_loop().create_future()
    sleepers.append(sleeper)
    try:
        await sleeper
    finally:
        if sleeper in sleepers:
            sleepers.remove(sleeper)


def _wake(sleepers: list[asyncio.Future[None]]) -> None:
    for sleeper in sleepers:
        if not sleeper.done():
            sleeper.set_result(None)
    sleepers.clear()
