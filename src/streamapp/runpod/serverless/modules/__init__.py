"""Give handlers what they import of `runpod.serverless.modules`, at the same places."""

from . import rp_fitness, rp_logger, rp_progress

__all__ = ["rp_fitness", "rp_logger", "rp_progress"]
