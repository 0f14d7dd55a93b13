"""The compiled app in-process: every kind of endpoint, input, result, refusal and failure over HTTP."""

import asyncio
import base64
import contextvars
import json
import logging
import queue
import sys
import threading
from collections.abc import AsyncIterator, Callable, Generator, Iterator
from contextlib import contextmanager
from functools import cached_property
from typing import Annotated, Any

import numpy
import PIL.Image
import pytest
from fastapi import BackgroundTasks, Body, Cookie, Depends, FastAPI, Header, HTTPException, UploadFile
from pydantic import BaseModel, Field, field_validator
from starlette.background import BackgroundTask
from starlette.datastructures import Headers
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.testclient import TestClient
from starlette.types import Message, Scope
from starlette.websockets import WebSocketDisconnect
from tests.waiting import WAIT_S, until

import streamapp
import streamapp.testing
from streamapp.answer import answer_of
from streamapp.call import CALLER
from streamapp.errors import DefinitionError
from streamapp.job import Job
from streamapp.routes import _warn_about_foreign_server as warn_about_foreign_server
from streamapp.runtime import Runtime
from streamapp.settings import Settings

PICTURE = PIL.Image.new("RGB", (2, 2), "red")
ASYNC = {"Prefer": "respond-async"}


def serving(*apps: Any, root_path: str = "", **settings: Any) -> TestClient:
    """Run apps with the settings of a test: nothing is waited for at the end."""
    app = streamapp.compile_app(*apps, settings=Settings(**{"drain_s": 0, **settings}))
    return TestClient(app, root_path=root_path, raise_server_exceptions=False)


def runtime_of(client: TestClient) -> Runtime:
    runtime: Runtime = client.app.state.runtime  # type: ignore[attr-defined]
    return runtime


def drain(client: TestClient) -> None:
    assert client.portal is not None
    client.portal.call(runtime_of(client).begin_drain)


def blocks(text: str) -> list[dict[str, str]]:
    """Take SSE apart, comments left out."""
    lines = [[line for line in block.split("\n") if line[:1] != ":"] for block in text.split("\n\n")]
    return [dict(line.split(": ", 1) for line in block if line) for block in lines if any(block)]


def data(text: str) -> list[Any]:
    return [json.loads(block["data"]) for block in blocks(text)]


def names(text: str) -> list[str]:
    return [block.get("event", "") for block in blocks(text)]


class Prompt(BaseModel):
    prompt: str = Field(min_length=1)
    steps: int = 1


class Gated(streamapp.App):
    """Jobs that go on when the test lets them."""

    @cached_property
    def gate(self) -> threading.Semaphore:
        return threading.Semaphore(0)

    @cached_property
    def started(self) -> threading.Event:
        return threading.Event()

    @cached_property
    def closed(self) -> threading.Event:
        return threading.Event()

    @streamapp.endpoint("/stream", max_resume_window_s=5)
    def stream(self, steps: int = 3) -> Iterator[dict[str, int]]:
        try:
            for step in range(steps):
                self.gate.acquire()
                yield {"step": step}
        finally:
            self.closed.set()

    @streamapp.endpoint("/wait")
    def wait(self) -> int:
        self.started.set()
        self.gate.acquire()
        return 1


# Kinds of endpoints


class Kinds(streamapp.App):
    @streamapp.endpoint("/value")
    def value(self, prompt: str = "x") -> dict[str, str]:
        return {"prompt": prompt}

    @streamapp.endpoint("/async-value")
    async def async_value(self) -> dict[str, int]:
        return {"n": 1}

    @streamapp.endpoint("/generator")
    def generator(self, n: int = 2) -> Iterator[dict[str, int]]:
        for i in range(n):
            yield {"n": i}

    @streamapp.endpoint("/returning-generator")
    def returning_generator(self) -> Generator[str, None, str]:
        yield "token"
        return "whole text"

    @streamapp.endpoint("/async-generator")
    async def async_generator(self) -> AsyncIterator[int]:
        yield 1
        yield 2

    @streamapp.endpoint("/with-stream")
    def with_stream(self, stream: streamapp.Stream, prompt: str = "x") -> str:
        stream.emit({"early": prompt}, event="token")
        return prompt

    @streamapp.endpoint("/async-with-stream")
    async def async_with_stream(self, stream: streamapp.Stream) -> int:
        await stream.aemit(1)
        return 2

    @streamapp.endpoint("/emit-on-loop")
    async def emit_on_loop(self, stream: streamapp.Stream) -> None:
        stream.emit(1)

    @streamapp.endpoint("/iterator")
    def iterator(self) -> Iterator[int]:
        return iter([1, 2])

    @streamapp.endpoint("/async-iterator")
    def async_iterator(self) -> AsyncIterator[int]:
        return self.async_generator()

    @streamapp.endpoint("/response")
    def response(self) -> Response:
        return PlainTextResponse("own", 418, {"X-Own": "1"})

    @streamapp.endpoint("/async-response")
    async def async_response(self) -> Response:
        return StreamingResponse(iter(["a", "b"]), media_type="text/event-stream")

    @streamapp.endpoint("/undeclared-response")
    def undeclared_response(self):  # type: ignore[no-untyped-def]
        return PlainTextResponse("own")

    @streamapp.endpoint("/misdeclared-response")
    def misdeclared_response(self) -> Iterator[str]:
        return PlainTextResponse("own")  # type: ignore[return-value]

    @streamapp.endpoint("/unseen-generator")
    def unseen_generator(self):  # type: ignore[no-untyped-def]
        return iter([1, 2])

    @streamapp.endpoint("/lines", media_type="application/x-ndjson")
    def lines(self) -> Iterator[dict[str, int]]:
        yield {"n": 1}
        yield {"n": 2}

    @streamapp.endpoint("/text", media_type="text/plain")
    async def text(self) -> AsyncIterator[str]:
        for token in ("Hello, ", "wörld"):
            yield token


