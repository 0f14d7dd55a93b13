"""Serve the page of the API, at `/docs`, and the API's document, in OpenAPI 3.2 and in 3.1.

The page is Swagger UI, of which `swagger/dist` has the pinned package's files as they are.

Like the playground it needs no network but this server, is held to that by the same policy, has no data in it and so
is open; `openapi.json`, which it draws, is not: the page asks for the key and puts it into what is tried out.

Divergence: not FastAPI's page, which loads Swagger UI from another host by an inline script, and cannot send a key.
"""

from collections.abc import Callable
from functools import cache
from importlib.resources import files
from typing import Any

from fastapi import FastAPI
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from ..process.threads import in_pool
from .openapi31 import to_openapi_3_1
from .pages import Asset, add_page

DOCS_PATH = "/docs"
_FOLDER = files("streamapp") / "swagger"
_OWN = ("page.css", "page.js", "icon.svg")
_BUILT = ("swagger-ui-bundle.js", "swagger-ui.css", "LICENSES.txt")


@cache
def read_docs() -> dict[str, Asset]:
    """Return the page's files by their names below `/docs/`; the page itself is at the empty one.

    Blocks, at the first call, for as long as it takes to pack two megabytes.
    """
    paths = {"": _FOLDER / "page.html"}
    paths |= {name: _FOLDER / name for name in _OWN} | {name: _FOLDER / "dist" / name for name in _BUILT}
    return {name: Asset.of(path.name, path.read_bytes()) for name, path in paths.items()}


def add_docs_routes(api: FastAPI) -> None:
    """Serve the page, its files, and the documents that it draws and names."""
    add_page(api, DOCS_PATH, read_docs)
    _add_document(api, "/openapi.json", lambda: api.openapi())
    _add_document(api, "/openapi-3.1.json", cache(lambda: to_openapi_3_1(api.openapi())))


def _add_document(api: FastAPI, path: str, make: Callable[[], dict[str, Any]]) -> None:
    """Serve a document, which a thread makes when it is first asked for: the loop would stand for 50 ms."""

    async def document(request: Request) -> Response:
        made = await in_pool(make)
        root_path = request.scope.get("root_path", "").rstrip("/")
        return JSONResponse({**made, **({"servers": [{"url": root_path}]} if root_path else {})})

    api.add_route(path, document, include_in_schema=False)
