"""Run a sample of each large matrix, and all of it with `--all`: hooks of pytest, which tests/conftest.py takes in.

A test of more than `MOST` cases runs `MOST` of them: the first, the last, and others evenly between, the same in every
run and in every process of one. Smaller matrices run whole, and those that are marked `whole`, because a case of them
costs next to nothing. What is marked `long` runs with `--all` alone. What is left out is told at the end.
"""

from collections import defaultdict
from typing import Any

import pytest

MOST = 40
_LEFT_OUT = pytest.StashKey[int]()


def sample(count: int, most: int = MOST) -> set[int]:
    """Return which of `count` cases are run."""
    if count <= most:
        return set(range(count))
    return {round(n * (count - 1) / (most - 1)) for n in range(most)}


def beyond_sample(cases: list[pytest.Item]) -> list[pytest.Item]:
    """Return the cases of a matrix that are left out."""
    chosen = sample(len(cases))
    return [case for n, case in enumerate(cases) if n not in chosen]


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--all", action="store_true", help="run large matrices whole, not a sample of each, and what is long"
    )


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.getoption("--all"):
        return
    matrices: dict[str, list[pytest.Item]] = defaultdict(list)
    for item in items:
        if item.get_closest_marker("whole") is None:
            matrices[item.nodeid.partition("[")[0]].append(item)
    left_out = {case for cases in matrices.values() for case in beyond_sample(cases)}
    left_out |= {item for item in items if item.get_closest_marker("long") is not None}
    items[:] = [item for item in items if item not in left_out]
    config.hook.pytest_deselected(items=[*left_out])
    config.stash[_LEFT_OUT] = len(left_out)
    if hasattr(config, "workeroutput"):  # a process of several, which all leave out the same
        config.workeroutput["left_out"] = len(left_out)


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    node.config.stash[_LEFT_OUT] = getattr(node, "workeroutput", {}).get("left_out", 0)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    if left_out := config.stash.get(_LEFT_OUT, 0):
        terminalreporter.write_line(f"{left_out} cases of large matrices, and long ones, left out; --all runs them")
