"""What a package imports when it is first asked for: each name once, in any thread, and nothing before."""

import ast
import gc
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from importlib import import_module, invalidate_caches
from pathlib import Path
from types import ModuleType

import pytest

import streamapp
import streamapp.runpod
from streamapp.later import import_at_once, module

_DOOR = """
from streamapp.later import names_of

__all__ = ["make", "Thing"]
__getattr__ = names_of(__name__, {"make": "make", "Thing": "things"}, modules=["others"])
"""


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """Return a package of three modules, one of which is called like the function in it; forget it afterwards."""
    monkeypatch.setattr(sys, "modules", sys.modules.copy())
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "lazy").mkdir()
    for name, text in {
        "__init__": _DOOR,
        "make": "def make(): ...",
        "things": "from .make import make\nclass Thing: ...",
        "others": "",
    }.items():
        (tmp_path / "lazy" / f"{name}.py").write_text(text)
    invalidate_caches()
    yield import_module("lazy")
    for name in ("lazy", "lazy.make", "lazy.things", "lazy.others"):
        sys.modules.pop(name, None)


def test_a_name_is_imported_when_it_is_first_asked_for(package: ModuleType) -> None:
    assert "lazy.things" not in sys.modules
    assert package.Thing is import_module("lazy.things").Thing
    assert vars(package)["Thing"] is package.Thing


def test_a_function_is_no_module_of_its_name_even_where_that_was_imported_before(package: ModuleType) -> None:
    module = import_module("lazy.make")
    assert package.make is module.make


def test_a_name_may_be_replaced_as_tests_do(package: ModuleType) -> None:
    package.make = None  # type: ignore[attr-defined]
    assert package.make is None


def test_all_threads_get_the_same(package: ModuleType) -> None:
    with ThreadPoolExecutor(8) as pool:
        found = set(pool.map(lambda _: package.Thing, range(64), timeout=20))
    assert found == {import_module("lazy.things").Thing}


def test_some_modules_are_there_without_an_import(package: ModuleType) -> None:
    assert package.others is sys.modules["lazy.others"]


def test_what_is_not_there_is_told_as_of_any_module(package: ModuleType) -> None:
    with pytest.raises(AttributeError, match="module 'lazy' has no attribute 'Thin'") as told:
        _ = package.Thin
    assert (told.value.name, told.value.obj) == ("Thin", package)
    assert not hasattr(package, "things")


def test_a_package_may_say_itself_what_is_to_be_said_of_a_name_that_is_not_there() -> None:
    with pytest.raises(AttributeError, match="streamapp.runpod has no handler; it has serverless"):
        _ = streamapp.runpod.handler  # type: ignore[attr-defined]


def test_a_module_is_imported_when_one_of_its_attributes_is_asked_for(package: ModuleType) -> None:
    stands = module("..things", "lazy.others", submodules=())
    assert "lazy.things" not in sys.modules
    assert stands.Thing is sys.modules["lazy.things"].Thing


def test_a_module_is_given_as_it_is_at_that_moment(package: ModuleType) -> None:
    stands = module("lazy", submodules=("things",))
    assert stands.things is sys.modules["lazy.things"]
    package.make = None  # type: ignore[attr-defined]
    assert stands.make is None


def test_files_of_an_app_take_no_packages_place_nor_that_of_what_it_imports(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("cProfile", "profile"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    stands = module("cProfile")
    monkeypatch.syspath_prepend(tmp_path)
    for name in ("cProfile", "profile", "only_the_apps"):
        (tmp_path / f"{name}.py").write_text("is_the_apps = True")
    assert not hasattr(stands, "is_the_apps")
    assert not hasattr(sys.modules["profile"], "is_the_apps")
    assert import_module("only_the_apps").is_the_apps
    del sys.modules["only_the_apps"]


def test_a_module_that_is_not_installed_is_told_as_of_any_import() -> None:
    with pytest.raises(ModuleNotFoundError, match="No module named 'nowhere'"):
        _ = module("nowhere").anything


@pytest.mark.parametrize("is_enabled", [True, False])
def test_the_garbage_collector_is_left_as_it_was_by_an_import_in_one_piece(
    package: ModuleType, is_enabled: bool
) -> None:
    (gc.enable if is_enabled else gc.disable)()
    try:
        frozen = gc.get_freeze_count()
        assert import_at_once("lazy.things") is sys.modules["lazy.things"]
        assert gc.isenabled() is is_enabled
        assert gc.get_freeze_count() > frozen
    finally:
        gc.unfreeze()
        gc.enable()


def declared() -> dict[str, str]:
    """Return what type checkers and editors read at the top of `streamapp`: each name's module."""
    body = ast.parse(Path(str(streamapp.__file__)).read_text()).body
    told = next(node for node in body if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING")
    return {
        alias.name: f"streamapp.{node.module}"
        for node in told.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }


def test_streamapp_has_the_names_that_editors_are_told_of_from_the_same_modules() -> None:
    assert {*declared(), "__version__", "cached"} == {*streamapp.__all__}
    assert {*streamapp.__all__} <= {*dir(streamapp)}
    for name, place in declared().items():
        assert getattr(streamapp, name) is getattr(import_module(place), name)


def test_all_names_of_streamapp_come_with_a_star() -> None:
    names: dict[str, object] = {}
    exec("from streamapp import *", names)
    assert {*streamapp.__all__} <= names.keys()
