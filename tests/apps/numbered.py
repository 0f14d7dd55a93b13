"""An app whose events are numbered, so that a lost, doubled or moved one shows: `python numbered.py PORT`."""

import asyncio
import os
import resource
import sys
import threading
import time
from collections.abc import AsyncIterator, Iterator
from typing import Any

from fastapi import WebSocket
from starlette.responses import Response, StreamingResponse

import streamapp
from streamapp.errors import InvalidInput
from streamapp.serve.server import bind, serve


class Numbers(streamapp.App):
    capture_logs = True

    def setup(self) -> None:
        self.started = 0
        self.computed = 0
        self.room = streamapp.Room(history=0, outbox=64, presence=False)

    @streamapp.endpoint("/numbers")
    async def numbers(self, n: int, large: int = 0) -> AsyncIterator[Any]:
        """Emit `n` numbered events, each 20th of `large` characters; the numbers come in spurts."""
        self.started += 1
        for i in range(n):
            yield {"n": i, "text": "ä€🙂" * (large // 3 if i % 20 == 10 else 1)}
            if i % 10 == 9:
                await asyncio.sleep(0.005)

    @streamapp.endpoint("/steps")
    def steps(self, n: int = 3) -> Iterator[Any]:
        """Emit numbers from the inference thread, with a log line and a preview before each."""
        for i in range(n):
            sys.stdout.write(f"step {i}\n")
            yield streamapp.Preview({"step": i})
            yield i

    @streamapp.endpoint("/lines", media_type="application/x-ndjson")
    def lines(self, fails: bool = False) -> Iterator[Any]:
        """Emit two lines."""
        yield {"n": 1}
        yield "zwei\n"
        if fails:
            raise RuntimeError("no third line")

    @streamapp.endpoint("/text", media_type="text/plain")
    def text(self) -> Iterator[str]:
        """Emit text."""
        yield "Grüße "
        yield "🙂"

    @streamapp.endpoint("/echo")
    def echo(self, value: Any = None) -> Any:
        """Return what came."""
        self.started += 1
        return value

    @streamapp.endpoint("/given")
    def given(self, value: list[Any]) -> Iterator[Any]:
        """Emit what came, part by part."""
        yield from value

    @streamapp.endpoint("/own")
    def own(self, text: str = "x", status: int = 200) -> Response:
        """Answer in a way of its own, in two pieces."""
        return StreamingResponse(iter([f"{text},", text]), status, media_type="text/csv")

    @streamapp.endpoint("/sleep")
    async def sleep(self, seconds: float) -> str:
        """Answer late."""
        await asyncio.sleep(seconds)
        return "done"

    @streamapp.realtime("/doubled")
    async def doubled(self, n: int) -> int:
        """Answer each number with twice as much."""
        if n == 13:
            raise RuntimeError("not this one")
        return 2 * n

    @streamapp.realtime("/echoed")
    async def echoed(self, inputs: AsyncIterator[Any]) -> AsyncIterator[Any]:
        """Answer each input with itself, after a preview."""
        async for value in inputs:
            yield streamapp.Preview({"step": 1})
            yield value

    @streamapp.endpoint("/endless")
    def endless(self) -> Iterator[int]:
        """Compute a step each 10 ms until nobody wants more."""
        while True:
            time.sleep(0.01)
            self.computed += 1
            yield self.computed

    @streamapp.endpoint("/previews")
    async def previews(self, stream: streamapp.Stream, n: int = 1_000_000, interval_s: float = 0.05) -> None:
        """Emit previews of 27 kB with the time in them, and a lasting number after each."""
        for i in range(n):
            await stream.aemit(streamapp.Preview({"t": time.time(), "image": "x" * 27_000}))
            await stream.aemit({"n": i, "t": time.time()})
            await asyncio.sleep(interval_s)

    @streamapp.realtime("/turns")
    def turns(self, n: int, text: str = "") -> dict[str, Any]:
        """Answer each input from the inference thread."""
        return {"n": n, "text": text}

    @streamapp.realtime("/both")
    async def both(self, inputs: AsyncIterator[Any]) -> AsyncIterator[Any]:
        """Answer each input on the loop, with a preview before."""
        async for given in inputs:
            yield streamapp.Preview({"of": given["n"]})
            yield given

    @streamapp.endpoint("/block")
    def block(self) -> None:
        """Block where nothing can wake it."""
        threading.Lock().acquire(timeout=3600) and threading.Event().wait(3600)

    @streamapp.endpoint("/usage")
    async def usage(self) -> dict[str, int]:
        """Tell what the process holds."""
        with open("/proc/self/statm") as file:  # noqa: ASYNC230 - no disk is behind it
            pages = int(file.read().split()[1])
        return {
            "steps": self.computed,
            "threads": threading.active_count(),
            "tasks": len(asyncio.all_tasks()),
            "descriptors": len(os.listdir("/proc/self/fd")),
            "resident_kb": pages * resource.getpagesize() // 1000,
        }

    @streamapp.realtime("/answers")
    def answers(self, n: int, large: int = 0) -> Any:
        """Return the number that came, and every twentieth time much of text, too; of 13 nothing but an error."""
        if n == 13:
            raise InvalidInput("there is no such number")
        return {"n": n, "text": "ä€🙂" * (large // 3 if n % 20 == 10 else 1)}

    @streamapp.realtime("/tally")
    async def tally(self, inputs: AsyncIterator[int]) -> AsyncIterator[Any]:
        """Return two outputs for each input, numbered over all, with the input and how many came before it."""
        self.started += 1
        came = 0
        async for n in inputs:
            for half in range(2):
                yield {"n": 2 * came + half, "input": n, "came": came, "text": "ä€🙂" * (200 if n % 20 == 10 else 1)}
            came += 1

    @streamapp.websocket("/room")
    async def members(self, socket: WebSocket) -> None:
        """Hear what is said."""
        async with self.room.join(socket) as member:
            async for _ in member:
                pass

    @streamapp.endpoint("/say")
    async def say(self, n: int, interval_s: float) -> None:
        """Say numbered messages of 4 kB in the room, with the time in them."""
        for i in range(n):
            self.room.broadcast({"i": i, "t": time.monotonic(), "text": "x" * 4000})
            await asyncio.sleep(interval_s)

    @streamapp.endpoint("/count")
    async def count(self) -> int:
        """Tell how many streams, and echoes, were started."""
        return self.started


if __name__ == "__main__":
    sys.exit(serve(streamapp.compile_app(Numbers), bind("127.0.0.1", int(sys.argv[1])), log_level="error"))
