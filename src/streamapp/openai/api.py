"""Speak OpenAI's API: its clients work against this server when their `base_url` is `http://.../v1`.

What is asked becomes a job of the app whose model it names, like any other: it waits in the queue, is refused when that
is full, has its deadline, and ends when its client leaves. The paths are there where an app says so (`OpenAI`), at
`/v1/...` for all apps, at `/{app}/v1/...` for one, and at `/v2/{endpoint_id}/openai/v1/...`, where Runpod's users
expect them; there for handlers of Runpod's as well, which answer them themselves (`handlers`).

Another path below `/v1` comes by an `Ask` in `declared._model`, under its name, and by that name here in `_PATHS`.

Source: https://platform.openai.com/docs/api-reference, and the stock client `openai` 3.57.
"""

import re
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from typing import Any

from fastapi import FastAPI
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from ..budget import SHARE, Share
from ..errors import NotFound
from ..http.call import Call
from ..http.face import Clients
from ..http.file_routes import json_object
from ..http.middleware import REQUEST_ID
from ..http.openapi import CLIENTS
from ..http.routes import key_of
from ..jobs.events import encode
from ..jobs.job import Job, new_job_id
from ..process.threads import in_pool
from ..runpod.apps import QueueApp
from ..runpod.places import Place, places_of
from ..runtime import Runtime, ServedApp
from .answers import answer_for
from .asked import Asked
from .declared import IMAGES, SPEECH, Model, asked_at, models_of, paths_said
from .errors import ErrorsTold
from .handlers import asked_of_handler
from .models import Models
from .requests import Body, ChatBody, CompletionBody, described
from .text import CHAT, COMPLETIONS

_PATHS = (CHAT, COMPLETIONS, IMAGES, SPEECH)
# What is asked there is described; at the others it is what the app's own endpoint takes, which is described there.
_BODIES: Mapping[str, type[Body]] = {CHAT: ChatBody, COMPLETIONS: CompletionBody}
_MODELS = "/models"
_LARGE_BYTES = 64 * 1024  # of a body that is read in a thread: 2,600 messages take 50 ms
_RUNPODS = "/v2/{endpoint_id}/openai/v1"
_SUMMARIES = {
    f"/v1{CHAT}": "Have a language model answer a conversation",
    f"/v1{COMPLETIONS}": "Have a language model go on with a text",
    f"/v1{IMAGES}": "Have a model make pictures",
    f"/v1{SPEECH}": "Have a model speak a text",
    f"/v1{_MODELS}": "List the models",
}

_Answer = Callable[[Request], Awaitable[Response]]


class _Paths:
    """Answer what is below one `/v1`.

    Args:
        models: those that are asked for there.
    """

    def __init__(self, models: Sequence[Model], runtime: Runtime, created: int) -> None:
        self._models = Models(models, runtime, created)
        self._runtime = runtime
        self.paths = [path for path in _PATHS if any(path in model.asks for model in models)]

    def asking(self, path: str) -> _Answer:
        """Return what answers a path by a job."""

        async def asked(request: Request) -> Response:
            return await self.answer(path, request)

        return asked

    async def answer(self, path: str, request: Request) -> Response:
        """Answer a request by a job."""
        given = await json_object(request)
        model = await self._models.pick(path, given)
        return await submitted(request, model.served, partial(model.asks[path], given), self._runtime)

    def described(self, path: str) -> dict[str, Any]:
        """Return what the OpenAPI document says of a path: the body, and how OpenAI's clients ask there."""
        model = self._models.known_name(path)
        told: dict[str, Any] = {CLIENTS: {"openai": _client(path, model)}}
        if path in _BODIES:
            schema = described(_BODIES[path], model)
            told["requestBody"] = {"required": True, "content": {"application/json": {"schema": schema}}}
        return told

    async def list(self, request: Request) -> Response:
        """Answer with the models."""
        return JSONResponse(await self._models.listed())

    async def find(self, request: Request) -> Response:
        """Answer with one of them, whose name may have slashes in it; with all where a slash is all that came."""
        name = request.path_params["model"].rstrip("/")
        return JSONResponse(await self._models.named(name)) if name else await self.list(request)


