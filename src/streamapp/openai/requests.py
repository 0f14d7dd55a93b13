"""Read what OpenAI's clients ask of a language model: bodies of chat and completions, and what of them is honoured.

Documented fields that change no output here (`user`, `metadata`, `store` ...) are taken, and what vLLM's and
llama.cpp's servers take besides for sampling is honoured under their names. A field that would change the output, and
cannot be honoured, is refused, unless it says what holds anyway.

Divergence: a field that nobody here knows is let be, as vLLM and llama.cpp do, though OpenAI refuses it: clients of
those send their own to any server.
"""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field

from .asked import read_body, refusal

#: prompts times choices in one request
_MOST_CHOICES = 128
_MOST_MESSAGES = 10_000  # no model reads so many; a quarter of a million, which a body can hold, take 5 s
_COMPLETION_TOKENS = 16  # what a completion has where nothing is said: https://platform.openai.com/docs/api-reference

# By the name of a field what it may say as it changes nothing then; null may be said of all. What is asked for by any
# other value this server does not do.
_UNHONOURED: Mapping[str, tuple[Any, ...]] = {
    "response_format": ({"type": "text"},),
    "audio": (),
    "modalities": (["text"],),
    "web_search_options": (),
    "functions": ([],),
    "function_call": ("none", "auto"),
    "reasoning_effort": ("none",),
    "suffix": ("",),
    # vLLM's and llama.cpp's
    "add_generation_prompt": (True,),
    "continue_final_message": (False,),
    "chat_template": (),
    "chat_template_kwargs": ({},),
    "documents": ([],),
    "guided_json": (),
    "guided_regex": (),
    "guided_choice": (),
    "guided_grammar": (),
    "structured_outputs": (),
    "grammar": ("",),
    "json_schema": (),
    "ignore_eos": (False,),
    "min_tokens": (0,),
    "stop_token_ids": ([],),
    "bad_words": ([],),
    "allowed_token_ids": (),
    "include_stop_str_in_output": (False,),
    "skip_special_tokens": (True,),
    "prompt_logprobs": (),
    "truncate_prompt_tokens": (),
    "use_beam_search": (False,),
    "length_penalty": (1,),
    "logits_processors": ([],),
    "repeat_penalty": (1,),
    "typical_p": (1,),
    "mirostat": (0,),
    "dry_multiplier": (0,),
    "xtc_probability": (0,),
    "prompt_embeds": (),
}
# Why, where that is not plain.
_REASONS = {
    "response_format": 'no grammar library is here to hold a model to it; write {"type": "text"}, or leave it out',
    "functions": "they are called tools since 2023; write tools",
    "function_call": "it is called tool_choice since 2023; write tool_choice",
    "repeat_penalty": "it is called repetition_penalty here, as transformers and vLLM have it",
}

# What is told of a body: what people who ask by hand may want.
_TOLD = ("max_tokens", "temperature", "top_p", "seed", "stop", "stream")
_MESSAGES = {
    "type": "array",
    "minItems": 1,
    "items": {
        "type": "object",
        "required": ["role", "content"],
        "properties": {
            "role": {"type": "string", "enum": ["system", "user", "assistant"], "default": "user"},
            "content": {"type": "string"},
        },
    },
}
_PROMPT = {"type": "string", "minLength": 1}

_Count = Annotated[int, Field(ge=1)]


class _Part(BaseModel):
    """Hold a piece of a message's content."""

    model_config = ConfigDict(extra="allow", strict=True)

    type: str
    text: str | None = None


class _Message(BaseModel):
    model_config = ConfigDict(extra="allow", strict=True)

    role: Literal["system", "developer", "user", "assistant", "tool", "function"]
    content: str | list[_Part] | None = None
    name: str | None = None
    tool_calls: list[dict[str, Any]] | None = None
    tool_call_id: str | None = None


class _Function(BaseModel):
    model_config = ConfigDict(extra="allow", strict=True)

    name: Annotated[str, Field(min_length=1)]
    description: str | None = None
    parameters: dict[str, Any] | None = None


