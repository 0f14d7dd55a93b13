"""The workload as a streamapp app; `streamapp serve` runs it."""

import asyncio
from collections.abc import AsyncIterator, Iterator

from benchmarks import workload
from benchmarks.workload import Payload
from fastapi import WebSocket

import streamapp


class Workload(streamapp.App):
    """Run what a GPU would do in the inference thread, and what many streams do at once on the loop."""

    def setup(self) -> None:
        self.model = workload.Model()
        self.room = streamapp.Room(history=0, presence=False)
        self.saying: asyncio.Task[None] | None = None

    @streamapp.endpoint("/count")
    def count(self, n: int) -> Iterator[Payload]:
        yield from map(workload.item, range(n))

    @streamapp.endpoint("/previews")
    def previews(self, n: int) -> Iterator[Payload]:
        """Hand over JPEG bytes, which the other applications write as base64 themselves."""
        for i in range(n):
            yield workload.preview_of(i, streamapp.File(workload.JPEG, "image/jpeg"))

    @streamapp.endpoint("/ticks")
    async def ticks(self, hz: float) -> AsyncIterator[Payload]:
        async for event in workload.ticks(hz):
            yield event

    @streamapp.endpoint("/flood")
    async def flood(self, hz: float) -> AsyncIterator[streamapp.Preview]:
        async for event in workload.flood(hz):
            yield streamapp.Preview(event)

    @streamapp.endpoint("/idle")
    async def idle(self) -> AsyncIterator[Payload]:
        async for event in workload.idle():
            yield event

    @streamapp.endpoint("/sleep")
    def sleep(self, n: int, step_s: float) -> Iterator[Payload]:
        yield from self.model.sleep(n, step_s)

    @streamapp.endpoint("/work")
    def work(self, n: int, rounds: int) -> Iterator[Payload]:
        yield from self.model.work(n, rounds)

    @streamapp.websocket("/room")
    async def members(self, socket: WebSocket) -> None:
        async with self.room.join(socket) as member:
            if self.saying is None:
                self.saying = asyncio.create_task(self.say())
            async for _ in member:
                pass

    async def say(self) -> None:
        async for event in workload.ticks(10):
            self.room.broadcast(event)

    @streamapp.realtime("/echo-async")
    async def echo_async(self, i: int) -> Payload:
        return workload.item(i)

    @streamapp.realtime("/echo-sync")
    def echo_sync(self, i: int) -> Payload:
        return workload.item(i)
