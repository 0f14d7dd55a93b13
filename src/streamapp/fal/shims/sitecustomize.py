"""Point fal's Python packages at STREAMAPP_URL: run by every Python whose PYTHONPATH names this folder.

Their URLs are constants that always say https, so those are replaced right after the module that holds them is
imported; no file of theirs is touched. It needs nothing but the standard library, as the script's interpreter may be
another one than streamapp's.
"""

from __future__ import annotations

import os
import sys
from importlib.machinery import PathFinder
from importlib.util import module_from_spec
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence
    from importlib.machinery import ModuleSpec
    from types import ModuleType

_HTTP = os.environ.get("STREAMAPP_URL", "http://127.0.0.1:8000").rstrip("/")
_WS = "ws" + _HTTP[len("http") :]
_CONSTANTS = {
    "fal_client.client": {
        "RUN_URL_FORMAT": _HTTP + "/run/",
        "QUEUE_URL_FORMAT": _HTTP + "/queue/",
        "REALTIME_URL_FORMAT": _WS + "/run/",
        "REST_URL": _HTTP + "/rest",
        "CDN_URL": _HTTP + "/rest",
    },
    "fal.apps": {
        "_STREAM_URL_FORMAT": _HTTP + "/run/{app_id}",
        "_QUEUE_URL_FORMAT": _HTTP + "/queue/{app_id}",
        "_REALTIME_URL_FORMAT": _WS + "/run/{app_id}",
        "_WS_URL_FORMAT": _WS + "/ws/{app_id}",
    },
}


class _Finder:
    """Find the modules with constants as Python does, and set these at the end of the import."""

    @staticmethod
    def find_spec(name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        spec = PathFinder.find_spec(name, path, target) if name in _CONSTANTS else None
        if spec is not None and spec.loader is not None:
            execute = spec.loader.exec_module

            def execute_and_set(module: ModuleType) -> None:
                execute(module)
                vars(module).update(_CONSTANTS[name])

            spec.loader.exec_module = execute_and_set  # type: ignore[method-assign]
        return spec


def _run_hidden() -> None:
    """Run the sitecustomize that this one hides, as Python would have."""
    here = Path(__file__).resolve().parent
    spec = PathFinder.find_spec(__name__, [folder for folder in sys.path if Path(folder).resolve() != here])
    if spec is not None and spec.loader is not None:
        module = sys.modules[__name__] = module_from_spec(spec)
        spec.loader.exec_module(module)


sys.meta_path.insert(0, _Finder)
_run_hidden()
