"""Who runs handlers: every kind of them, errors, cancelling, concurrency, and a module that is imported anew."""

import asyncio
import functools
import sys
import threading
from collections.abc import AsyncIterator, Callable, Generator, Iterator
from contextlib import suppress
from typing import Any

import PIL.Image
import pytest
from tests.at_work import Gate
from tests.handled import serving
from tests.waiting import WAIT_S, until

import streamapp
from streamapp.errors import Cancelled
from streamapp.runpod.handlers import Handler, handler_app
from streamapp.runpod.runner import HandlerWorker
from streamapp.settings import Settings
from streamapp.testing import TestClient
from streamapp_client import ApiError

Job = dict[str, Any]


def returning(job: Job) -> Any:
    return {"got": job["input"]}


async def awaiting(job: Job) -> Any:
    await asyncio.sleep(0)
    return {"got": job["input"]}


class Model:
    """What can be called, and what has a method that can."""

    def __call__(self, job: Job) -> Any:
        return {"got": job["input"]}

    async def infer(self, job: Job) -> Any:
        return {"got": job["input"]}


@functools.wraps(awaiting)
def wrapped(job: Job) -> Any:
    return awaiting(job)


async def giving_a_coroutine(job: Job) -> Any:
    return awaiting(job)


def with_a_loop_of_its_own(job: Job) -> Any:
    return asyncio.run(awaiting(job))


def with_a_task(job: Job) -> Any:
    return asyncio.ensure_future(awaiting(job), loop=asyncio.get_event_loop())


def with_another_argument(prefix: str, job: Job) -> Any:
    return returning(job)


@pytest.mark.parametrize(
    "handler",
    [
        *(returning, awaiting, Model(), Model().infer, wrapped, giving_a_coroutine, with_a_loop_of_its_own),
        *(with_a_task, functools.partial(with_another_argument, "a"), lambda job: returning(job)),
    ],
)
def test_what_a_handler_returns_is_the_result(handler: Callable[[Job], Any]) -> None:
    with serving(handler) as served:
        assert served.outputs({"a": 1}) == [{"got": {"a": 1}}]
        job = served.submit([1, "any JSON"])
        until(lambda: job.status == "succeeded")
        assert job.result is not None
        assert (job.result.json(), served.worker.streamed_output(job)) == ({"got": [1, "any JSON"]}, None)


def yielding(job: Job) -> Iterator[Any]:
    yield {"size": (1, 2)}
    yield job["input"]


async def yielding_async(job: Job) -> AsyncIterator[Any]:
    yield {"size": (1, 2)}
    await asyncio.sleep(0)
    yield job["input"]


async def giving_a_generator(job: Job) -> Any:
    return yielding(job)


async def giving_an_async_generator(job: Job) -> Any:
    return yielding_async(job)


class Cursor:
    """An iterator that can not be closed."""

    def __init__(self, job: Job) -> None:
        self._items = iter([{"size": [1, 2]}, job["input"]])

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        return next(self._items)


@pytest.mark.parametrize(
    "handler",
    [
        *(yielding, yielding_async, lambda job: yielding(job), lambda job: yielding_async(job), Cursor),
        *(giving_a_generator, giving_an_async_generator, functools.partial(yielding_async)),
    ],
)
def test_what_a_handler_yields_is_streamed_by_whatever_wraps_it(handler: Callable[[Job], Any]) -> None:
    with serving(handler, return_aggregate_stream=True) as served:
        assert served.outputs("last") == [{"size": [1, 2]}, "last"]
        job = served.submit("last")
        until(lambda: job.status == "succeeded")
        assert served.worker.streamed_output(job) == "list"


def test_without_return_aggregate_stream_a_streamed_job_has_no_output_of_its_own() -> None:
    with serving(yielding) as served:
        job = served.submit()
        until(lambda: job.is_over)
        assert served.worker.streamed_output(job) == "empty"


def yielding_nothing(job: Job) -> Iterator[Any]:
    yield from ()


async def yielding_nothing_async(job: Job) -> AsyncIterator[Any]:
    for item in list[Any]():
        yield item


@pytest.mark.parametrize("handler", [yielding_nothing, yielding_nothing_async])
def test_what_yields_nothing_has_no_item_that_says_so(handler: Callable[[Job], Any]) -> None:
    with serving(handler, return_aggregate_stream=True) as served:
        job = served.submit()
        until(lambda: job.is_over)
        assert (job.status, job.result, served.worker.streamed_output(job)) == ("succeeded", None, "list")


def returning_after_yielding(job: Job) -> Generator[Any, None, Any]:
    yield "first"
    return {"error": "", "last": True}


