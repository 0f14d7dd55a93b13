"""Handlers of Runpod's, asked as its users ask a language model there."""

from collections.abc import Iterator
from typing import Any

import pytest
from starlette.testclient import TestClient
from tests.served import serving

from streamapp.runpod.apps import QueueApp

CHAT = "/v1/chat/completions"
URL = f"/v2/vllm/openai{CHAT}"


class Handler(QueueApp, name="vllm"):
    """Answer as the handler of Runpod's vLLM worker; by what the test says where it does."""

    def run_job(self, job: dict[str, Any]) -> Any:
        asked = job["input"]
        yield from asked["openai_input"].get("yields") or [asked]


@pytest.fixture(scope="module")
def client() -> Iterator[TestClient]:
    with serving(Handler) as client:
        yield client


def streamed(client: TestClient, *yields: Any) -> list[str]:
    told = client.post(URL, json={"stream": True, "yields": yields})
    return [line for line in told.text.splitlines() if line.startswith("data")]


def test_a_handler_gets_the_path_and_the_body(client: TestClient) -> None:
    told = client.post(URL, json={"model": "any"})
    assert told.json() == {"openai_route": CHAT, "openai_input": {"model": "any"}}
    assert client.get("/v2/vllm/openai/v1/models").json() == {"openai_route": "/v1/models", "openai_input": {}}


@pytest.mark.parametrize("end", [[], ["data: [DONE]\n\n"], ["data: [DONE]"]])
def test_what_it_yields_is_passed_on_to_one_end(client: TestClient, end: list[str]) -> None:
    told = streamed(client, 'data: {"n": 1}\n\ndata: {"n": 2}\n\n', {"n": 3}, *end)
    assert told == ['data: {"n": 1}', 'data: {"n": 2}', 'data: {"n":3}', "data: [DONE]"]


def test_lines_may_come_without_their_blank_ones(client: TestClient) -> None:
    assert streamed(client, "data: 1", "data: 2\r\n", "\n") == ["data: 1", "data: 2", "data: [DONE]"]


@pytest.mark.parametrize(
    ("answer", "status"),
    [
        *(({"id": 1}, 200), ('{"id": 1}', 200), ({"error": {"message": "no", "code": 404}}, 404)),
        *(({"object": "error", "code": 422}, 422), ({"object": "error", "code": 7}, 400)),
        *(({"error": {"message": "no", "code": "bad"}}, 400), ("no JSON", 500)),
    ],
)
def test_a_document_is_its_last_value(client: TestClient, answer: Any, status: int) -> None:
    assert client.post(URL, json={"yields": ["first", answer]}).status_code == status
