"""Compile app classes into one FastAPI application: routes, job routes, errors, middleware, life.

Everything that a request needs is decided here, before the first one: definition mistakes are raised by
`compile_app`, not answered to a client. Jobs are run by `runtime`, answered by `response`.

Under a foreign server (`uvicorn module:app`) or mounted in another app all of it works except what needs the server's
help: a stream that failed ends with the server's own noise, a drain waits for readers that do not read, and the
low-water mark of `streamapp serve` is not set. That is logged once. Mounted, the app's lifespan does not run: it starts
at its first job or question for `/ready`, and `teardown` is left out.

Divergence: a `BaseHTTPMiddleware` is warned about when the app starts, since middleware is added after `compile_app`.
"""

import asyncio
import inspect
import itertools
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import cache, partial
from types import MappingProxyType
from typing import Any

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from pydantic import TypeAdapter
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Match, Route, WebSocketRoute, compile_path
from starlette.types import Scope

from ..app import App, description_of, title_of
from ..endpoint import EndpointSpec, get_mark
from ..errors import DefinitionError, ErrorReport, NotFound, StreamAppError, describe
from ..fal.api import FAL
from ..http.docs import DOCS_PATH, add_docs_routes
from ..http.face import ASKED_PATH, Clients, Face
from ..http.file_routes import add_file_routes
from ..http.handling import invalid_input, plain_answer
from ..http.metrics import CONTENT_TYPE, Metrics
from ..http.middleware import (
    EXPOSED_HEADERS,
    ApiKey,
    BodyLimit,
    HeadLimit,
    RequestId,
    UnhandledErrors,
    UnloggedToken,
)
from ..http.openapi import DescribedEndpoint, DescribedSession, build_openapi, describe_places
from ..http.pages import Pages, add_page, lead_to
from ..http.playground import ASSETS, PAGE_PATH, read_page
from ..http.response import ErrorResponse
from ..http.route import LaterRoute
from ..http.routes import EndpointRoute, FilledRoute, LastingRoute, add_job_routes
from ..http.sites import CrossSite, Hosts, NotByLink
from ..http.tokens import Tokens
from ..jobs.store import JobStore
from ..later import module
from ..loading import AppLike, app_in
from ..openai.face import OPENAI
from ..process.logs import logger
from ..process.threads import ends_within, in_pool
from ..runpod.api import RUNPOD
from ..runpod.endpoints import Endpoint, check_endpoints, queue_limits, words_about
from ..runtime import MakeWorkers, Runtime, ServedApp, Workers, thread_and_tasks
from ..session import SIGNALLING, SessionSpec
from ..settings import Settings, get_settings
from ..sockets.live import LiveSessions
from ..sockets.raw import RawEndpoint
from ..sockets.realtime import RealtimeRoute
from ..stores.files import FileStore
from .pages import EitherSlash, add_roots, answers_at_root, find_page, pages_of, warn_of_hidden_files

#: the protocols that are spoken besides the server's own
FACES: Sequence[Face] = (FAL, RUNPOD, OPENAI)
_FIXED_PATHS = ("/openapi.json", "/openapi-3.1.json", "/docs", "/playground", "/jobs", "/files", "/_streamapp")
# The first app may have endpoints there: the server's own are below `/_streamapp` as well.
_SHARED_PATHS = ("/health", "/ready", "/metrics")
_signalling = module("..webrtc.signalling", __package__)
_HEALTH_S = 5.0  # for an `async def health`


