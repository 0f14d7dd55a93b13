"""Measure one stream when the server may use every core, one core alone, and when a process beside it holds one.

    python -m benchmarks.cores [--rounds 5] [--quick]

streamapp makes the events in a thread beside the loop's, raw in the loop: how they compare depends on the cores they
get. Each round measures both in each situation, by the load client and by `curl -sN -o /dev/null`.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext

from .cases.one_stream import stream
from .client import WAIT_S, NotOffered
from .figures import Figure, markdown, spread
from .servers import PEERS, Served, serving

_CORE = max(os.sched_getaffinity(0))
_HOLD = "import os\nparent = os.getppid()\nwhile os.getppid() == parent: pass"

Situation = Callable[[Served], AbstractContextManager[object]]
Reader = Callable[[Served, int], float]


@contextmanager
def pinned(served: Served) -> Iterator[None]:
    """Give the server's threads, and those that they start, one core and no other."""
    for process in served.processes:
        for thread in process.threads():
            os.sched_setaffinity(thread.id, {_CORE})
    yield


@contextmanager
def beside(_: Served) -> Iterator[None]:
    """Let a process hold a core; it ends with this one at the latest."""
    with subprocess.Popen([sys.executable, "-c", _HOLD]) as holder:
        os.sched_setaffinity(holder.pid, {_CORE})
        try:
            yield
        finally:
            holder.kill()


def by_client(served: Served, events: int) -> float:
    """Return the seconds from the request to the last byte, as in case 1."""
    return stream(served, events)[1]


def by_curl(served: Served, events: int) -> float:
    """Return the seconds that curl says it took.

    Raises:
        NotOffered: the answer was a refusal, or was cut.
    """
    path, body = served.address("count", n=events)
    options = ["--fail", "-sN", "-o", os.devnull, "-w", "%{time_total}", "-H", "Content-Type: application/json"]
    command = ["curl", *options, "-d", json.dumps(body), f"http://127.0.0.1:{served.port}{path}"]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=WAIT_S)
    if ran.returncode:
        raise NotOffered(f"curl ended with {ran.returncode}")
    return float(ran.stdout)


SITUATIONS: dict[str, Situation] = {
    f"{len(os.sched_getaffinity(0))} cores": nullcontext,
    "server pinned to one": pinned,
    "another process holds one": beside,
}
READERS: dict[str, Reader] = {"client": by_client, "curl": by_curl}
FIGURES = {
    f"{reader} {column}": Figure(f"{title}, by {reader}", form)
    for reader in READERS
    for column, title, form in (
        ("streamapp", "streamapp, events/s", "{:,.0f}"),
        ("raw", "raw, events/s", "{:,.0f}"),
        ("ratio", "ratio", "{:.2f}"),
    )
}


def rates(peer: str, situation: Situation, events: int, streams: int) -> dict[str, float]:
    """Return a peer's events per second for each reader: the medians of some streams."""
    with serving(PEERS[peer]) as served, situation(served):
        by_client(served, events // 10)
        return {
            name: events / statistics.median(reader(served, events) for _ in range(streams))
            for name, reader in READERS.items()
        }


def compared(situation: Situation, events: int, streams: int) -> dict[str, float]:
    """Return one round of `FIGURES`."""
    ours, other = (rates(peer, situation, events, streams) for peer in ("streamapp", "raw"))
    found: dict[str, float] = {}
    for reader in READERS:
        found |= {f"{reader} streamapp": ours[reader], f"{reader} raw": other[reader]}
        found[f"{reader} ratio"] = ours[reader] / other[reader]
    return found


def table(rounds: Mapping[str, Sequence[Mapping[str, float]]]) -> str:
    """Return a row for each situation."""
    rows = {
        name: {key: spread([figures[key] for figures in measured]) for key in FIGURES}
        for name, measured in rounds.items()
    }
    return markdown(FIGURES, rows)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.cores", description=__doc__)
    parser.add_argument("--rounds", type=int, metavar="N", help="5 when not given")
    parser.add_argument("--quick", action="store_true", help="one small round, to see that all works")
    arguments = parser.parse_args()
    events, streams = (5_000, 1) if arguments.quick else (200_000, 3)
    load_average = os.getloadavg()[0]
    rounds: dict[str, list[dict[str, float]]] = {name: [] for name in SITUATIONS}
    for _ in range(arguments.rounds or (1 if arguments.quick else 5)):
        for name, situation in SITUATIONS.items():
            rounds[name].append(compared(situation, events, streams))
    print(f"load average before {load_average:.1f}; one stream of {events:,} events: median (lowest–highest)")
    print(table(rounds))


if __name__ == "__main__":
    main()
