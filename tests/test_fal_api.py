"""fal's wire protocol in-process, to the byte where its clients look; the stock clients have tests of their own."""

import base64
import json
import re
import sys
import threading
import time
from collections.abc import Callable, Iterator
from functools import cached_property
from typing import Any

import PIL.Image
import pytest
from fastapi import Header
from starlette.requests import Request
from starlette.responses import Response
from starlette.testclient import TestClient
from tests.waiting import WAIT_S

import streamapp
import streamapp.testing
from streamapp.fal import api
from streamapp.http.face import ANSWERS_ONCE, MEDIA, SUBMISSION
from streamapp.jobs.events import Event
from streamapp.settings import Settings

BIG = 1_200_000
SSE = {"Accept": "text/event-stream"}
FAL_CLIENT = "fal-client/1.0.3 (python)"
FAL_JS = "@fal-ai/client/1.10.1"


class Shop(streamapp.App):
    """Endpoints of every kind, one that waits for the test among them."""

    @cached_property
    def gate(self) -> threading.Semaphore:
        return threading.Semaphore(0)

    @cached_property
    def told(self) -> list[Any]:
        return []

    @cached_property
    def is_told(self) -> threading.Event:
        return threading.Event()

    @streamapp.endpoint("/")
    def home(self, prompt: str, response: Response) -> dict[str, Any]:
        response.headers["x-fal-billable-units"] = "3"
        return {"prompt": prompt}

    @streamapp.endpoint("/stream")
    def stream(self, n: int = 2) -> Iterator[dict[str, int]]:
        for i in range(n):
            yield {"i": i}

    @streamapp.endpoint("/wait")
    def wait(self, name: str = "") -> dict[str, Any]:
        sys.stdout.write(f"waiting {name}\n")
        self.gate.acquire()
        streamapp.current_stream().check()
        sys.stdout.write("done\n")
        return {"name": name, "request_id": self.current_request.request_id}  # type: ignore[union-attr]

    @streamapp.endpoint("/wait/cancel")
    def cancel_wait(self, x_fal_request_id: str = Header()) -> None:
        self.told.append((x_fal_request_id, threading.current_thread().name))
        self.gate.release()
        self.is_told.set()

    @streamapp.endpoint("/fail")
    def fail(self) -> None:
        raise ValueError("secret")

    @streamapp.endpoint("/big")
    def big(self) -> dict[str, Any]:
        return {"file": streamapp.File(bytes(BIG), "application/pdf", "a.pdf")}

    @streamapp.endpoint("/size")
    def size(self, image: streamapp.Image) -> dict[str, int]:
        return {"width": image.width}

    @streamapp.endpoint("/asked")
    def asked(self, request: Request) -> dict[str, Any]:
        context = self.current_request
        assert context is not None
        return {
            "id": context.request_id,
            "header": request.headers["x-fal-request-id"],
            "endpoint": context.endpoint,
            "lifecycle": context.lifecycle_preference,
        }


def serving(*apps: Any, **settings: Any) -> TestClient:
    app = streamapp.compile_app(*(apps or (Shop,)), settings=Settings(**{"drain_s": 0, **settings}))
    return TestClient(app, base_url="http://here:1", raise_server_exceptions=False)


def shop(client: TestClient) -> Shop:
    app: Shop = client.app.state.runtime.served[0].app  # type: ignore[attr-defined]
    return app


def submit(client: TestClient, path: str = "/wait", body: Any = None, **headers: str) -> dict[str, Any]:
    answer = client.post(f"/queue/me/shop{path}", json=body or {}, headers=headers)
    assert answer.status_code == 200, answer.text
    submitted: dict[str, Any] = answer.json()
    return submitted


def status(client: TestClient, submitted: dict[str, Any], query: str = "") -> dict[str, Any]:
    told: dict[str, Any] = client.get(submitted["status_url"] + query).json()
    return told


def until(client: TestClient, submitted: dict[str, Any], *states: str) -> dict[str, Any]:
    for _ in range(int(WAIT_S / 0.005)):
        told = status(client, submitted, "?logs=1")
        if told["status"] in states:
            return told
        time.sleep(0.005)
    raise AssertionError(f"the status stayed {told}")


# Calls


@pytest.mark.parametrize("path", ["/run/me/shop", "/run/me/shop/", "/run/any-owner/shop"])
def test_run_answers_as_the_endpoint_does(path: str) -> None:
    with serving() as client:
        answer = client.post(path, json={"prompt": "x"})
    assert (answer.status_code, answer.json()) == (200, {"prompt": "x"})
    assert answer.headers["x-fal-billable-units"] == "3"
    assert re.fullmatch("[0-9a-f]{32}", answer.headers["x-fal-request-id"])


def test_run_streams() -> None:
    with serving() as client:
        answer = client.post("/run/me/shop/stream", json={"n": 2}, headers={"Accept": "application/json"})
    assert answer.headers["content-type"].startswith("text/event-stream")
    assert re.findall("data: (.*)", answer.text) == ['{"i":0}', '{"i":1}']


class Steps(streamapp.App):
    """Streams alone, at other paths than `/`."""

    @streamapp.endpoint("/value")
    def value(self) -> int:
        return 1

    @streamapp.endpoint("/steps/{name}")
    def named(self, name: str) -> Iterator[str]:
        yield name

    @streamapp.endpoint("/stream")
    def stream(self) -> Iterator[dict[str, int]]:
        yield {"i": 0}
        yield {"i": 1}

    @streamapp.endpoint("/draw")
    def draw(self) -> Iterator[dict[str, Any]]:
        yield {"i": 0}
        yield {"image": PIL.Image.new("RGB", (2, 2))}


