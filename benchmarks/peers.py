"""Serve the same stream in several ways: `python benchmarks/peers.py NAME PORT`.

`GET /stream?n=...` sends n events `{"i": 0}`, `{"i": 1}`, ...; `GET /idle` sends one event and then nothing.
"""

import asyncio
import json
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import uvicorn
from fastapi import FastAPI
from fastapi.sse import EventSourceResponse as NativeResponse
from sse_starlette import EventSourceResponse
from starlette.responses import StreamingResponse

import streamapp.settings
from streamapp.server import bind, serve


class Ours(streamapp.App):
    @streamapp.endpoint("/stream")
    def stream(self, n: int) -> Iterator[dict[str, int]]:
        for i in range(n):
            yield {"i": i}

    @streamapp.endpoint("/idle")
    async def idle(self) -> AsyncIterator[dict[str, int]]:
        yield {"i": 0}
        await asyncio.Event().wait()


async def count(n: int) -> AsyncIterator[dict[str, int]]:
    for i in range(n):
        yield {"i": i}


async def once() -> AsyncIterator[dict[str, int]]:
    yield {"i": 0}
    await asyncio.Event().wait()


def native() -> FastAPI:
    app = FastAPI()

    @app.get("/stream", response_class=NativeResponse)
    async def stream(n: int) -> AsyncIterator[dict[str, int]]:
        async for item in count(n):
            yield item

    @app.get("/idle", response_class=NativeResponse)
    async def idle() -> AsyncIterator[dict[str, int]]:
        async for item in once():
            yield item

    return app


def sse_starlette() -> FastAPI:
    return _returning(lambda items: EventSourceResponse({"data": json.dumps(item)} async for item in items))


def raw() -> FastAPI:
    return _returning(
        lambda items: StreamingResponse(
            (f"data: {json.dumps(item)}\n\n" async for item in items), media_type="text/event-stream"
        )
    )


def _returning(respond: Callable[[AsyncIterator[dict[str, int]]], Any]) -> FastAPI:
    app = FastAPI()

    @app.get("/stream")
    async def stream(n: int) -> Any:
        return respond(count(n))

    @app.get("/idle")
    async def idle() -> Any:
        return respond(once())

    return app


PEERS = {"fastapi": native, "sse-starlette": sse_starlette, "raw": raw}


def main(name: str, port: str) -> int:
    if name == "streamapp":
        settings = streamapp.settings.Settings(max_async_jobs=100_000)
        return serve(streamapp.compile_app(Ours, settings=settings), bind("127.0.0.1", int(port)), log_level="error")
    uvicorn.run(PEERS[name](), host="127.0.0.1", port=int(port), log_level="error", access_log=False)
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
