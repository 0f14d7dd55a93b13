"""fal's tokens in-process: what is asked of `/rest/tokens/`, and what a token opens."""

import json
from typing import Any

import pytest
from starlette.testclient import TestClient, WebSocketDenialResponse
from starlette.websockets import WebSocket

import streamapp
from streamapp.fal.api import FalHosts
from streamapp.http.middleware import UnloggedToken
from streamapp.http.tokens import Tokens
from streamapp.settings import Settings

KEY = {"Authorization": "Key k"}


class Shop(streamapp.App):
    @streamapp.endpoint("/")
    def home(self) -> str:
        return "home"


class Other(Shop):
    pass


async def talk(socket: WebSocket) -> None:
    await socket.accept()
    await socket.send_text("hello")
    await socket.close()


def serving(**settings: Any) -> TestClient:
    app = streamapp.compile_app(Shop, Other, settings=Settings(**{"drain_s": 0, "api_key": "k", **settings}))
    app.add_api_websocket_route("/{name}/realtime", talk)
    return TestClient(app, base_url="http://here:1", raise_server_exceptions=False)


def asked(client: TestClient, *apps: Any, path: str = "/rest/tokens/", **body: Any) -> Any:
    return client.post(path, json={"allowed_apps": [*apps], **body}, headers=KEY)


def hears(client: TestClient, token: str, path: str = "/run/me/shop/realtime") -> str:
    with client.websocket_connect(f"{path}?fal_jwt_token={token}&max_buffering=2") as socket:
        return str(socket.receive_text())


@pytest.mark.parametrize("path", ["/rest/tokens/", "/rest/tokens"])
def test_a_token_comes_as_a_string(path: str) -> None:
    with serving() as client:
        answer = asked(client, "shop", path=path, token_expiration=120)
    assert answer.status_code == 200
    assert isinstance(answer.json(), str)


def test_a_token_is_given_to_who_has_the_key() -> None:
    with serving() as client:
        assert client.post("/rest/tokens/", json={"allowed_apps": ["shop"]}).status_code == 401
    with serving(api_key=None) as client:
        assert client.post("/rest/tokens/", json={"allowed_apps": ["shop"]}).status_code == 200


@pytest.mark.parametrize("app", ["shop", "me/shop", "me/shop/realtime", "/me/shop/"])
def test_a_token_opens_the_sockets_of_its_app(app: str) -> None:
    with serving() as client:
        assert hears(client, asked(client, app).json()) == "hello"


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"allowed_apps": []},
        {"allowed_apps": "shop"},
        {"allowed_apps": [1]},
        {"allowed_apps": [""]},
        {"allowed_apps": ["/"]},
        {"allowed_apps": ["a" * 201]},
        {"allowed_apps": ["a"] * 21},
        *({"allowed_apps": ["shop"], "token_expiration": s} for s in (0, -1, 3601, 1e400, "120", None, True, [1])),
    ],
)
def test_what_asks_for_a_token_in_another_way_is_told_how(body: dict[str, Any]) -> None:
    with serving() as client:
        answer = client.post("/rest/tokens/", content=json.dumps(body), headers=KEY)
    assert answer.status_code == 400
    assert answer.json()["detail"].partition(":")[0] in ("allowed_apps", "token_expiration", "the body")


REFUSED: dict[str, tuple[str, str]] = {
    "of another app": (Tokens("k").make(["other"], lasts_s=60), "/run/me/shop/realtime"),
    "of no app": (Tokens("k").make([], lasts_s=60), "/run/me/shop/realtime"),
    "of an app that is not served": (Tokens("k").make(["nobody"], lasts_s=60), "/run/me/nobody/realtime"),
    "of another key": (Tokens("other").make(["shop"], lasts_s=60), "/run/me/shop/realtime"),
    "of another key, and expired": (Tokens("other").make(["shop"], lasts_s=-1), "/run/me/shop/realtime"),
    "at the app's own path": (Tokens("k").make(["shop"], lasts_s=60), "/shop/realtime"),
    "for requests over a socket": (Tokens("k").make(["shop"], lasts_s=60), "/ws/me/shop"),
    "for the queue": (Tokens("k").make(["shop"], lasts_s=60), "/queue/me/shop/realtime"),
    "none": ("", "/run/me/shop/realtime"),
}


@pytest.mark.parametrize(("token", "path"), REFUSED.values(), ids=REFUSED)
def test_what_opens_nothing_is_refused_before_the_socket_is_open(token: str, path: str) -> None:
    with serving() as client, pytest.raises(WebSocketDenialResponse) as caught:
        hears(client, token, path)
    assert (caught.value.status_code, caught.value.json()["error_type"]) == (401, "unauthorized")


def test_a_token_is_no_key() -> None:
    with serving() as client:
        token = asked(client, "shop").json()
        headers = {"Authorization": f"Key {token}"}
        assert client.post("/run/me/shop", headers=headers).status_code == 401
        assert client.post(f"/run/me/shop?fal_jwt_token={token}").status_code == 401
        assert client.post(f"/run/me/shop?_token={token}").status_code == 401
        assert client.post("/rest/tokens/", json={"allowed_apps": ["other"]}, headers=headers).status_code == 401


def test_who_shows_a_token_that_has_expired_is_told_so_on_an_open_socket() -> None:
    token = Tokens("k").make(["shop"], lasts_s=-1)
    with serving() as client, client.websocket_connect(f"/run/me/shop/realtime?fal_jwt_token={token}") as socket:
        told = socket.receive_json()
        closed = socket.receive()
    assert (told["status"], told["error"], told["type"]) == ("error", "Unauthorized", "x-fal-error")
    assert (closed["type"], closed["code"]) == ("websocket.close", 1008)


def test_without_a_key_any_token_will_do() -> None:
    with serving(api_key=None) as client:
        assert hears(client, "anything") == "hello"


async def test_a_token_is_in_no_log_of_the_server_around() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        assert b"secret" in scope["query_string"]

    scope: Any = {"type": "websocket", "path": "/me/shop/realtime", "headers": [(b"host", b"fal.run")]}
    scope["query_string"] = b"fal_jwt_token=secret&%66al_jwt_token=secret&max_buffering=2"
    led = FalHosts(UnloggedToken(app, ["fal_jwt_token"]))
    await led(scope, None, None)  # type: ignore[arg-type]
    assert scope["query_string"] == b"max_buffering=2"
