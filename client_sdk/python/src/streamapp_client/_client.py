"""Send requests and read answers over a blocking connection; what they mean is decided in `_core.py`."""

import weakref
from collections.abc import Generator, Iterator
from contextlib import ExitStack, suppress
from typing import Any, Self

import httpx
from httpx_sse import connect_sse

from . import _core as core
from ._errors import NoImage, error_from_response
from ._models import Event

_CANCEL_TIMEOUT_S = 2.0


class Client:
    """Call one streamapp server; may be shared between threads.

        for event in Client("http://127.0.0.1:8000").stream("/stream", {"prompt": "a red circle"}):
            print(event.name, event.data)

    Args:
        url: where the server is, without the path of an endpoint.
        key: its API key, sent as `Authorization: Key ...`, to this server only.
        silence_s: how long a stream may say nothing before it counts as cut. The server sends a heartbeat every 10 s.
    """

    def __init__(self, url: str, key: str | None = None, *, silence_s: float = 45.0) -> None:
        if not url.startswith(("http://", "https://")):
            raise ValueError(f'Expected a URL like "http://127.0.0.1:8000", got {url!r}')
        self._http = httpx.Client(
            base_url=url, headers=core.request_headers(key), timeout=core.timeout(silence_s), limits=core.LIMITS
        )
        # Not `__del__`: the finalizer also runs at exit, while the modules it needs are still there.
        self._hang_up = weakref.finalize(self, self._http.close)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        """Close all connections; streams that are still open break off."""
        self._hang_up()

    def stream(self, path: str, input: Any = None) -> "Stream":
        """Start a job and return its events; blocks until the server begins to answer, about a second at most.

        Args:
            input: the endpoint's arguments, as JSON.

        Raises:
            ApiError: the server refused; the class says why.
            ConnectionFailed: no answer came.
            UnexpectedAnswer: the endpoint does not stream.
        """
        with core.answering(self._http.base_url), ExitStack() as connection:
            source = connection.enter_context(connect_sse(self._http, "POST", path, json=core.body(input)))
            _check(source.response, core.EVENT_STREAM)
            return Stream(self, source.response, connection.pop_all())

    def run(self, path: str, input: Any = None, *, timeout_s: float = 660.0) -> Any:
        """Call an endpoint that returns one JSON value, and return it.

        Args:
            input: the endpoint's arguments, as JSON.
            timeout_s: how long to wait for the value. The default is a minute over the server's own deadline, so that
                the server is first and says why.

        Raises:
            ApiError: the server refused, or the endpoint failed; the class says why.
            ConnectionFailed: no answer came.
            UnexpectedAnswer: the endpoint streams, or answers no JSON.
        """
        request = self._http.stream(
            "POST", path, json=core.body(input), headers={"Accept": core.JSON}, timeout=core.timeout(timeout_s)
        )
        with core.answering(self._http.base_url), request as response:
            _check(response, core.JSON)
            return core.decode_json(response.read(), f"the answer of {path}")

    def _download(self, url: str) -> bytes:
        """Get a file of this server; another server must never see the key."""
        address = self._http.base_url.join(url)
        if core.origin(address) != core.origin(self._http.base_url):
            raise NoImage(f"Expected an image on {self._http.base_url}, got {url[:80]!r}; download it yourself")
        with core.answering(address):
            response = self._http.get(address)
        if response.is_error:
            raise error_from_response(response)
        return response.content

    def _cancel(self, job_id: str) -> None:
        """Cancel a job, if the server can be told so soon; else it learns from the closing connection."""
        if not self._http.is_closed:
            with suppress(httpx.RequestError):
                self._http.post(f"/jobs/{job_id}/cancel", timeout=_CANCEL_TIMEOUT_S)


class Stream(Iterator[Event]):
    """Iterate over the events of one job, in one thread; leaving early cancels the job.

    Left by `close`, by the end of a `with` block, or by letting go of the last reference, as `break` does in
    `for event in client.stream(...)`. An `error` or `cancelled` event, or a cut connection, raises.
    """

    def __init__(self, client: Client, response: httpx.Response, connection: ExitStack) -> None:
        self._transcript = core.Transcript(response.headers.get("X-Streamapp-Job-Id"), client._download)
        self._events = _read(response, self._transcript)
        self._leave = weakref.finalize(self, _leave, client, self._transcript, connection)

    @property
    def job_id(self) -> str | None:
        """Return the job's id; None from a server that has no jobs."""
        return self._transcript.job_id

    @property
    def result(self) -> Any:
        """Return the data of the last lasting event once the stream has ended well; None before."""
        return self._transcript.result

    def __next__(self) -> Event:
        """Wait for the next event.

        Raises:
            ApiError: the job failed, or somebody else cancelled it; the class says why.
            StreamInterrupted: the connection was cut, or fell silent.
            UnexpectedAnswer: an event is not JSON.
        """
        try:
            return next(self._events)
        except BaseException:  # StopIteration and KeyboardInterrupt too: nothing comes any more
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        """Cancel the job unless it is over, and close the connection; may be called again."""
        self._leave()
        self._events.close()


def _read(response: httpx.Response, transcript: core.Transcript) -> Generator[Event, None, None]:
    """Yield the events of a response. A function: a method's frame would keep its Stream alive after a `break`."""
    try:
        for chunk in response.iter_bytes():
            yield from transcript.feed(chunk)
    except httpx.RequestError as error:
        raise transcript.interrupted(error) from error
    transcript.end()


def _leave(client: Client, transcript: core.Transcript, connection: ExitStack) -> None:
    if transcript.job_id and not transcript.is_over:
        client._cancel(transcript.job_id)
    connection.close()


def _check(response: httpx.Response, media_type: str) -> None:
    if response.is_error:
        response.read()
    core.check_answer(response, media_type)
