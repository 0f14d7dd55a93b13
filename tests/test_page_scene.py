"""How the page shows things in three dimensions: all of each, in its colours, turning until somebody touches it."""

import base64
import io
import re
from typing import Any

import PIL.Image
import PIL.ImageChops
import pytest
from playwright.sync_api import Locator, expect
from tests.tabs import PHONE, STILL, Opener, Playground, let_through, serious_problems
from tests.waiting import LONG_S, until

pytestmark = pytest.mark.timeout(LONG_S)

STANDING = {"reduced_motion": "reduce"}  # it does not turn by itself
ORANGE = (255, 128, 0)
# How often something was drawn, and how many corners the largest thing had.
COUNT_DRAWN = """
window.drawn = { times: 0, corners: 0 };
const draw = WebGL2RenderingContext.prototype.drawElements;
WebGL2RenderingContext.prototype.drawElements = function (mode, count, ...others) {
  drawn.times++;
  drawn.corners = Math.max(drawn.corners, count);
  return draw.call(this, mode, count, ...others);
};
"""
SOME_FRAMES = "async () => { for (let n = 0; n < 10; n++) await new Promise(requestAnimationFrame); }"
NO_WEBGL = """
const getContext = HTMLCanvasElement.prototype.getContext;
HTMLCanvasElement.prototype.getContext = function (kind, ...others) {
  return kind.startsWith("webgl") ? null : getContext.call(this, kind, ...others);
};
"""


def shown(tab: Playground, path: str = "/solid", words: str | re.Pattern[str] = "triangles", **input: Any) -> Locator:
    """Run an endpoint; return the view when it says what it shows."""
    tab.open(path, **input).run().ends()
    expect(tab.output.get_by_text(words)).to_be_visible()
    return tab.output.get_by_role("img", name="3D view")


def picture(view: Locator) -> PIL.Image.Image:
    """Return what is drawn when nothing moves any more; the page's ground is transparent."""
    url: str = view.evaluate(STILL)
    return PIL.Image.open(io.BytesIO(base64.b64decode(url.partition(",")[2]))).convert("RGBA")


def room(image: PIL.Image.Image) -> tuple[float, float, float, float]:
    """Return where the thing is, as shares of the picture; its shadow is no part of it."""
    left, top, right, bottom = image.getchannel("A").point(lambda alpha: 255 * (alpha > 250)).getbbox() or (0, 0, 0, 0)
    return left / image.width, top / image.height, right / image.width, bottom / image.height


def fills(view: Locator) -> bool:
    """Say whether all of it is seen, and large."""
    left, top, right, bottom = room(picture(view))
    return min(left, top) > 0.01 and max(right, bottom) < 0.99 and max(right - left, bottom - top) > 0.55


def brightest(image: PIL.Image.Image) -> list[int]:
    """Return the most that there is of red, of green, and of blue."""
    return [max(band.tobytes()) for band in image.convert("RGB").split()]


def share_of(image: PIL.Image.Image, colour: tuple[int, int, int], *, within: int = 3) -> float:
    """Return how much of the thing has a colour."""
    pixels = zip(*(band.tobytes() for band in image.split()), strict=True)
    thing = [pixel[:3] for pixel in pixels if pixel[3] > 250]
    alike = sum(max(abs(one - other) for one, other in zip(pixel, colour, strict=True)) <= within for pixel in thing)
    return int(alike) / max(1, len(thing))


def differ(one: PIL.Image.Image, other: PIL.Image.Image) -> bool:
    return PIL.ImageChops.difference(one.convert("RGB"), other.convert("RGB")).getbbox() is not None


