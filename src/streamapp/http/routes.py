"""Turn requests into jobs and answers: one route for each endpoint, and those for jobs by id.

An input is read and checked, a job is made of it and given to `runtime`, and `response` answers. What another
protocol wants to be done differently it hands in through the request's scope, as a `Submission`. An endpoint at
`{path}/cancel` hears of the jobs of `{path}` that were cancelled while they ran: it is run as a job, without a request.
"""

import asyncio
import hashlib
import inspect
import json
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import AsyncExitStack, contextmanager
from functools import lru_cache
from typing import Any

from fastapi import Depends, FastAPI
from fastapi.dependencies.utils import SolvedDependency, get_dependant, solve_dependencies
from fastapi.exceptions import RequestValidationError
from starlette.datastructures import FormData
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.types import Message, Receive, Scope, Send

from ..budget import SHARE, Share
from ..endpoint import EndpointSpec
from ..errors import (
    EndpointFailed,
    InvalidInput,
    JobUnfinished,
    MalformedRequest,
    NotFound,
    PayloadTooLarge,
    StreamAppError,
    describe,
)
from ..forms import LARGE_FORM_BYTES, has_read_form, read_form, write_form
from ..inputs import Input
from ..jobs.events import parse_event_id
from ..jobs.job import Job, JobRequest, RequestKey, new_job_id, path_of
from ..jsontext import read_json
from ..process.logs import logger
from ..process.threads import in_pool
from ..runtime import Runtime, ServedApp
from ..settings import MediaForm
from .answer import NO_ANSWER, Answer, StreamAnswer, answer_of
from .call import CALLER, Call, caller_in
from .connection import TRANSPORT_EXTENSION
from .face import ANSWERS_ONCE, ASKED_PATH, MEDIA, SUBMISSION, Submission
from .frames import OPEN_SSE, Format
from .middleware import IS_FALS, REQUEST_ID
from .response import EventStreamResponse, ResultResponse, result_response
from .route import LaterRoute

_HASHED_AT_ONCE_BYTES = 256 * 1024  # on the loop: 0.2 to 0.6 ms
_URLENCODED = "application/x-www-form-urlencoded"
_ANSWERED = "streamapp.answered"  # a future in the scope of a request to a `LastingRoute`


