"""Decide what needs no socket: headers, timeouts, what an answer means, what a stream said.

Divergence: httpx-sse is not used. Its decoder fails five of the fixtures in `tests/wire/`, its `SSEError` comes only
out of its own decoding loop and loses the JSON body of an error (httpx-sse#43), and its `connect_sse` does nothing but
set two headers.
"""

import codecs
import json
from collections.abc import Callable, Iterator
from typing import Any, Protocol
from urllib.parse import quote

import httpx

from ._decoder import MAX_BYTES, PIECE_BYTES, ServerSentEvent, SSEDecoder, too_long
from ._errors import StreamInterrupted, UnexpectedAnswer, error_from_event, error_from_response
from ._models import Event
from ._server import Server, shown_url
from ._steps import Send

EVENT_STREAM = "text/event-stream"
NDJSON = "application/x-ndjson"
TEXT = "text/plain"
JSON = "application/json"
EMPTY = (httpx.codes.NO_CONTENT, httpx.codes.RESET_CONTENT)
CANCEL_TIMEOUT_S = 2.0
#: Of a file that is downloaded, which is held in memory.
MAX_FILE_BYTES = 1 << 30

#: What events mean by their names, those of the server's own: the last result is the job's; a failure, and in streams
#: that were asked for by GET an opening and an end, are no events to whoever reads. Any other name is a result's.
MEANINGS = {
    "output": "result",
    "preview": "passing",
    "progress": "passing",
    "log": "passing",
    "input_error": "passing",
    "lagged": "passing",
    "started": "passing",
    "restarted": "restart",
    "error": "failure",
    "cancelled": "failure",
    "job": "opening",
    "done": "end",
}


def body(input: Any) -> Any:
    """Return what is sent as JSON; an endpoint whose arguments all have defaults still reads an object."""
    return {} if input is None else input


def timeout(read_s: float) -> httpx.Timeout:
    """Wait `read_s` for each next byte, and as long for a connection, but 10 s at most."""
    return httpx.Timeout(min(10.0, read_s), read=read_s, write=read_s)


def build_request(http: httpx.Client | httpx.AsyncClient, server: Server, step: Send) -> httpx.Request:
    """Return the request of a step, with the client's own headers."""
    return http.build_request(
        step.method,
        server.address(step.path),
        headers=httpx.Headers(step.headers, encoding="utf-8"),
        content=step.content,
        timeout=timeout(step.read_s),
    )


def job_path(job_id: str, rest: str = "") -> str:
    """Return where a job is, whatever its id holds: it may be a server's, or a user's, of any letters."""
    return f"/jobs/{quote(job_id, safe='', errors='replace').replace('.', '%2E')}{rest}"


class Body:
    """Gather the bytes of an answer, up to a limit."""

    def __init__(self, what: str, max_bytes: int = MAX_BYTES) -> None:
        self._what = what
        self._max_bytes = max_bytes
        self._content = bytearray()

    def add(self, chunk: bytes) -> None:
        """Take the next bytes.

        Raises:
            UnexpectedAnswer: they are too many.
        """
        self._content += chunk
        if len(self._content) > self._max_bytes:
            raise too_long(self._what, self._max_bytes)

    def content(self) -> bytes:
        """Return what has come."""
        return bytes(self._content)

    def read_into(self, response: httpx.Response) -> httpx.Response:
        """Return the answer with what has come as its content."""
        coded = ("content-encoding", "content-length", "transfer-encoding")
        headers = [(name, value) for name, value in response.headers.multi_items() if name.lower() not in coded]
        return httpx.Response(response.status_code, headers=headers, content=self.content(), request=response.request)


def media_type_of(response: httpx.Response) -> str:
    """Return the media type without its parameters."""
    content_type: str = response.headers.get("Content-Type", "")
    return content_type.partition(";")[0].strip().lower()


def check_answer(response: httpx.Response, *expected: str) -> None:
    """Raise what an answer means unless it is a success of an expected media type.

    The body must have been read if the status is an error; else it is not looked at.
    """
    if response.is_error:
        raise error_from_response(response)
    media_type = media_type_of(response)
    if response.is_success and media_type in expected:
        return
    call = "run" if media_type == JSON else "stream" if media_type == EVENT_STREAM else None
    got = f"HTTP {response.status_code} with {media_type or 'no type'}"
    raise UnexpectedAnswer(
        f"Expected {expected[0]} from {shown_url(response.url)}, got {got}"
        + (f"; write client.{call}(...)" if call else ""),
        status_code=response.status_code,
        job_id=response.headers.get("X-Streamapp-Job-Id"),
    )


