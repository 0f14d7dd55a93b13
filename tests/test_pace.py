"""Whom the producer waits for: the bounds ahead and behind, and the one budget for waiting."""

import asyncio
import threading
import tracemalloc
from collections.abc import Iterable
from typing import Any

import pytest
from tests.emitting import (
    STOPPED,
    Advance,
    Producer,
    asleep,
    channel_with,
    into,
    numbers,
    payloads,
    put,
    until,
)
from tests.waiting import WAIT_S

from streamapp.errors import Cancelled
from streamapp.jobs.channel import Channel
from streamapp.jobs.events import Event, Preview, Progress, to_event
from streamapp.jobs.log import EventLog
from streamapp.jobs.pace import Pace, Paced
from streamapp.settings import Settings

# The pace alone


class Reader:
    """Stand for a reader, at a place."""

    is_asleep = False

    def __init__(self, index: int = 0) -> None:
        self.index = self.settled = index
        self.taken_bytes = 0
        self.is_closed = self.is_dropped = False
        self.woken = 0

    def drop(self) -> None:
        self.is_dropped = True

    def wake(self) -> None:
        self.woken += 1


def pace_of(*values: Any, awaits_owner: bool = False, **bounds: Any) -> tuple[Pace, EventLog]:
    log = EventLog()
    for value in values:
        log.append(to_event(value))
    return Pace(Settings(**bounds), log, threading.RLock(), awaits_owner=awaits_owner), log


def wake_all(readers: Iterable[Paced]) -> None:
    for reader in readers:
        reader.wake()


def test_nobody_is_waited_for_before_somebody_comes() -> None:
    pace, _ = pace_of("a", ahead_events=1)
    assert (pace.is_full(), pace.has_reading_owner, pace.ahead_events) == (False, False, 0)
    pace.skip_start()
    assert not pace.is_full()


def test_an_owner_who_is_expected_is_behind_but_does_not_read() -> None:
    pace, log = pace_of("a", awaits_owner=True, ahead_events=1)
    assert (pace.is_full(), pace.has_reading_owner, pace.ahead_events) == (True, False, 1)
    pace.skip_start()
    assert not pace.is_full()
    log.append(to_event("b"))
    pace.add(Reader(1), is_owner=True)
    assert (pace.is_full(), pace.has_reading_owner, pace.ahead_events) == (True, True, 1)


def test_a_reader_that_does_not_pace_leaves_the_owner_in_place() -> None:
    pace, _ = pace_of("a")
    owner = Reader()
    pace.add(owner, is_owner=True)
    pace.add(Reader(), is_owner=False)
    assert pace.owner is owner
    owner.is_closed = True
    assert (pace.owner, pace.has_reading_owner) == (owner, False)


@pytest.mark.parametrize("is_counted", [True, False])
def test_who_does_not_count_does_not_come_in_the_expected_owners_place(is_counted: bool) -> None:
    pace, _ = pace_of("a", awaits_owner=True, ahead_events=1)
    pace.add(Reader(), is_owner=False, is_counted=is_counted)
    assert pace.is_full() != is_counted


def test_when_the_log_has_ended_nobody_paces() -> None:
    pace, log = pace_of(awaits_owner=True, ahead_events=1)
    log.end(Event("done", b"{}"))
    pace.release()
    pace.add(Reader(), is_owner=True)
    assert not pace.is_full()


def test_other_bounds_count_for_the_owner_alone() -> None:
    pace, _ = pace_of("a", "b", ahead_events=1, behind_events=1)
    pace.add_holder(Reader())
    assert (pace.is_full(), pace.is_full((1, 1))) == (True, False)
    pace.add(Reader(), is_owner=True)
    assert [pace.is_full((bound, 1 << 60)) for bound in (2, 3)] == [True, False]


def test_what_a_reader_holds_is_let_go_of_when_it_has_left() -> None:
    pace, log = pace_of(*"abcd", behind_events=1)
    first, second = Reader(1), Reader(2)
    pace.add_holder(first)
    pace.add_holder(second)
    pace.trim()
    assert log.first_index == 1
    pace.remove_holder(first)
    pace.trim()
    assert log.first_index == 2
    pace.remove_holder(second)
    pace.trim()
    assert log.first_index == 3


