"""Start the servers under test in processes of their own, and read what processes print."""

import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from tests.namespace import OURS
from tests.nursery import Forked

Process = Forked | subprocess.Popen[str]


def _network() -> str:
    """Return what tells this thread's network from others."""
    return str(OURS.readlink()) if OURS.is_symlink() else ""


_USUAL = _network()


@contextmanager
def serving(
    *arguments: str, env: Mapping[str, str], python: str | None = None, folder: Path | None = None
) -> Iterator[tuple[str, Process]]:
    """Run `streamapp serve`; yield the URL and the process, whose further output is still to be read.

    Args:
        python: another interpreter. Else the process is forked from one that has imported the server, but where the
            tests are on a network of their own.
        folder: where it runs, instead of here.
    """
    command = ("serve", "--port", "0", *arguments)
    process: Process
    if python is None and _network() == _USUAL:
        process = Forked(*command, env=env, stderr=2, folder=folder)
    else:
        interpreter = [python or sys.executable, "-u", "-m", "streamapp"]
        process = subprocess.Popen([*interpreter, *command], stdout=subprocess.PIPE, text=True, env=env, cwd=folder)
    try:
        yield read_until(process.stdout, "docs:").split()[1].removesuffix("/docs"), process
    finally:
        process.kill()
        process.communicate()
        if isinstance(process, Forked):
            process.close()


def port_of(url: str) -> int:
    return int(url.rpartition(":")[2])


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


def read_until(lines: IO[str] | None, word: str) -> str:
    """Read lines up to one that holds a word; return that one."""
    assert lines is not None
    for line in lines:
        if word in line:
            return line
    raise AssertionError(f"{word!r} never came")
