"""Perform the steps of calls over asynchronous connections: requests, and sockets that a request has opened."""

import asyncio
import inspect
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import httpx

from . import _core as core
from ._decoder import MAX_BYTES
from ._errors import error_from_response
from ._models import Event
from ._server import Redirects, Server
from ._steps import Call, Read, Rest, Send, Sleep, Step, Tell

if TYPE_CHECKING:
    from httpcore import AsyncNetworkStream

_READ_BYTES = 65536
_FAREWELL_S = 1.0


class Wire:
    """Perform the steps of one call: at most one answer is open at a time."""

    def __init__(self, http: httpx.AsyncClient, server: Server) -> None:
        self._http = http
        self._server = server
        self._response: httpx.Response | None = None
        self._chunks: AsyncIterator[bytes] | None = None

    async def perform(self, step: Step) -> Any:
        """Perform a step; gives what came of it."""
        match step:
            case Read():
                assert self._chunks is not None
                return await anext(self._chunks, None)
            case Send():
                return await self._send(step)
            case Sleep():
                await asyncio.sleep(step.seconds)
            case Tell():
                told = step.callback(step.value)
                if inspect.isawaitable(told):
                    await told
        return None

    async def _send(self, step: Send) -> httpx.Response:
        request: httpx.Request | None = core.build_request(self._http, self._server, step)
        redirects = Redirects(self._server)
        while request is not None:
            await self.hang_up()
            self._response = response = await self._http.send(request, stream=True)
            request = redirects.next(response)
        self._chunks = response.aiter_bytes()
        if response.is_error:
            return (await self._gather(step)).read_into(response)
        return response

    async def _gather(self, step: Send, max_bytes: int = MAX_BYTES) -> core.Body:
        body = core.Body(f"an answer of {step.path.partition('?')[0]}", max_bytes)
        assert self._chunks is not None
        async for chunk in self._chunks:
            body.add(chunk)
        return body

    async def fetch(self, step: Send, max_bytes: int = MAX_BYTES) -> bytes:
        """Send a request, and return all of its answer."""
        try:
            response = await self._send(step)
            if response.is_error:
                raise error_from_response(response)
            return (await self._gather(step, max_bytes)).content()
        finally:
            await self.hang_up()

    async def hang_up(self) -> None:
        """Close the connection, unless its answer was read to its end."""
        response, self._response = self._response, None
        if response is not None:
            await response.aclose()


async def advance(call: Call[Any], wire: Wire) -> Event | None:
    """Perform steps up to the next event; None when the call has returned."""
    step = next(call, None)
    while step is not None and not isinstance(step, Event):
        try:
            outcome = await wire.perform(step)
        except httpx.RequestError as error:
            step = _throw(call, error)
        else:
            step = _send(call, outcome)
    return step


def _send(call: Call[Any], outcome: Any) -> Step | None:
    try:
        return call.send(outcome)
    except StopIteration:  # which no coroutine may raise
        return None


def _throw(call: Call[Any], error: Exception) -> Step | None:
    try:
        return call.throw(error)
    except StopIteration:
        return None


class SocketWire(Wire):
    """Perform the steps of one session: its answer is a connection that both sides write to.

    Args:
        on_read: called when all that came has been heard: there may be something to write.
        rest: waits, so many seconds at most, until there is room for the next event; returns whether there is.
    """

    def __init__(
        self,
        http: httpx.AsyncClient,
        server: Server,
        on_read: Callable[[], None],
        rest: Callable[[float], Awaitable[bool]],
    ) -> None:
        super().__init__(http, server)
        self._on_read = on_read
        self._rest = rest
        self._stream: AsyncNetworkStream | None = None

    async def _send(self, step: Send) -> httpx.Response:
        self._stream = None
        response = await super()._send(step)
        if response.status_code == httpx.codes.SWITCHING_PROTOCOLS:
            self._stream = response.extensions["network_stream"]
        return response

    async def perform(self, step: Step) -> Any:
        """Perform a step; gives what came of it."""
        match step:
            case Rest():
                return await self._rest(step.seconds)
            case Read():
                return await self._read(step)
        return await super().perform(step)

    async def _read(self, step: Read) -> bytes | None:
        self._on_read()
        assert self._stream is not None
        try:
            async with asyncio.timeout(step.read_s):
                return await self._stream.read(_READ_BYTES) or None
        except TimeoutError as error:
            raise httpx.ReadTimeout(str(error)) from error
        except Exception as error:  # httpcore's, of which httpx makes its own for requests only, and those of TLS
            raise httpx.ReadError(str(error) or "the connection was lost") from error

    async def write(self, content: bytes) -> None:
        """Write to the socket; whoever reads notices where it is lost."""
        if self._stream is not None and content:
            with suppress(Exception):  # as above
                await self._stream.write(content)

    async def leave(self, farewell: bytes) -> None:
        """Write the last bytes, if they can be written at once, and close the connection."""
        with suppress(TimeoutError):
            async with asyncio.timeout(_FAREWELL_S):
                await self.write(farewell)
        await self.hang_up()
