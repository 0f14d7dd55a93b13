"""Torch's modes, each its job's: set aside at the end of a turn, back at the beginning of the next."""

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from streamapp.workers.modes import Modes, usual_modes

torch = pytest.importorskip("torch")
USUAL = (True, False, False, False, ())


def jobs(*modes: Any) -> list[tuple[Iterator[Any], Modes]]:
    """Make generators that yield what modes they are in, inside of one and behind it."""

    def items(mode: Any) -> Iterator[Any]:
        with mode:
            yield usual_modes()
            yield usual_modes()
        yield usual_modes()

    return [(items(mode), Modes(usual_modes())) for mode in modes]


def turn(items: Iterator[Any], modes: Modes) -> Any:
    modes.bring_back()
    item = next(items)
    modes.set_aside()
    assert usual_modes() == USUAL
    return item


def test_jobs_in_modes_of_their_own_leave_them_in_any_order() -> None:
    first, second, third = jobs(torch.inference_mode(), torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16))
    seen = [turn(*job) for job in (first, second, third, third, first, second, third, second, first)]
    inference, no_grad, autocast = (
        (*modes, ())
        for modes in ((False, True, False, False), (False, False, False, False), (True, False, True, False))
    )
    assert seen == [inference, no_grad, autocast, autocast, inference, no_grad, USUAL, USUAL, USUAL]


def test_a_device_that_a_job_has_chosen_is_its_own() -> None:
    def made(device: str) -> Iterator[str]:
        with torch.device(device):
            yield str(torch.empty(1).device)
            yield str(torch.empty(1).device)
        yield str(torch.empty(1).device)

    first, second = ((made("meta"), Modes(usual_modes())) for _ in range(2))
    with torch.device("cpu"):  # the thread's own, as `set_default_device` in setup has it
        usual = usual_modes()
        third = (made("meta"), Modes(usual))
        third[1].bring_back()
        assert next(third[0]) == "meta"
        third[1].set_aside()
        assert usual_modes() == usual
        third[1].bring_back()
        assert [*third[0]] == ["meta", "cpu"]
    order = (first, second, first, second, second, first)
    assert [turn(*job) for job in order] == ["meta", "meta", "meta", "meta", "cpu", "cpu"]


def test_the_thread_may_be_in_a_mode_that_its_setup_has_set() -> None:
    (job,) = jobs(torch.no_grad())
    with torch.inference_mode():
        usual = usual_modes()
        items, modes = job[0], Modes(usual)
        with torch.inference_mode(False):
            modes.set_aside()
            assert usual_modes() == usual
            modes.bring_back()
            assert usual_modes() == USUAL
    assert next(items) == (False, False, False, False, ())
    items.close()  # type: ignore[attr-defined]


def test_what_a_job_has_not_left_at_its_end_is_left() -> None:
    modes = Modes(usual_modes())
    torch.set_grad_enabled(False)
    modes.end()
    assert torch.is_grad_enabled()


def test_where_another_thread_is_about_to_import_torch_it_is_not_there_yet(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "torch.py").write_text("from streamapp.workers.modes import usual_modes\nseen = usual_modes()\n")
    monkeypatch.delitem(sys.modules, "torch")
    monkeypatch.syspath_prepend(tmp_path)
    assert importlib.import_module("torch").seen == USUAL


def test_without_torch_nothing_is_done(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "torch")
    modes = Modes(usual_modes())
    for does in (modes.bring_back, modes.set_aside, modes.end):
        does()
    assert usual_modes() == USUAL
    assert "torch" not in sys.modules
