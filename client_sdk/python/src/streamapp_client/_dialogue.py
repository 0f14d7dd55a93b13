"""Carry one session over as many sockets as it takes: open, send, read, lose, resume. A call, as `_steps.py` explains.

The messages are those of the subprotocol `streamapp.v1`: JSON, each with a `type`; one that is not known is left out.
Inputs are numbered, and kept until the server has them; events have ids, and are asked for behind the last one.
"""

import json
import math
import os
import secrets
from base64 import b64encode
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any

import httpx

from . import _core as core
from ._errors import (
    ApiError,
    MalformedRequest,
    NotFound,
    PayloadTooLarge,
    SessionEnded,
    StreamInterrupted,
    Unauthorized,
    UnexpectedAnswer,
    error_from_event,
    error_from_response,
)
from ._frames import Frames, accept_of, check_installed
from ._models import Event
from ._server import shown_url
from ._steps import Call, Deadline, Patience, Read, Rest, Send, Sleep
from ._stream import may_pass, retry_after

SUBPROTOCOL = "streamapp.v1"
# Of inputs that the server has not taken over yet. It keeps as many, and as much, of those that it has not read.
_MAX_INPUTS = 64
_MAX_INPUT_BYTES = 16 << 20
# What a server closes with when the same would happen again: RFC 6455, and its own from 4000 on.
_FINAL: dict[int, type[ApiError]] = {
    1008: ApiError,
    1009: PayloadTooLarge,
    4400: MalformedRequest,
    4401: Unauthorized,
    4404: NotFound,
}
_TAKEN_OVER = 4409


class Outbox:
    """Number the inputs, and keep those that the server has not taken over.

    Attributes:
        is_finished: no more come.
    """

    def __init__(self) -> None:
        self.is_finished = False
        self._kept: deque[tuple[int, bytes]] = deque()
        self._bytes = 0
        self._newest = 0
        self._written = 0
        self._has_told_finish = False

    def has_room(self, content: bytes) -> bool:
        """Say whether an input may be added now; one may be larger than the bound, if it is alone."""
        is_small = self._bytes + len(content) <= _MAX_INPUT_BYTES
        return not self._kept or (is_small and len(self._kept) < _MAX_INPUTS)

    def add(self, content: bytes) -> int:
        """Take an input, and return its number, from 1 on."""
        self._newest += 1
        self._kept.append((self._newest, content))
        self._bytes += len(content)
        return self._newest

    def forget(self, number: int) -> None:
        """Let go of what the server has: all inputs up to this one."""
        while self._kept and self._kept[0][0] <= number:
            self._bytes -= len(self._kept.popleft()[1])

    def rewind(self) -> None:
        """Begin again with the oldest that is kept: on a new socket."""
        self._written, self._has_told_finish = 0, False

    def messages(self) -> Iterator[bytes]:
        """Yield what has not been written to this socket."""
        for number, content in self._kept:
            if number > self._written:
                self._written = number
                yield b'{"type":"input","n":%d,"data":%b}' % (number, content)
        if self.is_finished and not self._has_told_finish:
            self._has_told_finish = True
            yield b'{"type":"finish"}'


class _Refused(Exception):
    """Carry what a server said instead of going on, which may pass."""

    def __init__(self, error: ApiError) -> None:
        super().__init__(error.message)
        self.error = error


class _Behind(Exception):
    """Leave a socket that nobody has read for long, to come back by the next one before the server gives it up."""


