"""The chat, the document and the feed of Chutes' guide to streaming, on rooms and a broadcast: at the same paths, with
the same messages.
"""

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any
from weakref import WeakValueDictionary

from fastapi import Response, WebSocket

import streamapp
from streamapp import Member, Room


class Chat(streamapp.App):
    def setup(self) -> None:
        self.room = Room(history=0, presence=False, max_messages_per_s=50)

    async def tokens(self, text: str) -> AsyncIterator[str]:
        for word in f"You said: {text}".split():
            await asyncio.sleep(0)
            yield f"{word} "

    @streamapp.websocket("/chat")
    async def chat(self, websocket: WebSocket, session_id: str | None = None) -> None:
        async with self.room.join(websocket, id=session_id) as member:
            welcome = f"Connected to chat session {member.id}"
            member.send({"type": "system", "message": welcome, "session_id": member.id})
            asked: asyncio.Queue[str] = asyncio.Queue(maxsize=8)
            answering = asyncio.create_task(self.answer(member, asked))
            try:
                async for message in member:
                    match message:
                        case {"type": "user_message", "message": str(text)}:
                            await asked.put(text)
                        case {"type": "typing"}:
                            typing = {"typing": bool(message.get("typing")), "session_id": member.id}
                            self.room.broadcast({"type": "user_typing", **typing}, exclude=member, key=member.id)
                        case {"type": "ping"}:
                            member.send({"type": "pong", "timestamp": time.time()})
            finally:
                answering.cancel()

    async def answer(self, member: Member, asked: "asyncio.Queue[str]") -> None:
        while True:
            text = await asked.get()
            member.send({"type": "ai_typing", "typing": True})
            content = ""
            async for token in self.tokens(text):
                content += token
                member.send({"type": "ai_message_partial", "content": content, "token": token}, key="partial")
            member.send({"type": "ai_typing", "typing": False})
            member.send({"type": "ai_message_complete", "content": content})


class Document:
    def __init__(self) -> None:
        self.content, self.version = "", 0
        self.room = Room(history=0, presence=False)

    def apply(self, operation: Any) -> None:
        match operation:
            case {"type": "insert", "position": int(start), "text": str(text)}:
                end = start
            case {"type": "delete", "start": int(start), "length": int(length)}:
                text, end = "", start + length
            case _:
                raise ValueError("expected an insert or a delete")
        if not 0 <= start <= end <= len(self.content):
            raise ValueError(f"the document has {len(self.content)} characters")
        self.content = self.content[:start] + text + self.content[end:]
        self.version += 1


class Editor(streamapp.App):
    def setup(self) -> None:
        self.documents: WeakValueDictionary[str, Document] = WeakValueDictionary()

    @streamapp.websocket("/collaborate/{doc_id}")
    async def collaborate(self, websocket: WebSocket, doc_id: str) -> None:
        document = self.documents.setdefault(doc_id, Document())
        room = document.room
        async with room.join(websocket) as member:
            own = {"session_id": member.id}
            state = {"content": document.content, "version": document.version}
            member.send({"type": "document_state", "doc_id": doc_id, **state})
            room.broadcast({"type": "user_joined", **own}, exclude=member)
            try:
                async for message in member:
                    match message:
                        case {"type": "operation", "operation": operation}:
                            try:
                                document.apply(operation)
                            except ValueError as error:
                                member.send({"type": "error", "error": str(error)})
                                continue
                            told = {"operation": operation, "version": document.version, "author": member.id}
                            room.broadcast({"type": "operation", **told})
                        case {"type": "cursor_position", "position": position}:
                            cursor = {"type": "cursor_update", **own, "position": position}
                            room.broadcast(cursor, exclude=member, key=member.id)
            finally:
                room.broadcast({"type": "user_left", **own}, exclude=member)


class Feed(streamapp.App):
    def setup(self) -> None:
        self.feed = streamapp.Broadcast(self.produce, history=100)

    async def produce(self) -> AsyncIterator[dict[str, Any]]:
        for n in range(3):
            yield {"n": n}
        yield {"done": True}

    @streamapp.endpoint("/stream_data")
    async def watch(self) -> Response:
        return self.feed.response()


class Guide(Chat, Editor, Feed):
    """Serve all."""

    def setup(self) -> None:
        Chat.setup(self)
        Editor.setup(self)
        Feed.setup(self)
