"""Define the kinds of events, and turn what an endpoint emits into bytes once.

Users emit plain values (dict, model, str, PIL image, ...) or one of the four event values `Output`,
`Preview`, `Progress` and `Log`. `to_event` encodes them, in the emitting thread, into an `Event`: the record
that the channel numbers and that every reader shares. Framing for a protocol is `frames`'s.
"""

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import lru_cache, partial
from typing import Any, Literal, NamedTuple

from pydantic_core import PydanticSerializationError, SchemaSerializer, core_schema, from_json

from ..errors import ErrorReport, MalformedRequest, NotEncodable
from ..media import File, HeldBack, HeldBackAtOnce, Publisher, encode_media, is_pil
from ..text import all_whole, without_line_ends
from .content import has_content, holds_iterator, is_plain, with_content

Kind = Literal[
    "started",
    "output",
    "preview",
    "progress",
    "log",
    "input_error",
    "lagged",
    "restarted",
    "done",
    "error",
    "cancelled",
]
Meaning = Literal["opening", "result", "passing", "restart", "end", "failure"]
LogLevel = Literal["DEBUG", "INFO", "WARN", "ERROR", "STDOUT", "STDERR"]

ATTEMPT = 1 << 40  # more events than any attempt has


class Traits(NamedTuple):
    """Say how events of one kind are treated."""

    #: what it is to a client: an opening and an end are only in GET streams, a start only where it was asked for, and
    #: text carries nothing but results. The clients are distributions of their own, and say it themselves; a test
    #: compares them.
    meaning: Meaning
    #: a newer one with the same key takes its place while it is unread; what is not replaceable is lasting
    is_replaceable: bool = False
    #: it ends the log
    is_terminal: bool = False
    #: an attempt at the job begins with it
    begins_attempt: bool = False
    #: it says that something is missing from the stream, or void. Text and NDJSON have no place for that: they are cut
    is_about_stream: bool = False


#: all names that are the framework's own; each is a `Kind` but "job", a block that is in no log
KINDS: Mapping[str, Traits] = {
    "started": Traits("passing", begins_attempt=True),
    "output": Traits("result"),
    "preview": Traits("passing", is_replaceable=True),
    "progress": Traits("passing", is_replaceable=True),
    "log": Traits("passing"),
    "input_error": Traits("passing"),
    "lagged": Traits("passing", is_about_stream=True),
    "restarted": Traits("restart", begins_attempt=True, is_about_stream=True),
    "error": Traits("failure", is_terminal=True),
    "cancelled": Traits("failure", is_terminal=True),
    "job": Traits("opening"),
    "done": Traits("end", is_terminal=True),
}
REPLACEABLE = frozenset(kind for kind, traits in KINDS.items() if traits.is_replaceable)
TERMINAL = frozenset(kind for kind, traits in KINDS.items() if traits.is_terminal)
BEGINNINGS = frozenset(kind for kind, traits in KINDS.items() if traits.begins_attempt)
ABOUT_STREAM = frozenset(kind for kind, traits in KINDS.items() if traits.is_about_stream)
RESULTS = frozenset(kind for kind, traits in KINDS.items() if traits.meaning == "result")
_MAX_ARRAY_ITEMS = 65_536
_EVENT_ID = re.compile(r"([0-9a-f]{32}):([0-9]{1,9})\.([0-9]{1,18})")
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_.:/-]{0,63}")
_Fallback = Callable[[Any], Any]
_NO_UNICODE = "surrogates not allowed"  # what Python's codec says, within pydantic's message
# As `pydantic_core.to_json` writes, with its options read once.
_ANYTHING = SchemaSerializer(core_schema.any_schema(), {"ser_json_bytes": "base64", "ser_json_inf_nan": "null"})


@dataclass(frozen=True, slots=True)
class Output:
    """Emit a lasting event: every reader gets it, in order.

    Args:
        payload: anything with a JSON form, media included.
        event: the app's own name for it on the wire, for example "token".
        text: what is written of it where plain text was asked for, line ends included; where None the payload, as a
            line of JSON if it is no string.
    """

    payload: Any
    event: str = "output"
    text: str | None = None


