"""Write what a session emits as msgpack, too, where bytes are in it: fal's clients get them as they are.

In JSON bytes are a file, whose data URI takes a third more, and which a client of fal's does not expect in a realtime
session. All else is in msgpack what it is in JSON: it is read back from there.

Where a session's client has a video, the first image of each output and preview goes there, and is not written at all.
"""

import io
import math
from collections import deque
from contextlib import suppress
from dataclasses import fields, is_dataclass, replace
from typing import TYPE_CHECKING, Any, Protocol

import msgpack
from pydantic import BaseModel
from pydantic_core import from_json, to_jsonable_python

from ..media import File, Image, Publisher, is_pil, media_of
from ..text import whole
from .content import is_plain
from .events import Event, Output, Preview, dumped, preview_payload, to_event

if TYPE_CHECKING:
    import PIL.Image

_BYTES = (bytes, bytearray, memoryview, io.BytesIO)
_ITEMS = (list, tuple, set, frozenset, deque)


class Film(Protocol):
    """Show images of one session as frames of a video, instead of having each written out. Any thread may call."""

    def show(self, image: "PIL.Image.Image | Image") -> dict[str, Any]:
        """Make an image the newest frame, and return what stands for it in JSON; the caller may change it afterwards.

        Copies it; what takes longer is left for later.
        """
        ...

    def follow(self, before: "Film") -> None:
        """Go on where another film of the session has ended."""
        ...


def to_packed_event(
    value: Any, publisher: Publisher | None = None, film: Film | None = None, *, at_once: bool = False
) -> Event:
    """Encode an emitted value as `to_event` does, with msgpack besides where bytes are in it.

    Args:
        film: what shows its first image.

    Divergence: elsewhere a model says itself how its bytes are written in JSON, as text, say, which an image is not.
    """
    if film is not None:
        value = _filmed(value, film)
    payload = value.payload if isinstance(value, Output | Preview) else value
    try:
        if is_plain(payload) or not _has_bytes(payload):
            return to_event(value, publisher, at_once=at_once)
        payload = _plain(payload)
    except RecursionError:  # it contains itself, which `to_event` says
        return to_event(value, publisher, at_once=at_once)
    value = replace(value, payload=payload) if isinstance(value, Output | Preview) else payload
    event = to_event(value, publisher, at_once=at_once)
    if isinstance(value, Preview):
        payload = preview_payload(value)
    with suppress(OverflowError, ValueError, TypeError):  # an integer of more than 64 bits, which JSON takes
        event.pack(msgpack.packb(_packable(payload, publisher)))
    return event


def _filmed(value: Any, film: Film) -> Any:
    """Return an emitted value with its first image shown, and what stands for it in its place."""
    match value:
        case Preview(payload=image) if is_pil(image) or isinstance(image, File):
            return replace(value, payload=_shown({"image": image}, film))
        case Preview() | Output():
            return replace(value, payload=_shown(value.payload, film))
    return _shown(value, film)


def _shown(value: Any, film: Film) -> Any:
    try:
        return _first_shown(value, film)[0]
    except RecursionError:  # it contains itself, which `to_event` says
        return value


def _first_shown(value: Any, film: Film) -> tuple[Any, bool]:
    """Return a value, and whether an image in it was shown; what has none is left as it is."""
    if isinstance(value, _BYTES):
        image: Any = media_of(value.getvalue() if isinstance(value, io.BytesIO) else bytes(value))
    else:
        image = value
    if is_pil(image) or isinstance(image, Image):
        with suppress(Exception):  # Pillow's, at one that is empty or not whole: `to_event` says what it is
            return film.show(image), True
        return value, False
    if isinstance(value, BaseModel) or _is_dataclass(value):
        plain, is_shown = _first_shown(dumped(value), film)
        return (plain, True) if is_shown else (value, False)
    if isinstance(value, dict):
        items: Any = value.items()
    elif isinstance(value, list | tuple):
        items = enumerate(value)
    else:
        return value, False
    for key, item in items:
        shown, is_shown = _first_shown(item, film)
        if is_shown:
            return (
                {**value, key: shown} if isinstance(value, dict) else [*value[:key], shown, *value[key + 1 :]]
            ), True
    return value, False


def _has_bytes(value: Any) -> bool:
    match value:
        case dict():
            return any(map(_has_bytes, value.values()))
        case BaseModel():
            return any(map(_has_bytes, dict(value).values()))
    if isinstance(value, _ITEMS):
        return any(map(_has_bytes, value))
    if _is_dataclass(value):
        return any(_has_bytes(getattr(value, field.name)) for field in fields(value))
    return isinstance(value, _BYTES)


def _plain(value: Any) -> Any:
    """Return a value with its models and dataclasses as dicts."""
    if isinstance(value, BaseModel) or _is_dataclass(value):
        value = dumped(value)
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, _ITEMS) else value


def _packable(value: Any, publisher: Publisher | None) -> Any:
    """Return such a value as msgpack takes it, its bytes as they are."""
    match value:
        case str():
            return whole(value)
        case float():
            return value if math.isfinite(value) else None
        case None | bool() | int():
            return value
        case io.BytesIO():
            return value.getvalue()
        case bytes() | bytearray() | memoryview():
            return bytes(value)
        case dict():
            return {_key(key): _packable(item, publisher) for key, item in value.items()}
        case list():
            return [_packable(item, publisher) for item in value]
    return from_json(to_event(value, publisher).data)


def _key(key: Any) -> str:
    """Return a key as JSON has it: fal's client takes no others."""
    return whole(key) if isinstance(key, str) else next(iter(to_jsonable_python({key: None})))


def _is_dataclass(value: Any) -> bool:
    return is_dataclass(value) and not isinstance(value, type | File)
