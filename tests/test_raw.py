"""What stands around a socket that a method of the app has: how it is filled, how it ends, and who may end it."""

import asyncio
import logging
import threading
from collections.abc import Awaitable, Callable
from typing import Annotated, Any

import pytest
from fastapi import Depends, Header, HTTPException, WebSocket, WebSocketException
from starlette.testclient import TestClient, WebSocketDenialResponse
from starlette.types import Message
from starlette.websockets import WebSocketDisconnect
from tests.lent_wire import FakeWire
from tests.served import drain, runtime_of, serving, shape
from tests.waiting import WAIT_S, until

import streamapp
from streamapp.app import get_current_app
from streamapp.errors import DefinitionError, InvalidInput, NotEncodable
from streamapp.settings import Settings
from streamapp.sockets.raw import RawSession
from streamapp.sockets.wire import WIRE_EXTENSION


def doubled(number: int = 1) -> int:
    return 2 * number


class Elsewhere(Exception):
    """As HTTP clients raise it, of what another server has answered."""

    status_code = 404


class Talks(streamapp.App):
    """Sessions that do what clients and drains meet."""

    def setup(self) -> None:
        self.heard: list[Any] = []

    @streamapp.websocket("/echo")
    async def echo(self, socket: WebSocket) -> None:
        """As Chutes' guide has it: every error is caught, and the socket closed in any case."""
        await socket.accept()
        try:
            while True:
                await socket.send_text(self.answer(await socket.receive_text()))
        except Exception as error:
            self.heard.append(error)
        finally:
            await socket.close()

    def answer(self, text: str) -> str:
        return f"Echo: {text}"

    @streamapp.websocket("/filled/{room}")
    async def filled(
        self,
        socket: WebSocket,
        room: int,
        name: str = "somebody",
        agent: Annotated[str, Header(alias="x-agent")] = "",
        twice: int = Depends(doubled),
    ) -> None:
        await socket.accept()
        await socket.send_json([room, name, agent, twice, get_current_app() is self])

    @streamapp.endpoint("/fal", is_websocket=True)
    async def of_fal(self, websocket: WebSocket) -> None:
        await websocket.accept()

    @streamapp.websocket("/unanswered")
    async def unanswered(self, socket: WebSocket) -> None:
        pass

    @streamapp.websocket("/raises/{what}")
    async def raises(self, socket: WebSocket, what: str, early: bool = False) -> None:
        errors: dict[str, BaseException] = {
            "bug": RuntimeError("secret"),
            "exit": SystemExit(3),
            "http": HTTPException(403, "not for you"),
            "unavailable": HTTPException(503, "later"),
            "input": InvalidInput("no such room"),
            "unencodable": NotEncodable("no JSON form"),
            "others": Elsewhere("not found"),
            "websocket": WebSocketException(1003, "binary only"),
            "leaving": WebSocketDisconnect(1001),
            "cancelled": asyncio.CancelledError(),
            "all leaving": ExceptionGroup("tasks", [WebSocketDisconnect(1001)]),
        }
        if not early:
            await socket.accept()
        raise errors[what]

    @streamapp.websocket("/closes")
    async def closes(self, socket: WebSocket) -> None:
        await socket.accept()
        await socket.close(4001, "é" * 100)

    @streamapp.websocket("/hangs")
    async def hangs(self, socket: WebSocket) -> None:
        await socket.accept()
        try:
            await asyncio.Event().wait()
        finally:
            self.heard.append("cut")

    @streamapp.websocket("/tells")
    async def tells(self, socket: WebSocket) -> None:
        await socket.accept()
        self.heard.append(await socket.receive())
        try:
            await socket.send_text("too late")
        except WebSocketDisconnect as left:
            self.heard.append((left.code, left.reason))
            raise


@pytest.fixture
def talks() -> Any:
    app = Talks()
    with serving(app) as client:
        yield app, client


def ending(client: TestClient, path: str) -> tuple[int, str]:
    """Return the code and the reason with which the server closes a socket that is only opened."""
    with client.websocket_connect(path) as socket, pytest.raises(WebSocketDisconnect) as closed:
        socket.receive_text()
    return closed.value.code, closed.value.reason


def refused(client: TestClient, path: str) -> None:
    with pytest.raises(WebSocketDisconnect), client.websocket_connect(path):
        pass


@pytest.mark.parametrize("path", ["/echo", "/echo/", "/talks/echo", "/talks/echo/"])
def test_a_method_gets_its_app_and_the_socket_at_all_paths_of_an_endpoint(talks: Any, path: str) -> None:
    _, client = talks
    with client.websocket_connect(path) as socket:
        socket.send_text("one")
        assert socket.receive_text() == "Echo: one"


