"""The messages of fal's realtime clients, and msgpack that is meant to hurt."""

import json
import struct
from datetime import UTC, datetime
from typing import Any

import msgpack
import pytest

from streamapp.errors import InvalidInput, JobCancelled, PayloadTooLarge, describe
from streamapp.jobs.events import Event, Log, Preview, Progress, encode, terminal, to_event
from streamapp.sockets.fal_frames import QUICK_VALUES, TIMEOUT, framed, read_binary, read_text
from streamapp.sockets.wire import Message

pytestmark = pytest.mark.whole


def packed(value: Any) -> bytes:
    data = msgpack.packb(value)
    assert isinstance(data, bytes)
    return data


def with_bytes(value: Any, **payload: Any) -> Event:
    event = Event("output", encode(value))
    event.packed = packed(payload)
    return event


def text(event: Event, **asked: Any) -> Any:
    message = framed(event, as_text=False, **asked)
    assert message is not None and message.is_text
    return json.loads(message.content)


@pytest.mark.parametrize(
    "value",
    [
        *(None, True, False, 0, 127, 128, 255, 256, 65_535, 65_536, 2**32, 2**64 - 1, -1, -32, -33, -129, -32_769),
        *(-(2**31) - 1, -(2**63), 1.5, "", "a" * 31, "a" * 32, "a" * 256, "ü" * 70_000, b"", b"a" * 256, b"a" * 70_000),
        *([], [1] * 15, [1] * 16, [[]] * 70_000, {}, {"a": [1, {"b": b"c"}]}, {str(n): n for n in range(70_000)}),
        *({1: 2}, {b"a": 1}),
    ],
    ids=lambda value: f"{type(value).__name__}-{str(value)[:12]}",
)
def test_each_form_of_msgpack_is_counted_and_read(value: Any) -> None:
    assert read_binary(packed(value)).value == value


@pytest.mark.parametrize(
    ("head", "size"),
    [
        *((b"\xd4", 1), (b"\xd5", 2), (b"\xd6", 4), (b"\xd7", 8), (b"\xd8", 16)),
        *((b"\xc7\x03", 3), (b"\xc8\x01\x2c", 300), (b"\xc9\x00\x01\x11\x70", 70_000)),
    ],
)
def test_each_form_of_an_extension_is_counted_and_read(head: bytes, size: int) -> None:
    # By hand, and compared as tuples: where coverage has imported msgpack twice there are two classes of these.
    read = read_binary(b"\x92" + head + b"\x05" + b"a" * size + b"\x01")
    assert [tuple(read.value[0]), read.value[1]] == [(5, b"a" * size), 1]


def test_a_date_is_read_as_one() -> None:
    at = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    assert read_binary(msgpack.packb(at, datetime=True)).value == at


def test_a_message_counts_with_its_values() -> None:
    assert read_binary(packed({"a": [1, 2]})).size == 6 + 5 * 64
    assert read_text("[1]").size == 3
    assert read_text(str([1] * 100_000)).size > 6_000_000


@pytest.mark.parametrize(
    "message",
    [
        *(b"", b"\xc1", b"\x01\x01", b"\x91", b"\x81\x01", b"\xa5abc", b"\xa1\xff", b"\xc4\x05a", b"\xda\x00", b"\xcb"),
        *(b"\xdd\xff\xff\xff\xff", b"\xdf\xff\xff\xff\xff", b"\xdc\xff\xff", b"\xde\xff\xff", b"\xc6\xff\xff\xff\xff"),
        *(b"\x91" * 300 + b"\x01", b"\x81\x01" * 300 + b"\x01", b"\xdc\xff\xff" * 1000, b"\xdd\x00\x00\x40\x00" * 900),
        *(b"\x81\x90\x01", b"\x81\x80\x01", b"\xc7\x0c\xff" + b"\xff" * 12, b"\xc7\x05\xff" + b"\xff" * 5),
        b"\xd7\xff" + struct.pack("!Q", (1 << 34) - 1),
        b"\xc7\x0c\xff" + struct.pack("!IQ", 0, 2**62),
    ],
    ids=lambda message: message[:8].hex(),
)
def test_what_is_no_msgpack_is_refused_with_words(message: bytes) -> None:
    try:
        read_binary(message)
    except InvalidInput as error:
        assert error.message.startswith("msgpack decode error: ")


@pytest.mark.parametrize("message", [b"\xdc\xff\xff" * 1000, b"\xdd\x00\x00\x40\x00" * 900, b"\x91" * 300 + b"\x01"])
def test_lists_that_claim_more_than_there_is_are_never_made(message: bytes) -> None:
    with pytest.raises(InvalidInput, match="breaks off|deep"):
        read_binary(message)


def test_more_values_than_json_may_have_are_refused() -> None:
    with pytest.raises(PayloadTooLarge, match="more than 1048576"):
        read_binary(b"\xdd" + struct.pack("!I", 1_100_000) + b"\x80" * 1_100_000)
    with pytest.raises(PayloadTooLarge):
        read_text("[1" + ",1" * 1_100_000 + "]")


