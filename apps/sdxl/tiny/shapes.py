"""The synthetic world of the embedded model: scenes, their pictures and their captions.

A scene is one row of integers: foreground, background, shape, size, place (`COLUMNS`). A batch of scenes is an integer
tensor, so that the renderer is plain tensor arithmetic on signed distances and runs wherever torch does.
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from torch import Tensor

RESOLUTION = 128
COLUMNS = ("foreground", "background", "shape", "size", "place")
PALETTE = {
    "red": (220, 30, 35),
    "orange": (250, 135, 20),
    "yellow": (250, 225, 40),
    "green": (30, 150, 60),
    "cyan": (40, 205, 225),
    "blue": (30, 70, 220),
    "purple": (125, 40, 165),
    "pink": (250, 150, 205),
    "black": (15, 15, 15),
    "white": (245, 245, 245),
}
COLOURS = tuple(PALETTE)
SIZES = ("", "small", "large")
RADII = (29.0, 22.0, 38.0)
PLACES = ("", "on the left", "on the right", "at the top", "at the bottom")
DIRECTIONS = ((0, 0), (-1, 0), (1, 0), (0, -1), (0, 1))
MARGIN = 3.0
"""Pixels that stay free between a shape and the edge it was moved to."""

TEMPLATES = (
    "a {thing}{place} on a {background} background",
    "{thing}{place}, {background} background",
    "a {background} background with a {thing}{place}",
)
BARE_TEMPLATES = ("a {thing}{place}", "{thing}{place}")
DECORATIONS = ("{}", "{}", "{}", "{}", "a picture of {}", "an image of {}", "{}, high quality", "{}, sharp", "{}.")
UNCONDITIONAL = ("", "", "", "blurry, low quality", "low quality", "blurry", "worst quality, ugly", "bad, noisy")
"""Captions of any picture at all: what guidance steers away from, an application's usual negative prompt included."""


def palette() -> Tensor:
    """The colours as a tensor (colour, RGB) in [0, 1]."""
    return torch.tensor([PALETTE[name] for name in COLOURS]) / 255


def _circle(x: Tensor, y: Tensor) -> Tensor:
    return torch.hypot(x, y) - 1


def _square(x: Tensor, y: Tensor) -> Tensor:
    return torch.maximum(x.abs(), y.abs()) - 0.88


def _diamond(x: Tensor, y: Tensor) -> Tensor:
    return (x.abs() * 1.25 + y.abs() - 1.08) / 1.6


def _triangle(x: Tensor, y: Tensor) -> Tensor:
    return torch.maximum(0.872 * x.abs() - 0.49 * y, y) - 0.56


def _ring(x: Tensor, y: Tensor) -> Tensor:
    return (torch.hypot(x, y) - 0.76).abs() - 0.24


def _cross(x: Tensor, y: Tensor) -> Tensor:
    long, short = torch.maximum(x.abs(), y.abs()), torch.minimum(x.abs(), y.abs())
    return torch.maximum(long - 1, short - 0.33)


def _star(x: Tensor, y: Tensor) -> Tensor:
    # Five-fold symmetry: fold the angle into one half arm; the edge is then the line from its tip to the inner corner.
    sector = 2 * torch.pi / 5
    angle = torch.remainder(torch.atan2(x, -y) + sector / 2, sector) - sector / 2
    radius = torch.hypot(x, y)
    along, aside = radius * angle.cos(), radius * angle.abs().sin()
    return (along - 1.08) * 0.413 + aside * 0.911


def _heart(x: Tensor, y: Tensor) -> Tensor:
    # Two discs over a wedge that touches both of them.
    x, y = x.abs(), y + 0.12
    disc = torch.hypot(x - 0.48, y + 0.3) - 0.52
    wedge = torch.maximum(0.7071 * (x + y) - 0.647, torch.maximum(-y - 0.3, x - y - 0.78))
    return torch.minimum(disc, wedge)


SHAPE_DISTANCES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "circle": _circle,
    "square": _square,
    "triangle": _triangle,
    "star": _star,
    "ring": _ring,
    "cross": _cross,
    "diamond": _diamond,
    "heart": _heart,
}
SHAPES = tuple(SHAPE_DISTANCES)


