"""Know where the server is and how it is reached: what addresses are its own, by which proxy, where redirects may lead.

The key, cookies and the input go to the origin that the client was made for, and to no other. A redirect to another one
is followed without key and cookies, as browsers do; where it would carry the input along it is refused.

Divergence: httpx would read the proxies out of the environment by itself, but sends to this machine's own servers
through them, and fails, without naming the variable, on a `NO_PROXY` that curl takes.
"""

import ipaddress
import os
import re
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any
from urllib.request import getproxies

import httpx

from ._errors import ConnectionFailed, NoImage, NotSent, UnexpectedAnswer

# Any number of streams may be open. An idle connection is given up before uvicorn closes it, after 5 s: a request sent
# at that moment would fail.
_LIMITS = httpx.Limits(max_connections=None, max_keepalive_connections=20, keepalive_expiry=2.0)
# https://fetch.spec.whatwg.org/#http-redirect-fetch
_MAX_REDIRECTS = 20
# httpx does not limit what it decodes: these make a thousand times their input at most, and only one of them may do so.
_CODINGS = ("gzip", "deflate")
_SHOWN_CHARACTERS = 80


@dataclass(frozen=True, slots=True)
class Server:
    """Say where a server is.

    Attributes:
        url: its address, which ends with a slash.
        headers: what every request to it bears.
        proxy: by which it is reached, None for directly.
        name: both, for messages, without user and password.
    """

    url: httpx.URL
    headers: httpx.Headers
    proxy: httpx.Proxy | None
    name: str

    @classmethod
    def at(cls, url: str, key: str | None = None) -> "Server":
        """Read an address, and the environment's proxy for it.

        Raises:
            NotSent: the address, the key or the proxy is none.
        """
        address = _base(url)
        headers = {"Accept-Encoding": ", ".join(_CODINGS)}
        if key and (key != key.strip() or not key.isprintable()):
            raise NotSent("Expected a key, got one with spaces or line ends around or in it; write key.strip()")
        if key:
            headers["Authorization"] = f"Key {key}"
        name = str(address.copy_with(userinfo=b"")).rstrip("/")
        proxy = None if is_on_this_machine(address.host) else _proxy_for(address)
        if proxy is not None:
            name += f" through the proxy {proxy.url} ({_variable_of(address.scheme)})"
        return cls(address, httpx.Headers(headers, encoding="utf-8"), proxy, name)

    def options(
        self, transport: type[httpx.HTTPTransport] | type[httpx.AsyncHTTPTransport], verify: ssl.SSLContext | bool
    ) -> dict[str, Any]:
        """Return the arguments of a httpx client of one of both kinds."""
        return {"transport": transport(verify, limits=_LIMITS, proxy=self.proxy), "headers": self.headers}

    def address(self, path: str) -> httpx.URL:
        """Return where a path is; an absolute URL of the same server is one, too.

        Raises:
            NotSent: it is another server's, or none.
        """
        shown = f'Expected a path like "/stream", got {path[:_SHOWN_CHARACTERS]!r}'
        try:
            url = httpx.URL(path)
        except (httpx.InvalidURL, UnicodeError) as error:
            raise NotSent(f"{shown}: {error}") from None
        if url.is_absolute_url and origin_of(url) == origin_of(self.url):
            return self.url.copy_with(raw_path=url.raw_path)
        if url.is_absolute_url:
            raise NotSent(f"{shown}, which is not on {self.name}; make a client of that server's")
        address = self.url.copy_with(raw_path=self.url.raw_path + url.raw_path.lstrip(b"/"))
        if url.scheme or path.startswith(("//", "\\")) or not address.raw_path.startswith(self.url.raw_path):
            raise NotSent(shown)
        return address

    def file(self, url: str) -> str:
        """Return the address of a file of the server's; another server must never see the key.

        Raises:
            NoImage: it is on another server.
        """
        try:
            address = self.url.join(url)
        except (httpx.InvalidURL, ValueError):
            address = None
        if address is None or origin_of(address) != origin_of(self.url):
            raise NoImage(f"Expected a file on {self.name}, got {url[:_SHOWN_CHARACTERS]!r}; download it yourself")
        return str(address)

    @contextmanager
    def answering(self) -> Iterator[None]:
        """Raise ConnectionFailed where httpx finds no answer."""
        try:
            yield
        except httpx.RequestError as error:
            raise ConnectionFailed(f"No answer from {self.name}: {str(error) or type(error).__name__}") from error


class Redirects:
    """Decide where one request is led to.

    Args:
        server: the only one that gets key, cookies and input.
    """

    def __init__(self, server: Server) -> None:
        self._server = server
        self._followed = 0

    def next(self, response: httpx.Response) -> httpx.Request | None:
        """Return the request that an answer asks for instead; None for one that is the answer.

        Raises:
            UnexpectedAnswer: it leads nowhere, or to where it must not; or its body is coded so that it has no bound.
        """
        request = response.next_request
        if request is None:
            _check_coding(response)
            return None
        self._followed += 1
        if self._followed > _MAX_REDIRECTS:
            raise _unexpected(response, f"more than {_MAX_REDIRECTS} redirects, the last to {shown_url(request.url)}")
        before, scheme = response.url.scheme, request.url.scheme
        if scheme not in ("http", "https") or (before, scheme) == ("https", "http"):
            raise _unexpected(response, f"a redirect to {shown_url(request.url)}, which is not safe to follow")
        if origin_of(request.url) != origin_of(self._server.url):
            self._check_upgrade(response, request.url)
            if _carries_input(request):
                raise _unexpected(
                    response,
                    f"a redirect to {shown_url(request.url)}, which gets no input of yours; "
                    "if it is meant to, make a client of that server's",
                )
            for name in ("Authorization", "Cookie"):
                request.headers.pop(name, None)
        return request

    def _check_upgrade(self, response: httpx.Response, url: httpx.URL) -> None:
        """Refuse to ask by https without the input and the key that went out by http."""
        asked = response.request
        if (asked.url.scheme, asked.url.host, url.scheme) != ("http", url.host, "https"):
            return
        if _carries_input(asked) or "Authorization" in asked.headers:
            secure = str(self._server.url.copy_with(scheme="https", port=url.port, userinfo=b"")).rstrip("/")
            raise _unexpected(response, f'a redirect to {shown_url(url)}; write Client("{secure}")')


