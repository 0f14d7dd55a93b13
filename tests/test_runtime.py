"""The runtime: apps joined with their workers, run without HTTP; what clients are told of it, over HTTP."""

import asyncio
import queue
import threading
from collections.abc import AsyncIterator, Callable, Generator, Iterator
from contextlib import asynccontextmanager
from functools import cached_property
from typing import Any

import pytest
from starlette.responses import PlainTextResponse
from starlette.testclient import TestClient
from tests.served import Failing, Gated, Kinds, data, drain, finished, runtime_of, serving, shape
from tests.served import submit as submit_over_http
from tests.waiting import WAIT_S

import streamapp
from streamapp.errors import DefinitionError, Draining, QueueFull
from streamapp.http.answer import Answer, StreamAnswer, answer_of
from streamapp.http.metrics import Metrics
from streamapp.jobs.inbox import Inbox
from streamapp.jobs.job import Job, new_job_id
from streamapp.runtime import Readiness, Runtime
from streamapp.settings import Settings


def unwrapping(function: Callable[..., Any]) -> Callable[..., Any]:
    """Decorate as people do who forget `functools.wraps`."""

    def wrapper(self: Any) -> Any:
        return function(self)

    return wrapper


class Countdown:
    """An iterator that is no generator: it has nothing to close."""

    def __init__(self, n: int) -> None:
        self.n = n

    def __iter__(self) -> "Countdown":
        return self

    def __aiter__(self) -> "Countdown":
        return self

    def __next__(self) -> int:
        self.n -= 1
        if self.n < 0:
            raise StopIteration
        return self.n

    async def __anext__(self) -> int:
        try:
            return next(self)
        except StopIteration:
            raise StopAsyncIteration from None


class Example(streamapp.App):
    @cached_property
    def gate(self) -> threading.Semaphore:
        return threading.Semaphore(0)

    @cached_property
    def started(self) -> threading.Event:
        return threading.Event()

    @cached_property
    def closed_in(self) -> "queue.Queue[str]":
        return queue.Queue()

    @streamapp.endpoint("/value")
    def value(self, n: int = 0) -> int:
        return n

    @streamapp.endpoint("/wait")
    def wait(self) -> int:
        self.started.set()
        self.gate.acquire()
        return 1

    @streamapp.endpoint("/generator")
    def generator(self) -> Generator[int, None, str]:
        yield 1
        return "end"

    @streamapp.endpoint("/gated")
    def gated(self) -> Iterator[int]:
        try:
            for n in range(3):
                self.started.set()
                self.gate.acquire()
                yield n
        finally:
            self.closed_in.put(threading.current_thread().name)

    @streamapp.endpoint("/iterator")
    def iterator(self) -> Iterator[int]:
        return Countdown(2)

    @streamapp.endpoint("/async-iterator")
    def async_iterator(self) -> AsyncIterator[int]:
        return Countdown(2)

    @streamapp.endpoint("/async-generator")
    async def async_generator(self) -> AsyncIterator[int]:
        try:
            for n in range(3):
                yield n
                await asyncio.Event().wait()
        finally:
            self.closed_in.put("loop")

    @streamapp.endpoint("/with-stream")
    def with_stream(self, stream: streamapp.Stream, n: int) -> str:
        stream.emit(n)
        return stream.job_id

    @streamapp.endpoint("/renamed")
    @unwrapping
    def renamed(self) -> str:
        return "renamed"

    @streamapp.endpoint("/async-response")
    async def async_response(self) -> PlainTextResponse:
        return PlainTextResponse("own")

    @streamapp.endpoint("/response")
    def response(self) -> PlainTextResponse:
        return PlainTextResponse("own")

    @streamapp.endpoint("/misdeclared-response")
    def misdeclared_response(self) -> Iterator[str]:
        return PlainTextResponse("own")  # type: ignore[return-value]

    @streamapp.endpoint("/printing")
    def printing(self) -> None:
        print("hello")  # noqa: T201


