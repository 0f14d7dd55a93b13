"""Check an update of Yjs before it is applied: what applies it, written in Rust, ends the process on some that are
made up (nested values overflow its stack), panics on others, and asks for memory that a few bytes name.

Documents here are one plain text each, so what an update may hold is little: text, what was deleted, and where it
belongs. Formats, embedded values and other types are refused. Which edits an update needs is found on the way: none is
applied before these are there, so a document never has holes.

The format is that of `Y.encodeStateAsUpdate`, version 1: https://github.com/yjs/yjs/blob/v13.6.33/src/utils/encoding.js
"""

from typing import NamedTuple

from streamapp.errors import InvalidInput

from .wire import Reader

#: what a document's text is called in Yjs: `doc.getText("content")`
TEXT = "content"
_GC, _DELETED, _STRING, _SKIP = 0, 1, 4, 10
_KIND, _HAS_ORIGIN, _HAS_RIGHT_ORIGIN, _HAS_KEY = 31, 128, 64, 32
_MOST_CLOCK = 2**31  # of one client's edits; those who count in 32 bits add to it


class Update(NamedTuple):
    """What an update holds, by client.

    Attributes:
        brings: the first of its edits that are there without a gap, and the one that follows the last.
        needs: the one that follows the last that has to be there.
    """

    brings: dict[int, tuple[int, int]]
    needs: dict[int, int]

    def lacks(self, known: dict[int, int]) -> bool:
        """Say whether edits are missing before it, where those that are known are so many by client."""
        return any(begin > known.get(client, 0) for client, (begin, _) in self.brings.items()) or any(
            end > max(known.get(client, 0), self.brings.get(client, (0, 0))[1]) for client, end in self.needs.items()
        )


def read_update(data: bytes) -> Update:
    """Check an update of a text, and return what it holds.

    Raises:
        InvalidInput: it is none, or not of a plain text.
    """
    reader = Reader(data)
    update = Update({}, {})
    for _ in range(reader.number()):
        count, client, begin = reader.number(), reader.number(), reader.number()
        end = begin
        for _ in range(count):
            length, is_there = _read_edit(reader, client, end, update.needs)
            end += length
            begin = begin if is_there else end
        if client in update.brings or end > _MOST_CLOCK:
            raise InvalidInput(f"Expected the edits of client {client} once, and less than {_MOST_CLOCK}")
        update.brings[client] = begin, end
    for _ in range(reader.number()):
        client = reader.number()
        for _ in range(reader.number()):
            _need(update.needs, client, reader.number() + _read_length(reader))
    reader.end()
    return update


def _read_edit(reader: Reader, client: int, clock: int, needs: dict[int, int]) -> tuple[int, bool]:
    """Read one edit; return its length, in units of UTF-16, and whether it is there, not left out."""
    head = reader.byte()
    kind = head & _KIND
    if kind in (_GC, _SKIP):
        return _read_length(reader), kind == _GC
    if kind not in (_DELETED, _STRING) or head & _HAS_KEY:
        raise InvalidInput(f"Expected edits of a plain text, got one of kind {kind}")
    for has in (_HAS_ORIGIN, _HAS_RIGHT_ORIGIN):
        if head & has:
            _read_origin(reader, client, clock, needs)
    if not head & (_HAS_ORIGIN | _HAS_RIGHT_ORIGIN):
        _read_parent(reader)
    if kind == _DELETED:
        return _read_length(reader), True
    text = reader.text()
    if not text:
        raise InvalidInput("Expected some text in each edit")
    return len(text.encode("utf-16-le")) // 2, True


def _read_origin(reader: Reader, client: int, clock: int, needs: dict[int, int]) -> None:
    """Read beside which other edit one belongs."""
    beside, at = reader.number(), reader.number()
    if beside == client and at >= clock:
        raise InvalidInput("Expected an edit to be beside an earlier one")
    _need(needs, beside, at + 1)


def _read_parent(reader: Reader) -> None:
    if reader.number() != 1 or reader.text() != TEXT:
        raise InvalidInput(f'Expected edits of the text "{TEXT}"; write doc.getText("{TEXT}")')


def _read_length(reader: Reader) -> int:
    if (length := reader.number()) == 0:
        raise InvalidInput("Expected a length of 1 or more")
    return length


def _need(needs: dict[int, int], client: int, end: int) -> None:
    needs[client] = max(needs.get(client, 0), end)
