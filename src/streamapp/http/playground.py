"""Serve the playground: the page that `make playground` builds into `playground/dist`, at `/playground`.

The page needs no network but this server, and its policy lets it reach nothing else: no inline script or style, no
other host, no frame around it. It has no key and no data in it, so it is open; what it calls is not.

The page's own links are relative, so that it works behind any prefix; for that its address has no slash at its end.
"""

from collections.abc import Iterator
from functools import cache
from importlib.resources.abc import Traversable

from fastapi import FastAPI
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from ..errors import NotFound
from ..process.threads import in_pool
from .pages import BUILT, Asset
from .route import LaterRoute

PAGE_PATH = "/playground"
_LICENSES = "LICENSES.txt"
_ASSETS = "assets/"  # whose names change with what is in them
_FOR_EVER = "public, max-age=31536000, immutable"


@cache
def read_page() -> dict[str, Asset]:
    """Return the built page's files by their path below `/playground/`; the page itself is at the empty one.

    Blocks, at the first call, for as long as it takes to read and to pack a few hundred kilobytes.
    """
    named = {"": _asset(BUILT / "index.html"), _LICENSES: _asset(BUILT / _LICENSES)}
    return {**named, **dict(_assets(BUILT / "assets"))}


def _assets(folder: Traversable) -> Iterator[tuple[str, Asset]]:
    for file in folder.iterdir():
        yield _ASSETS + file.name, _asset(file)


def _asset(file: Traversable) -> Asset:
    return Asset.of(file.name, file.read_bytes())


def add_page_routes(api: FastAPI) -> None:
    """Serve the page and its files."""

    async def page(request: Request, path: str = "") -> Response:
        asset = (await in_pool(read_page)).get(path)
        if asset is None:
            raise NotFound(f"the playground has no file {path[:100]!r}; reload the page")
        return asset.answer(request, caching=_FOR_EVER if path.startswith(_ASSETS) else "no-cache")

    async def to_page(request: Request) -> Response:
        return redirect_to_page(request)

    for path, route in ((PAGE_PATH, page), (f"{PAGE_PATH}/", to_page), (PAGE_PATH + "/{path:path}", page)):
        api.router.routes.append(LaterRoute(path, route, methods=["GET", "HEAD"], include_in_schema=False))


def redirect_to_page(request: Request) -> Response:
    """Lead a browser to the page; without a host, which a proxy may have changed."""
    return RedirectResponse(request.scope.get("root_path", "") + PAGE_PATH)