@asynccontextmanager
async def running(*apps: streamapp.App, **settings: Any) -> AsyncIterator[Runtime]:
    runtime = Runtime(apps or [Example()], Settings(**{"drain_s": 0, **settings}))
    runtime.start()
    try:
        yield runtime
    finally:
        await runtime.drain()
        await runtime.stop()


async def submit(runtime: Runtime, path: str, *, is_detached: bool = True, **arguments: Any) -> Job:
    """Submit a job to the first app."""
    served = runtime.served[0]
    spec = next(spec for spec in served.endpoints if spec.path == path)
    request = served.request(spec, new_job_id(), is_detached=is_detached)
    answer = StreamAnswer() if spec.kind == "stream" else Answer()
    return await runtime.submit(Job(request, runtime.settings, arguments=arguments, answer=answer), served, spec)


async def ended(job: Job) -> Job:
    """Wait for the end of a job."""
    subscriber = job.attach()
    async with asyncio.timeout(WAIT_S):
        while not job.is_over:
            await subscriber.wait(WAIT_S)
            subscriber.take()
    return job


def outputs(job: Job) -> list[Any]:
    return [event.json() for event in job.channel.events() if event.kind == "output"]


@pytest.mark.parametrize(
    ("path", "arguments", "given"),
    [
        ("/value", {"n": 3}, [3]),
        ("/generator", {}, [1, "end"]),
        ("/iterator", {}, [1, 0]),
        ("/async-iterator", {}, [1, 0]),
        ("/renamed", {}, ["renamed"]),
    ],
)
async def test_a_job_runs_its_endpoint(path: str, arguments: dict[str, Any], given: list[Any]) -> None:
    async with running() as runtime:
        job = await ended(await submit(runtime, path, **arguments))
        assert (job.status, outputs(job)) == ("succeeded", given)


async def test_a_stream_parameter_gets_the_stream_of_the_job() -> None:
    async with running() as runtime:
        job = await ended(await submit(runtime, "/with-stream", n=7))
        assert outputs(job) == [7, job.id]


async def test_a_generator_is_closed_in_the_thread_that_ran_it() -> None:
    async with running(app := Example()) as runtime:
        job = await submit(runtime, "/gated")
        app.gate.release()
        subscriber = job.attach()
        await subscriber.wait(WAIT_S)
        job.cancel()
        app.gate.release()
        assert await asyncio.to_thread(app.closed_in.get, timeout=WAIT_S) == "inference-example"


async def test_an_async_generator_is_closed_when_its_job_is_cancelled() -> None:
    async with running(app := Example()) as runtime:
        job = await submit(runtime, "/async-generator")
        await job.attach().wait(WAIT_S)
        job.cancel()
        assert await asyncio.to_thread(app.closed_in.get, timeout=WAIT_S) == "loop"


def answer_to(job: Job) -> Answer:
    answer = answer_of(job)
    assert answer is not None
    return answer


async def response_of(job: Job) -> Any:
    """Take the Response that a job hands over; the job goes on until somebody says that it was sent."""
    async with asyncio.timeout(WAIT_S):
        return await asyncio.wrap_future(answer_to(job).outcome)


async def test_a_job_that_hands_over_a_response_lasts_until_it_was_sent() -> None:
    async with running() as runtime:
        job = await submit(runtime, "/response", is_detached=False)
        assert isinstance(await response_of(job), PlainTextResponse)
        assert job.status == "running"
        job.succeed(None)
        assert answer_to(job).outcome.result() is None  # let go of


async def test_many_async_endpoints_hand_over_responses_at_once() -> None:
    """None of them holds a thread while its response is sent."""
    async with running() as runtime:
        jobs = [await submit(runtime, "/async-response", is_detached=False) for _ in range(50)]
        assert {type(await response_of(job)) for job in jobs} == {PlainTextResponse}
        assert {job.status for job in jobs} == {"running"}
        for job in jobs:
            job.succeed(None)


