"""Case 10: how long an import takes, and a server from the start of its process to its first answer."""

import statistics
import subprocess
import time

from ..figures import Figure
from ..servers import Served, environment

TITLE = "10. start-up"
NEEDS_FRESH_SERVER = False
FIGURES = {"import_s": Figure("import, s", "{:.2f}"), "answer_s": Figure("first answer, s", "{:.2f}")}


def measure(served: Served, *, is_quick: bool) -> dict[str, float]:
    """Import the peer's package in new interpreters; the server has been started already."""
    times = 1 if is_quick else 3
    return {
        "import_s": statistics.median(_import_s(served) for _ in range(times)),
        "answer_s": served.started_s,
    }


def _import_s(served: Served) -> float:
    started = time.perf_counter()
    subprocess.run([served.peer.python, "-c", f"import {served.peer.module}"], env=environment(), check=True)
    return time.perf_counter() - started
