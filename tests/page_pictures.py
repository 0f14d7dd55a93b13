"""Pictures of each state of the playground, in light and dark, wide and on a phone, to be looked at one by one.

    python -m tests.page_pictures OUT [--only 'done*' ...]

OUT/NAME.png has the four of a state side by side, OUT/several smaller ones of several states, OUT/index.html all of
them, OUT/single the pictures as they were taken. What a state needs and the page lacks is told, and the pictures show
how far it came.
"""

import argparse
import contextlib
import fnmatch
import html
import itertools
import json
import os
import re
import sys
import tempfile
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import httpx
import PIL.Image
import PIL.ImageDraw
import PIL.ImageFont
from playwright.sync_api import Browser, Error, Locator, expect, sync_playwright
from tests.chromium import CHROMIUM
from tests.cutting_proxy import cutting
from tests.processes import port_of
from tests.tabs import (
    ARGUMENTS,
    CONTENTS,
    LONG,
    MISSING,
    PHONE,
    SDXL,
    SLOW_SETUP,
    Playground,
    let_through,
    running_jobs,
    serving,
)
from tests.waiting import until

AUDIO, LLM, VOXELS = ("apps/audio/app.py", "apps/llm/app.py", "apps/voxels/app.py")
VIEWS: dict[str, dict[str, Any]] = {
    "wide": {"viewport": {"width": 1280, "height": 860}},
    "phone": {"viewport": PHONE, "is_mobile": True, "has_touch": True, "device_scale_factor": 2},
}
SCHEMES = ("light", "dark")
WAIT_MS = 60_000
NARROW = 800  # there what starts a run sticks to the window's lower edge
THERE_MS = 8_000  # for what may not be there at all
# Of a state's own sheet, and of one with several: how wide a picture is by its view, how much of a long one is shown.
OWN, SHARED = ({"wide": 800, "phone": 300}, 1500), ({"wide": 600, "phone": 200}, 420)
ON_ONE = 4  # states on a sheet with several
GAP, TITLE, BACK = 12, 40, "#808080"
PROMPT = "a red circle on a blue background"
TRACEBACK = """Traceback (most recent call last):
  File "/app/draw.py", line 41, in stream
    image = self.pipe(prompt, **settings).images[0]
  File "/app/colours.py", line 7, in __getitem__
    return self.named[colour]
KeyError: 'blurple'"""

T = TypeVar("T")


class Missing(Exception):
    """Say what the page lacks."""


class Visit:
    """What leads one tab to a state: servers, which all states share, and what is its own, which ends with it."""

    def __init__(self, browser: Browser, servers: "Servers", view: str) -> None:
        self.browser = browser
        self.servers = servers
        self.view = view
        self.tab: Playground | None = None
        self._own = ExitStack()

    def enter(self, own: AbstractContextManager[T]) -> T:
        return self._own.enter_context(own)

    def finally_do(self, act: Callable[[], object]) -> None:
        self._own.callback(act)

    def at(self, *apps: str, **environment: Any) -> Playground:
        return self.at_url(self.servers.url(*apps, **environment))

    def at_url(self, url: str, **options: Any) -> Playground:
        """Open a tab; the last one is taken pictures of."""
        context = self.browser.new_context(**{**VIEWS[self.view], **options})
        self._own.callback(context.close)
        context.grant_permissions(["clipboard-read", "clipboard-write"])
        context.set_default_timeout(WAIT_MS)
        self.tab = Playground(context.new_page(), url)
        return self.tab

    def close(self) -> None:
        """Leave as people do, and wait until the server has ended what ran for nobody else."""
        if self.tab:
            self.tab.page.close()
        self._own.close()
        self.servers.settle()


class Servers:
    """Servers by their apps and environment, each started once."""

    def __init__(self, stack: ExitStack) -> None:
        self._stack = stack
        self._urls: dict[Any, str] = {}

    def url(self, *apps: str, **environment: Any) -> str:
        key = (apps, *environment.items())
        if key not in self._urls:
            self._urls[key] = self._stack.enter_context(serving(*apps, **environment))
        return self._urls[key]

    def settle(self) -> None:
        """Wait until nothing runs, but on those that ask for a key, where nothing was run."""
        for (_, *environment), url in self._urls.items():
            if not environment:
                until(lambda url=url: running_jobs(url) == 0)  # type: ignore[misc]


