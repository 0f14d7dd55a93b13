"""Answers for jobs as OpenAI has them: streams that end well with `[DONE]`, or break off, and documents."""

import asyncio
import json
from collections.abc import Callable
from typing import Any

import pytest
from starlette.responses import PlainTextResponse, Response
from tests.asgi_client import Client
from tests.at_work import request

from streamapp.errors import EndpointFailed, NotEncodable
from streamapp.http.response import REMAINDER_EXTENSION
from streamapp.jobs.events import Event, Preview, to_event
from streamapp.jobs.job import Job
from streamapp.openai.answers import answer_for
from streamapp.openai.asked import Asked
from streamapp.settings import Settings

SETTINGS = Settings(first_event_wait_s=0.02, heartbeat_s=60, send_timeout_s=30)
END = "data: last\n\ndata: [DONE]\n\n"


class Telling:
    def told(self, event: Event) -> bytes:
        if event.kind == "output" and event.json() == "bad":
            raise NotEncodable("no such form")
        return b"data: %b\n\n" % event.data if event.kind == "output" else b""

    def ended(self, job: Job) -> bytes:
        return b"data: last\n\n"

    def whole(self, job: Job) -> Response:
        if job.result is None:
            raise NotEncodable("no such form")
        return PlainTextResponse(job.result.data)


def asked(*, streams: bool = True, **options: Any) -> Asked:
    spec: Any = None
    return Asked(spec=spec, input={}, telling=Telling(), streams=streams, **options)


def made(*values: Any) -> Job:
    job = Job(request(), SETTINGS)
    for value in values:
        job.channel.emit(to_event(value), waits=False)
    return job


async def answered(job: Job, **options: Any) -> Client:
    client = Client()
    await client.call(answer_for(job, asked(**options), SETTINGS))
    return client


@pytest.mark.parametrize("encodes_media", [False, True])
async def test_a_stream_that_succeeds_ends_with_done(encodes_media: bool) -> None:
    job = made(1, 2)
    job.succeed(None)
    client = await answered(job, encodes_media=encodes_media)
    assert client.body == f"data: 1\n\ndata: 2\n\n{END}"
    assert client.headers["x-streamapp-job-id"] == client.headers["x-request-id"] == job.id


async def test_done_is_left_out_where_a_path_has_none() -> None:
    job = made(1)
    job.succeed(None)
    assert (await answered(job, says_done=False)).body == "data: 1\n\ndata: last\n\n"


async def test_what_comes_later_is_told_when_it_comes() -> None:
    job = made()
    client = Client()
    answering = client.call(answer_for(job, asked(), SETTINGS))
    for value in (1, 2):
        await client.until(": open" if value == 1 else "data: 1")
        job.channel.emit(to_event(value), waits=False)
    await client.until("data: 2")
    job.channel.emit(to_event(Preview({"step": 1})), waits=False)
    job.succeed(None)
    await answering
    assert client.body == f": open\ndata: 1\n\ndata: 2\n\n{END}"


async def waiting(job: Job, client: Client) -> "asyncio.Task[Any]":
    """Answer as under our own server, up to where the stream waits for more."""
    remainder: list[Any] = []
    client.scope["extensions"][REMAINDER_EXTENSION] = remainder
    await client.call(answer_for(job, asked(), SETTINGS))
    answering = asyncio.create_task(remainder.pop()(client.receive, client.send))
    await client.until(": open")
    await asyncio.sleep(0)
    return answering


async def test_what_comes_while_the_stream_waits_is_written_at_once(advance: Callable[[float], None]) -> None:
    job, client = made(), Client()
    answering = await waiting(job, client)
    client.unsent_bytes = 0
    for value in (1, 2):
        advance(0.01)
        await job.channel.aemit(to_event(value))
        assert client.written.endswith(b"data: %d\n\n\r\n" % value)
    job.succeed(None)
    await answering
    assert client.body == f": open\n{END}"


async def test_what_cannot_be_written_at_once_is_told_once(advance: Callable[[float], None]) -> None:
    job, client = made(), Client()
    answering = await waiting(job, client)
    advance(0.01)
    for value in (1, 2):
        await job.channel.aemit(to_event(value))
    job.succeed(None)
    await answering
    assert (client.written, client.body) == (b"", f": open\ndata: 1\n\ndata: 2\n\n{END}")


