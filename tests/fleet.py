"""Run Runpod's workers, by the real package, and lose them: what `tests/chaos.py` does harm to.

What the workers have run stands in the jobs' files, which `apps/counting_worker.py` writes.
"""

import asyncio
import os
import signal
import subprocess
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from tests.cutting_proxy import CuttingProxy, cutting

PYTHON = Path(__file__).parent / ".venvs" / "runpod" / "bin" / "python"
WORKER = Path(__file__).parent / "apps" / "counting_worker.py"
#: How a worker is lost: its first process alone, whose pings go on; with all of its processes; when it has stood still
#: for a while; when its network was gone before.
WAYS = ("killed", "with its pings", "stopped, killed", "cut off, killed")
_FOR_S = 0.7

#: Return the environment of a worker that reaches the server at a port.
Environment = Callable[[int], Mapping[str, str]]


class Berth:
    """Hold one worker at a time, and the proxy that is its network.

    Attributes:
        kind: that of its handler.
        started: how many workers there were; every second one has the id of the one before it.
    """

    def __init__(self, name: str, kind: str, proxy: CuttingProxy, environment: Mapping[str, str]) -> None:
        self.kind = kind
        self.started = 0
        self._name = name
        self._proxy = proxy
        self._environment = environment
        self._process: subprocess.Popen[bytes] | None = None
        self._orphans_of = 0

    @property
    def pid(self) -> int:
        """Return the worker's first process."""
        assert self._process
        return self._process.pid

    def start(self) -> None:
        """Start a worker; it takes jobs in a second or two."""
        worker_id = f"{self._name}-{self.started // 2}"
        self.started += 1
        self._process = subprocess.Popen(
            [PYTHON, WORKER, self.kind],
            env={**os.environ, **self._environment, "RUNPOD_POD_ID": worker_id},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )

    async def lose(self, way: str) -> None:
        """Take the worker away, in one of `WAYS`, and start another one; pings that it leaves go on until the next."""
        lost = self.pid
        self._end_orphans()
        if way == "killed":
            os.kill(lost, signal.SIGKILL)
        elif way == "stopped, killed":
            os.killpg(lost, signal.SIGSTOP)
            await asyncio.sleep(_FOR_S)
        elif way == "cut off, killed":
            self._proxy.go_down()
            await asyncio.sleep(_FOR_S)
        if way != "killed":
            _kill_all_of(lost)
            self._proxy.come_up()
        self._wait()
        self._orphans_of = lost
        self.start()

    def interrupt(self) -> None:
        """Cut the worker's connections; new ones are taken."""
        self._proxy.go_down()
        self._proxy.come_up()

    def end(self) -> None:
        """Kill the worker with its pings."""
        self._end_orphans()
        _kill_all_of(self.pid)
        self._wait()

    def _end_orphans(self) -> None:
        if self._orphans_of:
            _kill_all_of(self._orphans_of)

    def _wait(self) -> None:
        assert self._process
        self._process.wait(30)


def _kill_all_of(session: int) -> None:
    with suppress(ProcessLookupError):
        os.killpg(session, signal.SIGKILL)


@contextmanager
def berth(name: str, kind: str, port: int, environment: Environment) -> Iterator[Berth]:
    """Keep a worker of a kind running, behind a proxy before the server's port."""
    with cutting(port, cut=0) as proxy:
        one = Berth(name, kind, proxy, environment(proxy.port))
        one.start()
        try:
            yield one
        finally:
            one.end()


class Runs:
    """Read what was run: a file for each job, which no other job has."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def file(self, job: str) -> str:
        """Return where a job's runs are noted."""
        return str(self._folder / job)

    def count(self, job: str) -> int:
        """Return how often a job was begun."""
        return sum(line.endswith("begin") for line in self._lines(job))

    def at_work(self, jobs: Iterable[str]) -> dict[int, int]:
        """Return the processes that run these jobs, each with how often the one most begun was."""
        found: Counter[int] = Counter()
        for job in jobs:
            if (lines := self._lines(job)) and lines[-1].endswith("begin"):
                pid = int(lines[-1].split()[0])
                found[pid] = max(found[pid], self.count(job))
        return found

    def twice(self) -> list[str]:
        """Return the jobs that were run twice at a time."""
        return [path.stem for path in self._folder.glob("*.twice")]

    def _lines(self, job: str) -> list[str]:
        with suppress(FileNotFoundError):
            return (self._folder / job).read_text().splitlines()
        return []
