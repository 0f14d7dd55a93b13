"""What the repository's own texts promise: the Dockerfile's paths and commands exist."""

import re
import tomllib

import pytest
from tests.repository import ROOT, texts

README = (ROOT / "README.md").read_text()
DOCKERFILE = (ROOT / "Dockerfile").read_text()
MAKEFILE = (ROOT / "Makefile").read_text()


def targets() -> set[str]:
    return set(re.findall(r"^([a-z-]+):", MAKEFILE, re.MULTILINE))


def copied() -> list[str]:
    lines = re.findall(r"^COPY (?!--from)(.+)$", DOCKERFILE, re.MULTILINE)
    return [source for line in lines for source in line.split()[:-1]]


@pytest.mark.parametrize("source", copied())
def test_every_path_that_the_dockerfile_copies_exists(source: str) -> None:
    assert (ROOT / source).exists()


@pytest.mark.parametrize(
    "text", [README, DOCKERFILE, (ROOT / ".ci" / "run").read_text()], ids=["README", "Docker", "CI"]
)
def test_every_make_target_that_is_named_exists(text: str) -> None:
    named = set(re.findall(r"\bmake ([a-z][a-z-]+)", text))
    assert named
    assert named <= targets()


PAGES = ("docs/architecture.md", "docs/decisions/README.md", "docs/compatibility.md", "CONTRIBUTING.md")
SOURCE = ROOT / "src" / "streamapp"
CLIENT_SOURCE = "client_sdk/python/src/streamapp_client"
NOT_IN_TREE = {"toolkit", "serverless", "shims", "playground"}  # folders that the tree names as a whole


@pytest.mark.parametrize("page", PAGES)
def test_what_the_pages_for_contributors_name_exists(page: str) -> None:
    """Files and rooms of the source as `jobs/channel`, tests as `tests/test_channel.py`, targets of make."""
    text = (ROOT / page).read_text()
    places = re.findall(
        r"`((?:process|jobs|stores|workers|http|sockets|fal|runpod|serve|testing|cli)/[a-z_]+)/?`", text
    )
    assert [p for p in places if not ((SOURCE / f"{p}.py").exists() or (SOURCE / p).is_dir())] == []
    assert [p for p in re.findall(r"`(tests/[\w/.]+)`", text) if not (ROOT / p).exists()] == []
    assert set(re.findall(r"\bmake ([a-z][a-z-]+)`", text)) <= targets()


def test_the_tree_of_the_architecture_page_has_every_file() -> None:
    tree = (ROOT / PAGES[0]).read_text().rpartition("src/streamapp/\n")[2]
    files = {path.name for path in SOURCE.rglob("*.py") if not NOT_IN_TREE & {*path.parts}}
    assert {name for name in files if name not in tree} == set()


def test_the_readme_has_no_placeholder_left() -> None:
    assert not re.search(r"@[A-Z]+@", README)


def test_both_packages_tell_type_checkers_that_they_are_typed() -> None:
    for package in ("src/streamapp", CLIENT_SOURCE):
        assert (ROOT / package / "py.typed").is_file()


SERVER, CLIENT = (
    tomllib.loads((ROOT / path).read_text())["project"]
    for path in ("pyproject.toml", "client_sdk/python/pyproject.toml")
)
OLD_NAME = re.compile(
    r"""\b(?:pip|pipx|uv|uvx|poetry)\b[^\n]*\b(?:install|add|download|uninstall|wheel)\b
        (?:[^\n]*[ "'])?streamapp(?![\w./-])
      | \bstreamapp(?:\[|[ ]*[=~<>!]=)
      | \bstreamapp-(?:\*|\d)
      | \b(?:version|distribution|metadata|requires)\(["']streamapp["']
      | ^name\s*=\s*["']streamapp["']
      | dependencies.*["']streamapp["']
      | pypi\.org/(?:project|simple)/streamapp\b(?!-)""",
    re.MULTILINE | re.VERBOSE,
)


def test_the_distribution_is_nowhere_called_by_the_name_that_is_somebody_elses() -> None:
    """`streamapp` on the public index is another project: whoever installs that runs a stranger's code."""
    found = {place: [match[0] for match in OLD_NAME.finditer(text)] for place, text in texts().items()}
    del found["tests/test_repository.py"]
    assert {place: matches for place, matches in found.items() if matches} == {}


@pytest.mark.parametrize(
    "text",
    [
        "pip install streamapp",
        'pip install -U "streamapp[tls]"',
        "uv add streamapp",
        "dist/streamapp-*.whl",
        "streamapp-0.1.0.tar.gz",
        'version("streamapp")',
        'name = "streamapp"',
        'dependencies = ["httpx", "streamapp"]',
        "streamapp==0.1.0",
    ],
)
def test_that_name_is_found(text: str) -> None:
    assert OLD_NAME.search(text)


@pytest.mark.parametrize(
    "text",
    [
        "pip install streamapp-server",
        "streamapp new x && pip install ./x",
        'import "streamapp"',
        "streamapp_server-0.1",
    ],
)
def test_the_command_the_package_and_the_new_name_are_not_taken_for_it(text: str) -> None:
    assert not OLD_NAME.search(text)


def test_the_servers_wheel_brings_the_client_and_what_it_needs() -> None:
    """Of the client's own name there is nothing on an index that the server could depend on."""
    build = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"]
    for package in ("src/streamapp", "src/streamapp_command", CLIENT_SOURCE):
        assert package in build["wheel"]["packages"]
        assert package in build["sdist"]["include"]
    assert {*CLIENT["dependencies"], *CLIENT["optional-dependencies"]["images"]} <= {*SERVER["dependencies"]}


STATED = {
    "pyproject.toml": r'^version = "(.+)"',
    "client_sdk/python/pyproject.toml": r'^version = "(.+)"',
    "client_sdk/js/package.json": r'^  "version": "(.+)"',
    "client_sdk/js/package-lock.json": r'^  "version": "(.+)"',
    "src/streamapp/__init__.py": r'^__version__ = "(.+)"',
    f"{CLIENT_SOURCE}/__init__.py": r'^__version__ = "(.+)"',
    "CITATION.cff": r"^version: (.+)",
}


def test_all_packages_have_one_version() -> None:
    found = {path: re.findall(pattern, (ROOT / path).read_text(), re.MULTILINE) for path, pattern in STATED.items()}
    assert found == dict.fromkeys(STATED, [SERVER["version"]])
