"""Say whom the producer waits for, and let it wait: the bounds of a log, ahead of its readers and behind them.

Two kinds of readers hold a producer: the owner, for whom it streams, and those that must not miss an event. All others
may fall behind and lose the oldest events. The time that producers wait is one budget for the whole job, or for a turn
of a session, which is not refilled: a reader who has used it up is dropped, and the job goes on without it.

What changes something is called under the channel's lock, but for `wait_for_async_room`, which takes it itself, and
`give_async_room`, which runs on the loop alone: asynchronous producers put themselves down there, and are let go there.
`is_full` and `has_reading_owner` may be asked without the lock: what they say was true a moment ago.
"""

import asyncio
import threading
import time
from collections.abc import Callable, Iterable
from typing import Protocol

from ..errors import Cancelled
from ..settings import Settings
from .log import EventLog


class Paced(Protocol):
    """Describe a reader that a producer may wait for.

    Attributes:
        index: of the first lasting event that it has not taken.
        taken_bytes: of all lasting events before that, as long as it is the owner.
        settled: the index up to which what it holds may go.
        is_closed: it has left.
    """

    index: int
    taken_bytes: int
    settled: int
    is_closed: bool

    @property
    def is_asleep(self) -> bool:
        """Say whether it waits to be woken."""

    def drop(self) -> None:
        """Hear that the producer goes on without it."""

    def wake(self) -> None:
        """Hear, on the loop, that there is news."""


#: how many events, and bytes, of a job are kept behind whose readers come and go
KEPT = (65_536, 64 * 1024 * 1024)

Wake = Callable[[Iterable[Paced]], None]


class _Expected:
    """Stand for the owner who is about to come: it has taken nothing, and there is nobody to wake."""

    index = taken_bytes = settled = 0
    is_closed = is_asleep = False

    def drop(self) -> None:
        """Let the producer go on."""

    def wake(self) -> None:
        """Change nothing."""


