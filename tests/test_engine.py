"""The engine: what is asked is checked, tokens become text, and who leaves ends nobody else's."""

import asyncio
import gc
import math
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextvars import Context, copy_context
from operator import itemgetter
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from tests.scripted_model import END, LETTERS, Scripted, ids, letters
from transformers import LlamaConfig, LlamaForCausalLM

from streamapp.errors import DefinitionError, EndpointFailed, InvalidInput, Unavailable
from streamapp.jobs.pause import Pause, enter_turns
from streamapp.llm.engine import Engine
from streamapp.llm.generation import Running


def made_of(says: Callable[[Running], list[int]], places: int = 16, **options: Any) -> tuple[Engine, Scripted]:
    """Return an engine, and the backend that it has."""
    backend = Scripted(says, places)
    return Engine(options.pop("model", None), LETTERS, backend=backend, **options), backend


def saying(text: str, **options: Any) -> tuple[Engine, Scripted]:
    """Return an engine whose model says this, whatever it is asked."""
    return made_of(lambda sequence: [*ids(text), END], **options)


def by_turns() -> Context:
    """Return a context in which what runs takes turns."""
    context = copy_context()
    context.run(enter_turns)
    return context


def text_of(stream: Iterator[Any]) -> str:
    """Return the text that came in pieces, which is the ending's."""
    *tokens, ending = stream
    text = "".join(token["text"] for token in tokens)
    assert text == ending["text"]
    return text


def test_a_text_comes_token_by_token_and_then_whole() -> None:
    engine, _ = saying("hi 你")
    *tokens, ending = engine.stream("say")
    assert [token["text"] for token in tokens] == ["h", "i", " ", "", "", "你", ""]
    usage = {"prompt_tokens": 3, "completion_tokens": 7, "total_tokens": 10}
    assert ending == {"text": "hi 你", "index": 0, "finish_reason": "stop", "usage": usage}


def test_a_prompt_may_be_tokens() -> None:
    engine, backend = saying("a")
    assert [*engine.stream("say")] == [*engine.stream(ids("say"))]
    assert backend.seen[0].prompt == backend.seen[1].prompt == tuple(ids("say"))


def test_a_tokenizer_that_came_with_a_truncation_cuts_no_prompt() -> None:
    tokenizer = letters()
    tokenizer.backend_tokenizer.enable_truncation(2)
    engine = Engine(None, tokenizer, backend=(backend := Scripted(lambda sequence: [END])))
    assert tokenizer.backend_tokenizer.truncation is None
    assert text_of(engine.stream("long")) == "" and backend.seen[0].prompt == tuple(ids("long"))


def test_it_makes_no_token_that_nobody_asks_for() -> None:
    engine, backend = saying("hello")
    stream = engine.stream("x")
    assert (backend.steps, backend.seen) == (0, [])
    for count in (1, 2, 3):
        next(stream)
        assert backend.steps == count


def test_one_step_makes_the_next_token_of_every_reader() -> None:
    engine, backend = saying("hello")
    streams = [engine.stream("x") for _ in range(10)]
    for _ in "hello":
        assert len({next(stream)["text"] for stream in streams}) == 1
    assert backend.steps == 5 + 9  # a step makes those of all that have begun, and one begins after the other


def test_who_leaves_ends_its_own_within_a_token_and_nobody_elses() -> None:
    engine, backend = saying("hello")
    leaving, staying = engine.stream("x"), engine.stream("x")
    next(leaving), next(staying)
    leaving.close()  # type: ignore[attr-defined]
    assert [*backend.sequences] == [backend.seen[1]] and engine.statistics().running == 1
    assert [item["text"] for item in staying] == ["e", "l", "l", "o", "", "hello"]
    assert backend.sequences == {} and engine.statistics() == (0, 0)


def test_a_stream_that_is_forgotten_is_let_go_of() -> None:
    engine, backend = saying("hello")
    stream = engine.stream("x")
    next(stream)
    del stream
    gc.collect()
    assert backend.sequences == {}


def test_one_that_was_never_begun_holds_nothing() -> None:
    engine, backend = saying("hello")
    engine.stream("x").close()  # type: ignore[attr-defined]
    assert backend.seen == [] and engine.statistics() == (0, 0)


