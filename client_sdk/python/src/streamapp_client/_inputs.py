"""Turn an endpoint's input into JSON: images and files anywhere in it become data URIs."""

import base64
import io
import json
import mimetypes
from collections.abc import Mapping
from pathlib import Path
from typing import Any

try:
    from PIL import Image
except ImportError:  # the extra `images` is not installed
    Image = None  # type: ignore[assignment]

_ANY_TYPE = "application/octet-stream"


def encode_input(input: Any) -> bytes:
    """Return the JSON of an input: dicts, lists, pydantic models, PIL images (as PNG), paths, bytes, open files.

    Raises:
        TypeError: a value has no JSON form.
    """
    return encode_value({} if input is None else input)


def encode_value(value: Any) -> bytes:
    """Return the JSON of one input of a session, of which None is one; as `encode_input`."""
    return json.dumps(value, default=_encode, separators=(",", ":")).encode()


def _encode(value: Any) -> Any:
    if isinstance(value, bytes | bytearray):
        return _data_uri(bytes(value), _ANY_TYPE)
    if isinstance(value, Path):
        return _data_uri(value.read_bytes(), _type_of(value.name))
    if Image is not None and isinstance(value, Image.Image):
        buffer = io.BytesIO()
        value.save(buffer, "PNG")
        return _data_uri(buffer.getvalue(), "image/png")
    if hasattr(value, "model_dump"):
        return value.model_dump(mode="json", exclude_unset=True)
    if hasattr(value, "read"):
        return _data_uri(value.read(), _type_of(str(getattr(value, "name", ""))))
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, tuple | set | frozenset):
        return list(value)
    raise TypeError(f"Expected JSON, a PIL image, a Path, bytes or an open binary file, got {type(value).__name__}")


def _type_of(name: str) -> str:
    return mimetypes.guess_type(name)[0] or _ANY_TYPE


def _data_uri(content: bytes, media_type: str) -> str:
    return f"data:{media_type};base64,{base64.b64encode(content).decode()}"
