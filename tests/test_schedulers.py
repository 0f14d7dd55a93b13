"""Watching schedulers: who hears of which steps, and that a scheduler and its copies stay what they are."""

import copy
import inspect
import pickle
from collections.abc import Mapping
from typing import Any

import pytest

from streamapp.schedulers import is_scheduler, unwatch, watch


class Countdown:
    """A scheduler of diffusers' shape that adds its own offset."""

    def __init__(self) -> None:
        self.timesteps: list[int] = []
        self.seen: list[int] = []

    def set_timesteps(self, steps: int) -> None:
        self.timesteps = [*range(steps, 0, -1)]

    def step(self, model_output: int, timestep: int, sample: int, *, generator: Any = None) -> int:
        self.seen.append(timestep)
        return sample + model_output


class ScoreBased:
    """A scheduler whose step has another name, and whose timesteps are there once they are set."""

    def set_timesteps(self, steps: int) -> None:
        self.timesteps = [*range(steps)]

    def step_pred(self, model_output: int, timestep: int, sample: int) -> int:
        return sample


class Noting:
    """A watcher that keeps what it hears."""

    def __init__(self) -> None:
        self.heard: list[Any] = []

    def begin(self) -> None:
        self.heard.append("begin")

    def on_step(self, call: Mapping[str, Any], output: Any) -> None:
        self.heard.append((call["timestep"], output))


def watched(scheduler: Any) -> Noting:
    watcher = Noting()
    watch(scheduler, watcher)
    return watcher


def test_a_watcher_hears_that_timesteps_are_set_and_of_each_step() -> None:
    scheduler = Countdown()
    watcher = watched(scheduler)
    scheduler.set_timesteps(2)
    assert scheduler.step(1, timestep=2, sample=5) == 6
    assert watcher.heard == ["begin", (2, 6)]


def test_the_step_of_score_based_schedulers_is_heard_too() -> None:
    scheduler = ScoreBased()
    watcher = watched(scheduler)
    scheduler.step_pred(0, 7, 5)
    assert watcher.heard == [(7, 5)]


def test_a_second_watcher_takes_the_place_of_the_first() -> None:
    scheduler = Countdown()
    first, second = watched(scheduler), watched(scheduler)
    scheduler.step(1, 2, 5)
    assert first.heard == []
    assert second.heard == [(2, 6)]


def test_an_unwatched_scheduler_is_as_it_was_before() -> None:
    scheduler = Countdown()
    before = dict(vars(scheduler))
    watcher = watched(scheduler)
    unwatch(scheduler)
    scheduler.set_timesteps(0)
    assert type(scheduler) is Countdown
    assert vars(scheduler) == before
    assert watcher.heard == []


@pytest.mark.parametrize(
    "copied",
    [copy.copy, copy.deepcopy, *(lambda s, p=p: pickle.loads(pickle.dumps(s, p)) for p in (0, 2, 5))],
    ids=["copy", "deepcopy", "pickle 0", "pickle 2", "pickle 5"],
)
def test_a_copy_steps_by_itself_and_is_not_heard_of(copied: Any) -> None:
    scheduler = Countdown()
    watcher = watched(scheduler)
    scheduler.set_timesteps(2)
    twin = copied(scheduler)
    twin.seen = []
    twin.step(1, 2, 5)
    assert (scheduler.seen, twin.seen) == ([], [2])
    assert type(twin) is Countdown
    assert watcher.heard == ["begin"]


def test_another_scheduler_of_a_watched_ones_class_is_not_heard_of() -> None:
    """Apps write `type(pipe.scheduler).from_config(...)`."""
    scheduler = Countdown()
    watcher = watched(scheduler)
    type(scheduler)().step(1, 2, 5)
    assert watcher.heard == []


def test_state_that_is_kept_for_each_view_goes_back_into_the_scheduler() -> None:
    """MultiDiffusion copies the `__dict__` of its scheduler, for every view, and puts it back."""
    scheduler = Countdown()
    watcher = watched(scheduler)
    kept = copy.deepcopy(scheduler.__dict__)
    scheduler.step(1, 2, 5)
    scheduler.__dict__.update(kept)
    assert scheduler.seen == []
    scheduler.step(1, 2, 5)
    assert watcher.heard == [(2, 6), (2, 6)]


def test_a_watched_scheduler_looks_as_before_to_who_asks() -> None:
    scheduler = Countdown()
    signature, representation = inspect.signature(scheduler.step), type(scheduler).__qualname__
    watched(scheduler)
    assert inspect.signature(scheduler.step) == signature
    assert type(scheduler).__qualname__ == representation
    assert type(scheduler).__module__ == Countdown.__module__
    assert isinstance(scheduler, Countdown)


def test_what_a_watched_scheduler_raises_is_raised_and_not_heard_of() -> None:
    scheduler = Countdown()
    watcher = watched(scheduler)
    with pytest.raises(TypeError, match="timestep"):
        scheduler.step(1)  # type: ignore[call-arg]
    assert watcher.heard == []


def test_a_scheduler_is_known_before_its_timesteps_are_set() -> None:
    assert [is_scheduler(value) for value in (Countdown(), ScoreBased(), None, 1, Noting())] == [
        *(True, True),
        *(False, False, False),
    ]