@pytest.fixture(scope="module")
def kinds() -> Iterator[TestClient]:
    with serving(Kinds) as client:
        yield client


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


def test_an_event_carries_the_apps_own_name(kinds: TestClient) -> None:
    assert names(kinds.post("/with-stream").text) == ["token", "output"]


def test_an_async_endpoint_that_emits_on_the_loop_is_told_so(kinds: TestClient) -> None:
    answer = kinds.post("/emit-on-loop")
    assert answer.status_code == 500
    assert "write await stream.aemit()" in answer.json()["detail"]


@pytest.mark.parametrize(
    ("path", "status", "body"),
    [("/response", 418, "own"), ("/async-response", 200, "ab"), ("/undeclared-response", 200, "own")],
)
def test_a_response_passes_through_unchanged(kinds: TestClient, path: str, status: int, body: str) -> None:
    answer = kinds.post(path)
    assert (answer.status_code, answer.text, answer.headers.get("x-own")) == (
        status,
        body,
        "1" if status == 418 else None,
    )


def test_a_response_that_no_job_can_keep_is_refused(kinds: TestClient) -> None:
    job_id = kinds.post("/response", headers=ASYNC).json()["job_id"]
    kinds.post("/value")  # behind it in the queue
    assert "call it directly" in kinds.get(f"/jobs/{job_id}/result").json()["detail"]


def test_a_response_of_an_endpoint_that_is_declared_a_stream_is_refused(kinds: TestClient) -> None:
    answer = kinds.post("/misdeclared-response")
    assert (answer.status_code, answer.json()["error"]["code"]) == (500, "not_encodable")
    assert "declare -> Response instead" in answer.json()["detail"]


# Formats


@pytest.mark.parametrize(
    "accept", ["application/json", "*/*", "text/event-stream", "text/html", "application/x-ndjson, */*"]
)
def test_a_stream_is_sse_whatever_accept_says(kinds: TestClient, accept: str) -> None:
    answer = kinds.post("/generator", headers={"Accept": accept})
    assert answer.headers["content-type"] == "text/event-stream; charset=utf-8"


@pytest.mark.parametrize("accept", ["application/x-ndjson", "application/jsonl"])
def test_accept_that_names_exactly_ndjson_gets_it(kinds: TestClient, accept: str) -> None:
    assert kinds.post("/generator", headers={"Accept": accept}).text == '{"n":0}\n{"n":1}\n'


def test_accept_that_names_exactly_text_gets_it(kinds: TestClient) -> None:
    assert kinds.post("/returning-generator", headers={"Accept": "text/plain"}).text == "tokenwhole text"


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_an_endpoint_declares_its_own_format(kinds: TestClient, method: str) -> None:
    assert kinds.request(method, "/lines").text == '{"n":1}\n{"n":2}\n'
    assert kinds.request(method, "/text").text == "Hello, wörld"


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_who_names_sse_gets_it_from_an_endpoint_of_another_format(kinds: TestClient, method: str) -> None:
    answer = kinds.request(method, "/lines", headers={"Accept": "text/event-stream"})
    assert answer.headers["content-type"] == "text/event-stream; charset=utf-8"


def test_the_headers_of_a_stream(kinds: TestClient) -> None:
    headers = kinds.post("/generator").headers
    assert (headers["cache-control"], headers["x-accel-buffering"]) == ("no-cache", "no")
    assert headers["x-streamapp-job-id"] == headers["x-fal-request-id"]


# Results


class Custom:
    """What a torch tensor looks like to one who does not import torch."""

    def __init__(self, items: int) -> None:
        self.items = items

    def numel(self) -> int:
        return self.items

    def tolist(self) -> list[int]:
        return [7] * self.items


