"""What of a room waits: messages encoded once, in order and within bounds, and the rate of who talks."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from pydantic import BaseModel

from streamapp.errors import NotEncodable
from streamapp.sockets.outbox import Backlog, Rate, Said


class Stroke(BaseModel):
    x: int


def backlog(*said: Said, most: int = 10, most_bytes: int = 1000) -> Backlog:
    held = Backlog(most, most_bytes)
    for each in said:
        held.add(each)
    return held


def taken(held: Backlog) -> list[bytes]:
    return [held.take().message.content for _ in range(len(held))]


@pytest.mark.parametrize(
    ("message", "frame", "asgi"),
    [
        ({"a": [1]}, b'\x81\x09{"a":[1]}', {"text": '{"a":[1]}'}),
        (Stroke(x=1), b'\x81\x07{"x":1}', {"text": '{"x":1}'}),
        ("plain", b"\x81\x05plain", {"text": "plain"}),
        ("\ud800", b"\x81\x03\xef\xbf\xbd", {"text": "\ufffd"}),
        (b"\xff", b"\x82\x01\xff", {"bytes": b"\xff"}),
        (bytearray(b"\xff"), b"\x82\x01\xff", {"bytes": b"\xff"}),
        (float("nan"), b"\x81\x04null", {"text": "null"}),
    ],
)
def test_a_message_is_json_a_text_or_bytes(message: Any, frame: bytes, asgi: dict[str, Any]) -> None:
    assert Said(message).frame == frame
    assert Said(message).asgi == {"type": "websocket.send", **asgi}


def test_bytes_in_a_message_are_a_file_as_in_events() -> None:
    file = {"url": "data:application/octet-stream;base64,eA==", "content_type": "application/octet-stream"}
    assert json.loads(Said({"a": [b"x"]}).message.content) == {"a": [{**file, "file_size": 1}]}


def test_a_message_without_a_form_is_told_to_who_sends_it() -> None:
    with pytest.raises(NotEncodable, match="no JSON form for builtins.object"):
        Said(object())


def test_a_message_is_framed_once_for_all() -> None:
    said = Said("one")
    assert said.frame is said.frame
    assert said.asgi is said.asgi


def test_messages_wait_in_order_and_of_a_key_the_newest() -> None:
    held = backlog(Said("a1", "a"), Said("one"), Said("b1", "b"), Said("a2", "a"), Said("two"))
    assert [said.message.content for said in held] == [b"one", b"b1", b"a2", b"two"]
    assert taken(held) == [b"one", b"b1", b"a2", b"two"]


def test_there_may_be_so_many_messages() -> None:
    held = backlog(Said("one"), Said("two"), most=2)
    assert not held.is_over
    held.add(Said("three"))
    assert held.is_over
    held.take()
    assert not held.is_over


def test_there_may_be_so_many_bytes_but_one_message_may_have_more() -> None:
    held = backlog(Said("x" * 20, "x"), most_bytes=10)
    assert not held.is_over
    held.add(Said("y"))
    assert held.is_over
    held.add(Said("x", "x"))
    assert (held.is_over, held.size) == (False, 2)
    held.take()
    assert held.size == 1


def test_a_second_of_messages_may_come_at_once_and_then_so_many_a_second(advance: Callable[[float], None]) -> None:
    rate = Rate(2)
    assert [rate.allows() for _ in range(2)] == [True, True]
    advance(0.6)
    assert rate.allows()
    advance(1000)
    assert [rate.allows() for _ in range(2)] == [True, True]


def test_who_has_talked_too_much_waits(advance: Callable[[float], None]) -> None:
    rate = Rate(0.001)
    assert [rate.allows(), rate.allows()] == [True, False]
    advance(1001)
    assert rate.allows()
