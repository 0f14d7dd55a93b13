"""Text by a language model: by paths of its own, and as OpenAI's clients ask for it.

    streamapp serve apps/llm/app.py

By default it is the small model beside this file, which tells stories and needs no GPU. The same code serves any:

    STREAMAPP_LLM_MODEL=HuggingFaceTB/SmolLM2-360M-Instruct streamapp serve apps/llm/app.py
    STREAMAPP_LLM_UPSTREAM=http://127.0.0.1:8001/v1 streamapp serve apps/llm/app.py

Environment:
    STREAMAPP_LLM_MODEL: a hub id or a folder; the model's name where another server has it.
    STREAMAPP_LLM_BACKEND: what makes its tokens: "own" (the default), or "transformers", for big models on a GPU.
    STREAMAPP_LLM_UPSTREAM: the URL of a server that speaks OpenAI's protocol: vLLM, SGLang, llama.cpp's.
    STREAMAPP_LLM_UPSTREAM_KEY: its key.
"""

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, cast

import torch
from pydantic import BaseModel, ConfigDict, Field
from transformers import AutoModelForCausalLM, AutoTokenizer

import streamapp
from streamapp.errors import DefinitionError
from streamapp.jobs.events import Output
from streamapp.llm import Ending, Engine, TextModel, Token, named

EMBEDDED_MODEL = Path(__file__).parent / "tiny" / "model"
MOST_AT_ONCE = 16


class Choosing(BaseModel):
    """Say how tokens are chosen."""

    max_tokens: int = Field(default=400, ge=1, le=100_000)
    temperature: float | None = Field(default=None, ge=0, le=2, description="The model's own when not given.")
    top_p: float | None = Field(default=None, gt=0, le=1, description="The model's own when not given.")
    seed: int | None = Field(default=None, ge=0, le=2**62, description="The same seed makes the same text.")
    stop: list[str] = Field(default=[], max_length=16, description="Texts that end it.")


class Prompt(BaseModel):
    """Hold what to go on with."""

    prompt: str = Field(min_length=1, max_length=100_000, examples=["Once upon a time there was a shy dragon"])


class Message(BaseModel):
    """Hold what was said."""

    role: Literal["system", "user", "assistant"] = "user"
    content: str = Field(max_length=100_000)


class Talk(BaseModel):
    """Hold what was said so far."""

    messages: list[Message] = Field(
        min_length=1,
        max_length=1000,
        description="The conversation, oldest first.",
        examples=[[{"role": "user", "content": "Tell me a story about a shy dragon and a clock."}]],
    )


class PromptInput(Choosing, Prompt):
    """Say what to go on with, and how; the fields of the last base stand first in the playground."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {"prompt": "Once upon a time there was a shy dragon"},
                {"prompt": "Once upon a time there was a brave snail", "temperature": 0.4},
                {"prompt": "A fox found an old clock", "seed": 3},
            ]
        }
    )


class ChatInput(Choosing, Talk):
    """Say what was said so far, and how to go on."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {"messages": [{"role": "user", "content": "Tell me a story about a shy dragon and a clock."}]},
                {"messages": [{"role": "user", "content": "Hello! Who are you?"}]},
                {"messages": [{"role": "user", "content": "A short story about a brave snail, please."}]},
            ]
        }
    )


class Llm(streamapp.App):
    """Make text by a language model, token by token, for many readers at a time."""

    title = "Language model"
    max_running = MOST_AT_ONCE
    openai = streamapp.OpenAI(text="llm")
    requirements = ["torch", "transformers"]

    def setup(self) -> None:
        """Load the model."""
        self.llm = load(os.environ)

    @streamapp.endpoint("/stream")
    def stream(self, input: PromptInput) -> Iterator[Token | Ending]:
        """Go on with a text, token by token; at the end comes all of it."""
        return cast("Iterator[Token | Ending]", self.llm.stream(input.prompt, **_sampling(input)))

    @streamapp.endpoint("/chat")
    def chat(self, input: ChatInput) -> Iterator[Token | Ending]:
        """Answer what was said last, token by token; at the end comes all of it."""
        messages = [message.model_dump() for message in input.messages]
        return cast("Iterator[Token | Ending]", self.llm.chat(messages, **_sampling(input)))

    @streamapp.endpoint("/generate_stream")
    def generate_stream(self, input: PromptInput) -> Iterator[Output]:
        """Go on with a text by the events `start`, `token` and `complete`, as in Chutes' guide."""
        return cast("Iterator[Output]", named(self.llm.stream(input.prompt, **_sampling(input))))


def load(environment: Mapping[str, str]) -> TextModel:
    """Load the model that the environment names.

    Raises:
        DefinitionError: a variable has a value that it cannot have, or needs another one.
    """
    model, upstream = environment.get("STREAMAPP_LLM_MODEL"), environment.get("STREAMAPP_LLM_UPSTREAM")
    key = environment.get("STREAMAPP_LLM_UPSTREAM_KEY")
    backend: Any = environment.get("STREAMAPP_LLM_BACKEND")
    if backend not in (None, "own", "transformers"):
        raise DefinitionError(f"STREAMAPP_LLM_BACKEND={backend}: expected own or transformers")
    if upstream:
        if backend:
            raise DefinitionError("STREAMAPP_LLM_BACKEND is for a model of this server's; unset it, or the upstream")
        return streamapp.Upstream(upstream, model=model, api_key=key)
    if key:
        raise DefinitionError("STREAMAPP_LLM_UPSTREAM_KEY is set, but no upstream; set STREAMAPP_LLM_UPSTREAM")
    loaded, tokenizer = load_model(model or str(EMBEDDED_MODEL))
    name = None if model else "tiny-stories"
    return Engine(loaded, tokenizer, max_sequences=MOST_AT_ONCE, backend=backend or "own", name=name)


def load_model(name: str) -> tuple[Any, Any]:
    """Load a model and its tokenizer for this machine."""
    device, dtype = ("cuda", torch.bfloat16) if torch.cuda.is_available() else ("cpu", torch.float32)
    model = AutoModelForCausalLM.from_pretrained(name, dtype=dtype).to(device).eval()
    return model, AutoTokenizer.from_pretrained(name)


def _sampling(input: Choosing) -> dict[str, Any]:
    return input.model_dump(include=set(Choosing.model_fields))
