"""What a WebSocket's client sends, taken apart: against the frames of another package's, and with every mistake."""

import pytest
from websockets.frames import Frame as Sent
from websockets.frames import Opcode

from streamapp.serve.incoming import BadFrame, Frame, Incoming, close_in, text_in

TEXT, BINARY, CLOSE, PING = Opcode.TEXT, Opcode.BINARY, Opcode.CLOSE, Opcode.PING


def sent(opcode: Opcode, content: bytes = b"", *, fin: bool = True) -> bytes:
    return Sent(opcode, content, fin).serialize(mask=True)


def taken(*pieces: bytes, max_bytes: int = 2**20) -> list[Frame]:
    """Feed pieces one by one; return the whole messages and control frames."""
    incoming, frames = Incoming(max_bytes), []
    for piece in pieces:
        incoming.feed(piece)
        while (frame := incoming.take()) is not None:
            frames.append(frame)
    return [frame for frame in frames if frame.opcode]


@pytest.mark.parametrize("size", [0, 1, 3, 4, 125, 126, 127, 65_535, 65_536, 100_001])
@pytest.mark.parametrize("opcode", [TEXT, BINARY])
def test_a_message_of_any_size_is_taken(opcode: Opcode, size: int) -> None:
    content = bytes(range(256)) * (size // 256 + 1)
    assert taken(sent(opcode, content[:size])) == [(opcode, content[:size])]


@pytest.mark.parametrize("size", [0, 5, 200, 70_000])
def test_how_what_comes_is_cut_makes_no_difference(size: int) -> None:
    whole = sent(BINARY, b"abcdefg" * size) + sent(PING, b"p") + sent(TEXT, b"last")
    frames = [(BINARY, b"abcdefg" * size), (PING, b"p"), (TEXT, b"last")]
    assert all(taken(*[whole[n : n + cut] for n in range(0, len(whole), cut)]) == frames for cut in (7, 1021, 65_536))


def test_a_frame_may_come_byte_by_byte() -> None:
    whole = sent(TEXT, b"x" * 130, fin=False) + sent(Opcode.CONT, b"y") + sent(CLOSE, b"\x03\xe8")
    assert taken(*[bytes((byte,)) for byte in whole]) == [(TEXT, b"x" * 130 + b"y"), (CLOSE, b"\x03\xe8")]


def test_control_frames_come_between_the_fragments_of_a_message() -> None:
    pieces = (sent(TEXT, b"a", fin=False), sent(PING, b"1"), sent(Opcode.CONT, b"b", fin=False), sent(Opcode.CONT))
    assert taken(*pieces) == [(PING, b"1"), (TEXT, b"ab")]


def test_any_number_of_empty_fragments_takes_no_room() -> None:
    incoming = Incoming(10)
    incoming.feed(sent(TEXT, fin=False) + 1000 * sent(Opcode.CONT, fin=False))
    while incoming.take() is not None:
        assert incoming.held_bytes <= 6 * 1000
    assert (incoming.held_bytes, incoming.is_between) == (0, False)


@pytest.mark.parametrize(
    ("pieces", "is_between"),
    [
        ((), True),
        ((sent(TEXT, b"whole"),), True),
        ((sent(TEXT, b"whole")[:1],), False),
        ((sent(TEXT, b"whole")[:-1],), False),
        ((sent(TEXT, b"begun", fin=False),), False),
        ((sent(TEXT, b"begun", fin=False), sent(PING)), False),
    ],
)
def test_a_client_owes_the_rest_of_what_it_has_begun(pieces: tuple[bytes, ...], is_between: bool) -> None:
    incoming = Incoming(100)
    for piece in pieces:
        incoming.feed(piece)
        incoming.take()
    assert incoming.is_between == is_between


def with_bits(first: int, second: int = 0x80, rest: bytes = b"\0\0\0\0") -> bytes:
    return bytes((first, second)) + rest


@pytest.mark.parametrize("cut", [1, 1000])
@pytest.mark.parametrize(
    ("frames", "code", "reason"),
    [
        (with_bits(0xC1), 1002, "reserved bits"),
        (with_bits(0xA1), 1002, "reserved bits"),
        (with_bits(0x91), 1002, "reserved bits"),
        (with_bits(0xC9), 1002, "reserved bits"),
        *((with_bits(0x80 | opcode), 1002, "reserved opcode") for opcode in (3, 4, 5, 6, 7, 11, 12, 13, 14, 15)),
        (with_bits(0x81, 0x00), 1002, "not masked"),
        (with_bits(0x88, 0x00), 1002, "not masked"),
        (with_bits(0x09), 1002, "is fragmented"),
        (with_bits(0x08), 1002, "is fragmented"),
        (with_bits(0x89, 0xFE, b"\0\x7e\0\0\0\0"), 1002, "longer than 125"),
        (with_bits(0x88, 0xFF), 1002, "longer than 125"),
        (sent(Opcode.CONT, b"x"), 1002, "has not begun"),
        (sent(Opcode.CONT, b"x", fin=False), 1002, "has not begun"),
        (sent(TEXT, b"a", fin=False) + sent(TEXT, b"b"), 1002, "begins in another"),
        (sent(TEXT, b"", fin=False) + sent(BINARY, b"b"), 1002, "begins in another"),
        (with_bits(0x82, 0xFF, b"\x80\0\0\0\0\0\0\0\0\0\0\0"), 1002, "first bit set"),
        (with_bits(0x82, 0xFF, b"\x7f\0\0\0\0\0\0\0\0\0\0\0"), 1009, "larger than 100 bytes"),
        (sent(TEXT, b"x" * 101), 1009, "larger than 100 bytes"),
        (sent(TEXT, b"x" * 60, fin=False) + sent(Opcode.CONT, b"x" * 41), 1009, "STREAMAPP_MAX_MESSAGE_BYTES"),
    ],
    ids=lambda value: "frames" if isinstance(value, bytes) else str(value),  # masked by chance
)
def test_what_the_protocol_forbids_fails_the_connection(frames: bytes, code: int, reason: str, cut: int) -> None:
    with pytest.raises(BadFrame, match=reason) as failed:
        taken(*[frames[n : n + cut] for n in range(0, len(frames), cut)], max_bytes=100)
    assert failed.value.code == code


def test_a_message_may_have_just_as_many_bytes_as_are_allowed() -> None:
    pieces = (sent(TEXT, b"x" * 60, fin=False), sent(Opcode.CONT, b"x" * 40), sent(BINARY, b"y" * 100))
    assert [len(frame.content) for frame in taken(*pieces, max_bytes=100)] == [100, 100]


@pytest.mark.parametrize(
    "content", [b"\xff", b"\xc3", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\xce\xba\xe1\xbd\xb9\xed"]
)
def test_a_text_has_to_be_one(content: bytes) -> None:
    with pytest.raises(BadFrame, match="no UTF-8 at byte") as failed:
        text_in(content)
    assert failed.value.code == 1007


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"", (1005, "")),
        (b"\x03\xe8", (1000, "")),
        (b"\x03\xe8bye", (1000, "bye")),
        *((code.to_bytes(2, "big"), (code, "")) for code in (1001, 1003, 1007, 1014, 3000, 4999)),
    ],
)
def test_a_close_frame_says_a_code_and_a_reason(content: bytes, told: tuple[int, str]) -> None:
    assert close_in(content) == told


@pytest.mark.parametrize("code", [0, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65_535])
def test_a_code_that_may_not_be_sent_is_an_error(code: int) -> None:
    with pytest.raises(BadFrame) as failed:
        close_in(code.to_bytes(2, "big"))
    assert failed.value.code == 1002


@pytest.mark.parametrize(("content", "code"), [(b"\x03", 1002), (b"\x03\xe8\xff", 1007)])
def test_half_a_code_and_a_reason_that_is_no_text_are_errors(content: bytes, code: int) -> None:
    with pytest.raises(BadFrame) as failed:
        close_in(content)
    assert failed.value.code == code
