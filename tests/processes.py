"""Read what the processes under test print."""

from typing import IO


def read_until(lines: IO[str] | None, word: str) -> str:
    """Read lines up to one that holds a word; return that one."""
    assert lines is not None
    for line in lines:
        if word in line:
            return line
    raise AssertionError(f"{word!r} never came")
