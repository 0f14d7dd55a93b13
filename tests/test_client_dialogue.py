"""The Python client's session as a conversation: the frames of `tests/wire/session.json`, and cuts at every byte.

Calls are played without sockets; `test_client_sessions.py` has them.
"""

import json
import math
import re
from collections.abc import Callable, Generator, Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.scripted_server import closing, message, refusal
from websockets.frames import CONT, PING, TEXT, Frame
from websockets.protocol import SERVER, Protocol

from streamapp_client import (
    ApiError,
    Cancelled,
    DeadlineExceeded,
    EndpointFailed,
    InvalidInput,
    MalformedRequest,
    NotSent,
    PayloadTooLarge,
    SessionEnded,
    StreamInterrupted,
    Unauthorized,
    Unavailable,
    UnexpectedAnswer,
)
from streamapp_client import _frames as frames
from streamapp_client._async_session import is_output
from streamapp_client._dialogue import Dialogue, Outbox
from streamapp_client._errors import NoImage
from streamapp_client._line import Inbox
from streamapp_client._models import Event
from streamapp_client._steps import Deadline, Patience, Rest, Send, Sleep

SITUATIONS = {
    each["name"]: each for each in json.loads((Path(__file__).parent / "wire/session.json").read_text())["situations"]
}
JOB, KEY = "0123456789ab4def0123456789ab4def", "fedcba98765432100123456789abcdef"
SESSION = message(json.dumps({"type": "session", "job_id": "j1", "key": "k", "received": 0, "resume_s": 10}))


def download(url: str) -> bytes:
    raise NoImage(url)


def dialogue(patience_s: float = 0, **options: Any) -> Dialogue:
    options = {"deadline": Deadline(), "patience": Patience(patience_s), **options}
    return Dialogue("/realtime", download=download, **options)


def upgraded(step: Send, status: int = 101, **headers: str) -> httpx.Response:
    accept = {"Sec-WebSocket-Accept": frames.accept_of(step.headers["Sec-WebSocket-Key"])}
    every = {**accept, "Sec-WebSocket-Protocol": "streamapp.v1", **headers}
    return httpx.Response(status, headers=every, request=httpx.Request("GET", "http://test/realtime"))


class Played:
    """Play a session on sockets, each a list of what comes by it: bytes, errors, or what gives bytes; then it ends.

    Attributes:
        events: what was handed out.
        sent: the messages of the client.
        waits: how long it waited.
        rooms: whether there is room after each rest, True after these.
        rests: how long each would have been.
    """

    def __init__(self, dialogue: Dialogue, *sockets: list[Any], rooms: Iterable[bool] = ()) -> None:
        self.events: list[Event] = []
        self.sent: list[str] = []
        self.waits: list[float] = []
        self.rests: list[float] = []
        self._rooms = iter(rooms)
        self._dialogue = dialogue
        self._sockets = iter(sockets)

    def run(self) -> "Played":
        """Play to the session's end, or until there are no more sockets."""
        call, outcome, lost = self._dialogue.events(), None, None
        with suppress(StopIteration):
            while True:
                step = call.send(outcome) if lost is None else call.throw(lost)
                self.take(self._dialogue.to_send())
                outcome = lost = None
                try:
                    outcome = self.perform(step)
                except httpx.RequestError as error:
                    lost = error
        return self

    def perform(self, step: Any) -> Any:
        match step:
            case Event():
                self.events.append(step)
            case Sleep():
                self.waits.append(step.seconds)
            case Rest():
                self.rests.append(step.seconds)
                return next(self._rooms, True)
            case Send():
                self._chunks, self._socket = iter(next(self._sockets)), Protocol(SERVER, max_size=None)
                return upgraded(step)
            case _:
                return self.read()
        return None

    def read(self) -> Any:
        chunk = next(self._chunks, None)
        if isinstance(chunk, Exception):
            raise chunk
        return chunk() if callable(chunk) else chunk

    def take(self, content: bytes) -> None:
        if content:
            self._socket.receive_data(content)
            heard = [frame for frame in self._socket.events_received() if isinstance(frame, Frame)]
            self.sent += [bytes(frame.data).decode() for frame in heard if frame.opcode is TEXT]


