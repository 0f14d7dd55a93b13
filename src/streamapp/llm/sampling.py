"""Choose each sequence's next token of the model's logits: all rows at once, each as its own request says.

The order is that of transformers, which its processors are compared with: bias, repetition, presence and frequency,
temperature, top_k, top_p, min_p. What no row asks for costs nothing. A draw is a number of the sequence's own
generator, looked up in the cumulated probabilities: it depends on nobody beside it.

Log probabilities are those of the model's own distribution: before bias, penalties and temperature, as OpenAI and vLLM
tell them.
"""

import random
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from ..errors import EndpointFailed
from .generation import Chosen, Running, Sampling

_LEAST = -9999.0  # what is told of a token that cannot come, as vLLM does: JSON has no infinity
_BITS = 48
_UNIT = 2.0**-48  # of a draw: 1 - 2**-48 times a sum of probabilities is less than that sum, in float64


class State:
    """Hold what choosing needs of one sequence: its draws, and which tokens it has had."""

    __slots__ = ("_draws", "is_penalized", "made", "sequence")

    def __init__(self, sequence: Running) -> None:
        asked = sequence.sampling
        self.sequence = sequence
        self.is_penalized = bool(
            asked.presence_penalty or asked.frequency_penalty or asked.repetition_penalty not in (None, 1)
        )
        self.made: Counter[int] = Counter()  # where it is penalized
        self._draws = random.Random(sequence.seed)

    def draw(self) -> float:
        """Return the next number of the sequence's own, in [0, 1)."""
        return self._draws.getrandbits(_BITS) * _UNIT


class Sampler:
    """Choose tokens; in one thread at a time. Which sequences stand in the rows may change with each step."""

    def __init__(self) -> None:
        self._plan = _Plan((), torch.empty(0, 0))

    def begin(self, sequence: Running) -> State:
        """Return what to keep for a sequence while it runs."""
        return State(sequence)

    @torch.inference_mode()
    def choose(self, logits: Tensor, states: Sequence[State]) -> list[Chosen | None]:
        """Choose a token for each row; waits for the device once.

        Args:
            logits: (rows, vocabulary), of any floating type.
        Returns:
            One for each state. None where the logits are no distribution (NaN or infinite): then the error is in
            `state.sequence.error`, and the other rows are as they would be without it.
        """
        if self._plan.states != tuple(states):
            self._plan = _Plan(tuple(states), logits)
        return self._plan.choose(logits.float())


class _Penalties(NamedTuple):
    """Hold what discourages tokens in some of the rows: (rows, 1) each, and (rows, vocabulary) what they have had."""

    rows: Tensor
    repetition: Tensor
    presence: Tensor
    frequency: Tensor
    counts: Tensor
    is_seen: Tensor

    def applied(self, scores: Tensor) -> Tensor:
        """Return these rows' scores without what the penalties take off."""
        repeated = torch.where(scores < 0, scores * self.repetition, scores / self.repetition)
        scores = torch.where(self.is_seen, repeated, scores)
        return scores - self.presence * (self.counts > 0) - self.frequency * self.counts

    def take_in(self, tokens: Tensor) -> None:
        """Take in what was chosen, a token for each row."""
        self.counts.scatter_add_(1, tokens[:, None], torch.ones_like(self.repetition))
        self.is_seen.scatter_(1, tokens[:, None], True)


