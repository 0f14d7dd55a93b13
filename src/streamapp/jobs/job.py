"""Hold one run of an endpoint: what was asked for, its states, and its readers coming and going.

A job is one run of an endpoint: queued -> running -> succeeded | failed | cancelled. What was asked for is a
`JobRequest`, plain data. The states are derived from the job's channel, whose first terminal event wins under the
channel's lock. A *streamed* job belongs to its readers and is cancelled when the last of them has been gone for its
window; a *detached* one runs on. Who runs it is `worker`'s, and how an endpoint is called `binding`'s.
"""

import asyncio
import contextvars
import math
import os
import time
from collections.abc import AsyncGenerator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Protocol

from ..budget import Share
from ..errors import Cancelled, DeadlineExceeded, EndpointFailed, ErrorReport, JobCancelled, describe
from ..process.logs import logger
from ..settings import MediaForm, Settings
from .channel import Channel
from .events import ATTEMPT, Event, EventId, to_event
from .inbox import Inbox
from .subscriber import Subscriber

if TYPE_CHECKING:
    from collections.abc import Callable

Status = Literal["queued", "running", "succeeded", "failed", "cancelled"]
_TERMINAL_STATUS: dict[str, Status] = {"done": "succeeded", "error": "failed", "cancelled": "cancelled"}
#: what callers prove by who they are, in lower case
SECRET_HEADERS = ("authorization", "cookie", "proxy-authorization")
_SECRET_LINES = tuple(f"{name}:".encode() for name in SECRET_HEADERS)
#: bytes of input, parameters and headers that a job keeps when it is over; more is let go of
KEPT_REQUEST = 1024
_LOOK_AGAIN_S = 5.0  # no wait is for ever


class RequestKey(NamedTuple):
    """Tell a request that is sent again, as its answer was lost, from a new one."""

    #: the app, the path and the `Idempotency-Key`, which the client makes up
    key: str
    #: the SHA-256 of the input, in hexadecimal digits: one key stands for one input
    fingerprint: str


class Origin(NamedTuple):
    """Say where the client reached the server; small, since a job keeps it to its end."""

    scheme: str = "http"
    #: the header
    host: str | None = None
    #: the socket's address and port
    server: tuple[str, int | None] | None = None
    root_path: str = ""


@dataclass(slots=True, kw_only=True)
class JobRequest:
    """Describe a job: plain data, that can be stored, sent to another process, and run again.

    Nothing changes it, though it is not frozen: to make one would take three times as long, 2 % of a small request.

    More than 15 attributes: one for each thing that can be asked for.

    Attributes:
        id: 32 hexadecimal digits, that nobody else has.
        app: the app's name.
        endpoint: the endpoint's path within the app.
        input: the validated input as JSON, in UTF-8; media in it are data URIs, or URLs of the server's own files.
            Empty where all was left to a default. None where the endpoint asks for what cannot leave the process that
            took the request in: a `Request`, say, or a secret.
        parameters: what FastAPI filled besides (path, headers ...), as a JSON object; empty where it filled nothing.
        headers: the request's, a line each.
        caller: who asks; "" is the holder of the deployment's one key.
        origin: where the client reached the server; URLs of files begin with it.
        timeout_s: how long a run may take, from its start.
        queue_timeout_s: how long the job may wait before; for ever when None.
        window_s: how long a streamed job outlives its last reader.
        is_detached: it runs on without readers.
        is_low_priority: it waits until no other job does.
        captures_logs: what it prints and logs becomes events, whatever its app says.
        media: where its files are; when None inline up to 1 MiB, larger ones at URLs.
        joins: its result is the text of its outputs, joined, where the endpoint returns no other.
        key: what the request is known by when it comes again.
        ttl_s: how long after it was made the job is let go of, even while it runs; never when None.
        kept_s: how long the job is kept when it is over; as the deployment says when None.
        is_repeatable: where it fails its input is kept with it, of any size, so that it can be run again.
        keeps_log: its readers come and go, and are to miss nothing: its log is kept whole, up to larger bounds.
        operation: what the protocol that it came by calls such a request, where that shows in the id that it tells.
    """

    id: str
    app: str
    endpoint: str
    input: bytes | None = b"{}"
    parameters: bytes = b""
    headers: bytes = b""
    caller: str = ""
    origin: Origin = Origin()
    timeout_s: float = math.inf
    queue_timeout_s: float | None = None
    window_s: float = 0
    is_detached: bool = False
    is_low_priority: bool = False
    captures_logs: bool = False
    media: MediaForm | None = None
    joins: bool = False
    key: RequestKey | None = None
    ttl_s: float | None = None
    kept_s: float | None = None
    is_repeatable: bool = False
    keeps_log: bool = False
    operation: str = ""

    @property
    def path(self) -> str:
        """Return the endpoint's path, as `path_of` does."""
        return path_of(self.app, self.endpoint)

    def without_secrets(self) -> "JobRequest":
        """Return the same without what the caller proves by who they are: for whoever keeps it."""
        lines = [line for line in self.headers.split(b"\n") if not line.startswith(_SECRET_LINES)]
        return replace(self, headers=b"\n".join(lines))


