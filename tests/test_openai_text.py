"""What a language model's tokens are told as: chunks of conversations and completions, and documents."""

import json
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from typing import Any

import pytest
from starlette.testclient import TestClient
from tests.scripted_answers import ScriptedModel
from tests.served import serving

import streamapp
from streamapp.errors import InvalidInput

CALL = {"id": "call_1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
TOOL = {"type": "function", "function": {"name": "f"}}


class Calling(ScriptedModel):
    """Call a tool where one is offered, after a word."""

    def chat(
        self, messages: Sequence[Mapping[str, Any]], *, tools: Sequence[Mapping[str, Any]] = (), **sampling: Any
    ) -> Iterator[Any]:
        if not tools:
            yield from super().chat(messages, **sampling)
            return
        yield {"text": "<call f>", "token": 1, "index": 0}
        yield {"text": "", "index": 0, "finish_reason": "tool_calls", "tool_calls": [CALL]}


class OnLoop(ScriptedModel):
    """Answer as a model elsewhere does: asynchronously, and by iterators that cannot all be closed."""

    def stream(self, prompt: Any, **sampling: Any) -> Any:
        return self._on_loop(super().stream(prompt, **sampling))

    async def _on_loop(self, items: Iterator[Any]) -> AsyncIterator[Any]:
        for item in items:
            yield item


class Elsewhere(ScriptedModel):
    """Pass on whole."""

    async def forward(self, path: str, body: Mapping[str, Any]) -> AsyncIterator[Any]:
        if body.get("prompt") == "too long":
            raise InvalidInput("prompt: too long")
        for n in range(2 if body.get("stream") else 1):
            yield {"id": [n], "model": "theirs", "path": path, "asked": body}

    async def models(self) -> list[str]:
        return ["theirs"]


class Bare(ScriptedModel):
    """Give iterators that have nothing to close."""

    def stream(self, prompt: Any, **sampling: Any) -> Any:
        return iter([*super().stream(prompt, **sampling)])


def app_of(model: Any) -> type[streamapp.App]:
    class Teller(streamapp.App):
        openai = streamapp.OpenAI(text="llm")

        def setup(self) -> None:
            self.llm = model

        @streamapp.endpoint("/hello")
        def hello(self) -> str:
            return "hello"

    return Teller


@pytest.fixture(scope="module")
def client() -> Iterator[TestClient]:
    with serving(app_of(Calling("a b c"))) as client:
        yield client


def chunks(client: TestClient, path: str = "/v1/completions", **body: Any) -> list[Any]:
    """Return what a stream tells, without `[DONE]`, which ends it."""
    lines = [line for line in client.post(path, json={"stream": True, **body}).text.splitlines() if line[:4] == "data"]
    assert lines.pop() == "data: [DONE]"
    return [json.loads(line.removeprefix("data: ")) for line in lines]


def chat(client: TestClient, **body: Any) -> list[Any]:
    return chunks(client, "/v1/chat/completions", messages=[{"role": "user", "content": "hi"}], **body)


def test_a_role_comes_first_and_a_reason_last_of_each_choice(client: TestClient) -> None:
    told = [chunk["choices"][0] for chunk in chat(client, n=2)]
    ones = [choice["delta"] for choice in told if choice["index"] == 1]
    assert ones[0]["role"] == "assistant"
    assert [delta["content"] for delta in ones[:-1]] == ["", "a ", "b ", "c"]
    assert [choice["finish_reason"] for choice in told[-2:]] == ["stop", "stop"]


def test_usage_is_null_until_the_last_chunk(client: TestClient) -> None:
    *others, last = chat(client, stream_options={"include_usage": True}, n=2)
    assert {chunk["usage"] for chunk in others} == {None}
    assert last["usage"] == {"prompt_tokens": 1, "completion_tokens": 6, "total_tokens": 7}


def test_what_a_model_calls_is_told_at_its_end(client: TestClient) -> None:
    role, calls, reason = [chunk["choices"][0] for chunk in chat(client, tools=[TOOL])]
    assert role["delta"]["content"] == ""
    assert calls["delta"] == {"content": None, "tool_calls": [{"index": 0, **CALL}]}
    assert reason["finish_reason"] == "tool_calls"


def test_a_document_has_what_a_model_calls(client: TestClient) -> None:
    body = {"messages": [{"role": "user", "content": "hi"}], "tools": [TOOL]}
    [choice] = client.post("/v1/chat/completions", json=body).json()["choices"]
    assert choice["message"] == {"role": "assistant", "content": None, "tool_calls": [CALL], "refusal": None}
    assert choice["finish_reason"] == "tool_calls"


def test_tools_that_may_not_be_called_are_not_offered(client: TestClient) -> None:
    told = chat(client, tools=[TOOL], tool_choice="none")
    assert [chunk["choices"][0]["delta"].get("content") for chunk in told] == ["", "a ", "b ", "c", None]


def test_tokens_that_decide_no_text_are_told_for_their_logprobs_alone() -> None:
    class Held(ScriptedModel):
        def _token(self, place: int, word: str, index: int, logprobs: int | None) -> dict[str, Any]:
            return {**super()._token(place, word, index, logprobs), "text": "", "own_text": word}

    with serving(app_of(Held("a b"))) as client:
        assert len(chat(client)) == 2
        told = [chunk["choices"][0]["logprobs"] for chunk in chat(client, logprobs=True)]
        assert [entry["token"] for each in told if each for entry in each["content"]] == ["a ", "b"]
        assert [chunk["choices"][0]["text"] for chunk in chunks(client, prompt="x", echo=True)] == ["x", ""]


def test_prompts_are_told_of_by_turns_with_indexes_of_their_own(client: TestClient) -> None:
    told = [chunk["choices"][0] for chunk in chunks(client, prompt=["x", "y"], n=2)]
    assert [choice["index"] for choice in told[:6]] == [0, 2, 1, 3, 0, 2]
    assert "".join(choice["text"] for choice in told if choice["index"] == 3) == "a b c"


def test_a_prompt_that_makes_nothing_is_echoed_with_its_end() -> None:
    class Silent(ScriptedModel):
        def stream(self, prompt: Any, **sampling: Any) -> Iterator[Any]:
            yield {"text": "", "index": 0, "finish_reason": "stop"}

    with serving(app_of(Silent())) as client:
        [choice] = [chunk["choices"][0] for chunk in chunks(client, prompt="x", echo=True)]
        assert (choice["text"], choice["finish_reason"]) == ("x", "stop")
        document = client.post("/v1/completions", json={"prompt": "x"}).json()
        assert document["usage"] == {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}


def test_offsets_of_a_stream_go_on(client: TestClient) -> None:
    told = [chunk["choices"][0]["logprobs"] for chunk in chunks(client, prompt="x", logprobs=0)]
    assert [each["text_offset"] for each in told if each] == [[0], [2], [4]]


@pytest.mark.parametrize("model", [OnLoop("a b c"), Bare("a b c")])
def test_models_may_answer_asynchronously_or_by_plain_iterators(model: Any) -> None:
    with serving(app_of(model)) as client:
        told = client.post("/v1/completions", json={"prompt": ["x", "y"], "logit_bias": {"5": 1}}).json()
        assert [choice["text"] for choice in told["choices"]] == ["a b c", "a b c"]
        assert "".join(chunk["choices"][0]["text"] for chunk in chunks(client, prompt="x")) == "a b c"
    assert model.asked[0][1]["logit_bias"] == {5: 1}


def test_a_model_elsewhere_gets_a_request_whole_and_answers_under_our_names() -> None:
    body: Any = {"model": "teller", "prompt": "x", "response_format": {"type": "json_object"}}
    with serving(app_of(Elsewhere())) as client:
        told = client.post("/v1/completions", json=body)
        assert told.json()["asked"] == body
        assert told.json()["id"] == f"cmpl-{told.headers['X-Streamapp-Job-Id']}"
        first, second = chunks(client, **body)
        assert (first["path"], first["model"], first["id"]) == ("/completions", "teller", second["id"])
        refusal = client.post("/v1/completions", json={"prompt": "too long"})
    assert (refusal.status_code, refusal.json()["error"]["param"]) == (400, "prompt")
