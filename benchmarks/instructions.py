"""Count the instructions that a server needs for one event of a paced stream: exact, however busy the machine is.

    python -m benchmarks.instructions [--peer streamapp raw] [--streams 30]

Valgrind's callgrind counts those of the process, not of the kernel, between two moments while the streams flow at two
events a second each. The loop's own ticks are among them, ten a second for all streams together.
"""

import argparse
import subprocess
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path

from .client import Connection, NotOffered, read_all
from .servers import PEERS, Peer, serving

_HZ = 2.0
_SETTLE_S = 8.0
_WATCHED_S = 10.0


def count(peer: Peer, streams: int) -> float:
    """Return the instructions per event.

    Raises:
        NotOffered: the server does not start, or is too slow under valgrind.
    """
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "callgrind"
        under = ("valgrind", "--tool=callgrind", "--instr-atstart=no", f"--callgrind-out-file={out}")
        with serving(peer, under) as served:
            connections = served.ask_many(streams, "ticks", hz=_HZ)
            _watch(connections, _SETTLE_S)
            _control(served.process.pid, "--instr=on")
            events = _watch(connections, _WATCHED_S)
            _control(served.process.pid, "--instr=off")
            _control(served.process.pid, "--dump")
        totals = subprocess.run(
            ["callgrind_annotate", f"{out}.1"], capture_output=True, text=True, check=True
        ).stdout.partition("PROGRAM TOTALS")[0]
    return int(totals.splitlines()[-1].split()[0].replace(",", "")) / events


def _watch(connections: list[Connection], seconds: float) -> int:
    before = _events(connections)
    read_all(connections, until=time.monotonic() + seconds)
    return _events(connections) - before


def _events(connections: Iterable[Connection]) -> int:
    return sum(len(connection.events()) for connection in connections)


def _control(pid: int, action: str) -> None:
    subprocess.run(["callgrind_control", action, str(pid)], stdout=subprocess.DEVNULL, check=True)


def main() -> None:
    """Print a line for each peer."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.instructions")
    parser.add_argument("--peer", nargs="+", choices=PEERS, default=["streamapp", "raw", "sse-starlette", "fastapi"])
    parser.add_argument("--streams", type=int, default=30)
    arguments = parser.parse_args()
    for name in arguments.peer:
        try:
            print(f"{name:16}{count(PEERS[name], arguments.streams):10,.0f} instructions per event", flush=True)
        except NotOffered as reason:
            print(f"{name:16}{reason}")


if __name__ == "__main__":
    main()
