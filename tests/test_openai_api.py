"""OpenAI's paths: which models answer them, and what is answered before a job is."""

from collections.abc import Iterator
from typing import Any

import pytest
from starlette.testclient import TestClient
from tests.scripted_answers import ScriptedModel
from tests.served import serving

import streamapp

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
