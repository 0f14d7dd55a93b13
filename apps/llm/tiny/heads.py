"""Give attention heads something to begin with: small models learn to look back late, after much more text than this.

`look_back` builds an induction head into a model that has not been trained: a head of the first layer looks at the
token before, one of the second for where the present token was before, and copies what came behind it; one in each
further layer copies what it looks at. `have_topics` builds two into a model that is half trained, whose embedding tells
names from other words: one finds the names that were said, the other creatures and things. Training goes on from there.

Source: N. Elhage et al., "A Mathematical Framework for Transformer Circuits", 2021; C. Olsson et al., "In-context
Learning and Induction Heads", 2022.
"""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from transformers import LlamaForCausalLM

DIM = 64  # of a head
THETA = 1e6  # of the rotary embedding, so that half of a head's dimensions hardly turn over a text's length
WORDS = 127  # dimensions of the embedding that words have at first; others take up the token before
_HALF = DIM // 2
_SLOW = [*range(_HALF // 2, _HALF), *range(_HALF + _HALF // 2, DIM)]
_STD = 0.02  # of an embedding
_ALL = ("q_proj", "k_proj", "v_proj", "o_proj")


class Kept(NamedTuple):
    """Hold a part of a parameter that training is to leave alone for a while."""

    parameter: nn.Parameter
    place: tuple[slice, ...]
    value: Tensor

    def put_back(self) -> None:
        """Undo what a step has changed of it."""
        self.parameter.data[self.place] = self.value


@torch.no_grad()
def look_back(model: LlamaForCausalLM) -> None:
    """Build the heads that copy into a new model, as the first head of each layer."""
    words = model.model.embed_tokens.weight
    words[:, :WORDS] = torch.randn(len(words), WORDS) * _STD
    words[:, WORDS:] = torch.randn(len(words), words.shape[1] - WORDS) * _STD / 10
    layers = [layer.self_attn for layer in model.model.layers]
    shown = _orthonormal(len(_SLOW), WORDS)
    _clear(layers[0], slice(DIM), *_ALL)
    for pair in range(8):  # turned against each other by one token: the score is highest for the token before
        turn, gain = THETA ** (-pair / _HALF), math.sqrt(80)
        layers[0].q_proj.bias[pair], layers[0].q_proj.bias[pair + _HALF] = gain * math.cos(turn), -gain * math.sin(turn)
        layers[0].k_proj.bias[pair] = gain
    layers[0].v_proj.weight[: len(_SLOW), :WORDS] = shown
    before = slice(WORDS + 1, WORDS + 1 + len(_SLOW))
    layers[0].o_proj.weight[before, : len(_SLOW)] = _STD * torch.eye(len(_SLOW))
    _clear(layers[1], slice(DIM), "q_proj", "k_proj")
    layers[1].q_proj.weight[_SLOW, :WORDS] = 2.4 * shown
    layers[1].k_proj.weight[_SLOW, before] = 2.4 * torch.eye(len(_SLOW))
    for number, layer in enumerate(layers[1:]):
        _clear(layer, slice(DIM), "v_proj", "o_proj")
        _copy(layer, slice(DIM), WORDS, torch.ones(words.shape[1]), 0.04 if number else 0.25)


def copying(model: LlamaForCausalLM) -> list[Kept]:
    """Return what `look_back` has built, as it is now."""
    layers = [layer.self_attn for layer in model.model.layers]
    return [
        each
        for number, layer in enumerate(layers)
        for each in _kept(layer, slice(DIM), _ALL if number < 2 else _ALL[2:])
    ]


@torch.no_grad()
def have_topics(model: LlamaForCausalLM, topics: Sequence[Sequence[int]]) -> None:
    """Build heads that find certain words into the first layer, behind its first head.

    Args:
        topics: the token ids that each of them finds.
    """
    words, layer = model.model.embed_tokens.weight, model.model.layers[0]
    gain, attention = layer.input_layernorm.weight, layer.self_attn
    for number, ids in enumerate(topics, 1):
        head = slice(number * DIM, (number + 1) * DIM)
        _clear(attention, head, *_ALL)
        slow = [head.start + each for each in _SLOW]
        attention.q_proj.bias[slow] = DIM**0.5 / len(_SLOW) ** 0.5
        attention.k_proj.weight[slow] = 8 * _telling(words, ids)[None] / gain / len(_SLOW) ** 0.5
        _copy(attention, head, words.shape[1], gain, 0.08)


def finding(model: LlamaForCausalLM, topics: int) -> list[Kept]:
    """Return what `have_topics` has built, as it is now."""
    return _kept(model.model.layers[0].self_attn, slice(DIM, (topics + 1) * DIM), _ALL)


def _telling(words: Tensor, ids: Sequence[int]) -> Tensor:
    """Return the direction in which some words are 1 and others 0, by least squares."""
    seen = words / words.pow(2).mean(-1, keepdim=True).sqrt()
    ones = torch.cat([seen, torch.ones(len(seen), 1)], 1)
    are = torch.zeros(len(seen))
    are[list(ids)] = 1
    weight = (1 + 19 * are)[:, None]
    solved: Tensor = torch.linalg.solve(
        ones.T @ (weight * ones) + 5 * torch.eye(ones.shape[1]), ones.T @ (weight[:, 0] * are)
    )
    return solved[:-1]


def _copy(attention: Any, head: slice, width: int, gain: Tensor, strength: float) -> None:
    """Have a head write the words that it looks at."""
    shown = _orthonormal(DIM, width)
    attention.v_proj.weight[head, :width] = shown / gain[:width]
    attention.o_proj.weight[:width, head] = strength * shown.T


def _clear(attention: Any, head: slice, *names: str) -> None:
    for name in names:
        projection = getattr(attention, name)
        projection.weight[_place(name, head)] = 0
        if name != "o_proj":
            projection.bias[head] = 0


def _kept(attention: Any, head: slice, names: Sequence[str]) -> list[Kept]:
    found = []
    for name in names:
        projection, place = getattr(attention, name), _place(name, head)
        found.append(Kept(projection.weight, place, projection.weight[place].clone()))
        if name != "o_proj":
            found.append(Kept(projection.bias, (head,), projection.bias[head].clone()))
    return found


def _place(name: str, head: slice) -> tuple[slice, ...]:
    return (slice(None), head) if name == "o_proj" else (head,)


def _orthonormal(rows: int, columns: int) -> Tensor:
    columns_of_it: Tensor = torch.linalg.qr(torch.randn(columns, rows))[0]
    return columns_of_it.T