@pytest.mark.parametrize(
    ("path", "accept", "agent", "kind"),
    [
        # fal_client.stream, run
        ("/run/me/steps/stream", "text/event-stream", FAL_CLIENT, "text/event-stream"),
        ("/run/me/steps/stream", "*/*", FAL_CLIENT, "application/json"),
        ("/run/me/steps", "*/*", FAL_CLIENT, "application/json"),
        ("/run/me/steps/draw", "*/*", FAL_CLIENT, "application/json"),
        # fal-js: stream directly, stream behind its server-proxy, run
        ("/run/me/steps/stream", "application/json, text/event-stream", FAL_JS, "text/event-stream"),
        ("/run/me/steps/stream", "application/json", FAL_JS, "text/event-stream"),
        ("/run/me/steps", "application/json", FAL_JS, "application/json"),
        ("/run/me/steps/draw", "application/json", FAL_JS, "application/json"),
        # curl, requests; EventSource, fetch-event-source
        ("/run/me/steps/stream/", "*/*", "curl/8", "text/event-stream"),
        ("/run/me/steps/draw", "*/*", "curl/8", "application/json"),
        ("/run/me/steps/draw", "text/event-stream", "curl/8", "text/event-stream"),
        ("/stream", "*/*", "curl/8", "text/event-stream"),
        ("/stream", "application/json", "curl/8", "text/event-stream"),
        ("/stream", "*/*", FAL_CLIENT, "application/json"),
        ("/stream", "text/event-stream", FAL_CLIENT, "text/event-stream"),
        ("/draw", "*/*", "curl/8", "text/event-stream"),
        ("/draw", "application/json", "curl/8", "application/json"),
        # what is named exactly is given everywhere
        ("/run/me/steps/stream", "application/x-ndjson", FAL_CLIENT, "application/x-ndjson"),
        ("/run/me/steps/draw", "text/plain", FAL_JS, "text/plain"),
        ("/run/me/steps/draw", "image/png", FAL_CLIENT, "image/png"),
        ("/draw", "image/*", "curl/8", "image/png"),
    ],
)
def test_what_a_client_gets_of_a_stream(path: str, accept: str, agent: str, kind: str) -> None:
    with serving(Steps) as client:
        answer = client.post(path, json={}, headers={"Accept": accept, "User-Agent": agent})
    assert (answer.status_code, answer.headers["content-type"].partition(";")[0]) == (200, kind)


@pytest.mark.parametrize("path", ["/", "/steps", "/run/me/steps", "/run/me/steps/"])
def test_an_app_without_an_endpoint_at_its_root_answers_there_with_its_first_stream(path: str) -> None:
    with serving(Steps) as client:
        answer = client.post(path, json={}, headers={"Accept": "application/json"})
        job = client.get(f"/jobs/{answer.headers['x-streamapp-job-id']}").json()
    assert (answer.json(), job["endpoint"]) == ({"i": 1}, "/steps/stream")


def test_so_does_the_queue() -> None:
    with serving(Steps) as client:
        submitted = client.post("/queue/me/steps", json={}).json()
        assert until(client, submitted, "COMPLETED")
        assert client.get(submitted["response_url"]).json() == {"i": 1}


@pytest.mark.parametrize("path", ["/run/me/other", "/queue/me/other", "/run/me/shop/nothing"])
def test_what_is_not_served_is_a_404_in_fals_shape(path: str) -> None:
    with serving() as client:
        answer = client.post(path, json={})
    assert answer.status_code == 404
    assert f"POST {path}" in answer.json()["detail"]
    assert (answer.headers["X-Fal-Error-Type"], answer.headers["x-fal-billable-units"]) == ("not_found", "0")


def test_an_invalid_input_is_fastapis_list_and_costs_nothing() -> None:
    with serving() as client:
        answer = client.post("/run/me/shop", json={})
    assert (answer.status_code, answer.headers["x-fal-billable-units"]) == (422, "0")
    assert [(e["type"], e["loc"]) for e in answer.json()["detail"]] == [("missing", ["body", "prompt"])]


def test_the_app_knows_the_request_that_it_answers() -> None:
    preference = json.dumps({"expiration_duration_seconds": 60})
    with serving() as client:
        headers = {"X-Fal-Object-Lifecycle-Preference": preference, "x-fal-request-id": "forged"}
        answer = client.post("/run/me/shop/asked", json={}, headers=headers)
    request_id = answer.headers["x-fal-request-id"]
    lifecycle = {"expiration_duration_seconds": 60}
    assert answer.json() == {"id": request_id, "header": request_id, "endpoint": "/asked", "lifecycle": lifecycle}


# The queue


def test_a_submitted_request_says_where_to_ask_for_it() -> None:
    with serving() as client:
        submitted = submit(client)
        shop(client).gate.release()
    url = f"http://here:1/queue/me/shop/requests/{submitted['request_id']}"
    assert submitted == {
        "status": "IN_QUEUE",
        "request_id": submitted["request_id"],
        "response_url": url,
        "status_url": f"{url}/status",
        "cancel_url": f"{url}/cancel",
        "queue_position": 0,
        "logs": None,
        "metrics": {},
    }


