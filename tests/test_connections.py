"""Who is connected: alone, and over real sockets of a server in a thread of this process.

There no second passes by itself: `let_pass` looks at the connections as often as it says.
"""

import asyncio
import logging
import resource
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from http.client import HTTPConnection, HTTPSConnection
from pathlib import Path

import httpx
import pytest
from starlette.responses import PlainTextResponse
from starlette.types import Receive, Scope, Send
from tests.test_server import Counting, Running, running, running_with_tls
from tests.waiting import WAIT_S, until

import streamapp
from streamapp.errors import QueueFull, StreamAppError, describe
from streamapp.serve import connections
from streamapp.serve.connections import Address, Connections, Fault, Standing, raw_answer

APP = Path(__file__).parent / "apps" / "gated.py"
HOME, OTHER = "192.0.2.1", "192.0.2.2"


class Visitor:
    """A connection that notes what is done to it."""

    def __init__(self, standing: Standing = "silent") -> None:
        self.standing: Standing = standing
        self.address: Address | None = None
        self.left_s = 0.0
        self.given_up = 0
        self.fault: Fault = None
        self.made_way = False

    def give_up(self) -> Fault:
        self.given_up += 1
        return self.fault

    def make_way(self) -> None:
        self.made_way = True


def table(most: int | None = 4) -> Connections:
    return Connections(most, is_trusted="proxy".__eq__)


def enter(at: Connections, *visitors: Visitor, host: str = HOME, descriptor: int = 0) -> StreamAppError | None:
    """Let them in one after another; return what the last was told."""
    told = None
    for visitor in visitors:
        told = at.enter(visitor, host, descriptor)
    return told


def visitors(count: int, standing: Standing = "silent") -> list[Visitor]:
    return [Visitor(standing) for _ in range(count)]


# alone


def test_a_newcomer_takes_the_place_of_the_oldest_connection_without_a_request() -> None:
    at, (answered, *silent) = table(), [Visitor("answered"), *visitors(3)]
    assert enter(at, answered, *silent) is None
    assert enter(at, Visitor(), host=OTHER) is None
    assert [visitor.made_way for visitor in (answered, *silent)] == [False, True, False, False]


def test_a_newcomer_takes_a_place_of_its_own_address_first() -> None:
    at, theirs, own = table(), visitors(3), Visitor()
    enter(at, *theirs)
    enter(at, own, host=OTHER)
    assert enter(at, Visitor(), host=OTHER) is None
    assert (own.made_way, any(visitor.made_way for visitor in theirs)) == (True, False)


def test_a_connection_that_was_heard_of_is_no_longer_the_oldest() -> None:
    at, (first, second, *others) = table(), visitors(4)
    enter(at, first, second, *others, host="proxy")
    at.sweep()
    first.left_s = 10
    enter(at, Visitor(), host=OTHER)
    assert (first.made_way, second.made_way) == (False, True)


@pytest.mark.parametrize("standing", ["sending", "held", "answered"])
def test_where_all_have_a_request_under_way_a_newcomer_is_told_to_come_back(standing: Standing) -> None:
    at = table()
    enter(at, *visitors(4, standing), host="proxy")
    told = enter(at, Visitor(), host=OTHER)
    assert told is not None
    assert (told.status_code, told.retryable, told.retry_after_s) == (503, True, 1)
    assert "STREAMAPP_MAX_CONNECTIONS" in told.message


def test_the_last_quarter_of_the_places_is_not_for_an_address_that_has_half_of_them() -> None:
    at = table(8)
    assert enter(at, *visitors(6, "answered")) is None
    told = enter(at, Visitor())
    assert told is not None
    assert "your address" in told.message
    assert enter(at, Visitor(), host=OTHER) is None


def test_an_address_that_has_half_goes_on_with_places_that_it_does_not_use() -> None:
    at, silent = table(8), Visitor()
    enter(at, *visitors(5, "answered"), silent)
    assert enter(at, Visitor()) is None
    assert silent.made_way


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "proxy", ""])
def test_an_address_that_stands_for_many_clients_may_have_all_places(host: str) -> None:
    at = table(8)
    assert enter(at, *visitors(8, "answered"), host=host) is None
    assert enter(at, Visitor(), host=host) is not None


