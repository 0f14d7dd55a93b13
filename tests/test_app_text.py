"""The app that reads texts: its steps, formats and failures, by tiny models of the documented classes.

On the page it is shown with the models that come with it.
"""

import json
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from playwright.sync_api import expect
from starlette.testclient import TestClient
from tests.served import blocks, finished, serving, submit
from tests.small_models import one_thread  # noqa: F401 - a fixture
from tests.tabs import Opener
from tests.tabs import serving as serving_page
from tests.text_models import save_checkpoints

from streamapp.errors import Cancelled, DefinitionError, InvalidInput

sys.path.insert(0, str(Path(__file__).parent.parent))  # `apps` is no part of the package

from apps.text.app import _EXAMPLES, Text, load_language_model
from apps.text.models import Models
from apps.text.turns import rest

ASKED = {"text": _EXAMPLES[1], "chunk_size": 50, "include_entities": True}
TEXT = {"Accept": "text/plain"}


_errors: dict[str, BaseException] = {}
_go_on = threading.Event()
_go_on.set()


class Breaking:
    """Be a model that raises, or goes on and on, where that is asked for."""

    def __init__(self, step: str, model: Any) -> None:
        self._step, self._model = step, model

    def __getattr__(self, name: str) -> Any:
        if self._step in _errors:
            raise _errors[self._step]
        if self._step == "summary" and not _go_on.is_set():
            return self._rests
        return getattr(self._model, name)

    def _rests(self, text: str) -> str:
        for _ in range(100_000):  # seconds; where nobody else goes on meanwhile it fails
            rest()
            if _go_on.is_set():
                return "made meanwhile"
        raise TimeoutError


class Served(Text):
    """Read texts, with models that may break."""

    def setup(self) -> None:
        super().setup()
        models: dict[str, Any] = {
            step: Breaking(step, getattr(self.models, step)) for step in ("sentiment", "summary", "entities")
        }
        self.models = Models(**models)


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch:
        for name, value in save_checkpoints(tmp_path_factory.mktemp("models")).items():
            patch.setenv(name, value)
        patch.setenv("STREAMAPP_TEXT_SUMMARY", "")  # BART would take half a second each time
        with serving(Served) as client:
            assert client.post("/generate-stream", json={"prompt": "a", "max_tokens": 1}).is_success  # setup is over
            yield client


def told(client: TestClient, **asked: Any) -> list[dict[str, Any]]:
    answer = client.post("/process-stream", json={**ASKED, **asked})
    assert answer.headers["content-type"].startswith("application/x-ndjson")
    return [json.loads(line) for line in answer.text.splitlines()]


def statuses(events: list[dict[str, Any]]) -> list[str]:
    """Return the statuses, of the same ones behind each other one."""
    found = [event["status"] for event in events if "status" in event]
    return [status for n, status in enumerate(found) if n == 0 or found[n - 1] != status]


Break = Callable[[str, BaseException], None]


@pytest.fixture
def breaks() -> Iterator[Break]:
    """Have a step raise."""
    yield _errors.__setitem__
    _errors.clear()


def test_each_step_tells_how_it_goes_on_and_what_came_of_it(client: TestClient) -> None:
    events = told(client)
    assert statuses(events) == [
        *("started", "chunking", "chunked"),
        *("sentiment_processing", "sentiment_progress", "sentiment_complete"),
        *("summarization_processing", "summarization_complete"),
        *("entities_processing", "entities_progress", "entities_complete"),
        "completed",
    ]
    assert events[0]["text_length"] == len(ASKED["text"])  # type: ignore[arg-type]


def test_each_chunk_s_sentiment_is_told_as_it_is_known(client: TestClient) -> None:
    events = told(client)
    progress = [event for event in events if event["status"] == "sentiment_progress"]
    chunked = next(event for event in events if event["status"] == "chunked")
    assert [event["progress"] for event in progress] == [n / len(progress) for n in range(1, len(progress) + 1)]
    assert chunked["chunks"] == len(progress) > 2
    results = [event["chunk_result"] for event in progress]
    assert [[result["start"], result["end"]] for result in results] == chunked["offsets"]
    complete = next(event for event in events if event["status"] == "sentiment_complete")
    assert complete["chunk_sentiments"] == results