async def submitted(request: Request, served: ServedApp, ask: Callable[[str], Asked], runtime: Runtime) -> Response:
    """Make the job that is asked for, or find that of an earlier request with the same key; return its answer.

    Args:
        ask: says what is asked, with the id of the job.
    """
    call = Call.of(request.scope)
    job_id: str = request.scope.get(REQUEST_ID) or new_job_id()
    is_large = len(await request.body()) > _LARGE_BYTES
    asked = await in_pool(ask, job_id) if is_large else ask(job_id)
    key = None
    if call.key is not None:
        key = await key_of(served.name, request.url.path, call.query, await request.body(), call.key)
    job = None if key is None else await runtime.jobs.started_by(key, call.caller)
    if job is None:
        job_request = served.request(
            asked.spec,
            job_id,
            queue_timeout_s=call.start_timeout_s,
            input=await in_pool(encode, asked.input) if is_large else encode(asked.input),
            headers=call.headers,
            caller=call.caller,
            origin=call.origin,
            media=asked.media,
            key=key,
        )
        arguments = await served.reader_of(asked.spec).read_again(job_request)
        share: Share | None = request.scope.get(SHARE)
        made = Job(job_request, runtime.settings, arguments=arguments, share=share)
        job = await runtime.submit(made, served, asked.spec)
    return answer_for(job, asked if job.id == job_id else ask(job.id), runtime.settings)


class _Runpods:
    """Answer what is below `/v2/{endpoint_id}/openai/v1`.

    Args:
        own: by the apps' names, of those that have models.
    """

    def __init__(self, places: Mapping[str, Place], own: Mapping[str, _Paths], runtime: Runtime) -> None:
        self._places = places
        self._own = own
        self._runtime = runtime

    def asking(self, path: str) -> _Answer:
        """Return what answers a path by a job."""

        async def asked(request: Request) -> Response:
            place = self._place(request)
            if isinstance(place, _Paths):
                return await place.answer(path, request)
            given = {} if request.method == "GET" else await json_object(request)
            ask = partial(asked_of_handler, place.spec, f"/v1{path}", given)
            return await submitted(request, place.served, ask, self._runtime)

        return asked

    def about_models(self, answer: Callable[[_Paths, Request], Awaitable[Response]]) -> _Answer:
        """Return what answers for models that are known here, or asks the handler."""
        ask = self.asking(_MODELS)

        async def told(request: Request) -> Response:
            place = self._place(request)
            return await answer(place, request) if isinstance(place, _Paths) else await ask(request)

        return told

    def _place(self, request: Request) -> Place | _Paths:
        """Return what has an id: an app's models, or the endpoint of a handler."""
        endpoint_id = request.path_params["endpoint_id"]
        place = self._places.get(endpoint_id)
        own = self._own.get(endpoint_id if place is None else place.served.name)
        if own is not None:  # by its name also where it has no endpoint, and so no id
            return own
        if place is None or not isinstance(place.served.app, QueueApp):
            raise NotFound(f"no endpoint with the id {endpoint_id[:80]!r} answers OpenAI's clients")
        return place


def outer(runtime: Runtime) -> list[Middleware]:
    """Return what has errors told in OpenAI's shape."""
    own = "|".join(map(_matching, _paths_of_endpoints(runtime)))
    patterns = []
    for prefix, paths in _answered(runtime).items():
        below = re.escape(prefix) + "/v1"
        patterns += [f"{below}(?:{'|'.join(paths)}|{_MODELS}(?:/.*)?)", rf"(?!(?:{own})/?\Z){below}(?:/.*)?"]
    patterns += ["/v2/[^/]+/openai/v1/.+"] if _is_on_runpods(runtime) else []
    return [Middleware(ErrorsTold, paths=re.compile("|".join(patterns)))] if patterns else []


