"""What the Python client sends where: only its own server gets key, cookies and input; proxies, redirects, odd ids."""

import asyncio
import socket
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any

import pytest
from tests.leading_proxy import StartProxy, leading
from tests.scripted_server import END, Serve, answer, block, chunk, head

import streamapp_client._server
from streamapp_client import AsyncClient, Client, ConnectionFailed, NoImage, NotSent, UnexpectedAnswer
from streamapp_client._server import Server as Address

STATE = b'{"job_id": "j1", "status": "queued", "position": 0, "created_at": 1, "started_at": null, "finished_at": null}'
CALLS: dict[str, Callable[[Client, str], Any]] = {
    "stream": lambda client, path: list(client.stream(path)),
    "run": lambda client, path: client.run(path, {"secret": 1}),
    "submit": lambda client, path: client.submit(path),
    "subscribe": lambda client, path: client.subscribe(path),
}
each_call = pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)


def moved(location: str, status: int = 307) -> bytes:
    return answer(b"", f"{status} Moved", headers=f"Location: {location}\r\nSet-Cookie: sticky=1\r\n")


# Paths


@each_call
def test_the_absolute_url_of_another_server_is_refused_as_a_path(serve: Serve, call: Callable[..., Any]) -> None:
    server, other = serve(), serve()

    with pytest.raises(NotSent, match=f"which is not on {server.url}; make a client of that server's") as caught:
        call(Client(server.url, key="secret"), f"{other.url}/stream")
    assert isinstance(caught.value, ValueError)
    assert (server.requests, other.requests) == ([], [])


def test_an_asynchronous_client_refuses_it_too(serve: Serve) -> None:
    server, other = serve(), serve()

    async def ask() -> None:
        async with AsyncClient(server.url, key="secret") as client:
            for call in (client.stream, client.run, client.submit, client.subscribe):
                with pytest.raises(NotSent):
                    await call(f"{other.url}/stream")

    asyncio.run(ask())
    assert other.requests == []


@pytest.mark.parametrize(
    "path",
    [
        *("//evil/x", "///evil", "\\\\evil/x", "\\evil", "http:/x", "http:evil", "https:///x", "javascript:alert(1)"),
        *(
            "http://127.0.0.1:1@evil/x",
            "http://127.0.0.1:1.evil/x",
            "//u@/x",
            "file:///etc/passwd",
            "ws://127.0.0.1:1/x",
        ),
        *("/a\r\nX: 1", "/a\nb", "/a\tb", "/\0", "/\ud800", "http://["),
    ],
)
def test_what_is_no_path_is_refused(path: str) -> None:
    with pytest.raises(NotSent, match="Expected a path like"):
        Client("http://127.0.0.1:1").run(path)


@pytest.mark.parametrize(
    ("path", "address"),
    [
        ("/stream", "http://h:1/v1/stream"),
        ("stream", "http://h:1/v1/stream"),
        ("", "http://h:1/v1/"),
        ("/a?b=c&d", "http://h:1/v1/a?b=c&d"),
        ("/x@evil", "http://h:1/v1/x@evil"),
        ("/a#b", "http://h:1/v1/a"),
        ("/Größe", "http://h:1/v1/Gr%C3%B6%C3%9Fe"),
        ("/a/../b", "http://h:1/v1/b"),
        ("http://h:1/other", "http://h:1/other"),
        ("HTTP://H:1/other?x", "http://h:1/other?x"),
        ("http://u:p@h:1/other", "http://h:1/other"),
    ],
)
def test_a_path_is_below_the_url_and_an_absolute_url_where_it_says(path: str, address: str) -> None:
    assert str(Address.at("http://h:1/v1").address(path)) == address


@pytest.mark.parametrize("url", ["http://h/v1", "http://h/v1/", "http://h:80/v1//", "http://h/v1?", "http://h/v1/#"])
def test_a_url_may_end_in_what_says_nothing(url: str) -> None:
    assert str(Address.at(url).address("/stream")) == "http://h/v1/stream"


def test_no_path_leads_out_of_the_url() -> None:
    with pytest.raises(NotSent):
        Address.at("http://h/v1").address("/../admin")


@pytest.mark.parametrize(
    "url",
    [
        *(
            "127.0.0.1:8000",
            "ftp://h",
            "http://",
            "http:/h",
            "http://[",
            "",
            "http://h:99999",
            "http://h:x",
            "http://h ",
        ),
        *("http://h?key=1", "http://h/#x", "http://h\n"),
    ],
)
def test_what_is_no_url_of_a_server_is_refused(url: str) -> None:
    with pytest.raises(NotSent, match=r'Expected a URL like "http://127\.0\.0\.1:8000"'):
        Client(url)


