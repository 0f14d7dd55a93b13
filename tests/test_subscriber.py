"""The readers of a channel: waking, resuming, what they hear of an attempt's start, and whether one watches."""

import asyncio
import contextvars
from typing import Any

import pytest
from tests.emitting import (
    Advance,
    Producer,
    asleep,
    channel_with,
    count_wake_ups,
    into,
    names,
    numbers,
    payloads,
    put,
    until,
)
from tests.waiting import WAIT_S

from streamapp.jobs.channel import Channel
from streamapp.jobs.events import Event, Preview, Progress, to_event
from streamapp.jobs.subscriber import Subscriber

# Taking


async def test_a_reader_takes_all_that_is_new_in_order_once() -> None:
    channel = channel_with()
    reader = channel.subscribe()
    put(channel, "a", Preview({}, key="x"), "b", Progress(1), "c")
    assert numbers(reader.take()) == [1, 2, 3, 4, 5]
    assert reader.take() == []


async def test_readers_are_served_outside_of_the_jobs_context(advance: Advance) -> None:
    channel, job = channel_with(), contextvars.ContextVar("job", default="none")
    seen: list[str] = []

    def deliver(events: list[Event]) -> bool:
        seen.append(job.get())
        return True

    task = await asleep(channel.subscribe(), deliver)
    advance(0.01)

    def produce() -> None:
        job.set("this one")
        put(channel, "a")

    Producer(produce).join(WAIT_S)
    await until(lambda: bool(seen))
    assert seen == ["none"]
    task.cancel()


async def test_being_dropped_is_news_until_the_next_take(advance: Advance) -> None:
    """A reader that goes on reading would spin else: a display that stood still, a forwarder of a slow link."""
    channel = channel_with(ahead_events=1, send_timeout_s=30)
    owner = channel.subscribe(is_owner=True)
    put(channel, "a")
    on_loop = asyncio.create_task(channel.aemit(to_event("b")))
    await asyncio.sleep(0)
    advance(31)
    await on_loop
    assert await owner.wait(WAIT_S)
    assert (payloads(owner.take()), owner.is_dropped) == (["a", "b"], True)
    assert not await owner.wait(0.01)
    put(channel, "c")
    assert await owner.wait(WAIT_S)


async def test_what_a_store_has_taken_is_kept_until_it_is_settled() -> None:
    channel = channel_with(behind_events=1, ahead_events=8)
    store = channel.subscribe(holds=True)
    put(channel, *range(4))
    assert payloads(store.take()) == [0, 1, 2, 3]
    put(channel, 4)
    assert len(channel.events()) == 5
    store.settle(3)
    assert payloads(channel.events()) == [3, 4]
    store.close()
    put(channel, 5, 6)
    assert payloads(channel.events()) == [6]


# Waking readers


async def test_a_sleeping_reader_is_woken_once(monkeypatch: pytest.MonkeyPatch) -> None:
    channel = channel_with()
    reader = channel.subscribe()
    task = await asleep(reader)
    calls = count_wake_ups(monkeypatch)
    Producer(lambda: put(channel, *range(50), waits=True)).join(WAIT_S)
    assert await task
    assert len(calls) == 1
    assert len(reader.take()) == 50


async def test_an_awake_reader_is_never_woken(monkeypatch: pytest.MonkeyPatch) -> None:
    channel = channel_with()
    reader = channel.subscribe()
    calls = count_wake_ups(monkeypatch)
    put(channel, *range(50))
    assert await reader.wait(WAIT_S)
    assert calls == []


async def test_all_sleeping_readers_are_woken_by_one_call(monkeypatch: pytest.MonkeyPatch) -> None:
    channel = channel_with()
    tasks = [await asleep(channel.subscribe()) for _ in range(5)]
    calls = count_wake_ups(monkeypatch)
    put(channel, "a")
    assert await asyncio.gather(*tasks) == [True] * 5
    assert len(calls) == 1


