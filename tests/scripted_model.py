"""A tokenizer of letters, and a backend that makes the tokens it is told to: what the engine's tests stand on."""

from collections import deque
from collections.abc import Callable
from typing import Any

from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from streamapp.errors import InvalidInput
from streamapp.llm.generation import Chosen, Running

END = 256


def letters() -> Any:
    """Return a tokenizer whose tokens are bytes, and 256 the end."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    backend = Tokenizer(models.BPE(vocab={letter: n for n, letter in enumerate(alphabet)}, merges=[]))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="<end>")


LETTERS = letters()


class Scripted:
    """Make of each sequence the tokens that `says` gives for it, one in each step, at most `places` at a time.

    Attributes:
        sequences: those it has, in their order; steps: how many were made.
    """

    max_length = 100
    vocabulary = 257

    def __init__(self, says: Callable[[Running], list[int]], places: int = 16) -> None:
        self._says = says
        self._places = places
        self.sequences: dict[Running, deque[int]] = {}
        self.seen: list[Running] = []
        self.steps = 0
        self.fails: Exception | None = None

    def add(self, sequence: Running) -> None:
        if sequence.sampling.min_p:
            raise InvalidInput("min_p: this backend has none")
        self.seen.append(sequence)
        self.sequences[sequence] = deque(self._says(sequence))

    def step(self) -> None:
        self.steps += 1
        for sequence, tokens in [*self.sequences.items()][: self._places]:
            if self.fails is not None:
                sequence.error = self.fails
                del self.sequences[sequence]
                continue
            token = tokens.popleft()
            told = sequence.sampling.logprobs
            sequence.made.append(
                Chosen(token) if told is None else Chosen(token, -0.5, ((token, -0.5), (65, -2.0))[:told])
            )
            limit = sequence.sampling.max_tokens
            if token == END or not tokens or (limit and len(sequence.made) >= limit):
                sequence.finish_reason = "stop" if token == END else "length"
                del self.sequences[sequence]

    def drop(self, sequence: Running) -> None:
        self.sequences.pop(sequence, None)

    def close(self) -> None:
        self.sequences.clear()


def ids(text: str) -> list[int]:
    """Return a text's tokens."""
    return list(LETTERS(text)["input_ids"])
