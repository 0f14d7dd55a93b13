"""Chutes' example of streaming: its server and its three clients, as they are written there but for import and URL."""

import importlib.util
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import fal_client
import httpx
import pytest
from playwright.sync_api import sync_playwright
from tests.chromium import CHROMIUM
from tests.documented_models import save_sentiment, save_summary
from tests.documents import EXAMPLE, digest, serving
from tests.fal_packages import needs
from tests.served import blocks, shape
from tests.waiting import LONG_S, WAIT_S, until

import streamapp_client
from streamapp_client.compat import fal

URL = "https://myuser-streaming-processor.chutes.ai"
TEXT = "I love how Microsoft writes. It is fine. " * 4
SAYS_ALL = {"text": TEXT, "include_entities": True, "chunk_size": 100}
STARTS = ["started", "chunking", "chunked"]
SENTIMENT = ["sentiment_processing", "sentiment_progress", "sentiment_progress", "sentiment_complete"]
ENTITIES = ["entities_processing", "entities_complete"]
STATUSES = [*STARTS, *SENTIMENT, "summarization_processing", "summarization_complete", *ENTITIES, "completed"]
NOTHING = {"include_sentiment": False, "include_summary": False}
needs_aiohttp = needs(importlib.util.find_spec("aiohttp") is not None, "aiohttp is missing; run `make install`")
needs_chromium = needs(CHROMIUM is not None, "no chromium: run `make test` as root")


