"""Compiled apps: what is refused where they are defined, errors in one shape, the server's own paths, its life."""

import asyncio
import threading
from collections.abc import Iterator
from typing import Annotated, Any

import pytest
from fastapi import Body, Depends, FastAPI, Header, HTTPException
from pydantic import BaseModel, field_validator
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from starlette.testclient import TestClient, WebSocketDenialResponse
from starlette.types import Message, Scope
from starlette.websockets import WebSocket, WebSocketDisconnect
from tests.served import ASYNC, Gated, Kinds, data, serving, shape, submit
from tests.waiting import WAIT_S

import streamapp
from streamapp.errors import DefinitionError
from streamapp.settings import Settings

# Refusals: one shape, on every way


@pytest.mark.parametrize(
    ("method", "path", "options", "status", "code"),
    [
        ("GET", "/nowhere", {}, 404, "not_found"),
        ("GET", "/", {}, 404, "not_found"),
        ("PUT", "/", {}, 405, "method_not_allowed"),
        ("GET", "/model", {}, 405, "method_not_allowed"),
        ("PUT", "/keys", {}, 405, "method_not_allowed"),
        ("OPTIONS", "/keys", {}, 405, "method_not_allowed"),
        ("DELETE", "/health", {}, 405, "method_not_allowed"),
        ("POST", "/model", {"content": b"{"}, 422, "invalid_input"),
        ("POST", "/model", {"content": b"\xff\xfe"}, 422, "invalid_input"),
        ("POST", "/model", {"content": b"null"}, 422, "invalid_input"),
        ("POST", "/model", {"content": b""}, 422, "invalid_input"),
        ("POST", "/model", {"json": {"prompt": ""}}, 422, "invalid_input"),
        ("POST", "/model", {"content": b"x", "headers": {"Content-Type": "text/plain"}}, 415, "refused"),
        ("POST", "/model", {"content": b"x" * 5000}, 413, "payload_too_large"),
        ("POST", "/model", {"content": iter([b"x" * 3000] * 2)}, 413, "payload_too_large"),
        ("POST", "/upload", {"files": {"file": b"x" * 5000}}, 413, "payload_too_large"),
        ("GET", "/keys?prompt=x&_input=3", {}, 422, "invalid_input"),
        ("GET", "/keys?prompt=x", {"headers": {"Last-Event-ID": "nonsense"}}, 400, "malformed_request"),
        ("GET", "/keys?prompt=x", {"headers": {"Last-Event-ID": "0" * 32 + ":1.1"}}, 404, "job_not_found"),
        ("POST", "/keys", {"json": {"prompt": "x"}, "headers": {"Streamapp-Resume": "soon"}}, 400, "malformed_request"),
        ("POST", "/keys", {"json": {"prompt": "x"}, "headers": {"Streamapp-Resume": "inf"}}, 400, "malformed_request"),
        ("GET", "/jobs/nothing", {}, 404, "job_not_found"),
        ("GET", "/jobs/nothing/result", {}, 404, "job_not_found"),
        ("GET", "/jobs/nothing/events", {}, 404, "job_not_found"),
        ("POST", "/jobs/nothing/cancel", {}, 404, "job_not_found"),
        ("GET", "/jobs/nothing/result?aggregate=perhaps", {}, 422, "invalid_input"),
    ],
)
def test_a_bad_request_is_told_in_the_one_shape(
    inputs: TestClient, method: str, path: str, options: dict[str, Any], status: int, code: str
) -> None:
    assert shape(inputs.request(method, path, **options)) == (status, code)


def test_a_missing_header_is_an_error_like_any_other(inputs: TestClient) -> None:
    answer = inputs.post("/injected", json={"prompt": "x"})
    assert (answer.status_code, answer.json()["detail"][0]["loc"]) == (422, ["header", "agent"])


def test_an_unknown_path_is_told_where_to_look(inputs: TestClient) -> None:
    assert inputs.get("/nowhere").json()["detail"] == "nothing is served at GET /nowhere; GET /docs lists what is"


@pytest.mark.parametrize(("path", "allowed"), [("/keys", "POST, GET"), ("/model", "POST"), ("/health", "GET, HEAD")])
def test_a_method_that_is_not_served_is_answered_with_those_that_are(
    inputs: TestClient, path: str, allowed: str
) -> None:
    answer = inputs.put(path)
    assert (answer.headers["allow"], answer.json()["detail"]) == (
        allowed,
        f"PUT is not served at {path}; use {allowed}",
    )


