"""Carry a `Response` that an endpoint made itself from where it runs to the request that waits for it.

Such an answer is no event of the job's log: it is sent once, to the one who asked, and the job lasts until it is sent.
Where nobody waits for it, it is called all the same, and what it would send becomes the job's outputs (`outputs`). An
`Answer` is given to a job by `routes`, offered what the endpoint returned by `binding`, and sent by `response`.
"""

import asyncio
import inspect
from collections.abc import Generator
from concurrent.futures import Future, InvalidStateError
from contextlib import suppress
from typing import Any

from starlette.concurrency import iterate_in_threadpool, run_in_threadpool
from starlette.datastructures import Headers
from starlette.responses import Response
from starlette.types import Message, Receive, Scope, Send

from ..errors import EndpointFailed, NotEncodable
from ..jobs.job import Job
from ..jobs.stream import Stream
from ..process.logs import logger
from ..workers.binding import url_of
from .call import LAST_EVENT, is_wanted
from .outputs import Reader, reader_of

_LONGEST_S = 1e6  # that a wait can be given on every system
_ENDED: Future[Response | None] = Future()
_ENDED.set_result(None)


class ReadingResponse(Response):
    """Read the log of another job: the one whose endpoint has returned this ends at once, and holds no place.

    Attributes:
        outlasts_app: nothing that the app closes when it returns is needed to the end of the stream.
    """

    outlasts_app = False


class Answer:
    """Hold what a job answers beside its log: an `OwnAnswer` of HTTP's.

    Args:
        own: what the endpoint takes as `Response`, to set headers and the status on.
        wants_last_event: of a Response that is a stream of events the last one is the answer.
        takes_last_event: it is where the Response says so.
    Attributes:
        outcome: done with a Response that the endpoint returned, or with None when the job ended without one.
        ended: done when the job is over.
        is_sending: the Response is being sent.
        reading: a Response that is sent when the job has ended.
        sending: the Response as long as its code runs, which may be longer than the job.
    """

    __slots__ = ("ended", "is_sending", "outcome", "own", "reading", "sending", "takes_last_event", "wants_last_event")

    def __init__(
        self, own: Response | None = None, *, wants_last_event: bool = False, takes_last_event: bool = False
    ) -> None:
        self.own = own
        self.wants_last_event = wants_last_event
        self.takes_last_event = takes_last_event
        self.outcome: Future[Response | None] = Future()
        self.ended: Future[Response | None] = Future()
        self.is_sending = False
        self.reading: ReadingResponse | None = None
        self.sending: Sending | None = None

    def takes(self, result: Any) -> bool:
        """Say whether an endpoint answers with this itself."""
        return isinstance(result, Response)

    def keeps(self, job: Job, result: Response) -> bool:
        """Say whether it becomes the job's own result, since nobody waits for it as it is."""
        if job.request.is_detached:
            return True
        if not result.headers.get("content-type", "").lower().startswith("text/event-stream"):
            return False
        says_so = self.takes_last_event and is_wanted(result.headers.get(LAST_EVENT, ""))
        return says_so or self.wants_last_event

    async def keep(self, job: Job, result: Response) -> Any:
        """Emit what a Response would send, on the loop; return the result where it is not the last output.

        Raises:
            HTTPException: the Response tells of an error.
            NotEncodable: it is too large to be kept.
        """
        reading = _Reading(job)
        sending = self.send(result, _no_request(job), _nobody_leaves, reading)
        try:
            await asyncio.shield(sending.task)
        finally:
            sending.stop()  # and not waited for: its iterator may block in a thread
        return reading.end()

    def send(self, response: Response, scope: Scope, receive: Receive, send: Send) -> "Sending":
        """Call a Response, in a task of its own."""

        def let_go(task: "asyncio.Task[None]") -> None:
            self.sending = None  # jobs are kept for long, and what it raised holds its frames

        self.sending = sending = Sending(response, scope, receive, send)
        sending.task.add_done_callback(let_go)
        return sending

    def hand_over(self, job: Job, result: Response) -> None:
        """Give the loop a Response, and block until it was sent: the job ends with it.

        Raises:
            Cancelled: the job ended meanwhile.
            NotEncodable: nobody waits for it.
        """
        if not self._offer(job, result):
            return
        try:
            self.ended.result(min(job.request.timeout_s, _LONGEST_S))
        except TimeoutError:  # the deadline, which nobody else has watched
            job.expire()
        job.channel.check()

    async def hand_over_on_loop(self, job: Job, result: Response) -> None:
        """Do the same from the loop; a thread for each would soon use up the pool."""
        if self._offer(job, result):
            await asyncio.shield(asyncio.wrap_future(self.ended))

    def end(self) -> None:
        """Let whoever waits go on: the job is over."""
        for future in (self.outcome, self.ended):
            if not future.done():  # what refuses a second result would first write out what it holds
                with suppress(InvalidStateError):
                    future.set_result(None)
        # Jobs are kept for long: let go of a Response whose iterator may hold tensors.
        self.outcome = self.ended

    def _offer(self, job: Job, response: Response) -> bool:
        """Give the loop a Response; False where the job does not last until it was sent."""
        job.has_own_answer = True
        if isinstance(response, ReadingResponse):
            self.reading = response
            return False
        with suppress(InvalidStateError):  # the job has just ended
            self.outcome.set_result(response)
        return True


