"""Speak fal's wire protocol: its clients work against this server when they are pointed here.

`FalPaths` leads requests with fal's paths to the apps' own routes. `/run/{owner}/{app}/...` answers as the endpoint
does, but of a stream with its result, unless the path ends in `/stream` or the request asks for a stream;
`/queue/{owner}/{app}/...` lets its job run on without readers and says where to ask for it; `/api/fal/proxy`, fal-js'
`proxyUrl`, leads to what of this server its header names, by fal's host or by its own; under `serve --tls` `FalHosts`
leads to where fal's own hosts mean. The routes here are those that no app has: the queue's requests by id, storage, and
tokens. `FAL` is all of it. Any owner is accepted; an app goes by its name.

Source: the stock clients, fal_client 1.0.3 and @fal-ai/client 1.10.1, and https://docs.fal.ai/model-apis/model-endpoints/queue.
Queued requests are not repeated by the server, so `X-Fal-No-Retry` and `X-Fal-Retry-Config` have nothing to change.
"""

import json
import re
import time
import urllib.parse
from collections.abc import AsyncIterator, Callable, Collection
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

from fastapi import FastAPI
from pydantic_core import from_json
from starlette.datastructures import Headers
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ..addresses import is_loopback
from ..app import App
from ..errors import JobNotFound, MalformedRequest, describe
from ..http.call import caller_in, header_in
from ..http.face import ANSWERS_ONCE, ASKED_PATH, MEDIA, SUBMISSION, Face, Submission
from ..http.file_routes import json_object, receive_part
from ..http.middleware import FALS_PYTHON, IS_FALS
from ..http.response import ErrorResponse, result_response
from ..http.route import LaterRoute
from ..http.routes import base_url
from ..http.tokens import ShownTokens
from ..jobs.events import Event
from ..jobs.job import Job
from ..jobs.subscriber import Subscriber
from ..process.logs import logger
from ..process.threads import in_pool
from ..runtime import Runtime
from ..stores.files import Stored
from .over_socket import OverSocket
from .tokens import add_token_route, tell_expired

PROXY_PATH = "/api/fal/proxy"
_APP_PATH = re.compile(r"/(run|queue)/([^/]+)/([^/]+)(/.*)?")
_REQUEST_PATH = re.compile(r"/requests/[^/]+(/.*)?")
#: fal's own hosts, and what stands here before the paths that they have there
HOSTS = {
    "fal.run": "/run",
    "queue.fal.run": "/queue",
    "ws.fal.run": "/ws",
    "rest.fal.ai": "/rest",
    "rest.alpha.fal.ai": "/rest",
    "v3.fal.media": "/rest",
}
_OWN_PATHS = ("/run/", "/queue/", "/ws/", "/rest/", "/api/fal/", "/files/", "/jobs/")
_REST_PATHS = ("/storage/", "/files/upload", "/tokens")
_HTTP_PORTS = {"http": 80, "https": 443}
_STATUS = {"queued": "IN_QUEUE", "running": "IN_PROGRESS"}
_LEVELS = ("STDERR", "STDOUT", "ERROR", "INFO", "WARN", "DEBUG")
_PING_S = 10.0
_LOOK_S = 0.5  # a job's place in the queue is no event; fal-js polls as often
_MAX_SHOWN = 200


