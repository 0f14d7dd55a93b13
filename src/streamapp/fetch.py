"""Get the content of an input's media: decode base64, download, read what is stored, and verify it, within limits.

`resolve_media` runs when an input's form has been checked, and puts a `File` in the place of each `MediaReference`.
Downloads reach no private address unless the limits allow it, also not by a redirect or a name that changes.
"""

import asyncio
import contextvars
import copy
import dataclasses
import functools
import re
import ssl
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import aclosing, asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from types import NoneType
from typing import TYPE_CHECKING, Any, Protocol, Self, TypeVar, cast
from urllib.parse import unquote, urlsplit

from pydantic import BaseModel

from .addresses import is_public_address, look_up
from .budget import Take, uncounted
from .errors import DownloadTimeout, InvalidInput, Unavailable
from .largefile import LargeFile, LargeReference, Spooled
from .later import module
from .media import File, Image, MediaReference, is_data_uri, shown
from .process.threads import DaemonPool, in_pool
from .settings import Settings, get_settings

if TYPE_CHECKING:
    import httpx
else:
    httpx = module("httpx")  # 60 ms, for which a thread waits, not the loop: see `transport_to`

T = TypeVar("T")

_MAX_REDIRECTS = 5
_PLAIN = frozenset({str, int, float, bool, NoneType})  # there can be a million of them
_TURN = 500  # values that are looked at, 2 ms, before the loop does something else
# Images that are checked at once: one of 260 kB and 64 megapixels takes 512 MiB meanwhile. They have threads of their
# own, as a limiter would count no longer what a request that timed out has left behind.
_MAX_CHECKED = 4
_checking = DaemonPool(_MAX_CHECKED, "check-image")
# Of a JPEG, where progressive ones have ten: each goes over all pixels, so that 4 kB more are 0.1 s more at the limit.
_MAX_SCANS = 50
_MARKER = re.compile(rb"\xff[^\x00\x01\xd0-\xd7\xff]")  # those that a segment with its length follows
_SCAN, _END = 0xDA, 0xD9
_CONNECTS_S = 10.0  # to a host, the TLS handshake included
_TRIES_S = 3.0  # to one of its addresses where there are others: a network may have no way to those of IPv6


class KeptFile(Protocol):
    """Be a file of the server's own."""

    path: Path
    content_type: str


FindKept = Callable[[str], KeptFile | None]


@dataclass(frozen=True, slots=True)
class MediaLimits:
    """Limit what the media of an input may cost.

    Args:
        max_bytes: of all media of one input together, encoded; else a list of URLs would multiply it.
        max_pixels: of each image, from its header. Above 178 million Pillow's own guard refuses as well.
        timeout_s: for fetching and verifying all media of one input.
        allow_private_urls: also download from loopback and local networks.
        stored: returns the server's own file that a URL names, which is not downloaded; it may block.
    """

    max_bytes: int
    max_pixels: int
    timeout_s: float
    allow_private_urls: bool
    stored: FindKept | None = None

    @classmethod
    def of(cls, settings: Settings, stored: FindKept | None = None) -> Self:
        """Return the limits that a deployment sets."""
        return cls(
            stored=stored,
            max_bytes=settings.max_media_bytes,
            max_pixels=settings.max_image_pixels,
            timeout_s=settings.media_timeout_s,
            allow_private_urls=settings.allow_private_urls,
        )


_limits: contextvars.ContextVar[MediaLimits | None] = contextvars.ContextVar("streamapp_limits", default=None)


def limit_by(limits: MediaLimits) -> None:
    """In this context, let what is fetched for user code be limited by `limits`."""
    _limits.set(limits)


def limits_here() -> MediaLimits:
    """Return the limits of this context; outside of any, those of the process's settings."""
    return _limits.get() or MediaLimits.of(get_settings())


