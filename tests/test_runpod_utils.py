"""What handlers import of Runpod's utilities, besides the validator."""

import io
import logging
import socket
import threading
import zipfile
from collections.abc import Iterator
from contextvars import copy_context
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from tests.pictures import Keeping

from streamapp import fetch, media
from streamapp.fal.toolkit import DownloadError
from streamapp.runpod.handlers import handler_app
from streamapp.runpod.serverless.utils import (
    VolumeCache,
    download_files_from_urls,
    rp_cleanup,
    rp_cuda,
    rp_debugger,
    rp_download,
    rp_upload,
    upload_file_to_bucket,
    upload_in_memory_object,
)
from streamapp.testing import TestClient

PRIVATE = fetch.MediaLimits(max_bytes=1, max_pixels=1, timeout_s=1, allow_private_urls=True)
PNG = b"\x89PNG\r\n\x1a\n" + b"a" * 20


def zipped(**members: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return buffer.getvalue()


class Answers(BaseHTTPRequestHandler):
    """Answer by path: a file, a zip file, one that is none, a file whose name a header says."""

    bodies = {
        "/a.png": PNG,
        "/a.zip": zipped(text=b"hello"),
        "/bomb.zip": zipped(zeros=bytes(100_000)),
        "/bad.zip": b"no zip",
        "/named": PNG,
    }

    def do_GET(self) -> None:
        body = self.bodies.get(self.path.partition("?")[0])
        self.send_response(404 if body is None else 200)
        if self.path == "/named":
            self.send_header("Content-Disposition", 'attachment; filename="../../photo.jpeg"')
        self.send_header("Content-Length", str(len(body or b"")))
        self.end_headers()
        self.wfile.write(body or b"")

    def log_message(self, *arguments: Any) -> None: ...


@pytest.fixture(scope="module")
def web() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Answers)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def private() -> Iterator[None]:
    """Let private addresses be downloaded from."""
    token = fetch._limits.set(PRIVATE)
    yield
    fetch._limits.reset(token)


@pytest.fixture
def kept() -> Iterator[Keeping]:
    """Run in a job, whose files are kept here."""
    keeping = Keeping()
    token = media._publisher.set(keeping)
    yield keeping
    media._publisher.reset(token)


# rp_upload


def test_in_a_job_an_image_is_kept_by_the_server(kept: Keeping, folder: Path) -> None:
    (folder / "a.png").write_bytes(PNG)
    assert rp_upload.upload_image("id", "a.png") == kept.url
    assert kept.kept == [Path("a.png")]
    assert not (folder / "simulated_uploaded").exists()


def test_outside_of_a_job_files_go_to_a_folder(folder: Path) -> None:
    (folder / "a.png").write_bytes(PNG)
    results = [""]
    path = rp_upload.upload_image("id", "a.png", 0, results)
    assert Path(path).parent.name == "simulated_uploaded"
    assert (Path(path).read_bytes(), results) == (PNG, [path])
    assert upload_file_to_bucket("b.png", "a.png") == "local_upload/b.png"
    assert upload_in_memory_object("c.png", PNG) == "local_upload/c.png"
    assert {path.name: path.read_bytes() for path in Path("local_upload").iterdir()} == {"b.png": PNG, "c.png": PNG}


def test_several_files_are_kept_in_order(folder: Path) -> None:
    for name in ("a.png", "b.jpg"):
        (folder / name).write_bytes(name.encode())
    assert [Path(path).read_bytes() for path in rp_upload.files("id", ["b.jpg", "a.png"])] == [b"b.jpg", b"a.png"]


def test_bytes_are_kept_with_their_name_and_type(kept: Keeping) -> None:
    assert upload_in_memory_object("folder/a.json", b"{}", prefix="x") == kept.url
    assert kept.kept == [media.File(b"{}", "application/json", "a.json")]


def test_what_the_server_has_no_room_for_is_inline(kept: Keeping, folder: Path) -> None:
    kept.url = None
    (folder / "a.txt").write_text("a")
    assert upload_in_memory_object("a.txt", b"a") == "data:text/plain;base64,YQ=="
    assert upload_file_to_bucket("a.txt", "a.txt") == "data:text/plain;base64,YQ=="


def test_a_files_name_leads_to_no_other_folder(folder: Path) -> None:
    assert upload_in_memory_object("../../a.txt", b"a") == "local_upload/a.txt"


