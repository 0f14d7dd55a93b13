"""Run one producer for many readers: from the first of them on, until the last has been gone for a while.

Each run is a job that no request has asked for, in no lane and in no table of jobs: its channel keeps what late readers
get, and its window is how long it outlives its last reader. Nobody is its owner, so the producer waits for none of
them: who is slow gets newer previews later, and is told what it missed. What readers get of it over HTTP is
`http/broadcast`'s; `runtime` ends all runs with the drain.

All methods run on the loop, unless they say otherwise.

Divergence: this module uses `threading`, to tell the loop's thread from others.
"""

import asyncio
import contextvars
import inspect
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing, suppress
from functools import partial
from typing import Any

from ..errors import SHUTTING_DOWN, Cancelled, DefinitionError, Draining, EndpointFailed, StreamAppError
from ..jobs.channel import ChannelStatistics
from ..jobs.events import REPLACEABLE, Event
from ..jobs.job import Job, JobRequest, new_job_id
from ..jobs.stream import Stream, enter_stream
from ..process.threads import in_own_thread
from ..settings import current_settings
from .results import exhaust, exhaust_on_loop, is_iterator, report

_running: dict["asyncio.Task[None]", Job] = {}


def productions_on(loop: asyncio.AbstractEventLoop) -> "list[asyncio.Task[None]]":
    """Return the runs whose code has not returned."""
    return [task for task in list(_running) if task.get_loop() is loop]


def end_productions(loop: asyncio.AbstractEventLoop) -> None:
    """End all runs, as the server is about to: their readers are told."""
    for task in productions_on(loop):
        _running[task].fail(Draining(SHUTTING_DOWN))


class Production:
    """Run a producer while it has readers; what it yields or emits, each of them gets.

    Make it in the app's `setup`, as the producer runs in the context that this is made in.

    Args:
        produce: a generator function, async or not, a bound method for example; or a function that takes a `Stream`
            and emits there. Called anew for each run; what is not `async` runs in a thread of its own.
        history: how many lasting events a reader gets that comes late; previews between them come as well.
        linger_s: how long a run goes on without readers, so that one who comes back finds it.
    Raises:
        DefinitionError: an argument is not of that form; says what to write.
    """

    def __init__(self, produce: Callable[..., Any], *, history: int = 100, linger_s: float = 10.0) -> None:
        self._where = where = f"{type(self).__name__}({getattr(produce, '__qualname__', repr(produce))})"
        self._takes_stream = _takes_stream(produce, where)
        if history < 0:
            raise DefinitionError(f"{where}: expected history as a number of events, 0 or more, got {history!r}")
        if linger_s < 0:
            raise DefinitionError(f"{where}: expected linger_s in seconds, 0 or more, got {linger_s!r}")
        self._produce = produce
        self._history = history
        self._linger_s = linger_s
        self._context = contextvars.copy_context()
        settings = current_settings()
        # What waits for readers that are awake needs room, too: a burst is no reason to miss anything.
        behind = max(history + 1, settings.ahead_events)
        self._settings = settings.model_copy(update={"behind_events": behind})
        self._turn = asyncio.Lock()
        self._job: Job | None = None

    def begin(self) -> Job:
        """Return the job of the present run, which begins now where there is none; whoever asks attaches at once."""
        if self._job is None or self._job.is_over:
            self._job = self._run_anew()
        return self._job

    def stop(self) -> None:
        """End the present run, if there is one; its streams end, the next reader starts another. From any thread."""
        if self._job is not None:
            self._job.cancel("the broadcast was stopped")

    def statistics(self) -> ChannelStatistics | None:
        """Return the figures of the present run, or of the last one; None before the first. From any thread."""
        return None if self._job is None else self._job.channel.statistics()

    async def subscribe(self) -> AsyncIterator[Event]:
        """Iterate over the events of the run, of the last ones before first: `event.name`, `event.json()`, and
        `event.data`, the JSON itself; one named `lagged` says how many were missed.

        Raises:
            EndpointFailed: the producer has raised.
            Draining: the server is about to end.
        """
        job = self.begin()
        async with aclosing(job.events(after=self.beginning_of(job))) as events:
            async for event in events:
                if not event.is_terminal:
                    yield event
                elif event.error is not None and event.error.code == Draining.code:
                    raise Draining(SHUTTING_DOWN)
                elif event.error is not None and event.kind != "cancelled":
                    raise EndpointFailed(event.error.message)

    def beginning_of(self, job: Job) -> int:
        """Return the place behind which a new reader starts."""
        lasting = [event for event in job.channel.events() if event.kind not in REPLACEABLE]
        before = lasting[-self._history - 1].n if len(lasting) > self._history else 0
        return max(before, job.channel.trimmed_n)

    def _run_anew(self) -> Job:
        name = getattr(self._produce, "__name__", "producer")
        request = JobRequest(id=new_job_id(), app="broadcast", endpoint=f"/{name}", window_s=self._linger_s)
        job = Job(request, self._settings)
        loop = asyncio.get_running_loop()
        task = loop.create_task(self._run(job), context=self._context.copy(), name=f"broadcast-{job.id}")
        _running[task] = job
        task.add_done_callback(_running.pop)

        def stop(job: Job) -> None:
            with suppress(RuntimeError):  # the loop is closed
                loop.call_soon_threadsafe(task.cancel)

        job.on_ended.append(stop)
        return job

    async def _run(self, job: Job) -> None:
        try:
            async with self._turn:  # of a run that was ended the thread may be at its last item
                if job.start():
                    stream = Stream(job.channel, job.id, loop_thread=threading.get_ident())
                    enter_stream(stream)
                    await self._produce_all(stream)
                    job.succeed(None)
        except (Cancelled, asyncio.CancelledError):
            job.cancel()  # without effect on a job that is over already, which is why it was cancelled
        except BaseException as error:  # whatever user code raises ends this run, and is told to its readers
            report(job, error)
        finally:
            job.returned()

    async def _produce_all(self, stream: Stream) -> None:
        call = partial(self._produce, stream) if self._takes_stream else self._produce
        result = call() if _is_the_loops(self._produce) else await _in_thread(call, stream)
        while inspect.isawaitable(result):
            result = await result
        if hasattr(result, "__aiter__"):
            await exhaust_on_loop(result, stream)
        elif result is not stream and not self._takes_stream:
            kind = type(result).__name__
            raise StreamAppError(f"{self._where}: expected a generator, got {kind}; yield each item, or take a stream")