class Dialogue:
    """Hold one session: what was sent, what came, and how often its socket was lost.

    Args:
        path: of the session's endpoint.
        resume_window_s: how long the server shall wait for a socket that was cut; it may grant less.
        silence_s: how long the server may say nothing.
        patience: how long to go on trying.
        deadline: how long the whole session may take.
        download: gets a file of the same server.
    Attributes:
        job_id: the session's job; None before it is open.
        result: the data of the last lasting event, once the session has ended well.
        is_over: it needs no cancel: it has ended, or its server has lost us anyway.
        reconnects: how often it came back.
        outbox: the inputs.
        event_bytes: of the message that the last event came in.
    """

    def __init__(
        self,
        path: str,
        *,
        resume_window_s: float = 10.0,
        silence_s: float = 45.0,
        patience: Patience,
        deadline: Deadline,
        download: Callable[[str], bytes],
    ) -> None:
        check_installed()
        self.job_id: str | None = None
        self.result: Any = None
        self.is_over = False
        self.reconnects = 0
        self.outbox = Outbox()
        self.event_bytes = 0
        self._path = path
        self._silence_s = silence_s
        self._patience = patience
        self._deadline = deadline
        self._download = download
        self._resume_window_s = resume_window_s
        # Drawn here: by it the server knows an `open` whose answer was lost. Then the one that it tells.
        self._key = secrets.token_hex(16)
        self._kept_s = 0.0
        self._last_event_id: str | None = None
        self._last: Any = None
        self._frames: Frames | None = None
        self._is_open = False

    # What the shell writes

    def to_send(self) -> bytes:
        """Return what is to be written to the socket that is open now."""
        if self._frames is None:
            return b""
        if self._is_open:
            for message in self.outbox.messages():
                self._frames.send(message)
        return self._frames.to_send()

    def leave(self) -> bytes:
        """Return what is to be written before the socket is closed."""
        if self._frames is None:
            return b""
        if self._is_open and not self.is_over:
            self._frames.send(b'{"type":"cancel"}')
        self._frames.close()
        return self._frames.to_send()

    def send(self, content: bytes) -> int:
        """Take an input, and return its number.

        Raises:
            SessionEnded: it is not taken any more.
        """
        if self.outbox.is_finished:
            raise SessionEnded("The session takes no input after finish()", job_id=self.job_id)
        return self.outbox.add(content)

    # What the shell performs

    def events(self) -> Call[None]:
        """Open the session, and yield every event once, in order."""
        while True:
            error: httpx.TransportError | ApiError | None = None
            try:
                yield from self._connect()
                return (yield from self._read())
            except httpx.TransportError as lost:
                error = lost
            except _Refused as refused:
                error = refused.error
                self._check(error)
            except _Behind:
                pass
            self._frames = None
            if error is not None:
                yield from self._wait(error)

    def _connect(self) -> Call[None]:
        self._check_time()
        key = b64encode(os.urandom(16)).decode()
        response = yield Send("GET", self._path, _upgrade(key), None, self._deadline.within(self._silence_s))
        self._patience.answered()
        _check_upgrade(response, key)
        self._frames = Frames()
        self._frames.send(self._greeting())
        self.outbox.rewind()
        self._is_open = self.job_id is None  # of a session that goes on the answer says which inputs are in

    def _greeting(self) -> bytes:
        if self.job_id is None:
            return f'{{"type":"open","resume_s":{self._resume_window_s:g},"key":"{self._key}"}}'.encode()
        resuming = {"type": "resume", "job_id": self.job_id, "key": self._key, "last_event_id": self._last_event_id}
        return json.dumps(resuming, separators=(",", ":")).encode()

    def _read(self) -> Call[None]:
        """Read to the session's end.

        Raises:
            httpx.TransportError: the socket was lost before.
            _Behind: it was left.
        """
        while (chunk := (yield Read(self._deadline.within(self._silence_s)))) is not None:
            assert self._frames is not None
            for message in self._frames.receive(chunk):
                self.event_bytes = len(message)
                yield from self._hear(core.decode_json(message, "a message of the session"))
                if self.is_over:
                    return
            self._patience.heard()
            self._check_time()
            if self._frames.closed_by is not None:
                raise self._closed(*self._frames.closed_by)
        raise httpx.RemoteProtocolError("it ended before its job")

    def _rest(self) -> Call[None]:
        """Have the server wait while too much is unread; not longer than it certainly keeps the session."""
        if not (yield Rest(self._deadline.within(self._kept_s / 2 or math.inf))):
            raise _Behind

    def _hear(self, message: Any) -> Call[None]:
        match message:
            case {"type": "event", "event": str(name)}:
                self._patience.renew()
                yield from self._event(name, message.get("data"), str(message.get("id") or ""))
            case {"type": "received", "n": int(number)}:
                self._patience.renew()
                self.outbox.forget(number)
            case {"type": "session", "job_id": str(job_id), "key": str(key), "received": int(number)}:
                self.reconnects += self.job_id is not None
                self.job_id, self._key, self._is_open = job_id, key, True
                self.outbox.forget(number)
                self._kept_s = float(message["resume_s"]) if isinstance(message.get("resume_s"), int | float) else 0.0
                # So that several tries fall into it, also where each socket is lost before an event has come.
                self._patience.shorten(self._kept_s / 4)
                yield from self._rest()
            case {"type": "refused"}:
                raise _Refused(error_from_event("refused", message, None))

    def _event(self, name: str, data: Any, id: str) -> Call[None]:
        meaning = core.MEANINGS.get(name, "result")
        self._last_event_id = id or self._last_event_id
        if meaning == "failure":
            self.is_over = True
            raise error_from_event(name, data, self.job_id)
        if meaning == "end":
            self.is_over, self.result = True, self._last
            return
        if meaning in ("result", "restart"):
            # What the attempt before a restart has brought does not count any more.
            self._last = data if meaning == "result" else None
        yield Event(name, data, id, self._download)
        yield from self._rest()

    # When it is lost

    def _check_time(self) -> None:
        self._deadline.check(self._path.partition("?")[0], self.job_id)

    def _check(self, error: ApiError) -> None:
        """Raise a refusal that will not pass."""
        if error.retryable and (error.status_code is None or may_pass(error, is_resume=True)):
            return
        self.is_over = not isinstance(error, PayloadTooLarge)  # by which the server ends a socket, and no session
        raise self._interrupted(error) if isinstance(error, NotFound) and self.job_id is not None else error

    def _wait(self, error: httpx.TransportError | ApiError) -> Call[None]:
        """Wait before the next try, or raise what lost the session."""
        self._check_time()
        wait = self._patience.wait_s(error, retry_after=retry_after(error))
        if wait is None:
            self.is_over = True
            raise error if self.job_id is None else self._interrupted(error)
        yield Sleep(self._deadline.within(wait))

    def _interrupted(self, error: Exception) -> StreamInterrupted:
        silent = isinstance(error, httpx.ReadTimeout)
        why = "no heartbeat came" if silent else str(error) or type(error).__name__
        interrupted = StreamInterrupted(f"The session of job {self.job_id} broke off: {why}", job_id=self.job_id)
        interrupted.__cause__ = error
        return interrupted

    def _closed(self, code: int, reason: str) -> Exception:
        """Return what it means that the server has closed the socket before the session's end."""
        said = f"the socket was closed with {code}" + f" ({reason})" * bool(reason)
        if code in _FINAL:
            return _Refused(_FINAL[code](f"The server gave the session up: {said}", data=reason))
        if code == _TAKEN_OVER:
            self.is_over = True
            return self._interrupted(Exception("another socket has taken it over"))
        return httpx.RemoteProtocolError(said)


