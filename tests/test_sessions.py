"""Sessions: their code runs in turns, for each input or going through them, in the inference thread or on the loop."""

from collections.abc import AsyncIterator
from typing import Any

import pytest
from fastapi import HTTPException
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel
from tests.in_session import begin, ended, running

import streamapp


class Point(BaseModel):
    x: int


class Async(streamapp.App):
    @streamapp.realtime("/rt")
    async def double(self, input: Point) -> dict[str, int]:
        if input.x == 13:
            raise HTTPException(418, "no 13")
        if input.x == 14:
            raise ValueError("secret")
        return {"x": 2 * input.x}

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
            await stream.aemit(await stream.areceive())


async def test_an_async_method_is_called_for_each_input() -> None:
    async with running(Async()) as runtime:
        talk = await begin(runtime)
        await talk.say({"x": 1}, {"x": 2})
        assert await talk.outputs(2) == [{"x": 2}, {"x": 4}]
        assert talk.job.status == "running"
        talk.finish()
        *_, end = await talk.hear()
        assert (end.kind, (await ended(talk.job)).status) == ("done", "succeeded")


async def test_what_fails_at_an_input_is_told_of_it_and_the_session_goes_on() -> None:
    async with running(Async()) as runtime:
        talk = await begin(runtime)
        await talk.say({"x": 13}, {"x": 14}, {"x": 1})
        teapot, broken, output = await talk.hear(3)
        assert (teapot.kind, teapot.json()["detail"], teapot.json()["input"]) == ("input_error", "no 13", 1)
        assert (broken.json()["error"]["code"], broken.json()["input"]) == ("endpoint_failed", 2)
        assert b"secret" not in broken.data
        assert output.json() == {"x": 2}


async def test_an_input_that_the_method_does_not_take_is_refused_before_it_is_put_in() -> None:
    async with running(Async()) as runtime:
        talk = await begin(runtime)
        with pytest.raises(RequestValidationError):
            await talk.say({"y": 1})


@pytest.mark.parametrize(
    ("path", "said", "heard"),
    [("/stream", [3], [0, 1, 2]), ("/sum", [1, 2], [3]), ("/bidi", [1, 2], [1, 2])],
)
async def test_the_other_modes_on_the_loop(path: str, said: list[int], heard: list[Any]) -> None:
    async with running(Async()) as runtime:
        talk = await begin(runtime, path)
        await talk.say(*({"x": x} for x in said))
        talk.finish()
        *events, end = await talk.hear()
        assert [event.json() for event in events] == heard
        assert (end.kind, (await ended(talk.job)).status) == ("done", "succeeded")


async def test_a_method_receives_what_comes_until_no_more_will() -> None:
    async with running(Async()) as runtime:
        talk = await begin(runtime, "/receive")
        for n in range(3):
            await talk.say({"n": n})
            assert await talk.outputs(1) == [{"n": n}]
        talk.finish()
        assert [event.kind for event in await talk.hear()] == ["done"]
