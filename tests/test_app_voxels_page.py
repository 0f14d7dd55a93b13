"""How the page shows a solid of `apps/voxels` that grows: in three dimensions, in Chromium.

With SCREENSHOTS in the environment the picture of its README is made anew.
"""

import base64
import io
import itertools
import json
import os
import re
import urllib.parse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Locator, Page, Route, expect, sync_playwright
from tests.chromium import CHROMIUM
from tests.processes import serving
from tests.tabs import STILL
from tests.waiting import LONG_S, WAIT_S, until

ROOT = Path(__file__).parent.parent
MISSING = "no chromium: install it (apt-get install chromium), or run `make test` as root"
# What the page has of the GPU: buffers, programs that were ever made, contexts that are not lost.
COUNT_GPU = """
window.gpu = { buffers: 0, programs: 0, contexts: [] };
const count = (name, step, change) => {
  const own = WebGL2RenderingContext.prototype[name];
  WebGL2RenderingContext.prototype[name] = function (...given) {
    window.gpu[step] += change;
    return own.apply(this, given);
  };
};
count("createBuffer", "buffers", 1);
count("deleteBuffer", "buffers", -1);
count("createProgram", "programs", 1);
const getContext = HTMLCanvasElement.prototype.getContext;
HTMLCanvasElement.prototype.getContext = function (...given) {
  const context = getContext.apply(this, given);
  if (context instanceof WebGL2RenderingContext) window.gpu.contexts.push(context);
  return context;
};
"""
# Choose one preview after another, each for as long as it is drawn.
SCRUB = """async (slider, places) => {
  const set = Object.getOwnPropertyDescriptor(HTMLInputElement.prototype, "value").set;
  for (const place of places) {
    set.call(slider, place);
    slider.dispatchEvent(new Event("input", { bubbles: true }));
    await new Promise((resolve) => setTimeout(() => requestAnimationFrame(resolve)));
  }
}"""
# Take the GPU from the page's view, as phones do, and give it back.
LOSE_GPU = """async () => {
  const [context] = gpu.contexts;
  const once = { once: true };
  const { canvas } = context;
  const when = (name) => new Promise((resolve) => canvas.addEventListener(name, () => setTimeout(resolve), once));
  const gpuOf = context.getExtension("WEBGL_lose_context");
  const isLost = when("webglcontextlost");
  gpuOf.loseContext();
  await isLost;
  const isBack = when("webglcontextrestored");
  gpuOf.restoreContext();
  await isBack;
}"""
VOXELS = re.compile(r"\d voxels")  # what is said below the view
SCENE = "a tall twisted purple box + a huge yellow ring"

pytestmark = pytest.mark.timeout(LONG_S)
expect.set_options(timeout=1000 * WAIT_S)


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with serving(str(ROOT / "apps" / "voxels" / "app.py"), env=dict(os.environ)) as (url, _):
        yield url


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    if CHROMIUM is None:
        (pytest.fail if "CI" in os.environ else pytest.skip)(MISSING)
    with sync_playwright() as playwright:
        arguments = ["--no-sandbox", "--enable-unsafe-swiftshader"]  # as root; WebGL without a GPU
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=arguments)
        yield browser
        browser.close()


@pytest.fixture
def tab(browser: Browser, request: pytest.FixtureRequest) -> Iterator[Page]:
    """Open a tab; at the end the page may not have complained."""
    context = browser.new_context(reduced_motion="reduce", **getattr(request, "param", {}))  # it turns by itself
    context.set_default_timeout(1000 * WAIT_S)
    context.add_init_script(COUNT_GPU)
    page = context.new_page()
    complaints: list[str] = []
    page.on("pageerror", lambda error: complaints.append(str(error)))
    yield page
    context.close()
    assert complaints == []


def run(tab: Page, server: str, **input: Any) -> Locator:
    """Run the app; return the view."""
    given = urllib.parse.quote(json.dumps({"scene": SCENE, "resolution": 32, "pause_s": 0.1, **input}))
    tab.goto(f"{server}/playground#/stream?input={given}")
    tab.get_by_role("button", name="Run", exact=True).click()
    return tab.get_by_role("img", name="3D view")


def ended(tab: Page) -> None:
    """Wait for the end, and for the result to be seen."""
    expect(tab.get_by_role("status").first).to_have_attribute("data-state", "succeeded")
    tab.get_by_text("final.glb ·").wait_for()


def picture(view: Locator) -> PIL.Image.Image:
    """Return what the view has drawn, whatever of it the page shows."""
    url: str = view.evaluate(STILL)
    drawn = PIL.Image.open(io.BytesIO(base64.b64decode(url.partition(",")[2])))
    ground = PIL.Image.new("RGBA", drawn.size, "#f1f1f4")
    return PIL.Image.alpha_composite(ground, drawn.convert("RGBA")).convert("RGB")


def differs(one: PIL.Image.Image, other: PIL.Image.Image) -> bool:
    """Say whether more than a hundredth of two pictures is not alike."""
    distance = np.abs(np.asarray(one, int) - np.asarray(other, int)).max(axis=-1)
    return float((distance > 16).mean()) > 0.01


