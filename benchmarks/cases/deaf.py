"""Case 5: readers that do not read for a while: what waits for them, where, and when they see the present."""

import statistics
import time

from ..client import Connection, NotOffered, read_all
from ..figures import Figure
from ..servers import Served

TITLE = "5. readers that did not read for 4 s, 100 previews/s"
NEEDS_FRESH_SERVER = True  # memory that was used before would be used again
FIGURES = {
    "stale_megabytes": Figure("stale MB per reader", "{:.2f}"),
    "resident_megabytes": Figure("server memory, MB per reader", "{:.2f}"),
    "present_ms": Figure("until the present is seen, ms", "{:.1f}"),
}
_READERS, _HZ = 10, 100


def measure(served: Served, *, is_quick: bool) -> dict[str, float]:
    """Let readers sleep, then read; an event is stale when it was made before its reader woke up."""
    asleep_s, awake_s = (1.0, 0.5) if is_quick else (4.0, 2.0)
    readers = [served.ask("flood", hz=1)]  # what is allocated once
    readers[0].receive()
    before = served.resident_bytes()
    readers += [served.ask("flood", hz=_HZ) for _ in range(_READERS)]
    time.sleep(asleep_s)
    resident_bytes = served.resident_bytes() - before
    woken_at = time.monotonic()
    read_all(readers[1:], until=woken_at + awake_s)
    for reader in readers:
        reader.leave()
    stale, present = zip(*(_seen(reader, woken_at) for reader in readers[1:]), strict=True)
    return {
        "stale_megabytes": statistics.median(stale) / 1e6,
        "resident_megabytes": resident_bytes / _READERS / 1e6,
        "present_ms": statistics.median(present) * 1000,
    }


def _seen(reader: Connection, woken_at: float) -> tuple[int, float]:
    """Return the bytes of stale events, and how long after waking the first that is not stale was there."""
    stale = 0
    for event in reader.events():
        if event.payload["t"] > woken_at:
            return stale, event.at - woken_at
        stale += len(event.data)
    raise NotOffered("the readers never saw the present again")
