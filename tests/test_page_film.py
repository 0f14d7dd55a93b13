"""A film of the playground for the README: somebody types a prompt, sees the image come, and makes another one of it.

With SCREENSHOTS in the environment it is kept as docs/playground.webp.
"""

import io
import os
import re
from pathlib import Path
from typing import Any

import PIL.Image
import PIL.ImageChops
import PIL.ImageDraw
import pytest
from playwright.sync_api import Locator, expect
from tests.tabs import ROOT, Opener, Playground
from tests.waiting import LONG_S

pytestmark = [pytest.mark.timeout(LONG_S), pytest.mark.long]

WINDOW, SIZE = {"width": 1280, "height": 800}, (960, 600)
MOST_BYTES = 1_500_000
ARROW = [(0, 0), (0, 17), (4, 13), (7, 20), (10, 19), (7, 12), (12, 12)]


def pointer(size: int = 8) -> PIL.Image.Image:
    """Draw the arrow of a mouse, larger than it is wanted, and make it small, so that its edges are smooth."""
    large = PIL.Image.new("RGBA", (14 * size, 22 * size))
    corners = [((x + 1) * size, (y + 1) * size) for x, y in ARROW]
    PIL.ImageDraw.Draw(large).polygon(corners, fill="black", outline="white", width=size)
    return large.resize((14, 22), PIL.Image.Resampling.LANCZOS)


class Film:
    """Frames of a tab, and for how long each is to be seen; the mouse is drawn where it was led."""

    def __init__(self, tab: Playground) -> None:
        self.tab = tab
        self.frames: list[PIL.Image.Image] = []
        self.durations: list[int] = []
        self._pointer = pointer()
        self._at = (WINDOW["width"] / 2, WINDOW["height"] / 2)

    def look(self, ms: int) -> None:
        """Take a frame; one that looks like the last lengthens that."""
        shot = PIL.Image.open(io.BytesIO(self.tab.page.screenshot())).convert("RGB")
        frame = shot.resize(SIZE, PIL.Image.Resampling.LANCZOS)
        scale = SIZE[0] / WINDOW["width"]
        frame.paste(self._pointer, (round(self._at[0] * scale), round(self._at[1] * scale)), self._pointer)
        if self.frames and PIL.ImageChops.difference(frame, self.frames[-1]).getbbox() is None:
            self.durations[-1] += ms
        else:
            self.frames.append(frame)
            self.durations.append(ms)

    def lead_to(self, locator: Locator, across: float = 0.5) -> None:
        """Lead the mouse there, slower towards the end."""
        box = locator.bounding_box()
        assert box is not None
        begin, end = self._at, (box["x"] + box["width"] * across, box["y"] + box["height"] / 2)
        for share in (0.35, 0.65, 0.85, 0.95, 1):
            self._at = (begin[0] + (end[0] - begin[0]) * share, begin[1] + (end[1] - begin[1]) * share)
            self.tab.page.mouse.move(*self._at)
            self.look(50)

    def click(self, locator: Locator) -> None:
        self.lead_to(locator)
        self.look(200)
        self.tab.page.mouse.down()
        self.tab.page.mouse.up()

    def drag(self, slider: Locator, *places: float) -> None:
        """Drag what is in the middle of a slider from place to place."""
        self.lead_to(slider)
        self.tab.page.mouse.down()
        for place in places:
            self.lead_to(slider, place)
        self.tab.page.mouse.up()

    def write(self, field: Locator, text: str) -> None:
        """Write a text in the place of the one that is there, as people type: a few letters at a time."""
        self.click(field)
        self.tab.page.keyboard.press("Control+A")
        for piece in re.findall(r"\S{1,4}\s?", text):
            self.tab.page.keyboard.type(piece)
            self.look(110)

    def watch_run(self, number: int) -> None:
        """Look at each preview of the run that was started as the `number`th of the page, and at what comes of it."""
        expect(self.tab.runs).to_have_count(number)
        step = None
        while self.tab.runs.filter(has_text="Done").count() < number:
            newest = self.tab.page.evaluate("document.querySelector('img[alt=preview]')?.dataset.step")
            if newest == step:
                self.tab.page.wait_for_timeout(10)
            else:
                self.look(110)
                step = newest
        expect(self.tab.result.first).to_be_visible()
        self.look(1500)

    def save(self, path: Path) -> None:
        first, *others = self.frames
        # One key frame: 280 kB in place of 420. Lossless ones among the lossy would save 7 of them, in two minutes.
        options: dict[str, Any] = {"quality": 80, "method": 4, "minimize_size": True}
        first.save(path, save_all=True, append_images=others, duration=self.durations, loop=0, **options)


def test_a_film_shows_images_come_and_two_of_them_compared(sdxl: str, playground: Opener, tmp_path: Path) -> None:
    tab = playground(sdxl, viewport=WINDOW).open("/stream")
    film = Film(tab)
    expect(tab.button("Run")).to_be_enabled()
    film.look(800)
    film.write(tab.field("Prompt"), "a yellow star on a blue background")
    film.click(tab.button("Run"))
    film.watch_run(1)
    film.click(tab.button("Vary seed"))
    film.watch_run(2)
    film.write(tab.field("Prompt"), "a green star on a pink background")
    film.click(tab.button("Run"))
    film.watch_run(3)
    film.click(tab.button("Compare"))
    film.drag(tab.page.get_by_role("slider", name="Compare"), 0.5, 0.2, 0.8, 0.5)
    film.look(1500)
    path = (ROOT / "docs" if "SCREENSHOTS" in os.environ else tmp_path) / "playground.webp"
    film.save(path)
    assert path.stat().st_size < MOST_BYTES
    with PIL.Image.open(path) as kept:
        assert len(film.frames) >= getattr(kept, "n_frames", 1) > 60  # what looks the same is one
