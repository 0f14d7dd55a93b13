"""Call what answers once, and follow jobs that run without a reader; calls, as `_steps.py` explains."""

import math
import uuid
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import httpx

from . import _core as core
from ._errors import ApiError, JobUnfinished, error_from_event
from ._models import Event, JobStatus
from ._steps import Call, Deadline, Patience, Send, Sleep, Tell
from ._stream import Conversation, read_json

_FIRST_POLL_S = 0.05
_LONGEST_POLL_S = 1.0


def run(path: str, content: bytes, patience: Patience, deadline: Deadline) -> Call[Any]:
    """Call an endpoint that returns one value; sent again, it does not run twice."""
    return read_json(Send("POST", path, _headers(), content, read_s=math.inf), patience, deadline)


def submit(path: str, content: bytes, patience: Patience, deadline: Deadline) -> Call[JobStatus]:
    """Start a job that runs on without readers."""
    headers = {**_headers(), "Prefer": "respond-async"}
    return _status_of(Send("POST", path, headers, content), patience, deadline)


def status(job_id: str, patience: Patience, deadline: Deadline) -> Call[JobStatus]:
    """Ask for a job's state."""
    return _status_of(Send("GET", f"/jobs/{job_id}", {"Accept": core.JSON}), patience, deadline, job_id=job_id)


def cancel(job_id: str, patience: Patience, deadline: Deadline) -> Call[JobStatus]:
    """End a job."""
    return _status_of(Send("POST", f"/jobs/{job_id}/cancel", {"Accept": core.JSON}), patience, deadline, job_id=job_id)


def result(job_id: str, patience: Callable[[], Patience], deadline: Deadline) -> Call[Any]:
    """Wait for a job's end, and return its result or raise its error."""
    request = Send("GET", f"/jobs/{job_id}/result", {"Accept": core.JSON})
    for wait in _polls():
        try:
            return (yield from read_json(request, patience(), deadline, job_id=job_id))
        except JobUnfinished:
            yield Sleep(deadline.within(wait))


def follow(
    job: JobStatus,
    tell: Callable[[JobStatus], Any],
    patience: Callable[[], Patience],
    deadline: Deadline,
    *,
    logs: Conversation | None,
) -> Call[Any]:
    """Tell each change of a job's state and place, and its new log lines; return its result or raise its error."""
    yield Tell(tell, job)
    for wait in _polls():
        seen, job = job, (yield from status(job.id, patience(), deadline))
        if (job.status, job.position) != (seen.status, seen.position) and not (job.is_over and logs):
            yield Tell(tell, job)
        if job.is_over or (logs is not None and job.status == "running"):
            break
        yield Sleep(deadline.within(wait))
    if logs is not None:
        yield from _tell_logs(job, tell, logs)
        yield Tell(tell, (yield from status(job.id, patience(), deadline)))
    return (yield from result(job.id, patience, deadline))


def _tell_logs(job: JobStatus, tell: Callable[[JobStatus], Any], logs: Conversation) -> Call[None]:
    """Read a job's stream to its end, and hand out its log lines instead of its events."""
    yield from logs.start()
    events, outcome, lost = logs.events(), None, None
    with suppress(StopIteration, ApiError):  # the end; the result says how
        while True:
            step = events.send(outcome) if lost is None else events.throw(lost)
            outcome = lost = None
            if not isinstance(step, Event):
                try:
                    outcome = yield step
                except httpx.RequestError as error:
                    lost = error
            elif step.name == "log":
                yield Tell(tell, job.with_logs([step.data]))


def _polls() -> Iterator[float]:
    """Yield growing waits, in seconds, without end."""
    wait = _FIRST_POLL_S
    while True:
        yield wait
        wait = min(wait * 1.5, _LONGEST_POLL_S)


def _status_of(request: Send, patience: Patience, deadline: Deadline, *, job_id: str | None = None) -> Call[JobStatus]:
    data = yield from read_json(request, patience, deadline, job_id=job_id)
    error = error_from_event(data["status"], data, data["job_id"]) if "error" in data else None
    return JobStatus.read(data, error)


def _headers() -> dict[str, str]:
    return {"Accept": core.JSON, "Content-Type": core.JSON, "Idempotency-Key": uuid.uuid4().hex}
