"""A network of a test file's own, for what must not be on the machine's: WebRTC, which listens on all addresses.

ICE has no use for 127.0.0.1, and tests must reach nothing else. So the thread that runs the tests moves into a new
network namespace; what it starts is there, too: threads, servers, a browser. Nothing there reaches the machine, nor is
it reached from it, and it is gone with the last process in it. To a browser it looks like any machine's: one wire, an
address, a way out, at whose end nobody is. On `lo` alone Chromium gathers no address that it would not have hidden.
"""

import ctypes
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

import pytest
from tests.waiting import WAIT_S

ADDRESS = "10.20.0.1"
SETUP = (
    "ip link set lo up",
    "ip link add wire type veth peer name other",
    "ip link set wire up",
    "ip link set other up",
    f"ip address add {ADDRESS}/24 dev wire",
    "ip route add default via 10.20.0.2",
)
# Linux' <sched.h>; `os.unshare` and `os.setns` are there from Python 3.12 on.
CLONE_NEWNET = 0x40000000
OURS = Path("/proc/thread-self/ns/net")


@pytest.fixture(scope="module")
def own_network() -> Iterator[str]:
    """Have the tests of a file be alone on a network; gives the address that this machine has there.

    What is to be on it is asked for behind this: `def server(own_network: str) -> ...`.
    """
    if not OURS.exists() or shutil.which("ip") is None:
        _missing("no network namespace: it takes Linux, and `ip` (apt-get install iproute2)")
    with OURS.open() as before:
        try:
            _call("unshare", CLONE_NEWNET)
        except PermissionError:
            _missing("no network namespace: only root may make one")
        try:
            for command in SETUP:
                subprocess.run(command.split(), check=True, timeout=WAIT_S)
            yield ADDRESS
        finally:
            _call("setns", before.fileno(), CLONE_NEWNET)


def _missing(what: str) -> NoReturn:
    """Skip the tests; in CI, where all of it has to be there, fail them."""
    (pytest.fail if "CI" in os.environ else pytest.skip)(what)


def _call(name: str, *arguments: int) -> None:
    """Call a function of Linux'; what it changes it changes for this thread."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc[name](*arguments):
        raise OSError(ctypes.get_errno(), f"{name}: {os.strerror(ctypes.get_errno())}")
