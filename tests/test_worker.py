"""The lane, which every worker has: who is let in, whose turn it is, what is overdue, and how it ends."""

import logging
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Container, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from tests.at_work import SETTINGS, Gate, code, new, new_of, over, wait_for_thread
from tests.at_work import run as run_call
from tests.waiting import WAIT_S

from streamapp.errors import Cancelled, Draining, QueueFull, SetupFailed, StreamAppError, WorkerStuck
from streamapp.jobs.inbox import Inbox
from streamapp.jobs.job import Job
from streamapp.jobs.stream import Stream
from streamapp.settings import Settings
from streamapp.workers.worker import OUT_OF_SERVICE, Lane, State, trace_of

Advance = Callable[[float], None]


def opened(**options: Any) -> Lane:
    """Make a lane whose setup has returned, and that no thread works at but the test's."""
    lane = Lane("app", options.pop("settings", SETTINGS), **options)
    lane.open()
    return lane


def queued(lane: Lane, *jobs: Job) -> None:
    for job in jobs:
        lane.submit(job)


def low(**options: Any) -> Job:
    return new(is_low_priority=True, **options)


def session(lane: Lane, *, has_input: bool = False, **options: Any) -> Job:
    """Make a session that wakes a lane when it has something to do."""
    job = new(**options)
    job.inbox = Inbox()
    if has_input:
        job.inbox.put(1)
    job.inbox.on_change = lambda: lane.wake(job)
    return job


def admitted(lane: Lane, **options: Any) -> Job:
    """Let such a session in."""
    talk = session(lane, **options)
    lane.admit(talk)
    if inbox(talk).is_due:
        lane.wake(talk)
    return talk


def inbox(job: Job) -> Inbox:
    assert job.inbox is not None
    return job.inbox


# Turns


def test_jobs_are_taken_in_the_order_in_which_they_came() -> None:
    lane, jobs = opened(), [new() for _ in range(3)]
    queued(lane, *jobs)
    assert [*lane.take(), *lane.take(), *lane.take()] == jobs


def test_several_are_taken_at_once_and_those_of_low_priority_last() -> None:
    lane, waits, first, second, third = opened(), low(), new(), new(), new()
    queued(lane, waits, first, second, third)
    assert [lane.position(job) for job in (waits, first, second, third)] == [3, 0, 1, 2]
    assert lane.take(2) == [first, second]
    assert [lane.position(job) for job in (first, third, waits, new())] == [0, 0, 1, 0]
    assert lane.take(8) == [third, waits]


def test_nothing_is_waited_for_where_no_time_is_given() -> None:
    assert opened().take(timeout_s=0) == []


def test_a_job_is_waited_for_until_it_comes() -> None:
    lane, job = opened(), new()
    with ThreadPoolExecutor(1) as worker:
        taking = worker.submit(lane.take)
        lane.submit(job)
        assert taking.result(WAIT_S) == [job]


def test_who_waits_for_a_job_hears_that_none_will_come() -> None:
    lane = opened()
    with ThreadPoolExecutor(1) as worker:
        taking = worker.submit(lane.take, timeout_s=WAIT_S)
        lane.begin_drain()
        assert taking.result(WAIT_S) == []


def test_a_job_that_is_cancelled_in_the_queue_leaves_it_at_once() -> None:
    lane, cancelled, other = opened(), new(), new()
    queued(lane, cancelled, other)
    cancelled.cancel()
    assert lane.statistics().queued == 1
    assert lane.take(8) == [other]


def test_what_is_put_back_is_taken_next() -> None:
    lane, lost, other = opened(), new(), new()
    queued(lane, lost, other)
    lane.take()
    lane.put_back(lost)
    assert (lane.position(other), lane.statistics()) == (1, ("ready", 2, 0, 0))
    assert lane.take(8) == [lost, other]


def test_what_is_over_is_not_put_back() -> None:
    lane, job = opened(), new()
    queued(lane, job)
    lane.take()
    job.cancel()
    lane.put_back(job)
    assert lane.is_idle


def test_what_was_put_back_leaves_the_queue_when_it_ends() -> None:
    lane, job = opened(), new()
    queued(lane, job)
    lane.take()
    lane.put_back(job)
    job.cancel()
    assert lane.is_idle


def test_in_a_drain_nothing_is_put_back() -> None:
    lane, job = opened(), new()
    queued(lane, job)
    lane.take()
    lane.begin_drain()
    with pytest.raises(Draining):
        lane.put_back(job)
    assert lane.busy() == [job]


