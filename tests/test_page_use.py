"""Use the playground as somebody who sees an app for the first time.

Where no chromium is installed the tests are skipped.
"""

import re

import httpx
from playwright.sync_api import expect
from tests.tabs import PHONE, Opener


def test_names_are_written_as_people_write_and_titles_as_their_author_does(contents: str, playground: Opener) -> None:
    tab = playground(contents).open("/named")
    labels = tab.region("Input").locator("label")
    expect(labels).to_have_text(["Page URL*", "Number of images*", "Guidance scale*", "The Author's Own*"])


def test_an_endpoint_at_the_root_is_told_by_its_name(sdxl: str, playground: Opener) -> None:
    tab = playground(sdxl).open()
    expect(tab.page.get_by_role("heading", level=1)).to_have_text("Stable Diffusion XL")
    tabs = tab.page.get_by_role("tablist", name="Endpoint").get_by_role("tab")
    expect(tabs).to_have_text([re.compile("^/stream$"), re.compile("^/ ?generate$")])
    expect(tabs.last).to_have_attribute("title", re.compile("^Generate images; a caller"))


def test_beside_a_table_stands_what_else_the_result_says(contents: str, playground: Opener) -> None:
    tab = playground(contents).open("/named", num_images=3, guidance_scale=0.5, page_url="x", own=1).run().ends()
    expect(tab.output.get_by_role("table")).to_contain_text("0.5")
    expect(tab.output.locator(".tree")).to_contain_text('"verdict": "good"')
    expect(tab.output.locator(".tree")).not_to_contain_text("parts")


def test_a_long_title_stands_beside_the_pages_links_and_makes_no_phone_scroll_sideways(
    contents: str, playground: Opener
) -> None:
    document = httpx.get(f"{contents}/openapi.json").json()
    document["tags"][0]["summary"] = "A title that is longer than what fits into a line of any phone " * 2
    tab = playground(contents, viewport=PHONE)
    tab.page.route("**/openapi.json", lambda route: route.fulfill(json=document))
    tab.open("/named")
    title = tab.page.get_by_role("heading", level=1)
    expect(title).to_contain_text("any phone")
    box, link = title.bounding_box(), tab.page.get_by_role("link", name="API docs").bounding_box()
    assert box and link
    assert box["x"] + box["width"] <= link["x"]
    assert link["y"] < box["y"] + box["height"]
    assert tab.page.evaluate("document.documentElement.scrollWidth") == PHONE["width"]


def test_a_past_run_without_words_is_told_by_its_numbers(contents: str, playground: Opener) -> None:
    tab = playground(contents).open("/drawn", seed=7).run().ends()
    expect(tab.runs.first).to_contain_text("Seed 7")


def test_what_stands_on_the_stage_does_not_stand_below_it_again(contents: str, playground: Opener) -> None:
    tab = playground(contents).open("/drawn", seed=7).run().ends()
    details = tab.page.get_by_role("tablist", name="Details")
    expect(details.get_by_role("tab", name="Timeline")).to_have_attribute("aria-selected", "true")
    tab.open("/named", num_images=3, guidance_scale=0.5, page_url="x", own=1).run().ends()
    expect(details.get_by_role("tab", name="JSON")).to_have_attribute("aria-selected", "true")


def test_that_fields_are_wrong_is_said_until_they_have_been_changed(contents: str, playground: Opener) -> None:
    tab = playground(contents).open("/named").run()
    expect(tab.alert).to_contain_text("Some fields need a change")
    for title, value in {"Page URL": "x", "Number of images": "1", "Guidance scale": "1"}.items():
        tab.field(title).fill(value)
    expect(tab.alert).to_have_count(1)
    tab.field("The Author's Own").fill("1")
    expect(tab.alert).to_have_count(0)


def test_a_result_of_another_endpoint_says_which(contents: str, playground: Opener) -> None:
    tab = playground(contents).open("/drawn", seed=7).run().ends()
    expect(tab.status).not_to_contain_text("/drawn")
    tab.page.get_by_role("combobox", name="Endpoint").select_option("/named")
    expect(tab.status).to_contain_text("from /drawn")


def test_where_run_was_is_cancel(contents: str, playground: Opener) -> None:
    tab = playground(contents).open("/gated", steps=1)
    box = tab.button("Run").bounding_box()
    assert box is not None
    tab.run().ends("running")
    middle = {"x": box["x"] + box["width"] / 2, "y": box["y"] + box["height"] / 2}
    there = "({x, y}) => document.elementFromPoint(x, y).textContent"
    assert tab.page.evaluate(there, middle) == "Cancel"
    expect(tab.button("Run another")).to_be_visible()
    tab.cancel().ends("cancelled")