def raised(error: type[Exception], *sockets: list[Any], **options: Any) -> Any:
    with pytest.raises(error) as caught:
        Played(dialogue(**options), *sockets).run()
    return caught.value


def event(name: str, data: Any, number: int) -> bytes:
    return message(json.dumps({"type": "event", "event": name, "id": f"j1:1.{number}", "data": data}))


DONE = event("done", {"job_id": "j1", "status": "succeeded"}, 9)

# The fixtures


def played(name: str) -> tuple[Played, Dialogue]:
    """Play a situation's connections to a client that sends its inputs."""
    sockets: list[list[bytes]] = [[]]
    session = dialogue(patience_s=30)
    for frame in SITUATIONS[name]["frames"]:
        if frame["from"] == "network":
            sockets.append([])
        elif frame["from"] == "server":
            sockets[-1].append(message(frame["text"]) if "text" in frame else closing(frame["close"], frame["reason"]))
        elif len(sockets) == 1:
            say(session, json.loads(frame["text"]))
    return Played(session, *sockets), session


def say(session: Dialogue, frame: dict[str, Any]) -> None:
    if frame["type"] == "input":
        session.send(json.dumps(frame["data"], separators=(",", ":")).encode())
    session.outbox.is_finished |= frame["type"] == "finish"


@pytest.mark.parametrize(
    "name", ["open", "open-again", "open-and-go", "inputs", "events", "input-error", "resume", "finish", "ping", "end"]
)
def test_the_client_says_to_the_byte_what_the_fixtures_have(name: str) -> None:
    said = [frame["text"] for frame in SITUATIONS[name]["frames"] if frame["from"] == "client"]
    assert [with_key(text) for text in played(name)[0].run().sent] == said


def with_key(text: str) -> str:
    """Return a message with the fixtures' key where the client has drawn one."""
    return re.sub(r'(?<=^{"type":"open","resume_s":10,"key":")[0-9a-f]{32}(?="}$)', KEY, text)


def test_an_open_comes_again_with_its_key_and_that_of_another_session_has_another() -> None:
    play = Played(dialogue(patience_s=30), [httpx.ReadError("cut")], [SESSION, DONE]).run()
    other = Played(dialogue(), [SESSION, DONE]).run()
    assert play.sent[0] == play.sent[1] != other.sent[0]


def test_a_key_that_the_server_has_chosen_is_the_sessions() -> None:
    play = Played(dialogue(patience_s=30), [SESSION], [SESSION, DONE]).run()
    assert json.loads(play.sent[1])["key"] == "k"


@pytest.mark.parametrize(("granted", "longest"), [(10, 2.5), (0.4, 0.1), (0, 0.1), (600, 5)])
def test_a_session_is_sought_several_times_within_the_time_that_it_is_kept(granted: float, longest: float) -> None:
    answer = {"type": "session", "job_id": "j1", "key": "k", "received": 0, "resume_s": granted}
    session = dialogue(patience=Patience(30, draw=lambda low, high: high))
    play = Played(session, *[[message(json.dumps(answer))]] * 9, [SESSION, DONE]).run()
    assert max(play.waits) == play.waits[-1] == longest


def test_the_events_of_the_log_are_handed_out_with_names_ids_and_data() -> None:
    play, session = played("events")
    names = [event.name for event in play.run().events]
    assert names == ["preview", "progress", "log", "token", "output", "lagged", "restarted"]
    assert (play.events[4].id, play.events[4].data) == (f"{JOB}:1.6", {"seed": 7})
    assert session.job_id == JOB


def test_an_input_error_is_an_event_and_for_who_wants_outputs_an_error() -> None:
    first, second = played("input-error")[0].run().events
    with pytest.raises(InvalidInput, match="Field required") as caught:
        is_output(first, JOB)
    assert caught.value.data["input"] == 1
    assert is_output(second, JOB)


