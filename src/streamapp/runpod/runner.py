"""Run handlers: sync ones and generators one after another, coroutines as tasks of a loop, in the inference thread.

Divergence: coroutines do not run on the server's loop, as those of endpoints do. Handlers that were written for Runpod
have a loop that is theirs alone, and block it, for minutes. The loop stands while a sync handler runs, as it does
there; but such a handler is called beside the loop, so that it may use `asyncio.run`, which it may not there.
"""

import asyncio
import functools
import inspect
import operator
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from typing import Any, Literal
from weakref import WeakKeyDictionary

from ..errors import Cancelled
from ..jobs.job import Job
from ..jobs.stream import OwnLoopStream, Stream, enter_stream
from ..process.forks import ending_forks, looping_here
from ..process.logs import logger
from ..process.threads import in_encoder
from ..runtime import ServedApp, Workers
from ..workers.results import close, close_now, final_event, is_iterator, report, succeed_at_once
from ..workers.tasks import TaskWorker
from ..workers.thread import ThreadWorker
from .handlers import HandlerApp
from .ids import told_id
from .outcomes import Returned, describe_failure, error_in, read_returned
from .progress import under_way

_LEFTOVERS_S = 5.0  # that tasks may take to end when a handler's module is imported anew
_LOOK_AGAIN_S = 1.0  # how often a handler is asked whether more jobs may run, while some wait


class _LastingLoop(asyncio.SelectorEventLoop):
    """Be closed by nobody but the worker: a sync handler may close what `asyncio.get_event_loop` gives it."""

    may_close = False

    def close(self) -> None:
        if self.may_close:
            super().close()


