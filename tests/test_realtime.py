"""Realtime methods over WebSockets: both protocols, from the handshake to the close. What a frame is, is `own_frames`'s
and `fal_frames`'s; how sessions run, `sessions`'s.
"""

import asyncio
import base64
import json
import logging
import re
import secrets
import threading
import tracemalloc
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import msgpack
import pytest
from pydantic import BaseModel, field_validator
from starlette.testclient import TestClient, WebSocketTestSession
from starlette.types import Message
from starlette.websockets import WebSocketDisconnect
from tests.at_work import Gate
from tests.lent_wire import FakeWire
from tests.memory_store import MemoryStore
from tests.served import PNG, drain, runtime_of, serving
from tests.waiting import until

import streamapp
from streamapp.jobs.events import to_event
from streamapp.jobs.job import Job
from streamapp.jobs.store import JobRecord
from streamapp.settings import Settings
from streamapp.sockets.wire import WIRE_EXTENSION, text_frame

OWN = ["streamapp.v1"]
SITUATIONS = {
    each["name"]: each["frames"]
    for each in json.loads((Path(__file__).parent / "wire" / "session.json").read_text())["situations"]
}
ANY_ID = re.compile(r'"(job_id|id|key)":"[0-9a-f]{32}')


class In(BaseModel):
    x: int

    @field_validator("x")
    @classmethod
    def lucky(cls, x: int) -> int:
        if x == 13:
            raise KeyError("thirteen")
        return x


class Doubler(streamapp.App):
    @streamapp.realtime("/rt")
    async def double(self, input: In) -> dict[str, int]:
        if input.x == 7:
            raise ValueError("seven")
        return {"y": 2 * input.x}

    @streamapp.realtime("/newest", buffering=1)
    async def newest(self, input: In) -> dict[str, int]:
        return {"y": input.x}

    @streamapp.realtime("/count")
    async def count(self, input: In) -> AsyncIterator[Any]:
        yield streamapp.Preview({"n": 0})
        yield streamapp.Progress(1, 2)
        yield streamapp.Log("half")
        for n in range(input.x):
            yield {"n": n}

    @streamapp.realtime("/sum")
    async def total(self, inputs: AsyncIterator[In]) -> dict[str, int]:
        return {"sum": sum([given.x async for given in inputs])}

    @streamapp.realtime("/each", session_timeout=0.001)
    async def each(self, inputs: AsyncIterator[In]) -> AsyncIterator[dict[str, int]]:
        async for given in inputs:
            yield {"y": given.x}

    @streamapp.realtime("/stop")
    async def stop(self, inputs: AsyncIterator[In]) -> AsyncIterator[dict[str, int]]:
        async for given in inputs:
            yield {"y": given.x}
            raise RuntimeError("secret")

    @streamapp.realtime("/short", max_resume_window_s=0.001)
    async def short(self, input: In) -> dict[str, int]:
        return {"y": input.x}


@pytest.fixture(scope="module")
def client() -> Iterator[TestClient]:
    with serving(Doubler) as client:
        yield client


def packed(**value: Any) -> bytes:
    data = msgpack.packb(value)
    assert isinstance(data, bytes)
    return data


def told(ws: WebSocketTestSession) -> Any:
    """Return what one of fal's clients makes of the next message."""
    message = ws.receive()
    if message["type"] == "websocket.close":
        return message["code"]
    content = message.get("bytes")
    return json.loads(message["text"]) if content is None else msgpack.unpackb(content)


def jobs_of(client: TestClient) -> list[Job]:
    return list(runtime_of(client).jobs)


class Own:
    """Speak streamapp.v1."""

    def __init__(self, ws: WebSocketTestSession) -> None:
        self.ws = ws
        self.close = self.ws.close

    def say(self, type_: str, **fields: Any) -> "Own":
        self.ws.send_text(json.dumps({"type": type_, **fields}))
        return self

    def input(self, n: int, **data: Any) -> "Own":
        return self.say("input", n=n, data=data)

    def hear(self, *types: str) -> Any:
        """Return the next frame, or the code of the close; of others than these none is kept."""
        while True:
            message = self.ws.receive()
            if message["type"] == "websocket.close":
                return message["code"]
            frame = json.loads(message["text"])
            if not types or frame["type"] in types:
                return frame

    def event(self) -> Any:
        """Return the next event's name and data."""
        frame = self.hear("event")
        return frame if isinstance(frame, int) else (frame["event"], frame["data"])

    def open(self, resume_s: float = 10, **more: Any) -> Any:
        return self.say("open", resume_s=resume_s, **more).hear()

    def resume(self, session: Any, last_event_id: str | None = None, **changed: Any) -> Any:
        known = {"job_id": session["job_id"], "key": session["key"], "last_event_id": last_event_id}
        return self.say("resume", **{**known, **changed}).hear()


@contextmanager
def own(client: TestClient, path: str = "/rt") -> Iterator[Own]:
    with client.websocket_connect(path, subprotocols=OWN) as ws:
        assert ws.accepted_subprotocol == "streamapp.v1"
        yield Own(ws)


# fal's clients


@pytest.mark.parametrize("path", ["/rt", "/rt/", "/doubler/rt", "/doubler/rt/"])
def test_an_input_of_msgpack_is_answered_by_msgpack(client: TestClient, path: str) -> None:
    with client.websocket_connect(path) as ws:
        ws.send_bytes(packed(x=2))
        assert msgpack.unpackb(ws.receive_bytes()) == {"y": 4}


