"""transformers' batching as a backend: what would end it for all is refused, and once it has ended it is begun anew."""

import gc
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
import transformers
from tests.small_models import one_thread  # noqa: F401 - a fixture
from tests.waiting import WAIT_S, until
from transformers import LlamaConfig, LlamaForCausalLM

from streamapp.errors import DefinitionError, GpuFailed, InvalidInput, OutOfMemory, StreamAppError, Unavailable
from streamapp.llm import continuous
from streamapp.llm.continuous import Continuous
from streamapp.llm.generation import Running, Sampling


def llama(attention: str = "sdpa") -> LlamaForCausalLM:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=256,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=64,
        attn_implementation=attention,
    )
    return LlamaForCausalLM(config).eval()


@pytest.fixture(autouse=True, scope="module")
def little_to_collect() -> Iterator[None]:
    """Leave what torch has imported out of collections: transformers does two at each end of its batching."""
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.fixture(scope="module")
def model() -> LlamaForCausalLM:
    return llama()


@pytest.fixture(scope="module")
def backend(model: LlamaForCausalLM) -> Iterator[Continuous]:
    """Lend one that stays as it is, whatever a test does to it: to end one takes a while."""
    backend = Continuous(model, ends=[], max_sequences=16)
    yield backend
    backend.close()


def prompt(i: int) -> list[int]:
    return [(7 * i + 3 * j) % 250 + 1 for j in range(8 + i % 5)]


def greedy(i: int, max_tokens: int | None = 6) -> Running:
    return Running(prompt(i), Sampling(max_tokens=max_tokens, temperature=0), 0)


def sampled(**sampling: Any) -> Running:
    return Running(prompt(0), Sampling(max_tokens=6, **sampling), 0)


def run(backend: Continuous, *sequences: Running) -> None:
    for sequence in sequences:
        backend.add(sequence)
    end(backend, *sequences)


def end(backend: Continuous, *sequences: Running) -> None:
    while any(sequence.finish_reason is None and sequence.error is None for sequence in sequences):
        backend.step()


def ids(sequence: Running) -> list[int]:
    return [token.id for token in sequence.made]


def expected(model: LlamaForCausalLM, i: int, count: int = 6) -> list[int]:
    made = model.generate(
        torch.tensor([prompt(i)]), max_new_tokens=count, do_sample=False, eos_token_id=None, pad_token_id=0
    )
    return [int(token) for token in made[0, len(prompt(i)) :]]


def held(backend: Continuous) -> list[int]:
    """Count what is there of any sequence, in the manager and here."""
    processor = backend._manager.batch_processor
    scheduler, newest = processor.scheduler, backend._newest
    tables = [allocator.block_table for allocator in processor.cache.cache_allocators.values()]
    ours = [newest._awaited, newest._news, backend._places, backend._ids]
    return [len(each) for each in (scheduler.active_requests, scheduler.waiting_requests, *tables, *ours)]


def failing_once(model: LlamaForCausalLM, error: BaseException, *, when: threading.Event | None = None) -> None:
    def forward(*arguments: Any, **named: Any) -> Any:
        assert when is None or when.wait(WAIT_S)
        del model.forward
        raise error

    model.forward = forward


def test_sixteen_at_once_have_the_tokens_that_generate_makes_for_each(
    backend: Continuous, model: LlamaForCausalLM
) -> None:
    sequences = [greedy(i) for i in range(16)]
    run(backend, *sequences)
    assert [ids(sequence) for sequence in sequences] == [expected(model, i) for i in range(16)]


def test_more_than_have_a_place_wait_and_all_are_whole(model: LlamaForCausalLM) -> None:
    backend = Continuous(model, ends=[], max_sequences=2, options={"page_size": 16, "num_blocks": 5})
    sequences = [greedy(i, None) for i in range(6)]
    run(backend, *sequences)
    backend.close()
    assert {len(sequence.prompt) + len(sequence.made) for sequence in sequences} == {backend.max_length}
    assert {sequence.finish_reason for sequence in sequences} == {"length"}


def test_a_token_that_ends_a_text_is_its_last(model: LlamaForCausalLM) -> None:
    token = expected(model, 0)[2]
    backend = Continuous(model, ends=[token], max_sequences=1)
    run(backend, sequence := greedy(0))
    backend.close()
    assert (ids(sequence)[-1], len(sequence.made), sequence.finish_reason) == (token, 3, "stop")


@pytest.mark.parametrize(
    "sampling",
    [
        {"temperature": 0},
        {"temperature": 1e-40},
        {"temperature": 1e-300},
        {"temperature": 2},
        {"top_k": 10**12},
        {"top_k": 1},
        {"top_p": 1e-12},
        {"top_p": 1},
    ],
)
def test_what_would_end_it_for_everybody_is_served_as_it_is_meant(
    backend: Continuous, model: LlamaForCausalLM, sampling: dict[str, Any]
) -> None:
    run(backend, sequence := sampled(**sampling))
    assert len(sequence.made) == 6
    run(backend, after := greedy(1))
    assert ids(after) == expected(model, 1)


