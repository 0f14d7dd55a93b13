"""What is known of one worker elsewhere."""

import asyncio
from collections.abc import Callable

from tests.at_work import new
from tests.waiting import WAIT_S

from streamapp.jobs.events import Event
from streamapp.runpod.pods import PING_S, Lease, Pod, Take

Advance = Callable[[float], None]


async def test_who_asks_which_jobs_to_stop_hears_it_at_once() -> None:
    pod = Pod("a")
    poll = pod.open_stop_poll()
    assert not poll.told.done()
    pod.stop("job")
    assert (poll.ids, poll.told.done()) == (["job"], True)
    pod.stop("another")
    assert poll.ids == ["job", "another"]


async def test_who_asks_late_hears_what_was_to_be_told_before() -> None:
    pod = Pod("a")
    pod.stop("job")
    assert pod.open_stop_poll().ids == ["job"]
    assert pod.open_stop_poll().ids == []


async def test_all_who_share_an_id_hear_it() -> None:
    pod = Pod("a")
    polls = [pod.open_stop_poll(), pod.open_stop_poll()]
    pod.stop("job")
    assert [poll.ids for poll in polls] == [["job"], ["job"]]


async def test_what_an_answer_that_was_lost_has_told_the_next_one_tells() -> None:
    pod = Pod("a")
    poll = pod.open_stop_poll()
    pod.stop("job")
    pod.close_stop_poll(poll, is_answered=False)
    again = pod.open_stop_poll()
    assert again.ids == ["job"]
    pod.close_stop_poll(again, is_answered=True)
    assert pod.open_stop_poll().ids == []


async def test_a_job_is_named_once_and_again_only_after_a_while(advance: Advance) -> None:
    pod = Pod("a")
    polls = []
    for seconds in (0, 1, 60):
        advance(seconds)
        polls.append(pod.open_stop_poll())
        pod.stop("job")
    assert [poll.ids for poll in polls] == [["job", "job"], ["job"], ["job"]]


async def test_a_job_that_is_given_anew_is_not_stopped_by_a_word_about_the_run_before() -> None:
    pod, job = Pod("a"), new()
    pod.stop(job.id)
    pod.give(Lease(job, pod), 1)
    poll = pod.open_stop_poll()
    assert poll.ids == []
    pod.stop(job.id)
    assert poll.ids == [job.id]


async def test_the_next_is_who_has_the_fewest_jobs_then_who_has_waited_longest() -> None:
    busy, served, waits = Pod("busy"), Pod("served"), Pod("waits")
    busy.give(Lease(new(), busy), 1)
    served.turn = 2
    takes = [Take(pod, 1, patience_s=1) for pod in (busy, served, waits)]
    assert [take.pod.id for take in sorted(takes, key=lambda take: take.rank)] == ["waits", "served", "busy"]


async def test_a_question_for_jobs_is_answered_once() -> None:
    take = Take(Pod("a"), 1, patience_s=1)
    take.close()
    take.close()
    assert take.answered.done()


def test_only_who_has_sent_pings_is_silent_without_them(advance: Advance) -> None:
    with_pings, without = Pod("a"), Pod("b")
    with_pings.has_pinged = True
    now = with_pings.heard_at
    assert [pod.is_silent(now + 2 * PING_S) for pod in (with_pings, without)] == [False, False]
    assert [pod.is_silent(now + 4 * PING_S) for pod in (with_pings, without)] == [True, False]


async def test_a_job_that_was_handed_over_begins_once() -> None:
    lease = Lease(new(), Pod("a"))
    lease.begin()
    lease.begin()
    assert lease.job.status == "running"
    assert len(lease.job.channel.events()) == 1


async def test_who_is_called_has_returned_when_it_asks_anew_which_to_stop() -> None:
    pod = Pod("a")
    poll = pod.open_stop_poll()
    returned = pod.call()
    assert (poll.ids, poll.told.done(), returned.done()) == (["-"], True, False)
    pod.close_stop_poll(poll, is_answered=True)
    pod.open_stop_poll()
    assert returned.done()


async def test_who_asks_anew_late_may_be_another_process_than_the_one_that_has_the_job(advance: Advance) -> None:
    pod, job = Pod("a"), new()
    watched = []
    poll = pod.open_stop_poll()
    pod.give(lease := Lease(job, pod), 1)
    for seconds in (0, 2):
        pod.close_stop_poll(poll, is_answered=False)
        assert pod.has_hung_up
        advance(seconds)
        poll = pod.open_stop_poll()
        watched.append(lease.is_watched)
    assert (watched, pod.has_hung_up) == ([True, False], False)


async def test_outputs_are_counted_and_progress_is_none() -> None:
    lease = Lease(new(), Pod("a"))
    lease.note(Event("output", b"1"))
    lease.note(Event("progress", b"{}"))
    assert (lease.outputs_n, lease.is_watched) == (1, False)


async def test_what_a_lost_job_still_waits_to_emit_is_dropped() -> None:
    lease = Lease(new(), Pod("a"))
    waiting = asyncio.create_task(asyncio.sleep(WAIT_S))
    lease.waiting.add(waiting)
    lease.leave()
    await asyncio.wait([waiting])
    assert waiting.cancelled()


def test_who_stays_in_a_job_that_it_was_told_to_stop_is_stuck() -> None:
    pod = Pod("a")
    pod.give(lease := Lease(new(), pod), 1)
    now = lease.given_at
    assert not pod.is_stuck(now + 9, 5)
    lease.stopped_at = now
    assert [pod.is_stuck(now + seconds, 5) for seconds in (4, 6)] == [False, True]


async def test_of_jobs_to_stop_the_newest_thousand_are_kept() -> None:
    pod = Pod("a")
    for number in range(1500):
        pod.stop(str(number))
    assert pod.open_stop_poll().ids == [str(number) for number in range(500, 1500)]
    assert len(pod._told) == 1000
