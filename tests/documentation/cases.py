"""The Markdown files of the repository, and those whose blocks are run, as parameters of tests."""

import importlib.util
import shutil

import pytest
from tests.chromium import CHROMIUM
from tests.documentation.blocks import blocks_of
from tests.documentation.browser import NPM, SDK
from tests.documentation.pages import needs_of
from tests.documentation.shell import ROOT, VENVS
from tests.fal_packages import needs
from tests.repository import listed

MARKDOWN = listed("*.md")
#: drawings and formats, whose blocks nobody runs; peers' pages; generated; somebody else's
OTHERS = {
    *("docs/architecture.md", "docs/decisions/README.md", "docs/playground.md", "docs/reference/cli.md"),
    "tests/apps/runpod_tutorial/page.md",
}
#: files of other programs, and commands of other machines: tests/test_deploy.py hands each to who takes it
_DEPLOYED = "docs/deploy/"
_OURS = [path for path in MARKDOWN if path not in OTHERS and not path.startswith(_DEPLOYED)]
RUN = [path for path in _OURS if blocks_of((ROOT / path).read_text())]
_HERE = {
    "torch": importlib.util.find_spec("torch") is not None,
    "node": (SDK / "node_modules" / ".bin" / "esbuild").exists() and shutil.which("node") is not None,
    "chromium": CHROMIUM is not None,
    "npm": (NPM / "@fal-ai").is_dir(),
    "fal": (VENVS / "fal" / "bin" / "python").exists(),
    "runpod": (VENVS / "runpod" / "bin" / "python").exists(),
}


def pages(*, are_guides: bool) -> pytest.MarkDecorator:
    """Parametrize a test by `page`, a path in the repository: the guides, or all that are none.

    The two take as long as each other, in test files of their own, so that they run at a time.
    """
    found = [path for path in RUN if path.startswith("docs/guides/") == are_guides]
    return pytest.mark.parametrize("page", [pytest.param(path, marks=_marks(path)) for path in found])


def _marks(path: str) -> list[pytest.MarkDecorator]:
    return [needs(_HERE[need], f"{need} is missing") for need in needs_of((ROOT / path).read_text())]
