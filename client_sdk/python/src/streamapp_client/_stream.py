"""Carry one stream over as many connections as it takes: start, read, lose, resume. A call, as `_steps.py` explains."""

import math
import uuid
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import httpx

from . import _core as core
from ._errors import ApiError, NotFound
from ._steps import Call, Deadline, Patience, Read, Send, Sleep

# What is refused before a job exists, and may be granted later: 502 and 504 are a proxy's, when no job is named.
_BUSY = frozenset({429, 502, 503, 504})
# Plain text has no heartbeats. This is a minute over the server's own deadline, so that the server is first.
_TEXT_SILENCE_S = 660.0
# "named", which comes last, is what servers read that do not know "all".
_FOLLOWING = "_events=all&_events=named"
# How often the server says something. A read waits as long as was said when its request was sent, and so, begun after a
# heartbeat, beyond the end of the time: who follows a job comes back once before that, to wait for what is left.
_HEARTBEAT_S = 10.0


class Conversation:
    """Hold one stream: what was sent for it, what came, and how often it was lost.

    Args:
        path: the endpoint.
        content: the input, as JSON.
        job_id: a job that exists already: it is read, not started.
        after: the id of the event to begin behind.
        patience: how long to go on trying.
        deadline: how long the whole stream may take.
        download: gets a file of the same server.
        follows: hear how the job is as well, by `started` and `job`; silence does not outlast the deadline.
    Attributes:
        transcript: what the stream said.
        reconnects: how often it came back.
    """

    def __init__(
        self,
        path: str,
        content: bytes | None,
        *,
        job_id: str | None = None,
        after: str | None = None,
        accept: str = core.EVENT_STREAM,
        resume_window_s: float = 10.0,
        silence_s: float = 45.0,
        patience: Patience,
        deadline: Deadline,
        download: Callable[[str], bytes],
        follows: bool = False,
    ) -> None:
        self.transcript = core.Transcript(job_id, download, after=after, shows_states=follows)
        self.reconnects = 0
        self._path = path
        self._content = content
        self._resuming = {"Accept": core.EVENT_STREAM, "Streamapp-Resume": f"{resume_window_s:g}"}
        resumed = self._resuming if accept == core.EVENT_STREAM else {"Accept": accept}
        self._starting = {**resumed, "Content-Type": core.JSON, "Idempotency-Key": uuid.uuid4().hex}
        self._silence_s = _TEXT_SILENCE_S if accept == core.TEXT else silence_s
        self._patience = patience
        self._deadline = deadline
        self._follows = follows
        self._read_s = math.inf

    def start(self) -> Call[None]:
        """Get the answer that the events come in; returns when the first one has begun, or is over."""
        expected = (
            (core.EVENT_STREAM, core.NDJSON, core.TEXT) if self.transcript.job_id is None else (core.EVENT_STREAM,)
        )
        while True:
            request = self._request()
            try:
                response = yield request
                self._patience.answered()
                if response.status_code in core.EMPTY:
                    return self.transcript.end()
                core.check_answer(response, *expected)
                return self.transcript.begin(response)
            except httpx.TransportError as error:
                yield from self._wait(error)
            except ApiError as error:
                self._check(error)
                yield from self._wait(error)

    def events(self) -> Call[None]:
        """Yield every event once, in order."""
        while not self.transcript.is_over:
            error: Exception | None = None
            try:
                while (chunk := (yield Read())) is not None:
                    yield from self._take(chunk)
                    if self._follows and self._would_wait_too_long():
                        yield from self.start()
                        if self.transcript.is_over:
                            return
                yield from self.transcript.end_body()
                if self.transcript.may_end:
                    return self.transcript.end()
            except httpx.RequestError as lost:
                error = lost
            self._check_time()
            if not self.transcript.can_resume:
                raise self.transcript.interrupted(error) from error
            yield from self._wait(error)
            self.reconnects += 1
            yield from self.start()

    def _take(self, chunk: bytes) -> Iterator[Any]:
        for event in self.transcript.feed(chunk):
            if event.name != "job":  # which each connection begins with
                self._patience.renew()
            yield event
        self._patience.heard()
        self._check_time()

    def _request(self) -> Send:
        job_id = self.transcript.job_id
        self._check_time()
        read_s = self._read_s = self._deadline.within(self._silence_s)
        if job_id is None:
            return Send("POST", self._path, self._starting, self._content, read_s)
        events = _FOLLOWING if self._follows else "_events=named"
        headers = {**self._resuming, "Last-Event-ID": self.transcript.last_event_id}
        return Send("GET", core.job_path(job_id, f"/events?{events}"), headers, None, read_s)

    def _would_wait_too_long(self) -> bool:
        is_near = self._deadline.within(_HEARTBEAT_S) < _HEARTBEAT_S <= self._read_s
        return is_near and not self.transcript.may_end

    def _check_time(self) -> None:
        self._deadline.check(self._path.partition("?")[0], self.transcript.job_id)

    def _check(self, error: ApiError) -> None:
        """Raise a refusal that will not pass."""
        if isinstance(error, NotFound) and self.reconnects:
            raise self.transcript.interrupted(error) from error
        if not may_pass(error, is_resume=self.transcript.job_id is not None):
            self.transcript.is_over = True
            raise error

    def _wait(self, error: Exception | None) -> Call[None]:
        """Wait before the next try, or raise what lost the stream."""
        self._check_time()
        wait = self._patience.wait_s(error, retry_ms=self.transcript.retry_ms, retry_after=retry_after(error))
        if wait is not None:
            yield Sleep(self._deadline.within(wait))
        elif self.transcript.job_id is not None:
            raise self.transcript.interrupted(error) from error
        elif error is not None:
            raise error


def read_json(request: Send, patience: Patience, deadline: Deadline, *, job_id: str | None = None) -> Call[Any]:
    """Send a request until it is answered, and return the JSON of its answer.

    Args:
        job_id: the job that does not end in time, when `deadline` has passed.
    """
    what = request.path.partition("?")[0]  # a key may stand behind it
    while True:
        deadline.check(what, job_id)
        try:
            response = yield replace(request, read_s=deadline.within(request.read_s))
            patience.answered()
            if response.status_code in core.EMPTY:
                return None
            core.check_answer(response, core.JSON)
            body = core.Body(f"an answer of {what}")
            while (chunk := (yield Read())) is not None:
                body.add(chunk)
                deadline.check(what, job_id)
            return core.decode_json(body.content(), f"the answer of {what}")
        except (httpx.TransportError, ApiError) as error:
            if isinstance(error, ApiError) and (not may_pass(error) or _is_late(error, request)):
                raise
            deadline.check(what, job_id)
            wait = patience.wait_s(error, retry_after=retry_after(error))
            if wait is None:
                raise
        yield Sleep(deadline.within(wait))


def may_pass(error: ApiError, *, is_resume: bool = False) -> bool:
    """Say whether the same request may be granted later; a job that has started, and failed, may not."""
    is_refusal = is_resume or error.job_id is None
    return is_refusal and error.retryable and error.status_code in _BUSY


def _is_late(error: ApiError, request: Send) -> bool:
    """Say whether a proxy has waited in vain: it would do so again, while the endpoint ran a second time."""
    return request.content is not None and error.status_code == httpx.codes.GATEWAY_TIMEOUT


def retry_after(error: Exception | None) -> float | None:
    """Return how long, in seconds, the server said that it will refuse."""
    return error.retry_after if isinstance(error, ApiError) else None