def test_messages_do_not_tell_the_password_in_a_url() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with pytest.raises(ConnectionFailed, match=rf"^No answer from http://127\.0\.0\.1:{port}: "):
        Client(f"http://me:secret@127.0.0.1:{port}", patience_s=0).run("/x")
    with pytest.raises(NotSent, match=r"got 'http://\.\.\.@h:x'"):
        Client("http://me:secret@h:x")


@pytest.mark.parametrize("steps", [[answer(b"<", content_type="text/html")], [answer(b"nonsense")], [moved("ftp://x")]])
def test_messages_do_not_tell_a_key_in_a_query(serve: Serve, steps: list[bytes]) -> None:
    client = Client(serve(**{"x?_token=secret": steps}).url)

    for call in (client.run, client.stream):
        with pytest.raises(UnexpectedAnswer) as caught:
            call("/x?_token=secret")
        assert "secret" not in str(caught.value)


@pytest.mark.parametrize("key", ["secret\n", " secret", "se\r\ncret", "\0"])
def test_a_key_with_a_line_end_is_refused_without_telling_it(key: str) -> None:
    with pytest.raises(NotSent, match=r"write key\.strip\(\)$"):
        Client("http://h", key=key)


def test_a_key_is_sent_as_the_server_reads_it(serve: Serve) -> None:
    server = serve(echo=[answer(b"1")])

    Client(server.url, key="schlüssel").run("/echo")

    assert server.requests[0][0]["Authorization"] == "Key schlüssel"


@pytest.mark.parametrize("url", ["//{other}/file", "http://{other}/file", "http://[", "file:///etc/passwd"])
def test_a_file_of_another_server_is_not_downloaded(serve: Serve, url: str) -> None:
    server, other = serve(), serve(file=[answer(b"x")])

    with pytest.raises(NoImage, match="download it yourself"):
        Client(server.url, key="secret").download(url.format(other=other.url.removeprefix("http://")))
    assert other.requests == []


# Ids


@pytest.mark.parametrize("job_id", ["ä/ö?ü#", "..", "../../admin?x=", "a b", "\ud800", "日本", "%2e%2e", "\r\nX: 1"])
def test_a_job_of_any_id_is_asked_for_below_jobs(serve: Serve, job_id: str) -> None:
    server = serve()
    path = Address.at(server.url).address(streamapp_client._core.job_path(job_id)).raw_path.decode()
    server.answers[path] = [answer(STATE)]

    assert Client(server.url).job(job_id).status().status == "queued"
    assert path.startswith("/jobs/")
    assert path.count("/") == 2


def test_an_event_id_that_is_not_ascii_is_sent_back_as_utf_8(serve: Serve) -> None:
    """As the HTML standard says; httpx would raise UnicodeEncodeError."""
    again = [head(), chunk("event: output\nid: ü2\ndata: 2\n\nevent: done\ndata: {}\n\n"), END]
    server = serve(head(), chunk("event: output\nid: ü1\ndata: 1\n\n"), **{"jobs/j1/events?_events=named": again})

    assert [event.data for event in Client(server.url).stream("/stream")] == [1, 2]
    assert server.requests[1][0]["Last-Event-ID"] == "ü1"


# Redirects


@pytest.mark.parametrize("absolute", [True, False])
@pytest.mark.parametrize(("status", "method"), [(301, "GET"), (302, "GET"), (303, "GET"), (307, "POST"), (308, "POST")])
def test_a_redirect_is_followed_as_browsers_do(serve: Serve, status: int, method: str, absolute: bool) -> None:
    server = serve(there=[answer(b"7")])
    server.answers["/here"] = [moved((server.url if absolute else "") + "/there", status)]

    assert Client(server.url, key="secret").run("/here", {"a": 1}) == 7
    assert server.saw(2) == ["POST /here", f"{method} /there"]
    headers, body = server.requests[1]
    assert (headers["Authorization"], body) == ("Key secret", b'{"a":1}' if method == "POST" else b"")


def test_a_stream_is_redirected_and_resumed_at_the_first_address(serve: Serve) -> None:
    again = [head(), block("output", 2, 2), block("done", {}, 3), END]
    server = serve(moved("/there"), there=[head(), block("output", 1)], **{"jobs/j1/events?_events=named": again})

    assert [event.data for event in Client(server.url).stream("/stream")] == [1, 2]


@pytest.mark.parametrize("status", [307, 308])
@each_call
def test_no_input_is_sent_on_to_another_server(serve: Serve, call: Callable[..., Any], status: int) -> None:
    other = serve(answer(b"7"))
    server = serve(moved(f"{other.url}/stream", status))

    with pytest.raises(UnexpectedAnswer, match=f"a redirect to {other.url}/stream, which gets no input of yours"):
        call(Client(server.url, key="secret"), "/stream")
    assert other.requests == []