class _Tool(BaseModel):
    model_config = ConfigDict(extra="allow", strict=True)

    type: Literal["function"]
    function: _Function


class _StreamOptions(BaseModel):
    model_config = ConfigDict(extra="allow", strict=True)

    include_usage: bool | None = None


class Body(BaseModel):
    """Hold what chat and completions have in common."""

    model_config = ConfigDict(extra="allow", strict=True)

    model: str | None = None
    stream: bool | None = None
    stream_options: _StreamOptions | None = None
    n: Annotated[int, Field(ge=1, le=_MOST_CHOICES)] | None = None
    max_tokens: _Count | None = None
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    top_p: Annotated[float, Field(gt=0, le=1)] | None = None
    top_k: Annotated[int, Field(ge=-1)] | None = None
    min_p: Annotated[float, Field(ge=0, le=1)] | None = None
    presence_penalty: Annotated[float, Field(ge=-2, le=2)] | None = None
    frequency_penalty: Annotated[float, Field(ge=-2, le=2)] | None = None
    repetition_penalty: Annotated[float, Field(gt=0)] | None = None
    logit_bias: dict[Annotated[int, Field(strict=False, ge=0)], Annotated[float, Field(ge=-100, le=100)]] | None = None
    seed: Annotated[int, Field(ge=-(2**63), lt=2**63)] | None = None
    stop: str | list[str] | None = None

    @property
    def streams(self) -> bool:
        """Say whether tokens are told as they come."""
        return bool(self.stream)

    @property
    def includes_usage(self) -> bool:
        """Say whether a stream ends with a count of its tokens."""
        return self.stream_options is not None and bool(self.stream_options.include_usage)

    def sampling(self) -> dict[str, Any]:
        """Return the keywords of `Sampling` that this asks for; what is left out is left to the model."""
        names = ("temperature", "top_p", "min_p", "presence_penalty", "frequency_penalty", "repetition_penalty", "seed")
        asked = {name: getattr(self, name) for name in (*names, "logit_bias", "n")}
        asked["top_k"] = 0 if self.top_k == -1 else self.top_k  # which is "all" to vLLM
        asked["stop"] = [self.stop] if isinstance(self.stop, str) else self.stop
        return {name: value for name, value in asked.items() if value is not None}


class ChatBody(Body):
    """Hold what `/v1/chat/completions` takes."""

    messages: Annotated[list[_Message], Field(min_length=1, max_length=_MOST_MESSAGES)]
    max_completion_tokens: _Count | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Field(ge=0, le=20)] | None = None
    tools: list[_Tool] | None = None
    tool_choice: str | dict[str, Any] | None = None
    parallel_tool_calls: bool | None = None

    def sampling(self) -> dict[str, Any]:
        """Return the keywords of `Sampling` that this asks for."""
        asked = super().sampling()
        most = self.max_completion_tokens or self.max_tokens
        if most is not None:
            asked["max_tokens"] = most
        if self.logprobs:
            asked["logprobs"] = self.top_logprobs or 0
        return asked

    def conversation(self) -> list[dict[str, Any]]:
        """Return the messages as chat templates take them: content is text."""
        return [_plain(message, place) for place, message in enumerate(self.messages)]

    def offered_tools(self) -> list[dict[str, Any]]:
        """Return the tools that the model may call."""
        return [] if self.tool_choice == "none" else [tool.model_dump(exclude_none=True) for tool in self.tools or ()]


class CompletionBody(Body):
    """Hold what `/v1/completions` takes."""

    prompt: str | list[str] | list[int] | list[list[int]]
    echo: bool | None = None
    best_of: Annotated[int, Field(ge=1)] | None = None
    logprobs: Annotated[int, Field(ge=0, le=20)] | None = None

    def sampling(self) -> dict[str, Any]:
        """Return the keywords of `Sampling` that this asks for."""
        asked = {**super().sampling(), "max_tokens": self.max_tokens or _COMPLETION_TOKENS}
        return asked if self.logprobs is None else {**asked, "logprobs": self.logprobs}

    def prompts(self) -> list[str | list[int]]:
        """Return the prompts one by one."""
        given: Any = self.prompt
        is_one = isinstance(given, str) or all(isinstance(part, int) for part in given)
        return [given] if is_one else given


