"""The server in a thread of this process: sockets, transports and the steps of its shutdown.

Signals and whole processes are tested in test_end_to_end.py.
"""

import asyncio
import gc
import re
import signal
import socket
import ssl
import threading
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from starlette.requests import Request
from starlette.responses import StreamingResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from tests.waiting import WAIT_S

import streamapp
from streamapp.serve.certificates import issue
from streamapp.serve.connections import Connections
from streamapp.serve.server import AfterReturn, Flow, ForwardedHeaders, Server, bind, freeze_when_loaded
from streamapp.settings import Settings


class Counting(streamapp.App):
    def setup(self) -> None:
        self.gate = threading.Event()
        self.is_torn_down = False

    def teardown(self) -> None:
        self.is_torn_down = True

    @streamapp.endpoint("/held")
    def held(self) -> Iterator[int]:
        yield 1
        self.gate.wait(WAIT_S)
        yield 2

    @streamapp.endpoint("/flood")
    async def flood(self, stream: streamapp.Stream) -> None:
        while True:
            await stream.aemit(streamapp.Preview("x" * 100_000))

    @streamapp.endpoint("/fails_large")
    def fails_large(self) -> Iterator[str]:
        yield "x" * 300_000
        raise RuntimeError("no")

    @streamapp.endpoint("/length")
    def length(self, text: str) -> int:
        return len(text)

    @streamapp.endpoint("/fails")
    def fails(self) -> Iterator[int]:
        yield 1
        raise RuntimeError("no")


class Running:
    def __init__(self, server: Server, app: streamapp.App, port: int) -> None:
        self.server = server
        self.app: Any = app
        self.url = f"{'https' if server.config.is_ssl else 'http'}://127.0.0.1:{port}"
        self.ended: Future[int] = Future()

    def stop(self) -> int:
        """Ask the server to end as a signal would, and wait for it."""
        self.server.should_exit = True
        return self.ended.result(WAIT_S)


@contextmanager
def running(
    app_class: type[streamapp.App] = Counting,
    *,
    stays_up: bool = False,
    certificate: Path | None = None,
    prepare: Callable[[FastAPI], None] = lambda compiled: None,
    log_level: str = "info",
    **settings: Any,
) -> Iterator[Running]:
    app = app_class()
    listener = bind("127.0.0.1", 0)
    compiled = streamapp.compile_app(app, settings=Settings(**settings))
    prepare(compiled)
    server = Server(compiled, log_level=log_level, stays_up=stays_up, certificate=certificate)
    running = Running(server, app, listener.getsockname()[1])

    def serve() -> None:
        running.server.run(sockets=[listener])
        running.ended.set_result(running.server.exit_code)

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield running
    finally:
        if isinstance(app, Counting):
            app.gate.set()
        running.stop()
        thread.join(WAIT_S)
        gc.unfreeze()


def read_lines(response: httpx.Response, count: int) -> list[str]:
    lines = (line for line in response.iter_lines() if line.startswith("data: "))
    return [next(lines) for _ in range(count)]


def test_the_listening_socket_tells_the_kernel_to_hold_little_and_to_give_up_on_vanished_clients() -> None:
    with bind("127.0.0.1", 0, user_timeout_s=7) as listener:
        assert listener.getsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT) == 16 * 1024
        assert listener.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 7000


def test_an_ipv6_host_gets_an_ipv6_socket() -> None:
    with bind("::1", 0) as listener:
        assert listener.family == socket.AF_INET6


def test_an_address_in_use_is_an_error() -> None:
    with bind("127.0.0.1", 0) as listener, pytest.raises(OSError, match="in use"):
        bind("127.0.0.1", listener.getsockname()[1])


@pytest.mark.parametrize(
    ("trusted", "told"), [(["127.0.0.1"], "https://public.example/under/app"), ([], "http://inside:1/app")]
)
async def test_only_a_trusted_proxy_says_under_which_url_it_is_reached(trusted: list[str], told: str) -> None:
    urls = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        urls.append(str(Request(scope).url))

    headers = {
        "host": "inside:1",
        "x-forwarded-host": "public.example, other",
        "x-forwarded-proto": "https",
        "x-forwarded-prefix": "/under/",
    }
    raw = [(name.encode(), value.encode()) for name, value in headers.items()]
    scope = {"type": "http", "path": "/app", "query_string": b"", "scheme": "http", "headers": raw}
    await ForwardedHeaders(app, trusted, Connections(None, is_trusted=bool))(
        {**scope, "client": ("127.0.0.1", 1)}, None, None
    )
    assert urls == [told]


