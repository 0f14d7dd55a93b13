"""Proof of the seams: other workers, written on `Lane` and the `Worker` protocol alone, behind the real HTTP app.

Nothing but the worker is replaced: channel, responses, client and apps are what they are for the inference thread.
"""

import asyncio
import multiprocessing
import os
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from functools import cached_property
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from threading import Semaphore, current_thread
from typing import Any

import PIL.Image
import pytest
from tests.at_work import Gate
from tests.waiting import WAIT_S, until

import streamapp
from streamapp.errors import Cancelled
from streamapp.jobs.events import Event as LoggedEvent
from streamapp.jobs.job import Job
from streamapp.jobs.stream import Stream
from streamapp.runtime import Runtime, ServedApp, Workers
from streamapp.settings import Settings
from streamapp.testing import TestClient
from streamapp.workers.results import final_event, report
from streamapp.workers.tasks import TaskWorker
from streamapp.workers.worker import Lane, State, WorkerStatistics
from streamapp_client import ApiError, Event

ASYNC = {"Prefer": "respond-async"}


# Several jobs in one step


class LaneWorker:
    """Hand to its lane what a worker does not do itself."""

    def __init__(self, served: ServedApp) -> None:
        self.name, self._served = served.name, served
        self._lane = Lane(served.name, served.settings, on_broken=served.on_broken)
        self.ready = self._lane.ready

    @property
    def state(self) -> State:
        return self._lane.state

    @property
    def is_idle(self) -> bool:
        return self._lane.is_idle

    def submit(self, job: Job) -> None:
        self._lane.submit(job)

    def position(self, job: Job) -> int:
        return self._lane.position(job)

    def begin_drain(self) -> None:
        self._lane.begin_drain()

    def cancel_running(self) -> None:
        self._lane.cancel_running()

    def join(self, timeout_s: float) -> bool:
        return self._lane.join(timeout_s)

    def statistics(self) -> WorkerStatistics:
        return self._lane.statistics()


class BatchWorker(LaneWorker):
    """Advance up to eight jobs by one step of their generators in each turn, in one thread."""

    def __init__(self, served: ServedApp) -> None:
        super().__init__(served)
        self.turns: list[int] = []  # how many jobs advanced in each

    def start(self) -> None:
        self._lane.start(self._work)

    def _work(self) -> None:
        self._served.setup()
        self._lane.open()
        batch: list[Iterator[None]] = []
        while (jobs := self._lane.take(8 - len(batch), timeout_s=0 if batch else None)) or batch:
            batch += map(self._steps, jobs)
            self.turns.append(len(batch))
            batch = [steps for steps in batch if next(steps, "end") is None]
        self._served.teardown()
        self._lane.close()

    def _steps(self, job: Job) -> Iterator[None]:
        """Run a job; every step of its generator is one of this."""
        stream, items = Stream(job.channel, job.id), iter(())
        try:
            if job.start():
                items = job.context.run(self._served.run, job, stream)
                while True:
                    stream.emit(job.context.run(next, items))
                    yield
        except StopIteration as stop:
            job.succeed(final_event(job, stop.value))
        except Cancelled:
            job.cancel()
        except BaseException as error:
            report(job, error)
        finally:
            getattr(items, "close", int)()
            job.returned()
            self._lane.done(job)