def test_who_waits_for_an_owner_that_does_not_come_goes_on_without_it() -> None:
    pace, _ = pace_of("a", awaits_owner=True, ahead_events=1, send_timeout_s=0.01)
    with pace._lock:
        pace.wait_for_room(wake_all)
    assert (pace.owner, pace.is_full()) == (None, False)


def test_an_owner_who_rests_is_woken_before_a_thread_waits_for_it() -> None:
    pace, _ = pace_of("a", ahead_events=1, send_timeout_s=0.01)
    owner = Reader()
    owner.is_asleep = True
    pace.add(owner, is_owner=True)
    with pace._lock:
        pace.wait_for_room(wake_all)
    assert (owner.woken, owner.is_dropped) == (2, True)  # the second time to hear of that


async def test_who_waits_on_the_loop_for_an_owner_that_does_not_come_goes_on_without_it(advance: Advance) -> None:
    pace, _ = pace_of("a", awaits_owner=True, ahead_events=1, send_timeout_s=30)
    waiting = asyncio.create_task(pace.wait_for_async_room(wake_all))
    await asyncio.sleep(0)
    assert len(pace.async_waiters) == 1
    advance(31)
    await asyncio.wait_for(waiting, WAIT_S)
    assert (pace.owner, pace.is_full()) == (None, False)


@pytest.mark.parametrize("news", [None, "room"])
async def test_who_pauses_on_the_loop_goes_on_when_the_time_is_over_whatever_else_happens(news: str | None) -> None:
    pace, _ = pace_of()
    pausing = asyncio.create_task(pace.pause_on_loop(0.01))
    await asyncio.sleep(0)
    if news:
        pace.give_room()
    await asyncio.wait_for(pausing, WAIT_S)
    assert pace.async_waiters == ()


async def test_a_pause_ends_with_the_log() -> None:
    pace, log = pace_of()
    pausing = asyncio.create_task(pace.pause_on_loop(10 * WAIT_S))
    await asyncio.sleep(0)
    log.end(Event("done", b"{}"))
    pace.give_async_room()
    await asyncio.wait_for(pausing, WAIT_S)
    await asyncio.wait_for(pace.pause_on_loop(10 * WAIT_S), WAIT_S)


def test_a_thread_pauses_for_its_time_or_until_the_log_ends() -> None:
    pace, log = pace_of()
    with pace._lock:
        pace.pause(0.01)
        pace.pause(0.01)
    log.end(Event("done", b"{}"))
    with pace._lock, pytest.raises(Cancelled):
        pace.pause(10 * WAIT_S)


async def test_where_there_is_room_by_now_nobody_waits_on_the_loop() -> None:
    pace, log = pace_of("a")
    await asyncio.wait_for(pace.wait_for_async_room(wake_all), WAIT_S)
    log.end(Event("done", b"{}"))
    with pytest.raises(Cancelled):
        await pace.wait_for_async_room(wake_all)


async def test_on_the_loop_the_owner_and_who_holds_are_woken_before_they_are_waited_for() -> None:
    pace, _ = pace_of("a", "b", ahead_events=1, behind_events=1)
    owner, holder = Reader(), Reader()
    pace.add(owner, is_owner=True)
    pace.add_holder(holder)
    waiting = asyncio.create_task(pace.wait_for_async_room(wake_all))
    await asyncio.sleep(0)
    assert (owner.woken, holder.woken, waiting.done()) == (1, 1, False)
    owner.index = holder.settled = 2
    pace.give_room()
    await asyncio.wait_for(waiting, WAIT_S)
    assert not owner.is_dropped


# Bounds ahead: the producer waits


@pytest.mark.parametrize("bounds", [{"ahead_events": 4}, {"ahead_bytes": 12}])
async def test_a_producer_waits_when_it_is_too_far_ahead_of_the_owner(bounds: dict[str, Any]) -> None:
    channel = channel_with(**bounds)
    reader = channel.subscribe(is_owner=True)
    producer = Producer(lambda: put(channel, *"xxxxxx", waits=True))
    await until(lambda: producer.waits and channel.last_n == 4)
    assert len(reader.take()) == 4
    producer.join(WAIT_S)
    assert numbers(reader.take()) == [5, 6]


