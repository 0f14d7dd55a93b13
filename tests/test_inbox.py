"""The inbox: a session's inputs, put in on the loop and taken by the session's code, wherever that runs."""

import asyncio
import threading
from collections.abc import Callable
from typing import Any

import pytest
from tests.waiting import WAIT_S

from streamapp.jobs.inbox import Inbox, Unread


def values(taken: list[Unread]) -> list[Any]:
    return [unread.value for unread in taken]


async def test_inputs_are_taken_one_by_one_in_their_order() -> None:
    inbox = Inbox()
    assert [inbox.put("a", 1), inbox.put("b", 2)] == [1, 2]
    assert inbox.take() == [Unread(1, "a", 1)]
    assert values(inbox.take()) == ["b"]
    assert inbox.take() == []


async def test_the_newest_win_where_only_so_many_are_kept() -> None:
    inbox = Inbox(buffering=2)
    for value in "abc":
        inbox.put(value)
    assert (inbox.received, inbox.unread, inbox.is_full) == (3, 2, False)
    assert [*values(inbox.take()), *values(inbox.take())] == ["b", "c"]


async def test_one_that_is_refused_has_a_number_all_the_same() -> None:
    inbox = Inbox()
    assert (inbox.put("a"), inbox.refuse(), inbox.put("b")) == (1, 2, 3)
    assert inbox.received == 3


@pytest.mark.parametrize("bounds", [{"max_items": 2}, {"max_bytes": 20}])
async def test_where_none_is_dropped_it_is_full_and_there_is_room_when_one_was_taken(bounds: dict[str, int]) -> None:
    inbox = Inbox(**bounds)
    inbox.put("a", 10)
    assert not inbox.is_full
    await inbox.room()  # at once
    inbox.put("b", 10)
    waiting = asyncio.ensure_future(inbox.room())
    await asyncio.sleep(0)
    assert inbox.is_full and not waiting.done()
    await asyncio.to_thread(inbox.take)
    async with asyncio.timeout(WAIT_S):
        await waiting


async def test_room_for_more_is_told_when_a_batch_was_taken() -> None:
    inbox = Inbox(max_items=2)
    inbox.put("a")
    taken = inbox.take()
    inbox.put("b")
    inbox.put("c")
    waiting = asyncio.ensure_future(inbox.room())
    await asyncio.sleep(0)
    inbox.extend(taken, 3, lambda first, following, count: True)
    async with asyncio.timeout(WAIT_S):
        await waiting
    assert values(taken) == ["a", "b", "c"]


async def test_a_batch_is_what_joins_its_first() -> None:
    inbox, asked = Inbox(), []

    def joins(first: str, following: str, count: int) -> bool:
        asked.append((first, following, count))
        return following != "c"

    for value in "abcd":
        inbox.put(value)
    taken = inbox.take()
    inbox.extend(taken, 4, joins)
    assert (values(taken), asked, inbox.unread) == (["a", "b"], [("a", "b", 1), ("a", "c", 2)], 2)


async def test_what_a_newer_one_has_replaced_while_it_was_asked_for_is_in_no_batch() -> None:
    inbox = Inbox(buffering=1)
    inbox.put("a")
    taken = inbox.take()
    inbox.put("b")

    def joins(first: str, following: str, count: int) -> bool:
        if following == "b":
            inbox.put("c")
        return True

    inbox.extend(taken, 3, joins)
    assert values(taken) == ["a", "c"]


async def test_it_is_idle_when_none_is_unread_or_in_a_turn() -> None:
    inbox = Inbox()
    assert inbox.is_idle
    inbox.put("a")
    assert not inbox.is_idle
    inbox.take()
    assert (inbox.is_idle, inbox.idle_s) == (False, 0)
    assert not inbox.settle()
    assert inbox.is_idle


async def test_what_is_unread_when_the_inputs_end_can_still_be_taken() -> None:
    inbox = Inbox()
    inbox.put("a")
    inbox.end()
    assert inbox.has_ended and inbox.settle()
    inbox.put("b")
    assert [inbox.take(), inbox.take()] == [[Unread(1, "a")], []]


async def test_a_closed_one_lets_go_of_what_is_unread() -> None:
    inbox = Inbox()
    inbox.put("a")
    inbox.close()
    assert (inbox.take(), inbox.has_ended) == ([], True)


async def test_whoever_is_to_run_is_told_of_inputs_and_of_their_end() -> None:
    inbox, told = Inbox(), []
    inbox.on_change = lambda: told.append(inbox.is_due)
    inbox.put("a")
    inbox.end()
    inbox.close()
    inbox.close()
    assert told == [True, True, True]


async def test_a_coroutine_waits_for_an_input() -> None:
    inbox = Inbox()
    waiting = asyncio.ensure_future(inbox.arrival())
    await asyncio.sleep(0)
    assert not waiting.done()
    inbox.put("a")
    async with asyncio.timeout(WAIT_S):
        await waiting


async def test_a_coroutine_that_gives_up_waiting_loses_no_input() -> None:
    inbox = Inbox()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0):
            await inbox.arrival()
    inbox.put("a")
    assert values(inbox.take()) == ["a"]


async def test_an_end_from_another_thread_wakes_a_coroutine() -> None:
    inbox = Inbox()
    waiting = asyncio.ensure_future(inbox.arrival())
    await asyncio.sleep(0)
    await asyncio.to_thread(inbox.end)
    async with asyncio.timeout(WAIT_S):
        await waiting


async def test_a_coroutine_that_is_cancelled_just_when_an_input_comes_stays_cancelled() -> None:
    inbox = Inbox()
    waiting = asyncio.ensure_future(inbox.arrival())
    await asyncio.sleep(0)
    waiting.cancel()
    inbox.put("a")
    await asyncio.wait({waiting})
    assert waiting.cancelled()


class Ending(Inbox):
    """An inbox that ends in another thread just when its code begins to wait."""

    def settle(self) -> bool:
        is_due = super().settle()
        self.end()
        return is_due


async def test_a_coroutine_that_begins_to_wait_misses_no_end() -> None:
    async with asyncio.timeout(WAIT_S):
        await Ending().arrival()


async def test_a_thread_waits_for_an_input() -> None:
    inbox, reached = Inbox(), threading.Event()

    def take() -> list[Any]:
        reached.set()
        assert inbox.wait(WAIT_S)
        return values(inbox.take())

    waiting = asyncio.ensure_future(asyncio.to_thread(take))
    await asyncio.to_thread(reached.wait, WAIT_S)
    inbox.put("a")
    assert await waiting == ["a"]
    assert not inbox.wait(0)


async def test_the_inputs_end_when_none_came_for_too_long(advance: Callable[[float], None]) -> None:
    inbox = Inbox()
    inbox.put("a")
    inbox.end_when_idle(5)
    advance(20)
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert not inbox.has_ended
    inbox.take()
    inbox.settle()
    advance(20)
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert inbox.has_ended and inbox.has_timed_out


async def test_inputs_that_have_ended_do_not_time_out(advance: Callable[[float], None]) -> None:
    inbox = Inbox()
    inbox.end_when_idle(5)
    inbox.end()
    advance(20)
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert not inbox.has_timed_out