def test_what_a_generator_returns_comes_last() -> None:
    with serving(returning_after_yielding) as served:
        assert served.outputs() == ["first", {"last": True}]


def test_the_stream_of_a_handler_is_emitted_to_from_its_own_loop() -> None:
    async def emitting(job: Job) -> None:
        stream = streamapp.current_stream()
        await stream.aemit({"n": 1}, event="token")
        await stream.aemit(PIL.Image.new("RGB", (2, 3)))
        await stream.aemit("last")

    with serving(emitting) as served:
        events = list(served.client.stream("/stream", {}))
    assert [event.name for event in events] == ["token", "output", "output"]
    assert (events[1].data["width"], events[2].data) == (2, "last")


def test_the_loop_is_the_threads_also_after_a_handler_that_ran_one_of_its_own() -> None:
    loops: list[asyncio.AbstractEventLoop] = []

    def noting(job: Job) -> None:
        loops.append(asyncio.get_event_loop())
        asyncio.run(asyncio.sleep(0))

    with serving(noting) as served:
        served.run()
        served.run()
    assert loops[0] is loops[1]


def test_media_are_files_as_everywhere() -> None:
    async def painting(job: Job) -> AsyncIterator[Any]:
        yield {"tile": PIL.Image.new("RGB", (2, 3))}
        yield {"raw": b"abc"}

    with serving(painting) as served:
        image, raw = served.outputs()
    assert (image["tile"]["width"], image["tile"]["content_type"]) == (2, "image/png")
    assert raw["raw"]["url"].startswith("data:")


def test_a_painted_result_is_one_as_well() -> None:
    async def painting(job: Job) -> Any:
        return {"image": PIL.Image.new("RGB", (2, 3))}

    with serving(painting) as served:
        assert served.run()["image"]["height"] == 3
    with serving(lambda job: {"image": PIL.Image.new("RGB", (2, 3))}) as served:
        assert served.run()["image"]["height"] == 3


# Errors


def failed(handler: Callable[[Job], Any], settings: Settings | None = None) -> ApiError:
    with serving(handler, settings=settings) as served, pytest.raises(ApiError) as caught:
        list(served.client.stream("/stream", {}))
    return caught.value


def refusing(job: Job) -> Iterator[Any]:
    yield {"error": "no image"}
    raise AssertionError("it goes on")


async def refusing_async(job: Job) -> AsyncIterator[Any]:
    yield {"error": "no image"}
    raise AssertionError("it goes on")


async def returning_an_error(job: Job) -> Any:
    return {"error": "no image"}


@pytest.mark.parametrize(
    "handler", [refusing, refusing_async, returning_an_error, lambda job: {"error": "no image", "refresh_worker": True}]
)
def test_a_chunk_or_a_dict_with_an_error_fails_the_job_with_its_text(handler: Callable[[Job], Any]) -> None:
    error = failed(handler)
    assert (error.status_code, error.code, error.message) == (500, "endpoint_failed", "no image")


def partly(job: Job) -> Iterator[Any]:
    yield {"part": 1, "error": ["bad", 2]}


async def partly_async(job: Job) -> AsyncIterator[Any]:
    yield {"part": 1, "error": ["bad", 2]}


async def partly_returned(job: Job) -> Any:
    return {"part": 1, "error": ["bad", 2]}


@pytest.mark.parametrize(
    "handler", [partly, partly_async, partly_returned, lambda job: {"part": 1, "error": '["bad", 2]'}]
)
def test_what_else_is_in_it_is_streamed_before(handler: Callable[[Job], Any]) -> None:
    seen: list[Any] = []
    with serving(handler) as served, pytest.raises(ApiError, match=r'\["bad", 2\]'):
        seen += (event.data["part"] for event in served.client.stream("/stream", {}))
    assert seen == [1]


def test_a_dict_that_is_returned_again_and_again_keeps_its_error() -> None:
    answer = {"error": "always"}
    with serving(lambda job: answer) as served:
        for _ in range(2):
            with pytest.raises(ApiError, match="always"):
                served.run()


def raising(job: Job) -> Any:
    raise ValueError("no such seed")


async def raising_async(job: Job) -> AsyncIterator[Any]:
    yield 1
    raise ValueError("no such seed")


@pytest.mark.parametrize("handler", [raising, raising_async])
def test_what_a_handler_raises_is_told_with_its_text_and_the_next_job_runs(handler: Callable[[Job], Any]) -> None:
    with serving(handler) as served:
        for _ in range(2):
            with pytest.raises(ApiError, match="failed with ValueError: no such seed") as caught:
                list(served.client.stream("/stream", {}))
    assert caught.value.traceback is None


