"""An endpoint's operations are led to without `/v2/{endpoint_id}`."""

from typing import Any

import pytest
from fastapi import FastAPI, Request
from pydantic import SecretStr
from starlette.testclient import TestClient

import streamapp
from streamapp.http.face import Face
from streamapp.runpod.unprefixed import led_without_prefix
from streamapp.runtime import Runtime
from streamapp.settings import Settings


class Echo(streamapp.App):
    @streamapp.endpoint("/stream")
    def stream(self) -> str:
        return "own"


def add_routes(api: FastAPI, runtime: Runtime) -> None:
    async def tell(request: Request, rest: str) -> Any:
        return f"{request.method} {rest}"

    api.add_api_route("/v2/{rest:path}", tell, methods=["GET", "POST"])


FACES = (led_without_prefix("echo"), Face(name="v2", add_routes=add_routes))


def client(**settings: Any) -> TestClient:
    api = streamapp.compile_app(Echo, settings=Settings(**settings), faces=FACES)
    return TestClient(api, base_url="http://localhost")


@pytest.mark.parametrize("path", ["run", "runsync", "purge-queue", "health", "stream/a", "status/a", "cancel/a"])
@pytest.mark.parametrize("end", ["", "/"])
def test_an_operation_needs_no_prefix(path: str, end: str) -> None:
    for method in ("GET", "POST"):
        assert client().request(method, f"/{path}{end}?wait=5").json() == f"{method} echo/{path}{end}"


@pytest.mark.parametrize("path", ["/v2/other/run", "/v2/echo/run"])
def test_with_a_prefix_it_is_as_ever(path: str) -> None:
    assert client().post(path).json() == "POST " + path.removeprefix("/v2/")


def test_the_servers_own_paths_are_left_alone() -> None:
    with client() as answers:
        assert answers.post("/stream", json={}).text.count("own") == 1
        assert answers.get("/_streamapp/health").json()["status"] == "ok"
        assert answers.get("/stream/a/b").status_code == 404


def test_the_open_path_of_a_guarded_server_is_its_own() -> None:
    guarded = client(api_key=SecretStr("secret"))
    assert guarded.get("/health").json()["status"] == "ok"
    assert guarded.post("/run").status_code == 401
    assert guarded.post("/run", headers={"Authorization": "Bearer secret"}).json() == "POST echo/run"


def test_below_a_root_path_it_leads_below_it() -> None:
    api = streamapp.compile_app(Echo, settings=Settings(), faces=FACES)
    assert TestClient(api, base_url="http://localhost", root_path="/proxy").post("/proxy/run").json() == "POST echo/run"