@pytest.mark.parametrize("status", [301, 302, 303])
def test_another_server_is_asked_without_key_cookies_and_input(serve: Serve, status: int) -> None:
    other = serve(answer(b"7"))
    server = serve(moved(f"{other.url}/stream", status))

    assert Client(server.url, key="secret").run("/stream", {"a": 1}) == 7
    [(headers, body)] = other.requests
    assert {"authorization", "cookie"}.isdisjoint(headers)
    assert body == b""


@pytest.mark.parametrize("uri", ["data:model/gltf-binary;base64,Z2xURg==", "data:,glTF"])
async def test_a_file_that_came_with_its_event_is_downloaded_from_nowhere(uri: str) -> None:
    url = "http://127.0.0.1:9"  # where nobody listens
    async with AsyncClient(url) as client:
        assert await client.download(uri) == Client(url).download(uri) == b"glTF"


def test_a_file_may_lie_elsewhere_but_the_key_does_not_go_there(serve: Serve) -> None:
    other = serve(file=[moved("/moved", 302)], moved=[answer(b"x")])
    server = serve(file=[moved(f"{other.url}/file", 302)])

    assert Client(server.url, key="secret").download("/file") == b"x"
    assert not any("authorization" in headers for headers, _ in other.requests)


@pytest.mark.parametrize(
    ("location", "why"),
    [
        ("/here", "more than 20 redirects, the last to http://127"),
        ("ftp://127.0.0.1/x", "a redirect to ftp://127.0.0.1/x, which is not safe to follow"),
        ("", "more than 20 redirects"),
    ],
)
def test_a_redirect_that_leads_nowhere_is_told(serve: Serve, location: str, why: str) -> None:
    server = serve(here=[moved(location)])

    with pytest.raises(UnexpectedAnswer, match=why):
        Client(server.url).run("/here")


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.parametrize("port", ["", ":8443"])
@each_call
def test_a_server_that_answers_by_https_alone_is_named(
    serve: Serve, call: Callable[..., Any], port: str, status: int
) -> None:
    """Nearly all proxies say 301: what would be asked by https is another thing, without input and key."""
    server = serve(**{"v1/stream": [moved(f"https://127.0.0.1{port}/v1/stream?_token=secret", status)]})

    with pytest.raises(UnexpectedAnswer) as caught:
        call(Client(f"{server.url}/v1"), "/stream")
    assert str(caught.value) == (
        f"Expected an answer from {server.url}/v1/stream, got a redirect to https://127.0.0.1{port}/v1/stream; "
        f'write Client("https://127.0.0.1{port}/v1")'
    )


def test_a_key_is_not_lost_on_the_way_to_https(serve: Serve) -> None:
    server = serve(**{"jobs/j1": [moved("https://127.0.0.1/jobs/j1", 301)]})

    with pytest.raises(UnexpectedAnswer, match=r'write Client\("https://127\.0\.0\.1"\)$'):
        Client(server.url, key="secret").job("j1").status()
    with pytest.raises(ConnectionFailed):  # followed: nothing is lost of a GET without key
        Client(server.url, patience_s=0).job("j1").status()


def test_an_asynchronous_client_follows_by_the_same_rules(serve: Serve) -> None:
    other = serve()
    server = serve(here=[moved("/there")], there=[answer(b"7")], away=[moved(f"{other.url}/x")])

    async def ask() -> None:
        async with AsyncClient(server.url, key="secret") as client:
            assert await client.run("/here") == 7
            with pytest.raises(UnexpectedAnswer, match="gets no input of yours"):
                await client.run("/away")

    asyncio.run(ask())
    assert other.requests == []


# Proxies


@pytest.fixture
def no_proxies(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    for name in ("http", "https", "all", "no"):
        monkeypatch.delenv(f"{name}_proxy", raising=False)
        monkeypatch.delenv(f"{name}_proxy".upper(), raising=False)
    return monkeypatch


@pytest.fixture
def proxy() -> Iterator[StartProxy]:
    with leading() as start:
        yield start


@pytest.mark.parametrize("variable", ["http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"])
def test_another_machine_is_reached_by_the_proxy_of_the_environment(
    serve: Serve, proxy: StartProxy, no_proxies: pytest.MonkeyPatch, variable: str
) -> None:
    between = proxy(serve(echo=[answer(b"7")]).url)
    no_proxies.setenv(variable, between.url)

    assert Client("http://gpu.example").run("/echo") == 7
    assert between.asked == ["POST http://gpu.example/echo"]


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "127.0.0.2", "0.0.0.0"])
def test_this_machine_is_reached_directly(
    serve: Serve, proxy: StartProxy, no_proxies: pytest.MonkeyPatch, host: str
) -> None:
    server = serve(echo=[answer(b"7")])
    between = proxy(server.url, b"HTTP/1.1 403 Forbidden\r\n\r\n")
    no_proxies.setenv("ALL_PROXY", between.url)
    server_port = server.url.rpartition(":")[2]

    assert Address.at(f"http://{host}:{server_port}").proxy is None
    assert Client(f"http://127.0.0.1:{server_port}").run("/echo") == 7
    assert between.asked == []


