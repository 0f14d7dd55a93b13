"""Responses: a job's events or its result on the wire, and the job tied to its reader's connection.

The test plays both sides: the worker, by emitting on the job's channel, and the server, by ASGI messages. What an app's
clients see of it comes last.
"""

import asyncio
import base64
import json
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI, HTTPException, Request
from starlette.background import BackgroundTask
from starlette.responses import HTMLResponse, PlainTextResponse, Response, StreamingResponse
from starlette.testclient import TestClient
from starlette.types import Receive, Scope, Send
from tests.asgi_client import Client
from tests.at_work import OutOfMemoryError, request
from tests.served import PICTURE, PNG, Failing, Results, blocks, data, names, shape
from tests.waiting import WAIT_S

import streamapp
from streamapp.errors import Cancelled, Draining, ErrorReport, OutOfMemory
from streamapp.http.answer import NO_ANSWER, Answer, ReadingResponse, answer_of
from streamapp.http.response import (
    ERROR_ANSWER,
    REMAINDER_EXTENSION,
    ErrorResponse,
    EventStreamResponse,
    ResultResponse,
    result_response,
)
from streamapp.jobs.events import Preview, Progress, to_event
from streamapp.jobs.job import Job
from streamapp.media import File
from streamapp.settings import Settings
from streamapp.stores.files import LocalFiles

SETTINGS = Settings(first_event_wait_s=0.02, heartbeat_s=60, send_timeout_s=30)
Advance = Callable[[float], None]


def make_job(settings: Settings = SETTINGS, **asked: Any) -> Job:
    return Job(request(**asked), settings, answer=Answer())


def answer_to(job: Job) -> Answer:
    answer = answer_of(job)
    assert answer is not None
    return answer


def emit(job: Job, *values: Any) -> None:
    for value in values:
        job.channel.emit(to_event(value), waits=False)


async def stream(job: Job, **options: Any) -> Client:
    """Send the whole stream of a job that is over."""
    client = Client()
    await client.call(EventStreamResponse(job, options.pop("settings", SETTINGS), **options))
    return client


async def test_an_error_response_has_the_one_shape_and_says_when_to_come_back() -> None:
    client = Client()
    await client.call(ErrorResponse(ErrorReport(429, "queue_full", "full", True, retry_after_s=3), {"X-More": "1"}))
    assert (client.status, client.headers["retry-after"], client.headers["x-more"]) == (429, "3", "1")
    assert json.loads(client.body) == {
        "error": {"code": "queue_full", "message": "full", "retryable": True},
        "detail": "full",
        "error_type": "queue_full",
    }


async def test_an_error_is_told_as_the_scope_says_where_it_does() -> None:
    client = Client()
    client.scope[ERROR_ANSWER] = lambda error, headers: PlainTextResponse(error.code, error.status_code, headers)
    await client.call(ErrorResponse(ErrorReport(404, "not_found", "no"), {"X-More": "1"}))
    assert (client.status, client.body, client.headers["x-more"]) == (404, "not_found", "1")


async def test_an_error_of_text_that_is_no_unicode_is_told_all_the_same() -> None:
    client = Client()
    await client.call(ErrorResponse(ErrorReport(400, "refused", "no", detail=[{"a\ud83d": "\ud83d"}])))
    assert json.loads(client.body)["detail"] == [{"a�": "�"}]


async def test_a_post_stream_is_named_blocks_with_ids_and_ends_with_the_result() -> None:
    job = make_job()
    emit(job, {"n": 1}, Progress(1, 2))
    job.succeed(to_event({"n": 2}))
    client = await stream(job)
    assert client.blocks == [
        f'event: output\nid: {job.id}:1.1\ndata: {{"n":1}}',
        f'event: progress\nid: {job.id}:1.2\ndata: {{"step":1,"total":2}}',
        f'event: output\nid: {job.id}:1.3\ndata: {{"n":2}}',
    ]
    assert client.is_complete


async def test_a_stream_says_that_nobody_on_the_way_may_keep_or_buffer_it() -> None:
    job = make_job()
    job.succeed(None)
    client = await stream(job)
    assert client.headers == {
        "content-type": "text/event-stream; charset=utf-8",
        "x-streamapp-job-id": job.id,
        "cache-control": "no-cache",
        "x-accel-buffering": "no",
    }


async def test_a_stream_that_outlasts_its_app_is_left_to_the_server() -> None:
    """Else the frames, exit stacks and scopes of all layers would stay for as long as it is open."""
    job, through_app, beyond = make_job(), Client(), Client()
    remainder: list[Any] = []
    through_app.unsent_bytes = 0
    through_app.scope["extensions"][REMAINDER_EXTENSION] = remainder
    job.succeed(to_event(1))
    await through_app.call(EventStreamResponse(job, SETTINGS, outlasts_app=True))
    assert not through_app.sent
    await remainder.pop()(beyond.receive, beyond.send)
    assert [message["type"] for message in through_app.sent] == ["http.response.start"]
    assert beyond.blocks == [f"event: output\nid: {job.id}:1.1\ndata: 1"]
    assert beyond.is_complete


