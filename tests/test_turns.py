"""Jobs that take turns in the inference thread: several run at a time, and none waits for another's reader."""

import asyncio
import contextvars
import gc
import random
import sys
import threading
import weakref
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import Future
from contextlib import nullcontext, suppress
from functools import cached_property
from typing import Any

import PIL.Image
import pytest
from fastapi.responses import PlainTextResponse, StreamingResponse
from tests.at_work import Gate
from tests.in_session import begin, ended, running
from tests.served import serving, submit
from tests.waiting import WAIT_S, until

import streamapp
from streamapp.errors import Cancelled
from streamapp.jobs.events import Event
from streamapp.jobs.job import Job, new_job_id
from streamapp.jobs.pause import Pause, takes_turns
from streamapp.runtime import Runtime

_own: contextvars.ContextVar[str] = contextvars.ContextVar("own", default="nobody's")


class Reader:
    """Start a job, and read it as its owner."""

    def __init__(self, runtime: Runtime, job: Job) -> None:
        self.job = job
        self.ends: list[Job] = []
        job.on_ended.append(self.ends.append)
        self.read = job.attach(takes_over=True)
        self._runtime = runtime

    async def hear(self, most: int = 100_000) -> list[Any]:
        """Return the data of the outputs that come, up to so many, or to the end."""
        heard: list[Event] = []
        async with asyncio.timeout(WAIT_S):
            while len(heard) < most and not (heard and heard[-1].is_terminal):
                heard += self.read.take()
                if len(heard) < most and not (heard and heard[-1].is_terminal):
                    await self.read.wait(WAIT_S)
        return [event.json() for event in heard if event.kind == "output"]


async def start(runtime: Runtime, path: str = "/count", *, detached: bool = False, **arguments: Any) -> Reader:
    served = runtime.served[0]
    spec = next(spec for spec in served.endpoints if spec.path == path)
    limits = {name: arguments.pop(name) for name in ("timeout_s", "is_low_priority") if name in arguments}
    asked = served.request(spec, new_job_id(), is_detached=detached, **limits)
    job = Job(asked, runtime.settings, arguments=arguments)
    await runtime.submit(job, served, spec)
    return Reader(runtime, job)


class Turns(streamapp.App, max_running=4):
    """Endpoints that say in which order they were at it."""

    capture_logs = True

    @cached_property
    def gate(self) -> Gate:
        return Gate()

    @cached_property
    def order(self) -> list[Any]:
        return []

    @cached_property
    def closed(self) -> threading.Semaphore:
        return threading.Semaphore(0)

    @streamapp.endpoint("/count")
    def count(self, name: str = "", items: int = 3) -> Iterator[Any]:
        try:
            for n in range(items):
                self.order.append(f"{name}{n}")
                yield [name, n]
        finally:
            self.closed.release()

    @streamapp.endpoint("/gated")
    def gated(self, name: str = "gated") -> Iterator[Any]:
        self.order.append(f"{name}0")
        yield [name, 0]
        self.gate()
        yield [name, 1]

    @streamapp.endpoint("/whole")
    def whole(self, name: str = "whole") -> str:
        self.order.append(name)
        return name

    @streamapp.endpoint("/told")
    def told(self, name: str) -> Iterator[Any]:
        _own.set(name)
        for _ in range(2):
            sys.stdout.write(f"said by {name}\n")
            yield [_own.get(), streamapp.current_stream().job_id, self.current_request is not None]

    @streamapp.endpoint("/fails")
    def fails(self, error: Any) -> Iterator[int]:
        yield 0
        raise error

    @streamapp.endpoint("/picture")
    def picture(self) -> Any:
        yield 1
        return PIL.Image.new("RGB", (1, 1))

    @streamapp.endpoint("/yields_at_its_close")
    def yields_at_its_close(self) -> Iterator[int]:
        try:
            while True:
                yield 0
        finally:
            yield 1

    @streamapp.endpoint("/awaited")
    def awaited(self, items: int = 0) -> Any:
        return self.answer(items)

    async def answer(self, items: int) -> Any:
        await asyncio.to_thread(self.gate)
        return iter(range(items)) if items else "awaited"

    @streamapp.endpoint("/elsewhere")
    def elsewhere(self) -> Any:
        async def items() -> AsyncIterator[Any]:
            yield streamapp.current_stream().job_id
            await asyncio.to_thread(self.gate)
            yield "last"

        return items()

    @streamapp.endpoint("/response")
    def response(self) -> StreamingResponse:
        def lines() -> Iterator[str]:
            self.gate()
            yield "from a response"

        return StreamingResponse(lines())

    @streamapp.endpoint("/plain")
    def plain(self) -> PlainTextResponse:
        return PlainTextResponse("plain")

    @streamapp.realtime("/session")
    def session(self, name: str) -> str:
        self.order.append(name)
        return name


