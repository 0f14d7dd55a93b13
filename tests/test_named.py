"""A text's events by the names that the clients of Chutes' guide listen for."""

from collections.abc import AsyncIterator, Iterator
from typing import Any

from streamapp.jobs.events import Output
from streamapp.jobs.pause import Pause
from streamapp.llm.generation import Ending, Token, Usage
from streamapp.llm.named import named

ENDING = Ending(
    text="ab…", index=0, finish_reason="stop", usage=Usage(prompt_tokens=1, completion_tokens=2, total_tokens=3)
)
CLOSED: list[str] = []


def told() -> Iterator[Token | Ending]:
    """Tell two tokens, a rest that was held back, and the end."""
    try:
        yield Token(text="a", token=5, index=0)
        yield Token(text="b", token=6, index=0)
        yield Token(text="…", index=0)
        yield ENDING
    finally:
        CLOSED.append("told")


async def told_on_the_loop() -> AsyncIterator[Token | Ending]:
    """Tell the same."""
    for item in told():
        yield item


def expected() -> list[Output]:
    """Return the guide's fields, and ours."""
    rows: list[tuple[str, int | None, int]] = [("a", 5, 1), ("b", 6, 2), ("…", None, 2)]
    tokens = [
        Output(
            {"token": text, "token_id": token, "generated_tokens": count, "is_complete": False, "index": 0},
            event="token",
        )
        for text, token, count in rows
    ]
    last: dict[str, Any] = {"token": "", "token_id": None, "generated_tokens": 2, "is_complete": True, "index": 0}
    more = {"text": "ab…", "finish_reason": "stop", "usage": ENDING["usage"]}
    return [Output({"message": "Starting generation"}, event="start"), *tokens, Output(last | more, event="complete")]


def test_tokens_are_told_as_the_guide_tells_them() -> None:
    assert [*named(told())] == expected()


def test_a_pause_is_passed_on_as_it_is() -> None:
    def pausing() -> Iterator[Any]:
        nothing: Any = Pause(text="", index=0)
        yield nothing
        yield from told()

    start, pause, *others = named(pausing())
    assert isinstance(pause, Pause)
    assert [start, *others] == expected()


async def test_a_stream_of_the_loops_is_told_on_the_loop() -> None:
    assert [item async for item in named(told_on_the_loop())] == expected()


def test_an_upstream_that_counts_no_tokens_is_told_by_its_pieces() -> None:
    items: list[Token | Ending] = [Token(text=text, index=0) for text in "ab"]
    items.append(Ending(text="ab", index=0, finish_reason="stop"))
    events = [*named(item for item in items)]
    assert [event.payload["generated_tokens"] for event in events[1:]] == [1, 2, 2]
    assert events[-1].payload["usage"] is None


def test_who_closes_it_closes_the_stream() -> None:
    CLOSED.clear()
    events = named(told())
    next(events), next(events)
    events.close()  # type: ignore[attr-defined]
    assert CLOSED == ["told"]
