"""Perform a session in two tasks of a loop, one that reads and one that writes; keep what came until it is read."""

import asyncio
from collections.abc import Callable, Hashable
from contextlib import suppress
from copy import copy

import httpx

from . import _core as core
from ._async_wire import SocketWire, Wire, advance
from ._dialogue import Dialogue
from ._errors import ClientError, NotSent, SessionEnded
from ._loops import Connections, running_loop
from ._models import Event
from ._server import Server
from ._steps import Send

# Unread, before no more are read from the socket: then the server waits, and leaves out previews.
_MAX_EVENTS = 1024
_MAX_EVENT_BYTES = 16 << 20
_REPLACEABLE = ("preview", "progress")


class Inbox:
    """Keep events until they are read: lasting ones in order, of previews and of progress the newest, as servers do."""

    def __init__(self) -> None:
        self._events: dict[Hashable, tuple[Event, int]] = {}
        self._count = 0
        self._bytes = 0

    def __len__(self) -> int:
        return len(self._events)

    @property
    def is_full(self) -> bool:
        """Say whether some have to be taken before the next comes."""
        return len(self._events) >= _MAX_EVENTS or self._bytes >= _MAX_EVENT_BYTES

    def put(self, event: Event, size: int) -> None:
        """Add the next event, which came in so many bytes."""
        self._count += 1
        slot: Hashable = self._count
        if event.name in _REPLACEABLE:
            slot = (event.name, str(event.data.get("key")) if isinstance(event.data, dict) else "")
            self._remove(slot)
        self._events[slot] = event, size
        self._bytes += size

    def take(self) -> Event:
        """Return the oldest event, and let go of it."""
        event = self._remove(next(iter(self._events)))
        assert event is not None
        return event

    def _remove(self, slot: Hashable) -> Event | None:
        event, size = self._events.pop(slot, (None, 0))
        self._bytes -= size
        return event


class Line:
    """Perform a dialogue until it is over; all calls come from the loop that has opened it.

    Args:
        server: where the session is.
        connections: by which it is reached.
        dialogue: what is said.
        silence_s: how long nobody may have read, where a `send` waits and nothing more can come in.
    Attributes:
        loop: the one that it is open on.
    """

    def __init__(self, server: Server, connections: Connections, dialogue: Dialogue, silence_s: float) -> None:
        self.dialogue = dialogue
        self.loop: asyncio.AbstractEventLoop | None = None
        self._server = server
        self._connections = connections
        self._silence_s = silence_s
        self._inbox = Inbox()
        self._last_read = 0.0
        self._error: Exception | None = None
        self._is_ended = False
        self._change = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    async def open(self) -> None:
        """Return when the session is open; raises what `Client.connect` does."""
        if self._task is not None:
            raise RuntimeError("A session is opened once; for another one write client.connect(path) again")
        self.loop = running_loop()
        self._last_read = self.loop.time()
        wire = SocketWire(await self._connections.here(), self._server, self._tell, self._rest)
        self._task = asyncio.create_task(self._run(wire))
        self._task.add_done_callback(lambda task: self._end())  # also where it was cancelled before it began
        try:
            await self._until(lambda: self.dialogue.job_id is not None or self._is_ended)
        except asyncio.CancelledError:
            self._task.cancel()
            raise
        if self.dialogue.job_id is None:
            await asyncio.wait({self._task})
            raise self._ended()

    async def send(self, content: bytes) -> int:
        """Take an input, and return its number; waits while the server has not taken over those before it."""
        self._check_open()

        def is_due() -> bool:
            return self._is_ended or self.dialogue.outbox.has_room(content)

        while not is_due():
            if not self._inbox.is_full:
                await self._changed()
                continue
            try:
                async with asyncio.timeout_at(self._last_read + self._silence_s):
                    await self._until(lambda: is_due() or not self._inbox.is_full)
            except TimeoutError:
                raise NotSent(
                    f"An input was not sent, as nobody has read the session's events for {self._silence_s:g} s; read "
                    "them meanwhile, in another task or thread",
                    job_id=self.dialogue.job_id,
                ) from None
        if self._is_ended:
            raise self._ended()
        number = self.dialogue.send(content)
        self._tell()
        return number

    async def finish(self) -> None:
        """Say that no more inputs come."""
        self._check_open()
        self.dialogue.outbox.is_finished = True
        self._tell()

    async def next(self) -> Event | None:
        """Wait for the next event; None at the end. Cancelled, it takes none."""
        self._check_open()
        await self._until(lambda: len(self._inbox) > 0 or self._is_ended)
        if self._inbox:
            event = self._inbox.take()
            self._last_read = asyncio.get_running_loop().time()
            self._tell()
            return event
        if self._error is not None:
            raise self._ended()
        return None

    async def leave(self) -> None:
        """Cancel the job unless it is over, and close the socket; may be called again."""
        self._inbox = Inbox()
        if self._task is not None:
            if not self._is_ended:
                self._task.cancel()
            await asyncio.wait({self._task})

    def drop(self) -> None:
        """Leave without waiting, from any thread."""
        if self.loop is not None and self._task is not None and self.loop.is_running() and not self._is_ended:
            self.loop.call_soon_threadsafe(self._task.cancel)

    def _check_open(self) -> None:
        if self._task is None:
            raise RuntimeError("The session is not open; write: async with client.connect(path) as session")

    def _ended(self) -> Exception:
        """Return what is raised from now on. A copy: one that was raised holds the frames of who has the session."""
        if self._error is None:
            return SessionEnded("The session has ended", job_id=self.dialogue.job_id)
        error = copy(self._error)
        error.__cause__ = self._error.__cause__
        return error

    # What waits, and what wakes it

    def _tell(self) -> None:
        self._change.set()

    async def _changed(self) -> None:
        self._change.clear()
        await self._change.wait()

    async def _until(self, is_true: Callable[[], bool]) -> None:
        while not is_true():
            await self._changed()

    # The two tasks

    async def _run(self, wire: SocketWire) -> None:
        writing = asyncio.create_task(self._write(wire))
        try:
            await self._read(wire)
        except Exception as error:  # also of httpx, which may be closed under us: who reads hears of it
            self._error = SessionEnded("The client was closed") if self._connections.is_closed else error
        finally:
            self._end()
            writing.cancel()
            try:
                await self._cancel_job()
            finally:  # also where the loop ends, which cancels this as well
                await wire.leave(self.dialogue.leave())

    def _end(self) -> None:
        self._is_ended = True
        self._tell()

    async def _read(self, wire: SocketWire) -> None:
        events = self.dialogue.events()
        with self._server.answering():
            while (event := await advance(events, wire)) is not None:
                self._inbox.put(event, self.dialogue.event_bytes)
                self._tell()

    async def _rest(self, seconds: float) -> bool:
        if self._inbox.is_full:
            with suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await self._until(lambda: not self._inbox.is_full)
        return not self._inbox.is_full

    async def _write(self, wire: SocketWire) -> None:
        while True:
            if content := self.dialogue.to_send():
                await wire.write(content)
            else:
                await self._changed()

    async def _cancel_job(self) -> None:
        """Cancel the job, if the server can be told so soon; else it learns it by the socket, behind all inputs."""
        job_id = self.dialogue.job_id
        if job_id is None or self.dialogue.is_over or self._connections.is_closed:
            return
        with suppress(httpx.RequestError, ClientError, RuntimeError):  # at the interpreter's end names are not found
            wire = Wire(await self._connections.here(), self._server)
            await wire.fetch(Send("POST", core.job_path(job_id, "/cancel"), read_s=core.CANCEL_TIMEOUT_S))