async def idle(runtime: Runtime) -> None:
    await asyncio.to_thread(until, lambda: runtime.served[0].workers.sync.is_idle)


async def held(runtime: Runtime, app: Turns) -> Reader:
    """Start a job that stands in its second turn, so that others come at once."""
    reader = await start(runtime, "/gated")
    await asyncio.to_thread(app.gate.wait)
    return reader


# Round after round


async def test_jobs_take_turns_an_item_each() -> None:
    app = Turns()
    async with running(app) as runtime:
        first = await held(runtime, app)
        others = [await start(runtime, name=name) for name in "ab"]
        app.gate.opened.set()
        assert [await reader.hear() for reader in others] == [[[name, n] for n in range(3)] for name in "ab"]
        assert await first.hear() == [["gated", 0], ["gated", 1]]
        assert app.order == ["gated0", "a0", "b0", "a1", "b1", "a2", "b2"]


async def test_a_job_that_comes_has_its_first_item_within_a_round() -> None:
    app = Turns()
    async with running(app) as runtime:
        endless = [await start(runtime, items=10**9) for _ in range(3)]
        late = await start(runtime, name="late", items=1)
        assert await late.hear() == [["late", 0]]
        for reader in endless:
            reader.job.cancel()


async def test_more_jobs_than_may_run_wait_and_all_that_run_are_counted() -> None:
    app = Turns()
    async with running(app) as runtime:
        first = await held(runtime, app)
        readers = [first, *[await start(runtime, name=name, items=2) for name in "abcde"]]
        app.gate.opened.set()
        for reader in readers[1:]:
            assert len(await reader.hear()) == 2
        assert app.order[:7] == ["gated0", "a0", "b0", "c0", "a1", "b1", "c1"]
        assert app.order.index("d0") < app.order.index("e0")


async def test_those_that_run_are_counted_and_those_that_wait_know_their_place() -> None:
    app = Turns()
    async with running(app, ahead_events=1) as runtime:
        readers = [await start(runtime) for _ in range(6)]
        worker = runtime.served[0].workers.sync
        await asyncio.to_thread(until, lambda: worker.statistics().running == 4)
        assert (worker.statistics().queued, worker.position(readers[-1].job)) == (2, 1)


async def test_a_job_of_low_priority_waits_for_all_others() -> None:
    app = Turns()
    async with running(app) as runtime:
        await held(runtime, app)
        low = await start(runtime, name="low", items=1, is_low_priority=True)
        await start(runtime, name="a", items=1)
        app.gate.opened.set()
        await low.hear()
        assert app.order == ["gated0", "a0", "low0"]


async def test_what_does_not_yield_runs_to_its_end_and_one_such_job_before_each_round() -> None:
    app = Turns()
    async with running(app) as runtime:
        first = await held(runtime, app)
        counting = await start(runtime, name="a", items=2)
        wholes = [await start(runtime, "/whole", name=name) for name in "xyz"]
        app.gate.opened.set()
        assert [await reader.hear() for reader in wholes] == [["x"], ["y"], ["z"]]
        await asyncio.gather(first.hear(), counting.hear())
        assert app.order == ["gated0", "x", "a0", "y", "a1", "z"]


async def test_sessions_take_turns_with_jobs_and_need_no_place() -> None:
    app = Turns()
    async with running(app) as runtime:
        talks = [await begin(runtime, "/session") for _ in range(2)]
        await held(runtime, app)
        counting = [await start(runtime, name=name, items=2) for name in "abcd"]
        for talk in talks:
            await talk.say({"name": "s"}, {"name": "t"})
        app.gate.opened.set()
        assert [await talk.outputs(2) for talk in talks] == [["s", "t"]] * 2
        for reader in counting:
            await reader.hear()
        assert app.order[1:10] == ["s", "s", "a0", "b0", "c0", "t", "t", "a1", "b1"]


