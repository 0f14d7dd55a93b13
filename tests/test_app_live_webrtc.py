"""The page of the app that draws along, by WebRTC: in Chromium, on a network of the file's own."""

import re
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, expect, sync_playwright
from tests.chromium import CHROMIUM
from tests.fal_packages import needs
from tests.live_page import CORNER, MIDDLE, colour, draw, opened, serving
from tests.waiting import LONG_S, WAIT_S, until

NO_WEBRTC = "delete globalThis.RTCPeerConnection"

pytestmark = [pytest.mark.long, pytest.mark.timeout(LONG_S), needs(CHROMIUM is not None, "no chromium")]
expect.set_options(timeout=1000 * WAIT_S)


@pytest.fixture(scope="module")
def server(own_network: str) -> Iterator[str]:
    with serving() as (url, _):
        yield url


@pytest.fixture(scope="module")
def browser(own_network: str) -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


def test_a_stroke_becomes_a_picture_in_a_video_and_by_the_socket_again(server: str, browser: Browser) -> None:
    page = opened(browser, server)
    page.get_by_role("switch", name="WebRTC").check()
    expect(page.locator("#video")).to_be_visible()
    draw(page)
    until(lambda: (colour(page, "#video", MIDDLE), colour(page, "#video", CORNER)) == ("red", "blue"))
    expect(page.locator("#picture")).to_be_hidden()
    expect(page.locator("#latency")).to_have_text(re.compile(r"^\d+$"))
    page.get_by_role("switch", name="WebRTC").uncheck()
    expect(page.locator("#picture")).to_be_visible()
    expect(page.locator("#video")).to_be_hidden()
    page.context.close()


def test_where_webrtc_does_not_get_through_it_goes_on_by_the_socket(server: str, browser: Browser) -> None:
    page = opened(browser, server)
    expect(page.locator("#status")).to_have_text("connected")
    page.evaluate(NO_WEBRTC)
    page.get_by_role("switch", name="WebRTC").click()
    expect(page.locator("#status")).to_contain_text("WebRTC does not get through")
    expect(page.locator("#status")).to_have_text("connected")
    expect(page.get_by_role("switch", name="WebRTC")).not_to_be_checked()
    draw(page)
    until(lambda: colour(page, "#picture", MIDDLE) == "red")
    page.context.close()
