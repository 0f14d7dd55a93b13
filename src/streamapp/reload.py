"""Run a command, and start it anew when a source file changes: `streamapp serve --reload`.

The listening socket stays open in this process and is lent to the child, so that a client that connects meanwhile
waits instead of being refused. Open streams are ended by the child's drain, at once unless `STREAMAPP_DRAIN_S` says
otherwise; a child that does not come to an end is killed.
"""

import logging
import os
import signal
import subprocess
from collections.abc import Iterable, Sequence
from pathlib import Path

import watchfiles

_STOP_TIMEOUT_S = 5.0
_LOOK_EVERY_MS = 500

logger = logging.getLogger("streamapp")


def keep_running(command: Sequence[str], folders: Iterable[Path], *, fd: int) -> None:
    """Keep a child process running until SIGINT or SIGTERM; one that has ended is started anew by a change too.

    Args:
        folders: watched for changes of Python files, with their subfolders.
        fd: the file descriptor that the child inherits.
    Raises:
        KeyboardInterrupt: a signal came; the child has ended.
    """
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    child = _start(command, fd)
    is_told = False
    changes_of = watchfiles.watch(
        *folders,
        watch_filter=watchfiles.PythonFilter(),
        rust_timeout=_LOOK_EVERY_MS,
        yield_on_timeout=True,
    )
    try:
        for changes in changes_of:
            if changes:
                logger.info("starting anew: %s changed", ", ".join(sorted({Path(path).name for _, path in changes})))
                _stop(child)
                child = _start(command, fd)
                is_told = False
            elif child.poll() is not None and not is_told:
                logger.error("the app ended with exit code %d; waiting for a change of the source", child.returncode)
                is_told = True
    finally:
        _stop(child)


def _start(command: Sequence[str], fd: int) -> "subprocess.Popen[bytes]":
    return subprocess.Popen(command, pass_fds=[fd], env={"STREAMAPP_DRAIN_S": "0", **os.environ})


def _stop(child: "subprocess.Popen[bytes]") -> None:
    child.terminate()
    try:
        child.wait(_STOP_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        logger.warning("the app did not end within %g s and is killed", _STOP_TIMEOUT_S)
        child.kill()
        child.wait()
