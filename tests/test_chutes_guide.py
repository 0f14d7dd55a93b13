"""The chat and the document of Chutes' guide to streaming, on rooms, and the guide's own clients, unchanged but for the
URL.
"""

import asyncio
import importlib.util
import os
import shutil
import subprocess
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from playwright.sync_api import sync_playwright
from starlette.testclient import TestClient, WebSocketTestSession
from tests.apps.chutes_rooms import Guide
from tests.chromium import CHROMIUM
from tests.documents import APPS, GUIDE, digest
from tests.fal_packages import needs, needs_node
from tests.processes import read_until, serving
from tests.served import serving as serving_here
from tests.waiting import WAIT_S

FED = [{"n": 0}, {"n": 1}, {"n": 2}, {"done": True}]
URL = "https://myuser-my-chute.chutes.ai"
needs_chromium = needs(CHROMIUM is not None, "no chromium: run `make test` as root")
needs_aiohttp = needs(importlib.util.find_spec("aiohttp") is not None, "aiohttp is missing; run `make install`")


@pytest.fixture
def guide() -> Iterator[TestClient]:
    with serving_here(Guide) as client:
        yield client


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with serving(f"{APPS / 'chutes_rooms.py'}:Guide", env=os.environ) as (url, _):
        yield url


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


@needs_node
def test_the_guides_client_for_javascript_chats(url: str) -> None:
    """Node has no EventSource: the first of the two examples of its use is left out."""
    client, _, uses = (GUIDE / "client.js").read_text().partition("// HTTP Streaming example")
    script = client + uses[uses.index("// WebSocket example") :]
    assert URL in script
    script = "const updateChatInterface = (content) => console.log(content);\n" + script.replace(URL, url)
    command = [str(shutil.which("node")), "--experimental-websocket", "-e", script]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert read_until(process.stdout, "AI!") == "You said: Hello, AI! \n"
        process.kill()


@needs_chromium
def test_the_guides_client_for_javascript_reads_a_feed_in_a_page(url: str) -> None:
    script = (GUIDE / "client.js").read_text().partition("// Usage examples")[0]
    read = "new ChutesStreamingClient('').streamHTTP('/stream_data', { onProgress: (item) => told.push(item) })"
    with (
        sync_playwright() as playwright,
        playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"]) as browser,
    ):
        page = browser.new_page()
        page.goto(f"{url}/health")
        assert page.evaluate(f"async () => {{ {script} const told = []; return [await {read}, told]; }}") == [FED, FED]


@needs_aiohttp
@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_the_guides_client_for_python_reads_a_feed(url: str, method: str) -> None:
    names: dict[str, Any] = {}
    exec(compile((GUIDE / "client.py").read_text(), "client.py", "exec"), names)
    told: list[Any] = []
    async with asyncio.timeout(WAIT_S), names["ChutesAsyncClient"](url) as client:
        options = {"method": method, "data": {}, "progress_callback": told.append}
        read = [data async for data in client.stream_http("/stream_data", **options)]
    assert read == told
    assert read[:4] == FED


@needs_aiohttp
async def test_the_guides_client_for_python_chats(url: str) -> None:
    names: dict[str, Any] = {}
    exec(compile((GUIDE / "client.py").read_text(), "client.py", "exec"), names)
    handled: list[Any] = []

    async def handle(message: Any) -> None:
        handled.append(message)

    async with asyncio.timeout(WAIT_S), names["ChutesAsyncClient"](url) as client:
        async for message in client.connect_websocket("/chat", message_handler=handle):
            if message.get("type") == "system":
                await client.send_websocket_message({"type": "user_message", "message": "Hello from Python client!"})
            if message.get("type") == "ai_message_complete":
                break
    assert handled[-1] == {"type": "ai_message_complete", "content": "You said: Hello from Python client! "}
