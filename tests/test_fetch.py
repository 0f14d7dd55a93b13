"""The content of media: what is downloaded, read and verified, and what is refused."""

import asyncio
import contextvars
import gzip
import socket
import ssl
import textwrap
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import anyio
import PIL.Image
import pytest
import trustme
from pydantic import BaseModel, TypeAdapter
from tests.at_work import Gate
from tests.pictures import NOISE, PNG, PNG_URI, Attachment, In, Part, encoded, picture, png_header, upload
from tests.waiting import WAIT_S

from streamapp.errors import DownloadTimeout, InvalidInput, Unavailable
from streamapp.fetch import MediaLimits, _CheckedTransport, limit_by, limits_here, resolve_media
from streamapp.fetch import _tls_context as tls_context
from streamapp.largefile import LargeFile
from streamapp.media import File, Image, MediaReference
from streamapp.settings import Settings, get_settings

LIMITS = MediaLimits(max_bytes=1_000_000, max_pixels=1_000_000, timeout_s=10, allow_private_urls=True)
PUBLIC_ONLY = replace(LIMITS, allow_private_urls=False)
WAV = b"RIFF\x24\0\0\0WAVEfmt "


# Content


@pytest.mark.parametrize("end", ["", "\n", "#fragment"])
async def test_a_data_uri_may_be_wrapped_and_have_no_padding(end: str) -> None:
    wrapped = "\n".join(textwrap.wrap(PNG_URI.partition(",")[2].rstrip("="), 76))
    given = In.model_validate({"photo": f"\ndata:image/png; charset=utf-8;base64,{wrapped}{end}"})
    assert (await resolve_media(given, limits=LIMITS)).photo.data == PNG


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        ({"photo": b"hello"}, "photo: expected a PNG, .*got 5 bytes of unknown type .from 5 bytes"),
        ({"photo": "data:image/png;base64,a"}, 'photo: .*base64.* .from "data:image/png;base64,a"'),
        ({"photo": NOISE[:-1000]}, "photo: expected a whole image"),
        ({"photo": upload(b"", name="no.png")}, 'photo: expected a PNG, .*from upload "no.png"'),
        ({"photo": png_header(1001, 1000)}, "photo: expected at most 1000000 pixels .*, got 1001x1000"),
        ({"photo": png_header(30_000, 30_000)}, "photo: expected a whole image, cannot decode this image/png: .*bomb"),
        ({"photo": PNG, "many": [PNG, b"?"]}, "many.1: expected a PNG"),
        ({"photo": PNG, "clip": {"url": "data:,hello"}}, "clip: expected WAV"),
        ({"photo": PNG, "clip": "data:" + "," * 2_000_000}, "clip: the media of one input must not exceed"),
        ({"photo": PNG, "clip": upload(b"x" * 1_000_001)}, "clip: the media of one input must not exceed 1000000"),
        ({"photo": PNG, "many": [PNG + bytes(400_000)] * 3}, "many.2: the media of one input must not exceed"),
    ],
)
async def test_content_that_cannot_be_used_is_refused_by_field(given: dict[str, Any], problem: str) -> None:
    with pytest.raises(InvalidInput, match=problem) as refused:
        await resolve_media(In.model_validate(given), limits=LIMITS)
    assert len(str(refused.value)) < 300