def test_the_result_is_the_last_lasting_event_of_a_session_that_has_ended() -> None:
    play, session = played("finish")
    play.run()
    assert (session.result, session.is_over) == ({"x": 1}, True)


@pytest.mark.parametrize(
    ("name", "error"),
    [
        ("refused-first-frame", MalformedRequest),
        ("refused-gap", MalformedRequest),
        ("failed", EndpointFailed),
        ("cancel", Cancelled),
        ("draining", Unavailable),
        ("taken-over", StreamInterrupted),
    ],
)
def test_an_end_that_is_no_success_raises_its_class(name: str, error: type[Exception]) -> None:
    play, session = played(name)
    with pytest.raises(error):
        play.run()
    assert session.is_over
    assert play.waits == []


@pytest.mark.parametrize("name", ["refused-full", "refused-draining"])
def test_a_refusal_that_may_pass_is_asked_again(name: str) -> None:
    play, session = played(name)
    assert len(play.run().waits) == 1
    assert not session.is_over


def test_of_a_session_that_is_gone_the_job_is_named() -> None:
    gone = message(json.dumps({"type": "refused", **refusal("job_not_found")}))
    error = raised(StreamInterrupted, [SESSION], [gone], patience=Patience(30))
    assert (error.job_id, str(error)) == ("j1", "The session of job j1 broke off: No.")


# Sockets that end


@pytest.mark.parametrize(
    ("code", "error"), [(1008, ApiError), (1009, PayloadTooLarge), (4400, MalformedRequest), (4401, Unauthorized)]
)
def test_what_would_be_refused_again_is_not_sent_again(code: int, error: type[Exception]) -> None:
    assert str(code) in str(raised(error, [SESSION, closing(code, "why")], patience=Patience(30)))


@pytest.mark.parametrize(
    "end", [closing(1012), closing(1000), b"\xff\xff", httpx.ReadError("cut"), httpx.ReadTimeout("")]
)
def test_a_socket_that_ends_in_any_other_way_is_opened_again(end: Any) -> None:
    session = dialogue(patience_s=30)
    assert [
        event.data for event in Played(session, [SESSION, end], [SESSION, event("output", 1, 2), DONE]).run().events
    ] == [1]
    assert (session.reconnects, session.result) == (1, 1)


def test_without_patience_the_error_says_what_came() -> None:
    why = "the socket was closed with 1011 (broken)"
    assert (
        str(raised(StreamInterrupted, [SESSION, closing(1011, "broken")])) == f"The session of job j1 broke off: {why}"
    )
    assert "no heartbeat came" in str(raised(StreamInterrupted, [SESSION, httpx.ReadTimeout("")]))
    assert "it ended before its job" in str(raised(StreamInterrupted, [SESSION]))


def test_before_the_session_is_open_a_lost_socket_is_a_lost_connection() -> None:
    raised(httpx.RemoteProtocolError, [closing(1011)])


def test_a_message_that_is_no_json_ends_the_session() -> None:
    raised(UnexpectedAnswer, [SESSION, message("{")], patience=Patience(30))


@pytest.mark.parametrize("odd", ["null", "[1]", '{"type":"later"}', '{"type":"received","n":"x"}', '{"type":"event"}'])
def test_a_message_that_is_not_known_is_left_out(odd: str) -> None:
    assert Played(dialogue(), [SESSION, message(odd), DONE]).run().events == []


def test_an_event_in_many_frames_and_chunks_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    content = event("output", "ä" * 70, 2)[4:]
    pieces = [Frame(TEXT, content[:9], fin=False), Frame(CONT, content[9:])]
    whole = b"".join([SESSION, *(piece.serialize(mask=False) for piece in pieces), DONE])
    chunks = [whole[n : n + 1] for n in range(len(whole))]
    assert [event.data for event in Played(dialogue(), chunks).run().events] == ["ä" * 70]


def test_pings_are_answered() -> None:
    play = Played(dialogue(), [Frame(PING, b"x").serialize(mask=False), SESSION, DONE])
    pongs: list[bytes] = []
    play.take = lambda content: pongs.append(content)  # type: ignore[method-assign]
    play.run()
    assert b"".join(pongs).count(b"\x8a\x81") == 1


