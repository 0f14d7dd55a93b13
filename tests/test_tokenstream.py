"""Any `generate()` as a stream of text: it ends with its reader, tells what it raises, and goes on only when asked."""

import asyncio
import contextvars
import threading
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from typing import Any

import pytest
import torch
from tests.scripted_model import LETTERS, ids
from transformers import LlamaConfig, LlamaForCausalLM

from streamapp.errors import DefinitionError, InvalidInput
from streamapp.llm import tokenstream

TokenStream: Any = tokenstream.TokenStream  # what comes is a token or an ending
BY = contextvars.ContextVar("BY", default="")


def saying(text: str, after: Callable[[], object] = lambda: None) -> Callable[..., None]:
    """Return a `generate` that says this, and calls `after` at its end."""

    def generate(streamer: Any, **inputs: Any) -> None:
        streamer.put(torch.tensor([[1, 2, 3]]))
        try:
            for token in ids(text):
                streamer.put(torch.tensor([token]))
        finally:
            after()
        streamer.end()

    return generate


def text_of(stream: Iterator[Any]) -> str:
    """Return the text that came in pieces, which is the ending's."""
    *tokens, ending = stream
    text = "".join(token["text"] for token in tokens)
    assert text == ending["text"]
    return text


def threads() -> list[str]:
    """Return the names of the threads in which something is generated."""
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("generate-")]


@pytest.fixture(scope="module")
def model() -> LlamaForCausalLM:
    """Make a model of bytes that knows nothing."""
    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    made = LlamaForCausalLM(LlamaConfig(vocab_size=257, **sizes)).eval()
    made.generation_config.eos_token_id = None
    return made


