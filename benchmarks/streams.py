"""Compare one stream's rate, its first event and the memory of idle streams with peers, in one run.

    python benchmarks/streams.py [--rounds 5] [--events 10000] [--idle 1000] [--out FILE]

Each server runs in a process of its own, the client in this one, over loopback; the figures are medians of the
rounds, with the lowest and the highest beside them. Absolute figures depend on the machine, ratios much less.
"""

import argparse
import json
import os
import platform
import resource
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

import psutil

PEERS = ("streamapp", "fastapi", "sse-starlette", "raw")
WAIT_S = 30


@contextmanager
def serving(name: str) -> Iterator[tuple[int, psutil.Process]]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with subprocess.Popen([sys.executable, str(Path(__file__).with_name("peers.py")), name, str(port)]) as process:
        try:
            _wait_for(port)
            yield port, psutil.Process(process.pid)
        finally:
            process.kill()


def _wait_for(port: int) -> None:
    deadline = time.monotonic() + WAIT_S
    while time.monotonic() < deadline:
        try:
            with request(port, "/stream?n=1") as client:
                if client.recv(1):
                    return
        except ConnectionError:
            time.sleep(0.05)
    raise SystemExit(f"no server on port {port}")


def request(port: int, path: str) -> socket.socket:
    client = socket.create_connection(("127.0.0.1", port), timeout=WAIT_S)
    client.sendall(f"GET {path} HTTP/1.1\r\nHost: bench\r\nConnection: close\r\n\r\n".encode())
    return client


def stream_once(port: int, events: int) -> tuple[float, float]:
    """Read one stream; returns (events per second, milliseconds to the first event)."""
    started = time.perf_counter()
    with request(port, f"/stream?n={events}") as client:
        received, first_s = [client.recv(65_536)], 0.0
        while chunk := client.recv(1 << 20):
            if not first_s and b'{"i":' in b"".join(received):
                first_s = time.perf_counter() - started
            received.append(chunk)
    took_s = time.perf_counter() - started
    body = b"".join(received).replace(b" ", b"")
    assert body.count(b'data:{"i":') == events, f"expected {events} events, got {body.count(b'data:')}"
    return events / took_s, (first_s or took_s) * 1000


def idle_kilobytes(port: int, process: psutil.Process, streams: int) -> float:
    """Return the resident memory that each of many open idle streams costs."""
    with ExitStack() as clients:
        for _ in range(20):  # what is allocated once
            clients.enter_context(request(port, "/idle")).recv(1)
        before = process.memory_info().rss
        for _ in range(streams):
            clients.enter_context(request(port, "/idle")).recv(1)
        time.sleep(0.5)
        return (process.memory_info().rss - before) / streams / 1000


def spread(values: list[float]) -> dict[str, float]:
    return {"median": statistics.median(values), "low": min(values), "high": max(values)}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--events", type=int, default=10_000)
    parser.add_argument("--idle", type=int, default=1000)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(max(soft, arguments.idle + 200), hard), hard))
    rates: dict[str, list[float]] = {name: [] for name in PEERS}
    firsts: dict[str, list[float]] = {name: [] for name in PEERS}
    idle: dict[str, float] = {}
    with ExitStack() as servers:
        running = {name: servers.enter_context(serving(name)) for name in PEERS}
        for name, (port, _) in running.items():
            stream_once(port, arguments.events)
            rates[name], firsts[name] = [], []
        for _ in range(arguments.rounds):
            for name, (port, _) in running.items():
                rate, first_ms = stream_once(port, arguments.events)
                rates[name].append(rate)
                firsts[name].append(first_ms)
        for name, (port, process) in running.items():
            idle[name] = idle_kilobytes(port, process, arguments.idle)
    result: dict[str, Any] = {
        "machine": {"cpu": platform.processor() or platform.machine(), "cores": os.cpu_count()},
        "versions": {name: version(name) for name in ("streamapp", "fastapi", "sse-starlette", "starlette", "uvicorn")},
        "events": arguments.events,
        "rounds": arguments.rounds,
        "events_per_s": {name: spread(values) for name, values in rates.items()},
        "first_event_ms": {name: spread(values) for name, values in firsts.items()},
        "idle_kb_per_stream": idle,
    }
    print(f"{'':14}{'events/s':>12}{'low-high':>22}{'first ms':>10}{'idle kB':>9}")
    for name in PEERS:
        rate = result["events_per_s"][name]
        low_high = f"{rate['low']:,.0f}-{rate['high']:,.0f}"
        first = result["first_event_ms"][name]["median"]
        print(f"{name:14}{rate['median']:>12,.0f}{low_high:>22}{first:>10.2f}{idle[name]:>9.1f}")
    if arguments.out:
        arguments.out.write_text(json.dumps(result, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