Lead = Callable[[Visit], None]
STATES: dict[str, Lead] = {}
CLIPPED: set[str] = set()  # of these the window is shown, and not the whole page


def state(lead: Lead) -> Lead:
    """List a state by the name of the function that leads to it."""
    STATES[lead.__name__] = lead
    return lead


def clipped(lead: Lead) -> Lead:
    CLIPPED.add(lead.__name__)
    return state(lead)


# What states are made of


def there(locator: Locator, what: str) -> Locator:
    """Return it, where it is seen soon."""
    try:
        locator.first.wait_for(timeout=THERE_MS)
    except Error:
        raise Missing(what) from None
    return locator.first


def press(tab: Playground, *names: str) -> None:
    """Press what has one of these names, whatever it is."""
    pattern = re.compile("|".join(rf"^{re.escape(name)}\b" for name in names), re.IGNORECASE)
    roles = [tab.page.get_by_role(role, name=pattern) for role in ("button", "tab", "menuitem", "link")]
    found = roles[0]
    for other in (*roles[1:], tab.page.locator("summary").filter(has_text=pattern)):
        found = found.or_(other)
    there(found.filter(visible=True), f"nothing called {' or '.join(names)}").click()


def panel(tab: Playground, name: str) -> None:
    """Show a panel by its tab."""
    there(tab.page.get_by_role("tab", name=re.compile(f"^{name}")), f"no tab {name}").click()


def photo(folder: Path, name: str = "harbour.png", colour: str = "steelblue") -> Path:
    """Make a picture to be chosen as a file."""
    image = PIL.Image.new("RGB", (640, 420), colour)
    draw = PIL.ImageDraw.Draw(image)
    draw.ellipse((380, 60, 500, 180), fill="gold")
    draw.polygon([(0, 420), (200, 200), (330, 320), (470, 220), (640, 420)], fill="midnightblue")
    image.save(folder / name)
    return folder / name


def folder_of(visit: Visit) -> Path:
    return Path(visit.enter(tempfile.TemporaryDirectory()))


# Before a run


@state
def empty(visit: Visit) -> None:
    there(visit.at(SDXL).open("/stream").button("Run"), "no button Run")


@clipped
def empty_window(visit: Visit) -> None:
    empty(visit)


@state
def empty_chat(visit: Visit) -> None:
    there(visit.at(LLM).open("/chat").button("Run"), "no button Run")


@state
def empty_3d(visit: Visit) -> None:
    there(visit.at(VOXELS).open("/stream").button("Run"), "no button Run")


@state
def several_apps(visit: Visit) -> None:
    tab = visit.at(SDXL, LLM, VOXELS).open()
    there(tab.button("Run"), "no button Run")


@clipped
def several_apps_menu(visit: Visit) -> None:
    several_apps(visit)
    assert visit.tab is not None
    menu = visit.tab.page.get_by_role("combobox", name="Endpoint").or_(
        visit.tab.page.get_by_role("button", name=re.compile("Endpoint|Apps"))
    )
    there(menu, "no menu of the endpoints").click()


@state
def many_endpoints(visit: Visit) -> None:
    there(visit.at(CONTENTS).open("/table").button("Run"), "no button Run")


@state
def loading(visit: Visit) -> None:
    gate = folder_of(visit) / "gate"
    os.mkfifo(gate)
    url = visit.enter(serving(SLOW_SETUP, awaits_setup=False, SETUP_GATE=str(gate)))
    tab = visit.at_url(url).open()
    there(tab.page.get_by_text(re.compile("loading", re.IGNORECASE)), "nothing says that it is loading")


@state
def loading_with_a_run(visit: Visit) -> None:
    loading(visit)
    assert visit.tab is not None
    visit.tab.run()
    visit.tab.page.wait_for_timeout(500)


@state
def loading_failed(visit: Visit) -> None:
    tab = visit.at(CONTENTS)
    body = {"ready": False, "reason": "contents: setup_failed", "traceback": TRACEBACK}
    tab.page.route("**/ready", lambda route: route.fulfill(status=503, json=body))
    tab.open("/work")
    there(tab.page.get_by_text(re.compile("setup failed|could not be loaded", re.IGNORECASE)), "no word of the setup")


