"""What may be asked of a language model: each field's bounds, and what is said beyond them."""

import math
from typing import Any

import pytest

from streamapp.errors import InvalidInput
from streamapp.llm.generation import Sampling


@pytest.mark.whole
@pytest.mark.parametrize(
    "field, value",
    [
        *(("max_tokens", value) for value in (0, -1, 1.0, True, "5")),
        *(("temperature", value) for value in (-0.1, 2.1, math.nan, math.inf, "1", True, [1])),
        *(("top_p", value) for value in (0, 0.0, -0.5, 1.01, math.nan)),
        *(("top_k", value) for value in (-1, 2.5, True)),
        *(("min_p", value) for value in (-0.1, 1.1, "0")),
        *(("presence_penalty", value) for value in (-2.1, 2.1, None)),
        *(("frequency_penalty", value) for value in (-2.1, math.nan)),
        *(("repetition_penalty", value) for value in (0, -1.0, math.inf)),
        *(("logit_bias", value) for value in ([1], {"5": 1.0}, {-1: 1.0}, {True: 1.0}, {5: 101}, {5: math.nan})),
        *(("seed", value) for value in (1.5, True, 2**63, "7")),
        *(("stop", value) for value in ("", ["a", ""], [1], 5, ["x"] * 17)),
        *(("logprobs", value) for value in (-1, 21, True)),
        *(("n", value) for value in (0, 129, None, True, 1.5)),
    ],
)
def test_what_is_out_of_bounds_is_refused_by_its_name(field: str, value: Any) -> None:
    with pytest.raises(InvalidInput, match=rf"^{field}.*: expected .*, got ") as raised:
        Sampling(**{field: value})
    detail: Any = raised.value.detail
    assert detail[0]["loc"] == ["body", field]


def test_a_long_value_is_told_shortly() -> None:
    with pytest.raises(InvalidInput) as raised:
        Sampling(temperature="9" * 10_000)  # type: ignore[arg-type]
    assert len(raised.value.message) < 150


def test_what_is_at_the_bounds_is_taken() -> None:
    Sampling(temperature=0, top_p=1, top_k=0, min_p=1, presence_penalty=-2, frequency_penalty=2, seed=-(2**63), n=1)
    Sampling(temperature=2.0, top_p=1e-9, repetition_penalty=0.1, logit_bias={0: -100, 7: 100.0}, logprobs=20)


def test_one_text_that_ends_it_is_one_text() -> None:
    assert Sampling(stop="\n\n").stop == ("\n\n",)
    assert Sampling(stop=["a", "b"]).stop == ("a", "b")
