"""Hold one text with its history, as Yjs has it: merge the updates of others, make edits of one's own."""

from array import array
from bisect import bisect_left
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any, NamedTuple

from pycrdt import Doc, TextEvent, TransactionEvent
from pycrdt import Text as YText

from streamapp.errors import InvalidInput

from .updates import TEXT, Place, Update, read_update
from .wire import read_state


class Change(NamedTuple):
    """What an edit has changed: an update for other copies; and, where that was asked for, inserts and deletes.

    Attributes:
        places: one after the other, at places in characters: to find them takes the longer the longer the text is.
    """

    update: bytes
    places: list[dict[str, Any]]


class Unsound(InvalidInput):
    """An update could not be taken in whole: the text is to be read anew from what was kept of it."""


class SharedText:
    """Hold a text, made of updates; in one thread at a time."""

    def __init__(self, updates: Iterable[bytes] = ()) -> None:
        self._doc: Doc[YText] = Doc()
        self._text = self._doc.get(TEXT, type=YText)
        self._update, self._places = b"", list[dict[str, Any]]()
        self._known: dict[int, int] = {}
        self._halves: dict[int, array[int]] = {}
        for content in updates:
            self._doc.apply_update(content)
        if max(str(self), default="") > "\uffff":  # where no character has two halves all need not be read
            self._note_known(read_update(self.since()))
        self._known = read_state(self.state)
        self._doc.observe(self._note_update)

    def __str__(self) -> str:
        return str(self._text)

    @property
    def state(self) -> bytes:
        """Return how many edits of each client there are, as Yjs writes it."""
        return self._doc.get_state()

    def since(self, state: bytes | None = None) -> bytes:
        """Return all edits that a copy in this state lacks, which was checked, or all edits."""
        return self._doc.get_update(state)

    def lacks_for(self, update: Update) -> bool:
        """Say whether edits are missing that an update needs."""
        return update.lacks(self._known)

    def splits(self, update: Update) -> set[Place]:
        """Return the characters that an update comes between the halves of, by the places of the second ones."""
        begun = {(client, known) for client in update.brings if (known := self._known.get(client))}
        own = {place for words in update.words for _, place in words.characters()}
        return {place for place in update.parts | begun if place in own or self._has_half(*place)}

    def _has_half(self, client: int, clock: int) -> bool:
        halves = self._halves.get(client, ())
        at = bisect_left(halves, clock)
        return at < len(halves) and halves[at] == clock

    def merge(self, update: Update, content: bytes, *, says_places: bool = False) -> Change | None:
        """Take in an update that lacks nothing and splits nothing; None where it changes nothing.

        Raises:
            Unsound: it contradicts itself.
        """
        try:
            with self._noting_places() if says_places else nullcontext():
                self._doc.apply_update(content)
        except BaseException as error:  # a panic of Rust's is no Exception
            raise Unsound(f"Expected an update of Yjs: {error}") from error
        # Edits of several clients may each be said to be beside the other, and then none of them finds its place.
        if len(update.brings) > 1 and any(
            read_state(self.state).get(client, 0) < end for client, (_, end) in update.brings.items()
        ):
            raise Unsound("Expected edits that are beside earlier ones")
        self._note_known(update)
        return self._take_change()

    def replace(self, start: int, end: int, text: str) -> Change | None:
        """Write a text in the place of characters; None where that changes nothing.

        Raises:
            InvalidInput: there are fewer characters.
        """
        content = str(self)
        if not 0 <= start <= end <= len(content):
            raise InvalidInput(
                f"Expected a place in the text, which has {len(content)} characters, got {start} to {end}"
            )
        at = len(content[:start].encode())
        with self._noting_places(), self._doc.transaction():
            del self._text[at : at + len(content[start:end].encode())]
            self._text.insert(at, text)
        change = self._take_change()
        if change is not None:
            self._note_known(read_update(change.update))
        return change

    def _note_update(self, event: TransactionEvent) -> None:
        self._update = event.update

    @contextmanager
    def _noting_places(self) -> Iterator[None]:
        before = str(self).encode()

        def note(event: TextEvent) -> None:
            delta: list[dict[str, Any]] = event.delta  # type: ignore[attr-defined]  # pycrdt's annotations lack it
            self._places = list(_places(delta, before))

        subscription = self._text.observe(note)
        try:
            yield
        finally:
            self._text.unobserve(subscription)

    def _note_known(self, update: Update) -> None:
        for words in update.words:
            halves, known = self._halves.setdefault(words.client, array("Q")), self._known.get(words.client, 0)
            halves.extend(place[1] for _, place in words.characters() if place and place[1] >= known)
        for client, (_, end) in update.brings.items():
            self._known[client] = max(end, self._known.get(client, 0))

    def _take_change(self) -> Change | None:
        change = Change(self._update, self._places)
        self._update, self._places = b"", []
        return change if change.update else None


def _places(delta: Iterable[dict[str, Any]], left: bytes) -> Iterator[dict[str, Any]]:
    """Say what is kept, added and deleted, in bytes of UTF-8, as inserts and deletes.

    Args:
        left: of the text before, what is not gone through yet.
    """
    position = 0
    for part in delta:
        match part:
            case {"insert": text}:
                yield {"type": "insert", "position": position, "text": text}
                position += len(text)
            case {"delete": size}:
                yield {"type": "delete", "start": position, "length": len(left[:size].decode())}
                left = left[size:]
            case {"retain": size}:
                position += len(left[:size].decode())
                left = left[size:]