async def test_wait_returns_false_when_nothing_comes(advance: Advance) -> None:
    channel = channel_with()
    task = await asleep(channel.subscribe())
    advance(WAIT_S)
    assert not await task


async def test_a_reader_that_gave_up_waiting_is_not_woken_later(monkeypatch: pytest.MonkeyPatch) -> None:
    channel = channel_with()
    task = await asleep(channel.subscribe())
    task.cancel()
    await asyncio.wait([task])
    calls = count_wake_ups(monkeypatch)
    put(channel, "a")
    assert calls == []


async def test_close_ends_the_wait() -> None:
    reader = channel_with().subscribe()
    task = await asleep(reader)
    reader.close()
    reader.wake()  # twice is once
    assert await task
    assert reader.is_closed


# Delivery to a reader that sleeps on


async def test_a_producer_goes_on_when_its_first_event_is_delivered(
    monkeypatch: pytest.MonkeyPatch, advance: Advance
) -> None:
    monkeypatch.setattr("streamapp.jobs.delivery._FIRST_SENT_S", WAIT_S)
    channel, delivered = channel_with(), []  # type: tuple[Channel, list[Any]]
    task = await asleep(channel.subscribe(is_owner=True), into(delivered))
    advance(1)
    producer = Producer(lambda: put(channel, "a", "b", waits=True))
    await asyncio.to_thread(producer.join, WAIT_S / 2)
    assert channel.last_n == 2
    assert delivered[0] == "a"
    task.cancel()


async def test_an_event_that_comes_as_a_wait_runs_out_is_news(advance: Advance) -> None:
    channel = channel_with()
    reader = channel.subscribe()
    task = await asleep(reader, into([], takes=False))
    advance(WAIT_S)
    for _ in range(2):  # the timer runs, the reader's task not yet
        await asyncio.sleep(0)
    assert not task.done()
    assert channel.emit_at_once(to_event("a"))
    assert await task
    assert payloads(reader.take()) == ["a"]


async def test_a_lone_event_is_kept_and_let_go_of_as_others_are(advance: Advance) -> None:
    channel, delivered = channel_with(behind_events=2, ahead_bytes=2), []  # type: tuple[Channel, list[Any]]
    await asleep(channel.subscribe(is_owner=True), into(delivered))
    for n in range(5):
        advance(0.01)
        assert channel.emit_at_once(to_event(n))
    assert delivered == [0, 1, 2, 3, 4]
    assert payloads(channel.events())[-2:] == [3, 4]
    assert channel.statistics().kept_events == 2


@pytest.mark.parametrize("ending", [Channel.finish, Subscriber.close], ids=["end", "leave"])
async def test_what_ends_a_wait_is_left_to_the_readers_task(advance: Advance, ending: Any) -> None:
    channel, delivered = channel_with(), []  # type: tuple[Channel, list[Any]]
    reader = channel.subscribe()
    task = await asleep(reader, into(delivered))
    advance(0.01)
    ending(reader if ending is Subscriber.close else channel)
    assert await task
    assert delivered == []


async def test_an_end_that_comes_as_a_reader_is_served_is_left_to_its_task(
    monkeypatch: pytest.MonkeyPatch, advance: Advance
) -> None:
    channel, delivered, take = channel_with(), [], Subscriber.take  # type: tuple[Channel, list[Any], Any]
    reader = channel.subscribe()
    task = await asleep(reader, into(delivered))
    advance(0.01)

    def take_after_the_end(reader: Subscriber) -> list[Event]:
        channel.finish()
        return list(take(reader))

    put(channel, "a")
    with monkeypatch.context() as meanwhile:
        meanwhile.setattr(Subscriber, "take", take_after_the_end)
        assert await task
    assert [event.kind for event in reader.take()] == ["output", "done"]
    assert delivered == []