class Pace:
    """Bound how far a producer may be ahead, and how much is kept behind.

    Attributes:
        ahead: how many events, and bytes, may be logged that the owner has not taken.
        behind: how many events, and bytes, are kept that it has taken.
        owner: whom the producer waits for; of one that has left, for its return.
        expected: stands for the owner until the first reader comes.
        holders: without what these have settled nothing is trimmed.
        async_waiters: producers on the loop that wait for room.
    """

    __slots__ = (
        "_budget_s",
        "_charged_until",
        "_lock",
        "_log",
        "_room",
        "_whole_budget_s",
        "ahead",
        "async_waiters",
        "behind",
        "expected",
        "holders",
        "owner",
    )

    def __init__(
        self,
        settings: Settings,
        log: EventLog,
        lock: threading.RLock,
        *,
        awaits_owner: bool = False,
        keeps: bool = False,
    ) -> None:
        self._log = log
        self._lock = lock
        # A settings object is a pydantic model, from which an attribute takes longer than all the rest of `is_full`.
        self.ahead = (settings.ahead_events, settings.ahead_bytes)
        self.behind = (settings.behind_events, settings.behind_bytes)
        if keeps:
            self.behind = (max(KEPT[0], self.behind[0]), max(KEPT[1], self.behind[1]))
        self.expected = _Expected() if awaits_owner else None
        self.owner: Paced | None = self.expected
        # Tuples: most logs have none of these, and then it is no object of their own.
        self.holders: tuple[Paced, ...] = ()
        self.async_waiters: tuple[asyncio.Future[None], ...] = ()
        self._room: threading.Condition | None = None  # made when a producer waits: it takes a kilobyte
        self._whole_budget_s = self._budget_s = settings.send_timeout_s
        self._charged_until = 0.0

    @property
    def has_reading_owner(self) -> bool:
        """Say whether the reader that the producer waits for is there; it needs no lock."""
        owner = self.owner
        return owner is not None and owner is not self.expected and not owner.is_closed

    @property
    def ahead_events(self) -> int:
        """Return how many lasting events the owner has not taken."""
        return 0 if self.owner is None else self._log.next_index - self.owner.index

    def renew(self) -> None:
        """Let producers have the whole budget again."""
        self._budget_s = self._whole_budget_s

    def skip_start(self) -> None:
        """Leave `started`, just logged, out of what the expected owner is behind."""
        if self.expected is not None:
            self.expected.index, self.expected.taken_bytes = self._log.next_index, self._log.bytes

    def add(self, reader: Paced, *, is_owner: bool, is_counted: bool = True) -> None:
        """Let a reader that has just come be the owner, in place of the one before, while the budget lasts.

        Args:
            is_counted: False for a store or a link, which may come before the owner who is expected.
        """
        if is_owner and self._budget_s > 0 and self._log.terminal is None:
            reader.taken_bytes = self._log.bytes_before(reader.index)
            self.owner, self.expected = reader, None
        elif is_counted and self.owner is self.expected:
            self.owner = None
        self.give_room()

    def add_holder(self, reader: Paced) -> None:
        """Trim nothing from now on that this reader has not settled."""
        reader.settled = max(reader.index, self._log.first_index)
        self.holders += (reader,)

    def remove_holder(self, reader: Paced) -> None:
        """Hold nothing any more for a reader that has left."""
        self.holders = tuple(holder for holder in self.holders if holder is not reader)
        self.give_room()

    def release(self) -> None:
        """Wait for nobody any more; who waits in a thread goes on, to see that the log has ended."""
        self.owner = self.expected = None
        self._notify()

    def is_full(self, bounds: tuple[int, ...] | None = None) -> bool:
        """Say whether the owner, or who holds, is as far behind as the producer may be ahead: events, bytes.

        Args:
            bounds: other ones, and only for the owner.
        """
        if self.holders and bounds is None and self._full_holders():
            return True
        owner, log = self.owner, self._log
        if owner is None:
            return False
        max_events, max_bytes = bounds or self.ahead
        return log.next_index - owner.index >= max_events or log.bytes - owner.taken_bytes >= max_bytes

    def _full_holders(self) -> list[Paced]:
        log = self._log
        max_events, max_bytes = map(max, self.ahead, self.behind)
        return [
            holder
            for holder in self.holders
            if log.next_index - holder.settled >= max_events
            or log.bytes - log.trimmed_bytes >= max_bytes + self.behind[1]
        ]

    def _pacing(self) -> list[Paced]:
        """Return the readers that the producer waits for."""
        return [*self.holders, *filter(None, [self.owner])]

    def wait_for_room(self, wake: Wake) -> None:
        """Wait in a thread until the log is not full; the lock is given up meanwhile.

        Args:
            wake: wakes readers from any thread.
        Raises:
            Cancelled: the log ended meanwhile.
        """
        while self.is_full():
            started = time.monotonic()
            if self._room is None:
                self._room = threading.Condition(self._lock)
            resting = [reader for reader in self._pacing() if reader.is_asleep]
            if resting:
                wake(resting)
            self._room.wait(self._budget_s)
            self._spend(started, wake)
            self._check()

    async def wait_for_async_room(self, wake: Wake) -> None:
        """Wait on the loop until there may be room, at most for what is left of the budget; takes the lock itself.

        Args:
            wake: wakes readers from any thread.
        Raises:
            Cancelled: the log has ended.
        """
        started = time.monotonic()
        loop = asyncio.get_running_loop()
        room = loop.create_future()
        with self._lock:
            self._check()
            if not self.is_full():  # what there was to wait for has just gone
                return
            self.async_waiters += (room,)
        for reader in self._pacing():
            reader.wake()  # it may rest
        timer = loop.call_later(self._budget_s, self.give_async_room)
        try:
            await room
        finally:
            timer.cancel()
        with self._lock:
            self._spend(started, wake)

    def pause(self, for_s: float) -> None:
        """Wait in a thread for so long, or for the log's end; the lock is given up meanwhile.

        Raises:
            Cancelled: the log has ended.
        """
        until = time.monotonic() + for_s
        self._check()
        while (left_s := until - time.monotonic()) > 0:
            if self._room is None:
                self._room = threading.Condition(self._lock)
            self._room.wait(left_s)
            self._check()

    async def pause_on_loop(self, for_s: float) -> None:
        """Wait on the loop for so long, or for the log's end; takes the lock itself."""
        loop = asyncio.get_running_loop()
        until = loop.time() + for_s
        while (left_s := until - loop.time()) > 0:
            room = loop.create_future()
            with self._lock:
                if self._log.terminal is not None:
                    return
                self.async_waiters += (room,)
            await asyncio.wait((room,), timeout=left_s)
            self.async_waiters = tuple(waiter for waiter in self.async_waiters if waiter is not room)

    def give_room(self) -> None:
        """Let all that wait look again, as a reader on the loop has made room."""
        if self._room is not None:
            self._room.notify_all()
        if self.async_waiters:
            self.give_async_room()

    def give_async_room(self) -> None:
        """Let producers on the loop look again; on the loop, with or without the lock."""
        waiters, self.async_waiters = self.async_waiters, ()
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)

    def _notify(self) -> None:
        if self._room is not None:
            self._room.notify_all()

    def _check(self) -> None:
        if self._log.terminal is not None:
            raise Cancelled

    def _spend(self, since: float, wake: Wake) -> None:
        """Take the time since `since` off the job's one budget for waiting; when it is spent, drop the holders that are
        too far behind, then, if need be, the owner.

        What several producers wait together counts once.
        """
        now = time.monotonic()
        self._budget_s -= now - max(since, self._charged_until)
        self._charged_until = now
        if self._budget_s > 0 or not self.is_full():
            return
        self._budget_s = 0
        dropped = self._full_holders()
        self.holders = tuple(holder for holder in self.holders if holder not in dropped)
        if self.owner is not None and self.is_full():
            dropped.append(self.owner)
            self.owner = None
        for reader in dropped:
            reader.drop()
        self._notify()  # of several producers that wait, all go on
        wake(dropped)
        self.trim()

    def trim(self) -> None:
        """Let go of the oldest events that were taken, or settled, and are over the bounds behind."""
        log, owner = self._log, self.owner
        if owner is None:
            until, taken_bytes = log.next_index, log.bytes
        else:
            until, taken_bytes = owner.index, owner.taken_bytes
        max_events, max_bytes = self.behind
        if until - log.first_index > max_events or taken_bytes - log.trimmed_bytes > max_bytes:
            index = until - max_events
            for holder in self.holders:
                until = min(until, holder.settled)
            log.trim(index, taken_bytes - max_bytes, until)
