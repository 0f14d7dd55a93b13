"""What members of a room hear, in which order, and what becomes of those that do not keep up."""

import asyncio
import gc
import json
import os
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from pathlib import Path
from random import Random
from typing import Any

import httpx
import pytest
from fastapi import WebSocket
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel
from starlette.testclient import TestClient, WebSocketDenialResponse
from starlette.types import Message
from starlette.websockets import WebSocketDisconnect
from tests.processes import serving as serving_apart
from tests.served import drain, runtime_of, serving, shape
from tests.sockets import connect
from tests.waiting import WAIT_S, until
from websockets.client import ClientProtocol
from websockets.frames import Frame
from websockets.protocol import OPEN
from websockets.uri import parse_uri

import streamapp
from streamapp import Member, Room, Rooms
from streamapp.errors import DefinitionError
from streamapp.serve.connections import raise_descriptor_limit
from streamapp.sockets.raw import SESSION, RawSession
from streamapp.sockets.wire import WIRE_EXTENSION

CROWD = Path(__file__).parent / "apps" / "crowd.py"


class Line:
    """Stand for the connection of a client that reads when the test says so: a `Wire`."""

    def __init__(self) -> None:
        self.on_ended: Callable[[], None] | None = None
        self.on_writable: Callable[[], None] | None = None
        self.is_open, self.is_paused = True, False
        self.unsent_bytes = 0
        self.frames: list[bytes] = []
        self.closed: tuple[int, str] | None = None

    def send_frame(self, frame: bytes) -> None:
        self.frames.append(frame)

    def close(self, code: int = 1000, reason: str = "") -> None:
        self.closed, self.is_open = (code, reason), False

    def abort(self) -> None:
        self.is_open = False

    def go_on(self) -> None:
        """Read again."""
        self.is_paused = False
        assert self.on_writable is not None
        self.on_writable()

    @property
    def heard(self) -> list[Any]:
        """Return what has come, JSON as what it says."""
        client = ClientProtocol(parse_uri("ws://test"), state=OPEN)
        client.receive_data(b"".join(self.frames))
        contents = [bytes(event.data) for event in client.events_received() if isinstance(event, Frame)]
        return [json.loads(content) for content in contents]


@asynccontextmanager
async def joined(room: Room, *said: Any, line: Line | None = None, **options: Any) -> AsyncIterator[Member]:
    """Be a member whose client says some things and then keeps silent."""
    coming: list[Message] = [
        {"type": "websocket.receive", **({"bytes": each} if isinstance(each, bytes) else {"text": each})}
        for each in said
    ]

    async def receive() -> Message:
        return coming.pop(0) if coming else {"type": "websocket.disconnect", "code": 1001}

    async def send(message: Message) -> None:
        pass

    scope: dict[str, Any] = {"type": "websocket", "path": "/", "headers": []}
    scope["extensions"] = {WIRE_EXTENSION: Line() if line is None else line}
    session = RawSession(scope, receive, send, 1000)
    scope[SESSION] = session
    async with room.join(WebSocket(scope, session.receive, session.send), **options) as member:
        yield member


def line_of(member: Member) -> Line:
    line = member.socket.scope["extensions"][WIRE_EXTENSION]
    assert isinstance(line, Line)
    return line


def heard(member: Member) -> list[Any]:
    return line_of(member).heard


def quiet(**options: Any) -> Room:
    return Room(presence=False, **options)


# What is said, and who hears it


async def test_what_is_said_goes_to_all_but_those_who_are_left_out() -> None:
    room = quiet()
    async with joined(room) as one, joined(room) as two, joined(room) as three:
        room.broadcast(1)
        room.broadcast(2, exclude=one)
        room.broadcast(3, exclude=[one, two])
        one.send(4)
        assert [heard(one), heard(two), heard(three)] == [[1, 4], [1, 2], [1, 2, 3]]


async def test_who_is_left_out_is_a_member_and_may_be_nobody() -> None:
    room = quiet()
    async with joined(room) as one:
        room.broadcast(1, exclude=None)
        room.broadcast(0, exclude=(member for member in room.members))
        for wrong in (one.id, [one.id], one.socket):
            with pytest.raises(DefinitionError, match=r"expected a member, as join gives it, or several, got"):
                room.broadcast(2, exclude=wrong)  # type: ignore[arg-type]
        assert heard(one) == [1]


