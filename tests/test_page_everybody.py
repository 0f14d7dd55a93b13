"""The playground for those who see it large, and for those whom motion makes ill."""

import pytest
from playwright.sync_api import expect
from tests.tabs import Opener, let_through
from tests.waiting import LONG_S

pytestmark = pytest.mark.timeout(LONG_S)

RUNNING = "document.getAnimations().filter(({ playState }) => playState === 'running').length"


@pytest.mark.parametrize("width", [640, 320], ids=["200 %", "400 %"])
def test_however_large_it_is_zoomed_nothing_is_wider_than_the_page(
    contents: str, playground: Opener, width: int
) -> None:
    """A window of 1280 pixels; at 400 % by https://www.w3.org/TR/WCAG22/#reflow."""
    tab = playground(contents, viewport={"width": width, "height": 430}, device_scale_factor=1280 / width)
    for path in ("/images", "/table", "/tokens", "/sound", "/nested", "/everything"):
        values = {"text": "two words"} if path == "/everything" else {}
        tab.open(path, **values).run().ends()
        assert (path, tab.page.evaluate("document.documentElement.scrollWidth")) == (path, width)
        for name in ("JSON", "Logs", "Timeline", "Code", "Preview"):
            tab.page.get_by_role("tab", name=name, exact=True).click()
            assert (path, name, tab.page.evaluate("document.documentElement.scrollWidth")) == (path, name, width)


@pytest.mark.parametrize("motion", ["reduce", "no-preference"])
def test_nothing_moves_by_itself_where_less_motion_is_wanted(contents: str, playground: Opener, motion: str) -> None:
    tab = playground(contents, reduced_motion=motion).open("/gated", steps=1).run()
    expect(tab.button("Cancel")).to_be_visible()
    tab.ends("running")
    assert (tab.page.evaluate(RUNNING) == 0) is (motion == "reduce")
    let_through(contents, 1)
    tab.ends()
