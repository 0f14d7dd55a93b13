"""The engine: what is asked is checked, tokens become text, and who leaves ends nobody else's."""

import gc
from typing import Any

from tests.scripted_model import END, LETTERS, Scripted, ids

from streamapp.llm.engine import Engine


def saying(text: str, **engine: Any) -> tuple[Engine, Scripted]:
    """Return an engine whose model says this, whatever it is asked."""
    backend = Scripted(lambda sequence: [*ids(text), END])
    return Engine(None, LETTERS, backend=backend, **engine), backend


def test_a_text_comes_token_by_token_and_then_whole() -> None:
    engine, _ = saying("hi 你")
    *tokens, ending = engine.stream("say")
    assert [token["text"] for token in tokens] == ["h", "i", " ", "", "", "你", ""]
    usage = {"prompt_tokens": 3, "completion_tokens": 7, "total_tokens": 10}
    assert ending == {"text": "hi 你", "index": 0, "finish_reason": "stop", "usage": usage}