@pytest.mark.parametrize("value", [0, -1, None, "", [], {}, "a", 300])
def test_values_that_come_in_a_run_are_counted_each(value: Any) -> None:
    message = msgpack.packb([[value] * 20, value, dict.fromkeys(range(20), value), "a", [1, "a"] * 20])
    size = 1 + 21 + 1 + 41 + 1 + 41
    assert read_binary(message, most=size).size == len(message) + 64 * size
    with pytest.raises(PayloadTooLarge):
        read_binary(message, most=size - 1)
    with pytest.raises(PayloadTooLarge):
        read_binary(msgpack.packb([value] * 20), most=20)


def test_what_the_loop_reads_has_few_values_and_any_bytes() -> None:
    assert read_binary(packed([b"a" * 1_000_000]), most=QUICK_VALUES).value == [b"a" * 1_000_000]
    with pytest.raises(PayloadTooLarge):
        read_binary(packed([1] * QUICK_VALUES), most=QUICK_VALUES)


@pytest.mark.parametrize("message", ["", "hello", "{", "NaN", "[" * 300, '"\\ud800"', "\ud800"])
def test_what_is_no_json_is_refused_with_words(message: str) -> None:
    with pytest.raises(InvalidInput, match="JSON decode error"):
        read_text(message)


def test_an_output_is_its_data_as_msgpack_or_as_json() -> None:
    event = to_event({"a": [1, "ü", None, 1.5]})
    assert framed(event, as_text=True) == Message(event.data)
    assert framed(event, as_text=False) == Message(packed({"a": [1, "ü", None, 1.5]}), is_text=False)


def test_bytes_of_an_output_go_as_they_are() -> None:
    event = with_bytes({"a": 1}, a=b"bytes")
    assert framed(event, as_text=False) == Message(packed({"a": b"bytes"}), is_text=False)
    assert framed(event, as_text=True) == Message(event.data)


def test_a_preview_goes_as_outputs_do() -> None:
    assert framed(to_event(Preview({"step": 1})), as_text=False) == Message(packed({"step": 1}), is_text=False)


def test_an_integer_that_msgpack_has_not_goes_as_json() -> None:
    assert framed(to_event({"a": 2**70}), as_text=False) == Message(b'{"a":%d}' % 2**70)


@pytest.mark.parametrize(("made", "sent"), [(b"own", Message(b"own", is_text=False)), ("own", Message(b"own"))])
def test_an_apps_own_encoder_makes_its_outputs(made: bytes | str, sent: Message) -> None:
    got: list[Any] = []

    def encode_message(value: Any) -> bytes | str:
        got.append(value)
        return made

    event = to_event({"a": 1})
    assert framed(event, as_text=True, encode_message=encode_message) == sent
    event = with_bytes({"a": 1}, a=b"bytes")
    framed(event, as_text=True, encode_message=encode_message)
    assert got == [{"a": 1}, {"a": b"bytes"}]


def test_progress_and_lines_are_messages_that_clients_leave_out() -> None:
    assert text(to_event(Progress(1, 2))) == {"type": "x-fal-message", "action": "progress", "step": 1, "total": 2}
    assert text(to_event(Log("a")))["action"] == "log"
    assert text(Event("lagged", b'{"skipped":2}')) == {"type": "x-fal-message", "action": "lagged", "skipped": 2}


def test_an_error_of_an_input_says_which() -> None:
    body = describe(InvalidInput("body.x: Field required", detail=[{"loc": ["body", "x"]}])).body
    assert text(Event("input_error", encode(body | {"input": 3}))) == {
        "type": "x-fal-error",
        "error": "INVALID_INPUT",
        "reason": "body.x: Field required",
        "detail": [{"loc": ["body", "x"]}],
        "input": 3,
    }


def test_what_the_app_raised_has_fals_code() -> None:
    told = text(terminal("error", describe(ValueError("secret"), where="endpoint /app/realtime")))
    assert told["error"] == "INTERNAL_ERROR"
    assert "secret" not in told["reason"]


def test_a_cancelled_job_is_an_error_to_fals_clients() -> None:
    assert text(terminal("cancelled", describe(JobCancelled("the job was cancelled"))))["error"] == "CANCELLED"


def test_the_end_is_no_message() -> None:
    assert framed(terminal("done", {}), as_text=False) is None


def test_silence_is_told_as_fal_does() -> None:
    assert json.loads(TIMEOUT) == {
        "type": "x-fal-error",
        "error": "TIMEOUT",
        "reason": "no inputs, reconnect when needed!",
    }


@pytest.mark.parametrize("as_text", [True, False])
def test_an_output_that_is_null_is_told_as_an_error_which_clients_hear(as_text: bool) -> None:
    message = framed(to_event(None), as_text=as_text)
    assert message is not None
    assert json.loads(message.content)["reason"] == "the output is null; return a dict or a model"
    assert message.is_text
