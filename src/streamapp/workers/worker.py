"""Say what a worker is, and hold once what every worker needs: its lane.

`Worker` is the seam between the runtime and whatever runs an app's jobs: the inference thread (`thread`), tasks on
the loop (`tasks`), several jobs in one step, other processes. A `Lane` is the waiting line of one worker and its
state: who is let in, whose turn it is, which jobs run and since when, what is overdue, when it ends. It knows neither
apps nor HTTP, and runs no job.
"""

import math
import statistics
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Container
from concurrent.futures import Future, InvalidStateError
from contextlib import AbstractContextManager, suppress
from typing import Any, Literal, NamedTuple, Protocol

from ..errors import SHUTTING_DOWN, Draining, QueueFull, QueueTimeout, SetupFailed, StreamAppError, WorkerStuck
from ..jobs.job import Job
from ..jobs.stream import Stream
from ..process.logs import logger
from ..settings import Settings

State = Literal["starting", "ready", "setup_failed", "draining", "stuck", "broken", "stopped"]
#: runs a job's endpoint: returns what that returns, or on the loop a coroutine of it
Run = Callable[[Job, Stream], Any]
#: wraps each run of a job, for example to turn its prints into `log` events
Capture = Callable[[Job], AbstractContextManager[None]]

#: a worker in one of these serves no more; its process should end
OUT_OF_SERVICE: tuple[State, ...] = ("setup_failed", "stuck", "broken")
_AT_WORK: tuple[State, ...] = ("starting", "ready", "draining")  # in these both threads of a lane run

_LOOK_AGAIN_S = 5.0  # how often both threads look around when nothing happens: no wait is for ever


class WorkerStatistics(NamedTuple):
    """Describe a worker at one moment."""

    state: State
    #: jobs waiting for their turn
    queued: int
    #: jobs running now
    running: int
    #: jobs refused because the queue was full
    refused: int


class Worker(Protocol):
    """Run the jobs of an app.

    A worker calls `job.start()` when it is a job's turn, its `Run` in `job.context`, and drives what that returns:
    a generator is advanced and closed in one thread. It ends the job with the result or the error (`results`), and
    calls `job.returned()` when none of the job's code runs any more. That a job is over already, cancelled for
    example, `start` says before it runs; while it runs, its next emit or `check` raises `Cancelled`.

    `start`, `submit`, `begin_drain` and `cancel_running` are called on the event loop; `join`, which blocks, in a
    thread of its own; `state`, `is_idle`, `position` and `statistics` by any thread. None but `join` waits.

    Attributes:
        name: the app's.
        ready: done when the app's setup has returned; holds `SetupFailed` when it raised.
    """

    name: str
    ready: Future[None]

    @property
    def state(self) -> State:
        """Return what the worker is doing; looks whether what runs its jobs is still there."""
        ...

    @property
    def is_idle(self) -> bool:
        """Say whether no job waits, runs or is being encoded."""
        ...

    def start(self) -> None:
        """Begin with setup; jobs queue meanwhile."""
        ...

    def submit(self, job: Job) -> None:
        """Take a job in.

        Raises:
            QueueFull: with `retry_after_s`.
            Draining, SetupFailed, WorkerStuck: no jobs are taken.
        """
        ...

    def position(self, job: Job) -> int:
        """Return how many jobs are before this one: 0 when it is next, running or not this worker's."""
        ...

    def begin_drain(self) -> None:
        """Take no more jobs, and let the running ones go on; again is without effect."""
        ...

    def cancel_running(self) -> None:
        """End the running jobs; their readers are told that the server is shutting down."""
        ...

    def join(self, timeout_s: float) -> bool:
        """Run teardown, now that no job of the app's runs in any of its workers, and wait for it and the end of what
        ran the jobs; False when it did not end in time. Blocks.
        """
        ...

    def statistics(self) -> WorkerStatistics:
        """Return the worker's figures."""
        ...


