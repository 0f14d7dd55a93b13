"""Lend each event loop connections of its own: those of a loop that has ended can be neither used nor closed any more.

So one `AsyncClient` serves any number of `asyncio.run`, one after another or in several threads.
"""

import asyncio
import ssl
import weakref
from collections.abc import AsyncGenerator

import httpx

from ._server import Server


def running_loop() -> asyncio.AbstractEventLoop:
    """Return the loop of this thread.

    Raises:
        RuntimeError: there is none, as under trio.
    """
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        raise RuntimeError(
            "AsyncClient runs on asyncio's event loop, and there is none; under trio use Client, in a thread: "
            "await trio.to_thread.run_sync(client.run, path, input)"
        ) from None


class Connections:
    """Hold the connections of one client to one server, for each loop that uses them.

    Attributes:
        is_closed: no more connections are lent.
    """

    def __init__(self, server: Server) -> None:
        self.is_closed = False
        self._server = server
        self._verify = httpx.create_ssl_context()
        self._lenders: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, AsyncGenerator[httpx.AsyncClient, None]] = (
            weakref.WeakKeyDictionary()
        )

    @property
    def are_open(self) -> bool:
        """Say whether a loop has some."""
        return bool(self._lenders)

    async def here(self) -> httpx.AsyncClient:
        """Return the connections of the running loop.

        Raises:
            RuntimeError: the client is closed, or the loop is none of asyncio's.
        """
        loop = running_loop()
        if self.is_closed:
            raise RuntimeError("Cannot send a request, as the client has been closed.")
        if loop not in self._lenders:
            self._lenders[loop] = _lend(self._server, self._verify)
        return await anext(self._lenders[loop])

    async def aclose(self) -> None:
        """Close the connections of the running loop, and let go of the others': their loops close them."""
        self.is_closed = True
        lender = self._lenders.pop(running_loop(), None) if self._lenders else None
        self._lenders.clear()
        if lender is not None:
            await lender.aclose()


async def _lend(server: Server, verify: ssl.SSLContext) -> AsyncGenerator[httpx.AsyncClient, None]:
    """Yield the same connections again and again; asyncio ends a generator with its loop, and when nobody holds it.

    A function: a method's frame would hold what holds the generator.
    """
    async with httpx.AsyncClient(**server.options(httpx.AsyncHTTPTransport, verify)) as http:
        while True:
            yield http
