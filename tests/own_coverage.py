"""Hold each module's branch coverage by its own test file: `make coverage`.

The modules that carry the promises (values, jobs, workers, responses, middleware) to 100 %, the rest to 90 %.
"""

import itertools
import os
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

TESTS = Path(__file__).parent
SOURCE = TESTS.parent / "src" / "streamapp"
WHOLE = {
    *("text", "errors", "budget", "places", "jsontext", "settings", "media", "addresses", "fetch"),
    "session",
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
    *("workers.thread", "workers.tasks", "workers.production", "workers.watchdog"),
    *("http.frames", "http.call", "http.outputs", "http.answer", "http.connection", "http.response", "http.middleware"),
    *("http.broadcast", "http.sites", "http.tokens", "http.pages"),
    *("sockets.wire", "sockets.own_frames", "sockets.fal_frames"),
    *("sockets.outgoing", "sockets.live", "sockets.outbox", "fal.tokens"),
}
REST_PERCENT = 90
# What these own needs a process of its own, which coverage does not follow, or is tested together.
ELSEWHERE = {
    "serve.server": "test_end_to_end.py",
    "jobs.store": "test_jobs.py",
    **dict.fromkeys(("sockets.conversation", "sockets.fal_socket", "sockets.own_socket"), "test_realtime.py"),
    **dict.fromkeys(("webrtc.datasocket", "webrtc.peer"), "test_webrtc_peer.py"),
    "cli.main": "test_cli.py",
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
UNMEASURED = {"serve.server", "jobs.store", "fal.app"}


def own_tests(module: str) -> Path:
    """Return a module's own tests: test_<file>.py, or test_<room>_<file>.py where two rooms have such a file."""
    room, _, name = module.rpartition(".")
    of_room = TESTS / f"test_{room}_{name}.py"
    return TESTS / ELSEWHERE.get(module, of_room.name if of_room.exists() else f"test_{name}.py")


def measure(tests: Path, names: Sequence[str]) -> list[tuple[str, str, str]]:
    """Run the tests that some modules own; return of each its name, what it falls short by, and its figures."""
    files = {name: str(SOURCE.joinpath(*name.split(".")).with_suffix(".py")) for name in names}
    with tempfile.TemporaryDirectory() as place:
        environment = {**os.environ, "COVERAGE_FILE": f"{place}/data"}

        def coverage(*arguments: str) -> subprocess.CompletedProcess[str]:
            command = [sys.executable, "-m", "coverage", *arguments]
            return subprocess.run(command, capture_output=True, text=True, env=environment, check=False)

        # Not by the modules' names, for which coverage imports the package: the tests would import all of it anew.
        measured = ("run", "--branch", f"--include={','.join(files.values())}")
        run = coverage(*measured, "-m", "pytest", "-q", "--all", "-p", "no:cacheprovider", str(tests))
        found, failed = [], run.stdout + run.stderr if run.returncode else ""
        for name, file in files.items():
            percent = 100 if name in WHOLE else REST_PERCENT
            report = coverage("report", f"--include={file}", f"--fail-under={percent}")
            short = report.stdout + report.stderr if report.returncode else ""
            line = next((line for line in report.stdout.splitlines() if line.startswith("TOTAL")), "no figure")
            found.append((name, failed + short, line))
            failed = failed and "its tests failed, see above\n"
    return found


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
    with ThreadPoolExecutor(2) as pool:
        for name, short, line in itertools.chain.from_iterable(pool.map(measure, owned, owned.values())):
            sys.stdout.write(f"{name:20} {line}\n{short}")
            sys.stdout.flush()
            count += 1
            failed += bool(short)
    sys.stdout.write(f"{count - failed} passed, {failed} failed\n")
    return bool(failed)


if __name__ == "__main__":
    sys.exit(main())
