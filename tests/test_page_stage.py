"""The playground's stage: what it shows before, during and after a run, and the strip of past runs below it."""

import io
import re
import zipfile
from pathlib import Path
from typing import Any

import PIL.Image
import pytest
from playwright.sync_api import Locator, expect
from tests.tabs import PHONE, SEED, Opener, Playground, let_through, serious_problems
from tests.waiting import LONG_S, until

pytestmark = pytest.mark.timeout(LONG_S)

WIDE = {"width": 1280, "height": 860}
LEAST_SEED, MOST_SEED = 2**63, 2**64  # of `/frame`
CLIPBOARD = """async () => {
  const [item] = await navigator.clipboard.read();
  const bytes = new Uint8Array(await (await item.getType("image/png")).arrayBuffer());
  return [...bytes.slice(0, 4)];
}"""


def action(tab: Playground, name: str) -> Locator:
    return tab.page.get_by_role("group", name="Actions").get_by_role("button", name=name, exact=True)


def box(place: Locator) -> dict[str, float]:
    found = place.bounding_box()
    assert found is not None
    return {"x": found["x"], "y": found["y"], "width": found["width"], "height": found["height"]}


# Before


def test_an_example_fills_in_the_form_and_then_shows_what_came_of_it(contents: str, playground: Opener) -> None:
    tab = playground(contents).open("/frame")
    examples = tab.region("Begin with an example").get_by_role("listitem")
    expect(examples).to_have_count(3)
    expect(examples.nth(1)).to_have_text(re.compile(r"a tall disc.*Height 192 · Seed 9223372036854775813"))
    assert serious_problems(tab) == {}
    examples.nth(1).get_by_role("button").click()
    expect(tab.field("Prompt")).to_have_value("a tall disc")
    expect(tab.field("Height")).to_have_value("192")
    expect(tab.runs).to_have_count(0)  # it has filled in, and run nothing
    expect(tab.button("Run")).to_be_focused()
    expect(examples.nth(1).get_by_role("button")).to_have_attribute("aria-current", "true")
    tab.page.keyboard.press("Enter")
    tab.ends()
    tab.button("New").click()
    expect(examples.nth(1).locator("img")).to_be_visible()
    expect(examples.nth(0).locator("img")).to_have_count(0)
    examples.nth(2).locator("img").click()  # the picture that goes in
    expect(examples.nth(2).get_by_role("button")).to_have_attribute("aria-current", "true")
    tab.run().ends().button("Share").click()
    assert "data%3Aimage" not in tab.copied()  # it has gone into the server's store
    assert "files" in tab.copied()


def test_the_examples_of_fields_are_put_together_and_what_was_made_takes_their_place(
    contents: str, playground: Opener
) -> None:
    tab = playground(contents).open("/everything")
    expect(tab.region("An example to begin with").get_by_role("button")).to_contain_text("two words")
    tab.open("/images", steps=1, count=1)
    expect(tab.output).to_contain_text("Fill in the form and press Run")
    tab.run().ends().button("New").click()
    recent = tab.region("Recent").get_by_role("button")
    expect(recent.locator("img")).to_be_visible()
    recent.click()
    expect(tab.ends().result).to_be_visible()


# During


def test_where_a_picture_is_awaited_its_place_has_the_shape_that_was_asked_for(
    contents: str, playground: Opener
) -> None:
    tab = playground(contents, viewport=WIDE).open("/frame", prompt="wide", width=384, height=96, is_held=True).run()
    place = tab.output.locator(".awaited img")
    expect(place).to_be_visible()
    awaited = box(place)
    let_through(contents, 1)
    expect(tab.preview).to_be_visible()
    shown = box(tab.preview)
    let_through(contents, 1)
    tab.ends()
    for name in ("x", "y", "width", "height"):
        assert awaited[name] == pytest.approx(shown[name], abs=2), name
        assert box(tab.result)[name] == pytest.approx(shown[name], abs=2), name


def test_the_time_that_is_left_goes_down_steadily(contents: str, playground: Opener) -> None:
    """Steps of 0.7 s and of 1.3 s by turns, on a clock of the test's own."""
    tab = playground(contents)
    tab.page.clock.install()
    tab.open("/gated", steps=20)
    tab.page.clock.pause_at(tab.page.evaluate("Date.now() + 1000"))
    tab.run()
    told = []
    for step in range(1, 15):
        let_through(contents, 1)

        def is_there(step: int = step) -> bool:
            tab.page.clock.run_for(20)
            return f"Step {step} of 20" in tab.status.inner_text()

        until(is_there)
        tab.page.clock.run_for(700 if step % 2 else 1300)
        told += [int(left) for left in re.findall(r"about (\d+) s left", tab.status.inner_text())]
    assert told[0] <= 25
    assert told == sorted(told, reverse=True)
    assert 6 <= told[-1] <= 10
    let_through(contents, 6)


