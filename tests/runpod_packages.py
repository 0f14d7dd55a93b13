"""The real packages of Runpod that the tests drive, unmodified: clients, and workers that we give jobs.

Without a package its tests are skipped, but in CI they fail: `make test` installs them.
"""

import json
import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
from tests import processes
from tests.fal_packages import JS, environment, needs
from tests.waiting import WAIT_S

from streamapp.runpod.environment import worker_variables

TESTS = Path(__file__).parent
PYTHON = TESTS / ".venvs" / "runpod" / "bin" / "python"
APPS = TESTS / "apps"
KEY = "a-key-of-callers"
SECRET = "a-secret-of-workers-alone"
#: items that are true of nothing, or of more than ASCII; the last one's error is none
ANYTHING = [None, "", 0, False, [], {}, 1.5, [1, [2]], "Grüße \u2028 😀", {"error": "", "kept": 1}]

needs_runpod = needs(PYTHON.exists(), "the package runpod is missing; run `make test`")
needs_runpod_js = needs((JS / "node_modules" / "runpod-sdk").is_dir(), "the npm packages are missing; run `make test`")


def serving(
    *arguments: str | Path, python: Path | None = None, **variables: str
) -> AbstractContextManager[tuple[str, processes.Process]]:
    """Serve with a key; yield the URL and the process. `python=PYTHON` has the real package for handlers to import."""
    env = {**environment(), "STREAMAPP_API_KEY": KEY, **with_source(), **variables}
    return processes.serving(*map(str, arguments), python=str(python) if python else None, env=env)


def with_source() -> dict[str, str]:
    """Return the path on which any interpreter finds streamapp, as this one has."""
    root = TESTS.parent
    return {"PYTHONPATH": os.pathsep.join(map(str, (root / "src", root / "client_sdk" / "python" / "src")))}


def call(script: Path, url: str, **variables: str) -> Any:
    """Run a script of Runpod's Python clients against a server; return what it prints as JSON."""
    return printed([str(PYTHON), str(script)], url, **variables)


def call_js(script: Path, url: str) -> Any:
    """Run a script of Runpod's JavaScript client against a server; return what it prints as JSON."""
    return printed(["node", str(script)], url)


def printed(command: list[str], url: str, **variables: str) -> Any:
    """Run a command that calls a server; return what it prints as JSON."""
    env = {**environment(), "RUNPOD_ENDPOINT_BASE_URL": f"{url}/v2", "RUNPOD_KEY": KEY, **variables}
    ended = subprocess.run(command, env=env, capture_output=True, text=True, timeout=WAIT_S, check=False)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return json.loads(ended.stdout)


@contextmanager
def working(script: str | Path, url: str, endpoint_id: str, **variables: str) -> Iterator["subprocess.Popen[bytes]"]:
    """Have the real package run a handler's file, unmodified, with the environment that `streamapp worker` prints."""
    env = {**environment(), **worker_variables(endpoint_id, url, SECRET), **variables}
    quiet = subprocess.DEVNULL
    command = [str(PYTHON), "-u", str(script)]
    process = subprocess.Popen(command, env=env, stdout=quiet, stderr=quiet, start_new_session=True)
    try:
        yield process
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)  # with the process that pings, which outlives it
        process.wait()


class Caller:
    """Ask as Runpod's clients do, without their sleeps."""

    def __init__(self, url: str) -> None:
        self.http = httpx.Client(base_url=url, headers={"Authorization": f"Bearer {KEY}"}, timeout=WAIT_S)

    def run(self, endpoint_id: str, **input: Any) -> str:
        """Start a job; return its id."""
        return str(self._post(f"/v2/{endpoint_id}/run", json={"input": input})["id"])

    def poll(self, endpoint_id: str, job_id: str) -> Any:
        """Return the next answer of /stream."""
        return self._post(f"/v2/{endpoint_id}/stream/{job_id}")

    def stream(self, endpoint_id: str, job_id: str) -> Iterator[Any]:
        """Yield what the job outputs, until its end."""
        while (answer := self.poll(endpoint_id, job_id))["status"] in ("IN_QUEUE", "IN_PROGRESS"):
            for item in answer["stream"]:
                yield item["output"]

    def status(self, endpoint_id: str, job_id: str) -> Any:
        """Return what is known of a job."""
        return self._post(f"/v2/{endpoint_id}/status/{job_id}")

    def end(self, endpoint_id: str, job_id: str) -> Any:
        """Wait for the end of a job; return what is known of it."""
        while (state := self._post(f"/v2/{endpoint_id}/status-sync/{job_id}"))["status"] in ("IN_QUEUE", "IN_PROGRESS"):
            pass
        return state

    def cancel(self, endpoint_id: str, job_id: str) -> Any:
        """Cancel a job."""
        return self._post(f"/v2/{endpoint_id}/cancel/{job_id}")

    def _post(self, path: str, **asked: Any) -> Any:
        return self.http.post(path, **asked).raise_for_status().json()
