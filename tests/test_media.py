"""Media: values in and out, and what inputs accept."""

import base64
import contextvars
import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Literal

import PIL.Image
import pydantic_core
import pytest
from pydantic import BaseModel, Field, RootModel, TypeAdapter, ValidationError
from tests.pictures import NOISE, PNG, PNG_URI, Attachment, In, Keeping, Part, encoded, picture, upload
from typing_extensions import TypeAliasType

from streamapp.fetch import MediaLimits, resolve_media
from streamapp.media import (
    INLINE_BYTES,
    Audio,
    File,
    HeldBack,
    HeldBackAtOnce,
    Image,
    Video,
    encode_media,
    has_media_fields,
    media_of,
    publish_by,
    publisher_here,
    shown,
)

LIMITS = MediaLimits(max_bytes=1_000_000, max_pixels=1_000_000, timeout_s=10, allow_private_urls=True)
PUBLIC_ONLY = replace(LIMITS, allow_private_urls=False)
WAV = b"RIFF\x24\0\0\0WAVEfmt "
MP4 = b"\0\0\0\x20ftypisom\0\0\x02\0"
WEBM = b"\x1aE\xdf\xa3\x9fB\x86\x81\x01B\x82\x84webm"


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
        (b"\0\0\0\x20ftypM4A \0", "audio/mp4"),
        (MP4, "video/mp4"),
        (b"\0\0\0\x14ftypqt  \0", "video/quicktime"),
        (b"\0\0\0\x14moov\0", "video/quicktime"),
        (WEBM, "video/webm"),
        (b"\x1aE\xdf\xa3\x93B\x82\x88matroska", "video/x-matroska"),
        (b"RIFF\x24\0\0\0AVI LIST", "video/x-msvideo"),
        (b"\0\0\0\x1cftypavif\0", "image/avif"),
        (b"\0\0\0\x1cftypheic\0", "image/heic"),
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
    with pytest.raises(ValueError, match=r"expected WAV, MP3, Ogg, FLAC or M4A, .*; got application/octet-stream"):
        Audio(b"hello")


@pytest.mark.parametrize(
    ("data", "content_type", "told"),
    [(MP4, "", "video/mp4"), (WEBM, "audio/webm", "video/webm"), (b"mpeg", "video/mpeg", "video/mpeg")],
)
def test_a_video_takes_what_it_recognises_or_what_is_declared(data: bytes, content_type: str, told: str) -> None:
    assert Video(data, content_type).content_type == told


@pytest.mark.parametrize("data", [b"hello", WAV, PNG])
def test_bytes_that_are_no_video_are_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match=r"expected MP4, WebM, MOV, MKV or AVI, or a content type video/...; got"):
        Video(data)


@pytest.mark.parametrize(
    ("data", "kind", "content_type"),
    [
        (PNG, Image, "image/png"),
        (PNG[:20], File, "image/png"),
        (b"\0\0\0\x1cftypavif\0", File, "image/avif"),
        (MP4, File, "video/mp4"),
        (b"x", File, "application/octet-stream"),
    ],
)
def test_bytes_are_an_image_where_they_can_be_read_as_one(data: bytes, kind: type[File], content_type: str) -> None:
    media = media_of(data, file_name="a")
    assert (type(media), media.content_type, media.file_name) == (kind, content_type, "a")


def test_a_file_survives_the_way_through_a_data_uri() -> None:
    file = File(bytes(range(256)) * 3000, "model/gltf-binary")
    assert File.from_data_uri(file.data_uri()) == file


def test_a_data_uri_may_be_percent_encoded() -> None:
    assert File.from_data_uri("data:text/plain;charset=utf-8,a%20b") == File(b"a b", "text/plain")


@pytest.mark.parametrize(
    "uri",
    [
        "data:text/plain;base64,aGVsbG8gd29ybGQ/Pg==",
        "data:text/plain;base64,aGVsbG8gd29ybGQ/Pg",
        "data:text/plain;base64,aGVsbG8\r\ngd29y\n bGQ/\tPg==\n",
        "data:text/plain;base64,\naGVsbG8gd29ybGQ/Pg==",
        "data:text/plain;base64,aGVsbG8gd29ybGQ%2FPg%3D%3D",
        "data:text/plain;base64,aGVsbG8%0D%0Agd29ybGQ%2fPg%3d=",
        "data:text/plain;base64,aGVsbG8gd29ybGQ_Pg",
        "data:text/plain;base64,aGVsbG8gd29ybGQ/Pg==#page=1",
        "data:text/plain;charset=utf-8;name=a.png;base64,aGVsbG8gd29ybGQ/Pg==",
        "data:text/plain; charset=utf-8; base64,aGVsbG8gd29ybGQ/Pg==",
        "data:text/plain;name=" + "x" * 255 + ";base64,aGVsbG8gd29ybGQ/Pg==",
        " DATA:text/plain ;BASE64 , aGVsbG8gd29ybGQ/Pg==\n",
        "data:text/plain,hello world?%3E",
        "data:text/plain,hello\n world?%3e\r\n#page=1",
    ],
)
def test_a_data_uri_is_read_as_tools_write_it(uri: str) -> None:
    assert File.from_data_uri(uri) == File(b"hello world?>", "text/plain")


