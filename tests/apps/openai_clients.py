"""What OpenAI's clients are tried against: a language model that says again what it hears, a painter, a speaker."""

import io
import queue
import random
import time
import wave
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any

import PIL.Image

import streamapp
from streamapp.errors import InvalidInput, QueueFull


class Echo:
    """Say again what was said last, a word a token; the same seed shuffles it alike."""

    name = "echo"

    def __init__(self) -> None:
        self.left: queue.Queue[int] = queue.Queue()

    def chat(self, messages: Sequence[Mapping[str, Any]], *, tools: Sequence[Any] = (), **sampling: Any) -> Any:
        if tools:
            return iter([self._calling(tools[0]["function"]["name"])])
        return self.stream(str(messages[-1]["content"]), **sampling)

    def stream(self, prompt: str, **sampling: Any) -> Iterator[Any]:
        match prompt:
            case "count":
                return self._counting()
            case "raise":
                raise RuntimeError("a secret")
            case "busy":
                raise QueueFull("come back later")
            case "refuse":
                raise InvalidInput("prompt: too loud")
        return self._said_again(prompt, **sampling)

    def _said_again(
        self,
        prompt: str,
        *,
        n: int = 1,
        stop: Sequence[str] = (),
        max_tokens: int | None = None,
        seed: int | None = None,
        logprobs: int | None = None,
        **sampling: Any,
    ) -> Iterator[Any]:
        words = prompt.split()
        if seed is not None:
            random.Random(seed).shuffle(words)
        text = " ".join(words)
        for end in stop:
            text = text.partition(end)[0]
        tokens = _tokens(text)
        told = tokens[:max_tokens]
        for index in range(n):
            for number, token in enumerate(told):
                alternatives = [{"token": number, "text": token, "logprob": -0.5}]
                more = {} if logprobs is None else {"logprob": -0.5, "top_logprobs": alternatives[:logprobs]}
                yield {"text": token, "token": number, "index": index, **more}
            usage = {"prompt_tokens": 3, "completion_tokens": len(told), "total_tokens": 3 + len(told)}
            reason = "stop" if told == tokens else "length"
            yield {"text": "".join(told), "index": index, "finish_reason": reason, "usage": usage}

    def _counting(self) -> Iterator[Any]:
        made = 0
        try:
            while True:
                made += 1
                yield {"text": f"{made} ", "token": made, "index": 0}
                with suppress(streamapp.Cancelled):  # the next one is made as soon as the client has left
                    while True:
                        streamapp.current_stream().check()
                        time.sleep(0.001)
        finally:
            self.left.put(made)

    def _calling(self, name: str) -> Any:
        call = {"id": "call_1", "type": "function", "function": {"name": name, "arguments": '{"city": "Bern"}'}}
        usage = {"prompt_tokens": 3, "completion_tokens": 1, "total_tokens": 4}
        return {"text": "", "index": 0, "finish_reason": "tool_calls", "usage": usage, "tool_calls": [call]}


def _tokens(text: str) -> list[str]:
    words = text.split(" ")
    return [word if place == 0 else f" {word}" for place, word in enumerate(words)] if text else []


class Clients(streamapp.App):
    """Answer at all of OpenAI's paths."""

    openai = streamapp.OpenAI(text="llm", images="/draw", speech="/say")

    def setup(self) -> None:
        self.llm = Echo()

    @streamapp.endpoint("/draw")
    def draw(self, prompt: str, width: int = 8, height: int = 8, n: int = 1) -> Iterator[Any]:
        picture = PIL.Image.new("RGB", (width, height), prompt)
        for step in range(1, 11):
            yield streamapp.Preview(picture.resize((4, 4)), step=step, total=10)
            time.sleep(0.02)  # in which it is read: else a newer one replaces it
        yield {"images": [picture] * n}

    @streamapp.endpoint("/say")
    def say(self, text: str) -> Iterator[Any]:
        for place, word in enumerate(text.split()):
            yield {"start_s": place, "audio": streamapp.Audio(_wav(word.encode() * 2))}

    @streamapp.endpoint("/left")
    def left(self) -> int:
        """Return how many tokens were made for a client that has left after the first."""
        return self.llm.left.get(timeout=10)

    @streamapp.endpoint("/talk")
    def talk(self, messages: list[dict[str, str]], max_tokens: int = 3, seed: int | None = None) -> Iterator[Any]:
        """Say again what was said last."""
        yield from self.llm.chat(messages, max_tokens=max_tokens, seed=seed)

    @streamapp.endpoint("/go-on")
    def go_on(self, prompt: str, max_tokens: int = 3) -> Iterator[Any]:
        """Say a text again."""
        yield from self.llm.stream(prompt, max_tokens=max_tokens)


def _wav(samples: bytes) -> bytes:
    file = io.BytesIO()
    with wave.open(file, "wb") as written:
        written.setnchannels(1)
        written.setsampwidth(2)
        written.setframerate(24_000)
        written.writeframes(samples)
    return file.getvalue()
