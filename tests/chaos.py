"""Faults over real sockets: `python -m tests.chaos [--quick] [--only NAME] [--out FILE]`, which `make chaos` runs.

Each scenario starts a server in a process of its own, does it harm, and returns figures; it raises where a promise does
not hold. The whole run is bounded in time.
"""

import argparse
import asyncio
import json
import os
import platform
import random
import signal
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager, suppress
from functools import partial
from http.client import HTTPConnection
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import httpx
from benchmarks.client import read, reading
from benchmarks.sockets import Socket
from tests.cutting_proxy import cutting
from tests.fleet import WAYS, Berth, Runs, berth
from tests.test_misbehaving import sinning

from streamapp import __version__
from streamapp.serve.connections import raise_descriptor_limit
from streamapp_client import AsyncClient, Client, SSEDecoder

APP = Path(__file__).parent / "apps" / "numbered.py"
RESET = struct.pack("ii", 1, 0)
SEED = 20


class Served:
    """A server in a process of its own."""

    def __init__(self, process: "subprocess.Popen[bytes]", port: int) -> None:
        self.process = process
        self.port = port
        self.url = f"http://127.0.0.1:{port}"

    def usage(self) -> dict[str, int]:
        usage: dict[str, int] = httpx.post(self.url + "/usage").json()
        return usage

    def connect(self, path: str, body: Any = None) -> socket.socket:
        content = json.dumps(body or {}).encode()
        head = f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
        head += f"Content-Length: {len(content)}\r\n\r\n"
        client = socket.create_connection(("127.0.0.1", self.port), timeout=30)
        client.sendall(head.encode() + content)
        return client


