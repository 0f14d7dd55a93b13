"""Web pages: which of them may ask, alone around the smallest ASGI application, and then before a whole server."""

import logging
import socket
from collections.abc import Callable
from typing import Any

import pytest
from fastapi import Header
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send
from tests.asking import ask, ok
from tests.served import Kinds, serving, shape

import streamapp
from streamapp.http.sites import ASKED_HOST, CrossSite, Hosts, NotByLink

LINK: Any = {"sec_fetch_site": "cross-site", "sec_fetch_dest": "document"}


@pytest.mark.parametrize("app", [CrossSite(ok, ()), CrossSite(ok, ["*"]), NotByLink(ok), Hosts(ok, ())])
async def test_the_lifespan_passes(app: ASGIApp) -> None:
    assert (await ask(app, kind="lifespan")).sent == [{"type": "lifespan.passed"}]


# Other web sites


@pytest.mark.parametrize("site", ["same-origin", "same-site", "none"])
async def test_pages_of_the_same_site_may_call(site: str) -> None:
    assert (await ask(CrossSite(ok, ()), sec_fetch_site=site)).status == 200


async def test_programs_send_no_such_header() -> None:
    assert (await ask(CrossSite(ok, ()))).status == 200


@pytest.mark.parametrize(
    ("origin", "status"),
    [("http://app.lan", 200), ("http://evil.lan", 403), ("null", 403), ("http://[", 403)],
)
async def test_where_the_browser_does_not_tell_the_site_the_origin_must_be_this_host(origin: str, status: int) -> None:
    assert (await ask(CrossSite(ok, ()), host="app.lan", origin=origin)).status == status


async def test_pages_of_other_sites_are_refused() -> None:
    answer = await ask(CrossSite(ok, ()), sec_fetch_site="cross-site", sec_fetch_mode="no-cors")
    assert (answer.status, answer.error["code"]) == (403, "cross_site")
    assert "STREAMAPP_CORS_ORIGINS" in answer.error["message"]


@pytest.mark.parametrize("origins", [["https://a.example"], ["*"]])
async def test_pages_of_named_origins_may_call(origins: list[str]) -> None:
    app = CrossSite(ok, origins)
    assert (await ask(app, sec_fetch_site="cross-site", origin="https://a.example")).status == 200


async def test_other_origins_than_the_named_may_not() -> None:
    app = CrossSite(ok, ["https://a.example"])
    assert (await ask(app, sec_fetch_site="cross-site", origin="https://b.example")).status == 403


async def test_a_link_may_be_followed() -> None:
    answer = await ask(CrossSite(ok, ()), "/docs", method="GET", sec_fetch_site="cross-site", sec_fetch_dest="document")
    assert answer.status == 200


@pytest.mark.parametrize(("method", "dest"), [("POST", "document"), ("GET", "iframe")])
async def test_a_form_or_a_frame_of_another_site_starts_no_job(method: str, dest: str) -> None:
    """Both navigate, as a link does; a form can post multipart and urlencoded bodies without asking."""
    answer = await ask(CrossSite(ok, ()), method=method, sec_fetch_site="cross-site", sec_fetch_dest=dest)
    assert answer.status == 403


@pytest.mark.parametrize(("method", "status"), [("GET", 200), ("PUT", 403)])
async def test_a_page_of_another_site_may_show_a_file(method: str, status: int) -> None:
    assert (await ask(CrossSite(ok, ()), "/files/0/a.png", method=method, sec_fetch_site="cross-site")).status == status


async def test_a_websocket_of_another_site_is_closed() -> None:
    answer = await ask(CrossSite(ok, ()), kind="websocket", sec_fetch_site="cross-site", sec_fetch_mode="websocket")
    assert answer.sent[0]["type"] == "websocket.close"


@pytest.mark.parametrize(
    ("headers", "passes"),
    [
        ({}, True),
        ({"origin": "http://app.lan:8000"}, True),
        ({"origin": "https://app.lan:8000"}, True),
        ({"origin": "https://named.example", "sec_fetch_site": "cross-site"}, True),
        ({"origin": "http://app.lan:8000", "sec_fetch_site": "same-origin"}, True),
        ({"host": "app.lan:443", "origin": "https://app.lan"}, True),
        ({"host": "app.lan:80", "origin": "http://app.lan"}, True),
        ({"origin": "http://app.lan:3000"}, False),
        ({"origin": "http://app.lan:3000", "sec_fetch_site": "same-site"}, False),
        ({"host": "app.lan:443", "origin": "http://app.lan"}, False),
        ({"origin": "http://app.lan:8000.evil.example"}, False),
        ({"origin": "http://evil.lan"}, False),
        ({"origin": "null"}, False),
        ({"origin": ""}, True),
    ],
)
async def test_a_page_opens_a_websocket_of_its_own_origin_or_where_it_is_named(headers: Any, passes: bool) -> None:
    """CORS is nothing to a WebSocket: the page could read all that comes. Chromium sends its `Origin` alone."""
    told = {"host": "app.lan:8000", **headers}
    answer = await ask(CrossSite(ok, ["https://named.example"]), kind="websocket", **told)
    assert (answer.sent[0]["type"] == "websocket.passed") == passes


