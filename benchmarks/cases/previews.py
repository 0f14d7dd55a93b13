"""Case 3: one stream of 27 kB previews as fast as it goes."""

import statistics

from ..client import NotOffered
from ..figures import Figure
from ..servers import Served

TITLE = "3. previews of 27 kB"
NEEDS_FRESH_SERVER = False
FIGURES = {"events_per_s": Figure("events/s"), "megabytes_per_s": Figure("MB/s")}


def measure(served: Served, *, is_quick: bool) -> dict[str, float]:
    """Return the median rate of some streams."""
    streams, events = (1, 100) if is_quick else (5, 1000)
    _stream(served, events // 2)
    taken = [_stream(served, events) for _ in range(streams)]
    took_s = statistics.median(took_s for took_s, _ in taken)
    return {"events_per_s": events / took_s, "megabytes_per_s": taken[0][1] / took_s / 1e6}


def _stream(served: Served, events: int) -> tuple[float, int]:
    """Return the seconds from the request to the last byte, and how many bytes of events came."""
    connection = served.ask("previews", n=events)
    connection.receive_all()
    received = connection.events()
    if [event.payload["i"] for event in received] != list(range(events)):
        raise NotOffered(f"{len(received)} of {events} events came")
    connection.socket.close()
    return connection.pieces[-1][0] - connection.sent_at, sum(len(event.data) for event in received)
