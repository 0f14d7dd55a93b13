"""Runpod's API of endpoints in-process; the stock clients have tests of their own."""

import asyncio
import json
import threading
from collections.abc import Iterator
from functools import cached_property
from typing import Annotated, Any

import pytest
from fastapi import Body, Header, Query
from starlette.requests import Request
from starlette.responses import Response
from starlette.testclient import TestClient
from starlette.types import Message, Receive, Scope, Send
from tests.asgi_client import Client
from tests.asking import ask
from tests.served import drain, runtime_of, serving
from tests.waiting import WAIT_S, until

import streamapp
from streamapp.http.call import CALLER
from streamapp.jobs.job import Job
from streamapp.runpod import api
from streamapp.runpod.api import RunpodPaths
from streamapp.runpod.apps import WorkerCounts
from streamapp.runpod.endpoints import Endpoint
from streamapp.runpod.handlers import handler_app
from streamapp.runpod.places import Place, places_of
from streamapp.runpod.pool import Pool, pool_app
from streamapp.settings import Settings

ID = "0123456789ab4def8123456789abcdef"


class Shop(streamapp.App, name="shop", max_queue=2):
    """Endpoints of every kind, one that waits for the test among them."""

    @cached_property
    def gate(self) -> threading.Semaphore:
        return threading.Semaphore(0)

    @streamapp.endpoint("/stream")
    def stream(self, n: int = 2) -> Iterator[dict[str, int]]:
        for i in range(n):
            yield {"i": i}

    @streamapp.endpoint("/")
    def home(self, prompt: str) -> dict[str, str]:
        return {"prompt": prompt}

    @streamapp.endpoint("/wait")
    def wait(self) -> str:
        self.gate.acquire()
        streamapp.current_stream().check()
        return "waited"

    @streamapp.endpoint("/fail")
    def fail(self, text: str = "") -> None:
        raise ValueError(text)

    @streamapp.endpoint("/head")
    def head(self, request: Request) -> str:
        raise ValueError

    @streamapp.endpoint("/query")
    def query(self, style: Annotated[str, Query()] = "plain") -> None:
        raise ValueError(style)

    @streamapp.endpoint("/raw")
    def raw(self, body: Annotated[Any, Body()], x_mark: str = Header("")) -> list[Any]:
        return [body, x_mark]

    @streamapp.endpoint("/told")
    def told(self, x_mark: str = Header("")) -> None:
        assert self.current_request is not None
        raise streamapp.errors.MalformedRequest(f"{x_mark} {self.current_request.request_id}")

    @streamapp.endpoint("/slow")
    async def slow(self) -> str:
        return "slow"


@pytest.fixture
def shop() -> Shop:
    return Shop()


@pytest.fixture
def client(shop: Shop) -> Iterator[TestClient]:
    with serving(shop) as client:
        yield client
        shop.gate.release(100)


def run(client: TestClient, endpoint: str = "shop", *, operation: str = "run", **envelope: Any) -> dict[str, Any]:
    answer = client.post(f"/v2/{endpoint}/{operation}", json={"input": {}, **envelope})
    assert answer.status_code == 200, answer.text
    told: dict[str, Any] = answer.json()
    return told


def ask_about(client: TestClient, job: dict[str, Any], operation: str = "status", endpoint: str = "shop") -> Any:
    method = client.get if operation in ("status", "stream", "status-sync") else client.post
    return method(f"/v2/{endpoint}/{operation}/{job['id']}").json()


def finished(client: TestClient, job: dict[str, Any], endpoint: str = "shop") -> dict[str, Any]:
    told: dict[str, Any] = ask_about(client, job, "status-sync", endpoint)
    assert told["status"] not in ("IN_QUEUE", "IN_PROGRESS")
    return told


def job_of(client: TestClient, job: dict[str, Any]) -> Job:
    jobs = runtime_of(client).jobs
    return jobs._kept[job["id"].removeprefix("sync-")[:-3].replace("-", "")]