class EndpointRoute:
    """Turn requests for one endpoint into jobs and answers."""

    def __init__(self, runtime: Runtime, served: ServedApp, spec: EndpointSpec) -> None:
        self._runtime = runtime
        self._served = served
        self._spec = spec
        self._reader = served.reader_of(spec)
        self._settings = runtime.settings
        #: called on the loop with a job of this endpoint's that was cancelled while it ran
        self._on_cancelled: Callable[[Job], None] | None = None

    def function(self) -> Any:
        """Return a coroutine function with the signature that FastAPI needs to fill the endpoint's own parameters."""

        async def answer(
            streamapp_request: Request, streamapp_ended: asyncio.Event | None = None, **injected: Any
        ) -> Response:
            return await self._answer(streamapp_request, injected, streamapp_ended)

        parameters = [inspect.Parameter("streamapp_request", inspect.Parameter.KEYWORD_ONLY, annotation=Request)]
        parameters += [p.replace(kind=inspect.Parameter.KEYWORD_ONLY) for p in self._reader.injected]
        if self._reader.has_dependencies:
            until_ended = Depends(_until_ended)
            parameters.append(inspect.Parameter("streamapp_ended", inspect.Parameter.KEYWORD_ONLY, default=until_ended))
        answer.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        return answer

    async def serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request where FastAPI has nothing to fill: its dependencies cost as much as the whole job."""
        response = await self._answer(_Request(scope, receive, send), {}, None)
        await response(scope, receive, send)

    async def _answer(self, request: Request, injected: dict[str, Any], ended: asyncio.Event | None) -> Response:
        call = Call.of(request.scope)
        is_stream = self._spec.kind == "stream"
        if is_stream and call.last_event_id and SUBMISSION not in request.scope:
            return await self._resume(request, call)
        given = await self._reader.read(request, is_get=call.is_get, content_type=call.content_type)
        submission: Submission | None = request.scope.get(SUBMISSION)
        if submission is not None or call.prefers_async:
            request._receive = _without_leaving(request._receive)
        format = self._format(request, call)
        # A Response of the endpoint's own that is passed on is not kept: nothing is left for a second request.
        is_passed_on = self._spec.kind == "response" and submission is None and not call.prefers_async
        key = None if is_passed_on else await self._key_of(request, call)
        job = None if key is None else await self._runtime.jobs.started_by(key, call.caller)
        if job is None:
            repeats = None if submission is None else submission.repeats
            job_request = self._request(
                call,
                given,
                injected,
                job_id=(request.scope.get(REQUEST_ID) or new_job_id()) if repeats is None else repeats.id,
                submission=submission,
                window_s=self._window_s(request, call, format),
                media=self._media_form(request, call, given),
                key=key,
            )
            job = await self._submit(
                job_request,
                call,
                {**given.arguments, **injected},
                ended=ended,
                format=format,
                share=request.scope.get(SHARE),
                repeats=repeats,
            )
        if job.request.is_detached:
            return _accepted(request, job, self._runtime) if submission is None else submission.accept(request, job)
        if is_stream and format is not None:
            return self._stream(request, call, job, format)
        return ResultResponse(
            job,
            self._settings,
            request=request,
            accept=call.accept,
            takes_json=not is_stream or call.takes_json,
            outlasts_app=not self._reader.injected,
            find_file=self._runtime.files.find,
        )

    def _format(self, request: Request, call: Call) -> Format | None:
        """Return the format of the stream that a request is answered with; None where it gets the result."""
        if self._spec.kind == "value" or call.wants_last_event:
            return None
        scope = request.scope
        path = scope.get(ASKED_PATH, scope["path"])
        return call.format(self._spec.mark.media_type, path, answers_once=scope.get(ANSWERS_ONCE, False))

    def _request(
        self,
        call: Call,
        given: Input,
        injected: dict[str, Any],
        *,
        job_id: str,
        submission: Submission | None = None,
        **asked: Any,
    ) -> JobRequest:
        parameters = self._reader.plain_parameters(injected)
        asked["is_low_priority"] = call.is_low_priority
        if submission is not None:
            asked |= {"captures_logs": submission.captures_logs, **submission.asks}
        return self._served.request(
            self._spec,
            job_id,
            queue_timeout_s=call.start_timeout_s,
            input=None if parameters is None else given.plain,
            parameters=parameters or b"",
            headers=call.headers,
            caller=call.caller,
            origin=call.origin,
            is_detached=submission is not None or call.prefers_async,
            **asked,
        )

    async def _submit(
        self,
        request: JobRequest,
        call: Call,
        arguments: dict[str, Any],
        *,
        ended: asyncio.Event | None,
        format: Format | None = None,
        share: Share | None = None,
        repeats: Job | None = None,
    ) -> Job:
        """Submit a job; `ended` is set once what dependencies gave is not needed any more."""
        answer = self._answer_of(call, arguments, format)
        attempt = 1 if repeats is None else repeats.attempt + 1
        job = Job(request, self._settings, arguments=arguments, answer=answer, share=share, attempt=attempt)
        if self._on_cancelled is not None:
            job.on_ended.append(self._tell_cancelled)
        if ended is not None:
            self._tell_ended(job, ended)
        try:
            kept = await self._runtime.submit(job, self._served, self._spec)
        except StreamAppError:
            if repeats is not None:
                self._runtime.jobs.restore(repeats)
            raise
        if kept is not job and ended is not None:
            ended.set()  # what dependencies gave is for a job that does not run
        return kept

    def _tell_ended(self, job: Job, ended: asyncio.Event) -> None:
        """Have `ended` be set when the job is over and its code has returned."""
        ended.clear()

        def close(job: Job) -> None:
            if job.is_over and job.has_returned:
                self._runtime.call_on_loop(_set_when_sent, ended, job)

        job.on_ended.append(close)
        job.on_returned.append(close)

    def _media_form(self, request: Request, call: Call, given: Input) -> MediaForm | None:
        """Return how the result has its files: as the request asks, else the deployment, else the client's face."""
        asked = call.media_form or ("inline" if given.asks_inline else None)
        usual: MediaForm | None = request.scope.get(MEDIA)
        return asked or self._settings.media or usual

    async def _key_of(self, request: Request, call: Call) -> RequestKey | None:
        key = call.key
        if key is None:
            return None
        # A form's body has gone into its parts, and the line between these differs at each sending.
        given = request._form if has_read_form(request) else await request.body()
        return await key_of(self._served.name, request.url.path, call.query, given, key)

    def _answer_of(self, call: Call, arguments: dict[str, Any], format: Format | None) -> Answer:
        own = self._reader.own_response(arguments)
        if self._spec.kind != "stream":
            takes = self._spec.kind == "response" and format is None
            return Answer(own, wants_last_event=call.wants_last_event, takes_last_event=takes)
        return NO_ANSWER if own is None else StreamAnswer(own)

    def _tell_cancelled(self, job: Job) -> None:
        assert self._on_cancelled is not None
        if job.status == "cancelled" and job.started_at is not None:
            self._runtime.call_on_loop(self._on_cancelled, job)

    # What hears of cancels: an endpoint at `{path}/cancel`

    def tell_of_cancels(self, cancel: "EndpointRoute", api: FastAPI) -> None:
        """Have the endpoint `cancel` run whenever a job of this one was cancelled, or lost its client, while it ran."""

        def run(job: Job) -> None:
            self._runtime.keep(asyncio.create_task(cancel._hear_of(job, api)))

        self._on_cancelled = run

    async def _hear_of(self, job: Job, api: FastAPI) -> None:
        """Run the endpoint for a job that was cancelled; whatever comes of it is for the log alone."""
        path = path_of(self._served.name, self._spec.path)
        try:
            status = await self._run_beside(_own_request(api, path, job), api)
        except RequestValidationError:  # it asks for more than an empty input and an id can give
            status = InvalidInput.status_code
        except (StreamAppError, HTTPException) as error:
            status = describe(error).status_code
        except (Exception, SystemExit):  # of dependencies; the endpoint's own fail its job
            logger.exception("%s failed at the cancel of %s", path, job.id)
            status = EndpointFailed.status_code
        if status >= 400:
            logger.warning("%s answered the cancel of %s with %s", path, job.id, status)

    async def _run_beside(self, request: Request, api: FastAPI) -> int:
        """Run the endpoint once for a request that nobody sent; return the status that its client would have got."""
        async with AsyncExitStack() as stack:
            solved = await self._solve(request, api, stack)
            injected = {parameter.name: solved.values[parameter.name] for parameter in self._reader.injected}
            call = Call.of(request.scope)
            given = await self._reader.read(request, is_get=call.is_get, content_type=call.content_type)
            ended = asyncio.Event()
            job_request = self._request(call, given, injected, job_id=new_job_id())
            job = await self._submit(job_request, call, {**given.arguments, **injected}, ended=ended)
            response = await _own_response(job, ended)
            background = None if response is None else response.background
            for tasks in filter(None, (solved.background_tasks, background)):
                await tasks()
        if job.error is not None:
            return job.error.status_code
        return 200 if response is None else response.status_code

    async def _solve(self, request: Request, api: FastAPI, stack: AsyncExitStack) -> SolvedDependency:
        """Fill the endpoint's own parameters as `fastapi.routing` does; what dependencies open, `stack` closes."""
        request.scope.update(fastapi_inner_astack=stack, fastapi_function_astack=stack)
        solved = await solve_dependencies(
            request=request,
            dependant=get_dependant(path=self._spec.path, call=self.function()),
            body={},
            dependency_overrides_provider=api,
            async_exit_stack=stack,
            embed_body_fields=False,
        )
        if solved.errors:
            raise RequestValidationError(solved.errors)
        return solved

    def _window_s(self, request: Request, call: Call, format: Format | None) -> float:
        """Return how long the job outlives its reader: what the request asks for, up to the endpoint's limit."""
        if self._spec.kind != "stream":
            return 0
        asked_s = call.resume_window_s
        if asked_s is None:
            is_awaited = format is not None and call.comes_back and not request.scope.get(IS_FALS)
            return self._settings.resume_window_s if is_awaited else 0
        most_s = self._spec.mark.max_resume_window_s
        return min(asked_s, self._settings.max_resume_window_s if most_s is None else most_s)

    def _stream(self, request: Request, call: Call, job: Job, format: Format) -> Response:
        if TRANSPORT_EXTENSION not in request.scope.get("extensions", {}):
            _warn_about_foreign_server()
        return EventStreamResponse(
            job,
            self._settings,
            request=request,
            format=format,
            is_get=call.is_get,
            is_named=call.is_named,
            outlasts_app=not self._reader.injected,  # a dependency may close what it gave when the app returns
            position=self._runtime.position(job) if call.is_get else 0,
        )

    async def _resume(self, request: Request, call: Call) -> Response:
        event_id = parse_event_id(call.last_event_id)
        if not call.is_get and not has_read_form(request):
            await request.body()  # what is too large of it would end the listener for the client's leaving
        job = await self._runtime.jobs.find(event_id.job_id, call.caller)
        if (job.request.app, job.request.endpoint) != (self._served.name, self._spec.path):
            raise MalformedRequest(f"Last-Event-ID: the job is one of {job.request.path}, not of {request.url.path}")
        return _resumed(call, job, self._runtime, place_in(job, call.last_event_id))


