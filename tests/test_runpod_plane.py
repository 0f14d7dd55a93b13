"""Workers elsewhere fetch jobs over HTTP, and nobody else does: the paths that Runpod's worker asks."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from pydantic import SecretStr
from tests.asgi_client import Client
from tests.at_work import new
from tests.waiting import WAIT_S, until

import streamapp
from streamapp.errors import DefinitionError
from streamapp.runpod.plane import OWN_GUARD
from streamapp.runpod.pool import Pool, pool_app
from streamapp.serve.build import compile_app
from streamapp.settings import Settings
from streamapp.testing import TestClient

Advance = Callable[[float], None]
SECRET = {"Authorization": "s3cret"}
ASYNC = {"Prefer": "respond-async"}


@pytest.fixture(autouse=True)
def refusals_are_told_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("streamapp.runpod.plane._REFUSED_S", 0)


class Served:
    """A server with a pool, its callers, and a worker elsewhere."""

    def __init__(self, client: TestClient, asks: ThreadPoolExecutor) -> None:
        self.client = client
        self.asks = asks
        pool = client._api.state.runtime.served[0].workers.sync
        assert isinstance(pool, Pool)
        self.pool = pool

    def submit(self, input: Any = None, **headers: str) -> str:
        answer = self.client.post("/stream", json=input or {"n": 3}, headers={**ASYNC, **headers})
        assert answer.status_code == 202, answer.text
        return str(answer.headers["x-streamapp-job-id"])

    def ask(self, path: str, **options: Any) -> httpx.Response:
        return self.client.get(f"/v2/ep/{path}", **{"headers": SECRET, **options})

    def take(self, worker: str = "a", query: str = "gpu=x&job_in_progress=0") -> httpx.Response:
        return self.ask(f"job-take/{worker}?{query}")

    def post(self, path: str, body: Any, **options: Any) -> httpx.Response:
        headers = {**SECRET, "Content-Type": "application/x-www-form-urlencoded", "X-Request-ID": "of the job"}
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        return self.client.post(f"/v2/ep/{path}?gpu=x&isStream=false", content=content, headers=headers, **options)

    def stream(self, job_id: str, value: Any, worker: str = "a") -> httpx.Response:
        return self.post(f"job-stream/{worker}/{job_id}", {"output": value})

    def events(self, job_id: str) -> list[tuple[str, Any]]:
        return [(event.kind, event.json()) for event in self.client.job(job_id).channel.events()]


@contextmanager
def serving(**settings: Any) -> Iterator[Served]:
    chosen = Settings(**{"drain_s": 0, "worker_secret": SecretStr("s3cret"), "api_key": None, **settings})
    with ThreadPoolExecutor(8) as asks, TestClient(pool_app("ep"), settings=chosen) as client:
        yield Served(client, asks)


def outputs(events: list[tuple[str, Any]]) -> list[Any]:
    return [data for kind, data in events if kind == "output"]


# What a worker gets


def test_a_worker_gets_a_job_as_it_came_and_what_it_sends_are_its_outputs() -> None:
    with serving() as served:
        job_id = served.submit({"prompt": "é", "n": [1, None]}, **{"X-Tenant": "ann"})
        answer = served.take()
        assert (answer.status_code, answer.headers["content-type"]) == (200, "application/json")
        assert answer.headers["connection"] == "close"
        assert answer.json() == {"id": job_id, "input": {"prompt": "é", "n": [1, None]}}
        for n in range(2):
            assert served.stream(job_id, {"n": n}).status_code == 200
        done = f"/v2/ep/job-done/a/{job_id}?gpu=x&isStream=true"
        assert served.client.post(done, json={"output": []}, headers=SECRET).status_code == 200
        assert outputs(served.events(job_id)) == [{"n": 0}, {"n": 1}]
        assert served.client.get(f"/jobs/{job_id}/result").json() == {"n": 1}


def test_a_list_of_all_outputs_makes_whole_what_was_lost_on_the_way() -> None:
    with serving() as served:
        job_id = served.submit()
        served.take()
        served.stream(job_id, {"n": 0})
        done = f"/v2/ep/job-done/a/{job_id}?gpu=x&isStream=true"
        served.client.post(done, json={"output": [{"n": 0}, {"n": 1}]}, headers=SECRET)
        assert outputs(served.events(job_id)) == [{"n": 0}, {"n": 1}]


@pytest.mark.parametrize("operation", ["job-stream", "job-done"])
@pytest.mark.parametrize("body", [b"", b"{", b"[1]", b'"done"', b'{"output": ' + b"[" * 999 + b"]" * 999 + b"}"])
def test_what_cannot_be_read_fails_the_job_as_the_worker_does_not_send_it_again(operation: str, body: bytes) -> None:
    with serving() as served:
        job_id = served.submit()
        served.take()
        assert served.post(f"{operation}/a/{job_id}", body).status_code == 400
        error = served.client.job(job_id).error
        assert error and error.message.startswith("what its worker sent is not taken: expected a JSON object")


def test_a_worker_knows_a_job_by_the_id_that_its_caller_has() -> None:
    with serving() as served:
        job_id = served.client.post("/v2/ep/run", json={"input": {"n": 1}}).json()["id"]
        assert served.take().json() == {"id": job_id, "input": {"n": 1}}
        served.stream(job_id, "an item")
        served.client.post(f"/v2/ep/cancel/{job_id}")
        assert served.ask("job-stop/a").json() == {"jobsToStop": [job_id]}
        assert served.client.get(f"/v2/ep/stream/{job_id}").json()["stream"] == [{"output": "an item"}]


def test_who_asks_for_several_gets_a_list() -> None:
    with serving() as served:
        jobs = [served.submit() for _ in range(3)]
        answer = served.ask("job-take-batch/a?gpu=x&batch_size=2&job_in_progress=0")
        assert [job["id"] for job in answer.json()] == jobs[:2]


def test_a_job_without_input_has_an_empty_one() -> None:
    with serving() as served:
        served.client.post("/stream", headers=ASYNC)
        assert served.take().json()["input"] == {}


def test_a_worker_that_waits_gets_a_job_when_it_comes() -> None:
    with serving() as served:
        waiting = served.asks.submit(served.take)
        until(lambda: bool(served.pool._takes))
        job_id = served.submit()
        assert waiting.result(WAIT_S).json()["id"] == job_id


def test_where_there_is_no_job_a_worker_hears_so_after_a_while(advance: Advance) -> None:
    with serving() as served:
        waiting = served.asks.submit(served.take)
        until(lambda: bool(served.pool._takes))
        advance(30)
        served.client.get("/health")
        answer = waiting.result(WAIT_S)
        assert (answer.status_code, answer.content) == (204, b"")


@asynccontextmanager
async def running() -> AsyncIterator[tuple[FastAPI, Pool]]:
    """Serve on the test's own loop, where requests can be left."""
    api = compile_app(pool_app("ep"), settings=Settings(drain_s=0, worker_secret=SecretStr("s3cret"), api_key=None))
    async with api.router.lifespan_context(api):
        pool = api.state.runtime.served[0].workers.sync
        assert isinstance(pool, Pool)
        yield api, pool


