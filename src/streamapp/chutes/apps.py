"""Make an app of a chute: its cords are the endpoints."""

import functools
import sys
from collections.abc import Callable, Sequence
from typing import Any

from ..app import App
from ..endpoint import endpoint


def app_of(chute: Any, cords: Sequence[Any]) -> type[App]:
    """Return the app of a chute."""
    module = sys._getframe(2).f_globals.get("__name__", __name__)
    told: dict[str, Any] = {"__doc__": chute.readme.strip(), "__module__": module, "title": chute.tagline or None}
    for cord in cords:
        media = {"application/json": "application/x-ndjson"}.get(cord.output_content_type, cord.output_content_type)
        told[cord.function.__name__] = endpoint(cord.path, media_type=media if cord.stream else None)(
            _of_chute(chute, cord.function)
        )
    return type("Chuted", (App,), told, name=chute.name)


def _of_chute(chute: Any, function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def call(self: App, *arguments: Any, **named: Any) -> Any:
        return function(chute, *arguments, **named)

    return call
