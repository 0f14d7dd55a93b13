"""Own media: images, audio, videos and files as encoded bytes with a content type, on their way in and out.

`File`, `Image`, `Audio` and `Video` are values: a result becomes one by `encode_media`, and a field of an input is one
when the endpoint runs. Going in there are two stages. Pydantic checks the *form* (a data URI, an http(s) URL,
an upload) on the event loop and keeps a `MediaReference`; `fetch` then gets the *content* and verifies it, so that
`Image.to_pil` in the inference thread neither fails nor touches the network. Constructors raise `ValueError`.

Verified pixels are dropped and decoded again by `to_pil` (8 ms for a JPEG, 14 ms for a PNG of 1024x1024):
kept, a full queue of small files that decode to 64 megapixels each would hold gigabytes.
"""

import contextvars
import io
import json
import mimetypes
import re
import secrets
import sys
import urllib.parse
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol, Self, TypeGuard, TypeVar, runtime_checkable

import pybase64
from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler, SerializationInfo, TypeAdapter
from pydantic_core import CoreSchema, PydanticCustomError, SchemaSerializer, core_schema

from .later import module
from .text import whole

if TYPE_CHECKING:
    import PIL.ExifTags
    import PIL.Image
    import PIL.ImageOps
else:  # an app without images does without it; those of inputs are opened in threads
    PIL = module("PIL", submodules=("ExifTags", "Image", "ImageOps"))

ImageFormat = Literal["PNG", "JPEG", "WEBP"]
T = TypeVar("T")

_UNKNOWN = "application/octet-stream"
_SIGNATURES = {
    rb"\x89PNG\r\n\x1a\n": "image/png",
    rb"\xff\xd8\xff": "image/jpeg",
    rb"RIFF....WEBP": "image/webp",
    rb"GIF8[79]a": "image/gif",
    rb"RIFF....WAVE": "audio/wav",
    rb"RIFF....AVI ": "video/x-msvideo",
    rb"ID3|\xff[\xfa\xfb\xf2\xf3]": "audio/mpeg",
    rb"OggS": "audio/ogg",
    rb"fLaC": "audio/flac",
    # Of ISO's files the brand tells the kind: https://mp4ra.org/registered-types/brands
    rb"....ftypM4[AB]": "audio/mp4",
    rb"....ftypqt  |....moov": "video/quicktime",
    rb"....ftyp(avif|avis)": "image/avif",
    rb"....ftyp(hei|hev|mif1|msf1)": "image/heic",
    rb"....ftyp": "video/mp4",
    rb"\x1aE\xdf\xa3.{0,60}webm": "video/webm",
    rb"\x1aE\xdf\xa3": "video/x-matroska",
}
# The few formats that browsers send; each of Pillow's forty more would be attack surface.
_READABLE = ("PNG", "JPEG", "WEBP", "GIF")
_WRITABLE_MODES = {
    "PNG": {"1", "L", "LA", "I;16", "P", "RGB", "RGBA"},
    "JPEG": {"L", "RGB"},
    "WEBP": {"RGB", "RGBA"},
}
_CONTENT_TYPE = re.compile(r"[\w!#$&^.+-]+/[\w!#$&^.+-]+( *;[ -~]*)?", re.ASCII)
_DATA_URI = re.compile(r"data:([^,;]{0,100})([^,]{0,1000}),", re.IGNORECASE)
_URL_ALPHABET = bytes.maketrans(b"-_", b"+/")
_SPACE = b"\t\n\f\r "
_MAX_SPACE = 100  # before a URI: an input can be megabytes
_BASE64_CHUNK = 256 * 1024  # characters; decoding holds the GIL, 50 MiB in one call for 25 ms
#: what is larger is no part of JSON where nothing else is asked for, and takes long to make one of
INLINE_BYTES = 1024 * 1024
# Stands for base64 in JSON that is being written; no text of an app's own can hold it.
_MARK = secrets.token_hex(16)
_MARKED = re.compile(rb"%s-(\d+);" % _MARK.encode())


