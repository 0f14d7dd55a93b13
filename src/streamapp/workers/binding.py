"""Run an endpoint for a job: bind its request to the app, where a worker runs it.

The arguments are those that the request was validated to where that was in this process. A request that comes from
another one, or out of a store, is validated here. An iterator that the endpoint returns is the worker's to go through,
but for one that belongs elsewhere: what the inference thread is given to await or to iterate asynchronously is the
loop's, and an iterator that blocks is not. Whether the thread waits for the loop meanwhile, is its worker's to say.
"""

import asyncio
import inspect
import math
from collections.abc import Coroutine, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from starlette.datastructures import URL

from ..app import App, RequestContext, enter_app, enter_request
from ..endpoint import EndpointSpec
from ..errors import Cancelled, StorageFull
from ..inputs import InputReader
from ..jobs.job import Job, Origin
from ..jobs.stream import Stream
from ..media import INLINE_BYTES, File, publish_by
from ..process.threads import in_own_thread
from ..settings import MediaForm
from ..stores.files import FileStore, Stored
from .results import exhaust, exhaust_on_loop, is_iterator

if TYPE_CHECKING:
    from concurrent.futures import Future

_INLINE_BYTES: dict[MediaForm | None, float] = {"url": -1, "inline": math.inf, None: INLINE_BYTES}
_PIECE_BYTES = 1024 * 1024


@dataclass(frozen=True, slots=True)
class _Publisher:
    """Keep files in the store, under the address that the client knows: a `Publisher`.

    It lasts as long as the job, so it is small.
    """

    files: FileStore
    origin: Origin
    caller: str
    folder: Path | None
    media: MediaForm | None

    @property
    def inline_bytes(self) -> float:
        return _INLINE_BYTES[self.media]

    def publish(self, file: File) -> str | None:
        return self.files.publish(file, base_url=url_of(self.origin), caller=self.caller)

    def publish_path(self, path: Path, content_type: str) -> str | None:
        try:
            stored = self.files.begin(content_type, path.name, caller=self.caller)
            try:
                self._copy(path, stored)
                stored = self.files.complete(stored.id, stored.key, [1])
            except BaseException:  # whatever ends it: what came so far must not stay in the quota
                self.files.discard(stored)
                raise
        except StorageFull:
            return None
        return url_of(self.origin) + stored.url_path

    def _copy(self, path: Path, stored: Stored) -> None:
        part = self.files.open_part(stored.id, stored.key, 1)
        try:
            with path.open("rb") as content:
                while piece := content.read(_PIECE_BYTES):
                    part.write(piece)
            self.files.end_part(stored, 1, part)
        except BaseException:  # as above
            part.discard()
            raise


