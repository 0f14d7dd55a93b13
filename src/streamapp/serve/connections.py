"""Know who is connected: how many may be, whose place a newcomer takes, and who has kept the server waiting too long.

A connection that is being answered is nobody's business here, however long its stream is silent. All others owe the
server something: the handshake of TLS, a request's head, its body, the next request. They are looked at once a second,
together, which costs less than a timer for each; a second in which nothing was looked at, as the loop was blocked, is
nobody's fault, and is not counted.

Where all places are taken, a newcomer gets that of a connection without a request: the oldest of its own address, else
the oldest of all. So silent connections lock nobody out, however many there are. The last quarter of the places is not
for an address that has half of them. This machine's own address and those of trusted proxies stand for many clients,
and may have all.

Divergence: connections of TLS are accepted here, by `Handshakes`, and not by asyncio, which tells of none before its
handshake is done: silent ones would hold all descriptors, and nobody would see them.
"""

import asyncio
import json
import resource
import socket
import ssl
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from http import HTTPStatus
from typing import Any, Literal, Protocol

from ..addresses import network_of
from ..errors import ErrorReport, StreamAppError, Unavailable
from ..process.logs import logger

#: How long the server waits for TLS and a request's head, and for a body, whose time grows again by a second for each
#: `BODY_BYTES`: a slow one comes through, one that only keeps its connection does not.
HEAD_S = 10
BODY_S = 20
BODY_BYTES = 1024
SWEEP_S = 1  # each counts as a second
#: for TLS or a WebSocket to be ended by both, and for the last bytes of a refusal to be read
LEAVING_S = 5
_TELL_EVERY = 60  # sweeps
_FEW_SILENT = 20  # in one sweep: browsers open connections that they do not use, which is no news
# Each open stream takes some 20 kB: the memory ends before more descriptors do. And a process that user code starts
# inherits the limit: some close all descriptors up to it one by one.
_MOST_DESCRIPTORS = 64 * 1024
# Of all descriptors: for downloads, files, the model, and for those who are being refused.
_KEPT_SHARE = 1 / 4
_ADDRESS_SHARE = 1 / 2
_CROWDED_SHARE = 3 / 4
_LINGERING = 32
_RETRY_AFTER_S = 1

#: `silent`: without a request under way; `sending`: with a body that is still to come; `held`: it waits for the server;
#: `answered`: its request came whole.
Standing = Literal["silent", "sending", "held", "answered"]

#: what a client is to be blamed for: a request that did not come whole, or none at all; a connection that was used, and
#: is idle, is no fault
Fault = Literal["too late", "silent"] | None


class Address:
    """Count what one address holds: for IPv6 a whole /64, which is what one subscriber has."""

    __slots__ = ("held", "name", "silent")

    def __init__(self, name: str) -> None:
        self.name = name  # "" stands for many clients
        self.held = 0
        self.silent: dict[Guest, None] = {}


class Guest(Protocol):
    """A connection, as it is seen here.

    Attributes:
        address: None before it was taken in, and after it has left.
        left_s: how long the server waits on, in seconds.
    """

    address: Address | None
    left_s: float

    @property
    def standing(self) -> Standing:
        """Say what is to come next, and from whom."""

    def give_up(self) -> Fault:
        """End it: what it owes has not come in time; 408 where a request has begun. Called again, end it at once."""

    def make_way(self) -> None:
        """End it at once, in favour of another."""


