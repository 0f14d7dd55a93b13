"""What is recorded of each version, and what one version's clients call at another's server.

The servers of all versions run it as it is, so it uses what the first one had. A change here changes what was recorded.
"""

from collections.abc import Iterator
from typing import Any

from pydantic import BaseModel, Field

import streamapp


class CountInput(BaseModel):
    steps: int = Field(3, ge=1, le=1000)
    fails: bool = False


class Counter(streamapp.App):
    """Count."""

    @streamapp.endpoint("/stream")
    def stream(self, input: CountInput, stream: streamapp.Stream) -> Iterator[Any]:
        """Count, behind one event of each other kind."""
        stream.preview({"image": {"url": "data:image/png;base64,"}}, step=1, total=input.steps)
        stream.progress(1, input.steps, "counting")
        stream.log("begun")
        yield streamapp.Output({"steps": input.steps}, event="plan")
        for step in range(input.steps):
            yield {"count": step, "text": "ä€🙂"}
        if input.fails:
            raise RuntimeError("no more")

    @streamapp.endpoint("/value")
    def value(self, x: int) -> dict[str, int]:
        """Return twice as much, but of 13."""
        if x == 13:
            raise RuntimeError("not this one")
        return {"doubled": 2 * x}

    @streamapp.endpoint("/text")
    def text(self) -> Iterator[str]:
        """Emit text."""
        yield "Grüße "
        yield "🙂"

    @streamapp.endpoint("/endless")
    def endless(self, stream: streamapp.Stream) -> Iterator[int]:
        """Emit one number, and go on until nobody wants more."""
        yield 1
        while True:
            stream.pause(0.01)

    @streamapp.realtime("/doubled")
    async def doubled(self, x: int) -> dict[str, int]:
        """Answer each number with twice as much, but 13."""
        if x == 13:
            raise RuntimeError("not this one")
        return {"doubled": 2 * x}