async def test_who_comes_late_hears_what_was_said_and_then_the_rest_in_order_and_once() -> None:
    room = quiet(history=3)
    members = []
    async with AsyncExitStack() as stack:
        for n in range(6):
            members.append(await stack.enter_async_context(joined(room)))
            room.broadcast(n)
    assert [heard(member) for member in members] == [list(range(max(0, n - 3), 6)) for n in range(6)]


async def test_the_history_is_as_short_as_it_is_to_be_and_holds_of_a_key_the_newest() -> None:
    room = quiet(history=3)
    for n in range(5):
        room.broadcast(n)
        room.broadcast({"at": n}, key="cursor")
        room.broadcast("typing", keep=False)
    async with joined(room) as member:
        assert heard(member) == [3, 4, {"at": 4}]


async def test_the_history_takes_half_of_the_bytes_of_an_outbox() -> None:
    room = quiet(outbox_bytes=20)
    for n in range(1000, 1005):
        room.broadcast(n)
    async with joined(room) as member:
        assert heard(member) == [1003, 1004]


async def test_a_room_may_keep_no_history() -> None:
    room = quiet(history=0)
    room.broadcast(1)
    async with joined(room) as member:
        assert heard(member) == []


async def test_others_hear_who_comes_and_goes_and_it_is_no_history() -> None:
    room = Room()
    async with joined(room) as one:
        async with joined(room, id="ann", about={"name": "Ann", "id": "fake"}) as two:
            assert [member.id for member in room.members] == [one.id, "ann"]
        ann = {"name": "Ann", "id": "ann"}
        assert heard(one) == [{"type": "joined", "member": ann}, {"type": "left", "member": ann}]
        assert heard(two) == []


async def test_two_sockets_that_ask_for_one_id_are_two_members() -> None:
    room = quiet()
    async with joined(room, id="ann") as one:
        async with joined(room, id="ann") as two:
            assert one.id == "ann" != two.id
            assert len(two.id) == len("ann-") + 32
        room.broadcast(1)
        assert heard(one) == [1]
        assert repr(one) == "<Member ann>"


async def test_an_id_that_was_not_asked_for_cannot_be_guessed() -> None:
    async with joined(quiet()) as one, joined(quiet()) as two:
        assert len(one.id) == 32
        assert one.id != two.id


async def test_a_socket_may_be_in_two_rooms() -> None:
    rooms = quiet(), quiet()
    async with joined(rooms[0]) as one, rooms[1].join(one.socket) as two:
        line_of(one).is_paused = True
        for n, room in enumerate(rooms):
            room.broadcast(n)
        line_of(two).go_on()
        assert heard(one) == [0, 1]


@settings(deadline=None, max_examples=50)
@given(st.lists(st.sampled_from(["join", "leave", "say", "pause", "go on"]), max_size=60), st.randoms())
async def test_whoever_comes_goes_and_reads_hears_from_its_history_on_all_in_order(
    steps: list[str], random: Random
) -> None:
    room, said = quiet(history=3, outbox=100), 0
    came: list[tuple[int, Member, AsyncExitStack]] = []
    for step in steps:
        if step == "join":
            stack = AsyncExitStack()
            came.append((max(0, said - 3), await stack.enter_async_context(joined(room)), stack))
        elif step == "say":
            room.broadcast(said)
            said += 1
        elif room.members:
            _, member, stack = random.choice(came)
            if step == "leave":
                await stack.aclose()
            elif step == "pause":
                line_of(member).is_paused = True
            elif line_of(member).is_paused:
                line_of(member).go_on()
    there = {*room.members}
    for begun, member, stack in came:
        await stack.aclose()
        heard_of = heard(member)
        assert heard_of == list(range(begun, begun + len(heard_of)))
        assert member not in there or begun + len(heard_of) == said


# Members that do not keep up


async def test_who_does_not_read_is_sent_nothing_until_it_does_and_then_all_in_order() -> None:
    room = quiet()
    async with joined(room) as slow, joined(room) as fast:
        room.broadcast(0)
        line_of(slow).is_paused = True
        for n in range(1, 5):
            room.broadcast(n)
        assert (heard(slow), heard(fast)) == ([0], [0, 1, 2, 3, 4])
        line_of(slow).go_on()
        room.broadcast(5)
        assert heard(slow) == heard(fast) == [0, 1, 2, 3, 4, 5]


