"""What docs/guides/notebooks.md shows: its script, and its cells in a kernel of Jupyter's."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from tests.documentation.blocks import blocks_of
from tests.fal_packages import needs
from tests.waiting import LONG_S

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs" / "guides" / "notebooks.md").read_text()
JUPYTER = ROOT / "tests" / ".venvs" / "notebook" / "bin" / "python"
RUN_CELLS = """
import json, sys
import nbclient, nbformat
book = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in json.load(sys.stdin)])
nbclient.NotebookClient(book, kernel_name="python3", timeout=600).execute()
print(json.dumps([cell.outputs for cell in book.cells]))
"""
AGAIN = """
import streamapp

class Circles(streamapp.App):
    @streamapp.endpoint("/say")
    def say(self):
        return "anew"

again = Circles.serve(port=int(server.url.rpartition(":")[2]))
"""

needs_jupyter = needs(JUPYTER.exists(), "Jupyter's kernel is missing; run `make test`")
pytestmark = pytest.mark.timeout(LONG_S)


def block(title: str | None = None) -> str:
    """Return what the page has in a block: a file, or, without a title, the one that is run."""
    (found,) = (each.text for each in blocks_of(PAGE) if each.language == "python" and each.title == title)
    return found


CIRCLES = block("circles.py")
CELLS = re.split(r"^(?=# %%)", block("circles_notebook.py"), flags=re.MULTILINE)[1:]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "circles.py").write_text(CIRCLES)
    return tmp_path


def run(python: Path | str, code: str, folder: Path, given: str = "") -> str:
    path = os.pathsep.join(map(str, (folder, ROOT / "src", ROOT / "client_sdk" / "python" / "src")))
    ran = subprocess.run(
        [python, "-c", code],
        input=given,
        capture_output=True,
        text=True,
        cwd=folder,
        env={**os.environ, "PYTHONPATH": path, "IPYTHONDIR": str(folder)},
        timeout=LONG_S,
    )
    assert ran.returncode == 0, ran.stderr
    return ran.stdout


def cells(folder: Path, *sources: str) -> list[list[dict[str, Any]]]:
    """Run cells one after another in a kernel; return the outputs of each."""
    outputs: list[list[dict[str, Any]]] = json.loads(run(JUPYTER, RUN_CELLS, folder, json.dumps(sources)))
    return outputs


def test_a_script_that_goes_on_calls_itself(folder: Path) -> None:
    printed = run(sys.executable, block(), folder)
    assert re.match(r"http://127.0.0.1:\d+ \['p.*, 'output'\]$", printed)


@needs_jupyter
def test_a_notebook_serves_shows_what_is_being_made_and_stops(folder: Path) -> None:
    served, shown, awaited, stopped = cells(folder, *CELLS)
    assert re.fullmatch(r"<Serving circles at http://127.0.0.1:\d+: ready>", served[-1]["data"]["text/plain"])
    assert [(each["output_type"], "image/png" in each["data"]) for each in shown] == [("display_data", True)]
    assert "".join(each["text"] for each in awaited).endswith("3 of 3\n")
    assert stopped[-1]["data"]["text/plain"].endswith(": stopped>")


@pytest.mark.long
@needs_jupyter
def test_a_cell_that_is_run_again_serves_the_new_class_in_the_old_ones_place(folder: Path) -> None:
    ask = 'from streamapp_client import Client; Client(again.url).run("/say"), again.url == server.url, server.state'
    *_, told = cells(folder, CELLS[0], AGAIN, ask)
    assert told[-1]["data"]["text/plain"] == "('anew', True, 'stopped')"
