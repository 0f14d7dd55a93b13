"""Requests over one WebSocket, in-process; `fal.apps.ws` of the package `fal` has tests in test_fal_client.py."""

import asyncio
import json
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from fastapi import Query
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.testclient import TestClient, WebSocketDenialResponse, WebSocketTestSession
from starlette.websockets import WebSocketDisconnect
from tests.served import drain, runtime_of
from tests.waiting import WAIT_S, until

import streamapp
from streamapp.settings import MIB, Settings

SSE = {"Accept": "text/event-stream"}


class Shop(streamapp.App):
    left, held, goes_on = threading.Event(), threading.Event(), threading.Event()

    @streamapp.endpoint("/")
    def home(self, a: int = 0) -> dict[str, int]:
        return {"twice": 2 * a}

    @streamapp.endpoint("/stream")
    def stream(self, n: int = 2) -> Iterator[dict[str, Any]]:
        for i in range(n):
            yield {"i": i}

    @streamapp.endpoint("/fails")
    def fails(self) -> Iterator[int]:
        yield 1
        raise ValueError("secret")

    @streamapp.endpoint("/bytes")
    def bytes(self) -> Response:
        return Response(b"\xff\x00", 201, media_type="application/octet-stream")

    @streamapp.endpoint("/latin")
    def latin(self) -> Response:
        return PlainTextResponse("é".encode("latin-1"), media_type="text/plain; charset=latin-1")

    @streamapp.endpoint("/broken_text")
    def broken_text(self) -> Response:
        return PlainTextResponse(b"\xff", media_type="text/plain; charset=utf-8")

    @streamapp.endpoint("/ids")
    def ids(self) -> dict[str, str]:
        return {"type": "start", "request_id": "mine"}

    @streamapp.endpoint("/long")
    def long(self, n: int) -> str:
        return "é" * n

    @streamapp.endpoint("/asked")
    def asked(self, request: Request, q: str = Query("none")) -> dict[str, Any]:
        headers = request.headers
        names = ("authorization", "connection", "sec-websocket-key", "idempotency-key", "x-mine", "content-length")
        return {
            "q": q,
            "url": str(request.url),
            "method": request.method,
            **{name: headers.get(name) for name in names},
        }

    @streamapp.endpoint("/held")
    def hold(self) -> bool:
        self.held.set()
        return self.goes_on.wait(WAIT_S)

    @streamapp.endpoint("/waits")
    async def waits(self, stream: streamapp.Stream) -> Iterator[int]:  # type: ignore[misc]
        try:
            yield 1
            await asyncio.Event().wait()
        finally:
            self.left.set()


def serving(**settings: Any) -> TestClient:
    app = streamapp.compile_app(Shop, settings=Settings(**{"drain_s": 0, **settings}))
    return TestClient(app, raise_server_exceptions=False)


def answer(socket: WebSocketTestSession) -> tuple[dict[str, Any], list[str | bytes], dict[str, Any]]:
    """Receive one answer: what is said before its body, the body in pieces, what is said behind it."""
    start = socket.receive_json()
    assert start["type"] == "start"
    pieces: list[str | bytes] = []
    while True:
        message = socket.receive()
        assert message["type"] == "websocket.send", message
        text = message.get("text")
        if text is not None and text.startswith('{"type": "end"'):
            return start, pieces, json.loads(text)
        pieces.append(text if text is not None else message["bytes"])


def asked(path: str, body: Any = None, **headers: str) -> tuple[dict[str, Any], list[str | bytes], dict[str, Any]]:
    with serving() as client, client.websocket_connect(f"/ws/me/shop{path}", headers=headers) as socket:
        socket.send_text(json.dumps(body or {}))
        return answer(socket)


def test_a_request_is_answered_with_a_start_its_body_and_an_end() -> None:
    start, pieces, end = asked("", {"a": 2})
    assert (start["status"], start["headers"]["Content-Type"]) == (200, "application/json")
    assert pieces == ['{"twice":4}']
    assert (end["status"], end["request_id"]) == (200, start["request_id"])
    assert end["time_to_first_byte_seconds"] >= 0
    assert start["headers"]["X-Fal-Request-Id"] == start["request_id"]


