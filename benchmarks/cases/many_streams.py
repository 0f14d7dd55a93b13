"""Case 2: many paced streams at once: how late events come, and what that costs the server's processor."""

import time

from ..client import NotOffered, read_all
from ..figures import Figure, percentile
from ..servers import Served

TITLE = "2. 300 streams of 10 events/s"
NEEDS_FRESH_SERVER = True
FIGURES = {
    "p50_ms": Figure("p50, ms", "{:.2f}"),
    "p99_ms": Figure("p99, ms", "{:.2f}"),
    "cpu_s": Figure("CPU, s per 10 s", "{:.2f}"),
}


def measure(served: Served, *, is_quick: bool) -> dict[str, float]:
    """Open the streams, let them settle, then watch them for some seconds."""
    streams, watched_s = (30, 1.0) if is_quick else (300, 5.0)
    connections = served.ask_many(streams, "ticks", hz=10)
    try:
        read_all(connections, until=time.monotonic() + 0.5)
        since, cpu_s = time.monotonic(), served.cpu_s()
        read_all(connections, until=since + watched_s)
        cpu_s = served.cpu_s() - cpu_s
        events = [event for connection in connections for event in connection.events() if event.at > since]
    finally:
        for connection in connections:
            connection.leave()
    late_ms = [(event.at - event.payload["t"]) * 1000 for event in events]
    if len(events) < 0.9 * streams * 10 * watched_s:
        raise NotOffered(f"{len(events)} of {streams * 10 * watched_s:.0f} events came in time")
    return {
        "p50_ms": percentile(late_ms, 50),
        "p99_ms": percentile(late_ms, 99),
        "cpu_s": cpu_s * 10 / watched_s,
    }