def test_a_lane_without_a_thread_that_works_has_its_deadlines_watched() -> None:
    lane, job = Lane("unworked", SETTINGS), new(timeout_s=0.01)
    lane.start()
    lane.open()
    queued(lane, job)
    lane.take()
    assert code(over(job)) == "deadline_exceeded"
    lane.begin_drain()
    lane.close()
    assert lane.join(WAIT_S)


def test_the_end_of_a_job_leaves_the_next_attempt_at_it_in_the_queue() -> None:
    """It may be queued while those who wait for the end are still being told."""
    lane, job = opened(), new()
    queued(lane, job)
    lane.take()
    again = Job(job.request, SETTINGS, attempt=2)
    job.on_ended.insert(0, lambda job: lane.submit(again))
    job.fail(ValueError())
    assert (lane.position(job), lane.take()) == (0, [again])


def test_statistics_describe_the_lane() -> None:
    lane, first = opened(max_queue=1), new()
    queued(lane, first)
    lane.take()
    assert not lane.is_idle
    lane.done(first)
    assert lane.is_idle
    queued(lane, new())
    lane.take()
    queued(lane, new())
    with pytest.raises(QueueFull):
        lane.submit(new())
    assert lane.statistics() == ("ready", 1, 1, 1)
    assert not lane.is_idle


def test_a_job_being_encoded_keeps_the_lane_busy_and_no_turn() -> None:
    lane, job = opened(), new()
    queued(lane, job)
    lane.take()
    lane.begin_encoding(job)
    assert lane.busy() == [job]
    lane.done(job)
    assert (lane.is_idle, lane.busy(), lane.statistics().running) == (False, [job], 0)
    lane.end_encoding(job)
    assert (lane.is_idle, lane.busy()) == (True, [])


# Refusals


@pytest.mark.parametrize(("run_s", "least_s", "most_s"), [(0.0, 1, 1), (8.5, 18, 59), (500.0, 60, 60)])
def test_a_full_queue_says_when_to_come_back(advance: Advance, run_s: float, least_s: int, most_s: int) -> None:
    lane, slow = opened(settings=Settings(max_queue=2)), new()
    queued(lane, slow)
    lane.take()
    advance(run_s)
    lane.done(slow)
    queued(lane, new(), new())
    with pytest.raises(QueueFull, match="the queue of app is full: 2 jobs wait") as refused:
        lane.submit(new())
    assert least_s <= (refused.value.retry_after_s or 0) <= most_s


def test_what_several_run_at_a_time_is_done_so_much_sooner(advance: Advance) -> None:
    lane, slow = opened(settings=Settings(max_queue=2), max_running=4), new()
    queued(lane, slow)
    lane.take()
    advance(20)
    lane.done(slow)
    queued(lane, new(), new())
    with pytest.raises(QueueFull) as refused:
        lane.submit(new())
    assert 10 <= (refused.value.retry_after_s or 0) < 30


def test_a_first_job_is_worth_a_second() -> None:
    lane = opened(max_queue=0)
    with pytest.raises(QueueFull) as refused:
        lane.submit(new())
    assert refused.value.retry_after_s == 1


@pytest.mark.parametrize(
    ("state", "error", "says"),
    [
        ("setup_failed", SetupFailed, "the server's log says why"),
        ("stuck", WorkerStuck, "the inference thread of app does not come back"),
        ("broken", WorkerStuck, "a thread of app has ended"),
    ],
)
def test_a_lane_out_of_service_takes_no_jobs(state: State, error: type[StreamAppError], says: str) -> None:
    lane, waiting = opened(), new()
    queued(lane, waiting)
    lane.break_off(state, error("it says"))
    assert (lane.state, code(waiting)) == (state, error("it says").code)
    with pytest.raises(error, match=says):
        lane.submit(new())
    lane.begin_drain()
    lane.close()
    assert lane.state == state


def test_who_asks_when_setup_has_failed_hears_where() -> None:
    refusals: list[str | None] = []

    def ask(error: StreamAppError) -> None:
        with pytest.raises(SetupFailed) as refused:
            lane.submit(new())
        refusals.append(refused.value.trace)

    lane = Lane("app", SETTINGS, on_broken=ask)
    assert trace_of(lane.ready) is None
    lane.break_off("setup_failed", SetupFailed("it failed", trace="line 7"))
    ask(SetupFailed("it failed"))
    assert refusals == ["line 7", "line 7"]