def test_requests_are_answered_in_order_though_the_next_ones_come_before() -> None:
    with serving() as client, client.websocket_connect("/ws/me/shop/") as socket:
        for n in range(200):
            socket.send_text(json.dumps({"a": n}))
        answers = [answer(socket) for _ in range(200)]
    assert [pieces for _, pieces, _ in answers] == [[f'{{"twice":{2 * n}}}'] for n in range(200)]
    assert len({start["request_id"] for start, _, _ in answers}) == 200


def test_who_is_far_ahead_is_read_on_when_answers_have_gone_out() -> None:
    with serving() as client, client.websocket_connect("/ws/me/shop/") as socket:
        for n in range(5):
            socket.send_text(json.dumps({"a": n, "more": "x" * 600_000}))
        assert [answer(socket)[1] for _ in range(5)] == [[f'{{"twice":{2 * n}}}'] for n in range(5)]


def test_a_body_in_bytes_is_one_in_text() -> None:
    with serving() as client, client.websocket_connect("/ws/me/shop") as socket:
        socket.send_bytes(b'{"a":1}')
        assert answer(socket)[1] == ['{"twice":2}']


@pytest.mark.parametrize("path", ["/stream", "/stream/"])
def test_a_stream_comes_event_by_event(path: str) -> None:
    start, pieces, _ = asked(path)
    assert start["headers"]["Content-Type"].startswith("text/event-stream")
    assert '{"i":0}' in "".join(map(str, pieces))
    assert str(pieces[-1]).endswith("\n\n")


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [("", "{", 422), ("", "[1", 422), ("", '{"a":"x"}', 422), ("/nothing", "{}", 404), ("/long", "{}", 422)],
)
def test_a_refusal_is_an_answer_and_the_next_request_is_answered(path: str, body: str, status: int) -> None:
    with serving() as client, client.websocket_connect(f"/ws/me/shop{path}") as socket:
        for _ in range(2):
            socket.send_text(body)
            start, pieces, end = answer(socket)
            assert (start["status"], end["status"]) == (status, status)
            assert "error_type" in json.loads("".join(map(str, pieces)))


def test_a_body_over_the_limit_is_refused_as_by_http() -> None:
    with serving(max_body_bytes=1000) as client, client.websocket_connect("/ws/me/shop") as socket:
        socket.send_text(json.dumps({"a": 1, "more": "x" * 1000}))
        assert answer(socket)[0]["status"] == 413


def test_requests_that_wait_count_with_the_inputs_of_all() -> None:
    Shop.goes_on.clear()
    with serving() as client, client.websocket_connect("/ws/me/shop/held") as socket:
        for body in ("{}", "x" * 100_000):
            socket.send_text(body)
        until(lambda: runtime_of(client).inputs.used >= 100_000)
        Shop.goes_on.set()
        assert [answer(socket)[0]["status"] for _ in range(2)] == [200, 422]
        until(lambda: runtime_of(client).inputs.used == 0)


def test_a_request_that_there_is_no_room_for_closes_the_socket_behind_the_answer_under_way() -> None:
    Shop.held.clear()
    Shop.goes_on.clear()
    with serving(max_input_bytes=MIB) as client, client.websocket_connect("/ws/me/shop/held") as socket:
        socket.send_text("{}")
        assert Shop.held.wait(WAIT_S)
        for _ in range(2):
            socket.send_text("x" * 300_000)
        Shop.goes_on.set()
        assert answer(socket)[1] == ["true"]
        assert socket.receive()["code"] == 1013
        until(lambda: runtime_of(client).inputs.used == 0)


@pytest.mark.parametrize(
    ("path", "status", "pieces"),
    [
        ("/bytes", 201, [b"\xff\x00"]),
        ("/latin", 200, ["é".encode("latin-1")]),
        ("/broken_text", 200, [b"\xff"]),
        ("/ids", 200, [b'{"type":"start","request_id":"mine"}']),
    ],
)
def test_what_is_no_text_or_could_be_taken_for_a_start_is_sent_as_bytes(path: str, status: int, pieces: Any) -> None:
    start, told, _ = asked(path)
    assert (start["status"], told) == (status, pieces)


