"""Tell an app's code which app it is of, as `fal.ref` does."""

from ..app import get_current_app

__all__ = ["get_current_app"]
