"""Do what a client does, and print what came of it: `python calls.py URL CUT KEY`, CUT leads to URL by a bad network.

It runs with the client of any version, so it uses what the first one had; calls.mjs does the same in JavaScript.
"""

import asyncio
import json
import sys
from collections.abc import Callable, Iterable
from typing import Any

import streamapp_client
from streamapp_client import ApiError, AsyncClient, Client, Event


def told(events: Iterable[Event]) -> list[list[Any]]:
    """Return names and data, without the time of day."""
    return [[event.name, _without_time(event.data)] for event in events]


def _without_time(data: Any) -> Any:
    return {name: data[name] for name in data if name != "timestamp"} if isinstance(data, dict) else data


def code_of(call: Callable[[], Any]) -> str:
    """Return the code of the error that a call ends with."""
    try:
        call()
    except ApiError as error:
        return error.code
    return "none"


async def asynchronously(url: str, key: str) -> list[Any]:
    """Return the outputs of a stream, and of a session."""
    async with AsyncClient(url, key) as client:
        outputs = [event.data async for event in await client.stream("/stream", {"steps": 2}) if event.name == "output"]
        async with client.connect("/doubled") as session:
            await session.send({"x": 1})
            return [*outputs, await session.recv()]


def calls(client: Client, cut: Client, stranger: Client) -> dict[str, Any]:
    """Call all that a client is made for."""
    stream = client.stream("/stream", {"steps": 2})
    events = told(stream)
    resumed = cut.stream("/stream", {"steps": 200})
    counts = [event.data["count"] for event in resumed if event.name == "output"]
    job = client.submit("/stream", {"steps": 2})
    endless = client.submit("/endless", {})
    endless.cancel()
    with client.connect("/doubled") as session:
        session.send({"x": 1})
        doubled = session.recv()
        session.send({"x": 13})
        refused = code_of(session.recv)
        session.send({"x": 3})
        last = session.done()
    return {
        "stream": events,
        "result": stream.result,
        "resumed": counts == [*range(200)] and resumed.reconnects > 0,
        "value": client.run("/value", {"x": 2}),
        "job": [job.result(timeout_s=60), job.status().status, [event.name for event in job.events()]],
        "session": [doubled, refused, last],
        "errors": [
            code_of(lambda: client.run("/value", {"x": "no"})),
            code_of(lambda: client.run("/nothing", {})),
            code_of(lambda: stranger.run("/value", {"x": 2})),
            code_of(lambda: client.run("/value", {"x": 13})),
            code_of(lambda: told(client.stream("/stream", {"steps": 1, "fails": True}))),
            code_of(lambda: endless.result(timeout_s=60)),
        ],
    }


def main(url: str, cut: str, key: str) -> None:
    """Print what came of it, and which client it was."""
    came = calls(Client(url, key), Client(cut, key), Client(url, "another"))
    came["asynchronous"] = asyncio.run(asynchronously(url, key))
    json.dump({"client": streamapp_client.__file__, **came}, sys.stdout)


if __name__ == "__main__":
    main(*sys.argv[1:])
