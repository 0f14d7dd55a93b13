"""What the pages of the documentation show runs as it stands, and what they name is there."""

import os
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.documentation.assemble import CONFIGURATION, ELSEWHERE, links_of
from tests.documentation.cases import MARKDOWN, RUN, pages
from tests.documentation.messages import unsaid
from tests.documentation.pages import run_page, syntax_errors
from tests.documentation.reference import with_tables
from tests.documentation.shell import ROOT
from tests.waiting import LONG_S

from streamapp import App
from streamapp.settings import Settings

DOCS = ROOT / "docs"
PAGES = sorted(str(path.relative_to(DOCS)) for path in DOCS.rglob("*.md"))

pytestmark = [pytest.mark.timeout(LONG_S), pytest.mark.whole]


@pages(are_guides=False)
def test_a_page_runs_as_it_stands(page: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    """The guides are `tests/test_docs_guides.py`."""
    run_page(ROOT / page, tmp_path, lambda: request.getfixturevalue("browser"))


@pytest.mark.parametrize(
    ("page", "error"),
    [
        ("```python\nprint(1)\n```\n\n```text\n2\n```", "expected\n2"),
        ("```sh\nfalse\ntrue\n```", "exit code 1"),
        ("```sh\nexit\n```", "it exits"),
        ("```yaml\na: 1\n```", "nothing says what this block of 'yaml' is"),
        ("<!-- run: continued -->\nWords.\n```sh\ntrue\n```", "no block is right behind this comment"),
        ("<!-- sets: true -->\n```sh\ntrue\n```", "a comment says one of"),
        ("<!-- setup: false -->\n", "exit code 1"),
        ('```text title="../a.txt"\na\n```', "../a.txt leads out of the folder"),
    ],
)
def test_a_page_that_does_not_hold_is_told_with_its_line(page: str, error: str, tmp_path: Path) -> None:
    path = tmp_path / "page.md"
    path.write_text(page)
    with pytest.raises(AssertionError, match=rf"page.md:\d: {error}"):
        run_page(path, tmp_path, lambda: pytest.fail("no browser is needed"))


def test_folder_and_variables_hold_for_the_next_block(tmp_path: Path) -> None:
    path = tmp_path / "page.md"
    path.write_text(
        "```sh\nmkdir a\ncd a\nexport B='1\n2'\n```\n```sh\npwd\necho \"$B\"\n```\n```text\n.../a\n1\n2\n```"
    )
    run_page(path, tmp_path, lambda: pytest.fail("no browser is needed"))


def test_a_file_whose_title_is_absolute_is_in_the_folder(tmp_path: Path) -> None:
    path = tmp_path / "page.md"
    path.write_text('```ini title="/etc/streamapp/a.ini"\na = 1\n```')
    run_page(path, tmp_path, lambda: pytest.fail("no browser is needed"))
    assert (tmp_path / "etc" / "streamapp" / "a.ini").read_text() == "a = 1\n"


@pytest.mark.parametrize("page", RUN)
def test_what_is_not_run_is_python_at_least(page: str) -> None:
    assert syntax_errors((ROOT / page).read_text()) == []


def test_what_a_page_quotes_has_to_stand_in_the_source() -> None:
    source = 'log("%s of %d connections", name, n); raise ValueError(f"the queue of {name} is full: " f"{n} wait")'
    quoted = "12:00:00 INFO app of 3 connections\n...the queue of app is full: 4 wait\nthe queue of app is empty\n"
    assert unsaid(quoted, source) == ["the queue of app is empty"]


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
