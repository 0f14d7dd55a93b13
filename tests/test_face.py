"""A protocol that no module of ours has heard of is spoken when its `Face` is given."""

import re
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
from fastapi import FastAPI
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.testclient import TestClient
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from starlette.websockets import WebSocket
from tests.waiting import until

import streamapp
from streamapp.errors import DefinitionError
from streamapp.http.face import ASKED_PATH, SUBMISSION, Face, Submission
from streamapp.jobs.job import Job
from streamapp.runtime import Runtime, ServedApp, Workers, thread_and_tasks
from streamapp.settings import Settings


class Enveloped:
    """Lead `/v9/{app}` to the app, and put what it answers into an envelope."""

    def __init__(self, app: ASGIApp, app_names: Sequence[str]) -> None:
        self.app = app
        self._names = app_names

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        match = re.fullmatch("/v9/(.+)", scope.get("path", ""))
        if match is None or match[1].partition("/")[0] not in self._names:
            return await self.app(scope, receive, send)

        async def enveloped(message: Message) -> None:
            if message["type"] == "http.response.start":
                pairs = [pair for pair in message["headers"] if pair[0] != b"content-length"]
                message = {**message, "headers": [*pairs, (b"x-v9-version", b"9.0")]}
            elif message["type"] == "http.response.body":
                message = {**message, "body": b'{"output":%b}' % message["body"]}
            await send(message)

        await self.app({**scope, "path": f"/{match[1]}", ASKED_PATH: scope["path"]}, receive, enveloped)


def middleware(runtime: Runtime) -> Sequence[Middleware]:
    return [Middleware(Enveloped, app_names=[served.name for served in runtime.served])]


def add_routes(api: FastAPI, runtime: Runtime) -> None:
    async def version() -> dict[str, Any]:
        return {"version": 9, "apps": len(runtime.served)}

    api.add_api_route("/v9-version", version, methods=["GET"])


V9 = Face(
    name="v9",
    fixed_paths=("/v9", "/v9-version"),
    exposed_headers=("X-V9-Version",),
    upload_paths=("/twice/upload",),
    middleware=middleware,
    add_routes=add_routes,
    clients=lambda api, runtime: {(served.name, "/"): {"at": f"/v9/{served.name}"} for served in runtime.served},
)


class Twice(streamapp.App):
    @streamapp.endpoint("/")
    def home(self, n: int) -> int:
        return 2 * n

    @streamapp.endpoint("/upload")
    def upload(self, text: str) -> int:
        return len(text)

    @streamapp.endpoint("/limited")
    def limited(self, text: str) -> int:
        return len(text)


ORIGIN = {"Origin": "https://a.example"}


@pytest.fixture(scope="module")
def client() -> Iterator[TestClient]:
    settings = Settings(drain_s=0, cors_origins=["https://a.example"], max_body_bytes=100, api_key=None)
    app = streamapp.compile_app(Twice, settings=settings, faces=(V9,))
    with TestClient(app, raise_server_exceptions=False) as client:
        yield client


def test_a_face_leads_requests_to_the_apps_and_answers_in_its_own_way(client: TestClient) -> None:
    answer = client.post("/v9/twice", json={"n": 3})
    assert (answer.json(), answer.headers["x-v9-version"]) == ({"output": 6}, "9.0")
    assert client.post("/twice", json={"n": 3}).json() == 6


def test_a_face_has_routes_of_its_own(client: TestClient) -> None:
    assert client.get("/v9-version").json() == {"version": 9, "apps": 1}


def test_a_face_says_in_the_document_how_its_clients_ask_for_an_endpoint(client: TestClient) -> None:
    paths = client.get("/openapi.json").json()["paths"]
    assert paths["/"]["post"]["x-streamapp-clients"] == {"v9": {"at": "/v9/twice"}}
    assert "x-streamapp-clients" not in paths["/upload"]["post"]


def test_what_is_not_served_is_told_as_the_client_asked_for_it(client: TestClient) -> None:
    answer = client.post("/v9/twice/nothing")
    assert answer.status_code == 404
    assert "nothing is served at POST /v9/twice/nothing" in answer.text


def test_pages_of_named_origins_may_read_a_faces_headers(client: TestClient) -> None:
    exposed = client.post("/v9/twice", json={"n": 3}, headers=ORIGIN).headers["access-control-expose-headers"]
    assert {"X-V9-Version", "X-Streamapp-Job-Id"} <= {*exposed.split(", ")}


def test_the_limit_of_bodies_leaves_out_a_faces_uploads(client: TestClient) -> None:
    answers = [client.post(path, json={"text": "x" * 200}) for path in ("/twice/upload", "/twice/limited")]
    assert [answer.status_code for answer in answers] == [200, 413]


