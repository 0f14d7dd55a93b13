"""The form of the page, by what people see of it and by what is sent; `picture_of` asks for what image models do."""

import json
import re
from typing import Any

import pytest
from playwright.sync_api import Locator, expect
from tests.tabs import (
    PHONE,
    Opener,
    Playground,
    browser,
    contents,
    playground,
    serious_problems,
    tab_to,
)

__all__ = ["browser", "contents", "playground"]

# What `crypto` draws: 2^63 + 5, which no JavaScript number holds.
LOADED_DICE = """
const { getRandomValues } = crypto;
crypto.getRandomValues = (words) => {
  if (!(words instanceof BigUint64Array)) return getRandomValues.call(crypto, words);
  words.set([0n, 2n ** 63n + 5n]);
  return words;
};
"""
# Where what has the focus stands, from the top of the form.
PLACE = """() => {
  const { top, left, height } = document.activeElement.getBoundingClientRect();
  const form = document.querySelector("form").getBoundingClientRect();
  return document.activeElement.closest("form") ? [top + height / 2 - form.top, left] : null;
}"""


def settings(tab: Playground) -> Locator:
    return tab.page.get_by_role("button", name=re.compile("^Additional settings"))


def sent(tab: Playground) -> Any:
    """Run, and return the input that the server gets."""
    with tab.page.expect_request(lambda request: request.method == "POST") as asked:
        tab.run()
    return json.loads(asked.value.post_data or "")


def test_the_prompt_comes_first_and_what_can_be_left_alone_is_folded(contents: str, playground: Opener) -> None:
    tab = playground(contents).open("/picture_of")
    expect(tab.page.locator("form label").first).to_have_text("Prompt*")
    expect(tab.field("Negative prompt")).to_be_visible()  # which its author calls important
    expect(tab.field("Seed")).to_be_hidden()
    settings(tab).focus()
    tab.page.keyboard.press("Enter")
    expect(tab.field("Seed")).to_be_visible()
    expect(tab.field("Version")).to_have_count(0)  # which its author hides
    tab.open("/work")
    expect(tab.field("Seed")).to_be_visible()
    expect(settings(tab)).to_have_count(0)


def test_settings_stay_open_when_another_endpoint_was_looked_at(contents: str, playground: Opener) -> None:
    tab = playground(contents).open("/picture_of")
    tab.unfold()
    expect(tab.field("Seed")).to_be_visible()
    tab.open("/everything")
    expect(tab.field("Count")).to_be_hidden()
    tab.open("/picture_of")
    expect(tab.field("Seed")).to_be_visible()


def test_a_link_opens_the_settings_that_it_brings_and_they_can_be_reset(contents: str, playground: Opener) -> None:
    tab = playground(contents).open("/picture_of", prompt="a fox", seed=7, width=1024, height=576)
    expect(tab.field("Seed")).to_have_value("7")
    expect(tab.field("Seed")).to_be_visible()
    expect(settings(tab)).to_contain_text("2 changed")  # width and height are one size
    tab.button("Reset").click()
    expect(settings(tab)).to_be_focused()
    expect(tab.field("Seed")).to_have_value("")
    expect(settings(tab)).not_to_contain_text("changed")
    begun = {"image_size": "landscape_16_9", "aspect_ratio": "1:1", "looks": [], "negative_prompt": "", "version": 1}
    assert sent(tab) == {"prompt": "a fox", **begun}


def test_what_is_wrong_in_the_settings_opens_them_and_is_said_at_the_field(contents: str, playground: Opener) -> None:
    tab = playground(contents).open("/picture_of")
    tab.unfold()
    tab.field("Seed").fill("-1")
    settings(tab).click()
    expect(tab.field("Seed")).to_be_hidden()
    tab.run()
    expect(tab.field("Seed")).to_be_focused()
    expect(tab.field("Seed")).to_have_accessible_description(re.compile("It has to be at least 0"))
    tab.field("Seed").fill(str(2**64))  # only the server compares that exactly
    settings(tab).click()
    expect(tab.field("Seed")).to_be_hidden()
    tab.run()
    expect(tab.page.get_by_text("should be less than 18446744073709551616").last).to_be_visible()
    expect(tab.field("Seed")).to_be_visible()


def test_a_size_is_chosen_by_its_frame_and_written_exactly(contents: str, playground: Opener) -> None:
    tab = playground(contents).open("/picture_of")
    tab.unfold()
    usual = tab.page.get_by_role("radiogroup", name="Usual sizes")
    tab_to(tab, usual.get_by_role("radio", name="Auto"))
    for _ in range(4):
        tab.page.keyboard.press("ArrowRight")
    expect(usual.get_by_role("radio", name="16:9", exact=True)).to_be_checked()
    expect(tab.field("Width")).to_have_value("1024")
    expect(tab.field("Height")).to_have_value("576")
    tab.field("Width").fill("1088")
    expect(usual.locator(":checked")).to_have_count(0)
    named = tab.page.get_by_role("radiogroup", name="Image size")
    expect(named.get_by_role("radio", name="16:9")).to_be_checked()
    named.get_by_role("radio", name="1:1 HD").check()
    tab.page.get_by_role("radiogroup", name="Aspect ratio").get_by_role("radio", name="9:16").check()
    first = sent(tab)
    assert (first["width"], first["height"]) == (1088, 576)
    assert (first["image_size"], first["aspect_ratio"]) == ("square_hd", "9:16")
    named.get_by_role("radio", name="Custom").check()
    tab.page.get_by_label("Width").last.fill("640")
    assert sent(tab)["image_size"] == {"width": 640, "height": 512}


def test_a_dice_throws_a_seed_of_64_bits(contents: str, playground: Opener) -> None:
    tab = playground(contents)
    tab.page.add_init_script(LOADED_DICE)
    tab.open("/picture_of")
    tab.unfold()
    expect(tab.field("Seed")).to_have_attribute("placeholder", "Random each time")
    tab.button("Random seed").click()
    expect(tab.field("Seed")).to_have_value(str(2**63 + 5))
    assert sent(tab)["seed"] == 2**63 + 5
    tab.field("Seed").fill("")
    assert "seed" not in sent(tab)


def test_tab_goes_through_the_form_as_one_reads_it(contents: str, playground: Opener) -> None:
    tab = playground(contents).open("/everything", text="words", lights=[{"name": "a"}], weights={"b": 1})
    tab.field("Text").focus()
    places: list[list[float]] = []
    for _ in range(60):
        place = tab.page.evaluate(PLACE)
        if place is None:
            break
        places.append(place)
        tab.page.keyboard.press("Tab")
    assert len(places) > 25
    rows = [(round(y / 24), x) for y, x in places]
    assert rows == sorted(rows)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_form_with_all_its_settings_is_for_everybody(contents: str, playground: Opener, scheme: str) -> None:
    tab = playground(contents, color_scheme=scheme, viewport=PHONE, is_mobile=True, has_touch=True)
    tab.open("/picture_of", prompt="a fox", seed=7, image_size={"width": 640, "height": 512})
    expect(tab.field("Seed")).to_be_visible()
    assert serious_problems(tab) == {}
    assert tab.page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
    assert tab.field("Prompt").evaluate("field => parseFloat(getComputedStyle(field).fontSize)") >= 16
