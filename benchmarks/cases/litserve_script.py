"""Case 1 as LitServe's own benchmark measures it: `requests` reads 10 000 tokens line by line.

https://github.com/Lightning-AI/LitServe, tests/perf_test/stream/stream_speed. Here the client is slower than most of
the servers: the figures show what its user sees, not what they can do.
"""

import statistics
import time

import requests

from ..client import WAIT_S, NotOffered
from ..figures import Figure
from ..servers import EVENT, Served

TITLE = "1b. one stream, by LitServe's own script"
NEEDS_FRESH_SERVER = False
FIGURES = {"events_per_s": Figure("events/s"), "first_ms": Figure("first event, ms", "{:.2f}")}


def measure(served: Served, *, is_quick: bool) -> dict[str, float]:
    """Return the medians of some streams over one session."""
    streams, events = (1, 1000) if is_quick else (3, 10_000)
    with requests.Session() as session:
        _stream(session, served, events)
        taken = [_stream(session, served, events) for _ in range(streams)]
    return {
        "events_per_s": events / statistics.median(took_s for _, took_s in taken),
        "first_ms": statistics.median(first_s for first_s, _ in taken) * 1000,
    }


def _stream(session: requests.Session, served: Served, events: int) -> tuple[float, float]:
    """Return the seconds to the first event and to the last."""
    path, body = served.address("count", n=events)
    started = time.perf_counter()
    response = session.post(f"http://127.0.0.1:{served.port}{path}", json=body, stream=True, timeout=WAIT_S)
    times = [time.perf_counter() for line in response.iter_lines() if EVENT in line]
    if len(times) != events:
        raise NotOffered(f"{len(times)} of {events} events came")
    return times[0] - started, times[-1] - started