async def test_a_websocket_that_is_refused_is_told_with_the_setting(caplog: pytest.LogCaptureFixture) -> None:
    await ask(CrossSite(ok, ()), kind="websocket", host="localhost:8000", origin="http://localhost:5173")
    assert "STREAMAPP_CORS_ORIGINS=http://localhost:5173" in caplog.text


# Links


@pytest.mark.parametrize(
    ("method", "headers", "status"),
    [
        ("GET", LINK, 403),
        ("HEAD", LINK, 403),
        ("GET", {**LINK, "referer": "https://a.example/b"}, 200),
        ("GET", {**LINK, "referer": "https://a.example.evil.example/b"}, 403),
        ("GET", {**LINK, "sec_fetch_site": "same-origin"}, 200),
        ("GET", {**LINK, "sec_fetch_site": "none"}, 200),
        ("GET", {"host": "app.lan", "referer": "http://evil.lan/x"}, 403),
        ("GET", {"host": "app.lan", "referer": "http://app.lan/x"}, 200),
        ("GET", {"host": "app.lan", "referer": "https://a.example"}, 200),
        ("GET", {"host": "app.lan", "referer": "nonsense"}, 200),
        ("GET", {"referer": "http://evil.lan"}, 403),
        ("GET", {}, 200),
    ],
)
async def test_a_link_on_a_page_of_another_site_starts_nothing(method: str, headers: Any, status: int) -> None:
    app = CrossSite(NotByLink(ok), ["https://a.example"])
    assert (await ask(app, method=method, **headers)).status == status


async def test_what_the_browser_leads_elsewhere_by_its_word_alone_is_no_link() -> None:
    answer = await ask(CrossSite(ok, ()), method="GET", sec_fetch_site="cross-site")
    assert (answer.status, answer.error["code"]) == (403, "cross_site")


class Linked(streamapp.App):
    """What a link could start."""

    runs = 0

    @streamapp.endpoint("/stream")
    def stream(self, n: int = 1) -> Any:
        type(self).runs += 1
        yield n

    @streamapp.endpoint("/own")
    def own(self) -> Response:
        type(self).runs += 1
        return Response("own")

    @streamapp.endpoint("/told")
    def told(self, accept: str = Header()) -> Any:
        type(self).runs += 1
        yield accept

    @streamapp.endpoint("/of/{name}")
    def of(self, name: str) -> Any:
        type(self).runs += 1
        yield name


STARTING = ["/stream", "/stream/", "/stream?_input={}", "/own", "/told", "/of/x", "/", "/linked/stream"]