def decode_json(text: str | bytes, where: str) -> Any:
    """Decode JSON, or raise UnexpectedAnswer with the text."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:  # which nesting a thousand deep makes
        raise UnexpectedAnswer(f"Expected JSON in {where}, got {text[:80]!r}", data=text) from error


class _Decoder(Protocol):
    last_event_id: str
    retry_ms: int | None

    @property
    def is_between_events(self) -> bool: ...

    def feed(self, chunk: bytes) -> list[ServerSentEvent]: ...


class _LineDecoder:
    """Read NDJSON as unnamed events; a line that tells an error is one."""

    def __init__(self) -> None:
        self.last_event_id = ""
        self.retry_ms: int | None = None
        self._pieces: list[bytes] = []
        self._size = 0

    @property
    def is_between_events(self) -> bool:
        """Say whether no line has begun."""
        return not any(self._pieces)

    def feed(self, chunk: bytes) -> list[ServerSentEvent]:
        """Take the next bytes and return the lines that they complete."""
        *ends, rest = chunk.split(b"\n")
        lines = []
        for end in ends:
            lines.append(b"".join([*self._pieces, end]).decode("utf-8", "replace").strip())
            self._pieces.clear()
            self._size = 0
        self._pieces.append(rest)
        self._size += len(rest) + PIECE_BYTES
        if self._size > MAX_BYTES:
            raise too_long("a line")
        return [ServerSentEvent(_line_name(line), line, "") for line in lines if line]


def _line_name(line: str) -> str:
    return "error" if line.startswith('{"error":') and '"error_type":' in line else "message"


class _TextDecoder:
    """Read plain text as unnamed events, piece by piece."""

    def __init__(self) -> None:
        self.last_event_id = ""
        self.retry_ms: int | None = None
        self.is_between_events = True
        self._decode = codecs.getincrementaldecoder("utf-8")("replace").decode

    def feed(self, chunk: bytes) -> list[ServerSentEvent]:
        """Take the next bytes and return the characters that they complete."""
        text = self._decode(chunk)
        return [ServerSentEvent("message", json.dumps(text), "")] if text else []


_DECODERS: dict[str, Callable[[], _Decoder]] = {EVENT_STREAM: SSEDecoder, NDJSON: _LineDecoder, TEXT: _TextDecoder}


class Transcript:
    """Turn the bytes of one stream into events, over any number of connections, and remember what it said.

    Args:
        shows_states: hand out the blocks named `job` too, which tell how the job is and are no events of its log.
    Attributes:
        job_id: the job that speaks, None when the server has no jobs.
        result: the data of the last lasting event, once the stream has ended well.
        is_over: whether the job needs no cancel: it has ended, or its server has lost us anyway.
    """

    def __init__(
        self,
        job_id: str | None,
        download: Callable[[str], bytes],
        *,
        after: str | None = None,
        shows_states: bool = False,
    ) -> None:
        self.job_id = job_id
        self._shows_states = shows_states
        self.result: Any = None
        self.is_over = False
        self._decoder: _Decoder = SSEDecoder()
        self._last_event_id = after or ""
        self._is_get = False
        self._is_done = False
        self._has_result = False
        self._download = download
        self._last: Any = None

    @property
    def last_event_id(self) -> str:
        """Return the id to come back with: of the last event handed out, or the point before the first."""
        return self._decoder.last_event_id or self._last_event_id or f"{self.job_id}:1.0"

    @property
    def can_resume(self) -> bool:
        """Say whether what was lost can be asked for again."""
        return self.job_id is not None and isinstance(self._decoder, SSEDecoder)

    @property
    def retry_ms(self) -> int | None:
        """Return the reconnection time that this connection's server asked for."""
        return self._decoder.retry_ms

    def begin(self, response: httpx.Response) -> None:
        """Read on in an answer: what was cut off at the end of the one before comes again in full."""
        if self.job_id is None:
            self.job_id = response.headers.get("X-Streamapp-Job-Id")
        self._is_get = response.request.method == "GET"
        self._last_event_id = self._decoder.last_event_id or self._last_event_id
        self._decoder = _DECODERS[media_type_of(response)]()

    def feed(self, chunk: bytes) -> Iterator[Event]:
        """Yield the events that these bytes complete; raise what an `error` or `cancelled` event says."""
        for raw in self._decoder.feed(chunk):
            meaning = MEANINGS.get(raw.name, "result")
            if self._is_get and meaning == "end":
                self._is_done = True
            elif self._shows_states or not (self._is_get and meaning == "opening"):
                yield self._read(raw, meaning)

    def _read(self, raw: ServerSentEvent, meaning: str) -> Event:
        data = decode_json(raw.data, f"the event {raw.name!r}")
        if meaning == "failure":
            self.is_over = True
            raise error_from_event(raw.name, data, self.job_id)
        if meaning not in ("passing", "opening"):
            # What the attempt before a restart has brought does not count any more.
            self._last = None if meaning == "restart" else data
            self._has_result = meaning != "restart"
        return Event(raw.name, data, raw.id, self._download)

    def end_body(self) -> Iterator[Event]:
        """Yield what the end of the body completes: a last line of NDJSON without its line end."""
        if isinstance(self._decoder, _LineDecoder) and not self._decoder.is_between_events:
            yield from self.feed(b"\n")

    @property
    def may_end(self) -> bool:
        """Say whether the stream is complete where the body ends: that of a GET says `done` before, others a result."""
        if self._is_get:
            return self._is_done
        return not isinstance(self._decoder, SSEDecoder) or (self._decoder.is_between_events and self._has_result)

    def end(self) -> None:
        """Take note that the stream ended as it should."""
        self.is_over = True
        self.result = self._last

    def interrupted(self, error: Exception | None) -> StreamInterrupted:
        """Take note that the stream is lost, and return the error that says so."""
        self.is_over = True
        if isinstance(error, httpx.TimeoutException):
            why = "no heartbeat came"
        else:
            why = "it ended before its job" if error is None else str(error) or type(error).__name__
        whose = "" if self.job_id is None else f" of job {self.job_id}"
        return StreamInterrupted(f"The stream{whose} broke off: {why}", job_id=self.job_id)
