"""What is asked by HTTP before a session by WebRTC: an offer, and the servers that help to find the way."""

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from starlette.testclient import TestClient
from tests.served import drain, runtime_of
from tests.test_webrtc_offers import BUNDLE, DATA, HEAD, VIDEO
from tests.waiting import WAIT_S
from tests.webrtc_browser import Browser, browsers_are_here, served  # noqa: F401 - a fixture

import streamapp
from streamapp.errors import DefinitionError

OFFER = {"type": "offer", "sdp": HEAD + BUNDLE + VIDEO + DATA}
KEY = {"Authorization": "Bearer secret"}


class Echo(streamapp.App):
    @streamapp.realtime("/rt", webrtc=True)
    async def echo(self, input: dict[str, Any]) -> dict[str, Any]:
        return input

    @streamapp.realtime("/socket")
    async def socket(self, input: dict[str, Any]) -> dict[str, Any]:
        return input


class Other(Echo):
    pass


@pytest.fixture
def client() -> Iterator[TestClient]:
    with served(Echo(), Other()) as client:
        yield client


@pytest.mark.parametrize("path", ["/rt", "/echo/rt", "/other/rt"])
def test_an_offer_is_answered_wherever_the_session_is_opened(client: TestClient, path: str) -> None:
    answer = client.post(f"{path}/webrtc", json=OFFER)
    assert answer.json()["type"] == "answer"
    assert "a=candidate:" in answer.json()["sdp"]


def test_only_what_asks_for_it_is_reached_by_webrtc(client: TestClient) -> None:
    assert client.post("/socket/webrtc", json=OFFER).status_code == 404


@pytest.mark.parametrize(
    ("body", "why"),
    [
        (b"", "EOF"),
        (b"[]", "object"),
        (b'{"type":"answer","sdp":"v=0"}', "type: "),
        (b'{"type":"offer"}', "sdp: "),
        (b'{"type":"offer","sdp":5}', "sdp: "),
        (b'{"type":"offer","sdp":"nonsense"}', "sdp: "),
        (json.dumps({"type": "offer", "sdp": "x" * 65_537}).encode(), "at most 65536"),
        (json.dumps({"type": "offer", "sdp": OFFER["sdp"].replace("VP8", "VP7")}).encode(), "can be answered"),
        (json.dumps({"type": "offer", "sdp": OFFER["sdp"].replace("a=rtcp-mux", "a=x")}).encode(), "mux"),
    ],
)
def test_what_is_no_offer_is_refused_and_nothing_is_left_of_it(client: TestClient, body: bytes, why: str) -> None:
    answer = client.post("/rt/webrtc", content=body)
    assert (answer.status_code, answer.json()["error_type"]) == (422, "invalid_input")
    assert why in answer.json()["detail"]
    assert len(runtime_of(client).places) == 0


def test_a_body_that_is_too_large_is_read_no_further(client: TestClient) -> None:
    assert client.post("/rt/webrtc", content=b" " * 200_000).status_code == 413


def test_offers_count_as_sessions_and_are_refused_beyond_them() -> None:
    with served(Echo(), max_sessions=3) as client:
        codes = [client.post("/rt/webrtc", json=OFFER).status_code for _ in range(5)]
        assert codes == [200, 200, 200, 503, 503]
        assert len(client.app.state.peers) == 3  # type: ignore[attr-defined]
        assert 'streamapp_sessions{app="echo",kind="webrtc"} 3.0' in client.get("/metrics").text
        assert "streamapp_peers 3.0" in client.get("/metrics").text


def test_a_server_that_drains_takes_no_offers(client: TestClient) -> None:
    drain(client)
    assert client.post("/rt/webrtc", json=OFFER).json()["error_type"] == "draining"


def test_a_machine_without_an_address_says_so() -> None:
    with served(Echo(), webrtc_addresses=("192.0.2.123",)) as client:  # not this machine's
        answer = client.post("/rt/webrtc", json=OFFER)
        assert (answer.status_code, answer.json()["error_type"]) == (503, "unavailable")
        assert "STREAMAPP_WEBRTC_ADDRESSES" in answer.json()["detail"]


