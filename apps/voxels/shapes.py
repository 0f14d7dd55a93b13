"""Solids as signed distances: negative inside, zero on the surface, positive outside.

A `Shape` is a function of points, and shapes are made of shapes. No distance is ever larger than the true one, as each
change that stretches space divides by how much it does: so a cell whose centre is farther from the surface than its
corners holds none of it, which is what `refine` leaves out by.

Points are arrays (3, n), distances (n,), colours (3, n) from 0 to 1, linear: light adds up, sRGB does not.
Source of the distances: https://iquilezles.org/articles/distfunctions/
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.floating[Any]]
Field = Callable[[Floats], Floats]

_EDGE = 0.04  # how round the edges of solids are: cells draw sharp ones jagged
_SHARP = 1e-3  # what two shapes blend over at least
_TWIST = 2.5  # radians over a length of 1
_BUMP, _BUMPS = 0.035, 14.0  # how high, and how many radians over a length of 1
_WALL = 0.06
_ROUND = 0.12
# A cell that holds a bit of a box has its centre near the box: there distances have to be right as well.
_AROUND = 1.5


@dataclass(frozen=True, slots=True)
class Shape:
    """Hold a solid.

    Attributes:
        distance: of points from the surface, or less.
        colour: of points at the surface.
        low, high: opposite corners of a box in which all of it lies; empty where one is not below the other.
    """

    distance: Field
    colour: Field
    low: Floats
    high: Floats

    @property
    def is_nothing(self) -> bool:
        """Tell whether the box says already that nothing is there."""
        return not bool((self.low < self.high).all())


def solid(distance: Field, extent: ArrayLike, colour: ArrayLike) -> Shape:
    """Make a shape around the origin of one colour.

    Args:
        extent: how far it reaches along each axis.
    """
    high = np.asarray(extent, np.float32)
    return Shape(distance, _plain(colour), -high, high)


def sphere(at: Floats) -> Floats:
    """Measure a ball of radius 0.5."""
    return length(at) - 0.5


def box(at: Floats) -> Floats:
    """Measure a cube of side 0.9."""
    return _beyond(np.abs(at) - (0.45 - _EDGE)) - _EDGE


def torus(at: Floats) -> Floats:
    """Measure a ring that lies flat."""
    return length(np.stack([length(at[[0, 2]]) - 0.4, at[1]])) - 0.16


def cylinder(at: Floats) -> Floats:
    """Measure an upright cylinder."""
    return _beyond(np.stack([length(at[[0, 2]]) - (0.35 - _EDGE), np.abs(at[1]) - (0.5 - _EDGE)])) - _EDGE


def capsule(at: Floats) -> Floats:
    """Measure an upright cylinder with round ends."""
    return length(np.stack([at[0], at[1] - np.clip(at[1], -0.35, 0.35), at[2]])) - 0.22


def cone(at: Floats) -> Floats:
    """Measure a cone that stands on its base."""
    side: Floats = (length(at[[0, 2]]) * 2 + at[1] - 0.5) / math.sqrt(5)
    base: Floats = -0.5 - at[1]
    return _beyond(np.stack([side, base]) + _EDGE) - _EDGE


def octahedron(at: Floats) -> Floats:
    """Measure a diamond of eight faces."""
    across: Floats = np.abs(at).sum(axis=0)
    return (across - 0.6) / math.sqrt(3)


def sponge(at: Floats) -> Floats:
    """Measure what a gyroid, a surface that winds through all of space, leaves of a ball."""
    turned = np.float32(12) * at
    winding: Floats = (np.sin(turned) * np.cos(turned[[1, 2, 0]])).sum(axis=0)
    return np.maximum(sphere(at), (np.abs(winding) - 0.5) / (12 * math.sqrt(3)))


def joined(one: Shape, other: Shape, blend: float) -> Shape:
    """Put two shapes together.

    Args:
        blend: over what length they flow into each other, 0 and up.
    """
    swell = blend / 4
    low, high = np.minimum(one.low, other.low) - swell, np.maximum(one.high, other.high) + swell
    return _blended(one, other, (1, 1), blend, (low, high))


def without(one: Shape, other: Shape, blend: float) -> Shape:
    """Take a shape out of another; the cut has the colour of what was taken out."""
    return _blended(one, other, (-1, 1), blend, (one.low, one.high))


def common(one: Shape, other: Shape, blend: float) -> Shape:
    """Leave what is in both shapes."""
    return _blended(one, other, (-1, -1), blend, (np.maximum(one.low, other.low), np.minimum(one.high, other.high)))


def _blended(one: Shape, other: Shape, signs: tuple[int, int], blend: float, box: tuple[Floats, Floats]) -> Shape:
    """Blend what the signs turn inside out by a smooth minimum, https://iquilezles.org/articles/smin/."""
    width = max(blend, _SHARP)

    def both(at: Floats) -> tuple[Floats, Floats]:
        return signs[0] * one.distance(at), signs[1] * other.distance(at)

    def distance(at: Floats) -> Floats:
        first, second = both(at)
        overlap = np.maximum(width - np.abs(first - second), 0) / width
        return signs[0] * (np.minimum(first, second) - overlap * overlap * (width / 4))

    def colour(at: Floats) -> Floats:
        first, second = both(at)
        share = np.clip(0.5 + (second - first) / (2 * width), 0, 1)
        return share * one.colour(at) + (1 - share) * other.colour(at)

    return Shape(distance, colour, *box)


