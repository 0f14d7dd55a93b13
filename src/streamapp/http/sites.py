"""Say which web pages may ask: those of this server, and of origins that are named in `cors_origins`.

A browser lets any page send simple requests to a server on the same machine, and lead there by a link; it marks them
with `Sec-Fetch-Site` (https://www.w3.org/TR/fetch-metadata/), but to plain http on a local network, where `Origin` and
`Referer` are all that it says. A page can also have its own name lead to this machine, and is of the same site then:
what that name is, `Host` says. Programs send none of these, or what they like: they need no browser to be lured.
"""

import math
import re
import socket
import time
from collections.abc import Awaitable, Collection
from functools import lru_cache
from urllib.parse import quote

from starlette.types import ASGIApp, Receive, Scope, Send

from ..addresses import address_in, is_loopback
from ..errors import ErrorReport
from ..process.logs import logger
from .call import header_in, path_in
from .middleware import FILES, refuse

#: in the scope, where a proxy's word stands in its place: the `Host` that the request came with
ASKED_HOST = "streamapp.asked_host"
_IS_LINK = "streamapp.is_link"  # True in the scope of a request to which a page of another site has led the browser
_OWN_SITES = (b"same-origin", b"none")
_NAME_IT = "name the page's origin in STREAMAPP_CORS_ORIGINS"
_HOST = re.compile(r"(?:\[([0-9a-f:.]+)\]|([\w.-]+?)\.?)(?::\d*)?", re.ASCII | re.IGNORECASE)
_MAX_NAME = 255
_ORIGIN = re.compile(r"[a-z][a-z0-9+.-]{0,40}://[\w.:\[\]-]{1,255}", re.ASCII)
# Nobody can have a public name below these: https://www.rfc-editor.org/rfc/rfc6761, and what ICANN says of `internal`,
# by which containers call their host. Nor one without a dot, as machines have in their own network.
_OWN_NAMES = ("*.localhost", "*.test", "*.internal")
_TOLD_EVERY_S = 60.0
_MAX_TOLD = 20
_MAX_SHOWN = 100


class _Log:
    """Log what was refused, once a minute for each page or host; of those that come, anybody can make up any number."""

    def __init__(self) -> None:
        self._told: dict[str, float] = {}

    def warn(self, about: str, message: str, *arguments: str) -> None:
        now = time.monotonic()
        if now - self._told.get(about, -math.inf) < _TOLD_EVERY_S:
            return
        self._told = {name: at for name, at in self._told.items() if now - at < _TOLD_EVERY_S}
        if len(self._told) < _MAX_TOLD:
            self._told[about] = now
            logger.warning(message, *arguments)


class CrossSite:
    """Refuse what web pages of other sites send without being named in `cors_origins`, and say so in the log.

    Following a link is allowed, as long as that starts no job (`NotByLink`); sending a form or embedding a frame, which
    navigate as well, is not. A page of the same site is answered, but cannot read it without CORS: that is logged too.
    A WebSocket it could read, as CORS is nothing to those: there it has to be of the same origin, or be named.
    """

    def __init__(self, app: ASGIApp, origins: Collection[str]) -> None:
        self.app = app
        self._origins = frozenset(origins)
        self._log = _Log()

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        """Let the request through, or answer 403."""
        if scope["type"] == "lifespan" or "*" in self._origins:
            return self.app(scope, receive, send)
        headers = dict(scope["headers"])
        site, origin = headers.get(b"sec-fetch-site"), headers.get(b"origin")
        told = origin or headers.get(b"referer")
        if site in _OWN_SITES or (site is None and told is None):  # most come from here, or from programs
            return self.app(scope, receive, send)
        page = (origin or _origin_of(told or b"")).decode("latin-1")
        site = site or _site_of(page, headers)
        if site in _OWN_SITES or page in self._origins:
            return self.app(scope, receive, send)
        if site == b"same-site" and scope["type"] == "http":
            if origin is not None:
                self._warn(scope, page, "is answered, but the page cannot read it")
        elif _is_link(scope, headers):
            scope = {**scope, _IS_LINK: True}
        elif not (_is_get(scope) and path_in(scope).startswith(FILES)):
            self._warn(scope, page, "is refused")
            error = ErrorReport(403, "cross_site", f"requests from other web sites are refused; {_NAME_IT}")
            return refuse(error, {}, scope, receive, send)
        return self.app(scope, receive, send)

    def _warn(self, scope: Scope, page: str, what: str) -> None:
        if _ORIGIN.fullmatch(page) is None:
            page, way = "without an origin", "serve it by http, in no sandboxed frame"
        else:
            way = f"if it is yours, write STREAMAPP_CORS_ORIGINS={','.join([*sorted(self._origins), page])}"
        self._log.warn(page, "a request to %s of a page %s %s: %s", _shown(scope), page, what, way)


