"""An app whose schemas are as strange as those that people write by hand: the page has to bear them."""

import datetime
from typing import Annotated, Any

from fastapi import Body, Query
from pydantic import BaseModel, Field, WithJsonSchema, create_model

import streamapp

UNREADABLE = {"type": "object", "required": True, "properties": {"a": {"type": "string"}}}
UNDRAWABLE = {"type": "object", "properties": {"a": {"type": "string", "title": 7}}}
LONG_PATH = "/long" + "er" * 100


class Part(BaseModel):
    weight: float | None = None


class Allowed(BaseModel):
    """What Python takes, and a strict reader of JSON Schema does not."""

    seed: int | None = None
    parts: list[Part] = [Part()]
    at: datetime.time = datetime.time(10)
    since: datetime.datetime = datetime.datetime(2020, 1, 1)
    code: Annotated[str, WithJsonSchema({"type": "string", "pattern": "(?i)^[a-z]+\\Z"})] = "Ab"


class Dotted(BaseModel):
    count: int = Field(alias="model.count")
    other: str = "x"


Many = create_model("Many", field_1=(str, "x"), **{f"field_{n}": (int, n) for n in range(2, 31)})  # type: ignore[call-overload]


class Hostile(streamapp.App):
    @streamapp.endpoint("/allowed")
    def allowed(self, input: Allowed) -> dict[str, Any]:
        """Return what came in."""
        return input.model_dump(mode="json")

    @streamapp.endpoint("/dotted")
    def dotted(self, input: Dotted) -> int:
        """Return a number whose name has a dot."""
        return input.count

    @streamapp.endpoint("/unreadable")
    def unreadable(self, input: Annotated[Any, WithJsonSchema(UNREADABLE), Body()]) -> Any:
        """Return what came in."""
        return input

    @streamapp.endpoint("/undrawable")
    def undrawable(self, input: Annotated[Any, WithJsonSchema(UNDRAWABLE), Body()]) -> Any:
        """Return what came in."""
        return input

    @streamapp.endpoint("/items/{item}")
    def items(self, item: str, tags: Annotated[list[str], Query()]) -> list[str]:
        """Return what stands in the URL."""
        return [item, *tags]

    @streamapp.endpoint(LONG_PATH)
    def far(self) -> int:
        """Be far away."""
        return 1

    @streamapp.endpoint("/many")
    def many(self, input: Many) -> int:
        """Take much."""
        return 1

    @streamapp.endpoint("/twins")
    def twins(self, count: int = 3) -> dict[str, Any]:
        """Return a picture several times."""
        pixel = streamapp.File(b"GIF89a\1\0\1\0\0\0\0,\0\0\0\0\1\0\1\0\0\2\0;", "image/gif", "pixel.gif")
        return {"image": pixel, "images": [pixel] * count}
