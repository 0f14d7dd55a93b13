"""The pages of apps: which files are served, where, to whom, and what they may do."""

import errno
import gzip
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.responses import FileResponse, HTMLResponse
from starlette.testclient import TestClient

import streamapp
from streamapp.errors import DefinitionError
from streamapp.http.pages import CLIENT_PATH, POLICY
from streamapp.process.threads import in_pool
from streamapp.settings import Settings

INDEX = '<!doctype html><link rel="stylesheet" href="./style.css">'
STYLE = "h1 { color: green }\n"
LARGE = bytes(range(256)) * 8192  # more than is held in memory


class Echo(streamapp.App):
    @streamapp.endpoint("/stream")
    def echo(self, text: str = "a") -> Iterator[str]:
        yield text


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    page = tmp_path / "page"
    (page / "sub").mkdir(parents=True)
    for name, content in {"index.html": INDEX, "style.css": STYLE, "sub/index.html": "sub", ".env": "secret"}.items():
        (page / name).write_text(content)
    (page / "clip.mp4").write_bytes(LARGE)
    return page


def client(folder: Path, *others: type[streamapp.App], root_path: str = "", **settings: Any) -> TestClient:
    class Page(Echo):
        static = folder

    app = streamapp.compile_app(Page, *others, settings=Settings(**settings))
    return TestClient(app, root_path=root_path, follow_redirects=False, raise_server_exceptions=False)


# Where


@pytest.mark.parametrize("path", ["/", "/page/", "/index.html"])
def test_the_page_is_at_the_root_and_at_the_apps_name(folder: Path, path: str) -> None:
    answer = client(folder).get(path)
    assert (answer.text, answer.headers["content-type"]) == (INDEX, "text/html; charset=utf-8")


@pytest.mark.parametrize("root_path", ["", "/proxied"])
@pytest.mark.parametrize(("path", "place"), [("/page", "./page/"), ("/page/sub?n=1", "./sub/?n=1")])
def test_a_folder_without_its_slash_leads_there_behind_any_prefix(
    folder: Path, path: str, place: str, root_path: str
) -> None:
    answer = client(folder, root_path=root_path).get(root_path + path)
    assert (answer.status_code, answer.headers["location"]) == (307, place)
    assert client(folder, root_path=root_path).get(f"{root_path}/page/sub/").text == "sub"


def test_mounted_in_another_app_the_page_is_below_its_place(folder: Path) -> None:
    outer = FastAPI()
    outer.mount("/made", client(folder).app)
    served = TestClient(outer, follow_redirects=False)
    assert [served.get(path).text for path in ("/made/", "/made/page/", "/made/style.css")] == [INDEX, INDEX, STYLE]
    assert served.get("/made/page").headers["location"] == "./page/"


def test_a_page_of_the_servers_own_is_led_to_and_says_what_it_has_not(folder: Path) -> None:
    served = client(folder, root_path="/proxied")
    assert served.get("/proxied/playground/").headers["location"] == "/proxied/playground"
    assert served.get("/proxied/playground").text.startswith("<!doctype html>")
    assert "the page at /playground has no file 'no.js'" in served.get("/proxied/playground/no.js").text


def test_each_app_has_its_own_page_and_one_without_has_none(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "second").mkdir()
    (tmp_path / "second" / "index.html").write_text("second")

    class Second(Echo):
        static = tmp_path / "second"

    served = client(folder, Second, Echo)
    assert [served.get(path).text for path in ("/second/", "/")] == ["second", INDEX]
    assert [served.get(path).status_code for path in ("/second/style.css", "/echo/style.css")] == [404, 404]


@pytest.mark.parametrize("path", ["/", "/page", "/page/"])
def test_a_post_to_the_page_is_the_apps_as_ever(folder: Path, path: str) -> None:
    class Root(Echo):
        static = folder
        app_name = "page"

        @streamapp.endpoint("/")
        def root(self) -> str:
            return "posted"

    assert TestClient(streamapp.compile_app(Root)).post(path, json={}).json() == "posted"


@pytest.mark.parametrize("app", ["page", "echo"])
def test_a_folder_of_the_first_apps_page_may_be_called_like_an_app(folder: Path, app: str) -> None:
    (folder / app).mkdir()
    (folder / app / "logo.svg").write_text("logo")
    served = client(folder, Echo)
    assert {served.get(path).text for path in (f"/{app}/logo.svg", f"/page/{app}/logo.svg")} == {"logo"}


# What


def test_a_file_is_sent_with_its_type_and_inert(folder: Path) -> None:
    answer = client(folder).get("/style.css")
    assert (answer.text, answer.headers["content-type"]) == (STYLE, "text/css; charset=utf-8")
    assert answer.headers["content-security-policy"] == POLICY
    assert "connect-src 'self' data: blob:;" in POLICY  # results are fetched out of data URIs
    assert (answer.headers["x-content-type-options"], answer.headers["referrer-policy"]) == ("nosniff", "same-origin")


