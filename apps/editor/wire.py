"""Read and write what `y-websocket` sends: numbers of 7 bits a byte, buffers behind their length, and messages of them.

Pure. The messages are those of https://github.com/yjs/y-protocols/blob/master/PROTOCOL.md.
"""

from enum import IntEnum
from typing import NamedTuple

from streamapp.errors import InvalidInput

_MOST = 2**53 - 1  # JavaScript makes one of several numbers above
_MOST_BITS = 56  # eight bytes


class Kind(IntEnum):
    """What a message is about: the text, who is there, or that the latter is asked for."""

    SYNC = 0
    AWARENESS = 1
    ASK_AWARENESS = 3


class Step(IntEnum):
    """What a message of the kind SYNC holds: a state, all edits that such a state lacks, or the newest edits."""

    STATE = 0
    MISSING = 1
    UPDATE = 2


class Reader:
    """Take bytes apart, from the first to the last.

    Attributes:
        at: where the next byte is.

    Raises:
        InvalidInput: they end too early, or too late, or a number is none that JavaScript has.
    """

    def __init__(self, data: bytes) -> None:
        self.at = 0
        self._data = data

    def byte(self) -> int:
        """Return the next byte."""
        if self.at == len(self._data):
            raise InvalidInput("Expected more bytes: the message is cut")
        self.at += 1
        return self._data[self.at - 1]

    def number(self) -> int:
        """Return the next number."""
        number = 0
        for shift in range(0, _MOST_BITS, 7):
            byte = self.byte()
            number |= (byte & 127) << shift
            if byte < 128 and number <= _MOST:
                return number
        raise InvalidInput(f"Expected a number of at most {_MOST}")

    def buffer(self) -> bytes:
        """Return the next bytes, which follow their length."""
        length = self.number()
        begin, self.at = self.at, self.at + length
        if self.at > len(self._data):
            raise InvalidInput("Expected more bytes: the message is cut")
        return self._data[begin : self.at]

    def text(self) -> str:
        """Return the next bytes as text."""
        try:
            return self.buffer().decode()
        except UnicodeDecodeError as error:
            raise InvalidInput(f"Expected text in UTF-8: {error}") from None

    def end(self) -> None:
        """See that nothing follows."""
        if self.at != len(self._data):
            raise InvalidInput(f"Expected the end, got {len(self._data) - self.at} bytes more")


class Message(NamedTuple):
    """One message: of which kind, in the kind SYNC which step, and what it holds."""

    kind: Kind
    step: Step
    content: bytes


def read_message(data: bytes) -> Message:
    """Take a message apart.

    Raises:
        InvalidInput: it is none.
    """
    reader = Reader(data)
    try:
        kind = Kind(reader.number())
        step = Step(reader.number()) if kind is Kind.SYNC else Step.UPDATE
    except ValueError as error:
        raise InvalidInput(f"Expected a message of y-websocket: {error}") from None
    content = b"" if kind is Kind.ASK_AWARENESS else reader.buffer()
    reader.end()
    return Message(kind, step, content)


def read_state(content: bytes) -> dict[int, int]:
    """Return how many edits of each client a state vector names.

    Raises:
        InvalidInput: it is none.
    """
    reader = Reader(content)
    state = {reader.number(): reader.number() for _ in range(reader.number())}
    reader.end()
    return state


def number(value: int) -> bytes:
    """Write a number."""
    written = bytearray()
    while value > 127:
        written.append(value & 127 | 128)
        value >>= 7
    written.append(value)
    return bytes(written)


def buffer(data: bytes) -> bytes:
    """Write bytes behind their length."""
    return number(len(data)) + data


def sync(step: Step, content: bytes) -> bytes:
    """Write a message of the kind SYNC."""
    return bytes((Kind.SYNC, step)) + buffer(content)
