"""What the pages of the documentation show runs as it stands, and what they name is there."""

import importlib.util
import os
import re
import shutil
import subprocess
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.chromium import CHROMIUM
from tests.documentation.assemble import CONFIGURATION, ELSEWHERE, links_of
from tests.documentation.blocks import blocks_of
from tests.documentation.pages import NPM, ROOT, SDK, VENVS, needs_of, run_page, syntax_errors
from tests.documentation.reference import with_tables
from tests.fal_packages import needs
from tests.waiting import LONG_S

from streamapp import App
from streamapp.settings import Settings

DOCS = ROOT / "docs"
#: drawings and formats, whose blocks nobody runs; the first lists peers' pages
OTHERS = {"playground.md", "architecture.md", "decisions/README.md", "reference/cli.md"}
PAGES = sorted(str(path.relative_to(DOCS)) for path in DOCS.rglob("*.md"))
RUN = ["../README.md", *(page for page in PAGES if page not in OTHERS and blocks_of((DOCS / page).read_text()))]

pytestmark = [pytest.mark.timeout(LONG_S), pytest.mark.whole]
HERE = {
    "torch": importlib.util.find_spec("torch") is not None,
    "node": (SDK / "node_modules" / ".bin" / "esbuild").exists() and shutil.which("node") is not None,
    "chromium": CHROMIUM is not None,
    "npm": (NPM / "@fal-ai").is_dir(),
    "fal": (VENVS / "fal" / "bin" / "python").exists(),
    "runpod": (VENVS / "runpod" / "bin" / "python").exists(),
}


@pytest.mark.parametrize(
    "page",
    [
        pytest.param(page, marks=[needs(HERE[one], f"{one} is missing") for one in needs_of((DOCS / page).read_text())])
        for page in RUN
    ],
)
def test_a_page_runs_as_it_stands(page: str, tmp_path: Path) -> None:
    run_page((DOCS / page).resolve(), tmp_path)


@pytest.mark.parametrize("page", RUN)
def test_what_is_not_run_is_python_at_least(page: str) -> None:
    assert syntax_errors((DOCS / page).read_text()) == []


@pytest.mark.parametrize("page", PAGES)
def test_the_tables_of_a_page_are_what_the_code_has(page: str) -> None:
    """Else `make reference` writes them anew."""
    text = (DOCS / page).read_text()
    assert with_tables(text) == text


def test_each_setting_and_each_class_option_is_told() -> None:
    assert [name for name, field in Settings.model_fields.items() if not field.description] == []
    options = (DOCS / "reference" / "app.md").read_text()
    named = [name for name, kind in App.__annotations__.items() if "ClassVar" in str(kind)]
    assert [name for name in named if f"`{name} = " not in options] == []


def test_the_sites_contents_name_each_page_once() -> None:
    contents = tomllib.loads((ROOT / CONFIGURATION).read_text())["project"]["nav"]
    assert sorted(_places(contents)) == sorted([*PAGES, *ELSEWHERE.values()])


def _places(contents: list[dict[str, Any]]) -> Iterator[str]:
    for entry in contents:
        for value in entry.values():
            yield from [value] if isinstance(value, str) else _places(value)


LISTED = subprocess.run(["git", "ls-files", "-z", "*.md"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
MARKDOWN = [path for path in LISTED.split("\0") if path and (ROOT / path).is_file()]


@pytest.mark.parametrize("path", MARKDOWN)
def test_every_link_of_a_page_leads_somewhere(path: str) -> None:
    folder = (ROOT / path).parent
    assert [link for link in links_of((ROOT / path).read_text()) if not (folder / link).exists()] == []


@pytest.mark.parametrize("path", MARKDOWN)
def test_every_link_into_a_page_leads_to_a_heading(path: str) -> None:
    text = re.sub(r"(^ *```.*?^ *```$)", "", (ROOT / path).read_text(), flags=re.MULTILINE | re.DOTALL)
    links = re.findall(r"\]\((?!\w+:)([^)#\s]*)#([^)\s]+)\)", text)
    pages = [(os.path.normpath((ROOT / path).parent / link) if link else ROOT / path, anchor) for link, anchor in links]
    assert [anchor for page, anchor in pages if str(page).endswith(".md") and anchor not in _anchors(Path(page))] == []


def _anchors(page: Path) -> set[str]:
    """Return the headings of a page as links name them, on a forge and on the site."""
    headings = re.findall(r"^#+ +(.+)$", re.sub(r"^ *```.*?^ *```$", "", page.read_text(), flags=re.M | re.S), re.M)
    words = [re.sub(r"[^\w\s-]", "", re.sub(r"\[(.*?)\]\(.*?\)|`", r"\1", heading)).strip() for heading in headings]
    return {re.sub(r"\s", "-", heading.lower()) for heading in words}