@pytest.mark.parametrize("method", ["GET", "POST", "OPTIONS"])
def test_what_a_websocket_opens_says_so_to_other_requests(method: str) -> None:
    api = streamapp.compile_app(Kinds)
    api.add_api_websocket_route("/rooms/{name}", lambda socket: None)
    answer = TestClient(api).request(method, "/rooms/one")
    assert (shape(answer), answer.headers["Upgrade"]) == ((426, "upgrade_required"), "websocket")
    assert answer.json()["detail"].startswith("/rooms/one is opened by a WebSocket")


def test_invalid_input_is_described_in_fastapis_list(inputs: TestClient) -> None:
    answer = inputs.post("/model", json={"prompt": "", "steps": "many"}).json()
    assert [(error["type"], error["loc"]) for error in answer["detail"]] == [
        ("string_too_short", ["body", "prompt"]),
        ("int_parsing", ["body", "steps"]),
    ]
    assert answer["error"]["message"].startswith("body.prompt: String should have at least 1 character")


@pytest.mark.parametrize("steps", ["x" * 3000, [["x"] * 900], {"x": "y" * 3000}])
def test_large_input_is_not_echoed(inputs: TestClient, steps: Any) -> None:
    assert len(inputs.post("/model", json={"prompt": "p", "steps": steps}).content) < 600


def test_neither_are_large_names_nor_what_validators_say_of_the_input() -> None:
    class Strict(BaseModel, extra="forbid"):
        n: int = 0

        @field_validator("n", mode="before")
        @classmethod
        def complain(cls, n: Any) -> Any:
            raise ValueError(f"not {n}")

    class Picky(streamapp.App):
        @streamapp.endpoint("/x")
        def x(self, input: Strict) -> None: ...

    with serving(Picky) as client:
        for body in ({"x" * 3000: 1, "n": 1}, {"n": "y" * 3000}):
            answer = client.post("/x", json=body)
            assert (answer.status_code, len(answer.content) < 1500) == (422, True)


def test_binary_input_is_not_echoed() -> None:
    class Numbers(streamapp.App):
        @streamapp.endpoint("/x")
        def x(self, n: int) -> None: ...

        @streamapp.endpoint("/raw")
        def raw(self, n: Annotated[int, Body()]) -> None: ...

    with serving(Numbers) as client:
        upload = client.post("/x", files={"n": b"\x89PNG" * 100})
        raw = client.post("/raw", content=b"\x89PNG" * 100, headers={"Content-Type": "application/octet-stream"})
    assert len(upload.content) < 600
    assert raw.json()["detail"][0]["input"] == "<binary 400 bytes>"


@pytest.mark.parametrize(
    ("charset", "value", "status", "code"),
    [
        ("unicode_escape", rb"\ud800", 422, "invalid_input"),
        ("undefined", b"x", 400, "malformed_request"),
        ("no-such-charset", b"x", 200, None),
    ],
)
def test_a_form_that_cannot_be_decoded_is_the_clients_mistake(
    inputs: TestClient, charset: str, value: bytes, status: int, code: str | None
) -> None:
    body = b'--b\r\nContent-Disposition: form-data; name="prompt"\r\n\r\n' + value + b"\r\n--b--\r\n"
    headers = {"Content-Type": f"multipart/form-data; boundary=b; charset={charset}"}
    answer = inputs.post("/model", content=body, headers=headers)
    assert (answer.status_code, answer.json().get("error_type")) == (status, code)


async def test_a_client_that_leaves_while_it_sends_is_no_error(caplog: pytest.LogCaptureFixture) -> None:
    async def receive() -> Message:
        return {"type": "http.disconnect"}

    async def send(message: Message) -> None:
        assert message.get("status", 499) == 499

    scope: Scope = {"type": "http", "method": "POST", "path": "/value", "headers": [], "query_string": b""}
    await streamapp.compile_app(Kinds)(scope, receive, send)
    assert caplog.messages == []


def test_of_many_errors_the_first_are_told(inputs: TestClient) -> None:
    assert len(inputs.post("/keys", json={"prompt": "x", "tags": [1] * 500}).json()["detail"]) == 100


@pytest.mark.parametrize("path", ["/model/", "/inputs/model/", "/run/me/inputs/model/"])
def test_a_slash_at_the_end_is_no_other_path_and_redirects_nobody(inputs: TestClient, path: str) -> None:
    answer = inputs.post(path, json={"prompt": "a cat"}, follow_redirects=False)
    assert (answer.status_code, answer.json()["prompt"]) == (200, "a cat")


