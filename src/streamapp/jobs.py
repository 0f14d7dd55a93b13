"""Run-time records of jobs: their states, their readers coming and going, and where to find them by id.

A job is one run of an endpoint: queued -> running -> succeeded | failed | cancelled. Its states are derived
from its channel, whose first terminal event wins under the channel's lock. A *streamed* job belongs to its
readers and is cancelled when the last of them has been gone for its window; a *detached* one runs on.
Who runs it is `worker`'s.
"""

import asyncio
import contextvars
import math
import time
import uuid
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, InvalidStateError
from contextlib import suppress
from typing import Any, Literal, NamedTuple, Protocol

from starlette.responses import Response

from .channel import Channel, Subscriber
from .errors import (
    Cancelled,
    DeadlineExceeded,
    EndpointFailed,
    ErrorReport,
    InvalidInput,
    JobCancelled,
    JobNotFound,
    describe,
)
from .events import ATTEMPT, Event
from .logs import logger
from .settings import Settings
from .stream import Stream
from .wire import EventId

Status = Literal["queued", "running", "succeeded", "failed", "cancelled"]
_TERMINAL_STATUS: dict[str, Status] = {"done": "succeeded", "error": "failed", "cancelled": "cancelled"}

# Of jobs that stream; a future of each job's own takes a kilobyte.
_NO_RESPONSE: Future[Response | None] = Future()
_NO_RESPONSE.set_result(None)

_JOB_BYTES = 4096  # what a finished job takes besides its events: 3.6 kB measured


class RequestKey(NamedTuple):
    """Tell a request that is sent again, as its answer was lost, from a new one."""

    #: the path and the `Idempotency-Key`, which the client makes up
    key: str
    #: of the body: one key stands for one input
    fingerprint: int