@contextmanager
def serving(*command: str, **environment: str) -> Iterator[Served]:
    """Run a server, that of `APP` where no other command is named; its port comes last."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    command = (sys.executable, *(command or (str(APP),)), str(port))
    process = subprocess.Popen(command, env={**os.environ, **environment}, stdout=subprocess.DEVNULL)
    try:
        until(lambda: httpx.get(f"http://127.0.0.1:{port}/ready").is_success, "the server is ready")
        yield Served(process, port)
    finally:
        process.kill()
        process.wait()


def until(is_true: Callable[[], bool], what: str, *, within_s: float = 30) -> float:
    """Wait for a condition; return how long it took, in seconds."""
    started = time.monotonic()
    while time.monotonic() < started + within_s:
        with suppress(httpx.TransportError):
            if is_true():
                return time.monotonic() - started
        time.sleep(0.02)
    raise AssertionError(f"not within {within_s} s: {what}")


async def in_parallel(count: int, at_once: int, work: Callable[[int], Awaitable[Any]]) -> list[Any]:
    gate = asyncio.Semaphore(at_once)

    async def one(i: int) -> Any:
        async with gate:
            return await work(i)

    return await asyncio.gather(*(one(i) for i in range(count)))


def quantile(values: list[float], share: float) -> float:
    return sorted(values)[int(share * (len(values) - 1))]


def cut_streams(quick: bool) -> dict[str, Any]:
    """Streams through a proxy that cuts every connection at a random byte: all events once, in order, one job each."""
    count = 60 if quick else 2000

    async def all_of(url: str) -> list[int]:
        async with AsyncClient(url, patience_s=60) as client:

            async def read(i: int) -> int:
                stream = await client.stream("/numbers", {"n": 60, "large": 600})
                numbers = [event.data["n"] async for event in stream]
                assert numbers == list(range(60)), f"stream {i}: {numbers}"
                return stream.reconnects

            return await in_parallel(count, 50, read)

    with serving() as server, cutting(server.port, seed=SEED, cut=1, most_bytes=20_000) as proxy:
        reconnects = asyncio.run(all_of(f"http://127.0.0.1:{proxy.port}"))
        started = Client(server.url).run("/count")
        assert started == count, f"{started} jobs for {count} streams"
    return {"streams": count, "cuts": proxy.cuts, "reconnects": sum(reconnects), "lost, doubled, moved": 0}


def cut_sessions(quick: bool) -> dict[str, Any]:
    """Sessions through a proxy that cuts most of their sockets so: each opened once, all inputs once, in order, and so
    all outputs.
    """
    count = 60 if quick else 2000

    async def all_of(url: str) -> list[int]:
        async with AsyncClient(url, patience_s=60, resume_window_s=60) as client:
            return await in_parallel(count, 200, lambda i: (_answers if i % 2 else _tally)(client, i))

    with serving() as server, cutting(server.port, seed=SEED, cut=0.5, most_bytes=6_000) as proxy:
        reconnects = asyncio.run(all_of(f"http://127.0.0.1:{proxy.port}"))
        started = Client(server.url).run("/count")
    assert started == count // 2, f"{started} sessions were opened for {count // 2}"
    return {"sessions": count, "cuts": proxy.cuts, "reconnects": sum(reconnects), "lost, doubled, moved": 0}


async def _tally(client: AsyncClient, i: int) -> int:
    """Send inputs while the outputs of a method come that goes through them itself."""
    inputs = 30
    async with client.connect("/tally") as session:

        async def send() -> None:
            for n in range(inputs):
                await session.send(n)
                if n % 5 == 4:
                    await asyncio.sleep(0.005)
            await session.finish()

        sending = asyncio.create_task(send())
        told = [(output["n"], output["input"], output["came"]) async for output in session.outputs()]
        await sending
    assert told == [(n, n // 2, n // 2) for n in range(2 * inputs)], f"session {i}: {told}"
    return session.reconnects


async def _answers(client: AsyncClient, i: int) -> int:
    """Send the next input when the one before is answered, one that fails among them."""
    told: list[Any] = []
    async with client.connect("/answers") as session:
        for n in range(30):
            await session.send({"n": n, "large": 600})
            event = await anext(session)
            told.append(event.data["n"] if event.name == "output" else event.data["input"] - 1)
        await session.finish()
        rest = [event.name async for event in session]
    assert told == list(range(30)), f"session {i}: {told}"
    assert "output" not in rest, f"session {i}: {rest} after the end"
    return session.reconnects


def turns(quick: bool) -> dict[str, Any]:
    """Jobs that take turns, through a proxy that cuts them so; some readers are slow, leave, or never read: each hears
    its own, all once, in order, and nothing of a job stays.
    """
    count, deaf = 60 if quick else 600, 4
    draw = random.Random(SEED)

    async def all_of(url: str) -> list[int]:
        async with AsyncClient(url, patience_s=60) as client:

            async def read(i: int) -> int:
                numbers, pause_s = [], draw.choice([0, 0, 0, 0.002])
                leaves_at = draw.choice([None, None, None, 5])
                async with await client.stream("/numbers", {"who": i, "n": 60}) as stream:
                    async for event in stream:
                        assert event.data["who"] == i, f"stream {i}: {event.data}"
                        if event.name == "output":
                            numbers.append(event.data["n"])
                            await asyncio.sleep(pause_s)
                        if len(numbers) == leaves_at:
                            break
                assert numbers == list(range(leaves_at or 60)), f"stream {i}: {numbers}"
                return stream.reconnects

            return await in_parallel(count, 50, read)

    limits = {"STREAMAPP_AHEAD_EVENTS": "8", "STREAMAPP_SEND_TIMEOUT_S": "2"}
    with (
        serving(str(APP.with_name("by_turns.py")), **limits) as server,
        cutting(server.port, seed=SEED, cut=1, most_bytes=20_000) as proxy,
        ExitStack() as held,
    ):
        for i in range(deaf):
            held.enter_context(server.connect("/numbers", {"who": -1 - i, "n": 100_000}))
        reconnects = asyncio.run(all_of(f"http://127.0.0.1:{proxy.port}"))
        held.close()
        until(lambda: server.usage()["open"] == 0, "the code of all jobs has returned")
        usage = server.usage()
    assert usage["started"] == count + deaf, f"{usage['started']} jobs for {count + deaf} streams"
    shown = {"cuts": proxy.cuts, "reconnects": sum(reconnects), "at a time": usage["most open"]}
    return {"streams": count, "deaf": deaf, **shown, "lost, doubled, moved": 0}


def leaving(quick: bool) -> dict[str, Any]:
    """Clients that leave mid-stream, half by FIN and half by RST: nothing of them stays."""
    count = 100 if quick else 1000
    with serving() as server:
        _leave(server, 50)
        time.sleep(0.5)
        before = server.usage()
        _leave(server, count)
        kept = ("threads", "tasks", "descriptors")
        took_s = until(lambda: all(server.usage()[k] <= before[k] for k in kept), f"as few {kept} as {before}")
        late = max(_steps_after_leaving(server) for _ in range(5 if quick else 20))
        assert late <= 1, f"{late} steps after the client left"
        after = server.usage()
    return {"left": count, "clean after s": round(took_s, 2), "steps after leaving": late} | {
        f"{k} more": after[k] - before[k] for k in kept
    }


def _leave(server: Served, count: int) -> None:
    for first in range(0, count, 50):
        clients = [server.connect("/numbers", {"n": 1_000_000}) for _ in range(min(50, count - first))]
        for i, client in enumerate(clients):
            client.recv(4096)
            if i % 2:
                client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
            client.close()


def _steps_after_leaving(server: Served) -> int:
    client, received = server.connect("/endless"), b""
    while received.count(b"data: ") < 5:
        received += client.recv(4096)
    at_leave = int(received.rpartition(b"data: ")[2].split(b"\n")[0] or 0)
    client.close()
    time.sleep(0.2)
    return server.usage()["steps"] - at_leave


def deaf_readers(quick: bool) -> dict[str, Any]:
    """Clients that never read: what they cost, and what the others notice."""
    rounds, p99 = 1 if quick else 3, {True: [0.0], False: [0.0]}
    with serving() as server:
        before, deaf = server.usage()["resident_kb"], []
        for _ in range(rounds):
            for is_with in (False, True):
                deaf = [server.connect("/previews") for _ in range(50 * is_with)]
                time.sleep(1)
                p99[is_with].append(quantile(asyncio.run(_latencies(server.url)), 0.99) * 1000)
                more_kb = server.usage()["resident_kb"] - before
                for client in deaf:
                    client.close()
                until(lambda: server.usage()["tasks"] < 20, "the deaf are gone")
    alone, beside = (quantile(p99[is_with][1:], 0.5) for is_with in (False, True))
    assert more_kb < 100_000, f"50 deaf readers take {more_kb} kB"
    return {"deaf": 50, "resident kB more": more_kb, "p99 alone ms": round(alone, 2), "p99 beside ms": round(beside, 2)}


def deaf_members(quick: bool) -> dict[str, Any]:
    """A room in which one of ten never reads: what these cost, and what the others notice."""
    rounds, p99 = 1 if quick else 3, {True: [0.0], False: [0.0]}
    raise_descriptor_limit()
    with serving(STREAMAPP_HEARTBEAT_S="600") as server:  # these clients answer no ping
        members = [Socket.connect(server.port, "/room") for _ in range(450)]
        before = server.usage()["resident_kb"]
        for _ in range(rounds):
            for is_with in (False, True):
                deaf = [Socket.connect(server.port, "/room") for _ in range(50 * is_with)]
                p99[is_with].append(quantile(_heard(server, members, 40 if quick else 100), 0.99) * 1000)
                more_kb = server.usage()["resident_kb"] - before
                for one in deaf:
                    one.leave()
        for one in members:
            one.leave()
    alone, beside = (quantile(p99[is_with][1:], 0.5) for is_with in (False, True))
    assert more_kb < 50_000, f"50 deaf members take {more_kb} kB"
    shown = {"p99 alone ms": round(alone, 2), "p99 beside ms": round(beside, 2)}
    return {"members": 500, "deaf": 50, "resident kB more": more_kb, **shown, "lost, doubled, moved": 0}


def _heard(server: Served, members: list[Socket], messages: int) -> list[float]:
    """Have messages said in a room, and return how late each of them came to each member."""
    for member in members:
        member.pieces.clear()
    with reading(members) as selector, ThreadPoolExecutor(1) as pool:
        asked = {"n": messages, "interval_s": 0.05}
        saying = pool.submit(httpx.post, server.url + "/say", json=asked, timeout=120)
        while not saying.done():
            read(selector, until=time.monotonic() + 0.5)
        read(selector, until=time.monotonic() + 1)
    heard = [list(member.messages(is_open=True)) for member in members]
    for said in heard:
        numbers = [message.payload["i"] for message in said]
        assert numbers == list(range(messages)), f"{len(numbers)} of {messages} messages: {numbers[:300]}"
    return [message.at - message.payload["t"] for said in heard for message in said]


async def _latencies(url: str) -> list[float]:
    async with AsyncClient(url) as client:

        async def read(i: int) -> list[float]:
            stream = await client.stream("/previews", {"n": 60})
            return [time.time() - event.data["t"] async for event in stream if event.name == "output"]

        return [latency for list_ in await in_parallel(10, 10, read) for latency in list_]


def slow_reader(quick: bool) -> dict[str, Any]:
    """A client that takes 200 kB/s of 540: how old its previews are, and whether it has every lasting event."""
    count = 60 if quick else 300
    ages, numbers, decoder = [], [], SSEDecoder()
    with serving() as server, closing(HTTPConnection("127.0.0.1", server.port)) as connection:
        connection.sock = socket.socket()
        connection.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 64 * 1024)  # what such a link holds, about
        connection.sock.connect(("127.0.0.1", server.port))
        connection.request("POST", "/previews", json.dumps({"n": count}), {"Content-Type": "application/json"})
        answer = connection.getresponse()
        while chunk := answer.read1(20_000):
            time.sleep(len(chunk) / 200_000)
            for event in decoder.feed(chunk):
                data = json.loads(event.data)
                if event.name == "preview":
                    ages.append(time.time() - data["t"])
                elif data is not None:
                    numbers.append(data["n"])
    assert numbers == list(range(count)), f"{len(numbers)} of {count} lasting events"
    assert max(ages) < 2, f"a preview was {max(ages):.2f} s old"
    return {"lasting events": count, "previews shown": len(ages), "oldest s": round(max(ages), 2)}


def sigterm(quick: bool) -> dict[str, Any]:
    """SIGTERM at random moments under load: every reader gets its end, and the process goes."""
    draw, took = random.Random(SEED), []
    for _ in range(3 if quick else 50):
        with serving(STREAMAPP_DRAIN_S="0.2") as server:
            took.append(asyncio.run(_terminate(server, draw.uniform(0, 0.5))))
    return {"runs": len(took), "streams each": 20, "exit p50 s": quantile(took, 0.5), "exit max s": max(took)}


async def _terminate(server: Served, after_s: float) -> float:
    async def read(i: int) -> str:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(f"GET /{'endless' if i == 0 else 'numbers?n=1000000'} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        body, data = b"", b"."
        with suppress(ConnectionResetError):
            while data := await reader.read(65536):
                body = (body + data)[-4000:]
        writer.close()
        last = [line for line in body.split(b"\n") if line.startswith(b"event: ")][-1:]
        return last[0].decode() if last else f"nothing of {body[-80:]!r}"

    deaf = server.connect("/previews")
    readers = [asyncio.create_task(read(i)) for i in range(20)]
    await asyncio.sleep(0.3 + after_s)
    server.process.send_signal(signal.SIGTERM)
    started = time.monotonic()
    ends = await asyncio.wait_for(asyncio.gather(*readers), 30)
    code = await asyncio.to_thread(server.process.wait, 30)
    deaf.close()
    assert code in (0, -signal.SIGTERM), f"exit code {code}"
    assert all(end in ("event: error", "event: cancelled", "event: done") for end in ends), ends
    return round(time.monotonic() - started, 2)


def stuck(quick: bool) -> dict[str, Any]:
    """A job that blocks for ever: its reader hears of it at the deadline, health says so, the process ends with 70."""
    with serving(STREAMAPP_TIMEOUT_S="0.5", STREAMAPP_STUCK_S="1", STREAMAPP_DRAIN_S="0.2") as server:
        answer = httpx.post(server.url + "/block", timeout=30)
        assert answer.json()["error"]["code"] == "deadline_exceeded", answer.text
        codes: list[int] = []

        def has_ended() -> bool:
            with suppress(httpx.TransportError):
                codes.append(httpx.get(server.url + "/health").status_code)
            return server.process.poll() is not None

        took_s = until(has_ended, "the process ends")
        assert server.process.returncode == 70, server.process.returncode
    return {"deadline s": 0.5, "exit after s": round(took_s, 2), "exit code": 70, "health said 503": 503 in codes}


def sinning_apps(quick: bool) -> dict[str, Any]:
    """Each app of misbehaving.py that can keep a server from ending: it ends within `drain_s` + 5 s of SIGTERM."""
    took: dict[str, float] = {}
    for app, (path, word) in SINS.items():
        with sinning(app, waits=word != "setup", STREAMAPP_DRAIN_S="1", STREAMAPP_STUCK_S="600") as served:
            if path:
                served.send(path)
            if word:
                served.heard(word)
            started = time.monotonic()
            served.process.send_signal(signal.SIGTERM)
            served.process.wait(60)
            took[app] = round(time.monotonic() - started, 2)
    slowest = max(took, key=lambda app: took[app])
    assert took[slowest] <= 1 + 5, f"{slowest}: {took[slowest]} s"
    return {"apps": len(took), "drain s": 1, "exit p50 s": quantile([*took.values()], 0.5), "exit max s": took[slowest]}


# What a request of each has to have said before the server is told to end.
SINS: dict[str, tuple[str, str]] = {
    "HandlerBlocks": ("/sin", ""),
    "FillsPool": ("/sin", ""),
    "ExitHangs": ("", ""),
    "ExitSwallows": ("", ""),
    "ExitBlocks": ("", ""),
    "SetupHangs": ("", "setup"),
    "AsyncSetupHangs": ("", "setup"),
    "TeardownHangs": ("", ""),
    "AsyncTeardownSwallows": ("", ""),
    "LoopSpins": ("/sin", "spinning"),
    "RegexRunsAway": ("/sin", "matching"),
    "SwallowsCancel": ("/sin", ""),
    "NeverReturns": ("/sin", "stuck"),
    "EncodingHangs": ("/sin", "encoding"),
    "Forks": ("/process", "child"),
    "AtExitHangs": ("", ""),
    "ThreadStays": ("", ""),
}


def many_jobs(quick: bool) -> dict[str, Any]:
    """Ten thousand short jobs: the memory that they leave."""
    first, rest = (300, 700) if quick else (2000, 8000)

    async def run(url: str, count: int) -> None:
        async with AsyncClient(url) as client:
            await in_parallel(count, 8, lambda i: client.run("/echo", {"value": [i]}))

    with serving(STREAMAPP_JOB_TTL_S="0.5") as server:
        sizes = []
        for count in (first, rest):
            asyncio.run(run(server.url, count))
            time.sleep(1)
            server.usage()  # lets go of what has expired
            sizes.append(server.usage()["resident_kb"])
    growth = sizes[1] / sizes[0] - 1
    assert quick or growth < 0.05, f"{growth:.1%} more memory"
    return {"jobs": first + rest, "resident kB": sizes[1], "growth %": round(growth * 100, 1)}


def silent_connections(quick: bool) -> dict[str, Any]:
    """More connections that send nothing than there are places: an open stream goes on, who asks is answered."""
    silent, places, asked, took = 1100, 500, 50 if quick else 500, []
    raise_descriptor_limit()
    with serving(STREAMAPP_MAX_CONNECTIONS=str(places)) as server, ExitStack() as held:
        reader = held.enter_context(server.connect("/endless"))
        for _ in range(silent):
            held.enter_context(socket.create_connection(("127.0.0.1", server.port), timeout=30))
        for _ in range(asked):
            held.enter_context(socket.create_connection(("127.0.0.1", server.port), timeout=30))
            started = time.monotonic()
            answer = httpx.post(server.url + "/count", verify=False)
            took.append(time.monotonic() - started)
            assert answer.is_success, answer.text
        before = server.usage()["steps"]
        until(lambda: server.usage()["steps"] > before and bool(reader.recv(65536)), "the stream goes on")
    p50, slowest = (round(quantile(took, share) * 1000, 1) for share in (0.5, 1))
    return {"silent": silent + asked, "places": places, "asked, answered": asked, "p50 ms": p50, "slowest ms": slowest}


def external_workers(quick: bool) -> dict[str, Any]:
    """Runpod's own workers are lost under load: no job is, none runs twice at a time, readers hear `restarted`."""
    losses = 8 if quick else 50
    command = ("-m", "streamapp", "serve", "--runpod", "chunks", "--runpod", "values", "--log-level", "error", "--port")
    with (
        serving(*command, STREAMAPP_WORKER_SECRET=SECRET) as server,
        TemporaryDirectory() as folder,
        ExitStack() as fleet,
    ):
        berths = [
            fleet.enter_context(berth(f"{kind}-worker", kind, server.port, partial(_worker_environment, endpoint)))
            for endpoint, kinds in WORKERS.items()
            for kind in kinds
        ]
        load = _Load(server.url, Runs(Path(folder)))
        asyncio.run(load.run(lambda: _lose(berths, load, losses), within_s=180))
        assert not (twice := load.runs.twice()), f"{twice} were run twice at a time"
    assert load.again, "no job was run again"
    return {
        "workers": len(berths),
        "lost": losses,
        "jobs": load.jobs,
        "run again": load.again,
        "lost, twice at a time, out of order": 0,
        "slowest s": round(load.slowest_s, 1),
    }