async def test_who_stops_again_while_it_catches_up_is_sent_no_more() -> None:
    room = quiet()

    class Sips(Line):
        def send_frame(self, frame: bytes) -> None:
            super().send_frame(frame)
            self.is_paused = True

    async with joined(room, line=Sips()) as member:
        for n in range(3):
            room.broadcast(n)
        line_of(member).go_on()
        assert heard(member) == [0, 1]


async def test_who_reads_nothing_has_to_leave_and_the_others_hear_of_it_behind_what_was_said() -> None:
    room = Room(history=0, outbox=2)
    async with joined(room, id="fast") as fast, joined(room, id="stuck") as stuck:
        line_of(stuck).is_paused = True
        for n in range(4):
            room.broadcast(n)
        assert heard(fast)[1:] == [0, 1, 2, {"type": "left", "member": {"id": "stuck"}}, 3]
        assert line_of(stuck).closed == (1013, "the messages were not read in time")
        assert heard(stuck) == []
        assert [message async for message in stuck] == []
        assert room.members == [fast]


async def test_who_is_behind_is_not_heard_until_it_has_caught_up_so_that_its_own_words_do_not_make_it_leave() -> None:
    room = quiet(history=0, outbox=2)
    async with joined(room, "1", "2", "3", line=(line := Line())) as member:
        line.is_paused = True
        for _ in range(2):
            room.broadcast(await anext(member))
            asyncio.get_running_loop().call_soon(line.go_on)
            line.is_paused = True
        assert (await anext(member), line.closed, line.heard) == (3, None, [1, 2])


async def test_who_does_not_catch_up_is_heard_at_last(advance: Callable[[float], None]) -> None:
    async with joined(quiet(), "1", line=(line := Line())) as member:
        line.is_paused = True
        member.send("unread")
        asyncio.get_running_loop().call_soon(advance, 2)
        assert await anext(member) == 1


async def test_a_message_to_one_that_reads_nothing_makes_it_leave_too() -> None:
    room = Room(history=0, outbox=1)
    async with joined(room) as stuck:
        line_of(stuck).is_paused = True
        stuck.send(1)
        stuck.send(2)
        assert line_of(stuck).closed == (1013, "the messages were not read in time")


async def test_bytes_that_wait_are_counted_too() -> None:
    room = quiet(outbox_bytes=10)
    async with joined(room) as stuck:
        line_of(stuck).is_paused = True
        room.broadcast(10_000)
        room.broadcast(10_000)
        assert line_of(stuck).closed is None
        room.broadcast(1)
        assert line_of(stuck).closed is not None


async def test_any_number_may_have_to_leave_as_others_have_left() -> None:
    room = Room(history=0, outbox=1)
    async with AsyncExitStack() as stack, joined(room) as fast:
        members = [await stack.enter_async_context(joined(room)) for _ in range(300)]
        for member in members:
            line_of(member).is_paused = True
        room.broadcast(1)
        members[0].send(2)
        room.broadcast(3, exclude=members[2:])
        assert room.members == [fast]


async def test_where_the_app_says_so_who_is_slow_misses_the_oldest_and_is_told() -> None:
    room = quiet(history=0, outbox=3, when_full="conflate")
    async with joined(room) as slow:
        line_of(slow).is_paused = True
        for n in range(5):
            room.broadcast({"at": n}, key="cursor")
            room.broadcast(n)
        line_of(slow).go_on()
        room.broadcast(5)
        assert heard(slow) == [{"type": "lagged", "skipped": 3}, 3, {"at": 4}, 4, 5]
        assert line_of(slow).closed is None


async def test_a_member_whose_connection_has_ended_is_gone_at_the_next_message() -> None:
    room = Room()
    async with joined(room) as one, joined(room, id="dead") as dead:
        line_of(dead).abort()
        room.broadcast(1)
        assert heard(one)[1:] == [1, {"type": "left", "member": {"id": "dead"}}]
        assert room.members == [one]


async def test_the_last_words_to_a_member_are_sent_though_it_is_slow() -> None:
    async with joined(quiet()) as member:
        line_of(member).is_paused = True
        member.send("1")
        member.send("2")
    assert heard(member) == [1, 2]


