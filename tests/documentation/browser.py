"""Run the JavaScript of a page: in Node, or in a browser, in a page of the server's."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial

from playwright.sync_api import Browser, Page
from tests.documentation.shell import ROOT, Shell
from tests.waiting import until

SDK = ROOT / "client_sdk" / "js"
NPM = ROOT / "tests" / "js" / "node_modules"
_NODE = ["node", "--experimental-websocket", "--input-type=module", "-"]
_BUNDLE = [
    f"NODE_PATH={SDK / 'node_modules'}{os.pathsep}{NPM}",
    str(SDK / "node_modules" / ".bin" / "esbuild"),
    *("--bundle", "--format=esm", "--log-level=error", "--loader=jsx", "--jsx=automatic"),
    f"--alias:streamapp-client/react={SDK}/src/react.ts",
    f"--alias:streamapp-client={SDK}/src/index.ts",
    '--define:process.env.NODE_ENV="development"',
]


def in_node(shell: Shell, code: str) -> str:
    """Run a module in Node; return what it prints."""
    return shell.command(_NODE, _bundled(shell, code, "node"))


def in_browser(shell: Shell, browser: Browser, code: str, *, lines: str, is_all: Callable[[str], bool]) -> str:
    """Run a module in a page until its lines have come true, and it has printed all; return what it has printed."""
    module = _bundled(shell, code, "browser")
    said: list[str] = []
    with opened(shell, browser, "/health") as page:
        page.on("console", lambda message: said.append(message.text))
        page.evaluate("document.body.innerHTML = '<div id=root></div>'")
        page.add_script_tag(type="module", content=module)
        come_true(page, lines)
        with suppress(AssertionError):  # what is missing is told by who compares
            until(lambda: page.evaluate("true") and is_all("\n".join(said)))  # asked, it hands over what it has said
    return "\n".join(said)


@contextmanager
def opened(shell: Shell, browser: Browser, path: str) -> Iterator[Page]:
    """Show what the server has at a path."""
    with browser.new_context() as context:
        page = context.new_page()
        page.goto(f"http://{shell.address()}{path}")
        yield page


def come_true(page: Page, lines: str) -> None:
    """Wait until each line of JavaScript is true in a page, one after another.

    Raises:
        AssertionError: one is not.
    """
    for line in lines.strip().splitlines():
        try:
            until(partial(page.evaluate, line))
        except AssertionError:
            raise AssertionError(f"in the page this did not come true: {line}") from None


def _bundled(shell: Shell, code: str, platform: str) -> str:
    """Return a module with what it imports in it: our client, React, files of the folder."""
    return shell.command([*_BUNDLE, f"--platform={platform}"], shell.placed(code))
