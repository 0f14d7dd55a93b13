"""Run jobs: one inference thread per app for sync endpoints, tasks on the loop for `async def` ones.

`Worker` owns the inference thread: setup, every sync endpoint and teardown run in it, one after another, as
CUDA streams, `inference_mode` and thread-locals want. Jobs wait in a bounded FIFO; a second thread watches
deadlines. `AsyncWorker` has the same face for coroutines: `submit`, `begin_drain`, `statistics`.
`LoopWatchdog` names the `async def` endpoint that blocked the loop.

The worker takes callables: it knows neither apps nor HTTP. Results that hold images are encoded in a thread of
their own, since a PNG of a megapixel takes 60 ms, for which the GPU would idle; those of coroutines that hold large
files too, for which the loop would stand.
"""

import asyncio
import contextvars
import gc
import math
import statistics
import sys
import threading
import time
import traceback
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from contextlib import AbstractContextManager, nullcontext, suppress
from types import CodeType, FrameType
from typing import Any, Literal, NamedTuple

from .errors import (
    Cancelled,
    Draining,
    OutOfMemory,
    QueueFull,
    QueueTimeout,
    SetupFailed,
    StreamAppError,
    WorkerStuck,
    is_out_of_memory,
)
from .events import Event, has_pending_media, to_event, to_event_at_once
from .forks import ending_forks
from .jobs import Job
from .logs import logger
from .settings import Settings
from .stream import Stream, enter_stream
from .threads import DaemonPool, in_encoder

State = Literal["starting", "ready", "setup_failed", "draining", "stuck", "broken", "stopped"]
Capture = Callable[[Job], AbstractContextManager[None]]

_AT_WORK: tuple[State, ...] = ("starting", "ready", "draining")  # in these both threads of a worker run

_MAX_ENCODING = 4  # results that wait for their PNGs, megabytes of pixels each; then the inference thread waits
_LOOK_S = 0.1  # how often it looks, while it waits for them, whether the job is still wanted
_DEBUGGERS = {"bdb", "pdb", "pydevd", "_pydevd_bundle", "debugpy", "pudb", "IPython"}
_LOOK_AGAIN_S = 5.0  # how often both threads look around when nothing happens: no wait is for ever


class WorkerStatistics(NamedTuple):
    """Describe a worker at one moment."""

    state: State
    #: jobs waiting for their turn
    queued: int
    #: jobs running now
    running: int
    #: jobs that ran to any end
    finished: int
    #: jobs refused because the queue was full
    refused: int
    #: the median of the last run times, seconds
    median_run_s: float


class _RunTimes:
    """Remember how long the last jobs ran, and estimate from it when to come back."""

    def __init__(self) -> None:
        self._seconds: deque[float] = deque(maxlen=32)
        self.finished = 0

    def add(self, seconds: float) -> None:
        self.finished += 1
        self._seconds.append(seconds)

    def median_s(self) -> float:
        return statistics.median(list(self._seconds)) if self._seconds else 0.0

    def retry_after_s(self, queued: int) -> int:
        """Return ceil(queue length x median run time), 1 to 60."""
        return max(1, min(60, math.ceil(queued * self.median_s())))


