"""Jobs: what is asked for, their states, their readers coming and going."""

import asyncio
import gc
import logging
import time
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from pydantic import TypeAdapter
from tests.at_work import request

from streamapp.budget import Budget
from streamapp.errors import ErrorReport, OutOfMemory, StreamAppError
from streamapp.http.answer import Answer
from streamapp.jobs.events import to_event
from streamapp.jobs.inbox import Inbox
from streamapp.jobs.job import Job, JobRequest, Origin, RequestKey, new_job_id
from streamapp.settings import Settings

Advance = Callable[[float], None]
SETTINGS = Settings()


class Big:
    """Stands for an input of many megabytes."""


def new(settings: Settings = SETTINGS, *, arguments: Any = None, answer: Answer | None = None, **asked: Any) -> Job:
    return Job(request(settings, **asked), settings, arguments=arguments, answer=answer)


@pytest.fixture
def no_collection() -> Iterator[None]:
    """Switch the collector of cycles off, which in a server may not run for hours."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


# What is asked for


@pytest.mark.parametrize("returns_first", [True, False])
def test_a_job_lets_go_of_its_share_when_it_is_over_and_has_returned(returns_first: bool) -> None:
    budget = Budget(100)
    share = budget.share("", "request")
    share.take(10)
    share.holders.add("a")
    share.let_go("request")
    job = Job(request(id="a"), SETTINGS, share=share)
    job.start()
    ends: list[Callable[[], object]] = [job.returned, lambda: job.succeed(None)]
    ends[not returns_first]()
    assert budget.used == 10
    ends[returns_first]()
    assert (budget.used, job.share) == (0, None)


def test_a_job_with_an_input_that_was_not_counted_ends_like_others() -> None:
    budget = Budget(100)
    job = Job(request(), SETTINGS, share=budget.share("", "request"))
    assert job.share is None
    job.cancel()
    assert budget.used == 0


def test_a_request_is_plain_data_that_comes_back_as_it_was() -> None:
    origin = Origin("https", "a.example", ("10.0.0.1", 443), "/sub")
    asked = request(
        input=b'{"prompt": "\xc3\xa4"}', headers=b"a:b", caller="ann", origin=origin, key=RequestKey("/x k", "1")
    )
    plain = TypeAdapter(JobRequest)
    assert plain.validate_json(plain.dump_json(asked)) == asked


def test_what_is_kept_of_a_request_has_no_secrets() -> None:
    asked = request(headers=b"host:a\nauthorization:Key secret\ncookie:s=1\nproxy-authorization:x\nx-own:1")
    assert asked.without_secrets().headers == b"host:a\nx-own:1"


def test_the_result_of_a_job_that_joins_is_the_text_of_its_outputs_or_what_it_returns() -> None:
    joined, returned = (new(joins=True) for _ in range(2))
    for job in (joined, returned):
        job.channel.emit(to_event("a"), waits=False)
        job.channel.emit(to_event("b"), waits=False)
    joined.succeed(None)
    returned.succeed(to_event({"n": 1}))
    assert [job.result and job.result.json() for job in (joined, returned)] == ["ab", {"n": 1}]


@pytest.mark.parametrize(("endpoint", "path"), [("/", "/app"), ("/stream", "/app/stream")])
def test_a_path_begins_with_the_apps_name(endpoint: str, path: str) -> None:
    assert request(endpoint=endpoint).path == path


def test_ids_are_uuids_that_nobody_else_has() -> None:
    ids = {new_job_id() for _ in range(1000)}
    assert len(ids) == 1000
    assert {(len(job_id), job_id[12], job_id[16]) for job_id in ids} == {(32, "4", "a")}


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


def test_the_end_of_a_session_is_that_of_its_inputs() -> None:
    inbox = Inbox()
    inbox.put("a")
    job = Job(request(), SETTINGS, inbox=inbox)
    job.cancel()
    assert (inbox.has_ended, inbox.unread) == (True, 0)


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


def test_the_time_left_in_the_queue_does_not_follow_the_wall_clock(
    advance: Advance, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = new(queue_timeout_s=10)
    monkeypatch.setattr("time.time", lambda: 0.0)
    advance(9)
    assert 0.5 < job.queue_time_left_s <= 1
    assert new().queue_time_left_s == float("inf")


def test_a_job_whose_worker_was_lost_has_its_time_in_the_queue_anew(advance: Advance) -> None:
    job = new(queue_timeout_s=10)
    job.start()
    advance(60)
    job.begin_again()
    assert 9 < job.queue_time_left_s <= 10


def test_what_a_job_took_does_not_follow_the_wall_clock(
    advance: Advance, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    job, real = new(), time.time
    monkeypatch.setattr("time.time", lambda: real() - 3600)
    advance(5)
    job.start()
    advance(7)
    job.succeed(None)
    assert job.started_at is not None and job.finished_at is not None
    assert [int(job.started_at - job.created_at), int(job.finished_at - job.started_at)] == [5, 7]
    assert ", 7." in caplog.messages[-1]


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


def test_a_callback_that_raises_keeps_nobody_from_hearing_of_the_end(caplog: pytest.LogCaptureFixture) -> None:
    def fail(job: Job) -> None:
        raise ValueError("no")

    told: list[str] = []
    job = new(answer=(answer := Answer()))
    job.on_ended += [fail, lambda job: told.append(job.status)]
    job.on_returned += [fail, lambda job: told.append("returned")]
    assert job.succeed(None)
    assert told == ["succeeded", "returned"]
    assert (answer.outcome.result(0), answer.ended.result(0)) == (None, None)
    assert caplog.messages.count(f"job {job.id}: not all was told of its end") == 2


def test_the_end_is_logged_when_all_have_heard_of_it(caplog: pytest.LogCaptureFixture) -> None:
    """A handler of the user's may block."""

    class Noting(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            assert answer.ended.done()

    answer = Answer()
    job, noting = new(answer=answer), Noting()
    logging.getLogger("streamapp").addHandler(noting)
    caplog.set_level("INFO")
    try:
        assert job.cancel()
        assert not job.cancel()
    finally:
        logging.getLogger("streamapp").removeHandler(noting)
    assert len(caplog.messages) == 1


@pytest.mark.parametrize("size", [1024, 1025])
def test_what_a_job_was_called_with_is_freed_when_it_ends(size: int, no_collection: None) -> None:
    big = Big()
    freed = weakref.ref(big)
    job = new(input=b"x" * (size - 3), headers=b"a:b", arguments={"big": big})
    del big
    job.succeed(None)
    assert (freed(), job.arguments) == (None, None)
    kept = (b"x" * (size - 3), b"a:b") if size == 1024 else (None, b"")
    assert (job.request.input, job.request.headers) == kept


def test_what_may_be_run_again_keeps_its_input_where_it_fails() -> None:
    jobs = [new(input=b"x" * 2000, is_repeatable=True) for _ in range(3)]
    jobs[0].fail(ValueError())
    jobs[1].succeed(None)
    jobs[2].cancel()
    assert [job.request.input is not None for job in jobs] == [True, False, False]


def test_a_later_attempt_has_places_of_its_own_from_the_beginning() -> None:
    job = Job(request(), SETTINGS, attempt=2)
    assert str(job.event_id(job.channel.last_n)).endswith(":2.0")
    job.cancel()
    assert str(job.event_id(job.channel.last_n)).endswith(":2.1")


def test_a_callback_may_take_any_lock_of_the_job() -> None:
    job, told = new(), []
    job.on_ended.append(lambda job: told.append(job.channel.statistics().emitted))
    job.cancel()
    assert told == [1]


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


def test_a_job_can_end_with_what_was_told_of_an_error_elsewhere() -> None:
    job, report = new(), ErrorReport(503, "lost", "the worker is gone", True)
    assert job.fail(report)
    assert job.error == report


# What was raised


def test_what_failed_a_job_is_there_for_the_answer_that_waits_for_it() -> None:
    error, later = ValueError("first"), ValueError("later")
    job = new()
    assert job.fail(error)
    assert not job.fail(later)
    assert job.raised is error


def test_a_detached_job_keeps_nothing_that_was_raised() -> None:
    job = new(is_detached=True)
    job.fail(ValueError("no"))
    assert job.raised is None


async def test_what_was_raised_is_let_go_of_when_the_reader_leaves_or_does_not_come_back() -> None:
    job, waited_for = new(), new(window_s=1000)
    reader, other = job.attach(), waited_for.attach()
    job.fail(ValueError("no"))
    job.detach(reader)
    assert job.raised is None
    waited_for.detach(other)
    waited_for.fail(ValueError("no"))
    waited_for._leave()
    assert waited_for.raised is None


async def test_who_goes_through_a_jobs_events_is_its_reader_until_it_leaves() -> None:
    job = new()
    job.start()
    events = job.events(takes_over=True)
    job.channel.emit_at_once(to_event("a"))
    assert (await anext(events)).json() == "a"
    next_one = asyncio.ensure_future(anext(events))
    await asyncio.sleep(0)
    job.channel.emit_at_once(to_event("b"))
    assert (await next_one).json() == "b"
    await events.aclose()
    assert job.status == "cancelled"


async def test_a_jobs_events_end_with_the_terminal_one(advance: Advance) -> None:
    job = new()
    events = job.events()
    waiting = asyncio.ensure_future(anext(events))
    await asyncio.sleep(0)
    advance(6)
    for _ in range(3):  # its wait has come to an end, and it waits again
        await asyncio.sleep(0)
    job.cancel()
    assert [(await waiting).kind, *[event.kind async for event in events]] == ["cancelled"]
