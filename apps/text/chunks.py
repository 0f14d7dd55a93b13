"""Cut texts where a reader would: behind a paragraph or a sentence, else between words, and never within a sign.

What is cut is the whole text: put together again, the chunks are what came, to the last blank.
"""

import re
import unicodedata
from collections.abc import Callable, Iterator
from typing import NamedTuple

from .sentences import ends

_PARAGRAPH = re.compile(r"\n\s*\n\s*")
_LINE = re.compile(r"\n\s*")
_BLANKS = re.compile(r"\s+")
_LONGEST_SIGN = 32  # code points; what goes on is none that anybody reads, and is cut
_JOINER = "\u200d"  # of the signs that are one emoji together


class Chunk(NamedTuple):
    """Hold a piece of a text, and where it is in there: `text[start:end]`."""

    text: str
    start: int
    end: int


def cut(text: str, reach: Callable[[int], int]) -> Iterator[Chunk]:
    """Yield the chunks of a text, which follow one another without a gap.

    Args:
        reach: says how far a chunk that begins at an offset may go: an offset behind that one. A sign that is made of
            several code points is not cut, and may go further.
    """
    start = 0
    while start < len(text):
        most = reach(start)
        end = len(text) if most >= len(text) else _border(text, start, most)
        yield Chunk(text[start:end], start, end)
        start = end


def cut_by_length(text: str, size: int) -> list[Chunk]:
    """Return the chunks of a text, of at most `size` characters."""
    return list(cut(text, lambda start: start + size))


def _border(text: str, start: int, most: int) -> int:
    """Return the best place to cut: as far behind as a chunk may end, and no sentence's end in its first half."""
    half = start + (most - start) // 2
    for behind in (_paragraphs, _sentences):
        if (end := max(behind(text, start, most), default=0)) > half:
            return end
    end = max((found.end() for found in _BLANKS.finditer(text, start, most)), default=start)
    return end if text[start:end].strip() else _between_signs(text, start, most)


def _paragraphs(text: str, start: int, most: int) -> Iterator[int]:
    """Yield where paragraphs end, with the blanks behind them."""
    yield from (found.end() for found in _PARAGRAPH.finditer(text, start, most))


def _sentences(text: str, start: int, most: int) -> Iterator[int]:
    """Yield where sentences and lines end, with the blanks behind them, unless these would begin the next chunk."""
    for end in ends(text, start, most):
        if end < most or not text[most].isspace():
            blanks = _BLANKS.match(text, end, most)
            yield blanks.end() if blanks else end
    yield from (found.end() for found in _LINE.finditer(text, start, most))


def _between_signs(text: str, start: int, most: int) -> int:
    """Return the last place up to `most` at which no sign is cut; behind it, where there is none."""
    for end in range(most, start, -1):
        if not _is_within_sign(text, end):
            return end
    for end in range(most + 1, min(most + _LONGEST_SIGN, len(text))):
        if not _is_within_sign(text, end):
            return end
    return len(text) if len(text) - most <= _LONGEST_SIGN else most


def _is_within_sign(text: str, at: int) -> bool:
    """Say whether the code points around a place belong together: accents, emoji that are joined, flags, CR and LF."""
    before, behind = text[at - 1], text[at]
    return (
        behind == _JOINER
        or before == _JOINER
        or unicodedata.category(behind) in ("Mn", "Me", "Mc")
        or _is_tone(behind)
        or (before == "\r" and behind == "\n")
        or (_is_flag(before) and _is_flag(behind) and _flags_before(text, at) % 2 == 1)
    )


def _is_tone(sign: str) -> bool:
    """Say whether it is the tone of the skin of the emoji before it."""
    return "\U0001f3fb" <= sign <= "\U0001f3ff"


def _is_flag(sign: str) -> bool:
    """Say whether it is one of the letters of which two are a flag."""
    return "\U0001f1e6" <= sign <= "\U0001f1ff"


def _flags_before(text: str, at: int) -> int:
    count = 0
    while count < at and _is_flag(text[at - 1 - count]):
        count += 1
    return count
