"""Look up among the texts in a source what a page quotes as said by it, so that readers who search for it find it.

What is filled into a text, by an f-string or by a logger, may be anything.
"""

import ast
import re
from collections.abc import Iterator

_FILLED = re.compile(r"%[-\d.]*[a-z]")
_LEAST = 12  # letters: a shorter text is in many lines


def unsaid(quoted: str, source: str) -> list[str]:
    """Return the lines that are, for the most part, no text of a source in Python."""
    patterns = list(_patterns(source))
    return [line for line in quoted.splitlines() if line.strip() and not any(_says(each, line) for each in patterns)]


def _says(pattern: re.Pattern[str], line: str) -> bool:
    found = pattern.search(line)
    return found is not None and 2 * len(found[0]) >= len(line)


def _patterns(source: str) -> Iterator[re.Pattern[str]]:
    nodes = list(ast.walk(ast.parse(source)))
    pieces = {id(value) for node in nodes if isinstance(node, ast.JoinedStr) for value in node.values}
    for node in nodes:
        written = [] if id(node) in pieces else _written(node)
        if sum(map(len, written)) >= _LEAST:
            yield re.compile(".*".join(map(re.escape, written)))


def _written(node: ast.AST) -> list[str]:
    """Return what of a text is written out, in pieces between what is filled in."""
    match node:
        case ast.Constant(value=str(text)):
            return _FILLED.split(text)
        case ast.JoinedStr(values=values):
            return [str(value.value) if isinstance(value, ast.Constant) else "" for value in values]
    return []
