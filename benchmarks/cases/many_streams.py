"""Case 2: many paced streams at once: how late events come, and what that costs the server's processor."""

import time
from collections.abc import Sequence
from typing import NamedTuple

from ..client import Connection, NotOffered, read, reading
from ..figures import Figure, percentile
from ..servers import Served

TITLE = "2. 300 streams of 10 events/s"
NEEDS_FRESH_SERVER = True
FIGURES = {
    "p50_ms": Figure("p50, ms", "{:.2f}"),
    "p99_ms": Figure("p99, ms", "{:.2f}"),
    "cpu_s": Figure("CPU, s per 10 s", "{:.2f}"),
}
_SETTLE_S = 0.5


class Watched(NamedTuple):
    """What streams were like for a while.

    Attributes:
        late_ms: of every event, from when it was made to when it was here.
        cpu_s: the server's, per 10 s.
        client_cpu_s: the load client's, per 10 s.
        turns_ms: see `client.read`.
    """

    late_ms: list[float]
    cpu_s: float
    client_cpu_s: float
    turns_ms: list[float]

    def figures(self) -> dict[str, float]:
        """Return this case's."""
        return {
            "p50_ms": percentile(self.late_ms, 50),
            "p99_ms": percentile(self.late_ms, 99),
            "cpu_s": self.cpu_s,
        }


def measure(served: Served, *, is_quick: bool) -> dict[str, float]:
    """Open the streams, let them settle, then watch them for some seconds."""
    streams, watched_s = (30, 1.0) if is_quick else (300, 5.0)
    connections = served.ask_many(streams, "ticks", hz=10)
    try:
        return watch(served, connections, hz=10, watched_s=watched_s).figures()
    finally:
        for connection in connections:
            connection.leave()


def watch(served: Served, connections: Sequence[Connection], *, hz: float, watched_s: float) -> Watched:
    """Read paced streams for a while; what the client adds to their lateness is in the turns.

    Raises:
        NotOffered: a tenth of the events or more did not come in time.
    """
    with reading(connections) as selector:
        read(selector, until=time.monotonic() + _SETTLE_S)
        cpu_s, client_cpu_s = served.cpu_s(), time.process_time()
        since = time.monotonic()  # what was made before waited while we looked at the server's processes
        turns_s = read(selector, until=since + watched_s)
        client_cpu_s = time.process_time() - client_cpu_s
        cpu_s = served.cpu_s() - cpu_s
    events = [event for connection in connections for event in connection.events()]
    late_ms = [(event.at - made_at) * 1000 for event in events if (made_at := event.payload["t"]) > since]
    if len(late_ms) < 0.9 * len(connections) * hz * watched_s:
        raise NotOffered(f"{len(late_ms)} of {len(connections) * hz * watched_s:.0f} events came in time")
    turns_ms = [turn_s * 1000 for turn_s in turns_s]
    return Watched(late_ms, cpu_s * 10 / watched_s, client_cpu_s * 10 / watched_s, turns_ms)