def test_an_input_of_text_is_answered_by_text(client: TestClient) -> None:
    with client.websocket_connect("/rt") as ws:
        ws.send_text('{"x":2}')
        assert ws.receive_text() == '{"y":4}'
        ws.send_bytes(packed(x=3))
        assert msgpack.unpackb(ws.receive_bytes()) == {"y": 6}


@pytest.mark.parametrize(
    ("bad", "code"),
    [
        *(
            (packed(), "INVALID_INPUT"),
            (b"\xc1", "INVALID_INPUT"),
            (b"", "INVALID_INPUT"),
            (packed(x="a"), "INVALID_INPUT"),
        ),
        *(
            (b"\xdd\xff\xff\xff\xff", "INVALID_INPUT"),
            (msgpack.packb([1]), "INVALID_INPUT"),
            (b"\x91" * 300, "INVALID_INPUT"),
        ),
        *((packed(x=7), "INTERNAL_ERROR"), (packed(x=13), "INTERNAL_ERROR")),
        *(("{", "INVALID_INPUT"), ("", "INVALID_INPUT"), ("null", "INVALID_INPUT"), ("[" * 300, "INVALID_INPUT")),
        (b"\xdd\x00\x10\x10\x10" + b"\x00" * 1_052_688, "PAYLOAD_TOO_LARGE"),
        ("[" + "1," * 1_100_000 + "1]", "PAYLOAD_TOO_LARGE"),
    ],
    ids=lambda given: str(given)[:20],
)
def test_a_bad_input_is_answered_by_fals_error_and_the_next_one_as_ever(
    client: TestClient, bad: bytes | str, code: str
) -> None:
    with client.websocket_connect("/rt") as ws:
        ws.send({"type": "websocket.receive", "bytes" if isinstance(bad, bytes) else "text": bad})
        error = told(ws)
        assert (error["type"], error["error"], error["input"]) == ("x-fal-error", code, 1)
        ws.send_bytes(packed(x=1))
        assert told(ws) == {"y": 2}


def test_a_list_of_what_is_wrong_is_told(client: TestClient) -> None:
    with client.websocket_connect("/rt") as ws:
        ws.send_bytes(packed(x="a"))
        error = told(ws)
    assert error["reason"].startswith("body.x: Input should be a valid integer")
    assert error["detail"][0]["loc"] == ["body", "x"]


def test_a_stream_of_outputs_ends_well(client: TestClient) -> None:
    with client.websocket_connect("/count") as ws:
        ws.send_bytes(packed(x=2))
        heard = [told(ws) for _ in range(6)]
    assert [frame.get("action") for frame in heard[:5] if "type" in frame] == ["progress", "log"]
    assert [frame for frame in heard[:5] if "type" not in frame] == [{"n": 0}, {"n": 0}, {"n": 1}]
    assert heard[5] == 1000


def test_idleness_is_told_as_a_timeout_and_the_socket_ends_well(client: TestClient) -> None:
    with client.websocket_connect("/each") as ws:
        assert told(ws) == {
            "type": "x-fal-error",
            "error": "TIMEOUT",
            "reason": "no inputs, reconnect when needed!",
        }
        assert told(ws) == 1000


def test_a_session_that_fails_says_so_and_no_more(client: TestClient) -> None:
    with client.websocket_connect("/stop") as ws:
        ws.send_bytes(packed(x=2))
        assert told(ws) == {"y": 2}
        error = told(ws)
        assert (error["error"], "secret" in str(error)) == ("INTERNAL_ERROR", False)
        assert told(ws) == 1000


def test_an_idle_session_keeps_nothing_of_its_last_input_and_does_not_count_for_it(client: TestClient) -> None:
    tracemalloc.start()
    try:
        with client.websocket_connect("/rt") as ws:
            ws.send_text(json.dumps({"x": 2, "more": "x" * 2_000_000}))
            assert told(ws) == {"y": 4}
            until(lambda: runtime_of(client).inputs.used == 0)
            until(lambda: tracemalloc.get_traced_memory()[0] < 1_000_000)
    finally:
        tracemalloc.stop()


def test_a_client_of_fals_that_leaves_ends_its_session(client: TestClient) -> None:
    with client.websocket_connect("/rt") as ws:
        ws.send_bytes(packed(x=2))
        told(ws)
        (job,) = jobs_of(client)
    until(lambda: job.status == "cancelled")


def test_a_cancelled_session_is_told_so(client: TestClient) -> None:
    with client.websocket_connect("/rt") as ws:
        ws.send_bytes(packed(x=2))
        told(ws)
        client.post(f"/jobs/{jobs_of(client)[0].id}/cancel")
        assert told(ws)["error"] == "CANCELLED"
        assert told(ws) == 1000


@pytest.mark.parametrize("asked", ["0", "61", "-1", "a", "1.5", "", "\u0661", "9" * 5000])
def test_a_buffering_that_is_none_is_refused_before_the_socket_is_open(client: TestClient, asked: str) -> None:
    with pytest.raises(WebSocketDisconnect), client.websocket_connect("/rt", params={"max_buffering": asked}):
        pass


def test_a_client_of_fals_bounds_how_many_inputs_wait(client: TestClient) -> None:
    with client.websocket_connect("/rt", params={"max_buffering": "2"}):
        until(lambda: jobs_of(client) != [])
        (job,) = jobs_of(client)
        assert job.inbox is not None and job.inbox._buffering == 2
    with client.websocket_connect("/newest", params={"max_buffering": "2"}):
        until(lambda: [job for job in jobs_of(client) if job.request.endpoint == "/newest"] != [])
        (job,) = [job for job in jobs_of(client) if job.request.endpoint == "/newest"]
        assert job.inbox is not None and job.inbox._buffering == 1


# Clients of ours


