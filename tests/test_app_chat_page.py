"""The chat's page in Chromium: two tabs are two people, and the model is among them."""

import os
import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import PIL.Image
import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, expect, sync_playwright
from tests.chromium import CHROMIUM
from tests.cutting_proxy import cutting
from tests.fal_packages import needs
from tests.processes import serving
from tests.waiting import LONG_S, WAIT_S

ROOT = Path(__file__).parent.parent
APP = str(ROOT / "apps" / "chat" / "app.py")
PHONE = {"width": 390, "height": 844}
ENVIRONMENT = {**os.environ, "STREAMAPP_CHAT_MODEL": "rules"}
KEY = "a-key-of-the-deployments"

pytestmark = pytest.mark.timeout(LONG_S)
needs_chromium = needs(CHROMIUM is not None, "no chromium: run `make test` as root")
expect.set_options(timeout=1000 * WAIT_S)


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with serving(APP, env=ENVIRONMENT) as (url, _):
        yield url


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        yield playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])


class Tab:
    """One person's tab."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self.messages = page.locator("#messages li")
        self.last = self.messages.last
        self.text = page.get_by_label("Message", exact=True)
        self.note = page.locator("#note")

    def join(self, name: str) -> None:
        self.page.get_by_label("Your name").fill(name)
        self.page.get_by_role("button", name="Join").click()
        self.is_connected()

    def is_connected(self) -> None:
        expect(self.page.locator("#status")).to_have_text("connected")

    def say(self, text: str) -> None:
        self.text.fill(text)
        self.text.press("Enter")

    def contents(self) -> list[str]:
        return self.page.locator(".content").all_text_contents()


Opener = Callable[..., Tab]


@pytest.fixture
def tab(browser: Browser) -> Iterator[Opener]:
    """Open tabs, in which nothing goes wrong."""
    wrong: list[str] = []
    with ExitStack() as stack:

        def opened(url: str, name: str | None = "Ann", script: str = "", **options: Any) -> Tab:
            page = stack.enter_context(browser.new_context(**options)).new_page()
            page.add_init_script(script)
            page.on("pageerror", lambda error: wrong.append(str(error)))
            page.on("console", lambda line: wrong.append(line.text) if "Security Policy" in line.text else None)
            page.goto(url)
            tab = Tab(page)
            if name is not None:
                tab.join(name)
            return tab

        yield opened
    assert not wrong


def take_picture(page: Page) -> None:
    """Keep what the tab shows as the picture of the README, where that is wanted."""
    if "SCREENSHOTS" in os.environ:
        place = ROOT / "apps" / "chat" / "screenshot.png"
        page.screenshot(path=place)
        PIL.Image.open(place).convert("RGB").quantize(64).save(place, optimize=True)


@needs_chromium
def test_two_tabs_and_the_model_talk(url: str, tab: Opener) -> None:
    ann, ben = (
        tab(f"{url}/#tea", viewport={"width": 960, "height": 640}),
        tab(f"{url}/#tea", "Ben", viewport=PHONE, color_scheme="dark"),
    )
    expect(ann.text).to_be_focused()
    ann.say("Hello! My name is Ann, and I like tea.")
    expect(ben.last.locator(".content")).to_have_text("Hello! My name is Ann, and I like tea.")
    ben.say("So do I.\n<b>Green</b> tea")
    expect(ann.last.locator(".author")).to_have_text("Ben")
    assert ann.contents()[-1] == "So do I.\n<b>Green</b> tea"
    ben.text.press_sequentially("It")
    expect(ann.page.locator("#writing")).to_have_text("Ben is writing")
    ann.say(f"@Eliza I want a holiday {'and another one ' * 100}")  # the answer comes for a while
    expect(ann.page.locator(".coming .content")).to_have_text(re.compile("^What would "))
    expect(ben.page.locator(".coming")).to_be_visible()
    expect(ann.page.locator("#announcer")).not_to_have_text(re.compile("Eliza"))
    ben.page.get_by_role("button", name="Stop").click()
    expect(ann.last.locator(".remark")).to_have_text("stopped")
    ann.say("@Eliza what do I like?")
    expect(ben.page.locator("#announcer")).to_have_text("Eliza: You like tea.")
    assert ann.contents() == ben.contents()
    expect(ben.page.get_by_role("button", name="Stop")).to_be_hidden()
    for page in (ann.page, ben.page):
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        page.locator("summary").click()
        assert page.locator("#people li").count() == 3
        assert Axe().run(page).violations_count == 0


@needs_chromium
@pytest.mark.long
def test_a_language_models_answer_is_seen_as_it_comes(tab: Opener) -> None:
    model = {"STREAMAPP_CHAT_MODEL": str(ROOT / "apps" / "llm" / "tiny" / "model"), "OMP_NUM_THREADS": "1"}
    with serving(APP, env={**os.environ, **model}) as (url, _):
        ann, ben = tab(url, viewport={"width": 960, "height": 640}), tab(url, "Ben")
        ann.say("Hello! My name is Ann.")
        expect(ben.last.locator(".content")).to_have_text("Hello! My name is Ann.")
        ben.say("Let us ask for a story.")
        expect(ann.last.locator(".author")).to_have_text("Ben")
        ann.say("@Eliza Tell me a story about a shy dragon and a clock.")
        seen = 40 if "SCREENSHOTS" in os.environ else 4  # words; a busy browser is shown the rest at a time
        expect(ann.page.locator(".coming .content")).to_have_text(re.compile(rf"(\w+\W+){{{seen}}}"))
        take_picture(ann.page)
        for page in (ann.page, ben.page):
            expect(page.locator(".coming")).to_have_count(0)
        assert ann.contents() == ben.contents()


@needs_chromium
def test_who_was_cut_off_misses_nothing_and_says_nothing_twice(url: str, tab: Opener) -> None:
    with cutting(int(url.rpartition(":")[2]), cut=0) as proxy:
        ann, ben = tab(f"http://127.0.0.1:{proxy.port}/#cut"), tab(f"{url}/#cut", "Ben")
        ann.say("one")
        expect(ben.last).to_contain_text("one")
        proxy.go_down()
        expect(ann.page.locator("#status")).to_have_text(re.compile("connecting"))
        ben.say("two")
        ben.say("@Eliza what did I say?")
        expect(ben.last.locator(".content")).to_have_text('You said: "two"')
        proxy.come_up()
        expect(ann.last.locator(".content")).to_have_text('You said: "two"')
        ann.say("three")
        expect(ben.last).to_contain_text("three")
        assert ann.contents() == ben.contents()
        ann.page.reload()
        ann.is_connected()
        expect(ann.last).to_contain_text("three")
        expect(ann.last).to_have_class(re.compile("own"))
        expect(ben.page.locator("#people li")).to_have_count(3)


@needs_chromium
@pytest.mark.long
def test_the_page_goes_on_with_a_server_that_was_started_anew(tab: Opener) -> None:
    with serving(APP, env=ENVIRONMENT) as (url, _):
        ann = tab(url)
        ann.say("hello")
        expect(ann.last.locator(".author")).to_have_text("Eliza")
    expect(ann.page.locator("#status")).to_have_text("connecting again")
    with serving("--port", url.rpartition(":")[2], APP, env=ENVIRONMENT):
        ann.is_connected()
        expect(ann.note).to_have_text(re.compile("The room was begun anew"))
        ann.say("hello again")
        expect(ann.messages.first).to_contain_text("hello again")


@needs_chromium
@pytest.mark.long
def test_the_page_asks_for_the_key_once(tab: Opener) -> None:
    with serving(APP, env={**ENVIRONMENT, "STREAMAPP_API_KEY": KEY}) as (url, _):
        ann = tab(url, None)
        ann.page.get_by_label("Your name").fill("Ann")
        ann.page.get_by_role("button", name="Join").click()
        for key in ("another", KEY):
            expect(ann.page.get_by_label("API key")).to_be_focused()
            ann.page.get_by_label("API key").fill(key)
            ann.page.get_by_role("button", name="Join").click()
        ann.is_connected()
        ann.page.reload()
        ann.is_connected()
        ann.say("hello")
        expect(ann.last.locator(".author")).to_have_text("Eliza")


@needs_chromium
@pytest.mark.long
def test_a_name_that_is_refused_is_asked_for_again(url: str, tab: Opener) -> None:
    ann = tab(f"{url}/#names", None)
    ann.page.get_by_label("Your name").fill("eliza")
    ann.page.get_by_role("button", name="Join").click()
    expect(ann.page.get_by_role("alert").filter(has_text="choose another")).to_be_visible()
    ann.join("<img src=x onerror=alert(1)>")
    ann.say("hi")
    expect(ann.messages.first.locator(".author")).to_have_text("<img src=x onerror=alert(1)>")


@needs_chromium
@pytest.mark.long
def test_another_room_is_chosen_by_the_address_or_in_the_page(url: str, tab: Opener) -> None:
    ann = tab(f"{url}/chat-rooms/#one")
    ann.say("here")
    expect(ann.messages.first).to_contain_text("here")
    ann.page.get_by_role("button", name="Change").click()
    ann.page.get_by_label("Room", exact=True).fill("Zwei & drei?")
    ann.join("Bo")
    expect(ann.page.get_by_role("heading", name="Zwei & drei?")).to_be_visible()
    expect(ann.messages).to_have_count(0)
    ann.page.go_back()
    expect(ann.messages.first).to_contain_text("here")
    expect(ann.page.locator("#people li").first).to_have_text("Bo (you)")


@needs_chromium
@pytest.mark.long
@pytest.mark.parametrize("hash", ["..", "%", "a%2Fb", 61 * "🍵", "%00", "&?%25"])
def test_whatever_stands_in_the_address_leads_to_a_room(url: str, tab: Opener, hash: str) -> None:
    ann = tab(f"{url}/#{hash}")
    ann.say("hi")
    expect(ann.messages.first).to_contain_text("hi")


@needs_chromium
@pytest.mark.long
def test_with_cookies_blocked_one_talks_all_the_same(url: str, tab: Opener) -> None:
    blocked = (
        "Object.defineProperty(window, 'sessionStorage', { get() { throw new DOMException('no', 'SecurityError') } })"
    )
    ann = tab(f"{url}/#blocked", script=blocked)
    ann.say("hi")
    expect(ann.messages.first).to_contain_text("hi")