class Worker:
    """Run sync jobs in one thread.

    Args:
        name: the app's, for the thread's name and messages.
        setup, teardown: the app's hooks, run in the inference thread.
        capture: wraps each run, for example to turn its prints into `log` events.
        on_broken: called, in any thread, when setup failed, the thread is stuck, or one of the two has ended for
            whatever reason; the process should end.
    """

    def __init__(
        self,
        name: str,
        settings: Settings,
        *,
        max_queue: int | None = None,
        setup: Callable[[], None] | None = None,
        teardown: Callable[[], None] | None = None,
        capture: Capture | None = None,
        on_broken: Callable[[StreamAppError], None] | None = None,
    ) -> None:
        self.name = name
        self.max_queue = settings.max_queue if max_queue is None else max_queue
        #: done when setup has returned; holds `SetupFailed` when it raised
        self.ready: Future[None] = Future()
        self.on_broken = on_broken
        self._settings = settings
        self._setup = setup
        self._teardown = teardown
        self._capture = capture or (lambda job: nullcontext())
        self._state: State = "starting"
        self._queue: OrderedDict[str, Job] = OrderedDict()
        lock = threading.RLock()
        self._changed = threading.Condition(lock)  # for the inference thread
        # For the watching thread, which is told of no job but one that is due before it looks again: each wake-up takes
        # the GIL from the loop and the inference thread just when both are at a new job.
        self._due_sooner = threading.Condition(lock)
        self._looks_again_at = math.inf
        self._running: Job | None = None
        self._running_since = 0.0
        self._encoding: dict[Job, float] = {}  # since when each has run
        self._refused = 0
        self._times = _RunTimes()
        self._thread = threading.Thread(target=self._guard, args=[self._work], name=f"inference-{name}", daemon=True)
        self._watch_thread = threading.Thread(
            target=self._guard, args=[self._watch], name=f"deadlines-{name}", daemon=True
        )
        self._encoder = DaemonPool(1, f"encode-{name}")

    @property
    def state(self) -> State:
        """Return what the worker is doing."""
        return self._state

    def start(self) -> None:
        """Start the thread; setup is its first item, jobs queue meanwhile."""
        self._thread.start()
        self._watch_thread.start()

    def submit(self, job: Job) -> None:
        """Queue a job.

        Raises:
            QueueFull: with `retry_after_s`.
            Draining, SetupFailed, WorkerStuck: no jobs are taken.
        """
        self.is_alive()
        job.on_ended.append(self._discard)  # before it is queued: it can end at once
        with self._changed:
            self._raise_if_refusing()
            if len(self._queue) >= self.max_queue:
                self._refused += 1
                raise QueueFull(
                    f"the queue of {self.name} is full: {len(self._queue)} jobs wait",
                    retry_after_s=self._times.retry_after_s(len(self._queue)),
                )
            self._queue[job.id] = job
            self._changed.notify()
            self._watch_within(job.queue_time_left_s)

    def position(self, job: Job) -> int:
        """Return how many jobs are before this one in the queue: 0 when it is next or running."""
        with self._changed:
            return self._in_turn().index(job) if job.id in self._queue else 0

    def _in_turn(self) -> list[Job]:
        return sorted(self._queue.values(), key=_is_low_priority)

    def begin_drain(self) -> None:
        """Take no more jobs; end the queued ones with a retryable error, let the running one go on."""
        with self._changed:
            if self._state not in ("starting", "ready"):
                return
            self._state = "draining"
            queued = self._empty_queue()
        for job in queued:
            job.fail(_draining())

    def cancel_running(self) -> None:
        """End the running job, and those being encoded; their readers are told that the server is shutting down."""
        with self._changed:
            jobs = [job for job, _ in self._busy()]
        for job in jobs:
            job.fail(_draining())

    def is_alive(self) -> bool:
        """Say whether both threads run, as long as they should; one that has ended without a word is noticed here."""
        if self._thread.ident is not None and self._state in _AT_WORK:
            for thread in (self._thread, self._watch_thread):
                if not thread.is_alive() and self._state in _AT_WORK:  # they may just have ended as they should
                    self._break("broken", WorkerStuck(f"the thread {thread.name} has ended"))
        return self._state not in ("setup_failed", "stuck", "broken")

    @property
    def is_idle(self) -> bool:
        """Say whether no job runs or is being encoded."""
        with self._changed:
            return self._running is None and not self._queue and not self._encoding

    def join(self, timeout_s: float) -> bool:
        """Wait for teardown and the end of the thread; False when it did not end in time. Blocks."""
        if not self._thread.is_alive():
            return True
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def statistics(self) -> WorkerStatistics:
        """Return the worker's figures."""
        with self._changed:
            return WorkerStatistics(
                state=self._state,
                queued=len(self._queue),
                running=int(self._running is not None),
                finished=self._times.finished,
                refused=self._refused,
                median_run_s=self._times.median_s(),
            )

    def _raise_if_refusing(self) -> None:
        match self._state:
            case "draining" | "stopped":
                raise _draining()
            case "setup_failed":
                raise SetupFailed(f"setup of {self.name} failed; the server's log says why")
            case "stuck":
                raise WorkerStuck(f"the inference thread of {self.name} does not come back")
            case "broken":
                raise WorkerStuck(f"a thread of {self.name} has ended; the server starts anew")

    def _discard(self, job: Job) -> None:
        with self._changed:
            self._queue.pop(job.id, None)

    def _guard(self, work: Callable[[], None]) -> None:
        """Run a thread's work; whatever ends it before its time, callers and the process hear of it."""
        try:
            work()
        except BaseException as error:
            name = threading.current_thread().name
            self._break("broken", WorkerStuck(f"the thread {name} has ended with {type(error).__name__}"))
            logger.critical("the thread %s has ended", name, exc_info=error)

    # The inference thread.

    def _work(self) -> None:
        if self._run_setup():
            while self._run_next():
                pass
        self._finish_encoding()
        self._run_teardown()
        with self._changed:
            if self._state == "draining":  # what broke the worker is what later callers should hear
                self._state = "stopped"
            self._due_sooner.notify()

    def _run_setup(self) -> bool:
        started = time.monotonic()
        try:
            if self._setup is not None:
                with ending_forks():
                    self._setup()
        except BaseException as error:  # a model that cannot be loaded: whatever it raised, readers must hear of it
            logger.exception("setup of %s failed", self.name)
            self._break("setup_failed", SetupFailed(f"setup of {self.name} failed with {type(error).__name__}"))
            return False
        logger.info("setup of %s took %.1f s", self.name, time.monotonic() - started)
        with self._changed:
            if self._state == "starting":
                self._state = "ready"
        self.ready.set_result(None)
        return True

    def _break(self, state: State, error: StreamAppError) -> None:
        with self._changed:
            self._state = state
            jobs = [*self._empty_queue(), *(job for job, _ in self._busy())]
        try:
            if self.on_broken is not None:
                self.on_broken(error)
        finally:
            for job in jobs:  # each logs its end, and a handler of the user's may block: nothing else waits for that
                job.fail(error)
            if not self.ready.done():
                self.ready.set_exception(error)

    def _empty_queue(self) -> list[Job]:
        queued = list(self._queue.values())
        self._queue.clear()
        self._changed.notify()
        self._due_sooner.notify()
        return queued

    def _run_next(self) -> bool:
        """Wait for a job and run it; False when no more will come. A frame of its own lets go of the job."""
        job = self._next()
        if job is not None:
            self._run(job)
        return job is not None

    def _next(self) -> Job | None:
        with self._changed:
            while not self._queue:
                if self._state != "ready":
                    return None
                self._changed.wait(_LOOK_AGAIN_S)
            job = min(self._queue.values(), key=_is_low_priority)  # the first of the lowest
            del self._queue[job.id]
            self._running = job
            self._running_since = time.monotonic()
            self._watch_within(job.timeout_s)
        return job

    def _run(self, job: Job) -> None:
        try:
            if job.start():
                job.context.run(self._call, job)
        except Cancelled:
            job.cancel()  # user code raised it on its own: without effect on a job that is over already
        except BaseException as error:  # whatever user code raises, SystemExit included, ends this job and no other
            _report(job, error)
        finally:
            job.returned()
            with self._changed:
                self._running = None
                self._times.add(time.monotonic() - self._running_since)

    def _call(self, job: Job) -> None:
        stream = Stream(job.channel, job.id)
        enter_stream(stream)
        with self._capture(job):
            with ending_forks():
                result = job.call(job, stream)
        job.returned()
        if not has_pending_media(result):
            job.succeed(_final_event(job, result))
            return
        with self._changed:
            while sum(not encoded.is_over for encoded in self._encoding) >= _MAX_ENCODING:
                self._changed.wait(_LOOK_S)
                job.channel.check()
            self._encoding[job] = self._running_since
        self._encoder.submit(contextvars.copy_context().run, self._encode, job, result)

    def _encode(self, job: Job, result: Any) -> None:
        try:
            if not job.is_over:
                job.succeed(_final_event(job, result))
        except BaseException as error:  # reported like an error of the endpoint, whose result it is
            _report(job, error)
        finally:
            with self._changed:
                del self._encoding[job]
                self._changed.notify()

    def _finish_encoding(self) -> None:
        """Wait for the results that are still wanted; an encoder of the user's may hang."""
        with self._changed:
            while not all(job.is_over for job in self._encoding):
                self._changed.wait(_LOOK_S)
        self._encoder.shutdown()

    def _run_teardown(self) -> None:
        if self._teardown is None or self._state == "setup_failed":
            return
        try:
            with ending_forks():
                self._teardown()
        except BaseException:  # the process ends anyway; what is left to do is to say so
            logger.exception("teardown of %s failed", self.name)

    # The thread that watches deadlines.

    def _watch(self) -> None:
        while self._wait_until_due():
            self._act()

    def _wait_until_due(self) -> bool:
        """Wait for a deadline; False when no more will come. Between two looks nothing here holds a job."""
        with self._changed:
            while self._state in _AT_WORK:
                due_s = self._due_s()
                if due_s <= 0:
                    return True
                due_s = min(due_s, _LOOK_AGAIN_S)
                self._looks_again_at = time.monotonic() + due_s
                self._due_sooner.wait(due_s)
                if not self._thread.is_alive() and self._state in _AT_WORK:
                    raise WorkerStuck(f"the thread {self._thread.name} has ended")
        return False

    def _watch_within(self, due_s: float) -> None:
        """Have the watching thread look at the jobs by then; under the lock."""
        if time.monotonic() + due_s < self._looks_again_at:
            self._due_sooner.notify()

    def _busy(self) -> list[tuple[Job, float]]:
        """Return the jobs that run or are being encoded, and since when; under the lock."""
        running = [] if self._running is None else [(self._running, self._running_since)]
        return running + list(self._encoding.items())

    def _due_s(self) -> float:
        """Return the seconds until the next deadline; under the lock."""
        now = time.monotonic()
        dues = [math.inf, *(waiting.queue_time_left_s for waiting in self._queue.values())]
        for job, since in self._busy():
            if not job.is_expired:
                dues.append(since + job.timeout_s - now)
            elif job is self._running:
                dues.append(since + job.timeout_s + self._settings.stuck_s - now)
        return min(dues)

    def _act(self) -> None:
        with self._changed:
            queued, busy = list(self._queue.values()), self._busy()
        now = time.monotonic()
        for job in queued:
            if job.queue_time_left_s <= 0:
                job.fail(_waited_too_long(job))
        for job, since in busy:
            if now >= since + job.timeout_s and not job.is_expired:
                job.expire()
            elif now >= since + job.timeout_s + self._settings.stuck_s and self._running is job:
                self._break("stuck", WorkerStuck(f"the inference thread of {self.name} does not come back"))
                logger.critical("the inference thread of %s is stuck in %s, job %s", self.name, job.endpoint, job.id)