class OnLoop:
    """Stand for what the loop does of a job, while the thread that runs the job is free for others.

    Attributes:
        over: done when the loop has come to its end with it.
    """

    __slots__ = ("over",)

    def __init__(self, over: "Future[tuple[Any, BaseException | None]]") -> None:
        self.over = over

    def result(self) -> Any:
        """Return what came of it, or raise that; blocks until it is over."""
        result, error = self.over.result()
        try:
            if error is not None:
                raise error
        finally:
            del error  # its traceback holds this frame
        return result


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
    Attributes:
        app: whose method it calls.
        loop: the server's, once it has started.
    """

    def __init__(
        self, app: App, spec: EndpointSpec, reader: InputReader, files: FileStore, *, is_beside: bool = False
    ) -> None:
        self.spec = spec
        self.reader = reader
        self.app = app
        self.loop: asyncio.AbstractEventLoop | None = None
        self._files = files
        self._is_beside = is_beside
        self._folder = _folder_of(type(app))
        self._method = spec.function.__get__(app)  # not by name: a decorator may have left the function another one

    def run(self, job: Job, stream: Stream) -> Any:
        """Run the endpoint once, in the job's context; returns a coroutine where the job is for the loop's worker.

        Raises:
            StreamAppError: the job's input is not here, or is not what the endpoint takes (`InvalidInput`).
        """
        self.enter(job)
        if self.spec.is_async:
            return self._arun(job, stream)
        if self._is_beside:
            return in_own_thread(f"beside-{job.id}", self._run_to_the_end, job, stream)
        return self._run(job, stream)

    def begin(self, job: Job, stream: Stream) -> Any:
        """Run a sync endpoint likewise, for a worker that has others to run meanwhile: what is the loop's is begun
        there, and comes back as `OnLoop`.
        """
        self.enter(job)
        result = self._call(self._arguments_of(job), stream)
        is_answer = job.answer is not None and job.answer.takes(result)
        if is_answer or inspect.isawaitable(result) or hasattr(result, "__aiter__"):
            return self._begin_on_loop(job, self._end_on_loop(job, result, stream))
        return result

    def _arguments_of(self, job: Job) -> dict[str, Any]:
        if job.arguments is not None:
            return job.arguments
        job.channel.check()  # a job that has just ended has let go of them
        # Not `asyncio.run`, which takes away the event loop that the app may have set in this thread.
        with asyncio.Runner(loop_factory=asyncio.new_event_loop) as runner:
            return runner.run(self.reader.read_again(job.request))

    def _run(self, job: Job, stream: Stream) -> Any:
        result = self._call(self._arguments_of(job), stream)
        if inspect.isawaitable(result):
            result = self.on_loop(job, awaited(result))
        if job.answer is not None and job.answer.takes(result):
            if job.answer.keeps(job, result):
                return self.on_loop(job, job.answer.keep(job, result))
            return job.answer.hand_over(job, result)
        if hasattr(result, "__aiter__"):
            return self.on_loop(job, exhaust_on_loop(result, stream))
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
            result = await awaited(result)
        if job.answer is not None and job.answer.takes(result):
            if job.answer.keeps(job, result):
                return await job.answer.keep(job, result)
            return await job.answer.hand_over_on_loop(job, result)
        return await in_thread(job, result, stream) if is_iterator(result) else result

    def on_loop(self, job: Job, coroutine: Coroutine[Any, Any, Any]) -> Any:
        """Run on the loop what does not belong into the inference thread, and block until it has ended.

        The job's end cancels it.
        """
        return self._begin_on_loop(job, coroutine).result()

    def _begin_on_loop(self, job: Job, coroutine: Coroutine[Any, Any, Any]) -> OnLoop:
        assert self.loop is not None
        return OnLoop(asyncio.run_coroutine_threadsafe(_outcome(job, coroutine), self.loop))

    async def _end_on_loop(self, job: Job, result: Any, stream: Stream) -> Any:
        """Do all that is the loop's with what a sync endpoint returned; an iterator comes back."""
        if inspect.isawaitable(result):
            result = await awaited(result)
        if job.answer is not None and job.answer.takes(result):
            if job.answer.keeps(job, result):
                return await job.answer.keep(job, result)
            return await job.answer.hand_over_on_loop(job, result)
        return await exhaust_on_loop(result, stream) if hasattr(result, "__aiter__") else result

    def _call(self, arguments: dict[str, Any], stream: Stream) -> Any:
        name = self.spec.stream_parameter
        return self._method(**arguments) if name is None else self._method(**arguments, **{name: stream})

    def enter(self, job: Job) -> None:
        """Have what user code asks for in this context be the job's: app, request, files, limits."""
        request = job.request
        enter_app(self.app)
        enter_request(RequestContext(request.headers, request.endpoint))
        publisher = _Publisher(self._files, request.origin, request.caller, self._folder, request.media)
        job.channel.publisher = publisher
        publish_by(publisher)
        self.reader.enter()


async def awaited(result: Any) -> Any:
    """Return what comes in the end of what is to be awaited, as decorators give it."""
    while inspect.isawaitable(result):
        result = await result
    return result


async def _outcome(job: Job, coroutine: Coroutine[Any, Any, Any]) -> tuple[Any, BaseException | None]:
    """Return what a coroutine returns or raises: SystemExit would stop the loop if a task ended with it."""
    loop, task = asyncio.get_running_loop(), asyncio.current_task()
    assert task is not None

    def stop(job: Job) -> None:
        with suppress(RuntimeError):  # the loop is closed
            loop.call_soon_threadsafe(task.cancel)

    job.on_ended.append(stop)
    if job.is_over:
        task.cancel()
    try:
        return await coroutine, None
    except asyncio.CancelledError:
        return None, Cancelled()
    except BaseException as error:  # raised in the thread that waits, whose job it ends
        return None, error
    finally:
        with suppress(ValueError):  # the job has ended, and has called it
            job.on_ended.remove(stop)


async def in_thread(job: Job, items: Iterator[Any], stream: Stream) -> Any:
    """Go through an iterator that a coroutine gave, in a thread of its own: the loop would stand at each item."""
    going = asyncio.ensure_future(in_own_thread(f"items-{job.id}", exhaust, items, stream))
    try:
        return await asyncio.shield(going)
    except asyncio.CancelledError:  # its next item meets the job's end, and then it is closed
        await asyncio.wait({going})
        going.exception()  # which is heard with that
        raise


def _folder_of(cls: type) -> Path | None:
    """Return the folder of the file that defines an app; None where it is defined in none."""
    try:
        return Path(inspect.getfile(cls)).parent
    except (OSError, TypeError):
        return None
