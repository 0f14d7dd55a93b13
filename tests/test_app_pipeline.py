"""The app in which several models read a text: its steps, what is told of them, and what is tried again."""

import itertools
import json
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import pytest
import tokenizers
import torch
from hypothesis import given
from hypothesis import strategies as st
from starlette.testclient import TestClient
from tests.in_session import running
from tests.served import blocks, data, serving, submit
from tests.small_models import one_thread  # noqa: F401 - a fixture
from tests.test_turns import Reader, idle, start
from tests.text_models import save_checkpoints
from tests.waiting import until
from transformers import MarianConfig, MarianMTModel, PreTrainedTokenizerFast

from streamapp import Pause
from streamapp.errors import Cancelled, DefinitionError, InvalidInput, UpstreamFailed

sys.path.insert(0, str(Path(__file__).parent.parent))  # `apps` is no part of the package

from apps.pipeline.app import Data, Part, Pipeline, PipelineInput
from apps.pipeline.retries import Backoff, Retry, retrying
from apps.pipeline.translation import Translator, load

TEXT = "  The library in Leeds\nopened. Ann Clarke liked it. "
CLEANED = "The library in Leeds opened. Ann Clarke liked it."
ALL = ["preprocessing", "sentiment", "entities", "summary", "translation"]


class Plain(Pipeline):
    """Read texts by rules in the place of models, and fail as the test says."""

    def setup(self) -> None:
        models: Any = SimpleNamespace(
            sentiment=SimpleNamespace(of=lambda text: {"label": "POSITIVE", "confidence": 0.8}),
            entities=SimpleNamespace(of=lambda text: [{"text": "Leeds", "label": "LOC", "start": 15, "end": 20}]),
            summary=SimpleNamespace(of=lambda text: text[:11]),
        )
        self.models = models
        self.translator = None

    @cached_property
    def failures(self) -> list[Exception]:
        """What the next runs of the step `sentiment` raise."""
        return []

    @cached_property
    def runs(self) -> list[str]:
        return []

    def sentiment(self, data: Data, parts: Sequence[Part]) -> Data:
        self.runs.append("sentiment")
        if self.failures:
            raise self.failures.pop(0)
        return super().sentiment(data, parts)


class Sentences(Plain):
    """Translate sentence by sentence, by a connection that breaks."""

    def translation(self, data: Data, parts: Sequence[Part]) -> Iterator[Pause | Part | Data]:
        for word in ("eins", "zwei", "drei")[len(parts) :]:
            if self.failures and len(parts) == 2:
                raise self.failures.pop(0)
            self.runs.append(word)
            yield Part(word, 3)
        yield {"translated_text": " ".join(part.text for part in parts)}


@pytest.fixture
def app() -> Plain:
    return Plain()


@pytest.fixture
def client(app: Plain) -> Iterator[TestClient]:
    with serving(app) as client:
        yield client


def told(client: TestClient, **asked: Any) -> list[Any]:
    return data(client.post("/pipeline_stream", json={"text": TEXT, "delay_s": 0, **asked}).text)


def brief(events: Sequence[Mapping[str, Any]]) -> list[str]:
    return [f"{event['step']} {event['status']}" for event in events]


# The steps


def test_each_step_is_told_of_in_the_guides_words_with_what_was_found_so_far(client: TestClient) -> None:
    events = told(client, steps=["preprocessing", "sentiment", "entities", "summary"])
    assert brief(events) == [
        *[f"{step} {status}" for step in ALL[:4] for status in ("starting", "completed")],
        "pipeline_complete completed",
    ]
    assert events[0] == {"step": "preprocessing", "status": "starting", "input": {"text": TEXT}}
    assert events[1]["result"] == {"cleaned_text": CLEANED, "word_count": 9}
    assert events[3]["accumulated_data"] == {
        "text": TEXT,
        **events[1]["result"],
        "sentiment": "positive",
        "sentiment_score": 0.8,
    }
    assert events[-1]["final_result"] == {
        **events[3]["accumulated_data"],
        "entities": [{"text": "Leeds", "type": "LOC", "label": "LOC", "start": 15, "end": 20}],
        "summary": "The library",
    }


def test_an_event_keeps_what_was_found_by_then(app: Plain) -> None:
    app.setup()
    events = list(app.pipeline_stream(PipelineInput(text=TEXT)))
    assert [len(event["input"]) for event in events if event["status"] == "starting"] == [1, 3, 5, 6, 7]