# Begin jobs


def test_a_job_is_run_and_its_stream_polled_to_the_end(client: TestClient) -> None:
    job = run(client, input={"n": 3})
    assert job == {"id": job["id"], "status": "IN_QUEUE"}
    items: list[Any] = []
    while (page := ask_about(client, job, "stream"))["status"] == "IN_PROGRESS":
        items += page["stream"]
    assert items == [{"output": {"i": i}} for i in range(3)]
    assert page == {"status": "COMPLETED", "stream": []}
    assert ask_about(client, job)["output"] == {"i": 2}


def test_runsync_answers_with_the_result(client: TestClient) -> None:
    told = run(client, "shop--", operation="runsync", input={"prompt": "a"})
    assert told["id"].startswith("sync-")
    assert (told["status"], told["output"], told["workerId"]) == ("COMPLETED", {"prompt": "a"}, "shop")
    assert ask_about(client, told, endpoint="shop--") == told


def test_an_async_endpoint_is_run_as_well(client: TestClient) -> None:
    assert run(client, "shop--slow", operation="runsync")["output"] == "slow"


def test_runsync_waits_no_longer_than_it_is_asked_to_and_the_job_goes_on(client: TestClient, shop: Shop) -> None:
    answer = client.post("/v2/shop--wait/runsync?wait=1000", json={"input": {}}).json()
    assert answer["status"] in ("IN_QUEUE", "IN_PROGRESS")
    shop.gate.release()
    assert finished(client, answer, "shop--wait")["output"] == "waited"


def test_the_body_is_json_whatever_it_is_called_and_headers_reach_the_endpoint(client: TestClient) -> None:
    headers = {"Content-Type": "application/x-www-form-urlencoded", "X-Mark": "m", "Accept": "text/event-stream"}
    answer = client.post("/v2/shop--raw/runsync", content=b'{"input": [1, "\\u00e9"]}', headers=headers)
    assert answer.json()["output"] == [[1, "é"], "m"]


def test_an_input_that_the_endpoint_does_not_take_is_refused_at_once(client: TestClient) -> None:
    answer = client.post("/v2/shop/run", json={"input": {"n": "x"}})
    assert (answer.status_code, answer.json()["detail"][0]["loc"]) == (422, ["body", "n"])


@pytest.mark.parametrize("body", [{}, [], {"input": {}, "webhook": "http://a"}, {"input": {}, "policy": {"ttl": 1}}])
def test_a_bad_envelope_is_400_in_the_one_shape(client: TestClient, body: Any) -> None:
    answer = client.post("/v2/shop/run", json=body)
    assert (answer.status_code, answer.json()["error_type"]) == (400, "malformed_request")


def test_what_is_asked_of_a_job_is_in_its_request(client: TestClient) -> None:
    policy = {"executionTimeout": 5000, "ttl": 20_000, "lowPriority": True}
    request = job_of(client, run(client, policy=policy)).request
    assert (request.timeout_s, request.ttl_s, request.is_low_priority, request.kept_s) == (5, 20, True, 1800)
    assert (request.is_detached, request.keeps_log, request.is_repeatable) == (True, True, True)
    request = job_of(client, run(client, operation="runsync")).request
    assert (request.timeout_s, request.ttl_s, request.is_low_priority, request.kept_s) == (600, 86_400, False, 60)


def test_a_deployment_that_says_how_long_jobs_are_kept_is_heard() -> None:
    with serving(Shop, job_ttl_s=5) as client:
        assert job_of(client, run(client)).request.kept_s is None


def test_a_key_joins_the_job_that_it_began(client: TestClient) -> None:
    headers = {"Idempotency-Key": "k"}
    told = [client.post("/v2/shop/run", json={"input": {}}, headers=headers).json()]
    finished(client, told[0])
    told.append(client.post("/v2/shop/run", json={"input": {}}, headers=headers).json())
    assert told[1] == {"id": told[0]["id"], "status": "IN_QUEUE"}


