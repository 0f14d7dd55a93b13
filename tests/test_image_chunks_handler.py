"""The handler beside the app that enhances images: its work under the real package; its container, without an engine.

The tutorial's own handler and container stand beside ours, and are compared with its page.
"""

import ast
import base64
import json
import re
import shlex
import subprocess
import sys
import tomllib
from io import BytesIO
from pathlib import Path
from typing import Any

import PIL.Image
import pytest
from tests.enhancing import are_same, enhanced, picture, saved
from tests.runpod_packages import PYTHON as RUNPOD
from tests.runpod_packages import needs_runpod
from tests.waiting import WAIT_S

ROOT = Path(__file__).parent.parent
FOLDER = ROOT / "apps" / "image_chunks"
TUTORIAL = FOLDER / "tutorial"
PAGE = (ROOT / "tests" / "apps" / "runpod_tutorial" / "page.md").read_text()

DRIVER = """
import json, sys, runpod
runpod.serverless.start = lambda config: handlers.append(config)
handlers = []
import handler
(config,) = handlers
print("--- answers")
print(json.dumps([list(config["handler"](job)) for job in json.load(sys.stdin)]))
"""


def handle(*inputs: Any) -> list[list[dict[str, Any]]]:
    """Return what our handler yields for each input."""
    jobs = json.dumps([{"id": str(number), "input": each} for number, each in enumerate(inputs)])
    command = [str(RUNPOD), "-c", DRIVER]
    done = subprocess.run(command, cwd=FOLDER, input=jobs, capture_output=True, text=True, timeout=WAIT_S, check=False)
    assert done.returncode == 0, done.stderr
    answers: list[list[dict[str, Any]]] = json.loads(done.stdout.rpartition("--- answers\n")[2])
    return answers


def in_base64(image: PIL.Image.Image | bytes) -> str:
    return base64.b64encode(image if isinstance(image, bytes) else saved(image)).decode()


@needs_runpod
def test_the_handler_does_the_same_work_and_tells_in_words_what_it_cannot_take() -> None:
    text = in_base64(picture())
    refused: dict[str, Any] = {
        "expected the input as an object": ["text"],
        "base64_image is a required input.": {},
        "base64_image should be <class 'str'> type": {"base64_image": 5},
        "base64_image is no base64": {"base64_image": "no base64!"},
        "base64_image is no whole PNG": {"base64_image": "AAAA"},
        "cannot identify image file": {"base64_image": in_base64(saved(picture(), "BMP"))},
        "file is truncated": {"base64_image": in_base64(saved(picture())[:2000])},
        "not a TIFF file": {"base64_image": in_base64(saved(picture(), exif=b"no EXIF"))},
        "at most 4194304 are taken": {"base64_image": in_base64(saved(PIL.Image.new("1", (2049, 2048))))},
        "base64_image has 10485761 characters": {"base64_image": "A" * 10_485_761},
        "expected strength from 0 to 5, got nan": {"base64_image": text, "strength": float("nan")},
        "radius should be <class 'int'> type": {"base64_image": text, "radius": None},
        "expected tile_size from 64 to 1024, got 1": {"base64_image": text, "tile_size": 1},
        "Unexpected input. size is not a valid input option.": {"base64_image": text, "size": 1},
    }
    taken = [text, f"data:image/png;base64,{text}", "\n".join(re.findall(".{1,76}", text))]
    whole, *others = handle(
        *({"base64_image": each, "tile_size": 64, "radius": 8} for each in taken), *refused.values()
    )
    assert (whole[0]["status"], [item.get("chunk_number") for item in whole[1:]]) == (
        "started",
        [1, 2, 3, 4, 5, 6, None],
    )
    assert are_same(decoded(whole[-1]), enhanced(picture()))
    for item in whole[1:-1]:
        assert are_same(decoded(item), enhanced(picture()).crop(item["box"]))
    assert [decoded(each[-1]).tobytes() for each in others[:2]] == [decoded(whole[-1]).tobytes()] * 2
    for words, items in zip(refused, others[2:], strict=True):
        assert len(items) == 1 and words in items[0]["error"]


def decoded(item: dict[str, Any]) -> PIL.Image.Image:
    return PIL.Image.open(BytesIO(base64.b64decode(item["processed_image"])))


@needs_runpod
@pytest.mark.parametrize("folder", [FOLDER, TUTORIAL], ids=["ours", "tutorial"])
def test_the_handler_runs_by_the_command_of_its_container(folder: Path) -> None:
    """R11. Given an input like this the real package makes the generator, and runs none of it."""
    command = [str(RUNPOD), *entry_point(folder)[1:], "--test_input", '{"input": {}}']
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=WAIT_S, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert "Local testing complete" in done.stdout


# The container, without an engine


