"""Learn which sentences summarize a text: weights of the features in `../extract.py`, and of words.

The target of a sentence is its likeness (ROUGE) to summaries that people wrote; the weights are those under which
better sentences are more likely to be drawn than worse ones of their document.
"""

import json
import math
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from apps.text.extract import FEATURES, Context, stem, words_of
from apps.text.tiny import corpora
from torch.nn import functional

WORDS = 400
"""Words that have a weight of their own, the most frequent ones."""
RARE = 5000
"""Words whose rarity is kept."""
SHARPNESS = 12.0
"""How much more likely the better of two sentences is to be drawn."""
APART = 0.6
"""What a sentence loses that is like one already taken; of several values the best on the documents learnt from."""
GUM_COUNTS = 4
"""How often a document counts that is no abstract: they are few."""


def rouge(candidate: str, reference: str) -> tuple[float, float, float]:
    """Return the F1 of common words, of common pairs, and of the longest common subsequence (ROUGE-1, -2, -L).

    Words are compared in lower case, without endings (`stem`), each as often as it is said.
    Source: C.-Y. Lin, ROUGE: a package for automatic evaluation of summaries, 2004.
    """
    one, other = [stem(word) for word in words_of(candidate)], [stem(word) for word in words_of(reference)]
    singles = overlap(Counter(one), Counter(other))
    pairs = overlap(Counter(zip(one, one[1:], strict=False)), Counter(zip(other, other[1:], strict=False)))
    return singles, pairs, f1(common_length(one, other), len(one), len(other))


def overlap(one: Counter[Any], other: Counter[Any]) -> float:
    """Return the F1 of what two bags have in common."""
    return f1((one & other).total(), one.total(), other.total())


def f1(common: int, one: int, other: int) -> float:
    """Return the harmonic mean of the shares that are in common."""
    return 2 * common / (one + other) if one + other else 0.0


def common_length(one: Sequence[str], other: Sequence[str]) -> int:
    """Return the length of the longest common subsequence."""
    row = [0] * (len(other) + 1)
    for word in one:
        before = 0
        for n, second in enumerate(other, 1):
            above = row[n]
            row[n] = before + 1 if word == second else max(above, row[n - 1])
            before = above
    return row[-1]


def likeness(candidate: str, summaries: Sequence[str]) -> float:
    """Return the mean of ROUGE-1 and ROUGE-2 with the summary that is most like the candidate."""
    return max(sum(rouge(candidate, summary)[:2]) / 2 for summary in summaries)


def rarity(documents: Sequence[corpora.Digest]) -> tuple[dict[str, float], float]:
    """Return log(documents / documents with it) of the frequent words, and that of all others."""
    counts = Counter(word for each in documents for word in set(map(stem, words_of(" ".join(each.sentences)))))
    kept = {word: round(math.log(len(documents) / n), 2) for word, n in counts.most_common(RARE)}
    return kept, max(kept.values())


def learn(documents: Sequence[tuple[corpora.Digest, int]], known: dict[str, float], unknown: float) -> dict[str, float]:
    """Return the weights of features and words.

    Args:
        documents: each with the number of times it counts.
    """
    read = [(Context(each.sentences, known, unknown), each, times) for each, times in documents]
    words = Counter(word for context, _, _ in read for vector in context.vectors for word in vector)
    columns = [*FEATURES, *(f"={word}" for word, _ in words.most_common(WORDS))]
    place = {name: n for n, name in enumerate(columns)}
    prepared = []
    for context, each, times in read:
        rows = torch.zeros(len(each.sentences), len(columns))
        for n in range(len(each.sentences)):
            for name, value in context.features(n).items():
                if name in place:
                    rows[n, place[name]] = value
        worth = torch.tensor([likeness(text, each.summaries) for text in each.sentences])
        prepared.append((rows, torch.softmax(SHARPNESS * worth, 0), times))
    weights = torch.zeros(len(columns), requires_grad=True)
    strength = torch.tensor([0.002] * len(FEATURES) + [0.02] * (len(columns) - len(FEATURES)))
    optimizer = torch.optim.LBFGS([weights], max_iter=120, line_search_fn="strong_wolfe")
    total = sum(times for _, _, times in prepared)

    def loss() -> torch.Tensor:
        optimizer.zero_grad()
        lost = [-times * (target * functional.log_softmax(rows @ weights, 0)).sum() for rows, target, times in prepared]
        value = torch.stack(lost).sum() / total + (strength * weights * weights).sum()
        torch.autograd.backward(value)
        return value

    optimizer.step(loss)  # type: ignore[no-untyped-call]
    return {
        name: round(weight, 3) for name, weight in zip(columns, weights.tolist(), strict=True) if abs(weight) > 0.01
    }


def train(data: Path, out: Path) -> None:
    """Learn, and write `ranker.json`."""
    papers, others = corpora.digests(data, "train"), corpora.gum_digests(data, "train")
    known, unknown = rarity([*papers, *others * GUM_COUNTS])
    documents = [(each, 1) for each in papers] + [(each, GUM_COUNTS) for each in others]
    weights = learn([each for each in documents if len(each[0].sentences) > 1], known, unknown)
    out.mkdir(parents=True, exist_ok=True)
    learnt = {"weights": weights, "rarity": known, "unknown": unknown, "apart": APART}
    (out / "ranker.json").write_text(json.dumps(learnt, ensure_ascii=False, separators=(",", ":")) + "\n")