def compile_app(
    *apps: type[App] | App | AppLike,
    settings: Settings | None = None,
    store: JobStore | None = None,
    files: FileStore | None = None,
    playground: bool = True,
    workers: MakeWorkers = thread_and_tasks,
    faces: Sequence[Face] = FACES,
    endpoints: Mapping[str, Endpoint] = MappingProxyType({}),
) -> FastAPI:
    """Return a FastAPI application that serves `apps`.

    With several, each is at `/{name}`, and the first also at `/`. The `Runtime` is at `app.state.runtime`.

    Args:
        store: keeps jobs beyond this process; nothing does when None.
        files: keeps uploads and large results; on this machine's disk when None.
        playground: serve the page to try them on, at `/playground`.
        workers: makes what runs an app's jobs, where no face has workers for it.
        faces: the protocols that are spoken besides the server's own.
        endpoints: what holds for endpoints as Runpod has them, by their ids; at `app.state.runpod_endpoints`.
    Raises:
        DefinitionError: an app is written wrongly, or its paths collide; says where and what to write.
    """
    settings = settings or get_settings()
    instances = [_instance(app) for app in apps]
    if not instances:
        raise DefinitionError("compile_app takes at least one App class")
    check_endpoints(endpoints, [type(app) for app in instances])
    runtime = Runtime(instances, settings, store, files, by_face(faces, workers), queue_limits(endpoints))
    pages = pages_of(runtime, _owners(faces))
    api = _application(runtime, faces, pages, has_playground=playground, endpoints=endpoints)
    _add_error_handlers(api, settings, pages)
    _add_server_routes(api, runtime)
    add_roots(api, runtime, pages)
    if "/" not in pages.roots:
        _add_home(api, runtime, PAGE_PATH if playground else DOCS_PATH)
    if playground:
        add_page(api, PAGE_PATH, read_page, kept=ASSETS)
    add_docs_routes(api)
    add_job_routes(api, runtime)
    add_file_routes(api, runtime)
    for face in faces:
        face.add_routes(api, runtime)
    places = _all_places(api, runtime, faces)
    sessions = LiveSessions()
    _add_signalling(api, runtime, sessions)
    _check_routes(api, places)
    _add_endpoints(api, places, is_guarded=settings.api_key is not None)
    _add_sessions(api, runtime, faces, sessions)
    warn_of_hidden_files(api, pages)
    clients = {face.name: face.clients(api, runtime) for face in faces}
    described = [place.described(clients) for place in places if place.in_schema]
    described_sessions = _described_sessions(runtime)
    api.openapi = lambda: _openapi(api, described, described_sessions)  # type: ignore[method-assign]
    api.state.describe = cache(partial(_described_at, api, described, described_sessions))
    return api


def _application(
    runtime: Runtime,
    faces: Sequence[Face],
    pages: Pages,
    *,
    has_playground: bool,
    endpoints: Mapping[str, Endpoint],
) -> FastAPI:
    """Return the application without a route, with all that the routes ask it for."""
    settings = runtime.settings
    first = type(runtime.served[0].app)
    api = FastAPI(
        title=title_of(first),
        version=first.version,
        description=description_of(first),
        openapi_tags=[_tag(type(served.app)) for served in runtime.served],
        lifespan=_lifespan(runtime),
        middleware=_middleware(settings, runtime, faces, pages),
        openapi_url=None,
        docs_url=None,
        redoc_url=None,
        telemetry={"tracing": False, "metrics": False, "logs": False},
    )
    api.state.runtime = runtime
    api.state.tokens = Tokens(None if settings.api_key is None else settings.api_key.get_secret_value())
    api.state.has_playground = has_playground
    api.state.runpod_endpoints = dict(endpoints)
    api.state.peers = set[object]()  # peer connections by WebRTC
    api.state.own_middleware = tuple(api.user_middleware)
    api.router.redirect_slashes = False
    api.router.default = EitherSlash(api.router, pages)
    return api


def _tag(app: type[App]) -> dict[str, str]:
    """Return what the OpenAPI document says of each app, all of whose endpoints are tagged by its name."""
    description = description_of(app)
    return {
        "name": str(app.app_name),
        "summary": title_of(app),
        **({"description": description} if description else {}),
    }


