"""Broadcasts: one production as server-sent events, for everybody who asks."""

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any, ClassVar

import pytest
from fastapi import Response
from tests.asgi_client import Client
from tests.served import blocks, data, names
from tests.waiting import WAIT_S

import streamapp
from streamapp.errors import DefinitionError
from streamapp.http.broadcast import Broadcast
from streamapp.http.response import REMAINDER_EXTENSION
from streamapp.jobs.events import Preview
from streamapp.settings import Settings, enter_settings
from streamapp.testing import TestClient
from streamapp.workers.production import end_productions

Advance = Callable[[float], None]


class Source:
    """A producer that yields what the test puts in."""

    def __init__(self, *items: Any) -> None:
        self.items: asyncio.Queue[Any] = asyncio.Queue()
        self.runs = 0
        self.put(*items)

    def put(self, *items: Any) -> None:
        for item in items:
            self.items.put_nowait(item)

    async def produce(self) -> AsyncIterator[Any]:
        self.runs += 1
        while (item := await self.items.get()) is not None:
            if isinstance(item, Exception):
                raise item
            yield item


class Reader(Client):
    """A browser that reads a broadcast from its beginning, or goes on."""

    def __init__(self, broadcast: Broadcast, *, after: str = "", method: str = "GET", query: str = "") -> None:
        super().__init__()
        headers = [(b"last-event-id", after.encode())] if after else []
        self.scope.update(method=method, query_string=query.encode(), headers=headers)
        self.task = self.call(broadcast.response())

    async def got(self, text: str) -> None:
        async with asyncio.timeout(WAIT_S):
            await self.until(text)

    @property
    def last_id(self) -> str:
        return blocks(self.body)[-1]["id"]

    async def end(self) -> None:
        async with asyncio.timeout(WAIT_S):
            await self.task

    async def go(self) -> None:
        self.leave()
        await self.end()


async def test_a_stream_has_the_history_then_what_comes_and_the_end_of_the_producer() -> None:
    source = Source({"n": 1}, {"n": 2})
    broadcast = Broadcast(source.produce)
    first = Reader(broadcast)
    await first.got('{"n":2}')
    late = Reader(broadcast)
    source.put({"n": 3}, None)
    await late.end()
    await first.end()
    assert data(late.body) == data(first.body) == [{"n": 1}, {"n": 2}, {"n": 3}, data(late.body)[-1]]
    assert (names(late.body), late.is_complete) == (["", "", "", "done"], True)


async def test_a_named_preview_that_a_slow_reader_has_not_taken_is_replaced() -> None:
    source = Source()
    broadcast = Broadcast(source.produce)
    slow, fast = Reader(broadcast, query="_events=named"), Reader(broadcast)
    slow.is_stuck_at = "http.response.body"
    source.put(0)
    await fast.got("data: 0")
    for step in (1, 2, 3):
        source.put(Preview({}, step))
        await fast.got(f'"step":{step}')
    slow.read_on()
    await slow.got('"step":3')
    assert names(slow.body) == ["output", "preview"]
    await slow.go()
    await fast.go()


async def test_who_is_slow_is_told_what_it_has_missed_and_the_stream_goes_on() -> None:
    enter_settings(Settings(ahead_events=4))
    source = Source()
    broadcast = Broadcast(source.produce, history=2)
    slow, fast = Reader(broadcast), Reader(broadcast)
    slow.is_stuck_at = "http.response.body"
    for n in range(20):
        source.put({"n": n})
        await fast.got(f'{{"n":{n}}}')
    slow.read_on()
    source.put({"n": 20}, None)
    await slow.end()
    *told, _ = data(slow.body)
    missed = sum(item.get("skipped", 0) for item in told)
    got = [item["n"] for item in told if "n" in item]
    assert (len(got) + missed, missed > 0, got == sorted(set(got))) == (21, True, True)
    await fast.end()


