"""Carry a job's events from the thread that makes them to the readers on the event loop.

A `Channel` is the bounded log of one job: lasting events in order, and one slot per (kind, key) for
replaceable ones, numbered by one counter. Any thread emits; readers subscribe on the loop, each with its own
position, and take all that is new at once. One lock guards it all and is held for a few lines; a sleeping
reader is woken by one `call_soon_threadsafe`, a reader that is awake costs the producer nothing.

It does not encode (`events`), frame (`wire`) or know HTTP. What user code sees of it is `stream`.
"""

import asyncio
import contextvars
import threading
import time
from bisect import bisect_right
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Any, NamedTuple

from .errors import Cancelled, ErrorReport, StreamAppError
from .events import ABOUT_STREAM, ATTEMPT, REPLACEABLE, TERMINAL, Event, encode, terminal
from .events import BEGINNINGS as _BEGINNINGS
from .settings import Settings

# A tight producer holds the GIL and starves the loop that it has just woken. Giving the GIL up after a wake-up, at most
# this often, costs no throughput.
_YIELD_EVERY_S = 0.001
# At the very first event that is too little: the loop has several system calls to make until it is sent, and waits for
# the GIL after each. The producer waits for the first reader instead, at most this long: on a loaded machine the first
# event comes after 2 ms instead of 6.
_FIRST_SENT_S = 0.002
# A sleeping reader gets an event that comes alone from where it was emitted, without a turn of the loop for its task.
# What follows sooner than this goes by way of the task, and so in one piece with all that has piled up by then.
_DELIVER_EVERY_S = 0.001
# A reader that took this many at once is behind a producer that does not pause. Each time it asks again the two hand
# the GIL over, from core to core, which costs more than the events that have come: it lets them pile up first. A stream
# of 200 000 took a third of the processor time less, and 1 400 switches of threads instead of 5 400.
_BULK = 32
_REST_S = 0.001
_POLLER_WATCHES_S = 10.0
# What a sleeping reader's task has to see: the stream ends with it, or something is missing from it.
_FOR_THE_TASK = TERMINAL | ABOUT_STREAM


class ChannelStatistics(NamedTuple):
    """Describe a channel at one moment."""

    #: events emitted so far, replaced ones included
    emitted: int
    #: replaceable events that made room for a newer one
    replaced: int
    #: lasting events in memory, and bytes of them
    kept_events: int
    kept_bytes: int
    #: lasting events that the owner has not taken
    ahead_events: int
    #: readers attached
    subscribers: int


