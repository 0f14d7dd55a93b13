"""Put files in the place of the bytes and paths that an endpoint answers with.

Bytes are a file wherever they stand, but in a model or a dataclass, which say themselves how theirs are written. A path
is the file's content, also there: what else could a client do with it. Only files of the app's own folder, of the
folder for temporary files and of those that fal's apps keep for long are given away like this: a path can come from
somebody's input. What is large is copied into the file store piece by piece, without being held in memory.

An iterator is taken apart here, and nowhere before: it gives what it has once.
"""

import io
import mimetypes
import os
import tempfile
from collections import deque
from collections.abc import Callable, Collection, Iterator
from dataclasses import fields, is_dataclass
from functools import lru_cache
from pathlib import Path
from stat import S_ISDIR, S_ISREG
from types import NoneType
from typing import Any, Literal, get_args, get_origin, get_type_hints

from pydantic import BaseModel, PlainSerializer, RootModel, WrapSerializer
from pydantic.fields import FieldInfo

from ..errors import NotEncodable
from ..largefile import LargeFile
from ..media import INLINE_BYTES, File, HeldBack, media_of, publisher_for, sniff

_PLAIN = frozenset({str, int, float, bool, NoneType})
_MANY = 8
_HEAD_BYTES = 64  # tell what a file is


def is_plain(value: Any) -> bool:
    """Say whether a value is nothing but what JSON has, in which there is nothing to look for: the common case."""
    kind = type(value)
    if kind is dict:
        value = value.values()
    elif kind is not list:
        return kind in _PLAIN or _sort_of(value.__class__) == "plain"
    # All at once takes a third of the time, from some on.
    if len(value) > _MANY and _PLAIN.issuperset(map(type, value)):
        return True
    for item in value:  # in a generator it takes twice as long
        if type(item) not in _PLAIN and not is_plain(item):
            return False
    return True


def holds_path(value: Any) -> bool:
    """Say whether a path is anywhere in a value, also in its models and dataclasses; perhaps where that has no end."""
    try:
        return _holds(value, "path")
    except RecursionError:  # encoding it says what is wrong
        return True


def holds_iterator(value: Any) -> bool:
    """Say whether an iterator is anywhere in a value: who takes it apart twice finds it empty."""
    return _holds(value, "iterator")


def has_content(value: Any) -> bool:
    """Say whether a value has to go through `with_content`, for what becomes a file in it and what pydantic forgets."""
    return _holds(value, "path", "bytes", "iterator", "aliased")


def _holds(value: Any, *sought: str) -> bool:
    sort = _sort_of(value.__class__)
    if sort in ("other", "plain"):
        return False
    if sort == "dict":
        value = value.values()
    elif sort in sought:
        return True
    elif sort in ("fields", "aliased"):
        value, sought = _values_of(value), tuple(other for other in sought if other != "bytes")
    elif sort != "items":
        return False
    if len(value) > _MANY and _PLAIN.issuperset(map(type, value)):
        return False
    for item in value:
        if type(item) not in _PLAIN and _holds(item, *sought):
            return True
    return False


@lru_cache(maxsize=1024)
def _sort_of(kind: type) -> str:
    """Say how values of a type are looked through; pydantic takes a microsecond to tell what a model is."""
    if issubclass(kind, Path):
        return "path"
    if issubclass(kind, bytes | bytearray | memoryview | io.BytesIO):
        return "bytes"
    if issubclass(kind, dict):
        return "dict"
    if issubclass(kind, list | tuple | set | frozenset | deque):
        return "items"
    if issubclass(kind, Iterator):
        return "iterator"
    if issubclass(kind, BaseModel):
        return "plain" if _is_plain_model(kind) else "fields"
    if not is_dataclass(kind) or issubclass(kind, File | LargeFile):
        return "other"
    return "aliased" if _own_aliases(kind) else "fields"


def _is_plain_model(kind: type[BaseModel]) -> bool:
    """Say whether a model has fields of JSON's own types alone, and nothing else is written of it."""
    own = kind.__pydantic_decorators__
    is_written_otherwise = own.computed_fields or own.field_serializers or own.model_serializers
    if is_written_otherwise or kind.model_config.get("extra") == "allow":
        return False
    return all(map(_is_plain_field, kind.model_fields.values()))


def _is_plain_field(field: FieldInfo) -> bool:
    is_written_otherwise = any(isinstance(marker, PlainSerializer | WrapSerializer) for marker in field.metadata)
    return not is_written_otherwise and _is_plain_type(field.annotation)


def _is_plain_type(annotation: Any) -> bool:
    """Say so of `str`, `float | None`, `list[int]` and the like."""
    parts = get_args(annotation)
    if not parts or get_origin(annotation) is Literal:
        return annotation in _PLAIN or bool(parts)
    return all(map(_is_plain_type, parts))


def with_content(value: Any, held: HeldBack, to_plain: Callable[[Any], Any]) -> Any:
    """Return a value to be encoded, with files in the place of bytes and paths, and lists in that of iterators.

    It may block where there are paths or iterators.

    Args:
        to_plain: writes a model or a dataclass as plain data, as it is written itself.
    Raises:
        NotEncodable: there is no such file, or it is not to be given away, or this must not block.
    """
    if not has_content(value):
        return value
    match _sort_of(value.__class__):
        case "path":
            return _content_of(value, held)
        case "bytes":
            return media_of(value.getvalue() if isinstance(value, io.BytesIO) else bytes(value))
        case "dict":
            return {key: with_content(item, held, to_plain) for key, item in value.items()}
        case "items" | "iterator":
            return [with_content(item, held, to_plain) for item in value]
    return _put_into(to_plain(value), value, held)


