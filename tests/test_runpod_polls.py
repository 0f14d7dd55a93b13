"""Polls of a job's stream: what each answer has, what moves, and how it ends."""

import asyncio
import json
from collections.abc import Callable
from typing import Any

import pytest
from tests.asgi_client import Client
from tests.at_work import request

from streamapp.errors import MalformedRequest
from streamapp.jobs.events import Log, Output, Preview, Progress, to_event
from streamapp.jobs.job import Job
from streamapp.runpod import polls
from streamapp.runpod.polls import PollResponse, Positions
from streamapp.settings import Settings

Advance = Callable[[float], None]
SETTINGS = Settings()


class Polled:
    """A job, and those who poll its stream."""

    def __init__(self, **settings: Any) -> None:
        self.settings = Settings(**settings)
        self.job = Job(request(is_detached=True), self.settings)
        self.positions = Positions()
        self.job.start()

    def emit(self, *values: Any) -> None:
        for value in values:
            self.job.channel.emit(to_event(value), waits=False)

    def response(self, *, cursor: str | None = None, wait_s: float = 0) -> PollResponse:
        return PollResponse(self.job, self.settings, self.positions, cursor=cursor, wait_s=wait_s)

    async def poll(self, client: Client | None = None, **asked: Any) -> dict[str, Any]:
        client = client or Client()
        await client.call(self.response(**asked))
        answer: dict[str, Any] = json.loads(client.body)
        assert client.headers["content-length"] == str(len(client.body.encode()))
        return answer


@pytest.fixture
def polled() -> Polled:
    return Polled()


def items(*values: Any) -> dict[str, Any]:
    return {"status": "IN_PROGRESS", "stream": [{"output": value} for value in values]}


async def test_each_poll_gets_what_is_new_and_the_end_comes_alone(polled: Polled) -> None:
    polled.emit({"i": 0}, "a", None)
    assert await polled.poll() == items({"i": 0}, "a", None)
    polled.emit([1])
    polled.job.succeed(to_event(2))
    assert await polled.poll() == items([1], 2)
    assert [await polled.poll() for _ in range(2)] == [{"status": "COMPLETED", "stream": []}] * 2


async def test_a_queued_job_says_so() -> None:
    job = Job(request(is_detached=True), SETTINGS)
    client = Client()
    await client.call(PollResponse(job, SETTINGS, Positions(), cursor=None, wait_s=0))
    assert json.loads(client.body) == {"status": "IN_QUEUE", "stream": []}


async def test_what_is_no_item_moves_the_position_and_ends_no_wait(polled: Polled) -> None:
    polling = asyncio.create_task(polled.poll(wait_s=1000))
    for value in (Log("line"), Progress(1, 2)):
        polled.emit(value)
        await asyncio.sleep(0.01)
        assert not polling.done()
    polled.emit("a")
    assert await polling == items("a")


async def test_the_end_ends_a_wait(polled: Polled) -> None:
    polling = asyncio.create_task(polled.poll(wait_s=1000))
    await asyncio.sleep(0)
    polled.job.succeed(None)
    assert await polling == {"status": "COMPLETED", "stream": []}


async def test_a_wait_ends_after_its_time(polled: Polled, advance: Advance) -> None:
    polling = asyncio.create_task(polled.poll(wait_s=8))
    await asyncio.sleep(0.01)
    advance(9)
    assert await polling == {"status": "IN_PROGRESS", "stream": []}


async def test_a_failed_job_says_why(polled: Polled) -> None:
    polled.emit("a")
    polled.job.fail(MalformedRequest("no such style"))
    assert await polled.poll() == items("a")
    assert await polled.poll() == {"status": "FAILED", "error": "no such style", "stream": []}


async def test_a_job_that_ran_too_long_is_told_once_as_such_and_then_as_failed(polled: Polled) -> None:
    polled.job.expire()
    told = [await polled.poll() for _ in range(3)]
    assert [answer["status"] for answer in told] == ["TIMED_OUT", "FAILED", "FAILED"]
    assert all("ran longer than its timeout_s" in answer["error"] for answer in told)
    assert (await polled.poll(cursor=""))["status"] == "TIMED_OUT"


async def test_a_cancelled_job_is_told_once_as_such_and_then_as_failed(polled: Polled) -> None:
    polled.emit("a")
    polled.job.cancel()
    told = [await polled.poll() for _ in range(4)]
    assert [answer["status"] for answer in told] == ["IN_PROGRESS", "CANCELLED", "FAILED", "FAILED"]
    assert ("error" in told[1], told[2]["error"]) == (False, "the job was cancelled")


async def test_an_item_that_is_no_plain_output_says_what_it_is(polled: Polled) -> None:
    polled.emit(Output("x", event="token"), Preview({"i": 1}, step=1), Preview({"i": 2}, step=2))
    assert (await polled.poll())["stream"] == [
        {"output": "x", "event": "token"},
        {"output": {"i": 2, "step": 2, "total": None}, "event": "preview"},
    ]


async def test_who_polls_watches_for_ten_seconds(polled: Polled, advance: Advance) -> None:
    wants = polled.job.channel.wants_preview
    assert not wants()
    await polled.poll()
    polled.emit(Preview({"i": 1}))
    assert not wants()  # it was not taken yet
    await polled.poll()
    assert wants()
    advance(11)
    assert not wants()


# Whose position it is, and when it moves


async def test_a_client_that_hung_up_while_it_waited_gets_the_same_again(polled: Polled) -> None:
    client = Client()
    waiting = client.call(polled.response(wait_s=1000))
    await asyncio.sleep(0.01)
    client.leave()
    await waiting
    polled.emit("a")
    assert client.sent == []
    assert await polled.poll() == items("a")