async def test_what_is_too_much_to_be_read_is_left_to_the_app_to_refuse() -> None:
    """60 000 commas in X-Forwarded-For held the loop up for 13 ms."""
    scopes = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        scopes.append(scope)

    headers = [(b"host", b"localhost"), (b"x-forwarded-host", b"a.example"), (b"x-forwarded-for", b"," * 60_000)]
    scope = {"type": "http", "path": "/app", "query_string": b"", "headers": headers, "client": ("127.0.0.1", 1)}
    await ForwardedHeaders(app, ["127.0.0.1"], Connections(None, is_trusted=bool))(scope, None, None)
    assert [(dict(seen["headers"])[b"host"], seen["client"]) for seen in scopes] == [(b"localhost", ("127.0.0.1", 1))]


@pytest.mark.parametrize(
    ("host", "status"), [("localhost", 200), ("evil.example", 403), ("app.example", 200), ("queue.fal.run", 200)]
)
def test_only_names_of_this_machine_lead_to_it_by_loopback_whatever_a_page_says_of_a_proxy(
    host: str, status: int
) -> None:
    """DNS rebinding: a page of evil.example asks itself, and may send all headers but `Host`."""
    with running(allowed_hosts=["app.example"]) as served:
        claimed = {"Host": host, "X-Forwarded-Host": "localhost", "X-Forwarded-For": "127.0.0.1"}
        assert httpx.get(f"{served.url}/health", headers=claimed, timeout=WAIT_S).status_code == status


def test_a_failed_stream_ends_without_its_final_chunk() -> None:
    with running() as served, pytest.raises(httpx.RemoteProtocolError, match="incomplete"):
        httpx.post(f"{served.url}/fails", timeout=WAIT_S)


def test_the_garbage_collector_does_not_look_at_what_is_loaded() -> None:
    class Large(streamapp.App):
        def setup(self) -> None:
            self.model = [[n] for n in range(100_000)]

        @streamapp.endpoint("/tracked")
        def tracked(self) -> int:
            return len(gc.get_objects())

    with running(Large, prepare=freeze_when_loaded) as served:
        assert httpx.post(f"{served.url}/tracked", json={}, timeout=WAIT_S).json() < 100_000


def test_shutdown_lets_the_running_job_end_and_runs_teardown() -> None:
    with running() as served, httpx.stream("POST", f"{served.url}/held", timeout=WAIT_S) as response:
        lines = response.iter_lines()
        while next(lines) != "data: 1":
            pass
        served.server.should_exit = True
        served.app.gate.set()
        assert "data: 2" in list(lines)
        assert served.ended.result(WAIT_S) == 0
        assert served.app.is_torn_down


def test_shutdown_cuts_off_a_reader_that_does_not_read() -> None:
    with running(drain_s=0) as served:
        port = int(served.url.rpartition(":")[2])
        with socket.create_connection(("127.0.0.1", port)) as deaf:
            deaf.sendall(b"GET /flood HTTP/1.1\r\nHost: test\r\n\r\n")
            deaf.recv(1)
            assert served.stop() == 0


@pytest.fixture(scope="module")
def tls_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("tls")


@contextmanager
def running_with_tls(folder: Path, **settings: Any) -> Iterator[tuple[Running, ssl.SSLContext]]:
    files = issue(folder, "127.0.0.1")
    with running(certificate=files.server, **settings) as served:
        yield served, ssl.create_default_context(cafile=str(files.authority))


def test_a_failed_stream_ends_without_its_final_chunk_over_tls_too(tls_folder: Path) -> None:
    with running_with_tls(tls_folder) as (served, trusting):
        for path in ("/fails", "/fails_large"):
            with pytest.raises(httpx.RemoteProtocolError, match="incomplete"):
                httpx.post(served.url + path, timeout=WAIT_S, verify=trusting)


def test_a_failed_stream_is_told_in_full_before_it_ends_over_tls(tls_folder: Path) -> None:
    read = ""
    with running_with_tls(tls_folder) as (served, trusting), suppress(httpx.RemoteProtocolError):
        with httpx.stream("POST", f"{served.url}/fails_large", timeout=WAIT_S, verify=trusting) as response:
            for text in response.iter_text():
                read += text
    assert "x" * 300_000 in read
    assert "event: error" in read


