"""Take the frames of a WebSocket's client apart: bytes in, whole messages and control frames out; nothing is sent here.

Of https://www.rfc-editor.org/rfc/rfc6455#section-5 all is held that a client can break, and what it may send is
bounded before it is kept: a message by its size, and its fragments, of which there may be any number, take no room of
their own.

Divergence: not the package `websockets`, nor uvicorn's use of it. They take all apart that has come, however many
frames that are, and keep an object for each fragment of a message.
"""

import struct
from typing import Literal, NamedTuple

from ..sockets.wire import BINARY, CLOSE, PONG, TEXT

try:
    from websockets.speedups import apply_mask
except ImportError:  # where that package has no compiled part
    from websockets.utils import apply_mask

#: codes by which a connection is failed
PROTOCOL_ERROR, NO_TEXT, TOO_BIG = 1002, 1007, 1009
#: the code where a close frame has none; and where the connection ended without one. Neither is ever sent.
NO_CODE, ABNORMAL = 1005, 1006
_MORE = 0x0  # the opcode of the frames behind a message's first
_MOST_OF_CONTROL = 125
_KNOWN = frozenset({_MORE, TEXT, BINARY, CLOSE, CLOSE + 1, PONG})
# What may stand in a close frame: https://www.iana.org/assignments/websocket/websocket.xhtml
_CLOSE_CODES = frozenset({1000, 1001, 1002, 1003, *range(1007, 1015)})
_OWN_CODES = range(3000, 5000)
_HUGE = 1 << 63  # lengths have 63 bits


class BadFrame(Exception):
    """Say why a client's connection is failed.

    Args:
        code: that of the close frame.
    """

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(reason)
        self.code = code
        self.reason = reason


class Frame(NamedTuple):
    """Hold what a client has sent: a whole message, or a control frame.

    Attributes:
        opcode: 0 for a part of a message that goes on; then there is no content.
    """

    opcode: Literal[0, 1, 2, 8, 9, 10]
    content: bytes


class Incoming:
    """Hold what has come of a client and was not taken yet.

    Args:
        max_bytes: of a message.
    """

    __slots__ = ("_came", "_is_last", "_left", "_mask", "_max_bytes", "_message", "_opcode")

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._came = bytearray()  # not taken apart yet
        self._message = bytearray()
        self._opcode = 0  # of the message that has begun; 0 between two
        self._left = 0  # of the payload that has begun
        self._is_last = False  # what has begun is the message's last frame
        self._mask = b""

    @property
    def held_bytes(self) -> int:
        """Return how much has come that is no whole message yet, or was not looked at."""
        return len(self._came) + len(self._message)

    @property
    def is_between(self) -> bool:
        """Say whether the client owes nothing: all that has come was whole."""
        return not self._came and not self._opcode

    def feed(self, data: bytes) -> None:
        """Keep what has come."""
        self._came += data

    def take(self) -> Frame | None:
        """Take one frame, or what there is of a large one; None where nothing can be told before more comes.

        Raises:
            BadFrame: the connection has to be failed; nothing behind that means anything.
        """
        if self._left:
            return self._take_payload() if self._came else None
        return self._take_frame()

    def _take_frame(self) -> Frame | None:
        came = self._came
        if len(came) < 2:
            return None
        first, second = came[0], came[1]
        self._check(first, second)
        size, start = second & 0x7F, 6
        if size == 126:
            if len(came) < 8:
                return None
            size, start = (came[2] << 8) | came[3], 8
        elif size == 127:
            if len(came) < 14:
                return None
            (size,) = struct.unpack_from("!Q", came, 2)
            start = 14
        elif len(came) < 6:
            return None
        opcode = first & 0x0F
        if opcode >= CLOSE:
            if len(came) < start + size:
                return None
            content = bytes(apply_mask(came[start : start + size], came[start - 4 : start]))
            del came[: start + size]
            return Frame(opcode, content)  # type: ignore[arg-type]  # `_check` knows it
        if size >= _HUGE:
            raise BadFrame(PROTOCOL_ERROR, "a frame's length has its first bit set")
        if len(self._message) + size > self._max_bytes:
            raise BadFrame(TOO_BIG, f"a message is larger than {self._max_bytes} bytes (STREAMAPP_MAX_MESSAGE_BYTES)")
        self._opcode = self._opcode or opcode
        self._mask = bytes(came[start - 4 : start])
        self._is_last = first >= 0x80
        self._left = size
        del came[:start]
        return self._take_payload()

    def _take_payload(self) -> Frame:
        size = min(self._left, len(self._came))
        piece: bytes | bytearray = apply_mask(self._came[:size], self._mask) if size else b""
        del self._came[:size]
        self._left -= size
        if self._left:
            turn = size % 4
            self._mask = self._mask[turn:] + self._mask[:turn]
        if self._left or not self._is_last:
            self._message += piece
            return Frame(0, b"")
        if self._message:
            piece, self._message = self._message + piece, bytearray()
        opcode, self._opcode = self._opcode, 0
        return Frame(opcode, bytes(piece))  # type: ignore[arg-type]  # `_check` knows it

    def _check(self, first: int, second: int) -> None:
        """Refuse a frame by its first two bytes."""
        opcode = first & 0x0F
        if first & 0x70:
            raise BadFrame(PROTOCOL_ERROR, "a frame has reserved bits set; no extension was agreed on")
        if opcode not in _KNOWN:
            raise BadFrame(PROTOCOL_ERROR, f"a frame has the reserved opcode {opcode}")
        if not second & 0x80:
            raise BadFrame(PROTOCOL_ERROR, "a frame is not masked, as a client's has to be")
        if opcode >= CLOSE:
            if first < 0x80:
                raise BadFrame(PROTOCOL_ERROR, "a control frame is fragmented")
            if second & 0x7F > _MOST_OF_CONTROL:
                raise BadFrame(PROTOCOL_ERROR, f"a control frame is longer than {_MOST_OF_CONTROL} bytes")
        elif opcode == _MORE and not self._opcode:
            raise BadFrame(PROTOCOL_ERROR, "a message goes on that has not begun")
        elif opcode != _MORE and self._opcode:
            raise BadFrame(PROTOCOL_ERROR, "a message begins in another one")


def text_in(content: bytes) -> str:
    """Return a message's text.

    Raises:
        BadFrame: it is none.
    """
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        raise BadFrame(NO_TEXT, f"a text is no UTF-8 at byte {error.start}") from None


def is_close_code(code: int) -> bool:
    """Say whether a close frame may have it."""
    return code in _CLOSE_CODES or code in _OWN_CODES


def close_in(content: bytes) -> tuple[int, str]:
    """Return the code and the reason of a close frame, `NO_CODE` where it has none.

    Raises:
        BadFrame: it has one that may not be sent, or half of one.
    """
    if not content:
        return NO_CODE, ""
    code = int.from_bytes(content[:2], "big")
    if len(content) < 2 or not is_close_code(code):
        raise BadFrame(PROTOCOL_ERROR, "a close frame has no code that may be sent")
    return code, text_in(content[2:])