class Asking(Client):
    """A request of a worker's, which it can leave."""

    def __init__(self, api: FastAPI, path: str, *, method: str = "GET", body: bytes = b"") -> None:
        super().__init__()
        path, _, query = path.partition("?")
        asked = {"method": method, "path": f"/v2/ep/{path}", "query_string": query.encode(), "root_path": ""}
        self.scope.update(asked, headers=[(b"authorization", b"s3cret")], client=("127.0.0.1", 9), http_version="1.1")
        self.scope.update(scheme="http", server=("127.0.0.1", 80), state={})
        self.messages = [{"type": "http.request", "body": body}]
        self.task = asyncio.create_task(api(self.scope, self.receive, self.send))

    async def gone(self) -> None:
        self.leave()
        await asyncio.wait_for(self.task, WAIT_S)


async def turned() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


async def test_who_leaves_while_it_waits_gets_no_job() -> None:
    async with running() as (api, pool):
        gone = Asking(api, "job-take/a?gpu=x")
        await turned()
        await gone.gone()
        job = new()
        pool.submit(job)
        assert (gone.sent, pool.position(job), pool.statistics().queued) == ([], 0, 1)
        await Asking(api, "job-take/b?gpu=x").task
        assert job.status == "running"


@pytest.mark.parametrize("ends", ["by its client", "by the server"])
async def test_a_job_whose_answer_was_not_sent_goes_back(ends: str) -> None:
    async with running() as (api, pool):
        asking = Asking(api, "job-take/a?gpu=x")
        await turned()
        job = new()
        pool.submit(job)  # it has the job, and leaves before it is woken
        if ends == "by its client":
            await asking.gone()
        else:
            asking.task.cancel()
            await asyncio.wait({asking.task})
        assert (job.status, job.attempt, pool.statistics().queued) == ("queued", 1, 1)


