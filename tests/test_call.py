"""Calls: what a job needs to know of a request, read from its scope in one pass."""

import json
import pickle
from typing import Any

import pytest
from starlette.testclient import TestClient
from tests.served import names

from streamapp.errors import MalformedRequest
from streamapp.http.call import CALLER, Call, header_in, nameless_in, payer_in
from streamapp.jobs.job import Origin

SERVER = ("127.0.0.1", 8000)


def scope(*headers: tuple[str, str], method: str = "POST", **others: Any) -> dict[str, Any]:
    raw = [(name.lower().encode(), value.encode("latin-1")) for name, value in headers]
    return {"type": "http", "method": method, "path": "/x", "query_string": b"", "headers": raw, **others}


def call(*headers: tuple[str, str], method: str = "POST", **others: Any) -> Call:
    return Call.of(scope(*headers, method=method, **others))


def test_a_request_without_headers_asks_for_nothing() -> None:
    plain = call()
    assert (plain.accept, plain.content_type, plain.last_event_id, plain.key) == ("", None, "", None)
    assert (plain.start_timeout_s, plain.resume_window_s, plain.prefers_async) == (None, None, False)
    assert (plain.is_low_priority, plain.caller, plain.is_get, plain.headers) == (False, "", False, b"")


def test_a_call_is_plain_data_that_does_not_change() -> None:
    told = call(("Accept", "text/plain"), ("X-Other", "é"), server=SERVER)
    assert pickle.loads(pickle.dumps(told)) == told
    assert json.dumps(told._asdict(), default=repr)
    with pytest.raises(AttributeError):
        told.accept = ""  # type: ignore[misc]


def test_the_first_of_several_headers_counts() -> None:
    assert call(("Accept", "a"), ("Accept", "b")).accept == "a"


def test_all_headers_are_kept_as_they_came() -> None:
    assert call(("A", "1"), ("b", "é"), ("A", "2")).headers == b"a:1\nb:\xe9\na:2"


def test_one_header_is_found_in_a_list() -> None:
    headers = [(b"a", b"1"), (b"b", b"2"), (b"b", b"3")]
    assert (header_in(headers, b"b"), header_in(headers, b"c")) == (b"2", None)


def test_whoever_knows_the_caller_says_it_in_the_scope() -> None:
    assert call(**{CALLER: "key-1"}).caller == "key-1"


# What headers mean


@pytest.mark.parametrize(
    ("prefer", "is_async"),
    [
        (["respond-async"], True),
        (["Respond-Async; wait=10"], True),
        (["return=minimal, respond-async"], True),
        (["return=minimal", "respond-async"], True),
        (["respond-asynchronously"], False),
        (["wait=respond-async"], False),
    ],
)
def test_a_job_that_runs_on_is_asked_for_by_any_preference(prefer: list[str], is_async: bool) -> None:
    assert call(*(("Prefer", value) for value in prefer)).prefers_async == is_async


@pytest.mark.parametrize(("priority", "is_low"), [("low", True), (" LOW ", True), ("normal", False)])
def test_a_low_priority_is_asked_for_by_its_name(priority: str, is_low: bool) -> None:
    assert call(("X-Fal-Queue-Priority", priority)).is_low_priority == is_low


@pytest.mark.parametrize(
    ("flag", "is_wanted"), [("1", True), ("true", True), ("0", False), (" False", False), ("", False)]
)
def test_the_last_event_alone_is_wanted_by_its_header(flag: str, is_wanted: bool) -> None:
    assert call(("X-Fal-SSE-Last-Event-As-Body", flag)).wants_last_event == is_wanted


def test_seconds_are_read_as_numbers() -> None:
    told = call(("Streamapp-Resume", "2.5"), ("X-Fal-Request-Timeout", "30"))
    assert (told.resume_window_s, told.start_timeout_s) == (2.5, 30)


@pytest.mark.parametrize(
    ("method", "headers", "comes_back"),
    [
        ("GET", [], True),
        ("POST", [], False),
        ("POST", [("Accept", "text/event-stream")], False),
        ("POST", [("Accept", "text/event-stream"), ("Origin", "https://a.example")], True),
        ("POST", [("Accept", "text/event-stream"), ("Sec-Fetch-Mode", "cors")], True),
        ("POST", [("Accept", "*/*"), ("Origin", "https://a.example")], False),
    ],
)
def test_a_page_that_names_sse_alone_comes_back_as_event_source_does(
    method: str, headers: list[tuple[str, str]], comes_back: bool
) -> None:
    assert call(*headers, method=method).comes_back == comes_back


def test_a_job_that_may_not_wait_waits_for_a_moment() -> None:
    assert call(("X-Fal-Request-Timeout", "0")).start_timeout_s == 0.001