class Connections:
    """Hold all connections of one server; on the event loop only.

    Args:
        most: how many there may be; None for what the limit of descriptors allows.
        is_trusted: says whether an address is a proxy's.
    """

    def __init__(self, most: int | None, *, is_trusted: Callable[[str], bool]) -> None:
        limit = min(resource.getrlimit(resource.RLIMIT_NOFILE)[0], _MOST_DESCRIPTORS)
        kept = int(limit * _KEPT_SHARE)
        #: how many may be accepted before the loop goes on: it takes four rounds from there until one has made way
        self.accepted_at_once = max(kept // 8, 1)
        self._first_kept = limit - kept
        if most is not None and most > self._first_kept:
            logger.warning(
                "STREAMAPP_MAX_CONNECTIONS is %d, but with %d descriptors there is room for %d: raise ulimit -n",
                *(most, limit, self._first_kept),
            )
        self.most = min(most or self._first_kept, self._first_kept)
        self._is_trusted = is_trusted
        self._held = 0
        self._many = Address("")
        self._addresses: dict[str, Address] = {}  # all others
        self._silent: dict[Guest, float] = {}  # the oldest first; what it had left at the last sweep
        self._others: dict[Guest, None] = {}
        self._requests: Counter[str] = Counter()
        self._lingering: list[asyncio.Transport] = []
        self._leaving: list[asyncio.Transport] = []  # those that were lingering at the last sweep
        self._counts: Counter[str] = Counter()
        self._sweeps_since_told = _TELL_EVERY
        self._timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Begin to look, in the running loop."""
        self._timer = asyncio.get_running_loop().call_later(SWEEP_S, self._sweep_and_on)

    def stop(self) -> None:
        """Look no more."""
        if self._timer is not None:
            self._timer.cancel()

    def enter(self, guest: Guest, host: str, descriptor: int) -> StreamAppError | None:
        """Take a connection in; returns what to tell it where there is no place.

        Args:
            descriptor: the number of its socket. It is the lowest that was free, so what else the process has open
                counts as well.
        """
        name = "" if self._is_trusted(host) else network_of(host)
        address = self._many if name == "" else self._addresses.get(name) or Address(name)
        is_full = self._held >= self.most or descriptor >= self._first_kept
        is_over_share = address is not self._many and self._is_over_share(address.held)
        if is_full or is_over_share:
            refusal = self._refusal(address, is_over_share=is_over_share)
            if refusal is not None:
                self._counts["refused"] += 1
                return refusal
        if not address.held and address is not self._many:
            self._addresses[name] = address
        guest.address = address
        address.held += 1
        self._held += 1
        guest.left_s = self._silent[guest] = HEAD_S
        address.silent[guest] = None
        return None

    def leave(self, guest: Guest) -> None:
        """Let a connection go; nothing happens where it is not held."""
        address, guest.address = guest.address, None
        if address is None:
            return
        self._forget(guest, address)
        self._held -= 1
        address.held -= 1
        if not address.held and address is not self._many:
            del self._addresses[address.name]

    def hand_over(self, guest: Guest, to: Guest) -> None:
        """Let another have the place of a connection, which speaks another protocol from now on."""
        to.address, guest.address = guest.address, None
        if to.address is not None:
            self._forget(guest, to.address)

    def wait_for(self, guest: Guest) -> None:
        """Look at a connection from now on, until it is answered; it has `left_s` to send what it owes."""
        if guest.address is not None and guest not in self._silent and guest not in self._others:
            self._silent[guest] = guest.left_s
            guest.address.silent[guest] = None

    def begin(self, host: str) -> StreamAppError | None:
        """Count a request that a trusted proxy has forwarded, until `end`; returns what to tell it where it is one too
        many of its address.
        """
        name = network_of(host)
        if name and self._is_over_share(self._requests[name]):
            self._counts["refused"] += 1
            return self._of_address()
        self._requests[name] += 1
        return None

    def end(self, host: str) -> None:
        """End a request that was counted."""
        name = network_of(host)
        self._requests[name] -= 1
        if not self._requests[name]:
            del self._requests[name]

    def linger(self, transport: asyncio.Transport) -> None:
        """Close a connection that was told all a little later: at once, what it still sends would take that away."""
        transport.set_protocol(_Deaf())
        with suppress(OSError):
            transport.write_eof()
        self._lingering.append(transport)
        if len(self._lingering) > _LINGERING:
            self._lingering.pop(0).abort()

    def _is_over_share(self, count: int) -> bool:
        return count >= self.most * _ADDRESS_SHARE and self._held >= self.most * _CROWDED_SHARE

    def _refusal(self, address: Address, *, is_over_share: bool) -> StreamAppError | None:
        if self._make_way(address.silent) or (not is_over_share and self._make_way(self._silent)):
            return None
        if is_over_share:
            return self._of_address()
        return Unavailable(
            f"all {self._held} connections are taken (STREAMAPP_MAX_CONNECTIONS); try again",
            retry_after_s=_RETRY_AFTER_S,
        )

    def _of_address(self) -> StreamAppError:
        return Unavailable(
            f"your address has half of all {self.most} connections, and the others are nearly taken; end some first",
            retry_after_s=_RETRY_AFTER_S,
        )

    def _make_way(self, silent: dict[Guest, Any]) -> bool:
        """Close the oldest connection without a request; those heard of since the last sweep are put in order first."""
        while silent:
            guest = next(iter(silent))
            if self._sort(guest) == "silent" and next(iter(silent)) is guest:
                guest.make_way()
                self.leave(guest)
                self._counts["made way"] += 1
                return True
        return False

    def _sort(self, guest: Guest) -> Standing:
        """Put a connection where it belongs; a silent one that was heard of goes behind the others."""
        standing, address = guest.standing, guest.address
        assert address is not None
        if standing == "silent" and guest.left_s <= self._silent.get(guest, -1):
            return standing
        self._forget(guest, address)
        if standing == "silent":
            self.wait_for(guest)
        elif standing != "answered":
            self._others[guest] = None
        return standing

    def _forget(self, guest: Guest, address: Address) -> None:
        self._silent.pop(guest, None)
        self._others.pop(guest, None)
        address.silent.pop(guest, None)

    def _sweep_and_on(self) -> None:
        self.start()
        self.sweep()

    def sweep(self) -> None:
        """Take a second from all who owe something; end what has none left."""
        faults: Counter[Fault] = Counter()
        for guest in (*self._silent, *self._others):
            standing = self._sort(guest) if guest.address is not None else "answered"
            if standing in ("silent", "sending"):
                guest.left_s -= 1
                if guest in self._silent:
                    self._silent[guest] = guest.left_s
                if guest.left_s <= 0:
                    guest.left_s = LEAVING_S
                    faults[guest.give_up()] += 1
        for transport in self._leaving:
            transport.abort()
        self._leaving, self._lingering = self._lingering, []
        self._counts["too late"] += faults["too late"]
        if faults["silent"] > _FEW_SILENT:
            self._counts["silent"] += faults["silent"]
        self._tell()

    def _tell(self) -> None:
        """Write one line a minute at most, whatever happens."""
        self._sweeps_since_told += 1
        told = [f"{count} {_TOLD[what]}" for what, count in self._counts.items() if count]
        if self._sweeps_since_told < _TELL_EVERY or not told:
            return
        logger.warning(
            "of %d connections (at most %d: STREAMAPP_MAX_CONNECTIONS) %s",
            *(self._held, self.most, ", ".join(told)),
        )
        self._counts.clear()
        self._sweeps_since_told = 0


_TOLD = {
    "refused": "more were refused",
    "made way": "without a request were closed in favour of others",
    "too late": "were closed as their request did not come in time",
    "silent": "were closed as they sent nothing",
}


class _Deaf(asyncio.Protocol):
    """Read what still comes, and forget it."""


class Handshakes:
    """Accept connections of TLS and shake hands, where they can be seen while they do so: asyncio shows none before.

    Args:
        listener: not blocking.
        make: makes the protocol of a connection, which is told of its task as `opening`.
    """

    def __init__(
        self, listener: socket.socket, make: Callable[[], Any], *, connections: Connections, context: ssl.SSLContext
    ) -> None:
        self._listener = listener
        self._make = make
        self._connections = connections
        self._context = context
        self._loop = asyncio.get_running_loop()
        self._opening: dict[asyncio.Task[Any], socket.socket] = {}
        self._retry: asyncio.TimerHandle | None = None
        listener.setblocking(False)
        self._listen()

    @property
    def descriptors(self) -> list[int]:
        """Return the sockets' numbers."""
        return [opened.fileno() for opened in self._opening.values()]

    def close(self) -> None:
        """Accept no more, and drop who has not come in yet."""
        if self._retry is not None:
            self._retry.cancel()
        self._loop.remove_reader(self._listener.fileno())
        for task in self._opening:
            self._loop.call_soon(task.cancel)

    async def wait_closed(self) -> None:
        """Return: connections are ended by others."""

    def _listen(self) -> None:
        self._loop.add_reader(self._listener.fileno(), self._accept)

    def _accept(self) -> None:
        for _ in range(self._connections.accepted_at_once):
            try:
                accepted, (host, *_) = self._listener.accept()
            except (BlockingIOError, InterruptedError, ConnectionError):
                return
            except OSError:  # the app has opened so much that not even the kept descriptors are left
                self._loop.remove_reader(self._listener.fileno())
                self._retry = self._loop.call_later(SWEEP_S, self._listen)
                return
            accepted.setblocking(False)
            protocol = self._make()
            if self._connections.enter(protocol, host, accepted.fileno()) is not None:
                accepted.close()
                continue
            protocol.opening = task = self._loop.create_task(self._open(accepted, protocol))
            self._opening[task] = accepted
            task.add_done_callback(self._opening.pop)

    async def _open(self, accepted: socket.socket, protocol: Any) -> None:
        try:
            await self._loop.connect_accepted_socket(lambda: protocol, accepted, ssl=self._context)
        except (OSError, asyncio.CancelledError):  # no TLS, another's, gone, or too late
            self._connections.leave(protocol)
        finally:
            protocol.opening = None


def raise_descriptor_limit() -> None:
    """Let this process open as many files as it may: the limit is low for programs that use `select`, and nothing here
    does.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _MOST_DESCRIPTORS if hard == resource.RLIM_INFINITY else min(hard, _MOST_DESCRIPTORS)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with suppress(OSError, ValueError):  # macOS allows less than it says
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def descriptor_of(transport: asyncio.Transport) -> int:
    """Return the number of a connection's socket, -1 when it is closed."""
    held = transport.get_extra_info("socket")
    return -1 if held is None else int(held.fileno())


def shut_down(descriptor: int) -> None:
    """End a connection for all who hold its socket."""
    if descriptor < 0:
        return
    with suppress(OSError):  # the client may have gone already
        # Of whatever family it is: to ask for that, and to copy the descriptor, would be five more system calls.
        held = socket.socket(socket.AF_INET, socket.SOCK_STREAM, 0, descriptor)
        try:
            held.shutdown(socket.SHUT_RDWR)
        finally:
            held.detach()


def raw_answer(report: ErrorReport) -> bytes:
    """Return an error as the last answer on a connection, for when there is no request to be answered."""
    content = json.dumps(report.body).encode()
    status = HTTPStatus(report.status_code)
    headers = {"Content-Type": "application/json", "Content-Length": len(content), "Connection": "close"}
    lines = [f"{name}: {value}\r\n" for name, value in {**headers, **report.response_headers}.items()]
    return f"HTTP/1.1 {status} {status.phrase}\r\n{''.join(lines)}\r\n".encode() + content
