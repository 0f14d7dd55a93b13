"""Frame events for the wire: Server-Sent Events, NDJSON and plain text. Pure functions, no sockets.

SSE follows https://html.spec.whatwg.org/multipage/server-sent-events.html. Every block carries one JSON
`data:` line: stock fal clients parse each block as JSON and break on empty, id-only or `[DONE]` blocks.
JSON has no raw line break, so a payload never needs a second `data:` line.
"""

from collections.abc import Iterable, Sequence
from typing import Literal

from ..jobs.events import ABOUT_STREAM, ATTEMPT, RESULTS, TERMINAL, Event, EventId
from ..text import whole

Format = Literal["sse", "ndjson", "text"]

# Without a blank line: httpx-sse, and with it fal's Python client, takes one after a comment for an empty event.
HEARTBEAT_SSE = b": ping\n"
OPEN_SSE = b": open\n"
HEARTBEAT_NDJSON = b"\n"
_BLOCK = b"event: %b\nid: %b%d\ndata: %b\n\n"
# Named even on streams that EventSource reads through `onmessage`: they are about the stream, not of it.
_ALWAYS_NAMED = TERMINAL | ABOUT_STREAM


def sse(events: Sequence[Event], id_prefix: bytes, *, is_named: bool) -> bytes:
    """Frame events as SSE blocks, joined for one send.

    Args:
        id_prefix: `{job}:1.`, to which the number of each event of the first attempt is appended.
        is_named: write `event:` lines; without them EventSource's `onmessage` gets the events.
    """
    if events and events[-1].n > ATTEMPT:
        return b"".join([_sse_of_attempt(event, id_prefix, is_named=is_named) for event in events])
    if not is_named:
        return b"".join([_sse_unnamed(event, id_prefix) for event in events])
    if len(events) == 1:
        event = events[0]
        return _BLOCK % (event.name.encode(), id_prefix, event.n, event.data)
    return b"".join([_BLOCK % (event.name.encode(), id_prefix, event.n, event.data) for event in events])


def _sse_of_attempt(event: Event, id_prefix: bytes, *, is_named: bool) -> bytes:
    """Frame one event of whichever attempt."""
    event_id = str(EventId.at(id_prefix.decode().partition(":")[0], event.n)).encode()
    if is_named or event.kind in _ALWAYS_NAMED:
        return b"event: %b\nid: %b\ndata: %b\n\n" % (event.name.encode(), event_id, event.data)
    return b"id: %b\ndata: %b\n\n" % (event_id, event.data)


def _sse_unnamed(event: Event, id_prefix: bytes) -> bytes:
    if event.kind in _ALWAYS_NAMED:
        return sse((event,), id_prefix, is_named=True)
    return b"id: %b%d\ndata: %b\n\n" % (id_prefix, event.n, event.data)


def sse_job(event_id: EventId, data: bytes, *, retry_ms: int) -> bytes:
    """Frame the first block of a GET stream: a connection cut right after it resumes this job, not a second one."""
    return b"event: job\nid: %b\nretry: %d\ndata: %b\n\n" % (str(event_id).encode(), retry_ms, data)


def sse_state(data: bytes) -> bytes:
    """Frame a change of a job's state, which has no place in its log: who resumes does so behind the event before."""
    return b"event: job\ndata: %b\n\n" % data


def sse_timeout(data: bytes) -> bytes:
    """Frame the end of a stream that had no news for as long as it may; without an id, as it is in no log."""
    return b"event: timeout\ndata: %b\n\n" % data


def ndjson(events: Iterable[Event]) -> bytes:
    """Frame events as one JSON value a line; names and ids have no place in this format."""
    return b"".join([event.data + b"\n" for event in events])


def text(events: Iterable[Event]) -> bytes:
    """Frame outputs as plain text: strings as they are, other values as a line of JSON, but no null."""
    return b"".join([_text(event) for event in events if event.kind in RESULTS and event.data != b"null"])


def _text(event: Event) -> bytes:
    return event.data + b"\n" if event.text is None else whole(event.text).encode()
