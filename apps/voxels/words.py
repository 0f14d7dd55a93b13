"""Read a scene from words, by a rule: no model understands it, and it knows the words below only.

    scene = part { ("+" | "-" | "&") part }         joined, taken out, what both have; from left to right
    part  = { word } ( solid | "(" scene ")" ) { word }
    word  = a colour | a size | a form | a place | "at" x y z

Forms are applied in the order in which they stand, then the size, then the place.
"""

import difflib
import math
import random
import re
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from . import shapes
from .shapes import Floats, Shape

MOST_PARTS = 16
MOST_NESTED = 4
MOST_FORMS = 4
FARTHEST = 3
SMALLEST, LARGEST = 0.1, 4

SOLIDS: dict[str, tuple[shapes.Field, tuple[float, float, float]]] = {
    "sphere": (shapes.sphere, (0.5, 0.5, 0.5)),
    "box": (shapes.box, (0.45, 0.45, 0.45)),
    "torus": (shapes.torus, (0.56, 0.16, 0.56)),
    "cylinder": (shapes.cylinder, (0.35, 0.5, 0.35)),
    "capsule": (shapes.capsule, (0.22, 0.57, 0.22)),
    "cone": (shapes.cone, (0.5, 0.5, 0.5)),
    "diamond": (shapes.octahedron, (0.6, 0.6, 0.6)),
    "sponge": (shapes.sponge, (0.5, 0.5, 0.5)),
}
FORMS: dict[str, Callable[[Shape, Floats], Shape]] = {
    "twisted": lambda shape, phase: shapes.twisted(shape),
    "rounded": lambda shape, phase: shapes.rounded(shape),
    "hollow": lambda shape, phase: shapes.hollow(shape),
    "bumpy": shapes.bumpy,
    "tall": lambda shape, phase: shapes.stretched(shape, (1, 1.6, 1)),
    "flat": lambda shape, phase: shapes.stretched(shape, (1, 0.5, 1)),
    "wide": lambda shape, phase: shapes.stretched(shape, (1.6, 1, 1)),
    "standing": lambda shape, phase: shapes.turned(shape, 0, 90),
    "tilted": lambda shape, phase: shapes.turned(shape, 2, 30),
}
SIZES = {"tiny": 0.35, "small": 0.6, "big": 1.5, "huge": 2.0}
PLACES = {
    "left": (-0.6, 0, 0),
    "right": (0.6, 0, 0),
    "below": (0, -0.6, 0),
    "above": (0, 0.6, 0),
    "behind": (0, 0, -0.6),
    "front": (0, 0, 0.6),
}
COLOURS = {  # sRGB
    "red": (214, 69, 65),
    "orange": (235, 136, 52),
    "yellow": (240, 200, 70),
    "green": (84, 160, 90),
    "teal": (56, 150, 150),
    "blue": (66, 110, 200),
    "purple": (130, 90, 190),
    "pink": (232, 130, 160),
    "brown": (140, 96, 66),
    "white": (236, 234, 228),
    "grey": (140, 144, 150),
    "black": (44, 46, 52),
}
SAME = {
    **{"ball": "sphere", "cube": "box", "ring": "torus", "donut": "torus", "pillar": "cylinder", "pill": "capsule"},
    **{"round": "rounded", "gray": "grey", "and": "+", "with": "+", "minus": "-", "without": "-"},
}
UNSAID = frozenset({"a", "an", "the", "of", "in", "on", "to"})
JOINTS = {"+": shapes.joined, "-": shapes.without, "&": shapes.common}
_KNOWN = SOLIDS.keys() | FORMS.keys() | SIZES.keys() | PLACES.keys() | COLOURS.keys() | SAME.keys() | {"at"}

_NUMBER = r"\d+\.?\d*|\.\d+"
_TOKEN = re.compile(rf"[a-z]+|{_NUMBER}|[^\s.,;:!?]", re.ASCII)  # of a sentence its words count


def scene_of(text: str, *, blend: float = 0, seed: int = 0) -> Shape:
    """Return what the words say.

    Args:
        blend: over what length parts flow into each other, 0 and up.
        seed: the same one gives the same colours, where none are named, and the same bumps.
    Raises:
        ValueError: they do not follow the rule, or say more than is drawn.
    """
    reader = _Reader([SAME.get(token, token) for token in _TOKEN.findall(text.lower())], blend, random.Random(seed))
    shape = reader.scene()
    if reader.next is not None:
        raise ValueError(f'expected +, - or &; got "{reader.next}"')
    return shapes.bounded(shape)


