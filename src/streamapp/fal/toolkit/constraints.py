"""Describe in an input's schema which images and videos a model takes; nothing is enforced, as with fal."""

import dataclasses
from dataclasses import dataclass
from typing import Any

#: the same as keywords, as fal's type hints name them
ImageValidationOptions = VideoValidationOptions = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class _Limits:
    """Hold limits in pixels; an area is width x height."""

    min_width: int | None = None
    min_height: int | None = None
    max_width: int | None = None
    max_height: int | None = None

    def __post_init__(self) -> None:
        limits = dataclasses.asdict(self)
        for low in (name for name in limits if name.startswith("min_")):
            high = low.replace("min_", "max_")
            if None not in (limits[low], limits[high]) and limits[low] > limits[high]:
                raise ValueError(f"expected {low} of at most {high}={limits[high]}; got {limits[low]}")
        if (limits.get("min_aspect_ratio") is None) != (limits.get("max_aspect_ratio") is None):
            raise ValueError("expected min_aspect_ratio and max_aspect_ratio together, or neither")


@dataclass(frozen=True, kw_only=True)
class ImageSizeConstraints(_Limits):
    """Describe the sizes of images that a model makes."""

    min_area: int | None = None
    max_area: int | None = None
    multiple_of: int | None = None
    min_aspect_ratio: float | None = None
    max_aspect_ratio: float | None = None


@dataclass(frozen=True, kw_only=True)
class ImageValidationConfig(_Limits):
    """Describe the images that a model takes; `max_file_size` in bytes, `timeout` in seconds, of the download."""

    max_file_size: int | None = None
    min_aspect_ratio: float | None = None
    max_aspect_ratio: float | None = None
    timeout: float = 20.0


@dataclass(frozen=True, kw_only=True)
class VideoValidationConfig(_Limits):
    """Describe the videos that a model takes; durations in seconds."""

    max_file_size: int | None = None
    min_area: int | None = None
    max_area: int | None = None
    min_aspect_ratio: float | None = None
    max_aspect_ratio: float | None = None
    min_frames: int | None = None
    max_frames: int | None = None
    min_duration: float | None = None
    max_duration: float | None = None
    min_fps: float | None = None
    max_fps: float | None = None


@dataclass(frozen=True, kw_only=True)
class VideoNormalizationConfig(_Limits):
    """Describe what becomes of a video that a model takes."""

    min_area: int | None = None
    max_area: int | None = None
    max_duration: float | None = None
    fps: float | None = None


def to_xfal(config: _Limits | None) -> dict[str, Any]:
    """Return the limits that are set, as they stand under `x-fal` in a schema."""
    limits = {} if config is None else dataclasses.asdict(config)
    return {name: limit for name, limit in limits.items() if limit is not None and name != "timeout"}
