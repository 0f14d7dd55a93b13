"""Answer Runpod's workers, which come for jobs and send what comes of them: the paths that their environment names.

    GET  /v2/{endpoint}/job-take/{worker}, job-take-batch/{worker}   jobs, as soon as there are some
    GET  /v2/{endpoint}/job-stop/{worker}                            which jobs to stop, as soon as there are some
    POST /v2/{endpoint}/job-stream/{worker}/{job}                    an output
    POST /v2/{endpoint}/job-done/{worker}/{job}                      the end, or a progress
    GET  /v2/{endpoint}/ping/{worker}                                which jobs it has

Whoever takes jobs gets other people's inputs. So the secret of these paths is `worker_secret`, never the API key, and
opens nothing else; one secret is for the workers of all endpoints. What is meant by all of it, `pool` knows.

A question which jobs to stop is never ended before its worker ends it: a blank every 10 s keeps proxies from doing so,
and has the kernel notice a peer that is gone. So its connection is open as long as the worker's process lives.

Source: `rp_job.py`, `rp_http.py`, `rp_ping.py` and `rp_scale.py` of runpod 1.12.0.
"""

import asyncio
import hmac
import json
import re
from collections.abc import Awaitable, Callable
from typing import Any, Literal, TypeVar

from fastapi import FastAPI
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Message, Receive, Scope, Send

from ..errors import DefinitionError, MalformedRequest, NotFound, QueueFull, StreamAppError, Unauthorized, describe
from ..http.call import header_in
from ..http.connection import disconnected
from ..http.file_routes import json_object
from ..http.response import ErrorResponse
from ..jobs.events import Event, to_event
from ..jobs.job import Job
from ..jsontext import LARGE_BYTES
from ..process.threads import in_pool
from ..runtime import Runtime
from .ids import told_id
from .pods import Pod, Take
from .pool import Pool
from .progress import progress_event

T = TypeVar("T")

_OF_WORKER = ("job-take", "job-take-batch", "job-stop", "ping")
_OF_JOB = ("job-stream", "job-done")
#: the paths that need no API key, but the workers' secret
OWN_GUARD = re.compile(rf"/v2/[^/]+/(?:(?:{'|'.join(_OF_WORKER)})/[^/]+|(?:{'|'.join(_OF_JOB)})/[^/]+/[^/]+)")
_BLANK_S = 10.0
# The real worker asks again at once when it is refused, for ever.
_REFUSED_S = 1.0
_MOST_JOBS = 1000
_SHUT = (
    "the worker's secret is missing or wrong; set RUNPOD_AI_API_KEY to the server's STREAMAPP_WORKER_SECRET; a key in "
    "~/.runpod/config.toml would go before it"
)


