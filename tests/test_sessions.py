"""Sessions: their code runs in turns, for each input or going through them, in the inference thread or on the loop."""

import asyncio
import gc
import pickle
import threading
import weakref
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from functools import cached_property
from typing import Any

import pytest
from fastapi import Header, HTTPException
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel
from starlette.websockets import WebSocketDisconnect
from tests.at_work import Gate
from tests.in_session import begin, ended, running
from tests.memory_store import MemoryStore
from tests.waiting import WAIT_S, until

import streamapp
from streamapp.errors import DefinitionError, ErrorReport, Unavailable
from streamapp.jobs.events import input_error
from streamapp.runtime import Runtime
from streamapp.settings import Settings


class Point(BaseModel):
    x: int

    def can_batch(self, following: "Point", count: int) -> bool:
        if following.x == 13:
            raise ValueError("13")
        return following.x % 2 == self.x % 2


def doubled(point: Point) -> dict[str, int]:
    if point.x == 13:
        raise HTTPException(418, "no 13")
    if point.x == 14:
        raise ValueError("secret")
    return {"x": 2 * point.x}


class OnTheLoop(streamapp.App):
    @streamapp.realtime("/rt")
    async def double(self, input: Point) -> dict[str, int]:
        return doubled(input)

    @streamapp.realtime("/keys")
    async def add(self, x: int, y: int = 1) -> int:
        return x + y

    @streamapp.realtime("/batch", max_batch_size=3)
    async def batch(self, *inputs: Point) -> list[int]:
        return [point.x for point in inputs]

    @streamapp.realtime("/none")
    async def nothing(self, input: Point) -> None:
        pass

    @streamapp.realtime("/emits")
    async def emits(self, input: Point, stream: streamapp.Stream) -> None:
        await stream.aemit(input.x)

    @streamapp.realtime("/stream")
    async def count(self, input: Point) -> AsyncIterator[int]:
        for n in range(input.x):
            yield n

    @streamapp.realtime("/sum")
    async def sum(self, inputs: AsyncIterator[Point]) -> int:
        return sum([point.x async for point in inputs])

    @streamapp.realtime("/bidi")
    async def echo(self, inputs: AsyncIterator[Point]) -> AsyncIterator[int]:
        async for point in inputs:
            yield point.x

    @streamapp.realtime("/receive")
    async def receive(self, stream: streamapp.Stream) -> None:
        while True:
            received = await stream.areceive()
            if received == "raise":
                raise ValueError("secret")
            await stream.aemit([received, stream.poll()])


class InTheThread(streamapp.App):
    @streamapp.realtime("/rt")
    def double(self, input: Point) -> dict[str, int]:
        return doubled(input)

    @streamapp.realtime("/keys")
    def add(self, x: int, y: int = 1) -> int:
        return x + y

    @streamapp.realtime("/batch", max_batch_size=3)
    def batch(self, *inputs: Point) -> list[int]:
        return [point.x for point in inputs]

    @streamapp.realtime("/none")
    def nothing(self, input: Point) -> None:
        pass

    @streamapp.realtime("/emits")
    def emits(self, input: Point, stream: streamapp.Stream) -> None:
        stream.emit(input.x)

    @streamapp.realtime("/stream")
    def count(self, input: Point) -> Iterator[int]:
        yield from range(input.x)

    @streamapp.realtime("/sum")
    def sum(self, inputs: Iterator[Point]) -> int:
        return sum(point.x for point in inputs)

    @streamapp.realtime("/bidi")
    def echo(self, inputs: Iterator[Point]) -> Iterator[int]:
        for point in inputs:
            yield point.x

    @streamapp.realtime("/receive")
    def receive(self, stream: streamapp.Stream) -> None:
        while True:
            received = stream.receive()
            if received == "raise":
                raise ValueError("secret")
            stream.emit([received, stream.poll()])


either = pytest.mark.parametrize("app", [OnTheLoop, InTheThread])