@pytest.mark.parametrize("path", ["/response", "/async-response"])
async def test_a_response_is_the_result_of_its_job_when_that_is_detached(path: str) -> None:
    async with running() as runtime:
        job = await ended(await submit(runtime, path))
        assert job.error is None and job.result is not None
        assert job.result.json() == "own"


async def test_a_response_is_refused_when_a_stream_was_declared() -> None:
    async with running() as runtime:
        job = await ended(await submit(runtime, "/misdeclared-response", is_detached=False))
        assert job.error is not None
        assert job.error.message.endswith("declare -> Response instead")


async def test_prints_become_log_events_when_the_app_asks() -> None:
    class Captured(Example):
        capture_logs = True

    async with running(Captured()) as runtime:
        job = await ended(await submit(runtime, "/printing"))
        assert [event.json()["message"] for event in job.channel.events() if event.kind == "log"] == ["hello"]


# Refusals


async def test_a_job_that_is_refused_is_not_kept() -> None:
    async with running(app := Example(), max_queue=1) as runtime:
        jobs = [await submit(runtime, "/wait")]
        with pytest.raises(QueueFull):
            while True:
                jobs.append(await submit(runtime, "/wait"))
        assert {job.id for job in runtime.jobs} == {job.id for job in jobs}
        assert len(jobs) <= 2
        app.gate.release(9)


def test_two_apps_of_one_name_are_refused() -> None:
    with pytest.raises(DefinitionError, match="two apps are named 'example'"):
        Runtime([Example(), Example()], Settings())


# Life


async def test_workers_start_at_the_first_job_when_nobody_started_them() -> None:
    runtime = Runtime([Example()], Settings())
    assert runtime.readiness() == Readiness(False, "example: starting")
    assert (await ended(await submit(runtime, "/value"))).status == "succeeded"
    assert runtime.readiness() == Readiness(True, "ready")
    runtime.start()
    await runtime.stop()


async def test_what_goes_on_of_a_request_is_waited_for_at_the_end() -> None:
    async def close() -> None:
        for _ in range(100):
            await asyncio.to_thread(int)

    runtime = Runtime([Example()], Settings())
    runtime.keep(request := asyncio.create_task(close()))
    await runtime.stop()
    assert request.done()


async def test_nothing_is_started_to_be_stopped() -> None:
    class Loading(Example):
        def setup(self) -> None:
            raise AssertionError("must not run")

    runtime = Runtime([Loading()], Settings())
    await runtime.drain()
    await runtime.stop()
    with pytest.raises(Draining):
        await submit(runtime, "/value")


async def test_a_drain_lets_the_running_job_end() -> None:
    async with running(app := Example(), drain_s=WAIT_S) as runtime:
        job = await submit(runtime, "/wait")
        await asyncio.to_thread(app.started.wait, WAIT_S)
        runtime.begin_drain()
        assert runtime.readiness() == Readiness(False, "draining")
        app.gate.release()
        await runtime.drain()
        assert job.status == "succeeded"


async def test_an_app_is_torn_down_when_its_tasks_on_the_loop_have_ended_too() -> None:
    class Loaded(Example):
        is_loaded = True

        def teardown(self) -> None:
            self.is_loaded = False

        @streamapp.endpoint("/uses-it")
        async def uses_it(self) -> bool:
            self.started.set()
            await asyncio.to_thread(self.gate.acquire)
            return self.is_loaded

    async with running(app := Loaded(), drain_s=WAIT_S) as runtime:
        job = await submit(runtime, "/uses-it")
        await asyncio.to_thread(app.started.wait, WAIT_S)
        runtime.begin_drain()
        app.gate.release()
        await runtime.drain()
        assert (job.status, job.result and job.result.json()) == ("succeeded", True)
        assert app.is_loaded
    assert not app.is_loaded