def test_a_full_queue_is_429(client: TestClient) -> None:
    answers = [client.post("/v2/shop--wait/run", json={"input": {}}) for _ in range(4)]
    assert answers[-1].status_code == 429
    assert int(answers[-1].headers["retry-after"]) > 0


# Ask about jobs


@pytest.mark.parametrize("operation", ["status", "STATUS", "status-sync", "stream", "Stream"])
def test_get_and_post_and_a_slash_at_the_end_are_all_the_same(client: TestClient, operation: str) -> None:
    job = run(client, operation="runsync")
    path = f"/v2/shop/{operation}/{job['id']}"
    answers = [client.get(path), client.post(path), client.get(f"{path}/?wait=0"), client.post(path, json={})]
    assert {answer.status_code for answer in answers} == {200}
    assert "status" in answers[3].json()


@pytest.mark.parametrize("path", ["run", "runsync", "purge-queue", f"cancel/{ID}", f"retry/{ID}"])
def test_what_changes_something_is_not_done_by_a_link(client: TestClient, path: str) -> None:
    answer = client.get(f"/v2/shop/{path}")
    assert (answer.status_code, answer.headers["allow"]) == (405, "POST")
    assert answer.json()["detail"] == f"GET is not served at /v2/shop/{path}; use POST"


@pytest.mark.parametrize("path", ["shop/status/nope", f"shop/status/{ID}", f"shop/stream/{ID}-u1"])
def test_a_job_that_is_not_here_is_404(client: TestClient, path: str) -> None:
    answer = client.get(f"/v2/{path}")
    assert (answer.status_code, answer.json()["error_type"]) == (404, "job_not_found")


def test_a_job_is_its_endpoints_alone(client: TestClient) -> None:
    job = run(client)
    for operation in ("status", "status-sync", "stream", "cancel", "retry"):
        answer = client.post(f"/v2/shop--wait/{operation}/{job['id']}")
        assert (answer.status_code, "not one of this endpoint's" in answer.text) == (404, True)
    assert ask_about(client, job, endpoint="shop--stream")["id"] == job["id"]


def test_a_job_is_its_callers_alone() -> None:
    class Named:
        """Name the caller by a header."""

        def __init__(self, app: Any) -> None:
            self.app = app

        async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
            who = dict(scope.get("headers", ())).get(b"x-who", b"").decode()
            await self.app({**scope, CALLER: who}, receive, send)

    shop = Shop()
    app = streamapp.compile_app(shop, settings=Settings(drain_s=0))
    app.add_middleware(Named)
    with TestClient(app) as client:
        job, other = [client.post("/v2/shop--wait/run", json={"input": {}}, headers={"X-Who": w}).json() for w in "ab"]
        assert [client.get(f"/v2/shop--wait/status/{job['id']}", headers={"X-Who": w}).status_code for w in "ab"] == [
            200,
            404,
        ]
        removed = client.post("/v2/shop--wait/purge-queue", headers={"X-Who": "b"}).json()["removed"]
        assert removed in (0, 1)  # the first of the two runs by now, or will
        assert client.get(f"/v2/shop--wait/status/{job['id']}", headers={"X-Who": "a"}).json()["status"] != "CANCELLED"
        assert other["id"] != job["id"]
        shop.gate.release(2)


@pytest.mark.parametrize("wait", ["", "x", "-1", "1.5", "1e3", "9" * 10])
@pytest.mark.parametrize("operation", ["stream", "status-sync"])
def test_a_wait_that_is_no_time_is_refused(client: TestClient, operation: str, wait: str) -> None:
    answer = client.get(f"/v2/shop/{operation}/{run(client)['id']}?wait={wait}")
    assert (answer.status_code, answer.json()["detail"][:27]) == (400, "wait: expected milliseconds")


def test_a_bad_cursor_is_refused(client: TestClient) -> None:
    assert client.get(f"/v2/shop/stream/{run(client)['id']}?cursor=9.9").status_code == 400