# Deadlines


def test_a_job_that_waited_too_long_fails_and_can_be_tried_again(advance: Advance) -> None:
    lane, waiting, patient = opened(), new(queue_timeout_s=2), new(queue_timeout_s=60)
    queued(lane, waiting, patient)
    lane.end_overdue()
    assert not waiting.is_over
    advance(3)
    lane.end_overdue()
    assert waiting.error is not None
    assert waiting.error.message == "the job waited longer than queue_timeout_s=2"
    assert (waiting.error.code, waiting.error.retryable) == ("queue_timeout", True)
    assert lane.take(8) == [patient]


def test_a_job_that_was_over_before_it_came_does_not_stay_due(advance: Advance) -> None:
    lane, job = opened(), new(queue_timeout_s=2)
    job.cancel()
    queued(lane, job)
    advance(3)
    lane.end_overdue()
    assert lane.is_idle


def test_at_the_deadline_the_job_is_over_and_later_the_worker(
    advance: Advance, caplog: pytest.LogCaptureFixture
) -> None:
    lane, job, waiting = opened(settings=Settings(stuck_s=5)), new(timeout_s=10), new()
    queued(lane, job, waiting)
    lane.take()
    advance(11)
    lane.end_overdue()
    assert (code(job), lane.state) == ("deadline_exceeded", "ready")
    lane.end_overdue()
    assert lane.state == "ready"
    advance(5)
    lane.end_overdue()
    assert (code(waiting), lane.state) == ("worker_stuck", "stuck")
    assert caplog.messages == [f"the inference thread of app is stuck in /app/x, job {job.id}"]


def test_an_encoder_that_hangs_ends_its_job_alone(advance: Advance) -> None:
    lane, job = opened(settings=Settings(stuck_s=5)), new(timeout_s=10)
    queued(lane, job)
    lane.take()
    lane.begin_encoding(job)
    lane.done(job)
    for _ in range(2):
        advance(20)
        lane.end_overdue()
    assert (code(job), lane.state) == ("deadline_exceeded", "ready")


# Drain


def test_a_drain_ends_the_queued_jobs_and_lets_the_running_ones_go_on() -> None:
    lane, running, waiting = opened(), new(), new()
    queued(lane, running, waiting)
    lane.take()
    lane.begin_drain()
    lane.begin_drain()  # again is without effect
    assert waiting.error is not None
    assert (waiting.error.code, waiting.error.retryable, waiting.error.retry_after_s) == ("draining", True, 1)
    assert (running.is_over, lane.state) == (False, "draining")
    lane.cancel_running()
    assert code(running) == "draining"
    lane.done(running)
    lane.close()
    assert (lane.state, lane.is_idle) == ("stopped", True)
    with pytest.raises(Draining):
        lane.submit(new())


def test_a_drain_during_setup_lets_it_end() -> None:
    lane = Lane("app", SETTINGS)
    lane.begin_drain()
    lane.open()
    assert lane.ready.result(0) is None
    assert (lane.state, lane.take()) == ("draining", [])


# Breaking


def test_of_several_reasons_the_first_counts() -> None:
    heard: list[BaseException | None] = []
    lane = Lane("app", SETTINGS, on_broken=lambda error: heard.extend([error, lane.ready.exception(0)]))
    lane.break_off("setup_failed", failed := SetupFailed("no model"))
    lane.break_off("broken", WorkerStuck("and then"))
    lane.open()
    assert (lane.state, heard, lane.ready.exception(0)) == ("setup_failed", [failed, failed], failed)


def test_what_runs_and_waits_hears_of_the_break_whatever_the_callback_raises() -> None:
    def break_too(error: StreamAppError) -> None:
        raise ValueError

    lane, running, waiting = opened(on_broken=break_too), new(), new()
    queued(lane, running, waiting)
    lane.take()
    with pytest.raises(ValueError):
        lane.break_off("broken", WorkerStuck("it has ended"))
    assert (code(running), code(waiting)) == ("worker_stuck", "worker_stuck")


# Threads


def serve(lane: Lane) -> Callable[[], None]:
    """Return what a thread does that runs jobs one after another."""

    def work() -> None:
        lane.open()
        while jobs := lane.take():
            for job in jobs:
                run(lane, job)
        lane.close()

    return work


