"""Give apps that were written for fal what they import: `import streamapp.fal as fal` is the whole line to change.

    import streamapp.fal as fal
    from streamapp.fal.toolkit import Image

    class Painter(fal.App):
        @fal.endpoint("/")
        def paint(self, prompt: str) -> Image: ...

Below are `fal.toolkit`, `fal.exceptions` and `fal.container`, and what fal's clients speak (`api`). What of
fal works, and what does not, stands in `docs/migrate/fal.md`.
"""

from functools import cache as cached
from typing import TYPE_CHECKING

from ..later import names_of

if TYPE_CHECKING:
    from ..app import App, RetryConfig
    from ..endpoint import HealthCheck, endpoint
    from . import app, container, exceptions, ref, toolkit
    from .app import realtime, wrap_app
    from .container import ContainerImage
else:
    __getattr__ = names_of(
        __name__,
        {
            "App": ".app",
            "ContainerImage": "container",
            "HealthCheck": ".endpoint",
            "RetryConfig": ".app",
            "endpoint": ".endpoint",
            "realtime": "app",
            "wrap_app": "app",
        },
        modules=("app", "container", "exceptions", "ref", "toolkit"),
    )

__all__ = [
    "App",
    "ContainerImage",
    "HealthCheck",
    "RetryConfig",
    "app",
    "cached",
    "container",
    "endpoint",
    "exceptions",
    "realtime",
    "ref",
    "toolkit",
    "wrap_app",
]
