"""Chutes' guide to streaming: its server and its two clients, as they are written there but for import and URL; and its
chat and its document on rooms, which are without the faults that those of the guide have.
"""

import asyncio
import base64
import importlib.util
import io
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import fal_client
import httpx
import pytest
from PIL import Image
from playwright.sync_api import sync_playwright
from starlette.testclient import TestClient, WebSocketTestSession
from tests.apps.chutes_rooms import Guide
from tests.chromium import CHROMIUM
from tests.documented_models import save_language
from tests.documents import APPS, GUIDE, chatting_client, digest
from tests.documents import serving as serving_document
from tests.fal_packages import needs, needs_node
from tests.processes import read_until, serving
from tests.served import data, names, shape
from tests.served import serving as serving_here
from tests.waiting import LONG_S, WAIT_S, until
from websockets.exceptions import ConnectionClosedError, ConnectionClosedOK
from websockets.sync.client import ClientConnection, connect

import streamapp_client
from streamapp_client.compat import fal

FED = [{"n": 0}, {"n": 1}, {"n": 2}, {"done": True}]
URL = "https://myuser-my-chute.chutes.ai"
needs_chromium = needs(CHROMIUM is not None, "no chromium: run `make test` as root")
needs_aiohttp = needs(importlib.util.find_spec("aiohttp") is not None, "aiohttp is missing; run `make install`")


@pytest.fixture
def guide() -> Iterator[TestClient]:
    with serving_here(Guide) as client:
        yield client


@pytest.fixture(scope="module")
def rooms_url() -> Iterator[str]:
    with serving(f"{APPS / 'chutes_rooms.py'}:Guide", env=os.environ) as (url, _):
        yield url


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    models = tmp_path_factory.mktemp("models")
    save_language(models)
    with serving_document(GUIDE / "streaming.py", models) as (url, _):
        yield url


@pytest.fixture
def client(url: str) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=url, timeout=WAIT_S) as client:
        yield client


def until_type(socket: WebSocketTestSession, kind: str) -> list[Any]:
    """Return what comes up to a message of a type."""
    came: list[Any] = []
    while not came or came[-1]["type"] != kind:
        came.append(socket.receive_json())
    return came


class Waiting(Guide):
    def setup(self) -> None:
        super().setup()
        self.gate = asyncio.Event()

    async def tokens(self, text: str) -> AsyncIterator[str]:
        async for token in super().tokens(text):
            await self.gate.wait()
            yield token


def test_a_chat_welcomes_answers_and_hears_its_user_meanwhile() -> None:
    app = Waiting()
    with serving_here(app) as guide, guide.websocket_connect("/chat?session_id=me") as socket:
        welcome = {"type": "system", "message": "Connected to chat session me", "session_id": "me"}
        assert socket.receive_json() == welcome
        socket.send_json({"type": "user_message", "message": "Hello"})
        assert socket.receive_json() == {"type": "ai_typing", "typing": True}
        socket.send_json({"type": "ping"})
        assert socket.receive_json()["type"] == "pong"
        assert guide.portal is not None
        guide.portal.call(app.gate.set)
        assert until_type(socket, "ai_message_complete")[-1]["content"] == "You said: Hello "


def test_others_see_who_types_and_nobody_takes_a_session_over(guide: TestClient) -> None:
    with guide.websocket_connect("/chat?session_id=me") as first, guide.websocket_connect("/chat?session_id=me") as two:
        first.receive_json()
        other = two.receive_json()["session_id"]
        assert other.startswith("me-")
        first.send_json({"type": "typing", "typing": True})
        assert two.receive_json() == {"type": "user_typing", "typing": True, "session_id": "me"}
        two.send_json({"type": "typing", "typing": False})
        assert first.receive_json() == {"type": "user_typing", "typing": False, "session_id": other}


def test_what_is_no_message_ends_no_chat(guide: TestClient) -> None:
    with guide.websocket_connect("/chat") as socket:
        socket.receive_json()
        for text in ("{", "[]", '{"type":"user_message"}', '{"type":"ping"}'):
            socket.send_text(text)
        assert socket.receive_json()["type"] == "error"
        assert socket.receive_json()["type"] == "pong"


