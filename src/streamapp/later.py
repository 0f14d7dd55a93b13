"""Import what is expensive when it is first asked for: the one place where an import does not stand at a module's top.

What a program never uses costs it no time at its start, and no memory. `names_of` is for a package whose names stand in
other modules.
"""

import importlib
import sys
from collections.abc import Callable, Collection, Mapping
from types import ModuleType
from typing import Any


class _Package(ModuleType):
    """Keep what users mean by a name, where a module is called like what it defines.

    The import system gives a package each module that is imported below it, as an attribute: `streamapp.endpoint` would
    be the module as soon as anything needs it, and the decorator no longer.
    """

    def __setattr__(self, name: str, value: Any) -> None:
        if not (isinstance(value, ModuleType) and name in self.__all__):
            super().__setattr__(name, value)


def names_of(package: str, places: Mapping[str, str], modules: Collection[str] = ()) -> Callable[[str], Any]:
    """Return a package's `__getattr__`, which imports what a name stands in when it is first asked for.

    Any thread may ask. The package has the name from then on, and is not asked again.

    Args:
        package: its name; it is being imported, and has its `__all__`.
        places: by the name, the module of the package that defines it.
        modules: those that are attributes of the package without having been imported.
    """
    owner = sys.modules[package]
    owner.__class__ = _Package

    def get(name: str) -> Any:
        if name in modules:
            return importlib.import_module(f"{package}.{name}")
        if name not in places:  # Python itself tells the nearest name that there is
            raise AttributeError(f"module {package!r} has no attribute {name!r}", name=name, obj=owner)
        value = getattr(importlib.import_module(f"{package}.{places[name]}"), name)
        vars(owner)[name] = value
        return value

    return get
