"""OpenAI's paths: which models answer them, and what is answered before a job is."""

from collections.abc import Iterator
from typing import Any

import pytest
from starlette.testclient import TestClient
from tests.scripted_answers import ScriptedModel
from tests.served import drain, serving

import streamapp
from streamapp.errors import DefinitionError

MESSAGES = [{"role": "user", "content": "hi"}]
CHAT = "/v1/chat/completions"


class Teller(streamapp.App):
    openai = streamapp.OpenAI(text="llm")

    def setup(self) -> None:
        self.llm = ScriptedModel(name="tiny")

    @streamapp.endpoint("/hello")
    def hello(self) -> str:
        return "hello"


@pytest.fixture(scope="module")
def client() -> Iterator[TestClient]:
    with serving(Teller) as client:
        yield client


def chat(client: TestClient, path: str = CHAT, **body: Any) -> Any:
    return client.post(path, json={"model": "tiny", "messages": MESSAGES, **body})


@pytest.mark.parametrize("path", [CHAT, f"/teller{CHAT}", f"/v2/teller/openai{CHAT}"])
def test_a_model_answers_for_all_apps_for_its_own_and_where_runpods_users_ask(client: TestClient, path: str) -> None:
    told = chat(client, path)
    assert told.json()["choices"][0]["message"]["content"] == "Once upon a time."
    assert told.json()["id"] == f"chatcmpl-{told.headers['X-Streamapp-Job-Id']}"


def test_what_is_asked_is_a_job_like_any_other(client: TestClient) -> None:
    job_id = chat(client).headers["X-Streamapp-Job-Id"]
    assert client.get(f"/jobs/{job_id}").json()["endpoint"] == f"/teller{CHAT}"


def test_a_slash_more_changes_nothing(client: TestClient) -> None:
    assert client.get("/v1/models/").json() == client.get("/v1/models").json()
    assert client.get("/v1/models/tiny/").json()["id"] == "tiny"
    assert chat(client, f"{CHAT}/").status_code == 200


@pytest.mark.parametrize(("method", "path"), [("GET", CHAT), ("POST", "/v1/models")])
def test_another_method_is_refused_in_openais_shape(client: TestClient, method: str, path: str) -> None:
    refusal = client.request(method, path)
    assert (refusal.status_code, refusal.json()["error"]["code"]) == (405, "method_not_allowed")


@pytest.mark.parametrize("body", [b"", b"{", b"[1]", b'{"messages": "\\ud800"}'])
def test_a_body_that_is_no_json_object_is_refused(client: TestClient, body: bytes) -> None:
    refusal = client.post(CHAT, content=body)
    assert (refusal.status_code, refusal.json()["error"]["type"]) == (400, "invalid_request_error")


def test_a_drained_server_says_to_come_back() -> None:
    with serving(Teller) as drained:
        drain(drained)
        refusal = chat(drained)
    assert (refusal.status_code, refusal.json()["error"]["code"]) == (503, "draining")
    assert (refusal.headers["x-should-retry"], refusal.headers["retry-after"]) == ("true", "1")


def test_pages_of_other_sites_are_refused_in_openais_shape(client: TestClient) -> None:
    refusal = client.post(CHAT, json={}, headers={"Origin": "https://other.example", "Sec-Fetch-Site": "cross-site"})
    assert (refusal.status_code, refusal.json()["error"]["type"]) == (403, "permission_error")


def test_without_a_key_nothing_is_answered() -> None:
    with serving(Teller, api_key="secret") as guarded:
        refusal = guarded.get("/v1/models")
    assert (refusal.status_code, refusal.json()["error"]["code"]) == (401, "invalid_api_key")


def test_an_app_that_says_nothing_keeps_its_paths_and_its_errors() -> None:
    class Own(streamapp.App):
        @streamapp.endpoint(CHAT)
        def own(self, text: str) -> str:
            return text

    with serving(Own) as client:
        assert client.post(CHAT, json={"text": "own"}).json() == "own"
        assert client.post(CHAT, json={}).json()["error_type"] == "invalid_input"
        assert client.get("/v1/models").status_code == 404


def test_two_apps_that_want_one_path_are_both_named() -> None:
    class Own(streamapp.App):
        @streamapp.endpoint(CHAT)
        def own(self, text: str) -> str:
            return text

    with pytest.raises(DefinitionError, match=r"OpenAI's /v1/chat/completions and by own"):
        streamapp.compile_app(Own, Teller)


def test_an_app_that_wants_one_path_twice_is_told_so() -> None:
    class Both(Teller):
        @streamapp.endpoint(CHAT)
        def own(self, text: str) -> str:
            return text

    with pytest.raises(DefinitionError, match="both at '/v1/chat/completions'"):
        streamapp.compile_app(Both)


def test_the_description_names_the_paths_and_the_page_does_not(client: TestClient) -> None:
    described = client.get("/openapi.json").json()["paths"]
    assert described[CHAT]["post"]["summary"] == "Have a language model answer a conversation"
    assert "/v1/completions" in described
    assert not any(path.startswith(("/teller", "/v2")) for path in described)


def test_an_endpoint_of_runpods_that_answers_no_clients_of_openais_is_not_found(client: TestClient) -> None:
    refusal = chat(client, f"/v2/other/openai{CHAT}")
    assert (refusal.status_code, refusal.json()["error"]["code"]) == (404, "not_found")
    assert client.get("/v2/teller/openai/v1/models").json() == client.get("/v1/models").json()
    assert client.get("/v2/teller/openai/v1/models/tiny").json()["id"] == "tiny"


def test_an_app_may_have_nothing_but_its_model() -> None:
    class Bare(streamapp.App):
        openai = streamapp.OpenAI(text="llm")

        def setup(self) -> None:
            self.llm = ScriptedModel()

    with serving(Bare) as client:
        assert [chat(client, path, model="bare").status_code for path in (CHAT, f"/v2/bare/openai{CHAT}")] == [200, 200]
        assert client.get("/ready").status_code == client.get("/openapi.json").status_code == 200


@pytest.mark.parametrize("streams", [False, True])
def test_a_key_that_comes_again_gets_the_job_that_it_has(client: TestClient, streams: bool) -> None:
    key = {"Idempotency-Key": f"key-{streams}"}
    body = {"messages": MESSAGES, "stream": streams}
    first, again = [client.post(CHAT, json=body, headers=key) for _ in range(2)]
    assert first.headers["X-Streamapp-Job-Id"] == again.headers["X-Streamapp-Job-Id"]
    assert first.headers["X-Streamapp-Job-Id"] in again.text
    refusal = client.post(CHAT, json={**body, "seed": 1}, headers=key)
    assert (refusal.status_code, refusal.json()["error"]["type"]) == (400, "invalid_request_error")


def test_a_large_request_is_answered_or_refused_like_any_other(client: TestClient) -> None:
    assert chat(client, messages=MESSAGES * 3000).json()["usage"]["prompt_tokens"] == 3000
    assert chat(client, messages=MESSAGES * 3000, n=0).json()["error"]["param"] == "n"
