"""Serve apps from their own process: `App.serve` in a script, as `streamapp serve` does, or beside what runs there.

Beside other code the server has a thread and a loop of its own. It takes no signals, arms nothing that ends the
process, and leaves the garbage collector and the switch interval as they are. It ends by its handle's `stop`, and when
Python ends.
"""

import asyncio
import atexit
import gc
import logging
import socket
import sys
from collections.abc import Sequence
from contextlib import suppress
from functools import lru_cache, partial

from fastapi import FastAPI
from pydantic import ValidationError

from ..app import App
from ..errors import InvalidInput
from ..process.ending import LastResort
from ..process.logs import logger
from ..process.threads import begin_in_own_thread, is_main_thread, keep_spare
from ..runtime import Runtime
from ..serve import server
from ..serve.build import compile_app
from ..serving import Serving, run_within
from ..settings import get_settings
from .banner import shown_address
from .main import LogLevel, Project, is_open, listen, serve_compiled, set_up_logging
from .script import exit_code_of

_END_S = 5.0  # beyond `drain_s`, until all that is the server's has ended
_ENDING_THREADS = 4  # of an app: `handle_exit`, the files, and both its workers are waited for
#: those of this process whose server has not ended yet
_running: list[Serving] = []


def serve_apps(
    apps: Sequence[type[App]],
    *,
    host: str = "127.0.0.1",
    port: int = 8000,
    log_level: LogLevel | None = None,
    no_auth: bool = False,
    playground: bool = True,
    debug: bool | None = None,
    block: bool | None = None,
) -> Serving:
    """Serve apps as `App.serve` says; where it blocks it ends the process.

    Raises:
        InvalidInput: it is to block where it cannot; besides where it does not block what else `App.serve` names.
    """
    blocks = not (_is_on_loop() or hasattr(sys, "ps1")) if block is None else block  # the prompt of a Python that asks
    level = log_level or ("info" if blocks else "warning")
    try:
        project = Project(host=host, port=port, log_level=level, no_auth=no_auth, playground=playground, debug=debug)
    except ValidationError as error:
        wrong = "; ".join(f"{each['loc'][0]}={each['input']!r}: {each['msg']}" for each in error.errors())
        raise InvalidInput(f"serve(): {wrong}") from None
    if not blocks:
        return _begin(apps, project, sets_level=log_level is not None)
    if _is_on_loop():
        raise InvalidInput("block=True would hold up the event loop that runs here; leave it out")
    if not is_main_thread():
        raise InvalidInput("only the main thread hears the signals that end a server; write block=False, and stop() it")
    sys.exit(exit_code_of(lambda: _serve(apps, project)))


def _is_on_loop() -> bool:
    """Say whether an event loop runs in this thread."""
    with suppress(RuntimeError):
        asyncio.get_running_loop()
        return True
    return False


def _serve(apps: Sequence[type[App]], project: Project) -> int:
    set_up_logging(project.log_level)
    code = serve_compiled(_compiled(apps, project), project)
    LastResort().arm(server.FORCED_END_S, code)  # what Python would still wait for has a moment
    return code


def _begin(apps: Sequence[type[App]], project: Project, *, sets_level: bool) -> Serving:
    """Serve in a thread of its own; returns when the server has its port, and before the apps are ready."""
    _log_from(project.log_level, sets_level)
    api = _compiled(apps, project)
    runtime = api.state.runtime
    name = ", ".join(served.name for served in runtime.served)
    _stop_before(name, project)
    ours = server.Server(api, log_level=project.log_level)
    listener = listen(project)
    listener.set_inheritable(False)
    url = f"http://{shown_address(project.host, listener.getsockname()[1])}"
    serving = Serving(
        name,
        url,
        ready=[ours.accepts, *(served.ready for served in runtime.served)],
        ended=begin_in_own_thread(f"serve-{name}", run_within, _run, ours, listener, runtime),
        end=partial(setattr, ours, "should_exit", True),
        patience_s=runtime.settings.drain_s + _END_S,
    )
    keep_spare(_ENDING_THREADS * len(apps))
    _register()
    _running.append(serving)
    return serving


def _run(ours: server.Server, listener: socket.socket, runtime: Runtime) -> int:
    """Serve, and then let go of what the apps have set in `setup`: models, which are to make room for the next ones.

    The apps themselves live on: FastAPI keeps functions of theirs in caches of the process.
    """
    try:
        return server.serve_beside(ours, listener)
    finally:
        for served in runtime.served:
            vars(served.app).clear()
        gc.collect()


def _log_from(level: str, sets_level: bool) -> None:
    """Log to stderr where nobody has set up anything; else the level is all that is asked for."""
    own = logging.getLogger("streamapp")
    if not own.hasHandlers():
        set_up_logging(level)
    elif sets_level:
        own.setLevel(level.upper())


def _compiled(apps: Sequence[type[App]], project: Project) -> FastAPI:
    get_settings.cache_clear()  # the environment as it is now: a notebook's cells set it
    if is_open(project):
        raise InvalidInput(
            f"host={project.host!r} lets other machines in, and no key guards the server; set STREAMAPP_API_KEY, or "
            "write no_auth=True to let everybody in"
        )
    settings = get_settings()
    debug = settings.debug if project.debug is None else project.debug
    return compile_app(*apps, settings=settings.model_copy(update={"debug": debug}), playground=project.playground)


def _stop_before(name: str, project: Project) -> None:
    """End the server of this process that has the port, if it is of apps of the same names.

    Raises:
        InvalidInput: it is of others.
    """
    _running[:] = [serving for serving in _running if not serving.is_over]
    url = f"http://{shown_address(project.host, project.port)}"
    for serving in [serving for serving in _running if serving.url == url]:
        if serving.name != name:
            raise InvalidInput(
                f"cannot listen on {project.host}:{project.port}: this process serves {serving.name} there; stop() "
                "what its serve() has returned, or write another port, 0 for a free one"
            )
        logger.warning("%s is served anew at %s; the server before that ends first", name, url)
        serving.stop()


@lru_cache(maxsize=1)
def _register() -> None:
    atexit.register(_stop_all)


def _stop_all() -> None:
    for serving in _running:
        try:
            serving.stop()
        except TimeoutError as error:  # Python ends anyway
            logger.error("%s", error)
