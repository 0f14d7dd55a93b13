"""An app that shows previews until a file is there, for clients that know of no previews."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import PIL.Image

import streamapp


class Previews(streamapp.App):
    @streamapp.endpoint("/stream")
    def stream(self, until: str, stream: streamapp.Stream) -> Iterator[dict[str, Any]]:
        """Show the picture as it grows, then the picture."""
        while not Path(until).exists():
            stream.preview({"image": PIL.Image.new("RGB", (3, 2), "red")})
            time.sleep(0.01)
        yield {"image": PIL.Image.new("RGB", (30, 20), "red")}
