"""WebSockets of the server: raw bytes over real sockets of one in a thread of this process.

There no second passes by itself: `let_pass` looks at the connections as often as it says.
"""

import asyncio
import base64
import gc
import hashlib
import os
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
import websockets.sync.client
from fastapi import FastAPI, WebSocket, WebSocketDisconnect
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send
from tests.test_connections import is_served, let_pass, no_second_passes_by_itself, rest_of
from tests.test_server import Running, running, tls_folder
from tests.waiting import WAIT_S, until
from websockets.frames import Frame, Opcode

import streamapp
from streamapp.budget import Budget
from streamapp.serve import websockets as ours
from streamapp.serve.certificates import issue
from streamapp.serve.server import LendingProtocol
from streamapp.sockets.wire import Wire, text_frame, wire_of

__all__ = ["no_second_passes_by_itself", "tls_folder"]  # fixtures

TEXT, BINARY, CLOSE, PING, PONG, CONT = (
    *(Opcode.TEXT, Opcode.BINARY, Opcode.CLOSE, Opcode.PING, Opcode.PONG, Opcode.CONT),
)
KEY = base64.b64encode(b"0123456789abcdef").decode()


class Sockets(streamapp.App):
    """The server around the sockets, and what these tell the tests."""

    def setup(self) -> None:
        self.heard: list[Any] = []
        self.ended: list[Any] = []
        self.wire: Wire | None = None
        self.may_receive = asyncio.Event()

    @streamapp.endpoint("/one")
    async def one(self) -> int:
        return 1


@contextmanager
def serving(*, certificate: Path | None = None, **settings: Any) -> Iterator[Running]:
    """Serve sockets that do various things, and note what they hear in the app's `heard` and `ended`."""
    settings = {"heartbeat_s": 3600, "drain_s": 0, **settings}
    app: Any = None

    def prepare(api: FastAPI) -> None:
        nonlocal app
        app = api.state.runtime.served[0].app

        @api.websocket("/echo")
        async def echo(opened: WebSocket) -> None:
            await opened.accept()
            app.wire = wire_of(opened.scope)
            while (message := await opened.receive())["type"] == "websocket.receive":
                app.heard.append(message.get("text", message.get("bytes")))
                with suppress(WebSocketDisconnect):
                    await opened.send({**message, "type": "websocket.send"})
            app.ended.append((message["code"], message["reason"]))

        @api.websocket("/deaf")
        async def deaf(opened: WebSocket) -> None:
            await opened.accept()
            app.wire = wire_of(opened.scope)
            await app.may_receive.wait()
            while (message := await opened.receive())["type"] == "websocket.receive":
                app.heard.append(message.get("text", message.get("bytes")))
            app.ended.append((message["code"], message["reason"]))

        @api.websocket("/flood")
        async def flood(opened: WebSocket) -> None:
            await opened.accept()
            app.wire = wire_of(opened.scope)
            try:
                while True:
                    await opened.send_bytes(b"x" * 20_000)
            finally:
                app.ended.append("flood")

        @api.websocket("/late")
        async def late(opened: WebSocket) -> None:
            await app.may_receive.wait()
            await echo(opened)

        @api.websocket("/refuses")
        async def refuses(opened: WebSocket) -> None:
            await opened.send_denial_response(JSONResponse({"no": 1}, 418, {"X-Own": "1"}))
            app.ended.append((await opened.receive())["type"])

        @api.websocket("/closes")
        async def closes(opened: WebSocket, code: int = 4000, first: int = 0) -> None:
            if not first:
                await opened.accept(subprotocol="b", headers=[(b"x-own", b"1")])
            await opened.close(code, "enough")
            app.ended.append((await opened._receive())["type"])

        @api.websocket("/returns")
        async def returns(opened: WebSocket) -> None:
            await opened.accept()

        @api.websocket("/silent")
        async def silent(opened: WebSocket) -> None:
            pass

    with running(Sockets, certificate=certificate, prepare=prepare, **settings) as served:
        yield served


