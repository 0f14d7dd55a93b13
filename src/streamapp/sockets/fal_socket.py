"""Speak to a client of a session as fal does; how messages are written is `fal_frames`'s.

Each message is an input, each output a message; errors are told by name. A session ends with its socket.
"""

from contextlib import suppress
from typing import Any

from starlette.types import Message as Received
from starlette.types import Receive, Scope, Send

from ..errors import (
    InvalidInput,
    StreamAppError,
    describe,
)
from ..http.middleware import refuse
from ..jobs.events import Event
from ..jsontext import LARGE_BYTES
from ..process.logs import logger
from ..process.threads import in_pool
from . import fal_frames
from .conversation import Close, RealtimeMethod, SessionSocket
from .fal_frames import Read
from .wire import Message


class FalSocket(SessionSocket):
    """Speak to a client as fal does: each message is an input, each output a message; errors are told by name."""

    def __init__(self, method: RealtimeMethod, scope: Scope, receive: Receive, send: Send) -> None:
        super().__init__(method, scope, receive, send)
        self._is_text = False
        self._decode = method.spec.mark.decode
        self._encode = method.spec.mark.encode

    async def serve(self) -> None:
        """Serve the client until the session has ended, which its leaving does."""
        try:
            job, session = await self._method.open(self._scope)
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
