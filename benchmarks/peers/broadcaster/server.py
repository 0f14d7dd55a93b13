"""A room by the package broadcaster, with the backend that needs nothing else, beside the workload of "raw"."""

import asyncio
import json

from benchmarks import workload
from benchmarks.peers.raw.server import respond
from benchmarks.peers.returning import build, run
from broadcaster import Broadcast
from starlette.websockets import WebSocket

app = build(respond)
broadcast = Broadcast("memory://")
saying: set["asyncio.Task[None]"] = set()


async def say() -> None:
    async for event in workload.ticks(10):
        await broadcast.publish("room", json.dumps(event))


@app.websocket("/room")
async def room(socket: WebSocket) -> None:
    await socket.accept()
    if not saying:
        await broadcast.connect()
        saying.add(asyncio.create_task(say()))
    async with broadcast.subscribe("room") as subscriber:
        async for event in subscriber:
            await socket.send_text(event.message)


if __name__ == "__main__":
    run(app)