class Client:
    """A client of a WebSocket that can say anything."""

    def __init__(
        self,
        served: Running,
        path: str = "/echo",
        *headers: str,
        early: bytes = b"",
        trusting: ssl.SSLContext | None = None,
    ) -> None:
        self.socket = connection = socket.create_connection(address(served), timeout=WAIT_S)
        if trusting is not None:
            self.socket = trusting.wrap_socket(connection, server_hostname="127.0.0.1")
        self.socket.sendall(handshake(path, *headers) + early)
        self._received = b""

    def head(self) -> str:
        """Read the answer to the handshake."""
        while b"\r\n\r\n" not in self._received:
            self._more()
        head, _, self._received = self._received.partition(b"\r\n\r\n")
        return head.decode()

    def send(self, opcode: Opcode, content: bytes = b"", *, fin: bool = True) -> None:
        self.socket.sendall(sent(opcode, content, fin=fin))

    def read(self) -> tuple[Opcode, bytes]:
        """Read one frame."""
        size, start = self._at(1)[0], 2
        if size >= 126:
            start = 4 if size == 126 else 10
            size = int.from_bytes(self._at(2, start - 2), "big")
        opcode, content = Opcode(self._at(0)[0] & 0x0F), self._at(start, size)
        self._received = self._received[start + size :]
        return opcode, content

    def end(self) -> tuple[int, str]:
        """Read up to the close frame, answer it, read to the end; return its code and reason."""
        while (frame := self.read())[0] != CLOSE:
            pass
        with suppress(OSError):
            self.send(CLOSE, frame[1][:2])
        assert self._received + rest_of(self.socket) == b""
        return int.from_bytes(frame[1][:2], "big"), frame[1][2:].decode()

    def _at(self, start: int, size: int = 1) -> bytes:
        while len(self._received) < start + size:
            self._more()
        return self._received[start : start + size]

    def _more(self) -> None:
        piece = self.socket.recv(65_536)
        if not piece:
            raise EOFError(self._received)
        self._received += piece


def address(served: Running) -> tuple[str, int]:
    return "127.0.0.1", int(served.url.rpartition(":")[2])


def handshake(path: str, *headers: str) -> bytes:
    own = ["Host: test", "Upgrade: websocket", "Connection: keep-alive, Upgrade"]
    own += ["" if "-Key" in "".join(headers) else f"Sec-WebSocket-Key: {KEY}"]
    own += ["" if "-Version" in "".join(headers) else "Sec-WebSocket-Version: 13"]
    return "\r\n".join([f"GET {path} HTTP/1.1", *filter(None, own), *headers, "", ""]).encode()


def sent(opcode: Opcode, content: bytes = b"", *, fin: bool = True) -> bytes:
    return Frame(opcode, content, fin).serialize(mask=True)


@contextmanager
def opened(
    served: Running, path: str = "/echo", *headers: str, trusting: ssl.SSLContext | None = None
) -> Iterator[Client]:
    client = Client(served, path, *headers, trusting=trusting)
    with client.socket:
        assert client.head().startswith("HTTP/1.1 101 ")
        yield client


def str_of_code(value: Any) -> str:
    """Name a case: bytes are masked by chance, and would have another name each time."""
    return str(value) if isinstance(value, int) else "frames"


@pytest.fixture(scope="module")
def served() -> Iterator[Running]:
    with serving(max_message_bytes=300_000) as served:
        yield served


# The handshake


def test_the_handshake_is_proved_and_names_what_the_app_chose(served: Running) -> None:
    with opened(served, "/closes", "Sec-WebSocket-Protocol: a, b") as client:
        assert client.end() == (4000, "enough")
    with Client(served, "/closes").socket as asking:
        head = asking.recv(4096).decode("latin-1").lower()
    proof = base64.b64encode(hashlib.sha1(f"{KEY}258EAFA5-E914-47DA-95CA-C5AB0DC85B11".encode()).digest()).decode()
    assert f"sec-websocket-accept: {proof}".lower() in head
    assert "sec-websocket-protocol: b" in head
    assert "x-own: 1" in head
    assert "sec-websocket-extensions" not in head


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        (["Sec-WebSocket-Version: 8"], 426),
        (["Sec-WebSocket-Version: 13", "Sec-WebSocket-Version: 13"], 426),
        (["Sec-WebSocket-Key: x"], 400),
        (["Sec-WebSocket-Key: " + base64.b64encode(b"short").decode()], 400),
        ([f"Sec-WebSocket-Key: {KEY}", f"Sec-WebSocket-Key: {KEY}"], 400),
    ],
)
def test_what_is_no_handshake_is_refused_in_words(served: Running, headers: list[str], status: int) -> None:
    with Client(served, "/echo", *headers).socket as asking:
        answer = rest_of(asking).decode()
    assert answer.startswith(f"HTTP/1.1 {status} ")
    assert '"code": "malformed_request"' in answer
    assert ("Sec-WebSocket-Version: 13" in answer) == (status == 426)