def test_a_text_comes_token_by_token_and_then_whole() -> None:
    *tokens, ending = TokenStream(LETTERS, saying("a你"))
    assert [token["text"] for token in tokens] == ["a", "", "", "你"]
    usage = {"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7}
    assert ending == {"text": "a你", "index": 0, "finish_reason": "length", "usage": usage}


def test_a_models_generate_makes_the_tokens_that_it_returns(model: LlamaForCausalLM) -> None:
    prompt = torch.tensor([ids("once")])
    expected = model.generate(prompt, max_new_tokens=9, do_sample=False)[0, 4:].tolist()
    *tokens, ending = TokenStream(LETTERS, model.generate, inputs=prompt, max_new_tokens=9, do_sample=False)
    assert [token["token"] for token in tokens if "token" in token] == expected
    assert ending["usage"]["prompt_tokens"] == 4


def test_its_end_is_told_by_its_reason(model: LlamaForCausalLM) -> None:
    prompt = torch.tensor([ids("once")])
    first = model.generate(prompt, max_new_tokens=1, do_sample=False)[0, 4].item()
    options: dict[str, Any] = {"inputs": prompt, "do_sample": False, "max_new_tokens": 9}
    assert [*TokenStream(LETTERS, model.generate, **options)][-1]["finish_reason"] == "length"
    token, ending = TokenStream(LETTERS, model.generate, **options, eos_token_id=first)
    assert (token["text"], ending) == ("", ending | {"finish_reason": "stop", "text": ""})
    *_, ending = TokenStream(LETTERS, saying("short"), max_new_tokens=9)
    assert ending["finish_reason"] == "stop"


def test_a_text_that_ends_it_does_so_across_tokens() -> None:
    *tokens, ending = TokenStream(LETTERS, saying("one. two. three"), stop=". t")
    assert ending == ending | {"text": "one", "finish_reason": "stop"}
    assert sum(ending["usage"].values()) == 2 * (3 + 6) and threads() == []


def test_what_was_held_back_comes_at_the_end() -> None:
    assert text_of(TokenStream(LETTERS, saying("one. "), stop=". t")) == "one. "


def test_what_it_raises_its_reader_hears() -> None:
    def fail() -> None:
        raise ValueError("out of words")

    stream = TokenStream(LETTERS, saying("ab", after=fail))
    assert [next(stream)["text"], next(stream)["text"]] == ["a", "b"]
    with pytest.raises(ValueError, match="out of words"):
        next(stream)
    assert threads() == []


def test_readers_that_leave_early_leave_nothing_behind() -> None:
    said: list[str] = []

    def generate(streamer: Any) -> None:
        streamer.put([1])
        for n in range(1000):
            try:
                streamer.put([n % 200])
            except Exception:  # does not hold it
                said.append("went on")
        said.append("came to its end")

    for count in range(50):
        stream = TokenStream(LETTERS, generate)
        for _ in range(count % 3):
            next(stream)
        stream.close()
    assert said == [] and threads() == []


def test_one_that_swallows_the_readers_leaving_hears_it_again() -> None:
    counted: list[int] = []

    def generate(streamer: Any) -> None:
        streamer.put([1])
        for n in range(3):
            try:
                streamer.put([n])
            except BaseException:
                counted.append(n)

    stream = TokenStream(LETTERS, generate)
    next(stream)
    stream.close()
    assert counted == [0, 1, 2]


def test_a_stream_that_is_forgotten_ends() -> None:
    stream = TokenStream(LETTERS, saying("abc"))
    next(stream)
    del stream
    assert threads() == []


def test_it_goes_on_only_when_it_is_asked() -> None:
    made: list[int] = []

    def generate(streamer: Any) -> None:
        streamer.put([1])
        for n in range(3):
            made.append(n)
            streamer.put([n])

    stream = TokenStream(LETTERS, generate)
    assert made == []
    for count in (1, 2, 3):
        next(stream)
        assert made == [*range(count)]


def test_it_runs_as_its_readers_thread_does() -> None:
    seen: list[Any] = []

    def generate(streamer: Any) -> None:
        modes = torch.is_inference_mode_enabled(), torch.is_grad_enabled(), torch.is_autocast_enabled("cpu")
        seen.append((*modes, BY.get()))

    BY.set("me")
    for mode in (nullcontext(), torch.inference_mode(), torch.no_grad(), torch.autocast("cpu", torch.bfloat16)):
        with mode:
            [*TokenStream(LETTERS, generate)]
    expected = [(False, True, False), (True, False, False), (False, False, False), (False, True, True)]
    assert seen == [(*modes, "me") for modes in expected]


def test_several_sequences_and_beams_are_refused_before_the_start(model: LlamaForCausalLM) -> None:
    two = torch.tensor([[1, 2], [3, 4]])
    with pytest.raises(DefinitionError, match="one prompt for each TokenStream"):
        TokenStream(LETTERS, model.generate, input_ids=two)
    for name in ("num_beams", "num_return_sequences"):
        with pytest.raises(DefinitionError, match=f"write {name}=1"):
            TokenStream(LETTERS, model.generate, **{name: 4})
    model.generation_config.num_beams = 4  # as BART's says
    with pytest.raises(DefinitionError, match="write num_beams=1"):
        TokenStream(LETTERS, model.generate, input_ids=two[:1])
    TokenStream(LETTERS, model.generate, input_ids=two[:1], num_beams=1)
    model.generation_config.num_beams = None


def test_several_sequences_of_any_other_generate_are_refused() -> None:
    with pytest.raises(DefinitionError, match="sequences: 2"):
        next(TokenStream(LETTERS, lambda streamer: streamer.put([[1], [2]])))


def test_a_stop_that_is_no_text_is_refused() -> None:
    with pytest.raises(InvalidInput, match="stop: expected"):
        TokenStream(LETTERS, saying("a"), stop=["b", ""])


async def test_on_the_loop_it_is_refused_as_it_would_block_it() -> None:
    with pytest.raises(DefinitionError, match="write `def`"):
        next(TokenStream(LETTERS, saying("a")))
    assert await asyncio.to_thread(text_of, TokenStream(LETTERS, saying("a"))) == "a"


def test_nothing_is_made_of_nothing() -> None:
    (ending,) = TokenStream(LETTERS, lambda streamer: None)
    assert ending["text"] == ""