def by_face(faces: Sequence[Face], others: MakeWorkers = thread_and_tasks) -> MakeWorkers:
    """Return what makes an app's workers: the face whose kind of app it is, else what makes those of all others."""

    def make(served: ServedApp) -> Workers:
        return next(filter(None, (face.workers(served) for face in faces)), None) or others(served)

    return make


def _instance(app: type[App] | App | AppLike) -> App:
    if isinstance(app, App):
        return app
    served = app_in(app)
    if served is None:
        raise DefinitionError(f"Expected a subclass of streamapp.App, got {app!r}")
    return served()


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


def _middleware(settings: Settings, runtime: Runtime, faces: Sequence[Face], pages: Pages) -> list[Middleware]:
    def describe_error(error: BaseException) -> ErrorReport:
        return describe(error, where="the server", debug=settings.debug)

    shown_tokens = [face.shown_tokens for face in faces if face.shown_tokens is not None]
    unlogged = Middleware(UnloggedToken, fields=[shown.field for shown in shown_tokens])
    outer = [layer for face in faces for layer in face.outer(runtime)]
    layers = [*outer, Middleware(HeadLimit), unlogged, Middleware(RequestId)]
    layers.append(Middleware(CrossSite, origins=settings.cors_origins))
    if settings.cors_origins:
        layers.append(
            Middleware(
                CORSMiddleware,
                allow_origins=settings.cors_origins,
                allow_methods=["GET", "HEAD", "POST", "PUT"],
                allow_headers=["*"],
                # Cookies, and what else a proxy knows its users by, are for pages that were named one by one.
                allow_credentials="*" not in settings.cors_origins,
                expose_headers=[*EXPOSED_HEADERS, *(name for face in faces for name in face.exposed_headers)],
            )
        )
    if settings.api_key is None:
        names = [*settings.allowed_hosts, *(name for face in faces for name in face.hosts)]
        layers.append(Middleware(Hosts, names=names))
    else:
        home = () if answers_at_root(runtime.served[0]) else ("/",)
        layers.append(
            Middleware(
                ApiKey,
                key=settings.api_key.get_secret_value(),
                open_pages=home,
                find_page=partial(find_page, pages),
                guarded=_taken_paths(runtime),
                own_guards=[face.own_guard for face in faces if face.own_guard is not None],
                shown_tokens=shown_tokens,
                app_names=[served.name for served in runtime.served],
            )
        )
    upload_paths = [path for face in faces for path in face.upload_paths]
    budget = runtime.inputs
    layers.append(Middleware(BodyLimit, settings.max_body_bytes, budget, upload_paths=upload_paths))
    layers.append(Middleware(UnhandledErrors, describe_error=describe_error))
    return [*layers, *(layer for face in faces for layer in face.middleware(runtime))]


# Errors


def _add_error_handlers(api: FastAPI, settings: Settings, pages: Pages) -> None:
    async def invalid(request: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)
        return ErrorResponse(describe(invalid_input(error)))

    async def known(request: Request, error: Exception) -> Response:
        is_unfound = isinstance(error, HTTPException) and (error.status_code, error.detail) == (404, "Not Found")
        if is_unfound and request.scope["type"] == "http":
            path, method = request.scope.get(ASKED_PATH, request.url.path), request.method
            if _is_opened(api, request.scope):
                own = request.url.path  # not a face's: fal's queue, for example, leads no WebSocket here
                detail = f"{own} is opened by a WebSocket, not by {method}; connect to it by ws:// or wss://"
                error = HTTPException(426, detail, {"Upgrade": "websocket"})
            else:
                error = NotFound(f"nothing is served at {method} {path}; GET /docs lists what is")
        if isinstance(error, HTTPException) and error.status_code == 405 and error.headers:
            if (page := await find_page(pages, request)) is not None:
                return page
            allowed = _allowed(api, request.scope) or error.headers.get("Allow", "another method")
            detail = f"{request.method} is not served at {request.url.path}; use {allowed}"
            error = HTTPException(405, detail, {**error.headers, "Allow": allowed})
        return plain_answer(error) or ErrorResponse(describe(error, where="the request", debug=settings.debug))

    async def gone(request: Request, error: Exception) -> Response:
        return Response(status_code=499)  # nobody is there to read it

    api.add_exception_handler(RequestValidationError, invalid)
    api.add_exception_handler(HTTPException, known)
    api.add_exception_handler(StreamAppError, known)
    api.add_exception_handler(ClientDisconnect, gone)
    api.state.own_handlers = frozenset(api.exception_handlers.values())


