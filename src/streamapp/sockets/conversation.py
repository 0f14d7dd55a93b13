"""Join a session with one client over its WebSocket, whatever is spoken: inputs come in, the job's events go out.

One task reads, and one writes: what is newest when the client can take it. How it is said is `fal_socket`'s and
`own_socket`'s.

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
from abc import ABC, abstractmethod
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
    MalformedRequest,
    StreamAppError,
    describe,
)
from ..http.call import Call, caller_in, payer_in
from ..http.face import MEDIA
from ..http.handling import invalid_input
from ..jobs.events import Event, input_error
from ..jobs.inbox import Inbox
from ..jobs.job import Job, new_job_id
from ..jobs.subscriber import Subscriber
from ..process.logs import logger
from ..runtime import Runtime, ServedApp
from ..session import SessionSpec
from .live import LiveSession, LiveSessions, Opening
from .outgoing import Outgoing
from .wire import Message, film_of, size_of

#: the code of a close for what is none of the protocol, which ends the session, too
MALFORMED = 4400
_MOST_BUFFERING = 60
_SCHEMES = {"ws": "http", "wss": "https"}


class Close(Exception):
    """End a socket with a code, after a last frame where there is one."""

    def __init__(self, code: int, reason: str = "", last: bytes = b"") -> None:
        super().__init__(reason)
        self.code = code
        self.reason = reason
        self.last = last


class RealtimeMethod:
    """Begin the sessions of one realtime method; on the loop."""

    def __init__(self, runtime: Runtime, served: ServedApp, spec: SessionSpec, sessions: LiveSessions) -> None:
        self.runtime = runtime
        self.settings = runtime.settings
        self.spec = spec
        self.sessions = sessions
        self.reader = served.session_reader(spec)
        self._served = served

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
        job.channel.film = film_of(scope)
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


class SessionSocket(ABC):
    """Join a session with one client; what is spoken is a subclass's.

    Attributes:
        out: what is sent to the client.
    """

    def __init__(self, method: RealtimeMethod, scope: Scope, receive: Receive, send: Send) -> None:
        self.out = Outgoing(scope, send, send_timeout_s=method.settings.send_timeout_s)
        self._method = method
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
        self._have_it_shown(job)
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

    def _have_it_shown(self, job: Job) -> None:
        """Have the session's images go where its client sees them; they go on there while it is away."""
        film, before = film_of(self._scope), job.channel.film
        if film is not None and before is not None and before is not film:
            film.follow(before)
        job.channel.film = film
        if job.is_over:  # after it was set: what ends the job meanwhile lets go of it
            job.channel.film = None

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
        heartbeat_s = self._method.settings.heartbeat_s
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
            if closing.code == MALFORMED:
                self.job.cancel("a frame of its client's was malformed")
            self._end(closing)
        except Cancelled:  # the job is over: the writer tells the client
            pass
        except Exception:  # of the server's own: in this task nobody else would hear of it, and the client would wait
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
        most = self._method.settings.max_message_bytes
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
            value = await self._method.reader.validate(given, take)
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
        """Tell what is wrong with an input. It counts as come then: where its socket is lost before, it comes again."""
        inbox = self.session.inbox
        await self.job.channel.aemit(input_error(report, inbox.received + 1))
        inbox.refuse()


def _max_buffering(scope: Scope) -> int | None:
    """Return how many inputs may wait at most, as a client asks for it by fal's name."""
    query = parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True)
    asked = dict(query).get("max_buffering")
    if asked is None:
        return None
    if not (asked.isascii() and asked.isdecimal() and len(asked) <= 2 and 1 <= int(asked) <= _MOST_BUFFERING):
        raise MalformedRequest(f"max_buffering: expected 1 to {_MOST_BUFFERING}, got {asked[:40]!r}")
    return int(asked)
