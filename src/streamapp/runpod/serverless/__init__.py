"""Offer `runpod.serverless` by its own names: `start`, and what handlers import and call while they run."""

from typing import Any

from ...errors import DefinitionError
from ..handlers import RUNPOD_VERSION, note_start, register_fitness_check
from ..progress import progress_update
from . import modules, utils
from .utils.rp_volume_cache import VolumeCache

__all__ = ["VolumeCache", "modules", "progress_update", "register_fitness_check", "runpod_version", "start", "utils"]

runpod_version = RUNPOD_VERSION


def start(config: Any) -> None:
    """Serve a handler: `{"handler": handler, "return_aggregate_stream": True}`.

    Under `streamapp serve handler.py` it only notes the config, and returns.
    """
    if not note_start(config):
        raise DefinitionError("runpod.serverless.start: serve the file with streamapp serve <file>.py")
