"""Make of refined cells what is shown: a mesh (surface nets, as glTF), or cubes.

Source: Gibson, "Constrained Elastic Surface Nets", 1998; https://registry.khronos.org/glTF/specs/2.0/glTF-2.0.html
"""

import json
import struct
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .refine import CORNERS, Cells, Growth, codes_of
from .shapes import Floats, Shape

GLB = "model/gltf-binary"
# A cell's edges: pairs of its corners.
_EDGES = np.array([(n, n | 1 << axis) for axis in range(3) for n in range(8) if not n >> axis & 1])
_AXES = np.eye(3, dtype=np.int32)
_COMPONENTS = {"uint8": 5121, "uint16": 5123, "uint32": 5125, "float32": 5126}  # glTF's numbers for them


@dataclass(frozen=True, slots=True)
class Mesh:
    """Hold triangles, counterclockwise where one looks at them from outside.

    Attributes:
        positions: (n, 3), like normals and colours; colours from 0 to 1, linear.
        faces: (m, 3), the numbers of their vertices.
    """

    positions: Floats
    normals: Floats
    colours: Floats
    faces: NDArray[np.uint32]

    @property
    def volume(self) -> float:
        """Return how much it holds, where it is closed."""
        one, two, three = self._corners
        return float(np.einsum("ij,ij", one, np.cross(two, three)) / 6)

    @property
    def area(self) -> float:
        """Return how large its surface is."""
        one, two, three = self._corners
        return float(np.linalg.norm(np.cross(two - one, three - one), axis=1).sum() / 2)

    @property
    def _corners(self) -> Floats:
        return self.positions.astype(np.float64)[self.faces.T]


def mesh_of(growth: Growth, shape: Shape) -> Mesh:
    """Put a vertex into each cell, and a square around each edge where the surface goes through it."""
    fine, coarse = (_net(cells) for cells in growth.layers)
    step = np.float32(growth.width)
    positions = growth.low + np.concatenate([fine[0], coarse[0]]) * step
    faces = np.concatenate([fine[2], coarse[2] + len(fine[0])])
    return Mesh(positions, np.concatenate([fine[1], coarse[1]]), shape.colour(positions.T).T, faces)


def _net(cells: Cells) -> tuple[Floats, Floats, NDArray[np.uint32]]:
    """Return positions in a cube of width 1, normals, and triangles."""
    first, second = cells.values[:, _EDGES[:, 0]], cells.values[:, _EDGES[:, 1]]
    is_crossed = (first < 0) != (second < 0)
    share = np.divide(first, first - second, out=np.zeros_like(first), where=is_crossed)
    places = CORNERS[_EDGES[:, 0]] + share[..., None] * (CORNERS[_EDGES[:, 1]] - CORNERS[_EDGES[:, 0]])
    middles = (places * is_crossed[..., None]).sum(axis=1) / is_crossed.sum(axis=1)[:, None]
    slopes = cells.values @ (2 * CORNERS - 1).astype(np.float32)
    normals = slopes / np.maximum(np.linalg.norm(slopes, axis=1, keepdims=True), 1e-12)
    positions = (cells.at + middles).astype(np.float32) / cells.side
    return positions, normals, _faces(cells)


def _faces(cells: Cells) -> NDArray[np.uint32]:
    """Return two triangles for each edge that the surface goes through, if all four cells around it are there."""
    codes = codes_of(cells.at, cells.side)
    order = np.argsort(codes)
    inside = cells.values < 0
    faces = []
    for axis in range(3):
        is_crossed = inside[:, 0] != inside[:, 1 << axis]
        across, along = _AXES[(axis + 1) % 3], _AXES[(axis + 2) % 3]
        around = cells.at[is_crossed, None] - np.array([0 * across, across, across + along, along])
        wanted = codes_of(around, cells.side)
        found = (
            order[np.minimum(np.searchsorted(codes, wanted, sorter=order), len(codes) - 1)] if len(codes) else wanted
        )
        is_there = (codes[found] == wanted).all(axis=1)
        squares = np.where(inside[is_crossed, :1], found, found[:, ::-1])[is_there]
        faces += [squares[:, [0, 1, 2]], squares[:, [0, 2, 3]]]
    return np.concatenate(faces).astype(np.uint32)


