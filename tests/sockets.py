"""Clients of WebSockets by raw bytes: many at a time, and such as read nothing, or answer no ping."""

import asyncio
import base64
import json
import os
import struct
from typing import Any, cast


class Reader(asyncio.Protocol):
    """Hear messages of text, in order.

    Args:
        path: what to connect to.
        pongs: answer pings.
    """

    def __init__(self, path: str, *, pongs: bool = True) -> None:
        self._path, self._pongs = path, pongs
        self._left = b""
        self._is_open = False
        self._news = asyncio.Event()
        self.messages: list[Any] = []
        #: the code of the server's close; None where the connection has ended without one
        self.closed: asyncio.Future[int | None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        key = base64.b64encode(os.urandom(16)).decode()
        self.transport.write(
            f"GET {self._path} HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            f"Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n\r\n".encode()
        )

    def data_received(self, data: bytes) -> None:
        self._left += data
        if not self._is_open and b"\r\n\r\n" in self._left:
            head, _, self._left = self._left.partition(b"\r\n\r\n")
            assert b" 101 " in head, head
            self._is_open = True
        while self._is_open and (frame := self._next_frame()) is not None:
            self._hear(*frame)
        self._news.set()

    def _next_frame(self) -> tuple[int, bytes] | None:
        """Take a whole frame from what has come; None where there is none yet."""
        short = self._left[1] if len(self._left) > 1 else 0
        head = {126: 4, 127: 10}.get(short, 2)
        if len(self._left) < head:
            return None
        size = short if head == 2 else int.from_bytes(self._left[2:head], "big")
        content = self._left[head : head + size]
        if len(content) < size:
            return None
        opcode, self._left = self._left[0] & 15, self._left[head + size :]
        return opcode, content

    def _hear(self, opcode: int, content: bytes) -> None:
        if opcode == 1:
            self.messages.append(json.loads(content))
        elif opcode == 9 and self._pongs:
            self.transport.write(bytes((0x8A, 0x80 | len(content), 0, 0, 0, 0)) + content)
        elif opcode == 8 and not self.closed.done():
            self.closed.set_result(struct.unpack("!H", content[:2])[0])

    def connection_lost(self, error: Exception | None) -> None:
        if not self.closed.done():
            self.closed.set_result(None)
        self._news.set()

    async def has(self, count: int) -> None:
        """Wait until so many messages have come."""
        while len(self.messages) < count:
            self._news.clear()
            await self._news.wait()


async def connect(url: str, path: str, *, reads: bool = True, pongs: bool = True) -> Reader:
    """Return a client; one that does not read takes nothing of what comes."""
    host, _, port = url.removeprefix("http://").partition(":")
    loop = asyncio.get_running_loop()
    transport, reader = await loop.create_connection(lambda: Reader(path, pongs=pongs), host, int(port))
    if not reads:
        transport.pause_reading()
    return reader