async def test_what_is_said_to_one_that_has_left_goes_nowhere() -> None:
    async with joined(quiet(history=0, outbox=1)) as member:
        pass
    line_of(member).is_paused = True
    for n in range(3):
        member.send(n)
    assert heard(member) == []
    assert line_of(member).closed is None


# What members say


async def said_in(room: Room, *messages: str | bytes) -> tuple[list[Any], list[Any]]:
    """Return what is taken of messages, and what the member hears."""
    async with joined(room, *messages) as member:
        return [message async for message in member], heard(member)


def refusals(told: list[Any]) -> list[tuple[str, str]]:
    assert all(each["type"] == "error" and each["detail"] for each in told)
    return [(each["error"]["code"], each["error"]["message"]) for each in told]


async def test_a_message_that_is_no_json_is_answered_and_the_next_one_heard() -> None:
    taken, told = await said_in(quiet(), '{"a":1}', "{bad", "", "[" * 1000, b"\xff", "2")
    assert taken == [{"a": 1}, b"\xff", 2]
    assert [code for code, _ in refusals(told)] == ["invalid_input"] * 3


async def test_a_room_may_say_what_it_takes() -> None:
    class Stroke(BaseModel):
        x: int

    taken, told = await said_in(quiet(takes=Stroke), '{"x":1}', '{"x":"far"}', b'{"x":2}')
    assert taken == [Stroke(x=1), Stroke(x=2)]
    assert refusals(told) == [
        ("invalid_input", "x: Input should be a valid integer, unable to parse string as an integer")
    ]


@pytest.mark.parametrize(
    ("takes", "taken", "refusal"),
    [(str, ["{bad"], "Expected a text message"), (bytes, [b"\xff"], "Expected a binary message")],
)
async def test_a_room_may_take_text_or_bytes_alone(takes: type, taken: list[Any], refusal: str) -> None:
    assert await said_in(quiet(takes=takes), "{bad", b"\xff") == (taken, [])[:1] + ([*_refused(refusal)],)


def _refused(message: str) -> Iterator[dict[str, Any]]:
    error = {"code": "invalid_input", "message": message, "retryable": False}
    yield {"type": "error", "error": error, "detail": message, "error_type": "invalid_input"}


async def test_who_says_more_than_it_may_has_to_leave() -> None:
    async with joined(quiet(max_messages_per_s=0.001), "1", "2", "3") as member:
        assert [message async for message in member] == [1]
        assert line_of(member).closed == (1008, "more than 0.001 messages a second")


async def test_where_the_app_says_so_what_is_too_much_is_left_out_and_told_once() -> None:
    room = quiet(max_messages_per_s=0.001, when_too_fast="drop")
    async with joined(room, "1", "2", "3") as member:
        assert [message async for message in member] == [1]
    assert refusals(heard(member)) == [
        ("queue_full", "more than 0.001 messages a second; those that are too many are left out")
    ]


async def test_a_message_may_be_too_large_for_its_room() -> None:
    async with joined(quiet(max_message_bytes=3), "123", "1234", "5") as member:
        assert [message async for message in member] == [123]
        assert line_of(member).closed == (1009, "a message is larger than 3 bytes")


async def test_a_member_can_be_shown_the_door() -> None:
    async with joined(quiet(), "1", "2") as member:
        async for _ in member:
            member.close(4000, "enough")
        assert line_of(member).closed == (4000, "enough")


# Options


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"history": 200}, r"Room\(history=200, outbox=256\): .*write outbox=400 or more"),
        ({"history": -1}, r"Room\(history=-1"),
        ({"history": 0, "outbox": 0}, "write outbox=1 or more"),
        ({"when_full": "drop"}, r"Room\(when_full='drop'\): expected 'evict' or 'conflate'"),
        ({"when_too_fast": "evict"}, "expected 'close' or 'drop'"),
        ({"max_messages_per_s": 0}, r"Room\(max_messages_per_s=0\): expected more than 0"),
        ({"outbox_bytes": 0}, r"Room\(outbox_bytes=0\)"),
        ({"max_message_bytes": -1}, r"Room\(max_message_bytes=-1\)"),
    ],
)
def test_an_option_that_makes_no_sense_is_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(DefinitionError, match=message):
        Room(**options)
    with pytest.raises(DefinitionError, match=message):
        Rooms(**options)


