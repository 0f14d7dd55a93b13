"""The app behind the pages: it draws as the README's examples ask; `python app.py PORT`."""

import sys
from collections.abc import Iterator
from typing import Any

import streamapp
from streamapp.serve.server import bind, serve

PIXEL = "data:image/gif;base64,R0lGODlhAQABAAAAACwAAAAAAQABAAACAkQBADs="


class Painter(streamapp.App):
    @streamapp.endpoint("/stream")
    def stream(self, prompt: str, steps: int = 30) -> Iterator[Any]:
        """Draw, and show each step."""
        if prompt == "fail":
            yield streamapp.Progress(0, steps)
            raise RuntimeError("no paint")
        for step in range(steps):
            yield streamapp.Preview({"image": {"url": PIXEL, "content_type": "image/gif"}, "step": step})
        yield {"image": {"url": PIXEL, "content_type": "image/gif"}, "prompt": prompt}

    @streamapp.realtime("/canvas")
    async def canvas(self, x: int, stream: streamapp.Stream) -> dict[str, Any]:
        """Answer each point, after a preview."""
        if x < 0:
            raise RuntimeError("off the canvas")
        await stream.aemit(streamapp.Preview({"image": {"url": PIXEL, "content_type": "image/gif"}}))
        return {"x": x, "image": {"url": PIXEL, "content_type": "image/gif"}}


if __name__ == "__main__":
    sys.exit(serve(streamapp.compile_app(Painter), bind("127.0.0.1", int(sys.argv[1])), log_level="critical"))