@pytest.mark.parametrize("how", ["credentials", "environment"])
def test_that_a_bucket_is_not_written_to_is_said(
    how: str, folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    (folder / "a.txt").write_text("a")
    rp_upload._warn_once.cache_clear()
    if how == "environment":
        monkeypatch.setenv("BUCKET_ENDPOINT_URL", "https://x.test")
        upload_file_to_bucket("a.txt", "a.txt")
    else:
        rp_upload.bucket_upload("id", ["a.txt"], {"endpointUrl": "https://x.test"})
    assert "not in a bucket" in caplog.text


def test_what_a_handler_uploads_is_read_at_its_url(folder: Path) -> None:
    def handler(job: dict[str, Any]) -> str:
        (folder / "a.png").write_bytes(PNG)
        return rp_upload.upload_image(job["id"], "a.png")

    with TestClient(handler_app({"handler": handler}, name="uploads")) as client:
        with client.stream("/stream", {}) as stream:
            (url,) = (event.data for event in stream)
        assert client.get(url).content == PNG


# rp_download


@pytest.mark.usefixtures("private")
def test_a_file_is_downloaded_under_a_name_of_its_own(web: str, folder: Path) -> None:
    came = rp_download.file(f"{web}/a.png?x=1")
    assert (came["type"], came["original_name"], came["extracted_path"]) == ("png", "a.png", None)
    assert Path(came["file_path"]).parent == folder / "job_files"
    assert Path(came["file_path"]).read_bytes() == PNG


@pytest.mark.usefixtures("private")
def test_the_name_that_a_host_gives_leads_to_no_other_folder(web: str, folder: Path) -> None:
    came = rp_download.file(f"{web}/named")
    assert (came["type"], came["original_name"]) == ("jpeg", "photo.jpeg")
    assert Path(came["file_path"]).parent == folder / "job_files"


@pytest.mark.usefixtures("private")
def test_a_zip_file_is_unpacked(web: str) -> None:
    came = rp_download.file(f"{web}/a.zip")
    assert Path(came["extracted_path"], "text").read_text() == "hello"


@pytest.mark.usefixtures("private")
@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("/bomb.zip", "expected at most 1000 bytes, it unpacks to 100000"),
        ("/bad.zip", "expected a zip file"),
        ("/none", "the URL answered 404"),
    ],
)
def test_what_cannot_be_had_says_why(web: str, path: str, said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RUNPOD_MAX_DOWNLOAD_BYTES", "1000")
    with pytest.raises(DownloadError, match=said):
        rp_download.file(web + path)


@pytest.mark.usefixtures("private")
def test_a_file_over_the_limit_is_refused(web: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RUNPOD_MAX_DOWNLOAD_BYTES", "20")
    with pytest.raises(DownloadError, match="expected at most 20 bytes"):
        rp_download.file(f"{web}/a.png")


@pytest.mark.parametrize("url", ["http://127.0.0.1:1/a", "http://169.254.169.254/latest", "file:///etc/passwd", "a"])
def test_other_addresses_than_public_ones_are_refused(url: str, caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(DownloadError):
        rp_download.file(url)
    assert download_files_from_urls("id", url) == [None]
    assert f"cannot download {url}: " in caplog.text


@pytest.mark.usefixtures("private")
def test_of_several_files_what_does_not_answer_is_none(web: str, folder: Path) -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        silent = f"http://127.0.0.1:{nobody.getsockname()[1]}/a"
        first, second, third = download_files_from_urls("id", [f"{web}/a.png", None, silent])
    assert (second, third) == (None, None)
    assert first is not None
    assert Path(first).parent == folder / "jobs" / "id" / "downloaded_files"
    assert Path(first).suffix == ".png"


def test_several_files_are_fetched_by_the_limits_of_the_job(web: str) -> None:
    def in_job() -> list[str | None]:
        fetch.limit_by(PRIVATE)
        return download_files_from_urls("id", f"{web}/a.png")

    assert copy_context().run(in_job) != [None]
    assert download_files_from_urls("id", f"{web}/a.png") == [None]


@pytest.mark.parametrize("job_id", ["../other", "/tmp", "a/b", ""])
def test_an_id_that_leads_elsewhere_is_refused(job_id: str) -> None:
    with pytest.raises(ValueError, match="Expected a job's id"):
        download_files_from_urls(job_id, [])


# the others


def test_what_jobs_have_left_is_deleted(folder: Path) -> None:
    for name in ("input_objects", "job_files", "mine", "others"):
        (folder / name).mkdir()
    (folder / "output.zip").touch()
    rp_cleanup.clean(["mine", "nowhere"])
    rp_cleanup.clean()
    assert [path.name for path in folder.iterdir()] == ["others"]


@pytest.mark.parametrize(("script", "is_there"), [("echo NVIDIA-SMI 550", True), ("exit 9", False), (None, False)])
def test_a_gpu_is_what_nvidia_smi_finds(
    script: str | None, is_there: bool, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if script is not None:
        (folder / "nvidia-smi").write_text(f"#!/bin/sh\n{script}\n")
        (folder / "nvidia-smi").chmod(0o700)
    monkeypatch.setenv("PATH", str(folder))
    assert rp_cuda.is_available() is is_there


def test_parts_are_timed_and_logged(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    rp_debugger.Checkpoints().clear()

    @rp_debugger.FunctionTimer
    def load(n: int) -> int:
        return n

    for _ in range(2):  # the next job has the same names
        with rp_debugger.LineTimer("block"):
            assert load(5) == 5
    rp_debugger.Checkpoints().add("never begun")
    timed = rp_debugger.Checkpoints().get_checkpoints()
    assert [part["name"] for part in timed] == ["block", "load"]
    assert all(part["duration_ms"] >= 0 for part in timed)
    assert "load: " in caplog.text


def test_a_part_that_is_not_named_or_not_begun_says_so() -> None:
    checkpoints = rp_debugger.Checkpoints()
    checkpoints.clear()
    with pytest.raises(KeyError, match="there is no checkpoint 'a'"):
        checkpoints.start("a")
    checkpoints.add("a")
    with pytest.raises(KeyError, match="has not been started"):
        checkpoints.stop("a")


def test_a_volume_cache_does_nothing() -> None:
    with VolumeCache(["a"], namespace="b") as cache:
        assert (cache.available, cache.hydrate()) == (False, 0)
        cache.sync(background=False)
