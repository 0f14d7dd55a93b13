"""Responses that endpoints make themselves: handed over, waited for, kept, refused."""

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from sse_starlette import EventSourceResponse
from starlette.background import BackgroundTask
from starlette.exceptions import HTTPException
from starlette.responses import (
    FileResponse,
    JSONResponse,
    PlainTextResponse,
    RedirectResponse,
    Response,
    StreamingResponse,
)
from starlette.testclient import TestClient
from starlette.types import Receive, Scope, Send
from tests.at_work import SETTINGS, Gate, request
from tests.served import Kinds, runtime_of, serving
from tests.waiting import WAIT_S

from streamapp.errors import Cancelled, EndpointFailed, NotEncodable
from streamapp.http.answer import NO_ANSWER, Answer, ReadingResponse, StreamAnswer, answer_of, own_headers
from streamapp.http.call import LAST_EVENT
from streamapp.jobs.job import Job
from streamapp.media import File


def new(answer: Any, **asked: Any) -> Job:
    return Job(request(**asked), SETTINGS, answer=answer)


async def hand_over(job: Job, response: Response, *, on_loop: bool) -> None:
    assert job.answer is not None
    if on_loop:
        await job.answer.hand_over_on_loop(job, response)
    else:
        await asyncio.to_thread(job.answer.hand_over, job, response)


def test_an_answer_takes_responses() -> None:
    assert Answer().takes(Response())
    assert not Answer().takes({"url": "x"})


@pytest.mark.parametrize("on_loop", [True, False])
async def test_a_response_is_handed_over_and_waited_for_until_the_job_ends(on_loop: bool) -> None:
    answer, response = Answer(), Response("own")
    job = new(answer)
    handing_over = asyncio.create_task(hand_over(job, response, on_loop=on_loop))
    assert await asyncio.wrap_future(answer.outcome) is response
    assert job.has_own_answer
    assert not handing_over.done()
    job.succeed(None)
    if on_loop:
        await handing_over
    else:
        with pytest.raises(Cancelled):  # the job is over, and the endpoint's code has no more to do
            await handing_over
    assert answer.outcome.result(0) is None  # let go of: its iterator may hold tensors


@pytest.mark.parametrize("on_loop", [True, False])
async def test_a_response_that_reads_another_log_is_left_to_its_reader(on_loop: bool) -> None:
    answer, response = Answer(), ReadingResponse()
    job = new(answer)
    await hand_over(job, response, on_loop=on_loop)
    assert (answer.reading, job.has_own_answer, answer.outcome.done()) == (response, True, False)


async def test_a_response_comes_too_late_for_a_job_that_has_ended() -> None:
    job = new(Answer())
    job.cancel()
    with pytest.raises(Cancelled):
        await hand_over(job, Response(), on_loop=False)


def test_a_response_is_not_waited_for_beyond_the_deadline() -> None:
    """It is the last to notice when nobody watches deadlines any more."""
    answer = Answer()
    job = new(answer, timeout_s=0.01)
    assert job.start()
    with pytest.raises(Cancelled):
        answer.hand_over(job, Response())
    assert job.is_expired


@pytest.mark.parametrize("on_loop", [True, False])
@pytest.mark.parametrize("is_detached", [True, False])
@pytest.mark.parametrize("answer", [NO_ANSWER, StreamAnswer(Response())])
async def test_a_response_of_a_stream_is_refused(answer: Answer, is_detached: bool, on_loop: bool) -> None:
    job = new(answer, is_detached=is_detached)
    assert not answer.keeps(job, Response())
    with pytest.raises(NotEncodable, match="declare -> Response instead"):
        await hand_over(job, Response(), on_loop=on_loop)
    assert not job.has_own_answer


def test_the_endpoints_own_headers_leave_the_body_as_it_is() -> None:
    own = Response(b"ab", headers={"x-billable-units": "2"}, media_type="text/plain")
    assert own_headers(new(Answer(own))) == [(b"x-billable-units", b"2")]
    assert own_headers(new(NO_ANSWER)) == own_headers(new(None)) == []


def test_a_job_that_no_request_started_has_no_answer() -> None:
    assert answer_of(new(None)) is None
    assert answer_of(new(NO_ANSWER)) is NO_ANSWER


# Kept by its job


