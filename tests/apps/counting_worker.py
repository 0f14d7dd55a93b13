"""A worker of Runpod's: `python counting_worker.py KIND`, in an environment that has the real package `runpod`.

A job's input names a file of its own. Each run of the job holds a lock on it, which ends with the process however that
ends, and adds a line when it begins and one when it ends: runs are counted, and two at a time are found.
"""

import asyncio
import fcntl
import os
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import runpod  # type: ignore[import-not-found, unused-ignore]

Job = dict[str, Any]


@contextmanager
def running(job: Job) -> Iterator[Job]:
    """Hold the job's lock; where another run has it, say so in a file beside."""
    input: Job = job["input"]
    with open(input["file"], "a", buffering=1) as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            Path(input["file"] + ".twice").touch()
            raise
        file.write(f"{os.getpid()} begin\n")
        try:
            yield input
        finally:
            file.write(f"{os.getpid()} end\n")


def generator(job: Job) -> Iterator[Job]:
    """Block the worker's loop, as most handlers do."""
    with running(job) as input:
        for i in range(input["n"]):
            time.sleep(input["pause_s"])
            yield {"n": i}


async def async_generator(job: Job) -> AsyncIterator[Job]:
    with running(job) as input:
        for i in range(input["n"]):
            await asyncio.sleep(input["pause_s"])
            yield {"n": i}


def function(job: Job) -> Job:
    with running(job) as input:
        time.sleep(input["n"] * input["pause_s"])
        return {"n": input["n"]}


async def coroutine(job: Job) -> Job:
    with running(job) as input:
        await asyncio.sleep(input["n"] * input["pause_s"])
        return {"n": input["n"]}


HANDLERS = {handler.__name__: handler for handler in (generator, async_generator, function, coroutine)}

if __name__ == "__main__":
    config: Job = {"handler": HANDLERS[sys.argv[1]], "return_aggregate_stream": True}
    if sys.argv[1] in ("async_generator", "coroutine"):
        config["concurrency_modifier"] = lambda current: 2
    runpod.serverless.start(config)
