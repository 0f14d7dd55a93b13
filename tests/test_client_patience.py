"""How long the Python client tries, waits and follows: deadlines, lost connections, proxies, leaving.

Calls are played step by step where time has to pass; the rest is over real sockets, with a server of raw bytes.
"""

import asyncio
import json
import threading
from collections.abc import Callable
from typing import Any

import httpx
import pytest
from tests.scripted_server import END, HOLD, THEN, Serve, answer, block, chunk, head, refusal

from streamapp_client import AsyncClient, Client, DeadlineExceeded, Unavailable, UnexpectedAnswer
from streamapp_client import _calls as calls
from streamapp_client._errors import NoImage
from streamapp_client._steps import Deadline, Patience, Reach, Read, Send, Sleep
from streamapp_client._stream import Conversation

TIMES = {"created_at": 0, "started_at": None, "finished_at": None}
BUSY = answer(
    json.dumps(refusal("draining", retryable=True)).encode(), "503 Service Unavailable", headers="Retry-After: 20\r\n"
)
GAVE_UP = answer(b"<html>", "504 Gateway Timeout", "text/html")
QUEUED = answer(json.dumps({"job_id": "j1", "status": "queued", "position": 0, **TIMES}).encode(), "202 Accepted")
EVENTS = "jobs/j1/events?_events=named"
CUT = httpx.ReadError("cut")


def patient(now: list[float], *, reach: Reach | None = None) -> Patience:
    """Return ten seconds of patience by a clock that stands, whose waits are the longest there are."""
    return Patience(10, reach, clock=lambda: now[0], draw=lambda low, high: high)


def conversation(now: list[float], **options: Any) -> Conversation:
    def download(url: str) -> bytes:
        raise NoImage(url)

    return Conversation("/stream", b"{}", patience=patient(now), deadline=Deadline(), download=download, **options)


def stream_of(request: Send) -> httpx.Response:
    headers = {"Content-Type": "text/event-stream", "X-Streamapp-Job-Id": "j1"}
    return httpx.Response(200, headers=headers, request=httpx.Request(request.method, "http://test"))


# How long to try


def test_the_waits_grow_from_next_to_nothing_where_the_server_asked_for_none_and_for_ever() -> None:
    patience = Patience(1e9, draw=lambda low, high: high)
    waits = [patience.wait_s(None, retry_ms=0) for _ in range(2000)]
    assert (waits[:3], waits[-1]) == ([0.001, 0.002, 0.004], 5)


def test_a_connection_that_lived_long_is_progress_though_it_said_nothing() -> None:
    """A proxy cuts each connection of a job that waits in the queue."""
    now = [0.0]
    stream = conversation(now)
    start = stream.start()
    with pytest.raises(StopIteration):
        start.send(stream_of(next(start)))  # type: ignore[arg-type]
    events = stream.events()
    assert next(events) == Read()
    for _ in range(3):
        now[0] += 60
        assert events.send(b": ping\n\n") == Read()
        assert isinstance(events.throw(CUT), Sleep)
        assert events.send(stream_of(events.send(None))) == Read()  # type: ignore[arg-type]


def test_a_connection_that_is_cut_at_once_is_none() -> None:
    now = [0.0]
    patience = patient(now)
    assert patience.wait_s(None)
    for at in (1.0, 3.0, 6.0, 9.9):
        now[0] = at
        patience.answered()
        patience.heard()
    assert patience.wait_s(None) is None


def test_a_server_that_has_answered_any_call_is_waited_for() -> None:
    now, reach = [0.0], Reach()
    first = calls.run("/echo", b"{}", patient(now, reach=reach), Deadline())
    next(first)
    first.send(httpx.Response(200, json=1, request=httpx.Request("POST", "http://test")))
    call = calls.status("j1", patient(now, reach=reach), Deadline())
    next(call)
    for at in (0.0, 5.0):
        now[0] = at
        assert isinstance(call.throw(httpx.ConnectError("refused")), Sleep)
        next(call)


def test_a_question_that_gets_no_answer_is_asked_again() -> None:
    """A connection that was kept alive may be dead without a word."""
    call = calls.status("j1", patient([0.0]), Deadline())
    next(call)
    assert isinstance(call.throw(httpx.ReadTimeout("silence")), Sleep)
    assert isinstance(next(call), Send)


def test_what_a_proxy_does_not_get_in_time_is_asked_for_again(serve: Serve) -> None:
    job = Client(serve(**{"jobs/j1/result": [GAVE_UP, THEN, answer(b"1")]}).url).job("j1")
    assert job.result() == 1
    stream = Client(
        serve(head(), block("output", 1), **{EVENTS: [GAVE_UP, THEN, head(), block("done", {}, 2), END]}).url
    )
    assert [event.data for event in stream.stream("/stream")] == [1]


def test_an_endpoint_that_a_proxy_does_not_wait_for_is_not_run_again(serve: Serve) -> None:
    server = serve(echo=[GAVE_UP])
    with pytest.raises(Unavailable, match="504"):
        Client(server.url).run("/echo")
    assert len(server.requests) == 1


def test_a_resumed_stream_is_one_of_events(serve: Serve) -> None:
    """The page of a hotel's network is none."""
    server = serve(head(), block("output", 1), **{EVENTS: [answer(b"Log in.", content_type="text/plain")]})
    with pytest.raises(UnexpectedAnswer, match="got HTTP 200 with text/plain"):
        list(Client(server.url).stream("/stream"))


