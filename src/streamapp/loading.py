"""Find app classes by import strings: `path/to/app.py:Class`, `package.module:Class`, or either without a class.

A module's name is one that the processes which an app spawns can import, too: `multiprocessing` finds functions by it.

Divergence: a file is not imported by its bare name, as Python would from its folder: several may be called app.py.
"""

import ast
import importlib
import importlib.util
import itertools
import os
import re
import sys
import traceback
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any, Protocol

from .app import App, is_app_class
from .errors import DefinitionError

_SHIMS = Path(__file__).parent / "shims"
_FOLDERS = "streamapp_file"  # in there: stands for all folders
# By name, what the apps import from their folders, and which app it was; see `_claim`.
_claimed: dict[str, tuple[Path, str]] = {}


class AppLike(Protocol):
    """Be what an app is made of, a chute for example, and stand in a module in its place."""

    def __streamapp_app__(self) -> type[App]:
        """Return the app, always the same; its `__module__` is the one that declares it.

        Raises:
            DefinitionError: what it is made of is written wrongly.
        """
        ...


def load_app(import_string: str) -> type[App]:
    """Import the app class that a string names; without a class name, the only one that the file or module defines.

    Raises:
        DefinitionError: there is no such file, module or class, or it is no app.
        Exception: whatever the module itself raises.
    """
    place, _, name = import_string.partition(":")
    return find_app(load_module(place), place, name)


def load_module(place: str) -> ModuleType:
    """Import the file or module that an import string begins with; raises as `load_app` does."""
    return _import_file(Path(place)) if place.endswith(".py") else _import_module(place)


def find_app(module: ModuleType, place: str, name: str) -> type[App]:
    """Return the app of that name in a module, or the only one where the name is empty; raises as `load_app` does."""
    return _get_named(module, place, name) if name else _get_only(module, place)


def apps_in(module: ModuleType) -> list[type[App]]:
    """Return the app classes that a module defines, and those of what is an app in other words (`AppLike`)."""
    return list(_named_apps(module))


def _named_apps(module: ModuleType) -> dict[type[App], str]:
    """Return the apps of a module, and the first name that each has there; imported ones are another module's."""
    named: dict[type[App], str] = {}
    for name, value in vars(module).items():
        app = app_in(value)
        if app is not None and app.__module__ == module.__name__:
            named.setdefault(app, name)
    return named


def app_in(value: Any) -> type[App] | None:
    """Return the app class that a value is, or is about; None where it is no app. Raises as `AppLike` does."""
    if is_app_class(value):
        app: type[App] = value
        return app
    # Asked of the class: a value may answer to any name.
    made: type[App] | None = value.__streamapp_app__() if hasattr(type(value), "__streamapp_app__") else None
    return made


def modules_of(app: str) -> list[str]:
    """Return the names by which an app's module has others from its folder, and its own."""
    return [app, *(name for name, (_, claimed_by) in _claimed.items() if claimed_by == app)]


def source_folder(import_string: str) -> Path:
    """Return the folder whose source files an app is likely made of: its own, or that of the package that it is in."""
    place = Path(import_string.partition(":")[0])
    if place.suffix != ".py":
        return Path.cwd()
    file = place.resolve()
    top = _top_folder(file)
    return file.parent if top == file.parent else top / file.relative_to(top).parts[0]


def format_import_error(error: BaseException) -> str:
    """Format what a module raised while it was imported, from its own first line on."""
    trace = traceback.TracebackException.from_exception(error)
    own: list[traceback.FrameSummary] = list(itertools.dropwhile(_is_of_loading, trace.stack))
    trace.stack = traceback.StackSummary.from_list(own)
    return "".join(trace.format())


def _is_of_loading(frame: traceback.FrameSummary) -> bool:
    return Path(__file__).parent in Path(frame.filename).parents or "importlib" in frame.filename


def _import_file(path: Path) -> ModuleType:
    """Import a file as a member of its package; one that is in none under a name of its own: several may be app.py."""
    if not path.is_file():
        raise DefinitionError(f"there is no file {str(path)!r} in {Path.cwd()}")
    path = path.resolve()
    name = _member_name(path)
    if name is None:
        name = _name_of(path)
        sys.path.insert(0, str(path.parent))
        sys.path.append(str(_SHIMS))
    else:  # at the end: a module of the package may be called like one of Python's
        sys.path.append(str(path.parent))
    for folder in {path.parent, _top_folder(path)}:
        _claim(path, folder, name)
    try:
        return importlib.import_module(name)
    except ImportError as error:
        if "attempted relative import" in str(error) or re.fullmatch(rf"{_FOLDERS}(\.\w+)?", error.name or ""):
            raise DefinitionError(_explain_relative_import(error)) from error
        raise


def _top_folder(file: Path) -> Path:
    """Return the folder that a file's package is in; its own where it is in none."""
    folder = file.parent
    while (folder / "__init__.py").is_file():
        folder = folder.parent
    return folder


