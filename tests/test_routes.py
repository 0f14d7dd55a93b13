"""Routes: a request for an endpoint becomes a job and an answer; jobs by id; what hears of cancels."""

import asyncio
import json
import logging
import queue
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from functools import cached_property
from typing import Annotated, Any

import pytest
from fastapi import BackgroundTasks, Body, Depends, Form, Header, HTTPException, Query, UploadFile
from pydantic import BaseModel
from sse_starlette import EventSourceResponse
from starlette.background import BackgroundTask
from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.testclient import TestClient
from starlette.types import Message, Scope
from tests.at_work import Gate
from tests.memory_store import MemoryStore
from tests.served import (
    ASYNC,
    Failing,
    Gated,
    Kinds,
    Prompt,
    blocks,
    data,
    drain,
    finished,
    names,
    runtime_of,
    serving,
    shape,
    submit,
)
from tests.waiting import WAIT_S, until

import streamapp
import streamapp.testing
from streamapp.http.call import CALLER
from streamapp.http.routes import _warn_about_foreign_server as warn_about_foreign_server
from streamapp.jobs.job import Job
from streamapp.runtime import Runtime
from streamapp.settings import Settings

# Kinds of endpoints


@pytest.mark.parametrize(
    ("path", "result"),
    [
        ("/value", {"prompt": "x"}),
        ("/async-value", {"n": 1}),
        ("/unseen-generator", 2),
        ("/kinds/value", {"prompt": "x"}),
    ],
)
def test_an_endpoint_that_returns_a_value_answers_json(kinds: TestClient, path: str, result: Any) -> None:
    answer = kinds.post(path)
    assert (answer.status_code, answer.json(), answer.headers["content-type"]) == (200, result, "application/json")


@pytest.mark.parametrize(
    ("path", "items"),
    [
        ("/generator", [{"n": 0}, {"n": 1}]),
        ("/returning-generator", ["token", "whole text"]),
        ("/async-generator", [1, 2]),
        ("/with-stream", [{"early": "x"}, "x"]),
        ("/async-with-stream", [1, 2]),
        ("/iterator", [1, 2]),
        ("/async-iterator", [1, 2]),
    ],
)
def test_a_stream_ends_with_its_result(kinds: TestClient, path: str, items: list[Any]) -> None:
    answer = kinds.post(path)
    assert (data(answer.text), answer.headers["content-type"]) == (items, "text/event-stream; charset=utf-8")
    assert "done" not in names(answer.text)


def test_under_a_foreign_server_what_is_missing_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "streamapp"), serving(Kinds) as client:
        warn_about_foreign_server.cache_clear()
        client.post("/generator")
        client.post("/generator")
    assert caplog.text.count("not run by `streamapp serve`") == 1


# Inputs


def test_path_parameters_are_filled(inputs: TestClient) -> None:
    assert inputs.post("/documents/report/3", json={"zoom": 2}).json() == ["report", 3, 2]
    assert inputs.post("/documents/report/three").status_code == 404


def test_a_body_may_come_in_pieces(inputs: TestClient) -> None:
    pieces = (piece for piece in (b'{"prompt": ', b'"a cat"', b"", b"}"))
    assert inputs.post("/model", content=pieces).json() == {"prompt": "a cat", "steps": 1}


def test_an_endpoint_may_read_its_request_again(inputs: TestClient) -> None:
    assert inputs.post("/again", json={"prompt": "x"}).json() == '{"prompt":"x"}'
    form = {"prompt": (None, "x")}
    assert inputs.post("/again", files=form).json() == "Stream consumed"


def test_requests_headers_cookies_and_dependencies_are_filled(inputs: TestClient) -> None:
    headers = {"Agent": "a", "Authorization": "User u", "Cookie": "cookie=c"}
    answer = inputs.post("/injected", json={"prompt": "x"}, headers=headers)
    assert answer.json() == ["/injected", "x", "a", "c", "u"]


class Filled(streamapp.App):
    """Endpoints for which FastAPI reads the body, or they themselves."""

    @streamapp.endpoint("/dependency")
    def dependency(self, given: dict[str, Any] = Depends(lambda given=Body(): given)) -> int:
        return len(given)

    @streamapp.endpoint("/form")
    def form(self, prompt: Prompt, text: Annotated[str, Form()] = "") -> int:
        return len(text)

    @streamapp.endpoint("/request")
    async def request(self, request: Request, agent: Annotated[str, Header()] = "") -> int:
        return len(await request.json()) + len(await request.json())


MANY = b'{"x":[' + b"1," * 1_100_000 + b"1]}"
FORM = {"Content-Type": "application/x-www-form-urlencoded"}


@pytest.mark.parametrize(
    ("path", "body", "headers", "status"),
    [
        ("/dependency", b'{"x":1}', {}, 200),
        ("/dependency", b'{"x":1', {}, 422),
        ("/dependency", b"[" * 100_000, {}, 400),
        ("/dependency", b"9" * 1_000_000, {}, 400),
        ("/dependency", MANY, {}, 413),
        ("/request", b'{"x":1}', {}, 200),
        ("/request", MANY, {}, 413),
        ("/form", b"prompt=x&text=y", FORM, 200),
        ("/form", b"prompt=x&text=" + b"%41" * 50_000, FORM, 200),
        ("/form", b"prompt=x&text=" + b"%41" * 1_100_000, FORM, 413),
        ("/form", b"prompt=x&text=" + b"a" * 2_000_000, FORM, 400),
    ],
)
def test_what_fastapi_reads_of_a_body_is_bounded_as_well(
    path: str, body: bytes, headers: dict[str, str], status: int
) -> None:
    with serving(Filled) as client:
        answer = client.post(path, content=body, headers={"Content-Type": "application/json", **headers})
    assert (answer.status_code, shape(answer)[0] if status >= 400 else status) == (status, status)


# Jobs


def test_respond_async_answers_at_once_with_where_to_look(gated: tuple[Gated, TestClient]) -> None:
    answer = gated[1].post("/wait", headers={"Prefer": "wait=5, Respond-Async"})
    job = answer.json()
    assert (answer.status_code, answer.headers["preference-applied"]) == (202, "respond-async")
    assert answer.headers["location"] == f"/jobs/{job['job_id']}"
    assert answer.headers["x-streamapp-job-id"] == job["job_id"]
    assert (len(job["job_id"]), job["endpoint"], job["finished_at"]) == (32, "/gated/wait", None)


class Polite(streamapp.App):
    """Endpoints that stop when their client has left."""

    gate: Gate

    @streamapp.endpoint("/own")
    async def own(self, request: Request) -> StreamingResponse:
        return StreamingResponse(self.events(request), media_type="text/event-stream")

    @streamapp.endpoint("/stream")
    async def stream(self, request: Request) -> AsyncIterator[Any]:
        async for event in self.events(request):
            yield event

    async def events(self, request: Request) -> AsyncIterator[str]:
        await asyncio.to_thread(self.gate)
        for n in range(3):
            if await request.is_disconnected():
                break
            yield f"data: {n}\n\n"


@pytest.mark.parametrize("path", ["/own", "/stream"])
def test_a_detached_job_does_not_hear_that_the_client_has_left(path: str, gate: Gate) -> None:
    Polite.gate = gate
    with serving(Polite) as client:
        job_id = client.post(path, headers=ASYNC).json()["job_id"]
        gate.opened.set()
        assert client.get(f"/jobs/{job_id}/events").text.count("\nid: ") == 5  # the opening, three outputs, the end


