"""Perform calls over asynchronous connections, as `_client.py` does over blocking ones."""

import asyncio
import weakref
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import suppress
from functools import partial
from typing import Any, Self, TypeVar, cast, overload

import httpx

from . import _calls as calls
from . import _core as core
from ._async_session import AsyncSession, as_it_is
from ._async_wire import Wire, advance
from ._dialogue import Dialogue
from ._errors import ClientError, NoImage
from ._images import decode_data_uri
from ._inputs import encode_input
from ._line import Line
from ._loops import Connections, running_loop
from ._models import Event, JobStatus
from ._server import Server
from ._steps import Call, Deadline, Patience, Reach, Send
from ._stream import Conversation

T = TypeVar("T")


class AsyncClient:
    """Call one streamapp server from any asyncio loop, also one after another: each has connections of its own.

        async with AsyncClient("http://127.0.0.1:8000") as client:
            async for event in await client.stream("/stream", {"prompt": "a red circle"}):
                print(event.name, event.data)

    The arguments are those of `Client`.
    """

    def __init__(
        self,
        url: str,
        key: str | None = None,
        *,
        patience_s: float = 30.0,
        resume_window_s: float = 10.0,
        silence_s: float = 45.0,
    ) -> None:
        self._server = Server.at(url, key)
        self._connections = Connections(self._server)
        self._patience_s = patience_s
        self._resume_window_s = resume_window_s
        self._silence_s = silence_s
        self._reach = Reach()
        self._ending: set[asyncio.Task[Any]] = set()
        self._lines: weakref.WeakSet[Line] = weakref.WeakSet()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exception: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close all connections; streams that are still open break off."""
        if not self._connections.are_open:
            return await self._connections.aclose()
        loop = running_loop()
        await asyncio.gather(*(line.leave() for line in [*self._lines] if line.loop is loop))
        await asyncio.sleep(0)  # a stream that was let go of just now is only about to tell the server
        if ending := {task for task in self._ending if task.get_loop() is loop}:
            await asyncio.wait(ending, timeout=2 * core.CANCEL_TIMEOUT_S)
        await self._connections.aclose()

    async def stream(
        self, path: str, input: Any = None, *, timeout_s: float | None = None, accept: str = core.EVENT_STREAM
    ) -> "AsyncStream":
        """Start a job and return its events; as `Client.stream`."""
        return await self._stream(path, encode_input(input), deadline=Deadline(timeout_s), accept=accept)

    @overload
    def connect(self, path: str, *, output: None = None, timeout_s: float | None = None) -> AsyncSession[Any]: ...
    @overload
    def connect(self, path: str, *, output: Callable[[Any], T], timeout_s: float | None = None) -> AsyncSession[T]: ...
    def connect(
        self, path: str, *, output: Callable[[Any], Any] | None = None, timeout_s: float | None = None
    ) -> AsyncSession[Any]:
        """Return a session, which `async with` or `await` opens; as `Client.connect`."""
        dialogue = Dialogue(
            path,
            resume_window_s=self._resume_window_s,
            silence_s=self._silence_s,
            patience=self._patience(),
            deadline=Deadline(timeout_s),
            download=_cannot_wait,
        )
        line = Line(self._server, self._connections, dialogue, self._silence_s)
        self._lines.add(line)
        return AsyncSession(self, line, output or as_it_is)

    async def run(self, path: str, input: Any = None, *, timeout_s: float = 660.0) -> Any:
        """Call an endpoint that returns one JSON value, and return it; as `Client.run`."""
        return await self._do(calls.run, path, encode_input(input), self._patience(), Deadline(timeout_s))

    async def submit(self, path: str, input: Any = None) -> "AsyncJobHandle":
        """Start a job that runs on without readers, and return its handle."""
        return self.job((await self._submit(path, input, Deadline())).id)

    def job(self, job_id: str) -> "AsyncJobHandle":
        """Return the handle of a job that exists already; sends nothing."""
        return AsyncJobHandle(self, job_id)

    async def subscribe(
        self,
        path: str,
        input: Any = None,
        *,
        on_update: Callable[[JobStatus], Any] = lambda status: None,
        logs: bool = False,
        timeout_s: float | None = None,
    ) -> Any:
        """Start a job, tell how it goes, and return its result; as `Client.subscribe`, `on_update` may be async."""
        deadline = Deadline(timeout_s)
        running_loop()
        submitting = asyncio.ensure_future(self._submit(path, input, deadline))
        try:
            job = await asyncio.shield(submitting)
        except asyncio.CancelledError:
            self._end(self._cancel_submitted(submitting))
            raise
        reader = self._conversation("", None, job_id=job.id, deadline=deadline, follows=True)
        try:
            return await self._do(calls.follow, job, on_update, reader, self._patience, deadline, logs=logs)
        except BaseException:
            await asyncio.shield(self._cancel(job.id))  # without effect on a job that is over
            raise

    async def download(self, url: str) -> bytes:
        """Get a file of this server, or what a data URI holds; as `Client.download`."""
        if url.startswith("data:"):
            return decode_data_uri(url)
        with self._server.answering():
            step = Send("GET", self._server.file(url), read_s=self._silence_s)
            return await (await self._wire()).fetch(step, core.MAX_FILE_BYTES)

    async def _wire(self) -> Wire:
        return Wire(await self._connections.here(), self._server)

    async def _submit(self, path: str, input: Any, deadline: Deadline) -> JobStatus:
        job: JobStatus = await self._do(calls.submit, path, encode_input(input), self._patience(), deadline)
        return job

    async def _cancel_submitted(self, submitting: "asyncio.Future[JobStatus]") -> None:
        """Cancel a job that nobody waits for any more, once the server has said which one it is."""
        with suppress(ClientError):
            await self._cancel((await submitting).id)

    def _end(self, ending: Coroutine[Any, Any, None]) -> None:
        """Do what nobody waits for but `aclose`."""
        self._keep(asyncio.get_running_loop().create_task(ending))

    def _keep(self, task: "asyncio.Task[Any]") -> None:
        self._ending.add(task)
        task.add_done_callback(self._ending.discard)

    def _patience(self) -> Patience:
        return Patience(self._patience_s, self._reach)

    def _conversation(self, path: str, content: bytes | None, **options: Any) -> Conversation:
        return Conversation(
            path,
            content,
            resume_window_s=self._resume_window_s,
            silence_s=self._silence_s,
            patience=self._patience(),
            download=_cannot_wait,
            **options,
        )

    async def _stream(self, path: str, content: bytes | None, **options: Any) -> "AsyncStream":
        conversation, wire = self._conversation(path, content, **options), await self._wire()
        stream = AsyncStream(self, conversation, wire, cancels="job_id" not in options)
        starting = asyncio.ensure_future(advance(conversation.start(), wire))
        try:
            with self._server.answering():
                await asyncio.shield(starting)
        except asyncio.CancelledError:
            self._end(_leave_started(starting, stream))
            raise
        except BaseException:
            await stream.aclose()
            raise
        return stream

    async def _do(self, call: Callable[..., Call[Any]], *arguments: Any, **options: Any) -> Any:
        running_loop()
        performing = asyncio.ensure_future(self._perform(call(*arguments, **options)))
        try:
            return await asyncio.shield(performing)
        except asyncio.CancelledError:
            performing.cancel()  # once at most: a second time would interrupt httpx as it closes the connection
            self._keep(performing)
            raise

    async def _perform(self, call: Call[Any]) -> Any:
        result: list[Any] = []
        wire = await self._wire()
        try:
            with self._server.answering():
                await advance(_noting(call, result), wire)
        finally:
            await wire.hang_up()
        return result[0]

    async def _cancel(self, job_id: str) -> None:
        """Cancel a job, if the server can be told so soon; else it learns from the closing connection."""
        if not self._connections.is_closed:
            step = Send("POST", core.job_path(job_id, "/cancel"), read_s=core.CANCEL_TIMEOUT_S)
            with suppress(httpx.RequestError, ClientError):
                await (await self._wire()).fetch(step)


def _noting(call: Call[Any], result: list[Any]) -> Call[None]:
    """Keep what a call returns: a coroutine cannot hand on its StopIteration."""
    result.append((yield from call))


def _cannot_wait(url: str) -> bytes:
    raise NoImage(f"write: PIL.Image.open(io.BytesIO(await client.download({url[:80]!r})))")


class AsyncStream(AsyncIterator[Event]):
    """Iterate over the events of one job, in one task; leaving early cancels the job. As `Stream`.

    Left by `aclose`, by the end of an `async with` block, by the cancellation of the task that waits for an event, or
    by letting go of the last reference while the loop runs.
    """

    def __init__(self, client: AsyncClient, conversation: Conversation, wire: Wire, *, cancels: bool) -> None:
        self._conversation = conversation
        self._events = conversation.events()
        self._wire = wire
        self._client = client
        self._cancels = cancels
        loop = running_loop()
        leaving = partial(_leave, client if cancels else None, conversation.transcript, wire)
        self._finalizer = weakref.finalize(self, _abandon, loop, client, leaving)
        self._finalizer.atexit = False  # the loop has ended by then

    @property
    def job_id(self) -> str | None:
        """Return the job's id; None from a server that has no jobs."""
        return self._conversation.transcript.job_id

    @property
    def result(self) -> Any:
        """Return the data of the last lasting event once the stream has ended well; None before."""
        return self._conversation.transcript.result

    @property
    def reconnects(self) -> int:
        """Return how often the stream was cut and resumed."""
        return self._conversation.reconnects

    async def __anext__(self) -> Event:
        """Wait for the next event; raises as `Stream.__next__` does."""
        try:
            with self._client._server.answering():
                event = await advance(self._events, self._wire)
        except BaseException:
            await self.aclose()
            raise
        if event is None:
            await self.aclose()
            raise StopAsyncIteration
        return event

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exception: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Cancel the job unless it is over, and close the connection; may be called again."""
        self._events.close()  # first: an iteration that goes on would come back as a reader who was cut off
        if self._finalizer.detach() is None:
            return
        # Shielded: the task may be cancelled again before the server has been told.
        await asyncio.shield(
            asyncio.ensure_future(
                _leave(self._client if self._cancels else None, self._conversation.transcript, self._wire)
            )
        )


def _abandon(
    loop: asyncio.AbstractEventLoop, client: AsyncClient, leave: Callable[[], Coroutine[Any, Any, None]]
) -> None:
    if loop.is_running():
        loop.call_soon_threadsafe(lambda: client._end(leave()))


async def _leave_started(starting: "asyncio.Task[Any]", stream: AsyncStream) -> None:
    """Leave a stream once the server has said which job it is: by closing the connection it would learn of it late."""
    await asyncio.wait({starting}, timeout=core.CANCEL_TIMEOUT_S)
    starting.cancel()
    await asyncio.wait({starting})
    await stream.aclose()


async def _leave(client: AsyncClient | None, transcript: core.Transcript, wire: Wire) -> None:
    if client is not None and transcript.job_id and not transcript.is_over:
        await client._cancel(transcript.job_id)
    await wire.hang_up()


class AsyncJobHandle:
    """Follow a job that runs on without readers; as `JobHandle`.

    Attributes:
        id: the job.
    """

    def __init__(self, client: AsyncClient, job_id: str) -> None:
        self.id = job_id
        self._client = client

    async def status(self) -> JobStatus:
        """Ask for its state."""
        return cast("JobStatus", await self._client._do(calls.status, self.id, self._client._patience(), Deadline()))

    async def events(self, *, after: str | None = None) -> AsyncStream:
        """Return its events, from the first one that is kept; leaving them early does not cancel the job."""
        return await self._client._stream("", None, job_id=self.id, after=after, deadline=Deadline())

    async def result(self, *, timeout_s: float | None = None) -> Any:
        """Wait for its end, and return its result."""
        return await self._client._do(calls.result, self.id, self._client._patience, Deadline(timeout_s))

    async def cancel(self) -> JobStatus:
        """End it; without effect on a job that is over."""
        return cast("JobStatus", await self._client._do(calls.cancel, self.id, self._client._patience(), Deadline()))
