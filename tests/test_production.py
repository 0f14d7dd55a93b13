"""Productions: one producer for many readers, from the first of them to the last."""

import asyncio
import gc
import threading
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator
from contextlib import aclosing
from functools import partial
from itertools import count
from typing import Any

import pytest
from tests.at_work import Gate
from tests.waiting import WAIT_S

from streamapp.app import App, enter_app, get_current_app
from streamapp.errors import DefinitionError, Draining, EndpointFailed
from streamapp.jobs.events import Event, Preview
from streamapp.jobs.stream import Stream, current_stream
from streamapp.settings import Settings, current_settings, enter_settings
from streamapp.workers.production import Production, end_productions, productions_on

Advance = Callable[[float], None]


class Source:
    """A producer that yields what the test puts in, and tells of its runs."""

    def __init__(self) -> None:
        self.items: asyncio.Queue[Any] = asyncio.Queue()
        self.runs = 0
        self.ended = asyncio.Event()

    def put(self, *items: Any) -> None:
        for item in items:
            self.items.put_nowait(item)

    async def produce(self) -> AsyncIterator[Any]:
        self.runs += 1
        self.ended.clear()
        try:
            while (item := await self.items.get()) is not None:
                if isinstance(item, Exception):
                    raise item
                yield item
        finally:
            self.ended.set()


class Reader:
    """One reader of a production, from now on."""

    def __init__(self, production: Production) -> None:
        self.events: AsyncGenerator[Event] = production.subscribe()  # type: ignore[assignment]

    async def next(self, number: int = 1) -> list[Any]:
        async with asyncio.timeout(WAIT_S):
            return [(await anext(self.events)).json() for _ in range(number)]

    async def rest(self) -> list[Any]:
        async with asyncio.timeout(WAIT_S):
            return [event.json() async for event in self.events]

    async def leave(self) -> None:
        await self.events.aclose()


async def returned() -> None:
    """Wait until no producer runs."""
    if tasks := productions_on(asyncio.get_running_loop()):
        await asyncio.wait(tasks, timeout=WAIT_S)
    assert not productions_on(asyncio.get_running_loop())


async def test_readers_that_come_together_start_one_producer() -> None:
    source = Source()
    production = Production(source.produce)
    readers = [Reader(production) for _ in range(20)]
    source.put(1, 2)
    assert await asyncio.gather(*(reader.next(2) for reader in readers)) == [[1, 2]] * 20
    assert source.runs == 1
    for reader in readers:
        await reader.leave()


async def test_without_readers_nothing_is_produced() -> None:
    source = Source()
    production = Production(source.produce)
    production.stop()
    await returned()
    assert (source.runs, production.statistics()) == (0, None)


async def test_a_reader_gets_all_of_hundreds_of_items_and_the_end() -> None:
    async def produce() -> AsyncIterator[int]:
        for n in range(500):
            yield n

    assert await Reader(Production(produce)).rest() == list(range(500))


async def test_who_comes_late_gets_the_history_and_then_what_comes_each_once_and_in_order() -> None:
    source = Source()
    production = Production(source.produce, history=300)
    first = Reader(production)
    source.put(*range(400))
    assert await first.next(400) == list(range(400))
    late = Reader(production)
    source.put(400)
    assert await late.next(301) == list(range(100, 401))
    source.put(401)
    assert (await late.next(), await first.next(2)) == ([401], [400, 401])
    await first.leave()
    await late.leave()


async def test_without_a_history_who_comes_late_gets_only_what_comes() -> None:
    source = Source()
    production = Production(source.produce, history=0)
    first = Reader(production)
    source.put(1)
    assert await first.next() == [1]
    late = Reader(production)
    waiting = asyncio.create_task(late.next())
    await asyncio.sleep(0)
    source.put(2)
    assert await waiting == [2]
    await first.leave()
    await late.leave()


async def test_a_history_that_was_trimmed_by_its_bytes_is_no_loss_to_who_comes_late() -> None:
    enter_settings(Settings(behind_bytes=10))
    source = Source()
    production = Production(source.produce)
    first = Reader(production)
    for letter in "ab":
        source.put(letter * 6)
        assert await first.next() == [letter * 6]
    late = Reader(production)
    assert await late.next() == ["b" * 6]
    await first.leave()
    await late.leave()


