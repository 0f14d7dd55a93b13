"""An endpoint of Runpod's kind takes any JSON."""

from collections.abc import Iterator
from typing import Any, ClassVar

import pytest

from streamapp.runpod.apps import QueueApp
from streamapp.testing import TestClient


class Echo(QueueApp):
    def run_job(self, job: dict[str, Any]) -> Iterator[Any]:
        yield {"got": job["input"]}


@pytest.mark.parametrize("value", [{"a": 1}, [1], "text", 5])
def test_the_whole_body_is_the_input(value: Any) -> None:
    with TestClient(Echo) as client:
        with client.stream("/stream", value) as stream:
            assert [event.data for event in stream] == [{"got": value}]


@pytest.mark.parametrize("content_type", ["application/x-www-form-urlencoded", "text/plain"])
def test_json_that_is_called_something_else_is_refused_with_the_way_out(content_type: str) -> None:
    with TestClient(Echo) as client:
        answer = client.post("/stream", content=b'{"a": 1}', headers={"Content-Type": content_type})
    assert (answer.status_code, "with curl add -H 'Content-Type" in answer.json()["detail"]) == (415, True)


def test_the_schema_of_the_input_is_what_the_document_says_and_any_json_is_taken() -> None:
    class Described(Echo):
        input_schema: ClassVar[dict[str, Any] | None] = {"type": "object", "properties": {"n": {"type": "integer"}}}

    with TestClient(Described) as client:
        body = client.get("/openapi.json").json()["paths"]["/stream"]["post"]["requestBody"]
        assert [event.data for event in client.stream("/stream", ["n"])] == [{"got": ["n"]}]
    assert body["content"]["application/json"]["schema"]["properties"] == {"n": {"type": "integer"}}


def test_who_runs_its_jobs_has_to_be_said() -> None:
    with pytest.raises(NotImplementedError):
        QueueApp().run_job({})