async def test_who_asks_which_jobs_to_stop_gets_blanks_until_there_is_one(advance: Advance) -> None:
    async with running() as (api, pool):
        asking, waiting = Asking(api, "job-stop/a?gpu=x"), Asking(api, "job-take/a?gpu=x")
        await turned()
        advance(11)
        await turned()
        assert (asking.status, asking.body) == (200, " ")
        pool._pods["a"].stop("f" * 32)
        await asyncio.wait_for(asking.task, WAIT_S)
        assert json.loads(asking.body) == {"jobsToStop": ["f" * 32]}
        assert asking.is_complete
        await waiting.gone()


async def test_who_leaves_its_question_which_to_stop_and_asks_no_more_is_lost(advance: Advance) -> None:
    async with running() as (api, pool):
        job = new()
        pool.submit(job)
        asking = Asking(api, "job-stop/a?gpu=x")
        await Asking(api, "job-take/a?gpu=x").task
        await asking.gone()
        advance(10)
        await turned()
        assert (job.status, job.attempt) == ("queued", 2)


async def test_a_request_that_was_under_way_when_its_worker_was_killed_is_no_sign_of_life(advance: Advance) -> None:
    async with running() as (api, pool):
        job = new()
        pool.submit(job)
        asking = Asking(api, "job-stop/a?gpu=x")
        await turned()
        await asking.gone()
        await Asking(api, "job-take/a?gpu=x").task
        advance(10)
        await turned()
        assert (job.status, job.attempt) == ("queued", 2)


async def test_an_output_that_its_worker_stopped_sending_comes_once_when_it_is_sent_again() -> None:
    async with running() as (api, pool):
        job = new(settings=Settings(ahead_events=1), is_detached=False)
        reader = job.attach(takes_over=True)
        pool.submit(job)
        await Asking(api, "job-take/a?gpu=x").task
        posts = [Asking(api, f"job-stream/a/{job.id}", method="POST", body=b'{"output":%d}' % n) for n in range(2)]
        await turned()
        await posts[1].gone()
        again = Asking(api, f"job-stream/a/{job.id}", method="POST", body=b'{"output":1}')
        await turned()
        assert (posts[0].status, again.task.done()) == (200, False)
        reader.take()
        await asyncio.wait_for(again.task, WAIT_S)
        assert [event.json() for event in job.channel.events() if event.kind == "output"] == [0, 1]


async def test_workers_may_be_the_first_to_ask_where_the_app_is_mounted() -> None:
    api = compile_app(pool_app("ep"), settings=Settings(drain_s=0, worker_secret=SecretStr("s3cret"), api_key=None))
    asking = Asking(api, "job-take/a?gpu=x")
    await turned()
    await asking.gone()
    runtime = api.state.runtime
    assert runtime.readiness().is_ready
    await runtime.drain()
    await runtime.stop()


async def test_in_a_drain_workers_are_asked_to_come_back_later() -> None:
    async with running() as (api, pool):
        waiting = Asking(api, "job-take/a?gpu=x")
        await turned()
        pool.begin_drain()
        await asyncio.wait_for(waiting.task, WAIT_S)
        assert (waiting.status, waiting.headers["retry-after"]) == (429, "5")