@state
def key(visit: Visit) -> None:
    there(visit.at(CONTENTS, STREAMAPP_API_KEY="open sesame").open().page.get_by_label("API key"), "no field for a key")


@state
def key_wrong(visit: Visit) -> None:
    key(visit)
    assert visit.tab is not None
    field = visit.tab.page.get_by_label("API key")
    field.fill("sesame")
    field.press("Enter")
    there(visit.tab.alert, "no alert")


@state
def link_wrong(visit: Visit) -> None:
    there(visit.at(CONTENTS).open("/nowhere").alert, "no alert")


@state
def job_gone(visit: Visit) -> None:
    there(visit.at(CONTENTS).open(f"/jobs/{'0' * 32}").alert, "no alert")


# The form


@state
def form(visit: Visit) -> None:
    there(visit.at(CONTENTS).open("/everything", text="two words").button("Run"), "no button Run")


@state
def settings_open(visit: Visit) -> None:
    press(visit.at(SDXL).open("/stream", prompt=PROMPT), "Additional settings")


@state
def form_settings_open(visit: Visit) -> None:
    press(visit.at(CONTENTS).open("/everything", text="two words"), "Additional settings")


@state
def sizes(visit: Visit) -> None:
    tab = visit.at(CONTENTS).open("/picture_of")
    with contextlib.suppress(Missing):
        press(tab, "Additional settings")
    there(tab.button("Run"), "no button Run")


@state
def wrong_input(visit: Visit) -> None:
    tab = visit.at(CONTENTS).open("/everything", text="x")
    tab.run()
    there(tab.page.get_by_text(re.compile("short|at least|characters", re.IGNORECASE)), "no word of what is wrong")


@state
def wrong_settings(visit: Visit) -> None:
    tab = visit.at(SDXL).open("/stream", prompt=PROMPT, num_inference_steps=99)
    tab.run()
    there(tab.page.get_by_text(re.compile("50|at most|<=")), "no word of what is wrong")


@state
def raw_json(visit: Visit) -> None:
    tab = visit.at(SDXL).open("/stream", prompt=PROMPT, num_inference_steps=30, seed=177)
    press(tab, "Raw JSON", "JSON", "Edit as JSON")


@state
def any_json(visit: Visit) -> None:
    there(visit.at(CONTENTS).open("/any", prompt=PROMPT, n=3).button("Run"), "no button Run")


@state
def files_chosen(visit: Visit) -> None:
    tab = visit.at(CONTENTS).open("/everything", text="two words")
    folder = folder_of(visit)
    (folder / "notes.txt").write_text("hello")
    tab.field("Image").set_input_files(photo(folder))
    tab.field("File").set_input_files(folder / "notes.txt")
    there(tab.page.get_by_text("notes.txt"), "no name of the file")


@state
def files_empty(visit: Visit) -> None:
    there(visit.at(CONTENTS).open("/film").button("Run"), "no button Run")


@state
def several_files(visit: Visit) -> None:
    tab = visit.at(CONTENTS).open("/album")
    folder = folder_of(visit)
    pictures = [photo(folder, f"{colour}.png", colour) for colour in ("steelblue", "salmon", "seagreen")]
    there(tab.page.locator("input[type=file]"), "no field for files")
    tab.page.locator("input[type=file]").first.set_input_files(pictures)
    there(tab.page.get_by_text("seagreen.png"), "no name of the third file")


@clipped
def camera(visit: Visit) -> None:
    tab = visit.at(CONTENTS).open("/everything", text="two words")
    press(tab, "Camera")
    tab.page.wait_for_timeout(1000)


@clipped
def mask(visit: Visit) -> None:
    tab = visit.at(CONTENTS).open("/masked")
    there(tab.page.locator("input[type=file]"), "no field for files")
    tab.page.locator("input[type=file]").first.set_input_files(photo(folder_of(visit)))
    press(tab, "Paint", "Paint a mask", "Paint the mask", "Draw")
    canvas = there(tab.page.locator("canvas"), "no canvas")
    box = canvas.bounding_box()
    assert box is not None
    at = [(box["x"] + box["width"] * x, box["y"] + box["height"] * y) for x, y in ((0.55, 0.2), (0.8, 0.4), (0.6, 0.5))]
    tab.page.mouse.move(*at[0])
    tab.page.mouse.down()
    for place in at[1:]:
        tab.page.mouse.move(*place, steps=10)
    tab.page.mouse.up()


