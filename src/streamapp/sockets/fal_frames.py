"""Read and write the messages of fal's realtime clients: msgpack or JSON, and what tells of errors. Pure, no sockets.

The data of an output is a message of its own: binary, as msgpack, or text, as JSON, where the client's last input was a
text. What is no output is a text with a `type` of fal's, which both of its clients know: `x-fal-error` they raise,
`x-fal-message` they leave out.

msgpack is read within the bounds of JSON (`jsontext`): a message of a kilobyte can claim to hold gigabytes.
"""

import json
import re
from collections.abc import Callable
from typing import Any, NamedTuple

import msgpack
from pydantic_core import from_json

from ..errors import EndpointFailed, InvalidInput, PayloadTooLarge, StreamAppError
from ..jobs.events import Event, encode
from ..jsontext import MOST_VALUES, weigh
from .wire import Message

TIMEOUT = b'{"type":"x-fal-error","error":"TIMEOUT","reason":"no inputs, reconnect when needed!"}'
# What fal says of such an output, too, before it ends the session: fal_client waits on, fal-js cannot read it.
_NULL = b'{"type":"x-fal-error","error":"INTERNAL_ERROR","reason":"the output is null; return a dict or a model"}'
#: to look at so many takes the loop a millisecond
QUICK_VALUES = 4096
_VALUE_BYTES = 64  # as in `jsontext`
_MOST_DEPTH = 200
_WEIGHED_BYTES = 64 * 1024
_INTERNAL = (EndpointFailed.code, StreamAppError.code)
# By a value's first byte, https://github.com/msgpack/msgpack/blob/master/spec.md#formats: how many bytes follow; in how
# many of them it stands how many more; and how many values follow for each that is counted there.
_FIXED = dict.fromkeys((*range(0x80), 0xC0, 0xC2, 0xC3, *range(0xE0, 0x100)), 0)
_FIXED |= (
    {0x80: 0, 0x90: 0}
    | {0xA0 + n: n for n in range(32)}
    | {0xCA: 4, 0xCB: 8, 0xD4: 2, 0xD5: 3, 0xD6: 5, 0xD7: 9, 0xD8: 17}
)
_FIXED |= {0xCC + n: 1 << n for n in range(4)} | {0xD0 + n: 1 << n for n in range(4)}
_SIZED = {0xC4: 1, 0xC5: 2, 0xC6: 4, 0xC7: 1, 0xC8: 2, 0xC9: 4, 0xD9: 1, 0xDA: 2, 0xDB: 4}
# A run of values of which each is one byte: a kilobyte holds most of these, and by itself each takes a microsecond.
_RUN = re.compile(b"[%b]*" % re.escape(bytes(head for head, size in _FIXED.items() if not size)))
_LONG = 8  # what is shorter is looked at value by value
_TYPED = (0xC7, 0xC8, 0xC9)  # a byte more, which says what it is
_COUNTED = {0xDC: (2, 1), 0xDD: (4, 1), 0xDE: (2, 2), 0xDF: (4, 2)}

Decode = Callable[[bytes], Any]
Encode = Callable[[Any], bytes | str]


class Read(NamedTuple):
    """Hold what a client's message says, and the bytes that it takes in memory, about."""

    value: Any
    size: int


def read_binary(message: bytes, *, most: int = MOST_VALUES) -> Read:
    """Read msgpack.

    Raises:
        InvalidInput: it is none, or too deep.
        PayloadTooLarge: it has more than `most` values.
    """
    values = _count(message, most)
    try:
        value = msgpack.unpackb(message, strict_map_key=False, timestamp=3)
    except (ValueError, TypeError, OverflowError) as error:  # TypeError: a list as a key
        raise _undecodable(str(error)) from None
    return Read(value, len(message) + values * _VALUE_BYTES)


def read_text(message: str) -> Read:
    """Read JSON.

    Raises:
        InvalidInput: it is none.
        PayloadTooLarge: it has too many values.
    """
    try:
        text = message.encode()
        values = weigh(text) if len(text) > _WEIGHED_BYTES else 0
        return Read(from_json(text, allow_inf_nan=False), len(text) + values)
    except ValueError as error:
        raise InvalidInput(f"JSON decode error: {error}") from None


def _undecodable(reason: str) -> InvalidInput:
    return InvalidInput(f"msgpack decode error: {reason[:200]}")


def _count(message: bytes, most: int) -> int:
    """Return how many values there are, before any is made: what lists claim is set aside for them at once."""
    at, values, size = 0, 0, len(message)
    left = [1]  # of the values at each depth
    while left:
        if not left[-1]:
            left.pop()
            continue
        left[-1] -= 1
        values += 1
        if values > most:
            raise PayloadTooLarge(f"the message has more than {most} values and names; send it as a file, or in parts")
        if at >= size:
            raise _undecodable("it breaks off")
        head = message[at]
        at += 1
        fixed = _FIXED.get(head)
        if fixed is not None:
            at += fixed
            if not fixed and left[-1] > _LONG:
                run = _RUN.match(message, at, at + min(left[-1], most - values))
                assert run is not None  # one of nothing at least
                length = run.end() - at
                at, values, left[-1] = at + length, values + length, left[-1] - length
        elif (width := _SIZED.get(head)) is not None:
            at += width + int.from_bytes(message[at : at + width]) + (head in _TYPED)
        else:
            width, each = _COUNTED.get(head) or (0, 2 if head < 0x90 else 1)
            if head == 0xC1:
                raise _undecodable("0xc1 begins no value")
            count = int.from_bytes(message[at : at + width]) if width else head & 0x0F
            at += width
            if len(left) > _MOST_DEPTH:
                raise _undecodable(f"it is more than {_MOST_DEPTH} deep")
            if count * each > size - at:
                raise _undecodable("it breaks off")
            left.append(count * each)
    return values


def framed(event: Event, *, as_text: bool, encode_message: Encode | None = None) -> Message | None:
    """Frame an event of the job's; None for what fal's clients are not told.

    Args:
        encode_message: makes an output's message, where it is not msgpack; the app's own code.
    """
    match event.kind:
        case "output" | "preview":
            return _data(event, as_text, encode_message)
        case "progress" | "log" | "lagged" | "restarted":
            return Message(b'{"type":"x-fal-message","action":"%b",' % event.kind.encode() + event.data[1:])
        case "error" | "cancelled" | "input_error":
            return Message(error(event.json()))
    return None


def error(body: dict[str, Any]) -> bytes:
    """Tell of an error, given in the one shape, as fal does; one of an input says which."""
    code = body["error"]["code"]
    told = {
        "type": "x-fal-error",
        "error": "INTERNAL_ERROR" if code in _INTERNAL else code.upper(),
        "reason": body["error"]["message"],
        "detail": body["detail"],
    }
    return encode(told | {key: body[key] for key in ("input",) if key in body})


def _data(event: Event, as_text: bool, encode_message: Encode | None) -> Message:
    packed = event.packed
    if encode_message is not None:
        value = event.json() if packed is None else msgpack.unpackb(packed, strict_map_key=False)
        made = encode_message(value)
        return Message(made.encode()) if isinstance(made, str) else Message(made, is_text=False)
    if event.data == b"null":
        return Message(_NULL)
    if as_text:
        return Message(event.data)
    if packed is not None:
        return Message(packed, is_text=False)
    try:
        return Message(msgpack.packb(json.loads(event.data)), is_text=False)
    except (OverflowError, ValueError):  # an integer of more than 64 bits; more than 512 deep: clients read JSON, too
        return Message(event.data)
