"""Load a server over WebSockets: the handshake, and frames, by hand, as `client` does it for requests.

What arrives is kept with its time and taken apart afterwards. Nothing is offered in the handshake, and so nothing is
compressed. A client's frames have a mask of zeros, with which the text stays as it is.
"""

import json
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

from .client import Connection, NotOffered, Received

_HANDSHAKE = (
    "GET {path} HTTP/1.1\r\nHost: benchmark\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
)
_END = b"\r\n\r\n"
_TEXT, _MASK = 0x81, bytes(4)
_PONG = b"\x8a\x80" + _MASK


@dataclass
class Socket(Connection):
    """One WebSocket, whose messages are JSON, and small."""

    RECEIVE_BYTES: ClassVar[int] = 16 * 1024

    @classmethod
    def connect(cls, port: int, path: str) -> "Socket":
        """Open a WebSocket.

        Raises:
            NotOffered: the server refused it.
        """
        socket = cls.open(port)
        assert isinstance(socket, Socket)
        socket.send(_HANDSHAKE.format(path=path).encode())
        socket.receive_until(_END)
        head = socket.pieces[0][1]
        if b" 101 " not in head[:20]:
            raise NotOffered(f"the handshake was answered with {head[:60]!r}")
        return socket

    def say(self, message: Any) -> None:
        """Send a small message."""
        text = json.dumps(message).encode()
        self.socket.sendall(struct.pack("!BB", _TEXT, 0x80 | len(text)) + _MASK + text)

    def live(self) -> None:
        """Give a sign of life, which servers ask for by pings, after a while of silence."""
        self.socket.sendall(_PONG)

    def answer(self) -> Any:
        """Wait for one message that comes alone, and return it."""
        self.pieces.clear()
        self.receive()
        return json.loads(self.pieces[0][1][2:])

    def messages(self, *, is_open: bool = False) -> Iterator[Received]:
        """Take apart what has come; of what is no text there is nothing to see.

        Args:
            is_open: the handshake is not in it any more.
        """
        rest = b""
        for at, piece in self.pieces:
            rest += piece
            if not is_open:
                head, end, frames = rest.partition(_END)
                is_open, rest = bool(end), frames if end else head
            while is_open and (found := _frame(rest)) is not None:
                opcode, content, rest = found
                if opcode == _TEXT:
                    yield Received(at, "", content)


def _frame(data: bytes) -> tuple[int, bytes, bytes] | None:
    """Return the first byte of a server's frame, what is in it, and what follows; None where it is not whole."""
    if len(data) < 4:
        return None
    size, at = data[1], 2
    if size == 126:
        size, at = struct.unpack_from("!H", data, 2)[0], 4
    return (data[0], data[at : at + size], data[at + size :]) if len(data) >= at + size else None