def glb(mesh: Mesh, *, is_smooth: bool) -> bytes:
    """Write a mesh as binary glTF, by its core alone, which every reader knows.

    Args:
        is_smooth: with normals, which are nearly half of its bytes; without them faces are flat.
    """
    index = np.uint16 if len(mesh.positions) < 1 << 16 else np.uint32
    colours = np.pad(mesh.colours, ((0, 0), (0, 1)), constant_values=1)  # four bytes, as each vertex begins at a fourth
    arrays: dict[str, NDArray[Any]] = {
        "POSITION": mesh.positions.astype(np.float32),
        "COLOR_0": np.rint(255 * colours).astype(np.uint8),
        **({"NORMAL": mesh.normals.astype(np.float32)} if is_smooth else {}),
        "indices": mesh.faces.astype(index),
    }
    ends = np.cumsum([array.nbytes for array in arrays.values()]).tolist()
    accessors = [{"bufferView": view, **_accessor(array)} for view, array in enumerate(arrays.values())]
    accessors[0] |= {"min": arrays["POSITION"].min(axis=0).tolist(), "max": arrays["POSITION"].max(axis=0).tolist()}
    *attributes, indices = range(len(arrays))
    primitive = {"attributes": dict(zip(arrays, attributes, strict=False)), "indices": indices, "material": 0}
    return _binary(
        {
            "asset": {"version": "2.0", "generator": "streamapp"},
            "scene": 0,
            "scenes": [{"nodes": [0]}],
            "nodes": [{"mesh": 0}],
            "meshes": [{"primitives": [primitive]}],
            "materials": [{"pbrMetallicRoughness": {"metallicFactor": 0, "roughnessFactor": 0.6}}],
            "accessors": accessors,
            "bufferViews": [
                {"buffer": 0, "byteOffset": end - array.nbytes, "byteLength": array.nbytes}
                for array, end in zip(arrays.values(), ends, strict=True)
            ],
            "buffers": [{"byteLength": ends[-1]}],
        },
        b"".join(array.tobytes() for array in arrays.values()),
    )


def _accessor(array: NDArray[Any]) -> dict[str, Any]:
    """Describe an array: floats, colours from 0 to 255, or else the triangles' vertices, one after another."""
    if array.dtype in (np.uint16, np.uint32):
        return {"componentType": _COMPONENTS[array.dtype.name], "type": "SCALAR", "count": array.size}
    kind = {"componentType": _COMPONENTS[array.dtype.name], "type": f"VEC{array.shape[1]}", "count": len(array)}
    return kind | ({"normalized": True} if array.dtype == np.uint8 else {})


def _binary(document: dict[str, Any], data: bytes) -> bytes:
    """Put glTF's two parts into one file, each filled up to four bytes."""
    text = json.dumps(document).encode()
    text, data = text + b" " * (-len(text) % 4), data + b"\0" * (-len(data) % 4)
    chunks = struct.pack("<I4s", len(text), b"JSON") + text + struct.pack("<I4s", len(data), b"BIN\0") + data
    return struct.pack("<4sII", b"glTF", 2, 12 + len(chunks)) + chunks


def cubes(growth: Growth, shape: Shape, resolution: int) -> dict[str, Any]:
    """Return the cells as cubes: places of their middles, colours and sizes, counted in cells of the finest level."""
    sizes = np.concatenate([np.full(len(cells.at), resolution // cells.side) for cells in growth.layers])
    middles = (np.concatenate([cells.at for cells in growth.layers]) + 0.5) * sizes[:, None]
    colours = shape.colour((growth.low + middles * (growth.width / resolution)).astype(np.float32).T)
    return {
        "positions": (middles - 0.5).tolist(),
        "colors": _shown(colours.T).tolist(),
        "sizes": sizes.tolist(),
    }


def _shown(light: Floats) -> NDArray[np.uint8]:
    """Return colours as sRGB, 0 to 255."""
    share: Floats = np.where(light <= 0.0031308, 12.92 * light, 1.055 * np.maximum(light, 1e-6) ** (1 / 2.4) - 0.055)
    return np.rint(255 * share).astype(np.uint8)
