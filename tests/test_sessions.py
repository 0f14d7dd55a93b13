"""Sessions: their code runs in turns, for each input or going through them, in the inference thread or on the loop."""

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator
from functools import cached_property
from typing import Any

import pytest
from fastapi import HTTPException
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel
from tests.at_work import Gate
from tests.in_session import begin, ended, running
from tests.waiting import WAIT_S

import streamapp
from streamapp.errors import Draining
from streamapp.jobs.job import Job, new_job_id
from streamapp.runtime import Runtime


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
            await stream.aemit([received, stream.unread])


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
            stream.emit([received, stream.unread])


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
@pytest.mark.parametrize(
    ("path", "said", "heard"),
    [
        ("/keys", [{"x": 1}, {"x": 1, "y": 2}], [2, 3]),
        ("/none", [{"x": 1}], [None]),
        ("/emits", [{"x": 1}], [1]),
        ("/stream", [{"x": 3}], [0, 1, 2]),
        ("/sum", [{"x": 1}, {"x": 2}], [3]),
        ("/bidi", [{"x": 1}, {"x": 2}], [1, 2]),
        ("/receive", [{"a": 1}], [[{"a": 1}, 0]]),
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


class Shared(streamapp.App):
    """What runs in the inference thread, and at most one of it at a time."""

    @cached_property
    def gate(self) -> Gate:
        return Gate()

    @cached_property
    def at_work(self) -> threading.Lock:
        return threading.Lock()

    @cached_property
    def order(self) -> list[str]:
        return []

    def work(self, name: str, waits: bool = False) -> list[str]:
        assert self.at_work.acquire(blocking=False), "two run at once"
        self.order.append(name)
        if waits:
            self.gate()
        self.at_work.release()
        return [name, threading.current_thread().name]

    @streamapp.endpoint("/job")
    def job(self) -> list[str]:
        return self.work("job")

    @streamapp.realtime("/unary")
    def unary(self, name: str, waits: bool = False) -> list[str]:
        return self.work(name, waits)

    @streamapp.realtime("/receive")
    def receive(self, stream: streamapp.Stream) -> None:
        try:
            while True:
                stream.emit(self.work(**stream.receive()))
        finally:
            self.work("left")

    @streamapp.realtime("/aside")
    def aside(self, stream: streamapp.Stream) -> None:
        heard: list[Any] = []
        thread = threading.Thread(target=lambda: heard.append(stream.receive()))
        thread.start()
        thread.join(WAIT_S)
        stream.emit(heard[0])


async def run_job(runtime: Runtime) -> Job:
    served = runtime.served[0]
    (spec,) = served.endpoints
    job = Job(served.request(spec, new_job_id(), is_detached=True), runtime.settings, arguments={})
    await runtime.submit(job, served, spec)
    return await ended(job)


@pytest.mark.parametrize("path", ["/unary", "/receive"])
async def test_between_two_turns_others_run(path: str) -> None:
    async with running(Shared()) as runtime:
        first, second = await begin(runtime, path), await begin(runtime, path)
        for talk in (first, second, first):
            await talk.say({"name": "a"})
            assert (await talk.outputs(1))[0][0] == "a"
            assert (await run_job(runtime)).result is not None


async def test_a_unary_turn_runs_in_the_inference_thread_and_what_asks_in_one_of_its_own() -> None:
    async with running(Shared()) as runtime:
        unary, asking = await begin(runtime, "/unary"), await begin(runtime, "/receive")
        await unary.say({"name": "a"})
        await asking.say({"name": "b"})
        assert await unary.outputs(1) == [["a", "inference-shared"]]
        assert await asking.outputs(1) == [["b", f"session-{asking.job.id}"]]


@pytest.mark.parametrize("path", ["/unary", "/receive"])
async def test_a_busy_session_stands_behind_the_others_after_each_turn(path: str) -> None:
    app = Shared()
    async with running(app) as runtime:
        busy, other = await begin(runtime, path), await begin(runtime, path)
        await busy.say({"name": "1", "waits": True}, {"name": "2"}, {"name": "3"})
        await asyncio.to_thread(app.gate.wait)
        await other.say({"name": "other"})
        app.gate.opened.set()
        await busy.hear(3)
        assert app.order == ["1", "other", "2", "3"]


async def test_in_another_thread_of_the_apps_receive_waits_without_a_turn() -> None:
    async with running(Shared()) as runtime:
        talk = await begin(runtime, "/aside")
        await talk.say({"a": 1})
        assert await talk.outputs(1) == [{"a": 1}]


@pytest.mark.parametrize("path", ["/unary", "/receive"])
async def test_a_drain_ends_sessions_between_two_turns_at_once(path: str) -> None:
    async with running(Shared(), drain_s=WAIT_S) as runtime:
        talk = await begin(runtime, path)
        await talk.say({"name": "a"})
        await talk.hear(1)
        await talk.is_done()
        runtime.begin_drain()
        (end,) = await talk.hear()
        assert (end.json()["error"]["code"], end.json()["error"]["retryable"]) == ("draining", True)
        await ended(talk.job)
        with pytest.raises(Draining):
            await begin(runtime, path)


@pytest.mark.parametrize("path", ["/unary", "/receive"])
async def test_a_turn_that_runs_may_end_in_a_drain_and_is_the_last(path: str) -> None:
    app = Shared()
    async with running(app, drain_s=WAIT_S) as runtime:
        talk = await begin(runtime, path)
        await talk.say({"name": "a", "waits": True}, {"name": "b"})
        await asyncio.to_thread(app.gate.wait)
        runtime.begin_drain()
        app.gate.opened.set()
        *outputs, end = await talk.hear()
        assert [event.json()[0] for event in outputs] == ["a"]
        assert end.json()["error"]["code"] == "draining"
        await ended(talk.job)
