"""An image enhanced tile by tile, each shown as soon as it is done.

    streamapp serve apps/image_chunks/app.py

`handler.py` beside it does the same for Runpod's workers and clients.
"""

from collections.abc import Iterator
from typing import Any

import PIL.Image
from pydantic import BaseModel, ConfigDict, Field

import streamapp
from streamapp.errors import InvalidInput

from .pictures import DAWN, NIGHT, dunes
from .tiles import boxes, enhance, prepare

MAX_PIXELS = 4096 * 4096  # takes 0.2 GB
PREVIEW_SIDE = 512


class EnhanceInput(BaseModel):
    """Say what to enhance, and how."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {"image": dunes(*DAWN), "strength": 3, "tile_size": 64},
                {"image": dunes(*NIGHT), "strength": 5, "radius": 32, "tile_size": 96},
            ]
        }
    )
    image: streamapp.Image = Field(description="PNG, JPEG, WebP or GIF, of which the first frame counts.")
    strength: float = Field(
        default=2, ge=0, le=5, description="How much fine detail is added; 0 leaves the image as it is."
    )
    radius: int = Field(default=16, ge=1, le=32, description="Up to how many pixels wide detail is.")
    tile_size: int = Field(default=256, ge=64, le=1024, description="The side of a tile, in pixels.")


class ImageChunks(streamapp.App):
    """Bring out the fine detail of images, and watch them change tile by tile."""

    title = "Image detail"
    requirements = ["numpy"]

    @streamapp.endpoint("/stream")
    def stream(self, input: EnhanceInput, stream: streamapp.Stream) -> Iterator[dict[str, Any]]:
        """Enhance an image and show each tile as soon as it is done; the last output has the whole image."""
        whole = open_image(input.image)
        total = len(boxes(whole.size, input.tile_size))
        yield {
            "status": "started",
            "image_info": {
                "format": input.image.content_type.removeprefix("image/").upper(),
                "size": whole.size,
                "mode": whole.mode,
            },
            "total_chunks": total,
        }
        tiles = enhance(whole.copy(), strength=input.strength, radius=input.radius, side=input.tile_size)
        for number, (box, tile) in enumerate(tiles, 1):
            whole.paste(tile, box)
            stream.progress(number, total)
            yield {
                "chunk_number": number,
                "box": box,
                "progress": f"{number}/{total}",
                "percent_complete": round(100 * number / total, 1),
                "image": tile,
            }
            if stream.wants_preview():
                stream.preview(reduced(whole), step=number, total=total)
        yield {"status": "completed", "total_chunks_processed": total, "image": whole}


def open_image(image: streamapp.Image) -> PIL.Image.Image:
    """Decode an input image.

    Raises:
        InvalidInput: it has more pixels than this app takes.
    """
    if image.width * image.height > MAX_PIXELS:
        raise InvalidInput(f"expected at most {MAX_PIXELS} pixels, got {image.width}x{image.height}; reduce it")
    return prepare(image.to_pil(None))


def reduced(image: PIL.Image.Image) -> PIL.Image.Image:
    """Return an image small enough to be shown after every tile."""
    factor = -(-max(image.size) // PREVIEW_SIDE)
    return image.reduce(factor) if factor > 1 else image