class StreamAnswer(Answer):
    """Refuse a Response that a stream's endpoint returns; its headers can be set all the same."""

    __slots__ = ()

    def __init__(self, own: Response | None = None) -> None:
        self.own = own
        self.wants_last_event = self.takes_last_event = False
        self.outcome = self.ended = _ENDED  # futures of each job's own take a kilobyte each
        self.is_sending, self.reading, self.sending = False, None, None

    def keeps(self, job: Job, result: Response) -> bool:
        """Say no: it is refused."""
        return False

    def end(self) -> None:
        """Do nothing: nobody waits."""

    def _offer(self, job: Job, response: Response) -> bool:
        raise NotEncodable("the endpoint is declared as a stream and returned a Response; declare -> Response instead")


class Sending:
    """Call a Response in a task of its own, so that it can be stopped, and is closed however it ends.

    Attributes:
        task: ends when no code of the Response's runs any more.
    """

    def __init__(self, response: Response, scope: Scope, receive: Receive, send: Send) -> None:
        self._response = response
        self._threaded = _iterated_in_threads(response)
        self._send_on = send
        self._is_stopped = self._is_closing = False
        self.task = asyncio.create_task(self._run(scope, receive))
        self.task.add_done_callback(_hear)

    def stop(self) -> None:
        """Have it end; again is without effect. What runs in a thread goes on until it sends again."""
        self._is_stopped = True
        if not self._is_in_thread:
            self.task.cancel()

    @property
    def _is_in_thread(self) -> bool:
        """Say whether the iterator runs in a thread now. A cancelled task would not wait until it is back."""
        iterator: Any = getattr(self._response, "body_iterator", None)
        return self._threaded is not None and (self._is_closing or iterator.ag_running)

    async def _run(self, scope: Scope, receive: Receive) -> None:
        try:
            await self._response(scope, receive, self._send)
        except (SystemExit, KeyboardInterrupt) as error:  # of its iterator; they would stop the loop
            raise EndpointFailed(f"the endpoint's response ended with {type(error).__name__}") from error
        finally:
            aclose = getattr(getattr(self._response, "body_iterator", None), "aclose", None)
            if aclose is not None:
                await aclose()
            if inspect.isgenerator(self._threaded):
                await self._close_in_thread(self._threaded)

    async def _close_in_thread(self, generator: Generator[Any, Any, Any]) -> None:
        """Close what ran in threads: left to Starlette, it would be closed when the last thread lets go of it."""
        self._is_closing = True
        try:
            await run_in_threadpool(generator.close)
        except (Exception, SystemExit, KeyboardInterrupt):  # of its `finally`: what it had to send is sent
            logger.exception("the iterator of the endpoint's response could not be closed")

    async def _send(self, message: Message) -> None:
        if self._is_stopped:
            raise OSError("the response was stopped")  # as servers say of a client that has left
        await self._send_on(message)


def _hear(task: "asyncio.Task[None]") -> None:
    """Take what a stopped Response raised, which nobody waits for."""
    if not task.cancelled():
        task.exception()


def _iterated_in_threads(response: Response) -> Any:
    """Return the iterator that Starlette goes through in threads for a response that has not begun; None where it does
    not.
    """
    iterator: Any = getattr(response, "body_iterator", None)
    if getattr(iterator, "ag_code", None) is not iterate_in_threadpool.__code__ or iterator.ag_frame is None:
        return None
    return iterator.ag_frame.f_locals["iterator"]


class _Reading:
    """Take what a Response sends into its job's log."""

    def __init__(self, job: Job) -> None:
        self._job = job
        self._stream = Stream(job.channel, job.id)
        self._reader: Reader = reader_of(204, Headers(), url="")  # of a response that sends nothing

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            url = url_of(self._job.request.origin) + self._job.request.path
            self._reader = reader_of(message["status"], Headers(raw=message.get("headers", [])), url=url)
        else:
            for output in self._reader.feed(bytes(message.get("body", b""))):
                await self._stream.aemit(output)

    def end(self) -> Any:
        return self._reader.end()


def _no_request(job: Job) -> Scope:
    """Make the scope of a Response that no request waits for."""
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.4"},
        "http_version": "1.1",
        "method": "POST",
        "scheme": job.request.origin.scheme,
        "path": job.request.path,
        "query_string": b"",
        "headers": [],
    }


async def _nobody_leaves() -> Message:
    never: asyncio.Future[Message] = asyncio.get_running_loop().create_future()
    return await never


#: of streams whose endpoint takes no `Response`
NO_ANSWER = StreamAnswer()


def answer_of(job: Job) -> Answer | None:
    """Return what a request gave its job; None for one that was started otherwise."""
    return job.answer if isinstance(job.answer, Answer) else None


def own_headers(job: Job) -> list[tuple[bytes, bytes]]:
    """Return the headers that the endpoint has set so far, without those that the body decides."""
    answer = answer_of(job)
    if answer is None or answer.own is None:
        return []
    return [pair for pair in answer.own.raw_headers if pair[0] not in (b"content-length", b"content-type")]