def test_other_preferences_are_not_taken_for_it(gated: tuple[Gated, TestClient]) -> None:
    gated[0].gate.release()
    answer = gated[1].post("/wait", headers={"Prefer": "respond-async-not, wait=1"})
    assert (answer.status_code, answer.json()) == (200, 1)


def test_behind_a_proxy_locations_carry_its_prefix() -> None:
    with serving(Kinds, root_path="/proxied") as client:
        answer = client.post("/proxied/value", headers=ASYNC)
        assert answer.headers["location"] == f"/proxied/jobs/{answer.json()['job_id']}"


def test_a_post_sent_again_with_its_idempotency_key_joins_the_job(gated: tuple[Gated, TestClient]) -> None:
    app, client = gated
    app.gate.release(10)
    key = {"Idempotency-Key": "k" * 32}
    first, again = (client.post("/stream", headers={**key, "Streamapp-Resume": "10"}) for _ in range(2))
    assert again.text == first.text
    assert client.post("/wait", headers=key).headers["x-streamapp-job-id"] != first.headers["x-streamapp-job-id"]
    accepted = [client.post("/wait", headers={"Idempotency-Key": "2", **ASYNC}).json()["job_id"] for _ in range(2)]
    assert accepted[0] == accepted[1]


@pytest.mark.parametrize("path", ["/response", "/undeclared-response"])
def test_a_response_of_the_endpoints_own_is_made_anew_for_the_same_key(kinds: TestClient, path: str) -> None:
    answers = [kinds.post(path, headers={"Idempotency-Key": "k"}) for _ in range(2)]
    assert [answer.text for answer in answers] == ["own"] * 2


def test_an_idempotency_key_with_another_input_or_without_end_is_refused(gated: tuple[Gated, TestClient]) -> None:
    app, client = gated
    app.gate.release(10)
    client.post("/stream", headers={"Idempotency-Key": "k"}, json={})
    answer = client.post("/stream", headers={"Idempotency-Key": "k"}, json={"steps": 2})
    assert (answer.status_code, answer.json()["error"]["code"]) == (422, "invalid_input")
    for key in ("", "k" * 256):
        assert client.post("/stream", headers={"Idempotency-Key": key}).status_code == 400


class Repeated(streamapp.App):
    """Endpoints that say how often they have run."""

    runs = 0

    def once(self) -> int:
        self.runs += 1
        return self.runs

    @streamapp.endpoint("/sized")
    def sized(self, text: str, n: int = 0) -> int:
        return self.once()

    @streamapp.endpoint("/asked")
    def asked(self, n: Annotated[int, Query()] = 0) -> int:
        return self.once()

    @streamapp.endpoint("/upload")
    async def upload(self, file: UploadFile, note: str = "") -> list[Any]:
        return [self.once(), (await file.read()).decode()]


LARGE = "x" * 1_000_000


@pytest.mark.parametrize(
    ("path", "first", "other"),
    [
        ("/sized", {"json": {"text": LARGE + "a"}}, {"json": {"text": LARGE + "b"}}),
        ("/sized", {"data": {"text": "a"}}, {"data": {"text": "b"}}),
        ("/sized", {"data": {"text": "a", "n": "1"}}, {"data": {"text": "an", "1": ""}}),
        ("/asked", {"params": {"n": 1}}, {"params": {"n": 2}}),
        ("/upload", {"files": {"file": ("a", b"123")}}, {"files": {"file": ("a", b"124")}}),
        ("/upload", {"files": {"file": ("a", b"123")}}, {"files": {"file": ("b", b"123")}}),
        ("/upload", {"files": {"file": ("a", b"1", "text/plain")}}, {"files": {"file": ("a", b"1", "image/png")}}),
        ("/upload", {"files": {"file": ("a", b"x" * 2_000_000)}}, {"files": {"file": ("a", b"y" * 2_000_000)}}),
        (
            "/upload",
            {"files": {"file": ("a", b"1"), "note": (None, "x")}},
            {"files": {"file": ("a", b"1"), "note": (None, "y")}},
        ),
    ],
)
def test_an_idempotency_key_stands_for_one_whole_input(path: str, first: Any, other: Any) -> None:
    with serving(Repeated) as client:
        answers = [client.post(path, headers={"Idempotency-Key": "k"}, **given) for given in (first, first, other)]
        assert [answer.status_code for answer in answers] == [200, 200, 422]
        assert answers[0].json() == answers[1].json()  # it ran once, and had the whole file
        assert "it was sent with another input before" in answers[2].json()["error"]["message"]


def test_a_form_whose_files_a_dependency_has_closed_is_known_by_the_rest() -> None:
    async def note_of(request: Request) -> str:
        async with request.form() as form:
            return str(form["note"])

    class Closing(streamapp.App):
        @streamapp.endpoint("/noted")
        def noted(self, note: Annotated[str, Depends(note_of)]) -> str:
            return note

    with serving(Closing) as client:
        form: Any = {"files": {"file": ("a", b"1"), "note": (None, "x")}, "headers": {"Idempotency-Key": "k"}}
        assert [client.post("/noted", **form).json() for _ in range(2)] == ["x", "x"]


def test_a_test_replaces_what_an_endpoint_depends_on() -> None:
    def user() -> str:
        raise HTTPException(401)

    class Private(streamapp.App):
        @streamapp.endpoint("/private")
        def private(self, user: Annotated[str, Depends(user)]) -> str:
            return user

    with serving(Private) as client:
        client.app.dependency_overrides[user] = lambda: "Ada"  # type: ignore[attr-defined]
        assert client.post("/private").json() == "Ada"


def test_a_form_sent_again_joins_its_job(inputs: TestClient) -> None:
    key = {"Idempotency-Key": "k"}
    answers = [inputs.post("/upload", files={"file": ("a", b"123")}, headers=key) for _ in range(2)]
    assert [answer.json() for answer in answers] == [["a", "123"]] * 2
    assert answers[0].headers["x-streamapp-job-id"] == answers[1].headers["x-streamapp-job-id"]


def test_a_job_tells_its_status_position_and_times(gated: tuple[Gated, TestClient]) -> None:
    app, client = gated
    first = submit(client, "/wait")
    assert app.started.wait(WAIT_S)
    second, third = (submit(client, "/wait") for _ in range(2))
    assert [client.get(f"/jobs/{job}").json()["position"] for job in (second, third)] == [0, 1]
    assert client.get(f"/jobs/{third}").json()["status"] == "queued"
    app.gate.release(3)
    finished(client, third)
    status = client.get(f"/jobs/{first}").json()
    assert (status["status"], status["last_event_id"]) == ("succeeded", f"{first}:1.3")
    assert status["created_at"] <= status["started_at"] <= status["finished_at"]


def test_a_result_comes_when_the_job_has_ended(gated: tuple[Gated, TestClient]) -> None:
    app, client = gated
    job = submit(client, steps=2)
    assert shape(client.get(f"/jobs/{job}/result")) == (409, "job_unfinished")
    app.gate.release(2)
    finished(client, job)
    assert client.get(f"/jobs/{job}/result").json() == {"step": 1}
    assert client.get(f"/jobs/{job}/result?aggregate=1").json() == [{"step": 0}, {"step": 1}]


