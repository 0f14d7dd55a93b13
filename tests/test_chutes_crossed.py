"""What a socket or a request is to code on a chute's own loop: nothing of it is lost, and it ends as others do."""

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest
from fastapi import Request, WebSocket
from starlette.testclient import TestClient
from starlette.websockets import WebSocketDisconnect
from tests.served import drain, serving
from tests.waiting import WAIT_S, until

import streamapp
from streamapp.chutes import Chute
from streamapp.chutes.crossed import crossed
from streamapp.chutes.home import Home

chute = Chute(name="talks")
heard: list[Any] = []


@chute.websocket("/echo")
async def echo(self: Any, websocket: WebSocket) -> None:
    """As the guide has it: every error is caught, and the socket closed in any case."""
    await websocket.accept()
    try:
        while True:
            await websocket.send_text(f"Echo: {await websocket.receive_text()}")
    except Exception as error:
        heard.append(error)
    finally:
        await websocket.close()


@chute.websocket("/patient")
async def patient(self: Any, websocket: WebSocket) -> None:
    """Stop waiting for a message, and wait for it once more."""
    await websocket.accept()
    waiting = asyncio.ensure_future(websocket.receive_text())
    await asyncio.sleep(0)
    waiting.cancel()
    await websocket.send_text("waits")
    await websocket.send_text(await websocket.receive_text())


@chute.websocket("/shared")
async def shared(self: Any, websocket: WebSocket) -> None:
    """Have two tasks read one socket."""
    await websocket.accept()

    async def reads() -> None:
        while True:
            heard.append(await websocket.receive_text())

    await asyncio.gather(reads(), reads())


@chute.websocket("/failing")
async def failing(self: Any, websocket: WebSocket) -> None:
    await websocket.accept()
    raise ValueError("in the session")


@chute.websocket("/room")
async def room(self: Any, websocket: WebSocket) -> None:
    async with streamapp.Room().join(websocket):
        pass


@chute.cord(public_api_path="/asks")
async def asks(self: Any, request: Request) -> Any:
    return [await request.json(), await request.is_disconnected(), request.headers["x-own"]]


@chute.cord(public_api_path="/fields")
async def fields(self: Any, request: Request, name: str) -> Any:
    return (await request.form())["name"]


@pytest.fixture(scope="module")
def client() -> Iterator[TestClient]:
    with serving(chute) as client:
        yield client


def test_messages_cross_and_a_leaving_client_is_no_error(client: TestClient) -> None:
    heard.clear()
    with client.websocket_connect("/echo") as socket:
        socket.send_text("a")
        socket.send_text("b")
        assert [socket.receive_text(), socket.receive_text()] == ["Echo: a", "Echo: b"]
        socket.close()
        until(lambda: heard != [])  # the test client cancels what it leaves
    assert isinstance(heard[0], WebSocketDisconnect)


def test_a_message_that_nobody_waited_for_any_more_comes_next(client: TestClient) -> None:
    with client.websocket_connect("/patient") as socket:
        assert socket.receive_text() == "waits"
        socket.send_text("kept")
        assert socket.receive_text() == "kept"


def test_of_two_who_read_each_gets_messages_of_its_own(client: TestClient) -> None:
    heard.clear()
    with client.websocket_connect("/shared") as socket:
        for n in range(20):
            socket.send_text(str(n))
        until(lambda: len(heard) >= 20)
    assert sorted(heard) == sorted(map(str, range(20)))


def test_code_that_fails_closes_the_socket(client: TestClient) -> None:
    with client.websocket_connect("/failing") as socket, pytest.raises(WebSocketDisconnect) as closed:
        socket.receive_text()
    assert closed.value.code == 1011


def test_a_room_is_refused_in_words(client: TestClient, caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(Exception), client.websocket_connect("/room"):  # noqa: B017 - the handshake is refused
        pass
    assert "only a socket of @streamapp.websocket" in caplog.text


def test_a_drain_closes_it() -> None:
    with serving(chute) as client, client.websocket_connect("/echo") as socket:
        socket.send_text("a")
        socket.receive_text()
        drain(client)
        with pytest.raises(WebSocketDisconnect) as closed:
            socket.receive_text()
    assert closed.value.code == 1012


def test_a_request_that_was_read_is_read_again(client: TestClient) -> None:
    assert client.post("/asks", json={"a": 1}, headers={"X-Own": "1"}).json() == [{"a": 1}, False, "1"]
    assert client.post("/fields", data={"name": "ann"}).json() == "ann"


async def test_one_that_was_not_is_read_where_it_came() -> None:
    here, received = asyncio.get_running_loop(), []

    async def receive() -> Any:
        received.append(asyncio.get_running_loop())
        return {"type": "http.request", "body": b"all", "more_body": False}

    home = Home("own")
    home.start()
    request = crossed(Request({"type": "http", "method": "POST", "headers": []}, receive))
    assert await home.run(request.body()) == b"all"
    assert received == [here]
    await asyncio.to_thread(home.end, WAIT_S)


async def test_what_receiving_raises_is_raised_there() -> None:
    async def broken() -> Any:
        raise OSError("the client has gone")

    async def sent(message: Any) -> None: ...

    socket = crossed(WebSocket({"type": "websocket"}, broken, sent))
    with pytest.raises(OSError, match="has gone"):
        await socket.receive()


def test_anything_else_is_itself() -> None:
    assert crossed(1) == 1
