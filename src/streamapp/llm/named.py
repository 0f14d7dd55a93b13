"""Name the events of a text that is made, for clients that listen for `start`, `token` and `complete`.

Source: the streaming endpoints of Chutes' guide, whose fields these are; what is more is ours.
"""

from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing, closing
from typing import Any, cast, overload

from ..jobs.events import Output
from ..jobs.pause import Pause
from .generation import Ending, Token

_START = Output({"message": "Starting generation"}, event="start")


@overload
def named(stream: Iterator[Token | Ending]) -> Iterator[Output]: ...
@overload
def named(stream: AsyncIterator[Token | Ending]) -> AsyncIterator[Output]: ...
def named(stream: Any) -> Any:
    """Tell a text model's tokens as the events `start`, `token` and `complete`; closing it closes the stream.

    yield from named(self.llm.stream(prompt))
    """
    return _on_loop(stream) if hasattr(stream, "__aiter__") else _in_thread(stream)


def _in_thread(stream: Any) -> Iterator[Output]:
    naming = _Naming()
    with closing(stream):
        yield _START
        for item in stream:
            yield cast("Output", item) if isinstance(item, Pause) else naming.event(item)


async def _on_loop(stream: Any) -> AsyncIterator[Output]:
    naming = _Naming()
    async with aclosing(stream):
        yield _START
        async for item in stream:
            yield naming.event(item)


class _Naming:
    """Name what comes, and count the tokens of each choice; of an upstream, which tells no ids, the pieces."""

    def __init__(self) -> None:
        self._tokens = Counter[int]()
        self._pieces = Counter[int]()

    def event(self, item: dict[str, Any]) -> Output:
        """Return what is told of a token or an ending."""
        index, is_complete = item["index"], "finish_reason" in item
        self._tokens[index] += "token" in item
        self._pieces[index] += not is_complete
        told = {
            "token": "" if is_complete else item["text"],
            "token_id": item.get("token"),
            "generated_tokens": self._tokens[index] or self._pieces[index],
            "is_complete": is_complete,
            "index": index,
        }
        if not is_complete:
            return Output(told, event="token")
        more = {"text": item["text"], "finish_reason": item["finish_reason"], "usage": item.get("usage")}
        return Output(told | more, event="complete")
