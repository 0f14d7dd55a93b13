"""Write a conversation as a model's chat template has it, and read which tools the model calls.

Both are the tokenizer's, of transformers': its template, and what reads an answer (`response_template`). What users
write of the model's own control tokens is text to the model, never a turn of the conversation.
"""

import secrets
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from typing import Any, cast

from jinja2.exceptions import TemplateError
from pydantic_core import from_json, to_json

from ..errors import InvalidInput
from ..process.logs import logger
from .generation import Ending, Token, wrong

# "Conversation roles must alternate", as templates say, or what the code in them fails by.
_REFUSALS = (TemplateError, ValueError, TypeError, ArithmeticError, LookupError, AttributeError)


def prompt_of(
    tokenizer: Any, messages: Sequence[Mapping[str, Any]], tools: Sequence[Mapping[str, Any]] = ()
) -> list[int]:
    """Return the token ids of a conversation, up to where the model's answer begins.

    Raises:
        InvalidInput: the model has no template, or its template does not take this.
    """
    if not messages:
        raise InvalidInput("messages: a conversation has at least one; none came")
    if not isinstance(messages, Sequence) or not all(isinstance(message, Mapping) for message in messages):
        raise wrong("messages", 'a list of {"role": "user", "content": "..."}', messages)
    if not getattr(tokenizer, "chat_template", None):
        raise InvalidInput("messages: this model has no chat template; have it go on with a prompt, by /v1/completions")
    if tools and getattr(tokenizer, "response_template", None) is None:
        raise InvalidInput("tools: nothing here reads which tools this model calls; leave them out")
    try:
        prompt: list[int] = tokenizer.apply_chat_template(
            [_with_arguments(message) for message in messages],
            tools=[dict(tool) for tool in tools] or None,
            add_generation_prompt=True,
            return_dict=False,
            sanitize_control_tokens=True,
        )
    except _REFUSALS as error:
        raise InvalidInput(f"messages: the model's chat template refuses them: {str(error)[:200]}") from None
    return prompt


def calling(
    tokenizer: Any, prompt: Sequence[int], tools: Sequence[Mapping[str, Any]], items: Iterator[Token | Ending]
) -> Iterator[Token | Ending]:
    """Yield what a model answers, with the tools that it calls in its ending, whose text is then what it says besides.

    Args:
        items: of `Engine.stream`; closed at the end.
    """
    made: dict[int, list[int]] = {}
    with closing(cast("Any", items)):
        for item in items:
            if "finish_reason" in item:
                ending = cast("Ending", item)
                yield _read(tokenizer, prompt, tools, made.get(ending["index"], []), ending)
            else:
                if item.get("token") is not None:
                    made.setdefault(item["index"], []).append(item["token"])
                yield item


def _read(
    tokenizer: Any, prompt: Sequence[int], tools: Sequence[Mapping[str, Any]], made: list[int], ending: Ending
) -> Ending:
    try:
        message = tokenizer.parse_response(made, prefix=list(prompt), tools=[dict(tool) for tool in tools])
        calls = [_call(call["function"]) for call in message.get("tool_calls") or ()]
    except Exception as error:  # the parser's own: the model's text can be anything
        logger.warning("an answer is told as text, as its tool calls cannot be read: %s", error)
        return ending
    if not calls:
        return ending
    read = {"text": message.get("content") or "", "finish_reason": "tool_calls", "tool_calls": calls}
    return cast("Ending", {**ending, **read})


def _call(function: Mapping[str, Any]) -> dict[str, Any]:
    arguments = function.get("arguments") or {}
    written = arguments if isinstance(arguments, str) else to_json(arguments).decode()
    called = {"name": str(function["name"]), "arguments": written}
    return {"id": f"call_{secrets.token_hex(12)}", "type": "function", "function": called}


def _with_arguments(message: Mapping[str, Any]) -> dict[str, Any]:
    """Return a message whose calls have their arguments as values, as templates take them; OpenAI writes JSON."""
    if not message.get("tool_calls"):
        return dict(message)
    return {**message, "tool_calls": [_with_values(call) for call in message["tool_calls"]]}


def _with_values(call: Mapping[str, Any]) -> Mapping[str, Any]:
    function = call.get("function")
    if not isinstance(function, Mapping) or not isinstance(function.get("arguments"), str):
        return call
    try:
        return {**call, "function": {**function, "arguments": from_json(function["arguments"] or "{}")}}
    except ValueError:
        raise InvalidInput("messages: the arguments of a tool call are no JSON") from None