def test_a_face_says_what_is_asked_of_a_job_and_which_one_it_repeats() -> None:
    """The repeated job keeps its place where the next attempt is refused."""
    jobs: list[Job] = []

    def accept(request: Request, job: Job) -> Response:
        jobs.append(job)
        return PlainTextResponse(job.id)

    class Asking:
        def __init__(self, app: ASGIApp) -> None:
            self.app = app

        async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
            repeats = jobs[0] if scope.get("query_string") == b"again" else None
            asks = {"timeout_s": 5.0, "kept_s": 7.0, "is_low_priority": True}
            scope[SUBMISSION] = Submission(accept, asks=asks, repeats=repeats)
            await self.app(scope, receive, send)

    class Failing(streamapp.App, max_queue=1):
        @streamapp.endpoint("/")
        def home(self) -> None:
            raise ValueError

    face = Face(name="v9", middleware=lambda runtime: [Middleware(Asking)])
    app = streamapp.compile_app(Failing, settings=Settings(drain_s=0), faces=(face,))
    with TestClient(app) as client:
        job_id = client.post("/").text
        until(lambda: jobs[0].is_over)
        assert (jobs[0].request.timeout_s, jobs[0].request.kept_s, jobs[0].request.is_low_priority) == (5, 7, True)
        assert client.post("/?again").text == job_id
        until(lambda: jobs[1].is_over)
        assert (jobs[1].id, jobs[1].attempt) == (job_id, 2)
        assert client.post("/?again", headers={"X-Fal-Request-Timeout": "x"}).status_code == 400
        assert client.portal is not None
        client.portal.call(app.state.runtime.begin_drain)
        jobs[0] = jobs[1]
        assert client.post("/?again").status_code == 503
        assert client.portal.call(app.state.runtime.jobs.find, job_id, "") is jobs[1]


@pytest.mark.parametrize("path", ["/v9", "/v9/mine", "/v9-version"])
def test_no_endpoint_may_be_at_a_faces_own_path(path: str) -> None:
    class Colliding(streamapp.App):
        @streamapp.endpoint(path)
        def give(self) -> int:
            return 1

    with pytest.raises(DefinitionError, match=f"give: {path} is under v9's own path /v9"):
        streamapp.compile_app(Colliding, faces=(V9,))
    assert streamapp.compile_app(Colliding)


def test_a_face_may_have_websockets_mounts_and_paths_that_take_an_endpoints() -> None:
    """What a face has added comes before endpoints; of these its routes take one, and hide no other."""

    async def echo(socket: WebSocket) -> None:
        await socket.accept()
        await socket.send_text(await socket.receive_text())
        await socket.close()

    def add_routes(api: FastAPI, runtime: Runtime) -> None:
        api.add_api_route("/limited/{name}", lambda name: f"{name} of the face", methods=["POST"])
        api.add_api_websocket_route("/{app}/echo", echo)
        api.mount("/pages", PlainTextResponse("a page"))

    class Under(streamapp.App):
        @streamapp.endpoint("/limited/x")
        def taken(self) -> str:
            return "of the app"

        @streamapp.endpoint("/pages/x")
        def covered(self) -> str:
            return "of the app"

        @streamapp.endpoint("/me/echo")
        def beside_a_websocket(self) -> str:
            return "of the app"

    with TestClient(streamapp.compile_app(Under, faces=(Face(name="wide", add_routes=add_routes),))) as client:
        paths = ("/limited/x", "/pages/x", "/me/echo", "/under/limited/x")
        answers = [client.post(path).text for path in paths]
        assert answers == ['"x of the face"', "a page", '"of the app"', '"of the app"']
        with client.websocket_connect("/me/echo") as socket:
            socket.send_text("hello")
            assert socket.receive_text() == "hello"
        assert "/me/echo" in client.get("/openapi.json").json()["paths"]


def test_a_face_may_be_less_than_all_that() -> None:
    with TestClient(streamapp.compile_app(Twice, faces=(Face(name="little"),))) as client:
        assert client.post("/twice", json={"n": 3}).json() == 6


def test_without_a_face_its_protocol_is_not_spoken() -> None:
    with TestClient(streamapp.compile_app(Twice, faces=())) as client:
        assert client.post("/run/me/twice", json={"n": 3}).status_code == 404
        assert client.post("/rest/storage/auth/token").status_code == 404


def test_two_faces_are_spoken_side_by_side() -> None:
    faces = (V9, Face(name="v8", middleware=lambda runtime: [Middleware(Version8)]))
    with TestClient(streamapp.compile_app(Twice, faces=faces)) as client:
        assert client.post("/v8", json={"n": 3}).json() == 6
        assert client.post("/v9/twice", json={"n": 3}).json() == {"output": 6}


class Version8:
    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self.app({**scope, "path": "/"} if scope.get("path") == "/v8" else scope, receive, send)


def test_a_face_has_workers_for_its_own_kind_of_app_and_leaves_the_others_theirs() -> None:
    class Kind(streamapp.App):
        @streamapp.endpoint("/")
        def first(self) -> int:
            return 1

    class Other(Kind):
        pass

    asked = []

    def workers(served: ServedApp) -> Workers | None:
        asked.append(served.name)
        return thread_and_tasks(served) if type(served.app) is Kind else None

    def refuse(served: ServedApp) -> Workers:
        assert type(served.app) is Other
        return thread_and_tasks(served)

    api = streamapp.compile_app(Kind, Other, workers=refuse, faces=[V9, Face(name="kind", workers=workers)])
    with TestClient(api) as client:
        assert [client.post(f"/{name}").json() for name in asked] == [1, 1]