def trace_of(ready: Future[None]) -> str | None:
    """Return where the app's setup raised, once that is known."""
    error = ready.exception() if ready.done() else None
    return error.trace if isinstance(error, StreamAppError) else None


class RunTimes:
    """Remember how long the last jobs ran, and estimate from it when to come back."""

    def __init__(self) -> None:
        self._seconds: deque[float] = deque(maxlen=32)

    def add(self, seconds: float) -> None:
        """Take note of a job that ran to any end."""
        self._seconds.append(seconds)

    def retry_after_s(self, queued: int, at_a_time: int = 1) -> int:
        """Return ceil(queue length x median run time / jobs that run at a time), 1 to 60."""
        median_s = statistics.median(list(self._seconds)) if self._seconds else 0.0
        return max(1, min(60, math.ceil(queued * median_s / at_a_time)))


class Lane:
    """Hold the jobs of one worker from `submit` to `done`, and the worker's state. Thread-safe.

        starting -> ready -> draining -> stopped        a drain may begin while setup runs
        starting, draining -> setup_failed              and from any of the first three: stuck, broken

    Jobs wait in a bounded FIFO, those of low priority behind all others. `take` gives the worker the next ones: from
    then on they run, until `done`. A thread of the lane's own, the watcher, ends what is overdue: jobs that waited or
    ran too long, and the worker when one of them does not come back. It is the only one that looks at deadlines.

    A session runs in turns. It comes in parked (`admit`), is put behind all that wait when it has something to do
    (`wake`), is taken like a job, and is parked again (`park`), until it is `done`. It has no place in the bound of the
    queue; its time counts anew in each turn.

    Where several jobs run by turns (`turns`), `take_beside` gives the worker the next one while others run, and the one
    whose turn it is, is `at`: that is the job which may be stuck, not those that wait behind it. Those that the loop is
    at are `elsewhere`, and each may be stuck there.

    The worker's threads call `open`, `take`, `take_beside`, `put_back`, `park`, `goes_on`, `done`, `begin_encoding`,
    `end_encoding` and `close`; any thread the rest.

    More than 15 attributes: jobs and sessions stand in one line, under one lock, as the turns of both are one thread's.

    Where threads meet:

    - One lock guards queue, jobs and state. Under it no job is ended and no callback called: a job's end takes its
      channel's lock, calls `_discard`, which takes this one, and logs, where a handler of the user's may block.
    - Whoever takes a job out of the queue, under the lock, is the one that deals with it: `take` runs it, a drain
      or a break ends it. A job that ends while it waits leaves the queue by `_discard`.
    - A session that is parked or queued when it ends is let go of by whoever finds it here, under the lock, and has
      returned with that: nothing of it is left. But where its code stands in a thread (`has_frames`), it is queued once
      more, in any state, so that its code comes to its end in its turn.
    - Whoever parks a session looks afterwards whether it has something to do, or is over: what comes meanwhile finds
      either the session parked, and wakes it, or somebody who looks.
    - Nobody is taken in once the queue was emptied: both are decided by the state, under the lock.
    - Jobs may be over while they are in here; who ends a job first is settled in its channel.

    Args:
        max_running: jobs that run at a time; where more than one, they run by turns.
        on_broken: called, in any thread, when setup failed, a job does not come back, or one of the two threads has
            ended for whatever reason; the process should end.
    Attributes:
        at: the job whose turn it is, and since when, where they run by turns; set in the worker's thread.
        elsewhere: the jobs among them that the loop is at.
    """

    def __init__(
        self,
        name: str,
        settings: Settings,
        *,
        max_queue: int | None = None,
        max_running: int = 1,
        on_broken: Callable[[StreamAppError], None] | None = None,
    ) -> None:
        self.name = name
        self.at: tuple[Job, float] | None = None
        self.elsewhere: set[Job] = set()
        self._max_running = max_running
        self._is_called = False
        self.max_queue = settings.max_queue if max_queue is None else max_queue
        self.ready: Future[None] = Future()
        self._stuck_s = settings.stuck_s
        self._on_broken = on_broken
        self._state: State = "starting"
        self._queue: OrderedDict[str, Job] = OrderedDict()
        self._running: dict[Job, float] = {}  # since when; also when they are over, until the worker is back from them
        self._parked: dict[Job, None] = {}
        self._with_frames: set[Job] = set()  # of all sessions here, those that leave by `done` alone
        self._encoding: dict[Job, float] = {}  # since when each has run; their code has returned
        self._refused = 0
        self._times = RunTimes()
        # One lock for both; re-entrant, as the garbage collector may run a finalizer in here that ends a job.
        lock = threading.RLock()
        self._changed = threading.Condition(lock)  # for `take`
        # For the watcher, which is told of no job but one that is due before it looks again: each wake-up takes the GIL
        # from the loop and the inference thread just when both are at a new job.
        self._due_sooner = threading.Condition(lock)
        self._looks_again_at = math.inf
        self._threads: list[threading.Thread] = []

    @property
    def state(self) -> State:
        """Return what the worker is doing; a thread that has ended without a word is noticed here."""
        self._notice_ended_threads()
        return self._state

    @property
    def is_idle(self) -> bool:
        """Say whether no job waits, runs or is being encoded."""
        with self._changed:
            return not (self._queue or self._running or self._encoding)

    def start(self, work: Callable[[], None] | None = None) -> None:
        """Start the worker's thread, which does `work`, where it has one, and the watcher; once."""
        threads = [
            threading.Thread(target=self._guard, args=[does], name=f"{kind}-{self.name}", daemon=True)
            for kind, does in (("inference", work), ("deadlines", self._watch))
            if does is not None
        ]
        for thread in threads:
            thread.start()
        self._threads = threads  # only now: one that has not begun looks like one that has ended

    def join(self, timeout_s: float) -> bool:
        """Wait for the end of the worker's thread, or of the watcher where there is no other; False when it did not end
        in time. Blocks.
        """
        if not self._threads:
            return True
        worker = self._threads[0]
        worker.join(timeout_s)
        return not worker.is_alive()

    def submit(self, job: Job) -> None:
        """Queue a job.

        Raises:
            QueueFull: with `retry_after_s`.
            Draining, SetupFailed, WorkerStuck: no jobs are taken.
        """
        self._notice_ended_threads()
        job.on_ended.append(self._discard)  # before it is queued: it can end at once
        with self._changed:
            self._raise_if_refusing()
            # Sessions are counted where there may be too many.
            if len(self._queue) >= self.max_queue and (waiting := self._waiting_jobs()) >= self.max_queue:
                self._refused += 1
                raise QueueFull(
                    f"the queue of {self.name} is full: {waiting} jobs wait",
                    retry_after_s=self._times.retry_after_s(len(self._queue), self._max_running),
                )
            self._queue[job.id] = job
            self._changed.notify()
            self._watch_within(job.queue_time_left_s)

    def admit(self, job: Job) -> None:
        """Take in a session, parked; whoever does wakes it when it has something to do.

        Raises:
            Draining, SetupFailed, WorkerStuck: no jobs are taken.
        """
        self._notice_ended_threads()
        job.on_ended.append(self._discard_session)  # before it is here: it can end at once
        with self._changed:
            self._raise_if_refusing()
            self._parked[job] = None
        if job.is_over:
            self._discard_session(job)

    def park(self, job: Job, *, has_frames: bool = False) -> None:
        """Take a session out of its turn, until it is woken; at once, where it has something to do.

        Args:
            has_frames: its code stands in a thread, and has to come to its end there.
        Raises:
            Draining, SetupFailed, WorkerStuck: no more turns are given; it still counts as running.
        """
        with self._changed:
            self._raise_if_refusing()
            self._times.add(time.monotonic() - self._running.pop(job))
            self._parked[job] = None
            if has_frames:
                self._with_frames.add(job)
        if job.is_over:
            self._discard_session(job)
        elif job.inbox is not None and job.inbox.is_due:
            self.wake(job)

    def goes_on(self, job: Job) -> bool:
        """Give a running session another turn where nobody else waits for one; False, and nothing is done, else."""
        with self._changed:
            if self._queue or len(self._running) > 1 or self._state != "ready":
                return False
            self._running[job] = time.monotonic()
            return True

    def wake(self, job: Job) -> None:
        """Queue a session that is parked, behind all that wait; without effect on one that is not."""
        with self._changed:
            if job in self._parked:
                self._queue_parked(job)

    def position(self, job: Job) -> int:
        """Return how many jobs are before this one in the queue: 0 when it is next, running or not here."""
        with self._changed:
            return self._in_turn().index(job) if self._queue.get(job.id) is job else 0

    def open(self) -> None:
        """Say that setup has returned, and jobs may be taken."""
        with self._changed:
            if self._state == "starting":
                self._state = "ready"
        with suppress(InvalidStateError):  # it broke meanwhile, and whoever waits has heard of that
            self.ready.set_result(None)

    def take(self, at_most: int = 1, timeout_s: float | None = None) -> list[Job]:
        """Return the next jobs, which run from now on until `done`; waits for the first.

        Args:
            timeout_s: how long to wait. None is until there is one, or none will come any more: then nothing is
                returned.
        """
        until = math.inf if timeout_s is None else time.monotonic() + timeout_s
        with self._changed:
            while not self._queue and self._state == "ready" and (left_s := until - time.monotonic()) > 0:
                self._changed.wait(min(left_s, _LOOK_AGAIN_S))
            jobs = self._in_turn()[:at_most]
            for job in jobs:
                self._run_from_now(job)
        return jobs

    def take_beside(self, *, has_place: bool, passed: Container[Job], waits: bool) -> Job | None:
        """Return who comes next in line, and runs from now on, while others run; None where that is nobody.

        Args:
            has_place: False leaves jobs in the line; a session's turn takes no place.
            passed: the sessions that have had their turn.
            waits: until somebody comes, or `call` is called; for a while at most.
        """
        if not (waits or self._queue):  # without the lock: who comes just now is seen the next time
            return None
        with self._changed:
            job = self._next_beside(has_place, passed)
            if waits and job is None and not self._is_called:
                self._changed.wait(_LOOK_AGAIN_S)
                job = self._next_beside(has_place, passed)
            self._is_called = False
            if job is not None:
                self._run_from_now(job)
        return job

    def call(self) -> None:
        """Have `take_beside` return: one of those that run can go on."""
        with self._changed:
            self._is_called = True
            self._changed.notify()

    def put_back(self, job: Job) -> None:
        """Queue a job again that was taken, before all others: what ran it is lost, or it could not be handed over.

        Raises:
            Draining, SetupFailed, WorkerStuck: no jobs are taken any more; it still counts as running.
        """
        with self._changed:
            self._raise_if_refusing()
            del self._running[job]
            if job.is_over:  # else, should it end from now on, `_discard` finds it
                return
            self._queue[job.id] = job
            self._queue.move_to_end(job.id, last=False)
            self._changed.notify()
            self._watch_within(job.queue_time_left_s)

    def done(self, job: Job) -> None:
        """Say that the worker is back from a job that it took."""
        with self._changed:
            self._with_frames.discard(job)
            self._times.add(time.monotonic() - self._running.pop(job))

    def begin_encoding(self, job: Job) -> None:
        """Have the deadline of a running job hold on after `done`, while its result is made elsewhere."""
        with self._changed:
            self._encoding[job] = self._running[job]

    def end_encoding(self, job: Job) -> None:
        """Say that the result was made."""
        with self._changed:
            del self._encoding[job]

    def encoded(self) -> list[Job]:
        """Return the jobs whose results are being made."""
        with self._changed:
            return list(self._encoding)

    def busy(self) -> list[Job]:
        """Return the jobs that run or are being encoded."""
        with self._changed:
            return list(self._busy())

    def begin_drain(self) -> None:
        """Take no more jobs; end the queued ones, and sessions between two turns, with a retryable error, let the
        running ones go on.
        """
        with self._changed:
            if self._state not in ("starting", "ready"):
                return
            self._state = "draining"
            queued = self._empty_queue()
            gone = self._gone(queued)
        for job in queued:
            job.fail(draining(job))
        for job in gone:
            job.returned()

    def cancel_running(self) -> None:
        """End the running jobs, and those being encoded; their readers are told that the server is shutting down."""
        for job in self.busy():
            job.fail(draining(job))

    def close(self) -> None:
        """Say that no more jobs run, and teardown has returned."""
        with self._changed:
            if self._state == "draining":  # what broke the worker is what later callers should hear
                self._state = "stopped"
            self._due_sooner.notify()

    def break_off(self, state: State, error: StreamAppError) -> None:
        """End all jobs, and take no more; of several reasons the first counts."""
        with self._changed:
            if self._state not in _AT_WORK:
                return
            self._state = state
            queued = self._empty_queue()
            jobs, gone = [*queued, *self._busy()], self._gone(queued)
        with suppress(InvalidStateError):  # setup has returned
            self.ready.set_exception(error)  # first: what ends with the process asks here for the reason
        try:
            if self._on_broken is not None:
                self._on_broken(error)
        finally:
            for job in jobs:  # last: each logs its end, and a handler of the user's may block
                job.fail(error)
            for job in gone:
                job.returned()

    def statistics(self) -> WorkerStatistics:
        """Return the worker's figures."""
        state = self.state
        with self._changed:
            return WorkerStatistics(state, len(self._queue), len(self._running), self._refused)

    def end_overdue(self) -> None:
        """End what is out of time: jobs, and the worker when one of them does not come back."""
        with self._changed:
            queued, busy, running = list(self._queue.values()), self._busy(), set(self._running)
        now = time.monotonic()
        for job in queued:
            if job.queue_time_left_s <= 0:
                job.fail(waited_too_long(job))
                self._discard(job)  # one that was over before it came is told nothing more, and would stay due
        for job, since in busy.items():
            if now < since + job.request.timeout_s:
                continue
            if not job.is_expired:
                job.expire()
            elif now >= self._stuck_at(job, since) and job in running:
                self.break_off("stuck", WorkerStuck(f"the inference thread of {self.name} does not come back"))
                logger.critical(
                    "the inference thread of %s is stuck in %s, job %s", self.name, job.request.path, job.id
                )

    def _raise_if_refusing(self) -> None:
        match self._state:
            case "draining" | "stopped":
                raise draining()
            case "setup_failed":
                raise SetupFailed(f"setup of {self.name} failed; the server's log says why", trace=trace_of(self.ready))
            case "stuck":
                raise WorkerStuck(f"the inference thread of {self.name} does not come back")
            case "broken":
                raise WorkerStuck(f"a thread of {self.name} has ended; the server starts anew")

    def _discard(self, job: Job) -> None:
        with self._changed:
            if self._queue.get(job.id) is job:  # not the next attempt at it
                del self._queue[job.id]

    def _discard_session(self, job: Job) -> None:
        """Let go of a session that is over, where it does not run, or have its code come to its end."""
        with self._changed:
            if job in self._with_frames:
                if job in self._parked:
                    self._queue_parked(job)
                return
            is_here = job in self._parked or job.id in self._queue
            self._parked.pop(job, None)
            self._queue.pop(job.id, None)
        if is_here:
            job.returned()

    def _guard(self, work: Callable[[], None]) -> None:
        """Run a thread's work; whatever ends it before its time, callers and the process hear of it."""
        try:
            work()
        except BaseException as error:
            name = threading.current_thread().name
            self.break_off("broken", WorkerStuck(f"the thread {name} has ended with {type(error).__name__}"))
            logger.critical("the thread %s has ended", name, exc_info=error)

    def _notice_ended_threads(self) -> None:
        for thread in self._threads:
            # The state is looked at last: they may just have ended as they should.
            if not thread.is_alive() and self._state in _AT_WORK:
                self.break_off("broken", WorkerStuck(f"the thread {thread.name} has ended"))
                logger.critical("the thread %s has ended", thread.name)

    def _stuck_at(self, job: Job, since: float) -> float:
        """Return when a running job that is out of time counts as stuck: never, while it waits for its turn."""
        at, due_at = self.at, since + job.request.timeout_s
        if self._max_running == 1 or job in self.elsewhere:
            return due_at + self._stuck_s
        return math.inf if at is None or at[0] is not job else max(due_at, at[1]) + self._stuck_s

    # Those from here to `_due_s` run under the lock.

    def _next_beside(self, has_place: bool, passed: Container[Job]) -> Job | None:
        in_turn = self._in_turn() if has_place else self._queue.values()  # sorted for nothing in each round otherwise
        return next((job for job in in_turn if (has_place if job.inbox is None else job not in passed)), None)

    def _run_from_now(self, job: Job) -> None:
        del self._queue[job.id]
        self._running[job] = time.monotonic()
        self._watch_within(job.request.timeout_s)

    def _waiting_jobs(self) -> int:
        return sum(job.inbox is None for job in self._queue.values())

    def _queue_parked(self, job: Job) -> None:
        del self._parked[job]
        self._queue[job.id] = job
        self._changed.notify()

    def _in_turn(self) -> list[Job]:
        return sorted(self._queue.values(), key=_is_low_priority)

    def _busy(self) -> dict[Job, float]:
        """Return the jobs that run or are being encoded, and since when."""
        return {**self._running, **self._encoding}

    def _empty_queue(self) -> list[Job]:
        queued = [*self._queue.values(), *self._parked]
        self._queue.clear()
        self._parked.clear()
        for job in queued:
            if job in self._with_frames:
                self._queue[job.id] = job
        self._changed.notify_all()
        self._due_sooner.notify()
        return queued

    def _gone(self, queued: list[Job]) -> list[Job]:
        """Return the sessions among what has left the queue of which nothing is left with that."""
        return [job for job in queued if job.inbox is not None and job not in self._with_frames]

    def _watch_within(self, due_s: float) -> None:
        """Have the watcher look at the jobs by then."""
        if time.monotonic() + due_s < self._looks_again_at:
            self._due_sooner.notify()

    def _due_s(self) -> float:
        """Return the seconds until the next deadline."""
        now = time.monotonic()
        dues = [math.inf, *(waiting.queue_time_left_s for waiting in self._queue.values())]
        for job, since in self._busy().items():
            if not job.is_expired:
                dues.append(since + job.request.timeout_s - now)
            elif job in self._running:
                dues.append(self._stuck_at(job, since) - now)
        return min(dues)

    # The watcher's thread.

    def _watch(self) -> None:
        while self._wait_until_due():
            self._notice_ended_threads()
            self.end_overdue()

    def _wait_until_due(self) -> bool:
        """Wait for the next deadline; False when no more will come. Between two looks nothing here holds a job."""
        with self._changed:
            due_s = max(0, min(self._due_s(), _LOOK_AGAIN_S))
            # Who changes what is due compares it with this, under the lock, which `wait` gives back: none is missed.
            self._looks_again_at = time.monotonic() + due_s
            if due_s and self._state in _AT_WORK:
                self._due_sooner.wait(due_s)
            return self._state in _AT_WORK


def _is_low_priority(job: Job) -> bool:
    return job.request.is_low_priority


def draining(job: Job | None = None) -> Draining:
    """Return what the caller of a job, or a session, hears that a drain has ended or refused."""
    is_session = job is not None and job.inbox is not None
    return Draining(SHUTTING_DOWN if is_session else "the server is shutting down; send the job again")


def waited_too_long(job: Job) -> QueueTimeout:
    """Return what the caller of a job hears whose turn did not come in time."""
    return QueueTimeout(f"the job waited longer than queue_timeout_s={job.request.queue_timeout_s}")