def _paths_of_endpoints(runtime: Runtime) -> list[str]:
    """Return where the apps' own endpoints are, whose errors are told as ever."""
    first, *_ = runtime.served
    named = [f"/{served.name}{spec.path}" for served in runtime.served for spec in served.endpoints]
    return [path.rstrip("/") for path in (*(spec.path for spec in first.endpoints), *named)]


def _matching(path: str) -> str:
    """Return a pattern of the paths that an endpoint's is, in time that grows no faster than they do."""
    parts = re.split(r"(\{.*?\})", path)
    return "".join(
        (".*" if part.endswith(":path}") else "[^/]+") if part[:1] == "{" else re.escape(part) for part in parts
    )


def _answered(runtime: Runtime) -> dict[str, list[str]]:
    """Return the paths that are answered, by what stands before their `/v1`."""
    own = {f"/{served.name}": paths_said(type(served.app)) for served in runtime.served}
    said = {prefix: paths for prefix, paths in own.items() if paths}
    return {"": [path for paths in said.values() for path in paths], **said} if said else {}


def _is_on_runpods(runtime: Runtime) -> bool:
    return any(isinstance(served.app, QueueApp) or paths_said(type(served.app)) for served in runtime.served)


def add_routes(api: FastAPI, runtime: Runtime) -> None:
    """Add what its clients ask."""
    created = int(time.time())
    by_app = {served.name: models_of(served, runtime.files) for served in runtime.served}
    own = {name: _Paths(models, runtime, created) for name, models in by_app.items() if models}
    if own:
        everybody = _Paths([model for models in by_app.values() for model in models], runtime, created)
        for prefix, paths in (("", everybody), *((f"/{name}", each) for name, each in own.items())):
            for path in paths.paths:
                told = paths.described(path)
                _add(api, f"{prefix}/v1{path}", paths.asking(path), "POST", in_schema=not prefix, told=told)
            _add(api, f"{prefix}/v1{_MODELS}", paths.list, "GET", in_schema=not prefix)
            _add(api, f"{prefix}/v1{_MODELS}/{{model:path}}", paths.find, "GET", in_schema=not prefix)
    if _is_on_runpods(runtime):
        _add_runpods(api, _Runpods(places_of(runtime, api.state.runpod_endpoints), own, runtime))


def _add_runpods(api: FastAPI, paths: _Runpods) -> None:
    for path in _PATHS:
        _add(api, _RUNPODS + path, paths.asking(path), "POST")
    _add(api, _RUNPODS + _MODELS, paths.about_models(_Paths.list), "GET")
    _add(api, f"{_RUNPODS}{_MODELS}/{{model:path}}", paths.about_models(_Paths.find), "GET")


def _add(
    api: FastAPI,
    path: str,
    answer: _Answer,
    method: str,
    *,
    in_schema: bool = False,
    told: dict[str, Any] | None = None,
) -> None:
    api.add_api_route(
        path,
        answer,
        methods=[method],
        name=f"OpenAI's {path}",
        summary=_SUMMARIES.get(path, "Ask for one of the models"),
        description="As in https://platform.openai.com/docs/api-reference.",
        include_in_schema=in_schema,
        response_model=None,
        response_class=JSONResponse if told is None else Response,  # blocks of a stream, or a sound
        openapi_extra=told,
        tags=["openai"],
    )


def clients(api: FastAPI, runtime: Runtime) -> Clients:
    """Return where they ask for what endpoints make."""
    return {
        (served.name, place): _client(path, model)
        for served in runtime.served
        for place, (path, model) in asked_at(served).items()
    }


def _client(path: str, model: str) -> dict[str, str]:
    return {"path": f"/v1{path}", "model": model}
