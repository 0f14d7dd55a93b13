"""Give the code of an endpoint its job's stream: the face of the channel that it emits to.

What it emits is encoded in the emitting thread; images and large files that come from the loop, in a thread of their
own. The order, the bounds and the readers of what was emitted are `channel`'s. A session's code asks it for inputs,
too; when its thread may wait for one, is the worker's to say.

Divergence: this module uses `threading`, to tell the loop's thread from others.
"""

import asyncio
import contextvars
import threading
import time
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn, Self

from ..errors import EndIgnored, InputsEnded, NotEncodable, StreamAppError
from ..process.threads import in_encoder, in_own_thread
from .channel import Channel
from .events import REPLACEABLE, Event, Log, LogLevel, Output, Preview, Progress, to_event, to_event_at_once
from .packing import to_packed_event

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine

    from .inbox import Inbox, Unread

_TURN_S = 0.001  # how often who only emits on a loop of its own lets others have that, and the server's loop the GIL
_MOST_ENDS = 1000  # that a session's code may meet one after another; nothing in such a loop waits


class Stream:
    """Give user code its job's stream: what it emits here, every reader sees.

    All methods are thread-safe, but for `aemit` and `begin_aemit`, which are the loop's. `check` and those that emit
    raise `streamapp.errors.Cancelled`, a `BaseException`, once the job is over (cancelled, out of time, or ended), so
    that the work stops there.
    """

    __slots__ = ("_channel", "_loop_thread", "job_id")

    def __init__(self, channel: Channel, job_id: str, *, loop_thread: int | None = None) -> None:
        self._channel = channel
        self._loop_thread = loop_thread
        #: the id of the job, 32 hexadecimal digits
        self.job_id = job_id

    def emit(self, payload: Any, *, event: str | None = None) -> None:
        """Emit a payload, or one of `Output`, `Preview`, `Progress`, `Log`; blocks while the reader is far behind.

        Args:
            event: the app's own name for the event on the wire.
        Raises:
            NotEncodable: the payload has no form on the wire.
            StreamAppError: called on the event loop; write `await stream.aemit(...)` there.
        """
        if self._loop_thread is not None and threading.get_ident() == self._loop_thread:
            raise StreamAppError(
                "stream.emit would block the event loop; in an async endpoint write await stream.aemit()"
            )
        value = payload if event is None else Output(payload, event)
        self._channel.emit(to_event(value, self._channel.publisher))

    async def aemit(self, payload: Any, *, event: str | None = None) -> None:
        """Emit from an `async def` endpoint; waits while the reader is far behind. A thread encodes large media."""
        rest = self.begin_aemit(payload if event is None else Output(payload, event))
        if rest is not None:
            await rest

    def begin_aemit(self, payload: Any) -> "Coroutine[Any, Any, None] | None":
        """Begin `aemit`; returns what is left to await, or None: a coroutine for each event would cost as much."""
        event = to_event_at_once(payload, self._channel.publisher)
        if event is None:
            return self._aemit_media(payload)
        return None if self._channel.emit_at_once(event) else self._channel.aemit(event)

    async def _aemit_media(self, payload: Any) -> None:
        await self._channel.aemit(await in_encoder(to_event, payload, self._channel.publisher))

    def preview(self, payload: Any, *, step: int | None = None, total: int | None = None, key: str = "") -> None:
        """Emit a replaceable preview; an image becomes `{"image": ...}` as JPEG."""
        self.emit(Preview(payload, step, total, key))

    def output(self, payload: Any) -> None:
        """Emit a lasting output."""
        self.emit(Output(payload))

    def progress(self, step: int, total: int | None = None, message: str | None = None) -> None:
        """Emit how far the job is: step 1..total."""
        self.emit(Progress(step, total, message))

    def log(self, message: str, *, level: LogLevel = "INFO", source: str = "app") -> None:
        """Emit a line for the job's log."""
        self.emit(Log(message, level, source))

    def receive(self) -> Any:
        """Return the next input of a session; waits for it, and meanwhile the inference thread is free for other jobs.

        Raises:
            InputsEnded: no more will come. Left alone it ends the session well.
            StreamAppError: called on the event loop, where it is `await stream.areceive()`, or in no session that asks
                for its inputs: `@streamapp.realtime` on a method with `stream: streamapp.Stream` alone.
        """
        _refuse_to_receive()

    async def areceive(self) -> Any:
        """Do the same in an `async def` method."""
        _refuse_to_receive()

    def poll(self) -> Any:
        """Return the next input of a session, or None where none waits: for code that goes on without, as a world does
        that is steered. Others that wait for the inference thread have their turn first.

        Raises:
            InputsEnded, StreamAppError: as `receive` does; but it may be called on the event loop.
        """
        _refuse_to_receive()

    def check(self) -> None:
        """Raise `Cancelled` when the job is over; call it in loops that emit nothing."""
        self._channel.check()

    def pause(self, for_s: float) -> None:
        """Wait for so many seconds, and raise `Cancelled` as soon as the job is over; not on the event loop.

        The inference thread waits as well: an iterator that yields `Pause.lasting` gives it to the jobs that take turns
        with its own.
        """
        self._channel.pause(for_s)

    def wants_preview(self) -> bool:
        """Tell whether somebody watches and has taken the last preview; make none otherwise."""
        return self._channel.wants_preview()


