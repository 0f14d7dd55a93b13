"""An async generator of Runpod's kind, several at a time; it says who runs it, and makes a file when cancelled."""

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import runpod


def must_wait(until: str | None) -> bool:
    return until is not None and not Path(until).exists()


def tell(path: str) -> None:
    Path(path).touch()


async def tokens(job: dict[str, Any]) -> AsyncIterator[Any]:
    """Yield tokens, wait until a file is there, then raise or end."""
    asked = job["input"]
    try:
        for number in range(asked.get("tokens", 3)):
            yield {"token": number, "worker": os.environ.get("RUNPOD_POD_ID"), "pid": os.getpid()}
            await asyncio.sleep(0)
        while must_wait(asked.get("until")):
            await asyncio.sleep(0.01)
            yield {"waits": True}
        if "raises" in asked:
            raise ValueError(asked["raises"])
    except asyncio.CancelledError:
        tell(asked["cancelled"])
        raise


if __name__ == "__main__":
    runpod.serverless.start(
        {"handler": tokens, "concurrency_modifier": lambda current: int(os.environ.get("CONCURRENCY", "4"))}
    )