@pytest.mark.parametrize(("line", "status"), [("POST /one HTTP/1.1", 200), ("GET /echo HTTP/1.0", 426)])
def test_what_cannot_begin_a_websocket_is_answered_in_http(served: Running, line: str, status: int) -> None:
    with socket.create_connection(address(served), timeout=WAIT_S) as asking:
        rest = handshake("/echo", "Connection: Upgrade, close").partition(b"\r\n")[2]
        asking.sendall(f"{line}\r\nContent-Length: 0\r\n".encode() + rest)
        assert asking.recv(12) == f"HTTP/1.1 {status}".encode()


def test_no_websocket_begins_while_another_request_is_answered() -> None:
    with running() as served, Client(served).socket as asking:
        rest_of(asking)
        asking = socket.create_connection(address(served), timeout=WAIT_S)
        asking.sendall(b"GET /held HTTP/1.1\r\nHost: test\r\n\r\n" + handshake("/echo", "Connection: Upgrade, close"))
        served.app.gate.set()
        answers = rest_of(asking)
        asking.close()
    assert answers.count(b"HTTP/1.1 ") == 2
    assert b"0\r\n\r\nHTTP/1.1 404 " in answers


def test_a_path_that_cannot_be_read_is_refused(served: Running) -> None:
    with Client(served, "http://[").socket as asking:
        assert rest_of(asking).startswith(b"HTTP/1.1 400 ")


def test_an_escaped_path_is_led_to_its_route(served: Running) -> None:
    with opened(served, "/%65cho?a=1") as client:
        client.send(CLOSE)
        assert client.end() == (0, "")


def test_the_app_refuses_by_a_response_of_its_own(served: Running) -> None:
    with Client(served, "/refuses").socket as asking:
        head, _, body = rest_of(asking).decode().partition("\r\n\r\n")
    assert (head.partition("\r\n")[0], body) == ("HTTP/1.1 418 I'm a Teapot", '{"no":1}')
    assert "x-own: 1" in head
    until(lambda: "websocket.disconnect" in served.app.ended)


@pytest.mark.parametrize(("path", "status"), [("/closes?first=1", 403), ("/silent", 500)])
def test_an_app_that_does_not_accept_has_refused(served: Running, path: str, status: int) -> None:
    with Client(served, path).socket as asking:
        head, _, body = rest_of(asking).decode().partition("\r\n\r\n")
    assert head.startswith(f"HTTP/1.1 {status} ")
    assert '"error": {"code": ' in body
    assert ("enough" in body) == (status == 403)


def test_what_is_sent_before_the_app_has_accepted_is_not_lost() -> None:
    with serving() as served:
        client = Client(served, "/late", early=sent(TEXT, b"early") + sent(PING, b"p"))
        with client.socket:
            assert is_served(served)
            served.server._runtime.call_on_loop(served.app.may_receive.set)
            assert client.head().startswith("HTTP/1.1 101 ")
            assert [client.read(), client.read()] == [(PONG, b"p"), (TEXT, b"early")]


def test_of_what_comes_before_the_app_has_accepted_little_is_read() -> None:
    with serving() as served:
        client = Client(served, "/late")
        with client.socket:
            until(lambda: bool(protocols(served)))
            client.socket.settimeout(0.5)
            with pytest.raises(TimeoutError):  # the kernel takes some megabytes
                client.socket.sendall(sent(BINARY, b"x" * 15_000_000) * 4)
            (at_once,) = protocols(served)
            assert at_once._incoming.held_bytes <= 2 * 2**20


def protocols(served: Running) -> list[Any]:
    return [c for c in list(served.server.server_state.connections) if isinstance(c, ours.SocketProtocol)]


