"""The language model as a streamapp app; `streamapp serve` runs it."""

from collections.abc import Iterator

from benchmarks.peers.llm.model import load
from benchmarks.workload import LANGUAGE_MODEL

import streamapp
from streamapp.llm import Ending, Engine, Token


class Llm(streamapp.App):
    """Answer many at a time by one model."""

    max_running = 16
    openai = streamapp.OpenAI(text="llm")

    def setup(self) -> None:
        self.llm = Engine(*load(), name=LANGUAGE_MODEL)

    @streamapp.endpoint("/stream")
    def stream(self, prompt: str, max_tokens: int) -> Iterator[Token | Ending]:
        yield from self.llm.stream(prompt, max_tokens=max_tokens, temperature=0)
