"""Pictures and inputs that the tests of media share."""

import base64
import io
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import PIL.Image
from pydantic import BaseModel
from starlette.datastructures import Headers, UploadFile

from streamapp.media import INLINE_BYTES, Audio, File, Image


class In(BaseModel):
    photo: Image
    clip: Audio | None = None
    many: list[Image] = []


class Part(NamedTuple):
    file: File
    number: int


class Attachment(BaseModel):
    file: File


@dataclass
class Keeping:
    """A `Publisher` that notes what it keeps, and whose URL it gives, None where there is no room."""

    url: str | None = "http://x.test/files/a"
    inline_bytes: float = INLINE_BYTES
    folder: Path | None = None
    kept: list[File | Path] = field(default_factory=list)
    begins: Callable[[], object] = int

    def publish(self, file: File) -> str | None:
        self.begins()
        self.kept.append(file)
        return self.url

    def publish_path(self, path: Path, content_type: str) -> str | None:
        self.kept.append(path)
        return self.url


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


def upload(data: bytes, content_type: str = "image/png", name: str = "a.png") -> UploadFile:
    return UploadFile(io.BytesIO(data), filename=name, headers=Headers({"content-type": content_type}))