class Slashed(streamapp.App):
    """Paths with a slash at the end, beside one that would take them without."""

    @streamapp.endpoint("/")
    def root(self) -> str:
        return "root"

    @streamapp.endpoint("/words/")
    def words(self) -> Iterator[str]:
        yield "a"

    @streamapp.endpoint("/{name}")
    def named(self, name: str) -> str:
        return name

    @streamapp.endpoint("/pages/{name}/")
    def page(self, name: str) -> str:
        return f"page {name}"


@pytest.mark.parametrize("prefix", ["", "/slashed", "/run/me/slashed"])
@pytest.mark.parametrize("slash", ["", "/"])
def test_a_path_may_be_written_with_a_slash_at_its_end(prefix: str, slash: str) -> None:
    with serving(Slashed) as client:
        asked = {"Accept": "text/event-stream"}
        words = client.post(f"{prefix}/words{slash}", headers=asked, follow_redirects=False)
        assert data(words.text) == ["a"]
        assert client.post(f"{prefix}/pages/x{slash}", follow_redirects=False).json() == "page x"
        assert client.post(f"{prefix}/other").json() == "other"


def test_a_key_is_known_with_a_slash_and_without() -> None:
    with serving(Slashed) as client:
        answers = [client.post(f"/pages/x{slash}", headers={"Idempotency-Key": "a"}) for slash in ("", "/")]
    assert len({answer.headers["X-Streamapp-Job-Id"] for answer in answers}) == 1


def test_the_schema_has_a_path_as_it_is_written() -> None:
    assert {"/words/", "/pages/{name}/"} <= set(paths := streamapp.compile_app(Slashed).openapi()["paths"])
    assert {"/words", "/pages/{name}"} & set(paths) == set()


def test_what_hears_of_cancels_may_have_a_slash_at_its_end() -> None:
    class Told(Gated):
        @streamapp.endpoint("/wait/cancel/")
        async def told(self) -> None:
            self.heard.set()

        def setup(self) -> None:
            self.heard = threading.Event()

    with serving(app := Told()) as client:
        job_id = submit(client, "/wait")
        assert app.started.wait(WAIT_S)
        client.post(f"/jobs/{job_id}/cancel")
        app.gate.release(100)
        assert app.heard.wait(WAIT_S)


def test_a_websocket_that_fastapi_serves_is_refused_as_its_code_says() -> None:
    api = streamapp.compile_app(Kinds)

    @api.websocket("/own/{number}")
    async def own(socket: WebSocket, number: int) -> None:
        raise HTTPException(number)

    with TestClient(api) as client:
        for number in (404, 403):
            with pytest.raises(WebSocketDenialResponse) as refused, client.websocket_connect(f"/own/{number}"):
                pass
            assert refused.value.status_code == number


def test_a_websocket_is_refused(inputs: TestClient) -> None:
    with pytest.raises(WebSocketDisconnect), inputs.websocket_connect("/keys"):
        pass


# The server's own paths


def test_health_and_readiness_tell_the_version(kinds: TestClient) -> None:
    assert kinds.get("/health").json() == {"status": "ok", "detail": "ready", "version": "unknown"}
    assert kinds.get("/ready").json() == {"ready": True, "reason": "ready"}


@pytest.mark.parametrize("is_async", [True, False])
def test_an_app_says_what_it_likes_about_its_health(is_async: bool) -> None:
    class Healthy(Kinds):
        def health(self) -> Any:
            return self.later() if is_async else {"gpu": "warm", "status": "mine"}

        async def later(self) -> dict[str, str]:
            return {"gpu": "warm"}

    with serving(Healthy) as client:
        answer = client.get("/health")
    assert (answer.json()["gpu"], answer.json()["status"]) == ("warm", "ok")


def test_metrics_are_prometheus_text(kinds: TestClient) -> None:
    for _ in range(2):  # when the second runs, the first is counted
        kinds.post("/value")
    answer = kinds.get("/metrics")
    assert answer.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    assert 'streamapp_job_seconds_count{endpoint="/kinds/value",status="succeeded"}' in answer.text


