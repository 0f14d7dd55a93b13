"""Run the jobs of `async def` endpoints as tasks on the event loop.

They skip the queue of the inference thread and have a limit of their own. Deadlines are timers of the loop, which
cannot be stuck in one of them without `watchdog` noticing. Results that hold images or large files are encoded in a
thread, since the loop would stand meanwhile.

Divergence: this module uses `threading`, to tell the loop's thread from others.
"""

import asyncio
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import nullcontext, suppress
from functools import partial
from typing import TYPE_CHECKING, Any

from ..errors import Cancelled, QueueFull, StreamAppError
from ..jobs.job import Job
from ..jobs.stream import Stream, Waits, enter_stream
from ..process.forks import ending_forks
from ..process.threads import in_encoder
from ..session import LEAVINGS
from ..settings import Settings
from .results import close, failures, final_event, report, succeed_at_once
from .sessions import Session, inbox_of
from .worker import Capture, Run, RunTimes, State, WorkerStatistics, draining, waited_too_long

if TYPE_CHECKING:
    from collections.abc import Coroutine


class TaskWorker:
    """Run jobs as tasks on the loop: a `Worker`.

    Args:
        run: runs a job's endpoint; returns a coroutine.
        ready: tasks wait for it: the app's setup.
        max_running: of them that run at a time; the others wait. All up to `max_async_jobs` when None.
        is_beside: says of a job that it runs beside another, which it may have to stop: it waits for no turn.
        session_of: what runs a job that is a session. These are not counted here: what may be too many is their inputs.
    """

    def __init__(
        self,
        name: str,
        settings: Settings,
        *,
        run: Run,
        ready: Future[None],
        max_running: int | None = None,
        is_beside: Callable[[Job], bool] | None = None,
        session_of: Callable[[Job], Session] | None = None,
        capture: Capture | None = None,
    ) -> None:
        self.name = name
        self.max_jobs = settings.max_async_jobs
        self.ready = ready
        self._run_endpoint = run
        self._turns = asyncio.Semaphore(max_running or self.max_jobs)
        self._without_turns = asyncio.Semaphore(self.max_jobs)
        self._is_beside = is_beside or (lambda job: False)
        self._session_of = session_of
        self._capture = capture or (lambda job: nullcontext())
        self._tasks: dict[Job, asyncio.Task[None]] = {}
        self._sessions: dict[Job, asyncio.Task[None]] = {}
        self._refused = 0
        self._is_draining = False
        self._times = RunTimes()

    @property
    def state(self) -> State:
        """Return what the worker is doing."""
        if self._is_draining:
            return "draining"
        if not self.ready.done():
            return "starting"
        return "ready" if self.ready.exception() is None else "setup_failed"

    @property
    def is_idle(self) -> bool:
        """Say whether no job waits or runs."""
        return not (self._tasks or self._sessions)

    def start(self) -> None:
        """Do nothing: setup is the inference thread's."""

    def submit(self, job: Job) -> None:
        """Start a job.

        Raises:
            QueueFull: `max_jobs` run already.
            Draining: no jobs are taken.
        """
        if self._is_draining:
            raise draining()
        if job.inbox is not None:
            if job.start():
                self._begin(job, self._run_session(job), self._sessions)
            return
        if len(self._tasks) >= self.max_jobs:
            self._refused += 1
            raise QueueFull(
                f"{self.name} runs {len(self._tasks)} async jobs already", retry_after_s=self._times.retry_after_s(1)
            )
        self._begin(job, self._run(job), self._tasks)

    def _begin(self, job: Job, run: "Coroutine[Any, Any, None]", tasks: dict[Job, asyncio.Task[None]]) -> None:
        loop = asyncio.get_running_loop()
        task = loop.create_task(run, context=job.context, name=f"job-{job.id}")
        tasks[job] = task

        def stop(job: Job) -> None:
            with suppress(RuntimeError):  # the loop is closed
                loop.call_soon_threadsafe(task.cancel)

        job.on_ended.append(stop)

    def position(self, job: Job) -> int:
        """Return 0: nobody is told which turn is whose."""
        return 0

    def begin_drain(self) -> None:
        """Take no more jobs; let the running ones, and those that wait for their turn, go on. Sessions end that have
        nothing to do.
        """
        self._is_draining = True
        for job in list(self._sessions):
            if inbox_of(job).is_idle:
                job.fail(self._why(job))

    def cancel_running(self) -> None:
        """End all jobs; their readers are told that the server is shutting down, or that setup has failed."""
        for job in [*self._tasks, *self._sessions]:
            job.fail(self._why(job))

    def _why(self, job: Job) -> StreamAppError:
        """Return why a job ends with the server, which a failed setup ends as well."""
        error = self.ready.exception() if self.ready.done() else None
        return error if isinstance(error, StreamAppError) else draining(job)

    def join(self, timeout_s: float) -> bool:
        """Return True: no thread is left to wait for; tasks end with their loop."""
        return True

    def statistics(self) -> WorkerStatistics:
        """Return the worker's figures."""
        return WorkerStatistics(self.state, 0, len(self._tasks) + len(self._sessions), self._refused)

    async def _run(self, job: Job) -> None:
        # One coroutine for all of it: each one between the task and the endpoint is gone through twice per event.
        started, deadline = time.monotonic(), None
        turns = self._without_turns if self._is_beside(job) else self._turns
        try:
            await self._become_ready(job, turns)
            started = time.monotonic()
            try:
                if job.start():
                    # Readers get the error at the deadline, whenever the task has cleaned up after its cancellation.
                    deadline = asyncio.get_running_loop().call_later(job.request.timeout_s, job.expire)
                    stream = Stream(job.channel, job.id, loop_thread=threading.get_ident())
                    enter_stream(stream)
                    with self._capture(job), ending_forks():
                        result = await self._run_endpoint(job, stream)
                        if hasattr(result, "__aiter__"):
                            try:
                                async for item in result:
                                    rest = stream.begin_aemit(item)
                                    if rest is not None:
                                        await rest
                            finally:
                                await close(result)
                            result = None
                    job.returned()
                    await _succeed(job, result)
            finally:
                turns.release()
        except (Cancelled, asyncio.CancelledError):
            job.cancel()  # without effect on a job that is over already, which is why it was cancelled
        except BaseException as error:  # whatever user code raises ends this job and no other
            report(job, error)
        finally:
            if deadline is not None:
                deadline.cancel()
            job.returned()
            del self._tasks[job]
            self._times.add(time.monotonic() - started)

    async def _run_session(self, job: Job) -> None:
        assert self._session_of is not None
        session = self._session_of(job)
        try:
            await asyncio.shield(asyncio.wrap_future(self.ready))
            waits = Waits(inbox_of(job).wait, partial(self._rest, job), partial(self._pause, job))
            stream = session.enter(job, waits, loop_thread=threading.get_ident())
            with self._capture(job), ending_forks():
                if session.asks:
                    await session.arun(job, [], stream)
                else:
                    await self._take_turns(job, session, stream)
            job.returned()
            job.succeed(None)
        except LEAVINGS:
            job.succeed(None)
        except (Cancelled, asyncio.CancelledError):
            job.cancel()  # without effect on a job that is over already, which is why it was cancelled
        except BaseException as error:  # whatever user code raises ends this job and no other
            report(job, error)
        finally:
            job.returned()
            del self._sessions[job]

    async def _take_turns(self, job: Job, session: Session, stream: Stream) -> None:
        """Run a session's code for each input, or batch of them, until no more come."""
        inbox, loop = inbox_of(job), asyncio.get_running_loop()
        while True:
            await self._rest(job)
            inputs = inbox.take()
            if not inputs:
                return
            job.channel.begin_turn()
            deadline = loop.call_later(job.request.timeout_s, job.expire)
            try:
                session.extend(inbox, inputs)
                await session.arun(job, inputs, stream)
            except Exception as error:  # the app's own, at these inputs; the session goes on
                if not session.is_unary:
                    raise
                for failure in failures(job, inputs, error):
                    await job.channel.aemit(failure)
            finally:
                deadline.cancel()
                inputs.clear()  # they can be megabytes, and the next may be long in coming
            if not session.is_unary:
                return

    async def _rest(self, job: Job) -> None:
        """Wait until a session has something to do; in a drain it ends instead."""
        self._pause(job)
        job.channel.check()
        await inbox_of(job).arrival()

    def _pause(self, job: Job) -> None:
        if self._is_draining:
            job.fail(draining(job))
        inbox_of(job).settle()

    async def _become_ready(self, job: Job, turns: asyncio.Semaphore) -> None:
        left_s = None if job.request.queue_timeout_s is None else job.queue_time_left_s
        try:
            async with asyncio.timeout(left_s):
                await asyncio.shield(asyncio.wrap_future(self.ready))
                await turns.acquire()
        except TimeoutError:
            raise waited_too_long(job) from None


async def _succeed(job: Job, result: Any) -> None:
    """End a job with its result; a thread encodes what takes long."""
    if not succeed_at_once(job, result):
        job.succeed(await in_encoder(final_event, job, result))
