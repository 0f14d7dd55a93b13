"""Pictures for the app that enhances images, and what it makes of them."""

import sys
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import PIL.ImageOps

sys.path.insert(0, str(Path(__file__).parent.parent))  # `apps` is no part of the package

from apps.image_chunks.tiles import enhance


def picture(width: int = 150, height: int = 100, mode: str = "RGB") -> PIL.Image.Image:
    """Draw soft colours with grain."""
    grain = noise(width, height, 25)
    slope = PIL.Image.linear_gradient("L").resize((width, height))
    return PIL.Image.merge("RGB", (slope, PIL.ImageOps.mirror(slope), grain)).convert(mode)


def noise(width: int, height: int, deviation: float) -> PIL.Image.Image:
    values = np.random.default_rng(7).normal(128, deviation, (height, width))
    return PIL.Image.fromarray(np.clip(values, 0, 255).astype(np.uint8))


def enhanced(image: PIL.Image.Image, *, strength: float = 2, radius: int = 8, side: int = 64) -> PIL.Image.Image:
    whole = image.copy()
    for box, tile in enhance(image, strength=strength, radius=radius, side=side):
        whole.paste(tile, box)
    return whole


def are_same(one: PIL.Image.Image, other: PIL.Image.Image) -> bool:
    return one.mode == other.mode and one.size == other.size and one.tobytes() == other.tobytes()


def saved(image: PIL.Image.Image, format: str = "PNG", **options: Any) -> bytes:
    buffer = BytesIO()
    image.save(buffer, format, **options)
    return buffer.getvalue()
