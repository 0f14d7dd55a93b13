"""Run a command, and start it anew when a source file changes: `streamapp serve --reload`.

The listening socket stays open in this process and is lent to the child, so that a client that connects meanwhile
waits instead of being refused. Open streams are ended by the child's drain, at once unless `STREAMAPP_DRAIN_S` says
otherwise; a child that does not come to an end is killed. Ctrl-C, which a terminal sends to both, is for this process
alone until the child serves: it would show the traceback of what it was importing.
"""

import os
import signal
import subprocess
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import watchfiles

from ..process.logs import logger


def keep_running(command: Sequence[str], folders: Iterable[Path], *, fd: int, stop_timeout_s: float = 5) -> None:
    """Keep a child process running until SIGINT or SIGTERM; one that has ended is started anew by a change too.

    Args:
        folders: watched for changes of Python files, with their subfolders.
        fd: the file descriptor that the child inherits.
        stop_timeout_s: how long a child may take to end before it is killed.
    Raises:
        KeyboardInterrupt: a signal came; the child has ended.
    """
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    child = _start(command, fd)
    is_told = False
    try:
        for changed in _changes(folders):
            if changed:
                logger.info("starting anew: %s changed", ", ".join(changed))
                _stop(child, stop_timeout_s)
                child = _start(command, fd)
                is_told = False
            elif child.poll() is not None and not is_told:
                logger.error("the app ended with exit code %d; waiting for a change of the source", child.returncode)
                is_told = True
    finally:
        _stop(child, stop_timeout_s)


def _changes(folders: Iterable[Path]) -> Iterator[list[str]]:
    """Yield the names of the Python files that changed, and an empty list every half second."""
    python = watchfiles.PythonFilter()
    for changes in watchfiles.watch(*folders, watch_filter=python, rust_timeout=500, yield_on_timeout=True):
        yield sorted({Path(path).name for _, path in changes})


def _start(command: Sequence[str], fd: int) -> "subprocess.Popen[bytes]":
    heard = signal.signal(signal.SIGINT, signal.SIG_IGN)  # the child inherits that
    try:
        return subprocess.Popen(command, pass_fds=[fd], env={"STREAMAPP_DRAIN_S": "0", **os.environ})
    finally:
        signal.signal(signal.SIGINT, heard)


def _stop(child: "subprocess.Popen[bytes]", timeout_s: float) -> None:
    try:
        child.terminate()
        child.wait(timeout_s)
    except subprocess.TimeoutExpired:
        logger.warning("the app did not end within %g s and is killed", timeout_s)
    finally:  # a second Ctrl-C waits no longer
        child.kill()
        child.wait()
