"""Answer by a language model: any chat model of the hub's, or of a folder, that transformers can load."""

from collections.abc import Iterator, Sequence
from itertools import groupby

import torch
from tokenizers.decoders import DecodeStream
from transformers import AutoModelForCausalLM, AutoTokenizer

from .model import Turn

_MOST_TOKENS = 400
_TEMPERATURE = 0.7
_CONTEXT = 4096  # where the model does not say how much it reads


class HubModel:
    """Hold a model and its tokenizer.

    Args:
        name: a hub id or a folder.
    Raises:
        ValueError: it has no chat template.
    """

    def __init__(self, name: str) -> None:
        self._tokenizer = AutoTokenizer.from_pretrained(name)
        if self._tokenizer.chat_template is None:
            raise ValueError(f"STREAMAPP_CHAT_MODEL={name} has no chat template; name a model that was made for chats")
        device, dtype = ("cuda", torch.bfloat16) if torch.cuda.is_available() else ("cpu", torch.float32)
        self._model = AutoModelForCausalLM.from_pretrained(name, dtype=dtype).to(device).eval()
        ends = self._model.generation_config.eos_token_id
        self._ends = {ends} if isinstance(ends, int) else {*(ends or ())}
        reads = getattr(self._model.config, "max_position_embeddings", None) or _CONTEXT
        self._most_made = min(_MOST_TOKENS, reads // 2)
        self._most_given = reads - self._most_made

    def answer(self, messages: Sequence[Turn]) -> Iterator[str]:
        """Yield the answer as it is made, token by token; a character of several tokens comes whole."""
        text = DecodeStream(skip_special_tokens=True)
        for token in self._tokens(self._prompt(messages)):
            if piece := text.step(self._tokenizer.backend_tokenizer, token):
                yield piece

    @torch.inference_mode()
    def _tokens(self, ids: torch.Tensor) -> Iterator[int]:
        past = None
        for _ in range(self._most_made):
            out = self._model(input_ids=ids, past_key_values=past, use_cache=True)
            past = out.past_key_values
            chances = torch.softmax(out.logits[:, -1].float() / _TEMPERATURE, dim=-1)
            ids = torch.multinomial(chances, 1)
            token = int(ids)
            if token in self._ends:
                return
            yield token

    def _prompt(self, messages: Sequence[Turn]) -> torch.Tensor:
        """Return the newest messages that the model can read at once, as its template has them."""
        while True:
            ids: torch.Tensor = self._tokenizer.apply_chat_template(
                _alternating(messages), add_generation_prompt=True, return_tensors="pt", return_dict=True
            )["input_ids"]
            if ids.shape[-1] <= self._most_given or len(messages) == 1:
                return ids[:, -self._most_given :].to(self._model.device)
            messages = messages[1:]


def _alternating(messages: Sequence[Turn]) -> list[dict[str, str]]:
    """Return messages as templates want them: a user begins, then the two take turns; who speaks stands before it."""
    turns = [
        {"role": role, "content": "\n".join(f"{each.name}: {each.content}".removeprefix(": ") for each in said)}
        for role, said in groupby(messages, lambda turn: turn.role)
    ]
    return turns[1:] if turns[0]["role"] == "assistant" and len(turns) > 1 else turns