class OwnLoopStream(Stream):
    """Give code that runs on another loop than the server's its job's stream: `aemit` is for that one."""

    __slots__ = ("_turn_at",)

    def __init__(self, channel: Channel, job_id: str) -> None:
        super().__init__(channel, job_id)
        self._turn_at = 0.0

    @classmethod
    def of(cls, stream: Stream) -> Self:
        """Return the stream of the same job."""
        return cls(stream._channel, stream.job_id)

    def begin_aemit(self, payload: Any) -> "Coroutine[Any, Any, None] | None":
        """Begin `aemit`; a thread does what the loop would wait for, a reader or an image to be compressed."""
        event = to_event_at_once(payload, self._channel.publisher)
        if event is None or self._waits_with(event):
            return self._aemit_when_due(payload, event)
        self._channel.emit(event, waits=False)
        now = time.monotonic()
        if now < self._turn_at:
            return None
        self._turn_at = now + _TURN_S
        return asyncio.sleep(0)

    def _waits_with(self, event: Event) -> bool:
        return event.kind not in REPLACEABLE and self._channel.is_full

    async def _aemit_when_due(self, payload: Any, event: Event | None) -> None:
        """Wait for a reader in a thread of its own: those that encode are few, and pictures of others wait for them."""
        channel = self._channel
        if event is None:
            event = await in_encoder(to_event, payload, channel.publisher)
        if self._waits_with(event):
            await in_own_thread(f"reader-{self.job_id}", channel.emit, event)
        else:
            channel.emit(event, waits=False)


class PackingStream(Stream):
    """Give a session's code its stream: what it emits is written as msgpack, too, where bytes are in it.

    Divergence: it says again what `Stream` says. One more call there would be one for each event of any job.
    """

    __slots__ = ()

    def emit(self, payload: Any, *, event: str | None = None) -> None:
        """Emit a payload, as `Stream` says."""
        if self._loop_thread is not None and threading.get_ident() == self._loop_thread:
            return super().emit(payload, event=event)  # which is refused
        value = payload if event is None else Output(payload, event)
        self._channel.emit(to_packed_event(value, self._channel.publisher, self._channel.film))

    def begin_aemit(self, payload: Any) -> "Coroutine[Any, Any, None] | None":
        """Begin `aemit`, as `Stream` says."""
        try:
            event = to_packed_event(payload, self._channel.publisher, self._channel.film, at_once=True)
        except NotEncodable:
            return self._aemit_media(payload)
        return None if self._channel.emit_at_once(event) else self._channel.aemit(event)

    async def _aemit_media(self, payload: Any) -> None:
        channel = self._channel
        await channel.aemit(await in_encoder(to_packed_event, payload, channel.publisher, channel.film))


