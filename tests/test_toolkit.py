"""The toolkit: what apps written for fal import, and that it does what they expect."""

import contextvars
import io
import os
import subprocess
import sys
import threading
import time
import zipfile
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Protocol

import PIL.Image
import pytest
import torch
from pydantic import BaseModel, ValidationError
from starlette.requests import Request
from tests.pictures import Keeping
from tests.waiting import WAIT_S
from transformers import ViTConfig, ViTForImageClassification, ViTImageProcessor

from streamapp import fetch, media
from streamapp.errors import InvalidInput
from streamapp.fal.toolkit import (
    Audio,
    AudioField,
    CompressedFile,
    DownloadError,
    FalBaseModel,
    Field,
    File,
    FileField,
    Hidden,
    Image,
    ImageField,
    ImageSize,
    ImageSizeConstraints,
    ImageSizeField,
    ImageSizeInput,
    ImageValidationConfig,
    KVStore,
    KVStoreException,
    Video,
    VideoField,
    VideoNormalizationConfig,
    VideoValidationConfig,
    clone_repository,
    download_file,
    download_model_weights,
    get_gpu_type,
    get_image_size,
    load_inductor_cache,
    sync_inductor_cache,
    synchronized_inductor_cache,
    to_xfal,
)
from streamapp.fal.toolkit.file.providers.fal import FalFileRepositoryV3
from streamapp.fal.toolkit.file.types import FileData, FileRepository
from streamapp.fal.toolkit.image.safety_checker import postprocess_images
from streamapp.fal.toolkit.types import FileInput, ImageInput
from streamapp.fal.toolkit.utils import download_utils
from streamapp.fal.toolkit.utils.endpoint import cancel_on_disconnect
from streamapp.jobs.events import Preview, to_event, to_event_at_once
from streamapp.settings import Settings, get_settings


class Serve(Protocol):
    """Serve a body at a path of this machine, and return its URL; `requests` are the heads of what came."""

    requests: list[str]

    def __call__(self, path: str, body: bytes, **headers: str) -> str: ...


RED = PIL.Image.new("RGB", (6, 4), "red")


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Run an HTTP server for files."""
    answers: dict[str, tuple[bytes, dict[str, str]]] = {}
    requests: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body, headers = answers[self.path]
            requests.append(self.headers.as_string())
            self.send_response(200)
            for name, value in {"Content-Length": str(len(body)), **headers}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *arguments: Any) -> None:
            """Say nothing."""

    class Served:
        def __init__(self) -> None:
            self.requests = requests

        def __call__(self, path: str, body: bytes, **headers: str) -> str:
            answers[path] = (body, {name.replace("_", "-"): value for name, value in headers.items()})
            return f"http://127.0.0.1:{server.server_port}{path}"

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield Served()
        server.shutdown()
        thread.join()


@pytest.fixture
def private_urls(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Let this machine's own addresses be fetched."""
    monkeypatch.setenv("STREAMAPP_ALLOW_PRIVATE_URLS", "true")
    get_settings.cache_clear()
    yield
    get_settings.cache_clear()


