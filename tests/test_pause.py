"""What stands in the place of an item that is not there yet."""

from contextvars import copy_context

from streamapp.jobs.pause import Pause, enter_turns, takes_turns


def test_a_pause_may_be_taken_for_an_item() -> None:
    assert Pause(text="", index=0)["text"] == ""


def test_a_pause_says_how_long_it_lasts() -> None:
    assert (Pause().for_s, Pause.lasting(2).for_s, Pause.lasting(2)) == (0, 2, {})


def test_nothing_takes_turns_but_where_a_worker_says_so() -> None:
    context = copy_context()
    context.run(enter_turns)
    assert context.run(takes_turns) and not takes_turns()