@dataclass(frozen=True, slots=True)
class Preview:
    """Emit a replaceable look at what is coming; a newer one with the same key replaces it unread.

    Args:
        payload: a dict, or an image, which becomes `{"image": ...}`.
        step: 1..total, put into the payload together with `total`.
        key: tells apart several previews that live side by side; put into the payload where it is not empty.
    """

    payload: Any
    step: int | None = None
    total: int | None = None
    key: str = ""


@dataclass(frozen=True, slots=True)
class Progress:
    """Emit how far the job is: step 1..total; replaceable like a preview."""

    step: int
    total: int | None = None
    message: str | None = None
    key: str = ""


@dataclass(frozen=True, slots=True)
class Log:
    """Emit a line for the job's log; lasting."""

    message: str
    level: LogLevel = "INFO"
    source: str = "app"


class Event:
    """Hold one encoded event; the channel sets `n` when it numbers it.

    A plain class, as it is made once per event on the hottest path: a frozen dataclass costs 0.5 µs more.

    Attributes:
        kind: decides whether it is lasting, replaceable or terminal.
        name: the name on the wire: the kind, or the app's own.
        data: JSON in UTF-8 without a line break.
        text: the payload when it is a string, or what stands for it, for text streams; of the end what the outputs were
            joined to, where they are.
        error: what an `error` or `cancelled` event says.
        packed: the data as msgpack, of a session's output with bytes in it, which are there as they were.
        size: how many bytes a log counts for it: of data and packed.
        n: the place in the job's log, rising; 0 before it has one. In the first attempt it is the number in the event's
            id, 1 and up; each further attempt begins `ATTEMPT` higher, so that places compare as (attempt, number) do.
    """

    __slots__ = ("data", "error", "key", "kind", "n", "name", "packed", "size", "text")

    def __init__(
        self,
        kind: Kind,
        data: bytes,
        *,
        name: str | None = None,
        key: str = "",
        text: str | None = None,
        error: ErrorReport | None = None,
    ) -> None:
        self.kind = kind
        self.name = name or kind
        self.key = key
        self.data = data
        self.text = text
        self.error = error
        self.packed: bytes | None = None
        self.size = len(data)
        self.n = 0

    def __repr__(self) -> str:
        return f"<Event {self.n} {self.name} {self.data[:60]!r}>"

    def pack(self, packed: bytes) -> None:
        """Hold the data as msgpack, too."""
        self.packed = packed
        self.size = len(self.data) + len(packed)

    @property
    def is_terminal(self) -> bool:
        """Say whether this event ends the job's log."""
        return self.kind in TERMINAL

    def json(self) -> Any:
        """Return the data as Python values."""
        return json.loads(self.data)