@either
async def test_a_method_is_called_for_each_input(app: type[streamapp.App]) -> None:
    async with running(app()) as runtime:
        talk = await begin(runtime)
        await talk.say({"x": 1}, {"x": 2})
        assert await talk.outputs(2) == [{"x": 2}, {"x": 4}]
        assert talk.job.status == "running"
        talk.finish()
        *_, end = await talk.hear()
        assert (end.kind, (await ended(talk.job)).status) == ("done", "succeeded")


@either
async def test_a_session_runs_from_when_it_is_taken_in(app: type[streamapp.App]) -> None:
    """What is wrong with its first input can be told at once."""
    async with running(app()) as runtime:
        talk = await begin(runtime)
        assert talk.job.status == "running"
        await talk.job.channel.aemit(input_error(ErrorReport(422, "invalid_input", "no"), 1))
        assert [event.kind for event in await talk.hear(1)] == ["input_error"]


@either
@pytest.mark.parametrize(
    ("path", "said", "heard"),
    [
        ("/keys", [{"x": 1}, {"x": 1, "y": 2}], [2, 3]),
        ("/none", [{"x": 1}], [None]),
        ("/emits", [{"x": 1}], [1]),
        ("/stream", [{"x": 3}], [0, 1, 2]),
        ("/sum", [{"x": 1}, {"x": 2}], [3]),
        ("/bidi", [{"x": 1}, {"x": 2}], [1, 2]),
        ("/receive", [{"a": 1}, 2], [[{"a": 1}, 2]]),
        ("/stream", [], []),
        ("/rt", [], []),
        ("/sum", [], [0]),
    ],
)
async def test_what_goes_each_way_the_hints_say(
    app: type[streamapp.App], path: str, said: list[Any], heard: list[Any]
) -> None:
    async with running(app()) as runtime:
        talk = await begin(runtime, path)
        await talk.say(*said)
        talk.finish()
        *events, end = await talk.hear()
        assert [event.json() for event in events] == heard
        assert (end.kind, (await ended(talk.job)).status) == ("done", "succeeded")


@either
async def test_what_fails_at_an_input_is_told_of_it_and_the_session_goes_on(app: type[streamapp.App]) -> None:
    async with running(app()) as runtime:
        talk = await begin(runtime)
        await talk.say({"x": 13}, {"x": 14}, {"x": 1})
        teapot, broken, output = await talk.hear(3)
        assert (teapot.kind, teapot.json()["detail"], teapot.json()["input"]) == ("input_error", "no 13", 1)
        assert (broken.json()["error"]["code"], broken.json()["input"]) == ("endpoint_failed", 2)
        assert b"secret" not in broken.data
        assert output.json() == {"x": 2}


@either
async def test_what_fails_while_it_goes_through_its_inputs_ends_the_session(app: type[streamapp.App]) -> None:
    async with running(app()) as runtime:
        talk = await begin(runtime, "/receive")
        await talk.say("raise")
        (end,) = await talk.hear()
        assert (end.kind, end.json()["error"]["code"]) == ("error", "endpoint_failed")
        await ended(talk.job)


class NeverLeaving(streamapp.App):
    @streamapp.realtime("/async/receive")
    async def areceive(self, stream: streamapp.Stream) -> None:
        while True:
            with suppress(Exception):
                await stream.aemit(await stream.areceive())

    @streamapp.realtime("/async/through")
    async def athrough(self, inputs: AsyncIterator[int]) -> AsyncIterator[int]:
        while True:
            async for given in inputs:
                yield given

    @streamapp.realtime("/receive")
    def receive(self, stream: streamapp.Stream) -> None:
        while True:
            with suppress(Exception):
                stream.emit(stream.receive())

    @streamapp.realtime("/through")
    def through(self, inputs: Iterator[int]) -> Iterator[int]:
        while True:
            yield from inputs