@pytest.mark.parametrize(
    ("client", "servers", "found"),
    [
        ("127.0.0.1", [], ["127.0.0.2", "127.0.0.1"]),
        ("::1", [], ["127.0.0.2", "127.0.0.1"]),
        ("10.0.0.7", [], ["127.0.0.2"]),
        ("127.0.0.1", ["stun:127.0.0.1:9"], ["127.0.0.2"]),
    ],
)
def test_who_is_on_this_machine_may_come_by_loopback(
    monkeypatch: pytest.MonkeyPatch, client: str, servers: list[str], found: list[str]
) -> None:
    monkeypatch.setattr("aioice.ice.get_host_addresses", lambda use_ipv4, use_ipv6: ["127.0.0.2"])
    with served(Echo(), webrtc_addresses=(), webrtc_ice_servers=servers) as server:
        browser = TestClient(server.app, client=(client, 1))
        browser.portal = server.portal
        sdp = browser.post("/rt/webrtc", json=OFFER).json()["sdp"]
    assert {*re.findall(r"a=candidate:.* (\S+) \d+ typ host", sdp)} == {*found}


def test_the_key_is_asked_for_as_everywhere() -> None:
    with served(Echo(), api_key="secret") as client:
        assert client.post("/rt/webrtc", json=OFFER).status_code == 401
        assert client.get("/rt/webrtc").status_code == 401
        assert client.post("/rt/webrtc", json=OFFER, headers=KEY).status_code == 200


def test_a_page_of_another_site_makes_no_offer(client: TestClient) -> None:
    headers = {"Origin": "https://evil.example", "Sec-Fetch-Site": "cross-site"}
    assert client.post("/rt/webrtc", json=OFFER, headers=headers).status_code == 403


def test_without_a_server_to_help_there_is_none_to_tell(client: TestClient) -> None:
    assert client.get("/rt/webrtc").json() == {"ice_servers": []}


def test_servers_are_told_as_browsers_take_them() -> None:
    turn = {"urls": ["turn:t.example:3478"], "username": "u", "credential": "c"}
    with served(Echo(), webrtc_ice_servers=["stun:s.example", turn]) as client:
        answer = client.get("/rt/webrtc")
    assert answer.json() == {"ice_servers": [{"urls": ["stun:s.example"]}, turn]}
    assert answer.headers["cache-control"] == "no-store"


async def test_candidates_are_tried_where_a_server_helps(monkeypatch: pytest.MonkeyPatch) -> None:
    tried: list[str] = []

    async def add(self: Any, given: Any) -> None:
        tried.append(given.ip)

    monkeypatch.setattr("aiortc.RTCPeerConnection.addIceCandidate", add)
    candidate = "a=candidate:1 1 udp 2122260223 93.184.216.34 4000 typ host\r\n"
    offer = {"type": "offer", "sdp": OFFER["sdp"] + candidate}
    with served(Echo()) as client:
        assert client.post("/rt/webrtc", json=offer).status_code == 200
        assert tried == []
    with served(Echo(), webrtc_ice_servers=["stun:127.0.0.1:9"]) as client:
        assert client.post("/rt/webrtc", json=offer).status_code == 200
        assert tried == ["93.184.216.34"]


def test_an_endpoint_where_offers_go_is_refused_at_compile() -> None:
    class Twice(streamapp.App):
        @streamapp.realtime("/rt", webrtc=True)
        async def echo(self, input: dict[str, Any]) -> dict[str, Any]:
            return input

        @streamapp.endpoint("/rt/webrtc")
        def other(self) -> None: ...

    with pytest.raises(DefinitionError, match="/rt/webrtc is served by"):
        streamapp.compile_app(Twice)


def test_without_the_extra_compiling_says_what_to_install() -> None:
    code = (
        "import sys; sys.modules['aiortc'] = None; import streamapp\n"
        "class Echo(streamapp.App):\n"
        "    @streamapp.realtime('/rt', webrtc=True)\n"
        "    async def echo(self, input: dict) -> dict: return input\n"
        "try: streamapp.compile_app(Echo)\n"
        "except streamapp.errors.DefinitionError as error: print(error)\n"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=WAIT_S, check=True)
    assert "pip install 'streamapp-server[webrtc]'" in run.stdout


def test_an_app_without_it_imports_nothing_of_it() -> None:
    code = "import sys, streamapp.serve.build; print({'aiortc', 'av', 'streamapp.webrtc'} & {*sys.modules})"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=WAIT_S, check=True)
    assert run.stdout == "set()\n"