async def test_that_something_is_missing_is_left_to_the_readers_task(advance: Advance) -> None:
    channel, delivered = channel_with(behind_events=1), []  # type: tuple[Channel, list[Any]]
    reader = channel.subscribe()
    task = await asleep(reader, into(delivered))
    advance(0.01)
    put(channel, *"abc")
    assert await task
    assert [event.kind for event in reader.take()] == ["lagged", "output"]
    assert delivered == []


async def test_what_is_not_delivered_comes_first_when_the_reader_takes(advance: Advance) -> None:
    channel = channel_with()
    reader = channel.subscribe()
    task = await asleep(reader, into([], takes=False))
    advance(0.01)
    await channel.aemit(to_event(0))
    await channel.aemit(to_event(1))
    assert await task
    assert payloads(reader.take()) == [0, 1]
    assert reader.take() == []


async def test_what_was_not_delivered_is_not_overtaken(advance: Advance) -> None:
    channel, answers = channel_with(), iter([False, True])
    reader = channel.subscribe()
    task = await asleep(reader, lambda events: next(answers))
    for name in "ab":
        advance(0.01)
        assert channel.emit_at_once(to_event(name))
    assert await task
    assert payloads(reader.take()) == ["a", "b"]


async def test_a_wake_up_whose_news_are_delivered_already_changes_nothing(
    monkeypatch: pytest.MonkeyPatch, advance: Advance
) -> None:
    channel = channel_with()
    reader = channel.subscribe()
    task = await asleep(reader, into([], takes=False))
    advance(0.01)
    reader.wake()
    assert not task.done()
    task.cancel()
    await asyncio.wait([task])
    calls = count_wake_ups(monkeypatch)
    put(channel, "a")
    assert calls == []


async def test_a_wake_up_whose_news_were_taken_is_no_time_that_ran_out(advance: Advance) -> None:
    """Else the stream of a producer that does not pause, and that is what it comes of, ends for having been idle."""
    reader = (channel := channel_with()).subscribe()
    channel.emit_at_once(to_event("a"))
    reader.take()
    waiting = await asleep(reader)
    reader.wake()
    await asyncio.sleep(0)
    assert not waiting.done()
    channel.emit_at_once(to_event("b"))
    assert await waiting
    assert payloads(reader.take()) == ["b"]


async def test_silence_counts_from_the_last_delivery(advance: Advance) -> None:
    channel = channel_with()
    task, later = await asleep(channel.subscribe(), into([])), asyncio.Event()
    asyncio.get_running_loop().call_later(WAIT_S, later.set)
    advance(0.6 * WAIT_S)
    await channel.aemit(to_event(0))
    advance(0.6 * WAIT_S)
    await later.wait()
    assert not task.done()
    advance(0.6 * WAIT_S)
    assert not await task


# A reader that falls behind takes in bulk


@pytest.fixture
async def resting(monkeypatch: pytest.MonkeyPatch) -> "tuple[Channel, Subscriber, asyncio.Task[bool]]":
    """Return an owner that has taken in bulk and lets the next events pile up, until something ends that."""
    monkeypatch.setattr("streamapp.jobs.delivery._REST_S", WAIT_S)
    channel = channel_with(ahead_events=40)
    reader = channel.subscribe(is_owner=True)
    put(channel, *range(40))
    assert len(reader.take()) == 40
    put(channel, "a")
    return channel, reader, await asleep(reader)


Resting = tuple[Channel, Subscriber, "asyncio.Task[bool]"]


async def test_a_reader_that_took_in_bulk_lets_events_pile_up(
    monkeypatch: pytest.MonkeyPatch, resting: Resting, advance: Advance
) -> None:
    channel, reader, task = resting
    calls = count_wake_ups(monkeypatch)
    put(channel, "b")
    await asyncio.sleep(0)
    assert not task.done()
    advance(WAIT_S)
    assert await task
    assert payloads(reader.take()) == ["a", "b"]
    assert calls == []
    task = await asleep(reader)
    put(channel, "c")  # which wakes it: it is not behind any more
    assert await task
    assert len(calls) == 1


