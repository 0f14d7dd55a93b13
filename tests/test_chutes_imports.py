"""Files that were written for Chutes, as they stand; and what is said where they get something that is not ours."""

import subprocess
import sys
from pathlib import Path

import pytest
from tests.waiting import WAIT_S

from streamapp.chutes import imports
from streamapp.chutes.imports import load_served
from streamapp.errors import DefinitionError

WORDS = """
from chutes.chute import Chute, NodeSelector
from chutes.image import Image

chute = Chute(
    username="me",
    name="words",
    image=Image(username="me", name="words", tag="1").from_base("python:3.12"),
    node_selector=NodeSelector(gpu_count=1, min_vram_gb_per_gpu=12),
)

@chute.cord(public_api_path="/words", stream=True)
async def words(self, text: str):
    for word in text.split():
        yield word
"""
# What looks like the real package, whose Chute is none of ours.
REAL = {
    "__init__.py": "",
    "chute.py": "class Chute:\n    def __init__(self, username, name, image=None, **others):\n        assert image\n"
    "    def cord(self, **others): return lambda function: function\nclass NodeSelector:\n"
    "    def __init__(self, **others): ...",
    "image.py": "class Image:\n    def __init__(self, **others): ...\n    def from_base(self, base): return self",
}
THEIRS = "whose Chute cannot be served: to serve one write from streamapp.chutes import Chute, Image, NodeSelector"


@pytest.fixture(autouse=True)
def in_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Work in an empty folder, beside whatever this process has imported."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "meta_path", [finder for finder in sys.meta_path if finder is not imports._FINDER])
    monkeypatch.setattr(sys, "path", sys.path[:])
    monkeypatch.setattr(sys, "modules", sys.modules.copy())
    for name in [name for name in sys.modules if name.partition(".")[0] == "chutes"]:
        del sys.modules[name]


def install(folder: str) -> None:
    """Put something that looks like the real package where it is found."""
    for name, text in REAL.items():
        path = Path(folder, "chutes", name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    sys.path.insert(0, str(Path(folder).absolute()))


def refused(import_string: str) -> str:
    with pytest.raises(DefinitionError) as caught:
        load_served(import_string)
    return caught.value.message


@pytest.mark.parametrize("named", ["words.py", "words.py:chute", "words", "words:chute"])
def test_a_file_that_was_written_for_chutes_is_an_app_as_it_stands(named: str) -> None:
    Path("words.py").write_text(WORDS)
    app = load_served(named)
    assert app.app_name == "words"
    assert [spec.path for spec in app.endpoints()] == ["/words"]


def test_other_files_are_loaded_as_ever() -> None:
    Path("handler.py").write_text("import runpod\nrunpod.serverless.start({'handler': print})")
    assert load_served("handler.py").app_name
    Path("empty.py").write_text("")
    assert refused("empty.py") == "there is no app in empty.py; write class Name(streamapp.App)"
    Path("wrong.py").write_text("raise OSError('own')")
    with pytest.raises(OSError, match="own") as caught:
        load_served("wrong.py")
    assert not hasattr(caught.value, "__notes__")


@pytest.mark.parametrize("named", ["words.py", "words.py:chute", "words"])
def test_where_chutes_own_package_is_installed_the_file_has_to_say_that_it_means_ours(named: str) -> None:
    install("real")
    Path("words.py").write_text(WORDS)
    told = refused(named)
    assert f"chutes is {Path.cwd()}/real/chutes/__init__.py here, {THEIRS}" in told
    assert told.count("write") == 1
    Path("ours.py").write_text(WORDS.replace("from chutes", "from streamapp.chutes"))
    assert load_served("ours.py").app_name == "words"


def test_so_it_is_told_where_chutes_own_package_refuses_the_file() -> None:
    install("real")
    Path("words.py").write_text("from chutes.chute import Chute\nchute = Chute(username='me', name='words')")
    with pytest.raises(AssertionError) as caught:
        load_served("words.py")
    assert THEIRS in caught.value.__notes__[0]


@pytest.mark.parametrize("package", ["chutes", "streamapp.chutes"])
@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("from {}.chute.template.vllm import build_vllm_chute", "streamapp.Upstream("),
        ("import {}.chute.template", "streamapp.Upstream("),
        ("from {}.image.standard.vllm import VLLM", "run_command("),
        ("from {}.chute import Chute, Job", "a long task is a cord"),
        ("from {}.util.auth import sign_request", "what is here: from streamapp.chutes import Chute"),
        ("from {} import deploy", "what is here: from streamapp.chutes import Chute"),
    ],
)
def test_what_ours_has_not_is_told_with_what_to_do_instead(package: str, line: str, said: str) -> None:
    Path("words.py").write_text(line.format(package))
    told = refused("words.py")
    assert told.startswith(("words.py: No module named", "words.py: cannot import name"))
    assert said in told


def test_a_file_that_is_called_chutes_is_told_that_it_finds_itself() -> None:
    Path("chutes.py").write_text(WORDS)
    told = refused("chutes.py")
    assert "No module named 'chutes.chute'" in told
    assert THEIRS in told


SPAWNING = """
import multiprocessing
import sys
from streamapp.chutes.imports import load_served

if __name__ == "__main__":
    module = sys.modules[load_served("words.py").__module__]
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        print(pool.apply_async(module.work, [1]).get(60))
"""


@pytest.mark.long
def test_a_process_that_a_chute_spawns_finds_ours_as_well() -> None:
    Path("words.py").write_text(f"{WORDS}\ndef work(number): return number + 1\n")
    Path("main.py").write_text(SPAWNING)
    ran = subprocess.run([sys.executable, "main.py"], capture_output=True, text=True, check=True, timeout=WAIT_S)
    assert ran.stdout == "2\n"


def test_what_another_package_has_not_is_raised_as_it_is() -> None:
    Path("words.py").write_text("from chutes.chute import Chute\nimport not_installed")
    with pytest.raises(ModuleNotFoundError, match="No module named 'not_installed'"):
        load_served("words.py")