class HeldBack(list[bytes]):
    """Keep files' base64 out of JSON until it is written: pydantic would look at each of its characters.

    It is the `context` of `pydantic_core.to_json`, and completes what that returns.

    Args:
        publisher: the job's.
        is_inline: all files are written as data URIs: what is replaced a moment later is not worth keeping.
    Attributes:
        is_at_once: what takes long is refused.
    """

    is_at_once: ClassVar[bool] = False

    def __init__(self, publisher: "Publisher | None" = None, *, is_inline: bool = False) -> None:
        self.publisher = publisher
        self.is_inline = is_inline

    def hold(self, data: bytes) -> str:
        """Return what stands for the base64 of `data`."""
        self.append(pybase64.b64encode(data))
        return f"{_MARK}-{len(self) - 1};"

    def put_into(self, written: bytes) -> bytes:
        """Return the JSON with all base64 in its place."""
        pieces = _MARKED.split(written)
        pieces[1::2] = [self[int(index)] for index in pieces[1::2]]
        return b"".join(pieces)


class HeldBackAtOnce(HeldBack):
    """Do so where nothing may take long, as files do that are written to the disk, or are over 1 MiB in JSON."""

    is_at_once = True


def _dump(media: "File", info: SerializationInfo) -> dict[str, Any]:
    return media.as_json(info.context if isinstance(info.context, HeldBack) else None)


#: only JSON gets the object: `pipe(**input.model_dump())` still passes the value
AS_JSON = core_schema.plain_serializer_function_ser_schema(_dump, info_arg=True, when_used="json")


@dataclass(frozen=True, slots=True)
class File:
    """Hold a file's bytes; in an endpoint's input also the type of a field that takes one.

    Args:
        content_type: recognised from the first bytes where it is not given.
    """

    data: bytes = field(repr=False)
    content_type: str = ""
    file_name: str | None = None

    kind: ClassVar[str] = "file"  # fal's `ui.field`
    _sizes: ClassVar[tuple[str, ...]] = ("file_size",)
    # `pydantic_core.to_json` would otherwise write a dataclass field by field.
    __pydantic_serializer__: ClassVar = SchemaSerializer(core_schema.any_schema(serialization=AS_JSON))

    def __post_init__(self) -> None:
        if self.content_type in ("", _UNKNOWN):
            object.__setattr__(self, "content_type", sniff(self.data) or _UNKNOWN)
        elif not _CONTENT_TYPE.fullmatch(self.content_type):  # it becomes a response header
            raise ValueError(f"expected a content type such as image/png; got {shown(self.content_type)}")

    @classmethod
    def from_path(cls, path: str | Path) -> Self:
        """Read a file; its type is guessed from its name, then from its first bytes. Blocks."""
        path = Path(path)
        return cls(path.read_bytes(), mimetypes.guess_type(path.name)[0] or "", path.name)

    @classmethod
    def from_data_uri(cls, uri: str, file_name: str | None = None) -> Self:
        """Decode a data URI, base64 or percent-encoded, as tools write it and browsers read it: base64 may be wrapped,
        without padding, or have escapes in it; spaces count no more than a fragment does.

        Source: https://fetch.spec.whatwg.org/#data-urls, https://infra.spec.whatwg.org/#forgiving-base64-decode
        """
        uri = uri.strip()
        header = _DATA_URI.match(uri)
        if header is None:
            raise ValueError(f"expected data:<content type>;base64,<data>; got {shown(uri)}")
        is_base64 = "".join(header[2].split()).lower().endswith(";base64")
        decode = _decode_base64 if is_base64 else _decode_percent
        return cls(decode(uri, header.end()), header[1].strip(), file_name)

    def data_uri(self, held: HeldBack | None = None) -> str:
        """Return the bytes as a base64 data URI.

        Args:
            held: keeps the base64.
        """
        encode = pybase64.b64encode_as_string if held is None else held.hold
        return f"data:{self.content_type};base64,{encode(self.data)}"

    def url(self, held: HeldBack | None = None) -> str:
        """Return what stands for the file in JSON: a data URI, or a URL where the job wants one and a store has room.

        Outside of what is written for a job's readers, files up to 1 MiB are data URIs: they may be for a preview.
        """
        publisher = publisher_for(len(self.data), held)
        if held is not None and held.is_at_once and (publisher is not None or len(self.data) > INLINE_BYTES):
            raise ValueError(f"a file of {len(self.data)} bytes takes too long to be encoded at once")
        url = None if publisher is None else publisher.publish(self)
        return url or self.data_uri(held)

    def save(self, path: str | Path) -> None:
        """Write the bytes to a file, as they are. Blocks."""
        Path(path).write_bytes(self.data)

    def as_json(self, held: HeldBack | None = None) -> dict[str, Any]:
        """Return fal's shape of a file: `url`, `content_type`, `file_name` if any, `file_size`."""
        name = {} if self.file_name is None else {"file_name": whole(self.file_name)}
        return {"url": self.url(held), "content_type": self.content_type, **name, "file_size": len(self.data)}

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_plain_validator_function(cls._accept, serialization=AS_JSON)

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        uri = {"type": "string", "format": "uri"}
        names = {"content_type": {"type": "string"}, "file_name": {"type": "string"}}
        sizes = {name: {"type": "integer"} for name in cls._sizes}
        described = {"type": "object", "properties": {"url": uri, **names, **sizes}, "required": ["url"]}
        forms = {"anyOf": [uri, described]} if handler.mode == "validation" else described
        return {"title": cls.__name__, **forms, "ui": {"field": cls.kind}}

    @classmethod
    def _accept(cls, value: Any) -> "File | MediaReference":
        if isinstance(value, cls):
            return value
        fields = {key: item for key, item in value.items() if isinstance(item, str)} if isinstance(value, dict) else {}
        source = fields.get("url", value)
        if isinstance(source, bytes) or (isinstance(source, str) and _is_uri(source)):
            return MediaReference(cls, source, fields.get("content_type", ""), fields.get("file_name"))
        if isinstance(source, Upload):
            return MediaReference(cls, source, source.content_type or "", source.filename)
        expected = "expected {kind} data as a data URI, an http(s) URL or an upload; got {got}"
        raise PydanticCustomError("media_form", expected, {"kind": cls.kind, "got": shown(source)})


