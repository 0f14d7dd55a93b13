"""Run one endpoint once, without a server: a runtime, a job and one reader of its channel."""

import logging
from collections.abc import Callable
from typing import Any

from fastapi.exceptions import RequestValidationError
from pydantic_core import to_json

from ..app import App
from ..endpoint import EndpointSpec
from ..errors import InvalidInput, MalformedRequest, NotFound
from ..http.answer import Answer
from ..inputs import described
from ..jobs.events import Event
from ..jobs.job import Job, new_job_id
from ..process.threads import in_own_thread
from ..runtime import Runtime, ServedApp
from ..serve.build import FACES, by_face
from ..settings import Settings

_TICK_S = 1.0
_LAST_RESORT = ("WARN", "ERROR")  # what logging writes to stderr where there is no handler


async def run_once(
    app: type[App],
    path: str,
    data: Any,
    settings: Settings,
    *,
    show: Callable[[str, Any], None],
    shows_previews: bool,
    job_id: str | None = None,
) -> Job:
    """Run an endpoint and return its job, which is over then.

    Cancelling the task that awaits this cancels the job, and waits for its step to end.

    Args:
        data: the endpoint's arguments, as a request's JSON would have them.
        show: called with name and data of each event but the last, in order, in threads.
        job_id: the job's; a new one where it is None.
    Raises:
        NotFound: the app has no endpoint at `path`.
        InvalidInput: the data are not what it takes.
        MalformedRequest: it can only be called over HTTP.
    """
    runtime = Runtime([app()], settings, make_workers=by_face(FACES))
    (served,) = runtime.served
    spec = _find(served, path)
    arguments = await _read(served, spec, data)
    request = served.request(spec, job_id or new_job_id(), input=to_json(data), is_detached=True)
    job = Job(request, settings, arguments=arguments, answer=Answer())
    subscriber = job.channel.subscribe(is_owner=True, shows_previews=shows_previews)
    try:
        await runtime.submit(job, served, spec)
        while not job.is_over or subscriber.n < job.channel.last_n:
            await subscriber.wait(_TICK_S)
            await in_own_thread("display", _show, subscriber.take(), show)
    finally:
        job.cancel("interrupted")
        await runtime.drain()
        await runtime.stop()
    return job


def _show(events: list[Event], show: Callable[[str, Any], None]) -> None:
    for event in events:
        if not event.is_terminal and not (event.kind == "log" and _is_on_screen(event.json())):
            show(event.name, event.json())


def _is_on_screen(log: dict[str, Any]) -> bool:
    """Tell whether a captured line is on the terminal as it is: what the app printed, or a handler of its own wrote."""
    logger = logging.getLogger(log["source"]) if log["source"] in _loggers() else None
    is_written = logger is not None and (logger.hasHandlers() or log["level"] in _LAST_RESORT)
    return is_written or log["level"] in ("STDOUT", "STDERR")


def _loggers() -> set[str]:
    """Return the names of all loggers; lines that apps emit themselves are by "app" unless they say otherwise."""
    return {"root", *logging.root.manager.loggerDict} - {"app"}


def _find(served: ServedApp, path: str) -> EndpointSpec:
    for spec in served.endpoints:
        if spec.path.strip("/") == path.strip("/"):
            return spec
    name, paths = type(served.app).__name__, ", ".join(spec.path for spec in served.endpoints)
    if any(spec.path.strip("/") == path.strip("/") for spec in served.session_specs):
        raise NotFound(f"{name} has a session at {path!r}, to which inputs come by a WebSocket; serve the app")
    raise NotFound(f"{name} has no endpoint {path!r}; it has {paths or 'sessions only'}")


async def _read(served: ServedApp, spec: EndpointSpec, data: Any) -> dict[str, Any]:
    try:
        arguments = await served.reader_of(spec).validate(data)
    except RequestValidationError as error:
        raise InvalidInput(described(error)) from None
    if any(parameter.name not in arguments for parameter in spec.parameters):
        raise MalformedRequest(f"{spec.path} needs a request of its own; use `streamapp serve` and `streamapp call`")
    return arguments
