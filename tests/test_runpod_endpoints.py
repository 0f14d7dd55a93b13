"""What `[tool.streamapp.endpoints.<id>]` says of an endpoint holds, and nonsense is told in words."""

import threading
from collections.abc import Iterator
from typing import Any

import pytest
from pydantic import SecretStr, ValidationError
from starlette.testclient import TestClient
from tests.waiting import WAIT_S

import streamapp
from streamapp.errors import DefinitionError
from streamapp.runpod.endpoints import Endpoint, own_ids
from streamapp.runpod.handlers import handler_app
from streamapp.runpod.pool import pool_app
from streamapp.serve.build import compile_app
from streamapp.settings import Settings

NEEDS = Endpoint(app="counter", gpu="16 GB", image="docker.io/me/count:latest")


class Counter(streamapp.App):
    @streamapp.endpoint("/")
    def value(self) -> int:
        return 1

    @streamapp.endpoint("/stream")
    def stream(self) -> Iterator[int]:
        yield 1

    @streamapp.endpoint("/of/{name}")
    def of(self, name: str) -> str:
        return name

    @streamapp.endpoint("/deep/value/")
    def deep(self) -> int:
        return 2


class Value(streamapp.App):
    @streamapp.endpoint("/")
    def value(self) -> int:
        return 1


class Elsewhere(streamapp.App):
    @streamapp.endpoint("/of/{name}")
    def of(self, name: str) -> str:
        return name


def test_an_apps_name_leads_to_its_first_stream_and_longer_ids_to_others() -> None:
    paths = {endpoint_id: spec.path for endpoint_id, spec in own_ids(Counter).items()}
    assert paths == {
        "counter": "/stream",
        "counter--": "/",
        "counter--stream": "/stream",
        "counter--deep--value": "/deep/value/",
    }


def test_where_an_app_does_not_stream_its_name_leads_to_what_is_at_its_root() -> None:
    assert {endpoint_id: spec.path for endpoint_id, spec in own_ids(Value).items()} == {
        "value": "/",
        "value--": "/",
    }


def test_the_server_has_the_endpoints_by_their_ids() -> None:
    endpoints = {"image-chunks": NEEDS, "counter": Endpoint(max_queue=1)}
    assert compile_app(Counter, endpoints=endpoints).state.runpod_endpoints == endpoints


def test_what_an_endpoint_needs_stands_in_the_description_of_what_it_leads_to() -> None:
    paths = compile_app(Counter, Value, endpoints={"a": NEEDS, "b": Endpoint(app="counter")}).openapi()["paths"]
    said = "Runpod endpoint a: GPU 16 GB, image docker.io/me/count:latest\n\nRunpod endpoint b"
    assert {path for path, methods in paths.items() if methods.get("post", {}).get("description") == said} == {
        "/stream",
        "/counter/stream",
    }


def test_an_endpoints_queue_is_its_apps() -> None:
    api = compile_app(Counter, Value, endpoints={"a": Endpoint(app="counter", max_queue=3), "b": NEEDS})
    assert [served.max_queue for served in api.state.runtime.served] == [3, None]


@pytest.mark.parametrize(
    ("endpoints", "said"),
    [
        ({"a b": NEEDS}, "'a b' is no endpoint id; write up to 64 letters, digits, '-' and '_'"),
        ({"-a": NEEDS}, "'-a' is no endpoint id"),
        (
            {"a": Endpoint(app="count")},
            "endpoint 'a' of the app 'count': there is none; there are counter, value, elsewhere",
        ),
        ({"a": Endpoint()}, "endpoint 'a' of the app 'a': there is none"),
        (
            {"a": Endpoint(app="elsewhere")},
            "every path of the app has parameters; an id leads to one without",
        ),
        (
            {"value": NEEDS},
            "endpoint 'value' of the app 'counter': 'value' has an endpoint of that id; choose another id",
        ),
        ({"counter--deep--value": NEEDS}, "'counter' has an endpoint of that id"),
        (
            {"a": Endpoint(app="value", max_queue=1), "value": Endpoint(max_queue=2)},
            "endpoint 'value': max_queue is 2, and another endpoint of 'value' says 1; they have one queue",
        ),
    ],
)
def test_endpoints_that_cannot_be_are_refused(endpoints: dict[str, Endpoint], said: str) -> None:
    with pytest.raises(DefinitionError) as raised:
        compile_app(Counter, Value, Elsewhere, endpoints=endpoints)
    assert said in str(raised.value)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"max_worker": 1}, "there is no 'max_worker'; write 'max_workers'; there are app, type, max_workers, "),
        ({"x": 1}, "there is no 'x'; there are app, type, max_workers, "),
        ({"type": "load balancer"}, "Expected 'queue', got 'load balancer'"),
        ({"type": 1}, "Input should be 'queue'"),
        ({"max_workers": 0}, "greater than or equal to 1"),
        ({"max_workers": True}, "valid integer"),
        ({"max_workers": "3"}, "valid integer"),
        ({"ttl_s": 0}, "greater than 0"),
        ({"execution_timeout_s": 1e9}, "less than or equal to 604800"),
        ({"gpu": "16\nGB"}, "Expected one line of text, got '16\\nGB'"),
        ({"image": ""}, "at least 1 character"),
    ],
)
def test_what_is_no_endpoint_is_told(given: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError) as raised:
        Endpoint(**given)
    assert said in str(raised.value)


@pytest.mark.parametrize("given", [{"type": "Queue"}, {"type": "queue"}, {"ttl_s": 60}, {"execution_timeout_s": 0.5}])
def test_what_the_console_says_may_be_written(given: dict[str, Any]) -> None:
    assert Endpoint(**given).type == "queue"


@pytest.mark.parametrize("is_elsewhere", [True, False])
def test_the_bound_of_a_queue_holds_whoever_runs_the_jobs(is_elsewhere: bool) -> None:
    gate = threading.Event()
    app = pool_app("mine") if is_elsewhere else handler_app({"handler": lambda job: gate.wait(WAIT_S)}, name="mine")
    api = compile_app(
        app, endpoints={"mine": Endpoint(max_queue=1)}, settings=Settings(worker_secret=SecretStr("s3cret"))
    )
    with TestClient(api, headers={"Host": "localhost"}) as client:
        answers = [client.post("/v2/mine/run", json={"input": {}}).status_code for _ in range(3)]
        gate.set()
    assert (answers[0], answers[2]) == (200, 429)
