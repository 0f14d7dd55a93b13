"""Rooms in which people talk, with a model among them.

    streamapp serve apps/chat/app.py

Open http://127.0.0.1:8000 in two tabs. What answers is the small language model of `apps/llm`; another one is named by
the environment:

    STREAMAPP_CHAT_MODEL=HuggingFaceTB/SmolLM2-360M-Instruct streamapp serve apps/chat/app.py

Environment:
    STREAMAPP_CHAT_MODEL: a chat model, by its hub id or folder; "rules" is no model, but a few rules that stand in.
    STREAMAPP_CHAT_ANSWERS: "mentions" (the default): in a room of several the model answers who writes @Eliza;
        "always": it answers all.
"""

import os
from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import aclosing
from pathlib import Path
from secrets import token_hex
from typing import Annotated

import fastapi
from fastapi import Query, WebSocket
from pydantic import BaseModel, Field, TypeAdapter

import streamapp
from streamapp.errors import InvalidInput

from .model import Model, RuleBased, Turn
from .room import MODEL_NAME, Answers, ChatRoom

EMBEDDED_MODEL = Path(__file__).parent.parent / "llm" / "tiny" / "model"
MOST_AT_ONCE = 16  # answers
MOST_EMPTY = 100  # rooms that are kept with what was said there when all have left

Key = Annotated[str, Query(pattern=r"^[0-9A-Za-z-]{32,64}$", description="A secret of the client's own.")]
Name = Annotated[str, Query(pattern=r"^[^\p{Cc}]*[^\p{C}\p{Z}][^\p{Cc}]*$", max_length=40)]


class ReplyInput(BaseModel):
    """Say what was said so far."""

    messages: list[Turn] = Field(
        min_length=1,
        max_length=100,
        description="The conversation, oldest first.",
        examples=[[{"role": "user", "name": "Ann", "content": "Hello! My name is Ann."}]],
    )


class ChatRooms(streamapp.App):
    """Talk with each other, and with a language model among you."""

    title = "Chat rooms"
    max_running = MOST_AT_ONCE
    static = "page"
    requirements = ["torch", "transformers"]

    def setup(self) -> None:
        """Load the model."""
        self.model = load_model(os.environ.get("STREAMAPP_CHAT_MODEL"))
        answers = TypeAdapter(Answers).validate_python(os.environ.get("STREAMAPP_CHAT_ANSWERS", "mentions"))
        self.answers: Answers = answers
        self.rooms: dict[str, ChatRoom] = {}

    @streamapp.endpoint("/reply")
    def reply(self, input: ReplyInput) -> Iterator[str]:
        """Answer what was said last, as it is made."""
        return self.model.answer(input.messages)

    @streamapp.websocket("/chat/{room}")
    async def chat(
        self,
        socket: WebSocket,
        room: Annotated[str, fastapi.Path(min_length=1, max_length=60)],
        name: Name = "guest",
        key: Key | None = None,
        after: Annotated[str, Query(max_length=40)] = "",
    ) -> None:
        """Join a room; what is said in it, as JSON, `room.py` tells."""
        await self._serve(socket, f"room {room}", key=key, name=name, after=after)

    @streamapp.websocket("/chat")
    async def session(self, socket: WebSocket, session_id: Key | None = None) -> None:
        """Talk with the model alone, as the clients of Chutes' guide do it: each piece comes with all before it."""
        key = session_id or token_hex(16)
        await self._serve(socket, f"session {key}", key=key, name="guest", repeats=True)

    async def _serve(
        self, socket: WebSocket, room: str, *, key: str | None, name: str, after: str = "", repeats: bool = False
    ) -> None:
        await socket.accept()  # before the room is looked for: it might be forgotten meanwhile
        seen = "".join(filter(str.isprintable, name)).strip()  # others may have signs in it that nobody sees
        if seen.casefold() == MODEL_NAME.casefold():
            raise InvalidInput(f"{seen} is the name of the model; choose another")
        await self._room(room, repeats).serve(socket, key=key or token_hex(16), name=name, after=after)

    def _room(self, name: str, repeats: bool) -> ChatRoom:
        """Return the room of a name; of those in which nobody is the ones that were joined last are kept."""
        self.rooms = {each: room for each, room in self.rooms.items() if not room.is_blank}
        empty = [each for each, room in self.rooms.items() if room.is_empty]
        for each in empty[:-MOST_EMPTY]:
            del self.rooms[each]
        room = self.rooms.pop(name, None) or ChatRoom(name, self._ask, answers=self.answers, repeats=repeats)
        self.rooms[name] = room
        return room

    async def _ask(self, messages: Sequence[Turn]) -> AsyncGenerator[str]:
        """Have the model answer in its turn, as a job of `reply`."""
        async with aclosing(streamapp.follow(self.reply, {"messages": messages})) as events:
            async for event in events:  # what the model logs are events as well, and that it says nothing is a null
                if event.kind == "output" and (piece := event.json()):
                    yield piece


def load_model(name: str | None) -> Model:
    """Return a language model, the embedded one where none is named; or what stands in for one."""
    if name == "rules":
        return RuleBased()
    from .language import LanguageModel  # torch and transformers take seconds to import

    return LanguageModel(name or str(EMBEDDED_MODEL), MOST_AT_ONCE)
