"""What becomes of cords, hooks and sockets: how each is served, and where its code runs."""

import asyncio
import json
import logging
import queue
import threading
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator
from typing import Any

import pytest
from fastapi import BackgroundTasks, Request, WebSocket
from fastapi.responses import PlainTextResponse, StreamingResponse
from pydantic import BaseModel, Field
from starlette.testclient import TestClient
from tests.served import blocks, finished, names, runtime_of, serving, shape, submit
from tests.waiting import WAIT_S, until

import streamapp
import streamapp.testing
from streamapp.chutes import Chute
from streamapp.errors import DefinitionError

LINES = "application/x-ndjson"


class Asked(BaseModel):
    """As the example has it."""

    text: str = Field(..., min_length=2)
    chunk_size: int = Field(200, ge=50)


chute = Chute(username="me", name="all-kinds", tagline="All kinds of cords", readme="# What they do")
told: list[str] = []


@chute.on_startup(priority=60)
def last(self: Any) -> None:
    told.append(f"last, in {threading.current_thread().name}")


@chute.on_startup()
async def first(self: Any) -> None:
    self.models = ["one"]
    told.append(f"first, in {threading.current_thread().name}")


@chute.on_shutdown(priority=10)
async def failing_goodbye(self: Any) -> None:
    raise SystemExit("at the end")


@chute.on_shutdown()
def goodbye(self: Any) -> None:
    told.append("goodbye")


@chute.cord(public_api_path="/where")
async def where(self: Any) -> dict[str, Any]:
    return {"thread": threading.current_thread().name, "models": self.models}


@chute.cord(path="/where-def")
def where_def(self: Any) -> dict[str, Any]:
    return {"thread": threading.current_thread().name, "models": self.models}


@chute.cord(public_api_path="/lines", stream=True, input_schema=Asked, output_content_type="application/json")
async def lines(self: Any, data: Asked) -> AsyncGenerator[dict[str, Any], None]:
    for n in range(3):
        yield {"n": n, "length": len(data.text)}


@chute.cord(public_api_path="/lines-def", stream=True, output_content_type="application/json")
def lines_def(self: Any, up_to: int = 2) -> Iterator[Any]:
    for n in range(up_to):
        yield json.dumps({"n": n}) + "\n"
    yield "no json"


@chute.cord(public_api_path="/text", stream=True, output_content_type="text/plain")
async def text(self: Any, prompt: str) -> AsyncGenerator[Any, None]:
    yield f"Prompt: {prompt}\n\n"
    yield b"and bytes"


@chute.cord(public_api_path="/events", stream=True)
async def events(self: Any, fails: bool = False) -> AsyncGenerator[dict[str, int], None]:
    yield {"n": 1}
    if fails:
        raise ValueError("within")


@chute.cord(public_api_path="/pausing", stream=True)
async def pausing(self: Any) -> AsyncGenerator[dict[str, int], None]:
    yield {"n": 1}
    yield streamapp.Pause.lasting(0)
    yield {"n": 2}


@chute.cord(public_api_path="/framed", stream=True)
async def framed(self: Any):  # type: ignore[no-untyped-def]
    yield "event: start\n"
    yield "data: {}\n\n"


@chute.cord(public_api_path="/framed-def", stream=True)
def framed_def(self: Any):  # type: ignore[no-untyped-def]
    yield "data: 1\n\n"


@chute.cord(public_api_path="/sound", stream=True, output_content_type="audio/wav")
async def sound(self: Any) -> AsyncIterator[bytes]:
    yield b"RIFF"
    yield b"...."


@chute.cord(public_api_path="/returned", method="POST", stream=True)
async def returned(self: Any, prompt: str, max_tokens: int = 100):  # type: ignore[no-untyped-def]
    async def tokens() -> AsyncIterator[str]:
        async for token in self.tokens_of(prompt):
            yield f"data: {json.dumps({'token': token, 'of': max_tokens})}\n\n"

    return StreamingResponse(tokens(), media_type="text/plain")


async def tokens_of(self: Any, prompt: str) -> AsyncIterator[str]:
    for token in prompt.split():
        yield token


