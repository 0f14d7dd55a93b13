"""Say what every server does, whatever it is built with: the same payloads, paces and work, made by this code alone.

Only the standard library is imported, since each peer has an environment of its own.
"""

import asyncio
import base64
import hashlib
import itertools
import mmap
import os
import random
import struct
import threading
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

Payload = dict[str, Any]

# As large as a 512 x 512 JPEG of quality 70; 27 kB when written as a data URI.
JPEG = random.Random(0).randbytes(20_000)
_STEPS_FILE = "BENCHMARK_STEPS"
#: the language model's folder, and by which name it is asked for
LANGUAGE_MODEL = "benchmarks/.venvs/llm-model"


def item(i: int) -> Payload:
    """Make a small event."""
    return {"i": i}


def timed(i: int) -> Payload:
    """Make a small event that says when it was made, by the clock that all processes of a machine share."""
    return {"i": i, "t": time.monotonic()}


def preview(i: int) -> Payload:
    """Make a preview of 27 kB, as the applications do: JPEG as base64."""
    url = "data:image/jpeg;base64," + base64.b64encode(JPEG).decode()
    return preview_of(i, {"url": url, "content_type": "image/jpeg"})


def preview_of(i: int, image: Any) -> Payload:
    """Make a preview of an image that is in the framework's own form."""
    return {"i": i, "t": time.monotonic(), "image": image}


async def count(n: int) -> AsyncIterator[Payload]:
    """Make small events as fast as they are taken."""
    for i in range(n):
        yield item(i)


async def previews(n: int) -> AsyncIterator[Payload]:
    """Make previews as fast as they are taken."""
    for i in range(n):
        yield preview(i)


async def ticks(hz: float) -> AsyncIterator[Payload]:
    """Make small events at a pace, for ever; a late one does not delay the next."""
    started = time.monotonic()
    for i in itertools.count():
        yield timed(i)
        await asyncio.sleep(started + (i + 1) / hz - time.monotonic())


async def flood(hz: float) -> AsyncIterator[Payload]:
    """Make previews at a pace, for ever."""
    async for tick in ticks(hz):
        yield preview(tick["i"])


async def idle() -> AsyncIterator[Payload]:
    """Make one event, then wait for ever."""
    yield item(0)
    await asyncio.Event().wait()


def prompt(user: int) -> str:
    """Return what a user asks a language model: 16 to 48 of its words."""
    return " ".join(f"w{(7 * user + 3 * word) % 2000 + 1}" for word in range(16 + user % 5 * 8))


def asking(path: str, user: int, n: int) -> Payload:
    """Return the body by which a user asks for `n` tokens at a path; where there is no network, by which `user` ask."""
    match path:
        case "/alone":
            return {"users": user + 1, "count": n}
        case "/stream":
            return {"prompt": prompt(user), "max_tokens": n}
        case _:
            messages = [{"role": "user", "content": prompt(user)}]
            return {"model": LANGUAGE_MODEL, "messages": messages, "max_tokens": n, "temperature": 0, "stream": True}


class Steps:
    """Count the steps that a model has computed, where the load client can read it: in a shared file."""

    def __init__(self, path: Path) -> None:
        with path.open("r+b") as file:
            self._map = mmap.mmap(file.fileno(), 8)

    @classmethod
    def of_server(cls) -> "Steps":
        """Open the counter that the benchmark handed to this server."""
        return cls(Path(os.environ[_STEPS_FILE]))

    @property
    def count(self) -> int:
        """Return how many steps were computed."""
        return int(struct.unpack_from("<Q", self._map)[0])

    def add(self) -> None:
        """Count one more; under the device's lock."""
        struct.pack_into("<Q", self._map, 0, self.count + 1)


class Model:
    """Stand for a model on the one device: a step blocks its thread without the GIL, and steps run one at a time."""

    def __init__(self) -> None:
        self._steps = Steps.of_server()
        self._device = threading.Lock()

    def sleep(self, n: int, step_s: float) -> Iterator[Payload]:
        """Compute steps that take a time, as a kernel on a GPU does."""
        for i in range(n):
            with self._device:
                time.sleep(step_s)
                self._steps.add()
            yield item(i)

    def work(self, n: int, rounds: int) -> Iterator[Payload]:
        """Compute steps of a fixed amount of work on the CPU, and a little Python as pipelines have between kernels."""
        for i in range(n):
            with self._device:
                hashlib.pbkdf2_hmac("sha256", b"step", b"latents", rounds)
                sum(range(2000))
                self._steps.add()
            yield item(i)
