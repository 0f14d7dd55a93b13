"""The client's decoder, against the byte fixtures in tests/wire/ and at the sizes of real images."""

import base64
import json
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest

from streamapp_client import ServerSentEvent, SSEDecoder

WIRE = Path(__file__).parent / "wire"
CASES = [json.loads(path.read_text()) for path in sorted(WIRE.glob("*.json")) if path.name != "session.json"]
pytestmark = pytest.mark.whole
each_case = pytest.mark.parametrize("case", CASES, ids=lambda case: case["name"])


def wire(case: dict[str, Any]) -> bytes:
    if "input" in case:
        return str(case["input"]).encode()
    return base64.b64decode(case["input_base64"])


def outcome(chunks: Iterable[bytes]) -> dict[str, Any]:
    decoder = SSEDecoder()
    events = [
        {"event": event.name, "data": event.data, "id": event.id} for chunk in chunks for event in decoder.feed(chunk)
    ]
    return {"events": events, "retry": decoder.retry_ms, "last_event_id": decoder.last_event_id}


def expected(case: dict[str, Any]) -> dict[str, Any]:
    return {key: case[key] for key in ("events", "retry", "last_event_id")}


def test_the_fixtures_are_there() -> None:
    assert len(CASES) >= 40


@each_case
def test_a_whole_stream_decodes_as_its_fixture_says(case: dict[str, Any]) -> None:
    assert outcome([wire(case)]) == expected(case)


@each_case
def test_bytes_one_at_a_time_decode_to_the_same(case: dict[str, Any]) -> None:
    assert outcome(bytes([byte]) for byte in wire(case)) == expected(case)


@each_case
def test_a_stream_cut_anywhere_decodes_to_the_same(case: dict[str, Any]) -> None:
    """Also with an empty chunk at the cut, which must not part a CR from its LF."""
    stream = wire(case)
    for cut in range(len(stream) + 1):
        assert outcome([stream[:cut], b"", stream[cut:]]) == expected(case), cut


def test_an_event_is_handed_out_with_its_last_byte() -> None:
    """A blank line that ends in CR does not wait for the LF that may follow."""
    decoder = SSEDecoder()

    assert decoder.feed(b"data: 1\r\r") == [ServerSentEvent("message", "1", "")]


def chunked(stream: bytes, size: int) -> list[bytes]:
    return [stream[start : start + size] for start in range(0, len(stream), size)]


def seconds(work: Callable[[], object]) -> float:
    """Return the least time of this thread, of five runs: the machine may be busy with others."""
    times = []
    for _ in range(5):
        start = time.thread_time()
        work()
        times.append(time.thread_time() - start)
    return min(times)


def test_the_time_for_an_event_of_20_megabytes_is_linear() -> None:
    """Compared with joining and decoding its chunks once; joining at every chunk takes some 500 times that.

    Not compared with an event of 5 MB: fresh memory alone costs more than four times as much for 20 MB.
    """
    chunks = chunked(b"data: " + b"x" * (20 << 20) + b"\n\n", 16384)

    assert seconds(lambda: outcome(chunks)) / seconds(lambda: b"".join(chunks).decode()) < 30


def test_the_time_for_an_event_of_many_lines_is_linear() -> None:
    """Eight times the lines; a decoder that joins at every line takes some 75 times as long."""
    few, many = (chunked(b"data: 0123456789\n" * lines + b"\n", 1000) for lines in (5_000, 40_000))

    assert seconds(lambda: outcome(many)) / seconds(lambda: outcome(few)) < 30
