"""Load a server over raw sockets, with as little work as can be between a byte's arrival and its timestamp.

What arrives is kept with its time and decoded afterwards, so that the client does not slow the server it measures.
"""

import json
import selectors
import socket
import struct
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, ClassVar, NamedTuple

WAIT_S = 30.0
# Where a stream that is read alone lands: memory that was used before, since a page's first use costs more than the
# copy into it, and would make the client slower than the fastest server.
_ARENA = memoryview(bytearray(64 << 20))


class NotOffered(Exception):
    """A server does not do what a case asks; the text is the reason, for the table's notes."""


class Received(NamedTuple):
    """One event: when its last byte came, its name if it has one, and its data."""

    at: float
    name: str
    data: bytes

    @property
    def payload(self) -> Any:
        """Return the data as what the server made it of."""
        return json.loads(self.data)


@dataclass
class Connection:
    """One request and what came back, piece by piece with the time of each."""

    socket: socket.socket
    sent_at: float = 0.0
    pieces: list[tuple[float, bytes]] = field(default_factory=list)
    is_over: bool = False
    #: how much is taken at once; to make room for it takes a while, 28 us where it is 256 KiB, 2 us where it is 16
    RECEIVE_BYTES: ClassVar[int] = 256 * 1024

    @classmethod
    def open(cls, port: int) -> "Connection":
        """Connect only, so that the handshake is not part of what is measured."""
        connection = socket.socket()
        connection.settimeout(WAIT_S)
        connection.connect(("127.0.0.1", port))
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return cls(connection)

    def send(self, request: bytes) -> None:
        """Send a request, noting the time just before."""
        self.sent_at = time.monotonic()
        self.socket.sendall(request)

    def receive(self) -> bool:
        """Take what is there, waiting for it on a blocking socket; False when the stream is over."""
        try:
            piece = self.socket.recv(self.RECEIVE_BYTES)
        except ConnectionResetError:
            piece = b""
        if piece:
            self.pieces.append((time.monotonic(), piece))
        else:
            self.is_over = True
        return bool(piece)

    def receive_all(self) -> None:
        """Take the rest of a stream that comes as fast as it can: 64 MiB at most."""
        marks, at = [], 0
        while taken := self.socket.recv_into(_ARENA[at : at + self.RECEIVE_BYTES]):
            marks.append((time.monotonic(), at, at + taken))
            at += taken
        self.is_over = True
        self.pieces += [(when, bytes(_ARENA[start:end])) for when, start, end in marks]

    def receive_until(self, marker: bytes) -> float:
        """Return when the first byte of `marker` came.

        Raises:
            NotOffered: the stream ended before.
        """
        received = b""
        while marker not in received:
            if not self.receive():
                raise NotOffered(f"the answer was {received[:120]!r}")
            received += self.pieces[-1][1]
        at = received.index(marker)
        for time_of, piece in self.pieces:
            at -= len(piece)
            if at < 0:
                return time_of
        raise AssertionError("the marker is in none of the pieces")

    def events(self) -> list[Received]:
        """Decode what came.

        Raises:
            NotOffered: the server refused.
        """
        decoder = Decoder()
        return [Received(at, name, data) for at, piece in self.pieces for name, data in decoder.feed(piece)]

    def leave(self) -> None:
        """Reset the connection: nothing of it stays in the kernel."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.socket.close()


def read_all(connections: Iterable[Connection], *, until: float) -> None:
    """Read many streams in one loop until all are over or the time has come."""
    with reading(connections) as selector:
        read(selector, until=until)


@contextmanager
def reading(connections: Iterable[Connection]) -> Iterator[selectors.BaseSelector]:
    """Prepare to read many streams in one loop; with thousands of them this takes longer than an event may."""
    with selectors.DefaultSelector() as selector:
        for connection in connections:
            connection.socket.setblocking(False)
            selector.register(connection.socket, selectors.EVENT_READ, connection)
        yield selector


def read(selector: selectors.BaseSelector, *, until: float) -> list[float]:
    """Read the streams until all are over or the time has come.

    Returns:
        For every piece and every end, the seconds of the loop's turn in which it was read. What comes during a turn
        waits for the next, so the client makes nothing later by more than two of them.
    """
    turns_s: list[float] = []
    while selector.get_map() and (left_s := until - time.monotonic()) > 0:
        ready = selector.select(left_s)
        woken_at = time.monotonic()
        for key, _ in ready:
            if not key.data.receive():
                selector.unregister(key.fileobj)
        turns_s += [time.monotonic() - woken_at] * len(ready)
    return turns_s


def request(path: str, body: Any) -> bytes:
    """Return a POST's bytes; the server closes the connection at the end of the answer."""
    content = json.dumps(body).encode()
    return (
        f"POST {path} HTTP/1.1\r\nHost: benchmark\r\nConnection: close\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(content)}\r\n\r\n"
    ).encode() + content


class Decoder:
    """Turn an answer's bytes, cut anywhere, into events: server-sent ones, or one JSON text per line.

    Attributes:
        is_complete: the final chunk came.
    """

    def __init__(self) -> None:
        self.is_complete = False
        self._head = b""
        self._is_in_head = True
        self._is_chunked = False
        self._is_sse = False
        self._framing = b""
        self._chunk_left = 0
        self._tail = b""

    def feed(self, piece: bytes) -> list[tuple[str, bytes]]:
        """Return the events that are complete with this piece, as (name, data).

        Raises:
            NotOffered: the answer's status is not 200.
        """
        if self._is_in_head:
            self._head += piece
            head, end, piece = self._head.partition(b"\r\n\r\n")
            if not end:
                return []
            self._start(head)
        body = b"".join(self._chunks(piece)) if self._is_chunked else piece
        text = (self._tail + body).replace(b"\r\n", b"\n")
        *blocks, self._tail = text.split(b"\n\n" if self._is_sse else b"\n")
        events = (_parse(block) if self._is_sse else ("", block) for block in blocks)
        return [event for event in events if event[1]]

    def _start(self, head: bytes) -> None:
        self._is_in_head = False
        status, head = int(head.split()[1]), head.lower()
        if status != 200:
            raise NotOffered(f"answered {status}")
        self._is_chunked = b"transfer-encoding: chunked" in head
        self._is_sse = b"text/event-stream" in head

    def _chunks(self, piece: bytes) -> Iterator[bytes]:
        data, at = self._framing + piece, 0
        while at < len(data):
            if self._chunk_left:
                part = data[at : at + self._chunk_left]
                self._chunk_left -= len(part)
                at += len(part)
                yield part
                continue
            end = data.find(b"\r\n", at)
            if end < 0:
                break
            if size := data[at:end]:  # empty is the end of the chunk before
                self._chunk_left = int(size, 16)
                self.is_complete = not self._chunk_left
            at = end + 2
        self._framing = data[at:]


def _parse(block: bytes) -> tuple[str, bytes]:
    name, lines = "", []
    for line in block.split(b"\n"):
        field_name, _, value = line.partition(b":")
        if field_name == b"data":
            lines.append(value.removeprefix(b" "))
        elif field_name == b"event":
            name = value.strip().decode()
    return name, b"\n".join(lines)
