"""Let a served file import a package of somebody else's by its own name: the one that is installed, else ours.

`AliasFinder` is an entry of `sys.meta_path`. What of ours is found by the other name is the same module, not a second
one with a state of its own.
"""

import importlib
import importlib.util
import sys
from collections.abc import Sequence
from importlib.abc import Loader
from importlib.machinery import ModuleSpec
from types import ModuleType


class AliasFinder:
    """Find what others find as well; where they find no package of that name, find ours.

    Args:
        name: of the package, as its users import it.
        ours: the name of ours, which is in its place.
    """

    def __init__(self, name: str, ours: str) -> None:
        self.name = name
        self.ours = ours

    def offer(self) -> None:
        """Have imports find it from now on in this process; again is without effect."""
        if self not in sys.meta_path:
            sys.meta_path.insert(0, self)

    @property
    def is_ours(self) -> bool:
        """Say whether the package of that name, which somebody has imported, is ours."""
        return sys.modules[self.name] is sys.modules[self.ours]

    def find_spec(self, name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        """Find a module; Python calls it with the name."""
        if name.partition(".")[0] != self.name:
            return None
        if name != self.name and self.is_ours:
            ours = importlib.util.find_spec(self.ours + name.removeprefix(self.name))
            return None if ours is None else ModuleSpec(name, _Alias(self))
        spec = self._found_by_others(name, path, target)
        if name == self.name and (spec is None or spec.origin is None):  # a folder that is called so is no package
            return ModuleSpec(name, _Alias(self))
        return spec

    def _found_by_others(self, name: str, path: Sequence[str] | None, target: ModuleType | None) -> ModuleSpec | None:
        finders = (finder for finder in sys.meta_path if finder is not self)
        return next(filter(None, (finder.find_spec(name, path, target) for finder in finders)), None)


class _Alias(Loader):
    """Load a module of ours under the other name."""

    def __init__(self, finder: AliasFinder) -> None:
        self._finder = finder

    def exec_module(self, module: ModuleType) -> None:
        name = module.__name__
        sys.modules[name] = importlib.import_module(self._finder.ours + name.removeprefix(self._finder.name))
