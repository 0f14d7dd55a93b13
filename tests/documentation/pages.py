"""Run what a page shows, from its first block to its last, in a folder of its own.

- A block with a title, ```` ```python title="app.py" ````, is a file there.
- Each line of `sh` is a command: `export` and `cd` hold for what follows, and a line that begins with `streamapp serve`
  starts a server, at a free port, which stays until another is started for its port, or the page ends. From then
  on `127.0.0.1:8000` means it, in all blocks. A line that ends in `&` goes on until the page ends.
- `python` is a script; `js` is one for Node, with our client, or, after `<!-- run: browser -->`, a module in a page
  of the server's.
- `text` or `json` right behind what is run is what that prints; a line `...` stands for any lines, and `...` in a line
  for any text.
- `<!-- run: continued -->`: the blocks of its language before it come first.
- `<!-- run: with runpod -->`: Python is that of `tests/.venvs/runpod`.
- `<!-- setup ... -->` holds commands that readers do not see; `$REPOSITORY` is where this is.
- `<!-- not run: reason -->`: it is not; the reason names the test file that runs the like.
"""

import ast
import json
import os
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from playwright.sync_api import sync_playwright
from tests import processes
from tests.chromium import CHROMIUM
from tests.documentation.blocks import Block, blocks_of
from tests.waiting import WAIT_S, until

ROOT = Path(__file__).parent.parent.parent
SDK = ROOT / "client_sdk" / "js"
VENVS = ROOT / "tests" / ".venvs"
NPM = ROOT / "tests" / "js" / "node_modules"
RUNNABLE = {"sh", "python", "js"}
PRINTED = {"text", "json"}
_HERE = re.compile(r"\b(?:127\.0\.0\.1|localhost):(\d{4})\b")
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


def run_page(path: Path, folder: Path) -> None:
    """Run a page of the documentation in an empty folder.

    Raises:
        AssertionError: a command fails, prints something else than the page says, or nothing says what a block is.
    """
    blocks = blocks_of(path.read_text())
    with ExitStack() as servers:
        run = Run(folder, servers)
        for block, following in zip(blocks, [*blocks[1:], None], strict=True):
            try:
                run.take(block, _printed_by(following))
            except (AssertionError, subprocess.TimeoutExpired) as error:
                raise AssertionError(f"{path.relative_to(ROOT)}:{block.line}: {error}") from error


def _printed_by(following: Block | None) -> str | None:
    """Return what the block before has to print; None where the page does not say."""
    is_output = following is not None and following.language in PRINTED and not (following.title or following.says)
    return following.text if is_output and following else None


