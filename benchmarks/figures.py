"""Turn the rounds' figures into medians with their spread, and those into tables."""

import os
import platform
import statistics
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from .client import NotOffered
from .servers import Peer


class Figure(NamedTuple):
    """What one column shows."""

    title: str
    form: str = "{:,.0f}"


def spread(values: Sequence[float]) -> dict[str, Any]:
    """Return the median of the rounds, the lowest, the highest, and all of them."""
    return {"median": statistics.median(values), "low": min(values), "high": max(values), "rounds": list(values)}


def percentile(values: Sequence[float], percent: float) -> float:
    """Return the smallest value that so many percent of the values do not exceed."""
    ordered = sorted(values)
    return ordered[max(0, -int(-len(ordered) * percent // 100) - 1)]


def markdown(figures: Mapping[str, Figure], peers: Mapping[str, Mapping[str, Any]]) -> str:
    """Return a case's table: a row per peer, each figure with its lowest and highest round."""
    rows = [["", *(figure.title for figure in figures.values())], ["---"] + ["---:"] * len(figures)]
    for name, values in peers.items():
        rows.append([name, *(_cell(figure.form, values.get(key)) for key, figure in figures.items())])
    notes = [f"{name}: {values['note']}" for name, values in peers.items() if "note" in values]
    return "\n".join("| " + " | ".join(row) + " |" for row in rows) + "".join(f"\n- {note}" for note in notes)


def _cell(form: str, values: Mapping[str, float] | None) -> str:
    if values is None:
        return "-"
    median, low, high = (form.format(values[key]) for key in ("median", "low", "high"))
    return median if low == high else f"{median} ({low}–{high})"


def overview(cases: Mapping[str, Any], forms: Mapping[str, Mapping[str, Figure]]) -> str:
    """Return one table of all cases' medians: a row per figure, a column per peer."""
    names = list(dict.fromkeys(name for case in cases.values() for name in case["peers"]))
    rows = [["", *names], ["---"] + ["---:"] * len(names)]
    for case, result in cases.items():
        for key, figure in forms[case].items():
            found = (result["peers"].get(name, {}).get(key) for name in names)
            cells = (figure.form.format(values["median"]) if values else "-" for values in found)
            rows.append([f"{result['title']}: {figure.title}", *cells])
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)


def machine() -> dict[str, Any]:
    """Describe what the figures were taken on."""
    models = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    return {
        "cpu": models[0].partition(": ")[2] if models else platform.machine(),
        "cores": os.cpu_count(),
        "kernel": platform.release(),
        "python": platform.python_version(),
    }


def versions(peer: Peer) -> dict[str, str]:
    """Return the versions of a peer and of what it stands on.

    Raises:
        NotOffered: the peer is not installed.
    """
    if not peer.is_installed:
        raise NotOffered("not installed")
    code = (
        "import sys, importlib.metadata as m\n"
        "have = {d.name.lower(): d.version for d in m.distributions()}\n"
        "[print(n, have[n]) for n in sys.argv[1:] if n in have]"
    )
    names = dict.fromkeys((peer.package, "fastapi", "starlette", "uvicorn", "uvloop", "httptools"))
    run = subprocess.run([peer.python, "-c", code, *names], capture_output=True, text=True, check=True, timeout=60)
    return dict(line.split() for line in run.stdout.splitlines())
