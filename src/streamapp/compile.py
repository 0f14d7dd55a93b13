"""Compile app classes into one FastAPI application: routes, job routes, errors, middleware, life.

Everything that a request needs is decided here, before the first one: definition mistakes are raised by
`compile_app`, not answered to a client. Jobs are run by `runtime`, answered by `response`.

Under a foreign server (`uvicorn module:app`) or mounted in another app all of it works except what needs the server's
help: a stream that failed ends with the server's own noise, a drain waits for readers that do not read, and the
low-water mark of `streamapp serve` is not set. That is logged once. Mounted, the app's lifespan does not run: it starts
at its first job or question for `/ready`, and `teardown` is left out.

Divergence: a `BaseHTTPMiddleware` is warned about when the app starts, since middleware is added after `compile_app`.
"""

import inspect
import logging
import zlib
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from functools import lru_cache
from typing import Any

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.routing import compile_path

from .app import App, is_app_class
from .endpoint import EndpointSpec
from .errors import (
    DefinitionError,
    ErrorReport,
    InvalidInput,
    JobUnfinished,
    MalformedRequest,
    NotFound,
    StreamAppError,
    describe,
)
from .inputs import InputReader
from .jobs import Job, JobStore, RequestKey
from .media import MediaLimits
from .metrics import CONTENT_TYPE
from .middleware import EXPOSED_HEADERS, ApiKey, BodyLimit, CrossSite, RequestId, UnhandledErrors
from .openapi import DescribedEndpoint, build_openapi
from .response import TRANSPORT_EXTENSION, ErrorResponse, EventStreamResponse, Format, ResultResponse, result_response
from .runtime import Runtime, ServedApp
from .settings import Settings, get_settings
from .wire import parse_event_id

_FIXED_PATHS = ("/health", "/ready", "/metrics", "/openapi.json", "/docs", "/playground", "/jobs", "/files")
_FORMATS: dict[str, Format] = {
    "text/event-stream": "sse",
    "application/x-ndjson": "ndjson",
    "application/jsonl": "ndjson",
    "text/plain": "text",
}
_MAX_ECHO = 200
_MAX_ERRORS = 100
_MAX_KEY = 255

logger = logging.getLogger("streamapp")


def compile_app(*apps: type[App] | App, settings: Settings | None = None, store: JobStore | None = None) -> FastAPI:
    """Return a FastAPI application that serves `apps`.

    With several, each is at `/{name}`, and the first also at `/`. The `Runtime` is at `app.state.runtime`.

    Raises:
        DefinitionError: an app is written wrongly, or its paths collide; says where and what to write.
    """
    settings = settings or get_settings()
    runtime = Runtime([_instance(app) for app in apps], settings, store)
    if not runtime.served:
        raise DefinitionError("compile_app takes at least one App class")
    first = type(runtime.served[0].app)
    api = FastAPI(
        title=runtime.served[0].name,
        version=first.version,
        description=inspect.getdoc(first) or "",
        lifespan=_lifespan(runtime),
        middleware=_middleware(settings),
        redoc_url=None,
        telemetry={"tracing": False, "metrics": False, "logs": False},
    )
    api.state.runtime = runtime
    api.state.own_middleware = tuple(api.user_middleware)
    _add_error_handlers(api, settings)
    _add_server_routes(api, runtime)
    _add_job_routes(api, runtime)
    described: list[DescribedEndpoint] = []
    for served in runtime.served:
        described += _add_endpoints(api, runtime, served, f"/{served.name}", in_schema=len(runtime.served) > 1)
    # Last: a path parameter of the first app must not hide the others.
    described += _add_endpoints(api, runtime, runtime.served[0], "")
    _check_routes(api)
    api.openapi = lambda: _openapi(api, described)  # type: ignore[method-assign]
    return api


def _instance(app: type[App] | App) -> App:
    if isinstance(app, App):
        return app
    if not is_app_class(app):
        raise DefinitionError(f"Expected a subclass of streamapp.App, got {app!r}")
    return app()


