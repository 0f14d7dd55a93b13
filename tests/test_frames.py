"""Framing: the bytes of each format."""

import pytest

from streamapp.errors import ErrorReport
from streamapp.http import frames
from streamapp.jobs.events import ATTEMPT, Event, EventId, Output, Preview, Progress, terminal, to_event

JOB = "0123456789abcdef" * 2
PREFIX = f"{JOB}:1.".encode()


def numbered(*events: Event) -> list[Event]:
    for n, event in enumerate(events, 1):
        event.n = n
    return list(events)


def test_a_named_block_has_event_id_and_data() -> None:
    events = numbered(to_event({"a": 1}), to_event(Progress(1, 4)))
    assert frames.sse(events, PREFIX, is_named=True) == (
        b'event: output\nid: %b1\ndata: {"a":1}\n\nevent: progress\nid: %b2\ndata: {"step":1,"total":4}\n\n'
        % (PREFIX, PREFIX)
    )


def test_the_apps_own_name_is_the_events_name() -> None:
    assert frames.sse(numbered(to_event(Output("a", "token"))), PREFIX, is_named=True).startswith(b"event: token\n")


def test_an_unnamed_block_reaches_onmessage() -> None:
    assert frames.sse(numbered(to_event({"a": 1})), PREFIX, is_named=False) == b'id: %b1\ndata: {"a":1}\n\n' % PREFIX


@pytest.mark.parametrize("kind", ["error", "cancelled"])
def test_an_ending_has_its_name_also_among_unnamed_blocks(kind: str) -> None:
    ending = terminal(kind, ErrorReport(500, "endpoint_failed", "it broke"))  # type: ignore[arg-type]
    framed = frames.sse(numbered(ending), PREFIX, is_named=False)
    assert framed.startswith(b"event: %b\nid: %b1\ndata: {" % (kind.encode(), PREFIX))


def test_a_line_break_in_a_payload_does_not_break_the_block() -> None:
    framed = frames.sse(numbered(to_event("a\r\nb\n\ndata: c")), PREFIX, is_named=True)
    assert framed.count(b"\n") == 4
    assert framed.count(b"data: ") == 2  # the second inside the JSON string, not at a line's start


def test_the_first_block_of_a_get_stream_carries_an_id_and_the_retry_time() -> None:
    assert frames.sse_job(EventId(JOB, 1, 0), b"{}", retry_ms=1000) == (
        b"event: job\nid: %b0\nretry: 1000\ndata: {}\n\n" % PREFIX
    )


def test_a_state_has_no_place_in_the_log() -> None:
    assert frames.sse_state(b"{}") == b"event: job\ndata: {}\n\n"


def test_the_end_of_an_idle_stream_has_no_place_in_the_log() -> None:
    assert frames.sse_timeout(b"{}") == b"event: timeout\ndata: {}\n\n"


def test_ndjson_is_one_value_a_line() -> None:
    assert frames.ndjson(numbered(to_event({"a": 1}), to_event("b"))) == b'{"a":1}\n"b"\n'


def test_text_is_the_strings_as_they_are_and_other_outputs_as_lines() -> None:
    events = numbered(to_event("Hel"), to_event(Preview({"a": 1})), to_event("lo\n"), to_event([1]))
    assert frames.text(events) == b"Hello\n[1]\n"


def test_null_is_no_text() -> None:
    assert frames.text([to_event(None)]) == b""


def test_a_string_that_is_no_unicode_is_replaced_in_text() -> None:
    assert frames.text([Event("output", b'""', text="a\ud800")]) == "a�".encode()


def test_events_of_a_later_attempt_have_its_number_in_their_ids() -> None:
    first, restarted, second = to_event("a"), Event("restarted", b"{}"), to_event("b")
    first.n, restarted.n, second.n = 7, ATTEMPT + 1, ATTEMPT + 2
    framed = frames.sse([first, restarted, second], PREFIX, is_named=True).decode()
    ids = [line for line in framed.splitlines() if line.startswith("id: ")]
    assert ids == [f"id: {JOB}:1.7", f"id: {JOB}:2.1", f"id: {JOB}:2.2"]
    unnamed = frames.sse([first, restarted, second], PREFIX, is_named=False).decode()
    assert [line for line in unnamed.splitlines() if line.startswith("event: ")] == ["event: restarted"]
