"""Decide everything about a call that needs no socket: headers, timeouts, what an answer means, what a stream said.

`_client.py` is the shell around it: it sends and reads, and asks here what to do. An asynchronous shell asks the same.

Divergence: httpx-sse connects for us (`connect_sse`) and does no more. Its `SSEError` comes only out of its own
decoding loop, loses the JSON body of an error (httpx-sse#43), and as an `httpx.TransportError` would say that the
connection failed where the server did answer.
"""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import httpx

from ._decoder import ServerSentEvent, SSEDecoder
from ._errors import ConnectionFailed, StreamInterrupted, UnexpectedAnswer, error_from_event, error_from_response
from ._models import Event

# Any number of streams may be open. An idle connection is given up before uvicorn closes it, after 5 s: a request sent
# at that moment would fail.
LIMITS = httpx.Limits(keepalive_expiry=2.0)

EVENT_STREAM = "text/event-stream"
JSON = "application/json"

# The last event that has none of these names is the job's result.
_NEVER_THE_RESULT = frozenset({"preview", "progress", "log", "lagged", "restarted"})


def request_headers(key: str | None) -> dict[str, str]:
    """Return the headers of every request."""
    return {} if key is None else {"Authorization": f"Key {key}"}


def body(input: Any) -> Any:
    """Return what is sent as JSON; an endpoint whose arguments all have defaults still reads an object."""
    return {} if input is None else input


def timeout(read_s: float) -> httpx.Timeout:
    """Wait 10 s for a connection, and `read_s` for each next byte."""
    return httpx.Timeout(10.0, read=read_s, write=read_s)


def origin(url: httpx.URL) -> tuple[str, str, int | None]:
    """Return what must be equal for two URLs to be of the same server."""
    return url.scheme, url.host, url.port


@contextmanager
def answering(url: httpx.URL) -> Iterator[None]:
    """Raise ConnectionFailed where httpx finds no answer at `url`."""
    try:
        yield
    except httpx.RequestError as error:
        raise ConnectionFailed(f"No answer from {url}: {str(error) or type(error).__name__}") from error


def check_answer(response: httpx.Response, expected: str) -> None:
    """Raise what an answer means unless it is a success of the expected media type.

    The body must have been read if the status is an error; else it is not looked at.
    """
    if response.is_error:
        raise error_from_response(response)
    media_type = response.headers.get("Content-Type", "").partition(";")[0].strip().lower()
    if response.status_code == httpx.codes.OK and media_type == expected:
        return
    call = "run" if media_type == JSON else "stream" if media_type == EVENT_STREAM else None
    raise UnexpectedAnswer(
        f"Expected {expected} from {response.url}, got HTTP {response.status_code} with {media_type or 'no type'}"
        + (f"; write client.{call}(...)" if call else ""),
        status_code=response.status_code,
        job_id=response.headers.get("X-Streamapp-Job-Id"),
    )


def decode_json(text: str | bytes, where: str) -> Any:
    """Decode JSON, or raise UnexpectedAnswer with the text."""
    try:
        return json.loads(text)
    except ValueError as error:
        raise UnexpectedAnswer(f"Expected JSON in {where}, got {text[:80]!r}", data=text) from error


class Transcript:
    """Turn the bytes of one stream into events, and remember what it said.

    Attributes:
        job_id: the job that speaks, None when the server has no jobs.
        result: the data of the last lasting event, once the stream has ended well.
        is_over: whether the job needs no cancel: it has ended, or its server has lost us anyway.
    """

    def __init__(self, job_id: str | None, download: Callable[[str], bytes]) -> None:
        self.job_id = job_id
        self.result: Any = None
        self.is_over = False
        self._decoder = SSEDecoder()
        self._download = download
        self._last: Any = None

    def feed(self, chunk: bytes) -> Iterator[Event]:
        """Yield the events that these bytes complete; raise what an `error` or `cancelled` event says."""
        for raw in self._decoder.feed(chunk):
            yield self._read(raw)

    def _read(self, raw: ServerSentEvent) -> Event:
        data = decode_json(raw.data, f"the event {raw.name!r}")
        if raw.name in ("error", "cancelled"):
            self.is_over = True
            raise error_from_event(raw.name, data, self.job_id)
        if raw.name not in _NEVER_THE_RESULT:
            self._last = data
        return Event(raw.name, data, raw.id, self._download)

    def end(self) -> None:
        """Take note that the body ended as it should."""
        self.is_over = True
        self.result = self._last

    def interrupted(self, error: httpx.RequestError) -> StreamInterrupted:
        """Take note that the body broke off, and return the error that says so."""
        self.is_over = True
        why = "no heartbeat came" if isinstance(error, httpx.TimeoutException) else str(error) or type(error).__name__
        return StreamInterrupted(f"The stream of job {self.job_id} broke off: {why}", job_id=self.job_id)