def run(lane: Lane, job: Job) -> None:
    try:
        if job.start():
            run_call(job, Stream(job.channel, job.id))
    except Cancelled:  # it has ended between take and check
        pass
    job.succeed(None)
    job.returned()
    lane.done(job)


@pytest.fixture
def started() -> Iterator[Callable[..., Lane]]:
    lanes: list[Lane] = []

    def started(work: Callable[[], None] | None = None, **options: Any) -> Lane:
        lane = Lane("app", options.pop("settings", SETTINGS), **options)
        lanes.append(lane)
        lane.start(work or serve(lane))
        return lane

    yield started
    for lane in lanes:
        lane.begin_drain()
        assert lane.join(WAIT_S)
    wait_for_thread("deadlines-app")


Started = Callable[..., Lane]


def test_jobs_run_in_the_thread_that_was_started(started: Started) -> None:
    lane, threads = started(), list[str]()
    job = new(lambda stream: threads.append(threading.current_thread().name))
    lane.submit(job)
    assert over(job).status == "succeeded"
    assert threads == ["inference-app"]


def test_the_thread_is_waited_for_as_long_as_is_said(started: Started, gate: Gate) -> None:
    assert Lane("app", SETTINGS).join(0)  # never started
    lane = started(gate)
    lane.begin_drain()
    assert not lane.join(0)
    gate.opened.set()
    assert lane.join(WAIT_S)


def test_the_watcher_ends_what_is_overdue(started: Started, gate: Gate) -> None:
    """Each of them is due before it would look again by itself."""
    lane = started()
    running, waiting = new(gate, timeout_s=0.02), new(queue_timeout_s=0.02)
    lane.submit(running)
    gate.wait()
    lane.submit(waiting)
    assert (code(over(running)), code(over(waiting))) == ("deadline_exceeded", "queue_timeout")


def test_nothing_more_is_due_of_a_result_that_came_too_late(gate: Gate) -> None:
    def work() -> None:
        lane.open()
        (job,) = lane.take()
        lane.begin_encoding(job)
        lane.done(job)
        gate()

    late, waiting = new(timeout_s=0.02), new(queue_timeout_s=0.02)
    lane = Lane("app", Settings(stuck_s=0.02))
    lane.submit(late)
    lane.start(work)
    over(late)
    lane.submit(waiting)
    assert (code(late), code(over(waiting))) == ("deadline_exceeded", "queue_timeout")
    assert lane.state == "ready"
    lane.begin_drain()
    gate.opened.set()
    assert lane.join(WAIT_S)
    lane.close()
    wait_for_thread("deadlines-app")


def test_a_thread_that_does_not_come_back_is_reported_as_stuck(started: Started, gate: Gate) -> None:
    broken: Future[StreamAppError] = Future()
    lane = started(settings=Settings(stuck_s=0.02), on_broken=broken.set_result)
    lane.submit(new(gate, timeout_s=0.02))
    assert isinstance(broken.result(WAIT_S), WorkerStuck)
    gate.opened.set()
    assert lane.join(WAIT_S)
    assert lane.state == "stuck"


class Unruly(BaseException):
    """Derives from nothing that one expects."""


def test_a_thread_that_ends_before_its_time_is_told_of(started: Started, caplog: pytest.LogCaptureFixture) -> None:
    def work() -> None:
        raise Unruly

    broken: Future[StreamAppError] = Future()
    lane = started(work, on_broken=broken.set_result)
    assert broken.result(WAIT_S).message == "the thread inference-app has ended with Unruly"
    assert lane.ready.exception(WAIT_S) is broken.result(0)
    assert lane.join(WAIT_S)
    assert lane.state == "broken"
    assert caplog.messages == ["the thread inference-app has ended"]


class Unwatchable(Job):
    """Ends the thread that looks at its deadline."""

    @property
    def queue_time_left_s(self) -> float:
        if threading.current_thread().name == "deadlines-app":
            raise Unruly
        return 0


def test_a_watcher_that_ends_is_told_of(started: Started, gate: Gate) -> None:
    broken: Future[StreamAppError] = Future()
    lane, running = started(on_broken=broken.set_result), new(gate)
    lane.submit(running)
    gate.wait()
    lane.submit(new_of(Unwatchable))
    assert broken.result(WAIT_S).message == "the thread deadlines-app has ended with Unruly"
    assert code(over(running)) == "worker_stuck"