def test_a_large_text_comes_in_pieces_that_are_whole_characters() -> None:
    _, pieces, _ = asked("/long", {"n": 300_000})
    assert "".join(map(str, pieces)) == '"' + "é" * 300_000 + '"'
    assert len(pieces) == 3


def test_a_request_has_the_handshakes_headers_and_query_but_not_what_is_the_sockets() -> None:
    headers = {"Authorization": "Key any", "X-Mine": "1", "Idempotency-Key": "k"}
    _, (told, *_), _ = asked("/asked?q=2", {}, **headers)
    said = json.loads(told)
    assert said["url"] == "http://testserver/shop/asked?q=2"
    assert (said["q"], said["method"], said["authorization"], said["x-mine"]) == ("2", "POST", "Key any", "1")
    assert (said["connection"], said["sec-websocket-key"], said["idempotency-key"]) == (None, None, None)
    assert said["content-length"] == "2"


def test_a_stream_that_fails_does_not_seem_to_end_well() -> None:
    with serving() as client, client.websocket_connect("/ws/me/shop/fails", headers=SSE) as socket:
        socket.send_text("{}")
        assert socket.receive_json()["status"] == 200
        pieces = []
        while (message := socket.receive())["type"] == "websocket.send":
            pieces.append(message["text"])
    assert "event: error" in pieces[-1]
    assert (message["code"], message["reason"]) == (1011, "the answer broke off")


def test_a_client_that_leaves_cancels_its_request() -> None:
    Shop.left.clear()
    with serving() as client:
        with client.websocket_connect("/ws/me/shop/waits", headers=SSE) as socket:
            socket.send_text("{}")
            socket.receive_json()
            socket.receive()
        assert Shop.left.wait(WAIT_S)


@pytest.mark.parametrize("path", ["/ws/me/other", "/ws/me", "/ws/shop", "/v2/ws/me/shop"])
def test_what_is_at_another_path_is_left_to_the_apps(path: str) -> None:
    with serving() as client, pytest.raises(WebSocketDisconnect), client.websocket_connect(path):
        pass


def test_a_key_guards_the_socket() -> None:
    with serving(api_key="k") as client:
        with pytest.raises(WebSocketDenialResponse), client.websocket_connect("/ws/me/shop"):
            pass
        with client.websocket_connect("/ws/me/shop", headers={"Authorization": "Key k"}) as socket:
            socket.send_text('{"a":1}')
            assert answer(socket)[1] == ['{"twice":2}']


def test_a_draining_server_takes_no_socket() -> None:
    with serving() as client:
        drain(client)
        with pytest.raises(WebSocketDenialResponse) as caught, client.websocket_connect("/ws/me/shop"):
            pass
    assert caught.value.status_code == 503


def test_a_drain_ends_a_socket_after_the_answer_under_way() -> None:
    Shop.held.clear()
    Shop.goes_on.clear()
    with serving(drain_s=WAIT_S) as client:
        with client.websocket_connect("/ws/me/shop") as idle, client.websocket_connect("/ws/me/shop/held") as busy:
            busy.send_text("{}")
            busy.send_text("{}")
            assert Shop.held.wait(WAIT_S)
            drain(client)
            assert idle.receive()["code"] == 1012
            Shop.goes_on.set()
            assert answer(busy)[1] == ["true"]
            assert busy.receive() == {
                "type": "websocket.close",
                "code": 1012,
                "reason": "the server is shutting down; connect again",
            }


def test_sockets_are_counted_and_given_back() -> None:
    with serving(max_sessions=1) as client:
        with client.websocket_connect("/ws/me/shop"):
            with pytest.raises(WebSocketDenialResponse) as caught, client.websocket_connect("/ws/me/shop"):
                pass
            assert caught.value.status_code == 503
            taken = runtime_of(client).places.statistics().taken
            assert taken == {("shop", "websocket"): 1}
        while len(runtime_of(client).places):
            client.get("/health")
        with client.websocket_connect("/ws/me/shop"):
            pass
