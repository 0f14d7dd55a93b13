"""How the Python clients follow a job: by one stream, over as many connections as it takes, of older servers too."""

import asyncio
import json
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest
from tests.scripted_server import END, HOLD, THEN, Serve, Server, answer, block, chunk, head, refusal

from streamapp_client import (
    AsyncClient,
    Client,
    DeadlineExceeded,
    EndpointFailed,
    JobStatus,
    NotFound,
    StreamInterrupted,
)
from streamapp_client import _calls as calls
from streamapp_client._models import Event
from streamapp_client._steps import Call, Deadline, Patience, Read, Send, Sleep, Tell
from streamapp_client._stream import Conversation

EVENTS = "jobs/j1/events?_events=all&_events=named"
STARTED = block("started", {"attempt": 1}, 1)
DONE = block("done", {"job_id": "j1", "status": "succeeded"}, 9)

Subscribe = Callable[..., Any]


@pytest.fixture(params=["blocking", "asynchronous"])
def subscribe(request: pytest.FixtureRequest) -> Subscribe:
    """Subscribe to /work by either client."""

    def blocking(server: Server, *, patience_s: float = 30.0, **options: Any) -> Any:
        with Client(server.url, patience_s=patience_s) as client:
            return client.subscribe("/work", **options)

    def asynchronous(server: Server, *, patience_s: float = 30.0, **options: Any) -> Any:
        async def call() -> Any:
            async with AsyncClient(server.url, patience_s=patience_s) as client:
                return await client.subscribe("/work", **options)

        return asyncio.run(call())

    return blocking if request.param == "blocking" else asynchronous


def state(status: str, position: int = 0, **more: Any) -> dict[str, Any]:
    times = {"queued": (None, None), "running": (2.0, None)}.get(status, (2.0, 3.0))
    told = {"job_id": "j1", "status": status, "position": position, "created_at": 1.0}
    return {**told, "started_at": times[0], "finished_at": times[1], **more}


def job(status: str, position: int = 0, **more: Any) -> bytes:
    return chunk(f"event: job\ndata: {json.dumps(state(status, position, **more))}\n\n")


def opening(data: dict[str, Any]) -> bytes:
    """Frame what a stream begins with, as that has the place before the first event."""
    return block("job", data, 0)


def accepted(status: str = "queued", position: int = 1) -> bytes:
    return answer(json.dumps(state(status, position)).encode(), "202 Accepted")


def line(message: str, number: int) -> bytes:
    return block("log", {"message": message, "level": "INFO", "source": "app"}, number)


def requests(server: Server) -> list[str]:
    return server.saw(len(server.requests))


def following(*steps: Any, **more: Any) -> dict[str, list[Any]]:
    return {"work": [accepted()], EVENTS: [head(), *steps], **more}


# One stream


def test_a_subscription_sends_what_starts_the_job_and_reads_one_stream(serve: Serve, subscribe: Subscribe) -> None:
    waits = [opening(state("queued", 1)), chunk(": ping\n"), job("queued", 0)]
    runs = [job("running"), STARTED, block("preview", 1, 2), block("output", 7, 3), job("succeeded"), DONE, END]
    server = serve(**following(*waits, *runs))
    updates: list[JobStatus] = []

    assert subscribe(server, on_update=updates.append) == 7

    assert [(told.status, told.position) for told in updates] == [
        ("queued", 1),
        ("queued", 0),
        ("running", 0),
        ("succeeded", 0),
    ]
    assert [(told.started_at, told.finished_at) for told in updates[1:]] == [(None, None), (2, None), (2, 3)]
    assert requests(server) == ["POST /work", f"GET /{EVENTS}"]


def test_the_result_of_a_text_is_asked_for_as_the_last_event_may_be_a_part_of_it(
    serve: Serve, subscribe: Subscribe
) -> None:
    runs = [job("running"), STARTED, block("output", "a", 2), block("output", "b", 3), job("succeeded"), DONE, END]
    whole = {"jobs/j1/result": [answer(b'"ab"')]}
    assert subscribe(serve(**following(opening(state("queued", 1)), *runs, **whole))) == "ab"


def test_lines_come_in_the_same_stream_with_the_state_they_were_written_in(serve: Serve, subscribe: Subscribe) -> None:
    """The state at the end stands before the last events, as it is the server's when it sends them."""
    runs = [
        job("running") + STARTED + line("a", 2),
        job("succeeded") + line("b", 3) + block("output", 7, 4) + DONE,
        END,
    ]
    server = serve(**following(opening(state("queued", 1)), *runs))
    updates: list[JobStatus] = []

    assert subscribe(server, on_update=updates.append, logs=True) == 7

    told = [(update.status, [said["message"] for said in update.logs]) for update in updates]
    assert told == [("queued", []), ("running", []), ("running", ["a"]), ("running", ["b"]), ("succeeded", [])]
    assert requests(server) == ["POST /work", f"GET /{EVENTS}"]