class EventId(NamedTuple):
    """Name a point in a job's log; compared within a job as the pair (attempt, n)."""

    job_id: str
    attempt: int
    n: int

    @classmethod
    def at(cls, job_id: str, place: int) -> "EventId":
        """Name a place of a log: an event's `n`."""
        return cls(job_id, place // ATTEMPT + 1, place % ATTEMPT)

    @property
    def place(self) -> int:
        """Return the place in the job's log."""
        return (self.attempt - 1) * ATTEMPT + self.n

    def __str__(self) -> str:
        return f"{self.job_id}:{self.attempt}.{self.n}"


def parse_event_id(value: str) -> EventId:
    """Read an event id as our streams write it, `{job}:{attempt}.{n}`.

    Raises:
        MalformedRequest: it is not of that form.
    """
    match = _EVENT_ID.fullmatch(value.strip())
    if match is None:
        raise MalformedRequest(
            f"Last-Event-ID: expected an id of this server's streams, {{job}}:{{attempt}}.{{n}}, got {value[:80]!r}"
        )
    event_id = EventId(match[1], int(match[2]), int(match[3]))
    if not 1 <= event_id.attempt or event_id.n >= ATTEMPT:
        raise MalformedRequest(f"Last-Event-ID: there is no attempt or event {match[2]}.{match[3]}")
    return event_id


def to_event(value: Any, publisher: Publisher | None = None, *, at_once: bool = False) -> Event:
    """Encode an emitted value; blocks for as long as its media take to encode.

    Args:
        publisher: the job's, which keeps its files; without one they are written as data URIs.
        at_once: refuse what takes long: images to compress, files over 1 MiB or to be kept.
    Raises:
        NotEncodable: a value in it has no form on the wire; says which type.
    """
    if type(value) is dict:  # what most endpoints emit, before six questions of what else it may be
        return Event("output", _emitted(value, publisher, at_once))
    match value:
        case Preview():
            fallback = _fallback_at_once if at_once else _preview_fallback
            held = (HeldBackAtOnce if at_once else HeldBack)(publisher, is_inline=True)
            return Event("preview", _to_json(preview_payload(value), fallback, held), key=value.key)
        case Progress():
            return Event("progress", encode(_progress_payload(value)), key=value.key)
        case Log():
            payload = {
                "message": value.message,
                "level": value.level,
                "source": value.source,
                "timestamp": datetime.now(UTC).isoformat(),
            }
            return Event("log", encode(payload), text=value.message)
        case Output():
            text = value.payload if value.text is None and isinstance(value.payload, str) else value.text
            data = _emitted(value.payload, publisher, at_once)
            return Event("output", data, name=_check_name(value.event), text=text)
        case str():
            return Event("output", _emitted(value, publisher, at_once), text=value)
        case Event():
            raise NotEncodable(f"Expected a value to emit, got the encoded {value!r}; emit its payload")
    return Event("output", _emitted(value, publisher, at_once))


def to_event_at_once(value: Any, publisher: Publisher | None = None) -> Event | None:
    """Do as `to_event` does where nothing may take long, as on the loop: None for what holds images to compress (PNG of
    1024x1024: 60 ms) or files to be read, to be kept or over 1 MiB, and for what cannot be encoded at all.
    """
    try:  # to encode, rather than to look for media first, which costs as much
        if type(value) is dict:
            return Event("output", _emitted(value, publisher, True))
        return to_event(value, publisher, at_once=True)
    except NotEncodable:
        return None


def input_error(report: ErrorReport, number: int) -> Event:
    """Say what was wrong with one input of a session, which goes on."""
    try:
        return Event("input_error", encode({**report.body, "input": number}))
    except NotEncodable:  # the detail of an exception of the app's own can be anything
        return Event("input_error", encode({**replace(report, detail=None).body, "input": number}))


def terminal(kind: Literal["done", "error", "cancelled"], data: Mapping[str, Any] | ErrorReport) -> Event:
    """Make the event that ends a log."""
    if not isinstance(data, ErrorReport):
        return Event(kind, encode(data))
    try:
        encoded = encode(data.body)
        if data.detail is not None and not isinstance(data.detail, str):
            # As it was written: it can be a live object, and a log is plain data.
            data = replace(data, detail=from_json(encoded)["detail"])
        return Event(kind, encoded, error=data)
    except NotEncodable:  # the detail of an exception of the app's own can be anything
        told = replace(data, detail=None)
        return Event(kind, encode(told.body), error=told)


def encode(payload: Any) -> bytes:
    """Return `payload` as compact JSON on one line: models by their aliases, media as objects with a data URI, numbers
    that are not finite as null, text made `whole`.

    Raises:
        NotEncodable: a value in it has no JSON form.
    """
    return _to_json(payload, _fallback, HeldBack(), is_emitted=False)


def dumped(value: Any) -> Any:
    """Return a model or a dataclass as plain values, by its aliases; bytes and media in it are as they were."""
    return _ANYTHING.to_python(value, by_alias=True)


def _emitted(payload: Any, publisher: Publisher | None, at_once: bool) -> bytes:
    """Return what an endpoint emits as JSON."""
    try:
        if is_plain(payload):
            written = _ANYTHING.to_json(payload, by_alias=True)
            return written if written.isascii() else without_line_ends(written)
    except (PydanticSerializationError, RecursionError):  # told, or mended, the long way
        pass
    if at_once:
        return _to_json(payload, _fallback_at_once, HeldBackAtOnce(publisher))
    return _to_json(payload, _fallback, HeldBack(publisher))


def _to_json(payload: Any, fallback: _Fallback, held: HeldBack, *, is_emitted: bool = True) -> bytes:
    """Return JSON; of what is emitted, with files in the place of bytes and paths."""
    try:
        if is_emitted and has_content(payload):
            if held.is_at_once and holds_iterator(payload):
                raise NotEncodable("what an iterator gives is taken once, and may take long")
            to_plain = partial(_ANYTHING.to_python, mode="json", by_alias=True, fallback=fallback, context=held)
            payload = with_content(payload, held, to_plain)
        before = len(held)
        try:
            written = _ANYTHING.to_json(payload, by_alias=True, fallback=fallback, context=held)
        except PydanticSerializationError as error:
            if _NO_UNICODE not in str(error):
                raise
            del held[before:]
            plain = all_whole(_ANYTHING.to_python(payload, by_alias=True))
            written = _ANYTHING.to_json(
                plain, by_alias=True, fallback=lambda value: all_whole(fallback(value)), context=held
            )
    except (PydanticSerializationError, ValueError, OSError, RecursionError) as error:
        reason = str(error).removeprefix("Error calling `fallback`: ")
        raise NotEncodable(f"{type(payload).__name__} cannot be encoded: {reason[:500]}") from error
    if not written.isascii():
        written = without_line_ends(written)
    return held.put_into(written) if held else written


def preview_payload(preview: Preview) -> Any:
    """Return what a preview is written as: its payload, and how it is labelled."""
    payload = preview.payload
    if is_pil(payload) or isinstance(payload, File):
        payload = {"image": payload}
    labels: dict[str, Any] = {"key": preview.key} if preview.key else {}
    if preview.step is not None:
        labels |= {"step": preview.step, "total": preview.total}
    if labels and not isinstance(payload, Mapping):
        payload = {"data": payload}
    return {**payload, **labels} if labels else payload


def _progress_payload(progress: Progress) -> dict[str, Any]:
    payload: dict[str, Any] = {"step": progress.step, "total": progress.total}
    return payload if progress.message is None else {**payload, "message": progress.message}


def _fallback(value: Any, image_format: Literal["PNG", "JPEG"] = "PNG", quality: int = 95) -> Any:
    """Give what pydantic does not know a JSON form, by duck type: numpy and torch are not imported for it."""
    media = encode_media(value, image_format=image_format, quality=quality)
    if media is not None:
        return media
    if hasattr(value, "tolist"):
        return _array_to_list(value)
    if hasattr(value, "item"):
        return value.item()
    cls = type(value)
    raise NotEncodable(
        f"no JSON form for {cls.__module__}.{cls.__qualname__}; emit dicts, lists, numbers, strings, pydantic models, "
        "PIL images, streamapp.Image / Audio / Video / File, paths, bytes, or small arrays"
    )


def _fallback_at_once(value: Any) -> Any:
    if is_pil(value):
        raise NotEncodable("an image takes too long to be compressed at once")
    return _fallback(value)


# PNG of 512x512 takes 16 to 60 ms, JPEG 0.45: the inference thread encodes previews between two steps.
_preview_fallback = partial(_fallback, image_format="JPEG", quality=70)


def _array_to_list(array: Any) -> Any:
    items = array.numel() if hasattr(array, "numel") else getattr(array, "size", 0)
    if items > _MAX_ARRAY_ITEMS:
        raise NotEncodable(
            f"an array of {items} items is too large for JSON (limit {_MAX_ARRAY_ITEMS}); emit it as streamapp.File"
        )
    return array.tolist()


def is_name(name: str) -> bool:
    """Say whether an output may have this name on the wire."""
    return _NAME.fullmatch(name) is not None and (name not in KINDS or name in RESULTS)


@lru_cache(maxsize=256)
def _check_name(name: str) -> str:
    if name in KINDS and name not in RESULTS:
        raise NotEncodable(f'event name "{name}" is the framework\'s own; choose another, for example "{name}_event"')
    if not _NAME.fullmatch(name):
        raise NotEncodable(f"event name {name!r} must match {_NAME.pattern}")
    return name