PNG = base64.b64encode(streamapp.Image.from_pil(PICTURE).data).decode()
PICTURE_JSON = {"url": f"data:image/png;base64,{PNG}", "content_type": "image/png", "width": 2, "height": 2}
WAV = b"RIFF\x24\0\0\0WAVEfmt "


class Results(streamapp.App):
    value: Any = None

    @streamapp.endpoint("/value")
    def give(self):  # type: ignore[no-untyped-def]
        return self.value

    @streamapp.endpoint("/async-value")
    async def async_give(self):  # type: ignore[no-untyped-def]
        return self.value

    @streamapp.endpoint("/stream")
    def stream(self):  # type: ignore[no-untyped-def]
        yield self.value


@pytest.fixture(scope="module")
def results() -> Iterator[tuple[Results, TestClient]]:
    app = Results()
    with serving(app) as client:
        yield app, client


@pytest.mark.parametrize("path", ["/value", "/async-value", "/stream"])
@pytest.mark.parametrize(
    ("value", "result"),
    [
        ({"a": 1}, {"a": 1}),
        ([1, None, True], [1, None, True]),
        (Prompt(prompt="x"), {"prompt": "x", "steps": 1}),
        ("text\nü", "text\nü"),
        (b"\x00\xff", "AP8="),
        (None, None),
        ({"n": float("nan")}, {"n": None}),
        (numpy.float32(0.5), 0.5),
        (numpy.array([[1, 2], [3, 4]]), [[1, 2], [3, 4]]),
        ({"tensor": Custom(2)}, {"tensor": [7, 7]}),
        (streamapp.File(b"x", "model/obj"), {"url": "data:model/obj;base64,eA==", "content_type": "model/obj"}),
        ([streamapp.Audio(WAV)], [{"content_type": "audio/wav"}]),
        (PICTURE, PICTURE_JSON),
        ({"image": PICTURE}, {"image": PICTURE_JSON}),
        (streamapp.Output({"a": 1}, event="mesh"), {"a": 1}),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_an_endpoint_may_give(results: tuple[Results, TestClient], path: str, value: Any, result: Any) -> None:
    app, client = results
    app.value = value
    answer = client.post(path)
    assert contains(data(answer.text)[-1] if path == "/stream" else answer.json(), result)


def contains(given: Any, expected: Any) -> bool:
    """Compare; of media only what `expected` names."""
    match expected:
        case dict():
            return all(contains(given[key], expected[key]) for key in expected)
        case list():
            return len(given) == len(expected) and all(map(contains, given, expected))
    return bool(given == expected)


@pytest.mark.parametrize("path", ["/value", "/async-value", "/stream"])
@pytest.mark.parametrize("value", [object(), {"a": {1, object()}}, Custom(100_000), "\ud800", threading.Lock()])
def test_what_cannot_be_encoded_is_an_error_that_names_it(
    results: tuple[Results, TestClient], path: str, value: Any
) -> None:
    app, client = results
    app.value = value
    answer = client.post(path)
    assert (answer.status_code, answer.json()["error"]["code"]) == (500, "not_encodable")


def test_a_picture_is_sent_bare_to_who_names_its_type(results: tuple[Results, TestClient]) -> None:
    app, client = results
    app.value = {"image": PICTURE}
    answer = client.post("/value", headers={"Accept": "image/png"})
    assert (answer.headers["content-type"], answer.content) == ("image/png", base64.b64decode(PNG))


# Inputs


def user(authorization: str = Header("")) -> str:
    return authorization.removeprefix("User ")


class Inputs(streamapp.App):
    @streamapp.endpoint("/model")
    def model(self, input: Prompt) -> Prompt:
        return input

    @streamapp.endpoint("/keys")
    def keys(self, stream: streamapp.Stream, prompt: str, tags: list[str] | None = None) -> list[Any]:
        return [prompt, tags]

    @streamapp.endpoint("/documents/{name}/{page:int}")
    def document(self, name: str, page: int, zoom: float = 1) -> list[Any]:
        return [name, page, zoom]

    @streamapp.endpoint("/injected")
    def injected(
        self,
        request: Request,
        prompt: str,
        agent: Annotated[str, Header()],
        cookie: str = Cookie(""),
        user: str = Depends(user),
    ) -> list[str]:
        return [request.url.path, prompt, agent, cookie, user]

    @streamapp.endpoint("/again")
    async def again(self, request: Request, prompt: str) -> str:
        try:
            return (await request.body()).decode()
        except RuntimeError as error:
            return str(error)

    @streamapp.endpoint("/upload")
    def upload(self, file: UploadFile) -> list[Any]:
        return [file.filename, file.file.read().decode()]

    @streamapp.endpoint("/image")
    def image(self, image: streamapp.Image) -> list[Any]:
        return [image.width, threading.current_thread().name]


@pytest.fixture(scope="module")
def inputs() -> Iterator[TestClient]:
    with serving(Inputs, max_body_bytes=4000) as client:
        yield client


def test_one_model_is_the_body(inputs: TestClient) -> None:
    assert inputs.post("/model", json={"prompt": "a cat"}).json() == {"prompt": "a cat", "steps": 1}


def test_several_parameters_are_keys_of_the_body_or_the_query(inputs: TestClient) -> None:
    assert data(inputs.post("/keys", json={"prompt": "x", "tags": ["a"]}).text) == [["x", ["a"]]]
    assert data(inputs.get("/keys?prompt=x&tags=a&tags=b").text)[1] == ["x", ["a", "b"]]
    assert data(inputs.get("/keys", params={"_input": '{"prompt":"y"}'}).text)[1] == ["y", None]


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


def test_a_missing_header_is_an_error_like_any_other(inputs: TestClient) -> None:
    answer = inputs.post("/injected", json={"prompt": "x"})
    assert (answer.status_code, answer.json()["detail"][0]["loc"]) == (422, ["header", "agent"])


@pytest.mark.parametrize("headers", [{}, ASYNC])
def test_an_upload_is_open_while_the_endpoint_runs(inputs: TestClient, headers: dict[str, str]) -> None:
    answer = inputs.post("/upload", files={"file": ("a.txt", b"content")}, headers=headers)
    if headers:
        inputs.post("/model", json={"prompt": "behind it in the queue"})
        answer = inputs.get(answer.headers["location"] + "/result")
    assert answer.json() == ["a.txt", "content"]


def test_an_image_is_decoded_before_the_inference_thread_sees_it(inputs: TestClient) -> None:
    assert inputs.post("/image", json={"image": f"data:image/png;base64,{PNG}"}).json() == [2, "inference-inputs"]


def test_an_image_by_a_private_url_is_refused(inputs: TestClient) -> None:
    answer = inputs.post("/image", json={"image": "http://127.0.0.1/secret.png"})
    assert (answer.status_code, answer.json()["detail"][0]["loc"]) == (422, ["body"])
    assert "expected a public address" in answer.json()["error"]["message"]


# Refusals: one shape, on every way


def shape(answer: Any) -> tuple[int, str]:
    """Check the one error shape; return status and code."""
    body = answer.json()
    assert set(body) >= {"error", "detail", "error_type"}
    assert set(body["error"]) == {"code", "message", "retryable"}
    assert body["error_type"] == body["error"]["code"]
    assert len(answer.headers["x-fal-request-id"]) == 32
    return answer.status_code, body["error"]["code"]


@pytest.mark.parametrize(
    ("method", "path", "options", "status", "code"),
    [
        ("GET", "/nowhere", {}, 404, "not_found"),
        ("GET", "/", {}, 404, "not_found"),
        ("POST", "/", {}, 405, "method_not_allowed"),
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


def test_an_unknown_path_is_told_where_to_look(inputs: TestClient) -> None:
    assert inputs.get("/nowhere").json()["detail"] == "nothing is served at GET /nowhere; GET /docs lists what is"


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
        ("idna", b"xn--", 400, "malformed_request"),
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


def test_a_trailing_slash_leads_to_the_endpoint(inputs: TestClient) -> None:
    assert inputs.post("/model/", json={"prompt": "a cat"}).json()["prompt"] == "a cat"


def test_a_websocket_is_refused(inputs: TestClient) -> None:
    with pytest.raises(WebSocketDisconnect), inputs.websocket_connect("/keys"):
        pass


# Failures of endpoints


class OutOfMemoryError(RuntimeError):
    """Called as torch calls its own."""


class Failing(streamapp.App):
    error: BaseException
    events = 0

    @streamapp.endpoint("/value")
    def value(self) -> None:
        raise self.error

    @streamapp.endpoint("/async-value")
    async def async_value(self) -> None:
        raise self.error

    @streamapp.endpoint("/stream")
    def stream(self) -> Iterator[int]:
        yield from range(self.events)
        raise self.error

    @streamapp.endpoint("/async-stream")
    async def async_stream(self) -> AsyncIterator[int]:
        for n in range(self.events):
            yield n
        raise self.error

    @streamapp.endpoint("/unencodable")
    def unencodable(self) -> Iterator[Any]:
        yield 1
        yield object()

    @streamapp.endpoint("/slow", timeout_s=0.05)
    def slow(self, stream: streamapp.Stream) -> None:
        while True:
            stream.check()

    @streamapp.endpoint("/async-slow", timeout_s=0.05)
    async def async_slow(self) -> None:
        await asyncio.Event().wait()

    @streamapp.endpoint("/fine")
    def fine(self) -> int:
        return 1


@pytest.fixture
def failing() -> Iterator[tuple[Failing, TestClient]]:
    app = Failing()
    with serving(app, first_event_wait_s=WAIT_S) as client:
        yield app, client


FAILURES = pytest.mark.parametrize(
    ("error", "status", "code", "retryable"),
    [
        (ValueError("/secret/path"), 500, "endpoint_failed", False),
        (HTTPException(402, {"credits": 0}), 402, "refused", False),
        (streamapp.StreamAppError("told as it is"), 500, "internal_error", False),
        (OutOfMemoryError("CUDA out of memory"), 503, "out_of_memory", True),
        (SystemExit(1), 500, "endpoint_failed", False),
        (StopIteration(), 500, "endpoint_failed", False),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, BaseException) else "",
)


@FAILURES
@pytest.mark.parametrize("path", ["/value", "/async-value", "/stream", "/async-stream"])
def test_a_failure_before_the_first_event_is_an_http_error(
    failing: tuple[Failing, TestClient], path: str, error: BaseException, status: int, code: str, retryable: bool
) -> None:
    app, client = failing
    app.error = error
    answer = client.post(path)
    assert shape(answer) == (status, code)
    assert answer.json()["error"]["retryable"] is retryable
    assert "/secret" not in answer.text
    assert client.post("/fine").json() == 1


@FAILURES
def test_a_failure_after_the_first_event_is_an_error_event(
    failing: tuple[Failing, TestClient], error: BaseException, status: int, code: str, retryable: bool
) -> None:
    app, client = failing
    app.error, app.events = error, 2
    answer = client.post("/stream")
    assert (answer.status_code, names(answer.text)) == (200, ["output", "output", "error"])
    assert data(answer.text)[-1]["error"]["code"] == code
    assert client.post("/fine").json() == 1


def test_an_http_exception_keeps_its_detail_and_headers(failing: tuple[Failing, TestClient]) -> None:
    app, client = failing
    app.error = HTTPException(402, {"credits": 0}, {"X-Left": "0"})
    answer = client.post("/value")
    assert (answer.json()["detail"], answer.headers["x-left"]) == ({"credits": 0}, "0")


def test_debug_shows_what_was_raised() -> None:
    app = Failing()
    app.error = ValueError("the reason")
    with serving(app, debug=True) as client:
        answer = client.post("/value").json()
    assert "the reason" in answer["error"]["message"]
    assert "Traceback" in answer["detail"]


def test_a_value_without_a_form_ends_a_stream_that_has_begun(failing: tuple[Failing, TestClient]) -> None:
    text = failing[1].post("/unencodable").text
    assert names(text) == ["output", "error"]
    assert data(text)[-1]["error"]["code"] == "not_encodable"


@pytest.mark.parametrize("path", ["/slow", "/async-slow"])
def test_a_job_out_of_time_is_told_so(failing: tuple[Failing, TestClient], path: str) -> None:
    assert shape(failing[1].post(path)) == (504, "deadline_exceeded")
    assert failing[1].post("/fine").json() == 1


def test_an_exception_outside_of_endpoints_is_no_bare_500() -> None:
    def broken() -> None:
        raise KeyError("/secret/path")

    class Dependent(streamapp.App):
        @streamapp.endpoint("/x")
        def x(self, broken: None = Depends(broken)) -> None: ...

    with serving(Dependent) as client:
        answer = client.post("/x")
    assert shape(answer) == (500, "endpoint_failed")
    assert "/secret" not in answer.text


# Jobs


@pytest.fixture
def gated() -> Iterator[tuple[Gated, TestClient]]:
    app = Gated()
    with serving(app, resume_window_s=60) as client:
        yield app, client
        app.gate.release(100)


def submit(client: TestClient, path: str = "/stream", **body: Any) -> str:
    job_id: str = client.post(path, json=body, headers=ASYNC).json()["job_id"]
    return job_id


def finished(client: TestClient, job_id: str) -> str:
    """Read a job to its end."""
    return client.get(f"/jobs/{job_id}/events?_events=named").text


def test_respond_async_answers_at_once_with_where_to_look(gated: tuple[Gated, TestClient]) -> None:
    answer = gated[1].post("/wait", headers={"Prefer": "wait=5, Respond-Async"})
    job = answer.json()
    assert (answer.status_code, answer.headers["preference-applied"]) == (202, "respond-async")
    assert answer.headers["location"] == f"/jobs/{job['job_id']}"
    assert answer.headers["x-streamapp-job-id"] == answer.headers["x-fal-request-id"] == job["job_id"]
    assert (len(job["job_id"]), job["endpoint"], job["finished_at"]) == (32, "/gated/wait", None)


def test_other_preferences_are_not_taken_for_it(gated: tuple[Gated, TestClient]) -> None:
    gated[0].gate.release()
    answer = gated[1].post("/wait", headers={"Prefer": "respond-async-not, wait=1"})
    assert (answer.status_code, answer.json()) == (200, 1)


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
    assert names(whole) == ["job", "started", "output", "output", "output", "done"]
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


def test_who_follows_a_failed_job_is_told_what_it_failed_with(failing: tuple[Failing, TestClient]) -> None:
    app, client = failing
    app.error = HTTPException(402, {"credits": 0})
    job = submit(client, "/value")
    state, *_ = data(followed(client, job))
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


def test_a_get_stream_is_what_event_source_reads(kinds: TestClient) -> None:
    answer = kinds.get("/generator?n=2")
    job, first, second, done = blocks(answer.text)
    job_id = answer.headers["x-streamapp-job-id"]
    assert (job["event"], job["id"], job["retry"]) == ("job", f"{job_id}:1.0", "1000")
    assert set(json.loads(job["data"])) == {"job_id", "status", "position"}
    assert (first, second) == (
        {"id": f"{job_id}:1.2", "data": '{"n":0}'},  # 1.1 is `started`, which is no part of the stream
        {"id": f"{job_id}:1.3", "data": '{"n":1}'},
    )
    assert (done["event"], done["id"]) == ("done", f"{job_id}:1.4")


def test_a_get_stream_names_its_events_when_asked(kinds: TestClient) -> None:
    assert names(kinds.get("/generator?_events=named").text) == ["job", "output", "output", "done"]


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


def test_a_resumed_stream_is_served_to_its_end_while_draining(kinds: TestClient) -> None:
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


# Full, draining, out of order


def test_a_full_queue_answers_429_and_when_to_come_back() -> None:
    with serving(app := Gated(), max_queue=1) as client:
        submit(client, "/wait")
        assert app.started.wait(WAIT_S)
        submit(client, "/wait")
        for answer in (client.post("/wait"), client.post("/stream"), client.get("/stream")):
            assert shape(answer) == (429, "queue_full")
            assert answer.json()["error"]["retryable"] is True
            assert 1 <= int(answer.headers["retry-after"]) <= 60
        app.gate.release(9)


def test_too_many_async_jobs_are_refused_as_well() -> None:
    class Waiting(streamapp.App):
        @streamapp.endpoint("/x")
        async def x(self) -> None:
            await asyncio.Event().wait()

    with serving(Waiting, max_async_jobs=1) as client:
        submit(client, "/x")
        assert shape(client.post("/x")) == (429, "queue_full")


def test_only_so_many_async_jobs_run_at_a_time_as_max_multiplexing_says() -> None:
    class Waiting(streamapp.App, max_multiplexing=1):
        @streamapp.endpoint("/x")
        async def x(self) -> None:
            await asyncio.Event().wait()

        @streamapp.endpoint("/sync")
        def sync(self) -> int:
            return 1

    with serving(Waiting) as client:
        jobs = [submit(client, "/x") for _ in range(2)]
        client.post("/sync")  # meanwhile the loop has started what it may
        assert [client.get(f"/jobs/{job}").json()["status"] for job in jobs] == ["running", "queued"]


class Limited(Gated):
    max_queue = 1
    request_timeout = 0.05

    @streamapp.endpoint("/own-limit", timeout_s=60)
    def own_limit(self) -> int:
        return self.wait()

    @streamapp.endpoint("/impatient", timeout_s=60, queue_timeout_s=0.01)
    def impatient(self) -> int:
        return 1

    @streamapp.endpoint("/async")
    async def asynchronous(self) -> str:
        return "not in the queue"


def test_a_class_sets_the_limits_of_its_endpoints() -> None:
    with serving(app := Limited()) as client:
        submit(client, "/own-limit")
        assert app.started.wait(WAIT_S)
        waiting = submit(client, "/wait")
        assert shape(client.post("/wait")) == (429, "queue_full")
        app.gate.release()
        finished(client, waiting)
        assert shape(client.get(f"/jobs/{waiting}/result")) == (504, "deadline_exceeded")
        app.gate.release()


def test_a_job_that_waited_too_long_for_its_turn_is_told_so() -> None:
    with serving(app := Limited()) as client:
        submit(client, "/own-limit")
        assert app.started.wait(WAIT_S)
        answer = client.post("/impatient")
        assert (shape(answer), answer.json()["error"]["retryable"]) == ((504, "queue_timeout"), True)
        app.gate.release()


def test_async_endpoints_do_not_wait_for_the_inference_thread() -> None:
    with serving(app := Limited()) as client:
        submit(client, "/own-limit")
        assert client.post("/async").json() == "not in the queue"
        app.gate.release()


def test_a_draining_server_takes_no_jobs(kinds: TestClient) -> None:
    with serving(Kinds) as client:
        drain(client)
        for path in ("/value", "/async-value", "/generator"):
            answer = client.post(path)
            assert (shape(answer), answer.headers["retry-after"]) == ((503, "draining"), "1")
        assert client.get("/ready").json() == {"ready": False, "reason": "draining"}
        assert client.get("/health").status_code == 200


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


def test_jobs_wait_for_setup(caplog: pytest.LogCaptureFixture) -> None:
    class Loading(streamapp.App):
        may_load = threading.Event()

        def setup(self) -> None:
            self.may_load.wait(WAIT_S)

        @streamapp.endpoint("/x")
        def x(self) -> int:
            return 1

        @streamapp.endpoint("/async-x")
        async def async_x(self) -> int:
            return 2

    with serving(Loading) as client:
        answer = client.get("/ready")
        assert (answer.status_code, answer.json()) == (503, {"ready": False, "reason": "loading: starting"})
        jobs = [submit(client, path) for path in ("/x", "/async-x")]
        Loading.may_load.set()
        assert [data(finished(client, job))[1] for job in jobs] == [1, 2]
        assert client.get("/ready").json() == {"ready": True, "reason": "ready"}


def test_when_setup_raises_waiting_readers_get_the_error() -> None:
    class Broken(streamapp.App):
        may_fail = threading.Event()

        def setup(self) -> None:
            self.may_fail.wait(WAIT_S)
            raise FileNotFoundError("/secret/model")

        @streamapp.endpoint("/x")
        def x(self) -> Iterator[int]:
            yield 1

        @streamapp.endpoint("/async-x")
        async def async_x(self) -> int:
            return 2

    codes: queue.Queue[int] = queue.Queue()
    with serving(Broken, first_event_wait_s=0) as client:
        runtime_of(client).on_exit = codes.put
        with client.stream("POST", "/x") as answer:
            job = submit(client, "/async-x")
            Broken.may_fail.set()
            text = "".join(answer.iter_text())
        assert data(text)[-1]["error"] == {
            "code": "setup_failed",
            "message": "setup of broken failed with FileNotFoundError",
            "retryable": False,
        }
        finished(client, job)
        assert shape(client.get(f"/jobs/{job}/result")) == (503, "setup_failed")
        assert shape(client.post("/x")) == (503, "setup_failed")
        assert (codes.get(timeout=WAIT_S), client.get("/health").status_code) == (3, 503)


def test_a_thread_that_does_not_come_back_makes_the_server_unhealthy() -> None:
    codes: queue.Queue[int] = queue.Queue()
    with serving(app := Gated(), timeout_s=0.01, stuck_s=0.01) as client:
        runtime_of(client).on_exit = codes.put
        assert shape(client.post("/wait")) == (504, "deadline_exceeded")
        assert codes.get(timeout=WAIT_S) == 70
        answer = client.get("/health")
        assert (answer.status_code, answer.json()["detail"]) == (503, "gated: stuck")
        assert shape(client.post("/wait")) == (503, "worker_stuck")
        app.gate.release()


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


def test_context_variables_reach_the_endpoint() -> None:
    tenant: contextvars.ContextVar[str] = contextvars.ContextVar("tenant")

    async def enter(x_tenant: str = Header()) -> None:
        tenant.set(x_tenant)

    class Tenants(streamapp.App):
        @streamapp.endpoint("/sync")
        def sync(self, entered: None = Depends(enter)) -> str:
            return tenant.get()

        @streamapp.endpoint("/async")
        async def asynchronous(self, entered: None = Depends(enter)) -> str:
            return tenant.get()

    with serving(Tenants) as client:
        for path in ("/sync", "/async"):
            assert client.post(path, headers={"X-Tenant": "a"}).json() == "a"


def test_a_job_lets_go_of_its_response() -> None:
    """Jobs are kept for minutes; what the iterator of a response holds can be tensors."""
    with serving(Kinds) as client:
        runtime_of(client).observers.append((ended := list[Job]()).append)
        client.post("/async-response")
    (job,) = ended
    answer = answer_of(job)
    assert answer is not None
    assert (job.status, answer.outcome.result()) == ("succeeded", None)


def test_a_base_http_middleware_is_warned_about(caplog: pytest.LogCaptureFixture) -> None:
    class Buffering(BaseHTTPMiddleware):
        async def dispatch(self, request: Request, call_next: Any) -> Any:
            return await call_next(request)

    app = streamapp.compile_app(Kinds, settings=Settings(drain_s=0))
    app.add_middleware(Buffering)
    with TestClient(app) as client:
        assert data(client.post("/generator").text) == [{"n": 0}, {"n": 1}]
    assert "Buffering is a BaseHTTPMiddleware" in caplog.text


def test_under_a_foreign_server_what_is_missing_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "streamapp"), serving(Kinds) as client:
        warn_about_foreign_server.cache_clear()
        client.post("/generator")
        client.post("/generator")
    assert caplog.text.count("not run by `streamapp serve`") == 1


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


def test_a_stream_at_the_root_takes_the_place_of_the_redirect() -> None:
    class Root(streamapp.App):
        @streamapp.endpoint("/")
        def stream(self) -> Iterator[int]:
            yield 1

    with serving(Root) as client:
        assert [data(client.post(path).text) for path in ("/", "/root")] == [[1], [1]]
        assert data(client.get("/", headers={"Accept": "text/html"}).text)[1] == 1


def test_a_browser_is_led_from_the_root_to_the_page(kinds: TestClient) -> None:
    answer = kinds.get("/", headers={"Accept": "text/html"}, follow_redirects=False)
    assert (answer.status_code, answer.headers["location"]) == (307, "/playground")


def test_behind_a_proxy_locations_carry_its_prefix() -> None:
    with serving(Kinds, root_path="/proxied") as client:
        answer = client.post("/proxied/value", headers=ASYNC)
        assert answer.headers["location"] == f"/proxied/jobs/{answer.json()['job_id']}"


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
        ([colliding("/health")], "give: /health is under the server's own path /health; choose another path"),
        ([colliding("/jobs/mine")], "/jobs/mine is under the server's own path /jobs; choose another path"),
        ([colliding("/docs/x")], "/docs/x is under the server's own path /docs"),
        ([colliding(app_name="jobs")], "/jobs/x is under the server's own path /jobs; name the app 'jobs' differently"),
        ([Other, colliding(app_name="metrics")], "name the app 'metrics' differently"),
        ([colliding("/b/x"), colliding(app_name="b", method="y")], "/b/x is served by y and by x; rename one"),
    ],
)
def test_collisions_fail_at_compile_and_say_where(apps: list[Any], message: str) -> None:
    with pytest.raises(DefinitionError) as caught:
        streamapp.compile_app(*apps)
    assert message in str(caught.value)


# Keys, origins, fixed paths


def test_the_key_guards_every_route_but_health() -> None:
    with serving(Kinds, api_key="secret") as client:
        guarded = [("GET", p) for p in ("/ready", "/metrics", "/openapi.json", "/docs", "/jobs/x", "/generator", "/no")]
        for method, path in [*guarded, ("POST", "/value"), ("POST", "/jobs/x/cancel")]:
            assert shape(client.request(method, path)) == (401, "unauthorized")
        assert client.get("/health").status_code == 200
        for scheme in ("Key", "Bearer"):
            assert client.post("/value", headers={"Authorization": f"{scheme} secret"}).status_code == 200
        assert client.get("/generator?_token=secret").status_code == 200
        assert client.post("/value", headers={"Authorization": "Key wrong"}).status_code == 401


def test_other_origins_are_closed_out_by_default(kinds: TestClient) -> None:
    answer = kinds.post("/value", headers={"Origin": "https://a.example"})
    assert "access-control-allow-origin" not in answer.headers
    assert shape(kinds.post("/value", headers={"Sec-Fetch-Site": "cross-site"})) == (403, "cross_site")


@pytest.mark.parametrize(
    ("method", "path", "status"), [("POST", "/value", 200), ("GET", "/no", 404), ("POST", "/unencodable", 401)]
)
def test_named_origins_may_read_answers_and_errors(method: str, path: str, status: int) -> None:
    key = {"Authorization": "Key secret"} if status != 401 else {}
    with serving(Kinds, cors_origins=["https://a.example"], api_key="secret") as client:
        headers = {"Origin": "https://a.example", "Sec-Fetch-Site": "cross-site", **key}
        answer = client.request(method, path, headers=headers)
    assert (answer.status_code, answer.headers["access-control-allow-origin"]) == (status, "https://a.example")
    assert "x-fal-request-id" in answer.headers["access-control-expose-headers"].lower()
    assert "x-streamapp-job-id" in answer.headers["access-control-expose-headers"].lower()


def test_unhandled_errors_and_large_bodies_are_readable_for_named_origins() -> None:
    with serving(Kinds, cors_origins=["*"], max_body_bytes=10) as client:
        answer = client.post("/value", content=b"x" * 20, headers={"Origin": "https://a.example"})
    assert (shape(answer), answer.headers["access-control-allow-origin"]) == ((413, "payload_too_large"), "*")


def test_a_preflight_needs_no_key() -> None:
    with serving(Kinds, cors_origins=["https://a.example"], api_key="secret") as client:
        headers = {
            "Origin": "https://a.example",
            "Access-Control-Request-Method": "POST",
            "Access-Control-Request-Headers": "authorization,streamapp-resume",
        }
        assert client.options("/value", headers=headers).status_code == 200


def test_health_and_readiness_tell_the_version(kinds: TestClient) -> None:
    assert kinds.get("/health").json() == {"status": "ok", "detail": "ready", "version": "unknown"}
    assert kinds.get("/ready").json() == {"ready": True, "reason": "ready"}


def test_metrics_are_prometheus_text(kinds: TestClient) -> None:
    for _ in range(2):  # when the second runs, the first is counted
        kinds.post("/value")
    answer = kinds.get("/metrics")
    assert answer.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    assert 'streamapp_job_seconds_count{endpoint="/kinds/value",status="succeeded"}' in answer.text


def test_the_page_and_the_document_are_there(kinds: TestClient) -> None:
    assert "swagger" in kinds.get("/docs").text
    assert kinds.get("/openapi.json").json() == kinds.get("/openapi.json").json()