def _shown(scope: Scope) -> str:
    """Return a request's path for the log, where it must not begin a line."""
    return quote(scope["path"][:_MAX_SHOWN])


def _origin_of(url: bytes) -> bytes:
    scheme, _, rest = url.partition(b"://")
    return scheme + b"://" + rest.partition(b"/")[0] if rest else b""


def _site_of(page: str, headers: dict[bytes, bytes]) -> bytes:
    """Say which site a page is of, where the browser does not."""
    host = headers.get(b"host", b"").decode("latin-1")
    # A port that goes without saying stands in no page's origin, and in some proxies' `Host`.
    bare = f"http://{host.removesuffix(':80')}", f"https://{host.removesuffix(':443')}"
    return b"same-origin" if page in ("", f"http://{host}", f"https://{host}", *bare) else b"cross-site"


def _is_get(scope: Scope) -> bool:
    return scope.get("method") in ("GET", "HEAD")


def _is_link(scope: Scope, headers: dict[bytes, bytes]) -> bool:
    """Say whether the browser follows a link, as far as it says what it does."""
    is_told = b"origin" in headers or b"sec-fetch-site" in headers
    return _is_get(scope) and (headers.get(b"sec-fetch-dest") == b"document" or not is_told)


class NotByLink:
    """Start no job for a link on a page of another site; the same address may be typed."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app
        self._log = _Log()

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        """Let the request through, or answer 403."""
        if not scope.get(_IS_LINK):
            return self.app(scope, receive, send)
        self._log.warn("", "a link on a page of another site leads to %s: it starts no job", _shown(scope))
        message = f"a link on a page of another site starts no job; enter the address yourself, or {_NAME_IT}"
        return refuse(ErrorReport(403, "cross_site", message), {}, scope, receive, send)


class Hosts:
    """Refuse requests for names that are not this machine's, where they come by loopback: DNS rebinding.

    Only where there is no key, which a page that was let in so would not have. An address cannot be another's name.

    Args:
        names: those that are this machine's as well, `*.example.org` with all that are below; `*` for all.
    """

    def __init__(self, app: ASGIApp, names: Collection[str]) -> None:
        self.app = app
        own = socket.gethostname().lower()
        called = (own, f"{own.partition('.')[0]}.local")  # the second in the network at hand alone, by mDNS
        self._names = frozenset((*_OWN_NAMES, *called, *(name.lower() for name in names)))
        self._log = _Log()
        self._knows = lru_cache(maxsize=64)(self._is_own)  # to read an address takes more than all else here

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        """Let the request through, or answer 403."""
        server = scope.get("server")  # what the connection has come to; a test's has a name
        if not server or not is_loopback(server[0]):
            return self.app(scope, receive, send)
        told: bytes | None = scope.get(ASKED_HOST, header_in(scope["headers"], b"host"))
        if not told or (len(told) <= _MAX_NAME and self._knows(told)):  # browsers always send one
            return self.app(scope, receive, send)
        host = told.decode("latin-1")
        name = _name_in(host[:_MAX_NAME]) or "<name>"
        message = (
            f"{host[:_MAX_SHOWN]!r} is no name of this machine; if a proxy or a tunnel of yours leads it here, write "
            f"STREAMAPP_ALLOWED_HOSTS={name}, or guard the server by STREAMAPP_API_KEY"
        )
        self._log.warn(name, "a request was refused: %s", message)
        return refuse(ErrorReport(403, "unknown_host", message), {}, scope, receive, send)

    def _is_own(self, host: bytes) -> bool:
        name = _name_in(host.decode("latin-1"))
        is_address = name.rpartition(".")[2].isdecimal() or address_in(name) is not None  # `127.1`, as curl sends it
        if name in self._names or "*" in self._names or is_address:
            return True
        first, *parts = name.split(".")
        is_bare = first != "" and not parts
        return is_bare or any("*." + ".".join(parts[n:]) in self._names for n in range(len(parts)))


def _name_in(host: str) -> str:
    """Return the name, or the address, in a `Host` header; "" where there is none."""
    match = _HOST.fullmatch(host)
    return "" if match is None else (match[1] or match[2]).lower()