@pytest.mark.parametrize("look", [lambda lane: lane.state, lambda lane: lane.statistics().state, "submit"])
def test_a_thread_that_has_ended_without_a_word_is_noticed(
    started: Started, caplog: pytest.LogCaptureFixture, look: Any
) -> None:
    lane = started(lambda: None)
    assert lane.join(WAIT_S)
    if look == "submit":
        with pytest.raises(WorkerStuck):
            lane.submit(new())
    else:
        assert look(lane) == "broken"
    wait_for_thread("deadlines-app")
    assert caplog.messages == ["the thread inference-app has ended"]


def test_each_job_ends_once_however_threads_meet(started: Started) -> None:
    """Callers that submit and cancel, a worker that takes, a watcher that ends, and a drain, all at once."""
    lane, ends = started(max_queue=8), Counter[str]()

    def submit_some(seed: int) -> list[Job]:
        chance, jobs = random.Random(seed), list[Job]()
        for _ in range(100):
            job = new(queue_timeout_s=chance.choice([None, 0, 0.001]), timeout_s=chance.choice([0, 600]))
            job.on_ended.append(lambda job: ends.update([job.id]))
            try:
                lane.submit(job)
            except (QueueFull, Draining):
                continue
            jobs.append(job)
            if chance.random() < 0.3:
                job.cancel()
        return jobs

    with ThreadPoolExecutor(4) as callers:
        calls = [callers.submit(submit_some, seed) for seed in range(4)]
        calls[0].result(WAIT_S)
        lane.begin_drain()
    jobs = [job for call in calls for job in call.result(0)]
    assert [over(job).is_over for job in jobs] == [True] * len(jobs)
    assert lane.join(WAIT_S)
    assert {ends[job.id] for job in jobs} == {1}
    assert (lane.state, lane.is_idle) == ("stopped", True)


# Any order of what can happen


# Sessions


def test_a_session_is_taken_when_it_has_something_to_do_behind_all_that_wait() -> None:
    lane = opened()
    talk, first = admitted(lane), new()
    assert lane.take(timeout_s=0) == []
    lane.submit(first)
    inbox(talk).put(1)
    inbox(talk).put(2)
    assert lane.take(3) == [first, talk]


def test_a_parked_session_has_no_place_in_the_bound_of_the_queue() -> None:
    lane = opened(max_queue=1)
    for _ in range(2):
        admitted(lane, has_input=True)
    lane.submit(new())
    with pytest.raises(QueueFull, match="1 jobs wait"):
        lane.submit(new())


# While others run


def beside(lane: Lane, *, has_place: bool = True, passed: Container[Job] = (), waits: bool = False) -> Job | None:
    return lane.take_beside(has_place=has_place, passed=passed, waits=waits)


def test_beside_those_that_run_one_is_taken_and_nobody_is_waited_for() -> None:
    lane, first, second = opened(max_running=2), new(), new()
    queued(lane, first, second)
    assert [beside(lane) for _ in range(3)] == [first, second, None]
    assert lane.statistics().running == 2


def test_without_a_place_sessions_are_taken_each_once() -> None:
    lane = opened(max_running=2)
    queued(lane, new())
    talk = admitted(lane, has_input=True)
    assert beside(lane, has_place=False, passed={talk}) is None
    assert beside(lane, has_place=False) is talk
    assert beside(lane, has_place=False) is None


def test_who_waits_beside_others_hears_of_a_job_that_comes_and_of_a_call() -> None:
    lane, job = opened(max_running=2), new()
    with ThreadPoolExecutor(1) as worker:
        taking = worker.submit(beside, lane, waits=True)
        lane.submit(job)
        assert taking.result(WAIT_S) is job
        taking = worker.submit(beside, lane, waits=True)
        lane.call()
        assert taking.result(WAIT_S) is None


def test_a_call_that_comes_before_the_wait_is_heard_once() -> None:
    lane = opened(max_running=2)
    lane.call()
    assert beside(lane, waits=True) is None
    lane.begin_drain()
    with ThreadPoolExecutor(1) as worker:
        taking = worker.submit(beside, lane, waits=True)
        assert not taking.done()
        lane.call()
        assert taking.result(WAIT_S) is None


def test_of_jobs_that_take_turns_the_one_whose_turn_it_is_may_be_stuck(advance: Advance) -> None:
    lane = opened(max_running=2, settings=Settings(stuck_s=5))
    behind, culprit = new(timeout_s=1), new(timeout_s=1)
    queued(lane, behind, culprit)
    beside(lane), beside(lane)
    seen: list[Any] = []
    for at in (None, (culprit, time.monotonic() + 10), None, (culprit, time.monotonic())):
        lane.at = at
        advance(7)
        lane.end_overdue()
        seen.append((behind.is_expired, lane.state))
    assert seen == [(True, "ready")] * 3 + [(True, "stuck")]


