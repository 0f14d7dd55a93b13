"""A handler for Runpod; `streamapp serve` serves it as it is, Runpod's own development server by `--rp_serve_api`."""

import time
from collections.abc import Iterator
from typing import Any

import runpod  # type: ignore[import-not-found, unused-ignore]


def handler(job: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield small chunks, each after a time."""
    step_s = job["input"].get("step_s", 0)
    for i in range(job["input"]["n"]):
        if step_s:
            time.sleep(step_s)
        yield {"i": i}


runpod.serverless.start({"handler": handler, "return_aggregate_stream": True})
