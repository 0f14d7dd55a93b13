"""What the tests of sessions share: one without a socket, whose inputs the test puts in, and whose log it reads."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from tests.waiting import WAIT_S, until

import streamapp
from streamapp.jobs.events import Event
from streamapp.jobs.inbox import Inbox
from streamapp.jobs.job import Job, new_job_id
from streamapp.jobs.store import JobStore
from streamapp.runtime import Runtime
from streamapp.settings import Settings


class Talk:
    """Hold one session: what is said to it, and what it says."""

    def __init__(self, runtime: Runtime, job: Job, path: str) -> None:
        self.job = job
        self.inbox = job.inbox
        self._served = runtime.served[0]
        self._reader = self._served.session_reader(spec_of(runtime, path))
        self._read = job.attach(takes_over=True)

    async def say(self, *inputs: Any) -> None:
        assert self.inbox is not None
        for value in inputs:
            self.inbox.put(await self._reader.validate(value))

    async def is_done(self) -> None:
        """Wait until its code is done with what was said."""
        inbox = self.inbox
        assert inbox is not None
        await asyncio.to_thread(until, lambda: inbox.is_idle)

    def finish(self) -> None:
        assert self.inbox is not None
        self.inbox.end()

    async def hear(self, most: int = 1000) -> list[Event]:
        """Return the events that come, up to so many, or to the end."""
        heard: list[Event] = []
        async with asyncio.timeout(WAIT_S):
            while len(heard) < most and not (heard and heard[-1].is_terminal):
                heard += self._read.take()
                if len(heard) < most and not (heard and heard[-1].is_terminal):
                    await self._read.wait(WAIT_S)
        return heard

    async def outputs(self, count: int) -> list[Any]:
        return [event.json() for event in await self.hear(count) if not event.is_terminal]


def spec_of(runtime: Runtime, path: str) -> Any:
    return next(spec for spec in runtime.served[0].session_specs if spec.path == path)


@asynccontextmanager
async def running(app: streamapp.App, store: JobStore | None = None, **settings: Any) -> AsyncIterator[Runtime]:
    runtime = Runtime([app], Settings(**{"drain_s": 0, **settings}), store)
    runtime.start()
    try:
        yield runtime
    finally:
        await runtime.drain()
        await runtime.stop()


async def begin(runtime: Runtime, path: str = "/rt", *inputs: Any, of: type[Job] = Job, **limits: Any) -> Talk:
    """Begin a session that has some inputs, of a class of the test's own; what it is bounded by is the inbox's."""
    served, spec = runtime.served[0], spec_of(runtime, path)
    inbox = Inbox(**{"buffering": spec.mark.buffering, **limits})
    job = of(served.session_request(spec, new_job_id()), runtime.settings, inbox=inbox)
    for value in inputs:
        inbox.put(await served.session_reader(spec).validate(value))
    await runtime.submit_session(job, served, spec)
    return Talk(runtime, job, path)


async def ended(job: Job) -> Job:
    """Wait until a session is over, and none of its code runs."""
    await asyncio.to_thread(until, lambda: job.is_over and job.has_returned)
    return job