@dataclass
class Run:
    """Hold what blocks leave to those behind them."""

    folder: Path
    servers: ExitStack
    urls: dict[str, str] = field(default_factory=dict)
    scripts: dict[str, str] = field(default_factory=dict)
    variables: dict[str, str] = field(default_factory=dict)
    stopping: dict[str, ExitStack] = field(default_factory=dict)
    python: str = sys.executable
    was_run: bool = False

    def take(self, block: Block, printed: str | None) -> None:
        """Run one block, or write its file."""
        self.python = _python(block.says.get("run", ""))
        if "setup" in block.says:
            self.shell(block.says["setup"])
        was_run, self.was_run = self.was_run, False
        if "not run" in block.says:
            assert len(block.says["not run"]) > 5, "say why"
        elif block.title is not None:
            place = self.folder / block.title
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_text(self.placed(block.text))
        elif block.language in RUNNABLE:
            self.was_run = True
            self.compare(self.run(block, printed), printed)
        else:
            assert was_run and block.language in PRINTED, f"nothing says what this block of {block.language!r} is"

    def run(self, block: Block, printed: str | None) -> str:
        """Run a block; return what it prints."""
        if block.language == "sh":
            return self.shell(block.text)
        is_continued = block.says.get("run") == "continued"
        code = (self.scripts.get(block.language, "") if is_continued else "") + block.text
        self.scripts[block.language] = code
        if block.language == "python":
            return self.command([self.python, "-c", _SCRIPT], self.placed(code))
        if block.says.get("run") == "browser":
            return self.browser(self.bundled(code), printed)
        script = self.bundled(code)
        return self.command(["node", "--experimental-websocket", "--input-type=module", "-"], script)

    def placed(self, text: str) -> str:
        """Return a text with the addresses of the servers that run."""
        return _HERE.sub(lambda here: self.urls.get(here[1], here[0]), text)

    @property
    def environment(self) -> dict[str, str]:
        """Return the environment of commands."""
        found = dict.fromkeys(str(Path(python).parent) for python in (self.python, sys.executable))
        path = os.pathsep.join([*found, os.environ["PATH"]])
        given = {"PATH": path, "REPOSITORY": str(ROOT), "PYTHONUNBUFFERED": "1", "NO_COLOR": "1"}
        return {**os.environ, **given, **self.variables}

    def shell(self, text: str) -> str:
        """Run commands one after another."""
        return "".join(self.line(line) for line in re.sub(r"\\\n\s*", "", text).splitlines() if line.strip())

    def line(self, line: str) -> str:
        """Run one command of a shell."""
        words = shlex.split(line, comments=True)
        match words:
            case ["export", *settings]:
                self.variables |= dict(setting.split("=", 1) for setting in settings)
                return ""
            case ["cd", folder]:
                self.folder = self.folder / folder
                return ""
            case ["streamapp", "serve", *arguments] if "|" not in words:
                self.start(arguments)
                return ""
        command = ["bash", "-euo", "pipefail", "-c", self.placed(line.removesuffix("&"))]
        if words and words[-1] == "&":
            self.servers.enter_context(_going_on(command, self.folder, self.environment))
            return ""
        return self.command(command, "")

    def start(self, arguments: list[str]) -> None:
        """Serve until another server takes its port, or the page ends."""
        port = "8000"
        if "--port" in arguments:
            place = arguments.index("--port")
            port = arguments[place + 1]
            del arguments[place : place + 2]
        if port in self.stopping:
            self.stopping.pop(port).close()
        stopping = self.stopping[port] = self.servers.enter_context(ExitStack())
        serving = processes.serving(*arguments, env=self.environment, folder=self.folder)
        url, _ = stopping.enter_context(serving)
        self.urls[port] = url.partition("://")[2]

    def command(self, command: list[str], given: str) -> str:
        """Run a command that ends; return what it prints."""
        done = subprocess.run(
            command,
            cwd=self.folder,
            env=self.environment,
            input=given,
            capture_output=True,
            text=True,
            timeout=WAIT_S,
            check=False,
        )
        assert done.returncode == 0, f"exit code {done.returncode}:\n{done.stdout}{done.stderr}"
        return done.stdout

    def bundled(self, code: str) -> str:
        """Return a module with our client in it."""
        command = ["npx", "esbuild", "--bundle", "--format=esm", "--platform=node", "--log-level=error"]
        aliases = ("--alias:streamapp-client/react=./src/react.ts", "--alias:streamapp-client=./src/index.ts")
        done = subprocess.run(
            [*command, *aliases],
            cwd=SDK,
            env={**os.environ, "NODE_PATH": str(NPM)},
            input=self.placed(code),
            capture_output=True,
            text=True,
            timeout=WAIT_S,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def browser(self, code: str, printed: str | None) -> str:
        """Run a module in a page of the server's, until it has written what the page says."""
        with (
            sync_playwright() as playwright,
            playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"]) as browser,
        ):
            page = browser.new_page()
            page.goto(f"http://{self.urls['8000']}/health")
            said: list[str] = []
            page.on("console", lambda message: said.append(message.text))
            page.add_script_tag(type="module", content=code)
            until(lambda: page.evaluate("1") == 1 and _fits("\n".join(said), printed or "..."))
            return "\n".join(said)

    def compare(self, printed: str, expected: str | None) -> None:
        """Hold what was printed beside what the page says."""
        if expected is not None:
            assert _fits(printed, self.placed(expected)), f"expected\n{expected}\nand it prints\n{printed}"


def _python(run: str) -> str:
    """Return what runs a block's Python."""
    name = run.removeprefix("with ")
    return sys.executable if name == run else str(VENVS / name / "bin" / "python")


@contextmanager
def _going_on(command: list[str], folder: Path, environment: dict[str, str]) -> Iterator[None]:
    """Run a command, and all that it starts, as long as this is entered."""
    quiet = subprocess.DEVNULL
    with subprocess.Popen(
        command, cwd=folder, env=environment, stdin=quiet, stdout=quiet, stderr=quiet, start_new_session=True
    ) as process:
        try:
            yield
        finally:
            os.killpg(process.pid, signal.SIGKILL)


def _fits(printed: str, expected: str) -> bool:
    try:
        if json.loads(printed) == json.loads(expected):  # laid out in another way
            return True
    except ValueError:
        pass
    lines = [re.escape(line.rstrip()).replace(r"\.\.\.", ".*") for line in expected.strip().splitlines()]
    pattern = "".join(r"(?:.*\n)*" if line == ".*" else line + r"\n" for line in lines)
    return re.fullmatch(pattern, "".join(f"{line.rstrip()}\n" for line in printed.strip().splitlines())) is not None


def needs_of(text: str) -> set[str]:
    """Return which of "torch", "node", "npm", "chromium" and tests/.venvs the blocks of a page need."""
    runs = [block for block in blocks_of(text) if "not run" not in block.says]
    said = [block.says.get("run", "") for block in runs]
    found = {run.removeprefix("with ") for run in said if run.startswith("with ")}
    found |= {"npm" for block in runs if re.search(r"@fal-ai/client|runpod-sdk", block.text)}
    found |= {"node" for block in runs if block.language == "js" and block.title is None}
    found |= {"chromium" for block in runs if block.says.get("run") == "browser"}
    models = r"\b(torch|diffusers|transformers|streamapp\.diffusion|streamapp\.llm)\b"
    return found | {"torch" for block in runs if block.language == "python" and re.search(models, block.text)}


def syntax_errors(text: str) -> list[str]:
    """Return what is wrong in Python that is not run: it has to be Python at least."""
    wrong = []
    for block in blocks_of(text):
        if block.language == "python":
            try:
                compile(block.text, "snippet", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT | ast.PyCF_ONLY_AST)
            except SyntaxError as error:
                wrong.append(f"line {block.line}: {error}")
    return wrong