@pytest.fixture
def persistent(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Keep what outlasts the process in a folder of the test's."""
    for module in ("toolkit.utils.download_utils", "toolkit.kv", "toolkit.compilation"):
        monkeypatch.setattr(f"streamapp.fal.{module}.FAL_PERSISTENT_DIR", tmp_path)
    monkeypatch.setattr(download_utils, "FAL_MODEL_WEIGHTS_DIR", tmp_path / "weights")
    monkeypatch.setattr(download_utils, "FAL_REPOSITORY_DIR", tmp_path / "repos")
    return tmp_path


# Files


def test_a_string_becomes_a_file() -> None:
    assert Image.model_validate("https://x.test/a.png") == Image(url="https://x.test/a.png")


def test_a_file_can_be_an_example_of_a_field() -> None:
    class Output(BaseModel):
        audio: File = Field(examples=[File._from_url("https://x.test/a.wav")])

    (example,) = Output.model_json_schema()["properties"]["audio"]["examples"]
    assert example["url"] == "https://x.test/a.wav"


def test_a_string_that_is_no_url_is_refused() -> None:
    with pytest.raises(ValidationError, match="value must be a valid URL"):
        File.model_validate("/etc/passwd")


def test_bytes_become_a_file_with_a_url_that_holds_them() -> None:
    file = File.from_bytes(b"solid", "model/stl", "a.stl")
    assert file.model_dump() == {
        "url": "data:model/stl;base64,c29saWQ=",
        "content_type": "model/stl",
        "file_name": "a.stl",
        "file_size": 5,
    }


@pytest.mark.parametrize(
    ("given", "content_type", "suffix"),
    [
        ({"file_name": "a.html"}, "text/html", "a.html"),
        ({"content_type": "image/png"}, "image/png", ".png"),
        ({}, "application/octet-stream", ".bin"),
    ],
)
def test_type_and_name_follow_from_each_other(given: dict[str, str], content_type: str, suffix: str) -> None:
    file = File.from_bytes(b"", **given)  # type: ignore[arg-type]
    assert file.content_type == content_type
    assert str(file.file_name).endswith(suffix)


async def test_bytes_become_a_file_in_a_thread() -> None:
    file = await Video.from_bytes_async(b"x", "video/mp4", repository="fal")
    assert (type(file), file.content_type) == (Video, "video/mp4")


async def test_a_file_on_the_disk_becomes_one_of_its_class(tmp_path: Path) -> None:
    (tmp_path / "a.wav").write_bytes(b"RIFF")
    audio = await Audio.from_path_async(tmp_path / "a.wav", multipart=True)
    assert (type(audio), audio.file_name, audio.file_size, audio.as_bytes()) == (Audio, "a.wav", 4, b"RIFF")


def test_large_data_are_published_where_there_is_a_file_store() -> None:
    def published() -> str:
        media.publish_by(Keeping())
        return File.from_bytes(bytes(2_000_000)).url

    assert contextvars.copy_context().run(published) == "http://x.test/files/a"


@pytest.mark.parametrize("repository", ["fal", "in_memory"])
def test_how_a_job_wants_its_files_counts_when_they_are_emitted(repository: Any) -> None:
    publisher = Keeping(inline_bytes=-1)
    made = {"images": [Image.from_pil(PIL.Image.new("RGB", (2, 2)), repository=repository)]}
    shown, given = to_event(Preview(made), publisher).json(), to_event(made, publisher).json()
    assert shown["images"][0]["url"].startswith("data:image/png;base64,")
    assert given["images"][0]["url"][:5] == ("http:" if repository == "fal" else "data:")
    assert given == {"images": [{**made["images"][0].model_dump(), "url": given["images"][0]["url"]}]}
    assert made["images"][0].model_dump_json() == made["images"][0].model_dump_json()


def test_data_that_came_from_a_thread_of_its_own_are_published_too() -> None:
    made = File.from_bytes(bytes(2_000_000))
    assert made.url.startswith("data:")
    assert to_event(made, Keeping()).json()["url"] == "http://x.test/files/a"
    assert to_event_at_once(made, Keeping()) is None


@pytest.mark.parametrize("repository", ["fal", "fal_v3", "cdn", "r2", "gcp_storage", FalFileRepositoryV3()])
def test_fals_repositories_all_mean_this_server(repository: Any) -> None:
    file = File.from_bytes(b"x", repository=repository, fallback_repository="fal", save_kwargs={"multipart": True})
    assert file.url.startswith("data:")


def test_in_memory_means_a_data_uri_at_any_size() -> None:
    def stored() -> str:
        media.publish_by(Keeping())
        return File.from_bytes(bytes(2_000_000), repository="in_memory").url

    assert contextvars.copy_context().run(stored).startswith("data:")


def test_a_repository_of_the_apps_own_says_the_url() -> None:
    class Bucket(FileRepository):
        def save(self, data: FileData, **options: Any) -> str:
            return f"s3://{options['bucket']}/{data.file_name}"

    file = File.from_bytes(b"x", file_name="a.txt", repository=Bucket(), save_kwargs={"bucket": "b"})
    assert (file.url, file.content_type) == ("s3://b/a.txt", "text/plain")


def test_a_repository_without_save_is_told_so() -> None:
    with pytest.raises(NotImplementedError, match=r"FileRepository defines no save\(self, data\) -> str"):
        File.from_bytes(b"x", repository=FileRepository())


def test_an_unknown_repository_is_refused() -> None:
    with pytest.raises(ValueError, match=r"expected one of fal, .*; got the repository 's4'"):
        File.from_bytes(b"x", repository="s4")  # type: ignore[arg-type]


def test_the_bytes_of_a_file_are_never_taken_from_its_description() -> None:
    file = File.model_validate({"url": "data:,true", "file_data": "false"})
    assert (file.file_data, file.as_bytes(), file.file_data) == (None, b"true", b"true")


@pytest.mark.usefixtures("private_urls")
def test_the_bytes_of_a_url_are_downloaded_once(serve: Serve) -> None:
    file = File(url=serve("/a.stl", b"solid"))
    assert [file.as_bytes(), file.as_bytes()] == [b"solid", b"solid"]
    assert len(serve.requests) == 1


def test_a_private_address_is_not_fetched(serve: Serve) -> None:
    with pytest.raises(InvalidInput, match="expected a public address"):
        File(url=serve("/a.stl", b"solid")).as_bytes()


def test_a_file_can_be_fetched_where_a_loop_runs() -> None:
    """It blocks the loop, as fal's does; in a process of its own, since the tests forbid that."""
    code = """if True:
        import asyncio
        from streamapp.fal.toolkit import File
        async def endpoint(): return File(url="data:,solid").as_bytes()
        print(asyncio.run(endpoint()))
    """
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=WAIT_S, check=True)
    assert run.stdout == "b'solid'\n"


