"""The models that read texts: how they feel, what they are about, whom and what they name.

Each is one of transformers' own classes, from a folder or the hub, in the place of the small one that comes with the
app; any of the documented kinds will do:

    STREAMAPP_TEXT_SENTIMENT=cardiffnlp/twitter-roberta-base-sentiment-latest   for sequence classification
    STREAMAPP_TEXT_SUMMARY=facebook/bart-large-cnn                              from sequence to sequence
    STREAMAPP_TEXT_ENTITIES=dslim/bert-base-NER                                 for token classification

A text that is longer than a model reads goes through it by windows, cut between sentences: nothing is left out. All is
called in the inference thread, and keeps nothing between calls, so that jobs may take turns. Where a job runs, its end
is heard of between windows, and within a summary's tokens; there others may go on, too (`turns`).
"""

import re
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any, Literal, Protocol, TypedDict

import torch
from transformers import (
    AutoModelForSeq2SeqLM,
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
    StoppingCriteria,
)

import streamapp
from streamapp.errors import DefinitionError, EndpointFailed

from .checkpoints import load_checkpoint, refused
from .chunks import Chunk, cut
from .extract import Extractive
from .turns import rest

Label = Literal["NEGATIVE", "NEUTRAL", "POSITIVE"]

EMBEDDED = Path(__file__).parent / "tiny"
LABELS: tuple[Label, ...] = ("NEGATIVE", "NEUTRAL", "POSITIVE")
_FEELING = re.compile(r"(?:(?:very|slightly|somewhat|extremely|strongly|weakly)[ _-])?(neg|neu|pos).*|([1-5]) stars?")
_OF_WORDS: dict[str, Label] = {label[:3].lower(): label for label in LABELS}
_OF_STARS: tuple[Label, ...] = ("NEGATIVE", "NEGATIVE", "NEUTRAL", "POSITIVE", "POSITIVE")
_LONGEST_SUMMARY, _SHORTEST_SUMMARY = 130, 30  # tokens, as in Chutes' example
_MOST_TOKENS = 1024  # in a window, also of models that read more: attention's cost grows with the square
_ON_GPU = 16  # windows in a forward there; one on a CPU, so that each is told as soon as it is read
_DESCRIPTIONS = {
    "PER": "A person",
    "PERSON": "A person",
    "ORG": "An organisation: a company, an agency, an institution",
    "LOC": "A place",
    "GPE": "A country, a city, a state",
    "FAC": "A building, a road, a bridge",
    "NORP": "A nationality, a religious or political group",
    "MISC": "A name of another kind",
    "PRODUCT": "A product",
    "EVENT": "An event",
    "WORK_OF_ART": "A title of a work",
    "LAW": "A law",
    "LANGUAGE": "A language",
    "DATE": "A date",
    "TIME": "A time within a day",
    "MONEY": "An amount of money",
    "PERCENT": "A percentage",
    "QUANTITY": "A measure",
    "CARDINAL": "A number",
    "ORDINAL": "A place in an order",
}


class Feeling(TypedDict):
    """Say how a text feels, and how sure that is: 0 to 1."""

    label: Label
    confidence: float


class Entity(TypedDict):
    """Say what a text names, and where: `text[start:end]`."""

    text: str
    label: str
    description: str | None
    start: int
    end: int


class Summary(Protocol):
    """Say in short what a text says."""

    def of(self, text: str) -> str:
        """Return the summary of a text."""
        ...


@dataclass(frozen=True, slots=True)
class Models:
    """Hold one of each."""

    sentiment: "Sentiment"
    summary: Summary
    entities: "Entities"


def load(environment: Mapping[str, str]) -> Models:
    """Load the models that the environment names, to the GPU where there is one.

    Raises:
        DefinitionError: a name leads to no model, or to one for something else; says which.
    """
    sentiment = environment.get("STREAMAPP_TEXT_SENTIMENT") or str(EMBEDDED / "sentiment")
    summary = environment.get("STREAMAPP_TEXT_SUMMARY")
    entities = environment.get("STREAMAPP_TEXT_ENTITIES") or str(EMBEDDED / "entities")
    return Models(
        sentiment=Sentiment(sentiment),
        summary=Abstractive(summary) if summary else Extractive(str(EMBEDDED / "summary")),
        entities=Entities(entities),
    )


