"""Read a log at positions of their own: who reads, who sleeps, how they are woken, and whether one of them watches.

A `Subscriber` is one reader; `Readers` is what all readers of one log share, and the door by which the producer wakes
them. The invariants by which no event is lost between the two stand in `channel`.
"""

import asyncio
import contextvars
import time
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, suppress

from .delivery import BULK, Deliver, Delivery, Turns, end_wait
from .events import ABOUT_STREAM, TERMINAL, Event, encode
from .log import EventLog, number_of
from .pace import Pace, Paced

_POLLER_WATCHES_S = 10.0
# What a sleeping reader's task has to see: the stream ends with it, or something is missing from it.
_FOR_THE_TASK = TERMINAL | ABOUT_STREAM


class Readers:
    """Wake the readers of one log, and say whether any of them wants a preview.

    Attributes:
        lock: the channel's.
        on_demand: hears whether a preview is wanted.
        loop: that all readers live on, and producers that wait there; None before the first of them.
        subscribed: those that have not left.
        sleepers: those to wake by the next event; each of them has taken all that came before.
    """

    __slots__ = (
        "_polled",
        "_told_at",
        "lock",
        "log",
        "loop",
        "on_demand",
        "pace",
        "sleepers",
        "subscribed",
        "turns",
    )

    def __init__(self, lock: AbstractContextManager[bool], log: EventLog, pace: Pace, turns: Turns) -> None:
        self.lock = lock
        self.log = log
        self.pace = pace
        self.turns = turns
        self.loop: asyncio.AbstractEventLoop | None = None
        self.subscribed: set[Subscriber] = set()
        self.sleepers: list[Subscriber] = []
        self._polled = (0.0, 0)
        self.on_demand: Callable[[bool], None] | None = None
        self._told_at = -1  # how many previews there were when it was told that one is wanted, -1 when none was

    def take_sleepers(self) -> "list[Subscriber]":
        """Return the readers to wake, who do not count as asleep from now on; under the lock."""
        sleepers, self.sleepers = self.sleepers, []
        return sleepers

    def skip_start(self) -> "list[Subscriber]":
        """Leave out `started`, just logged, for all but those who hear it; returns the ones to wake; under the lock."""
        for reader in self.subscribed:
            reader.skip_start()
        self.pace.skip_start()
        hearing = [sleeper for sleeper in self.sleepers if sleeper.hears_start]
        self.sleepers = [sleeper for sleeper in self.sleepers if not sleeper.hears_start]
        return hearing

    def wake(self, sleepers: Iterable[Paced]) -> None:
        """Wake readers, and producers on the loop that need not wait any more; from any thread, locked or not."""
        if self.loop is None:
            return
        with suppress(RuntimeError):  # the loop is closed: nobody is left to read
            # Not in the job's context: what is printed there would become lines of its log.
            self.loop.call_soon_threadsafe(self.wake_here, sleepers, context=contextvars.Context())

    def wake_here(self, sleepers: Iterable[Paced]) -> None:
        """Do the same on the loop, at once."""
        for sleeper in sleepers:
            sleeper.wake()
        # When the log has ended, a store may still be behind: nobody waits for it any more.
        if self.pace.async_waiters and (self.log.terminal is not None or not self.pace.is_full()):
            self.pace.give_async_room()

    def wants_preview(self) -> bool:
        """Tell whether a reader that shows previews has taken the last one; from any thread."""
        with self.lock:
            preview_n = self.log.preview_n
            polled_at, polled_n = self._polled
            if polled_n >= preview_n and polled_at and time.monotonic() - polled_at < _POLLER_WATCHES_S:
                return True
            return any(reader.shows_previews and reader.n >= preview_n for reader in self.subscribed)

    def note_poll(self) -> None:
        """Count as watching, for 10 s, somebody who has polled all there is; under the lock."""
        self._polled = (time.monotonic(), self.log.n)

    def listen_to_demand(self, tell: Callable[[bool], None]) -> None:
        """Have `wants_preview` told, now and whenever it changes, but for a preview's own doing; on the loop."""
        self.on_demand = tell
        previews = self.log.previews
        wants = self.wants_preview()
        self._told_at = previews if wants else -1
        tell(wants)

    def tell_demand(self) -> None:
        """Tell whoever listens to the demand when it has changed; on the loop, without the lock.

        The previews are counted before it is asked: one that comes in between is followed by a telling of its own.
        """
        if self.on_demand is None:
            return
        previews = self.log.previews
        wants = self.wants_preview()
        if wants != (self._told_at == previews):
            self._told_at = previews if wants else -1
            self.on_demand(wants)