async def test_at_its_deadline_a_drain_ends_the_running_jobs() -> None:
    async with running(app := Example()) as runtime:
        jobs = [await submit(runtime, "/gated"), await submit(runtime, "/async-generator")]
        await asyncio.to_thread(app.started.wait, WAIT_S)
        await jobs[1].attach().wait(WAIT_S)
        draining = asyncio.create_task(runtime.drain())
        for job in jobs:
            await ended(job)
        app.gate.release()
        await draining
    assert [job.error.code for job in jobs if job.error] == ["draining", "draining"]


async def test_a_thread_that_does_not_come_back_is_left_behind(caplog: pytest.LogCaptureFixture) -> None:
    async with running(app := Example()) as runtime:
        await submit(runtime, "/wait")
        await asyncio.to_thread(app.started.wait, WAIT_S)
    assert "the inference thread of example did not end; its teardown is left out" in caplog.messages
    app.gate.release()


@pytest.mark.parametrize("is_async", [True, False])
async def test_the_app_hears_of_the_end_when_no_more_jobs_are_taken(
    is_async: bool, caplog: pytest.LogCaptureFixture
) -> None:
    heard: list[bool] = []

    class Leaving(Example):
        def handle_exit(self) -> Any:
            heard.append(runtime.is_draining)
            return self.later() if is_async else None

        async def later(self) -> None:
            raise ValueError("no")

    async with running(Leaving()) as runtime:
        pass
    assert heard == [True]
    assert ("handle_exit of leaving failed" in caplog.text) == is_async


async def test_async_hooks_run_on_the_loop() -> None:
    class Async(Example):
        loops: list[Any] = []

        async def setup(self) -> None:
            self.loops.append(asyncio.get_running_loop())

        async def teardown(self) -> None:
            self.loops.append(asyncio.get_running_loop())

    async with running(Async()) as runtime:
        await ended(await submit(runtime, "/value"))
    assert Async.loops == [asyncio.get_running_loop()] * 2


class Broken(Example):
    def setup(self) -> None:
        self.gate.acquire()
        raise OSError("no such model")


@pytest.mark.parametrize("has_exit", [True, False])
async def test_when_setup_fails_the_process_is_told_to_end(has_exit: bool) -> None:
    codes: queue.Queue[int] = queue.Queue()
    runtime = Runtime([app := Broken()], Settings())
    if has_exit:
        runtime.on_exit = codes.put
    job = await submit(runtime, "/value")
    app.gate.release()
    await ended(job)
    assert job.error is not None
    assert (job.error.code, runtime.is_healthy()) == ("setup_failed", False)
    assert await asyncio.to_thread(codes.get, timeout=WAIT_S) == 3 if has_exit else codes.empty()
    await runtime.stop()


async def test_when_the_thread_is_stuck_the_process_is_told_to_end() -> None:
    codes: queue.Queue[int] = queue.Queue()
    async with running(app := Example(), timeout_s=0.01, stuck_s=0.01) as runtime:
        runtime.on_exit = codes.put
        job = await ended(await submit(runtime, "/wait"))
        assert job.error is not None
        assert job.error.code == "deadline_exceeded"
        assert await asyncio.to_thread(codes.get, timeout=WAIT_S) == 70
        assert runtime.readiness() == Readiness(False, "example: stuck")
        app.gate.release()


async def test_metrics_show_workers_jobs_and_readers() -> None:
    async with running(app := Example()) as runtime:
        jobs, channels = runtime.jobs.statistics, runtime.channel_statistics
        metrics = Metrics(runtime.worker_statistics, jobs, channels, lambda: 0, runtime.places.statistics, lambda: 0)
        runtime.observers.append(metrics.observe)
        await submit(runtime, "/value")
        waiting = await submit(runtime, "/wait")
        waiting.attach()
        await asyncio.to_thread(app.started.wait, WAIT_S)  # which the thread comes to when the other job is counted
        page = (await asyncio.to_thread(metrics.render)).decode()
        for line in (
            'streamapp_ready{app="example",kind="async"} 1.0',
            'streamapp_jobs_total{status="succeeded"} 1.0',
            "streamapp_readers 1.0",
            'streamapp_job_seconds_count{endpoint="/example/value",status="succeeded"} 1.0',
        ):
            assert line in page.splitlines()
        app.gate.release()
        await ended(waiting)


