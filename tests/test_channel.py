"""The channel: one bounded log between the thread that emits and the readers on the loop."""

import asyncio
import contextvars
import sys
import threading
import time
import traceback
import tracemalloc
from collections.abc import Callable
from functools import partial
from itertools import pairwise
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.waiting import WAIT_S

from streamapp.channel import Channel, Subscriber
from streamapp.errors import Cancelled, ErrorReport, StreamAppError
from streamapp.events import ATTEMPT, Event, Preview, Progress, to_event
from streamapp.settings import Settings

Advance = Callable[[float], None]
Interrupting = Callable[[Callable[[], None]], Event]
STOPPED = ErrorReport(499, "cancelled", "the job was cancelled")
BROKEN = ErrorReport(500, "endpoint_failed", "it broke")


def channel_with(*, awaits_owner: bool = False, **bounds: Any) -> Channel:
    return Channel(Settings(**bounds), awaits_owner=awaits_owner)


def put(channel: Channel, *values: Any, waits: bool = False) -> None:
    """Emit, as it may be done on the loop: without waiting."""
    for value in values:
        channel.emit(to_event(value), waits=waits)


def numbers(events: list[Event]) -> list[int]:
    return [event.n for event in events]


def payloads(events: list[Event]) -> list[Any]:
    return [event.json() for event in events]


class Producer(threading.Thread):
    """Run `work` in a thread and keep what it raised."""

    def __init__(self, work: Callable[[], Any]) -> None:
        super().__init__(daemon=True)
        self.work = work
        self.raised: BaseException | None = None
        self.start()

    def run(self) -> None:
        try:
            self.work()
        except BaseException as error:
            self.raised = error

    @property
    def waits(self) -> bool:
        """Say whether the thread is inside `Condition.wait`."""
        stack = traceback.walk_stack(sys._current_frames().get(self.ident or 0))
        return any(frame.f_code is threading.Condition.wait.__code__ for frame, _ in stack)


async def until(condition: Callable[[], bool]) -> None:
    for _ in range(int(WAIT_S / 0.001)):
        if condition():
            return
        await asyncio.sleep(0.001)
    raise AssertionError("it did not happen")


async def asleep(reader: Subscriber, deliver: Callable[[list[Event]], bool] | None = None) -> "asyncio.Task[bool]":
    """Return a task in which the reader sleeps."""
    task = asyncio.create_task(reader.wait(WAIT_S, deliver))
    await asyncio.sleep(0)
    return task