def test_two_who_edit_see_the_same_document(guide: TestClient) -> None:
    with guide.websocket_connect("/collaborate/d") as one, guide.websocket_connect("/collaborate/d") as two:
        state = {"type": "document_state", "doc_id": "d", "content": "", "version": 0}
        assert one.receive_json() == two.receive_json() == state
        author = one.receive_json()
        assert author["type"] == "user_joined"
        insert = {"type": "insert", "position": 0, "text": "abc"}
        two.send_json({"type": "operation", "operation": insert})
        told = {"type": "operation", "operation": insert, "version": 1, "author": author["session_id"]}
        assert one.receive_json() == two.receive_json() == told
        one.send_json({"type": "operation", "operation": {"type": "delete", "start": 1, "length": 2}})
        assert one.receive_json()["version"] == two.receive_json()["version"] == 2
        with guide.websocket_connect("/collaborate/d") as three:
            assert three.receive_json() == {**state, "content": "a", "version": 2}
            joined = one.receive_json()
            three.send_json({"type": "cursor_position", "position": 1})
            assert one.receive_json() == {**joined, "type": "cursor_update", "position": 1}
        assert one.receive_json() == {**joined, "type": "user_left"}


def test_an_operation_out_of_bounds_is_refused_to_its_author_alone(guide: TestClient) -> None:
    with guide.websocket_connect("/collaborate/d") as one:
        one.receive_json()
        one.send_json({"type": "operation", "operation": {"type": "delete", "start": 0, "length": 1}})
        assert one.receive_json() == {"type": "error", "error": "the document has 0 characters"}
        one.send_json({"type": "operation", "operation": {"type": "format"}})
        assert one.receive_json() == {"type": "error", "error": "expected an insert or a delete"}


def test_a_document_that_nobody_has_open_is_freed(guide: TestClient) -> None:
    with guide.websocket_connect("/collaborate/d") as one:
        one.receive_json()
        one.send_json({"type": "operation", "operation": {"type": "insert", "position": 0, "text": "a"}})
        one.receive_json()
    with guide.websocket_connect("/collaborate/e") as one:
        one.receive_json()
    with guide.websocket_connect("/collaborate/d") as one:
        assert one.receive_json()["version"] == 0


# The guide's own server


@pytest.mark.parametrize(
    ("name", "known_by"),
    [
        ("streaming.py", "549901230cf782d371d02a327f3aaf3e26913b106a7e87dd4431ead13d093386"),
        ("client.js", "9bbfc69b16eb69b3c2f1bf619c7a707a93bd8761b8dff637467dd7ce552918b9"),
        ("client.py", "15542945808de63f1014807e6ffe84c6e3e925783a2512f3d52a318c35b7e43e"),
    ],
)
def test_the_files_are_the_guides_but_for_the_import_and_what_it_lacks(name: str, known_by: str) -> None:
    text = (GUIDE / name).read_text().replace("from streamapp.chutes", "from chutes")
    if name == "streaming.py":
        text = text[text.index("from chutes") : text.index("# What the guide lacks")]
    assert digest(text) == known_by


def told(answer: httpx.Response) -> list[Any]:
    """Return the data of a stream that has come whole."""
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "text/event-stream; charset=utf-8"
    assert answer.headers["x-accel-buffering"] == "no"
    return data(answer.text)


def read_to(texts: Iterator[str], word: str) -> str:
    """Read a stream up to a word."""
    came = ""
    while word not in came:
        came += next(texts)
    return came


def test_text_streams_as_the_events_that_it_is(client: httpx.Client) -> None:
    """The guide labels them text/plain, which EventSource refuses."""
    answer = client.post("/stream_text", json={"prompt": "Hi"})
    *tokens, last = told(answer)
    assert "".join(token["token"] for token in tokens) == "Hello world! This is streaming text."
    assert last == {"done": True}
    assert answer.headers.get_list("cache-control") == ["no-cache"]


def test_a_generation_names_its_events(client: httpx.Client) -> None:
    answer = client.post("/generate_stream", json={"prompt": "Hi", "max_tokens": 3})
    start, *tokens, complete = told(answer)
    assert names(answer.text) == ["start", *["token"] * len(tokens), "complete"]
    assert start == {"message": "Starting generation"}
    assert [token["generated_tokens"] for token in tokens] == list(range(1, len(tokens) + 1))
    assert complete == {"token": "", "token_id": None, "generated_tokens": len(tokens), "is_complete": True}