async def test_a_producer_without_room_ends_the_rest(resting: Resting) -> None:
    channel, reader, task = resting
    producer = Producer(lambda: put(channel, *range(40), waits=True))
    assert await task
    assert len(reader.take()) == 40
    producer.join(WAIT_S)
    assert payloads(reader.take()) == [39]


async def test_an_async_producer_without_room_ends_the_rest(resting: Resting) -> None:
    channel, reader, task = resting
    put(channel, *range(39))
    producer = asyncio.create_task(channel.aemit(to_event("b")))
    assert await task
    assert len(reader.take()) == 40
    await producer


@pytest.mark.parametrize("ending", [Channel.finish, Subscriber.close], ids=["end", "leave"])
async def test_what_ends_a_wait_ends_the_rest(resting: Resting, ending: Any) -> None:
    channel, reader, task = resting
    ending(reader if ending is Subscriber.close else channel)
    assert await task


@pytest.mark.parametrize("is_over", [False, True])
async def test_where_the_log_is_full_or_has_ended_already_a_reader_does_not_rest(
    monkeypatch: pytest.MonkeyPatch, is_over: bool
) -> None:
    monkeypatch.setattr("streamapp.jobs.delivery._REST_S", WAIT_S)
    channel = channel_with(ahead_events=40)
    reader = channel.subscribe(is_owner=True)
    put(channel, *range(40))
    assert len(reader.take()) == 40
    put(channel, *range(0 if is_over else 40))
    if is_over:
        channel.finish()
    task = await asleep(reader)
    assert task.done()


async def test_a_producer_on_the_loop_is_woken_with_the_readers_where_there_is_room_again() -> None:
    channel = channel_with(ahead_events=1)
    owner, other = channel.subscribe(is_owner=True), channel.subscribe()
    put(channel, "a")
    other.take()
    waiting, sleeping = asyncio.create_task(channel.room()), await asleep(other)
    with channel._lock:  # as if another thread had made room
        owner.index = 1
    put(channel, Preview({}))
    await asyncio.wait_for(asyncio.gather(waiting, sleeping), WAIT_S)


def test_where_nobody_has_ever_read_nobody_is_woken() -> None:
    channel = channel_with()
    channel.start()
    assert channel.finish()


# Resume


async def test_a_reader_resumes_behind_any_event() -> None:
    channel = channel_with()
    put(channel, "a", Preview({}), "b", "c")
    assert [numbers(channel.subscribe(after=n).take()) for n in range(5)] == [[1, 2, 3, 4], [2, 3, 4], [3, 4], [4], []]


async def test_the_end_can_be_read_again() -> None:
    channel = channel_with()
    channel.finish(to_event("a"))
    assert [event.kind for event in channel.subscribe(after=1, is_owner=True).take()] == ["done"]


async def test_a_reader_that_resumes_behind_the_trimmed_log_is_told() -> None:
    channel = channel_with(behind_events=2)
    put(channel, *"abcde")
    lagged, *rest = channel.subscribe(after=1).take()
    assert (lagged.kind, lagged.json(), lagged.n) == ("lagged", {"skipped": 2}, 3)
    assert numbers(rest) == [4, 5]
    assert numbers(channel.subscribe(after=3).take()) == [4, 5]


async def test_a_slow_viewer_is_told_exactly_how_many_it_missed() -> None:
    channel = channel_with(behind_events=3)
    viewer = channel.subscribe()
    put(channel, "a")
    viewer.take()
    put(channel, *range(3000), Preview({}))
    lagged, *rest = viewer.take()
    assert lagged.json() == {"skipped": 2997}
    assert payloads(rest)[:3] == [2997, 2998, 2999]
    assert viewer.take() == []


# Demand