def test_an_address_of_which_nobody_is_left_is_forgotten() -> None:
    at, guests = table(), visitors(2)
    enter(at, *guests, host=OTHER)
    assert len(at._addresses) == 1
    for guest in guests:
        at.leave(guest)
    assert at._addresses == {}


def test_a_connection_that_has_left_makes_room() -> None:
    at, leaving, late = table(1), Visitor("answered"), Visitor()
    enter(at, leaving)
    at.leave(leaving)
    at.leave(leaving)
    at.wait_for(leaving)
    assert enter(at, late) is None
    assert enter(at, Visitor()) is None
    assert late.made_way


def test_descriptors_that_the_app_has_opened_are_no_places(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _: (100, 100))
    at = table(None)
    assert at.most == 75
    assert enter(at, Visitor("answered"), descriptor=74) is None
    assert enter(at, Visitor("answered"), descriptor=75) is not None


def test_more_connections_than_there_are_descriptors_for_are_told_of(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _: (100, 100))
    assert table(76).most == 75
    assert "STREAMAPP_MAX_CONNECTIONS is 76" in caplog.text


def test_who_owes_something_is_given_up_and_who_waits_for_the_server_is_not() -> None:
    at, owing, waiting = table(), [Visitor("silent"), Visitor("sending")], [Visitor("held"), Visitor("answered")]
    enter(at, *owing, *waiting, host="proxy")
    for _ in range(10):
        assert [visitor.given_up for visitor in owing] == [0, 0]
        at.sweep()
    assert [visitor.given_up for visitor in (*owing, *waiting)] == [1, 1, 0, 0]


def test_who_was_given_up_and_stays_is_given_up_again() -> None:
    at, visitor = table(), Visitor()
    enter(at, visitor)
    for _ in range(15):
        at.sweep()
    assert visitor.given_up == 2


def test_who_was_answered_is_looked_at_again_when_something_is_waited_for() -> None:
    at, visitor = table(), Visitor("answered")
    enter(at, visitor)
    at.sweep()
    visitor.standing, visitor.left_s = "silent", 1
    at.sweep()
    assert visitor.given_up == 0
    at.wait_for(visitor)
    at.sweep()
    assert visitor.given_up == 1


def test_a_place_is_handed_over_with_its_connection() -> None:
    at, (guest, heir) = table(), visitors(2)
    enter(at, guest)
    at.hand_over(guest, heir)
    assert (guest.address, at._held, at._silent) == (None, 1, {})
    at.leave(guest)
    assert at._held == 1
    at.leave(heir)
    assert (at._held, at._addresses) == (0, {})


def test_what_has_no_place_hands_none_over() -> None:
    at, (guest, heir) = table(), visitors(2)
    at.hand_over(guest, heir)
    at.leave(heir)
    assert at._held == 0


def test_what_happens_is_told_at_once_and_then_once_a_minute(caplog: pytest.LogCaptureFixture) -> None:
    at, told = table(1), []
    enter(at, Visitor("answered"))
    for _ in range(121):
        enter(at, Visitor())
        at.sweep()
        told.append(len(caplog.messages))
    assert [told.index(count) for count in (1, 2, 3)] == [0, 60, 120]
    assert "60 more were refused" in caplog.messages[1]


@pytest.mark.parametrize(
    ("count", "fault", "told"),
    [
        (1, "too late", "1 were closed as their request did not come in time"),
        (21, "silent", "21 were closed as they sent nothing"),
        (20, "silent", ""),
        (50, None, ""),
    ],
)
def test_what_clients_do_every_day_is_not_told(
    count: int, fault: Fault, told: str, caplog: pytest.LogCaptureFixture
) -> None:
    at = table(100)
    for visitor in visitors(count):
        visitor.fault = fault
        enter(at, visitor, host="proxy")
    for _ in range(10):
        at.sweep()
    assert [message.rpartition(") ")[2] for message in caplog.messages] == ([told] if told else [])


