"""Let several jobs of an app run at a time in its inference thread: they take turns.

A turn is an item of what the job's endpoint has returned: of a generator, say. All that can go on have one, round after
round, and before each round those are taken in for whom there is a place. So what one of them waits for in a turn, a
forward pass of a model, can be made for all of them in one. What comes of a turn:

- An item is emitted, and never waits for a reader. A job whose owner is too far behind has no turn until there is room;
  nobody else waits for that, and the budget for it is the job's, as ever.
- A `Pause` is nothing: who makes tokens for all lets the others go on with it, while its own is not there yet. With one
  that lasts a job has no turn until it is over, or the job is.
- What is to be awaited, or iterated asynchronously, is the loop's: the job has no turn until that is over.
- What does not yield runs to its end in its first turn, and all others wait meanwhile: so before a round one such job
  is run, and each session in the line has one turn.

Code that blocks in a turn holds up all others: a long `next`, and `stream.emit` where the reader is far behind.
"""

import asyncio
import contextvars
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import ExitStack, suppress
from functools import partial
from typing import Any

from ..errors import Cancelled
from ..jobs.channel import Channel
from ..jobs.delivery import Turns as Ways
from ..jobs.events import to_event
from ..jobs.job import Job
from ..jobs.pause import Pause, enter_turns
from ..jobs.stream import Stream, enter_stream
from ..jobs.subscriber import Subscriber
from ..process.forks import ending_forks
from .binding import OnLoop
from .modes import Modes, usual_modes
from .results import close_now, is_iterator, report
from .worker import Capture, Lane, Run

_GOES_ON = object()


class Rounds:
    """Run the jobs of a lane by turns; in the inference thread.

    Args:
        run: runs a job's endpoint; returns what the loop is at as `OnLoop`.
        succeed: ends a job with what its code has returned.
        take_session_turn: lets a session go on for a turn; raises nothing.
    Attributes:
        loop: the server's, once it has started.
    """

    def __init__(
        self,
        lane: Lane,
        max_running: int,
        *,
        run: Run,
        capture: Capture,
        succeed: Callable[[Job, Any], None],
        take_session_turn: Callable[[Job], None],
    ) -> None:
        self.loop: asyncio.AbstractEventLoop | None = None
        self._lane = lane
        self._max_running = max_running
        self._run_endpoint = run
        self._capture = capture
        self._succeed = succeed
        self._take_session_turn = take_session_turn
        self._count = 0  # of those that run: due, back, or waiting
        self._due: list[_Running] = []
        self._back: deque[_Running] = deque()  # whose wait is over: put here by the loop
        self._ways = Ways()
        self._woken: deque[tuple[Channel, list[Subscriber]]] = deque()  # to be woken by the loop
        self._is_told = False

    def run_next(self) -> bool:
        """Take in who comes, and give all that can go on a turn; False when none runs and no more will come."""
        while self._back:
            self._due.append(self._back.popleft())
        if not self._take_in():
            return False
        due, self._due = self._due, []
        self._due += [running for running in due if self._has_next_turn(running)]
        self._ways.give_way()
        return True

    def _take_in(self) -> bool:
        """Begin with all that have a place; wait for one where nobody can go on. False when no more will come."""
        if not self._count:
            return self._take_first()
        passed: set[Job] = set()
        while self._take_next(passed):
            pass
        return True

    def _take_first(self) -> bool:
        jobs = self._lane.take()
        for job in jobs:
            self._begin(job)
        return bool(jobs)

    def _take_next(self, passed: set[Job]) -> bool:
        """Begin with who comes next; say whether another may begin before all have had a turn."""
        waits = not (self._due or self._back)
        has_place = self._count < self._max_running
        job = self._lane.take_beside(has_place=has_place, passed=() if waits else passed, waits=waits)
        if job is None:
            return False
        if job.inbox is not None:
            passed.add(job)
        return self._begin(job)

    def _begin(self, job: Job) -> bool:
        """Give a session its turn, or a job its first one; False where that has run to its end."""
        if job.inbox is not None:
            self._lane.at = (job, time.monotonic())
            self._take_session_turn(job)
            self._lane.at = None
            return True
        count = self._count
        self._count += 1
        running = _Running(job, run=self._run_endpoint, capture=self._capture, succeed=self._succeed, wake=self._wake)
        if self._has_next_turn(running):
            self._due.append(running)
        return self._count > count

    def _has_next_turn(self, running: "_Running") -> bool:
        """Give a job its turn; say whether it can have another at once."""
        job = running.job
        self._lane.at = (job, time.monotonic())
        try:
            if running.take_turn():
                return not self._waits(running)
        except Cancelled:
            job.cancel()  # user code raised it on its own: without effect on a job that is over already
        except BaseException as error:  # whatever user code raises, SystemExit included, ends this job and no other
            report(job, error)
        finally:
            self._lane.at = None
        self._count -= 1
        job.returned()
        self._lane.done(job)
        return False

    def _waits(self, running: "_Running") -> bool:
        """Say whether a job has to wait: for the loop, its owner, its pause; it is back when that is over."""
        over: Future[Any]
        if running.on_loop is not None:
            self._lane.elsewhere.add(running.job)
            over = running.on_loop.over
        elif running.pauses_s:
            assert self.loop is not None
            over = asyncio.run_coroutine_threadsafe(running.job.channel.apause(running.pauses_s), self.loop)
        elif running.job.channel.is_full:
            assert self.loop is not None
            over = asyncio.run_coroutine_threadsafe(running.job.channel.room(), self.loop)
        else:
            return False
        over.add_done_callback(partial(self._is_back, running))
        return True

    def _wake(self, channel: Channel, sleepers: list[Subscriber]) -> None:
        """Have the loop wake readers: it is told once of all that it has not woken yet, as that is a system call."""
        self._woken.append((channel, sleepers))
        if not self._is_told:
            self._is_told = True
            assert self.loop is not None
            with suppress(RuntimeError):  # the loop is closed: nobody is left to read
                self.loop.call_soon_threadsafe(self._wake_all, context=contextvars.Context())

    def _wake_all(self) -> None:
        self._is_told = False  # before: of what comes from now on it is told anew
        while self._woken:
            channel, sleepers = self._woken.popleft()
            channel.wake(sleepers)

    def _is_back(self, running: "_Running", over: Future[Any]) -> None:
        """Let a job go on, in the thread that has ended its wait."""
        self._lane.elsewhere.discard(running.job)
        self._back.append(running)
        self._lane.call()


