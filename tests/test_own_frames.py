"""The frames of sessions, against the byte fixtures in tests/wire/session.json."""

import json
from pathlib import Path
from typing import Any

import pytest

from streamapp.errors import ErrorReport, MalformedRequest
from streamapp.jobs.events import ATTEMPT, Event, Output, to_event
from streamapp.sockets import own_frames
from streamapp.sockets.own_frames import Cancel, Finish, Input, Open, Resume, read

SITUATIONS = json.loads((Path(__file__).parent / "wire" / "session.json").read_text())["situations"]
SENT = [frame["text"] for situation in SITUATIONS for frame in situation["frames"] if "text" in frame]
JOB, KEY = "0123456789ab4def0123456789ab4def", "fedcba98765432100123456789abcdef"
pytestmark = pytest.mark.whole


def placed(event: Event, n: int) -> Event:
    event.n = n
    return event


def frames_of(side: str, type_: str) -> set[str]:
    frames = [f for situation in SITUATIONS for f in situation["frames"] if f["from"] == side and "text" in f]
    return {frame["text"] for frame in frames if f'"type":"{type_}"' in frame["text"]}


def test_every_frame_of_a_client_in_the_fixtures_is_read() -> None:
    by_type = {"open": Open, "resume": Resume, "input": Input, "finish": Finish, "cancel": Cancel}
    for type_, kind in by_type.items():
        texts = frames_of("client", type_)
        assert texts
        assert all(type(read(text)) is kind for text in texts if "secret" not in text)


def test_a_session_is_told_as_in_the_fixtures() -> None:
    told = {own_frames.session(JOB, KEY, received=n, resume_s=s).decode() for n in range(3) for s in (10, 10.0, 60)}
    assert frames_of("server", "session") <= told


def test_what_was_received_is_told_as_in_the_fixtures() -> None:
    assert frames_of("server", "received") <= {own_frames.received(n).decode() for n in range(20)}


def test_every_event_in_the_fixtures_is_framed_to_the_byte() -> None:
    texts = frames_of("server", "event")
    assert len(texts) > 10
    for text in texts:
        told = json.loads(text)
        attempt, n = map(int, told["id"].partition(":")[2].split("."))
        data = json.dumps(told["data"], separators=(",", ":")).encode()
        event = placed(Event("output", data, name=told["event"]), (attempt - 1) * ATTEMPT + n)
        assert own_frames.event(event, JOB.encode()).decode() == text


def test_every_refusal_in_the_fixtures_is_framed_to_the_byte() -> None:
    texts = frames_of("server", "refused")
    assert len(texts) > 5
    for text in texts:
        error = json.loads(text)["error"]
        assert own_frames.refused(ErrorReport(400, **error)).decode() == text


def test_silence_is_broken_as_in_the_fixtures() -> None:
    assert frames_of("server", "ping") == {own_frames.PING.decode()}


def test_an_apps_own_name_is_the_events() -> None:
    framed = own_frames.event(placed(to_event(Output("a", "to/ken")), 2), JOB.encode())
    assert json.loads(framed) == {"type": "event", "event": "to/ken", "id": f"{JOB}:1.2", "data": "a"}


@pytest.mark.parametrize(
    "text",
    [
        *("", "hello", "[]", "1", "null", "{}", '{"type":1}', '{"type":null}', '{"Type":"open"}', '"open"', "\ud800"),
        *('{"type":"open","resume_s":-1}', '{"type":"open","resume_s":"10"}', '{"type":"open","resume_s":true}'),
        *('{"type":"open","resume_s":NaN}', '{"type":"open","resume_s":null}'),
        *('{"type":"open","key":1}', '{"type":"open","key":[]}', '{"type":"open","key":""}'),
        *(
            f'{{"type":"open","key":"{key}"}}'
            for key in ("a" * 31, "a" * 33, "g" * 32, "\\u0661" * 32, "a" * 31 + "\\n")
        ),
        *('{"type":"input"}', '{"type":"input","n":1}', '{"type":"input","data":1}', '{"type":"input","n":0,"data":1}'),
        *(
            '{"type":"input","n":true,"data":1}',
            '{"type":"input","n":1.0,"data":1}',
            '{"type":"input","n":"1","data":1}',
        ),
        *('{"type":"input","n":-1,"data":1}', '{"type":"input","n":0,"data":NaN}', '{"type":"input","n":'),
        *('{"type":"resume"}', '{"type":"resume","job_id":"a"}', '{"type":"resume","job_id":1,"key":"a"}'),
        '{"type":"resume","job_id":"a","key":"b","last_event_id":1}',
        "[" * 300,
        "[1" + ",1" * 2_000_000,
    ],
)
def test_what_is_no_frame_is_refused_with_words(text: str) -> None:
    with pytest.raises(MalformedRequest, match="expected"):
        read(text)


@pytest.mark.parametrize("text", ['{"type":"later"}', '{"type":"session"}', '{"type":"ping","n":1}'])
def test_a_type_that_is_not_known_is_left_alone(text: str) -> None:
    assert read(text) is None


def test_keys_come_in_any_order_and_others_are_left_alone() -> None:
    given = read('{"data":{"a":1},"later":2,"n":7,"type":"input"}')
    assert isinstance(given, Input) and (given.n, given.data) == (7, {"a": 1})


def test_an_open_without_a_time_waits_for_nobody() -> None:
    assert read('{"type":"open"}') == read('{"type":"open","key":null}') == Open(0)


@pytest.mark.parametrize("key", [KEY, KEY.upper()])
def test_an_open_may_bring_a_key(key: str) -> None:
    assert read(f'{{"type":"open","resume_s":1,"key":"{key}"}}') == Open(1, key)


def test_a_key_that_is_refused_is_not_shown() -> None:
    with pytest.raises(MalformedRequest) as caught:
        read('{"type":"open","key":"mysecret"}')
    assert "mysecret" not in str(caught.value)


@pytest.mark.parametrize(
    "data", ["NaN", '"\\ud800"', "[" * 300 + "]" * 300, "{", "Infinity", "[1" + ",1" * 2_000_000 + "]", "1e", "01"]
)
def test_data_that_cannot_be_read_is_told_of_its_input_alone(data: str) -> None:
    given = read(f'{{"type":"input","n":1,"data":{data}}}')
    assert isinstance(given, Input) and given.n == 1
    assert given.problem is not None and given.problem.code in ("invalid_input", "payload_too_large")


def test_an_input_counts_with_its_values() -> None:
    small, large = read('{"type":"input","n":1,"data":[1]}'), read(f'{{"type":"input","n":1,"data":{[1] * 100_000}}}')
    assert isinstance(small, Input) and small.size == 33
    assert isinstance(large, Input) and large.size > 6_000_000


def test_integers_are_exact() -> None:
    given: Any = read(f'{{"type":"input","n":1,"data":{2**80}}}')
    assert given.data == 2**80