def test_the_time_of_a_session_is_limited(advance: Callable[[float], None]) -> None:
    session = dialogue(deadline=Deadline(60))
    with pytest.raises(DeadlineExceeded, match="timeout_s=60"):
        Played(session, [SESSION, lambda: advance(61)]).run()
    assert not session.is_over  # so its job is cancelled


def test_who_reads_nothing_comes_back_before_the_server_gives_the_session_up_and_takes_no_more_along() -> None:
    again = [SESSION, event("output", "b", 3), DONE]
    played = Played(dialogue(), [SESSION, event("output", "a", 2)], [SESSION], again, rooms=[True, False, False]).run()
    resume = '{"type":"resume","job_id":"j1","key":"k","last_event_id":"j1:1.2"}'
    assert played.sent[1:] == [resume, resume]
    assert ([event.data for event in played.events], played.rests) == (["a", "b"], [5] * 5)


def test_a_session_that_ends_with_its_socket_keeps_it_whoever_reads() -> None:
    ending = message(json.dumps({"type": "session", "job_id": "j1", "key": "k", "received": 0, "resume_s": 0}))
    assert Played(dialogue(), [ending, DONE]).run().rests == [math.inf]


def test_progress_renews_the_patience() -> None:
    now = [0.0]
    patience = Patience(10, clock=lambda: now[0], draw=lambda low, high: 0)

    def later(content: bytes) -> Callable[[], bytes]:
        def come() -> bytes:
            now[0] += 8
            return content

        return come

    sockets = [[SESSION, later(event("output", n, n))] for n in range(2, 6)]
    assert len(Played(dialogue(patience=patience), *sockets).run().events) == 4


# What is no session


@pytest.mark.parametrize(
    ("status", "headers", "said"),
    [
        (200, {"Content-Type": "application/json"}, "HTTP 200 with application/json; write client.run"),
        (426, {}, "a proxy on the way has taken the upgrade away"),
        (101, {"Sec-WebSocket-Accept": "x"}, "an answer to another request"),
        (101, {"Sec-WebSocket-Protocol": "other"}, "the protocol 'other'"),
    ],
)
def test_an_answer_that_opens_no_session_says_what_it_is(status: int, headers: dict[str, str], said: str) -> None:
    call = dialogue().events()
    step = next(call)
    assert isinstance(step, Send)
    with pytest.raises(UnexpectedAnswer, match=said):
        call.send(upgraded(step, status, **headers))


def test_without_the_package_websockets_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(frames, "Protocol", None)
    with pytest.raises(NotSent, match=r"streamapp-client\[realtime\]"):
        dialogue()


# Inputs and events that wait


def test_as_many_inputs_may_be_on_their_way_as_the_server_takes_in() -> None:
    outbox = Outbox()
    while outbox.has_room(b"1"):
        outbox.add(b"1")
    assert outbox.add(b"1") == 65
    outbox.forget(2)
    assert outbox.has_room(b"1")


def test_large_inputs_have_room_by_their_bytes_and_one_alone_always() -> None:
    outbox = Outbox()
    assert outbox.has_room(b"x" * (17 << 20))
    outbox.add(b"x" * (9 << 20))
    assert not outbox.has_room(b"x" * (8 << 20))
    outbox.forget(1)
    assert outbox.has_room(b"x" * (8 << 20))


def test_a_finished_session_takes_no_input() -> None:
    session = dialogue()
    session.outbox.is_finished = True
    with pytest.raises(SessionEnded):
        session.send(b"1")


def inbox_of(*events: tuple[str, Any], size: int = 1) -> Inbox:
    inbox = Inbox()
    for number, (name, data) in enumerate(events):
        inbox.put(Event(name, data, f"j1:1.{number}", download), size)
    return inbox


