"""Read and write the frames of our own subprotocol for sessions, `streamapp.v1`. Pure functions, no sockets.

Every frame is a text: a JSON object with a `type`. `tests/wire/session.json` holds them to the byte, for both clients
as well. A frame that cannot be read ends the session, as its sender counts otherwise than the server; what is wrong in
the data of one input is told of that input alone.
"""

import re
from typing import Any, NamedTuple, TypeAlias

from pydantic_core import from_json

from ..errors import ErrorReport, InvalidInput, MalformedRequest, StreamAppError
from ..jobs.events import ATTEMPT, Event, EventId, encode
from ..jsontext import weigh

SUBPROTOCOL = "streamapp.v1"
PING = b'{"type":"ping"}'
# As with bodies of requests: the values of what is smaller take no memory to speak of.
_WEIGHED_BYTES = 64 * 1024
_MAX_SHOWN = 80
# As clients write it: where the rest cannot be read, this says which input it was.
_INPUT = re.compile(r'\s*\{\s*"type"\s*:\s*"input"\s*,\s*"n"\s*:\s*([0-9]{1,15})\s*,')
_KEY = re.compile(r"[0-9a-fA-F]{32}")


class Open(NamedTuple):
    """Begin a session, which waits so long for its client where the connection is lost; or go on with the one that the
    client has begun with this key before, without hearing of it.
    """

    resume_s: float
    key: str | None = None


class Resume(NamedTuple):
    """Go on with a session."""

    job_id: str
    key: str
    last_event_id: str | None


class Input(NamedTuple):
    """Bring an input, or what is wrong with it; `size` is what it takes in memory, about."""

    n: int
    data: Any
    size: int
    problem: StreamAppError | None = None


class Finish(NamedTuple):
    """Say that no more inputs come."""


class Cancel(NamedTuple):
    """End the session."""


Frame: TypeAlias = Open | Resume | Input | Finish | Cancel


def read(text: str) -> Frame | None:
    """Return what a client's frame says, None where its type is not known; a large one takes long.

    Raises:
        MalformedRequest: it is no frame of this protocol.
    """
    values = 0
    try:
        message = text.encode()
        if len(message) > _WEIGHED_BYTES:
            values = weigh(message)
        frame = from_json(message, allow_inf_nan=False)
    except StreamAppError as error:
        return _without_data(text, error)
    except ValueError as error:
        return _without_data(text, InvalidInput(f"JSON decode error: {error}"))
    match frame:
        case {"type": "input", "n": int(n), "data": data} if n is not True and n > 0:
            return Input(n, data, len(text) + values)
        case {"type": "finish"}:
            return Finish()
        case {"type": "cancel"}:
            return Cancel()
        case {"type": "open"}:
            return Open(_seconds(frame.get("resume_s", 0)), _key(frame.get("key")))
        case {"type": "resume", "job_id": str(job_id), "key": str(key)}:
            return Resume(job_id, key, _event_id(frame.get("last_event_id")))
        case {"type": "input" | "resume" as type_}:
            expected = 'n = 1, 2, 3 ..., and "data"' if type_ == "input" else "job_id and key"
            raise MalformedRequest(f"{type_}: expected {expected}, got {_shown(text)}")
        case {"type": str()}:
            return None
    raise MalformedRequest(f"expected a frame of JSON, an object with a type, got {_shown(text)}")


def _without_data(text: str, problem: StreamAppError) -> Frame:
    """Return an input that cannot be read, as long as its number can."""
    match = _INPUT.match(text)
    if match is None or int(match[1]) < 1:
        raise MalformedRequest(f"expected a frame of JSON, an object with a type, got {_shown(text)}")
    return Input(int(match[1]), None, 0, problem)


def _seconds(given: Any) -> float:
    if type(given) not in (int, float) or given < 0:
        raise MalformedRequest(f"open: expected resume_s in seconds, 0 or more, got {_shown(given)}")
    return float(min(given, 1e9))


def _key(given: Any) -> str | None:
    if given is not None and not (isinstance(given, str) and _KEY.fullmatch(given)):
        raise MalformedRequest("open: expected key, 32 hexadecimal digits drawn at random, or null")
    return given


def _event_id(given: Any) -> str | None:
    if given is not None and not isinstance(given, str):
        raise MalformedRequest(f"resume: expected last_event_id, or null, got {_shown(given)}")
    return given


def _shown(given: Any) -> str:
    text = given if isinstance(given, str) else repr(given)
    return repr(text[:_MAX_SHOWN])


def session(job_id: str, key: str, *, received: int, resume_s: float) -> bytes:
    """Say which session it is, how its client proves to be that, and which inputs are in."""
    return b'{"type":"session","job_id":"%b","key":"%b","received":%d,"resume_s":%b}' % (
        job_id.encode(),
        key.encode(),
        received,
        b"%g" % resume_s,
    )


def received(n: int) -> bytes:
    """Say that all inputs up to the n-th are taken over."""
    return b'{"type":"received","n":%d}' % n


def event(event: Event, job_id: bytes) -> bytes:
    """Frame an event of the job's."""
    if event.n < ATTEMPT:
        form = b'{"type":"event","event":"%b","id":"%b:1.%d","data":%b}'
        return form % (event.name.encode(), job_id, event.n, event.data)
    event_id = str(EventId.at(job_id.decode(), event.n)).encode()
    return b'{"type":"event","event":"%b","id":"%b","data":%b}' % (event.name.encode(), event_id, event.data)


def refused(error: ErrorReport) -> bytes:
    """Say why there is no session, or no more of it."""
    return b'{"type":"refused",' + encode(error.body)[1:]
