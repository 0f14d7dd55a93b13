"""A language model that says what it is told to: the ids of its tokens are the letters' code points."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from streamapp.errors import InvalidInput


class ScriptedModel:
    """Answer with a text, word by word; the script of a test may hold it, or have it fail.

    Attributes:
        asked: what it was asked, with its keywords.
        made: how many tokens it has made; closed: how many answers were closed.
    """

    def __init__(self, text: str = "Once upon a time.", name: str | None = None) -> None:
        self.name = name
        self._words = [word + " " for word in text.split()]
        self._words[-1] = self._words[-1].rstrip()
        self.asked: list[tuple[Any, dict[str, Any]]] = []
        self.made = self.closed = 0

    def stream(self, prompt: str | Sequence[int], **sampling: Any) -> Iterator[Any]:
        if prompt == "too long":
            raise InvalidInput("prompt: it has 9 tokens, and there is room for 8; send less")
        return self._answer(prompt, len(prompt), **sampling)

    def chat(
        self, messages: Sequence[Mapping[str, Any]], *, tools: Sequence[Mapping[str, Any]] = (), **sampling: Any
    ) -> Iterator[Any]:
        return self._answer(messages, len(messages), tools=tools, **sampling)

    def _answer(self, asked: Any, read: int, **sampling: Any) -> Iterator[Any]:
        self.asked.append((asked, sampling))
        if asked == "fail":
            raise RuntimeError("the model is broken")
        most = sampling.get("max_tokens") or len(self._words)
        n = sampling.get("n", 1)
        words = self._words[:most]
        try:
            for place, word in enumerate(words):
                if (asked, place) == ("fail later", 2):
                    raise RuntimeError("the model is broken")
                for index in range(n):
                    self.made += 1
                    yield self._token(place, word, index, sampling.get("logprobs"))
            for index in range(n):
                yield {
                    "text": "".join(words),
                    "index": index,
                    "finish_reason": "length" if most < len(self._words) else "stop",
                    "usage": {
                        "prompt_tokens": read,
                        "completion_tokens": len(words),
                        "total_tokens": read + len(words),
                    },
                }
        finally:
            self.closed += 1

    def _token(self, place: int, word: str, index: int, logprobs: int | None) -> dict[str, Any]:
        token: dict[str, Any] = {"text": word, "token": place, "index": index}
        if logprobs is None:
            return token
        top = [{"token": place + more, "text": word, "logprob": -0.5 - more} for more in range(logprobs)]
        return {**token, "logprob": -0.5, "top_logprobs": top}
