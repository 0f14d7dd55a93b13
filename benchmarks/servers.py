"""Start each peer's server in a process of its own, and know how to ask it for a stream."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Any, NamedTuple

import psutil  # type: ignore[import-untyped]

from .client import WAIT_S, Connection, NotOffered, request
from .network import is_private
from .workload import Steps, asking

HERE = Path(__file__).parent
ROOT = HERE.parent
EVENT = b'{"i":'
_START_S = 90.0
_OPEN_S = 180.0


class Queue(NamedTuple):
    """Say how a peer is asked as Runpod is.

    Attributes:
        path: what paths begin with.
        method: that of `/stream/{id}`.
        events_path: where the same job is started and streamed as server-sent events; None where nowhere.
    """

    path: str
    method: str
    events_path: str | None = None


@dataclass(frozen=True)
class Peer:
    """One way to serve the workload.

    Attributes:
        package: what it is called on the package index, for its version.
        module: what is imported where that is timed.
        names: what an app of it imports, where the module alone is not that.
        venv: the environment under `.venvs` that it needs; None for the project's own.
        command: what follows `python -m`; `{port}` is filled in.
        apis: where it takes several streams' requests at one path, told apart by `path` in the body.
        listens_everywhere: on every interface, whatever it is told; it is run in a private network, with its client.
        queue: it serves the one handler for Runpod, not the workload.
        texts: where it is asked for a language model's text; it serves nothing else.
    """

    name: str
    package: str
    module: str
    command: str
    venv: str | None = None
    environment: tuple[tuple[str, str], ...] = ()
    apis: tuple[tuple[str, str], ...] = ()
    listens_everywhere: bool = False
    queue: Queue | None = None
    texts: str | None = None
    names: str | None = None

    @property
    def python(self) -> str:
        """Return the interpreter of the peer's environment."""
        return sys.executable if self.venv is None else str(HERE / ".venvs" / self.venv / "bin" / "python")

    @property
    def is_installed(self) -> bool:
        """Say whether the peer's environment is there."""
        return shutil.which(self.python) is not None


def _own(name: str, package: str, module: str) -> Peer:
    return Peer(name, package, module, f"benchmarks.peers.{name.replace('-', '_')}.server {{port}}")


PEERS = {
    peer.name: peer
    for peer in (
        Peer(
            "streamapp",
            "streamapp-server",
            "streamapp",
            "streamapp serve benchmarks/peers/streamapp/app.py:Workload --port {port} --log-level error",
            environment=(
                ("STREAMAPP_MAX_ASYNC_JOBS", "100000"),
                ("STREAMAPP_MAX_SESSIONS", "100000"),
                ("STREAMAPP_DRAIN_S", "2"),
            ),
            names="from streamapp import App, endpoint",
        ),
        _own("fastapi", "fastapi", "fastapi.sse"),
        _own("sse-starlette", "sse-starlette", "sse_starlette"),
        _own("raw", "starlette", "starlette.responses"),
        _own("fal", "starlette", "starlette.responses"),
        Peer(
            "litserve",
            "litserve",
            "litserve",
            "benchmarks.peers.litserve.server {port}",
            venv="litserve",
            apis=(("/blocking", "count previews sleep work"), ("/asynchronous", "ticks flood idle")),
        ),
        Peer(
            "bentoml",
            "bentoml",
            "bentoml",
            "bentoml serve benchmarks.peers.bentoml.server:Workload --port {port} --host 127.0.0.1 --quiet",
            venv="bentoml",
            environment=(("BENTOML_DO_NOT_TRACK", "1"),),
        ),
        Peer(
            "ray",
            "ray",
            "ray.serve",
            "benchmarks.peers.ray.server {port}",
            venv="ray",
            environment=(("RAY_USAGE_STATS_ENABLED", "0"),),
            listens_everywhere=True,
        ),
    )
}

#: who serves the handler for Runpod
QUEUES = {
    peer.name: peer
    for peer in (
        Peer(
            "streamapp",
            "streamapp-server",
            "streamapp",
            "streamapp serve benchmarks/peers/runpod/chunks.py --port {port} --log-level error",
            queue=Queue("/v2/chunks", "GET", "/stream"),
        ),
        Peer(
            "runpod",
            "runpod",
            "runpod",
            "benchmarks.peers.runpod.chunks --rp_serve_api --rp_api_host 127.0.0.1 --rp_api_port {port}",
            venv="runpod",
            environment=(("UVICORN_LOG_LEVEL", "error"),),
            queue=Queue("", "POST"),
        ),
    )
}

#: who serves rooms and sessions
SOCKETS = {
    peer.name: peer
    for peer in (
        PEERS["streamapp"],
        _own("starlette", "starlette", "starlette.websockets"),
        replace(_own("broadcaster", "broadcaster", "broadcaster"), venv="broadcaster"),
    )
}

#: who streams a language model's tokens; the last two without a network
MODELS = {
    peer.name: peer
    for peer in (
        Peer(
            "streamapp",
            "streamapp-server",
            "streamapp",
            "streamapp serve benchmarks/peers/llm/app.py --port {port} --log-level error",
            texts="/stream",
        ),
        Peer(
            "streamapp-openai",
            "streamapp-server",
            "streamapp",
            "streamapp serve benchmarks/peers/llm/app.py --port {port} --log-level error",
            texts="/v1/chat/completions",
        ),
        *(
            Peer(
                f"generate-{kind}",
                "transformers",
                "transformers",
                f"benchmarks.peers.llm.snippet {{port}} --{kind}",
                texts="/stream",
            )
            for kind in ("serial", "threads")
        ),
        *(
            Peer(
                name,
                "transformers",
                "transformers",
                f"benchmarks.peers.llm.served {{port}}{option}",
                texts="/v1/chat/completions",
            )
            for name, option in (
                ("transformers-serve", ""),
                (
                    "transformers-serve-cb",
                    " --continuous-batching --cb-num-blocks 64 --cb-block-size 32 --cb-max-batch-tokens 512",
                ),
            )
        ),
        *(
            Peer(
                f"{kind}-alone",
                "transformers",
                "transformers",
                f"benchmarks.peers.llm.alone {{port}} {kind}",
                texts="/alone",
            )
            for kind in ("manager", "engine")
        ),
    )
}


