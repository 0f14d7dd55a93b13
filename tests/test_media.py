"""Media: values in and out, what inputs accept, and what may be downloaded."""

import asyncio
import base64
import contextvars
import gzip
import io
import json
import socket
import ssl
import struct
import threading
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Annotated, Any, Literal, NamedTuple

import anyio
import PIL.Image
import pydantic_core
import pytest
import trustme
from pydantic import BaseModel, Field, RootModel, ValidationError
from starlette.datastructures import Headers, UploadFile
from tests.waiting import WAIT_S
from typing_extensions import TypeAliasType

from streamapp.errors import InvalidInput
from streamapp.media import (
    Audio,
    File,
    HeldBack,
    HeldBackOnLoop,
    Image,
    MediaLimits,
    encode_media,
    has_media_fields,
    inline,
    is_public_address,
    limit_by,
    limits_here,
    publish_by,
    resolve_media,
)
from streamapp.media import _tls_context as tls_context
from streamapp.settings import Settings, get_settings

LIMITS = MediaLimits(max_bytes=1_000_000, max_pixels=1_000_000, timeout_s=10, allow_private_urls=True)
PUBLIC_ONLY = replace(LIMITS, allow_private_urls=False)
WAV = b"RIFF\x24\0\0\0WAVEfmt "


class In(BaseModel):
    photo: Image
    clip: Audio | None = None
    many: list[Image] = []


class Part(NamedTuple):
    file: File
    number: int


class Attachment(BaseModel):
    file: File


def picture(mode: str = "RGB", size: tuple[int, int] = (6, 4), color: Any = None) -> PIL.Image.Image:
    return PIL.Image.new(mode, size, color) if color is not None else PIL.Image.new(mode, size)


