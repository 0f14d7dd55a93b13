"""Speak the API of Runpod's serverless endpoints: its clients work against this server when they are pointed here.

`RunpodPaths` answers below `/v2/{endpoint_id}/`, where such an endpoint is served. `run` and `runsync` it leads to the
endpoint's own route, which makes a job of the input as of any other; the rest asks about jobs by id, and is answered
here. What is below `/v2` otherwise is the apps' own.

Source: https://docs.runpod.io/serverless/endpoints/operation-reference, and the stock clients, `runpod` 1.12.0 for
Python and `runpod-sdk` 1.1.2 for JavaScript.

Divergence: an input that the endpoint does not take is refused at once, with 422, instead of by a job that fails.
"""

import asyncio
import re
from collections.abc import Awaitable, Callable, Generator, Iterable, Iterator, Mapping
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from fastapi import FastAPI
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ..budget import SHARE, Share
from ..endpoint import EndpointSpec
from ..errors import JobNotFound, MalformedRequest, NotFound, StreamAppError, describe
from ..http.call import HeaderList, caller_in, path_in
from ..http.connection import Connection, disconnected
from ..http.face import ASKED_PATH, SUBMISSION, Clients, Face, Submission
from ..http.response import ErrorResponse
from ..jobs.job import Job
from ..jsontext import LARGE_BYTES
from ..runtime import Runtime, ServedApp, Workers
from ..workers.worker import OUT_OF_SERVICE, Worker
from .answers import state_of, status_of
from .apps import WorkerCounts
from .envelope import KEPT_S, MOST_BYTES, read_envelope
from .ids import read_id, shown_id
from .places import Place, places_of
from .plane import OWN_GUARD, add_worker_routes
from .polls import PollResponse, Positions
from .pool import Pool, pool_of
from .runner import runner_of

if TYPE_CHECKING:
    from .endpoints import Endpoint

_PATH = re.compile(r"/v2/([^/]+)/([A-Za-z-]+)(?:/([^/]+))?/?")
_ABOUT_JOBS = ("status", "status-sync", "stream", "cancel", "retry")
#: what is asked by a link, and so must change nothing that matters
_BY_GET = ("status", "status-sync", "stream", "health")
_KEY = b"idempotency-key"
_ABOUT_BODY = (b"content-type", b"content-length", b"transfer-encoding")
_WAIT_S, _MOST_WAIT_S = 90.0, 300.0
_SOME_BYTES = 64 * 1024
_POLL_S = 8.0  # `runpod` gives a request ten seconds


class _Asked(NamedTuple):
    """Hold what a path asks for."""

    place: Place
    operation: str
    #: as it stands in the path; empty where none does
    job_id: str