async def test_one_event_may_be_larger_than_the_bound() -> None:
    channel = channel_with(ahead_bytes=1)
    channel.subscribe(is_owner=True)
    async with asyncio.timeout(WAIT_S):
        await channel.aemit(to_event("x" * 100))
    assert channel.last_n == 1


async def test_previews_pace_nobody() -> None:
    channel = channel_with(ahead_events=1)
    channel.subscribe(is_owner=True)
    put(channel, "full")
    for step in range(10):
        channel.emit(to_event(Preview({"step": step})))
        await channel.aemit(to_event(Progress(step)))
    assert channel.statistics().kept_events == 1


async def test_other_readers_pace_nobody() -> None:
    channel = channel_with(ahead_events=1, behind_events=1)
    owner, viewer = channel.subscribe(is_owner=True), channel.subscribe()
    for n in range(5):
        await channel.aemit(to_event(n))
        assert payloads(owner.take()) == [n]
    assert payloads(viewer.take()) == [{"skipped": 4}, 4]


async def test_the_bound_holds_while_the_owner_is_away() -> None:
    channel = channel_with(ahead_events=2)
    owner = channel.subscribe(is_owner=True)
    owner.close()
    producer = Producer(lambda: put(channel, *range(4), waits=True))
    await until(lambda: producer.waits)
    back = channel.subscribe(after=0, is_owner=True)
    assert payloads(back.take()) == [0, 1]
    producer.join(WAIT_S)
    assert payloads(back.take()) == [2, 3]


async def test_an_owner_who_comes_back_further_on_makes_room_at_once() -> None:
    channel = channel_with(ahead_events=2)
    channel.subscribe(is_owner=True).close()
    put(channel, "a", "b")
    producer = Producer(lambda: channel.emit(to_event("c")))
    await until(lambda: producer.waits)
    channel.subscribe(after=2, is_owner=True)
    producer.join(WAIT_S)
    assert channel.last_n == 3


async def test_bytes_ahead_are_counted_from_where_the_owner_comes_back() -> None:
    channel = channel_with(ahead_bytes=9)
    channel.subscribe(is_owner=True).take()
    put(channel, "a", "b", "c")
    back = channel.subscribe(after=1, is_owner=True)
    channel.emit(to_event("d"))  # 6 bytes ahead
    assert payloads(back.take()) == ["b", "c", "d"]


async def test_before_its_owner_has_come_a_producer_loses_nothing() -> None:
    channel = channel_with(awaits_owner=True, ahead_events=5, behind_events=1)
    producer = Producer(lambda: put(channel, *range(7), waits=True))
    await until(lambda: producer.waits)
    owner = channel.subscribe(is_owner=True)
    assert payloads(owner.take()) == [0, 1, 2, 3, 4]
    producer.join(WAIT_S)
    assert payloads(owner.take()) == [5, 6]


async def test_an_async_producer_waits_for_an_owner_before_anyone_has_come() -> None:
    channel = channel_with(awaits_owner=True, ahead_events=1)
    put(channel, "a")
    task = asyncio.create_task(channel.aemit(to_event("b")))
    await asyncio.sleep(0)
    channel.cancel(STOPPED)
    with pytest.raises(Cancelled):
        await task


async def test_when_the_first_reader_does_not_pace_nobody_does() -> None:
    channel = channel_with(awaits_owner=True, ahead_events=1)
    put(channel, "a")
    producer = Producer(lambda: put(channel, *range(3), waits=True))
    await until(lambda: producer.waits)
    channel.subscribe()
    producer.join(WAIT_S)
    assert channel.last_n == 4


# The budget for waiting


async def test_an_owner_who_uses_up_the_budget_is_dropped_and_the_producer_goes_on() -> None:
    channel = channel_with(ahead_events=1, send_timeout_s=0.05, behind_events=0)
    owner = channel.subscribe(is_owner=True)
    task = await asleep(owner)
    producer = Producer(lambda: put(channel, *range(1000), waits=True))
    assert await task
    producer.join(WAIT_S)
    assert producer.raised is None
    assert owner.is_dropped
    assert await owner.wait(WAIT_S)
    assert [event.kind for event in owner.take()] == ["lagged", "output"]


