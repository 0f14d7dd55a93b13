"""An app whose every step waits to be let through, so that tests know exactly how far it is.

Run as a script it serves itself: `python gated.py PORT [middleware]`.
"""

import asyncio
import importlib
import itertools
import sys
import threading
import time
from collections.abc import AsyncIterator, Iterator
from typing import Any

from starlette.middleware.base import BaseHTTPMiddleware, RequestResponseEndpoint
from starlette.requests import Request
from starlette.responses import Response

import streamapp
from streamapp.serve.server import bind, serve


class Gated(streamapp.App):
    def setup(self) -> None:
        self.gate = threading.Semaphore(0)
        self.steps = 0

    @streamapp.endpoint("/stream")
    def stream(self, steps: int, fails_at: int = 0) -> Iterator[dict[str, int]]:
        """Compute `steps` steps, each after `/open` let it through; fail in step `fails_at`."""
        for step in range(1, steps + 1):
            self.gate.acquire()
            self.steps += 1
            if step == fails_at:
                raise RuntimeError("the step failed")
            yield {"step": step}

    @streamapp.endpoint("/open")
    async def open(self, steps: int = 1) -> dict[str, int]:
        """Let steps through; tell how many were computed before."""
        computed = self.steps
        self.gate.release(steps)
        return {"computed": computed}

    @streamapp.endpoint("/computed")
    async def computed(self) -> dict[str, int]:
        """Tell how many steps were computed."""
        return {"computed": self.steps}

    @streamapp.endpoint("/stuck")
    def stuck(self) -> None:
        """Sleep where nothing can wake it."""
        time.sleep(60)

    @streamapp.endpoint("/pool")
    async def pool(self) -> None:
        """Leave a pool thread behind that does not end either."""
        await asyncio.to_thread(time.sleep, 60)

    @streamapp.endpoint("/ticks")
    async def ticks(self, interval_s: float = 0.05) -> AsyncIterator[dict[str, int]]:
        """Emit for ever."""
        for tick in itertools.count():
            yield {"tick": tick}
            await asyncio.sleep(interval_s)

    @streamapp.endpoint("/work")
    def work(self, step_s: float = 0.02) -> Iterator[dict[str, int]]:
        """Compute for ever."""
        for step in itertools.count():
            time.sleep(step_s)
            yield {"step": step}

    @streamapp.endpoint("/foreign")
    async def foreign(self, ticks: int) -> Response:
        """Return a response of sse-starlette's, which nobody has imported before."""
        responses = importlib.import_module("sse_starlette")

        async def tick() -> AsyncIterator[str]:
            for n in range(ticks):
                yield f"tick {n}"
                await asyncio.sleep(0.05)

        response: Response = responses.EventSourceResponse(tick())
        return response

    @streamapp.endpoint("/flood")
    async def flood(self, stream: streamapp.Stream) -> None:
        """Emit previews of 32 KB for ever, faster than anybody reads."""
        for step in itertools.count(1):
            await stream.aemit(streamapp.Preview({"noise": "x" * 32_768}, step=step))
            await asyncio.sleep(0.002)


class Passing(BaseHTTPMiddleware):
    async def dispatch(self, request: Request, call_next: RequestResponseEndpoint) -> Response:
        return await call_next(request)


def main(port: str, *options: str) -> int:
    app: Any = streamapp.compile_app(Gated)
    if "middleware" in options:
        app.add_middleware(Passing)
    return serve(app, bind("127.0.0.1", int(port)))


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