@pytest.mark.parametrize("text", ["", "soon", "-1", "inf", "nan"])
def test_what_is_no_number_of_seconds_is_refused(text: str) -> None:
    told = call(("Streamapp-Resume", text), ("X-Fal-Request-Timeout", text))
    with pytest.raises(MalformedRequest, match=r"^Streamapp-Resume: expected seconds, 0 or more, got '"):
        _ = told.resume_window_s
    with pytest.raises(MalformedRequest, match=r"^X-Fal-Request-Timeout: expected seconds, 0 or more, got '"):
        _ = told.start_timeout_s


def test_a_request_that_may_come_again_has_a_key() -> None:
    assert call(("Idempotency-Key", "k" * 255)).key == "k" * 255


@pytest.mark.parametrize("key", ["", "k" * 256])
def test_a_key_that_is_too_long_or_empty_is_refused(key: str) -> None:
    with pytest.raises(MalformedRequest, match=f"expected 1 to 255 characters, got {len(key)}$"):
        _ = call(("Idempotency-Key", key)).key


@pytest.mark.parametrize(("sent", "form"), [("url", "url"), (" Inline ", "inline")])
def test_a_request_says_how_it_wants_files(sent: str, form: str) -> None:
    assert call(("Streamapp-Media", sent)).media_form == form


def test_a_request_that_says_nothing_of_files_leaves_it_open() -> None:
    assert call().media_form is None


def test_another_form_of_files_is_refused() -> None:
    with pytest.raises(MalformedRequest, match="Streamapp-Media: expected url or inline, got 'both'"):
        _ = call(("Streamapp-Media", "both")).media_form


def test_a_get_has_no_key() -> None:
    assert call(("Idempotency-Key", ""), method="GET").key is None


FETCH_EVENT_SOURCE = "text/event-stream"
FAL_JS, FAL_JS_STREAM = "application/json", "application/json, text/event-stream"
AXIOS, HTTPIE = "application/json, text/plain, */*", "application/json, */*;q=0.5"
SPRING = "application/json, application/*+json"
LINK = "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,image/apng,*/*;q=0.8"
IMG = "image/avif,image/webp,image/apng,image/svg+xml,image/*,*/*;q=0.8"
RESULT = None


@pytest.mark.parametrize(
    ("accept", "at_stream", "elsewhere", "once"),
    [
        ("", "sse", "sse", RESULT),
        ("*/*", "sse", "sse", RESULT),
        ("*/*;q=0", "sse", "sse", RESULT),
        (FAL_JS, "sse", RESULT, RESULT),
        ("Application/JSON; charset=utf-8", "sse", RESULT, RESULT),
        (SPRING, "sse", RESULT, RESULT),
        (HTTPIE, "sse", RESULT, RESULT),
        (AXIOS, "sse", "sse", RESULT),
        (LINK, "sse", "sse", RESULT),
        ("text/html", "sse", "sse", RESULT),
        (FETCH_EVENT_SOURCE, "sse", "sse", "sse"),
        (FAL_JS_STREAM, "sse", "sse", "sse"),
        ("text/event-stream, */*;q=0.1", "sse", "sse", "sse"),
        ("application/json, text/event-stream;q=0.5", "sse", RESULT, RESULT),
        (" Text/Plain ", "text", "text", "text"),
        ("text/plain; charset=utf-8", "text", "text", "text"),
        ("application/x-ndjson", "ndjson", "ndjson", "ndjson"),
        ("application/jsonl, */*;q=0.1", "ndjson", "ndjson", "ndjson"),
        ("application/x-ndjson;q=0, text/plain", "text", "text", "text"),
        ("application/x-ndjson, text/plain", "sse", "sse", RESULT),
        ("application/x-ndjson, */*", "sse", "sse", RESULT),
        ("image/png", RESULT, RESULT, RESULT),
        ("image/*;q=0.9", RESULT, RESULT, RESULT),
        ("audio/wav, application/json", RESULT, RESULT, RESULT),
        (IMG, RESULT, RESULT, RESULT),
        ("image/png;q=much", RESULT, RESULT, RESULT),
    ],
)
def test_what_accept_prefers_and_the_path_decide_what_a_stream_answers_with(
    accept: str, at_stream: str | None, elsewhere: str | None, once: str | None
) -> None:
    """`once` is fal's: below `/run/`, and of a `User-Agent: fal-client/...`."""
    told = call(("Accept", accept))
    assert told.format(None, "/app/stream") == told.format(None, "/stream/") == at_stream
    assert told.format(None, "/app/streams") == elsewhere
    assert told.format(None, "/stream", answers_once=True) == once