async def test_an_event_is_sent_from_where_it_was_emitted_when_nothing_makes_it_wait(advance: Advance) -> None:
    job, through_app, beyond = make_job(), Client(), Client()
    remainder: list[Any] = []
    through_app.scope["extensions"][REMAINDER_EXTENSION] = remainder
    await through_app.call(EventStreamResponse(job, SETTINGS, outlasts_app=True))
    answer = asyncio.ensure_future(remainder.pop()(beyond.receive, beyond.send))
    await job.channel.aemit(to_event(0))
    await beyond.until("data: 0")
    for payload, unsent_bytes, is_closing in (
        (1, 1, False),
        (2, 0, False),
        ("x" * 100_000, 0, False),
        (3, 0, False),
        (4, 0, True),
    ):
        advance(0.01)
        through_app.unsent_bytes = unsent_bytes
        through_app.ended_by = ["close"] if is_closing else []
        await job.channel.aemit(to_event(payload))
        if payload not in (2, 3):
            await beyond.until(f"data: {to_event(payload).data.decode()}\n\n")
    blocks = [f"event: output\nid: {job.id}:1.{n}\ndata: {data}\n\n" for n, data in ((3, 2), (5, 3))]
    assert through_app.written.decode() == "".join(f"{len(block):x}\r\n{block}\r\n" for block in blocks)
    job.succeed(None)
    await answer
    assert beyond.is_complete


async def test_what_has_no_place_in_a_text_does_not_end_it(advance: Advance) -> None:
    job, through_app, beyond = make_job(), Client(), Client()
    remainder: list[Any] = []
    through_app.unsent_bytes = 0
    through_app.scope["extensions"][REMAINDER_EXTENSION] = remainder
    await through_app.call(EventStreamResponse(job, SETTINGS, format="text", outlasts_app=True))
    answer = asyncio.ensure_future(remainder.pop()(beyond.receive, beyond.send))
    await job.channel.aemit(to_event("a"))
    await beyond.until("a")
    for payload in (Progress(1, 2), "", "b"):
        advance(0.01)
        await job.channel.aemit(to_event(payload))
    assert through_app.written == b"1\r\nb\r\n"
    job.succeed(None)
    await answer


@pytest.mark.parametrize("size", [10, 100_000])
async def test_the_last_events_end_the_body(size: int) -> None:
    job = make_job()
    job.succeed(to_event("x" * size))
    client = await stream(job)
    assert client.blocks == [f'event: output\nid: {job.id}:1.1\ndata: "{"x" * size}"']
    assert client.is_complete
    assert max(len(message.get("body", b"")) for message in client.sent) <= 65_536


async def test_a_stream_with_something_left_to_do_stays_in_its_app() -> None:
    job, client = make_job(), Client()
    remainder: list[Any] = []
    client.scope["extensions"][REMAINDER_EXTENSION] = remainder
    job.succeed(to_event(1))
    response = EventStreamResponse(job, SETTINGS, outlasts_app=True)
    response.background = BackgroundTask(client.leave)
    await client.call(response)
    assert (client.is_complete, remainder) == (True, [])


async def test_a_post_stream_without_an_event_opens_with_a_comment() -> None:
    job, client = make_job(), Client()
    answer = client.call(EventStreamResponse(job, SETTINGS))
    await client.until(": open\n")
    job.succeed(to_event("result"))
    await answer
    assert client.body == f': open\nevent: output\nid: {job.id}:1.1\ndata: "result"\n\n'


async def test_a_failure_before_the_first_event_is_a_normal_http_error() -> None:
    job, client = make_job(), Client()
    answer = client.call(EventStreamResponse(job, SETTINGS.model_copy(update={"first_event_wait_s": 30})))
    job.fail(OutOfMemory("too large"))
    await answer
    assert (client.status, client.headers["x-streamapp-job-id"]) == (503, job.id)
    assert json.loads(client.body)["error"] == {"code": "out_of_memory", "message": "too large", "retryable": True}


async def test_a_failure_after_the_first_event_is_an_error_event_and_no_final_chunk() -> None:
    job = make_job()
    emit(job, {"n": 1})
    job.fail(Draining("the server is shutting down"))
    client = await stream(job)
    assert client.status == 200
    assert client.blocks[-1].startswith(f'event: error\nid: {job.id}:1.2\ndata: {{"error":{{"code":"draining"')
    assert not client.is_complete
    assert client.ended_by == ["close", "abort"]


async def test_a_failure_after_the_stream_has_opened_is_an_error_event_even_as_the_first() -> None:
    job, client = make_job(), Client()
    answer = client.call(EventStreamResponse(job, SETTINGS))
    await client.until(": open\n")
    job.cancel()
    await answer
    assert client.body.startswith(f": open\nevent: cancelled\nid: {job.id}:1.1\n")
    assert not client.is_complete