# Messages


def test_messages_of_any_kind_and_size_pass_both_ways(served: Running) -> None:
    with opened(served) as client:
        for size in (0, 1, 125, 126, 65_535, 65_536, 300_000):
            client.send(TEXT, b"t" * size)
            client.send(BINARY, b"\xff" * size)
            assert [client.read(), client.read()] == [(TEXT, b"t" * size), (BINARY, b"\xff" * size)]


def test_a_text_may_be_cut_within_a_letter(served: Running) -> None:
    with opened(served) as client:
        client.send(TEXT, "grün".encode()[:3], fin=False)
        client.send(PING, b"between")
        client.send(CONT, "grün".encode()[3:])
        assert [client.read(), client.read()] == [(PONG, b"between"), (TEXT, "grün".encode())]


def test_a_stock_client_finds_nothing_to_complain_of(served: Running) -> None:
    url = served.url.replace("http", "ws") + "/echo"
    with websockets.sync.client.connect(url, max_size=None) as client:
        for message in ("", "é" * 1000, b"", os.urandom(300_000), ["frag", "ments"]):
            client.send(message)
            assert client.recv() == ("".join(message) if isinstance(message, list) else message)
        assert client.ping().wait(WAIT_S)
    assert (client.close_code, client.close_reason) == (1000, "")


def test_pings_are_answered_in_order(served: Running) -> None:
    with opened(served) as client:
        client.socket.sendall(b"".join(sent(PING, b"%d" % n) for n in range(10)))
        assert [client.read() for _ in range(10)] == [(PONG, b"%d" % n) for n in range(10)]


def test_pongs_that_nobody_asked_for_are_taken(served: Running) -> None:
    with opened(served) as client:
        client.send(PONG, b"unasked")
        client.send(TEXT, b"on")
        assert client.read() == (TEXT, b"on")


# What the protocol forbids


@pytest.mark.parametrize("cut", [0, 100])
@pytest.mark.parametrize(
    ("frames", "code"),
    [
        (b"\xc1\x80\0\0\0\0", 1002),
        (b"\x83\x80\0\0\0\0", 1002),
        (b"\x8b\x80\0\0\0\0", 1002),
        (b"\x81\x02hi", 1002),
        (b"\x09\x80\0\0\0\0", 1002),
        (b"\x89\xfe\0\x7e\0\0\0\0", 1002),
        (sent(CONT, b"x"), 1002),
        (sent(TEXT, b"a", fin=False) + sent(TEXT, b"b"), 1002),
        (sent(TEXT, b"\xce\xba\xe1\xbd\xb9\xed\xa0\x80"), 1007),
        (sent(TEXT, b"\xce", fin=False) + sent(CONT, b"\xff"), 1007),
        (b"\x82\xff\0\0\0\0\x7f\xff\xff\xff\0\0\0\0", 1009),
        (sent(TEXT, b"x", fin=False) + 3 * sent(CONT, b"x" * 100_000, fin=False), 1009),
        (sent(CLOSE, b"\x03"), 1002),
        (sent(CLOSE, b"\x03\xed"), 1002),
        (sent(CLOSE, b"\x03\xe8\xff"), 1007),
        (sent(CLOSE, b"\x03\xe8" + b"x" * 123) + b"behind", 1000),
        (sent(CLOSE, b"\x0b\xb8") + sent(TEXT, b"behind"), 3000),
        (sent(CLOSE), 0),
    ],
    ids=str_of_code,
)
def test_a_bad_frame_ends_it_with_the_right_code(
    served: Running, caplog: pytest.LogCaptureFixture, frames: bytes, code: int, cut: int
) -> None:
    with opened(served) as client:
        for piece in (*(frames[n : n + 1] for n in range(cut)), frames[cut:]):
            with suppress(OSError):  # it may have ended already
                client.socket.sendall(piece)
        assert client.end()[0] == code
    assert is_served(served)
    until(lambda: protocols(served) == [])
    assert caplog.records == []