async def test_only_sockets_that_are_looked_after_join() -> None:
    async def nothing(*_: Any) -> Any: ...

    foreign = WebSocket({"type": "websocket", "path": "/own", "headers": [], "server": ("h", 1)}, nothing, nothing)
    with pytest.raises(DefinitionError, match=r"/own: only a socket of @streamapp.websocket"):
        async with Room().join(foreign):
            pass


# Rooms by name


async def test_a_room_of_a_name_is_made_once_and_freed_with_its_last_member() -> None:
    rooms = Rooms(presence=False, keep_s=0)
    async with joined(rooms["lobby"]) as one:
        gc.collect()
        async with joined(rooms["lobby"]) as two:
            rooms["lobby"].broadcast(1)
        rooms["other"].broadcast(2)
        assert (heard(one), heard(two), len(rooms)) == ([1], [1], 1)
    del one, two
    gc.collect()
    assert len(rooms) == 0


async def test_what_was_said_in_a_room_outlasts_its_last_member_for_a_while(advance: Callable[[float], None]) -> None:
    rooms = Rooms(presence=False, keep_s=60)
    for said in ([], [1], [1, 2]):
        async with joined(rooms["lobby"]) as member:
            assert heard(member) == said
            rooms["lobby"].broadcast(len(said) + 1)
        advance(50)
    advance(20)
    del member  # which has its room
    async with joined(rooms["lobby"]) as member:
        assert (heard(member), len(rooms)) == ([], 1)


async def test_what_is_said_in_a_room_without_members_is_kept_for_who_joins() -> None:
    rooms = Rooms(presence=False)
    rooms["lobby"].broadcast(1)
    await asyncio.to_thread(lambda: rooms["lobby"].broadcast(2))
    assert len(rooms["silent"].members) == 0
    async with joined(rooms["lobby"]) as member:
        assert (heard(member), len(rooms)) == ([1, 2], 1)


@pytest.mark.parametrize(("names", "said", "kept"), [(1100, "x", 1000), (30, "x" * 2**20, 15)])
def test_of_rooms_that_anybody_makes_up_the_last_are_kept(names: int, said: str, kept: int) -> None:
    rooms = Rooms()
    for name in range(names):
        rooms[str(name)].broadcast(said)
    assert len(rooms) == pytest.approx(kept, abs=1)
    assert [len(rooms[name]._history) for name in ("0", str(names - 1))] == [0, 1]


def test_to_ask_which_rooms_there_are_makes_none() -> None:
    rooms = Rooms()
    lobby = rooms["lobby"]
    assert (list(rooms), "lobby" in rooms, "other" in rooms, len(rooms)) == (["lobby"], True, False, 1)
    del lobby
    assert list(rooms) == []


def test_threads_that_ask_at_once_get_one_room() -> None:
    rooms, found = Rooms(), []
    barrier = threading.Barrier(8)

    def ask() -> None:
        barrier.wait()
        found.append(rooms["lobby"])

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(map(id, found))) == 1


# With a server, whose sockets have no wire, and with the inference thread


class Talk(streamapp.App):
    def setup(self) -> None:
        self.room = Room()
        self.room.broadcast("of setup")

    @streamapp.websocket("/talk")
    async def talk(self, socket: WebSocket, name: str | None = None) -> None:
        async with self.room.join(socket, id=name) as member:
            async for message in member:
                if message == "bye":
                    member.send("goodbye")
                    return
                self.room.broadcast({"by": member.id, "said": message})

    @streamapp.endpoint("/say")
    def say(self, text: str) -> int:
        self.room.broadcast(text)
        for member in self.room.members:
            member.send("you, too")
        return len(self.room.members)


@pytest.fixture
def talk() -> Iterator[TestClient]:
    with serving(Talk) as client:
        yield client


def test_members_hear_each_other_and_what_was_said_before(talk: TestClient) -> None:
    with talk.websocket_connect("/talk?name=ann") as ann:
        assert ann.receive_text() == "of setup"
        ann.send_json([1])
        assert ann.receive_json() == {"by": "ann", "said": [1]}
        with talk.websocket_connect("/talk?name=bob") as bob:
            assert (bob.receive_text(), bob.receive_json()) == ("of setup", {"by": "ann", "said": [1]})
            assert ann.receive_json() == {"type": "joined", "member": {"id": "bob"}}
        assert ann.receive_json() == {"type": "left", "member": {"id": "bob"}}