@pytest.mark.parametrize(
    ("path", "result"),
    [("/text", "Hello, wörld"), ("/returning-generator", "whole text"), ("/no-text", ""), ("/tokens", "ab")],
)
def test_the_result_of_a_text_stream_is_the_joined_text(path: str, result: Any) -> None:
    with serving(Kinds) as client:
        assert client.post(path, headers={"Accept": "application/json"}).json() == result
        finished(client, job := submit(client, path))
        assert client.get(f"/jobs/{job}/result").json() == result


def test_the_stream_of_a_text_stays_as_it_is(kinds: TestClient) -> None:
    assert data(kinds.post("/text", headers={"Accept": "text/event-stream"}).text) == ["Hello, ", "wörld"]
    assert kinds.post("/tokens", headers={"Accept": "application/x-ndjson"}).text == '"a"\n{"n":1}\n"b"\n'


def test_all_outputs_are_told_only_where_none_was_let_go_of() -> None:
    with serving(app := Gated(), behind_events=2) as client:
        app.gate.release(5)
        job = submit(client, steps=5)
        finished(client, job)
        assert shape(client.get(f"/jobs/{job}/result?aggregate=1")) == (404, "not_found")
        assert client.get(f"/jobs/{job}/result").json() == {"step": 4}


def test_the_result_of_a_failed_job_is_its_error(failing: tuple[Failing, TestClient]) -> None:
    app, client = failing
    app.error = HTTPException(402, {"credits": 0})
    job = submit(client, "/value")
    finished(client, job)
    for query in ("", "?aggregate=1"):
        assert shape(client.get(f"/jobs/{job}/result{query}")) == (402, "refused")
    status = client.get(f"/jobs/{job}").json()
    assert (status["status"], status["detail"], status["error"]["code"]) == ("failed", {"credits": 0}, "refused")


def test_the_events_of_a_job_can_be_read_from_any_point(gated: tuple[Gated, TestClient]) -> None:
    app, client = gated
    app.gate.release(3)
    job = submit(client)
    whole = finished(client, job)
    assert names(whole) == ["job", "output", "output", "output", "done"]
    rest = client.get(f"/jobs/{job}/events?_events=named", headers={"Last-Event-ID": blocks(whole)[2]["id"]}).text
    assert data(rest)[:1] == [{"step": 2}]
    assert names(rest) == ["output", "done"]


def test_a_detached_job_runs_on_without_readers(gated: tuple[Gated, TestClient]) -> None:
    app, client = gated
    job = submit(client)
    with client.stream("GET", f"/jobs/{job}/events"):
        pass
    app.gate.release(3)
    assert names(finished(client, job))[-1] == "done"


def test_the_first_block_of_a_waiting_job_tells_its_position(gated: tuple[Gated, TestClient]) -> None:
    app, client = gated
    submit(client, "/wait")
    assert app.started.wait(WAIT_S)
    job = [submit(client, "/wait") for _ in range(3)][-1]
    with client.stream("GET", f"/jobs/{job}/events") as answer:
        assert data(next(answer.iter_text()))[0] == {"job_id": job, "status": "queued", "position": 2}


def followed(client: TestClient, job_id: str, **headers: str) -> str:
    """Follow a job to its end."""
    return client.get(f"/jobs/{job_id}/events?_events=all", headers=headers).text


def states(text: str) -> list[tuple[str, int]]:
    told = [json.loads(block["data"]) for block in blocks(text) if block["event"] == "job"]
    return [(state["status"], state["position"]) for state in told]


def test_who_follows_a_job_hears_of_its_place_its_start_and_its_end(gated: tuple[Gated, TestClient]) -> None:
    """The places are no events: they have no id, and are not in the log."""
    app, client = gated
    first = submit(client, "/wait")
    assert app.started.wait(WAIT_S)
    second, job = submit(client, "/wait"), submit(client)
    turns: Iterator[Callable[[], object]] = iter(
        [lambda: client.post(f"/jobs/{second}/cancel"), app.gate.release, lambda: app.gate.release(3), bool]
    )
    came = ""
    with client.stream("GET", f"/jobs/{job}/events?_events=all") as answer:
        for text in answer.iter_text():
            for _ in states(text):
                next(turns)()
            came += text
    assert client.get(f"/jobs/{first}").json()["status"] == "succeeded"
    assert states(came) == [("queued", 1), ("queued", 0), ("running", 0), ("succeeded", 0)]
    assert [name for name in names(came) if name != "job"] == ["started", "output", "output", "output", "done"]
    assert [block.get("id") for block in blocks(came) if block["event"] == "job"] == [f"{job}:1.0", None, None, None]
    assert [block["id"] for block in blocks(came) if block["event"] == "started"] == [f"{job}:1.1"]
    assert names(finished(client, job)) == ["job", "output", "output", "output", "done"]


def test_who_follows_a_job_is_told_its_state_as_it_is_asked_for(gated: tuple[Gated, TestClient]) -> None:
    app, client = gated
    app.gate.release(3)
    job = submit(client)
    finished(client, job)
    assert data(followed(client, job))[0] == client.get(f"/jobs/{job}").json()


def test_who_comes_back_to_follow_a_job_misses_and_doubles_nothing(gated: tuple[Gated, TestClient]) -> None:
    app, client = gated
    app.gate.release(3)
    job = submit(client)
    whole = followed(client, job)
    assert [name for name in names(whole) if name != "job"] == ["started", "output", "output", "output", "done"]
    events = [block for block in blocks(whole) if block["event"] != "job"]
    for n, event in enumerate(events[:-1], 1):
        rest = followed(client, job, **{"Last-Event-ID": event["id"]})
        assert [block for block in blocks(rest) if block["event"] != "job"] == events[n:]
        assert states(rest) == [("succeeded", 0)]
    ended = client.get(f"/jobs/{job}/events?_events=all", headers={"Last-Event-ID": events[-1]["id"]})
    assert ended.status_code == 204


def test_who_follows_a_job_is_always_told_when_it_ended(gated: tuple[Gated, TestClient]) -> None:
    """The time is noted a moment after the job is over."""
    app, client = gated
    app.gate.release(3)
    job = submit(client)
    finished(client, job)
    client.app.state.runtime.jobs._kept[job].finished_at = None  # type: ignore[attr-defined]
    state, *_ = data(followed(client, job))
    assert state["finished_at"] >= state["started_at"]


