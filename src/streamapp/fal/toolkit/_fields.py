"""Make the `Field` functions that describe an input to the playground and to clients."""

from collections.abc import Callable
from typing import Any

from pydantic import Field

from .constraints import ImageSizeConstraints, VideoNormalizationConfig, VideoValidationConfig, to_xfal


def ui_field(kind: str | None = None) -> Callable[..., Any]:
    """Return pydantic's `Field` with two schema extensions: `ui`, whose `field` is `kind`, and `x-fal` for limits."""
    named = {"field": kind} if kind else {}

    def field(
        *default: Any,
        ui: dict[str, Any] | None = None,
        constraints: ImageSizeConstraints | VideoValidationConfig | None = None,
        combined_constraints: VideoValidationConfig | None = None,
        normalization: VideoNormalizationConfig | None = None,
        json_schema_extra: dict[str, Any] | None = None,
        **options: Any,
    ) -> Any:
        extra = json_schema_extra or {}
        nested = {"combined": to_xfal(combined_constraints), "normalization": to_xfal(normalization)}
        limits = {**to_xfal(constraints), **{name: part for name, part in nested.items() if part}}
        described = {"ui": {**named, **extra.get("ui", {}), **(ui or {})}, "x-fal": limits}
        told = {name: part for name, part in described.items() if part}
        return Field(*default, json_schema_extra={**extra, **told}, **options)

    return field
