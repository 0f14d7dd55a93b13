"""Give handlers the names of Runpod's logger."""

from ...logger import LOG_LEVELS, MAX_MESSAGE_LENGTH, RunPodLogger

__all__ = ["LOG_LEVELS", "MAX_MESSAGE_LENGTH", "RunPodLogger"]
