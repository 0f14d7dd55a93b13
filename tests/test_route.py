"""Routes of FastAPI's that are made when they are first asked, described, or included elsewhere."""

import copy
import threading

import pytest
from fastapi import Depends, FastAPI, HTTPException
from fastapi.testclient import TestClient
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from streamapp.http.route import LaterRoute


async def double(request: Request, n: int) -> Response:
    return JSONResponse(2 * n)


@pytest.fixture
def route() -> LaterRoute:
    return LaterRoute("/double/{n}", double, methods=["GET"], tags=["sums"])


@pytest.fixture
def api(route: LaterRoute) -> FastAPI:
    api = FastAPI()
    api.router.routes.append(route)
    return api


def test_a_route_is_read_when_it_is_first_asked(api: FastAPI, route: LaterRoute) -> None:
    client = TestClient(api)
    assert client.get("/elsewhere").status_code == 404
    assert client.post("/double/2").status_code == client.head("/double/2").status_code == 405
    assert "dependant" not in vars(route)
    assert [client.get(f"/double/{n}").json() for n in (1, 2)] == [2, 4]
    assert client.get("/double/x").status_code == 422
    assert "dependant" in vars(route)


async def where(request: Request) -> Response:
    return JSONResponse(threading.get_ident())


class Noting(LaterRoute):
    """Note in which thread it is read."""

    read_in = 0

    def make(self) -> None:
        Noting.read_in = threading.get_ident()
        super().make()


def test_what_takes_nothing_but_the_request_is_read_without_a_thread() -> None:
    api = FastAPI()
    api.router.routes.append(Noting("/where", where, methods=["GET"]))
    assert TestClient(api).get("/where").json() == Noting.read_in


def test_a_route_is_described_as_any(api: FastAPI, route: LaterRoute) -> None:
    described = api.openapi()["paths"]["/double/{n}"]["get"]
    assert (described["tags"], described["parameters"][0]["name"]) == (["sums"], "n")


def test_where_a_route_is_included_what_holds_there_holds_for_it(api: FastAPI) -> None:
    def refuse() -> None:
        raise HTTPException(401)

    outer = FastAPI()
    outer.include_router(api.router, dependencies=[Depends(refuse)])
    assert TestClient(outer).get("/double/2").status_code == 401


def test_a_route_that_is_served_otherwise_stays_so_when_it_is_read(api: FastAPI, route: LaterRoute) -> None:
    route.app = JSONResponse("mine")
    route.make()
    assert TestClient(api).get("/double/2").json() == "mine"


def test_a_route_that_was_read_before_is_asked_without_a_detour(route: LaterRoute) -> None:
    route.make()
    made = route.app
    route.make()
    assert route.app is made
    assert made != route._serve


def test_what_another_thread_has_read_since_it_was_asked_for_is_there(route: LaterRoute) -> None:
    route.make()
    assert route.__getattr__("dependant") is route.dependant


def test_a_copy_is_read_when_it_is_asked(route: LaterRoute) -> None:
    copied = copy.copy(route)
    assert copied.dependant.path == "/double/{n}"
    assert "dependant" not in vars(route)


def test_what_no_route_has_is_told_as_of_any(route: LaterRoute) -> None:
    for _ in range(2):
        assert not hasattr(route, "nothing")
