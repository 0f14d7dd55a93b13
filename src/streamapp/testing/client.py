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

import asyncio
import hashlib
from collections.abc import Generator, Iterable, Iterator, Mapping
from concurrent.futures import Future, wait
from contextlib import ExitStack, suppress
from types import SimpleNamespace
from typing import Any, Self

import anyio
import httpx
import PIL.Image
import PIL.ImageDraw
from anyio.from_thread import BlockingPortal, start_blocking_portal
from starlette.types import ASGIApp, Message, Scope

from streamapp_client import Event
from streamapp_client import _core as core
from streamapp_client._errors import error_from_response

from ..app import App
from ..serve.build import compile_app
from ..http.connection import TRANSPORT_EXTENSION
from ..jobs.job import Job
from ..runtime import MakeWorkers, thread_and_tasks
from ..settings import Settings

_NOTICE_TIMEOUT_S = 10.0
_SETUP_S = 600.0
# The environment of whoever runs the tests does not count. Nothing is waited for at the end, and a test may stop in
# a debugger for longer than a client may stop reading.
_SETTINGS = Settings.model_construct(drain_s=0.0, send_timeout_s=600.0)


class TestClient:
    """Run apps for a test and send them requests; use it as a context manager.

    Entering runs the apps' `setup`, leaving ends open streams and running jobs and runs `teardown`.

    Args:
        apps: classes or instances; with several, each is at `/{name}` and the first also at `/`.
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
        self, *apps: type[App] | App, settings: Settings | None = None, workers: MakeWorkers = thread_and_tasks
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
            transport = _Transport(self._api, self._portal)
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


class _Transport(httpx.BaseTransport):
    """Carry requests to an ASGI application on the portal's loop, and stream its answers."""

    def __init__(self, app: ASGIApp, portal: BlockingPortal) -> None:
        self._app = app
        self._portal = portal
        self._open: set[_Body] = set()

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        exchange = _Exchange(request.read())
        running = self._portal.start_task_soon(exchange.run, self._app, _scope(request))
        body = _Body(exchange, running, self._portal, self._open)
        start = body.take()
        return httpx.Response(start["status"], headers=start["headers"], stream=body, request=request)

    def close(self) -> None:
        for body in tuple(self._open):
            body.close()


class _Exchange:
    """Play the server for one request, on the loop; also the transport that a response can close."""

    def __init__(self, body: bytes) -> None:
        self._request: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]
        self._is_over = asyncio.Event()
        # Without a buffer: the app sends on when the test has read.
        self._to_client, self._to_test = anyio.create_memory_object_stream[Message](0)

    async def run(self, app: ASGIApp, scope: Scope) -> None:
        scope["extensions"] = {TRANSPORT_EXTENSION: self}
        with self._to_client:
            await app(scope, self._receive, self._send)

    async def take(self) -> Message | None:
        """Return the next message of the app; None when the connection was closed."""
        with suppress(anyio.EndOfStream, anyio.ClosedResourceError):
            return await self._to_test.receive()
        return None

    async def _receive(self) -> Message:
        if self._request:
            return self._request.pop()
        await self._is_over.wait()
        return {"type": "http.disconnect"}

    async def _send(self, message: Message) -> None:
        with suppress(anyio.BrokenResourceError, anyio.ClosedResourceError):  # a server sends on when nobody reads
            await self._to_client.send(message)
        if message["type"] == "http.response.body" and not message.get("more_body"):
            self._is_over.set()

    def is_closing(self) -> bool:
        """Say whether the connection has been closed, from either end."""
        return self._is_over.is_set()

    def get_write_buffer_size(self) -> int:
        """Say that what was sent may not have been read yet."""
        return 1

    def leave(self) -> None:
        """Close the connection from the client's end."""
        self._is_over.set()
        self._to_test.close()

    def close(self) -> None:
        """Close the connection from the app's end, like `abort`: what it sent before has been read."""
        self._is_over.set()
        self._to_client.close()

    abort = close