class Denoiser(streamapp.App):
    """Generators whose steps the test counts and holds up."""

    @cached_property
    def gate(self) -> Gate:
        return Gate()

    @cached_property
    def pace(self) -> Semaphore:
        return Semaphore(0)

    @cached_property
    def steps(self) -> Counter[str]:
        return Counter()

    @cached_property
    def previews(self) -> Counter[str]:
        return Counter()

    @cached_property
    def threads(self) -> set[str]:
        return set()

    def setup(self) -> None:
        self.threads.add(current_thread().name)

    def teardown(self) -> None:
        self.threads.add(current_thread().name)

    @streamapp.endpoint("/hold")
    def hold(self) -> Iterator[int]:
        """Keep the thread until the test lets it go on."""
        self.gate()
        yield 1

    @streamapp.endpoint("/denoise")
    def denoise(self, user: str, stream: streamapp.Stream, steps: int = 10, fails_at: int = -1) -> Any:
        for step in range(steps):
            if step == fails_at:
                raise ValueError("no such seed")
            if stream.wants_preview():
                self.previews[user] += 1
                stream.preview({"step": step})
            self.threads.add(current_thread().name)
            yield {"step": step}
        return {"user": user}

    @streamapp.endpoint("/paced")
    def paced(self, user: str, steps: int = 5) -> Iterator[int]:
        try:
            for step in range(steps):
                assert self.pace.acquire(timeout=WAIT_S)
                self.steps[user] += 1
                yield step
        finally:
            self.threads.add(f"closed in {current_thread().name}")

    @streamapp.endpoint("/endless", timeout_s=0.05)
    def endless(self, stream: streamapp.Stream) -> Iterator[streamapp.Progress]:
        while True:
            yield streamapp.Progress(1)

    @streamapp.endpoint("/beside")
    async def beside(self) -> str:
        return "on the loop"


class Batching:
    """An app behind a batch worker, and its users, each in a thread."""

    def __init__(self, client: TestClient, worker: BatchWorker, users: ThreadPoolExecutor) -> None:
        self.client = client
        self.worker = worker
        self.app: Any = worker._served.app
        self.runtime: Runtime = client._api.state.runtime
        self._users = users

    def stream(self, path: str, **arguments: Any) -> "Future[list[Event]]":
        """Have a user start a job and read it to its end."""
        return self._users.submit(lambda: list(self.client.stream(path, arguments)))

    def hold(self) -> None:
        """Keep the thread in a job."""
        self.client.post("/hold", headers=ASYNC)
        self.app.gate.wait()

    def go_on(self, readers: int) -> None:
        """Let the thread go on when so many readers have come: their jobs begin in the same turn."""
        self.wait_for(readers)
        self.app.gate.opened.set()

    def wait_for(self, readers: int) -> None:
        until(lambda: f"streamapp_readers {readers}.0" in self.client.get("/metrics").text)


@contextmanager
def batching(**settings: Any) -> Iterator[Batching]:
    made: list[BatchWorker] = []

    def make(served: ServedApp) -> Workers:
        made.append(BatchWorker(served))
        return Workers(made[0], TaskWorker(served.name, served.settings, run=served.run, ready=made[0].ready))

    app = Denoiser()
    with ThreadPoolExecutor(16) as users:
        with TestClient(app, settings=Settings(**{"drain_s": 0, **settings}), workers=make) as client:
            try:
                yield Batching(client, made[0], users)
            finally:
                app.gate.opened.set()
                app.pace.release(1000)


def named(events: list[Event], name: str) -> list[Any]:
    return [event.data for event in events if event.name == name]


def test_the_steps_of_several_users_are_made_in_the_same_turns() -> None:
    with batching() as b:
        b.hold()
        streams = [b.stream("/denoise", user=f"{n}") for n in range(6)]
        b.go_on(readers=6)
        for n, stream in enumerate(streams):
            *steps, last = named(stream.result(WAIT_S), "output")
            assert (steps, last) == ([{"step": step} for step in range(10)], {"user": f"{n}"})
        # 60 steps. The first turn is the holding job's, whose second joins theirs; in the last one they return.
        assert b.worker.turns == [1, 7] + [6] * 10
    assert b.app.threads == {"inference-denoiser"}


def test_more_users_than_fit_join_when_others_have_ended() -> None:
    with batching() as b:
        b.hold()
        streams = [b.stream("/denoise", user=f"{n}", steps=2) for n in range(12)]
        b.go_on(readers=12)
        assert [named(s.result(WAIT_S), "output")[-1]["user"] for s in streams] == [f"{n}" for n in range(12)]
        # Seven join the holding job, the eighth when that has ended, the other four when the seven have.
        assert b.worker.turns == [1, 8, 8, 8, 5, 4, 4]