@pytest.mark.parametrize("path", ["/async/receive", "/async/through", "/receive", "/through"])
async def test_a_loop_that_is_not_left_at_the_end_of_the_inputs_ends_with_its_session(
    path: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with running(NeverLeaving()) as runtime:
        talk = await begin(runtime, path)
        await talk.say(1)
        talk.finish()
        output, end = await talk.hear()
        assert (output.json(), end.kind) == (1, "error")
        await ended(talk.job)
    assert "have it leave its loop at streamapp.InputsEnded" in caplog.text


async def test_bytes_that_are_files_in_json_count_as_what_a_session_has_said() -> None:
    class Frames(streamapp.App):
        @streamapp.realtime("/rt")
        def frames(self, count: int) -> Iterator[bytes]:
            yield from [bytes(2 << 20)] * count

    async with running(Frames(), behind_bytes=8 << 20) as runtime:
        talk = await begin(runtime)
        await talk.say({"count": 20})
        await talk.hear()
        assert talk.job.channel.statistics().kept_events < 10


@either
async def test_inputs_that_wait_are_taken_in_batches_of_those_that_go_together(app: type[streamapp.App]) -> None:
    async with running(app()) as runtime:
        talk = await begin(runtime, "/batch")
        await talk.say(*({"x": x} for x in (1, 3, 5, 7, 2, 4)))
        heard = await talk.outputs(3)
        assert sum(heard, []) == [1, 3, 5, 7, 2, 4]
        assert [2, 4] in heard


@either
async def test_each_input_of_a_batch_that_fails_is_told_so(app: type[streamapp.App]) -> None:
    async with running(app()) as runtime:
        talk = await begin(runtime, "/batch")
        await talk.say({"x": 1}, {"x": 13}, {"x": 2})
        events = await talk.hear(3)
        assert [event.kind for event in events].count("input_error") == 1
        assert sum((event.json() for event in events if event.kind == "output"), []) == [13, 2]


@either
async def test_a_method_that_asks_gets_each_input_when_it_comes(app: type[streamapp.App]) -> None:
    async with running(app()) as runtime:
        talk = await begin(runtime, "/receive")
        for n in range(3):
            await talk.is_done()
            await talk.say(n)
            assert await talk.outputs(1) == [[n, None]]


@either
async def test_a_cancelled_session_ends_and_its_code_with_it(app: type[streamapp.App]) -> None:
    async with running(app()) as runtime:
        for path in ("/rt", "/receive", "/bidi"):
            talk = await begin(runtime, path)
            await talk.say({"x": 1})
            await talk.hear(1)
            talk.job.cancel()
            assert [event.kind for event in await talk.hear()] == ["cancelled"]
            assert (await ended(talk.job)).status == "cancelled"
            await talk.say({"x": 1})  # it goes nowhere


async def test_an_input_that_the_method_does_not_take_is_refused_before_it_is_put_in() -> None:
    async with running(OnTheLoop()) as runtime:
        talk = await begin(runtime)
        with pytest.raises(RequestValidationError):
            await talk.say({"y": 1})


@either
async def test_inputs_wait_until_setup_has_returned(app: type[streamapp.App]) -> None:
    gate = Gate()

    class Loading(app):  # type: ignore[valid-type, misc]
        def setup(self) -> None:
            gate()

    async with running(Loading()) as runtime:
        talks = [await begin(runtime, path) for path in ("/rt", "/bidi")]
        for talk in talks:
            await talk.say({"x": 1})
        gate.opened.set()
        assert [await talk.outputs(1) for talk in talks] == [[{"x": 2}], [1]]


async def test_a_session_whose_method_says_that_its_client_has_left_ends_well() -> None:
    class Leaving(streamapp.App):
        @streamapp.realtime("/loop")
        async def on_the_loop(self, inputs: AsyncIterator[Point]) -> AsyncIterator[int]:
            async for point in inputs:
                yield point.x
                raise WebSocketDisconnect

        @streamapp.realtime("/thread")
        def in_a_thread(self, inputs: Iterator[Point]) -> Iterator[int]:
            for point in inputs:
                yield point.x
                raise WebSocketDisconnect

    async with running(Leaving()) as runtime:
        for path in ("/loop", "/thread"):
            talk = await begin(runtime, path, {"x": 1})
            assert [event.kind for event in await talk.hear()] == ["output", "done"]


async def test_a_session_that_is_silent_for_too_long_ends_well() -> None:
    class Brief(streamapp.App):
        @streamapp.realtime("/rt", session_timeout=0.01)
        def one(self, input: Point) -> int:
            return input.x

        @streamapp.realtime("/bidi", session_timeout=0.01)
        async def through(self, inputs: AsyncIterator[Point]) -> AsyncIterator[int]:
            async for point in inputs:
                yield point.x

    async with running(Brief()) as runtime:
        for path in ("/rt", "/bidi"):
            talk = await begin(runtime, path, {"x": 1})
            assert [event.kind for event in await talk.hear()] == ["output", "done"]
            assert talk.inbox is not None and talk.inbox.has_timed_out
            await ended(talk.job)


@either
async def test_there_are_so_many_sessions_and_no_more(app: type[streamapp.App]) -> None:
    async with running(app(), max_sessions=1, max_queue=1, max_async_jobs=1) as runtime:
        talk = await begin(runtime)
        with pytest.raises(Unavailable, match="places of sessions are taken"):
            await begin(runtime)
        talk.job.cancel()
        await begin(runtime)


async def test_a_store_keeps_a_session_like_any_job() -> None:
    store = MemoryStore()
    async with running(OnTheLoop(), store) as runtime:
        talk = await begin(runtime)
        await talk.say({"x": 13}, {"x": 1})
        await talk.hear(2)
        talk.finish()
        await talk.hear()
    kinds = [pickle.loads(event).kind for event in store.logs[talk.job.id].values()]
    assert kinds == ["started", "input_error", "output", "done"]


async def test_who_leaves_before_a_session_is_taken_in_has_no_place() -> None:
    class Slow(MemoryStore):
        async def add(self, *arguments: Any) -> Any:
            raise asyncio.CancelledError

    async with running(OnTheLoop(), Slow()) as runtime:
        with pytest.raises(asyncio.CancelledError):
            await begin(runtime)
        assert len(runtime.places) == 0


class Loose(streamapp.App):
    """Methods that give something else than they say."""

    @streamapp.realtime("/coroutine")
    def coroutine(self, input: Point) -> Any:
        return given(input.x)

    @streamapp.realtime("/iterator")
    def iterator(self, input: Point) -> Any:
        return iter(range(input.x))

    @streamapp.realtime("/async-iterator")
    def async_iterator(self, input: Point) -> Any:
        return counted(input.x)

    @streamapp.realtime("/async/iterator")
    async def later_iterator(self, input: Point) -> Any:
        return iter(range(input.x))

    @streamapp.realtime("/async/async-iterator")
    async def later_async_iterator(self, input: Point) -> Any:
        return counted(input.x)

    @streamapp.realtime("/async/receive")
    async def receive(self, stream: streamapp.Stream) -> Any:
        return await asyncio.to_thread(stream.receive)

    @streamapp.realtime("/aside")
    def aside(self, stream: streamapp.Stream) -> Any:
        heard: list[Any] = []
        thread = threading.Thread(target=lambda: heard.append(stream.receive()))
        thread.start()
        thread.join(WAIT_S)
        return heard[0]


async def given(value: Any) -> Any:
    return value


async def counted(count: int) -> AsyncIterator[int]:
    for n in range(count):
        yield n


@pytest.mark.parametrize(
    ("path", "heard"),
    [
        ("/coroutine", [2]),
        ("/iterator", [0, 1]),
        ("/async-iterator", [0, 1]),
        ("/async/iterator", [0, 1]),
        ("/async/async-iterator", [0, 1]),
        ("/async/receive", [{"x": 2}]),
        ("/aside", [{"x": 2}]),
    ],
)
async def test_what_comes_of_a_call_is_gone_through_or_awaited(path: str, heard: list[Any]) -> None:
    async with running(Loose()) as runtime:
        talk = await begin(runtime, path)
        await talk.say({"x": 2})
        assert await talk.outputs(len(heard)) == heard


async def test_what_goes_on_without_inputs_shares_the_thread_by_polling() -> None:
    class Worlds(streamapp.App):
        @streamapp.realtime("/rt")
        def world(self, stream: streamapp.Stream) -> None:
            while (given := stream.poll()) is None:
                stream.preview({"n": 0})
            stream.emit(given)
            thread = threading.Thread(target=lambda: stream.emit([stream.poll()]))  # it has no turn to give back
            thread.start()
            thread.join(WAIT_S)

    async with running(Worlds()) as runtime:
        talks = [await begin(runtime) for _ in range(2)]
        for talk in talks:
            await talk.hear(1)
        for talk in talks:
            await talk.say("a")
        for talk in talks:
            heard = [event.json() for event in await talk.hear() if event.kind == "output"]
            assert heard == ["a", [None]]
            await ended(talk.job)


async def test_inputs_that_nobody_can_batch_are_joined() -> None:
    class Plain(streamapp.App):
        @streamapp.realtime("/rt", max_batch_size=2)
        async def batch(self, *inputs: dict[str, int]) -> int:
            return len(inputs)

    async with running(Plain()) as runtime:
        talk = await begin(runtime)
        await talk.say({}, {}, {})
        assert await talk.outputs(2) == [2, 1]


async def test_the_first_of_a_batch_may_have_a_parameter_of_its_own() -> None:
    class Named(streamapp.App):
        @streamapp.realtime("/rt", max_batch_size=4)
        def batch(self, input: Point, *inputs: Point) -> list[int]:
            return [input.x, *(point.x for point in inputs)]

    async with running(Named()) as runtime:
        talk = await begin(runtime, "/rt", {"x": 1}, {"x": 3}, {"x": 5})
        assert await talk.outputs(1) == [[1, 3, 5]]


async def test_bytes_are_an_input_as_they_are() -> None:
    class Takes(streamapp.App):
        @streamapp.realtime("/rt")
        async def size(self, inputs: AsyncIterator[bytes]) -> AsyncIterator[int]:
            async for data in inputs:
                yield len(data)

    async with running(Takes()) as runtime:
        talk = await begin(runtime)
        await talk.say(b"[1]", b"")
        assert await talk.outputs(2) == [3, 0]


def test_the_watchdog_knows_the_methods_that_run_on_the_loop() -> None:
    names = Runtime([OnTheLoop()], Settings())._async_codes().values()
    assert "/rt (OnTheLoop.double)" in names


def test_a_parameter_that_no_message_can_fill_is_refused() -> None:
    class Asking(streamapp.App):
        @streamapp.realtime("/rt")
        def asks(self, input: Point, agent: str = Header()) -> None:
            pass

    with pytest.raises(DefinitionError, match=r"on .*asks: the parameter agent would be a request's"):
        Runtime([Asking()], Settings())


class Kept(streamapp.App):
    """Methods that say by weak references what they were given."""

    @cached_property
    def given(self) -> "list[weakref.ref[Point]]":
        return []

    @streamapp.realtime("/unary")
    def unary(self, input: Point) -> int:
        self.given.append(weakref.ref(input))
        return input.x

    @streamapp.realtime("/async/unary")
    async def later(self, input: Point) -> int:
        self.given.append(weakref.ref(input))
        return input.x

    @streamapp.realtime("/bidi")
    def bidi(self, stream: streamapp.Stream) -> None:
        while True:
            self.one(stream.receive(), stream)

    def one(self, input: Any, stream: streamapp.Stream) -> None:
        point = Point(x=input["x"])
        self.given.append(weakref.ref(point))
        stream.emit(1)


@pytest.fixture
def no_collection() -> Iterator[None]:
    """Switch the collector of cycles off, which in a server may not run for hours."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


@pytest.mark.parametrize("path", ["/unary", "/async/unary", "/bidi"])
async def test_a_session_that_waits_keeps_nothing_of_its_last_input(path: str, no_collection: None) -> None:
    app = Kept()
    async with running(app) as runtime:
        talk = await begin(runtime, path)
        await talk.say({"x": 1})
        await talk.hear(1)
        await talk.is_done()
        await asyncio.to_thread(until, lambda: app.given[0]() is None)