async def test_a_stream_that_is_idle_for_too_long_says_so_and_ends_well(advance: Advance) -> None:
    source = Source({"n": 1})
    reader = Reader(Broadcast(source.produce, idle_s=30))
    await reader.got('{"n":1}')
    for _ in range(2):
        advance(10)
        await reader.got(": ping\n")
        del reader.sent[2:]
    source.put({"n": 2})  # it counts from the last event
    await reader.got('{"n":2}')
    advance(10)
    await reader.got(": ping\n")
    advance(10)
    await reader.got(": ping\n: ping\n")
    advance(10)
    await reader.end()
    assert reader.body.endswith('event: timeout\ndata: {"idle_s":30}\n\n')
    assert (reader.is_complete, reader.ended_by) == (True, [])


async def test_a_stream_may_be_idle_for_ever(advance: Advance) -> None:
    reader = Reader(Broadcast(Source(1).produce, idle_s=None))
    await reader.got("data: 1")
    for pings in range(1, 5):
        advance(10)
        await reader.got(": ping\n" * pings)
    await reader.go()


async def test_what_the_producer_raises_each_stream_tells_and_is_cut() -> None:
    source = Source(1)
    broadcast = Broadcast(source.produce)
    readers = [Reader(broadcast), Reader(broadcast)]
    for reader in readers:
        await reader.got("data: 1")
    source.put(ValueError("secret"))
    for reader in readers:
        await reader.end()
        assert names(reader.body) == ["", "error"]
        assert data(reader.body)[1]["error"]["code"] == "endpoint_failed"
        assert (reader.is_complete, reader.ended_by[0]) == (False, "close")


async def test_who_asks_by_post_hears_at_once_of_a_producer_that_fails() -> None:
    reader = Reader(Broadcast(Source(ValueError()).produce), method="POST")
    await reader.end()
    assert reader.status == 500


async def test_who_asks_by_post_gets_named_events_and_no_done() -> None:
    reader = Reader(Broadcast(Source(1, None).produce), method="POST")
    await reader.end()
    assert names(reader.body) == ["output"]


async def test_a_reader_that_comes_back_gets_what_came_meanwhile() -> None:
    source = Source(1, 2)
    broadcast = Broadcast(source.produce, history=1)
    reader = Reader(broadcast)
    await reader.got("data: 2")
    place = reader.last_id
    await reader.go()
    source.put(3)
    again = Reader(broadcast, after=place)
    await again.got("data: 3")
    assert (data(again.body), source.runs) == ([3], 1)
    await again.go()


async def test_one_that_comes_back_after_the_history_hears_how_much_is_missing() -> None:
    enter_settings(Settings(ahead_events=1))
    source = Source()
    broadcast = Broadcast(source.produce, history=2)
    reader = Reader(broadcast)
    for n in range(5):
        source.put(n)
        await reader.got(f"data: {n}")
    again = Reader(broadcast, after=blocks(reader.body)[0]["id"])
    await again.got("data: 4")
    assert (names(again.body)[0], data(again.body)[1:]) == ("lagged", [2, 3, 4])
    await reader.go()
    await again.go()


async def test_one_that_comes_back_for_the_end_gets_it_and_then_nothing_more() -> None:
    source = Source(1)
    broadcast = Broadcast(source.produce)
    reader = Reader(broadcast)
    await reader.got("data: 1")
    place = reader.last_id
    source.put(None)
    await reader.end()
    again = Reader(broadcast, after=place)
    await again.end()
    assert names(again.body) == ["done"]
    over = Reader(broadcast, after=again.last_id)
    await over.end()
    assert (over.status, source.runs) == (204, 1)


async def test_one_that_comes_back_to_a_failed_run_hears_of_it_once_and_then_gets_a_new_one() -> None:
    source = Source(1)
    broadcast = Broadcast(source.produce)
    reader = Reader(broadcast)
    await reader.got("data: 1")
    place = reader.last_id
    source.put(ValueError())
    await reader.end()
    again = Reader(broadcast, after=place)
    await again.end()
    assert names(again.body) == ["error"]
    source.put(2)
    anew = Reader(broadcast, after=again.last_id)
    await anew.got("data: 2")
    assert source.runs == 2
    await anew.go()


@pytest.mark.parametrize(
    "id_of", [lambda place: place.replace("1.", "1.9"), lambda place: f"{'0' * 32}:1.2", str.title]
)
async def test_an_id_that_this_run_has_not_given_is_that_of_a_new_reader(id_of: Callable[[str], str]) -> None:
    source = Source("a")
    broadcast = Broadcast(source.produce)
    reader = Reader(broadcast)
    await reader.got('"a"')
    place = reader.last_id
    again = Reader(broadcast, after=id_of(place))
    await again.got('"a"')
    await reader.go()
    await again.go()