def test_fastapi_fills_the_path_the_query_headers_and_dependencies(talks: Any) -> None:
    _, client = talks
    with client.websocket_connect("/filled/7?name=ann&number=4", headers={"x-agent": "test"}) as socket:
        assert socket.receive_json() == [7, "ann", "test", 8, True]


def test_a_path_parameter_hides_no_other_session() -> None:
    class Rooms(streamapp.App):
        @streamapp.websocket("/{name}/{place}")
        async def room(self, socket: WebSocket, name: str, place: str) -> None:
            await socket.accept()

        @streamapp.websocket("/lobby/door")
        async def door(self, socket: WebSocket) -> None:
            await socket.close(4000, "the door")

    class Other(streamapp.App):
        @streamapp.websocket("/ws")
        async def other(self, socket: WebSocket) -> None:
            await socket.accept()
            await socket.send_text("other")

    with serving(Rooms, Other) as client, client.websocket_connect("/other/ws") as socket:
        assert socket.receive_text() == "other"
        refused(client, "/lobby/door")
        assert ending(client, "/lobby/window") == (1000, "")


def test_what_fal_calls_a_websocket_endpoint_is_the_same(talks: Any) -> None:
    assert ending(talks[1], "/fal") == (1000, "")


def test_a_session_is_not_where_the_server_has_its_own_paths() -> None:
    class Taken(streamapp.App):
        @streamapp.websocket("/jobs/{name}")
        async def watch(self, socket: WebSocket, name: str) -> None: ...

    with pytest.raises(DefinitionError, match="/jobs/{name} is under the server's own path /jobs"):
        streamapp.compile_app(Taken)


@pytest.mark.parametrize("path", ["/unanswered", "/filled/seven", "/raises/http?early=1", "/raises/websocket?early=1"])
def test_what_is_not_accepted_is_refused_and_the_next_one_served(talks: Any, path: str) -> None:
    _, client = talks
    refused(client, path)
    assert ending(client, "/fal") == (1000, "")


@pytest.mark.parametrize(
    ("what", "told"),
    [
        (
            "bug",
            (1011, "the session /raises/{what} (Talks.raises) failed with RuntimeError; the server's log says why"),
        ),
        ("exit", (1011, "the session /raises/{what} (Talks.raises) failed with SystemExit; the server's log says why")),
        (
            "cancelled",
            (1011, "the session /raises/{what} (Talks.raises) failed with CancelledError; the server's log says why"),
        ),
        ("http", (4403, "not for you")),
        ("unavailable", (1011, "later")),
        ("input", (4422, "no such room")),
        ("unencodable", (1011, "no JSON form")),
        (
            "others",
            (1011, "the session /raises/{what} (Talks.raises) failed with Elsewhere; the server's log says why"),
        ),
        ("websocket", (1003, "binary only")),
        ("leaving", (1000, "")),
        ("all leaving", (1000, "")),
    ],
)
def test_the_close_says_what_the_code_has_raised(talks: Any, what: str, told: tuple[int, str]) -> None:
    assert ending(talks[1], f"/raises/{what}") == told


def test_what_the_app_does_wrong_is_a_line_of_the_log(talks: Any, caplog: pytest.LogCaptureFixture) -> None:
    for what in ("leaving", "http", "unavailable", "input", "bug", "unencodable", "others"):
        ending(talks[1], f"/raises/{what}")
    assert [record.getMessage() for record in caplog.records if record.levelno >= logging.ERROR] == [
        "the session /raises/{what} (Talks.raises) failed"
    ] * 3


def test_a_client_that_leaves_is_no_error_nor_is_a_close_behind_it(
    talks: Any, caplog: pytest.LogCaptureFixture
) -> None:
    app, client = talks
    with client.websocket_connect("/echo") as socket:
        socket.close(3000)
    until(lambda: not runtime_of(client).places)
    assert [(type(error), error.code) for error in app.heard] == [(WebSocketDisconnect, 3000)]
    assert [record for record in caplog.records if record.levelno >= logging.ERROR] == []


def test_a_reason_is_cut_to_what_a_close_holds(talks: Any) -> None:
    assert ending(talks[1], "/closes") == (4001, "é" * 61)


def test_a_message_that_is_too_large_ends_its_session() -> None:
    app = Talks()
    with serving(app, max_message_bytes=4) as client, client.websocket_connect("/tells") as socket:
        socket.send_text("ééé")
        with pytest.raises(WebSocketDisconnect) as closed:
            socket.receive_text()
        assert (closed.value.code, closed.value.reason) == (1009, "a message is larger than 4 bytes")
        until(lambda: not runtime_of(client).places)
    assert app.heard[0]["type"] == "websocket.disconnect"
    assert app.heard[1] == (1009, "a message is larger than 4 bytes")