def moved(shape: Shape, by: ArrayLike) -> Shape:
    """Move a shape."""
    way = np.asarray(by, np.float32)
    return _seen(shape, lambda at: at - way[:, None], (shape.low + way, shape.high + way))


def stretched(shape: Shape, by: ArrayLike) -> Shape:
    """Make a shape longer along each axis, or larger by the same for all."""
    times = np.broadcast_to(np.asarray(by, np.float32), 3)
    box = shape.low * times, shape.high * times
    return _seen(shape, lambda at: at / times[:, None], box, float(times.min()))


def turned(shape: Shape, axis: int, degrees: float) -> Shape:
    """Turn a shape around an axis: 0 to 2 for x, y and z."""
    turn = _rotation(axis, math.radians(degrees))
    corners = turn @ np.array(np.meshgrid(*zip(shape.low, shape.high, strict=True))).reshape(3, 8)
    return _seen(shape, lambda at: turn.T @ at, (corners.min(axis=1), corners.max(axis=1)))


def twisted(shape: Shape) -> Shape:
    """Twist a shape around the upright axis."""
    low, high = shape.low.copy(), shape.high.copy()
    radius = float(np.linalg.norm(np.maximum(-low, high)[[0, 2]]))
    low[[0, 2]], high[[0, 2]] = -radius, radius

    def place(at: Floats) -> Floats:
        sine, cosine = np.sin(_TWIST * at[1]), np.cos(_TWIST * at[1])
        return np.stack([cosine * at[0] - sine * at[2], at[1], sine * at[0] + cosine * at[2]])

    return _seen(shape, place, (low, high), 1 / math.hypot(1, _TWIST * _AROUND * radius))


def rounded(shape: Shape) -> Shape:
    """Put a layer around a shape, so that its edges are round."""
    return _settled(shape, lambda distance, at: distance - _ROUND, swell=_ROUND)


def hollow(shape: Shape) -> Shape:
    """Leave the outermost of a shape; one sees in where something is taken out."""
    return _settled(shape, lambda distance, at: np.abs(distance + _WALL / 2) - _WALL / 2)


def bumpy(shape: Shape, phase: ArrayLike) -> Shape:
    """Give a shape bumps.

    Args:
        phase: where they are, in radians along each axis.
    """
    start = np.asarray(phase, np.float32)[:, None]

    def settle(distance: Floats, at: Floats) -> Floats:
        bumps: Floats = np.sin(_BUMPS * at + start).prod(axis=0)
        return (distance - _BUMP * (1 + bumps)) / (1 + _BUMP * _BUMPS)

    return _settled(shape, settle, swell=2 * _BUMP)


def painted(shape: Shape, colour: ArrayLike) -> Shape:
    """Give a shape one colour."""
    return replace(shape, colour=_plain(colour))


def bounded(shape: Shape) -> Shape:
    """Cut off what lies outside of a shape's box: what was swollen behind a twist may."""
    middle, half = (shape.low + shape.high) / 2, (shape.high - shape.low) / 2

    def distance(at: Floats) -> Floats:
        return np.maximum(shape.distance(at), _beyond(np.abs(at - middle[:, None]) - half[:, None]))

    return replace(shape, distance=distance)


def _seen(shape: Shape, place: Field, box: tuple[Floats, Floats], least: float = 1) -> Shape:
    """Look at a shape through a change of space.

    Args:
        place: where a point was before the change.
        least: what a distance has at least become of it.
    """
    return Shape(lambda at: least * shape.distance(place(at)), lambda at: shape.colour(place(at)), *box)


def _settled(shape: Shape, settle: Callable[[Floats, Floats], Floats], *, swell: float = 0) -> Shape:
    return replace(
        shape,
        distance=lambda at: settle(shape.distance(at), at),
        low=shape.low - swell,
        high=shape.high + swell,
    )


def _plain(colour: ArrayLike) -> Field:
    paint = np.asarray(colour, np.float32)[:, None]
    return lambda at: np.broadcast_to(paint, at.shape)


def _rotation(axis: int, angle: float) -> Floats:
    turn = np.eye(3, dtype=np.float32)
    first, second = (axis + 1) % 3, (axis + 2) % 3
    turn[first, first] = turn[second, second] = math.cos(angle)
    turn[second, first] = math.sin(angle)
    turn[first, second] = -turn[second, first]
    return turn


def length(vectors: Floats) -> Floats:
    """Return how long each column is."""
    squares: Floats = (vectors * vectors).sum(axis=0)
    return np.sqrt(squares)


def _beyond(excess: Floats) -> Floats:
    """Measure a box, or what is like one, by how far points are beyond its sides along each axis."""
    largest: Floats = excess.max(axis=0)
    return length(np.maximum(excess, 0)) + np.minimum(largest, 0)
