"""What goes out of a stream that a cord has made itself: its type, its headers, and what tells of a failure."""

import asyncio
import json
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import PIL.Image
import pytest
from fastapi.responses import JSONResponse, StreamingResponse
from sse_starlette import EventSourceResponse
from starlette.background import BackgroundTask
from starlette.responses import Response
from starlette.testclient import TestClient
from tests.served import PICTURE, data, finished, names, serving, shape, submit
from tests.waiting import until

import streamapp
from streamapp.chutes import Chute
from streamapp.chutes.answers import Framing, is_framed, typed

SSE = "text/event-stream; charset=utf-8"
TEXT = "text/plain; charset=utf-8"
chute = Chute(name="own-answers")
done: list[Any] = []


async def told_at_home() -> None:
    done.append(threading.current_thread().name)


async def pieces(*items: Any, error: Exception | None = None) -> AsyncIterator[Any]:
    """Give these pieces, and then the error."""
    try:
        for item in items:
            await asyncio.sleep(0)
            yield item
        if error is not None:
            raise error
    finally:
        done.append("closed")


def pieces_of_thread(*items: Any, error: Exception | None = None) -> Iterator[Any]:
    """Do the same, blocking."""
    yield from items
    if error is not None:
        raise error


ANSWERS: dict[str, Callable[[], Response]] = {
    "sse-as-text": lambda: StreamingResponse(pieces("data: 1\n\n"), media_type="text/plain"),
    "sse-unlabelled": lambda: StreamingResponse(pieces_of_thread("event: a\n", "data: 1\n\n")),
    "text": lambda: StreamingResponse(pieces("some ", "text"), media_type="text/plain"),
    "empty": lambda: StreamingResponse(pieces()),
    "headers": lambda: StreamingResponse(
        pieces("data: 1\n\n"),
        media_type="text/event-stream",
        headers={
            "Connection": "keep-alive",
            "Access-Control-Allow-Origin": "*",
            "Cache-Control": "no-store",
            "X-A": "1",
        },
    ),
    "early": lambda: StreamingResponse(pieces(error=ValueError("early")), media_type="text/event-stream"),
    "early-of-thread": lambda: StreamingResponse(pieces_of_thread(error=ValueError("early"))),
    "fails": lambda: StreamingResponse(
        pieces("data: 1\n\n", error=ValueError("within")), media_type="text/event-stream"
    ),
    "fails-of-thread": lambda: StreamingResponse(pieces_of_thread("data: 1\n\n", error=ValueError("within"))),
    "text-fails": lambda: StreamingResponse(pieces("text", error=ValueError("within")), media_type="text/plain"),
    "json": lambda: JSONResponse({"a": 1}, background=BackgroundTask(told_at_home)),
    "events": lambda: EventSourceResponse(pieces({"event": "token", "data": "1"})),
}


@chute.cord(public_api_path="/answers/{name}", stream=True)
async def answer(self: Any, name: str) -> Any:
    return ANSWERS[name]()


@chute.cord(public_api_path="/values", stream=True)
async def values(self, fails: bool = False):  # type: ignore[no-untyped-def]
    yield {"n": 1}
    yield "data: framed\n\n"
    if fails:
        raise ValueError("within")


@chute.cord(public_api_path="/values-def", stream=True)
def values_def(self, fails: bool = False, n: int = 2):  # type: ignore[no-untyped-def]
    for i in range(n):
        yield {"n": i}
    if fails:
        raise ValueError("within")


@chute.cord(public_api_path="/nothing-first", stream=True)
async def nothing_first(self):  # type: ignore[no-untyped-def]
    yield streamapp.Pause.lasting(0)
    yield None
    yield {"n": 1}


@chute.cord(public_api_path="/nothing-first-def", stream=True)
def nothing_first_def(self):  # type: ignore[no-untyped-def]
    yield streamapp.Pause.lasting(0)
    yield None
    yield {"n": streamapp.current_stream().job_id != ""}


@chute.cord(public_api_path="/threads-def", stream=True)
def threads_def(self):  # type: ignore[no-untyped-def]
    try:
        for _ in range(3):
            yield [threading.current_thread().name]
    finally:
        done.append([threading.current_thread().name])


@chute.cord(public_api_path="/framed-fails", stream=True)
async def framed_fails(self):  # type: ignore[no-untyped-def]
    yield "data: 1\n\n"
    raise ValueError("within")


@chute.cord(public_api_path="/text-fails", stream=True)
async def text_fails(self):  # type: ignore[no-untyped-def]
    yield "text"
    raise ValueError("within")


@chute.cord(public_api_path="/early", stream=True)
async def early(self):  # type: ignore[no-untyped-def]
    raise ValueError("early")
    yield ""


@chute.cord(public_api_path="/early-def", stream=True)
def early_def(self):  # type: ignore[no-untyped-def]
    raise ValueError("early")
    yield ""


@pytest.fixture(scope="module")
def client() -> Iterator[TestClient]:
    with serving(chute) as client:
        yield client


@pytest.mark.parametrize(
    ("name", "content_type", "text"),
    [
        ("sse-as-text", SSE, "data: 1\n\n"),
        ("sse-unlabelled", SSE, "event: a\ndata: 1\n\n"),
        ("text", TEXT, "some text"),
        ("empty", None, ""),
    ],
)
def test_events_are_labelled_as_events_and_nothing_else_is(
    client: TestClient, name: str, content_type: str | None, text: str
) -> None:
    answer = client.post(f"/answers/{name}")
    assert (answer.headers.get("content-type"), answer.text) == (content_type, text)


