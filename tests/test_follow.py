"""An app's own code runs one of its endpoints: as a job that is queued, counted and cancelled like a client's."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from fastapi import Request, WebSocket
from pydantic import BaseModel
from starlette.testclient import TestClient
from tests.at_work import Gate
from tests.served import runtime_of, serving
from tests.waiting import until

import streamapp
from streamapp.errors import (
    DefinitionError,
    EndpointFailed,
    InvalidInput,
    JobCancelled,
    QueueFull,
    StreamAppError,
)


class Text(BaseModel):
    text: str


class Words(streamapp.App, max_queue=1):
    def setup(self) -> None:
        self.gate = Gate()
        self.errors: list[BaseException] = []
        self.has_ended = 0

    @streamapp.endpoint("/words")
    def words(self, input: Text) -> Iterator[str]:
        yield from input.text.split()

    @streamapp.endpoint("/later")
    async def later(self, text: str = "none") -> AsyncIterator[Any]:
        yield streamapp.Progress(1, 2)
        yield text

    @streamapp.endpoint("/length")
    def length(self, text: str) -> int:
        return len(text)

    @streamapp.endpoint("/held")
    def held(self, stream: streamapp.Stream) -> None:
        try:
            self.gate()
            stream.emit("passed")
        finally:
            self.has_ended += 1

    @streamapp.endpoint("/fails")
    def fails(self) -> None:
        raise ValueError("secret")

    @streamapp.endpoint("/refuses")
    def refuses(self) -> None:
        raise InvalidInput("too loud")

    @streamapp.endpoint("/asks")
    def asks(self, request: Request) -> None:
        pass

    @streamapp.websocket("/follow/{name}")
    async def follow(self, socket: WebSocket, name: str) -> None:
        await socket.accept()
        input = await socket.receive_json()
        try:
            async for event in streamapp.follow(getattr(self, name), input):
                await socket.send_json([event.kind, event.json()])
        except BaseException as error:
            self.errors.append(error)
            raise

    @streamapp.websocket("/leave")
    async def leave(self, socket: WebSocket) -> None:
        await socket.accept()
        following = asyncio.create_task(anext(streamapp.follow(self.held)))
        await socket.receive_text()
        following.cancel()


@pytest.fixture
def app() -> Words:
    return Words()


@pytest.fixture
def client(app: Words) -> Iterator[TestClient]:
    with serving(app) as client:
        yield client


def followed(client: TestClient, name: str, input: Any = None) -> list[Any]:
    """Return what a socket's code hears of an endpoint, up to the socket's end."""
    with client.websocket_connect(f"/follow/{name}") as socket:
        socket.send_json(input)
        came = []
        while (message := socket.receive())["type"] == "websocket.send":
            came.append(message["text"])
        return came


def failure(client: TestClient, app: Words, name: str, input: Any = None) -> BaseException:
    assert followed(client, name, input) == []
    return app.errors[0]


def test_a_sockets_code_reads_the_events_of_an_endpoint(client: TestClient) -> None:
    assert followed(client, "words", {"text": "a b"}) == ['["output","a"]', '["output","b"]']
    assert followed(client, "later") == ['["progress",{"step":1,"total":2}]', '["output","none"]']
    assert followed(client, "length", {"text": "abc"}) == ['["output",3]']


@pytest.mark.parametrize("input", [{"text": 1}, {}, None, ["a"]])
def test_an_input_is_validated_as_a_clients(client: TestClient, app: Words, input: Any) -> None:
    assert isinstance(failure(client, app, "words", input), InvalidInput)


def test_an_endpoint_that_asks_for_a_request_cannot_be_followed(client: TestClient, app: Words) -> None:
    error = failure(client, app, "asks")
    assert isinstance(error, StreamAppError) and "a Request" in error.message


def test_what_an_endpoint_raises_is_told_as_a_client_is_told(client: TestClient, app: Words) -> None:
    error = failure(client, app, "fails")
    assert isinstance(error, EndpointFailed) and "secret" not in error.message


def test_an_error_of_ours_comes_as_it_was_raised(client: TestClient, app: Words) -> None:
    error = failure(client, app, "refuses")
    assert isinstance(error, InvalidInput) and error.message == "too loud"


def test_what_is_no_endpoint_is_refused(client: TestClient, app: Words) -> None:
    assert isinstance(failure(client, app, "setup"), DefinitionError)


async def test_an_endpoint_of_an_app_that_is_not_served_is_refused() -> None:
    with pytest.raises(DefinitionError, match="expected an endpoint of an app that is served here"):
        await anext(streamapp.follow(Words().words, {"text": "a"}))


def test_setup_waits_for_no_job_that_waits_for_setup() -> None:
    class Eager(streamapp.App):
        async def setup(self) -> None:
            with pytest.raises(DefinitionError, match="when setup has returned"):
                await anext(streamapp.follow(self.length))

        @streamapp.endpoint("/length")
        def length(self, text: str = "") -> int:
            return len(text)

    with serving(Eager) as client:
        assert client.post("/length", json={}).json() == 0


def test_a_thread_is_kept_from_waiting_for_a_job_that_waits_for_it() -> None:
    class Threaded(Words):
        @streamapp.endpoint("/threaded")
        def threaded(self) -> str:
            with pytest.raises(DefinitionError, match="expected async code"):
                asyncio.run(anext(streamapp.follow(self.length, {"text": ""})))
            return "refused"

    with serving(Threaded) as client:
        assert client.post("/threaded", json={}).json() == "refused"


@pytest.mark.parametrize(
    ("outer", "inner", "at_once", "is_refused"),
    [
        ("task", "other_task", 1, True),
        ("task", "other_task", 2, False),
        ("task", "quick", 1, False),
        ("made", "quick", 2, True),
        ("made", "other_task", 1, False),
    ],
)
def test_a_job_does_not_wait_for_the_place_that_it_has(outer: str, inner: str, at_once: int, is_refused: bool) -> None:
    class Alone(streamapp.App, max_multiplexing=at_once):
        @streamapp.endpoint("/task")
        async def task(self) -> Any:
            return await self.ask()

        @streamapp.endpoint("/made")
        def made(self) -> Any:
            return self.ask()

        @streamapp.endpoint("/other_task")
        async def other_task(self) -> str:
            return "done"

        @streamapp.endpoint("/quick")
        def quick(self) -> str:
            return "done"

        async def ask(self) -> list[Any]:
            try:
                return [event.json() async for event in streamapp.follow(getattr(self, inner))]
            except DefinitionError as error:
                return [str(error)]

    with serving(Alone) as client:
        (answer,) = client.post(f"/{outer}", json={}).json()
        assert ("has the only place" in answer) == is_refused
        assert is_refused or answer == "done"


def test_a_job_that_the_loop_is_at_waits_for_another_place_in_the_inference_thread() -> None:
    class Two(streamapp.App, max_running=2):
        @streamapp.endpoint("/made")
        def made(self) -> Any:
            return self.ask()

        @streamapp.endpoint("/quick")
        def quick(self) -> str:
            return "done"

        async def ask(self) -> list[Any]:
            return [event.json() async for event in streamapp.follow(self.quick)]

    with serving(Two) as client:
        assert client.post("/made", json={}).json() == ["done"]


def test_a_full_queue_refuses_what_an_apps_code_asks_for(client: TestClient, app: Words) -> None:
    with client.websocket_connect("/leave") as one:
        app.gate.wait()  # before the other comes, which has the only place in the queue
        with client.websocket_connect("/leave"):
            until(lambda: len(list(runtime_of(client).jobs)) == 2)
            assert isinstance(failure(client, app, "held"), QueueFull)
            app.gate.opened.set()
            one.send_text("")


def test_who_leaves_cancels_the_job(client: TestClient, app: Words) -> None:
    with client.websocket_connect("/leave") as socket:
        app.gate.wait()
        (job,) = runtime_of(client).jobs
        socket.send_text("")
        until(lambda: job.status == "cancelled")
    app.gate.opened.set()
    until(lambda: app.has_ended == 1)


def test_a_job_that_somebody_else_cancels_says_so(client: TestClient, app: Words) -> None:
    with client.websocket_connect("/follow/held") as socket:
        socket.send_json(None)
        app.gate.wait()
        (job,) = runtime_of(client).jobs
        client.post(f"/jobs/{job.id}/cancel")
        socket.receive()
    app.gate.opened.set()
    assert isinstance(app.errors[0], JobCancelled)