def _lifespan(runtime: Runtime) -> Any:
    @asynccontextmanager
    async def lifespan(api: FastAPI) -> AsyncIterator[None]:
        for middleware in api.user_middleware:
            if isinstance(middleware.cls, type) and issubclass(middleware.cls, BaseHTTPMiddleware):
                logger.warning(
                    "%s is a BaseHTTPMiddleware: outside `streamapp serve` it makes failed streams look like complete "
                    "ones; write it as a plain ASGI class",
                    middleware.cls.__name__,
                )
        if runtime.is_draining:
            raise StreamAppError("the app was stopped; compile it again to serve it again")
        runtime.start()
        yield
        if not runtime.is_draining:  # `streamapp serve` has done it, while the socket still listened
            await runtime.drain()
        await runtime.stop()

    return lifespan


def _middleware(settings: Settings) -> list[Middleware]:
    def describe_error(error: BaseException) -> ErrorReport:
        return describe(error, where="the server", debug=settings.debug)

    layers = [Middleware(RequestId)]
    if settings.cors_origins:
        layers.append(
            Middleware(
                CORSMiddleware,
                allow_origins=settings.cors_origins,
                allow_methods=["GET", "POST"],
                allow_headers=["*"],
                expose_headers=EXPOSED_HEADERS,
            )
        )
    layers.append(Middleware(CrossSite, origins=settings.cors_origins))
    if settings.api_key is not None:
        layers.append(Middleware(ApiKey, key=settings.api_key.get_secret_value()))
    layers.append(Middleware(BodyLimit, max_bytes=settings.max_body_bytes))
    return [*layers, Middleware(UnhandledErrors, describe_error=describe_error)]


# Errors


def _add_error_handlers(api: FastAPI, settings: Settings) -> None:
    async def invalid(request: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)
        errors = [_shorten(e) for e in error.errors()[:_MAX_ERRORS]]
        first = errors[0]
        where = ".".join(str(part) for part in first["loc"])
        return ErrorResponse(describe(InvalidInput(f"{where}: {first['msg']}", detail=errors)))

    async def known(request: Request, error: Exception) -> Response:
        if isinstance(error, HTTPException) and error.status_code == 404 and error.detail == "Not Found":
            error = NotFound(f"nothing is served at {request.method} {request.url.path}; GET /docs lists what is")
        if isinstance(error, HTTPException) and error.status_code == 405 and error.headers:
            allowed = error.headers.get("Allow", "another method")
            detail = f"{request.method} is not served at {request.url.path}; use {allowed}"
            error = HTTPException(405, detail, dict(error.headers))
        return ErrorResponse(describe(error, where="the request", debug=settings.debug))

    async def gone(request: Request, error: Exception) -> Response:
        return Response(status_code=499)  # nobody is there to read it

    api.add_exception_handler(RequestValidationError, invalid)
    api.add_exception_handler(HTTPException, known)
    api.add_exception_handler(StreamAppError, known)
    api.add_exception_handler(ClientDisconnect, gone)


def _shorten(error: dict[str, Any]) -> dict[str, Any]:
    """Keep short what an error echoes of the input: values, names and messages can be megabytes."""
    context = {key: _echo(value) for key, value in error.get("ctx", {}).items()}
    short = {**error, "loc": [_echo(part) for part in error["loc"]], "msg": _echo(error["msg"])}
    return {**short, "input": _echo(error.get("input")), **({"ctx": context} if context else {})}


def _echo(value: Any) -> Any:
    match value:
        case bool() | int() | float() | None:
            return value
        case bytes() | bytearray():
            return f"<binary {len(value)} bytes>"
        case dict() | list():
            return f"<{type(value).__name__} of {len(value)} items>"
    text = str(value)
    return text if len(text) <= _MAX_ECHO else text[:_MAX_ECHO] + "..."


# Endpoints