def test_the_app_hears_why_it_ended() -> None:
    with serving() as served:
        for frames in (sent(CLOSE, b"\x0f\xa0bye"), b"\xff\xff", sent(TEXT, b"last") + sent(CLOSE)):
            with opened(served) as client:
                client.socket.sendall(frames)
                client.end()
                until(lambda: not protocols(served))
        until(lambda: len(served.app.ended) == 3)
        assert served.app.ended[0] == (4000, "bye")
        assert served.app.ended[1][0] == 1002
        assert served.app.ended[2] == (1005, "")
        assert served.app.heard == ["last"]


def test_a_client_that_leaves_without_a_word_has_left() -> None:
    with serving() as served:
        with opened(served):
            pass
        until(lambda: served.app.ended == [(1006, "")])


@pytest.mark.parametrize("code", [0, 1005, 1006, 1015, 70_000])
def test_a_code_that_may_not_be_sent_is_the_apps_mistake(
    served: Running, caplog: pytest.LogCaptureFixture, code: int
) -> None:
    with opened(served, f"/closes?code={code}") as client:
        assert client.end()[0] == 1011
    assert "Expected a close code" in caplog.text


def test_no_path_begins_a_line_of_the_log(caplog: pytest.LogCaptureFixture) -> None:
    with serving(log_level="debug") as served, caplog.at_level("INFO", "uvicorn.access"):
        client = Client(served, "/x%0aINFO:%20forged%1b%5b0m")
        with client.socket:
            assert client.head().startswith("HTTP/1.1 404 ")
    assert '"WebSocket /x%0AINFO%3A%20forged%1B%5B0m" 404' in caplog.text


def test_an_app_that_returns_has_closed(served: Running) -> None:
    with opened(served, "/returns") as client:
        assert client.end() == (1000, "")


def test_an_app_that_closes_waits_for_the_clients_close_frame(served: Running) -> None:
    with opened(served, "/closes") as client:
        assert client.read() == (CLOSE, b"\x0f\xa0enough")
        client.send(TEXT, b"under way")
        client.send(CLOSE, b"\x0f\xa0")
        assert rest_of(client.socket) == b""


# What a client can make the server hold


def test_of_what_the_app_does_not_take_little_is_read() -> None:
    with serving() as served, opened(served, "/deaf") as client:
        client.socket.settimeout(0.5)
        with pytest.raises(TimeoutError):
            for _ in range(1000):
                client.socket.sendall(sent(TEXT, b"x" * 100) * 1000)
        (protocol,) = protocols(served)
        assert len(protocol._talk._heard) <= 64
        assert protocol._incoming.held_bytes <= 2**20
        let_pass(served, 60)
        assert served.app.ended == []


def test_what_was_held_up_comes_in_order_when_the_app_takes_it() -> None:
    with serving() as served, opened(served, "/deaf") as client:
        client.socket.sendall(b"".join(sent(TEXT, b"%d" % n) for n in range(20_000)) + sent(CLOSE))
        served.server._runtime.call_on_loop(served.app.may_receive.set)
        until(lambda: served.app.ended == [(1005, "")])
        assert served.app.heard == [str(n) for n in range(20_000)]


def test_pings_that_nobody_reads_the_answers_of_take_no_room() -> None:
    with serving() as served, opened(served, "/flood") as client:
        until(lambda: served.app.wire is not None and served.app.wire.is_paused)
        before = served.app.wire.unsent_bytes
        client.socket.sendall(sent(PING, b"x" * 100) * 20_000 + sent(PING, b"last"))
        assert is_served(served)
        until(lambda: protocols(served)[0]._owed_pong == b"last")
        assert served.app.wire.unsent_bytes <= before + 20_000
        while client.read() != (PONG, b"last"):
            pass


def test_many_small_frames_keep_nobody_waiting(served: Running) -> None:
    """Others have their turn between some hundred frames, however many have come at once."""
    with opened(served) as client, opened(served) as other:
        client.socket.settimeout(0.2)
        with suppress(TimeoutError):
            client.socket.sendall(sent(TEXT, b"", fin=False) + sent(CONT, fin=False) * 1_000_000)
        other.send(TEXT, b"on")
        assert other.read() == (TEXT, b"on")