def test_the_servers_own_files_are_not_downloaded(tmp_path: Path) -> None:
    kept = SimpleNamespace(path=tmp_path / "a.txt", content_type="text/plain")
    kept.path.write_bytes(b"mine")

    def read() -> tuple[bytes, bytes]:
        fetch.limit_by(fetch.MediaLimits.of(Settings(), stored=lambda url: kept))
        file = File(url="http://x.test/files/1/a.txt")
        return file.save(tmp_path / "b.txt").read_bytes(), file.as_bytes()

    assert contextvars.copy_context().run(read) == (b"mine", b"mine")


async def test_a_file_is_saved(tmp_path: Path) -> None:
    path = await File.from_bytes(b"solid").save_async(tmp_path / "a.stl")
    assert path.read_bytes() == b"solid"


@pytest.mark.usefixtures("private_urls")
def test_a_url_is_saved_under_the_name_that_is_asked_for(serve: Serve, tmp_path: Path) -> None:
    File(url=serve("/weights.bin", b"solid")).save(tmp_path / "a.stl")
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {"a.stl": b"solid"}


def test_saving_replaces_a_file_only_when_told_to(tmp_path: Path) -> None:
    path = tmp_path / "a.stl"
    path.write_bytes(b"old")
    with pytest.raises(FileExistsError, match="pass overwrite=True to replace it"):
        File.from_bytes(b"new").save(path)
    assert File.from_bytes(b"new").save(path, overwrite=True).read_bytes() == b"new"


def test_an_archive_gives_its_files_and_cleans_up_after_itself() -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("a.txt", "1")
        archive.writestr("deep/b.txt", "2")
    compressed = CompressedFile.model_validate(File.from_bytes(buffer.getvalue()).url)
    assert sorted(path.name for path in compressed) == ["a.txt", "deep"]
    (deep,) = compressed.glob("**/b.txt")
    assert deep.read_text() == "2"
    del compressed
    assert not deep.exists()


# Images


@pytest.mark.parametrize(
    ("format", "content_type"),
    [
        (None, "image/png"),
        ("png", "image/png"),
        ("jpg", "image/jpeg"),
        ("jpeg", "image/jpeg"),
        ("webp", "image/webp"),
        ("gif", "image/gif"),
    ],
)
def test_a_pil_image_is_encoded(format: Any, content_type: str) -> None:
    image = Image.from_pil(RED, format)
    assert (image.content_type, image.width, image.height) == (content_type, 6, 4)
    assert media.Image(image.as_bytes()).content_type == content_type


