"""Jobs go to workers elsewhere, come back from those that are lost, and end: the pool, without HTTP."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from tests.at_work import code, new, over
from tests.waiting import WAIT_S

import streamapp
from streamapp.errors import DefinitionError, Draining
from streamapp.jobs.events import to_event
from streamapp.jobs.job import Job
from streamapp.runpod.pods import PING_S, Pod, Take
from streamapp.runpod.pool import MOST_ATTEMPTS, Pool, pool_app, pool_of
from streamapp.runtime import Runtime, ServedApp, Workers, thread_and_tasks
from streamapp.settings import Settings

Advance = Callable[[float], None]


def made(served: ServedApp) -> Workers:
    return pool_of(served) or thread_and_tasks(served)


@asynccontextmanager
async def working(settings: Settings | None = None, **options: Any) -> AsyncIterator[Pool]:
    runtime = Runtime([pool_app("ep", **options)()], settings or Settings(), make_workers=made)
    pool = runtime.served[0].workers.sync
    assert isinstance(pool, Pool)
    pool.start()
    yield pool
    pool.begin_drain()
    pool.cancel_running()
    assert await asyncio.to_thread(pool.join, WAIT_S)
    assert pool.state == "stopped"


def submitted(pool: Pool, count: int = 1, **asked: Any) -> list[Job]:
    jobs = [new(**asked) for _ in range(count)]
    for job in jobs:
        pool.submit(job)
    return jobs


class Fetcher:
    """A worker elsewhere, as the pool sees it."""

    def __init__(self, pool: Pool, worker_id: str) -> None:
        self.pool = pool
        self.id = worker_id

    @property
    def pod(self) -> Pod:
        return self.pool._pods[self.id]

    def ask(self, most: int = 1, *, is_free: bool | None = None) -> Take:
        with self.pool.visit(self.id) as pod:
            return self.pool.ask(pod, most, is_free=is_free)

    def take(self, most: int = 1, *, is_free: bool | None = None) -> list[Job]:
        """Ask for jobs, and get those that are there."""
        take = self.ask(most, is_free=is_free)
        jobs = self.pool.collect(take)
        self.pool.begin(take)
        return jobs

    def leave(self) -> None:
        """Close a request that waits, as a worker does that dies."""
        with self.pool.visit(self.id) as pod:
            pod.has_left = True

    async def post(self, job: Job, value: Any) -> None:
        rest = self.pool.emit(self.pod, job.id, to_event(value))
        if rest is not None:
            await rest

    def finish(self, job: Job, output: Any = None, **outcome: Any) -> None:
        self.pool.finish(self.pod, job.id, None if output is None else to_event(output), **outcome)

    def stopped(self) -> list[str]:
        """Return which jobs it is told to stop."""
        poll = self.pod.open_stop_poll()
        self.pod.close_stop_poll(poll, is_answered=True)
        return poll.ids


def present(pool: Pool) -> tuple[int, int, int]:
    """Return how many workers are idle, run a job, and stay in one that is over."""
    counts = pool.worker_counts()
    return counts.idle, counts.running, counts.unhealthy


async def turned() -> None:
    """Let what was left to the loop happen: an end is told there a moment later."""
    for _ in range(5):
        await asyncio.sleep(0)


def outputs(job: Job) -> list[Any]:
    return [event.json() for event in job.channel.events() if event.kind == "output"]


def kinds(job: Job) -> list[str]:
    return [event.kind for event in job.channel.events()]


# Jobs go out


async def test_a_job_that_waits_goes_to_who_asks_and_runs_when_it_was_handed_over() -> None:
    async with working() as pool:
        (job,) = submitted(pool)
        take = Fetcher(pool, "a").ask()
        assert (take.answered.done(), job.status) == (True, "queued")
        assert pool.collect(take) == [job]
        pool.begin(take)
        assert (job.status, pool.statistics().running) == ("running", 1)


async def test_who_waits_gets_a_job_at_once_when_it_comes() -> None:
    async with working() as pool:
        take = Fetcher(pool, "a").ask()
        assert not take.answered.done()
        assert submitted(pool) == take.jobs
        assert take.answered.done()


async def test_jobs_go_first_to_who_has_the_fewest_then_to_who_has_waited_longest() -> None:
    async with working() as pool:
        a, b, c = (Fetcher(pool, name) for name in "abc")
        submitted(pool)
        a.take()
        takes = [a.ask(), b.ask(), c.ask()]
        submitted(pool, 3)
        (job,) = takes[1].jobs
        assert [len(take.jobs) for take in takes] == [1, 1, 1]
        for worker, take in zip((b, c), takes[1:], strict=True):
            pool.begin(take)
            worker.finish(take.jobs[0])
        again = [c.ask(), b.ask()]
        (late,) = submitted(pool)
        assert again[1].jobs == [late]
        assert job.is_over


async def test_what_waits_is_shared_among_those_who_ask_for_many() -> None:
    async with working() as pool:
        a, b, c = (Fetcher(pool, name) for name in "abc")
        takes = [a.ask(8), b.ask(8), c.ask(1)]
        pool._takes, waiting = [], pool._takes
        submitted(pool, 9)
        pool._takes = waiting
        pool._dispatch()
        assert [len(take.jobs) for take in takes] == [4, 4, 1]


async def test_nobody_gets_more_than_it_takes() -> None:
    async with working() as pool:
        jobs = submitted(pool, 3)
        assert Fetcher(pool, "a").take(2) == jobs[:2]
        assert pool.position(jobs[2]) == 0


async def test_those_of_low_priority_go_out_last() -> None:
    async with working() as pool:
        (low,), (job,) = submitted(pool, is_low_priority=True), submitted(pool)
        a = Fetcher(pool, "a")
        assert [*a.take(), *a.take()] == [job, low]


async def test_who_has_waited_gets_a_job_only_when_it_shows_that_it_works(advance: Advance) -> None:
    """A worker that was told to end, and waits on, does not ask anew which jobs to stop."""
    async with working() as pool:
        a, b = Fetcher(pool, "a"), Fetcher(pool, "b")
        with pool.visit("a") as pod, pool.visit("b"):
            (poll, _), takes = (pod.open_stop_poll(), b.pod.open_stop_poll()), (a.ask(), b.ask())
            advance(1)
            jobs = submitted(pool, 2)
            asked = [asyncio.create_task(pool.is_there(take)) for take in takes]
            await turned()
            assert (poll.ids, poll.told.done()) == (["-"], True)
            pod.close_stop_poll(poll, is_answered=True)
            pod.open_stop_poll()
            assert await asked[0]
            assert not asked[1].done()
            advance(3)
            assert not await asked[1]
            pool.give_back(takes[1])
            assert (takes[0].jobs, takes[1].jobs, pool.statistics().queued) == (jobs[:1], [], 1)


async def test_who_has_just_asked_or_has_another_job_is_trusted(advance: Advance) -> None:
    """A worker whose loop its handler blocks asks nothing anew; without the question its death would not be seen."""
    async with working() as pool:
        a, _ = Fetcher(pool, "a"), submitted(pool)
        with pool.visit("a") as pod:
            poll = pod.open_stop_poll()
            assert await pool.is_there(a.ask())
            take = a.ask()
            advance(1)
            submitted(pool)
            assert await pool.is_there(take)
        assert not poll.told.done()


async def test_a_job_that_ends_before_it_was_handed_over_is_left_out() -> None:
    async with working() as pool:
        a, jobs = Fetcher(pool, "a"), submitted(pool, 2)
        take = a.ask(2)
        jobs[0].cancel()
        assert pool.collect(take) == jobs[1:]
        await turned()
        assert ([*a.pod.leases], pool.statistics().running) == ([jobs[1].id], 1)


async def test_what_could_not_be_handed_over_goes_to_the_next_as_if_nothing_had_been() -> None:
    async with working() as pool:
        first, second = submitted(pool, 2)
        take = Fetcher(pool, "a").ask()
        waits = Fetcher(pool, "b").ask(2)
        assert waits.jobs == [second]
        later = Fetcher(pool, "c").ask()
        pool.give_back(take)
        assert (later.jobs, first.attempt) == ([first], 1)


async def test_workers_beyond_the_most_get_none() -> None:
    async with working(max_workers=1) as pool:
        takes = [Fetcher(pool, name).ask() for name in "ab"]
        submitted(pool, 2)
        assert [len(take.jobs) for take in takes] == [1, 0]


# What comes of them


async def test_outputs_come_into_the_log_and_the_last_one_is_the_result_of_a_job_that_yields() -> None:
    async with working() as pool:
        a, (job,) = Fetcher(pool, "a"), submitted(pool)
        a.take()
        for n in range(3):
            await a.post(job, n)
        a.finish(job, streamed="list")
        assert (outputs(job), job.result and job.result.json()) == ([0, 1, 2], 2)
        assert pool.streamed_output(job) == "list"
        await turned()
        assert (pool.is_idle, job.has_returned, a.pod.leases) == (True, True, {})


async def test_a_job_that_yields_nothing_has_no_result() -> None:
    async with working() as pool:
        a, (job,) = Fetcher(pool, "a"), submitted(pool)
        a.take()
        a.finish(job, streamed="empty")
        assert (job.status, job.result, pool.streamed_output(job)) == ("succeeded", None, "empty")


async def test_what_a_handler_returns_is_the_result() -> None:
    async with working() as pool:
        a, (job,) = Fetcher(pool, "a"), submitted(pool)
        a.take()
        a.finish(job, output={"n": 1})
        assert (job.result and job.result.json(), pool.streamed_output(job)) == ({"n": 1}, None)


async def test_an_error_fails_the_job_and_what_came_with_it_is_an_output() -> None:
    async with working() as pool:
        a, (job, other) = Fetcher(pool, "a"), submitted(pool, 2)
        a.take(2)
        a.finish(job, error="image too large", output={"pixels": 9})
        assert (job.error and job.error.message, outputs(job)) == ("image too large", [{"pixels": 9}])
        a.finish(other, error="soft")
        assert (job.status, other.status, outputs(other)) == ("failed", "failed", [])


async def test_outputs_that_were_lost_at_the_end_are_emitted_before_the_job_ends() -> None:
    async with working() as pool:
        a, (job,) = Fetcher(pool, "a"), submitted(pool)
        a.take()
        await a.post(job, 0)
        assert pool.outputs_n(a.pod, job.id) == 1
        a.finish(job, streamed="list", whole=[to_event(n) for n in range(3)])
        assert (outputs(job), job.attempt, job.status) == ([0, 1, 2], 1, "succeeded")
        await turned()
        assert pool.outputs_n(a.pod, job.id) == 0


@pytest.mark.parametrize("came", [[0, 2], [0, 1, 1, 2], [1, 2]])
async def test_where_one_between_others_is_not_what_was_sent_all_are_emitted_anew(
    came: list[int], advance: Advance
) -> None:
    async with working() as pool:
        a, (job,) = Fetcher(pool, "a"), submitted(pool)
        a.take()
        for n in came:
            await a.post(job, n)
        began = job.started_at
        advance(1)
        a.finish(job, streamed="list", whole=[to_event(n) for n in range(3)])
        assert (outputs(job), job.status, job.started_at) == ([*came, 0, 1, 2], "succeeded", began)
        assert kinds(job)[len(came) + 1] == "restarted"


async def test_outputs_that_are_not_kept_any_more_are_taken_as_they_came() -> None:
    async with working() as pool:
        a, (job,) = Fetcher(pool, "a"), [new(settings=Settings(behind_events=2))]
        pool.submit(job)
        a.take()
        for n in range(4):
            await a.post(job, n)
        a.finish(job, streamed="list", whole=[to_event(n) for n in range(5)])
        assert (outputs(job)[-1], job.attempt) == (4, 1)


async def test_nothing_is_emitted_for_a_job_that_is_over_meanwhile() -> None:
    async with working() as pool:
        a, (job,) = Fetcher(pool, "a"), submitted(pool)
        a.take()
        job.cancel()
        a.finish(job, streamed="list", whole=[to_event(0)])
        assert outputs(job) == []


async def test_the_worker_that_has_run_a_job_is_known() -> None:
    async with working() as pool:
        a, b, (job,) = Fetcher(pool, "a"), Fetcher(pool, "b"), submitted(pool)
        assert pool.worker_id(job) is None
        a.take()
        pool._lose_pod(a.pod, "is lost")
        b.take()
        b.finish(job)
        assert pool.worker_id(job) == "b"


async def test_an_output_waits_for_a_reader_that_is_far_behind() -> None:
    async with working() as pool:
        a, (job,) = Fetcher(pool, "a"), [new(settings=Settings(ahead_events=1), is_detached=False)]
        reader = job.attach(takes_over=True)
        pool.submit(job)
        a.take()
        await a.post(job, 0)
        posting = asyncio.create_task(a.post(job, 1))
        await turned()
        assert (posting.done(), outputs(job)) == (False, [0])
        reader.take()
        await posting
        assert outputs(job) == [0, 1]


@pytest.mark.parametrize("ends", ["request", "job", "worker"])
async def test_an_output_that_waits_is_dropped_when_its_request_ends_or_the_job_does(ends: str) -> None:
    async with working() as pool:
        a, (job,) = Fetcher(pool, "a"), [new(settings=Settings(ahead_events=1), is_detached=False)]
        reader = job.attach(takes_over=True)
        pool.submit(job)
        a.take()
        await a.post(job, 0)
        posting = asyncio.create_task(a.post(job, 1))
        await turned()
        match ends:
            case "request":
                posting.cancel()
            case "job":
                job.cancel()
            case "worker":
                pool._lose_pod(a.pod, "is lost")
        await asyncio.wait({posting})
        reader.take()
        await turned()
        assert outputs(job) == [0]


async def test_an_output_of_a_job_that_is_over_is_dropped() -> None:
    async with working() as pool:
        a, (job,) = Fetcher(pool, "a"), submitted(pool)
        a.take()
        job.cancel()
        await a.post(job, 1)
        a.finish(job, output=1)
        assert (job.status, outputs(job)) == ("cancelled", [])


# Jobs end


async def test_who_runs_a_job_that_was_cancelled_is_told_and_the_place_in_the_lane_is_free(advance: Advance) -> None:
    async with working(Settings(stuck_s=1)) as pool:
        a, (job,) = Fetcher(pool, "a"), submitted(pool)
        a.take()
        job.cancel()
        await turned()
        assert (pool.is_idle, job.has_returned) == (True, True)
        assert a.stopped() == []  # the real worker would not find it yet
        advance(1)
        await turned()
        assert (a.stopped(), a.stopped()) == ([job.id], [])


async def test_a_pod_that_stays_in_a_job_is_unhealthy_and_the_server_is_not(advance: Advance) -> None:
    async with working(Settings(stuck_s=1)) as pool:
        a, b, c, (job, _) = Fetcher(pool, "a"), Fetcher(pool, "b"), Fetcher(pool, "c"), submitted(pool, 2)
        for worker in (a, b, c):
            worker.take()
        job.expire()
        await turned()
        assert present(pool) == (1, 2, 0)
        advance(2)
        assert (present(pool), pool.state) == ((1, 1, 1), "ready")
        a.take(is_free=True)
        assert present(pool) == (2, 1, 0)


async def test_a_job_out_of_time_ends() -> None:
    async with working() as pool:
        a, (job,) = Fetcher(pool, "a"), submitted(pool, timeout_s=0.01)
        a.take()
        await asyncio.to_thread(over, job)
        assert code(job) == "deadline_exceeded"


async def test_a_worker_that_asks_for_no_jobs_is_not_kept_by_its_question_which_to_stop(advance: Advance) -> None:
    async with working() as pool:
        a, b = Fetcher(pool, "a"), Fetcher(pool, "b")
        with pool.visit("a"), pool.visit("b"), pool.visit("b"):  # the second is a question for jobs
            polls = [worker.pod.open_stop_poll() for worker in (a, b)]
            a.take()
            b.take()
            advance(3)
            await turned()
        assert [poll.told.done() for poll in polls] == [True, False]


# Workers are lost


async def test_a_job_of_a_worker_that_has_left_begins_again_elsewhere(advance: Advance) -> None:
    async with working() as pool:
        a, b, (job,) = Fetcher(pool, "a"), Fetcher(pool, "b"), submitted(pool)
        a.take()
        await a.post(job, "lost")
        a.leave()
        take = b.ask()
        assert take.jobs == []
        advance(60)
        await asyncio.wait_for(take.answered, WAIT_S)
        assert (take.jobs, job.status, job.attempt) == ([job], "queued", 2)
        pool.begin(take)
        assert kinds(job) == ["started", "output", "restarted"]
        assert present(pool) == (0, 1, 0)


async def test_a_worker_that_asks_again_has_not_left_and_pings_are_no_asking(advance: Advance) -> None:
    async with working() as pool:
        a, b, jobs = Fetcher(pool, "a"), Fetcher(pool, "b"), submitted(pool, 2)
        a.take()
        b.take()
        a.leave()
        b.leave()
        a.ask(is_free=False)
        pool.ping("b", [jobs[1].id])
        advance(60)
        take = Fetcher(pool, "c").ask()
        await asyncio.wait_for(take.answered, WAIT_S)
        assert [job.attempt for job in jobs] == [1, 2]


async def test_a_worker_whose_request_is_open_has_not_left(advance: Advance) -> None:
    async with working() as pool:
        a, (job,) = Fetcher(pool, "a"), submitted(pool)
        a.take()
        with pool.visit("a"):
            a.leave()
            advance(60)
            await turned()
        assert job.attempt == 1


async def test_a_worker_whose_pings_have_stopped_is_lost_whatever_it_holds_open(advance: Advance) -> None:
    async with working() as pool:
        a, (job,) = Fetcher(pool, "a"), submitted(pool)
        a.take()
        pool.ping("a", [job.id])
        with pool.visit("a"):
            advance(2 * PING_S)
            await turned()
            assert job.attempt == 1
            advance(2 * PING_S)
            await turned()
            assert (job.attempt, present(pool)) == (2, (0, 0, 0))


async def test_a_worker_whose_only_ping_came_before_it_asked_is_silent_as_well(advance: Advance) -> None:
    async with working() as pool:
        a, (job,) = Fetcher(pool, "a"), submitted(pool)
        pool.ping("a", [])
        assert present(pool) == (0, 0, 0)
        a.take()
        assert present(pool) == (0, 1, 0)
        advance(4 * PING_S)
        await turned()
        assert (job.attempt, present(pool)) == (2, (0, 0, 0))


async def test_pings_alone_bring_no_worker_back() -> None:
    async with working() as pool:
        a, (job,) = Fetcher(pool, "a"), submitted(pool)
        a.take()
        pool._lose_pod(a.pod, "is lost")
        pool.ping("a", [job.id])
        pool.ping("never seen", [job.id])
        assert present(pool) == (0, 0, 0)


async def test_a_job_that_pings_do_not_name_for_a_while_was_lost_on_the_way(advance: Advance) -> None:
    """However many come: those of workers that are dead, and had the same id, do not name it either."""
    async with working() as pool:
        a, (job,) = Fetcher(pool, "a"), submitted(pool)
        a.take()
        for seconds in (0, 2 * PING_S, 2 * PING_S):
            advance(seconds)
            for job_ids in ([job.id], [], [], [], []):
                pool.ping("a", job_ids)
        assert job.attempt == 1
        advance(2 * PING_S)
        pool.ping("a", [])
        assert job.attempt == 1
        advance(2 * PING_S)
        pool.ping("a", [])
        assert (job.attempt, a.take()) == (2, [job])


async def test_a_worker_that_says_twice_that_it_has_none_has_lost_its_job() -> None:
    async with working() as pool:
        a, jobs = Fetcher(pool, "a"), submitted(pool, 2)
        a.take()
        first = a.ask(is_free=True)
        assert (first.jobs, jobs[0].attempt) == ([], 1)
        assert pool.collect(first) == []
        assert a.take(2, is_free=True) == jobs
        assert jobs[0].attempt == 2


def refused(worker: Fetcher) -> None:
    """Say twice that there is no job."""
    for _ in range(2):
        worker.take(is_free=True)


async def test_a_job_that_its_worker_has_ended_twice_without_a_result_fails() -> None:
    async with working() as pool:
        a, (job,) = Fetcher(pool, "a"), submitted(pool)
        with pool.visit("a") as pod:
            pod.open_stop_poll()
            a.take()
            refused(a)
            assert (job.status, job.attempt) == ("running", 2)
            refused(a)
        assert job.error and job.error.message.startswith("endpoint /app/x: workers have ended it twice and sent no")
        await turned()
        assert (pool.is_idle, a.pod.leases) == (True, {})


async def test_one_that_pings_have_not_named_for_a_while_fails_the_second_time(advance: Advance) -> None:
    async with working() as pool:
        a, (job,) = Fetcher(pool, "a"), submitted(pool)
        with pool.visit("a") as pod:
            pod.open_stop_poll()
            for _ in range(2):
                a.take(is_free=False)
                for _ in range(2):
                    advance(2 * PING_S)
                    pool.ping("a", ["f" * 32])
        assert (job.attempt, code(job)) == (2, "endpoint_failed")


async def test_a_process_that_is_not_the_one_before_has_not_ended_its_job(advance: Advance) -> None:
    """It asks which to stop a while after the one before has closed that question: at once it was the same one."""
    async with working() as pool:
        a, (job,) = Fetcher(pool, "a"), submitted(pool)
        with pool.visit("a") as pod:
            for seconds in (2, 2, 0, 0):
                poll = pod.open_stop_poll()
                a.take()
                pod.close_stop_poll(poll, is_answered=False)
                advance(seconds)
                poll = pod.open_stop_poll()
                assert not job.is_over
                refused(a)
                pod.close_stop_poll(poll, is_answered=True)
        assert (job.attempt, code(job)) == (4, "endpoint_failed")


async def test_of_two_that_share_an_id_one_cannot_say_that_the_other_has_none(
    advance: Advance, caplog: pytest.LogCaptureFixture
) -> None:
    async with working() as pool:
        a, (job,) = Fetcher(pool, "a"), submitted(pool)
        a.take()
        polls = [a.pod.open_stop_poll(), a.pod.open_stop_poll()]
        for _ in range(3):
            a.take(is_free=True)
        assert job.attempt == 1
        advance(10)
        await turned()
        advance(10)
        await turned()
        assert caplog.text.count("several workers of ep call themselves a; set RUNPOD_POD_ID for each") == 1
        a.pod.close_stop_poll(polls[0], is_answered=True)
        assert a.take(is_free=True) == [job]


async def test_a_worker_that_is_back_from_the_dead_is_told_to_stop_and_not_heard_about_the_job() -> None:
    async with working() as pool:
        a, b, (job,) = Fetcher(pool, "a"), Fetcher(pool, "b"), submitted(pool)
        a.take()
        pool._lose_pod(a.pod, "is lost")
        b.take()
        with pool.visit("a"):
            assert a.stopped() == [job.id]
        await a.post(job, "late")
        a.finish(job, output="late")
        await b.post(job, "right")
        assert (outputs(job), job.status) == (["right"], "running")


async def test_a_job_is_not_given_to_a_worker_that_may_still_run_an_attempt_that_was_lost() -> None:
    async with working() as pool:
        a, (job,) = Fetcher(pool, "a"), submitted(pool)
        a.take()
        pool._lose_pod(a.pod, "is lost")
        assert a.take(is_free=False) == []
        assert pool.statistics().queued == 1
        assert a.take(is_free=True) == [job]


async def test_what_a_worker_says_it_has_and_nobody_wants_it_is_told_to_stop() -> None:
    async with working() as pool:
        a = Fetcher(pool, "a")
        a.take()
        pool.ping("a", ["f" * 32])
        assert a.stopped() == ["f" * 32]


async def test_a_ping_does_not_end_the_question_of_a_worker_that_has_a_job() -> None:
    """The worker may be blocked, and would ask no new one; the ping may be of another, that is dead."""
    async with working() as pool:
        a, (job,) = Fetcher(pool, "a"), submitted(pool)
        a.take()
        pool.ping("a", ["f" * 32, job.id])
        assert a.stopped() == []


async def test_a_job_that_loses_one_worker_after_another_fails() -> None:
    async with working() as pool:
        a, (job,) = Fetcher(pool, "a"), submitted(pool)
        for _ in range(MOST_ATTEMPTS):
            assert a.take() == [job]
            pool._lose_pod(a.pod, "is lost")
            a.pod.leases.clear()
        assert job.error and job.error.message == "endpoint /app/x: 5 workers were lost while they ran it"
        await turned()
        assert pool.is_idle


async def test_a_job_that_is_over_is_not_begun_again() -> None:
    async with working() as pool:
        a, (job,) = Fetcher(pool, "a"), submitted(pool)
        a.take()
        job.cancel()
        pool._lose_pod(a.pod, "is lost")
        pool._lose_pod(a.pod, "is lost")
        await turned()
        assert (job.attempt, pool.is_idle) == (1, True)


async def test_who_was_silent_for_long_is_forgotten(advance: Advance) -> None:
    async with working() as pool:
        Fetcher(pool, "a").take()
        advance(500)
        await turned()
        assert [*pool._pods] == ["a"]
        advance(500)
        await turned()
        assert not pool._pods


# The drain


async def test_a_drain_sends_waiting_workers_away_and_lets_running_jobs_end() -> None:
    async with working() as pool:
        a, b, (job,) = Fetcher(pool, "a"), Fetcher(pool, "b"), submitted(pool)
        a.take()
        waits = b.ask()
        pool.begin_drain()
        assert (waits.answered.done(), waits.jobs, b.ask().answered.done()) == (True, [], True)
        with pytest.raises(Draining):
            pool.submit(new())
        await a.post(job, 1)
        a.finish(job, streamed="list")
        assert job.status == "succeeded"


async def test_when_the_drain_is_over_the_workers_are_told_to_stop(advance: Advance) -> None:
    async with working() as pool:
        a, (job,) = Fetcher(pool, "a"), submitted(pool)
        a.take()
        pool.begin_drain()
        pool.cancel_running()
        await turned()
        advance(1)
        await turned()
        assert (code(job), a.stopped(), pool.is_idle) == ("draining", [job.id], True)


async def test_a_job_whose_worker_is_lost_in_a_drain_fails() -> None:
    async with working() as pool:
        a, (job,) = Fetcher(pool, "a"), submitted(pool)
        a.take()
        pool.begin_drain()
        pool._lose_pod(a.pod, "is lost")
        await turned()
        assert (code(job), pool.is_idle) == ("draining", True)


# What is served


def test_other_apps_have_pool_of_their_own() -> None:
    class Here(streamapp.App):
        @streamapp.endpoint("/x")
        def x(self) -> int:
            return 1

    (served,) = Runtime([Here()], Settings()).served
    assert pool_of(served) is None


def test_an_id_that_no_url_can_have_is_refused() -> None:
    with pytest.raises(DefinitionError, match="the name 'a b' is a part of URLs"):
        pool_app("a b")
