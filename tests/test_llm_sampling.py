"""Choosing tokens: each row as its own request says, as transformers' processors have it, and whoever is beside."""

from collections import Counter
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers.generation.logits_process import (
    LogitsProcessorList,
    MinPLogitsWarper,
    RepetitionPenaltyLogitsProcessor,
    SequenceBiasLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from streamapp.errors import EndpointFailed
from streamapp.llm.generation import Running, Sampling
from streamapp.llm.sampling import Sampler, State

VOCABULARY = 50
LOGITS = torch.randn(6, VOCABULARY, generator=torch.Generator().manual_seed(3)) * 3
PROMPT = [4, 9, 9, 30]


def state(seed: int = 7, prompt: list[int] = PROMPT, **sampling: Any) -> State:
    """Begin a sequence."""
    return Sampler().begin(Running(prompt, Sampling(**sampling), seed))


def ids(logits: Tensor, states: list[State], sampler: Sampler | None = None) -> list[int]:
    """Choose, where every row is a distribution."""
    chosen = (sampler or Sampler()).choose(logits, states)
    return [one.id for one in chosen if one is not None]


PROCESSORS: dict[str, tuple[dict[str, Any], list[Any]]] = {
    "temperature": ({"temperature": 0.6}, [TemperatureLogitsWarper(0.6)]),
    "top_k": ({"top_k": 5}, [TopKLogitsWarper(5)]),
    "top_k of more than there are": ({"top_k": 500}, []),
    "top_p": ({"top_p": 0.7}, [TopPLogitsWarper(0.7)]),
    "top_p of next to nothing": ({"top_p": 1e-9}, [TopPLogitsWarper(1e-9)]),
    "min_p": ({"min_p": 0.05}, [MinPLogitsWarper(0.05)]),
    "bias": ({"logit_bias": {3: 5.5, 4: -100.0}}, [SequenceBiasLogitsProcessor([[[3], 5.5], [[4], -100.0]])]),
    "repetition": ({"repetition_penalty": 1.7}, [RepetitionPenaltyLogitsProcessor(1.7)]),
    "all": (
        {
            "temperature": 1.3,
            "top_k": 20,
            "top_p": 0.9,
            "min_p": 0.02,
            "repetition_penalty": 1.2,
            "logit_bias": {1: 2.0},
        },
        [
            SequenceBiasLogitsProcessor([[[1], 2.0]]),
            RepetitionPenaltyLogitsProcessor(1.2),
            TemperatureLogitsWarper(1.3),
            TopKLogitsWarper(20),
            TopPLogitsWarper(0.9),
            MinPLogitsWarper(0.02),
        ],
    ),
}


class Given(State):
    """Draw a given number."""

    number = 0.0

    def draw(self) -> float:
        return self.number


def drawn(row: Tensor, numbers: list[float], sampling: dict[str, Any]) -> list[int]:
    """Return the tokens that these numbers, from 0 to 1, draw of a row."""
    states = [Given(Running(PROMPT, Sampling(**sampling), 0)) for _ in numbers]
    for one, number in zip(states, numbers, strict=True):
        one.number = number
    return ids(row.expand(len(states), -1), [*states])


@pytest.mark.parametrize("name", PROCESSORS)
def test_what_is_drawn_from_is_what_transformers_processors_leave(name: str) -> None:
    """A token's share of the numbers from 0 to 1 is its probability, to 1e-6."""
    sampling, processors = PROCESSORS[name]
    for row in LOGITS:
        expected = LogitsProcessorList(processors)(torch.tensor([PROMPT]), row[None].clone()).softmax(-1)[0]
        kept = [token for token in range(VOCABULARY) if expected[token] > 1e-5]
        ends = expected.double().cumsum(-1)
        assert drawn(row, [float(ends[token] - expected[token]) + 5e-6 for token in kept], sampling) == kept
        assert drawn(row, [float(ends[token]) - 5e-6 for token in kept], sampling) == kept


def test_no_draw_takes_what_was_left_out() -> None:
    row = LOGITS[0]
    kept = {*row.topk(5).indices.tolist()}
    assert {*drawn(row, [0.0, 1 - 2**-48], {"top_k": 5})} <= kept


def test_draws_are_as_often_as_they_are_likely() -> None:
    """Chi-square over 20,000 draws of a fixed seed; 77 is the 99 % bound for 50 tokens."""
    probabilities = LOGITS[0].softmax(-1)
    one = state(seed=11)
    counts = Counter(ids(LOGITS[0].expand(20_000, -1), [one] * 20_000))
    expected = {token: float(probabilities[token]) * 20_000 for token in range(VOCABULARY)}
    assert sum((counts[token] - count) ** 2 / count for token, count in expected.items() if count > 1) < 77


def test_a_temperature_of_nothing_takes_the_likeliest() -> None:
    assert ids(LOGITS, [state(temperature=0)] * 6) == LOGITS.argmax(-1).tolist()
    assert ids(LOGITS, [state(temperature=1e-300)] * 6) == LOGITS.argmax(-1).tolist()


def test_presence_and_frequency_are_taken_off_what_was_made_and_not_off_the_prompt() -> None:
    row = torch.zeros(1, 5)
    row[0, 1], row[0, 2], row[0, 3] = 3.0, 2.5, 1.0
    one = state(prompt=[1, 2, 3], temperature=0, presence_penalty=1.0, frequency_penalty=0.75)
    assert [ids(row, [one])[0] for _ in range(5)] == [1, 2, 1, 3, 2]  # 3, 2.5 | 1.25, 2.5 | 1.25, .75 | .5 | ...


def test_penalties_go_on_when_the_rows_are_others() -> None:
    row = torch.tensor([[3.0, 2.5, 1.0]])
    sampler, beside = Sampler(), state(temperature=0, prompt=[0])
    one, two = (state(temperature=0, presence_penalty=2.0, prompt=[0]) for _ in range(2))
    alone = [ids(row, [one], sampler)[0] for _ in range(4)]
    crowd = [ids(row.expand(count, -1), [*[beside] * (count - 1), two], sampler)[-1] for count in (1, 3, 2, 3)]
    assert alone == crowd == [0, 1, 0, 0]


def test_a_seed_gives_the_same_tokens_whoever_is_beside() -> None:
    alone, crowd = state(seed=5, temperature=1.5), state(seed=5, temperature=1.5)
    beside = [state(seed=n, top_k=3, presence_penalty=1.0, logprobs=2) for n in range(5)]
    sampler = Sampler()
    for _ in range(20):
        expected = ids(LOGITS[:1], [alone])
        assert ids(LOGITS, [crowd, *beside], sampler)[:1] == expected


def test_other_seeds_give_other_tokens() -> None:
    flat = torch.zeros(1, 1000)
    assert len({ids(flat, [state(seed=seed)])[0] for seed in range(20)}) > 15


def test_log_probabilities_are_those_of_the_model_whatever_was_asked() -> None:
    one = state(temperature=0, logit_bias={2: 100.0}, presence_penalty=2.0, logprobs=3)
    (chosen,) = Sampler().choose(LOGITS[:1], [one])
    expected = LOGITS[0].log_softmax(-1)
    assert chosen is not None and chosen.id == 2 and chosen.logprob == pytest.approx(float(expected[2]))
    likeliest = expected.topk(3)
    assert [token for token, _ in chosen.alternatives] == likeliest.indices.tolist()
    assert [value for _, value in chosen.alternatives] == pytest.approx(likeliest.values.tolist())


def test_each_row_is_told_as_many_alternatives_as_it_asked_for() -> None:
    chosen = Sampler().choose(LOGITS[:3], [state(logprobs=count) for count in (None, 0, 2)])
    assert [one and (one.logprob is None, len(one.alternatives)) for one in chosen] == [
        (True, 0),
        (False, 0),
        (False, 2),
    ]


def test_a_token_that_cannot_come_has_a_log_probability_that_json_can_say() -> None:
    (chosen,) = Sampler().choose(torch.tensor([[0.0, -torch.inf]]), [state(prompt=[0], logprobs=2)])
    assert chosen is not None and chosen.alternatives == ((0, 0.0), (1, -9999.0))


@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
@pytest.mark.parametrize("sampling", [{"temperature": 0}, {"top_p": 0.5, "presence_penalty": 1.0, "logprobs": 1}])
def test_logits_that_are_no_distribution_fail_their_own_row_alone(bad: float, sampling: dict[str, Any]) -> None:
    logits = LOGITS[:3].clone()
    logits[1, 7] = bad
    states = [state(**sampling) for _ in range(3)]
    chosen = Sampler().choose(logits, states)
    assert [one is None for one in chosen] == [False, True, False]
    assert isinstance(states[1].sequence.error, EndpointFailed) and states[0].sequence.error is None


def test_the_logits_are_left_as_they_came_in_any_precision() -> None:
    for dtype in (torch.float32, torch.bfloat16, torch.float16):
        logits = LOGITS.to(dtype)
        ids(logits, [state(presence_penalty=1.0, repetition_penalty=2.0, logit_bias={1: 9.0}, top_p=0.5)] * 6)
        assert torch.equal(logits, LOGITS.to(dtype))
