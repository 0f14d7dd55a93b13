"""The workload through sse-starlette."""

import json
from collections.abc import AsyncIterator, Iterator

from benchmarks.peers.returning import build, run
from benchmarks.workload import Payload
from sse_starlette import EventSourceResponse


def respond(events: AsyncIterator[Payload] | Iterator[Payload]) -> EventSourceResponse:
    if isinstance(events, AsyncIterator):
        return EventSourceResponse({"data": json.dumps(event)} async for event in events)
    return EventSourceResponse({"data": json.dumps(event)} for event in events)


if __name__ == "__main__":
    run(build(respond))
