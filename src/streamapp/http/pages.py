"""Serve pages: the files of the folder that an app names in `static`, the client that they import, and our own pages.

A page is open, as the playground is: there is no data in it, and what it calls asks for the key. Its policy lets it
reach this server alone, unless the app says otherwise. A file is looked at with each request, off the loop, so what was
edited is there when the page is loaded anew.

What else the server has comes first: no file hides an endpoint, a route of the server's or one of a face's. Redirects
name no host, and hold behind any prefix.
"""

import errno
import gzip
import hashlib
import itertools
import os
import re
import stat
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from importlib.resources import files
from pathlib import Path
from types import MappingProxyType
from typing import Any
from urllib.parse import quote

from fastapi import FastAPI
from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.responses import FileResponse, RedirectResponse, Response
from starlette.types import Message, Receive, Scope, Send

from ..app import App
from ..errors import DefinitionError, NotFound
from ..process.threads import in_pool
from .call import path_in
from .route import LaterRoute

#: what `make playground` has built
BUILT = files("streamapp") / "playground" / "dist"
#: the JavaScript client, below the root of each app
CLIENT_PATH = "/_streamapp/client.js"
# https://www.w3.org/TR/CSP3/; data: and blob: are results on their way into the page, not requests.
_DIRECTIVES = MappingProxyType(
    {
        "default-src": "'none'",
        "script-src": "'self'",
        "style-src": "'self'",
        "img-src": "'self' data: blob:",
        "media-src": "'self' data: blob:",
        "connect-src": "'self' data: blob:",
        "font-src": "'self'",
        "manifest-src": "'self'",
        "worker-src": "'self' blob:",
        "frame-ancestors": "'none'",
        "base-uri": "'none'",
        "form-action": "'none'",
    }
)
_DIRECTIVE = re.compile(r"[a-z][a-z-]*")
_SOURCES = re.compile(r"[ !-+\--:<-~]*")  # printable, but for what begins the next directive or policy
# By name, not by `mimetypes`: that asks the machine, and a script of another type is not run (nosniff).
_TYPES = {
    **dict.fromkeys(("html", "htm"), "text/html; charset=utf-8"),
    **dict.fromkeys(("js", "mjs"), "text/javascript; charset=utf-8"),
    "css": "text/css; charset=utf-8",
    **dict.fromkeys(("txt", "md"), "text/plain; charset=utf-8"),
    "csv": "text/csv; charset=utf-8",
    "vtt": "text/vtt; charset=utf-8",
    **dict.fromkeys(("json", "map"), "application/json"),
    "webmanifest": "application/manifest+json",
    "xml": "application/xml",
    "pdf": "application/pdf",
    "wasm": "application/wasm",
    "svg": "image/svg+xml",
    "png": "image/png",
    **dict.fromkeys(("jpg", "jpeg"), "image/jpeg"),
    "gif": "image/gif",
    "webp": "image/webp",
    "avif": "image/avif",
    "ico": "image/x-icon",
    "woff": "font/woff",
    "woff2": "font/woff2",
    "ttf": "font/ttf",
    "otf": "font/otf",
    "wav": "audio/wav",
    "mp3": "audio/mpeg",
    "ogg": "audio/ogg",
    "opus": "audio/ogg",
    "flac": "audio/flac",
    "aac": "audio/aac",
    "m4a": "audio/mp4",
    **dict.fromkeys(("mp4", "m4v"), "video/mp4"),
    "mov": "video/quicktime",
    "webm": "video/webm",
    "glb": "model/gltf-binary",
    "gltf": "model/gltf+json",
}
_COMPRESSIBLE = (
    "text/",
    "image/svg",
    "application/json",
    "application/manifest",
    "application/xml",
    "application/wasm",
)
_INDEX = "index.html"
_FOR_EVER = "public, max-age=31536000, immutable"
_METHODS = ("GET", "HEAD")
# Text up to there is packed, and what was packed last is kept; all else is read from the disk as it is sent.
_MAX_PACKED_BYTES, _PACKED_FILES = 4 * 1024 * 1024, 64
_PIECE_BYTES = 64 * 1024
_CHECKED_FILES = 1000
_ABSENT = (errno.ENOENT, errno.ENOTDIR, errno.EACCES, errno.ELOOP, errno.ENAMETOOLONG)


def policy_of(directives: Mapping[str, str]) -> str:
    """Return the policy of a page, with these directives in the place of the strict ones."""
    return "; ".join(f"{name} {sources}".rstrip() for name, sources in {**_DIRECTIVES, **directives}.items())


#: what a page may do that says nothing else: reach this server
POLICY = policy_of({})