async def test_who_is_slow_is_told_what_it_has_missed_and_holds_up_nobody() -> None:
    enter_settings(Settings(ahead_events=10))
    source = Source()
    production = Production(source.produce, history=3)
    slow, fast = Reader(production), Reader(production)
    source.put(0)
    assert (await slow.next(), await fast.next()) == ([0], [0])
    for n in range(1, 31):
        source.put(n)
        assert await fast.next() == [n]
    told = await slow.next(11)
    assert (told[0], told[1:]) == ({"skipped": 20}, list(range(21, 31)))
    await slow.leave()
    await fast.leave()


async def test_of_previews_who_is_slow_gets_the_newest() -> None:
    source = Source()
    production = Production(source.produce)
    slow, fast = Reader(production), Reader(production)
    source.put(0)
    assert (await slow.next(), await fast.next()) == ([0], [0])
    for step in range(1, 4):
        source.put(Preview({}, step, 3))
        assert await fast.next() == [{"step": step, "total": 3}]
    assert await slow.next() == [{"step": 3, "total": 3}]
    await slow.leave()
    await fast.leave()


async def test_the_producer_is_stopped_some_time_after_its_last_reader_has_left(advance: Advance) -> None:
    source = Source()
    production = Production(source.produce, linger_s=10)
    reader = Reader(production)
    source.put(1)
    assert await reader.next() == [1]
    await reader.leave()
    advance(9)
    await asyncio.sleep(0)
    assert not source.ended.is_set()
    advance(2)
    await source.ended.wait()
    await returned()


async def test_who_comes_back_meanwhile_finds_the_same_run() -> None:
    source = Source()
    production = Production(source.produce)
    reader = Reader(production)
    source.put(1)
    assert await reader.next() == [1]
    await reader.leave()
    source.put(2)
    again = Reader(production)
    assert (await again.next(2), source.runs) == ([1, 2], 1)
    await again.leave()


async def test_what_the_producer_raises_every_reader_hears_and_the_next_one_starts_anew() -> None:
    source = Source()
    production = Production(source.produce)
    readers = [Reader(production), Reader(production)]
    source.put(1)
    assert [await reader.next() for reader in readers] == [[1], [1]]
    source.put(ValueError("secret"))
    for reader in readers:
        with pytest.raises(EndpointFailed, match="/broadcast/produce failed with ValueError; the"):
            await reader.next()
    source.put(2, None)
    assert (await Reader(production).rest(), source.runs) == ([2], 2)


async def test_a_run_that_was_stopped_ends_its_streams_and_the_next_reader_starts_another() -> None:
    source = Source()
    production = Production(source.produce)
    reader = Reader(production)
    source.put(1)
    assert await reader.next() == [1]
    production.stop()
    assert await reader.rest() == []
    await returned()
    assert source.ended.is_set()
    source.put(2, None)
    assert await Reader(production).rest() == [2]


async def test_a_run_that_was_stopped_at_once_does_not_begin() -> None:
    source = Source()
    production = Production(source.produce)
    production.begin()
    production.stop()
    await returned()
    assert source.runs == 0


async def test_a_reader_waits_as_long_as_nothing_comes(advance: Advance) -> None:
    source = Source()
    reader = Reader(Production(source.produce))
    waiting = asyncio.create_task(reader.next())
    for _ in range(3):
        await asyncio.sleep(0)
        advance(Settings().heartbeat_s)
        await asyncio.sleep(0)
    source.put(1)
    assert await waiting == [1]
    await reader.leave()


async def test_with_the_server_ends_every_run_and_its_readers_hear_why() -> None:
    source = Source()
    reader = Reader(Production(source.produce))
    source.put(1)
    assert await reader.next() == [1]
    end_productions(asyncio.get_running_loop())
    with pytest.raises(Draining):
        await reader.next()
    await returned()
    assert source.ended.is_set()


async def test_a_producer_that_blocks_has_a_thread_of_its_own_and_is_closed_there() -> None:
    threads: list[threading.Thread] = []

    def produce() -> Iterator[int]:
        try:
            for n in count():
                threads.append(threading.current_thread())
                yield n
        finally:
            threads.append(threading.current_thread())

    production = Production(produce, linger_s=0)
    async with aclosing(Reader(production).events) as events:
        await anext(events)
    await returned()
    assert len(set(threads)) == 1
    assert threads[0].name.startswith("broadcast-")


async def test_of_a_thread_that_was_stopped_nothing_is_logged(gate: Gate, caplog: pytest.LogCaptureFixture) -> None:
    def produce() -> Iterator[int]:
        yield 0
        gate()
        yield 1

    production = Production(produce)
    reader = Reader(production)
    assert await reader.next() == [0]
    await asyncio.to_thread(gate.wait)
    production.stop()
    assert await reader.rest() == []
    await asyncio.sleep(0)
    gate.opened.set()
    await returned()
    gc.collect()  # tasks say so when they go
    assert [record.message for record in caplog.records if record.levelname == "ERROR"] == []


