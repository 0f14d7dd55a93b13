"""Find the files of apps by the names that `loading` gives them, in the processes that an app spawns as well.

What such a process is to run it finds by the name of the module, which therefore has to be one that any Python can
import. It gets the `sys.path` of its parent, on which this folder stands; and to import `streamapp_file.x.app`, Python
imports this file first, then `streamapp_file.x`, which stands for the folder of app.py: relative imports are looked up
there. It needs nothing but the standard library.
"""

from __future__ import annotations

import re
import sys
from importlib.machinery import ModuleSpec
from importlib.util import spec_from_file_location
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import ModuleType

__path__: list[str] = []  # makes a package of this file: its modules are found below


class _Finder:
    """Find a folder by the path that its name is made of: `__` stands for a slash, `_2e_` for a dot.

    What is in a folder Python finds itself, but for a file with a dot in its name.
    """

    @staticmethod
    def find_spec(name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        package, *names = name.split(".")
        if package != __name__:
            return None
        if len(names) == 1 and names[0].startswith("__"):
            spec = ModuleSpec(name, None, is_package=True)
            spec.submodule_search_locations = [_decoded(names[0])]
            return spec
        if path and "_2e_" in names[-1]:
            return spec_from_file_location(name, f"{next(iter(path))}/{_decoded(names[-1])}.py")
        return None


def _decoded(name: str) -> str:
    return re.sub("__|_([0-9a-f]+)_", lambda sign: chr(int(sign[1], 16)) if sign[1] else "/", name)


sys.meta_path.append(_Finder)