@dataclass(frozen=True, slots=True)
class Asset:
    """Hold one file of a page; `packed` is its gzip form, or as it is where that saves nothing."""

    data: bytes
    packed: bytes
    content_type: str
    etag: str

    @classmethod
    def of(cls, name: str, data: bytes) -> "Asset":
        """Return a file that is called so; blocks for as long as it takes to pack it."""
        content_type = content_type_of(name)
        packed = gzip.compress(data, 6, mtime=0) if is_text(content_type) else data
        return cls(data, packed, content_type, f'W/"{hashlib.sha256(data).hexdigest()[:32]}"')

    def answer(self, request: Request, *, policy: str = POLICY, caching: str = "no-cache") -> Response:
        """Answer a request for the file."""
        headers = _headers(policy) | {"ETag": self.etag, "Cache-Control": caching}
        if self.etag in request.headers.get("if-none-match", ""):
            return Response(status_code=304, headers=headers)
        if "gzip" not in request.headers.get("accept-encoding", "") or self.packed is self.data:
            return _InPieces(self.data, headers=headers, media_type=self.content_type)
        return _InPieces(self.packed, headers={**headers, "Content-Encoding": "gzip"}, media_type=self.content_type)


def add_page(api: FastAPI, path: str, read: Callable[[], Mapping[str, Asset]], *, kept: str | None = None) -> None:
    """Serve a page of the server's own at a path that ends with no slash, as the page's links are relative.

    Args:
        read: gives its files by their names below `path`, the page itself at the empty one; it may block.
        kept: the folder whose files browsers keep for good: their names change with what is in them.
    """

    async def page(request: Request, name: str = "") -> Response:
        asset = (await in_pool(read)).get(name)
        if asset is None:
            raise NotFound(f"the page at {path} has no file {name[:100]!r}; reload it")
        return asset.answer(request, caching=_FOR_EVER if kept and name.startswith(kept) else "no-cache")

    async def to_page(request: Request) -> Response:
        return lead_to(path, request)

    for place, route in ((path, page), (f"{path}/", to_page), (path + "/{name:path}", page)):
        api.router.routes.append(LaterRoute(place, route, methods=["GET", "HEAD"], include_in_schema=False))


def lead_to(path: str, request: Request) -> Response:
    """Lead a browser to a page of the server's own; without a host, which a proxy may have changed."""
    return RedirectResponse(request.scope.get("root_path", "") + path)


