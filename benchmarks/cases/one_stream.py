"""Case 1: one stream of small events as fast as it goes, and how soon the first one comes."""

import statistics

from ..client import NotOffered
from ..figures import Figure
from ..servers import EVENT, Served

TITLE = "1. one stream"
NEEDS_FRESH_SERVER = False
FIGURES = {
    "events_per_s": Figure("events/s"),
    "first_of_one_ms": Figure("first event of 1, ms", "{:.2f}"),
    "first_of_all_ms": Figure("first event of 10,000, ms", "{:.2f}"),
}


def measure(served: Served, *, is_quick: bool) -> dict[str, float]:
    """Return the medians of several streams of one event and of several of 10 000."""
    streams, events = (3, 2000) if is_quick else (10, 10_000)
    stream(served, events)
    singles = [stream(served, 1) for _ in range(2 * streams)]
    alls = [stream(served, events) for _ in range(streams)]
    return {
        "events_per_s": events / statistics.median(took_s for _, took_s in alls),
        "first_of_one_ms": statistics.median(first_s for first_s, _ in singles) * 1000,
        "first_of_all_ms": statistics.median(first_s for first_s, _ in alls) * 1000,
    }


def stream(served: Served, events: int) -> tuple[float, float]:
    """Return the seconds from the request to the first event's first byte, and to the last byte of all."""
    connection = served.ask("count", n=events)
    first_at = connection.receive_until(EVENT)
    connection.receive_all()
    got = [event.payload["i"] for event in connection.events()]
    if got != list(range(events)):
        raise NotOffered(f"{len(got)} of {events} events came")
    connection.socket.close()
    return first_at - connection.sent_at, connection.pieces[-1][0] - connection.sent_at