def _member_name(file: Path) -> str | None:
    """Return a file's name in its package, for which the package can be imported then; None where it is in none.

    Nor is it where the package's name is that of another one already: then the file goes by a name of its own.
    """
    top = _top_folder(file)
    *packages, last = file.relative_to(top).with_suffix("").parts
    if not packages or any("." in package for package in packages):
        return None
    sys.path.insert(0, str(top))
    spec = importlib.util.find_spec(packages[0])
    if spec is None or str(top / packages[0]) not in map(os.path.realpath, spec.submodule_search_locations or ()):
        return None
    return ".".join(packages if last == "__init__" else [*packages, last])


def _name_of(file: Path) -> str:
    """Return the module name under which `shims/streamapp_file` finds a file, in other processes too."""
    folder = re.sub("[^A-Za-z0-9/]", lambda sign: f"_{ord(sign[0]):x}_", str(file.parent)).replace("/", "__")
    return f"{_FOLDERS}.{folder}.{file.stem.replace('.', '_2e_')}"


def _explain_relative_import(error: ImportError) -> str:
    trace = traceback.extract_tb(error.__traceback__)
    line = next(frame for frame in reversed(trace) if "importlib" not in frame.filename)
    return (
        f"{line.filename}: {line.line}: a relative import reaches as far up as there are files __init__.py; put one "
        f"into {_top_folder(Path(line.filename))}, or import by the module's own name"
    )


def _claim(file: Path, folder: Path, app: str) -> None:
    """Refuse an app that would get another app's module: what it imports from its folder goes by its name there alone.

    Read from the source, since functions import as well, when both apps are running.
    """
    left, seen = [file], set[Path]()
    while left:
        for name in names_imported(left.pop()):
            place = folder.joinpath(*name.split("."))
            found = next((path for path in (place / "__init__.py", place.with_suffix(".py")) if path.is_file()), None)
            if found is None or found in seen:
                continue
            other, claimed_by = _claimed.get(name, (found, app))
            if other != found and claimed_by in sys.modules:
                raise DefinitionError(
                    f"{file} imports {name}, which is {found}, and another app means {other} by it: rename one of the "
                    f"two, or import it by its place: from .{name} import ..."
                )
            _claimed[name] = found, app
            seen.add(found)
            left.append(found)


def names_imported(file: Path) -> Iterator[str]:
    """Yield the names that a file may import from its folder, with those of the packages around them."""
    try:
        tree = ast.parse(file.read_bytes())
    except (SyntaxError, ValueError):  # the import says it better
        return
    for node in ast.walk(tree):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Call) and _called(node) in ("import_module", "__import__"):
            given = [part.value for part in node.args[:1] if isinstance(part, ast.Constant)]
            names = [name for name in given if isinstance(name, str) and not name.startswith(".")]
        for name in names:
            yield from itertools.accumulate(name.split("."), "{}.{}".format)


def _called(node: ast.Call) -> str:
    """Return the last name of what is called."""
    return getattr(node.func, "attr", getattr(node.func, "id", ""))


def _import_module(name: str) -> ModuleType:
    if not name or name.startswith("."):
        raise DefinitionError(f"Expected path/to/app.py:Class or package.module:Class, got the module {name!r}")
    folder = Path.cwd()
    sys.path.insert(0, str(folder))
    try:
        module = importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{name}.".startswith(f"{error.name}."):
            raise  # the module is there, but not what it imports
        raise DefinitionError(
            f"there is no module {error.name!r} in {folder}; a file ends with .py: path/to/app.py:Class"
        ) from None
    file = getattr(module, "__file__", None)
    if file is not None:
        _claim(Path(file), folder, name)
    return module


def _get_named(module: ModuleType, place: str, name: str) -> type[App]:
    found = getattr(module, name, None)
    if found is None:
        raise DefinitionError(f"there is no {name!r} in {place}; the apps in it: {_listed(module, place) or 'none'}")
    app = app_in(found)
    if app is None:
        listed = _listed(module, place)
        instead = f"the apps in it: {listed}" if listed else f"write {_written(module, name)}"
        raise DefinitionError(f"{place}:{name} is no app; {instead}")
    return app


def _get_only(module: ModuleType, place: str) -> type[App]:
    apps = apps_in(module)
    if not apps:
        if imported := _imported(module):
            raise DefinitionError(f"there is no app in {place} but what it imports; write {place}:{imported}")
        raise DefinitionError(f"there is no app in {place}; write {_written(module, '')}")
    if len(apps) > 1:
        raise DefinitionError(f"there are {len(apps)} apps in {place}; write one of {_listed(module, place)}")
    return apps[0]


def _imported(module: ModuleType) -> str:
    """Return the name of an app that a module has from another one; "" where it has none but bases of ours."""
    apps = ((name, app_in(value)) for name, value in vars(module).items())
    return next((name for name, app in apps if app is not None and not app.__module__.startswith("streamapp.")), "")


def _listed(module: ModuleType, place: str) -> str:
    return ", ".join(f"{place}:{name}" for name in _named_apps(module).values())


def _written(module: ModuleType, name: str) -> str:
    """Say how an app of that name is written, in the words that the module's author knows."""
    file = Path(getattr(module, "__file__", None) or "")
    if file.suffix == ".py" and {"chutes", "streamapp.chutes"} & {*names_imported(file)}:
        return f'{name or "chute"} = Chute(name="...")'
    return f"class {name or 'Name'}(streamapp.App)"
