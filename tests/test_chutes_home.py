"""How coroutines and iterators cross to a chute's own loop, and come back, whatever ends them."""

import asyncio
import contextvars
import gc
import logging
import queue
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import suppress
from typing import Any

import anyio
import pytest
from tests.waiting import WAIT_S, until

from streamapp.chutes.home import Home, Items
from streamapp.errors import StreamAppError
from streamapp.jobs.pause import Pause

named = contextvars.ContextVar("named", default="")


@pytest.fixture
def home() -> Iterator[Home]:
    home = Home("own")
    home.start()
    yield home
    assert home.end(WAIT_S)


async def where() -> str:
    return threading.current_thread().name


class Numbers:
    """Yield numbers, and note what becomes of the generator."""

    def __init__(self, *, fails: bool = False, fails_at_end: bool = False) -> None:
        self.made: list[int] = []
        self.closed_in: str | None = None
        self._fails, self._fails_at_end = fails, fails_at_end

    async def __call__(self) -> AsyncIterator[int]:
        try:
            for n in range(3):
                self.made.append(n)
                yield n
            if self._fails:
                raise ValueError("of the iterator")
        finally:
            self.closed_in = threading.current_thread().name
            if self._fails_at_end:
                raise RuntimeError("of the cleanup")


async def test_a_coroutine_runs_there_in_the_callers_context(home: Home) -> None:
    async def told() -> tuple[str, str]:
        return await where(), named.get()

    named.set("mine")
    assert await home.run(told()) == ("chute-own", "mine")


async def test_what_it_raises_is_raised_here_even_what_would_end_a_loop(home: Home) -> None:
    async def leaves() -> None:
        raise SystemExit(3)

    with pytest.raises(SystemExit):
        await home.run(leaves())
    assert await home.run(where()) == "chute-own"


async def test_a_cancelled_wait_cancels_it_and_waits_for_its_cleanup(home: Home) -> None:
    begun, cleaned = asyncio.Event(), []
    here = asyncio.get_running_loop()

    async def waits() -> None:
        try:
            here.call_soon_threadsafe(begun.set)
            await asyncio.sleep(WAIT_S)
        finally:
            await asyncio.sleep(0)
            cleaned.append(threading.current_thread().name)

    task = asyncio.create_task(home.run(waits()))
    await begun.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert cleaned == ["chute-own"]


async def test_one_that_is_cancelled_before_its_first_step_never_begins(home: Home) -> None:
    begun, go_on = list[bool](), queue.SimpleQueue[None]()

    async def never() -> None:
        begun.append(True)

    home.loop.call_soon_threadsafe(lambda: go_on.get(timeout=WAIT_S))  # which blockbuster lets through
    task = asyncio.create_task(home.run(never()))
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.sleep(0)
    go_on.put(None)
    with pytest.raises(asyncio.CancelledError):
        await task
    assert begun == []


async def test_one_that_cancels_itself_is_heard_as_that(home: Home) -> None:
    async def gives_up() -> None:
        raise asyncio.CancelledError

    with pytest.raises(asyncio.CancelledError):
        await home.run(gives_up())


async def test_items_come_one_by_one_each_when_it_is_asked_for(home: Home) -> None:
    numbers = Numbers()
    items = Items(home.loop, numbers())
    assert await items.first() == 0
    assert numbers.made == [0]
    assert [n async for n in items] == [0, 1, 2]
    assert numbers.closed_in == "chute-own"


async def test_a_pause_is_no_item(home: Home) -> None:
    async def pausing() -> AsyncIterator[Any]:
        yield Pause.lasting(0)
        yield 1

    assert await home.items(pausing()).first() == 1


async def test_an_iterator_without_items_has_no_first(home: Home) -> None:
    async def nothing() -> AsyncIterator[int]:
        return
        yield

    items = Items(home.loop, nothing())
    assert await items.first() is None
    assert [n async for n in items] == []


async def test_what_an_iterator_raises_comes_behind_its_items(home: Home) -> None:
    items = Items(home.loop, Numbers(fails=True)())
    seen = [await anext(items) for _ in range(3)]
    with pytest.raises(ValueError, match="of the iterator"):
        await anext(items)
    assert seen == [0, 1, 2]


async def test_closing_closes_the_iterator_where_it_runs(home: Home, caplog: pytest.LogCaptureFixture) -> None:
    numbers = Numbers(fails_at_end=True)
    items = Items(home.loop, numbers())
    await anext(items)
    with caplog.at_level(logging.ERROR):
        await items.aclose()
        await items.aclose()
    assert numbers.closed_in == "chute-own"
    assert caplog.text.count("RuntimeError: of the cleanup") == 1


async def test_who_is_cancelled_at_the_first_item_closes_the_iterator(home: Home) -> None:
    begun, closed = asyncio.Event(), threading.Event()
    here = asyncio.get_running_loop()

    async def late() -> AsyncIterator[int]:
        try:
            here.call_soon_threadsafe(begun.set)
            await asyncio.sleep(WAIT_S)
            yield 1
        finally:
            closed.set()

    first = asyncio.create_task(Items(home.loop, late()).first())
    await begun.wait()
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    assert closed.is_set()


@pytest.mark.parametrize("yields", [False, True])
async def test_a_loop_that_gives_no_sign_of_life_is_told_of(advance: Callable[[float], None], yields: bool) -> None:
    blocked, go_on, stuck = asyncio.Event(), queue.SimpleQueue[None](), asyncio.Event()
    here = asyncio.get_running_loop()

    async def blocks() -> None:
        here.call_soon_threadsafe(blocked.set)
        go_on.get(timeout=WAIT_S)  # which blockbuster lets through

    async def yields_late() -> AsyncIterator[int]:
        await blocks()
        yield 1

    home = Home("own", stuck_s=30, on_stuck=stuck.set)
    home.start()
    running = asyncio.create_task(home.items(yields_late()).first() if yields else home.run(blocks()))
    await blocked.wait()
    running.cancel()
    for _ in range(2):  # when it looks, and when it has waited for an answer
        await asyncio.sleep(0)
        advance(31)
        await asyncio.sleep(0)
    await stuck.wait()
    go_on.put(None)
    with pytest.raises(asyncio.CancelledError):
        await running
    await asyncio.to_thread(home.end, WAIT_S)