def _add_endpoints(
    api: FastAPI, runtime: Runtime, served: ServedApp, prefix: str, *, in_schema: bool = True
) -> list[DescribedEndpoint]:
    limits = MediaLimits.of(runtime.settings)
    described = []
    for spec in served.endpoints:
        path = (prefix + spec.path).rstrip("/") or "/"
        _check_path(path, served, spec)
        reader = InputReader(spec, limits)
        methods = ["POST", "GET"] if spec.kind == "stream" else ["POST"]
        for method in methods:
            api.add_api_route(
                path,
                _Route(runtime, served, spec, reader).function(),
                methods=[method],
                name=spec.name,
                operation_id=f"{spec.name}_{method.lower()}{prefix.replace('/', '_')}",
                summary=spec.summary,
                description=spec.description,
                include_in_schema=in_schema,
                response_model=None,
                tags=[served.name],
            )
        if in_schema:
            described.append(DescribedEndpoint(compile_path(path)[1], spec, reader.model))
    return described


class _Route:
    """Turn requests for one endpoint into jobs and answers."""

    def __init__(self, runtime: Runtime, served: ServedApp, spec: EndpointSpec, reader: InputReader) -> None:
        self._runtime = runtime
        self._served = served
        self._spec = spec
        self._reader = reader
        self._settings = runtime.settings

    def function(self) -> Any:
        """Return a coroutine function with the signature that FastAPI needs to fill the endpoint's own parameters."""

        async def answer(streamapp_request: Request, **injected: Any) -> Response:
            return await self._answer(streamapp_request, injected)

        request = inspect.Parameter("streamapp_request", inspect.Parameter.KEYWORD_ONLY, annotation=Request)
        injected = [p.replace(kind=inspect.Parameter.KEYWORD_ONLY) for p in self._reader.injected]
        answer.__signature__ = inspect.Signature([request, *injected])  # type: ignore[attr-defined]
        return answer

    async def _answer(self, request: Request, injected: dict[str, Any]) -> Response:
        last_event_id = request.headers.get("last-event-id") if request.method == "GET" else None
        if last_event_id:
            return self._resume(request, last_event_id)
        arguments = {**await self._reader.read(request), **injected}
        request_key = await _request_key(request)
        job = None if request_key is None else self._runtime.jobs.started_by(request_key)
        if job is None:
            job = self._submit(request, arguments, request_key)
        if job.is_detached:
            return _accepted(request, job, self._runtime)
        if self._spec.kind == "stream":
            return self._stream(request, job)
        return ResultResponse(job, self._settings, accept=request.headers.get("accept", ""))

    def _submit(self, request: Request, arguments: dict[str, Any], request_key: RequestKey | None) -> Job:
        job = self._served.job(
            self._spec,
            arguments,
            window_s=self._window_s(request),
            is_detached=_prefers_async(request),
            request_key=request_key,
        )
        self._runtime.submit(job, self._served, self._spec)
        return job

    def _window_s(self, request: Request) -> float:
        """Return how long the job outlives its reader: what the request asks for, up to the endpoint's limit."""
        asked = request.headers.get("streamapp-resume")
        if asked is None or self._spec.kind != "stream":
            return self._settings.resume_window_s if request.method == "GET" else 0
        most = self._spec.mark.max_resume_window_s
        return min(_seconds(asked), self._settings.max_resume_window_s if most is None else most)

    def _stream(self, request: Request, job: Job) -> Response:
        if TRANSPORT_EXTENSION not in request.scope.get("extensions", {}):
            _warn_about_foreign_server()
        return EventStreamResponse(
            job,
            self._settings,
            format=_format(request, self._spec),
            is_get=request.method == "GET",
            is_named=_is_named(request),
            outlasts_app=not self._reader.injected,  # a dependency may close what it gave when the app returns
            position=_position(self._runtime, job),
        )

    def _resume(self, request: Request, last_event_id: str) -> Response:
        event_id = parse_event_id(last_event_id)
        job = self._runtime.jobs.get(event_id.job_id)
        if job.endpoint != self._served.path_of(self._spec):
            raise MalformedRequest(f"Last-Event-ID: the job is one of {job.endpoint}, not of {request.url.path}")
        return _resumed(request, job, self._runtime, _after(job, last_event_id))


