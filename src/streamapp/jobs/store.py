"""Say what keeps jobs beyond the process that runs them: a `JobStore`, which is given plain data.

The log of a job that runs is its channel; a store is one of its readers, which must not miss an event. Without a store
jobs last as long as their process, in memory (`jobs`).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from .events import Event
from .job import JobRequest, Status


@dataclass(frozen=True, slots=True, kw_only=True)
class JobRecord:
    """Describe a job and how far it is: plain data. Its request has no API key and no cookies.

    Attributes:
        attempt: which attempt it is, or will be when it is queued: 1 and up.
        has_own_answer: the endpoint answered itself, beside the log: a second request has nothing to be answered with.
        created_at, started_at, finished_at: by the wall clock, as `Job.now` has it; the start is the present attempt's.
    """

    request: JobRequest
    created_at: float
    status: Status = "queued"
    attempt: int = 1
    started_at: float | None = None
    finished_at: float | None = None
    has_own_answer: bool = False


class JobStore(Protocol):
    """Keep jobs and their logs. Every method is called on the loop and must not block it: a store that blocks does its
    work in a thread of its own, in order, since a cancelled caller does not wait for it. It bounds its own waits.

    What a method has written is durable when it returns. Events have their places in the job's log (`Event.n`), which
    rise and may have gaps; those that are replaceable are not kept. The same events may come twice. Of an event all
    attributes are kept: kind, name, key, data, text, error, n.

    Calls about one job come one after another, but for `load` and `events`; those about several overlap. A job whose
    process has ended before it stays unfinished: that is for whoever opens the store next to settle (`unfinished`).
    """

    async def add(self, record: JobRecord) -> JobRecord:
        """Keep a job. Where the same caller sent a request with the same `RequestKey.key` before, whose job was not
        cancelled and has not answered itself, that job's record is returned instead, and this one is not kept.

        Raises:
            StreamAppError: it cannot be kept, and so is refused.
        """
        ...

    async def append(self, job_id: str, events: Sequence[Event]) -> None:
        """Keep the next events of a job's log."""
        ...

    async def update(self, record: JobRecord) -> None:
        """Take note of how far a job is; its request stays as it was added."""
        ...

    async def delete(self, job_id: str) -> None:
        """Let go of a job and its log; unknown ids are ignored."""
        ...

    async def load(self, job_id: str) -> JobRecord | None:
        """Return a job, or None when it is not kept."""
        ...

    async def events(self, job_id: str, *, after: int = 0, limit: int = 1000) -> Sequence[Event]:
        """Return the first events of a job's log behind the place `after`, in order."""
        ...

    async def unfinished(self) -> Sequence[JobRecord]:
        """Return the jobs that are queued or running."""
        ...

    async def expire(self, before: float) -> None:
        """Let go of jobs that ended before a moment, by `time.time()`."""
        ...

    async def close(self) -> None:
        """End what the store has open; nothing is asked of it any more, as what still wrote was cancelled."""
        ...
