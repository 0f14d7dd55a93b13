"""Sessions beyond their sockets: who holds them, how long they wait, and what their inputs take."""

import asyncio
import gc

import pytest
from tests.waiting import until

from streamapp.budget import Budget
from streamapp.errors import PayloadTooLarge
from streamapp.jobs.inbox import Inbox
from streamapp.jobs.job import Job, JobRequest, new_job_id
from streamapp.settings import Settings
from streamapp.sockets.live import LiveSession, LiveSessions, Opening


class Socket:
    def __init__(self) -> None:
        self.taken_over = 0

    def be_taken_over(self) -> None:
        self.taken_over += 1


def job() -> Job:
    return Job(JobRequest(id=new_job_id(), app="app", endpoint="/rt"), Settings(), inbox=Inbox())


def session(
    budget: Budget | None = None, *, resume_s: float = 0, buffering: int | None = None, key: str | None = None
) -> LiveSession:
    return LiveSession(Inbox(buffering=buffering), budget or Budget(1000), "somebody", resume_s=resume_s, key=key)


async def test_a_session_ends_with_its_socket() -> None:
    live, of, socket = session(), job(), Socket()
    live.enter(socket.be_taken_over)
    live.leave(socket.be_taken_over, of)
    assert of.status == "cancelled"


async def test_a_session_waits_for_the_next_socket() -> None:
    live, of, first, second = session(resume_s=60), job(), Socket(), Socket()
    live.enter(first.be_taken_over)
    live.leave(first.be_taken_over, of)
    live.enter(second.be_taken_over)
    assert (of.status, first.taken_over) == ("queued", 0)
    live.leave(second.be_taken_over, of)
    live.end()


async def test_for_a_socket_that_has_come_it_waits_no_more() -> None:
    live, of, first, second = session(resume_s=0.001), job(), Socket(), Socket()
    live.enter(first.be_taken_over)
    live.leave(first.be_taken_over, of)
    live.enter(second.be_taken_over)
    later = asyncio.Event()
    asyncio.get_running_loop().call_later(0.01, later.set)  # behind the window's end, as timers come in order
    await later.wait()
    assert not of.is_over


async def test_it_waits_no_longer_than_its_window() -> None:
    live, of, socket = session(resume_s=0.001), job(), Socket()
    live.enter(socket.be_taken_over)
    live.leave(socket.be_taken_over, of)
    ended = asyncio.Event()
    of.on_ended.append(lambda job: ended.set())
    await ended.wait()
    assert of.status == "cancelled"


async def test_a_newer_socket_takes_a_session_over_and_the_older_ones_leaving_is_nothing() -> None:
    live, of, old, new = session(), job(), Socket(), Socket()
    live.enter(old.be_taken_over)
    live.enter(new.be_taken_over)
    assert (old.taken_over, new.taken_over) == (1, 0)
    live.leave(old.be_taken_over, of)
    assert not of.is_over


async def test_of_a_job_that_is_over_nothing_is_waited_for() -> None:
    live, of, socket = session(resume_s=60), job(), Socket()
    of.succeed(None)
    live.enter(socket.be_taken_over)
    live.leave(socket.be_taken_over, of)
    assert of.status == "succeeded"


async def test_the_key_opens_a_session_and_nothing_else_does() -> None:
    sessions, live, of = LiveSessions(), session(), job()
    sessions.add(of, live)
    assert sessions.find(of, live.key) is live
    assert [sessions.find(of, key) for key in ("", live.key[:-1], "é", "\ud800")] == [None] * 4
    assert sessions.find(job(), live.key) is sessions.find(None, live.key) is None


async def test_keys_are_never_the_same() -> None:
    assert len({session().key for _ in range(100)}) == 100


async def test_a_session_is_forgotten_with_its_job() -> None:
    sessions, of = LiveSessions(), job()
    sessions.add(of, session())
    del of
    gc.collect()
    assert len(sessions._of) == len(sessions._opened) == 0


