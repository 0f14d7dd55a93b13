"""Speak `streamapp.v1` to a client of a session; how frames are written is `own_frames`'s.

Inputs and events have numbers, so a client whose socket was cut goes on over the next one: a session outlives them.
"""

import asyncio
import secrets
from contextlib import suppress

from starlette.types import Message as Received
from starlette.types import Receive, Scope, Send

from ..errors import (
    SHUTTING_DOWN,
    Draining,
    JobNotFound,
    MalformedRequest,
    PayloadTooLarge,
    RequestTimeout,
    StreamAppError,
    Unavailable,
    describe,
)
from ..http.call import caller_in
from ..http.routes import place_in
from ..jobs.events import Event
from ..jobs.job import Job
from ..jsontext import LARGE_BYTES
from ..process.threads import in_pool
from . import own_frames
from .conversation import MALFORMED, Close, RealtimeMethod, SessionSocket
from .live import LiveSession
from .own_frames import Cancel, Finish, Frame, Input, Open, Resume
from .wire import Message

_FIRST_FRAME_S = 10.0
_RECEIVED_EVERY = 16
_RECEIVED_S = 1.0


class OwnSocket(SessionSocket):
    """Speak `streamapp.v1` to a client, whose session outlives its sockets: `own_frames`."""

    def __init__(self, method: RealtimeMethod, scope: Scope, receive: Receive, send: Send) -> None:
        super().__init__(method, scope, receive, send)
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
                await self._close(refusal(error))
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
        sessions = self._method.sessions
        opening = self._method.opening(self._scope, key)
        async with sessions.turn(opening):
            if (opened := sessions.opened(opening)) is not None:
                with suppress(JobNotFound):
                    return await self._find(opened.id, key)
            job, session = await self._method.open(self._scope, resume_s=resume_s, key=key)
            sessions.add(job, session)
            return job, session

    async def _find(self, job_id: str, key: str) -> tuple[Job, LiveSession]:
        method, job = self._method, None
        with suppress(StreamAppError):
            job = await method.runtime.jobs.find(job_id, caller_in(self._scope))
        session = method.sessions.find(job, key)
        if job is None or session is None or not method.serves(job):
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
            raise refusal(error) from None
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


def refusal(error: StreamAppError) -> Close:
    """Return how a client of ours is told that there is no session, or no more of it."""
    report = describe(error)
    match error:
        case JobNotFound():
            code, reason = 4404, "unknown session"
        case Draining():
            code, reason = 1012, SHUTTING_DOWN
        case Unavailable():
            code, reason = 1013, "try again later"
        case PayloadTooLarge():
            code, reason = 1009, "too large"
        case _ if report.status_code < 500:
            code, reason = MALFORMED, "malformed frame"
        case _:
            code, reason = 1011, "the server is to blame"
    return Close(code, reason, own_frames.refused(report))
