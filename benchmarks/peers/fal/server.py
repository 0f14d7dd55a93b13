"""The workload in the way of fal's streaming example: a thread, an unbounded queue, a generator that takes from it."""

import asyncio
import json
import threading
from collections.abc import AsyncIterator, Iterator
from queue import Queue

from benchmarks.peers.returning import build, run
from benchmarks.workload import Payload
from starlette.responses import StreamingResponse


def respond(events: AsyncIterator[Payload] | Iterator[Payload]) -> StreamingResponse:
    event_queue: Queue[Payload | None] = Queue()

    async def put_all(events: AsyncIterator[Payload]) -> None:
        async for event in events:
            event_queue.put(event)

    def run_pipeline() -> None:
        if isinstance(events, AsyncIterator):
            asyncio.run(put_all(events))
        else:
            for event in events:
                event_queue.put(event)
        event_queue.put(None)

    def event_stream() -> Iterator[str]:
        thread = threading.Thread(target=run_pipeline)
        thread.start()
        while (event := event_queue.get()) is not None:
            yield f"data: {json.dumps(event)}\n\n"
        thread.join()

    return StreamingResponse(event_stream(), media_type="text/event-stream")


if __name__ == "__main__":
    run(build(respond))