@state
def messages(visit: Visit) -> None:
    said = [
        {"role": "system", "content": "You tell stories to children."},
        {"role": "user", "content": "Who are you?"},
        {"role": "assistant", "content": "I am a small model that tells stories."},
        {"role": "user", "content": "Tell me a story about a shy dragon and a clock."},
    ]
    there(visit.at(LLM).open("/chat", messages=said).button("Run"), "no button Run")


@clipped
def focus(visit: Visit) -> None:
    tab = visit.at(SDXL).open("/stream", prompt=PROMPT)
    there(tab.button("Run"), "no button Run").focus()
    tab.page.keyboard.press("Shift+Tab")
    tab.page.keyboard.press("Tab")


@state
def socket(visit: Visit) -> None:
    visit.at(CONTENTS).open("/rooms/{name}").page.wait_for_timeout(500)


# While it runs


@state
def queued(visit: Visit) -> None:
    """Wait behind three jobs of other people's."""
    server = visit.servers.url(CONTENTS)
    for _ in range(3):
        job = httpx.post(f"{server}/gated", json={"steps": 1}, headers={"Prefer": "respond-async"}).json()
        visit.finally_do(partial(httpx.post, f"{server}/jobs/{job['job_id']}/cancel"))
    tab = visit.at(CONTENTS).open("/gated", steps=1).run()
    there(tab.page.get_by_text(re.compile("3rd|2 before")), "nothing says that it is the third")


@state
def running(visit: Visit) -> None:
    tab = visit.at(SDXL).open(
        "/stream", prompt=PROMPT, seed=7, **{**LONG, "num_images": 1, "height": 384, "width": 384}
    )
    tab.run()
    expect(tab.preview.first).to_be_visible()
    tab.page.wait_for_timeout(2000)  # so that there is a time left


@state
def running_four(visit: Visit) -> None:
    tab = visit.at(CONTENTS).open("/images", steps=3, is_held=True).run()
    expect(tab.preview).to_have_count(4)


@state
def running_wide(visit: Visit) -> None:
    expect(visit.at(CONTENTS).open("/wide").run().preview.first).to_be_visible()


@state
def reconnecting(visit: Visit) -> None:
    proxy = visit.enter(cutting(port_of(visit.servers.url(CONTENTS)), cut=0))
    tab = visit.at_url(f"http://127.0.0.1:{proxy.port}").open("/gated", steps=50).run()
    let_through(visit.servers.url(CONTENTS), 1)
    expect(tab.preview.first).to_be_visible()
    proxy.go_down()
    there(tab.page.get_by_text(re.compile("reconnecting|connection", re.IGNORECASE)), "no word of the connection")


@state
def text_running(visit: Visit) -> None:
    tab = visit.at(LLM).open("/stream", prompt="Once upon a time there was a shy dragon", seed=5).run()
    expect(tab.output).to_contain_text(re.compile(r"(\w+\W+){40}"))


@state
def audio_running(visit: Visit) -> None:
    tab = visit.at(AUDIO).open("/stream", prompt="calm music box on a rainy night", duration_s=60, speed=2, seed=3)
    tab.run()
    there(tab.output.get_by_role("button", name=re.compile("Pause|Play")), "no player")
    tab.page.wait_for_timeout(3000)


@state
def mesh_running(visit: Visit) -> None:
    tab = visit.at(VOXELS).open(
        "/stream", scene="tall bumpy twisted hollow pink box - ball above", resolution=128, pause_s=1
    )
    tab.run()
    there(tab.output.locator("canvas"), "no view")
    tab.page.wait_for_timeout(1500)


@state
def cancelled(visit: Visit) -> None:
    tab = visit.at(CONTENTS).open("/gated", steps=5).run()
    let_through(tab.server, 1)
    expect(tab.preview.first).to_be_visible()
    press(tab, "Cancel")
    tab.ends("cancelled")


# When it is done


def drawn(visit: Visit, **values: Any) -> Playground:
    """Have an image made."""
    tab = visit.at(SDXL).open("/stream", **{"prompt": PROMPT, "num_inference_steps": 20, "seed": 177, **values}).run()
    expect(tab.ends().result.first).to_be_visible()
    return tab