async def test_a_session_of_its_own_goes_on_where_all_jobs_wait() -> None:
    app = Turns()
    async with running(app, ahead_events=1) as runtime:
        slow = [await start(runtime) for _ in range(4)]
        await asyncio.to_thread(until, lambda: len(app.order) == 4)
        talk = await begin(runtime, "/session")
        await talk.say(*[{"name": str(n)} for n in range(5)])
        assert await talk.outputs(5) == ["0", "1", "2", "3", "4"]
        assert [len(await reader.hear()) for reader in slow] == [3] * 4


# Readers


class Pausing(streamapp.App, max_running=2):
    @streamapp.endpoint("/stream")
    def stream(self) -> Iterator[Any]:
        yield Pause(text="")
        yield takes_turns()
        yield Pause(text="")


async def test_a_pause_is_a_turn_in_which_nothing_is_emitted() -> None:
    async with running(Pausing()) as runtime:
        reader = await start(runtime, "/stream")
        assert await reader.hear() == [True]


class Waiting(streamapp.App, max_running=2):
    """An endpoint that pauses, and one that goes on meanwhile."""

    @cached_property
    def closed(self) -> threading.Event:
        return threading.Event()

    @streamapp.endpoint("/paused")
    def paused(self, for_s: float) -> Iterator[Any]:
        try:
            yield "before"
            yield streamapp.Pause.lasting(for_s)
            yield "after"
        finally:
            self.closed.set()

    @streamapp.endpoint("/full")
    def full(self, stream: streamapp.Stream) -> Iterator[Any]:
        stream.emit("before")
        yield streamapp.Pause.lasting(10 * WAIT_S)
        yield "after"

    @streamapp.endpoint("/quick")
    def quick(self) -> Iterator[int]:
        yield from range(3)


async def test_a_pause_that_lasts_is_no_output_and_the_job_goes_on_behind_it() -> None:
    async with running(Waiting()) as runtime:
        reader = await start(runtime, "/paused", for_s=0.01)
        assert await reader.hear() == ["before", "after"]


async def test_a_pause_is_no_shorter_where_the_reader_is_behind() -> None:
    async with running(Waiting(), ahead_events=1) as runtime:
        pausing = await start(runtime, "/full")
        await (await start(runtime, "/quick")).hear()  # by then the other has come to its pause
        assert await pausing.hear(1) == ["before"]
        await (await start(runtime, "/quick")).hear()
        assert [event.json() for event in pausing.job.channel.events() if event.kind == "output"] == ["before"]
        pausing.job.cancel()


async def test_while_a_job_pauses_others_run_and_its_end_is_heard_at_once() -> None:
    app = Waiting()
    async with running(app) as runtime:
        pausing = await start(runtime, "/paused", for_s=10 * WAIT_S)
        assert await pausing.hear(1) == ["before"]
        assert await (await start(runtime, "/quick")).hear() == [0, 1, 2]
        pausing.job.cancel()
        assert await asyncio.to_thread(app.closed.wait, WAIT_S)


async def test_a_slow_reader_holds_up_nobody_and_goes_on_when_it_reads() -> None:
    app = Turns()
    async with running(app, ahead_events=2) as runtime:
        slow = await start(runtime, name="slow", items=9)
        quick = [await start(runtime, name="quick", items=500) for _ in range(3)]
        assert await asyncio.gather(*(reader.hear() for reader in quick)) == [[["quick", n] for n in range(500)]] * 3
        assert app.order.count("slow1") == 1
        assert "slow2" not in app.order
        assert await slow.hear() == [["slow", n] for n in range(9)]


async def test_where_all_wait_for_their_readers_a_new_job_is_taken_in_at_once() -> None:
    app = Turns()
    async with running(app, ahead_events=1) as runtime:
        slow = [await start(runtime, name="slow") for _ in range(3)]
        await asyncio.to_thread(until, lambda: app.order == ["slow0"] * 3)
        assert await (await start(runtime, "/whole")).hear() == ["whole"]
        assert [len(await reader.hear()) for reader in slow] == [3, 3, 3]


async def test_a_reader_that_has_used_up_the_budget_is_dropped_and_its_job_goes_on() -> None:
    app = Turns()
    async with running(app, ahead_events=1, send_timeout_s=0.02) as runtime:
        slow = await start(runtime, items=50)
        assert (await ended(slow.job)).status == "succeeded"
        assert slow.read.is_dropped


async def test_a_job_that_waits_for_its_reader_is_closed_as_soon_as_it_is_cancelled() -> None:
    app = Turns()
    async with running(app, ahead_events=1) as runtime:
        slow = await start(runtime, items=50)
        await asyncio.to_thread(until, lambda: app.order == ["0"])
        slow.job.cancel()
        assert await asyncio.to_thread(app.closed.acquire, timeout=WAIT_S)
        await idle(runtime)
        assert app.order == ["0"]


