"""Jobs: their states, their readers coming and going, and how long they are kept."""

import asyncio
import gc
import logging
import threading
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from starlette.responses import Response
from tests.waiting import WAIT_S

from streamapp.errors import Cancelled, ErrorReport, InvalidInput, JobNotFound, OutOfMemory, StreamAppError
from streamapp.events import to_event
from streamapp.jobs import Job, Jobs, JobStore, MemoryStore, RequestKey
from streamapp.settings import Settings
from streamapp.stream import Stream

Advance = Callable[[float], None]
SETTINGS = Settings()


class Big:
    """Stands for an input of many megabytes."""


def nothing(job: Job, stream: Stream) -> None:
    """Do nothing."""


def new(**options: Any) -> Job:
    settings = options.pop("settings", SETTINGS)
    return Job(options.pop("call", nothing), endpoint="/app/x", settings=settings, **options)


def ended(jobs: Jobs, **options: Any) -> Job:
    job = new(**options)
    jobs.add(job)
    job.succeed(to_event("x" * 98))  # 100 bytes
    return job


@pytest.fixture
def no_collection() -> Iterator[None]:
    """Switch the collector of cycles off, which in a server may not run for hours."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


# States


def test_a_job_goes_from_queued_over_running_to_succeeded() -> None:
    job = new()
    states = [job.status]
    assert job.start()
    states.append(job.status)
    assert not job.is_over
    assert job.succeed(to_event(1))
    assert [*states, job.status] == ["queued", "running", "succeeded"]
    assert job.is_over
    assert job.error is None
    assert job.result is not None
    assert job.created_at <= (job.started_at or 0) <= (job.finished_at or 0)


def test_a_job_that_raised_has_failed_and_says_with_what() -> None:
    job = new()
    job.fail(OutOfMemory("too large"))
    assert job.status == "failed"
    assert job.error == ErrorReport(503, "out_of_memory", "too large", True, "too large", retry_after_s=1)


def test_an_exception_of_the_app_is_told_with_the_endpoint() -> None:
    job = new()
    job.fail(ValueError("secret"))
    assert job.error is not None
    assert job.error.message == "endpoint /app/x failed with ValueError; the server's log says why"


def test_a_cancelled_job_does_not_start() -> None:
    job = new()
    assert job.error is None
    assert job.cancel()
    assert not job.start()
    assert (job.status, job.started_at) == ("cancelled", None)
    assert job.error is not None
    assert job.error.status_code == 499


@pytest.mark.parametrize("is_taken", [True, False])
def test_the_code_of_a_job_that_was_taken_may_run_on_when_it_has_ended(is_taken: bool) -> None:
    job, told = new(), []
    job.on_returned.append(lambda job: told.append(job.is_over))
    if is_taken:
        job.start()
    job.cancel()
    assert (job.has_returned, told) == ((False, []) if is_taken else (True, [True]))
    for _ in range(2):
        job.returned()
    assert (job.has_returned, told) == (True, [True])


def test_at_its_deadline_a_job_says_how_long_it_could_have_run() -> None:
    job = new(timeout_s=1.5)
    job.start()
    assert job.expire()
    assert job.is_expired
    assert job.error is not None
    assert job.error.message == "endpoint /app/x ran longer than its timeout_s=1.5"


def test_the_first_end_wins() -> None:
    job = new()
    job.cancel()
    assert not job.succeed(None)
    assert not job.fail(ValueError())
    assert job.status == "cancelled"


@pytest.mark.parametrize("debug", [False, True])
def test_a_job_ends_also_with_an_exception_that_breaks_when_it_is_read(debug: bool) -> None:
    """The inference thread would die of it, and with it the app."""

    class Broken(StreamAppError):
        def __init__(self) -> None:
            pass  # neither message nor detail

        def __str__(self) -> str:
            raise ValueError("no text")

    job = new(settings=Settings(debug=debug))
    assert job.fail(Broken())
    assert job.error is not None
    assert job.error.message == "endpoint /app/x failed with Broken"


def test_ids_name_points_of_the_jobs_log() -> None:
    job, other = new(), new()
    assert str(job.event_id(3)) == f"{job.id}:1.3"
    assert len(job.id) == 32
    assert job.id != other.id


def test_timeouts_come_from_the_endpoint_then_from_the_settings() -> None:
    settings = Settings(timeout_s=5, queue_timeout_s=6)
    assert (new(settings=settings).timeout_s, new(settings=settings).queue_timeout_s) == (5, 6)
    own = new(settings=settings, timeout_s=1, queue_timeout_s=2)
    assert (own.timeout_s, own.queue_timeout_s) == (1, 2)


def test_the_time_left_in_the_queue_does_not_follow_the_wall_clock(
    advance: Advance, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = new(queue_timeout_s=10)
    monkeypatch.setattr("time.time", lambda: 0.0)
    advance(9)
    assert 0.5 < job.queue_time_left_s <= 1
    assert new().queue_time_left_s == float("inf")


def test_start_and_end_are_logged_in_one_line_each(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    job = new()
    job.start()
    job.succeed(None)
    first, last = caplog.messages
    assert first == f"job {job.id} started: /app/x"
    assert last.startswith(f"job {job.id} succeeded: /app/x, 0.0")


# The end


def test_those_who_wait_for_the_end_are_told_once() -> None:
    job, told = new(), []
    job.on_ended.append(lambda job: told.append(job.status))
    job.cancel()
    job.succeed(None)
    assert told == ["cancelled"]
    assert job.outcome.result(0) is None
    assert job.sent.result(0) is None


def test_a_callback_that_raises_keeps_nobody_from_hearing_of_the_end(caplog: pytest.LogCaptureFixture) -> None:
    def fail(job: Job) -> None:
        raise ValueError("no")

    told: list[str] = []
    job = new()
    job.on_ended += [fail, lambda job: told.append(job.status)]
    job.on_returned += [fail, lambda job: told.append("returned")]
    assert job.succeed(None)
    assert told == ["succeeded", "returned"]
    assert (job.outcome.result(0), job.sent.result(0)) == (None, None)
    assert caplog.messages.count(f"job {job.id}: not all was told of its end") == 2


def test_the_end_is_logged_when_all_have_heard_of_it(caplog: pytest.LogCaptureFixture) -> None:
    """A handler of the user's may block."""

    class Noting(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            assert job.sent.done()

    job, noting = new(), Noting()
    logging.getLogger("streamapp").addHandler(noting)
    caplog.set_level("INFO")
    try:
        assert job.cancel()
        assert not job.cancel()
    finally:
        logging.getLogger("streamapp").removeHandler(noting)
    assert len(caplog.messages) == 1


def test_a_response_is_not_waited_for_beyond_the_deadline() -> None:
    """It is the last to notice when nobody watches deadlines any more."""
    job = new(timeout_s=0.01)
    assert job.start()
    with pytest.raises(Cancelled):
        job.hand_over(Response())
    assert job.is_expired


def test_a_callback_may_take_any_lock_of_the_job() -> None:
    job, told = new(), []
    job.on_ended.append(lambda job: told.append(job.channel.statistics().emitted))
    job.cancel()
    assert told == [1]


def test_what_a_job_was_called_with_is_freed_when_it_ends(no_collection: None) -> None:
    big = Big()
    freed = weakref.ref(big)
    job = new(call=lambda job, stream, big=big: None)
    del big
    job.succeed(None)
    assert freed() is None
    with pytest.raises(Cancelled):
        job.call(job, Stream(job.channel, job.id))


async def test_a_response_of_the_endpoints_own_is_handed_over_and_waited_for() -> None:
    job, response = new(), Response("own")
    handing_over = asyncio.create_task(asyncio.to_thread(job.hand_over, response))
    assert await asyncio.wrap_future(job.outcome) is response
    job.sent.set_result(None)
    await handing_over


def test_the_endpoints_own_headers_leave_the_body_as_it_is() -> None:
    job = new()
    assert job.own_headers == []
    job.own_response = Response(b"ab", headers={"x-billable-units": "2"}, media_type="text/plain")
    assert job.own_headers == [(b"x-billable-units", b"2")]


async def test_handing_over_ends_with_the_job() -> None:
    job = new()
    handing_over = asyncio.create_task(asyncio.to_thread(job.hand_over, Response()))
    await asyncio.wrap_future(job.outcome)
    job.cancel()
    with pytest.raises(Cancelled):
        await handing_over
    with pytest.raises(Cancelled):
        job.hand_over(Response())


# Readers


async def test_a_streamed_job_is_cancelled_when_its_last_reader_leaves() -> None:
    job = new()
    first, second = job.attach(), job.attach()
    job.detach(first)
    assert not job.is_over
    job.detach(second)
    assert job.error is not None
    assert job.error.message == "the last reader left"


async def test_a_queued_job_is_cancelled_too() -> None:
    job = new()
    job.detach(job.attach())
    assert job.status == "cancelled"


async def test_within_its_window_a_reader_can_come_back(advance: Advance) -> None:
    job = new(window_s=10)
    job.detach(job.attach())
    advance(9)
    await asyncio.sleep(0)
    job.attach()
    advance(9)
    await asyncio.sleep(0)
    assert not job.is_over


async def test_after_its_window_a_job_is_cancelled(advance: Advance) -> None:
    job = new(window_s=10)
    job.detach(job.attach())
    advance(11)
    await asyncio.sleep(0.001)
    assert job.status == "cancelled"


async def test_two_readers_who_leave_at_once_leave_one_timer(advance: Advance) -> None:
    job = new(window_s=10)
    first, second = job.attach(), job.attach()
    first.close()  # the connections are seen to be gone before either response ends
    second.close()
    job.detach(first)
    job.detach(second)
    job.attach()
    advance(11)
    await asyncio.sleep(0.001)
    assert not job.is_over


async def test_a_detached_job_runs_on_without_readers_and_nobody_paces_it() -> None:
    job = new(is_detached=True, settings=Settings(ahead_events=1))
    for n in range(3):
        job.channel.emit(to_event(n))
    reader = job.attach(takes_over=True)
    job.channel.emit(to_event(3))
    job.channel.emit(to_event(4))
    job.detach(reader)
    assert not job.is_over


async def test_the_reader_who_takes_over_paces_the_job() -> None:
    job = new()
    reader = job.attach(takes_over=True, shows_previews=False)
    await job.channel.aemit(to_event(1))
    assert job.channel.statistics().ahead_events == 1
    assert not reader.shows_previews


async def test_leaving_a_job_that_is_over_changes_nothing() -> None:
    job = new(window_s=10)
    reader = job.attach()
    job.succeed(None)
    job.detach(reader)
    assert job.status == "succeeded"


# Lookup and expiry


def test_a_job_is_found_by_its_id() -> None:
    jobs, job = Jobs(Settings()), new()
    jobs.add(job)
    assert jobs.get(job.id) is job
    assert list(jobs) == [job]


def test_an_unknown_job_is_not_found() -> None:
    with pytest.raises(JobNotFound, match=r"job 'nope' is not here: jobs are kept 600 s after their end"):
        Jobs(Settings()).get("nope")


def test_a_refused_job_is_forgotten() -> None:
    jobs, job = Jobs(Settings()), new()
    jobs.add(job)
    jobs.forget(job)
    job.cancel()
    assert jobs.statistics() == (0, 0, 0, 0, 0)
    with pytest.raises(JobNotFound):
        jobs.get(job.id)


def test_ended_jobs_are_counted_by_how_they_ended() -> None:
    jobs = Jobs(Settings())
    for end in (lambda j: j.succeed(None), lambda j: j.fail(ValueError()), lambda j: j.cancel(), lambda j: None):
        job = new()
        jobs.add(job)
        end(job)
    assert jobs.statistics() == (1, 3, 1, 1, 1)
    assert len(list(jobs)) == 1


def test_a_job_that_is_over_when_it_is_added_is_counted_once() -> None:
    jobs, job = Jobs(Settings()), new()
    job.cancel()
    jobs.add(job)
    assert jobs.statistics() == (0, 1, 0, 0, 1)


def test_a_job_that_ends_while_it_is_added_is_counted_once() -> None:
    for _ in range(100):
        jobs, job = Jobs(Settings()), new()
        together = threading.Barrier(2)

        def end(job: Job = job, together: threading.Barrier = together) -> None:
            together.wait(WAIT_S)
            job.cancel()

        thread = threading.Thread(target=end)
        thread.start()
        together.wait(WAIT_S)
        jobs.add(job)
        thread.join(WAIT_S)
        assert jobs.statistics() == (0, 1, 0, 0, 1)


def test_a_finished_job_is_kept_for_its_time(advance: Advance) -> None:
    jobs = Jobs(Settings(job_ttl_s=60))
    job = ended(jobs)
    advance(59)
    assert jobs.get(job.id) is job
    advance(2)
    with pytest.raises(JobNotFound):
        jobs.get(job.id)


def test_a_jobs_time_counts_from_its_end_also_when_nobody_asks_for_long(advance: Advance) -> None:
    jobs = Jobs(Settings(job_ttl_s=60))
    job = ended(jobs)
    advance(61)
    with pytest.raises(JobNotFound):
        jobs.get(job.id)


def test_the_oldest_finished_jobs_make_room_for_the_bytes_of_new_ones() -> None:
    jobs = Jobs(Settings(max_kept_bytes=3 * 4096 + 500))
    kept = [ended(jobs) for _ in range(5)]  # 4 096 and about 160 bytes each, the last event included
    assert jobs.statistics().finished == 3
    assert [jobs.get(job.id) for job in kept[2:]] == kept[2:]


def test_a_running_job_does_not_expire(advance: Advance) -> None:
    jobs, job = Jobs(Settings(job_ttl_s=1, max_kept_bytes=0)), new()
    jobs.add(job)
    advance(100)
    assert jobs.get(job.id) is job


async def test_ten_thousand_jobs_leave_nothing_behind(advance: Advance, no_collection: None) -> None:
    """Without the collector: a server that has imported torch runs it too rarely to count on it."""
    jobs = Jobs(Settings(job_ttl_s=60))
    left: list[weakref.ref[Job]] = []
    for n in range(10_000):
        job = new(window_s=10)
        jobs.add(job)
        left.append(weakref.ref(job))
        reader = job.attach(takes_over=True)
        job.start()
        if n % 2:
            job.detach(reader)
        job.succeed(to_event(n))
        reader.take()
        job.detach(reader)
    del job, reader
    advance(61)
    await asyncio.sleep(0.001)  # the timers of the windows
    jobs.expire()
    assert sum(ref() is not None for ref in left) == 0
    assert jobs.statistics()[:3] == (0, 0, 10_000)


def test_another_store_can_take_the_place_of_memory() -> None:
    class Counting(MemoryStore):
        saved = 0

        def save(self, job: Job) -> None:
            self.saved += 1
            super().save(job)

    store = Counting()
    as_protocol: JobStore = store
    ended(Jobs(Settings(), as_protocol))
    assert store.saved == 1


# Requests that come again


def test_a_request_that_comes_again_finds_its_job() -> None:
    jobs, request = Jobs(SETTINGS), RequestKey("/x k", 1)
    job = new(request_key=request)
    assert jobs.started_by(request) is None
    jobs.add(job)
    assert jobs.started_by(request) is job
    job.succeed(None)
    assert jobs.started_by(request) is job


def test_a_key_that_comes_with_another_body_is_refused() -> None:
    jobs = Jobs(SETTINGS)
    jobs.add(new(request_key=RequestKey("/x k", 1)))
    with pytest.raises(InvalidInput, match="another body"):
        jobs.started_by(RequestKey("/x k", 2))


def test_a_cancelled_job_gives_its_key_to_the_next() -> None:
    jobs, request = Jobs(SETTINGS), RequestKey("/x k", 1)
    first, second = new(request_key=request), new(request_key=request)
    jobs.add(first)
    first.cancel()
    assert jobs.started_by(request) is None
    jobs.add(second)
    jobs.forget(first)
    assert jobs.started_by(request) is second


def test_a_job_that_answered_itself_answers_no_other_request() -> None:
    jobs, request = Jobs(SETTINGS), RequestKey("/x k", 1)
    job = new(request_key=request)
    jobs.add(job)
    job.offer(Response("own"))
    job.succeed(None)
    assert jobs.started_by(request) is None


def test_a_key_is_forgotten_with_its_job(advance: Advance) -> None:
    jobs, request = Jobs(SETTINGS), RequestKey("/x k", 1)
    ended(jobs, request_key=request)
    advance(SETTINGS.job_ttl_s + 1)
    assert jobs.started_by(request) is None
    assert not jobs._by_key


# Attempts


def test_a_start_is_the_first_event_of_the_log() -> None:
    job = new()
    assert job.start()
    assert [(event.kind, event.n) for event in job.channel.events()] == [("started", 1)]


def test_a_job_that_ends_while_it_starts_does_not_run() -> None:
    job = new()
    job.channel.cancel(ErrorReport(499, "cancelled", "no"))
    assert not job.start()


def test_a_job_is_begun_again_in_the_same_log() -> None:
    job = new()
    job.start()
    job.channel.emit(to_event("lost"), waits=False)
    job.begin_again()
    assert (job.status, job.attempt) == ("queued", 2)
    assert job.start()
    assert (job.status, job.result) == ("running", None)
    job.succeed(to_event("kept"))
    assert str(job.event_id(job.channel.last_n)) == f"{job.id}:2.3"
    assert [event.json() for event in job.channel.events(after=job.attempt_began)][1] == "kept"


async def test_a_store_and_a_link_do_not_keep_a_job_alive() -> None:
    job = new()
    store = job.channel.subscribe(is_counted=False)
    reader = job.attach(takes_over=True)
    job.detach(reader)
    assert job.status == "cancelled"
    store.close()


async def test_who_asks_hears_that_the_job_runs() -> None:
    job = new()
    reader = job.attach(hears_start=True)
    job.start()
    assert [event.kind for event in reader.take()] == ["started"]
    job.detach(reader)
