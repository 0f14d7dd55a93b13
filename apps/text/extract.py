"""Summarize a text by those of its sentences that say most of it.

Nothing is written anew: what comes out stands in the text, so it cannot say what the text does not. A sentence is
weighed by where it stands, by how much of the whole it is about, and by words that announce a result; the weights are
learnt (`tiny/rank.py`) and lie in `tiny/summary/ranker.json`. It reads texts of any length in time that grows with
their length, and needs nothing but Python.
"""

import json
import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from .sentences import WORD, sentences

POINTERS = frozenset("this that these those it he she they his her its their but and so however also then thus".split())
"""Words which say that a sentence leans on the one before."""
FEATURES = (
    *("first", "second", "early", "place", "last", "words", "brief", "lengthy"),
    *("about", "like_first", "rare", "digits", "capitals", "leans", "ends", "asks", "quotes", "speaks"),
)


def words_of(text: str) -> list[str]:
    """Return the words of a text, in lower case."""
    return [word.lower() for word in WORD.findall(text)]


def stem(word: str) -> str:
    """Return a word without an ending that English words often have."""
    return re.sub(r"(?:'s|’s|ies|es|s|ed|ing|ly)$", "", word) if len(word) > 4 else word


class Context:
    """Know what a text is about: how often each of its words is said, weighed by how rare the word is elsewhere."""

    def __init__(self, texts: Sequence[str], rarity: Mapping[str, float], unknown: float) -> None:
        self.texts = texts
        self.rarity = rarity
        self.unknown = unknown
        self.vectors = [self._vector(text) for text in texts]
        self.whole: Counter[str] = Counter()
        for vector in self.vectors:
            self.whole.update(vector)
        self.norm = math.sqrt(sum(value * value for value in self.whole.values()))

    def _vector(self, text: str) -> dict[str, float]:
        counts = Counter(map(stem, words_of(text)))
        return {word: (1 + math.log(n)) * self.rarity.get(word, self.unknown) for word, n in counts.items()}

    def likeness(self, one: int, other: int) -> float:
        """Return the cosine between two sentences."""
        return cosine(self.vectors[one], self.vectors[other])

    def features(self, n: int) -> dict[str, float]:
        """Return what is known of a sentence, and the words in it."""
        text, vector, count = self.texts[n], self.vectors[n], len(self.texts)
        said = words_of(text)
        norm = math.sqrt(sum(value * value for value in vector.values()))
        dot = sum(value * (self.whole[word] - value) for word, value in vector.items())
        capitals = sum(word[0].isupper() for word in WORD.findall(text)[1:])
        size = max(1, len(said))
        known = {
            "first": float(n == 0),
            "second": float(n == 1),
            "early": 1 / (1 + n),
            "place": n / max(1, count - 1),
            "last": float(n == count - 1 > 0),
            "words": math.log(size) / 4,
            "brief": float(size < 6),
            "lengthy": float(size > 40),
            "about": dot / (norm * self.norm) if norm and self.norm else 0.0,
            "like_first": self.likeness(n, 0) if n else 0.0,
            "rare": sum(vector.values()) / size / 4,
            "digits": float(any(letter.isdigit() for letter in text)),
            "capitals": capitals / size,
            "leans": float(bool(said) and said[0] in POINTERS),
            "ends": float(text.rstrip("\"')”’").endswith((".", "!", "?", "…", "。"))),
            "asks": float(text.rstrip("\"')”").endswith("?")),
            "quotes": float(any(mark in text for mark in '"“”')),
            "speaks": float(any(word in ("i", "you", "my", "your") for word in said)),
        }
        known.update((f"={word}", 1.0) for word in vector)
        return known


def cosine(one: Mapping[str, float], other: Mapping[str, float]) -> float:
    """Return how much two weighted sets of words have in common, 0 to 1."""
    dot = sum(value * other.get(word, 0.0) for word, value in one.items())
    norms = math.sqrt(sum(v * v for v in one.values()) * sum(v * v for v in other.values()))
    return dot / norms if norms else 0.0


class Extractive:
    """Pick sentences by the learnt weights of a folder."""

    def __init__(self, folder: str) -> None:
        learnt = json.loads((Path(folder) / "ranker.json").read_text(encoding="utf-8"))
        self.weights: dict[str, float] = learnt["weights"]
        self.rarity: dict[str, float] = learnt["rarity"]
        self.unknown: float = learnt["unknown"]
        self.apart: float = learnt["apart"]

    def scores(self, context: Context) -> list[float]:
        """Return how well each sentence stands for the whole; only their differences mean something."""
        return [
            sum(value * self.weights.get(name, 0.0) for name, value in context.features(n).items())
            for n in range(len(context.texts))
        ]

    def pick(self, texts: Sequence[str], most: int) -> list[int]:
        """Return the numbers of the best sentences, in the text's order; of equal ones at most the first."""
        context = Context(texts, self.rarity, self.unknown)
        scores = self.scores(context)
        first = {text: n for n, text in reversed(list(enumerate(texts)))}
        left, taken = set(first.values()), list[int]()
        while left and len(taken) < most:
            best = max(left, key=lambda n: (scores[n], -n))
            left.remove(best)
            taken.append(best)
            for n in left:
                scores[n] -= self.apart * context.likeness(n, best)
        return sorted(taken)

    def of(self, text: str, max_sentences: int = 3) -> str:
        """Return the text's best sentences, in its order; the whole of a text that has no more."""
        found = sentences(text)
        if len(found) <= max_sentences:
            return " ".join(found)
        return " ".join(found[n] for n in self.pick(found, max_sentences))
