"""Carry a test's requests to an ASGI app in this process, with what `streamapp serve` gives it: a connection to close.

Divergence: this is not httpx's own `ASGITransport`, which waits for the whole answer before it gives any of it.
"""

import asyncio
from collections.abc import Iterator
from concurrent.futures import Future, wait
from contextlib import suppress

import anyio
import httpx
from anyio.from_thread import BlockingPortal
from starlette.types import ASGIApp, Message, Scope

from ..http.connection import TRANSPORT_EXTENSION

_NOTICE_TIMEOUT_S = 10.0


class AppTransport(httpx.BaseTransport):
    """Carry requests to an ASGI application on the portal's loop, and stream its answers."""

    def __init__(self, app: ASGIApp, portal: BlockingPortal) -> None:
        self._app = app
        self._portal = portal
        self._open: set[_Body] = set()

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        exchange = _Exchange(request.read())
        running = self._portal.start_task_soon(exchange.run, self._app, _scope(request))
        body = _Body(exchange, running, self._portal, self._open)
        start = body.take()
        return httpx.Response(start["status"], headers=start["headers"], stream=body, request=request)

    def close(self) -> None:
        for body in tuple(self._open):
            body.close()


class _Exchange:
    """Play the server for one request, on the loop; also the transport that a response can close."""

    def __init__(self, body: bytes) -> None:
        self._request: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]
        self._is_over = asyncio.Event()
        # Without a buffer: the app sends on when the test has read.
        self._to_client, self._to_test = anyio.create_memory_object_stream[Message](0)

    async def run(self, app: ASGIApp, scope: Scope) -> None:
        scope["extensions"] = {TRANSPORT_EXTENSION: self}
        with self._to_client:
            await app(scope, self._receive, self._send)

    async def take(self) -> Message | None:
        """Return the next message of the app; None when the connection was closed."""
        with suppress(anyio.EndOfStream, anyio.ClosedResourceError):
            return await self._to_test.receive()
        return None

    async def _receive(self) -> Message:
        if self._request:
            return self._request.pop()
        await self._is_over.wait()
        return {"type": "http.disconnect"}

    async def _send(self, message: Message) -> None:
        with suppress(anyio.BrokenResourceError, anyio.ClosedResourceError):  # a server sends on when nobody reads
            await self._to_client.send(message)
        if message["type"] == "http.response.body" and not message.get("more_body"):
            self._is_over.set()

    def is_closing(self) -> bool:
        """Say whether the connection has been closed, from either end."""
        return self._is_over.is_set()

    def get_write_buffer_size(self) -> int:
        """Say that what was sent may not have been read yet."""
        return 1

    def leave(self) -> None:
        """Close the connection from the client's end."""
        self._is_over.set()
        self._to_test.close()

    def close(self) -> None:
        """Close the connection from the app's end, like `abort`: what it sent before has been read."""
        self._is_over.set()
        self._to_client.close()

    abort = close


class _Body(httpx.SyncByteStream):
    """Read an answer in the test's thread; close it as a client that leaves."""

    def __init__(
        self, exchange: _Exchange, running: "Future[None]", portal: BlockingPortal, siblings: "set[_Body]"
    ) -> None:
        self._exchange = exchange
        self._running = running
        self._portal = portal
        self._siblings = siblings
        siblings.add(self)

    def take(self) -> Message:
        """Wait for the next message of the app."""
        message = self._portal.call(self._exchange.take)
        if message is None:
            self.close()
            raise httpx.RemoteProtocolError("the connection was closed before its end") from self._running.exception()
        return message

    def __iter__(self) -> Iterator[bytes]:
        message: Message = {"more_body": True}
        while message.get("more_body"):
            message = self.take()
            yield message.get("body", b"")

    def close(self) -> None:
        """Leave, and wait until the app has noticed."""
        if self in self._siblings:
            self._siblings.discard(self)
            self._portal.call(self._exchange.leave)
            wait([self._running], _NOTICE_TIMEOUT_S)


def _scope(request: httpx.Request) -> Scope:
    url = request.url
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "method": request.method,
        "scheme": url.scheme,
        "path": url.path,
        "raw_path": url.raw_path.partition(b"?")[0],
        "root_path": "",
        "query_string": url.query,
        "headers": [(name.lower(), value) for name, value in request.headers.raw],
        "client": ("testclient", 50000),
        "server": (url.host, 80),
        "state": {},
    }