def test_a_client_of_ours_bounds_how_many_inputs_wait_and_is_told_what_it_may_ask_for(client: TestClient) -> None:
    with own(client, "/rt?max_buffering=2") as ws:
        ws.open()
        (job,) = jobs_of(client)
        assert job.inbox is not None and job.inbox._buffering == 2
    with own(client, "/rt?max_buffering=61") as ws:
        assert ws.open()["error"]["message"] == "max_buffering: expected 1 to 60, got '61'"
        assert ws.hear() == 4400


def test_inputs_and_outputs_have_numbers(client: TestClient) -> None:
    with own(client) as ws:
        session = ws.open()
        assert (session["type"], session["received"], session["resume_s"]) == ("session", 0, 10)
        assert len(session["key"]) == 32
        ws.input(1, x=1).input(2, x=2)
        frames = [ws.hear("event"), ws.hear("event")]
    assert [(frame["event"], frame["data"]) for frame in frames] == [("output", {"y": 2}), ("output", {"y": 4})]
    assert [frame["id"] for frame in frames] == [f"{session['job_id']}:1.{n}" for n in (2, 3)]


def test_inputs_may_follow_the_first_frame_at_once(client: TestClient) -> None:
    with own(client) as ws:
        ws.say("open", resume_s=10).input(1, x=1).input(2, x=2).say("finish")
        assert ws.hear()["type"] == "session"
        assert [ws.event() for _ in range(3)][:2] == [("output", {"y": 2}), ("output", {"y": 4})]
        assert ws.hear() == 1000


def test_each_kind_of_event_has_its_name(client: TestClient) -> None:
    with own(client, "/count") as ws:
        ws.open()
        ws.input(1, x=1)
        assert [ws.event()[0] for _ in range(5)] == ["preview", "progress", "log", "output", "done"]
        assert ws.hear() == 1000


def test_sixteen_inputs_are_acknowledged_at_once(client: TestClient) -> None:
    with own(client) as ws:
        ws.open()
        for n in range(1, 17):
            ws.input(n, x=n)
        assert ws.hear("received") == {"type": "received", "n": 16}


