"""Send a job's events or its result as an ASGI response, and tie the job to its reader's connection.

Each response attaches to its job when it is called and detaches when it has been sent, however that ends: a client
that leaves is noticed by a listener on `receive`, whatever ASGI version the server announces.

Divergence: this is not a subclass of sse-starlette's `EventSourceResponse`. That class keeps four tasks and two
streams per response, pings with its own clock and sends the final chunk after an error, which tells clients that
ignore event names that all went well. Where a stream fails, the connection is closed here without that chunk.
"""

import asyncio
from collections.abc import Awaitable, Callable, Collection, Coroutine, Iterable, Mapping
from contextlib import suppress
from functools import partial
from typing import Any

from starlette.requests import Request
from starlette.responses import FileResponse, Response
from starlette.types import Message, Receive, Scope, Send

from ..errors import ErrorReport, InvalidInput, NotAcceptable, describe
from ..jobs.events import ABOUT_STREAM, Event, encode
from ..jobs.job import Job
from ..jobs.subscriber import Subscriber
from ..media import File
from ..process.logs import logger
from ..process.threads import in_pool
from ..settings import Settings
from ..stores.files import Stored
from . import frames
from .answer import Answer, StreamAnswer, answer_of, own_headers
from .call import accepted
from .connection import Connection
from .frames import Format
from .handling import handled, told_as_json

# A list of what remains to be sent when the app has returned. The frames, exit stacks and scopes of a dozen layers of
# middleware and routing would cost each open stream 14 kB.
REMAINDER_EXTENSION = "streamapp.remainder"
#: in the scope of a request whose errors another protocol tells in a shape of its own: an `ErrorAnswer`
ERROR_ANSWER = "streamapp.error_answer"
_RETRY_MS = 1000
_LOOK_S = 0.5  # a job's place in the queue is no event; clients that follow their jobs would poll as often

FindFile = Callable[[str], Stored | None]
Respond = Callable[[Response], Awaitable[None]]
ErrorAnswer = Callable[[ErrorReport, Mapping[str, str]], Response]
_CONTENT_TYPES: dict[Format, tuple[bytes, bytes]] = {
    "sse": (b"content-type", b"text/event-stream; charset=utf-8"),
    "ndjson": (b"content-type", b"application/x-ndjson"),
    "text": (b"content-type", b"text/plain; charset=utf-8"),
}
# Of media, whose bytes may be anybody's: opened as a page of this server's own, HTML and SVG run no script.
INERT_HEADERS = {"Content-Security-Policy": "default-src 'none'; sandbox", "X-Content-Type-Options": "nosniff"}
# Of a page that an endpoint makes: what breaks none, whatever it has inline or embeds, and keeps other sites from it.
_PAGE_HEADERS = {
    "Content-Security-Policy": "frame-ancestors 'self'; base-uri 'self'",
    "X-Content-Type-Options": "nosniff",
}
_STREAM_HEADERS = [(b"cache-control", b"no-cache"), (b"x-accel-buffering", b"no")]
#: of a stream of events that is no job's
SSE_HEADERS = (_CONTENT_TYPES["sse"], *_STREAM_HEADERS)


