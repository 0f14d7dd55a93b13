"""Measure streamapp beside its peers, in one run: `python -m benchmarks --help`.

Each server runs in a process of its own and this process loads it. In each round every peer has its turn, so that
a machine that gets slower gets slower for all; the figures are medians of the rounds with the lowest and the highest.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psutil  # type: ignore[import-untyped]

from .cases import BY_NAME, CASES, peers_of
from .client import NotOffered
from .figures import machine, markdown, overview, spread, versions
from .network import is_private, private
from .servers import MODELS, PEERS, QUEUES, ROOT, SOCKETS, Served, serving

_QUICK_PEERS = ("streamapp", "fastapi", "sse-starlette", "raw", "starlette")
_ALL_PEERS = MODELS | SOCKETS | QUEUES | PEERS  # where one has two servers, the workload's
_DESCRIPTORS = 20_000
_PRIVATE_S = 1800.0
# What goes wrong with a server that does not do what is asked of it.
_FAILURES = (NotOffered, OSError, ValueError, psutil.Error)

Rounds = dict[str, dict[str, dict[str, list[float]]]]  # case, peer, figure


class Run:
    """Measure cases on peers in rounds, and keep what came of it."""

    def __init__(self, cases: Sequence[str], peers: Sequence[str], *, is_quick: bool) -> None:
        self.cases, self.peers, self.is_quick = cases, peers, is_quick
        self.values: Rounds = {case: {peer: {} for peer in peers} for case in cases}
        self.notes: dict[str, dict[str, str]] = {case: {} for case in cases}
        self.load_average = os.getloadavg()[0]  # what else the machine did when the run began

    def round(self) -> None:
        """Measure everything once."""
        fresh = [[case] for case in self.cases if CASES[case].NEEDS_FRESH_SERVER]
        shared = [case for case in self.cases if not CASES[case].NEEDS_FRESH_SERVER]
        for group in filter(None, [*fresh, shared]):
            for peer in self._peers(group[0]):
                self._measure(peer, [case for case in group if not self._has_failed(peer, case)])

    def _peers(self, case: str) -> list[str]:
        return [peer for peer in self.peers if peer in peers_of(case)]

    def _has_failed(self, peer: str, case: str) -> bool:
        """Say whether a peer did not do in the first round what the case asks."""
        return peer in self.notes[case] and not self.values[case][peer]

    def _measure(self, peer: str, group: Sequence[str]) -> None:
        if not group:
            return
        asked = peers_of(group[0])[peer]
        try:
            if asked.listens_everywhere and not is_private():
                self._measure_in_private(peer, group)
                return
            with serving(asked) as served:
                for case in group:
                    self._measure_case(served, case)
        except NotOffered as reason:
            self.notes |= {case: {**self.notes[case], peer: str(reason)} for case in group}

    def _measure_in_private(self, peer: str, group: Sequence[str]) -> None:
        """Let this program measure the peer in a private network, where both its server and its client are.

        Raises:
            NotOffered: there can be no such network, or the program failed in it.
        """
        with tempfile.TemporaryDirectory() as folder:
            out = Path(folder) / "results.json"
            program = [sys.executable, "-m", "benchmarks", "--peer", peer, "--case", *group, "--rounds", "1"]
            command = [*private(), *program, *["--quick"] * self.is_quick, "--out", str(out)]
            try:
                subprocess.run(command, cwd=ROOT, stdout=subprocess.DEVNULL, check=True, timeout=_PRIVATE_S)
            except subprocess.SubprocessError as error:
                reason = type(error).__name__
                raise NotOffered(f"its run in a private network failed: {reason}") from None
            cases = json.loads(out.read_text())["cases"]
        for case in group:
            self._add(case, peer, cases[case]["peers"][peer])

    def _add(self, case: str, peer: str, measured: Mapping[str, Any]) -> None:
        """Add to a peer's rounds those of another run, as its results have them."""
        for figure, values in measured.items():
            if figure == "note":
                self.notes[case][peer] = values
            else:
                self.values[case][peer].setdefault(figure, []).extend(values["rounds"])

    def _measure_case(self, served: Served, case: str) -> None:
        try:
            for figure, value in CASES[case].measure(served, is_quick=self.is_quick).items():
                self.values[case][served.peer.name].setdefault(figure, []).append(value)
                print(f"  {case:14}{served.peer.name:14}{figure:18}{value:14,.3f}", file=sys.stderr)
        except _FAILURES as reason:
            self.notes[case][served.peer.name] = str(reason) or type(reason).__name__
            print(f"  {case:14}{served.peer.name:14}{reason!r}", file=sys.stderr)

    def results(self) -> dict[str, Any]:
        """Return the figures of each case and peer; a peer's note says why it has none."""
        return {case: {"title": CASES[case].TITLE, "peers": self._of_peers(case)} for case in self.cases}

    def _of_peers(self, case: str) -> dict[str, Any]:
        return {peer: self._of_peer(case, peer) for peer in self._peers(case)}

    def _of_peer(self, case: str, peer: str) -> Mapping[str, Any]:
        found: dict[str, Any] = {figure: spread(values) for figure, values in self.values[case][peer].items()}
        note = self.notes[case].get(peer)
        return found if note is None else {**found, "note": note}