@state
def done(visit: Visit) -> None:
    drawn(visit)


@clipped
def done_window(visit: Visit) -> None:
    drawn(visit)


@state
def done_four(visit: Visit) -> None:
    drawn(visit, num_images=4)


@state
def done_three(visit: Visit) -> None:
    visit.at(CONTENTS).open("/images", count=3).run().ends()


@state
def done_after_several(visit: Visit) -> None:
    tab = drawn(visit)
    for n, prompt in enumerate(("a green star", "a yellow square", "a blue triangle on a white background"), 2):
        tab.open("/stream", prompt=prompt, num_inference_steps=20, seed=n).run()
        expect(tab.runs).to_have_count(n)
        tab.ends()


@state
def empty_after_runs(visit: Visit) -> None:
    """What was made takes the place of the examples."""
    press(drawn(visit), "New")


@state
def compare(visit: Visit) -> None:
    tab = drawn(visit)
    press(tab, "Vary seed", "Vary the seed")
    expect(tab.runs).to_have_count(2)
    tab.ends()
    press(tab, "Compare")


@clipped
def lightbox(visit: Visit) -> None:
    tab = drawn(visit, num_images=4)
    press(tab, "Zoom", "Enlarge", "Open")
    there(tab.page.get_by_role("dialog"), "no dialog")


@state
def step_chosen(visit: Visit) -> None:
    tab = drawn(visit)
    slider = there(tab.page.get_by_role("slider", name="Previews"), "no slider of the previews")
    slider.focus()
    slider.press("Home")
    for _ in range(7):
        slider.press("ArrowRight")


@clipped
def shared(visit: Visit) -> None:
    press(drawn(visit), "Share")


@state
def text(visit: Visit) -> None:
    visit.at(CONTENTS).open("/tokens").run().ends()


@state
def chat(visit: Visit) -> None:
    said = [{"role": "user", "content": "Who are you?"}]
    tab = visit.at(LLM).open("/chat", messages=said, seed=1, max_tokens=60).run()
    tab.ends()


@state
def choices(visit: Visit) -> None:
    said = [{"role": "user", "content": "How warm is it?"}]
    visit.at(CONTENTS).open("/completions", messages=said).run().ends()


@state
def duet(visit: Visit) -> None:
    visit.at(CONTENTS).open("/duet").run().ends()


@state
def shelf(visit: Visit) -> None:
    """Files, a picture of few pixels, and a table with gaps."""
    visit.at(CONTENTS).open("/shelf").run().ends()


@state
def audio(visit: Visit) -> None:
    tab = visit.at(AUDIO).open("/stream", prompt="happy dance in D major with drums", duration_s=20, speed=100, seed=3)
    tab.run().ends()
    tab.page.wait_for_timeout(500)


@state
def audio_file(visit: Visit) -> None:
    visit.at(CONTENTS).open("/audio", seconds=3).run().ends()


@state
def video(visit: Visit) -> None:
    visit.at(CONTENTS).open("/video").run().ends()


@state
def mesh(visit: Visit) -> None:
    tab = visit.at(VOXELS).open("/stream", scene="a tall twisted purple box + a huge yellow ring", pause_s=0).run()
    tab.ends()
    tab.page.wait_for_timeout(1000)


@state
def mesh_small(visit: Visit) -> None:
    tab = visit.at(CONTENTS).open("/mesh").run()
    tab.ends()
    tab.page.wait_for_timeout(1000)


@state
def voxels(visit: Visit) -> None:
    tab = visit.at(CONTENTS).open("/voxels", steps=6).run()
    tab.ends()
    tab.page.wait_for_timeout(1000)


@state
def table(visit: Visit) -> None:
    visit.at(CONTENTS).open("/table", rows=12).run().ends()


@state
def json_only(visit: Visit) -> None:
    visit.at(CONTENTS).open("/nested").run().ends()


@state
def own_answer(visit: Visit) -> None:
    visit.at(CONTENTS).open("/picture").run().ends()


@state
def handled(visit: Visit) -> None:
    visit.at(CONTENTS).open("/handled", prompt=PROMPT).run().ends()


