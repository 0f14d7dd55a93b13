"""Have a data channel be to a session what a WebSocket is: messages come and go as ASGI has them.

So the protocol of sessions, their numbers and how they resume are `sockets`' alone. A close, for which a data channel
has no word, is a last frame.

Divergence: a data channel cannot be paused. A client of a WebSocket is not read while the inbox is full; one of these
may send up to `max_message_bytes` meanwhile, all of them together what the budget of inputs has, and is then seen off.
"""

import asyncio
from collections import deque

from aiortc import RTCDataChannel
from starlette.types import Message as Asgi

from ..budget import Share
from ..errors import StreamAppError, Unavailable
from ..jobs.events import encode
from ..sockets import own_frames
from ..sockets.conversation import Close
from ..sockets.own_socket import refusal
from ..sockets.wire import cut_reason
from .pieces import Pieces, cut

LABEL = own_frames.SUBPROTOCOL
_PAUSED_BYTES = 64 * 1024  # as of a WebSocket


class DataSocket:
    """Speak over one data channel; on the loop.

    Args:
        share: of the inputs of all, for what has come and is not taken.
        most: bytes of a message, and of all that wait.
    """

    def __init__(self, channel: RTCDataChannel, share: Share, most: int) -> None:
        self._channel = channel
        self._share = share
        self._most = most
        self._pieces = Pieces(most)
        self._waiting: deque[tuple[str, int]] = deque()
        self._size = self._taken = 0  # bytes of all that has come, and of those of the frame that comes
        self._refusal: Close | None = None
        self._has_ended = channel.readyState != "open"
        self._news = asyncio.Event()
        self._writable = asyncio.Event()
        channel.bufferedAmountLowThreshold = _PAUSED_BYTES
        channel.on("message", self._take)
        channel.on("close", self.end)
        channel.on("bufferedamountlow", self._writable.set)

    def end(self) -> None:
        """Note that the client has gone; again is without effect."""
        self._has_ended = True
        self._news.set()
        self._writable.set()

    # What the client says.

    def _take(self, message: object) -> None:
        if self._refusal is not None or self._has_ended:
            return
        try:
            size = len(message) if isinstance(message, str | bytes) else 0
            frame = self._pieces.add(message)
            self._share.take(size)
            self._size += size
            self._taken += size
            if self._size > 2 * self._most:
                raise Unavailable("more has come than is taken; send inputs as they are received")
        except Unavailable as error:  # told at once: who would take it waits for room
            self._tell(refusal(error))
            self.end()
            return
        except StreamAppError as error:
            self._refusal = refusal(error)
            self._news.set()
            return
        if frame is not None:
            self._waiting.append((frame, self._taken))
            self._taken = 0
            self._news.set()

    async def receive(self) -> Asgi:
        """Return what the client says next.

        Raises:
            Close: it is none of the protocol, or too much.
        """
        while not self._waiting:
            if self._has_ended:
                return {"type": "websocket.disconnect", "code": 1006}
            if self._refusal is not None:
                raise self._refusal
            self._news.clear()
            await self._news.wait()
        frame, size = self._waiting.popleft()
        self._size -= size
        self._share.give_back(size)
        return {"type": "websocket.receive", "text": frame}

    # What it is told.

    async def send(self, message: Asgi) -> None:
        """Send a message, and wait until the client has taken enough of it.

        Raises:
            OSError: it has gone.
        """
        match message:
            case {"type": "websocket.send", "text": str(text)}:
                await self._send(text)
            case {"type": "websocket.close"}:
                await self._send(_closing(message.get("code", 1000), message.get("reason") or ""))

    async def _send(self, frame: str) -> None:
        if self._has_ended or self._channel.readyState != "open":
            raise ConnectionAbortedError("the client has left")
        for piece in cut(frame):  # all of them before a wait, in which another frame would come between
            self._channel.send(piece)
        while self._channel.bufferedAmount > _PAUSED_BYTES and not self._has_ended:
            self._writable.clear()
            await self._writable.wait()

    def _tell(self, closing: Close) -> None:
        """Send why the connection ends, behind all that waits."""
        for frame in (closing.last.decode(), _closing(closing.code, closing.reason)):
            for piece in cut(frame):
                self._channel.send(piece)

    async def ended(self) -> None:
        """Wait until the client has gone."""
        while not self._has_ended:
            self._news.clear()
            await self._news.wait()


def _closing(code: int, reason: str) -> str:
    """Return the last frame."""
    return encode({"type": "close", "code": code, "reason": cut_reason(reason)}).decode()