def test_all_of_a_thing_is_seen_and_large_whatever_its_form_and_place(contents: str, playground: Opener) -> None:
    tab = playground(contents, **STANDING)
    for form, sides, middle in [
        ("glb", [1e-3, 1e-3, 1e-3], 0),
        ("obj", [1e6, 1e6, 1e6], -5e6),
        ("stl", [1, 1, 30], 7),  # upright is z
        ("ply", [10, 6, 0.1], 0),
        ("obj", [0.3, 0.3, 12], 100),
    ]:
        assert fills(shown(tab, form=form, sides=sides, middle=middle)), form
    tab.page.set_viewport_size({"width": 390, "height": 844})
    assert fills(tab.output.get_by_role("img", name="3D view"))


def test_the_view_follows_what_grows_a_thousandfold(contents: str, playground: Opener) -> None:
    tab = playground(contents, **STANDING).open("/solid", before=0.001).run()
    expect(tab.output.get_by_text("box.glb ·")).to_be_visible()
    view = tab.output.get_by_role("img", name="3D view")
    before = room(picture(view))
    let_through(contents, 1)
    tab.ends()
    assert fills(view)
    assert room(picture(view)) == pytest.approx(before, abs=0.02)


def test_things_have_their_colours_and_metal_is_not_black(contents: str, playground: Opener) -> None:
    tab = playground(contents, **STANDING)
    assert share_of(picture(shown(tab, form="unlit")), ORANGE) > 0.95
    assert share_of(picture(shown(tab, form="points", words="points")), ORANGE) > 0.95
    for form in ("coloured", "ply", "glb", "metal"):
        red, green, blue = brightest(picture(shown(tab, form=form)).crop((300, 150, 500, 250)))
        assert red > 120 and red > 1.3 * green and green > 1.2 * blue, form


def test_it_turns_while_it_is_seen_until_somebody_touches_it(contents: str, playground: Opener) -> None:
    tab = playground(contents, viewport={"width": 1000, "height": 500})
    tab.page.add_init_script(COUNT_DRAWN)
    view = shown(tab)
    begun = view.evaluate("canvas => canvas.toDataURL()")
    until(lambda: view.evaluate("canvas => canvas.toDataURL()") != begun)
    tab.page.evaluate("scrollTo(0, 0)")
    tab.page.evaluate("document.querySelector('footer').style.marginTop = '4000px'; scrollTo(0, 4000)")
    until(lambda: not draws(tab))
    tab.page.evaluate("scrollTo(0, 0)")
    view.scroll_into_view_if_needed()
    until(lambda: draws(tab))
    view.click()
    expect(tab.button("Turn")).to_have_attribute("aria-pressed", "false")
    until(lambda: not draws(tab))
    tab.button("Turn").click()
    until(lambda: draws(tab))


def draws(tab: Playground) -> bool:
    """Say whether something is drawn during some frames."""
    before = tab.page.evaluate("drawn.times")
    tab.page.evaluate(SOME_FRAMES)
    return bool(tab.page.evaluate("drawn.times") > before)


def test_a_wheel_and_a_finger_that_pass_by_scroll_the_page(contents: str, playground: Opener) -> None:
    tab = playground(contents, viewport=PHONE, has_touch=True, is_mobile=True)
    view = shown(tab)
    box = view.bounding_box()
    assert box
    x, y = box["x"] + box["width"] / 3, box["y"] + box["height"] / 2
    drag(tab, (x, y), (x, y - 200))
    until(lambda: tab.page.evaluate("scrollY") > 50)
    expect(tab.button("Turn")).to_have_attribute("aria-pressed", "true")
    tab.page.evaluate("scrollTo(0, 0)")
    drag(tab, (x, y), (x + 100, y))
    expect(tab.button("Turn")).to_have_attribute("aria-pressed", "false")
    begun = picture(view)
    tab.page.mouse.move(x, y)
    tab.page.mouse.wheel(0, 100)
    until(lambda: tab.page.evaluate("scrollY") > 50)
    view.focus()
    before = tab.page.evaluate("scrollY")
    tab.page.mouse.wheel(0, 100)
    until(lambda: differ(begun, picture(view)))
    assert tab.page.evaluate("scrollY") == before


