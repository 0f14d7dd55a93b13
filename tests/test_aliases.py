"""A package of somebody else's under its own name: the one that is installed, else ours."""

import sys
from importlib import import_module
from pathlib import Path

import pytest

from streamapp import chutes
from streamapp.aliases import AliasFinder


@pytest.fixture(autouse=True)
def finder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AliasFinder:
    """Offer a package of ours as `theirs`, in a folder where modules are sought first; forget it afterwards."""
    monkeypatch.setattr(sys, "meta_path", sys.meta_path[:])
    monkeypatch.setattr(sys, "modules", sys.modules.copy())
    monkeypatch.syspath_prepend(tmp_path)
    finder = AliasFinder("theirs", "streamapp.chutes")
    finder.offer()
    finder.offer()
    assert sys.meta_path.count(finder) == 1
    return finder


def test_where_none_is_installed_ours_is_found_and_is_the_same(tmp_path: Path, finder: AliasFinder) -> None:
    (tmp_path / "theirs").mkdir()  # a folder of the user's, and no package
    assert import_module("theirs.chute") is chutes.chute
    assert import_module("theirs") is chutes
    assert finder.is_ours


def test_what_ours_has_not_is_not_found() -> None:
    with pytest.raises(ModuleNotFoundError, match="No module named 'theirs.util'"):
        import_module("theirs.util")


def test_the_one_that_is_installed_is_found_as_ever(tmp_path: Path, finder: AliasFinder) -> None:
    (tmp_path / "theirs").mkdir()
    (tmp_path / "theirs" / "__init__.py").write_text("from . import chute")
    (tmp_path / "theirs" / "chute.py").write_text("VALUE = 1")
    assert import_module("theirs.chute").VALUE == 1
    assert not finder.is_ours


def test_other_packages_are_none_of_its_business() -> None:
    with pytest.raises(ModuleNotFoundError, match="No module named 'theirs_too'"):
        import_module("theirs_too")
