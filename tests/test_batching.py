"""Whatever stands beside a sequence, its tokens are those that the model makes of it alone."""

import logging
import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pytest
import torch
import transformers
from tests.small_models import one_thread  # noqa: F401 - a fixture
from torch import Tensor
from torch.overrides import TorchFunctionMode

from streamapp.errors import Cancelled, DefinitionError, is_out_of_memory
from streamapp.llm.batching import Batching
from streamapp.llm.generation import Chosen, Running, Sampling

SIZES: dict[str, Any] = {
    **{"vocab_size": 64, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4},
    **{"num_key_value_heads": 2, "head_dim": 8, "max_position_embeddings": 256, "initializer_range": 0.3},
    **{"eos_token_id": None, "bos_token_id": None, "pad_token_id": None},
}
FAMILIES: dict[str, dict[str, Any]] = {
    "Llama": {},
    "Qwen2": {},
    "Qwen3": {},
    "Mistral": {"sliding_window": 256},
    "GPT2": {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 256},
    "GPTNeoX": {},
    "GPTJ": {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 256, "rotary_dim": 8},
    "Phi": {},
    "Phi3": {},
    "Gemma": {},
    "Olmo2": {},
    "SmolLM3": {},
    "OPT": {"ffn_dim": 64, "word_embed_proj_dim": 32},
    "StableLm": {},
    "Mixtral": {"num_local_experts": 4, "sliding_window": None},
    "Granite": {},
    "Cohere": {},
    "Mpt": {"d_model": 32, "n_heads": 4, "n_layers": 2, "max_seq_len": 256},
}


class Greedy:
    """Take the likeliest token; of what is no number, none."""

    def begin(self, sequence: Running) -> Running:
        return sequence

    def choose(self, logits: Tensor, states: Sequence[Running]) -> list[Chosen | None]:
        broken = logits.isnan().any(-1).tolist()
        return [None if no else Chosen(token) for token, no in zip(logits.argmax(-1).tolist(), broken, strict=True)]


def made_of(family: str, **sizes: Any) -> Any:
    torch.manual_seed(0)
    config = getattr(transformers, f"{family}Config")(**{**SIZES, **FAMILIES.get(family, {}), **sizes})
    return transformers.AutoModelForCausalLM.from_config(config)


@pytest.fixture(scope="module")
def model() -> Any:
    return made_of("Llama")


def alone(model: Any, prompt: Sequence[int], count: int) -> list[int]:
    """Return what transformers makes of a prompt."""
    ids = torch.tensor([prompt])
    made = model.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=count, do_sample=False)
    return made[0, len(prompt) :].tolist()  # type: ignore[no-any-return]


def asked(loop: Batching, prompt: Sequence[int], max_tokens: int | None = 8) -> Running:
    sequence = Running(prompt, Sampling(max_tokens=max_tokens), 0)
    loop.add(sequence)
    return sequence


def tokens(sequence: Running) -> list[int]:
    assert sequence.error is None
    return [chosen.id for chosen in sequence.made]


def run(loop: Batching) -> None:
    """Have all sequences end."""
    while loop.statistics().running or loop.statistics().waiting:
        loop.step()


def prompt_of(length: int, seed: int = 0) -> list[int]:
    return random.Random(f"{length} {seed}").choices(range(64), k=length)


@contextmanager
def raising(model: Any, error: BaseException, when: Callable[[Tensor], bool]) -> Iterator[None]:
    """Have a model raise where its input is such."""

    def refuse(module: Any, args: Any, kwargs: Any) -> None:
        if when(kwargs["input_ids"]):
            raise error

    hook = model.register_forward_pre_hook(refuse, with_kwargs=True)
    yield
    hook.remove()


