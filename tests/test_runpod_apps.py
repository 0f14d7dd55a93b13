"""An endpoint of Runpod's kind takes any JSON."""

from collections.abc import Iterator
from typing import Any

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