def _values_of(value: Any) -> Collection[Any]:
    """Return the values of the fields of a model or a dataclass."""
    if getattr(value, "__pydantic_extra__", value) is None:
        own: Collection[Any] = value.__dict__.values()
        return own
    return _fields_of(value).values()


def _fields_of(value: Any) -> dict[str, Any]:
    """Return the values of a model or a dataclass by the names that they are written with."""
    if is_dataclass(value):
        values = {field.name: getattr(value, field.name, None) for field in fields(value)}
    else:
        values = {**value.__dict__, **(value.__pydantic_extra__ or {})}
    aliases = _aliases_of(value.__class__)
    return {aliases.get(name, name): item for name, item in values.items()}


@lru_cache(maxsize=1024)
def _aliases_of(kind: type) -> dict[str, str]:
    described = getattr(kind, "__pydantic_fields__", {})
    told = {name: field.serialization_alias for name, field in described.items() if field.serialization_alias}
    return told or _own_aliases(kind)


@lru_cache(maxsize=1024)
def _own_aliases(kind: type) -> dict[str, str]:
    """Return the aliases of a dataclass of the standard library, which pydantic heeds only where it is declared."""
    if hasattr(kind, "__pydantic_fields__"):
        return {}
    try:
        hints = get_type_hints(kind, include_extras=True)
    except (NameError, AttributeError, SyntaxError, TypeError):  # names that are there for type checkers alone
        return {}
    markers = [(name, marker) for name, hint in hints.items() for marker in getattr(hint, "__metadata__", ())]
    return {
        name: mark.serialization_alias
        for name, mark in markers
        if isinstance(mark, FieldInfo) and mark.serialization_alias
    }


def _put_into(written: Any, value: Any, held: HeldBack) -> Any:
    """Put files into what a value was written as, where it has a path and nothing else was made of that."""
    match value, written:
        case Path(), str() if written == str(value):
            return _content_of(value, held)
        case RootModel(), _:
            return _put_into(written, value.root, held)
        case dict(), dict() if len(value) == len(written):
            pairs = zip(written.items(), value.values(), strict=True)
            return {key: _put_into(part, item, held) for (key, part), item in pairs}
        case ((list() | tuple() | set() | frozenset() | deque()), list()) if len(value) == len(written):
            return [_put_into(part, item, held) for part, item in zip(written, value, strict=True)]
        case _, dict() if _sort_of(value.__class__) in ("fields", "aliased"):
            own, aliases = _fields_of(value), _own_aliases(value.__class__)
            named = {aliases.get(key) or key: part for key, part in written.items()}
            return {key: _put_into(part, own.get(key), held) for key, part in named.items()}
    return written


def _content_of(path: Path, held: HeldBack) -> Any:
    """Return what stands for a file on the disk: a `File`, or the JSON of one that was copied into the store."""
    if held.is_at_once:
        raise NotEncodable("a file takes too long to be read at once")
    try:
        real = path.resolve(strict=True)
        found = real.stat()
    except (OSError, RuntimeError) as error:  # RuntimeError: links in a circle
        raise NotEncodable(f"no file at {path}: {getattr(error, 'strerror', None) or error}") from None
    _check(path, real, found.st_mode, None if held.publisher is None else held.publisher.folder)
    name = path.name
    content_type = mimetypes.guess_type(name)[0] or ""
    publisher = publisher_for(found.st_size, held)
    if publisher is not None and found.st_size > INLINE_BYTES:
        with real.open("rb") as file:
            told = sniff(file.read(_HEAD_BYTES))
        if not told.startswith("image/"):  # of an image the size is told, too
            described = {"content_type": content_type or told or "application/octet-stream", "file_name": name}
            url = publisher.publish_path(real, described["content_type"])
            if url is not None:
                return {"url": url, **described, "file_size": found.st_size}
    return media_of(real.read_bytes(), content_type, name)


def _check(path: Path, real: Path, mode: int, folder: Path | None) -> None:
    if S_ISDIR(mode):
        raise NotEncodable(f"{path} is a folder; answer with its files, or with a ZIP of it")
    allowed = _folders(folder)
    if not S_ISREG(mode) or not any(real.is_relative_to(folder) for folder in allowed):
        raise NotEncodable(
            f"{path} is no file below {', '.join(map(str, allowed))}, whose files an app may answer with by their "
            "paths; if it is meant, write streamapp.File.from_path(path)"
        )


def _folders(folder: Path | None) -> list[Path]:
    named = [folder, tempfile.gettempdir(), persistent_folder(), os.environ.get("FAL_PERSISTENT_DIR")]
    return [*dict.fromkeys(Path(name).resolve() for name in named if name)]


def persistent_folder() -> str:
    """Return where apps keep what outlives the process: fal's `FAL_PERSISTENT_DIR`."""
    return os.environ.get("STREAMAPP_PERSISTENT_DIR") or os.path.expanduser("~/.cache/streamapp")
