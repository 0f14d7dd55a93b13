"""Offer `runpod.serverless` by its own names: `start`, and what handlers call while they run."""

from typing import Any

from ...errors import DefinitionError
from ..handlers import RUNPOD_VERSION, note_start, register_fitness_check
from ..progress import progress_update

__all__ = ["progress_update", "register_fitness_check", "runpod_version", "start"]

runpod_version = RUNPOD_VERSION


def start(config: Any) -> None:
    """Serve a handler: `{"handler": handler, "return_aggregate_stream": True}`.

    Under `streamapp serve handler.py` it only notes the config, and returns.
    """
    if not note_start(config):
        raise DefinitionError("runpod.serverless.start: serve the file with streamapp serve <file>.py")
