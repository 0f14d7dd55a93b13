"""Rows of different lengths are read and written in place, and a model that needs other things is refused."""

from typing import Any

import pytest
import torch
import transformers
from transformers import AutoModelForCausalLM, AutoModelForSeq2SeqLM, T5Config

from streamapp.errors import DefinitionError
from streamapp.llm.cache import RowCache, room

SMALL: dict[str, Any] = {
    **{"vocab_size": 8, "hidden_size": 8, "num_hidden_layers": 2, "num_attention_heads": 2, "num_key_value_heads": 2},
    **{"intermediate_size": 8, "max_position_embeddings": 100, "pad_token_id": 0},
}


def small(family: str, **sizes: Any) -> Any:
    return AutoModelForCausalLM.from_config(getattr(transformers, f"{family}Config")(**{**SMALL, **sizes}))


def rows(length: int = 8) -> RowCache:
    """Return four rows of two layers with a head of one number: 100 * its layer + 10 * its row + its place."""
    layer, row, place = torch.arange(2), torch.arange(4), torch.arange(length)
    keys = (100.0 * layer[:, None, None] + 10.0 * row[:, None] + place)[:, :, None, :, None]
    return RowCache(keys.clone(), -keys)


def given(*numbers: list[float]) -> tuple[torch.Tensor, torch.Tensor]:
    states = torch.tensor(numbers, dtype=torch.float)[:, None, :, None]
    return states, -states


def read(cache: RowCache, layer: int, *numbers: list[float]) -> list[list[float]]:
    """Return what a layer reads that has made such keys."""
    keys, values = cache.update(*given(*numbers), layer)
    assert torch.equal(values, -keys)
    return keys[:, 0, :, 0].tolist()


def test_rows_of_one_length_are_read_without_a_mask() -> None:
    cache = rows()
    positions, mask = cache.aim(1, [2, 2], [1, 1])
    assert (positions.tolist(), mask) == ([[2], [2]], None)
    assert read(cache, 1, [7], [8]) == [[110, 111, 7], [120, 121, 8]]
    assert (cache.get_seq_length(), cache.get_mask_sizes(1), cache.get_max_length()) == (2, (3, 0), 8)


def test_rows_of_several_lengths_hide_what_is_behind_them() -> None:
    cache = rows()
    positions, mask = cache.aim(0, [1, 3], [1, 1])
    assert positions.tolist() == [[1], [3]]
    assert mask is not None
    hidden = float("-inf")
    assert mask[:, 0, 0].tolist() == [[0, 0, hidden, hidden], [0, 0, 0, 0]]
    assert read(cache, 0, [7], [8]) == [[0, 7, 2, 3], [10, 11, 12, 8]]


def test_what_is_padded_hurts_no_token_of_its_row() -> None:
    cache = rows()
    positions, mask = cache.aim(0, [1, 6], [3, 1])
    assert positions.tolist() == [[1, 2, 3], [6, 7, 7]]
    assert mask is not None
    assert mask.shape == (2, 1, 3, 7)
    assert read(cache, 0, [7, 8, 9], [5, 0, 0]) == [[0, 7, 8, 9, 4, 5, 6], [10, 11, 12, 13, 14, 15, 5]]


def test_rows_are_copied_changed_for_each_other_and_cleared_in_all_layers() -> None:
    cache = rows(4)
    cache.copy(0, 1, 2)
    cache.swap(2, 3, 3)
    cache.clear(0)
    cache.aim(0, [3] * 4, [1] * 4)
    assert read(cache, 0, *[[9.0]] * 4) == [[0, 0, 0, 9], [0, 1, 12, 9], [30, 31, 32, 9], [20, 21, 22, 9]]
    assert read(cache, 1, *[[9.0]] * 4)[1] == [100, 101, 112, 9]


def test_rows_have_the_shape_and_type_of_the_models_own() -> None:
    cache = RowCache.of(small("Llama", head_dim=6, num_key_value_heads=1).to(torch.bfloat16), 3, 20)
    assert (cache.length, cache.nbytes) == (20, 2 * 2 * 3 * 20 * 6 * 2)