class Sentiment:
    """Tell texts that are negative, neutral or positive.

    Args:
        name: a folder or hub id, of a model for sequence classification. Its labels say negative, neutral or positive,
            or very much so, or are 1 to 5 stars; where it has three without names, they are in this order.
        at_once: windows in a forward, for who has many texts; where None, one on a CPU and 16 on a GPU.
    """

    def __init__(self, name: str, *, at_once: int | None = None) -> None:
        self._read = _Reader("STREAMAPP_TEXT_SENTIMENT", AutoModelForSequenceClassification, name, at_once=at_once)
        self._places = _places(self._read)

    def of(self, text: str) -> Feeling:
        """Say how a text feels; of a long one, how its windows do, each by its length."""
        return next(self.each([text]))

    def each(self, texts: Sequence[str]) -> Iterator[Feeling]:
        """Say so of several, one after another; `at_once` are read at a time."""
        rest = iter(texts)
        while group := list(islice(rest, self._read.batch)):
            windows = [list(self._read.windows(text)) for text in group]
            logits = self._read.logits([window.text for several in windows for window in several])
            for several in windows:
                weights = torch.tensor([max(1.0, len(window.text)) for window in several])
                each = torch.stack([next(logits) for _ in several]).softmax(-1)
                yield self._told((each * (weights / weights.sum())[:, None]).sum(0))

    def _told(self, probabilities: torch.Tensor) -> Feeling:
        found = {label: float(probabilities[places].sum()) for label, places in self._places.items()}
        label = max(found, key=lambda label: found[label])
        return Feeling(label=label, confidence=round(min(found[label], 1.0), 6))


class Entities:
    """Find what texts name.

    Args:
        name: a folder or hub id, of a model for token classification. Its labels are a kind alone, or with B-, I-, L-,
            E-, U- or S- before it, and O for none. A word is what its first token is.
    """

    def __init__(self, name: str) -> None:
        self._read = _Reader("STREAMAPP_TEXT_ENTITIES", AutoModelForTokenClassification, name)
        self._labels: dict[int, str] = self._read.model.config.id2label
        if "O" not in self._labels.values() or not all(self._labels.values()):
            told = ", ".join(map(repr, self._labels.values()))
            raise self._read.refused(f"tells {told[:200]}; expected O for no name, and kinds as PER or B-PER")

    def of(self, text: str) -> list[Entity]:
        """Return the entities of a text, in their order."""
        return [entity for _, entities in self.each(text) for entity in entities]

    def each(self, text: str) -> Iterator[tuple[Chunk, list[Entity]]]:
        """Yield the windows of a text as they are read, and the entities in each."""
        windows = list(self._read.windows(text))
        for start in range(0, len(windows), self._read.batch):
            group = windows[start : start + self._read.batch]
            rows, words = self._read.logits_and_words([window.text for window in group])
            for window, row, its_words in zip(group, rows, words, strict=True):
                yield window, self._entities(text, window, row, its_words)

    def _entities(self, text: str, window: Chunk, row: torch.Tensor, words: "_Words") -> list[Entity]:
        spans: list[tuple[str, int, int]] = []  # of a kind, from where to where
        is_open = False
        for first, start, end in words:
            prefix, kind = _taken_apart(self._labels[int(row[first].argmax())])
            if kind == "O":
                is_open = False
                continue
            begins = window.start + start
            if is_open and spans[-1][0] == kind and prefix not in ("B", "U", "S"):
                begins = spans.pop()[1]
            spans.append((kind, begins, window.start + end))
            is_open = prefix not in ("L", "E", "U", "S")
        return [
            Entity(text=text[start:end], label=kind, description=_DESCRIPTIONS.get(kind), start=start, end=end)
            for kind, start, end in spans
            if _has_letters(text[start:end])
        ]


