"""Cut the frames of a session into messages that every data channel holds, and put them together. Pure.

A message of a data channel may be as small as 64 KiB (https://www.rfc-editor.org/rfc/rfc8841#section-6.1). So each is a
text of which the first character says whether more of the frame follows, `+`, or it was the last piece, `.`.
"""

import io
from collections.abc import Iterator

from ..errors import MalformedRequest, PayloadTooLarge

MORE, LAST = "+", "."
_PIECE = 16_000  # characters, of which UTF-8 makes up to 64,000 bytes


def cut(frame: str) -> Iterator[str]:
    """Give the messages of a frame."""
    for start in range(0, len(frame) or 1, _PIECE):
        rest = len(frame) - start
        yield (MORE if rest > _PIECE else LAST) + frame[start : start + _PIECE]


class Pieces:
    """Put the frames of one client together.

    Args:
        most: bytes of a frame.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._text = io.StringIO()  # a list would hold an object for each piece, which may be empty
        self._size = 0

    def add(self, message: object) -> str | None:
        """Take in a message; return the frame that it completes.

        Raises:
            MalformedRequest: it is no piece of a frame.
            PayloadTooLarge: the frame is larger than it may be.
        """
        if not isinstance(message, str) or message[:1] not in (MORE, LAST):
            got = repr(message[:20]) if isinstance(message, str) else "a binary one"
            raise MalformedRequest(f'expected messages of text that begin with "{MORE}" or "{LAST}", got {got}')
        self._size += len(message.encode(errors="replace")) - 1
        if self._size > self._most:
            raise PayloadTooLarge(f"a message is larger than {self._most} bytes (STREAMAPP_MAX_MESSAGE_BYTES)")
        self._text.write(message[1:])
        if message[0] == MORE:
            return None
        frame = self._text.getvalue()
        self._text, self._size = io.StringIO(), 0
        return frame
