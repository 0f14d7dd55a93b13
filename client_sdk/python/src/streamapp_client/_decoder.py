"""Decode the bytes of a text/event-stream into events; knows no sockets and no JSON.

The rules are the HTML standard's, https://html.spec.whatwg.org/multipage/server-sent-events.html#parsing-an-event-stream,
held by the byte fixtures in `tests/wire/`, which the JavaScript decoder reads too.

Divergence: httpx-sse connects for us, but its decoder (0.4.3) fails 5 of those fixtures. It keeps the byte order mark,
and hands out an empty event for each block without data: a lone name, id or retry, and, after the first id, a comment.
"""

from typing import NamedTuple

from ._errors import UnexpectedAnswer

#: What is kept, at most, of an event, a line or an answer that is not complete yet: some large pictures. Without a
#: bound another server could fill the memory.
MAX_BYTES = 128 << 20
#: What Python keeps of a chunk besides its bytes.
PIECE_BYTES = 48

_BYTE_ORDER_MARK = b"\xef\xbb\xbf"

# A longer `retry:` is no waiting time that anybody means, and `int` refuses thousands of digits.
_MAX_RETRY_DIGITS = 15


class ServerSentEvent(NamedTuple):
    """Hold one event as it stood on the wire; `id` is the last id seen up to it."""

    name: str
    data: str
    id: str


class SSEDecoder:
    """Turn chunks, cut anywhere, into events; the time is linear in the bytes, whatever the sizes.

    Attributes:
        last_event_id: the id to send as `Last-Event-ID` on a reconnect; of the last block that was complete.
        retry_ms: the reconnection time that the server asked for, None when it did not.
    """

    def __init__(self) -> None:
        self.last_event_id = ""
        self.retry_ms: int | None = None
        self._line: list[bytes] = []  # pieces of the line that is not complete yet; joined once
        self._size = 0  # of the chunks since the last block ended
        self._is_first_line = True
        self._ends_with_cr = False
        self._name = ""
        self._data: list[bytes] = []
        self._id = ""

    @property
    def is_between_events(self) -> bool:
        """Say whether no block has begun that is not complete; comments and ids make none."""
        return not (self._data or self._name or any(self._line))

    def feed(self, chunk: bytes) -> list[ServerSentEvent]:
        """Take the next bytes and return the events that they complete.

        Raises:
            UnexpectedAnswer: an event is longer than `MAX_BYTES`.
        """
        if not chunk:
            return []
        if self._ends_with_cr:
            chunk = chunk.removeprefix(b"\n")  # a CRLF cut in two; its CR has ended the line already
        self._ends_with_cr = chunk.endswith(b"\r")
        self._size += len(chunk) + PIECE_BYTES
        events = []
        for piece in chunk.splitlines(keepends=True):  # of bytes: at CR, LF and CRLF only
            text = piece.rstrip(b"\r\n")
            self._line.append(text)
            if len(text) < len(piece):
                line = b"".join(self._line)
                self._line.clear()
                if event := self._end_line(line):
                    events.append(event)
        if self._size > MAX_BYTES:
            raise too_long("an event")
        return events

    def _end_line(self, line: bytes) -> ServerSentEvent | None:
        if self._is_first_line:
            line = line.removeprefix(_BYTE_ORDER_MARK)
            self._is_first_line = False
        if not line:
            return self._end_block()
        field, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        match field:
            case b"data":
                self._data.append(value)
            case b"event":
                self._name = _text(value)
            case b"id" if b"\0" not in value:
                self._id = _text(value)
            case b"retry" if value.isdigit() and len(value) <= _MAX_RETRY_DIGITS:
                self.retry_ms = int(value)
        return None

    def _end_block(self) -> ServerSentEvent | None:
        self.last_event_id = self._id
        name, data = self._name, self._data
        self._name, self._data, self._size = "", [], 0
        if not data:
            return None
        return ServerSentEvent(name or "message", _text(b"\n".join(data)), self._id)


def _text(value: bytes) -> str:
    return value.decode("utf-8", errors="replace")


def too_long(what: str, max_bytes: int = MAX_BYTES) -> UnexpectedAnswer:
    """Return the error that ends the reading of what has no bound."""
    return UnexpectedAnswer(f"Expected {what} of {max_bytes >> 20} MiB at most, got more")
