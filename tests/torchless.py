"""Skip what needs the models' packages where they are not installed: hooks of pytest, which tests/conftest.py takes in.

`make test-pythons` has environments without torch. There a file that cannot be imported for want of it is skipped
whole, and so is a test that meets it later. In CI nothing is skipped: there a package that is missing is a mistake.
"""

import importlib.util
import os
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest

_PACKAGES = {"torch", "diffusers", "transformers", "tokenizers", "safetensors", "accelerate"}
IS_TORCHLESS = importlib.util.find_spec("torch") is None and "CI" not in os.environ


class Module(pytest.Module):
    """Collect a test file, unless it needs a package that is not here."""

    def _getobj(self) -> Any:
        try:
            return super()._getobj()  # type: ignore[no-untyped-call]
        except self.CollectError as error:
            _skip_for_want(error.__cause__)
            raise


def pytest_pycollect_makemodule(module_path: Path, parent: pytest.Collector) -> Module:
    return Module.from_parent(parent, path=module_path)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_setup() -> Generator[None, Any, Any]:
    return (yield from _skipping())


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call() -> Generator[None, Any, Any]:
    return (yield from _skipping())


def _skipping() -> Generator[None, Any, Any]:
    try:
        return (yield)
    except ModuleNotFoundError as error:
        _skip_for_want(error)
        raise


def _skip_for_want(error: BaseException | None) -> None:
    name = error.name if isinstance(error, ModuleNotFoundError) else None
    if IS_TORCHLESS and name is not None and name.partition(".")[0] in _PACKAGES:
        pytest.skip(f"{name} is not installed", allow_module_level=True)