def test_what_the_loop_is_at_may_be_stuck_whosever_turn_it_is(advance: Advance) -> None:
    lane, job = opened(max_running=2, settings=Settings(stuck_s=5)), new(timeout_s=1)
    queued(lane, job)
    beside(lane)
    lane.elsewhere.add(job)
    seen = []
    for seconds in (2, 5):
        advance(seconds)
        lane.end_overdue()
        seen.append(lane.state)
    assert seen == ["ready", "stuck"]


def test_a_session_lets_jobs_that_run_beside_it_have_their_turn() -> None:
    lane = opened(max_running=2)
    queued(lane, new())
    beside(lane)
    talk = admitted(lane, has_input=True)
    assert beside(lane) is talk
    assert not lane.goes_on(talk)


def test_results_that_are_made_are_told_apart_from_jobs_that_run() -> None:
    lane, job = opened(), new()
    queued(lane, job)
    lane.take()
    assert lane.encoded() == []
    lane.begin_encoding(job)
    assert lane.encoded() == [job]


# Sessions again


def test_what_comes_while_a_session_runs_is_its_next_turn() -> None:
    lane = opened()
    talk = admitted(lane, has_input=True)
    assert lane.take() == [talk] and talk.start()
    inbox(talk).put(2)
    inbox(talk).settle()
    lane.park(talk)
    assert lane.take() == [talk]


def test_a_session_goes_on_where_nobody_waits_and_its_time_begins_anew(advance: Advance) -> None:
    lane = opened()
    talk = admitted(lane, has_input=True, timeout_s=10)
    lane.take()
    advance(8)
    assert lane.goes_on(talk)
    advance(8)
    lane.end_overdue()
    assert not talk.is_over
    lane.submit(new())
    assert not lane.goes_on(talk)
    advance(8)
    lane.end_overdue()
    assert code(talk) == "deadline_exceeded"


def test_a_session_that_ends_while_it_runs_is_let_go_of_when_it_rests() -> None:
    lane = opened()
    talk = admitted(lane, has_input=True)
    lane.take()
    assert talk.start()
    talk.cancel()
    lane.park(talk)
    assert talk.has_returned and lane.is_idle


def test_the_end_of_a_session_whose_code_stands_in_a_thread_is_its_last_turn() -> None:
    lane = opened()
    talk = admitted(lane, has_input=True)
    lane.take()
    assert talk.start()
    inbox(talk).take()
    lane.park(talk, has_frames=True)
    talk.cancel()
    assert not talk.has_returned and lane.take() == [talk]
    lane.done(talk)


def test_a_session_whose_code_stands_in_a_thread_may_end_in_its_turn() -> None:
    lane = opened()
    talk = admitted(lane, has_input=True)
    lane.take()
    lane.park(talk, has_frames=True)
    assert lane.take() == [talk]
    talk.cancel()
    assert lane.take(timeout_s=0) == []
    lane.done(talk)
    assert lane.is_idle


def test_code_that_stands_in_a_thread_has_its_last_turn_in_a_drain_too() -> None:
    lane = opened()
    talk, other = admitted(lane, has_input=True), admitted(lane)
    assert talk.start() and other.start()
    lane.take()
    lane.park(talk, has_frames=True)
    lane.begin_drain()
    assert (code(talk), talk.has_returned) == ("draining", False)
    assert (code(other), other.has_returned) == ("draining", True)
    assert lane.take() == [talk]


def test_sessions_end_with_the_lane() -> None:
    lane = opened()
    talk = admitted(lane)
    assert talk.start()
    lane.break_off("broken", WorkerStuck("broken"))
    assert (code(talk), talk.has_returned) == ("worker_stuck", True)


def test_no_session_comes_in_when_it_is_over_or_the_lane_drains() -> None:
    lane = opened()
    talk = session(lane)
    talk.cancel()
    lane.admit(talk)
    assert lane.take(timeout_s=0) == []
    lane.begin_drain()
    with pytest.raises(Draining):
        lane.admit(session(lane))
    with pytest.raises(Draining):
        lane.park(talk)