def test_requests_that_a_proxy_forwards_count_by_the_address_that_it_names() -> None:
    at = table(8)
    enter(at, *visitors(6, "answered"), host="proxy")
    assert [at.begin(HOME) for _ in range(4)] == [None] * 4
    assert at.begin(HOME) is not None
    assert at.begin(OTHER) is at.begin("127.0.0.1") is None
    at.end(HOME)
    assert at.begin(HOME) is None


def test_an_address_that_has_no_request_any_more_is_forgotten() -> None:
    at = table()
    at.begin(HOME)
    at.end(HOME)
    assert vars(at)["_requests"] == {}


def test_a_raw_answer_is_http_in_the_one_error_shape() -> None:
    head, _, body = raw_answer(describe(QueueFull("füll", retry_after_s=3))).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 429 Too Many Requests\r\n")
    assert {b"Connection: close", b"Retry-After: 3", b"Content-Length: %d" % len(body)} <= set(head.split(b"\r\n"))
    assert b'"code": "queue_full"' in body


def test_the_limit_of_descriptors_is_raised_as_far_as_the_process_may() -> None:
    code = (
        "import resource; from streamapp.serve.connections import raise_descriptor_limit\n"
        "for limits in ((100, 200), (200, 200)):\n"
        "    resource.setrlimit(resource.RLIMIT_NOFILE, limits)\n"
        "    raise_descriptor_limit()\n"
        "    print(resource.getrlimit(resource.RLIMIT_NOFILE))"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=WAIT_S)
    assert ran.stdout == "(200, 200)\n(200, 200)\n"


# over real sockets


class Uploads(Counting):
    @streamapp.endpoint("/unread")
    def unread(self) -> Iterator[int]:
        """Begin an answer, and read no body."""
        yield 1
        self.gate.wait(WAIT_S)
        yield 2


@pytest.fixture(autouse=True)
def no_second_passes_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "SWEEP_S", 3600)


@contextmanager
def connected(served: Running, *sent: bytes) -> Iterator[list[socket.socket]]:
    """Connect, once for each, and send it; what came last has been read by the server when this goes on."""
    with ExitStack() as open_:
        port = int(served.url.rpartition(":")[2])
        clients = []
        for content in sent:
            clients.append(open_.enter_context(socket.create_connection(("127.0.0.1", port), timeout=WAIT_S)))
            clients[-1].sendall(content)
        yield clients


def is_served(served: Running, trusting: ssl.SSLContext | None = None) -> bool:
    """Ask for something on a connection of its own; what others have sent before has been read then."""
    address = served.url.partition("//")[2]
    asking = HTTPSConnection(address, context=trusting) if trusting else HTTPConnection(address, timeout=WAIT_S)
    with closing(asking):
        asking.request("GET", "/health")
        return asking.getresponse().status == 200


def let_pass(served: Running, seconds: int, trusting: ssl.SSLContext | None = None) -> None:
    """Let seconds pass, after all that was sent has been read."""
    assert is_served(served, trusting)
    passed = threading.Event()

    def sweep() -> None:
        for _ in range(seconds):
            served.server.connections.sweep()
        passed.set()

    served.server._runtime.call_on_loop(sweep)
    assert passed.wait(WAIT_S)


def rest_of(client: socket.socket) -> bytes:
    """Read until the server has closed the connection."""
    received = b""
    while True:
        try:
            piece = client.recv(65_536)
        except ConnectionResetError:
            piece = b""
        if not piece:
            return received
        received += piece


def answer_of(client: socket.socket) -> bytes:
    """Read one answer of those that have a length."""
    received = b""
    while (head := received.partition(b"\r\n\r\n"))[1] == b"" or b"}" not in head[2]:
        received += client.recv(65_536)
    return received


GET = b"GET /health HTTP/1.1\r\nHost: test\r\n\r\n"
POST = b"POST /length HTTP/1.1\r\nHost: test\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"


def test_silent_connections_lock_nobody_out() -> None:
    with running(max_connections=50) as served, connected(served, *[b""] * 1100) as silent:
        assert all(is_served(served) for _ in range(20))
        assert rest_of(silent[0]) == b""


