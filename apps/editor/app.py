"""Write texts together: what several people type at once ends as one text everywhere, also what they typed offline.

    streamapp serve apps/editor/app.py

Then open http://127.0.0.1:8000/ in two windows. Needs `pip install pycrdt`.

Environment:
    STREAMAPP_EDITOR_FOLDER: where documents are kept; by default `~/.local/share/streamapp/editor`.
"""

import asyncio
import os
from pathlib import Path
from typing import Annotated

import fastapi
from fastapi import WebSocket
from pydantic import BaseModel, Field

import streamapp

from .document import Documents
from .store import Store

DEFAULT_FOLDER = "~/.local/share/streamapp/editor"
NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$"
InPath = Annotated[str, fastapi.Path(pattern=NAME)]


class Which(BaseModel):
    """Name a document."""

    name: str = Field(pattern=NAME, description="The document's name.", examples=["welcome"])


class Snapshot(BaseModel):
    """Show a document as it is now."""

    name: str
    text: str
    version: int = Field(description="How many edits it has had.")


class Editor(streamapp.App):
    """Write texts together: in the page, with any client of Yjs, or by plain operations."""

    title = "Shared editor"
    static = "page"
    requirements = ["pycrdt"]

    def setup(self) -> None:
        """Open the folder in which the documents are."""
        self.store = Store(Path(os.environ.get("STREAMAPP_EDITOR_FOLDER", DEFAULT_FOLDER)).expanduser())
        self.documents = Documents(self.store)

    async def teardown(self) -> None:
        """Write what is left, and give the folder back."""
        await self.documents.close()
        await asyncio.to_thread(self.store.close)

    @streamapp.websocket("/documents/{name}")
    async def edit(self, socket: WebSocket, name: InPath) -> None:
        """Edit a document as y-websocket does."""
        async with self.documents.open(name) as document, document.room.join(socket) as member:
            await document.serve(member)

    @streamapp.websocket("/collaborate/{doc_id}")
    async def collaborate(self, socket: WebSocket, doc_id: InPath) -> None:
        """Edit a document by operations at places in the text."""
        async with self.documents.open(doc_id) as document, document.plain.join(socket) as member:
            await document.serve_plain(member)

    @streamapp.endpoint("/text")
    async def text(self, input: Which) -> Snapshot:
        """Return a document's text."""
        async with self.documents.open(input.name) as document:
            return Snapshot(name=input.name, text=str(document), version=document.journal.version)
