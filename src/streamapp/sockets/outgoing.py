"""Send to one client over its WebSocket: at once where the server lends its `Wire`, else by ASGI's `send`; in time.

Who sends more than the client takes looks at `room` before: what waits there is newer than what waits here.
"""

import asyncio
from contextlib import suppress

from starlette.types import Scope, Send

from .wire import Message, cut_reason, wire_of

# What a slow client has to take in each `send_timeout_s`, as of a stream by HTTP.
_PIECE_BYTES = 64 * 1024


class Outgoing:
    """Send to one client; on the loop.

    Args:
        send_timeout_s: for each 64 KiB.
    """

    def __init__(self, scope: Scope, send: Send, *, send_timeout_s: float) -> None:
        self._wire = wire_of(scope)
        self._send = send
        self._send_timeout_s = send_timeout_s
        self._writable = asyncio.Event()
        self._sent = 0  # by ASGI, since others had a turn
        if self._wire is not None:
            self._wire.on_writable = self._writable.set

    async def accept(self, subprotocol: str | None = None) -> None:
        """Open the WebSocket."""
        await self._send({"type": "websocket.accept", "subprotocol": subprotocol, "headers": []})

    @property
    def is_ready(self) -> bool:
        """Say whether `send_at_once` would."""
        return self._wire is not None and not self._wire.is_paused and self._wire.is_open

    def send_at_once(self, *messages: Message) -> bool:
        """Send all of them without waiting; False, and nothing is sent, where that may not be had."""
        if self._wire is None or not self.is_ready:
            return False
        frames = b"".join(message.frame for message in messages)
        if len(frames) > _PIECE_BYTES:  # behind which the client is to have newer ones
            return False
        self._wire.send_frame(frames)
        return True

    async def send(self, *messages: Message) -> None:
        """Send, when the client has taken enough of what came before.

        Raises:
            TimeoutError: it does not read.
            OSError: it has left.
        """
        if self._wire is None:
            for message in messages:
                await self._send_by_asgi(message)
            return
        frames = bytearray()
        for n, message in enumerate(messages, 1):
            frames += message.frame
            if len(frames) > _PIECE_BYTES or n == len(messages):
                await self.room()
                self._wire.send_frame(bytes(frames))
                frames.clear()

    async def _send_by_asgi(self, message: Message) -> None:
        try:
            async with asyncio.timeout(self._send_timeout_s * (1 + len(message.content) // _PIECE_BYTES)):
                await self._send(message.asgi)
        except RuntimeError as error:  # what uvicorn raises where a close frame was faster
            raise ConnectionAbortedError("the client has left") from error
        self._sent += len(message.content)
        if self._sent > _PIECE_BYTES:  # such a `send` may never wait, and take long, as it compresses
            self._sent = 0
            await asyncio.sleep(0)

    async def room(self) -> None:
        """Wait until the client has taken enough of what was sent; without a `Wire` nobody knows.

        Raises:
            TimeoutError: it does not read.
            OSError: it has left, even where whoever reads its messages has not come so far.
        """
        wire = self._wire
        while wire is not None and wire.is_paused:
            unsent = wire.unsent_bytes
            self._writable.clear()
            try:
                async with asyncio.timeout(self._send_timeout_s):
                    await self._writable.wait()
            except TimeoutError:
                if unsent - wire.unsent_bytes < _PIECE_BYTES:
                    raise
        if wire is not None and not wire.is_open:
            raise ConnectionAbortedError("the client has left")

    async def close(self, code: int, reason: str = "") -> None:
        """Send a close frame behind all that was sent; nothing happens where the client has left."""
        if self._wire is not None:
            self._wire.close(code, reason)
            return
        # What servers raise, each in its way, where the client was faster; a timeout is an OSError, too.
        with suppress(OSError, RuntimeError):
            async with asyncio.timeout(self._send_timeout_s):
                await self._send({"type": "websocket.close", "code": code, "reason": cut_reason(reason)})

    def abort(self) -> None:
        """End the connection now; under a foreign server that is left to its own ways."""
        if self._wire is not None:
            self._wire.abort()