def test_layers_that_differ_are_refused() -> None:
    model = small("Llama")
    attention = model.model.layers[1].self_attn
    attention.num_key_value_groups = 2
    attention.k_proj = attention.v_proj = torch.nn.Linear(8, 4)
    with pytest.raises(DefinitionError, match="the layers of LlamaForCausalLM differ"):
        RowCache.of(model, 1, 8)


def test_what_there_is_no_memory_for_is_refused_with_how_much_it_takes() -> None:
    with pytest.raises(
        DefinitionError, match="1000000000 sequences of 8 tokens .* take 976,562 MiB, which cpu does not"
    ):
        RowCache.of(small("Llama"), 10**9, 8)


@pytest.mark.parametrize(("asked", "length"), [(None, 100), (8, 8), (100, 100)])
def test_a_sequence_has_as_many_tokens_as_are_asked_for_or_read(asked: int | None, length: int) -> None:
    assert room(small("Llama"), asked) == length


def test_a_sequence_has_4096_tokens_where_nobody_says_how_many() -> None:
    assert room(small("Llama", max_position_embeddings=100_000), None) == 4_096


@pytest.mark.parametrize("asked", [7, 101, -1])
def test_what_the_model_does_not_read_is_refused(asked: int) -> None:
    with pytest.raises(DefinitionError, match=f"max_length of LlamaForCausalLM from 8 to 100, got {asked}"):
        room(small("Llama"), asked)


@pytest.mark.parametrize(
    "sizes",
    [
        {"family": "Mistral", "sliding_window": 16},
        {"family": "Gemma2", "sliding_window": 16},
    ],
)
def test_a_model_that_looks_back_too_little_is_refused(sizes: dict[str, Any]) -> None:
    with pytest.raises(DefinitionError, match='looks back 16 .*; write max_length=16, or backend="transformers"'):
        room(small(**sizes), None)


def test_a_window_is_none_for_sequences_within_it() -> None:
    assert room(small("Mistral", sliding_window=16), 16) == 16


def test_positions_that_depend_on_others_are_left_out() -> None:
    scaled = {"rope_type": "longrope", "short_factor": [1.0] * 2, "long_factor": [2.0] * 2, "rope_theta": 1e4}
    model = small("Phi3", rope_parameters=scaled, original_max_position_embeddings=40)
    assert room(model, None) == 40
    with pytest.raises(DefinitionError, match="from 8 to 40"):
        room(model, 41)


def test_positions_of_one_type_of_layers_may_depend_on_others() -> None:
    scaled = {"rope_type": "longrope", "short_factor": [1.0] * 2, "long_factor": [2.0] * 2, "rope_theta": 1e4}
    default = {"rope_type": "default", "rope_theta": 1e4}
    both = {"sliding_attention": default, "full_attention": {**scaled, "original_max_position_embeddings": 40}}
    model = small("Gemma3Text", rope_parameters=both, layer_types=[*both], sliding_window=100, head_dim=4)
    assert room(model, None) == 40


@pytest.mark.parametrize("family", ["Mamba", "Lfm2", "FalconH1", "RecurrentGemma"])
def test_a_state_of_another_kind_is_refused(family: str) -> None:
    with pytest.raises(DefinitionError, match='other things than keys and values .* backend="transformers"'):
        room(small(family, **{"layer_types": ["conv", "full_attention"]} if family == "Lfm2" else {}), None)


def test_an_encoder_is_refused() -> None:
    model = AutoModelForSeq2SeqLM.from_config(T5Config(vocab_size=8, d_model=8, d_kv=4, d_ff=8, num_layers=1))
    with pytest.raises(DefinitionError, match=r"has an encoder; stream its generate\(\) by TokenStream"):
        room(model, None)


def test_a_model_without_a_head_is_refused() -> None:
    with pytest.raises(DefinitionError, match="got LlamaModel; load it by AutoModelForCausalLM"):
        room(small("Llama").model, None)


def test_a_model_that_nothing_bounds_reads_what_is_asked() -> None:
    model = small("Llama", max_position_embeddings=-1)
    assert room(model, None) == room(model, 4096) == 4096


def test_attention_that_takes_no_mask_for_each_row_is_refused() -> None:
    model = small("Llama", attn_implementation="flex_attention")
    with pytest.raises(DefinitionError, match="load it with attn_implementation=.sdpa"):
        room(model, None)
