"""Import strings: what they find, and what is said when they find nothing."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
from tests.waiting import WAIT_S

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


@pytest.mark.parametrize("name", ["my-app", "a_b", "a__b", "v1.0/v1.0", "v1.0/_2e_", "größe", "a b", "%", "_"])
def test_whatever_a_file_is_called_it_is_found(name: str) -> None:
    write(f"{name}/{name.rpartition('/')[2]}.py", "One")
    assert load_app(f"{name}/{name.rpartition('/')[2]}.py").__name__ == "One"


# What is an app in other words

CHUTE = """
from streamapp.chutes import Chute

{name} = Chute(name="{name}")

@{name}.cord()
def x(self): ...
"""


def write_chutes(path: str, *names: str, text: str = "") -> None:
    write(path, text="".join(CHUTE.format(name=name) for name in names) + text)


def test_a_chute_is_an_app_in_other_words() -> None:
    write_chutes("words.py", "chute", text="same = chute")
    app = load_app("words.py")
    assert issubclass(app, App)
    assert load_app("words.py:chute") is load_app("words.py:same") is app
    assert load_app("words:chute").app_name == "chute"


def test_of_several_chutes_and_apps_one_is_to_be_named() -> None:
    write_chutes("several.py", "first", "second", text=APP.format(name="Third"))
    listed = "several.py:first, several.py:second, several.py:Third"
    assert refused("several.py") == f"there are 3 apps in several.py; write one of {listed}"
    assert load_app("several.py:second").app_name == "second"
    assert refused("several.py:third") == f"there is no 'third' in several.py; the apps in it: {listed}"


def test_a_chute_that_is_imported_is_the_other_files() -> None:
    write_chutes("one.py", "chute")
    write_chutes("two.py", "own", text="from one import chute")
    assert load_app("two.py").app_name == "own"
    assert load_app("two.py:chute").app_name == "chute"


@pytest.mark.parametrize(("line", "name"), [("chute", "chute"), ("One as Other", "Other"), ("chute as App", "App")])
def test_where_there_is_but_an_imported_one_it_is_to_be_named(line: str, name: str) -> None:
    write_chutes("base.py", "chute", text=APP.format(name="One"))
    write("main.py", text=f"from streamapp.fal import App\nfrom base import {line}")
    assert refused("main.py") == f"there is no app in main.py but what it imports; write main.py:{name}"
    assert load_app(f"main.py:{name}").__module__ == "base"


def test_where_chutes_is_imported_a_chute_is_what_is_missing() -> None:
    write("none.py", text="from streamapp.chutes import Chute\nchute = Chute")
    assert refused("none.py") == 'there is no app in none.py; write chute = Chute(name="...")'
    assert refused("none.py:chute") == 'none.py:chute is no app; write chute = Chute(name="...")'


def test_a_chute_without_a_cord_is_refused() -> None:
    write("empty.py", text='from streamapp.chutes import Chute\nchute = Chute(name="empty")')
    assert "Chute('empty') has no cord; write @chute.cord(" in refused("empty.py")


def test_of_what_answers_to_any_name_nothing_is_asked() -> None:
    write("any.py", "One", text="class Any:\n    def __getattr__(self, name): raise OSError(name)\nany = Any()")
    assert load_app("any.py").__name__ == "One"


# Files of packages


def test_a_file_of_a_package_is_imported_as_a_member_of_it() -> None:
    write("top/__init__.py")
    write("top/lib.py", text="UP = 'lib'")
    write("top/inner/__init__.py")
    write("top/inner/near.py", text="NEAR = 'near'")
    write(
        "top/inner/app.py", "One", text="from .near import NEAR\nfrom ..lib import UP\nfrom top.lib import UP as SAME"
    )
    app = load_app("top/inner/app.py")
    assert app.__module__ == "top.inner.app"
    assert load_app("top.inner.app:One") is app


def test_the_init_file_of_a_package_may_be_the_app() -> None:
    write("whole/__init__.py", "One", text="from .part import PART")
    write("whole/part.py", text="PART = 1")
    assert load_app("whole/__init__.py").__module__ == "whole"


def test_a_file_of_a_package_may_import_its_neighbours_by_name_and_hides_nothing_of_pythons() -> None:
    write("mixed/__init__.py")
    write("mixed/neighbour.py", text="HERE = 1")
    write("mixed/colorsys.py", text="raise OSError('the wrong one')")
    write("mixed/app.py", "One", text="from neighbour import HERE\nfrom colorsys import rgb_to_hsv")
    assert load_app("mixed/app.py").__name__ == "One"


@pytest.mark.parametrize("folder", ["json", "my.app"])
def test_a_package_whose_name_is_taken_or_is_none_is_a_folder(folder: str) -> None:
    write(f"{folder}/__init__.py", text="raise OSError('not imported')")
    write(f"{folder}/app.py", "One", text="import json\nassert json.loads('1') == 1")
    assert load_app(f"{folder}/app.py").__name__ == "One"


def test_packages_of_one_name_are_told_apart() -> None:
    for place, name in (("first", "First"), ("second", "Second")):
        write(f"{place}/same/__init__.py")
        write(f"{place}/same/app.py", name)
    assert [load_app(f"{place}/same/app.py").__name__ for place in ("first", "second")] == ["First", "Second"]


@pytest.mark.parametrize(
    ("files", "line", "said"),
    [
        ((), "from ..lib import UP", "put one into {here}/apps/one, or"),
        ((), "from .. import lib", "put one into {here}/apps/one, or"),
        ((), "from ...lib import UP", "put one into {here}/apps/one, or"),
        ((), "import near", "put one into {here}/apps/one, or"),
        (("apps/one/__init__.py",), "from ..lib import UP", "put one into {here}/apps, or"),
    ],
)
def test_a_relative_import_without_a_package_is_told_where_one_is_missing(
    files: tuple[str, ...], line: str, said: str
) -> None:
    for file in files:
        write(file)
    write("apps/one/near.py", text="from .other import NEAR")
    write("apps/one/app.py", "One", text=line)
    assert said.format(here=Path.cwd().resolve()) in (told := refused("apps/one/app.py"))
    assert (line if ".." in line else "near.py: from .other import NEAR") in told


def test_a_relative_import_of_what_is_not_there_raises_as_it_is() -> None:
    write("app.py", text="from .nothing import X")
    with pytest.raises(ModuleNotFoundError, match="nothing"):
        load_app("app.py")


# Several apps, several processes


def two_apps(first: str, second: str) -> None:
    write("a/app.py", "First", text=first)
    write("b/app.py", "Second", text=second)
    for folder in "ab":
        write(f"{folder}/aside.py", text=f"WHOSE = {folder!r}")
        write(f"{folder}/lib/part.py", text=f"WHOSE = {folder!r}")


@pytest.mark.parametrize(
    ("line", "name"),
    [
        ("import aside", "aside"),
        ("from aside import WHOSE", "aside"),
        ("def later():\n    import aside as other", "aside"),
        ("import json, aside", "aside"),
        ("import lib.part", "lib.part"),
        ("from lib import part", "lib.part"),
        ("import importlib\nWHOSE = importlib.import_module('lib.part').WHOSE", "lib.part"),
        ("from importlib import import_module\ndef later():\n    import_module('aside')", "aside"),
        ("other = __import__('aside')", "aside"),
        ("if False:\n    import app", "app"),
    ],
)
def test_an_app_that_would_get_another_apps_module_is_refused(line: str, name: str) -> None:
    two_apps(line, line)
    load_app("a/app.py")
    here, path = Path.cwd().resolve(), name.replace(".", "/")
    assert refused("b/app.py") == (
        f"{here}/b/app.py imports {name}, which is {here}/b/{path}.py, and another app means {here}/a/{path}.py by it: "
        f"rename one of the two, or import it by its place: from .{name} import ..."
    )


def test_so_is_one_that_gets_it_by_another_module_or_is_a_module_itself() -> None:
    two_apps("import aside", "import between")
    write("b/between.py", text="import aside")
    load_app("a/app.py")
    assert "b/between.py imports aside" in refused("b/app.py").replace("app.py imports", "between.py imports")
    write("aside.py")
    write("third.py", "Third", text="import aside")
    assert "third.py imports aside" in refused("third")


def test_a_module_that_one_of_two_apps_imports_is_in_nobodys_way() -> None:
    two_apps("import aside", "import json")
    assert [load_app(f"{folder}/app.py").__name__ for folder in "ab"] == ["First", "Second"]
    assert load_app("a/app.py").__name__ == "First"


@pytest.mark.parametrize("files", [(), ("a/__init__.py", "b/__init__.py")])
@pytest.mark.parametrize(
    "line",
    [
        "from .aside import WHOSE",
        "from .lib.part import WHOSE",
        "from .app import app",
        "from importlib import import_module\nWHOSE = import_module('.aside', __package__).WHOSE",
    ],
)
def test_what_apps_import_by_its_place_each_has_of_its_own(files: tuple[str, ...], line: str) -> None:
    two_apps(*[line.replace("from .app import app", f"app = WHOSE = {folder!r}\n{line}") for folder in "ab"])
    for file in files:
        write(file)
    apps = [load_app(f"{folder}/app.py") for folder in "ab"]
    assert [sys.modules[app.__module__].WHOSE for app in apps] == ["a", "b"]


SPAWNING = """
import multiprocessing
from streamapp.loading import load_app

if __name__ == "__main__":
    for folder in "ab":
        app = load_app(f"{folder}/my-app.py")
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            print(pool.apply_async(app.work, [folder]).get(60))
"""


@pytest.mark.long
def test_a_spawned_process_finds_the_functions_of_apps_of_one_name() -> None:
    for folder in "ab":
        write(f"{folder}/my-app.py", "One", text=f"    @staticmethod\n    def work(x): return x + {folder!r}")
    Path("main.py").write_text(SPAWNING)
    ran = subprocess.run([sys.executable, "main.py"], capture_output=True, text=True, check=True, timeout=WAIT_S)
    assert ran.stdout == "aa\nbb\n"


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
    write("one.py", "One", text="PLAIN = 1")
    assert refused("one.py:PLAIN") == "one.py:PLAIN is no app; the apps in it: one.py:One"


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
    write("top/__init__.py")
    write("top/inner/__init__.py")
    assert source_folder("top/inner/app.py") == Path.cwd() / "top"
    assert source_folder("package.module:X") == Path.cwd()
