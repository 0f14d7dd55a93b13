"""Long calls of the text app that let others go on."""

import contextvars
import sys
import threading
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

import pytest

from streamapp.jobs.pause import Pause, enter_turns

sys.path.insert(0, str(Path(__file__).parent.parent))  # `apps` is no part of the package

from apps.text.turns import by_turns, rest

_word = contextvars.ContextVar("word", default="none")


@pytest.fixture(autouse=True)
def none_is_left() -> Any:
    yield
    assert not [thread for thread in threading.enumerate() if thread.name == "by-turns"]


def taking_turns(call: Callable[[], Any]) -> Generator[Pause, None, Any]:
    """Go through a call by turns, as a job does that takes them."""
    context = contextvars.copy_context()
    context.run(enter_turns)
    made = by_turns(call)
    while True:
        try:
            item = context.run(next, made)
        except StopIteration as stop:
            return stop.value
        try:
            yield item
        except GeneratorExit:
            context.run(made.close)
            raise


def exhausted(made: Generator[Pause, None, Any]) -> tuple[int, Any]:
    """Return how many pauses came, and what was returned."""
    count = 0
    while True:
        try:
            next(made)
        except StopIteration as stop:
            return count, stop.value
        count += 1


def resting(times: int) -> str:
    for _ in range(times):
        rest()
    return "made"


def test_a_call_pauses_wherever_it_rests() -> None:
    assert exhausted(taking_turns(lambda: resting(3))) == (3, "made")


def test_two_calls_go_on_in_turn() -> None:
    said: list[str] = []

    def saying(name: str) -> None:
        for n in range(2):
            said.append(f"{name}{n}")
            rest()

    one, other = taking_turns(lambda: saying("a")), taking_turns(lambda: saying("b"))
    for made in (one, other, one, other, one, other):
        next(made, None)
    assert said == ["a0", "b0", "a1", "b1"]


def test_where_jobs_take_no_turns_it_is_called_as_it_is() -> None:
    assert exhausted(by_turns(lambda: resting(3))) == (0, "made")


def test_what_it_raises_is_raised_where_it_is_asked_for() -> None:
    def fails() -> None:
        rest()
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        exhausted(taking_turns(fails))


def test_closed_it_ends_the_call_where_that_rests() -> None:
    ended: list[bool] = []

    def long() -> None:
        try:
            resting(10)
        finally:
            ended.append(True)

    made = taking_turns(long)
    next(made)
    made.close()
    assert ended == [True]


def test_the_call_has_its_job_s_context() -> None:
    token = _word.set("the job's")
    try:
        assert exhausted(taking_turns(_word.get)) == (0, "the job's")
    finally:
        _word.reset(token)
