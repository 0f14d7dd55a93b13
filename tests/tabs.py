"""Tabs with the playground, for the tests of it: Debian's chromium, driven by Playwright, against real servers.

Where no chromium is installed the tests are skipped; `make test` installs it where it may. With SCREENSHOTS=docs in the
environment the README's pictures are made anew.
"""

import json
import os
import re
import subprocess
import sys
import urllib.parse
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

import httpx
import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Locator, Page, expect, sync_playwright
from tests.chromium import CHROMIUM
from tests.torchless import IS_TORCHLESS
from tests.waiting import WAIT_S, until

ROOT = Path(__file__).parent.parent
SDXL, CONTENTS = "apps/sdxl/app.py:Sdxl", "tests/apps/contents.py:Contents"
SLOW_SETUP = "tests/apps/slow_setup.py:SlowSetup"
MISSING = "no chromium: install it (apt-get install chromium), or run `make test` as root"
# As root there is no sandbox to be had; WebGL without a GPU; a machine that is not this one, for the browser; a camera.
ARGUMENTS = [
    *("--no-sandbox", "--enable-unsafe-swiftshader", "--host-resolver-rules=MAP box.test 127.0.0.1"),
    *("--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"),
]
WAIT_MS = 1000 * WAIT_S
SEED = 2**63 + 5  # no JavaScript number holds it exactly
STATES = ("queued", "running", "succeeded", "cancelled", "failed", "reconnecting")  # of a run
# An image that takes too long to be finished before somebody cancels it.
LONG = {"num_inference_steps": 50, "num_images": 4, "width": 256, "height": 256}
PHONE = {"width": 390, "height": 844}
# Every picture that an <img alt="preview"> has shown, once: [step, its pixels]; how many came before the first result.
WATCH_PREVIEWS = """
window.previews = new Map();
document.addEventListener("load", ({ target }) => {
  if (target.alt === "result") window.before ??= window.previews.size;
  if (target.alt !== "preview") return;
  const canvas = Object.assign(document.createElement("canvas"), { width: 64, height: 64 });
  canvas.getContext("2d").drawImage(target, 0, 0, 64, 64);
  window.previews.set(canvas.toDataURL(), target.dataset.step);
}, true);
"""
# The longest time between two pictures of the page.
WATCH_STALLS = """() => {
  let last = (window.began = performance.now());
  window.longest = 0;
  const look = (now) => {
    window.longest = Math.max(window.longest, now - last);
    last = now;
    requestAnimationFrame(look);
  };
  requestAnimationFrame(look);
}"""
# Drop or paste a file, as `type` says, where the field is.
BRING = """(field, [type, name]) => {
  const held = new DataTransfer();
  held.items.add(new File(["hello"], name, { type: "image/png" }));
  const event = type === "drop" ? new DragEvent(type, { dataTransfer: held, bubbles: true, cancelable: true })
    : new ClipboardEvent(type, { clipboardData: held, bubbles: true, cancelable: true });
  field.dispatchEvent(event);
}"""
# How loud the newest player is; 0 where there is none, or it is paused.
HEAR = """
const connect = AudioNode.prototype.connect;
window.loudness = () => 0;
AudioNode.prototype.connect = function (target) {
  if (target instanceof AudioDestinationNode) {
    const ear = new AnalyserNode(this.context);
    const heights = new Float32Array(ear.fftSize);
    connect.call(this, ear);
    window.loudness = () => {
      ear.getFloatTimeDomainData(heights);
      return this.context.state === "running" ? Math.max(...heights) : 0;
    };
  }
  return connect.call(this, target);
};
"""
# How long behind now each chunk begins that is given to the browser.
NOTE_LEADS = """() => {
  window.leads = [];
  const { start } = AudioBufferSourceNode.prototype;
  AudioBufferSourceNode.prototype.start = function (at, ...others) {
    window.leads.push(at - this.context.currentTime);
    return start.call(this, at, ...others);
  };
}"""
# What a canvas shows, when nothing moves any more.
STILL = """async (canvas) => {
  canvas.scrollIntoView({ block: "nearest" });
  for (let last; ; ) {
    const url = canvas.toDataURL();
    if (url === last) return url;
    last = url;
    for (let frame = 0; frame < 3; frame++) await new Promise(requestAnimationFrame);
  }
}"""
PIXELS = """image => {
  const size = { width: image.naturalWidth, height: image.naturalHeight };
  const canvas = Object.assign(document.createElement("canvas"), size);
  canvas.getContext("2d").drawImage(image, 0, 0);
  return canvas.toDataURL();
}"""

