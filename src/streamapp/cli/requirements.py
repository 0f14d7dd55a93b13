"""Say what pip installs where an app is served: what the app asks for, what its project does, and the server itself.

`requirements` is fal's list of requirements and pip's options, or a list of such lists, each installed when those
before it are. With every one of them the server is named again, so that a stage which would break it fails.
"""

import os
import re
import shlex
import tomllib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .. import __version__
from ..errors import InvalidInput
from ..loading import names_imported

_SERVER = "streamapp-server"
_EXTRAS = {"streamapp.diffusion": "diffusion", "streamapp.llm": "llm"}  # by what needs them
_NAMES_SERVER = re.compile(r"streamapp(?:-|_|\.)server\s*(\[[^\]]*\])?\s*(?P<version>.*)", re.IGNORECASE)
# What pip reads from the disk, of which the image has nothing yet.
_READS_FILES = re.compile(
    r"-(r|c|e).*|--(requirement|constraint|editable)\b.*|\.{0,2}/.*|\.{1,2}(\[.*)?|(.*\s)?file:.*|[^\s:]+\.whl"
)
_LISTED = re.compile(r"""\s*(?:-r|-c|--requirement|--constraint)[\s=]*(?:"([^"]+)"|'([^']+)'|(\S+))""")


@dataclass(frozen=True, slots=True)
class Project:
    """Hold what stands beside an app: the requirements of a pyproject.toml, and files that pip reads."""

    requirements: tuple[str, ...] = ()
    files: tuple[Path, ...] = ()


def read_project(start: Path, top: Path) -> Project:
    """Read the requirements.txt and the pyproject.toml that are nearest to a folder, up to `top`.

    Raises:
        InvalidInput: one of them cannot be carried over; says what to write.
    """
    for folder in (start, *start.parents):
        listed, declared = folder / "requirements.txt", folder / "pyproject.toml"
        if listed.is_file() or declared.is_file():
            requirements = _declared(declared) if declared.is_file() else []
            return Project(tuple(requirements), tuple(_files(listed)) if listed.is_file() else ())
        if folder == top:
            break
    return Project()


def read_text(file: Path) -> str:
    """Return what a file says, which somebody has written.

    Raises:
        InvalidInput: it cannot be read as text.
    """
    try:
        return file.read_text("utf-8-sig")
    except OSError as error:
        raise InvalidInput(f"{file}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise InvalidInput(f"{file} is not written in UTF-8; save it as that") from None


def stages(requirements: Any) -> list[list[str]]:
    """Return pip's arguments for each stage of an app's `requirements`.

    Raises:
        InvalidInput: they are something else; says what to write.
    """
    given = list(requirements) if isinstance(requirements, list | tuple) else [requirements]
    is_staged = any(isinstance(entry, list | tuple) for entry in given)
    layers = given if is_staged else [given]
    if not all(isinstance(layer, list | tuple) for layer in layers):
        raise InvalidInput("requirements: write a list of texts, or a list of such lists; these are both in one")
    return [stage for layer in layers if (stage := [word for entry in layer for word in _words(entry)])]


def extras(files: Iterable[Path], *, webrtc: bool) -> list[str]:
    """Return the server's extras that an app needs, by what its files import."""
    imported = {name for file in files for name in names_imported(file)}
    found = {extra for module, extra in _EXTRAS.items() if module in imported}
    return sorted(found | ({"webrtc"} if webrtc else set()))


def server(named: Sequence[str], needs: Sequence[str], wheel: str | None = None) -> str:
    """Return the requirement that brings this server, in the version that runs here where none of `named` says another.

    Args:
        needs: the extras.
        wheel: a wheel of it, by its path.
    """
    asked = f"[{','.join(needs)}]" if needs else ""
    if wheel is not None:
        return f"./{wheel}{asked}"
    says = any((found := _NAMES_SERVER.fullmatch(each)) and found["version"] for each in named)
    return f"{_SERVER}{asked}" if says else f"{_SERVER}{asked}=={__version__}"


def without_server(named: Iterable[str]) -> list[str]:
    """Return requirements without those which name the server alone, that is added anyway."""
    return [each for each in named if not ((found := _NAMES_SERVER.fullmatch(each)) and not found["version"])]


def with_secrets(words: Iterable[str]) -> list[str]:
    """Return those in whose URLs a password or a token stands, without it."""
    inside = re.compile(r"(://)(?!git@)[^/\s@]+@")
    return [inside.sub(r"\1...@", word) for word in words if inside.search(word)]


def _words(entry: Any) -> list[str]:
    if not isinstance(entry, str) or not entry.strip():
        raise InvalidInput(f"requirements: expected texts like 'torch>=2.4', got {entry!r}")
    if not entry.isprintable():
        raise InvalidInput(f"requirements: expected one line each, got {entry!r}")
    if _READS_FILES.fullmatch(entry.strip()):
        raise InvalidInput(
            f"requirements: {entry!r} is a file of this machine's; write a requirements.txt beside the app, or name a "
            "package or a URL"
        )
    try:
        return shlex.split(entry) if entry.lstrip().startswith("-") else [entry.strip()]
    except ValueError as error:
        raise InvalidInput(f"requirements: {entry!r}: {error}") from None


def _declared(file: Path) -> list[str]:
    try:
        project = tomllib.loads(read_text(file)).get("project", {})
    except tomllib.TOMLDecodeError as error:
        raise InvalidInput(f"{file}: {error}") from None
    if not isinstance(project, dict) or not isinstance(project.get("dynamic", []), list):
        raise InvalidInput(f"{file}: [project] is not written as packages write it")
    if "dependencies" in project.get("dynamic", ()):
        raise InvalidInput(f"{file}: its dependencies are dynamic, and only its build knows them; write them down")
    if project.get("name") == _SERVER:  # this repository's own apps
        return []
    return [word for requirement in project.get("dependencies", ()) for word in _words(requirement)]


def _files(file: Path) -> list[Path]:
    """Return a file of requirements, and those that it names."""
    found = [file]
    for each in found:
        for line in read_text(each).splitlines():
            word = line.partition(" #")[0].strip()
            if named := _LISTED.match(line):
                name = named[1] or named[2] or named[3]
                place = Path(os.path.normpath(each.parent / name))
                found += [place] if "://" not in name and place not in found else []
            elif _READS_FILES.fullmatch(word):
                raise InvalidInput(f"{each}: {word!r} is a file of this machine's; name a package or a URL")
    return found