class Served:
    """A running server.

    Attributes:
        started_s: from the start of its process to its first answer.
        started_cpu_s: the processor time of all of its processes until then.
        started: its processes at that time; some peers leave them behind when the first of them ends.
        steps: how many steps its model has computed.
    """

    def __init__(self, peer: Peer, process: "subprocess.Popen[bytes]", port: int, steps: Steps) -> None:
        self.peer, self.process, self.port, self.steps = peer, process, port, steps
        self.started_s = self.started_cpu_s = 0.0
        self.started: list[psutil.Process] = []

    def ask(self, path: str, **body: Any) -> Connection:
        """Connect and send a request."""
        connection = Connection.open(self.port)
        connection.send(self.request(path, **body))
        return connection

    def request(self, path: str, **body: Any) -> bytes:
        """Return the bytes of a request for a stream."""
        return request(*self.address(path, **body))

    def address(self, path: str, **body: Any) -> tuple[str, dict[str, Any]]:
        """Return the path and the body with which this peer is asked for a stream; for a job, where it has a queue."""
        if self.peer.queue:
            return f"{self.peer.queue.path}/runsync", {"input": body}
        if self.peer.texts:
            return self.peer.texts, asking(self.peer.texts, body.get("user", 0), body["n"])
        for api, paths in self.peer.apis:
            if path in paths.split():
                return api, {"path": path, **body}
        return f"/{path}", body

    def ask_many(self, streams: int, path: str, **body: Any) -> list[Connection]:
        """Open many streams, each as soon as the one before has begun, and wait until all have.

        Raises:
            NotOffered: not all begin, or not soon enough.
        """
        connections: list[Connection] = []
        deadline = time.monotonic() + _OPEN_S
        try:
            while len(connections) < streams and time.monotonic() < deadline:
                connections.append(self.ask(path, **body))
                connections[-1].socket.settimeout(5)
                connections[-1].receive_until(EVENT)
        except TimeoutError:
            connections.pop().leave()
        if len(connections) == streams:
            return connections
        for connection in connections:
            connection.leave()
        raise NotOffered(f"{len(connections)} of {streams} streams began in time")

    @property
    def processes(self) -> list[psutil.Process]:
        """Return the server's processes."""
        parent = psutil.Process(self.process.pid)
        return [parent, *parent.children(recursive=True)]

    def cpu_s(self) -> float:
        """Return the processor time that the server has used, all its processes together."""
        return sum(sum(process.cpu_times()[:2]) for process in self.processes)

    def resident_bytes(self) -> int:
        """Return the memory that the server holds, all its processes together."""
        return sum(process.memory_info().rss for process in self.processes)

    def terminate(self) -> None:
        """Ask the server to end, as a supervisor does."""
        self.process.send_signal(signal.SIGTERM)


def environment(**variables: str) -> dict[str, str]:
    """Return this process's environment with more variables, in which interpreters keep what they have compiled."""
    return {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"} | variables


@contextmanager
def serving(peer: Peer, under: Sequence[str] = ()) -> Iterator[Served]:
    """Run a peer's server on a free port.

    Args:
        under: the command, with its options, of a tool that runs it.
    Raises:
        NotOffered: its environment is missing, it does not answer, or it would be reached from outside.
    """
    if not peer.is_installed:
        raise NotOffered("not installed")
    if peer.listens_everywhere and not is_private():
        raise NotOffered("it listens on every interface, and this network has more than the loopback")
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryFile() as log:
        counter = Path(folder) / "steps"
        counter.write_bytes(bytes(8))
        started = time.monotonic()
        process = subprocess.Popen(
            [*under, peer.python, "-m", *peer.command.format(port=port).split()],
            cwd=ROOT,
            stdout=log,
            stderr=log,
            env=environment(BENCHMARK_STEPS=str(counter), **dict(peer.environment)),
            start_new_session=True,
        )
        served = Served(peer, process, port, Steps(counter))
        try:
            _wait_for(served, log)
            served.started_s = time.monotonic() - started
            served.started = served.processes
            served.started_cpu_s = sum(sum(each.cpu_times()[:2]) for each in served.started)
            yield served
        finally:
            _end(served)


def _wait_for(served: Served, log: IO[bytes]) -> None:
    deadline = time.monotonic() + _START_S
    while time.monotonic() < deadline and served.process.poll() is None:
        try:
            connection = served.ask("count", n=1)
            connection.receive_until(EVENT if served.peer.texts in (None, "/alone") else b"data:")
            connection.leave()
            return
        except (ConnectionError, NotOffered):  # not listening yet, or not ready
            time.sleep(0.005)  # of which the first answer is no more than so much late
    log.seek(0)
    last = log.read().decode(errors="replace").strip().rpartition("\n")[2]
    raise NotOffered(f"the server did not answer: {last}")


def _end(served: Served) -> None:
    """Kill the server and all that it started."""
    processes = set(served.started)
    with suppress(psutil.NoSuchProcess):
        processes |= set(served.processes)
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            process.kill()
    served.process.wait(WAIT_S)