@pytest.mark.parametrize(
    "path",
    ["/.env", "/../test.py", "/sub/../style.css", "/sub//index.html", "/a\\b", "/style.css/", "/no.css"],
)
def test_what_hides_or_leads_elsewhere_is_not_there(folder: Path, path: str) -> None:
    answer = client(folder).get(path.replace("..", "%2e%2e").replace("\\", "%5c"))
    assert (answer.status_code, answer.json()["error_type"]) == (404, "not_found")


@pytest.mark.parametrize("name", ["/%00", "/" + "a" * 300, "/loop", "/pipe", "/empty", "/outside.txt", "/out/app.py"])
def test_what_is_no_file_of_the_folder_is_not_there(folder: Path, name: str) -> None:
    (folder.parent / "app.py").write_text("secret")
    (folder / "loop").symlink_to("loop")
    os.mkfifo(folder / "pipe")
    (folder / "empty").mkdir()
    (folder / "outside.txt").symlink_to(folder.parent / "app.py")
    (folder / "out").symlink_to(folder.parent)
    assert client(folder).get(name).status_code == 404


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE"])
def test_a_file_takes_nothing(folder: Path, method: str) -> None:
    assert client(folder).request(method, "/style.css").status_code == 404


def test_what_was_edited_is_there_at_the_next_load(folder: Path) -> None:
    served = client(folder)
    assert served.get("/style.css").text == STYLE
    (folder / "style.css").write_text("h1 { color: red }")
    assert served.get("/style.css").text == "h1 { color: red }"


@pytest.mark.parametrize("path", ["/", "/clip.mp4"])
def test_a_file_that_the_browser_has_is_not_sent_again(folder: Path, path: str) -> None:
    served = client(folder)
    answer = served.get(path, headers={"If-None-Match": served.get(path).headers["etag"]})
    assert (answer.status_code, answer.content, answer.headers["cache-control"]) == (304, b"", "no-cache")


@pytest.mark.parametrize("path", ["/style.css", "/clip.mp4"])
def test_a_part_of_a_file_can_be_asked_for(folder: Path, path: str) -> None:
    answer = client(folder).get(path, headers={"Range": "bytes=2-5"})
    assert (answer.status_code, answer.content) == (206, (folder / path[1:]).read_bytes()[2:6])


@pytest.mark.parametrize("path", ["/", "/page", "/clip.mp4", CLIENT_PATH])
def test_the_head_of_a_file_can_be_asked_for(folder: Path, path: str) -> None:
    answer = client(folder).head(path)
    assert (answer.status_code, answer.content) == (client(folder).get(path).status_code, b"")


@pytest.mark.parametrize(("accepted", "encoding"), [("gzip, br", "gzip"), ("identity", None)])
def test_text_is_packed_for_those_who_can_unpack_it(folder: Path, accepted: str, encoding: str | None) -> None:
    (folder / "long.js").write_text("0\n" * 100_000)
    with client(folder).stream("GET", "/long.js", headers={"Accept-Encoding": accepted}) as answer:
        sent = b"".join(answer.iter_raw())
    assert answer.headers.get("content-encoding") == encoding
    assert (gzip.decompress(sent) if encoding else sent) == (folder / "long.js").read_bytes()


@pytest.mark.parametrize("length", [len(LARGE), 0])
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_a_file_that_grows_meanwhile_is_sent_as_it_was(
    folder: Path, monkeypatch: pytest.MonkeyPatch, length: int, method: str
) -> None:
    (folder / "clip.mp4").write_bytes(LARGE[:length])
    send = FileResponse.__call__

    async def grow(answer: FileResponse, *asgi: Any) -> None:
        await in_pool((folder / "clip.mp4").write_bytes, LARGE * 2)
        await send(answer, *asgi)

    monkeypatch.setattr(FileResponse, "__call__", grow)
    answer = client(folder).request(method, "/clip.mp4")
    assert answer.headers["content-length"] == str(length)
    assert answer.content == (LARGE[:length] if method == "GET" else b"")


