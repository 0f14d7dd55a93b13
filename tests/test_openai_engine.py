"""OpenAI's paths over the engine itself: many readers of one model, in turn in its app's inference thread."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import torch
from starlette.testclient import TestClient
from tests.scripted_model import LETTERS
from tests.served import serving
from transformers import LlamaConfig, LlamaForCausalLM

import streamapp
from streamapp.llm import Engine

CHAT = "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}"
PROMPT = "Once upon a time"


class Tiny(streamapp.App):
    openai = streamapp.OpenAI(text="llm")
    max_running = 16

    def setup(self) -> None:
        torch.manual_seed(0)
        sizes = {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
        model = LlamaForCausalLM(LlamaConfig(vocab_size=257, max_position_embeddings=128, **sizes)).eval()
        model.generation_config.eos_token_id = None
        rows = model.lm_head.weight.data
        rows[94:] = rows[:94].repeat(2, 1)[: 257 - 94]  # the likeliest is always a letter of ASCII
        LETTERS.chat_template = CHAT
        self.llm = Engine(model, LETTERS, name="tiny", max_length=64)

    @streamapp.endpoint("/hello")
    def hello(self) -> str:
        return "hello"


@pytest.fixture(scope="module")
def client() -> Iterator[TestClient]:
    with serving(Tiny) as client:
        yield client


def complete(client: TestClient, **body: Any) -> Any:
    return client.post("/v1/completions", json={"model": "tiny", "prompt": PROMPT, "temperature": 0, **body})


def text(client: TestClient, **body: Any) -> str:
    told: str = complete(client, **body).json()["choices"][0]["text"]
    return told


def test_sixteen_readers_at_a_time_get_what_one_gets_alone(client: TestClient) -> None:
    alone = [text(client, prompt=f"{PROMPT} {n}") for n in range(4)]
    with ThreadPoolExecutor(16) as readers:
        together = [*readers.map(lambda n: text(client, prompt=f"{PROMPT} {n % 4}"), range(16))]
    assert together == alone * 4
    assert len(set(alone)) > 1


def test_the_same_seed_gives_the_same_choices(client: TestClient) -> None:
    first, again = [complete(client, seed=5, temperature=1, n=2).json() for _ in range(2)]
    assert first["choices"] == again["choices"]
    assert first["choices"][0]["text"] != first["choices"][1]["text"]
    assert first["usage"] == {"prompt_tokens": len(PROMPT), "completion_tokens": 32, "total_tokens": len(PROMPT) + 32}


def test_a_stop_may_lie_across_tokens(client: TestClient) -> None:
    whole = text(client)
    assert text(client, stop=whole[3:6]) == whole[: whole.index(whole[3:6])]


def test_a_stream_is_the_document_in_pieces(client: TestClient) -> None:
    streamed = complete(client, stream=True).text
    assert streamed.endswith("data: [DONE]\n\n")
    assert streamed.count('"text":') == 17
    logprobs = complete(client, logprobs=2, max_tokens=3).json()["choices"][0]["logprobs"]
    assert [len(top) for top in logprobs["top_logprobs"]] == [2, 2, 2]


def test_a_conversation_is_answered_by_the_models_template(client: TestClient) -> None:
    body = {"messages": [{"role": "user", "content": PROMPT}], "max_tokens": 4, "temperature": 0}
    told = client.post("/v1/chat/completions", json=body).json()
    assert told["usage"]["prompt_tokens"] == len(f"user: {PROMPT}\n")
    assert told["choices"][0]["message"]["content"] == text(client, prompt=f"user: {PROMPT}\n", max_tokens=4)


@pytest.mark.parametrize(
    "wrong",
    [
        *({"prompt": ""}, {"prompt": "x" * 64}, {"prompt": [257]}, {"prompt": [-1]}, {"prompt": []}, {"stop": [""]}),
        *({"logit_bias": {"257": 1}}, {"stop": ["a"] * 17}, {"temperature": 3}, {"max_tokens": 0}, {"n": 1000}),
    ],
)
def test_what_cannot_be_is_a_bad_request_and_the_next_is_served(client: TestClient, wrong: dict[str, Any]) -> None:
    refusal = complete(client, **wrong)
    assert refusal.status_code == 400
    assert refusal.json()["error"]["param"].split(".")[0] in wrong
    assert complete(client).status_code == 200


def test_tools_need_a_model_that_calls_them(client: TestClient) -> None:
    body = {"messages": [{"role": "user", "content": "hi"}], "tools": [{"type": "function", "function": {"name": "f"}}]}
    refusal = client.post("/v1/chat/completions", json=body)
    assert (refusal.status_code, refusal.json()["error"]["param"]) == (400, "tools")