def test_a_picture_shows_while_it_is_made(client: httpx.Client) -> None:
    steps = told(client.post("/generate_image_stream", json={"prompt": "Hi", "steps": 6}))
    assert [(step["step"], step["status"]) for step in steps] == [
        (0, "initializing"),
        *((n, "processing") for n in range(1, 6)),
        (6, "complete"),
    ]
    pictures = [base64.b64decode(step["image"]) for step in steps if step["image"]]
    assert [Image.open(io.BytesIO(picture)).size for picture in pictures] == [(512, 512)] * 2


def test_a_picture_that_fails_breaks_its_stream(client: httpx.Client) -> None:
    """The guide's colour has no such step as the twentieth of more: it raises, which the client hears, and is told."""
    came = ""
    with client.stream("POST", "/generate_image_stream", json={"prompt": "Hi", "steps": 21}) as answer:
        with pytest.raises(httpx.RemoteProtocolError):
            for text in answer.iter_text():
                came += text
    *steps, failure = data(came)
    assert [step["step"] for step in steps] == list(range(20))
    assert failure["error"]["code"] == "endpoint_failed"


def test_data_are_told_chunk_by_chunk(client: httpx.Client) -> None:
    one, two, last = told(client.post("/process_stream", json={"data": ["a", "bc", "d"], "chunk_size": 2}))
    assert [(chunk["type"], chunk["processed"], chunk["total"]) for chunk in (one, two)] == [
        ("progress", 2, 3),
        ("progress", 3, 3),
    ]
    assert one["chunk_results"] + two["chunk_results"] == last["all_results"]
    assert last["summary"] == {"total_items": 3, "total_length": 4, "average_length": 4 / 3}


def test_a_pipeline_tells_its_steps_and_what_they_have_made(client: httpx.Client) -> None:
    steps = told(client.post("/pipeline_stream", json={"text": " An Example "}))
    names = ["preprocessing", "sentiment", "entities", "summary", "translation"]
    assert [(step["step"], step["status"]) for step in steps[:-1]] == [
        (name, status) for name in names for status in ("starting", "completed")
    ]
    assert steps[-1]["step"] == "pipeline_complete"
    assert steps[-1]["final_result"]["cleaned_text"] == "an example"


def test_many_read_what_one_produces(client: httpx.Client) -> None:
    """The guide's buffer drops each reader at its first new item, which it awaits the putting of."""
    with client.stream("GET", "/buffered_stream") as one, client.stream("GET", "/buffered_stream") as two:
        came = [read_to(answer.iter_text(), "\n\n") for answer in (one, two)]
    assert [data(text)[0]["data"] for text in came] == ["Generated data 0"] * 2


def test_the_guides_wrapper_tells_errors_in_the_stream(client: httpx.Client) -> None:
    assert told(client.post("/safe_stream", json={"prompt": "Hi"}))[-1]["is_complete"]
    (error,) = told(client.post("/safe_stream", json={"prompt": ""}))
    assert error["type"] == "error"
    assert error["error_type"]


def test_the_guides_metrics_are_at_the_path_of_the_servers_own(client: httpx.Client) -> None:
    none = {"active_streams": 0, "total_streams": 0, "avg_duration": 0, "current_streams": []}
    assert client.get("/metrics").json() == none
    assert "streamapp_jobs" in client.get("/_streamapp/metrics").text


@pytest.mark.parametrize(
    ("path", "asked", "where"),
    [
        ("/stream_text", {}, ["body", "prompt"]),
        ("/stream_text", {"prompt": 5}, ["body", "prompt"]),
        ("/generate_stream", {"prompt": "Hi", "max_tokens": "many"}, ["body", "max_tokens"]),
        ("/generate_image_stream", {"prompt": None}, ["body", "prompt"]),
        ("/process_stream", {"data": "none"}, ["body", "data"]),
        ("/process_stream", {"data": ["a", 5]}, ["body", "data", 1]),
        ("/pipeline_stream", {"text": []}, ["body", "text"]),
        ("/safe_stream", {"Prompt": "Hi"}, ["body", "prompt"]),
    ],
)
def test_what_is_no_input_is_told_by_field(client: httpx.Client, path: str, asked: Any, where: list[Any]) -> None:
    answer = client.post(path, json=asked)
    assert answer.status_code == 422
    assert [error["loc"] for error in answer.json()["detail"]] == [where]


def test_what_fails_before_it_begins_is_an_error_of_http(client: httpx.Client) -> None:
    answer = client.post("/process_stream", json={"data": ["a"], "chunk_size": 0})
    assert shape(answer) == (500, "endpoint_failed")
    assert "range" not in answer.text


