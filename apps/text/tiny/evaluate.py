"""Measure the embedded text models against their gates, each beside what needs no model.

    python -m apps.text.tiny.evaluate --data DIR            # the gates, as a table
    python -m apps.text.tiny.evaluate --data DIR --write    # and into each model's folder, for its card

What is held out: GoEmotions' test split, a fifth of the reviews, pairs of a thing and a quality in sentences that are
made up; Universal NER's test split; SciTLDR's test split and GUM's dev and test documents.
"""

import argparse
import json
import random
import re
import sys
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

import torch
from apps.text.extract import Extractive, words_of
from apps.text.models import Entities
from apps.text.tiny import corpora, opinions, rank
from transformers import AutoModelForSequenceClassification, AutoTokenizer

TINY = Path(__file__).parent
Span = tuple[int, int, str]
TABLE = re.compile(r"^\| measured, % .*?\|$(?=\n\n|\n?\Z)", re.MULTILINE | re.DOTALL)
"""The figures in a card."""
HEADING = 5
"""Words that a sentence of the baseline has at least: headings summarize nothing."""


@dataclass(frozen=True)
class Gate:
    """Hold a measurement in percent, and the least that it has to be; 0 for what is only said beside it."""

    name: str
    value: float
    bound: float = 0

    @property
    def passed(self) -> bool:
        """Say whether the bound is met."""
        return self.value >= self.bound


def share(each: Sequence[bool]) -> float:
    """Return how many of them are true, in percent."""
    return 100 * sum(each) / len(each)


# --- Sentiment -----------------------------------------------------------------------------------------------------


@torch.inference_mode()
def feelings(model: Any, tokenizer: Any, texts: Sequence[str]) -> list[list[float]]:
    """Return the logits of each text's labels."""
    order = sorted(range(len(texts)), key=lambda n: len(texts[n]))
    found: dict[int, list[float]] = {}
    for at in range(0, len(order), 64):
        some = order[at : at + 64]
        given = tokenizer(
            [texts[n] for n in some], padding=True, truncation=True, return_tensors="pt", return_token_type_ids=False
        )
        found.update(zip(some, model(**given).logits.tolist(), strict=True))
    return [found[n] for n in range(len(texts))]


def labelled(model: Any, tokenizer: Any, texts: Sequence[str]) -> list[str]:
    """Return the label of each text."""
    return [corpora.LABELS[max(range(3), key=row.__getitem__)] for row in feelings(model, tokenizer, texts)]


def measure_sentiment(folder: Path, data: Path) -> list[Gate]:
    """Measure the labels of what is held out."""
    model = AutoModelForSequenceClassification.from_pretrained(folder, dtype=torch.float32).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    comments, reviews = corpora.emotions(data, "test"), corpora.reviews(data, held=True)
    said = labelled(model, tokenizer, [text for text, _ in comments])
    right = [label == truth for label, (_, truth) in zip(said, comments, strict=True)]
    gates = [
        Gate("comments (GoEmotions), accuracy", share(right), 62),
        Gate("comments, the most frequent label", share([truth == "POSITIVE" for _, truth in comments])),
    ]
    for label in corpora.LABELS:
        recall = share([ok for ok, (_, truth) in zip(right, comments, strict=True) if truth == label])
        precision = share([truth == label for one, (_, truth) in zip(said, comments, strict=True) if one == label])
        gates += [Gate(f"comments, recall of {label}", recall, 50), Gate(f"comments, precision of {label}", precision)]
    logits = feelings(model, tokenizer, [text for text, _ in reviews])
    two = ["POSITIVE" if row[2] > row[0] else "NEGATIVE" for row in logits]
    three = [corpora.LABELS[max(range(3), key=row.__getitem__)] for row in logits]
    truths = [truth for _, truth in reviews]
    made = random.Random("evaluate")
    invented = [opinions.opinion(made, held=True) for _ in range(500)]
    denied = [opinions.denial(made, held=True) for _ in range(500)]
    return [
        *gates,
        Gate("reviews, accuracy of three labels", share([a == b for a, b in zip(three, truths, strict=True)]), 75),
        Gate("reviews, accuracy of the better of two", share([a == b for a, b in zip(two, truths, strict=True)]), 80),
        Gate("reviews, the most frequent label", share([truth == "POSITIVE" for truth in truths])),
        Gate("sentences made up, accuracy", agreed(model, tokenizer, invented), 90),
        Gate("sentences made up that deny, accuracy", agreed(model, tokenizer, denied), 90),
    ]


def agreed(model: Any, tokenizer: Any, each: Sequence[corpora.Opinion]) -> float:
    """Return the share of texts that get their label."""
    said = labelled(model, tokenizer, [text for text, _ in each])
    return share([label == truth for label, (_, truth) in zip(said, each, strict=True)])


# --- Names ---------------------------------------------------------------------------------------------------------


class Gazetteer:
    """Find the names that were marked in what is learnt, each of the kind that it mostly is: the longest first."""

    def __init__(self, known: Iterable[corpora.Marked]) -> None:
        kinds: defaultdict[str, Counter[str]] = defaultdict(Counter)
        for each in known:
            for start, end, kind in each.marks:
                kinds[each.text[start:end]][kind] += 1
        self.kinds = {name: counts.most_common(1)[0][0] for name, counts in kinds.items()}
        self.longest = max(len(name.split()) for name in self.kinds)

    def names_of(self, each: corpora.Marked) -> list[Span]:
        """Return the names in a text, by its words."""
        places = [match.span() for match in corpora.WORDS.finditer(each.text)]
        found, n = [], 0
        while n < len(places):
            for size in range(min(self.longest, len(places) - n), 0, -1):
                start, end = places[n][0], places[n + size - 1][1]
                if kind := self.kinds.get(each.text[start:end]):
                    found.append((start, end, kind))
                    n += size - 1
                    break
            n += 1
        return found


