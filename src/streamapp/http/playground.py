"""Read the playground: the page that `make playground` builds into `playground/dist`, for `/playground`.

The page needs no network but this server, and its policy lets it reach nothing else: no inline script or style, no
other host, no frame around it. It has no key and no data in it, so it is open; what it calls is not.
"""

from collections.abc import Iterator
from functools import cache
from importlib.resources.abc import Traversable

from .pages import BUILT, Asset

PAGE_PATH = "/playground"
_LICENSES = "LICENSES.txt"
#: the folder of files whose names change with what is in them
ASSETS = "assets/"


@cache
def read_page() -> dict[str, Asset]:
    """Return the built page's files by their path below `/playground/`; the page itself is at the empty one.

    Blocks, at the first call, for as long as it takes to read and to pack a few hundred kilobytes.
    """
    named = {"": _asset(BUILT / "index.html"), _LICENSES: _asset(BUILT / _LICENSES)}
    return {**named, **dict(_assets(BUILT / "assets"))}


def _assets(folder: Traversable) -> Iterator[tuple[str, Asset]]:
    for file in folder.iterdir():
        yield ASSETS + file.name, _asset(file)


def _asset(file: Traversable) -> Asset:
    return Asset.of(file.name, file.read_bytes())
