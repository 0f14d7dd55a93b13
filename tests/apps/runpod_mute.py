"""A handler of Runpod's kind whose results its worker cannot send."""

import asyncio
from typing import Any

import runpod


async def mute(job: dict[str, Any]) -> Any:
    """Return what JSON or UTF-8 does not have, or be cancelled by itself."""
    match job["input"]["returns"]:
        case "bytes":
            return b"no JSON"
        case "a surrogate":
            return "\ud800"
        case _:
            raise asyncio.CancelledError


runpod.serverless.start({"handler": mute})