def test_a_single_input_is_acknowledged_after_a_while(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("streamapp.sockets.own_socket._RECEIVED_S", 0.001)
    with own(client) as ws:
        ws.open()
        ws.input(1, x=1)
        assert ws.hear("received") == {"type": "received", "n": 1}


def test_a_bad_input_is_told_with_its_number_and_the_session_goes_on(client: TestClient) -> None:
    with own(client) as ws:
        ws.open()
        ws.input(1, y=1).input(2, x=7).input(3, x=1)
        ws.ws.send_text('{"type":"input","n":4,"data":NaN}')
        ws.input(5, x=13)
        heard = [ws.event() for _ in range(5)]
    errors = [(data["input"], data["error"]["code"]) for name, data in heard if name == "input_error"]
    assert sorted(errors) == [
        *((1, "invalid_input"), (2, "endpoint_failed"), (4, "invalid_input"), (5, "endpoint_failed"))
    ]
    assert ("output", {"y": 2}) in heard


def test_a_repeated_input_is_left_alone(client: TestClient) -> None:
    with own(client) as ws:
        ws.open()
        ws.input(1, x=1).input(1, x=1).input(2, x=2).input(1, x=1).say("finish")
        assert [ws.event() for _ in range(3)][:2] == [("output", {"y": 2}), ("output", {"y": 4})]


@pytest.mark.parametrize(
    "text",
    [
        *("hello", "[]", '{"type":"input","n":3,"data":{}}', '{"type":"open"}', '{"type":"input","n":1}'),
        '{"type":"resume","job_id":"a","key":"b"}',
    ],
)
def test_a_malformed_frame_ends_the_session(client: TestClient, text: str) -> None:
    with own(client) as ws:
        job_id = ws.open()["job_id"]
        ws.ws.send_text(text)
        refused = ws.hear("refused")
        assert refused["error"]["code"] == "malformed_request"
        assert ws.hear() == 4400
    assert client.get(f"/jobs/{job_id}").json()["status"] == "cancelled"


def test_a_binary_frame_is_malformed(client: TestClient) -> None:
    with own(client) as ws:
        ws.open()
        ws.ws.send_bytes(b"{}")
        assert "binary" in ws.hear("refused")["detail"]
        assert ws.hear() == 4400


def test_a_type_that_is_not_known_is_left_alone(client: TestClient) -> None:
    with own(client) as ws:
        ws.open()
        ws.say("later").input(1, x=1)
        assert ws.event() == ("output", {"y": 2})


@pytest.mark.parametrize(
    "text",
    [
        *("hello", '{"type":"input","n":1,"data":{}}', '{"type":"later"}'),
        *('{"type":"open","resume_s":-1}', '{"type":"open","key":"short"}'),
    ],
)
def test_anything_but_an_open_or_a_resume_is_no_beginning(client: TestClient, text: str) -> None:
    with own(client) as ws:
        ws.ws.send_text(text)
        assert ws.hear()["type"] == "refused"
        assert ws.hear() == 4400


def test_who_says_nothing_is_not_waited_for(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("streamapp.sockets.own_socket._FIRST_FRAME_S", 0.001)
    with own(client) as ws:
        assert ws.hear()["error"]["code"] == "request_timeout"
        assert ws.hear() == 4400


def test_who_leaves_before_the_first_frame_has_no_session(client: TestClient) -> None:
    with own(client):
        pass
    with own(client) as ws:
        ws.open()


def test_a_client_ends_its_session(client: TestClient) -> None:
    with own(client) as ws:
        ws.open()
        ws.say("cancel")
        assert ws.event()[0] == "cancelled"
        assert ws.hear() == 1000


def test_a_session_that_fails_ends_with_its_error(client: TestClient) -> None:
    with own(client, "/stop") as ws:
        ws.open()
        ws.input(1, x=1)
        assert [ws.event()[0], ws.event()[0]] == ["output", "error"]
        assert ws.hear() == 1000


def test_inputs_that_end_give_the_one_output(client: TestClient) -> None:
    with own(client, "/sum") as ws:
        ws.open()
        ws.input(1, x=1).input(2, x=2).say("finish").say("finish")
        assert ws.event() == ("output", {"sum": 3})


def test_silence_is_broken() -> None:
    with serving(Doubler, heartbeat_s=0.001) as client, own(client) as ws:
        ws.open()
        assert ws.hear() == {"type": "ping"}


# Resuming


def test_a_session_goes_on_over_another_socket(client: TestClient) -> None:
    with own(client) as ws:
        session = ws.open()
        ws.input(1, x=1)
        last = ws.hear("event")["id"]
    with own(client) as ws:
        assert ws.resume(session, last) == {**session, "received": 1}
        ws.input(1, x=1).input(2, x=2)
        assert ws.event() == ("output", {"y": 4})


def test_who_has_heard_nothing_hears_all(client: TestClient) -> None:
    with own(client) as ws:
        session = ws.open()
        ws.input(1, x=1)
        ws.event()
    with own(client) as ws:
        ws.resume(session)
        assert ws.event() == ("output", {"y": 2})


def test_of_a_session_that_has_ended_meanwhile_the_rest_comes(client: TestClient) -> None:
    with own(client) as ws:
        session = ws.open()
        ws.input(1, x=1).say("finish")
        last = [ws.hear("event"), ws.hear("event")][-1]["id"]
    with own(client) as ws:
        ws.resume(session)
        assert [ws.event()[0], ws.event()[0]] == ["output", "done"]
        assert ws.hear() == 1000
    with own(client) as ws:
        assert ws.resume(session, last)["type"] == "session"
        assert ws.hear() == 1000


def test_a_newer_socket_takes_the_session_over(client: TestClient) -> None:
    with own(client) as old, own(client) as new:
        session = old.open()
        assert new.resume(session)["type"] == "session"
        assert old.hear() == 4409
        new.input(1, x=1)
        assert new.event() == ("output", {"y": 2})


@pytest.fixture
def key() -> str:
    return secrets.token_hex(16)


def test_an_open_whose_answer_was_lost_goes_on_with_its_session(client: TestClient, key: str) -> None:
    with own(client) as ws:
        job_id = ws.say("open", resume_s=10, key=key).input(1, x=1).hear("session")["job_id"]
        assert ws.event() == ("output", {"y": 2})
    with own(client) as ws:
        ws.say("open", resume_s=10, key=key).input(1, x=1).input(2, x=2).say("finish")
        session = ws.hear()
        assert session == {"type": "session", "job_id": job_id, "key": key, "received": 1, "resume_s": 10}
        assert [ws.event() for _ in range(3)][:2] == [("output", {"y": 2}), ("output", {"y": 4})]
        assert ws.hear() == 1000
    with own(client) as ws:
        assert ws.open(key=key) == {**session, "received": 2}
        assert [ws.event()[0] for _ in range(3)] == ["output", "output", "done"]
        assert ws.hear() == 1000


def test_a_newer_open_takes_the_session_over(client: TestClient, key: str) -> None:
    with own(client) as old, own(client) as new:
        assert old.open(key=key) == new.open(key=key)
        assert old.hear() == 4409
        new.input(1, x=1)
        assert new.event() == ("output", {"y": 2})


def test_a_session_whose_client_chose_the_key_is_resumed_with_it(client: TestClient, key: str) -> None:
    with own(client) as ws:
        session = ws.open(key=key)
    with own(client) as ws:
        assert ws.resume(session)["key"] == key


def test_the_same_key_at_another_path_is_another_session(client: TestClient, key: str) -> None:
    with own(client) as held, own(client, "/sum") as other, own(client, "/doubler/rt") as same:
        first = held.open(key=key)
        assert other.open(key=key)["job_id"] != first["job_id"]
        assert same.open(key=key) == first


def test_a_session_that_was_refused_is_begun_when_there_is_room(key: str) -> None:
    with serving(Doubler, max_sessions=1) as client:
        with own(client) as held:
            held.open()
            with own(client) as ws:
                assert ws.open(key=key)["error"]["retryable"]
            held.say("cancel")
            assert held.event()[0] == "cancelled"
        with own(client) as ws:
            assert ws.open(key=key)["received"] == 0


def test_a_session_that_is_kept_no_more_is_begun_anew(key: str) -> None:
    with serving(Doubler, job_ttl_s=0.001) as client:
        with own(client) as ws:
            first = ws.open(key=key)
            ws.say("cancel")
            assert ws.event()[0] == "cancelled"
        until(lambda: client.get(f"/jobs/{first['job_id']}").status_code == 404)
        with own(client) as ws:
            assert ws.open(key=key)["job_id"] != first["job_id"]
            assert ws.input(1, x=1).event() == ("output", {"y": 2})


@pytest.mark.parametrize(
    "changed", [{"key": "0" * 32}, {"key": ""}, {"key": "é"}, {"job_id": "0" * 32}, {"job_id": ""}, {"job_id": "../x"}]
)
def test_an_unknown_session_and_a_wrong_key_are_told_alike(client: TestClient, changed: dict[str, str]) -> None:
    with own(client) as held:
        session = held.open()
        with own(client) as ws:
            refused = ws.resume(session, **changed)
            assert (refused["type"], refused["error"]["code"]) == ("refused", "job_not_found")
            assert ws.hear() == 4404
        held.input(1, x=1)
        assert held.event() == ("output", {"y": 2})


@pytest.mark.parametrize("last", ["{job}:1.99", "x", "00000000000000000000000000000000:1.1", "", "{job}:0.1"])
def test_an_event_that_was_not_is_no_place_to_go_on_from(client: TestClient, last: str) -> None:
    with own(client) as held:
        session = held.open()
        with own(client) as ws:
            assert ws.resume(session, last.format(job=session["job_id"]))["type"] == "refused"
            assert ws.hear() == 4400
        held.input(1, x=1)
        assert held.event() == ("output", {"y": 2})


def test_a_session_is_resumed_at_its_own_path_alone(client: TestClient) -> None:
    with own(client) as held:
        session = held.open()
        with own(client, "/sum") as ws:
            assert ws.resume(session)["error"]["code"] == "job_not_found"
            assert ws.hear() == 4404
        with own(client, "/doubler/rt") as ws:
            assert ws.resume(session)["type"] == "session"


def test_a_job_that_is_no_session_is_not_resumed(client: TestClient) -> None:
    with client.websocket_connect("/rt") as fals:
        fals.send_bytes(packed(x=1))
        told(fals)
        with own(client) as ws:
            ws.resume({"job_id": jobs_of(client)[0].id, "key": "0" * 32})
            assert ws.hear() == 4404


def test_a_session_waits_for_its_socket_no_longer_than_its_window(client: TestClient) -> None:
    with own(client, "/short") as ws:
        session = ws.open(600)
        assert session["resume_s"] == 0.001
    until(lambda: client.get(f"/jobs/{session['job_id']}").json()["status"] == "cancelled")


def test_without_a_window_a_session_ends_with_its_socket(client: TestClient) -> None:
    with own(client) as ws:
        session = ws.open(0)
    until(lambda: client.get(f"/jobs/{session['job_id']}").json()["status"] == "cancelled")


def test_who_watches_a_job_does_not_keep_its_session(client: TestClient) -> None:
    with own(client, "/short") as ws:
        session = ws.open(600)
        (job,) = [job for job in jobs_of(client) if job.id == session["job_id"]]
        assert client.portal is not None
        client.portal.call(job.attach)
    until(lambda: job.status == "cancelled")


def test_the_key_is_in_no_log_and_no_event(client: TestClient, caplog: pytest.LogCaptureFixture, key: str) -> None:
    with caplog.at_level(logging.DEBUG), own(client) as ws:
        session = ws.open(key=key)
        ws.input(1, x=1)
        ws.event()
        ws.say("cancel")
        assert ws.event()[0] == "cancelled"
    assert session["key"] not in caplog.text
    assert session["key"] not in client.get(f"/jobs/{session['job_id']}/events?_events=all").text
    assert session["key"] not in client.get(f"/jobs/{session['job_id']}").text


# Bounds


@pytest.mark.parametrize("subprotocols", [None, OWN])
def test_too_many_sessions_are_refused(subprotocols: list[str] | None) -> None:
    with serving(Doubler, max_sessions=1) as client, own(client) as held:
        held.open()
        if subprotocols is None:
            with pytest.raises(WebSocketDisconnect), client.websocket_connect("/rt"):
                pass
        else:
            with own(client) as ws:
                assert ws.open()["error"]["retryable"]
                assert ws.hear() == 1013


def test_a_place_is_given_back_with_the_session() -> None:
    with serving(Doubler, max_sessions=1) as client:
        for _ in range(3):
            with client.websocket_connect("/rt") as ws:
                ws.send_bytes(packed(x=1))
                assert told(ws) == {"y": 2}
                (job,) = jobs_of(client)
            until(lambda job=job: job.is_over)  # type: ignore[misc]


@pytest.mark.parametrize("message", [{"bytes": b"a" * 101}, {"text": "é" * 51}])
def test_a_message_that_is_too_large_ends_the_socket(message: dict[str, Any]) -> None:
    with serving(Doubler, max_message_bytes=100) as client, client.websocket_connect("/rt") as ws:
        ws.send({"type": "websocket.receive", **message})
        assert told(ws) == 1009


def test_a_first_frame_that_is_too_large_ends_the_socket() -> None:
    with serving(Doubler, max_message_bytes=100) as client, own(client) as ws:
        ws.say("open", more="a" * 100)
        assert ws.hear() == 1009


def test_inputs_are_counted_until_they_are_done() -> None:
    class Waiting(streamapp.App):
        gate = Gate()

        @streamapp.realtime("/rt")
        async def wait(self, input: dict[str, Any]) -> bool:
            await asyncio.to_thread(self.gate)
            return True

    with serving(Waiting) as waiting, waiting.websocket_connect("/rt") as ws:
        for _ in range(3):
            ws.send_bytes(packed(data=b"a" * 1000))
        until(lambda: runtime_of(waiting).inputs.used > 3000)
        Waiting.gate.opened.set()
        for _ in range(3):
            assert told(ws) is True
        until(lambda: runtime_of(waiting).inputs.used < 1200)


def test_what_an_ended_session_has_of_inputs_is_given_back() -> None:
    with serving(Doubler) as client, own(client) as ws:
        ws.open()
        ws.input(1, x=1)
        ws.event()
        ws.say("cancel")
        ws.event()
        until(lambda: runtime_of(client).inputs.used == 0)


def test_an_input_for_which_there_is_no_room_is_refused_alone() -> None:
    with serving(Doubler, max_input_bytes=2000) as client, client.websocket_connect("/rt") as ws:
        ws.send_bytes(packed(x=1, more=b"a" * 3000))
        assert told(ws)["error"] == "PAYLOAD_TOO_LARGE"
        ws.send_bytes(packed(x=1))
        assert told(ws) == {"y": 2}


def test_a_drain_refuses_sockets_and_ends_idle_ones() -> None:
    with serving(Doubler, drain_s=5) as client, own(client) as ws, own(client) as late:
        ws.open()
        drain(client)
        assert ws.event()[0] == "error"
        assert ws.hear() == 1012
        assert late.open()["error"]["code"] == "draining"
        assert late.hear() == 1012


@pytest.mark.parametrize("name", [*(name for name in SITUATIONS if name.startswith("refused")), "cancel", "draining"])
def test_what_ends_a_session_is_said_as_in_the_fixtures_to_the_byte(name: str) -> None:
    with serving(Doubler, max_sessions=1, drain_s=5) as client, own(client) as first, own(client) as ws:
        if name == "refused-full":
            first.open()
        elif name == "refused-draining":
            drain(client)
        for frame in SITUATIONS[name]:
            if frame["from"] == "client":
                ws.ws.send_text(frame["text"])
                continue
            if name == "draining" and '"draining"' in frame.get("text", ""):
                drain(client)
            said = ws.ws.receive()
            if "close" in frame:
                assert (said["code"], said["reason"]) == (frame["close"], frame["reason"])
            else:
                assert ANY_ID.sub(r'"\1":"', said["text"]) == ANY_ID.sub(r'"\1":"', frame["text"])


# Clients that do not read, leave, or come back at a bad time


class Lent(FakeWire):
    """A client, and the server that lends its connection: what it says is queued, what it hears is in `sent`."""

    def __init__(self, api: Any, path: str, *subprotocols: str, query: bytes = b"") -> None:
        super().__init__()
        self.said: asyncio.Queue[Message] = asyncio.Queue()
        self.said.put_nowait({"type": "websocket.connect"})
        scope = {
            "type": "websocket",
            "path": path,
            "query_string": query,
            "headers": [],
            "subprotocols": list(subprotocols),
            "extensions": {WIRE_EXTENSION: self},
        }
        self.task = asyncio.create_task(api(scope, self.said.get, self.send))

    async def send(self, message: Message) -> None:
        self.sent.append(message["type"])

    def say(self, message: bytes | str) -> None:
        self.said.put_nowait({"type": "websocket.receive", "bytes" if isinstance(message, bytes) else "text": message})

    def leave(self) -> None:
        self.is_open = False
        self.said.put_nowait({"type": "websocket.disconnect", "code": 1005})

    def read(self) -> None:
        """Take all that waits."""
        self.unsent_bytes = 0
        self.on_writable()

    async def heard(self, what: Any) -> None:
        """Wait until something was sent: a frame that holds it, or an end."""
        await soon(lambda: any(self._is(what, sent) for sent in self.sent))

    def _is(self, what: Any, sent: Any) -> bool:
        return what in sent if isinstance(sent, bytes) and isinstance(what, bytes) else bool(what == sent)


async def soon(is_true: Callable[[], bool]) -> None:
    await asyncio.to_thread(until, is_true)


@asynccontextmanager
async def lending(*apps: Any, **settings: Any) -> AsyncIterator[Any]:
    api = streamapp.compile_app(*apps, settings=Settings(**{"drain_s": 0, **settings}))
    async with api.router.lifespan_context(api):
        yield api


async def only_job(api: Any) -> Job:
    """Return the session's job, once there is one."""
    await soon(lambda: jobs_in(api) != [])
    (job,) = jobs_in(api)
    return job


def jobs_in(api: Any) -> list[Job]:
    return list(api.state.runtime.jobs)


async def test_by_the_servers_own_connection_an_output_is_sent_at_once() -> None:
    async with lending(Doubler) as api:
        client = Lent(api, "/rt")
        client.say(packed(x=2))
        await client.heard(packed(y=4))
        client.say(packed(x=3))
        await client.heard(packed(y=6))
        client.leave()
        await client.task


@pytest.mark.parametrize("query", [b"", b"max_buffering=0"])
@pytest.mark.parametrize("subprotocols", [[], OWN])
async def test_a_client_that_leaves_during_the_handshake_is_no_error(query: bytes, subprotocols: list[str]) -> None:
    class Gone(Lent):
        async def send(self, message: Message) -> None:
            raise ConnectionAbortedError

    async with lending(Doubler) as api:
        client = Gone(api, "/rt", *subprotocols, query=query)
        await client.task
        assert client.sent == []


async def test_of_outputs_that_come_together_none_is_lost_where_they_fill_the_connection(
    advance: Callable[[float], None],
) -> None:
    async with lending(Doubler) as api:
        client = Lent(api, "/rt")
        client.say('{"x":1}')
        await client.heard(b'{"y":2}')
        channel, before = (await only_job(api)).channel, len(client.sent)
        client.fills = True
        advance(0.1)  # since it was served: what comes now is delivered while its task sleeps

        def emit() -> None:
            for n in range(5):
                channel.emit(to_event({"n": n}))

        thread = threading.Thread(target=emit)
        thread.start()
        thread.join()
        await soon(lambda: len(client.sent) > before)
        client.fills = False
        client.read()
        client.say('{"x":2}')
        await client.heard(b'{"y":4}')
        assert b"".join(client.sent[before:-1]) == b"".join(text_frame(b'{"n":%d}' % n) for n in range(5))
        client.leave()
        await client.task


class Showing(streamapp.App):
    @streamapp.realtime("/rt")
    async def show(self, input: dict[str, int], stream: streamapp.Stream) -> dict[str, int]:
        for n in range(input["n"]):
            await stream.aemit(streamapp.Preview({"preview": n}))
        return {"output": input["n"]}


async def test_a_client_that_is_slow_gets_the_newest_preview_when_it_reads() -> None:
    async with lending(Showing) as api:
        client = Lent(api, "/rt")
        client.fills = True
        client.say('{"n":50}')
        job = await only_job(api)
        await soon(lambda: job.channel.last_n >= 52)
        client.fills = False
        client.read()
        await client.heard(b'{"output":50}')
        told = b"".join(client.sent[1:])
        assert told.endswith(text_frame(b'{"preview":49}') + text_frame(b'{"output":50}'))
        assert told.count(b"preview") <= 3  # of 50: one that was sent, one that was refused as the first was on its way
        client.leave()
        await client.task


async def test_a_client_that_reads_nothing_is_cut_and_its_session_ends() -> None:
    async with lending(Doubler, send_timeout_s=0.01) as api:
        client = Lent(api, "/rt")
        job = await only_job(api)
        client.unsent_bytes = 1
        client.say(packed(x=2))
        await client.heard("abort")
        await client.task
        assert job.status == "cancelled"


async def test_a_client_for_whom_the_session_has_waited_too_long_is_cut() -> None:
    class Slow(Lent):
        left = 10_000_000_000
        is_slow = False

        @property
        def unsent_bytes(self) -> int:
            self.left -= 100_000
            return self.left if self.is_slow else 0

        @unsent_bytes.setter
        def unsent_bytes(self, value: int) -> None:
            self.is_slow = value > 0

    async with lending(Doubler, send_timeout_s=0.01, ahead_events=1) as api:
        client = Slow(api, "/rt")
        await soon(lambda: client.sent != [])
        client.unsent_bytes = 1
        for n in range(5):
            client.say(packed(x=n))
        job = await only_job(api)
        await soon(lambda: job.channel.last_n >= 6)
        client.read()
        await client.heard("abort")
        await client.task


async def test_an_open_that_comes_again_while_its_session_is_begun_begins_no_other() -> None:
    class Slow(MemoryStore):
        gate = Gate()

        async def add(self, record: JobRecord) -> JobRecord:
            await asyncio.to_thread(self.gate)
            return await super().add(record)

    api = streamapp.compile_app(Doubler, settings=Settings(drain_s=0), store=(store := Slow()))
    async with api.router.lifespan_context(api):
        old = Lent(api, "/rt", *OWN)
        old.say(opening := json.dumps({"type": "open", "resume_s": 60, "key": "0" * 32}))
        await asyncio.to_thread(Slow.gate.wait)
        new = Lent(api, "/rt", *OWN)
        for said in (opening, '{"type":"input","n":1,"data":{"x":1}}', '{"type":"finish"}'):
            new.say(said)
        Slow.gate.opened.set()
        await old.heard((4409, "resumed by another socket"))
        await new.heard((1000, ""))
        await asyncio.gather(old.task, new.task)
    assert len(store.records) == 1


async def test_what_is_wrong_with_an_input_is_told_over_the_next_socket_where_it_could_not_be_before() -> None:
    async with lending(Doubler, ahead_events=1) as api:
        old = Lent(api, "/rt", *OWN)
        opening = json.dumps({"type": "open", "resume_s": 60, "key": "0" * 32})
        inputs = [json.dumps({"type": "input", "n": n, "data": {"y": 1}}) for n in range(1, 9)]
        old.say(opening)
        await old.heard(b'"session"')
        old.unsent_bytes = 1
        for said in inputs:
            old.say(said)
        job = await only_job(api)
        await soon(lambda: job.channel.last_n >= 2)
        new = Lent(api, "/rt", *OWN)
        for said in (opening, *inputs, '{"type":"finish"}'):
            new.say(said)
        await new.heard((1000, ""))
        told = b"".join(frame for frame in new.sent if isinstance(frame, bytes))
        assert [told.count(b'"input":%d}' % n) for n in range(1, 9)] == [1] * 8
        old.read()
        await asyncio.gather(old.task, new.task)


async def test_a_client_that_leaves_while_its_inputs_wait_ends_its_session() -> None:
    class Busy(streamapp.App):
        gate = Gate()

        @streamapp.realtime("/rt")
        async def work(self, input: dict[str, int]) -> dict[str, int]:
            await asyncio.to_thread(self.gate)
            return input

    async with lending(Busy) as api:
        client = Lent(api, "/rt")
        for n in range(100):
            client.say(packed(x=n))
        job = await only_job(api)
        await soon(lambda: client.said.qsize() < 40)
        client.leave()  # which nobody hears who reads one message after another
        Busy.gate.opened.set()
        await client.task
        assert job.status == "cancelled"
        assert client.said.qsize() > 20


async def test_what_is_in_is_told_when_the_client_reads_again() -> None:
    async with lending(Doubler) as api:
        client = Lent(api, "/rt", *OWN)
        client.say('{"type":"open","resume_s":10}')
        await client.heard(b'"session"')
        client.unsent_bytes = 1
        for n in range(1, 33):
            client.say(f'{{"type":"input","n":{n},"data":{{"x":1}}}}')
        job = await only_job(api)
        await soon(lambda: job.channel.last_n >= 33)
        client.read()
        await client.heard(b'{"type":"received","n":32}')
        client.leave()
        await client.task


async def test_what_our_own_code_raises_ends_the_socket_alone(caplog: pytest.LogCaptureFixture) -> None:
    async with lending(Doubler) as api:
        client = Lent(api, "/rt")
        client.said.put_nowait({})  # no message of ASGI's
        await client.task
        assert (1011, "the server is to blame") in client.sent
        client = Lent(api, "/rt")
        client.say(packed(x=2))
        await client.heard(packed(y=4))
        client.leave()
        await client.task


async def test_what_a_client_says_to_a_session_that_has_just_ended_is_no_error() -> None:
    async with lending(Doubler) as api:
        client = Lent(api, "/rt")
        client.say(packed(x=2))
        await client.heard(packed(y=4))
        job = await only_job(api)
        client.say(packed())
        job.cancel()
        await client.task
        assert [sent for sent in client.sent if isinstance(sent, bytes) and b"INVALID_INPUT" in sent] == []
        assert (1000, "") in client.sent


async def test_errors_of_inputs_wait_until_the_client_reads() -> None:
    async with lending(Doubler, ahead_events=1) as api:
        client = Lent(api, "/rt")
        await only_job(api)
        await soon(lambda: client.sent != [])
        client.unsent_bytes = 1
        for _ in range(4):
            client.say(packed())
        await soon(lambda: client.said.qsize() <= 2)
        client.read()
        await client.heard(b'"input":4')
        client.leave()
        await client.task


class Held(streamapp.App):
    gate = Gate()

    @streamapp.realtime("/rt")
    async def hold(self, input: In) -> dict[str, int]:
        await asyncio.to_thread(self.gate)
        return {"y": input.x}


async def test_an_input_that_waits_for_room_comes_once_where_another_socket_brings_it_again() -> None:
    Held.gate = Gate()
    async with lending(Held) as api:
        old, new = Lent(api, "/rt", *OWN), Lent(api, "/rt", *OWN)
        inputs = [f'{{"type":"input","n":{n},"data":{{"x":{n + 100}}}}}' for n in range(1, 71)]
        for text in ('{"type":"open","resume_s":10}', *inputs):
            old.say(text)
        job = await only_job(api)
        await soon(lambda: old.said.qsize() == 4)
        session = json.loads(old.sent[1][old.sent[1].index(b"{") :])
        new.say(json.dumps({"type": "resume", "job_id": session["job_id"], "key": session["key"]}))
        await new.heard(b'"received":65')
        for text in inputs[65:]:
            new.say(text)
        new.say('{"type":"finish"}')
        Held.gate.opened.set()
        await asyncio.gather(old.task, new.task)
        outputs = [event.json()["y"] for event in job.channel.events() if event.kind == "output"]
        assert outputs == list(range(101, 171))
        assert (4409, "resumed by another socket") in old.sent


async def test_a_bad_input_is_told_while_the_app_is_not_ready() -> None:
    class Starting(Held):
        ready = Gate()

        async def setup(self) -> None:
            await asyncio.to_thread(self.ready)

    async with lending(Starting) as api:
        client = Lent(api, "/rt")
        client.say(packed())
        await client.heard(b'"input":1')
        Starting.ready.opened.set()
        client.leave()
        await client.task


# What an app brings


def test_an_apps_own_messages_go_as_it_says() -> None:
    class Own(streamapp.App):
        @streamapp.realtime(
            "/rt", encode_message=lambda value: repr(value).encode(), decode_message=lambda m: {"x": int(m)}
        )
        async def double(self, input: In) -> dict[str, int]:
            return {"y": 2 * input.x}

    with serving(Own) as client, client.websocket_connect("/rt") as ws:
        ws.send_bytes(b"4")
        assert ws.receive_bytes() == b"{'y': 8}"
        ws.send_bytes(b"four")
        assert told(ws)["error"] == "INVALID_INPUT"


def test_an_output_that_an_app_cannot_encode_is_told_and_the_session_goes_on() -> None:
    def encode(value: Any) -> bytes:
        return b"%d" % (1 // value["y"])

    class Own(streamapp.App):
        @streamapp.realtime("/rt", encode_message=encode)
        async def double(self, input: In) -> dict[str, int]:
            return {"y": input.x}

    with serving(Own) as client, client.websocket_connect("/rt") as ws:
        ws.send_bytes(packed(x=0))
        assert told(ws)["error"] == "INTERNAL_ERROR"
        ws.send_bytes(packed(x=1))
        assert ws.receive_bytes() == b"1"


class Pictures(streamapp.App):
    @streamapp.realtime("/rt")
    async def turn(self, image: streamapp.Image, raw: bytes = b"") -> dict[str, Any]:
        return {"image": image, "raw": raw}


@pytest.mark.parametrize("image", [f"data:image/png;base64,{PNG}", base64.b64decode(PNG)], ids=["data URI", "bytes"])
def test_media_come_as_messages_bring_them(image: Any) -> None:
    with serving(Pictures) as client, client.websocket_connect("/rt") as ws:
        ws.send_bytes(packed(image=image, raw=b"\0\xff"))
        output = told(ws)
        assert (output["image"]["width"], output["raw"]) == (2, b"\0\xff")


@pytest.mark.parametrize(
    ("base_url", "begins"), [("ws://a.test", "http://a.test/files/"), ("wss://a.test", "https://a.test/files/")]
)
def test_files_of_outputs_are_at_urls_of_http(base_url: str, begins: str) -> None:
    with serving(Pictures, media="url") as client, client.websocket_connect(f"{base_url}/rt") as ws:
        ws.send_bytes(packed(image=f"data:image/png;base64,{PNG}"))
        assert told(ws)["image"]["url"].startswith(begins)
