"""The worker: one inference thread for sync endpoints, tasks for async ones, and who watches them."""

import asyncio
import contextvars
import gc
import logging
import sys
import threading
import weakref
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from functools import partial
from types import SimpleNamespace
from typing import Any

import PIL.Image
import pytest
from tests.waiting import WAIT_S

from streamapp.errors import Cancelled, Draining, OutOfMemory, QueueFull, SetupFailed, StreamAppError, WorkerStuck
from streamapp.events import Output, Preview, to_event
from streamapp.jobs import Job
from streamapp.media import File, publish_by
from streamapp.settings import Settings
from streamapp.stream import Stream, current_stream
from streamapp.worker import AsyncWorker, LoopWatchdog, Worker, empty_gpu_cache

Advance = Callable[[float], None]
SETTINGS = Settings()
Call = Callable[[Stream], Any]


class OutOfMemoryError(RuntimeError):
    """Stands for torch's, which is known by this name only."""


class Gate:
    """Keep the endpoints that run it until the test opens it."""

    def __init__(self) -> None:
        self.reached = threading.Semaphore(0)
        self.opened = threading.Event()

    def __call__(self, stream: Stream | None = None) -> str:
        self.reached.release()
        assert self.opened.wait(WAIT_S)
        return "passed"

    def wait(self) -> None:
        """Wait until an endpoint stands here."""
        assert self.reached.acquire(timeout=WAIT_S)


class Pixels(PIL.Image.Image):
    """An image that is encoded when the test says so, and knows in which thread."""

    def __init__(self, gate: Gate) -> None:
        super().__init__()
        self.__dict__.update(PIL.Image.new("RGB", (2, 2)).__dict__)
        self.gate = gate

    def save(self, *args: Any, **kwargs: Any) -> None:
        self.thread = threading.get_ident()
        self.gate()
        PIL.Image.new("RGB", (2, 2)).save(*args, **kwargs)


def new(call: Call = lambda stream: None, **options: Any) -> Job:
    settings = options.pop("settings", SETTINGS)
    return Job(lambda job, stream: call(stream), endpoint="/app/x", settings=settings, is_detached=True, **options)


def over(job: Job) -> Job:
    """Wait for a job's end."""
    job.sent.result(WAIT_S)
    return job


def code(job: Job) -> str | None:
    return None if job.error is None else job.error.code


@pytest.fixture
def started() -> Iterator[Callable[..., Worker]]:
    workers: list[Worker] = []

    def started(**options: Any) -> Worker:
        worker = Worker("app", options.pop("settings", SETTINGS), **options)
        workers.append(worker)
        worker.start()
        return worker

    yield started
    for worker in workers:
        worker.begin_drain()
        assert worker.join(WAIT_S)
    wait_for_thread("deadlines-app")


def wait_for_thread(name: str) -> None:
    for thread in threading.enumerate():
        if thread.name == name:
            thread.join(WAIT_S)
            assert not thread.is_alive()


wait_for_its_thread = partial(wait_for_thread, "loop-watchdog")


@pytest.fixture
def gate() -> Iterator[Gate]:
    gate = Gate()
    yield gate
    gate.opened.set()


Started = Callable[..., Worker]


# One thread, one after another


def test_setup_every_job_and_teardown_run_in_one_thread() -> None:
    threads: list[int] = []

    def note(*_: Any) -> None:
        threads.append(threading.get_ident())

    worker = Worker("app", SETTINGS, setup=note, teardown=note)
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


def test_jobs_queue_while_setup_runs(started: Started, gate: Gate) -> None:
    worker = started(setup=gate)
    job = new(lambda stream: 1)
    worker.submit(job)
    assert (worker.state, job.status) == ("starting", "queued")
    gate.opened.set()
    assert over(job).status == "succeeded"
    assert worker.ready.result(0) is None
    assert worker.state == "ready"


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
    low, normal = new(lambda stream: order.append("low")), new(lambda stream: order.append("normal"))
    low.is_low_priority = True
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


def test_statistics_describe_the_worker(started: Started, gate: Gate, advance: Advance) -> None:
    worker = started(max_queue=1)
    first = new(lambda stream: advance(5))
    worker.submit(first)
    over(first)
    worker.submit(new(gate))
    gate.wait()
    worker.submit(new())
    with pytest.raises(QueueFull):
        worker.submit(new())
    *figures, median_s = worker.statistics()
    assert figures == ["ready", 1, 1, 1, 1]
    assert median_s >= 5
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


