"""Take along what a GPU machine without an index lacks: wheels for its Python, and only those that it needs.

    python -m benchmarks.wheels fetch gpu-wheels [--python 3.12] [--platform x86_64]
    python -m benchmarks.wheels install gpu-wheels gpu-site

`fetch` runs where there is an index, in the environment of `make install`: it takes the versions from there. torch and
the large packages beside it are not carried, the machine has its own. `install` runs there. It goes through what
streamapp, its previews and the tests marked gpu ask for; what the machine has in a version that will do stays its own,
and nothing is laid over it.
"""

import argparse
import importlib.metadata
import shutil
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from email.parser import HeaderParser
from pathlib import Path
from typing import NamedTuple

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name, parse_wheel_filename

ROOT = Path(__file__).parent.parent
MAX_BYTES = 60e6
#: what the machine has, and with it all that these stand on
THERE = {"torch", "transformers", "accelerate", "safetensors", "huggingface-hub", "numpy"}
_TESTING = {"blockbuster", "hypothesis", "psutil", "pytest", "pytest-asyncio", "pytest-timeout"}
_SOURCE_ONLY = {"forbiddenfruit"}  # pure Python of which the index has no wheel
_GLIBC_MINORS = range(17, 35)  # pip takes wheels of exactly the platforms that it is given


class Package(NamedTuple):
    """A package in one version, and what it asks for."""

    name: str
    version: str
    requires: Sequence[str]


class Choice(NamedTuple):
    """What a machine takes from the wheels, and what it has to do without."""

    wheels: list[Path]
    #: there in a version that is not asked for, and not among the wheels
    unmet: list[str]
    #: neither there nor among the wheels
    missing: list[str]


def requirements() -> list[Requirement]:
    """Return what streamapp, its previews and the tests marked gpu ask for."""
    own = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = own["optional-dependencies"]
    served = list(map(Requirement, own["dependencies"] + extras["diffusion"]))
    return served + [wanted for wanted in map(Requirement, extras["dev"]) if wanted.name in _TESTING]


def walk(
    find: Callable[[Requirement], Package | None], roots: Iterable[Requirement], environment: Mapping[str, str]
) -> dict[str, Package]:
    """Return, by name, the packages that `find` gives for the requirements and for those of what it gave.

    Args:
        environment: the values of markers that differ from this Python's.
    """
    found: dict[str, Package] = {}
    pending = list(roots)
    seen: set[str] = set()
    while pending:
        wanted = pending.pop()
        if str(wanted) not in seen and (package := find(wanted)):
            found[package.name] = package
            pending += _needs(package, wanted.extras, environment)
        seen.add(str(wanted))
    return found


def _needs(package: Package, extras: Iterable[str], environment: Mapping[str, str]) -> list[Requirement]:
    cases = [{**environment, "extra": extra} for extra in ("", *extras)]
    needed = map(Requirement, package.requires)
    return [each for each in needed if each.marker is None or any(map(each.marker.evaluate, cases))]


def carried(python: str, platform: str) -> list[Package]:
    """Return what to take along, in the versions of this environment."""
    markers = {"python_version": python, "python_full_version": f"{python}.0", "platform_machine": platform}
    return list(walk(_to_carry, requirements(), markers).values())


def _to_carry(wanted: Requirement) -> Package | None:
    return None if canonicalize_name(wanted.name) in THERE else installed(wanted.name)


def installed(name: str) -> Package | None:
    """Return a package of this environment, if it is there."""
    try:
        found = importlib.metadata.distribution(name)
    except importlib.metadata.PackageNotFoundError:
        return None
    return Package(canonicalize_name(name), found.version, found.requires or [])


def in_wheel(path: Path) -> Package:
    """Return what a wheel holds."""
    name, version, *_ = parse_wheel_filename(path.name)
    with zipfile.ZipFile(path) as archive:
        metadata = next(entry for entry in archive.namelist() if entry.endswith(".dist-info/METADATA"))
        headers = HeaderParser().parsestr(archive.read(metadata).decode())
    return Package(name, str(version), headers.get_all("Requires-Dist", []))