def test_a_pil_image_keeps_the_format_that_it_was_read_from() -> None:
    pil = PIL.Image.open(io.BytesIO(media.Image.from_pil(RED, "JPEG").data))
    assert Image.from_pil(pil).content_type == "image/jpeg"


def test_an_unknown_format_is_refused() -> None:
    with pytest.raises(ValueError, match="expected a format of png, jpeg, webp or gif; got 'tiff'"):
        Image.from_pil(RED, "tiff")  # type: ignore[arg-type]


def test_encoded_bytes_become_an_image_of_the_size_that_is_given() -> None:
    image = Image.from_bytes(media.Image.from_pil(RED).data, "png", ImageSize(width=6, height=4), "red.png")
    assert (image.width, image.file_name, image.content_type) == (6, "red.png", "image/png")


@pytest.mark.parametrize("image", [Image.from_pil(RED), Image(url=Image.from_pil(RED).url)])
def test_an_image_becomes_a_pil_image(image: Image) -> None:
    assert (image.to_pil().mode, image.to_pil("L").size) == ("RGB", (6, 4))


def test_what_is_no_image_is_the_callers_fault() -> None:
    with pytest.raises(InvalidInput, match="expected a PNG, JPEG, WebP or GIF image"):
        Image(url="data:,hello").to_pil()


def test_an_images_schema_is_fals() -> None:
    schema = Image.model_json_schema()
    assert list(schema["properties"]) == ["url", "content_type", "file_name", "file_size", "width", "height"]
    assert (schema["required"], schema["ui"]) == (["url"], {"field": "image"})


@pytest.mark.parametrize(
    ("source", "size"),
    [("square_hd", (1024, 1024)), ("portrait_16_9", (576, 1024)), (ImageSize(width=3, height=2), (3, 2))],
)
def test_a_size_is_a_preset_or_said_in_pixels(source: ImageSizeInput, size: tuple[int, int]) -> None:
    found = get_image_size(source)
    assert (found.width, found.height) == size


def test_an_unknown_preset_is_refused() -> None:
    with pytest.raises(TypeError, match="expected an ImageSize or one of square_hd, .*; got 'huge'"):
        get_image_size("huge")  # type: ignore[arg-type]


@pytest.fixture
def classifier(tmp_path: Path) -> Callable[[str], str]:
    """Make a tiny classifier that finds the same in every image."""

    def make(finding: str) -> str:
        labels = {"normal": 0, "nsfw": 1}
        config = ViTConfig(
            hidden_size=8,
            num_hidden_layers=1,
            num_attention_heads=1,
            intermediate_size=8,
            image_size=32,
            label2id=labels,
            id2label={number: label for label, number in labels.items()},
        )
        model = ViTForImageClassification(config)
        with torch.no_grad():
            model.classifier.weight.zero_()
            model.classifier.bias[labels[finding]] = 9
        model.save_pretrained(tmp_path)
        ViTImageProcessor(size={"height": 32, "width": 32}).save_pretrained(tmp_path)
        return str(tmp_path)

    return make


@pytest.mark.parametrize(("finding", "unsafe", "pixel"), [("nsfw", True, (0, 0, 0)), ("normal", False, (255, 0, 0))])
def test_the_safety_checker_blacks_out_what_it_finds(
    classifier: Callable[[str], str], finding: str, unsafe: bool, pixel: tuple[int, int, int]
) -> None:
    checked = postprocess_images([RED], model=classifier(finding))
    assert checked["has_nsfw_concepts"] == [unsafe]
    assert checked["images"][0].getpixel((0, 0)) == pixel


def test_without_the_safety_checker_nothing_is_found() -> None:
    assert postprocess_images([RED], False) == {"images": [RED], "has_nsfw_concepts": [False]}


def test_a_missing_classifier_is_told(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="the safety checker's model .* is not to be had; pass model=<a folder>"):
        postprocess_images([RED], model=str(tmp_path / "none"))


