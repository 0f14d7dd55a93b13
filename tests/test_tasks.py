"""Jobs of `async def` endpoints: tasks on the loop, their turns, deadlines and results."""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable
from concurrent.futures import Future
from functools import cached_property
from typing import Any

import pytest
from tests.at_work import SETTINGS, Gate, OutOfMemoryError, Pixels, code, new, run
from tests.in_session import begin, ended, running
from tests.pictures import Keeping
from tests.waiting import WAIT_S

import streamapp
from streamapp.errors import Draining, QueueFull, SetupFailed
from streamapp.http.answer import Answer
from streamapp.jobs.events import Preview, to_event
from streamapp.jobs.job import Job
from streamapp.jobs.stream import Stream, current_stream
from streamapp.media import File
from streamapp.settings import Settings
from streamapp.workers.tasks import TaskWorker


def ready() -> Future[None]:
    future: Future[None] = Future()
    future.set_result(None)
    return future


@pytest.fixture
async def async_worker() -> AsyncIterator[TaskWorker]:
    worker = TaskWorker("app", Settings(max_async_jobs=2), run=run, ready=ready())
    yield worker
    await idle(worker)


async def idle(worker: TaskWorker) -> None:
    async with asyncio.timeout(WAIT_S):
        await asyncio.gather(*(task for task in asyncio.all_tasks() if task.get_name().startswith("job-")))
    assert worker.is_idle


async def aover(job: Job) -> Job:
    async with asyncio.timeout(WAIT_S):
        assert isinstance(job.answer, Answer)
        await asyncio.shield(asyncio.wrap_future(job.answer.ended))
    return job


async def test_async_jobs_over_the_apps_limit_wait_for_their_turn() -> None:
    worker = TaskWorker("app", SETTINGS, run=run, ready=ready(), max_running=1)
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


async def test_async_jobs_run_at_the_same_time_on_the_loop(async_worker: TaskWorker) -> None:
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


async def test_more_async_jobs_than_the_limit_are_refused(async_worker: TaskWorker) -> None:
    jobs = [new(lambda stream: asyncio.sleep(WAIT_S)) for _ in range(2)]
    for job in jobs:
        async_worker.submit(job)
    with pytest.raises(QueueFull, match="app runs 2 async jobs already") as refused:
        async_worker.submit(new())
    assert refused.value.retry_after_s == 1
    assert async_worker.statistics() == ("ready", 0, 2, 1)
    for job in jobs:
        job.cancel()


async def test_a_cancelled_async_job_is_cancelled_as_a_task(async_worker: TaskWorker) -> None:
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
    async_worker: TaskWorker,
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
    async_worker: TaskWorker, advance: Callable[[float], None]
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


async def test_a_timeout_of_the_endpoints_own_is_not_the_deadline(async_worker: TaskWorker) -> None:
    async def impatient(stream: Stream) -> None:
        raise TimeoutError

    job = new(impatient)
    async_worker.submit(job)
    assert code(await aover(job)) == "endpoint_failed"


@pytest.mark.parametrize("error", [ValueError(), SystemExit(1), KeyboardInterrupt(), OutOfMemoryError()])
async def test_whatever_an_async_endpoint_raises_ends_its_job(async_worker: TaskWorker, error: BaseException) -> None:
    async def fail(stream: Stream) -> None:
        raise error

    job = new(fail)
    async_worker.submit(job)
    assert (await aover(job)).status == "failed"


async def test_an_async_endpoint_that_emits_after_the_end_is_stopped(async_worker: TaskWorker) -> None:
    async def late(stream: Stream) -> None:
        job.cancel()
        await stream.aemit("late")

    job = new(late)
    async_worker.submit(job)
    await aover(job)
    await idle(async_worker)
    assert job.status == "cancelled"


# What they yield


class Countdown:
    """An async iterator that is no generator: it has nothing to close."""

    def __init__(self, n: int) -> None:
        self.n = n

    def __aiter__(self) -> "Countdown":
        return self

    async def __anext__(self) -> int:
        self.n -= 1
        if self.n < 0:
            raise StopAsyncIteration
        return self.n


async def test_what_an_async_iterator_yields_is_emitted_in_order(async_worker: TaskWorker) -> None:
    async def count(stream: Stream) -> Any:
        return Countdown(3)

    job = new(count)
    async_worker.submit(job)
    assert (await aover(job)).status == "succeeded"
    assert [(event.kind, event.json()) for event in job.channel.events()[1:4]] == [("output", n) for n in (2, 1, 0)]
    assert job.result is not None and job.result.json() == 0


async def test_an_async_generator_is_closed_when_its_job_is_cancelled(async_worker: TaskWorker) -> None:
    running, closed = asyncio.Event(), asyncio.Event()

    async def items() -> AsyncIterator[int]:
        try:
            yield 1
            running.set()
            await asyncio.Event().wait()
        finally:
            closed.set()

    async def generate(stream: Stream) -> Any:
        return items()

    job = new(generate)
    async_worker.submit(job)
    await running.wait()
    job.cancel()
    await idle(async_worker)
    assert closed.is_set()