@pytest.fixture(scope="module")
def gate(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Name the pipe that a model waits for which finds it in a text."""
    path = tmp_path_factory.mktemp("gate") / "gate"
    os.mkfifo(path)
    return str(path)


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory, gate: str) -> Iterator[str]:
    models = tmp_path_factory.mktemp("models")
    save_sentiment(models)
    save_summary(models)
    with serving(EXAMPLE / "streaming_processor.py", models, GATE=gate, STREAMAPP_HEARTBEAT_S="1") as (url, _):
        yield url


@pytest.fixture
def client(url: str) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=url, timeout=WAIT_S) as client:
        yield client


def script(name: str, url: str) -> str:
    """Return a client of the example's, with the URL changed."""
    text = (EXAMPLE / name).read_text()
    assert URL in text
    return text.replace(URL, url)


def statuses(lines: Any) -> list[str]:
    return [json.loads(line)["status"] for line in lines if line.strip()]


# As it is written


@pytest.mark.parametrize(
    ("name", "known_by"),
    [
        ("streaming_processor.py", "d1675538ed88f9999b0bb52fed6e79db5c05d635cd1a46f7c4601fe8c1980b0b"),
        ("client.sh", "9be9f2df049be72f336a32eacfe8242442547429a9eaed8353c1018d705373d0"),
        ("client.py", "35c8bb8741aa4a8cc3471d608c04627d3fe43add33791389320c33492867552b"),
        ("client.js", "18a9bf707c3bd51a688bd76f8cb142acc3eb22f3424044dcb932915cefdc154c"),
    ],
)
def test_the_files_are_the_examples_but_for_the_import_and_what_it_lacks(name: str, known_by: str) -> None:
    text = (EXAMPLE / name).read_text().replace("from streamapp.chutes", "from chutes")
    if name == "streaming_processor.py":
        text = text[text.index("import asyncio") : text.index("# === WHAT THE EXAMPLE LACKS ===")]
    assert digest(text) == known_by


def test_the_examples_curl_gets_a_line_of_json_for_each_step(url: str) -> None:
    ran = subprocess.run(["bash", "-c", script("client.sh", url)], capture_output=True, text=True, timeout=WAIT_S)
    told = [json.loads(line) for line in ran.stdout.splitlines() if line]
    progress = [line for line in told if line["status"] == "sentiment_progress"]
    assert [line["progress"] for line in progress] == [1 / 3, 2 / 3, 1]
    assert all(line["chunk_result"]["sentiment"] in ("NEGATIVE", "NEUTRAL", "POSITIVE") for line in progress)
    assert [line["status"] for line in told if line not in progress] == [
        s for s in STATUSES if s != progress[0]["status"]
    ]


@needs_aiohttp
def test_the_examples_client_for_python_says_what_it_hears(url: str) -> None:
    ran = subprocess.run(
        [sys.executable, "-c", script("client.py", url)], capture_output=True, text=True, timeout=WAIT_S, check=True
    )
    printed = ran.stdout.splitlines()
    assert printed[0] == "[started] Beginning text processing..."
    assert printed[-1] == "[completed] All processing complete!"
    assert [line.partition(":")[0] for line in printed if not line.startswith("[")][:2] == [
        "Overall sentiment",
        "Summary",
    ]
    assert "Found 3 entities" in printed


@needs_chromium
def test_the_examples_page_shows_what_it_hears(url: str) -> None:
    """The script asks the server that its page is of: it runs in one that has the elements which it names."""
    with (
        sync_playwright() as playwright,
        playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"]) as browser,
    ):
        page = browser.new_page()
        page.set_default_timeout(LONG_S * 1000)
        page.goto(f"{url}/health")
        page.evaluate("document.body.innerHTML = '<div id=status></div><div id=results></div>'")
        page.evaluate(f"async () => {{ {(EXAMPLE / 'client.js').read_text()}; await streamTextProcessing(); }}")
        assert page.text_content("#status") == "All processing complete!"
        assert "Sentiment: " in (page.text_content("#results") or "")


# What it serves


def test_what_is_asked_for_alone_is_done(client: httpx.Client) -> None:
    for options, told in (
        (NOTHING, []),
        ({**NOTHING, "include_entities": True}, ENTITIES),
        ({"include_summary": False, "chunk_size": 500}, [SENTIMENT[0], *SENTIMENT[2:]]),
    ):
        answer = client.post("/process-stream", json={"text": TEXT, **options})
        assert statuses(answer.text.splitlines()) == [*STARTS, *told, "completed"]


def test_a_parameter_is_the_key_of_its_name_and_text_is_told_as_it_is(client: httpx.Client) -> None:
    with client.stream("POST", "/generate-stream", json={"prompt": "Häuser"}) as answer:
        assert answer.headers["content-type"] == "text/plain; charset=utf-8"
        came, texts = "", answer.iter_text()
        while "intelligence " not in came:
            came += next(texts)
    assert came.startswith("Prompt: Häuser\n\nGenerated text: Artificial intelligence ")


def test_what_is_asked_at_once_comes_as_one_document(client: httpx.Client) -> None:
    answer = client.post("/process-batch", json=SAYS_ALL).json()
    assert set(answer) == {"sentiment", "summary", "entities", "processing_time"}
    assert set(answer["sentiment"]) == {"label", "confidence"}
    assert answer["entities"][0] == {"text": "Microsoft", "label": "ORG"}


@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize(
    "accept", ["text/event-stream", "application/x-ndjson", "text/plain", "application/json", "*/*"]
)
def test_a_stream_is_told_as_the_client_accepts_it(client: httpx.Client, method: str, accept: str) -> None:
    asked: dict[str, Any] = {"text": TEXT, **NOTHING}
    given = {"json": asked} if method == "POST" else {"params": asked}
    answer = client.request(method, "/process-stream", headers={"Accept": accept}, **given)  # type: ignore[arg-type]
    media = "application/x-ndjson" if accept == "*/*" else accept
    assert answer.headers["content-type"].partition(";")[0] == media
    if accept == "application/json":
        assert answer.json()["status"] == "completed"
    elif accept == "text/event-stream":
        told = [json.loads(block["data"]) for block in blocks(answer.text)]
        assert [data["status"] for data in told if "message" in data] == [*STARTS, "completed"]
    else:
        assert statuses(answer.text.splitlines()) == [*STARTS, "completed"]


def test_our_clients_and_fals_get_the_same(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = {"text": TEXT, **NOTHING}
    with streamapp_client.Client(url).stream("/process-stream", asked) as events:
        assert [event.data["status"] for event in events] == [*STARTS, "completed"]
    fal.use(url)
    client = fal_client.SyncClient()
    told = client.stream("myuser/streaming-processor", asked, path="/process-stream")
    assert [data["status"] for data in told] == [*STARTS, "completed"]
    assert client.subscribe("myuser/streaming-processor/process-stream", asked)["status"] == "completed"
    client._client.close()


def test_tagline_and_readme_say_what_it_is(client: httpx.Client) -> None:
    said = client.get("/openapi.json").json()["info"]
    assert said["title"] == "Real-time streaming text processing"
    assert said["description"].startswith("# Streaming Text Processor")


# What is wrong


@pytest.mark.parametrize("path", ["/process-stream", "/process-batch"])
@pytest.mark.parametrize(
    ("asked", "where"),
    [
        ({"text": "short"}, ["body", "text"]),
        ({"text": "x" * 5001}, ["body", "text"]),
        ({"text": TEXT, "chunk_size": 49}, ["body", "chunk_size"]),
        ({"text": TEXT, "chunk_size": "many"}, ["body", "chunk_size"]),
        ({"text": TEXT, "include_summary": "perhaps"}, ["body", "include_summary"]),
        ({}, ["body", "text"]),
    ],
)
def test_what_is_no_input_is_told_by_field(client: httpx.Client, path: str, asked: Any, where: list[str]) -> None:
    answer = client.post(path, json=asked)
    assert answer.status_code == 422
    assert [error["loc"] for error in answer.json()["detail"]] == [where]


@pytest.mark.parametrize("body", ["{", "[]", '"text"', "null", ""])
def test_what_is_no_object_is_refused(client: httpx.Client, body: str) -> None:
    for path in ("/process-stream", "/generate-stream", "/process-batch"):
        answer = client.post(path, content=body, headers={"Content-Type": "application/json"})
        assert shape(answer) == (422, "invalid_input"), path


def test_other_methods_and_paths_are_refused(client: httpx.Client) -> None:
    assert client.put("/process-stream", json={}).status_code == 405
    assert client.delete("/process-batch").status_code == 405
    assert client.post("/process_text_stream", json={}).status_code == 404
    assert client.get("/process-batch").status_code == 405


def test_a_step_that_fails_is_told_and_the_others_go_on(client: httpx.Client) -> None:
    """The example's own words: what a model raises is an item, and the end is told as ever."""
    asked = {"text": TEXT * 20, "include_sentiment": False, "include_entities": True}
    told = [json.loads(line) for line in client.post("/process-stream", json=asked).text.splitlines() if line]
    failed = ["summarization_processing", "summarization_error"]
    assert [line["status"] for line in told] == [*STARTS, *failed, *ENTITIES, "completed"]
    assert "index out of range" in told[4]["error"]


def test_a_client_that_leaves_ends_its_job(client: httpx.Client) -> None:
    asked = {"text": TEXT * 30, "chunk_size": 50, "include_summary": False}
    with client.stream("POST", "/process-stream", json=asked) as answer:
        job = answer.headers["x-streamapp-job-id"]
        next(line for line in answer.iter_lines() if "sentiment_progress" in line)
    until(lambda: client.get(f"/jobs/{job}").json()["status"] == "cancelled")
    came = ""
    with suppress(httpx.RemoteProtocolError), client.stream("GET", f"/jobs/{job}/events") as answer:
        for text in answer.iter_text():
            came += text
    assert 0 < came.count("sentiment_progress") < len(TEXT) * 30 / 50


def test_a_model_that_blocks_holds_up_no_other_request(client: httpx.Client, gate: str) -> None:
    """spaCy is called on the loop that the chute's code runs on, which is not the server's."""
    asked = {"text": f"{TEXT} {gate}", **NOTHING, "include_entities": True}
    with client.stream("POST", "/process-stream", json=asked) as answer:
        job = answer.headers["x-streamapp-job-id"]
        lines = answer.iter_lines()
        told: list[str] = []
        while (line := next(lines)) or ENTITIES[0] not in told:  # up to the first heartbeat while the model blocks
            told += statuses([line])
        assert told == [*STARTS, ENTITIES[0]]
        assert client.get("/health").status_code == 200
        assert client.get(f"/jobs/{job}").json()["status"] == "running"
        with client.stream("GET", f"/jobs/{job}/events") as other:
            assert any(ENTITIES[0] in line for line in other.iter_lines())
        later = client.post("/process-batch", json={"text": TEXT, **NOTHING}, headers={"Prefer": "respond-async"})
        assert later.status_code == 202
        with open(gate, "wb"):
            pass
        assert statuses(lines) == [ENTITIES[1], "completed"]
    result = client.get(f"/jobs/{later.json()['job_id']}/events?_events=named").text
    assert "processing_time" in result


def test_curl_by_http_1_0_gets_all_lines(url: str) -> None:
    asked = json.dumps({"text": TEXT, **NOTHING})
    command = ["curl", "-sN", "--http1.0", f"{url}/process-stream", "-H", "Content-Type: application/json", "-d", asked]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=WAIT_S, check=True)
    assert statuses(ran.stdout.splitlines()) == [*STARTS, "completed"]


@pytest.mark.long
def test_a_drain_ends_a_stream_with_an_error_that_says_so(tmp_path: Path) -> None:
    save_sentiment(tmp_path)
    save_summary(tmp_path)
    with (
        serving(EXAMPLE / "streaming_processor.py", tmp_path, STREAMAPP_DRAIN_S="0.5") as (url, process),
        httpx.stream(
            "POST", f"{url}/process-stream", json={**SAYS_ALL, "text": TEXT * 20, "chunk_size": 50}, timeout=WAIT_S
        ) as answer,
    ):
        lines = answer.iter_lines()
        next(line for line in lines if "sentiment_progress" in line)
        process.send_signal(signal.SIGTERM)
        last: dict[str, Any] = {}
        with pytest.raises(httpx.RemoteProtocolError):
            for line in filter(None, lines):
                last = json.loads(line)
        assert last["error_type"] == "draining"
        assert process.wait(WAIT_S) in (-signal.SIGTERM, 128 + signal.SIGTERM)
