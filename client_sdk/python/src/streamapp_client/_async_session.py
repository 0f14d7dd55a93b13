"""Define the session as the user of the asynchronous client sees it."""

import weakref
from collections.abc import AsyncIterator, Callable, Generator
from typing import TYPE_CHECKING, Any, Generic, Self, TypeVar

from . import _core as core
from ._errors import SessionEnded, error_from_event
from ._inputs import encode_value
from ._line import Line
from ._models import Event, JobStatus

if TYPE_CHECKING:
    from ._async_client import AsyncClient

T = TypeVar("T")


class AsyncSession(AsyncIterator[Event], Generic[T]):
    """Send inputs to a session, and iterate over its events; leaving it cancels what it still does.

    Opened by `async with` or `await`; left by the end of the block, by `aclose`, or by letting go of the last reference
    while the loop runs. A socket that is cut is opened again: every input arrives once, every event comes once, in
    order. One task may send while another reads; a task that is cancelled takes no event along.
    """

    def __init__(self, client: "AsyncClient", line: Line, output: Callable[[Any], T]) -> None:
        self._client = client
        self._line = line
        self._output = output
        self._finalizer = weakref.finalize(self, line.drop)
        self._finalizer.atexit = False  # the loop has ended by then

    @property
    def job_id(self) -> str | None:
        """Return the id of the session's job."""
        return self._line.dialogue.job_id

    @property
    def result(self) -> Any:
        """Return the data of the last lasting event once the session has ended well; None before."""
        return self._line.dialogue.result

    @property
    def reconnects(self) -> int:
        """Return how often the socket was cut and the session resumed."""
        return self._line.dialogue.reconnects

    async def send(self, input: Any) -> int:
        """Send an input, and return its number, by which an `input_error` names it.

        Waits while 64 inputs, or 16 MiB, are on their way.

        Args:
            input: what the session's method takes: what JSON holds, PIL images, paths, bytes and open files.
        Raises:
            ApiError: the session has failed; the class says why.
            NotSent: nobody has read the events for so long that no input is taken any more.
            SessionEnded: it takes no more.
            StreamInterrupted: the connection was lost for good.
        """
        return await self._line.send(encode_value(input))

    async def finish(self) -> None:
        """Say that no more inputs come; outputs still do."""
        await self._line.finish()

    async def recv(self) -> T:
        """Wait for the next output, and return its data; passes over previews, progress and logs.

        Raises:
            ApiError: an input was refused, or failed: `error.data["input"]` is its number, and the session goes on. Or
                the session failed, or was cancelled.
            SessionEnded: no more outputs come.
            StreamInterrupted: the connection was lost, and the session could not be resumed in time.
        """
        while (event := await self._line.next()) is not None:
            if is_output(event, self.job_id):
                return self._output(event.data)
        raise SessionEnded("The session has ended: no more outputs come", job_id=self.job_id)

    async def outputs(self) -> AsyncIterator[T]:
        """Iterate over what `recv` returns, to the session's end; raises as `recv` does."""
        while (event := await self._line.next()) is not None:
            if is_output(event, self.job_id):
                yield self._output(event.data)

    async def done(self) -> Any:
        """Say that no more inputs come, read what is left, and return the session's result.

        Raises as `recv` does.
        """
        await self.finish()
        async for _ in self.outputs():
            pass
        return self.result

    async def cancel(self) -> JobStatus:
        """End the session's job; who reads hears `Cancelled`."""
        return await self._client.job(str(self.job_id)).cancel()

    async def __anext__(self) -> Event:
        """Wait for the next event; an input that was refused, or failed, is one: `input_error`.

        Raises:
            ApiError: the session failed, or was cancelled; the class says why.
            DeadlineExceeded: the session's `timeout_s` has passed; the job is cancelled.
            StreamInterrupted: the connection was lost, and the session could not be resumed in time.
        """
        if (event := await self._line.next()) is None:
            raise StopAsyncIteration
        return event

    def __await__(self) -> Generator[Any, None, Self]:
        return self.__aenter__().__await__()

    async def __aenter__(self) -> Self:
        await self._line.open()
        return self

    async def __aexit__(self, *exception: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Cancel the job unless it is over, and close the connection; may be called again."""
        self._finalizer.detach()
        await self._line.leave()


def is_output(event: Event, job_id: str | None) -> bool:
    """Say whether an event is an output; raise what a failed input means."""
    if event.name == "input_error":
        raise error_from_event(event.name, event.data, job_id)
    return core.MEANINGS.get(event.name, "result") == "result"


def as_it_is(data: Any) -> Any:
    """Return the data of an output; what `output=` is where nothing else is given."""
    return data