class RunpodPaths:
    """Answer requests with Runpod's paths."""

    def __init__(self, app: ASGIApp, runtime: Runtime) -> None:
        self.app = app
        self._runtime = runtime
        self._positions = Positions()
        paths = [path for served in runtime.served for path in (f"/{served.name}", *map(_path, served.endpoints))]
        self._is_alone = not any(path.startswith(("/v2", "/{")) for path in paths)
        self._answers: Mapping[str, Callable[[Request, _Asked], Awaitable[ASGIApp]]] = {
            "run": self._start,
            "runsync": self._start,
            "retry": self._retry,
            "status": self._status,
            "status-sync": self._status_sync,
            "stream": self._stream,
            "cancel": self._cancel,
            "purge-queue": self._purge,
            "health": self._health,
        }

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        """Answer one request, or pass it on."""
        if scope["type"] != "http" or "/v2/" not in scope["path"]:  # most are not: no pattern for them
            return self.app(scope, receive, send)
        match = _PATH.fullmatch(path_in(scope))
        return self.app(scope, receive, send) if match is None else self._serve(match, scope, receive, send)

    async def _serve(self, match: re.Match[str], scope: Scope, receive: Receive, send: Send) -> None:
        try:
            answer = await self._answer(match, Request(scope, receive))
        except (StreamAppError, HTTPException) as error:
            answer = ErrorResponse(describe(error))
        except ClientDisconnect:
            return
        await answer(scope, receive, send)

    async def _answer(self, match: re.Match[str], request: Request) -> ASGIApp:
        """Return what answers a request: the app, where it is none of Runpod's."""
        asked = self._asked(request.app.state.runpod_places, match)
        if asked is None:
            return self.app
        _check_method(request, asked.operation)
        if asked.operation not in MOST_BYTES and request.method == "POST":
            await request.body()  # what is too large of it would end the listener for the client's leaving
        return await self._answers[asked.operation](request, asked)

    def _asked(self, places: Mapping[str, Place], match: re.Match[str]) -> _Asked | None:
        """Return what a path asks for; None where it is none of Runpod's.

        Raises:
            NotFound: it is one of Runpod's, of an endpoint that is not served.
        """
        endpoint_id, operation, job_id = match[1], match[2].lower(), match[3] or ""
        if operation not in self._answers or (operation in _ABOUT_JOBS) != bool(job_id):
            return None
        if (place := places.get(endpoint_id)) is not None:
            return _Asked(place, operation, job_id)
        if self._is_alone:
            served = ", ".join(places)[:400] or "none"
            raise NotFound(f"no endpoint has the id {endpoint_id[:80]!r}; these are served: {served}")
        return None

    async def _find(self, request: Request, asked: _Asked) -> tuple[Job, str]:
        """Return a job of the caller's, and its id as it is told.

        Raises:
            JobNotFound: there is none at this endpoint.
        """
        job_id, is_sync = read_id(asked.job_id)
        try:
            job = await self._runtime.jobs.find(job_id, caller_in(request.scope))
        except JobNotFound:
            job = None
        if job is None or not asked.place.has(job):
            raise JobNotFound(
                f"job {asked.job_id[:64]!r} is not one of this endpoint's, or is not kept any more: its ttl or its "
                "time after the end is over"
            )
        return job, shown_id(job_id, is_sync=is_sync)

    # Begin jobs

    async def _start(self, request: Request, asked: _Asked) -> ASGIApp:
        """Lead an input to the endpoint's own route."""
        place, operation = asked.place, asked.operation
        wait_s = _wait_s(request, usual_s=_WAIT_S, least_s=1)
        envelope = await read_envelope(request, operation, place.said)
        asks = {
            "kept_s": _kept_s(self._runtime, operation),
            "is_repeatable": True,
            "keeps_log": True,
            "operation": operation,
            **envelope.asks,
        }
        is_sync = operation == "runsync"
        accept = _Awaiting(place, wait_s) if is_sync else _accepted
        return self._led(place, envelope.input, Submission(accept, asks=asks), request.scope["headers"])

    async def _retry(self, request: Request, asked: _Asked) -> ASGIApp:
        """Run a job again that has failed, under its id."""
        job, job_id = await self._find(request, asked)
        state, again = state_of(job), job.request
        if state not in ("FAILED", "TIMED_OUT"):
            raise MalformedRequest(f"job {job_id} is {state}; what has FAILED or TIMED_OUT can be retried")
        if again.input is None or asked.place.takes_query:
            raise MalformedRequest(f"job {job_id}: what it came with is not kept whole; send it again by /run")
        fields = (
            *("timeout_s", "ttl_s", "kept_s", "is_low_priority", "is_repeatable", "keeps_log"),
            *("key", "media", "operation"),
        )
        share: Share | None = request.scope.get(SHARE)
        if share is not None:
            share.take(len(again.input))
        asks = {name: getattr(again, name) for name in fields}
        accept = partial(_accepted, is_sync=job_id.startswith("sync-"))
        # Those that the job came with: the endpoint may read them, and its id is one of them.
        headers = [(name, value) for name, colon, value in _partitioned(again.headers) if colon and name != _KEY]
        return self._led(asked.place, again.input, Submission(accept, asks=asks, repeats=job), headers)

    def _led(self, place: Place, body: bytes, submission: Submission, headers: HeaderList) -> ASGIApp:
        """Return what leads a request, with another body, to the endpoint's own route."""

        async def lead(scope: Scope, receive: Receive, send: Send) -> None:
            others = [pair for pair in headers if pair[0] not in _ABOUT_BODY]
            led = {
                **scope,
                "path": scope.get("root_path", "") + place.path,
                "headers": [*others, (b"content-type", b"application/json")],
                ASKED_PATH: scope["path"],
                SUBMISSION: submission,
            }
            await self.app(led, _again(body, receive), send)

        return lead

    # Ask about jobs

    async def _status(self, request: Request, asked: _Asked) -> Response:
        job, job_id = await self._find(request, asked)
        return _told(asked.place, job, job_id)

    async def _status_sync(self, request: Request, asked: _Asked) -> Response:
        wait_s = _wait_s(request, usual_s=_WAIT_S, least_s=0)
        job, job_id = await self._find(request, asked)
        return _WaitingResponse(asked.place, job, job_id, wait_s)

    async def _stream(self, request: Request, asked: _Asked) -> Response:
        wait_s = _wait_s(request, usual_s=_POLL_S, least_s=0)
        job, _ = await self._find(request, asked)
        cursor = request.query_params.get("cursor")
        return PollResponse(job, self._runtime.settings, self._positions, cursor=cursor, wait_s=wait_s)

    async def _cancel(self, request: Request, asked: _Asked) -> Response:
        job, job_id = await self._find(request, asked)
        job.cancel()
        return _told(asked.place, job, job_id)

    async def _purge(self, request: Request, asked: _Asked) -> Response:
        caller = caller_in(request.scope)
        queued = [
            job
            for job in self._runtime.jobs
            if job.status == "queued" and job.request.caller == caller and asked.place.has(job)
        ]
        removed = sum(job.cancel("the queue was purged") for job in queued)
        return JSONResponse({"removed": removed, "status": "completed"})

    async def _health(self, request: Request, asked: _Asked) -> Response:
        place = asked.place
        jobs = self._runtime.jobs.statistics_of(place.served.name, place.spec.path)
        workers = _counts_of(place.worker)
        return JSONResponse(
            {
                "jobs": {
                    "completed": jobs.succeeded,
                    "failed": jobs.failed,
                    "inProgress": jobs.running,
                    "inQueue": jobs.queued,
                    "retried": jobs.repeated,
                },
                "workers": {**workers._asdict(), "ready": workers.idle + workers.running},
            }
        )


