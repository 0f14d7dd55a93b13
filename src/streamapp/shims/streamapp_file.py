"""Find the files of apps by the names that `loading` gives them, in the processes that an app spawns as well.

What such a process is to run it finds by the name of the module, which therefore has to be one that any Python can
import. It gets the `sys.path` of its parent, on which this folder stands; and to import `streamapp_file.x.app`, Python
imports this file first, then `streamapp_file.x`, which stands for the folder of app.py: relative imports are looked up
there. It needs nothing but the standard library.

What such a file imports as `chutes` or `runpod`, and is not installed, is ours in these processes, too.
"""

from __future__ import annotations

import importlib
import re
import sys
from importlib.machinery import ModuleSpec
from importlib.util import spec_from_file_location
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import ModuleType

__path__: list[str] = []  # makes a package of this file: its modules are found below
# By package, the module of ours that offers one in its place, and by what function.
_OFFERED = {
    "chutes": ("streamapp.chutes.imports", "offer_chutes"),
    "runpod": ("streamapp.runpod.imports", "offer_runpod"),
}


class _Finder:
    """Find a folder by the path that its name is made of: `__` stands for a slash, `_2e_` for a dot.

    What is in a folder Python finds itself, but for a file with a dot in its name.
    """

    @staticmethod
    def find_spec(name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        package, *names = name.split(".")
        if package in _OFFERED and not names:
            return _offered(name, path, target)
        if package != __name__:
            return None
        if len(names) == 1 and names[0].startswith("__"):
            spec = ModuleSpec(name, None, is_package=True)
            spec.submodule_search_locations = [_decoded(names[0])]
            return spec
        if path and "_2e_" in names[-1]:
            return spec_from_file_location(name, f"{next(iter(path))}/{_decoded(names[-1])}.py")
        return None


def _offered(name: str, path: Sequence[str] | None, target: ModuleType | None) -> ModuleSpec | None:
    """Find ours, as all others have found none; None where ours is what asks."""
    if any(getattr(finder, "name", None) == name for finder in sys.meta_path):
        return None
    module, offer = _OFFERED[name]
    getattr(importlib.import_module(module), offer)()
    found: ModuleSpec | None = sys.meta_path[0].find_spec(name, path, target)
    return found


def _decoded(name: str) -> str:
    return re.sub("__|_([0-9a-f]+)_", lambda sign: chr(int(sign[1], 16)) if sign[1] else "/", name)


sys.meta_path.append(_Finder)