def _upgrade(key: str) -> dict[str, str]:
    return {
        "Connection": "Upgrade",
        "Upgrade": "websocket",
        "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": key,
        "Sec-WebSocket-Protocol": SUBPROTOCOL,
    }


def _check_upgrade(response: httpx.Response, key: str) -> None:
    """Raise what an answer means that does not open a session."""
    where, status, media_type = shown_url(response.url), response.status_code, core.media_type_of(response)
    if status == httpx.codes.UPGRADE_REQUIRED:  # to a request that asks for one
        why = "a proxy on the way has taken the upgrade away; one of nginx needs proxy_http_version 1.1, and "
        why += "proxy_set_header for Upgrade and Connection"
        raise UnexpectedAnswer(f"Expected a WebSocket at {where}, got HTTP {status}: {why}", status_code=status)
    if response.is_error:
        raise _Refused(error_from_response(response))
    if status != httpx.codes.SWITCHING_PROTOCOLS:
        got = f"HTTP {status} with {media_type or 'no type'}; write client.run(...) or client.stream(...)"
        raise UnexpectedAnswer(f"Expected a WebSocket at {where}, got {got}", status_code=status)
    if response.headers.get("Sec-WebSocket-Accept", "").strip() != accept_of(key):
        raise UnexpectedAnswer(f"Expected a WebSocket at {where}, got an answer to another request", status_code=status)
    chosen = response.headers.get("Sec-WebSocket-Protocol")
    if chosen != SUBPROTOCOL:
        got = (
            "another WebSocket; speak to it by a package of WebSockets"
            if chosen is None
            else f"the protocol {chosen!r}"
        )
        raise UnexpectedAnswer(f"Expected a session ({SUBPROTOCOL}) at {where}, got {got}")