@lru_cache(maxsize=1)
def _warn_about_foreign_server() -> None:
    """Log, once, what this server does not do for streams."""
    logger.warning("not run by `streamapp serve`: failed streams and the drain are left to this server's own ways")


def _resumed(request: Request, job: Job, runtime: Runtime, after: int, *, takes_over: bool = True) -> Response:
    if job.is_over and after >= job.channel.last_n:
        return Response(status_code=204)  # the one answer that stops an EventSource
    return EventStreamResponse(
        job,
        runtime.settings,
        after=after,
        is_get=True,
        is_named=_is_named(request),
        takes_over=takes_over,
        outlasts_app=True,
        position=_position(runtime, job),
    )


def _after(job: Job, last_event_id: str) -> int:
    """Return the position that an event id names in a job's current attempt."""
    event_id = parse_event_id(last_event_id)
    if event_id.job_id != job.id:
        raise MalformedRequest(f"Last-Event-ID: {event_id.job_id} is not the job {job.id}")
    if event_id.attempt > job.attempt or (event_id.attempt == job.attempt and event_id.n > job.channel.last_n):
        raise MalformedRequest(f"Last-Event-ID: the job {job.id} has no event {event_id.attempt}.{event_id.n} yet")
    return event_id.n if event_id.attempt == job.attempt else 0


def _format(request: Request, spec: EndpointSpec) -> Format:
    """Choose the stream's format: SSE whatever Accept says, another only when it names exactly that one."""
    accept = request.headers.get("accept", "").strip().lower()
    if accept in _FORMATS:
        return _FORMATS[accept]
    return _FORMATS[spec.mark.media_type or "text/event-stream"]


def _is_named(request: Request) -> bool:
    return request.method == "POST" or request.query_params.get("_events") == "named"


async def _request_key(request: Request) -> RequestKey | None:
    """Read `Idempotency-Key`: https://datatracker.ietf.org/doc/draft-ietf-httpapi-idempotency-key-header/."""
    key = request.headers.get("idempotency-key")
    if key is None or request.method != "POST":
        return None
    if not 0 < len(key) <= _MAX_KEY:
        raise MalformedRequest(f"Idempotency-Key: expected 1 to {_MAX_KEY} characters, got {len(key)}")
    is_form = request.headers.get("content-type", "").startswith("multipart/")
    # A form's body has gone into its files, and the line between its parts differs at each sending.
    body = request.headers.get("content-length", "").encode() if is_form else await request.body()
    return RequestKey(f"{request.url.path} {key}", zlib.crc32(body))


def _prefers_async(request: Request) -> bool:
    preferences = ",".join(request.headers.getlist("prefer")).lower()
    return any(part.partition(";")[0].strip() == "respond-async" for part in preferences.split(","))


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1
    if not 0 <= seconds < float("inf"):
        raise MalformedRequest(f"Streamapp-Resume: expected seconds, 0 or more, got {text[:40]!r}")
    return seconds


def _position(runtime: Runtime, job: Job) -> int:
    return max(served.worker.position(job) for served in runtime.served)


# Jobs and the server itself


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
        "endpoint": job.endpoint,
        "position": _position(runtime, job),
        "created_at": job.created_at,
        "started_at": job.started_at,
        "finished_at": job.finished_at,
        "last_event_id": str(job.event_id(job.channel.last_n)),
    }
    return status if job.error is None else {**status, **job.error.body}


