"""Have an app's own code run one of its endpoints: as a job like any other, whose events it reads.

What a socket or a hook on the loop asks of the model so stands in the queue, is counted, has its deadline, and is
cancelled, as what a client asks. The job belongs to whoever follows it.
"""

from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from typing import Any

from .endpoint import EndpointSpec
from .errors import DefinitionError, EndpointFailed, JobCancelled, StreamAppError
from .jobs.events import Event, encode
from .jobs.job import Job, new_job_id
from .jobs.stream import current_stream
from .runtime import Runtime, ServedApp, running


async def follow(endpoint: Callable[..., Any], input: Any = None) -> AsyncGenerator[Event]:
    """Run an endpoint of this app as a job, and iterate over its events; on the loop.

        async for event in streamapp.follow(self.answer, {"text": text}):
            self.room.broadcast({"token": event.json()})

    Previews, progress and lines come as well, each by its `event.kind`; an endpoint's value is its last output. Whoever
    leaves the iteration, as a cancelled task does, cancels the job. One that reads slowly makes the endpoint wait.

    Args:
        endpoint: a bound method, `self.answer`.
        input: what a client would send, validated as that is; nothing when None.
    Raises:
        DefinitionError: it is no endpoint of an app that is served here, its `setup` waits for this, a thread's own
            loop does, or a job that has the only place that this one could have.
        QueueFull, Draining, SetupFailed, WorkerStuck: the job is refused.
        InvalidInput: the endpoint does not take this, or asks for more than an input.
        JobCancelled: somebody else has cancelled it.
        EndpointFailed: its code has raised; other errors of ours come as they are.
    """
    runtime, served, spec = _place_of(endpoint)
    if not runtime.is_on_loop:
        raise DefinitionError(
            f"follow({endpoint!r}): expected async code, as an `async def` method is; what runs in a thread "
            "would keep the job that it waits for"
        )
    if not served.ready.done():
        raise DefinitionError(f"follow({endpoint!r}): jobs run when setup has returned; ask for them then")
    if _has_the_only_place(runtime, served, spec):
        raise DefinitionError(
            f"follow({endpoint!r}): the job that asks has the only place in which this could run; call the method "
            "itself, or have more run at once (max_multiplexing, max_running)"
        )
    request = served.request(spec, new_job_id(), input=encode({} if input is None else input))
    arguments = await served.reader_of(spec).read_again(request)
    job = Job(request, runtime.settings, arguments=arguments)
    await runtime.submit(job, served, spec)
    async with aclosing(job.events(takes_over=True)) as events:
        async for event in events:
            if not event.is_terminal:
                yield event
            elif event.error is not None:
                raise _failure(job, event)


def _place_of(endpoint: Callable[..., Any]) -> tuple[Runtime, ServedApp, EndpointSpec]:
    app, function = getattr(endpoint, "__self__", None), getattr(endpoint, "__func__", None)
    for runtime in running:
        for served in runtime.served:
            for spec in served.endpoints if served.app is app else ():
                if spec.function is function:
                    return runtime, served, spec
    raise DefinitionError(
        f"follow({endpoint!r}): expected an endpoint of an app that is served here, as self.answer is where answer is "
        'marked with @streamapp.endpoint("/answer")'
    )


def _has_the_only_place(runtime: Runtime, served: ServedApp, spec: EndpointSpec) -> bool:
    """Say whether who asks is code of a job's, and no other could run before that has returned."""
    try:
        own_id = current_stream().job_id
    except LookupError:  # it is no job's
        return False
    own = next((job for job in runtime.jobs if job.id == own_id and job.request.app == served.name), None)
    worker = served.worker_of(spec)
    cls = type(served.app)
    places = cls.max_multiplexing if worker is served.workers.tasks else cls.max_running
    if own is None or own.has_returned or places != 1:
        return False
    return any(each.path == own.request.endpoint and served.worker_of(each) is worker for each in served.endpoints)


def _failure(job: Job, ending: Event) -> StreamAppError:
    if isinstance(job.raised, StreamAppError):
        return job.raised
    assert ending.error is not None
    return (JobCancelled if ending.kind == "cancelled" else EndpointFailed)(ending.error.message)