def _is_low_priority(job: Job) -> bool:
    return job.is_low_priority


def _draining() -> Draining:
    return Draining("the server is shutting down; send the job again")


def _waited_too_long(job: Job) -> QueueTimeout:
    return QueueTimeout(f"the job waited longer than queue_timeout_s={job.queue_timeout_s}")


def _report(job: Job, error: BaseException) -> None:
    """End a job with what it raised."""
    job.fail(error)
    if not isinstance(error, StreamAppError):
        logger.error("job %s failed: %s", job.id, job.endpoint, exc_info=error)
    try:
        if is_out_of_memory(error) or isinstance(error, OutOfMemory):
            error.__traceback__ = None  # its frames hold the tensors
            empty_gpu_cache()
    except Exception:  # a GPU that failed for good, an error that breaks when it is read: the thread has other jobs
        logger.exception("job %s failed, and its memory could not be given back", job.id)


def _final_event(job: Job, result: Any) -> Event | None:
    """Encode what an endpoint returned; None when its last output is the result already."""
    if result is None and job.result is not None:
        return None
    event = to_event(result)
    return event if event.kind == "output" else to_event(event.json())


def empty_gpu_cache() -> None:
    """Give cached GPU memory back after an out-of-memory error; torch is not imported for it."""
    gc.collect()
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available():
        torch.cuda.empty_cache()