# The handlers of each endpoint: two kinds that bring the same.
WORKERS = {"chunks": ("generator", "async_generator"), "values": ("function", "coroutine")}
SECRET = "chaos-secret"


def _worker_environment(endpoint: str, port: int) -> dict[str, str]:
    command = [sys.executable, "-m", "streamapp", "worker", "--runpod", endpoint, "--url", f"http://127.0.0.1:{port}"]
    environment = {**os.environ, "STREAMAPP_WORKER_SECRET": SECRET}
    lines = subprocess.run([*command, "--env-file"], env=environment, capture_output=True, text=True, check=True).stdout
    return dict(line.split("=", 1) for line in lines.splitlines() if "=" in line and not line.startswith("#"))


async def _lose(berths: list[Berth], load: "_Load", losses: int) -> None:
    """Lose workers at random moments, mostly at work; a job whose worker was lost once keeps the next one."""
    draw = random.Random(SEED)
    for number in range(losses):
        while True:
            await asyncio.sleep(draw.uniform(0, 0.5))
            chosen = draw.choice(berths)
            if load.runs.at_work(load.open).get(chosen.pid, 0) == 1 or draw.random() < 0.02:
                break
        await chosen.lose(WAYS[number % len(WAYS)])
        # Not those that yield: the package sends a chunk once, and one that is under way is lost without a word.
        draw.choice([berth for berth in berths if berth.kind in WORKERS["values"]]).interrupt()


