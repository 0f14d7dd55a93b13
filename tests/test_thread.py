"""The inference thread: setup, sync endpoints one after another, their results, and teardown."""

import asyncio
import contextvars
import gc
import logging
import signal
import sys
import threading
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from functools import cached_property, partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import PIL.Image
import pytest
from tests.at_work import SETTINGS, Gate, OutOfMemoryError, Pixels, code, new, new_of, over, run, wait_for_thread
from tests.in_session import begin, ended, running
from tests.pictures import Keeping
from tests.waiting import WAIT_S, until

import streamapp
from streamapp.errors import Cancelled, Draining, OutOfMemory, QueueFull, SetupFailed, StreamAppError, WorkerStuck
from streamapp.jobs.events import Output, Preview
from streamapp.jobs.job import Job, JobRequest, new_job_id
from streamapp.jobs.stream import Stream, current_stream
from streamapp.media import File
from streamapp.runtime import Runtime
from streamapp.settings import Settings
from streamapp.workers.sessions import SessionThread
from streamapp.workers.thread import ThreadWorker

Advance = Callable[[float], None]
Started = Callable[..., ThreadWorker]


@pytest.fixture
def started() -> Iterator[Callable[..., ThreadWorker]]:
    workers: list[ThreadWorker] = []

    def started(**options: Any) -> ThreadWorker:
        worker = ThreadWorker("app", options.pop("settings", SETTINGS), run=run, **options)
        workers.append(worker)
        worker.start()
        return worker

    yield started
    for worker in workers:
        worker.begin_drain()
        assert worker.join(WAIT_S)
    wait_for_thread("deadlines-app")


# One thread, one after another


def test_setup_every_job_and_teardown_run_in_one_thread() -> None:
    threads: list[int] = []

    def note(*_: Any) -> None:
        threads.append(threading.get_ident())

    worker = ThreadWorker("app", SETTINGS, run=run, setup=note, teardown=note)
    worker.start()
    for _ in range(3):
        job = new(note)
        worker.submit(job)
        over(job)
    worker.begin_drain()
    assert worker.join(WAIT_S)
    assert len(threads) == 5
    assert len(set(threads)) == 1
    assert threads[0] != threading.get_ident()


def test_jobs_run_in_the_order_in_which_they_came(started: Started, gate: Gate) -> None:
    worker = started()
    order: list[int] = []
    worker.submit(new(gate))
    jobs = [new(partial(lambda n, stream: order.append(n), n)) for n in range(5)]
    for job in jobs:
        worker.submit(job)
    gate.opened.set()
    over(jobs[-1])
    assert order == [0, 1, 2, 3, 4]


async def test_several_jobs_run_at_a_time_where_they_take_turns(started: Started) -> None:
    worker = started(max_running=2)
    jobs = [new(lambda stream: iter([1, 2])) for _ in range(3)]
    for job in jobs:
        worker.submit(job)
    assert {(await asyncio.to_thread(over, job)).status for job in jobs} == {"succeeded"}


def test_a_thread_in_which_jobs_take_turns_starts_on_the_loop() -> None:
    worker = ThreadWorker("app", SETTINGS, run=run, max_running=2)
    with pytest.raises(RuntimeError, match="no running event loop"):
        worker.start()


def test_jobs_queue_while_setup_runs(started: Started, gate: Gate) -> None:
    worker = started(setup=gate)
    job = new(lambda stream: 1)
    worker.submit(job)
    assert (worker.state, job.status) == ("starting", "queued")
    gate.opened.set()
    assert over(job).status == "succeeded"
    assert worker.ready.result(0) is None
    assert worker.state == "ready"


def test_setups_run_one_after_another(started: Started, gate: Gate) -> None:
    """Two that load a model at once would each be given weights without values."""
    order: list[str] = []

    def load() -> None:
        gate()
        order.append("first")

    first = started(setup=load)
    gate.wait()
    other = started(setup=lambda: order.append("other"))
    gate.opened.set()
    for worker in (first, other):
        worker.ready.result(WAIT_S)
    assert order == ["first", "other"]


def test_how_long_a_setup_took_is_told_without_the_one_that_it_waited_for(
    started: Started, gate: Gate, advance: Advance, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "streamapp")
    first = started(setup=gate)
    gate.wait()
    other = started(setup=lambda: None)
    until(lambda: sum(thread.name == "inference-app" for thread in threading.enumerate()) == 2)
    advance(1000)
    gate.opened.set()
    for worker in (first, other):
        worker.ready.result(WAIT_S)
    until(lambda: len(caplog.messages) == 2)
    short, long = sorted(float(message.split()[-2]) for message in caplog.messages)
    assert short < 1000 <= long


def test_a_job_knows_how_many_are_before_it(started: Started, gate: Gate) -> None:
    worker = started()
    running, first, second = new(gate), new(), new()
    worker.submit(running)
    gate.wait()
    worker.submit(first)
    worker.submit(second)
    assert [worker.position(job) for job in (running, first, second)] == [0, 0, 1]