@dataclass(frozen=True, slots=True)
class Image(File):
    """Hold a PNG, JPEG, WebP or GIF image; of an animation, the first frame counts.

    Args:
        content_type: overruled by what the bytes are.
        width: in pixels and upright (after EXIF orientation), like height; read from the header where it is 0.
    """

    width: int = 0
    height: int = 0

    kind: ClassVar[str] = "image"
    _sizes: ClassVar[tuple[str, ...]] = ("file_size", "width", "height")

    def __post_init__(self) -> None:
        if self.width == 0:
            with _pillow_reads(self):
                width, height = _upright_size(_open(self.data))
            object.__setattr__(self, "width", width)
            object.__setattr__(self, "height", height)
        object.__setattr__(self, "content_type", sniff(self.data))

    @classmethod
    def from_pil(cls, pil: "PIL.Image.Image", format: ImageFormat = "PNG", *, quality: int = 95) -> Self:
        """Encode an image. PNG is compressed at level 1, where size and time are balanced.

        A mode that the format cannot hold is converted: for JPEG transparency is flattened on white, integers
        and floats are clipped to 0..255, 16 bits become 8 (PNG keeps them), CMYK, HSV and the like become RGB.

        Args:
            quality: of JPEG and WebP, 1 to 100.
        """
        buffer = io.BytesIO()
        writable(pil, format).save(buffer, format, compress_level=1, quality=quality)
        return cls(buffer.getvalue(), width=pil.width, height=pil.height)

    def to_pil(self, mode: str | None = "RGB") -> "PIL.Image.Image":
        """Decode to a new image of its own, upright: the camera's EXIF orientation is applied.

        Args:
            mode: what to convert to; without alpha, transparency is flattened on white. None keeps the file's own.
        """
        with _pillow_reads(self):
            pil = PIL.ImageOps.exif_transpose(_open(self.data))
            if mode is not None and not mode.endswith("A"):
                pil = _opaque(pil)
            # To convert it to its own mode would copy it.
            return pil if mode in (None, pil.mode) else pil.convert(mode)

    def as_json(self, held: HeldBack | None = None) -> dict[str, Any]:
        """Return fal's shape of an image: a file's, with `width` and `height`."""
        return {**File.as_json(self, held), "width": self.width, "height": self.height}


@dataclass(frozen=True, slots=True)
class Audio(File):
    """Hold audio: WAV, MP3, Ogg and FLAC are recognised, others need a content type that begins with audio/."""

    kind: ClassVar[str] = "audio"

    def __post_init__(self) -> None:
        _settle_type(self, "WAV, MP3, Ogg, FLAC or M4A")