class Abstractive:
    """Say in words of its own what a text says.

    Args:
        name: a folder or hub id, of a model from sequence to sequence: BART, PEGASUS, T5.
    """

    def __init__(self, name: str) -> None:
        self._read = _Reader("STREAMAPP_TEXT_SUMMARY", AutoModelForSeq2SeqLM, name)
        task = (getattr(self._read.model.config, "task_specific_params", None) or {}).get("summarization", {})
        self._prefix = str(task.get("prefix", ""))
        decoder = getattr(self._read.model.config, "max_position_embeddings", None) or _LONGEST_SUMMARY
        self._longest = min(_LONGEST_SUMMARY, decoder)

    def of(self, text: str) -> str:
        """Return a summary of 130 tokens at most.

        Of what is longer than the model reads, each window is summarised, and then what comes of that, until it is one.
        """
        windows = list(self._read.windows(text, self._prefix))
        while True:
            text = " ".join(filter(None, map(self._generated, windows)))
            count, windows = len(windows), list(self._read.windows(text, self._prefix))
            if count == 1 or len(windows) >= count:  # a window of some models holds no more than a summary
                return text

    def _generated(self, window: Chunk) -> str:
        given = self._read.tokens([self._prefix + window.text])
        shortest = min(_SHORTEST_SUMMARY, self._longest // 2, int(given["input_ids"].shape[1]) // 2)
        with torch.inference_mode():
            made = self._read.model.generate(
                **given.to(self._read.model.device),
                max_length=self._longest,
                min_length=shortest,
                do_sample=False,
                stopping_criteria=[Heard()],
            )
        return str(self._read.tokenizer.decode(made[0], skip_special_tokens=True)).strip()


class Heard(StoppingCriteria):  # type: ignore[misc]  # transformers is half typed
    """Hear of the job's end after each token, and let others go on."""

    def __call__(self, input_ids: torch.Tensor, scores: Any, **kwargs: Any) -> torch.Tensor:
        rest()
        _check()
        return torch.zeros(len(input_ids), dtype=torch.bool, device=input_ids.device)


_Words = list[tuple[int, int, int]]  # of each word in a window: its first token, where it begins and ends


class _Reader:
    """Hold a model with its tokenizer, and read windows by it.

    Args:
        setting: what named it, for messages.
        kind: the class of transformers' that it is loaded by.
        at_once: windows in a forward; where None, one on a CPU and 16 on a GPU. One, too, where nothing fills up the
            shorter ones: GPT-2's kind has no padding.
    """

    def __init__(self, setting: str, kind: Any, name: str, *, at_once: int | None = None) -> None:
        self.setting = setting
        self.name = name
        self.model, self.tokenizer = load_checkpoint(setting, kind, name)
        has_padding = None not in (self.tokenizer.pad_token_id, getattr(self.model.config, "pad_token_id", None))
        self.batch = (at_once or (_ON_GPU if torch.cuda.is_available() else 1)) if has_padding else 1
        if not self.tokenizer.is_fast:
            raise self.refused("has a tokenizer that tells no offsets; take one that is in tokenizer.json")

    def refused(self, why: str) -> DefinitionError:
        """Return what to raise where a model will not do."""
        return refused(self.setting, self.name, why)

    @cached_property
    def most_tokens(self) -> int:
        """How many tokens a window may have, without those that stand around every text."""
        positions = getattr(self.model.config, "max_position_embeddings", None) or _MOST_TOKENS
        # RoBERTa's kind counts positions from behind that of the padding.
        padding = getattr(getattr(self.model.base_model, "embeddings", None), "padding_idx", None)
        reads = min(positions - (0 if padding is None else padding + 1), self.tokenizer.model_max_length, _MOST_TOKENS)
        return max(1, int(reads) - int(self.tokenizer.num_special_tokens_to_add()))

    def windows(self, text: str, prefix: str = "") -> Iterator[Chunk]:
        """Yield the windows in which a text is read; one of none is one."""
        given = self.tokenizer(text, add_special_tokens=False, return_offsets_mapping=True, verbose=False)
        starts = [start for start, _ in given["offset_mapping"]]
        most = max(1, self.most_tokens - (len(self.tokenizer.tokenize(prefix)) if prefix else 0))
        if len(starts) <= most:
            yield Chunk(text, 0, len(text))
            return
        # A window's words may make a few more tokens alone than in the text: of these there is no room for the last.
        most = max(1, most - 2)
        first = 0

        def reach(start: int) -> int:
            nonlocal first
            while first < len(starts) and starts[first] < start:
                first += 1
            return starts[first + most] if first + most < len(starts) else len(text)

        yield from cut(text, lambda start: max(reach(start), start + 1))

    def tokens(self, texts: Sequence[str], **options: Any) -> Any:
        """Return texts as the model is given them."""
        longest = self.most_tokens + self.tokenizer.num_special_tokens_to_add()
        return self.tokenizer(
            list(texts), return_tensors="pt", truncation=True, max_length=longest, padding=len(texts) > 1, **options
        )

    def logits(self, texts: Sequence[str]) -> Iterator[torch.Tensor]:
        """Yield what the model makes of each text, in float32 on the CPU; reads as many at a time as pay."""
        for start in range(0, len(texts), self.batch):
            yield from self._logits(self.tokens(texts[start : start + self.batch]))

    def logits_and_words(self, texts: Sequence[str]) -> tuple[torch.Tensor, list[_Words]]:
        """Return what the model makes of each token of some texts, and the words that these are."""
        given = self.tokens(texts, return_offsets_mapping=True)
        offsets = given.pop("offset_mapping").tolist()
        return self._logits(given), [_words(text, given.word_ids(n), offsets[n]) for n, text in enumerate(texts)]

    def _logits(self, given: Any) -> torch.Tensor:
        _check()
        with torch.inference_mode():
            logits: torch.Tensor = self.model(**given.to(self.model.device)).logits
        if logits.isnan().any():
            raise EndpointFailed(f"the model of {self.setting} has made no numbers of a text")
        return logits.float().cpu()


def _words(text: str, word_ids: Sequence[int | None], offsets: Sequence[Sequence[int]]) -> _Words:
    """Put the tokens of a window together to words, without the blanks that some tokenizers count to them.

    Some part words at blanks alone: there the marks around a word are words of their own, as others have them. Some
    part them at accents that are signs of their own, which here belong to their word.
    """
    tokens: dict[int, list[tuple[int, int, int]]] = {}
    for n, (word, (start, end)) in enumerate(zip(word_ids, offsets, strict=True)):
        if word is not None:
            tokens.setdefault(word, []).append((n, start, end))
    words: _Words = []
    for several in tokens.values():
        lettered = [n for n, (_, start, end) in enumerate(several) if _has_letters(text[start:end])]
        first, last = (lettered[0], lettered[-1]) if lettered else (0, len(several) - 1)
        words += several[:first]
        words.append((several[first][0], several[first][1], several[last][2]))
        words += several[last + 1 :]
    found: _Words = []
    for n, start, end in words:
        said = text[start:end]
        start, end = start + len(said) - len(said.lstrip()), start + len(said.rstrip())
        if found and start == found[-1][2] and _goes_on(text, start):
            n, start, _ = found.pop()
        if start < end:
            found.append((n, start, end))
    return found


def _goes_on(text: str, at: int) -> bool:
    """Say whether what begins at a place belongs to the word before: an accent, or a letter behind one."""
    before, behind = (unicodedata.category(sign)[0] for sign in text[at - 1 : at + 1].ljust(2))
    return behind == "M" or (before == "M" and behind == "L")


def _has_letters(text: str) -> bool:
    return any(sign.isalnum() for sign in text)


def _taken_apart(label: str) -> tuple[str, str]:
    """Return the prefix and the kind of a label: of B-PER, B and PER."""
    found = re.fullmatch(r"(?:([BILEUS])-)?(.+)", label, re.DOTALL)
    assert found is not None
    return found[1] or "", found[2]


def _places(read: _Reader) -> dict[Label, list[int]]:
    """Return which of a model's labels stand for which of ours."""
    names = {int(place): str(label).lower() for place, label in read.model.config.id2label.items()}
    if sorted(names.values()) == ["label_0", "label_1", "label_2"]:
        return {label: [place] for place, label in enumerate(LABELS)}
    found: dict[Label, list[int]] = {label: [] for label in LABELS}
    for place, name in names.items():
        if said := _FEELING.fullmatch(name):
            found[_OF_STARS[int(said[2]) - 1] if said[2] else _OF_WORDS[said[1]]].append(place)
    if sum(map(len, found.values())) != len(names) or not (found["NEGATIVE"] and found["POSITIVE"]):
        told = ", ".join(sorted(names.values()))
        raise read.refused(f"tells {told}; expected negative, neutral and positive, or 1 to 5 stars")
    return found


def _check() -> None:
    """Raise `Cancelled` when the job that runs here is over."""
    try:
        stream = streamapp.current_stream()
    except LookupError:  # none runs here
        return
    stream.check()
