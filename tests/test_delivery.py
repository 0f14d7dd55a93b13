"""What serves throughput: whose turn it is, and how a reader is served past its own task."""

import asyncio
import time
from types import SimpleNamespace
from typing import Any

import pytest
from tests.emitting import (
    Advance,
    Producer,
    asleep,
    channel_with,
    into,
    payloads,
    put,
)
from tests.waiting import WAIT_S

from streamapp.jobs.delivery import Delivery, Turns, end_wait
from streamapp.jobs.events import to_event

# Turns


async def test_a_producer_that_has_just_given_way_only_wakes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("streamapp.jobs.delivery._YIELD_EVERY_S", WAIT_S)
    channel = channel_with()
    slept: list[float] = []
    put(channel, "a")
    reader = channel.subscribe(after=1)
    monkeypatch.setattr("streamapp.jobs.delivery.time", SimpleNamespace(monotonic=time.monotonic, sleep=slept.append))
    task = await asleep(reader)
    Producer(lambda: put(channel, "b", waits=True)).join(WAIT_S)
    assert await task
    assert slept == []


async def test_events_in_quick_succession_are_left_to_the_readers_task(
    monkeypatch: pytest.MonkeyPatch, advance: Advance
) -> None:
    monkeypatch.setattr("streamapp.jobs.delivery._DELIVER_EVERY_S", WAIT_S)
    channel = channel_with()
    delivered: list[Any] = []
    reader = channel.subscribe()
    task = await asleep(reader, into(delivered))
    advance(2 * WAIT_S)
    for n in range(3):
        await channel.aemit(to_event(n))
    assert await task
    assert (delivered, payloads(reader.take())) == ([0], [1, 2])


async def test_a_reader_that_sleeps_counts_as_far_behind_once_it_does_not_take(advance: Advance) -> None:
    """An event that cannot be written at once is left to the reader's task: what follows has no room before that."""
    channel = channel_with(ahead_events=1)
    reader = channel.subscribe(is_owner=True)
    task = await asleep(reader, into([], takes=False))
    advance(0.01)
    assert [channel.emit_at_once(to_event(name)) for name in "abc"] == [True, True, False]
    assert await task
    assert payloads(reader.take()) == ["a", "b"]


async def test_a_producer_that_awaits_nothing_else_owes_the_loop_a_turn(
    monkeypatch: pytest.MonkeyPatch, advance: Advance
) -> None:
    monkeypatch.setattr("streamapp.jobs.delivery._YIELD_EVERY_S", WAIT_S)
    channel = channel_with()
    channel.subscribe()
    assert channel.emit_at_once(to_event("a"))
    advance(2 * WAIT_S)
    assert not channel.emit_at_once(to_event("b"))
    turns: list[int] = []
    asyncio.get_running_loop().call_soon(turns.append, channel.last_n)
    await channel.aemit(to_event("b"))
    assert (turns, channel.last_n) == ([1], 2)
    assert channel.emit_at_once(to_event("c"))


async def test_a_turn_that_another_thread_has_given_the_loop_meanwhile_is_not_waited_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    channel, now = channel_with(), time.monotonic()
    clock = iter([now + 1])  # as the event is offered the loop is due, and then no more
    monkeypatch.setattr("streamapp.jobs.delivery.time", SimpleNamespace(monotonic=lambda: next(clock, now)))
    await asyncio.wait_for(channel.aemit(to_event("a")), WAIT_S)
    assert channel.last_n == 1


# The first event: the producer's second would keep the loop from the processor that it needs to send it


async def test_a_producer_goes_on_when_its_first_event_is_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("streamapp.jobs.delivery._FIRST_SENT_S", WAIT_S)
    channel = channel_with()
    reader = channel.subscribe(is_owner=True)
    task = await asleep(reader)
    producer = Producer(lambda: put(channel, "a", "b", waits=True))
    await task
    assert payloads(reader.take()) == ["a"]
    task = await asleep(reader)
    producer.join(WAIT_S)
    await task
    assert payloads(reader.take()) == ["b"]


async def test_a_producer_waits_for_its_first_reader_only_a_moment() -> None:
    channel = channel_with()
    channel.subscribe(is_owner=True)
    await asyncio.to_thread(put, channel, "a", "b", waits=True)
    assert channel.last_n == 2


# The reader's side alone


async def test_a_rest_ends_by_itself(advance: Advance) -> None:
    resting = asyncio.create_task(Delivery().rest(asyncio.get_running_loop().create_future()))
    await asyncio.sleep(0)
    advance(1)
    await asyncio.wait_for(resting, WAIT_S)


async def test_a_rest_ends_when_its_wait_does() -> None:
    waiter = asyncio.get_running_loop().create_future()
    resting = asyncio.create_task(Delivery().rest(waiter))
    await asyncio.sleep(0)
    for _ in range(2):  # twice is once
        end_wait(waiter)
    await asyncio.wait_for(resting, WAIT_S)
    end_wait(None)


async def test_a_reader_is_served_while_its_task_waits_and_not_too_often(advance: Advance) -> None:
    delivery, waiter = Delivery(), asyncio.get_running_loop().create_future()
    assert not delivery.is_due(waiter)
    delivery.deliver = bool
    assert [delivery.is_due(waiter), delivery.is_due(waiter)] == [True, False]
    advance(1)
    assert delivery.is_due(waiter)
    advance(1)
    end_wait(waiter)
    assert [delivery.is_due(waiter), delivery.is_due(None)] == [False, False]


def test_nobody_waits_for_a_first_event_that_is_sent() -> None:
    turns = Turns()
    turns.tell_sent()
    turns.await_first_sent()
    turns.tell_sent()
    turns.give_way()  # at once
    assert turns.first_sent is None


def test_a_producer_gives_way_once_in_a_while(monkeypatch: pytest.MonkeyPatch, advance: Advance) -> None:
    monkeypatch.setattr("streamapp.jobs.delivery._YIELD_EVERY_S", WAIT_S)
    turns = Turns()
    assert not turns.owes_a_turn()
    advance(2 * WAIT_S)
    assert turns.owes_a_turn()
    turns.give_way()
    assert not turns.owes_a_turn()