def test_of_unread_previews_the_newest_is_kept_for_each_key() -> None:
    given = [{"key": "a", "n": 1}, 1, {"key": "b"}, {"key": "a", "n": 2}, 2]
    inbox = inbox_of(*[("preview", data) for data in given])
    assert [inbox.take().data for _ in range(len(inbox))] == [{"key": "b"}, {"key": "a", "n": 2}, 2]


def test_unread_events_are_bounded_by_their_number_and_their_bytes() -> None:
    assert not inbox_of(*[("output", n) for n in range(1023)]).is_full
    assert inbox_of(*[("output", n) for n in range(1024)]).is_full
    inbox = inbox_of(("output", 1), ("output", 2), size=8 << 20)
    assert inbox.is_full
    inbox.take()
    assert not inbox.is_full
    assert not inbox_of(("preview", 1), ("preview", 2), size=8 << 20).is_full


# A server that is cut


class Model:
    """Be a server with one session, each of whose inputs is an output and a preview; it lives over all connections."""

    def __init__(self) -> None:
        self.key = ""
        self.received = 0
        self.log: list[bytes] = []

    def connection(self) -> Generator[bytes, str, None]:
        """Take what a client says, message by message; gives what is sent for it."""
        said, at = json.loads((yield b"")), 0
        assert said["key"] == (self.key or said["key"])
        self.key = said["key"]
        if said.get("last_event_id"):
            at = int(said["last_event_id"].partition(".")[2]) - 1
        told = {"type": "session", "job_id": "j1", "key": self.key, "received": self.received, "resume_s": 10}
        answer = message(json.dumps(told))
        while True:
            answer += b"".join(self.log[at:])
            at = len(self.log)
            answer = self.hear(json.loads((yield answer)))

    def hear(self, said: dict[str, Any]) -> bytes:
        if said["type"] == "finish":
            self.emit("done", {})
        elif said["n"] > self.received:
            assert said["n"] == self.received + 1
            self.received += 1
            self.emit("preview", said["n"])
            self.emit("output", said["data"])
        return message(json.dumps({"type": "received", "n": self.received}))

    def emit(self, name: str, data: Any) -> None:
        self.log.append(event(name, data, len(self.log) + 2))


class Cut(Played):
    """Play a session with the model, by a connection that is cut after so many bytes each way, then by others.

    Attributes:
        was_cut: so many bytes have gone.
    """

    def __init__(self, dialogue: Dialogue, *, sent: int = 1 << 30, read: int = 1 << 30) -> None:
        super().__init__(dialogue)
        self.was_cut = False
        self._model = Model()
        self._left = {"sent": sent, "read": read}

    def perform(self, step: Any) -> Any:
        if isinstance(step, Send):
            self._answers, self._socket = self._model.connection(), Protocol(SERVER, max_size=None)
            self._pending = next(self._answers)
            return upgraded(step)
        return super().perform(step)

    def read(self) -> Any:
        ready, self._pending = self.through("read", self._pending), b""
        if not ready:
            self._left = dict.fromkeys(self._left, 1 << 30)
            raise httpx.ReadError("cut")
        return ready

    def take(self, content: bytes) -> None:
        before = len(self.sent)
        super().take(self.through("sent", content))
        for text in self.sent[before:]:
            self._pending += self._answers.send(text)

    def through(self, way: str, content: bytes) -> bytes:
        """Return what of some bytes gets through."""
        arrived = content[: self._left[way]]
        self._left[way] -= len(arrived)
        self.was_cut |= len(arrived) < len(content)
        return arrived


@pytest.mark.parametrize("way", ["sent", "read"])
def test_a_session_that_is_cut_at_any_byte_loses_and_doubles_nothing(way: str) -> None:
    at, play, reconnects = 0, None, 0
    while play is None or play.was_cut:
        session = dialogue(patience=Patience(30, draw=lambda low, high: 0))
        for n in range(3):
            session.send(b'"%d"' % n)
        session.outbox.is_finished = True
        play = Cut(session, **{way: at})
        play.run()
        assert [event.data for event in play.events if event.name == "output"] == ["0", "1", "2"]
        assert session.result == "2"
        at += 1
        reconnects += session.reconnects
    assert reconnects > 100
