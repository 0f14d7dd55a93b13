"""Import what is expensive when it is first asked for.

What a program never uses costs it no time at its start, and no memory. `names_of` is for a package whose names stand in
other modules, `module` for one that few need; both import under the lock that any import takes, in the thread that
asks. Who asks on the loop for what takes longer than a few milliseconds has had another thread ask before.

Divergence: importing this asks Python's import system to look for other people's packages where they were when the
program began (`_Finder`): the folder of an app comes first on the path later, and a file `httpx.py` in it is not the
httpx that the server needs.
"""

import gc
import importlib
import importlib.util
import sys
from collections.abc import Callable, Collection, Mapping, Sequence
from contextvars import ContextVar
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType
from typing import Any, NoReturn

_path = sys.path[:]
_names: set[str] = set()  # of packages that are imported later
_is_late: ContextVar[bool] = ContextVar("streamapp_is_late", default=False)


class _Finder:
    """Find what is imported later, and all that it imports in turn, where an import at the start would have.

    An app that imports such a package has the same one: a process has one module of a name.
    """

    @staticmethod
    def find_spec(name: str, path: Sequence[str] | None, _: ModuleType | None = None) -> ModuleSpec | None:
        """Do as the import system asks; what is not there is left to Python's own finders."""
        if path is not None or not (name in _names or _is_late.get()):
            return None
        return PathFinder.find_spec(name, _path)


sys.meta_path.insert(0, _Finder)


def names_of(
    package: str,
    places: Mapping[str, str],
    *,
    modules: Collection[str] = (),
    absent: Callable[[str], NoReturn] | None = None,
) -> Callable[[str], Any]:
    """Return a package's `__getattr__`, which imports what a name stands in when it is first asked for.

    Any thread may ask. The package has the name from then on, and is not asked again.

    Args:
        package: its name; it is being imported.
        places: by the name, the module of the package that defines it; of the one above it with a dot before.
        modules: those that are attributes of the package without having been imported.
        absent: raises what is to be said of a name that is not there.
    """
    owner = sys.modules[package]

    class Package(ModuleType):
        """Keep what users mean by a name, where a module is called like what it defines.

        The import system gives a package each module that is imported below it, as an attribute: `streamapp.endpoint`
        would be the module as soon as anything needs it, and the decorator no longer.
        """

        def __setattr__(self, name: str, value: Any) -> None:
            if not (isinstance(value, ModuleType) and name in places):
                super().__setattr__(name, value)

    owner.__class__ = Package

    def get(name: str) -> Any:
        if name in modules:
            return importlib.import_module(f".{name}", package)
        if name not in places and absent is not None:
            absent(name)
        if name not in places:  # Python itself tells the nearest name that there is
            raise AttributeError(f"module {package!r} has no attribute {name!r}", name=name, obj=owner)
        value = getattr(importlib.import_module(f".{places[name]}", package), name)
        vars(owner)[name] = value
        return value

    return get


class _Module(ModuleType):
    """Stand for a module, in one that needs it at times, and give its attributes as they are at that moment."""

    def __init__(self, name: str, submodules: Collection[str]) -> None:
        super().__init__(name)
        self._names = (name, *(f"{name}.{each}" for each in submodules))

    def __getattr__(self, name: str) -> Any:
        before = _is_late.set(True)
        try:
            module, *_ = map(importlib.import_module, self._names)
        finally:
            _is_late.reset(before)
        return getattr(module, name)


def module(name: str, package: str | None = None, *, submodules: Collection[str] = ()) -> Any:
    """Return what stands for a module, which is imported when the first of its attributes is asked for.

    Args:
        name: begins with dots where it is one of ours, whose place is told from that of `package`.
        submodules: those that have to be there as well, as its attributes.
    """
    place = importlib.util.resolve_name(name, package)
    _names.add(place)
    return _Module(place, submodules)


def import_at_once(name: str) -> ModuleType:
    """Import all that a process needs, which then counts as there for good: the garbage collector does not look at it.

    While it did, a tenth of the time of an import went by; the frozen objects are those that outlive every collection.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        return importlib.import_module(name)
    finally:
        gc.freeze()
        if was_enabled:
            gc.enable()
