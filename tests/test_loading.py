"""Import strings: what they find, and what is said when they find nothing."""

import re
import sys
from pathlib import Path

import pytest

from streamapp.app import App
from streamapp.errors import DefinitionError
from streamapp.loading import format_import_error, load_app, source_folder

APP = """
import streamapp

class {name}(streamapp.App):
    @streamapp.endpoint("/x")
    def x(self): ...
"""


@pytest.fixture(autouse=True)
def in_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Work in an empty folder; what a test imports is forgotten after it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", sys.path[:])
    monkeypatch.setattr(sys, "modules", sys.modules.copy())


def write(path: str, *names: str, text: str = "") -> None:
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Path(path).write_text("".join(APP.format(name=name) for name in names) + text)


def refused(import_string: str) -> str:
    with pytest.raises(DefinitionError) as caught:
        load_app(import_string)
    return caught.value.message


def test_a_file_and_a_class_name_an_app() -> None:
    write("apps/one/app.py", "One", "Two")
    assert load_app("apps/one/app.py:Two").__name__ == "Two"


def test_a_module_and_a_class_name_an_app() -> None:
    write("package/__init__.py")
    write("package/inner.py", "One")
    assert load_app("package.inner:One").__module__ == "package.inner"


def test_without_a_class_the_only_app_is_meant() -> None:
    write("only.py", "Only", text="from other import Other\nNUMBER = 1")
    write("other.py", "Other")
    assert load_app("only.py").__name__ == "Only"
    assert load_app("only").__name__ == "Only"


@pytest.mark.parametrize("folders", [("a", "b"), ("my-app", "my_app"), ("a/b", "a_b")])
def test_files_of_one_name_are_told_apart(folders: tuple[str, str]) -> None:
    for folder, name in zip(folders, ("First", "Second"), strict=True):
        write(f"{folder}/app.py", name)
    assert [load_app(f"{folder}/app.py").__name__ for folder in folders] == ["First", "Second"]


def test_a_file_is_imported_once() -> None:
    write("app.py", "First", "Second")
    assert issubclass(load_app("app.py:First"), App)
    assert load_app("app.py:First") is load_app("./app.py:First")


def test_a_file_that_is_not_there_is_named() -> None:
    assert refused("nowhere/app.py:X").startswith("there is no file 'nowhere/app.py'")


@pytest.mark.parametrize("import_string", ["nowhere:X", "nowhere.inner:X", "nowhere/app:X"])
def test_a_module_that_is_not_there_is_named(import_string: str) -> None:
    assert re.match(r"there is no module 'nowhere.*path/to/app\.py:Class", refused(import_string))


@pytest.mark.parametrize("import_string", ["", ":X", ".relative:X"])
def test_another_form_is_refused_with_the_right_one(import_string: str) -> None:
    assert "Expected path/to/app.py:Class or package.module:Class" in refused(import_string)


def test_a_class_that_is_not_there_is_refused_with_those_that_are() -> None:
    write("app.py", "One", "Two")
    assert refused("app.py:Three") == "there is no 'Three' in app.py; the apps in it: app.py:One, app.py:Two"
    write("empty.py")
    assert refused("empty.py:Three").endswith("none")


def test_what_is_no_app_is_refused() -> None:
    write("app.py", text="class Plain: ...")
    assert refused("app.py:Plain") == "app.py:Plain is no app; write class Plain(streamapp.App)"


def test_without_a_class_no_app_and_several_apps_are_refused() -> None:
    write("none.py")
    assert refused("none.py") == "there is no app in none.py; write class Name(streamapp.App)"
    write("two.py", "One", "Two")
    assert refused("two.py") == "there are 2 apps in two.py; write one of two.py:One, two.py:Two"


def test_what_a_module_raises_is_shown_from_its_own_first_line_on() -> None:
    write("app.py", text="def load():\n    raise OSError('no model')\n\nload()")
    with pytest.raises(OSError, match="no model") as caught:
        load_app("app.py:X")
    assert caught.value.__traceback__ is not None
    lines = format_import_error(caught.value.with_traceback(caught.value.__traceback__.tb_next)).splitlines()
    assert [line.rpartition(", ")[2] for line in lines if line.startswith("  File")] == ["in <module>", "in load"]
    assert lines[-1] == "OSError: no model"


def test_a_module_that_lacks_something_raises_as_it_is() -> None:
    write("app.py", text="import not_installed")
    write("module.py", text="import not_installed")
    for import_string in ("app.py:X", "module:X"):
        with pytest.raises(ModuleNotFoundError, match="not_installed"):
            load_app(import_string)


def test_the_source_folder_is_the_files_or_the_current_one() -> None:
    assert source_folder("apps/one/app.py:X") == Path.cwd() / "apps" / "one"
    assert source_folder("package.module:X") == Path.cwd()
