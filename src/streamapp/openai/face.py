"""Offer OpenAI's API to the server: `OPENAI`, whose code is imported where an app says that it is asked so.

Of a process that serves no such app the rest of this room would take a tenth of the time to its first answer.
"""

from collections.abc import Sequence

from fastapi import FastAPI
from starlette.middleware import Middleware

from ..app import App, Declaration
from ..http.face import Clients, Face
from ..later import module
from ..runpod.apps import QueueApp
from ..runtime import Runtime
from .errors import SHOULD_RETRY

_api = module(".api", __package__)


def _outer(runtime: Runtime) -> Sequence[Middleware]:
    layers: Sequence[Middleware] = _api.outer(runtime) if _is_spoken(runtime) else ()
    return layers


def _add_routes(api: FastAPI, runtime: Runtime) -> None:
    if _is_spoken(runtime):
        _api.add_routes(api, runtime)


def _clients(api: FastAPI, runtime: Runtime) -> Clients:
    told: Clients = _api.clients(api, runtime) if _is_spoken(runtime) else {}
    return told


def _is_spoken(runtime: Runtime) -> bool:
    return any(isinstance(served.app, QueueApp) or _declares(type(served.app)) for served in runtime.served)


def _declares(app: type[App]) -> bool:
    return any(isinstance(value, Declaration) for base in app.__mro__ for value in vars(base).values())


OPENAI = Face(
    name="openai",
    exposed_headers=("X-Request-Id", SHOULD_RETRY),
    outer=_outer,
    add_routes=_add_routes,
    clients=_clients,
)