def test_a_message_that_comes_to_a_standstill_ends_it() -> None:
    with serving() as served, opened(served) as client, opened(served) as idle:
        client.send(TEXT, b"begun", fin=False)
        let_pass(served, 19)
        client.send(CONT, b"x" * 2048, fin=False)
        let_pass(served, 20)
        code, reason = client.end()
        idle.send(TEXT, b"still here")
        assert idle.read() == (TEXT, b"still here")
    assert (code, reason) == (1008, "the message came to a standstill; send it faster, or in smaller ones")


def test_a_frame_that_comes_byte_by_byte_has_no_more_time() -> None:
    with serving() as served, opened(served) as client:
        for byte in sent(TEXT, b"x" * 100)[:21]:
            client.socket.sendall(bytes((byte,)))
            let_pass(served, 1)
        assert client.end()[0] == 1008


def test_a_client_that_does_not_close_when_told_to_is_cut() -> None:
    with serving() as served, opened(served, "/closes") as client:
        assert client.read()[0] == CLOSE
        let_pass(served, 4)
        assert len(protocols(served)) == 1
        let_pass(served, 2)
        until(lambda: protocols(served) == [])
        assert rest_of(client.socket) == b""


def test_a_refused_client_that_keeps_sending_is_cut_at_last() -> None:
    with serving() as served, opened(served) as client:
        client.socket.sendall(b"\xff\xff")
        assert client.read()[0] == CLOSE
        let_pass(served, 2)
        until(lambda: served.server.connections._lingering == served.server.connections._leaving == [])


def test_the_bytes_of_messages_count_with_those_of_bodies() -> None:
    with serving(max_input_bytes=200_000) as served:
        budget = served.server._runtime.inputs
        with opened(served, "/deaf") as client, opened(served, "/deaf") as more:
            client.send(BINARY, b"x" * 60_000, fin=False)
            until(lambda: budget.used >= 60_000)
            more.send(BINARY, b"x" * 60_000)
            assert more.end()[0] == 1013
            client.send(CONT, b"x" * 60_000)
            assert client.end()[0] == 1009
            until(lambda: budget.used == 0)


def test_a_message_that_was_taken_counts_no_longer() -> None:
    with serving(max_input_bytes=200_000) as served, opened(served) as client:
        for _ in range(3):
            client.send(BINARY, b"x" * 60_000)
            assert client.read()[0] == BINARY
        until(lambda: served.server._runtime.inputs.used == 0)


def test_websockets_have_places_among_the_connections() -> None:
    with serving(max_connections=2) as served:
        with opened(served) as client, opened(served):
            asking = socket.create_connection(address(served), timeout=WAIT_S)
            with asking:
                assert rest_of(asking).startswith(b"HTTP/1.1 503 ")
            client.send(TEXT, b"not closed in favour of others")
            assert client.read()[0] == TEXT
        until(lambda: served.server.connections._held == 0)
        assert is_served(served)


async def test_an_app_that_only_sends_gives_others_their_turn() -> None:
    """Also on a loop whose transports write at once, so that nothing ever waits here."""

    class Open:
        phase, is_paused, frames = "open", False, 0

        def send_frame(self, frame: bytes) -> None:
            self.frames += 1

    socket: Any = Open()
    talk = ours.Talk(socket)

    async def send_all() -> None:
        while True:
            await talk.send({"type": "websocket.send", "text": "x"})

    sending = asyncio.create_task(send_all())
    for _ in range(3):
        await asyncio.sleep(0)
    sending.cancel()
    assert 0 < socket.frames < 200


def test_websockets_behind_a_proxy_count_by_the_address_that_it_names() -> None:
    with serving(max_connections=4) as served:
        requests = served.server.connections._requests
        with opened(served, "/echo", "X-Forwarded-For: 192.0.2.1"), opened(served, "/echo", "X-Forwarded-For: ::2"):
            assert sum(requests.values()) == 2
            with opened(served, "/echo", "X-Forwarded-For: 192.0.2.1"):
                one_more = Client(served, "/echo", "X-Forwarded-For: 192.0.2.1")
                with one_more.socket:
                    assert one_more.head().startswith("HTTP/1.1 503 ")
        until(lambda: not requests)


def test_nothing_is_left_of_the_request_that_a_websocket_began_as() -> None:
    with serving() as served, opened(served):
        until_wire(served)
        requests = [c for c in gc.get_objects() if type(c) is LendingProtocol]
        assert [c for c in requests if c.transport is protocols(served)[0].transport] == []