expect.set_options(timeout=WAIT_MS)


def missing_tool(what: str) -> NoReturn:
    """Skip the test; in CI, where all of it has to be there, fail it."""
    (pytest.fail if "CI" in os.environ else pytest.skip)(what)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    if CHROMIUM is None:
        missing_tool(MISSING)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield browser
        browser.close()


@contextmanager
def serving(*apps: str, port: int = 0, awaits_setup: bool = True, **environment: str) -> Iterator[str]:
    """Run a server as its users do, and open what it says; gives its URL when it is ready."""
    command = [sys.executable, "-m", "streamapp", "serve", *apps, f"--port={port}"]
    # One thread for torch: several wait for each other by spinning, which takes the cores from the browser.
    variables = {**os.environ, "OMP_NUM_THREADS": "1", **environment}
    with subprocess.Popen(command, cwd=ROOT, env=variables, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        banner = next(line for line in server.stdout if line.startswith("playground: "))
        url = banner.split()[1].removesuffix("/playground")
        key = {"Authorization": f"Key {environment.get('STREAMAPP_API_KEY')}"}
        try:
            if awaits_setup:
                until(lambda: httpx.get(f"{url}/ready", headers=key, timeout=WAIT_S).is_success)
            yield url
        finally:
            server.kill()


@pytest.fixture(scope="module")
def sdxl() -> Iterator[str]:
    if IS_TORCHLESS:
        pytest.skip("torch is not installed")
    with serving(SDXL) as url:
        yield url


@pytest.fixture(scope="module")
def contents() -> Iterator[str]:
    with serving(CONTENTS) as url:
        yield url


class Playground:
    """One tab with the page, by what people see of it."""

    def __init__(self, page: Page, server: str) -> None:
        self.page = page
        self.server = server
        self.status = page.get_by_role("status").first
        self.output = page.get_by_role("region", name="Output")
        self.result = self.output.get_by_alt_text("result")
        self.preview = self.output.get_by_alt_text("preview")
        self.alert = page.get_by_role("alert")
        self.runs = self.region("History").get_by_role("listitem")

    def open(self, path: str = "", **values: Any) -> "Playground":
        """Go to an endpoint with an input, as a shared link does."""
        given = f"?input={urllib.parse.quote(json.dumps(values))}" if values else ""
        self.page.goto(f"{self.server}/playground{f'#{path}{given}' if path else ''}")
        return self

    def field(self, title: str) -> Locator:
        """Find a field by its title; a required one has a star after it."""
        return self.page.get_by_label(re.compile(rf"^{re.escape(title)}\s*\*?$")).first

    def button(self, name: str) -> Locator:
        return self.page.get_by_role("button", name=name, exact=True).first

    def region(self, name: str) -> Locator:
        return self.page.get_by_role("region", name=name)

    def panel(self, name: str) -> Locator:
        """Open what stands below the output: Preview, JSON, Logs, Timeline or Code."""
        self.page.get_by_role("tablist", name="Details").get_by_role("tab", name=name, exact=True).click()
        return self.page.get_by_role("tabpanel", name=name, exact=True)

    def unfold(self) -> "Playground":
        """Show what of a form can be left alone."""
        self.page.get_by_role("button", name=re.compile("^Additional settings")).click()
        return self

    def run(self) -> "Playground":
        """Run what is filled in, beside what runs already."""
        self.page.get_by_role("button", name=re.compile("^Run( another)?$")).first.click()
        return self

    def cancel(self) -> "Playground":
        self.button("Cancel").click()
        return self

    def choose_run(self, status: str) -> "Playground":
        """Click on the newest run of the history that is in this state."""
        self.runs.filter(has_text=status).first.get_by_role("button").click()
        return self

    def ends(self, status: str = "succeeded") -> "Playground":
        """Wait for a state of the run that is shown, or for what is said of it."""
        if status in STATES:
            expect(self.status).to_have_attribute("data-state", status)
        else:
            expect(self.status).to_contain_text(status)
        return self

    def copied(self) -> str:
        """Return what is in the clipboard."""
        text: str = self.page.evaluate("navigator.clipboard.readText()")
        return text

    def previews(self) -> int:
        """Return how many previews were shown that do not look alike."""
        count: int = self.page.evaluate("window.previews.size")
        return count

    def loudness(self) -> float:
        """Return how loud the sound is that is heard now."""
        loudness: float = self.page.evaluate("window.loudness()")
        return loudness


Opener = Callable[..., Playground]


@pytest.fixture
def playground(browser: Browser) -> Iterator[Opener]:
    """Open tabs; at the end none may have asked another host for anything, nor complained."""
    contexts: list[BrowserContext] = []
    requested: set[str] = set()
    complaints: list[str] = []

    def open_tab(server: str, *, beside: Playground | None = None, **options: Any) -> Playground:
        if beside is None:
            contexts.append(browser.new_context(**options))
            if not server.startswith("http://box.test"):
                contexts[-1].grant_permissions(["clipboard-read", "clipboard-write"])
            contexts[-1].set_default_timeout(WAIT_MS)
            contexts[-1].add_init_script(WATCH_PREVIEWS)
            contexts[-1].add_init_script(HEAR)
        page = contexts[-1].new_page() if beside is None else beside.page.context.new_page()
        page.on("request", lambda request: requested.add(request.url))
        page.on("console", lambda message: _note(message, complaints))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        return Playground(page, server)

    yield open_tab
    for context in contexts:
        context.close()
    hosts = {urllib.parse.urlsplit(url).hostname for url in requested if not url.startswith(("data:", "blob:"))}
    assert hosts <= {"127.0.0.1", "box.test"}
    assert not complaints, complaints


def _note(message: ConsoleMessage, complaints: list[str]) -> None:
    # The browser's own lines for a refused request or a cut connection, both of which tests provoke.
    own = ("Failed to load resource", "WebSocket connection to")
    if message.type == "error" and not message.text.startswith(own):
        complaints.append(message.text)


def runs_of(server: str) -> int:
    return int(httpx.post(f"{server}/open", json={"steps": 0}, timeout=WAIT_S).json()["runs"])


def let_through(server: str, steps: int) -> None:
    httpx.post(f"{server}/open", json={"steps": steps}, timeout=WAIT_S).raise_for_status()


def running_jobs(server: str) -> int:
    lines = httpx.get(f"{server}/metrics", timeout=WAIT_S).text.splitlines()
    line = next(line for line in lines if line.startswith("streamapp_jobs_running") and 'kind="sync"' in line)
    return int(float(line.rpartition(" ")[2]))


def take_picture(tab: Playground, name: str) -> None:
    """Keep what the tab shows, where the README's pictures are wanted."""
    if folder := os.environ.get("SCREENSHOTS"):
        tab.page.screenshot(path=ROOT / folder / f"{name}.png")


def serious_problems(tab: Playground) -> dict[str, list[str]]:
    """Return what hinders people who see badly, or use no mouse."""
    found = Axe().run(tab.page).response["violations"]
    serious = [violation for violation in found if violation["impact"] in ("serious", "critical")]
    return {violation["id"]: [node["html"][:200] for node in violation["nodes"]] for violation in serious}


def result_of(tab: Playground) -> Any:
    """Return the result of the job that the tab shows, from the server."""
    tab.button("Watch link").click()
    job_id = tab.copied().rpartition("/")[2]
    return httpx.get(f"{tab.server}/jobs/{job_id}/result", timeout=WAIT_S).json()


def tab_to(tab: Playground, control: Locator) -> None:
    """Press Tab until a control has the focus."""
    for _ in range(80):
        if control.evaluate("control => control === document.activeElement"):
            return
        tab.page.keyboard.press("Tab")
    pytest.fail("Tab does not lead there")


def copied_code(tab: Playground, language: str) -> str:
    code = tab.panel("Code")
    code.get_by_role("tab", name=language, exact=True).click()
    code.get_by_role("tabpanel").get_by_role("button", name="Copy", exact=True).click()
    return tab.copied()


def timeline(tab: Playground) -> list[str]:
    """Return the names of the events in the timeline."""
    rows = tab.panel("Timeline").get_by_role("row").all()
    return [name for row in rows for name in re.findall(r"\b(output|preview|progress|log|token)\b", row.inner_text())]