class Plane:
    """Answer the requests of one kind, by whatever method they come.

    Args:
        pools: the pools, by the ids of their endpoints.
        answer: answers one that knows the secret.
    """

    def __init__(
        self,
        runtime: Runtime,
        pools: dict[str, Pool],
        method: str,
        answer: Callable[[Pool, Request, Send], Awaitable[None]],
    ) -> None:
        secret = runtime.settings.worker_secret
        self._runtime = runtime
        self._pools = pools
        self._secret = None if secret is None else secret.get_secret_value().encode()
        self._method = method
        self._answer = answer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, and close the connection.

        A worker that a handler blocks does not notice that an idle connection was closed here, sends what has come of
        the job on it, and does not send it again.
        """

        async def closing(message: Message) -> None:
            if message["type"] == "http.response.start":
                message = {**message, "headers": [*message["headers"], (b"connection", b"close")]}
            await send(message)

        try:
            pool = self._pool(scope)
        except (StreamAppError, HTTPException):
            await asyncio.sleep(_REFUSED_S)
            raise
        if not self._runtime.is_draining:
            self._runtime.start()  # mounted in another app, nothing else starts it before the first job
        await self._answer(pool, Request(scope, receive), closing)

    def _pool(self, scope: Scope) -> Pool:
        if self._secret is None:
            raise HTTPException(403, "workers elsewhere are not served; start the server with STREAMAPP_WORKER_SECRET")
        if not hmac.compare_digest(_secret_in(scope), self._secret):
            raise Unauthorized(_SHUT)
        if scope["method"] != self._method:
            raise HTTPException(405, "Method Not Allowed", {"Allow": self._method})
        endpoint_id: str = scope["path_params"]["endpoint_id"]
        pool = self._pools.get(endpoint_id)
        if pool is None:
            raise NotFound(
                f"no jobs are here for workers of {endpoint_id[:64]!r}; serve it with --runpod {endpoint_id[:64]}"
            )
        return pool


def _secret_in(scope: Scope) -> bytes:
    told = header_in(scope["headers"], b"authorization") or b""
    return told[7:].strip() if told[:7].lower() == b"bearer " else told.strip()


async def _take(pool: Pool, request: Request, send: Send) -> None:
    query, most = request.query_params, 1
    if "/job-take-batch/" in request.scope["path"]:
        most = _number(query.get("batch_size", "1"))
    in_progress = query.get("job_in_progress")
    with pool.visit(request.path_params["worker_id"]) as pod:
        take = pool.ask(pod, most, is_free=None if in_progress is None else in_progress == "0")
        try:
            await _hand_over(pool, pod, take, request, send)
        except BaseException:  # whatever ends the answer, a cancel too: what was not handed over is for another worker
            pool.give_back(take)
            raise


async def _hand_over(pool: Pool, pod: Pod, take: Take, request: Request, send: Send) -> None:
    leaving = asyncio.create_task(disconnected(request.receive))
    try:
        await asyncio.wait({leaving, take.answered}, timeout=take.patience_s, return_when=asyncio.FIRST_COMPLETED)
        if not leaving.done() and take.jobs and not await pool.is_there(take):
            pool.give_back(take)
        pod.has_left = pod.has_left or leaving.done()
        if leaving.done():
            pool.give_back(take)
            return
    finally:
        leaving.cancel()
    jobs = pool.collect(take)
    if jobs:
        written = b",".join(map(_written, jobs))
        is_batch = "/job-take-batch/" in request.scope["path"]
        answer = Response(b"[%b]" % written if is_batch else written, media_type="application/json")
    elif pool.is_draining:  # at a 204 it would ask again at once
        answer = ErrorResponse(describe(QueueFull("the server is shutting down; ask again later", retry_after_s=5)))
    else:
        answer = Response(status_code=204)
    await answer(request.scope, request.receive, send)
    pool.begin(take)


def _number(text: str) -> int:
    if not re.fullmatch("[0-9]{1,9}", text) or not (number := int(text)):
        raise MalformedRequest(f"batch_size: expected a number from 1, got {text[:64]!r}")
    return min(number, _MOST_JOBS)


def _written(job: Job) -> bytes:
    return b'{"id":"%b","input":%b}' % (told_id(job).encode(), job.request.input or b"{}")


async def _stop(pool: Pool, request: Request, send: Send) -> None:
    with pool.visit(request.path_params["worker_id"]) as pod:
        poll = pod.open_stop_poll()
        leaving = asyncio.create_task(disconnected(request.receive))
        try:
            headers = [(b"content-type", b"application/json"), (b"x-accel-buffering", b"no")]
            await send({"type": "http.response.start", "status": 200, "headers": headers})
            waits: set[asyncio.Future[None]] = {leaving, poll.told}
            while not (await asyncio.wait(waits, timeout=_BLANK_S, return_when=asyncio.FIRST_COMPLETED))[0]:
                await send({"type": "http.response.body", "body": b" ", "more_body": True})
        finally:
            pod.has_left = pod.has_left or leaving.done()
            pod.close_stop_poll(poll, is_answered=not leaving.done())
            leaving.cancel()
        await send({"type": "http.response.body", "body": json.dumps({"jobsToStop": poll.ids}).encode()})


async def _stream(pool: Pool, request: Request, send: Send) -> None:
    with pool.visit(request.path_params["worker_id"]) as pod:
        posted = await _posted(pool, pod, request)
        if "output" not in posted:
            raise MalformedRequest('expected {"output": ...}; what has failed is sent to job-done')
        event = await _encoded(request, to_event, posted["output"])
        await _emit(pool, pod, request, event)
    await Response(b"{}", media_type="application/json")(request.scope, request.receive, send)


async def _done(pool: Pool, request: Request, send: Send) -> None:
    with pool.visit(request.path_params["worker_id"]) as pod:
        posted = await _posted(pool, pod, request)
        output, job_id = posted.get("output"), request.path_params["job_id"]
        if posted.get("status") == "IN_PROGRESS":
            await _emit(pool, pod, request, await _encoded(request, progress_event, output))
        elif request.query_params.get("isStream") == "true":  # it has sent all of it before
            whole = None
            if isinstance(output, list) and output and len(output) != pool.outputs_n(pod, job_id):
                whole = await _encoded(request, _all_events, output)
            streamed: Literal["list", "empty"] = "list" if output else "empty"
            pool.finish(pod, job_id, None, error=posted.get("error"), streamed=streamed, whole=whole)
        else:
            event = None if output is None else await _encoded(request, to_event, output)
            pool.finish(pod, job_id, event, error=posted.get("error"))
    await Response(b"{}", media_type="application/json")(request.scope, request.receive, send)


async def _posted(pool: Pool, pod: Pod, request: Request) -> dict[str, Any]:
    """Read what a worker sends of a job; what cannot be read fails the job, as the worker does not send it again."""
    try:
        return await json_object(request)
    except StreamAppError as error:
        pool.finish(
            pod, request.path_params["job_id"], None, error=f"what its worker sent is not taken: {error.message}"
        )
        raise


def _all_events(values: list[object]) -> list[Event]:
    return list(map(to_event, values))


async def _encoded(request: Request, encode: Callable[[Any], T], value: object) -> T:
    if len(await request.body()) > LARGE_BYTES:
        return await in_pool(encode, value)
    return encode(value)


async def _emit(pool: Pool, pod: Pod, request: Request, event: Event) -> None:
    """Wait for room; a worker that gives up waiting sends it again, and so it is not taken in now."""
    rest = pool.emit(pod, request.path_params["job_id"], event)
    if rest is None:
        return
    emitting, leaving = asyncio.create_task(rest), asyncio.create_task(disconnected(request.receive))
    try:
        await asyncio.wait({emitting, leaving}, return_when=asyncio.FIRST_COMPLETED)
        pod.has_left = pod.has_left or leaving.done()
    finally:
        emitting.cancel()
        leaving.cancel()


async def _ping(pool: Pool, request: Request, send: Send) -> None:
    job_ids = request.query_params.get("job_id", "").split(",")
    pool.ping(request.path_params["worker_id"], frozenset(filter(None, job_ids[:_MOST_JOBS])))
    await Response(status_code=204)(request.scope, request.receive, send)


_ANSWERS = {
    "job-take": ("GET", _take),
    "job-take-batch": ("GET", _take),
    "job-stop": ("GET", _stop),
    "ping": ("GET", _ping),
    "job-stream": ("POST", _stream),
    "job-done": ("POST", _done),
}


def add_worker_routes(api: FastAPI, runtime: Runtime) -> None:
    """Add the routes of the workers.

    Raises:
        DefinitionError: there is no secret, and an app whose jobs they are to fetch; or callers know it.
    """
    settings, secret = runtime.settings, runtime.settings.worker_secret
    pools = {served.name: pool for served in runtime.served if isinstance(pool := served.workers.sync, Pool)}
    if pools and secret is None:
        raise DefinitionError(
            f"workers elsewhere fetch the jobs of {', '.join(pools)}, and no secret keeps others from it; write "
            "STREAMAPP_WORKER_SECRET=<secret> streamapp serve ..."
        )
    if secret is not None and secret == settings.api_key:
        raise DefinitionError(
            "STREAMAPP_WORKER_SECRET is the API key, so that every caller could fetch the inputs of all others; choose "
            "another secret"
        )
    for operation, (method, answer) in _ANSWERS.items():
        path = f"/v2/{{endpoint_id}}/{operation}/{{worker_id}}" + ("/{job_id}" if operation in _OF_JOB else "")
        plane = Plane(runtime, pools, method, answer)
        api.router.routes.append(Route(path, plane, include_in_schema=False))