def test_what_fails_later_breaks_the_stream(client: httpx.Client) -> None:
    with (
        client.stream("POST", "/generate_stream", json={"prompt": ""}) as answer,
        pytest.raises(httpx.RemoteProtocolError),
    ):
        answer.read()


@pytest.mark.parametrize(
    ("path", "asked", "count"),
    [
        ("/stream_text", {"prompt": "Hi"}, 9),
        ("/generate_stream", {"prompt": "Hi", "max_tokens": 0}, 2),
        ("/generate_image_stream", {"prompt": "Hi", "steps": 1}, 2),
        ("/process_stream", {"data": ["a", "b"], "chunk_size": 1}, 3),
    ],
)
def test_streams_are_answered_to_get_as_well(client: httpx.Client, path: str, asked: Any, count: int) -> None:
    """EventSource asks so, and the guide's client for JavaScript with it."""
    assert len(told(client.get(path, params=asked))) == count


def test_other_methods_are_refused(client: httpx.Client) -> None:
    for method in ("PUT", "HEAD", "OPTIONS", "DELETE"):
        assert client.request(method, "/stream_text").status_code == 405


def test_another_sites_page_is_refused_whatever_header_the_code_sets(client: httpx.Client) -> None:
    """The guide allows all origins by hand; which may ask is the deployment's to say."""
    asked = {"prompt": "Hi", "max_tokens": 0}
    refused = client.post("/generate_stream", json=asked, headers={"Origin": "https://example.com"})
    assert shape(refused) == (403, "cross_site")
    headers = client.post("/generate_stream", json=asked).headers
    assert not [name for name in headers if name.startswith("access-control-") or name == "connection"]


def cancelled(client: httpx.Client) -> float:
    """Return how many jobs were cancelled."""
    return float(client.get("/_streamapp/metrics").text.partition('jobs_total{status="cancelled"} ')[2].split()[0])


def test_a_client_that_leaves_ends_its_stream(client: httpx.Client) -> None:
    before = cancelled(client)
    with client.stream("POST", "/generate_image_stream", json={"prompt": "Hi", "steps": 100_000}) as answer:
        texts = answer.iter_text()
        next(texts)
        assert cancelled(client) == before
    until(lambda: cancelled(client) == before + 1)


def test_one_is_served_while_others_are(client: httpx.Client) -> None:
    asked = {"prompt": "Hi", "steps": 100_000}
    with (
        client.stream("POST", "/generate_image_stream", json=asked) as one,
        client.stream("POST", "/generate_image_stream", json=asked) as two,
    ):
        texts = one.iter_text(), two.iter_text()
        assert [next(text) for text in texts]
        assert told(client.post("/process_stream", json={"data": ["a"]}))[-1]["type"] == "complete"
        assert [next(text) for text in texts]


def test_curl_by_http_1_0_gets_all_events(url: str) -> None:
    command = ["curl", "-sN", "--http1.0", f"{url}/stream_text?prompt=Hi"]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=WAIT_S, check=True)
    assert data(ran.stdout)[-1] == {"done": True}


def test_our_clients_and_fals_get_the_same(url: str) -> None:
    asked = {"data": ["a", "b"], "chunk_size": 1}
    kinds = ["progress", "progress", "complete"]
    with streamapp_client.Client(url).stream("/process_stream", asked) as events:
        assert [event.data["type"] for event in events] == kinds
    fal.use(url)
    client = fal_client.SyncClient()
    assert [event["type"] for event in client.stream("me/streaming-demo", asked, path="/process_stream")] == kinds
    assert client.subscribe("me/streaming-demo/process_stream", asked)["type"] == "complete"
    client._client.close()


@pytest.mark.long
def test_a_drain_cuts_what_has_no_end(tmp_path: Path) -> None:
    save_language(tmp_path)
    with serving_document(GUIDE / "streaming.py", tmp_path, STREAMAPP_DRAIN_S="0.5") as (url, process):
        with (
            httpx.stream("GET", f"{url}/buffered_stream", timeout=WAIT_S) as answer,
            connected(url, "/ws") as socket,
            pytest.raises(httpx.RemoteProtocolError),
        ):
            texts = answer.iter_text()
            next(texts)
            process.send_signal(signal.SIGTERM)
            with pytest.raises(ConnectionClosedError) as closed:
                socket.recv(WAIT_S)
            assert closed.value.rcvd is not None
            assert closed.value.rcvd.code == 1012
            list(texts)
        assert process.wait(WAIT_S) in (-signal.SIGTERM, 128 + signal.SIGTERM)


