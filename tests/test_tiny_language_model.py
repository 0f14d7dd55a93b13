"""The embedded language model: its folder, the stories and talks that it was trained on, and its training script."""

import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))  # `apps` is no part of the package

from apps.llm.tiny import evaluate, stories, talks, train  # noqa: E402

MODEL = evaluate.MODEL
ANY_TEXT = "Zürich 東京 🐉👩‍👩‍👧 \x00\t<|end"


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return AutoTokenizer.from_pretrained(MODEL, local_files_only=True)


def test_the_folder_stays_within_6_megabytes() -> None:
    assert sum(file.stat().st_size for file in MODEL.rglob("*") if file.is_file()) <= 6_000_000


def test_any_text_is_read_and_written(tokenizer: Any) -> None:
    assert tokenizer.decode(tokenizer(ANY_TEXT)["input_ids"]) == ANY_TEXT


def test_a_conversation_is_written_as_it_was_learned(tokenizer: Any) -> None:
    said: list[talks.Message] = talks.talk(random.Random(7))
    written = tokenizer.apply_chat_template(said, return_dict=False)
    assert written == train.encode(tokenizer, said)[0][:-1]


def test_a_tool_s_answer_is_read_as_something_that_is_said(tokenizer: Any) -> None:
    said = [{"role": "user", "content": "hi"}, {"role": "tool", "content": "4"}]
    assert tokenizer.apply_chat_template(said, tokenize=False).endswith("<|system|>4<|end|>")


def test_the_model_makes_as_many_as_its_words(tokenizer: Any) -> None:
    model = AutoModelForCausalLM.from_pretrained(MODEL, dtype=torch.float32, local_files_only=True)
    assert model.config.vocab_size == len(tokenizer)
    assert evaluate.perplexity(model, [train.encode(tokenizer, train.plain(random.Random(3), held=True))]) < 2


def test_it_remembers_a_name_that_it_has_never_heard(tokenizer: Any) -> None:
    model = AutoModelForCausalLM.from_pretrained(MODEL, dtype=torch.float32, local_files_only=True)
    talk = evaluate.asks("My name is Mazzu.", "Hello, Mazzu!", "What is my name?")
    assert "Mazzu" in evaluate.answers(model, tokenizer, [talk], seed=0, temperature=0, most=16)[0]


def test_training_tells_of_no_pair_that_is_held_out() -> None:
    rng = random.Random(0)
    told, held = ([stories.draw(rng, held=is_held) for _ in range(300)] for is_held in (False, True))
    assert not any(stories.held_out(cast.being, cast.thing) for cast in told)
    assert all(stories.held_out(cast.being, cast.thing) for cast in held)


def test_a_story_names_its_hero_and_leaves_no_place_unfilled() -> None:
    rng = random.Random(0)
    for _ in range(200):
        cast = stories.draw(rng)
        story = stories.tell(rng, cast)
        assert cast.name in story.text
        assert "{" not in story.text + story.sequel


def test_a_name_is_asked_for_behind_its_being_told() -> None:
    it = talks.Talk(random.Random(0))
    talks.give_name(it)
    talks.ask_name(it)
    assert it.name in it.messages[-1]["content"]


@pytest.mark.long
def test_training_runs_from_nothing_to_a_model_that_loads(tmp_path: Path) -> None:
    """The smallest run there is; the full one is `make train-llm`."""
    command = [sys.executable, "-m", "apps.llm.tiny.train", "--smoke", "--out", str(tmp_path / "model")]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    assert AutoModelForCausalLM.from_pretrained(tmp_path / "model").config.num_hidden_layers == 2


def test_a_missed_gate_fails_the_report() -> None:
    missed, met = evaluate.Gate("names", 80.0, 90), evaluate.Gate("perplexity", 2.0, 3, "per token")
    assert [missed.passed, met.passed] == [False, True]
    assert "| names | 80.00 % | >= 90 | **no** |" in evaluate.report([missed, met])
