"""Offer `runpod.serverless` by its own names: `start`, and what handlers import and call while they run."""

from typing import Any

from ..handlers import note_start, register_fitness_check
from ..local import run_as_script
from ..outcomes import RUNPOD_VERSION
from ..progress import progress_update
from . import modules, utils
from .utils.rp_volume_cache import VolumeCache

__all__ = ["VolumeCache", "modules", "progress_update", "register_fitness_check", "runpod_version", "start", "utils"]

runpod_version = RUNPOD_VERSION


def start(config: Any) -> None:
    """Run a handler: `{"handler": handler, "return_aggregate_stream": True}`.

    Under `streamapp serve handler.py` it notes the config, and returns; in a script it does what the command line asks
    for, and ends the process.
    """
    if not note_start(config):
        run_as_script(config)
