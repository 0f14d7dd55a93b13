"""Calls of Runpod's own asyncio client, for its own interpreter: all at once.

Prints `{name: what came of it}`; what it raised as `{"raised": its class, "text": ...}`.
"""

import asyncio
import json
import os
import sys
from collections.abc import Awaitable, Callable
from typing import Any

import aiohttp
import runpod

runpod.api_key = os.environ["RUNPOD_KEY"]
PATIENCE_S = 100
CALLS: dict[str, Callable[[Any], Awaitable[Any]]] = {}


def call(function: Callable[[Any], Awaitable[Any]]) -> Callable[[Any], Awaitable[Any]]:
    """Have a function called, with what makes an endpoint of an id."""
    return CALLS.setdefault(function.__name__, function)


@call
async def stream(endpoint: Any) -> Any:
    job = await endpoint("runpod_items").run({"items": 4})
    items = [item async for item in job.stream()]
    return [items, await job.status(), await job.output(PATIENCE_S)]


@call
async def output(endpoint: Any) -> Any:
    job = await endpoint("runpod_answers").run({"answer": {"a": 1}})
    return await job.output(PATIENCE_S)


@call
async def raises(endpoint: Any) -> Any:
    job = await endpoint("runpod_tokens").run({"tokens": 1, "raises": "a plain reason"})
    items = [item async for item in job.stream()]
    return [len(items), await job.status(), await job.output(PATIENCE_S)]


@call
async def cancelled(endpoint: Any) -> Any:
    job = await endpoint("runpod_tokens").run({"tokens": 1, "until": "/nowhere", "cancelled": os.devnull})
    items: list[Any] = []
    told: list[Any] = []
    async for item in job.stream():
        items.append(item["token"] if "token" in item else None)
        told = told or [await job.cancel()]
    return [told[0]["status"], items[0]]


@call
async def health(endpoint: Any) -> Any:
    return await endpoint("runpod_items").health()


@call
async def purge_queue(endpoint: Any) -> Any:
    return await endpoint("fal-calls--slow").purge_queue()


@call
async def wrong_key(endpoint: Any) -> Any:
    """The client looks for an id in whatever is answered."""
    return await endpoint("runpod_items", "another").run({"items": 1})


@call
async def unknown_job(endpoint: Any) -> Any:
    """The client looks for a status in whatever is answered."""
    job = await endpoint("runpod_items").run({"items": 0})
    job.job_id = "11111111-1111-4111-8111-111111111111-u1"
    return await job.status()


async def outcome(function: Callable[[Any], Awaitable[Any]], endpoint: Any) -> Any:
    try:
        return await function(endpoint)
    except Exception as error:  # whatever the client raises is what is tested
        return {"raised": type(error).__name__, "text": str(error)}


async def main() -> None:
    async with aiohttp.ClientSession() as session:

        def endpoint(endpoint_id: str, key: str | None = None) -> Any:
            return runpod.AsyncioEndpoint(endpoint_id, session, key)

        outcomes = await asyncio.gather(*(outcome(function, endpoint) for function in CALLS.values()))
    sys.stdout.write(json.dumps(dict(zip(CALLS, outcomes, strict=True)), default=str))


if __name__ == "__main__":
    asyncio.run(main())
