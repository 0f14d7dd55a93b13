"""Keep the events of one job in order: the numbered list alone.

It is data: no lock, no thread, no loop. `channel` calls it under its lock; how much is kept behind whom says `pace`.
"""

from bisect import bisect_right
from collections import deque

from .events import ATTEMPT, REPLACEABLE, Event

#: how much is kept, in characters, of what outputs said that were trimmed, where it is to be joined
MAX_TEXT = 8 * 1024 * 1024
_TEXTS_A_PIECE = 1024


class EventLog:
    """Number events and keep them: lasting ones in order, and one slot for each (kind, key) of replaceable ones.

    A lasting event has two places: its number, which rises with every event, and its index, counted over lasting
    events alone, those that were trimmed included.

    More than 15 attributes: they are those of one list, which the channel's append, the hottest path, reads directly.

    Attributes:
        n: the number of the newest event, 0 before the first.
        start_n: the number of `started`, 0 where there is none.
        lasting: those from an index of the log's own on; None where one was trimmed and is not yet deleted.
        first_index: that of the first lasting event that is kept.
        next_index: what the next lasting event gets.
        bytes: of all lasting events ever.
        trimmed_bytes: of those that are no longer kept.
        trimmed_n: the number of the last one that is no longer kept, 0 where all are.
        replaced: how many replaceable events made room for a newer one.
        preview_n: the number of the newest preview, or of the beginning of an attempt after it.
        previews: how many there were.
        last_output: the newest output of this attempt.
        terminal: the event that ended the log.
        trimmed_text: what outputs of this attempt said that are no longer kept; None where it is not to be joined.
    """

    __slots__ = (
        "_base",
        "_slots",
        "bytes",
        "first_index",
        "last_output",
        "lasting",
        "n",
        "next_index",
        "preview_n",
        "previews",
        "replaced",
        "start_n",
        "terminal",
        "trimmed_bytes",
        "trimmed_n",
        "trimmed_text",
    )

    def __init__(self, *, joins: bool = False, first_n: int = 0) -> None:
        self.n = first_n
        self.start_n = 0
        self.lasting: list[Event | None] = []
        self._base = 0  # the index of `lasting[0]`
        self.first_index = self.next_index = 0
        self.bytes = self.trimmed_bytes = 0
        self.trimmed_n = 0
        self._slots: dict[tuple[str, str], Event] = {}
        self.replaced = 0
        self.preview_n = self.previews = 0
        self.last_output: Event | None = None
        self.terminal: Event | None = None
        self.trimmed_text = TrimmedText() if joins else None

    @property
    def kept_events(self) -> int:
        """Return how many lasting events are kept."""
        return self.next_index - self.first_index

    @property
    def kept_bytes(self) -> int:
        """Return the bytes of all events that are kept."""
        replaceable = sum([event.size for event in self._slots.values()]) if self._slots else 0
        joined = len(self.terminal.text or "") if self.terminal is not None else 0
        trimmed = 0 if self.trimmed_text is None else self.trimmed_text.size
        return self.bytes - self.trimmed_bytes + replaceable + trimmed + joined

    @property
    def newest_progress(self) -> Event | None:
        """Return the newest progress event that is kept."""
        kept = [event for event in self._slots.values() if event.kind == "progress"]
        return max(kept, key=number_of, default=None)

    def append(self, event: Event) -> None:
        """Give an event the next number and keep it."""
        self.n = event.n = self.n + 1
        if event.kind == "output":
            self.last_output = event
        elif event.kind in REPLACEABLE:
            return self._replace(event)
        self.lasting.append(event)
        self.next_index += 1
        self.bytes += event.size

    def _replace(self, event: Event) -> None:
        slot = event.kind, event.key
        if slot in self._slots:
            self.replaced += 1
        self._slots[slot] = event
        if event.kind == "preview":
            self.preview_n = event.n
            self.previews += 1

    def append_numbered(self, event: Event) -> None:
        """Keep an event that has a number, higher than any before."""
        self.n = event.n - 1
        self.append(event)

    def begin(self, event: Event) -> None:
        """Begin an attempt by a numbered event, `started` or `restarted`; what came before is no result any more."""
        self._slots.clear()
        if self.trimmed_text is not None:
            self.trimmed_text = TrimmedText()
        self.preview_n, self.last_output = event.n, None
        self.n = event.n - 1
        self.append(event)
        if event.kind == "started":
            self.start_n = event.n

    def end(self, event: Event) -> None:
        """Append the terminal event."""
        self.append(event)
        self.terminal, self.trimmed_text = event, None

    def past(self, index: int, n: int) -> list[Event]:
        """Return all that is kept past a place, in order.

        Args:
            index: the place among lasting events, none of which was trimmed from there on.
            n: the same place as a number, for replaceable ones.
        """
        events: list[Event] = self.lasting[index - self._base :]  # type: ignore[assignment]  # none of them is trimmed
        if not self._slots:
            return events
        replaceable = [event for event in self._slots.values() if event.n > n]
        return sorted(events + replaceable, key=number_of) if replaceable else events

    def index_after(self, n: int) -> int:
        """Return the index of the first kept event past number `n`."""
        return self._base + bisect_right(self.lasting, n, lo=self.first_index - self._base, key=number_of)

    def bytes_before(self, index: int) -> int:
        """Return the bytes of all lasting events before an index."""
        return self.bytes - sum(event.size for event in self.lasting[index - self._base :] if event is not None)

    def trim(self, index: int, trimmed_bytes: int, until: int) -> None:
        """Let go of the oldest events, up to an index and until so many bytes are gone; never of the newest.

        Args:
            index: the first that need not go.
            trimmed_bytes: how many bytes are to be gone, all that were trimmed before included.
            until: nothing goes from this index on.
        """
        lasting, base, first = self.lasting, self._base, self.first_index
        texts = self.trimmed_text
        began = 0 if texts is None else self._attempt_began
        if until >= self.next_index:
            until = self.next_index - 1
        while first < until and (first < index or self.trimmed_bytes < trimmed_bytes):
            event = lasting[first - base]
            assert event is not None
            if texts is not None and event.kind == "output" and event.text is not None and event.n > began:
                texts.add(event.text)
            self.trimmed_bytes += event.size
            self.trimmed_n = event.n
            lasting[first - base] = None
            first += 1
        self.first_index = first
        if first - base > 1024:  # delete in bulk: a list's pop(0) moves all the others
            del lasting[: first - base]
            self._base = first

    @property
    def _attempt_began(self) -> int:
        return self.n - self.n % ATTEMPT

    def text(self) -> str | None:
        """Return what this attempt's outputs have said; None where that is not to be joined, or none is text."""
        if self.trimmed_text is None:
            return None
        began = self._attempt_began
        outputs = [event for event in self.lasting if event is not None and event.kind == "output" and event.n > began]
        texts = [*self.trimmed_text.pieces, *(event.text for event in outputs if event.text is not None)]
        return "".join(texts) if texts or not outputs else None


class TrimmedText:
    """Keep what outputs said that are no longer kept themselves, in few pieces; of `MAX_TEXT` characters the end."""

    __slots__ = ("_last", "_pieces", "size")

    def __init__(self) -> None:
        self._pieces: deque[str] = deque()
        self._last: list[str] = []  # a token takes twenty times its length
        self.size = 0

    def add(self, text: str) -> None:
        """Append a text."""
        self._last.append(text)
        self.size += len(text)
        if len(self._last) >= _TEXTS_A_PIECE:
            self._pieces.append("".join(self._last))
            self._last.clear()
        while self.size > MAX_TEXT and self._pieces:
            self.size -= len(self._pieces.popleft())

    @property
    def pieces(self) -> list[str]:
        """Return all of it, in order."""
        return [*self._pieces, *self._last]


def number_of(event: Event | None) -> int:
    """Return the number of an event; those that were trimmed come before all others."""
    return 0 if event is None else event.n
