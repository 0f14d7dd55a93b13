"""Start the servers under test in processes of their own, and read what processes print."""

import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO


@contextmanager
def serving(
    *arguments: str, env: Mapping[str, str], python: str = sys.executable, folder: Path | None = None
) -> Iterator[tuple[str, "subprocess.Popen[str]"]]:
    """Run `streamapp serve`, in a folder; yield the URL and the process, whose further output is still to be read."""
    command = [python, "-u", "-m", "streamapp", "serve", "--port", "0", *arguments]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=env, cwd=folder)
    try:
        yield read_until(process.stdout, "docs:").split()[1].removesuffix("/docs"), process
    finally:
        process.kill()
        process.communicate()


def read_until(lines: IO[str] | None, word: str) -> str:
    """Read lines up to one that holds a word; return that one."""
    assert lines is not None
    for line in lines:
        if word in line:
            return line
    raise AssertionError(f"{word!r} never came")
