"""Case 6: SIGTERM while streams are open: how long the server takes to end, and how many readers hear of it."""

import subprocess
import time
from contextlib import suppress

from ..client import Connection, read_all
from ..figures import Figure
from ..servers import Served

TITLE = "6. SIGTERM with 100 open streams, 2 s of grace"
NEEDS_FRESH_SERVER = False
FIGURES = {
    "exit_s": Figure("until process and streams have ended, s; at most 10", "{:.2f}"),
    "told_percent": Figure("clients with a terminal event, %"),
}
_LIMIT_S = 10.0
_TERMINAL = {"done", "error", "cancelled"}


def measure(served: Served, *, is_quick: bool) -> dict[str, float]:
    """Terminate the server; one whose process or streams go on is counted with the 10 s for which it is watched."""
    connections = served.ask_many(10 if is_quick else 100, "ticks", hz=10)
    terminated_at = time.monotonic()
    served.terminate()
    read_all(connections, until=terminated_at + _LIMIT_S)
    with suppress(subprocess.TimeoutExpired):
        served.process.wait(max(0.0, terminated_at + _LIMIT_S - time.monotonic()))
    exit_s = time.monotonic() - terminated_at
    told = sum(map(_is_told, connections))
    for connection in connections:
        connection.leave()
    return {"exit_s": min(exit_s, _LIMIT_S), "told_percent": 100 * told / len(connections)}


def _is_told(connection: Connection) -> bool:
    return connection.events()[-1].name in _TERMINAL
