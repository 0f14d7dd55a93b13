"""Case 7: what an open stream in which nothing happens costs in memory."""

import time

from ..figures import Figure
from ..servers import Served

TITLE = "7. idle streams"
NEEDS_FRESH_SERVER = True  # memory that was used before would be used again
FIGURES = {"kilobytes": Figure("kB per stream", "{:.1f}")}


def measure(served: Served, *, is_quick: bool) -> dict[str, float]:
    """Open the streams after a few others, which take what is allocated once."""
    streams = 300 if is_quick else 5000
    connections = served.ask_many(50, "idle")
    try:
        before = served.resident_bytes()
        connections += served.ask_many(streams, "idle")
        time.sleep(0.5)
        return {"kilobytes": (served.resident_bytes() - before) / streams / 1000}
    finally:
        for connection in connections:
            connection.leave()