async def test_a_yielded_image_is_encoded_off_the_loop_before_what_follows(async_worker: TaskWorker) -> None:
    gate = Gate()
    gate.opened.set()
    image = Pixels(gate)

    async def items() -> AsyncIterator[Any]:
        yield {"image": image}
        yield "last"

    async def generate(stream: Stream) -> Any:
        return items()

    job = new(generate)
    async_worker.submit(job)
    _, first, last, _ = (await aover(job)).channel.events()
    assert (first.json()["image"]["content_type"], last.json()) == ("image/png", "last")
    assert image.thread != threading.get_ident()


# What they return


async def test_an_image_of_an_async_endpoint_is_encoded_off_the_loop(async_worker: TaskWorker) -> None:
    gate = Gate()
    gate.opened.set()
    image = Pixels(gate)

    async def draw(stream: Stream) -> Any:
        return {"image": image}

    job = new(draw)
    async_worker.submit(job)
    assert (await aover(job)).status == "succeeded"
    assert image.thread != threading.get_ident()


async def test_large_files_of_an_async_endpoint_are_kept_off_the_loop(async_worker: TaskWorker) -> None:
    threads: list[int] = []

    async def make(stream: Stream) -> Any:
        await stream.aemit(File(bytes(2**20 + 1)))
        return [File(bytes(2**20 + 1))]

    job = new(make)
    job.channel.publisher = Keeping(begins=lambda: threads.append(threading.get_ident()))
    async_worker.submit(job)
    assert (await aover(job)).status == "succeeded"
    _, first, last, _ = (event.json() for event in job.channel.events())
    assert first["url"] == last[0]["url"] == "http://x.test/files/a"
    assert len(threads) == 2
    assert threading.get_ident() not in threads