def test_a_job_is_cancelled(client: TestClient, shop: Shop) -> None:
    job = run(client, "shop--wait")
    assert ask_about(client, job, "cancel", "shop--wait")["status"] == "CANCELLED"
    shop.gate.release()
    assert ask_about(client, job, "cancel", "shop--wait")["status"] == "CANCELLED"
    done = run(client, operation="runsync")
    assert ask_about(client, done, "cancel")["status"] == "COMPLETED"


def test_a_poll_of_a_job_that_nobody_began_here_is_answered(client: TestClient) -> None:
    client.post("/shop/stream", json={"n": 1})
    job_id = next(iter(runtime_of(client).jobs._kept))
    assert client.get(f"/v2/shop/stream/{job_id}").json()["stream"] == [{"output": {"i": 0}}]


# Retry, purge, health


def test_a_handler_has_the_id_that_its_caller_has() -> None:
    def handler(job: dict[str, Any]) -> Any:
        return {"error": job["id"]} if job["input"] else job["id"]

    with serving(handler_app({"handler": handler}, name="ids")()) as client:
        awaited = run(client, "ids", operation="runsync")
        assert awaited["output"] == awaited["id"]
        job = run(client, "ids")
        assert finished(client, job, "ids")["output"] == job["id"]
        failed = run(client, "ids", operation="runsync", input=1)
        ask_about(client, failed, "retry", "ids")
        assert finished(client, failed, "ids")["error"] == failed["id"] == failed["error"]
        own = client.post("/stream", json={}, headers={"Accept": "text/event-stream"})
        assert f'"{own.headers["x-streamapp-job-id"]}"' in own.text


def test_a_failed_job_is_retried_under_its_id(client: TestClient) -> None:
    job = run(client, "shop--fail", operation="runsync", input={"text": "x" * 2000}, policy={"ttl": 20_000})
    first = job_of(client, job)
    assert job["status"] == "FAILED"
    assert ask_about(client, job, "retry", "shop--fail") == {"id": job["id"], "status": "IN_QUEUE"}
    told = finished(client, job, "shop--fail")
    second = job_of(client, job)
    assert (told["retries"], second is first, second.id, second.attempt) == (1, False, first.id, 2)
    assert (second.request.ttl_s, second.request.kept_s) == (20, 60)
    assert client.get("/v2/shop--fail/health").json()["jobs"] == {
        **{"completed": 0, "failed": 2, "inProgress": 0, "inQueue": 0, "retried": 1}
    }


def test_a_retried_job_has_the_headers_that_it_came_with(client: TestClient) -> None:
    headers = {"X-Mark": "m" * 2000, "Idempotency-Key": "k"}
    job = client.post("/v2/shop--told/runsync", json={"input": {}}, headers=headers).json()
    assert job["error"].split() == ["m" * 2000, job_of(client, job).id]
    client.post(f"/v2/shop--told/retry/{job['id']}", headers={"X-Mark": "another", "Idempotency-Key": "l"})
    told = finished(client, job, "shop--told")
    assert (told["error"], told["retries"]) == (job["error"], 1)
    joined = client.post("/v2/shop--told/run", json={"input": {}}, headers=headers).json()
    assert joined == {"id": joined["id"], "status": "IN_QUEUE"}
    assert job["id"] == f"sync-{joined['id']}"


def test_a_retried_job_streams_anew(client: TestClient) -> None:
    job = run(client, "shop--fail", operation="runsync")
    assert ask_about(client, job, "stream", "shop--fail")["status"] == "FAILED"
    ask_about(client, job, "retry", "shop--fail")
    finished(client, job, "shop--fail")
    events = client.get(f"/jobs/{job_of(client, job).id}/events?_events=all").text
    assert "event: restarted" in events
    assert ":2.1\n" in events


