"""The editor's page in a real browser, against a real server that is killed and started again.

With SCREENSHOTS=1 in the environment the app's picture is taken anew.
"""

import hashlib
import io
import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import PIL.Image
import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Locator, Page, expect, sync_playwright
from tests.chromium import CHROMIUM
from tests.cutting_proxy import cutting
from tests.fal_packages import needs
from tests.processes import serving
from tests.waiting import LONG_S, WAIT_S, until
from websockets.sync.client import connect

EDITOR = Path(__file__).parent.parent / "apps" / "editor"
needs_chromium = needs(CHROMIUM is not None, "no chromium: run `make test` as root")
DESKTOP, PHONE = {"width": 1040, "height": 520}, {"width": 390, "height": 844}

BLOCKED = """for (const place of ["localStorage", "sessionStorage", "indexedDB"])
    Object.defineProperty(window, place, { get() { throw new DOMException("no", "SecurityError") } });"""

pytestmark = pytest.mark.timeout(LONG_S)
expect.set_options(timeout=1000 * WAIT_S)
Opener = Callable[..., "Tab"]


class Tab:
    """One browser with the page: nothing is shared with others, as if it were another machine's."""

    def __init__(self, page: Page, url: str) -> None:
        self.page = page
        self.page.goto(url)
        self.text = page.get_by_role("textbox", name="Text of")

    def introduce(self, name: str, colour: str) -> "Tab":
        self.page.get_by_label("Your name").fill(name)
        self.page.get_by_label(colour).check()
        return self

    def write(self, text: str, *, key: str = "Control+End") -> None:
        self.text.focus()
        self.page.keyboard.press(key)
        self.page.keyboard.type(text)

    @property
    def state(self) -> Locator:
        return self.page.get_by_role("status")

    @property
    def lines(self) -> list[str]:
        lines: list[str] = self.page.locator(".cm-line").evaluate_all(
            "lines => lines.map(line => { const own = line.cloneNode(true);"
            " own.querySelectorAll('.caret, .cm-placeholder').forEach(it => it.remove()); return own.innerText })"
        )
        return lines


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def complaints() -> list[str]:
    return []


