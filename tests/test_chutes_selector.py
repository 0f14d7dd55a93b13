"""What a chute asks of machines: readable, without effect, and no nonsense."""

import re
from typing import Any

import pytest

from streamapp.chutes import NodeSelector
from streamapp.errors import DefinitionError


def test_what_is_asked_for_stays_readable() -> None:
    asked = NodeSelector(2, 12, max_hourly_price_per_gpu=1.5, include=["h100"], exclude=["a10"])
    assert (asked.gpu_count, asked.min_vram_gb_per_gpu, asked.max_hourly_price_per_gpu) == (2, 12, 1.5)
    assert (asked.include, asked.exclude) == (["h100"], ["a10"])
    assert NodeSelector() == NodeSelector(gpu_count=1, min_vram_gb_per_gpu=16)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"gpu_count": 0}, "expected gpu_count to be 1 to 8, got 0"),
        ({"gpu_count": 9}, "got 9"),
        ({"gpu_count": "two"}, "got 'two'"),
        ({"gpu_count": True}, "got True"),
        ({"min_vram_gb_per_gpu": -1}, "expected min_vram_gb_per_gpu to be a number of gigabytes, more than 0, got -1"),
        ({"min_vram_gb_per_gpu": "12"}, "got '12'"),
        ({"max_hourly_price_per_gpu": 0}, "expected max_hourly_price_per_gpu to be a price in dollars, more than 0"),
        ({"include": "h100"}, "expected include to be a list of kinds of GPUs like [\"h100\"], or None, got 'h100'"),
        ({"exclude": [1]}, "expected exclude to be a list"),
    ],
)
def test_what_says_nothing_about_machines_is_refused(given: dict[str, Any], said: str) -> None:
    with pytest.raises(DefinitionError, match=re.escape(said)):
        NodeSelector(**given)
