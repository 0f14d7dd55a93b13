"""Do what `python handler.py` asks for: run the handler once, serve it, or work for Runpod.

The arguments, and which of them counts before which, are those of Runpod's package: `--rp_serve_api`; then
`--test_input`; then `RUNPOD_WEBHOOK_GET_JOB`, by which Runpod's machines have the script fetch jobs, for which that
package is needed; else `./test_input.json`. What is wrong with them is told in a line, and ends the script with 1.

Divergence: the command line, which runs and shows the job or starts the server, is imported by its name when it is
called, as in `fal/app`: rooms to the right of this one, and a web server, which nobody needs who imports a handler.
"""

import argparse
import importlib
import inspect
import os
import sys
from pathlib import Path
from typing import Any, NoReturn

from pydantic_core import from_json

from ..errors import StreamAppError
from . import progress
from .handlers import handler_app, registered_checks
from .loading import name_of
from .logger import RunPodLogger, level_name

_TEST_FILE = Path("test_input.json")
_TAKES_JOBS = "RUNPOD_WEBHOOK_GET_JOB"


def run_as_script(config: dict[str, Any]) -> NoReturn:
    """Do what the command line asks for, and end the process.

    Call it in the main thread. Known arguments are taken out of `sys.argv`, and stand in `config["rp_args"]`.
    """
    given, others = _parser().parse_known_args()
    asked = vars(given)
    if _works(asked):
        _work(config)
    sys.argv[1:] = others
    app = _app(config)
    job = None if asked["rp_serve_api"] else _read_job(asked)
    config["rp_args"] = {**asked, "test_input": asked["test_input"] and job}
    if asked["rp_log_level"]:
        RunPodLogger().set_level(asked["rp_log_level"])
    commands = importlib.import_module("streamapp.cli.script")
    if job is None:
        sys.exit(commands.serve_script(app, asked))
    sys.exit(commands.run_script(app, job, asked, is_generator=_is_generator(config["handler"])))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="Run a handler that was written for Runpod, once or as a server.")
    add = parser.add_argument
    add("--test_input", metavar="JSON", help='run it once with {"input": ...}; else with ./test_input.json')
    add("--rp_serve_api", action="store_true", default=None, help="serve it over HTTP")
    add("--rp_api_host", default="localhost", help="listen here")
    add("--rp_api_port", type=_port, default=8000, help="listen here, 8000 when not given; 0 takes a free one")
    add("--rp_api_concurrency", type=int, default=1, help="without effect: the handler's concurrency_modifier says it")
    add("--rp_log_level", type=_level, help="ERROR, WARN, INFO or DEBUG")
    add("--rp_debugger", action="store_true", default=None, help="tell callers the tracebacks of what it raises")
    return parser


def _level(text: str) -> str:
    try:
        return level_name(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _port(text: str) -> int:
    if not text.isdecimal() or int(text) > 65535:
        raise argparse.ArgumentTypeError(f"expected a port, 0 to 65535, got {text[:20]!r}")
    return int(text)


def _works(asked: dict[str, Any]) -> bool:
    """Say whether the script is to fetch jobs."""
    if asked["rp_serve_api"]:
        return False
    if (port := os.environ.get("RUNPOD_REALTIME_PORT", "0")) != "0":
        sys.exit(f"RUNPOD_REALTIME_PORT={port}: realtime is not served; unset it, and write --rp_serve_api instead")
    return asked["test_input"] is None and bool(os.environ.get(_TAKES_JOBS))


def _work(config: dict[str, Any]) -> NoReturn:
    """Have Runpod's own package fetch the jobs; it reads the arguments itself, and gets what was meant for it."""
    try:
        package = importlib.import_module("runpod")
    except ModuleNotFoundError:
        sys.exit(f"{_TAKES_JOBS} is set, so that jobs are to be fetched; for that pip install runpod, or unset it")
    for check in registered_checks():
        package.serverless.register_fitness_check(check)
    progress.elsewhere = package.serverless.progress_update
    package.serverless.start(config)
    sys.exit()


def _app(config: dict[str, Any]) -> Any:
    try:
        return handler_app(config, name=name_of(Path(sys.argv[0]).resolve()))
    except StreamAppError as error:
        sys.exit(error.message)


def _is_generator(handler: Any) -> bool:
    return inspect.isgeneratorfunction(handler) or inspect.isasyncgenfunction(handler)


def _read_job(asked: dict[str, Any]) -> dict[str, Any]:
    where, text = "--test_input", asked["test_input"]
    if text is None:
        where, text = str(_TEST_FILE), _read_file()
    try:
        job = from_json(text)
    except (ValueError, TypeError) as error:  # the second of an argument that is no Unicode
        sys.exit(f"{where}: expected JSON: {error}")
    if not isinstance(job, dict) or job.get("input") is None:
        sys.exit(f'{where}: expected {{"input": ...}}, got {text.strip()[:200]}')
    return {**job, "id": str(job.get("id") or "local_test")}


def _read_file() -> str:
    try:
        return _TEST_FILE.read_text("utf-8-sig")
    except FileNotFoundError:
        sys.exit(
            f"there is no {_TEST_FILE} in {Path.cwd()}; write --test_input '{{\"input\": ...}}', or --rp_serve_api to "
            "serve the handler"
        )
    except (OSError, ValueError) as error:
        sys.exit(f"{_TEST_FILE}: {error}")
