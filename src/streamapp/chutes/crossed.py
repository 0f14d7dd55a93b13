"""Give code on a chute's own loop a `Request` or a `WebSocket` whose messages come and go by the server's loop.

What somebody has stopped waiting for (`asyncio.wait_for`, `request.is_disconnected`) is not lost: it comes next.

Divergence: a socket that has crossed joins no `streamapp.Room`, which is the server's loop's.
"""

import asyncio
from typing import Any

from starlette.requests import Request
from starlette.types import Message, Receive, Send
from starlette.websockets import WebSocket

from ..sockets.raw import SESSION
from .home import Crossing, run_on


class _Receiving:
    """Receive on the loop that makes this; called on another one. Of several who wait each gets messages of its own.

    A `Receive`.
    """

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self._loop = asyncio.get_running_loop()
        self._coming: Crossing | None = None
        self._turn = asyncio.Lock()

    async def __call__(self) -> Message:
        async with self._turn:
            if self._coming is None:
                self._coming = Crossing(self._loop, self._next())
            value, error = await asyncio.shield(self._coming.came)
            self._coming = None
        if error is not None:
            raise error
        message: Message = value
        return message

    async def _next(self) -> Message:
        return await self._receive()


def _sending(send: Send) -> Send:
    loop = asyncio.get_running_loop()

    async def sent(message: Message) -> None:
        await send(message)

    async def crossing(message: Message) -> None:
        await run_on(loop, sent(message))

    return crossing


def crossed(value: Any) -> Any:
    """Return what stands for a request or a socket on a chute's loop, anything else as it is; on the server's loop."""
    if isinstance(value, WebSocket):
        scope = {name: held for name, held in value.scope.items() if name != SESSION}
        socket = WebSocket(scope, _Receiving(value._receive), _sending(value._send))
        socket.client_state, socket.application_state = value.client_state, value.application_state
        return socket
    if isinstance(value, Request):
        request = Request(value.scope, _Receiving(value._receive), _sending(value._send))
        for read in ("_body", "_json", "_form"):  # what was read of it already
            if hasattr(value, read):
                setattr(request, read, getattr(value, read))
        request._stream_consumed = value._stream_consumed
        return request
    return value
