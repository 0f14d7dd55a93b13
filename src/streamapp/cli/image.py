"""Read what the image of one's own app has to hold.

What the app says is carried over: `requirements`, `local_python_modules`, `num_gpus`, the image that it was written for
(fal's `ContainerImage`, Chutes' `Image`), and what stands beside it. The folder that is built from is the one in which
the command runs; the app's own folder goes in as a whole, for what it reads besides Python.
"""

import fnmatch
import importlib.util
import os
import re
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

from ..app import App
from ..chutes.image import Image as ChutesImage
from ..chutes.selector import NodeSelector
from ..errors import InvalidInput
from ..fal.container import ContainerImage
from ..loading import modules_of, source_folder
from ..process.logs import logger
from .dockerfile import WRITTEN, Image, docker_name
from .requirements import extras, read_project, read_text, server, stages, with_secrets, without_server

_PATH = re.compile(r"(?!-)[\w ,.+@=~/-]+")  # neither variables nor patterns of Docker's, nor options
_HERE = re.compile(r"""<<(-?)["']?(\w+)["']?""")  # of Docker's RUN and COPY
_TOOLS = {"git+": "git", "hg+": "mercurial"}  # what pip calls for such URLs
_SECRETS = (".env", ".env.*", "*.pem", "*.key", ".netrc", ".pypirc")
_MAX_TOLD = 10
_CLUTTER = (".git", ".venv", "venv", "node_modules", "__pycache__")


def image_of(served: Sequence[str], named: Sequence[str], apps: Sequence[type[App]], folder: Path) -> Image:
    """Read what apps say of their image.

    Args:
        served: what `serve` is given for them; nothing where a pyproject.toml in `folder` says it.
        named: their import strings, as `serve` finds them.
        folder: what is built from.
    Raises:
        InvalidInput: something of it cannot be carried over; says what to write.
    """
    folder = folder.resolve()
    places = [source_folder(each) for each in named]
    settled = [] if served else [folder / "pyproject.toml"]
    sources = _inside(folder, [*places, *settled, *_named_besides(apps, folder)])
    patterns = _ignored_in(folder)
    _check_left(folder, sources, patterns)
    webrtc = any(spec.mark.webrtc for app in apps for spec in app.session_specs())
    project = read_project(places[0].resolve() if places[0].resolve().is_relative_to(folder) else folder, folder)
    lists, installs = _installs(apps, project.requirements, project.files, folder, webrtc)
    there = tuple(_as_there(each, folder) for each in served)
    _check_needed([*lists, *(place for place, _, _ in (each.partition(":") for each in there))], folder, patterns)
    base, build_args = _base(apps, folder)
    return Image(
        name=docker_name(str(apps[0].app_name)),
        served=there,
        installs=installs,
        lists=lists,
        tools=_tools_for([*chain(*installs), *map(read_text, project.files)]),
        sources=sources,
        base=base,
        build_args=build_args,
        gpus=max(map(_gpus, apps)),
        webrtc=webrtc,
    )


# What the apps say


def _option(app: type[App], name: str) -> Any:
    """Return an option of fal's, written in the class or as its keyword."""
    return app.host_kwargs.get(name, getattr(app, name, None))


def _gpus(app: type[App]) -> int:
    selector = getattr(getattr(app, "chute", None), "node_selector", None)
    if isinstance(selector, NodeSelector):
        return selector.gpu_count
    count = _option(app, "num_gpus")
    if count is None:
        machines = _option(app, "machine_type")
        several = machines if isinstance(machines, list | tuple) else [machines]
        return int(any(str(each).startswith("GPU") for each in several))
    if type(count) is not int or count < 0:
        raise InvalidInput(f"{app.__qualname__}: expected num_gpus to be a number, got {count!r}")
    return count


def _base(apps: Sequence[type[App]], folder: Path) -> tuple[str | None, Mapping[str, str]]:
    """Return the Dockerfile that apps were written for, and what it is given; None where they say nothing."""
    found: dict[str, Mapping[str, str]] = {}
    for app in apps:
        image = _option(app, "image") or getattr(getattr(app, "chute", None), "image", None)
        if isinstance(image, ContainerImage):
            context = image.options.get("context_dir")
            if context is not None and Path(context).resolve() != folder:
                raise InvalidInput(
                    f"{app.__qualname__}: its image is built from {context}; run `streamapp image` there, not in "
                    f"{folder}"
                )
            found[image.dockerfile] = _build_args(image)
        elif isinstance(image, ChutesImage):
            found[str(image)] = {}
        elif isinstance(image, str) and image.split() == [image]:
            found[f"FROM {image}"] = {}
    if len(found) > 1:
        raise InvalidInput("the apps name several images, and one holds all of them; write one image for each app")
    for text in found:
        _check_base(text)
    return next(iter(found.items()), (None, {}))


