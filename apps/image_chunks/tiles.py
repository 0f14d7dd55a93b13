"""Bring out an image's fine detail tile by tile: what `app.py` and `handler.py` both do.

The operator is the guided filter's detail enhancement: what an edge-preserving filter would smooth away is added once
more, so that edges get no halos. It looks at the brightness, and adds the same to red, green and blue.
Source: He, Sun, Tang, "Guided Image Filtering", ECCV 2010.

A pixel depends on others as far away as twice the radius, so each tile is computed with so much of what is around it.
Every sum is taken over the same numbers in the same order wherever a tile begins: the tiles make, to the bit, what the
whole image would. It needs Pillow and numpy, and knows neither streamapp nor Runpod.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
import PIL.Image
import PIL.ImageOps
from numpy.typing import NDArray

Box = tuple[int, int, int, int]
Plane = NDArray[np.floating[Any]]

# What varies less than this, of a brightness from 0 to 1, is detail rather than an edge.
EDGE = 0.1**2


def prepare(image: PIL.Image.Image) -> PIL.Image.Image:
    """Return the first frame, upright, with 8 bits: RGBA where something is transparent, else RGB."""
    image = PIL.ImageOps.exif_transpose(image)
    if image.mode == "I;16":  # Pillow's own conversion would make all over 255 white
        image = image.point(lambda value: value / 256).convert("L")
    return image.convert("RGBA" if image.has_transparency_data else "RGB")


def boxes(size: tuple[int, int], side: int) -> list[Box]:
    """Return the tiles of an image, row by row; those at its right and lower edge may be smaller."""
    width, height = size
    return [
        (left, top, min(left + side, width), min(top + side, height))
        for top in range(0, height, side)
        for left in range(0, width, side)
    ]


def enhance(
    image: PIL.Image.Image, *, strength: float, radius: int, side: int
) -> Iterator[tuple[Box, PIL.Image.Image]]:
    """Yield each tile with its place, as soon as it is done.

    Args:
        image: RGB or RGBA, from `prepare`.
        strength: how much of the detail is added; 0 leaves the image as it is.
        radius: up to how many pixels wide detail is.
        side: of a tile, in pixels.
    """
    luma = np.pad(np.asarray(image.convert("L")), 2 * radius, mode="edge")
    for box in boxes(image.size, side):
        left, top, right, bottom = box
        around = luma[top : bottom + 4 * radius, left : right + 4 * radius].astype(np.float32) / 255
        yield box, _brighten(image.crop(box), strength * _detail(around, radius))


def _detail(luma: Plane, radius: int) -> Plane:
    """Return what the guided filter would smooth away, without the outer `2 * radius` pixels."""
    mean = _box_mean(luma, radius)
    variance = _box_mean(luma * luma, radius) - mean * mean
    gain = variance / (variance + EDGE)
    inner = luma[2 * radius : -2 * radius, 2 * radius : -2 * radius]
    return inner - (_box_mean(gain, radius) * inner + _box_mean(mean - gain * mean, radius))


def _box_mean(plane: Plane, radius: int) -> Plane:
    """Return the mean of the square around each pixel that has a whole one."""
    return _window_sum(_window_sum(plane, radius).T, radius).T / (2 * radius + 1) ** 2


def _window_sum(plane: Plane, radius: int) -> Plane:
    # A running sum would be faster, and would depend on where the tile begins.
    rows = len(plane) - 2 * radius
    total = plane[:rows].copy()
    for shift in range(1, 2 * radius + 1):
        total += plane[shift : shift + rows]
    return total


def _brighten(tile: PIL.Image.Image, amount: Plane) -> PIL.Image.Image:
    pixels: NDArray[Any] = np.array(tile)
    pixels[..., :3] = np.clip(np.rint(pixels[..., :3] + 255 * amount[..., None]), 0, 255)
    return PIL.Image.fromarray(pixels)