class Channel:
    """Hold the log of one job.

    Thread-safe: `start`, `emit`, `finish`, `fail`, `cancel`, `check`, `wants_preview`, `events`, `kept_bytes` and
    `statistics` may be called from any thread; `offer`, `aemit`, `take_in`, `subscribe` and what a `Subscriber` offers
    only on one loop.

    Events are numbered here, or, where this mirrors the log of another process, were numbered there (`take_in`).

    Args:
        settings: the bounds ahead of the owner and behind it, and `send_timeout_s`.
        on_terminal: called once, in the thread that ended the log, after the lock is released.
        awaits_owner: the producer is paced from the start, by the owner who is about to come.
    """

    # A dictionary of more than 30 names shares its keys with no other (CPython): it would cost each job a kilobyte.
    __slots__ = (
        "_ahead",
        "_async_waiters",
        "_base",
        "_behind",
        "_bytes",
        "_charged_until",
        "_expected",
        "_first_sent",
        "_head",
        "_holders",
        "_last_output",
        "_lock",
        "_log",
        "_loop",
        "_n",
        "_on_demand",
        "_on_terminal",
        "_owner",
        "_polled",
        "_preview_n",
        "_replaced",
        "_room",
        "_send_budget_s",
        "_sleepers",
        "_slots",
        "_start_n",
        "_subscribers",
        "_terminal",
        "_told_demand",
        "_trimmed_bytes",
        "_trimmed_n",
        "_yielded_at",
    )

    def __init__(
        self, settings: Settings, *, on_terminal: Callable[[], None] | None = None, awaits_owner: bool = False
    ) -> None:
        # A settings object is a pydantic model, from which an attribute takes longer than all the rest of `_is_full`.
        self._ahead = (settings.ahead_events, settings.ahead_bytes)
        self._behind = (settings.behind_events, settings.behind_bytes)
        self._on_terminal = on_terminal
        self._lock = threading.RLock()  # never taken twice, but it knows whose it is
        self._room: threading.Condition | None = None  # made when a producer waits: it takes a kilobyte
        # Tuples: most logs have none of these, and then it is no object of their own.
        self._async_waiters: tuple[asyncio.Future[None], ...] = ()
        self._holders: tuple[Subscriber, ...] = ()
        self._n = 0
        self._log: list[Event | None] = []  # lasting events; those before `_head` are trimmed (None)
        self._head = 0
        self._base = 0  # how many lasting events stood before `_log[0]`
        self._trimmed_n = 0
        self._bytes = 0  # of all lasting events ever; with `_trimmed_bytes` it says what is kept
        self._trimmed_bytes = 0
        self._slots: dict[tuple[str, str], Event] = {}
        self._replaced = 0
        self._preview_n = 0
        self._polled = (0.0, 0)
        self._terminal: Event | None = None
        self._last_output: Event | None = None
        self._on_demand: Callable[[bool], None] | None = None
        self._told_demand = False
        self._start_n = 0  # the place of `started`, 0 where there is none
        self._subscribers: set[Subscriber] = set()
        self._sleepers: list[Subscriber] = []
        self._expected = Subscriber(self, 0, 0, False) if awaits_owner else None
        self._owner = self._expected
        self._send_budget_s = settings.send_timeout_s
        self._charged_until = 0.0
        self._loop: asyncio.AbstractEventLoop | None = None
        self._yielded_at = time.monotonic()
        self._first_sent: threading.Event | None = None  # while the producer waits until its first event is sent

    @property
    def terminal(self) -> Event | None:
        """Return the event that ended the log, or None while the job goes on."""
        return self._terminal

    @property
    def last_output(self) -> Event | None:
        """Return the newest output: the job's result once it succeeded."""
        return self._last_output

    @property
    def last_n(self) -> int:
        """Return the number of the newest event, 0 before the first."""
        return self._n

    @property
    def is_held_here(self) -> bool:
        """Say whether this thread is inside of the channel, and so runs a finalizer, which must not emit.

        The garbage collector runs wherever objects are made; what it finalizes may print, and so emit a log line.
        """
        return bool(self._lock._is_owned())  # type: ignore[attr-defined]  # what `threading.Condition` asks

    @property
    def trimmed_n(self) -> int:
        """Return the number of the last lasting event that is no longer kept, 0 where all are."""
        return self._trimmed_n

    @property
    def attempt(self) -> int:
        """Return which attempt at the job the log is in, 1 before the first."""
        return self._n // ATTEMPT + 1

    @property
    def kept_bytes(self) -> int:
        """Return the bytes of events in memory, in a third of the time that `statistics` takes."""
        with self._lock:
            return self._kept_bytes()

    @property
    def has_readers(self) -> bool:
        """Say whether anybody reads that keeps the job alive: no store, no link."""
        with self._lock:
            return any(subscriber.is_counted for subscriber in self._subscribers)

    @property
    def has_reading_owner(self) -> bool:
        """Say whether the reader that the producer waits for is there."""
        owner = self._owner
        return owner is not None and owner is not self._expected and not owner.is_closed

    def start(self, attempt: int = 1) -> None:
        """Begin an attempt at the job, in the log too: the first by `started`, which only readers get that ask for it,
        a later one by `restarted`. What the attempt before brought can still be read, but is no result any more.

        Args:
            attempt: higher than any before.
        Raises:
            Cancelled: the log has ended.
        """
        event = Event("started" if attempt == 1 else "restarted", encode({"attempt": attempt}))
        event.n = (attempt - 1) * ATTEMPT + 1
        with self._lock:
            self.check()
            sleepers = self._begin(event)
        if sleepers:
            self._wake(sleepers)

    def emit(self, event: Event, *, waits: bool = True) -> None:
        """Append an event; blocks while the log is full ahead of the owner.

        Args:
            waits: False appends in any case: what is bounded otherwise, a bar or a line.
        Raises:
            Cancelled: the log has ended, or ended while this waited.
            StreamAppError: called by a finalizer that interrupted this very channel.
        """
        if self._lock._is_owned():  # type: ignore[attr-defined]
            raise StreamAppError("a finalizer cannot emit: the garbage collector has run it inside of the stream")
        max_events, max_bytes = self._ahead
        self._lock.acquire()  # `with` takes twice as long
        try:
            if self._terminal is not None:
                raise Cancelled
            owner = self._owner
            # The common case in one piece. There is no call in it, and so no point at which CPython takes the GIL away
            # from who holds the lock: the loop, which then has the GIL, would wait for the lock next. That is for
            # speed; right it is by the lock alone.
            if (
                event.kind == "output"
                and owner is not None
                and self._n > self._start_n
                and not self._holders
                and self._base + len(self._log) - owner._index < max_events
                and self._bytes - owner._taken_bytes < max_bytes
            ):
                self._n = event.n = self._n + 1
                self._log.append(event)
                self._bytes += len(event.data)
                self._last_output = event
            else:
                self._append_when_due(event, waits=waits)
            sleepers = self._sleepers
            if sleepers:
                self._sleepers = []
        finally:
            self._lock.release()
        if sleepers:
            self._wake(sleepers)
        if waits and (sleepers or self._first_sent is not None):
            self._give_way()

    def add_line(self, event: Event) -> bool:
        """Append a line that was printed or logged; it never waits, as whoever prints may hold locks that others want.

        Returns:
            False, and the line is left out, where the owner is as far behind as events are kept.
        Raises:
            Cancelled: the log has ended.
        """
        with self._lock:
            has_room = not self._is_full(tuple(map(max, self._ahead, self._behind)))
        if has_room:
            self.emit(event, waits=False)
        else:
            self.check()
        return has_room

    def _give_way(self) -> None:
        """Give the GIL up, so that the loop can run."""
        first_sent = self._first_sent
        if first_sent is not None:
            first_sent.wait(_FIRST_SENT_S)
            self._first_sent = None
        elif (now := time.monotonic()) - self._yielded_at > _YIELD_EVERY_S:
            self._yielded_at = now
            time.sleep(0)

    async def aemit(self, event: Event) -> None:
        """Append an event from the loop; waits, without blocking the loop, while the log is full.

        Raises:
            Cancelled: the log has ended, or ended while this waited.
        """
        while not self.offer(event):
            if self._owes_a_turn():
                await asyncio.sleep(0)
                self._yielded_at = time.monotonic()
            else:
                await self._wait_for_async_room()

    def offer(self, event: Event) -> bool:
        """Append an event from the loop; False, and nothing is appended, where `aemit` would wait.

        Raises:
            Cancelled: the log has ended.
        """
        if not self._sleepers and self._owes_a_turn():
            return False
        self._lock.acquire()  # `with` takes twice as long
        try:
            if self._terminal is not None:
                raise Cancelled
            sleepers = self._sleepers
            # Who sleeps has taken all that came before.
            may_be_full = self._holders or self._owner not in sleepers
            if may_be_full and event.kind not in REPLACEABLE and self._is_full():
                return False
            self._append(event)
            if self._owner is None:
                self._trim()
            # The common case, one event for one reader, who need not even be woken.
            is_lone = len(sleepers) == 1 and sleepers[0]._passes(event)
            if not is_lone:
                self._sleepers = []
        finally:
            self._lock.release()
        if is_lone:
            sleepers[0]._hand_over([event])
            return True
        for sleeper in sleepers:
            sleeper.wake()
        return True

    def take_in(self, events: Iterable[Event]) -> bool:
        """Append events that were numbered elsewhere: this is the mirror of a log in another process. On the loop.

        What is here already is left out, so the same events may come twice; they come in the order of their places. An
        end that comes this way keeps its number, as that of a log out of a store; one that is made here gets the next.

        Returns:
            False, and nothing is appended, where the owner is too far behind: try again after `room`.
        Raises:
            Cancelled: the log has ended.
        """
        sleepers: list[Subscriber] = []
        ending: Event | None = None
        with self._lock:
            self.check()
            if self._is_full():
                return False
            for event in events:
                if event.n <= self._n:
                    continue
                if event.is_terminal:
                    self._n = event.n - 1
                    ending = event
                    break
                if event.kind in _BEGINNINGS:
                    sleepers += self._begin(event)
                    continue
                self._n = event.n - 1
                self._append(event)
                sleepers += self._take_sleepers()
            if self._owner is None:
                self._trim()
        for sleeper in sleepers:
            sleeper.wake()
        if ending is not None:
            self._end(ending)
        return True

    async def room(self) -> None:
        """Wait until an event can be appended, at most for what is left of the job's budget. On the loop.

        Raises:
            Cancelled: the log has ended.
        """
        while self._is_full():
            await self._wait_for_async_room()
        self.check()

    def finish(self, output: Event | None = None, data: Any = None) -> bool:
        """End the log as succeeded, after a last output where there is one; False when it had ended already."""
        return self._end(terminal("done", data or {}), output)

    def fail(self, error: ErrorReport) -> bool:
        """End the log with an error; False when it had ended already."""
        return self._end(terminal("error", error))

    def cancel(self, error: ErrorReport) -> bool:
        """End the log as cancelled; the producer meets `Cancelled` at its next emit. False when it had ended."""
        return self._end(terminal("cancelled", error))

    def check(self) -> None:
        """Raise `Cancelled` when the log has ended; costs nothing otherwise."""
        if self._terminal is not None:
            raise Cancelled

    def wants_preview(self) -> bool:
        """Tell whether a reader that shows previews has taken the last one."""
        with self._lock:
            polled_at, polled_n = self._polled
            if polled_n >= self._preview_n and polled_at and time.monotonic() - polled_at < _POLLER_WATCHES_S:
                return True
            return any(s.shows_previews and s.n >= self._preview_n for s in self._subscribers)

    def listen_to_demand(self, tell: Callable[[bool], None]) -> None:
        """Have `wants_preview` told, now and whenever it changes, but for a preview's own doing: after each one nobody
        wants the next until a reader has taken it. On the loop; `tell` is called there and must not wait.
        """
        self._on_demand = tell
        self._told_demand = self.wants_preview()
        tell(self._told_demand)

    def events(self, *, after: int = 0, shows_previews: bool = False) -> list[Event]:
        """Return what the log holds past `after`, without subscribing.

        Args:
            shows_previews: the caller polls and shows previews: it counts as watching for 10 s.
        """
        with self._lock:
            if shows_previews:
                self._polled = (time.monotonic(), self._n)
            return self._past(self._index_after(after), after)

    def subscribe(
        self,
        *,
        after: int = 0,
        is_owner: bool = False,
        shows_previews: bool = True,
        hears_start: bool = False,
        is_counted: bool = True,
        holds: bool = False,
    ) -> "Subscriber":
        """Add a reader that starts behind event `after`; call it on the loop.

        Args:
            is_owner: the producer waits for this reader, and no longer for the one before it.
            hears_start: it gets `started`, which is a fact of the log and no part of what the endpoint streams.
            is_counted: it keeps the job alive; a store and a link do not.
            holds: nothing is trimmed that it has not settled, and the producer waits where that becomes too much: it is
                a store, which must not miss an event.
        """
        loop = asyncio.get_running_loop()
        with self._lock:
            assert self._loop in (None, loop), "all readers of a channel live on one event loop"
            self._loop = loop
            after = after if hears_start else max(after, self._start_n)
            subscriber = Subscriber(self, self._index_after(after), after, shows_previews)
            subscriber.hears_start, subscriber.is_counted = hears_start, is_counted
            if holds:
                subscriber._settled = max(subscriber._index, self._base + self._head)
                self._holders += (subscriber,)
            subscriber._missed = min(self._base + self._head, max(0, self._trimmed_n - after))
            self._subscribers.add(subscriber)
            if is_owner and self._send_budget_s > 0 and self._terminal is None:
                subscriber._taken_bytes = self._bytes_before(subscriber._index)
                self._owner, self._expected = subscriber, None
            elif self._owner is self._expected:
                self._owner = None
            self._give_room()
        self._tell_demand()
        return subscriber

    def statistics(self) -> ChannelStatistics:
        """Return the channel's figures at this moment."""
        with self._lock:
            return ChannelStatistics(
                emitted=self._n % ATTEMPT,
                replaced=self._replaced,
                kept_events=len(self._log) - self._head,
                kept_bytes=self._kept_bytes(),
                ahead_events=self._ahead_events(),
                subscribers=len(self._subscribers),
            )

    # `_tell_sent`, `_end`, `_wake_all`, `_owes_a_turn`, `_give_async_room` and `_wait_for_async_room` run without the
    # lock, the rest under it.

    def _kept_bytes(self) -> int:
        replaceable = sum([len(event.data) for event in self._slots.values()]) if self._slots else 0
        return self._bytes - self._trimmed_bytes + replaceable

    def _begin(self, event: Event) -> "list[Subscriber]":
        """Log that an attempt begins, and return the readers to wake."""
        self._n = event.n - 1
        self._slots.clear()
        self._preview_n, self._last_output = event.n, None
        self._append(event)
        if event.kind == "restarted":
            return self._take_sleepers()
        self._start_n = event.n
        for reader in filter(None, (*self._subscribers, self._expected)):
            reader._skip_start()
        hearing = [sleeper for sleeper in self._sleepers if sleeper.hears_start]
        self._sleepers = [sleeper for sleeper in self._sleepers if not sleeper.hears_start]
        return hearing

    def _tell_demand(self) -> None:
        if self._on_demand is None or self._told_demand == (wants := self.wants_preview()):
            return
        self._told_demand = wants
        self._on_demand(wants)

    def _append(self, event: Event) -> None:
        """Number an event and log it."""
        self._n = event.n = self._n + 1
        if event.kind in REPLACEABLE:
            if (event.kind, event.key) in self._slots:
                self._replaced += 1
            self._slots[event.kind, event.key] = event
            if event.kind == "preview":
                self._preview_n = event.n
                self._told_demand = False
        else:
            self._log.append(event)
            self._bytes += len(event.data)
            if event.kind == "output":
                self._last_output = event

    def _append_when_due(self, event: Event, *, waits: bool) -> None:
        """Do for any event what `emit` does for a further output that there is room for."""
        if waits and event.kind not in REPLACEABLE and self._is_full():
            self._wait_for_room()
        if waits and self._n == self._start_n and self._subscribers:
            self._first_sent = threading.Event()
        self._append(event)
        if self._owner is None:
            self._trim()

    def _take_sleepers(self) -> "list[Subscriber]":
        """Return the readers to wake; they do not count as asleep from now on."""
        sleepers, self._sleepers = self._sleepers, []
        return sleepers

    def _tell_sent(self, n: int) -> None:
        """Let the producer go on when a reader has sent what came until `n`."""
        first_sent = self._first_sent
        if n > self._start_n and first_sent is not None:
            first_sent.set()

    def _end(self, event: Event, output: Event | None = None) -> bool:
        with self._lock:
            if self._terminal is not None:
                return False
            if output is not None:
                self._append(output)
            self._append(event)  # nothing is trimmed for these two: who comes late gets at least the result and the end
            self._sleepers = []
            sleepers = list(self._subscribers)  # those that rest, too
            self._terminal = event
            self._owner = self._expected = None
            self._notify()
        # Without cycles a job that is let go of frees its megabytes now, not at the next full garbage collection.
        on_terminal, self._on_terminal = self._on_terminal, None
        try:
            if on_terminal is not None:
                on_terminal()  # before readers see the end, so that what they ask for next is up to date
        finally:
            self._wake(sleepers)
        return True

    def _wake(self, sleepers: "Iterable[Subscriber]") -> None:
        """Wake readers, and producers on the loop that need not wait any more; from any thread, locked or not."""
        if self._loop is None:
            return
        with suppress(RuntimeError):  # the loop is closed: nobody is left to read
            # Not in the job's context: what is printed there would become lines of its log.
            self._loop.call_soon_threadsafe(self._wake_all, sleepers, context=contextvars.Context())

    def _wake_all(self, sleepers: "Iterable[Subscriber]") -> None:
        for sleeper in sleepers:
            sleeper.wake()
        if self._async_waiters and not self._is_full():
            self._give_async_room()

    def _index_after(self, n: int) -> int:
        """Return the lasting index of the first kept event past number `n`."""
        return self._base + bisect_right(self._log, n, lo=self._head, key=_number)

    def _bytes_before(self, index: int) -> int:
        return self._bytes - sum(len(e.data) for e in self._log[index - self._base :] if e is not None)

    def _past(self, index: int, n: int) -> list[Event]:
        events: list[Event] = self._log[index - self._base :]  # type: ignore[assignment]  # none of them is trimmed
        if not self._slots:
            return events
        replaceable = [event for event in self._slots.values() if event.n > n]
        return sorted(events + replaceable, key=_number) if replaceable else events

    def _ahead_events(self) -> int:
        if self._owner is None:
            return 0
        return self._base + len(self._log) - self._owner._index

    def _is_full(self, bounds: tuple[int, ...] | None = None) -> bool:
        """Say whether the owner, or who holds, is as far behind as the producer may be ahead: events, bytes."""
        if self._holders and bounds is None and self._full_holders():
            return True
        owner = self._owner
        if owner is None:
            return False
        max_events, max_bytes = bounds or self._ahead
        return self._base + len(self._log) - owner._index >= max_events or self._bytes - owner._taken_bytes >= max_bytes

    def _full_holders(self) -> "list[Subscriber]":
        max_events, max_bytes = map(max, self._ahead, self._behind)
        end = self._base + len(self._log)
        return [
            holder
            for holder in self._holders
            if end - holder._settled >= max_events or self._bytes - self._trimmed_bytes >= max_bytes + self._behind[1]
        ]

    def _pacing(self) -> "list[Subscriber]":
        """Return the readers that the producer waits for."""
        return [*self._holders, *filter(None, [self._owner])]

    def _wait_for_room(self) -> None:
        while self._is_full():
            started = time.monotonic()
            if self._room is None:
                self._room = threading.Condition(self._lock)
            resting = [reader for reader in self._pacing() if reader.is_asleep]
            if resting:
                self._wake(resting)
            self._room.wait(self._send_budget_s)
            self._spend(started)
            self.check()

    def _owes_a_turn(self) -> bool:
        """Say whether the loop is due, where nobody sleeps: readers cannot run while a producer awaits nothing else."""
        return time.monotonic() - self._yielded_at > _YIELD_EVERY_S

    async def _wait_for_async_room(self) -> None:
        started = time.monotonic()
        loop = asyncio.get_running_loop()
        room = loop.create_future()
        with self._lock:
            self.check()
            if not self._is_full():  # `offer` had another reason, which has just gone
                return
            self._loop = loop
            self._async_waiters += (room,)
        for reader in self._pacing():
            reader.wake()  # it may rest
        timer = loop.call_later(self._send_budget_s, self._give_async_room)
        try:
            await room
        finally:
            timer.cancel()
        with self._lock:
            self._spend(started)

    def _give_room(self) -> None:
        self._notify()
        if self._async_waiters:
            self._give_async_room()

    def _notify(self) -> None:
        if self._room is not None:
            self._room.notify_all()

    def _give_async_room(self) -> None:
        waiters, self._async_waiters = self._async_waiters, ()
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)

    def _spend(self, since: float) -> None:
        """Take the time since `since` off the job's one budget for waiting; when it is spent, drop the owner.

        What several producers wait together counts once.
        """
        now = time.monotonic()
        self._send_budget_s -= now - max(since, self._charged_until)
        self._charged_until = now
        if self._send_budget_s > 0 or not self._is_full():
            return
        self._send_budget_s = 0
        dropped = self._full_holders()
        self._holders = tuple(holder for holder in self._holders if holder not in dropped)
        if self._owner is not None and self._is_full():
            dropped.append(self._owner)
            self._owner = None
        for reader in dropped:
            reader.drop()
        self._notify()  # of several producers that wait, all go on
        self._wake(dropped)
        self._trim()

    def _trim(self) -> None:
        """Let go of the oldest events that were taken and are over the bounds behind; never the newest."""
        owner = self._owner
        end = len(self._log) if owner is None else owner._index - self._base
        taken_bytes = self._bytes if owner is None else owner._taken_bytes
        max_events, max_bytes = self._behind
        if end - self._head <= max_events and taken_bytes - self._trimmed_bytes <= max_bytes:
            return
        until = min(end, len(self._log) - 1)
        for holder in self._holders:
            until = min(until, holder._settled - self._base)
        while self._head < until and (end - self._head > max_events or taken_bytes - self._trimmed_bytes > max_bytes):
            event = self._log[self._head]
            assert event is not None
            self._trimmed_bytes += len(event.data)
            self._trimmed_n = event.n
            self._log[self._head] = None
            self._head += 1
        if self._head > 1024:  # delete in bulk: a list's pop(0) moves all the others
            del self._log[: self._head]
            self._base += self._head
            self._head = 0


