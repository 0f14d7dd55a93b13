"""Find a shape's surface from coarse to fine: of each level only the cells near it are looked at again, in eights.

Of a cube of 128 cells a side, two million, that leaves some fifty thousand. Cells are done from the bottom up, a few
thousand at a time, and after each such piece there is something to show: what is refined, and above it the coarse rest.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .shapes import Floats, Shape

Integers = NDArray[np.int32]

COARSEST = 8
PIECE = 512  # cells that are refined at a time
MARGIN = 1.06  # by which the cube is wider than the shape: its outermost corners are outside
# The corners of a cell, and the eight that it is refined to: the lowest, then by x, y and z.
CORNERS = np.array([[n & 1, n >> 1 & 1, n >> 2 & 1] for n in range(8)], np.int32)


@dataclass(frozen=True, slots=True)
class Cells:
    """Hold cells of one size that the surface goes through.

    Attributes:
        side: how many of them the cube is wide.
        at: (n, 3), which ones, counted along x, y and z.
        values: (n, 8), the distances at their corners.
    """

    side: int
    at: Integers
    values: Floats


@dataclass(frozen=True, slots=True)
class Growth:
    """Say how far a refinement is.

    Attributes:
        done: how much of the work, up to 1: each level is taken to have four times the cells of the one before.
        layers: the cells that are refined, and above them the coarser ones that are not.
        low: where the cube begins, in the shape's own units, as `width`.
        looked_at: how many cells were looked at so far.
    """

    done: float
    layers: tuple[Cells, Cells]
    low: Floats
    width: float
    looked_at: int


def refine(shape: Shape, resolution: int) -> Iterator[Growth]:
    """Refine a shape, and tell after each piece of it; at last all of it is at the finest level.

    Args:
        resolution: how many cells the cube is wide at the end: 8, or twice, four times ... as many.
    """
    if shape.is_nothing:
        return
    width = float((shape.high - shape.low).max()) * MARGIN
    low = (shape.low + shape.high - width) / 2
    levels = (resolution // COARSEST).bit_length()
    parents = np.argwhere(np.ones(3 * [COARSEST // 2])).astype(np.int32)
    coarse = _none(COARSEST // 2)
    looked_at = 0
    for level in range(1, levels + 1):
        parents = parents[np.lexsort(parents.T[[0, 2, 1]])]  # from the bottom up
        near, fine = parents[:0], _none(2 * coarse.side)
        for end in range(PIECE, len(parents) + PIECE, PIECE):
            cells = (2 * parents[end - PIECE : end, None] + CORNERS).reshape(-1, 3)
            close = _near(shape, cells, fine.side, low, width)
            near, fine = np.concatenate([near, close]), _joined(fine, _crossed(shape, close, fine.side, low, width))
            looked_at += len(cells)
            layers = fine, _above(coarse, parents[end:])
            done = 4 ** (level - levels) * min(1, 0.25 + 0.75 * end / len(parents))
            yield Growth(done, layers, low, width, looked_at)
        parents, coarse = near, fine


def _near(shape: Shape, cells: Integers, side: int, low: Floats, width: float) -> Integers:
    """Leave the cells that the surface may go through."""
    distance = shape.distance(places(cells + np.float32(0.5), side, low, width))
    return cells[np.abs(distance) <= 0.87 * width / side]  # half a cell's diagonal is 0.866 of its side


def _crossed(shape: Shape, cells: Integers, side: int, low: Floats, width: float) -> Cells:
    """Leave the cells that the surface does go through: some of whose corners are inside, some outside."""
    corners, which = np.unique(codes_of(cells[:, None] + CORNERS, side), return_inverse=True)
    at = np.stack([corners % (side + 1), corners // (side + 1) ** 2, corners // (side + 1) % (side + 1)], axis=1)
    values = shape.distance(places(at, side, low, width))[which.reshape(-1, 8)]
    is_inside = values < 0
    is_crossed = is_inside.any(axis=1) & ~is_inside.all(axis=1)
    return Cells(side, cells[is_crossed], values[is_crossed])


def places(at: NDArray[Any], side: int, low: Floats, width: float) -> Floats:
    """Return where (n, 3) cells begin, as (3, n) points, in single precision: in double all takes a quarter longer."""
    return low[:, None] + at.astype(np.float32).T * np.float32(width / side)


def codes_of(at: Integers, side: int) -> NDArray[np.int64]:
    """Number cells, or corners, from the bottom up."""
    codes: NDArray[np.int64] = at.astype(np.int64) @ np.array([1, (side + 1) ** 2, side + 1])
    return codes


def _above(coarse: Cells, parents: Integers) -> Cells:
    """Leave the coarse cells that are not refined yet, and those they touch, so that there is no gap between."""
    if len(parents) == 0:
        return _none(coarse.side)
    is_above = coarse.at[:, 1] >= parents[0, 1] - 1
    return Cells(coarse.side, coarse.at[is_above], coarse.values[is_above])


def _joined(one: Cells, other: Cells) -> Cells:
    return Cells(one.side, np.concatenate([one.at, other.at]), np.concatenate([one.values, other.values]))


def _none(side: int) -> Cells:
    return Cells(side, np.zeros((0, 3), np.int32), np.zeros((0, 8), np.float32))
