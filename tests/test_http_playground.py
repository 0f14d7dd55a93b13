"""The playground's files over HTTP: policy, caching, keys, prefixes; what is built is what the sources say."""

import gzip
import hashlib
import json
import os
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
from hatchling.builders.wheel import WheelBuilder
from starlette.testclient import TestClient
from tests.waiting import WAIT_S

import streamapp
from streamapp.http.pages import POLICY
from streamapp.http.playground import read_page
from streamapp.settings import Settings

ROOT = Path(__file__).parent.parent
SOURCE = ROOT / "src/streamapp/playground/source"
PACKAGE = re.compile(r"node_modules/((?:@[^/]+/)?[^/]+)/[^\"]+\"")  # of a file that a source map names
PAGE = read_page()[""].data.decode()
NAMED = re.findall(r'(?:src|href)="playground/(assets/[^"]+)"', PAGE)
BROWSER = {"Accept": "text/html,application/xhtml+xml"}
# What fits in a second over a line of 2 Mbit/s; the 3D view, which few apps need, is loaded when it is.
MOST_BYTES = 250_000


class Echo(streamapp.App):
    @streamapp.endpoint("/")
    def echo(self, text: str = "") -> str:
        return text


def client(*, playground: bool = True, root_path: str = "", **settings: Any) -> TestClient:
    app = streamapp.compile_app(Echo, settings=Settings(**settings), playground=playground)
    return TestClient(app, root_path=root_path, follow_redirects=False, raise_server_exceptions=False)


def get(path: str, **headers: str) -> Any:
    return client().get(f"/playground/{path}" if path else "/playground", headers=headers)


@pytest.mark.parametrize("path", ["", *NAMED])
def test_the_page_and_all_that_it_names_may_reach_nothing_but_this_server(path: str) -> None:
    answer = get(path)
    assert answer.status_code == 200
    assert answer.headers["content-security-policy"] == POLICY
    assert answer.headers["x-content-type-options"] == "nosniff"


def test_the_policy_allows_no_inline_code_no_other_host_and_no_frame_around_it() -> None:
    rules = dict(rule.split(" ", 1) for rule in POLICY.split("; "))
    assert rules["default-src"] == rules["frame-ancestors"] == rules["base-uri"] == rules["form-action"] == "'none'"
    assert rules["script-src"] == rules["style-src"] == "'self'"
    assert rules["connect-src"] == "'self' data: blob:"  # which reach nobody
    assert not re.search(r"unsafe|https?:|\*", POLICY)


def test_the_page_has_no_inline_code_and_names_only_files_of_its_own() -> None:
    assert NAMED
    assert not re.search(r"\b(?:src|href)=\"(?!playground/assets/|docs\")", PAGE)
    assert not re.search(r"<script(?![^>]*\bsrc=)|<style|\bstyle=|\bon\w+=", PAGE)


@pytest.mark.parametrize("path", ["/playground/", "/"])
@pytest.mark.parametrize("root_path", ["", "/proxied"])
def test_a_browser_is_led_to_the_page_behind_any_prefix(path: str, root_path: str) -> None:
    answer = client(root_path=root_path).get(root_path + path, headers=BROWSER)
    assert (answer.status_code, answer.headers["location"]) == (307, f"{root_path}/playground")
    assert client(root_path=root_path).get(f"{root_path}/playground").text == PAGE


def test_the_page_is_asked_for_each_time_and_its_files_never_again() -> None:
    assert get("").headers["cache-control"] == "no-cache"
    assert get(NAMED[0]).headers["cache-control"] == "public, max-age=31536000, immutable"


@pytest.mark.parametrize("path", ["", NAMED[0]])
def test_a_file_that_the_browser_has_is_not_sent_again(path: str) -> None:
    answer = get(path, **{"If-None-Match": get(path).headers["etag"]})
    assert (answer.status_code, answer.content) == (304, b"")


@pytest.mark.parametrize(("accepted", "encoding"), [("gzip, br", "gzip"), ("identity", None)])
def test_files_are_packed_for_those_who_can_unpack_them(accepted: str, encoding: str | None) -> None:
    with client().stream("GET", f"/playground/{NAMED[0]}", headers={"Accept-Encoding": accepted}) as answer:
        sent = b"".join(answer.iter_raw())
    assert answer.headers.get("content-encoding") == encoding
    assert (gzip.decompress(sent) if encoding else sent) == read_page()[NAMED[0]].data


def test_scripts_and_styles_have_the_types_without_which_browsers_refuse_them() -> None:
    types = {path.rpartition(".")[2]: get(path).headers["content-type"].partition(";")[0] for path in NAMED}
    assert types == {**types, "js": "text/javascript", "css": "text/css"}


