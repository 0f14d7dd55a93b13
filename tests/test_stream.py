"""The stream: what an endpoint's code emits to."""

import asyncio
import threading
from typing import Any

import PIL.Image
import pytest
from starlette.testclient import TestClient
from tests.served import names

from streamapp.errors import Cancelled, ErrorReport, StreamAppError
from streamapp.jobs.channel import Channel
from streamapp.jobs.events import Output
from streamapp.jobs.stream import Stream, current_stream, enter_stream
from streamapp.settings import Settings


async def test_the_stream_offers_a_method_for_each_kind() -> None:
    channel = Channel(Settings())
    stream = Stream(channel, "1" * 32)
    stream.emit({"a": 1})
    stream.emit("b", event="token")
    stream.preview({"c": 1}, step=1, total=2, key="k")
    stream.output([2])
    stream.progress(1, 2, "half")
    stream.log("loaded", level="WARN", source="me")
    *others, log = [(event.name, event.json()) for event in channel.events()]
    assert (log[0], log[1] | {"timestamp": ""}) == (
        "log",
        {"message": "loaded", "level": "WARN", "source": "me", "timestamp": ""},
    )
    assert others == [
        ("output", {"a": 1}),
        ("token", "b"),
        ("preview", {"c": 1, "key": "k", "step": 1, "total": 2}),
        ("output", [2]),
        ("progress", {"step": 1, "total": 2, "message": "half"}),
    ]


async def test_the_stream_tells_demand_and_the_end() -> None:
    channel = Channel(Settings())
    stream = Stream(channel, "1" * 32)
    stream.check()
    assert not stream.wants_preview()
    channel.cancel(ErrorReport(499, "cancelled", "the job was cancelled"))
    with pytest.raises(Cancelled):
        stream.check()


async def test_emit_on_the_loop_is_refused_with_what_to_write() -> None:
    stream = Stream(Channel(Settings()), "1" * 32, loop_thread=threading.get_ident())
    with pytest.raises(StreamAppError, match="write await stream.aemit"):
        stream.emit("a")
    await asyncio.to_thread(stream.emit, "a")  # in a thread it is right


async def test_aemit_takes_what_emit_takes_and_encodes_images_off_the_loop() -> None:
    channel = Channel(Settings())
    stream = Stream(channel, "1" * 32)
    threads: list[int] = []

    class Pixels(PIL.Image.Image):
        def save(self, *args: Any, **kwargs: Any) -> None:
            threads.append(threading.get_ident())
            super().save(*args, **kwargs)

    image = PIL.Image.new("RGB", (2, 2))
    image.__class__ = Pixels
    await stream.aemit({"a": 1})
    await stream.aemit(image, event="picture")
    await stream.aemit(Output("b"))
    assert [event.name for event in channel.events()] == ["output", "picture", "output"]
    assert threads != [threading.get_ident()]
    assert len(threads) == 1


async def test_code_far_below_an_endpoint_finds_its_stream() -> None:
    with pytest.raises(LookupError):
        current_stream()
    stream = Stream(Channel(Settings()), "1" * 32)
    enter_stream(stream)
    assert await asyncio.to_thread(current_stream) is stream


# Over HTTP


def test_an_event_carries_the_apps_own_name(kinds: TestClient) -> None:
    assert names(kinds.post("/with-stream").text) == ["token", "output"]


def test_an_async_endpoint_that_emits_on_the_loop_is_told_so(kinds: TestClient) -> None:
    answer = kinds.post("/emit-on-loop")
    assert answer.status_code == 500
    assert "write await stream.aemit()" in answer.json()["detail"]
