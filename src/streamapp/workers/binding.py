"""Run an endpoint for a job: bind its request to the app, where a worker runs it.

The arguments are those that the request was validated to where that was in this process. A request that comes from
another one, or out of a store, is validated here. An iterator that the endpoint returns is the worker's to go through.
"""

import asyncio
import inspect
from dataclasses import dataclass
from typing import Any

from starlette.datastructures import URL

from ..app import App, RequestContext, enter_request
from ..endpoint import EndpointSpec
from ..inputs import InputReader
from ..jobs.job import Job, JobRequest, Origin
from ..jobs.stream import Stream
from ..media import File, publish_by
from ..process.threads import in_own_thread
from ..stores.files import FileStore
from .results import exhaust


@dataclass(frozen=True, slots=True)
class _Publisher:
    """Keep files in the store, under the address that the client knows; lasts as long as the job, so it is small."""

    files: FileStore
    origin: Origin
    caller: str

    def __call__(self, file: File) -> str | None:
        return self.files.publish(file, base_url=url_of(self.origin), caller=self.caller)


def url_of(origin: Origin) -> str:
    """Return the URL under which a client reached the server, without a slash at its end."""
    headers = [] if origin.host is None else [(b"host", origin.host.encode("latin-1"))]
    scope = {"scheme": origin.scheme, "server": origin.server, "path": f"{origin.root_path}/", "headers": headers}
    return str(URL(scope=scope)).rstrip("/")


class Binding:
    """Bind jobs to one endpoint of an app.

    Args:
        files: keeps what a job returns and is too large to be written into its events.
        is_beside: a sync endpoint runs in a thread of its own, beside the inference thread, for the loop's worker.
    """

    def __init__(
        self, app: App, spec: EndpointSpec, reader: InputReader, files: FileStore, *, is_beside: bool = False
    ) -> None:
        self.spec = spec
        self.reader = reader
        self._files = files
        self._is_beside = is_beside
        self._method = spec.function.__get__(app)  # not by name: a decorator may have left the function another one

    def run(self, job: Job, stream: Stream) -> Any:
        """Run the endpoint once, in the job's context; returns a coroutine where the job is for the loop's worker.

        Raises:
            StreamAppError: the job's input is not here, or is not what the endpoint takes (`InvalidInput`).
        """
        self._enter(job.request)
        if self.spec.is_async:
            return self._arun(job, stream)
        if self._is_beside:
            return in_own_thread(f"beside-{job.id}", self._run_to_the_end, job, stream)
        return self._run(job, stream)

    def _run(self, job: Job, stream: Stream) -> Any:
        arguments = job.arguments
        if arguments is None:
            job.channel.check()  # a job that has just ended has let go of them
            # Not `asyncio.run`, which takes away the event loop that the app may have set in this thread.
            with asyncio.Runner(loop_factory=asyncio.new_event_loop) as runner:
                arguments = runner.run(self.reader.read_again(job.request))
        result = self._call(arguments, stream)
        if job.answer is not None and job.answer.takes(result):
            return job.answer.hand_over(job, result)
        return result

    def _run_to_the_end(self, job: Job, stream: Stream) -> Any:
        return exhaust(self._run(job, stream), stream)

    async def _arun(self, job: Job, stream: Stream) -> Any:
        arguments = job.arguments
        if arguments is None:
            job.channel.check()
            arguments = await self.reader.read_again(job.request)
        result = self._call(arguments, stream)
        if inspect.isawaitable(result):
            result = await result
        if job.answer is not None and job.answer.takes(result):
            return await job.answer.hand_over_on_loop(job, result)
        return result

    def _call(self, arguments: dict[str, Any], stream: Stream) -> Any:
        name = self.spec.stream_parameter
        return self._method(**arguments) if name is None else self._method(**arguments, **{name: stream})

    def _enter(self, request: JobRequest) -> None:
        enter_request(RequestContext(request.headers, request.endpoint))
        publish_by(_Publisher(self._files, request.origin, request.caller))
        self.reader.enter()