@dataclass(slots=True)
class _Reader:
    """Read tokens, each once."""

    tokens: list[str]
    blend: float
    chance: random.Random
    at: int = 0
    parts: int = 0
    depth: int = 0

    @property
    def next(self) -> str | None:
        return self.tokens[self.at] if self.at < len(self.tokens) else None

    def scene(self) -> Shape:
        shape = self.part()
        while self.next in JOINTS:
            joint = JOINTS[self.take()]
            shape = joint(shape, self.part(), self.blend)
        return shape

    def part(self) -> Shape:
        self.parts += 1
        if self.parts > MOST_PARTS:
            raise ValueError(f"expected at most {MOST_PARTS} parts; join fewer")
        shape: Shape | None = None
        words: list[str] = []
        way = np.zeros(3)
        while self.next is not None and self.next not in JOINTS and self.next != ")":
            word = self.take()
            if word in SOLIDS or word == "(":
                if shape is not None:
                    raise ValueError(f'expected +, - or & between two solids; got "{word}"')
                shape = self.group() if word == "(" else self.solid(word)
            elif word == "at":
                way += [self.number() for _ in range(3)]
            elif word in PLACES:
                way += PLACES[word]
            elif word in COLOURS or word in SIZES or word in FORMS:
                words.append(word)
            elif word not in UNSAID:
                raise ValueError(f'no word for "{word}"; {_instead(word)}')
        if shape is None:
            raise ValueError(f"expected a solid, one of {', '.join(SOLIDS)}; got {' '.join(words) or 'none'}")
        return shapes.moved(self.shaped(shape, words), way)

    def take(self) -> str:
        self.at += 1
        return self.tokens[self.at - 1]

    def group(self) -> Shape:
        self.depth += 1
        if self.depth > MOST_NESTED:
            raise ValueError(f"expected at most {MOST_NESTED} brackets within each other")
        shape = self.scene()
        if self.next != ")":
            raise ValueError('expected ")" after the last part')
        self.take()
        self.depth -= 1
        return shape

    def solid(self, word: str) -> Shape:
        distance, extent = SOLIDS[word]
        return shapes.solid(distance, extent, _light(self.chance.choice(list(COLOURS))))

    def number(self) -> float:
        sign = -1 if self.next == "-" else 1
        self.at += sign < 0
        if self.next is None or not re.fullmatch(_NUMBER, self.next, re.ASCII):
            raise ValueError('expected three numbers after "at", for example at 0.5 0 -1')
        number = float(self.take())
        if number > FARTHEST:
            raise ValueError(f"expected numbers from -{FARTHEST:g} to {FARTHEST:g}; got {number:g}")
        return sign * number

    def shaped(self, shape: Shape, words: list[str]) -> Shape:
        forms = [FORMS[word] for word in words if word in FORMS]
        if len(forms) > MOST_FORMS:
            raise ValueError(f"expected at most {MOST_FORMS} forms of a part; got {' '.join(words)}")
        for form in forms:
            shape = form(shape, np.array([self.chance.uniform(0, math.tau) for _ in range(3)]))
        size = math.prod(SIZES[word] for word in words if word in SIZES)
        if not SMALLEST <= size <= LARGEST:
            raise ValueError(f"expected a size of {SMALLEST:g} to {LARGEST:g} times; got {size:g} by {' '.join(words)}")
        colours = [word for word in words if word in COLOURS]
        shape = shapes.stretched(shape, size)
        return shapes.painted(shape, _light(colours[-1])) if colours else shape


def _instead(word: str) -> str:
    """Say what is known; all of it would be more than is read."""
    near = difflib.get_close_matches(word, _KNOWN, cutoff=0.7)
    return f"did you mean {' or '.join(near)}?" if near else f"solids are {', '.join(SOLIDS)}"


def _light(colour: str) -> Floats:
    """Return a colour as light, https://www.w3.org/TR/css-color-4/#color-conversion-code."""
    share = np.array(COLOURS[colour]) / 255
    return np.where(share <= 0.04045, share / 12.92, ((share + 0.055) / 1.055) ** 2.4)
