"""The page of the API: what of it is served, that it is the pinned package's, and that it works in a browser."""

import hashlib
import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from hatchling.builders.wheel import WheelBuilder
from playwright.sync_api import Locator, Page, expect
from starlette.testclient import TestClient
from tests.tabs import (
    PHONE,
    Opener,
    browser,
    let_through,
    playground,
    running_jobs,
    serious_problems,
    serving,
)
from tests.waiting import until

import streamapp
from streamapp.http.docs import read_docs
from streamapp.http.pages import POLICY
from streamapp.settings import Settings

__all__ = ["browser", "playground"]

ROOT = Path(__file__).parent.parent
SWAGGER = ROOT / "src/streamapp/swagger"
PACKAGE = SWAGGER / "source/node_modules/swagger-ui-dist"
NAMED = sorted({*read_docs()} - {""})
MOST_BYTES = 520_000  # of which Swagger UI is 490,000
GUARDED, GATED = "tests/apps/described.py:Described", "tests/apps/gated.py:Gated"


class Echo(streamapp.App):
    title = "Echoes"

    @streamapp.endpoint("/echo")
    def echo(self, text: str = "") -> str:
        return text


def client(*, root_path: str = "", **settings: Any) -> TestClient:
    app = streamapp.compile_app(Echo, settings=Settings(**settings))
    return TestClient(app, root_path=root_path, follow_redirects=False, raise_server_exceptions=False)


# What is served


@pytest.mark.parametrize("path", ["", *(f"/{name}" for name in NAMED)])
def test_the_page_and_its_files_may_reach_nothing_but_this_server(path: str) -> None:
    answer = client().get(f"/docs{path}")
    assert answer.status_code == 200
    assert answer.headers["content-security-policy"] == POLICY
    assert answer.headers["x-content-type-options"] == "nosniff"


def test_the_page_has_no_inline_code_and_names_only_what_is_served() -> None:
    page = client().get("/docs").text
    named = set(re.findall(r'(?:src|href)="([^"]+)"', page))
    assert named == {f"docs/{name}" for name in NAMED if name != "LICENSES.txt"} | {"openapi.json", "openapi-3.1.json"}
    assert not re.search(r"<script(?![^>]*\bsrc=)|<style|\bstyle=|\bon\w+=", page)


@pytest.mark.parametrize("path", ["", *(f"/{name}" for name in NAMED)])
def test_what_the_browser_has_is_not_sent_again_and_is_asked_for(path: str) -> None:
    before = client().get(f"/docs{path}")
    answer = client().get(f"/docs{path}", headers={"If-None-Match": before.headers["etag"]})
    assert (answer.status_code, answer.content, answer.headers["cache-control"]) == (304, b"", "no-cache")


def test_what_a_browser_loads_is_no_more_than_swagger_ui_and_a_little() -> None:
    assert sum(len(asset.packed) for asset in read_docs().values()) <= MOST_BYTES


@pytest.mark.parametrize("root_path", ["", "/proxied"])
def test_a_slash_at_its_end_leads_to_the_page_behind_any_prefix(root_path: str) -> None:
    answer = client(root_path=root_path).get(f"{root_path}/docs/")
    assert (answer.status_code, answer.headers["location"]) == (307, f"{root_path}/docs")


def test_a_server_that_is_mounted_in_another_has_a_page_of_its_own() -> None:
    outer = FastAPI()
    outer.mount("/inner", streamapp.compile_app(Echo))
    assert "docs/page.js" in TestClient(outer).get("/inner/docs/").text
    assert "docs/page.js" not in TestClient(outer).get("/docs").text


@pytest.mark.parametrize("path", ["/docs/oauth2-redirect", "/docs/no.js", "/docs/page.html", "/docs/%2e%2e/app.py"])
def test_nothing_else_is_there(path: str) -> None:
    answer = client().get(path)
    assert (answer.status_code, answer.json()["error_type"]) == (404, "not_found")


def test_the_head_of_the_page_can_be_asked_for_and_nothing_posted() -> None:
    assert (client().head("/docs").status_code, client().head("/docs").content) == (200, b"")
    assert client().post("/docs").status_code == 405


def test_with_a_key_the_page_is_open_and_what_it_draws_is_not() -> None:
    guarded = client(api_key="secret")
    opened = [guarded.get(path).status_code for path in ("/docs", "/docs/page.js", "/docs/")]
    assert opened == [200, 200, 307]
    closed = [guarded.get(path).status_code for path in ("/openapi.json", "/openapi-3.1.json", "/docsx")]
    assert closed == [401, 401, 401]


@pytest.mark.parametrize(("path", "version"), [("/openapi.json", "3.2.0"), ("/openapi-3.1.json", "3.1.0")])
def test_a_document_says_behind_which_prefix_it_was_asked_for(path: str, version: str) -> None:
    document = client(root_path="/proxied").get(f"/proxied{path}").json()
    assert (document["openapi"], document["servers"]) == (version, [{"url": "/proxied"}])
    assert "servers" not in client().get(path).json()


def test_the_page_needs_no_playground() -> None:
    app = streamapp.compile_app(Echo, playground=False)
    assert TestClient(app).get("/", headers={"Accept": "text/html"}).url.path == "/docs"


# What is built


def test_the_files_are_those_of_the_pinned_package() -> None:
    """If they are not: `make api-docs`, and commit what it copied."""
    if not PACKAGE.exists():
        (pytest.fail if "CI" in os.environ else pytest.skip)("the npm package is missing; run `make api-docs`")
    pinned = json.loads((SWAGGER / "source/package.json").read_text())["devDependencies"]["swagger-ui-dist"]
    assert json.loads((PACKAGE / "package.json").read_text())["version"] == pinned
    for name in ("swagger-ui-bundle.js", "swagger-ui.css"):
        copied, given = ((folder / name).read_bytes() for folder in (SWAGGER / "dist", PACKAGE))
        assert hashlib.sha256(copied).digest() == hashlib.sha256(given).digest()