async def test_a_preview_is_wanted_when_a_reader_has_taken_the_last_one() -> None:
    channel = channel_with()
    assert not channel.wants_preview()
    reader = channel.subscribe()
    assert channel.wants_preview()
    put(channel, Preview({}))
    assert not channel.wants_preview()
    reader.take()
    put(channel, "an output changes nothing")
    assert channel.wants_preview()
    reader.close()
    assert not channel.wants_preview()


async def test_one_reader_of_several_is_enough() -> None:
    channel = channel_with()
    fast, _slow = channel.subscribe(), channel.subscribe()
    put(channel, Preview({}))
    fast.take()
    assert channel.wants_preview()


async def test_a_reader_that_shows_no_previews_does_not_count() -> None:
    channel = channel_with()
    channel.subscribe(shows_previews=False)
    assert not channel.wants_preview()


def test_a_poller_watches_for_ten_seconds(advance: Advance) -> None:
    channel = channel_with()
    channel.events()
    assert not channel.wants_preview()
    channel.events(shows_previews=True)
    advance(9.9)
    assert channel.wants_preview()
    advance(0.2)
    assert not channel.wants_preview()


def test_a_poller_wants_the_next_preview_when_it_has_seen_the_last() -> None:
    channel = channel_with()
    channel.events(shows_previews=True)
    put(channel, Preview({}))
    assert not channel.wants_preview()
    assert numbers(channel.events(shows_previews=True)) == [1]
    assert channel.wants_preview()


async def test_demand_is_told_when_it_changes() -> None:
    channel, told = channel_with(), []  # type: tuple[Channel, list[bool]]
    channel.listen_to_demand(told.append)
    assert told == [False]
    blind, viewer = channel.subscribe(shows_previews=False), channel.subscribe()
    assert told == [False, True]
    put(channel, Preview({"step": 1}))  # its maker knows that nobody wants the next yet
    blind.take()
    assert told == [False, True]
    viewer.take()
    assert told == [False, True, True]
    viewer.close()
    assert told == [False, True, True, False]
    blind.close()


async def test_demand_is_told_when_a_preview_was_delivered_to_a_sleeping_reader(advance: Advance) -> None:
    channel, told, delivered = channel_with(), [], []  # type: tuple[Channel, list[bool], list[Any]]
    task = await asleep(channel.subscribe(), into(delivered))
    channel.listen_to_demand(told.append)
    advance(1)
    assert channel.emit_at_once(to_event(Preview({"step": 1})))
    assert (delivered, told) == ([{"step": 1}], [True, True])
    task.cancel()


# The start of an attempt


async def test_the_start_is_heard_by_those_who_ask_and_by_nobody_else() -> None:
    channel = channel_with(awaits_owner=True, ahead_events=1)
    before, hearing = channel.subscribe(is_owner=True), channel.subscribe(hears_start=True)
    sleeping, listening = await asleep(before), await asleep(hearing)
    channel.start()
    assert await listening
    assert names(hearing.take()) == ["started"]
    assert not sleeping.done()
    assert channel.emit_at_once(to_event("a"))  # the start did not use up what the owner may be behind
    assert await sleeping
    after = channel.subscribe()
    assert [payloads(reader.take()) for reader in (before, after)] == [["a"], ["a"]]
    assert numbers(channel.events()) == [1, 2]
    assert (channel.events()[0].kind, channel.last_n) == ("started", 2)


async def test_who_comes_after_the_start_waits_for_the_first_event() -> None:
    channel = channel_with()
    channel.start()
    late = channel.subscribe()
    assert not await late.wait(0.01)
    assert late.take() == []


async def test_a_preview_of_an_attempt_that_is_lost_is_not_shown_and_the_next_is_wanted() -> None:
    channel = channel_with()
    reader = channel.subscribe()
    channel.start()
    put(channel, Preview({"step": 1}))
    assert not channel.wants_preview()
    channel.start(2)
    assert names(reader.take()) == ["restarted"]
    assert channel.wants_preview()
