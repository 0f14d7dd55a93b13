"""What an index shows of the packages: long descriptions whose links lead somewhere, addresses, people, classifiers."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from hatchling.metadata.core import ProjectMetadata
from hatchling.plugin.manager import PluginManager
from tests.repository import ROOT, texts

HOME = "https://github.com/streamapp-server/streamapp"
# What leads nowhere on an index: a path, or a heading, as an index gives headings no names.
DEAD_LINK = re.compile(r'\]\((?!https?://|mailto:)[^)]*\)|(?:src|href)="(?!https?://)[^"]*"')
OURS = re.compile(re.escape(HOME) + r"/(?:blob|raw)/v[\d.]+/([^)#\"]*)")


def metadata(folder: Path) -> Any:
    """Return the metadata that a build of the package in a folder writes."""
    return ProjectMetadata(str(folder), PluginManager()).core


SERVER, CLIENT = metadata(ROOT), metadata(ROOT / "client_sdk" / "python")
NPM = json.loads((ROOT / "client_sdk" / "js" / "package.json").read_text())

packages = pytest.mark.parametrize("package", [SERVER, CLIENT], ids=["server", "client"])


@packages
def test_no_link_or_picture_of_a_long_description_is_dead_on_an_index(package: Any) -> None:
    text = re.sub(r"```.*?```|`[^`\n]*`", "", package.readme, flags=re.DOTALL)
    assert len(text) > 1000
    assert DEAD_LINK.findall(text) == []


@pytest.mark.parametrize("text", ["[a](docs/a.md)", "[a](#b)", "![a](a.png)", '<img src="a.png">', "[a](/a)"])
def test_a_dead_link_is_found(text: str) -> None:
    assert DEAD_LINK.search(text)


@packages
def test_what_a_long_description_links_to_in_the_repository_exists(package: Any) -> None:
    assert [path for path in OURS.findall(package.readme) if not (ROOT / path).exists()] == []


def test_links_of_a_long_description_are_those_of_its_version() -> None:
    """Who reads 0.1.0 a year later finds the pages of 0.1.0."""
    assert {*re.findall(rf"{HOME}/(?:blob|raw)/([^/]+)/", SERVER.readme)} == {f"v{SERVER.version}"}


@packages
def test_an_index_shows_where_all_is(package: Any) -> None:
    assert package.urls == {
        "Homepage": HOME,
        "Documentation": f"{HOME}/tree/main/docs",
        "Repository": HOME,
        "Issues": f"{HOME}/issues",
        "Changelog": f"{HOME}/blob/main/CHANGELOG.md",
    }


def test_npm_shows_where_all_is() -> None:
    """By `directory` its page leads relative links of the README to the repository."""
    assert NPM["repository"] == {"type": "git", "url": f"git+{HOME}.git", "directory": "client_sdk/js"}
    assert (NPM["homepage"], NPM["bugs"]) == (f"{HOME}#readme", f"{HOME}/issues")


def test_the_repository_has_one_address_wherever_it_is_named() -> None:
    found = {
        match
        for text in texts().values()
        for match in re.findall(r"https://github\.com/[\w.-]*streamapp\S*?/[\w-]+", text)
    }
    assert found == {HOME}


@packages
def test_nobody_in_particular_is_named_as_author(package: Any) -> None:
    assert package.authors_data == {"name": ["The streamapp authors"], "email": []}
    assert package.maintainers == []
    assert NPM["author"] == "The streamapp authors"


@packages
def test_classifiers_are_known_sorted_and_say_what_pythons_are_tested(package: Any) -> None:
    """An unknown one is an error of hatchling's; an index refuses it, too."""
    assert package.classifiers == sorted(package.classifiers)
    versions = {f"Programming Language :: Python :: {version}" for version in ("3", "3.11", "3.12", "3.13")}
    needed = {"Typing :: Typed", "Intended Audience :: Developers", "Programming Language :: Python :: 3 :: Only"}
    assert {*package.classifiers} >= versions | needed


@pytest.mark.parametrize(
    "keywords", [SERVER.keywords, CLIENT.keywords, NPM["keywords"]], ids=["server", "client", "npm"]
)
def test_keywords_are_sorted_and_few(keywords: list[str]) -> None:
    assert keywords == sorted({*keywords})
    assert 5 <= len(keywords) <= 15


PROMISE = (ROOT / "docs" / "compatibility.md").read_text()
PINNED = ("pyproject.toml", "tests/js/package.json", "apps/image_chunks/requirements.txt", "tests/fal-requirements.txt")
PINS = "".join((ROOT / path).read_text() for path in (*PINNED, "tests/litellm-requirements.txt"))


@pytest.mark.parametrize(
    ("name", "version"), re.findall(r"^\| ([\w@/-]+)(?: \(.+?\))? \| ([\d.]+) \|", PROMISE, re.MULTILINE)
)
def test_the_clients_of_others_that_are_promised_are_those_that_are_tested(name: str, version: str) -> None:
    assert f"{name}=={version}" in PINS or f'"{name}": "{version}"' in PINS


def test_the_pythons_that_are_promised_are_those_of_the_packages() -> None:
    supported = ", ".join(re.findall(r":: Python :: (3\.\d+)", "\n".join(SERVER.classifiers)))
    assert f"| Python, server and client | {supported} |" in PROMISE
    assert SERVER.requires_python == CLIENT.requires_python == f">={supported.partition(',')[0]}"


def test_the_node_that_is_promised_is_that_of_the_package() -> None:
    assert NPM["engines"]["node"] == ">=20.3"
    assert "| Node | 20.3 and later;" in PROMISE