@pytest.mark.parametrize("bad", [[], [1] * 64, [1] * 1000, [1, 256], [99_999], [-1, 1]])
def test_a_prompt_that_would_end_it_is_refused_and_the_next_user_is_served(backend: Continuous, bad: list[int]) -> None:
    with pytest.raises(InvalidInput, match="Expected"):
        backend.add(Running(bad, Sampling(max_tokens=3), 0))
    run(backend, after := greedy(1))
    assert len(after.made) == 6


def test_equal_scores_are_no_choice_for_the_greedy() -> None:
    model = llama()
    torch.nn.init.zeros_(model.lm_head.weight)
    backend = Continuous(model, ends=[], max_sequences=1)
    run(backend, sequence := greedy(0))
    backend.close()
    assert ids(sequence) == [0] * 6


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("seed", 0),
        ("min_p", 0.1),
        ("presence_penalty", 1.0),
        ("frequency_penalty", -1.0),
        ("repetition_penalty", 1.1),
        ("logit_bias", {1: 2.0}),
        ("logprobs", 0),
    ],
)
def test_what_only_the_own_loop_does_is_refused_with_its_name(backend: Continuous, name: str, value: Any) -> None:
    with pytest.raises(InvalidInput, match=rf'{name}=.* backend="own"'):
        backend.add(sampled(**{name: value}))
    assert held(backend) == [0] * 7


def test_nothing_is_left_of_200_that_were_cancelled(backend: Continuous) -> None:
    for i in range(200):
        backend.add(sequence := greedy(i, None))
        if i % 3:
            backend.step()
        backend.drop(sequence)
    until(lambda: held(backend) == [0] * 7)
    run(backend, after := greedy(1))
    backend.drop(after)  # as the engine does with all
    assert len(after.made) == 6


def test_who_is_cancelled_stops_nobody_else(backend: Continuous, model: LlamaForCausalLM) -> None:
    backend.add(leaving := greedy(0, None))
    backend.add(staying := greedy(1))
    backend.step()
    backend.drop(leaving)
    run(backend, greedy(2))
    while staying.finish_reason is None:
        backend.step()
    assert ids(staying) == expected(model, 1)


@pytest.mark.parametrize("count", [1, 50])
def test_one_that_was_cancelled_before_the_manager_had_it_is_cancelled_again(backend: Continuous, count: int) -> None:
    backend._manager.add_request(prompt(0), request_id=f"left-{count}", max_new_tokens=count, streaming=True)
    run(backend, greedy(1, 20))
    until(lambda: held(backend) == [0] * 7)


def test_who_waits_for_long_looks_again_and_misses_nothing(
    backend: Continuous, model: LlamaForCausalLM, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(continuous, "_LOOK_S", 1e-6)
    run(backend, sequence := greedy(0))
    assert ids(sequence) == expected(model, 0)


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (RuntimeError("boom"), Unavailable),
        (torch.OutOfMemoryError("CUDA out of memory"), OutOfMemory),
        (RuntimeError("CUDA error: an illegal memory access was encountered"), GpuFailed),
    ],
)
def test_when_it_fails_all_hear_that_they_may_try_again_and_the_next_user_is_served(
    backend: Continuous,
    model: LlamaForCausalLM,
    error: Exception,
    told: type[StreamAppError],
    caplog: pytest.LogCaptureFixture,
) -> None:
    failing_once(model, error, when=(are_added := threading.Event()))
    for sequence in (sequences := [greedy(i) for i in range(3)]):
        backend.add(sequence)
    are_added.set()
    end(backend, *sequences)
    assert [type(sequence.error) for sequence in sequences] == [told] * 3
    assert all(sequence.error and sequence.error.retryable for sequence in sequences)  # type: ignore[attr-defined]
    run(backend, after := greedy(1))
    assert ids(after) == expected(model, 1)
    assert len([record for record in caplog.records if record.name == "streamapp"]) == 1


def test_who_asks_as_it_fails_starts_it_and_those_before_hear_of_it(
    backend: Continuous, model: LlamaForCausalLM
) -> None:
    failing_once(model, RuntimeError("boom"))
    backend.add(before := greedy(0))
    until(lambda: not backend._manager.is_running())
    run(backend, after := greedy(1))
    assert isinstance(before.error, Unavailable)
    assert ids(after) == expected(model, 1)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_thread_that_ends_and_says_nothing_is_noticed(backend: Continuous, model: LlamaForCausalLM) -> None:
    failing_once(model, SystemExit())
    run(backend, sequence := greedy(0))
    assert isinstance(sequence.error, Unavailable)
    run(backend, after := greedy(1))
    assert ids(after) == expected(model, 1)


