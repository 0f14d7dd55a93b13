"""Put the site's sources together in a folder: the pages of docs/, others of the repository, and what they link to.

`python -m tests.documentation.assemble out/docs` does it, and `zensical build` there makes the site; `make docs` is
both. A page of the repository that is no page of the site, and any other file that is linked to, comes along below
`files/`, so that no link of the site leads out of it.
"""

import os
import re
import shutil
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
#: pages from elsewhere, and where the site has them
ELSEWHERE = {
    "apps/README.md": "apps.md",
    "client_sdk/python/README.md": "reference/python-client.md",
    "client_sdk/js/README.md": "reference/javascript-client.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
}
#: of READMEs that are all called after their package
TITLES = {"client_sdk/python/README.md": "Python client", "client_sdk/js/README.md": "JavaScript client"}
CONFIGURATION = "docs/zensical.toml"
_LINK = re.compile(r"(\]\(|\b(?:src|href)=\")([^)\s\"#]+)")
_TITLE = re.compile(r"^# .*", re.MULTILINE)
_FENCED = re.compile(r"(^ *```.*?^ *```$)", re.MULTILINE | re.DOTALL)


def place_of(path: str) -> str:
    """Return where the site has a file of the repository."""
    if path in ELSEWHERE:
        return ELSEWHERE[path]
    if path == "README.md":
        return "index.md"
    return path.removeprefix("docs/") if path.startswith("docs/") else f"files/{path}"


def links_of(text: str) -> list[str]:
    """Return the relative links of a page, those of pictures too, without what is behind `#`."""
    found = [link for _, link in _LINK.findall(_FENCED.sub("", text))]
    return [link for link in found if not re.match(r"[a-z]+:|/", link)]


def assemble(out: Path) -> None:
    """Write the configuration to `out`, and the pages and files to `out/pages`.

    Raises:
        FileNotFoundError: a link leads nowhere.
    """
    shutil.rmtree(out, ignore_errors=True)
    pages = out / "pages"
    pages.mkdir(parents=True)
    shutil.copy(ROOT / CONFIGURATION, out)
    docs = (path for path in (ROOT / "docs").rglob("*") if path.is_file())
    waiting = [path for path in (*ELSEWHERE, *(str(path.relative_to(ROOT)) for path in docs)) if path != CONFIGURATION]
    known = set(waiting)
    while waiting:
        path = waiting.pop()
        place = pages / place_of(path)
        place.parent.mkdir(parents=True, exist_ok=True)
        if not path.endswith(".md"):
            shutil.copy(ROOT / path, place)
            continue
        text, linked = _moved(path)
        place.write_text(text)
        waiting += linked - known
        known |= linked


def _moved(path: str) -> tuple[str, set[str]]:
    """Return a page with its links as the site has them, and the files that they lead to."""
    linked: set[str] = set()

    def moved(match: re.Match[str]) -> str:
        begin, link = match.groups()
        if re.match(r"[a-z]+:|/", link):
            return match[0]
        target = _file_at(path, link)
        if target != "README.md":
            linked.add(target)
        there = os.path.relpath(place_of(target), Path(place_of(path)).parent)
        return f"{begin}{there}"

    text = (ROOT / path).read_text()
    if path in TITLES:
        text = _TITLE.sub(f"# {TITLES[path]}", text, count=1)
    parts = _FENCED.split(text)  # by turns what is no block, and a block
    return "".join(_LINK.sub(moved, part) if n % 2 == 0 else part for n, part in enumerate(parts)), linked


def _file_at(path: str, link: str) -> str:
    target = (ROOT / path).parent.joinpath(link).resolve()
    if target.is_dir():  # a forge lists it, a site cannot
        target = next(
            (
                target / name
                for name in ("README.md", "app.py", "__init__.py", "package.json", "handler.py", "train.py")
                if (target / name).is_file()
            ),
            target,
        )
    if not target.is_file():
        raise FileNotFoundError(f"{path} links to {link}, which is not there")
    return str(target.relative_to(ROOT))


if __name__ == "__main__":
    assemble(Path(sys.argv[1]))