class Job:
    """Hold one run of an endpoint.

    `start`, `succeed`, `fail` and `cancel` may be called from any thread; `attach` and `detach` on the loop.

    Args:
        call: what to run, given the job and its stream; in the inference thread, or on the loop when it is `async`.
            Let go of when the job has ended: its arguments can be megabytes.
        endpoint: the endpoint's path, for logs and messages.
        timeout_s: how long it may run, from `start`.
        queue_timeout_s: how long it may wait before.
        window_s: how long a streamed job outlives its last reader.
        is_detached: it runs on without readers.
        request_key: what the request that started it is known by when it comes again.
        may_answer: the endpoint may return a Response of its own.
        job_id: 32 hexadecimal digits, that nobody else has; made up when None.
    Attributes:
        own_response: whose headers and status the endpoint can set, where it takes a `Response`.
        attempt: which one it is, or will be when it is queued: 1 and up.
        is_low_priority: it waits until no other job does.
        captures_logs: what it prints and logs becomes events, whatever its app says.
        has_own_answer: the endpoint made a Response itself, which can be sent once.
        is_answering: it is being sent.
        has_returned: none of the endpoint's code runs any more, or will.
    """

    def __init__(
        self,
        call: "Callable[[Job, Stream], Any]",
        *,
        endpoint: str,
        settings: Settings,
        timeout_s: float | None = None,
        queue_timeout_s: float | None = None,
        window_s: float = 0,
        is_detached: bool = False,
        request_key: RequestKey | None = None,
        may_answer: bool = True,
        job_id: str | None = None,
    ) -> None:
        self.id = job_id or uuid.uuid4().hex
        self.attempt = 1
        self.call = call
        self.endpoint = endpoint
        self.timeout_s = settings.timeout_s if timeout_s is None else timeout_s
        self.queue_timeout_s = settings.queue_timeout_s if queue_timeout_s is None else queue_timeout_s
        self.window_s = window_s
        self.is_detached = is_detached
        self.request_key = request_key
        self.debug = settings.debug
        self.context = contextvars.copy_context()
        self.channel = Channel(settings, on_terminal=self._ended, awaits_owner=not is_detached)
        self.created_at = time.time()
        self._created = time.monotonic()
        self.started_at: float | None = None
        self.finished_at: float | None = None
        #: done with a Response that the endpoint returned, or with None when the job ended without one
        self.outcome: Future[Response | None] = Future() if may_answer else _NO_RESPONSE
        #: done when that Response was sent, or the job ended
        self.sent: Future[Response | None] = Future() if may_answer else _NO_RESPONSE
        self.on_ended: list[Callable[[Job], None]] = []
        #: called when the endpoint's code has returned, or never will be called: before the end or after it
        self.on_returned: list[Callable[[Job], None]] = []
        self.has_returned = False
        self._is_taken = False
        self.is_expired = False
        self.own_response: Response | None = None
        self.is_low_priority = False
        self.captures_logs = False
        self.has_own_answer = self.is_answering = False
        self._leaving: asyncio.TimerHandle | None = None

    @property
    def status(self) -> Status:
        """Return the state, derived from the channel."""
        ending = self.channel.terminal
        if ending is not None:
            return _TERMINAL_STATUS[ending.kind]
        return "queued" if self.started_at is None else "running"

    @property
    def is_over(self) -> bool:
        """Say whether the job has reached a terminal state."""
        return self.channel.terminal is not None

    @property
    def error(self) -> ErrorReport | None:
        """Return what a failed or cancelled job says."""
        ending = self.channel.terminal
        return None if ending is None else ending.error

    @property
    def result(self) -> Event | None:
        """Return the newest output: the result, once the job succeeded."""
        return self.channel.last_output

    @property
    def queue_time_left_s(self) -> float:
        """Return how long the job may still wait for its turn; wall clocks jump, this does not."""
        return math.inf if self.queue_timeout_s is None else self._created + self.queue_timeout_s - time.monotonic()

    @property
    def attempt_began(self) -> int:
        """Return the place in the log before the present attempt: what came before it does not count any more."""
        return (self.attempt - 1) * ATTEMPT

    def event_id(self, n: int) -> EventId:
        """Name the place `n` of this job's log."""
        return EventId.at(self.id, n)

    def start(self) -> bool:
        """Mark the job as running; False when it is over already. In any case `returned` has to follow.

        The log's first event says so, or that the job begins anew: `started`, `restarted`.
        """
        self._is_taken = True
        self.started_at = time.time()  # before: who hears of the start may look
        try:
            self.channel.start(self.attempt)
        except Cancelled:
            self.started_at = None
            return False
        logger.info("job %s started: %s", self.id, self.endpoint)
        return True

    def begin_again(self) -> None:
        """Queue the job for another attempt: its worker is lost, and whoever takes it next calls `start`."""
        self.attempt += 1
        self.started_at = None
        self.has_returned = self._is_taken = False

    def returned(self) -> None:
        """Take note that the endpoint's code has returned; again is without effect."""
        self.has_returned = True
        callbacks, self.on_returned = self.on_returned, []
        self._tell(callbacks)

    def _tell(self, callbacks: "list[Callable[[Job], None]]") -> None:
        for callback in callbacks:
            try:
                callback(self)
            except Exception:  # the others, and the readers, must hear of the end all the same
                logger.exception("job %s: not all was told of its end", self.id)

    def succeed(self, output: Event | None) -> bool:
        """End the job well, after a last output where there is one."""
        return self._told(self.channel.finish(output, {"job_id": self.id, "status": "succeeded"}))

    def fail(self, error: BaseException) -> bool:
        """End the job with an error."""
        where = f"endpoint {self.endpoint}"
        try:
            report = describe(error, where=where, debug=self.debug)
        except Exception:  # an exception of the app's own can break when it is read; the job ends all the same
            logger.exception("job %s failed with an error that cannot be described", self.id)
            report = describe(EndpointFailed(f"{where} failed with {type(error).__name__}"))
        return self._told(self.channel.fail(report))

    def cancel(self, reason: str = "the job was cancelled") -> bool:
        """End the job: readers see `cancelled` now, the producer stops at its next emit."""
        return self._told(self.channel.cancel(describe(JobCancelled(reason))))

    def expire(self) -> bool:
        """End the job at its deadline."""
        self.is_expired = True
        return self.fail(DeadlineExceeded(f"endpoint {self.endpoint} ran longer than its timeout_s={self.timeout_s:g}"))

    @property
    def own_headers(self) -> list[tuple[bytes, bytes]]:
        """Return the headers that the endpoint has set so far, without those that the body decides."""
        if self.own_response is None:
            return []
        return [pair for pair in self.own_response.raw_headers if pair[0] not in (b"content-length", b"content-type")]

    def offer(self, response: Response) -> None:
        """Give the loop a Response that the endpoint made itself, unless the job has just ended."""
        self.has_own_answer = True
        with suppress(InvalidStateError):
            self.outcome.set_result(response)

    def hand_over(self, response: Response) -> None:
        """Give the loop a Response that the endpoint made itself, and block until it was sent: the job ends with it.

        Raises:
            Cancelled: the job ended meanwhile.
        """
        self.offer(response)
        try:
            self.sent.result(self.timeout_s)
        except TimeoutError:  # the deadline, which nobody else has watched
            self.expire()
        self.channel.check()

    def attach(
        self, *, after: int = 0, takes_over: bool = False, shows_previews: bool = True, hears_start: bool = False
    ) -> Subscriber:
        """Add a reader behind event `after`.

        Args:
            takes_over: the producer waits for this reader: the one that started the job, or that one come back.
            hears_start: it gets `started`.
        """
        self._stay()
        is_owner = takes_over and not self.is_detached
        return self.channel.subscribe(
            after=after, is_owner=is_owner, shows_previews=shows_previews, hears_start=hears_start
        )

    def detach(self, subscriber: Subscriber) -> None:
        """Remove a reader; a streamed job that has no other is cancelled when its window has passed."""
        subscriber.close()
        self._stay()
        if self.is_detached or self.is_over or self.channel.has_readers:
            return
        if self.window_s <= 0:
            self._leave()
            return
        self._leaving = asyncio.get_running_loop().call_later(self.window_s, self._leave)

    def _stay(self) -> None:
        if self._leaving is not None:
            self._leaving.cancel()
            self._leaving = None

    def _leave(self) -> None:
        self._leaving = None
        self.cancel("the last reader left")

    def _told(self, has_ended: bool) -> bool:
        """Log the end, if this was it: last of all, as a handler of the user's may block."""
        if has_ended:
            finished_at = self.finished_at or time.time()
            seconds = finished_at - (self.started_at or finished_at)
            logger.info("job %s %s: %s, %.3f s", self.id, self.status, self.endpoint, seconds)
        return has_ended

    def _ended(self) -> None:
        self.finished_at = time.time()
        callbacks, self.on_ended = self.on_ended, []
        try:
            self._tell(callbacks)
            if not self._is_taken:
                self.returned()
        finally:  # whoever waits, goes on
            for future in (self.outcome, self.sent):
                if not future.done():  # that of a stream is: what refuses it would first write out what it holds
                    with suppress(InvalidStateError):
                        future.set_result(None)
        # Jobs are kept for long: let go of the arguments, and of a Response whose iterator may hold tensors (`sent` is
        # done with None).
        self.call, self.context, self.outcome = _ended_call, contextvars.Context(), self.sent