@pytest.mark.parametrize("endpoint", ["shop", "shop--wait"])
def test_only_what_has_failed_is_retried(client: TestClient, endpoint: str) -> None:
    job = run(client, endpoint)
    if endpoint == "shop":
        finished(client, job)
    answer = client.post(f"/v2/{endpoint}/retry/{job['id']}")
    assert (answer.status_code, "FAILED or TIMED_OUT can be retried" in answer.text) == (400, True)


@pytest.mark.parametrize("endpoint", ["shop--head", "shop--query"])
def test_what_came_with_more_than_is_kept_is_not_retried(client: TestClient, endpoint: str) -> None:
    job = run(client, endpoint, operation="runsync")
    answer = client.post(f"/v2/{endpoint}/retry/{job['id']}")
    assert (answer.status_code, "what it came with is not kept whole" in answer.text) == (400, True)


def test_a_job_whose_retry_is_refused_stays_as_it_was(client: TestClient) -> None:
    job = run(client, "shop--fail", operation="runsync")
    drain(client)
    assert client.post(f"/v2/shop--fail/retry/{job['id']}").status_code == 503
    assert ask_about(client, job, endpoint="shop--fail") == job


def test_a_purge_cancels_what_waits_at_this_endpoint(client: TestClient, shop: Shop) -> None:
    running = run(client, "shop--wait")
    until(lambda: job_of(client, running).status == "running")
    waiting, other = run(client, "shop--wait"), run(client)
    assert client.post("/v2/shop--wait/purge-queue").json() == {"removed": 1, "status": "completed"}
    assert ask_about(client, waiting, endpoint="shop--wait")["status"] == "CANCELLED"
    shop.gate.release()
    assert finished(client, running, "shop--wait")["status"] == "COMPLETED"
    assert finished(client, other)["status"] == "COMPLETED"


def test_health_counts_the_jobs_of_the_endpoint_and_its_worker(client: TestClient, shop: Shop) -> None:
    running = run(client, "shop--wait")
    until(lambda: job_of(client, running).status == "running")
    run(client, "shop--wait")
    told = client.get("/v2/shop--wait/health").json()
    assert told["jobs"] == {"completed": 0, "failed": 0, "inProgress": 1, "inQueue": 1, "retried": 0}
    nobody = {"idle": 0, "running": 0, "initializing": 0, "throttled": 0, "unhealthy": 0, "ready": 0}
    assert told["workers"] == {**nobody, "running": 1, "ready": 1}
    assert client.post("/v2/shop--slow/health").json()["workers"] == {**nobody, "idle": 1, "ready": 1}


@pytest.mark.parametrize(
    ("state", "counts"),
    [
        ("starting", WorkerCounts(initializing=1)),
        ("stuck", WorkerCounts(unhealthy=1)),
        ("draining", WorkerCounts(idle=1)),
    ],
)
def test_a_worker_is_counted_by_its_state(
    client: TestClient, monkeypatch: pytest.MonkeyPatch, state: str, counts: WorkerCounts
) -> None:
    worker = runtime_of(client).served[0].workers.sync
    monkeypatch.setattr(type(worker), "state", property(lambda worker: state))
    assert api._counts_of(worker) == counts
    monkeypatch.undo()


def test_workers_elsewhere_are_counted_one_by_one() -> None:
    with serving(pool_app("gpu"), worker_secret="s3cret") as client:
        pool = runtime_of(client).served[0].workers.sync
        assert isinstance(pool, Pool)
        with pool.visit("a"), pool.visit("b"):
            told = client.get("/v2/gpu/health").json()["workers"]
    assert (told["idle"], told["running"], told["ready"]) == (2, 0, 2)


def test_a_job_that_runs_elsewhere_names_the_worker_that_has_it() -> None:
    with serving(pool_app("gpu"), worker_secret="s3cret") as client:
        job = client.post("/v2/gpu/run", json={"input": {}}).json()
        client.get("/v2/gpu/job-take/pod-7", headers={"Authorization": "s3cret"})
        assert client.get(f"/v2/gpu/status/{job['id']}").json()["workerId"] == "pod-7"