@dataclass(frozen=True, slots=True)
class Video(File):
    """Hold a video: MP4, WebM, MOV, MKV and AVI are recognised, others need a content type that begins with video/."""

    kind: ClassVar[str] = "video"

    def __post_init__(self) -> None:
        _settle_type(self, "MP4, WebM, MOV, MKV or AVI")


def _settle_type(file: File, recognised: str) -> None:
    """Have a file's content type be of its kind: the one that is given, else the one that its bytes tell."""
    File.__post_init__(file)
    if file.content_type.startswith(f"{file.kind}/"):
        return
    told = sniff(file.data)
    if not told.startswith(f"{file.kind}/"):
        raise ValueError(f"expected {recognised}, or a content type {file.kind}/...; got {file.content_type}")
    object.__setattr__(file, "content_type", told)


@runtime_checkable
class Upload(Protocol):
    """Describe an uploaded file as far as it is read here; Starlette's `UploadFile` is one."""

    filename: str | None
    content_type: str | None

    async def read(self, size: int = -1) -> bytes:
        """Read up to `size` bytes."""
        ...


@dataclass(frozen=True, slots=True)
class MediaReference:
    """Stand in a validated input for media that `fetch` has not got yet; model validators see it."""

    kind: type[File]
    source: str | bytes | Upload = field(repr=False)
    content_type: str = ""
    file_name: str | None = None


class Publisher(Protocol):
    """Keep the files of a job where its readers get them. Any thread may call, and each call may block.

    Attributes:
        inline_bytes: up to so many a file is written as a data URI, in JSON.
        folder: the app's own, out of which it may answer with files; None where it has none.
    """

    @property
    def inline_bytes(self) -> float:
        """Return the bytes."""
        ...

    @property
    def folder(self) -> Path | None:
        """Return the folder."""
        ...

    def publish(self, file: File) -> str | None:
        """Keep a file; return its URL, or None where there is no room, to have it inline."""
        ...

    def publish_path(self, path: Path, content_type: str) -> str | None:
        """Do so with what is on the disk, which need not fit into memory."""
        ...


_publisher: contextvars.ContextVar[Publisher | None] = contextvars.ContextVar("streamapp_publisher", default=None)


def publish_by(publisher: Publisher) -> None:
    """In this context, let files over 1 MiB be kept by `publisher` as soon as somebody asks for their `url`."""
    _publisher.set(publisher)


def publisher_here() -> Publisher | None:
    """Return what keeps the files of the job that this code runs in; None outside of one."""
    return _publisher.get()


def publisher_for(size: int, held: HeldBack | None) -> Publisher | None:
    """Return what keeps a file of so many bytes; None where it is written inline."""
    if held is None:
        publisher = _publisher.get()
        most = INLINE_BYTES
    else:
        publisher = None if held.is_inline else held.publisher
        most = -1
    return publisher if publisher is not None and size > max(publisher.inline_bytes, most) else None


def media_of(data: bytes, content_type: str = "", file_name: str | None = None) -> File:
    """Return bytes as what they are: an image where they are one that can be read, else a file."""
    if sniff(data).startswith("image/"):
        with suppress(ValueError):
            return Image(data, file_name=file_name)
    return File(data, content_type, file_name)


def encode_media(value: Any, *, image_format: ImageFormat = "PNG", quality: int = 95) -> File | None:
    """Return `value` as media when it is some: a `File` as it is, a PIL image encoded; None otherwise. Blocks."""
    if is_pil(value):
        return Image.from_pil(value, image_format, quality=quality)
    return value if isinstance(value, File) else None


def is_pil(value: Any) -> "TypeGuard[PIL.Image.Image]":
    """Tell whether `value` is an image of Pillow's; where that has not been imported, nobody has made one."""
    made = getattr(sys.modules.get("PIL.Image"), "Image", None)
    return made is not None and isinstance(value, made)


def has_media_fields(adapter: TypeAdapter[Any]) -> bool:
    """Tell at compile whether an input can hold media, so that others skip `resolve_media`.

    Asks pydantic's schema, which has already followed nested models, unions and aliases.
    """
    return _mentions_media(adapter.core_schema)


def _mentions_media(schema: Any) -> bool:
    match schema:
        case {"function": function} if function is _dump:
            return True
        case dict():
            return any(map(_mentions_media, schema.values()))
        case list() | tuple():
            return any(map(_mentions_media, schema))
    return False


