"""The channel: one bounded log between the thread that emits and the readers on the loop."""

import asyncio
import threading
from collections.abc import Callable
from functools import partial
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.emitting import (
    STOPPED,
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

from streamapp.errors import Cancelled, ErrorReport, StreamAppError
from streamapp.jobs.channel import Channel
from streamapp.jobs.events import ATTEMPT, Event, Preview, Progress, to_event
from streamapp.jobs.subscriber import Subscriber
from streamapp.settings import Settings

Interrupting = Callable[[Callable[[], None]], Event]
BROKEN = ErrorReport(500, "endpoint_failed", "it broke")


# The log


def test_the_newest_progress_is_told_at_any_time() -> None:
    channel = Channel(Settings())
    assert channel.newest_progress is None
    channel.emit(to_event(Progress(1, 2)))
    assert channel.newest_progress is not None
    assert channel.newest_progress.json() == {"step": 1, "total": 2}


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


def test_readers_hear_of_the_end_whatever_else_is_told_of_it() -> None:
    def fail() -> None:
        raise ValueError("no")

    channel = Channel(Settings(), on_terminal=fail)
    with pytest.raises(ValueError, match="no"):
        channel.finish()
    assert channel.terminal is not None


@pytest.mark.parametrize("bounds", [{"behind_events": 0}, {"behind_bytes": 0}])
async def test_the_newest_event_the_result_and_the_end_are_kept_in_any_case(bounds: dict[str, Any]) -> None:
    channel = channel_with(**bounds)
    put(channel, "a", "b")
    assert (payloads(channel.events()), channel.trimmed_n) == (["b"], 1)
    channel.finish(to_event("c"))
    reader = channel.subscribe()
    assert [event.kind for event in reader.take()] == ["lagged", "output", "output", "done"]
    assert numbers(channel.subscribe(after=2).take()) == [3, 4]


# Threads emit


async def test_what_is_appended_wakes_its_readers_later_and_waits_for_none() -> None:
    channel = channel_with(ahead_events=1)
    reader = channel.subscribe(is_owner=True)
    task = await asleep(reader)
    woken = [channel.append(to_event(n)) for n in range(3)]
    assert woken == [[reader], [], []]
    channel.wake(woken[0])
    assert await task
    assert payloads(reader.take()) == [0, 1, 2]
    channel.finish()
    with pytest.raises(Cancelled):
        channel.append(to_event(3))


async def test_what_a_thread_emits_wakes_a_sleeping_reader() -> None:
    channel = channel_with()
    task = await asleep(channel.subscribe())
    Producer(lambda: put(channel, "a", waits=True)).join(WAIT_S)
    assert await task


def test_what_a_poller_has_seen_it_does_not_see_again_and_it_counts_as_watching() -> None:
    channel = channel_with()
    put(channel, "a", "b")
    assert numbers(channel.events(after=1, shows_previews=True)) == [2]
    assert channel.wants_preview()


# The loop emits


async def test_an_async_producer_wakes_without_a_detour(monkeypatch: pytest.MonkeyPatch) -> None:
    channel = channel_with()
    task = await asleep(channel.subscribe())
    calls = count_wake_ups(monkeypatch)
    for n in range(100):
        await channel.aemit(to_event(n))
    assert await task
    assert calls == []


async def test_lone_events_are_delivered_from_where_they_were_emitted(advance: Advance) -> None:
    channel, delivered = channel_with(ahead_events=1), []  # type: tuple[Channel, list[Any]]
    task = await asleep(channel.subscribe(is_owner=True), into(delivered))
    for n in range(3):
        advance(0.01)
        await channel.aemit(to_event(n))
        assert delivered == list(range(n + 1))
    assert not task.done()


async def test_each_of_several_sleeping_readers_gets_a_lone_event(advance: Advance) -> None:
    channel, first, second = channel_with(), [], []  # type: tuple[Channel, list[Any], list[Any]]
    tasks = [await asleep(channel.subscribe(), into(delivered)) for delivered in (first, second)]
    for n in range(3):
        advance(0.01)
        await channel.aemit(to_event(n))
    assert first == second == [0, 1, 2]
    assert not any(task.done() for task in tasks)


async def test_nothing_is_emitted_at_once_where_it_would_have_to_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("streamapp.jobs.delivery._YIELD_EVERY_S", WAIT_S)  # for the room, not for the loop
    channel = channel_with(ahead_events=1)
    reader = channel.subscribe(is_owner=True)
    assert [channel.emit_at_once(to_event(name)) for name in "abc"] == [True, False, False]
    assert payloads(reader.take()) == ["a"]
    assert channel.emit_at_once(to_event("d"))
    assert channel.last_n == 2


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


async def test_an_end_that_comes_just_before_an_async_producer_waits_is_not_missed() -> None:
    class Ending(Channel):
        def emit_at_once(self, event: Event) -> bool:
            is_in = super().emit_at_once(event)
            # One that finds the log empty has been told that the loop is due a turn.
            return is_in or bool(self.last_n and not self.finish())

    channel = Ending(Settings(ahead_events=1), awaits_owner=True)
    await channel.aemit(to_event("a"))
    with pytest.raises(Cancelled):
        await asyncio.wait_for(channel.aemit(to_event("b")), WAIT_S)


async def test_after_the_end_nothing_is_emitted_at_once() -> None:
    channel = channel_with()
    await asleep(channel.subscribe())
    channel.cancel(STOPPED)
    with pytest.raises(Cancelled):
        for _ in range(2):  # the first may find that the loop is due a turn
            await channel.aemit(to_event("late"))


# Everything at once


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


# Lines


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


# Who is there


async def test_the_owner_counts_as_there_from_its_coming_to_its_leaving() -> None:
    channel = Channel(Settings(), awaits_owner=True)
    assert not channel.has_reading_owner
    owner = channel.subscribe(is_owner=True)
    assert channel.has_reading_owner
    owner.close()
    assert not channel.has_reading_owner


async def test_a_store_does_not_count_as_a_reader() -> None:
    channel = channel_with()
    store = channel.subscribe(is_counted=False)
    assert not channel.has_readers
    reader = channel.subscribe()
    assert channel.has_readers
    reader.close()
    assert not channel.has_readers
    store.close()


async def test_a_store_that_holds_the_log_is_not_overrun() -> None:
    channel = channel_with(behind_events=1, ahead_events=2)
    store = channel.subscribe(holds=True)
    put(channel, "a", "b")
    assert not channel.take_in([numbered("c", 3)])
    assert payloads(store.take()) == ["a", "b"]
    store.settle(2)
    assert channel.take_in([numbered("c", 3)])


async def test_demand_is_told_to_who_listens() -> None:
    channel = channel_with()
    told: list[bool] = []
    channel.listen_to_demand(told.append)
    channel.subscribe()
    assert told == [False, True]


# The start of an attempt


async def test_the_expected_owner_is_not_behind_by_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("streamapp.jobs.delivery._YIELD_EVERY_S", WAIT_S)  # for the owner, not for the loop
    channel = channel_with(awaits_owner=True, ahead_events=1)
    channel.start()
    assert channel.emit_at_once(to_event("a"))
    assert not channel.emit_at_once(to_event("b"))


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


@pytest.mark.parametrize(("output", "text"), [(None, "ab"), ("c", None)])
def test_an_end_without_a_last_output_bears_the_text_that_was_to_be_joined(output: Any, text: str | None) -> None:
    channel = Channel(Settings(), joins=True)
    put(channel, "a")
    put(channel, "b")
    channel.finish(None if output is None else to_event(output))
    assert channel.terminal is not None
    assert channel.terminal.text == text


def test_an_end_after_nothing_bears_an_empty_text() -> None:
    channel = Channel(Settings(), joins=True)
    channel.finish(to_event(None))
    assert channel.terminal is not None
    assert (channel.terminal.text, channel.events()[0].data) == ("", b"null")


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


async def test_who_waits_for_a_store_hears_of_the_end_at_once() -> None:
    channel = channel_with(ahead_events=1, behind_events=1)
    store = channel.subscribe(is_counted=False, holds=True)
    await channel.aemit(to_event(1))
    waiting = asyncio.create_task(channel.aemit(to_event(2)))
    await asyncio.sleep(0)
    assert not waiting.done()
    channel.cancel(STOPPED)
    with pytest.raises(Cancelled):
        await waiting  # not for the 30 s that a store has, which would fail the test
    store.close()


async def test_who_waits_for_room_hears_of_the_end() -> None:
    channel = channel_with(ahead_events=1)
    channel.subscribe(is_owner=True)
    put(channel, "a")
    waiting = asyncio.create_task(channel.room())
    await asyncio.sleep(0)
    channel.cancel(STOPPED)
    with pytest.raises(Cancelled):
        await waiting


async def test_who_pauses_goes_on_as_soon_as_the_log_ends() -> None:
    channel = channel_with()
    pausing = asyncio.create_task(channel.apause(10 * WAIT_S))
    producer = Producer(lambda: channel.pause(10 * WAIT_S))
    await until(lambda: producer.waits)
    channel.cancel(STOPPED)
    await asyncio.wait_for(pausing, WAIT_S)
    await asyncio.to_thread(producer.join, WAIT_S)
    assert type(producer.raised) is Cancelled


async def test_a_mirror_without_an_owner_is_trimmed() -> None:
    channel = channel_with(behind_events=2)
    channel.take_in([numbered(n, n) for n in range(1, 9)])
    assert numbers(channel.events()) == [7, 8]


async def test_a_mirror_ends_as_the_log_that_it_mirrors() -> None:
    channel = channel_with()
    assert channel.take_in([numbered("a", 1), numbered(Event("done", b"{}"), 5), numbered("late", 6)])
    assert channel.terminal is not None
    assert numbers(channel.events()) == [1, 5]


async def test_it_is_full_when_a_lasting_event_would_wait() -> None:
    channel = channel_with(ahead_events=1)
    channel.subscribe(is_owner=True)
    assert not channel.is_full
    put(channel, "a")
    assert channel.is_full


async def test_each_turn_of_a_session_has_the_whole_budget(advance: Advance) -> None:
    channel = channel_with(ahead_events=1, send_timeout_s=100)
    owner = channel.subscribe(is_owner=True)
    put(channel, "a")
    for _ in range(3):
        task = asyncio.create_task(channel.aemit(to_event("b")))
        await asyncio.sleep(0)
        advance(60)
        owner.take()
        await task
        channel.begin_turn()
    put(channel, "full")
    assert not owner.is_dropped and channel.is_full  # who has used it up is waited for no more
