"""Serve the workload with a response class that takes a generator: what the small peers have in common."""

import sys
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Annotated, Any

import uvicorn
from benchmarks import workload
from benchmarks.workload import Payload
from fastapi import Body, FastAPI

Respond = Callable[[AsyncIterator[Payload] | Iterator[Payload]], Any]


def build(respond: Respond) -> FastAPI:
    """Return an app whose routes answer with `respond(generator)`; blocking work comes as a plain generator."""
    app = FastAPI()
    model = workload.Model()

    @app.post("/count")
    async def count(n: Annotated[int, Body(embed=True)]) -> Any:
        return respond(workload.count(n))

    @app.post("/previews")
    async def previews(n: Annotated[int, Body(embed=True)]) -> Any:
        return respond(workload.previews(n))

    @app.post("/ticks")
    async def ticks(hz: Annotated[float, Body(embed=True)]) -> Any:
        return respond(workload.ticks(hz))

    @app.post("/flood")
    async def flood(hz: Annotated[float, Body(embed=True)]) -> Any:
        return respond(workload.flood(hz))

    @app.post("/idle")
    async def idle() -> Any:
        return respond(workload.idle())

    @app.post("/sleep")
    def sleep(n: Annotated[int, Body()], step_s: Annotated[float, Body()]) -> Any:
        return respond(model.sleep(n, step_s))

    @app.post("/work")
    def work(n: Annotated[int, Body()], rounds: Annotated[int, Body()]) -> Any:
        return respond(model.work(n, rounds))

    return app


def run(app: FastAPI) -> None:
    """Serve on the port that the command line names."""
    port = int(sys.argv[1])
    uvicorn.run(app, port=port, log_level="error", access_log=False, timeout_graceful_shutdown=2)
