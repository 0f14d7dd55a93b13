"""Serve `@realtime` methods over WebSockets: what a client sends becomes inputs, the job's events are sent to it.

Two protocols are spoken. A client that asks for the subprotocol `streamapp.v1` is one of ours: its inputs and events
have numbers, and it may come back to its session. All others are spoken to as fal's clients are. Either way one task
reads, and one writes: what is newest when the client can take it.

    1000    the session has ended: its inputs, the method, or the job by a cancel or an error
    1009    a message is larger than `max_message_bytes`
    1011    the server is to blame
    1012    the server is shutting down
    1013    there are too many sessions
    4400    a frame is none of the protocol
    4404    there is no such session
    4409    another socket has resumed it
"""

import asyncio
import secrets
from abc import ABC, abstractmethod
from contextlib import suppress
from functools import partial
from typing import Any
from urllib.parse import parse_qsl

from fastapi.exceptions import RequestValidationError
from starlette.types import Message as Received
from starlette.types import Receive, Scope, Send

from ..errors import (
    SHUTTING_DOWN,
    Cancelled,
    Draining,
    ErrorReport,
    InvalidInput,
    JobNotFound,
    MalformedRequest,
    RequestTimeout,
    StreamAppError,
    Unavailable,
    describe,
)
from ..http.call import Call, caller_in, payer_in
from ..http.face import MEDIA
from ..http.handling import invalid_input
from ..http.middleware import refuse
from ..http.routes import place_in
from ..jobs.events import Event, input_error
from ..jobs.inbox import Inbox
from ..jobs.job import Job, new_job_id
from ..jobs.subscriber import Subscriber
from ..jsontext import LARGE_BYTES
from ..process.logs import logger
from ..process.threads import in_pool
from ..runtime import Runtime, ServedApp
from ..session import SessionSpec
from . import fal_frames, own_frames
from .fal_frames import Read
from .live import LiveSession, LiveSessions, Opening
from .outgoing import Outgoing
from .own_frames import Cancel, Finish, Frame, Input, Open, Resume
from .wire import Message, size_of

_FIRST_FRAME_S = 10.0
_RECEIVED_EVERY = 16
_RECEIVED_S = 1.0
_MOST_BUFFERING = 60
_SCHEMES = {"ws": "http", "wss": "https"}


class Close(Exception):
    """End a socket with a code, after a last frame where there is one."""

    def __init__(self, code: int, reason: str = "", last: bytes = b"") -> None:
        super().__init__(reason)
        self.code = code
        self.reason = reason
        self.last = last