def _build_args(image: ContainerImage) -> Mapping[str, str]:
    given = image.options.get("build_args") or {}
    if not isinstance(given, Mapping):
        raise InvalidInput(f"build_args: expected names and values, got {given!r}")
    for name, value in given.items():
        if not re.fullmatch(r"[A-Za-z_]\w*", str(name)) or not str(value).isprintable():
            raise InvalidInput(f"build_args: expected names, and values of one line each, got {name!r}: {value!r}")
    return given


def _check_base(text: Any) -> None:
    if not isinstance(text, str):
        raise InvalidInput(f"the app's image: expected the text of a Dockerfile, got {text!r}")
    if WRITTEN in text:
        raise InvalidInput("the app's image is a Dockerfile that `streamapp image` has written; write to another file")
    goes_on = re.search(r"\\\s*(^\s*#.*\s*)*\Z", text, re.MULTILINE)  # comments do not end a line that does
    if not re.search(r"^\s*FROM\s", text, re.MULTILINE | re.IGNORECASE) or goes_on or _is_left_open(text):
        raise InvalidInput(f"the app's image is no whole Dockerfile: it ends with {text[-60:]!r}")


def _is_left_open(text: str) -> bool:
    """Say whether the last lines are a here-document's, to which the next ones would belong."""
    ends: list[tuple[str, str]] = []  # each with the dash by which it may be indented with tabs
    for line in text.splitlines():
        if not ends:
            ends = [] if line.lstrip().startswith("#") else _HERE.findall(line)
        elif (line.lstrip("\t") if ends[0][0] else line) == ends[0][1]:
            del ends[0]
    return bool(ends)


def _named_besides(apps: Sequence[type[App]], folder: Path) -> Iterator[Path]:
    """Yield what apps need that stands elsewhere: modules of theirs, their pages, fal's `app_files`."""
    for app in apps:
        yield from _files_of(app, folder)
        if (page := app.page_folder()) is not None:
            yield page
        for name in _option(app, "local_python_modules") or ():
            yield _module_place(app, name)
        file = getattr(sys.modules.get(app.__module__), "__file__", None)
        paths = _option(app, "app_files") or ()
        for path in [paths] if isinstance(paths, str) else paths:
            place = (Path(file).parent if file else folder) / path
            if not place.exists():
                raise InvalidInput(f"{app.__qualname__}: app_files names {path!r}, and there is no {place}")
            yield place


def _files_of(app: type[App], folder: Path) -> Iterator[Path]:
    """Yield the files of an app's module, and of those that it has from its folder; a package's are no part of it."""
    for name in modules_of(app.__module__):
        file = getattr(sys.modules.get(name), "__file__", None)
        if file is not None and Path(file).resolve().is_relative_to(folder):
            yield Path(file)


def _module_place(app: type[App], name: Any) -> Path:
    try:
        spec = importlib.util.find_spec(name)
    except (ImportError, ValueError, AttributeError, TypeError):
        spec = None
    if spec is None or spec.origin in (None, "built-in", "frozen"):
        raise InvalidInput(f"{app.__qualname__}: local_python_modules names {name!r}, and there is no such module here")
    place = Path(str(spec.origin))
    return place.parent if place.name == "__init__.py" else place


def _tools_for(texts: Sequence[str]) -> tuple[str, ...]:
    return tuple(tool for scheme, tool in _TOOLS.items() if any(scheme in text for text in texts))


# What goes in


def _inside(folder: Path, places: Iterable[Path]) -> tuple[str, ...]:
    """Return places by their names in the folder that is built from, without those that lie in others."""
    found = {}
    for place in dict.fromkeys(each.resolve() for each in places):
        if not place.is_relative_to(folder):
            raise InvalidInput(f"{place} is not in {folder}, which the image is built from; run this in one above both")
        found[place] = place.relative_to(folder)
    for name in found.values():
        _check_path(str(name))
    return tuple(
        name.as_posix() + "/" * (place.is_dir() and name != Path())
        for place, name in found.items()
        if not any(parent in found for parent in place.parents)
    )


def _as_there(import_string: str, folder: Path) -> str:
    """Return an import string as it is in the image: of a file by its path in the folder that is built from."""
    place, colon, name = import_string.partition(":")
    if not place.endswith(".py"):
        return import_string
    there = Path(place).resolve().relative_to(folder).as_posix()
    _check_path(there)
    return f"{there}{colon}{name}"