def test_the_place_to_begin_at_is_kept_until_there_is_an_event_behind_it(serve: Serve) -> None:
    stopped = answer(json.dumps(refusal("draining", retryable=True)).encode(), "503 Service Unavailable")
    cut = [head(), chunk(": ping\n")]
    server = serve(**{EVENTS: [stopped, THEN, *cut, THEN, head(), block("output", 8, 8), block("done", {}, 9), END]})
    assert [event.data for event in Client(server.url).job("j1").events(after="j1:1.7")] == [8]
    assert [headers["Last-Event-ID"] for headers, _ in server.requests] == ["j1:1.7"] * 3


# Formats that cannot be resumed


@pytest.mark.parametrize(
    ("accept", "silence_s", "resumes"),
    [("text/event-stream", 45, True), ("application/x-ndjson", 45, False), ("text/plain", 660, False)],
)
def test_only_text_may_be_silent_for_long(accept: str, silence_s: float, resumes: bool) -> None:
    request = next(conversation([0.0], accept=accept).start())
    assert isinstance(request, Send)
    assert request.read_s == silence_s
    assert ("Streamapp-Resume" in request.headers) == resumes


# Deadlines


def test_a_wait_ends_with_the_time_of_the_stream(serve: Serve) -> None:
    with pytest.raises(DeadlineExceeded, match="timeout_s=0.2"):
        Client(serve(BUSY).url).stream("/stream", timeout_s=0.2)


def test_a_stream_that_runs_out_of_time_while_it_comes_back_is_cancelled(serve: Serve) -> None:
    server = serve(head(), block("output", 1), **{EVENTS: [BUSY]})
    with pytest.raises(DeadlineExceeded, match="job j1 did not end within timeout_s=5"):
        list(Client(server.url).stream("/stream", timeout_s=5))
    server.sees("POST /jobs/j1/cancel")


def test_text_that_runs_out_of_time_says_so(serve: Serve) -> None:
    client = Client(serve(head("text/plain"), chunk("a"), HOLD).url)
    with pytest.raises(DeadlineExceeded):
        list(client.stream("/stream", accept="text/plain", timeout_s=0.2))


def test_a_result_is_waited_for_no_longer_than_told(serve: Serve) -> None:
    with pytest.raises(DeadlineExceeded, match="job j1 did not end within timeout_s=0.2") as raised:
        Client(serve(**{"jobs/j1/result": [HOLD]}).url).job("j1").result(timeout_s=0.2)
    assert raised.value.job_id == "j1"


def test_an_answer_that_comes_in_drops_is_not_waited_for_either(advance: Callable[[float], None]) -> None:
    call = calls.run("/echo", b"{}", patient([0.0]), Deadline(600))
    next(call)
    step = call.send(httpx.Response(200, json=1, request=httpx.Request("POST", "http://test")))
    with pytest.raises(DeadlineExceeded):
        while step == Read():
            advance(100)
            step = call.send(b"1")


def test_what_submits_for_too_long_says_so(serve: Serve) -> None:
    with pytest.raises(DeadlineExceeded, match="/work did not end within timeout_s=0.2"):
        Client(serve(work=[HOLD]).url).subscribe("/work", timeout_s=0.2)


# Leaving the asynchronous client


async def test_closing_an_asynchronous_stream_ends_its_iteration(serve: Serve) -> None:
    server = serve(head(), block("preview", 1) + block("preview", 2), HOLD)
    seen = []
    async with AsyncClient(server.url) as client:
        stream = await client.stream("/stream")
        async for event in stream:
            seen.append(event.data)
            await stream.aclose()
    assert seen == [1]
    assert await asyncio.to_thread(server.saw, 3) == ["POST /stream", "POST /jobs/j1/cancel", "gone /stream"]


async def test_break_cancels_the_job_though_the_client_is_closed_at_once(serve: Serve) -> None:
    server = serve(head(), block("preview", 1), HOLD)
    async with AsyncClient(server.url) as client:
        async for _ in await client.stream("/stream"):
            break
    assert await asyncio.to_thread(server.saw, 3) == ["POST /stream", "POST /jobs/j1/cancel", "gone /stream"]


@pytest.mark.parametrize("call", ["stream", "subscribe"])
async def test_a_call_that_is_cancelled_before_its_job_is_known_cancels_the_job(serve: Serve, call: str) -> None:
    taken = threading.Event()
    server = serve(taken, head(), HOLD) if call == "stream" else serve(taken, QUEUED)
    async with AsyncClient(server.url) as client:
        task = asyncio.create_task(getattr(client, call)("/stream"))
        assert await asyncio.to_thread(server.saw, 1) == ["POST /stream"]
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        taken.set()
        assert await asyncio.to_thread(server.saw, 1) == ["POST /jobs/j1/cancel"]


async def test_a_task_that_is_cancelled_twice_closes_its_connection(serve: Serve) -> None:
    server = serve(echo=[HOLD])
    async with AsyncClient(server.url) as client:
        task = asyncio.create_task(client.run("/echo"))
        assert await asyncio.to_thread(server.saw, 1) == ["POST /echo"]
        task.cancel()
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert await asyncio.to_thread(server.saw, 1) == ["gone /echo"]