async def resolve_media(
    value: T,
    *,
    limits: MediaLimits,
    fetched: "dict[Any, File] | None" = None,
    take: Take = uncounted,
) -> T:
    """Return the validated input with all media fetched and verified; runs on the event loop, decodes in threads.

    Walks models, dataclasses, dicts and sequences. Private addresses are refused unless the limits allow them.

    Args:
        fetched: takes what did not stand in the input itself, by its URL or its upload.
        take: is told of bytes before they are kept, as a request's `Share` is.
    Raises:
        InvalidInput: media that is unreachable, too large or damaged; names the field.
        DownloadTimeout: its host is too slow.
        Unavailable: this server is.
    """
    resolver = _Resolver(limits, limits.max_bytes, {} if fetched is None else fetched, take)
    try:
        async with asyncio.timeout(limits.timeout_s):
            resolved: T = await resolver.walk(value, ())
            return resolved
    except TimeoutError:
        took = f"the input's media took longer than {limits.timeout_s:g} s to fetch and verify"
        if resolver.downloads is None:
            raise Unavailable(f"{took}, as the server is busy; try again", retry_after_s=1) from None
        raise DownloadTimeout(f"{took} (from {resolver.downloads})") from None


@dataclass(slots=True)
class _Resolver:
    """Walk one input and count down the bytes that its media may still have; `take` counts those of all inputs.

    Attributes:
        downloads: what it waits for, where that is another host.
    """

    limits: MediaLimits
    bytes_left: int
    fetched: dict[Any, File]
    take: Take
    downloads: str | None = None
    walked: int = 0

    async def walk(self, value: Any, path: tuple[str, ...]) -> Any:
        self.walked += 1
        if self.walked % _TURN == 0:
            await asyncio.sleep(0)
        match value:
            case File() | MediaReference() | LargeReference():
                return await self._settle(value, path)
            case LargeFile():
                return value
            case BaseModel():
                resolved = value.model_copy()
                # Not `model_copy(update=...)`, which marks every field as set: `exclude_unset` must stay true.
                resolved.__dict__.update(await self.walk(value.__dict__, path))
                return resolved
            case dict():
                return {
                    key: item if type(item) in _PLAIN else await self.walk(item, (*path, str(key)))
                    for key, item in value.items()
                }
            case list() | tuple() | set() | frozenset():
                make = getattr(value, "_make", type(value))  # a NamedTuple's own constructor takes no list
                return make(
                    [
                        item if type(item) in _PLAIN else await self.walk(item, (*path, str(n)))
                        for n, item in enumerate(value)
                    ]
                )
            case _ if dataclasses.is_dataclass(value) and not isinstance(value, type):
                return await self._walk_dataclass(value, path)
        return value

    async def _walk_dataclass(self, value: Any, path: tuple[str, ...]) -> Any:
        resolved = copy.copy(value)  # not `replace`, which would run `__post_init__` again
        for name in (field.name for field in dataclasses.fields(value) if hasattr(value, field.name)):
            object.__setattr__(resolved, name, await self.walk(getattr(value, name), (*path, name)))  # it may be frozen
        return resolved

    async def _settle(self, value: File | MediaReference | LargeReference, path: tuple[str, ...]) -> File | LargeFile:
        try:
            if isinstance(value, LargeReference):
                return await self._find(value.media)
            media = await self._load(value) if isinstance(value, MediaReference) else value
            if isinstance(media, Image):
                loop = asyncio.get_running_loop()
                await loop.run_in_executor(_checking, _verify, media, self.limits.max_pixels)
            return media
        except (ValueError, OSError) as error:
            reference = value.media if isinstance(value, LargeReference) else value
            came = shown(reference.source if isinstance(reference, MediaReference) else reference)
            is_late = isinstance(error, TimeoutError)
            reason = str(error) or ("the host does not answer" if is_late else type(error).__name__)
            refusal = DownloadTimeout if is_late else InvalidInput
            raise refusal(f"{'.'.join(path) or 'input'}: {reason[:200]} (from {came})") from error

    async def _find(self, reference: MediaReference) -> LargeFile:
        """Leave on the disk what is there; what is in the input, or elsewhere, is within the limits of media."""
        content_type, name = reference.content_type, reference.file_name
        match reference.source:
            case str() as url if (
                not is_data_uri(url)
                and self.limits.stored is not None
                and (own := await in_pool(self.limits.stored, url))
            ):
                return await in_pool(LargeFile.at, own.path, content_type or own.content_type, name or _name_in(url))
            case Spooled() as spooled:
                return LargeFile(spooled, spooled.size or 0, content_type, name)
        return LargeFile.of(await self._load(reference))

    async def _load(self, reference: MediaReference) -> File:
        is_fetched = is_spent = False
        match reference.source:
            case bytes() as data:
                content_type = ""
            case str() as uri if is_data_uri(uri):
                self._spend(len(uri) * 3 // 4)
                return await in_pool(reference.kind.from_data_uri, uri, reference.file_name)
            case str() as url if self.limits.stored is not None and (own := await in_pool(self.limits.stored, url)):
                data = await in_pool(_read_up_to, own.path, self.bytes_left + 1)
                content_type = own.content_type
            case str() as url:
                self.downloads = shown(url)
                data, content_type = await _download(url.strip(), self._spend, self.limits.allow_private_urls)
                self.downloads, is_fetched, is_spent = None, True, True
            case upload:
                data, content_type = await upload.read(self.bytes_left + 1), ""
                is_fetched = True
        if not is_spent:
            self._spend(len(data))
        content_type = reference.content_type or content_type
        file = await in_pool(reference.kind, data, content_type, reference.file_name)
        if is_fetched:
            self.fetched[reference.source] = file
        return file

    def _spend(self, size: int) -> None:
        if size > self.bytes_left:
            limit = f"{self.limits.max_bytes} bytes (STREAMAPP_MAX_MEDIA_BYTES)"
            raise ValueError(f"the media of one input must not exceed {limit}")
        self.take(size)
        self.bytes_left -= size


def _name_in(url: str) -> str:
    return unquote(urlsplit(url).path.rpartition("/")[2])


def _read_up_to(path: Path, size: int) -> bytes:
    with path.open("rb") as file:
        return file.read(size)


async def _download(url: str, spend: Take, allow_private: bool) -> tuple[bytes, str]:
    """Return the body, whose pieces `spend` is told of as they come, and its content type.

    Raises:
        ValueError, OSError: it cannot be had; TimeoutError where its host is too slow.
    """
    body = bytearray()
    with _plain_errors():
        async with open_url(url, allow_private=allow_private) as response:
            async for chunk in response.aiter_raw():
                spend(len(chunk))
                body += chunk
    return bytes(body), response.headers.get("Content-Type", "").partition(";")[0].strip()


@contextmanager
def _plain_errors() -> Iterator[None]:
    """Turn what httpx raises into what those raise who read elsewhere, and do not know it."""
    try:
        yield
    except httpx.TimeoutException as error:
        raise TimeoutError(str(error)) from error
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise OSError(str(error) or type(error).__name__) from error


@asynccontextmanager
async def open_url(
    url: str, *, allow_private: bool, headers: Mapping[str, str] | None = None, timeout_s: float | None = None
) -> "AsyncIterator[httpx.Response]":
    """Request a URL and give the answer with its body unread, redirects followed.

    Args:
        allow_private: also connect to loopback and local networks.
        timeout_s: for each wait for more data.
    Raises:
        ValueError: the answer's status is not 200, or it is compressed, or the address is private.
        Unavailable: too many names are being looked up.
        httpx.HTTPError, OSError: there is no answer.
    """
    own = {"Accept-Encoding": "identity", "User-Agent": "streamapp"}
    transport = await transport_to(allow_private=allow_private)
    # httpx's own redirects read bodies unbounded.
    async with httpx.AsyncClient(transport=transport, headers=own, timeout=timeout_s, trust_env=False) as client:
        request = client.build_request("GET", url, headers=headers)
        for _ in range(_MAX_REDIRECTS + 1):
            async with aclosing(await client.send(request, stream=True)) as response:
                if response.next_request is None:
                    _check_answer(response)
                    yield response
                    return
                request = response.next_request
    raise ValueError(f"expected at most {_MAX_REDIRECTS} redirects")


async def transport_to(*, allow_private: bool, connects_s: float | None = None) -> "httpx.AsyncBaseTransport":
    """Return what connects to a host, whose name is looked up in the server's own threads; it keeps no connection.

    Args:
        allow_private: also connect to loopback and local networks.
        connects_s: how long that may take at the last of its addresses, the TLS handshake included; 10 when None.
    """
    return await in_pool(_make_transport, allow_private, connects_s or _CONNECTS_S)


def _make_transport(allow_private: bool, connects_s: float) -> "httpx.AsyncBaseTransport":
    return cast("httpx.AsyncBaseTransport", _CheckedTransport(_tls_context(), allow_private, connects_s))


def _check_answer(response: "httpx.Response") -> None:
    if response.status_code != 200:
        raise ValueError(f"expected status 200, the URL answered {response.status_code}")
    if (encoding := response.headers.get("Content-Encoding", "identity")) != "identity":
        # A few kilobytes of gzip can hold gigabytes.
        raise ValueError(f"expected an uncompressed answer, the URL sent Content-Encoding: {encoding}")


class _CheckedTransport:
    """Look a host up once, refuse it unless public, and connect to the very addresses that were checked.

    A second look-up could answer otherwise (DNS rebinding). `Host` and the certificate stay those of the name. It has
    what `async with httpx.AsyncClient` asks of a transport, and one inside: derived from that, it would need httpx at
    import.
    """

    def __init__(self, tls: ssl.SSLContext, allow_private: bool, connects_s: float = _CONNECTS_S) -> None:
        # No connection is kept: it would be reused by address, for another name than its certificate's.
        unkept = httpx.Limits(max_keepalive_connections=0)
        self._pinned = httpx.AsyncHTTPTransport(verify=tls, trust_env=False, limits=unkept)
        self._allow_private = allow_private
        self._connects_s = connects_s

    async def __aenter__(self) -> Self:
        await self._pinned.__aenter__()
        return self

    async def __aexit__(self, *exception: Any) -> None:
        await self._pinned.__aexit__(*exception)

    async def handle_async_request(self, request: "httpx.Request") -> "httpx.Response":
        *others, last = await self._addresses(request.url.raw_host)
        for address in others:
            with suppress(httpx.ConnectError, httpx.ConnectTimeout):
                return await self._send(request, address, _TRIES_S)
        return await self._send(request, last, self._connects_s)

    async def _addresses(self, host: bytes) -> list[str]:
        addresses = await look_up(host)
        if not self._allow_private and not all(map(is_public_address, addresses)):
            raise ValueError("expected a public address (STREAMAPP_ALLOW_PRIVATE_URLS=true allows others)")
        return _by_turns(addresses)

    async def _send(self, request: "httpx.Request", address: str, connect_s: float) -> "httpx.Response":
        url = request.url.copy_with(host=address)
        timeouts = {**request.extensions["timeout"], "connect": connect_s}
        extensions = {**request.extensions, "timeout": timeouts, "sni_hostname": request.url.raw_host.decode()}
        pinned = httpx.Request(
            request.method, url, headers=request.headers, stream=request.stream, extensions=extensions
        )
        return await self._pinned.handle_async_request(pinned)


def _by_turns(addresses: list[str]) -> list[str]:
    """Return addresses of IPv6 and of IPv4 by turns: most often all of the one are reached, or none."""
    same = [address for address in addresses if (":" in address) == (":" in addresses[0])]
    others = [address for address in addresses if address not in same]
    return [address for pair in zip_longest(same, others) for address in pair if address is not None]


@functools.cache
def _tls_context() -> ssl.SSLContext:
    # 27 ms to read the root certificates; `SSL_CERT_FILE` of the deployment counts.
    return httpx.create_ssl_context()


def _verify(image: Image, max_pixels: int) -> None:
    if image.width * image.height > max_pixels:
        limit = f"{max_pixels} pixels (STREAMAPP_MAX_IMAGE_PIXELS)"
        raise ValueError(f"expected at most {limit}, got {image.width}x{image.height}")
    if image.content_type == "image/jpeg" and (scans := _scans(image.data)) > _MAX_SCANS:
        raise ValueError(f"expected at most {_MAX_SCANS} scans in a JPEG, got {scans}")
    image.to_pil()


def _scans(jpeg: bytes) -> int:
    scans, at = 0, 2
    while (marker := _MARKER.search(jpeg, at)) and marker[0][1] != _END:
        scans += marker[0][1] == _SCAN
        at = marker.end() + int.from_bytes(jpeg[marker.end() : marker.end() + 2])
    return scans
