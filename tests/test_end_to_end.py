"""The server in a process of its own, clients over real sockets: streams, disconnects, resume, crash, drain."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from httpx_sse import connect_sse
from tests.processes import free_port
from tests.waiting import WAIT_S

from streamapp_client import Client, EndpointFailed, StreamInterrupted

APP = Path(__file__).parent / "apps" / "gated.py"


class Served:
    """A running server and the few requests that every test makes of it."""

    def __init__(self, process: "subprocess.Popen[bytes]", port: int) -> None:
        self.process = process
        self.port = port
        self.url = f"http://127.0.0.1:{port}"

    def post(self, path: str, **body: Any) -> Any:
        return httpx.post(self.url + path, json=body, timeout=WAIT_S).json()

    def get(self, path: str, **headers: str) -> httpx.Response:
        return httpx.get(self.url + path, headers=headers, timeout=WAIT_S)

    def connect(self, request: str) -> socket.socket:
        """Send a raw request, read nothing."""
        client = socket.create_connection(("127.0.0.1", self.port), timeout=WAIT_S)
        client.sendall(request.encode())
        return client


def until(is_true: Callable[[], bool]) -> None:
    """Wait for a condition of another process."""
    deadline = time.monotonic() + WAIT_S
    while not is_true():
        assert time.monotonic() < deadline, "the condition did not come true in time"
        time.sleep(0.01)


@contextmanager
def serving(*options: str, **environment: str) -> Iterator[Served]:
    port = free_port()
    process = subprocess.Popen(
        [sys.executable, str(APP), str(port), *options], env={**os.environ, **environment}, stderr=subprocess.PIPE
    )
    served = Served(process, port)
    try:
        until(lambda: _is_ready(served))
        yield served
    finally:
        process.kill()
        process.communicate()


def _is_ready(served: Served) -> bool:
    assert served.process.poll() is None, served.process.stderr and served.process.stderr.read().decode()
    try:
        return served.get("/ready").is_success
    except httpx.TransportError:
        return False


@pytest.fixture(scope="module")
def served() -> Iterator[Served]:
    with serving() as running:
        yield running


def post_stream(**body: Any) -> str:
    content = json.dumps(body)
    return (
        "POST /stream HTTP/1.1\r\nHost: test\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(content)}\r\n\r\n{content}"
    )


def get(path: str) -> str:
    return f"GET {path} HTTP/1.1\r\nHost: test\r\n\r\n"


def read_all(client: socket.socket) -> bytes:
    received = b""
    while chunk := client.recv(65_536):
        received += chunk
    return received


def test_a_stream_arrives_step_by_step(served: Served) -> None:
    with Client(served.url).stream("/stream", {"steps": 3}) as events:
        for step in (1, 2, 3):
            served.post("/open")
            assert next(events).data == {"step": step}
        assert list(events) == []
        assert events.result == {"step": 3}


def test_a_client_that_leaves_stops_the_job_within_one_step(served: Served) -> None:
    before = served.post("/computed")["computed"]
    client = served.connect(post_stream(steps=50))
    served.post("/open", steps=2)
    until(lambda: served.post("/computed")["computed"] == before + 2)
    client.close()
    until(lambda: _open_readers(served) == 0)
    served.post("/open", steps=5)  # the job is blocked inside its third step, which nothing can stop
    until(lambda: _running_jobs(served) == 0)
    assert served.post("/computed")["computed"] <= before + 3
    _close_gate(served)


def _open_readers(served: Served) -> int:
    return _metric(served, "streamapp_readers")


def _running_jobs(served: Served) -> int:
    return _metric(served, 'streamapp_jobs_running{app="gated",kind="sync"}')


def _metric(served: Served, name: str) -> int:
    line = next(line for line in served.get("/metrics").text.splitlines() if line.startswith(name + " "))
    return int(float(line.rpartition(" ")[2]))


def _close_gate(served: Served) -> None:
    """Use up the steps that were let through and not taken."""
    with Client(served.url).stream("/stream", {"steps": 4}) as events:
        served.post("/open", steps=4)
        list(events)
    with Client(served.url).stream("/stream", {"steps": 4}) as events:
        list(events)


def get_stream(
    served: Served, query: str, last_event_id: str = "", count: int = 0, path: str = "/stream"
) -> tuple[list[str], list[str]]:
    """Read `count` blocks of a GET stream as a browser does, or all; return the ids and the data lines."""
    headers = {"Last-Event-ID": last_event_id} if last_event_id else {}
    ids, data = [], []
    with httpx.stream("GET", f"{served.url}{path}?{query}", headers=headers, timeout=WAIT_S) as response:
        assert response.status_code == 200
        for line in response.iter_lines():
            ids += [line[4:]] if line.startswith("id: ") else []
            data += [line[6:]] if line.startswith("data: ") else []
            if count and len(data) == count:
                break
    return ids, data


def test_a_get_stream_resumes_where_it_was_cut_and_ends_with_204(served: Served) -> None:
    served.post("/open", steps=2)
    ids, data = get_stream(served, "steps=4", count=3)
    assert [json.loads(text) for text in data[1:]] == [{"step": 1}, {"step": 2}]
    served.post("/open", steps=2)
    later_ids, later = get_stream(served, "steps=4", last_event_id=ids[-1])
    assert [json.loads(text) for text in later[:2]] == [{"step": 3}, {"step": 4}]
    assert json.loads(later[-1])["status"] == "succeeded"
    assert served.get("/stream?steps=4", **{"Last-Event-ID": later_ids[-1]}).status_code == 204


def test_a_connection_cut_before_its_first_event_resumes_the_same_job(served: Served) -> None:
    ids, data = get_stream(served, "steps=1", count=1)
    served.post("/open")
    _, later = get_stream(served, "steps=1", last_event_id=ids[0])
    assert json.loads(later[1]) == {"step": 1}
    assert json.loads(data[0])["job_id"] == ids[0].partition(":")[0]


def test_two_viewers_see_the_same_job(served: Served) -> None:
    with Client(served.url).stream("/stream", {"steps": 2}) as events:
        with httpx.stream("GET", f"{served.url}/jobs/{events.job_id}/events", timeout=WAIT_S) as viewer:
            served.post("/open", steps=2)
            seen = [line for line in viewer.iter_lines() if line.startswith('data: {"step"')]
        assert [event.data for event in events] == [json.loads(line[6:]) for line in seen]


CRASHES = pytest.mark.parametrize("options", [(), ("middleware",)], ids=["plain", "BaseHTTPMiddleware"])


@CRASHES
def test_a_crash_mid_stream_is_seen_by_httpx_sse(options: tuple[str, ...]) -> None:
    with serving(*options) as served, httpx.Client(timeout=WAIT_S) as client:
        served.post("/open", steps=2)
        names = []
        with (
            pytest.raises(httpx.RemoteProtocolError),
            connect_sse(client, "POST", f"{served.url}/stream", json={"steps": 3, "fails_at": 2}) as source,
        ):
            for event in source.iter_sse():
                names.append(event.event)  # noqa: PERF401 - what came before the error is what is asserted
        assert names == ["output", "error"]


@CRASHES
def test_a_crash_mid_stream_leaves_the_body_without_its_final_chunk(options: tuple[str, ...]) -> None:
    with serving(*options) as served, served.connect(post_stream(steps=3, fails_at=2)) as client:
        served.post("/open", steps=2)
        received = read_all(client)
        assert b"event: error" in received
        assert not received.endswith(b"0\r\n\r\n")


def test_our_client_raises_what_the_server_said(served: Served) -> None:
    served.post("/open", steps=2)
    with pytest.raises(EndpointFailed, match="RuntimeError") as caught:
        list(Client(served.url).stream("/stream", {"steps": 3, "fails_at": 2}))
    assert caught.value.code == "endpoint_failed"


def test_a_server_that_dies_is_an_interrupted_stream() -> None:
    with serving() as served, Client(served.url, patience_s=1).stream("/stream", {"steps": 2}) as events:
        served.post("/open")
        next(events)
        served.process.kill()
        with pytest.raises(StreamInterrupted):
            next(events)


def test_sigterm_ends_every_stream_with_a_terminal_event() -> None:
    """100 open streams, 3 readers that do not read. How soon the process is gone `make bench` and `make chaos` say."""
    with serving(STREAMAPP_DRAIN_S="0.3") as served:
        deaf = [served.connect(get("/flood")) for _ in range(3)]
        streams = [served.connect(get(path)) for path in ["/ticks"] * 60 + ["/work"] * 40]
        until(lambda: _metric(served, "streamapp_readers") == 103)
        served.process.send_signal(signal.SIGTERM)
        endings = [read_all(client)[-400:] for client in streams]
        served.process.wait(WAIT_S)
        assert [ending.count(b"event: error") for ending in endings] == [1] * 100
        assert all(b'"code":"draining"' in ending for ending in endings)
        for client in (*deaf, *streams):
            client.close()


def test_a_stream_of_sse_starlette_goes_on_while_the_server_drains() -> None:
    """Left to itself it ends within half a second of the signal, in the middle of a chunk."""
    with (
        serving(STREAMAPP_DRAIN_S="60") as served,
        httpx.stream("POST", f"{served.url}/foreign", json={"ticks": 40}, timeout=WAIT_S) as response,
    ):
        lines = (line for line in response.iter_lines() if line)
        assert next(lines) == "data: tick 0"
        served.process.send_signal(signal.SIGTERM)
        assert [*lines] == [f"data: tick {n}" for n in range(1, 40)]


def test_readers_that_come_back_while_draining_are_served_and_new_jobs_are_refused() -> None:
    with serving(STREAMAPP_DRAIN_S="60") as served:
        ids, _ = get_stream(served, "", path="/ticks", count=3)
        served.process.send_signal(signal.SIGTERM)
        until(lambda: served.get("/ready").status_code == 503)
        refused = httpx.post(f"{served.url}/stream", json={"steps": 1}, timeout=WAIT_S)
        assert (refused.status_code, refused.json()["error"]["code"]) == (503, "draining")
        assert int(refused.headers["Retry-After"]) >= 1
        _, later = get_stream(served, "", path="/ticks", last_event_id=ids[-1], count=3)
        assert [json.loads(text)["tick"] for text in later] == [2, 3, 4]


def test_a_stuck_inference_thread_ends_the_process_with_70_whatever_else_hangs() -> None:
    with serving(STREAMAPP_TIMEOUT_S="0.3", STREAMAPP_STUCK_S="0.3", STREAMAPP_DRAIN_S="0.2") as served:
        pool = served.connect("POST /pool HTTP/1.1\r\nHost: test\r\n\r\n")
        until(lambda: _metric(served, 'streamapp_jobs_running{app="gated",kind="async"}') == 1)
        assert served.post("/stuck")["error"]["code"] == "deadline_exceeded"
        assert served.process.wait(WAIT_S) == 70
        pool.close()