# Paths that are not Runpod's


def test_an_endpoint_that_is_not_served_is_404_and_says_which_are(client: TestClient) -> None:
    answer = client.post("/v2/nope/run", json={"input": {}})
    assert (answer.status_code, answer.json()["error_type"]) == (404, "not_found")
    assert "no endpoint has the id 'nope'; these are served: shop, shop--stream, shop--, " in answer.text


def test_an_app_of_sessions_alone_says_that_no_endpoint_is_served() -> None:
    class Live(streamapp.App):
        @streamapp.realtime("/live")
        def live(self, x: int) -> int:
            return x

    with serving(Live) as client:
        assert "these are served: none" in client.post("/v2/live/run", json={"input": {}}).text


@pytest.mark.parametrize("path", ["/v2/shop/runs", "/v2/shop/run/more", "/v2/shop/status", "/v2/shop", "/v2//run"])
def test_what_is_no_operation_is_not_served(client: TestClient, path: str) -> None:
    assert f"nothing is served at GET {path}" in client.get(path).text


def test_an_app_may_have_paths_of_its_own_there() -> None:
    class Versioned(streamapp.App, name="mine"):
        @streamapp.endpoint("/v2/other/run")
        def other(self) -> str:
            return "its own"

    with serving(Versioned) as client:
        assert client.post("/v2/other/run").json() == "its own"
        assert run(client, "mine", operation="runsync")["output"] == "its own"
        assert client.post("/v2/nope/run").status_code == 404


def test_below_a_root_path_all_is_the_same() -> None:
    with serving(Shop, root_path="/below") as client:
        job = client.post("/below/v2/shop/runsync", json={"input": {}}).json()
        assert job["output"] == {"i": 1}


def test_the_deployments_own_ids_have_its_bounds() -> None:
    with serving(Shop) as client:
        state = client.app.state  # type: ignore[attr-defined]
        place = places_of(runtime_of(client), {})["shop"]
        state.runpod_places = {"mine": Place(place.served, place.spec, Endpoint(execution_timeout_s=60, ttl_s=120))}
        request = job_of(client, run(client, "mine")).request
        assert (request.timeout_s, request.ttl_s) == (60, 120)
        assert client.post("/v2/shop/run").status_code == 404


def test_the_key_is_asked_for_in_both_forms() -> None:
    with serving(Shop, api_key="secret") as client:
        answers = [
            client.post("/v2/shop/run", json={"input": {}}, headers={"Authorization": key})
            for key in ("Bearer secret", "secret", "Bearer wrong", "")
        ]
    assert [answer.status_code for answer in answers] == [200, 200, 401, 401]


def test_a_body_over_the_servers_own_limit_is_413() -> None:
    with serving(Shop, max_body_bytes=100) as client:
        for path in ("run", f"stream/{run(client)['id']}"):
            assert client.post(f"/v2/shop/{path}", content=iter([b"x" * 101])).status_code == 413


# Clients that leave


async def test_a_client_that_leaves_while_it_sends_is_not_answered(client: TestClient) -> None:
    paths = RunpodPaths(client.app, runtime_of(client))
    sent: list[Message] = []

    async def leave() -> Message:
        return {"type": "http.disconnect"}

    async def send(message: Message) -> None:
        sent.append(message)

    scope = {"type": "http", "method": "POST", "path": "/v2/shop/run", "query_string": b"", "headers": []}
    await paths({**scope, "app": client.app}, leave, send)
    assert sent == []


async def test_other_kinds_of_connections_are_passed_on(client: TestClient) -> None:
    kinds: list[str] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        kinds.append(scope["type"])

    await ask(RunpodPaths(app, runtime_of(client)), "/v2/shop/run", kind="websocket")
    assert kinds == ["websocket"]