def test_steps_run_in_the_order_that_is_asked_for_and_no_others(client: TestClient) -> None:
    events = told(client, steps=["summary", "sentiment"])
    assert brief(events)[::2] == ["summary starting", "sentiment starting", "pipeline_complete completed"]
    assert events[-1]["final_result"]["summary"] == TEXT[:11]


@pytest.mark.parametrize(
    "asked",
    [
        {"steps": ["summary", "summary"]},
        {"steps": ["x"]},
        {"steps": []},
        {"text": ""},
        {"text": " \n"},
        {"text": "x" * 20_001},
    ],
)
def test_what_cannot_be_run_is_refused(client: TestClient, asked: dict[str, Any]) -> None:
    assert client.post("/pipeline_stream", json={"text": TEXT, **asked}).status_code == 422


def test_without_a_model_for_it_the_translation_is_skipped_and_says_why(client: TestClient) -> None:
    *_, skipped, last = told(client)
    assert (skipped["status"], "STREAMAPP_PIPELINE_TRANSLATION" in skipped["reason"]) == ("skipped", True)
    assert (last["status"], last["steps"]) == (
        "completed",
        {**dict.fromkeys(ALL, "completed"), "translation": "skipped"},
    )


def test_the_models_of_the_text_app_read_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for setting, name in save_checkpoints(tmp_path).items():
        monkeypatch.setenv(setting, name)
    with serving(Pipeline) as client:
        *_, last = told(client)
    assert last["status"] == "completed"
    assert {"sentiment", "entities", "summary"} < last["final_result"].keys()


# What fails


def test_a_step_that_fails_for_a_while_says_so_and_is_tried_again(app: Plain, client: TestClient) -> None:
    app.failures += [ConnectionResetError("at 10.0.0.7"), TimeoutError()]
    events = told(client, steps=["sentiment"])
    assert brief(events) == [
        *["sentiment starting", "sentiment retry", "sentiment retry", "sentiment completed"],
        "pipeline_complete completed",
    ]
    assert events[1] == {
        **{"type": "retry", "step": "sentiment", "status": "retry", "attempt": 1, "max_retries": 3, "delay_s": 0},
        "error": "the step sentiment failed with ConnectionResetError; the server's log says why",
        "error_type": "ConnectionResetError",
    }


def test_what_a_step_has_delivered_is_neither_made_nor_told_again() -> None:
    app = Sentences()
    with serving(app) as client:
        app.failures += [ConnectionError(), ConnectionError()]
        events = told(client, steps=["translation"])
    told_of = [event.get("partial_result", event["status"]) for event in events]
    assert told_of == ["starting", "eins", "zwei", "retry", "retry", "drei", "completed", "completed"]
    assert app.runs == ["eins", "zwei", "drei"]
    assert [event["done"] for event in events if event["status"] == "progress"] == [1, 2, 3]
    assert events[-1]["final_result"]["translated_text"] == "eins zwei drei"


def test_the_first_error_ends_it_and_nothing_says_that_it_was_completed(
    app: Plain, client: TestClient, caplog: pytest.LogCaptureFixture
) -> None:
    app.failures += [ValueError("the password is 1234")]
    events = told(client)
    assert brief(events)[2:] == ["sentiment starting", "sentiment error", "pipeline_complete error"]
    what = {
        "error": "the step sentiment failed with ValueError; the server's log says why",
        "error_type": "ValueError",
    }
    assert events[-2] == {"type": "error", "step": "sentiment", "status": "error", **what}
    not_run = dict.fromkeys(ALL[2:], "not_run")
    assert events[-1] == {
        **{"step": "pipeline_complete", "status": "error", "failed_step": "sentiment", **what},
        "steps": {"preprocessing": "completed", "sentiment": "error", **not_run},
        "final_result": {"text": TEXT, "cleaned_text": CLEANED, "word_count": 9},
    }
    assert "1234" in caplog.text
    assert re.search("the step sentiment of job [0-9a-f]{32} failed for good", caplog.text)


def test_a_step_that_goes_on_failing_is_given_up(app: Plain, client: TestClient) -> None:
    app.failures += [UpstreamFailed("nobody answers")] * 9
    events = told(client, steps=["preprocessing", "sentiment"], max_retries=2)[2:]
    assert [event["status"] for event in events] == ["starting", "retry", "retry", "error", "error"]
    assert events[-1]["error"] == "Failed after 2 retries: nobody answers"