async def test_a_failed_stream_is_cut_when_its_client_had_time_to_read_why(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("streamapp.http.connection._LINGER_S", 60)
    job, client = make_job(), Client()
    emit(job, 1)
    job.cancel()
    answer = client.call(EventStreamResponse(job, SETTINGS))
    await client.until("event: cancelled")
    assert client.ended_by == []
    client.leave()
    await answer
    assert client.ended_by == ["close", "abort"]


async def test_a_failed_stream_waits_for_the_last_bytes_but_not_for_ever() -> None:
    job, client = make_job(), Client()
    client.stays_open = True
    emit(job, 1)
    job.cancel()
    await client.call(EventStreamResponse(job, Settings(send_timeout_s=0.01)))
    assert client.ended_by == ["close", "abort"]


async def test_under_a_foreign_server_a_failed_stream_returns_without_the_final_chunk() -> None:
    job, client = make_job(), Client(lends_transport=False)
    emit(job, 1)
    job.cancel()
    await client.call(EventStreamResponse(job, SETTINGS))
    assert "event: cancelled" in client.body
    assert not client.is_complete


async def test_a_get_stream_answers_at_once_with_the_job_and_ends_with_done() -> None:
    job, client = make_job(), Client()
    answer = client.call(EventStreamResponse(job, SETTINGS, is_get=True, is_named=False, position=2))
    await client.until("\n\n")
    status = f'{{"job_id":"{job.id}","status":"queued","position":2}}'
    assert client.blocks == [f"event: job\nid: {job.id}:1.0\nretry: 1000\ndata: {status}"]
    job.succeed(to_event({"n": 1}))
    await answer
    assert client.blocks[1:] == [
        f'id: {job.id}:1.1\ndata: {{"n":1}}',
        f'event: done\nid: {job.id}:1.2\ndata: {{"job_id":"{job.id}","status":"succeeded"}}',
    ]


async def test_a_get_stream_tells_a_failure_as_an_event_even_as_the_first() -> None:
    job = make_job()
    job.fail(Draining("later"))
    client = await stream(job, is_get=True)
    assert (client.status, client.blocks[1].partition("\n")[0]) == (200, "event: error")


async def test_a_resumed_stream_has_only_the_rest() -> None:
    job = make_job()
    emit(job, 1, 2, 3)
    job.succeed(None)
    client = await stream(job, is_get=True, is_named=True, after=2)
    assert [block.partition("\n")[0] for block in client.blocks] == ["event: output", "event: done"]
    assert client.blocks[0].endswith("data: 3")


@pytest.mark.parametrize("is_get", [False, True])
async def test_ndjson_is_a_line_per_event_and_the_last_is_the_result(is_get: bool) -> None:
    job = make_job()
    emit(job, {"n": 1}, Preview({"x": 1}))
    job.succeed(to_event({"n": 2}))
    client = await stream(job, format="ndjson", is_get=is_get)
    assert client.body == '{"n":1}\n{"x":1}\n{"n":2}\n'
    assert client.headers["content-type"] == "application/x-ndjson"
    assert client.is_complete


async def test_ndjson_tells_a_failure_in_its_last_line_and_is_cut() -> None:
    job = make_job()
    emit(job, {"n": 1})
    job.fail(Draining("later"))
    client = await stream(job, format="ndjson")
    assert json.loads(client.body.splitlines()[-1])["error"]["code"] == "draining"
    assert not client.is_complete


async def test_text_is_the_strings_as_they_are_and_is_cut_on_failure() -> None:
    job = make_job()
    emit(job, "Hello, ", "wörld\n", {"n": 1})
    job.fail(Draining("later"))
    client = await stream(job, format="text")
    assert client.body == 'Hello, wörld\n{"n":1}\n'
    assert client.headers["content-type"] == "text/plain; charset=utf-8"
    assert not client.is_complete


@pytest.mark.parametrize("format", ["ndjson", "text"])
async def test_a_format_that_cannot_say_that_something_is_missing_is_cut_there(format: Any) -> None:
    job = make_job(is_detached=True, settings=SETTINGS.model_copy(update={"behind_events": 1}))
    emit(job, "a", "b", "c")
    job.succeed(None)
    client = await stream(job, format=format)
    assert (client.body, client.ended_by, client.is_complete) == ("", ["abort"], False)


@pytest.mark.parametrize(("format", "heartbeat"), [("sse", ": ping\n"), ("ndjson", "\n"), ("text", "")])
async def test_silence_is_filled_with_heartbeats(format: Any, heartbeat: str) -> None:
    job, client = make_job(), Client()
    settings = SETTINGS.model_copy(update={"heartbeat_s": 0.001})
    emit(job, "first")
    answer = client.call(EventStreamResponse(job, settings, format=format))
    await client.until(messages=6)
    start, opening, first, *heartbeats = client.sent
    assert [message["body"].decode() for message in heartbeats[:3]] == [heartbeat] * 3
    client.leave()
    await answer


async def test_a_stream_may_end_well_in_its_silence() -> None:
    class Impatient(EventStreamResponse):
        def _farewell(self) -> bytes:
            return b"event: timeout\n\n"

    client = Client()
    await client.call(Impatient(make_job(), SETTINGS.model_copy(update={"heartbeat_s": 0.001})))
    assert (client.body, client.is_complete) == (": open\nevent: timeout\n\n", True)


WAITING = {"status": "queued", "position": 1, "started_at": None}


async def test_a_state_is_told_once_and_what_waits_is_looked_at_between_heartbeats() -> None:
    job, client = make_job(is_detached=True), Client()
    told = dict(WAITING)
    answer = client.call(EventStreamResponse(job, SETTINGS, is_get=True, state=lambda: dict(told)))
    await client.until("job", messages=3)
    told["position"] = 0
    await client.until('"position":0')
    job.start()
    told.update(status="running", started_at=1)
    emit(job, "first")
    await client.until("first")
    client.leave()
    await answer
    assert client.body.count("event: job") == 3
    names = [line for line in client.body.split("\n") if line.startswith("event")]
    assert names[-3:] == ["event: job", "event: started", "event: output"]


async def test_a_state_that_came_with_an_event_is_told_with_it_where_events_are_written_at_once(
    advance: Advance,
) -> None:
    job, through_app, beyond = make_job(is_detached=True), Client(), Client()
    remainder: list[Any] = []
    through_app.unsent_bytes = 0
    through_app.scope["extensions"][REMAINDER_EXTENSION] = remainder
    told = dict(WAITING)
    response = EventStreamResponse(job, SETTINGS, is_get=True, outlasts_app=True, state=lambda: dict(told))
    await through_app.call(response)
    answer = asyncio.ensure_future(remainder.pop()(beyond.receive, beyond.send))
    await beyond.until("job")
    advance(0.01)
    told.update(status="running")
    job.start()
    await beyond.until("event: started")
    assert beyond.body.index("running") < beyond.body.index("event: started")
    beyond.leave()
    await answer


async def test_who_follows_a_job_does_not_count_as_one_that_shows_previews() -> None:
    job, client = make_job(is_detached=True), Client()
    answer = client.call(EventStreamResponse(job, SETTINGS, is_get=True, state=lambda: WAITING))
    await client.until("job")
    assert (job.channel.has_readers, job.channel.wants_preview()) == (True, False)
    client.leave()
    await answer


async def test_who_reads_text_does_not_count_as_one_that_shows_previews() -> None:
    job, client = make_job(is_detached=True), Client()
    emit(job, "words")
    answer = client.call(EventStreamResponse(job, SETTINGS, format="text"))
    await client.until("words")
    assert (job.channel.has_readers, job.channel.wants_preview()) == (True, False)
    client.leave()
    await answer


async def test_a_client_that_leaves_before_the_first_event_cancels_the_job() -> None:
    job, client = make_job(), Client()
    settings = SETTINGS.model_copy(update={"first_event_wait_s": 30})
    answer = client.call(EventStreamResponse(job, settings))
    client.leave()
    await answer
    assert (client.sent, job.status) == ([], "cancelled")


async def test_a_client_that_leaves_mid_stream_stops_the_producer_at_its_next_emit() -> None:
    job, client = make_job(), Client()
    emit(job, 1)
    answer = client.call(EventStreamResponse(job, SETTINGS))
    await client.until("data: 1")
    client.leave()
    await answer
    with pytest.raises(Cancelled):
        emit(job, 2)


async def test_a_job_outlives_its_reader_for_its_window() -> None:
    job, client = make_job(window_s=60), Client()
    emit(job, 1)
    answer = client.call(EventStreamResponse(job, SETTINGS))
    await client.until("data: 1")
    client.leave()
    await answer
    assert job.status == "queued"
    job.succeed(None)


async def test_a_second_viewer_that_leaves_changes_nothing() -> None:
    job, owner, viewer = make_job(), Client(), Client()
    emit(job, 1)
    answers = [
        owner.call(EventStreamResponse(job, SETTINGS)),
        viewer.call(EventStreamResponse(job, SETTINGS, is_get=True, takes_over=False)),
    ]
    await viewer.until("data: 1")
    viewer.leave()
    await answers[1]
    assert job.status == "queued"
    job.succeed(None)
    await answers[0]
    assert owner.is_complete


@pytest.mark.parametrize("stage", ["http.response.start", "http.response.body"])
async def test_a_client_that_does_not_read_is_cut_off(stage: str) -> None:
    job, client = make_job(), Client()
    client.is_stuck_at = stage
    emit(job, 1)
    await client.call(EventStreamResponse(job, SETTINGS.model_copy(update={"send_timeout_s": 0.01})))
    assert (client.ended_by, job.status) == (["abort"], "cancelled")


async def test_a_reader_that_the_producer_gave_up_is_cut_off() -> None:
    settings = SETTINGS.model_copy(update={"ahead_events": 1, "send_timeout_s": 0.01})
    job, client = Job(request(), settings), Client()
    client.is_stuck_at = "http.response.body"
    answer = client.call(EventStreamResponse(job, SETTINGS))
    await client.until(": open")
    for n in (1, 2):
        await asyncio.to_thread(job.channel.emit, to_event(n))
    client.read_on()
    await answer
    assert (client.ended_by, client.is_complete, job.status) == (["abort"], False, "cancelled")


async def test_under_a_foreign_server_a_reader_that_does_not_read_is_left() -> None:
    job, client = make_job(), Client(lends_transport=False)
    client.is_stuck_at = "http.response.start"
    await client.call(EventStreamResponse(job, SETTINGS.model_copy(update={"send_timeout_s": 0.01})))
    assert job.status == "cancelled"


async def test_the_rest_of_a_request_is_not_taken_for_a_disconnect() -> None:
    job, client = make_job(), Client()
    client.messages = [{"type": "http.request", "body": b"late"}]
    answer = client.call(EventStreamResponse(job, SETTINGS))
    await client.until(": open")
    job.succeed(None)
    await answer
    assert client.is_complete


async def test_a_server_that_raises_for_a_client_that_left_is_no_error() -> None:
    job, client = make_job(), Client()
    client.raises = BrokenPipeError
    emit(job, 1)
    await client.call(EventStreamResponse(job, SETTINGS))
    assert job.status == "cancelled"


async def test_the_background_tasks_of_dependencies_run_after_the_stream() -> None:
    job, client, ran = make_job(), Client(), []
    response = EventStreamResponse(job, SETTINGS)
    response.background = BackgroundTask(lambda: ran.append(client.is_complete))
    job.succeed(None)
    await client.call(response)
    assert ran == [True]


async def test_a_response_that_is_cancelled_lets_go_of_its_job() -> None:
    job, client = make_job(), Client()
    answer = client.call(EventStreamResponse(job, SETTINGS))
    await client.until(": open")
    answer.cancel()
    with pytest.raises(asyncio.CancelledError):
        await answer
    assert (job.status, job.channel.statistics().subscribers) == ("cancelled", 0)


# One result


async def answer(job: Job, *, accept: str = "") -> Client:
    client = Client()
    await client.call(await result_response(job, accept=accept))
    return client


def succeeded(result: Any) -> Job:
    job = make_job()
    job.succeed(to_event(result))
    return job


async def test_a_result_is_waited_for_and_answered_as_json() -> None:
    job, client = make_job(), Client()
    answering = client.call(ResultResponse(job, SETTINGS))
    await asyncio.to_thread(job.succeed, to_event({"n": 1}))
    await answering
    assert (client.status, client.body, client.headers["content-type"]) == (200, '{"n":1}', "application/json")
    assert client.headers["x-streamapp-job-id"] == job.id


async def test_a_failed_job_is_answered_with_its_error() -> None:
    job, client = make_job(), Client()
    job.fail(OutOfMemory("too large"))
    await client.call(ResultResponse(job, SETTINGS))
    assert (client.status, client.headers["x-streamapp-job-id"]) == (503, job.id)
    assert json.loads(client.body)["detail"] == "too large"


async def test_a_job_without_a_result_is_answered_with_null() -> None:
    job = make_job()
    job.succeed(None)
    assert (await answer(job)).body == "null"


async def test_a_client_that_leaves_before_the_result_cancels_the_job() -> None:
    job, client = make_job(), Client()
    answering = client.call(ResultResponse(job, SETTINGS))
    client.leave()
    await answering
    assert (client.sent, job.status) == ([], "cancelled")


async def test_background_tasks_run_after_the_result() -> None:
    job, client, ran = succeeded(1), Client(), []
    response = ResultResponse(job, SETTINGS)
    response.background = BackgroundTask(lambda: ran.append(client.is_complete))
    await client.call(response)
    assert ran == [True]


@pytest.mark.parametrize("accept", ["image/png", "image/*", "text/html, IMAGE/PNG;q=0.9"])
async def test_an_image_is_sent_bare_when_accept_names_its_type(accept: str) -> None:
    client = await answer(succeeded({"image": PICTURE, "seed": 1}), accept=accept)
    assert client.headers["content-type"] == "image/png"
    assert client.sent[1]["body"].startswith(b"\x89PNG")


@pytest.mark.parametrize("content_type", ["text/html", "image/svg+xml"])
async def test_bare_media_run_no_script_when_a_browser_opens_them(content_type: str) -> None:
    """A link to /jobs/{id}/result asks for text/html, and the file may be what a caller sent."""
    client = await answer(succeeded({"file": File(b"<script>", content_type)}), accept="text/html, image/*")
    assert client.headers["content-type"].startswith(content_type)
    assert client.headers["content-security-policy"] == "default-src 'none'; sandbox"
    assert client.headers["x-content-type-options"] == "nosniff"


async def test_an_image_in_the_file_store_is_sent_bare_from_there(tmp_path: Path) -> None:
    files, client = await asyncio.to_thread(LocalFiles, Settings(files_dir=tmp_path)), Client()
    url = await asyncio.to_thread(files.publish, File(b"pixels", "image/png"), base_url="http://x.test")
    result = {"image": {"url": url, "content_type": "image/png"}}
    await client.call(await result_response(succeeded(result), accept="image/png", find_file=files.find))
    assert (client.body, client.headers["content-type"]) == ("pixels", "image/png")


@pytest.mark.parametrize(
    ("result", "accept"),
    [
        ({"image": PICTURE}, "*/*"),
        ({"image": PICTURE}, "image/webp"),
        ({"image": PICTURE}, "application/json"),
        ({"images": [PICTURE, PICTURE]}, "image/png"),
        ({"n": 1}, "image/png"),
        ({"url": "data:image/png;base64,?", "content_type": "image/png"}, "image/png"),
        ({"url": "https://example.com/a.png", "content_type": "image/png"}, "image/png"),
    ],
)
async def test_everything_else_is_json(result: Any, accept: str) -> None:
    assert (await answer(succeeded(result), accept=accept)).headers["content-type"] == "application/json"


async def test_a_job_without_a_result_has_no_bare_form() -> None:
    job = make_job()
    job.succeed(None)
    assert (await answer(job, accept="image/png")).body == "null"


async def test_a_content_type_that_the_app_made_up_is_no_header() -> None:
    """A result can echo input; what it says becomes a header only in the form of a content type."""
    evil = {"url": "data:text/plain\r\nX-Evil: 1;base64,aGk=", "content_type": "text/plain\r\nX-Evil: 1"}
    assert (await answer(succeeded(evil), accept="text/*")).headers["content-type"] == "application/json"
    assert (await answer(succeeded(File(b"hi", "text/plain")), accept="text/*")).body == "hi"


@pytest.mark.parametrize(("result", "status"), [({"image": PICTURE}, 200), ({"n": 1}, 406), (None, 406)])
async def test_who_takes_no_json_gets_the_image_or_hears_that_there_is_none(result: Any, status: int) -> None:
    job, client = succeeded(result), Client()
    await client.call(ResultResponse(job, SETTINGS, accept="image/png", takes_json=False))
    assert client.status == status
    if status == 406:
        assert json.loads(client.body)["error"]["code"] == "not_acceptable"
        assert json.loads(client.body)["detail"].startswith(
            "Accept: the result of /app/x is not one file of image/png;"
        )


async def test_what_a_job_failed_with_goes_before_what_its_request_takes() -> None:
    job, client = make_job(), Client()
    job.cancel()
    await client.call(ResultResponse(job, SETTINGS, accept="image/png", takes_json=False))
    assert client.status == 499


async def test_the_result_of_a_stream_is_waited_for() -> None:
    job, client = make_job(), Client()
    job.answer = NO_ANSWER
    answering = client.call(ResultResponse(job, SETTINGS))
    await asyncio.sleep(0)
    emit(job, 1)
    job.succeed(None)
    await answering
    assert client.body == "1"


# What the app's own exception handlers answer


def refused(handler: Any) -> Request:
    """Make a request to an app with a handler for ValueErrors."""
    api = FastAPI(exception_handlers={ValueError: handler})
    api.state.own_handlers = frozenset()
    return Request({"type": "http", "app": api})


@pytest.mark.parametrize("response", [EventStreamResponse, ResultResponse])
async def test_what_failed_a_job_before_its_answer_is_for_the_apps_own_handler(response: Any) -> None:
    job, client = make_job(), Client()
    job.fail(ValueError("no"))
    request = refused(lambda request, error: PlainTextResponse(f"handled {error}", 418))
    await client.call(response(job, SETTINGS, request=request))
    assert (client.status, client.body, client.headers["x-streamapp-job-id"]) == (418, "handled no", job.id)
    assert job.raised is None


@pytest.mark.parametrize("returned", [None, "no response"])
async def test_a_handler_that_does_not_answer_leaves_the_one_shape(returned: Any) -> None:
    job, client = make_job(), Client()
    job.fail(ValueError("no"))
    await client.call(ResultResponse(job, SETTINGS, request=refused(lambda request, error: returned)))
    assert (client.status, json.loads(client.body)["error"]["code"]) == (500, "endpoint_failed")


async def test_a_job_that_is_over_keeps_the_plain_error() -> None:
    job = make_job()
    job.fail(ValueError("no"))
    assert (await result_response(job)).status_code == 500


# A response of the endpoint's own


def pass_through(job: Job, client: Client, response: Response) -> "asyncio.Task[None]":
    answer_to(job).outcome.set_result(response)
    return client.call(ResultResponse(job, SETTINGS))


class Counting:
    """An endless iterator of chunks."""

    def __init__(self) -> None:
        self.n = 0

    def __aiter__(self) -> "Counting":
        return self

    async def __anext__(self) -> str:
        self.n += 1
        if self.n > 2:
            await asyncio.Event().wait()
        return f"chunk {self.n} "


async def test_a_response_of_the_endpoint_passes_unchanged_and_the_job_ends_with_it() -> None:
    job, client = make_job(), Client()
    own = PlainTextResponse("hi", 418, {"X-Own": "1"})
    await pass_through(job, client, own)
    assert (client.status, client.body, client.headers) == (
        418,
        "hi",
        {"x-own": "1", "content-length": "2", "content-type": "text/plain; charset=utf-8"},
    )
    assert (job.status, answer_to(job).ended.done()) == ("succeeded", True)


async def test_html_of_the_endpoint_may_be_framed_by_no_other_site_unless_it_says_so() -> None:
    policies = []
    for own in (HTMLResponse("<p>"), HTMLResponse("<p>", headers={"content-security-policy": "sandbox"})):
        job, client = make_job(), Client()
        await pass_through(job, client, own)
        policies.append(client.headers["content-security-policy"])
        assert client.headers["x-content-type-options"] == "nosniff"
    assert policies == ["frame-ancestors 'self'; base-uri 'self'", "sandbox"]


async def test_a_response_of_the_endpoint_is_sent_to_one_request() -> None:
    job, first, second = make_job(), Client(), Client()
    answering = pass_through(job, first, StreamingResponse(Counting()))
    await first.until("chunk 2")
    await second.call(ResultResponse(job, SETTINGS))
    assert (second.status, json.loads(second.body)["error"]["code"]) == (422, "invalid_input")
    assert not job.is_over
    first.leave()
    await answering


async def test_a_response_that_reads_another_log_is_sent_when_its_job_has_ended() -> None:
    job, client = make_job(), Client()
    await answer_to(job).hand_over_on_loop(job, ReadingResponse("read"))
    job.succeed(None)
    await client.call(ResultResponse(job, SETTINGS))
    assert (client.body, answer_to(job).reading) == ("read", None)


async def test_the_job_lasts_until_the_response_has_been_called_to_its_end() -> None:
    job, client, seen = make_job(), Client(), []
    task = BackgroundTask(lambda: seen.append(job.status))
    await pass_through(job, client, PlainTextResponse("hi", background=task))
    assert (seen, job.status) == (["queued"], "succeeded")


@pytest.mark.parametrize("spec_version", ["2.3", "2.4"])
async def test_a_client_that_leaves_a_response_ends_its_job(spec_version: str) -> None:
    """Told of ASGI 2.4, Starlette's own response does not listen; the job ends all the same."""
    job, client = make_job(), Client(spec_version=spec_version)
    answering = pass_through(job, client, StreamingResponse(Counting()))
    await client.until("chunk 2")
    client.leave()
    await answering
    assert (job.status, client.is_complete) == ("cancelled", False)


async def test_a_response_that_blocks_in_a_thread_does_not_hold_the_job_of_a_client_that_left() -> None:
    def chunks() -> Iterator[str]:
        yield "first"
        may_end.wait(WAIT_S)

    may_end = threading.Event()
    job, client = make_job(), Client()
    answering = pass_through(job, client, StreamingResponse(chunks()))
    await client.until("first")
    client.leave()
    await answering
    assert job.status == "cancelled"
    may_end.set()


async def test_a_response_that_a_server_cannot_send_is_left_to_the_listener() -> None:
    job, client = make_job(), Client(spec_version="2.4")
    client.raises = BrokenPipeError
    answering = pass_through(job, client, StreamingResponse(Counting()))
    await client.until("chunk 2")
    client.leave()
    await answering
    assert job.status == "cancelled"


async def test_a_response_that_ends_without_its_end_is_no_success() -> None:
    class Torn(Response):
        async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": b"half", "more_body": True})

    job, client = make_job(), Client()
    await pass_through(job, client, Torn())
    assert (job.status, client.body) == ("cancelled", "half")


async def test_a_response_that_raises_fails_its_job() -> None:
    def chunks() -> Iterator[str]:
        yield "first"
        raise ValueError("broken")

    job, client = make_job(), Client()
    with pytest.raises(ValueError, match="broken"):
        await pass_through(job, client, StreamingResponse(chunks()))
    assert (job.status, client.is_complete) == ("failed", False)


async def test_a_response_of_a_job_that_is_out_of_time_is_cut() -> None:
    job, client = make_job(), Client()
    answering = pass_through(job, client, StreamingResponse(Counting()))
    await client.until("chunk 2")
    await asyncio.to_thread(job.expire)
    await answering
    assert (job.status, client.ended_by, client.is_complete) == ("failed", ["abort"], False)


# A job that is begun again


def begun_again() -> Job:
    job = make_job()
    job.start()
    emit(job, "a")
    job.begin_again()
    job.start()
    emit(job, "b")
    job.succeed(None)
    return job


async def test_a_stream_goes_on_into_the_next_attempt() -> None:
    job = begun_again()
    client = await stream(job)
    names = [block.splitlines()[0] for block in client.blocks]
    assert names == ["event: output", "event: restarted", "event: output"]
    assert [f"id: {job.id}:{place}" in client.body for place in ("1.2", "2.1", "2.2")] == [True] * 3
    assert client.is_complete


async def test_who_has_seen_the_attempt_that_is_lost_gets_the_rest_of_it_and_the_next() -> None:
    job = begun_again()
    client = await stream(job, after=1, is_get=True)
    assert [line for line in client.body.splitlines() if line.startswith("data: ")][:3] == [
        'data: "a"',
        'data: {"attempt":2}',
        'data: "b"',
    ]


@pytest.mark.parametrize("format", ["ndjson", "text"])
async def test_lines_and_text_that_are_to_be_forgotten_are_cut(format: Any) -> None:
    client = await stream(begun_again(), format=format)
    assert client.ended_by == ["abort"]
    assert "b" not in client.body


async def test_the_start_of_a_job_does_not_begin_its_stream() -> None:
    """A failure before the first output stays a normal HTTP error."""
    job, client = make_job(), Client()
    task = client.call(EventStreamResponse(job, SETTINGS))
    await asyncio.sleep(0)
    job.start()
    await asyncio.sleep(0)
    assert client.sent == []
    job.fail(ValueError("no"))
    await task
    assert client.status == 500


@pytest.mark.parametrize("ends", ["before", "later"])
async def test_a_job_that_no_request_started_is_waited_for(ends: str) -> None:
    """One that came out of a store, or from another face."""
    job, client = Job(request(), SETTINGS), Client()
    if ends == "before":
        job.succeed(to_event(1))
    answering = client.call(ResultResponse(job, SETTINGS))
    await asyncio.sleep(0)
    job.succeed(to_event(1))
    await answering
    assert (client.status, client.body) == (200, "1")


# Over HTTP


def test_the_headers_of_a_stream(kinds: TestClient) -> None:
    headers = kinds.post("/generator").headers
    assert (headers["cache-control"], headers["x-accel-buffering"]) == ("no-cache", "no")
    assert len(headers["x-streamapp-job-id"]) == 32


def test_a_get_stream_is_what_event_source_reads(kinds: TestClient) -> None:
    answer = kinds.get("/generator?n=2")
    job, first, second, done = blocks(answer.text)
    job_id = answer.headers["x-streamapp-job-id"]
    assert (job["event"], job["id"], job["retry"]) == ("job", f"{job_id}:1.0", "1000")
    assert set(json.loads(job["data"])) == {"job_id", "status", "position"}
    assert (first, second) == (
        {"id": f"{job_id}:1.2", "data": '{"n":0}'},  # 1.1 is `started`, which is no part of the stream
        {"id": f"{job_id}:1.3", "data": '{"n":1}'},
    )
    assert (done["event"], done["id"]) == ("done", f"{job_id}:1.4")


FAILURES = pytest.mark.parametrize(
    ("error", "status", "code", "retryable"),
    [
        (ValueError("/secret/path"), 500, "endpoint_failed", False),
        (HTTPException(402, {"credits": 0}), 402, "refused", False),
        (streamapp.StreamAppError("told as it is"), 500, "internal_error", False),
        (OutOfMemoryError("CUDA out of memory"), 503, "out_of_memory", True),
        (SystemExit(1), 500, "endpoint_failed", False),
        (StopIteration(), 500, "endpoint_failed", False),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, BaseException) else "",
)


@FAILURES
@pytest.mark.parametrize("path", ["/value", "/async-value", "/stream", "/async-stream"])
def test_a_failure_before_the_first_event_is_an_http_error(
    failing: tuple[Failing, TestClient], path: str, error: BaseException, status: int, code: str, retryable: bool
) -> None:
    app, client = failing
    app.error = error
    answer = client.post(path)
    assert shape(answer) == (status, code)
    assert answer.json()["error"]["retryable"] is retryable
    assert "/secret" not in answer.text
    assert client.post("/fine").json() == 1


@FAILURES
def test_a_failure_after_the_first_event_is_an_error_event(
    failing: tuple[Failing, TestClient], error: BaseException, status: int, code: str, retryable: bool
) -> None:
    app, client = failing
    app.error, app.events = error, 2
    answer = client.post("/stream")
    assert (answer.status_code, names(answer.text)) == (200, ["output", "output", "error"])
    assert data(answer.text)[-1]["error"]["code"] == code
    assert client.post("/fine").json() == 1


def test_a_picture_is_sent_bare_to_who_names_its_type(results: tuple[Results, TestClient]) -> None:
    app, client = results
    app.value = {"image": PICTURE}
    answer = client.post("/value", headers={"Accept": "image/png"})
    assert (answer.headers["content-type"], answer.content) == ("image/png", base64.b64decode(PNG))


@pytest.mark.parametrize(
    ("path", "status", "body"),
    [("/response", 418, "own"), ("/async-response", 200, "ab"), ("/undeclared-response", 200, "own")],
)
def test_a_response_passes_through_unchanged(kinds: TestClient, path: str, status: int, body: str) -> None:
    answer = kinds.post(path)
    assert (answer.status_code, answer.text, answer.headers.get("x-own")) == (
        status,
        body,
        "1" if status == 418 else None,
    )
