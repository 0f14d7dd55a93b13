"""The real packages of Runpod that the tests drive, unmodified: clients, and workers that we give jobs.

Without a package its tests are skipped, but in CI they fail: `make test` installs them.
"""

import json
import os
import subprocess
import sys
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from tests import processes
from tests.fal_packages import JS, environment, needs
from tests.waiting import WAIT_S

TESTS = Path(__file__).parent
PYTHON = TESTS / ".venvs" / "runpod" / "bin" / "python"
APPS = TESTS / "apps"
KEY = "a-key-of-callers"
SECRET = "a-secret-of-workers"

needs_runpod = needs(PYTHON.exists(), "the package runpod is missing; run `make test`")
needs_runpod_js = needs((JS / "node_modules" / "runpod-sdk").is_dir(), "the npm packages are missing; run `make test`")


def serving(
    *arguments: str | Path, python: str | Path = sys.executable, **variables: str
) -> AbstractContextManager[tuple[str, "subprocess.Popen[str]"]]:
    """Serve with a key; yield the URL and the process. `python=PYTHON` has the real package for handlers to import."""
    env = {**environment(), "STREAMAPP_API_KEY": KEY, **with_source(), **variables}
    return processes.serving(*map(str, arguments), python=str(python), env=env)


def with_source() -> dict[str, str]:
    """Return the path on which any interpreter finds streamapp, as this one has."""
    root = TESTS.parent
    return {"PYTHONPATH": os.pathsep.join(map(str, (root / "src", root / "client_sdk" / "python" / "src")))}


def call(script: Path, url: str, *arguments: str, **variables: str) -> Any:
    """Run a script of Runpod's Python clients against a server; return what it prints as JSON."""
    return json.loads(printed([str(PYTHON), str(script), *arguments], url, **variables))


def call_js(code: str, url: str) -> Any:
    """Run the body of a function which has `endpoint` of Runpod's JavaScript client; return what it returns."""
    code = f"""
        import runpodSdk from "runpod-sdk";
        const {{ log }} = console;
        console.log = () => {{}}; // it tells each status there
        const told = (error) => ({{ status: error.response?.status, message: error.message }});
        const endpoint = (id, key = "{KEY}") => runpodSdk(key, {{ baseUrl: "{url}/v2" }}).endpoint(id);
        const main = async () => {{ {code} }};
        log(JSON.stringify(await main()) ?? null);
    """
    return json.loads(printed(["node", "--input-type=module", "-e", code], url))


def printed(command: list[str], url: str, **variables: str) -> str:
    """Run a command that calls a server; return what it prints."""
    env = {**environment(), "RUNPOD_ENDPOINT_BASE_URL": f"{url}/v2", "RUNPOD_KEY": KEY, **variables}
    ended = subprocess.run(command, cwd=JS, env=env, capture_output=True, text=True, timeout=WAIT_S, check=False)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return ended.stdout
