"""The page that holds the playground beside fal's, Replicate's and Gradio's: what it says is shown, is shown."""

import re
from pathlib import Path

ROOT = Path(__file__).parent.parent
ROWS = [line for line in (ROOT / "docs" / "playground.md").read_text().splitlines() if line.startswith("| ")]


def test_each_test_that_shows_an_item_exists() -> None:
    named = {name for row in ROWS for name in re.findall(r"`(test_\w+)`", row)}
    written = "".join(path.read_text() for path in Path(__file__).parent.glob("test_*.py"))
    assert named
    assert {name for name in named if f"def {name}(" not in written} == set()


def test_each_item_says_what_each_of_the_pages_shows() -> None:
    items = [[cell.strip() for cell in row.split("|")[1:-1]] for row in ROWS if "**" not in row]
    assert [cells for cells in items if len(cells) != 5 or "" in cells] == []