def _allowed(api: FastAPI, scope: Scope) -> str:
    """Return the methods of all routes of a path, of which Starlette names those of one; "" where one has said no."""
    found = [(route.matches(scope)[0], route) for route in api.router.routes if isinstance(route, Route)]
    is_taken = any(match is Match.FULL for match, _ in found)
    methods = [sorted(route.methods or ()) for match, route in found if match is Match.PARTIAL and not is_taken]
    return ", ".join(dict.fromkeys(itertools.chain(*methods)))


def _is_opened(api: FastAPI, scope: Scope) -> bool:
    """Say whether a WebSocket could be opened where another request has found nothing, slash at its end or not."""
    path = scope["path"]
    asked = [{**scope, "type": "websocket", "path": place} for place in (path, path.rstrip("/"), f"{path}/")]
    return any(route.matches(each)[0] is not Match.NONE for route in api.router.routes for each in asked)


# Endpoints


@dataclass(frozen=True, slots=True)
class _Place:
    """Hold an endpoint and one of the paths that it is served at.

    Attributes:
        is_second: the endpoint is called at this path by those who name the app alone.
    """

    path: str
    prefix: str
    served: ServedApp
    spec: EndpointSpec
    endpoint: EndpointRoute
    in_schema: bool
    is_second: bool = False

    @property
    def methods(self) -> list[str]:
        """Return what it is asked by: what is no mere value by browsers, too; what stands for a probe by probes."""
        if self.is_second:
            return ["POST"]
        is_got = self.spec.mark.is_got or self.spec.kind != "value" or self.spec.path.rstrip("/") in _SHARED_PATHS
        return ["POST", "GET"] if is_got else ["POST"]

    def described(self, clients: Mapping[str, Clients]) -> DescribedEndpoint:
        """Return what the description of this place needs.

        Args:
            clients: what those of each face have to know, by its name.
        """
        reader, route = self.served.reader_of(self.spec), compile_path(self.path)[1]
        name = self.served.name, self.spec.path
        told = {face: of_endpoints[name] for face, of_endpoints in clients.items() if name in of_endpoints}
        return DescribedEndpoint(route, self.spec, reader.adapter, reader.whole, reader.media_type, told)


def _all_places(api: FastAPI, runtime: Runtime, faces: Sequence[Face]) -> list[_Place]:
    owners = _owners(faces)
    places: list[_Place] = []
    of_names = owners | dict.fromkeys(_SHARED_PATHS, "the server")
    for served in runtime.served:
        places += _places(api, runtime, served, f"/{served.name}", of_names, in_schema=len(runtime.served) > 1)
    # Last: a path parameter of the first app must not hide the others.
    places += _places(api, runtime, runtime.served[0], "", owners)
    guarded = [(face.name, face.own_guard) for face in faces if face.own_guard is not None]
    for place, (name, guard) in itertools.product(places, guarded):
        if guard.fullmatch(place.path):
            raise DefinitionError(
                f"{place.spec.function.__qualname__}: {place.path} is one of {name}'s own paths; choose another path"
            )
    taken = {place.path for place in places if not place.is_second}
    return [place for place in places if not place.is_second or place.path not in taken]