def _check_path(name: str) -> None:
    if not _PATH.fullmatch(name):
        raise InvalidInput(f"{name!r}: Docker reads such a name as a pattern, a variable or an option; rename it")


def _ignored_in(folder: Path) -> list[str]:
    ignoring = folder / ".dockerignore"
    return [line.strip() for line in read_text(ignoring).splitlines()] if ignoring.is_file() else []


def _check_needed(names: Iterable[str], folder: Path, patterns: Sequence[str]) -> None:
    for name in names:
        if (folder / name).is_file() and _is_ignored(name, patterns):
            raise InvalidInput(f"{folder / '.dockerignore'} keeps {name} from the image, which needs it; write !{name}")


def _check_left(folder: Path, sources: Iterable[str], patterns: Sequence[str]) -> None:
    """Refuse to copy files that hold secrets, and say which folders are of no use there."""
    ignoring = folder / ".dockerignore"
    left = [path.relative_to(folder) for source in sources for path in _left(folder / source, folder, patterns)]
    secrets = [path.as_posix() for path in left if _fits(path.name, _SECRETS)]
    if secrets:
        raise InvalidInput(
            f"{', '.join(sorted(secrets)[:_MAX_TOLD])} would be in the image, for everybody who has it; write each "
            f"into {ignoring}, on a line of its own"
        )
    if clutter := sorted(path.as_posix() for path in left if len(path.parts) == 1 and _fits(path.name, _CLUTTER)):
        logger.warning("%s would be in the image; write each into %s", ", ".join(clutter), ignoring)


def _left(place: Path, folder: Path, patterns: Sequence[str]) -> Iterator[Path]:
    """Yield a file, or what a .dockerignore leaves of a folder; what is of no use without what is in it."""
    if place.is_file():
        yield place
    for top, folders, files in os.walk(place):
        both = [Path(top, name) for name in (*folders, *files)]
        left = [path for path in both if not _is_ignored(path.relative_to(folder).as_posix(), patterns)]
        yield from left
        brings_back = any(pattern.startswith("!") for pattern in patterns)
        folders[:] = [
            name
            for name in folders
            if (brings_back or Path(top, name) in left) and not (Path(top, name) in left and _fits(name, _CLUTTER))
        ]


def _is_ignored(name: str, patterns: Iterable[str]) -> bool:
    """Tell whether a .dockerignore names something, or what it is in; the last line that fits counts."""
    said = False
    for pattern in patterns:
        meant = [part for part in pattern.removeprefix("!").split("/") if part not in ("", ".")]
        if meant and not pattern.startswith("#") and _leads_to(meant, name.split("/")):
            said = not pattern.startswith("!")
    return said


def _leads_to(pattern: Sequence[str], parts: Sequence[str]) -> bool:
    """Say whether a pattern fits a path or a folder that it is in; `**` stands for any number of folders."""
    if not pattern:
        return True
    if pattern[0] == "**":
        return any(_leads_to(pattern[1:], parts[n:]) for n in range(len(parts)))
    return bool(parts) and fnmatch.fnmatchcase(parts[0], pattern[0]) and _leads_to(pattern[1:], parts[1:])


def _fits(name: str, patterns: Iterable[str]) -> bool:
    return any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)


def _installs(
    apps: Sequence[type[App]], declared: Sequence[str], files: Sequence[Path], folder: Path, webrtc: bool
) -> tuple[tuple[str, ...], tuple[tuple[str, ...], ...]]:
    """Return the files that pip reads, and its arguments for each stage."""
    layers = [stage for app in apps for stage in stages(_option(app, "requirements") or [])]
    named = [*declared, *(word for layer in layers for word in layer)]
    for word in with_secrets([*named, *(line for file in files for line in read_text(file).splitlines())]):
        logger.warning("requirements: who has the image can read the password in %s; build with a secret instead", word)
    needs = extras((file for app in apps for file in _files_of(app, folder)), webrtc=webrtc)
    wheels = [path.name for path in folder.glob("streamapp_server-*.whl")]
    if len(wheels) > 1:
        raise InvalidInput(f"{', '.join(sorted(wheels))}: leave one of them in {folder}, which the image is to have")
    wheel = next(iter(wheels), None)
    own = server(named, needs, wheel)
    lists = _inside(folder, files)
    listed = ["-r", lists[0]] if lists else []
    first, *others = [without_server(layer) for layer in layers] or [[]]
    installs = [[own, *listed, *without_server(declared), *first], *([own, *layer] for layer in others)]
    return (*wheels, *lists), tuple(map(tuple, installs))