def _partitioned(lines: bytes) -> Iterator[tuple[bytes, bytes, bytes]]:
    return (line.partition(b":") for line in lines.split(b"\n"))


def _path(spec: EndpointSpec) -> str:
    return spec.path


def _check_method(request: Request, operation: str) -> None:
    allowed = ("GET", "POST") if operation in _BY_GET else ("POST",)
    if request.method not in allowed:
        said = f"{request.method} is not served at {request.url.path}; use {', '.join(allowed)}"
        raise HTTPException(405, said, {"Allow": ", ".join(allowed)})


def _kept_s(runtime: Runtime, operation: str) -> float | None:
    """Return how long a job is kept after its end: as Runpod does, where the deployment does not say."""
    return None if "job_ttl_s" in runtime.settings.model_fields_set else KEPT_S[operation]


def _wait_s(request: Request, *, usual_s: float, least_s: float) -> float:
    """Return how long an answer may take, within bounds."""
    given = request.query_params.get("wait")
    if given is None:
        return usual_s
    if not re.fullmatch(r"[0-9]{1,9}", given):
        raise MalformedRequest(f"wait: expected milliseconds, up to {_MOST_WAIT_S * 1000:g}, got {given[:40]!r}")
    return min(max(int(given) / 1000, least_s), _MOST_WAIT_S)


def _again(body: bytes, receive: Receive) -> Receive:
    """Return what receives a body that is here, and then what still comes."""
    messages: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def received() -> Message:
        return messages.pop() if messages else await receive()

    return received


def _accepted(request: Request, job: Job, *, is_sync: bool = False) -> Response:
    """Say that a job is queued, also one that has ended already: callers ask for what came of it while it goes on."""
    told = {"id": shown_id(job.id, is_sync=is_sync), "status": "IN_QUEUE"}
    return JSONResponse(told, headers={"X-Streamapp-Job-Id": job.id})


class _Awaiting:
    """Answer for a job whose client waits for its end, for some time."""

    def __init__(self, place: Place, wait_s: float) -> None:
        self._place = place
        self._wait_s = wait_s

    def __call__(self, request: Request, job: Job) -> Response:
        return _WaitingResponse(self._place, job, shown_id(job.id, is_sync=True), self._wait_s)


def _told(place: Place, job: Job, job_id: str) -> Response:
    pieces = status_of(place, job, job_id)
    headers = {"X-Streamapp-Job-Id": job.id, "Cache-Control": "no-store"}
    if (size := sum(map(len, pieces))) <= LARGE_BYTES:
        return Response(b"".join(pieces), 200, headers, "application/json")
    headers["Content-Length"] = str(size)
    return _LargeResponse(pieces, headers, send_timeout_s=place.served.settings.send_timeout_s)