def test_of_a_page_of_forty_files_each_is_packed_once(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pack, packed = gzip.compress, list[bytes]()

    def compress(data: bytes, *options: Any, **named: Any) -> bytes:
        packed.append(data)
        return pack(data, *options, **named)

    monkeypatch.setattr(gzip, "compress", compress)
    paths = [f"/{n}.js" for n in range(40)]
    for path in paths:
        (folder / path[1:]).write_text(path)
    served = client(folder)
    assert [served.get(path).text for path in paths * 2] == paths * 2
    assert len(packed) == 40


def test_a_disk_that_fails_is_told_as_an_error(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    served, look = client(folder), os.stat

    def fail(path: Any, **options: Any) -> os.stat_result:
        if str(path).endswith("style.css"):
            raise OSError(errno.EIO, "the disk is gone")
        return look(path, **options)

    monkeypatch.setattr(os, "stat", fail)
    assert served.get("/style.css").status_code == 500


def test_a_folder_that_is_gone_is_not_there(folder: Path) -> None:
    served = client(folder)
    folder.rename(folder.parent / "elsewhere")
    answer = served.get("/")
    assert (answer.status_code, answer.json()["error_type"]) == (404, "not_found")


@pytest.mark.parametrize("path", ["/_streamapp/client.js", "/page/_streamapp/client.js", "/echo/_streamapp/client.js"])
def test_the_client_is_below_each_app(folder: Path, path: str) -> None:
    answer = client(folder, Echo).get(path)
    assert answer.headers["content-type"] == "text/javascript; charset=utf-8"
    assert "Client" in answer.text.rpartition("export")[2]


# What comes first


@pytest.mark.parametrize("path", ["stream", "jobs/a.html", "docs", "health", "rest/a.html"])
def test_a_file_hides_nothing_that_is_served_and_is_warned_about(
    folder: Path, path: str, caplog: pytest.LogCaptureFixture
) -> None:
    (folder / path).parent.mkdir(exist_ok=True, parents=True)
    (folder / path).write_text("hidden")
    served = client(folder)
    assert f"rename them: /{path}" in caplog.text or f", /{path}" in caplog.text
    assert served.get(f"/{path}").text != "hidden"


@pytest.mark.parametrize("path", ["/value", "/value/", "/style.css", "/posted/style.css"])
@pytest.mark.parametrize("key", [None, "secret"])
def test_a_file_is_beside_an_endpoint_that_answers_post(folder: Path, path: str, key: str | None) -> None:
    (folder / "value").mkdir()
    (folder / "value" / "index.html").write_text("page")

    class Posted(streamapp.App):
        static = folder

        @streamapp.endpoint("/value")
        def value(self) -> str:
            return "posted"

        @streamapp.endpoint("/{name}")
        def named(self, name: str) -> str:
            return name

    served = TestClient(streamapp.compile_app(Posted, settings=Settings(api_key=key)))
    assert served.get(path).text in ("page", STYLE)
    assert served.post(path, json={}, headers={"Authorization": "Key secret"}).status_code == 200


def test_an_endpoint_that_answers_get_at_the_root_is_refused(folder: Path) -> None:
    class Root(streamapp.App):
        static = folder

        @streamapp.endpoint("/")
        def home(self) -> HTMLResponse:
            return HTMLResponse("")

    with pytest.raises(DefinitionError, match=r"Root\.home: GET / is the app's page.*leave out static"):
        streamapp.compile_app(Root)


# Keys


def test_with_a_key_pages_are_open(folder: Path) -> None:
    served = client(folder, api_key="secret")
    paths = ("/", "/page", "/page/", "/style.css", "/clip.mp4", "/sub/", CLIENT_PATH)
    statuses = {path: [served.request(method, path).status_code for method in ("GET", "HEAD")] for path in paths}
    assert statuses == {**dict.fromkeys(paths, [200, 200]), "/page": [307, 307]}


def test_with_a_key_nothing_else_is_open(folder: Path) -> None:
    for name in ("stream", "metrics", "openapi.json", "page/stream", "jobs/a"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("hidden")
    served = client(folder, api_key="secret")
    got = ["/stream", "/stream/", "/page/stream", "/page/stream/", "/jobs/a", "/openapi.json", "/metrics", "/no.css"]
    got += ["/.env", "/%2e%2e/app.py", "/style.css?" + "a" * 5000]
    assert {path: status for path in got if (status := served.get(path).status_code) != 401} == {}
    assert [served.post(path).status_code for path in ("/", "/page/", "/style.css")] == [401] * 3


# The policy


def test_a_directive_takes_the_place_of_a_strict_one(folder: Path) -> None:
    class Open(Echo):
        static = folder
        static_policy = {"frame-ancestors": "https://example.org", "upgrade-insecure-requests": ""}

    policy = TestClient(streamapp.compile_app(Open)).get("/").headers["content-security-policy"]
    assert "frame-ancestors https://example.org; " in policy and policy.endswith("; upgrade-insecure-requests")
    assert "frame-ancestors 'none'" not in policy and "script-src 'self'" in policy


@pytest.mark.parametrize(
    "policy",
    ["img-src *", None, {"img_src": "*"}, {"img-src": "*; script-src *"}, {"img-src": "a\nb"}, {"img-src": ["*"]}],
)
def test_what_is_no_directive_is_refused(folder: Path, policy: Any) -> None:
    class Wrong(Echo):
        static = folder
        static_policy = policy

    with pytest.raises(DefinitionError, match="expected static_policy as directives .* got"):
        streamapp.compile_app(Wrong)
