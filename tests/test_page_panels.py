"""What the page tells of a run besides what it has brought: its logs, its timeline, its JSON."""

import re

import pytest
from playwright.sync_api import Locator, expect
from tests.tabs import PHONE, Opener, serious_problems, timeline
from tests.waiting import LONG_S, until

pytestmark = pytest.mark.timeout(LONG_S)

# What a log line is, without the spaces between its parts.
LINES = "lines => lines.map(line => line.innerText.split(/\\s+/).join(' '))"
# How far a line is from the top of what it scrolls in.
PLACE = "line => line.getBoundingClientRect().top - line.closest('.logs').getBoundingClientRect().top"


def test_logs_have_their_times_and_levels_and_are_chosen_by_these(contents: str, playground: Opener) -> None:
    tab = playground(contents).open("/work", steps=3, interval_s=0).run().ends()
    logs = tab.panel("Logs")
    lines = logs.get_by_role("listitem")
    expect(lines).to_have_count(3)
    (first, *_, last) = lines.evaluate_all(LINES)
    assert re.fullmatch(r"\d\d:\d\d:\d\d\.\d{3} info step 1 of 3", first)
    assert last.endswith(" warn step 3 of 3")
    logs.get_by_role("button", name="info 2").click()
    expect(lines).to_have_count(2)
    logs.get_by_role("button", name="Copy all").click()
    until(lambda: tab.copied().splitlines() == lines.evaluate_all(LINES))


def test_the_newest_line_is_in_sight_until_one_scrolls_up(contents: str, playground: Opener) -> None:
    tab = playground(contents).open("/work", steps=100_000, interval_s=0.02).run()
    logs = tab.panel("Logs")
    lines = logs.get_by_role("listitem")
    until(lambda: lines.count() > 40)
    until(lambda: lines.last.evaluate(PLACE) < 320)  # the height of what is seen
    logs.get_by_role("group", name="Log lines").evaluate("list => list.scrollTop = -list.scrollHeight")
    until(lambda: lines.first.evaluate(PLACE) >= 0)
    place, newest = lines.first.evaluate(PLACE), step_of(lines.last)
    until(lambda: step_of(lines.last) > newest + 20)
    assert lines.first.evaluate(PLACE) == pytest.approx(place, abs=2)
    tab.cancel().ends("cancelled")


def step_of(line: Locator) -> int:
    return int(line.inner_text().split()[-3])  # "step 7 of 9"


def test_a_timeline_has_a_lane_for_each_kind_of_event(contents: str, playground: Opener) -> None:
    tab = playground(contents).open("/work", steps=3, interval_s=0.05).run().ends()
    panel = tab.panel("Timeline")
    expect(panel.get_by_role("columnheader")).to_have_text(["#", "Event", "After", "Size"])
    assert timeline(tab)[0] == "output"  # the newest comes first
    lanes = panel.locator(".lane").filter(has=tab.page.locator("path"))
    expect(lanes).to_have_text(["log", "progress", "output"])
    marks = [lane.locator("path").get_attribute("d") for lane in lanes.all()]
    counts = [len(re.findall("M", str(mark))) for mark in marks]
    assert all(1 <= count <= most for count, most in zip(counts, (3, 3, 1), strict=True))  # some may have come together


def test_json_is_unfolded_and_folded_at_once(contents: str, playground: Opener) -> None:
    tab = playground(contents).open("/nested").run().ends()
    panel = tab.panel("JSON")
    expect(panel).to_contain_text('"many": [300]')
    expect(panel.get_by_text("299:")).to_have_count(0)
    panel.get_by_role("button", name="Expand all").click()
    panel.get_by_role("button", name="Show 200 more").click()
    expect(panel.get_by_text("299:")).to_be_visible()
    panel.get_by_role("button", name="Collapse all").click()
    expect(panel.get_by_text("299:")).to_have_count(0)
    expect(panel).to_contain_text('"many": [300]')


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_no_serious_problem_in_what_is_told_of_a_run(contents: str, playground: Opener, scheme: str) -> None:
    tab = playground(contents, color_scheme=scheme, viewport=PHONE).open("/work", steps=30, interval_s=0).run().ends()
    for name in ("JSON", "Logs", "Timeline"):
        tab.panel(name)
        assert serious_problems(tab) == {}, name
    assert tab.page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
