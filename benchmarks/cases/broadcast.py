"""Case 12: what is said in a room, by WebSocket, to a thousand members: how late it comes, and what that costs."""

import time
from collections.abc import Sequence

from ..client import NotOffered, read, reading
from ..figures import Figure, percentile
from ..servers import Served
from ..sockets import Socket

TITLE = "12. 1,000 members of a room, 10 messages/s"
NEEDS_FRESH_SERVER = True
FIGURES = {
    "p50_ms": Figure("p50, ms", "{:.2f}"),
    "p99_ms": Figure("p99, ms", "{:.2f}"),
    "cpu_s": Figure("CPU, s per 10 s", "{:.2f}"),
    "kilobytes": Figure("kB per member", "{:.1f}"),
    "turn_ms": Figure("client's turn, p99, ms", "{:.2f}"),
}
_HZ = 10
_FIRST = 10
_SETTLE_S = 0.5


def measure(served: Served, *, is_quick: bool) -> dict[str, float]:
    """Have the members come, then read what is said for some seconds."""
    members, watched_s = (50, 1.0) if is_quick else (1000, 5.0)
    sockets = [Socket.connect(served.port, "/room") for _ in range(_FIRST)]
    try:
        before = served.resident_bytes()
        sockets += [Socket.connect(served.port, "/room") for _ in range(members - _FIRST)]
        kilobytes = (served.resident_bytes() - before) / (members - _FIRST) / 1000
        return {**_watch(served, sockets, watched_s=watched_s), "kilobytes": kilobytes}
    finally:
        for socket in sockets:
            socket.leave()


def _watch(served: Served, sockets: Sequence[Socket], *, watched_s: float) -> dict[str, float]:
    for socket in sockets:
        socket.live()
    with reading(sockets) as selector:
        read(selector, until=time.monotonic() + _SETTLE_S)
        cpu_s = served.cpu_s()
        since = time.monotonic()
        turns_s = read(selector, until=since + watched_s)
        cpu_s = served.cpu_s() - cpu_s
    said = [[m for m in socket.messages() if m.payload["t"] > since] for socket in sockets]
    for messages in said:
        numbers = [message.payload["i"] for message in messages]
        is_whole = numbers == list(range(min(numbers, default=0), max(numbers, default=-1) + 1))
        if not is_whole or len(numbers) < 0.9 * _HZ * watched_s:
            raise NotOffered(f"{len(numbers)} of {_HZ * watched_s:.0f} messages came to a member, or not in order")
    late_ms = [(message.at - message.payload["t"]) * 1000 for messages in said for message in messages]
    return {
        "p50_ms": percentile(late_ms, 50),
        "p99_ms": percentile(late_ms, 99),
        "cpu_s": cpu_s * 10 / watched_s,
        "turn_ms": percentile(turns_s, 99) * 1000,
    }
