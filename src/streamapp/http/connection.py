"""Give a response what it needs of its connection: sending in time, writing at once, and ending without a word.

`streamapp serve` lends the connection's transport in the request's scope. Under a foreign server there is none: what
cannot be had then is left to that server's own ways.
"""

import asyncio
from collections.abc import Callable
from contextlib import suppress

from starlette.types import Message, Receive, Scope, Send

#: in the scope's extensions: the transport of the connection
TRANSPORT_EXTENSION = "streamapp.transport"
# Larger pieces would let one send take as long as a slow client needs for megabytes; uvicorn buffers as much anyway.
_PIECE_BYTES = 64 * 1024
# From the event that says why to the cut: when a connection fails, Chromium's fetch drops what the page has not read.
_LINGER_S = 0.1
_SEEN_S = 1.0  # at most; a turn of the loop is all that it takes


class Connection:
    """Hold what a response needs of its connection: sending with a time limit, and ending it without a word.

    Args:
        on_disconnect: called on the loop when the client has left.
        send_body: the server's own, for what comes after the start, which is all that middleware of ours looks at;
            None when there may be middleware of others.
    """

    __slots__ = ("_is_direct", "_send", "_send_body", "_send_timeout_s", "_transport", "listener")

    def __init__(
        self,
        scope: Scope,
        receive: Receive,
        send: Send,
        *,
        send_timeout_s: float,
        on_disconnect: Callable[[], None],
        send_body: Send | None = None,
    ) -> None:
        self._transport = scope.get("extensions", {}).get(TRANSPORT_EXTENSION)
        self._send = send
        self._send_body = send_body or send
        # To a reader of HTTP/1.0 the body goes without chunks, as the server's `send` writes it.
        self._is_direct = send_body is not None and scope.get("http_version") != "1.0"
        self._send_timeout_s = send_timeout_s
        self.listener = asyncio.create_task(_listen(receive, on_disconnect))

    async def start(self, status: int, headers: list[tuple[bytes, bytes]]) -> None:
        await self._send_in_time({"type": "http.response.start", "status": status, "headers": headers})
        self._send = self._send_body

    async def write(self, body: bytes) -> None:
        """Send a part of the body; a client may be slow, as long as it takes 64 KiB in each `send_timeout_s`.

        Raises:
            TimeoutError: the client did not read.
        """
        for start in range(0, max(len(body), 1), _PIECE_BYTES):
            piece = body[start : start + _PIECE_BYTES]
            await self._send_in_time({"type": "http.response.body", "body": piece, "more_body": True})

    def write_at_once(self, body: bytes) -> bool:
        """Write without waiting; False, and nothing is written, where that may not be had."""
        transport = self._transport
        # A transport that has closed may not even be asked for its size.
        if not self._is_direct or transport is None or transport.is_closing() or transport.get_write_buffer_size():
            return False
        if len(body) > _PIECE_BYTES:
            return False
        if body:  # an empty chunk is the last one
            transport.write(b"%x\r\n%b\r\n" % (len(body), body))  # as uvicorn's `send` does
        return True

    def _is_drained(self) -> bool:
        """Say whether the client has taken all that came before."""
        transport = self._transport
        return transport is not None and not transport.is_closing() and not transport.get_write_buffer_size()

    async def end(self, body: bytes) -> None:
        """Send the last part of the body, as `write` does the others."""
        if len(body) > _PIECE_BYTES:
            await self.write(body)
            body = b""
        await self._send_in_time({"type": "http.response.body", "body": body, "more_body": False})

    async def _send_in_time(self, message: Message) -> None:
        if self._is_drained():
            return await self._send(message)
        async with asyncio.timeout(self._send_timeout_s):
            await self._send(message)

    async def fail(self) -> None:
        """End the connection without the final chunk, after what was written has gone out.

        Under a foreign server, which does not lend its transport, returning without the final chunk has to do.
        """
        if self._transport is None:
            return
        # A BaseHTTPMiddleware hands chunks on one by one: this empty one returns when the last real one is written.
        await self.write(b"")
        await asyncio.wait([self.listener], timeout=_LINGER_S)
        self._transport.close()
        with suppress(TimeoutError):
            async with asyncio.timeout(self._send_timeout_s):
                await asyncio.shield(self.listener)
        await self.abort()

    async def disconnect(self) -> Message:
        """Receive what a response listens for."""
        return await asyncio.shield(self.listener)

    async def abort(self) -> None:
        """End the connection now, whatever it still holds; return when the server has seen it.

        To a server that has not the app's return is a mistake of the app's, which it logs.
        """
        if self._transport is not None:
            self._transport.abort()
            await asyncio.wait([self.listener], timeout=_SEEN_S)


async def disconnected(receive: Receive) -> None:
    """Wait until the client has left."""
    while (await receive())["type"] != "http.disconnect":
        pass


async def _listen(receive: Receive, on_disconnect: Callable[[], None]) -> Message:
    await disconnected(receive)
    on_disconnect()
    return {"type": "http.disconnect"}
