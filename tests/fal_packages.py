"""The real packages of fal that the tests drive, unmodified, and the server that they call.

Without a package its tests are skipped, but in CI they fail: `make test` installs them.
"""

import os
import shlex
import shutil
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import httpx
import pytest
from tests import processes
from tests.processes import read_until
from tests.waiting import WAIT_S

TESTS = Path(__file__).parent
JS = TESTS / "js"
FAL = TESTS / ".venvs" / "fal" / "bin" / "fal"
APPS = TESTS / "apps"
APP = APPS / "fal_calls.py"
SESSIONS = APPS / "fal_sessions.py"
ID = "me/fal-calls"


def needs(is_there: bool, reason: str) -> pytest.MarkDecorator:
    return pytest.mark.skipif(not is_there and "CI" not in os.environ, reason=reason)


needs_node = needs(shutil.which("node") is not None, "node is missing")
needs_fal_js = needs((JS / "node_modules" / "@fal-ai").is_dir(), "the npm packages are missing; run `make test`")
needs_fal = needs(FAL.exists(), "the package fal is missing; run `make test`")


def serving(
    *options: str, app: str = "FalCalls", **variables: str
) -> AbstractContextManager[tuple[str, processes.Process]]:
    """Serve an app; yield the URL and the process, whose further output is still to be read."""
    file = SESSIONS if app == "FalSessions" else APP
    return processes.serving(f"{file}:{app}", *options, env={**environment(), **variables})


@contextmanager
def serving_tls(folder: Path, app: str = "FalCalls", **variables: str) -> Iterator[tuple[str, dict[str, str]]]:
    """Serve an app over TLS; yield the URL and the variables that it tells its clients to have."""
    with serving("--tls", "--tls-dir", str(folder), app=app, **variables) as (url, process):
        exports = [read_until(process.stdout, name) for name in ("SSL", "NODE", "FAL_RUN", "FAL_QUEUE", "FAL_WS")]
        yield url, dict(shlex.split(line)[1].split("=", 1) for line in exports)


def open_gate(url: str) -> None:
    """Let the slow endpoint go on."""
    httpx.post(f"{url}/open", json={}, timeout=WAIT_S).raise_for_status()


def environment() -> dict[str, str]:
    """Return this process's environment without what points fal's clients anywhere."""
    return {name: value for name, value in os.environ.items() if not name.startswith(("FAL_", "STREAMAPP_"))}
