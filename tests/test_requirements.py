"""What pip is told to install where an app is served."""

from pathlib import Path
from typing import Any

import pytest

from streamapp import __version__
from streamapp.cli.requirements import Project, extras, read_project, server, stages, with_secrets, without_server
from streamapp.errors import InvalidInput


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ([], []),
        ("torch", [["torch"]]),
        ("https://example.org/x.whl", [["https://example.org/x.whl"]]),
        (["torch>=2", "x[a, b]==1 ; python_version<'4'"], [["torch>=2", "x[a, b]==1 ; python_version<'4'"]]),
        ([["torch"], [], ["flash-attn"]], [["torch"], ["flash-attn"]]),
        (
            ["-i 'https://a b'", "--pre", "--find-links", "https://x"],
            [["-i", "https://a b", "--pre", "--find-links", "https://x"]],
        ),
    ],
)
def test_requirements_become_pips_arguments(given: Any, words: list[list[str]]) -> None:
    assert stages(given) == words


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ([["a"], "b"], "both in one"),
        ([None], "expected texts"),
        (["  "], "expected texts"),
        (["a\nb"], "one line each"),
        (["a\rb"], "one line each"),
        *((entry, "a file of this machine's") for entry in ("-r x.txt", "-e .", "--requirement=x", "./mine", "/mine")),
        *((entry, "a file of this machine's") for entry in (".", "..", ".[all]", "-c limits.txt", "-rx.txt")),
        *((entry, "a file of this machine's") for entry in ("file:///x.whl", "x @ file:///x", "dist/x.whl")),
        (["--find-links 'x"], "No closing quotation"),
    ],
)
def test_what_pip_cannot_find_there_is_refused(given: Any, said: str) -> None:
    with pytest.raises(InvalidInput, match=said):
        stages(given)


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("import streamapp", []),
        ("from streamapp.diffusion import Previews", ["diffusion"]),
        ("def f():\n    from streamapp import llm", ["llm"]),
        ("import streamapp.llm, streamapp.diffusion", ["diffusion", "llm"]),
    ],
)
def test_extras_are_those_that_are_imported(source: str, found: list[str], tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text(source)
    assert extras([tmp_path / "app.py"], webrtc=False) == found
    assert extras([tmp_path / "app.py"], webrtc=True) == [*found, "webrtc"]


def test_the_server_is_of_the_version_that_runs_here_unless_another_is_named() -> None:
    assert server([], []) == f"streamapp-server=={__version__}"
    assert server(["streamapp-server"], ["llm"]) == f"streamapp-server[llm]=={__version__}"
    assert server(["Streamapp_Server[tls]>=0.2"], ["llm"]) == "streamapp-server[llm]"
    assert server(["streamapp-server>=0.2"], ["llm"], "a.whl") == "./a.whl[llm]"


def test_who_names_the_server_alone_names_nothing_more() -> None:
    named = ["streamapp-server", "streamapp-server[llm]", "streamapp-server>=1", "streamapp-client", "torch"]
    assert without_server(named) == ["streamapp-server>=1", "streamapp-client", "torch"]


def test_a_secret_is_shown_without_itself() -> None:
    words = ["x @ https://token@example.org", "https://example.org/a@b", "git+ssh://git@example.org/x"]
    assert with_secrets(words) == ["x @ https://...@example.org"]


def test_the_nearest_files_count_up_to_the_top(tmp_path: Path) -> None:
    inner = tmp_path / "top" / "apps"
    inner.mkdir(parents=True)
    (tmp_path / "requirements.txt").touch()
    assert read_project(inner, tmp_path / "top").files == ()
    (tmp_path / "top" / "pyproject.toml").write_text('[project]\ndependencies = ["numpy"]')
    assert read_project(inner, tmp_path / "top").requirements == ("numpy",)
    (inner / "requirements.txt").touch()
    found = read_project(inner, tmp_path / "top")
    assert (found.requirements, found.files) == ((), (inner / "requirements.txt",))


def test_beside_an_app_that_is_not_below_the_top_the_way_up_ends_by_itself(tmp_path: Path) -> None:
    assert read_project(Path("/"), tmp_path) == Project()


def test_lists_that_a_list_names_come_with_it(tmp_path: Path) -> None:
    (tmp_path / "requirements.txt").write_text("# first\n-r more.txt\n--constraint=https://example.org/c.txt\n")
    (tmp_path / "more.txt").write_text("-c requirements.txt\nnumpy # fast\n")
    assert read_project(tmp_path, tmp_path).files == (tmp_path / "requirements.txt", tmp_path / "more.txt")


def test_a_list_of_another_editors_that_leads_around_is_read_once(tmp_path: Path) -> None:
    (tmp_path / "more").mkdir()
    (tmp_path / "requirements.txt").write_text('-r "more/the list.txt"\r\n', "utf-8-sig")
    (tmp_path / "more" / "the list.txt").write_text("-r ../requirements.txt\n")
    assert read_project(tmp_path, tmp_path).files == (tmp_path / "requirements.txt", tmp_path / "more" / "the list.txt")


@pytest.mark.parametrize(
    ("file", "text", "said"),
    [
        ("requirements.txt", "-e .\n", "a file of this machine's"),
        ("requirements.txt", "./mine # of ours\n", "a file of this machine's"),
        ("pyproject.toml", "[project]\ndynamic = ['dependencies']", "its dependencies are dynamic"),
        ("pyproject.toml", "[project", "Expected"),
        ("pyproject.toml", "project = 3", "is not written as packages write it"),
        ("pyproject.toml", "[project]\ndynamic = 3", "is not written as packages write it"),
        ("requirements.txt", "-r nowhere.txt", "nowhere.txt: No such file"),
        ("requirements.txt", "numpy\udce4", "is not written in UTF-8"),
    ],
)
def test_what_cannot_be_carried_over_is_refused(file: str, text: str, said: str, tmp_path: Path) -> None:
    (tmp_path / file).write_text(text, errors="surrogateescape")
    with pytest.raises(InvalidInput, match=said):
        read_project(tmp_path, tmp_path)


def test_what_is_no_project_and_this_servers_own_say_nothing(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text("[tool.streamapp]\napps = []")
    assert read_project(tmp_path, tmp_path).requirements == ()
    (tmp_path / "pyproject.toml").write_text('[project]\nname = "streamapp-server"\ndependencies = ["numpy"]')
    assert read_project(tmp_path, tmp_path).requirements == ()
