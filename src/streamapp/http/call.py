"""Read from a request, once and in one pass over its headers, all that a job needs to know of it.

A `Call` is plain data without an object of the server's; what has to outlive the request goes from it into the
`JobRequest`. Headers are kept as they came; what they mean is read from them where it is asked for, and refused there.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl

from starlette.types import Scope

from ..errors import MalformedRequest
from ..jobs.job import Origin
from .frames import Format

#: in the scope, put there by whoever knows it: who sends the request, "" for the holder of the deployment's one key
CALLER = "streamapp.caller"

_FIELDS = {
    b"accept": "accept",
    b"content-length": "content_length",
    b"content-type": "content_type",
    b"host": "host",
    b"idempotency-key": "idempotency_key",
    b"last-event-id": "last_event_id",
    b"prefer": "prefer",
    b"streamapp-resume": "resume",
    b"x-fal-queue-priority": "priority",
    b"x-fal-request-timeout": "start_timeout",
}
_FORMATS: dict[str, Format] = {
    "text/event-stream": "sse",
    "application/x-ndjson": "ndjson",
    "application/jsonl": "ndjson",
    "text/plain": "text",
}
_MAX_KEY = 255


HeaderList = Sequence[tuple[bytes, bytes]]


def header_in(headers: HeaderList, name: bytes) -> bytes | None:
    """Return the first header of a name in lower case; where one is asked for, Starlette's `Headers` take ten times as
    long.
    """
    for pair in headers:
        if pair[0] == name:
            return pair[1]
    return None


def caller_in(scope: Scope) -> str:
    """Return who sends a request."""
    caller: str = scope.get(CALLER, "")
    return caller


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """Hold a request, as far as its job is concerned.

    Attributes:
        caller: whose request it is.
        is_get: its input stands in the query.
        headers: all of them, a line each.
    """

    is_get: bool
    query: bytes
    origin: Origin
    caller: str
    headers: bytes
    accept: str = ""
    content_length: str = ""
    content_type: str | None = None
    idempotency_key: str | None = None
    last_event_id: str = ""
    prefer: str = ""
    resume: str | None = None
    priority: str = ""
    start_timeout: str | None = None

    @classmethod
    def of(cls, scope: Scope) -> "Call":
        """Read a request's scope; of a header that comes twice the first one counts, but all of `Prefer`."""
        told: dict[str, Any] = {}
        # Below a Mount `root_path` has the mount's own path in it, which is no part of the server's address.
        root_path = scope.get("app_root_path", scope.get("root_path", "")).removesuffix("/")
        for name, value in scope["headers"]:
            field = _FIELDS.get(name)
            if field is None:
                continue
            if field not in told:
                told[field] = value.decode("latin-1")
            elif field == "prefer":
                told[field] += "," + value.decode("latin-1")
        return cls(
            is_get=scope["method"] == "GET",
            query=scope["query_string"],
            origin=Origin(scope.get("scheme", "http"), told.pop("host", None), scope.get("server"), root_path),
            caller=caller_in(scope),
            headers=b"\n".join([b"%b:%b" % (name, value) for name, value in scope["headers"]]),
            **told,
        )

    @property
    def is_named(self) -> bool:
        """Say whether the stream's blocks carry the events' names; EventSource's `onmessage` gets only unnamed ones."""
        return not self.is_get or dict(_pairs(self.query)).get("_events") in ("named", "all")

    @property
    def follows(self) -> bool:
        """Say whether who reads a job's events also hears of its start, and of its place in the queue.

        Clients ask for "all" and for "named": servers that do not know the one take the other.
        """
        return ("_events", "all") in _pairs(self.query)

    @property
    def prefers_async(self) -> bool:
        """Say whether the job shall run on without readers: https://datatracker.ietf.org/doc/html/rfc7240."""
        if not self.prefer:
            return False
        return any(part.partition(";")[0].strip() == "respond-async" for part in self.prefer.lower().split(","))

    @property
    def is_low_priority(self) -> bool:
        """Say whether the job waits until no other does."""
        return self.priority.strip().lower() == "low"

    @property
    def start_timeout_s(self) -> float | None:
        """Return how long the client lets its job wait for its turn, as fal's clients say it.

        Raises:
            MalformedRequest: it is no number of seconds.
        """
        asked = self.start_timeout
        return None if asked is None else max(_seconds("X-Fal-Request-Timeout", asked), 0.001)

    @property
    def resume_window_s(self) -> float | None:
        """Return how long the client wants its job to outlive it; None when it does not say.

        Raises:
            MalformedRequest: it is no number of seconds.
        """
        return None if self.resume is None else _seconds("Streamapp-Resume", self.resume)

    @property
    def key(self) -> str | None:
        """Return the `Idempotency-Key`: https://datatracker.ietf.org/doc/draft-ietf-httpapi-idempotency-key-header/.

        Raises:
            MalformedRequest: it is too long, or empty.
        """
        key = self.idempotency_key
        if key is None or self.is_get:
            return None
        if not 0 < len(key) <= _MAX_KEY:
            raise MalformedRequest(f"Idempotency-Key: expected 1 to {_MAX_KEY} characters, got {len(key)}")
        return key

    def format(self, declared: str | None) -> Format:
        """Choose the stream's format: SSE whatever Accept says, another only when it names exactly that one.

        Args:
            declared: the media type that the endpoint declares for requests that name none.
        """
        return _FORMATS.get(self.accept.strip().lower()) or _FORMATS[declared or "text/event-stream"]


def _pairs(query: bytes) -> list[tuple[str, str]]:
    return parse_qsl(query.decode("latin-1"), keep_blank_values=True)


def _seconds(header: str, text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1
    if not 0 <= seconds < float("inf"):
        raise MalformedRequest(f"{header}: expected seconds, 0 or more, got {text[:40]!r}")
    return seconds
