"""Hold each module's branch coverage by its own test file: `make coverage`.

The modules that carry the promises (values, jobs, workers, responses, middleware) to 100 %, the rest to 90 %.
"""

import io
import itertools
import multiprocessing
import os
import sys
import tempfile
from collections import defaultdict
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import coverage
import pytest

TESTS = Path(__file__).parent
SOURCE = TESTS.parent / "src" / "streamapp"
WHOLE = {
    "later",
    *("text", "errors", "budget", "places", "jsontext", "settings", "media", "largefile", "addresses", "fetch"),
    *("session", "llm.sampling", "llm.cache", "llm.batching"),
    *(
        "jobs.content",
        "jobs.events",
        "jobs.packing",
        "jobs.log",
        "jobs.pace",
        "jobs.delivery",
        "jobs.subscriber",
        "jobs.channel",
    ),
    *("jobs.inbox", "jobs.stream", "jobs.job", "jobs.jobs"),
    *("workers.results", "workers.worker", "workers.capture", "workers.binding", "workers.sessions"),
    *("workers.modes", "workers.turns", "workers.thread", "workers.tasks", "workers.production", "workers.watchdog"),
    *("http.frames", "http.call", "http.outputs", "http.answer", "http.connection", "http.response", "http.middleware"),
    *("http.broadcast", "http.sites", "http.tokens", "http.pages"),
    *("sockets.wire", "sockets.own_frames", "sockets.fal_frames"),
    *("sockets.outgoing", "sockets.live", "sockets.outbox", "fal.tokens"),
    *("openai.asked", "openai.errors", "openai.upstream", "openai.answers"),
    *("follow", "webrtc.pieces", "webrtc.film", "webrtc.offers", "webrtc.bounds", "webrtc.signalling"),
}
REST_PERCENT = 90
# What these own needs a process of its own, which coverage does not follow, or is tested together.
ELSEWHERE = {
    "serve.server": "test_end_to_end.py",
    "jobs.store": "test_jobs.py",
    **dict.fromkeys(("sockets.conversation", "sockets.fal_socket", "sockets.own_socket"), "test_realtime.py"),
    **dict.fromkeys(("webrtc.datasocket", "webrtc.peer"), "test_webrtc_peer.py"),
    "cli.main": "test_cli.py",
    "cli.dockerfile": "test_image.py",
    "openai.face": "test_openai_api.py",
    "chutes.cords": "test_chutes_apps.py",
    **dict.fromkeys(
        (f"runpod.serverless.utils.rp_{name}" for name in ("cleanup", "cuda", "debugger", "download", "upload")),
        "test_runpod_utils.py",
    ),
    "runpod.serverless.utils.rp_volume_cache": "test_runpod_utils.py",
    **dict.fromkeys(
        (f"runpod.serverless.modules.rp_{name}" for name in ("fitness", "logger", "progress")),
        "test_runpod_serverless.py",
    ),
    **dict.fromkeys(("testing.client", "testing.transport", "testing.pipeline"), "test_testing.py"),
}
# What most tests import, but nothing that is measured. They run in forks of a process that has it already: half of the
# time of a small test file is its imports, and longer while they are measured.
PRELOADED = [
    *("pytest", "coverage", "hypothesis", "blockbuster"),
    *("fastapi", "starlette.testclient", "uvicorn", "websockets", "httpx", "prometheus_client"),
    *("msgpack", "PIL.Image", "typer", "rich"),
]
UNMEASURED = {"serve.server", "jobs.store", "fal.app"}


def own_tests(module: str) -> Path:
    """Return a module's own tests: test_<file>.py, or test_<room>_<file>.py where two rooms have such a file."""
    room, _, name = module.rpartition(".")
    of_room = TESTS / f"test_{room}_{name}.py"
    return TESTS / ELSEWHERE.get(module, of_room.name if of_room.exists() else f"test_{name}.py")


def measure(tests: Path, names: Sequence[str]) -> list[tuple[str, str, str]]:
    """Run the tests that some modules own, in a process for them alone.

    Returns each module's name, what it falls short by, and its figures.
    """
    files = {name: str(SOURCE.joinpath(*name.split(".")).with_suffix(".py")) for name in names}
    measured = coverage.Coverage(data_file=None, branch=True, include=[*files.values()])
    with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as output:
        with _printing_to(output):
            measured.start()
            # Not rewritten: of plugins that were imported before, as PRELOADED does, pytest would complain.
            # What is long has run in `make test-all`; no branch is left to it alone.
            asked = ["--all", "-m", "not long", "-p", "no:cacheprovider"]
            code = pytest.main(["-q", *asked, "--assert=plain", str(tests)])
            measured.stop()
        output.seek(0)
        failed = output.read() if code else ""
    found = []
    for name, file in files.items():
        report = io.StringIO()
        percent = measured.report([file], file=report)
        falls_short = percent < 100 if name in WHOLE else round(percent) < REST_PERCENT
        short = report.getvalue() if falls_short else ""
        line = next((line for line in report.getvalue().splitlines() if line.startswith("TOTAL")), "no figure")
        found.append((name, failed + short, line))
        failed = failed and "its tests failed, see above\n"
    return found


@contextmanager
def _printing_to(output: IO[str]) -> Iterator[None]:
    """Have what this process prints, or what it starts, go there."""
    before = [(number, os.dup(number)) for number in (1, 2)]
    for number, _ in before:
        os.dup2(output.fileno(), number)
    try:
        yield
    finally:
        sys.stdout.flush()
        for number, saved in before:
            os.dup2(saved, number)
            os.close(saved)


def modules() -> list[str]:
    """Return the modules whose coverage is held, by their places below `streamapp`."""
    found = []
    for path in sorted(SOURCE.rglob("*.py")):
        parts = path.relative_to(SOURCE).with_suffix("").parts
        if parts[-1] not in ("__init__", "__main__") and not {"toolkit", "shims", "playground"} & {*parts[:-1]}:
            found.append(".".join(parts))
    return [module for module in found if module not in UNMEASURED]


def main() -> int:
    """Measure every module; returns 1 when one falls short."""
    owned = defaultdict[Path, list[str]](list)
    for name in modules():
        owned[own_tests(name)].append(name)
    count = failed = 0
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOADED)
    with ProcessPoolExecutor(2, context, max_tasks_per_child=1) as pool:
        for name, short, line in itertools.chain.from_iterable(pool.map(measure, owned, owned.values())):
            sys.stdout.write(f"{name:20} {line}\n{short}")
            sys.stdout.flush()
            count += 1
            failed += bool(short)
    sys.stdout.write(f"{count - failed} passed, {failed} failed\n")
    return bool(failed)


if __name__ == "__main__":
    sys.exit(main())