@pytest.fixture
def tab(browser: Browser, complaints: list[str]) -> Iterator[Opener]:
    opened = []

    def open_tab(url: str, *, script: str = "", **options: object) -> Tab:
        context = browser.new_context(**{"viewport": DESKTOP, "color_scheme": "light", **options})  # type: ignore[arg-type]
        opened.append(context)
        page = context.new_page()
        page.add_init_script(script)
        page.on("console", lambda said: complaints.append(said.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        return Tab(page, url)

    yield open_tab
    for context in opened:
        context.close()


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    return {**os.environ, "STREAMAPP_EDITOR_FOLDER": str(tmp_path)}


@pytest.fixture
def port() -> str:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return str(server.getsockname()[1])


def take_picture(page: Page) -> None:
    picture = PIL.Image.open(io.BytesIO(page.screenshot()))
    picture.quantize(128).save(EDITOR / "screenshot.png", optimize=True)


@needs_chromium
def test_what_two_write_is_one_text_also_when_the_server_was_killed_meanwhile(
    tab: Opener, complaints: list[str], environment: dict[str, str], port: str
) -> None:
    app = str(EDITOR / "app.py")
    with serving(app, "--port", port, env=environment) as (url, _):
        one = tab(f"{url}/?document=plan").introduce("Ann", "Blue")
        two = tab(f"{url}/?document=plan", color_scheme="dark").introduce("Bob", "Violet")
        expect(one.page.get_by_text("Bob", exact=True).first).to_be_visible()
        one.write("For Saturday\n\nApples and pears\n")
        expect(two.text).to_contain_text("Apples and pears")
        two.write("Café 😀")
        expect(one.page.locator(".caret")).to_contain_text("Bob")
        expect(two.page.locator(".caret")).to_contain_text("Ann")
        if os.environ.get("SCREENSHOTS"):
            take_picture(one.page)
        for each in (one, two):
            assert Axe().run(each.page).violations_count == 0
        assert not complaints
    expect(one.state).to_contain_text("No connection")
    one.write("Plan: ", key="Control+Home")
    two.write("\nCoffee")
    one.page.goto("about:blank")
    with serving(app, "--port", port, env=environment) as (url, _):
        one.page.goto(f"{url}/?document=plan")
        expect(one.text).to_contain_text("Coffee")
        expect(two.text).to_contain_text("Plan: ")
        until(lambda: one.lines == two.lines == ["Plan: For Saturday", "", "Apples and pears", "Café 😀", "Coffee"])
        expect(one.state).to_contain_text("shared and saved")
        two.text.press("Control+z")
        expect(one.text).not_to_contain_text("Coffee")
        assert one.lines[0] == "Plan: For Saturday"  # one undoes nothing of another's
        answer = httpx.post(f"{url}/text", json={"name": "plan"}, timeout=WAIT_S).json()
        assert answer["text"].splitlines()[0] == "Plan: For Saturday"
        two.page.close()
        expect(one.page.get_by_text("Bob", exact=True)).to_have_count(0)


@pytest.mark.long
@needs_chromium
def test_a_key_is_asked_for_once_and_a_phone_shows_all(tab: Opener, environment: dict[str, str], port: str) -> None:
    secret = {"STREAMAPP_API_KEY": "a-key-of-the-test"}
    with serving(str(EDITOR / "app.py"), "--port", port, env={**environment, **secret}) as (url, _):
        one = tab(f"{url}/", viewport=PHONE)
        for key in ("wrong", "a-key-of-the-test"):
            one.page.get_by_role("textbox", name="Key", exact=True).fill(key)
            one.page.get_by_role("button", name="Go on").click()
            one.page.wait_for_function(
                "document.querySelector('#wrong').textContent || !document.querySelector('dialog').open"
            )
        expect(one.state).to_contain_text("shared and saved")
        assert one.page.evaluate("document.documentElement.scrollWidth") == PHONE["width"]
        one.page.reload()
        expect(one.state).to_contain_text("shared and saved")
        one.write("😀")
        # Another emoji with the same first half, as an input method would put it there.
        one.page.evaluate(
            "() => { const line = document.querySelector('#text').shadowRoot.querySelector('.cm-line');"
            " const walk = document.createTreeWalker(line, NodeFilter.SHOW_TEXT);"
            " for (let node; (node = walk.nextNode()); ) node.data = node.data.replace('😀', '😁') }"
        )
        headers = {"Authorization": "Key a-key-of-the-test"}
        until(lambda: httpx.post(f"{url}/text", json={"name": "welcome"}, headers=headers).json()["text"] == "😁")


@needs_chromium
@pytest.mark.long
def test_who_was_cut_off_sees_on_return_who_is_there(tab: Opener, environment: dict[str, str], port: str) -> None:
    with (
        serving(str(EDITOR / "app.py"), "--port", port, env=environment) as (url, _),
        cutting(int(port), cut=0) as proxy,
    ):
        tab(url).introduce("Ann", "Blue").write("hi")
        two = tab(f"http://127.0.0.1:{proxy.port}/")
        expect(two.page.locator("#people li")).to_have_text(["Somebody (you)", "Ann"])
        proxy.go_down()
        expect(two.state).to_contain_text("No connection")
        expect(two.page.locator("#people li")).to_have_count(1)
        proxy.come_up()
        expect(two.state).to_contain_text("shared and saved")
        assert two.page.locator("#people li").count() == 2


@needs_chromium
@pytest.mark.long
def test_another_key_is_asked_for_and_what_was_written_meanwhile_is_shared(
    tab: Opener, environment: dict[str, str], port: str
) -> None:
    app = str(EDITOR / "app.py")
    with serving(app, "--port", port, env=environment) as (url, _):
        one = tab(url)
        expect(one.state).to_contain_text("shared and saved")
    expect(one.state).to_contain_text("No connection")
    one.write("kept")
    secret = {"STREAMAPP_API_KEY": "a-key-of-the-test"}
    with serving(app, "--port", port, env={**environment, **secret}) as (url, _):
        expect(one.page.get_by_role("dialog")).to_be_visible()
        one.page.keyboard.press("Escape")
        expect(one.state).to_contain_text("Without the key")
        one.page.reload()
        one.page.get_by_role("textbox", name="Key", exact=True).fill(secret["STREAMAPP_API_KEY"])
        one.page.keyboard.press("Enter")
        expect(one.state).to_contain_text("shared and saved")
        headers = {"Authorization": "Key a-key-of-the-test"}
        until(lambda: httpx.post(f"{url}/text", json={"name": "welcome"}, headers=headers).json()["text"] == "kept")


@pytest.mark.long
@needs_chromium
def test_with_cookies_blocked_one_writes_all_the_same(tab: Opener, environment: dict[str, str]) -> None:
    with serving(str(EDITOR / "app.py"), env=environment) as (url, _):
        one = tab(url, script=BLOCKED).introduce("Ann", "Blue")
        one.write("written")
        until(lambda: httpx.post(f"{url}/text", json={"name": "welcome"}).json()["text"] == "written")


def test_the_client_for_python_writes_in_a_document(environment: dict[str, str]) -> None:
    with serving(str(EDITOR / "app.py"), env=environment) as (url, _):
        command = [sys.executable, str(EDITOR / "client.py"), f"{url.replace('http', 'ws')}/documents/welcome"]
        for times in (1, 2):
            run = subprocess.run(command, check=True, capture_output=True, text=True, timeout=WAIT_S)
            assert run.stdout == times * "Hello from Python\n" + "\n"


@pytest.mark.long
def test_a_killed_server_has_all_that_it_has_acknowledged(environment: dict[str, str]) -> None:
    app = str(EDITOR / "app.py")
    with (
        serving(app, env=environment) as (url, process),
        connect(f"{url.replace('http', 'ws')}/collaborate/d") as plain,
    ):
        for _ in range(150):
            plain.send(json.dumps({"type": "operation", "operation": {"type": "insert", "position": 0, "text": "x"}}))
        acknowledged = 0
        while acknowledged < 50:
            acknowledged = json.loads(plain.recv()).get("version", 0)
        process.kill()
    with serving(app, env=environment) as (url, _):
        document = httpx.post(f"{url}/text", json={"name": "d"}, timeout=WAIT_S).json()
        assert document["text"] == document["version"] * "x"
        assert document["version"] >= acknowledged


def test_the_page_is_built_from_its_sources() -> None:
    built = json.loads((EDITOR / "page" / "sources.json").read_text())
    sources = [path for path in (EDITOR / "source").iterdir() if path.is_file()]
    assert built == {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sources}


def test_the_page_tells_the_licences_of_what_it_holds() -> None:
    licences = (EDITOR / "page" / "LICENSES.txt").read_text()
    for name in ("yjs", "y-websocket", "y-codemirror.next", "y-indexeddb", "@codemirror/view", "lib0"):
        assert f"\n{name} " in licences