def test_an_error_names_the_proxy_without_its_password(
    serve: Serve, proxy: StartProxy, no_proxies: pytest.MonkeyPatch
) -> None:
    between = proxy(serve().url, b"HTTP/1.1 403 Forbidden\r\n\r\n")
    no_proxies.setenv("HTTPS_PROXY", between.url.replace("//", "//me:secret@"))

    with pytest.raises(ConnectionFailed) as caught:
        Client("https://gpu.example", patience_s=0).run("/echo")
    assert str(caught.value) == (
        f"No answer from https://gpu.example through the proxy {between.url} (HTTPS_PROXY): 403 Forbidden"
    )


def test_a_proxy_that_is_not_there_is_named(serve: Serve, no_proxies: pytest.MonkeyPatch) -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    no_proxies.setenv("all_proxy", url)

    with pytest.raises(ConnectionFailed, match=rf"through the proxy {url} \(all_proxy\): "):
        Client("http://gpu.example", patience_s=0).run("/echo")


@pytest.mark.parametrize(
    "value", ["http://u:secret@", "http://secret:99999", "ftp://secret", "://secret", "http://sec ret"]
)
def test_a_proxy_that_is_no_url_is_told_by_the_name_of_its_variable(no_proxies: pytest.MonkeyPatch, value: str) -> None:
    no_proxies.setenv("HTTP_PROXY", value)

    with pytest.raises(NotSent, match=r"^HTTP_PROXY: Expected a URL like") as caught:
        Client("http://gpu.example")
    assert "secret" not in str(caught.value)
    Client("http://127.0.0.1:8000").close()


@pytest.mark.parametrize("value", ["", " "])
def test_a_variable_that_is_empty_names_no_proxy(no_proxies: pytest.MonkeyPatch, value: str) -> None:
    no_proxies.setenv("HTTP_PROXY", value)
    assert Address.at("http://gpu.example").proxy is None


def test_a_socks_proxy_without_its_extra_says_what_to_install(no_proxies: pytest.MonkeyPatch) -> None:
    no_proxies.setenv("ALL_PROXY", "socks5://127.0.0.1:1080")
    no_proxies.setattr(streamapp_client._server, "find_spec", lambda name: None)

    with pytest.raises(NotSent, match=r'ALL_PROXY names a SOCKS proxy, .* pip install "httpx\[socks\]"'):
        Client("http://gpu.example")
    Client("http://localhost").close()


EXCEPTED = {
    "*": True,
    "gpu.example": True,
    ".example": True,
    "*.example": True,
    "example": True,
    " other , GPU.example. ": True,
    "other gpu.example": True,
    "gpu.example:8000": True,
    "http://gpu.example": True,
    "gpu.example:80": False,
    "u.example": False,
    "": False,
    ", ,": False,
    "http://[": False,
    "[::1": False,
    "10.0.0.0/8": False,
    "[::1]:x,%": False,
}


@pytest.mark.parametrize(("no_proxy", "is_direct"), EXCEPTED.items())
def test_exceptions_of_every_form_are_heard_and_nonsense_is_none(
    no_proxies: pytest.MonkeyPatch, no_proxy: str, is_direct: bool
) -> None:
    no_proxies.setenv("HTTP_PROXY", "http://127.0.0.1:3128")
    no_proxies.setenv("NO_PROXY", no_proxy)

    assert (Address.at("http://gpu.example:8000").proxy is None) == is_direct


@pytest.mark.parametrize(
    ("no_proxy", "url", "is_direct"),
    [
        ("10.0.0.0/8", "http://10.1.2.3", True),
        ("10.1.2.3", "http://10.1.2.3:8000", True),
        ("10.0.0.0/8", "http://11.1.2.3", False),
        ("fd00::/8", "http://[fd00::1]", True),
        ("fd00::1", "http://[fd00::1]:8000", True),
        ("[fd00::1]", "http://[fd00::1]", True),
        ("[fd00::1]:8000", "http://[fd00::1]:8000", True),
        ("[fd00::1]:9", "http://[fd00::1]:8000", False),
        ("10.1.2.3:80", "http://10.1.2.3", True),
    ],
)
def test_exceptions_may_be_addresses_and_networks(
    no_proxies: pytest.MonkeyPatch, no_proxy: str, url: str, is_direct: bool
) -> None:
    no_proxies.setenv("HTTP_PROXY", "http://127.0.0.1:3128")
    no_proxies.setenv("NO_PROXY", no_proxy)

    assert (Address.at(url).proxy is None) == is_direct
