"""The ids of jobs, in the forms in which Runpod's clients and handlers have them."""

import pytest

from streamapp.errors import JobNotFound
from streamapp.jobs.job import Job, JobRequest
from streamapp.runpod.ids import read_id, shown_id, told_id
from streamapp.settings import Settings

ID = "0123456789ab4def8123456789abcdef"
SHOWN = "01234567-89ab-4def-8123-456789abcdef-u1"


@pytest.mark.parametrize(
    "shown",
    [SHOWN, SHOWN.upper(), SHOWN[:-3], ID, ID.upper(), f"{ID}-e1", f"sync-{SHOWN}", f"SYNC-{ID}", SHOWN[:-2] + "eu2"],
)
def test_an_id_is_read_in_any_form(shown: str) -> None:
    assert read_id(shown) == (ID, shown.lower().startswith("sync-"))


@pytest.mark.parametrize("shown", ["", "x", ID[1:], ID + "0", f"a-{ID}", f"{SHOWN}-u1", "sync-", "g" * 32, f"{ID}\n"])
def test_what_is_no_id_is_not_found(shown: str) -> None:
    with pytest.raises(JobNotFound, match="expected an id as /run and /runsync answer it"):
        read_id(shown)


def test_an_id_is_shown_as_runpod_does() -> None:
    assert [shown_id(ID), shown_id(ID, is_sync=True)] == [SHOWN, f"sync-{SHOWN}"]


@pytest.mark.parametrize(("operation", "told"), [("", ID), ("run", SHOWN), ("runsync", f"sync-{SHOWN}")])
def test_it_is_told_as_the_jobs_caller_has_it(operation: str, told: str) -> None:
    assert told_id(Job(JobRequest(id=ID, app="a", endpoint="/stream", operation=operation), Settings())) == told