async def key_of(app: str, path: str, query: bytes, given: FormData | bytes | None, key: str) -> RequestKey:
    """Return what a request is known by that has an `Idempotency-Key`."""
    is_small = isinstance(given, bytes) and len(given) <= _HASHED_AT_ONCE_BYTES
    fingerprint = _fingerprint(query, given) if is_small else await in_pool(_fingerprint, query, given)
    # With the app's name: several apps at `/` may share a store.
    return RequestKey(f"{app} {path.rstrip('/')} {key}", fingerprint)


def _fingerprint(query: bytes, given: FormData | bytes | None) -> str:
    """Return what tells an input from any other; blocks."""
    digest = hashlib.sha256(b"%d:%b" % (len(query), query))
    if isinstance(given, FormData):
        write_form(given, digest.update)
    else:
        digest.update(given or b"")
    return digest.hexdigest()


class _Request(Request):
    """Read a body without a generator, which takes ten times as long for one that comes in one piece; and what is in
    it within bounds, large ones not on the loop, also where FastAPI asks.
    """

    async def body(self) -> bytes:
        if hasattr(self, "_body") or self._stream_consumed:
            return await super().body()
        pieces: list[bytes] = []
        while not self._stream_consumed:
            message = await self._receive()
            if message["type"] == "http.disconnect":
                raise ClientDisconnect
            pieces.append(message.get("body", b""))
            self._stream_consumed = not message.get("more_body", False)
        self._body = b"".join(pieces)
        return self._body

    async def json(self) -> Any:
        if not hasattr(self, "_json"):
            with _told_to_fastapi():
                self._json = await read_json(await self.body(), json.loads)
        return self._json

    async def _get_form(
        self, *, max_files: float = 1000, max_fields: float = 1000, max_part_size: int = 1024 * 1024
    ) -> FormData:
        declared = self.headers.get("content-type", "")
        if self._form is None and declared.startswith(_URLENCODED) and len(await self.body()) > LARGE_FORM_BYTES:
            with _told_to_fastapi():
                return await read_form(self, max_part_size=max_part_size)
        return await super()._get_form(max_files=max_files, max_fields=max_fields, max_part_size=max_part_size)