class FullDevice(TorchFunctionMode):
    """Have no memory for what is copied."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is Tensor.clone:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return func(*args, **(kwargs or {}))


def is_prompt(ids: Tensor) -> bool:
    return ids.shape[1] > 1


@pytest.mark.parametrize("family", FAMILIES)
def test_a_model_of_any_family_makes_the_tokens_that_it_makes_alone(family: str) -> None:
    model = made_of(family)
    loop = Batching(model, Greedy(), max_length=128, prefill_tokens=40)
    prompts = [prompt_of(length) for length in (5, 1, 23, 60)]
    sequences = [asked(loop, prompts[0])]
    for _ in range(3):
        loop.step()
    sequences += [asked(loop, prompt) for prompt in prompts[1:]]
    run(loop)
    assert [tokens(sequence) for sequence in sequences] == [alone(model, prompt, 8) for prompt in prompts]


@pytest.mark.parametrize("seed", range(4))
def test_whoever_comes_and_goes_beside_it_a_sequence_has_its_own_tokens(model: Any, seed: int) -> None:
    chance = random.Random(seed)
    loop = Batching(model, Greedy(), max_sequences=seed + 2, max_length=96, prefill_tokens=(5, 16, 512)[seed % 3])
    prompts, sequences, dropped = [prompt_of(50, seed)], list[Running](), list[Running]()
    for _ in range(40):
        if chance.random() < 0.4:
            beginning = chance.choice(prompts)[: chance.randrange(60)]
            prompts.append([*beginning, *prompt_of(chance.randint(1, 30), chance.randrange(99))])
            sequences.append(asked(loop, prompts[-1], chance.choice([1, 5, 20])))
        if sequences and chance.random() < 0.1:
            dropped.append(chance.choice(sequences))
            loop.drop(dropped[-1])
        loop.step()
    run(loop)
    assert loop.statistics().reused > 0
    for sequence in sequences:
        expected = alone(model, sequence.prompt, sequence.sampling.max_tokens or 0)
        assert tokens(sequence) == (expected[: len(sequence.made)] if sequence in dropped else expected)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_either_attention_and_half_precision_is_taken(dtype: torch.dtype, attention: str) -> None:
    model = made_of("Llama", attn_implementation=attention).to(dtype)
    loop = Batching(model, Greedy(), max_length=64)
    sequences = [asked(loop, prompt_of(length)) for length in (3, 9)]
    run(loop)
    assert [len(tokens(sequence)) for sequence in sequences] == [8, 8]


def test_a_sequence_ends_at_an_end_token_which_is_made(model: Any) -> None:
    expected = alone(model, [1, 2, 3], 8)
    loop = Batching(model, Greedy(), ends=(expected[3],))
    sequence = asked(loop, [1, 2, 3])
    run(loop)
    assert (tokens(sequence), sequence.finish_reason) == (expected[: expected.index(expected[3]) + 1], "stop")


@pytest.mark.parametrize("length", [1, 31])
def test_a_sequence_ends_at_the_end_of_its_room(model: Any, length: int) -> None:
    loop = Batching(model, Greedy(), max_length=32)
    sequence, other = asked(loop, prompt_of(length), None), asked(loop, prompt_of(5), 40)
    run(loop)
    assert tokens(sequence) == alone(model, prompt_of(length), 32 - length)
    assert sequence.finish_reason == other.finish_reason == "length"


def test_the_first_token_of_a_short_prompt_comes_with_the_step_that_reads_it(model: Any) -> None:
    loop = Batching(model, Greedy())
    asked(loop, prompt_of(200))
    loop.step()
    sequence = asked(loop, prompt_of(9))
    loop.step()
    assert len(sequence.made) == 1


def test_a_long_prompt_holds_nobody_up() -> None:
    """Those that make tokens make one at each step, and short prompts pass it."""
    model = made_of("Llama", max_position_embeddings=2_100)
    loop = Batching(model, Greedy(), prefill_tokens=128)
    first = asked(loop, prompt_of(5), 100)
    loop.step()
    long = asked(loop, prompt_of(2_000), 4)
    steps = 0
    while not long.made:
        loop.step()
        steps += 1
        assert len(first.made) == 1 + steps
        if steps == 3:
            short = asked(loop, prompt_of(50))
        assert steps < 4 or short.made
    assert steps >= 2_000 // 128
    run(loop)
    assert tokens(long) == alone(model, prompt_of(2_000), 4)


def test_the_choices_of_a_prompt_are_read_once(model: Any) -> None:
    loop = Batching(model, Greedy())
    sequences = [asked(loop, prompt_of(100)) for _ in range(4)]
    run(loop)
    assert loop.statistics()[-2:] == (100 + 3, 3 * 99)
    assert [tokens(sequence) for sequence in sequences] == [alone(model, prompt_of(100), 8)] * 4


def test_a_conversation_that_goes_on_is_not_read_again(model: Any) -> None:
    loop = Batching(model, Greedy())
    first = asked(loop, prompt_of(40))
    run(loop)
    then = [*prompt_of(40), *tokens(first), 5, 6]
    second = asked(loop, then)
    run(loop)
    assert loop.statistics().reused == 40 + 7
    assert tokens(second) == alone(model, then, 8)


def test_a_prompt_begins_with_what_one_that_runs_has(model: Any) -> None:
    loop = Batching(model, Greedy())
    first = asked(loop, prompt_of(40), 20)
    for _ in range(3):
        loop.step()
    second = asked(loop, [*prompt_of(40)[:30], 1])
    run(loop)
    assert loop.statistics().reused >= 30
    assert tokens(first) == alone(model, prompt_of(40), 20)
    assert tokens(second) == alone(model, [*prompt_of(40)[:30], 1], 8)


def test_what_is_left_behind_is_not_lost_to_a_prompt_that_has_little_of_it(model: Any) -> None:
    loop = Batching(model, Greedy(), max_sequences=2)
    for prompt in (prompt_of(90), [*prompt_of(90)[:20], 1, 2], prompt_of(90)):
        sequence = asked(loop, prompt)
        run(loop)
    assert loop.statistics().reused == 20 + 89
    assert tokens(sequence) == alone(model, prompt_of(90), 8)


def test_the_only_row_is_taken_with_what_is_left_of_use(model: Any) -> None:
    loop = Batching(model, Greedy(), max_sequences=1)
    for prompt in (prompt_of(90), [*prompt_of(90)[:20], 1, 2]):
        sequence = asked(loop, prompt)
        run(loop)
    assert loop.statistics().reused == 20
    assert tokens(sequence) == alone(model, prompt, 8)


def test_more_sequences_than_rows_are_served_in_their_order(model: Any) -> None:
    loop = Batching(model, Greedy(), max_sequences=2)
    sequences = [asked(loop, prompt_of(3, n), 3) for n in range(5)]
    loop.step()
    assert loop.statistics()[:2] == (2, 3)
    for _ in range(3):
        loop.step()
    assert [len(sequence.made) for sequence in sequences] == [3, 3, 1, 1, 0]
    run(loop)
    assert [tokens(sequence) for sequence in sequences] == [alone(model, prompt_of(3, n), 3) for n in range(5)]


@pytest.mark.parametrize("steps", [0, 1, 2, 20])
def test_of_a_dropped_sequence_no_further_token_is_made(model: Any, steps: int) -> None:
    """Before its prompt is read, while it is, while tokens are made, and when it has ended."""
    loop = Batching(model, Greedy(), max_sequences=2, prefill_tokens=16)
    other, dropped = asked(loop, prompt_of(5)), asked(loop, prompt_of(20), 3)
    for _ in range(steps):
        loop.step()
    count = len(dropped.made)
    loop.drop(dropped)
    run(loop)
    assert len(dropped.made) == count
    assert tokens(other) == alone(model, prompt_of(5), 8)


def test_what_fails_while_prompts_are_read_ends_these_alone(model: Any) -> None:
    loop = Batching(model, Greedy())
    first = asked(loop, prompt_of(30))
    loop.step()
    second = asked(loop, prompt_of(30, 1))
    with raising(model, RuntimeError("too many"), is_prompt):
        loop.step()
    third = asked(loop, prompt_of(30, 1))
    run(loop)
    assert (str(second.error), [*second.made]) == ("too many", [])
    assert tokens(first) == alone(model, prompt_of(30), 8)
    assert tokens(third) == alone(model, prompt_of(30, 1), 8)
    assert loop.statistics().reused == 0


def test_what_fails_while_tokens_are_made_ends_these_alone(model: Any) -> None:
    loop = Batching(model, Greedy(), max_sequences=2)
    first = asked(loop, prompt_of(30))
    loop.step()
    second = asked(loop, prompt_of(30, 1))
    with raising(model, torch.OutOfMemoryError("CUDA out of memory"), lambda ids: not is_prompt(ids)):
        loop.step()
        loop.drop(first)  # from its reader's `finally`
        assert first.error is not None
        assert is_out_of_memory(first.error)
        assert loop.statistics().running == 1
    run(loop)
    assert tokens(second) == alone(model, prompt_of(30, 1), 8)


def test_what_fails_while_rows_are_moved_ends_those_that_run(model: Any) -> None:
    loop = Batching(model, Greedy(), max_sequences=3)
    first, second = asked(loop, prompt_of(3), 1), asked(loop, prompt_of(4))
    loop.step()
    with FullDevice():
        loop.step()
    third = asked(loop, prompt_of(5))
    run(loop)
    assert tokens(first) == alone(model, prompt_of(3), 1)
    assert second.error is not None
    assert tokens(third) == alone(model, prompt_of(5), 8)


def test_what_is_no_exception_passes_and_the_step_is_made_once_more(model: Any) -> None:
    loop = Batching(model, Greedy())
    sequences = [asked(loop, prompt_of(30))]
    loop.step()
    sequences.append(asked(loop, prompt_of(12)))
    with raising(model, Cancelled(), is_prompt), pytest.raises(Cancelled):
        loop.step()
    assert [len(sequence.made) for sequence in sequences] == [1, 0]
    run(loop)
    assert [tokens(sequence) for sequence in sequences] == [alone(model, prompt_of(n), 8) for n in (30, 12)]


def test_no_row_is_hurt_by_a_sequence_whose_numbers_are_none() -> None:
    """Nor is the next one in the same row, which is shorter: 0 * NaN is NaN."""
    model = made_of("Llama")
    model.get_input_embeddings().weight.data[63] = float("nan")
    loop = Batching(model, Greedy(), max_sequences=2)
    first, broken = asked(loop, [1, 2, 3], 20), asked(loop, [*range(20, 40), 63])
    for _ in range(3):
        loop.step()
    assert [*broken.made] == []
    second = asked(loop, [4, 5, 6, 7], 6)
    run(loop)
    assert tokens(first) == alone(model, [1, 2, 3], 20)
    assert tokens(second) == alone(model, [4, 5, 6, 7], 6)


def test_a_sequence_that_leaves_while_its_prompt_is_read_leaves_no_such_numbers() -> None:
    model = made_of("Llama")
    model.get_input_embeddings().weight.data[63] = float("nan")
    loop = Batching(model, Greedy(), max_sequences=2, prefill_tokens=16)
    first, broken = asked(loop, [1, 2, 3], 20), asked(loop, [63, *range(20, 60)])
    loop.step()
    loop.drop(broken)
    second = asked(loop, [4, 5, 6, 7], 6)
    run(loop)
    assert tokens(first) == alone(model, [1, 2, 3], 20)
    assert tokens(second) == alone(model, [4, 5, 6, 7], 6)


def test_the_memory_that_it_takes_is_said(model: Any, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "streamapp"):
        Batching(model, Greedy(), max_sequences=128, max_length=256)
    assert "LlamaForCausalLM: room for 128 sequences of 256 tokens in 8 MiB of cpu" in caplog.text


def test_a_closed_loop_has_nothing_left(model: Any) -> None:
    loop = Batching(model, Greedy())
    asked(loop, [1])
    loop.close()
    assert loop.statistics()[:2] == (0, 0)


def test_what_a_model_has_that_is_a_vocabulary_is_told(model: Any) -> None:
    loop = Batching(model, Greedy())
    assert (loop.vocabulary, loop.max_length) == (64, 256)


def test_a_model_that_hides_what_is_behind_by_the_longest_row_is_refused() -> None:
    model = made_of("GPTNeo", num_layers=2, num_heads=4, attention_types=[[["global"], 2]])
    with pytest.raises(DefinitionError, match="makes other tokens beside others than alone; .* TokenStream"):
        Batching(model, Greedy())


def test_a_model_to_which_all_tokens_are_alike_is_taken() -> None:
    model = made_of("Llama")
    model.lm_head.weight.data.zero_()
    assert Batching(model, Greedy()).vocabulary == 64


@pytest.mark.parametrize("count", [0, -1, True, 1.5])
def test_a_number_of_sequences_that_is_none_is_refused(model: Any, count: Any) -> None:
    with pytest.raises(DefinitionError, match=f"Expected max_sequences of at least 1, got {count}"):
        Batching(model, Greedy(), max_sequences=count)


def test_a_model_that_takes_no_such_cache_is_refused() -> None:
    with pytest.raises(DefinitionError, match='takes no cache of rows .* write backend="transformers"'):
        Batching(made_of("Bloom", n_layer=2, n_head=4), Greedy())


def test_a_device_that_is_full_is_no_fault_of_the_models(model: Any) -> None:
    with (
        raising(model, torch.OutOfMemoryError("CUDA out of memory"), lambda ids: True),
        pytest.raises(torch.OutOfMemoryError),
    ):
        Batching(model, Greedy())