class FalHosts:
    """Lead requests that name one of fal's hosts, as a proxy in their clients' way may bring them, to fal's paths here.

    Outside of all that guards the server, which goes by the paths. What has a path of ours already, as the URLs in our
    answers have, is left as it is.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "lifespan" and (prefix := self._prefix(scope)):
            scope["path"] = prefix + scope["path"]  # no copy: what is taken out of the query is not logged around us
        await self.app(scope, receive, send)

    def _prefix(self, scope: Scope) -> str:
        host = (header_in(scope["headers"], b"host") or b"").partition(b":")[0].decode("latin-1").lower()
        prefix, path = HOSTS.get(host, ""), scope["path"]
        is_ours = not path.startswith(_REST_PATHS) if prefix == "/rest" else path.startswith(_OWN_PATHS)
        return "" if is_ours else prefix


class FalPaths:
    """Lead requests with fal's paths to the apps' own routes.

    Args:
        app_names: the apps that are served.
    """

    def __init__(self, app: ASGIApp, app_names: Collection[str]) -> None:
        self.app = app
        self._names = frozenset(app_names)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] in ("http", "websocket"):
            scope = self._led(scope)
            if scope.get(IS_FALS) and (header_in(scope["headers"], b"user-agent") or b"").startswith(FALS_PYTHON):
                scope = {**scope, ANSWERS_ONCE: True}  # where it streams it names SSE, and else nothing
        if SUBMISSION in scope and "fal_webhook" in urllib.parse.parse_qs(scope["query_string"].decode("latin-1")):
            refusal = MalformedRequest("fal_webhook: webhooks are not sent; ask at status_url, or read status/stream")
            return await ErrorResponse(describe(refusal))(scope, receive, send)
        await self.app(scope, receive, send)

    def _led(self, scope: Scope) -> Scope:
        root = scope.get("root_path", "")
        path = scope["path"].removeprefix(root)
        if path.rstrip("/") == PROXY_PATH and (target := Headers(scope=scope).get("x-fal-target-url")):
            path, query = _proxied(target, host=header_in(scope["headers"], b"host") or b"", root=root)
            scope = {**scope, "path": root + path, "query_string": query}
        match = _APP_PATH.fullmatch(path)
        if match is None or match[3] not in self._names:
            return scope
        kind, owner, name, rest = match[1], match[2], match[3], (match[4] or "").rstrip("/")
        if scope["type"] == "websocket":  # whose outputs have their files in them: they come too fast to be fetched
            return {**scope, "path": f"{root}/{name}{rest}", ASKED_PATH: path} if kind == "run" else scope
        if kind == "queue" and _REQUEST_PATH.fullmatch(rest):
            return {**scope, "path": f"{root}/queue/{owner}/{name}{rest}"}  # without a slash at its end
        scope = {**scope, MEDIA: "url"}  # scripts download what they get, and other servers take no data URIs
        if kind == "queue":
            scope = {**scope, SUBMISSION: Submission(_Queued(f"/queue/{owner}/{name}"), captures_logs=True)}
        elif not rest.endswith("/stream"):
            scope = {**scope, ANSWERS_ONCE: True}
        return {**scope, "path": f"{root}/{name}{rest}", ASKED_PATH: path}


def _proxied(target: str, *, host: bytes, root: str) -> tuple[str, bytes]:
    """Return the path and the query here of a URL of fal's, or of this server; nothing is ever sent to it."""
    try:
        url = urllib.parse.urlsplit(target)
        path, query = urllib.parse.unquote(url.path), url.query.encode()
        if _is_here(url, host.decode("latin-1")):
            return path.removeprefix(root), query
        return HOSTS[url.hostname or ""] + path, query
    except (KeyError, ValueError):  # answered by the app as a path that is not served
        return f"{PROXY_PATH}/{target[:_MAX_SHOWN]}", b""


def _is_here(url: urllib.parse.SplitResult, host: str) -> bool:
    """Say whether a URL is of the server that was asked: the `url` of fal-js' `stream` may be its own."""
    if not url.scheme and not url.netloc:
        return url.path.startswith("/")
    asked = urllib.parse.urlsplit(f"{url.scheme}://{host}")
    return url.scheme in _HTTP_PORTS and _place(url) == _place(asked)


def _place(url: urllib.parse.SplitResult) -> tuple[str | None, int]:
    name = "localhost" if is_loopback(url.hostname or "") else url.hostname
    return name, url.port or _HTTP_PORTS[url.scheme]


def _app_at(path: str) -> str | None:
    """Return the name of the app whose sockets fal's clients open at a path by a token."""
    match = _APP_PATH.fullmatch(path)
    return match[3] if match is not None and match[1] == "run" else None


class _Queued:
    """Answer for a request that was put into the queue."""

    def __init__(self, app_path: str) -> None:
        self._app_path = app_path

    def __call__(self, request: Request, job: Job) -> Response:
        runtime: Runtime = request.app.state.runtime
        urls = _urls(request, self._app_path, job)
        return JSONResponse(
            {"status": "IN_QUEUE", **urls, "queue_position": runtime.position(job), "logs": None, "metrics": {}},
            headers={"X-Streamapp-Job-Id": job.id},
        )


def _urls(request: Request, app_path: str, job: Job) -> dict[str, Any]:
    url = f"{base_url(request)}{urllib.parse.quote(app_path)}/requests/{job.id}"
    return {
        "request_id": job.id,
        "response_url": url,
        "status_url": f"{url}/status",
        "cancel_url": f"{url}/cancel",
    }


