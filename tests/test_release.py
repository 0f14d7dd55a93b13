"""What publishes a version: the notes of it, and whose code the workflows run."""

import re
import runpy

import pytest
from tests.repository import ROOT

notes = runpy.run_path(str(ROOT / ".ci" / "notes"))["notes"]
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
CHANGELOG = """# Changelog

## Unreleased

### Added

- What is to come.

## 1.10.0 - 2026-11-28

### Fixed

- One thing.

## 1.1.0 - 2026-10-28

- Another.
"""


def test_the_notes_of_a_version_are_its_section_of_the_changelog() -> None:
    assert notes("v1.10.0", "1.10.0", CHANGELOG) == "### Fixed\n\n- One thing.\n"
    assert notes("v1.1.0", "1.1.0", CHANGELOG) == "- Another.\n"


@pytest.mark.parametrize("tag", ["v1.1.0", "1.10.0", "v1.10"])
def test_a_tag_that_is_not_the_version_of_the_sources_publishes_nothing(tag: str) -> None:
    with pytest.raises(ValueError, match="tag v1.10.0"):
        notes(tag, "1.10.0", CHANGELOG)


@pytest.mark.parametrize(
    "changelog",
    [CHANGELOG.replace("1.10.0", "1.9.0"), CHANGELOG.replace(" - 2026-11-28", ""), "## 1.10.0 - 2026-11-28\n\n## 1\n"],
    ids=["missing", "no date", "empty"],
)
def test_a_version_of_which_the_changelog_says_nothing_is_not_published(changelog: str) -> None:
    with pytest.raises(ValueError, match="write what is new below '## 1.10.0 - YYYY-MM-DD'"):
        notes("v1.10.0", "1.10.0", changelog)


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=lambda path: path.stem)
def test_a_workflow_runs_others_code_by_its_commit_and_says_which_version_that_is(workflow: object) -> None:
    """A tag can be moved to another commit by whoever gets at that repository."""
    used = re.findall(r"uses: *(.+)", workflow.read_text())  # type: ignore[attr-defined]
    assert used
    assert [
        action for action in used if not re.fullmatch(r"[\w.-]+/[\w.-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+", action)
    ] == []
