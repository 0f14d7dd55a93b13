"""Test apps in-process: a client that shows events, failures, disconnects and resumes; no socket, no server.

    from streamapp.testing import TestClient

    def test_the_last_event_is_the_image() -> None:
        with TestClient(Painter) as client, client.stream("/stream", {"prompt": "a red circle"}) as events:
            assert list(events)[-1].image().size == (512, 512)

The compiled app runs on an event loop in a thread of its own, with what `streamapp serve` adds to it: an app notices
that its client has left, and a stream that fails is cut. Errors are those of `streamapp_client`. As in production, a
newer preview replaces one that was not read yet: only the last one is sure to arrive.

Divergence: this is not Starlette's `TestClient`. That one cancels the app where a real client disconnects, lends no
transport to a stream that fails, and wants httpx2.
"""

from collections.abc import Generator, Iterator, Mapping
from contextlib import ExitStack
from typing import Any, Self

import httpx
from anyio.from_thread import start_blocking_portal

from streamapp_client import Event
from streamapp_client import _core as core
from streamapp_client._errors import error_from_response

from ..app import App
from ..jobs.job import Job
from ..loading import AppLike
from ..runtime import MakeWorkers, thread_and_tasks
from ..serve.build import compile_app
from ..settings import Settings
from .transport import AppTransport

_SETUP_S = 600.0
# The environment of whoever runs the tests does not count. Nothing is waited for at the end, and a test may stop in
# a debugger for longer than a client may stop reading.
_SETTINGS = Settings.model_construct(drain_s=0.0, send_timeout_s=600.0)


class TestClient:
    """Run apps for a test and send them requests; use it as a context manager.

    Entering runs the apps' `setup`, leaving ends open streams and running jobs and runs `teardown`.

    Args:
        apps: classes, instances or chutes; with several, each is at `/{name}` and the first also at `/`.
        settings: the defaults when None, whatever the environment says.
        workers: makes what runs an app's jobs, as for `compile_app`.
    Attributes:
        http: a plain `httpx.Client` of the app, for all that the methods here do not cover.
    Raises:
        DefinitionError: an app is written wrongly.
    """

    __test__ = False  # pytest would collect it

    http: httpx.Client

    def __init__(
        self,
        *apps: type[App] | App | AppLike,
        settings: Settings | None = None,
        workers: MakeWorkers = thread_and_tasks,
    ) -> None:
        self._api = compile_app(*apps, settings=settings or _SETTINGS, workers=workers)
        self._exit = ExitStack()

    def __enter__(self) -> Self:
        """Start the apps.

        Raises:
            SetupFailed: a `setup` raised; the log says why.
            TimeoutError: a `setup` has not returned after ten minutes.
        """
        with ExitStack() as stack:
            self._portal = stack.enter_context(start_blocking_portal())
            stack.enter_context(self._portal.wrap_async_context_manager(self._api.router.lifespan_context(self._api)))
            for served in self._api.state.runtime.served:
                served.ready.result(_SETUP_S)
            transport = AppTransport(self._api, self._portal)
            self.http = stack.enter_context(httpx.Client(transport=transport, base_url="http://testserver"))
            self._exit = stack.pop_all()
        return self

    def __exit__(self, *exception: object) -> None:
        self._exit.close()

    def get(self, path: str, **options: Any) -> httpx.Response:
        """Send a GET request with httpx's options."""
        return self.http.get(path, **options)

    def post(self, path: str, **options: Any) -> httpx.Response:
        """Send a POST request with httpx's options."""
        return self.http.post(path, **options)

    def run(self, path: str, json: Any = None) -> Any:
        """Call an endpoint that returns one value, and return it as JSON.

        Raises:
            streamapp_client.ApiError: the app refused, or the endpoint failed; the class says why.
        """
        response = self.http.post(path, json=core.body(json))
        core.check_answer(response, core.JSON)
        return core.decode_json(response.content, f"the answer of {path}")

    def stream(
        self,
        path: str,
        json: Any = None,
        *,
        method: str = "POST",
        params: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
        last_event_id: str | None = None,
        limit: int | None = None,
    ) -> "TestStream":
        """Start a job, or come back to one, and return its events.

        Args:
            json: the endpoint's arguments.
            method: "GET" is what an EventSource sends: arguments in `params`, events without names, `job` and `done`.
            last_event_id: the last event seen of a GET stream.
            limit: leave after so many events.
        Raises:
            streamapp_client.ApiError: the app refused; the class says why.
        """
        request = self.http.build_request(
            method,
            path,
            json=core.body(json) if method == "POST" else json,
            params=params,
            headers={**(headers or {}), **({"Last-Event-ID": last_event_id} if last_event_id else {})},
        )
        response = self.http.send(request, stream=True)
        if response.is_error:
            response.read()
        if response.status_code != httpx.codes.NO_CONTENT:  # the job was read to its end: no event is left
            core.check_answer(response, core.EVENT_STREAM)
        return TestStream(self, response, limit)

    def resume(self, event_id: str) -> "TestStream":
        """Come back to a job behind one of its events; a last event `done` tells that it ended well."""
        job_id = event_id.partition(":")[0]
        named = {"_events": "named"}
        return self.stream(f"/jobs/{job_id}/events", method="GET", params=named, last_event_id=event_id)

    def job(self, job_id: str) -> Job:
        """Return the app's own record of a job: `status`, `error`, `result`.

        Raises:
            JobNotFound: there never was such a job.
        """
        job: Job = self._portal.call(self._api.state.runtime.jobs.find, job_id, "")
        return job

    def _download(self, url: str) -> bytes:
        response = self.http.get(url)
        if response.is_error:
            raise error_from_response(response)
        return response.content


class TestStream(Iterator[Event]):
    """Iterate over the events of one job; a job that fails, and a stream that is cut, raise as in the real client.

    Closing it early, and letting go of it, is a client that leaves: the app has noticed when `close` returns.

    Attributes:
        response: status and headers of the answer.
    """

    __test__ = False

    def __init__(self, client: TestClient, response: httpx.Response, limit: int | None) -> None:
        self.response = response
        self._client = client
        self._left = limit
        self._events = _read(response, core.Transcript(self.job_id, client._download))

    @property
    def job_id(self) -> str:
        """Return the job's id; "" where the answer names none."""
        job_id: str = self.response.headers.get("X-Streamapp-Job-Id", "")
        return job_id

    @property
    def result(self) -> Any:
        """Return the job's result; None before it has succeeded."""
        job = self._client.job(self.job_id)
        return job.result.json() if job.result is not None and job.status == "succeeded" else None

    def __next__(self) -> Event:
        """Wait for the next event.

        Raises:
            streamapp_client.ApiError: the job failed or was cancelled; the class says why.
            streamapp_client.StreamInterrupted: the stream was cut without a word.
        """
        if self._left == 0:
            self.close()
        elif self._left is not None:
            self._left -= 1
        return next(self._events)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        """Leave; without effect on a stream that has ended."""
        self._events.close()
        self.response.close()


def _read(response: httpx.Response, transcript: core.Transcript) -> Generator[Event, None, None]:
    """Yield the events. A function: a method's frame would keep its stream alive when a test lets go of it."""
    try:
        for chunk in response.iter_bytes():
            yield from transcript.feed(chunk)
    except httpx.RequestError as error:
        raise transcript.interrupted(error) from error
    finally:
        response.close()
