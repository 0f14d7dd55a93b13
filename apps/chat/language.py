"""Answer by a language model: the one that comes with `apps/llm`, or any chat model that transformers can load.

Several rooms are answered at once: their answers take turns in the inference thread, and each step of the model makes
a token of all of them.
"""

from collections.abc import Iterator, Sequence
from contextlib import closing
from itertools import groupby
from typing import Any, cast

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from streamapp.llm import Engine
from streamapp.llm.chat import prompt_of

from .model import Turn

_MOST_TOKENS = 400
_TEMPERATURE = 0.7
_MOST_READ = 4096  # tokens, of a model that could read more


class LanguageModel:
    """Hold a model and its tokenizer.

    Args:
        name: a hub id or a folder.
        most_at_once: so many answers are made at a time.
    Raises:
        ValueError: it has no chat template.
    """

    def __init__(self, name: str, most_at_once: int) -> None:
        self._tokenizer = AutoTokenizer.from_pretrained(name)
        if self._tokenizer.chat_template is None:
            raise ValueError(f"STREAMAPP_CHAT_MODEL={name} has no chat template; name a model that was made for chats")
        device, dtype = ("cuda", torch.bfloat16) if torch.cuda.is_available() else ("cpu", torch.float32)
        model = AutoModelForCausalLM.from_pretrained(name, dtype=dtype).to(device).eval()
        reads = min(getattr(model.config, "max_position_embeddings", None) or _MOST_READ, _MOST_READ)
        self._engine = Engine(model, self._tokenizer, max_sequences=most_at_once, max_length=reads)
        self._most_made = min(_MOST_TOKENS, reads // 2)
        self._most_given = reads - self._most_made

    def answer(self, messages: Sequence[Turn]) -> Iterator[str]:
        """Yield the answer as it is made, token by token; a character of several tokens comes whole."""
        prompt = self._prompt(messages)
        made = self._engine.stream(prompt, max_tokens=self._most_made, temperature=_TEMPERATURE)
        with closing(cast("Any", made)):
            for item in made:
                if "finish_reason" not in item and item["text"]:
                    yield item["text"]

    def _prompt(self, messages: Sequence[Turn]) -> list[int]:
        """Return the newest messages that the model can read at once, as its template has them."""
        while True:
            ids = prompt_of(self._tokenizer, _alternating(messages))
            if len(ids) <= self._most_given or len(messages) == 1:
                return ids[-self._most_given :]
            messages = messages[1:]


def _alternating(messages: Sequence[Turn]) -> list[dict[str, str]]:
    """Return messages as templates want them: a user begins, then the two take turns; who speaks stands before it."""
    turns = [
        {"role": role, "content": "\n".join(f"{each.name}: {each.content}".removeprefix(": ") for each in said)}
        for role, said in groupby(messages, lambda turn: turn.role)
    ]
    return turns[1:] if turns[0]["role"] == "assistant" and len(turns) > 1 else turns