async def test_no_more_than_a_few_images_are_decoded_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each of 64 megapixels takes 512 MiB; one colour of them are 260 kB to send."""
    image, gate, threads, open_image = Image(PNG), threading.Event(), set[int](), PIL.Image.open

    def open_behind_the_gate(*arguments: Any, **options: Any) -> PIL.Image.Image:
        threads.add(threading.get_ident())
        assert gate.wait(WAIT_S)
        return open_image(*arguments, **options)

    monkeypatch.setattr(PIL.Image, "open", open_behind_the_gate)
    resolving = [asyncio.create_task(resolve_media(image, limits=LIMITS)) for _ in range(10)]
    await anyio.wait_all_tasks_blocked()
    gate.set()
    assert await asyncio.gather(*resolving) == [image] * 10
    assert len(threads) <= 4


def progressive(scans: int, *, between: bytes = b"") -> bytes:
    """A JPEG whose last scan comes again and again."""
    jpeg = encoded(picture(), "JPEG", progressive=True)
    last = jpeg[jpeg.rindex(b"\xff\xda") : -2]
    return jpeg[:-2] + (between + last) * (scans - jpeg.count(b"\xff\xda")) + jpeg[-2:]


@pytest.mark.parametrize("between", [b"", b"\xff\xff", b"\xff\x01", b"\xff\xfe\x00\x05\xff\xda\xff"])
async def test_a_jpeg_of_very_many_scans_is_refused(between: bytes) -> None:
    """One of 270 kB took 7 s to decode, one of 50 MB would take a quarter of an hour."""
    with pytest.raises(InvalidInput, match="input: expected at most 50 scans in a JPEG, got 51"):
        await resolve_media(Image(progressive(51, between=between)), limits=LIMITS)
    image = Image(progressive(50) + progressive(50))  # as cameras append other pictures
    assert await resolve_media(image, limits=LIMITS) is image


async def test_an_input_that_is_itself_media_is_named_input() -> None:
    with pytest.raises(InvalidInput, match=r"input: expected at most 10 pixels .*got 6x4 .from Image"):
        await resolve_media(Image(PNG), limits=replace(LIMITS, max_pixels=10))


async def test_the_walk_reaches_models_and_containers_and_leaves_the_rest() -> None:
    class Deep(BaseModel):
        models: dict[str, list[In]]
        pair: tuple[Image, int]
        part: Part
        unique: set[File]
        note: str = "kept"

    given = {
        "models": {"a": [{"photo": PNG_URI}]},
        "pair": [PNG_URI, 7],
        "part": ["data:text/plain,hi", 8],
        "unique": ["data:text/plain,hi"],
    }
    resolved = await resolve_media(Deep.model_validate(given), limits=LIMITS)
    assert resolved.models["a"][0].photo == resolved.pair[0] == Image(PNG)
    assert resolved.part == Part(File(b"hi", "text/plain"), 8)
    assert (resolved.pair[1], resolved.unique, resolved.note) == (7, {File(b"hi", "text/plain")}, "kept")


async def test_the_walk_reaches_dataclasses_and_makes_none_anew() -> None:
    made = []

    @dataclass
    class Plain:
        photo: Image
        kind: str = field(init=False)

        def __post_init__(self) -> None:
            made.append(self)

    @dataclass(frozen=True, slots=True)
    class Frozen:
        plain: Plain
        note: str = "kept"

    given = TypeAdapter(list[Frozen]).validate_python([{"plain": {"photo": PNG_URI}}])
    (resolved,) = await resolve_media(given, limits=LIMITS)
    assert (resolved.plain.photo, resolved.note, len(made)) == (Image(PNG), "kept", 1)
    assert isinstance(given[0].plain.photo, MediaReference)


async def test_a_class_among_the_values_is_left_as_it_is() -> None:
    assert await resolve_media({"kind": Part, "class": MediaLimits}, limits=LIMITS) == {
        "kind": Part,
        "class": MediaLimits,
    }


async def test_resolving_marks_no_field_as_set() -> None:
    resolved = await resolve_media(In.model_validate({"photo": PNG}), limits=LIMITS)
    assert resolved.model_fields_set == {"photo"}


# Downloads, from a real server on loopback

Answer = Callable[[str, asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


def http(body: bytes, *headers: str, status: str = "200 OK") -> Answer:
    """An answer that is the same for every path."""

    async def answer(request: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = "\r\n".join([f"HTTP/1.1 {status}", "Connection: close", *headers])
        writer.write(head.encode() + b"\r\n\r\n" + body)

    return answer


@asynccontextmanager
async def server(answer: Answer, *, tls: ssl.SSLContext | None = None) -> AsyncIterator[tuple[int, list[str]]]:
    """Serve `answer` on 127.0.0.1; gives the port and the requests' heads as they come in."""
    requests: list[str] = []
    connections: list[asyncio.Task[None] | None] = []

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connections.append(asyncio.current_task())
        requests.append((await reader.readuntil(b"\r\n\r\n")).decode())
        with suppress(ConnectionError):  # the client left, as some tests want
            await answer(requests[-1], reader, writer)
            await writer.drain()
            writer.close()
            await writer.wait_closed()

    listening = await asyncio.start_server(handle, "127.0.0.1", 0, ssl=tls)
    async with listening:
        yield listening.sockets[0].getsockname()[1], requests
        await asyncio.gather(*filter(None, connections))