async def test_a_new_run_waits_until_the_code_of_the_one_before_has_returned(gate: Gate) -> None:
    runs = count()

    def produce() -> Iterator[int]:
        yield next(runs)
        gate()

    production = Production(produce)
    reader = Reader(production)
    assert await reader.next() == [0]
    await asyncio.to_thread(gate.wait)
    production.stop()
    second = Reader(production)
    waiting = asyncio.create_task(second.next())
    await asyncio.sleep(0)
    production.stop()  # the second run ends before its turn
    with pytest.raises(StopAsyncIteration):
        await waiting
    third = asyncio.create_task(Reader(production).next())
    await asyncio.sleep(0)
    assert not third.done()
    gate.opened.set()
    assert await third == [1]
    await returned()


class Producers:
    """Functions of each form that a producer may have; each gives 1 and 2."""

    def generator(self) -> Iterator[int]:
        yield from (1, 2)

    async def async_generator(self) -> AsyncIterator[int]:
        for n in (1, 2):
            yield n

    def emitter(self, stream: Stream) -> None:
        stream.emit(1)
        assert current_stream() is stream
        stream.emit(2)

    async def async_emitter(self, stream: Stream) -> None:
        await stream.aemit(1)
        await stream.aemit(2)

    def generator_with_stream(self, stream: Stream) -> Iterator[int]:
        stream.emit(1)
        yield 2

    def of(self, *numbers: int, scale: int = 1) -> Iterator[int]:
        yield from (n * scale for n in numbers or (1, 2))


THESE = Producers()


@pytest.mark.parametrize(
    "produce",
    [
        THESE.generator,
        THESE.async_generator,
        THESE.emitter,
        THESE.async_emitter,
        THESE.generator_with_stream,
        THESE.of,
        partial(THESE.of, 1, 2),
        partial(THESE.async_generator),
        lambda: THESE.async_generator(),
        lambda stream: THESE.async_emitter(stream),
    ],
)
async def test_a_producer_may_have_each_of_these_forms(produce: Callable[..., Any]) -> None:
    assert await Reader(Production(produce)).rest() == [1, 2]


@pytest.mark.parametrize("given", [None, [1, 2]])
async def test_what_gives_no_items_is_told_what_to_write(given: Any) -> None:
    with pytest.raises(EndpointFailed, match=f"got {type(given).__name__}; yield each item, or take a stream"):
        await Reader(Production(lambda: given)).rest()


async def test_a_coroutine_that_would_block_the_loop_is_told_so() -> None:
    async def produce(stream: Stream) -> None:
        stream.emit(1)

    with pytest.raises(EndpointFailed, match="await stream.aemit"):
        await Reader(Production(produce)).rest()


async def test_a_producer_runs_in_the_context_that_its_production_was_made_in() -> None:
    async def produce() -> AsyncIterator[bool]:
        yield get_current_app() is app

    app = App()
    enter_app(app)
    production = Production(produce)
    enter_app(App())
    assert await Reader(production).rest() == [True]


def test_elsewhere_than_in_an_app_the_settings_are_the_process_s() -> None:
    assert current_settings().ahead_events == Settings().ahead_events


async def test_the_figures_are_those_of_the_run() -> None:
    source = Source()
    production = Production(source.produce)
    reader = Reader(production)
    source.put(1, 2)
    assert await reader.next(2) == [1, 2]
    figures = production.statistics()
    assert figures is not None
    assert (figures.emitted, figures.subscribers) == (3, 1)  # with `started`
    await reader.leave()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"produce": THESE.generator()}, r"leave out the \(\) behind a method's name"),
        ({"produce": lambda a, b: None}, "of nothing, or of the stream alone, got one of a, b"),
        ({"produce": Producers.generator}, "write it in setup, of self.method"),
        ({"produce": THESE.generator, "history": -1}, r"Production\(Producers.generator\): expected history"),
        ({"produce": THESE.generator, "linger_s": -1}, "expected linger_s in seconds, 0 or more, got -1"),
    ],
)
def test_what_is_no_producer_is_refused_with_what_to_write(options: dict[str, Any], message: str) -> None:
    with pytest.raises(DefinitionError, match=message):
        Production(**options)
