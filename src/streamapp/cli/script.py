"""Run or serve a handler from its own script: what `python handler.py` shows, and how it ends.

What was asked for, `runpod/local` has read. All that the handler yields is printed on stdout as it comes, each a line
of JSON.
"""

import json
import os
import signal
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TextIO

import typer

from ..addresses import is_loopback
from ..errors import InvalidInput
from ..process.ending import LastResort
from ..process.logs import logger
from ..runpod.apps import QueueApp
from ..runpod.unprefixed import led_without_prefix
from ..serve import server
from ..serve.build import FACES, compile_app
from ..settings import get_settings
from .main import LogLevel, Project, explaining, run_shown, serve_compiled, set_up_logging
from .run_once import run_once
from .terminal import Display, print_error

_OUT = Path("out")
_LEVELS: dict[str, LogLevel] = {"TRACE": "debug", "DEBUG": "debug", "INFO": "info", "WARN": "warning"}
_INTERRUPTED = 128 + signal.SIGINT


def run_script(app: type[QueueApp], job: Mapping[str, Any], asked: Mapping[str, Any], *, is_generator: bool) -> int:
    """Run a handler once, and print its outputs and result; returns the exit code.

    Args:
        job: its `id` and `input`.
        asked: the script's arguments.
        is_generator: it yields, as what is written shows; what yields otherwise shows by how much comes.
    """
    return exit_code_of(lambda: _run(app, job, asked, is_generator))


def serve_script(app: type[QueueApp], asked: Mapping[str, Any]) -> int:
    """Serve a handler until a signal comes; returns the exit code."""
    return exit_code_of(lambda: _serve(app, asked))


def exit_code_of(run: Callable[[], int]) -> int:
    """Return what a command of a script ends with; what is wrong is told in a line."""
    try:
        with explaining():
            return run()
    except typer.Exit as end:
        return end.exit_code
    except KeyboardInterrupt:
        return _INTERRUPTED
    except BrokenPipeError:  # nobody reads what is printed; Python would fail once more as it flushes
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1


def _run(app: type[QueueApp], job: Mapping[str, Any], asked: Mapping[str, Any], is_generator: bool) -> int:
    set_up_logging(_log_level(asked, "warning"))
    settings = get_settings().model_copy(update={"debug": True})  # who reads the error has written the handler
    outputs: list[Any] = []
    stdout = sys.stdout
    with Display(_OUT, saves_previews=True) as display:

        def show(name: str, data: Any) -> None:
            if name == "output":
                outputs.append(display.finish_output(data))
                _print(outputs[-1], stdout)
            else:
                display.show(name, data)

        running = run_once(app, "/stream", job["input"], settings, show=show, shows_previews=True, job_id=job["id"])
        ended = run_shown(running, display)
    if ended.error is not None:
        print_error(f"{ended.error.code}: {ended.error.message}")
        return 1
    if app.aggregates and (is_generator or len(outputs) != 1):
        _print(outputs, stdout)
    return 0


def _serve(app: type[QueueApp], asked: Mapping[str, Any]) -> int:
    settings, host = get_settings(), asked["rp_api_host"]
    if not is_loopback(host) and settings.api_key is None:
        raise InvalidInput(
            f"--rp_api_host {host} lets other machines in, and no key guards the server; set "
            f"STREAMAPP_API_KEY=<secret>, or write streamapp serve {sys.argv[0]} --host {host} --no-auth to let "
            "everybody in"
        )
    project = Project(
        apps=[sys.argv[0]],
        host=host,
        port=asked["rp_api_port"],
        log_level=_log_level(asked, "info"),
    )
    set_up_logging(project.log_level)
    if asked["rp_api_concurrency"] != 1:
        logger.warning("--rp_api_concurrency is without effect: concurrency_modifier says how many jobs run at once")
    if asked["rp_debugger"]:
        settings = settings.model_copy(update={"debug": True})
    api = compile_app(app, settings=settings, faces=(led_without_prefix(str(app.app_name)), *FACES))
    code = serve_compiled(api, project)
    LastResort().arm(server.FORCED_END_S, code)  # what Python would still wait for has a moment
    return code


def _log_level(asked: Mapping[str, Any], default: LogLevel) -> LogLevel:
    return _LEVELS.get(asked["rp_log_level"], "error") if asked["rp_log_level"] else default


def _print(value: Any, stdout: TextIO) -> None:
    """Print a value as one line of JSON on stdout.

    Args:
        stdout: what it was before a progress bar put itself in between, and before what is on a terminal only.
    """
    is_ascii = not stdout.encoding.lower().startswith("utf")
    typer.echo(json.dumps(value, ensure_ascii=is_ascii), sys.stdout if stdout.isatty() else stdout)
