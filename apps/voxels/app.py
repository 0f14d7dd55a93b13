"""A solid made of words, which grows from coarse cubes to a smooth mesh.

    streamapp serve apps/voxels/app.py

It needs numpy alone. The words are read by a rule (`words.py`), not by a model: what is shown is how something in three
dimensions is streamed while it is computed.
"""

import math
import time
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

import streamapp
from streamapp import File
from streamapp.errors import InvalidInput

from .mesh import GLB, cubes, glb, mesh_of
from .refine import COARSEST, Growth, refine
from .shapes import Shape
from .words import FORMS, PLACES, SIZES, SOLIDS, scene_of

FINEST_VOXELS = 64  # how many the cube is wide; a page draws some thirty thousand
FINEST_PREVIEW = 64  # 0.7 MB; that of the next level, 3 MB, would come late and look the same


def checked(scene: str) -> str:
    """Return the words of a scene.

    Raises:
        ValueError: they make none.
    """
    scene_of(scene)
    return scene


class SceneInput(BaseModel):
    """Say what to build."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {"scene": "a tall twisted purple box + a huge yellow ring"},
                {"scene": "big white ball below + white ball at 0 0.3 0 + small orange cone standing at 0 0.35 0.6"},
                {"scene": "hollow teal ball without a big pink box at 0.7 0.7 0.7", "resolution": 128},
                {"scene": "tall bumpy twisted hollow pink box - ball above", "output": "voxels", "resolution": 32},
            ]
        }
    )
    scene: Annotated[str, AfterValidator(checked)] = Field(
        max_length=300,
        description=f"Solids ({', '.join(SOLIDS)}) with words before or behind them: colours, sizes "
        f"({', '.join(SIZES)}), forms ({', '.join(FORMS)}), places ({', '.join(PLACES)}, at x y z). They are joined by "
        "+, cut by -, or & for what both have; brackets group.",
        examples=[
            "a tall twisted purple box + a huge yellow ring",
            "white box & red ball - (small tall tall blue cylinder + small tall tall blue cylinder standing)",
            "big white ball below + white ball at 0 0.3 0 + small orange cone standing at 0 0.35 0.6",
            "hollow teal ball without a big pink box at 0.7 0.7 0.7",
            "tall bumpy twisted hollow pink box - ball above",
        ],
    )
    resolution: Literal[16, 32, 64, 128] = Field(default=64, description="How many cells it is wide at the end.")
    output: Literal["mesh", "voxels"] = Field(default="mesh", description="A smooth mesh, or cubes, 64 wide at most.")
    blend: float = Field(
        default=0.15, ge=0, le=0.5, allow_inf_nan=False, description="Over what length solids flow into each other."
    )
    pause_s: float = Field(
        default=0.1,
        ge=0,
        le=1,
        allow_inf_nan=False,
        title="Pause in seconds",
        description="After each preview: a model would take longer.",
    )
    seed: int = Field(default=0, ge=0, le=2**32 - 1, description="Chooses colours that are not named, and bumps.")

    @model_validator(mode="after")
    def can_be_drawn(self) -> Self:
        """Refuse more cubes than a page draws."""
        if self.output == "voxels" and self.resolution > FINEST_VOXELS:
            raise ValueError(f"expected a resolution up to {FINEST_VOXELS} for voxels, got {self.resolution}")
        return self


class Voxels(streamapp.App):
    """Build solids from words: coarse cubes at first, a smooth mesh in the end."""

    title = "Solids from words"
    requirements = ["numpy"]

    @streamapp.endpoint("/stream")
    def stream(self, input: SceneInput, stream: streamapp.Stream) -> dict[str, Any]:
        """Build a solid, and show it while it is refined."""
        shape = scene_of(input.scene, blend=input.blend, seed=input.seed)
        growth = None
        for growth in refine(shape, input.resolution):
            side, percent = growth.layers[0].side, math.ceil(100 * growth.done)
            stream.progress(percent, 100, f"{side} cells wide")
            is_something = any(len(cells.at) for cells in growth.layers)
            if side <= FINEST_PREVIEW and is_something and stream.wants_preview():
                stream.preview({"shape": preview(growth, shape, input)}, step=percent, total=100)
                time.sleep(input.pause_s)
        if growth is None or len(growth.layers[0].at) == 0:
            raise InvalidInput(f"nothing is left of {input.scene!r}, or it is thinner than a cell: take less out of it")
        return result(growth, shape, input)


def preview(growth: Growth, shape: Shape, input: SceneInput) -> File | dict[str, Any]:
    """Show what is there: as cubes, which a mesh is at the coarsest level, too, or as triangles with flat faces."""
    if input.output == "voxels" or growth.layers[0].side == COARSEST:
        return cubes(growth, shape, input.resolution)
    return File(glb(mesh_of(growth, shape), is_smooth=False), GLB, "preview.glb")


def result(growth: Growth, shape: Shape, input: SceneInput) -> dict[str, Any]:
    """Return the whole, and what can be said of it."""
    mesh = mesh_of(growth, shape)
    statistics = {
        "cells": len(growth.layers[0].at),
        "cells_looked_at": growth.looked_at,
        "vertices": len(mesh.positions),
        "triangles": len(mesh.faces),
        "volume": round(mesh.volume, 4),
        "area": round(mesh.area, 4),
    }
    if input.output == "voxels":
        return {"shape": cubes(growth, shape, input.resolution), "statistics": statistics}
    return {"shape": File(glb(mesh, is_smooth=True), GLB, "final.glb"), "statistics": statistics}
