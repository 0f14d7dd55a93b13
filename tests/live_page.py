"""The page of the app that draws along: served as its users do, opened in a tab, drawn on, and looked at."""

import math
import os
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page
from tests import processes
from tests.waiting import WAIT_S

ROOT = Path(__file__).parent.parent
PROMPT = "a red circle on a blue background"
MIDDLE, CORNER = (8, 8), (1, 1)
# The colour of a canvas, an image or a video at a place of 16 by 16.
COLOUR = """(shown, [x, y]) => {
  const context = Object.assign(document.createElement("canvas"), { width: 16, height: 16 }).getContext("2d");
  context.drawImage(shown, 0, 0, 16, 16);
  const [red, green, blue] = context.getImageData(x, y, 1, 1).data;
  return red > 2 * blue ? "red" : blue > 2 * red ? "blue" : red + green + blue > 600 ? "white" : "other";
}"""


def serving(*options: str, **environment: str) -> AbstractContextManager[tuple[str, Any]]:
    """Serve the app; yield its URL, and the process."""
    # One thread for torch: several wait for each other by spinning, which takes the cores from the browser.
    variables = {**os.environ, "OMP_NUM_THREADS": "1", **environment}
    return processes.serving(str(ROOT / "apps/live/app.py"), *options, env=variables)


def opened(browser: Browser, url: str, width: int = 1088, height: int = 760, **options: Any) -> Page:
    """Open the page in a tab of its own, where nothing may be wrong."""
    page = browser.new_context(viewport={"width": width, "height": height}, **options).new_page()
    page.set_default_timeout(1000 * WAIT_S)
    page.on("pageerror", lambda error: pytest.fail(f"the page has failed: {error}"))
    page.goto(url)
    return page


def draw(page: Page) -> None:
    """Draw a blob in the middle."""
    box = page.locator("#board").bounding_box()
    assert box is not None
    places = [(0.5 + 0.1 * math.cos(n), 0.5 + 0.1 * math.sin(1.1 * n)) for n in range(7)]
    for n, (x, y) in enumerate(places):
        page.mouse.move(box["x"] + box["width"] * x, box["y"] + box["height"] * y, steps=4)
        if n == 0:
            page.mouse.down()
    page.mouse.up()


def colour(page: Page, what: str, place: tuple[int, int]) -> str:
    """Return the colour that somebody sees there: red, blue, white or other."""
    found: str = page.locator(what).evaluate(COLOUR, place)
    return found
