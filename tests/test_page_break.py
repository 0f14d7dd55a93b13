"""What the page bears: schemas that are strange, links and browsers that are hostile, servers that go away."""

from collections.abc import Iterator

import httpx
import pytest
from playwright.sync_api import expect
from tests.tabs import Opener, result_of, serving
from tests.waiting import WAIT_S

HOSTILE = "tests/apps/hostile.py:Hostile"


@pytest.fixture(scope="module")
def hostile() -> Iterator[str]:
    with serving(HOSTILE) as url:
        yield url


def test_what_python_takes_the_form_takes(playground: Opener, hostile: str) -> None:
    """Nothing that is given, times without a zone, and patterns that JavaScript cannot read."""
    tab = playground(hostile).open("/allowed", seed=None)
    tab.run().ends()
    assert result_of(tab) == {
        **{"seed": None, "parts": [{"weight": None}], "code": "Ab"},
        **{"at": "10:00:00", "since": "2020-01-01T00:00:00"},
    }


def test_a_name_with_a_dot_is_told_what_is_wrong_with_it(playground: Opener, hostile: str) -> None:
    tab = playground(hostile).open("/dotted")
    tab.run()
    field = tab.field("Model.count")
    expect(field).to_be_focused()
    expect(field).to_have_attribute("aria-invalid", "true")
    expect(tab.region("Input")).to_contain_text("This field is required.")
    field.fill("7")
    tab.run().ends()
    expect(tab.output).to_contain_text("7")


@pytest.mark.parametrize("path", ["/unreadable", "/undrawable"])
def test_of_what_no_form_can_be_made_is_json(playground: Opener, hostile: str, path: str) -> None:
    """A schema that somebody has written by hand costs nobody the page, nor the endpoint."""
    tab = playground(hostile).open(path)
    tab.field("Input as JSON").fill('{"a": 18446744073709551615}')
    tab.run().ends()
    expect(tab.output).to_contain_text("18446744073709551615")


def test_a_list_in_the_query_goes_as_several(playground: Opener, hostile: str) -> None:
    tab = playground(hostile).open("/items/{item}", item="a ?b", tags=["c,d", "e"])
    tab.run().ends()
    assert result_of(tab) == ["a ?b", "c,d", "e"]


def test_long_paths_leave_the_page_as_wide_as_it_is(playground: Opener, hostile: str) -> None:
    tab = playground(hostile, viewport={"width": 320, "height": 640}).open()
    expect(tab.button("Run")).to_be_visible()
    assert tab.page.evaluate("document.documentElement.scrollWidth") <= 320


def test_pictures_of_one_list_may_look_alike(playground: Opener, hostile: str) -> None:
    """But the one that is the first of them, too, is shown once."""
    tab = playground(hostile).open("/twins", count=3)
    tab.run().ends()
    expect(tab.result).to_have_count(3)


def test_the_focus_stays_about_where_it_is(playground: Opener, hostile: str) -> None:
    """Run again goes away while it runs: Tab goes on behind it, not at the top of the page."""
    tab = playground(hostile).open("/twins")
    tab.run().ends()
    tab.button("Run again").press("Enter")
    expect(tab.output).to_be_focused()
    tab.ends()
    tab.page.keyboard.press("Tab")
    assert tab.output.evaluate("output => output.contains(document.activeElement)")


@pytest.mark.parametrize("size", [(1280, 700), (390, 700)])
def test_what_has_the_focus_stands_above_the_buttons(playground: Opener, hostile: str, size: tuple[int, int]) -> None:
    tab = playground(hostile, viewport={"width": size[0], "height": size[1]}).open("/many")
    tab.field("Field 1").focus()
    run = tab.button("Run").bounding_box()
    assert run is not None
    for number in range(2, 21):
        tab.page.keyboard.press("Tab")
        field = tab.field(f"Field {number}")
        expect(field).to_be_focused()
        box = field.bounding_box()
        assert box is not None and box["y"] >= 0 and box["y"] + box["height"] <= run["y"]


# Private windows keep nothing, and Safari counts how often a page changes its address.
FORBIDDING = """
const refuse = () => { throw new DOMException("no", "SecurityError"); };
for (const place of ["localStorage", "sessionStorage"]) Object.defineProperty(window, place, { get: refuse });
history.replaceState = refuse;
"""


def test_a_browser_that_forbids_things_shows_results_all_the_same(playground: Opener, hostile: str) -> None:
    tab = playground(hostile)
    tab.page.add_init_script(FORBIDDING)
    tab.open("/twins")
    tab.run().ends()
    expect(tab.result).to_have_count(3)
    expect(tab.runs).to_have_count(1)


def test_who_comes_back_from_an_editor_sees_what_was_changed(playground: Opener, hostile: str) -> None:
    """The server may have been started anew between two questions of the page; what is written stays."""
    tab = playground(hostile).open("/dotted")
    tab.field("Other").fill("written")
    text = httpx.get(f"{hostile}/openapi.json", timeout=WAIT_S).text.replace('"/twins"', '"/triplets"')
    tab.page.route("**/openapi.json", lambda route: route.fulfill(body=text, content_type="application/json"))
    tab.page.evaluate("dispatchEvent(new Event('focus'))")
    expect(tab.page.get_by_label("Endpoint").get_by_text("/triplets")).to_be_attached()
    expect(tab.field("Other")).to_have_value("written")