def drag(tab: Playground, start: tuple[float, float], end: tuple[float, float]) -> None:
    """Move one finger over the screen."""
    fingers = tab.page.context.new_cdp_session(tab.page)
    for kind, share in [("touchStart", 0.0), *[("touchMove", n / 16) for n in range(1, 17)]]:
        x, y = (one + share * (other - one) for one, other in zip(start, end, strict=True))
        fingers.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": [{"x": x, "y": y}]})
    fingers.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})


def test_keys_and_buttons_turn_zoom_fit_and_keep_a_picture(contents: str, playground: Opener) -> None:
    tab = playground(contents, **STANDING, color_scheme="light")
    view = shown(tab, sides=[1, 1, 2])
    expect(tab.button("Turn")).to_have_attribute("aria-pressed", "false")
    begun = picture(view)
    for key, changed in [
        ("ArrowLeft", True),
        ("0", False),
        ("+", True),
        ("f", False),
        ("Shift+ArrowUp", True),
        ("0", False),
    ]:
        view.press(key)
        assert differ(begun, picture(view)) is changed, key
    for name in ("Wireframe", "Turn upright"):
        before = picture(view)
        tab.button(name).click()
        assert differ(before, picture(view)), name
    with tab.page.expect_download() as saved:
        tab.button("Picture").click()
    kept = PIL.Image.open(saved.value.path()).convert("RGB")
    assert kept.getpixel((0, 0)) == (241, 241, 244)  # the page's ground
    before = picture(view)
    tab.button("Theme").click()
    until(lambda: differ(before, picture(view)))


def test_dense_arrays_are_cubes_without_those_that_nobody_sees(contents: str, playground: Opener) -> None:
    tab = playground(contents, **STANDING)
    tab.page.add_init_script(COUNT_DRAWN)
    for form in ("bool", "int", "flat", "bytes", "floats", "colours", "palette", "numbers"):
        view = shown(tab, "/dense", "216 voxels", form=form)
        assert tab.page.evaluate("drawn.corners") == 6 * 6 * 6 * 6  # six sides of 36 squares, six corners each
        if form in ("colours", "palette"):
            red, green, _ = brightest(picture(view))
            assert red > 2 * green, form
    tab.output.get_by_label("Hide smaller values").press("End")
    expect(tab.output.get_by_text("36 voxels")).to_be_visible()


def test_what_only_looks_like_voxels_is_none(contents: str, playground: Opener) -> None:
    tab = playground(contents)
    for form in ("pixels", "planes", "embedding", "attention", "rows"):
        tab.open("/dense", form=form).run().ends()
        expect(
            tab.output.get_by_text(form if form == "rows" else re.compile("image|embedding|attention")).first
        ).to_be_visible()
        expect(tab.output.get_by_role("img", name="3D view")).to_have_count(0)


def test_a_file_that_is_not_shown_says_why(contents: str, playground: Opener) -> None:
    tab = playground(contents, **STANDING, viewport=PHONE, color_scheme="dark")
    for form, why in [
        ("packed", "It is packed with KHR_draco_mesh_compression"),
        ("cut", "It ends too early."),
        ("none", "This view reads GLB, glTF, OBJ, STL and PLY."),
    ]:
        tab.open("/solid", form=form).run().ends()
        expect(tab.output.get_by_text(re.compile(r"^box\.\w+ cannot be shown$"))).to_be_visible()
        expect(tab.output.get_by_text(why)).to_contain_text("You can still download it below.")
        expect(tab.output.get_by_role("group", name="What to do with the view")).to_have_count(0)
    assert serious_problems(tab) == {}
    shown(tab)
    assert serious_problems(tab) == {}


def test_without_webgl_words_stand_in_the_place_of_the_view(contents: str, playground: Opener) -> None:
    tab = playground(contents)
    tab.page.add_init_script(NO_WEBGL)
    tab.open("/voxels").run().ends()
    expect(tab.output.get_by_text("This browser draws nothing in 3D here")).to_be_visible()