class ErrorResponse(Response):
    """Tell an error in the one shape of errors.py, or as the scope of its request says (`ERROR_ANSWER`)."""

    media_type = "application/json"

    def __init__(self, error: ErrorReport, headers: Mapping[str, str] | None = None) -> None:
        told = {"X-Fal-Error-Type": error.code, **error.response_headers, **(headers or {})}
        super().__init__(told_as_json(error.body), error.status_code, told)
        self._error = error
        self._more = headers or {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send it."""
        answer: ErrorAnswer | None = scope.get(ERROR_ANSWER)
        if answer is None:
            return await super().__call__(scope, receive, send)
        await answer(self._error, self._more)(scope, receive, send)


def _guard_page(response: Response) -> None:
    if response.headers.get("content-type", "").lower().startswith("text/html"):
        for name, value in _PAGE_HEADERS.items():
            response.headers.setdefault(name, value)


async def _refusal(job: Job, error: ErrorReport, request: Request | None, settings: Settings) -> Response:
    """Answer for a job that has failed: as the app's own exception handler does, else in the one shape."""
    told = {"X-Streamapp-Job-Id": job.id}
    raised, job.raised = job.raised, None
    if request is not None and isinstance(raised, Exception):
        try:
            answer = await handled(request, raised)
        except (Exception, SystemExit) as failure:  # the app's own code: the client hears of it, the log says more
            logger.exception("job %s: the exception handler for %s failed", job.id, type(raised).__name__)
            error = describe(failure, where="the exception handler", debug=settings.debug)
        else:
            if answer is not None:
                answer.headers.update(told)
                return answer
    return ErrorResponse(error, told)


async def _respond(scope: Scope, receive: Receive, send: Send, response: Response) -> None:
    await response(scope, receive, send)


async def _first_of(*futures: asyncio.Future[Any]) -> None:
    await asyncio.wait(futures, return_when=asyncio.FIRST_COMPLETED)


class EventStreamResponse(Response):
    """Stream a job's events from one position on.

    More than 15 attributes: what a subclass of Starlette's has (3), and one for each argument.

    Args:
        request: what the app's own exception handlers are told of, while none of the stream has been sent.
        after: the number of the last event that the client has.
        is_get: EventSource reads it: as SSE it starts at once with a `job` block and ends with a `done` block.
        is_named: write event names; EventSource's `onmessage` gets only unnamed blocks.
        takes_over: the producer waits for this reader.
        outlasts_app: nothing that the app closes when it returns is needed to the end of the stream.
        state: for a reader that follows the job: gives its state, which is told whenever it has changed. Such a reader
            hears of the start, too, and does not count as one that shows previews.
        shows_previews: the producer is to make them for this reader, if the format has any.
    """

    def __init__(
        self,
        job: Job,
        settings: Settings,
        *,
        request: Request | None = None,
        format: Format = "sse",
        after: int = 0,
        is_get: bool = False,
        is_named: bool = True,
        takes_over: bool = True,
        outlasts_app: bool = False,
        position: int = 0,
        state: Callable[[], dict[str, Any]] | None = None,
        shows_previews: bool = True,
    ) -> None:
        self.job = job
        self.status_code = 200
        self.background = None
        self._settings = settings
        self._request = request
        self._format: Format = format
        self._after = after
        self._is_get = is_get and format == "sse"
        self._is_named = is_named
        self._takes_over = takes_over
        self._outlasts_app = outlasts_app
        self._position = position
        self._state = state
        self._shows_previews = shows_previews and state is None and format != "text"
        self._told: tuple[Any, ...] = ()
        self._id_prefix = f"{job.id}:1.".encode()
        self.raw_headers = [_CONTENT_TYPES[format], (b"x-streamapp-job-id", job.id.encode()), *_STREAM_HEADERS]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the stream; returns when it has ended or the client has left, or at once when the server goes on."""
        remainder = scope.get("extensions", {}).get(REMAINDER_EXTENSION)
        if remainder is not None and self._outlasts_app and self.background is None:
            remainder.append(partial(self._run, scope, send))
            return
        await self._run(scope, send, receive, None)
        if self.background is not None:  # FastAPI puts the tasks of dependencies here
            await self.background()

    def _run(self, scope: Scope, send: Send, receive: Receive, send_body: Send | None) -> Coroutine[Any, Any, None]:
        # Not a coroutine function: its frame would keep the scope for as long as the stream is open.
        follows = self._state is not None
        subscriber = self.job.attach(
            after=self._after, takes_over=self._takes_over, shows_previews=self._shows_previews, hears_start=follows
        )
        connection = Connection(
            scope,
            receive,
            send,
            send_timeout_s=self._settings.send_timeout_s,
            on_disconnect=subscriber.close,
            send_body=send_body,
        )
        return self._send_all(connection, subscriber, partial(_respond, scope, receive, send))

    async def _send_all(self, connection: Connection, subscriber: Subscriber, respond: Respond | None) -> None:
        try:
            events = await self._hold(subscriber)
            refusal = events[0].error if events and not self._is_get and self._after == 0 else None
            if subscriber.is_closed:
                return
            if refusal is not None:
                assert respond is not None
                return await respond(await _refusal(self.job, refusal, self._request, self._settings))
            respond = self._request = None  # with them go the scope, the body and the closures of all middleware
            await self._stream(connection, subscriber, events)
        except OSError:  # the client does not read (TimeoutError), or has left (what servers of ASGI 2.4 raise)
            await connection.abort()
        finally:
            connection.listener.cancel()
            self.job.detach(subscriber)

    async def _stream(self, connection: Connection, subscriber: Subscriber, events: list[Event]) -> None:
        await connection.start(self.status_code, [*self.raw_headers, *own_headers(self.job)])
        self.raw_headers = []  # sent; an open stream would keep 0.3 kB of them
        if opening := self._opening(events) + self._news():
            await connection.write(opening)
        self._connection = connection
        while not subscriber.is_closed:
            if events:
                if self._format != "sse" and any(event.kind in ABOUT_STREAM for event in events):
                    # What is missing, or to be forgotten, has no place in these formats.
                    return await connection.abort()
                body = self._news() + self._frame(events)
                if events[-1].kind == "done":
                    return await connection.end(body)
                await connection.write(body)
                if events[-1].is_terminal:
                    return await connection.fail()
                del body  # a stream that waits keeps nothing of what it has sent
                events.clear()
            if subscriber.is_dropped:
                return await connection.abort()
            deliver = self._deliver if self._state is None else None
            if not await subscriber.wait(self._wait_s, deliver):
                if (farewell := self._farewell()) is not None:
                    return await connection.end(farewell)
                await connection.write(self._news() or self._heartbeat())
            events = subscriber.take()

    def _deliver(self, events: list[Event]) -> bool:
        """Write events that have come while the stream waits, if that can be done at once; the end is none of them."""
        if self._format == "sse":
            return self._connection.write_at_once(frames.sse(events, self._id_prefix, is_named=self._is_named))
        return self._connection.write_at_once(self._frame(events))

    async def _hold(self, subscriber: Subscriber) -> list[Event]:
        """Wait a little for the first event, so that a failure before it can be a normal HTTP error."""
        if not self._is_get:
            await subscriber.wait(self._settings.first_event_wait_s)
        return subscriber.take()

    def _opening(self, events: list[Event]) -> bytes:
        if self._is_get and self._after == 0:
            status = self._changed() or {
                "job_id": self.job.id,
                "status": self.job.status,
                "position": self._position,
            }
            return frames.sse_job(self.job.event_id(0), encode(status), retry_ms=_RETRY_MS)
        if self._format == "sse" and not events:
            return frames.OPEN_SSE
        return b""

    @property
    def _wait_s(self) -> float:
        looks = self._state is not None and self.job.status == "queued"
        return min(_LOOK_S, self._settings.heartbeat_s) if looks else self._settings.heartbeat_s

    def _changed(self) -> dict[str, Any] | None:
        """Return the job's state, where it is to be told and is not the one that was told last."""
        if self._state is None:
            return None
        state = self._state()
        seen, self._told = self._told, (state["status"], state["position"], state["started_at"])
        return None if self._told == seen else state

    def _farewell(self) -> bytes | None:
        """Return with what the stream ends in its silence; None where it goes on."""
        return None

    def _news(self) -> bytes:
        state = self._changed()
        return b"" if state is None else frames.sse_state(encode(state))

    def _heartbeat(self) -> bytes:
        match self._format:
            case "sse":
                return frames.HEARTBEAT_SSE
            case "ndjson":
                return frames.HEARTBEAT_NDJSON
        return b""

    def _frame(self, events: list[Event]) -> bytes:
        if not self._is_get and events[-1].kind == "done":
            events = events[:-1]
        match self._format:
            case "sse":
                return frames.sse(events, self._id_prefix, is_named=self._is_named)
            case "ndjson":
                return frames.ndjson(events)
        return frames.text(events)


class ResultResponse(Response):
    """Answer with a job's result once it is there: JSON, or the bare image or file when the request names its type.

    A Starlette `Response` that the endpoint made itself is sent unchanged, but that HTML without a policy of its own
    gets one; the job lasts until it is sent.

    Args:
        request: what the app's own exception handlers are told of.
        takes_json: False answers 406 where the result is not the media that the request names.
        outlasts_app: nothing that the app closes when it returns is needed to the end of a `ReadingResponse`.
    """

    def __init__(
        self,
        job: Job,
        settings: Settings,
        *,
        request: Request | None = None,
        accept: str = "",
        takes_json: bool = True,
        outlasts_app: bool = False,
        find_file: FindFile | None = None,
    ) -> None:
        self.job = job
        self._request = request
        self._outlasts_app = outlasts_app
        self._find_file = find_file
        self._takes_json = takes_json
        self.status_code = 200
        self.background = None
        self._settings = settings
        self._accept = accept
        self.init_headers({})

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Wait for the job and answer; a client that leaves before cancels the job."""
        subscriber = self.job.attach(shows_previews=False)
        answer = answer_of(self.job)
        if answer is None or isinstance(answer, StreamAnswer):  # which does not wait for the end
            answer = _awaited(self.job)
        outcome = asyncio.wrap_future(answer.outcome)
        connection = Connection(
            scope, receive, send, send_timeout_s=self._settings.send_timeout_s, on_disconnect=subscriber.close
        )
        try:
            await _first_of(outcome, connection.listener)
            if outcome.done() and answer.reading is None:
                await self._answer(answer, outcome.result(), connection, scope, receive, send)
        finally:
            connection.listener.cancel()
            self.job.detach(subscriber)
        if outcome.done() and answer.reading is not None:
            reading, answer.reading = answer.reading, None
            reading.outlasts_app = self._outlasts_app and self.background is None
            await reading(scope, receive, send)
        if self.background is not None:
            await self.background()

    async def _answer(
        self,
        answer: Answer,
        response: Response | None,
        connection: Connection,
        scope: Scope,
        receive: Receive,
        send: Send,
    ) -> None:
        if response is None and self.job.error is not None:
            refusal = await _refusal(self.job, self.job.error, self._request, self._settings)
            return await refusal(scope, receive, send)
        if response is None:
            kept = await self._result()
            return await kept(scope, receive, send)
        if answer.is_sending:  # a request with the same Idempotency-Key came while the endpoint was at it
            error = InvalidInput(
                "Idempotency-Key: what the endpoint answers is sent once, to the first of the requests"
            )
            await ErrorResponse(describe(error))(scope, receive, send)
            return
        answer.is_sending = True
        _guard_page(response)
        try:
            await self._pass_through(answer, response, connection, scope, send)
        except Exception as error:  # the endpoint's own response raised: the job fails, and the server hears it too
            self.job.fail(error)
            raise
        finally:
            self.job.cancel("the client left before the end of the response")  # unless it is over

    async def _result(self) -> Response:
        """Answer for a job that has succeeded."""
        return await result_response(
            self.job, accept=self._accept, takes_json=self._takes_json, find_file=self._find_file
        )

    async def _pass_through(
        self, answer: Answer, response: Response, connection: Connection, scope: Scope, send: Send
    ) -> None:
        """Send the endpoint's own response until it ends, the job does, or the client leaves."""
        is_sent = False

        async def noted(message: Message) -> None:
            nonlocal is_sent
            is_sent = message["type"] != "http.response.start" and not message.get("more_body", False)
            with suppress(OSError):  # what servers of ASGI 2.4 raise for a client that has left; the listener knows
                await send(message)

        sending = answer.send(response, scope, connection.disconnect, noted)
        ended = asyncio.wrap_future(answer.ended)
        try:
            await _first_of(sending.task, ended, connection.listener)
            if is_sent:  # servers call the end of a response a disconnect, too; what it does afterwards may go on
                await _first_of(sending.task, ended)
            if not sending.task.done():
                return await connection.abort()
            sending.task.result()
            if is_sent:
                self.job.succeed(None)
        finally:
            sending.stop()  # and not waited for: its iterator may block in a thread


def _awaited(job: Job) -> Answer:
    """Return what is done when a job has ended that no request has started."""
    answer = Answer()
    job.on_ended.append(lambda job: answer.end())
    if job.is_over:
        answer.end()
    return answer


async def result_response(
    job: Job, *, accept: str = "", takes_json: bool = True, find_file: FindFile | None = None
) -> Response:
    """Answer with the result, or the error, of a job that is over.

    Args:
        takes_json: False answers 406 where the result is not the media that the request names.
        find_file: returns the server's own file that a URL names; it may block.
    """
    headers = {"X-Streamapp-Job-Id": job.id}
    if job.error is not None:
        return ErrorResponse(job.error, headers)
    answer = answer_of(job)
    status = 200 if answer is None or answer.own is None else answer.own.status_code
    result = job.result
    response = await _bare_media(result, status, accept, find_file)
    if response is None and not takes_json:
        refusal = NotAcceptable(
            f"Accept: the result of {job.request.path} is not one file of {accept[:80]}; ask for application/json"
        )
        return ErrorResponse(describe(refusal), headers)
    if response is None:
        response = Response(b"null" if result is None else result.data, status, None, "application/json")
    else:
        headers |= INERT_HEADERS
    response.headers.update(headers)
    response.raw_headers += own_headers(job)
    return response


async def _bare_media(result: Event | None, status: int, accept: str, find_file: FindFile | None) -> Response | None:
    """Answer with the one image or file of a result when the request names its type; `*/*` does not."""
    wanted = accepted(accept)
    if result is None or not any(kind not in ("*/*", "application/json") for kind in wanted):
        return None
    media = list(_find_media(result.json()))
    if len(media) != 1:
        return None
    kept = None if find_file is None else await in_pool(find_file, media[0])
    if kept is not None and _is_wanted(kept.content_type, wanted):
        return FileResponse(kept.path, status, media_type=kept.content_type)
    try:
        file = File.from_data_uri(media[0])
    except ValueError:  # a dict of the app's own that only looks like media
        return None
    return Response(file.data, status, media_type=file.content_type) if _is_wanted(file.content_type, wanted) else None


def _is_wanted(content_type: str, wanted: Collection[str]) -> bool:
    return content_type in wanted or f"{content_type.partition('/')[0]}/*" in wanted


def _find_media(value: Any) -> Iterable[str]:
    """Find the URLs of images and files."""
    match value:
        case {"url": str() as url, "content_type": str()}:
            yield url
        case dict():
            for item in value.values():
                yield from _find_media(item)
        case list():
            for item in value:
                yield from _find_media(item)
