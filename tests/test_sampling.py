"""Large matrices are sampled, the same way everywhere, and run whole when asked."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from tests.sampling import MOST, sample
from tests.waiting import WAIT_S

ROOT = Path(__file__).parent.parent
MATRICES = """
import pytest

@pytest.mark.parametrize("n", range(100))
def test_large(n): assert n != {broken}

@pytest.mark.parametrize("n", range(7))
def test_small(n): ...

@pytest.mark.whole
@pytest.mark.parametrize("n", range(50))
def test_cheap(n): ...


@pytest.mark.long
def test_long() -> None:
    pass
"""


def run(folder: Path, *options: str, broken: int = -1) -> str:
    """Run a large, a small and a cheap matrix with the plugin; return what was printed."""
    (folder / "test_matrices.py").write_text(MATRICES.format(broken=broken))
    return pytest_in(folder, *options, str(folder))


def pytest_in(folder: Path, *arguments: str) -> str:
    command = [sys.executable, "-m", "pytest", "-p", "tests.sampling", "--rootdir", str(folder), *arguments]
    env = {**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    return subprocess.run(
        command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=WAIT_S, check=False
    ).stdout


@pytest.mark.parametrize("count", [0, 1, MOST - 1, MOST])
def test_a_small_matrix_runs_whole(count: int) -> None:
    assert sample(count) == set(range(count))


@pytest.mark.parametrize("count", [MOST + 1, 2 * MOST, 12_345])
def test_of_a_large_matrix_the_first_and_the_last_case_run_and_others_evenly_between(count: int) -> None:
    chosen = sorted(sample(count))
    assert (len(chosen), chosen[0], chosen[-1]) == (MOST, 0, count - 1)
    gaps = {after - before for before, after in zip(chosen, chosen[1:], strict=False)}
    assert max(gaps) - min(gaps) <= 1


def test_what_is_left_out_is_told(tmp_path: Path) -> None:
    printed = run(tmp_path)
    assert "61 cases of large matrices, and long ones, left out; --all runs them" in printed
    assert f"{MOST + 57} passed, 61 deselected" in printed


def test_side_by_side_the_same_cases_run_and_what_is_left_out_is_told_once(tmp_path: Path) -> None:
    printed = run(tmp_path, "-p", "xdist.plugin", "-n", "2")
    assert printed.count("61 cases of large matrices, and long ones, left out; --all runs them") == 1
    assert f"{MOST + 57} passed" in printed


def test_the_whole_runs_when_it_is_asked_for(tmp_path: Path) -> None:
    printed = run(tmp_path, "--all", broken=1)
    assert "1 failed, 157 passed" in printed
    assert "left out" not in printed


def test_a_case_that_is_named_runs_though_no_sample_has_it(tmp_path: Path) -> None:
    assert 1 not in sample(100)
    run(tmp_path)
    assert "1 passed" in pytest_in(tmp_path, f"{tmp_path / 'test_matrices.py'}::test_large[1]")