class _Plan:
    """Hold what the rows of a step ask for, as tensors, which serve until the rows are others."""

    def __init__(self, states: tuple[State, ...], logits: Tensor) -> None:
        self.states = states
        self._device = logits.device
        self._sums_on = torch.device("cpu") if self._device.type == "mps" else self._device  # Apple's knows no float64
        asked = [state.sequence.sampling for state in states]
        self._alternatives = max((-1 if one.logprobs is None else one.logprobs for one in asked), default=-1)
        self._bias = self._biases(asked)
        self._penalties = self._penalties_of([row for row, one in enumerate(states) if one.is_penalized], logits)
        self._drawn = [row for row, one in enumerate(asked) if one.temperature != 0]
        self._drawn_rows = self._indices(self._drawn)
        drawn = [asked[row] for row in self._drawn]
        self._temperature = self._column([_temperature(one) for one in drawn])
        top_k = [one.top_k or 0 for one in drawn]
        top_p = [1.0 if one.top_p is None else one.top_p for one in drawn]
        self._top_k = self._indices(top_k)[:, None]
        self._top_p = self._column(top_p)
        # So many of the likeliest tokens are looked at; all of them where top_p alone says how many there are.
        self._width = max((k or (p < 1) * logits.shape[-1] for k, p in zip(top_k, top_p, strict=True)), default=0)
        self._min_p = self._column([one.min_p or 0.0 for one in drawn]) if any(one.min_p for one in drawn) else None

    def choose(self, logits: Tensor) -> list[Chosen | None]:
        """Choose a token for each row of (rows, vocabulary) float32."""
        scores = self._discouraged(logits)
        tokens = scores.argmax(-1)
        if self._drawn:
            tokens[self._drawn_rows] = self._draw(scores[self._drawn_rows])
        if self._penalties is not None:
            self._penalties.take_in(tokens[self._penalties.rows])
        # One tensor, so that the device is waited for once; float32 holds ids up to 16 million.
        columns = [tokens.float()[:, None], logits.amax(-1, keepdim=True).isfinite().float()]
        if self._alternatives >= 0:
            columns += self._log_probabilities(logits, tokens)
        return [self._chosen(*row) for row in zip(self.states, torch.cat(columns, 1).tolist(), strict=True)]

    def _chosen(self, state: State, row: list[float]) -> Chosen | None:
        token, is_finite = int(row[0]), row[1]
        if not is_finite:
            state.sequence.error = EndpointFailed(
                "the model's logits for this prompt are no distribution (NaN or infinite); is its dtype too small?"
            )
            return None
        if state.is_penalized:
            state.made[token] += 1
        count = state.sequence.sampling.logprobs
        if count is None:
            return Chosen(token)
        half = 3 + (len(row) - 3) // 2
        return Chosen(token, row[2], tuple(zip(map(int, row[3:half]), row[half:], strict=True))[:count])

    def _log_probabilities(self, logits: Tensor, tokens: Tensor) -> list[Tensor]:
        """Return columns: that of the token, the ids of the likeliest tokens, and theirs."""
        told = logits.log_softmax(-1).clamp(min=_LEAST)
        likeliest = told.topk(min(self._alternatives, told.shape[-1]))
        return [told.take_along_dim(tokens[:, None], 1), likeliest.indices.float(), likeliest.values]

    def _discouraged(self, logits: Tensor) -> Tensor:
        """Add the biases and take the penalties off; what came is left as it was."""
        if self._bias is None and self._penalties is None:
            return logits
        scores = logits.clone()
        if self._bias is not None:
            rows, ids, values = self._bias
            scores.index_put_((rows, ids), values, accumulate=True)
        if self._penalties is not None:
            scores[self._penalties.rows] = self._penalties.applied(scores[self._penalties.rows])
        return scores

    def _draw(self, scores: Tensor) -> Tensor:
        """Draw a token of each row, with the number that its sequence has drawn."""
        scores = (scores - scores.amax(-1, keepdim=True)) / self._temperature
        probabilities = self._kept(scores).softmax(-1).to(self._sums_on)
        cumulated = probabilities.cumsum(-1, dtype=torch.float64)
        numbers = torch.tensor([self.states[row].draw() for row in self._drawn], dtype=torch.float64)
        # Made on the device they would have it waited for, and once more at the end.
        drawn = numbers.to(self._sums_on, non_blocking=True)[:, None] * cumulated[:, -1:]
        found = torch.searchsorted(cumulated, drawn, right=True)[:, 0]
        return found.clamp(max=scores.shape[-1] - 1).to(self._device)  # only a row that is no distribution is past it

    def _kept(self, scores: Tensor) -> Tensor:
        """Put -inf where top_k, top_p or min_p leave a token out."""
        if self._width:
            ordered, order = scores.topk(min(self._width, scores.shape[-1]))
            last = (self._top_k - 1).clamp(min=0, max=ordered.shape[-1] - 1)
            is_less = ordered < ordered.take_along_dim(last, 1)
            ordered = ordered.masked_fill(is_less & (self._top_k > 0), -torch.inf)
            probabilities = ordered.softmax(-1)
            # Where what is likelier has reached top_p, nothing more is needed.
            is_over = probabilities.cumsum(-1) - probabilities >= self._top_p
            is_over[:, 0] = False
            ordered = ordered.masked_fill(is_over & (self._top_p < 1), -torch.inf)
            is_bounded = (self._top_k > 0) | (self._top_p < 1)
            scores = torch.where(is_bounded, -torch.inf, scores).scatter(1, order, ordered)
        if self._min_p is not None:
            scores = scores.masked_fill(scores.exp() < self._min_p, -torch.inf)  # the likeliest token's score is 0
        return scores

    def _biases(self, asked: Sequence[Sampling]) -> tuple[Tensor, Tensor, Tensor] | None:
        found = [(row, token, bias) for row, one in enumerate(asked) for token, bias in one.logit_bias.items()]
        if not found:
            return None
        rows, ids, values = zip(*found, strict=True)
        return self._indices(rows), self._indices(ids), torch.tensor(values, dtype=torch.float32, device=self._device)

    def _penalties_of(self, rows: list[int], logits: Tensor) -> _Penalties | None:
        if not rows:
            return None
        states = [self.states[row] for row in rows]
        asked = [state.sequence.sampling for state in states]
        counts = torch.zeros(len(rows), logits.shape[-1], device=self._device)
        for row, state in zip(counts, states, strict=True):
            row[self._indices([*state.made])] = torch.tensor([*state.made.values()], device=self._device).float()
        is_seen = counts > 0
        for seen, state in zip(is_seen, states, strict=True):
            seen[self._indices(state.sequence.prompt)] = True
        return _Penalties(
            self._indices(rows),
            self._column([one.repetition_penalty or 1.0 for one in asked]),
            self._column([one.presence_penalty for one in asked]),
            self._column([one.frequency_penalty for one in asked]),
            counts,
            is_seen,
        )

    def _indices(self, numbers: Sequence[int]) -> Tensor:
        return torch.tensor(numbers, dtype=torch.long, device=self._device)

    def _column(self, numbers: Sequence[float]) -> Tensor:
        return torch.tensor(numbers, dtype=torch.float32, device=self._device)[:, None]


def _temperature(sampling: Sampling) -> float:
    """Return what to divide by; less than a hundred-thousandth makes no difference, and float32 ends there."""
    return 1.0 if sampling.temperature is None else max(sampling.temperature, 1e-5)