# Ends


async def test_a_job_that_is_cancelled_between_two_turns_makes_no_further_item() -> None:
    app = Turns()
    async with running(app) as runtime:
        await held(runtime, app)
        cancelled, other = await start(runtime, name="a", items=9), await start(runtime, name="b")
        app.gate.opened.set()
        await cancelled.hear(1)
        cancelled.job.cancel()
        assert await asyncio.to_thread(app.closed.acquire, timeout=WAIT_S)
        assert len(await other.hear()) == 3


async def test_a_job_that_is_over_before_its_turn_does_not_run() -> None:
    class Ends(Job):
        def start(self) -> bool:
            self.cancel()
            return super().start()

    app = Turns()
    async with running(app) as runtime:
        served = runtime.served[0]
        spec = next(spec for spec in served.endpoints if spec.path == "/whole")
        job = Ends(served.request(spec, new_job_id()), runtime.settings, arguments={"name": "never"})
        await runtime.submit(job, served, spec)
        assert (await ended(job)).status == "cancelled"
        await idle(runtime)
        assert app.order == []


@pytest.mark.parametrize(
    ("error", "status"), [(ValueError("x"), "failed"), (SystemExit(), "failed"), (Cancelled(), "cancelled")]
)
async def test_what_a_generator_raises_ends_its_job_and_no_other(error: BaseException, status: str) -> None:
    app = Turns()
    async with running(app) as runtime:
        await held(runtime, app)
        failing, other = await start(runtime, "/fails", error=error), await start(runtime)
        app.gate.opened.set()
        assert len(await other.hear()) == 3
        assert (await ended(failing.job)).status == status


async def test_an_end_that_comes_too_late_is_logged_and_ends_no_other(caplog: pytest.LogCaptureFixture) -> None:
    app = Turns()
    async with running(app) as runtime:
        odd, other = await start(runtime, "/yields_at_its_close"), await start(runtime, items=5)
        await odd.hear(1)
        odd.job.cancel()
        await idle(runtime)
        assert len(await other.hear()) == 5
        assert "generator ignored GeneratorExit" in caplog.text


async def test_a_returned_image_is_the_result() -> None:
    async with running(Turns()) as runtime:
        reader = await start(runtime, "/picture")
        one, picture = await reader.hear()
        assert (one, picture["content_type"]) == (1, "image/png")


async def test_each_job_has_a_deadline_of_its_own_from_its_start() -> None:
    app = Turns()
    async with running(app) as runtime:
        short, other = await start(runtime, items=10**9, timeout_s=0.05), await start(runtime, items=10)
        assert len(await other.hear()) == 10
        await short.hear()
        assert short.job.error is not None
        assert short.job.error.code == "deadline_exceeded"
        assert await asyncio.to_thread(app.closed.acquire, timeout=WAIT_S)


async def test_the_job_that_is_stuck_is_named_not_one_that_waits_behind_it(caplog: pytest.LogCaptureFixture) -> None:
    app = Turns()
    async with running(app, stuck_s=0.02, ahead_events=1) as runtime:
        behind = await start(runtime, items=9, timeout_s=0.02)
        culprit = await start(runtime, "/gated", timeout_s=0.2)
        await culprit.hear(1)
        worker = runtime.served[0].workers.sync
        await asyncio.to_thread(until, lambda: worker.state == "stuck")
        assert [line for line in caplog.messages if "is stuck" in line] == [
            f"the inference thread of turns is stuck in /turns/gated, job {culprit.job.id}"
        ]
        assert behind.job.is_over
        app.gate.opened.set()
        await ended(culprit.job)


async def test_what_stays_on_the_loop_behind_its_deadline_is_stuck() -> None:
    class Stays(streamapp.App, max_running=2):
        may_go = False

        @streamapp.endpoint("/x")
        def x(self) -> Any:
            return self.stays()

        async def stays(self) -> None:
            while not self.may_go:
                with suppress(asyncio.CancelledError):
                    await asyncio.sleep(0.01)

    app = Stays()
    async with running(app, stuck_s=0.02) as runtime:
        await start(runtime, "/x", timeout_s=0.02)
        worker = runtime.served[0].workers.sync
        await asyncio.to_thread(until, lambda: worker.state == "stuck")
        app.may_go = True