def test_a_large_one_may_be_wrapped_too() -> None:
    data = bytes(range(256)) * 3000
    wrapped = base64.encodebytes(data).decode()
    for lines in (wrapped, wrapped.replace("\n", "\r\n"), wrapped.replace("\n", "%0A")):
        assert File.from_data_uri(f"data:a/b;base64,{lines}").data == data


@pytest.mark.parametrize("rest", ["YQ=", "YQ===", "Y", "Y Q=", "=", "YQ==YQ==", "YWJj=", "Y*JjZA", "Yé==", "Y\x00=="])
def test_what_is_no_base64_is_refused(rest: str) -> None:
    with pytest.raises(ValueError, match="expected base64 in the data URI"):
        File.from_data_uri(f"data:a/b;base64,{rest}")


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
    assert has_media_fields(TypeAdapter(input_type)) is has_media


def test_base64_that_was_held_back_is_put_where_its_file_stood() -> None:
    """A union's serializer may try a file that is then not written."""
    held = HeldBack()
    first, _unused, last = (File(name, "text/plain").data_uri(held) for name in (b"1", b"2", b"3"))
    assert held.put_into(f"[{last}, {first}, {first}]".encode()) == (
        b"[data:text/plain;base64,Mw==, data:text/plain;base64,MQ==, data:text/plain;base64,MQ==]"
    )


# Files of the server's own


SMALL, LARGE = File(bytes(2**20)), File(bytes(2**20 + 1))


@pytest.mark.parametrize(
    ("inline_bytes", "kept"),
    [(-1, [File(b""), SMALL, LARGE]), (INLINE_BYTES, [LARGE]), (math.inf, [])],
    ids=["url", "usual", "inline"],
)
def test_files_are_kept_or_inline_as_the_job_wants_them(inline_bytes: float, kept: list[File]) -> None:
    publisher = Keeping(inline_bytes=inline_bytes)
    for file in (File(b""), SMALL, LARGE):
        assert file.url(HeldBack(publisher)).startswith("http:" if file in kept else "data:")
    assert publisher.kept == kept


@pytest.mark.parametrize("held", [HeldBack(), HeldBack(Keeping(url=None)), HeldBack(Keeping(), is_inline=True)])
def test_files_that_nobody_keeps_are_inline(held: HeldBack) -> None:
    assert LARGE.url(held).startswith("data:")


@pytest.mark.parametrize("inline_bytes", [-1, INLINE_BYTES])
def test_whoever_asks_for_a_url_within_a_job_gets_one_of_a_file_over_a_mebibyte(inline_bytes: float) -> None:
    """Whether it will be in a preview, which is to hold all, is not known yet."""

    def asked() -> list[str]:
        publish_by(Keeping(inline_bytes=inline_bytes))
        return [SMALL.url()[:5], LARGE.url()[:5]]

    assert contextvars.copy_context().run(asked) == ["data:", "http:"]


def test_on_the_loop_files_over_a_mebibyte_and_those_to_be_kept_are_refused() -> None:
    held = HeldBackAtOnce()
    assert SMALL.url(held).startswith("data:")
    with pytest.raises(ValueError, match="a file of 1048577 bytes takes too long"):
        LARGE.url(held)
    with pytest.raises(ValueError, match="a file of 0 bytes takes too long"):
        File(b"").url(HeldBackAtOnce(Keeping(inline_bytes=-1)))


@pytest.mark.parametrize(
    ("value", "named"),
    [
        ("a" * 61, '"' + "a" * 60 + '..."'),
        (b"ab", "2 bytes"),
        (upload(b"", name="a.png"), 'upload "a.png"'),
        (1, "int"),
    ],
)
def test_what_came_is_named_in_short(value: Any, named: str) -> None:
    assert shown(value) == named


def test_code_of_a_job_finds_what_keeps_its_files() -> None:
    def in_job() -> bool:
        publish_by(keeping := Keeping())
        return publisher_here() is keeping

    assert contextvars.copy_context().run(in_job)
    assert publisher_here() is None