def test_who_leaves_while_a_token_is_made_is_let_go_of_behind_it() -> None:
    left: list[Any] = []

    class Leaving(Scripted):
        def step(self) -> None:
            super().step()
            while left:
                left.pop().close()
                assert len(self.sequences) == 2

    backend = Leaving(lambda sequence: [*ids("hello"), END])
    engine = Engine(None, LETTERS, backend=backend)
    leaving, staying = engine.stream("x"), engine.stream("x")
    next(leaving)
    left.append(leaving)
    next(staying)
    assert [*backend.sequences] == [backend.seen[1]]


def test_a_slow_reader_holds_nobody_up_and_gives_its_place_away() -> None:
    engine, backend = saying("hello", places=2)
    slow = engine.stream("x")
    next(slow)
    for _ in range(3):
        assert text_of(engine.stream("x")) == "hello"
    assert [*backend.sequences] == [] and engine.statistics() == (1, 5)
    assert [item["text"] for item in slow] == ["e", "l", "l", "o", "", "hello"]


def test_those_who_begin_in_one_round_are_read_by_one_step() -> None:
    engine, backend = saying("ab")
    turns = by_turns()
    readers = [engine.stream("x") for _ in range(3)]
    paused: list[Any] = [turns.run(next, reader) for reader in readers]
    assert paused == 3 * [Pause(text="", token=None, index=0)]
    assert (len(backend.seen), backend.steps) == (3, 0)
    assert [turns.run(next, reader)["text"] for reader in readers] == ["a", "a", "a"]
    assert backend.steps == 1


def test_who_has_no_place_yet_lets_others_go_on() -> None:
    engine, _ = saying("abc", places=1)
    turns = by_turns()
    one, other = engine.stream("x"), engine.stream("y")
    rounds = [[turns.run(next, reader)["text"] for reader in (one, other)] for _ in range(3)]
    assert rounds == [["", ""], ["a", ""], ["b", ""]]


def test_more_than_there_are_places_wait_for_one() -> None:
    engine, _ = saying("hello", places=2)
    streams = [engine.stream("x") for _ in range(5)]
    texts = [""] * 5
    while streams:
        for n, stream in enumerate([*streams]):
            item = next(stream, None)
            if item is None:
                streams.remove(stream)
            elif "finish_reason" in item:
                texts[n] += item["text"]
    assert "".join(texts) == "hello" * 5


def test_threads_that_ask_at_a_time_each_get_their_own() -> None:
    engine, _ = made_of(lambda sequence: [*sequence.prompt, END])
    told = Counter[str]()

    def ask(word: str) -> None:
        told[text_of(engine.stream(word))] += 1

    words = [f"word {n}" for n in range(20)]
    threads = [threading.Thread(target=ask, args=(word,)) for word in words]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert told == Counter(words) and engine.statistics() == (0, 0)


@pytest.mark.parametrize("stop", [". T", [". T"], ["zzz", ". T", "Two"], ["ne. Two", ". T"]])
def test_a_text_that_ends_it_does_so_across_tokens(stop: Any) -> None:
    engine, backend = saying("One. Two. Three.")
    *tokens, ending = engine.stream("x", stop=stop)
    assert "".join(token["text"] for token in tokens) == ending["text"] == "One"
    assert (ending["finish_reason"], ending["usage"]["completion_tokens"], backend.sequences) == ("stop", 6, {})  # type: ignore[typeddict-item]


def test_what_was_held_back_comes_with_the_last_token() -> None:
    engine, _ = made_of(lambda sequence: ids("One. 你")[:-1])
    *tokens, ending = engine.stream("x", stop=". \ufffd!")
    assert [token["text"] for token in tokens] == ["O", "n", "e", "", "", "", ". \ufffd"]
    assert ending["text"] == "One. \ufffd" and ending["finish_reason"] == "length"  # type: ignore[typeddict-item]


def test_the_rest_can_end_it_too() -> None:
    engine, _ = made_of(lambda sequence: ids("One. 你")[:-1])
    *_, ending = engine.stream("x", stop="\ufffd")
    assert ending == ending | {"text": "One. ", "finish_reason": "stop"}


