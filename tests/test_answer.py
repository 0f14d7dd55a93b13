"""Responses that endpoints make themselves: handed over, waited for, refused."""

import asyncio
from typing import Any

import pytest
from starlette.responses import Response
from starlette.testclient import TestClient
from tests.at_work import SETTINGS, request
from tests.served import ASYNC, Kinds, runtime_of, serving

from streamapp.errors import Cancelled, NotEncodable
from streamapp.http.answer import NO_ANSWER, Answer, StreamAnswer, answer_of, own_headers
from streamapp.jobs.job import Job


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
@pytest.mark.parametrize(
    ("answer", "is_detached", "message"),
    [
        (Answer(), True, "which no job can keep; call it directly"),
        (NO_ANSWER, False, "declare -> Response instead"),
        (StreamAnswer(Response()), False, "declare -> Response instead"),
    ],
)
async def test_a_response_that_nobody_waits_for_is_refused(
    answer: Answer, is_detached: bool, message: str, on_loop: bool
) -> None:
    job = new(answer, is_detached=is_detached)
    with pytest.raises(NotEncodable, match=message):
        await hand_over(job, Response(), on_loop=on_loop)
    assert not job.has_own_answer


def test_the_endpoints_own_headers_leave_the_body_as_it_is() -> None:
    own = Response(b"ab", headers={"x-billable-units": "2"}, media_type="text/plain")
    assert own_headers(new(Answer(own))) == [(b"x-billable-units", b"2")]
    assert own_headers(new(NO_ANSWER)) == own_headers(new(None)) == []


def test_a_job_that_no_request_started_has_no_answer() -> None:
    assert answer_of(new(None)) is None
    assert answer_of(new(NO_ANSWER)) is NO_ANSWER


# Over HTTP


def test_a_response_that_no_job_can_keep_is_refused(kinds: TestClient) -> None:
    job_id = kinds.post("/response", headers=ASYNC).json()["job_id"]
    kinds.post("/value")  # behind it in the queue
    assert "call it directly" in kinds.get(f"/jobs/{job_id}/result").json()["detail"]


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
