"""Say what a session may ask of its WebSocket beyond ASGI: to write a frame at once, and how its client keeps up.

`streamapp serve` lends it in the scope of each handshake. Under a foreign server, in a test without sockets, or inside
of middleware of others, which has to see what passes, there is none: then ASGI's `send` has to do.

A message to many is framed once: what a server sends is not masked (https://www.rfc-editor.org/rfc/rfc6455#section-5.1)
and, as nothing is compressed, the same bytes for all.
"""

import struct
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

from starlette.types import Message as Asgi
from starlette.types import Scope

from ..jobs.packing import Film

#: in the scope's extensions: the `Wire`
WIRE_EXTENSION = "streamapp.websocket"
#: there, too, where the client has a video: the `Film`
FILM_EXTENSION = "streamapp.film"
#: the opcodes that a frame begins with, its last one being all of the message
TEXT, BINARY, CLOSE, PING, PONG = 0x1, 0x2, 0x8, 0x9, 0xA
_WHOLE = 0x80
# What fits into a frame's first two bytes, and into the two that may follow.
_SHORT, _MEDIUM = 126, 65536
_MAX_REASON_BYTES = 123  # with the code before it as much as a control frame holds


class Wire(Protocol):
    """One WebSocket's connection; on the event loop only, and from `websocket.accept` on.

    Attributes:
        on_writable: called when the client has taken enough again, each time that `is_paused` ends; and when the
            connection has ended while it was paused.
        on_ended: called once, when nothing more comes: the client has left, or the server has closed.
    """

    on_writable: Callable[[], None] | None
    on_ended: Callable[[], None] | None

    @property
    def is_open(self) -> bool:
        """Say whether what is sent may still arrive: neither side has begun to close."""

    @property
    def is_paused(self) -> bool:
        """Say whether the client takes less than it is sent: more than 64 KiB wait here, besides what the kernel has.

        What is sent all the same is kept, whatever it takes: who sends looks here before.
        """

    @property
    def unsent_bytes(self) -> int:
        """Return how much waits here for the client to take it."""

    def send_frame(self, frame: bytes) -> None:
        """Write a whole message that is framed already; nothing happens where the WebSocket is not open."""

    def close(self, code: int = 1000, reason: str = "") -> None:
        """Send all that waits and then a close frame; nothing happens where one was sent.

        The app's `receive` returns `websocket.disconnect` at once.

        Args:
            reason: of up to 123 bytes, else cut.
        """

    def abort(self) -> None:
        """End the connection now, whatever it still holds."""


def wire_of(scope: Scope) -> Wire | None:
    """Return what the server lends for a WebSocket, None where it lends nothing."""
    extensions: dict[str, Any] = scope.get("extensions") or {}
    return extensions.get(WIRE_EXTENSION)


def film_of(scope: Scope) -> Film | None:
    """Return what shows a session's images to this client, None where they are written out."""
    extensions: dict[str, Any] = scope.get("extensions") or {}
    return extensions.get(FILM_EXTENSION)


class Message(NamedTuple):
    """Hold what is sent in one piece: a text, in UTF-8, or bytes."""

    content: bytes
    is_text: bool = True

    @property
    def frame(self) -> bytes:
        """Return it as any number of clients are sent it."""
        return text_frame(self.content) if self.is_text else binary_frame(self.content)

    @property
    def asgi(self) -> Asgi:
        """Return it as ASGI has it."""
        content = {"text": self.content.decode()} if self.is_text else {"bytes": self.content}
        return {"type": "websocket.send", **content}


def size_of(message: Asgi) -> int:
    """Return the bytes of a message that has come."""
    content: bytes | None = message.get("bytes")
    if content is not None:
        return len(content)
    text: str = message.get("text") or ""
    return len(text) if text.isascii() else len(text.encode(errors="replace"))


def text_frame(text: bytes) -> bytes:
    """Return a message of text, in UTF-8, as any number of clients are sent it."""
    return frame(TEXT, text)


def binary_frame(content: bytes) -> bytes:
    """Return a message of bytes, as any number of clients are sent it."""
    return frame(BINARY, content)


def close_frame(code: int, reason: str = "") -> bytes:
    """Return the last frame of a side; a reason that is too long is cut."""
    return frame(CLOSE, struct.pack("!H", code) + cut_reason(reason).encode())


def cut_reason(reason: str) -> str:
    """Shorten a reason to what a close frame holds."""
    return reason.encode(errors="replace")[:_MAX_REASON_BYTES].decode(errors="ignore")


def frame(opcode: int, content: bytes) -> bytes:
    """Return one whole frame of a server."""
    size = len(content)
    if size < _SHORT:
        return bytes((_WHOLE | opcode, size)) + content
    if size < _MEDIUM:
        return struct.pack("!BBH", _WHOLE | opcode, 126, size) + content
    return struct.pack("!BBQ", _WHOLE | opcode, 127, size) + content