def test_the_safety_checker_is_not_available_without_transformers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "transformers")
    with pytest.raises(RuntimeError, match="needs transformers; import it at the top of the app"):
        postprocess_images([RED], model="any")


# Fields and types


class Described(FalBaseModel):
    FIELD_ORDERS = ["size", "photo"]
    SCHEMA_IGNORES = {"debug"}

    seed: int = Hidden(Field(default=1, description="The seed."))
    photo: str = ImageField(description="A photo.", json_schema_extra={"ui": {"important": True}})
    size: ImageSizeInput = ImageSizeField(default="square", ui={"important": True})
    sound: str = AudioField("")
    film: str = VideoField("")
    document: str = FileField("")
    plain: str = ImageSizeField("")
    debug: bool = False


def test_fields_tell_the_playground_what_they_are() -> None:
    properties = Described.model_json_schema()["properties"]
    assert {name: field.get("ui") for name, field in properties.items()} == {
        "size": {"important": True},
        "photo": {"field": "image", "important": True},
        "seed": {"hidden": True},
        "sound": {"field": "audio"},
        "film": {"field": "video"},
        "document": {"field": "file"},
        "plain": None,
        "debug": {"hidden": True},
    }


def test_the_schema_has_its_fields_in_the_order_of_the_class() -> None:
    assert list(Described.model_json_schema()["properties"])[:3] == ["size", "photo", "seed"]


@pytest.mark.parametrize(
    ("field", "message"),
    [(7, r"expected Hidden\(Field\(default=...\)\), got int"), (Field(), "a hidden field needs a default")],
)
def test_only_a_field_with_a_default_can_be_hidden(field: Any, message: str) -> None:
    with pytest.raises((TypeError, ValueError), match=message):
        Hidden(field)


def test_limits_stand_in_the_schema() -> None:
    sizes = ImageSizeConstraints(min_width=64, max_width=2048, multiple_of=8)
    film = VideoValidationConfig(max_duration=60)
    normalized = VideoNormalizationConfig(fps=24)

    class Limited(BaseModel):
        size: ImageSizeInput = ImageSizeField("square", constraints=sizes)
        films: list[str] = VideoField(constraints=film, combined_constraints=film, normalization=normalized)

    properties = Limited.model_json_schema()["properties"]
    assert properties["size"]["x-fal"] == {"min_width": 64, "max_width": 2048, "multiple_of": 8}
    assert properties["films"]["x-fal"] == {
        "max_duration": 60,
        "combined": {"max_duration": 60},
        "normalization": {"fps": 24},
    }
    assert to_xfal(ImageValidationConfig(max_file_size=9)) == {"max_file_size": 9}