class Waits(NamedTuple):
    """Say how a session's code waits, which is its worker's matter. All settle what was taken."""

    #: blocks until it is the session's turn, and there is something to do, or for a while
    rest: "Callable[[], object]"
    #: does so on the loop
    arest: "Callable[[], Awaitable[None]]"
    #: lets others that wait have their turn
    pause: "Callable[[], object]"


class SessionStream(PackingStream):
    """Give the code of a session that asks for its inputs its stream.

    Args:
        inbox: where they come.
        waits: how it waits for them.
    """

    __slots__ = ("_ends", "_inbox", "_waits")

    def __init__(
        self,
        channel: Channel,
        job_id: str,
        inbox: "Inbox",
        waits: Waits,
        *,
        loop_thread: int | None = None,
    ) -> None:
        super().__init__(channel, job_id, loop_thread=loop_thread)
        self._ends = (0, 0)  # how many the code has met behind which event
        self._inbox = inbox
        self._waits = waits

    def receive(self) -> Any:
        """Return the next input, as `Stream` says."""
        if self._loop_thread is not None and threading.get_ident() == self._loop_thread:
            raise StreamAppError(
                "stream.receive would block the event loop; in an async method write await stream.areceive()"
            )
        while True:
            self._waits.rest()
            for unread in self._next():
                return unread.value

    async def areceive(self) -> Any:
        """Return the next input, as `Stream` says."""
        while True:
            await self._waits.arest()
            for unread in self._next():
                return unread.value

    def poll(self) -> Any:
        """Return the next input, or None, as `Stream` says."""
        self._waits.pause()
        for unread in self._next(polls=True):
            return unread.value
        return None

    def _next(self, *, polls: bool = False) -> "list[Unread]":
        self.check()
        has_ended = self._inbox.has_ended  # before: what comes between the two is unread
        taken = self._inbox.take()
        if has_ended and not taken:
            if not polls:  # who polls goes on without inputs, and may do so behind their end
                self._count_end()
            raise InputsEnded
        if taken:
            self._channel.begin_turn()
        return taken

    def _count_end(self) -> None:
        count, n = self._ends
        count = count + 1 if n == self._channel.last_n else 1
        self._ends = count, self._channel.last_n
        if count > _MOST_ENDS:
            raise EndIgnored(
                f"the inputs have ended, and the session's code has asked {count} times since, and emitted nothing; "
                "have it leave its loop at streamapp.InputsEnded"
            )


class Inputs:
    """Give a session's code its inputs one after another, until no more will come: an iterator, of either kind."""

    __slots__ = ("_stream",)

    def __init__(self, stream: Stream) -> None:
        self._stream = stream

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Any:
        try:
            return self._stream.receive()
        except InputsEnded:
            raise StopIteration from None

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Any:
        try:
            return await self._stream.areceive()
        except InputsEnded:
            raise StopAsyncIteration from None


def _refuse_to_receive() -> NoReturn:
    raise StreamAppError(
        "no inputs are received here: stream.receive is for a session that asks for them, @streamapp.realtime(path) on "
        "a method with stream: streamapp.Stream alone; elsewhere inputs come as arguments"
    )


_current_stream: contextvars.ContextVar[Stream] = contextvars.ContextVar("streamapp_stream")


def current_stream() -> Stream:
    """Return the stream of the job that this code runs in, for endpoints that answer once and code far below them.

    Raises:
        LookupError: no job runs here: a thread that the endpoint started without its context, or the loop.
    """
    return _current_stream.get()


def enter_stream(stream: Stream) -> None:
    """Make `stream` the current one for the rest of this context; the worker calls it in the job's own."""
    _current_stream.set(stream)
