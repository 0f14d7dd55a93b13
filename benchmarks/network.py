"""Give a peer that listens on every interface a network in which the loopback is the only one.

Its server asks here too, before it starts anything, so only the standard library is imported.
"""

import socket
import subprocess
from collections.abc import Sequence

from .client import NotOffered

# Root may make the namespace as it is; who is not root becomes it in a namespace of users. The first process ends all
# others of its namespace of processes, and with the last one the network is gone.
_UNSHARE = (
    ("unshare", "--net", "--pid", "--fork", "--kill-child", "--mount-proc"),
    ("unshare", "--map-root-user", "--net", "--pid", "--fork", "--kill-child", "--mount-proc"),
)
_UP = ("sh", "-c", 'ip link set lo up && exec "$@"', "sh")
_TRY_S = 10


def is_private() -> bool:
    """Say whether nothing outside of this process's network can reach it: there is no interface but the loopback."""
    return [name for _, name in socket.if_nameindex()] == ["lo"]


def private() -> Sequence[str]:
    """Return what runs a command, written after it, in a private network that ends with the command.

    Raises:
        NotOffered: this system does not let us have one.
    """
    for unshare in _UNSHARE:
        try:
            tried = subprocess.run([*unshare, *_UP, "true"], capture_output=True, text=True, timeout=_TRY_S)
        except OSError as error:
            raise NotOffered(f"no network namespace can be had: {error}") from None
        if tried.returncode == 0:
            return *unshare, *_UP
    raise NotOffered(f"no network namespace can be had: {tried.stderr.strip()}")
