"""What is told of a job, to the byte where Runpod's clients look."""

import json
from typing import Any, Literal

import streamapp
from streamapp.errors import MalformedRequest
from streamapp.jobs.events import Progress, to_event
from streamapp.jobs.job import Job, JobRequest
from streamapp.runpod.answers import state_of, status_of
from streamapp.runpod.apps import QueueApp, Streams
from streamapp.runpod.places import Place, places_of
from streamapp.runtime import Runtime, ServedApp, Workers, thread_and_tasks
from streamapp.settings import Settings
from streamapp.workers.thread import ThreadWorker

ID = "0123456789ab4def8123456789abcdef"
SHOWN = "01234567-89ab-4def-8123-456789abcdef-u1"


class Handling(ThreadWorker):
    """A worker of handlers, whose outputs are as the test says."""

    output: Literal["list", "empty"] | None = None

    def streamed_output(self, job: Job) -> Literal["list", "empty"] | None:
        return self.output


def workers(served: ServedApp) -> Workers:
    made = thread_and_tasks(served)
    sync = Handling(served.name, served.settings, run=served.run, max_queue=1)
    return made if type(served.app) is not Echo else made._replace(sync=sync)


class Echo(QueueApp, name="echo"):
    pass


class Plain(streamapp.App, name="plain"):
    @streamapp.endpoint("/stream")
    def stream(self) -> None: ...


PLACES = places_of(Runtime([Echo(), Plain()], Settings(), make_workers=workers), {})
ECHO, PLAIN = PLACES["echo"], PLACES["plain"]


def new(place: Place = PLAIN, *, attempt: int = 1, **settings: Any) -> Job:
    request = JobRequest(id=ID, app=place.served.name, endpoint="/stream", is_detached=True)
    return Job(request, Settings(**settings), attempt=attempt)


def told(job: Job, place: Place = PLAIN) -> dict[str, Any]:
    answer: dict[str, Any] = json.loads(b"".join(status_of(place, job, SHOWN)))
    return answer


def handled(output: Literal["list", "empty"] | None, *values: Any, **settings: Any) -> dict[str, Any]:
    """Return what is told of a job of a handler's that has yielded some values."""
    assert isinstance(ECHO.worker, Handling)
    ECHO.worker.output = output
    job = new(ECHO, **settings)
    job.start()
    for value in values:
        job.channel.emit(to_event(value))
    job.succeed(None)
    return told(job, ECHO)


# States and times


def test_a_job_that_waits_has_no_times() -> None:
    assert told(new()) == {"id": SHOWN, "status": "IN_QUEUE"}


def test_a_job_that_runs_has_its_delay_its_worker_and_its_newest_progress() -> None:
    job = new()
    job.start()
    running = {"id": SHOWN, "status": "IN_PROGRESS", "delayTime": 0, "workerId": "plain"}
    assert {**told(job), "delayTime": 0} == running
    assert isinstance(told(job)["delayTime"], int)
    job.channel.emit(to_event(Progress(1, 2)))
    assert told(job)["output"] == {"step": 1, "total": 2}


def test_of_what_a_handler_tells_of_its_progress_the_output_is_that_alone() -> None:
    job = new()
    job.start()
    progress = to_event(Progress(1))
    progress.data = b'{"message":"half","output":[0.5]}'
    job.channel.emit(progress)
    assert told(job)["output"] == [0.5]


def test_a_job_that_is_over_has_its_times_and_its_result() -> None:
    job = new()
    job.start()
    job.channel.emit(to_event({"i": 0}))
    job.succeed(to_event({"i": 1}))
    answer = told(job)
    assert all(isinstance(answer.pop(time), int) for time in ("delayTime", "executionTime"))
    assert answer == {"id": SHOWN, "status": "COMPLETED", "workerId": "plain", "output": {"i": 1}}


def test_a_result_that_is_null_is_told_and_none_is_not() -> None:
    for result, is_told in ((to_event(None), True), (None, False)):
        job = new()
        job.succeed(result)
        assert ("output" in told(job)) == is_told


def test_a_job_that_was_cancelled_in_the_queue_has_not_run() -> None:
    job = new()
    job.cancel()
    answer = told(job)
    assert (answer["status"], answer["executionTime"], "workerId" in answer) == ("CANCELLED", 0, False)
    assert "error" not in answer


def test_a_failed_job_says_why_and_how_often_it_was_tried() -> None:
    job = new(attempt=3)
    job.fail(MalformedRequest("no such style"))
    answer = told(job)
    assert (answer["status"], answer["error"], answer["retries"]) == ("FAILED", "no such style", 2)


def test_a_job_that_ran_too_long_has_timed_out() -> None:
    job = new()
    job.expire()
    assert (state_of(job), told(job)["status"]) == ("TIMED_OUT", "TIMED_OUT")


# What handlers yield


def test_what_a_handler_yields_is_a_list_where_it_aggregates_else_nothing() -> None:
    assert handled("list", 1, "b", {"c": 2})["output"] == [1, "b", {"c": 2}]
    assert handled("list")["output"] == []
    assert handled("empty", 1)["output"] == []
    assert handled(None, {"c": 2})["output"] == {"c": 2}


def test_a_list_that_is_not_whole_is_not_told_as_if_it_were() -> None:
    answer = handled("list", *range(9), behind_events=3)
    assert ("output" in answer, answer["status"]) == (False, "COMPLETED")
    assert answer["error"].startswith("the first outputs are not kept any more")


def test_workers_say_what_they_are_by_what_they_can() -> None:
    assert [isinstance(place.worker, Streams) for place in (ECHO, PLAIN)] == [True, False]