@pytest.mark.parametrize("path", [*STARTING, "/run/me/linked/stream", "/queue/me/linked/stream"])
@pytest.mark.parametrize(
    "headers",
    [
        {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Dest": "document", "Sec-Fetch-Mode": "navigate"},
        {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Dest": "image", "Sec-Fetch-Mode": "no-cors"},
        {"Referer": "http://evil.example/"},
    ],
)
def test_no_page_of_another_site_starts_a_job_by_get(path: str, headers: dict[str, str]) -> None:
    with serving(Linked) as client:
        before = Linked.runs
        answer = client.get(path, headers=headers, follow_redirects=False)
    assert answer.status_code in (403, 404, 405)  # the root is a POST's
    assert Linked.runs == before


@pytest.mark.parametrize("path", ["/docs", "/playground", "/openapi.json", "/jobs/x", "/health", "/files/0/x", "/no"])
def test_a_link_leads_to_all_that_starts_nothing(path: str) -> None:
    with serving(Linked) as client:
        link = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Dest": "document"}
        assert client.get(path, headers=link).status_code == client.get(path).status_code


def test_who_has_the_key_in_a_link_may_follow_it_from_anywhere() -> None:
    with serving(Linked, api_key="secret") as client:
        link = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Dest": "document"}
        assert [client.get(f"/stream{query}", headers=link).status_code for query in ("?_token=secret", "")] == [
            200,
            401,
        ]


def test_a_link_of_another_site_is_told_what_to_do_instead() -> None:
    with serving(Linked) as client:
        answer = client.get("/stream", headers={"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Dest": "document"})
    assert shape(answer) == (403, "cross_site")
    assert "enter the address yourself" in answer.text


# The log


@pytest.mark.parametrize(
    ("headers", "told"),
    [
        ({"sec_fetch_site": "cross-site", "origin": "https://b.example"}, "STREAMAPP_CORS_ORIGINS=https://b.example"),
        ({"sec_fetch_site": "same-site", "origin": "http://localhost:5173"}, "CORS_ORIGINS=http://localhost:5173"),
        ({"host": "app.lan", "origin": "http://b.lan"}, "STREAMAPP_CORS_ORIGINS=http://b.lan"),
        ({"sec_fetch_site": "cross-site", "referer": "http://b.lan/x?_token=y"}, "STREAMAPP_CORS_ORIGINS=http://b.lan"),
        ({"sec_fetch_site": "cross-site", "origin": "null"}, "serve it by http"),
        ({"sec_fetch_site": "cross-site"}, "without an origin"),
    ],
)
@pytest.mark.parametrize("method", ["POST", "OPTIONS"])
async def test_a_page_that_may_not_ask_is_told_in_the_log_with_the_setting(
    method: str, headers: Any, told: str, caplog: pytest.LogCaptureFixture
) -> None:
    await ask(CrossSite(ok, ()), method=method, access_control_request_method="POST", **headers)
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert caplog.messages[0].endswith(told) or told in caplog.messages[0]
    assert "_token" not in caplog.messages[0]


async def test_the_origins_that_are_named_already_are_in_what_to_write(caplog: pytest.LogCaptureFixture) -> None:
    await ask(CrossSite(ok, ["https://a.example"]), sec_fetch_site="cross-site", origin="https://b.example")
    assert "STREAMAPP_CORS_ORIGINS=https://a.example,https://b.example" in caplog.messages[0]


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"sec_fetch_site": "same-origin", "origin": "https://public.example", "host": "127.0.0.1:8000"},
        {"host": "app.lan", "origin": "http://app.lan"},
        {"sec_fetch_site": "same-site", "referer": "http://localhost:5173/"},
        {"sec_fetch_site": "cross-site", "origin": "https://a.example"},
    ],
)
async def test_who_may_ask_is_not_told_of(headers: Any, caplog: pytest.LogCaptureFixture) -> None:
    await ask(CrossSite(ok, ["https://a.example"]), **headers)
    assert caplog.messages == []


async def test_a_page_is_told_of_once_a_minute(
    caplog: pytest.LogCaptureFixture, advance: Callable[[float], None]
) -> None:
    app = CrossSite(ok, ())
    for passed in (0, 59, 2):
        advance(passed)
        for _ in range(3):
            await ask(app, sec_fetch_site="cross-site", origin="https://b.example")
    assert len(caplog.messages) == 2


async def test_a_thousand_pages_make_twenty_lines_and_are_forgotten(
    caplog: pytest.LogCaptureFixture, advance: Callable[[float], None]
) -> None:
    app = CrossSite(ok, ())
    for n in range(1000):
        await ask(app, sec_fetch_site="cross-site", origin=f"https://b{n}.example")
    assert len(caplog.messages) == 20
    advance(61)
    await ask(app, sec_fetch_site="cross-site", origin="https://c.example")
    assert (len(caplog.messages), list(app._log._told)) == (21, ["https://c.example"])


async def test_what_a_page_is_called_breaks_no_line(caplog: pytest.LogCaptureFixture) -> None:
    for origin in ("https://b\n", "https://b" + "x" * 9999, "https://$(b)", "https://b,*"):
        await ask(CrossSite(ok, ()), "/a\nb", sec_fetch_site="cross-site", origin=origin)
    assert ["/a%0Ab" in line and "without an origin" in line for line in caplog.messages] == 4 * [True]


async def test_a_link_that_starts_nothing_is_told_of_without_breaking_the_line(
    caplog: pytest.LogCaptureFixture,
) -> None:
    app = CrossSite(NotByLink(ok), ())
    for _ in range(2):
        await ask(app, "/a\nb", method="GET", **LINK)
    assert caplog.messages == ["a link on a page of another site leads to /a%0Ab: it starts no job"]


def test_a_preflight_of_an_origin_that_is_not_named_is_told_of_beside_those_that_are(
    caplog: pytest.LogCaptureFixture,
) -> None:
    asks = {"Access-Control-Request-Method": "POST", "Sec-Fetch-Site": "same-site"}
    with serving(Kinds, cors_origins=["http://localhost:3000"], api_key="secret") as client:
        for port in (3000, 5173):
            client.options("/value", headers={**asks, "Origin": f"http://localhost:{port}"})
    told = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert ["http://localhost:3000,http://localhost:5173" in line for line in told] == [True]


# Names that lead here


