"""The workload framed by hand in Starlette's `StreamingResponse`."""

import json
from collections.abc import AsyncIterator, Iterator

from benchmarks.peers.returning import build, run
from benchmarks.workload import Payload
from starlette.responses import StreamingResponse


def frame(event: Payload) -> str:
    return f"data: {json.dumps(event)}\n\n"


def respond(events: AsyncIterator[Payload] | Iterator[Payload]) -> StreamingResponse:
    if isinstance(events, AsyncIterator):
        return StreamingResponse((frame(event) async for event in events), media_type="text/event-stream")
    return StreamingResponse((frame(event) for event in events), media_type="text/event-stream")


if __name__ == "__main__":
    run(build(respond))