def test_a_progress_is_told_and_dropped_after_the_end() -> None:
    with serving() as served:
        job_id = served.submit()
        served.take()
        path, told = f"job-done/a/{job_id}", {"status": "IN_PROGRESS", "output": "half"}
        assert served.post(path, told).status_code == 200
        assert served.events(job_id)[-1] == ("progress", {"message": "half", "output": "half"})
        assert served.post(path, {"output": 7}).status_code == 200
        assert served.post(path, told).status_code == 200
        assert served.post(path, {"error": "late"}).status_code == 200
        assert [kind for kind, _ in served.events(job_id)] == ["started", "progress", "output", "done"]
        assert served.client.get(f"/jobs/{job_id}/result").json() == 7


def test_what_a_handler_raised_is_told_without_its_traceback() -> None:
    with serving() as served:
        job_id = served.submit()
        served.take()
        error = {"error_type": "<class 'ValueError'>", "error_message": "no such seed", "error_traceback": "/app"}
        served.post(f"job-done/a/{job_id}", {"error": json.dumps(error)})
        told = served.client.get(f"/jobs/{job_id}").json()["error"]
        assert (told["message"], "/app" in json.dumps(served.events(job_id))) == (
            "endpoint /ep/stream failed with ValueError: no such seed",
            False,
        )


def test_no_connection_is_left_that_a_blocked_worker_would_use_when_it_is_closed_here() -> None:
    with serving() as served:
        job_id = served.submit()
        answers = [served.take(), served.stream(job_id, 1), served.ask("ping/a?gpu=x")]
        answers.append(served.post(f"job-done/a/{job_id}", {"output": 1}))
        assert [answer.headers["connection"] for answer in answers] == ["close"] * 4


def test_an_output_of_megabytes_comes_whole() -> None:
    with serving() as served:
        job_id = served.submit()
        served.take()
        assert served.stream(job_id, "x" * 2_000_000).status_code == 200
        assert served.events(job_id)[-1] == ("output", "x" * 2_000_000)


def test_pings_say_which_jobs_a_worker_has() -> None:
    with serving() as served:
        job_id = served.submit()
        served.take()
        lease = served.pool._pods["a"].leases[job_id]
        for query in ("", "job_id=", f"job_id={'0' * 32}"):
            assert served.ask(f"ping/a?gpu=x&{query}").status_code == 204
        assert lease.named_at == lease.given_at
        served.ask(f"ping/a?gpu=x&job_id={'0' * 32},{job_id}&runpod_version=1.12.0")
        assert lease.named_at > lease.given_at


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("job-stream/a/{}", b'{"error": "soft"}', 400),
        ("job-stream/a/{}", b"x" * 1001, 413),
        ("job-done/a/{}", b'{"output": "' + b"x" * 1000, 413),
    ],
)
def test_what_no_worker_sends_is_refused_and_changes_nothing(path: str, body: bytes, status: int) -> None:
    with serving(max_body_bytes=1000) as served:
        job_id = served.submit()
        served.take()
        assert served.post(path.format(job_id), body).status_code == status
        assert served.events(job_id) == [("started", {"attempt": 1})]


@pytest.mark.parametrize("size", ["0", "-1", "many", "", "9" * 10])
def test_a_number_of_jobs_that_is_none_is_refused(size: str) -> None:
    with serving() as served:
        answer = served.ask(f"job-take-batch/a?gpu=x&batch_size={size}")
        assert (answer.status_code, "batch_size: expected a number from 1" in answer.text) == (400, True)


def test_a_worker_cannot_send_outputs_of_a_job_that_another_has() -> None:
    with serving() as served:
        job_id = served.submit()
        served.take("a")
        assert served.stream(job_id, "of b", worker="b").status_code == 200
        assert served.post(f"job-done/b/{job_id}", {"output": "of b"}).status_code == 200
        assert served.stream("0" * 32, "of nobody").status_code == 200
        assert served.events(job_id) == [("started", {"attempt": 1})]


# Who is let in

PATHS = ["job-take/a", "job-take-batch/a", "job-stop/a", "ping/a", "job-stream/a/b", "job-done/a/b"]


@pytest.mark.parametrize("told", [None, "the key", "Bearer the key", "Key s3cret", "s3cre", "s3cret2", ""])
def test_without_the_workers_secret_nobody_is_let_in(told: str | None) -> None:
    headers = {} if told is None else {"Authorization": told}
    with serving(api_key=SecretStr("the key")) as served:
        for path in PATHS:
            for method in ("GET", "POST", "PUT", "HEAD"):
                url = f"/v2/ep/{path}?_token=the+key&_token=s3cret"
                assert served.client.http.request(method, url, headers=headers).status_code == 401
        assert not served.pool._pods


