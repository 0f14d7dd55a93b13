"""Runpod's own workers, unmodified: the real package in processes of its own, which take their jobs from a server."""

import json
import os
import signal
import uuid
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from tests.runpod_packages import ANYTHING, APPS, SECRET, Caller, needs_runpod, serving, working
from tests.waiting import until

# A minute; that a real worker takes jobs, tests of the tutorial and of the README hold as well.
pytestmark = [needs_runpod, pytest.mark.long]

ITEMS, TOKENS, ANSWERS, MUTE = (APPS / f"runpod_{name}.py" for name in ("items", "tokens", "answers", "mute"))
NUMBERED = [{"number": number, "data": ""} for number in range(3)]
NOWHERE = "/nowhere"


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    ids = ("items", "tokens", "answers", "lost", "fresh", "mute")
    options = [option for endpoint_id in ids for option in ("--runpod", endpoint_id)]
    with serving(*options, STREAMAPP_WORKER_SECRET=SECRET) as (url, _):
        yield url


@pytest.fixture(scope="module")
def caller(url: str) -> Iterator[Caller]:
    """A caller of endpoints that have workers: one, one of four jobs at a time, and two of these."""
    with ExitStack() as stack:
        stack.enter_context(working(ITEMS, url, "items"))
        stack.enter_context(working(ANSWERS, url, "answers"))
        stack.enter_context(working(MUTE, url, "mute"))
        for _ in range(2):
            stack.enter_context(working(TOKENS, url, "tokens"))
        caller = Caller(url)
        stack.callback(caller.http.close)
        yield caller


@pytest.fixture
def gate(tmp_path: Path) -> Iterator[Path]:
    """A file that jobs wait for; at the end of the test all go on."""
    path = tmp_path / "gate"
    yield path
    path.touch()


def hexed(job_id: str) -> str:
    """Return the id by which a job is known outside of Runpod's operations."""
    return uuid.UUID(job_id.removesuffix("-u1")).hex


def health(caller: Caller, endpoint_id: str) -> Any:
    return caller.http.get(f"/v2/{endpoint_id}/health").json()


def events(caller: Caller, job_id: str) -> Iterator[tuple[str, Any]]:
    """Yield (name, data) of a job's events, by SSE."""
    with caller.http.stream("GET", f"/jobs/{hexed(job_id)}/events") as answer:
        name = ""
        for line in answer.iter_lines():
            if line.startswith("event: "):
                name = line.removeprefix("event: ")
            elif line.startswith("data: "):
                yield name, json.loads(line.removeprefix("data: "))
                name = ""


# What comes of a job


def test_a_generator_streams_and_its_output_is_the_list(caller: Caller) -> None:
    job = caller.run("items")
    assert list(caller.stream("items", job)) == NUMBERED
    assert caller.end("items", job)["output"] == NUMBERED


def test_a_generator_without_an_aggregate_streams_and_its_output_is_empty(caller: Caller) -> None:
    job = caller.run("tokens", tokens=2)
    assert [item["token"] for item in caller.stream("tokens", job)] == [0, 1]
    assert caller.end("tokens", job)["output"] == []


def test_whatever_is_yielded_is_an_item(caller: Caller) -> None:
    job = caller.run("items", yields=ANYTHING)
    assert list(caller.stream("items", job)) == ANYTHING
    assert caller.end("items", job)["output"] == ANYTHING


def test_an_item_is_there_while_the_worker_still_blocks(caller: Caller, gate: Path) -> None:
    job = caller.run("items", items=1, until=str(gate))
    items = caller.stream("items", job)
    assert next(items) == {"number": 0, "data": ""}
    assert next(items) == {"waits": True}


@pytest.mark.parametrize("answer", [{"a": 1}, [1, "two"], "text", 5, None])
def test_what_a_coroutine_returns_is_the_output(caller: Caller, answer: Any) -> None:
    state = caller.end("answers", caller.run("answers", answer=answer))
    assert (state["status"], state.get("output")) == ("COMPLETED", answer)


def test_megabytes_pass(caller: Caller) -> None:
    text = "x" * 4_000_000
    assert caller.end("answers", caller.run("answers", answer=text))["output"] == text
    sizes = [len(item["data"]) for item in caller.stream("items", caller.run("items", items=2, size=4_000_000))]
    assert sizes == [4_000_000] * 2