def test_a_job_of_low_priority_waits_for_all_others(started: Started, gate: Gate) -> None:
    worker = started()
    worker.submit(new(gate))
    gate.wait()
    order: list[str] = []
    low = new(lambda stream: order.append("low"), is_low_priority=True)
    normal = new(lambda stream: order.append("normal"))
    worker.submit(low)
    worker.submit(normal)
    assert (worker.position(low), worker.position(normal)) == (1, 0)
    gate.opened.set()
    over(low)
    assert order == ["normal", "low"]


def test_a_job_that_is_cancelled_in_the_queue_leaves_it_at_once(started: Started, gate: Gate) -> None:
    worker = started()
    ran: list[Stream] = []
    worker.submit(new(gate))
    gate.wait()
    cancelled, other = new(ran.append), new()
    worker.submit(cancelled)
    worker.submit(other)
    cancelled.cancel()
    assert worker.statistics().queued == 1
    gate.opened.set()
    over(other)
    assert ran == []


def test_a_job_that_is_over_before_its_turn_does_not_run(started: Started) -> None:
    worker = started()
    ran: list[Stream] = []
    job, last = new(ran.append), new()
    job.cancel()
    worker.submit(job)
    worker.submit(last)
    over(last)
    assert ran == []


def test_the_endpoint_runs_in_the_context_of_its_request(started: Started) -> None:
    tenant: contextvars.ContextVar[str] = contextvars.ContextVar("tenant", default="nobody")
    token = tenant.set("me")
    job = new(lambda stream: tenant.get())
    tenant.reset(token)
    started().submit(job)
    assert over(job).result is not None
    assert job.result.json() == "me"  # type: ignore[union-attr]


def test_a_job_finds_its_stream_and_is_captured(started: Started) -> None:
    captured: list[Job] = []

    @contextmanager
    def capture(job: Job) -> Iterator[None]:
        captured.append(job)
        yield

    job = new(lambda stream: current_stream() is stream)
    started(capture=capture).submit(job)
    assert over(job).result.json() is True  # type: ignore[union-attr]
    assert captured == [job]


def test_nothing_of_a_job_is_kept_when_it_is_over(started: Started) -> None:
    """Its inputs and outputs can be megabytes, and the next job may come tomorrow."""
    worker = started()
    gc.collect()
    gc.disable()
    try:
        job = new(lambda stream: 1)
        worker.submit(job)
        freed = threading.Event()
        weakref.finalize(job, freed.set)
        over(job)
        del job
        assert freed.wait(WAIT_S)
    finally:
        gc.enable()


def test_statistics_describe_the_worker(started: Started, gate: Gate) -> None:
    worker = started(max_queue=1)
    first = new()
    worker.submit(first)
    over(first)
    worker.submit(new(gate))
    gate.wait()
    worker.submit(new())
    with pytest.raises(QueueFull):
        worker.submit(new())
    assert worker.statistics() == ("ready", 1, 1, 1)
    assert not worker.is_idle


# Results


@pytest.mark.parametrize(
    ("returned", "result"), [(1, 1), (None, None), (Output("a", event="token"), "a"), (Preview({"x": 1}), {"x": 1})]
)
def test_what_an_endpoint_returns_is_its_last_output(started: Started, returned: Any, result: Any) -> None:
    job = new(lambda stream: returned)
    started().submit(job)
    assert over(job).status == "succeeded"
    assert [event.kind for event in job.channel.events()] == ["started", "output", "done"]
    assert job.result.json() == result  # type: ignore[union-attr]


def test_a_generator_is_gone_through_and_closed_in_the_inference_thread(started: Started) -> None:
    threads: list[int] = []

    def count(stream: Stream) -> Iterator[int]:
        try:
            yield threading.get_ident()
            yield 2
        finally:
            threads.append(threading.get_ident())

    job = new(count)
    started().submit(job)
    assert [event.json() for event in over(job).channel.events()[1:3]] == [*threads, 2]
    assert threads != [threading.get_ident()]


def test_without_a_return_value_the_last_output_is_the_result(started: Started) -> None:
    job = new(lambda stream: stream.output("last"))
    started().submit(job)
    assert [event.kind for event in over(job).channel.events()] == ["started", "output", "done"]


def test_an_image_is_encoded_while_the_next_job_runs(started: Started, gate: Gate) -> None:
    worker, image = started(), Pixels(gate)
    job, following = new(lambda stream: {"image": image}), new(lambda stream: threading.get_ident())
    worker.submit(job)
    worker.submit(following)
    gate.wait()
    inference_thread = over(following).result.json()  # type: ignore[union-attr]
    assert not job.is_over
    assert not worker.is_idle
    gate.opened.set()
    assert over(job).result.json()["image"]["content_type"] == "image/png"  # type: ignore[union-attr]
    assert image.thread != inference_thread


