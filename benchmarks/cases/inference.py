"""Case 8: how fast the thread that computes is while many viewers stream from the same server."""

import hashlib
import os
import time

from ..client import Connection, read_all
from ..figures import Figure
from ..servers import EVENT, Served

TITLE = "8. inference beside 300 viewers of 10 events/s"
NEEDS_FRESH_SERVER = True  # some peers go on with the streams of a case before
FIGURES = {
    "alone_per_s": Figure("steps/s alone", "{:.1f}"),
    "beside_per_s": Figure("steps/s with viewers", "{:.1f}"),
    "share": Figure("ratio", "{:.3f}"),
}
_STEP_S = 0.005
_ROUNDS = "BENCHMARK_STEP_ROUNDS"


def measure(served: Served, *, is_quick: bool) -> dict[str, float]:
    """Count a job's steps before, while and after the viewers are there."""
    viewers, watched_s = (30, 0.5) if is_quick else (300, 3.0)
    job = served.ask("work", n=1_000_000, rounds=_rounds())
    job.receive_until(EVENT)
    before = _rate(served, [job], watched_s)
    watching = served.ask_many(viewers, "ticks", hz=10)
    beside = _rate(served, [job, *watching], watched_s)
    for connection in watching:
        connection.leave()
    after = _rate(served, [job], watched_s)
    job.leave()
    alone = (before + after) / 2
    return {"alone_per_s": alone, "beside_per_s": beside, "share": beside / alone}


def _rate(served: Served, connections: list[Connection], watched_s: float) -> float:
    read_all(connections, until=time.monotonic() + 0.3)  # let it settle
    count, since = served.steps.count, time.monotonic()
    read_all(connections, until=since + watched_s)
    return (served.steps.count - count) / (time.monotonic() - since)


def _rounds() -> int:
    """Return how many rounds of a hash take about 5 ms on this machine.

    Measured once and kept in the environment, which a peer that is measured in a private network is handed: the work
    is the same for all.
    """
    if _ROUNDS not in os.environ:
        tried = 20_000
        started = time.perf_counter()
        hashlib.pbkdf2_hmac("sha256", b"step", b"latents", tried)
        os.environ[_ROUNDS] = str(int(tried * _STEP_S / (time.perf_counter() - started)))
    return int(os.environ[_ROUNDS])