class RealtimeRoute:
    """Serve one realtime method: an ASGI app."""

    def __init__(self, runtime: Runtime, served: ServedApp, spec: SessionSpec, sessions: LiveSessions) -> None:
        self.runtime = runtime
        self.settings = runtime.settings
        self.spec = spec
        self.sessions = sessions
        self.reader = served.session_reader(spec)
        self._served = served

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one socket."""
        await receive()  # that there is a handshake
        is_own = own_frames.SUBPROTOCOL in scope.get("subprotocols", ())
        socket = (OwnSocket if is_own else FalSocket)(self, scope, receive, send)
        await socket.serve()

    async def open(self, scope: Scope, *, resume_s: float = 0, key: str | None = None) -> tuple[Job, LiveSession]:
        """Begin a session.

        Raises:
            StreamAppError: it is refused.
        """
        mark, settings = self.spec.mark, self.settings
        most_buffering = _max_buffering(scope)
        call = Call.of({**scope, "method": "GET", "scheme": _SCHEMES.get(scope.get("scheme", "ws"), "http")})
        most_s = settings.max_resume_window_s if mark.max_resume_window_s is None else mark.max_resume_window_s
        request = self._served.session_request(
            self.spec,
            new_job_id(),
            headers=call.headers,
            caller=call.caller,
            origin=call.origin,
            media=call.media_form or settings.media or scope.get(MEDIA),
            window_s=min(resume_s, most_s),
        )
        sizes = [size for size in (mark.buffering, most_buffering) if size is not None]
        inbox = Inbox(buffering=min(sizes, default=None))
        job = Job(request, settings, inbox=inbox)
        job.payer = payer_in(scope)
        session = LiveSession(inbox, self.runtime.inputs, job.payer, resume_s=request.window_s, key=key)
        job.on_ended.append(partial(self._end, session))
        await self.runtime.submit_session(job, self._served, self.spec)
        return job, session

    def opening(self, scope: Scope, key: str) -> Opening:
        """Say what a client begins with a key."""
        return Opening(caller_in(scope), key, self._served.name, self.spec.path)

    def serves(self, job: Job) -> bool:
        """Say whether a job is a session of this method."""
        return (job.request.app, job.request.endpoint) == (self._served.name, self.spec.path)

    def _end(self, session: LiveSession, job: Job) -> None:
        self.runtime.call_on_loop(session.end)


class _Socket(ABC):
    """Join a session with one client; what is spoken is a subclass's.

    Attributes:
        out: what is sent to the client.
    """

    def __init__(self, route: RealtimeRoute, scope: Scope, receive: Receive, send: Send) -> None:
        self.out = Outgoing(scope, send, send_timeout_s=route.settings.send_timeout_s)
        self._route = route
        self._scope = scope
        self._receive = receive
        self._send = send
        self._closing: Close | None = None
        self._reading: asyncio.Task[None] | None = None

    @abstractmethod
    async def serve(self) -> None:
        """Serve the client until the session, or the socket, has ended."""
        ...

    @abstractmethod
    async def _greet(self) -> None:
        """Begin to speak."""
        ...

    @abstractmethod
    async def _hear(self, message: Received) -> None:
        """Take in one message of the client's.

        Raises:
            Close: the socket is to end.
        """
        ...

    @abstractmethod
    def _framed(self, event: Event) -> Message | None:
        """Return an event as the client is told it."""
        ...

    def _ending(self, event: Event) -> Close:
        """Return how the socket ends with the job."""
        is_draining = event.error is not None and event.error.code == Draining.code
        return Close(1012, SHUTTING_DOWN) if is_draining else Close(1000)

    # Both ways.

    async def _converse(self, job: Job, session: LiveSession, *, after: int = 0) -> None:
        """Read and write until the job is over or the client has left."""
        self.job = job
        self.session = session
        session.enter(self._be_taken_over)
        self.subscriber = subscriber = job.attach(after=after, takes_over=True)
        try:
            await self._greet()
            self._reading = asyncio.create_task(self._read())
            if job.is_over and after >= job.channel.last_n:
                self._closing = Close(1000)
            else:
                await self._write(subscriber)
            if self._closing is not None:
                await self._close(self._closing)
        except TimeoutError:  # the client does not read
            self.out.abort()
        except OSError:  # it has left
            pass
        finally:
            self._end()
            session.leave(self._be_taken_over, job)
            job.detach(subscriber)

    def _be_taken_over(self) -> None:
        self._end(Close(4409, "resumed by another socket"))

    def _end(self, closing: Close | None = None) -> None:
        """Take in nothing more, and have the writer end the socket."""
        self._closing = self._closing or closing
        self.subscriber.close()
        if self._reading is not None:
            self._reading.cancel()

    async def _close(self, closing: Close) -> None:
        if closing.last:
            await self.out.send(Message(closing.last))
        await self.out.close(closing.code, closing.reason)

    # The job's events, to the client.

    async def _write(self, subscriber: Subscriber) -> None:
        heartbeat_s = self._route.settings.heartbeat_s
        await self.out.room()
        while not subscriber.is_closed:
            events = subscriber.take()
            await self.out.send(*self._messages(events))
            if events and events[-1].is_terminal:
                self._closing = self._closing or self._ending(events[-1])
                return
            if subscriber.is_dropped:
                self.out.abort()
                return
            events = []  # a socket that waits keeps nothing of what it has sent
            await self.out.room()  # before it sleeps: what would wake it meanwhile would be old when it is sent
            if not await subscriber.wait(heartbeat_s, self._deliver):
                await self._break_silence()

    def _deliver(self, events: list[Event]) -> bool:
        """Send events that have come while the writer waits, if that can be done at once; the end is none of them."""
        return self.out.is_ready and self.out.send_at_once(*self._messages(events))

    def _messages(self, events: list[Event]) -> list[Message]:
        """Return what the client is told of events."""
        self.session.settle()
        return [message for message in map(self._framed, events) if message is not None]

    @abstractmethod
    async def _break_silence(self) -> None:
        """Show that the server is there."""
        ...

    # The client's messages, to the inbox.

    async def _read(self) -> None:
        try:
            while await self._hear_next():
                pass
        except Close as closing:
            self._end(closing)
        except Cancelled:  # the job is over: the writer tells the client
            pass
        except Exception:
            logger.exception("a socket of job %s failed", self.job.id)
            self._end(Close(1011, "the server is to blame"))
        else:
            self._end()

    async def _hear_next(self) -> bool:
        """Take in what the client says next, of which an idle socket keeps nothing; False when it has left."""
        message = await self._next_message()
        if message is not None:
            await self._hear(message)
        return message is not None

    async def _next_message(self) -> Received | None:
        """Return what the client says next; None when it has left.

        Raises:
            Close: it is too large.
        """
        message = await self._receive()
        if message["type"] == "websocket.disconnect":
            return None
        most = self._route.settings.max_message_bytes
        if size_of(message) > most:
            raise Close(1009, f"a message is larger than {most} bytes (STREAMAPP_MAX_MESSAGE_BYTES)")
        return message

    async def _take_in(self, given: Any, size: int) -> None:
        """Put an input into the inbox when it is checked, and there is room; what is wrong with it is told."""
        session, taken = self.session, 0

        def take(size: int) -> None:
            nonlocal taken
            session.take(size)
            taken += size

        try:
            take(size)
            value = await self._route.reader.validate(given, take)
            if session.inbox.is_full:
                await session.inbox.room()
            session.put(value, taken)
            taken = 0
        except StreamAppError as error:
            await self._refuse_input(describe(error))
        except RequestValidationError as error:
            await self._refuse_input(describe(invalid_input(error)))
        except Exception as error:  # the app's own code in a validator
            logger.error("job %s failed at an input: %s", self.job.id, self.job.request.path, exc_info=error)
            await self._refuse_input(self.job.describe(error))
        finally:
            session.give_back(taken)

    async def _refuse_input(self, report: ErrorReport) -> None:
        """Tell what is wrong with an input, which counts as come."""
        event = input_error(report, self.session.inbox.refuse())
        channel = self.job.channel
        if not channel.emit_at_once(event):
            await channel.aemit(event)


class FalSocket(_Socket):
    """Speak to a client as fal does: each message is an input, each output a message; errors are told by name."""

    def __init__(self, route: RealtimeRoute, scope: Scope, receive: Receive, send: Send) -> None:
        super().__init__(route, scope, receive, send)
        self._is_text = False
        self._decode = route.spec.mark.decode
        self._encode = route.spec.mark.encode

    async def serve(self) -> None:
        """Serve the client until the session has ended, which its leaving does."""
        try:
            job, session = await self._route.open(self._scope)
        except StreamAppError as error:
            # Not by `self.out`: before it is accepted a refusal has a status of HTTP.
            with suppress(OSError):  # the client has left
                await refuse(describe(error), {}, self._scope, self._receive, self._send)
            return
        await self._converse(job, session)

    async def _greet(self) -> None:
        await self.out.accept()

    async def _hear(self, message: Received) -> None:
        content = message.get("bytes")
        self._is_text = content is None
        try:
            read = await self._read_input(message.get("text") or "" if content is None else content)
        except StreamAppError as error:
            return await self._refuse_input(describe(error))
        await self._take_in(read.value, read.size)

    async def _read_input(self, content: bytes | str) -> Read:
        if isinstance(content, str):
            read = fal_frames.read_text
            return await in_pool(read, content) if len(content) > LARGE_BYTES else read(content)
        if self._decode is not None:
            return Read(self._decoded(content), len(content))
        try:
            return fal_frames.read_binary(content, most=fal_frames.QUICK_VALUES)
        except StreamAppError:
            return await in_pool(fal_frames.read_binary, content)

    def _decoded(self, content: bytes) -> Any:
        assert self._decode is not None
        try:
            return self._decode(content)
        except Exception as error:  # the app's own code, of a message that may be anything
            raise InvalidInput(f"the message cannot be decoded: {type(error).__name__}") from error

    def _framed(self, event: Event) -> Message | None:
        try:
            return fal_frames.framed(event, as_text=self._is_text, encode_message=self._encode)
        except Exception as error:  # the app's own code, of its own output
            logger.exception("job %s: an output could not be encoded", self.job.id)
            return Message(fal_frames.error(self.job.describe(error).body))

    async def _break_silence(self) -> None:
        """Say nothing: fal's clients have the pings of their WebSocket."""

    def _ending(self, event: Event) -> Close:
        if event.kind == "done" and self.session.inbox.has_timed_out:
            return Close(1000, last=fal_frames.TIMEOUT)
        return super()._ending(event)