def test_a_token_that_ends_it_has_no_text_whatever_the_tokenizer_calls_it() -> None:
    model = SimpleNamespace(generation_config=SimpleNamespace(eos_token_id=[ids("!")[0]]))
    engine, _ = made_of(lambda sequence: ids("hi!"), model=model)
    assert text_of(engine.stream("x")) == "hi"


def test_choices_come_beside_each_other_each_with_its_end_and_seed() -> None:
    engine, backend = made_of(lambda sequence: [*ids("abc"[: 1 + len(backend.seen)]), END])
    items = [*engine.stream("x", n=3, seed=7)]
    endings = {item["index"]: item["text"] for item in items if "finish_reason" in item}
    assert endings == {0: "ab", 1: "abc", 2: "abc"} and [one.seed for one in backend.seen] == [7, 8, 9]
    assert [item["index"] for item in items][:4] == [0, 1, 2, 0]


def test_a_choice_that_has_ended_gives_its_place_away_while_others_go_on() -> None:
    engine, backend = made_of(lambda sequence: ids("a." if len(backend.seen) == 1 else "hello"), places=2)
    stream = engine.stream("x", n=2, stop=".")
    while "finish_reason" not in next(stream):
        pass
    assert [*backend.sequences] == [backend.seen[1]]


def test_without_a_seed_each_request_has_its_own() -> None:
    engine, backend = saying("a")
    for _ in range(10):
        text_of(engine.stream("x"))
    assert len({sequence.seed for sequence in backend.seen}) == 10


def test_log_probabilities_are_told_where_they_were_asked_for() -> None:
    engine, _ = saying("a")
    (plain, *_), (told, *_) = engine.stream("x"), engine.stream("x", logprobs=2)
    a = ids("a")[0]
    rows = [{"token": a, "text": "a", "logprob": -0.5}, {"token": 65, "text": LETTERS.decode([65]), "logprob": -2.0}]
    assert plain == {"text": "a", "token": a, "index": 0}
    assert told == {**plain, "logprob": -0.5, "own_text": "a", "top_logprobs": rows}


def test_a_token_that_decides_no_text_has_its_own_where_no_others_are_told() -> None:
    engine, _ = saying("ab")
    first, *_ = engine.stream("x", logprobs=0, stop="abc")
    assert first == {"text": "", "token": ids("a")[0], "index": 0, "logprob": -0.5, "own_text": "a", "top_logprobs": []}


def test_what_is_left_to_the_model_is_what_its_config_says() -> None:
    said = SimpleNamespace(temperature=0.6, top_p=None, top_k=20, repetition_penalty=1.1, eos_token_id=None)
    engine, backend = saying("a", model=SimpleNamespace(generation_config=said, name_or_path="some/where/tiny/"))
    text_of(engine.stream("x"))
    text_of(engine.stream("x", temperature=0, top_k=0, top_p=0.5, repetition_penalty=1, max_tokens=3))
    names = ("temperature", "top_p", "top_k", "min_p", "repetition_penalty", "max_tokens")
    chosen = [tuple(getattr(one.sampling, name) for name in names) for one in backend.seen]
    assert chosen == [(0.6, 1.0, 20, 0.0, 1.1, 99), (0, 0.5, 0, 0.0, 1, 3)] and engine.name == "tiny"


def test_a_config_that_says_what_cannot_be_is_refused() -> None:
    said = SimpleNamespace(generation_config=SimpleNamespace(temperature=3.0, eos_token_id=None))
    with pytest.raises(
        DefinitionError, match="generation config .*temperature: expected a number from 0 to 2, got 3.0"
    ):
        saying("a", model=said)


def test_no_more_is_made_than_there_is_room_for() -> None:
    engine, backend = saying("a")
    text_of(engine.stream("x" * 95, max_tokens=1000))
    assert backend.seen[0].sampling.max_tokens == 5