def count_wake_ups(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Return the list of what comes to the running loop from other threads."""
    loop, calls = asyncio.get_running_loop(), []
    call_soon_threadsafe = loop.call_soon_threadsafe

    def counted(*args: Any, **kwargs: Any) -> Any:
        calls.append(args)
        return call_soon_threadsafe(*args, **kwargs)

    monkeypatch.setattr(loop, "call_soon_threadsafe", counted)
    return calls


# The log


async def test_ids_rise_from_one() -> None:
    channel = channel_with()
    reader = channel.subscribe()
    put(channel, "a", Preview({}), "b")
    assert numbers(reader.take()) == [1, 2, 3]
    assert channel.last_n == 3


async def test_a_newer_preview_replaces_an_unread_one_whoever_has_read_it() -> None:
    channel = channel_with()
    fast, slow = channel.subscribe(), channel.subscribe()
    put(channel, Preview({"step": 1}))
    assert payloads(fast.take()) == [{"step": 1}]
    put(channel, Preview({"step": 2}))
    assert payloads(slow.take()) == payloads(fast.take()) == [{"step": 2}]
    assert channel.statistics().replaced == 1


async def test_progress_and_each_key_of_previews_have_a_slot_of_their_own() -> None:
    channel = channel_with()
    reader = channel.subscribe()
    put(channel, Preview({}, key="a"), Preview({}, key="b"), Progress(1, 2), Preview({}, key="a"), Progress(2, 2))
    assert numbers(reader.take()) == [2, 4, 5]


async def test_a_reader_takes_all_that_is_new_in_order_once() -> None:
    channel = channel_with()
    reader = channel.subscribe()
    put(channel, "a", Preview({}, key="x"), "b", Progress(1), "c")
    assert numbers(reader.take()) == [1, 2, 3, 4, 5]
    assert reader.take() == []


async def test_lasting_events_outlive_the_previews_between_them() -> None:
    channel = channel_with()
    reader = channel.subscribe()
    for step in range(100):
        put(channel, Preview({"step": step}), step)
    events = reader.take()
    assert payloads([event for event in events if event.kind == "output"]) == list(range(100))
    assert numbers(events)[-2:] == [199, 200]


async def test_events_of_several_threads_are_all_there_and_each_threads_in_order() -> None:
    channel = channel_with(ahead_events=100)
    reader = channel.subscribe(is_owner=True)

    def work(name: int) -> None:
        for n in range(500):
            channel.emit(to_event([name, n]))

    for name in range(4):
        Producer(partial(work, name))
    taken: list[Event] = []
    while len(taken) < 2000:
        assert await reader.wait(WAIT_S)
        taken += reader.take()
    assert numbers(taken) == list(range(1, 2001))
    assert all([n for thread, n in payloads(taken) if thread == name] == list(range(500)) for name in range(4))


async def test_the_last_output_is_the_result() -> None:
    channel = channel_with(behind_events=0)
    assert channel.last_output is None
    put(channel, "a", Preview({}))
    channel.finish(to_event("b"))
    assert channel.last_output is not None
    assert channel.last_output.json() == "b"


def test_statistics_describe_the_channel() -> None:
    async def main() -> None:
        channel = channel_with()
        channel.subscribe(is_owner=True)
        put(channel, "ab", "cd")
        assert channel.kept_bytes == 8
        put(channel, Preview({}))
        assert channel.statistics() == (3, 0, 2, 10, 2, 1)
        assert channel.kept_bytes == 10

    asyncio.run(main())


def test_a_finalizer_that_interrupts_the_channel_cannot_emit(interrupted_by: Interrupting) -> None:
    channel, held = channel_with(), []

    def finalize() -> None:
        held.append(channel.is_held_here)
        with pytest.raises(StreamAppError, match="a finalizer cannot emit"):
            channel.emit(to_event("late"))

    channel.emit(interrupted_by(finalize))
    assert all(held)
    assert (channel.is_held_here, channel.last_n) == (False, 1)


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


# The end


@pytest.mark.parametrize(
    ("end", "kind"),
    [
        (lambda c: c.finish(data={"a": 1}), "done"),
        (lambda c: c.fail(BROKEN), "error"),
        (lambda c: c.cancel(STOPPED), "cancelled"),
    ],
)
async def test_exactly_one_terminal_event_ends_the_log(end: Callable[[Channel], bool], kind: str) -> None:
    channel = channel_with()
    reader = channel.subscribe()
    assert channel.terminal is None
    assert end(channel)
    assert not channel.finish()
    assert not channel.fail(BROKEN)
    assert not channel.cancel(STOPPED)
    assert [event.kind for event in reader.take()] == [kind]
    assert channel.terminal is not None
    assert channel.terminal.kind == kind


async def test_the_last_output_comes_before_the_end() -> None:
    channel = channel_with()
    reader = channel.subscribe()
    channel.finish(to_event("result"))
    assert [event.kind for event in reader.take()] == ["output", "done"]


def test_of_a_cancel_and_a_finish_at_once_the_first_wins() -> None:
    for _ in range(100):
        channel = channel_with()
        together = threading.Barrier(2)
        won: list[str] = []

        def race(
            name: str, end: Callable[[], bool], together: threading.Barrier = together, won: list[str] = won
        ) -> None:
            together.wait(WAIT_S)
            if end():
                won.append(name)

        cancelling = Producer(partial(race, "cancelled", partial(channel.cancel, STOPPED)))
        race("done", channel.finish)
        cancelling.join(WAIT_S)
        endings = [event.kind for event in channel.events()]
        assert endings == won
        assert len(endings) == 1


def test_emit_after_the_end_raises_cancelled() -> None:
    channel = channel_with()
    channel.check()
    channel.finish()
    with pytest.raises(Cancelled):
        channel.emit(to_event("late"))
    with pytest.raises(Cancelled):
        channel.check()


def test_the_end_is_told_once_without_the_lock() -> None:
    told: list[bool] = []
    channel = Channel(Settings(), on_terminal=lambda: told.append(channel.statistics().emitted == 1))
    channel.finish()
    channel.cancel(STOPPED)
    assert told == [True]


def test_a_job_that_outlives_the_loop_can_still_end() -> None:
    channel = channel_with()

    async def main() -> None:
        channel.subscribe(is_owner=True)

    asyncio.run(main())
    put(channel, "a")
    assert channel.finish()


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


async def test_a_producer_that_has_just_given_way_only_wakes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("streamapp.channel._YIELD_EVERY_S", WAIT_S)
    channel, slept = channel_with(), []  # type: tuple[Channel, list[float]]
    put(channel, "a")
    reader = channel.subscribe(after=1)
    monkeypatch.setattr("streamapp.channel.time", SimpleNamespace(monotonic=time.monotonic, sleep=slept.append))
    task = await asleep(reader)
    Producer(lambda: put(channel, "b", waits=True)).join(WAIT_S)
    assert await task
    assert slept == []


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


async def test_an_async_producer_wakes_without_a_detour(monkeypatch: pytest.MonkeyPatch) -> None:
    channel = channel_with()
    task = await asleep(channel.subscribe())
    calls = count_wake_ups(monkeypatch)
    for n in range(100):
        await channel.aemit(to_event(n))
    assert await task
    assert calls == []


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


# The first event: the producer's second would keep the loop from the processor that it needs to send it


async def test_a_producer_goes_on_when_its_first_event_is_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("streamapp.channel._FIRST_SENT_S", WAIT_S)
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


async def test_a_producer_goes_on_when_its_first_event_is_delivered(
    monkeypatch: pytest.MonkeyPatch, advance: Advance
) -> None:
    monkeypatch.setattr("streamapp.channel._FIRST_SENT_S", WAIT_S)
    channel, delivered = channel_with(), []  # type: tuple[Channel, list[Any]]
    task = await asleep(channel.subscribe(is_owner=True), into(delivered))
    advance(1)
    producer = Producer(lambda: put(channel, "a", "b", waits=True))
    await asyncio.to_thread(producer.join, WAIT_S / 2)
    assert channel.last_n == 2
    assert delivered[0] == "a"
    task.cancel()


async def test_a_producer_waits_for_its_first_reader_only_a_moment() -> None:
    channel = channel_with()
    channel.subscribe(is_owner=True)
    await asyncio.to_thread(put, channel, "a", "b", waits=True)
    assert channel.last_n == 2


# A reader that falls behind takes in bulk


@pytest.fixture
async def resting(monkeypatch: pytest.MonkeyPatch) -> "tuple[Channel, Subscriber, asyncio.Task[bool]]":
    """Return an owner that has taken in bulk and lets the next events pile up, until something ends that."""
    monkeypatch.setattr("streamapp.channel._REST_S", WAIT_S)
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
    monkeypatch.setattr("streamapp.channel._REST_S", WAIT_S)
    channel = channel_with(ahead_events=40)
    reader = channel.subscribe(is_owner=True)
    put(channel, *range(40))
    assert len(reader.take()) == 40
    put(channel, *range(0 if is_over else 40))
    if is_over:
        channel.finish()
    task = await asleep(reader)
    assert task.done()


# Delivery to a reader that sleeps on


def into(delivered: list[Any], *, takes: bool = True) -> Callable[[list[Event]], bool]:
    """Return what takes events, or refuses them."""

    def deliver(events: list[Event]) -> bool:
        delivered.extend(payloads(events) if takes else [])
        return takes

    return deliver


async def test_lone_events_are_delivered_from_where_they_were_emitted(advance: Advance) -> None:
    channel, delivered = channel_with(ahead_events=1), []  # type: tuple[Channel, list[Any]]
    task = await asleep(channel.subscribe(is_owner=True), into(delivered))
    for n in range(3):
        advance(0.01)
        await channel.aemit(to_event(n))
        assert delivered == list(range(n + 1))
    assert not task.done()


async def test_events_in_quick_succession_are_left_to_the_readers_task(
    monkeypatch: pytest.MonkeyPatch, advance: Advance
) -> None:
    monkeypatch.setattr("streamapp.channel._DELIVER_EVERY_S", WAIT_S)
    channel, delivered = channel_with(), []  # type: tuple[Channel, list[Any]]
    reader = channel.subscribe()
    task = await asleep(reader, into(delivered))
    advance(2 * WAIT_S)
    for n in range(3):
        await channel.aemit(to_event(n))
    assert await task
    assert (delivered, payloads(reader.take())) == ([0], [1, 2])


async def test_an_event_that_comes_as_a_wait_runs_out_is_news(advance: Advance) -> None:
    channel = channel_with()
    reader = channel.subscribe()
    task = await asleep(reader, into([], takes=False))
    advance(WAIT_S)
    for _ in range(2):  # the timer runs, the reader's task not yet
        await asyncio.sleep(0)
    assert not task.done()
    assert channel.offer(to_event("a"))
    assert await task
    assert payloads(reader.take()) == ["a"]


async def test_each_of_several_sleeping_readers_gets_a_lone_event(advance: Advance) -> None:
    channel, first, second = channel_with(), [], []  # type: tuple[Channel, list[Any], list[Any]]
    tasks = [await asleep(channel.subscribe(), into(delivered)) for delivered in (first, second)]
    for n in range(3):
        advance(0.01)
        await channel.aemit(to_event(n))
    assert first == second == [0, 1, 2]
    assert not any(task.done() for task in tasks)


async def test_a_lone_event_is_kept_and_let_go_of_as_others_are(advance: Advance) -> None:
    channel, delivered = channel_with(behind_events=2, ahead_bytes=2), []  # type: tuple[Channel, list[Any]]
    await asleep(channel.subscribe(is_owner=True), into(delivered))
    for n in range(5):
        advance(0.01)
        assert channel.offer(to_event(n))
    assert delivered == [0, 1, 2, 3, 4]
    assert payloads(channel.events())[-2:] == [3, 4]
    assert channel.statistics().kept_events == 2


async def test_a_reader_that_sleeps_counts_as_far_behind_once_it_does_not_take(advance: Advance) -> None:
    """An event that cannot be written at once is left to the reader's task: what follows has no room before that."""
    channel = channel_with(ahead_events=1)
    reader = channel.subscribe(is_owner=True)
    task = await asleep(reader, into([], takes=False))
    advance(0.01)
    assert [channel.offer(to_event(name)) for name in "abc"] == [True, True, False]
    assert await task
    assert payloads(reader.take()) == ["a", "b"]


async def test_nothing_is_offered_where_it_would_have_to_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("streamapp.channel._YIELD_EVERY_S", WAIT_S)  # for the room, not for the loop
    channel = channel_with(ahead_events=1)
    reader = channel.subscribe(is_owner=True)
    assert [channel.offer(to_event(name)) for name in "abc"] == [True, False, False]
    assert payloads(reader.take()) == ["a"]
    assert channel.offer(to_event("d"))
    assert channel.last_n == 2


async def test_a_producer_that_awaits_nothing_else_owes_the_loop_a_turn(
    monkeypatch: pytest.MonkeyPatch, advance: Advance
) -> None:
    monkeypatch.setattr("streamapp.channel._YIELD_EVERY_S", WAIT_S)
    channel = channel_with()
    channel.subscribe()
    assert channel.offer(to_event("a"))
    advance(2 * WAIT_S)
    assert not channel.offer(to_event("b"))
    turns: list[int] = []
    asyncio.get_running_loop().call_soon(turns.append, channel.last_n)
    await channel.aemit(to_event("b"))
    assert (turns, channel.last_n) == ([1], 2)
    assert channel.offer(to_event("c"))


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
        assert channel.offer(to_event(name))
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


STEPS = st.one_of(
    st.sampled_from(["output", "preview a", "preview b", "progress", "subscribe", "own"]),
    st.tuples(st.sampled_from(["take", "resume", "close"]), st.integers(0, 5)),
)


class Model:
    """Play steps on a channel and check every reader against a list of all that was ever emitted."""

    def __init__(self, ahead: int, behind: int) -> None:
        self.channel = channel_with(ahead_events=ahead, behind_events=behind)
        self.ahead, self.most = ahead, ahead + max(behind, 1)
        self.lasting: list[int] = []
        self.slots: dict[str, int] = {}
        self.readers: list[Subscriber] = []
        self.owner: Subscriber | None = None

    def play(self, step: Any) -> None:
        match step:
            case "subscribe" | "own":
                self.subscribe(0, is_owner=step == "own")
            case "output":
                self.output()
            case str():
                value = Progress(1) if step == "progress" else Preview({}, key=step[-1])
                put(self.channel, value)
                self.slots[step] = self.channel.last_n
            case action, number if self.readers:
                reader = self.readers[number % len(self.readers)]
                if action == "take":
                    self.take(reader)
                else:
                    reader.close()
                    self.readers.remove(reader)
                if action == "resume":
                    self.subscribe(reader.n, is_owner=reader is self.owner)
        assert self.channel.statistics().kept_events <= self.most

    def output(self) -> None:
        if self.owner is None or self.channel.statistics().ahead_events < self.ahead:
            put(self.channel, "x")
            self.lasting.append(self.channel.last_n)

    def subscribe(self, after: int, *, is_owner: bool) -> None:
        reader = self.channel.subscribe(after=after, is_owner=is_owner)
        self.readers.append(reader)
        if is_owner:
            self.owner = reader
            self.take(reader)  # from here on it misses nothing

    def take(self, reader: Subscriber) -> None:
        position = reader.n
        expected = [n for n in self.lasting if n > position]
        events = reader.take()
        lagged = [event.json()["skipped"] for event in events if event.kind == "lagged"]
        got = [event.n for event in events if event.kind == "output"]
        missed = len(expected) - len(got)
        assert got == expected[missed:]
        assert (lagged[0] >= missed > 0) if lagged else missed == 0
        assert [e.n for e in events if e.kind in ("preview", "progress")] == sorted(
            n for n in self.slots.values() if n > position
        )
        assert all(a < b for a, b in pairwise(numbers(events)))


@settings(deadline=None, max_examples=200, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(STEPS, max_size=60), st.integers(1, 4), st.integers(0, 4))
def test_any_interleaving_shows_every_reader_every_lasting_event_once_in_order(
    steps: list[Any], ahead: int, behind: int
) -> None:
    async def main() -> None:
        model = Model(ahead, behind)
        for step in steps:
            model.play(step)
        for reader in model.readers:
            model.take(reader)

    asyncio.run(main())


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


async def test_several_async_producers_wait_and_lose_nothing() -> None:
    channel = channel_with(ahead_events=2)
    reader = channel.subscribe(is_owner=True)

    async def work(name: int) -> None:
        for n in range(10):
            await channel.aemit(to_event([name, n]))

    tasks = [asyncio.create_task(work(name)) for name in range(5)]
    taken: list[Any] = []
    while len(taken) < 50:
        assert await reader.wait(WAIT_S)
        assert channel.statistics().ahead_events <= 2
        taken += payloads(reader.take())
    await asyncio.gather(*tasks)
    assert all([n for task, n in taken if task == name] == list(range(10)) for name in range(5))


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


async def test_a_turn_that_another_thread_has_given_the_loop_meanwhile_is_not_waited_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    channel, now = channel_with(), time.monotonic()
    clock = iter([now + 1])  # as the event is offered the loop is due, and then no more
    monkeypatch.setattr("streamapp.channel.time", SimpleNamespace(monotonic=lambda: next(clock, now)))
    await asyncio.wait_for(channel.aemit(to_event("a")), WAIT_S)
    assert channel.last_n == 1


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


async def test_an_end_that_comes_just_before_an_async_producer_waits_is_not_missed() -> None:
    class Ending(Channel):
        def offer(self, event: Event) -> bool:
            return super().offer(event) or not self.finish()

    channel = Ending(Settings(ahead_events=1), awaits_owner=True)
    await channel.aemit(to_event("a"))
    with pytest.raises(Cancelled):
        await asyncio.wait_for(channel.aemit(to_event("b")), WAIT_S)


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


async def test_of_several_producers_that_wait_all_go_on_when_the_budget_is_spent(advance: Advance) -> None:
    """The budget is the job's, not each producer's."""
    channel = channel_with(ahead_events=1, send_timeout_s=30)
    owner = channel.subscribe(is_owner=True)
    put(channel, "a")
    in_thread = Producer(lambda: put(channel, "b", waits=True))
    await until(lambda: in_thread.waits)
    on_loop = asyncio.create_task(channel.aemit(to_event("c")))
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


async def test_a_line_is_left_out_where_the_owner_is_far_behind() -> None:
    channel = channel_with(ahead_events=1, behind_events=2)
    owner = channel.subscribe(is_owner=True)
    assert [channel.add_line(to_event(n)) for n in range(4)] == [True, True, False, False]
    assert payloads(owner.take()) == [0, 1]
    assert channel.add_line(to_event("there is room again"))
    channel.cancel(STOPPED)
    with pytest.raises(Cancelled):
        channel.add_line(to_event("late"))


def test_a_line_is_left_out_of_a_full_log_that_has_ended_as_well() -> None:
    channel = channel_with(awaits_owner=True, ahead_events=1, behind_events=0)
    assert channel.add_line(to_event(1))
    assert not channel.add_line(to_event(2))


def test_readers_hear_of_the_end_whatever_else_is_told_of_it() -> None:
    def fail() -> None:
        raise ValueError("no")

    channel = Channel(Settings(), on_terminal=fail)
    with pytest.raises(ValueError, match="no"):
        channel.finish()
    assert channel.terminal is not None


# Bounds behind: what is kept for resume


@pytest.mark.parametrize("bounds", [{"behind_events": 3}, {"behind_bytes": 9}])
async def test_of_taken_events_the_newest_are_kept(bounds: dict[str, Any]) -> None:
    channel = channel_with(**bounds)
    owner = channel.subscribe(is_owner=True)
    put(channel, *"abcde")
    assert numbers(channel.events()) == [1, 2, 3, 4, 5]  # not taken: not trimmed
    owner.take()
    assert numbers(channel.events()) == [3, 4, 5]


@pytest.mark.parametrize("bounds", [{"behind_events": 0}, {"behind_bytes": 0}])
async def test_the_newest_event_the_result_and_the_end_are_kept_in_any_case(bounds: dict[str, Any]) -> None:
    channel = channel_with(**bounds)
    put(channel, "a", "b")
    assert (payloads(channel.events()), channel.trimmed_n) == (["b"], 1)
    channel.finish(to_event("c"))
    reader = channel.subscribe()
    assert [event.kind for event in reader.take()] == ["lagged", "output", "output", "done"]
    assert numbers(channel.subscribe(after=2).take()) == [3, 4]


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


async def test_the_owner_counts_as_there_from_its_coming_to_its_leaving() -> None:
    channel = Channel(Settings(), awaits_owner=True)
    assert not channel.has_reading_owner
    owner = channel.subscribe(is_owner=True)
    assert channel.has_reading_owner
    owner.close()
    assert not channel.has_reading_owner


# The start of an attempt


def names(events: list[Event]) -> list[str]:
    return [event.name for event in events]


async def test_the_start_is_heard_by_those_who_ask_and_by_nobody_else() -> None:
    channel = channel_with(awaits_owner=True, ahead_events=1)
    before, hearing = channel.subscribe(is_owner=True), channel.subscribe(hears_start=True)
    sleeping, listening = await asleep(before), await asleep(hearing)
    channel.start()
    assert await listening
    assert names(hearing.take()) == ["started"]
    assert not sleeping.done()
    assert channel.offer(to_event("a"))  # the start did not use up what the owner may be behind
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


async def test_the_expected_owner_is_not_behind_by_the_start() -> None:
    channel = channel_with(awaits_owner=True, ahead_events=1)
    channel.start()
    assert channel.offer(to_event("a"))
    assert not channel.offer(to_event("b"))


def test_a_log_that_has_ended_is_not_begun() -> None:
    channel = channel_with()
    channel.cancel(STOPPED)
    with pytest.raises(Cancelled):
        channel.start()


async def test_a_stream_goes_on_into_the_next_attempt() -> None:
    channel = channel_with()
    reader = channel.subscribe()
    channel.start()
    put(channel, "a", Preview({"step": 1}), "b")
    channel.start(2)
    put(channel, "c")
    assert payloads(reader.take()) == ["a", "b", {"attempt": 2}, "c"]
    assert numbers(channel.events()) == [1, 2, 4, ATTEMPT + 1, ATTEMPT + 2]
    assert channel.attempt == 2
    resumed = channel.subscribe(after=2)
    assert names(resumed.take()) == ["output", "restarted", "output"]


def test_what_an_attempt_that_is_lost_has_brought_is_no_result() -> None:
    channel = channel_with()
    channel.start()
    put(channel, "a")
    channel.start(2)
    assert channel.last_output is None
    put(channel, "b")
    assert channel.last_output is not None and channel.last_output.json() == "b"


async def test_a_preview_of_an_attempt_that_is_lost_is_not_shown_and_the_next_is_wanted() -> None:
    channel = channel_with()
    reader = channel.subscribe()
    channel.start()
    put(channel, Preview({"step": 1}))
    assert not channel.wants_preview()
    channel.start(2)
    assert names(reader.take()) == ["restarted"]
    assert channel.wants_preview()


async def test_a_sleeping_reader_is_woken_by_a_restart_and_gets_it_by_its_task() -> None:
    channel, delivered = channel_with(), []  # type: tuple[Channel, list[Any]]
    reader = channel.subscribe()
    task = await asleep(reader, into(delivered))
    channel.start()
    channel.start(2)
    assert await task
    assert (delivered, names(reader.take())) == ([], ["restarted"])


# Mirrors of a log in another process


def numbered(value: Any, n: int) -> Event:
    event = value if isinstance(value, Event) else to_event(value)
    event.n = n
    return event


async def test_a_mirror_keeps_the_numbers_and_leaves_out_what_came_before() -> None:
    channel = channel_with()
    reader = channel.subscribe()
    task = await asleep(reader)
    events = [
        numbered(Event("started", b"{}"), 1),
        numbered("a", 2),
        numbered(Preview({"step": 1}), 5),
        numbered("b", 7),
    ]
    assert channel.take_in(events)
    assert channel.take_in(events[1:])
    assert await task
    assert numbers(reader.take()) == [2, 5, 7]
    channel.cancel(STOPPED)  # the server's own events take the next number
    assert numbers(channel.events(after=7)) == [8]
    with pytest.raises(Cancelled):
        channel.take_in([numbered("late", 9)])


async def test_a_mirror_goes_on_into_the_next_attempt() -> None:
    channel = channel_with()
    reader = channel.subscribe()
    channel.take_in([numbered(Event("started", b"{}"), 1), numbered("a", 2)])
    channel.take_in([numbered(Event("restarted", b"{}"), ATTEMPT + 1), numbered("b", ATTEMPT + 2)])
    assert channel.take_in([numbered("zombie", 3)])
    assert numbers(reader.take()) == [2, ATTEMPT + 1, ATTEMPT + 2]
    assert channel.last_output is not None and channel.last_output.json() == "b"


async def test_a_mirror_takes_nothing_in_while_the_owner_is_far_behind() -> None:
    channel = channel_with(ahead_events=2)
    owner = channel.subscribe(is_owner=True)
    assert channel.take_in([numbered("a", 1), numbered("b", 2)])
    assert not channel.take_in([numbered("c", 3)])
    waiting = asyncio.create_task(channel.room())
    await asyncio.sleep(0)
    assert not waiting.done()
    assert payloads(owner.take()) == ["a", "b"]
    await waiting
    assert channel.take_in([numbered("c", 3)])
    await channel.room()  # there is some: it does not wait


async def test_who_waits_for_room_hears_of_the_end() -> None:
    channel = channel_with(ahead_events=1)
    channel.subscribe(is_owner=True)
    put(channel, "a")
    waiting = asyncio.create_task(channel.room())
    await asyncio.sleep(0)
    channel.cancel(STOPPED)
    with pytest.raises(Cancelled):
        await waiting


async def test_a_mirror_without_an_owner_is_trimmed() -> None:
    channel = channel_with(behind_events=2)
    channel.take_in([numbered(n, n) for n in range(1, 9)])
    assert numbers(channel.events()) == [7, 8]


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


async def test_a_store_that_is_far_behind_holds_a_producer_whose_owner_sleeps(
    monkeypatch: pytest.MonkeyPatch, advance: Advance
) -> None:
    monkeypatch.setattr("streamapp.channel._YIELD_EVERY_S", WAIT_S)  # for the room, not for the loop
    channel, delivered = channel_with(ahead_events=1, behind_events=2), []  # type: tuple[Channel, list[Any]]
    await asleep(channel.subscribe(is_owner=True), into(delivered))
    store = channel.subscribe(holds=True)
    for n in range(2):
        advance(0.01)
        assert channel.offer(to_event(n))
    assert not channel.offer(to_event(2))
    assert channel.offer(to_event(Progress(1)))  # what is replaceable waits for nobody
    store.settle(2)
    advance(0.01)
    assert channel.offer(to_event(2))
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
    assert not channel.offer(to_event("y"))
    store.settle(channel.last_n)
    put(channel, "z")
    store.settle(channel.last_n)
    assert channel.offer(to_event("y"))


async def test_a_store_does_not_count_as_a_reader() -> None:
    channel = channel_with()
    store = channel.subscribe(is_counted=False)
    assert not channel.has_readers
    reader = channel.subscribe()
    assert channel.has_readers
    reader.close()
    assert not channel.has_readers
    store.close()


# Demand, listened to


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
    assert channel.offer(to_event(Preview({"step": 1})))
    assert (delivered, told) == ([{"step": 1}], [True, True])
    task.cancel()