def test_previews_are_made_for_those_who_watch() -> None:
    with batching() as b:
        b.hold()
        b.client.post("/denoise", json={"user": "nobody watches"}, headers=ASYNC)
        stream = b.stream("/denoise", user="watches")
        b.go_on(readers=1)
        assert named(stream.result(WAIT_S), "preview")
    assert b.app.previews["watches"] >= 1
    assert b.app.previews["nobody watches"] == 0


def test_a_job_that_is_cancelled_makes_one_more_step_at_most() -> None:
    with batching() as b:
        leaving = b.client.stream("/paced", {"user": "leaves"})
        other = b.stream("/paced", user="stays")
        b.wait_for(readers=2)
        b.app.pace.release(3)
        until(lambda: sum(b.app.steps.values()) == 3)
        made = b.app.steps["leaves"]
        leaving.close()
        assert b.client.job(leaving.job_id).status == "cancelled"
        b.app.pace.release(5)
        assert named(other.result(WAIT_S), "output") == [0, 1, 2, 3, 4]
        assert b.app.steps["leaves"] <= made + 1
    assert b.app.threads == {"inference-denoiser", "closed in inference-denoiser"}


def test_what_one_job_raises_ends_that_job_alone() -> None:
    with batching() as b:
        b.hold()
        failing = b.stream("/denoise", user="fails", fails_at=3)
        other = b.stream("/denoise", user="goes on")
        b.go_on(readers=2)
        with pytest.raises(ApiError, match="ValueError"):
            failing.result(WAIT_S)
        assert named(other.result(WAIT_S), "output")[-1] == {"user": "goes on"}


def test_a_job_out_of_time_ends_and_the_others_go_on() -> None:
    with batching() as b:
        late = b.stream("/endless")
        with pytest.raises(ApiError) as out_of_time:
            late.result(WAIT_S)
        assert out_of_time.value.code == "deadline_exceeded"
        assert named(b.stream("/denoise", user="next").result(WAIT_S), "output")[-1] == {"user": "next"}


def test_a_thread_that_hangs_in_a_step_puts_the_app_out_of_service() -> None:
    with batching(timeout_s=0.05, stuck_s=0.05) as b:
        b.hold()
        until(lambda: b.client.get("/health").status_code == 503)
        assert b.client.get("/ready").json()["reason"] == "denoiser: stuck"
        assert b.client.post("/denoise", json={"user": "late"}).json()["error"]["code"] == "worker_stuck"


def test_a_drain_lets_the_batch_end_and_takes_nobody_in() -> None:
    with batching(drain_s=WAIT_S) as b:
        running = [b.stream("/paced", user=f"{n}") for n in range(2)]
        b.wait_for(readers=2)
        b.app.pace.release(1)
        until(lambda: b.worker.statistics().running == 2)
        b.runtime.call_on_loop(b.runtime.begin_drain)
        until(lambda: b.client.get("/ready").json()["reason"] == "draining")
        assert b.client.post("/denoise", json={"user": "late"}).status_code == 503
        b.app.pace.release(9)
        assert [named(stream.result(WAIT_S), "output") for stream in running] == [[0, 1, 2, 3, 4]] * 2
    assert b.worker.state == "stopped"


def test_when_the_drain_is_over_the_whole_batch_is_told() -> None:
    with batching() as b:
        running = [b.stream("/paced", user=f"{n}") for n in range(2)]
        b.wait_for(readers=2)
        b.app.pace.release(1)  # where one came after the other, that one joins behind its first step
        until(lambda: b.worker.statistics().running == 2)
        b.client._portal.call(b.runtime.drain)
        for stream in running:
            with pytest.raises(ApiError) as ended:
                stream.result(WAIT_S)
            assert ended.value.code == "draining"


def test_those_who_wait_know_their_position_and_a_full_queue_refuses() -> None:
    with batching(max_queue=2) as b:
        b.hold()
        jobs = [b.client.post("/denoise", json={"user": f"{n}"}, headers=ASYNC).headers["location"] for n in range(2)]
        assert [b.client.get(job).json()["position"] for job in jobs] == [0, 1]
        refused = b.client.post("/denoise", json={"user": "late"})
        assert (refused.status_code, refused.headers["retry-after"]) == (429, "1")
        assert b.client.run("/beside") == "on the loop"  # which the thread does not hold up