@pytest.mark.parametrize("told", ["s3cret", "Bearer s3cret", "bearer s3cret"])
def test_the_secret_comes_as_runpods_worker_or_others_write_it(told: str) -> None:
    with serving(api_key=SecretStr("the key")) as served:
        assert served.ask("ping/a", headers={"Authorization": told}).status_code == 204


@pytest.mark.parametrize(
    "path", ["/stream", "/jobs/x", "/ready", "/metrics", "/v2/ep/ping", "/v2/ep/ping/a/b", "/v2/ep"]
)
def test_the_workers_secret_opens_nothing_else(path: str) -> None:
    with serving(api_key=SecretStr("the key")) as served:
        for told in ("s3cret", "Bearer s3cret", "Key s3cret"):
            assert served.client.post(path, headers={"Authorization": told}).status_code == 401


def test_without_a_secret_the_workers_paths_are_closed() -> None:
    class Here(streamapp.App):
        @streamapp.endpoint("/x")
        def x(self) -> int:
            return 1

    with TestClient(Here, settings=Settings(drain_s=0, worker_secret=None, api_key=None)) as client:
        answer = client.get("/v2/here/job-take/a", headers=SECRET)
        assert (answer.status_code, "STREAMAPP_WORKER_SECRET" in answer.text) == (403, True)


@pytest.mark.parametrize("endpoint_id", ["here", "nothing", "ep--stream"])
def test_only_endpoints_whose_jobs_run_elsewhere_have_jobs_for_workers(endpoint_id: str) -> None:
    class Here(streamapp.App):
        @streamapp.endpoint("/x")
        def x(self) -> int:
            return 1

    settings = Settings(drain_s=0, worker_secret=SecretStr("s3cret"), api_key=None)
    with TestClient(pool_app("ep"), Here, settings=settings) as client:
        answer = client.get(f"/v2/{endpoint_id}/job-take/a", headers=SECRET)
        assert (answer.status_code, f"--runpod {endpoint_id}" in answer.text) == (404, True)


def test_another_method_is_refused() -> None:
    with serving() as served:
        answer = served.ask("job-stream/a/b")
        assert (answer.status_code, answer.headers["allow"]) == (405, "POST")


def test_an_app_that_takes_any_path_gets_no_request_that_has_no_key() -> None:
    class Wide(streamapp.App):
        @streamapp.endpoint("/{a}/{b}/{c}/{d}")
        def four(self, a: str, b: str, c: str, d: str) -> str:
            return "reached"

        @streamapp.endpoint("/{a}/{b}/{c}/{d}/{e}")
        def five(self, a: str, b: str, c: str, d: str, e: str) -> str:
            return "reached"

    settings = Settings(drain_s=0, api_key=SecretStr("the key"), worker_secret=SecretStr("s3cret"))
    with TestClient(Wide, settings=settings) as client:
        assert "reached" in client.post("/a/b/c/d", headers={"Authorization": "Key the key"}).text
        for path in PATHS:
            assert OWN_GUARD.fullmatch(f"/v2/x/{path}")
            for method in ("GET", "POST"):
                assert client.http.request(method, f"/v2/x/{path}").status_code == 401
                assert "reached" not in client.http.request(method, f"/v2/x/{path}", headers=SECRET).text


def test_a_server_whose_jobs_run_elsewhere_needs_a_secret() -> None:
    with pytest.raises(DefinitionError, match="fetch the jobs of ep, .* write STREAMAPP_WORKER_SECRET=<secret>"):
        compile_app(pool_app("ep"), settings=Settings(worker_secret=None, api_key=None))


def test_the_key_of_callers_is_no_secret() -> None:
    settings = Settings(worker_secret=SecretStr("same"), api_key=SecretStr("same"))
    with pytest.raises(DefinitionError, match="STREAMAPP_WORKER_SECRET is the API key"):
        compile_app(pool_app("ep"), settings=settings)
