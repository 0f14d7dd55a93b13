"""Write the tables of the reference from the code: `make reference`.

A page says where by `<!-- generated: NAME -->`; what stands from there to `<!-- end -->` is replaced.
"""

import inspect
import re
import types
from collections.abc import Callable, Iterator
from enum import Enum
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import typer
from annotated_types import Ge, Gt
from pydantic import SecretStr
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined
from typer.cli import get_docs_for_click
from typer.main import get_command

from streamapp import App, errors
from streamapp.cli.main import cli
from streamapp.settings import MIB, Settings

DOCS = Path(__file__).parent.parent.parent / "docs"
_MADE = re.compile(r"(<!-- generated: (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)
_NAMES = {int: "integer", float: "number", bool: "`true` or `false`", str: "text", SecretStr: "secret", Path: "folder"}


def settings() -> str:
    """Return a table of the settings."""
    rows = [
        f"| `STREAMAPP_{name.upper()}` | {_kind(field)} | {_default(field.default)} | {field.description} |"
        for name, field in Settings.model_fields.items()
    ]
    return "\n".join(["| variable | value | default | what it is |", "|---|---|---|---|", *rows])


def _kind(field: FieldInfo) -> str:
    """Say what a setting takes, with its bounds."""
    bounds = [f"{bound.ge} or more" for bound in field.metadata if isinstance(bound, Ge)]
    bounds += [f"more than {bound.gt}" for bound in field.metadata if isinstance(bound, Gt)]
    return ", ".join([_named(field.annotation), *bounds]) if bounds != ["1 or more"] else _named(field.annotation)


def _named(kind: Any) -> str:
    if isinstance(kind, types.UnionType) or get_origin(kind) is Union:  # a literal's `| None` is the latter in 3.11
        return next(_named(one) for one in get_args(kind) if one is not type(None))
    if get_origin(kind) is Annotated:
        return _named(get_args(kind)[0])
    if get_origin(kind) is Literal:
        return " or ".join(f"`{one}`" for one in get_args(kind))
    if get_origin(kind) is tuple:
        return "list, with commas"
    return _NAMES.get(kind, str(kind))


def _default(value: Any) -> str:
    if value in (None, PydanticUndefined, ()):
        return "unset"
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    if isinstance(value, tuple):
        return f"`{','.join(value)}`"
    if isinstance(value, int) and value >= MIB and value % MIB == 0:
        return (
            f"`{value}` ({value // 1024 // MIB} Gi)" if value % (1024 * MIB) == 0 else f"`{value}` ({value // MIB} Mi)"
        )
    if isinstance(value, float):
        return f"`{value:g}`"
    return f"`{value.value if isinstance(value, Enum) else value}`"


def options() -> str:
    """Return a table of the class options, by the docstring of `App`."""
    rows = []
    for names, text in re.findall(r"^    (\w.*? = .*?): (.*(?:\n     .*)*)", inspect.getdoc(App) or "", re.MULTILINE):
        said = " ".join(text.split())
        shown = "<br>".join(f"`{option}`" for option in re.split(r", (?=\w+ = )", names))
        rows.append(f"| {shown} | {said[0].upper()}{said[1:]} |")
    return "\n".join(["| option = default | what it is |", "|---|---|", *rows])


def error_codes() -> str:
    """Return a table of the errors, by status."""
    rows = []
    for error in sorted(_errors(errors.StreamAppError), key=lambda error: error.status_code):
        if error is not errors.DefinitionError:
            says = str(inspect.getdoc(error)).partition("\n")[0].removeprefix("Say that ").removeprefix("Say ")
            cells = (
                error.status_code,
                f"`{error.code}`",
                f"`{error.__name__}`",
                "yes" if error.retryable else "",
                says,
            )
            rows.append(f"| {' | '.join(map(str, cells))} |")
    return "\n".join(["| status | code | class | retryable | it says |", "|---|---|---|---|---|", *rows])


def _errors(base: type[errors.StreamAppError]) -> Iterator[type[errors.StreamAppError]]:
    yield base
    for error in base.__subclasses__():
        if error.__module__ == errors.__name__:
            yield from _errors(error)


def command_line() -> str:
    """Return the help of each command, as Typer writes it."""
    command = get_command(cli)
    text = get_docs_for_click(obj=command, ctx=typer.Context(command), name="streamapp", indent=1)
    return text.partition("\n")[2].strip().replace("```console", "```text")


TABLES: dict[str, Callable[[], str]] = {
    "settings": settings,
    "options": options,
    "errors": error_codes,
    "commands": command_line,
}


def with_tables(page: str) -> str:
    """Return a page with its tables as the code has them now."""
    return _MADE.sub(lambda match: f"{match[1]}\n{TABLES[match[2]]()}\n\n{match[3]}", page)


if __name__ == "__main__":
    for path in DOCS.rglob("*.md"):
        path.write_text(with_tables(path.read_text()))
