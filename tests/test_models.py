"""The models that are served, by their names."""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from starlette.testclient import TestClient
from tests.scripted_answers import ScriptedModel
from tests.served import serving
from tests.waiting import WAIT_S

import streamapp
from streamapp.errors import UpstreamFailed


class One(streamapp.App):
    openai = streamapp.OpenAI(text="llm")

    def setup(self) -> None:
        self.llm = ScriptedModel("one", name="hub/one")

    @streamapp.endpoint("/hello")
    def hello(self) -> str:
        return "hello"


class Two(One):
    def setup(self) -> None:
        self.llm = ScriptedModel("two", name="hub/two")


@pytest.fixture(scope="module")
def client() -> Iterator[TestClient]:
    with serving(One, Two) as client:
        yield client


def answered(client: TestClient, path: str = "/v1/completions", **body: Any) -> Any:
    return client.post(path, json={"prompt": "a", **body}).json()


@pytest.mark.parametrize(("model", "text"), [("hub/one", "one"), ("hub/two", "two"), ("two", "two")])
def test_a_name_picks_the_app(client: TestClient, model: str, text: str) -> None:
    assert answered(client, model=model)["choices"][0]["text"] == text


def test_of_several_one_has_to_be_named(client: TestClient) -> None:
    error = answered(client)["error"]
    assert (error["param"], error["message"]) == ("model", "model: expected one of 'hub/one', 'hub/two'")
    assert answered(client, "/two/v1/completions")["choices"][0]["text"] == "two"


def test_a_name_is_text(client: TestClient) -> None:
    assert answered(client, model=5)["error"]["message"] == "model: expected text"


def test_a_model_of_another_app_is_not_found_below_an_apps_own_path(client: TestClient) -> None:
    error = answered(client, "/two/v1/completions", model="hub/one")["error"]
    assert error["code"] == "model_not_found"
    assert "'hub/two'" in error["message"]


def test_models_are_told_of_by_their_names(client: TestClient) -> None:
    assert [model["id"] for model in client.get("/v1/models").json()["data"]] == ["hub/one", "hub/two"]
    assert client.get("/two/v1/models/hub/two").json()["object"] == "model"
    assert client.get("/two/v1/models/hub/one").status_code == 404


def test_a_request_waits_for_the_setup() -> None:
    goes_on = threading.Event()

    class Slow(One):
        def setup(self) -> None:
            assert goes_on.wait(WAIT_S)
            super().setup()

    with serving(Slow) as client, ThreadPoolExecutor(1) as beside:
        answer = beside.submit(answered, client, model="hub/one")
        assert client.get("/v1/models").json()["data"][0]["id"] == "slow"
        goes_on.set()
        assert answer.result(WAIT_S)["choices"][0]["text"] == "one"


def test_a_setup_that_does_not_come_to_its_end_is_given_up() -> None:
    goes_on = threading.Event()

    class Stuck(One):
        def setup(self) -> None:
            assert goes_on.wait(WAIT_S)

    with serving(Stuck, queue_timeout_s=0.05) as client:
        assert answered(client)["error"]["code"] == "queue_timeout"
        goes_on.set()


def test_a_setup_that_has_failed_is_told() -> None:
    class Failing(One):
        def setup(self) -> None:
            raise RuntimeError("no weights")

    with serving(Failing) as client:
        assert answered(client)["error"]["code"] == "setup_failed"


class Elsewhere(ScriptedModel):
    """Have models at a server elsewhere, which a test may have fail."""

    fails = False

    async def forward(self, path: str, body: Any) -> Any:
        yield {"id": "cmpl-1", "asked": body["model"]}

    async def models(self) -> list[str]:
        if self.fails:
            raise UpstreamFailed("the upstream cannot be reached")
        return ["a/b", "c"]


def test_models_of_a_server_elsewhere_are_called_as_there() -> None:
    class Far(One):
        def setup(self) -> None:
            self.llm = Elsewhere("one")

    with serving(Far) as client:
        assert [model["id"] for model in client.get("/v1/models").json()["data"]] == ["a/b", "c"]
        assert client.get("/v1/models/a/b").status_code == 200
        told = [answered(client, model=name) for name in ("c", "far")]
        assert [(each["asked"], each["model"]) for each in told] == [("c", "c"), ("far", "far")]
        assert answered(client, model="d")["error"]["code"] == "model_not_found"


def test_a_server_elsewhere_that_does_not_answer_hides_no_other_model() -> None:
    class Far(One):
        def setup(self) -> None:
            self.llm = Elsewhere("one")
            self.llm.fails = True

    with serving(Far, Two) as client:
        assert [model["id"] for model in client.get("/v1/models").json()["data"]] == ["far", "hub/two"]
        assert answered(client, model="hub/two")["choices"][0]["text"] == "two"
        assert answered(client, model="a/b")["error"]["code"] == "upstream_failed"