class _Load:
    """Read jobs, twelve at a time: by server-sent events, and as Runpod's clients do.

    Attributes:
        open: those that have not ended.
        again: how many were begun more than once.
    """

    def __init__(self, url: str, runs: Runs) -> None:
        self.runs = runs
        self.open: set[str] = set()
        self.jobs = self.again = 0
        self.slowest_s = 0.0
        self._url = url
        self._draw = random.Random(SEED)

    async def run(self, harm: Callable[[], Awaitable[None]], *, within_s: float) -> None:
        """Read until the harm is done, and to the end of each job."""
        is_over = asyncio.Event()

        async def harmed() -> None:
            await harm()
            is_over.set()

        async with AsyncClient(self._url, patience_s=60) as client, httpx.AsyncClient(base_url=self._url) as http:
            ways = (partial(_by_events, client), partial(_by_polls, http))
            reading = asyncio.gather(harmed(), *(self._read(ways[i % 2], is_over) for i in range(12)))
            try:
                await asyncio.wait_for(reading, within_s)
            except TimeoutError:
                raise AssertionError(f"not within {within_s} s: {sorted(self.open)}") from None

    async def _read(self, read: Callable[..., Awaitable[int]], is_over: asyncio.Event) -> None:
        while not is_over.is_set():
            self.jobs += 1
            job, endpoint, n = f"job-{self.jobs}", self._draw.choice([*WORKERS]), self._draw.randrange(4, 16)
            started = time.monotonic()
            self.open.add(job)
            told = await read(endpoint, {"file": self.runs.file(job), "n": n, "pause_s": 0.05})
            self.open.remove(job)
            self.slowest_s = max(self.slowest_s, time.monotonic() - started)
            assert (runs := self.runs.count(job)) <= 1 + told, f"{job} was begun {runs} times, its reader told {told}"
            self.again += runs > 1