def described(kind: type[Body], model: str) -> dict[str, Any]:
    """Return a schema of the most of a body that people write.

    Args:
        model: whose name is asked for where nothing is said.
    """
    name, first = ("messages", _MESSAGES) if kind is ChatBody else ("prompt", _PROMPT)
    known = kind.model_json_schema()["properties"]
    told = {each: _without_null(known[each]) for each in _TOLD}
    properties = {name: first, **told, "model": {"type": "string", "default": model}}
    return {"type": "object", "required": [name], "properties": properties}


def _without_null(schema: dict[str, Any]) -> dict[str, Any]:
    """Return the last form of a field that may be left out."""
    *_, form, _ = schema["anyOf"]
    return {"title": schema["title"], **form}


B = TypeVar("B", bound=Body)


def read_chat(given: Mapping[str, Any]) -> ChatBody:
    """Read a body of `/v1/chat/completions`.

    Raises:
        RequestValidationError: a field is not as documented, or cannot be honoured.
    """
    body = _read(ChatBody, given)
    if body.top_logprobs is not None and not body.logprobs:
        raise refusal("top_logprobs", 'it goes with "logprobs": true; write that as well')
    if body.tool_choice not in (None, "none", "auto"):
        raise refusal("tool_choice", 'nothing here can make a model call a tool; write "auto" or "none"')
    if body.tool_choice == "auto" and not body.tools:
        raise refusal("tool_choice", "it goes with tools; none came")
    body.conversation()
    return body


def read_completion(given: Mapping[str, Any]) -> CompletionBody:
    """Read a body of `/v1/completions`.

    Raises:
        RequestValidationError: a field is not as documented, or cannot be honoured.
    """
    body = _read(CompletionBody, given)
    prompts = body.prompts()
    if not body.prompt or not all(prompts):
        raise refusal("prompt", "an empty prompt has nothing to go on with; write at least one token")
    if (choices := len(prompts) * (body.n or 1)) > _MOST_CHOICES:
        raise refusal("prompt", f"prompts times n are at most {_MOST_CHOICES}, got {choices}; send several requests")
    if body.best_of not in (None, body.n or 1):
        raise refusal("best_of", f"it can be no other than n, which is {body.n or 1}, got {body.best_of}")
    if body.echo and body.logprobs is not None:
        raise refusal("echo", "no logprobs of a prompt are told; leave out one of the two")
    if body.echo and not all(isinstance(prompt, str) for prompt in prompts):
        raise refusal("echo", "a prompt of token ids is not told as text; leave it out")
    return body


def _read(kind: type[B], given: Mapping[str, Any]) -> B:
    body = read_body(kind, given)
    for name, neutral in _UNHONOURED.items():
        if (value := given.get(name)) is not None and value not in neutral:
            raise refusal(name, _REASONS.get(name) or f"this server cannot do it; leave it out, got {str(value)[:80]}")
    if body.stream_options is not None and not body.streams:
        raise refusal("stream_options", 'it goes with "stream": true; write that as well, or leave it out')
    return body


def _plain(message: _Message, place: int) -> dict[str, Any]:
    # Templates read it also of a message that only calls tools, whose content is null.
    given = {"content": "", **message.model_dump(exclude_none=True)}
    if isinstance(message.content, list):
        given["content"] = _joined(message.content, place)
    if message.role not in ("assistant", "tool", "function") and not isinstance(message.content, str | list):
        raise refusal(f"messages.{place}.content", "expected text")
    if message.role == "developer":  # which models of OpenAI's call what is system to all others
        given["role"] = "system"
    return given


def _joined(parts: Sequence[_Part], place: int) -> str:
    for number, part in enumerate(parts):
        if part.type not in ("text", "refusal") or part.text is None:
            where = f"messages.{place}.content.{number}"
            form = '{"type": "text", "text": ...}'
            raise refusal(where, f"this model reads text alone; write {form}, got {part.type[:40]!r}")
    return "".join(part.text or "" for part in parts)