def test_in_debug_it_has_its_traceback() -> None:
    assert "in raising" in str(failed(raising, Settings(debug=True)).traceback)


@pytest.mark.parametrize("error", [SystemExit, KeyboardInterrupt, asyncio.CancelledError, Cancelled, GeneratorExit])
def test_whatever_a_handler_raises_ends_its_job_alone(error: type[BaseException]) -> None:
    async def leaving(job: Job) -> Any:
        if job["input"]:
            raise error
        return "here"

    def leaving_at_once(job: Job) -> Any:
        if job["input"]:
            raise error
        return "here"

    for handler in (leaving, leaving_at_once):
        with serving(handler) as served:
            with pytest.raises(ApiError):
                served.run({"leave": True})
            assert served.run() == "here"


def cancel_all(loop: asyncio.AbstractEventLoop) -> None:
    for task in asyncio.all_tasks(loop):
        task.cancel()


async def exit_later() -> None:
    sys.exit(1)


def begin_what_exits(loop: asyncio.AbstractEventLoop) -> None:
    exiting.append(loop.create_task(exit_later()))


exiting: list[asyncio.Task[None]] = []


@pytest.mark.parametrize("do", [cancel_all, asyncio.AbstractEventLoop.stop, begin_what_exits])
def test_what_a_handler_does_to_its_loop_ends_at_most_its_job(do: Callable[[asyncio.AbstractEventLoop], None]) -> None:
    async def ending(job: Job) -> Any:
        if job["input"]:
            do(asyncio.get_running_loop())
        await asyncio.sleep(0)
        return "here"

    with serving(ending) as served:
        with suppress(ApiError):
            served.run({"leave": True})
        assert [served.run() for _ in range(3)] == ["here"] * 3


def test_a_sync_handler_may_close_the_loop_that_it_got_as_scripts_do() -> None:
    async def nothing() -> str:
        return "done"

    def running(job: Job) -> str:
        loop = asyncio.get_event_loop()
        try:
            return loop.run_until_complete(nothing())
        finally:
            loop.close()

    with serving(running) as served:
        assert [served.run() for _ in range(3)] == ["done"] * 3
    with serving(running) as served:
        loop = served.worker._loop
        assert loop is not None
    assert loop.is_closed()


def test_what_has_no_json_is_said() -> None:
    circle: list[Any] = []
    circle.append(circle)
    assert failed(lambda job: {"lock": threading.Lock()}).code == "not_encodable"
    assert failed(lambda job: circle).code == "not_encodable"


# Cancelling


def test_a_generator_that_blocks_shows_each_item_at_once_and_stops_at_its_next() -> None:
    closed = threading.Event()
    pace = threading.Semaphore(0)

    def blocking(job: Job) -> Iterator[int]:
        try:
            for n in range(1000):
                yield n
                assert pace.acquire(timeout=WAIT_S)
        finally:
            closed.set()

    with serving(blocking) as served:
        stream = served.client.stream("/stream", {})
        first = next(event for event in stream if event.name == "output")
        assert served.client.get(f"/jobs/{stream.job_id}").json()["status"] == "running"
        served.client.post(f"/jobs/{stream.job_id}/cancel")
        pace.release(1000)
        assert closed.wait(WAIT_S)
    assert first.data == 0


def test_an_async_handler_is_cancelled_where_it_waits() -> None:
    seen: list[type[BaseException]] = []

    async def waiting(job: Job) -> AsyncIterator[Any]:
        yield "waits"
        try:
            await asyncio.sleep(WAIT_S)
        except asyncio.CancelledError as error:
            await asyncio.sleep(0)  # what it does now, it may finish
            seen.append(type(error))
            raise

    with serving(waiting) as served:
        stream = served.client.stream("/stream", {})
        next(event for event in stream if event.name == "output")
        served.client.post(f"/jobs/{stream.job_id}/cancel")
        until(lambda: served.worker.is_idle)
    assert seen == [asyncio.CancelledError]


def test_one_that_is_about_to_time_something_out_is_cancelled_as_well() -> None:
    begun = threading.Event()

    async def timing(job: Job) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(0):
                begun.set()
                await asyncio.to_thread(served.client.post, f"/jobs/{job['id']}/cancel")
        await asyncio.sleep(WAIT_S)

    with serving(timing) as served:
        job = served.submit()
        assert begun.wait(WAIT_S)
        until(lambda: job.has_returned)
        assert job.status == "cancelled"