def test_no_line_is_told_to_who_asks_for_none(serve: Serve, subscribe: Subscribe) -> None:
    server = serve(**following(opening(state("running")), STARTED, line("a", 2), job("succeeded"), DONE, END))
    updates: list[JobStatus] = []
    assert subscribe(server, on_update=updates.append) is None
    assert [update.logs for update in updates] == [[], [], []]


@pytest.mark.parametrize("first", ["queued", "succeeded"])
def test_of_a_job_that_was_over_before_it_was_looked_at_is_told_that_it_ran(
    serve: Serve, subscribe: Subscribe, first: str
) -> None:
    rest = [] if first == "succeeded" else [job("succeeded")]
    server = serve(**following(opening(state(first, 1)), *rest, STARTED, block("output", 7, 2), DONE, END))
    updates: list[JobStatus] = []
    assert subscribe(server, on_update=updates.append) == 7
    told = [(told.status, told.started_at, told.finished_at) for told in updates]
    assert told == [("queued", None, None), ("running", 2, None), ("succeeded", 2, 3)]


def test_what_a_job_failed_with_is_told_and_raised(serve: Serve, subscribe: Subscribe) -> None:
    said = refusal("endpoint_failed", "Boom.")
    ends = [job("failed", **said), block("error", said, 2), END]
    failed = answer(json.dumps(said).encode(), "500 Internal Server Error", headers="X-Streamapp-Job-Id: j1\r\n")
    server = serve(**following(opening(state("running")), STARTED, *ends, **{"jobs/j1/result": [failed]}))
    updates: list[JobStatus] = []

    with pytest.raises(EndpointFailed, match="Boom") as raised:
        subscribe(server, on_update=updates.append)

    assert raised.value.status_code == 500
    assert (updates[-1].status, str(updates[-1].error)) == ("failed", "Boom.")
    assert requests(server)[:3] == ["POST /work", f"GET /{EVENTS}", "GET /jobs/j1/result"]


def test_a_job_that_begins_anew_waits_and_runs_again(serve: Serve, subscribe: Subscribe) -> None:
    lost = [opening(state("running")), STARTED, block("output", 1, 2), job("queued")]
    again = [job("running", started_at=4.0), block("restarted", {"attempt": 2}, 3), block("output", 2, 4)]
    server = serve(**following(*lost, *again, job("succeeded"), DONE, END))
    updates: list[JobStatus] = []

    assert subscribe(server, on_update=updates.append) == 2

    assert [told.status for told in updates] == ["queued", "running", "queued", "running", "succeeded"]
    assert updates[3].started_at == 4


def test_what_came_before_a_job_began_anew_is_no_result(serve: Serve, subscribe: Subscribe) -> None:
    runs = [STARTED, block("output", 1, 2), block("restarted", {"attempt": 2}, 3), job("succeeded"), DONE, END]
    assert subscribe(serve(**following(opening(state("running")), *runs))) is None


# Connections that are lost


def test_a_stream_that_is_cut_goes_on_behind_its_last_event(serve: Serve, subscribe: Subscribe) -> None:
    """A state has no place in the log, and what is told once is not told again."""
    first = [opening(state("running")), STARTED, line("a", 2), block("output", 7, 3)]
    rest = [job("running"), line("b", 4), job("succeeded"), DONE, END]
    server = serve(**following(*first, THEN, head(), *rest))
    updates: list[JobStatus] = []

    assert subscribe(server, on_update=updates.append, logs=True) == 7

    told = [(update.status, [said["message"] for said in update.logs]) for update in updates]
    assert told == [("queued", []), ("running", []), ("running", ["a"]), ("running", ["b"]), ("succeeded", [])]
    assert [headers["Last-Event-ID"] for headers, _ in server.requests[1:]] == ["j1:1.0", "j1:1.3"]


def test_a_stream_that_is_cut_after_its_end_is_complete(serve: Serve, subscribe: Subscribe) -> None:
    ended = b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n"
    runs = [opening(state("running")), STARTED, block("output", 7, 2), job("succeeded"), DONE]
    server = serve(**following(*runs, THEN, ended))
    updates: list[JobStatus] = []
    assert subscribe(server, on_update=updates.append) == 7
    assert updates[-1].status == "succeeded"
    assert requests(server) == ["POST /work", f"GET /{EVENTS}", f"GET /{EVENTS}"]


