"""Read JSON of strangers: its values may take forty times its bytes, and while it is read no other thread runs."""

import re
from collections.abc import Callable
from typing import Any

from pydantic_core import from_json

from .errors import PayloadTooLarge
from .process.threads import in_pool

#: values and names in one text. To read so many takes 0.1 s, of names alone 0.4 s; a text of 60 MB is one value.
MOST_VALUES = 1024 * 1024
#: what is larger is read in a thread
LARGE_BYTES = 1024 * 1024
_VALUE_BYTES = 64  # of an empty list, or of a number with its place in one
_STRUCTURE = b'",:[{'
_OTHERS = bytes(set(range(256)) - set(_STRUCTURE))
_TEXT = re.compile(rb'"[^"]*"')


def weigh(text: bytes) -> int:
    """Return the bytes that the values of a JSON text take in memory, about, besides the texts among them.

    Raises:
        PayloadTooLarge: there are too many of them.
    """
    values = _count(text)
    if values > MOST_VALUES:  # most of it may be in the midst of texts: a table, a program
        values = _count(_without_texts(text))
    return values * _VALUE_BYTES


async def read_json(text: bytes, parse: Callable[[bytes], Any] = from_json) -> Any:
    """Return what a JSON text says.

    Args:
        parse: reads it, perhaps in a thread.
    Raises:
        ValueError: it is none.
        PayloadTooLarge: it has too many values.
    """
    return await in_pool(_read, text, parse) if len(text) > LARGE_BYTES else _read(text, parse)


def _read(text: bytes, parse: Callable[[bytes], Any]) -> Any:
    weigh(text)
    return parse(text)


def _count(text: bytes) -> int:
    return sum(text.count(sign) for sign in (b",", b":", b"[", b"{"))


def _without_texts(text: bytes) -> bytes:
    """Return the signs of structure that are in no text; of what is no JSON, those before it breaks off."""
    signs = text.replace(rb"\\", b"").replace(rb"\"", b"").translate(None, _OTHERS)
    if signs.count(b'"') > 2 * MOST_VALUES:
        raise _too_many()
    found = _TEXT.sub(b"", signs)
    if len(found) > MOST_VALUES:
        raise _too_many()
    return found


def _too_many() -> PayloadTooLarge:
    return PayloadTooLarge(
        f"the JSON has more than {MOST_VALUES} values and names; send such an amount as a file, or in parts"
    )