@pytest.mark.parametrize(
    ("accept", "path", "form"),
    [
        ("", "/", "text"),
        ("*/*", "/", "text"),
        ("application/json", "/stream", "text"),
        ("application/json", "/", RESULT),
        ("text/event-stream", "/", "sse"),
        ("application/x-ndjson", "/", "ndjson"),
    ],
)
def test_a_declared_format_counts_where_the_request_names_none(accept: str, path: str, form: str | None) -> None:
    assert call(("Accept", accept)).format("text/plain", path) == form


@pytest.mark.parametrize(
    ("accept", "takes_json"),
    [
        ("", True),
        ("image/png", False),
        ("image/png, video/*", False),
        ("image/png, */*;q=0.1", True),
        ("image/png, application/json;q=0", False),
        ("text/event-stream", True),
        ("text/html", True),
        ("text/event-stream;q=0", True),
    ],
)
def test_who_names_media_alone_takes_no_json(accept: str, takes_json: bool) -> None:
    assert call(("Accept", accept)).takes_json == takes_json


@pytest.mark.parametrize(
    ("method", "query", "is_named"),
    [
        ("POST", b"", True),
        ("GET", b"", False),
        ("GET", b"_events=named", True),
        ("GET", b"_events=named&_events=", False),
        ("GET", b"a=%C3%A9&_events=n%61med", True),
        ("GET", b"_events=all", True),
        ("GET", b"_events=all&_events=named", True),
    ],
)
def test_event_source_gets_unnamed_blocks_unless_it_asks(method: str, query: bytes, is_named: bool) -> None:
    assert call(method=method, query_string=query).is_named == is_named


@pytest.mark.parametrize(
    ("query", "follows"),
    [(b"", False), (b"_events=named", False), (b"_events=all", True), (b"_events=all&_events=named", True)],
)
def test_who_asks_for_all_follows_the_job(query: bytes, follows: bool) -> None:
    assert call(method="GET", query_string=query).follows == follows


# Where the client reached the server


def test_an_origin_is_told_by_values_alone() -> None:
    assert call(("Host", "a.b"), server=SERVER).origin == Origin("http", "a.b", SERVER, "")


# Who pays


@pytest.mark.parametrize(
    ("client", "payer"),
    [
        (None, ""),
        (("127.0.0.1", 1), ""),
        (("1.2.3.4", 1), "1.2.3.4"),
        (("2001:db8:1:2:3::4", 1), "20010db800010002"),
        (("unix:", 1), ""),
    ],
)
def test_who_names_no_caller_pays_by_address(client: Any, payer: str) -> None:
    assert payer_in(scope(client=client)) == payer


def test_a_caller_pays_wherever_the_request_comes_from() -> None:
    told = {payer_in(scope(client=client, **{CALLER: "1.2.3.4"})) for client in (("::1", 1), ("1.2.3.4", 1), None)}
    assert told == {"caller 1.2.3.4"}
    assert nameless_in(scope(client=("1.2.3.4", 1), **{CALLER: "1.2.3.4"})) == ""


# Over HTTP


@pytest.mark.parametrize("accept", ["*/*", "text/event-stream", "text/html", "application/x-ndjson, */*"])
def test_a_stream_is_sse_whatever_else_accept_says(kinds: TestClient, accept: str) -> None:
    answer = kinds.post("/generator", headers={"Accept": accept})
    assert answer.headers["content-type"] == "text/event-stream; charset=utf-8"


@pytest.mark.parametrize("accept", ["application/x-ndjson", "application/jsonl"])
def test_accept_that_names_exactly_ndjson_gets_it(kinds: TestClient, accept: str) -> None:
    assert kinds.post("/generator", headers={"Accept": accept}).text == '{"n":0}\n{"n":1}\n'


def test_accept_that_names_exactly_text_gets_it(kinds: TestClient) -> None:
    assert kinds.post("/returning-generator", headers={"Accept": "text/plain"}).text == "tokenwhole text"


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_accept_that_names_json_alone_gets_the_result_of_a_stream(kinds: TestClient, method: str) -> None:
    answer = kinds.request(method, "/generator", headers={"Accept": "application/json"})
    assert (answer.json(), answer.headers["content-type"]) == ({"n": 1}, "application/json")


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_an_endpoint_declares_its_own_format(kinds: TestClient, method: str) -> None:
    assert kinds.request(method, "/lines").text == '{"n":1}\n{"n":2}\n'
    assert kinds.request(method, "/text").text == "Hello, wörld"


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_who_names_sse_gets_it_from_an_endpoint_of_another_format(kinds: TestClient, method: str) -> None:
    answer = kinds.request(method, "/lines", headers={"Accept": "text/event-stream"})
    assert answer.headers["content-type"] == "text/event-stream; charset=utf-8"


def test_a_get_stream_names_its_events_when_asked(kinds: TestClient) -> None:
    assert names(kinds.get("/generator?_events=named").text) == ["job", "output", "output", "done"]