# Its sockets


def connected(url: str, path: str) -> ClientConnection:
    return connect(url.replace("http", "ws") + path, open_timeout=WAIT_S, close_timeout=WAIT_S)


def heard(socket: ClientConnection) -> Any:
    return json.loads(socket.recv(WAIT_S))


def test_a_socket_is_answered_until_it_leaves(url: str) -> None:
    with connected(url, "/ws") as one, connected(url, "/ws") as two:
        for socket in (one, two):
            socket.send("Hi")
        assert [socket.recv(WAIT_S) for socket in (one, two)] == ["Echo: Hi"] * 2
        one.close()
        two.send("still there?")
        assert two.recv(WAIT_S) == "Echo: still there?"


def test_the_guides_chat_answers_token_by_token(url: str) -> None:
    with connected(url, "/chat?session_id=me") as me, connected(url, "/chat") as other:
        assert heard(me) == {"type": "system", "message": "Connected to chat session me", "session_id": "me"}
        heard(other)
        other.send(json.dumps({"type": "typing", "typing": True}))
        assert heard(me)["type"] == "user_typing"
        me.send(json.dumps({"type": "ping"}))
        assert heard(me)["type"] == "pong"
        me.send(json.dumps({"type": "user_message", "message": "Hi"}))
        assert heard(me) == {"type": "ai_typing", "typing": True}
        content = ""
        while (message := heard(me))["type"] == "ai_message_partial":
            content += message["token"]
            assert message["content"] == content
        assert message == {"type": "ai_message_complete", "content": content}


def test_what_is_no_message_ends_the_guides_chat_and_no_other(url: str) -> None:
    with connected(url, "/chat") as one, connected(url, "/chat") as two:
        heard(one), heard(two)
        one.send("{")
        with pytest.raises(ConnectionClosedOK):
            one.recv(WAIT_S)
        two.send(json.dumps({"type": "ping"}))
        assert heard(two)["type"] == "pong"


def test_who_leaves_while_the_model_answers_stops_nobody(url: str) -> None:
    with connected(url, "/chat") as one:
        heard(one)
        one.send(json.dumps({"type": "user_message", "message": "Hi"}))
        assert heard(one)["type"] == "ai_typing"
    with connected(url, "/chat") as two:
        assert heard(two)["type"] == "system"


def test_two_edit_the_guides_document(url: str) -> None:
    """Its author is not told of an operation: what both made at once, each has in another order."""
    with connected(url, "/collaborate/d") as one:
        assert heard(one) == {"type": "document_state", "doc_id": "d", "content": "", "version": 0}
        with connected(url, "/collaborate/d") as two:
            assert heard(two)["version"] == 0
            joined = heard(one)
            insert = {"type": "insert", "position": 0, "text": "abc"}
            two.send(json.dumps({"type": "operation", "operation": insert}))
            author = {"author": joined["session_id"]}
            assert heard(one) == {"type": "operation", "operation": insert, "version": 1, **author}
            one.send(json.dumps({"type": "operation", "operation": {"type": "delete", "start": 1, "length": 2}}))
            assert heard(two)["version"] == 2
            two.send(json.dumps({"type": "cursor_position", "position": 1}))
            assert heard(one) == {**joined, "type": "cursor_update", "position": 1}
        assert heard(one) == {**joined, "type": "user_left"}
        with connected(url, "/collaborate/d") as three:
            assert heard(three)["content"] == "a"


def test_what_is_no_operation_ends_its_session_alone(url: str) -> None:
    with connected(url, "/collaborate/e") as one, connected(url, "/collaborate/e") as two:
        heard(one), heard(two), heard(one)
        two.send(json.dumps({"type": "operation", "operation": {"type": "insert"}}))
        with pytest.raises(ConnectionClosedOK):
            two.recv(WAIT_S)
        assert heard(one)["type"] == "user_left"


# Its clients


@needs_node
def test_the_guides_client_for_javascript_chats(url: str) -> None:
    script = chatting_client()
    assert URL in script
    script = "const updateChatInterface = (content) => console.log('said:', content);\n" + script.replace(URL, url)
    command = [str(shutil.which("node")), "--experimental-websocket", "-e", script]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert read_until(process.stdout, "said:")
        process.kill()