def test_a_message_of_the_largest_size_is_heard() -> None:
    app = Talks()
    with serving(app, max_message_bytes=6) as client, client.websocket_connect("/tells") as socket:
        socket.send_bytes(b"123456")
        assert socket.receive_text() == "too late"
    assert app.heard[0]["bytes"] == b"123456"


def test_only_so_many_sessions_are_open_at_a_time() -> None:
    with serving(Talks, max_sessions=1) as client:
        with client.websocket_connect("/echo"):
            refused(client, "/echo")
        until(lambda: not runtime_of(client).places)
        assert ending(client, "/fal") == (1000, "")


def test_a_drain_ends_sessions_at_its_beginning_and_takes_no_more(talks: Any) -> None:
    app, client = talks
    with client.websocket_connect("/tells") as socket:
        drain(client)
        with pytest.raises(WebSocketDisconnect) as closed:
            socket.receive_text()
        assert (closed.value.code, closed.value.reason) == (1012, "the server is shutting down; connect again")
        refused(client, "/fal")
        until(lambda: not runtime_of(client).places)
    assert app.heard[1] == (1012, "the server is shutting down; connect again")


def test_code_that_does_not_hear_of_the_drain_is_cut_at_its_end(talks: Any) -> None:
    app, client = talks
    with client.websocket_connect("/hangs") as socket:
        client.portal.call(runtime_of(client).drain)
        assert app.heard == ["cut"]
        with pytest.raises(WebSocketDisconnect, check=lambda closed: closed.code == 1012):
            socket.receive_text()


def test_a_session_waits_for_setup_and_is_refused_where_it_fails() -> None:
    gate = threading.Event()

    class Slow(streamapp.App):
        def setup(self) -> None:
            assert gate.wait(WAIT_S)
            self.model = "loaded"

        @streamapp.websocket("/ws")
        async def ask(self, socket: WebSocket) -> None:
            await socket.accept()
            await socket.send_text(self.model)

    class Broken(streamapp.App):
        def setup(self) -> None:
            raise RuntimeError("no model")

        @streamapp.websocket("/ws")
        async def ask(self, socket: WebSocket) -> None: ...

    with serving(Slow, Broken) as client:
        threading.Timer(0, gate.set).start()
        with client.websocket_connect("/ws") as socket:
            assert socket.receive_text() == "loaded"
        refused(client, "/broken/ws")


def test_a_session_that_still_waits_for_setup_is_seen_off() -> None:
    gate = threading.Event()

    class Slow(streamapp.App):
        def setup(self) -> None:
            gate.wait(WAIT_S)

        @streamapp.websocket("/ws")
        async def ask(self, socket: WebSocket) -> None: ...

    with serving(Slow) as client:
        runtime = runtime_of(client)
        asking = threading.Thread(target=refused, args=(client, "/ws"))
        asking.start()
        until(lambda: len(runtime.places) == 1)
        drain(client)
        asking.join(WAIT_S)
        gate.set()
    assert not runtime.places


# What servers raise where the client has left, or they have closed for a bad frame: by the text that is sent.
GONE: dict[str, Exception] = {"gone": OSError(), "closed": RuntimeError("Unexpected ASGI message")}


async def alone(*messages: Message, **settings: Any) -> tuple[RawSession, list[Message]]:
    """Return a session whose client sends some messages and then keeps silent, and what it is sent."""
    coming = list(messages)
    sent: list[Message] = []

    async def receive() -> Message:
        if not coming:
            await asyncio.Event().wait()
        return coming.pop(0)

    async def send(message: Message) -> None:
        if message["type"] == "websocket.send" and message.get("text") in GONE:
            raise GONE[message["text"]]
        if message.get("code") == 1005:
            raise ValueError("no code")
        sent.append(message)

    session = RawSession({"type": "websocket"}, receive, send, Settings(**settings).max_message_bytes)
    await session.send({"type": "websocket.accept"})
    assert (await session.receive())["type"] == "websocket.connect"
    return session, sent


async def test_who_waits_for_a_message_hears_at_once_that_the_session_was_ended() -> None:
    session, sent = await alone()
    waiting = asyncio.create_task(session.receive())
    await asyncio.sleep(0)
    session.end(4000, "enough")
    session.end(1000, "again")
    assert await waiting == {"type": "websocket.disconnect", "code": 4000, "reason": "enough"}
    assert await session.receive() == await waiting
    await session.finish()
    assert sent[1:] == [{"type": "websocket.close", "code": 4000, "reason": "enough"}]