def dockerfile(folder: Path) -> dict[str, list[str]]:
    """Return the instructions of a Dockerfile by their names, lines that go on joined."""
    lines = re.sub(r"^#.*\n", "", (folder / "Dockerfile").read_text(), flags=re.MULTILINE).replace("\\\n", "")
    found: dict[str, list[str]] = {}
    for name, rest in re.findall(r"^([A-Z]+) +(.+)$", lines, re.MULTILINE):
        found.setdefault(name, []).append(rest)
    return found


def entry_point(folder: Path) -> list[str]:
    (command,) = dockerfile(folder)["CMD"]
    words: list[str] = json.loads(command)
    return words


def copied(folder: Path) -> set[str]:
    return {source for line in dockerfile(folder)["COPY"] for source in line.split()[:-1]}


CONTAINERS = pytest.mark.parametrize("folder", [FOLDER, TUTORIAL], ids=["ours", "tutorial"])
# What python:3.12-slim, which is Debian, has.
COMMANDS = {"apt-get", "pip", "python", "rm", "useradd"}


@CONTAINERS
def test_every_path_that_the_container_copies_exists_and_its_command_is_there(folder: Path) -> None:
    """R11."""
    assert [source for source in copied(folder) if not (folder / source).is_file()] == []
    assert entry_point(folder) == ["python", "-u", "handler.py"]
    assert "handler.py" in copied(folder)
    assert dockerfile(folder)["FROM"] == ["python:3.12-slim"]


@CONTAINERS
def test_every_command_that_the_container_runs_is_there_and_none_is_a_redirection(folder: Path) -> None:
    """R11."""
    for line in dockerfile(folder)["RUN"]:
        words = list(shlex.shlex(line, punctuation_chars=True))
        assert not {">", "<", ">=", ">>"} & {*words}
        assert {shlex.split(part)[0] for part in line.split("&&")} <= COMMANDS
    assert any("requirements.txt" in line for line in dockerfile(folder)["RUN"])


def requirements(folder: Path) -> dict[str, str]:
    return dict(line.split("==") for line in (folder / "requirements.txt").read_text().splitlines())


@CONTAINERS
def test_what_the_handler_imports_is_copied_or_required(folder: Path) -> None:
    names: set[str] = set()
    for source in (folder / each for each in copied(folder) if each.endswith(".py")):
        for node in ast.walk(ast.parse(source.read_text())):
            names |= {alias.name for alias in node.names} if isinstance(node, ast.Import) else set()
            names |= {node.module or ""} if isinstance(node, ast.ImportFrom) else set()
    packages = {name.partition(".")[0].replace("PIL", "Pillow") for name in names} - sys.stdlib_module_names
    assert {each for each in packages if f"{each}.py" not in copied(folder)} == requirements(folder).keys()


@needs_runpod
@pytest.mark.long
def test_the_requirements_install_beside_each_other() -> None:
    """R11. The environment is made of them."""
    frozen = subprocess.run([RUNPOD, "-m", "pip", "freeze"], capture_output=True, text=True, check=True).stdout.lower()
    assert [name for name, version in requirements(FOLDER).items() if f"{name.lower()}=={version}" not in frozen] == []
    assert subprocess.run([RUNPOD, "-m", "pip", "check"], check=False).returncode == 0
    assert requirements(TUTORIAL).items() <= requirements(FOLDER).items()


# The tutorial's own files


def code(name: str) -> str:
    """Return a file as the tutorial's page shows it."""
    (found,) = re.findall(rf"^```\w+ {re.escape(name)} theme=.*?\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    return str(found)


def test_the_tutorials_handler_and_script_are_as_they_are_written_there() -> None:
    assert (TUTORIAL / "handler.py").read_text() == code("handler.py")
    assert (ROOT / "tests" / "apps" / "runpod_tutorial" / "client.py").read_text() == code("test_endpoint.py")


@pytest.mark.parametrize("name", ["Dockerfile", "requirements.txt"])
def test_of_its_container_the_versions_alone_are_others(name: str) -> None:
    assert re.sub(r"\d+(\.\d+)+", "", (TUTORIAL / name).read_text()) == re.sub(r"\d+(\.\d+)+", "", code(name))


def test_the_endpoint_is_what_the_tutorials_console_asks_for() -> None:
    """R12, R13. The image is the one that the container's own words build."""
    (endpoint,) = tomllib.loads((FOLDER / "pyproject.toml").read_text())["tool"]["streamapp"]["endpoints"].values()
    assert (FOLDER / endpoint["app"]).is_file()
    assert endpoint["type"].lower() == "queue" and "**Endpoint Type** is set to **Queue**" in PAGE
    assert endpoint["gpu"] == "16 GB" and "select **16 GB** GPUs" in PAGE
    assert f"docker build --platform linux/amd64 --tag {endpoint['image']} ." in (FOLDER / "Dockerfile").read_text()
