"""Define the session as the user of the blocking client sees it: a thread performs what the asynchronous one does.

A socket has to be read while the user does something else: pings are answered, and a cut is noticed in time. With a
loop in that thread, all that a socket needs stands once.
"""

import asyncio
import os
import threading
import weakref
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import CancelledError
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Generic, Self, TypeVar

from . import _core as core
from ._async_session import is_output
from ._errors import SessionEnded
from ._inputs import encode_value
from ._line import Line
from ._models import Event, JobStatus

if TYPE_CHECKING:
    from ._client import Client

T = TypeVar("T")


class _Thread:
    """Run a loop for one session, in a daemon thread, which keeps no process."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._process_id = os.getpid()
        self._thread = threading.Thread(target=self._run, name="streamapp-session", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        self._loop.run_forever()
        self._loop.run_until_complete(self._loop.shutdown_asyncgens())  # which lend the connections
        self._loop.close()

    def call(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Return what a coroutine of the loop returns; blocks this thread."""
        if self._loop.is_closed() or os.getpid() != self._process_id:
            coroutine.close()
            raise SessionEnded("The session was left; it stays with the process that has opened it")
        future = asyncio.run_coroutine_threadsafe(coroutine, self._loop)
        try:
            return future.result()
        except CancelledError:
            raise SessionEnded("The session was left") from None
        except BaseException:  # KeyboardInterrupt: nobody takes what comes of it
            future.cancel()
            raise

    def end(self, line: Line) -> None:
        """Leave the session, and end the thread; of a forked process it is the other's."""
        if os.getpid() != self._process_id or self._loop.is_closed():
            return
        with suppress(SessionEnded):
            self.call(_end(line))
        with suppress(RuntimeError):  # closed by another thread just now
            self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(2 * core.CANCEL_TIMEOUT_S)


async def _end(line: Line) -> None:
    await line.leave()
    if others := asyncio.all_tasks() - {asyncio.current_task()}:
        await asyncio.wait(others, timeout=core.CANCEL_TIMEOUT_S)  # what other threads wait for: they hear of the end


class Session(Iterator[Event], Generic[T]):
    """Send inputs to a session, and iterate over its events; leaving it cancels what it still does. As `AsyncSession`.

    Left by `close`, by the end of a `with` block, or by letting go of the last reference. One thread may send while
    another reads.
    """

    def __init__(self, client: "Client", line: Line, output: Callable[[Any], T]) -> None:
        self._client = client
        self._line = line
        self._output = output
        self._thread = _Thread()
        self._leave = weakref.finalize(self, self._thread.end, line)
        try:
            self._thread.call(line.open())
        except BaseException:
            self.close()
            raise

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

    def send(self, input: Any) -> int:
        """Send an input, and return its number; as `AsyncSession.send`."""
        return self._thread.call(self._line.send(encode_value(input)))

    def finish(self) -> None:
        """Say that no more inputs come; outputs still do."""
        self._thread.call(self._line.finish())

    def recv(self) -> T:
        """Wait for the next output, and return its data; as `AsyncSession.recv`."""
        for output in self.outputs():
            return output
        raise SessionEnded("The session has ended: no more outputs come", job_id=self.job_id)

    def outputs(self) -> Iterator[T]:
        """Iterate over what `recv` returns, to the session's end; raises as `recv` does."""
        for event in self:
            if is_output(event, self.job_id):
                yield self._output(event.data)

    def done(self) -> Any:
        """Say that no more inputs come, read what is left, and return the session's result."""
        self.finish()
        for _ in self.outputs():
            pass
        return self.result

    def cancel(self) -> JobStatus:
        """End the session's job; who reads hears `Cancelled`."""
        return self._client.job(str(self.job_id)).cancel()

    def __next__(self) -> Event:
        """Wait for the next event; raises as `AsyncSession.__anext__` does."""
        try:
            event = self._thread.call(self._line.next())
        except SessionEnded:
            if self._leave.alive:
                raise
            event = None  # left
        if event is None:
            raise StopIteration
        return event

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        """Cancel the job unless it is over, and close the connection; may be called again."""
        self._leave()