class Traffic(RuleBasedStateMachine):
    """Do to a lane what callers, the worker, the watcher and the server's end do, in any order, at a clock of its own.

    `came` is the model: the jobs that were let in and not taken, in order.
    """

    def __init__(self) -> None:
        super().__init__()
        logging.getLogger("streamapp").setLevel(logging.CRITICAL + 1)
        self.now_s = 0.0
        self.patch = pytest.MonkeyPatch()
        self.patch.setattr(time, "monotonic", lambda: self.now_s)
        self.lane = Lane("app", Settings(max_queue=3, stuck_s=5))
        self.lane.open()
        self.all: list[Job] = []
        self.came: list[Job] = []
        self.running: list[Job] = []
        self.encoding: list[Job] = []
        self.ends: Counter[str] = Counter()

    def waiting(self) -> list[Job]:
        jobs = [job for job in self.came if not job.is_over]
        return sorted(jobs, key=lambda job: job.request.is_low_priority)

    @rule(is_low=st.booleans(), queue_s=st.sampled_from([None, 1.0, 4.0]), run_s=st.sampled_from([1.0, 4.0]))
    def submit(self, is_low: bool, queue_s: float | None, run_s: float) -> None:
        job = new(queue_timeout_s=queue_s, timeout_s=run_s, is_low_priority=is_low)
        job.on_ended.append(lambda job: self.ends.update([job.id]))
        is_full = len(self.waiting()) == 3
        try:
            self.lane.submit(job)
        except StreamAppError as refusal:
            assert is_full if isinstance(refusal, QueueFull) else self.lane.state != "ready"
        else:
            assert not is_full
            self.all.append(job)
            self.came.append(job)

    @precondition(lambda self: self.all)
    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        data.draw(st.sampled_from(self.all)).cancel()

    @rule(at_most=st.integers(0, 4))
    def take(self, at_most: int) -> None:
        expected = self.waiting()[:at_most]
        assert self.lane.take(at_most, timeout_s=0) == expected
        for job in expected:
            assert job.start()
            self.came.remove(job)
            self.running.append(job)

    @precondition(lambda self: self.running)
    @rule(data=st.data(), is_encoded=st.booleans())
    def come_back(self, data: st.DataObject, is_encoded: bool) -> None:
        job = data.draw(st.sampled_from(self.running))
        self.running.remove(job)
        job.returned()
        if is_encoded:
            self.lane.begin_encoding(job)
            self.encoding.append(job)
        else:
            job.succeed(None)
        self.lane.done(job)

    @precondition(lambda self: self.encoding)
    @rule(data=st.data())
    def encode(self, data: st.DataObject) -> None:
        job = data.draw(st.sampled_from(self.encoding))
        self.encoding.remove(job)
        job.succeed(None)
        self.lane.end_encoding(job)

    @rule(seconds=st.sampled_from([0.5, 2.0, 6.0]))
    def look_later(self, seconds: float) -> None:
        self.now_s += seconds
        self.lane.end_overdue()
        assert all(job.is_over for job in self.running + self.encoding if self.is_out_of_time(job))
        assert all(job.queue_time_left_s > 0 for job in self.waiting())

    def is_out_of_time(self, job: Job) -> bool:
        return job.is_expired or self.lane.state in OUT_OF_SERVICE

    @rule()
    def begin_drain(self) -> None:
        self.lane.begin_drain()
        assert self.waiting() == []

    @precondition(lambda self: self.lane.state != "ready")
    @rule()
    def cancel_running(self) -> None:
        self.lane.cancel_running()
        assert all(job.is_over for job in self.running + self.encoding)

    @invariant()
    def figures_and_positions_agree(self) -> None:
        turns, figures = self.waiting(), self.lane.statistics()
        assert [self.lane.position(job) for job in turns] == [*range(len(turns))]
        assert (figures.queued, figures.running) == (len(turns), len(self.running))
        assert figures.queued <= 3
        assert set(self.lane.busy()) == {*self.running, *self.encoding}
        assert self.lane.is_idle == (not (turns or self.running or self.encoding))

    @invariant()
    def a_job_ends_once_and_by_then_it_is_over(self) -> None:
        assert all(self.ends[job.id] == int(job.is_over) for job in self.all)

    def teardown(self) -> None:
        self.lane.begin_drain()
        self.lane.cancel_running()
        for job in self.running:
            self.lane.done(job)
        for job in self.encoding:
            self.lane.end_encoding(job)
        self.lane.close()
        self.patch.undo()
        logging.getLogger("streamapp").setLevel(logging.NOTSET)
        assert {self.ends[job.id] for job in self.all} <= {1}
        assert all([event.is_terminal for event in job.channel.events()].count(True) == 1 for job in self.all)
        assert self.lane.is_idle
        assert self.lane.state in ("stopped", "stuck")