class AsyncWorker:
    """Run jobs of `async def` endpoints as tasks on the loop; every method runs there.

    Args:
        ready: tasks wait for it: the app's setup.
        max_running: of them that run at a time; the others wait. All up to `max_async_jobs` when None.
    """

    def __init__(
        self,
        name: str,
        settings: Settings,
        *,
        ready: Future[None],
        max_running: int | None = None,
        capture: Capture | None = None,
    ) -> None:
        self.name = name
        self.max_jobs = settings.max_async_jobs
        self._ready = ready
        self._turns = asyncio.Semaphore(max_running or self.max_jobs)
        self._capture = capture or (lambda job: nullcontext())
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._refused = 0
        self._is_draining = False
        self._times = _RunTimes()

    def submit(self, job: Job) -> None:
        """Start a job.

        Raises:
            QueueFull: `max_jobs` run already.
            Draining: no jobs are taken.
        """
        if self._is_draining:
            raise _draining()
        if len(self._tasks) >= self.max_jobs:
            self._refused += 1
            raise QueueFull(
                f"{self.name} runs {len(self._tasks)} async jobs already", retry_after_s=self._times.retry_after_s(1)
            )
        loop = asyncio.get_running_loop()
        task = loop.create_task(self._run(job), context=job.context, name=f"job-{job.id}")
        self._tasks[job.id] = task

        def stop(job: Job) -> None:
            with suppress(RuntimeError):  # the loop is closed
                loop.call_soon_threadsafe(task.cancel)

        job.on_ended.append(stop)

    def begin_drain(self) -> None:
        """Take no more jobs; let the running ones go on."""
        self._is_draining = True

    def cancel_running(self, jobs: Iterable[Job]) -> None:
        """End the running jobs; their readers are told that the server is shutting down."""
        for job in jobs:
            if job.id in self._tasks:
                job.fail(_draining())

    @property
    def is_idle(self) -> bool:
        """Say whether no job runs."""
        return not self._tasks

    def statistics(self) -> WorkerStatistics:
        """Return the worker's figures."""
        return WorkerStatistics(
            state=self._state(),
            queued=0,
            running=len(self._tasks),
            finished=self._times.finished,
            refused=self._refused,
            median_run_s=self._times.median_s(),
        )

    def _state(self) -> State:
        if self._is_draining:
            return "draining"
        if not self._ready.done():
            return "starting"
        return "ready" if self._ready.exception() is None else "setup_failed"

    async def _run(self, job: Job) -> None:
        # One coroutine for all of it: each one between the task and the endpoint is gone through twice per event.
        started, deadline = time.monotonic(), None
        loop = asyncio.get_running_loop()
        try:
            await self._become_ready(job)
            started = time.monotonic()
            try:
                if job.start():
                    # Readers get the error at the deadline, whenever the task has cleaned up after its cancellation.
                    deadline = loop.call_later(job.timeout_s, job.expire)
                    stream = Stream(job.channel, job.id, loop_thread=threading.get_ident())
                    enter_stream(stream)
                    with self._capture(job), ending_forks():
                        result = await job.call(job, stream)
                    job.returned()
                    await self._succeed(job, result)
            finally:
                self._turns.release()
        except (Cancelled, asyncio.CancelledError):
            job.cancel()  # without effect on a job that is over already, which is why it was cancelled
        except BaseException as error:  # whatever user code raises ends this job and no other
            _report(job, error)
        finally:
            if deadline is not None:
                deadline.cancel()
            job.returned()
            del self._tasks[job.id]
            self._times.add(time.monotonic() - started)

    async def _become_ready(self, job: Job) -> None:
        left_s = None if job.queue_timeout_s is None else job.queue_time_left_s
        try:
            async with asyncio.timeout(left_s):
                await asyncio.shield(asyncio.wrap_future(self._ready))
                await self._turns.acquire()
        except TimeoutError:
            raise _waited_too_long(job) from None

    async def _succeed(self, job: Job, result: Any) -> None:
        if result is None:
            job.succeed(_final_event(job, None))
            return
        event = to_event_at_once(result)
        if event is None or event.kind != "output":
            event = await in_encoder(_final_event, job, result)
        job.succeed(event)


