"""The workload as FastAPI's own server-sent events."""

from collections.abc import AsyncIterable, Iterable
from typing import Annotated

from benchmarks import workload
from benchmarks.peers.returning import run
from benchmarks.workload import Payload
from fastapi import Body, FastAPI
from fastapi.sse import EventSourceResponse

app = FastAPI()
model = workload.Model()


@app.post("/count", response_class=EventSourceResponse)
async def count(n: Annotated[int, Body(embed=True)]) -> AsyncIterable[Payload]:
    async for event in workload.count(n):
        yield event


@app.post("/previews", response_class=EventSourceResponse)
async def previews(n: Annotated[int, Body(embed=True)]) -> AsyncIterable[Payload]:
    async for event in workload.previews(n):
        yield event


@app.post("/ticks", response_class=EventSourceResponse)
async def ticks(hz: Annotated[float, Body(embed=True)]) -> AsyncIterable[Payload]:
    async for event in workload.ticks(hz):
        yield event


@app.post("/flood", response_class=EventSourceResponse)
async def flood(hz: Annotated[float, Body(embed=True)]) -> AsyncIterable[Payload]:
    async for event in workload.flood(hz):
        yield event


@app.post("/idle", response_class=EventSourceResponse)
async def idle() -> AsyncIterable[Payload]:
    async for event in workload.idle():
        yield event


@app.post("/sleep", response_class=EventSourceResponse)
def sleep(n: Annotated[int, Body()], step_s: Annotated[float, Body()]) -> Iterable[Payload]:
    yield from model.sleep(n, step_s)


@app.post("/work", response_class=EventSourceResponse)
def work(n: Annotated[int, Body()], rounds: Annotated[int, Body()]) -> Iterable[Payload]:
    yield from model.work(n, rounds)


if __name__ == "__main__":
    run(app)