@contextmanager
def _told_to_fastapi() -> Iterator[None]:
    """Raise what refuses a body as the one kind of error that FastAPI lets through."""
    try:
        yield
    except PayloadTooLarge as error:
        raise HTTPException(error.status_code, error.message) from None


def _without_leaving(receive: Receive) -> Receive:
    """Tell nobody that the client has left: it did so with the answer, and the job goes on.

    `if await request.is_disconnected(): break` is how streams of FastAPI's are ended.
    """

    async def heard() -> Message:
        message = await receive()
        if message["type"] == "http.disconnect":
            await asyncio.Event().wait()
        return message

    return heard


def _own_request(api: FastAPI, path: str, cancelled: Job) -> Request:
    """Make what stands for a request where the server runs an endpoint: an empty input, and the id of another job."""
    body: list[Message] = [{"type": "http.request", "body": b"{}", "more_body": False}]
    scope: Scope = {
        "type": "http",
        "method": "POST",
        "path": path,
        "query_string": b"",
        "headers": [(b"content-type", b"application/json"), (b"x-fal-request-id", cancelled.id.encode())],
        "app": api,
        CALLER: cancelled.request.caller,
    }

    async def receive() -> Message:
        if body:
            return body.pop()
        await asyncio.Event().wait()
        raise AssertionError  # nobody leaves

    return Request(scope, receive)