@pytest.mark.parametrize(
    ("limits", "message"),
    [
        ({"min_width": 9, "max_width": 8}, "expected min_width of at most max_width=8; got 9"),
        ({"min_aspect_ratio": 1}, "expected min_aspect_ratio and max_aspect_ratio together"),
    ],
)
def test_limits_that_nothing_meets_are_refused(limits: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ImageSizeConstraints(**limits)


class Urls(BaseModel):
    photo: ImageInput | None = None
    file: FileInput | None = None


@pytest.mark.parametrize("url", [f" {Image.from_pil(RED).url} ", "https://x.test/red.png"])
def test_a_url_of_an_image_becomes_a_pil_image(url: str, tmp_path: Path) -> None:
    kept = SimpleNamespace(path=tmp_path / "red.png", content_type="image/png")
    RED.save(kept.path)

    def read() -> PIL.Image.Image | None:
        fetch.limit_by(fetch.MediaLimits.of(Settings(), stored=lambda url: kept))
        photo = Urls.model_validate({"photo": url}).photo
        return None if photo is None else photo.to_pil()

    assert contextvars.copy_context().run(read) == RED


def test_an_https_url_is_taken_and_a_http_one_refused() -> None:
    assert Urls(photo="https://example.com/a.png").photo == "https://example.com/a.png"
    with pytest.raises(ValidationError, match="pattern"):
        Urls.model_validate({"photo": "http://example.com/a.png"})


def test_a_url_becomes_a_file_for_the_time_of_a_block() -> None:
    urls = Urls.model_validate({"file": "data:,hello"})
    assert urls.file is not None
    with urls.file.as_temp_file() as path:
        assert path.read_text() == "hello"
    assert not path.exists()


def test_the_schema_of_a_url_names_its_form() -> None:
    options = Urls.model_json_schema()["properties"]["file"]["anyOf"]
    assert [option.get("format") for option in options] == ["https-url", "data-uri", None]


# Downloads


@pytest.mark.usefixtures("private_urls")
def test_a_file_is_downloaded_under_its_urls_name(serve: Serve, persistent: Path) -> None:
    path = download_file(serve("/models/a.bin", bytes(3_000_000)), "weights")
    assert path == persistent / "weights" / "a.bin"
    assert path.read_bytes() == bytes(3_000_000)
    assert os.listdir(path.parent) == ["a.bin"]


@pytest.mark.usefixtures("private_urls")
@pytest.mark.parametrize(
    ("disposition", "name"),
    [("attachment; filename=b.bin", "b.bin"), ("attachment; filename=../../c.bin", "c.bin"), ("inline", "a.bin")],
)
def test_the_server_can_say_another_name(serve: Serve, tmp_path: Path, disposition: str, name: str) -> None:
    assert download_file(serve("/a.bin", b"x", Content_Disposition=disposition), tmp_path) == tmp_path / name


@pytest.mark.usefixtures("private_urls")
def test_headers_are_sent_along(serve: Serve, tmp_path: Path) -> None:
    download_file(serve("/a.bin", b"x"), tmp_path, request_headers={"Authorization": "Bearer t"})
    assert "Authorization: Bearer t" in serve.requests[0]


@pytest.mark.usefixtures("private_urls")
@pytest.mark.parametrize(("force", "kept"), [(False, b"old"), (True, b"new")])
def test_a_file_of_the_same_size_is_kept_unless_forced(serve: Serve, tmp_path: Path, force: bool, kept: bytes) -> None:
    (tmp_path / "a.bin").write_bytes(b"old")
    assert download_file(serve("/a.bin", b"new"), tmp_path, force=force).read_bytes() == kept


@pytest.mark.usefixtures("private_urls")
def test_a_file_over_the_limit_is_refused_and_nothing_stays(serve: Serve, tmp_path: Path) -> None:
    with pytest.raises(DownloadError, match="expected at most 1048576 bytes, it has 1048577"):
        download_file(serve("/a.bin", bytes(1024 * 1024 + 1)), tmp_path, filesize_limit=1)
    assert os.listdir(tmp_path) == []


def test_a_download_from_a_private_address_is_refused(serve: Serve, tmp_path: Path) -> None:
    with pytest.raises(DownloadError, match=r"cannot download http://127.*: expected a public address"):
        download_file(serve("/a.bin", b"x"), tmp_path)


def test_a_data_uri_is_downloaded_under_a_name_of_its_own(tmp_path: Path) -> None:
    path = download_file("data:,hello", tmp_path)
    assert (len(path.name), path.read_text()) == (64, "hello")


@pytest.mark.usefixtures("private_urls")
def test_weights_are_downloaded_once(serve: Serve, persistent: Path) -> None:
    url = serve("/a.bin", b"x")
    assert download_model_weights(url) == download_model_weights(url)
    assert len(serve.requests) == 1
    download_model_weights(url, force=True)
    assert len(serve.requests) == 2


def git(folder: Path, *arguments: str) -> str:
    identity = ("-c", "user.name=n", "-c", "user.email=e@x.test", "-c", "commit.gpgsign=false")
    return subprocess.run(
        ["git", *identity, *arguments], cwd=folder, check=True, capture_output=True, text=True, timeout=WAIT_S
    ).stdout.strip()


@pytest.fixture
def origin(tmp_path: Path) -> Path:
    """Make a repository with two commits."""
    path = tmp_path / "model.git"
    path.mkdir()
    git(path, "init", "--quiet")
    for text in ("first", "second"):
        (path / "text").write_text(text)
        git(path, "add", ".")
        git(path, "commit", "--quiet", "--message", text)
    return path


def test_a_repository_is_cloned_at_a_commit(origin: Path, persistent: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", [*sys.path])
    first = git(origin, "rev-parse", "HEAD~")
    path = clone_repository(str(origin), commit_hash=first, include_to_path=True)
    assert path == persistent / "repos" / f"model-{first[:8]}"
    assert ((path / "text").read_text(), sys.path[0]) == ("first", str(path))


def test_a_clone_at_the_commit_stays_as_it_is_unless_forced(origin: Path, tmp_path: Path) -> None:
    commit = git(origin, "rev-parse", "HEAD")
    (clone_repository(str(origin), commit_hash=commit, target_dir=tmp_path) / "mine").touch()
    assert (clone_repository(str(origin), commit_hash=commit, target_dir=tmp_path) / "mine").exists()
    assert not (clone_repository(str(origin), commit_hash=commit, target_dir=tmp_path, force=True) / "mine").exists()


def test_without_a_commit_the_newest_is_cloned_each_time(origin: Path, tmp_path: Path) -> None:
    path = clone_repository(str(origin), target_dir=tmp_path)
    (path / "text").write_text("mine")
    assert (clone_repository(str(origin), target_dir=tmp_path, repo_name=path.name) / "text").read_text() == "second"


def test_a_commit_that_could_be_another_is_refused() -> None:
    with pytest.raises(ValueError, match="expected at least 8 digits of a commit_hash; got 'abc'"):
        clone_repository("https://x.test/a.git", commit_hash="abc")


# The rest


@pytest.mark.usefixtures("persistent")
def test_values_are_kept_by_key_and_name_space() -> None:
    KVStore("a").set("key", "1")
    KVStore("a").set("key", "2", ttl=60)
    assert (KVStore("a").get("key"), KVStore("b").get("key")) == ("2", None)
    KVStore("a").delete("key")
    assert KVStore("a").get("key") is None


@pytest.mark.usefixtures("persistent")
def test_values_expire(monkeypatch: pytest.MonkeyPatch) -> None:
    KVStore("a").set("key", "1", ttl=60)
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + 61)
    assert KVStore("a").get("key") is None


def test_a_broken_store_is_told(persistent: Path) -> None:
    (persistent / "kv.sqlite3").write_bytes(b"no database" * 100)
    with pytest.raises(KVStoreException, match="the key-value store in .* failed"):
        KVStore("a").get("key")


@pytest.mark.parametrize(
    ("prints", "model"),
    [("echo 'NVIDIA H100 80GB HBM3'", "H100"), ("echo none", "UNKNOWN"), (None, "UNKNOWN")],
)
def test_the_gpus_model_is_asked_of_its_driver(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, prints: str | None, model: str
) -> None:
    if prints is not None:
        (tmp_path / "nvidia-smi").write_text(f"#!/bin/sh\n{prints}\n")
        (tmp_path / "nvidia-smi").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin")
    assert get_gpu_type() == model


def test_what_torch_compiles_is_kept(persistent: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", "elsewhere")
    sync_inductor_cache("flux/1", load_inductor_cache("flux/1"))
    with synchronized_inductor_cache("flux/2"):
        folder = Path(os.environ["TORCHINDUCTOR_CACHE_DIR"])
    assert folder.is_relative_to(persistent / "inductor-caches")
    assert folder.match("flux/2")


async def test_a_block_that_is_cancelled_on_disconnect_runs() -> None:
    ran = []
    async with cancel_on_disconnect(Request({"type": "http"})):
        ran.append(1)
    assert ran


def test_persistent_folders_are_where_the_environment_says(tmp_path: Path) -> None:
    code = "from streamapp.fal.toolkit import FAL_MODEL_WEIGHTS_DIR; print(FAL_MODEL_WEIGHTS_DIR)"
    environment = {**os.environ, "STREAMAPP_PERSISTENT_DIR": str(tmp_path)}
    run = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=WAIT_S)
    assert run.stdout.strip() == str(tmp_path / ".fal" / "model_weights")
