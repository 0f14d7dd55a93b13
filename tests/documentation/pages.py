"""Run what a page shows, from its first block to its last, in a folder of its own.

- A block with a title, ```` ```python title="app.py" ````, is a file there.
- `sh` are commands: `export`, `unset` and `cd` hold for what follows. A line that begins with `streamapp serve`, or
  with variables before it, and has no `|`, starts a server at a free port, which stays until another is started for
  its port, or the page ends. From then on `127.0.0.1:8000` means it, in all blocks. A line that ends in `&` goes on
  until the page ends.
- `python` is a script; `js` is one for Node, with our client, or, after `<!-- run: browser -->`, a module in a page
  of the server's, whose `<div id="root">` is empty; `jsx` is always that. Both may import what lies in the folder, and
  React.
- `text` or `json` right behind what is run is what that prints; a line `...` stands for any lines, and `...` in a line
  for any text.
- `<!-- run: continued -->`: the blocks of its language before it come first.
- `<!-- run: with runpod -->`: Python is that of `tests/.venvs/runpod`.
- `<!-- given: show = print -->`: code that comes before the block's, of its language, and that readers do not see.
- `<!-- said by: src/... -->`: it is quoted, and one of the texts in that file.
- `<!-- setup ... -->` holds commands that readers do not see; `$REPOSITORY` is this one.
- `<!-- in the page ... -->` holds lines of JavaScript that each come true in a page of the server's, one after another:
  in that of the block behind it, once its module runs, or, before anything else, in what a browser is shown at
  `<!-- open: /path -->`.
- `<!-- not run: reason -->`: it is not; the reason names the test file that runs the like.
"""

import ast
import json
import re
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from subprocess import TimeoutExpired

from playwright.sync_api import Browser
from tests.documentation.blocks import Block, blocks_of
from tests.documentation.browser import come_true, in_browser, in_node, opened
from tests.documentation.messages import unsaid
from tests.documentation.shell import ROOT, Shell

RUNNABLE = {"sh", "python", "js", "jsx"}
PRINTED = {"text", "json"}
IN_THE_PAGE = "in the page"
OF_A_BLOCK = {"run", "given", "not run", "said by"}
SAID = {*OF_A_BLOCK, "setup", IN_THE_PAGE, "open", "generated"}


def run_page(path: Path, folder: Path, browser: Callable[[], Browser]) -> None:
    """Run a page of the documentation in an empty folder.

    Args:
        browser: gives one; called where the page needs it.

    Raises:
        AssertionError: a command fails, prints something else than the page says, or nothing says what a block is.
    """
    blocks = blocks_of(path.read_text())
    with ExitStack() as ends:
        run = Run(Shell(folder, ends), browser)
        for block, following in zip(blocks, [*blocks[1:], None], strict=True):
            try:
                run.take(block, _printed_by(following))
            except (AssertionError, TimeoutExpired) as error:
                raise AssertionError(f"{path}:{block.line}: {error}") from error


def _printed_by(following: Block | None) -> str | None:
    """Return what the block before has to print; None where the page does not say."""
    is_output = following is not None and following.language in PRINTED and not (following.title or following.says)
    return following.text if is_output and following else None


@dataclass
class Run:
    """Hold what blocks leave to those behind them."""

    shell: Shell
    browser: Callable[[], Browser]
    scripts: dict[str, str] = field(default_factory=dict)
    was_run: bool = False

    def take(self, block: Block, printed: str | None) -> None:
        """Run one block, or write its file."""
        says = block.says
        assert SAID >= set(says), f"a comment says one of {sorted(SAID)}, not {set(says) - SAID}"
        self.shell.run(says.get("setup", ""), venv=_venv(block))
        if IN_THE_PAGE in says and not is_browsers(block):
            with opened(self.shell, self.browser(), says.get("open", "/")) as page:
                come_true(page, says[IN_THE_PAGE])
        was_run, self.was_run = self.was_run, False
        if not block.text:
            assert not OF_A_BLOCK & set(says), "no block is right behind this comment"
        elif "not run" in says:
            assert len(says["not run"]) > 5, "say why"
        elif "said by" in says:
            missing = unsaid(block.text, (ROOT / says["said by"]).read_text())
            assert not missing, f"{says['said by']} does not say {missing}"
        elif block.title is not None:
            place = (self.shell.folder / block.title.lstrip("/")).resolve()  # /etc/nginx/... too is a file there
            assert place.is_relative_to(self.shell.folder.resolve()), f"{block.title} leads out of the folder"
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_text(self.shell.placed(block.text))
        elif block.language in RUNNABLE:
            self.was_run = True
            self.run(block, printed)
        else:
            assert was_run and block.language in PRINTED, f"nothing says what this block of {block.language!r} is"

    def run(self, block: Block, expected: str | None) -> None:
        """Run a block, and hold what it prints beside what the page says."""
        printed = self.printed(block, expected)
        fits = expected is None or _fits(printed, self.shell.placed(expected))
        assert fits, f"expected\n{expected}\nand it prints\n{printed}"

    def printed(self, block: Block, expected: str | None) -> str:
        """Run a block; return what it prints."""
        if block.language == "sh":
            return self.shell.run(block.text, venv=_venv(block))
        is_continued = block.says.get("run") == "continued"
        before = self.scripts.get(block.language, "") if is_continued else ""
        code = self.scripts[block.language] = f"{before}{block.says.get('given', '')}\n{block.text}"
        if block.language == "python":
            return self.shell.python(code, venv=_venv(block))
        if not is_browsers(block):
            return in_node(self.shell, code)
        lines = block.says.get(IN_THE_PAGE, "")
        return in_browser(
            self.shell, self.browser(), code, lines=lines, is_all=lambda said: _fits(said, expected or "...")
        )


def is_browsers(block: Block) -> bool:
    """Tell whether a block is a module in a page of the server's."""
    return block.language == "jsx" or block.says.get("run") == "browser"


def _venv(block: Block) -> str | None:
    name = block.says.get("run", "")
    return name.removeprefix("with ") if name.startswith("with ") else None


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
    blocks = [block for block in blocks_of(text) if "not run" not in block.says]
    found = {venv for block in blocks if (venv := _venv(block))}
    if any(block.language in ("js", "jsx") and block.title is None for block in blocks):
        found.add("node")
    if any(is_browsers(block) or IN_THE_PAGE in block.says for block in blocks):
        found.add("chromium")
    for need, pattern in _NAMED.items():
        if any(re.search(pattern, part) for block in blocks for part in (block.text, *block.says.values())):
            found.add(need)
    return found


_SERVE_MODELS = r"\bapps/(dataset|live|llm|pipeline|sdxl|text)/"
#: what needs something, as blocks name it
_NAMED = {
    "npm": r"@fal-ai/client|runpod-sdk",
    "torch": r"\b(torch|diffusers|transformers|streamapp\.(diffusion|llm))\b|" + _SERVE_MODELS,
}


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
