"""What stands in the place of an item that is not there yet."""

from streamapp.jobs.pause import Pause, takes_turns


def test_a_pause_may_be_taken_for_an_item() -> None:
    assert Pause(text="", index=0)["text"] == ""


def test_nothing_takes_turns_but_where_a_worker_says_so() -> None:
    assert not takes_turns.get()