@needs_chromium
@pytest.mark.long
def test_the_guides_client_for_javascript_reads_streams_in_a_page(url: str) -> None:
    """It hears what has no name, and resolves at `done` or `is_complete`.

    Its example asks `/generate_stream` for no prompt, and that would name its events, of which `onmessage` hears none:
    the promise is rejected either way, and its chat, which comes next, goes on.
    """
    script = (GUIDE / "client.js").read_text()
    shown = "const updateChatInterface = (content) => { document.title = content; };"
    read = "(path) => new ChutesStreamingClient('').streamHTTP(path).then((all) => all, () => 'rejected')"
    with (
        sync_playwright() as playwright,
        playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"]) as browser,
    ):
        page = browser.new_page()
        page.goto(f"{url}/health")
        page.evaluate("document.body.innerHTML = '<div id=output></div>'")
        page.evaluate(f"{shown} {script.replace(URL, url)}; window.read = {read}; window.first = document.title")
        for path in ("/stream_text?prompt=Hi", "/safe_stream?prompt=Hi"):
            assert page.evaluate("(path) => read(path)", path)[-1].keys() & {"done", "is_complete"}
        assert page.evaluate("read('/generate_stream?prompt=Hi&max_tokens=3')") == "rejected"
        page.wait_for_function("document.title !== ''", timeout=LONG_S * 1000)


@needs_chromium
@pytest.mark.long
def test_the_guides_client_for_javascript_reads_a_feed_in_a_page(rooms_url: str) -> None:
    script = (GUIDE / "client.js").read_text().partition("// Usage examples")[0]
    read = "new ChutesStreamingClient('').streamHTTP('/stream_data', { onProgress: (item) => told.push(item) })"
    with (
        sync_playwright() as playwright,
        playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"]) as browser,
    ):
        page = browser.new_page()
        page.goto(f"{rooms_url}/health")
        assert page.evaluate(f"async () => {{ {script} const told = []; return [await {read}, told]; }}") == [FED, FED]


def client_for_python(url: str) -> Any:
    names: dict[str, Any] = {}
    exec(compile((GUIDE / "client.py").read_text(), "client.py", "exec"), names)
    return names["ChutesAsyncClient"](url)


@needs_aiohttp
@pytest.mark.parametrize(
    ("path", "asked", "count"),
    [
        ("/stream_text", {"prompt": "Hi"}, 9),
        ("/generate_image_stream", {"prompt": "Hi", "steps": 1}, 2),
        ("/process_stream", {"data": ["a", "b"], "chunk_size": 1}, 3),
        ("/generate_stream", {"prompt": "Hi", "max_tokens": 0}, 2),
    ],
)
async def test_the_guides_client_for_python_reads_its_streams(url: str, path: str, asked: Any, count: int) -> None:
    async with asyncio.timeout(WAIT_S), client_for_python(url) as client:
        assert len([data async for data in client.stream_http(path, method="POST", data=asked)]) == count


@needs_aiohttp
def test_the_guides_client_for_python_is_used_as_the_guide_uses_it(url: str) -> None:
    """It hears a story to its end, and its chat's welcome, whose handling it awaits: that is no coroutine."""
    script = (GUIDE / "client.py").read_text()
    assert URL in script
    script = script.replace(URL, url) + "asyncio.run(example_usage())"
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=WAIT_S, check=False)
    assert "Generation complete!" in ran.stdout
    assert "Received: {'type': 'system'" in ran.stdout
    assert ran.stderr.splitlines()[-1].startswith("TypeError")


@needs_aiohttp
@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_the_guides_client_for_python_reads_a_feed(rooms_url: str, method: str) -> None:
    told: list[Any] = []
    async with asyncio.timeout(WAIT_S), client_for_python(rooms_url) as client:
        options = {"method": method, "data": {}, "progress_callback": told.append}
        read = [data async for data in client.stream_http("/stream_data", **options)]
    assert read == told
    assert read[:4] == FED


@needs_aiohttp
async def test_the_guides_client_for_python_chats(url: str) -> None:
    handled: list[Any] = []

    async def handle(message: Any) -> None:
        handled.append(message)

    async with asyncio.timeout(WAIT_S), client_for_python(url) as client:
        async for message in client.connect_websocket("/chat", message_handler=handle):
            if message.get("type") == "system":
                await client.send_websocket_message({"type": "user_message", "message": "Hello from Python client!"})
            if message.get("type") == "ai_message_complete":
                break
    assert handled[-2]["content"] == handled[-1]["content"]
