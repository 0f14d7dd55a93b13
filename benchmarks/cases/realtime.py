"""Case 13: a small input that goes up a WebSocket, and its output that comes down: how long that takes."""

import time

from ..client import NotOffered
from ..figures import Figure, percentile
from ..servers import Served
from ..sockets import Socket

TITLE = "13. an input and its output over a WebSocket"
NEEDS_FRESH_SERVER = True  # it is another one than that of the other cases
FIGURES = {
    "async_p50_ms": Figure("async def, p50, ms", "{:.3f}"),
    "async_p99_ms": Figure("async def, p99, ms", "{:.3f}"),
    "sync_p50_ms": Figure("def, p50, ms", "{:.3f}"),
    "sync_p99_ms": Figure("def, p99, ms", "{:.3f}"),
}


def measure(served: Served, *, is_quick: bool) -> dict[str, float]:
    """Return the times of inputs one after another, in one session of each kind."""
    inputs = 200 if is_quick else 5000
    found: dict[str, float] = {}
    for kind in ("async", "sync"):
        times_ms = _round_trips(served, f"/echo-{kind}", inputs)
        found |= {f"{kind}_p50_ms": percentile(times_ms, 50), f"{kind}_p99_ms": percentile(times_ms, 99)}
    return found


def _round_trips(served: Served, path: str, inputs: int) -> list[float]:
    socket = Socket.connect(served.port, path)
    times_ms = []
    for i in range(inputs + inputs // 10):  # the first ones are not counted
        started = time.perf_counter()
        socket.say({"i": i})
        output = socket.answer()
        times_ms.append((time.perf_counter() - started) * 1000)
        if output != {"i": i}:
            raise NotOffered(f"the output for {i} was {output!r}")
    socket.leave()
    return times_ms[inputs // 10 :]
