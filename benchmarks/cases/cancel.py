"""Case 4: what the model computes for a client that has left, and how long the next client waits for it."""

import statistics
import time

from ..client import Connection
from ..figures import Figure
from ..servers import EVENT, Served

TITLE = "4. a client leaves a job of 50 steps of 20 ms"
NEEDS_FRESH_SERVER = False
FIGURES = {
    "steps_after": Figure("steps computed for nobody"),
    "next_ms": Figure("next client's first event, ms"),
}
_STEPS, _STEP_S = 50, 0.02


def measure(served: Served, *, is_quick: bool) -> dict[str, float]:
    """Leave some times after the fifth step."""
    times = 1 if is_quick else 3
    return {
        "steps_after": statistics.median(_steps_after(served) for _ in range(times)),
        "next_ms": statistics.median(_next_s(served) for _ in range(times)) * 1000,
    }


def _steps_after(served: Served) -> int:
    _begin(served).socket.close()
    at_leaving = served.steps.count
    return _settled(served) - at_leaving


def _next_s(served: Served) -> float:
    leaving = _begin(served)
    following = Connection.open(served.port)
    leaving.socket.close()
    following.send(served.request("sleep", n=1, step_s=_STEP_S))
    took_s = following.receive_until(EVENT) - following.sent_at
    following.socket.close()
    _settled(served)
    return took_s


def _begin(served: Served) -> Connection:
    """Return a stream of which five events have come."""
    connection = served.ask("sleep", n=_STEPS, step_s=_STEP_S)
    while len(connection.events()) < 5:
        connection.receive()
    return connection


def _settled(served: Served) -> int:
    """Return the number of computed steps when no more are added."""
    count, since = -1, 0.0
    while count != served.steps.count or time.monotonic() - since < 10 * _STEP_S:
        if count != served.steps.count:
            count, since = served.steps.count, time.monotonic()
        time.sleep(_STEP_S / 4)
    return count
