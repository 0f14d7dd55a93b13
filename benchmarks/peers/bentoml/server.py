"""The workload as a BentoML service; `bentoml serve` runs it. Its endpoints frame their events themselves."""

import json
from collections.abc import AsyncGenerator, Generator

import bentoml
from benchmarks import workload
from benchmarks.workload import Payload

Frames = AsyncGenerator[str, None]
BlockingFrames = Generator[str, None, None]


def frame(event: Payload) -> str:
    return f"data: {json.dumps(event)}\n\n"


@bentoml.service(
    workers=1,
    traffic={"timeout": 600},
    logging={"access": {"enabled": False}},
)
class Workload:
    def __init__(self) -> None:
        self.model = workload.Model()

    @bentoml.api(route="/count")
    async def count(self, n: int) -> Frames:
        async for event in workload.count(n):
            yield frame(event)

    @bentoml.api(route="/previews")
    async def previews(self, n: int) -> Frames:
        async for event in workload.previews(n):
            yield frame(event)

    @bentoml.api(route="/ticks")
    async def ticks(self, hz: float) -> Frames:
        async for event in workload.ticks(hz):
            yield frame(event)

    @bentoml.api(route="/flood")
    async def flood(self, hz: float) -> Frames:
        async for event in workload.flood(hz):
            yield frame(event)

    @bentoml.api(route="/idle")
    async def idle(self) -> Frames:
        async for event in workload.idle():
            yield frame(event)

    @bentoml.api(route="/sleep")
    def sleep(self, n: int, step_s: float) -> BlockingFrames:
        yield from map(frame, self.model.sleep(n, step_s))

    @bentoml.api(route="/work")
    def work(self, n: int, rounds: int) -> BlockingFrames:
        yield from map(frame, self.model.work(n, rounds))