@contextmanager
def _pillow_reads(image: Image) -> Iterator[None]:
    """Turn into `ValueError` what Pillow raises: OSError, SyntaxError, struct.error, whatever a decoder met."""
    kind = sniff(image.data) or image.content_type or "unknown type"
    try:
        yield
    except PIL.UnidentifiedImageError:
        came = f"{len(image.data)} bytes of {kind}"
        raise ValueError(f"expected a PNG, JPEG, WebP or GIF image, got {came}") from None
    except Exception as error:
        raise ValueError(f"expected a whole image, cannot decode this {kind}: {error}") from error


def _open(data: bytes) -> "PIL.Image.Image":
    return PIL.Image.open(io.BytesIO(data), formats=_READABLE)


def _upright_size(pil: "PIL.Image.Image") -> tuple[int, int]:
    # Asked without "exif" in info, a PNG would decode itself to look for it behind the pixels.
    turned = "exif" in pil.info and pil.getexif().get(PIL.ExifTags.Base.Orientation) in {5, 6, 7, 8}
    return (pil.height, pil.width) if turned else pil.size


def writable(pil: "PIL.Image.Image", format: ImageFormat) -> "PIL.Image.Image":
    if pil.mode in _WRITABLE_MODES[format]:
        return pil
    if pil.has_transparency_data and format != "JPEG":
        return pil.convert("RGBA")
    opaque = _opaque(pil)
    return opaque.convert("L" if opaque.mode in {"1", "F", "I"} else "RGB")


def _opaque(pil: "PIL.Image.Image") -> "PIL.Image.Image":
    if pil.mode == "I;16":  # Pillow's own conversion clips at 255: a 16-bit depth map would be white
        return pil.point(lambda value: value / 256).convert("L")
    if not pil.has_transparency_data:
        return pil
    shown = pil if pil.mode == "RGBA" else pil.convert("RGBA")
    white = PIL.Image.new("RGB", pil.size, "white")
    white.paste(shown, mask=shown)  # as `alpha_composite`, to the bit, with half the copies
    return white


def sniff(data: bytes) -> str:
    """Return the content type that the first bytes tell, or ""."""
    return next((kind for start, kind in _SIGNATURES.items() if re.match(start, data, re.DOTALL)), "")


def _decode_percent(text: str, start: int) -> bytes:
    """Decode as the parser of URLs does: it knows no line ends and tabs."""
    data = text[start:].partition("#")[0].encode().translate(None, b"\t\n\r")
    return urllib.parse.unquote_to_bytes(data)


def _decode_base64(text: str | bytes, start: int) -> bytes:
    starts = range(start, len(text), _BASE64_CHUNK)
    try:
        return b"".join(pybase64.b64decode(text[n : n + _BASE64_CHUNK], validate=True) for n in starts)
    except ValueError as error:
        if isinstance(text, bytes):
            raise ValueError("expected base64 in the data URI: letters, digits, + and /, padded or not") from error
    return _decode_base64(_strict_base64(text[start:]), 0)


def _strict_base64(text: str) -> bytes:
    """Return base64 as decoders want it.

    Divergence: the alphabet of URLs, with - and _, is taken, too: browsers refuse it, Python and JavaScript write it.
    """
    data = urllib.parse.unquote_to_bytes(text.partition("#")[0])
    starts = range(0, len(data), _BASE64_CHUNK)  # in one call it would hold the GIL for 70 ms
    data = b"".join(data[n : n + _BASE64_CHUNK].translate(_URL_ALPHABET, _SPACE) for n in starts)
    is_padded = len(data) % 4 == 0
    return data if is_padded or b"=" in data else data + b"=" * (-len(data) % 4)


def is_data_uri(text: str) -> bool:
    """Say whether a text is a data URI, rather than another one."""
    return text[:_MAX_SPACE].lstrip()[:5].lower() == "data:"


def _is_uri(text: str) -> bool:
    return text[:_MAX_SPACE].lstrip()[:8].lower().startswith(("data:", "http://", "https://"))


def shown(value: object) -> str:
    """Name what came, never at length: an input can be megabytes."""
    match value:
        case str():
            return json.dumps(value if len(value) <= 60 else value[:60] + "...")
        case bytes():
            return f"{len(value)} bytes"
        case Upload():
            return f"upload {shown(value.filename)}"
    return type(value).__name__
