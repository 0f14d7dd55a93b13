"""Carry a job's events from the thread that makes them to the readers on the event loop.

A `Channel` is the bounded log of one job: any thread emits; readers subscribe on the loop, each with its own position,
and take all that is new at once. It puts together what has a module of its own: the numbered list (`log`), whom the
producer waits for (`pace`), the readers (`subscriber`), and what serves throughput alone (`delivery`). It does not
encode (`events`), frame (`frames`) or know HTTP. What user code sees of it is `stream`.

Where the threads meet, this holds:

- One lock guards the log, the pace and who sleeps. It is held for a few lines, none of which waits, but for the one
  condition in `pace` that gives it up. The same thread never takes it twice.
- An event is numbered and logged in one piece under the lock, and a reader moves its position to the newest number in
  the same piece in which it gets what lies between. So every lasting event comes to every reader once and in order, or
  is counted in its `lagged`.
- Who is in `sleepers` has taken all up to the newest event; `take` puts a reader back there that is still asleep.
- No wake-up is lost: a reader looks for news and becomes a sleeper in one piece under the lock, and whoever logs an
  event takes all sleepers in one piece with that. A producer waits for room in the same way: it looks and waits, or
  puts itself down, in one piece, and who takes makes room under the lock. What is told on the way (`wake`) only says
  "look again"; once too often does no harm.
- The first terminal event wins, as it is logged under the lock; after it nothing is logged.
- Readers are woken, `on_terminal` is called and `deliver` is run without the lock: code that is not the channel's never
  runs under it.
- Without the lock are read: `terminal`, `last_output`, `last_n`, `trimmed_n`, `attempt`, `check`, `has_reading_owner`:
  each is a single reference, or true of a moment ago. `is_full` is asked without it on the loop alone, where readers
  are: who finds it full waits, and looks again under the lock.
- A finalizer runs wherever an object is made, and so in a thread that holds the lock, amidst an append. It may ask
  `is_held_here`, and read what is read without the lock. `emit` refuses it; all else must not be called from one.

"On the loop" is the one loop that all readers of a channel, and its asynchronous producers, live on.
"""

import asyncio
import threading
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, NamedTuple

from ..errors import Cancelled, ErrorReport, StreamAppError
from ..settings import Settings
from .delivery import Turns
from .events import ATTEMPT, BEGINNINGS, REPLACEABLE, Event, encode, terminal
from .log import EventLog
from .pace import Pace
from .subscriber import Readers, Subscriber