async def _own_response(job: Job, ended: asyncio.Event) -> Response | None:
    """Wait for the end of a job that nobody reads; return the Response that the endpoint made itself, and nobody gets.

    The reader here takes nothing, and the producer does not wait for it.
    """
    reader = job.attach(shows_previews=False)
    try:
        answer = answer_of(job)
        response = None if answer is None else await asyncio.wrap_future(answer.outcome)
        if response is not None:
            job.succeed(None)
        await ended.wait()
    finally:
        job.detach(reader)
    return response


async def _until_ended(request: Request) -> AsyncIterator[asyncio.Event]:
    """Come last among an endpoint's dependencies, and so be closed first: the others wait until the job has ended."""
    ended = asyncio.Event()
    ended.set()  # a request that joins a job or resumes a stream has none of its own
    yield ended
    if not ended.is_set():
        request.scope[_ANSWERED].set_result(None)
        await ended.wait()


def _set_when_sent(ended: asyncio.Event, job: Job) -> None:
    """Set an event once none of a job's code runs: the iterator of a Response may outlive the job that it has ended."""
    answer = answer_of(job)
    if answer is None or answer.sending is None:
        ended.set()
    else:
        answer.sending.task.add_done_callback(lambda task: ended.set())


class FilledRoute(LaterRoute):
    """Have FastAPI fill parameters from a request that reads its body within bounds."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Return what has FastAPI fill the parameters and call the function."""
        handle = super().get_route_handler()

        async def filled(request: Request) -> Response:
            return await handle(_Request(request.scope, request.receive, request._send))

        return filled


class LastingRoute(FilledRoute):
    """Keep what dependencies gave open as long as the job that uses it, which may outlive the answer.

    FastAPI closes it before the app returns, in the same task, where anyio's cancel scopes have to end. So the request
    is served in a task of its own, which goes on when the app has returned. What FastAPI would close when the function
    has returned (`Depends(scope="function")`) waits as long: here that function only makes the job.
    """

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Return what does so, and closes what `scope="function"` opens as late as the rest."""
        handle = super().get_route_handler()

        async def lasting(request: Request) -> Response:
            request.scope["fastapi_function_astack"] = request.scope["fastapi_inner_astack"]
            return await handle(request)

        return lasting

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        runtime: Runtime = scope["app"].state.runtime
        answered: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        scope[_ANSWERED] = answered
        serving = asyncio.create_task(super().handle(scope, receive, send))
        try:
            await asyncio.wait({serving, answered}, return_when=asyncio.FIRST_COMPLETED)
        except asyncio.CancelledError:
            serving.cancel()
            runtime.keep(serving)
            raise
        if serving.done():
            serving.result()
        else:
            runtime.keep(serving)


def base_url(request: Request) -> str:
    """Return the URL under which the client reached the server, without a slash at its end."""
    return str(request.base_url).rstrip("/")


@lru_cache(maxsize=1)
def _warn_about_foreign_server() -> None:
    """Log, once, what this server does not do for streams."""
    logger.warning("not run by `streamapp serve`: failed streams and the drain are left to this server's own ways")


def _resumed(
    call: Call, job: Job, runtime: Runtime, after: int, *, takes_over: bool = True, follows: bool = False
) -> Response:
    def state() -> dict[str, Any]:
        told = _status(job, runtime)
        if told["status"] not in ("queued", "running"):
            told["finished_at"] = told["finished_at"] or job.now()  # it is noted a moment after the job is over
        return told

    if job.is_over and after >= job.channel.last_n:
        if call.is_get:
            return Response(status_code=204)  # the one answer that stops an EventSource
        return Response(OPEN_SSE, media_type="text/event-stream")  # what stops a fetch-event-source: it ends well
    return EventStreamResponse(
        job,
        runtime.settings,
        after=after,
        is_get=call.is_get,
        is_named=call.is_named,
        takes_over=takes_over,
        outlasts_app=True,
        position=runtime.position(job),
        state=state if follows else None,
    )


def place_in(job: Job, last_event_id: str) -> int:
    """Return the place that an event id names in a job's log."""
    event_id = parse_event_id(last_event_id)
    if event_id.job_id != job.id:
        raise MalformedRequest(f"Last-Event-ID: {event_id.job_id} is not the job {job.id}")
    if event_id.place > job.channel.last_n:
        raise MalformedRequest(f"Last-Event-ID: the job {job.id} has no event {event_id.attempt}.{event_id.n} yet")
    return event_id.place