async def test_one_that_lives_is_not(home: Home, advance: Callable[[float], None]) -> None:
    home._stuck_s, home._on_stuck = 0.0, pytest.fail
    begun, go_on = asyncio.Event(), asyncio.Event()
    here = asyncio.get_running_loop()

    async def lasts() -> None:
        try:
            here.call_soon_threadsafe(begun.set)
            await asyncio.sleep(WAIT_S)
        finally:
            await go_on.wait()

    running = asyncio.create_task(home.run(lasts()))
    await begun.wait()
    running.cancel()
    await asyncio.sleep(0)
    await home.run(asyncio.sleep(0))
    advance(10)
    await home.run(asyncio.sleep(0))
    home.loop.call_soon_threadsafe(go_on.set)
    with pytest.raises(asyncio.CancelledError):
        await running


async def test_its_cleanup_may_wait_and_is_waited_for_however_often_its_reader_is_cancelled(home: Home) -> None:
    """Starlette's streams are cancelled by anyio, at each step of the loop."""
    took, begun, released, told = asyncio.Event(), asyncio.Event(), asyncio.Event(), list[str]()
    here = asyncio.get_running_loop()

    async def with_cleanup() -> AsyncIterator[int]:
        try:
            yield 1
        finally:
            here.call_soon_threadsafe(begun.set)
            await released.wait()
            told.append("cleaned")

    async def read() -> None:
        items = Items(home.loop, with_cleanup())
        try:
            await anext(items)
            took.set()
            await anyio.sleep_forever()
        finally:
            await items.aclose()
            told.append("read")

    async with anyio.create_task_group() as group:
        group.start_soon(read)
        await took.wait()
        group.cancel_scope.cancel()
        with anyio.CancelScope(shield=True):
            await begun.wait()
        home.loop.call_soon_threadsafe(released.set)
    assert told == ["cleaned", "read"]


async def test_one_that_yields_although_it_is_cancelled_is_closed(home: Home) -> None:
    begun, told = asyncio.Event(), list[str]()
    here = asyncio.get_running_loop()

    async def stubborn() -> AsyncIterator[int]:
        try:
            while True:
                with suppress(asyncio.CancelledError):
                    here.call_soon_threadsafe(begun.set)
                    await asyncio.sleep(WAIT_S)
                yield 1
        finally:
            told.append("closed")

    items = Items(home.loop, stubborn())
    first = asyncio.ensure_future(items.first())
    await begun.wait()
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    assert told == ["closed"]


async def test_one_that_is_let_go_of_is_closed(home: Home) -> None:
    numbers = Numbers()
    items = Items(home.loop, numbers())
    await anext(items)
    del items
    gc.collect()
    await asyncio.to_thread(until, lambda: numbers.closed_in == "chute-own")


async def test_an_item_whose_reader_was_cancelled_comes_next(home: Home) -> None:
    released = asyncio.Event()  # of the other loop

    async def late() -> AsyncIterator[int]:
        await released.wait()
        yield 1

    items = Items(home.loop, late())
    waiting = asyncio.ensure_future(anext(items))
    await asyncio.sleep(0)
    waiting.cancel()
    home.loop.call_soon_threadsafe(released.set)
    assert await anext(items) == 1


def test_a_blocking_caller_gets_what_it_returns_or_raises(home: Home) -> None:
    async def fails() -> None:
        raise ValueError("there")

    assert home.call(where()) == "chute-own"
    with pytest.raises(ValueError, match="there"):
        home.call(fails())


def test_code_that_ends_its_loop_does_not(home: Home, caplog: pytest.LogCaptureFixture) -> None:
    async def leaves() -> None:
        raise SystemExit(3)

    left: list[asyncio.Task[None]] = []

    async def leaves_behind() -> None:
        left.append(asyncio.get_running_loop().create_task(leaves()))

    home.call(leaves_behind())
    assert home.call(where()) == "chute-own"
    assert isinstance(left[0].exception(), SystemExit)
    assert "has ended its loop, which goes on" in caplog.text


def test_what_still_runs_at_the_end_is_cancelled() -> None:
    home, ended = Home("own"), threading.Event()
    kept: list[asyncio.Task[None]] = []

    async def lasts() -> None:
        try:
            await asyncio.sleep(WAIT_S)
        finally:
            ended.set()

    async def begin() -> None:
        kept.append(asyncio.create_task(lasts()))
        await asyncio.sleep(0)

    home.start()
    home.call(begin())
    assert home.end(WAIT_S)
    assert ended.is_set()


def test_nothing_runs_when_it_has_ended() -> None:
    home = Home("own")
    home.start()
    assert home.end(WAIT_S)
    assert home.end(WAIT_S)
    with pytest.raises(StreamAppError, match="has ended"):
        asyncio.run(home.run(where()))


def test_an_iterator_of_a_loop_that_has_ended_is_refused_and_nothing_else_is_said() -> None:
    home = Home("own")
    home.start()
    assert home.end(WAIT_S)

    async def go_through() -> None:
        Items(home.loop, Numbers()())

    with pytest.raises(StreamAppError, match="has ended"):
        asyncio.run(go_through())
    gc.collect()  # what it raised at its end would fail the test
