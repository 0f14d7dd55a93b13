"""Find the images in an event's data and open them; the one module that needs pillow."""

import base64
import io
from collections.abc import Callable, Iterator, Mapping
from typing import Any
from urllib.parse import unquote_to_bytes

from ._errors import NoImage

try:
    from PIL import Image, UnidentifiedImageError
except ImportError:  # the extra `images` is not installed; all the rest works without it
    Image = None  # type: ignore[assignment]


# Each of Pillow's forty more would be attack surface: its EPS calls ghostscript.
_FORMATS = ("PNG", "JPEG", "WEBP", "GIF")


def image_urls(data: Any) -> list[str]:
    """List the URLs of the images: `data["image"]`, then each of `data["images"]`; or `data` itself."""
    urls = [item.get("url") if isinstance(item, Mapping) else item for item in _image_values(data)]
    return [url for url in urls if isinstance(url, str)]


def _image_values(data: Any) -> Iterator[Any]:
    if isinstance(data, Mapping) and ("image" in data or "images" in data):
        yield data.get("image")
        images = data.get("images")
        yield from images if isinstance(images, list) else ()
    elif isinstance(data, Mapping) or (isinstance(data, str) and data.startswith("data:")):
        yield data


def open_image(url: str, download: Callable[[str], bytes]) -> "Image.Image":
    """Open the image at a data URI, or at a URL whose bytes `download` gets."""
    if Image is None:
        raise NoImage('pillow is not installed; write: pip install "streamapp-client[images]"')
    content = decode_data_uri(url) if url.startswith("data:") else download(url)
    try:
        return _open(content)
    except Exception as error:  # Pillow's: OSError, SyntaxError, struct.error, whatever a decoder met
        why = "" if isinstance(error, UnidentifiedImageError) else f": {error}"
        expected = f"Expected a PNG, JPEG, WebP or GIF image at {url[:80]!r}"
        raise NoImage(f"{expected}, got {len(content)} bytes{why}") from error


def _open(content: bytes) -> "Image.Image":
    image = Image.open(io.BytesIO(content), formats=_FORMATS)
    pixels = image.width * image.height
    if Image.MAX_IMAGE_PIXELS is not None and pixels > Image.MAX_IMAGE_PIXELS:  # of which Pillow only warns
        raise ValueError(f"{pixels} pixels are more than PIL.Image.MAX_IMAGE_PIXELS")
    image.load()
    return image


def decode_data_uri(url: str) -> bytes:
    """Decode a data URI, also one that an app has written itself: https://fetch.spec.whatwg.org/#data-urls"""
    head, _, payload = url.encode("utf-8", "replace").decode().partition(",")
    data = unquote_to_bytes(payload.partition("#")[0])
    if not head.lower().replace(" ", "").endswith(";base64"):
        return data
    data = b"".join(data.split())
    try:
        return base64.b64decode(data + b"=" * (-len(data) % 4), b"-_" if b"-" in data or b"_" in data else None)
    except ValueError as error:
        raise NoImage(f"Expected base64 in the data URI {url[:80]!r}: {error}") from error
