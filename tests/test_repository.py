"""What the repository's own texts promise: the README's app runs, the Dockerfile's paths and commands exist."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
from tests.waiting import WAIT_S

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
DOCKERFILE = (ROOT / "Dockerfile").read_text()
MAKEFILE = (ROOT / "Makefile").read_text()


def targets() -> set[str]:
    return set(re.findall(r"^([a-z-]+):", MAKEFILE, re.MULTILINE))


def copied() -> list[str]:
    lines = re.findall(r"^COPY (?!--from)(.+)$", DOCKERFILE, re.MULTILINE)
    return [source for line in lines for source in line.split()[:-1]]


@pytest.mark.parametrize("source", copied())
def test_every_path_that_the_dockerfile_copies_exists(source: str) -> None:
    assert (ROOT / source).exists()


@pytest.mark.parametrize(
    "text", [README, DOCKERFILE, (ROOT / ".ci" / "run").read_text()], ids=["README", "Docker", "CI"]
)
def test_every_make_target_that_is_named_exists(text: str) -> None:
    named = set(re.findall(r"\bmake ([a-z][a-z-]+)", text))
    assert named
    assert named <= targets()


@pytest.mark.parametrize("path", re.findall(r"\]\(([^)#]+)\)", README))
def test_every_file_that_the_readme_links_to_exists(path: str) -> None:
    assert (ROOT / path).exists()


PAGES = ("docs/architecture.md", "docs/decisions/README.md", "CONTRIBUTING.md")
SOURCE = ROOT / "src" / "streamapp"


@pytest.mark.parametrize("page", PAGES)
def test_what_the_pages_for_contributors_name_exists(page: str) -> None:
    """Files and rooms of the source as `jobs/channel`, tests as `tests/test_channel.py`, links, targets of make."""
    text = (ROOT / page).read_text()
    places = re.findall(r"`((?:process|jobs|stores|workers|http|fal|serve|testing|cli)/[a-z_]+)/?`", text)
    assert [p for p in places if not ((SOURCE / f"{p}.py").exists() or (SOURCE / p).is_dir())] == []
    assert [p for p in re.findall(r"`(tests/[\w/.]+)`", text) if not (ROOT / p).exists()] == []
    links = [link for link in re.findall(r"\]\(([^)#]+)\)", text) if "://" not in link]
    assert [link for link in links if not ((ROOT / page).parent / link).exists()] == []
    assert set(re.findall(r"\bmake ([a-z][a-z-]+)`", text)) <= targets()


def test_the_tree_of_the_architecture_page_has_every_file() -> None:
    tree = (ROOT / PAGES[0]).read_text().rpartition("src/streamapp/\n")[2]
    files = {path.name for path in SOURCE.rglob("*.py") if not {"toolkit", "shims", "playground"} & {*path.parts}}
    assert {name for name in files if name not in tree} == set()


def test_the_readmes_app_runs_as_the_readme_says(tmp_path: Path) -> None:
    code = re.search(r"## An app\n.*?```python\n(.*?)```", README, re.DOTALL)
    assert code is not None
    (tmp_path / "counter.py").write_text(code[1])
    command = [sys.executable, "-m", "streamapp", "run", "counter.py:Counter", "/stream", "steps=2"]
    run = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=WAIT_S, check=False)
    assert run.returncode == 0, run.stderr
    assert '"count": 2' in run.stdout


def test_the_readme_has_no_placeholder_left() -> None:
    assert not re.search(r"@[A-Z]+@", README)


def test_both_packages_tell_type_checkers_that_they_are_typed() -> None:
    for package in ("src/streamapp", "client_sdk/python/src/streamapp_client"):
        assert (ROOT / package / "py.typed").is_file()


def test_the_versions_agree() -> None:
    versions = {
        re.search(r'^version = "(.+)"$', (ROOT / path).read_text(), re.MULTILINE)[1]  # type: ignore[index]
        for path in ("pyproject.toml", "client_sdk/python/pyproject.toml")
    }
    versions.add(re.search(r'__version__ = "(.+)"', (ROOT / "src/streamapp/__init__.py").read_text())[1])  # type: ignore[index]
    assert len(versions) == 1
