"""The folder that a new app starts from works as it is."""

import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from tests.dockerfiles import carry_out, lint, needs_linters
from tests.waiting import WAIT_S

from streamapp import __version__
from streamapp.cli.dockerfile import dockerfile
from streamapp.cli.image import image_of
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


def test_its_examples_can_be_run(tmp_path: Path) -> None:
    folder = write_app("my-app", tmp_path)
    with TestClient(load_app(f"{folder}/app.py:MyApp")) as client:
        examples = client.get("/openapi.json").json()["components"]["schemas"]["PictureInput"]["examples"]
        assert len(examples) > 1
        for example in examples:
            *_, last = client.stream("/stream", {**example, "steps": 1})
            assert last.name == "output"


def test_its_own_test_passes(tmp_path: Path) -> None:
    folder = write_app("my-app", tmp_path)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
    assert subprocess.run(command, cwd=folder, timeout=WAIT_S, check=False).returncode == 0


def test_its_dockerfile_is_the_one_that_would_be_written_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write_app("my-app", tmp_path)
    monkeypatch.chdir(folder)
    described = image_of([], ["app.py:MyApp"], [load_app("app.py:MyApp")], folder)
    assert (folder / "Dockerfile").read_text() == dockerfile(described)


@needs_linters
def test_its_dockerfile_serves_it_without_what_git_and_docker_leave_out(tmp_path: Path) -> None:
    folder = write_app("my-app", tmp_path)
    written = (folder / "Dockerfile").read_text()
    assert lint(written) == ""
    assert carry_out(written, folder, tmp_path / "image").installed == [[f"streamapp-server=={__version__}"]]
    for file in (".dockerignore", ".gitignore"):
        assert {".env", ".venv"} <= {line.strip("/") for line in (folder / file).read_text().splitlines()}


def test_each_command_of_its_readme_is_there(tmp_path: Path) -> None:
    readme = (write_app("my-app", tmp_path) / "README.md").read_text()
    commands = [line for block in re.findall(r"```sh\n(.*?)```", readme, re.DOTALL) for line in block.splitlines()]
    ours = [line.split()[1] for line in commands if line.startswith("streamapp ")]
    assert ours == ["serve", "call", "run", "image"]
    others = [line.partition(" ")[0] for line in commands if not line.startswith("streamapp ")]
    assert others == ["pip", "python", "docker", "docker"]


def test_installing_it_brings_the_server_and_lays_no_module_beside_those_of_others(tmp_path: Path) -> None:
    folder = write_app("my-app", tmp_path)
    command = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "--no-deps",
        "--no-build-isolation",
        f"--wheel-dir={tmp_path}",
        str(folder),
    ]
    subprocess.run(command, capture_output=True, timeout=WAIT_S, check=True)
    with zipfile.ZipFile(tmp_path / "my_app-0.1.0-py3-none-any.whl") as wheel:
        assert {Path(name).parts[0] for name in wheel.namelist()} == {"my_app-0.1.0.dist-info"}
        assert b"\nRequires-Dist: streamapp-server\n" in wheel.read("my_app-0.1.0.dist-info/METADATA")


@pytest.mark.long
@pytest.mark.parametrize("name", ["test--client", "picture-input", "a--b_1"])
def test_whatever_its_name_its_own_test_passes(tmp_path: Path, name: str) -> None:
    folder = write_app(name, tmp_path)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
    assert subprocess.run(command, cwd=folder, timeout=WAIT_S, check=False).returncode == 0


@pytest.mark.parametrize(
    "name", ["json", "test", "streamapp", "streamapp-client", "pillow", "torch", "numpy", "__future__"]
)
def test_a_name_that_is_a_packages_is_refused(tmp_path: Path, name: str) -> None:
    """Installed, `json` would be found by nobody, and `torch` would take the place of torch."""
    with pytest.raises(InvalidInput, match="is a package's name|small letters"):
        write_app(name, tmp_path)
    assert not (tmp_path / name).exists()


@pytest.mark.parametrize("name", ["", "My-App", "1st", "a b", "../up", "a/b", "my-", "my_", "ünï", ".", "a" * 65])
def test_a_name_that_cannot_be_one_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(InvalidInput, match="Expected a name of small letters"):
        write_app(name, tmp_path)


def test_an_app_that_was_installed_can_be_written_anew(tmp_path: Path) -> None:
    installed = tmp_path / "my_app-0.1.0.dist-info"
    installed.mkdir()
    (installed / "METADATA").write_text("Name: my-app\nVersion: 0.1.0\n")
    (installed / "RECORD").write_text("my_app-0.1.0.dist-info/METADATA,,\nmy_app-0.1.0.dist-info/RECORD,,\n")
    sys.path.append(str(tmp_path))
    assert write_app("my-app", tmp_path).is_dir()


def test_a_folder_that_is_there_is_refused(tmp_path: Path) -> None:
    write_app("twice", tmp_path)
    with pytest.raises(InvalidInput, match="is there already"):
        write_app("twice", tmp_path)
