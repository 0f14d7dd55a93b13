"""What pipelines are made of, and how they count their steps: by pipelines and schedulers without a model."""

from types import SimpleNamespace
from typing import Any

import pytest

from streamapp.pipelines import Loop, Part, lend, pipelines, schedulers


class Scheduler:
    """A scheduler that has timesteps, and no steps worth the name."""

    def __init__(self, length: int = 4, **attributes: Any) -> None:
        self.timesteps = [*range(length)]
        vars(self).update(attributes)

    def step(self, model_output: Any, timestep: Any, sample: Any) -> Any:
        return sample


class Bar:
    """A progress bar."""

    def __init__(self) -> None:
        self.count = 0

    def update(self, n: int = 1) -> None:
        self.count += n


class Pipe(SimpleNamespace):
    """A pipeline that prepares its loop as those of diffusers do."""

    def __init__(self, scheduler: Any = None, **attributes: Any) -> None:
        super().__init__(scheduler=scheduler or Scheduler(), **attributes)

    def progress_bar(self, iterable: Any = None, total: int | None = None) -> Any:
        return Bar() if iterable is None else iterable

    def prepare_latents(self, batch_size: int, height: int, width: int) -> Any:
        return SimpleNamespace(shape=(batch_size, 4, height // 8, width // 8))

    def get_views(self, height: int, width: int) -> list[tuple[int, int, int, int]]:
        return [(0, height // 8, 0, width // 16), (0, height // 8, width // 16, width // 8)]


class Noting:
    """A listener that keeps what it hears."""

    def __init__(self) -> None:
        self.heard: list[Any] = []

    def on_preparing(self, part: Part) -> None:
        self.heard.append(part)

    def on_update(self, part: Part, count: int, total: int) -> None:
        self.heard.append((part, count, total))


def listening(pipe: Any) -> Part:
    part = Part(pipe)
    part.listen(Noting())
    return part


def steps(loop: Loop) -> list[int]:
    return [loop.step(turn) for turn in range(1, loop.turns + 1)]


@pytest.mark.parametrize(
    ("scheduler", "counted"),
    [
        (Scheduler(4), [1, 2, 3, 4]),
        (Scheduler(7, order=2, num_inference_steps=4), [1, 1, 2, 2, 3, 3, 4]),  # Heun, KDPM2, DPM-Solver SDE
        (Scheduler(1, order=2, num_inference_steps=1), [1]),
        (Scheduler(5, num_inference_steps=4), [1, 1, 2, 3, 4]),  # PNDM without, and with, Runge-Kutta steps
        (Scheduler(13, num_inference_steps=4), [1] * 10 + [2, 3, 4]),
        (Scheduler(4, begin_index=2), [1, 2]),  # from an image, where nothing else tells
    ],
)
def test_a_loop_counts_the_steps_that_were_asked_for(scheduler: Any, counted: list[int]) -> None:
    assert steps(Part(Pipe()).loop(scheduler)) == counted


def test_a_step_begins_with_its_first_turn() -> None:
    loop = Part(Pipe()).loop(Scheduler(7, order=2, num_inference_steps=4))
    assert [turn for turn in range(1, 8) if loop.begins_step(turn)] == [1, 3, 5, 7]


def test_an_image_to_begin_with_leaves_the_timesteps_that_the_pipeline_says() -> None:
    assert steps(Part(Pipe(num_timesteps=3)).loop(Scheduler(7, order=2, num_inference_steps=4))) == [1, 1, 2]
    assert steps(Part(Pipe(num_timesteps=12)).loop(Scheduler(4))) == [1, 2, 3, 4]  # of several loops


def test_a_progress_bar_tells_how_long_the_loop_is() -> None:
    pipe = Pipe(Scheduler(9))
    part = listening(pipe)
    pipe.progress_bar(total=3)
    assert steps(part.loop(pipe.scheduler)) == [1, 2, 3]
    pipe.progress_bar(pipe.scheduler.timesteps[:-1])  # Wuerstchen leaves the last one out
    assert steps(part.loop(pipe.scheduler)) == [*range(1, 9)]
    part.begin()
    pipe.progress_bar(iter([1]))
    assert steps(part.loop(pipe.scheduler)) == [*range(1, 10)]


def test_a_progress_bar_is_followed_while_no_step_is_seen() -> None:
    pipe, noting = Pipe(), Noting()
    part = Part(pipe)
    part.listen(noting)
    bar = pipe.progress_bar(total=3)
    bar.update()
    bar.update(1)
    part.is_seen = True
    bar.update()
    assert noting.heard == [part, (part, 1, 3), (part, 2, 3)]
    assert bar.count == 3


def test_a_pipeline_tells_the_size_of_its_latents_and_its_views_of_them() -> None:
    pipe = Pipe()
    part = listening(pipe)
    pipe.prepare_latents(2, height=16, width=32)
    pipe.get_views(16, 32)
    assert (part.size, part.shape) == ((16, 32), (2, 4, 2, 4))
    assert part.views == [(0, 2, 0, 2), (0, 2, 2, 4)]


def test_a_part_that_left_hears_no_more() -> None:
    pipe = Pipe()
    before = dict(vars(pipe))
    part = listening(pipe)
    bar = pipe.progress_bar(total=3)
    part.leave()
    assert vars(pipe) == before
    assert "update" not in vars(bar)


def test_a_pipeline_with_a_bar_of_another_kind_is_left_alone() -> None:
    part = listening(pipe := SimpleNamespace(progress_bar=lambda total: None, scheduler=Scheduler(9)))
    pipe.progress_bar(total=2)
    assert part.loop(pipe.scheduler).total == 2


def test_a_lent_pipeline_has_schedulers_of_its_own_and_the_same_models() -> None:
    pipe = Pipe(model=object())
    lent, parts = lend(pipe)
    assert [part.pipe for part in parts] == [lent]
    assert lent.scheduler is not pipe.scheduler
    assert lent.model is pipe.model


def test_pipelines_inside_a_pipeline_are_lent_with_it_and_share_what_they_shared() -> None:
    prior, decoder = Pipe(), Pipe()
    pipe = Pipe(decoder.scheduler, prior_scheduler=prior.scheduler, prior_pipe=prior, decoder_pipe=decoder)
    lent, parts = lend(pipe)
    assert [part.name for part in parts] == ["prior", "decoder", ""]
    assert lent.prior_pipe is parts[0].pipe is not prior
    assert lent.scheduler is lent.decoder_pipe.scheduler is not decoder.scheduler
    assert lent.prior_scheduler is lent.prior_pipe.scheduler
    assert pipe.decoder_pipe is decoder


def test_a_pipeline_stands_once_however_often_it_is_held() -> None:
    inner = Pipe()
    pipe = Pipe(base=inner, again=inner)
    inner.owner = pipe
    assert [name for name, _ in pipelines(pipe)] == ["base", ""]


def test_an_object_that_holds_pipelines_need_not_be_one() -> None:
    pipe = SimpleNamespace(base=Pipe(), refiner=Pipe(), size=64)
    assert [name for name, _ in pipelines(pipe)] == ["base", "refiner", ""]
    assert schedulers(pipe) == []
