"""Give handlers the name of Runpod's updates."""

from ...progress import progress_update

__all__ = ["progress_update"]
