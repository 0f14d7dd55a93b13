"""Run the commands of a page: folder, variables and servers that one leaves are those of what comes behind it."""

import os
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from itertools import groupby
from pathlib import Path

from tests import processes
from tests.waiting import WAIT_S

ROOT = Path(__file__).parent.parent.parent
VENVS = ROOT / "tests" / ".venvs"
PORT = "8000"
_ADDRESS = re.compile(r"\b127\.0\.0\.1:(\d{4})\b")
_SERVES = re.compile(r"([A-Z_]+=\S+ +)*streamapp serve\b[^|]*$")
# Top-level `await` is a notebook's.
_SCRIPT = """
import ast, asyncio, inspect, sys
code = compile(sys.stdin.read(), "snippet", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
names = {"__name__": "__main__"}
if code.co_flags & inspect.CO_COROUTINE:
    asyncio.run(eval(code, names))
else:
    exec(code, names)
"""


class Shell:
    """Hold what commands leave to those behind them.

    Args:
        folder: where the first one runs.
        ends: ends the servers, and what else goes on.
    """

    def __init__(self, folder: Path, ends: ExitStack) -> None:
        self.folder = folder
        self.ends = ends
        path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
        given = {"PATH": path, "REPOSITORY": str(ROOT), "PYTHONUNBUFFERED": "1", "NO_COLOR": "1"}
        self.variables = {**os.environ, **given}
        #: by the port that the page says, where the server is, and what ends it
        self._servers: dict[str, tuple[str, ExitStack]] = {}

    def run(self, text: str, *, venv: str | None = None) -> str:
        """Run commands one after another; return what they print.

        Args:
            venv: one of tests/.venvs, whose Python is meant.
        """
        lines = re.sub(r"\\\n\s*", "", text).splitlines(keepends=True)
        printed = [self._run(way, self.placed("".join(found)), venv) for way, found in groupby(lines, _way_of)]
        return "".join(printed)

    def python(self, code: str, *, venv: str | None = None) -> str:
        """Run a script; return what it prints."""
        return self.command(["python", "-c", _SCRIPT], self.placed(code), venv=venv)

    def command(self, command: list[str], given: str = "", *, venv: str | None = None) -> str:
        """Run a program with an input; return what it prints."""
        done = subprocess.run(
            ["env", *command],  # which looks for it on the path given
            cwd=self.folder,
            env=self._environment(venv),
            input=given,
            capture_output=True,
            text=True,
            timeout=WAIT_S,
            check=False,
        )
        assert done.returncode == 0, f"exit code {done.returncode}:\n{done.stdout}{done.stderr}"
        return done.stdout

    def placed(self, text: str) -> str:
        """Return a text with the addresses of the servers that run."""
        return _ADDRESS.sub(lambda found: self.address(found[1]) or found[0], text)

    def address(self, port: str = PORT) -> str | None:
        """Return where the server of a port is."""
        return self._servers[port][0] if port in self._servers else None

    def _run(self, way: str, text: str, venv: str | None) -> str:
        if way == "serves":
            for line in text.splitlines():
                self._serve(shlex.split(line, comments=True))
            return ""
        if way == "stays":
            self.ends.enter_context(_staying(text, self.folder, self._environment(venv)))
            return ""
        script = f"""{text}\nprintf '\\0%s\\0' "$PWD"; env --null"""
        printed, _, left = self.command(["bash", "-euo", "pipefail", "-c", script], venv=venv).partition("\0")
        assert left, "it exits, so what it leaves is not known"
        folder, *variables = left.rstrip("\0").split("\0")
        self.folder = Path(folder)
        self.variables = dict(each.split("=", 1) for each in variables) | {"PATH": self.variables["PATH"]}
        return printed

    def _serve(self, words: list[str]) -> None:
        """Serve until another server takes the port, or the page ends."""
        begin = words.index("streamapp")
        settings, arguments = dict(word.split("=", 1) for word in words[:begin]), words[begin + 2 :]
        port = PORT
        if "--port" in arguments:
            place = arguments.index("--port")
            _, port = arguments[place : place + 2]
            del arguments[place : place + 2]
        if port in self._servers:
            self._servers.pop(port)[1].close()
        end = self.ends.enter_context(ExitStack())
        serving = processes.serving(*arguments, env=self.variables | settings, folder=self.folder)
        url, _ = end.enter_context(serving)
        self._servers[port] = url.partition("://")[2], end

    def _environment(self, venv: str | None) -> dict[str, str]:
        path = self.variables["PATH"]
        return {**self.variables, "PATH": f"{VENVS / venv / 'bin'}{os.pathsep}{path}" if venv else path}


def _way_of(line: str) -> str:
    if _SERVES.match(line):
        return "serves"
    return "stays" if line.endswith("&\n") else "ends"


@contextmanager
def _staying(line: str, folder: Path, environment: Mapping[str, str]) -> Iterator[None]:
    """Run a command, and all that it starts, as long as this is entered."""
    quiet = subprocess.DEVNULL
    command = ["bash", "-c", line.rstrip("&\n")]
    with subprocess.Popen(
        command, cwd=folder, env=environment, stdin=quiet, stdout=quiet, stderr=quiet, start_new_session=True
    ) as process:
        try:
            yield
        finally:
            os.killpg(process.pid, signal.SIGKILL)
