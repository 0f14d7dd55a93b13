"""The embedded text models: their folders, what they say of plain sentences, and how a text is split and summarized."""

import json
import random
import sys
from pathlib import Path

import pytest
from transformers import AutoConfig, AutoTokenizer

sys.path.insert(0, str(Path(__file__).parent.parent))  # `apps` is no part of the package

from apps.text.extract import Extractive
from apps.text.models import Entities, Sentiment
from apps.text.sentences import LONGEST, sentences
from apps.text.tiny import corpora, evaluate, opinions, rank, train

TINY = Path(evaluate.__file__).parent
NEWS = (
    "Yesterday was a long day. The city of Bern opened a new bridge over the river Aare on Monday, which cars, bikes "
    "and trams will share. It rained a little. The bridge cost 40 million francs, and the city paid for half of it. "
    "My aunt likes bridges. Trams will cross the bridge over the Aare every five minutes."
)


@pytest.fixture(scope="module")
def extractive() -> Extractive:
    return Extractive(str(TINY / "summary"))


@pytest.mark.parametrize("name", evaluate.MEASURES)
def test_a_card_says_what_was_measured_and_every_gate_is_met(name: str) -> None:
    kept = json.loads((TINY / name / "evaluation.json").read_text())
    gates = [evaluate.Gate(key, each["value"], each["gate"] or 0) for key, each in kept.items()]
    assert evaluate.report(gates) in (TINY / name / "README.md").read_text()
    assert [gate for gate in gates if not gate.passed] == []


@pytest.fixture(scope="module")
def sentiment() -> Sentiment:
    return Sentiment(str(TINY / "sentiment"))


@pytest.fixture(scope="module")
def entities() -> Entities:
    return Entities(str(TINY / "entities"))


def test_the_folders_stay_within_6_megabytes() -> None:
    kept = (file for name in ("sentiment", "entities", "summary") for file in (TINY / name).iterdir())
    assert sum(file.stat().st_size for file in kept) <= 6_000_000


# Sentiment


@pytest.mark.parametrize(
    ("text", "label"),
    [
        ("I love this product!", "POSITIVE"),
        ("I love using this amazing new technology! It has completely transformed how I work.", "POSITIVE"),
        ("This is terrible.", "NEGATIVE"),
        ("The food was not good.", "NEGATIVE"),
        ("I don't think your coffee is bad.", "POSITIVE"),
        ("The service was slow and the food cold.", "NEGATIVE"),
        ("Worst service ever", "NEGATIVE"),
        ("The meeting starts at 3 pm on Monday.", "NEUTRAL"),
        ("The phone has a 5 inch screen.", "NEUTRAL"),
    ],
)
def test_the_sentiment_of_a_plain_sentence_is_known(sentiment: Sentiment, text: str, label: str) -> None:
    assert sentiment.of(text)["label"] == label


def test_what_is_made_up_keeps_to_its_half() -> None:
    for held in (False, True):
        rng = random.Random(1)
        pairs = [opinions.pair(rng, opinions.GOOD, held=held) for _ in range(100)]
        assert all(opinions.held_out(*pair) == held for pair in pairs)


def test_a_denied_quality_is_its_contrary() -> None:
    rng = random.Random(2)
    for text, label in (opinions.denial(rng) for _ in range(100)):
        assert label == ("NEGATIVE" if any(f" {word}" in text for word in opinions.GOOD) else "POSITIVE")


def test_the_labels_are_those_of_the_documented_model() -> None:
    labels = AutoConfig.from_pretrained(TINY / "sentiment").id2label
    assert labels == {0: "NEGATIVE", 1: "NEUTRAL", 2: "POSITIVE"}


# Names


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("Maria lives in London.", [("Maria", "PER"), ("London", "LOC")]),
        ("John Smith works for Google in Paris.", [("John Smith", "PER"), ("Google", "ORG"), ("Paris", "LOC")]),
        ("It was a nice day and nothing happened.", []),
    ],
)
def test_plain_names_are_found(entities: Entities, text: str, found: list[tuple[str, str]]) -> None:
    assert [(text[entity["start"] : entity["end"]], entity["label"]) for entity in entities.of(text)] == found


def test_each_token_is_labelled_by_the_name_that_it_lies_in() -> None:
    tokenizer = AutoTokenizer.from_pretrained(TINY / "entities")
    text = "In New York."
    ids, labels = train.label_pieces(tokenizer, corpora.Marked(text, ((3, 11, "LOC"),)), train.tag_of, 0)
    named = {tokenizer.decode([ids[n]]).strip(): train.TAGS[label] for n, label in enumerate(labels) if label >= 0}
    assert (named["In"], named["New"], named["York"], named["."]) == ("O", "B-LOC", "I-LOC", "O")
    assert labels[0] == labels[-1] == train.UNREAD


def test_a_name_is_exchanged_and_what_follows_moves() -> None:
    each = corpora.Marked("Ann met Bo.", ((0, 3, "PER"), (8, 10, "PER")))
    new = train.behind(train.renamed(each, lambda kind: "Charlotte"), each)
    assert new.text == "Charlotte met Charlotte. Ann met Bo."
    assert [new.text[start:end] for start, end, _ in new.marks] == ["Charlotte", "Charlotte", "Ann", "Bo"]


@pytest.mark.parametrize(
    ("tags", "spans"),
    [
        ("B-PER I-PER O B-LOC", [(0, 2, "PER"), (3, 4, "LOC")]),
        ("I-PER I-LOC B-LOC", [(0, 1, "PER"), (1, 2, "LOC"), (2, 3, "LOC")]),
        ("B-corporation I-corporation B-product I-product", [(0, 2, "ORG")]),
    ],
)
def test_tags_are_read_as_spans_of_words(tags: str, spans: list[tuple[int, int, str]]) -> None:
    assert corpora.spans_of(tags.split()) == spans


def test_words_are_put_together_as_people_write_them() -> None:
    words = ["Ann", "'s", "friend", "(", "Bo", ")", "did", "n't", "come", "."]
    text, places = corpora.join(words)
    assert text == "Ann's friend (Bo) didn't come."
    assert [text[start:end] for start, end in places] == words


def test_accounts_are_no_names_and_the_end_of_a_sentence_belongs_to_none() -> None:
    each = corpora.marked(["@", "bob", "left", "London."], ["B-PER", "I-PER", "O", "B-LOC"])
    assert [(each.text[start:end], kind) for start, end, kind in each.marks] == [("London", "LOC")]


# Sentences


@pytest.mark.parametrize(
    ("text", "split"),
    [
        (
            "Dr. Smith met J. R. Brown at 3 p.m. The talk was dull.",
            ["Dr. Smith met J. R. Brown at 3 p.m.", "The talk was dull."],
        ),
        ("It cost 3.50 euros, e.g. for tea. Fine!", ["It cost 3.50 euros, e.g. for tea.", "Fine!"]),
        ("The U.S. Senate met. see fig. 3", ["The U.S. Senate met.", "see fig. 3"]),
        (
            "He said no. She enjoyed the sun. It was No. 5 in May.",
            ["He said no.", "She enjoyed the sun.", "It was No. 5 in May."],
        ),
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


@pytest.mark.parametrize("sign", ["!", ".", "…", "。", "😀", "\n ", "a."])
def test_a_text_of_one_sign_takes_no_longer_than_its_length_says(sign: str) -> None:
    """The square of its length would take an hour."""
    assert "".join(sentences(sign * 500_000 + "a")).replace(" ", "").startswith(sign.strip())


# Summaries


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