class Sessions(RuleBasedStateMachine):
    """Do to a lane what sessions, the worker and the server's end do, in any order.

    `turns` is the model of the queue; what is neither there nor in `running` is parked, or gone.
    """

    def __init__(self) -> None:
        super().__init__()
        logging.getLogger("streamapp").setLevel(logging.CRITICAL + 1)
        self.lane = opened()
        self.all: list[Job] = []
        self.with_frames: set[Job] = set()  # their code stands in a thread
        self.turns: list[Job] = []
        self.running: list[Job] = []

    def note_due(self, job: Job) -> None:
        """Put a session that rests into the model's queue when it has to be there."""
        if job in self.turns or job in self.running or job.has_returned:
            return
        if inbox(job).is_due and not job.is_over or job.is_over and job in self.with_frames:
            self.turns.append(job)

    def note_over(self) -> None:
        for job in self.all:
            self.note_due(job)
        self.turns = [job for job in self.turns if job in self.with_frames or not job.is_over]

    @rule(has_input=st.booleans())
    def admit(self, has_input: bool) -> None:
        try:
            job = admitted(self.lane, has_input=has_input)
        except Draining:
            assert self.lane.state == "draining"
            return
        self.all.append(job)
        self.note_due(job)

    @precondition(lambda self: self.all)
    @rule(data=st.data(), how=st.sampled_from(["put", "end", "cancel"]))
    def happen(self, data: st.DataObject, how: str) -> None:
        job = data.draw(st.sampled_from(self.all))
        {"put": lambda: inbox(job).put(1), "end": inbox(job).end, "cancel": job.cancel}[how]()
        self.note_over()

    @precondition(lambda self: not self.running)
    @rule()
    def take(self) -> None:
        taken = self.lane.take(timeout_s=0)
        assert taken == self.turns[:1]
        for job in taken:
            self.turns.remove(job)
            if not job.is_over and job.started_at is None:
                assert job.start()
            inbox(job).take()
            self.running.append(job)

    @precondition(lambda self: self.running)
    @rule(has_frames=st.booleans(), sees_its_end=st.booleans())
    def come_back(self, has_frames: bool, sees_its_end: bool) -> None:
        job = self.running.pop()
        has_frames = has_frames or job in self.with_frames
        if job.is_over and sees_its_end:
            self.leave(job)
            return
        inbox(job).settle()
        try:
            self.lane.park(job, has_frames=has_frames)
        except Draining as error:
            job.fail(error)
            self.leave(job)
            return
        if has_frames:
            self.with_frames.add(job)
        self.note_due(job)

    def leave(self, job: Job) -> None:
        job.returned()
        self.lane.done(job)
        self.with_frames.discard(job)

    @rule()
    def begin_drain(self) -> None:
        resting = [job for job in self.all if job not in self.running and not job.has_returned]
        self.lane.begin_drain()
        assert all(job.is_over for job in resting)
        self.turns = sorted((job for job in resting if job in self.with_frames), key=self.lane.position)

    @invariant()
    def what_is_over_and_rests_is_gone_or_has_a_last_turn(self) -> None:
        resting = [job for job in self.all if job.is_over and job not in self.running]
        assert all(job.has_returned != (job in self.turns) for job in resting)

    @invariant()
    def turns_are_in_the_order_in_which_they_became_due(self) -> None:
        assert [self.lane.position(job) for job in self.turns] == [*range(len(self.turns))]
        assert self.lane.statistics().queued == len(self.turns)

    def teardown(self) -> None:
        self.begin_drain()
        for job in [*self.running, *self.turns]:
            if job in self.turns:
                assert self.lane.take() == [job]
            job.cancel()
            self.leave(job)
        assert self.lane.take() == []
        assert self.lane.is_idle
        assert all(job.is_over and job.has_returned for job in self.all)
        logging.getLogger("streamapp").setLevel(logging.NOTSET)


TestTraffic = Traffic.TestCase
TestTraffic.settings = settings(max_examples=60, stateful_step_count=30, deadline=None, database=None)
TestSessions = Sessions.TestCase
TestSessions.settings = TestTraffic.settings