async def download(url: str, limits: MediaLimits = LIMITS) -> File:
    return (await resolve_media(Attachment.model_validate({"file": url}), limits=limits)).file


async def test_a_url_is_downloaded_with_its_content_type() -> None:
    async with server(http(b"solid", "Content-Type: model/stl; charset=x")) as (port, requests):
        file = await download(f"http://127.0.0.1:{port}/a.stl?b=c")
    assert file == File(b"solid", "model/stl")
    assert requests[0].startswith("GET /a.stl?b=c HTTP/1.1\r\n")


async def test_the_content_type_that_the_input_names_wins() -> None:
    async with server(http(b"solid", "Content-Type: text/html")) as (port, _):
        given = {"file": {"url": f"http://127.0.0.1:{port}/", "content_type": "model/stl"}}
        resolved = await resolve_media(Attachment.model_validate(given), limits=LIMITS)
    assert resolved.file.content_type == "model/stl"


async def test_a_page_in_the_place_of_an_image_is_refused() -> None:
    async with server(http(b"<html>", "Content-Type: text/html")) as (port, _):
        given = In.model_validate({"photo": f"http://127.0.0.1:{port}/cat"})
        with pytest.raises(InvalidInput, match=r"photo: expected a PNG, .*got 6 bytes of text/html .from .http://127"):
            await resolve_media(given, limits=LIMITS)


async def test_a_status_other_than_200_is_refused() -> None:
    async with server(http(b"", status="404 Not Found")) as (port, _):
        with pytest.raises(InvalidInput, match=r"file: expected status 200, the URL answered 404 .from"):
            await download(f"http://127.0.0.1:{port}/")