def path_of(app: str, endpoint: str) -> str:
    """Return an endpoint's path with the app's name before it, which is the same wherever it is served."""
    return f"/{app}{endpoint}".rstrip("/")


def request_bytes(request: JobRequest) -> int:
    """Return the bytes of what was asked for."""
    return len(request.input or b"") + len(request.parameters) + len(request.headers)


def new_job_id() -> str:
    """Return a UUID of version 4, as RFC 9562 has it, in a tenth of the time that `uuid.uuid4` takes."""
    digits = os.urandom(16).hex()
    return f"{digits[:12]}4{digits[13:16]}a{digits[17:]}"


class OwnAnswer(Protocol):
    """Take what an endpoint answers itself, instead of by its job's log; what that is, is HTTP's."""

    def takes(self, result: Any) -> bool:
        """Say whether this is what an endpoint answers itself."""
        ...

    def keeps(self, job: "Job", result: Any) -> bool:
        """Say whether it goes into the log after all, as nobody waits for it: `keep` instead of handing it over."""
        ...

    async def keep(self, job: "Job", result: Any) -> Any:
        """Emit what it would send, on the loop; return the result where it is not the last output."""
        ...

    def hand_over(self, job: "Job", result: Any) -> None:
        """Have it sent, and block until it was; not on the loop.

        Raises:
            Cancelled: the job ended meanwhile.
            NotEncodable: nobody waits for it.
        """
        ...

    async def hand_over_on_loop(self, job: "Job", result: Any) -> None:
        """Do the same on the loop, without blocking it."""
        ...

    def end(self) -> None:
        """Hear that the job is over; in any thread."""
        ...