class _Body(httpx.SyncByteStream):
    """Read an answer in the test's thread; close it as a client that leaves."""

    def __init__(
        self, exchange: _Exchange, running: "Future[None]", portal: BlockingPortal, siblings: "set[_Body]"
    ) -> None:
        self._exchange = exchange
        self._running = running
        self._portal = portal
        self._siblings = siblings
        siblings.add(self)

    def take(self) -> Message:
        """Wait for the next message of the app."""
        message = self._portal.call(self._exchange.take)
        if message is None:
            self.close()
            raise httpx.RemoteProtocolError("the connection was closed before its end") from self._running.exception()
        return message

    def __iter__(self) -> Iterator[bytes]:
        message: Message = {"more_body": True}
        while message.get("more_body"):
            message = self.take()
            yield message.get("body", b"")

    def close(self) -> None:
        """Leave, and wait until the app has noticed."""
        if self in self._siblings:
            self._siblings.discard(self)
            self._portal.call(self._exchange.leave)
            wait([self._running], _NOTICE_TIMEOUT_S)


def _scope(request: httpx.Request) -> Scope:
    url = request.url
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "method": request.method,
        "scheme": url.scheme,
        "path": url.path,
        "raw_path": url.raw_path.partition(b"?")[0],
        "root_path": "",
        "query_string": url.query,
        "headers": [(name.lower(), value) for name, value in request.headers.raw],
        "client": ("testclient", 50000),
        "server": (url.host, 80),
        "state": {},
    }


class FakePipeline:
    """Stand in for a diffusers pipeline: same call, same callbacks, pictures without a model and without torch.

    The same prompt and seed draw the same picture. `callback_on_step_end` is called as diffusers calls it, with the
    unfinished picture where a real pipeline has its latents; setting `_interrupt` stops it after the step.

    Args:
        steps: when the call does not say `num_inference_steps`.
        size: (width, height) when the call does not say.
    """

    def __init__(self, *, steps: int = 4, size: tuple[int, int] = (64, 64)) -> None:
        self.steps = steps
        self.size = size
        self._interrupt = False

    def __call__(
        self,
        prompt: str | Iterable[str] = "",
        *,
        num_inference_steps: int | None = None,
        width: int | None = None,
        height: int | None = None,
        num_images_per_prompt: int = 1,
        generator: Any = None,
        callback_on_step_end: Any = None,
        **others: Any,
    ) -> SimpleNamespace:
        """Draw pictures.

        Args:
            generator: a seed, or a `torch.Generator`.
            others: what real pipelines take besides; without effect.
        Returns:
            An object with `images`: PIL images, as many as prompts times `num_images_per_prompt`.
        """
        self._interrupt = False
        steps = num_inference_steps or self.steps
        size = (width or self.size[0], height or self.size[1])
        prompts = [prompt] if isinstance(prompt, str) else list(prompt)
        seed = generator.initial_seed() if hasattr(generator, "initial_seed") else generator
        images = [_draw(f"{p}/{seed}/{n}", size) for p in prompts for n in range(num_images_per_prompt)]
        for index in range(steps):
            if callback_on_step_end is not None and not self._interrupt:
                unfinished = PIL.Image.blend(PIL.Image.new("RGB", size, "grey"), images[0], (index + 1) / steps)
                callback_on_step_end(self, index, 1000 - 1000 * index // steps, {"latents": unfinished})
        return SimpleNamespace(images=images)


def _draw(description: str, size: tuple[int, int]) -> PIL.Image.Image:
    """Draw a disc on a ground; the description decides the colours and the place."""
    ground, disc, x, y = hashlib.sha256(description.encode()).digest()[:4]
    image = PIL.Image.new("RGB", size, f"hsl({ground * 360 // 256}, 80%, 20%)")
    centre = (size[0] * (64 + x / 2) // 256, size[1] * (64 + y / 2) // 256)
    PIL.ImageDraw.Draw(image).circle(centre, min(size) // 4, fill=f"hsl({disc * 360 // 256}, 80%, 60%)")
    return image