# Signs of life: no beat passes by itself, as there are hours between them


def beat(served: Running) -> None:
    """Have the server ask the one client that there is for a sign of life."""
    beaten = threading.Event()

    def ask() -> None:
        for protocol in protocols(served):
            protocol._pulse._beat()
        beaten.set()

    served.server._runtime.call_on_loop(ask)
    assert beaten.wait(WAIT_S)


def until_wire(served: Running) -> Wire:
    until(lambda: served.app.wire is not None)
    wire: Wire = served.app.wire
    return wire


def test_a_client_that_answers_pings_stays() -> None:
    with serving() as served, opened(served) as client:
        wire = until_wire(served)
        for _ in range(3):
            beat(served)
            opcode, content = client.read()
            assert opcode == PING
            client.send(PONG, content)
            client.send(PING, b"heard")
            assert client.read() == (PONG, b"heard")
        assert wire.is_open


@pytest.mark.parametrize("says", [b"", sent(PONG), sent(PONG, b"999"), sent(TEXT, b"hello")], ids=str_of_code)
def test_a_client_that_does_not_answer_a_ping_is_dropped(says: bytes) -> None:
    with serving() as served, opened(served) as client:
        beat(served)
        client.socket.sendall(says)
        assert is_served(served)
        beat(served)
        assert client.end() == (1011, "a ping had no answer for 3600 s")


def test_a_client_that_cannot_answer_for_what_it_sends_is_not_dropped() -> None:
    """Its pong stands behind the frame that it is sending."""
    with serving() as served, opened(served) as client:
        whole = sent(BINARY, b"x" * 1000)
        client.socket.sendall(whole[:500])
        until(lambda: not protocols(served)[0]._incoming.is_between)
        for _ in range(3):
            beat(served)
        client.socket.sendall(whole[500:] + sent(PONG, b"1"))
        assert [client.read()[0], client.read()[0]] == [PING, BINARY]
        beat(served)
        assert client.read() == (PING, b"2")


def test_a_client_that_is_not_read_is_not_dropped_for_want_of_its_pong() -> None:
    with serving() as served, opened(served, "/deaf") as client:
        client.socket.sendall(sent(TEXT, b"x") * 100)
        until(lambda: protocols(served)[0]._is_held)
        for _ in range(3):
            beat(served)
        assert until_wire(served).is_open


def test_time_for_which_the_loop_was_blocked_is_nobodys_fault() -> None:
    with serving() as served, opened(served) as client:
        beat(served)
        protocols(served)[0]._pulse._due = 0
        beat(served)
        assert client.read() == (PING, b"1")
        client.send(PONG, b"1")
        assert is_served(served)
        beat(served)
        assert client.read() == (PING, b"2")


def test_a_client_that_takes_nothing_for_long_is_cut() -> None:
    with serving(send_timeout_s=1e-9) as served, opened(served, "/flood"):
        until(lambda: until_wire(served).is_paused)
        beat(served)
        beat(served)
        until(lambda: served.app.ended == ["flood"])


async def test_a_client_that_takes_some_of_what_it_is_sent_is_not_cut() -> None:
    class Slow:
        unsent_bytes, taken_bytes, is_open, is_cut = 1000, 0, True, False

        def abort(self) -> None:
            self.is_cut = True

    socket: Any = Slow()
    terms = ours.Terms(Budget(2), max_message_bytes=1, heartbeat_s=3600, send_timeout_s=1e-9, is_logged=False)
    pulse = ours.Pulse(socket, terms, asyncio.get_running_loop())
    for taken in (1, 2, 3):
        socket.taken_bytes = taken
        pulse._beat()
    assert not socket.is_cut
    pulse._beat()
    pulse.stop()
    assert socket.is_cut


# What is lent