def test_shutdown_cuts_off_a_reader_that_does_not_read_over_tls_too(tls_folder: Path) -> None:
    with running_with_tls(tls_folder, drain_s=0) as (served, trusting):
        port = int(served.url.rpartition(":")[2])
        with (
            socket.create_connection(("127.0.0.1", port)) as connection,
            trusting.wrap_socket(connection, server_hostname="127.0.0.1") as deaf,
        ):
            deaf.sendall(b"GET /flood HTTP/1.1\r\nHost: test\r\n\r\n")
            deaf.recv(1)
            assert served.stop() == 0


def test_a_second_interrupt_does_not_wait_for_the_running_job(caplog: pytest.LogCaptureFixture) -> None:
    with running(drain_s=3600) as served, httpx.stream("POST", f"{served.url}/held", timeout=WAIT_S) as response:
        read_lines(response, 1)
        served.server.force_exit = True
        served.stop()
    assert "Traceback" not in caplog.text


def test_what_keeps_the_process_after_a_second_interrupt_does_not_make_it_one_to_start_again() -> None:
    with running(drain_s=3600) as served:
        orders: list[int] = []
        served.server.on_ending = lambda _, code: orders.append(code)
        served.server.handle_exit(signal.SIGINT, None)
        served.server.handle_exit(signal.SIGINT, None)
        served.ended.result(WAIT_S)
    assert orders == [70, 130]


class Broken(streamapp.App):
    def setup(self) -> None:
        raise RuntimeError("no weights")

    @streamapp.endpoint("/stream")
    def stream(self) -> Iterator[int]:
        yield 1


def test_a_setup_that_raises_ends_the_server_with_exit_code_3() -> None:
    with running(Broken) as served:
        assert served.ended.result(WAIT_S) == 3


def test_a_setup_that_raises_leaves_a_reloading_server_up() -> None:
    with running(Broken, stays_up=True) as served:
        refused = httpx.post(f"{served.url}/stream", timeout=WAIT_S)
        assert (refused.status_code, refused.json()["error"]["code"]) == (503, "setup_failed")
        assert served.stop() == 0


class Stuck(Counting):
    @streamapp.endpoint("/stream", timeout_s=0.05)
    def stream(self, stream: streamapp.Stream) -> None:
        self.gate.wait(WAIT_S)


def test_an_inference_thread_that_does_not_come_back_ends_the_server_with_exit_code_70() -> None:
    with running(Stuck, stuck_s=0.05, first_event_wait_s=WAIT_S) as served:
        late = httpx.post(f"{served.url}/stream", timeout=WAIT_S)
        assert (late.status_code, late.json()["error"]["code"]) == (504, "deadline_exceeded")
        assert served.ended.result(WAIT_S) == 70


class Own(streamapp.App):
    @streamapp.endpoint("/ticks")
    async def ticks(self) -> AsyncIterator[int]:
        while True:
            yield 1

    @streamapp.endpoint("/words")
    async def words(self, stream: streamapp.Stream) -> None:
        for payload in ("a", streamapp.Progress(1, 2), "", "b"):
            await stream.aemit(payload)
            await asyncio.sleep(0.01)


def test_async_streams_get_their_terminal_event_too() -> None:
    with running(Own, drain_s=0) as served, httpx.stream("GET", f"{served.url}/ticks", timeout=WAIT_S) as response:
        lines, seen = response.iter_lines(), deque[str](maxlen=10)
        next(lines)
        served.server.should_exit = True
        with pytest.raises(httpx.RemoteProtocolError):
            seen.extend(lines)
        assert "event: error" in seen


def test_a_text_goes_on_behind_what_has_no_place_in_it() -> None:
    with running(Own) as served:
        response = httpx.post(f"{served.url}/words", headers={"Accept": "text/plain"}, timeout=WAIT_S)
        assert response.text == "ab"


IN_CHUNKS = b"POST /length HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n"


@pytest.mark.parametrize(
    ("begin", "more"),
    [
        (b"GET / HTTP/1.1\r\nX-Long: ", b"x" * 65_536),
        (IN_CHUNKS + b"0\r\nX-Long: ", b"x" * 65_536),
        (IN_CHUNKS + b"0\r\n", b"a: b\r\n" * 10_000),
    ],
    ids=["header", "trailer", "trailers"],
)
def test_a_request_whose_headers_or_trailers_do_not_end_is_refused(begin: bytes, more: bytes) -> None:
    with running() as served:
        port = int(served.url.rpartition(":")[2])
        with socket.create_connection(("127.0.0.1", port), timeout=WAIT_S) as client:
            client.sendall(begin)
            with suppress(ConnectionError):
                for _ in range(100):
                    client.sendall(more)
            with suppress(ConnectionError):
                assert client.recv(100).startswith(b"HTTP/1.1 400")
        assert httpx.get(f"{served.url}/health", timeout=WAIT_S).is_success