async def test_one_that_comes_back_to_a_run_that_was_stopped_gets_a_new_one() -> None:
    source = Source(1)
    broadcast = Broadcast(source.produce)
    reader = Reader(broadcast)
    await reader.got("data: 1")
    place = reader.last_id
    broadcast.stop()
    await reader.end()
    assert names(reader.body) == ["", "cancelled"]
    source.put(2)
    again = Reader(broadcast, after=place)
    await again.got("data: 2")
    await again.go()


async def test_with_the_server_streams_end_and_say_why() -> None:
    reader = Reader(Broadcast(Source(1).produce))
    await reader.got("data: 1")
    end_productions(asyncio.get_running_loop())
    await reader.end()
    assert data(reader.body)[-1]["error"]["code"] == "draining"


async def test_a_stream_is_left_to_the_server_where_the_app_is_not_needed_any_more() -> None:
    response = Broadcast(Source(1, None).produce).response()
    response.outlasts_app = True
    client = Client()
    remainder: list[Any] = []
    client.scope.update(query_string=b"")
    client.scope["extensions"][REMAINDER_EXTENSION] = remainder
    await client.call(response)
    assert client.sent == []
    await remainder.pop()(client.receive, client.send)
    assert names(client.body) == ["", "done"]


async def test_a_header_that_the_endpoint_sets_is_sent() -> None:
    response = Broadcast(Source(None).produce).response()
    response.headers["X-More"] = "1"
    client = Client()
    client.scope["query_string"] = b""
    await client.call(response)
    assert (client.headers["x-more"], client.headers["content-type"]) == ("1", "text/event-stream; charset=utf-8")
    assert (client.headers["cache-control"], client.headers["x-accel-buffering"]) == ("no-cache", "no")


def test_an_idle_time_that_is_none_is_refused() -> None:
    with pytest.raises(DefinitionError, match="idle_s in seconds, more than 0, or None, got 0"):
        Broadcast(Source().produce, idle_s=0)


class Ticks(streamapp.App, max_multiplexing=1):
    """The guide's buffered stream."""

    said: ClassVar[list[str]] = []

    def setup(self) -> None:
        self.ticks = streamapp.Broadcast(self.produce, history=5)
        self.going_on = asyncio.Event()

    async def produce(self) -> AsyncIterator[dict[str, int]]:
        try:
            yield {"counter": 0}
            await self.going_on.wait()
            yield {"counter": 1}
        finally:
            self.said.append("closed")

    def teardown(self) -> None:
        self.said.append("torn down")

    @streamapp.endpoint("/buffered_stream")
    async def stream(self) -> Response:
        """Return what is produced for all."""
        return self.ticks.response()

    @streamapp.endpoint("/in-the-thread")
    def in_thread(self) -> Response:
        return self.ticks.response()

    @streamapp.endpoint("/go-on")
    async def go_on(self) -> None:
        self.going_on.set()


def test_readers_hold_no_place_of_the_apps_jobs() -> None:
    with TestClient(Ticks) as client:
        streams = [client.http.stream("GET", path) for path in ["/buffered_stream", "/in-the-thread"] * 3]
        lines = [stream.__enter__().iter_lines() for stream in streams]
        assert [next(line for line in each if "data" in line) for each in lines] == ['data: {"counter":0}'] * 6
        assert client.post("/go-on").status_code == 200
        assert [next(line for line in each if "data" in line) for each in lines] == ['data: {"counter":1}'] * 6
        assert [next(line for line in each if "data" in line)[:15] for each in lines] == ['data: {"job_id"'] * 6
        for stream in streams:
            stream.__exit__(None, None, None)


def test_the_producer_is_closed_before_the_app_is_torn_down() -> None:
    Ticks.said.clear()
    with TestClient(Ticks) as client, client.http.stream("GET", "/buffered_stream") as response:
        next(response.iter_lines())
    assert Ticks.said == ["closed", "torn down"]