async def _by_events(client: AsyncClient, endpoint: str, input: dict[str, Any]) -> int:
    """Return how often `restarted` came."""
    outputs: list[Any] = []
    restarts = 0
    stream = await client.stream(f"/{endpoint}/stream", input)
    async for event in stream:
        if event.name == "restarted":
            outputs.clear()
            restarts += 1
        elif event.name == "output":
            outputs.append(event.data)
    _check(endpoint, input["n"], outputs)
    return restarts


async def _by_polls(http: httpx.AsyncClient, endpoint: str, input: dict[str, Any]) -> int:
    """Return how often the job was run again, which its status says."""
    job = (await http.post(f"/v2/{endpoint}/run", json={"input": input})).json()["id"]
    outputs, status = [], "IN_QUEUE"
    while status.startswith("IN_"):
        answer = (await http.get(f"/v2/{endpoint}/stream/{job}", timeout=30)).json()
        outputs += [item["output"] for item in answer["stream"]]
        status = answer["status"]
    ended = (await http.get(f"/v2/{endpoint}/status/{job}")).json()
    assert ended["status"] == "COMPLETED", ended
    _check(endpoint, input["n"], ended["output"])
    if endpoint == "chunks":
        _check(endpoint, input["n"], outputs[-input["n"] :])
    return int(ended.get("retries", 0))