def test_the_urls_of_a_request_can_be_asked_for_whatever_the_owner_is_called() -> None:
    with serving() as client:
        submitted = client.post("/queue/my%20team%3F/shop", json={"prompt": "x"}).json()
        assert "/queue/my%20team%3F/shop/requests/" in submitted["status_url"]
        until(client, submitted, "COMPLETED")


def test_the_status_goes_from_queued_over_running_to_completed() -> None:
    with serving() as client:
        first, second = submit(client), submit(client, body={"name": "b"})
        until(client, first, "IN_PROGRESS")
        third = submit(client)
        answer = client.get(third["status_url"])
        assert (answer.status_code, answer.json()["status"], answer.json()["queue_position"]) == (202, "IN_QUEUE", 1)
        assert client.get(first["status_url"]).status_code == 202
        shop(client).gate.release(3)
        told = until(client, second, "COMPLETED")
        assert client.get(second["status_url"]).status_code == 200
        assert told["metrics"]["inference_time"] >= 0
        assert client.get(second["response_url"]).json() == {"name": "b", "request_id": second["request_id"]}


@pytest.mark.parametrize("suffix", ["", "/", "/response", "/response/"])
def test_the_result_is_the_apps_answer_with_its_headers(suffix: str) -> None:
    with serving() as client:
        submitted = submit(client, "/", {"prompt": "x"})
        until(client, submitted, "COMPLETED")
        answer = client.get(submitted["response_url"] + suffix, follow_redirects=False)
    assert (answer.status_code, answer.json()) == (200, {"prompt": "x"})
    assert answer.headers["x-fal-request-id"] == submitted["request_id"]
    assert answer.headers["x-fal-billable-units"] == "3"


def test_a_result_that_is_not_there_yet_is_a_400() -> None:
    with serving() as client:
        submitted = submit(client)
        answer = client.get(submitted["response_url"])
        shop(client).gate.release()
    assert (answer.status_code, answer.json()["detail"]) == (400, "Request is still in progress")


def test_a_failed_request_is_completed_and_its_result_is_the_failure() -> None:
    with serving() as client:
        submitted = submit(client, "/fail")
        told = until(client, submitted, "COMPLETED")
        answer = client.get(submitted["response_url"])
    assert (told["error_type"], answer.status_code) == ("endpoint_failed", 500)
    assert told["error"] == answer.json()["detail"]
    assert "secret" not in answer.text


@pytest.mark.parametrize("logs", ["1", "true", "True"])
def test_polling_tells_all_lines_each_time_when_asked(logs: str) -> None:
    with serving() as client:
        submitted = submit(client, body={"name": "b"})
        shop(client).gate.release()
        until(client, submitted, "COMPLETED")
        for _ in range(2):
            lines = status(client, submitted, f"?logs={logs}")["logs"]
            assert [(line["message"], line["level"], line["source"]) for line in lines] == [
                ("waiting b", "STDOUT", "USER"),
                ("done", "STDOUT", "USER"),
            ]
            assert all(re.match(r"\d{4}-\d\d-\d\dT", line["timestamp"]) for line in lines)
        assert status(client, submitted)["logs"] is None


class Silent(streamapp.App):
    """Wait for the test without a word."""

    @cached_property
    def gate(self) -> threading.Semaphore:
        return threading.Semaphore(0)

    @streamapp.endpoint("/")
    def home(self) -> None:
        self.gate.acquire()


def told_by(lines: Iterator[str]) -> Iterator[str]:
    return (json.loads(line.removeprefix("data: "))["status"] for line in lines if line.startswith("data: "))