if TYPE_CHECKING:
    from ..media import Publisher
    from .packing import Film


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

    Thread-safe: `start`, `emit`, `append`, `add_line`, `finish`, `fail`, `cancel`, `check`, `pause`, `wants_preview`,
    `events`, `kept_bytes` and `statistics` may be called from any thread; `emit_at_once`, `aemit`, `wake`, `take_in`,
    `room`, `apause`, `subscribe` and what a `Subscriber` offers only on one loop.

    Events are numbered here, or, where this mirrors the log of another process, were numbered there (`take_in`).

    Args:
        settings: the bounds ahead of the owner and behind it, and `send_timeout_s`.
        on_terminal: called once, in the thread that ended the log, after the lock is released.
        awaits_owner: the producer is paced from the start, by the owner who is about to come.
        joins: where it ends well without a last output, its end bears the text of all outputs.
        keeps: as much is kept behind as `pace.KEPT` says, where that is more.
        first_n: the number before that of the first event.
    Attributes:
        publisher: what keeps the files of those who emit here, whichever thread of the app's they are in.
        film: what shows a session's images as a video, while its client has one.
    """

    __slots__ = ("_lock", "_log", "_on_terminal", "_pace", "_readers", "_turns", "film", "publisher")

    def __init__(
        self,
        settings: Settings,
        *,
        on_terminal: Callable[[], None] | None = None,
        awaits_owner: bool = False,
        joins: bool = False,
        keeps: bool = False,
        first_n: int = 0,
    ) -> None:
        self._lock = threading.RLock()  # never taken twice, but it knows whose it is
        self._log = EventLog(joins=joins, first_n=first_n)
        self._pace = Pace(settings, self._log, self._lock, awaits_owner=awaits_owner, keeps=keeps)
        self._turns = Turns()
        self._readers = Readers(self._lock, self._log, self._pace, self._turns)
        self._on_terminal = on_terminal
        self.publisher: Publisher | None = None
        self.film: Film | None = None

    @property
    def terminal(self) -> Event | None:
        """Return the event that ended the log, or None while the job goes on."""
        return self._log.terminal

    @property
    def last_output(self) -> Event | None:
        """Return the newest output: the job's result once it succeeded."""
        return self._log.last_output

    @property
    def last_n(self) -> int:
        """Return the number of the newest event, 0 before the first."""
        return self._log.n

    @property
    def is_held_here(self) -> bool:
        """Say whether this thread is inside of the channel, and so runs a finalizer, which must not emit.

        The garbage collector runs wherever objects are made; what it finalizes may print, and so emit a log line.
        """
        return bool(self._lock._is_owned())  # type: ignore[attr-defined]  # what `threading.Condition` asks

    @property
    def trimmed_n(self) -> int:
        """Return the number of the last lasting event that is no longer kept, 0 where all are."""
        return self._log.trimmed_n

    @property
    def attempt(self) -> int:
        """Return which attempt at the job the log is in, 1 before the first."""
        return self._log.n // ATTEMPT + 1

    @property
    def kept_bytes(self) -> int:
        """Return the bytes of events in memory, in a third of the time that `statistics` takes."""
        with self._lock:
            return self._log.kept_bytes

    @property
    def has_readers(self) -> bool:
        """Say whether anybody reads that keeps the job alive: no store, no link."""
        with self._lock:
            return any(subscriber.is_counted for subscriber in self._readers.subscribed)

    @property
    def is_full(self) -> bool:
        """Say whether `emit` would wait with a lasting event; for a thread that runs a loop, and must not wait."""
        with self._lock:
            return self._pace.is_full()

    @property
    def has_reading_owner(self) -> bool:
        """Say whether the reader that the producer waits for is there."""
        return self._pace.has_reading_owner

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
            self._readers.wake(sleepers)

    def begin_turn(self) -> None:
        """Let the producer wait as long as at the beginning: in a session the budget is that of a turn."""
        with self._lock:
            self._pace.renew()

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
        log, pace, readers = self._log, self._pace, self._readers
        max_events, max_bytes = pace.ahead
        self._lock.acquire()  # `with` takes twice as long
        try:
            if log.terminal is not None:
                raise Cancelled
            owner = pace.owner
            # The common case of `EventLog.append` in one piece. There is no call in it, and so no point at which
            # CPython takes the GIL away from who holds the lock: the loop, which then has the GIL, would wait for the
            # lock next. That is for speed; right it is by the lock alone.
            if (
                event.kind == "output"
                and owner is not None
                and log.n > log.start_n
                and not pace.holders
                and log.next_index - owner.index < max_events
                and log.bytes - owner.taken_bytes < max_bytes
            ):
                log.n = event.n = log.n + 1
                log.lasting.append(event)
                log.next_index += 1
                log.bytes += event.size
                log.last_output = event
            else:
                self._append_when_due(event, waits=waits)
            sleepers = readers.sleepers
            if sleepers:
                readers.sleepers = []
        finally:
            self._lock.release()
        if sleepers:
            readers.wake(sleepers)
        if waits and (sleepers or self._turns.first_sent is not None):
            self._turns.give_way()

    def _append_when_due(self, event: Event, *, waits: bool) -> None:
        """Do for any event what `emit` does for a further output that there is room for; under the lock."""
        log, pace = self._log, self._pace
        if waits and event.kind not in REPLACEABLE and pace.is_full():
            pace.wait_for_room(self._readers.wake)
        if waits and log.n == log.start_n and self._readers.subscribed:
            self._turns.await_first_sent()
        log.append(event)
        if pace.owner is None:
            pace.trim()

    def append(self, event: Event) -> list[Subscriber]:
        """Append an event in any case, and wake nobody: returns those whom `wake` has to wake; never waits.

        Raises:
            Cancelled: the log has ended.
        """
        with self._lock:
            self.check()
            self._append_when_due(event, waits=False)
            return self._readers.take_sleepers()

    def wake(self, sleepers: list[Subscriber]) -> None:
        """Wake those whom `append` has returned; on the loop."""
        self._readers.wake_here(sleepers)

    def add_line(self, event: Event) -> bool:
        """Append a line that was printed or logged; it never waits, as whoever prints may hold locks that others want.

        Returns:
            False, and the line is left out, where the owner is as far behind as events are kept.
        Raises:
            Cancelled: the log has ended.
        """
        with self._lock:
            has_room = not self._pace.is_full(tuple(map(max, self._pace.ahead, self._pace.behind)))
        if has_room:
            self.emit(event, waits=False)
        else:
            self.check()
        return has_room

    async def aemit(self, event: Event) -> None:
        """Append an event from the loop; waits, without blocking the loop, while the log is full.

        Raises:
            Cancelled: the log has ended, or ended while this waited.
        """
        while not self.emit_at_once(event):
            if self._turns.owes_a_turn():
                await self._turns.give_turn()
            else:
                await self._wait_on_loop()

    def emit_at_once(self, event: Event) -> bool:
        """Append an event from the loop; False, and nothing is appended, where `aemit` would wait.

        Raises:
            Cancelled: the log has ended.
        """
        log, pace, readers = self._log, self._pace, self._readers
        if not readers.sleepers and self._turns.owes_a_turn():
            return False
        self._lock.acquire()  # `with` takes twice as long
        try:
            if log.terminal is not None:
                raise Cancelled
            sleepers = readers.sleepers
            # Who sleeps has taken all that came before.
            may_be_full = pace.holders or pace.owner not in sleepers
            if may_be_full and event.kind not in REPLACEABLE and pace.is_full():
                return False
            log.append(event)
            if pace.owner is None:
                pace.trim()
            # The common case, one event for one reader, who need not even be woken.
            is_lone = len(sleepers) == 1 and sleepers[0].moves_past(event)
            if not is_lone:
                readers.sleepers = []
        finally:
            self._lock.release()
        if is_lone:
            sleepers[0].serve([event])
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
        log, pace = self._log, self._pace
        with self._lock:
            self.check()
            if pace.is_full():
                return False
            for event in events:
                if event.n <= log.n:
                    continue
                if event.is_terminal:
                    log.n = event.n - 1
                    ending = event
                    break
                if event.kind in BEGINNINGS:
                    sleepers += self._begin(event)
                    continue
                log.append_numbered(event)
                sleepers += self._readers.take_sleepers()
            if pace.owner is None:
                pace.trim()
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
        while self._pace.is_full():
            await self._wait_on_loop()
        self.check()

    async def _wait_on_loop(self) -> None:
        self._readers.loop = asyncio.get_running_loop()
        await self._pace.wait_for_async_room(self._readers.wake)

    def pause(self, for_s: float) -> None:
        """Wait for so long; not on the loop.

        Raises:
            Cancelled: the log has ended, or ended meanwhile.
        """
        with self._lock:
            self._pace.pause(for_s)

    async def apause(self, for_s: float) -> None:
        """Wait on the loop for so long, or for the log's end."""
        self._readers.loop = asyncio.get_running_loop()
        await self._pace.pause_on_loop(for_s)

    def finish(self, output: Event | None = None, data: Any = None) -> bool:
        """End the log as succeeded, after a last output where there is one; False when it had ended already."""
        return self._end(terminal("done", data or {}), output, bears_text=output is None or output.data == b"null")

    def fail(self, error: ErrorReport) -> bool:
        """End the log with an error; False when it had ended already."""
        return self._end(terminal("error", error))

    def cancel(self, error: ErrorReport) -> bool:
        """End the log as cancelled; the producer meets `Cancelled` at its next emit. False when it had ended."""
        return self._end(terminal("cancelled", error))

    def check(self) -> None:
        """Raise `Cancelled` when the log has ended; costs nothing otherwise."""
        if self._log.terminal is not None:
            raise Cancelled

    def wants_preview(self) -> bool:
        """Tell whether a reader that shows previews has taken the last one."""
        return self._readers.wants_preview()

    def listen_to_demand(self, tell: Callable[[bool], None]) -> None:
        """Have `wants_preview` told, now and whenever it changes, but for a preview's own doing: after each one nobody
        wants the next until a reader has taken it. On the loop; `tell` is called there and must not wait.
        """
        self._readers.listen_to_demand(tell)

    def events(self, *, after: int = 0, shows_previews: bool = False) -> list[Event]:
        """Return what the log holds past `after`, without subscribing.

        Args:
            shows_previews: the caller polls and shows previews: it counts as watching for 10 s.
        """
        with self._lock:
            if shows_previews:
                self._readers.note_poll()
            return self._log.past(self._log.index_after(after), after)

    @property
    def newest_progress(self) -> Event | None:
        """Return the newest progress event, if this attempt has any."""
        with self._lock:
            return self._log.newest_progress

    def subscribe(
        self,
        *,
        after: int = 0,
        is_owner: bool = False,
        shows_previews: bool = True,
        hears_start: bool = False,
        is_counted: bool = True,
        holds: bool = False,
    ) -> Subscriber:
        """Add a reader that starts behind event `after`; call it on the loop.

        Args:
            is_owner: the producer waits for this reader, and no longer for the one before it.
            hears_start: it gets `started`, which is a fact of the log and no part of what the endpoint streams.
            is_counted: it keeps the job alive; a store and a link do not.
            holds: nothing is trimmed that it has not settled, and the producer waits where that becomes too much: it is
                a store, which must not miss an event.
        """
        loop = asyncio.get_running_loop()
        log, readers = self._log, self._readers
        with self._lock:
            assert readers.loop in (None, loop), "all readers of a channel live on one event loop"
            readers.loop = loop
            after = after if hears_start else max(after, log.start_n)
            missed = min(log.first_index, max(0, log.trimmed_n - after)) if log.first_index else 0
            subscriber = Subscriber(
                readers, log.index_after(after), after, missed, shows_previews, hears_start, is_counted
            )
            readers.subscribed.add(subscriber)
            if holds:
                self._pace.add_holder(subscriber)
            self._pace.add(subscriber, is_owner=is_owner, is_counted=is_counted)
        readers.tell_demand()
        return subscriber

    def statistics(self) -> ChannelStatistics:
        """Return the channel's figures at this moment."""
        with self._lock:
            return ChannelStatistics(
                emitted=self._log.n % ATTEMPT,
                replaced=self._log.replaced,
                kept_events=self._log.kept_events,
                kept_bytes=self._log.kept_bytes,
                ahead_events=self._pace.ahead_events,
                subscribers=len(self._readers.subscribed),
            )

    def _begin(self, event: Event) -> list[Subscriber]:
        """Log that an attempt begins, and return the readers to wake; under the lock."""
        self._log.begin(event)
        return self._readers.take_sleepers() if event.kind == "restarted" else self._readers.skip_start()

    def _end(self, event: Event, output: Event | None = None, *, bears_text: bool = False) -> bool:
        log, readers = self._log, self._readers
        with self._lock:
            if log.terminal is not None:
                return False
            if bears_text:
                event.text = log.text()
            if output is not None:
                log.append(output)
            log.end(event)  # nothing is trimmed for these two: who comes late gets at least the result and the end
            readers.sleepers = []
            sleepers = list(readers.subscribed)  # those that rest, too
            self._pace.release()
        # Without cycles a job that is let go of frees its megabytes now, not at the next full garbage collection.
        on_terminal, self._on_terminal = self._on_terminal, None
        try:
            if on_terminal is not None:
                on_terminal()  # before readers see the end, so that what they ask for next is up to date
        finally:
            readers.wake(sleepers)
        return True
