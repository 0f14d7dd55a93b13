"""Run the tests without torch by each version of Python that pyproject.toml names: `make test-pythons`.

A version is looked for on the path, and among pyenv's; one that is not here is said so, and left out. Each has an
environment of its own in `tests/.venvs`, without the models' packages: what needs these is skipped (`tests/torchless`).
"""

import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Sequence
from pathlib import Path

TESTS = Path(__file__).parent
ROOT = TESTS.parent
PYENV = Path.home() / ".pyenv" / "versions"
_EXTRAS = ".[tls,webrtc,dev]"
_CLASSIFIER = re.compile(r"Programming Language :: Python :: (\d+\.\d+)")


def versions() -> list[str]:
    """Return the versions that the package says it runs on."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    return [match[1] for match in map(_CLASSIFIER.fullmatch, project["classifiers"]) if match]


def find(version: str, pyenv: Path = PYENV) -> str | None:
    """Return an interpreter of a version that runs, and can make environments; None where there is none."""
    of_pyenv = sorted(map(str, pyenv.glob(f"{version}.*/bin/python")), reverse=True)
    return next(filter(_runs, filter(None, [shutil.which(f"python{version}"), *of_pyenv])), None)


def _runs(python: str) -> bool:
    """Say whether it is one, and no shim of a version that is not installed."""
    return subprocess.run([python, "-c", "import ensurepip, ssl, venv"], capture_output=True).returncode == 0


def installed(version: str, python: str) -> str:
    """Return the interpreter of an environment that has what the tests need, but for torch."""
    folder = TESTS / ".venvs" / f"python{version}"
    stamp, interpreter = folder / ".installed", str(folder / "bin" / "python")
    wanted = [ROOT / "pyproject.toml", ROOT / "constraints.txt"]
    if not stamp.exists() or any(file.stat().st_mtime > stamp.stat().st_mtime for file in wanted):
        subprocess.run([python, "-m", "venv", "--clear", folder], check=True)
        pip = [interpreter, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        subprocess.run([*pip, "--constraint", "constraints.txt", "--editable", _EXTRAS], cwd=ROOT, check=True)
        stamp.touch()
    return interpreter


def main(arguments: Sequence[str]) -> int:
    """Run the tests by each version; returns the exit code.

    Args:
        arguments: those of pytest.
    """
    outcomes = {version: _run(version, arguments) for version in versions()}
    sys.stdout.writelines(f"Python {version}: {outcome}\n" for version, outcome in outcomes.items())
    return int("passed" not in outcomes.values() or "failed" in outcomes.values())


def _run(version: str, arguments: Sequence[str]) -> str:
    python = find(version)
    if python is None:
        return "left out: it is not on the path, nor among pyenv's versions"
    sys.stdout.write(f"Python {version}: {python}\n")
    sys.stdout.flush()
    pytest = [installed(version, python), "-m", "pytest", "--numprocesses", "2", "--dist", "loadfile"]
    environment = {name: value for name, value in os.environ.items() if name != "CI"}  # there nothing may be missing
    ran = subprocess.run([*pytest, "--no-loadscope-reorder", *arguments], cwd=ROOT, env=environment)
    return "failed" if ran.returncode else "passed"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
