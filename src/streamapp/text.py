"""Make text fit for the wire: what is no Unicode, and what some readers take for the end of a line."""

from collections import deque
from enum import Enum
from typing import Any

# `str.splitlines`, with which clients read lines, cuts at these too; the others are control characters, which JSON
# escapes. In UTF-8 none of them is a part of another character, and in JSON they stand in strings alone.
_LINE_ENDS = {character.encode(): rb"\u%04x" % ord(character) for character in "\u2028\u2029\x85"}


def whole(text: str) -> str:
    """Return a text with U+FFFD in the place of each lone surrogate, and a pair of them as the character it stands for.

    Models that cut text by UTF-16, and file names of other systems, bring such.
    """
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return text


def all_whole(value: Any) -> Any:
    """Return plain data with all its texts `whole`, keys too, and enumerations by their values; the rest as it is."""
    match value:
        case str():
            return whole(value)
        case Enum():
            return all_whole(value.value)
        case dict():
            return {all_whole(key): all_whole(item) for key, item in value.items()}
        case list() | tuple() | set() | frozenset() | deque():
            return [all_whole(item) for item in value]
    return value


def without_line_ends(json: bytes) -> bytes:
    """Return JSON, which may be ASCII, with those characters escaped at which readers of lines would cut it."""
    for character, escape in _LINE_ENDS.items():
        json = json.replace(character, escape)
    return json
