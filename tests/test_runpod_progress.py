"""`progress_update`: what a job's readers see of it, from whatever thread it comes."""

import asyncio
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any

import PIL.Image
import pytest
from tests.handled import serving
from tests.waiting import WAIT_S, until

from streamapp.runpod import progress
from streamapp.runpod.progress import progress_event, progress_update

Job = dict[str, Any]


def progress_of(value: Any) -> dict[str, Any]:
    """Return the data of the event that a value becomes."""

    def telling(job: Job) -> None:
        progress_update(job, value)

    with serving(telling) as served:
        told: list[dict[str, Any]] = [e.data for e in served.client.stream("/stream", {}) if e.name == "progress"]
    return told[0]


@pytest.mark.parametrize(
    ("value", "data"),
    [
        ("half", {"message": "half", "output": "half"}),
        ({"message": "half", "n": 1}, {"message": "half", "output": {"message": "half", "n": 1}}),
        ((1, None), {"message": "[1,null]", "output": [1, None]}),
        ({"step": 1, "total": 4}, {"step": 1, "total": 4, "message": '{"step":1,"total":4}'}),
        ({"step": 1.5}, {"step": 1.5, "total": None, "message": '{"step":1.5}'}),
        ({"step": True}, {"message": '{"step":true}'}),
        ({"step": "1/4"}, {"message": '{"step":"1/4"}'}),
        (None, {"message": "null", "output": None}),
    ],
)
def test_a_value_is_told_with_a_text_and_the_step_where_it_says_one(value: Any, data: dict[str, Any]) -> None:
    assert progress_of(value) == {"output": value, **data}


def test_a_long_value_is_a_short_text() -> None:
    assert len(progress_of(["long"] * 1000)["message"]) == 200


def test_an_image_is_one_as_everywhere() -> None:
    assert progress_of({"image": PIL.Image.new("RGB", (2, 3))})["output"]["image"]["width"] == 2


def in_a_thread(call: Callable[[], None]) -> None:
    thread = threading.Thread(target=call)
    thread.start()
    thread.join(WAIT_S)


async def in_a_thread_of_the_loop(call: Callable[[], None]) -> None:
    await asyncio.to_thread(call)


@pytest.mark.parametrize("where", [in_a_thread, in_a_thread_of_the_loop, lambda call: call()])
def test_it_comes_from_any_thread_with_a_copy_of_the_job(where: Callable[[Callable[[], None]], Any]) -> None:
    def telling(job: Job) -> Any:
        return where(lambda: progress_update({"id": job["id"]}, "half"))

    with serving(telling) as served:
        assert [e.data["message"] for e in served.client.stream("/stream", {}) if e.name == "progress"] == ["half"]


def test_the_newest_is_what_is_seen_and_none_comes_after_the_end() -> None:
    def counting(job: Job) -> Iterator[int]:
        for n in range(100):
            progress_update(job, n)
        yield 1

    with serving(counting) as served:
        names = [(e.name, e.data) for e in served.client.stream("/stream", {})]
    seen = [data["output"] for name, data in names if name == "progress"]
    assert seen == sorted(seen)
    assert (seen[-1], names[-1]) == (99, ("output", 1))


@pytest.mark.parametrize("job", [{"id": "unknown"}, {"id": ["no", "id"]}, {}, None, "id"])
def test_of_a_job_that_does_not_run_here_it_is_a_line_in_the_log(job: Any, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO", "streamapp"):
        progress_update(job, "half")
    assert "runs here; pass the job that the handler was given" in caplog.text


def test_what_has_no_json_is_a_line_in_the_log_and_the_job_goes_on(caplog: pytest.LogCaptureFixture) -> None:
    def telling(job: Job) -> str:
        progress_update(job, threading.Lock())
        return "goes on"

    with serving(telling) as served:
        assert served.run() == "goes on"
    assert "no JSON form for _thread.lock" in caplog.text


def test_a_sync_handler_that_was_cancelled_ends_there() -> None:
    begun, pace = threading.Event(), threading.Semaphore(0)
    steps: list[int] = []

    def stepping(job: Job) -> None:
        for step in range(1000):
            progress_update(job, step)
            steps.append(step)
            begun.set()
            assert pace.acquire(timeout=WAIT_S)

    with serving(stepping) as served:
        job = served.submit()
        assert begun.wait(WAIT_S)
        job.cancel()
        pace.release(1000)
        until(lambda: job.has_returned)
    assert steps == [0]


def test_elsewhere_what_comes_after_the_end_is_dropped() -> None:
    went_on: list[str] = []

    async def telling(job: Job) -> None:
        with suppress(asyncio.CancelledError):
            await asyncio.sleep(WAIT_S)
        progress_update(job, "late")
        went_on.append("on the loop")
        with ThreadPoolExecutor(1) as pool:
            pool.submit(progress_update, job, "later").add_done_callback(
                lambda done: went_on.append(str(done.result()))
            )

    with serving(telling) as served:
        job = served.submit()
        until(lambda: job.status == "running")
        job.cancel()
        until(lambda: job.has_returned)
    assert went_on == ["on the loop", "None"]


def test_updates_of_jobs_that_another_knows_go_there(monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[Any] = []
    monkeypatch.setattr(progress, "elsewhere", lambda job, value: sent.append((job, value)))
    progress_update({"id": "a"}, 5)
    assert sent == [({"id": "a"}, 5)]


@pytest.mark.parametrize(
    ("value", "told"),
    [
        ("half", {"message": "half"}),
        ({"message": "half", "step": 1, "total": 2}, {"message": "half", "step": 1, "total": 2}),
        ({"message": "half", "step": 0.5, "total": "2"}, {"message": "half", "step": 0.5, "total": None}),
        ({"percent": 5, "step": "first", "total": 2}, {"message": '{"percent":5,"step":"first","total":2}'}),
        ({"message": {"a": 1}, "step": True}, {"message": '{"message":{"a":1},"step":true}'}),
        (None, {"message": "null"}),
        ([1, "é"], {"message": '[1,"é"]'}),
    ],
)
def test_a_progress_is_what_was_told_and_what_of_it_ours_show(value: Any, told: dict[str, Any]) -> None:
    event = progress_event(value)
    assert (event.kind, event.json()) == ("progress", {**told, "output": value})
