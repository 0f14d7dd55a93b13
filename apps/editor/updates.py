"""Check an update of Yjs before it is applied: what applies it, written in Rust, ends the process on some that are
made up (nested values overflow its stack), panics on others, and asks for memory that a few bytes name.

What is counted is units of UTF-16, of which some characters, as most emoji, have two. An edit may come between these:
Yjs then has U+FFFD in the place of each half. What applies it here does not, and goes on with a wrong count; so the
halves are written in before (`taken_apart`).

Documents here are one plain text each, so what an update may hold is little: text, what was deleted, and where it
belongs. Formats, embedded values and other types are refused. Which edits an update needs is found on the way: none is
applied before these are there, so a document never has holes.

The format is that of `Y.encodeStateAsUpdate`, version 1: https://github.com/yjs/yjs/blob/v13.6.33/src/utils/encoding.js
"""

from collections.abc import Container, Iterator
from typing import NamedTuple

from streamapp.errors import InvalidInput

from .wire import Reader, buffer

#: what a document's text is called in Yjs: `doc.getText("content")`
TEXT = "content"
_GC, _DELETED, _STRING, _SKIP = 0, 1, 4, 10
_KIND, _HAS_ORIGIN, _HAS_RIGHT_ORIGIN, _HAS_KEY = 31, 128, 64, 32
_MOST_CLOCK = 2**31  # of one client's edits; those who count in 32 bits add to it


Place = tuple[int, int]  # a client, and the number of one of its edits


class Words(NamedTuple):
    """A text in an update in which characters have two units: where it is written, and whose edits it is."""

    begin: int
    end: int
    client: int
    clock: int
    text: str

    def characters(self) -> Iterator[tuple[str, Place | None]]:
        """Iterate over the characters; of those that have two units with the place of the second."""
        clock = self.clock
        for character in self.text:
            is_wide = character > "\uffff"
            yield character, (self.client, clock + 1) if is_wide else None
            clock += 1 + is_wide


class Update(NamedTuple):
    """What an update holds.

    Attributes:
        brings: by client, the first of its edits that are there without a gap, and the one that follows the last.
        needs: by client, the one that follows the last that has to be there.
        parts: before which places texts are parted.
        words: the texts whose characters have two units.
    """

    brings: dict[int, tuple[int, int]]
    needs: dict[int, int]
    parts: set[Place]
    words: list[Words]

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
    update = Update({}, {}, set(), [])
    for _ in range(reader.number()):
        count, client, begin = reader.number(), reader.number(), reader.number()
        end = begin
        for _ in range(count):
            length, is_there = _read_edit(reader, client, end, update)
            end += length
            begin = begin if is_there else end
        if client in update.brings or end > _MOST_CLOCK:
            raise InvalidInput(f"Expected the edits of client {client} once, and less than {_MOST_CLOCK}")
        update.brings[client] = begin, end
    for _ in range(reader.number()):
        client = reader.number()
        for _ in range(reader.number()):
            begin = reader.number()
            end = begin + _read_length(reader)
            update.parts.update(((client, begin), (client, end)))
            _need(update.needs, client, end)
    reader.end()
    return update


def taken_apart(data: bytes, places: Container[Place]) -> bytes:
    """Return an update with U+FFFD in the place of each half of the characters whose second units have these places."""
    written: list[bytes] = []
    at = 0
    for words in read_update(data).words:
        text = "".join(2 * "\ufffd" if place in places else character for character, place in words.characters())
        written += data[at : words.begin], buffer(text.encode())
        at = words.end
    return b"".join((*written, data[at:]))


def _read_edit(reader: Reader, client: int, clock: int, update: Update) -> tuple[int, bool]:
    """Read one edit; return its length, in units of UTF-16, and whether it is there, not left out."""
    head = reader.byte()
    kind = head & _KIND
    if kind in (_GC, _SKIP):
        return _read_length(reader), kind == _GC
    if kind not in (_DELETED, _STRING) or head & _HAS_KEY:
        raise InvalidInput(f"Expected edits of a plain text, got one of kind {kind}")
    for has in (_HAS_ORIGIN, _HAS_RIGHT_ORIGIN):
        if head & has:
            beside, at = _read_origin(reader, client, clock, update.needs)
            update.parts.add((beside, at + (has == _HAS_ORIGIN)))
    if not head & (_HAS_ORIGIN | _HAS_RIGHT_ORIGIN):
        _read_parent(reader)
    if kind == _DELETED:
        return _read_length(reader), True
    begin, text = reader.at, reader.text()
    if not text:
        raise InvalidInput("Expected some text in each edit")
    length = len(text.encode("utf-16-le")) // 2
    if length > len(text):
        update.words.append(Words(begin, reader.at, client, clock, text))
    return length, True


def _read_origin(reader: Reader, client: int, clock: int, needs: dict[int, int]) -> Place:
    """Read beside which other edit one belongs."""
    beside, at = reader.number(), reader.number()
    if beside == client and at >= clock:
        raise InvalidInput("Expected an edit to be beside an earlier one")
    _need(needs, beside, at + 1)
    return beside, at


def _read_parent(reader: Reader) -> None:
    if reader.number() != 1 or reader.text() != TEXT:
        raise InvalidInput(f'Expected edits of the text "{TEXT}"; write doc.getText("{TEXT}")')


def _read_length(reader: Reader) -> int:
    if (length := reader.number()) == 0:
        raise InvalidInput("Expected a length of 1 or more")
    return length


def _need(needs: dict[int, int], client: int, end: int) -> None:
    needs[client] = max(needs.get(client, 0), end)
