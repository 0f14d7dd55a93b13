"""Carry out a Dockerfile without an engine, and have others' linters read what is written for Docker and Kubernetes.

What it copies is copied, what pip installs is read, and what it starts is started here, with this Python. Not carried
out: other commands, users, the layers of the image that is built upon.
"""

import json
import re
import shlex
import shutil
import subprocess
from dataclasses import dataclass, field
from pathlib import Path

from tests.fal_packages import TESTS, needs
from tests.waiting import WAIT_S

BIN = TESTS / ".venvs" / "packaging" / "bin"
needs_linters = needs(BIN.exists(), "the linters are missing; run `make test`")


@dataclass
class CarriedOut:
    """Hold what came of a Dockerfile: its folder `/app`, pip's words for each command, and what is started."""

    app: Path
    installed: list[list[str]] = field(default_factory=list)
    command: list[str] = field(default_factory=list)
    health: list[str] = field(default_factory=list)
    base: str = ""
    user: str = "root"


def carry_out(dockerfile: str, context: Path, app: Path) -> CarriedOut:
    """Follow a Dockerfile's lines, of which each is an instruction."""
    done = CarriedOut(app)
    app.mkdir(exist_ok=True)
    for line in dockerfile.splitlines():
        name, _, rest = line.partition(" ")
        match name:
            case "" | "#" | "ARG" | "ENV" | "EXPOSE" | "WORKDIR" | "ENTRYPOINT":
                pass
            case "FROM":
                done.base = rest
            case "USER":
                done.user = rest
            case "COPY":
                _copy(rest, context, app)
            case "RUN":
                _run(rest, done)
            case "HEALTHCHECK":
                done.health = json.loads(rest.partition(" CMD ")[2])
            case "CMD":
                done.command = json.loads(rest)
            case _:
                raise AssertionError(f"no instruction: {line}")
    return done


def _copy(rest: str, context: Path, app: Path) -> None:
    *sources, target = json.loads(rest) if rest.startswith("[") else rest.split()
    assert len(sources) == 1 or target.endswith("/")
    for source in sources:
        place = context / source
        if place.is_dir():
            shutil.copytree(place, app / target, dirs_exist_ok=True)
        else:
            to = app / target / place.name if target.endswith("/") else app / target
            to.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(place, to)


def _run(rest: str, done: CarriedOut) -> None:
    if " -m pip install " not in rest:
        return
    words = shlex.split(rest)
    assert not {">", "<", "|", ";", "&"} & {*shlex.shlex(rest, posix=True, punctuation_chars=True)}, rest
    done.installed.append(words[words.index("install") + 1 :])
    for file in re.findall(r" -r (\S+)", rest):
        assert (done.app / file).is_file()


def lint(text: str, *ignored: str) -> str:
    """Return what hadolint says of a Dockerfile."""
    command = [str(BIN / "hadolint"), "--no-color", *(f"--ignore={rule}" for rule in ignored), "-"]
    return subprocess.run(command, input=text, capture_output=True, text=True, timeout=WAIT_S, check=False).stdout


def check_compose(file: Path) -> str:
    """Return what the specification of compose files has against one."""
    command = [str(BIN / "check-jsonschema"), "--builtin-schema", "vendor.compose-spec", str(file)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=WAIT_S, check=False)
    return done.stdout + done.stderr if done.returncode else ""
