"""End a job with what its endpoint returned, yielded or raised: what every worker does, wherever its jobs run.

Which thread calls this is the worker's choice: none of it waits for anything but a reader that is far behind.
"""

import asyncio
import gc
import io
import sys
from collections.abc import Iterable, Iterator
from typing import Any

from ..errors import OutOfMemory, StreamAppError, is_out_of_memory
from ..jobs.events import Event, input_error, to_event, to_event_at_once
from ..jobs.inbox import Unread
from ..jobs.job import Job
from ..jobs.pause import Pause
from ..jobs.stream import Stream
from ..process.logs import logger

# What to do about errors that are due to where the app's code runs, by what they say.
_ADVICE = {
    "only works in main thread": (  # `signal.signal` and `loop.add_signal_handler`
        "; signal handlers are set in the main thread only, which this is not: do what sets them where the "
        "module is imported or in an `async def setup`, or tell the library to leave signals alone"
    ),
    "cannot be called from a running event loop": (  # `asyncio.run`
        "; what a decorator wraps is `async def`, so the endpoint runs on the event loop: await it there, or make it "
        "a `def` that calls asyncio.run"
    ),
}


def is_iterator(result: Any) -> bool:
    """Say whether a result is to be gone through; a file in memory is its bytes, although it gives lines."""
    return isinstance(result, Iterator) and not isinstance(result, io.BytesIO)


def exhaust(result: Any, stream: Stream) -> Any:
    """Emit all that an iterator yields but pauses, and return what it returns; anything else is returned as it is.

    The iterator is closed here, in the thread that ran it, however it ends.
    """
    if not is_iterator(result):
        return result
    try:
        while True:
            try:
                item = next(result)
            except StopIteration as stop:
                return stop.value
            if isinstance(item, Pause):
                stream.pause(item.for_s)
            else:
                stream.emit(item)
    finally:
        close_now(result)


def close_now(items: Any) -> None:
    """Close an iterator that can be closed, as a generator can."""
    close = getattr(items, "close", None)
    if close is not None:
        close()


async def exhaust_on_loop(items: Any, stream: Stream) -> None:
    """Do the same with an async iterator; the loop does not wait while its items are encoded."""
    try:
        async for item in items:
            if isinstance(item, Pause):
                await asyncio.sleep(item.for_s)  # the job's end cancels it
            else:
                await stream.aemit(item)
    finally:
        await close(items)


async def close(items: Any) -> None:
    """Close an async iterator that can be closed, as a generator can."""
    aclose = getattr(items, "aclose", None)
    if aclose is not None:
        await aclose()


def final_event(job: Job, result: Any) -> Event | None:
    """Encode what an endpoint returned; None when its last output is the result already."""
    if result is None and job.channel.last_output is not None:
        return None
    event = to_event(result, job.channel.publisher)
    return event if event.kind == "output" else to_event(event.json())


def succeed_at_once(job: Job, result: Any) -> bool:
    """End a job with what its endpoint returned; False, and it goes on, where encoding that may take long."""
    if result is None:
        job.succeed(final_event(job, None))
        return True
    event = to_event_at_once(result, job.channel.publisher)
    if event is None or event.kind != "output":
        return False
    job.succeed(event)
    return True


def report(job: Job, error: BaseException) -> None:
    """End a job with what its code raised; log it, unless it was meant for the caller."""
    job.fail(error)
    if not isinstance(error, StreamAppError):
        logger.error("job %s failed: %s%s", job.id, job.request.path, advice(error), exc_info=error)
    _give_back_memory(job, error)


def failures(job: Job, inputs: Iterable[Unread], error: Exception) -> list[Event]:
    """Return what a session, which goes on, says of inputs that its code has failed at; log it likewise."""
    report = job.describe(error)
    if not isinstance(error, StreamAppError):
        logger.error("job %s failed at an input: %s%s", job.id, job.request.path, advice(error), exc_info=error)
    _give_back_memory(job, error)
    return [input_error(report, unread.number) for unread in inputs]


def _give_back_memory(job: Job, error: BaseException) -> None:
    try:
        if is_out_of_memory(error) or isinstance(error, OutOfMemory):
            error.__traceback__ = None  # its frames hold the tensors
            empty_gpu_cache()
    except Exception:  # a GPU that failed for good, an error that breaks when it is read: the thread has other jobs
        logger.exception("job %s failed, and its memory could not be given back", job.id)


def advice(error: BaseException) -> str:
    """Return what to do about an error that is due to the thread that the app's code runs in; else nothing."""
    # Of these types alone: what one of the user's own does when it is read, nobody knows.
    said = error.args[0] if type(error) in (ValueError, RuntimeError) and error.args else None
    if type(said) is not str:
        return ""
    return next((advice for sign, advice in _ADVICE.items() if sign in said), "")


def empty_gpu_cache() -> None:
    """Give cached GPU memory back after an out-of-memory error; torch is not imported for it."""
    gc.collect()
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available():
        torch.cuda.empty_cache()
