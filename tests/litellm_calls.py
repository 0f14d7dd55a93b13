"""Calls of litellm, in an environment of its own. Prints {name: what came of it}."""

import json
import os
import sys
from typing import Any

import httpx
import litellm

BASE: dict[str, Any] = {
    "api_base": os.environ["OPENAI_BASE_URL"],
    "api_key": os.environ["OPENAI_API_KEY"],
    "max_retries": 0,
}
litellm.suppress_debug_info = True


def chat(content: str, model: str = "openai/echo", **asked: Any) -> Any:
    messages = [{"role": "user", "content": content}]
    return litellm.completion(model=model, messages=messages, **{**BASE, **asked})


def text(chunks: list[Any]) -> str:
    return "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)


def told(call: Any, *arguments: Any, **asked: Any) -> Any:
    try:
        call(*arguments, **asked)
    except Exception as error:  # of litellm's
        return [type(error).__name__, getattr(error, "status_code", None)]
    return None


def chats() -> Any:
    answer = chat("one two three", n=2, seed=7)
    return [[choice.message.content for choice in answer.choices], answer.usage.completion_tokens]


def streams() -> Any:
    chunks = list(chat("one two three", stream=True, stream_options={"include_usage": True}))
    usages = [chunk.usage.completion_tokens for chunk in chunks if getattr(chunk, "usage", None)]
    reasons = [chunk.choices[0].finish_reason for chunk in chunks if chunk.choices and chunk.choices[0].finish_reason]
    return [text(chunks), reasons, usages]


def stops() -> Any:
    return [
        text(list(chat("one two three", stream=True, stop=["two t"]))),
        chat("a b c", max_tokens=2).choices[0].finish_reason,
    ]


def logprobs() -> Any:
    answer = chat("one two", logprobs=True, top_logprobs=1)
    return [[each.token, each.logprob] for each in answer.choices[0].logprobs.content]


def calls() -> Any:
    parameters = {"type": "object", "properties": {"city": {"type": "string"}}}
    tools = [{"type": "function", "function": {"name": "weather", "parameters": parameters}}]
    call = chat("Bern?", tools=tools).choices[0].message.tool_calls[0]
    return [call.function.name, call.function.arguments]


def completes() -> Any:
    return litellm.text_completion(model="text-completion-openai/echo", prompt="one two", **BASE).choices[0].text


def pictures() -> Any:
    answer = litellm.image_generation(model="openai/echo", prompt="red", n=2, size="16x16", **BASE)
    return [bool(image.b64_json) for image in answer.data]


def speaks() -> Any:
    answer = litellm.speech(model="openai/echo", voice="alloy", input="ab cd", response_format="pcm", **BASE)
    return answer.read().decode()


def models() -> Any:
    return litellm.get_valid_models(
        check_provider_endpoint=True, custom_llm_provider="openai", api_key=BASE["api_key"], api_base=BASE["api_base"]
    )


def leaves() -> Any:
    stream = chat("count", stream=True)
    next(stream)
    stream.completion_stream.close()
    url = str(BASE["api_base"]).removesuffix("/v1") + "/left"
    return httpx.post(url, headers={"Authorization": f"Bearer {BASE['api_key']}"}, timeout=20).json()


def errors() -> Any:
    return [
        told(chat, "one", model="openai/nowhere"),
        told(chat, "one", temperature=9),
        told(chat, "raise"),
        told(chat, "busy"),
        told(chat, "one", api_key="another"),
    ]


CALLS = (chats, streams, stops, logprobs, calls, completes, pictures, speaks, models, leaves, errors)
json.dump({call.__name__: call() for call in CALLS}, sys.stdout)