def test_without_a_gpu_there_is_no_cache_to_empty(monkeypatch: pytest.MonkeyPatch) -> None:
    emptied = threading.Event()
    cuda = SimpleNamespace(is_available=lambda: False, empty_cache=emptied.set)
    monkeypatch.setitem(sys.modules, "torch", SimpleNamespace(cuda=cuda))
    empty_gpu_cache()
    monkeypatch.delitem(sys.modules, "torch")
    empty_gpu_cache()
    assert not emptied.is_set()


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
    def timeout_s(self) -> float:
        thread = threading.current_thread().name
        self.seen_by.add(thread)
        if thread == "deadlines-app":
            self.is_watched.set()
        return 600

    @timeout_s.setter
    def timeout_s(self, seconds: float) -> None:
        self.seen_by, self.is_watched = set(), threading.Event()


def test_the_watching_thread_is_woken_only_for_what_is_due_before_it_looks_again(started: Started, gate: Gate) -> None:
    worker = started()
    first, second = (Watched(lambda job, stream: gate(), endpoint="/app/x", settings=SETTINGS) for _ in range(2))
    worker.submit(first)
    assert first.is_watched.wait(WAIT_S)
    gate.opened.set()
    worker.submit(second)
    over(second)
    assert second.seen_by == {"inference-app"}
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
    assert (worker.state, code(queued)) == ("stuck", "worker_stuck")
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
    with pytest.raises(SetupFailed):
        worker.submit(new())
    assert caplog.messages == ["setup of app failed"]


def test_after_a_failed_setup_there_is_no_teardown() -> None:
    torn_down: list[bool] = []

    def setup() -> None:
        raise OSError

    worker = Worker("app", SETTINGS, setup=setup, teardown=lambda: torn_down.append(True))
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

    worker = Worker("app", SETTINGS, teardown=teardown)
    assert worker.join(0)  # never started
    worker.start()
    worker.begin_drain()
    assert worker.join(WAIT_S)
    assert caplog.messages == ["teardown of app failed"]


# Async endpoints


def ready() -> Future[None]:
    future: Future[None] = Future()
    future.set_result(None)
    return future


@pytest.fixture
async def async_worker() -> AsyncIterator[AsyncWorker]:
    worker = AsyncWorker("app", Settings(max_async_jobs=2), ready=ready())
    yield worker
    await idle(worker)


async def idle(worker: AsyncWorker) -> None:
    async with asyncio.timeout(WAIT_S):
        await asyncio.gather(*(task for task in asyncio.all_tasks() if task.get_name().startswith("job-")))
    assert worker.is_idle


async def aover(job: Job) -> Job:
    async with asyncio.timeout(WAIT_S):
        await asyncio.shield(asyncio.wrap_future(job.sent))
    return job


async def test_async_jobs_over_the_apps_limit_wait_for_their_turn() -> None:
    worker = AsyncWorker("app", SETTINGS, ready=ready(), max_running=1)
    begun, may_end, running = asyncio.Event(), asyncio.Event(), [0]

    async def work(stream: Stream) -> int:
        begun.set()
        running[0] += 1
        most = running[0]
        await may_end.wait()
        running[0] -= 1
        return most

    jobs = [new(work) for _ in range(3)]
    for job in jobs:
        worker.submit(job)
    await begun.wait()
    assert [job.status for job in jobs] == ["running", "queued", "queued"]
    jobs[1].cancel()
    may_end.set()
    assert [(await aover(job)).status for job in jobs] == ["succeeded", "cancelled", "succeeded"]
    assert jobs[2].result is not None and jobs[2].result.json() == 1
    await idle(worker)


async def test_async_jobs_run_at_the_same_time_on_the_loop(async_worker: AsyncWorker) -> None:
    together = asyncio.Barrier(2)

    async def meet(stream: Stream) -> int:
        await together.wait()
        await stream.aemit(current_stream() is stream)
        return threading.get_ident()

    jobs = [new(meet), new(meet)]
    for job in jobs:
        async_worker.submit(job)
    for job in jobs:
        await aover(job)
        assert [e.json() for e in job.channel.events()[1:3]] == [True, threading.get_ident()]


async def test_more_async_jobs_than_the_limit_are_refused(async_worker: AsyncWorker) -> None:
    jobs = [new(lambda stream: asyncio.sleep(WAIT_S)) for _ in range(2)]
    for job in jobs:
        async_worker.submit(job)
    with pytest.raises(QueueFull, match="app runs 2 async jobs already") as refused:
        async_worker.submit(new())
    assert refused.value.retry_after_s == 1
    assert async_worker.statistics()[:5] == ("ready", 0, 2, 0, 1)
    for job in jobs:
        job.cancel()


async def test_a_cancelled_async_job_is_cancelled_as_a_task(async_worker: AsyncWorker) -> None:
    running, cancelled = asyncio.Event(), asyncio.Event()

    async def endless(stream: Stream) -> None:
        try:
            running.set()
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.set()
            raise

    job = new(endless)
    async_worker.submit(job)
    await running.wait()
    await asyncio.to_thread(job.cancel)
    await asyncio.wait_for(cancelled.wait(), WAIT_S)
    assert job.status == "cancelled"


