"""The models of the text app, by tiny checkpoints of the documented classes; and where texts are cut for them."""

import contextvars
import itertools
import json
import math
import sys
from pathlib import Path
from typing import Any, cast

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tests.small_models import one_thread  # noqa: F401 - a fixture
from tests.text_models import save_bert, save_checkpoints, save_gpt2_classifier, save_roberta, save_t5

from streamapp.errors import Cancelled, DefinitionError, EndpointFailed
from streamapp.jobs.stream import Stream, enter_stream

sys.path.insert(0, str(Path(__file__).parent.parent))  # `apps` is no part of the package

from apps.text.chunks import cut_by_length
from apps.text.models import Abstractive, Entities, Models, Sentiment, _words, load
from apps.text.sentences import sentences

TEXT = "Mary went to Paris with Dr. Smith. She liked it there! 🎉 "
FAMILY = "👩‍👩‍👧"
ANY_TEXT = st.text(
    st.sampled_from("ab .!?\n\r。é́👩‍🏽🇫🇷") | st.characters(exclude_categories=["Cs"]), min_size=1, max_size=300
)


@pytest.fixture(scope="module")
def named(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    return save_checkpoints(tmp_path_factory.mktemp("models"))


@pytest.fixture(scope="module")
def models(named: dict[str, str]) -> Models:
    return load(named)


# Chunks


@given(ANY_TEXT, st.integers(1, 60))
def test_chunks_are_the_text_in_pieces(text: str, size: int) -> None:
    chunks = cut_by_length(text, size)
    assert "".join(chunk.text for chunk in chunks) == text
    assert all(text[chunk.start : chunk.end] == chunk.text != "" for chunk in chunks)


def test_a_chunk_ends_behind_a_sentence() -> None:
    assert [chunk.text for chunk in cut_by_length("One is here. Two is there! Three?", 18)] == [
        "One is here. ",
        "Two is there! ",
        "Three?",
    ]


def test_a_title_ends_no_sentence() -> None:
    assert cut_by_length("It was then that Dr. Smith came in.", 24)[0].text == "It was then that Dr. "
    assert cut_by_length("It was he. We saw Dr. Smith come in.", 24)[0].text == "It was he. We saw Dr. "
    assert cut_by_length("It is what we saw. Dr. Smith comes.", 24)[0].text == "It is what we saw. "


def test_a_chunk_ends_neither_at_an_abbreviation_nor_within_a_number() -> None:
    assert cut_by_length("Here. We like fruit, e.g. apples.", 28)[0].text == "Here. We like fruit, e.g. "
    assert cut_by_length("It is so. It costs 3.50 euros", 21)[0].text == "It is so. It costs "


def test_a_paragraph_ends_before_its_next_sentence() -> None:
    assert cut_by_length("One two three.\n\nFour. Five.", 24)[0].text == "One two three.\n\n"


def test_chinese_is_cut_behind_its_full_stop() -> None:
    assert [chunk.text for chunk in cut_by_length("我喜欢这个。真的很好。", 8)] == ["我喜欢这个。", "真的很好。"]


@pytest.mark.parametrize("text", ["هل تحب الطعام؟ نعم أحبه كثيرا.", "यह मेरा बड़ा घर है। वह है।"])
def test_arabic_and_hindi_are_cut_behind_their_own_marks(text: str) -> None:
    first, second = (chunk.text for chunk in cut_by_length(text, len(text) - 1))
    assert sentences(text) == [first.rstrip(), second]


def test_where_there_is_no_word_s_end_a_sign_stays_whole() -> None:
    text = 4 * FAMILY
    assert [chunk.text for chunk in cut_by_length(text, 7)] == 4 * [FAMILY]
    assert [chunk.text for chunk in cut_by_length("aé́é́", 3)] == ["aé́", "é́"]
    assert cut_by_length(3 * "🇫🇷", 3)[0].text == "🇫🇷"


def test_a_sign_that_is_longer_than_a_chunk_is_one() -> None:
    assert [chunk.text for chunk in cut_by_length(2 * FAMILY, 2)] == 2 * [FAMILY]


def test_accents_without_an_end_are_cut() -> None:
    assert [len(chunk.text) for chunk in cut_by_length("e" + 999 * "\u0301", 100)] == 10 * [100]
    assert len(cut_by_length("e" + 20 * "\u0301", 10)) == 1


# Sentiment


def test_a_feeling_is_one_of_three(models: Models) -> None:
    feeling = models.sentiment.of(TEXT)
    assert feeling["label"] in ("NEGATIVE", "NEUTRAL", "POSITIVE")
    assert 1 / 3 < feeling["confidence"] <= 1


def test_texts_are_read_one_after_another_as_alone(models: Models) -> None:
    texts = [TEXT, "Paris!", 5 * TEXT]
    assert list(models.sentiment.each(texts)) == [models.sentiment.of(text) for text in texts]


def test_texts_are_read_together_as_alone(named: dict[str, str]) -> None:
    sentiment = Sentiment(named["STREAMAPP_TEXT_SENTIMENT"])
    alone = [sentiment.of(text) for text in (TEXT, "Paris!", 5 * TEXT)]
    sentiment._read.batch = 16
    together = list(sentiment.each([TEXT, "Paris!", 5 * TEXT]))
    assert [feeling["label"] for feeling in together] == [feeling["label"] for feeling in alone]
    both = zip(together, alone, strict=True)
    assert all(one["confidence"] == pytest.approx(other["confidence"], abs=1e-5) for one, other in both)


def test_where_nothing_fills_up_shorter_texts_each_is_read_alone(tmp_path: Path) -> None:
    save_gpt2_classifier(tmp_path)
    texts = [TEXT, "Paris!", 5 * TEXT]
    assert list(Sentiment(str(tmp_path), at_once=16).each(texts)) == list(map(Sentiment(str(tmp_path)).of, texts))


def test_of_a_long_text_the_end_counts_as_well(models: Models) -> None:
    assert models.sentiment.of(10 * TEXT) != models.sentiment.of(10 * TEXT + 10 * "No! ")


def test_a_blank_text_feels_like_something(models: Models) -> None:
    assert 1 / 3 < models.sentiment.of("")["confidence"] <= 1


def test_what_is_no_number_is_no_feeling(named: dict[str, str]) -> None:
    sentiment = Sentiment(named["STREAMAPP_TEXT_SENTIMENT"])
    next(sentiment._read.model.parameters()).data.fill_(math.nan)
    with pytest.raises(EndpointFailed, match="STREAMAPP_TEXT_SENTIMENT"):
        sentiment.of(TEXT)


@pytest.mark.parametrize(
    ("labels", "places"),
    [
        (("LABEL_0", "LABEL_1", "LABEL_2"), {"NEGATIVE": [0], "NEUTRAL": [1], "POSITIVE": [2]}),
        (("POS", "NEU", "NEG"), {"NEGATIVE": [2], "NEUTRAL": [1], "POSITIVE": [0]}),
        (("NEGATIVE", "POSITIVE"), {"NEGATIVE": [0], "NEUTRAL": [], "POSITIVE": [1]}),
        (
            ("Very Negative", "Negative", "Neutral", "Positive", "Very Positive"),
            {"NEGATIVE": [0, 1], "NEUTRAL": [2], "POSITIVE": [3, 4]},
        ),
        (
            ("1 star", "2 stars", "3 stars", "4 stars", "5 stars"),
            {"NEGATIVE": [0, 1], "NEUTRAL": [2], "POSITIVE": [3, 4]},
        ),
    ],
)
def test_labels_are_known_by_their_names(tmp_path: Path, labels: tuple[str, ...], places: Any) -> None:
    save_roberta(tmp_path, labels)
    sentiment = Sentiment(str(tmp_path))
    assert sentiment._places == places
    assert sentiment.of("a")["label"] in ("NEGATIVE", "NEUTRAL", "POSITIVE")


# Entities


def test_an_entity_stands_where_it_says(models: Models) -> None:
    text = f"{20 * TEXT}{FAMILY} 北京 Zoë"  # several windows
    entities = models.entities.of(text)
    assert len(entities) > 20
    assert all(text[entity["start"] : entity["end"]] == entity["text"] != "" for entity in entities)
    assert entities == sorted(entities, key=lambda entity: entity["start"])
    assert not any(" " in entity["text"][:1] + entity["text"][-1:] for entity in entities)


@given(ANY_TEXT)
def test_of_any_text_the_entities_stand_where_they_say(models: Models, text: str) -> None:
    assert all(text[entity["start"] : entity["end"]] == entity["text"] for entity in models.entities.of(text))


WORDS = ("Ann", "Lee", "Bo", "went", "to", "York")


@pytest.mark.parametrize(
    ("labels", "found"),
    [
        ("B-PER I-PER B-PER O O B-LOC", ["Ann Lee", "Bo", "York"]),
        ("B-PER L-PER U-PER O O U-LOC", ["Ann Lee", "Bo", "York"]),
        ("B-PER E-PER S-PER O O S-LOC", ["Ann Lee", "Bo", "York"]),
        ("PER PER ORG O O LOC", ["Ann Lee", "Bo", "York"]),
        ("I-PER I-PER I-ORG O O I-LOC", ["Ann Lee", "Bo", "York"]),
        ("L-PER I-PER O O O O", ["Ann", "Lee"]),
        ("O O O O O O", []),
    ],
)
def test_words_are_joined_as_their_labels_say(tmp_path: Path, labels: str, found: list[str]) -> None:
    names = tuple(dict.fromkeys(labels.split()))
    save_bert(tmp_path, names)
    entities = Entities(str(tmp_path))
    text = " ".join(WORDS)
    said = iter([names.index(label) for label in labels.split()])
    row = torch.zeros(len(text) + 2, len(names))
    words = []
    for word in WORDS:
        start = text.index(word)
        row[start, next(said)] = 1
        words.append((start, start, start + len(word)))
    window = next(iter(entities._read.windows(text)))
    assert [entity["text"] for entity in entities._entities(text, window, row, words)] == found


def test_a_kind_that_is_not_described_has_no_description(tmp_path: Path) -> None:
    save_bert(tmp_path, ("O", "B-VESSEL"))
    entities = Entities(str(tmp_path))
    (window,) = entities._read.windows("Argo")
    (entity,) = entities._entities("Argo", window, torch.eye(2)[[0, 1, 0]], [(1, 0, 4)])
    assert entity == {"text": "Argo", "label": "VESSEL", "description": None, "start": 0, "end": 4}


@pytest.mark.parametrize("labels", [("LABEL_0", "LABEL_1"), ("O", "")])
def test_labels_that_say_nothing_are_refused(tmp_path: Path, labels: tuple[str, ...]) -> None:
    save_bert(tmp_path, labels)
    with pytest.raises(DefinitionError, match="expected O for no name"):
        Entities(str(tmp_path))


def test_where_words_are_parted_at_blanks_alone_marks_belong_to_none() -> None:
    text = "(Ann) saw O'Neil's. :-)"
    tokens = ["(", "Ann", ")", " saw", " O", "'", "Neil", "'", "s", ".", " :", "-)"]
    ends = list(itertools.accumulate(map(len, tokens)))
    offsets = list(zip([0, *ends], ends, strict=False))
    words = _words(text, [0, 0, 0, 1, 2, 2, 2, 2, 2, 2, 3, 3], offsets)
    assert [text[start:end] for _, start, end in words] == ["(", "Ann", ")", "saw", "O'Neil's", ".", ":-)"]
    assert [first for first, _, _ in words] == [0, 1, 2, 3, 4, 9, 10]


def test_an_accent_of_its_own_belongs_to_its_word() -> None:
    text = "Zoe\u0308 fe\u0302te"
    offsets = [(0, 3), (3, 4), (4, 7), (7, 8), (8, 10)]
    assert _words(text, range(5), offsets) == [(0, 0, 4), (2, 5, 10)]


def test_what_has_no_letter_is_no_name(tmp_path: Path) -> None:
    save_bert(tmp_path, ("O", "PER"))
    entities = Entities(str(tmp_path))
    (window,) = entities._read.windows("Bo !?")
    row = torch.eye(2)[[0, 1, 0, 1, 1, 0]]
    assert [each["text"] for each in entities._entities("Bo !?", window, row, [(1, 0, 2), (3, 3, 5)])] == ["Bo !?"]
    assert entities._entities("Bo !?", window, row, [(3, 3, 5)]) == []


# Summaries


def test_a_text_that_is_longer_than_the_model_reads_is_summarised(models: Models) -> None:
    assert isinstance(models.summary, Abstractive)
    assert len(list(models.summary._read.windows(5 * TEXT))) > 1
    assert models.summary.of(5 * TEXT)


def test_before_each_window_stands_what_a_model_is_to_be_told(tmp_path: Path) -> None:
    save_t5(tmp_path)
    summary = Abstractive(str(tmp_path))
    assert summary._prefix == "summarize: "
    text = "a cat sat on a mat and saw a rat"
    assert len(list(summary._read.windows(text))) < len(list(summary._read.windows(text, summary._prefix)))
    assert isinstance(summary.of(text), str)


class Over:
    """Be the stream of a job that is over after some questions."""

    def __init__(self, left: int) -> None:
        self.left = left

    def check(self) -> None:
        self.left -= 1
        if self.left < 0:
            raise Cancelled


def test_a_summary_ends_within_a_token_of_its_job(models: Models) -> None:
    stream = Over(3)
    context = contextvars.copy_context()
    context.run(enter_stream, cast("Stream", stream))
    with pytest.raises(Cancelled):
        context.run(models.summary.of, TEXT)
    assert stream.left == -1


def test_a_long_text_s_entities_end_within_a_window_of_their_job(models: Models) -> None:
    context = contextvars.copy_context()
    context.run(enter_stream, cast("Stream", Over(1)))
    with pytest.raises(Cancelled):
        context.run(models.entities.of, 5 * TEXT)


@pytest.mark.parametrize("text", ["x", "   ", "🎉"])
def test_of_next_to_nothing_there_is_a_summary_as_well(models: Models, text: str) -> None:
    assert isinstance(models.summary.of(text), str)


def test_where_nothing_is_named_the_models_are_those_that_come_with_the_app() -> None:
    text = (
        "Ann lives in Paris. She loves the wonderful sea. Her brother sells fish. It rains. Nobody minds that at all."
    )
    models = load({})
    assert models.sentiment.of("I love this, it is wonderful!")["label"] == "POSITIVE"
    assert all(text[entity["start"] : entity["end"]] == entity["text"] for entity in models.entities.of(text))
    assert all(sentence.strip(" .") in text for sentence in models.summary.of(text).split(". "))


# What a setting may not name


def test_what_is_no_model_is_refused_by_its_setting(tmp_path: Path) -> None:
    with pytest.raises(DefinitionError, match="STREAMAPP_TEXT_ENTITIES=.* cannot be loaded"):
        Entities(str(tmp_path))
    with pytest.raises(DefinitionError, match="STREAMAPP_TEXT_ENTITIES=.*/none is no folder"):
        Entities(str(tmp_path / "none"))


@pytest.mark.parametrize("name", ["/no/such/folder", "./none", "apps/text/tiny/none"])
def test_a_folder_that_is_not_there_is_called_so(name: str) -> None:
    with pytest.raises(DefinitionError, match=f"STREAMAPP_TEXT_ENTITIES={name} is no folder here") as refused:
        Entities(name)
    assert refused.value.__cause__ is None


def test_a_model_for_something_else_is_refused(named: dict[str, str]) -> None:
    with pytest.raises(DefinitionError, match="STREAMAPP_TEXT_SENTIMENT=.*made for something else"):
        Sentiment(named["STREAMAPP_TEXT_SUMMARY"])
    with pytest.raises(DefinitionError, match="STREAMAPP_TEXT_SUMMARY=.*cannot be loaded by AutoModelForSeq2SeqLM"):
        Abstractive(named["STREAMAPP_TEXT_SENTIMENT"])


@pytest.mark.parametrize("labels", [("cats", "dogs"), ("LABEL_0", "LABEL_1"), ("positive",), ("neutral", "positive")])
def test_labels_that_say_nothing_of_feelings_are_refused(tmp_path: Path, labels: tuple[str, ...]) -> None:
    save_roberta(tmp_path, labels)
    told = ", ".join(labels).lower()
    with pytest.raises(DefinitionError, match=f"tells {told}; expected negative, neutral and positive"):
        Sentiment(str(tmp_path))


def test_weights_that_are_cut_off_are_refused(tmp_path: Path) -> None:
    save_roberta(tmp_path, ("negative", "positive"))
    weights = tmp_path / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(DefinitionError, match="STREAMAPP_TEXT_SENTIMENT=.* cannot be loaded"):
        Sentiment(str(tmp_path))


def test_a_model_without_its_tokenizer_is_refused(tmp_path: Path) -> None:
    save_roberta(tmp_path, ("negative", "positive"))
    (tmp_path / "tokenizer.json").unlink()
    with pytest.raises(DefinitionError, match="no words in its tokenizer"):
        Sentiment(str(tmp_path))


def test_the_code_that_a_model_brings_is_not_run(tmp_path: Path) -> None:
    save_roberta(tmp_path, ("negative", "positive"))
    config = json.loads((tmp_path / "config.json").read_text())
    config |= {"model_type": "own", "auto_map": {"AutoConfig": "own.Config"}}
    (tmp_path / "config.json").write_text(json.dumps(config))
    (tmp_path / "own.py").write_text(f"open({str(tmp_path / 'was_run')!r}, 'w')\n")
    with pytest.raises(DefinitionError, match="cannot be loaded"):
        Sentiment(str(tmp_path))
    assert not (tmp_path / "was_run").exists()