KEY = "0123456789abcdef" * 2
OPENING = Opening("", KEY, "app", "/rt")


async def test_who_opens_with_the_same_key_again_finds_the_session() -> None:
    sessions, of, live = LiveSessions(), job(), session(key=KEY)
    assert sessions.opened(OPENING) is None
    sessions.add(of, live)
    assert sessions.opened(OPENING) is of
    assert live.key == KEY


@pytest.mark.parametrize("other", [{"caller": "you"}, {"key": KEY[::-1]}, {"app": "other"}, {"path": "/other"}])
async def test_a_key_of_somebody_elses_or_at_another_path_is_as_one_that_is_free(other: dict[str, str]) -> None:
    sessions, of = LiveSessions(), job()
    sessions.add(of, session(key=KEY))
    assert sessions.opened(OPENING._replace(**other)) is None


@pytest.mark.parametrize("resume_s", [0, 0.001])
async def test_a_session_that_was_lost_before_an_input_came_is_begun_anew(resume_s: float) -> None:
    sessions, of, live, socket = LiveSessions(), job(), session(resume_s=resume_s, key=KEY), Socket()
    sessions.add(of, live)
    ended = asyncio.Event()
    of.on_ended.append(lambda job: ended.set())
    live.enter(socket.be_taken_over)
    live.leave(socket.be_taken_over, of)
    await ended.wait()
    assert sessions.opened(OPENING) is None
    live.inbox.refuse()
    assert sessions.opened(OPENING) is of


async def test_a_session_that_ended_otherwise_is_found() -> None:
    sessions, of, live, socket = LiveSessions(), job(), session(key=KEY), Socket()
    sessions.add(of, live)
    live.enter(socket.be_taken_over)
    of.cancel()
    live.leave(socket.be_taken_over, of)
    assert sessions.opened(OPENING) is of


async def test_of_those_that_open_with_one_key_at_once_one_has_the_turn() -> None:
    sessions = LiveSessions()
    async with sessions.turn(OPENING):
        assert sessions.turn(OPENING).locked()
        assert not sessions.turn(OPENING._replace(path="/other")).locked()
    gc.collect()
    assert len(sessions._turns) == 0


async def test_an_input_counts_until_it_is_done() -> None:
    live = session(budget := Budget(1000))
    for _ in range(3):
        live.take(100)
        live.put("input", 100)
    live.inbox.take()
    live.settle()
    assert budget.used == 300  # one of them is in a turn
    live.inbox.settle()
    live.inbox.take()
    live.settle()
    assert budget.used == 200
    live.inbox.take()
    live.inbox.settle()
    live.settle()
    assert budget.used == 0


async def test_an_input_that_a_newer_one_has_replaced_counts_no_more() -> None:
    live = session(budget := Budget(1000), buffering=1)
    for _ in range(10):
        live.take(100)
        live.put("input", 100)
    live.settle()
    assert budget.used == 200


async def test_an_input_that_is_done_counts_no_more_though_nothing_else_is_said() -> None:
    live = session(budget := Budget(1000))
    live.take(100)
    live.put("input", 100)
    live.inbox.take()
    await asyncio.to_thread(live.inbox.settle)
    await asyncio.to_thread(until, lambda: budget.used == 0)
    assert live._settling is None  # and nobody looks again


async def test_what_is_not_put_is_given_back() -> None:
    live = session(budget := Budget(1000))
    live.take(100)
    live.give_back(100)
    assert budget.used == 0
    with pytest.raises(PayloadTooLarge):
        live.take(501)


async def test_at_the_end_all_is_given_back() -> None:
    live = session(budget := Budget(1000), resume_s=60)
    live.take(100)
    live.put("input", 100)
    live.end()
    assert budget.used == 0
    live.settle()
    live.give_back(100)
    assert budget.used == 0