async def test_at_the_deadline_readers_get_the_error_before_an_async_endpoint_has_cleaned_up(
    async_worker: AsyncWorker,
) -> None:
    clean = asyncio.Event()

    async def slow(stream: Stream) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            await clean.wait()

    job = new(slow, timeout_s=0.02)
    async_worker.submit(job)
    assert code(await aover(job)) == "deadline_exceeded"
    assert not async_worker.is_idle
    clean.set()


async def test_the_deadline_of_an_async_job_that_is_over_is_let_go_of(
    async_worker: AsyncWorker, advance: Callable[[float], None]
) -> None:
    async def quick(stream: Stream) -> None:
        await stream.aemit(1)

    job = new(quick, timeout_s=10)
    async_worker.submit(job)
    await aover(job)
    await idle(async_worker)
    later = asyncio.Event()
    asyncio.get_running_loop().call_later(11, later.set)
    advance(20)
    await later.wait()
    assert not job.is_expired


async def test_a_timeout_of_the_endpoints_own_is_not_the_deadline(async_worker: AsyncWorker) -> None:
    async def impatient(stream: Stream) -> None:
        raise TimeoutError

    job = new(impatient)
    async_worker.submit(job)
    assert code(await aover(job)) == "endpoint_failed"


@pytest.mark.parametrize("error", [ValueError(), SystemExit(1), KeyboardInterrupt(), OutOfMemoryError()])
async def test_whatever_an_async_endpoint_raises_ends_its_job(async_worker: AsyncWorker, error: BaseException) -> None:
    async def fail(stream: Stream) -> None:
        raise error

    job = new(fail)
    async_worker.submit(job)
    assert (await aover(job)).status == "failed"


async def test_an_async_endpoint_that_emits_after_the_end_is_stopped(async_worker: AsyncWorker) -> None:
    async def late(stream: Stream) -> None:
        job.cancel()
        await stream.aemit("late")

    job = new(late)
    async_worker.submit(job)
    await aover(job)
    await idle(async_worker)
    assert job.status == "cancelled"


async def test_an_image_of_an_async_endpoint_is_encoded_off_the_loop(async_worker: AsyncWorker) -> None:
    gate = Gate()
    gate.opened.set()
    image = Pixels(gate)

    async def draw(stream: Stream) -> Any:
        return {"image": image}

    job = new(draw)
    async_worker.submit(job)
    assert (await aover(job)).status == "succeeded"
    assert image.thread != threading.get_ident()


async def test_large_files_of_an_async_endpoint_are_kept_off_the_loop(async_worker: AsyncWorker) -> None:
    threads: list[int] = []

    def publish(file: File) -> str:
        threads.append(threading.get_ident())
        return f"http://x.test/files/{len(threads)}"

    async def make(stream: Stream) -> Any:
        await stream.aemit(File(bytes(2**20 + 1)))
        return [File(bytes(2**20 + 1))]

    def new_with_a_store() -> Job:
        publish_by(publish)
        return new(make)

    job = contextvars.copy_context().run(new_with_a_store)
    async_worker.submit(job)
    assert (await aover(job)).status == "succeeded"
    _, first, last, _ = (event.json() for event in job.channel.events())
    assert (first["url"], last[0]["url"]) == ("http://x.test/files/1", "http://x.test/files/2")
    assert threading.get_ident() not in threads


@pytest.mark.parametrize(("returned", "result"), [(1, 1), (None, None), (Preview({"x": 1}), {"x": 1})])
async def test_what_an_async_endpoint_returns_is_its_last_output(
    async_worker: AsyncWorker, returned: Any, result: Any
) -> None:
    async def answer(stream: Stream) -> Any:
        return returned

    job = new(answer)
    async_worker.submit(job)
    assert (await aover(job)).status == "succeeded"
    assert [event.kind for event in job.channel.events()] == ["started", "output", "done"]
    assert job.result is not None and job.result.json() == result


async def test_async_jobs_wait_for_setup() -> None:
    setup: Future[None] = Future()
    worker = AsyncWorker("app", SETTINGS, ready=setup)

    async def answer(stream: Stream) -> int:
        return 1

    job, leaving = new(answer), new(answer)
    worker.submit(job)
    worker.submit(leaving)
    await asyncio.sleep(0)
    assert (worker.statistics().state, job.status) == ("starting", "queued")
    leaving.cancel()
    await asyncio.sleep(0.001)
    setup.set_result(None)
    assert (await aover(job)).status == "succeeded"
    assert leaving.started_at is None
    await idle(worker)