@chute.cord(public_api_path="/response-def")
def response_def(self: Any, is_async: bool = False) -> Any:
    async def pieces() -> AsyncIterator[str]:
        yield threading.current_thread().name

    return StreamingResponse(pieces()) if is_async else PlainTextResponse("own")


@chute.cord(public_api_path="/handed-on", stream=True)
async def handed_on(self: Any, is_async: bool = True):  # type: ignore[no-untyped-def]
    return self.tokens_of("a b") if is_async else iter(["c", "d"])


@chute.cord(public_api_path="/iterators", stream=True, output_content_type="application/json")
async def iterators(self: Any) -> Iterator[int]:
    return iter([1, 2])


@chute.cord(public_api_path="/picture", output_content_type="image/jpeg")
async def picture(self: Any) -> bytes:
    return b"\xff\xd8\xff"


@chute.cord(public_api_path="/got", method="GET")
async def got(self: Any, tags: list[str], n: int = 2) -> dict[str, Any]:
    return {"tags": tags, "n": n}


@chute.cord(public_api_path="/metrics", public_api_method="get")
async def figures(self: Any) -> dict[str, int]:
    return {"streams": 2}


@chute.cord(public_api_path="/whole")
async def whole(self: Any, data: dict[str, Any]) -> Any:
    return data


@chute.cord(public_api_path="/checked", input_schema=Asked)
async def checked(self: Any, data: dict[str, Any]) -> Any:
    return data


@chute.cord(public_api_path="/checked-untyped", input_schema=Asked)
async def checked_untyped(self, data):  # type: ignore[no-untyped-def]
    return {"size": data.chunk_size}


@chute.cord(public_api_path="/whole/{name}")
async def whole_of(self: Any, name: str, data: dict[str, Any], request: Request) -> Any:
    return {name: data}


@chute.cord(public_api_path="/documents/{name}")
async def document(self: Any, name: str, version: int = 1) -> dict[str, Any]:
    return {"name": name, "version": version}


@chute.cord(public_api_path="/request")
async def request(self: Any, request: Request) -> Any:
    return await request.json()


@chute.cord(public_api_path="/emitted")
async def emitted(self: Any, stream: streamapp.Stream) -> str:
    await stream.aemit({"n": 1})
    return "end"


@chute.cord(public_api_path="/emitted-below")
async def emitted_below(self: Any) -> str:
    await streamapp.current_stream().aemit({"n": 1})
    return "end"


@chute.websocket("/ws/{name}")
async def talk(self: Any, websocket, name: str, session_id: str | None = None):  # type: ignore[no-untyped-def]
    await websocket.accept()
    while True:
        said = await websocket.receive_text()
        await websocket.send_text(f"{name} {session_id} {said} in {threading.current_thread().name}")


@pytest.fixture(scope="module")
def client() -> Iterator[TestClient]:
    with serving(chute) as client:
        client.post("/where")  # answered when the setup has returned
        yield client


def test_hooks_run_in_the_order_of_their_priority_where_they_belong(client: TestClient) -> None:
    assert told[:2] == ["first, in chute-all-kinds", "last, in inference-all-kinds"]


def test_async_cords_run_on_the_chutes_own_loop_and_others_in_the_inference_thread(client: TestClient) -> None:
    assert client.post("/where").json() == {"thread": "chute-all-kinds", "models": ["one"]}
    assert client.post("/where-def").json() == {"thread": "inference-all-kinds", "models": ["one"]}


def test_values_under_application_json_are_lines(client: TestClient) -> None:
    answer = client.post("/lines", json={"text": "hello"})
    assert answer.headers["content-type"] == LINES
    assert [json.loads(line) for line in answer.text.splitlines()] == [{"n": n, "length": 5} for n in range(3)]


def test_they_are_events_for_who_asks_for_events(client: TestClient) -> None:
    answer = client.post("/lines", json={"text": "hello"}, headers={"Accept": "text/event-stream"})
    assert names(answer.text) == ["output"] * 3


def test_json_that_a_cord_has_written_itself_is_not_written_twice(client: TestClient) -> None:
    assert client.post("/lines-def", json={}).text == '{"n":0}\n{"n":1}\n"no json"\n'