def test_a_large_file_is_kept_while_the_next_job_runs(started: Started, gate: Gate) -> None:
    threads: list[int] = []

    def begin() -> None:
        threads.append(threading.get_ident())
        gate()

    worker = started()
    job, following = new(lambda stream: [File(bytes(2**20 + 1))]), new(lambda stream: threading.get_ident())
    job.channel.publisher = Keeping(begins=begin)
    worker.submit(job)
    worker.submit(following)
    gate.wait()
    inference_thread = over(following).result.json()  # type: ignore[union-attr]
    assert (job.is_over, worker.is_idle) == (False, False)
    gate.opened.set()
    assert over(job).result.json()[0]["url"] == "http://x.test/files/a"  # type: ignore[union-attr]
    assert threads != [inference_thread]


def test_a_file_is_read_before_the_next_job_may_write_to_it(started: Started, tmp_path: Path) -> None:
    path = tmp_path / "out.txt"

    def write(text: str) -> Callable[[Stream], Any]:
        def written(stream: Stream) -> Any:
            path.write_text(text)
            return {"file": path}

        return written

    worker, jobs = started(), [new(write(text)) for text in ("one", "two")]
    for job in jobs:
        worker.submit(job)
    assert [over(job).result.json()["file"]["url"] for job in jobs] == [  # type: ignore[union-attr]
        File(text.encode(), "text/plain").data_uri() for text in ("one", "two")
    ]


def test_no_more_than_a_few_results_wait_for_their_encoding(started: Started, gate: Gate) -> None:
    worker, ran = started(), threading.Semaphore(0)

    def draw(stream: Stream) -> Pixels:
        ran.release()
        return Pixels(gate)

    jobs = [new(draw) for _ in range(6)]
    for job in jobs:
        worker.submit(job)
    for _ in range(5):
        assert ran.acquire(timeout=WAIT_S)
    assert not ran.acquire(timeout=0.05)  # 4 wait for the encoder, the fifth in the inference thread
    gate.opened.set()
    assert [over(job).status for job in jobs] == ["succeeded"] * 6


def test_a_job_that_is_over_does_not_wait_for_its_encoding(started: Started, gate: Gate) -> None:
    worker, returned = started(), threading.Semaphore(0)

    def draw(stream: Stream) -> Pixels:
        returned.release()
        return Pixels(gate)

    jobs, following = [new(draw) for _ in range(5)], new()
    for job in jobs:
        worker.submit(job)
        assert returned.acquire(timeout=WAIT_S)
    worker.submit(following)
    jobs[-1].cancel()
    assert over(following).status == "succeeded"
    assert not any(job.is_over for job in jobs[:4])


def test_a_result_that_nobody_wants_any_more_is_not_encoded(started: Started, gate: Gate) -> None:
    worker, image, begun = started(), Pixels(Gate()), threading.Semaphore(0)

    def draw_last(stream: Stream) -> Pixels:
        begun.release()
        return Pixels(gate)

    first, unwanted, last = new(lambda stream: Pixels(gate)), new(lambda stream: image), new(draw_last)
    for job in (first, unwanted, last):
        worker.submit(job)
    gate.wait()
    assert begun.acquire(timeout=WAIT_S)  # so the result before it waits for the encoder
    unwanted.cancel()
    gate.opened.set()
    assert over(last).status == "succeeded"
    assert not image.gate.reached.acquire(blocking=False)


def test_a_drain_waits_for_a_result_that_is_being_encoded(started: Started, gate: Gate) -> None:
    worker, job = started(), new(lambda stream: Pixels(gate))
    worker.submit(job)
    gate.wait()
    worker.begin_drain()
    assert not worker.join(0.05)
    gate.opened.set()
    assert worker.join(WAIT_S)
    assert job.status == "succeeded"


def test_a_job_is_out_of_time_while_its_result_is_encoded_too(started: Started, gate: Gate) -> None:
    worker, job = started(settings=Settings(stuck_s=5)), new(lambda stream: Pixels(gate), timeout_s=0.5)
    worker.submit(job)
    assert code(over(job)) == "deadline_exceeded"
    assert worker.state == "ready"  # the inference thread has come back


def test_a_drain_ends_jobs_whose_results_are_being_encoded(started: Started, gate: Gate) -> None:
    worker, job = started(), new(lambda stream: Pixels(gate))
    worker.submit(job)
    gate.wait()
    worker.cancel_running()
    assert code(over(job)) == "draining"


@pytest.mark.parametrize("result", [object(), {"image": PIL.Image.new("RGB", (2, 2)), "x": object()}])
def test_a_result_without_a_form_fails_the_job(started: Started, result: Any) -> None:
    job = new(lambda stream: result)
    started().submit(job)
    assert code(over(job)) == "not_encodable"


# Refusals


def test_a_full_queue_says_when_to_come_back(started: Started, gate: Gate, advance: Advance) -> None:
    worker = started(max_queue=2)
    slow = new(lambda stream: advance(8.5))
    worker.submit(slow)
    over(slow)
    worker.submit(new(gate))
    gate.wait()
    worker.submit(new())
    worker.submit(new())
    with pytest.raises(QueueFull, match="the queue of app is full: 2 jobs wait") as refused:
        worker.submit(new())
    assert 18 <= (refused.value.retry_after_s or 0) < 60  # ceil(2 x 8.5 s and a little)


