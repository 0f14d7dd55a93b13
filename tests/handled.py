"""Handlers that were written for Runpod, served by our app: what several test files share."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from streamapp.jobs.job import Job
from streamapp.runpod.handlers import handler_app
from streamapp.runpod.runner import HandlerWorker
from streamapp.settings import Settings
from streamapp.testing import TestClient

ASYNC = {"Prefer": "respond-async"}


class Serving:
    """A handler's app, and a client of it."""

    def __init__(self, client: TestClient) -> None:
        self.client = client

    @property
    def worker(self) -> HandlerWorker:
        """Return what runs the handler."""
        worker = self.client._api.state.runtime.served[0].workers.sync
        assert isinstance(worker, HandlerWorker)
        return worker

    def run(self, given: Any = None) -> Any:
        """Return a job's result; raises what ended it."""
        stream = self.client.stream("/stream", given or {})
        list(stream)
        return stream.result

    def outputs(self, given: Any = None) -> list[Any]:
        """Return what a job has put out; raises what ended it."""
        return [event.data for event in self.client.stream("/stream", given or {}) if event.name == "output"]

    def submit(self, given: Any = None) -> Job:
        """Start a job that nobody reads."""
        answer = self.client.post("/stream", json=given or {}, headers=ASYNC)
        assert answer.status_code == 202, answer.text
        return self.client.job(answer.json()["job_id"])


@contextmanager
def serving(handler: Callable[..., Any], *, settings: Settings | None = None, **config: Any) -> Iterator[Serving]:
    """Serve what `runpod.serverless.start` would be given."""
    with TestClient(handler_app({"handler": handler, **config}, name="handled"), settings=settings) as client:
        yield Serving(client)
