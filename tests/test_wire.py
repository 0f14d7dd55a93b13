"""What a session asks of its WebSocket: the frames, against another's reading of them, and where it is found."""

import pytest
from starlette.types import Scope
from websockets.client import ClientProtocol
from websockets.frames import Frame
from websockets.protocol import OPEN
from websockets.uri import parse_uri

from streamapp.sockets.wire import (
    FILM_EXTENSION,
    WIRE_EXTENSION,
    Message,
    binary_frame,
    close_frame,
    film_of,
    size_of,
    text_frame,
    wire_of,
)


def read(*frames: bytes) -> list[Frame]:
    """Read frames as the package for WebSockets does."""
    client = ClientProtocol(parse_uri("ws://test"), state=OPEN, max_size=None)
    client.receive_data(b"".join(frames))
    assert client.parser_exc is None
    return [event for event in client.events_received() if isinstance(event, Frame)]


@pytest.mark.parametrize("size", [0, 1, 125, 126, 127, 65_535, 65_536, 100_000])
def test_a_message_of_any_size_is_one_frame(size: int) -> None:
    text, content = read(text_frame(b"x" * size), binary_frame(b"\xff" * size))
    assert (text.opcode.name, bytes(text.data), text.fin) == ("TEXT", b"x" * size, True)
    assert (content.opcode.name, bytes(content.data), content.fin) == ("BINARY", b"\xff" * size, True)


def test_a_message_is_a_text_or_bytes_in_either_form() -> None:
    text, content = Message("é".encode()), Message(b"\xff", is_text=False)
    assert (text.frame, content.frame) == (text_frame("é".encode()), binary_frame(b"\xff"))
    assert text.asgi == {"type": "websocket.send", "text": "é"}
    assert content.asgi == {"type": "websocket.send", "bytes": b"\xff"}


@pytest.mark.parametrize(
    ("came", "size"),
    [
        ({"bytes": b"abc"}, 3),
        ({"bytes": b"", "text": None}, 0),
        ({"text": "abc"}, 3),
        ({"text": "\ud800é€"}, 6),
        ({}, 0),
    ],
)
def test_the_size_of_what_came_is_that_of_its_bytes(came: dict[str, object], size: int) -> None:
    assert size_of({"type": "websocket.receive", **came}) == size


def test_a_close_frame_says_why() -> None:
    assert bytes(read(close_frame(1012, "connect again"))[0].data) == b"\x03\xf4connect again"


@pytest.mark.parametrize(("reason", "kept"), [("x" * 200, "x" * 123), ("é" * 100, "é" * 61), ("\ud800", "?")])
def test_a_reason_is_cut_to_what_a_close_frame_holds(reason: str, kept: str) -> None:
    assert bytes(read(close_frame(1000, reason))[0].data)[2:].decode() == kept


@pytest.mark.parametrize("scope", [{}, {"extensions": None}, {"extensions": {}}])
def test_a_foreign_server_lends_nothing(scope: Scope) -> None:
    assert wire_of(scope) is None


def test_what_is_lent_stands_in_the_scope() -> None:
    lent = object()
    assert wire_of({"extensions": {WIRE_EXTENSION: lent}}) is lent


@pytest.mark.parametrize(
    ("scope", "found"), [({}, None), ({"extensions": {}}, None), ({"extensions": {FILM_EXTENSION: "film"}}, "film")]
)
def test_a_client_with_a_video_has_a_film_in_its_scope(scope: Scope, found: object) -> None:
    assert film_of(scope) == found