async def test_an_endless_body_without_a_length_is_cut_off() -> None:
    async def endless(request: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
        while True:
            writer.write(bytes(100_000))
            await writer.drain()

    async with server(endless) as (port, _):
        with pytest.raises(InvalidInput, match="file: the media of one input must not exceed 1000000 bytes"):
            await download(f"http://127.0.0.1:{port}/")


async def test_what_is_fetched_is_told_of_before_it_is_kept() -> None:
    taken = list[int]()

    def take(size: int) -> None:
        taken.append(size)
        if sum(taken) > 300_000:
            raise Unavailable("no more")

    async with server(http(bytes(500_000))) as (port, _):
        for given in (f"http://127.0.0.1:{port}/", "data:," + "a" * 500_000, upload(bytes(500_000))):
            with pytest.raises(Unavailable):
                await resolve_media(Attachment.model_validate({"file": given}), limits=LIMITS, take=take)
            assert sum(taken) > 300_000
            taken.clear()


async def test_the_loop_goes_on_while_a_large_input_is_looked_through() -> None:
    turns = 0

    async def count() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    counting = asyncio.create_task(count())
    await resolve_media([[] for _ in range(10_000)], limits=LIMITS)
    counting.cancel()
    assert turns > 10


async def test_numbers_beside_media_are_left_as_they_are() -> None:
    given = {"file": "data:,a", "n": [1, 0.5, "a", None, True]}
    resolved = await resolve_media(TypeAdapter(dict[str, File | list[Any]]).validate_python(given), limits=LIMITS)
    assert resolved == {"file": File(b"a"), "n": given["n"]}


async def test_a_compressed_body_is_refused_because_it_can_be_a_bomb() -> None:
    async with server(http(gzip.compress(bytes(100)), "Content-Encoding: gzip")) as (port, requests):
        with pytest.raises(InvalidInput, match="expected an uncompressed answer, the URL sent Content-Encoding: gzip"):
            await download(f"http://127.0.0.1:{port}/")
    assert "accept-encoding: identity" in requests[0].lower()


async def test_a_server_that_does_not_answer_is_given_up() -> None:
    async def silent(request: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()  # until the client leaves

    async with server(silent) as (port, _):
        with pytest.raises(DownloadTimeout, match=r"took longer than 0.2 s .* .from .http://127") as refused:
            await download(f"http://127.0.0.1:{port}/", replace(LIMITS, timeout_s=0.2))
    assert refused.value.retryable


async def test_a_server_that_sends_drop_by_drop_is_given_up() -> None:
    async def dripping(request: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
        while not reader.at_eof():
            writer.write(b"x")
            with suppress(TimeoutError):
                await asyncio.wait_for(reader.read(), 0.02)

    async with server(dripping) as (port, _):
        with pytest.raises(DownloadTimeout, match=r"took longer than 0.3 s"):
            await download(f"http://127.0.0.1:{port}/", replace(LIMITS, timeout_s=0.3))


async def test_a_handshake_that_does_not_go_on_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("streamapp.fetch._CONNECTS_S", 0.2)
    async with silent_port("127.0.0.1") as port:
        with pytest.raises(DownloadTimeout, match="file: the host does not answer .from .https://127"):
            await download(f"https://127.0.0.1:{port}/")


async def test_a_wait_for_this_server_alone_is_not_the_inputs_fault(gate: Gate) -> None:
    def read(url: str) -> None:
        gate()

    with pytest.raises(Unavailable, match="took longer than 0.2 s .* as the server is busy") as refused:
        await download("http://x/files/a", replace(LIMITS, timeout_s=0.2, stored=read))
    assert (refused.value.status_code, refused.value.retryable, refused.value.retry_after_s) == (503, True, 1)


async def test_a_server_that_hangs_up_is_reported() -> None:
    async def hang_up(request: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.transport.abort()

    async with server(hang_up) as (port, _):
        with pytest.raises(InvalidInput, match=r"file: \S.* .from .http://127"):
            await download(f"http://127.0.0.1:{port}/")


@pytest.mark.parametrize(
    "url", ["http://", "http://[::1", f"http://a:{'b' * 9000}/", "http://\ud800/", "https://no-such-host.invalid/"]
)
async def test_a_url_that_leads_nowhere_is_refused_in_short(url: str) -> None:
    with pytest.raises(InvalidInput, match="file: ") as refused:
        await download(url)
    assert len(str(refused.value)) < 300


# Redirects


async def test_redirects_are_followed_relative_to_the_url_that_was_asked() -> None:
    async def answer(request: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        moved = http(b"", "Location: /new", status="302 Found")
        await (moved if request.startswith("GET /old") else http(b"here"))(request, reader, writer)

    async with server(answer) as (port, requests):
        file = await download(f"http://localhost:{port}/old")
    assert file.data == b"here"
    assert [f"Host: localhost:{port}" in request for request in requests] == [True, True]


async def test_redirects_end_somewhere() -> None:
    async with server(http(b"", "Location: /again", status="302 Found")) as (port, requests):
        with pytest.raises(InvalidInput, match="file: expected at most 5 redirects"):
            await download(f"http://127.0.0.1:{port}/")
    assert len(requests) == 6


async def test_a_redirect_to_another_scheme_is_refused() -> None:
    async with server(http(b"", "Location: file:///etc/passwd", status="302 Found")) as (port, _):
        with pytest.raises(InvalidInput, match="file: .*protocol"):
            await download(f"http://127.0.0.1:{port}/")


async def test_the_body_of_a_redirect_is_not_read() -> None:
    async def answer(request: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if request.startswith("GET /here"):
            return await http(b"here")(request, reader, writer)
        writer.write(b"HTTP/1.1 302 Found\r\nLocation: /here\r\nContent-Length: 1000000\r\n\r\n")
        return None

    async with server(answer) as (port, _):
        assert (await download(f"http://127.0.0.1:{port}/")).data == b"here"


# Addresses


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1",
        "localhost",
        "2130706433",
        "0x7f.1",
        "0.0.0.0",
        "10.0.0.1",
        "100.100.100.200",
        "169.254.169.254",
        "[::1]",
        "[::ffff:127.0.0.1]",
    ],
)
async def test_private_hosts_are_refused_before_any_connection(host: str) -> None:
    async with server(http(b"secret")) as (port, requests):
        with pytest.raises(InvalidInput, match="file: expected a public address .STREAMAPP_ALLOW_PRIVATE_URLS=true"):
            await download(f"http://{host}:{port}/", PUBLIC_ONLY)
    assert requests == []


Resolver = Callable[[dict[str, list[str]]], list[str]]


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> Resolver:
    """Answer look-ups from a table, each name's addresses only once; returns the names asked for."""

    def install(table: dict[str, list[str]]) -> list[str]:
        asked: list[str] = []

        def getaddrinfo(host: bytes, port: None, **_: Any) -> list[Any]:
            asked.append(host.decode())
            addresses = table.pop(host.decode())
            return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, 0)) for address in addresses]

        monkeypatch.setattr("streamapp.addresses.socket.getaddrinfo", getaddrinfo)
        return asked

    return install


async def test_the_connection_goes_to_the_address_that_was_checked(names: Resolver) -> None:
    """A second look-up, as in DNS rebinding, would fail here: the table answers once."""
    asked = names({"photos.example": ["127.0.0.1"]})
    async with server(http(b"here")) as (port, requests):
        assert (await download(f"http://photos.example:{port}/")).data == b"here"
    assert asked == ["photos.example"]
    assert f"Host: photos.example:{port}" in requests[0]


async def test_one_private_address_among_public_ones_is_enough_to_refuse(names: Resolver) -> None:
    names({"mixed.example": ["93.184.216.34", "127.0.0.1"]})
    with pytest.raises(InvalidInput, match="expected a public address"):
        await download("http://mixed.example/", PUBLIC_ONLY)


async def test_the_next_address_is_tried_when_one_refuses(names: Resolver) -> None:
    names({"two.example": ["127.0.0.2", "127.0.0.1"]})
    async with server(http(b"here")) as (port, _):
        assert (await download(f"http://two.example:{port}/")).data == b"here"


@asynccontextmanager
async def silent_port(address: str, port: int = 0) -> AsyncIterator[int]:
    """Have the system take connections for a program that does not look at them."""
    with socket.create_server((address, port)) as listening:
        yield listening.getsockname()[1]


async def test_the_next_address_is_tried_when_one_does_not_answer(
    names: Resolver, servers_tls: dict[str, ssl.SSLContext], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where a name has addresses of IPv6, and the network no way to them."""
    monkeypatch.setattr("streamapp.fetch._TRIES_S", 0.2)
    names({"localhost": ["127.0.0.2", "127.0.0.1"]})
    async with server(http(b"here"), tls=servers_tls["good"]) as (port, _), silent_port("127.0.0.2", port):
        assert (await download(f"https://localhost:{port}/")).data == b"here"


async def test_addresses_of_both_kinds_are_tried_by_turns(names: Resolver) -> None:
    names({"many.example": ["2600::1", "2600::2", "1.1.1.1", "2600::3"]})
    addresses = await _CheckedTransport(tls_context(), allow_private=False)._addresses(b"many.example")
    assert addresses == ["2600::1", "1.1.1.1", "2600::2", "2600::3"]


@pytest.fixture
def public_host(names: Resolver, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let public.example have a public address whose connections end on loopback."""
    names({"public.example": ["93.184.216.34"], "127.0.0.1": ["127.0.0.1"]})
    connect = anyio.connect_tcp

    async def connect_tcp(remote_host: str, remote_port: int, local_host: None) -> Any:
        assert remote_host == "93.184.216.34"
        return await connect("127.0.0.1", remote_port)

    monkeypatch.setattr(anyio, "connect_tcp", connect_tcp)


@pytest.mark.usefixtures("public_host")
async def test_a_public_host_is_downloaded() -> None:
    async with server(http(b"here")) as (port, _):
        assert (await download(f"http://public.example:{port}/", PUBLIC_ONLY)).data == b"here"


@pytest.mark.usefixtures("public_host")
async def test_a_public_host_cannot_redirect_to_a_private_one() -> None:
    async with server(http(b"secret")) as (secret_port, secret_requests):
        moved = http(b"", f"Location: http://127.0.0.1:{secret_port}/", status="307 Temporary Redirect")
        async with server(moved) as (port, requests):
            with pytest.raises(InvalidInput, match="expected a public address"):
                await download(f"http://public.example:{port}/", PUBLIC_ONLY)
    assert (len(requests), secret_requests) == (1, [])


async def test_proxies_of_the_environment_are_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    async with server(http(b"here")) as (port, _):
        assert (await download(f"http://127.0.0.1:{port}/")).data == b"here"


# Certificates


def certified(authority: trustme.CA, name: str) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(name).configure_cert(context)
    return context


@pytest.fixture
def servers_tls(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[dict[str, ssl.SSLContext]]:
    """Give servers' certificates; the deployment trusts the first two's authority by SSL_CERT_FILE."""
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
    tls_context.cache_clear()
    yield {
        "good": certified(authority, "localhost"),
        "of another name": certified(authority, "other.example"),
        "of an unknown authority": certified(trustme.CA(), "localhost"),
    }
    tls_context.cache_clear()


async def test_the_certificate_is_checked_against_the_name_not_the_address(
    servers_tls: dict[str, ssl.SSLContext],
) -> None:
    async with server(http(b"here"), tls=servers_tls["good"]) as (port, _):
        assert (await download(f"https://localhost:{port}/")).data == b"here"


@pytest.mark.parametrize("certificate", ["of another name", "of an unknown authority"])
async def test_a_wrong_certificate_is_refused(certificate: str, servers_tls: dict[str, ssl.SSLContext]) -> None:
    async with server(http(b"here"), tls=servers_tls[certificate]) as (port, requests):
        with pytest.raises(InvalidInput, match="(?i)file: .*certificate"):
            await download(f"https://localhost:{port}/")
    assert requests == []


def test_the_limits_are_those_of_the_deployment() -> None:
    limits = MediaLimits.of(Settings(max_media_bytes=1, max_image_pixels=2, media_timeout_s=3, allow_private_urls=True))
    assert limits == MediaLimits(max_bytes=1, max_pixels=2, timeout_s=3, allow_private_urls=True)


def test_outside_of_a_job_the_limits_are_those_of_the_process() -> None:
    def limits_of_a_job() -> MediaLimits:
        limit_by(LIMITS)
        return limits_here()

    assert contextvars.copy_context().run(limits_of_a_job) == LIMITS
    assert limits_here() == MediaLimits.of(get_settings())


# Files of the server's own


async def test_a_url_of_the_servers_own_is_not_downloaded_and_read_up_to_the_limit(tmp_path: Path) -> None:
    own = tmp_path / "a"
    own.write_bytes(b"hi")
    limits = replace(PUBLIC_ONLY, stored=lambda url: SimpleNamespace(path=own, content_type="text/plain"))
    assert await download("http://127.0.0.1/files/a", limits) == File(b"hi", "text/plain")
    with pytest.raises(InvalidInput, match="must not exceed 1 bytes"):
        await download("http://127.0.0.1/files/a", replace(limits, max_bytes=1))


class Dataset(BaseModel):
    file: LargeFile


async def test_a_large_file_of_the_servers_own_stays_on_the_disk_whatever_its_size(tmp_path: Path) -> None:
    own = tmp_path / "0123"
    own.write_bytes(b"hi")
    stored = SimpleNamespace(path=own, content_type="text/csv")
    limits = replace(PUBLIC_ONLY, max_bytes=1, stored=lambda url: stored if "here" in url else None)
    given = Dataset.model_validate({"file": "http://here/files/a/b%20c.csv"})
    assert (await resolve_media(given, limits=limits)).file == LargeFile(own, 2, "text/csv", "b c.csv")
    with pytest.raises(InvalidInput, match=r"file: .*the media of one input must not exceed 1 bytes"):
        await resolve_media(Dataset.model_validate({"file": "data:,hello"}), limits=limits)


async def test_a_large_file_of_a_form_is_read_where_the_form_has_it() -> None:
    sent = upload(b"hi", name="a.txt")
    sent.size = 2
    resolved = await resolve_media(Dataset.model_validate({"file": sent}), limits=replace(LIMITS, max_bytes=1))
    assert (resolved.file.size, resolved.file.file_name, resolved.file.open().read()) == (2, "a.txt", b"hi")
    assert (await resolve_media(resolved, limits=LIMITS)).file is resolved.file


async def test_a_large_file_that_is_elsewhere_is_within_the_limits_of_media() -> None:
    async with server(http(b"solid", "Content-Type: model/stl")) as (port, _):
        given = Dataset.model_validate({"file": f"http://127.0.0.1:{port}/"})
        assert (await resolve_media(given, limits=LIMITS)).file == LargeFile(b"solid", 5, "model/stl")
        with pytest.raises(InvalidInput, match=r"file: .*must not exceed 3 bytes .* .from .http://127"):
            await resolve_media(given, limits=replace(LIMITS, max_bytes=3))