async def test_a_drain_lets_those_that_run_come_to_their_end() -> None:
    app = Turns()
    async with running(app, drain_s=WAIT_S) as runtime:
        await held(runtime, app)
        runs, waits = [await start(runtime, items=5) for _ in range(3)], await start(runtime)
        await asyncio.to_thread(until, lambda: runtime.served[0].workers.sync.statistics().queued == 4)
        app.gate.opened.set()
        await runs[0].hear(1)
        runtime.begin_drain()
        for reader in runs:
            await ended(reader.job)
        assert {reader.job.status for reader in runs} <= {"succeeded", "failed"}
        await ended(waits.job)


async def test_nothing_of_a_job_is_kept_when_it_is_over() -> None:
    class Kept:
        pass

    class Keeps(streamapp.App, max_running=2):
        made: Any = None

        @streamapp.endpoint("/x")
        def x(self) -> Iterator[int]:
            kept = Kept()
            Keeps.made = weakref.ref(kept)
            yield 1

    async with running(Keeps()) as runtime:
        assert await (await start(runtime, "/x")).hear() == [1]
        await idle(runtime)
        gc.collect()
        assert Keeps.made() is None


# Whose it is


async def test_each_turn_is_in_its_jobs_context_and_what_it_prints_is_its_own() -> None:
    app = Turns()
    async with running(app) as runtime:
        await held(runtime, app)
        readers = {name: await start(runtime, "/told", name=name) for name in "abc"}
        app.gate.opened.set()
        for name, reader in readers.items():
            assert await reader.hear() == [[name, reader.job.id, True]] * 2
            lines = [event.json()["message"] for event in reader.job.channel.events() if event.kind == "log"]
            assert lines == [f"said by {name}"] * 2


async def test_a_generators_code_runs_in_the_inference_thread_alone() -> None:
    class Where(streamapp.App, max_running=3):
        @streamapp.endpoint("/x")
        def x(self) -> Iterator[str]:
            try:
                yield threading.current_thread().name
            finally:
                assert threading.current_thread().name == "inference-where"

    async with running(Where()) as runtime:
        for reader in [await start(runtime, "/x") for _ in range(5)]:
            assert await reader.hear() == ["inference-where"]
            assert reader.job.status == "succeeded"


async def test_a_mode_of_torch_is_that_of_the_job_which_has_set_it() -> None:
    torch = pytest.importorskip("torch")

    class Modes(streamapp.App, max_running=3):
        @streamapp.endpoint("/x")
        def x(self, kind: str) -> Iterator[Any]:
            mode = {"no_grad": torch.no_grad, "inference": torch.inference_mode, "usual": nullcontext}[kind]
            for _ in range(2):
                with mode():
                    yield [torch.is_grad_enabled(), torch.is_inference_mode_enabled()]
                    yield [torch.is_grad_enabled(), torch.is_inference_mode_enabled()]
                yield [torch.is_grad_enabled(), torch.is_inference_mode_enabled()]

    async with running(Modes()) as runtime:
        wanted = {"no_grad": [False, False], "inference": [False, True], "usual": [True, False]}
        readers = {kind: await start(runtime, "/x", kind=kind) for kind in wanted}
        for kind, reader in readers.items():
            assert await reader.hear() == [wanted[kind], wanted[kind], [True, False]] * 2


# What is the loop's


@pytest.mark.parametrize("path", ["/awaited", "/elsewhere"])
async def test_others_go_on_while_the_loop_is_at_what_an_endpoint_has_returned(path: str) -> None:
    app = Turns()
    async with running(app) as runtime:
        loops = await start(runtime, path)
        await asyncio.to_thread(app.gate.wait)
        assert len(await (await start(runtime)).hear()) == 3
        app.gate.opened.set()
        assert (await loops.hear())[-1] in ("awaited", "last")


async def test_what_is_iterated_on_the_loop_finds_its_own_stream() -> None:
    app = Turns()
    app.gate.opened.set()
    async with running(app) as runtime:
        reader = await start(runtime, "/elsewhere")
        assert await reader.hear() == [reader.job.id, "last"]


async def test_an_iterator_that_was_awaited_takes_turns() -> None:
    app = Turns()
    app.gate.opened.set()
    async with running(app) as runtime:
        assert await (await start(runtime, "/awaited", items=4)).hear() == [0, 1, 2, 3]


async def test_what_the_loop_is_at_has_a_deadline_too() -> None:
    app = Turns()
    async with running(app) as runtime:
        reader = await start(runtime, "/awaited", timeout_s=0.02)
        await reader.hear()
        assert reader.job.error is not None
        assert reader.job.error.code == "deadline_exceeded"
        await idle(runtime)
        app.gate.opened.set()


