"""Find where a text's sentences end: for its summary, and for the chunks and windows in which it is read.

A full stop is no end behind an abbreviation or an initial. Of marks and of emoji that follow one another each is looked
at once (`++`, and what stands before): a text of nothing else would take the square of its length.
"""

import re
from collections.abc import Iterator

WORD = re.compile(r"[^\W_]+(?:['’][^\W_]+)*")
_EMOJI = r"\u2600-\u27bf\U0001f300-\U0001faff"
END = re.compile(
    r"(?<![.!?…؟।])(?P<mark>[.!?…؟।]++[\"'”’»)\]]*+)(?=\s|$)"
    r"|(?P<wide>[。！？]++[」』”’）]*+)"
    rf"|(?<![\ufe0f\u200d{_EMOJI}])(?P<emoji>[{_EMOJI}][\ufe0f\u200d{_EMOJI}]*+)(?=\s+[A-Z\"“]|$)"
    r"|(?P<gap>\n\s*\n|\n(?=\s*(?:[-*•]|\d+[.)])\s))"
)
"""Where a sentence may end: at marks before a space, Arabic's and Hindi's too, at those of Chinese and Japanese, at
emoji, at empty lines."""
ABBREVIATIONS = frozenset(
    "mr mrs ms dr prof rev gen sen rep gov capt lt col sgt st mt ft no nos vol vols ed eds pp p fig figs eq sec ch art "
    "vs cf al e.g i.e eg ie approx est dept univ jan feb mar apr jun jul aug sep sept oct nov dec mon tue tues wed thu "
    "thur thurs fri sat sun etc inc ltd co corp bros jr sr u.s u.k u.n d.c a.m p.m ph.d b.a m.a".split()
)
MAY_END = frozenset("etc inc ltd co corp jr sr u.s u.k u.n d.c a.m p.m ph.d no art sun sat fig sec ed mar".split())
"""Abbreviations that also close a sentence, or are words of their own, where a word comes next that begins one."""
OPENERS = frozenset("the a an this that these those it he she we they i you but in on at and so if when there".split())
LONGEST = 60
"""Words after which a sentence is cut that has no end."""
NEAR = 40
"""Characters around a full stop that are looked at: a longer word is no abbreviation."""


def sentences(text: str) -> list[str]:
    """Split a text into its sentences, in their order; together they hold every word of it."""
    found: list[str] = []
    start = 0
    for end in (*ends(text), len(text)):
        found += _pieces(text[start:end], found)
        start = end
    return found


def ends(text: str, start: int = 0, stop: int | None = None) -> Iterator[int]:
    """Yield where the sentences end that begin at `start`, up to `stop`; the blanks behind one are not in it."""
    stop = len(text) if stop is None else stop
    for match in END.finditer(text, start, stop):
        wants_blank = match["mark"] or match["emoji"]
        is_cut = match.end() == stop < len(text) and not text[stop].isspace()  # there the pattern has seen the end
        if (wants_blank and is_cut) or (match["mark"] and _goes_on(text, start, match)):
            continue
        start = match.end()
        yield start


def _goes_on(text: str, start: int, match: re.Match[str]) -> bool:
    """Say whether a full stop is no end: behind an abbreviation or an initial, or an ellipsis within a sentence."""
    after = text[match.end() : match.end() + NEAR].split(maxsplit=1)
    follows = after[0] if after else ""
    if match["mark"].startswith(("..", "…")) and follows[:1].islower():
        return True
    if not match["mark"].startswith("."):
        return False
    before = text[max(start, match.start() - NEAR) : match.start()].rsplit(maxsplit=1)
    word = before[-1].lstrip("(\"'“‘[") if before else ""
    if len(word) == 1 and word.isupper() and word != "I":
        return True
    if word.lower() in MAY_END:
        return follows.lower().strip(".,") not in OPENERS
    return word.lower() in ABBREVIATIONS or (word.isdigit() and len(before) == 1)


def _pieces(text: str, found: list[str]) -> list[str]:
    """Return what is between two ends: nothing, a piece of the last sentence, a sentence, or several if it is long."""
    text = " ".join(text.split())
    if not text:
        return []
    if not WORD.search(text):
        if found:
            found[-1] = f"{found[-1]} {text}"
            return []
        return [text]
    words = text.split(" ")
    if len(words) <= 2 * LONGEST:
        return [text]
    return [" ".join(words[at : at + LONGEST]) for at in range(0, len(words), LONGEST)]
