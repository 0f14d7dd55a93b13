"""A room to be crowded, in which an endpoint talks."""

from fastapi import WebSocket

import streamapp


class Crowd(streamapp.App):
    def setup(self) -> None:
        self.room = streamapp.Room(history=0)
        self.silent = streamapp.Room(presence=False)

    @streamapp.websocket("/room")
    async def member(self, socket: WebSocket, silent: bool = False) -> None:
        async with (self.silent if silent else self.room).join(socket) as member:
            async for _ in member:
                pass

    @streamapp.endpoint("/talk")
    def talk(self, count: int, size: int) -> None:
        """Say so many messages of so many bytes, from the inference thread, one after another."""
        for n in range(count):
            message = {"n": n, "of": "x" * size}
            self.room.broadcast(message)
            self.silent.broadcast(message)