def test_a_worker_is_named_in_the_status(url: str, caller: Caller) -> None:
    with working(ANSWERS, url, "lost", RUNPOD_POD_ID="pod-7"):
        assert caller.end("lost", caller.run("lost"))["workerId"] == "pod-7"


# Errors


def test_what_a_coroutine_raises_fails_the_job_as_at_runpod(caller: Caller) -> None:
    state = caller.end("answers", caller.run("answers", raises="a plain reason"))
    told = json.loads(state["error"])
    assert (state["status"], told["error_message"]) == ("FAILED", "a plain reason")
    assert "error_traceback" not in told


def test_what_a_generator_raises_fails_the_job_behind_its_items(caller: Caller) -> None:
    job = caller.run("items", raises="a plain reason")
    assert list(caller.stream("items", job)) == NUMBERED
    state = caller.end("items", job)
    assert state["status"] == "FAILED"
    assert "a plain reason" in state["error"]
    assert "Traceback" not in state["error"]


def test_an_error_that_is_yielded_or_returned_is_the_jobs(caller: Caller) -> None:
    yielded = caller.end("items", caller.run("items", error="no image"))
    returned = caller.end("answers", caller.run("answers", unknown=1))
    assert (yielded["status"], yielded["error"]) == ("FAILED", "no image")
    assert (returned["status"], returned["error"]) == (
        "FAILED",
        "Unexpected input. unknown is not a valid input option.",
    )


@pytest.mark.parametrize("returns", ["bytes", "a surrogate", "a cancellation"])
def test_a_result_that_the_worker_cannot_send_fails_the_job_soon(caller: Caller, returns: str) -> None:
    state = caller.end("mute", caller.run("mute", returns=returns))
    assert state["status"] == "FAILED"
    assert "workers have ended it twice and sent no result; is it JSON" in state["error"]


# Progress, and cancelling


def test_progress_is_the_output_while_the_job_runs(caller: Caller, gate: Path) -> None:
    job = caller.run("answers", progress="half", answer="whole", until=str(gate))
    until(lambda: caller.status("answers", job).get("output") == "half")
    gate.touch()
    assert caller.end("answers", job)["output"] == "whole"


def test_a_cancelled_job_is_cancelled_in_its_worker(caller: Caller, tmp_path: Path) -> None:
    seen = tmp_path / "seen"
    job = caller.run("tokens", tokens=1, until=NOWHERE, cancelled=str(seen))
    next(caller.stream("tokens", job))
    assert caller.cancel("tokens", job)["status"] == "CANCELLED"
    until(seen.exists)
    assert caller.status("tokens", job)["status"] == "CANCELLED"


def test_a_job_that_waits_is_cancelled_without_a_worker_seeing_it(caller: Caller, gate: Path) -> None:
    running = caller.run("items", items=0, until=str(gate))
    next(caller.stream("items", running))
    waiting = caller.run("items")
    assert caller.cancel("items", waiting)["status"] == "CANCELLED"
    gate.touch()
    assert caller.end("items", running)["status"] == "COMPLETED"
    assert caller.status("items", waiting)["status"] == "CANCELLED"


def test_a_worker_whose_generator_blocks_is_free_again_when_that_has_ended(caller: Caller, gate: Path) -> None:
    """The real package reads its stop signals on the loop that the generator blocks."""
    blocking = caller.run("items", items=0, until=str(gate))
    next(caller.stream("items", blocking))
    caller.cancel("items", blocking)
    job = caller.run("items")
    gate.touch()
    assert list(caller.stream("items", job)) == NUMBERED
    assert caller.status("items", blocking)["status"] == "CANCELLED"


# Several at a time


def test_a_worker_of_one_job_at_a_time_gets_one(caller: Caller, gate: Path) -> None:
    first = caller.run("items", items=0, until=str(gate))
    next(caller.stream("items", first))
    second = caller.run("items")
    assert caller.status("items", second)["status"] == "IN_QUEUE"
    gate.touch()
    assert caller.end("items", second)["status"] == "COMPLETED"


