"""The same as `app.py` for Runpod: a handler that takes base64 and yields base64, and needs no streamapp.

    python -u handler.py               a worker; without Runpod's environment it runs `test_input.json` once
    streamapp serve handler.py         serves it here, for Runpod's clients

What is wrong with an input ends the job as FAILED, with words for its caller.
"""

import base64
import binascii
import io
import time
from collections.abc import Iterator
from typing import Any

import PIL.Image
import runpod
from runpod.serverless.utils.rp_validator import validate
from tiles import boxes, enhance, prepare

MAX_BASE64 = 10 * 1024 * 1024  # what Runpod takes as the body of /run
MAX_PIXELS = 2048 * 2048  # the tiles and the whole image, uncompressed in base64, are 32 MiB
FORMATS = ("PNG", "JPEG", "WEBP", "GIF")  # of forty: each is code that reads what strangers send

SCHEMA = {
    "base64_image": {"type": str, "required": True},
    "strength": {"type": float, "required": False, "default": 2.0},
    "radius": {"type": int, "required": False, "default": 16},
    "tile_size": {"type": int, "required": False, "default": 256},
}
# Not as "constraints" of the schema: the validator of runpod 1.12 leaves them out where there is a default.
BOUNDS = {"strength": (0, 5), "radius": (1, 32), "tile_size": (64, 1024)}


def handler(job: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Enhance an image; yields what it is, each tile as soon as it is done, and the whole."""
    try:
        asked = checked(job["input"])
        image_format, image = open_image(asked["base64_image"])
    except ValueError as error:
        yield {"error": str(error)}
        return
    total = len(boxes(image.size, asked["tile_size"]))
    yield {
        "status": "started",
        "image_info": {"format": image_format, "size": image.size, "mode": image.mode},
        "total_chunks": total,
    }
    whole = image.copy()
    tiles = enhance(image, strength=asked["strength"], radius=asked["radius"], side=asked["tile_size"])
    for number, (box, tile) in enumerate(tiles, 1):
        whole.paste(tile, box)
        processed = png(tile)
        yield {
            "chunk_number": number,
            "chunk_size": len(processed),
            "processed_at": time.strftime("%H:%M:%S"),
            "box": box,
            "progress": f"{number}/{total}",
            "percent_complete": round(100 * number / total, 1),
            "processed_image": processed,
        }
    yield {
        "status": "completed",
        "total_chunks_processed": total,
        "final_timestamp": time.strftime("%H:%M:%S"),
        "processed_image": png(whole),
    }


def checked(raw: Any) -> dict[str, Any]:
    """Return an input with its defaults.

    Raises:
        ValueError: something is missing, unknown or out of bounds.
    """
    if not isinstance(raw, dict):
        raise ValueError(f"expected the input as an object with base64_image, got {type(raw).__name__}")
    result = validate(raw, SCHEMA)
    if "errors" in result:
        raise ValueError(" ".join(result["errors"]))
    asked: dict[str, Any] = result["validated_input"]
    for name, (low, high) in BOUNDS.items():
        if not low <= asked[name] <= high:
            raise ValueError(f"expected {name} from {low} to {high}, got {asked[name]}")
    return asked


def open_image(text: str) -> tuple[str | None, PIL.Image.Image]:
    """Decode an image from base64, or from a data URI of it; its size is looked at before its pixels are.

    Returns:
        its format, and the image as `prepare` makes it.

    Raises:
        ValueError: it is none, or too large.
    """
    if len(text) > MAX_BASE64:
        raise ValueError(f"base64_image has {len(text)} characters; at most {MAX_BASE64} are taken")
    try:
        data = base64.b64decode("".join(text.rpartition(",")[2].split()), validate=True)
    except binascii.Error as error:
        raise ValueError(f"base64_image is no base64: {error}") from error
    try:
        image = PIL.Image.open(io.BytesIO(data), formats=FORMATS)
        if image.width * image.height <= MAX_PIXELS:
            return image.format, prepare(image)
    except Exception as error:  # whatever the decoder met
        raise ValueError(f"base64_image is no whole PNG, JPEG, WebP or GIF image: {error}") from error
    raise ValueError(f"base64_image has {image.width}x{image.height} pixels; at most {MAX_PIXELS} are taken")


def png(image: PIL.Image.Image) -> str:
    """Return an image as base64 of a PNG."""
    buffer = io.BytesIO()
    image.save(buffer, "PNG", compress_level=1)
    return base64.b64encode(buffer.getvalue()).decode()


runpod.serverless.start({"handler": handler, "return_aggregate_stream": True})
