"""The stream: what an endpoint's code emits to."""

import asyncio
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import PIL.Image
import pytest
from starlette.testclient import TestClient
from tests.emitting import STOPPED, channel_with
from tests.served import names
from tests.waiting import WAIT_S

from streamapp.errors import Cancelled, EndIgnored, ErrorReport, InputsEnded, StreamAppError
from streamapp.jobs.channel import Channel
from streamapp.jobs.events import Output, to_event
from streamapp.jobs.inbox import Inbox
from streamapp.jobs.stream import (
    Inputs,
    OwnLoopStream,
    PackingStream,
    SessionStream,
    Stream,
    Waits,
    current_stream,
    enter_stream,
)
from streamapp.process.threads import _MOST, in_encoder
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


async def test_a_pause_of_the_stream_is_over_when_the_job_is() -> None:
    channel = Channel(Settings())
    stream = Stream(channel, "1" * 32)
    await asyncio.to_thread(stream.pause, 0.001)
    channel.cancel(ErrorReport(499, "cancelled", "the job was cancelled"))
    with pytest.raises(Cancelled):
        await asyncio.to_thread(stream.pause, 10 * WAIT_S)


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


async def test_code_on_a_loop_of_its_own_emits_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("streamapp.jobs.stream._TURN_S", WAIT_S)  # one turn, however long it takes
    channel = Channel(Settings())

    async def emits() -> list[bool]:
        stream = OwnLoopStream.of(Stream(channel, "1" * 32, loop_thread=threading.get_ident()))
        rests = [stream.begin_aemit({"a": n}) for n in range(2)]
        rests.append(stream.begin_aemit(PIL.Image.new("RGB", (2, 2))))
        for rest in filter(None, rests):
            await rest
        return [rest is not None for rest in rests]

    assert await asyncio.to_thread(asyncio.run, emits()) == [True, False, True]
    assert [event.name for event in channel.events()] == ["output"] * 3


async def test_those_who_wait_for_readers_there_keep_no_encoder_from_others() -> None:
    channels = [channel_with(ahead_events=1, send_timeout_s=3) for _ in range(_MOST + 1)]
    for channel in channels:
        channel.subscribe(is_owner=True)
        await asyncio.to_thread(channel.emit, to_event(1))

    async def emits() -> bool:
        rests = [OwnLoopStream(channel, "1" * 32).begin_aemit({"a": 1}) for channel in channels]
        waiting = [asyncio.ensure_future(rest) for rest in rests if rest is not None]
        await asyncio.sleep(0)
        encoding = asyncio.ensure_future(in_encoder(str, 1))
        done, _ = await asyncio.wait({encoding, *waiting}, return_when=asyncio.FIRST_COMPLETED)
        for channel in channels:
            channel.cancel(STOPPED)
        await asyncio.wait({encoding, *waiting})
        return len(waiting) == len(channels) and done == {encoding}

    assert await asyncio.to_thread(asyncio.run, emits())


# Sessions


async def test_what_a_session_emits_is_packed_where_bytes_are_in_it() -> None:
    channel = Channel(Settings())
    stream = PackingStream(channel, "1" * 32, loop_thread=threading.get_ident())
    await stream.aemit({"a": 1})
    await stream.aemit({"a": b"\xff"})
    await stream.aemit({"a": b"\xff", "image": PIL.Image.new("RGB", (2, 2))})
    await asyncio.to_thread(stream.emit, b"\xff", event="frame")
    assert [event.packed is not None for event in channel.events()] == [False, True, True, True]
    assert channel.events()[-1].name == "frame"
    with pytest.raises(StreamAppError, match="write await stream.aemit"):
        stream.emit("a")


def of_session(inbox: Inbox, **options: Any) -> Stream:
    return SessionStream(Channel(Settings()), "1" * 32, inbox, waits_of(inbox), **options)


def waits_of(inbox: Inbox) -> Waits:
    return Waits(lambda: inbox.wait(WAIT_S), inbox.arrival, inbox.settle)


