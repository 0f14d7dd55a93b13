"""Which interpreters `make test-pythons` takes."""

import sys
from pathlib import Path

import pytest
from tests.pythons import find, versions

HERE = f"{sys.version_info.major}.{sys.version_info.minor}"


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the only folder that is on the path."""
    monkeypatch.setenv("PATH", str(tmp_path))
    return tmp_path


def put(file: Path, line: str) -> str:
    """Write an executable; return its path."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(f"#!/bin/sh\n{line}\n")
    file.chmod(0o755)
    return str(file)


def test_the_versions_are_those_that_the_package_says_it_runs_on() -> None:
    assert HERE in versions()
    assert [each for each in versions() if not each.startswith("3.")] == []  # nor "3", nor "3 :: Only"


def test_an_interpreter_is_found_on_the_path(path: Path) -> None:
    python = put(path / "python3.11", f'exec {sys.executable} "$@"')
    assert find("3.11", path / "pyenv") == python


def test_of_a_shim_that_leads_nowhere_pyenvs_own_is_taken(path: Path) -> None:
    put(path / "python3.12", "exit 127")
    python = put(path / "pyenv" / "3.12.9" / "bin" / "python", f'exec {sys.executable} "$@"')
    assert find("3.12", path / "pyenv") == python


def test_a_version_that_is_not_here_is_not_found(path: Path) -> None:
    put(path / "pyenv" / "3.1.9" / "bin" / "python", f'exec {sys.executable} "$@"')
    assert find("3.13", path / "pyenv") is None
