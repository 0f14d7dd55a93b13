"""Hold each module's branch coverage by its own test file: `make coverage`.

The modules that carry the promises (values, jobs, workers, responses, middleware) to 100 %, the rest to 90 %.
"""

import os
import subprocess
import sys
import tempfile
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


def measure(module: str) -> tuple[str, int, str]:
    """Run a module's own tests; return (module, exit code, what they printed)."""
    percent = 100 if module in WHOLE else REST_PERCENT
    with tempfile.TemporaryDirectory() as place:
        command = [
            *(sys.executable, "-m", "pytest", "-q", "--all", "-p", "no:cacheprovider", str(own_tests(module))),
            *(f"--cov=streamapp.{module}", "--cov-branch", "--cov-report=term-missing"),
            f"--cov-fail-under={percent}",
        ]
        run = subprocess.run(
            command, capture_output=True, text=True, env={**os.environ, "COVERAGE_FILE": f"{place}/data"}, check=False
        )
    return module, run.returncode, run.stdout + run.stderr


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
    names, failed = modules(), []
    with ThreadPoolExecutor(2) as pool:
        for module, code, printed in pool.map(measure, names):
            line = next((line for line in printed.splitlines() if line.startswith("TOTAL")), "no figure")
            sys.stdout.write(f"{module:20} {line}\n")
            sys.stdout.flush()
            if code:
                failed.append(module)
                sys.stdout.write(printed + "\n")
    sys.stdout.write(f"{len(names) - len(failed)} passed, {len(failed)} failed\n")
    return bool(failed)


if __name__ == "__main__":
    sys.exit(main())
