"""A TCP proxy that treats connections badly: it cuts, splits and delays what the server answers, from a seed."""

import asyncio
import random
import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from tests.waiting import WAIT_S

_RESET = struct.pack("ii", 1, 0)  # SO_LINGER: on, no time: `close` sends RST


class CuttingProxy:
    """Forward connections to a port of this machine; each is cut with a probability, at a random byte.

    Args:
        target: the server's port.
        cut: how likely a connection is cut.
        most_bytes: a cut comes before so many bytes of the answer; early ones, before and in the head, are as likely.
    Attributes:
        port: where it listens.
        cuts: how many connections it has cut.
    """

    def __init__(self, target: int, *, seed: int, cut: float, most_bytes: int) -> None:
        self.port = 0
        self.cuts = 0
        self._clients: set[asyncio.StreamWriter] = set()
        self._is_down = False
        self._target = target
        self._random = random.Random(seed)
        self._cut = cut
        self._most_bytes = most_bytes

    async def serve(self, is_up: "threading.Event", stop: "asyncio.Event") -> None:
        server = await asyncio.start_server(self._forward, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        self._loop = asyncio.get_running_loop()
        is_up.set()
        await stop.wait()
        server.close()  # and not `async with`, which since Python 3.12 waits for the connections
        open_ones = asyncio.all_tasks() - {asyncio.current_task()}
        for task in open_ones:
            task.cancel()
        await asyncio.gather(*open_ones, return_exceptions=True)

    def go_down(self) -> None:
        """Cut every connection, and take no new one until `come_up`; from any thread."""
        self._is_down = True
        self._loop.call_soon_threadsafe(self._cut_all)

    def come_up(self) -> None:
        """Take connections again; from any thread."""
        self._is_down = False

    def _cut_all(self) -> None:
        for client in self._clients:
            client.transport.abort()

    async def _forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._is_down:
            return writer.transport.abort()
        with suppress(OSError):
            self._clients.add(writer)
            answers, requests = await asyncio.open_connection("127.0.0.1", self._target)
            asking = asyncio.create_task(_pump(reader, requests))
            try:
                if await self._answer(answers, writer):
                    self.cuts += 1
            finally:
                asking.cancel()
                requests.close()
                writer.close()
                self._clients.discard(writer)

    async def _answer(self, answers: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Hand on an answer up to its end, or up to where it is cut."""
        left = self._draw_cut()
        while data := await answers.read(self._random.choice([1, 7, 100, 65536])):
            writer.write(data[:left])
            await writer.drain()
            left -= len(data)
            if left <= 0:
                if self._random.random() < 0.5:
                    connection: socket.socket = writer.get_extra_info("socket")
                    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
                return True
        return False

    def _draw_cut(self) -> int:
        if self._random.random() >= self._cut:
            return 1 << 60
        return self._random.randrange(self._random.choice([300, self._most_bytes]))


class OpeningsCuttingProxy(CuttingProxy):
    """Cut the first WebSockets right behind what their clients say first: the server has answered, unheard.

    Args:
        most: how many; the next ones are left alone.
    """

    def __init__(self, target: int, *, most: int) -> None:
        super().__init__(target, seed=0, cut=0, most_bytes=0)
        self._most = most

    async def _answer(self, answers: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        writer.write(await answers.readuntil(b"\r\n\r\n"))
        first = await answers.read(65536)
        if self.cuts < self._most:
            return True
        writer.write(first)
        while data := await answers.read(65536):
            writer.write(data)
            await writer.drain()
        return False


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    writer.close()


@contextmanager
def cutting(target: int, *, seed: int = 1, cut: float = 0.5, most_bytes: int = 20_000) -> Iterator[CuttingProxy]:
    """Run a proxy to a port."""
    with running(CuttingProxy(target, seed=seed, cut=cut, most_bytes=most_bytes)) as proxy:
        yield proxy


@contextmanager
def running(proxy: CuttingProxy) -> Iterator[CuttingProxy]:
    """Run a proxy in a thread of its own."""
    is_up = threading.Event()
    loop, stop = asyncio.new_event_loop(), asyncio.Event()
    loop.set_exception_handler(lambda loop, context: None)  # connections that were cut
    thread = threading.Thread(target=loop.run_until_complete, args=[proxy.serve(is_up, stop)])
    thread.start()
    assert is_up.wait(WAIT_S)
    try:
        yield proxy
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join()
        loop.close()