@pytest.mark.parametrize(
    "prompt, said",
    [
        ("", "prompt: expected 1 to 99 tokens, got 0"),
        ([], "prompt: expected 1 to 99 tokens, got 0"),
        ("x" * 100, "prompt: expected 1 to 99 tokens, as this model's maximum context length is 100, got 100"),
        ([1, 257], "prompt: expected a whole number from 0 to 256, got 257"),
        ([-1], "prompt: expected a whole number from 0 to 256, got -1"),
        ([True], "prompt: expected a whole number from 0 to 256, got True"),
        ([1.0], "prompt: expected a whole number from 0 to 256, got 1.0"),
        (["x"], "prompt: expected a whole number from 0 to 256, got 'x'"),
        ([[1]], r"prompt: expected a whole number from 0 to 256, got \[1\]"),
        (b"x", "prompt: expected a text, or a list of token ids, got b'x'"),
        (None, "prompt: expected a text, or a list of token ids, got None"),
        ("\ud800", "prompt: expected a text of Unicode"),
    ],
)
def test_a_prompt_that_cannot_be_is_refused_at_once(prompt: Any, said: str) -> None:
    engine, backend = saying("a")
    with pytest.raises(InvalidInput, match=said):
        engine.stream(prompt)
    assert backend.seen == [] and text_of(engine.stream("x")) == "a"


@pytest.mark.parametrize(
    "asked",
    [
        {"temperature": math.nan},
        {"max_tokens": 0},
        {"n": 17},
        {"logit_bias": {257: 1.0}},
        {"stop": ""},
        {"seed": 2**64},
    ],
)
def test_what_cannot_be_asked_is_refused_at_once(asked: dict[str, Any]) -> None:
    engine, backend = saying("a")
    with pytest.raises(InvalidInput, match=f"{[*asked][0]}: expected"):
        engine.stream("x", **asked)
    assert backend.seen == []


def test_what_a_backend_cannot_do_is_told_and_nothing_of_it_stays() -> None:
    engine, backend = saying("a")
    with pytest.raises(InvalidInput, match="min_p: this backend has none"):
        next(engine.stream("x", min_p=0.5))
    assert engine.statistics() == (0, 0) and text_of(engine.stream("x")) == "a"


def test_what_fails_ends_its_readers_and_the_next_is_served() -> None:
    engine, backend = saying("hello")
    streams = [engine.stream("x") for _ in range(2)]
    for stream in streams:
        next(stream)
    backend.fails = ValueError("no numbers")
    assert next(streams[0])["text"] == "e"  # which was made with the other's first
    for stream in streams:
        with pytest.raises(ValueError, match="no numbers"):
            next(stream)
    backend.fails = None
    assert text_of(engine.stream("x")) == "hello" and engine.statistics() == (0, 0)


async def test_on_the_loop_it_is_refused_as_it_would_block_it() -> None:
    engine, _ = saying("a")
    with pytest.raises(DefinitionError, match="Engine: .* write `def`"):
        next(engine.stream("x"))
    assert await asyncio.to_thread(text_of, engine.stream("x")) == "a"


def test_a_conversation_is_answered_by_the_models_template() -> None:
    engine, backend = saying("hi")
    engine.tokenizer = LETTERS.__class__(tokenizer_object=LETTERS.backend_tokenizer, eos_token="<end>")
    engine.tokenizer.chat_template = "{% for message in messages %}{{ message.content }}|{% endfor %}>"
    assert text_of(engine.chat([{"role": "user", "content": "you"}], max_tokens=5)) == "hi"
    assert backend.seen[0].prompt == tuple(ids("you|>")) and backend.seen[0].sampling.max_tokens == 5
    with pytest.raises(InvalidInput, match="messages: expected 1 to 99 tokens, as this model's maximum .* got 102"):
        engine.chat([{"role": "user", "content": "x" * 100}])


def test_what_is_no_conversation_is_refused() -> None:
    engine, _ = saying("hi")
    with pytest.raises(InvalidInput, match="messages: "):
        engine.chat([])
    with pytest.raises(InvalidInput, match="messages: .*no chat template"):
        engine.chat([{"role": "user", "content": "you"}])