def _places(
    api: FastAPI, runtime: Runtime, served: ServedApp, prefix: str, owners: Mapping[str, str], *, in_schema: bool = True
) -> list[_Place]:
    endpoints: dict[str, EndpointRoute] = {}
    places = []
    for spec in served.endpoints:
        path = (prefix + spec.path).rstrip("/")
        _check_path(path, served, spec, owners)
        endpoint = endpoints[spec.path.rstrip("/")] = EndpointRoute(runtime, served, spec)
        if spec.path != "/" and spec.path.endswith("/"):
            places.append(_Place(f"{path}/", prefix, served, spec, endpoint, in_schema))
            places.append(_Place(path, prefix, served, spec, endpoint, in_schema=False))
        else:
            places.append(_Place(path or "/", prefix, served, spec, endpoint, in_schema))
    if "" not in endpoints and (first := _first_stream(served)) is not None:
        endpoint = endpoints[first.path.rstrip("/")]
        places.append(_Place(prefix or "/", prefix, served, first, endpoint, in_schema=False, is_second=True))
    for path, endpoint in endpoints.items():
        if (cancel := endpoints.get(f"{path}/cancel")) is not None:
            endpoint.tell_of_cancels(cancel, api)
    return places


def _first_stream(served: ServedApp) -> EndpointSpec | None:
    """Return what answers for an app without an endpoint at `/`, whose clients name no path: fal's `subscribe`."""
    return next((spec for spec in served.endpoints if spec.kind == "stream" and "{" not in spec.path), None)


def _add_endpoints(api: FastAPI, places: Iterable[_Place], *, is_guarded: bool) -> None:
    """Add endpoints, those without the app's name first, before all other routes: a request would try thirty of them.

    A path with parameters comes behind the others, since it could hide them; so does one that such a path, or whatever
    else a face has added, would take first.
    """
    others = api.router.routes[:]
    first, last = list[_Place](), list[_Place]()
    for place in places:
        is_hidden = any(_takes(route, place.path) for route in others) or any(
            compile_path(before.path)[0].match(place.path) for before in last
        )
        (last if "{" in place.path or is_hidden else first).append(place)
    api.router.routes.clear()
    for place in first:
        if not place.prefix:
            _add_endpoint(api, place, is_guarded=is_guarded)
    for place in first:
        if place.prefix:
            _add_endpoint(api, place, is_guarded=is_guarded)
    api.router.routes.extend(others)
    for place in last:
        _add_endpoint(api, place, is_guarded=is_guarded)


def _add_sessions(api: FastAPI, runtime: Runtime, faces: Sequence[Face], sessions: LiveSessions) -> None:
    """Add what has a WebSocket, where endpoints are: at the app's name, the first one's without it as well."""
    owners = _owners(faces)
    places = sorted(_session_places(runtime), key=lambda place: "{" in place[0])  # which must not hide the others
    for path, served, spec in places:
        _check_path(path.rstrip("/"), served, spec, owners)
        if spec.mode == "raw":
            route: BaseRoute = RawEndpoint(runtime, served, spec).route(path, api)
        else:
            route = WebSocketRoute(path, RealtimeRoute(runtime, served, spec, sessions), name=spec.name)
        api.router.routes.append(route)


def _session_places(runtime: Runtime) -> list[tuple[str, ServedApp, SessionSpec]]:
    prefixes = [*((served, f"/{served.name}") for served in runtime.served), (runtime.served[0], "")]
    return [(prefix + spec.path, served, spec) for served, prefix in prefixes for spec in served.session_specs]


