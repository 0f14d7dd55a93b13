"""Sessions by WebRTC in a real browser: Debian's chromium and the JavaScript client, against a server of its own.

All of it is on a network of the file's own, on which the server listens for packets. A video's colours are not exact.
"""

import os
import re
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, sync_playwright
from tests.chromium import CHROMIUM
from tests.fal_packages import needs
from tests.processes import serving
from tests.waiting import LONG_S, WAIT_S, until

APP = str(Path(__file__).parent / "apps" / "filmed.py")
RED, GREEN, BLUE = (255, 0, 0), (0, 255, 0), (0, 0, 255)

pytestmark = [
    pytest.mark.timeout(LONG_S),
    needs(CHROMIUM is not None, "no chromium: run `make test` as root"),
]


@pytest.fixture(scope="module")
def server(own_network: str) -> Iterator[str]:
    # By loopback, which it would take as well, a lost network is none.
    with serving(APP, env={**os.environ, "STREAMAPP_WEBRTC_ADDRESSES": own_network}) as (url, _):
        yield url


@pytest.fixture(scope="module")
def browser(own_network: str) -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


class Tab:
    """One tab with the page of tests/apps/filmed."""

    def __init__(self, page: Page, url: str) -> None:
        self.page = page
        page.set_default_timeout(1000 * WAIT_S)
        page.goto(url)
        until(lambda: page.evaluate("globalThis.connect !== undefined"))  # its policy lets no text be waited for

    def connect(self, **options: Any) -> "Tab":
        self.page.evaluate("connect", options)
        return self

    def send(self, n: int, color: tuple[int, int, int], **more: Any) -> None:
        self.page.evaluate("input => void session.send(input)", {"n": n, "color": color, **more})

    def finish(self) -> None:
        """Send no more, and wait for the end."""
        self.page.evaluate("session.finish()")
        until(lambda: "done" in self.told())

    def told(self) -> list[str]:
        return list(self.page.evaluate("told"))

    def outputs(self) -> list[Any]:
        return list(self.page.evaluate("outputs"))

    def shows(self, width: int, color: tuple[int, int, int]) -> bool:
        seen_width, *seen = self.page.evaluate("seen()")
        return bool(seen_width == width) and all(abs(a - b) < 30 for a, b in zip(seen, color, strict=True))


@contextmanager
def tab(browser: Browser, url: str) -> Iterator[Tab]:
    with browser.new_context() as context:
        yield Tab(context.new_page(), url)


def ip(command: str) -> None:
    subprocess.run(["ip", *command.split()], check=True, timeout=WAIT_S)


def test_each_of_two_tabs_sees_its_own_pictures_also_when_the_other_is_closed(browser: Browser, server: str) -> None:
    with tab(browser, server) as one, tab(browser, server) as other:
        one.connect().send(1, RED)
        other.connect().send(1, GREEN, width=240)
        until(lambda: one.shows(192, RED))
        until(lambda: other.shows(240, GREEN))
        one.page.close()
        other.send(2, BLUE, width=96)
        until(lambda: other.shows(96, BLUE))
        standing = {"content_type": "video", "width": 96, "height": 64, "frame": 2}
        assert other.outputs()[1] == {"n": 2, "image": standing}


@pytest.mark.long
def test_a_lost_network_loses_and_doubles_nothing(browser: Browser, server: str, own_network: str) -> None:
    with tab(browser, server) as page:
        page.connect()
        for n in range(100):
            page.send(n, RED, takes_s=0.01)
        until(lambda: len(page.outputs()) > 20)
        ip(f"address delete {own_network}/24 dev wire")
        try:
            until(lambda: "reconnecting" in page.told())
        finally:
            ip(f"address add {own_network}/24 dev wire")
            ip("route add default via 10.20.0.2")
        page.send(100, BLUE)
        until(lambda: page.shows(192, BLUE))
        page.finish()
        assert [output["n"] for output in page.outputs()] == [*range(101)]
        assert page.told() == ["connected", "reconnecting", "reconnected", "done"]


@pytest.mark.long
def test_the_newest_input_wins(browser: Browser, server: str) -> None:
    with tab(browser, server) as page:
        page.connect(path="/paint?max_buffering=1", newest=True)
        page.page.evaluate("""async () => {
            for (let n = 0; n <= 200; n++) {
                session.send({ n, color: [n, 0, 255 - n], takes_s: 0.02 });
                await new Promise((resolve) => setTimeout(resolve));
            }
        }""")
        until(lambda: page.outputs()[-1]["n"] == 200)
        until(lambda: page.shows(192, (200, 0, 55)))
        numbers = [output["n"] for output in page.outputs()]
        assert numbers == sorted(set(numbers))
        assert len(numbers) < 200


@pytest.mark.long
def test_the_last_picture_is_seen_though_the_session_ends_with_it(browser: Browser, server: str) -> None:
    with tab(browser, server) as page:
        page.connect().send(1, RED)
        until(lambda: page.shows(192, RED))
        page.send(2, GREEN)
        page.page.evaluate("session.finish()")
        until(lambda: page.shows(192, GREEN))


@pytest.mark.long
def test_the_same_path_by_a_websocket_has_the_picture_in_its_data(browser: Browser, server: str) -> None:
    with tab(browser, server) as page:
        page.connect(webrtc=False).send(1, RED)
        page.finish()
        assert re.match("data:image/png;base64,", page.outputs()[0]["image"]["url"])


@pytest.mark.long
def test_a_drain_ends_the_session_as_it_ends_one_by_a_websocket(browser: Browser, own_network: str) -> None:
    with serving(APP, env=os.environ) as (url, process), tab(browser, url) as page, tab(browser, url) as socket:
        page.connect().send(1, RED)
        until(lambda: page.shows(192, RED))
        socket.connect(webrtc=False).send(1, RED)
        until(lambda: bool(socket.outputs()))
        process.send_signal(signal.SIGTERM)
        until(lambda: len(page.told()) > 1 and len(socket.told()) > 1)
        assert page.told() == socket.told()
        assert process.wait(WAIT_S) is not None


@pytest.mark.long
def test_the_key_is_asked_for_before_anything_is_opened(browser: Browser, own_network: str) -> None:
    with serving(APP, env={**os.environ, "STREAMAPP_API_KEY": "a key"}) as (url, _):
        with tab(browser, url) as page:
            page.connect()
            until(lambda: bool(page.told()))
            assert page.told()[0].startswith("unauthorized: ")
        with tab(browser, f"{url}/?key=a+key") as page:
            page.connect().send(1, RED)
            until(lambda: page.shows(192, RED))
