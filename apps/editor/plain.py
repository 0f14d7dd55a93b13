"""Say edits as places in the text, for clients without Yjs: the words of the editor in Chutes' guide to streaming.

    {"type": "operation", "operation": {"type": "insert", "position": 3, "text": "abc"}}
    {"type": "operation", "operation": {"type": "delete", "start": 3, "length": 2}}
    {"type": "cursor_position", "position": 5}

Places count characters, as in Python. Such a client hears `document_state` first, `operation` of others, and of its own
edit, when that is on the disk, `ack` with the version. Once others' edits were sent to it, what it says may be older
than these, and nothing in it tells: then the answer is `document_state`, with the text as it is for all.
"""

from typing import Annotated, Literal

from pydantic import BaseModel, Field

Place = Annotated[int, Field(ge=0, strict=True)]


class Insert(BaseModel):
    """Put a text somewhere."""

    type: Literal["insert"]
    position: Place
    text: str

    @property
    def start(self) -> int:
        """Return the first place of what it replaces."""
        return self.position

    @property
    def end(self) -> int:
        """Return the place behind what it replaces."""
        return self.position


class Delete(BaseModel):
    """Take characters away."""

    type: Literal["delete"]
    start: Place
    length: Place

    @property
    def end(self) -> int:
        """Return the place behind what it replaces."""
        return self.start + self.length

    @property
    def text(self) -> str:
        """Return what it puts there."""
        return ""


class Operation(BaseModel):
    """Edit the text."""

    type: Literal["operation"]
    operation: Annotated[Insert | Delete, Field(discriminator="type")]


class Cursor(BaseModel):
    """Say where one is."""

    type: Literal["cursor_position"]
    position: Place


#: what a client may say
Said = Annotated[Operation | Cursor, Field(discriminator="type")]