def test_a_frame_is_written_at_once_and_nothing_behind_a_close_frame(served: Running) -> None:
    with opened(served) as client:
        client.send(TEXT, b"first")
        assert client.read() == (TEXT, b"first")
        wire = until_wire(served)
        assert (wire.is_open, wire.is_paused, wire.unsent_bytes) == (True, False, 0)

        def write() -> None:
            wire.send_frame(text_frame(b"lent"))
            wire.close(4001, "over")
            wire.close(4002, "again")
            wire.send_frame(text_frame(b"behind"))

        served.server._runtime.call_on_loop(write)
        assert [client.read(), client.read()] == [(TEXT, b"lent"), (CLOSE, b"\x0f\xa1over")]
        client.send(CLOSE, b"\x0f\xa1")
        assert rest_of(client.socket) == b""
    until(lambda: (4001, "over") in served.app.ended)
    assert (wire.is_open, wire.unsent_bytes) == (False, 0)


@pytest.mark.parametrize("leaves", [False, True])
def test_who_waits_for_room_is_told_of_it_and_of_the_end(leaves: bool) -> None:
    with serving() as served, opened(served, "/flood") as client:
        wire = until_wire(served)
        told: list[bool] = []
        wire.on_writable = lambda: told.append(wire.is_open)
        until(lambda: wire.is_paused)
        if leaves:
            client.socket.close()
        else:
            client.read()
            client._received = b""
            while not told:
                client.socket.recv(2**20)
        until(lambda: told[:1] == [not leaves])


def test_who_wants_to_know_of_the_end_is_told_once(served: Running) -> None:
    with opened(served) as client:
        client.send(TEXT, b"first")
        client.read()
        told: list[int] = []
        until_wire(served).on_ended = lambda: told.append(1)
        client.send(CLOSE, b"\x0f\xa1bye")
        assert rest_of(client.socket)
    until(lambda: (4001, "bye") in served.app.ended)
    assert told == [1]


def test_an_abort_ends_it_at_once(served: Running) -> None:
    with opened(served) as client:
        client.send(TEXT, b"first")
        client.read()
        served.server._runtime.call_on_loop(until_wire(served).abort)
        assert rest_of(client.socket) == b""


class Watching:
    """Middleware of others, which sees what is sent."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self.app(scope, receive, send)


def test_inside_of_middleware_of_others_nothing_is_lent() -> None:
    lent: list[Wire | None] = []

    def prepare(api: FastAPI) -> None:
        api.add_middleware(Watching)

        @api.websocket("/look")
        async def look(opened: WebSocket) -> None:
            lent.append(wire_of(opened.scope))

    with running(prepare=prepare) as served, Client(served, "/look").socket as asking:
        rest_of(asking)
    assert lent == [None]


# The end of the server


def test_the_servers_end_closes_with_the_code_that_says_to_come_again() -> None:
    with serving() as served, opened(served) as client:
        client.send(TEXT, b"first")
        client.read()
        served.server.should_exit = True
        assert client.read() == (CLOSE, b"\x03\xf4the server is shutting down; connect again")
        client.send(CLOSE, b"\x03\xf4")
        assert served.stop() == 0
        assert served.app.ended == [(1012, "the server is shutting down; connect again")]


@pytest.mark.parametrize("path", ["/echo", "/deaf", "/flood"])
def test_who_does_not_answer_keeps_no_server_from_ending(path: str) -> None:
    with serving() as served, opened(served, path) as client:
        assert served.stop() == 0
        rest_of(client.socket)


def test_a_server_that_is_told_twice_ends_without_a_word() -> None:
    with serving(drain_s=3600) as served, opened(served) as client:
        served.server.force_exit = True
        assert served.stop() == 0
        rest_of(client.socket)


def test_all_of_it_goes_by_tls_too(tls_folder: Path) -> None:
    files = issue(tls_folder, "127.0.0.1")
    trusting = ssl.create_default_context(cafile=str(files.authority))
    with serving(certificate=files.server) as served, ExitStack() as stack:
        told = [stack.enter_context(opened(served, trusting=trusting)) for _ in range(3)]
        for client in told:
            client.send(BINARY, b"x" * 100_000)
            assert client.read() == (BINARY, b"x" * 100_000)
        told[0].socket.sendall(b"\xff\xff")
        assert told[0].end()[0] == 1002
        told[1].send(CLOSE, b"\x03\xe8")
        assert told[1].end() == (1000, "")
        served.server.should_exit = True
        assert told[2].end()[0] == 1012
        assert served.stop() == 0