class Torn(Response):
    """Send nothing at all."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None: ...


async def keep(response: Response) -> tuple[Job, Any]:
    answer = Answer()
    job = new(answer, is_detached=True)
    assert answer.keeps(job, response)
    return job, await answer.keep(job, response)


def outputs(job: Job) -> list[tuple[str, Any]]:
    return [(event.name, event.json()) for event in job.channel.events() if event.kind == "output"]


@pytest.mark.parametrize("ping", [0, 0.001])
async def test_a_stream_of_events_becomes_the_jobs_outputs(ping: float) -> None:
    async def events() -> AsyncIterator[Any]:
        yield {"event": "token", "data": '{"n": 1}'}
        await asyncio.sleep(0)
        yield "plain"

    job, result = await keep(EventSourceResponse(events(), ping=ping))
    assert (outputs(job), result) == ([("token", {"n": 1}), ("output", "plain")], None)


async def test_any_response_is_kept_as_it_would_be_sent(tmp_path: Path) -> None:
    (tmp_path / "x.bin").write_bytes(b"bytes")
    file = FileResponse(tmp_path / "x.bin", filename="x.bin")
    assert (await keep(file))[1] == File(b"bytes", "application/octet-stream", "x.bin")
    assert (await keep(JSONResponse({"n": 1})))[1] == {"n": 1}
    assert (await keep(PlainTextResponse("own", background=BackgroundTask(lambda: None))))[1] == "own"
    assert (await keep(RedirectResponse("/there")))[1] == {"url": "/there"}
    assert (await keep(Torn()))[1] is None
    job, result = await keep(StreamingResponse(iter(["a", "b"]), media_type="text/plain"))
    assert (outputs(job), result) == ([("output", "a"), ("output", "b")], "ab")


async def test_a_response_that_tells_of_an_error_fails_its_job() -> None:
    with pytest.raises(HTTPException) as raised:
        await keep(JSONResponse({"detail": "no such seed"}, 404))
    assert (raised.value.status_code, raised.value.detail) == (404, "no such seed")


@pytest.mark.parametrize("exiting", [SystemExit, KeyboardInterrupt])
async def test_an_iterator_that_exits_ends_its_response_and_no_more(exiting: type[BaseException]) -> None:
    async def leaving() -> AsyncIterator[str]:
        raise exiting
        yield ""

    with pytest.raises(EndpointFailed, match=exiting.__name__):
        await keep(StreamingResponse(leaving()))


async def test_a_job_that_ends_stops_its_response_and_closes_the_iterator() -> None:
    at_work, closed = asyncio.Event(), asyncio.Event()

    async def endless() -> AsyncIterator[str]:
        try:
            at_work.set()
            await asyncio.Event().wait()
            yield ""
        finally:
            await asyncio.sleep(0)  # as one does that closes what it has opened
            closed.set()

    keeping = asyncio.create_task(keep(StreamingResponse(endless())))
    await at_work.wait()
    keeping.cancel()
    with pytest.raises(asyncio.CancelledError):
        await keeping
    async with asyncio.timeout(WAIT_S):
        await closed.wait()


async def test_an_iterator_between_two_pieces_is_closed_too() -> None:
    closed = list[str]()

    async def two() -> AsyncIterator[str]:
        try:
            yield "data: 1\n\n"
            yield "data: 2\n\n"
        finally:
            closed.append("closed")

    job = new(answer := Answer(), is_detached=True)
    job.cancel()
    with pytest.raises(Cancelled):
        await answer.keep(job, StreamingResponse(two(), media_type="text/event-stream"))
    assert closed == ["closed"]


async def test_a_generator_that_runs_in_threads_has_been_closed_when_its_response_has_ended(
    caplog: pytest.LogCaptureFixture,
) -> None:
    threads = list[threading.Thread]()

    def two() -> Iterator[str]:
        try:
            yield "data: 1\n\n"
            yield "data: 2\n\n"
        finally:
            threads.append(threading.current_thread())
            raise SystemExit

    held = two()  # as a thread of the pool may, a moment longer
    job = new(answer := Answer(), is_detached=True)
    job.cancel()
    with pytest.raises(Cancelled):
        await answer.keep(job, StreamingResponse(held, media_type="text/event-stream"))
    assert len(threads) == 1 and threads[0] is not threading.current_thread()
    assert "could not be closed" in caplog.text


async def test_an_iterator_in_a_thread_is_waited_for_by_the_response_and_not_by_the_job(gate: Gate) -> None:
    def blocking() -> Iterator[str]:
        yield gate()
        yield "never sent"

    answer = Answer()
    keeping = asyncio.create_task(answer.keep(new(answer, is_detached=True), StreamingResponse(blocking())))
    await asyncio.to_thread(gate.wait)
    sending = answer.sending
    assert sending is not None
    keeping.cancel()
    with pytest.raises(asyncio.CancelledError):
        await keeping
    assert not sending.task.done()
    gate.opened.set()
    async with asyncio.timeout(WAIT_S):
        await asyncio.wait({sending.task})
    assert answer.sending is None


@pytest.mark.parametrize(
    ("answer", "said", "is_kept"),
    [
        (Answer(), "1", False),
        (Answer(wants_last_event=True), "", True),
        (Answer(takes_last_event=True), "1", True),
        (Answer(takes_last_event=True), "0", False),
    ],
)
def test_the_last_event_is_the_answer_where_the_request_or_the_response_says_so(
    answer: Answer, said: str, is_kept: bool
) -> None:
    response = Response(media_type="Text/Event-Stream", headers={LAST_EVENT: said})
    assert answer.keeps(new(answer), response) == is_kept
    assert not answer.keeps(new(answer), PlainTextResponse("no events", headers={LAST_EVENT: said}))


# Over HTTP


def test_a_response_of_an_endpoint_that_is_declared_a_stream_is_refused(kinds: TestClient) -> None:
    answer = kinds.post("/misdeclared-response")
    assert (answer.status_code, answer.json()["error"]["code"]) == (500, "not_encodable")
    assert "declare -> Response instead" in answer.json()["detail"]


def test_a_job_lets_go_of_its_response() -> None:
    """Jobs are kept for minutes; what the iterator of a response holds can be tensors."""
    with serving(Kinds) as client:
        runtime_of(client).observers.append((ended := list[Job]()).append)
        client.post("/async-response")
    (job,) = ended
    answer = answer_of(job)
    assert answer is not None
    assert (job.status, answer.outcome.result()) == ("succeeded", None)
