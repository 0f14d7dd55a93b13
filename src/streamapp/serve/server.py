"""Run a compiled app: a uvicorn server that owns its listening socket, lends its transports and drains.

uvicorn waits for open streams for ever, and runs the lifespan's shutdown only after that. Here the drain comes first,
while the socket still listens: new jobs are refused, readers that come back are served, running jobs end, every
stream gets its terminal event, and readers that do not read are cut off.

Users may return responses of sse-starlette's, which is all that it is a dependency for: nothing here is made of it, and
it is loaded by whoever uses it. Importing it patches uvicorn so that its streams are cancelled as soon as a signal
arrives, without a terminal event. That is switched off when a drain begins; they are told when the drain has ended.
"""

import asyncio
import gc
import logging
import signal
import socket
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from functools import cached_property, partial
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

import httptools
import uvicorn
from fastapi import FastAPI
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware
from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle
from uvicorn.server import HANDLED_SIGNALS

from ..errors import SHUTTING_DOWN, MalformedRequest, RequestTimeout, StreamAppError, describe
from ..fal.api import FalHosts
from ..http.call import header_in
from ..http.connection import TRANSPORT_EXTENSION
from ..http.middleware import head_excess, refuse
from ..http.response import REMAINDER_EXTENSION
from ..http.sites import ASKED_HOST
from ..process.ending import LastResort, close_loop, end_process, leave_by
from ..process.forks import held_here, looping_here
from ..process.logs import logger
from ..process.threads import begin_in_own_thread, ends_within
from ..runtime import EXIT_STUCK
from ..sockets.wire import WIRE_EXTENSION
from .connections import (
    BODY_BYTES,
    BODY_S,
    HEAD_S,
    Address,
    Connections,
    Fault,
    Handshakes,
    Standing,
    descriptor_of,
    raise_descriptor_limit,
    raw_answer,
    shut_down,
)
from .websockets import DRAINING, Handshake, SocketProtocol, Terms

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from ..runtime import Runtime
    from ..settings import Settings

# How much unsent data the kernel takes before it calls a socket full: a reader that does not read holds 0.24 MB of
# stale bytes instead of 4; fast readers lose nothing (measured).
_NOTSENT_LOWAT = 16 * 1024
_BACKLOG = 2048
_MAX_HEAD_BYTES = 256 * 1024
_STALLED = (
    f"the request's body came to a standstill: less than {BODY_BYTES} bytes a second; send it faster, or put files at "
    "URLs"
)
_KEEPALIVE_S = 60
_STALL_S = 0.4
_TICK_S = 0.02
# After `drain_s`: for readers to take their last events, then for what is left of connections and tasks, and until the
# process ends whatever user code does.
_SEE_OFF_S = 0.5
_LEFT_S = 1.0
_END_S = 3.5
FORCED_END_S = 1.0
# How long the loop may keep the GIL while the inference thread waits for it, and the other way round. With Python's
# 5 ms, inference beside 300 viewers runs at two thirds of the speed that it has with this (measured).
_SWITCH_INTERVAL_S = 0.0005
# The events that a log keeps outlive the garbage collector's youngest generation, which with Python's 700 is full four
# times a second under 300 viewers; each time the loop stands for 1.4 ms, as all that the streams use has to be looked
# at. An app whose own cycles hold much memory can set less in its `setup`.
_YOUNG_OBJECTS = 10_000


class Flow(FlowControl):
    """Hold writers back as uvicorn does, with an event made when one has to wait: it takes 0.8 kB."""

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self.read_paused = self.write_paused = False
        self._writable: asyncio.Event | None = None

    async def drain(self) -> None:
        """Wait until the client has taken enough."""
        if self.write_paused:
            self._writable = self._writable or asyncio.Event()
            await self._writable.wait()

    def pause_writing(self) -> None:
        """Hold writers back."""
        self.write_paused = True

    def resume_writing(self) -> None:
        """Let writers go on."""
        self.write_paused = False
        if self._writable is not None:
            self._writable.set()
            self._writable = None


