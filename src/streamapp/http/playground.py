"""Serve the playground: the page that `make playground` builds into `playground/dist`, at `/playground`.

The page needs no network but this server, and its policy lets it reach nothing else: no inline script or style, no
other host, no frame around it. It has no key and no data in it, so it is open; what it calls is not.

The page's own links are relative, so that it works behind any prefix; for that its address has no slash at its end.
"""

import gzip
import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from importlib.resources.abc import Traversable

from fastapi import FastAPI
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from ..errors import NotFound
from ..process.threads import in_pool

PAGE_PATH = "/playground"
# https://www.w3.org/TR/CSP3/; data: and blob: are results on their way into the page, not requests.
POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self' data: blob:",
        "media-src 'self' data: blob:",
        "connect-src 'self'",
        "font-src 'self'",
        "worker-src 'self' blob:",
        "frame-ancestors 'none'",
        "base-uri 'none'",
        "form-action 'none'",
    )
)
# By name, not by `mimetypes`: that asks the machine, and a script of another type is not run (nosniff).
_TYPES = {
    "html": "text/html; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "css": "text/css; charset=utf-8",
    "svg": "image/svg+xml",
    "png": "image/png",
    "woff2": "font/woff2",
    "wasm": "application/wasm",
    "txt": "text/plain; charset=utf-8",
}
_LICENSES = "LICENSES.txt"
_ASSETS = "assets/"
_COMPRESSIBLE = ("text/", "image/svg", "application/wasm")


@dataclass(frozen=True, slots=True)
class Asset:
    """Hold one file of the page; `packed` is its gzip form, or as it is where that saves nothing."""

    data: bytes
    packed: bytes
    content_type: str
    etag: str


@cache
def read_page() -> dict[str, Asset]:
    """Return the built page's files by their path below `/playground/`; the page itself is at the empty one.

    Blocks, at the first call, for as long as it takes to read and to pack a few hundred kilobytes.
    """
    folder = files("streamapp") / "playground" / "dist"
    named = {"": _asset(folder / "index.html"), _LICENSES: _asset(folder / _LICENSES)}
    return {**named, **dict(_assets(folder / "assets"))}


def _assets(folder: Traversable) -> Iterator[tuple[str, Asset]]:
    for file in folder.iterdir():
        yield _ASSETS + file.name, _asset(file)


def _asset(file: Traversable) -> Asset:
    data = file.read_bytes()
    content_type = _TYPES[file.name.rpartition(".")[2]]
    packed = gzip.compress(data, 6, mtime=0) if content_type.startswith(_COMPRESSIBLE) else data
    return Asset(data, packed, content_type, f'W/"{hashlib.sha256(data).hexdigest()[:32]}"')


def add_page_routes(api: FastAPI) -> None:
    """Serve the page and its files."""

    async def page(request: Request, path: str = "") -> Response:
        asset = (await in_pool(read_page)).get(path)
        if asset is None:
            raise NotFound(f"the playground has no file {path[:100]!r}; reload the page")
        return _answer(request, asset, is_hashed=path.startswith(_ASSETS))

    async def to_page(request: Request) -> Response:
        return redirect_to_page(request)

    for path, route in ((PAGE_PATH, page), (f"{PAGE_PATH}/", to_page), (PAGE_PATH + "/{path:path}", page)):
        api.add_api_route(path, route, methods=["GET", "HEAD"], include_in_schema=False, response_model=None)


def redirect_to_page(request: Request) -> Response:
    """Lead a browser to the page; without a host, which a proxy may have changed."""
    return RedirectResponse(request.scope.get("root_path", "") + PAGE_PATH)


def _answer(request: Request, asset: Asset, *, is_hashed: bool) -> Response:
    headers = {
        "ETag": asset.etag,
        # The names of the assets change with what is in them, those of the page and the licences do not.
        "Cache-Control": "public, max-age=31536000, immutable" if is_hashed else "no-cache",
        "Content-Security-Policy": POLICY,
        "X-Content-Type-Options": "nosniff",
        "Referrer-Policy": "no-referrer",
        "Vary": "Accept-Encoding",
    }
    if asset.etag in request.headers.get("if-none-match", ""):
        return Response(status_code=304, headers=headers)
    if "gzip" not in request.headers.get("accept-encoding", "") or asset.packed is asset.data:
        return Response(asset.data, headers=headers, media_type=asset.content_type)
    return Response(asset.packed, headers={**headers, "Content-Encoding": "gzip"}, media_type=asset.content_type)