def test_text_is_sent_as_it_is_and_is_the_result_as_a_whole(client: TestClient) -> None:
    answer = client.post("/text", json={"prompt": "hi"})
    assert (answer.text, answer.headers["content-type"]) == ("Prompt: hi\n\nand bytes", "text/plain; charset=utf-8")
    told = client.post("/text", json={"prompt": "hi"}, headers={"Accept": "application/json"})
    assert told.json() == "Prompt: hi\n\nand bytes"


def test_a_scalar_is_a_key_of_the_body_and_never_the_whole(client: TestClient) -> None:
    assert shape(client.post("/text", json="hi")) == (422, "invalid_input")


def test_values_without_a_content_type_are_events(client: TestClient) -> None:
    assert blocks(client.post("/events", json={}).text)[0]["data"] == '{"n":1}'


def test_a_pause_is_no_event(client: TestClient) -> None:
    assert names(client.post("/pausing").text) == ["output", "output"]


def test_a_failure_after_the_first_item_is_told_in_the_stream(client: TestClient) -> None:
    assert names(client.post("/events", json={"fails": True}).text) == ["output", "error"]


@pytest.mark.parametrize(("path", "text"), [("/framed", "event: start\ndata: {}\n\n"), ("/framed-def", "data: 1\n\n")])
def test_events_that_a_cord_has_framed_itself_go_out_as_they_are(client: TestClient, path: str, text: str) -> None:
    answer = client.post(path)
    assert (answer.text, answer.headers["content-type"]) == (text, "text/event-stream; charset=utf-8")


def test_bytes_are_sent_as_what_the_cord_says(client: TestClient) -> None:
    answer = client.post("/sound")
    assert (answer.content, answer.headers["content-type"]) == (b"RIFF....", "audio/wav")
    answer = client.post("/picture")
    assert (answer.content, answer.headers["content-type"]) == (b"\xff\xd8\xff", "image/jpeg")


def test_a_response_goes_through_with_helpers_of_the_module_as_methods(client: TestClient) -> None:
    answer = client.post("/returned", json={"prompt": "a b"})
    assert answer.text == 'data: {"token": "a", "of": 100}\n\ndata: {"token": "b", "of": 100}\n\n'
    assert answer.headers["content-type"] == "text/event-stream; charset=utf-8"


def test_such_a_stream_is_a_job_of_the_queue_as_well(client: TestClient) -> None:
    job_id = submit(client, "/returned", prompt="a b")
    assert [block["data"] for block in blocks(finished(client, job_id))[1:3]] == [
        '{"token":"a","of":100}',
        '{"token":"b","of":100}',
    ]


def test_a_def_cord_answers_by_a_response_of_either_kind(client: TestClient) -> None:
    assert client.post("/response-def", json={}).text == "own"
    assert client.post("/response-def", json={"is_async": True}).text == "chute-all-kinds"


@pytest.mark.parametrize(("is_async", "text"), [(True, "ab"), (False, "cd")])
def test_an_iterator_that_a_cord_returns_is_gone_through(client: TestClient, is_async: bool, text: str) -> None:
    assert client.post("/handed-on", json={"is_async": is_async}).text == text


def test_one_that_an_annotation_tells_of_is_events(client: TestClient) -> None:
    assert client.post("/iterators").text == "1\n2\n"


def test_a_get_cord_has_its_input_in_the_query_or_in_a_body(client: TestClient) -> None:
    assert client.get("/got?tags=a&tags=b").json() == {"tags": ["a", "b"], "n": 2}
    assert client.post("/got", json={"tags": ["a"], "n": 3}).json() == {"tags": ["a"], "n": 3}


def test_a_cord_at_metrics_answers_there(client: TestClient) -> None:
    assert client.get("/metrics").json() == {"streams": 2}


def test_a_dict_alone_is_the_whole_body(client: TestClient) -> None:
    assert client.post("/whole", json={"data": 1, "b": 2}).json() == {"data": 1, "b": 2}
    assert client.post("/whole/one", json={"b": 2}).json() == {"one": {"b": 2}}


def test_a_schema_that_a_cord_names_is_what_its_parameter_is(client: TestClient) -> None:
    assert client.post("/checked", json={"text": "hello"}).json() == {"text": "hello", "chunk_size": 200}
    assert client.post("/checked-untyped", json={"text": "hello"}).json() == {"size": 200}
    assert shape(client.post("/checked", json={"text": "h"})) == (422, "invalid_input")


