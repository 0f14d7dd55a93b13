"""Say what another protocol adds to the server: one object, which `compile_app` takes and no other module knows.

A face leads requests to the apps' own routes by a middleware, serves routes that no app has, and names what of both the
server has to leave alone. How its requests are answered, where that is not as the server does it, their scope says.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from fastapi import FastAPI
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response

from ..jobs.job import Job
from ..runtime import Runtime, ServedApp, Workers
from .tokens import ShownTokens

#: in the scope of a request that a face led elsewhere: the path that the client asked for, for messages
ASKED_PATH = "streamapp.asked_path"
#: in the scope of a request: the `MediaForm` that the face's clients expect where nothing else is asked for
MEDIA = "streamapp.media"
#: True in the scope of a request that is answered with the result of a stream, unless it asks for the stream
ANSWERS_ONCE = "streamapp.answers_once"
#: in the scope of a request whose job is answered for by a face: a `Submission`
SUBMISSION = "streamapp.submission"


#: by an app's name and the path of one of its endpoints: what the clients of a protocol have to know to ask for it
Clients = Mapping[tuple[str, str], Mapping[str, Any]]


@dataclass(frozen=True, slots=True)
class Submission:
    """Say, in a request's scope, that its job runs on without readers, and how another protocol answers for it.

    Attributes:
        accept: makes the answer, on the loop; also for a job that an `Idempotency-Key` has joined. What is refused is
            answered in the server's own shape.
        captures_logs: what the job prints and logs becomes events, whatever its app says.
        asks: fields of the `JobRequest` that the face sets, before what holds without it.
        repeats: the job that this one takes the place of, under its id, as the next attempt.
    """

    accept: Callable[[Request, Job], Response]
    captures_logs: bool = False
    asks: Mapping[str, Any] = field(default_factory=dict)
    repeats: Job | None = None


def _no_middleware(runtime: Runtime) -> Sequence[Middleware]:
    return ()


def _no_routes(api: FastAPI, runtime: Runtime) -> None:
    pass


def _no_clients(api: FastAPI, runtime: Runtime) -> Clients:
    return {}


def _no_workers(served: ServedApp) -> Workers | None:
    return None


@dataclass(frozen=True, slots=True, kw_only=True)
class Face:
    """Hold one protocol's part of the server; what a face leaves out is nothing.

    Attributes:
        name: the protocol's, for messages.
        fixed_paths: no endpoint may be at these or below them.
        hosts: names that its clients have lead here, `*.example.org` with all below; none that others can have.
        exposed_headers: what pages of other origins may read of answers, besides the server's own.
        upload_paths: whose bodies go to the file store as they come: the limit of bodies does not count there.
        outer: return the layers outside of all that guard the server, the outermost first; they refuse nothing.
        middleware: return the layers around the routes, the outermost first; inside of all that guard the server.
        add_routes: add routes before those of endpoints.
        own_guard: whole paths of HTTP requests that need no API key, as the face's own routes there ask for something
            else; a route of the face's has to take each of them, by any method. No endpoint may be at one.
        shown_tokens: how its clients open sockets by a token that the face has had `app.state.tokens` make.
        workers: return what runs the jobs of an app that is of this protocol's own kind, None of any other.
        clients: return what its clients have to know of endpoints; where they cannot ask for one, that is left out. It
            stands in the OpenAPI document, by the face's name, and is called after `add_routes`.
    """

    name: str
    fixed_paths: Sequence[str] = ()
    hosts: Sequence[str] = ()
    exposed_headers: Sequence[str] = ()
    upload_paths: Sequence[str] = ()
    outer: Callable[[Runtime], Sequence[Middleware]] = _no_middleware
    middleware: Callable[[Runtime], Sequence[Middleware]] = _no_middleware
    add_routes: Callable[[FastAPI, Runtime], None] = _no_routes
    own_guard: re.Pattern[str] | None = None
    shown_tokens: ShownTokens | None = None
    workers: Callable[[ServedApp], Workers | None] = _no_workers
    clients: Callable[[FastAPI, Runtime], Clients] = _no_clients