def test_headers_of_the_connection_and_of_other_sites_are_left_out(client: TestClient) -> None:
    headers = client.post("/answers/headers", headers={"Origin": "https://testserver"}).headers
    assert {"connection", "access-control-allow-origin"}.isdisjoint(headers)
    assert (headers["cache-control"], headers["x-accel-buffering"], headers["x-a"]) == ("no-store", "no", "1")


@pytest.mark.parametrize("path", ["/answers/early", "/answers/early-of-thread", "/early", "/early-def"])
def test_a_failure_before_the_first_piece_is_an_error_of_http(client: TestClient, path: str) -> None:
    assert shape(client.post(path)) == (500, "endpoint_failed")


def test_other_responses_go_as_they_are_and_their_tasks_run_at_home(client: TestClient) -> None:
    done.clear()
    assert client.post("/answers/json").json() == {"a": 1}
    until(lambda: "chute-own-answers" in done)


def test_a_response_of_sse_starlettes_has_its_iterator_at_home(client: TestClient) -> None:
    assert "event: token\r\ndata: 1" in client.post("/answers/events").text


def test_values_are_events_and_what_is_framed_already_stays(client: TestClient) -> None:
    answer = client.post("/values", json={})
    assert (answer.headers["content-type"], answer.text) == (SSE, 'event: output\ndata: {"n":1}\n\ndata: framed\n\n')
    assert names(client.post("/values-def", json={}).text) == ["output", "output"]


def test_a_pause_is_no_item_and_null_is_one(client: TestClient) -> None:
    assert data(client.post("/nothing-first", json={}).text) == [None, {"n": 1}]


def test_a_def_cords_items_are_made_in_the_context_of_its_job(client: TestClient) -> None:
    assert data(client.post("/nothing-first-def", json={}).text) == [None, {"n": True}]


def test_all_of_a_def_cords_stream_runs_in_one_thread(client: TestClient) -> None:
    threads = data(client.post("/threads-def", json={}).text)
    assert threads == threads[:1] * 3
    until(lambda: done[-1:] == [threads[0]])


async def test_the_loop_compresses_no_picture() -> None:
    threads: list[str] = []

    class Noted(PIL.Image.Image):
        def save(self, *arguments: Any, **options: Any) -> None:
            threads.append(threading.current_thread().name)
            super().save(*arguments, **options)

    picture = PICTURE.copy()
    picture.__class__ = Noted
    assert b"data:image/png" in await Framing(None, {}).on_loop(picture)
    assert [name.partition("-")[0] for name in threads] == ["encoder"]


def test_they_are_lines_for_who_asks_for_lines(client: TestClient) -> None:
    answer = client.post("/values-def", json={}, headers={"Accept": "application/x-ndjson"})
    assert (answer.headers["content-type"], answer.text) == ("application/x-ndjson", '{"n":0}\n{"n":1}\n')


def test_a_stream_without_items_is_empty(client: TestClient) -> None:
    assert client.post("/values-def", json={"n": 0}).text == ""


@pytest.mark.parametrize(
    "path", ["/values", "/values-def", "/framed-fails", "/answers/fails", "/answers/fails-of-thread"]
)
def test_a_failure_behind_the_first_item_is_the_last_event(client: TestClient, path: str) -> None:
    text = client.post(path, json={"fails": True}).text
    assert names(text)[-1] == "error"
    assert "endpoint_failed" in text and "within" not in text


def test_in_debug_it_says_what_was_raised() -> None:
    with serving(chute, debug=True) as client:
        for path in ("/values", "/answers/fails"):
            assert "ValueError: within" in client.post(path, json={"fails": True}).text


def test_lines_end_with_one_of_their_own_and_text_with_nothing(client: TestClient) -> None:
    lines = client.post("/values-def", json={"fails": True}, headers={"Accept": "application/x-ndjson"}).text
    assert json.loads(lines.splitlines()[-1])["error"]["code"] == "endpoint_failed"
    assert [client.post(path).text for path in ("/text-fails", "/answers/text-fails")] == ["text", "text"]


def test_in_the_queue_the_job_alone_tells_of_it(client: TestClient) -> None:
    assert names(finished(client, submit(client, "/values-def", fails=True))) == ["job", "output", "output", "error"]
    assert names(finished(client, submit(client, "/answers/fails"))) == ["job", "output", "error"]


@pytest.mark.parametrize(
    ("declared", "first", "media_type"),
    [
        (None, "data: 1\n\n", "text/event-stream"),
        (None, ": open\n\n", "text/event-stream"),
        (None, "some text", "text/plain"),
        (None, b"\x00", "application/octet-stream"),
        (None, {"n": 1}, "text/event-stream"),
        (None, None, "text/event-stream"),
        ("text/event-stream", "no event", "text/event-stream"),
        ("audio/wav", b"RIFF", "audio/wav"),
    ],
)
def test_the_first_item_says_what_a_stream_is(declared: str | None, first: Any, media_type: str) -> None:
    assert Framing(declared, first).media_type == media_type


def test_text_under_event_stream_that_is_no_event_becomes_one() -> None:
    assert Framing("text/event-stream", "word")("word") == b'event: output\ndata: "word"\n\n'


@pytest.mark.parametrize(
    ("text", "is_so"), [("data: 1", True), (b"id: 1", True), (":)", False), ("a: 1", False), (1, False)]
)
def test_events_are_known_by_their_first_field(text: Any, is_so: bool) -> None:
    assert is_framed(text) is is_so


@pytest.mark.parametrize(
    ("result", "declared"), [("a", None), ({"a": 1}, "text/plain"), ("a", "application/json"), (None, "text/plain")]
)
def test_a_value_is_itself_where_no_type_is_said_of_its_bytes(result: Any, declared: str | None) -> None:
    assert typed(result, declared) is result