def test_path_parameters_are_filled(client: TestClient) -> None:
    assert client.post("/documents/one", json={"version": 2}).json() == {"name": "one", "version": 2}


def test_a_request_is_read_on_the_chutes_loop(client: TestClient) -> None:
    assert client.post("/request", json={"a": 1}).json() == {"a": 1}


@pytest.mark.parametrize("path", ["/emitted", "/emitted-below"])
def test_a_cord_emits_to_its_jobs_stream(client: TestClient, path: str) -> None:
    job_id = submit(client, path)
    assert [block["data"] for block in blocks(finished(client, job_id))[1:3]] == ['{"n":1}', '"end"']


def test_a_socket_is_filled_and_served_on_the_chutes_loop(client: TestClient) -> None:
    with client.websocket_connect("/ws/ann?session_id=7") as socket:
        socket.send_text("hi")
        assert socket.receive_text() == "ann 7 hi in chute-all-kinds"


def test_tagline_and_readme_are_what_the_description_says(client: TestClient) -> None:
    about = client.get("/openapi.json").json()["info"]
    assert (about["title"], about["description"]) == ("All kinds of cords", "# What they do")


def test_code_that_blocks_the_chutes_loop_holds_up_nobody_else(client: TestClient) -> None:
    blocked, go_on = threading.Event(), queue.SimpleQueue[None]()
    own = Chute(name="blocking")

    @own.cord(public_api_path="/block", stream=True)
    async def block(self: Any) -> AsyncIterator[dict[str, int]]:
        yield {"n": 1}
        blocked.set()
        go_on.get(timeout=WAIT_S)  # which blockbuster lets through
        yield {"n": 2}

    with serving(own) as served:
        job_id = submit(served, "/block")
        assert blocked.wait(WAIT_S)
        assert served.get("/health").status_code == 200
        with served.stream("GET", f"/jobs/{job_id}/events?_events=named") as answer:
            pieces = answer.iter_text()
            seen = next(pieces)
            go_on.put(None)
            assert names(seen + "".join(pieces))[-3:] == ["output", "output", "done"]


def test_a_cancelled_job_cancels_its_code_on_the_chutes_loop(caplog: pytest.LogCaptureFixture) -> None:
    begun, ended = threading.Event(), threading.Event()
    own = Chute(name="cancelled")

    @own.cord(public_api_path="/run", stream=True)
    async def run(self: Any) -> AsyncIterator[dict[str, int]]:
        try:
            yield {"n": 1}
            begun.set()
            await asyncio.sleep(WAIT_S)
        finally:
            ended.set()
            raise RuntimeError("of the cleanup")

    with serving(own) as served, caplog.at_level(logging.ERROR):
        job_id = submit(served, "/run")
        assert begun.wait(WAIT_S)
        assert served.post(f"/jobs/{job_id}/cancel").json()["status"] == "cancelled"
        assert ended.wait(WAIT_S)
    assert "of the cleanup" in caplog.text


def test_a_cleanup_may_wait_where_code_meets_the_end_of_its_job_by_itself() -> None:
    blocked, go_on, told = threading.Event(), queue.SimpleQueue[None](), queue.SimpleQueue[str]()
    own = Chute(name="cleaning")

    @own.cord(public_api_path="/stream")
    async def stream(self: Any) -> AsyncIterator[dict[str, int]]:
        try:
            yield {"n": 1}
            blocked.set()
            go_on.get(timeout=WAIT_S)
            yield {"n": 2}
        finally:
            try:
                await asyncio.sleep(0.01)
                told.put("cleaned")
            except BaseException as error:
                told.put(repr(error))

    with serving(own) as served:
        job_id = submit(served)
        assert blocked.wait(WAIT_S)
        served.post(f"/jobs/{job_id}/cancel")
        served.get("/health")  # its task has been cancelled
        go_on.put(None)
        assert told.get(timeout=WAIT_S) == "cleaned"