OWN = [
    *("localhost", "localhost:8000", "LocalHost:8000", "localhost.", "localhost.:8000", "a.b.localhost:1", "0.0.0.0"),
    *("127.0.0.1", "127.0.0.1:8000", "127.1.2.3", "[::1]", "[::1]:8000", "[0:0::1]:1", "192.168.1.5:80"),
    *(
        "host.docker.internal:8000",
        socket.gethostname(),
        f"{socket.gethostname().upper()}:80",
        f"{socket.gethostname().partition('.')[0]}.local:8000",
        "127.1:8000",
        "my_box:8000",
        "box.test",
        "",
    ),
]
OTHERS = [
    *(
        "evil.local",
        "127.1.evil.example",
        "evil.example",
        "evil.example:8000",
        "EVIL.example.",
        "localhost.evil.example",
        "127.0.0.1.evil.example",
    ),
    *(
        "evil.localhost.example",
        "internal.evil.example",
        "127.0.0.1.nip.io",
        "localhost:8000:8000",
        "localhost:x",
        "[::1",
        ":80",
    ),
    *("a@localhost", "localhost@evil.example", "localhost/", "[evil.example]", "[localhost]", "localhost,evil.example"),
    *(
        "evil.example\xe9",
        "*",
        "*.localhost.evil.example",
        "a" * 300 + ".localhost",
        " localhost",
        "[::1].evil.example",
    ),
]


@pytest.mark.parametrize("server", ["127.0.0.1", "127.0.1.1", "::1", "::ffff:127.0.0.1"])
@pytest.mark.parametrize("host", OWN)
async def test_names_that_mean_this_machine_are_served(server: str, host: str) -> None:
    assert (await ask(Hosts(ok, ()), server=server, host=host)).status == 200


@pytest.mark.parametrize("server", ["127.0.0.1", "::1", "::ffff:127.0.0.1"])
@pytest.mark.parametrize("host", OTHERS)
async def test_other_names_that_lead_here_are_refused(server: str, host: str) -> None:
    answer = await ask(Hosts(ok, ()), server=server, host=host)
    assert (answer.status, answer.error["code"]) == (403, "unknown_host")


@pytest.mark.parametrize("server", ["testserver", "192.168.1.5", "10.0.0.1", "fe80::1"])
async def test_other_addresses_than_loopback_are_left_alone(server: str) -> None:
    assert (await ask(Hosts(ok, ()), server=server, host="evil.example")).status == 200


async def test_a_request_without_a_host_or_a_server_is_served() -> None:
    """HTTP/1.0, a socket of Unix's: no browser sends either."""
    assert (await ask(Hosts(ok, ()), server="127.0.0.1")).status == 200
    answer = await ask(without_server(Hosts(ok, ())), host="evil.example")
    assert answer.status == 200


def without_server(app: ASGIApp) -> ASGIApp:
    async def asked(scope: Scope, receive: Receive, send: Send) -> None:
        await app({**scope, "server": None}, receive, send)

    return asked


@pytest.mark.parametrize(
    ("names", "host", "status"),
    [
        (["app.example"], "app.example:8000", 200),
        (["App.Example"], "app.EXAMPLE.", 200),
        (["app.example"], "a.app.example", 403),
        (["*.app.example"], "a.b.app.example", 200),
        (["*.app.example"], "app.example", 403),
        (["*.app.example"], "evilapp.example", 403),
        (["*"], "evil.example", 200),
        (["*"], "a@b", 200),
    ],
)
async def test_names_of_the_settings_are_served(names: list[str], host: str, status: int) -> None:
    assert (await ask(Hosts(ok, names), server="127.0.0.1", host=host)).status == status


async def test_the_name_that_the_request_came_with_counts_not_a_proxys_word_for_it() -> None:
    def believing(asked: bytes | None) -> ASGIApp:
        async def believing(scope: Scope, receive: Receive, send: Send) -> None:
            await Hosts(ok, ())({**scope, ASKED_HOST: asked}, receive, send)

        return believing

    assert (await ask(believing(b"evil.example"), server="127.0.0.1", host="localhost")).status == 403
    for asked in (b"127.0.0.1:8000", None):
        assert (await ask(believing(asked), server="127.0.0.1", host="public.example")).status == 200


async def test_a_name_that_is_refused_is_told_with_the_setting(caplog: pytest.LogCaptureFixture) -> None:
    app = Hosts(ok, ())
    answers = [await ask(app, server="127.0.0.1", host="App.example:80") for _ in range(2)]
    assert "STREAMAPP_ALLOWED_HOSTS=app.example," in answers[1].error["message"]
    assert ["STREAMAPP_ALLOWED_HOSTS=app.example," in line for line in caplog.messages] == [True]


async def test_a_websocket_under_another_name_is_closed() -> None:
    answer = await ask(Hosts(ok, ()), kind="websocket", server="127.0.0.1", host="evil.example")
    assert answer.sent[0]["type"] == "websocket.close"