@pytest.mark.parametrize("hours", [-1, 1])
def test_the_wall_clock_may_be_set_while_a_job_waits_or_runs(
    gated: tuple[Gated, TestClient], hours: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    app, client = gated
    real, job = time.time, submit(client)
    monkeypatch.setattr("time.time", lambda: real() + 3600 * hours)
    app.gate.release(3)
    finished(client, job)
    told = client.get(f"/jobs/{job}").json()
    assert told["created_at"] <= told["started_at"] <= told["finished_at"] < told["created_at"] + 1800


def test_who_follows_a_failed_job_is_told_what_it_failed_with(failing: tuple[Failing, TestClient]) -> None:
    app, client = failing
    app.error = HTTPException(402, {"credits": 0})
    job = submit(client, "/value")
    *_, state = (told for told in data(followed(client, job)) if "status" in told)  # it may have been queued at first
    assert (state["status"], state["error"]["code"], state["finished_at"] >= state["started_at"]) == (
        "failed",
        "refused",
        True,
    )


def test_a_job_is_cancelled_on_request_and_its_readers_are_told(gated: tuple[Gated, TestClient]) -> None:
    app, client = gated
    app.gate.release(1)
    with client.stream("POST", "/stream") as answer:
        chunks = answer.iter_text()
        job = blocks(next(chunk for chunk in chunks if "data" in chunk))[0]["id"].partition(":")[0]
        cancelled = client.post(f"/jobs/{job}/cancel")
        rest = "".join(chunks)
    assert (cancelled.status_code, cancelled.json()["status"]) == (202, "cancelled")
    assert names(rest) == ["cancelled"]
    assert shape(client.get(f"/jobs/{job}/result")) == (499, "cancelled")
    app.gate.release(1)
    assert app.closed.wait(WAIT_S)  # the generator was closed when it yielded after the cancel


def test_cancelling_twice_changes_nothing(gated: tuple[Gated, TestClient]) -> None:
    app, client = gated
    app.gate.release(3)
    job = submit(client)
    finished(client, job)
    assert client.post(f"/jobs/{job}/cancel").json()["status"] == "succeeded"


def test_a_queued_job_that_is_cancelled_is_an_http_error_for_its_reader(gated: tuple[Gated, TestClient]) -> None:
    app, client = gated
    submit(client, "/wait")
    job = submit(client, "/wait")
    client.post(f"/jobs/{job}/cancel")
    assert shape(client.get(f"/jobs/{job}/result")) == (499, "cancelled")


# What dependencies open


class Session:
    def __init__(self) -> None:
        self.closed = threading.Event()


def open_session(request: Request) -> Iterator[Session]:
    session = Session()
    request.app.state.runtime.served[0].app.sessions.append(session)
    try:
        yield session
    finally:
        session.closed.set()


async def open_async_session(request: Request) -> AsyncIterator[Session]:
    """Take as long to close as a connection that has to be asked first."""
    with contextmanager(open_session)(request) as session:
        yield session
        for _ in range(100):
            await asyncio.to_thread(int)


def open_broken_session() -> Iterator[None]:
    yield
    raise OSError("the disk is full")


class Dependent(Gated):
    """Tells at its end whether what it needs is open still."""

    @cached_property
    def sessions(self) -> list[Session]:
        return []

    @streamapp.endpoint("/sync")
    def sync(self, session: Session = Depends(open_session)) -> bool:
        self.started.set()
        self.gate.acquire()
        return not session.closed.is_set()

    @streamapp.endpoint("/async")
    def asynchronous(self, session: Annotated[Session, Depends(open_async_session)]) -> bool:
        return self.sync(session)

    @streamapp.endpoint("/twice")
    def twice(self, session: Session = Depends(open_session)) -> Iterator[bool]:
        yield self.sync(session)
        yield self.sync(session)

    @streamapp.endpoint("/broken")
    def broken(self, session: None = Depends(open_broken_session)) -> None:
        self.gate.acquire()


@pytest.mark.parametrize("path", ["/sync", "/async"])
@pytest.mark.parametrize(("prefix", "headers"), [("", ASYNC), ("/queue/me/dependent", {})])
def test_what_a_dependency_opened_is_open_until_its_job_has_ended(
    prefix: str, path: str, headers: dict[str, str]
) -> None:
    with serving(app := Dependent()) as client:
        jobs = [client.post(prefix + path, headers=headers).headers["x-streamapp-job-id"] for _ in range(2)]
        app.gate.release(2)
        assert [data(finished(client, job))[1] for job in jobs] == [True, True]
        assert [session.closed.wait(WAIT_S) for session in app.sessions] == [True, True]


def test_what_a_dependency_opened_is_open_while_the_endpoint_runs_though_its_job_has_ended() -> None:
    with serving(app := Dependent()) as client:
        job = submit(client, "/sync")
        assert app.started.wait(WAIT_S)
        client.post(f"/jobs/{job}/cancel")
        assert finished(client, job)
        assert not app.sessions[0].closed.is_set()
        app.gate.release()
        assert app.sessions[0].closed.wait(WAIT_S)


def test_a_stop_waits_no_longer_for_dependencies_than_for_the_code_that_uses_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(Runtime.stop, "__defaults__", (3600,))  # how long teardown may take
    with serving(app := Dependent()) as client:
        submit(client, "/sync")
        assert app.started.wait(WAIT_S)
    app.gate.release()


def test_what_a_dependency_opened_is_closed_when_its_job_is_refused_or_never_runs() -> None:
    with serving(app := Dependent(), max_queue=1) as client:
        submit(client, "/sync")
        assert app.started.wait(WAIT_S)
        waiting = submit(client, "/sync")
        assert client.post("/sync", headers=ASYNC).status_code == 429
        assert [session.closed.is_set() for session in app.sessions] == [False, False, True]
        client.post(f"/jobs/{waiting}/cancel")
        assert app.sessions[1].closed.wait(WAIT_S)
        assert not app.sessions[0].closed.is_set()
        app.gate.release()


def test_what_a_dependency_opened_is_closed_with_the_answer_that_ends_the_job() -> None:
    with serving(app := Dependent()) as client:
        app.gate.release(2)
        assert client.post("/sync").json() is client.post("/async").json() is True
        assert [session.closed.is_set() for session in app.sessions] == [True, True]


def test_what_a_dependency_opened_is_open_while_a_stream_waits_for_its_reader() -> None:
    settings = Settings(drain_s=0, resume_window_s=60)
    with streamapp.testing.TestClient(app := Dependent(), settings=settings) as client:
        app.gate.release()
        with client.stream("/twice", method="GET", params={"_events": "named"}) as events:
            assert [next(events).name, next(events).data] == ["job", True]
        app.gate.release()
        assert data(client.get(f"/jobs/{events.job_id}/events").text)[2] is True
        assert app.sessions[0].closed.wait(WAIT_S)


async def test_what_a_dependency_opened_is_closed_when_the_server_cancels_the_request() -> None:
    async def receive() -> Message:
        if body:
            return body.pop()
        await asyncio.Event().wait()
        raise AssertionError

    async def send(message: Message) -> None: ...

    body: list[Message] = [{"type": "http.request", "body": b""}]
    scope: Scope = {"type": "http", "method": "POST", "path": "/async", "headers": [], "query_string": b""}
    api = streamapp.compile_app(app := Dependent())
    request = asyncio.create_task(api(scope, receive, send))
    assert await asyncio.to_thread(app.started.wait, 10)
    request.cancel()
    with pytest.raises(asyncio.CancelledError):
        await request
    assert await asyncio.to_thread(app.sessions[0].closed.wait, 10)
    app.gate.release()
    await api.state.runtime.stop()


def test_a_dependency_that_cannot_close_what_it_opened_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    with serving(app := Dependent()) as client:
        job = submit(client, "/broken")
        app.gate.release()
        finished(client, job)
    assert "a request failed after its answer" in caplog.text
    assert "the disk is full" in caplog.text


# What hears of cancels


class Force(BaseModel):
    force: bool = False


def agent(x_fal_request_id: str = Header(), user_agent: str = Header("nobody")) -> list[str]:
    return [x_fal_request_id, user_agent]


async def shared(background: BackgroundTasks, request: Request) -> str:
    background.add_task(request.app.state.runtime.served[0].app.heard.put, "afterwards")
    return "shared"


class Hearing(Gated):
    @cached_property
    def heard(self) -> queue.Queue[Any]:
        return queue.Queue()

    @cached_property
    def sessions(self) -> list[Session]:
        return []

    def hears(self) -> Any:
        return self.heard.get(timeout=WAIT_S)


at_cancel = streamapp.endpoint("/wait/cancel")


def hearing(cancel: Any) -> Hearing:
    """Make an app whose `cancel` hears of the cancels of its `/wait`."""
    cls = type("Hearing", (Hearing,), {"cancel": cancel, "app_name": "hearing"})
    app: Hearing = cls()
    return app


def cancelled(client: TestClient, app: Hearing) -> str:
    """Cancel a job that runs."""
    job = submit(client, "/wait")
    assert app.started.wait(WAIT_S)
    assert client.post(f"/jobs/{job}/cancel").json()["status"] == "cancelled"
    app.gate.release()
    return job


@at_cancel
def with_nothing(self: Hearing) -> None:
    self.heard.put([])


@at_cancel
def with_plain_parameters(self: Hearing, force: bool = False, tags: list[str] | None = None) -> None:
    self.heard.put([force, tags])


@at_cancel
def with_a_model(self: Hearing, input: Force) -> None:
    self.heard.put([input.force])


@at_cancel
def with_a_body(self: Hearing, input: Annotated[Force, Body()]) -> None:
    self.heard.put([input.force])


@at_cancel
def with_the_request(self: Hearing, request: Request) -> None:
    self.heard.put([request.method, request.url.path, request.headers["x-fal-request-id"]])


@at_cancel
async def with_the_request_read(self: Hearing, request: Request) -> None:
    self.heard.put([await request.json(), await request.is_disconnected(), request.client])


@at_cancel
def with_a_header(self: Hearing, x_fal_request_id: Annotated[str, Header()]) -> None:
    self.heard.put([x_fal_request_id])


@at_cancel
def with_a_response(self: Hearing, response: Response) -> None:
    response.headers["x-heard"] = "yes"
    self.heard.put([])


@at_cancel
def with_a_dependency(self: Hearing, agent: list[str] = Depends(agent)) -> None:
    self.heard.put(agent)


@at_cancel
def with_the_current_request(self: Hearing) -> None:
    request = self.current_request
    assert request is not None
    self.heard.put([request.request_id, request.endpoint])


@at_cancel
async def as_a_coroutine(self: Hearing) -> None:
    self.heard.put([])


@at_cancel
def as_a_stream(self: Hearing, stream: streamapp.Stream) -> Iterator[int]:
    for n in range(5000):
        yield n
    self.heard.put([n])


@at_cancel
def as_a_response(self: Hearing) -> Response:
    return Response(background=BackgroundTask(self.heard.put, []))


@at_cancel
async def as_an_unannounced_response(self: Hearing) -> Any:
    return Response(background=BackgroundTask(self.heard.put, []))


@pytest.mark.parametrize(
    ("cancel", "heard"),
    [
        (with_nothing, []),
        (with_plain_parameters, [False, None]),
        (with_a_model, [False]),
        (with_a_body, [False]),
        (with_the_request, ["POST", "/hearing/wait/cancel", "{id}"]),
        (with_the_request_read, [{}, False, None]),
        (with_a_header, ["{id}"]),
        (with_a_response, []),
        (with_a_dependency, ["{id}", "nobody"]),
        (with_the_current_request, ["{id}", "/wait/cancel"]),
        (as_a_coroutine, []),
        (as_a_stream, [4999]),
        (as_a_response, []),
        (as_an_unannounced_response, []),
    ],
)
def test_an_endpoint_that_hears_of_a_cancel_may_ask_for(
    cancel: Any, heard: list[Any], caplog: pytest.LogCaptureFixture
) -> None:
    with serving(app := hearing(cancel), api_key=None, drain_s=WAIT_S) as client:
        job = cancelled(client, app)
        assert app.hears() == [job if value == "{id}" else value for value in heard]
    assert "answered the cancel" not in caplog.text


def test_what_hears_of_a_cancel_is_a_job_of_its_own() -> None:
    @at_cancel
    def cancel(self: Hearing, stream: streamapp.Stream) -> None:
        self.heard.put(stream.job_id)

    with serving(app := hearing(cancel)) as client:
        job = cancelled(client, app)
        own = app.hears()
        assert own != job
        assert finished(client, own)
        assert client.get(f"/jobs/{own}").json()["endpoint"] == "/hearing/wait/cancel"
        assert client.get(f"/jobs/{own}").json()["status"] == "succeeded"


def test_it_needs_no_key_and_a_key_lets_nobody_else_in() -> None:
    with serving(app := hearing(with_nothing), api_key="secret") as client:
        assert client.post("/wait/cancel").status_code == 401
        client.headers["Authorization"] = "Key secret"
        cancelled(client, app)
        assert app.hears() == []


@pytest.mark.parametrize("open_it", [open_session, open_async_session])
def test_what_its_dependency_opened_is_closed_when_it_has_ended(open_it: Any) -> None:
    @at_cancel
    def cancel(self: Hearing, session: Session = Depends(open_it)) -> None:
        self.gate.acquire()
        self.heard.put(session.closed.is_set())

    with serving(app := hearing(cancel)) as client:
        cancelled(client, app)
        app.gate.release()
        assert app.hears() is False
        assert app.sessions[0].closed.wait(WAIT_S)


def test_what_a_dependency_leaves_for_afterwards_is_done() -> None:
    @at_cancel
    def cancel(self: Hearing, shared: str = Depends(shared)) -> None:
        self.heard.put(shared)

    with serving(app := hearing(cancel)) as client:
        cancelled(client, app)
        assert [app.hears(), app.hears()] == ["shared", "afterwards"]


def test_a_dependency_that_a_test_replaces_is_replaced_here_too() -> None:
    with serving(app := hearing(with_a_dependency)) as client:
        client.app.dependency_overrides[agent] = lambda: ["replaced"]  # type: ignore[attr-defined]
        cancelled(client, app)
        assert app.hears() == ["replaced"]


@pytest.mark.parametrize("path", ["/wait", "/hearing/wait"])
async def test_a_client_that_leaves_is_told_of_wherever_the_app_is_served(path: str) -> None:
    async def receive() -> Message:
        if body:
            return body.pop()
        assert await asyncio.to_thread(app.started.wait, WAIT_S)
        return {"type": "http.disconnect"}

    async def send(message: Message) -> None: ...

    body: list[Message] = [{"type": "http.request", "body": b""}]
    scope: Scope = {"type": "http", "method": "POST", "path": path, "headers": [], "query_string": b""}
    api = streamapp.compile_app(app := hearing(with_nothing), settings=Settings(drain_s=0))
    await api(scope, receive, send)
    app.gate.release()
    assert await asyncio.to_thread(app.hears) == []
    await api.state.runtime.stop()


def test_a_job_that_ends_well_or_never_ran_is_not_told_of() -> None:
    with serving(app := hearing(with_nothing)) as client:
        running = submit(client, "/wait")
        assert app.started.wait(WAIT_S)
        waiting = submit(client, "/wait")
        client.post(f"/jobs/{waiting}/cancel")
        app.gate.release()
        finished(client, running)
        app.started.clear()
        cancelled(client, app)
        assert app.hears() == []
        assert app.heard.empty()


def exits() -> None:
    sys.exit()


def refuses() -> None:
    raise HTTPException(418)


def breaks() -> None:
    raise KeyError("secret")


@at_cancel
def fails(self: Hearing) -> None:
    raise ValueError("no")


@at_cancel
def answers_with_an_error(self: Hearing) -> Response:
    return Response(status_code=410)


@at_cancel
def asks_for_more(self: Hearing, reason: str) -> None: ...


@at_cancel
def asks_for_another_header(self: Hearing, x_reason: str = Header()) -> None: ...


@at_cancel
def needs_what_exits(self: Hearing, needed: None = Depends(exits)) -> None: ...


@at_cancel
def needs_what_refuses(self: Hearing, needed: None = Depends(refuses)) -> None: ...


@at_cancel
def needs_what_breaks(self: Hearing, needed: None = Depends(breaks)) -> None: ...


@at_cancel
def needs_what_does_not_close(self: Hearing, needed: None = Depends(open_broken_session)) -> None: ...


@pytest.mark.parametrize(
    ("cancel", "status", "told"),
    [
        (fails, 500, "ValueError: no"),
        (answers_with_an_error, 410, ""),
        (asks_for_more, 422, ""),
        (asks_for_another_header, 422, ""),
        (needs_what_exits, 500, "SystemExit"),
        (needs_what_refuses, 418, ""),
        (needs_what_breaks, 500, "KeyError: 'secret'"),
        (needs_what_does_not_close, 500, "the disk is full"),
    ],
)
def test_what_fails_at_a_cancel_is_logged_and_reaches_nobody(
    cancel: Any, status: int, told: str, caplog: pytest.LogCaptureFixture
) -> None:
    with serving(app := hearing(cancel)) as client:
        job = cancelled(client, app)
        until(lambda: f"/hearing/wait/cancel answered the cancel of {job} with {status}" in caplog.text)
        assert shape(client.get(f"/jobs/{job}/result")) == (499, "cancelled")
        assert client.get("/health").status_code == 200
    assert told in caplog.text


def test_a_server_that_takes_no_more_jobs_hears_of_no_cancel(caplog: pytest.LogCaptureFixture) -> None:
    with serving(app := hearing(with_nothing)) as client:
        job = submit(client, "/wait")
        assert app.started.wait(WAIT_S)
        drain(client)
        client.post(f"/jobs/{job}/cancel")
        app.gate.release()
        until(lambda: f"answered the cancel of {job} with 503" in caplog.text)
    assert app.heard.empty()


# GET streams


def test_a_get_stream_tells_invalid_input_as_an_http_error(inputs: TestClient) -> None:
    assert shape(inputs.get("/keys")) == (422, "invalid_input")


def test_a_cut_get_stream_goes_on_behind_its_last_event(gated: tuple[Gated, TestClient]) -> None:
    app, client = gated
    app.gate.release(2)
    with client.stream("GET", "/stream?steps=3") as answer:
        seen = ""
        chunks = answer.iter_text()
        while '{"step":1}' not in seen:
            seen += next(chunks)
    app.gate.release(1)
    rest = client.get("/stream?steps=3", headers={"Last-Event-ID": blocks(seen)[-1]["id"]})
    assert data(rest.text)[0] == {"step": 2}
    assert [block.get("event") for block in blocks(rest.text)] == [None, "done"]


def test_a_stream_cut_before_its_first_event_goes_on_as_the_same_job(gated: tuple[Gated, TestClient]) -> None:
    app, client = gated
    with client.stream("GET", "/stream?steps=1") as answer:
        event_id = blocks(next(answer.iter_text()))[0]["id"]
    app.gate.release(1)
    again = blocks(client.get("/stream?steps=1", headers={"Last-Event-ID": event_id}).text)
    assert (again[0]["event"], again[0]["id"], again[1]["data"]) == ("job", event_id, '{"step":0}')


def test_a_stream_that_was_read_to_its_end_is_answered_with_204(kinds: TestClient) -> None:
    last = blocks(kinds.get("/generator").text)[-1]["id"]
    answer = kinds.get("/generator", headers={"Last-Event-ID": last})
    assert (answer.status_code, answer.content) == (204, b"")


def test_a_failed_stream_that_was_read_to_its_end_is_answered_with_204(failing: tuple[Failing, TestClient]) -> None:
    app, client = failing
    app.error = ValueError()
    last = blocks(client.get("/stream").text)[-1]
    assert last["event"] == "error"
    assert client.get("/stream", headers={"Last-Event-ID": last["id"]}).status_code == 204


PAGE = {"Accept": "text/event-stream", "Origin": "http://testserver"}  # what `@microsoft/fetch-event-source` sends


def test_a_post_with_the_id_of_an_event_gets_what_came_behind_it(gated: tuple[Gated, TestClient]) -> None:
    app, client = gated
    app.gate.release(3)
    first = client.post("/stream", json={"steps": 3})
    for event, left in zip(blocks(first.text), ([1, 2], [2], []), strict=True):
        rest = client.post("/stream", json={"steps": 3}, headers={**PAGE, "Last-Event-ID": event["id"]})
        assert [told["step"] for told in data(rest.text)] == left
        assert names(rest.text) == ["output"] * len(left)
        assert rest.headers["x-streamapp-job-id"] == first.headers["x-streamapp-job-id"]


def test_a_page_that_reads_by_post_may_leave_and_come_back(gated: tuple[Gated, TestClient]) -> None:
    app, client = gated
    app.gate.release()
    with client.stream("POST", "/stream", json={"steps": 3}, headers=PAGE) as answer:
        event = blocks(next(answer.iter_text()))[-1]
    app.gate.release(2)
    rest = client.post("/stream", json={"steps": 3}, headers={**PAGE, "Last-Event-ID": event["id"]})
    assert data(rest.text) == [{"step": 1}, {"step": 2}]


@pytest.mark.parametrize(
    "headers",
    [{}, {"Accept": "text/event-stream"}, {**PAGE, "Streamapp-Resume": "0"}, {**PAGE, "X-Fal-Queue-Priority": "low"}],
)
def test_whoever_else_reads_by_post_and_leaves_ends_the_job(
    gated: tuple[Gated, TestClient], headers: dict[str, str]
) -> None:
    app, client = gated
    app.gate.release()
    with client.stream("POST", "/stream", json={"steps": 3}, headers=headers) as answer:
        next(answer.iter_text())
        job = answer.headers["x-streamapp-job-id"]
    assert names(finished(client, job))[-1] == "cancelled"


def test_who_comes_back_by_post_hears_of_a_failure_in_the_stream_and_then_of_a_good_end(
    failing: tuple[Failing, TestClient],
) -> None:
    """A fetch-event-source takes any answer but a stream that ends for a fault, and comes again for ever."""
    app, client = failing
    app.error, app.events = ValueError(), 1
    events = blocks(client.post("/stream").text)
    again = client.post("/stream", headers={**PAGE, "Last-Event-ID": events[0]["id"]})
    assert (again.status_code, blocks(again.text)) == (200, events[1:])
    end = client.post("/stream", headers={**PAGE, "Last-Event-ID": events[1]["id"]})
    assert (end.status_code, end.headers["content-type"].partition(";")[0]) == (200, "text/event-stream")
    assert (events[1]["event"], blocks(end.text)) == ("error", [])


@pytest.mark.parametrize(
    ("path", "event", "answer"),
    [
        ("/generator", "{job}:1.99", (400, "malformed_request")),
        ("/generator", "7", (400, "malformed_request")),
        ("/iterator", "{job}:1.2", (400, "malformed_request")),
        ("/generator", "0" * 32 + ":1.2", (404, "job_not_found")),
    ],
)
def test_a_post_that_cannot_be_resumed_starts_nothing_new(
    kinds: TestClient, path: str, event: str, answer: tuple[int, str]
) -> None:
    job = kinds.post("/generator").headers["x-streamapp-job-id"]
    assert shape(kinds.post(path, headers={"Last-Event-ID": event.format(job=job)})) == answer


@pytest.mark.parametrize(
    ("path", "headers"), [("/value", {}), ("/generator", ASYNC), ("/generator", {"Accept": "*/*"})]
)
def test_an_id_that_is_empty_or_names_no_event_of_a_stream_is_none(
    kinds: TestClient, path: str, headers: dict[str, str]
) -> None:
    event = "7" if path == "/value" else ""
    assert kinds.post(path, headers={**headers, "Last-Event-ID": event}).is_success


def test_the_body_of_a_post_that_resumes_has_its_limit_too() -> None:
    with serving(Kinds, max_body_bytes=10) as client:
        job = client.post("/generator").headers["x-streamapp-job-id"]
        pieces = iter([b"x" * 8] * 2)
        answer = client.post("/generator", content=pieces, headers={"Last-Event-ID": f"{job}:1.2"})
    assert shape(answer) == (413, "payload_too_large")


@pytest.mark.parametrize(
    "event", ["{job}:1.99", "{job}:2.1", "{job}:1", "{job}", "{job}:1.-1", "x{job}:1.1", "{job}:1.1\u0665"]
)
def test_an_event_id_that_cannot_be_is_refused(kinds: TestClient, event: str) -> None:
    job = kinds.get("/generator").headers["x-streamapp-job-id"]
    answer = kinds.get("/generator", headers={b"Last-Event-ID": event.format(job=job).encode()})
    assert shape(answer) == (400, "malformed_request")


def test_an_event_id_of_another_endpoint_or_job_is_refused(kinds: TestClient) -> None:
    first, second = (kinds.get("/generator").headers["x-streamapp-job-id"] for _ in range(2))
    headers = {"Last-Event-ID": f"{first}:1.1"}
    assert shape(kinds.get("/iterator", headers=headers)) == (400, "malformed_request")
    assert shape(kinds.get(f"/jobs/{second}/events", headers=headers)) == (400, "malformed_request")


def test_a_resumed_stream_is_served_to_its_end_while_draining() -> None:
    with serving(Kinds) as client:
        job = client.get("/generator").headers["x-streamapp-job-id"]
        drain(client)
        rest = client.get("/generator", headers={"Last-Event-ID": f"{job}:1.2"})
        assert shape(client.get("/generator")) == (503, "draining")
    assert data(rest.text)[0] == {"n": 1}


# Leaving


@pytest.mark.parametrize(
    ("method", "headers", "status"),
    [
        ("GET", {}, "running"),
        ("POST", {}, "cancelled"),
        ("POST", {"Streamapp-Resume": "5"}, "running"),
        ("POST", {"Streamapp-Resume": "0"}, "cancelled"),
        ("GET", {"Streamapp-Resume": "0"}, "cancelled"),
    ],
)
def test_a_job_waits_for_its_reader_as_long_as_it_was_asked_to(
    gated: tuple[Gated, TestClient], method: str, headers: dict[str, str], status: str
) -> None:
    app, client = gated
    app.gate.release(1)
    with client.stream(method, "/stream", headers=headers) as answer:
        chunks = answer.iter_text()
        while '{"step":0}' not in next(chunks):
            pass
    assert client.get(f"/jobs/{answer.headers['x-streamapp-job-id']}").json()["status"] == status


def test_how_long_a_job_waits_is_capped_by_its_endpoint(gated: tuple[Gated, TestClient]) -> None:
    app, client = gated
    with client.stream("GET", "/stream", headers={"Streamapp-Resume": "3600"}):
        (job,) = runtime_of(client).jobs
    assert job.request.window_s == 5


def test_an_endpoint_that_answers_once_does_not_outlive_its_client() -> None:
    """Nobody learns the id of such a job before it has ended."""
    with serving(Kinds) as client:
        runtime_of(client).observers.append((ended := list[Job]()).append)
        client.post("/value", headers={"Streamapp-Resume": "60"})
    assert [job.request.window_s for job in ended] == [0]


# Whose it is


class Named:
    """Say who sends a request, as a middleware of several keys will."""

    def __init__(self, app: Any) -> None:
        self.app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            scope = {**scope, CALLER: Headers(scope=scope).get("x-caller", "")}
        await self.app(scope, receive, send)


def test_a_job_is_found_by_who_started_it_and_by_nobody_else() -> None:
    api = streamapp.compile_app(Kinds, settings=Settings(drain_s=0))
    api.add_middleware(Named)
    ann, bob = {"X-Caller": "ann"}, {"X-Caller": "bob"}
    with TestClient(api) as client:
        job_id = client.post("/generator", headers=ann).headers["x-streamapp-job-id"]
        for method, path in (
            ("GET", f"/jobs/{job_id}"),
            ("GET", f"/jobs/{job_id}/result"),
            ("GET", f"/jobs/{job_id}/events"),
            ("POST", f"/jobs/{job_id}/cancel"),
            ("GET", f"/queue/me/kinds/requests/{job_id}/status"),
            ("GET", f"/queue/me/kinds/requests/{job_id}"),
        ):
            assert client.request(method, path, headers=ann).status_code < 400
            for others in (bob, {}):
                assert client.request(method, path, headers=others).status_code == 404
        event = {"Last-Event-ID": f"{job_id}:1.1"}
        assert client.get("/generator", headers={**ann, **event}).status_code == 200
        assert client.get("/generator", headers={**bob, **event}).status_code == 404


def test_an_idempotency_key_is_its_callers_own() -> None:
    api = streamapp.compile_app(Kinds, settings=Settings(drain_s=0))
    api.add_middleware(Named)

    def job_id(caller: str) -> str:
        headers = {"X-Caller": caller, "Idempotency-Key": "1"}
        return str(client.post("/value", headers=headers).headers["x-streamapp-job-id"])

    with TestClient(api) as client:
        assert job_id("ann") == job_id("ann") != job_id("bob")


def test_what_dependencies_gave_to_a_request_that_joins_a_stored_job_is_closed() -> None:
    closed = threading.Event()

    def opened() -> Iterator[None]:
        yield
        closed.set()

    class Kept(streamapp.App):
        @streamapp.endpoint("/value")
        def value(self, given: Annotated[None, Depends(opened)]) -> int:
            return 1

    store, headers = MemoryStore(), {"Idempotency-Key": "1"}
    for _ in range(2):  # the second is another process
        closed.clear()
        with TestClient(streamapp.compile_app(Kept, settings=Settings(drain_s=0), store=store)) as client:
            assert client.post("/value", headers=headers).json() == 1
            assert closed.wait(WAIT_S)


def test_two_apps_that_share_a_store_have_keys_of_their_own() -> None:
    class One(streamapp.App):
        @streamapp.endpoint("/value")
        def value(self) -> str:
            return "one"

    class Two(streamapp.App):
        @streamapp.endpoint("/value")
        def value(self) -> str:
            return "two"

    store, answers = MemoryStore(), []
    for app in (One, Two, One):
        with TestClient(streamapp.compile_app(app, settings=Settings(drain_s=0), store=store)) as client:
            answers.append(client.post("/value", headers={"Idempotency-Key": "1"}).json())
    assert answers == ["one", "two", "one"]


# Responses of endpoints' own


class Told(streamapp.App):
    """Endpoints that answer with events that they have framed themselves."""

    @streamapp.endpoint("/stream")
    def stream(self, says_so: bool = False) -> StreamingResponse:
        return self.events(says_so)

    @streamapp.endpoint("/run")
    def run(self, says_so: bool = False) -> StreamingResponse:
        return self.events(says_so)

    @streamapp.endpoint("/ours")
    def ours(self) -> Iterator[int]:
        yield from (1, 2)

    def events(self, says_so: bool) -> StreamingResponse:
        headers = {"x-fal-sse-last-event-as-body": "1"} if says_so else {}
        return StreamingResponse(iter(["data: 1\n\n", "data: 2\n\n"]), headers=headers, media_type="text/event-stream")


@pytest.fixture(scope="module")
def told() -> Iterator[TestClient]:
    with serving(Told) as client:
        yield client


@pytest.mark.parametrize("accept", ["*/*", "application/json", "text/event-stream", "text/plain"])
@pytest.mark.parametrize("path", ["/stream", "/run", "/ours"])
def test_the_last_event_is_the_body_where_a_request_asks_for_it(told: TestClient, path: str, accept: str) -> None:
    answer = told.post(path, headers={"x-fal-sse-last-event-as-body": "1", "Accept": accept})
    assert (answer.headers["content-type"], answer.json()) == ("application/json", 2)
    assert told.post(path, headers={"x-fal-sse-last-event-as-body": "0"}).text.count("data: ") == 2


@pytest.mark.parametrize(
    ("path", "accept", "is_last"),
    [
        ("/run", "application/json", True),
        ("/run", "text/event-stream", False),
        ("/run", "*/*", False),
        ("/stream", "application/json", False),
    ],
)
def test_the_last_event_is_the_body_of_who_wants_json_where_the_response_says_so(
    told: TestClient, path: str, accept: str, is_last: bool
) -> None:
    answer = told.post(path, json={"says_so": True}, headers={"Accept": accept})
    assert (answer.text == "2") == is_last
    assert told.post(path, headers={"Accept": accept}).text == "data: 1\n\ndata: 2\n\n"


def test_an_event_id_of_the_endpoints_own_is_left_to_the_endpoint(told: TestClient) -> None:
    assert told.get("/stream", headers={"Last-Event-ID": "17"}).text == "data: 1\n\ndata: 2\n\n"


def test_a_key_joins_a_job_that_keeps_what_a_response_has_sent(told: TestClient) -> None:
    first, second = (told.post("/stream", headers={**ASYNC, "Idempotency-Key": "k"}).json() for _ in range(2))
    assert first["job_id"] == second["job_id"]
    assert data(finished(told, first["job_id"]))[1:-1] == [1, 2]


def test_a_response_goes_through_fals_queue(told: TestClient) -> None:
    submitted = told.post("/queue/me/told/stream", json={"says_so": True}).json()
    finished(told, submitted["request_id"])
    assert told.get(f"/queue/me/told/requests/{submitted['request_id']}").json() == 2


class Opened(list[str]):
    """What a dependency gives, and notes when it is used and closed."""


class Lent(streamapp.App):
    """Endpoints whose own responses use what a dependency has opened."""

    notes = Opened()
    gate: Any = None

    def lend() -> Iterator[Opened]:  # type: ignore[misc]
        Lent.notes.append("opened")
        yield Lent.notes
        Lent.notes.append("closed")

    async def alend() -> AsyncIterator[Opened]:  # type: ignore[misc]
        Lent.notes.append("opened")
        yield Lent.notes
        Lent.notes.append("closed")

    @streamapp.endpoint("/thread")
    def thread(self, lent: Annotated[Opened, Depends(lend)]) -> StreamingResponse:
        return StreamingResponse(self.in_thread(lent), media_type="text/event-stream")

    @streamapp.endpoint("/async-thread")
    async def async_thread(self, lent: Annotated[Opened, Depends(alend)]) -> StreamingResponse:
        return StreamingResponse(self.in_thread(lent), media_type="text/event-stream")

    @streamapp.endpoint("/function")
    def function(self, lent: Annotated[Opened, Depends(lend, scope="function")]) -> StreamingResponse:
        return StreamingResponse(self.in_thread(lent), media_type="text/event-stream")

    @streamapp.endpoint("/loop")
    async def loop(self, lent: Annotated[Opened, Depends(alend)]) -> StreamingResponse:
        return StreamingResponse(self.on_loop(lent), media_type="text/event-stream")

    @streamapp.endpoint("/sse-starlette")
    def sse_starlette(self, lent: Annotated[Opened, Depends(lend)]) -> EventSourceResponse:
        return EventSourceResponse(self.on_loop(lent))

    @streamapp.endpoint("/value")
    def value(self, lent: Annotated[Opened, Depends(lend, scope="function")]) -> str:
        lent.append("used")
        return "value"

    def in_thread(self, lent: Opened) -> Iterator[str]:
        try:
            yield "data: 1\n\n"
            self.gate()
            yield "data: 2\n\n"
        finally:
            lent.append("used")

    async def on_loop(self, lent: Opened) -> AsyncIterator[str]:
        try:
            yield "data: 1\n\n"
            await asyncio.to_thread(self.gate)
            yield "data: 2\n\n"
        finally:
            lent.append("used")


LENT = ["/thread", "/async-thread", "/function", "/loop", "/sse-starlette"]


@pytest.fixture
def lent(gate: Gate) -> Iterator[streamapp.testing.TestClient]:
    Lent.notes.clear()
    Lent.gate = gate
    with streamapp.testing.TestClient(Lent, settings=Settings(drain_s=0)) as client:
        yield client
        gate.opened.set()


@pytest.mark.parametrize("path", LENT)
def test_what_a_dependency_opened_lasts_as_long_as_a_response_of_the_endpoints_own(
    lent: streamapp.testing.TestClient, gate: Gate, path: str
) -> None:
    gate.opened.set()
    assert "data: 2" in lent.post(path).text
    until(lambda: Lent.notes == ["opened", "used", "closed"])


@pytest.mark.parametrize("path", LENT)
def test_what_a_dependency_opened_outlives_a_client_that_leaves_its_response(
    lent: streamapp.testing.TestClient, gate: Gate, path: str
) -> None:
    with lent.http.stream("POST", path) as answer:
        next(answer.iter_text())
        gate.wait()
    if path not in ("/loop", "/sse-starlette"):  # a coroutine is cancelled where it stands
        assert lent.run("/value") == "value"
        assert Lent.notes == ["opened", "opened", "used", "closed"]
        del Lent.notes[1:]
    gate.opened.set()
    until(lambda: Lent.notes == ["opened", "used", "closed"])


@pytest.mark.parametrize("path", LENT)
def test_what_a_dependency_opened_outlives_a_job_that_is_cancelled(
    lent: streamapp.testing.TestClient, gate: Gate, path: str
) -> None:
    job_id = lent.post(path, headers=ASYNC).json()["job_id"]
    gate.wait()
    lent.post(f"/jobs/{job_id}/cancel")
    if path not in ("/loop", "/sse-starlette"):
        assert Lent.notes == ["opened"]
    gate.opened.set()
    until(lambda: Lent.notes == ["opened", "used", "closed"])