class Subscriber:
    """Read a channel from one position; every method runs on the loop.

    Attributes:
        n: the number of the last event taken.
        index: the place of the next lasting event.
        taken_bytes: of all lasting events before that, as long as this is the owner.
        settled: of one that holds the trim: the index up to which events may go.
        missed: how many events had been trimmed, at most, when this resumed behind them.
        shows_previews: count this reader as watching.
        is_dropped: the producer waited for this reader as long as it may, and now goes on without it.
        is_closed: `close` was called.
        hears_start: it gets `started`.
        is_counted: it keeps the job alive.
    """

    __slots__ = (
        "_delivery",
        "_has_heard",
        "_readers",
        "_timer",
        "_waiter",
        "hears_start",
        "index",
        "is_closed",
        "is_counted",
        "is_dropped",
        "missed",
        "n",
        "settled",
        "shows_previews",
        "taken_bytes",
    )

    def __init__(
        self,
        readers: Readers,
        index: int,
        n: int,
        missed: int,
        shows_previews: bool,
        hears_start: bool,
        is_counted: bool,
    ) -> None:
        self._readers = readers
        self._delivery = Delivery()
        self._waiter: asyncio.Future[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self.n = n
        self.index = self.settled = index
        self.taken_bytes = 0
        self.missed = missed
        self.shows_previews = shows_previews
        self.hears_start = hears_start
        self.is_counted = is_counted
        self.is_dropped = False
        self.is_closed = False
        self._has_heard = True  # of being dropped

    def take(self) -> list[Event]:
        """Return all events past this position, in order, and move behind them.

        Where the log was trimmed past the position stands a `lagged` event, which says how many lasting events this
        reader missed; of one that resumes, which knows only the number it saw last, how many at most.
        """
        readers, delivery = self._readers, self._delivery
        log, pace = readers.log, readers.pace
        with readers.lock:
            self._has_heard = True
            lagged = self._catch_up(log) if self.missed or self.index < log.first_index else None
            events = log.past(self.index, self.n)
            self.index = log.next_index
            self.n = log.n
            if pace.owner is self:
                self.taken_bytes = log.bytes
                pace.trim()
                pace.give_room()
            if self._waiter is not None and self not in readers.sleepers:
                readers.sleepers.append(self)
        delivery.is_behind = len(events) > BULK
        if readers.on_demand is not None:
            readers.tell_demand()
        if lagged is not None:
            events = sorted([lagged, *events], key=number_of)
        if delivery.refused:
            events, delivery.refused = delivery.refused + events, None
        return events

    def _catch_up(self, log: EventLog) -> Event:
        event = Event("lagged", encode({"skipped": self.missed + max(0, log.first_index - self.index)}))
        event.n = log.trimmed_n
        self.missed = 0
        self.index = max(self.index, log.first_index)
        return event

    def settle(self, n: int) -> None:
        """Let events up to place `n` be trimmed, as a reader that holds the trim has them safe."""
        readers = self._readers
        with readers.lock:
            self.settled = max(self.settled, readers.log.index_after(n))
            readers.pace.trim()
            readers.pace.give_room()

    def skip_start(self) -> None:
        """Leave out `started`, just logged; under the lock."""
        log = self._readers.log
        if not self.hears_start and self.n < log.start_n:
            self.n, self.index, self.taken_bytes = log.start_n, log.next_index, log.bytes

    async def wait(self, timeout_s: float, deliver: Deliver | None = None) -> bool:
        """Sleep until there is news, or for `timeout_s` nothing at all; False when the time ran out.

        News is an event, `close`, or, until the next `take`, being dropped.

        Args:
            deliver: takes events while this sleeps on; those that it returns False for end the sleep and come with
                the next `take`. It must not wait.
        """
        readers, delivery = self._readers, self._delivery
        if delivery.is_behind:
            await self._rest()
        loop = asyncio.get_running_loop()
        with readers.lock:
            if self._has_news():
                return True
            self._waiter = waiter = loop.create_future()
            readers.sleepers.append(self)
            if self.n > readers.log.start_n:
                readers.turns.tell_sent()
        delivery.deliver, delivery.served_at = deliver, time.monotonic()
        self._timer = loop.call_later(timeout_s, self._time_out, timeout_s)
        try:
            await waiter
        finally:
            self._timer.cancel()
            self._waiter = self._timer = delivery.deliver = None
            with readers.lock:
                if self in readers.sleepers:
                    readers.sleepers.remove(self)
        return self._has_news()

    async def _rest(self) -> None:
        """Let events pile up for a moment, unless the producer waits for this reader, or has come to its end.

        Nobody is told of events meanwhile, as this is no sleeper. That the log is full, and that it has ended, is told
        under the same lock to whoever has a `_waiter`; so is `close`, on the loop.
        """
        readers, pace = self._readers, self._readers.pace
        with readers.lock:
            if readers.log.terminal is not None or (pace.owner is self and pace.is_full()):
                return
            self._waiter = waiter = asyncio.get_running_loop().create_future()
        try:
            await self._delivery.rest(waiter)
        finally:
            self._waiter = None

    def _time_out(self, timeout_s: float) -> None:
        left_s = self._delivery.served_at + timeout_s - time.monotonic()
        if left_s > 0:
            self._timer = asyncio.get_running_loop().call_later(left_s, self._time_out, timeout_s)
        else:
            end_wait(self._waiter)

    def _has_news(self) -> bool:
        return self._readers.log.n > self.n or bool(self._delivery.refused) or self.is_closed or not self._has_heard

    @property
    def is_asleep(self) -> bool:
        """Say whether this waits to be woken."""
        return self._waiter is not None

    def drop(self) -> None:
        """Let the producer go on without this reader; under the lock."""
        self.is_dropped, self._has_heard = True, False

    def wake(self) -> None:
        """Deliver what is new, or end `wait` now; what was taken since this was asked for is nothing to wake up for."""
        is_over = self._readers.log.terminal is not None or self.is_closed or self.is_dropped
        if is_over or not self._delivery.is_due(self._waiter):
            if is_over or self._has_news():
                end_wait(self._waiter)
            return
        events = self.take()
        if _FOR_THE_TASK.isdisjoint([event.kind for event in events]):
            self.serve(events)
        else:
            self._leave_to_task(events)

    def moves_past(self, event: Event) -> bool:
        """Move behind an event, just logged and not the last, if it can be served now; under the lock.

        Who sleeps has taken all that came before.
        """
        if self.is_dropped or not self._delivery.is_due(self._waiter):
            return False
        log, pace = self._readers.log, self._readers.pace
        self.n = event.n
        self.index = log.next_index
        if pace.owner is self:
            self.taken_bytes = log.bytes
            pace.trim()
        return True

    def serve(self, events: list[Event]) -> None:
        """Deliver events that this reader has moved past; what is refused is left to its task."""
        readers, deliver = self._readers, self._delivery.deliver
        assert deliver is not None
        if readers.on_demand is not None:
            readers.tell_demand()
        if events and not deliver(events):
            self._leave_to_task(events)
        elif readers.turns.first_sent is not None and self.n > readers.log.start_n:
            readers.turns.tell_sent()

    def _leave_to_task(self, events: list[Event]) -> None:
        self._delivery.refused = events
        end_wait(self._waiter)

    def close(self) -> None:
        """Leave the channel; the owner's position stays, so that the producer waits for its return."""
        readers = self._readers
        with readers.lock:
            self.is_closed = True
            readers.subscribed.discard(self)
            if self in readers.pace.holders:
                readers.pace.remove_holder(self)
        readers.tell_demand()
        self.wake()
