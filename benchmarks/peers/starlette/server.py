"""Rooms and sessions as the documentation of Starlette writes them, beside the workload of "raw"."""

import asyncio
import json
from typing import Any

from benchmarks import workload
from benchmarks.peers.raw.server import respond
from benchmarks.peers.returning import build, run
from starlette.concurrency import run_in_threadpool
from starlette.websockets import WebSocket, WebSocketDisconnect

app = build(respond)
members: list[WebSocket] = []
saying: set["asyncio.Task[None]"] = set()


async def say() -> None:
    async for event in workload.ticks(10):
        text = json.dumps(event)
        for member in members:
            await member.send_text(text)


@app.websocket("/room")
async def room(socket: WebSocket) -> None:
    await socket.accept()
    members.append(socket)
    if not saying:
        saying.add(asyncio.create_task(say()))
    try:
        while True:
            await socket.receive_text()
    except WebSocketDisconnect:
        pass
    finally:
        members.remove(socket)


@app.websocket("/echo-async")
async def echo_async(socket: WebSocket) -> None:
    await socket.accept()
    try:
        while True:
            await socket.send_json(workload.item((await socket.receive_json())["i"]))
    except WebSocketDisconnect:
        pass


@app.websocket("/echo-sync")
async def echo_sync(socket: WebSocket) -> None:
    await socket.accept()
    try:
        while True:
            given: dict[str, Any] = await socket.receive_json()
            await socket.send_json(await run_in_threadpool(workload.item, given["i"]))
    except WebSocketDisconnect:
        pass


if __name__ == "__main__":
    run(app)