def main() -> int:
    """Run the benchmarks; 1 when streamapp itself failed in one."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--case", nargs="+", choices=CASES, default=[case for case in CASES if case not in BY_NAME])
    parser.add_argument("--peer", nargs="+", choices=_ALL_PEERS, metavar="NAME")
    parser.add_argument("--rounds", type=int, metavar="N", help="5 when not given")
    parser.add_argument("--quick", action="store_true", help="one small round, to see that all works")
    parser.add_argument("--out", type=Path, metavar="FILE", help="write the figures as JSON")
    arguments = parser.parse_args()
    peers = arguments.peer or (_QUICK_PEERS if arguments.quick else _peers_of(arguments.case))
    rounds = arguments.rounds or (1 if arguments.quick else 5)
    _allow_descriptors()
    run = Run(arguments.case, peers, is_quick=arguments.quick)
    for number in range(rounds):
        print(f"round {number + 1} of {rounds}", file=sys.stderr)
        run.round()
    report = _report(run, rounds)
    _print(report)
    if arguments.out:
        arguments.out.write_text(json.dumps(report, indent=2) + "\n")
    return int(any("streamapp" in notes for notes in run.notes.values()))


def _peers_of(cases: Sequence[str]) -> list[str]:
    """Return the peers that have a part in any of the cases, in one order for all."""
    asked = {peer for case in cases for peer in peers_of(case)}
    return [peer for peer in PEERS | QUEUES | SOCKETS | MODELS if peer in asked]


def _allow_descriptors() -> None:
    """Raise the limit of open files, which the servers inherit."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    limit = _DESCRIPTORS if hard == resource.RLIM_INFINITY else min(_DESCRIPTORS, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))


def _report(run: Run, rounds: int) -> dict[str, Any]:
    peers = [_ALL_PEERS[name] for name in run.peers]
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": machine(),
        "load_average": run.load_average,
        "rounds": rounds,
        "is_quick": run.is_quick,
        "commands": {peer.name: f"python -m {peer.command}" for peer in peers},
        "versions": {peer.name: versions(peer) for peer in peers if peer.is_installed},
        "cases": run.results(),
    }


def _print(report: Mapping[str, Any]) -> None:
    cases = report["cases"]
    figures = {case: CASES[case].FIGURES for case in cases}
    machine = report["machine"]
    print(
        f"{report['date'][:10]}, {machine['cpu']}, {machine['cores']} cores, Python {machine['python']}, "
        f"{report['rounds']} rounds: median (lowest–highest)"
    )
    if report["is_quick"]:
        print("A quick run: all is smaller than the titles say, and the figures say little.")
    for case, result in cases.items():
        print(f"\n### {result['title']}\n\n{markdown(figures[case], result['peers'])}")
    print(f"\n### All\n\n{overview(cases, figures)}")


if __name__ == "__main__":
    sys.exit(main())