def _check(endpoint: str, n: int, outputs: Any) -> None:
    expected = [{"n": i} for i in range(n)] if endpoint == "chunks" else {"n": n}
    assert outputs in (expected, [expected]), f"{outputs} for {n}"


SCENARIOS = (
    cut_streams,
    cut_sessions,
    turns,
    leaving,
    deaf_readers,
    deaf_members,
    slow_reader,
    sigterm,
    stuck,
    sinning_apps,
    many_jobs,
    silent_connections,
    external_workers,
)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--quick", action="store_true", help="fewer of everything: a minute")
    parser.add_argument("--only", help="the name of one scenario")
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    results, failed = {}, 0
    for scenario in SCENARIOS:
        if arguments.only in (None, scenario.__name__):
            started = time.monotonic()
            try:
                results[scenario.__name__] = scenario(arguments.quick)
            except Exception as error:  # the others tell something all the same
                results[scenario.__name__] = {"FAILED": f"{type(error).__name__}: {error}"[:500]}
                failed += 1
            figures = ", ".join(f"{name}: {value}" for name, value in results[scenario.__name__].items())
            sys.stdout.write(f"{scenario.__name__:18} {time.monotonic() - started:6.1f} s  {figures}\n")
            sys.stdout.flush()
    if arguments.out:
        machine = {"cores": os.cpu_count(), "python": platform.python_version(), "streamapp": __version__}
        arguments.out.write_text(json.dumps({"machine": machine, "seed": SEED, **results}, indent=2) + "\n")
    return min(failed, 1)


if __name__ == "__main__":
    sys.exit(main())