async def test_an_exit_hook_that_hangs_is_left_behind(caplog: pytest.LogCaptureFixture) -> None:
    class Hanging(Example):
        async def handle_exit(self) -> None:
            await asyncio.sleep(3600)

    async with running(Hanging()):
        pass
    assert "handle_exit of hanging has not returned; the drain goes on" in caplog.messages


async def test_an_async_exit_hook_runs_on_the_loop() -> None:
    threads: list[int] = []

    class Leaving(Example):
        async def handle_exit(self) -> None:
            threads.append(threading.get_ident())

    async with running(Leaving()):
        pass
    assert threads == [threading.get_ident()]


async def test_a_loop_that_is_blocked_for_good_ends_the_process_once_setup_has_returned(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """An `async def setup` may load a model on the loop."""
    gate, codes = threading.Event(), []  # type: tuple[threading.Event, list[int]]

    class Loading(Example):
        def setup(self) -> None:
            gate.wait(WAIT_S)

    async with running(Loading()) as runtime:
        assert not runtime._blocked()
        gate.set()
        await asyncio.wrap_future(runtime.served[0].ready)
        assert runtime._blocked()
        assert caplog.messages[-1] == "the event loop is blocked for good; end this process"
        runtime.on_blocked = codes.append
        assert runtime._blocked()
    assert codes == [70]


# Over HTTP


def test_a_full_queue_answers_429_and_when_to_come_back() -> None:
    with serving(app := Gated(), max_queue=1) as client:
        submit_over_http(client, "/wait")
        assert app.started.wait(WAIT_S)
        submit_over_http(client, "/wait")
        for answer in (client.post("/wait"), client.post("/stream"), client.get("/stream")):
            assert shape(answer) == (429, "queue_full")
            assert answer.json()["error"]["retryable"] is True
            assert 1 <= int(answer.headers["retry-after"]) <= 60
        app.gate.release(9)


def test_too_many_async_jobs_are_refused_as_well() -> None:
    class Waiting(streamapp.App):
        @streamapp.endpoint("/x")
        async def x(self) -> None:
            await asyncio.Event().wait()

    with serving(Waiting, max_async_jobs=1) as client:
        submit_over_http(client, "/x")
        assert shape(client.post("/x")) == (429, "queue_full")


def test_what_is_to_stop_a_job_waits_for_no_turn() -> None:
    class Waiting(streamapp.App, max_multiplexing=1):
        @cached_property
        def may_end(self) -> threading.Event:
            return threading.Event()

        @streamapp.endpoint("/wait")
        async def wait(self) -> bool:
            return await asyncio.to_thread(self.may_end.wait, WAIT_S)

        @streamapp.endpoint("/wait/cancel")
        async def stop(self) -> None:
            self.may_end.set()

    with serving(Waiting) as client:
        submitted = submit_over_http(client, "/wait")
        assert client.post("/wait/cancel").status_code == 200
        assert "event: done" in finished(client, submitted)


def test_only_so_many_async_jobs_run_at_a_time_as_max_multiplexing_says() -> None:
    class Waiting(streamapp.App, max_multiplexing=1):
        @streamapp.endpoint("/x")
        async def x(self) -> None:
            await asyncio.Event().wait()

        @streamapp.endpoint("/sync")
        def sync(self) -> int:
            return 1

    with serving(Waiting) as client:
        jobs = [submit_over_http(client, "/x") for _ in range(2)]
        client.post("/sync")  # meanwhile the loop has started what it may
        assert [client.get(f"/jobs/{job}").json()["status"] for job in jobs] == ["running", "queued"]


class Limited(Gated):
    max_queue = 1
    request_timeout = 0.05

    @streamapp.endpoint("/own-limit", timeout_s=60)
    def own_limit(self) -> int:
        return self.wait()

    @streamapp.endpoint("/impatient", timeout_s=60, queue_timeout_s=0.01)
    def impatient(self) -> int:
        return 1

    @streamapp.endpoint("/async")
    async def asynchronous(self) -> str:
        return "not in the queue"


def test_a_class_sets_the_limits_of_its_endpoints() -> None:
    with serving(app := Limited()) as client:
        submit_over_http(client, "/own-limit")
        assert app.started.wait(WAIT_S)
        waiting = submit_over_http(client, "/wait")
        assert shape(client.post("/wait")) == (429, "queue_full")
        app.gate.release()
        finished(client, waiting)
        assert shape(client.get(f"/jobs/{waiting}/result")) == (504, "deadline_exceeded")
        app.gate.release()


def test_a_job_that_waited_too_long_for_its_turn_is_told_so() -> None:
    with serving(app := Limited()) as client:
        submit_over_http(client, "/own-limit")
        assert app.started.wait(WAIT_S)
        answer = client.post("/impatient")
        assert (shape(answer), answer.json()["error"]["retryable"]) == ((504, "queue_timeout"), True)
        app.gate.release()


@pytest.mark.parametrize("path", ["/slow", "/async-slow"])
def test_a_job_out_of_time_is_told_so(failing: tuple[Failing, TestClient], path: str) -> None:
    assert shape(failing[1].post(path)) == (504, "deadline_exceeded")
    assert failing[1].post("/fine").json() == 1


def test_async_endpoints_do_not_wait_for_the_inference_thread() -> None:
    with serving(app := Limited()) as client:
        submit_over_http(client, "/own-limit")
        assert client.post("/async").json() == "not in the queue"
        app.gate.release()


def test_a_draining_server_takes_no_jobs() -> None:
    with serving(Kinds) as client:
        drain(client)
        for path in ("/value", "/async-value", "/generator"):
            answer = client.post(path)
            assert (shape(answer), answer.headers["retry-after"]) == ((503, "draining"), "1")
        assert client.get("/ready").json() == {"ready": False, "reason": "draining"}
        assert client.get("/health").status_code == 200


def test_jobs_wait_for_setup(caplog: pytest.LogCaptureFixture) -> None:
    class Loading(streamapp.App):
        may_load = threading.Event()

        def setup(self) -> None:
            self.may_load.wait(WAIT_S)

        @streamapp.endpoint("/x")
        def x(self) -> int:
            return 1

        @streamapp.endpoint("/async-x")
        async def async_x(self) -> int:
            return 2

    with serving(Loading) as client:
        answer = client.get("/ready")
        told = answer.json()
        assert (answer.status_code, told["ready"], told["reason"]) == (503, False, "loading: starting")
        assert client.get("/ready").json()["loading_s"] >= told["loading_s"] >= 0
        jobs = [submit_over_http(client, path) for path in ("/x", "/async-x")]
        Loading.may_load.set()
        assert [data(finished(client, job))[1] for job in jobs] == [1, 2]
        assert client.get("/ready").json() == {"ready": True, "reason": "ready"}


def test_when_setup_raises_waiting_readers_get_the_error() -> None:
    class Broken(streamapp.App):
        may_fail = threading.Event()

        def setup(self) -> None:
            self.may_fail.wait(WAIT_S)
            raise FileNotFoundError("/secret/model")

        @streamapp.endpoint("/x")
        def x(self) -> Iterator[int]:
            yield 1

        @streamapp.endpoint("/async-x")
        async def async_x(self) -> int:
            return 2

    codes: queue.Queue[int] = queue.Queue()
    with serving(Broken, first_event_wait_s=0) as client:
        runtime_of(client).on_exit = codes.put
        with client.stream("POST", "/x") as answer:
            job = submit_over_http(client, "/async-x")
            Broken.may_fail.set()
            text = "".join(answer.iter_text())
        assert data(text)[-1]["error"] == {
            "code": "setup_failed",
            "message": "setup of broken failed with FileNotFoundError",
            "retryable": False,
        }
        finished(client, job)
        assert shape(client.get(f"/jobs/{job}/result")) == (503, "setup_failed")
        assert shape(client.post("/x")) == (503, "setup_failed")
        assert (codes.get(timeout=WAIT_S), client.get("/health").status_code) == (3, 503)


@pytest.mark.parametrize("debug", [False, True])
def test_where_setup_raised_is_told_in_debug_alone(debug: bool) -> None:
    class Broken(streamapp.App):
        may_fail = threading.Event()

        def setup(self) -> None:
            self.may_fail.wait(WAIT_S)
            raise FileNotFoundError("/secret/model")

        @streamapp.endpoint("/x")
        def x(self) -> int:
            return 1

        @streamapp.endpoint("/async-x")
        async def async_x(self) -> int:
            return 2

    with serving(Broken, debug=debug) as client:
        waiting = [submit_over_http(client, path) for path in ("/x", "/async-x")]
        Broken.may_fail.set()
        for job in waiting:
            finished(client, job)
        told = [client.get(f"/jobs/{job}/result") for job in waiting]
        told += [client.post("/x"), client.post("/async-x"), client.get("/ready")]
    assert [answer.status_code for answer in told] == [503] * 5
    assert [("in setup" in answer.text, "/secret" in answer.text) for answer in told] == [(debug, debug)] * 5


def test_the_traceback_of_an_async_setup_begins_in_the_app() -> None:
    class Broken(streamapp.App):
        async def setup(self) -> None:
            await asyncio.sleep(0)
            raise FileNotFoundError("model")

        @streamapp.endpoint("/x")
        def x(self) -> int:
            return 1

    with serving(Broken, debug=True) as client:
        runtime_of(client).served[0].ready.exception(WAIT_S)
        trace = client.post("/x").json()["error"]["traceback"]
    assert (trace.count("File "), "in setup" in trace) == (1, True)


def test_a_thread_that_does_not_come_back_makes_the_server_unhealthy() -> None:
    codes: queue.Queue[int] = queue.Queue()
    with serving(app := Gated(), timeout_s=0.01, stuck_s=0.01) as client:
        runtime_of(client).on_exit = codes.put
        assert shape(client.post("/wait")) == (504, "deadline_exceeded")
        assert codes.get(timeout=WAIT_S) == 70
        answer = client.get("/health")
        assert (answer.status_code, answer.json()["detail"]) == (503, "gated: stuck")
        assert shape(client.post("/wait")) == (503, "worker_stuck")
        app.gate.release()


async def test_jobs_take_turns_where_a_class_has_more_than_one_run() -> None:
    class Two(streamapp.App, max_running=2):
        @streamapp.endpoint("/numbers")
        def numbers(self) -> Iterator[int]:
            yield 1

    async with running(Two()) as runtime:
        job = await submit(runtime, "/numbers")
        async with asyncio.timeout(WAIT_S):
            assert [event.json() async for event in job.events() if event.kind == "output"] == [1]


def test_what_a_face_asks_for_may_not_be_at_an_endpoints_path() -> None:
    class One(streamapp.App):
        @streamapp.endpoint("/numbers")
        def numbers(self) -> int:
            return 1

    runtime = Runtime([One()], Settings())
    with pytest.raises(DefinitionError, match=r"One\.numbers and .*One\.numbers are both at '/numbers'"):
        runtime.served[0].bind(runtime.served[0].endpoints[0])


async def test_a_session_that_is_refused_gives_its_place_back() -> None:
    class Echo(streamapp.App):
        @streamapp.realtime("/echo", session_timeout=60)
        def echo(self, n: int) -> int:
            return n

    async with running(Echo()) as runtime:
        served = runtime.served[0]
        spec = served.session_specs[0]
        job = Job(served.session_request(spec, new_job_id()), runtime.settings, inbox=Inbox())
        runtime.begin_drain()
        with pytest.raises(Draining):
            await runtime.submit_session(job, served, spec)
        assert not runtime.places.statistics().taken
