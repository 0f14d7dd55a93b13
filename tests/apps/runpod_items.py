"""A handler of Runpod's kind that yields and blocks as its input says: by default three items."""

import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import runpod


def items(job: dict[str, Any]) -> Iterator[Any]:
    """Yield items, wait until a file is there, then fail in one of two ways or end."""
    asked = job["input"]
    yield from asked.get("yields", ())
    for number in range(asked.get("items", 0 if "yields" in asked else 3)):
        yield {"number": number, "data": "x" * asked.get("size", 0)}
    while asked.get("until") and not Path(asked["until"]).exists():
        time.sleep(0.01)
        yield {"waits": True}
    if "raises" in asked:
        raise ValueError(asked["raises"])
    if "error" in asked:
        yield {"error": asked["error"]}


runpod.serverless.start({"handler": items, "return_aggregate_stream": True, "refresh_worker": "REFRESH" in os.environ})