async def test_where_inputs_are_arguments_none_is_received() -> None:
    stream = Stream(Channel(Settings()), "1" * 32)
    with pytest.raises(StreamAppError, match="no inputs are received here"):
        stream.poll()
    with pytest.raises(StreamAppError, match="no inputs are received here"):
        stream.receive()
    with pytest.raises(StreamAppError, match="no inputs are received here"):
        await stream.areceive()


async def test_a_thread_receives_inputs_until_they_end() -> None:
    inbox = Inbox()
    stream = of_session(inbox)
    inbox.put("a")
    inbox.put("b")
    assert stream.receive() == "a"
    receiving = asyncio.ensure_future(asyncio.to_thread(lambda: [stream.receive(), stream.receive()]))
    inbox.put("c")
    assert await receiving == ["b", "c"]
    inbox.end()
    with pytest.raises(InputsEnded):
        stream.receive()


async def test_a_coroutine_receives_inputs_until_they_end() -> None:
    inbox = Inbox()
    stream = of_session(inbox)
    receiving = asyncio.ensure_future(stream.areceive())
    await asyncio.sleep(0)
    inbox.put("a")
    assert await receiving == "a"
    inbox.end()
    with pytest.raises(InputsEnded):
        await stream.areceive()


async def test_receive_on_the_loop_is_refused_with_what_to_write() -> None:
    stream = of_session(Inbox(), loop_thread=threading.get_ident())
    with pytest.raises(StreamAppError, match="write await stream.areceive"):
        stream.receive()


async def test_what_wakes_for_nothing_looks_again() -> None:
    inbox = Inbox()
    rests: list[Callable[[], object]] = [lambda: None, lambda: inbox.put("a")]

    async def arest() -> None:
        rests.pop(0)()

    stream = SessionStream(Channel(Settings()), "1" * 32, inbox, Waits(lambda: rests.pop(0)(), arest, inbox.settle))
    assert stream.receive() == "a"
    rests = [lambda: None, lambda: inbox.put("b")]
    assert await stream.areceive() == "b"


async def test_code_that_goes_on_without_an_input_polls_for_one() -> None:
    inbox = Inbox()
    stream = of_session(inbox, loop_thread=threading.get_ident())
    assert stream.poll() is None
    inbox.put("a")
    inbox.end()
    assert stream.poll() == "a"
    with pytest.raises(InputsEnded):
        stream.poll()


def ends(ask: Callable[[], Any], times: int) -> None:
    for _ in range(times):
        with suppress(InputsEnded):
            ask()


async def test_who_asks_for_ever_behind_the_end_is_ended_unless_it_polls_or_emits() -> None:
    inbox = Inbox()
    stream = of_session(inbox)
    inbox.end()
    ends(stream.poll, 1100)
    ends(stream.receive, 1000)
    stream.emit(1)
    ends(stream.receive, 1000)
    with pytest.raises(EndIgnored, match="leave its loop at streamapp.InputsEnded"):
        stream.receive()


async def test_whoever_receives_meets_the_end_of_the_job() -> None:
    inbox, channel = Inbox(), Channel(Settings())
    inbox.put("a")
    channel.cancel(ErrorReport(499, "cancelled", "the job was cancelled"))
    with pytest.raises(Cancelled):
        await SessionStream(channel, "1" * 32, inbox, waits_of(inbox)).areceive()


async def test_inputs_are_gone_through_by_either_kind_of_loop() -> None:
    inbox = Inbox()
    inputs = Inputs(of_session(inbox))
    for value in "abcd":
        inbox.put(value)
    assert (next(iter(inputs)), await anext(aiter(inputs))) == ("a", "b")
    inbox.end()
    assert [*inputs] == ["c", "d"]
    assert [value async for value in inputs] == []


# Over HTTP


def test_an_event_carries_the_apps_own_name(kinds: TestClient) -> None:
    assert names(kinds.post("/with-stream").text) == ["token", "output"]


def test_an_async_endpoint_that_emits_on_the_loop_is_told_so(kinds: TestClient) -> None:
    answer = kinds.post("/emit-on-loop")
    assert answer.status_code == 500
    assert "write await stream.aemit()" in answer.json()["detail"]