def test_where_nothing_was_found_the_job_has_failed_as_well(app: Plain, client: TestClient) -> None:
    app.failures += [ValueError(), ValueError()]
    *_, last, failure = told(client, steps=["sentiment", "summary"])
    assert (last["status"], failure["error"]["message"]) == ("error", last["error"])
    asked = {"text": TEXT, "steps": ["sentiment"]}
    assert client.post("/pipeline_stream", json=asked, headers={"Accept": "application/json"}).status_code == 500


# What is asked for, and how


def test_lines_are_told_to_who_asks_for_them_and_the_end_alone_to_who_asks_for_one_answer(client: TestClient) -> None:
    asked = {"text": TEXT}
    lines = client.post("/pipeline_stream", json=asked, headers={"Accept": "application/x-ndjson"}).text
    whole = client.post("/pipeline_stream", json=asked, headers={"Accept": "application/json"})
    assert json.loads(lines.splitlines()[-1]) == whole.json()
    assert whole.json()["step"] == "pipeline_complete"


def test_who_comes_back_hears_the_rest_and_no_step_runs_again(app: Plain, client: TestClient) -> None:
    job = submit(client, "/pipeline_stream", text=TEXT)
    heard = blocks(client.get(f"/jobs/{job}/events").text)
    cut = next(n for n, block in enumerate(heard) if '"sentiment","status":"completed"' in block.get("data", ""))
    rest = client.get(f"/jobs/{job}/events", headers={"Last-Event-ID": heard[cut]["id"]})
    assert [block["data"] for block in blocks(rest.text)] == [block["data"] for block in heard[cut + 1 :]]
    assert app.runs == ["sentiment"]


async def test_while_a_step_waits_to_be_tried_again_others_run_and_its_end_is_heard() -> None:
    app = Plain()
    async with running(app) as runtime:
        app.failures += [ConnectionError()]
        asked = PipelineInput(text=TEXT, steps=["sentiment"], max_retries=10, delay_s=60)
        waiting = await start(runtime, "/pipeline_stream", input=asked)
        assert brief(await waiting.hear(2)) == ["sentiment starting", "sentiment retry"]
        other = await start(runtime, "/pipeline_stream", input=PipelineInput(text=TEXT))
        assert (await other.hear())[-1]["status"] == "completed"
        assert not waiting.job.is_over
        app.failures += [ConnectionError()] * 10
        waiting.job.cancel()
        await idle(runtime)  # within what a test waits, and the retries would take longer
        assert len(app.failures) == 10


# Retries


def script(*failures: int) -> Any:
    """Return what makes 0, 1, 2 ... 5, and fails in each run at the item that is said."""
    ends = iter(failures)

    def run(start: int = 0) -> Iterator[int]:
        end = next(ends, 6)
        for item in range(start, 6):
            if item >= end:
                raise ConnectionError
            yield item

    return run


@given(st.lists(st.integers(0, 5), max_size=6), st.integers(0, 5), st.booleans())
def test_whatever_fails_all_comes_once_and_in_order_or_the_error_does(
    failures: list[int], max_retries: int, skips: bool
) -> None:
    make = script(*failures)
    run = (lambda delivered: itertools.islice(make(), delivered, None)) if skips else make
    came: list[Any] = []
    try:
        came += retrying(run, Backoff(max_retries, 0), where="it")
    except ConnectionError:
        came.append("error")
    items = [item for item in came if isinstance(item, int)]
    retries = [item.attempt for item in came if isinstance(item, Retry)]
    fails = len(failures) > max_retries
    assert items == list(range(max(failures[: max_retries + 1], default=0) if fails else 6))
    assert retries == list(range(1, min(len(failures), max_retries) + 1))
    assert (came[-1] == "error") == fails


def test_retries_come_later_and_later_to_a_bound_and_not_all_at_once() -> None:
    backoff = Backoff(delay_s=1)
    waits = [[backoff.before(attempt) for _ in range(50)] for attempt in range(1, 10)]
    for longest_s, times in zip([1, 2, 4, 8, 16, 32, 60, 60, 60], waits, strict=True):
        assert longest_s / 2 <= min(times) < max(times) <= longest_s


def test_between_two_runs_is_a_pause_of_the_time_that_was_told() -> None:
    _, retry, pause, *_ = retrying(script(1), Backoff(), where="it")
    assert isinstance(retry, Retry) and isinstance(pause, Pause)
    assert pause.for_s == retry.delay_s


def test_a_pause_of_the_run_itself_is_passed_on_and_is_nothing_that_was_delivered() -> None:
    def run(delivered: int) -> Iterator[Any]:
        yield Pause()
        yield delivered
        if not delivered:
            raise TimeoutError

    came = list(retrying(run, Backoff(1, 0), where="it"))
    assert [item for item in came if isinstance(item, int)] == [0, 1]
    assert sum(isinstance(item, Pause) for item in came) == 3


