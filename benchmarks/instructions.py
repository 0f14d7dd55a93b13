"""Count the instructions that a server needs for an event and for a request: exact, however busy the machine is.

    python -m benchmarks.instructions [--peer streamapp raw] [--streams 30]

Valgrind's callgrind counts those of the process, not of the kernel: of an event while streams flow at two events a
second each, the loop's own ticks included, ten a second for all streams together; and of a whole request for a stream
of one event, on a connection of its own.
"""

import argparse
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path

from .client import Connection, NotOffered, read_all
from .servers import PEERS, Peer, Served, serving

_HZ = 2.0
_SETTLE_S = 8.0
_WATCHED_S = 10.0
_REQUESTS = 40


def per_event(peer: Peer, streams: int) -> float:
    """Return the instructions per event of paced streams; raises as `_count` does."""
    connections: list[Connection] = []

    def settle(served: Served) -> None:
        connections.extend(served.ask_many(streams, "ticks", hz=_HZ))
        _watch(connections, _SETTLE_S)

    return _count(peer, settle, lambda served: _watch(connections, _WATCHED_S))


def per_request(peer: Peer) -> float:
    """Return the instructions per request for a stream of one event; raises as `_count` does."""
    return _count(peer, _ask, _ask)


def _count(peer: Peer, before: Callable[[Served], object], watched: Callable[[Served], int]) -> float:
    """Return the instructions for each of what `watched` returns the number of.

    Raises:
        NotOffered: the server does not start, or is too slow under valgrind.
    """
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "callgrind"
        under = ("valgrind", "--tool=callgrind", "--instr-atstart=no", f"--callgrind-out-file={out}")
        with serving(peer, under) as served:
            before(served)
            _control(served.process.pid, "--instr=on")
            number = watched(served)
            _control(served.process.pid, "--instr=off")
            _control(served.process.pid, "--dump")
        totals = subprocess.run(
            ["callgrind_annotate", f"{out}.1"], capture_output=True, text=True, check=True
        ).stdout.partition("PROGRAM TOTALS")[0]
    return int(totals.splitlines()[-1].split()[0].replace(",", "")) / number


def _ask(served: Served) -> int:
    for _ in range(_REQUESTS):
        connection = served.ask("count", n=1)
        connection.receive_all()
        connection.socket.close()
    return _REQUESTS


def _watch(connections: list[Connection], seconds: float) -> int:
    before = _events(connections)
    read_all(connections, until=time.monotonic() + seconds)
    return _events(connections) - before


def _events(connections: Iterable[Connection]) -> int:
    return sum(len(connection.events()) for connection in connections)


def _control(pid: int, action: str) -> None:
    subprocess.run(
        ["callgrind_control", action, str(pid)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=True
    )


def main() -> None:
    """Print a line for each peer."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.instructions")
    parser.add_argument("--peer", nargs="+", choices=PEERS, default=["streamapp", "raw", "sse-starlette", "fastapi"])
    parser.add_argument("--streams", type=int, default=30)
    arguments = parser.parse_args()
    print(f"{'instructions':16}{'per event':>10}{'per request':>13}")
    for name in arguments.peer:
        try:
            peer = PEERS[name]
            print(f"{name:16}{per_event(peer, arguments.streams):10,.0f}{per_request(peer):13,.0f}", flush=True)
        except NotOffered as reason:
            print(f"{name:16}{reason}")


if __name__ == "__main__":
    main()