def _add_server_routes(api: FastAPI, runtime: Runtime) -> None:
    async def health() -> Response:
        readiness = runtime.readiness()
        body = {"status": "ok" if runtime.is_healthy() else "broken", "detail": readiness.reason}
        return JSONResponse({**body, "version": api.version}, 200 if runtime.is_healthy() else 503)

    async def ready() -> Response:
        if not runtime.is_draining:
            runtime.start()  # mounted in another app, nothing else starts it before the first job
        readiness = runtime.readiness()
        return JSONResponse(
            {"ready": readiness.is_ready, "reason": readiness.reason}, 200 if readiness.is_ready else 503
        )

    async def metrics() -> Response:
        return Response(runtime.metrics.render(), media_type=CONTENT_TYPE)

    async def home(request: Request) -> Response:
        if "text/html" in request.headers.get("accept", ""):
            return RedirectResponse(f"{request.scope.get('root_path', '')}/docs")
        raise HTTPException(404, "Not Found")

    for path, route in (("/health", health), ("/ready", ready), ("/metrics", metrics)):
        api.add_api_route(path, route, methods=["GET"], tags=["server"], response_model=None)
        api.add_api_route(path, route, methods=["HEAD"], include_in_schema=False, response_model=None)
    if not any(spec.path == "/" and spec.kind == "stream" for spec in runtime.served[0].endpoints):
        api.add_api_route("/", home, methods=["GET"], include_in_schema=False, response_model=None)


def _add_job_routes(api: FastAPI, runtime: Runtime) -> None:
    async def job_status(job_id: str) -> Response:
        job = runtime.jobs.get(job_id)
        return JSONResponse(_status(job, runtime), headers={"X-Streamapp-Job-Id": job.id})

    async def job_result(request: Request, job_id: str, aggregate: bool = False) -> Response:
        job = runtime.jobs.get(job_id)
        if not job.is_over:
            raise JobUnfinished(f"job {job.id} is {job.status}; its result comes when it has ended")
        if aggregate and job.error is None:
            outputs = [event.json() for event in job.channel.events() if event.kind == "output"]
            return JSONResponse(outputs, headers={"X-Streamapp-Job-Id": job.id})
        return result_response(job, accept=request.headers.get("accept", ""))

    async def job_events(request: Request, job_id: str) -> Response:
        job = runtime.jobs.get(job_id)
        last_event_id = request.headers.get("last-event-id")
        after = _after(job, last_event_id) if last_event_id else 0
        # Clients of ours say by the header that they started the job; its old connection may not be known to be dead.
        is_owner = "streamapp-resume" in request.headers or not job.channel.has_reading_owner
        takes_over = bool(last_event_id) and is_owner
        return _resumed(request, job, runtime, after, takes_over=takes_over)

    async def job_cancel(job_id: str) -> Response:
        job = runtime.jobs.get(job_id)
        job.cancel()
        return JSONResponse(_status(job, runtime), 202, {"X-Streamapp-Job-Id": job.id})

    api.add_api_route("/jobs/{job_id}", job_status, methods=["GET"], tags=["jobs"], response_model=None)
    api.add_api_route("/jobs/{job_id}/result", job_result, methods=["GET"], tags=["jobs"], response_model=None)
    api.add_api_route("/jobs/{job_id}/events", job_events, methods=["GET"], tags=["jobs"], response_model=None)
    api.add_api_route("/jobs/{job_id}/cancel", job_cancel, methods=["POST"], tags=["jobs"], response_model=None)


def _check_path(path: str, served: ServedApp, spec: EndpointSpec) -> None:
    fixed = next((f for f in _FIXED_PATHS if path == f or path.startswith(f + "/")), None)
    if fixed is not None:
        raise DefinitionError(
            f"{spec.function.__qualname__}: {path} is under the server's own path {fixed}; "
            + (f"name the app {served.name!r} differently" if fixed == f"/{served.name}" else "choose another path")
        )


def _check_routes(api: FastAPI) -> None:
    """Refuse two routes for one path and method."""
    seen: dict[tuple[str, str], str] = {}
    for route in api.routes:
        path, name = getattr(route, "path", ""), getattr(route, "name", "")
        for method in getattr(route, "methods", None) or ():
            if (path, method) in seen:
                raise DefinitionError(f"{method} {path} is served by {seen[path, method]} and by {name}; rename one")
            seen[path, method] = name


def _openapi(api: FastAPI, described: Iterable[DescribedEndpoint]) -> dict[str, Any]:
    if api.openapi_schema is None:
        api.openapi_schema = build_openapi(api, described)
    return api.openapi_schema