def test_a_job_goes_to_the_worker_that_has_none(caller: Caller, gate: Path) -> None:
    until(lambda: health(caller, "tokens")["workers"]["idle"] == 2)
    jobs = [caller.run("tokens", tokens=1, until=str(gate)) for _ in range(2)]
    assert len({next(caller.stream("tokens", job))["pid"] for job in jobs}) == 2


def test_workers_share_what_comes(caller: Caller, gate: Path) -> None:
    jobs = [caller.run("tokens", tokens=1, until=str(gate)) for _ in range(8)]
    taken = Counter(next(caller.stream("tokens", job))["pid"] for job in jobs)
    assert sorted(taken.values()) == [4, 4]


def test_health_counts_the_workers(caller: Caller, gate: Path) -> None:
    job = caller.run("tokens", tokens=1, until=str(gate))
    next(caller.stream("tokens", job))
    until(lambda: health(caller, "tokens")["workers"]["idle"] == 1)  # one had a job that was cancelled
    assert health(caller, "tokens")["workers"]["running"] == 1
    assert health(caller, "tokens")["jobs"]["inProgress"] == 1


# The same jobs, seen by others


def test_our_own_clients_get_the_items_and_the_result(caller: Caller) -> None:
    answer = caller.http.post("/items/stream", json={"items": 3}, headers={"Accept": "text/event-stream"}).text
    data = [json.loads(line[6:]) for line in answer.splitlines() if line.startswith("data: {")]
    assert [item for item in data if "number" in item][:3] == NUMBERED


def test_fals_queue_has_a_job_of_such_a_worker(caller: Caller) -> None:
    request = caller.http.post("/queue/me/answers", json={"answer": {"a": 1}}).json()
    path = f"/queue/me/answers/requests/{request['request_id']}"
    until(lambda: caller.http.get(f"{path}/status").json()["status"] == "COMPLETED")
    assert caller.http.get(path).json() == {"a": 1}


# Workers that go


def test_a_killed_workers_job_begins_again_at_another_and_its_readers_hear_so(
    url: str, caller: Caller, gate: Path
) -> None:
    with working(TOKENS, url, "lost", CONCURRENCY="1"), working(TOKENS, url, "lost", CONCURRENCY="1"):
        job = caller.run("lost", tokens=1, until=str(gate))
        names, pids = [], []
        for name, data in events(caller, job):
            names.append(name)
            if isinstance(data, dict) and "pid" in data:
                pids.append(data["pid"])
                if len(pids) == 1:
                    os.kill(pids[0], signal.SIGKILL)
                else:
                    gate.touch()
        assert len(set(pids)) == len(pids) == 2
        assert names.count("restarted") == 1
        state = caller.end("lost", job)
        assert (state["status"], state["retries"]) == ("COMPLETED", 1)


def test_a_worker_that_refreshes_itself_gets_no_further_job(url: str, caller: Caller) -> None:
    jobs = [caller.run("fresh", items=1) for _ in range(2)]
    with working(ITEMS, url, "fresh", REFRESH="1") as worker:
        ends = [caller.end("fresh", jobs[0])]
        worker.wait()
    with working(ITEMS, url, "fresh"):
        ends.append(caller.end("fresh", jobs[1]))
    assert [end["status"] for end in ends] == ["COMPLETED"] * 2
    assert "retries" not in ends[1]


def test_a_worker_goes_on_with_a_server_that_begins_anew(tmp_path: Path) -> None:
    """The job of the server that was killed is none of the new one's: its worker is told to stop it."""
    seen = tmp_path / "seen"
    with ExitStack() as stack:
        with serving("--runpod", "kept", STREAMAPP_WORKER_SECRET=SECRET) as (url, _):
            stack.enter_context(working(TOKENS, url, "kept"))
            caller = Caller(url)
            stack.callback(caller.http.close)
            next(caller.stream("kept", caller.run("kept", tokens=1, until=NOWHERE, cancelled=str(seen))))
        port = url.rpartition(":")[2]
        stack.enter_context(serving("--runpod", "kept", "--port", port, STREAMAPP_WORKER_SECRET=SECRET))
        assert [item["token"] for item in caller.stream("kept", caller.run("kept", tokens=2))] == [0, 1]
        until(seen.exists)