@pytest.mark.parametrize(("run_s", "least_s"), [(0.0, 1), (500.0, 60)])
def test_retry_after_is_between_a_second_and_a_minute(
    started: Started, gate: Gate, advance: Advance, run_s: float, least_s: int
) -> None:
    worker = started(settings=Settings(max_queue=1))
    slow = new(lambda stream: advance(run_s))
    worker.submit(slow)
    over(slow)
    worker.submit(new(gate))
    gate.wait()
    worker.submit(new())
    with pytest.raises(QueueFull) as refused:
        worker.submit(new())
    assert least_s <= (refused.value.retry_after_s or 0) <= 60


# Errors


class Unruly(BaseException):
    """Derives from nothing that one expects."""


@pytest.mark.parametrize("error", [ValueError(), SystemExit(1), KeyboardInterrupt(), GeneratorExit(), Unruly()])
def test_whatever_an_endpoint_raises_ends_its_job_and_no_other(
    started: Started, error: BaseException, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(stream: Stream) -> None:
        raise error

    worker, job, following = started(), new(fail), new()
    worker.submit(job)
    worker.submit(following)
    assert over(following).status == "succeeded"
    assert code(job) == "endpoint_failed"
    assert caplog.messages == [f"job {job.id} failed: /app/x"]


class Unreadable:
    """Breaks when it is printed."""

    def __repr__(self) -> str:
        raise ValueError


@pytest.mark.parametrize(
    ("error", "told"),
    [(RuntimeError(Unreadable()), "endpoint_failed"), (OutOfMemoryError("2 GiB"), "out_of_memory")],
    ids=["an error that cannot be read", "a cache that cannot be emptied"],
)
def test_what_goes_wrong_after_an_error_ends_no_other_job(
    started: Started,
    error: Exception,
    told: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """After a sticky error of CUDA every call to it raises: https://github.com/pytorch/pytorch/issues/25873."""

    def empty_cache() -> None:
        raise RuntimeError("CUDA error: device-side assert triggered")

    def fail(stream: Stream) -> None:
        raise error

    cuda = SimpleNamespace(is_available=lambda: True, empty_cache=empty_cache)
    monkeypatch.setitem(sys.modules, "torch", SimpleNamespace(cuda=cuda))
    worker, job, following = started(), new(fail), new()
    worker.submit(job)
    worker.submit(following)
    assert over(following).status == "succeeded"
    assert code(job) == told
    assert f"job {job.id} failed: /app/x" in caplog.messages
    assert caplog.messages[-1] == f"job {job.id} failed, and its memory could not be given back"


def test_an_error_for_the_caller_is_not_logged(started: Started, caplog: pytest.LogCaptureFixture) -> None:
    def fail(stream: Stream) -> None:
        raise OutOfMemory("ask for less")

    job = new(fail)
    started().submit(job)
    assert over(job).error.message == "ask for less"  # type: ignore[union-attr]
    assert caplog.messages == []


def test_an_endpoint_may_cancel_its_job_by_raising_cancelled(started: Started) -> None:
    def stop(stream: Stream) -> None:
        raise Cancelled

    worker, job, following = started(), new(stop), new()
    worker.submit(job)
    worker.submit(following)
    assert over(following).status == "succeeded"
    assert job.status == "cancelled"


def test_a_gpu_out_of_memory_is_retryable_and_empties_the_cache(
    started: Started, monkeypatch: pytest.MonkeyPatch
) -> None:
    emptied = threading.Event()
    cuda = SimpleNamespace(is_available=lambda: True, empty_cache=emptied.set)
    monkeypatch.setitem(sys.modules, "torch", SimpleNamespace(cuda=cuda))

    def fail(stream: Stream) -> None:
        raise OutOfMemoryError("2 GiB")

    job = new(fail)
    started().submit(job)
    assert code(over(job)) == "out_of_memory"
    assert job.error is not None and job.error.retry_after_s == 1
    assert emptied.wait(WAIT_S)


# Deadlines


def test_a_job_that_waited_too_long_fails_and_can_be_tried_again(started: Started, gate: Gate) -> None:
    worker = started()
    worker.submit(new(gate))
    gate.wait()
    waiting, patient = new(queue_timeout_s=0.02), new(queue_timeout_s=60)
    worker.submit(waiting)
    worker.submit(patient)
    assert over(waiting).error.message == "the job waited longer than queue_timeout_s=0.02"  # type: ignore[union-attr]
    assert (code(waiting), waiting.error.retryable) == ("queue_timeout", True)  # type: ignore[union-attr]
    assert not patient.is_over


def test_setup_counts_as_waiting(started: Started, gate: Gate) -> None:
    worker, waiting = started(setup=gate), new(queue_timeout_s=0.02)
    worker.submit(waiting)
    assert code(over(waiting)) == "queue_timeout"


def test_at_the_deadline_readers_get_the_error_and_the_endpoint_cancelled(started: Started, gate: Gate) -> None:
    raised: list[BaseException] = []

    def work(stream: Stream) -> None:
        gate(stream)
        try:
            stream.emit("too late")
        except BaseException as error:
            raised.append(error)
            raise

    worker, job = started(), new(work, timeout_s=0.02)
    worker.submit(job)
    assert code(over(job)) == "deadline_exceeded"  # while the endpoint still stands at the gate
    assert worker.statistics().running == 1
    gate.opened.set()
    following = new()
    worker.submit(following)
    over(following)
    assert isinstance(raised[0], Cancelled)


class Watched(Job):
    """Note who looks at its deadline."""

    seen_by: set[str]
    is_watched: threading.Event

    @property
    def request(self) -> JobRequest:
        thread = threading.current_thread().name
        self.seen_by.add(thread)
        if thread == "deadlines-app":
            self.is_watched.set()
        return self._request

    @request.setter
    def request(self, request: JobRequest) -> None:
        self._request = request
        self.seen_by, self.is_watched = set(), threading.Event()


def test_the_watching_thread_is_woken_only_for_what_is_due_before_it_looks_again(started: Started, gate: Gate) -> None:
    worker = started()
    first, second = (new_of(Watched, gate) for _ in range(2))
    worker.submit(first)
    assert first.is_watched.wait(WAIT_S)
    gate.opened.set()
    worker.submit(second)
    over(second)
    assert "deadlines-app" not in second.seen_by
    let_go_of = threading.Event()
    weakref.finalize(first, let_go_of.set)
    del first
    assert let_go_of.wait(WAIT_S)  # while that thread waits for the deadline of this job
    gate.opened.clear()
    sooner = new(gate, timeout_s=0.02)
    worker.submit(sooner)
    assert code(over(sooner)) == "deadline_exceeded"


def test_a_cancelled_job_frees_its_slot_when_the_thread_returns(started: Started, gate: Gate) -> None:
    worker, job, following = started(), new(gate), new()
    worker.submit(job)
    worker.submit(following)
    gate.wait()
    job.cancel()
    assert (job.status, following.status) == ("cancelled", "queued")
    gate.opened.set()
    assert over(following).status == "succeeded"


def test_a_thread_that_does_not_come_back_is_reported_as_stuck(
    started: Started, gate: Gate, caplog: pytest.LogCaptureFixture
) -> None:
    broken: Future[StreamAppError] = Future()
    worker = started(settings=Settings(stuck_s=0.02), on_broken=broken.set_result)
    job, queued = new(gate, timeout_s=0.02), new()
    worker.submit(job)
    worker.submit(queued)
    assert isinstance(broken.result(WAIT_S), WorkerStuck)
    assert (worker.state, code(over(queued))) == ("stuck", "worker_stuck")
    with pytest.raises(WorkerStuck):
        worker.submit(new())
    wait_for_thread("deadlines-app")
    assert caplog.messages == [f"the inference thread of app is stuck in /app/x, job {job.id}"]


def test_a_worker_that_was_stuck_stays_out_of_service(started: Started, gate: Gate) -> None:
    broken: Future[StreamAppError] = Future()
    worker = started(settings=Settings(stuck_s=0.02), on_broken=broken.set_result)
    worker.submit(new(gate, timeout_s=0.02))
    broken.result(WAIT_S)
    gate.opened.set()
    assert worker.join(WAIT_S)
    assert worker.state == "stuck"


# Setup


@pytest.mark.parametrize("error", [OSError("no model"), SystemExit(1)])
def test_when_setup_raises_waiting_and_later_jobs_get_the_error(
    started: Started, gate: Gate, error: BaseException, caplog: pytest.LogCaptureFixture
) -> None:
    def setup() -> None:
        gate()
        raise error

    broken: Future[StreamAppError] = Future()
    worker, job = started(setup=setup, on_broken=broken.set_result), new()
    worker.submit(job)
    gate.opened.set()
    assert code(over(job)) == "setup_failed"
    assert isinstance(broken.result(WAIT_S), SetupFailed)
    assert isinstance(worker.ready.exception(0), SetupFailed)
    assert worker.join(WAIT_S)
    with pytest.raises(SetupFailed) as refused:
        worker.submit(new())
    assert type(error).__name__ in (refused.value.trace or "")
    assert caplog.messages == ["setup of app failed"]


def test_a_setup_that_sets_signal_handlers_is_told_where_it_may(
    started: Started, caplog: pytest.LogCaptureFixture
) -> None:
    def setup() -> None:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)

    worker = started(setup=setup)
    error = worker.ready.exception(WAIT_S)
    assert str(error).startswith("setup of app failed with ValueError; signal handlers are set in the main thread only")
    assert "in an `async def setup`, or tell the library to leave signals alone" in caplog.messages[0]


def test_after_a_failed_setup_there_is_no_teardown() -> None:
    torn_down: list[bool] = []

    def setup() -> None:
        raise OSError

    worker = ThreadWorker("app", SETTINGS, run=run, setup=setup, teardown=lambda: torn_down.append(True))
    worker.start()
    assert worker.join(WAIT_S)
    assert torn_down == []


# Drain


def test_a_drain_lets_the_running_job_end_and_fails_the_queued_ones(started: Started, gate: Gate) -> None:
    worker, running, queued = started(), new(gate), new()
    worker.submit(running)
    worker.submit(queued)
    gate.wait()
    worker.begin_drain()
    worker.begin_drain()  # again is without effect
    assert queued.error is not None
    assert (queued.error.code, queued.error.retryable, queued.error.retry_after_s) == ("draining", True, 1)
    with pytest.raises(Draining):
        worker.submit(new())
    gate.opened.set()
    assert over(running).status == "succeeded"
    assert worker.join(WAIT_S)
    assert worker.state == "stopped"
    assert worker.is_idle
    with pytest.raises(Draining):
        worker.submit(new())


def test_a_drain_during_setup_lets_it_end(started: Started, gate: Gate) -> None:
    worker = started(setup=gate)
    worker.begin_drain()
    assert not worker.join(0)
    gate.opened.set()
    assert worker.join(WAIT_S)
    assert worker.ready.result(0) is None


def test_when_the_drain_is_over_the_running_job_is_told(started: Started, gate: Gate) -> None:
    worker, job = started(), new(gate)
    worker.cancel_running()  # nothing runs: nothing happens
    worker.submit(job)
    gate.wait()
    worker.cancel_running()
    assert code(job) == "draining"


def test_a_teardown_that_raises_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    def teardown() -> None:
        raise OSError

    worker = ThreadWorker("app", SETTINGS, run=run, teardown=teardown)
    assert worker.join(0)  # never started
    worker.start()
    worker.begin_drain()
    assert worker.join(WAIT_S)
    assert caplog.messages == ["teardown of app failed"]


def test_what_setup_has_loaded_stays_until_the_worker_is_joined(
    started: Started, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The app's tasks on the loop use it, too; how long they go on nobody knows here."""
    looked = threading.Semaphore(0)

    class Noting(threading.Event):
        def wait(self, timeout: float | None = None) -> bool:
            looked.release()
            return super().wait(timeout)

    monkeypatch.setattr("streamapp.workers.thread._LOOK_AGAIN_S", 0.001)
    torn_down: list[bool] = []
    worker = started(teardown=lambda: torn_down.append(True))
    worker._may_end = Noting()
    worker.begin_drain()
    for _ in range(3):
        assert looked.acquire(timeout=WAIT_S)
    assert torn_down == []
    assert worker.join(WAIT_S)
    assert torn_down == [True]


# Sessions


class Shared(streamapp.App):
    """What runs in the inference thread, and at most one of it at a time."""

    @cached_property
    def gate(self) -> Gate:
        return Gate()

    @cached_property
    def at_work(self) -> threading.Lock:
        return threading.Lock()

    @cached_property
    def order(self) -> list[str]:
        return []

    def work(self, name: str, waits: bool = False) -> list[str]:
        assert self.at_work.acquire(blocking=False), "two run at once"
        try:
            self.order.append(name)
            if waits:
                self.gate()
            if name == "fail":
                raise ValueError
        finally:
            self.at_work.release()
        return [name, threading.current_thread().name]

    @streamapp.endpoint("/job")
    def job(self) -> list[str]:
        return self.work("job")

    @streamapp.realtime("/unary")
    def unary(self, name: str, waits: bool = False) -> list[str]:
        return self.work(name, waits)

    @streamapp.realtime("/receive")
    def receive(self, stream: streamapp.Stream) -> None:
        try:
            while True:
                stream.emit(self.work(**stream.receive()))
        finally:
            self.work("left")

    @streamapp.realtime("/world")
    def world(self, stream: streamapp.Stream) -> None:
        steered = 0
        while True:
            steered += stream.poll() or 0
            self.work("world")
            stream.preview({"steered": steered})

    @streamapp.realtime("/stream")
    def count(self, count: int) -> Iterator[int]:
        yield from range(count)
        raise ValueError

    @streamapp.realtime("/range")
    def up_to(self, count: int) -> Iterator[int]:
        yield from range(count)

    @streamapp.realtime("/aside")
    def aside(self, stream: streamapp.Stream) -> None:
        heard: list[Any] = []
        thread = threading.Thread(target=lambda: heard.append(stream.receive()))
        thread.start()
        thread.join(WAIT_S)
        stream.emit(heard[0])


async def run_job(runtime: Runtime) -> Job:
    served = runtime.served[0]
    (spec,) = served.endpoints
    job = Job(served.request(spec, new_job_id(), is_detached=True), runtime.settings, arguments={})
    await runtime.submit(job, served, spec)
    return await ended(job)


@pytest.mark.parametrize("path", ["/unary", "/receive"])
async def test_between_two_turns_others_run(path: str) -> None:
    async with running(Shared()) as runtime:
        first, second = await begin(runtime, path), await begin(runtime, path)
        for talk in (first, second, first):
            await talk.say({"name": "a"})
            assert (await talk.outputs(1))[0][0] == "a"
            assert (await run_job(runtime)).result is not None


async def test_a_unary_turn_runs_in_the_inference_thread_and_what_asks_in_one_of_its_own() -> None:
    async with running(Shared()) as runtime:
        unary, asking = await begin(runtime, "/unary"), await begin(runtime, "/receive")
        await unary.say({"name": "a"})
        await asking.say({"name": "b"})
        assert await unary.outputs(1) == [["a", "inference-shared"]]
        assert await asking.outputs(1) == [["b", f"session-{asking.job.id}"]]


@pytest.mark.parametrize("path", ["/unary", "/receive"])
async def test_a_busy_session_stands_behind_the_others_after_each_turn(path: str) -> None:
    app = Shared()
    async with running(app) as runtime:
        busy, other = await begin(runtime, path), await begin(runtime, path)
        await busy.say({"name": "1", "waits": True}, {"name": "2"}, {"name": "3"})
        await asyncio.to_thread(app.gate.wait)
        await other.say({"name": "other"})
        app.gate.opened.set()
        await busy.hear(3)
        assert app.order == ["1", "other", "2", "3"]


async def test_what_goes_on_without_inputs_lets_others_have_their_turn_when_it_polls() -> None:
    app = Shared()
    async with running(app, timeout_s=WAIT_S) as runtime:
        worlds = [await begin(runtime, "/world") for _ in range(2)]
        for n, world in enumerate(worlds, 1):
            await world.hear(1)
            await run_job(runtime)
            await world.say(n)
        for n, world in enumerate(worlds, 1):
            while await world.outputs(1) != [{"steered": n}]:
                pass
        worlds[0].finish()
        *_, end = await worlds[0].hear()
        assert end.kind == "done"
        runtime.begin_drain()
        *_, end = await worlds[1].hear()
        assert end.json()["error"]["code"] == "draining"
        await ended(worlds[1].job)


async def test_of_many_sessions_and_jobs_one_runs_at_a_time_and_each_is_answered_in_its_order() -> None:
    async with running(Shared()) as runtime:
        talks = [await begin(runtime, ("/unary", "/receive")[n % 2]) for n in range(20)]
        for n in range(10):
            for talk in talks:
                await talk.say({"name": str(n)})
            await run_job(runtime)
        for talk in talks:
            talk.finish()
            *outputs, end = await talk.hear()
            assert [event.json()[0] for event in outputs] == [str(n) for n in range(10)]
            assert end.kind == "done"
        for talk in talks:
            await ended(talk.job)


async def test_in_another_thread_of_the_apps_receive_waits_without_a_turn() -> None:
    async with running(Shared()) as runtime:
        talk = await begin(runtime, "/aside")
        await talk.say({"a": 1})
        assert await talk.outputs(1) == [{"a": 1}]


@pytest.mark.parametrize("path", ["/unary", "/receive"])
async def test_a_drain_ends_sessions_between_two_turns_at_once(path: str) -> None:
    async with running(Shared(), drain_s=WAIT_S) as runtime:
        talk = await begin(runtime, path)
        await talk.say({"name": "a"})
        await talk.hear(1)
        await talk.is_done()
        runtime.begin_drain()
        (end,) = await talk.hear()
        assert (end.json()["error"]["code"], end.json()["error"]["retryable"]) == ("draining", True)
        assert end.json()["detail"] == "the server is shutting down; connect again"
        await ended(talk.job)
        with pytest.raises(Draining):
            await begin(runtime, path)


@pytest.mark.parametrize("path", ["/unary", "/receive"])
async def test_a_turn_that_runs_may_end_in_a_drain_and_is_the_last(path: str) -> None:
    app = Shared()
    async with running(app, drain_s=WAIT_S) as runtime:
        talk = await begin(runtime, path)
        await talk.say({"name": "a", "waits": True}, {"name": "b"})
        await asyncio.to_thread(app.gate.wait)
        runtime.begin_drain()
        app.gate.opened.set()
        *outputs, end = await talk.hear()
        assert [event.json()[0] for event in outputs] == ["a"]
        assert end.json()["error"]["code"] == "draining"
        await ended(talk.job)


async def test_a_session_that_is_cancelled_between_two_turns_meets_it_in_its_place() -> None:
    app = Shared()
    async with running(app) as runtime:
        talk, other = await begin(runtime, "/receive"), await begin(runtime, "/unary")
        await other.say({"name": "other", "waits": True})
        await asyncio.to_thread(app.gate.wait)
        talk.job.cancel()
        assert not talk.job.has_returned
        app.gate.opened.set()
        await ended(talk.job)
        assert app.order == ["other", "left"]


async def test_a_session_that_is_woken_for_nothing_rests_again() -> None:
    async with running(Shared()) as runtime:
        talk = await begin(runtime, "/unary")
        await talk.say({"name": "a"})
        await talk.outputs(1)
        await run_job(runtime)
        assert talk.inbox is not None and talk.inbox.on_change is not None
        talk.inbox.on_change()
        await run_job(runtime)
        await talk.say({"name": "b"})
        assert (await talk.outputs(1))[0][0] == "b"


async def test_a_session_that_is_over_before_its_first_turn_does_not_begin() -> None:
    app = Shared()
    async with running(app) as runtime:
        other = await begin(runtime, "/unary")
        await other.say({"name": "other", "waits": True})
        await asyncio.to_thread(app.gate.wait)
        talk, asking = await begin(runtime, "/unary"), await begin(runtime, "/receive")
        await talk.say({"name": "a"})
        talk.job.cancel()
        asking.job.cancel()
        assert talk.job.has_returned and asking.job.has_returned
        app.gate.opened.set()
        await other.outputs(1)
        assert app.order == ["other"]


class Late(Job):
    """A job that ends just when its code is to begin."""

    def start(self) -> bool:
        self.cancel()
        return super().start()


@pytest.mark.parametrize("path", ["/unary", "/receive"])
async def test_a_session_that_ends_just_when_it_begins_does_not_begin(path: str) -> None:
    app = Shared()
    async with running(app) as runtime:
        talk = await begin(runtime, path, of=Late)
        await talk.say({"name": "a"})
        assert [event.kind for event in await talk.hear()] == ["cancelled"]
        await ended(talk.job)
        assert app.order == []


@pytest.mark.parametrize("path", ["/unary", "/receive"])
async def test_the_time_of_a_session_is_that_of_each_turn(path: str, advance: Advance) -> None:
    async with running(Shared(), timeout_s=10) as runtime:
        talk = await begin(runtime, path)
        for name in "ab":
            await talk.say({"name": name})
            await talk.outputs(1)
            await talk.is_done()
            advance(8)
        assert talk.job.status == "running"


@pytest.mark.parametrize("path", ["/unary", "/receive"])
async def test_a_turn_that_takes_too_long_ends_the_session(path: str) -> None:
    app = Shared()
    async with running(app, timeout_s=0.02) as runtime:
        talk = await begin(runtime, path)
        await talk.say({"name": "a", "waits": True})
        (end,) = await talk.hear()
        assert end.json()["error"]["code"] == "deadline_exceeded"
        app.gate.opened.set()
        await ended(talk.job)


@pytest.mark.parametrize("path", ["/unary", "/receive"])
async def test_a_session_that_does_not_come_back_is_stuck_like_a_job(path: str) -> None:
    app = Shared()
    async with running(app, timeout_s=0.02, stuck_s=0.02) as runtime:
        talk = await begin(runtime, path)
        waiting = await begin(runtime, path)
        await talk.say({"name": "a", "waits": True})
        (end,) = await waiting.hear()
        assert end.json()["error"]["code"] == "worker_stuck"
        app.gate.opened.set()
        await ended(talk.job)


async def test_sessions_wait_for_setup_and_hear_when_it_fails() -> None:
    gate = Gate()

    class Failing(streamapp.App):
        def setup(self) -> None:
            gate()
            raise ValueError

        @streamapp.realtime("/rt")
        def echo(self, input: dict[str, int]) -> dict[str, int]:
            return input

        @streamapp.realtime("/receive")
        def receive(self, stream: streamapp.Stream) -> None:
            stream.receive()

    async with running(Failing()) as runtime:
        talks = [await begin(runtime, "/rt"), await begin(runtime, "/receive")]
        await talks[0].say({"a": 1})
        gate.opened.set()
        for talk in talks:
            assert [event.json()["error"]["code"] for event in await talk.hear()] == ["setup_failed"]
            await ended(talk.job)


async def test_a_session_whose_thread_cannot_be_started_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    async with running(Shared()) as runtime:
        monkeypatch.setattr(SessionThread, "take_turn", lambda self: threading.Thread(target=print).join())
        talk = await begin(runtime, "/receive")
        (end,) = await talk.hear()
        assert end.json()["error"]["code"] == "endpoint_failed"


async def test_what_a_stream_of_outputs_fails_with_ends_the_session() -> None:
    async with running(Shared()) as runtime:
        talk = await begin(runtime, "/stream")
        await talk.say({"count": 2})
        *outputs, end = await talk.hear()
        assert ([event.json() for event in outputs], end.kind) == ([0, 1], "error")


async def test_what_fails_at_an_input_is_told_and_the_next_is_answered() -> None:
    async with running(Shared()) as runtime:
        talk = await begin(runtime, "/unary")
        await talk.say({"name": "fail"}, {"name": "a"})
        assert [event.kind for event in await talk.hear(2)] == ["input_error", "output"]


@pytest.mark.parametrize("path", ["/unary", "/receive", "/stream"])
async def test_a_session_ends_well_when_its_inputs_have_ended(path: str) -> None:
    async with running(Shared()) as runtime:
        talk = await begin(runtime, path)
        talk.finish()
        assert [event.kind for event in await talk.hear()] == ["done"]
        await ended(talk.job)


async def test_one_stream_of_outputs_for_one_input() -> None:
    async with running(Shared()) as runtime:
        talk = await begin(runtime, "/range")
        await talk.say({"count": 2}, {"count": 2})
        assert [event.kind for event in await talk.hear()] == ["output", "output", "done"]