def encoded(pil: PIL.Image.Image, format: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    pil.save(buffer, format, **options)
    return buffer.getvalue()


PNG = encoded(picture(), "PNG")
NOISE = encoded(PIL.Image.effect_noise((64, 64), 60), "JPEG")
PNG_URI = "data:image/png;base64," + base64.b64encode(PNG).decode()


def png_header(width: int, height: int) -> bytes:
    """A PNG that claims a size and holds no pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


# Values


@pytest.mark.parametrize(
    ("data", "content_type"),
    [
        (PNG, "image/png"),
        (encoded(picture(), "JPEG"), "image/jpeg"),
        (encoded(picture(), "WEBP"), "image/webp"),
        (encoded(picture("L"), "GIF"), "image/gif"),
        (WAV, "audio/wav"),
        (b"ID3\x04", "audio/mpeg"),
        (b"\xff\xfb\x90", "audio/mpeg"),
        (b"OggS", "audio/ogg"),
        (b"fLaC", "audio/flac"),
        (b"hello", "application/octet-stream"),
    ],
)
def test_first_bytes_tell_the_content_type(data: bytes, content_type: str) -> None:
    assert File(data).content_type == content_type


def test_a_given_content_type_is_kept() -> None:
    assert File(b"\xff\xfb", "model/gltf-binary").content_type == "model/gltf-binary"


@pytest.mark.parametrize("content_type", ["png", "text/html\r\nSet-Cookie: a=b", "x" * 1000])
def test_a_content_type_that_would_break_a_header_is_refused(content_type: str) -> None:
    with pytest.raises(ValueError, match="expected a content type such as image/png; got") as refused:
        File(b"", content_type)
    assert len(str(refused.value)) < 150


def test_an_image_knows_its_size_and_what_its_bytes_are() -> None:
    image = Image(PNG, "image/jpeg")
    assert (image.content_type, image.width, image.height) == ("image/png", 6, 4)


def test_bytes_that_are_no_image_are_refused() -> None:
    with pytest.raises(ValueError, match="expected a PNG, JPEG, WebP or GIF image, got 5 bytes of text/html"):
        Image(b"<html", "text/html")


def test_a_format_outside_the_short_list_is_refused() -> None:
    with pytest.raises(ValueError, match="expected a PNG, JPEG, WebP or GIF image"):
        Image(encoded(picture(), "TIFF"))


def test_audio_takes_what_it_recognises_over_a_wrong_content_type() -> None:
    assert Audio(WAV, "video/ogg").content_type == "audio/wav"


def test_audio_takes_a_declared_audio_type() -> None:
    assert Audio(b"\x1aE\xdf\xa3", "audio/webm").content_type == "audio/webm"


def test_bytes_that_are_no_audio_are_refused() -> None:
    with pytest.raises(ValueError, match=r"expected WAV, MP3, Ogg or FLAC, .*; got application/octet-stream"):
        Audio(b"hello")


def test_a_file_survives_the_way_through_a_data_uri() -> None:
    file = File(bytes(range(256)) * 3000, "model/gltf-binary")
    assert File.from_data_uri(file.data_uri()) == file


def test_a_data_uri_may_be_percent_encoded() -> None:
    assert File.from_data_uri("data:text/plain;charset=utf-8,a%20b") == File(b"a b", "text/plain")


def test_a_data_uri_without_a_type_is_recognised_by_its_bytes() -> None:
    assert Image.from_data_uri(PNG_URI.replace("image/png", "")).content_type == "image/png"


@pytest.mark.parametrize("uri", ["foo.png", "data:image/png;base64", "data:" + "x" * 1000])
def test_what_is_no_data_uri_is_refused_in_short(uri: str) -> None:
    with pytest.raises(ValueError, match="expected data:<content type>;base64,<data>; got") as refused:
        File.from_data_uri(uri)
    assert len(str(refused.value)) < 150


def test_an_image_is_saved_and_read_back(tmp_path: Path) -> None:
    image = Image.from_pil(picture(color="red"), "WEBP")
    image.save(tmp_path / "red.webp")
    read = Image.from_path(tmp_path / "red.webp")
    assert (read.data, read.content_type, read.file_name) == (image.data, "image/webp", "red.webp")


def test_a_file_of_unknown_name_is_recognised_by_its_bytes(tmp_path: Path) -> None:
    (tmp_path / "take").write_bytes(WAV)
    assert Audio.from_path(str(tmp_path / "take")).content_type == "audio/wav"


def test_json_of_a_file_has_the_shape_of_fal() -> None:
    assert File(b"hi", "text/plain").as_json() == {
        "url": "data:text/plain;base64,aGk=",
        "content_type": "text/plain",
        "file_size": 2,
    }


def test_json_of_an_image_has_its_name_and_size() -> None:
    json_value = Image(PNG, file_name="a.png").as_json()
    assert {key: json_value[key] for key in ("file_name", "file_size", "width", "height")} == {
        "file_name": "a.png",
        "file_size": len(PNG),
        "width": 6,
        "height": 4,
    }


def test_pydantic_writes_media_as_that_json_anywhere_in_a_payload() -> None:
    image = Image(PNG)
    written = json.loads(pydantic_core.to_json({"images": [image], "model": In(photo=image)}))
    assert written["images"] == [image.as_json()]
    assert written["model"]["photo"] == image.as_json()


def test_a_model_dump_keeps_the_value_for_the_pipeline() -> None:
    image = Image(PNG)
    assert In(photo=image).model_dump()["photo"] is image


# PIL


@pytest.mark.parametrize("mode", ["1", "L", "LA", "I;16", "P", "RGB", "RGBA"])
def test_png_keeps_every_mode_that_it_can_hold(mode: str) -> None:
    assert Image.from_pil(picture(mode)).to_pil(None).mode == mode


@pytest.mark.parametrize(
    ("mode", "format", "kept"),
    [
        ("F", "PNG", "L"),
        ("I", "PNG", "L"),
        ("CMYK", "PNG", "RGB"),
        ("PA", "PNG", "RGBA"),
        ("1", "JPEG", "L"),
        ("P", "JPEG", "RGB"),
        ("LA", "WEBP", "RGBA"),
        ("HSV", "WEBP", "RGB"),
    ],
)
def test_a_mode_that_the_format_cannot_hold_is_converted(
    mode: str, format: Literal["PNG", "JPEG", "WEBP"], kept: str
) -> None:
    assert Image.from_pil(picture(mode), format).to_pil(None).mode == kept


def test_transparency_becomes_white_in_a_jpeg() -> None:
    assert Image.from_pil(picture("RGBA", color=(255, 0, 0, 0)), "JPEG").to_pil().getpixel((0, 0)) == (255, 255, 255)


def test_transparency_becomes_white_for_a_pipeline_that_wants_rgb() -> None:
    image = Image.from_pil(picture("RGBA", color=(255, 0, 0, 0)))
    assert image.to_pil().getpixel((0, 0)) == (255, 255, 255)
    assert image.to_pil("RGBA").getpixel((0, 0)) == (255, 0, 0, 0)


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_what_shines_through_is_white(mode: str) -> None:
    clear = PIL.Image.new("L", (256, 256), 255)
    shades = PIL.Image.linear_gradient("L")
    pil = PIL.Image.merge(mode, [*[shades] * (len(mode) - 1), shades.transpose(PIL.Image.Transpose.ROTATE_90)])
    over = PIL.Image.merge("RGBA", [clear] * 4)
    over.alpha_composite(pil.convert("RGBA"))
    assert Image.from_pil(pil).to_pil() == over.convert("RGB")


def test_a_16_bit_depth_map_is_scaled_not_clipped() -> None:
    assert Image.from_pil(picture("I;16", color=0x8000)).to_pil("L").getpixel((0, 0)) == 0x80


def test_quality_decides_the_size_of_a_jpeg() -> None:
    noise = PIL.Image.effect_noise((64, 64), 60)
    assert len(Image.from_pil(noise, "JPEG", quality=30).data) < len(Image.from_pil(noise, "JPEG").data)


@pytest.mark.parametrize(("orientation", "upright"), [(1, (6, 4)), (3, (6, 4)), (6, (4, 6)), (8, (4, 6)), (9, (6, 4))])
def test_a_photo_is_upright_in_size_and_pixels(orientation: int, upright: tuple[int, int]) -> None:
    exif = PIL.Image.Exif()
    exif[0x0112] = orientation
    image = Image(encoded(picture(), "JPEG", exif=exif))
    assert (image.width, image.height) == image.to_pil().size == upright


def test_a_truncated_image_cannot_be_decoded() -> None:
    with pytest.raises(ValueError, match=r"expected a whole image, cannot decode this image/jpeg: .*truncated"):
        Image(NOISE[:-1000]).to_pil()


def test_pil_images_and_media_are_media() -> None:
    file = File(b"hi")
    assert encode_media(file) is file
    assert encode_media(picture()) == Image.from_pil(picture())


def test_a_preview_is_encoded_as_jpeg() -> None:
    preview = encode_media(picture(), image_format="JPEG", quality=70)
    assert preview is not None
    assert preview.content_type == "image/jpeg"


@pytest.mark.parametrize("value", [b"\x89PNG", "data:image/png;base64,", {"url": "x"}, None])
def test_other_values_are_not_media(value: Any) -> None:
    assert encode_media(value) is None


# Inputs


def upload(data: bytes, content_type: str = "image/png", name: str = "a.png") -> UploadFile:
    return UploadFile(io.BytesIO(data), filename=name, headers=Headers({"content-type": content_type}))


@pytest.mark.parametrize(
    "photo",
    [
        Image(PNG),
        PNG,
        PNG_URI,
        PNG_URI.replace("data:", "DATA:"),
        {"url": PNG_URI, "content_type": "image/png", "file_size": 99, "file_name": None},
        Image(PNG).as_json(),
        upload(PNG),
    ],
    ids=["value", "bytes", "data-uri", "upper-case", "fal", "ours", "upload"],
)
async def test_an_image_field_takes(photo: Any) -> None:
    resolved = await resolve_media(In.model_validate({"photo": photo}), limits=LIMITS)
    assert resolved.photo.to_pil().size == (6, 4)


async def test_an_upload_keeps_its_name_and_type() -> None:
    given = Attachment.model_validate({"file": upload(b"glTF", "model/gltf-binary", "cube.glb")})
    resolved = await resolve_media(given, limits=LIMITS)
    assert resolved.file == File(b"glTF", "model/gltf-binary", "cube.glb")


async def test_a_named_data_uri_keeps_its_name() -> None:
    given = Attachment.model_validate({"file": {"url": "data:text/plain,hi", "file_name": "hi.txt"}})
    assert (await resolve_media(given, limits=LIMITS)).file == File(b"hi", "text/plain", "hi.txt")


@pytest.mark.parametrize(
    ("photo", "got"),
    [
        ("foo.png", '"foo.png"'),
        ("file:///etc/passwd", '"file:///etc/passwd"'),
        ({"url": "ftp://host/a.png"}, '"ftp://host/a.png"'),
        ({"image": "x"}, "dict"),
        (3, "int"),
        (None, "NoneType"),
        (Audio(WAV), "Audio"),
        ("A" * 5_000_000, '"' + "A" * 60 + '..."'),
        ("\ud800", r'"\ud800"'),  # a lone surrogate, which JSON can carry and UTF-8 cannot
    ],
)
def test_another_value_is_refused_with_what_to_write(photo: Any, got: str) -> None:
    with pytest.raises(ValidationError) as refused:
        In.model_validate({"photo": photo})
    [error] = refused.value.errors()
    assert error["loc"] == ("photo",)
    assert error["msg"] == f"expected image data as a data URI, an http(s) URL or an upload; got {got}"


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        ({"photo": b"hello"}, "photo: expected a PNG, .*got 5 bytes of unknown type .from 5 bytes"),
        ({"photo": "data:image/png;base64,a"}, 'photo: .*base64.* .from "data:image/png;base64,a"'),
        ({"photo": NOISE[:-1000]}, "photo: expected a whole image"),
        ({"photo": upload(b"", name="no.png")}, 'photo: expected a PNG, .*from upload "no.png"'),
        ({"photo": png_header(1001, 1000)}, "photo: expected at most 1000000 pixels .*, got 1001x1000"),
        ({"photo": png_header(30_000, 30_000)}, "photo: expected a whole image, cannot decode this image/png: .*bomb"),
        ({"photo": PNG, "many": [PNG, b"?"]}, "many.1: expected a PNG"),
        ({"photo": PNG, "clip": {"url": "data:,hello"}}, "clip: expected WAV"),
        ({"photo": PNG, "clip": "data:" + "," * 2_000_000}, "clip: the media of one input must not exceed"),
        ({"photo": PNG, "clip": upload(b"x" * 1_000_001)}, "clip: the media of one input must not exceed 1000000"),
        ({"photo": PNG, "many": [PNG + bytes(400_000)] * 3}, "many.2: the media of one input must not exceed"),
    ],
)
async def test_content_that_cannot_be_used_is_refused_by_field(given: dict[str, Any], problem: str) -> None:
    with pytest.raises(InvalidInput, match=problem) as refused:
        await resolve_media(In.model_validate(given), limits=LIMITS)
    assert len(str(refused.value)) < 300


async def test_no_more_than_a_few_images_are_decoded_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each of 64 megapixels takes 512 MiB; one colour of them are 260 kB to send."""
    image, gate, threads, open_image = Image(PNG), threading.Event(), set[int](), PIL.Image.open

    def open_behind_the_gate(*arguments: Any, **options: Any) -> PIL.Image.Image:
        threads.add(threading.get_ident())
        assert gate.wait(WAIT_S)
        return open_image(*arguments, **options)

    monkeypatch.setattr(PIL.Image, "open", open_behind_the_gate)
    resolving = [asyncio.create_task(resolve_media(image, limits=LIMITS)) for _ in range(10)]
    await anyio.wait_all_tasks_blocked()
    gate.set()
    assert await asyncio.gather(*resolving) == [image] * 10
    assert len(threads) <= 4


async def test_an_input_that_is_itself_media_is_named_input() -> None:
    with pytest.raises(InvalidInput, match=r"input: expected at most 10 pixels .*got 6x4 .from Image"):
        await resolve_media(Image(PNG), limits=replace(LIMITS, max_pixels=10))


async def test_the_walk_reaches_models_and_containers_and_leaves_the_rest() -> None:
    class Deep(BaseModel):
        models: dict[str, list[In]]
        pair: tuple[Image, int]
        part: Part
        unique: set[File]
        note: str = "kept"

    given = {
        "models": {"a": [{"photo": PNG_URI}]},
        "pair": [PNG_URI, 7],
        "part": ["data:text/plain,hi", 8],
        "unique": ["data:text/plain,hi"],
    }
    resolved = await resolve_media(Deep.model_validate(given), limits=LIMITS)
    assert resolved.models["a"][0].photo == resolved.pair[0] == Image(PNG)
    assert resolved.part == Part(File(b"hi", "text/plain"), 8)
    assert (resolved.pair[1], resolved.unique, resolved.note) == (7, {File(b"hi", "text/plain")}, "kept")


async def test_resolving_marks_no_field_as_set() -> None:
    resolved = await resolve_media(In.model_validate({"photo": PNG}), limits=LIMITS)
    assert resolved.model_fields_set == {"photo"}


def test_the_schema_of_an_input_offers_a_string_or_an_object_and_a_hint_for_forms() -> None:
    photo = In.model_json_schema()["properties"]["photo"]
    text, described = photo["anyOf"]
    assert photo["ui"] == {"field": "image"}
    assert text == {"type": "string", "format": "uri"}
    assert (described["type"], described["required"]) == ("object", ["url"])


def test_the_schema_of_a_result_is_the_object() -> None:
    photo = In.model_json_schema(mode="serialization")["properties"]["photo"]
    assert photo["type"] == "object"
    assert {"url", "content_type", "file_size", "width", "height"} <= photo["properties"].keys()


class Plain(BaseModel):
    prompt: str
    size: Literal["small", "large"] = "small"
    parts: list["Plain"] = []


class Nested(BaseModel):
    inputs: dict[str, Annotated[list[In], Field(max_length=3)]]
    again: "Nested | None" = None


class Hinted(BaseModel):
    photo: Image = Field(json_schema_extra={"ui": {"important": True}})


@pytest.mark.parametrize(
    ("input_type", "has_media"),
    [
        (Plain, False),
        (int, False),
        (In, True),
        (Nested, True),
        (Hinted, True),
        (list[Part], True),
        (Audio, True),
        (RootModel[list[File]], True),
        (TypeAliasType("Photo", Image | None), True),
    ],
)
def test_whether_an_input_can_hold_media_is_told_by_its_type(input_type: Any, has_media: bool) -> None:
    assert has_media_fields(input_type) is has_media


# Downloads, from a real server on loopback

Answer = Callable[[str, asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


def http(body: bytes, *headers: str, status: str = "200 OK") -> Answer:
    """An answer that is the same for every path."""

    async def answer(request: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = "\r\n".join([f"HTTP/1.1 {status}", "Connection: close", *headers])
        writer.write(head.encode() + b"\r\n\r\n" + body)

    return answer


@asynccontextmanager
async def server(answer: Answer, *, tls: ssl.SSLContext | None = None) -> AsyncIterator[tuple[int, list[str]]]:
    """Serve `answer` on 127.0.0.1; gives the port and the requests' heads as they come in."""
    requests: list[str] = []
    connections: list[asyncio.Task[None] | None] = []

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connections.append(asyncio.current_task())
        requests.append((await reader.readuntil(b"\r\n\r\n")).decode())
        with suppress(ConnectionError):  # the client left, as some tests want
            await answer(requests[-1], reader, writer)
            await writer.drain()
            writer.close()
            await writer.wait_closed()

    listening = await asyncio.start_server(handle, "127.0.0.1", 0, ssl=tls)
    async with listening:
        yield listening.sockets[0].getsockname()[1], requests
        await asyncio.gather(*filter(None, connections))


async def download(url: str, limits: MediaLimits = LIMITS) -> File:
    return (await resolve_media(Attachment.model_validate({"file": url}), limits=limits)).file


async def test_a_url_is_downloaded_with_its_content_type() -> None:
    async with server(http(b"solid", "Content-Type: model/stl; charset=x")) as (port, requests):
        file = await download(f"http://127.0.0.1:{port}/a.stl?b=c")
    assert file == File(b"solid", "model/stl")
    assert requests[0].startswith("GET /a.stl?b=c HTTP/1.1\r\n")


async def test_the_content_type_that_the_input_names_wins() -> None:
    async with server(http(b"solid", "Content-Type: text/html")) as (port, _):
        given = {"file": {"url": f"http://127.0.0.1:{port}/", "content_type": "model/stl"}}
        resolved = await resolve_media(Attachment.model_validate(given), limits=LIMITS)
    assert resolved.file.content_type == "model/stl"


async def test_a_page_in_the_place_of_an_image_is_refused() -> None:
    async with server(http(b"<html>", "Content-Type: text/html")) as (port, _):
        given = In.model_validate({"photo": f"http://127.0.0.1:{port}/cat"})
        with pytest.raises(InvalidInput, match=r"photo: expected a PNG, .*got 6 bytes of text/html .from .http://127"):
            await resolve_media(given, limits=LIMITS)


async def test_a_status_other_than_200_is_refused() -> None:
    async with server(http(b"", status="404 Not Found")) as (port, _):
        with pytest.raises(InvalidInput, match=r"file: expected status 200, the URL answered 404 .from"):
            await download(f"http://127.0.0.1:{port}/")


async def test_an_endless_body_without_a_length_is_cut_off() -> None:
    async def endless(request: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
        while True:
            writer.write(bytes(100_000))
            await writer.drain()

    async with server(endless) as (port, _):
        with pytest.raises(InvalidInput, match="file: the media of one input must not exceed 1000000 bytes"):
            await download(f"http://127.0.0.1:{port}/")


async def test_a_compressed_body_is_refused_because_it_can_be_a_bomb() -> None:
    async with server(http(gzip.compress(bytes(100)), "Content-Encoding: gzip")) as (port, requests):
        with pytest.raises(InvalidInput, match="expected an uncompressed answer, the URL sent Content-Encoding: gzip"):
            await download(f"http://127.0.0.1:{port}/")
    assert "accept-encoding: identity" in requests[0].lower()


async def test_a_server_that_does_not_answer_is_given_up() -> None:
    async def silent(request: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()  # until the client leaves

    async with server(silent) as (port, _):
        with pytest.raises(InvalidInput, match=r"took longer than 0.2 s"):
            await download(f"http://127.0.0.1:{port}/", replace(LIMITS, timeout_s=0.2))


async def test_a_server_that_hangs_up_is_reported() -> None:
    async def hang_up(request: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.transport.abort()

    async with server(hang_up) as (port, _):
        with pytest.raises(InvalidInput, match=r"file: \S.* .from .http://127"):
            await download(f"http://127.0.0.1:{port}/")


@pytest.mark.parametrize(
    "url", ["http://", "http://[::1", f"http://a:{'b' * 9000}/", "http://\ud800/", "https://no-such-host.invalid/"]
)
async def test_a_url_that_leads_nowhere_is_refused_in_short(url: str) -> None:
    with pytest.raises(InvalidInput, match="file: ") as refused:
        await download(url)
    assert len(str(refused.value)) < 300


# Redirects


async def test_redirects_are_followed_relative_to_the_url_that_was_asked() -> None:
    async def answer(request: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        moved = http(b"", "Location: /new", status="302 Found")
        await (moved if request.startswith("GET /old") else http(b"here"))(request, reader, writer)

    async with server(answer) as (port, requests):
        file = await download(f"http://localhost:{port}/old")
    assert file.data == b"here"
    assert [f"Host: localhost:{port}" in request for request in requests] == [True, True]


async def test_redirects_end_somewhere() -> None:
    async with server(http(b"", "Location: /again", status="302 Found")) as (port, requests):
        with pytest.raises(InvalidInput, match="file: expected at most 5 redirects"):
            await download(f"http://127.0.0.1:{port}/")
    assert len(requests) == 6


async def test_a_redirect_to_another_scheme_is_refused() -> None:
    async with server(http(b"", "Location: file:///etc/passwd", status="302 Found")) as (port, _):
        with pytest.raises(InvalidInput, match="file: .*protocol"):
            await download(f"http://127.0.0.1:{port}/")


async def test_the_body_of_a_redirect_is_not_read() -> None:
    async def answer(request: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if request.startswith("GET /here"):
            return await http(b"here")(request, reader, writer)
        writer.write(b"HTTP/1.1 302 Found\r\nLocation: /here\r\nContent-Length: 1000000\r\n\r\n")
        return None

    async with server(answer) as (port, _):
        assert (await download(f"http://127.0.0.1:{port}/")).data == b"here"


# Addresses


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1",
        "localhost",
        "2130706433",
        "0x7f.1",
        "0.0.0.0",
        "10.0.0.1",
        "100.100.100.200",
        "169.254.169.254",
        "[::1]",
        "[::ffff:127.0.0.1]",
    ],
)
async def test_private_hosts_are_refused_before_any_connection(host: str) -> None:
    async with server(http(b"secret")) as (port, requests):
        with pytest.raises(InvalidInput, match="file: expected a public address .STREAMAPP_ALLOW_PRIVATE_URLS=true"):
            await download(f"http://{host}:{port}/", PUBLIC_ONLY)
    assert requests == []


@pytest.mark.parametrize("address", ["93.184.216.34", "1.1.1.1", "2606:4700:4700::1111"])
def test_public_addresses(address: str) -> None:
    assert is_public_address(address)


@pytest.mark.parametrize(
    "address",
    [
        "192.0.0.192",  # Oracle's metadata service
        "168.63.129.16",  # Azure's
        "224.0.0.1",
        "255.255.255.255",
        "::ffff:8.8.8.8",
        "64:ff9b::7f00:1",  # NAT64
        "2002:7f00:1::",  # 6to4
        "2001:0:7f00:1::",  # Teredo
        "fd00::1",
        "fec0::1",
        "fe80::1%eth0",
        "ff02::1",
        "2001:db8::1",
    ],
)
def test_other_addresses_are_not_public(address: str) -> None:
    assert not is_public_address(address)


Resolver = Callable[[dict[str, list[str]]], list[str]]


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> Resolver:
    """Answer look-ups from a table, each name's addresses only once; returns the names asked for."""

    def install(table: dict[str, list[str]]) -> list[str]:
        asked: list[str] = []

        async def getaddrinfo(host: bytes, port: None, **_: Any) -> list[Any]:
            asked.append(host.decode())
            addresses = table.pop(host.decode())
            return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, 0)) for address in addresses]

        monkeypatch.setattr(anyio, "getaddrinfo", getaddrinfo)
        return asked

    return install


async def test_the_connection_goes_to_the_address_that_was_checked(names: Resolver) -> None:
    """A second look-up, as in DNS rebinding, would fail here: the table answers once."""
    asked = names({"photos.example": ["127.0.0.1"]})
    async with server(http(b"here")) as (port, requests):
        assert (await download(f"http://photos.example:{port}/")).data == b"here"
    assert asked == ["photos.example"]
    assert f"Host: photos.example:{port}" in requests[0]


async def test_one_private_address_among_public_ones_is_enough_to_refuse(names: Resolver) -> None:
    names({"mixed.example": ["93.184.216.34", "127.0.0.1"]})
    with pytest.raises(InvalidInput, match="expected a public address"):
        await download("http://mixed.example/", PUBLIC_ONLY)


async def test_the_next_address_is_tried_when_one_refuses(names: Resolver) -> None:
    names({"two.example": ["127.0.0.2", "127.0.0.1"]})
    async with server(http(b"here")) as (port, _):
        assert (await download(f"http://two.example:{port}/")).data == b"here"


@pytest.fixture
def public_host(names: Resolver, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let public.example have a public address whose connections end on loopback."""
    names({"public.example": ["93.184.216.34"], "127.0.0.1": ["127.0.0.1"]})
    connect = anyio.connect_tcp

    async def connect_tcp(remote_host: str, remote_port: int, local_host: None) -> Any:
        assert remote_host == "93.184.216.34"
        return await connect("127.0.0.1", remote_port)

    monkeypatch.setattr(anyio, "connect_tcp", connect_tcp)


@pytest.mark.usefixtures("public_host")
async def test_a_public_host_is_downloaded() -> None:
    async with server(http(b"here")) as (port, _):
        assert (await download(f"http://public.example:{port}/", PUBLIC_ONLY)).data == b"here"


@pytest.mark.usefixtures("public_host")
async def test_a_public_host_cannot_redirect_to_a_private_one() -> None:
    async with server(http(b"secret")) as (secret_port, secret_requests):
        moved = http(b"", f"Location: http://127.0.0.1:{secret_port}/", status="307 Temporary Redirect")
        async with server(moved) as (port, requests):
            with pytest.raises(InvalidInput, match="expected a public address"):
                await download(f"http://public.example:{port}/", PUBLIC_ONLY)
    assert (len(requests), secret_requests) == (1, [])


async def test_proxies_of_the_environment_are_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    async with server(http(b"here")) as (port, _):
        assert (await download(f"http://127.0.0.1:{port}/")).data == b"here"


# Certificates


def certified(authority: trustme.CA, name: str) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(name).configure_cert(context)
    return context


@pytest.fixture
def servers_tls(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[dict[str, ssl.SSLContext]]:
    """Give servers' certificates; the deployment trusts the first two's authority by SSL_CERT_FILE."""
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
    tls_context.cache_clear()
    yield {
        "good": certified(authority, "localhost"),
        "of another name": certified(authority, "other.example"),
        "of an unknown authority": certified(trustme.CA(), "localhost"),
    }
    tls_context.cache_clear()


async def test_the_certificate_is_checked_against_the_name_not_the_address(
    servers_tls: dict[str, ssl.SSLContext],
) -> None:
    async with server(http(b"here"), tls=servers_tls["good"]) as (port, _):
        assert (await download(f"https://localhost:{port}/")).data == b"here"


@pytest.mark.parametrize("certificate", ["of another name", "of an unknown authority"])
async def test_a_wrong_certificate_is_refused(certificate: str, servers_tls: dict[str, ssl.SSLContext]) -> None:
    async with server(http(b"here"), tls=servers_tls[certificate]) as (port, requests):
        with pytest.raises(InvalidInput, match="(?i)file: .*certificate"):
            await download(f"https://localhost:{port}/")
    assert requests == []


def test_the_limits_are_those_of_the_deployment() -> None:
    limits = MediaLimits.of(Settings(max_media_bytes=1, max_image_pixels=2, media_timeout_s=3, allow_private_urls=True))
    assert limits == MediaLimits(max_bytes=1, max_pixels=2, timeout_s=3, allow_private_urls=True)


def test_outside_of_a_job_the_limits_are_those_of_the_process() -> None:
    def limits_of_a_job() -> MediaLimits:
        limit_by(LIMITS)
        return limits_here()

    assert contextvars.copy_context().run(limits_of_a_job) == LIMITS
    assert limits_here() == MediaLimits.of(get_settings())


def test_base64_that_was_held_back_is_put_where_its_file_stood() -> None:
    """A union's serializer may try a file that is then not written."""
    held = HeldBack()
    first, _unused, last = (File(name, "text/plain").data_uri(held) for name in (b"1", b"2", b"3"))
    assert held.put_into(f"[{last}, {first}, {first}]".encode()) == (
        b"[data:text/plain;base64,Mw==, data:text/plain;base64,MQ==, data:text/plain;base64,MQ==]"
    )


# Files of the server's own


def urls(size: int, url: str | None) -> tuple[str, str]:
    """Return what stands for a file of `size` bytes where a store gives it `url`, and for one to be written inline."""
    file = File(bytes(size))

    def written() -> tuple[str, str]:
        publish_by(lambda file: url)
        with inline():
            preview = file.url()
        return file.url(), preview

    return contextvars.copy_context().run(written)


def test_files_over_a_mebibyte_are_published_unless_they_are_to_be_inline() -> None:
    published, preview = urls(2**20 + 1, "http://x.test/files/a")
    assert published == "http://x.test/files/a"
    assert preview.startswith("data:")


@pytest.mark.parametrize(("size", "url"), [(2**20, "http://x.test/files/a"), (2**20 + 1, None)], ids=["small", "full"])
def test_small_files_and_those_without_room_are_inline(size: int, url: str | None) -> None:
    assert urls(size, url)[0].startswith("data:")


def test_on_the_loop_files_over_a_mebibyte_are_refused() -> None:
    held = HeldBackOnLoop()
    assert File(bytes(2**20)).url(held).startswith("data:")
    with pytest.raises(ValueError, match="a file of 1048577 bytes takes too long"):
        File(bytes(2**20 + 1)).url(held)


async def test_a_url_of_the_servers_own_is_not_downloaded_and_read_up_to_the_limit(tmp_path: Path) -> None:
    own = tmp_path / "a"
    own.write_bytes(b"hi")
    limits = replace(PUBLIC_ONLY, stored=lambda url: SimpleNamespace(path=own, content_type="text/plain"))
    assert await download("http://127.0.0.1/files/a", limits) == File(b"hi", "text/plain")
    with pytest.raises(InvalidInput, match="must not exceed 1 bytes"):
        await download("http://127.0.0.1/files/a", replace(limits, max_bytes=1))