def test_entities_stand_in_the_whole_text_whatever_the_chunks_are(client: TestClient) -> None:
    complete = next(event for event in told(client) if event["status"] == "entities_complete")
    text = str(ASKED["text"])
    assert complete["total_entities"] == len(complete["entities"]) > 0
    assert all(text[entity["start"] : entity["end"]] == entity["text"] for entity in complete["entities"])
    assert sum(map(len, complete["entity_types"].values())) == complete["total_entities"]


def test_the_last_event_has_all_results_and_the_time(client: TestClient) -> None:
    last = told(client)[-1]
    assert last["results"].keys() == {"sentiment", "summary", "entities"}
    assert last["errors"] == []
    assert last["total_processing_time"] > 0


@pytest.mark.parametrize("step", ["sentiment", "summary", "entities"])
def test_a_step_that_is_not_asked_for_is_left_out(client: TestClient, step: str) -> None:
    events = told(client, **{f"include_{step}": False})
    assert events[-1]["results"].keys() == {"sentiment", "summary", "entities"} - {step}
    assert not any(status.startswith(step[:5]) for status in statuses(events))


def test_where_no_step_is_asked_for_the_text_is_but_chunked(client: TestClient) -> None:
    events = told(client, include_sentiment=False, include_summary=False, include_entities=False)
    assert statuses(events) == ["started", "chunking", "chunked", "completed"]


def test_a_short_text_is_its_own_summary_and_that_is_said(client: TestClient) -> None:
    events = told(client, text="It is what it is.")
    assert "summarization_skipped" in statuses(events)
    assert "summary" not in events[-1]["results"]


# Formats


def test_by_sse_it_is_the_same_events(client: TestClient) -> None:
    answer = client.post("/process-stream", json=ASKED, headers={"Accept": "text/event-stream"})
    events = [json.loads(block["data"]) for block in blocks(answer.text)]
    assert statuses(events) == statuses(told(client))


def test_as_json_it_is_the_last_event(client: TestClient) -> None:
    answer = client.post("/process-stream", json=ASKED, headers={"Accept": "application/json"}).json()
    assert (answer["status"], answer["results"].keys()) == ("completed", {"sentiment", "summary", "entities"})


def test_as_text_it_reads_as_lines_for_people(client: TestClient) -> None:
    answer = client.post("/process-stream", json=ASKED, headers=TEXT)
    lines = answer.text.splitlines()
    assert lines[0] == "Beginning text processing..."
    assert "Summary: Mary Jones lives in Paris" in answer.text
    assert lines[-1].startswith("All processing complete! (")
    assert "{" not in answer.text


def test_at_once_the_results_come_without_the_steps(client: TestClient) -> None:
    answer = client.post("/process-batch", json=ASKED).json()
    assert answer["status"] == "completed"
    assert answer["sentiment"].keys() >= {"label", "confidence"}
    assert {"text", "label"} <= answer["entities"][0].keys()
    assert isinstance(answer["summary"], str)
    assert answer["processing_time"] > 0


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"text": "short"}, "at least 10 characters"),
        ({"text": 5001 * "x"}, "at most 5000 characters"),
        ({"text": 20 * " "}, "blanks alone"),
        ({"chunk_size": 49}, "greater than or equal to 50"),
        ({"chunk_size": 501}, "less than or equal to 500"),
    ],
)
def test_what_the_example_does_not_take_is_refused(client: TestClient, changed: Any, said: str) -> None:
    for path in ("/process-stream", "/process-batch"):
        answer = client.post(path, json={**ASKED, **changed})
        assert (answer.status_code, said in answer.text) == (422, True)


def test_the_page_and_the_description_have_its_title(client: TestClient) -> None:
    assert client.get("/openapi.json").json()["info"]["title"] == "Real-time streaming text processing"


# A step that fails


def test_a_step_that_fails_says_so_and_the_others_go_on(client: TestClient, breaks: Break) -> None:
    breaks("sentiment", ValueError("secret"))
    events = told(client)
    failed = next(event for event in events if event["status"] == "sentiment_error")
    assert (failed["step"], failed["error_type"]) == ("sentiment", "ValueError")
    assert "summarization_complete" in statuses(events)
    assert events[-1]["status"] == "completed_with_errors"
    assert [failure["step"] for failure in events[-1]["errors"]] == ["sentiment"]
    assert events[-1]["results"].keys() == {"summary", "entities"}
    assert "secret" not in json.dumps(events)


