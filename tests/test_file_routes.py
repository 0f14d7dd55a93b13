"""The file store over HTTP: what is read of it, and what is uploaded where somebody has begun it."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

import streamapp
from streamapp.errors import DefinitionError
from streamapp.settings import Settings
from streamapp.stores.files import LocalFiles, Stored


class Empty(streamapp.App):
    @streamapp.endpoint("/")
    def home(self) -> None: ...


def serving(**settings: Any) -> TestClient:
    """Serve the server's own routes alone, without any other protocol's."""
    app = streamapp.compile_app(Empty, settings=Settings(drain_s=0, **settings), faces=())
    return TestClient(app, base_url="http://here:1", raise_server_exceptions=False)


def store(client: TestClient) -> LocalFiles:
    files: LocalFiles = client.app.state.runtime.files  # type: ignore[attr-defined]
    return files


def begun(client: TestClient, content_type: str = "text/plain", name: str = "a b.txt") -> Stored:
    return store(client).begin(content_type, name)


def upload(client: TestClient, stored: Stored, content: bytes) -> Any:
    return client.put(f"{stored.url_path}?upload={stored.key}", content=content)


def put_parts(client: TestClient, stored: Stored, *parts: tuple[int, bytes]) -> list[Any]:
    url = f"{stored.url_path}/multipart/{stored.key}"
    return [client.put(f"{url}/{number}", content=content).json() for number, content in parts]


def complete(client: TestClient, stored: Stored, body: Any) -> Any:
    text = body if isinstance(body, str) else json.dumps(body)
    return client.post(f"{stored.url_path}/multipart/{stored.key}/complete", content=text)


def test_what_was_uploaded_is_read_by_its_url_alone() -> None:
    with serving(api_key="secret") as client:
        stored = begun(client)
        answer = upload(client, stored, b"0123456789")
        assert (answer.status_code, answer.json()) == (200, {"file_url": f"http://here:1{stored.url_path}"})
        for url in (stored.url_path, f"/files/{stored.id}"):
            read = client.get(url)
            assert (read.content, read.headers["content-type"]) == (b"0123456789", "text/plain; charset=utf-8")


def test_a_file_is_read_in_ranges_and_only_once() -> None:
    with serving() as client:
        stored = begun(client)
        upload(client, stored, b"0123456789")
        etag = client.head(stored.url_path).headers["etag"]
        part = client.get(stored.url_path, headers={"Range": "bytes=2-4"})
        assert (part.status_code, part.content, part.headers["content-range"]) == (206, b"234", "bytes 2-4/10")
        again = client.get(stored.url_path, headers={"If-None-Match": etag})
        assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", etag)


def test_what_is_not_there_is_not_found() -> None:
    with serving() as client:
        stored = begun(client)
        for path in ("/files/nothing", stored.url_path):
            assert client.get(path).status_code == 404
        assert client.put(f"{stored.url_path}?upload=wrong", content=b"x").status_code == 404


def test_an_upload_comes_in_parts_of_any_order() -> None:
    with serving() as client:
        stored = begun(client)
        parts = put_parts(client, stored, (2, b"cd"), (1, b"ab"))
        assert [part["partNumber"] for part in parts] == [2, 1]
        answer = complete(client, stored, {"parts": parts})
        assert answer.json() == {"access_url": f"http://here:1{stored.url_path}"}
        assert client.get(stored.url_path).content == b"abcd"


def test_an_upload_is_complete_with_all_its_parts_only() -> None:
    with serving() as client:
        stored = begun(client)
        parts = put_parts(client, stored, (1, b"ab"), (2, b"cd"))
        assert complete(client, stored, {"parts": parts[:1]}).status_code == 422


@pytest.mark.parametrize("body", ["[]", "{}", '{"parts": [1]}', '{"parts": [{}]}', "nothing", "[" * 100_000])
def test_parts_that_cannot_be_read_are_a_400(body: str) -> None:
    with serving() as client:
        answer = complete(client, begun(client), body)
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "malformed_request")


def test_an_upload_that_breaks_off_leaves_nothing() -> None:
    with serving(max_files_bytes=10) as client:
        stored = begun(client)
        assert upload(client, stored, b"x" * 11).status_code == 507
        assert store(client).size == 0


@pytest.mark.parametrize(("content_type", "shown"), [("image/png", "inline"), ("text/html", "attachment")])
def test_what_could_run_as_this_servers_page_is_downloaded(content_type: str, shown: str) -> None:
    with serving() as client:
        stored = begun(client, content_type)
        upload(client, stored, b"<script>")
        answer = client.get(stored.url_path)
    assert answer.headers["content-disposition"].startswith(shown)
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert "sandbox" in answer.headers["content-security-policy"]


def test_a_file_that_somebody_has_deleted_is_not_found() -> None:
    with serving() as client:
        stored = begun(client)
        upload(client, stored, b"x")
        stored.path.unlink()
        assert client.get(stored.url_path).status_code == 404
        assert client.get(stored.url_path, headers={"If-None-Match": f'"{stored.id}"'}).status_code == 404


def test_a_folder_that_cannot_be_used_keeps_the_app_from_being_compiled(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path)
    with pytest.raises(DefinitionError, match="STREAMAPP_FILES_DIR: files cannot be kept in .*it is a link; name"):
        serving(files_dir=tmp_path / "link")


def test_uploads_go_on_when_the_folder_was_removed(tmp_path: Path) -> None:
    with serving(files_dir=tmp_path / "files") as client:
        stored = begun(client)
        shutil.rmtree(tmp_path / "files")
        assert upload(client, stored, b"0123").status_code == 200
        assert client.get(stored.url_path).content == b"0123"
