"""Have pages come last in an application: their roots by routes, their other files where no route takes a GET.

Which file a path names `http.pages` knows. What is served at the path with another end, slash or none, comes first.
"""

from collections.abc import Collection

from fastapi import APIRouter, FastAPI
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Match, Route
from starlette.types import Receive, Scope, Send

from ..errors import DefinitionError, NotFound, describe
from ..http.call import path_in
from ..http.middleware import refuse
from ..http.pages import Pages
from ..process.logs import logger
from ..runtime import Runtime, ServedApp

_MOST_SHOWN = 5


def pages_of(runtime: Runtime, reserved: Collection[str]) -> Pages:
    """Return the pages of all apps.

    Args:
        reserved: paths at or below which only the server's and its faces' own routes are.
    """
    apps = {f"/{served.name}": type(served.app) for served in runtime.served}
    return Pages({**apps, "": type(runtime.served[0].app)}, reserved)


class _RootRoute(Route):
    """Lead GET and HEAD to a page. At the same path a POST may be an endpoint's, slash at its end or not."""

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        """Take no other methods, also not to refuse them."""
        match, child = super().matches(scope)
        return (match, child) if match is Match.FULL else (Match.NONE, {})


def add_roots(api: FastAPI, runtime: Runtime, pages: Pages) -> None:
    """Add the pages themselves; all their other files are found when no route takes a path.

    Raises:
        DefinitionError: an app's own endpoint answers there.
    """

    async def root(request: Request) -> Response:
        page = await pages.find(request)
        if page is None:
            raise HTTPException(404, "Not Found")
        return page

    for served in runtime.served:
        if type(served.app).page_folder() is not None and answers_at_root(served):
            own = next(spec for spec in served.endpoints if spec.path == "/")
            raise DefinitionError(
                f"{own.function.__qualname__}: GET / is the app's page, of static = "
                f"{str(type(served.app).static)!r}; give the endpoint another path, or leave out static"
            )
    api.router.routes.extend(_RootRoute(path, root, include_in_schema=False) for path in sorted(pages.roots))


async def find_page(pages: Pages, request: Request) -> Response | None:
    """Return the file that a GET or HEAD asks for, where it is not hidden: an endpoint may answer POST beside it."""
    page = await pages.find(request)
    is_hidden = page is not None and path_in(request.scope) not in pages.roots and _is_got(request.app, request.scope)
    return None if is_hidden else page


def warn_of_hidden_files(api: FastAPI, pages: Pages) -> None:
    """Log which files nobody can get, when all routes are there."""
    asked = {"type": "http", "headers": []}
    hidden = [
        path
        for path in pages.paths()
        if path not in pages.roots and (pages.is_reserved(path) or _is_got(api, {**asked, "path": path}))
    ]
    if hidden:
        shown = ", ".join(hidden[:_MOST_SHOWN]) + (", ..." if len(hidden) > _MOST_SHOWN else "")
        logger.warning("files of a page are hidden by what is served at their paths; rename them: %s", shown)


def answers_at_root(served: ServedApp) -> bool:
    """Say whether an app's own endpoint answers GET at its root."""
    return any(spec.path == "/" and spec.kind != "value" for spec in served.endpoints)


class EitherSlash:
    """Serve what there is at the path without the slash at its end, or with one, where nothing is at the path itself;
    else a file of a page.

    Divergence: no redirect, as FastAPI's, which loses the body in some clients, and is not followed by others.
    """

    def __init__(self, router: APIRouter, pages: Pages) -> None:
        self._router = router
        self._pages = pages
        self._not_found = router.default

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request that no route has taken."""
        path = scope["path"]
        other = {**scope, "path": _with_other_slash(path)}
        if any(route.matches(other)[0] is not Match.NONE for route in self._router.routes):
            return await self._router(other, receive, send)
        if scope["type"] != "websocket":
            page = await self._pages.find(Request(scope, receive))
            return await (page or self._not_found)(scope, receive, send)
        error = NotFound(f"no WebSocket is served at {path}; GET /docs lists what is")
        await refuse(describe(error), {}, scope, receive, send)


def _is_got(api: FastAPI, scope: Scope) -> bool:
    """Say whether a route takes a GET of a path, slash at its end or not."""
    asked = [{**scope, "method": "GET", "path": path} for path in (scope["path"], _with_other_slash(scope["path"]))]
    return any(route.matches(each)[0] is Match.FULL for route in api.router.routes for each in asked)


def _with_other_slash(path: str) -> str:
    return path.rstrip("/") if path.endswith("/") else f"{path}/"
