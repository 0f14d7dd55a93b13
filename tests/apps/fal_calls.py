"""An app that the stock clients of fal call: each kind of endpoint once, and a gate that holds the slow one."""

import threading
from collections.abc import Generator, Iterator
from typing import Any

import PIL.Image
from fastapi import HTTPException

import streamapp


class Counter(streamapp.App):
    """What the README begins with."""

    @streamapp.endpoint("/stream")
    def stream(self, steps: int = 5) -> Iterator[dict[str, int]]:
        """Count."""
        for step in range(1, steps + 1):
            yield {"count": step}


class FalCalls(streamapp.App):
    def setup(self) -> None:
        self.gate = threading.Event()
        self.refusals = 0

    @streamapp.endpoint("/")
    def add(self, a: int, b: int) -> dict[str, int]:
        """Answer once."""
        return {"sum": a + b}

    @streamapp.endpoint("/stream")
    def stream(self, steps: int = 5) -> Generator[dict[str, Any], None, dict[str, int]]:
        """Emit `steps` events, and a result."""
        for step in range(1, steps + 1):
            yield {"step": step}
        return {"steps": steps}

    @streamapp.endpoint("/endless")
    def endless(self, stream: streamapp.Stream) -> None:
        """Emit an event whenever the reader has room, until nobody reads."""
        step = 0
        while True:
            step += 1
            stream.emit({"step": step})

    @streamapp.endpoint("/fails")
    def fails(self) -> None:
        """Raise, where a traceback would tell too much."""
        raise RuntimeError("a secret of the app's")

    @streamapp.endpoint("/stream_fails")
    def stream_fails(self) -> Iterator[dict[str, int]]:
        """Emit an event, then raise."""
        yield {"step": 1}
        raise RuntimeError("a secret of the app's")

    @streamapp.endpoint("/slow")
    def slow(self, stream: streamapp.Stream) -> dict[str, str]:
        """Log, wait for the gate to be opened, log and answer."""
        self.gate.clear()
        stream.log("before the gate")
        while not self.gate.wait(0.01):
            stream.check()
        stream.log("behind the gate")
        return {"status": "done"}

    @streamapp.endpoint("/open")
    async def open(self) -> None:
        """Open the gate for the job that waits there."""
        self.gate.set()

    @streamapp.endpoint("/refuses")
    async def refuses(self, times: int) -> dict[str, int]:
        """Answer 429 that many times, then say how often it was."""
        if self.refusals < times:
            self.refusals += 1
            raise HTTPException(429, "come again")
        refused, self.refusals = self.refusals, 0
        return {"refused": refused}

    @streamapp.endpoint("/draw")
    def draw(self) -> dict[str, Any]:
        """Answer with an image."""
        return {"images": [PIL.Image.new("RGB", (30, 20), "red")]}

    @streamapp.endpoint("/draw/stream")
    def draw_stream(self, stream: streamapp.Stream) -> Iterator[dict[str, Any]]:
        """Show a preview, then an image."""
        stream.preview({"images": [PIL.Image.new("RGB", (3, 2), "red")]})
        yield self.draw()

    @streamapp.endpoint("/size")
    def size(self, image_url: streamapp.Image) -> dict[str, int]:
        """Return the size of an image."""
        return {"width": image_url.width, "height": image_url.height}