@pytest.fixture(scope="module")
def model() -> Any:
    """Make a model of bytes that knows nothing."""
    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    made = LlamaForCausalLM(LlamaConfig(vocab_size=257, max_position_embeddings=128, **sizes)).eval()
    made.generation_config.eos_token_id = None
    return made


@pytest.mark.parametrize("backend", ["own", "transformers"])
def test_each_backend_makes_what_generate_makes(model: Any, backend: Any) -> None:
    model.generation_config.repetition_penalty = 1 if backend == "own" else 1.1  # which transformers' batching has not
    engine = Engine(model, LETTERS, backend=backend, max_length=64)
    model.generation_config.repetition_penalty = None
    prompts = [f"prompt {n}" for n in range(4)]
    inputs = [torch.tensor([ids(prompt)]) for prompt in prompts]
    expected = [model.generate(one, max_new_tokens=8, do_sample=False)[0, len(one[0]) :].tolist() for one in inputs]
    streams = [engine.stream(prompt, temperature=0, max_tokens=8) for prompt in prompts]
    made = [[item["token"] for item in row[:-1]] for row in zip(*zip(*streams, strict=True), strict=True)]
    engine.close()
    assert made == expected


def test_the_same_seed_gives_the_same_text_whoever_is_beside(model: Any) -> None:
    engine = Engine(model, LETTERS)
    asked: dict[str, Any] = {"seed": 3, "temperature": 1.5, "max_tokens": 12}
    alone = text_of(engine.stream("once", **asked))
    beside = [engine.stream(f"other {n}") for n in range(5)]
    for stream in beside:
        next(stream)
    assert text_of(engine.stream("once", **asked)) == alone
    *_, ending = (item for item in engine.stream("once", n=2, **asked | {"seed": 2}) if item["index"] == 1)
    assert ending["text"] == alone and text_of(engine.stream("once", **asked | {"seed": 4})) != alone


def test_requests_of_all_kinds_are_each_what_they_are_alone(model: Any) -> None:
    engine = Engine(model, LETTERS, max_sequences=4)
    kinds: list[dict[str, Any]] = [
        {"temperature": 0},
        {"top_k": 5, "n": 2},
        {"top_p": 0.9, "logprobs": 3},
        {"min_p": 0.1},
    ]
    kinds += [{"presence_penalty": 1.0}, {"repetition_penalty": 1.3, "temperature": 1.9}, {"stop": ["a", "bc"]}]
    asked = [{"prompt": "x" * n + str(n), "seed": n, "max_tokens": 5 + n, **kinds[n % 7]} for n in range(20)]

    def ask(n: int) -> list[Any]:
        return sorted((item for item in engine.stream(**asked[n]) if "finish_reason" in item), key=itemgetter("index"))

    alone = [ask(n) for n in range(20)]
    left = engine.stream("left early")
    next(left)
    with ThreadPoolExecutor(20) as pool:
        together = pool.map(ask, range(20))
        left.close()  # type: ignore[attr-defined]
        assert [*together] == alone
    assert engine.statistics() == (0, 0)


def test_a_model_whose_numbers_have_gone_fails_its_reader_and_names_why(model: Any) -> None:
    engine = Engine(model, LETTERS, max_length=64)
    weight = model.lm_head.weight.data
    before = weight.clone()
    weight[5] = math.nan
    with pytest.raises(EndpointFailed, match="no distribution"):
        next(engine.stream("once"))
    weight.copy_(before)
    assert [*engine.stream("once", max_tokens=3)][-1]["index"] == 0


def test_a_backend_that_there_is_not_is_told_at_once(model: Any) -> None:
    with pytest.raises(DefinitionError, match='write "own" or "transformers"'):
        Engine(model, LETTERS, backend="vllm")  # type: ignore[arg-type]
    with pytest.raises(DefinitionError, match='write backend="transformers"'):
        Engine(model, LETTERS, options={"num_blocks": 8})


def test_when_it_is_closed_what_is_under_way_fails_and_what_is_asked() -> None:
    engine, backend = saying("hello")
    stream = engine.stream("x")
    next(stream)
    engine.close()
    for one in (stream, engine.stream("x")):
        with pytest.raises(Unavailable, match="closed"):
            next(one)
    assert backend.sequences == {}