async def test_a_client_that_hung_up_while_it_was_answered_gets_the_same_again(polled: Polled) -> None:
    polled.emit("a")
    for cut in (Client.leave, Client.abort):
        client = Client()
        client.is_stuck_at = "http.response.body"
        answering = client.call(polled.response())
        await client.until("a")
        cut(client)
        client.read_on()
        await answering
    assert await polled.poll() == items("a")


@pytest.mark.parametrize("error", [OSError, TimeoutError])
async def test_an_answer_that_cannot_be_written_moves_nothing(polled: Polled, error: type[OSError]) -> None:
    polled.emit("a")
    client = Client()
    client.raises = error
    await client.call(polled.response())
    assert client.ended_by == ["abort"]
    assert await polled.poll() == items("a")


async def test_of_two_who_poll_at_once_each_item_comes_to_one(polled: Polled) -> None:
    polling = [asyncio.create_task(polled.poll(wait_s=1000)) for _ in range(2)]
    await asyncio.sleep(0.01)
    polled.emit("a")
    await asyncio.wait(polling, return_when=asyncio.FIRST_COMPLETED)
    polled.emit("b")
    assert sorted([(await task)["stream"][0]["output"] for task in polling]) == ["a", "b"]


async def test_who_waits_for_another_poll_is_answered_in_time(polled: Polled) -> None:
    first = asyncio.create_task(polled.poll(wait_s=1000))
    await asyncio.sleep(0.01)
    assert await polled.poll() == {"status": "IN_PROGRESS", "stream": []}
    polled.emit("a")
    assert await first == items("a")


async def test_who_has_no_turn_in_time_is_answered_with_nothing(polled: Polled) -> None:
    first = asyncio.create_task(polled.poll(wait_s=1000))
    await asyncio.sleep(0.01)
    assert await polled.poll(wait_s=0) == {"status": "IN_PROGRESS", "stream": []}
    polled.emit("a")
    assert await first == items("a")


async def test_who_leaves_does_not_wait_for_a_turn_and_takes_nothing(polled: Polled) -> None:
    first = asyncio.create_task(polled.poll(wait_s=1000))
    await asyncio.sleep(0.01)
    client = Client()
    second = client.call(polled.response(wait_s=1000))
    await asyncio.sleep(0.01)
    client.leave()
    await second
    assert client.sent == []
    polled.emit("a")
    assert await first == items("a")
    polled.emit("b")
    assert await polled.poll() == items("b")


async def test_who_leaves_as_its_turn_comes_takes_nothing(polled: Polled) -> None:
    client = Client()
    await polled.response()._position.turn.acquire()
    second = client.call(polled.response(wait_s=1000))
    await asyncio.sleep(0.01)
    client.leave()
    polled.response()._position.turn.release()
    await second
    polled.emit("a")
    assert (client.sent, await polled.poll()) == ([], items("a"))


async def test_a_cursor_is_the_clients_own_and_moves_nothing(polled: Polled) -> None:
    polled.emit("a", "b")
    first = await polled.poll(cursor="")
    assert first == {**items("a", "b"), "cursor": "1.3"}
    polled.emit("c")
    assert [await polled.poll(cursor=first["cursor"]) for _ in range(2)] == [{**items("c"), "cursor": "1.4"}] * 2
    polled.job.cancel()
    assert [(await polled.poll(cursor="1.4"))["status"] for _ in range(2)] == ["CANCELLED"] * 2
    assert await polled.poll() == items("a", "b", "c")


@pytest.mark.parametrize("cursor", ["x", "1", "-1.2", "1.99", "0.3", "2.1", "1.2.3", "１.2"])
def test_a_cursor_that_is_none_of_this_job_is_refused(polled: Polled, cursor: str) -> None:
    with pytest.raises(MalformedRequest, match=r'cursor: expected the "cursor" of an earlier answer'):
        polled.response(cursor=cursor)


# What is lost, and what is too much


async def test_what_a_lost_attempt_has_brought_and_nobody_read_is_not_sent(polled: Polled) -> None:
    polled.emit("a")
    assert await polled.poll() == items("a")
    polled.emit("b", Preview({}))
    polled.job.begin_again()
    assert await polled.poll() == {"status": "IN_QUEUE", "stream": []}
    polled.emit("c")  # of the worker that is lost
    polled.job.start()
    polled.emit("d")
    assert await polled.poll() == items("d")


async def test_what_was_trimmed_is_told() -> None:
    polled = Polled(behind_events=2)
    polled.emit(*"abcd")
    assert await polled.poll() == {**items("c", "d"), "lagged": {"skipped": 2}}
    assert await polled.poll() == {"status": "IN_PROGRESS", "stream": []}


async def test_an_answer_is_bounded_and_the_rest_comes_with_the_next(
    polled: Polled, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(polls, "_MOST_BYTES", 8)
    values = ["a" * 20, "b", "c", "d"]
    polled.emit(*values)
    polled.job.succeed(None)
    told = [await polled.poll() for _ in range(4)]
    assert [[item["output"] for item in answer["stream"]] for answer in told] == [values[:1], values[1:3], ["d"], []]
    assert told[3]["status"] == "COMPLETED"


def test_a_position_holds_no_job_that_is_gone(polled: Polled) -> None:
    polled.response()
    assert len(polled.positions._of) == 1
    polled.job.cancel()
    del polled.job
    assert len(polled.positions._of) == 0
