"""Take how long parts of a handler need, and say it in the log.

Divergence: Runpod adds the times to the output under `--rp_debugger`; and a name may be used again, as it is by the
next job.
"""

import functools
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, ParamSpec, Self, TypeVar

from ...logger import RunPodLogger

P = ParamSpec("P")
R = TypeVar("R")


class Checkpoints:
    """Hold the times of named parts, those of all jobs together; there is one.

    Attributes:
        checkpoints: by name, when a part began and ended.
    """

    checkpoints: dict[str, dict[str, Any]]
    _only: "Checkpoints | None" = None

    def __new__(cls) -> Self:
        """Return the only one."""
        if not isinstance(cls._only, cls):
            cls._only = super().__new__(cls)
            cls._only.checkpoints = {}
        return cls._only

    def add(self, name: str) -> None:
        """Name a part, anew where there is one."""
        self.checkpoints[name] = {"name": name}

    def start(self, name: str) -> None:
        """Begin a part."""
        self._named(name).update(start=time.perf_counter(), start_utc=datetime.now(UTC).isoformat())

    def stop(self, name: str) -> None:
        """End a part."""
        part = self._named(name)
        if "start" not in part:
            raise KeyError(f"the checkpoint {name!r} has not been started")
        part.update(end=time.perf_counter(), stop_utc=datetime.now(UTC).isoformat())
        RunPodLogger().debug(f"{name}: {(part['end'] - part['start']) * 1000:.1f} ms")

    def get_checkpoints(self) -> list[dict[str, Any]]:
        """Return the parts that have ended, with their `duration_ms`."""
        ended = [part for part in self.checkpoints.values() if "end" in part]
        shown = ("name", "start_utc", "stop_utc")
        return [
            {**{key: part[key] for key in shown}, "duration_ms": (part["end"] - part["start"]) * 1000} for part in ended
        ]

    def clear(self) -> None:
        """Let go of all."""
        self.checkpoints.clear()

    def _named(self, name: str) -> dict[str, Any]:
        if name not in self.checkpoints:
            raise KeyError(f"there is no checkpoint {name!r}; write add({name!r}) first")
        return self.checkpoints[name]


class LineTimer:
    """Take the time of a `with` block, as a checkpoint."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.checkpoints = Checkpoints()
        self.checkpoints.add(name)

    def __enter__(self) -> None:
        self.checkpoints.start(self.name)

    def __exit__(self, *exception: object) -> None:
        self.checkpoints.stop(self.name)


def FunctionTimer(function: Callable[P, R]) -> Callable[P, R]:
    """Take the time of each call of a function, as a checkpoint."""

    @functools.wraps(function)
    def timed(*args: P.args, **kwargs: P.kwargs) -> R:
        with LineTimer(getattr(function, "__name__", repr(function))):
            return function(*args, **kwargs)

    return timed