async def _in_thread(call: Callable[[], Any], stream: Stream) -> Any:
    """Call what may block, and go through what it yields; returns when it has ended, also where it is cancelled."""
    going = asyncio.ensure_future(in_own_thread(f"broadcast-{stream.job_id}", _call_to_the_end, call, stream))
    try:
        return await asyncio.shield(going)
    except asyncio.CancelledError:  # it meets the job's end where it emits next
        await asyncio.wait({going})
        going.exception()  # which is heard with that
        raise


def _call_to_the_end(call: Callable[[], Any], stream: Stream) -> Any:
    """Return what a call gives; an iterator is gone through here, and then it is the stream."""
    result = call()
    if not is_iterator(result):
        return result
    exhaust(result, stream)
    return stream


def _is_the_loops(produce: Callable[..., Any]) -> bool:
    function = produce
    while isinstance(function, partial):
        function = function.func
    function = inspect.unwrap(function)
    return inspect.isasyncgenfunction(function) or inspect.iscoroutinefunction(function)


def _takes_stream(produce: Callable[..., Any], where: str) -> bool:
    if not callable(produce):
        raise DefinitionError(
            f"{where}: expected a function, which each run calls anew; leave out the () behind a method's name"
        )
    required = [
        parameter
        for parameter in inspect.signature(produce).parameters.values()
        if parameter.default is parameter.empty
        and parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
    ]
    if len(required) > 1 or any(parameter.kind is parameter.KEYWORD_ONLY for parameter in required):
        names = ", ".join(parameter.name for parameter in required)
        raise DefinitionError(f"{where}: expected a function of nothing, or of the stream alone, got one of {names}")
    if required and required[0].name == "self":
        raise DefinitionError(
            f"{where}: a method has no self before the app is there; write it in setup, of self.method"
        )
    return bool(required)