def test_the_licences_of_what_the_page_bundles_can_be_read() -> None:
    answer = get("LICENSES.txt")
    assert answer.headers["content-type"] == "text/plain; charset=utf-8"
    assert answer.headers["cache-control"] == "no-cache"
    assert "react-dom" in answer.text


@pytest.mark.parametrize("path", ["assets/no.js", "index.html", "sources.json", "../pyproject.toml"])
def test_nothing_else_is_there(path: str) -> None:
    answer = get(path.replace("..", "%2e%2e"))
    assert (answer.status_code, answer.json()["error_type"]) == (404, "not_found")


def test_the_head_of_the_page_can_be_asked_for() -> None:
    answer = client().head("/playground")
    assert (answer.status_code, answer.content) == (200, b"")


# Keys, and none of it


@pytest.mark.parametrize("path", ["/playground", f"/playground/{NAMED[0]}", "/"])
def test_with_a_key_the_page_is_open(path: str) -> None:
    assert client(api_key="secret").get(path, headers=BROWSER).status_code in (200, 307)


@pytest.mark.parametrize(("method", "path"), [("POST", "/"), ("GET", "/openapi.json"), ("GET", "/playgrounds")])
def test_with_a_key_what_the_page_calls_is_guarded(method: str, path: str) -> None:
    assert client(api_key="secret").request(method, path, headers=BROWSER).status_code == 401


@pytest.mark.parametrize("path", ["/playground", f"/playground/{NAMED[0]}"])
def test_the_playground_can_be_left_out(path: str) -> None:
    assert client(playground=False).get(path).status_code == 404


def test_without_the_playground_a_browser_is_led_to_the_docs() -> None:
    assert client(playground=False).get("/", headers=BROWSER).headers["location"] == "/docs"


# What is built


def test_what_a_browser_loads_at_first_is_small() -> None:
    page = read_page()
    assert sum(len(page[path].packed) for path in ("", *NAMED)) <= MOST_BYTES


def test_the_built_page_is_that_of_the_sources() -> None:
    """If it is not: `make playground`, and commit what it built."""
    built = json.loads((ROOT / "src/streamapp/playground/dist/sources.json").read_text())
    folders = (ROOT / "src/streamapp/playground/source", ROOT / "client_sdk/js/src")
    files = [path for folder in folders for path in folder.rglob("*") if path.is_file()]
    sources = [path for path in files if "node_modules" not in path.parts]
    assert built == {
        path.relative_to(ROOT).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in sources
    }


def test_the_wheel_has_the_page_and_not_its_sources() -> None:
    files = {file.distribution_path for file in WheelBuilder(str(ROOT)).recurse_included_files()}
    page = {path for path in files if path.startswith("streamapp/playground/")}
    parts = ("index.html", "LICENSES.txt", "client.js", *NAMED)
    assert page >= {f"streamapp/playground/dist/{path}" for path in parts}
    assert not any(path.startswith("streamapp/playground/source") for path in page)


# Licences


@pytest.mark.parametrize("folder", [ROOT, ROOT / "client_sdk" / "python"])
def test_the_wheels_have_their_licences(folder: Path) -> None:
    bundled = (
        [f"src/streamapp/{page}/dist/LICENSES.txt" for page in ("playground", "swagger")] if folder == ROOT else []
    )
    assert WheelBuilder(str(folder)).metadata.core.license_files == ["LICENSE", *bundled]
    assert (folder / "LICENSE").read_text() == (ROOT / "client_sdk/js/LICENSE").read_text()  # npm packs it by itself


def test_the_licence_of_each_package_that_is_bundled_is_told(tmp_path: Path) -> None:
    """By the build's own source map: if one is not, `make playground`, and commit what it built."""
    if not (SOURCE / "node_modules").exists():
        (pytest.fail if "CI" in os.environ else pytest.skip)("the npm packages are missing; run `make playground`")
    build = ["npx", "vite", "build", "--sourcemap", "--emptyOutDir", f"--outDir={tmp_path}"]
    subprocess.run(build, cwd=SOURCE, capture_output=True, timeout=WAIT_S, check=True)
    names = {name for path in tmp_path.glob("assets/*.map") for name in PACKAGE.findall(path.read_text())}
    told = read_page()["LICENSES.txt"].data.decode()
    assert {"react", "three"} <= names
    assert {
        name for name in names if not re.search(rf"^{re.escape(name)} [\d.]+ \(.+\)\n\n\S", told, re.MULTILINE)
    } == set()
    assert (tmp_path / "LICENSES.txt").read_text() == told
