"""Hold the inputs of one session from when they come until its code takes them.

They are put in on the loop, in order, by what reads them from the client, and taken by the session's code, wherever
that runs. Only newest inputs count where the session says so (`buffering`); else none is dropped, and who puts them in
waits for room. An input has a number, by which its failure is told. What the inputs are, nobody knows here.

Where threads meet: one lock guards what is unread and how it ends. It is held for a few lines, none of which waits but
for the condition, which gives it up; nobody is called under it.
"""

import asyncio
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import Any, NamedTuple

from ..settings import MIB

_LOOK_AGAIN_S = 5.0  # no wait in a thread is for ever


class Unread(NamedTuple):
    """Hold an input that was not taken yet."""

    #: 1 for the first that came
    number: int
    value: Any
    size: int = 0


class Inbox:
    """Hold a session's inputs. On the loop are `put`, `refuse`, `room`, `arrival` and `end_when_idle`; all else may be
    called from any thread.

    Args:
        buffering: how many may be unread; the oldest is dropped for a newer one. None drops none.
        max_items, max_bytes: what may be unread where none is dropped, until it `is_full`; one input may be larger.
    Attributes:
        on_change: called, in any thread, when there may be something to take, or nothing will come any more.
        received: how many inputs have come.
        has_timed_out: the inputs have ended as none came for too long.
    """

    __slots__ = (
        "_bounds",
        "_buffering",
        "_bytes",
        "_changed",
        "_has_ended",
        "_idle_since",
        "_is_in_turn",
        "_unread",
        "_waiters",
        "has_timed_out",
        "on_change",
        "received",
    )

    def __init__(self, *, buffering: int | None = None, max_items: int = 64, max_bytes: int = 16 * MIB) -> None:
        self.on_change: Callable[[], None] | None = None
        self.received = 0
        self.has_timed_out = False
        self._buffering = buffering
        self._bounds = (max_items, max_bytes)
        self._unread: deque[Unread] = deque()
        self._bytes = 0
        self._has_ended = self._is_in_turn = False
        self._idle_since = time.monotonic()
        # Re-entrant, as the garbage collector may run a finalizer in here that ends the job.
        self._changed = threading.Condition(threading.RLock())
        self._waiters: list[asyncio.Future[None]] = []  # on the loop: for an input, or for room

    @property
    def unread(self) -> int:
        """Return how many inputs wait to be taken."""
        return len(self._unread)

    @property
    def has_ended(self) -> bool:
        """Say whether no more inputs will come; some may still be unread."""
        return self._has_ended

    @property
    def is_due(self) -> bool:
        """Say whether the session's code has something to do: an input to take, or their end."""
        return self._has_ended or bool(self._unread)

    @property
    def is_full(self) -> bool:
        """Say whether what brings inputs should wait, where none is dropped."""
        if self._buffering is not None or self._has_ended:
            return False
        max_items, max_bytes = self._bounds
        return len(self._unread) >= max_items or self._bytes >= max_bytes

    @property
    def is_idle(self) -> bool:
        """Say whether no input is unread, and the session's code is done with those it has taken."""
        return not (self._unread or self._is_in_turn)

    @property
    def idle_s(self) -> float:
        """Return for how long that has been so; 0 where it is not."""
        with self._changed:
            return time.monotonic() - self._idle_since if self.is_idle else 0.0

    # What brings the inputs.

    def put(self, value: Any, size: int = 0) -> int:
        """Add an input, and return its number; of too many unread ones the oldest is dropped. Never waits, so ask
        `is_full` before. What comes when they have ended is let go of.
        """
        with self._changed:
            self.received += 1
            self._idle_since = time.monotonic()
            if not self._has_ended:
                self._unread.append(Unread(self.received, value, size))
                self._bytes += size
                if self._buffering is not None and len(self._unread) > self._buffering:
                    self._bytes -= self._unread.popleft().size
                self._changed.notify()
            number = self.received
        if self._waiters:
            self._tell_waiters()
        self._tell_change()
        return number

    def refuse(self) -> int:
        """Count an input that is none which the session takes, and return its number."""
        with self._changed:
            self.received += 1
            self._idle_since = time.monotonic()
            return self.received

    async def room(self) -> None:
        """Wait until it is not full."""
        while self.is_full:
            await self._wait_until(lambda: not self.is_full)

    def end(self) -> None:
        """Say that no more inputs will come; again is without effect."""
        self._end(drops=False)

    def close(self) -> None:
        """End, and let go of what is unread: the job is over."""
        self._end(drops=True)
        self.on_change = None

    def end_when_idle(self, timeout_s: float) -> None:
        """Have the inputs end when the session has been idle for so long."""
        left_s = timeout_s - self.idle_s
        if self._has_ended:
            return
        if left_s <= 0:
            self.has_timed_out = True
            self.end()
            return
        asyncio.get_running_loop().call_later(left_s, self.end_when_idle, timeout_s)

    # The session's code.

    def take(self) -> list[Unread]:
        """Take the next input: a list of it, or of nothing. With this a turn begins, which ends by `settle`."""
        with self._changed:
            taken = [self._pop()] if self._unread else []
        if self._waiters:
            self._tell_waiters()
        return taken

    def extend(self, taken: list[Unread], at_most: int, joins: Callable[[Any, Any, int], bool]) -> None:
        """Take more inputs to one that was taken, as long as they join it.

        Args:
            joins: asked for the first input, the next one and how many there are; code of the app's, which may raise.
        """
        while len(taken) < at_most and (following := self._next()) is not None:
            if not joins(taken[0].value, following.value, len(taken)):
                break
            with self._changed:
                if self._next() is following:  # a newer one may have taken its place meanwhile
                    taken.append(self._pop())
        if self._waiters:
            self._tell_waiters()

    def settle(self) -> bool:
        """Say that what was taken is done; True where there is something to do again, as `is_due` says."""
        with self._changed:
            if self._is_in_turn:
                self._is_in_turn = False
                self._idle_since = time.monotonic()
            return self.is_due

    def wait(self, timeout_s: float = _LOOK_AGAIN_S) -> bool:
        """Settle, and wait until there is something to do again; False when there is not. Blocks."""
        with self._changed:
            return self.settle() or self._changed.wait_for(lambda: self.is_due, timeout_s)

    async def arrival(self) -> None:
        """Do the same on the loop, without blocking it or a deadline."""
        while not self.settle():
            await self._wait_until(lambda: self.is_due)

    async def _wait_until(self, is_over: Callable[[], bool]) -> None:
        """Wait until something has changed, unless it is over already."""
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        with self._changed:
            if is_over():
                return
            self._waiters.append(waiter)
        try:
            await waiter
        finally:
            with self._changed, suppress(ValueError):  # it was told, and is not there any more
                self._waiters.remove(waiter)

    def _end(self, *, drops: bool) -> None:
        with self._changed:
            self._has_ended = True
            if drops:
                self._unread.clear()
                self._bytes = 0
            self._changed.notify_all()
        self._tell_waiters()
        self._tell_change()

    def _tell_change(self) -> None:
        tell = self.on_change
        if tell is not None:
            tell()

    def _next(self) -> Unread | None:
        with self._changed:
            return self._unread[0] if self._unread else None

    def _pop(self) -> Unread:
        """Take the first that is unread; under the lock."""
        first = self._unread.popleft()
        self._bytes -= first.size
        self._is_in_turn = True
        return first

    def _tell_waiters(self) -> None:
        """Have those who wait on the loop look again; from any thread."""
        with self._changed:
            waiters, self._waiters = self._waiters, []
        here = _running_loop()
        for waiter in waiters:
            loop = waiter.get_loop()
            with suppress(RuntimeError):  # the loop is closed
                if loop is here:
                    _finish(waiter)
                else:
                    loop.call_soon_threadsafe(_finish, waiter)


def _running_loop() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:  # in a thread
        return None


def _finish(waiter: "asyncio.Future[None]") -> None:
    if not waiter.done():
        waiter.set_result(None)
