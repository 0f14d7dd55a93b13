"""The workload on LitServe, written as its own streaming benchmark is: `predict` yields, `encode_response` passes on.

Blocking work is one API, what many streams do at once an asynchronous one, each with its worker process.
"""

import sys
from collections.abc import AsyncIterator, Iterator
from typing import Any

import litserve
from benchmarks import workload
from benchmarks.workload import Payload


class Blocking(litserve.LitAPI):
    def setup(self, device: str) -> None:
        self.model = workload.Model()

    def decode_request(self, request: dict[str, Any]) -> dict[str, Any]:
        return request

    def predict(self, x: dict[str, Any]) -> Iterator[Payload]:
        match x.pop("path"):
            case "count":
                yield from map(workload.item, range(x["n"]))
            case "previews":
                yield from map(workload.preview, range(x["n"]))
            case "sleep":
                yield from self.model.sleep(**x)
            case "work":
                yield from self.model.work(**x)

    def encode_response(self, output: Iterator[Payload]) -> Any:  # LitServe makes a response model of what stands here
        yield from output


class Asynchronous(litserve.LitAPI):
    def setup(self, device: str) -> None:
        self.streams = {"ticks": workload.ticks, "flood": workload.flood, "idle": workload.idle}

    async def decode_request(self, request: dict[str, Any]) -> dict[str, Any]:
        return request

    async def predict(self, x: dict[str, Any]) -> AsyncIterator[Payload]:
        async for event in self.streams[x.pop("path")](**x):
            yield event

    async def encode_response(self, output: AsyncIterator[Payload]) -> Any:
        async for event in output:
            yield event


if __name__ == "__main__":
    server = litserve.LitServer(
        [
            Blocking(stream=True, api_path="/blocking"),
            Asynchronous(stream=True, enable_async=True, api_path="/asynchronous"),
        ],
        accelerator="cpu",
        timeout=False,
    )
    server.run(
        "127.0.0.1",
        int(sys.argv[1]),
        log_level="error",
        access_log=False,
        generate_client_file=False,
    )
