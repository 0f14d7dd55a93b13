"""The tables of `apps/README.md`: what the four documents show and where it is here, and which mistakes of theirs are
not made again. Each row names the tests that show it, which are there.
"""

import ast
import re
from functools import lru_cache
from pathlib import Path

APPS = Path(__file__).parent.parent / "apps"
README = (APPS / "README.md").read_text()
ROWS = re.findall(r"^\| ([RFCG]-?\w+) \| (.+) \| (.+) \| (.+) \|$", README, re.MULTILINE)
#: of each document: how many things it shows, and the last letter of its mistakes
DOCUMENTS = {"R": (22, "i"), "F": (19, "h"), "C": (19, "f"), "G": (24, "o")}
NAMED = re.compile(r"\[`(\w+)`\]\(\.\./tests/(\w+)\.py\)((?:,? `\w+`)+)")


@lru_cache
def defined_in(file: str) -> set[str]:
    """Return the names of a test file's tests, without what all begin with."""
    tree = ast.parse((APPS.parent / "tests" / f"{file}.py").read_text())
    functions = (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))
    return {function.name.removeprefix("test_") for function in functions if function.name.startswith("test_")}


def named(cell: str) -> list[tuple[str, str]]:
    """Return the files and tests that a cell names."""
    return [(file, name) for _, file, names in NAMED.findall(cell) for name in re.findall(r"`(\w+)`", names)]


def test_everything_that_the_documents_show_and_each_of_their_mistakes_has_one_row() -> None:
    shown = [f"{document}{number}" for document, (most, _) in DOCUMENTS.items() for number in range(1, most + 1)]
    mistakes = [
        f"{document}-{chr(letter)}"
        for document, (_, last) in DOCUMENTS.items()
        for letter in range(ord("a"), ord(last) + 1)
    ]
    assert [code for code, *_ in ROWS] == shown + mistakes


def test_every_row_names_a_test() -> None:
    assert [code for code, _, _, cell in ROWS if not named(cell)] == []


def test_every_test_that_a_row_names_is_there() -> None:
    assert [
        (code, *each) for code, _, _, cell in ROWS for each in named(cell) if each[1] not in defined_in(each[0])
    ] == []


def test_a_row_names_nothing_else_than_tests() -> None:
    """What is misspelt in such a cell would else not be looked at."""
    assert [code for code, _, _, cell in ROWS if NAMED.sub("", cell).strip(" ;")] == []


def test_what_is_left_for_later_is_said_to_be_open() -> None:
    assert [code for code, _, here, _ in ROWS if "**Open: " in here] == ["F18", "G24"]


def test_every_file_that_the_page_links_to_exists() -> None:
    links = [link for link in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", README) if "://" not in link]
    assert [link for link in links if not (APPS / link).exists()] == []
