"""What the tests of a served app share: apps, clients of them as fixtures, and what is read of the answers."""

import asyncio
import base64
import json
import threading
from collections.abc import AsyncIterator, Generator, Iterator
from functools import cached_property
from typing import Annotated, Any

import PIL.Image
import pytest
from fastapi import Cookie, Depends, Header, UploadFile
from pydantic import BaseModel, Field
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.testclient import TestClient
from tests.waiting import WAIT_S

import streamapp
from streamapp.runtime import Runtime
from streamapp.settings import Settings

ASYNC = {"Prefer": "respond-async"}
PICTURE = PIL.Image.new("RGB", (2, 2), "red")
PNG = base64.b64encode(streamapp.Image.from_pil(PICTURE).data).decode()


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


def submit(client: TestClient, path: str = "/stream", **body: Any) -> str:
    """Start a job that runs on without readers; return its id."""
    job_id: str = client.post(path, json=body, headers=ASYNC).json()["job_id"]
    return job_id


def finished(client: TestClient, job_id: str) -> str:
    """Read a job to its end."""
    return client.get(f"/jobs/{job_id}/events?_events=named").text


def blocks(text: str) -> list[dict[str, str]]:
    """Take SSE apart, comments left out."""
    lines = [[line for line in block.split("\n") if line[:1] != ":"] for block in text.split("\n\n")]
    return [dict(line.split(": ", 1) for line in block if line) for block in lines if any(block)]


def data(text: str) -> list[Any]:
    return [json.loads(block["data"]) for block in blocks(text)]


def names(text: str) -> list[str]:
    return [block.get("event", "") for block in blocks(text)]


def shape(answer: Any) -> tuple[int, str]:
    """Check the one error shape; return status and code."""
    body = answer.json()
    assert set(body) >= {"error", "detail", "error_type"}
    assert set(body["error"]) == {"code", "message", "retryable"}
    assert body["error_type"] == body["error"]["code"]
    return answer.status_code, body["error"]["code"]


class Prompt(BaseModel):
    prompt: str = Field(min_length=1)
    steps: int = 1


class Kinds(streamapp.App):
    """Endpoints of every kind."""

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

    @streamapp.endpoint("/no-text")
    def no_text(self) -> Iterator[str]:
        yield from ()

    @streamapp.endpoint("/tokens", join=True)
    def tokens(self, stream: streamapp.Stream) -> None:
        stream.emit("a", event="token")
        stream.emit({"n": 1})
        stream.emit("b", event="token")

    @streamapp.endpoint("/text", media_type="text/plain")
    async def text(self) -> AsyncIterator[str]:
        for token in ("Hello, ", "wörld"):
            yield token


@pytest.fixture(scope="module")
def kinds() -> Iterator[TestClient]:
    with serving(Kinds) as client:
        yield client


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


@pytest.fixture
def gated() -> Iterator[tuple[Gated, TestClient]]:
    app = Gated()
    with serving(app, resume_window_s=60) as client:
        yield app, client
        app.gate.release(100)


class Results(streamapp.App):
    """Endpoints that give what the test says."""

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


def user(authorization: str = Header("")) -> str:
    return authorization.removeprefix("User ")


class Inputs(streamapp.App):
    """Endpoints that answer with what they were given."""

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


class Failing(streamapp.App):
    """Endpoints that raise what the test says."""

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
