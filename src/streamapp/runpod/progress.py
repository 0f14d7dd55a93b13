"""Take what handlers say of how far their jobs are: `progress_update(job, value)`, from any thread of this process.

Divergence: Runpod's package sends each in a thread of its own, so that they overtake each other, and the result. Here
they come in order, the newest replaces one that nobody has read, and what comes after the end is dropped.
"""

import asyncio
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from ..errors import Cancelled, NotEncodable
from ..jobs.channel import Channel
from ..jobs.events import Event, to_event
from ..jobs.stream import Stream, current_stream
from ..media import Publisher
from ..process.logs import logger

#: takes the updates of jobs that do not run here: Runpod's package, in a script that works for it
elsewhere: Callable[[Mapping[str, Any], Any], None] | None = None
_MAX_MESSAGE = 200
_under_way: dict[str, tuple[Channel, Stream]] = {}


@contextmanager
def under_way(job_id: str, channel: Channel, stream: Stream) -> Iterator[None]:
    """Let `progress_update` find the log of a job meanwhile, by the id that its handler knows it by."""
    _under_way[job_id] = channel, stream
    try:
        yield
    finally:
        del _under_way[job_id]


def progress_update(job: Mapping[str, Any], progress: Any) -> None:
    """Tell the job's readers how far it is; never waits for one. Without effect on a job that does not run here.

    In a sync handler it is what a cancelled job ends at, as it ends a generator at its next yield.

    Args:
        job: what the handler was given, or a copy with its id.
        progress: any JSON. A dict with the numbers `step` and `total` moves the bars of clients, too.
    Raises:
        Cancelled: the job is over, and this is its own thread.
    """
    job_id = job.get("id") if isinstance(job, Mapping) else None
    found = _under_way.get(job_id) if isinstance(job_id, str) else None
    if found is None and elsewhere is not None:
        return elsewhere(job, progress)
    if found is None:
        logger.info("progress_update: no job %.60r runs here; pass the job that the handler was given", job_id)
        return
    channel, stream = found
    try:
        channel.emit(progress_event(progress, channel.publisher), waits=False)
    except NotEncodable as error:
        logger.warning("progress_update of job %s: %s", job_id, error.message)
    except Cancelled:
        if _is_in(stream):
            raise


def progress_event(progress: Any, publisher: Publisher | None = None) -> Event:
    """Encode how far a job is: `output` is what Runpod's clients get while it runs, any JSON.

    Where it is a text, or has one as its `message`, that is what ours show; so are the numbers `step` and `total`.
    """
    told = {**_steps(progress), "message": _message(progress), "output": progress}
    return Event("progress", to_event(told, publisher).data)


def _steps(progress: Any) -> dict[str, Any]:
    if not isinstance(progress, dict) or not _is_number(progress.get("step")):
        return {}
    total = progress.get("total")
    return {"step": progress["step"], "total": total if _is_number(total) else None}


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _message(progress: Any) -> str:
    match progress:
        case str() | {"message": str()}:
            return progress if isinstance(progress, str) else progress["message"]
    return to_event(progress).data.decode()[:_MAX_MESSAGE]


def _is_in(stream: Stream) -> bool:
    """Say whether this is the code of a stream's job, and runs on no loop: there its task is cancelled."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        pass
    else:
        return False
    try:
        return current_stream() is stream
    except LookupError:
        return False