@state
def session(visit: Visit) -> None:
    tab = visit.at(CONTENTS).open("/sketch", size=5)
    press(tab, "Connect")
    there(tab.button("Send"), "no button Send").click()
    expect(tab.result.first).to_be_visible()


@state
def zoom_200(visit: Visit) -> None:
    """A window of half the size, each of whose pixels is four; 320 is as narrow as pages have to get."""
    half = {name: max(320, size // 2) for name, size in VIEWS[visit.view]["viewport"].items()}
    tab = visit.at_url(visit.servers.url(SDXL), viewport=half, device_scale_factor=2, is_mobile=False)
    tab.open("/stream", prompt=PROMPT, seed=177).run()
    expect(tab.ends().result.first).to_be_visible()


# When it goes wrong


@state
def failed(visit: Visit) -> None:
    visit.at(CONTENTS).open("/fails").run().ends("failed")


@state
def failed_traceback(visit: Visit) -> None:
    tab = visit.at(CONTENTS)
    failure = {"code": "endpoint_failed", "message": "KeyError: 'blurple'", "retryable": False, "traceback": TRACEBACK}
    body = {"error": failure, "detail": "KeyError: 'blurple'", "error_type": "endpoint_failed"}
    events = f'event: output\ndata: {{"n": 1}}\n\nevent: error\ndata: {json.dumps(body)}\n\n'
    tab.page.route("**/fails", lambda route: route.fulfill(content_type="text/event-stream", body=events))
    tab.open("/fails").run().ends("failed")
    press(tab, "Traceback")


@state
def harmful(visit: Visit) -> None:
    visit.at(CONTENTS).open("/harmful").run().ends()


@state
def gone(visit: Visit) -> None:
    tab = visit.at(CONTENTS).open("/work", steps=3)
    there(tab.button("Run"), "no button Run")
    tab.page.route("**/*", lambda route: route.abort("connectionrefused"))
    tab.run().ends("failed")


@state
def gone_at_first(visit: Visit) -> None:
    tab = visit.at(CONTENTS)
    tab.page.route("**/openapi.json", lambda route: route.abort("connectionrefused"))
    there(tab.open().alert, "no alert")


# Beside the preview


@state
def json_tab(visit: Visit) -> None:
    panel(drawn(visit), "JSON")


@state
def logs(visit: Visit) -> None:
    tab = visit.at(CONTENTS).open("/work", steps=12, interval_s=0.02).run()
    panel(tab.ends(), "Logs")


@state
def timeline(visit: Visit) -> None:
    panel(drawn(visit), "Timeline")


@state
def no_logs(visit: Visit) -> None:
    panel(visit.at(SDXL).open("/stream", prompt=PROMPT), "Logs")


def code(language: str) -> None:
    """List a state of the code in a language."""

    def lead(visit: Visit) -> None:
        tab = visit.at(LLM if language == "openai" else SDXL).open("/chat" if language == "openai" else "/stream")
        with contextlib.suppress(Missing):
            panel(tab, "Code")
        there(tab.page.get_by_role("tab", name=re.compile(language, re.IGNORECASE)), f"no code for {language}").click()

    lead.__name__ = f"code_{language.lower()}"
    state(lead)


for language in ("curl", "Python", "JavaScript", "EventSource", "fal_client", "openai", "Runpod"):
    code(language)


# To take and to show them


# On a picture of the whole page, what sticks to the window's edge would stand in its middle.
UNSTICK = """() => {
  for (const element of document.querySelectorAll("body *")) {
    if (["sticky", "fixed"].includes(getComputedStyle(element).position)) element.style.position = "static";
  }
}"""


def take(visit: Visit, name: str, folder: Path) -> list[Path]:
    """Take what the tab shows, light and dark."""
    assert visit.tab is not None
    page = visit.tab.page
    pictures = []
    if name not in CLIPPED and page.evaluate("innerWidth") <= NARROW:
        page.evaluate(UNSTICK)
    for scheme in SCHEMES:
        page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
        page.evaluate("() => new Promise((seen) => requestAnimationFrame(() => requestAnimationFrame(seen)))")
        pictures.append(folder / f"{name}-{visit.view}-{scheme}.png")
        page.screenshot(path=pictures[-1], full_page=name not in CLIPPED, animations="disabled")
    return pictures


def beside(pictures: list[Path], widths: dict[str, int], tallest: int) -> PIL.Image.Image:
    """Put the pictures of a state side by side, the upper part of long ones."""
    scaled = []
    for path in pictures:
        image = PIL.Image.open(path).convert("RGB")
        width = widths["phone" if "-phone-" in path.name else "wide"]
        image = image.resize((width, image.height * width // image.width), PIL.Image.Resampling.LANCZOS)
        scaled.append(image.crop((0, 0, width, min(image.height, tallest))))
    size = (sum(image.width + GAP for image in scaled), max(image.height for image in scaled))
    whole = PIL.Image.new("RGB", size, BACK)
    left = 0
    for image in scaled:
        whole.paste(image, (left, 0))
        left += image.width + GAP
    return whole


def sheet(rows: dict[str, PIL.Image.Image]) -> PIL.Image.Image:
    """Put pictures below each other, each with its title."""
    size = (GAP + max(row.width for row in rows.values()), sum(TITLE + row.height + GAP for row in rows.values()))
    whole = PIL.Image.new("RGB", size, BACK)
    draw = PIL.ImageDraw.Draw(whole)
    top = 0
    for title, row in rows.items():
        draw.text((GAP, top + 8), title, fill="white", font=PIL.ImageFont.load_default(20))
        whole.paste(row, (GAP, top + TITLE))
        top += TITLE + row.height + GAP
    return whole


def visit_state(browser: Browser, servers: Servers, name: str, view: str, folder: Path) -> tuple[list[Path], str]:
    """Lead a tab to a state and take its pictures; what was missing is returned, too."""
    visit = Visit(browser, servers, view)
    missing = ""
    try:
        STATES[name](visit)
    except (Missing, Error, AssertionError) as error:
        missing = str(error).strip().partition("\n")[0]
    try:
        return (take(visit, name, folder) if visit.tab and visit.tab.page.url != "about:blank" else []), missing
    finally:
        visit.close()


def draw_all(out: Path, names: list[str]) -> int:
    """Draw the sheets of these states; return how many were not reached."""
    (out / "single").mkdir(parents=True, exist_ok=True)
    (out / "several").mkdir(exist_ok=True)
    expect.set_options(timeout=WAIT_MS)
    lacking = 0
    rows: dict[str, PIL.Image.Image] = {}
    with sync_playwright() as playwright, ExitStack() as stack:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        stack.callback(browser.close)
        servers = Servers(stack)
        for name in names:
            visits = [visit_state(browser, servers, name, view, out / "single") for view in VIEWS]
            pictures = list(itertools.chain.from_iterable(pictures for pictures, _ in visits))
            missing = next((words for _, words in visits if words), "")
            lacking += bool(missing)
            print(f"{name}: {missing or 'seen'}", flush=True)  # noqa: T201 - a command
            if pictures:
                title = f"{name}    {missing}"
                sheet({title: beside(pictures, *OWN)}).save(out / f"{name}.png")
                rows[title] = beside(pictures, *SHARED)
    titles = list(rows)
    for first in range(0, len(titles), ON_ONE):
        shown = {title: rows[title] for title in titles[first : first + ON_ONE]}
        sheet(shown).save(out / "several" / f"{first // ON_ONE + 1:02}.png")
    return lacking


def index(out: Path) -> str:
    """Return a page with all sheets that there are."""
    links = (
        f'<h2>{html.escape(path.stem)}</h2><img src="{path.name}" loading="lazy">' for path in sorted(out.glob("*.png"))
    )
    return f"<!doctype html><title>Playground</title><style>img {{ max-width: 100% }}</style>{''.join(links)}"


def main() -> None:
    """Draw what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument(
        "--only", nargs="+", default=["*"], metavar="NAME", help="states by name; * stands for anything"
    )
    arguments = parser.parse_args()
    if CHROMIUM is None:
        sys.exit(MISSING)
    names = [name for name in STATES if any(fnmatch.fnmatch(name, only) for only in arguments.only)]
    lacking = draw_all(arguments.out, names)
    (arguments.out / "index.html").write_text(index(arguments.out))
    print(f"{len(names)} states, {lacking} not reached: {arguments.out}")  # noqa: T201 - a command


if __name__ == "__main__":
    main()