class _Running:
    """Hold a job that runs by turns, and what it does in one.

    Attributes:
        on_loop: what the loop does of it, which it waits for.
        pauses_s: how long it is to have no turn.
    """

    __slots__ = (
        "_around",
        "_capture",
        "_context",
        "_items",
        "_modes",
        "_run_endpoint",
        "_succeed",
        "_wake",
        "job",
        "on_loop",
        "pauses_s",
    )

    def __init__(
        self,
        job: Job,
        *,
        run: Run,
        capture: Capture,
        succeed: Callable[[Job, Any], None],
        wake: Callable[[Channel, list[Subscriber]], None],
    ) -> None:
        self.job = job
        self._wake = wake
        self.on_loop: OnLoop | None = None
        self.pauses_s = 0.0
        self._run_endpoint = run
        self._capture = capture
        self._succeed = succeed
        self._context = job.context  # which the job lets go of at its end, and its code does not
        self._items: Any = None
        self._around: ExitStack | None = None
        self._modes = Modes(usual_modes())

    def take_turn(self) -> bool:
        """Call the endpoint, or go on to its next item; False when it has come to its end, and the job with it."""
        self._modes.bring_back()
        goes_on = False
        try:
            goes_on = self._context.run(self._go_on)
        finally:
            if goes_on:
                self._modes.set_aside()
            else:
                self._modes.end()
        return goes_on

    # In the job's context.

    def _go_on(self) -> bool:
        result: Any = None
        with ending_forks():
            try:
                result = self._advance() if self._items is not None else self._begin()
            finally:
                if result is not _GOES_ON:
                    self._leave()
        if result is _GOES_ON:
            return True
        self._succeed(self.job, result)
        return False

    def _advance(self) -> Any:
        channel = self.job.channel
        channel.check()
        try:
            item = next(self._items)
        except StopIteration as stop:
            return stop.value
        self.pauses_s = item.for_s if isinstance(item, Pause) else 0.0
        if isinstance(item, Pause):
            return _GOES_ON
        sleepers = channel.append(to_event(item, channel.publisher))
        if sleepers:
            self._wake(channel, sleepers)
        return _GOES_ON

    def _begin(self) -> Any:
        """Call the endpoint, or take what the loop has made of what that returned."""
        if self.on_loop is not None:
            on_loop, self.on_loop = self.on_loop, None
            result = on_loop.result()
        else:
            result = self._call()
        if isinstance(result, OnLoop):
            self.on_loop = result
        elif is_iterator(result):
            self._items = result
        else:
            return result
        return _GOES_ON

    def _call(self) -> Any:
        if not self.job.start():
            raise Cancelled
        stream = Stream(self.job.channel, self.job.id)
        enter_stream(stream)
        enter_turns()
        self._around = ExitStack()
        self._around.enter_context(self._capture(self.job))
        return self._run_endpoint(self.job, stream)

    def _leave(self) -> None:
        """Close what the endpoint has returned; what it prints on that way is still the job's."""
        with self._around or ExitStack():
            close_now(self._items)
