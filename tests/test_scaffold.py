"""The folder that a new app starts from works as it is."""

import subprocess
import sys
from pathlib import Path

import pytest
from tests.waiting import WAIT_S

from streamapp.cli.scaffold import write_app
from streamapp.errors import InvalidInput
from streamapp.loading import load_app
from streamapp.testing import TestClient


@pytest.fixture(autouse=True)
def keep_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", sys.path[:])


def test_the_app_draws_a_picture_with_previews(tmp_path: Path) -> None:
    folder = write_app("my-app", tmp_path)
    with TestClient(load_app(f"{folder}/app.py:MyApp")) as client:
        *previews, output = client.stream("/stream", {"steps": 5})
    assert {event.name for event in previews} == {"preview"}
    assert previews[-1].image().size == output.image().size == (32, 32)


def test_its_own_test_passes(tmp_path: Path) -> None:
    folder = write_app("my-app", tmp_path)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
    assert subprocess.run(command, cwd=folder, timeout=WAIT_S, check=False).returncode == 0


@pytest.mark.parametrize("name", ["", "My-App", "1st", "a b", "../up", "a/b"])
def test_a_name_that_cannot_be_one_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(InvalidInput, match="Expected a name of small letters"):
        write_app(name, tmp_path)


def test_a_folder_that_is_there_is_refused(tmp_path: Path) -> None:
    write_app("twice", tmp_path)
    with pytest.raises(InvalidInput, match="is there already"):
        write_app("twice", tmp_path)
