"""Tell what code written for a version counts on: names and their parameters, settings, commands, error codes."""

import importlib
import inspect
import re
from pathlib import Path
from typing import Any

import typer.main

from streamapp import errors
from streamapp.cli.main import cli
from streamapp.settings import Settings

ROOMS = ("streamapp", "streamapp.testing", "streamapp.fal", "streamapp.chutes", "streamapp_client")
JAVASCRIPT = Path(__file__).parent.parent.parent / "client_sdk" / "js" / "src"


def surface() -> dict[str, Any]:
    """Return all of it, by names."""
    return {
        "python": {f"{room}.{name}": _parts(getattr(_room(room), name)) for room in ROOMS for name in _names(room)},
        "settings": sorted(Settings.model_fields),
        "commands": {name: _options(command) for name, command in _commands().items()},
        "error codes": _codes(),
        "javascript": {name: _exports(JAVASCRIPT / f"{name}.ts") for name in ("index", "react")},
    }


def _room(room: str) -> Any:
    return importlib.import_module(room)


def _names(room: str) -> list[str]:
    return sorted(name for name in _room(room).__all__ if not name.startswith("_"))


def _parts(named: Any) -> dict[str, list[str]]:
    """Return the parameters of a function; of a class of ours those of making one, and of its public methods."""
    if inspect.isclass(named):
        ours = [part for part in named.__mro__ if part.__module__.startswith("streamapp")]
        own = sorted({name for part in ours for name in vars(part) if not name.startswith("_")})
        return {"": _parameters(named), **{name: _parameters(getattr(named, name, None)) for name in own}}
    return {"": _parameters(named)} if callable(named) else {}


def _parameters(called: Any) -> list[str]:
    try:
        return [name for name in inspect.signature(called).parameters if name != "self"]
    except (TypeError, ValueError):  # of what is no function, or is written in C
        return []


def _commands() -> dict[str, Any]:
    return dict(typer.main.get_group(cli).commands)


def _options(command: Any) -> list[str]:
    return sorted(option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts))


def _codes() -> dict[str, int]:
    """Return the status of each error's code."""
    kinds = [
        kind for kind in vars(errors).values() if inspect.isclass(kind) and issubclass(kind, errors.StreamAppError)
    ]
    return {kind.code: kind.status_code for kind in kinds}


def _exports(file: Path) -> list[str]:
    text = file.read_text()
    listed = [name for names in re.findall(r"export (?:type )?\{(.+?)\}", text) for name in names.split(",")]
    declared = re.findall(r"export (?:async )?(?:function|interface|const|class|type) (\w+)", text)
    return sorted({*declared, *(name.strip().removeprefix("type ") for name in listed)})
