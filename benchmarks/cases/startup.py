"""Case 10: how long an import takes, and a server from the start of its process to its first answer.

A package may import little until its names are asked for, so what an app of it writes at its top is timed, too. What
is more than FastAPI's is counted in processor time, which other work on the machine changes less, by runs that come one
after the other.
"""

import resource
import statistics
import subprocess
import time
from collections.abc import Iterator

from ..figures import Figure
from ..servers import PEERS, Peer, Served, environment, serving

TITLE = "10. start-up"
NEEDS_FRESH_SERVER = False
FIGURES = {
    "import_s": Figure("import, s", "{:.2f}"),
    "answer_s": Figure("first answer, s", "{:.2f}"),
    "names_more_s": Figure("import of an app's names, s of CPU more than FastAPI", "{:+.3f}"),
    "answer_more_s": Figure("first answer, s of CPU more than FastAPI", "{:+.3f}"),
}
_FASTAPI = PEERS["fastapi"]


def measure(served: Served, *, is_quick: bool) -> dict[str, float]:
    """Import the peer's package in new interpreters, FastAPI's by turns; the server has been started already."""
    times = 1 if is_quick else 3
    with serving(_FASTAPI) as beside:
        answer_more_s = served.started_cpu_s - beside.started_cpu_s
    return {
        "import_s": statistics.median(_import_s(served.peer) for _ in range(times)),
        "answer_s": served.started_s,
        "names_more_s": statistics.median(_names_more_s(served.peer, times)),
        "answer_more_s": answer_more_s,
    }


def _import_s(peer: Peer) -> float:
    started = time.perf_counter()
    subprocess.run([peer.python, "-c", f"import {peer.module}"], env=environment(), check=True)
    return time.perf_counter() - started


def _names_more_s(peer: Peer, times: int) -> Iterator[float]:
    for _ in range(times):
        own_s = _cpu_s(peer, peer.names or f"import {peer.module}")
        yield own_s - _cpu_s(_FASTAPI, "import fastapi")


def _cpu_s(peer: Peer, statement: str) -> float:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([peer.python, "-c", statement], env=environment(), check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
