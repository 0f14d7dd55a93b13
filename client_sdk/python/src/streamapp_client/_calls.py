"""Call what answers once, and follow jobs that run without a reader; calls, as `_steps.py` explains."""

import math
import uuid
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from typing import Any

import httpx

from . import _core as core
from ._errors import ApiError, JobUnfinished, UnexpectedAnswer, error_from_event
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
    return _status_of(Send("GET", core.job_path(job_id), {"Accept": core.JSON}), patience, deadline, job_id=job_id)


def cancel(job_id: str, patience: Patience, deadline: Deadline) -> Call[JobStatus]:
    """End a job."""
    return _status_of(
        Send("POST", core.job_path(job_id, "/cancel"), {"Accept": core.JSON}), patience, deadline, job_id=job_id
    )


def result(job_id: str, patience: Callable[[], Patience], deadline: Deadline) -> Call[Any]:
    """Wait for a job's end, and return its result or raise its error."""
    request = Send("GET", core.job_path(job_id, "/result"), {"Accept": core.JSON})
    for wait in _polls():
        try:
            return (yield from read_json(request, patience(), deadline, job_id=job_id))
        except JobUnfinished:
            yield Sleep(deadline.within(wait))


def follow(
    job: JobStatus,
    tell: Callable[[JobStatus], Any],
    reader: Conversation,
    patience: Callable[[], Patience],
    deadline: Deadline,
    *,
    logs: bool,
) -> Call[Any]:
    """Tell each change of a job's state and place, and its new log lines; return its result or raise its error.

    All of it comes in one stream; an older server does not tell there how the job is: it is asked at the end.
    """
    yield Tell(tell, job)
    yield from reader.start()
    story = _Story(job)
    events, outcome, lost = reader.events(), None, None
    with suppress(StopIteration, ApiError):  # the end; the result says how
        while True:
            step = events.send(outcome) if lost is None else events.throw(lost)
            outcome = lost = None
            if isinstance(step, Event):
                for update in story.hear(step, logs=logs):
                    yield Tell(tell, update)
                continue
            try:
                outcome = yield step
            except httpx.RequestError as error:
                lost = error
    end = story.end or (yield from status(job.id, patience(), deadline))
    if _has_changed(story.told, end):
        yield Tell(tell, end)
    if reader.transcript.may_end and not isinstance(reader.transcript.result, str):  # text may be a part of the result
        return reader.transcript.result
    return (yield from result(job.id, patience, deadline))


class _Story:
    """Put together, from a stream that follows a job, what is told of it.

    Attributes:
        told: the state that was told last, or would have been, had anything changed.
        end: the last state, where the server has told it: before the last events, which are told first.
    """

    def __init__(self, job: JobStatus) -> None:
        self.told = job
        self.end: JobStatus | None = None
        self._tells_states = False

    def hear(self, event: Event, *, logs: bool) -> Iterator[JobStatus]:
        """Yield what an event has to tell."""
        if event.name == "job":
            yield from self._hear_state(event.data)
            return
        # The job ran and ended before it was looked at, or by a server that does not say that it runs.
        if self.told.status == "queued" and (self.end is not None or not self._tells_states):
            ran = self.end or self.told
            self.told = replace(ran, status="running", position=0, finished_at=None, error=None)
            yield self.told
        if logs and event.name == "log":
            yield self.told.with_logs([event.data])

    def _hear_state(self, data: Any) -> Iterator[JobStatus]:
        # An older server says at the beginning only which job it is.
        if not isinstance(data, dict) or "created_at" not in data:
            return
        self._tells_states = True
        state = _read_status(data)
        if state.is_over:
            self.end = state
            return
        seen, self.told = self.told, state
        if _has_changed(seen, state):
            yield state


def _has_changed(seen: JobStatus, state: JobStatus) -> bool:
    return (seen.status, seen.position) != (state.status, state.position)


def _polls() -> Iterator[float]:
    """Yield growing waits, in seconds, without end."""
    wait = _FIRST_POLL_S
    while True:
        yield wait
        wait = min(wait * 1.5, _LONGEST_POLL_S)


def _status_of(request: Send, patience: Patience, deadline: Deadline, *, job_id: str | None = None) -> Call[JobStatus]:
    return _read_status((yield from read_json(request, patience, deadline, job_id=job_id)))


def _read_status(data: Any) -> JobStatus:
    try:
        error = error_from_event(data["status"], data, data["job_id"]) if "error" in data else None
        return JobStatus.read(data, error)
    except (KeyError, TypeError):  # of another server
        raise UnexpectedAnswer(f"Expected the state of a job, got {str(data)[:80]}", data=data) from None


def _headers() -> dict[str, str]:
    return {"Accept": core.JSON, "Content-Type": core.JSON, "Idempotency-Key": uuid.uuid4().hex}