class _InPieces(Response):
    """Send a body as it is taken: given it whole, a connection may keep a copy for as long as its client is slow."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send it."""
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        for start in range(0, len(self.body), _PIECE_BYTES):
            piece = self.body[start : start + _PIECE_BYTES]
            await send({"type": "http.response.body", "body": piece, "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})


class _Looked(FileResponse):
    """Send as much of a file as there was when it was looked at: it may be written to meanwhile."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send it."""
        left, is_sent = 0, False

        async def send_up_to(message: Message) -> None:
            nonlocal left, is_sent
            if message["type"] == "http.response.start":
                left = int(Headers(raw=message["headers"])["content-length"])
            else:
                body = message.get("body", b"")[:left]
                left -= len(body)
                message = {**message, "body": body, "more_body": message.get("more_body", False) and left > 0}
            if not is_sent:
                await send(message)
            is_sent = not message.get("more_body", True)

        await super().__call__(scope, receive, send_up_to)


def is_text(content_type: str) -> bool:
    """Say whether what has this media type gets smaller when it is packed."""
    return content_type.startswith(_COMPRESSIBLE)


def content_type_of(name: str) -> str:
    """Return the media type of a file, by its name or path."""
    return _TYPES.get(name.rpartition(".")[2].lower(), "application/octet-stream")


def _headers(policy: str) -> dict[str, str]:
    return {
        "Cache-Control": "no-cache",
        "Content-Security-Policy": policy,
        "X-Content-Type-Options": "nosniff",
        "Referrer-Policy": "same-origin",  # told nothing, the server would take a form for another site's
        "Vary": "Accept-Encoding",
    }


@dataclass(frozen=True, slots=True)
class Page:
    """Hold the page of an app, at one of the paths that it is served at.

    Attributes:
        prefix: what comes before its own paths: the app's name with a slash before it, or nothing.
    """

    prefix: str
    folder: Path
    policy: str


def page_of(app: type[App], prefix: str) -> Page | None:
    """Return the page of an app that has one.

    Raises:
        DefinitionError: its folder, or its policy, is none.
    """
    folder, policy = app.page_folder(), app.static_policy
    if not isinstance(policy, Mapping) or not all(itertools.starmap(_is_directive, policy.items())):
        raise DefinitionError(
            f"{app.__qualname__}: expected static_policy as directives of a Content-Security-Policy by name, "
            f'{{"img-src": "\'self\' https://example.org"}}; got {policy!r}'
        )
    return None if folder is None else Page(prefix, folder, policy_of(policy))


def _is_directive(name: Any, sources: Any) -> bool:
    are_texts = isinstance(name, str) and isinstance(sources, str)
    return are_texts and bool(_DIRECTIVE.fullmatch(name) and _SOURCES.fullmatch(sources))


class Pages:
    """Answer for the pages of all apps that are served together.

    Args:
        apps: by their prefixes; one that is within another comes before it.
        reserved: paths at or below which no file of a page is served.
    """

    def __init__(self, apps: Mapping[str, type[App]], reserved: Collection[str]) -> None:
        self._pages = [page for prefix, app in apps.items() if (page := page_of(app, prefix)) is not None]
        self._reserved = tuple(f"{path}/" for path in reserved)
        self._clients = frozenset(prefix + CLIENT_PATH for prefix in apps)
        #: the paths that are pages whatever else is served: `/`, and an app's name with a slash at its end and without
        self.roots = frozenset(root for page in self._pages for root in (page.prefix or "/", f"{page.prefix}/"))

    async def find(self, request: Request) -> Response | None:
        """Return the file that a GET or HEAD asks for, or what leads there; None where there is none."""
        path = path_in(request.scope)
        if request.method not in _METHODS:
            return None
        if path in self._clients:
            return (await in_pool(_client)).answer(request)
        pages = [page for page in self._pages if f"{path}/".startswith(f"{page.prefix}/")]
        if not pages or self.is_reserved(path):
            return None
        if path == pages[0].prefix:
            return _to_folder(request)
        *folders, name = path.split("/")[1:]
        parts = [*folders, name or _INDEX]
        return await in_pool(_look_up, pages, parts, request) if all(map(_is_shown, parts)) else None

    def is_reserved(self, path: str) -> bool:
        """Say whether no file of a page can be at a path."""
        return f"{path}/".startswith(self._reserved)

    def paths(self) -> Iterator[str]:
        """Yield the paths of the files, of the first thousand of each page; reads the disk."""
        for page in self._pages:
            for file in itertools.islice(_files(page.folder), _CHECKED_FILES):
                *folders, name = file.relative_to(page.folder).parts
                yield "/".join((page.prefix, *folders, "" if name == _INDEX else name))


@cache
def _client() -> Asset:
    return Asset.of("client.js", (BUILT / "client.js").read_bytes())


def _files(folder: Path) -> Iterator[Path]:
    for place, folders, names in os.walk(folder):
        folders[:] = filter(_is_shown, folders)
        yield from (Path(place, name) for name in names if _is_shown(name))


def _is_shown(name: str) -> bool:
    """Say whether a file or folder of this name is served: what hides, or leads elsewhere, is not."""
    return name != "" and "\\" not in name and not name.startswith(".")


def _to_folder(request: Request) -> Response:
    """Lead to the same path with a slash at its end, without which a page's links would miss their folder."""
    name, query = request.scope["path"].rpartition("/")[2], request.scope["query_string"].decode("latin-1")
    return RedirectResponse(f"./{quote(name)}/" + (query and f"?{query}"))


def _look_up(pages: Sequence[Page], parts: list[str], request: Request) -> Response | None:
    """Return the file that a path names, or what leads to its folder; blocks.

    A folder of the first app's page may be called like an app: what is not that app's is looked for there.
    """
    return next(filter(None, (_look_into(page, parts[page.prefix.count("/") :], request) for page in pages)), None)


def _look_into(page: Page, parts: list[str], request: Request) -> Response | None:
    try:
        return _found(page, parts, request)
    except ValueError:  # there is a NUL in the path
        return None
    except OSError as error:
        if error.errno not in _ABSENT:
            raise
        return None


def _found(page: Page, parts: list[str], request: Request) -> Response | None:
    folder = os.path.realpath(page.folder)
    path = os.path.realpath(os.path.join(folder, *parts))
    if os.path.commonpath((folder, path)) != folder:  # a link leads out of it
        return None
    status = os.stat(path)
    if stat.S_ISDIR(status.st_mode):
        return _to_folder(request) if os.path.isfile(os.path.join(path, _INDEX)) else None
    if not stat.S_ISREG(status.st_mode):
        return None
    is_packed = is_text(content_type_of(path)) and status.st_size <= _MAX_PACKED_BYTES
    if is_packed and "range" not in request.headers:
        return _packed(path, status.st_mtime_ns, status.st_size).answer(request, policy=page.policy)
    return _from_disk(path, status, request, page.policy)


@lru_cache(maxsize=_PACKED_FILES)
def _packed(path: str, mtime_ns: int, size: int) -> Asset:
    return Asset.of(os.path.basename(path), Path(path).read_bytes())


def _from_disk(path: str, status: os.stat_result, request: Request, policy: str) -> Response:
    answer = _Looked(path, headers=_headers(policy), media_type=content_type_of(path), stat_result=status)
    if answer.headers["etag"] in request.headers.get("if-none-match", ""):
        return Response(status_code=304, headers=_headers(policy) | {"ETag": answer.headers["etag"]})
    return answer
