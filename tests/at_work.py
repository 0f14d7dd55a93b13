"""What the tests of workers share: jobs made of a function, and a gate that keeps them until the test opens it."""

import threading
from collections.abc import Callable
from typing import Any, TypeVar

import PIL.Image
from tests.waiting import WAIT_S

from streamapp.http.answer import Answer
from streamapp.jobs.job import Job, JobRequest, new_job_id
from streamapp.jobs.stream import Stream
from streamapp.settings import Settings

SETTINGS = Settings()
Call = Callable[[Stream], Any]
J = TypeVar("J", bound=Job)


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


def request(settings: Settings = SETTINGS, **asked: Any) -> JobRequest:
    limits = {"timeout_s": settings.timeout_s, "queue_timeout_s": settings.queue_timeout_s}
    return JobRequest(**{"id": new_job_id(), "app": "app", "endpoint": "/x", **limits, **asked})


def new(call: Call = lambda stream: None, **asked: Any) -> Job:
    """Make a detached job of a function, for a worker that runs it by `run`."""
    return new_of(Job, call, **asked)


def new_of(cls: type[J], call: Call = lambda stream: None, *, settings: Settings = SETTINGS, **asked: Any) -> J:
    """Make such a job of a class of the test's own."""
    wanted = request(settings, **{"is_detached": True, **asked})
    return cls(wanted, settings, arguments={"call": call}, answer=Answer())


def run(job: Job, stream: Stream) -> Any:
    """Run what a job was made of."""
    job.channel.check()
    assert job.arguments is not None
    return job.arguments["call"](stream)


def over(job: Job) -> Job:
    """Wait for a job's end, and until all have heard of it."""
    assert isinstance(job.answer, Answer)
    job.answer.ended.result(WAIT_S)
    return job


def code(job: Job) -> str | None:
    return None if job.error is None else job.error.code


def wait_for_thread(name: str) -> None:
    for thread in threading.enumerate():
        if thread.name == name:
            thread.join(WAIT_S)
            assert not thread.is_alive()
