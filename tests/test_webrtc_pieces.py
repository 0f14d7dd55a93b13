"""Frames of a session, cut into messages that every data channel holds."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamapp.errors import MalformedRequest, PayloadTooLarge
from streamapp.webrtc.pieces import Pieces, cut


@pytest.mark.parametrize(("size", "marks"), [(0, "."), (1, "."), (16_000, "."), (16_001, "+."), (40_000, "++.")])
def test_a_frame_is_cut_so_that_every_channel_holds_its_pieces(size: int, marks: str) -> None:
    pieces = list(cut("\N{GRINNING FACE}" * size))
    assert "".join(piece[0] for piece in pieces) == marks
    assert max(len(piece.encode()) for piece in pieces) <= 65_535


@given(st.text(max_size=50), st.integers(1, 1000))
def test_what_is_cut_is_put_together(text: str, times: int) -> None:
    pieces, frame = Pieces(10_000_000), text * times
    *before, last = map(pieces.add, cut(frame))
    assert last == frame
    assert before == [None] * len(before)


def test_frames_follow_one_another() -> None:
    pieces = Pieces(10)
    assert [pieces.add(each) for each in ("+a", ".b", ".c", "+", ".")] == [None, "ab", "c", None, ""]


@pytest.mark.parametrize("message", ["", '{"type":"open"}', b".", None])
def test_what_is_no_piece_is_refused(message: object) -> None:
    with pytest.raises(MalformedRequest, match='text that begin with "\\+" or "."'):
        Pieces(10).add(message)


def test_a_frame_is_bounded_by_its_bytes_however_it_is_cut() -> None:
    pieces = Pieces(10)
    assert pieces.add("+" + 4 * "\N{LATIN SMALL LETTER E WITH ACUTE}") is None
    assert pieces.add("+" + "ab") is None
    with pytest.raises(PayloadTooLarge, match="larger than 10 bytes"):
        pieces.add(".c")
