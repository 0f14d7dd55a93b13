"""What the guides show runs as it stands."""

from pathlib import Path

import pytest
from tests.documentation.cases import pages
from tests.documentation.pages import run_page
from tests.documentation.shell import ROOT
from tests.waiting import LONG_S

pytestmark = [pytest.mark.timeout(LONG_S), pytest.mark.whole]


@pages(are_guides=True)
def test_a_guide_runs_as_it_stands(page: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    run_page(ROOT / page, tmp_path, lambda: request.getfixturevalue("browser"))