def test_what_has_failed_inside_is_in_the_log(
    client: TestClient, breaks: Break, caplog: pytest.LogCaptureFixture
) -> None:
    breaks("summary", ValueError("secret"))
    told(client)
    assert "the step summarization of job" in caplog.text
    assert "secret" in caplog.text


def test_an_error_that_is_meant_for_callers_is_told_in_its_words(client: TestClient, breaks: Break) -> None:
    breaks("entities", InvalidInput("this model reads no Greek"))
    answer = client.post("/process-batch", json=ASKED)
    assert answer.status_code == 200
    assert answer.json()["errors"] == [
        {"step": "entities", "error": "this model reads no Greek", "error_type": "InvalidInput"}
    ]
    assert answer.json()["status"] == "completed_with_errors"


def test_where_every_step_fails_the_job_does(client: TestClient, breaks: Break) -> None:
    for step in ("sentiment", "summary", "entities"):
        breaks(step, ValueError("secret"))
    *_, last, error = told(client)
    assert (last["status"], error["error"]["code"]) == ("failed", "endpoint_failed")
    answer = client.post("/process-batch", json=ASKED)
    assert answer.status_code == 500
    assert "sentiment failed by ValueError" in answer.text
    assert "secret" not in answer.text


def test_where_the_only_other_step_was_skipped_the_job_fails_too(client: TestClient, breaks: Break) -> None:
    breaks("sentiment", ValueError("secret"))
    short = {"text": "It is short.", "include_entities": False}
    *_, skipped, last, error = told(client, **short)
    assert (skipped["status"], last["status"], last["results"]) == ("summarization_skipped", "failed", {})
    assert error["error"]["code"] == "endpoint_failed"


def test_to_who_reads_along_a_failure_is_a_line(client: TestClient, breaks: Break) -> None:
    breaks("entities", ValueError("secret"))
    lines = client.post("/process-stream", json=ASKED, headers=TEXT).text.splitlines()
    assert "entities failed by ValueError; the server's log has more" in lines
    assert lines[-1].startswith("Processing complete, but for what has failed: entities (")


def test_a_job_that_was_cancelled_is_no_step_that_failed(client: TestClient, breaks: Break) -> None:
    breaks("summary", Cancelled())
    answer = client.post("/process-stream", json={**ASKED, "include_sentiment": False})
    assert "summarization_error" not in answer.text
    assert "entities" not in answer.text


def test_others_go_on_while_a_text_is_summarised(client: TestClient) -> None:
    _go_on.clear()
    try:
        job_id = submit(client, "/process-stream", **ASKED)
        assert client.post("/process-batch", json={**ASKED, "include_summary": False}).json()["status"] == "completed"
    finally:
        _go_on.set()
    assert "made meanwhile" in finished(client, job_id)


# Text by the language model


def test_a_prompt_is_gone_on_with_in_plain_text(client: TestClient) -> None:
    answer = client.post("/generate-stream", json={"prompt": "Once upon a time", "max_tokens": 10})
    assert answer.headers["content-type"].startswith("text/plain")
    began, _, made = answer.text.partition("\n\nGenerated text: ")
    assert began == "Prompt: Once upon a time"
    assert made.endswith("\n\n[Generation stopped at max_tokens]")
    assert len(made.split()) > 6


def test_a_prompt_that_is_too_long_for_the_model_is_refused(client: TestClient) -> None:
    refused = client.post("/generate-stream", json={"prompt": 5000 * "§"})
    assert (refused.status_code, "tokens" in refused.text) == (422, True)


def test_a_language_model_that_is_none_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DefinitionError, match="STREAMAPP_TEXT_GENERATION=.* cannot be loaded"):
        load_language_model(str(tmp_path))


# In the playground


@pytest.mark.long
def test_what_was_found_is_seen(playground: Opener) -> None:
    with serving_page("apps/text/app.py", OMP_NUM_THREADS="1") as server:
        tab = playground(server, viewport={"width": 1280, "height": 900})
        tab.open("/process-stream", text=_EXAMPLES[1], include_entities=True, chunk_size=50).run().ends()
        expect(tab.output).to_contain_text("All processing complete!")
        expect(tab.output).to_contain_text("chunk_sentiments")
        expect(tab.output).to_contain_text("Google")