class RunnerHints:
    """Put what the apps' `provide_hints` say on what fal's clients get, but for refusals of the server's own guards.

    Args:
        providers: return hints, or raise NotImplementedError where there are none.
    """

    def __init__(self, app: ASGIApp, providers: Collection[Callable[[], list[str]]]) -> None:
        self.app = app
        self._providers = providers

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Label the response."""
        if not scope.get(IS_FALS):
            return await self.app(scope, receive, send)

        async def labelled(message: Message) -> None:
            hints = self._hints() if message["type"] == "http.response.start" else ""
            if hints:
                label = (b"x-fal-runner-hints", hints.encode("latin-1", "ignore"))
                message = {**message, "headers": [*message.get("headers", []), label]}
            await send(message)

        await self.app(scope, receive, labelled)

    def _hints(self) -> str:
        hints: list[str] = []
        for provide in self._providers:
            try:
                hints += [hint for hint in provide() if hint.isprintable()]
            except NotImplementedError:
                continue
            except (Exception, SystemExit):  # the app's own code: the answer goes out without its hints
                logger.exception("provide_hints failed")
        return ",".join(hints)


# The queue


def _add_queue_routes(api: FastAPI, runtime: Runtime) -> None:
    async def find(request: Request, name: str, request_id: str) -> Job:
        job = await runtime.jobs.find(request_id.replace("-", ""), caller_in(request.scope))
        if job.request.app != name:
            raise JobNotFound(f"request {request_id[:64]!r} is not one of {name}")
        return job

    async def status(request: Request, owner: str, name: str, request_id: str, logs: str = "0") -> Response:
        job = await find(request, name, request_id)
        told = _status(request, runtime, job, f"/queue/{owner}/{name}")
        lines = _log_lines(job.channel.events()) if _is_true(logs) else None
        code = 200 if told["status"] == "COMPLETED" else 202
        return JSONResponse({**told, "logs": lines}, code, {"X-Streamapp-Job-Id": job.id})

    async def status_stream(request: Request, owner: str, name: str, request_id: str, logs: str = "0") -> Response:
        job = await find(request, name, request_id)
        blocks = _status_blocks(request, runtime, job, f"/queue/{owner}/{name}", with_logs=_is_true(logs))
        headers = {"X-Streamapp-Job-Id": job.id, "Cache-Control": "no-cache", "X-Accel-Buffering": "no"}
        return StreamingResponse(blocks, headers=headers, media_type="text/event-stream")

    async def result(request: Request, owner: str, name: str, request_id: str) -> Response:
        job = await find(request, name, request_id)
        if not job.is_over:
            raise MalformedRequest("Request is still in progress")
        return await result_response(job)

    async def cancel(request: Request, owner: str, name: str, request_id: str) -> Response:
        try:
            job = await find(request, name, request_id)
        except JobNotFound:
            return JSONResponse({"status": "NOT_FOUND"}, 404)
        if not job.cancel("Request cancelled by the client."):
            return JSONResponse({"status": "ALREADY_COMPLETED"}, 400)
        return JSONResponse({"status": "CANCELLATION_REQUESTED"}, 202, {"X-Streamapp-Job-Id": job.id})

    request_path = "/queue/{owner}/{name}/requests/{request_id}"
    for path, route, method in (
        (request_path, result, "GET"),
        (f"{request_path}/response", result, "GET"),
        (f"{request_path}/status", status, "GET"),
        (f"{request_path}/status/stream", status_stream, "GET"),
        (f"{request_path}/cancel", cancel, "PUT"),
    ):
        api.router.routes.append(LaterRoute(path, route, methods=[method], include_in_schema=False))


def _is_true(flag: str) -> bool:
    return flag.lower() in ("1", "true")


def _status(request: Request, runtime: Runtime, job: Job, app_path: str) -> dict[str, Any]:
    """Return the state of this moment; the log has to be read after it, or the last lines could be missed."""
    status = _STATUS.get(job.status, "COMPLETED")
    told = {"status": status, **_urls(request, app_path, job)}
    if status == "IN_QUEUE":
        return {**told, "queue_position": runtime.position(job)}
    if status == "IN_PROGRESS":
        return told
    ended_at = job.finished_at or job.now()  # it is noted a moment after the job is over
    told = {**told, "metrics": {"inference_time": ended_at - (job.started_at or ended_at)}}
    return told if job.error is None else {**told, "error": job.error.message, "error_type": job.error.code}


def _log_lines(events: list[Event]) -> list[dict[str, Any]]:
    lines = []
    for event in events:
        if event.kind == "log":
            line = event.json()
            level = line["level"] if line["level"] in _LEVELS else "INFO"
            lines.append({**line, "level": level, "source": "USER", "labels": {"source": line["source"]}})
    return lines


async def _status_blocks(
    request: Request, runtime: Runtime, job: Job, app_path: str, *, with_logs: bool
) -> AsyncIterator[bytes]:
    """Yield the status whenever it changes, with the log lines that are new: fal-js appends them to those it has."""
    async with _reading(job) as subscriber:
        last: dict[str, Any] = {}
        told_at = 0.0
        while True:
            told = _status(request, runtime, job, app_path)
            events = subscriber.take()
            lines = _log_lines(events) if with_logs else None
            now = time.monotonic()
            if lines or told != last:
                last, told_at = told, now
                yield b"data: " + json.dumps({**told, "logs": lines}).encode() + b"\n\n"
            elif now - told_at > _PING_S:
                told_at = now
                yield b": ping\n"
            if told["status"] == "COMPLETED":
                return
            # That the job runs is an event; only the place in the queue has to be looked at.
            await subscriber.wait(_LOOK_S if told["status"] == "IN_QUEUE" else _PING_S)


@asynccontextmanager
async def _reading(job: Job) -> AsyncIterator[Subscriber]:
    subscriber = job.attach(shows_previews=False, hears_start=True)
    try:
        yield subscriber
    finally:
        job.detach(subscriber)


# Storage


def _add_storage_routes(api: FastAPI, runtime: Runtime) -> None:
    files = runtime.files

    async def token(request: Request) -> Response:
        _, _, key = request.headers.get("authorization", "").partition(" ")
        expires_at = datetime.fromtimestamp(time.time() + 3600, UTC).isoformat()
        body = {"token": key or "local", "token_type": "Bearer", "base_url": f"{base_url(request)}/rest"}
        return JSONResponse({**body, "expires_at": expires_at})

    async def initiate(request: Request) -> Response:
        stored = await _begin(request, *await _named_in_body(request))
        url = base_url(request) + stored.url_path
        return JSONResponse({"upload_url": f"{url}?upload={stored.key}", "file_url": url})

    async def initiate_multipart(request: Request) -> Response:
        stored = await _begin(request, *await _named_in_body(request))
        url = base_url(request) + stored.url_path
        return JSONResponse({"upload_url": f"{url}/multipart/{stored.key}", "file_url": url})

    async def upload_whole(request: Request) -> Response:
        stored = await _begin(request, *_named_in_headers(request))
        try:
            await receive_part(request, files, stored, 1)
            await in_pool(files.complete, stored.id, stored.key, [1])
        except BaseException:  # whatever ends it, a cancel too: what came so far must not stay in the quota
            await in_pool(files.discard, stored)
            raise
        return JSONResponse({"access_url": base_url(request) + stored.url_path})

    async def upload_multipart(request: Request) -> Response:
        stored = await _begin(request, *_named_in_headers(request))
        return JSONResponse({"access_url": base_url(request) + stored.url_path, "uploadId": stored.key})

    async def _begin(request: Request, content_type: str, name: str) -> Stored:
        caller, ttl_s = caller_in(request.scope), _lifetime_s(request)
        return await in_pool(files.begin, content_type, name, caller=caller, ttl_s=ttl_s)

    for path, route in (
        ("/rest/storage/auth/token", token),
        ("/rest/storage/upload/initiate", initiate),
        ("/rest/storage/upload/initiate-multipart", initiate_multipart),
        ("/rest/files/upload", upload_whole),
        ("/rest/files/upload/multipart", upload_multipart),
    ):
        api.router.routes.append(LaterRoute(path, route, methods=["POST"], include_in_schema=False))


async def _named_in_body(request: Request) -> tuple[str, str]:
    asked = await json_object(request)
    return str(asked.get("content_type") or ""), str(asked.get("file_name") or "")


def _named_in_headers(request: Request) -> tuple[str, str]:
    name = urllib.parse.unquote(request.headers.get("x-fal-file-name", ""))
    return request.headers.get("content-type", ""), name


def _lifetime_s(request: Request) -> float | None:
    """Return how long the file shall be kept; None when the request does not say."""
    for header in ("x-fal-object-lifecycle", "x-fal-object-lifecycle-preference"):
        try:
            seconds = from_json(request.headers.get(header, "null"))["expiration_duration_seconds"]
        except (ValueError, TypeError, KeyError):
            continue
        if isinstance(seconds, int | float) and seconds > 0:
            return seconds
    return None


# The face


def _middleware(runtime: Runtime) -> list[Middleware]:
    providers = [served.app.provide_hints for served in runtime.served if _has_hints(served.app)]
    hints = [Middleware(RunnerHints, providers=providers)] if providers else []
    app_names = [served.name for served in runtime.served]
    over_socket = Middleware(OverSocket, app_names=app_names, runtime=runtime)
    return [over_socket, *hints, Middleware(FalPaths, app_names=app_names)]


def _has_hints(app: App) -> bool:
    return type(app).provide_hints is not App.provide_hints


def _add_routes(api: FastAPI, runtime: Runtime) -> None:
    _add_queue_routes(api, runtime)
    _add_storage_routes(api, runtime)
    add_token_route(api)


FAL = Face(
    name="fal",
    fixed_paths=("/rest", "/api/fal"),
    hosts=tuple(HOSTS),
    exposed_headers=(
        *("x-fal-request-id", "X-Fal-Error-Type", "X-Fal-Request-Timeout-Type"),
        *("x-fal-billable-units", "X-Fal-Runner-Hints"),
    ),
    upload_paths=("/rest/files/upload",),
    shown_tokens=ShownTokens(field="fal_jwt_token", app_at=_app_at, answer_expired=tell_expired),
    middleware=_middleware,
    add_routes=_add_routes,
)