# Another process


class ProcessWorker(LaneWorker):
    """Run each job in a process that has an instance of the app and the runtime's own workers; another when it dies.

    The log of a job is there; here is its mirror, with the numbers that the events have there.
    """

    def __init__(self, served: ServedApp) -> None:
        super().__init__(served)
        self.processes: list[BaseProcess] = []

    def start(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._lane.start(self._work)

    def _work(self) -> None:
        self._connect()
        self._lane.open()
        while jobs := self._lane.take():
            self._run(jobs[0])
        self._pipe.close()
        self.processes[-1].join(WAIT_S)
        self._lane.close()

    def _connect(self) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, far = context.Pipe()
        arguments = (far, type(self._served.app), self._served.settings)
        self.processes.append(context.Process(target=run_elsewhere, args=arguments, daemon=True))
        self.processes[-1].start()
        far.close()
        assert self._pipe.recv() == "ready"

    def _run(self, job: Job) -> None:
        job.on_ended.append(lambda job: self._tell("cancel", job.id))
        while job.start():
            self._tell("run", job.request, job.attempt)
            self._loop.call_soon_threadsafe(job.channel.listen_to_demand, lambda wants: self._tell("demand", wants))
            try:
                while events := self._pipe.recv():
                    with suppress(Cancelled):
                        asyncio.run_coroutine_threadsafe(take_in(job, events), self._loop).result(WAIT_S)
                break
            except (EOFError, OSError):  # the process is dead
                self._connect()
                job.begin_again()
        job.returned()
        self._lane.done(job)

    def _tell(self, *order: Any) -> None:
        with suppress(OSError):
            self._pipe.send(order)


async def take_in(job: Job, events: list[LoggedEvent]) -> None:
    while not job.channel.take_in(events):
        await job.channel.room()


def run_elsewhere(pipe: Connection, app: type[streamapp.App], settings: Settings) -> None:
    asyncio.run(serve_pipe(pipe, app, settings))


async def serve_pipe(pipe: Connection, app: type[streamapp.App], settings: Settings) -> None:
    """Be the other end: give the jobs that come to a runtime, and send back what is new in their logs."""
    runtime = Runtime([app()], settings)
    (served,), specs = runtime.served, {spec.path: spec for spec in app.endpoints()}
    runtime.start()
    await asyncio.wrap_future(served.ready)
    pipe.send("ready")

    async def report() -> None:
        events: list[LoggedEvent] = []
        while not (events and events[-1].is_terminal):
            await reader.wait(WAIT_S)
            if events := reader.take():
                await asyncio.to_thread(pipe.send, events)
        await asyncio.to_thread(pipe.send, [])

    with suppress(EOFError):
        while order := await asyncio.to_thread(pipe.recv):
            match order:
                case ("run", request, attempt):
                    job = Job(request, settings, attempt=attempt)
                    reader = job.attach(takes_over=True, hears_start=True)
                    await runtime.submit(job, served, specs[request.endpoint])
                    reporting = asyncio.create_task(report())
                case ("demand", wants):
                    reader.shows_previews = wants
                case ("cancel", job_id) if job_id == job.id:
                    job.cancel()
    reporting.cancel()
    await runtime.drain()
    await runtime.stop()


class Elsewhere(streamapp.App):
    """Endpoints whose steps the test allows, in whatever process they run, by files in a folder."""

    @streamapp.endpoint("/steps")
    def run_steps(self, folder: str, stream: streamapp.Stream, steps: int = 5) -> Iterator[Any]:
        for step in range(steps):
            until((Path(folder) / f"{step}").exists)
            (Path(folder) / "made").write_text(f"{step}")
            if stream.wants_preview():
                stream.preview({"step": step})
            yield {"pid": os.getpid(), "step": step}

    @streamapp.endpoint("/size")
    def size(self, image: streamapp.Image, times: int = 2) -> Any:
        return [image.width * times, os.getpid(), self.current_request.headers["x-tenant"]]  # type: ignore[union-attr]

    @streamapp.endpoint("/fail")
    def fail(self) -> None:
        raise ValueError("no such seed")

    @streamapp.endpoint("/many")
    def many(self) -> Iterator[int]:
        yield from range(20_000)


@contextmanager
def elsewhere() -> Iterator[tuple[TestClient, ProcessWorker]]:
    made: list[ProcessWorker] = []

    def make(served: ServedApp) -> Workers:
        made.append(ProcessWorker(served))
        return Workers(made[0], TaskWorker(served.name, served.settings, run=served.run, ready=made[0].ready))

    with TestClient(Elsewhere, settings=Settings(drain_s=0), workers=make) as client:
        yield client, made[0]


def allow(folder: Path, *steps: int) -> None:
    for step in steps:
        (folder / f"{step}").touch()


def test_a_job_runs_in_another_process_and_its_previews_are_made_for_those_who_watch(tmp_path: Path) -> None:
    allow(tmp_path, *range(5))
    with elsewhere() as (client, worker):
        events = list(client.stream("/steps", {"folder": str(tmp_path)}))
        unwatched = client.post("/steps", json={"folder": str(tmp_path)}, headers=ASYNC)
        until(lambda: client.get(unwatched.headers["location"]).json()["status"] == "succeeded")
        read = client.get(unwatched.headers["location"] + "/events")
    assert named(events, "output") == [{"pid": worker.processes[0].pid, "step": step} for step in range(5)]
    assert named(events, "preview")
    assert "preview" not in read.text


def test_what_a_request_brings_is_there(tmp_path: Path) -> None:
    image = streamapp.Image.from_pil(PIL.Image.new("RGB", (7, 1)))
    with elsewhere() as (client, worker):
        answer = client.post(
            "/size", data={"times": "3"}, files={"image": ("a.png", image.data)}, headers={"X-Tenant": "ann"}
        )
    assert answer.json() == [21, worker.processes[0].pid, "ann"]


def test_what_is_raised_there_is_told_here_and_the_next_job_runs() -> None:
    with elsewhere() as (client, _):
        for _ in range(2):
            assert client.post("/fail").json()["error"]["message"].startswith("endpoint /elsewhere/fail failed with V")


def test_a_job_there_stops_when_its_client_leaves(tmp_path: Path) -> None:
    allow(tmp_path, 0, 1)
    with elsewhere() as (client, worker):
        leaving = client.stream("/steps", {"folder": str(tmp_path), "steps": 1000})
        while next(leaving).data != {"pid": worker.processes[0].pid, "step": 1}:
            pass
        leaving.close()
        allow(tmp_path, *range(2, 1000))
        until(lambda: worker.is_idle)
        assert int((tmp_path / "made").read_text()) <= 2


def test_many_events_come_whole_and_in_order() -> None:
    with elsewhere() as (client, _):
        assert named(list(client.stream("/many")), "output") == list(range(20_000))


def test_a_stream_from_there_is_resumed_without_a_lost_event(tmp_path: Path) -> None:
    allow(tmp_path, 0, 1)
    with elsewhere() as (client, _):
        first = client.stream("/steps", {"folder": str(tmp_path)}, headers={"Streamapp-Resume": "60"})
        last = next(event for event in first if event.name == "output")
        first.close()
        allow(tmp_path, 2, 3, 4)
        rest = list(client.resume(last.id))
    assert [event["step"] for event in named(rest, "output")] == [1, 2, 3, 4]


def test_when_the_process_dies_the_stream_goes_on_in_another_attempt(tmp_path: Path) -> None:
    allow(tmp_path, 0, 1)
    with elsewhere() as (client, worker):
        stream = client.stream("/steps", {"folder": str(tmp_path)})
        seen = [next(event for event in stream if event.name == "output")]
        worker.processes[0].kill()
        allow(tmp_path, 2, 3, 4)
        seen += list(stream)
        assert client.job(stream.job_id).attempt == 2
    assert [event.name for event in seen if event.name in ("restarted", "done")] == ["restarted"]
    restarted = next(n for n, event in enumerate(seen) if event.name == "restarted")
    after = named(seen[restarted:], "output")
    assert after == [{"pid": worker.processes[1].pid, "step": step} for step in range(5)]