async def test_an_async_job_that_is_over_already_does_not_run(async_worker: AsyncWorker) -> None:
    ran: list[Stream] = []
    job = new(ran.append)
    job.cancel()
    async_worker.submit(job)
    await idle(async_worker)
    assert ran == []


async def test_setup_counts_as_waiting_for_async_jobs_too() -> None:
    setup: Future[None] = Future()
    worker = AsyncWorker("app", SETTINGS, ready=setup)
    job = new(queue_timeout_s=0.01)
    worker.submit(job)
    assert code(await aover(job)) == "queue_timeout"
    await idle(worker)


async def test_when_setup_failed_async_jobs_get_its_error() -> None:
    setup: Future[None] = Future()
    worker = AsyncWorker("app", SETTINGS, ready=setup)
    job = new()
    worker.submit(job)
    setup.set_exception(SetupFailed("setup of app failed with OSError"))
    assert code(await aover(job)) == "setup_failed"
    assert worker.statistics().state == "setup_failed"
    await idle(worker)


async def test_a_drain_refuses_async_jobs_and_ends_the_running_ones_when_it_is_over(async_worker: AsyncWorker) -> None:
    job, elsewhere = new(lambda stream: asyncio.sleep(WAIT_S)), new()
    async_worker.submit(job)
    async_worker.begin_drain()
    with pytest.raises(Draining):
        async_worker.submit(new())
    assert async_worker.statistics().state == "draining"
    assert not job.is_over
    async_worker.cancel_running([job, elsewhere])
    assert code(job) == "draining"
    assert not elsewhere.is_over


def test_a_job_that_outlives_the_loop_can_still_be_cancelled() -> None:
    async def main() -> Job:
        job = new(lambda stream: asyncio.sleep(WAIT_S))
        job.channel.emit(to_event(1), waits=False)
        AsyncWorker("app", SETTINGS, ready=Future()).submit(job)
        return job

    loop = asyncio.new_event_loop()
    job = loop.run_until_complete(main())
    tasks = asyncio.all_tasks(loop)
    loop.close()
    assert job.cancel()
    for task in tasks:  # what a loop does that is closed in the usual way
        task.get_coro().close()
        task._log_destroy_pending = False  # type: ignore[attr-defined]


# The watchdog


@pytest.fixture
def warned(caplog: pytest.LogCaptureFixture) -> Iterator[threading.Semaphore]:
    """Count the warnings of the watchdog."""

    class Counter(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            count.release()

    count, handler = threading.Semaphore(0), Counter(logging.WARNING)
    logging.getLogger("streamapp").addHandler(handler)
    yield count
    logging.getLogger("streamapp").removeHandler(handler)


def block(watchdog: LoopWatchdog, warned: threading.Semaphore, again: threading.Event) -> None:
    watchdog.start()
    assert warned.acquire(timeout=WAIT_S)
    again.wait(0.05)  # longer than the watchdog's patience: it warns once per block


@pytest.mark.parametrize(
    ("codes", "named"), [({block.__code__: "/x (App.x)"}, "async endpoint /x (App.x)"), ({}, "code on the event loop")]
)
async def test_the_watchdog_names_the_endpoint_that_blocks_the_loop(
    warned: threading.Semaphore, caplog: pytest.LogCaptureFixture, codes: dict[Any, str], named: str
) -> None:
    watchdog = LoopWatchdog(codes, limit_s=0.02)
    block(watchdog, warned, threading.Event())
    watchdog.stop()
    (message,) = caplog.messages
    assert message.startswith(f"{named} blocks the event loop for more than 0.0 s at ")
    assert "await asyncio.to_thread(...)" in message
    await asyncio.to_thread(wait_for_its_thread)


async def test_a_loop_that_moves_is_not_reported(warned: threading.Semaphore) -> None:
    watchdog = LoopWatchdog({}, limit_s=4)
    watchdog.start()
    await asyncio.sleep(2.1)  # it has looked once
    watchdog.stop()
    await asyncio.to_thread(wait_for_its_thread)
    assert not warned.acquire(blocking=False)


@pytest.mark.parametrize("is_closed", [True, False])
def test_the_watchdog_ends_with_its_loop(warned: threading.Semaphore, is_closed: bool) -> None:
    loop = asyncio.new_event_loop()
    watchdog = LoopWatchdog({}, limit_s=0.1)

    async def start() -> None:
        watchdog.start()

    runner = threading.Thread(target=loop.run_until_complete, args=(start(),))
    runner.start()
    runner.join(WAIT_S)
    if is_closed:
        loop.close()
    else:
        assert not warned.acquire(timeout=0.2)  # nobody is left to be blocked
        watchdog.stop()
    wait_for_its_thread()
    loop.close()