def origin_of(url: httpx.URL) -> tuple[str, str, int | None]:
    """Return what must be the same for two addresses to be one server's; httpx knows the usual ports."""
    return url.scheme, url.host, url.port


def _carries_input(request: httpx.Request) -> bool:
    """Say whether an input goes with a request, or behind it, over the socket that it opens."""
    return request.method != "GET" or "Upgrade" in request.headers


def _check_coding(response: httpx.Response) -> None:
    coding = response.headers.get("Content-Encoding", "").strip().lower()
    if coding not in ("", "identity", *_CODINGS):
        raise _unexpected(response, f"the Content-Encoding {coding[:_SHOWN_CHARACTERS]!r}, which was not asked for")


def _unexpected(response: httpx.Response, got: str) -> UnexpectedAnswer:
    return UnexpectedAnswer(
        f"Expected an answer from {shown_url(response.url)}, got {got}", status_code=response.status_code
    )


def shown_url(url: httpx.URL) -> str:
    """Return an address for messages: without user, password and query, where a key may stand."""
    return str(url.copy_with(userinfo=b"", query=None, fragment=None))[:_SHOWN_CHARACTERS]


def _base(url: str) -> httpx.URL:
    try:
        address = httpx.URL(url)
    except (httpx.InvalidURL, UnicodeError):
        address = httpx.URL()
    if address.scheme not in ("http", "https") or not _names_a_host(address) or address.query or address.fragment:
        shown = re.sub(r"//.*@", "//...@", str(url)[:_SHOWN_CHARACTERS])
        raise NotSent(f'Expected a URL like "http://127.0.0.1:8000", got {shown!r}')
    return address.copy_with(path=address.path.rstrip("/") + "/", query=None, fragment=None)


def _names_a_host(url: httpx.URL) -> bool:
    """Say what httpx does not look at; it takes "http://[" for a host of that name."""
    is_name = bool(url.host) and (":" in url.host or "%" not in url.host)
    return is_name and (url.port or 0) < 1 << 16


# Proxies


def is_on_this_machine(host: str) -> bool:
    """Say whether a host means this machine, which no proxy can reach for us."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host.rstrip(".") == "localhost" or host.rstrip(".").endswith(".localhost")
    return address.is_loopback or address.is_unspecified


def _proxy_for(address: httpx.URL) -> httpx.Proxy | None:
    """Return the environment's proxy for an address.

    Raises:
        NotSent: the environment names none that can be used.
    """
    proxies = getproxies()
    url = (proxies.get(address.scheme) or proxies.get("all", "")).strip()
    if not url or _is_excepted(address, proxies.get("no", "")):
        return None
    variable = _variable_of(address.scheme)
    try:
        proxy = httpx.Proxy(url if "://" in url else f"http://{url}")
    except (httpx.InvalidURL, ValueError):
        proxy = None
    if proxy is None or not _names_a_host(proxy.url):  # which is not shown: there may be a password in it
        raise NotSent(f'{variable}: Expected a URL like "http://127.0.0.1:3128"; mend it, or unset it')
    if proxy.url.scheme.startswith("socks") and find_spec("socksio") is None:
        raise NotSent(f'{variable} names a SOCKS proxy, which needs an extra; write pip install "httpx[socks]"')
    return proxy


def _variable_of(scheme: str) -> str:
    names = (name for lower in (f"{scheme}_proxy", "all_proxy") for name in (lower, lower.upper()))
    return next((name for name in names if os.environ.get(name)), "the settings of this machine")


def _is_excepted(address: httpx.URL, no_proxy: str) -> bool:
    return any(_excepts(item, address) for item in no_proxy.lower().replace(",", " ").split())


def _excepts(item: str, address: httpx.URL) -> bool:
    """Say whether an item of `NO_PROXY` means an address: all, a network, a domain with all below it, a port of these.

    Source: the forms that curl, requests and Go take. One that is none of them means nothing.
    """
    if item == "*":
        return True
    item = item.partition("://")[2] or item
    host, _, port = item.rpartition(":")
    if host and port.isdecimal() and (":" not in host or host.endswith("]")):
        if int(port) != (address.port or {"http": 80, "https": 443}[address.scheme]):
            return False
        item = host
    name = item.strip("[]").removeprefix("*").removeprefix(".").rstrip(".")
    try:
        return ipaddress.ip_address(address.host) in ipaddress.ip_network(name, strict=False)
    except ValueError:
        return bool(name) and f".{address.host.rstrip('.')}".endswith(f".{name}")