class Subscriber:
    """Read a channel from one position; every method runs on the loop.

    Attributes:
        n: the number of the last event taken.
        shows_previews: count this reader as watching.
        is_dropped: the producer waited for this reader as long as it may, and now goes on without it.
        is_closed: `close` was called.
        hears_start: it gets `started`.
        is_counted: it keeps the job alive.
    """

    __slots__ = (
        "_channel",
        "_deliver",
        "_has_heard",
        "_index",
        "_is_behind",
        "_missed",
        "_returned",
        "_served_at",
        "_settled",
        "_taken_bytes",
        "_timer",
        "_waiter",
        "hears_start",
        "is_closed",
        "is_counted",
        "is_dropped",
        "n",
        "shows_previews",
    )

    def __init__(self, channel: Channel, index: int, n: int, shows_previews: bool) -> None:
        self._channel = channel
        self._index = index
        self._missed = 0
        self._is_behind = False
        self._taken_bytes = 0
        self._waiter: asyncio.Future[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._deliver: Deliver | None = None
        self._served_at = 0.0
        self._returned: list[Event] | None = None  # those that `deliver` did not want
        self.n = n
        self._settled = index  # of one that holds the trim: what is before may go
        self.hears_start, self.is_counted = False, True
        self.shows_previews = shows_previews
        self.is_dropped = False
        self.is_closed = False
        self._has_heard = True  # of being dropped

    def take(self) -> list[Event]:
        """Return all events past this position, in order, and move behind them.

        Where the log was trimmed past the position stands a `lagged` event, which says how many lasting events this
        reader missed; of one that resumes, which knows only the number it saw last, how many at most.
        """
        channel = self._channel
        with channel._lock:
            self._has_heard = True
            lagged = self._catch_up() if self._missed or self._index < channel._base + channel._head else None
            events = channel._past(self._index, self.n)
            self._index = channel._base + len(channel._log)
            self.n = channel._n
            if channel._owner is self:
                self._taken_bytes = channel._bytes
                channel._trim()
                channel._give_room()
            if self._waiter is not None and self not in channel._sleepers:
                channel._sleepers.append(self)
        self._is_behind = len(events) > _BULK
        if channel._on_demand is not None:
            channel._tell_demand()
        if lagged is not None:
            events = sorted([lagged, *events], key=_number)
        if self._returned:
            events, self._returned = self._returned + events, None
        return events

    def settle(self, n: int) -> None:
        """Let events up to place `n` be trimmed, as a reader that holds the trim has them safe."""
        channel = self._channel
        with channel._lock:
            self._settled = max(self._settled, channel._index_after(n))
            channel._trim()
            channel._give_room()

    def _skip_start(self) -> None:
        """Leave out `started`, just logged; under the lock."""
        channel = self._channel
        if not self.hears_start and self.n < channel._start_n:
            self.n, self._index, self._taken_bytes = channel._start_n, channel._base + len(channel._log), channel._bytes

    def _catch_up(self) -> Event:
        channel = self._channel
        first = channel._base + channel._head
        event = Event("lagged", encode({"skipped": self._missed + max(0, first - self._index)}))
        event.n = channel._trimmed_n
        self._missed = 0
        self._index = max(self._index, first)
        return event

    async def wait(self, timeout_s: float, deliver: "Deliver | None" = None) -> bool:
        """Sleep until there is news, or for `timeout_s` nothing at all; False when the time ran out.

        News is an event, `close`, or, until the next `take`, being dropped.

        Args:
            deliver: takes events while this sleeps on; those that it returns False for end the sleep and come with
                the next `take`. It must not wait.
        """
        if self._is_behind:
            await self._rest()
        channel = self._channel
        loop = asyncio.get_running_loop()
        with channel._lock:
            if self._has_news():
                return True
            self._waiter = waiter = loop.create_future()
            channel._sleepers.append(self)
            channel._tell_sent(self.n)
        self._deliver, self._served_at = deliver, time.monotonic()
        self._timer = loop.call_later(timeout_s, self._time_out, timeout_s)
        try:
            await waiter
        finally:
            self._timer.cancel()
            self._waiter = self._timer = self._deliver = None
            with channel._lock:
                if self in channel._sleepers:
                    channel._sleepers.remove(self)
        return self._has_news()

    async def _rest(self) -> None:
        """Let events pile up for a moment, unless the producer waits for this reader, or has come to its end.

        Nobody is told of events meanwhile, as this is no sleeper. That the log is full, and that it has ended, is told
        under the same lock to whoever has a `_waiter`; so is `close`, on the loop.
        """
        channel = self._channel
        loop = asyncio.get_running_loop()
        with channel._lock:
            if channel._terminal is not None or (channel._owner is self and channel._is_full()):
                return
            self._waiter = waiter = loop.create_future()
        timer = loop.call_later(_REST_S, self._end_wait)
        try:
            await waiter
        finally:
            timer.cancel()
            self._waiter = None

    def _time_out(self, timeout_s: float) -> None:
        left_s = self._served_at + timeout_s - time.monotonic()
        if left_s > 0:
            self._timer = asyncio.get_running_loop().call_later(left_s, self._time_out, timeout_s)
        else:
            self._end_wait()

    def _has_news(self) -> bool:
        return self._channel._n > self.n or bool(self._returned) or self.is_closed or not self._has_heard

    @property
    def is_asleep(self) -> bool:
        """Say whether this waits to be woken."""
        return self._waiter is not None

    def drop(self) -> None:
        """Let the producer go on without this reader; under the lock."""
        self.is_dropped, self._has_heard = True, False

    def wake(self) -> None:
        """Deliver what is new, or end `wait` now."""
        if not self._is_to_be_served():
            return self._end_wait()
        events = self.take()
        if any(event.kind in _FOR_THE_TASK for event in events):
            self._return(events)
        else:
            self._hand_over(events)

    def _is_to_be_served(self) -> bool:
        """Say whether what is new can be delivered now; else it is left to the reader's task."""
        now = time.monotonic()
        if self._deliver is None or now - self._served_at < _DELIVER_EVERY_S:
            return False
        if self._channel._terminal is not None or self.is_closed or self.is_dropped:
            return False
        if self._waiter is None or self._waiter.done():  # what was not delivered comes first
            return False
        self._served_at = now
        return True

    def _passes(self, event: Event) -> bool:
        """Move behind an event, just logged, if it can be delivered now; under the lock.

        Who sleeps has taken all that came before.
        """
        if not self._is_to_be_served():
            return False
        channel = self._channel
        self.n = event.n
        self._index = channel._base + len(channel._log)
        if channel._owner is self:
            self._taken_bytes = channel._bytes
            channel._trim()
        return True

    def _hand_over(self, events: list[Event]) -> None:
        assert self._deliver is not None
        if self._channel._on_demand is not None:
            self._channel._tell_demand()
        if events and not self._deliver(events):
            self._return(events)
        elif self._channel._first_sent is not None:
            self._channel._tell_sent(self.n)

    def _return(self, events: list[Event]) -> None:
        """Leave events to the reader's task."""
        self._returned = events
        self._end_wait()

    def _end_wait(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def close(self) -> None:
        """Leave the channel; the owner's position stays, so that the producer waits for its return."""
        with self._channel._lock:
            self.is_closed = True
            self._channel._subscribers.discard(self)
            if self in self._channel._holders:
                self._channel._holders = tuple(holder for holder in self._channel._holders if holder is not self)
                self._channel._give_room()
        self._channel._tell_demand()
        self.wake()


Deliver = Callable[[list[Event]], bool]


def _number(event: Event | None) -> int:
    return 0 if event is None else event.n
