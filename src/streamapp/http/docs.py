"""Serve the page of the API, at `/docs`, and the API's document in OpenAPI 3.1; that in 3.2 FastAPI serves.

The page is Swagger UI, of which `swagger/dist` has the pinned package's files as they are.

Like the playground it needs no network but this server, is held to that by the same policy, has no data in it and so
is open; `openapi.json`, which it draws, is not: the page asks for the key and puts it into what is tried out.

Its own links are relative, so that it works behind any prefix; for that its address has no slash at its end.

Divergence: not FastAPI's page, which loads Swagger UI from another host by an inline script, and cannot send a key.
"""

from functools import cache
from importlib.resources import files

from fastapi import FastAPI
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response

from ..errors import NotFound
from ..process.threads import in_pool
from .openapi31 import to_openapi_3_1
from .pages import Asset

DOCS_PATH = "/docs"
DOCUMENT_PATH = "/openapi-3.1.json"
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
    """Serve the page, its files, and the document that it names beside `/openapi.json`."""
    older = cache(lambda: to_openapi_3_1(api.openapi()))

    async def page(request: Request, path: str = "") -> Response:
        asset = (await in_pool(read_docs)).get(path)
        if asset is None:
            raise NotFound(f"the page of the API has no file {path[:100]!r}; reload the page")
        return asset.answer(request)

    async def to_page(request: Request) -> Response:
        return redirect_to_docs(request)

    async def document(request: Request) -> Response:
        root_path = request.scope.get("root_path", "").rstrip("/")
        return JSONResponse({**older(), **({"servers": [{"url": root_path}]} if root_path else {})})

    api.add_route(DOCUMENT_PATH, document, include_in_schema=False)
    for path, route in ((DOCS_PATH, page), (f"{DOCS_PATH}/", to_page), (DOCS_PATH + "/{path:path}", page)):
        api.add_api_route(path, route, methods=["GET", "HEAD"], include_in_schema=False, response_model=None)


def redirect_to_docs(request: Request) -> Response:
    """Lead a browser to the page; without a host, which a proxy may have changed."""
    return RedirectResponse(request.scope.get("root_path", "") + DOCS_PATH)
