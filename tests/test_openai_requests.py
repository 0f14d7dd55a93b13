"""Bodies of OpenAI's requests for text: what of them is honoured, and what is refused by which name."""

from typing import Any

import pytest
from fastapi.exceptions import RequestValidationError

from streamapp.openai.requests import ChatBody, CompletionBody, described, read_chat, read_completion

MESSAGES = [{"role": "user", "content": "hi"}]
TOOL = {"type": "function", "function": {"name": "f", "parameters": {}}}


def refused(read: Any, body: dict[str, Any]) -> str:
    with pytest.raises(RequestValidationError) as refusal:
        read(body)
    return ".".join(map(str, refusal.value.errors()[0]["loc"][1:]))


@pytest.mark.parametrize(
    "harmless",
    [
        {"user": "me", "metadata": {"a": "b"}, "store": True, "service_tier": "flex", "verbosity": "low"},
        {"safety_identifier": "me", "prompt_cache_key": "k", "parallel_tool_calls": False, "prediction": None},
        {"response_format": {"type": "text"}, "modalities": ["text"], "audio": None, "functions": []},
        {"ignore_eos": False, "min_tokens": 0, "stop_token_ids": [], "add_generation_prompt": True, "suffix": ""},
        {"length_penalty": 1.0, "skip_special_tokens": True, "repeat_penalty": 1, "chat_template_kwargs": {}},
        {"cache_prompt": True, "provider": {"order": []}, "num_ctx": 2048},
        {"max_tokens": None, "temperature": None, "tools": None, "tool_choice": None, "logit_bias": None},
    ],
)
def test_what_changes_nothing_is_taken(harmless: dict[str, Any]) -> None:
    assert read_chat({"messages": MESSAGES, **harmless}).sampling() == {}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("response_format", {"type": "json_object"}), ("audio", {}), ("modalities", ["audio"]), ("functions", [{}])),
        *(("suffix", "x"), ("ignore_eos", True), ("min_tokens", 3), ("guided_json", {}), ("grammar", "root"), ("n", 0)),
        *(("repeat_penalty", 1.1), ("reasoning_effort", "high"), ("chat_template", "x"), ("seed", 2**63), ("n", "1")),
        *(("continue_final_message", True), ("prompt_logprobs", 0), ("top_p", 0), ("min_p", 1.1), ("stop", [1])),
        *(("add_generation_prompt", False), ("temperature", float("nan")), ("stream", "yes"), ("top_k", -2)),
    ],
)
def test_what_would_change_the_answer_is_honoured_or_refused(name: str, value: Any) -> None:
    assert refused(read_chat, {"messages": MESSAGES, name: value}).startswith(name)
    assert refused(read_completion, {"prompt": "a", name: value}).startswith(name)


@pytest.mark.parametrize(
    ("param", "body"),
    [
        ("top_logprobs", {"top_logprobs": 1}),
        ("tool_choice", {"tool_choice": "auto"}),
        ("tool_choice", {"tool_choice": {"type": "function", "function": {"name": "f"}}, "tools": [TOOL]}),
        ("stream_options", {"stream_options": {}}),
        ("messages", {"messages": MESSAGES * 10_001}),
        ("messages.0.content", {"messages": [{"role": "user"}]}),
        ("messages.1.content.0", {"messages": [*MESSAGES, {"role": "user", "content": [{"type": "input_audio"}]}]}),
        ("messages.0.content.0", {"messages": [{"role": "user", "content": [{"type": "text"}]}]}),
    ],
)
def test_what_does_not_go_together_is_refused(param: str, body: dict[str, Any]) -> None:
    assert refused(read_chat, {"messages": MESSAGES, **body}) == param


@pytest.mark.parametrize(
    ("param", "body"),
    [
        *(("prompt", {"prompt": ""}), ("prompt", {"prompt": []})),
        *(("prompt", {"prompt": [[]]}), ("prompt", {"prompt": ["a", ""]})),
        *(("prompt", {"prompt": ["a"] * 65, "n": 2}), ("best_of", {"best_of": 2}), ("best_of", {"n": 2, "best_of": 1})),
        *(("echo", {"echo": True, "logprobs": 1}), ("echo", {"echo": True, "prompt": [1]})),
    ],
)
def test_what_no_completion_can_be_is_refused(param: str, body: dict[str, Any]) -> None:
    assert refused(read_completion, {"prompt": "a", **body}) == param


def test_sampling_is_said_in_the_words_of_the_model() -> None:
    body = {"max_tokens": 9, "max_completion_tokens": 5, "stop": "x", "top_k": -1, "logprobs": True, "top_logprobs": 2}
    asked = read_chat({"messages": MESSAGES, **body}).sampling()
    assert asked == {"max_tokens": 5, "stop": ["x"], "top_k": 0, "logprobs": 2}


def test_a_completion_has_sixteen_tokens_where_nothing_is_said() -> None:
    assert read_completion({"prompt": "a"}).sampling() == {"max_tokens": 16}
    said = {"max_tokens": 3, "logprobs": 0}
    assert read_completion({"prompt": "a", **said}).sampling() == said


@pytest.mark.parametrize(
    ("given", "prompts"), [("a", ["a"]), (["a", "b"], ["a", "b"]), ([1, 2], [[1, 2]]), ([[1], [2]], [[1], [2]])]
)
def test_prompts_come_in_four_forms(given: Any, prompts: list[Any]) -> None:
    assert read_completion({"prompt": given}).prompts() == prompts


def test_content_in_parts_is_one_text_and_a_developer_is_the_system() -> None:
    parts = [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]
    body = read_chat({"messages": [{"role": "developer", "content": parts}, {"role": "assistant", "content": None}]})
    assert body.conversation() == [{"role": "system", "content": "ab"}, {"role": "assistant", "content": ""}]


def test_tools_are_left_out_where_none_may_be_called() -> None:
    assert read_chat({"messages": MESSAGES, "tools": [TOOL]}).offered_tools() == [TOOL]
    assert read_chat({"messages": MESSAGES, "tools": [TOOL], "tool_choice": "none"}).offered_tools() == []


def test_what_is_told_of_a_body_is_what_is_read() -> None:
    chat, completion = described(ChatBody, "mine"), described(CompletionBody, "mine")
    assert (chat["required"], completion["required"]) == (["messages"], ["prompt"])
    assert chat["properties"]["model"]["default"] == "mine"
    told = {name for schema in (chat, completion) for name in schema["properties"]}
    assert told <= {*ChatBody.model_fields, *CompletionBody.model_fields}
    assert "$ref" not in str((chat, completion))