@pytest.mark.parametrize("chunk_bytes", [1_000, 100_000, 3_000_000])
def test_a_body_in_chunks_may_be_longer_than_a_head(chunk_bytes: int) -> None:
    body = b'{"text": "' + b"x" * 2_000_000 + b'"}'
    with running() as served, httpx.Client(base_url=served.url, timeout=WAIT_S) as client:
        for _ in range(2):
            chunks = (body[n : n + chunk_bytes] for n in range(0, len(body), chunk_bytes))
            assert client.post("/length", content=chunks).json() == 2_000_000


def test_trailers_that_end_are_no_reason_to_refuse_a_request_or_the_next() -> None:
    trailers = b"X-Long: " + b"x" * 100_000 + b"\r\n\r\n"
    next_request = b"GET /health HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n"
    with running() as served:
        port = int(served.url.rpartition(":")[2])
        with socket.create_connection(("127.0.0.1", port), timeout=WAIT_S) as client:
            client.sendall(IN_CHUNKS + b'd\r\n{"text": "x"}\r\n0\r\n' + trailers + next_request)
            received = b""
            while piece := client.recv(65_536):
                received += piece
    assert received.count(b"HTTP/1.1 200") == 2


OFFER = (
    b"POST /length HTTP/1.1\r\nHost: test\r\nContent-Type: application/json\r\nHTTP2-Settings: AAM\r\nUpgrade: h2c\r\n"
    b"Connection: Upgrade, HTTP2-Settings\r\n"
)


@pytest.mark.parametrize(
    "body",
    [
        b"Content-Length: 15\r\n\r\n" + b'{"text": "xyz"}',
        b"Transfer-Encoding: chunked\r\n\r\n" + b'f\r\n{"text": "xyz"}\r\n0\r\n\r\n',
    ],
    ids=["length", "chunks"],
)
@pytest.mark.parametrize("cut", [0, 60, len(OFFER), -20, -3])
def test_who_offers_another_protocol_is_answered_in_http_1_1(body: bytes, cut: int) -> None:
    """Java's client offers HTTP/2 with each request; its body would be dropped."""
    last = b"GET /health HTTP/1.1\r\nHost: test\r\nUpgrade: TLS/1.0\r\nConnection: Upgrade, close\r\n\r\n"
    sent = OFFER + body
    with running() as served:
        port = int(served.url.rpartition(":")[2])
        with socket.create_connection(("127.0.0.1", port), timeout=WAIT_S) as client:
            client.sendall(sent[:cut])
            assert httpx.get(f"{served.url}/health", timeout=WAIT_S).is_success  # the first piece was read
            client.sendall(sent[cut:] + sent + last)
            received = b""
            while piece := client.recv(65_536):
                received += piece
    assert received.count(b"HTTP/1.1 200") == 3
    assert received.count(b"\r\n\r\n3") == 2


def test_many_offers_at_once_are_answered_one_by_one() -> None:
    with running() as served:
        port = int(served.url.rpartition(":")[2])
        with socket.create_connection(("127.0.0.1", port), timeout=WAIT_S) as client:
            offer = b"GET /health HTTP/1.1\r\nHost: test\r\nUpgrade: h2c\r\nConnection: Upgrade\r\n\r\n"
            client.sendall(offer * 1500 + offer.replace(b"Upgrade\r\n\r", b"Upgrade, close\r\n\r"))
            received = b""
            while piece := client.recv(65_536):
                received += piece
    assert received.count(b"HTTP/1.1 200") == 1501


def test_a_connect_is_no_request_of_http() -> None:
    with running() as served:
        port = int(served.url.rpartition(":")[2])
        with socket.create_connection(("127.0.0.1", port), timeout=WAIT_S) as client:
            client.sendall(b"CONNECT test:443 HTTP/1.1\r\nHost: test\r\n\r\n")
            assert client.recv(100).startswith(b"HTTP/1.1 400")
        assert httpx.get(f"{served.url}/health", timeout=WAIT_S).is_success