def test_one_that_swallows_its_cancellation_ends_at_its_next_item() -> None:
    async def stubborn(job: Job) -> AsyncIterator[Any]:
        yield "waits"
        try:
            await asyncio.sleep(WAIT_S)
        except asyncio.CancelledError:
            pass
        yield "goes on"
        raise AssertionError

    with serving(stubborn) as served:
        stream = served.client.stream("/stream", {})
        next(event for event in stream if event.name == "output")
        served.client.post(f"/jobs/{stream.job_id}/cancel")
        until(lambda: served.worker.is_idle)
        assert served.client.job(stream.job_id).status == "cancelled"


def test_a_job_out_of_time_is_cancelled_and_the_next_one_runs() -> None:
    async def slow(job: Job) -> Any:
        await asyncio.sleep(job["input"].get("s", 0))
        return "done"

    with serving(slow, settings=Settings(timeout_s=0.2)) as served:
        with pytest.raises(ApiError) as caught:
            served.run({"s": WAIT_S})
        assert caught.value.code == "deadline_exceeded"
        assert served.run() == "done"


def test_a_job_that_ended_in_the_call_of_its_handler_is_stopped() -> None:
    serve: list[Any] = []

    def ending(job: Job) -> Any:
        serve[0].client.job(job["id"]).cancel()
        return asyncio.sleep(WAIT_S)

    with serving(ending) as served:
        serve.append(served)
        job = served.submit()
        until(lambda: job.has_returned)
        assert job.status == "cancelled"


def test_one_that_does_not_come_back_puts_the_app_out_of_service() -> None:
    lets_go: list[bool] = []

    async def deaf(job: Job) -> None:
        while not lets_go:
            with suppress(asyncio.CancelledError):
                await asyncio.sleep(0.01)

    with serving(deaf, settings=Settings(timeout_s=0.05, stuck_s=0.05)) as served:
        served.submit()
        until(lambda: served.client.get("/health").status_code == 503)
        assert served.client.get("/ready").json()["reason"] == "handled: stuck"
        lets_go.append(True)


# Several at a time


def test_jobs_run_one_after_another_unless_concurrency_modifier_says_more() -> None:
    running: list[int] = []

    async def counted(job: Job) -> Any:
        running.append(job["input"])
        most = len(running)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        running.remove(job["input"])
        return most

    with serving(counted) as served:
        jobs = [served.submit(n + 1) for n in range(4)]
        until(lambda: all(job.is_over for job in jobs))
        assert {job.result.json() for job in jobs if job.result is not None} == {1}


def test_as_many_jobs_run_at_a_time_as_concurrency_modifier_says() -> None:
    asked: list[int] = []

    def more(current: int) -> int:
        asked.append(current)
        return min(current + 1, 3)

    met: list[asyncio.Event] = []

    async def meeting(job: Job) -> Any:
        met.append(asyncio.Event())
        if len(met) == 3:
            for event in met:
                event.set()
        await met[job["input"] - 1].wait()
        return "met"

    with serving(meeting, concurrency_modifier=more) as served:
        jobs = [served.submit(n + 1) for n in range(3)]
        until(lambda: all(job.is_over for job in jobs))
        assert [job.status for job in jobs] == ["succeeded"] * 3
    assert asked[:2] == [1, 2]


@pytest.mark.parametrize("wanted", [None, 0, -1, "4", 2.0, ValueError("broken")])
def test_a_concurrency_that_is_none_is_left_aside_and_told_once(wanted: Any, caplog: pytest.LogCaptureFixture) -> None:
    def odd(current: int) -> Any:
        if isinstance(wanted, Exception):
            raise wanted
        return wanted

    with serving(awaiting, concurrency_modifier=odd) as served:
        assert [served.run({"n": n}) for n in range(3)] == [{"got": {"n": n}} for n in range(3)]
    assert sum("concurrency_modifier of handled is left aside" in line for line in caplog.messages) == 1


def test_what_a_handler_began_goes_on_between_jobs() -> None:
    ticks = threading.Semaphore(0)
    tasks: list[asyncio.Task[None]] = []

    async def ticking() -> None:
        while True:
            ticks.release()
            await asyncio.sleep(0.001)

    async def beginning(job: Job) -> Any:
        tasks.append(asyncio.get_running_loop().create_task(ticking()))

    with serving(beginning) as served:
        served.run()
        for _ in range(10):
            assert ticks.acquire(timeout=WAIT_S)
    assert tasks[0].cancelled()