def scrub(tab: Page, *keys: str) -> None:
    for key in keys:
        tab.get_by_role("slider", name="Previews").press(key)


def seen(tab: Page, view: Locator, *keys: str) -> PIL.Image.Image:
    """Scrub to another preview; return what is seen when it has been drawn."""
    scrub(tab, *keys)
    words: dict[str, str | re.Pattern[str]] = {"Home": VOXELS, "End": "final.glb ·"}
    tab.get_by_text(words.get(keys[-1], "preview.glb ·")).wait_for()
    return picture(view)


def test_a_mesh_grows_while_one_looks(tab: Page, server: str) -> None:
    view = run(tab, server, resolution=64, pause_s=0.2)
    view.wait_for()
    expect(tab.get_by_role("status").first).to_have_attribute("data-state", "running")
    ended(tab)
    moments = [seen(tab, view, *keys) for keys in (["Home"], [*["ArrowRight"] * 5], ["End"])]
    assert all(differs(one, other) for one, other in itertools.combinations(moments, 2))
    if "SCREENSHOTS" in os.environ:
        whole = PIL.Image.new("RGB", (3 * moments[0].width, moments[0].height))
        for number, moment in enumerate(moments):
            whole.paste(moment, (number * moment.width, 0))
        whole.quantize(256, kmeans=2).save(ROOT / "apps" / "voxels" / "screenshot.png", optimize=True)


def test_the_view_stays_as_it_was_turned_when_cubes_become_a_mesh(tab: Page, server: str) -> None:
    view = run(tab, server)
    ended(tab)
    seen(tab, view, "Home")
    begun = seen(tab, view, "End")
    for _ in range(20):
        view.press("Shift+ArrowLeft")
    turned = picture(view)
    assert differs(begun, turned)
    assert differs(turned, seen(tab, view, "Home"))
    assert not differs(turned, seen(tab, view, "End"))


@pytest.mark.long
@pytest.mark.long
def test_a_view_is_zoomed_by_keyboard(tab: Page, server: str) -> None:
    view = run(tab, server)
    ended(tab)
    begun = picture(view)
    for _ in range(3):
        view.press("+")
    assert differs(begun, picture(view))
    for _ in range(3):
        view.press("-")
    assert not differs(begun, picture(view))


def test_however_many_previews_are_shown_the_gpu_holds_one_of_them(tab: Page, server: str) -> None:
    view = run(tab, server)
    ended(tab)
    seen(tab, view, "Home", "ArrowRight", "ArrowRight")
    held = tab.evaluate("[gpu.buffers, gpu.programs]")
    slider = tab.get_by_role("slider", name="Previews")
    slider.evaluate(SCRUB, [3, 2] * 30)
    assert tab.evaluate("[gpu.buffers, gpu.programs]") == held
    slider.evaluate(SCRUB, [0, 99, 1, 99, 0, 1, 2])  # from kind to kind
    assert tab.evaluate("gpu.buffers") == held[0]


@pytest.mark.long
def test_a_view_that_is_gone_gives_its_context_back(tab: Page, server: str) -> None:
    view = run(tab, server)
    ended(tab)
    for _ in range(2):
        tab.get_by_role("button", name="Run", exact=True).click()
        ended(tab)
    view.wait_for()
    assert tab.evaluate("[gpu.contexts.length, gpu.contexts.filter((each) => !each.isContextLost()).length]") == [3, 1]


@pytest.mark.long
def test_a_view_that_has_lost_the_gpu_is_drawn_when_it_is_back(tab: Page, server: str) -> None:
    view = run(tab, server)
    ended(tab)
    before = picture(view)
    tab.evaluate(LOSE_GPU)
    until(lambda: not differs(before, picture(view)))


@pytest.mark.long
def test_of_what_comes_while_one_is_read_only_the_newest_is(tab: Page, server: str) -> None:
    run(tab, server, scene="sphere", resolution=128)
    ended(tab)
    held: list[Route] = []
    tab.route("**/files/**", lambda route: held.append(route))
    scrub(tab, "Home", *["End", "ArrowLeft"] * 3)
    until(lambda: tab.evaluate("1") == len(held))  # the call is what has Playwright hear of it
    scrub(tab, "Home")
    held[0].continue_()
    tab.get_by_text(VOXELS).wait_for()
    assert len(held) == 1


@pytest.mark.long
@pytest.mark.parametrize(
    "tab",
    [{"color_scheme": "light"}, {"color_scheme": "dark", "viewport": {"width": 390, "height": 844}, "is_mobile": True}],
    ids=["desk", "phone"],
    indirect=True,
)
def test_the_view_fits_and_hinders_nobody(tab: Page, server: str) -> None:
    view = run(tab, server)
    ended(tab)
    size = view.bounding_box()
    assert size
    assert size["width"] <= tab.evaluate("innerWidth") == tab.evaluate("document.documentElement.scrollWidth")
    violations = Axe().run(tab).response["violations"]
    assert [each["id"] for each in violations if each["impact"] in ("serious", "critical")] == []