async def hearing(code: Callable[[RawSession], Awaitable[Any]], advance: Callable[[float], None]) -> asyncio.Task[Any]:
    """Return code that has a session by a wire, a minute after the client has left it."""
    wire = FakeWire()

    async def receive() -> Message:
        return {"type": "websocket.receive", "text": "late"}

    async def send(message: Message) -> None: ...

    async def have_session() -> None:
        session = RawSession({"type": "websocket", "extensions": {WIRE_EXTENSION: wire}}, receive, send, 100)
        await session.receive()
        await session.send({"type": "websocket.accept"})
        await code(session)

    having = asyncio.create_task(have_session())
    await asyncio.sleep(0)
    wire.on_ended()
    advance(60)
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    return having


async def test_code_that_never_hears_of_its_clients_leaving_is_cut(advance: Callable[[float], None]) -> None:
    having = await hearing(lambda session: asyncio.Event().wait(), advance)
    await asyncio.wait({having})
    assert having.cancelled()


async def test_code_that_still_reads_what_came_before_is_not_cut_until_it_stops(
    advance: Callable[[float], None],
) -> None:
    going_on = asyncio.Event()

    async def read(session: RawSession) -> None:
        await asyncio.sleep(0)
        await session.receive()
        await going_on.wait()

    having = await hearing(read, advance)
    await asyncio.sleep(0)
    assert not having.done() and not having.cancelling()
    advance(60)
    await asyncio.wait({having})
    assert having.cancelled()


async def test_code_that_has_closed_may_go_on(advance: Callable[[float], None]) -> None:
    going_on = asyncio.Event()

    async def close(session: RawSession) -> None:
        await session.send({"type": "websocket.close"})
        await going_on.wait()

    having = await hearing(close, advance)
    assert not having.cancelling()
    going_on.set()
    await having


async def test_to_cancel_who_waits_is_still_to_cancel_it() -> None:
    session, _ = await alone()
    waiting = asyncio.create_task(session.receive())
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert not session.is_over


@pytest.mark.parametrize("text", GONE)
async def test_a_client_that_cannot_be_sent_to_has_left(text: str) -> None:
    session, sent = await alone()
    with pytest.raises(WebSocketDisconnect):
        await session.send({"type": "websocket.send", "text": text})
    await session.send({"type": "websocket.close", "code": 1000})
    await session.finish()
    assert len(sent) == 1


async def test_what_a_server_says_of_a_handshake_is_the_codes() -> None:
    async def send(message: Message) -> None:
        raise RuntimeError("Invalid HTTP status code")

    session = RawSession({"type": "websocket"}, send, send, 1)  # type: ignore[arg-type]
    with pytest.raises(RuntimeError, match="Invalid HTTP status"):
        await session.send({"type": "websocket.http.response.start", "status": 1})


def test_a_socket_that_nobody_serves_is_told_so(talks: Any) -> None:
    with pytest.raises(WebSocketDenialResponse) as denied, talks[1].websocket_connect("/nowhere"):
        pass
    assert shape(denied.value) == (404, "not_found")


@pytest.mark.parametrize(
    ("path", "told"),
    [
        ("/filled/seven", (422, "invalid_input")),
        ("/raises/http?early=1", (403, "refused")),
        ("/raises/bug?early=1", (500, "endpoint_failed")),
        ("/raises/websocket?early=1", (403, "refused")),
    ],
)
def test_a_refusal_is_an_answer_in_the_one_error_shape(talks: Any, path: str, told: tuple[int, str]) -> None:
    with pytest.raises(WebSocketDenialResponse) as denied, talks[1].websocket_connect(path):
        pass
    assert shape(denied.value) == told


async def test_a_close_that_cannot_be_sent_leaves_the_session_to_be_closed() -> None:
    session, sent = await alone()
    with pytest.raises(ValueError, match="no code"):
        await session.send({"type": "websocket.close", "code": 1005})
    assert not session.is_over
    session.end(1011, "failed")
    await session.finish()
    assert sent[1:] == [{"type": "websocket.close", "code": 1011, "reason": "failed"}]


async def test_who_sends_without_end_leaves_others_their_turns(advance: Callable[[float], None]) -> None:
    session, _ = await alone()
    turns: list[int] = []
    asyncio.get_running_loop().call_soon(turns.append, 1)
    await session.send({"type": "websocket.send", "text": "1"})
    assert turns == []
    advance(0.01)
    await session.send({"type": "websocket.send", "text": "2"})
    assert turns == [1]


@pytest.mark.parametrize(
    ("asked", "path"),
    [("/echo", "/echo"), ("/talks/filled/7/", "/talks/filled/7/"), ("/queue/me/talks/echo", "/talks/echo")],
)
def test_who_asks_without_a_websocket_is_told_to_open_one(talks: Any, asked: str, path: str) -> None:
    answer = talks[1].get(asked)
    assert shape(answer) == (426, "upgrade_required")
    assert answer.headers["upgrade"] == "websocket"
    assert answer.json()["detail"] == f"{path} is opened by a WebSocket, not by GET; connect to it by ws:// or wss://"