async def test_a_cancel_stops_what_the_loop_is_at() -> None:
    app = Turns()
    async with running(app) as runtime:
        reader = await start(runtime, "/awaited")
        await asyncio.to_thread(app.gate.wait)
        reader.job.cancel()
        assert (await ended(reader.job)).status == "cancelled"
        await idle(runtime)
        app.gate.opened.set()


def test_others_go_on_while_a_response_of_the_endpoints_own_is_sent() -> None:
    app = Turns
    answers: Future[str] = Future()
    with serving(app) as client:
        served = client.app.state.runtime.served[0].app  # type: ignore[attr-defined]
        asking = threading.Thread(target=lambda: answers.set_result(client.post("/response").text))
        asking.start()
        served.gate.wait()
        assert client.post("/whole", json={"name": "x"}).json() == "x"
        served.gate.opened.set()
        assert answers.result(WAIT_S) == "from a response"
        assert client.post("/plain").text == "plain"
        asking.join(WAIT_S)
        kept = submit(client, "/plain")
        until(lambda: client.get(f"/jobs/{kept}").json()["status"] == "succeeded")
        assert client.get(f"/jobs/{kept}/result").json() == "plain"


# As ever


def test_setup_and_teardown_stand_around_all_turns() -> None:
    order: list[str] = []

    class Whole(streamapp.App, max_running=2):
        def setup(self) -> None:
            order.append("setup")

        @streamapp.endpoint("/x")
        def x(self) -> Iterator[str]:
            order.append("job")
            yield "x"

        def teardown(self) -> None:
            order.append("teardown")

    with serving(Whole) as client:
        client.post("/x")
    assert order == ["setup", "job", "teardown"]


class Random(streamapp.App, max_running=4):
    """Jobs that do what they are told to."""

    @streamapp.endpoint("/x")
    def x(self, items: int, kind: str, stream: streamapp.Stream) -> Any:
        if kind == "whole":
            for n in range(items):
                stream.emit(n)
            return "whole"
        if kind == "loop":
            return self._on_loop(items)
        return self._items(items, kind, stream)

    async def _on_loop(self, items: int) -> AsyncIterator[int]:
        for n in range(items):
            await asyncio.sleep(0)
            yield n

    def _items(self, items: int, kind: str, stream: streamapp.Stream) -> Iterator[int]:
        for n in range(items):
            if kind == "emits":
                stream.emit(n)
            else:
                yield n
        if kind == "raises":
            raise ValueError("as it was told to")


async def read_randomly(reader: Reader, chance: random.Random) -> list[Event]:
    """Read a job to its end, cancel it, or leave it; return what was heard."""
    heard: list[Event] = []
    cancels_at = chance.choice([None, None, None, 3, 20])
    while not (heard and heard[-1].is_terminal):
        for _ in range(chance.choice([0, 0, 5])):
            await asyncio.sleep(0)
        heard += reader.read.take()
        if cancels_at is not None and len(heard) >= cancels_at:
            reader.job.cancel()
        if not (heard and heard[-1].is_terminal):
            await reader.read.wait(WAIT_S)
    return heard


@pytest.mark.parametrize("seed", range(5))
async def test_whatever_jobs_and_readers_do_each_hears_its_own_whole_and_in_order(seed: int) -> None:
    chance = random.Random(seed)
    async with running(Random(), ahead_events=chance.choice([1, 3, 1024]), max_queue=100) as runtime:
        asked = [
            (chance.randrange(1, 60), chance.choice(["", "", "raises", "emits", "whole", "loop"])) for _ in range(40)
        ]
        readers = [await start(runtime, "/x", items=items, kind=kind) for items, kind in asked]
        heard = await asyncio.gather(*(read_randomly(reader, chance) for reader in readers))
        for (items, kind), reader, events in zip(asked, readers, heard, strict=True):
            *outputs, end = [event for event in events if event.kind != "started"]
            numbers = [event.json() for event in outputs]
            if kind == "whole" and end.kind == "done":
                assert numbers.pop() == "whole"
            assert numbers == list(range(len(numbers)))
            assert (len(numbers) == items) >= (end.kind == "done")
            assert end.kind in ("done", "cancelled", "error" if kind == "raises" else "done")
            assert reader.ends == [reader.job]
        await idle(runtime)
        assert runtime.served[0].workers.sync.statistics().running == 0