class _LargeResponse(Response):
    """Send JSON piece by piece, as its client takes it: of the bytes of a log no reader, however slow, has a copy."""

    media_type = "application/json"

    def __init__(self, pieces: Iterable[bytes], headers: dict[str, str], *, send_timeout_s: float) -> None:
        self.status_code = 200
        self.init_headers(headers)
        self._parts = _of_some_size(pieces)
        self._send_timeout_s = send_timeout_s

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send it; who does not read ends the connection."""
        timeout_s, leave = self._send_timeout_s, self._parts.close
        connection = Connection(scope, receive, send, send_timeout_s=timeout_s, on_disconnect=leave)
        try:
            await connection.start(self.status_code, self.raw_headers)
            for part in self._parts:
                await connection.write(part)
            await connection.end(b"")
        except OSError:  # the client does not read (TimeoutError), or has left (what servers of ASGI 2.4 raise)
            await connection.abort()
        finally:
            connection.listener.cancel()


def _of_some_size(pieces: Iterable[bytes]) -> Generator[bytes]:
    """Put small pieces together, of which there can be many, and leave large ones as they are."""
    some = bytearray()
    for piece in pieces:
        if len(some) + len(piece) > _SOME_BYTES:
            yield bytes(some)
            some.clear()
        if len(piece) > _SOME_BYTES:
            yield piece
        else:
            some += piece
    yield bytes(some)


class _WaitingResponse(Response):
    """Tell a job's state when it is over, or after some time; who leaves before changes nothing for the job."""

    def __init__(self, place: Place, job: Job, job_id: str, wait_s: float) -> None:
        super().__init__()
        self._asked = place, job, job_id
        self._job = job
        self._wait_s = wait_s

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Wait, and answer."""
        leaving = asyncio.create_task(disconnected(receive))
        try:
            is_awaited = await self._is_awaited(leaving)
        finally:
            leaving.cancel()
        if is_awaited:
            await _told(*self._asked)(scope, receive, send)

    async def _is_awaited(self, leaving: asyncio.Task[None]) -> bool:
        """Wait; False where the client has left."""
        loop = asyncio.get_running_loop()
        ended: asyncio.Future[None] = loop.create_future()

        def end(job: Job) -> None:
            with suppress(RuntimeError):  # the loop is closed
                loop.call_soon_threadsafe(_set, ended)

        self._job.on_ended.append(end)
        if self._job.is_over:
            return True
        try:
            await asyncio.wait({ended, leaving}, timeout=self._wait_s, return_when=asyncio.FIRST_COMPLETED)
        finally:
            with suppress(ValueError):  # it has been called
                self._job.on_ended.remove(end)
        return not leaving.done()


def _set(ended: asyncio.Future[None]) -> None:
    if not ended.done():
        ended.set_result(None)


def _counts_of(worker: Worker) -> WorkerCounts:
    """Count the workers that one of ours is for Runpod's clients: itself, or those that it stands for."""
    if isinstance(worker, Pool):
        return worker.worker_counts()
    if worker.state in OUT_OF_SERVICE:
        return WorkerCounts(unhealthy=1)
    if worker.state == "starting":
        return WorkerCounts(initializing=1)
    is_running = worker.statistics().running > 0
    return WorkerCounts(running=int(is_running), idle=int(not is_running))


def _middleware(runtime: Runtime) -> list[Middleware]:
    return [Middleware(RunpodPaths, runtime=runtime)]


def _add_routes(api: FastAPI, runtime: Runtime) -> None:
    named: Mapping[str, Endpoint] = getattr(api.state, "runpod_endpoints", {})
    api.state.runpod_places = places_of(runtime, named)
    add_worker_routes(api, runtime)


def _clients(api: FastAPI, runtime: Runtime) -> Clients:
    """Return the id of each endpoint: that which the deployment names, else the app's name where it leads there."""
    places: dict[str, Place] = api.state.runpod_places
    told: dict[tuple[str, str], dict[str, str]] = {}
    for endpoint_id in (*reversed(places), *api.state.runpod_endpoints):  # a later one is preferred
        place = places[endpoint_id]
        if not place.takes_query:
            told[place.served.name, place.spec.path] = {"endpoint_id": endpoint_id}
    return told


def _workers_of(served: ServedApp) -> Workers | None:
    return runner_of(served) or pool_of(served)


RUNPOD = Face(
    name="runpod",
    middleware=_middleware,
    add_routes=_add_routes,
    workers=_workers_of,
    own_guard=OWN_GUARD,
    clients=_clients,
)
