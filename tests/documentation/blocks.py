"""Read the fenced blocks of a Markdown page, with what a comment before one says of it.

    <!-- not run: it downloads a model; tests/test_engine.py has such an app -->
    ```python
    ...
    ```

A block may stand indented, in a list or a tab.
"""

import re
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass

_FENCE = re.compile(r"^( *)(`{3,})(\w*) *(.*)$")
_COMMENT = re.compile(r"<!-- ([a-z ]+?)(?:: *|\n)(.*?) *-->", re.DOTALL)
_TITLE = re.compile(r'title="([^"]+)"')


@dataclass(frozen=True, slots=True)
class Block:
    """Hold one block, or, without a text, what comments say that no block is right behind."""

    line: int
    language: str
    #: the name of the file that it is
    title: str | None
    text: str
    #: what the comments right before it say
    says: dict[str, str]


def blocks_of(page: str) -> list[Block]:
    """Return the blocks of a page's text, in their order."""
    return list(_blocks(page.splitlines(keepends=True)))


def _blocks(lines: list[str]) -> Iterator[Block]:
    says: dict[str, str] = {}
    number = 0
    lines = [*lines, "the end"]
    while number < len(lines):
        line, begin = lines[number], number
        number += 1
        if fence := _FENCE.match(line):
            closing = re.compile(rf"^ *{fence[2]}`*\s*$")
            while not closing.match(lines[number]):
                number += 1
            text = textwrap.dedent("".join(lines[begin + 1 : number]))
            title = _TITLE.search(fence[4])
            yield Block(begin + 1, fence[3], title and title[1], text, says)
            says, number = {}, number + 1
        elif line.lstrip().startswith("<!-- "):
            while "-->" not in lines[number - 1]:
                number += 1
            if comment := _COMMENT.search("".join(lines[begin:number])):
                says = {**says, comment[1]: comment[2]}
        elif line.strip() and says:
            yield Block(begin, "", None, "", says)
            says = {}
