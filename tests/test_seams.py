"""Proof of the seams: other workers, written on `Lane` and the `Worker` protocol alone, behind the real HTTP app.

Nothing but the worker is replaced: channel, responses, client and apps are what they are for the inference thread.
"""

from collections import Counter
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from functools import cached_property
from threading import Semaphore, current_thread
from typing import Any

import pytest
from tests.at_work import Gate
from tests.waiting import WAIT_S, until

import streamapp
from streamapp.errors import Cancelled
from streamapp.job import Job
from streamapp.results import final_event, report
from streamapp.runtime import Runtime, ServedApp, Workers
from streamapp.settings import Settings
from streamapp.stream import Stream
from streamapp.tasks import TaskWorker
from streamapp.testing import TestClient
from streamapp.worker import Lane, State, WorkerStatistics
from streamapp_client import ApiError, Event

ASYNC = {"Prefer": "respond-async"}


# Several jobs in one step


class BatchWorker:
    """Advance up to eight jobs by one step of their generators in each turn, in one thread."""

    def __init__(self, served: ServedApp) -> None:
        self.name, self._served = served.name, served
        self._lane = Lane(served.name, served.settings, on_broken=served.on_broken)
        self.ready = self._lane.ready
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