# Jobs by id


def _accepted(request: Request, job: Job, runtime: Runtime) -> Response:
    headers = {
        "Location": f"{request.scope.get('root_path', '')}/jobs/{job.id}",
        "Preference-Applied": "respond-async",
        "X-Streamapp-Job-Id": job.id,
    }
    return JSONResponse(_status(job, runtime), 202, headers)


def _status(job: Job, runtime: Runtime) -> dict[str, Any]:
    status: dict[str, Any] = {
        "job_id": job.id,
        "status": job.status,
        "endpoint": job.request.path,
        "position": runtime.position(job),
        "created_at": job.created_at,
        "started_at": job.started_at,
        "finished_at": job.finished_at,
        "last_event_id": str(job.event_id(job.channel.last_n)),
    }
    return status if job.error is None else {**status, **job.error.body}


def add_job_routes(api: FastAPI, runtime: Runtime) -> None:
    """Serve jobs by id: status, result, events, cancel."""

    async def job_status(request: Request, job_id: str) -> Response:
        job = await runtime.jobs.find(job_id, caller_in(request.scope))
        return JSONResponse(_status(job, runtime), headers={"X-Streamapp-Job-Id": job.id})

    async def job_result(request: Request, job_id: str, aggregate: bool = False) -> Response:
        job = await runtime.jobs.find(job_id, caller_in(request.scope))
        if not job.is_over:
            raise JobUnfinished(f"job {job.id} is {job.status}; its result comes when it has ended")
        if aggregate and job.error is None:
            if job.channel.trimmed_n > job.attempt_began:
                raise NotFound(
                    f"the first outputs of job {job.id} are no longer kept; leave out aggregate for its result"
                )
            outputs = [event.data for event in job.channel.events(after=job.attempt_began) if event.kind == "output"]
            whole = b"[%b]" % b",".join(outputs)
            return Response(whole, 200, {"X-Streamapp-Job-Id": job.id}, "application/json")
        return await result_response(job, accept=request.headers.get("accept", ""), find_file=runtime.files.find)

    async def job_events(request: Request, job_id: str) -> Response:
        call = Call.of(request.scope)
        job = await runtime.jobs.find(job_id, call.caller)
        after = place_in(job, call.last_event_id) if call.last_event_id else 0
        # Clients of ours say by the header that they started the job; its old connection may not be known to be dead.
        is_owner = call.resume is not None or not job.channel.has_reading_owner
        takes_over = bool(call.last_event_id) and is_owner
        return _resumed(call, job, runtime, after, takes_over=takes_over, follows=call.follows)

    async def job_cancel(request: Request, job_id: str) -> Response:
        job = await runtime.jobs.find(job_id, caller_in(request.scope))
        job.cancel()
        return JSONResponse(_status(job, runtime), 202, {"X-Streamapp-Job-Id": job.id})

    api.router.routes += [
        LaterRoute("/jobs/{job_id}", job_status, methods=["GET"], tags=["jobs"]),
        LaterRoute("/jobs/{job_id}/result", job_result, methods=["GET"], tags=["jobs"]),
        LaterRoute("/jobs/{job_id}/events", job_events, methods=["GET"], tags=["jobs"]),
        LaterRoute("/jobs/{job_id}/cancel", job_cancel, methods=["POST"], tags=["jobs"]),
    ]