def test_code_that_blocks_the_loop_long_behind_the_end_of_its_job_ends_the_process(
    advance: Callable[[float], None], caplog: pytest.LogCaptureFixture
) -> None:
    blocked, go_on, codes = threading.Event(), queue.SimpleQueue[None](), list[int]()
    own = Chute(name="stuck")

    @own.cord(public_api_path="/block")
    async def block(self: Any) -> None:
        blocked.set()
        go_on.get(timeout=WAIT_S)

    with serving(own, timeout_s=60, stuck_s=3) as served:
        runtime_of(served).on_exit = codes.append
        job_id = submit(served, "/block")
        assert blocked.wait(WAIT_S)
        served.post(f"/jobs/{job_id}/cancel")
        served.get("/health")
        for _ in range(2):  # when it looks, and when it has waited for an answer
            advance(70)
            served.get("/health")
        until(lambda: codes == [70])
        go_on.put(None)
    assert "blocks its loop" in caplog.text


def test_an_error_of_a_startup_hook_fails_the_setup() -> None:
    own = Chute(name="failing")

    @own.on_startup()
    async def load(self: Any) -> None:
        raise OSError("no model")

    @own.cord()
    async def never(self: Any) -> None: ...

    with serving(own) as served:
        assert shape(served.post("/never"))[1] == "setup_failed"


def test_shutdown_hooks_run_whatever_one_of_them_raises(caplog: pytest.LogCaptureFixture) -> None:
    told.clear()
    with serving(chute):
        pass
    assert told[-1] == "goodbye"
    assert "failing_goodbye" in caplog.text


def test_the_test_client_takes_a_chute() -> None:
    with streamapp.testing.TestClient(chute) as client, client.stream("/events", {}) as events:
        assert [event.data for event in events] == [{"n": 1}]


def test_concurrency_bounds_the_jobs_that_run() -> None:
    own = Chute(name="two", concurrency=2)

    @own.cord()
    async def run(self: Any) -> None: ...

    app = own.__streamapp_app__()
    assert (app.max_running, app.max_multiplexing) == (2, 2)


def test_a_cord_without_self_is_refused() -> None:
    own = Chute(name="own")

    @own.cord()
    async def run(prompt: str) -> None: ...

    with pytest.raises(DefinitionError, match=r"write async def run\(self, \.\.\.\)"):
        own.__streamapp_app__()


def test_a_socket_that_is_no_coroutine_function_is_refused() -> None:
    own = Chute(name="own")

    @own.websocket("/ws")
    def talk(self: Any, websocket: WebSocket) -> None: ...

    with pytest.raises(DefinitionError, match=r"write async def talk\(self, websocket: WebSocket\)"):
        own.__streamapp_app__()


def test_a_hook_or_a_socket_of_which_nothing_would_run_is_refused() -> None:
    async def yields(self: Any) -> AsyncIterator[None]:
        yield

    async def talks(self: Any, websocket: WebSocket) -> AsyncIterator[None]:
        yield

    async def alone() -> None: ...

    mistakes = [Chute(name="own") for _ in range(3)]
    mistakes[0].on_startup()(yields)
    mistakes[1].on_shutdown()(alone)
    mistakes[2].websocket("/ws")(talks)
    for mistaken, message in zip(mistakes, ["it yields", r"write alone\(self\)", "write async def talks"], strict=True):
        mistaken.cord()(count)
        with pytest.raises(DefinitionError, match=message):
            mistaken.__streamapp_app__()


async def count(self: Any) -> int:
    return 1


def test_a_mistake_is_told_with_the_words_that_were_written() -> None:
    async def run(self: Any, *words: str) -> None: ...

    async def keep(self: Any, kept: BackgroundTasks) -> None: ...

    async def talk(self: Any, websocket: WebSocket) -> None: ...

    mistakes = [Chute(name="own") for _ in range(3)]
    mistakes[0].cord()(run)
    mistakes[1].cord()(keep)
    mistakes[2].websocket("talk")(talk)
    for mistaken, written in zip(mistakes, ["cord('/run')", "cord('/keep')", "websocket('talk')"], strict=True):
        with pytest.raises(DefinitionError) as refused:
            streamapp.compile_app(mistaken)
        assert str(refused.value).startswith(f"@chute.{written} on ")