def test_more_silent_connections_than_descriptors_lock_nobody_out() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    command = ["sh", "-c", f'ulimit -n 200 && exec "$0" "$1" {port}', sys.executable, str(APP)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process, ExitStack() as silent:
        try:
            until(lambda: _answers(port))
            for _ in range(1100):
                silent.enter_context(socket.create_connection(("127.0.0.1", port), timeout=WAIT_S))
            assert all(_answers(port) for _ in range(20))
        finally:
            process.kill()
        assert process.stderr is not None
        assert "Too many open files" not in process.stderr.read()


def _answers(port: int) -> bool:
    with suppress(httpx.ConnectError):
        return httpx.post(f"http://127.0.0.1:{port}/computed", timeout=WAIT_S).is_success
    return False


def test_silent_connections_lock_nobody_out_of_tls(tmp_path: Path) -> None:
    with running_with_tls(tmp_path, max_connections=50) as (served, trusting):
        with connected(served, *[b""] * 300) as silent:
            assert all(is_served(served, trusting) for _ in range(5))
            assert rest_of(silent[0]) == b""


def test_open_streams_are_not_closed_in_favour_of_others() -> None:
    with running(max_connections=2) as served, httpx.stream("POST", f"{served.url}/held", timeout=WAIT_S) as stream:
        lines = stream.iter_lines()
        while next(lines) != "data: 1":
            pass
        assert all(is_served(served) for _ in range(10))
        served.app.gate.set()
        assert "data: 2" in list(lines)


def test_one_too_many_is_told_so_in_words_and_may_come_back() -> None:
    with running(max_connections=1) as served:
        with httpx.stream("POST", f"{served.url}/held", timeout=WAIT_S):
            refused = httpx.post(f"{served.url}/length", json={"text": "x"}, timeout=WAIT_S)
            assert (refused.status_code, refused.json()["error"]["code"]) == (503, "unavailable")
            assert refused.headers["retry-after"] == "1"
            with connected(served, GET) as (client,):
                assert rest_of(client).startswith(b"HTTP/1.1 503")
        until(lambda: httpx.get(f"{served.url}/health", timeout=WAIT_S).is_success)


def test_one_too_many_of_tls_is_closed(tmp_path: Path) -> None:
    with running_with_tls(tmp_path, max_connections=1) as (served, trusting):
        with httpx.stream("POST", f"{served.url}/held", timeout=WAIT_S, verify=trusting):
            with connected(served, b"") as (client,):
                assert rest_of(client) == b""


def test_a_refused_connection_that_stays_is_ended_at_last() -> None:
    with running(max_connections=1) as served, httpx.stream("POST", f"{served.url}/held", timeout=WAIT_S):
        with connected(served, *[b"x" * 1000] * 100) as refused:
            assert all(rest_of(client).startswith(b"HTTP/1.1 503") for client in refused)
            until(lambda: httpx.get(f"{served.url}/health", timeout=WAIT_S).status_code == 503)
            assert len(vars(served.server.connections)["_lingering"]) <= 32


@pytest.mark.parametrize(
    "sent", [b"G", b"GET / HTTP/1.1\r\nHost: te", b"POST /length HTTP/1.0\r\nContent-Length: 9\r\n"]
)
def test_a_head_that_does_not_come_whole_is_answered_with_408(sent: bytes) -> None:
    with running() as served, connected(served, sent) as (client,):
        let_pass(served, 10)
        answer = rest_of(client)
    assert answer.startswith(b"HTTP/1.1 408 Request Timeout\r\n")
    assert b'"code": "request_timeout"' in answer


def test_a_head_that_comes_byte_by_byte_has_no_more_time() -> None:
    with running() as served, connected(served, b"GET / HTTP/1.1\r\nX: ") as (client,):
        for _ in range(9):
            let_pass(served, 1)
            client.sendall(b"x")
        let_pass(served, 1)
        assert rest_of(client).startswith(b"HTTP/1.1 408")


def test_a_connection_that_sends_nothing_is_closed_without_a_word() -> None:
    with running() as served, connected(served, b"", b"\r\n") as clients:
        let_pass(served, 9)
        until(lambda: served.server.connections._held == 2)
        let_pass(served, 1)
        assert [rest_of(client) for client in clients] == [b"", b""]


def test_a_handshake_that_never_comes_is_given_up(tmp_path: Path) -> None:
    with running_with_tls(tmp_path) as (served, trusting), connected(served, b"", b"\x16\x03") as clients:
        let_pass(served, 10, trusting)
        assert [rest_of(client) for client in clients] == [b"", b""]


def test_what_is_no_handshake_is_closed_and_forgotten(tmp_path: Path) -> None:
    with running_with_tls(tmp_path) as (served, _), connected(served, GET) as (client,):
        rest_of(client)
        until(lambda: served.server.connections._held == 0)


def test_an_idle_connection_is_closed_and_one_that_is_used_is_not() -> None:
    with running() as served, connected(served, GET) as (client,):
        for _ in range(3):
            assert answer_of(client).startswith(b"HTTP/1.1 200")
            let_pass(served, 4)
            client.sendall(GET)
        answer_of(client)
        client.sendall(b"\r\n\r\n")  # is no request
        let_pass(served, 5)
        assert rest_of(client) == b""


def test_how_long_a_connection_may_be_idle_is_a_setting() -> None:
    with running(keep_alive_s=60) as served, connected(served, GET) as (client,):
        answer_of(client)
        let_pass(served, 59)
        client.sendall(GET)
        assert answer_of(client).startswith(b"HTTP/1.1 200")


def test_an_idle_connection_of_tls_whose_client_does_not_end_it_is_ended_at_last(tmp_path: Path) -> None:
    with running_with_tls(tmp_path) as (served, trusting), connected(served, b"") as (plain,):
        with trusting.wrap_socket(plain, server_hostname="127.0.0.1") as client:
            client.sendall(GET)
            client.recv(1)
            let_pass(served, 5 + 5, trusting)
            until(lambda: served.server.connections._held == 0)


def test_a_body_that_comes_to_a_standstill_is_answered_with_408(caplog: pytest.LogCaptureFixture) -> None:
    with running() as served, connected(served, POST % 100_000 + b'{"text": "') as (client,):
        let_pass(served, 19)
        client.sendall(b"x")
        let_pass(served, 2)
        answer = rest_of(client)
        assert is_served(served)
    assert answer.startswith(b"HTTP/1.1 408")
    assert b"standstill" in answer
    assert [record.name for record in caplog.records if record.levelno >= logging.ERROR] == []


def test_who_still_sends_when_it_is_too_late_reads_why() -> None:
    """Were the connection closed at once, its next bytes would be answered with a reset, which takes the 408 away."""
    with running() as served, connected(served, POST % 100_000 + b'{"text": "') as (client,):
        let_pass(served, 20)
        for _ in range(3):
            client.sendall(b"x" * 100)
            assert is_served(served)
        assert rest_of(client).startswith(b"HTTP/1.1 408")
        until(lambda: served.server.connections._held == 0)


@pytest.mark.parametrize("pieces", [1, 10])
def test_a_slow_body_comes_through(pieces: int) -> None:
    text = b"x" * 2000
    body = b'{"text": "' + text * 30 + b'"}'
    with running() as served, connected(served, POST % len(body) + body[:10]) as (client,):
        for n in range(30):
            for piece in range(pieces):
                length = len(text) // pieces
                client.sendall(body[10 + n * 2000 + piece * length :][:length])
            let_pass(served, 1)
        client.sendall(b'"}')
        assert client.recv(65_536).endswith(b"60000")


def test_a_client_that_waits_to_be_told_to_go_on_has_as_much_time_as_the_server_takes() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        asked.set()
        await asyncio.to_thread(gate.wait, WAIT_S)
        await PlainTextResponse((await receive())["body"])(scope, receive, send)

    asked, gate = threading.Event(), threading.Event()
    with running() as served:
        assert is_served(served)
        ours, served.server.config.loaded_app = served.server.config.loaded_app, app
        head = (POST % 1).replace(b"\r\n\r\n", b"\r\nExpect: 100-continue\r\n\r\n")
        with connected(served, head) as (client,):
            assert asked.wait(WAIT_S)
            served.server.config.loaded_app = ours
            let_pass(served, 100)
            gate.set()
            assert client.recv(100).startswith(b"HTTP/1.1 100")
            client.sendall(b"x")
            assert client.recv(65_536).endswith(b"\r\n\r\nx")


def test_a_body_that_the_answer_does_not_wait_for_is_not_waited_for() -> None:
    head = b"GET /unread HTTP/1.1\r\nHost: test\r\nContent-Length: 9\r\n\r\n"
    with running(Uploads) as served, connected(served, head) as (client,):
        while b"data: 1" not in client.recv(65_536):
            pass
        let_pass(served, 100)
        served.app.gate.set()
        while not client.recv(65_536).endswith(b"0\r\n\r\n"):
            pass
        let_pass(served, 5)
        assert rest_of(client) == b""


def test_a_stream_that_is_silent_for_long_is_not_cut() -> None:
    with running(heartbeat_s=3600) as served, httpx.stream("POST", f"{served.url}/held", timeout=WAIT_S) as stream:
        lines = stream.iter_lines()
        while next(lines) != "data: 1":
            pass
        let_pass(served, 1000)
        served.app.gate.set()
        assert "data: 2" in list(lines)


def test_requests_that_come_before_they_are_answered_are_answered_in_turn() -> None:
    with (
        running() as served,
        connected(served, b"POST /held HTTP/1.1\r\nHost: test\r\n\r\n" + GET + b"GE") as (client,),
    ):
        let_pass(served, 100)
        served.app.gate.set()
        received = b""
        while b'"status"' not in received:
            received += client.recv(65_536)
        assert b"data: 2" in received
        let_pass(served, 10)
        assert rest_of(client).startswith(b"HTTP/1.1 408")


def test_the_time_for_a_body_does_not_run_where_the_answer_is_refused_before() -> None:
    with running(max_body_bytes=10) as served, connected(served, POST % 1_000_000) as (client,):
        assert client.recv(65_536).startswith(b"HTTP/1.1 413")
        for _ in range(20):
            client.sendall(b"x" * 10_000)
            let_pass(served, 1)
        let_pass(served, 20)
        assert b"408" not in rest_of(client)


def test_a_client_that_ends_its_side_is_let_go_of() -> None:
    with running() as served, connected(served, b"", b"GET / HT", POST % 100 + b"{") as clients:
        for client in clients:
            client.shutdown(socket.SHUT_WR)
        assert all(rest_of(client) == b"" for client in clients[:2])
        rest_of(clients[2])
        until(lambda: served.server.connections._held == 0)


def test_a_websocket_is_no_business_of_these() -> None:
    with running() as served:
        upgrade = (
            b"Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: x\r\nSec-WebSocket-Version: 13\r\n\r\n"
        )
        with connected(served, b"GET /ws HTTP/1.1\r\nHost: test\r\n" + upgrade) as (client,):
            assert client.recv(100).startswith(b"HTTP/1.1 ")
        until(lambda: served.server.connections._held == 0)


def test_an_address_behind_a_proxy_with_too_many_requests_is_told_so() -> None:
    def ask(address: str) -> int:
        headers = {"X-Forwarded-For": address}
        return httpx.get(f"{served.url}/health", headers=headers, timeout=WAIT_S).status_code

    with running(max_connections=8) as served, ExitStack() as streams:
        for address in (HOME, HOME, HOME, HOME, OTHER, OTHER):
            request = httpx.stream("GET", f"{served.url}/held", headers={"X-Forwarded-For": address}, timeout=WAIT_S)
            streams.enter_context(request)
        assert (ask(HOME), ask(OTHER)) == (503, 200)
        served.app.gate.set()


def test_silent_connections_do_not_keep_the_server_from_ending(tmp_path: Path) -> None:
    with running_with_tls(tmp_path) as (served, _), connected(served, b"", GET) as clients:
        assert served.stop() == 0
        assert [rest_of(client) for client in clients] == [b"", rest_of(clients[1])]
