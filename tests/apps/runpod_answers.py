"""A coroutine of Runpod's kind that answers once: a value, an error, or what it raises; and tells its progress."""

import asyncio
from pathlib import Path
from typing import Any

import runpod
from runpod.serverless.utils import rp_debugger
from runpod.serverless.utils.rp_validator import validate

SCHEMA = {
    "answer": {"type": (dict, list, str, int, type(None)), "required": False, "default": None},
    "progress": {"type": str, "required": False, "default": ""},
    "until": {"type": str, "required": False, "default": ""},
    "names": {"type": str, "required": False, "default": ""},
    "raises": {"type": str, "required": False, "default": ""},
}


def must_wait(until: str) -> bool:
    return bool(until) and not Path(until).exists()


@rp_debugger.FunctionTimer  # type: ignore[untyped-decorator]
async def answer(job: dict[str, Any]) -> Any:
    """Return `answer`, or which package this runs with, once a file is there; or raise."""
    checked = validate(job["input"], SCHEMA)
    if "errors" in checked:
        return {"error": "; ".join(checked["errors"])}
    asked = checked["validated_input"]
    if asked["progress"]:
        runpod.serverless.progress_update(job, asked["progress"])
    while must_wait(asked["until"]):  # noqa: ASYNC110 - who makes the file is another process
        await asyncio.sleep(0.01)
    if asked["raises"]:
        raise ValueError(asked["raises"])
    return runpod.__file__ if asked["names"] else asked["answer"]


runpod.serverless.start({"handler": answer})