def test_metrics_tell_active_streams_and_the_mean_time_of_those_that_have_ended(
    gated: tuple[Gated, TestClient],
) -> None:
    """G23. One ends and one runs on: a mean over both, as the guide's formula takes it, would be of neither."""
    app, client = gated
    app.gate.release(2)
    client.post("/stream", json={"steps": 1})
    with client.stream("POST", "/stream", json={"steps": 2}) as answer:
        next(answer.iter_raw())
        told = dict(line.rsplit(" ", 1) for line in client.get("/metrics").text.splitlines() if line[0] != "#")
        assert float(told['streamapp_jobs_running{app="gated",kind="sync"}']) == 1
        ended = '{endpoint="/gated/stream",status="succeeded"}'
        assert float(told[f"streamapp_job_seconds_count{ended}"]) == 1
        assert float(told[f"streamapp_job_seconds_sum{ended}"]) > 0
        app.gate.release()


class Measured(streamapp.App):
    """Has answers of its own where the server has some."""

    @streamapp.endpoint("/metrics")
    async def metrics(self) -> dict[str, int]:
        return {"frames": 3}

    @streamapp.endpoint("/health/")
    def well(self) -> str:
        return "well"


def test_an_app_answers_at_the_servers_paths_itself_and_the_servers_are_beside(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with serving(Measured) as client:
        assert [client.get(path).json() for path in ("/metrics", "/health")] == [{"frames": 3}, "well"]
        assert client.post("/metrics").json() == {"frames": 3}
        assert client.get("/_streamapp/health").json()["status"] == "ok"
        assert "streamapp_job_seconds" in client.get("/_streamapp/metrics").text
        assert client.get("/ready").json() == client.get("/_streamapp/ready").json()
    (said,) = [record.message for record in caplog.records if record.levelname == "WARNING"]
    assert said == (
        "Measured answers at /health, /metrics itself; "
        "what the server says there is at /_streamapp/health, /_streamapp/metrics"
    )


def test_an_endpoint_that_is_called_as_the_hook_is_none() -> None:
    class Probed(streamapp.App):
        version = "2"

        @streamapp.endpoint("/health")
        def health(self, deep: bool) -> bool:  # type: ignore[override]
            return deep

    with serving(Probed) as client:
        assert client.get("/health?deep=true").json() is True
        assert client.get("/_streamapp/health").json() == {"version": "2", "status": "ok", "detail": "ready"}


def test_the_key_guards_what_an_app_answers_at_health_and_the_servers_own_as_before() -> None:
    with serving(Measured, api_key="secret") as client:
        closed = ("/health", "/metrics", "/_streamapp/ready", "/_streamapp/metrics")
        assert [client.get(path).status_code for path in closed] == [401] * 4
        assert client.get("/_streamapp/health").status_code == 200
        assert client.get("/health", headers={"Authorization": "Key secret"}).json() == "well"


def test_the_paths_of_another_app_of_the_same_server_take_nothing_from_it() -> None:
    with serving(Kinds, Measured) as client:
        assert client.post("/measured/health").json() == "well"
        assert client.get("/health").json()["status"] == "ok"
    assert "/_streamapp/health" not in streamapp.compile_app(Kinds, Measured).openapi()["paths"]
    assert "/_streamapp/health" in streamapp.compile_app(Measured).openapi()["paths"]


# Life


class Living(streamapp.App):
    """Notes in which thread its hooks run."""

    @streamapp.endpoint("/x")
    def x(self) -> None:
        self.threads = [*getattr(self, "threads", []), threading.get_ident()]

    def setup(self) -> None:
        self.x()

    def teardown(self) -> None:
        self.x()


def test_setup_endpoints_and_teardown_run_in_one_thread() -> None:
    with serving(app := Living()) as client:
        client.post("/x")
    assert len(app.threads) == 3
    assert len(set(app.threads)) == 1


def test_async_hooks_run_on_the_loop() -> None:
    class Async(streamapp.App):
        loops: list[Any] = []

        async def setup(self) -> None:
            self.loops.append(asyncio.get_running_loop())

        async def teardown(self) -> None:
            self.loops.append(asyncio.get_running_loop())

        @streamapp.endpoint("/x")
        async def x(self) -> None:
            self.loops.append(asyncio.get_running_loop())

    with serving(Async) as client:
        client.post("/x")
    assert len(Async.loops) == 3
    assert len(set(Async.loops)) == 1


def test_an_app_that_was_stopped_says_so_when_it_is_served_again() -> None:
    app = streamapp.compile_app(Living)
    with TestClient(app):
        pass
    with pytest.raises(streamapp.StreamAppError, match="compile it again"), TestClient(app):
        pass


def test_a_base_http_middleware_is_warned_about(caplog: pytest.LogCaptureFixture) -> None:
    class Buffering(BaseHTTPMiddleware):
        async def dispatch(self, request: Request, call_next: Any) -> Any:
            return await call_next(request)

    app = streamapp.compile_app(Kinds, settings=Settings(drain_s=0))
    app.add_middleware(Buffering)
    with TestClient(app) as client:
        assert data(client.post("/generator").text) == [{"n": 0}, {"n": 1}]
    assert "Buffering is a BaseHTTPMiddleware" in caplog.text


# Several apps, other servers' apps


class Other(streamapp.App):
    @streamapp.endpoint("/value")
    def value(self) -> str:
        return "other"

    @streamapp.endpoint("/")
    def root(self) -> str:
        return "root of other"


def test_each_app_is_at_its_name_and_the_first_also_at_the_root() -> None:
    with serving(Kinds, Other) as client:
        paths = ("/value", "/kinds/value", "/other/value", "/other")
        assert [client.post(path).json() for path in paths] == [
            {"prompt": "x"},
            {"prompt": "x"},
            "other",
            "root of other",
        ]


def test_a_request_for_an_endpoint_tries_endpoints_only() -> None:
    routes = streamapp.compile_app(Kinds, Gated).router.routes
    tried = list(dict.fromkeys(route.path for route in routes if isinstance(route, Route)))
    own = {spec.path for spec in Kinds.endpoints()}
    assert set(tried[: len(own)]) == own
    assert tried.index("/gated/stream") < tried.index("/health")


def test_endpoints_that_are_tried_first_hide_no_path_that_came_before_them() -> None:
    class First(streamapp.App):
        @streamapp.endpoint("/gated/special")
        def special(self) -> str:
            return "of the first app"

        @streamapp.endpoint("/items/{item}")
        def item(self, item: str) -> str:
            return f"item {item}"

        @streamapp.endpoint("/items/newest")
        def newest(self) -> str:
            return "newest"

    class Named(streamapp.App, name="gated"):
        @streamapp.endpoint("/{item}")
        def item(self, item: str) -> str:
            return f"{item} of the named app"

    with serving(First, Named) as client:
        assert client.post("/gated/special").json() == "special of the named app"
        assert client.post("/first/gated/special").json() == "of the first app"
        assert client.post("/items/newest").json() == "item newest"


def test_a_path_parameter_of_the_first_app_hides_no_other() -> None:
    class Greedy(streamapp.App):
        @streamapp.endpoint("/{path:path}")
        def everything(self, path: str) -> str:
            return path

    with serving(Greedy, Other) as client:
        assert [client.post(path).json() for path in ("/other/value", "/a/b")] == ["other", "a/b"]
        assert client.get("/health").json()["status"] == "ok"


def test_apps_of_one_server_have_threads_of_their_own() -> None:
    with serving(app := Gated(), Other) as client:
        submit(client, "/wait")
        assert client.post("/other/value").json() == "other"
        app.gate.release()


def test_a_response_of_an_endpoints_own_answers_get_too() -> None:
    class Paged(streamapp.App):
        @streamapp.endpoint("/")
        def page(self, n: int = 0) -> PlainTextResponse:
            return PlainTextResponse(f"page {n}")

    with serving(Paged, api_key="secret-key") as client:
        assert client.get("/", params={"n": 2}).status_code == 401
        client.headers["Authorization"] = "Key secret-key"
        assert client.get("/", params={"n": 2}).text == client.post("/paged", json={"n": 2}).text == "page 2"
        assert client.get("/paged", params={"n": "x"}).status_code == 422


def test_a_stream_at_the_root_takes_the_place_of_the_redirect() -> None:
    class Root(streamapp.App):
        @streamapp.endpoint("/")
        def stream(self) -> Iterator[int]:
            yield 1

    with serving(Root) as client:
        assert [data(client.post(path).text) for path in ("/", "/root")] == [[1], [1]]
        assert data(client.get("/", headers={"Accept": "text/html"}).text)[1] == 1


class Streams(streamapp.App):
    """No endpoint at `/`."""

    @streamapp.endpoint("/value")
    def value(self) -> int:
        return 1

    @streamapp.endpoint("/first")
    def first(self) -> Iterator[int]:
        yield 1

    @streamapp.endpoint("/second")
    def second(self) -> Iterator[int]:
        yield 2


def test_the_first_stream_answers_a_post_to_an_app_without_an_endpoint_at_its_root() -> None:
    class Others(Streams):
        pass

    with serving(Streams, Others) as client:
        for path in ("/", "/streams", "/others"):
            assert client.post(path, headers={"Accept": "application/json"}).json() == 1
            assert path not in client.get("/openapi.json").json()["paths"]
        assert client.get("/", headers={"Accept": "text/html"}, follow_redirects=False).status_code == 307


def test_an_endpoint_called_as_its_app_is_the_one_that_is_served_there() -> None:
    class First(streamapp.App):
        @streamapp.endpoint("/other")
        def other(self) -> Iterator[int]:
            yield 1

        @streamapp.endpoint("/first")
        def first(self) -> Iterator[int]:
            yield 2

    with serving(First) as client:
        results = [client.post(path, headers={"Accept": "application/json"}).json() for path in ("/", "/first")]
    assert results == [1, 2]


def test_what_streams_nothing_is_not_served_at_the_root() -> None:
    class Values(streamapp.App):
        @streamapp.endpoint("/value")
        def value(self) -> int:
            return 1

        @streamapp.endpoint("/named/{name}")
        def named(self, name: str) -> Iterator[str]:
            yield name

    with serving(Values) as client:
        assert client.post("/values").status_code == 404


def test_a_browser_is_led_from_the_root_to_the_page(kinds: TestClient) -> None:
    answer = kinds.get("/", headers={"Accept": "text/html"}, follow_redirects=False)
    assert (answer.status_code, answer.headers["location"]) == (307, "/playground")


async def test_mounted_in_another_app_it_starts_at_its_first_request() -> None:
    inner, outer = streamapp.compile_app(app := Living()), FastAPI()
    outer.mount("/ai", inner)
    with TestClient(outer) as client:
        assert not hasattr(app, "threads")
        assert client.post("/ai/x").json() is None
        answer = client.post("/ai/x", headers=ASYNC)
        assert answer.headers["location"].startswith("/ai/jobs/")
        client.get(answer.headers["location"] + "/events")
    await inner.state.runtime.stop()
    assert len(app.threads) == 4


async def test_included_in_another_app_its_endpoints_have_the_dependencies_of_that() -> None:
    def refuse(secret: Annotated[str, Header()] = "") -> None:
        if secret != "right":
            raise HTTPException(401)

    inner, outer = streamapp.compile_app(Living), FastAPI()
    outer.include_router(inner.router, dependencies=[Depends(refuse)])
    with TestClient(outer) as client:
        assert client.post("/x", headers={"secret": "wrong"}).status_code == 401
        assert client.post("/x", headers={"secret": "right"}).status_code == 200
    await inner.state.runtime.stop()


def colliding(path: str = "/x", app_name: str = "", method: str = "x") -> type[streamapp.App]:
    def give(self: Any) -> Iterator[int]:
        yield 1

    give.__name__ = method
    return type("Colliding", (streamapp.App,), {method: streamapp.endpoint(path)(give), "app_name": app_name or "a"})


@pytest.mark.parametrize(
    ("apps", "message"),
    [
        ([], "compile_app takes at least one App class"),
        ([Settings], "Expected a subclass of streamapp.App, got <class 'streamapp.settings.Settings'>"),
        ([streamapp.App], "Expected a subclass of streamapp.App"),
        ([colliding(), colliding()], "two apps are named 'a'; give one a class keyword name="),
        ([colliding("/docs/")], "give: /docs is under the server's own path /docs; choose another path"),
        ([colliding("/_streamapp/x")], "/_streamapp/x is under the server's own path /_streamapp"),
        ([colliding("/b/x/"), colliding(app_name="b", method="y")], "/b/x is served by y and by x; rename one"),
        ([colliding("/jobs/mine")], "/jobs/mine is under the server's own path /jobs; choose another path"),
        ([colliding("/docs/x")], "/docs/x is under the server's own path /docs"),
        ([colliding(app_name="jobs")], "/jobs/x is under the server's own path /jobs; name the app 'jobs' differently"),
        ([colliding("/v2/x/ping/y")], "give: /v2/x/ping/y is one of runpod's own paths; choose another path"),
        ([colliding("/x/ping/y", "v2")], "/v2/x/ping/y is one of runpod's own paths"),
        ([Other, colliding(app_name="metrics")], "name the app 'metrics' differently"),
        ([colliding("/b/x"), colliding(app_name="b", method="y")], "/b/x is served by y and by x; rename one"),
    ],
)
def test_collisions_fail_at_compile_and_say_where(apps: list[Any], message: str) -> None:
    with pytest.raises(DefinitionError) as caught:
        streamapp.compile_app(*apps)
    assert message in str(caught.value)