async def test_the_budget_is_one_for_the_job_and_is_not_refilled(advance: Advance) -> None:
    channel = channel_with(ahead_events=1, send_timeout_s=100)
    first = channel.subscribe(is_owner=True)
    put(channel, "a")
    for _ in range(2):
        task = asyncio.create_task(channel.aemit(to_event("b")))
        await asyncio.sleep(0)
        advance(60)
        first.take()
        await task
    assert not first.is_dropped  # 120 s are spent, but it had read in time
    await asyncio.wait_for(channel.aemit(to_event("c")), WAIT_S)
    assert first.is_dropped
    assert channel.subscribe(is_owner=True)
    assert channel.statistics().ahead_events == 0  # nobody paces this job any more


async def test_what_several_producers_wait_together_counts_once(advance: Advance) -> None:
    channel = channel_with(ahead_events=5, send_timeout_s=100)
    owner = channel.subscribe(is_owner=True)
    for _ in range(3):
        tasks = [asyncio.create_task(channel.aemit(to_event("a"))) for _ in range(10)]
        await asyncio.sleep(0)
        advance(30)
        while not all(task.done() for task in tasks):
            owner.take()
            await asyncio.sleep(0)
    assert not owner.is_dropped


async def test_cancel_wakes_waiting_producers_at_once() -> None:
    channel = channel_with(ahead_events=1)
    channel.subscribe(is_owner=True)
    put(channel, "full")
    thread = Producer(lambda: channel.emit(to_event("a")))
    tasks = [asyncio.create_task(channel.aemit(to_event("b"))) for _ in range(3)]
    await until(lambda: thread.waits)
    channel.cancel(STOPPED)
    thread.join(WAIT_S)
    assert isinstance(thread.raised, Cancelled)
    raised = await asyncio.gather(*tasks, return_exceptions=True)
    assert [type(error) for error in raised] == [Cancelled] * 3


async def test_a_cancel_from_a_thread_wakes_an_async_producer() -> None:
    channel = channel_with(ahead_events=1)
    channel.subscribe(is_owner=True)
    put(channel, "full")
    task = asyncio.create_task(channel.aemit(to_event("b")))
    await asyncio.sleep(0)
    Producer(lambda: channel.cancel(STOPPED))
    with pytest.raises(Cancelled):
        await asyncio.wait_for(task, WAIT_S)


async def test_an_async_producer_that_gives_up_leaves_the_others_their_turn() -> None:
    channel = channel_with(ahead_events=1)
    owner = channel.subscribe(is_owner=True)
    put(channel, "full")
    given_up, other = (asyncio.create_task(channel.aemit(to_event(name))) for name in "ab")
    await asyncio.sleep(0)
    given_up.cancel()
    await asyncio.wait([given_up])
    owner.take()
    await asyncio.wait_for(other, WAIT_S)
    assert payloads(owner.take()) == ["b"]


def test_a_renewed_budget_is_whole() -> None:
    pace, _ = pace_of(1, send_timeout_s=10)
    pace._budget_s = 1
    pace.renew()
    assert pace._budget_s == 10


async def test_of_several_producers_that_wait_all_go_on_when_the_budget_is_spent(advance: Advance) -> None:
    """The budget is the job's, not each producer's."""
    channel = channel_with(ahead_events=1, send_timeout_s=30)
    owner = channel.subscribe(is_owner=True)
    put(channel, "a")
    in_thread = Producer(lambda: put(channel, "b", waits=True))
    await until(lambda: in_thread.waits)
    on_loop = asyncio.create_task(channel.aemit(to_event("c")))
    for _ in range(2):  # it may give the loop a turn before it waits
        await asyncio.sleep(0)
    advance(31)
    await asyncio.wait_for(on_loop, WAIT_S)
    await asyncio.to_thread(in_thread.join, WAIT_S)
    assert (owner.is_dropped, channel.last_n) == (True, 3)


async def test_a_producer_on_the_loop_goes_on_when_one_in_a_thread_has_spent_the_budget() -> None:
    channel = channel_with(ahead_events=1, send_timeout_s=0.2)
    channel.subscribe(is_owner=True)
    put(channel, "a")
    on_loop = [asyncio.create_task(channel.aemit(to_event("b"))) for _ in range(2)]
    await asyncio.sleep(0)
    await asyncio.to_thread(put, channel, "c", waits=True)
    await asyncio.wait_for(asyncio.gather(*on_loop), WAIT_S)
    assert channel.last_n == 4


# Bounds behind: what is kept for resume