def test_a_stream_that_does_not_come_back_is_given_up_and_its_job_cancelled(serve: Serve, subscribe: Subscribe) -> None:
    server = serve(**following(opening(state("running")), STARTED))
    with pytest.raises(StreamInterrupted):
        subscribe(server, patience_s=0)
    server.sees("POST /jobs/j1/cancel")


def test_a_job_that_is_gone_is_not_found(serve: Serve, subscribe: Subscribe) -> None:
    gone = answer(json.dumps(refusal("job_not_found")).encode(), "404 Not Found")
    with pytest.raises(NotFound):
        subscribe(serve(work=[accepted()], **{EVENTS: [gone]}))


def follow(patience: Patience, deadline: Deadline | None = None) -> tuple[Call[Any], Conversation]:
    """Return the steps of a subscription whose stream has just begun."""
    deadline = deadline or Deadline()
    reader = Conversation("", None, job_id="j1", patience=patience, deadline=deadline, download=no_file, follows=True)
    call = calls.follow(JobStatus.read(state("queued"), None), print, reader, lambda: patience, deadline, logs=False)
    assert isinstance(next(call), Tell)
    assert call.send(answered(next(call))) == Read()
    return call, reader


def no_file(url: str) -> bytes:
    raise AssertionError(url)


def answered(request: object) -> httpx.Response:
    assert isinstance(request, Send)
    headers = {"Content-Type": "text/event-stream"}
    return httpx.Response(200, headers=headers, request=httpx.Request(request.method, "http://test"))


def test_connections_that_bring_nothing_but_the_state_are_no_progress() -> None:
    now = [0.0]
    call, _ = follow(Patience(10, clock=lambda: now[0], draw=lambda low, high: high))
    told = f"event: job\ndata: {json.dumps(state('queued'))}\n\n".encode()
    with pytest.raises(StreamInterrupted):
        for _ in range(100):
            assert call.send(told) == Read()
            assert isinstance(call.throw(httpx.ReadError("cut")), Sleep)
            now[0] += 1
            assert call.send(answered(call.send(None))) == Read()


# Time that is up


def test_a_subscription_takes_no_longer_than_told(serve: Serve) -> None:
    server = serve(**following(opening(state("running")), STARTED, HOLD))
    with pytest.raises(DeadlineExceeded, match="job j1 did not end within timeout_s=5"):
        Client(server.url).subscribe("/work", timeout_s=5)
    server.sees("POST /jobs/j1/cancel")


def test_a_heartbeat_near_the_end_of_the_time_does_not_make_it_longer(advance: Callable[[float], None]) -> None:
    """A read waits as long as was said when its request was sent."""
    call, reader = follow(Patience(1000), Deadline(52))
    for seconds in (10, 10, 10, 10):
        advance(seconds)
        assert call.send(b": ping\n") == Read()
    advance(4)
    request = call.send(b": ping\n")
    assert isinstance(request, Send)
    assert request.read_s <= 8
    assert call.send(answered(request)) == Read()
    assert call.send(b": ping\n") == Read()
    assert reader.reconnects == 0
    advance(8)
    with pytest.raises(DeadlineExceeded):
        call.throw(httpx.ReadTimeout("silence"))


# Older servers


def test_an_older_server_says_by_its_first_event_that_a_job_runs_and_is_asked_at_the_end(
    serve: Serve, subscribe: Subscribe
) -> None:
    older = opening({"job_id": "j1", "status": "queued", "position": 1})
    runs = [line("a", 1), block("output", 7, 2), DONE, END]
    server = serve(**following(older, *runs, **{"jobs/j1": [answer(json.dumps(state("succeeded")).encode())]}))
    updates: list[JobStatus] = []

    assert subscribe(server, on_update=updates.append, logs=True) == 7

    told = [(update.status, [said["message"] for said in update.logs]) for update in updates]
    assert told == [("queued", []), ("running", []), ("running", ["a"]), ("succeeded", [])]
    assert requests(server) == ["POST /work", f"GET /{EVENTS}", "GET /jobs/j1"]


# What is asked for elsewhere


def test_who_does_not_follow_gets_no_states(serve: Serve) -> None:
    named = "jobs/j1/events?_events=named"
    steps = [head(), opening(state("queued")), block("output", 7, 2), DONE, END]
    events = iterate(Client(serve(**{named: steps}).url))
    assert [event.name for event in events] == ["output"]


def iterate(client: Client) -> Iterator[Event]:
    return client.job("j1").events()
