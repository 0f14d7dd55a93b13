"""Find app classes by import strings: `path/to/app.py:Class`, `package.module:Class`, or either without a class."""

import importlib
import importlib.util
import itertools
import os
import re
import sys
import traceback
import zlib
from pathlib import Path
from types import ModuleType

from .app import App, is_app_class
from .errors import DefinitionError


def load_app(import_string: str) -> type[App]:
    """Import the app class that a string names; without a class name, the only one that the file or module defines.

    Raises:
        DefinitionError: there is no such file, module or class, or it is no app.
        Exception: whatever the module itself raises.
    """
    place, _, name = import_string.partition(":")
    module = _import_file(Path(place)) if place.endswith(".py") else _import_module(place)
    return _get_named(module, place, name) if name else _get_only(module, place)


def source_folder(import_string: str) -> Path:
    """Return the folder whose source files an app is likely made of."""
    place = Path(import_string.partition(":")[0])
    return place.resolve().parent if place.suffix == ".py" else Path.cwd()


def format_import_error(error: BaseException) -> str:
    """Format what a module raised while it was imported, from its own first line on."""
    trace = traceback.TracebackException.from_exception(error)
    own: list[traceback.FrameSummary] = list(itertools.dropwhile(_is_of_loading, trace.stack))
    trace.stack = traceback.StackSummary.from_list(own)
    return "".join(trace.format())


def _is_of_loading(frame: traceback.FrameSummary) -> bool:
    return Path(__file__).parent in Path(frame.filename).parents or "importlib" in frame.filename


def _import_file(path: Path) -> ModuleType:
    """Import a file under a name of its own: several apps may all be called app.py."""
    if not path.is_file():
        raise DefinitionError(f"there is no file {str(path)!r} in {Path.cwd()}")
    path = path.resolve()
    readable = re.sub(r"\W+", "_", str(path.with_suffix("")))
    name = f"{readable}_{zlib.crc32(bytes(path)):08x}"  # my-app is not my_app
    if name in sys.modules:
        return sys.modules[name]
    sys.path.insert(0, str(path.parent))
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None and spec.loader is not None
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _import_module(name: str) -> ModuleType:
    if not name or name.startswith("."):
        raise DefinitionError(f"Expected path/to/app.py:Class or package.module:Class, got the module {name!r}")
    sys.path.insert(0, os.getcwd())
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{name}.".startswith(f"{error.name}."):
            raise  # the module is there, but not what it imports
        raise DefinitionError(
            f"there is no module {error.name!r} in {Path.cwd()}; a file ends with .py: path/to/app.py:Class"
        ) from None


def _get_named(module: ModuleType, place: str, name: str) -> type[App]:
    found = getattr(module, name, None)
    if found is None:
        raise DefinitionError(f"there is no {name!r} in {place}; the apps in it: {_listed(module, place) or 'none'}")
    if not is_app_class(found):
        raise DefinitionError(f"{place}:{name} is no app; write class {name}(streamapp.App)")
    app: type[App] = found
    return app


def _get_only(module: ModuleType, place: str) -> type[App]:
    apps = _apps(module)
    if not apps:
        raise DefinitionError(f"there is no app in {place}; write class Name(streamapp.App)")
    if len(apps) > 1:
        raise DefinitionError(f"there are {len(apps)} apps in {place}; write one of {_listed(module, place)}")
    return apps[0]


def _apps(module: ModuleType) -> list[type[App]]:
    return [value for value in vars(module).values() if is_app_class(value) and value.__module__ == module.__name__]


def _listed(module: ModuleType, place: str) -> str:
    return ", ".join(f"{place}:{app.__name__}" for app in _apps(module))
