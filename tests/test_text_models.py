"""The embedded text models: their folders, what they say of plain sentences, and how a text is split and summarized."""

import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForSequenceClassification, AutoModelForTokenClassification, AutoTokenizer

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))  # `apps` is no part of the package

from apps.text.extract import LONGEST, Extractive, sentences  # noqa: E402
from apps.text.tiny import rank  # noqa: E402

TINY = ROOT / "apps" / "text" / "tiny"
NEWS = (
    "Yesterday was a long day. The city of Bern opened a new bridge over the river Aare on Monday, which cars, bikes "
    "and trams will share. It rained a little. The bridge cost 40 million francs, and the city paid for half of it. "
    "My aunt likes bridges. Trams will cross the bridge over the Aare every five minutes."
)


@pytest.fixture(scope="module")
def extractive() -> Extractive:
    return Extractive(str(TINY / "summary"))


@pytest.fixture(scope="module")
def feels() -> tuple[Any, Any]:
    model = AutoModelForSequenceClassification.from_pretrained(TINY / "sentiment", dtype=torch.float32)
    return model.eval(), AutoTokenizer.from_pretrained(TINY / "sentiment")


@pytest.fixture(scope="module")
def finds() -> tuple[Any, Any]:
    model = AutoModelForTokenClassification.from_pretrained(TINY / "entities", dtype=torch.float32)
    return model.eval(), AutoTokenizer.from_pretrained(TINY / "entities")


def test_the_folders_stay_within_6_megabytes() -> None:
    kept = (file for name in ("sentiment", "entities", "summary") for file in (TINY / name).iterdir())
    assert sum(file.stat().st_size for file in kept) <= 6_000_000


# --- Sentiment -----------------------------------------------------------------------------------------------------


@torch.inference_mode()
def label_of(feels: tuple[Any, Any], text: str) -> str:
    model, tokenizer = feels
    return str(model.config.id2label[int(model(**tokenizer(text, return_tensors="pt")).logits[0].argmax())])


@pytest.mark.parametrize(
    ("text", "label"),
    [
        ("I love this product!", "POSITIVE"),
        ("I love using this amazing new technology! It has completely transformed how I work.", "POSITIVE"),
        ("This is terrible.", "NEGATIVE"),
        ("The food was not good.", "NEGATIVE"),
        ("Worst service ever", "NEGATIVE"),
        ("The meeting starts at 3 pm on Monday.", "NEUTRAL"),
        ("The phone has a 5 inch screen.", "NEUTRAL"),
    ],
)
def test_the_sentiment_of_a_plain_sentence_is_known(feels: tuple[Any, Any], text: str, label: str) -> None:
    assert label_of(feels, text) == label


def test_the_labels_are_those_of_the_documented_model(feels: tuple[Any, Any]) -> None:
    assert feels[0].config.id2label == {0: "NEGATIVE", 1: "NEUTRAL", 2: "POSITIVE"}


# --- Sentences -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "split"),
    [
        (
            "Dr. Smith met J. R. Brown at 3 p.m. The talk was dull.",
            ["Dr. Smith met J. R. Brown at 3 p.m.", "The talk was dull."],
        ),
        ("It cost 3.50 euros, e.g. for tea. Fine!", ["It cost 3.50 euros, e.g. for tea.", "Fine!"]),
        ("The U.S. Senate met. see fig. 3", ["The U.S. Senate met.", "see fig. 3"]),
        ("Well... it is good. i like it", ["Well... it is good.", "i like it"]),
        ('He said "Stop." Then he left. (It was late.)', ['He said "Stop."', "Then he left.", "(It was late.)"]),
        ("great stuff 😀 The next is bad 😡😡", ["great stuff 😀", "The next is bad 😡😡"]),
        ("Hi! 😀 Next.", ["Hi! 😀", "Next."]),
        ("Title\n\n- one\n- two\n1. three", ["Title", "- one", "- two", "1. three"]),
        ("今日は。いい天気！", ["今日は。", "いい天気！"]),
        ("no punctuation\nat all", ["no punctuation at all"]),
        ("?!", ["?!"]),
        (" \n ", []),
    ],
)
def test_a_text_is_split_where_its_sentences_end(text: str, split: list[str]) -> None:
    assert sentences(text) == split


def test_words_without_an_end_are_cut_and_none_is_lost() -> None:
    text = " ".join(f"word{n}" for n in range(1000))
    found = sentences(text)
    assert " ".join(found) == text
    assert max(len(each.split()) for each in found) == LONGEST


# --- Summaries -----------------------------------------------------------------------------------------------------


def test_a_summary_has_the_best_sentences_in_the_text_s_order(extractive: Extractive) -> None:
    found = sentences(NEWS)
    said = sentences(extractive.of(NEWS, max_sentences=2))
    assert len(said) == 2
    assert found.index(said[0]) < found.index(said[1])
    assert said[0].startswith("The city of Bern opened")


@pytest.mark.parametrize("text", ["", "One sentence.", "One. Two. Three.", "no end"])
def test_a_text_that_is_short_is_its_own_summary(extractive: Extractive, text: str) -> None:
    assert extractive.of(text) == text


def test_a_sentence_that_is_said_again_is_taken_once(extractive: Extractive) -> None:
    said = extractive.of(f"{NEWS} {NEWS}", max_sentences=3)
    assert len(set(sentences(said))) == 3


def test_a_very_long_text_is_summarized_by_as_few(extractive: Extractive) -> None:
    assert len(sentences(extractive.of(NEWS * 200, max_sentences=3))) <= 3


def test_rouge_counts_words_pairs_and_the_order_of_words() -> None:
    assert rank.rouge("the trams opened", "The tram opened.") == (1, 1, 1)
    assert rank.rouge("sat the cat", "the cat sat") == pytest.approx((1, 1 / 2, 2 / 3))
    assert rank.rouge("", "the cat") == (0, 0, 0)