def held_out(scenes: Tensor) -> Tensor:
    """Tell which (foreground, background, shape) triples training never sees: a tenth, every value in its share."""
    return (scenes[:, 0] + 3 * scenes[:, 1] + 7 * scenes[:, 2]) % 10 == 0


def sample_scenes(count: int, generator: torch.Generator, *, held: bool = False) -> Tensor:
    """Draw scenes, all from the held-out triples or none; half of them in the middle and half of medium size."""
    draws = 24 * count
    colours = torch.randint(len(COLOURS), (draws, 2), generator=generator)
    shape = torch.randint(len(SHAPES), (draws, 1), generator=generator)
    size = (torch.randint(2 * len(SIZES) - 2, (draws, 1), generator=generator) - 1).clamp(0) % len(SIZES)
    place = (torch.randint(2 * len(PLACES) - 2, (draws, 1), generator=generator) - 3).clamp(0)
    scenes = torch.cat([colours, shape, size, place], dim=1)
    return scenes[(colours[:, 0] != colours[:, 1]) & (held_out(scenes) == held)][:count]


def default_background(foreground: int) -> int:
    """The background of a caption that names none: white, behind white black."""
    return COLOURS.index("black" if COLOURS[foreground] == "white" else "white")


def caption(scene: Sequence[int], rng: random.Random) -> str:
    """Describe a scene in one of the forms of words that the model learns; medium size and the middle go unsaid."""
    foreground, background, shape, size, place = scene
    bare = background == default_background(foreground) and rng.random() < 0.5
    sentence = rng.choice(BARE_TEMPLATES if bare else TEMPLATES).format(
        thing=f"{SIZES[size]} {COLOURS[foreground]} {SHAPES[shape]}".strip(),
        place=f" {PLACES[place]}".rstrip(),
        background=COLOURS[background],
    )
    return rng.choice(DECORATIONS).format(sentence.replace("a orange", "an orange"))


def training_caption(scene: Sequence[int], rng: random.Random) -> str:
    """Caption a scene for training: one in ten says nothing, one in twenty holds a word without a meaning."""
    draw = rng.random()
    if draw < 0.1:
        return rng.choice(UNCONDITIONAL)
    words = caption(scene, rng).split(" ")
    if draw < 0.15:
        noise = "".join(rng.choices("abcdefghijklmnopqrstuvwxyz0123456789", k=rng.randint(1, 5)))
        words.insert(rng.choice((0, len(words))), noise)
    return " ".join(words)


def render(scenes: Tensor, generator: torch.Generator, jitter: float = 1.0) -> Tensor:
    """Draw scenes as images (scene, RGB, y, x) in [-1, 1]; `jitter` scales the chance in colour, size and place."""
    count, (size, place) = len(scenes), scenes[:, 3:].unbind(1)

    def chance(*shape: int) -> Tensor:
        return jitter * (2 * torch.rand(shape, generator=generator) - 1)

    radius = torch.tensor(RADII)[size] * (1 + 0.05 * chance(count))
    reach = RESOLUTION / 2 - MARGIN - radius
    centre = torch.tensor(DIRECTIONS)[place] * reach[:, None].clamp(max=30.0) + 2 * chance(count, 2)
    colours = (palette()[scenes[:, :2]] + 0.02 * chance(count, 2, 3)).clamp(0, 1)
    inside = coverage(scenes[:, 2], centre, radius)[:, None]
    foreground, background = colours[:, :, :, None, None].unbind(1)
    return 2 * (background + (foreground - background) * inside) - 1


def coverage(shapes: Tensor, centre: Tensor, radius: Tensor) -> Tensor:
    """How much of each pixel (item, y, x) the shape covers, in [0, 1]; `centre` in pixels from the middle."""
    axis = torch.arange(RESOLUTION) - RESOLUTION / 2 + 0.5
    x = (axis[None, None, :] - centre[:, 0, None, None]) / radius[:, None, None]
    y = (axis[None, :, None] - centre[:, 1, None, None]) / radius[:, None, None]
    x, y = x.expand(-1, RESOLUTION, -1), y.expand(-1, -1, RESOLUTION)
    inside = torch.empty_like(x)
    for index, distance in enumerate(SHAPE_DISTANCES.values()):
        chosen = shapes == index
        inside[chosen] = (0.5 - distance(x[chosen], y[chosen]) * radius[chosen, None, None]).clamp(0, 1)
    return inside
