"""Keep realtime sessions beyond their sockets: whose they are, what of their inputs is in, and who holds them now.

A session is a job with an inbox; a `LiveSession` is what its socket needs besides. Its opener alone knows its key: who
watches the job by its id does not get at it. A newer socket with the key takes it over from an older one, which may not
be known to be dead. A session whose socket is gone waits for the next one so long.

A client that has not heard which session it has opened does not know its job. So it may choose the key, and opens with
that again: what it had then has gone on.
"""

import asyncio
import hashlib
import hmac
import secrets
from collections import deque
from collections.abc import Callable
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary, WeakValueDictionary

from ..budget import Budget
from ..jobs.inbox import Inbox
from ..jobs.job import Job

_LEFT = "the client of the session has left"
_UNKNOWN_KEY = secrets.token_hex(16)
_SETTLE_S = 0.5


class LiveSession:
    """Hold one session, from its first socket until its job is let go of, which it does not keep; on the loop.

    Args:
        budget: of the inputs of all.
        payer: whose inputs they are.
        resume_s: how long it waits for its client to come back; with 0 it ends with its socket.
        key: proves who has opened it: 128 random bits, which are drawn here where the client has not.
    Attributes:
        is_lost: it was cancelled as its client has not come back.
    """

    def __init__(
        self, inbox: Inbox, budget: Budget, payer: str, *, resume_s: float = 0, key: str | None = None
    ) -> None:
        self.inbox = inbox
        self.resume_s = resume_s
        self.key = key or secrets.token_hex(16)
        self.is_lost = False
        self._share = budget.share(payer, self)
        self._sizes: deque[int] = deque()  # of the inputs that may be unread or in a turn
        self._holder: Callable[[], None] | None = None
        self._leaving: asyncio.TimerHandle | None = None
        self._settling: asyncio.TimerHandle | None = None

    def enter(self, on_taken_over: Callable[[], None]) -> None:
        """Hold the session; whoever has held it is told that it does so no more."""
        before, self._holder = self._holder, on_taken_over
        self._stay()
        if before is not None:
            before()

    def leave(self, on_taken_over: Callable[[], None], job: Job) -> None:
        """Hold it no more: it ends, or waits for the next socket; unless that has taken it over."""
        if self._holder != on_taken_over:
            return
        self._holder = None
        if self.resume_s <= 0:
            self._lose(job)
        elif not job.is_over:
            self._leaving = asyncio.get_running_loop().call_later(self.resume_s, self._lose, job)

    def _lose(self, job: Job) -> None:
        self.is_lost = not job.is_over
        job.cancel(_LEFT)

    def _stay(self) -> None:
        if self._leaving is not None:
            self._leaving.cancel()
            self._leaving = None

    # What its inputs take.

    def take(self, size: int) -> None:
        """Count bytes of an input that is to be put.

        Raises:
            PayloadTooLarge, Unavailable: there is no room for it, in the budget of all inputs.
        """
        self.settle()
        self._share.take(size)

    def put(self, value: Any, size: int) -> None:
        """Put an input into the inbox, of which so much was counted."""
        self._sizes.append(size)
        self.inbox.put(value, size)
        self._settle_soon()

    def give_back(self, size: int) -> None:
        """Count so much less, of an input that was not put."""
        self._share.give_back(size)

    def settle(self) -> None:
        """Give back what inputs took that are neither unread nor in a turn."""
        unread = 0 if self.inbox.is_idle else self.inbox.unread + 1
        while len(self._sizes) > unread:
            self._share.give_back(self._sizes.popleft())

    def _settle_soon(self) -> None:
        """Look again in a while: a session whose client says nothing more is not to count for what it was sent."""
        if self._settling is None and self._sizes:
            self._settling = asyncio.get_running_loop().call_later(_SETTLE_S, self._settle_late)

    def _settle_late(self) -> None:
        self._settling = None
        self.settle()
        self._settle_soon()

    def end(self) -> None:
        """Let go of everything, as the job is over."""
        self._stay()
        if self._settling is not None:
            self._settling.cancel()
        self._sizes.clear()
        self._share.let_go(self)


class Opening(NamedTuple):
    """Say who opens a session, with which key, and of which method."""

    caller: str
    key: str
    app: str
    path: str


class LiveSessions:
    """Find the sessions that can be resumed, as long as their jobs are kept."""

    def __init__(self) -> None:
        self._of: WeakKeyDictionary[Job, LiveSession] = WeakKeyDictionary()
        self._opened: WeakValueDictionary[bytes, Job] = WeakValueDictionary()
        self._turns: WeakValueDictionary[bytes, asyncio.Lock] = WeakValueDictionary()
        self._secret = secrets.token_bytes(32)

    def add(self, job: Job, session: LiveSession) -> None:
        """Let the session of a job be resumed, and opened again."""
        self._of[job] = session
        opening = Opening(job.request.caller, session.key, job.request.app, job.request.endpoint)
        self._opened[self._digest(opening)] = job

    def find(self, job: Job | None, key: str) -> LiveSession | None:
        """Return the session of a job that a key opens; it takes as long where there is none."""
        session = None if job is None else self._of.get(job)
        known = _UNKNOWN_KEY if session is None else session.key
        return session if hmac.compare_digest(known.encode(), key.encode(errors="replace")) else None

    def turn(self, opening: Opening) -> asyncio.Lock:
        """Return what one socket holds at a time that opens so: the next one finds what it has begun."""
        return self._turns.setdefault(self._digest(opening), asyncio.Lock())

    def opened(self, opening: Opening) -> Job | None:
        """Return the job of the session that was opened so before, unless it has ended before anything came of it, as
        its client has left.
        """
        job = self._opened.get(self._digest(opening))
        session = None if job is None else self._of[job]
        return None if session is None or (session.is_lost and session.inbox.received == 0) else job

    def _digest(self, opening: Opening) -> bytes:
        """Return what an opening is found by: the time that this takes says nothing of the keys of others."""
        return hashlib.blake2b(repr(tuple(opening)).encode(), key=self._secret).digest()