def test_while_the_model_is_loaded_the_page_says_for_how_long(contents: str, playground: Opener) -> None:
    tab = playground(contents)
    body = {"ready": False, "reason": "contents: starting", "loading_s": 68}
    tab.page.route("**/_streamapp/ready", lambda route: route.fulfill(status=503, json=body))
    tab.open("/nested")
    expect(tab.status).to_have_text(re.compile(r"Loading the model\W*for 1 min \d+ s$"))


# After


def test_what_has_come_is_said_in_a_few_words(contents: str, playground: Opener) -> None:
    tab = playground(contents).open("/frame", prompt="wide", width=192, seed=SEED).run().ends()
    expect(tab.status).to_have_text(re.compile(r"Done in [\d.]+ s\W*192×96\W*seed 922337…"))
    tab.status.get_by_role("button", name="seed").click()
    expect(tab.page.get_by_text(f"Copied {SEED}")).to_be_visible()
    assert tab.copied() == str(SEED)
    for path, values, words in (
        ("/images", {"steps": 1, "count": 3}, r"3 images\W*96×96"),
        ("/audio", {"seconds": 0.5}, "0.5 s long"),
        ("/video", {}, r"\d+×\d+"),
        ("/mesh", {}, "604 B"),
        ("/spoken", {}, "3 tokens"),
    ):
        tab.open(path, **values).run().ends()
        expect(tab.status).to_have_text(re.compile(words))


def test_the_seed_is_varied_within_its_bounds_to_the_last_of_its_bits(contents: str, playground: Opener) -> None:
    tab = playground(contents).open("/frame", prompt="a disc", seed=SEED).run().ends()
    seeds = {SEED}
    for count in (2, 3):
        action(tab, "Vary seed").click()
        expect(tab.runs).to_have_count(count)
        tab.ends().status.get_by_role("button", name="seed").click()
        until(lambda: int(tab.copied()) not in seeds)
        seeds.add(int(tab.copied()))
    assert all(LEAST_SEED <= seed < MOST_SEED for seed in seeds)
    assert any(seed % 2048 for seed in seeds - {SEED})  # a JavaScript number would have lost them
    expect(tab.field("Seed")).to_have_value(str(SEED))  # the form is as it was
    tab.open("/nested").run().ends()
    expect(action(tab, "Run again")).to_be_visible()
    expect(action(tab, "Vary seed")).to_have_count(0)


def test_a_result_goes_into_a_field_of_this_endpoint_or_of_another(contents: str, playground: Opener) -> None:
    tab = playground(contents).open("/frame", prompt="a disc", width=480).run().ends()
    use = action(tab, "Use as input")
    menu = tab.page.get_by_role("menu", name="Use as input")
    use.press("Enter")
    expect(menu.get_by_role("menuitem").first).to_be_focused()
    assert serious_problems(tab) == {}
    tab.page.keyboard.press("Escape")
    expect(menu).to_be_hidden()
    expect(use).to_be_focused()
    use.press("Enter")
    tab.page.keyboard.press("ArrowDown")
    expect(menu.get_by_role("menuitem", name="Image of /everything")).to_be_focused()
    tab.page.keyboard.press("Enter")
    expect(tab.page.get_by_role("combobox", name="Endpoint")).to_have_value("/everything")
    tab.field("Text").fill("words")
    tab.run().ends()
    expect(tab.panel("JSON")).to_contain_text(re.compile(r'"image":\s*\d{3}'))


def test_a_result_is_compared_with_the_one_before(contents: str, playground: Opener) -> None:
    tab = playground(contents, viewport=WIDE).open("/frame", prompt="a disc", seed=SEED).run().ends()
    expect(action(tab, "Compare")).to_have_count(0)  # there is none before
    action(tab, "Vary seed").click()
    expect(tab.runs).to_have_count(2)
    tab.ends().page.reload()  # what was before is the server's to tell
    action(tab.ends(), "Compare").click()
    expect(tab.output.get_by_role("figure", name="Comparison")).to_be_visible()
    expect(tab.output.get_by_role("slider", name="Compare")).to_be_visible()
    assert serious_problems(tab) == {}
    tops = {round(box(one)["y"]) for one in tab.page.get_by_role("group", name="Actions").get_by_role("button").all()}
    assert len(tops) == 1
    action(tab, "Compare").click()
    expect(tab.result).to_be_visible()


