"""An app as fal's documentation has them, with an endpoint of each of fal's realtime modes: bytes in, bytes out.

With its second import as `import fal` the real fal serves it.
"""

import asyncio
import json
import threading
from collections.abc import AsyncIterator, Iterator
from typing import Any

from fastapi import WebSocket
from pydantic import BaseModel

import streamapp.fal as fal


class Input(BaseModel):
    prompt: str
    image_bytes: bytes = b""
    seed: int | None = None

    def can_batch(self, other: "Input", current_size: int) -> bool:
        return other.prompt == self.prompt


class Output(BaseModel):
    images: list[dict[str, Any]] = []
    seed: int
    prompt: str


def turned(input: Input) -> Output:
    image = {"content": input.image_bytes[::-1], "content_type": "image/jpeg"}
    return Output(images=[image], seed=input.seed or 1, prompt=input.prompt)


def decoded(message: bytes) -> Any:
    return json.loads(message)


def encoded(output: Any) -> bytes:
    return json.dumps(output).encode()


class FalSessions(fal.App):
    machine_type = "GPU"

    def setup(self) -> None:
        self.holds, self.goes_on = threading.Semaphore(0), threading.Semaphore(0)

    @fal.endpoint("/")
    def generate(self, input: Input) -> Output:
        return Output(seed=input.seed or 1, prompt=input.prompt)

    @fal.realtime("/realtime", buffering=5)
    def draw(self, input: Input) -> Output:
        """Turn an image round."""
        return turned(input)

    @fal.realtime("/brief", buffering=5, session_timeout=1)
    def draw_briefly(self, input: Input) -> Output:
        if input.prompt == "raise":
            raise ValueError("a secret of the app's")
        return turned(input)

    @fal.realtime("/anything", session_timeout=1)
    def anything(self, given):  # type: ignore[no-untyped-def]
        return {"given": given}

    @fal.realtime("/several")
    def several(self, input: Input) -> Iterator[Output]:
        for seed in range(3):
            yield Output(seed=seed, prompt=input.prompt)

    @fal.realtime("/collected")
    async def collected(self, inputs: AsyncIterator[Input]) -> Output:
        prompts = []
        async for input in inputs:
            prompts.append(input.prompt)
            if input.seed:
                break
        return Output(seed=len(prompts), prompt=" ".join(prompts))

    @fal.realtime("/twice")
    async def twice(self, inputs: AsyncIterator[Input]) -> AsyncIterator[Output]:
        async for input in inputs:
            for seed in range(2):
                yield Output(seed=seed, prompt=input.prompt)
            if input.seed:
                return

    @fal.realtime("/batch", max_batch_size=3, input_modal=Input, session_timeout=1)
    def batch(self, *inputs: Input) -> Output:
        """Say how many came at once."""
        return Output(seed=len(inputs), prompt=inputs[0].prompt)

    @fal.realtime("/lines", decode_message=decoded, encode_message=encoded, session_timeout=1)
    def line(self, input: Input) -> Output:
        """Take and give JSON in binary messages."""
        return Output(seed=1, prompt=input.prompt)

    @fal.realtime("/held", buffering=5)
    def hold(self, input: Input) -> Output:
        self.holds.release()
        self.goes_on.acquire()
        return Output(seed=1, prompt=input.prompt)

    @fal.endpoint("/is_held")
    async def is_held(self) -> dict[str, bool]:
        """Wait until an input is held."""
        return {"is_held": await asyncio.to_thread(self.holds.acquire)}

    @fal.endpoint("/go_on")
    async def go_on(self) -> dict[str, str]:
        self.goes_on.release(9)
        return {}

    @fal.endpoint("/ws", is_websocket=True)
    async def echo(self, websocket: WebSocket) -> None:
        await websocket.accept()
        await websocket.send_text(await websocket.receive_text())
        await websocket.close()