def test_a_reader_who_does_not_read_holds_up_its_own_job_alone() -> None:
    async def talking(job: Job) -> AsyncIterator[Any]:
        for n in range(job["input"]["n"]):
            yield n
            await asyncio.sleep(0)

    few = Settings(ahead_events=4, behind_events=4)
    with serving(talking, settings=few, concurrency_modifier=lambda current: 2) as served:
        unread = served.client.stream("/stream", {"n": 100_000})
        next(unread)
        assert served.outputs({"n": 3}) == [0, 1, 2]
        unread.close()


def test_a_drain_lets_running_jobs_end_and_takes_no_more() -> None:
    gate = Gate()

    async def held(job: Job) -> Any:
        return await asyncio.to_thread(gate)

    with serving(held, settings=Settings(drain_s=WAIT_S)) as served:
        job, other = served.submit(), served.submit()
        gate.wait()
        served.client._api.state.runtime.call_on_loop(served.worker.begin_drain)
        until(lambda: other.is_over)
        gate.opened.set()
        until(lambda: job.is_over)
    assert (job.status, other.status, served.worker.state) == ("succeeded", "failed", "stopped")


# Setup, and a worker that is refreshed


def test_checks_run_in_the_thread_before_the_first_job_also_async_ones() -> None:
    threads: list[str] = []

    async def check_async() -> None:
        threads.append(threading.current_thread().name)

    app = handler_app({"handler": returning}, name="checked")
    app.handler = Handler(returning, checks=(lambda: threads.append("sync"), check_async))
    with TestClient(app):
        assert threads == ["sync", "inference-checked"]


def test_a_check_that_raises_fails_the_setup() -> None:
    def check() -> None:
        raise RuntimeError("no GPU")

    app = handler_app({"handler": returning}, name="unfit")
    app.handler = Handler(returning, checks=(check,))
    with pytest.raises(streamapp.StreamAppError, match="setup of unfit failed with RuntimeError"), TestClient(app):
        pass


@pytest.mark.parametrize(
    ("asks", "is_async"),
    [("config", False), ("config", True), ("returned", False), ("returned", True), ("generator", False)],
)
def test_after_refresh_worker_the_next_job_meets_a_module_in_its_first_state(asks: str, is_async: bool) -> None:
    def fresh() -> Handler:
        count = iter(range(10))

        def counting(job: Job) -> Any:
            return {"count": next(count), "refresh_worker": asks == "returned"}

        async def counting_async(job: Job) -> Any:
            return counting(job)

        def yielding(job: Job) -> Generator[Any, None, Any]:
            yield "counted"
            return {**counting(job), "refresh_worker": True}

        call = yielding if asks == "generator" else counting_async if is_async else counting
        return Handler(call, refreshes=asks == "config")

    app = handler_app({"handler": returning}, name="fresh")
    app.handler, app.read_again = fresh(), staticmethod(fresh)
    with TestClient(app) as client:
        results = []
        for _ in range(2):
            stream = client.stream("/stream", {})
            list(stream)
            results.append(stream.result)
    assert results == [{"count": 0}] * 2


def test_what_the_module_before_has_begun_is_cancelled() -> None:
    tasks: list[asyncio.Task[None]] = []

    async def beginning(job: Job) -> Any:
        tasks.append(asyncio.create_task(asyncio.sleep(WAIT_S)))
        return {"refresh_worker": True}

    app = handler_app({"handler": beginning}, name="beginning")
    app.read_again = staticmethod(lambda: Handler(beginning))
    with TestClient(app) as client:
        for _ in range(2):
            list(client.stream("/stream", {}))
        assert tasks[0].cancelled()


def test_a_module_that_cannot_be_read_again_puts_the_app_out_of_service() -> None:
    def broken() -> Handler:
        raise ImportError("no such module")

    app = handler_app({"handler": lambda job: {"refresh_worker": True}}, name="broken")
    app.read_again = staticmethod(broken)
    with TestClient(app) as client:
        list(client.stream("/stream", {}))
        until(lambda: client.get("/health").status_code == 503)


def test_without_a_file_refresh_worker_changes_nothing() -> None:
    count = iter(range(10))
    with serving(lambda job: {"count": next(count), "refresh_worker": True}) as served:
        assert [served.run(), served.run()] == [{"count": 0}, {"count": 1}]


def test_another_app_has_its_workers_as_ever() -> None:
    class Other(streamapp.App):
        @streamapp.endpoint("/x")
        def x(self) -> int:
            return 1

    with TestClient(Other) as client:
        assert client.run("/x") == 1
        assert not isinstance(client._api.state.runtime.served[0].workers.sync, HandlerWorker)
