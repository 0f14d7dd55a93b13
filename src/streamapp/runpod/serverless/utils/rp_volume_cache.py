"""Let handlers say which folders are to outlast the machine: here all do."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any, Self


class VolumeCache:
    """Name folders that Runpod would keep on a network volume; all methods do nothing, as they do there without one.

    Attributes:
        available: False, there is no such volume.
    """

    available = False

    def __init__(self, dirs: str | Path | Iterable[str | Path], **options: Any) -> None:
        """Take what Runpod's takes."""

    def hydrate(self) -> int:
        """Return how many files were copied, which is none: what is in the folders is on this machine already."""
        return 0

    def sync(self, **options: Any) -> None:
        """Do nothing: what is in the folders stays on this machine."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        pass