class Job:
    """Hold one run of an endpoint.

    `start`, `succeed`, `fail` and `cancel` may be called from any thread; `attach` and `detach` on the loop.

    More than 15 attributes: what was asked, how far it is, and who hears of its end. They are slots of one object,
    since jobs are kept by the thousand; what changes together, the log and its readers, is the channel's.

    Args:
        request: what is asked for.
        arguments: what its input was validated to, where that was in this process. Let go of when the job has ended:
            they can be megabytes.
        answer: takes what the endpoint answers itself, where somebody waits for that.
        inbox: the inputs that come while it runs: it is a session.
        share: counts the bytes of its input; let go of when the job is over and its code, which has it, has returned.
        attempt: which one it is, or will be when it is queued: 1 and up.
        is_live: False where it is over, and its log comes from a store.
    Attributes:
        context: the context variables of whoever asked, in which the endpoint runs where it runs in this process.
        has_own_answer: the endpoint has answered itself, which can be sent once.
        queued_at: when its present wait for a turn began.
        payer: whose bytes its log is: the caller, or the address that the request came from.
        raised: what has failed the job, for the answer that waits for it and no longer: its traceback can hold tensors.
        has_returned: none of the endpoint's code runs any more, or will.
    """

    __slots__ = (
        "__weakref__",
        "_clock",
        "_debug",
        "_is_taken",
        "_leaving",
        "answer",
        "arguments",
        "attempt",
        "channel",
        "context",
        "created_at",
        "finished_at",
        "has_own_answer",
        "has_returned",
        "id",
        "inbox",
        "is_expired",
        "on_ended",
        "on_returned",
        "payer",
        "queued_at",
        "raised",
        "request",
        "share",
        "started_at",
    )

    def __init__(
        self,
        request: JobRequest,
        settings: Settings,
        *,
        arguments: dict[str, Any] | None = None,
        answer: OwnAnswer | None = None,
        inbox: Inbox | None = None,
        share: Share | None = None,
        attempt: int = 1,
        is_live: bool = True,
    ) -> None:
        self.id = request.id
        self.request = request
        self.attempt = attempt
        self.arguments = arguments
        self.answer = answer
        self.inbox = inbox
        self.share = share if share is not None and share.size else None  # most have none: it takes 0.3 kB
        self.payer = request.caller if share is None else share.payer
        self.context = contextvars.copy_context()
        awaits_owner = is_live and not request.is_detached
        self.channel = Channel(
            settings,
            on_terminal=self._ended,
            awaits_owner=awaits_owner,
            joins=request.joins,
            keeps=request.keeps_log,
            first_n=self.attempt_began if is_live and attempt > 1 else 0,
        )
        self._clock = time.time() - time.monotonic()
        self.created_at = self.queued_at = self.now()
        self.started_at: float | None = None
        self.finished_at: float | None = None
        self.on_ended: list[Callable[[Job], None]] = []
        #: called when the endpoint's code has returned, or never will be called: before the end or after it
        self.on_returned: list[Callable[[Job], None]] = []
        self.has_returned = self.has_own_answer = self.is_expired = False
        self.raised: BaseException | None = None
        self._debug = settings.debug
        self._is_taken = False
        self._leaving: asyncio.TimerHandle | None = None

    def now(self) -> float:
        """Return the time by the wall clock as it went when the job was made: that jumps, what lies between two of a
        job's times does not.
        """
        return self._clock + time.monotonic()

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
        """Return the result, once the job succeeded: what its outputs were joined to, or the newest of them."""
        ending = self.channel.terminal
        if ending is None or ending.text is None:
            return self.channel.last_output
        return to_event(ending.text)

    @property
    def queue_time_left_s(self) -> float:
        """Return how long the job may still wait for its turn."""
        most_s = self.request.queue_timeout_s
        return math.inf if most_s is None else self.queued_at + most_s - self.now()

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
        self.started_at = self.now()  # before: who hears of the start may look
        try:
            self.channel.start(self.attempt)
        except Cancelled:
            self.started_at = None
            return False
        logger.info("job %s started: %s", self.id, self.request.path)
        return True

    def begin_again(self) -> None:
        """Queue the job for another attempt: its worker is lost, and whoever takes it next calls `start`."""
        self.attempt += 1
        self.queued_at = self.now()
        self.started_at = None
        self.has_returned = self._is_taken = False

    def returned(self) -> None:
        """Take note that the endpoint's code has returned; again is without effect."""
        self.has_returned = True
        callbacks, self.on_returned = self.on_returned, []
        self._tell(callbacks)
        self._let_go_of_share()

    def _tell(self, callbacks: "list[Callable[[Job], None]]") -> None:
        for callback in callbacks:
            try:
                callback(self)
            except Exception:  # the others, and the readers, must hear of the end all the same
                logger.exception("job %s: not all was told of its end", self.id)

    def _let_go_of_share(self) -> None:
        """Do so when both have happened: whichever comes last does it."""
        share = self.share
        if share is not None and self.has_returned and self.is_over:
            self.share = None
            share.let_go(self.id)

    def succeed(self, output: Event | None) -> bool:
        """End the job well, after a last output where there is one."""
        return self._told(self.channel.finish(output, {"job_id": self.id, "status": "succeeded"}))

    def fail(self, error: BaseException | ErrorReport) -> bool:
        """End the job with an error, or with what was told of one elsewhere."""
        if isinstance(error, ErrorReport):
            return self._told(self.channel.fail(error))
        report = self.describe(error)
        if not self.request.is_detached and not self.is_over:
            self.raised = error  # before: who hears of the end may look
        return self._told(self.channel.fail(report))

    def describe(self, error: BaseException) -> ErrorReport:
        """Describe what the endpoint's code raised, as its caller is told."""
        where = f"endpoint {self.request.path}"
        try:
            return describe(error, where=where, debug=self._debug)
        except Exception:  # an exception of the app's own can break when it is read; the job ends all the same
            logger.exception("job %s failed with an error that cannot be described", self.id)
            return describe(EndpointFailed(f"{where} failed with {type(error).__name__}"))

    def cancel(self, reason: str = "the job was cancelled") -> bool:
        """End the job: readers see `cancelled` now, the producer stops at its next emit."""
        return self._told(self.channel.cancel(describe(JobCancelled(reason))))

    def expire(self) -> bool:
        """End the job at its deadline."""
        self.is_expired = True
        request = self.request
        return self.fail(
            DeadlineExceeded(f"endpoint {request.path} ran longer than its timeout_s={request.timeout_s:g}")
        )

    def attach(
        self, *, after: int = 0, takes_over: bool = False, shows_previews: bool = True, hears_start: bool = False
    ) -> Subscriber:
        """Add a reader behind event `after`.

        Args:
            takes_over: the producer waits for this reader: the one that started the job, or that one come back.
            hears_start: it gets `started`.
        """
        self._stay()
        is_owner = takes_over and not self.request.is_detached
        return self.channel.subscribe(
            after=after, is_owner=is_owner, shows_previews=shows_previews, hears_start=hears_start
        )

    def detach(self, subscriber: Subscriber) -> None:
        """Remove a reader; a streamed job that has no other is cancelled when its window has passed."""
        subscriber.close()
        self._stay()
        if self.is_over:
            self.raised = None
            return
        if self.request.is_detached or self.channel.has_readers:
            return
        if self.request.window_s <= 0:
            self._leave()
            return
        self._leaving = asyncio.get_running_loop().call_later(self.request.window_s, self._leave)

    async def events(self, *, after: int = 0, takes_over: bool = False) -> AsyncGenerator[Event]:
        """Iterate over the events behind a place, the terminal one last; whoever closes this has left the job."""
        subscriber = self.attach(after=after, takes_over=takes_over)
        try:
            while True:
                for event in subscriber.take():
                    yield event
                    if event.is_terminal:
                        return
                while not await subscriber.wait(_LOOK_AGAIN_S):
                    pass
        finally:
            self.detach(subscriber)

    def _stay(self) -> None:
        if self._leaving is not None:
            self._leaving.cancel()
            self._leaving = None

    def _leave(self) -> None:
        self._leaving = None
        self.cancel("the last reader left")
        self.raised = None  # of a job that has failed meanwhile

    def _told(self, has_ended: bool) -> bool:
        """Log the end, if this was it: last of all, as a handler of the user's may block."""
        if has_ended:
            finished_at = self.finished_at or self.now()
            seconds = finished_at - (self.started_at or finished_at)
            logger.info("job %s %s: %s, %.3f s", self.id, self.status, self.request.path, seconds)
        return has_ended

    def _ended(self) -> None:
        self.finished_at = self.now()
        callbacks, self.on_ended = self.on_ended, []
        try:
            self._tell(callbacks)
            if not self._is_taken:
                self.returned()
        finally:  # whoever waits, goes on
            if self.answer is not None:
                self.answer.end()
            if self.inbox is not None:
                self.inbox.close()
        # Jobs are kept for long: let go of what can be megabytes.
        self.arguments, self.context = None, contextvars.Context()
        self.channel.publisher = self.channel.film = None
        request = self.request
        is_repeated = request.is_repeatable and self.status == "failed"
        if request_bytes(request) > KEPT_REQUEST and not is_repeated:
            self.request = replace(request, input=None, parameters=b"", headers=b"")
        self._let_go_of_share()