def _add_signalling(api: FastAPI, runtime: Runtime, sessions: LiveSessions) -> None:
    """Add what is asked before a session by WebRTC.

    Its modules are imported here: with them comes an extra that others do without.
    """
    for path, served, spec in _session_places(runtime):
        if not spec.mark.webrtc:
            continue
        try:
            make = _signalling.Signalling
        except ModuleNotFoundError as error:
            raise DefinitionError(
                f"{spec.mark.decorator} on {spec.function.__qualname__}: webrtc=True needs {error.name}, which an "
                "extra brings; write pip install 'streamapp-server[webrtc]'"
            ) from error
        signalling = make(runtime, served, spec, sessions, api.state.peers)
        for method, function in (("POST", signalling.answer), ("GET", signalling.ice_servers)):
            api.add_api_route(
                path.rstrip("/") + SIGNALLING,
                function,
                methods=[method],
                name=f"{spec.name} by WebRTC",
                include_in_schema=False,
                response_model=None,
            )


def _takes(route: BaseRoute, path: str) -> bool:
    """Say whether a route takes requests for a path that is not its own."""
    match, _ = route.matches({"type": "http", "path": path, "method": "POST", "headers": []})
    return match is not Match.NONE and getattr(route, "path", None) != path


def _add_endpoint(api: FastAPI, place: _Place, *, is_guarded: bool) -> None:
    spec, reader = place.spec, place.served.reader_of(place.spec)
    about = words_about(type(place.served.app), spec.path, api.state.runpod_endpoints)
    for method in place.methods:
        route_class = LastingRoute if reader.has_dependencies else FilledRoute
        route = route_class(
            place.path,
            place.endpoint.function(),
            methods=[method],
            name=spec.name,
            operation_id=f"{spec.name}_{method.lower()}{place.prefix.replace('/', '_')}",
            summary=spec.summary,
            description="\n\n".join(filter(None, (spec.description, about))),
            include_in_schema=place.in_schema,
            tags=[place.served.name],
            dependency_overrides_provider=api,
        )
        if reader.injected:
            route.make()  # says what of it is written wrongly
        else:
            route.app = place.endpoint.serve
        if method == "GET" and not is_guarded:  # who has the key in a link may follow it from anywhere
            route.app = NotByLink(route.app)
        api.router.routes.append(route)


# Jobs and the server itself


def _add_server_routes(api: FastAPI, runtime: Runtime) -> None:
    figures = Metrics(
        runtime.worker_statistics,
        runtime.jobs.statistics,
        runtime.channel_statistics,
        lambda: runtime.inputs.used,
        runtime.places.statistics,
        lambda: len(api.state.peers),
    )
    runtime.observers.append(figures.observe)
    app = runtime.served[0].app
    # An endpoint may be called like the hook: it answers its own path, and is a job.
    own_health = app.health if get_mark(app.health) is None else App.health.__get__(app)

    async def health() -> Response:
        is_healthy, detail = runtime.is_healthy(), runtime.readiness().reason
        own = own_health()
        if inspect.isawaitable(own):
            asking = asyncio.ensure_future(own)
            if await ends_within(_HEALTH_S, asking):
                own = asking.result()
            else:
                is_healthy, own, detail = False, None, f"the app's health() did not answer within {_HEALTH_S:g} s"
        body = {"status": "ok" if is_healthy else "broken", "detail": detail}
        return JSONResponse({**(own or {}), **body}, 200 if is_healthy else 503)

    async def ready() -> Response:
        if not runtime.is_draining:
            runtime.start()  # mounted in another app, nothing else starts it before the first job
        readiness = runtime.readiness()
        trace = {} if readiness.traceback is None else {"traceback": readiness.traceback}
        loading = {} if readiness.loading_s is None else {"loading_s": round(readiness.loading_s, 1)}
        body = {"ready": readiness.is_ready, "reason": readiness.reason, **trace, **loading}
        return JSONResponse(body, 200 if readiness.is_ready else 503)

    async def metrics() -> Response:
        await in_pool(figures.load)
        return Response(figures.render(), media_type=CONTENT_TYPE)

    taken = _taken_paths(runtime)
    for path, route in zip(_SHARED_PATHS, (health, ready, metrics), strict=True):
        own = f"/_streamapp{path}"
        for place in (own,) if path in taken else (path, own):
            in_schema = place == path or path in taken
            api.router.routes += [
                LaterRoute(place, route, methods=["GET"], tags=["server"], include_in_schema=in_schema),
                LaterRoute(place, route, methods=["HEAD"], include_in_schema=False),
            ]
    if taken:
        places = ", ".join(taken), ", ".join(f"/_streamapp{path}" for path in taken)
        name = type(runtime.served[0].app).__name__
        logger.warning("%s answers at %s itself; what the server says there is at %s", name, *places)


