"""What the page says of a failure: in a sentence what it is and what to do, and where, if the server debugs."""

import json
from collections.abc import Iterator
from contextlib import ExitStack

import httpx
import pytest
from playwright.sync_api import expect
from tests.tabs import Opener, serious_problems, serving
from tests.waiting import LONG_S, WAIT_S

pytestmark = pytest.mark.timeout(LONG_S)

APP = """
import streamapp


class Mistaken(streamapp.App):
    @streamapp.endpoint("/stream")
    def stream(self, steps: int = 2):
        for step in range(steps):
            yield {"step": step}
        raise KeyError("the password is sesame")
"""
# By the code of an error what it says, what the page makes of that, and what is to be done.
FAILURES = {
    "endpoint_failed": ("endpoint /x failed with KeyError", "Endpoint /x failed with KeyError", "inside the app"),
    "invalid_input": ("steps: too many", "steps: too many", "Change the input as it says"),
    "out_of_memory": ("it ran out of GPU memory", "It ran out of GPU memory", "something smaller"),
    "queue_full": ("the queue is full", "The queue is full", "Run it again in a moment"),
    "gpu_failed": ("GPU error", "GPU error", "the server's log says more"),
    "of another server": ("no", "no", "The server's log may say more"),
}


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[bool, str]]:
    """Serve an app with a mistake: by whether the server debugs its URL."""
    app = tmp_path_factory.mktemp("debug") / "mistaken.py"
    app.write_text(APP)
    with ExitStack() as stack:
        yield {
            debug: stack.enter_context(serving(f"{app}:Mistaken", STREAMAPP_DEBUG=str(debug)))
            for debug in (False, True)
        }


def test_without_debug_nothing_is_told_of_what_the_app_raised(servers: dict[bool, str], playground: Opener) -> None:
    tab = playground(servers[False]).open("/stream").run().ends("failed")
    expect(tab.alert).to_contain_text("Endpoint /mistaken/stream failed with KeyError; the server's log says why")
    expect(tab.alert).to_contain_text("Another input may work.")
    tab.panel("JSON")
    assert "sesame" not in tab.page.content()
    expect(tab.page.get_by_text("Traceback")).to_have_count(0)
    heard = httpx.post(f"{servers[False]}/stream", json={"steps": 0}, timeout=WAIT_S).text
    assert "KeyError" in heard
    assert "sesame" not in heard


def test_in_debug_it_is_told_what_the_app_raised_and_folded_where(servers: dict[bool, str], playground: Opener) -> None:
    tab = playground(servers[True], color_scheme="dark").open("/stream").run().ends("failed")
    expect(tab.alert).to_contain_text("failed with KeyError: 'the password is sesame'")
    expect(tab.alert).to_contain_text("The traceback says where.")
    line = tab.alert.get_by_text("in stream")
    expect(line).to_be_hidden()
    tab.page.get_by_text("Traceback", exact=True).press("Enter")
    expect(line).to_contain_text("mistaken.py")
    assert serious_problems(tab) == {}


def test_each_failure_says_as_a_sentence_what_it_is_and_what_to_do(contents: str, playground: Opener) -> None:
    tab = playground(contents)
    bodies = iter({"error": {"code": code, "message": said[0], "retryable": False}} for code, said in FAILURES.items())
    tab.page.route("**/fails", lambda route: route.fulfill(status=500, body=json.dumps(next(bodies))))
    for _, sentence, remedy in FAILURES.values():
        tab.open("/nested").open("/fails").run()
        expect(tab.alert.locator("p").first).to_have_text(sentence)
        expect(tab.alert).to_contain_text(remedy)
    expect(tab.alert).to_contain_text("HTTP 500")  # of what is not known there is nothing else to say


def test_a_page_that_learns_nothing_of_the_app_says_so_in_words(contents: str, playground: Opener) -> None:
    tab = playground(contents)
    tab.page.route("**/openapi.json", lambda route: route.abort())
    tab.open()
    expect(tab.alert).to_contain_text("The server does not answer.")
    tab.page.unroute("**/openapi.json")
    tab.button("Try again").click()
    expect(tab.region("Input")).to_be_visible()