class Lines(streamapp.App):
    @streamapp.endpoint("/many", media_type="application/x-ndjson")
    async def many(self) -> AsyncIterator[int]:
        for n in range(100):
            yield n
            await asyncio.sleep(0)

    @streamapp.endpoint("/fails", media_type="application/x-ndjson")
    def fails(self) -> Iterator[int]:
        yield 1
        raise RuntimeError("no")

    @streamapp.endpoint("/own")
    def own(self) -> StreamingResponse:
        return StreamingResponse(iter(["a", "", "b"]))


def by_http_1_0(url: str, request: str) -> tuple[str, str]:
    """Send a request as `ab` and proxies of HTTP/1.0 do; return head and body of the answer."""
    with socket.create_connection(("127.0.0.1", int(url.rpartition(":")[2])), timeout=WAIT_S) as client:
        client.sendall(f"{request} HTTP/1.0\r\nContent-Length: 0\r\n\r\n".encode())
        received = b""
        while piece := client.recv(65_536):
            received += piece
    head, _, body = received.decode().partition("\r\n\r\n")
    return head.lower(), body


@pytest.mark.parametrize(
    ("asked", "body"),
    [
        ("POST /many", "".join(f"{n}\n" for n in range(100))),
        ("POST /fails", r'1\n{"error":.*}\n'),
        ("POST /own", "ab"),
        ("POST /nothing", "{.*}"),
        ("HEAD /health", ""),
        ("GET /health", "{.*}"),
    ],
)
def test_a_reader_of_http_1_0_gets_no_chunks(asked: str, body: str) -> None:
    with running(Lines, first_event_wait_s=0) as served:
        head, got = by_http_1_0(served.url, asked)
    assert "transfer-encoding" not in head
    assert "connection: close" in head
    assert re.fullmatch(body, got)


def test_a_slow_reader_gets_all_of_a_stream_that_failed() -> None:
    with running(first_event_wait_s=0) as served:
        port = int(served.url.rpartition(":")[2])
        with socket.socket() as client:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            client.connect(("127.0.0.1", port))
            client.sendall(b"POST /fails_large HTTP/1.1\r\nHost: test\r\n\r\n")
            received = b""
            while chunk := client.recv(16_384):
                received += chunk
                threading.Event().wait(0.1)
        assert received.count(b"x") >= 300_000
        assert b"event: error" in received


class Deaf(Counting):
    drains = 0

    def handle_exit(self) -> None:
        self.drains += 1

    @streamapp.endpoint("/deaf")
    def deaf(self, stream: streamapp.Stream) -> None:
        stream.emit("started")
        self.gate.wait(WAIT_S)


def test_shutdown_drains_once() -> None:
    with running(Deaf, drain_s=0.2) as served, httpx.stream("POST", f"{served.url}/deaf", timeout=WAIT_S) as response:
        next(response.iter_lines())
        served.stop()
        assert served.app.drains == 1


class Noting:
    """Middleware of a user's: what it sees of a response, in order."""

    def __init__(self, app: ASGIApp, seen: list[str]) -> None:
        self.app = app
        self.seen = seen

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def noted(message: Message) -> None:
            self.seen.append("more" if message.get("more_body", True) else "end")
            await send(message)

        await self.app(scope, receive, noted)
        self.seen.append("returned")


@pytest.mark.parametrize("is_inside", [True, False])
async def test_only_where_no_middleware_of_others_looks_on_a_stream_outlasts_its_app(is_inside: bool) -> None:
    seen: list[str] = []
    api = streamapp.compile_app(Brief, settings=Settings(first_event_wait_s=WAIT_S))
    if is_inside:
        api.add_middleware(Noting, seen=seen)
    unwound = AfterReturn(api, api)
    transport = httpx.ASGITransport(unwound if is_inside else Noting(unwound, seen))
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        answer = await client.post("/")
    assert answer.text.endswith("data: 1\n\n")
    assert len(answer.headers["x-streamapp-job-id"]) == 32
    assert seen[-2:] == ["end", "returned"]


async def test_writers_wait_until_the_client_has_taken_enough() -> None:
    flow = Flow(asyncio.Transport())
    await flow.drain()
    for _ in range(2):
        flow.pause_writing()
        waiting = [asyncio.create_task(flow.drain()) for _ in range(2)]
        await asyncio.sleep(0)
        assert flow.write_paused
        assert not any(task.done() for task in waiting)
        flow.resume_writing()
        await asyncio.gather(*waiting)


class Brief(streamapp.App):
    @streamapp.endpoint("/")
    async def one(self) -> AsyncIterator[int]:
        yield 1