def choose(
    wheels: Iterable[Path], roots: Iterable[Requirement], there: Callable[[str], Package | None] = installed
) -> Choice:
    """Choose the wheels of what is not there in a version that will do."""
    held = {(package := in_wheel(path)).name: (path, package) for path in wheels}
    choice = Choice([], [], [])

    def find(wanted: Requirement) -> Package | None:
        name = canonicalize_name(wanted.name)
        own = there(name)
        if own and wanted.specifier.contains(own.version, prereleases=True):
            return None
        if name in held:
            return held[name][1]
        (choice.unmet if own else choice.missing).append(f"{wanted} ({own.version} is there)" if own else str(wanted))
        return None

    choice.wheels.extend(held[name][0] for name in sorted(walk(find, roots, {})))
    return choice


def fetch(folder: Path, python: str, platform: str) -> int:
    """Fill the folder with wheels; returns the exit code."""
    shutil.rmtree(folder, ignore_errors=True)
    packages = carried(python, platform)
    tags = [f"manylinux2014_{platform}", *(f"manylinux_2_{minor}_{platform}" for minor in _GLIBC_MINORS)]
    target = ["--only-binary=:all:", "--implementation", "cp", "--python-version", python, "--dest", str(folder)]
    built = [f"{each.name}=={each.version}" for each in packages if each.name in _SOURCE_ONLY]
    ready = [f"{each.name}=={each.version}" for each in packages if each.name not in _SOURCE_ONLY]
    _pip("download", *target, *(f"--platform={tag}" for tag in tags), *ready)
    _pip("wheel", "--wheel-dir", str(folder), *built)
    wheels = list(folder.glob("*.whl"))
    size = sum(path.stat().st_size for path in wheels)
    print(f"{len(wheels)} wheels for Python {python} on {platform} in {folder}: {size / 1e6:.1f} MB")
    if size > MAX_BYTES:
        print(f"more than the {MAX_BYTES / 1e6:.0f} MB that can be taken along; add to THERE what the machine has")
    return int(size > MAX_BYTES)


def install(folder: Path, site: Path) -> int:
    """Install into `site` what this machine lacks; returns the exit code."""
    choice = choose(folder.glob("*.whl"), requirements())
    if choice.missing:
        print(f"neither in {sys.executable} nor in {folder}/: {', '.join(sorted(choice.missing))}")
        print(f"PYTHON has to bring {', '.join(sorted(THERE))}; `make gpu-wheels`, where there is an index, the others")
        return 1
    for line in choice.unmet:
        print(f"goes on without {line}")
    shutil.rmtree(site, ignore_errors=True)
    if choice.wheels:
        _pip("install", "--no-index", "--no-compile", "--target", str(site), *map(str, choice.wheels))
    names = (in_wheel(path) for path in choice.wheels)
    print("from wheels:", ", ".join(f"{each.name} {each.version}" for each in names) or "nothing")
    return 0


def _pip(command: str, *arguments: str) -> None:
    options = ["--quiet", "--no-deps", "--disable-pip-version-check"]
    subprocess.run([sys.executable, "-m", "pip", command, *options, *arguments], check=True)


def main() -> int:
    """Fetch or install."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.wheels", description="Wheels for a GPU machine.")
    commands = parser.add_subparsers(required=True)
    fetching = commands.add_parser("fetch", help="fill a folder with wheels for the machine's Python")
    fetching.add_argument("folder", type=Path)
    fetching.add_argument("--python", default="3.12")
    fetching.add_argument("--platform", default="x86_64")
    fetching.set_defaults(run=lambda given: fetch(given.folder, given.python, given.platform))
    installing = commands.add_parser("install", help="install from the folder what this Python lacks")
    installing.add_argument("folder", type=Path)
    installing.add_argument("site", type=Path)
    installing.set_defaults(run=lambda given: install(given.folder, given.site))
    arguments = parser.parse_args()
    return int(arguments.run(arguments))


if __name__ == "__main__":
    sys.exit(main())