class OwnSocket(_Socket):
    """Speak `streamapp.v1` to a client, whose session outlives its sockets: `own_frames`."""

    def __init__(self, route: RealtimeRoute, scope: Scope, receive: Receive, send: Send) -> None:
        super().__init__(route, scope, receive, send)
        self._owed = 0  # inputs of which the client was not told that they are in
        self._owing: asyncio.TimerHandle | None = None
        self._paying: asyncio.Task[None] | None = None
        self._job_id = b""

    async def serve(self) -> None:
        """Serve the client until the session has ended, or the socket."""
        with suppress(OSError):  # the client has left, or reads nothing
            await self.out.accept(own_frames.SUBPROTOCOL)
            try:
                frame = await self._first_frame()
                if frame is not None:
                    await self._talk(*await self._begin(frame))
            except StreamAppError as error:
                await self._close(_refusal(error))
            except Close as closing:
                await self._close(closing)

    async def _talk(self, job: Job, session: LiveSession, after: int) -> None:
        try:
            await self._converse(job, session, after=after)
        finally:
            self._stop_owing()

    async def _greet(self) -> None:
        session = self.session
        self._job_id = self.job.id.encode()
        told = own_frames.session(self.job.id, session.key, received=session.inbox.received, resume_s=session.resume_s)
        await self.out.send(Message(told))

    async def _first_frame(self) -> Open | Resume | None:
        """Return how the client begins; None where it has left."""
        try:
            async with asyncio.timeout(_FIRST_FRAME_S):
                message = await self._next_message()
        except TimeoutError:
            raise RequestTimeout(f"no frame has come for {_FIRST_FRAME_S:g} s; send open or resume first") from None
        if message is None:
            return None
        frame = await self._frame_in(message)
        if not isinstance(frame, Open | Resume):
            got = type(frame).__name__.lower()
            raise MalformedRequest(f'the first frame: expected {{"type":"open"}} or {{"type":"resume"}}, got {got}')
        return frame

    async def _begin(self, frame: Open | Resume) -> tuple[Job, LiveSession, int]:
        """Return the session, and the place in its log from which the client is to hear."""
        if isinstance(frame, Open):
            return *(await self._open(frame.resume_s, frame.key or secrets.token_hex(16))), 0
        job, session = await self._find(frame.job_id, frame.key)
        return job, session, 0 if frame.last_event_id is None else place_in(job, frame.last_event_id)

    async def _open(self, resume_s: float, key: str) -> tuple[Job, LiveSession]:
        """Begin a session, or go on with the one that this client has begun with the key before."""
        sessions = self._route.sessions
        opening = self._route.opening(self._scope, key)
        async with sessions.turn(opening):
            if (opened := sessions.opened(opening)) is not None:
                with suppress(JobNotFound):
                    return await self._find(opened.id, key)
            job, session = await self._route.open(self._scope, resume_s=resume_s, key=key)
            sessions.add(job, session)
            return job, session

    async def _find(self, job_id: str, key: str) -> tuple[Job, LiveSession]:
        route, job = self._route, None
        with suppress(StreamAppError):
            job = await route.runtime.jobs.find(job_id, caller_in(self._scope))
        session = route.sessions.find(job, key)
        if job is None or session is None or not route.serves(job):
            raise JobNotFound(f"there is no session {job_id[:32]} that this key opens; open a new one")
        return job, session

    async def _hear(self, message: Received) -> None:
        inbox = self.session.inbox
        try:
            frame = await self._frame_in(message)
            if isinstance(frame, Open | Resume):
                raise MalformedRequest(f"{type(frame).__name__.lower()}: the session is open already")
            if isinstance(frame, Input) and frame.n > inbox.received + 1:
                raise MalformedRequest(f"input: expected n = {inbox.received + 1}, got {frame.n}")
        except MalformedRequest as error:
            self.job.cancel("a frame of its client's was malformed")
            raise _refusal(error) from None
        match frame:
            case Input() if frame.n <= inbox.received:
                self._owe()
            case Input(problem=None):
                await self._take_in(frame.data, frame.size)
                self._owe()
            case Input(problem=StreamAppError() as problem):
                await self._refuse_input(describe(problem))
                self._owe()
            case Finish():
                inbox.end()
            case Cancel():
                self.job.cancel()

    async def _frame_in(self, message: Received) -> Frame | None:
        text = message.get("text")
        if text is None:
            raise MalformedRequest("expected a text, which is a frame of JSON, got a binary message")
        return await in_pool(own_frames.read, text) if len(text) > LARGE_BYTES else own_frames.read(text)

    def _framed(self, event: Event) -> Message | None:
        return Message(own_frames.event(event, self._job_id))

    async def _break_silence(self) -> None:
        await self.out.send(Message(own_frames.PING))

    # Inputs that are in.

    def _owe(self) -> None:
        """Tell the client soon that another input is in."""
        self._owed += 1
        if self._owed >= _RECEIVED_EVERY:
            self._pay()
        elif self._owing is None:
            self._owing = asyncio.get_running_loop().call_later(_RECEIVED_S, self._pay)

    def _pay(self) -> None:
        self._stop_owing()
        self._owed = 0
        if not self.out.send_at_once(self._received) and self._paying is None:
            self._paying = asyncio.create_task(self._pay_in_time())

    async def _pay_in_time(self) -> None:
        with suppress(OSError, RuntimeError):  # the client does not read, or has left: the writer hears of it, too
            await self.out.room()
            await self.out.send(self._received)
        self._paying = None

    @property
    def _received(self) -> Message:
        return Message(own_frames.received(self.session.inbox.received))

    def _stop_owing(self) -> None:
        if self._owing is not None:
            self._owing.cancel()
            self._owing = None


def _refusal(error: StreamAppError) -> Close:
    """Return how a client of ours is told that there is no session, or no more of it."""
    report = describe(error)
    match error:
        case JobNotFound():
            code, reason = 4404, "unknown session"
        case Draining():
            code, reason = 1012, SHUTTING_DOWN
        case Unavailable():
            code, reason = 1013, "try again later"
        case _:
            code, reason = (4400, "malformed frame") if report.status_code < 500 else (1011, "the server is to blame")
    return Close(code, reason, own_frames.refused(report))


def _max_buffering(scope: Scope) -> int | None:
    """Return how many inputs may wait at most, as a client asks for it by fal's name."""
    query = parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True)
    asked = dict(query).get("max_buffering")
    if asked is None:
        return None
    if not (asked.isascii() and asked.isdecimal() and len(asked) <= 2 and 1 <= int(asked) <= _MOST_BUFFERING):
        raise MalformedRequest(f"max_buffering: expected 1 to {_MOST_BUFFERING}, got {asked[:40]!r}")
    return int(asked)