@pytest.mark.parametrize("error", [ValueError(), InvalidInput("no text"), Cancelled()])
def test_what_no_run_helps_against_passes_at_once(error: BaseException) -> None:
    runs: list[int] = []

    def run(delivered: int) -> Iterator[int]:
        runs.append(delivered)
        raise error

    with pytest.raises(type(error)):
        list(retrying(run, Backoff(), where="it"))
    assert runs == [0]


def test_who_leaves_ends_the_run_and_its_own_errors_are_none_of_the_run() -> None:
    closed: list[int] = []

    def run(delivered: int) -> Iterator[int]:
        try:
            yield from range(9)
        finally:
            closed.append(delivered)

    left: Any = retrying(run, Backoff(), where="it")
    next(left)
    left.close()
    failing: Any = retrying(run, Backoff(), where="it")
    next(failing)
    with pytest.raises(ConnectionError):
        failing.throw(ConnectionError())
    assert closed == [0, 0]


# Translation


@pytest.fixture(scope="module")
def marian(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a model of Marian's kind, tiny and random, whose tokens are letters."""
    folder = tmp_path_factory.mktemp("marian")
    signs = ["</s>", "<unk>", "<pad>", *map(chr, range(32, 127))]
    letters = tokenizers.Tokenizer(
        tokenizers.models.BPE({sign: n for n, sign in enumerate(signs)}, merges=[], unk_token="<unk>")
    )
    letters.decoder = tokenizers.decoders.Fuse()
    letters.post_processor = tokenizers.processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 0)])
    special = {"eos_token": "</s>", "unk_token": "<unk>", "pad_token": "<pad>"}
    PreTrainedTokenizerFast(tokenizer_object=letters, **special).save_pretrained(folder)
    torch.manual_seed(0)
    sizes = {f"{part}_{what}": n for part in ("encoder", "decoder") for what, n in _SIZES.items()}
    config = MarianConfig(
        vocab_size=len(signs), d_model=16, max_position_embeddings=32, **_IDS, **sizes, forced_eos_token_id=0
    )
    MarianMTModel(config).save_pretrained(folder)
    return folder


_SIZES = {"layers": 1, "attention_heads": 2, "ffn_dim": 16}
_IDS = {"pad_token_id": 2, "eos_token_id": 0, "decoder_start_token_id": 2}


def test_a_model_of_marians_kind_translates_piece_by_piece(marian: Path) -> None:
    class Translating(Plain):
        def setup(self) -> None:
            super().setup()
            self.translator = load({"STREAMAPP_PIPELINE_TRANSLATION": str(marian)})

    with serving(Translating) as client:
        _, *parts, whole, _ = told(client, steps=["translation"])
    assert [part["done"] for part in parts] == list(range(1, parts[0]["total"] + 1))
    assert whole["result"]["translated_text"] == "".join(part["partial_result"] for part in parts)
    assert len(parts) > 1


def test_nothing_of_a_text_is_left_out_and_no_piece_is_longer_than_the_model_reads(marian: Path) -> None:
    translator = Translator(str(marian))
    pieces = translator.pieces(TEXT * 3 + "ä" * 50)
    assert "".join(pieces) == TEXT * 3 + "ä" * 50
    assert max(map(len, pieces)) < 32
    assert translator.of("  \n") == "  \n"


async def test_a_translation_hears_of_the_end_of_its_job(marian: Path) -> None:
    class Ending(Plain):
        readers: ClassVar[list[Reader]] = []

        def setup(self) -> None:
            super().setup()
            self.translator = Translator(str(marian))

        def translation(self, data: Data, parts: Sequence[Part]) -> Iterator[Pause | Part | Data]:
            for item in super().translation(data, parts):
                until(lambda: bool(self.readers))
                self.readers[0].job.cancel()
                self.runs.append("piece")
                assert self.translator
                self.translator.of("more")
                yield item

    app = Ending()
    async with running(app) as runtime:
        asked = PipelineInput(text=TEXT, steps=["translation"])
        app.readers.append(await start(runtime, "/pipeline_stream", input=asked))
        await idle(runtime)
    assert app.runs == ["piece"]


def test_a_name_that_leads_to_no_model_is_told_with_the_setting(tmp_path: Path) -> None:
    assert load({}) is None
    with pytest.raises(DefinitionError, match="STREAMAPP_PIPELINE_TRANSLATION=.* cannot be loaded"):
        Translator(str(tmp_path))