@pytest.mark.parametrize(("returned", "result"), [(1, 1), (None, None), (Preview({"x": 1}), {"x": 1})])
async def test_what_an_async_endpoint_returns_is_its_last_output(
    async_worker: TaskWorker, returned: Any, result: Any
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
    worker = TaskWorker("app", SETTINGS, run=run, ready=setup)

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


async def test_an_async_job_that_is_over_already_does_not_run(async_worker: TaskWorker) -> None:
    ran: list[Stream] = []
    job = new(ran.append)
    job.cancel()
    async_worker.submit(job)
    await idle(async_worker)
    assert ran == []


async def test_setup_counts_as_waiting_for_async_jobs_too() -> None:
    setup: Future[None] = Future()
    worker = TaskWorker("app", SETTINGS, run=run, ready=setup)
    job = new(queue_timeout_s=0.01)
    worker.submit(job)
    assert code(await aover(job)) == "queue_timeout"
    await idle(worker)


async def test_when_setup_failed_async_jobs_get_its_error() -> None:
    setup: Future[None] = Future()
    worker = TaskWorker("app", SETTINGS, run=run, ready=setup)
    job = new()
    worker.submit(job)
    setup.set_exception(SetupFailed("setup of app failed with OSError"))
    assert code(await aover(job)) == "setup_failed"
    assert worker.statistics().state == "setup_failed"
    await idle(worker)


async def test_where_the_server_ends_as_setup_has_failed_async_jobs_hear_why() -> None:
    setup: Future[None] = Future()
    worker = TaskWorker("app", SETTINGS, run=run, ready=setup)
    job = new()
    worker.submit(job)
    setup.set_exception(SetupFailed("setup of app failed with OSError"))
    worker.begin_drain()
    worker.cancel_running()
    assert code(job) == "setup_failed"
    await idle(worker)


async def test_a_drain_refuses_async_jobs_and_ends_the_running_ones_when_it_is_over(async_worker: TaskWorker) -> None:
    job, elsewhere = new(lambda stream: asyncio.sleep(WAIT_S)), new()
    async_worker.submit(job)
    async_worker.begin_drain()
    with pytest.raises(Draining):
        async_worker.submit(new())
    assert async_worker.statistics().state == "draining"
    assert not job.is_over
    async_worker.cancel_running()
    assert code(job) == "draining"
    assert not elsewhere.is_over


async def test_nothing_is_left_to_start_or_to_wait_for(async_worker: TaskWorker) -> None:
    """Setup and teardown are the inference thread's."""
    async_worker.start()
    assert (async_worker.state, async_worker.position(new())) == ("ready", 0)
    assert async_worker.join(0)


def test_a_job_that_outlives_the_loop_can_still_be_cancelled() -> None:
    async def main() -> Job:
        job = new(lambda stream: asyncio.sleep(WAIT_S))
        job.channel.emit(to_event(1), waits=False)
        TaskWorker("app", SETTINGS, run=run, ready=Future()).submit(job)
        return job

    loop = asyncio.new_event_loop()
    job = loop.run_until_complete(main())
    tasks = asyncio.all_tasks(loop)
    loop.close()
    assert job.cancel()
    for task in tasks:  # what a loop does that is closed in the usual way
        task.get_coro().close()
        task._log_destroy_pending = False  # type: ignore[attr-defined]


# Sessions


class Sessions(streamapp.App):
    """Sessions on the loop, whose code waits at a gate where an input says so."""

    @cached_property
    def opened(self) -> asyncio.Event:
        return asyncio.Event()

    @cached_property
    def reached(self) -> asyncio.Event:
        return asyncio.Event()

    async def work(self, name: str, waits: bool = False) -> str:
        if waits:
            self.reached.set()
            await self.opened.wait()
        if name == "fail":
            raise ValueError
        return name

    @streamapp.realtime("/unary")
    async def unary(self, name: str, waits: bool = False) -> str:
        return await self.work(name, waits)

    @streamapp.realtime("/receive")
    async def receive(self, stream: streamapp.Stream) -> None:
        while True:
            await stream.aemit(await self.work(**await stream.areceive()))

    @streamapp.realtime("/stream")
    async def stream(self, name: str) -> AsyncIterator[str]:
        yield "first"
        yield await self.work(name)


@pytest.mark.parametrize(
    ("path", "said", "heard"),
    [
        ("/unary", ["a", "fail", "b"], ["output", "input_error", "output", "done"]),
        ("/receive", ["a", "b"], ["output", "output", "done"]),
        ("/receive", ["a", "fail"], ["output", "error"]),
        ("/stream", ["a", "b"], ["output", "output", "done"]),
        ("/stream", ["fail"], ["output", "error"]),
        ("/stream", [], ["done"]),
    ],
)
async def test_a_session_runs_on_the_loop(path: str, said: list[str], heard: list[str]) -> None:
    async with running(Sessions()) as runtime:
        talk = await begin(runtime, path)
        await talk.say(*({"name": name} for name in said))
        talk.finish()
        assert [event.kind for event in await talk.hear()] == heard
        await ended(talk.job)


@pytest.mark.parametrize("path", ["/unary", "/receive"])
async def test_a_drain_ends_sessions_that_have_nothing_to_do(path: str) -> None:
    async with running(Sessions(), drain_s=WAIT_S) as runtime:
        talk = await begin(runtime, path)
        await talk.say({"name": "a"})
        await talk.hear(1)
        await talk.is_done()
        runtime.begin_drain()
        (end,) = await talk.hear()
        assert end.json()["error"]["code"] == "draining"
        await ended(talk.job)
        with pytest.raises(Draining):
            await begin(runtime, path)


@pytest.mark.parametrize("path", ["/unary", "/receive"])
async def test_where_the_server_ends_as_setup_has_failed_sessions_hear_why(path: str) -> None:
    class Loading(Sessions):
        gate = Gate()

        def setup(self) -> None:
            self.gate()

    async with running(Loading()) as runtime:
        talk = await begin(runtime, path)
        runtime.served[0].ready.set_exception(SetupFailed("setup of app failed with OSError"))
        runtime.begin_drain()
        (end,) = await talk.hear()
        assert end.json()["error"]["code"] == "setup_failed"
        Loading.gate.opened.set()


@pytest.mark.parametrize("path", ["/unary", "/receive"])
async def test_in_a_drain_what_a_session_is_at_is_its_last(path: str) -> None:
    app = Sessions()
    async with running(app, drain_s=WAIT_S) as runtime:
        talk = await begin(runtime, path)
        await talk.say({"name": "a", "waits": True}, {"name": "b"})
        await app.reached.wait()
        runtime.begin_drain()
        app.opened.set()
        output, end = await talk.hear()
        assert (output.json(), end.json()["error"]["code"]) == ("a", "draining")


async def test_at_the_end_of_a_drain_a_session_that_still_runs_is_cancelled() -> None:
    app = Sessions()
    async with running(app) as runtime:
        talk = await begin(runtime, "/unary")
        await talk.say({"name": "a", "waits": True})
        await app.reached.wait()
        await runtime.drain()
        assert [event.kind for event in await talk.hear()] == ["error"]
        assert talk.job.has_returned


async def test_a_session_is_cancelled_as_a_task() -> None:
    app = Sessions()
    async with running(app) as runtime:
        talk = await begin(runtime, "/unary")
        await talk.say({"name": "a", "waits": True})
        await app.reached.wait()
        talk.job.cancel()
        await ended(talk.job)
        assert [event.kind for event in await talk.hear()] == ["cancelled"]


async def test_each_input_of_a_session_has_its_time() -> None:
    app = Sessions()
    async with running(app, timeout_s=0.02) as runtime:
        talk = await begin(runtime, "/unary")
        await talk.say({"name": "a"})
        assert await talk.outputs(1) == ["a"]
        await talk.say({"name": "a", "waits": True})
        (end,) = await talk.hear()
        assert end.json()["error"]["code"] == "deadline_exceeded"
        await ended(talk.job)


async def test_a_session_that_ends_just_when_it_begins_runs_nothing() -> None:
    class Late(Job):
        def start(self) -> bool:
            self.cancel()
            return super().start()

    async with running(Sessions()) as runtime:
        talk = await begin(runtime, "/receive", of=Late)
        assert [event.kind for event in await talk.hear()] == ["cancelled"]
        await ended(talk.job)