def test_all_of_a_result_is_saved_and_its_picture_copied(contents: str, playground: Opener) -> None:
    tab = playground(contents).open("/images", steps=1, count=3).run().ends()
    with tab.page.expect_download() as download:
        action(tab, "Download").click()
    with zipfile.ZipFile(Path(download.value.path())) as archive:
        assert archive.testzip() is None
        pictures = [PIL.Image.open(io.BytesIO(archive.read(name))) for name in archive.namelist()]
    assert [picture.size for picture in pictures] == [(96, 96)] * 3
    action(tab, "Copy").click()
    expect(tab.page.get_by_text("Copied the image")).to_be_visible()
    assert bytes(tab.page.evaluate(CLIPBOARD)) == b"\x89PNG"
    tab.open("/work", steps=1, interval_s=0, seed=3).run().ends()
    with tab.page.expect_download() as download:
        action(tab, "Download").click()
    assert download.value.suggested_filename == "contents-3.json"
    assert '"value": 9' in Path(download.value.path()).read_text()


@pytest.mark.parametrize("end", ["failed", "cancelled"])
def test_what_came_before_a_run_ended_badly_stays_and_it_can_be_run_again(
    contents: str, playground: Opener, end: str
) -> None:
    tab = playground(contents)
    if end == "failed":
        tab.open("/fails").run().ends("failed")
        expect(tab.alert).to_have_text(re.compile("choose red, green or blue.*Change the input as it says"))
        expect(tab.output).to_contain_text('"step": 3')
    else:
        tab.open("/frame", prompt="a disc", is_held=True).run()
        let_through(contents, 1)
        expect(tab.preview).to_be_visible()
        tab.cancel().ends("cancelled")
        expect(tab.preview).to_be_visible()
    expect(tab.output.get_by_role("progressbar")).to_have_count(0)
    action(tab, "Run again").click()
    expect(tab.runs).to_have_count(2)
    if end == "cancelled":
        let_through(contents, 2)
        tab.ends()


# The strip


def test_each_past_run_is_seen_for_what_it_made(contents: str, playground: Opener) -> None:
    tab = playground(contents)
    paths: dict[str, dict[str, Any]] = {
        "/images": {"steps": 1, "count": 1},
        "/audio": {},
        "/spoken": {},
        "/mesh": {},
        "/work": {"steps": 1, "interval_s": 0, "seed": 5},
    }
    for count, (path, values) in enumerate(paths.items(), 1):
        tab.open(path, **values).run().ends()
        if path == "/mesh":
            expect(tab.runs.first.locator("img")).to_be_visible()  # when it has been drawn
        expect(tab.runs).to_have_count(count)
    made = {path: tab.runs.filter(has_text=path) for path in paths}
    expect(made["/images"].locator("img")).to_be_visible()
    expect(made["/audio"].locator("svg rect").nth(20)).to_be_visible()
    expect(made["/spoken"].get_by_role("button")).to_contain_text("haha!")
    tab.runs.first.get_by_role("button").focus()
    tab.page.keyboard.press("End")
    expect(made["/images"].get_by_role("button")).to_be_focused()
    expect(tab.page.get_by_role("tooltip")).to_contain_text("/images")
    tab.page.keyboard.press("Home")
    expect(tab.page.get_by_role("tooltip")).to_contain_text("seed 5")
    tab.button("Clear").click()
    expect(tab.runs).to_have_count(0)
    tab.button("Undo").click()
    expect(tab.runs).to_have_count(5)
    tab.page.reload()
    expect(tab.runs).to_have_count(5)


def test_a_run_that_goes_on_is_seen_in_the_strip_as_it_goes(contents: str, playground: Opener) -> None:
    tab = playground(contents).open("/frame", prompt="a disc", is_held=True).run()
    let_through(contents, 1)
    expect(tab.preview).to_be_visible()
    tab.button("New").click()
    expect(tab.runs.filter(has_text="Running").locator("img")).to_be_visible()
    let_through(contents, 1)
    expect(tab.runs).to_contain_text("Done")


def test_on_a_phone_the_actions_stand_in_one_row_and_have_names(contents: str, playground: Opener) -> None:
    tab = playground(contents, viewport=PHONE).open("/frame", prompt="a disc").run().ends()
    action(tab, "Vary seed").click()
    expect(tab.runs).to_have_count(2)
    buttons = tab.ends().page.get_by_role("group", name="Actions").get_by_role("button")
    expect(action(tab, "Compare")).to_be_visible()
    names = ["Run again", "Vary seed", "Use as input", "Compare", "Download", "Copy", "Share", "Watch link"]
    expect(buttons).to_have_count(len(names))
    for button, name in zip(buttons.all(), names, strict=True):
        expect(button).to_have_accessible_name(name)
    assert len({round(box(button)["y"]) for button in buttons.all()}) == 1
    assert tab.page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
