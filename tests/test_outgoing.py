"""What is sent to one client: at once by the server's `Wire`, else by ASGI; in time."""

import asyncio

import pytest
from starlette.types import Message as Sent
from tests.lent_wire import FakeWire

from streamapp.sockets.outgoing import Outgoing
from streamapp.sockets.wire import WIRE_EXTENSION, Message, binary_frame, text_frame


class Asgi:
    """Be a server without a `Wire`."""

    def __init__(self, error: BaseException | None = None, *, hangs: bool = False) -> None:
        self.sent: list[Sent] = []
        self._error = error
        self._hangs = hangs

    async def __call__(self, message: Sent) -> None:
        if self._hangs:
            await asyncio.Event().wait()
        if self._error is not None:
            raise self._error
        self.sent.append(message)


def by_wire(wire: FakeWire, send_timeout_s: float = 60) -> Outgoing:
    return Outgoing({"type": "websocket", "extensions": {WIRE_EXTENSION: wire}}, Asgi(), send_timeout_s=send_timeout_s)


def by_asgi(send: Asgi, send_timeout_s: float = 60) -> Outgoing:
    return Outgoing({"type": "websocket"}, send, send_timeout_s=send_timeout_s)


async def test_by_the_wire_a_message_is_sent_at_once() -> None:
    out = by_wire(wire := FakeWire())
    assert out.is_ready
    assert out.send_at_once(Message(b"a"))
    assert out.send_at_once(Message(b"b", is_text=False))
    await out.send(Message(b"c"))
    assert wire.sent == [text_frame(b"a"), binary_frame(b"b"), text_frame(b"c")]


async def test_what_a_client_does_not_take_is_not_sent_at_once() -> None:
    out = by_wire(wire := FakeWire())
    wire.unsent_bytes = 1
    assert not out.is_ready
    assert not out.send_at_once(Message(b"a"))
    assert wire.sent == []


async def test_several_messages_are_written_in_one_piece() -> None:
    out = by_wire(wire := FakeWire())
    assert out.send_at_once(Message(b"a"), Message(b"b"))
    await out.send(Message(b"c"), Message(b"d", is_text=False))
    await out.send()
    assert wire.sent == [text_frame(b"a") + text_frame(b"b"), text_frame(b"c") + binary_frame(b"d")]


async def test_what_is_too_much_for_one_piece_waits_for_the_client_between_two() -> None:
    out, large = by_wire(wire := FakeWire()), Message(b"a" * 70_000)
    assert not out.send_at_once(large)
    wire.fills = True
    sending = asyncio.create_task(out.send(large, large, Message(b"b")))
    for pieces in (1, 2, 3):
        await asyncio.sleep(0)
        assert len(wire.sent) == pieces
        wire.unsent_bytes = 0
        wire.on_writable()
        await asyncio.sleep(0)
    await sending
    assert wire.sent == [text_frame(large.content), text_frame(large.content), text_frame(b"b")]


async def test_a_message_waits_until_the_client_has_taken_enough() -> None:
    out = by_wire(wire := FakeWire())
    wire.unsent_bytes = 1
    sending = [asyncio.create_task(out.send(Message(b"a"))), asyncio.create_task(out.room())]
    await asyncio.sleep(0)
    wire.on_writable()  # which is no room yet
    await asyncio.sleep(0)
    assert wire.sent == []
    wire.unsent_bytes = 0
    wire.on_writable()
    await asyncio.gather(*sending)
    assert wire.sent == [text_frame(b"a")]


async def test_a_client_that_reads_nothing_is_not_waited_for() -> None:
    out = by_wire(wire := FakeWire(), send_timeout_s=0)
    wire.unsent_bytes = 1
    with pytest.raises(TimeoutError):
        await out.send(Message(b"a"))


async def test_a_slow_client_is_waited_for_as_long_as_it_reads() -> None:
    left = [300_000, 200_000, 100_000, 99_000]

    class Slow(FakeWire):
        is_paused = True
        unsent_bytes = property(lambda self: left.pop(0), lambda self, value: None)

    with pytest.raises(TimeoutError):
        await by_wire(Slow(), send_timeout_s=0).room()
    assert left == []


async def test_by_asgi_a_large_message_has_its_time_for_each_piece(monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[float] = []

    def timeout(seconds: float) -> asyncio.Timeout:
        given.append(seconds)
        return asyncio.timeouts.timeout(None)

    monkeypatch.setattr(asyncio, "timeout", timeout)
    await by_asgi(Asgi(), send_timeout_s=30).send(Message(b"a"), Message(b"a" * 200_000))
    assert given == [30, 120]


async def test_by_asgi_nothing_is_sent_at_once() -> None:
    out = by_asgi(send := Asgi())
    assert not out.is_ready
    assert not out.send_at_once(Message(b"a"))
    await out.room()
    await out.accept("own")
    await out.send(Message(b"a"))
    await out.send(Message(b"b", is_text=False))
    await out.close(1000, "well")
    assert send.sent == [
        {"type": "websocket.accept", "subprotocol": "own", "headers": []},
        {"type": "websocket.send", "text": "a"},
        {"type": "websocket.send", "bytes": b"b"},
        {"type": "websocket.close", "code": 1000, "reason": "well"},
    ]


async def test_by_asgi_others_have_their_turn_though_the_server_never_waits() -> None:
    out, turns = by_asgi(Asgi()), list[int]()
    asyncio.get_running_loop().call_soon(turns.append, 1)
    await out.send(*[Message(b"a" * 1000)] * 60)
    assert turns == []
    await out.send(*[Message(b"a" * 1000)] * 6)
    assert turns == [1]


async def test_by_asgi_a_client_has_as_long() -> None:
    with pytest.raises(TimeoutError):
        await by_asgi(Asgi(hangs=True), send_timeout_s=0).send(Message(b"a"))


async def test_what_is_sent_to_a_client_that_has_left_says_so() -> None:
    out = by_wire(wire := FakeWire())
    wire.is_open = False
    assert not out.send_at_once(Message(b"a"))
    with pytest.raises(ConnectionError):
        await out.send(Message(b"a"))
    with pytest.raises(ConnectionError):
        await by_asgi(Asgi(RuntimeError("after sending 'websocket.close'"))).send(Message(b"a"))


@pytest.mark.parametrize("error", [OSError(), RuntimeError("after sending 'websocket.close'")])
async def test_to_close_once_more_is_no_error(error: Exception) -> None:
    await by_asgi(Asgi(error)).close(1000)
    await by_asgi(Asgi(hangs=True), send_timeout_s=0).close(1000)


async def test_a_reason_is_cut_to_what_a_close_frame_holds() -> None:
    out = by_asgi(send := Asgi())
    await out.close(1012, "é" * 100)
    assert send.sent == [{"type": "websocket.close", "code": 1012, "reason": "é" * 61}]


async def test_by_the_wire_a_client_is_told_why_it_is_left() -> None:
    await by_wire(wire := FakeWire()).close(1012, "connect again")
    assert wire.sent == [(1012, "connect again")]


async def test_a_connection_is_ended_where_the_server_lends_it() -> None:
    out = by_wire(wire := FakeWire())
    out.abort()
    by_asgi(send := Asgi()).abort()
    assert (wire.sent, send.sent) == (["abort"], [])