@pytest.mark.parametrize("bounds", [{"behind_events": 3}, {"behind_bytes": 9}])
async def test_of_taken_events_the_newest_are_kept(bounds: dict[str, Any]) -> None:
    channel = channel_with(**bounds)
    owner = channel.subscribe(is_owner=True)
    put(channel, *"abcde")
    assert numbers(channel.events()) == [1, 2, 3, 4, 5]  # not taken: not trimmed
    owner.take()
    assert numbers(channel.events()) == [3, 4, 5]


def test_of_a_log_that_is_to_be_kept_more_is_kept() -> None:
    channel = Channel(Settings(behind_events=3, behind_bytes=100), keeps=True)
    for _ in range(1700):
        channel.emit(Event("output", bytes(40_000)))
    assert channel.statistics()[2:4] == (1677, 1677 * 40_000)  # 64 MiB
    assert Pace(Settings(behind_events=70_000), EventLog(), threading.RLock(), keeps=True).behind[0] == 70_000


def test_a_long_stream_takes_constant_memory() -> None:
    channel = channel_with(behind_events=200)

    def emitted(count: int) -> int:
        for n in range(count):
            channel.emit(Event("output", b"%0100d" % n))
        return tracemalloc.get_traced_memory()[0]

    tracemalloc.start()
    try:
        before = emitted(2_000)
        assert emitted(8_000) < before + 200_000  # of 800 000 bytes emitted
    finally:
        tracemalloc.stop()
    assert channel.statistics().kept_events == 200


# Readers that are a store or a link


async def test_a_store_misses_nothing_of_a_job_that_nobody_paces() -> None:
    """A reader that takes every 50 ms had lost 31 508 of 60 000 events of a detached job."""
    channel = channel_with(behind_events=4, ahead_events=4)
    store = channel.subscribe(holds=True, is_counted=False, shows_previews=False)
    producer = Producer(lambda: put(channel, *range(200), waits=True))
    stored: list[Any] = []
    while len(stored) < 200:
        events = store.take()
        stored += payloads(events)
        if events:
            store.settle(events[-1].n)
        await asyncio.sleep(0)
    await asyncio.to_thread(producer.join, WAIT_S)
    assert stored == [*range(200)]
    assert (producer.raised, channel.statistics().kept_events) == (None, 4)


async def test_a_store_that_is_far_behind_holds_a_producer_whose_owner_sleeps(
    monkeypatch: pytest.MonkeyPatch, advance: Advance
) -> None:
    monkeypatch.setattr("streamapp.jobs.delivery._YIELD_EVERY_S", WAIT_S)  # for the room, not for the loop
    channel = channel_with(ahead_events=1, behind_events=2)
    delivered: list[Any] = []
    await asleep(channel.subscribe(is_owner=True), into(delivered))
    store = channel.subscribe(holds=True)
    for n in range(2):
        advance(0.01)
        assert channel.emit_at_once(to_event(n))
    assert not channel.emit_at_once(to_event(2))
    assert channel.emit_at_once(to_event(Progress(1)))  # what is replaceable waits for nobody
    store.settle(2)
    advance(0.01)
    assert channel.emit_at_once(to_event(2))
    assert delivered[:2] == [0, 1]


async def test_a_store_that_uses_up_the_budget_is_dropped_and_the_producer_goes_on(advance: Advance) -> None:
    channel = channel_with(ahead_events=1, behind_events=2, send_timeout_s=30)
    owner, store = channel.subscribe(is_owner=True), channel.subscribe(holds=True)
    put(channel, "a", "b")
    assert payloads(owner.take()) == ["a", "b"]
    waiting = asyncio.create_task(channel.aemit(to_event("c")))
    await asyncio.sleep(0)
    assert not waiting.done()
    advance(31)
    await asyncio.wait_for(waiting, WAIT_S)
    assert (store.is_dropped, owner.is_dropped) == (True, False)
    store.close()


async def test_a_store_that_keeps_too_many_bytes_is_waited_for() -> None:
    channel = channel_with(ahead_bytes=10, behind_bytes=10)
    store = channel.subscribe(holds=True)
    put(channel, "x" * 30)
    assert channel.is_full
    store.settle(channel.last_n)
    put(channel, "z")
    store.settle(channel.last_n)
    assert not channel.is_full
