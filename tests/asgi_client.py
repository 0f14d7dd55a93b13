"""A client and its connection, played to a response by ASGI messages."""

import asyncio
from typing import Any

from starlette.responses import Response
from starlette.types import Message, Scope
from tests.asking import Answer

from streamapp.http.connection import TRANSPORT_EXTENSION


class Client(Answer):
    """A client and its connection: records what the app sends, leaves when told, can be stuck.

    As a transport it records how the app ended the connection; closing it is a disconnect, as with real ones.
    """

    def __init__(self, *, lends_transport: bool = True, spec_version: str = "2.3") -> None:
        super().__init__()
        self.ended_by: list[str] = []
        self.stays_open = False
        self.unsent_bytes = 1
        self.written = b""
        self.is_stuck_at = ""
        self.messages: list[Message] = []
        self.raises: type[OSError] | None = None
        self._reads_on = asyncio.Event()
        self._has_left = asyncio.Event()
        self._news = asyncio.Event()
        extensions: dict[str, Any] = {TRANSPORT_EXTENSION: self} if lends_transport else {}
        asgi = {"spec_version": spec_version}
        self.scope: Scope = {"type": "http", "asgi": asgi, "method": "GET", "headers": [], "extensions": extensions}

    def call(self, response: Response) -> "asyncio.Task[None]":
        return asyncio.create_task(response(self.scope, self.receive, self.send))

    async def receive(self) -> Message:
        if self.messages:
            return self.messages.pop(0)
        await self._has_left.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: Message) -> None:
        await super().send(message)
        self._news.set()
        if self.raises is not None:
            raise self.raises
        if message["type"] == self.is_stuck_at:
            await self._reads_on.wait()

    def get_write_buffer_size(self) -> int:
        if self.ended_by:  # as asyncio's do over TLS
            raise AttributeError("the transport has closed")
        return self.unsent_bytes

    def is_closing(self) -> bool:
        return bool(self.ended_by)

    def write(self, data: bytes) -> None:
        self.written += data

    def read_on(self) -> None:
        self._reads_on.set()

    def leave(self) -> None:
        self._has_left.set()

    def close(self) -> None:
        self.ended_by.append("close")
        if not self.stays_open:
            self.leave()

    def abort(self) -> None:
        self.ended_by.append("abort")
        self.leave()

    async def until(self, text: str = "", messages: int = 0) -> None:
        """Wait until the app has sent `text`, and so many messages."""
        while len(self.sent) < messages or (text and text not in self.body):
            self._news.clear()
            await self._news.wait()

    @property
    def body(self) -> str:
        return b"".join(message.get("body", b"") for message in self.sent).decode()

    @property
    def blocks(self) -> list[str]:
        return [block for block in self.body.split("\n\n") if block]

    @property
    def is_complete(self) -> bool:
        return self.sent[-1]["type"] == "http.response.body" and not self.sent[-1].get("more_body", False)
