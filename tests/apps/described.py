"""An app whose description says what generators of clients have to read: unions, defaults, uploads, streams, errors."""

from collections.abc import Iterator
from typing import Annotated, Literal

from fastapi import UploadFile
from pydantic import BaseModel, Field

import streamapp
from streamapp.errors import InvalidInput


class Circle(BaseModel):
    kind: Literal["circle"] = "circle"
    radius: float = 1.0


class Square(BaseModel):
    kind: Literal["square"] = "square"
    side: float = 1.0


class Node(BaseModel):
    name: str
    children: list["Node"] = []


class DrawInput(BaseModel):
    """Say what to draw."""

    shape: Annotated[Circle | Square, Field(discriminator="kind")] = Circle()
    tree: Node = Node(name="root")
    seed: int = 2**63 + 1


class Described(streamapp.App):
    title = "What is described"

    @streamapp.endpoint("/draw")
    def draw(self, input: DrawInput) -> DrawInput:
        """Return what came."""
        return input

    @streamapp.endpoint("/sized")
    def sized(self, file: UploadFile, note: str = "") -> int:
        """Count the bytes of a file."""
        return len(file.file.read())

    @streamapp.endpoint("/count")
    def count(self, to: int) -> Iterator[int]:
        """Count."""
        if to < 0:
            raise InvalidInput("to is negative")
        yield from range(to)
