"""An app whose language model says what it is told to, for OpenAI's own client."""

import threading
from collections.abc import Iterator
from typing import Any

from tests.scripted_answers import ScriptedModel

import streamapp


class Endless(ScriptedModel):
    """Go on for ever where that is asked for, a token in each hundredth of a second."""

    def _answer(self, asked: Any, read: int, **sampling: Any) -> Iterator[Any]:
        if asked != "for ever":
            yield from super()._answer(asked, read, **sampling)
            return
        try:
            while not threading.Event().wait(0.01):
                self.made += 1
                yield {"text": "on ", "token": 1, "index": 0}
        finally:
            self.closed += 1


class OpenaiText(streamapp.App, name="tiny-app"):
    openai = streamapp.OpenAI(text="llm")

    def setup(self) -> None:
        self.llm = Endless(name="tiny/stories")

    @streamapp.endpoint("/counts")
    def counts(self) -> dict[str, int]:
        return {"made": self.llm.made, "closed": self.llm.closed}

    @streamapp.endpoint("/prompts")
    def prompts(self) -> list[dict[str, Any]]:
        return [{"prompt": prompt} for prompt, _ in self.llm.asked]

    @streamapp.endpoint("/asked")
    def asked(self) -> Any:
        """Return what the model was asked last."""
        return self.llm.asked[-1]