def test_the_inference_thread_speaks_in_rooms(talk: TestClient) -> None:
    with talk.websocket_connect("/talk") as socket:
        socket.receive_text()
        assert talk.post("/say", json={"text": "hello"}).json() == 1
        assert [socket.receive_text(), socket.receive_text()] == ["hello", "you, too"]


def test_a_member_that_is_told_goodbye_hears_it(talk: TestClient) -> None:
    with talk.websocket_connect("/talk") as socket:
        socket.send_json("bye")
        assert [socket.receive_text(), socket.receive_text()] == ["of setup", "goodbye"]
        with pytest.raises(WebSocketDisconnect, check=lambda closed: closed.code == 1000):
            socket.receive_text()


def test_an_id_that_is_too_long_is_refused(talk: TestClient) -> None:
    with pytest.raises(WebSocketDenialResponse) as denied, talk.websocket_connect(f"/talk?name={'x' * 129}"):
        pass
    assert shape(denied.value) == (422, "invalid_input")


def test_a_drain_ends_the_members_of_a_room(talk: TestClient) -> None:
    with talk.websocket_connect("/talk") as socket:
        socket.receive_text()
        drain(talk)
        with pytest.raises(WebSocketDisconnect, check=lambda closed: closed.code == 1012):
            socket.receive_text()
        until(lambda: not runtime_of(talk).places)


async def test_a_thread_goes_on_when_the_loop_of_a_room_is_gone() -> None:
    room = quiet()

    async def be() -> None:
        async with joined(room):
            room.broadcast(1)

    threading.Thread(target=asyncio.run, args=(be(),)).start()
    until(lambda: room._loop is not None and room._loop.is_closed())
    await asyncio.to_thread(room.broadcast, 2)
    async with joined(room) as member:
        assert heard(member) == [1]
        room.broadcast(3)
        assert heard(member) == [1, 3]


# Real sockets


@contextmanager
def crowd(**environment: str) -> Iterator[str]:
    with serving_apart(f"{CROWD}:Crowd", env={**os.environ, **environment}) as (url, _):
        yield url


async def talk_there(url: str, **body: int) -> None:
    async with httpx.AsyncClient(timeout=WAIT_S) as client:
        (await client.post(f"{url}/talk", json=body)).raise_for_status()


@pytest.mark.long
async def test_of_500_members_50_that_never_read_hold_up_none() -> None:
    raise_descriptor_limit()
    with crowd() as url:
        async with asyncio.timeout(WAIT_S):
            stuck = [await connect(url, "/room?silent=1", reads=False) for _ in range(50)]
            members = [await connect(url, "/room?silent=1") for _ in range(450)]
            await talk_there(url, count=1, size=1)
            await asyncio.gather(*(member.has(1) for member in members))
            await talk_there(url, count=200, size=1000)
            await asyncio.gather(*(member.has(201) for member in members))
        heard = {tuple(message["n"] for message in member.messages) for member in members}
        assert heard == {(0, *range(200))}
        for member in [*stuck, *members]:
            member.transport.abort()


async def test_who_never_reads_has_to_leave_for_real_and_the_others_miss_nothing() -> None:
    with crowd() as url:
        async with asyncio.timeout(WAIT_S):
            member = await connect(url, "/room")
            stuck = await connect(url, "/room", reads=False)
            await member.has(1)
            joined = member.messages[0]
            assert joined["type"] == "joined"
            count = 0
            while {**joined, "type": "left"} not in member.messages:  # the kernel's buffers take some megabytes
                await talk_there(url, count=50, size=50_000)
                count += 50
                await member.has(1 + count)  # else it would itself be behind, where this machine is busy
        said = [message["n"] for message in member.messages if "n" in message]
        assert said == [n % 50 for n in range(len(said))]
        stuck.transport.abort()
        member.transport.abort()


@pytest.mark.long
async def test_who_reads_but_answers_no_ping_has_left() -> None:
    with crowd(STREAMAPP_HEARTBEAT_S="3") as url:  # in which the one that is there has to answer
        async with asyncio.timeout(WAIT_S):
            member = await connect(url, "/room")
            dead = await connect(url, "/room", pongs=False)
            await member.has(2)
            joined, left = member.messages
            assert (joined["type"], left) == ("joined", {**joined, "type": "left"})
            assert await dead.closed == 1011
            assert not member.closed.done()
        member.transport.abort()