class HandlerWorker(ThreadWorker):
    """Run the jobs of one handler: a `Worker`."""

    def __init__(self, served: ServedApp) -> None:
        app = type(served.app)
        assert issubclass(app, HandlerApp)
        super().__init__(
            served.name,
            served.settings,
            run=served.run,
            max_queue=served.max_queue,
            setup=self._set_up,
            capture=served.capture,
            on_broken=served.on_broken,
        )
        self._debug = served.settings.debug
        self._app = app
        self._is_stale = False
        self._concurrency = 1
        self._has_told_of_concurrency = False
        self._streamed: WeakKeyDictionary[Job, Literal["list", "empty"]] = WeakKeyDictionary()
        self._tasks: set[asyncio.Task[None]] = set()
        self._news = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None

    def submit(self, job: Job) -> None:
        """Queue a job; raises as `Worker.submit` says."""
        super().submit(job)
        self._tell()

    def begin_drain(self) -> None:
        """Take no more jobs; end the queued ones with a retryable error, let the running ones go on."""
        super().begin_drain()
        self._tell()

    def streamed_output(self, job: Job) -> Literal["list", "empty"] | None:
        """Say what Runpod's clients get as the output of a job that yields: what it yielded, or nothing; None where it
        returns a value.
        """
        return self._streamed.get(job)

    def _tell(self) -> None:
        """Have the loop look what there is to do; from any thread."""
        if self._loop is not None:
            with suppress(RuntimeError):  # it is closed
                self._loop.call_soon_threadsafe(self._news.set)

    # The inference thread.

    def _work(self) -> None:
        loop = _LastingLoop()
        with asyncio.Runner(loop_factory=lambda: loop) as runner:
            self._loop = runner.get_loop()
            with looping_here(self._loop):
                asyncio.set_event_loop(self._loop)
                super()._work()
            loop.may_close = True

    def _set_up(self) -> None:
        if self._is_stale:
            self._is_stale = False
            self._end_leftovers()
            self._app.refresh()
        for check in self._app.handler.checks:
            self._run_on_loop(_awaited(check()))

    def _end_leftovers(self) -> None:
        """Cancel what handlers have begun on the loop and left: it holds what their module had."""
        assert self._loop is not None
        leftovers = asyncio.all_tasks(self._loop)
        for task in leftovers:
            task.cancel()
        if leftovers:
            self._run_on_loop(asyncio.wait(leftovers, timeout=_LEFTOVERS_S))

    def _run_on_loop(self, coroutine: Any) -> Any:
        assert self._loop is not None
        return self._loop.run_until_complete(coroutine)

    def _run_next(self) -> bool:
        # One that waits is taken without a turn of the loop, where no task needs one: a turn gives up the GIL, for as
        # long as the server's loop has much to do.
        job = (None if self._tasks else self._take()) or self._wait_for_next()
        if job is None and self._is_stale and self._lane.state == "ready":
            return self._run_setup()
        if job is not None:
            self._run(job)
        return job is not None

    def _wait_for_next(self) -> Job | None:
        """Wait as `_next` does, whatever handlers do meanwhile to a loop that is theirs: stop it, cancel all tasks."""
        assert self._loop is not None
        while True:
            waiting = self._loop.create_task(self._next())
            while not waiting.done():
                try:
                    self._run_on_loop(waiting)
                except BaseException as error:  # of a task that a handler has left as well
                    logger.error("a handler of %s has ended its loop, which goes on", self.name, exc_info=error)
            if not waiting.cancelled():
                return waiting.result()

    async def _next(self) -> Job | None:
        """Wait for a job that may run now, while others run; None when the handler is stale, or none will come."""
        while True:
            job = self._take()
            if job is not None:
                return job
            if not self._tasks and (self._is_stale or self._lane.state != "ready"):
                return None
            self._news.clear()  # nothing is told between `take` and here: that is this loop's to do
            with suppress(TimeoutError):
                async with asyncio.timeout(_LOOK_AGAIN_S):
                    await self._news.wait()

    def _take(self) -> Job | None:
        """Return the next job, if it may run now."""
        if self._is_stale or len(self._tasks) >= self._may_run():
            return None
        return next(iter(self._lane.take(1, timeout_s=0)), None)

    def _may_run(self) -> int:
        """Return how many jobs may run at a time, as the handler has it; it is asked when there is one to be taken."""
        modifier = self._app.handler.concurrency_modifier
        if modifier is not None and self._lane.statistics().queued:
            try:
                wanted = operator.index(modifier(self._concurrency))
                if wanted < 1:
                    raise ValueError(f"Expected 1 or more, got {wanted}")
                self._concurrency = wanted
            except BaseException as error:  # the handler's own code, whatever it raises: what was so far goes on
                if not self._has_told_of_concurrency:
                    self._has_told_of_concurrency = True
                    logger.error("concurrency_modifier of %s is left aside: %s", self.name, error, exc_info=error)
        return self._concurrency

    def _run(self, job: Job) -> None:
        task: asyncio.Task[None] | None = None
        try:
            if job.start():
                task = job.context.run(self._begin, job)
        except Cancelled:
            job.cancel()
        except BaseException as error:  # whatever user code raises ends this job and no other
            self._report(job, error)
        finally:
            if task is None:
                self._has_returned(job)

    def _begin(self, job: Job) -> "asyncio.Task[None] | None":
        """Call the handler; run what it gives, or return the task that does."""
        assert self._loop is not None
        asyncio.set_event_loop(self._loop)  # `asyncio.run`, in the handler before, takes it away
        stream = OwnLoopStream(job.channel, job.id)
        enter_stream(stream)
        given: dict[str, Any] = {**self._run_endpoint(job, stream), "id": told_id(job)}
        with under_way(given["id"], job.channel, stream), self._capture(job), ending_forks():
            came = self._app.handler.call(given)
            if not _is_async(came):
                came = self._exhaust(came, job, stream)
        if not _is_async(came):
            returned = self._read(came)
            if returned.error is not None:
                if returned.value is not None:
                    stream.emit(returned.value)
                raise returned.error
            if not self._succeed_as_yielded(job, returned.value):
                self._succeed(job, returned.value)
            return None
        task = self._loop.create_task(self._go_on(came, given["id"], job, stream), name=f"job-{job.id}")
        self._tasks.add(task)
        self._stop_at_end(task, job)
        return task

    def _exhaust(self, came: Any, job: Job, stream: Stream) -> Any:
        """Emit what a generator yields, up to its first error; return what it returns, or what is no iterator."""
        if not is_iterator(came):
            return came
        self._note_streamed(job)
        try:
            while True:
                try:
                    item = next(came)
                except StopIteration as stop:
                    return stop.value
                error = error_in(item)
                if error is None or len(item) > 1:
                    stream.emit(item)
                if error is not None:
                    raise error
        finally:
            close_now(came)

    def _read(self, result: Any) -> Returned:
        returned = read_returned(result)
        self._mark_stale(returned.refreshes)
        return returned

    def _mark_stale(self, is_stale: bool) -> None:
        """Have the handler's module imported anew before the next job, where there is a file to be imported."""
        self._is_stale |= is_stale and self._app.read_again is not None

    def _note_streamed(self, job: Job) -> None:
        self._streamed[job] = "list" if self._app.handler.aggregates else "empty"

    def _succeed_as_yielded(self, job: Job, value: Any) -> bool:
        """End a job that has yielded all there is: nothing comes behind it, and where it was nothing, no item."""
        if value is not None or job not in self._streamed:
            return False
        job.returned()
        job.succeed(None)
        return True

    def _has_returned(self, job: Job) -> None:
        self._mark_stale(self._app.handler.refreshes)
        job.returned()
        self._lane.done(job)

    def _report(self, job: Job, error: BaseException) -> None:
        job.fail(describe_failure(error, where=f"endpoint {job.request.path}", debug=self._debug))
        report(job, error)  # which logs it

    # The loop in the inference thread.

    async def _go_on(self, came: Any, given_id: str, job: Job, stream: Stream) -> None:
        try:
            with under_way(given_id, job.channel, stream), self._capture(job), ending_forks():
                came = await _awaited(came)
                if is_iterator(came):
                    came = _stepping(came)
                if hasattr(came, "__aiter__"):
                    await self._exhaust_async(came, job, stream)
                    came = None
            returned = self._read(came)
            if returned.error is not None:
                if returned.value is not None:
                    await stream.aemit(returned.value)
                raise returned.error
            job.returned()
            if not (self._succeed_as_yielded(job, returned.value) or succeed_at_once(job, returned.value)):
                job.succeed(await in_encoder(final_event, job, returned.value))
        except (Cancelled, asyncio.CancelledError):
            job.cancel()  # without effect on a job that is over already, which is why it was cancelled
        except BaseException as error:  # whatever user code raises ends this job and no other
            self._report(job, error)
        finally:
            task = asyncio.current_task()
            assert task is not None
            self._tasks.discard(task)
            self._has_returned(job)
            self._news.set()

    async def _exhaust_async(self, items: Any, job: Job, stream: Stream) -> None:
        self._note_streamed(job)
        try:
            async for item in items:
                error = error_in(item)
                if error is None or len(item) > 1:
                    rest = stream.begin_aemit(item)
                    if rest is not None:
                        await rest
                if error is not None:
                    raise error
        finally:
            await close(items)

    def _stop_at_end(self, task: "asyncio.Task[None]", job: Job) -> None:
        """Cancel a task when its job is over, and not again: what it does then, it may finish."""
        loop = self._loop
        assert loop is not None
        cancel_once = functools.cache(task.cancel)

        def stop(job: Job) -> None:
            with suppress(RuntimeError):  # the loop is closed
                loop.call_soon_threadsafe(cancel_once)

        job.on_ended.append(stop)
        if job.is_over:
            stop(job)


def runner_of(served: ServedApp) -> Workers | None:
    """Return what runs the jobs of a handler; None of another app."""
    if not isinstance(served.app, HandlerApp):
        return None
    worker = HandlerWorker(served)
    return Workers(worker, TaskWorker(served.name, served.settings, run=served.run, ready=worker.ready))


def _is_async(came: Any) -> bool:
    return inspect.isawaitable(came) or hasattr(came, "__aiter__")


async def _awaited(came: Any) -> Any:
    """Return what comes in the end of what may be to be awaited."""
    while inspect.isawaitable(came):
        came = await came
    return came


async def _stepping(items: Iterator[Any]) -> AsyncIterator[Any]:
    """Go through an iterator that a coroutine gave, in the thread that both are of."""
    try:
        for item in items:
            yield item
    finally:
        close_now(items)