async def test_what_is_about_the_stream_is_left_to_it(advance: Callable[[float], None]) -> None:
    job, client = made(), Client()
    answering = await waiting(job, client)
    advance(0.01)
    client.unsent_bytes = 0
    await job.channel.aemit(Event("restarted", b"{}"))
    await answering
    assert (client.written, client.ended_by) == (b"", ["abort"])


async def test_what_cannot_be_told_at_once_is_told_by_the_stream(advance: Callable[[float], None]) -> None:
    job, client = made(), Client()
    answering = await waiting(job, client)
    advance(0.01)
    client.unsent_bytes = 0
    await job.channel.aemit(to_event("bad"))
    await answering
    assert "no such form" in client.body


async def test_what_is_not_told_writes_nothing() -> None:
    job, client = made(Preview({"step": 1})), Client()
    answering = client.call(answer_for(job, asked(), SETTINGS))
    await client.until(messages=1)
    job.succeed(None)
    await answering
    assert client.body.removeprefix(": open\n") == END


async def test_a_reader_that_the_producer_gave_up_is_cut_off() -> None:
    job, client = Job(request(), SETTINGS.model_copy(update={"ahead_events": 1, "send_timeout_s": 0.01})), Client()
    client.is_stuck_at = "http.response.body"
    answering = client.call(answer_for(job, asked(), SETTINGS))
    await client.until(": open")
    for value in (1, 2):
        await job.channel.aemit(to_event(value))
    client.read_on()
    await answering
    assert client.ended_by == ["abort"]


async def test_a_failure_before_the_first_event_is_an_error_of_its_own() -> None:
    job = made()
    job.fail(EndpointFailed("broken"))
    assert (await answered(job)).status == 500


async def test_a_failure_in_the_midst_is_told_and_the_stream_breaks_off() -> None:
    job = made(1)
    job.fail(EndpointFailed("broken"))
    text = (await answered(job)).body
    first, error = text.split("\n\n")[:2]
    assert first == "data: 1"
    assert json.loads(error.removeprefix("data: "))["error"]["message"] == "broken"
    assert "[DONE]" not in text


async def test_what_cannot_be_told_at_the_beginning_is_an_error_and_ends_the_job() -> None:
    job = made("bad")
    client = await answered(job)
    assert client.status == 500 and "no such form" in client.body
    assert job.status == "cancelled"


async def test_what_cannot_be_told_breaks_the_stream_off() -> None:
    job = made(1)
    client = Client()
    answering = client.call(answer_for(job, asked(), SETTINGS))
    await client.until("data: 1")
    job.channel.emit(to_event("bad"), waits=False)
    await answering
    text = client.body
    assert "no such form" in text
    assert "[DONE]" not in text


async def test_a_stream_whose_job_begins_again_breaks_off() -> None:
    job = made()
    job.start()
    job.channel.emit(to_event(1), waits=False)
    job.begin_again()
    job.start()
    job.succeed(None)
    client = await answered(job)
    assert client.ended_by == ["abort"]
    assert "[DONE]" not in client.body


async def test_silence_has_heartbeats(advance: Callable[[float], None]) -> None:
    job = made()
    client = Client()
    answering = client.call(answer_for(job, asked(), SETTINGS))
    await client.until(": open")
    advance(60)
    await client.until(": ping")
    job.succeed(None)
    await answering


async def test_a_client_that_leaves_cancels_the_job() -> None:
    job = made(1)
    client = Client()
    answering = client.call(answer_for(job, asked(), SETTINGS))
    await client.until("data: 1")
    client.leave()
    await answering
    assert job.status == "cancelled"


async def test_a_document_is_told_of_the_whole_job() -> None:
    job = made()
    job.succeed(to_event("all"))
    client = await answered(job, streams=False)
    assert (client.body, client.headers["x-streamapp-job-id"]) == ('"all"', job.id)


async def test_a_document_that_cannot_be_told_is_an_error() -> None:
    job = made()
    job.succeed(None)
    assert (await answered(job, streams=False)).status == 500


async def test_a_path_may_answer_by_itself() -> None:
    job = made()
    client = await answered(job, answer=lambda job, settings: PlainTextResponse(job.id))
    assert client.body == job.id