class LoopWatchdog:
    """Name the `async def` endpoint that keeps the event loop from running, and end what is blocked for good.

    A thread asks the loop for a sign of life; when none comes within `limit_s`, it looks for an endpoint's code on
    the loop's stack, and logs what it finds, once per block. After `stuck_s` nobody can be helped any more but by a
    new process.

    Args:
        codes: the endpoints' code objects, and what to call them.
        on_stuck: called, in the watching thread, until it returns True, once per block. Not while a debugger stands
            there.
    """

    def __init__(
        self,
        codes: dict[CodeType, str],
        *,
        limit_s: float = 1.0,
        stuck_s: float = math.inf,
        on_stuck: Callable[[], bool] = lambda: True,
    ) -> None:
        self._codes = codes
        self._limit_s = limit_s
        self._stuck_s = stuck_s
        self._on_stuck = on_stuck
        self._stop = threading.Event()
        self._alive = threading.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._loop_thread = 0
        self._thread = threading.Thread(target=self._watch, name="loop-watchdog", daemon=True)

    def start(self) -> None:
        """Start watching the running loop."""
        self._loop = asyncio.get_running_loop()
        self._loop_thread = threading.get_ident()
        self._thread.start()

    def stop(self) -> None:
        """Stop watching."""
        self._stop.set()

    def _watch(self) -> None:
        assert self._loop is not None
        while not self._stop.wait(self._limit_s / 2):
            self._alive.clear()
            try:
                self._loop.call_soon_threadsafe(self._alive.set)
            except RuntimeError:  # the loop is closed
                return
            if not self._alive.wait(self._limit_s) and self._loop.is_running():
                self._wait_for_its_end()

    def _wait_for_its_end(self) -> None:
        # In a thread of its own: the handlers' lock may be what the loop waits for.
        threading.Thread(target=self._report, name="loop-report", daemon=True).start()
        blocked_s, is_told = self._limit_s, False
        # Counted in waits of this thread's, not by the clock: a process that was stopped for an hour (SIGSTOP, a
        # machine that slept), or a call that kept the GIL, has kept this thread as well.
        while self._is_still_blocked():
            blocked_s += self._limit_s
            if blocked_s >= self._stuck_s and not is_told and not self._is_in_debugger():
                is_told = self._on_stuck()

    def _is_still_blocked(self) -> bool:
        assert self._loop is not None
        return not self._alive.wait(self._limit_s) and self._loop.is_running() and not self._stop.is_set()

    def _stack(self) -> list[FrameType]:
        """Return the loop's frames, innermost first; none when its thread has ended."""
        frame = sys._current_frames().get(self._loop_thread)
        return [] if frame is None else [found for found, _ in traceback.walk_stack(frame)]

    def _is_in_debugger(self) -> bool:
        names = (str(frame.f_globals.get("__name__")).partition(".")[0] for frame in self._stack())
        return any(name in _DEBUGGERS for name in names)

    def _report(self) -> None:
        stack = self._stack()
        if not stack:
            return
        names = [self._codes[frame.f_code] for frame in stack if frame.f_code in self._codes]
        where = f"async endpoint {names[0]}" if names else "code on the event loop"
        place = f"{stack[0].f_code.co_filename}:{stack[0].f_lineno}"
        logger.warning(
            "%s blocks the event loop for more than %.1f s at %s: no stream moves meanwhile; make the endpoint `def`, "
            "or await asyncio.to_thread(...)",
            where,
            self._limit_s,
            place,
        )