def test_the_licences_of_what_is_copied_are_told_and_in_the_wheel() -> None:
    told = client().get("/docs/LICENSES.txt").text
    assert "swagger-ui-dist 5.35.0 (Apache-2.0)" in told
    assert "SmartBear Software" in told
    builder = WheelBuilder(str(ROOT))
    assert "src/streamapp/swagger/dist/LICENSES.txt" in builder.metadata.core.license_files
    files = {file.distribution_path for file in builder.recurse_included_files()}
    assert {"streamapp/swagger/page.html", "streamapp/swagger/dist/swagger-ui-bundle.js"} <= files
    assert not any(path.startswith("streamapp/swagger/source") for path in files)


# In a browser: another host asked, or a complaint on the console, fails each of these (`tests/tabs.py`)


@pytest.fixture(scope="module")
def guarded() -> Iterator[str]:
    with serving(GUARDED, STREAMAPP_API_KEY="secret") as url:
        yield url


@pytest.fixture(scope="module")
def gated() -> Iterator[str]:
    with serving(GATED) as url:
        yield url


def opened(page: Page, operation: str) -> Locator:
    """Open an operation, and what tries it out."""
    part = page.locator(f"[id^=operations-][id$=-{operation}]")
    part.locator(".opblock-summary-control").click()
    part.get_by_role("button", name="Try it out").click()
    return part


def answer_of(part: Locator) -> Locator:
    part.get_by_role("button", name="Execute").click()
    return part.locator(".live-responses-table")


def test_behind_a_key_the_page_asks_for_it_once_and_sends_it_with_what_is_tried(
    guarded: str, playground: Opener
) -> None:
    page = playground(guarded).page
    page.goto(f"{guarded}/docs")
    page.get_by_label("API key").fill("wrong")
    page.get_by_role("button", name="Continue").click()
    expect(page.get_by_role("alert")).to_have_text("The server does not take this API key.")
    page.get_by_label("API key").fill("secret")
    page.get_by_role("button", name="Continue").click()
    expect(page.get_by_role("heading", name="What is described").first).to_be_visible()
    assert page.title() == "What is described: API docs"
    page.get_by_role("button", name="API key").click()
    page.get_by_label("API key").last.fill("secret")
    page.get_by_role("button", name="Continue").click()
    expect(page.get_by_label("API key").last).to_be_hidden()
    expect(answer_of(opened(page, "draw_post"))).to_contain_text('"kind": "circle"')
    with page.expect_download() as download:
        page.get_by_role("link", name="OpenAPI 3.1").click()
    assert json.loads(download.value.path().read_text())["openapi"] == "3.1.0"
    page.goto(f"{guarded}/playground")  # which has the key already
    expect(page.get_by_role("button", name="Run")).to_be_visible()


def test_a_key_of_any_letters_opens_the_page(playground: Opener) -> None:
    with serving(GUARDED, awaits_setup=False, STREAMAPP_API_KEY='ein "schlüssel" €') as url:
        page = playground(url).page
        page.goto(f"{url}/docs")
        page.get_by_label("API key").fill('ein "schlüssel" €')
        page.get_by_role("button", name="Continue").click()
        expect(page.get_by_role("heading", name="What is described").first).to_be_visible()


def test_a_stream_is_shown_when_it_has_ended_and_ends_when_it_is_stopped(gated: str, playground: Opener) -> None:
    page = playground(gated).page
    page.goto(f"{gated}/docs")
    part = opened(page, "stream_post")
    part.locator("textarea").fill('{"steps": 2}')
    answer = answer_of(part)
    let_through(gated, 1)
    expect(page.get_by_role("status")).to_contain_text("characters")
    page.get_by_role("button", name="Stop").click()
    expect(answer).to_contain_text("(the stream was cut here)")
    let_through(gated, 1)  # where it hears that it was cancelled
    until(lambda: running_jobs(gated) == 0)
    part.locator("textarea").fill('{"steps": 2, "fails_at": 2}')
    let_through(gated, 2)
    expect(answer_of(part)).to_contain_text("event: error")
    expect(page.get_by_role("status")).to_be_empty()


def test_integers_are_shown_with_all_of_their_digits(guarded: str, playground: Opener) -> None:
    page = playground(guarded).page
    page.goto(f"{guarded}/docs")
    page.get_by_label("API key").fill("secret")
    page.get_by_role("button", name="Continue").click()
    part = opened(page, "draw_post")
    part.locator("textarea").fill('{"seed": 9223372036854775809}')
    expect(answer_of(part)).to_contain_text('"seed": 9223372036854775809')


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nothing_that_is_ours_hinders_anybody(guarded: str, playground: Opener, scheme: str) -> None:
    tab = playground(guarded, color_scheme=scheme, viewport=PHONE)
    tab.page.goto(f"{guarded}/docs")
    expect(tab.page.get_by_label("API key")).to_be_focused()
    assert serious_problems(tab) == {}
    tab.page.keyboard.type("secret\n")
    expect(tab.page.get_by_role("heading", name="What is described").first).to_be_visible()
    assert serious_problems(tab).keys() <= {"nested-interactive"}  # Swagger UI's: a link in the button of each row
    assert tab.page.evaluate("document.documentElement.scrollWidth") == PHONE["width"]