def scores(said: Sequence[Sequence[Span]], truths: Sequence[Sequence[Span]]) -> tuple[float, float, float]:
    """Return precision, recall and F1 of spans that are right from end to end, and of the right kind, in percent."""
    common = sum(len({*a} & {*b}) for a, b in zip(said, truths, strict=True))
    ours, theirs = sum(map(len, said)), sum(map(len, truths))
    precision, recall = common / max(1, ours), common / max(1, theirs)
    return 100 * precision, 100 * recall, 200 * precision * recall / max(1e-9, precision + recall)


def measure_entities(folder: Path, data: Path) -> list[Gate]:
    """Measure the names that are found in Universal NER's test split."""
    entities = Entities(str(folder))  # as the app does
    held = corpora.uner(data, "test")
    truths = [each.marks for each in held]
    said = [[(name["start"], name["end"], name["label"]) for name in entities.of(each.text)] for each in held]
    gazetteer = Gazetteer(corpora.names(data))
    listed = [gazetteer.names_of(each) for each in held]
    precision, recall, f1 = scores(said, truths)
    gates = [
        Gate("names (Universal NER), F1", f1, 45),
        Gate("names, precision", precision),
        Gate("names, recall", recall),
        Gate("names, F1 of a list of those learnt", scores(listed, truths)[2]),
    ]
    for kind in corpora.KINDS:
        ours, theirs = ([[each for each in some if each[2] == kind] for some in all_] for all_ in (said, truths))
        gates.append(Gate(f"names, F1 of {kind}", scores(ours, theirs)[2]))
    places = scores(*([[(a, b, "") for a, b, _ in some] for some in all_] for all_ in (said, truths)))
    return [*gates, Gate("names, F1 whatever their kind", places[2])]


# --- Summaries -----------------------------------------------------------------------------------------------------


def measure_summary(folder: Path, data: Path) -> list[Gate]:
    """Measure ROUGE of the picked sentences and of the first ones, with the summary that each is most like."""
    extractive = Extractive(str(folder))
    papers, others = corpora.digests(data, "test"), corpora.gum_digests(data, "dev", "test")
    gates = []
    for name, documents, count, bound in (
        ("abstracts (SciTLDR), one sentence", papers, 1, 36.0),
        ("documents (GUM), one sentence", others, 1, 28.0),
        ("documents (GUM), three sentences", others, 3, 0.0),
    ):
        picked: list[tuple[float, float, float]] = []
        first: list[tuple[float, float, float]] = []
        for each in documents:
            texts = each.sentences
            full = [n for n, text in enumerate(texts) if len(words_of(text)) >= HEADING] or list(range(len(texts)))
            for numbers, found in ((extractive.pick(texts, count), picked), (full[:count], first)):
                said = " ".join(texts[n] for n in numbers)
                found.append(max((rank.rouge(said, summary) for summary in each.summaries), key=lambda r: r[0] + r[1]))
        for n, kind in enumerate(("ROUGE-1", "ROUGE-2", "ROUGE-L")):
            gates.append(Gate(f"{name}, {kind}", 100 * fmean(each[n] for each in picked), bound if n == 0 else 0))
            gates.append(Gate(f"{name}, {kind} of the first", 100 * fmean(each[n] for each in first)))
    return gates


# --- The whole -----------------------------------------------------------------------------------------------------

MEASURES = {"sentiment": measure_sentiment, "entities": measure_entities, "summary": measure_summary}


def report(gates: Sequence[Gate]) -> str:
    """Return a table in Markdown, as the cards have it."""
    rows = [f"| {gate.name} | {gate.value:.1f} | {f'>= {gate.bound:g}' if gate.bound else ''} |" for gate in gates]
    return "\n".join(["| measured, % | value | gate |", "|---|---|---|", *rows]) + "\n"


def main() -> int:
    """Measure, report, and fail if a gate is missed."""
    parser = argparse.ArgumentParser(description="Measure the embedded text models against their gates.")
    parser.add_argument("--data", type=Path, required=True, help="folder of the corpora (corpora.py says which)")
    parser.add_argument("--models", type=Path, default=TINY, help="folder of the models' folders")
    parser.add_argument("--only", choices=MEASURES, help="one of the models")
    parser.add_argument(
        "--write", action="store_true", help="keep the figures beside each model: evaluation.json, and its card"
    )
    arguments = parser.parse_args()
    passed = True
    for name, measure in MEASURES.items():
        if arguments.only in (None, name):
            gates = measure(arguments.models / name, arguments.data)
            sys.stdout.write(f"{name}\n\n{report(gates)}\n")
            passed = passed and all(gate.passed for gate in gates)
            if arguments.write:
                figures = {gate.name: {"value": round(gate.value, 1), "gate": gate.bound or None} for gate in gates}
                file = arguments.models / name / "evaluation.json"
                file.write_text(json.dumps(figures, indent=1) + "\n")
                card = arguments.models / name / "README.md"
                card.write_text(TABLE.sub(report(gates).rstrip(), card.read_text()))
    return 0 if passed else 1


if __name__ == "__main__":
    sys.exit(main())