def _taken_paths(runtime: Runtime) -> list[str]:
    """Return the shared paths at which the first app answers itself."""
    paths = {spec.path.rstrip("/") for spec in runtime.served[0].endpoints}
    return [path for path in _SHARED_PATHS if path in paths]


def _add_home(api: FastAPI, runtime: Runtime, path: str) -> None:
    """Lead a browser from `/` to where there is something to see."""

    async def home(request: Request) -> Response:
        if "text/html" in request.headers.get("accept", ""):
            return lead_to(path, request)
        raise HTTPException(404, "Not Found")

    if not answers_at_root(runtime.served[0]):
        api.router.routes.append(LaterRoute("/", home, methods=["GET"], include_in_schema=False))


def _owners(faces: Sequence[Face]) -> dict[str, str]:
    """Return who has the paths that no app may have, nor anything below."""
    return dict.fromkeys(_FIXED_PATHS, "the server") | {path: face.name for face in faces for path in face.fixed_paths}


def _check_path(path: str, served: ServedApp, spec: EndpointSpec | SessionSpec, owners: Mapping[str, str]) -> None:
    fixed = next((f for f in owners if path == f or path.startswith(f + "/")), None)
    if fixed is not None:
        raise DefinitionError(
            f"{spec.function.__qualname__}: {path} is under {owners[fixed]}'s own path {fixed}; "
            + (f"name the app {served.name!r} differently" if fixed == f"/{served.name}" else "choose another path")
        )


def _check_routes(api: FastAPI, places: Iterable[_Place]) -> None:
    """Refuse two routes for one path and method; `places` are still to be added."""
    seen: dict[tuple[str, str], str] = {}
    served = [(getattr(r, "path", ""), getattr(r, "methods", None) or (), getattr(r, "name", "")) for r in api.routes]
    for path, methods, name in [*served, *((place.path, place.methods, place.spec.name) for place in places)]:
        for method in methods:
            if (path, method) in seen:
                raise DefinitionError(f"{method} {path} is served by {seen[path, method]} and by {name}; rename one")
            seen[path, method] = name


def _described_sessions(runtime: Runtime) -> list[DescribedSession]:
    prefixes = [(served, f"/{served.name}") for served in runtime.served if len(runtime.served) > 1]
    return [
        DescribedSession(compile_path(prefix + spec.path)[1], spec, _adapter(served, spec), served.name)
        for served, prefix in [*prefixes, (runtime.served[0], "")]
        for spec in served.session_specs
    ]


def _adapter(served: ServedApp, spec: SessionSpec) -> TypeAdapter[Any]:
    return TypeAdapter(Any) if spec.mode == "raw" else served.session_reader(spec).binding.reader.adapter


def _described_at(
    api: FastAPI, described: Iterable[DescribedEndpoint], sessions: Iterable[DescribedSession], path: str
) -> dict[str, Any]:
    """Return what the document tells of one path, for what is said at the start: the whole would be late."""
    endpoints = [endpoint for endpoint in described if endpoint.route == path]
    return describe_places(api, endpoints, [session for session in sessions if session.route == path])


def _openapi(
    api: FastAPI, described: Iterable[DescribedEndpoint], sessions: Iterable[DescribedSession]
) -> dict[str, Any]:
    if api.openapi_schema is None:
        api.openapi_schema = build_openapi(api, described, sessions)
    return api.openapi_schema