def _ended_call(job: Job, stream: Stream) -> Any:
    raise Cancelled


class JobStore(Protocol):
    """Keep jobs by id. A durable store writes what must survive a restart in `save` and gives it back in `load`."""

    def save(self, job: Job) -> None:
        """Keep a job from its submission on."""
        ...

    def load(self, job_id: str) -> Job | None:
        """Return the job, or None when it is not kept."""
        ...

    def delete(self, job_id: str) -> None:
        """Let go of a job; unknown ids are ignored."""
        ...


class MemoryStore:
    """Keep jobs in this process."""

    def __init__(self) -> None:
        self._jobs: dict[str, Job] = {}

    def save(self, job: Job) -> None:
        """Keep a job."""
        self._jobs[job.id] = job

    def load(self, job_id: str) -> Job | None:
        """Return the job, or None."""
        return self._jobs.get(job_id)

    def delete(self, job_id: str) -> None:
        """Let go of a job."""
        self._jobs.pop(job_id, None)


class JobsStatistics(NamedTuple):
    """Count jobs by state."""

    #: queued or running now
    active: int
    #: over, and still kept
    finished: int
    #: ended in each way since the start
    succeeded: int
    failed: int
    cancelled: int


class Jobs:
    """Find jobs by id, and let go of finished ones: after `job_ttl_s`, or the oldest over `max_kept_bytes`.

    Every method runs on the loop; a job's end arrives from any thread through an atomic `deque.append`.
    """

    def __init__(self, settings: Settings, store: JobStore | None = None) -> None:
        self._settings = settings
        self._store: JobStore = store or MemoryStore()
        self._active: dict[str, Job] = {}
        self._by_key: dict[str, Job] = {}
        self._ended: deque[tuple[float, Job]] = deque()
        self._finished: deque[tuple[float, Job, int]] = deque()
        self._kept_bytes = 0
        self._counts: dict[str, int] = {"succeeded": 0, "failed": 0, "cancelled": 0}

    def add(self, job: Job) -> None:
        """Keep a job from now on."""
        self.expire()
        self._active[job.id] = job
        self._store.save(job)
        if job.request_key is not None:
            self._by_key[job.request_key.key] = job
        job.on_ended.append(self._note_end)
        if job.is_over:
            self._note_end(job)

    def get(self, job_id: str) -> Job:
        """Return a job.

        Raises:
            JobNotFound: there never was such a job, or it is no longer kept.
        """
        self.expire()
        job = self._store.load(job_id)
        if job is None:
            raise JobNotFound(
                f"job {job_id[:64]!r} is not here: jobs are kept {self._settings.job_ttl_s:g} s after their end"
            )
        return job

    def started_by(self, request: RequestKey) -> Job | None:
        """Return the job that this request started when it came before, unless that has nothing to answer it with.

        Raises:
            InvalidInput: the key came with another body.
        """
        self.expire()
        job = self._by_key.get(request.key)
        if job is None or job.status == "cancelled" or job.has_own_answer:
            return None
        if job.request_key != request:
            raise InvalidInput("Idempotency-Key: it was sent with another body before; make up a new one per input")
        return job

    def forget(self, job: Job) -> None:
        """Let go of a job that was refused."""
        self._active.pop(job.id, None)
        self._delete(job)

    def __iter__(self) -> Iterator[Job]:
        """Iterate over the jobs that are queued or running."""
        self.expire()
        return iter(list(self._active.values()))

    def expire(self) -> None:
        """Let go of finished jobs that are too old or too many."""
        self._collect()
        oldest = time.monotonic() - self._settings.job_ttl_s
        while self._finished and (self._finished[0][0] < oldest or self._kept_bytes > self._settings.max_kept_bytes):
            _, job, size = self._finished.popleft()
            self._kept_bytes -= size
            self._delete(job)

    def statistics(self) -> JobsStatistics:
        """Count the jobs."""
        self.expire()
        return JobsStatistics(active=len(self._active), finished=len(self._finished), **self._counts)

    def _delete(self, job: Job) -> None:
        self._store.delete(job.id)
        if job.request_key is not None and self._by_key.get(job.request_key.key) is job:
            del self._by_key[job.request_key.key]

    def _note_end(self, job: Job) -> None:
        self._ended.append((time.monotonic(), job))

    def _collect(self) -> None:
        while self._ended:
            ended, job = self._ended.popleft()
            if self._active.pop(job.id, None) is None:
                continue
            self._counts[job.status] += 1
            size = job.channel.statistics().kept_bytes + _JOB_BYTES
            self._kept_bytes += size
            self._finished.append((ended, job, size))