def test_the_status_stream_tells_that_a_request_without_events_has_begun(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its log says so: nobody has to look."""
    monkeypatch.setattr(api, "_LOOK_S", 3600.0)
    monkeypatch.setattr(api, "_PING_S", 3600.0)
    with streamapp.testing.TestClient(app := Silent()) as client:
        _, second = (client.http.post("/queue/me/silent", json={}).json()["status_url"] for _ in range(2))
        with client.http.stream("GET", f"{second}/stream") as answer:
            states = told_by(answer.iter_lines())
            assert next(states) == "IN_QUEUE"
            app.gate.release()
            assert next(states) == "IN_PROGRESS"
            app.gate.release()
            assert list(states) == ["COMPLETED"]


def test_the_status_stream_breaks_long_silences_with_a_comment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(api, "_LOOK_S", 0.01)
    monkeypatch.setattr(api, "_PING_S", 0.0)
    with streamapp.testing.TestClient(app := Silent()) as client:
        status_url = client.http.post("/queue/me/silent", json={}).json()["status_url"]
        with client.http.stream("GET", f"{status_url}/stream") as answer:
            assert next(line for line in answer.iter_lines() if line.startswith(":")) == ": ping"
            app.gate.release()


def test_the_time_is_not_negative_in_the_moment_before_the_end_is_noted() -> None:
    with serving() as client:
        before = time.time()
        submitted = submit(client, "/", {"prompt": "x"})
        until(client, submitted, "COMPLETED")
        client.app.state.runtime.jobs._kept[submitted["request_id"]].finished_at = None  # type: ignore[attr-defined]
        told = status(client, submitted)
        assert 0 <= told["metrics"]["inference_time"] <= time.time() - before


@pytest.mark.parametrize("path", ["", "/stream"])
def test_no_line_is_missed_when_a_job_ends_while_its_log_is_read(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    read = api._log_lines

    def read_and_see_the_end(events: list[Event]) -> list[dict[str, Any]]:
        lines = read(events)
        shop(client).gate.release()
        while not job.is_over:
            pass
        return lines

    with serving() as client:
        submitted = submit(client)
        until(client, submitted, "IN_PROGRESS")
        job = client.app.state.runtime.jobs._kept[submitted["request_id"]]  # type: ignore[attr-defined]
        monkeypatch.setattr(api, "_log_lines", read_and_see_the_end)
        answer = client.get(submitted["status_url"] + path + "?logs=1")
    assert '"COMPLETED"' not in answer.text or '"done"' in answer.text


def test_the_status_stream_tells_each_line_once_and_ends_when_completed() -> None:
    with serving() as client:
        submitted = submit(client, body={"name": "b"})
        until(client, submitted, "IN_PROGRESS")
        shop(client).gate.release()
        answer = client.get(submitted["status_url"] + "/stream?logs=1")
    told = [json.loads(data) for data in re.findall("^data: (.*)$", answer.text, re.MULTILINE)]
    assert [line["message"] for status in told for line in status["logs"]] == ["waiting b", "done"]
    assert told[-1]["status"] == "COMPLETED"
    assert answer.headers["content-type"].startswith("text/event-stream")
    assert "event:" not in answer.text


def test_the_status_stream_without_logs_tells_the_states() -> None:
    with serving() as client:
        submitted = submit(client, "/", {"prompt": "x"})
        until(client, submitted, "COMPLETED")
        answer = client.get(submitted["status_url"] + "/stream")
    assert [json.loads(data)["logs"] for data in re.findall("data: (.*)", answer.text)] == [None]


def test_a_cancel_reaches_the_app_beside_the_job_that_it_stops() -> None:
    with serving() as client:
        submitted = submit(client)
        until(client, submitted, "IN_PROGRESS")
        answer = client.put(submitted["cancel_url"])
        assert (answer.status_code, answer.json()) == (202, {"status": "CANCELLATION_REQUESTED"})
        assert shop(client).is_told.wait(WAIT_S)
        (told,) = shop(client).told
        assert told[0] == submitted["request_id"]
        assert not told[1].startswith("inference")
        again = client.put(submitted["cancel_url"])
        assert (again.status_code, again.json()) == (400, {"status": "ALREADY_COMPLETED"})
        assert client.get(submitted["response_url"]).status_code == 499
        assert status(client, submitted)["error_type"] == "cancelled"


@pytest.mark.parametrize("how", ["cancelled", "left"])
def test_at_the_root_it_is_cancel_that_hears_of_a_cancel_or_of_a_client_that_leaves(how: str) -> None:
    is_running, is_told = threading.Event(), threading.Event()

    class Rooted(streamapp.App):
        @streamapp.endpoint("/")
        def home(self, stream: streamapp.Stream) -> None:
            is_running.set()
            while True:
                stream.emit({})

        @streamapp.endpoint("/cancel")
        def cancel(self) -> None:
            is_told.set()

    with streamapp.testing.TestClient(Rooted) as client:
        if how == "cancelled":
            submitted = client.http.post("/queue/me/rooted", json={}).json()
            assert is_running.wait(WAIT_S)
            client.http.put(submitted["cancel_url"])
        else:
            with client.http.stream("POST", "/run/me/rooted", json={}, headers=SSE) as answer:
                next(answer.iter_bytes())
        assert is_told.wait(WAIT_S)


def test_a_queued_request_is_cancelled_without_a_word_to_the_app() -> None:
    with serving() as client:
        first, second = submit(client), submit(client)
        until(client, first, "IN_PROGRESS")
        assert client.put(second["cancel_url"]).status_code == 202
        shop(client).gate.release()
        until(client, first, "COMPLETED")
        assert shop(client).told == []


@pytest.mark.parametrize("method", ["get", "put"])
def test_an_unknown_request_is_not_found(method: str) -> None:
    path = "/queue/me/shop/requests/" + "0" * 32
    with serving() as client:
        answer = client.get(path) if method == "get" else client.put(path + "/cancel")
    assert answer.status_code == 404
    assert method == "get" or answer.json() == {"status": "NOT_FOUND"}


def test_a_request_of_another_app_is_not_found() -> None:
    class Other(streamapp.App):
        @streamapp.endpoint("/")
        def home(self) -> int:
            return 1

    with serving(Shop, Other) as client:
        submitted = submit(client, "/", {"prompt": "x"})
        assert client.get(f"/queue/me/other/requests/{submitted['request_id']}").status_code == 404


def test_a_request_of_low_priority_waits_for_all_others() -> None:
    with serving() as client:
        first = submit(client)
        until(client, first, "IN_PROGRESS")
        low = submit(client, **{"X-Fal-Queue-Priority": "low"})
        normal = submit(client, **{"X-Fal-Queue-Priority": "normal"})
        assert (status(client, low)["queue_position"], status(client, normal)["queue_position"]) == (1, 0)
        shop(client).gate.release(2)
        until(client, normal, "COMPLETED")
        assert status(client, low)["status"] == "IN_PROGRESS"
        shop(client).gate.release()
        until(client, low, "COMPLETED")


def test_a_request_waits_no_longer_than_it_says() -> None:
    with serving() as client:
        first = submit(client)
        until(client, first, "IN_PROGRESS")
        answer = client.post("/run/me/shop", json={"prompt": "x"}, headers={"X-Fal-Request-Timeout": "0.05"})
        wrong = client.post("/run/me/shop", json={"prompt": "x"}, headers={"X-Fal-Request-Timeout": "soon"})
        shop(client).gate.release()
    assert (answer.status_code, answer.headers["X-Fal-Request-Timeout-Type"]) == (504, "user")
    assert (wrong.status_code, wrong.json()["error"]["code"]) == (400, "malformed_request")


@pytest.mark.parametrize("name", ["fal_webhook", "fal%5Fwebhook"])
def test_a_webhook_is_refused_before_anything_runs(name: str) -> None:
    with serving() as client:
        answer = client.post(f"/queue/me/shop?{name}=https://me.example/hook", json={"prompt": "x"})
        assert not list(client.app.state.runtime.jobs)  # type: ignore[attr-defined]
    assert (answer.status_code, "webhooks are not sent" in answer.json()["detail"]) == (400, True)


# The proxy


def test_the_proxy_leads_to_what_its_header_names() -> None:
    with serving() as client:

        def proxied(method: str, url: str, **options: Any) -> Any:
            return client.request(method, "/api/fal/proxy", headers={"x-fal-target-url": url}, **options)

        run = proxied("POST", "https://fal.run/me/shop", json={"prompt": "x"})
        assert run.json() == {"prompt": "x"}
        submitted = proxied("POST", "https://queue.fal.run/me/shop/wait", json={}).json()
        url = f"https://queue.fal.run/me/shop/requests/{submitted['request_id']}"
        assert proxied("GET", f"{url}/status?logs=1").json()["status"] in ("IN_QUEUE", "IN_PROGRESS")
        assert proxied("PUT", f"{url}/cancel").status_code == 202
        started = proxied("POST", "https://rest.fal.ai/storage/upload/initiate?storage_type=fal-cdn-v3", json={})
        assert started.json()["file_url"].startswith("http://here:1/files/")


@pytest.mark.parametrize(
    ("target", "host"),
    [
        ("http://here:1/shop", "here:1"),
        ("http://HERE:1/run/me/shop", "here:1"),
        ("https://gpu.example/shop", "gpu.example"),
        ("https://gpu.example:443/shop", "gpu.example"),
        ("http://localhost:8000/shop", "127.0.0.1:8000"),
        ("http://[::1]:8000/shop?x=1", "localhost:8000"),
        ("/shop", "here:1"),
    ],
)
def test_the_proxy_leads_to_urls_of_this_server(target: str, host: str) -> None:
    with serving() as client:
        headers = {"x-fal-target-url": target, "host": host}
        assert client.post("/api/fal/proxy", json={"prompt": "x"}, headers=headers).json() == {"prompt": "x"}


def test_the_proxy_leads_to_urls_of_this_server_below_a_prefix() -> None:
    with TestClient(streamapp.compile_app(Shop), base_url="http://here:1", root_path="/gpu") as client:
        headers = {"x-fal-target-url": "https://here:1/gpu/shop"}
        assert client.post("/api/fal/proxy", json={"prompt": "x"}, headers=headers).json() == {"prompt": "x"}


@pytest.mark.parametrize(
    "target",
    [
        *("", "https://evil.example/x", "https://fal.run@evil.example/x", "::", "http://[::1", "shop", "file:///shop"),
        *("//evil.example/shop", "http://here:1@evil.example/shop", "http://here:2/shop", "http://here/shop"),
        *("http://here.evil.example:1/shop", "http://here:1.evil.example/shop", "http://localhost:1/shop"),
        *("ftp://here:1/shop", "http://169.254.169.254/shop", "http://here:1/nothing", "http://here:99999/shop"),
        *("http://here:1/api/fal/proxy", "/api/fal/proxy"),
    ],
)
def test_the_proxy_leads_nowhere_else(target: str) -> None:
    with serving() as client:
        assert client.post("/api/fal/proxy", json={}, headers={"x-fal-target-url": target}).status_code == 404


# fal's own hosts


@pytest.mark.parametrize(
    ("host", "path", "led"),
    [
        ("fal.run", "/me/shop/stream", "/run/me/shop/stream"),
        ("FAL.run:443", "/me/shop", "/run/me/shop"),
        ("queue.fal.run", "/me/shop/requests/1/status", "/queue/me/shop/requests/1/status"),
        ("rest.alpha.fal.ai", "/storage/upload/initiate", "/rest/storage/upload/initiate"),
        ("v3.fal.media", "/files/upload/multipart", "/rest/files/upload/multipart"),
        ("queue.fal.run", "/queue/me/shop/requests/1/status", "/queue/me/shop/requests/1/status"),
        ("queue.fal.run", "/files/1/a.png", "/files/1/a.png"),
        ("v3.fal.media", "/files/1/a.png", "/files/1/a.png"),
        ("rest.fal.ai", "/rest/storage/auth/token", "/rest/storage/auth/token"),
        ("rest.fal.ai", "/tokens/", "/rest/tokens/"),
        ("ws.fal.run", "/me/shop/stream", "/ws/me/shop/stream"),
        ("ws.fal.run", "/ws/me/shop", "/ws/me/shop"),
        ("rest.fal.ai", "/me/shop", "/me/shop"),
        ("here", "/me/shop", "/me/shop"),
        ("evil.fal.run", "/me/shop", "/me/shop"),
        ("", "/storage/x", "/storage/x"),
    ],
)
@pytest.mark.parametrize("kind", ["http", "websocket"])
async def test_a_request_for_one_of_fals_hosts_goes_where_it_means(kind: str, host: str, path: str, led: str) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        assert scope["path"] == led

    await api.FalHosts(app)({"type": kind, "path": path, "headers": [(b"host", host.encode())]}, None, None)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("path", "led", "of"),
    [
        ("/run/me/shop/realtime", "/shop/realtime", "shop"),
        ("/run/me/shop/", "/shop", "shop"),
        ("/queue/me/shop/realtime", "/queue/me/shop/realtime", None),
        ("/run/me/other", "/run/me/other", "other"),
        ("/shop/realtime", "/shop/realtime", None),
    ],
)
async def test_a_socket_is_led_to_the_app_whose_tokens_open_it(path: str, led: str, of: str | None) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        assert scope["path"] == led
        assert not {SUBMISSION, MEDIA, ANSWERS_ONCE} & {*scope}

    await api.FalPaths(app, ["shop"])({"type": "websocket", "path": path, "headers": []}, None, None)  # type: ignore[arg-type]
    shown = api.FAL.shown_tokens
    assert shown is not None
    assert shown.app_at(path) == of


async def test_a_lifespan_has_no_host() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        assert scope == {"type": "lifespan"}

    await api.FalHosts(app)({"type": "lifespan"}, None, None)  # type: ignore[arg-type]


# Hints


def hinting(name: str, provide: Callable[[], Any]) -> type[streamapp.App]:
    return type("Hinting", (Shop,), {"app_name": name, "provide_hints": lambda self: provide()})


def no_hints() -> list[str]:
    raise NotImplementedError


def broken_hints() -> list[str]:
    raise ValueError("no")


FALS = {"X-Fal-Runner-Hint": "a"}


def test_every_response_to_fals_clients_carries_the_apps_hints(caplog: pytest.LogCaptureFixture) -> None:
    apps = [hinting("a", lambda: ["a", "c\r\nx: y", "d→"]), hinting("b", no_hints), hinting("c", broken_hints)]
    with serving(*apps) as client:
        for path in ("/health", "/run/me/nothing"):
            assert client.get(path, headers=FALS).headers["x-fal-runner-hints"] == "a,d"
        assert "x-fal-runner-hints" not in client.get("/health").headers
    assert "provide_hints failed" in caplog.text


@pytest.mark.parametrize("provide", [lambda: [1], lambda: None, sys.exit])
def test_hints_of_a_wrong_kind_cost_no_answer(provide: Any) -> None:
    with serving(hinting("a", provide), hinting("b", lambda: ["b"])) as client:
        answer = client.get("/health", headers=FALS)
    assert (answer.status_code, answer.headers["x-fal-runner-hints"]) == (200, "b")


def test_without_hints_there_is_no_header() -> None:
    with serving(hinting("a", no_hints)) as client:
        assert "x-fal-runner-hints" not in client.get("/health", headers=FALS).headers


# Headers of fal's


def fals_headers(answer: Any) -> set[str]:
    return {name for name in answer.headers if name.startswith("x-fal-")}


@pytest.mark.parametrize(
    ("method", "path", "headers"),
    [
        *(("POST", path, {}) for path in ("/stream", "/wait", "/", "/nothing")),
        *(("GET", path, {}) for path in ("/health", "/stream?n=1", "/stream?n=x", "/openapi.json", "/jobs/none")),
        ("POST", "/stream", {"Authorization": "Key wrong"}),
        ("POST", "/stream", {"Accept": "application/json", "User-Agent": "curl/8"}),
        ("POST", "/stream", {"Sec-Fetch-Site": "cross-site"}),
    ],
)
def test_only_fals_clients_get_headers_of_fals(method: str, path: str, headers: dict[str, str]) -> None:
    with serving(api_key="secret") as client:
        shop(client).gate.release(4)
        answers = [
            client.request(method, path, headers={"Authorization": "Key secret", **headers, **more})
            for more in ({}, {"X-Fal-Queue-Priority": "normal"}, {"User-Agent": FAL_CLIENT}, {"User-Agent": FAL_JS})
        ]
    assert fals_headers(answers[0]) == set()
    assert all("x-fal-request-id" in fals_headers(answer) for answer in answers[1:])
    assert answers[0].status_code < 400 or "x-fal-error-type" in fals_headers(answers[1])


@pytest.mark.parametrize("path", ["/run/me/shop/stream", "/queue/me/nothing", "/rest/nothing", "/api/fal/proxy"])
def test_paths_of_fals_are_asked_for_by_its_clients(path: str) -> None:
    with serving() as client:
        assert "x-fal-request-id" in client.post(path, json={}).headers


def test_a_header_that_an_app_sets_goes_to_everybody() -> None:
    with serving() as client:
        assert fals_headers(client.post("/", json={"prompt": "x"})) == {"x-fal-billable-units"}


# Storage


def test_a_whole_upload_is_read_back_in_ranges_and_only_once() -> None:
    with serving() as client:
        token = client.post("/rest/storage/auth/token", headers={"Authorization": "Key k"}).json()
        assert (token["token"], token["token_type"], token["base_url"]) == ("k", "Bearer", "http://here:1/rest")
        headers = {"X-Fal-File-Name": "a%20b.bin", "Content-Type": "application/x-tar"}
        url = client.post("/rest/files/upload", content=b"0123456789", headers=headers).json()["access_url"]
        whole = client.get(url)
        assert (whole.content, whole.headers["content-type"]) == (b"0123456789", "application/x-tar")
        part = client.get(url, headers={"Range": "bytes=2-4"})
        assert (part.status_code, part.content, part.headers["content-range"]) == (206, b"234", "bytes 2-4/10")
        assert client.get(url, headers={"If-None-Match": whole.headers["etag"]}).status_code == 304
        assert client.head(url).headers["content-length"] == "10"
        assert client.get(url, headers={"Range": "bytes=99-"}).status_code == 416


def test_an_upload_from_the_browser_goes_to_the_url_that_it_is_given() -> None:
    with serving(api_key="secret") as client:
        asked = {"content_type": "image/png", "file_name": "x.png"}
        path = "/rest/storage/upload/initiate?storage_type=fal-cdn-v3"
        assert client.post(path, json=asked).status_code == 401
        started = client.post(path, json=asked, headers={"Authorization": "Key secret"}).json()
        assert client.get(started["file_url"]).status_code == 404
        assert client.put(started["upload_url"], content=b"png").status_code == 200
        assert client.get(started["file_url"]).content == b"png"
        assert client.put(started["upload_url"], content=b"other").status_code == 404


@pytest.mark.parametrize("kind", ["python", "javascript"])
def test_an_upload_in_parts(kind: str) -> None:
    with serving() as client:
        if kind == "python":
            begun = client.post("/rest/files/upload/multipart", headers={"X-Fal-File-Name": "x.mp4"}).json()
            file_url, upload_url = begun["access_url"], f"{begun['access_url']}/multipart/{begun['uploadId']}"
        else:
            begun = client.post("/rest/storage/upload/initiate-multipart", json={"file_name": "x.mp4"}).json()
            file_url, upload_url = begun["file_url"], begun["upload_url"]
        answers = [client.put(f"{upload_url}/{n}", content=data) for n, data in ((2, b"cd"), (1, b"ab"))]
        parts = [{"partNumber": a.json()["partNumber"], "etag": a.headers["etag"]} for a in answers]
        assert client.post(f"{upload_url}/complete", json={"parts": parts[:1]}).status_code == 422
        assert client.post(f"{upload_url}/complete", json={"parts": parts}).status_code == 200
        assert client.get(file_url).content == b"abcd"


def test_an_upload_over_the_quota_is_refused_and_leaves_nothing() -> None:
    with serving(max_files_bytes=10) as client:
        answer = client.post("/rest/files/upload", content=b"x" * 11)
        assert (answer.status_code, answer.json()["error"]["code"]) == (507, "storage_full")
        assert client.app.state.runtime.files.size == 0  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("preference", "most_s"),
    [
        ('{"expiration_duration_seconds": 60}', 60),
        ('{"expiration_duration_seconds": 1%s}' % ("0" * 400), 90),
        ('{"expiration_duration_seconds": Infinity}', 90),
        ('{"expiration_duration_seconds": -1}', 90),
        ("[" * 10_000, 90),
        ("[]", 90),
    ],
)
def test_an_upload_is_kept_as_long_as_it_says_up_to_the_settings_time(preference: str, most_s: int) -> None:
    with serving(file_ttl_s=90) as client:
        headers = {"X-Fal-Object-Lifecycle": preference}
        url = client.post("/rest/files/upload", content=b"x", headers=headers).json()["access_url"]
        age = re.search(r"max-age=(\d+)", client.get(url).headers["cache-control"])
    assert age is not None and most_s - 10 <= int(age[1]) <= most_s


def test_a_result_over_a_mebibyte_is_a_file_of_the_server() -> None:
    with serving() as client:
        file = client.post("/run/me/shop/big", json={}).json()["file"]
        assert re.fullmatch(r"http://here:1/files/[0-9a-f]{32}/a\.pdf", file["url"])
        assert (file["file_size"], file["content_type"]) == (BIG, "application/pdf")
        assert client.get(file["url"]).content == bytes(BIG)
        raw = client.post("/big", json={}, headers={"Accept": "application/pdf"})
        assert (raw.headers["content-type"], raw.content) == ("application/pdf", bytes(BIG))


class Media(streamapp.App):
    """Endpoints that answer with images."""

    @streamapp.endpoint("/")
    def value(self, n: int = 1) -> dict[str, Any]:
        return {"images": [PIL.Image.new("RGB", (2, 2)) for _ in range(n)]}

    @streamapp.endpoint("/async")
    async def asynchronous(self) -> dict[str, Any]:
        return {"images": [streamapp.Image.from_pil(PIL.Image.new("RGB", (2, 2)))]}

    @streamapp.endpoint("/stream")
    def stream(self, stream: streamapp.Stream) -> Iterator[dict[str, Any]]:
        stream.preview({"images": [PIL.Image.new("RGB", (2, 2))]})
        yield {"images": [PIL.Image.new("RGB", (2, 2))]}

    @streamapp.endpoint("/thread")
    def thread(self, stream: streamapp.Stream) -> Iterator[Any]:
        made = threading.Thread(target=stream.emit, args=({"images": [streamapp.File(bytes(BIG))]},))
        made.start()
        made.join()
        yield {"images": [b"bytes"]}

    @streamapp.endpoint("/big")
    def big(self) -> dict[str, Any]:
        return {"images": [streamapp.File(bytes(BIG))]}


def url_in(answer: Any) -> str:
    url: str = answer.json()["images"][0]["url"]
    return url


@pytest.mark.parametrize("path", ["/", "/async"])
def test_what_fals_clients_get_can_be_downloaded(path: str) -> None:
    with serving(Media) as client:
        for url in (url_in(client.post(f"/run/me/media{path}", json={})), queued(client, path)):
            assert re.fullmatch(r"http://here:1/files/[0-9a-f]{32}/file", url)
            assert client.get(url).headers["content-type"] == "image/png"
        target = {"x-fal-target-url": f"https://fal.run/me/media{path}"}
        assert url_in(client.post("/api/fal/proxy", json={}, headers=target)).startswith("http:")
        assert url_in(client.post(f"/media{path}", json={})).startswith("data:")


def queued(client: TestClient, path: str, **options: Any) -> str:
    submitted = client.post(f"/queue/me/media{path}", **(options or {"json": {}})).json()
    until(client, submitted, "COMPLETED")
    return url_in(client.get(submitted["response_url"]))


@pytest.mark.parametrize(
    "asked",
    [
        {"json": {"sync_mode": True}},
        {"json": {"sync_mode": "true", "n": 1}},
        {"data": {"sync_mode": "true"}},
        {"files": {"n": (None, "1"), "sync_mode": (None, "1")}},
        {"json": {}, "headers": {"Streamapp-Media": "inline"}},
    ],
)
@pytest.mark.parametrize("path", ["/", "/big"])
def test_sync_mode_asks_for_data_uris_of_any_size(path: str, asked: dict[str, Any]) -> None:
    with serving(Media, media="url") as client:
        for url in (url_in(client.post(f"/run/me/media{path}", **asked)), queued(client, path, **asked)):
            assert url.startswith("data:")
        assert url_in(client.post(f"/media{path}", **asked)).startswith("data:")


@pytest.mark.parametrize("body", [{"sync_mode": False}, {"sync_mode": None}, {"of": {"sync_mode": True}}, {"n": "1"}])
def test_without_it_they_are_urls(body: dict[str, Any]) -> None:
    with serving(Media) as client:
        assert url_in(client.post("/run/me/media", json=body)).startswith("http:")


def test_a_stream_has_outputs_at_urls_and_previews_inline() -> None:
    with serving(Media) as client:
        lines = client.post("/run/me/media/stream", json={}, headers={"Accept": "application/x-ndjson"}).text
        assert [json.loads(line)["images"][0]["url"][:5] for line in lines.splitlines()] == ["data:", "http:"]
        assert runtime_files(client) == 1
        sync = client.post("/run/me/media/stream?sync_mode=1", json={"sync_mode": True}).text
        assert "http:" not in sync
        asked = client.get("/run/me/media/stream", params={"sync_mode": "true"}).text
        assert "http:" not in asked
        assert runtime_files(client) == 1


def runtime_files(client: TestClient) -> int:
    return len(client.app.state.runtime.files._files)  # type: ignore[attr-defined]


def test_what_a_thread_of_the_apps_own_emits_is_stored_like_any_other() -> None:
    with serving(Media) as client:
        lines = client.post("/thread", json={}, headers={"Accept": "application/x-ndjson"}).text.splitlines()
        assert [json.loads(line)["images"][0]["url"][:5] for line in lines] == ["http:", "data:"]
        lines = client.post(
            "/run/me/media/thread", json={}, headers={"Accept": "application/x-ndjson"}
        ).text.splitlines()
        assert [json.loads(line)["images"][0]["url"][:5] for line in lines] == ["http:", "http:"]


@pytest.mark.parametrize(
    ("setting", "header", "ours", "fals"),
    [
        (None, None, "data:", "http:"),
        ("url", None, "http:", "http:"),
        ("inline", None, "data:", "data:"),
        ("inline", "url", "http:", "http:"),
        ("url", "inline", "data:", "data:"),
    ],
)
def test_the_request_counts_before_the_setting_and_that_before_the_face(
    setting: Any, header: str | None, ours: str, fals: str
) -> None:
    headers = {} if header is None else {"Streamapp-Media": header}
    with serving(Media, media=setting) as client:
        for path, start in (("/media", ours), ("/run/me/media", fals)):
            assert url_in(client.post(path, json={}, headers=headers)).startswith(start)
        refused = client.post("/media", json={}, headers={"Streamapp-Media": "both"})
        assert (refused.status_code, refused.json()["error"]["code"]) == (400, "malformed_request")


def test_a_url_is_that_under_which_the_client_reached_the_server() -> None:
    app = streamapp.compile_app(Media, settings=Settings(drain_s=0))
    with TestClient(app, base_url="http://here:1", root_path="/sub") as client:
        assert url_in(client.post("/sub/run/me/media", json={})).startswith("http://here:1/sub/files/")


def test_a_result_that_finds_no_room_is_inline() -> None:
    with serving(max_files_bytes=1000) as client:
        file = client.post("/run/me/shop/big", json={}).json()["file"]
    assert base64.b64decode(file["url"].partition(",")[2]) == bytes(BIG)


def test_an_uploaded_image_is_an_input_without_a_download() -> None:
    picture = streamapp.Image.from_pil(PIL.Image.new("RGB", (7, 5)))
    with serving() as client:
        headers = {"Content-Type": "image/png"}
        url = client.post("/rest/files/upload", content=picture.data, headers=headers).json()["access_url"]
        assert client.post("/run/me/shop/size", json={"image": url}).json() == {"width": 7}
