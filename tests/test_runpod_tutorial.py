"""Runpod's tutorial, to the letter: its client's script with its two constants and the host changed, and its handler.

Its loop leaves out what comes together with COMPLETED: it gets all chunks only because none does.
"""

import json
import re
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from tests.fal_packages import environment
from tests.runpod_packages import APPS, KEY, PYTHON, SECRET, TESTS, needs_runpod, serving, working
from tests.waiting import WAIT_S

pytestmark = needs_runpod

TUTORIAL = TESTS.parent / "apps" / "image_chunks" / "tutorial" / "handler.py"
SCRIPT = APPS / "runpod_tutorial" / "client.py"


def run_script(url: str, endpoint_id: str, folder: Path, *, key: str = KEY) -> str:
    """Run the tutorial's step 6; return what it prints."""
    script = SCRIPT.read_text()
    for old, new in (
        ("https://api.runpod.ai", url),
        ("YOUR_RUNPOD_API_KEY", key),
        ("YOUR_ENDPOINT_ID", endpoint_id),
    ):
        assert old in script
        script = script.replace(old, new)
    folder.mkdir()
    (folder / "test_endpoint.py").write_text(script)
    command = [str(PYTHON), "test_endpoint.py"]
    ended = subprocess.run(
        command, cwd=folder, env=environment(), capture_output=True, text=True, timeout=WAIT_S, check=True
    )
    return ended.stdout


def received(printed: str) -> list[Any]:
    """Return the items that the script prints."""
    return [
        json.loads(item)["output"] for item in re.findall(r"^Received: (.*?^\})", printed, re.MULTILINE | re.DOTALL)
    ]


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    """Serve the tutorial's handler by an interpreter that has the real package, beside an endpoint for a worker."""
    with (
        serving(TUTORIAL, "--runpod", "external", python=PYTHON, STREAMAPP_WORKER_SECRET=SECRET) as (url, _),
        working(TUTORIAL, url, "external"),
    ):
        yield url


@pytest.fixture(scope="module")
def printed(url: str, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What the script prints for each of the endpoints, at the same time."""
    folder = tmp_path_factory.mktemp("tutorial")
    ids = ("tutorial", "external")
    with ThreadPoolExecutor() as pool:
        return dict(zip(ids, pool.map(lambda name: run_script(url, name, folder / name), ids), strict=True))


@pytest.mark.parametrize("endpoint_id", ["tutorial", "external"])
def test_the_script_gets_every_chunk(printed: dict[str, str], endpoint_id: str) -> None:
    started, *chunks, completed = received(printed[endpoint_id])
    assert started == {"status": "started", "image_info": {"format": "PNG", "size": [100, 100], "mode": "RGB"}}
    assert [chunk["chunk_number"] for chunk in chunks] == list(range(1, completed["total_chunks_processed"] + 1))
    assert completed["status"] == "completed"
    assert [chunk["progress"] for chunk in chunks][-1] == f"{len(chunks)}/{len(chunks)}"


@pytest.mark.parametrize("endpoint_id", ["tutorial", "external"])
def test_the_script_ends_when_the_job_does(printed: dict[str, str], endpoint_id: str) -> None:
    assert printed[endpoint_id].endswith("\nJob completed!\n")
    assert "error" not in printed[endpoint_id].lower()


def test_the_script_says_that_a_key_is_wrong(url: str, tmp_path: Path) -> None:
    assert "Please check your API key" in run_script(url, "tutorial", tmp_path / "wrong", key="another")