class LendingProtocol(HttpToolsProtocol):
    """Put the connection's transport into the scope, so that a response can end it without a final chunk."""

    # With two attributes more the instance's dictionary could not share its keys, and would take 1.3 kB.
    __slots__ = ("_connections", "_has_begun", "_head_bytes", "_is_in_head", "_terms", "address", "left_s", "opening")

    def __init__(self, connections: Connections, terms: Terms, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._connections = connections
        self._terms = terms
        self._is_in_head, self._head_bytes = False, 0
        self._has_begun = False  # a request, whose head is not whole yet
        self.address: Address | None = None
        self.left_s: float = 0
        self.opening: asyncio.Task[None] | None = None  # the handshake of TLS, until it has ended

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin, if there is a place; one of TLS has got its own before the handshake."""
        super().connection_made(transport)
        self.flow = Flow(transport)
        if self.config.is_ssl:
            return
        host = self.client[0] if self.client else ""
        if (refusal := self._connections.enter(self, host, self.descriptor)) is not None:
            self.server_state.connections.discard(self)
            transport.write(raw_answer(describe(refusal)))
            self._connections.linger(transport)

    def data_received(self, data: bytes) -> None:
        """Parse what came; refuse a request line, headers and trailers that do not end."""
        left: bytes | None = data
        while left is not None:
            left = self._parse(left)
        if self._is_in_head:
            self._head_bytes += len(data)
            if self._head_bytes > _MAX_HEAD_BYTES and not self.transport.is_closing():
                self.send_400_response(f"The request line and headers are over {_MAX_HEAD_BYTES} bytes.")

    def _parse(self, data: bytes) -> bytes | None:
        """Parse what came; returns what is to be read again, without an offer of another protocol."""
        try:
            super().data_received(data)
        except httptools.HttpParserUpgrade as offer:
            rest = data[offer.args[0] :]
            if self._should_upgrade():
                self._hand_over(rest)
                return None
            again = self._head_without_offer() + rest
            self.parser = httptools.HttpRequestParser(self)  # behind `Connection: close` the old one reads no more
            with suppress(AttributeError):  # as in uvicorn: httptools before 0.6.3
                self.parser.set_dangerous_leniencies(lenient_data_after_close=True)
            return again
        return None

    def _unsupported_upgrade_warning(self) -> None:
        """Have `_parse` go on in HTTP; called where the parser stops, as another protocol may follow."""
        if self._offers_other:
            raise  # by a name it would keep its own frame, and that this connection
        super()._unsupported_upgrade_warning()

    def handle_websocket_upgrade(self) -> None:
        """Have `_parse` go on by WebSocket; called where the parser stops."""
        raise

    def _should_upgrade(self) -> bool:
        """Say whether a WebSocket begins here; not behind a request whose answer still takes the connection."""
        is_asked = self.parser.get_method() == b"GET" and self.parser.get_http_version() == "1.1"
        return is_asked and not self.is_answering and self._get_upgrade() == b"websocket"

    def _hand_over(self, early: bytes) -> None:
        """Let a WebSocket have the connection and its place, or refuse what is no handshake."""
        handshake = Handshake.of(self.headers)
        try:
            url = httptools.parse_url(self.url)
        except httptools.HttpParserInvalidURLError:
            handshake = describe(MalformedRequest("the request's path cannot be read"))
        if not isinstance(handshake, Handshake):
            self.transport.write(raw_answer(handshake))
            self.transport.close()
            return
        path = url.path.decode("ascii")
        scope: Scope = {
            **self.scope,
            "type": "websocket",
            "asgi": {"version": self.asgi_version, "spec_version": "2.4"},
            "scheme": "wss" if self.config.is_ssl else "ws",
            "path": self.root_path + (unquote(path) if "%" in path else path),
            "raw_path": self.root_path.encode() + url.path,
            "query_string": url.query or b"",
            "subprotocols": handshake.subprotocols,
        }
        del scope["method"]
        opened = SocketProtocol(self._terms, self._connections, self.server_state, scope=scope, accept=handshake.accept)
        scope["extensions"] = {"websocket.http.response": {}, WIRE_EXTENSION: opened}
        self._connections.hand_over(self, opened)
        self.connections.discard(self)
        self.parser = None  # type: ignore[assignment]  # as uvicorn does: the two would keep each other
        opened.begin(self.transport, self.app, early)

    @property
    def _offers_other(self) -> bool:
        """Say whether the head that has just come offers what is not spoken here, such as HTTP/2 by `h2c`.

        Java's client does so with each request. The parser takes the body for that protocol's, and would drop it.
        """
        return self.parser.should_upgrade() and self.parser.get_method() != b"CONNECT" and not self._should_upgrade()

    def _head_without_offer(self) -> bytes:
        version = self.parser.get_http_version().encode()
        kept = [b"%b: %b\r\n" % pair for pair in self.headers if pair[0] != b"upgrade"]
        return b"%b %b HTTP/%b\r\n%b\r\n" % (self.parser.get_method(), self.url, version, b"".join(kept))

    def on_headers_complete(self) -> None:
        """Start the request, unless the parser is to read it again without an offer."""
        if self._offers_other:
            return
        self._is_in_head = self._has_begun = False
        self.left_s = BODY_S
        super().on_headers_complete()
        self.scope["headers"] = self.headers.copy()  # trailers still go into the list, and are no headers
        if self.scope["http_version"] == "1.0":
            self.cycle.send = partial(_send_without_chunks, self.cycle)  # type: ignore[method-assign]

    def on_chunk_header(self) -> None:
        """Begin a chunk of a body; behind the last one come trailers, which are kept like headers."""
        self._is_in_head, self._head_bytes = True, -_MAX_HEAD_BYTES  # what it came with can be as much, of a body

    def on_body(self, body: bytes) -> None:
        """Take some of a body: its chunk is not the last."""
        self._is_in_head = False
        self.left_s = min(self.left_s + len(body) / BODY_BYTES, BODY_S)
        super().on_body(body)

    def on_message_begin(self) -> None:
        """Start a request's scope."""
        self._is_in_head, self._head_bytes = True, 0
        self._has_begun, self.left_s = True, HEAD_S
        super().on_message_begin()
        extensions: dict[str, Any] = {TRANSPORT_EXTENSION: self.transport}
        self.scope["extensions"] = extensions

    def on_message_complete(self) -> None:
        """End a request's body."""
        if not self._offers_other:
            super().on_message_complete()

    def on_response_complete(self) -> None:
        """Go on with a request that came meanwhile, or wait for one; uvicorn sets a timer each time."""
        self.server_state.total_requests += 1
        self.left_s = self.timeout_keep_alive
        self._connections.wait_for(self)
        if self.transport.is_closing():
            return
        self.flow.resume_reading()
        if self.pipeline:
            self._start_asgi_task(*self.pipeline.pop())

    @property
    def standing(self) -> Standing:
        """Say what is to come next, and from whom."""
        cycle = self.cycle
        if self.pipeline or (self.is_answering and (cycle.response_started or not cycle.more_body)):
            return "answered"
        if self.is_answering and not self.transport.is_closing():
            return "held" if self.flow.read_paused or cycle.waiting_for_100_continue else "sending"
        return "held" if self.transport is not None and self.unsent_bytes else "silent"

    def give_up(self) -> Fault:
        """End it: what it owes has not come in time; 408 where a request has begun. Called again, end it at once."""
        if self.transport is None or self.transport.is_closing():
            self.make_way()
            return "silent" if self.transport is None else None
        if self._has_begun or self.is_answering:
            late = f"the request's head did not come within {HEAD_S} s" if self._has_begun else _STALLED
            self._part(RequestTimeout(late))
            return "too late"
        self.transport.close()
        return "silent" if self.cycle is None else None

    def _part(self, error: StreamAppError) -> None:
        """Tell the client an error, and end its request here; it may still send, and reads this only then."""
        self.transport.write(raw_answer(describe(error)))
        if self.config.is_ssl:
            self.transport.close()
            return
        self._connections.leave(self)
        super().connection_lost(ConnectionAbortedError())  # which leaves the transport open
        self._connections.linger(self.transport)

    def make_way(self) -> None:
        """End it at once, in favour of another."""
        if self.transport is not None:
            self.transport.abort()
        elif self.opening is not None:
            self.loop.call_soon(self.opening.cancel)  # not before it has begun: its socket would be left open

    def connection_lost(self, exc: Exception | None) -> None:
        """End the connection; for the client also where a child of the app's holds a copy of the socket."""
        self._connections.leave(self)
        if not self.config.is_ssl:  # there the socket may be closed already, and its number another's
            shut_down(self.descriptor)
        super().connection_lost(exc)

    @property
    def descriptor(self) -> int:
        """Return the socket's number, -1 when it is closed."""
        return descriptor_of(self.transport)

    @property
    def is_answering(self) -> bool:
        """Say whether a request is being read or answered."""
        return self.cycle is not None and not self.cycle.response_complete and not self.cycle.disconnected

    @property
    def is_sending(self) -> bool:
        """Say whether a request came whole and its response has begun: only then can a client be slow to take it."""
        return self.cycle is not None and self.cycle.response_started and not self.cycle.more_body

    @property
    def unsent_bytes(self) -> int:
        """Return how much the client has still to take."""
        return self.transport.get_write_buffer_size()


async def _send_without_chunks(cycle: RequestResponseCycle, message: Any) -> None:
    """Send what HTTP/1.0 knows: a body without a length ends with its connection, which uvicorn closes then.

    uvicorn writes chunks in any case; `ab`, and proxies of that version, take them for content. A stream that fails is
    closed like one that ends: its `error` event alone tells them apart.
    """
    if message["type"] != "http.response.start":
        cycle.expected_content_length = max(cycle.expected_content_length, len(message.get("body", b"")))
    elif header_in(message.get("headers", ()), b"content-length") is None:
        cycle.chunked_encoding = False
    await RequestResponseCycle.send(cycle, message)


class ForwardedHeaders(ProxyHeadersMiddleware):
    """Believe a trusted proxy: the client's address and scheme, as uvicorn does, its host, and the path's prefix.

    The proxy's connections are many clients': of each of these the requests are counted.

    Args:
        trusted: addresses and networks of proxies, or *.
    """

    def __init__(self, app: Any, trusted: list[str], connections: Connections) -> None:
        super().__init__(_nothing, trusted)
        self._app = app
        self._connections = connections

    def __call__(self, scope: Any, receive: Any, send: Any) -> Any:
        """Answer one request; where nobody has forwarded it by no coroutine of its own, which a stream would keep."""
        client = scope.get("client")
        if scope["type"] != "lifespan" and client and client[0] in self.trusted_hosts:
            is_forwarded = b"\nx-forwarded-" in b"\n" + b"\n".join(dict(scope["headers"]))
            if is_forwarded and head_excess(scope) is None:  # which the app refuses
                return self._answer(scope, receive, send)
        return self._app(scope, receive, send)

    async def _answer(self, scope: Any, receive: Any, send: Any) -> None:
        if host := _first(scope, b"x-forwarded-host"):
            others = [pair for pair in scope["headers"] if pair[0] != b"host"]
            scope[ASKED_HOST] = header_in(scope["headers"], b"host")
            scope["headers"] = [*others, (b"host", host.encode("latin-1"))]
        if prefix := _first(scope, b"x-forwarded-prefix").strip("/"):
            scope["root_path"] = f"/{prefix}"
            scope["path"] = scope["root_path"] + scope["path"]
        await super().__call__(scope, receive, send)
        if header_in(scope["headers"], b"x-forwarded-for") is None:
            return await self._app(scope, receive, send)  # type: ignore[no-any-return]
        client = scope["client"][0]
        if (refusal := self._connections.begin(client)) is not None:
            return await refuse(describe(refusal), {}, scope, receive, send)
        try:
            await self._app(scope, receive, send)
        finally:
            self._connections.end(client)


async def _nothing(scope: Any, receive: Any, send: Any) -> None:
    """Stand for the app where only the scope is to be changed."""


def _first(scope: Scope, name: bytes) -> str:
    """Return the first value of a header."""
    values = header_in(scope["headers"], name)
    return "" if values is None else values.decode("latin-1").partition(",")[0].strip()


# Of a scope, by uvicorn for its access log and by an error's response.
_READ_LATER = ("type", "method", "http_version", "client", "path", "query_string")


class AfterReturn:
    """Call an app, and when it has returned send what a response of it left to be sent.

    Only for a compiled app without middleware of others, which may do things when a response has ended.

    Args:
        app: `compiled`, in whatever it is wrapped.
    """

    def __init__(self, app: ASGIApp, compiled: FastAPI) -> None:
        self._app = app
        self._compiled = compiled

    @cached_property
    def _is_alone(self) -> bool:
        """Say whether there is no middleware of others; none can be added after the first request."""
        return bool(tuple(self._compiled.user_middleware) == self._compiled.state.own_middleware)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http" or not self._is_alone:
            if not self._is_alone:  # what writes at once would pass by that middleware
                scope.get("extensions", {}).pop(WIRE_EXTENSION, None)
            return await self._app(scope, receive, send)
        remainder: list[Callable[[Receive, Send], Awaitable[None]]] = []
        scope.setdefault("extensions", {})[REMAINDER_EXTENSION] = remainder
        await self._app(scope, receive, send)
        if remainder:
            rest = remainder.pop()(receive, send)
            own = {key: scope[key] for key in _READ_LATER}  # of the query not what the app has taken out of it
            scope.clear()
            scope.update(own)
            del own
            await rest


class _Lasting(asyncio.Task[None]):
    """Run what the server itself does: code that cancels all tasks that there are, as a hook that cleans up may, does
    not mean this one.
    """

    def cancel(self, msg: Any = None) -> bool:
        """Go on."""
        return False

    def give_up(self) -> None:
        """Cancel it indeed."""
        super().cancel()


class Server(uvicorn.Server):
    """Serve one compiled app on one socket.

    Attributes:
        exit_code: what the process should end with: 0, 3 when setup failed, 70 when an inference thread is stuck.
    """

    def __init__(
        self, app: FastAPI, *, log_level: str = "info", stays_up: bool = False, certificate: Path | None = None
    ) -> None:
        settings: Settings = app.state.runtime.settings
        trusted = list(settings.trusted_proxies)
        led = app if certificate is None else FalHosts(app)
        proxies = ProxyHeadersMiddleware(app, trusted).trusted_hosts  # type: ignore[arg-type]
        #: who is connected
        self.connections = Connections(settings.max_connections, is_trusted=proxies.__contains__)
        terms = Terms(
            budget=app.state.runtime.inputs,
            max_message_bytes=settings.max_message_bytes,
            heartbeat_s=settings.heartbeat_s,
            send_timeout_s=settings.send_timeout_s,
            is_logged=log_level == "debug",
        )
        self._make = partial(LendingProtocol, self.connections, terms)
        super().__init__(
            uvicorn.Config(
                ForwardedHeaders(AfterReturn(led, app), trusted, self.connections),
                interface="asgi3",
                proxy_headers=False,
                http=self._make,  # type: ignore[arg-type]
                ws="none",  # uvicorn's own, beside ours
                backlog=self.connections.accepted_at_once,  # asyncio's other meaning of the word
                timeout_keep_alive=settings.keep_alive_s,  # type: ignore[arg-type]  # whole seconds, it says
                lifespan="on",
                log_config=None,
                # At its debug level the package for WebSockets logs whole heads, keys among them.
                log_level="info" if log_level == "debug" else "warning",
                access_log=log_level == "debug",
                server_header=False,
                ssl_certfile=certificate,
            )
        )
        self.exit_code = 0
        #: done when it takes connections
        self.accepts: Future[None] = Future()
        #: the signals that it was told to end by
        self.signals: list[int] = []
        #: called, in a signal handler too, when an end begins: the seconds within which the process has to end, and how
        self.on_ending: Callable[[float, int], None] = _ignore
        self._heard: list[int] = []  # none, where it does not run in the main thread
        self._handshakes: list[Handshakes] = []
        self._stays_up = stays_up
        self._runtime: Runtime = app.state.runtime
        self._runtime.on_exit = self._leave

    def _leave(self, code: int) -> None:
        if self._stays_up:
            logger.error("the server stays up and waits for a change of the source")
            return
        self.exit_code = code
        self.should_exit = True
        self._begin_end(code)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Hear a signal, even while the loop is blocked; the second Ctrl-C forces the end."""
        _tell_sse_starlette(is_drained=False)
        super().handle_exit(sig, frame)
        self._begin_end(128 + sig if self.force_exit else EXIT_STUCK)

    def _begin_end(self, code: int) -> None:
        within_s = FORCED_END_S if self.force_exit else self._runtime.settings.drain_s + _END_S
        self.on_ending(within_s, self.exit_code or code)

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Take signals as uvicorn does; they are raised again by `serve`, when the loop has been closed."""
        with super().capture_signals():
            self._heard = [number for number in HANDLED_SIGNALS if signal.getsignal(number) == self.handle_exit]
            yield
            self.signals, self._captured_signals = self._captured_signals, []

    def run(self, sockets: list[socket.socket] | None = None) -> None:
        """Serve until told to end; blocks. What then still runs of user code is not waited for."""
        loop = (self.config.get_loop_factory() or asyncio.new_event_loop)()
        try:
            with held_here(partial(self._descriptors, sockets or [])), looping_here(loop):
                self._complete(_Lasting(self.serve(sockets), loop=loop), loop)
        finally:
            said_by_uvicorn = logging.getLogger("uvicorn.error")
            said_by_uvicorn.disabled = self.force_exit  # of each task that is cancelled now it would log the traceback
            close_loop(loop)
            said_by_uvicorn.disabled = False

    def _complete(self, serving: "asyncio.Task[None]", loop: asyncio.AbstractEventLoop) -> None:
        """Run the loop until the server has ended, whatever else stops it: `loop.stop`, or a task, a callback or a
        signal's handler of the app's that exits.
        """
        while not serving.done():
            try:
                loop.run_until_complete(serving)
            except BaseException as error:
                if serving.done() or loop.is_closed():
                    raise
                if isinstance(error, KeyboardInterrupt):
                    self.handle_exit(signal.SIGINT, None)
                else:
                    logger.error("the app has stopped the event loop; the server goes on", exc_info=error)

    def _descriptors(self, sockets: Sequence[socket.socket]) -> Iterator[int]:
        yield from (listener.fileno() for listener in sockets)
        for connection in self.server_state.connections:
            if isinstance(connection, LendingProtocol | SocketProtocol):
                yield connection.descriptor
        for handshakes in self._handshakes:
            yield from handshakes.descriptors

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Set the apps up, and accept connections; those of TLS in a way of our own."""
        context = self.config.ssl
        await super().startup(sockets if context is None else [])
        for listener in sockets or []:
            listener.listen(_BACKLOG)
        self.connections.start()
        if context is not None:
            make = partial(self._make, self.config, self.server_state, app_state=self.lifespan.state)
            self._handshakes = [
                Handshakes(listener, make, connections=self.connections, context=context) for listener in sockets or []
            ]
            self.servers.extend(self._handshakes)  # type: ignore[arg-type]
        if self.started:
            self.accepts.set_result(None)

    async def on_tick(self, counter: int) -> bool:
        """Say whether to end, ten times a second; each second take the signals back from an app that has taken them.

        The app may load sse-starlette at any time. To ask for a handler takes the signal module 25 000 instructions.
        """
        _tell_sse_starlette(is_drained=False)
        for number in self._heard if counter % 10 == 0 else ():
            if signal.getsignal(number) != self.handle_exit:
                signal.signal(number, self.handle_exit)
                name = signal.Signals(number).name
                logger.warning("the app has taken %s, which ends the server: write handle_exit to hear of it", name)
        return await super().on_tick(counter)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Drain, see the readers off, then let uvicorn close the rest; teardown runs in its lifespan."""
        # In a thread of its own: a handler that does not return would hold up the readers, who are to hear of the end.
        line = "draining: no new jobs; running ones may go on for %g s"
        with suppress(RuntimeError):  # there may be too many threads for one more
            begin_in_own_thread("says-drain", logger.info, line, self._runtime.settings.drain_s)
        await self._drain()
        _tell_sse_starlette(is_drained=True)
        await self._see_off()
        self.connections.stop()
        await super().shutdown(sockets)
        if not self.force_exit:
            await self._stop()

    async def _wait_tasks_to_complete(self) -> None:
        """Wait for what is left of connections and of the app's tasks, as uvicorn does, and then have it cancel these.

        uvicorn's own limit would not hold: since Python 3.12 `asyncio.wait_for` cancels the task that it is called in,
        and this one goes on whoever cancels it.
        """
        waiting = asyncio.create_task(super()._wait_tasks_to_complete())
        if not await ends_within(_LEFT_S, waiting):
            raise TimeoutError

    async def _stop(self) -> None:
        """Stop the apps where the lifespan has not done so: its task may have been cancelled."""
        try:
            await self._runtime.stop()
        except Exception:  # the process ends anyway; what is left to do is to say so
            logger.exception("the apps could not be stopped in order")

    async def _drain(self) -> None:
        drain = _Lasting(self._runtime.drain())
        while not drain.done() and not self.force_exit:
            await asyncio.wait({drain}, timeout=0.1)
        if drain.done():
            drain.result()
        drain.give_up()

    async def _see_off(self) -> None:
        """Wait for readers that take their last events; cut off those that have taken nothing for a while.

        A request that is still coming, or not answered yet, has as much time as the running jobs had. WebSockets that
        nobody has closed are closed here.
        """
        progress: dict[LendingProtocol | SocketProtocol, tuple[int, float]] = {}
        while waiting := self._answering():
            now, is_late = time.monotonic(), self._runtime.drain_left_s(_SEE_OFF_S) <= 0
            for connection in waiting:
                unsent, since = progress.get(connection, (-1, now))
                if is_late or self.force_exit:
                    connection.transport.abort()
                elif unsent != connection.unsent_bytes:
                    progress[connection] = (connection.unsent_bytes, now)
                elif connection.is_sending and now - since > _STALL_S:
                    connection.transport.abort()
                elif isinstance(connection, SocketProtocol) and now - since > _STALL_S:
                    connection.close(DRAINING, SHUTTING_DOWN)
                    progress[connection] = (connection.unsent_bytes, now)
            await asyncio.sleep(_TICK_S)

    def _answering(self) -> list[LendingProtocol | SocketProtocol]:
        connections: set[Any] = self.server_state.connections
        return [c for c in connections if isinstance(c, LendingProtocol | SocketProtocol) and c.is_answering]


def bind(host: str, port: int, *, user_timeout_s: float = 30) -> socket.socket:
    """Return a listening socket; port 0 takes a free one.

    Args:
        user_timeout_s: how long sent data may stay unacknowledged: a client that vanished without a word holds its
            stream, and its job the GPU, no longer than this.
    Raises:
        OSError: the address is in use or not to be had.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.create_server((host, port), family=family, backlog=_BACKLOG)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, value in (
        ("TCP_NOTSENT_LOWAT", _NOTSENT_LOWAT),
        ("TCP_USER_TIMEOUT", int(user_timeout_s * 1000)),
        ("TCP_KEEPIDLE", _KEEPALIVE_S),
    ):
        number = getattr(socket, option, None)  # not every platform has them all
        if number is not None:
            listener.setsockopt(socket.IPPROTO_TCP, number, value)
    return listener


def serve(
    app: FastAPI,
    listener: socket.socket,
    *,
    log_level: str = "info",
    stays_up: bool = False,
    certificate: Path | None = None,
) -> int:
    """Serve until a signal comes; blocks. Returns the exit code.

    Args:
        listener: from `bind`.
        stays_up: keep answering when the app is out of service, its setup failed for example, as `--reload` wants.
        certificate: speak TLS with this certificate and key, in one PEM file.
    """
    raise_descriptor_limit()
    server = Server(app, log_level=log_level, stays_up=stays_up, certificate=certificate)
    last_resort = LastResort()
    server.on_ending = last_resort.arm
    app.state.runtime.on_blocked = partial(end_process, why="the event loop is blocked for good")
    sys.setswitchinterval(_SWITCH_INTERVAL_S)
    gc.set_threshold(_YOUNG_OBJECTS)
    freeze_when_loaded(app)
    try:
        server.run(sockets=[listener])
        number = server.signals[-1] if server.signals else 0
        if server.exit_code == EXIT_STUCK:
            end_process(EXIT_STUCK)
        if number and not server.exit_code:
            last_resort.arm(FORCED_END_S, 128 + number)
            leave_by(number)
        return server.exit_code
    finally:
        last_resort.disarm()


def serve_beside(server: Server, listener: socket.socket) -> int:
    """Serve until told to end, by `server.should_exit`, in a thread of a process that has other things to do; blocks.

    Returns the exit code that the process would have. It ends nothing of the process, and changes none of its settings.
    """
    with listener:
        try:
            server.run(sockets=[listener])
        finally:
            _let_sse_starlette_go_on()
    return server.exit_code


def _let_sse_starlette_go_on() -> None:
    """Have its streams of other servers, now and later, not hear that this one's have ended."""
    status = getattr(sys.modules.get("sse_starlette.sse"), "AppStatus", None)
    if status is not None:
        status.should_exit = False


def freeze_when_loaded(app: FastAPI) -> None:
    """Have the garbage collector not look at what `setup` loads, in a process that does nothing but serve."""
    for served in app.state.runtime.served:
        served.ready.add_done_callback(_freeze)


def _freeze(_: Future[None]) -> None:
    """Take all that is loaded out of the garbage collector's sight; runs in the inference thread, before its first job.

    A full collection looks at each object, and all threads wait: 0.24 s for the 450 000 that diffusers and torch make.
    """
    gc.collect()
    gc.freeze()


def _tell_sse_starlette(*, is_drained: bool) -> None:
    """Have its streams, where the app uses it, end when the drain has, and not by a signal."""
    status = getattr(sys.modules.get("sse_starlette.sse"), "AppStatus", None)
    if status is not None:
        status.enable_automatic_graceful_drain = False
        status.should_exit = status.should_exit or is_drained


def _ignore(within_s: float, code: int) -> None:
    """Let the process end as it does."""
