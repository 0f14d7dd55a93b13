"""Hold what is known of Runpod's workers elsewhere: a `Pod` each, what it has, and what it has asked and waits for.

All on the loop. Which signs mean what is decided in `pool`.
"""

import asyncio
import math
import time
from typing import Any

from ..jobs.events import Event
from ..jobs.job import Job
from .ids import told_id

#: how often pods send pings: what `streamapp worker` prints, and Runpod's default
PING_S = 10.0
_NO_JOB = "-"  # at an empty list the real worker would sleep for a second
_RETURNS_S = 1.0  # within which a process asks anew which jobs to stop, when it has given up; a new one takes longer
#: three of them: when none comes for so long, or none that names a job, it is a sign
SILENT_S = 3 * PING_S
# A second word would break into what a handler does when it was cancelled; it is for those that got lost.
_TOLD_AGAIN_S = 30.0
_MOST_TOLD = 1000


def _bound(ids: dict[str, Any]) -> None:
    """Forget the oldest: a worker of an older package never asks which jobs to stop, and one may name what it likes."""
    if len(ids) > _MOST_TOLD:
        del ids[next(iter(ids))]


class Lease:
    """Hold that a pod has a job: from when it is given until the pod shows that it has it no more.

    Attributes:
        id: what the pod knows the job by: the id that its caller has.
    """

    __slots__ = (
        *("given_at", "id", "is_begun", "is_watched", "job", "named_at", "outputs_n", "pod", "stopped_at", "waiting"),
    )

    def __init__(self, job: Job, pod: "Pod") -> None:
        self.job = job
        self.id = told_id(job)
        self.pod = pod
        #: when a ping has named it last; by then it was there, as when it was given
        self.named_at = self.given_at = time.monotonic()
        self.is_begun = False
        #: how many have come
        self.outputs_n = 0
        #: the question which to stop has been there all the time, so that the pod is the process that it was
        self.is_watched = bool(pod.stop_polls)
        self.stopped_at: float | None = None
        #: outputs that wait for room in the log
        self.waiting: set[asyncio.Task[None]] = set()

    def begin(self) -> None:
        """Note that the job runs: it was handed over."""
        if not self.is_begun:
            self.is_begun = True
            self.job.start()

    def note(self, event: Event) -> None:
        """Take note of what has come from here."""
        self.outputs_n += event.kind == "output"

    def leave(self) -> None:
        """Have nothing more come from here."""
        for waiting in self.waiting:
            waiting.cancel()


class StopPoll:
    """Hold a pod's open question which jobs to stop."""

    def __init__(self) -> None:
        self.ids: list[str] = []
        self.told: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def tell(self, *ids: str) -> None:
        """Answer it; without ids it is answered that there is none."""
        self.ids += ids
        if not self.told.done():
            self.told.set_result(None)


class Pod:
    """Hold what is known of one worker elsewhere; several that share an id are one.

    Attributes:
        leases: what it has, or may still have, by the jobs' ids.
        stop_polls: its open questions which jobs to stop.
        visits: how many of its requests are open, pings aside.
        asked_at: when the last of them came; `heard_at` counts pings, too.
        turn: when it was given a job last, as a number that rises.
        free_takes: how often in a row it has asked for jobs, and said that it has none.
        is_gone: it is lost, or has sent nothing but pings; until it asks for something.
    """

    def __init__(self, worker_id: str) -> None:
        self.id = worker_id
        self.leases: dict[str, Lease] = {}
        self.stop_polls: list[StopPoll] = []
        self.visits = self.turn = self.free_takes = 0
        self.asked_at = self.heard_at = time.monotonic()
        self.has_left = self.has_pinged = False
        self.is_gone = True
        self._has_returned: asyncio.Future[None] | None = None
        self._hung_up_at: float | None = None
        self._to_tell: dict[str, None] = {}
        self._told: dict[str, float] = {}

    @property
    def has_hung_up(self) -> bool:
        """Say whether it has closed its question which to stop, and asked no new one."""
        return self._hung_up_at is not None

    def give(self, lease: Lease, turn: int) -> None:
        """Note that it is given a job; a word about an earlier run of the same job is none about this."""
        self.leases[lease.id] = lease
        self.turn, self.free_takes = turn, 0
        self._to_tell.pop(lease.id, None)
        self._told.pop(lease.id, None)

    def stop(self, job_id: str, *, again_s: float = _TOLD_AGAIN_S) -> None:
        """Tell it to stop a job, unless it was told a moment ago."""
        now = time.monotonic()
        if now - self._told.get(job_id, -math.inf) < again_s:
            return
        self._told.pop(job_id, None)
        self._told[job_id] = now
        _bound(self._told)
        for poll in self.stop_polls:  # all: who shares its id has one, too
            poll.tell(job_id)
        if not self.stop_polls:
            self._to_tell[job_id] = None
            _bound(self._to_tell)

    def open_stop_poll(self) -> StopPoll:
        """Return its question which jobs to stop; answered already where it was not there when it should be told."""
        poll = StopPoll()
        self.stop_polls.append(poll)
        if self._hung_up_at is not None and time.monotonic() - self._hung_up_at > _RETURNS_S:
            for lease in self.leases.values():
                lease.is_watched = False
        self.has_left, self._hung_up_at = False, None
        if self._has_returned is not None and not self._has_returned.done():
            self._has_returned.set_result(None)
        if self._to_tell:
            poll.tell(*self._to_tell)
            self._to_tell.clear()
        return poll

    def call(self) -> asyncio.Future[None]:
        """Answer its question which to stop, by no job's id; done when it asks anew, as it does at once if it works."""
        self._has_returned = asyncio.get_running_loop().create_future()
        for poll in self.stop_polls:
            poll.tell(_NO_JOB)
        return self._has_returned

    def close_stop_poll(self, poll: StopPoll, *, is_answered: bool) -> None:
        """End the question; what it did not hear, the next one will."""
        self.stop_polls.remove(poll)
        if not is_answered:
            self._hung_up_at = None if self.stop_polls else time.monotonic()
            self._to_tell.update(dict.fromkeys(poll.ids))

    def is_silent(self, now: float) -> bool:
        """Say whether pings, which came, come no more."""
        return self.has_pinged and now - self.heard_at > SILENT_S

    def is_stuck(self, now: float, stuck_s: float) -> bool:
        """Say whether it stays in a job that it was told to stop."""
        return any(lease.stopped_at is not None and now - lease.stopped_at > stuck_s for lease in self.leases.values())


class Take:
    """Hold a pod's open question for jobs.

    Attributes:
        most: how many it takes.
        jobs: what it gets.
        answered: done when it gets some, or none will come.
    """

    def __init__(self, pod: Pod, most: int, *, patience_s: float) -> None:
        self.pod = pod
        self.most = most
        self.patience_s = patience_s
        self.asked_at = time.monotonic()
        self.jobs: list[Job] = []
        self.answered: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    @property
    def rank(self) -> tuple[int, int]:
        """Return what says whose turn it is: the one with the fewest jobs, then the one that has waited longest."""
        return len(self.pod.leases), self.pod.turn

    def close(self) -> None:
        """Let the one who waits go on."""
        if not self.answered.done():
            self.answered.set_result(None)
