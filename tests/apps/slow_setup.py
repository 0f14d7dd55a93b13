"""An app whose setup waits until it is let, and fails if it is told so: what the playground shows meanwhile."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import streamapp


class SlowSetup(streamapp.App):
    """Wait in setup for what is written into the pipe SETUP_GATE: "load", or why not."""

    def setup(self) -> None:
        """Wait, and load or fail."""
        told = Path(os.environ["SETUP_GATE"]).read_text()
        if told != "load":
            raise RuntimeError(told)

    @streamapp.endpoint("/stream")
    def stream(self) -> Iterator[Any]:
        """Emit one number."""
        yield {"number": 1}