async def test_a_client_that_leaves_a_runsync_leaves_the_job_alone(client: TestClient, shop: Shop) -> None:
    job = run(client, "shop--wait")
    place = places_of(runtime_of(client), {})["shop--wait"]
    response = api._WaitingResponse(place, job_of(client, job), job["id"], WAIT_S)
    messages: list[Message] = [{"type": "http.request", "body": b""}, {"type": "http.disconnect"}]

    async def receive() -> Message:
        return messages.pop(0)

    async def send(message: Message) -> None:
        raise AssertionError

    await response({"type": "http"}, receive, send)
    assert not job_of(client, job).is_over
    assert [callback.__name__ for callback in job_of(client, job).on_ended].count("end") == 0
    shop.gate.release()
    assert finished(client, job, "shop--wait")["status"] == "COMPLETED"


def test_answers_are_compact_json_that_is_not_to_be_stored(client: TestClient) -> None:
    answer = client.get(f"/v2/shop/status/{run(client, operation='runsync')['id']}")
    assert (answer.headers["content-type"], answer.headers["cache-control"]) == ("application/json", "no-store")
    assert json.dumps(answer.json(), separators=(",", ":")) == answer.text


def test_a_large_result_comes_whole() -> None:
    def handler(job: dict[str, Any]) -> Iterator[str]:
        yield from ["a" * 700_000, "b", "c" * 700_000, *"defg"]

    app = handler_app({"handler": handler, "return_aggregate_stream": True}, name="large")
    with serving(app) as client:
        answer = client.post("/v2/large/runsync", json={"input": {}})
        assert answer.json()["output"] == ["a" * 700_000, "b", "c" * 700_000, *"defg"]
        assert answer.headers["content-length"] == str(len(answer.content))
        assert answer.headers["content-type"] == "application/json"
        assert client.get(f"/v2/large/status/{answer.json()['id']}").json() == answer.json()


def large(*pieces: bytes) -> Response:
    return api._LargeResponse(pieces, {}, send_timeout_s=WAIT_S)


async def test_a_large_answer_is_written_in_parts_that_a_slow_client_takes_in_time() -> None:
    client, pieces = Client(), (b"a", b"b" * 150_000, b"c", b"d" * 65_536, b"e")
    await client.call(large(*pieces))
    assert [len(message["body"]) for message in client.sent[1:]] == [1, 65536, 65536, 18928, 1, 65536, 1, 0]
    assert client.body == b"".join(pieces).decode()


@pytest.mark.parametrize("error", [OSError, TimeoutError])
async def test_who_does_not_read_a_large_answer_is_cut_off(error: type[OSError]) -> None:
    client = Client()
    client.raises = error
    await client.call(large(b"a"))
    assert client.ended_by == ["abort"]


async def test_who_leaves_a_large_answer_gets_no_more_of_it() -> None:
    client = Client()
    client.is_stuck_at = "http.response.body"
    sending = client.call(large(b"a" * 65_537, b"b" * 65_537))
    await client.until(messages=2)
    client.leave()
    await asyncio.sleep(0.01)
    client.read_on()
    await sending
    assert "b" not in client.body


# What the document says


def told_ids(**named: Endpoint) -> dict[str, str]:
    """Return the ids that the OpenAPI document says, by the endpoints' paths."""
    paths = streamapp.compile_app(Shop, endpoints=named).openapi()["paths"]
    clients = {path: item["post"].get("x-streamapp-clients", {}) for path, item in paths.items() if "post" in item}
    return {path: told["runpod"]["endpoint_id"] for path, told in clients.items() if "runpod" in told}


def test_the_document_says_the_id_of_each_endpoint_that_these_clients_can_ask_for() -> None:
    ids = told_ids()
    assert (ids["/stream"], ids["/wait"]) == ("shop", "shop--wait")
    assert "/query" not in ids  # none of them sends a query


def test_the_document_says_the_id_that_the_deployment_names() -> None:
    assert told_ids(mine=Endpoint(app="shop"))["/stream"] == "mine"