def test_who_fails_again_and_again_is_asked_to_wait_longer_each_time(
    backend: Continuous, model: LlamaForCausalLM, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [time.monotonic()]
    monkeypatch.setattr(time, "monotonic", lambda: sum(now))
    failing_once(model, RuntimeError("boom"))
    run(backend, greedy(0))  # after the first it is started at once
    for _ in range(8):
        failing_once(model, RuntimeError("boom"))
        run(backend, greedy(0))
        with pytest.raises(Unavailable, match="has failed") as refused:
            backend.add(greedy(0))
        now.append(refused.value.retry_after_s or 0)
    run(backend, greedy(0))
    assert now[1:] == [1, 2, 4, 8, 16, 32, 60, 60]


def test_a_cache_that_cannot_be_made_anew_is_told_and_tried_again(
    backend: Continuous, model: LlamaForCausalLM, monkeypatch: pytest.MonkeyPatch, advance: Callable[[float], None]
) -> None:
    failing_once(model, RuntimeError("boom"))
    run(backend, greedy(0))
    with monkeypatch.context() as patch:
        patch.setattr(backend._config, "num_blocks", 10**12)
        with pytest.raises(Unavailable, match="try again"):
            backend.add(greedy(1))
    advance(60)
    run(backend, after := greedy(1))
    assert ids(after) == expected(model, 1)


def test_its_thread_ends_with_it_and_keeps_no_process(model: LlamaForCausalLM) -> None:
    before = {*threading.enumerate()}
    backend = Continuous(model, ends=[], max_sequences=4)
    [thread] = {*threading.enumerate()} - before
    assert thread.daemon
    del backend
    gc.collect()
    assert not thread.is_alive()


def test_the_model_has_its_attention_back_and_those_at_work_hear_of_the_end() -> None:
    model = llama("eager")
    backend = Continuous(model, ends=[], max_sequences=4)
    assert model.config._attn_implementation == "paged|eager"
    backend.add(sequence := greedy(0, None))
    backend.close()
    backend.close()
    assert model.config._attn_implementation == "eager"
    assert isinstance(sequence.error, Unavailable)


@pytest.mark.parametrize(
    ("max_length", "options", "expected"), [(None, {}, 64), (20, {}, 20), (500, {}, 64), (None, {"num_blocks": 1}, 48)]
)
def test_a_text_is_as_long_as_model_room_and_app_allow(
    model: LlamaForCausalLM, max_length: int | None, options: dict[str, Any], expected: int
) -> None:
    options = {"page_size": 48, **options}
    backend = Continuous(model, ends=[], max_sequences=2, max_length=max_length, options=options)
    run(backend, sequence := greedy(0, None))
    backend.close()
    assert (backend.max_length, len(sequence.prompt) + len(sequence.made)) == (expected, expected)


@pytest.mark.parametrize("options", [{"blocks": 3}, {"num_blocks": 10**12}, {"page_size": 1}])
def test_options_that_cannot_be_are_mistakes_of_the_app(options: dict[str, Any]) -> None:
    with pytest.raises(DefinitionError, match='Engine.*"transformers"'):
        Continuous(model := llama("eager"), ends=[], max_sequences=2, options=options)
    assert model.config._attn_implementation == "eager"


@pytest.mark.parametrize(
    ("family", "sizes", "said"),
    [
        ("Mpt", {"d_model": 32, "n_heads": 4, "n_layers": 2, "vocab_size": 64}, "other tokens than alone"),
        ("Mamba", {"hidden_size": 32, "num_hidden_layers": 1, "vocab_size": 64}, "Invalid layer type"),
        ("T5", {"d_model": 32, "d_kv": 8, "d_ff": 32, "num_layers": 1, "num_heads": 4}, "has an encoder"),
    ],
)
def test_a_model_that_is_not_batched_as_it_should_be_is_refused(family: str, sizes: dict[str, Any], said: str) -> None:
    torch.manual_seed(0)
    config = getattr(transformers, f"{family}Config")(initializer_range=0.3, **sizes)
    kind = transformers.AutoModelForSeq2SeqLM if family == "T5" else transformers.AutoModelForCausalLM
    with pytest.raises(DefinitionError, match=f"{said}.*TokenStream"):
        Continuous(model := kind.from_config(config), ends=[], max_sequences=2, max_length=32)
    assert not str(model.config._attn_implementation).startswith("paged")


@pytest.mark.parametrize(
    ("error", "raised"),
    [(ValueError("odd"), DefinitionError), (torch.OutOfMemoryError("full"), torch.OutOfMemoryError)],
)
def test_a_model_that_fails_in_its_batching_is_refused(error: Exception, raised: type[Exception]) -> None:
    model = llama()
    forward = model.forward

    def failing(*arguments: Any, **named: Any) -> Any:
        if "cache" in named:
            raise error
        return forward(*arguments, **named)

    model.forward = failing
    with pytest.raises(raised, match=r"fails.*odd|full"):
        Continuous(model, ends=[], max_sequences=2)
    assert model.config._attn_implementation == "sdpa"


def test_a_room_that_is_too_small_is_a_mistake_of_the_app(model: LlamaForCausalLM) -> None:
    with pytest.raises(DefinitionError, match="max_length of at least 9, got 0"):
        Continuous(model, ends=[], max_sequences=2, max_length=0)
