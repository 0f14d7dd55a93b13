"""Case 2b: thousands of slow streams: case 2's figures, the memory of each, and whether the client kept up."""

from ..figures import Figure, percentile
from ..servers import Served
from . import many_streams

TITLE = "2b. 5,000 streams of 2 events/s"
NEEDS_FRESH_SERVER = True
FIGURES = {
    **many_streams.FIGURES,
    "kilobytes": Figure("kB per stream", "{:.1f}"),
    "client_cpu_s": Figure("client's CPU, s per 10 s", "{:.2f}"),
    "turn_ms": Figure("client's turn, p99, ms", "{:.2f}"),
}
_HZ = 2
_FIRST = 50


def measure(served: Served, *, is_quick: bool) -> dict[str, float]:
    """Open the streams after the first of them, which take what is allocated once, then watch them all."""
    streams, watched_s = (100, 1.0) if is_quick else (5000, 10.0)
    connections = served.ask_many(_FIRST, "ticks", hz=_HZ)
    try:
        before = served.resident_bytes()
        connections += served.ask_many(streams - _FIRST, "ticks", hz=_HZ)
        watched = many_streams.watch(served, connections, hz=_HZ, watched_s=watched_s)
        return {
            **watched.figures(),
            "kilobytes": (served.resident_bytes() - before) / (streams - _FIRST) / 1000,
            "client_cpu_s": watched.client_cpu_s,
            "turn_ms": percentile(watched.turns_ms, 99),
        }
    finally:
        for connection in connections:
            connection.leave()
