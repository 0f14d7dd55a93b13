"""A server of raw bytes for tests of clients: it plays each answer as it is written down."""

import json
import queue
import socket
import socketserver
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import httpx
from tests.waiting import WAIT_S
from websockets.frames import TEXT, Close, Frame, Opcode
from websockets.protocol import SERVER, Protocol
from websockets.utils import accept_key

# Steps of an answer besides bytes to send. After its last step the server closes the connection.
HOLD = "hold"  # wait until the client has gone, then note it
THEN = "then"  # what follows answers the next request for the path, and all after it
RESET = "reset"  # close with RST instead of FIN
# Steps of a WebSocket, besides dicts, which are sent as JSON, and bytes.
UPGRADE = "upgrade"  # open it
HEAR = "hear"  # wait for a message, and note it
CUT = "cut"  # close without a word

END = b"0\r\n\r\n"
CLOSE = "Connection: close\r\n"


def head(content_type: str = "text/event-stream") -> bytes:
    lines = f"HTTP/1.1 200 OK\r\nContent-Type: {content_type}\r\nX-Streamapp-Job-Id: j1\r\n"
    return f"{lines}{CLOSE}Transfer-Encoding: chunked\r\n\r\n".encode()


def chunk(text: str) -> bytes:
    body = text.encode()
    return b"%x\r\n%s\r\n" % (len(body), body)


def block(name: str, data: Any, number: int = 1) -> bytes:
    return chunk(f"event: {name}\nid: j1:1.{number}\ndata: {json.dumps(data)}\n\n")


def answer(body: bytes, status: str = "200 OK", content_type: str = "application/json", headers: str = "") -> bytes:
    lines = f"HTTP/1.1 {status}\r\nContent-Type: {content_type}\r\nContent-Length: {len(body)}\r\n{headers}"
    return f"{lines}{CLOSE}\r\n".encode() + body


def closing(code: int, reason: str = "") -> bytes:
    """Return the frame that closes a WebSocket."""
    return Frame(Opcode.CLOSE, Close(code, reason).serialize()).serialize(mask=False)


def message(text: str) -> bytes:
    """Return a frame of text."""
    return Frame(TEXT, text.encode()).serialize(mask=False)


def refusal(code: str, message: str = "No.", *, retryable: bool = False, detail: Any = None) -> dict[str, Any]:
    error = {"code": code, "message": message, "retryable": retryable}
    return {"error": error, "detail": message if detail is None else detail, "error_type": code}


class Server(socketserver.ThreadingTCPServer):
    """Answer each path with its steps; `log` tells in order what clients did, `requests` what they sent."""

    daemon_threads = True

    def __init__(self, answers: dict[str, list[Any]]) -> None:
        super().__init__(("127.0.0.1", 0), Connection)
        self.answers: dict[str, list[Any]] = {"/jobs/j1/cancel": [answer(b"", "202 Accepted")], **answers}
        self.log: queue.Queue[str] = queue.Queue()
        self.requests: list[tuple[httpx.Headers, bytes]] = []
        self.url = f"http://127.0.0.1:{self.server_address[1]}"

    def turn(self, path: str) -> list[Any]:
        """Return the steps of the next answer."""
        steps = self.answers[path]
        if THEN not in steps:
            return steps
        at = steps.index(THEN)
        self.answers[path] = steps[at + 1 :]
        return steps[:at]

    def saw(self, count: int) -> list[str]:
        """Return the next `count` things that clients did, and fail if they do not happen."""
        return [self.log.get(timeout=WAIT_S) for _ in range(count)]

    def sees(self, what: str) -> None:
        """Wait until clients do this; fail if it does not happen."""
        while self.log.get(timeout=WAIT_S) != what:
            pass


class Connection(socketserver.StreamRequestHandler):
    """Read one request and play its answer."""

    server: Server

    def handle(self) -> None:
        method, path, _ = self.rfile.readline().decode().split()
        headers = httpx.Headers([(name, value) for name, _, value in self.header_lines()], encoding="utf-8")
        self.key = headers.get("Sec-WebSocket-Key", "")
        self.socket: Protocol | None = None
        self.server.requests.append((headers, self.rfile.read(int(headers.get("Content-Length", 0)))))
        self.server.log.put(f"{method} {path}")
        for step in self.server.turn(path):
            self.play(step, path)

    def header_lines(self) -> Iterator[tuple[str, str, str]]:
        while line := self.rfile.readline().decode().strip():
            yield line.partition(": ")

    def play(self, step: bytes | str | dict[str, Any] | threading.Event, path: str) -> None:
        if isinstance(step, bytes):
            self.wfile.write(step)
        elif isinstance(step, dict):
            self.wfile.write(message(json.dumps(step)))
        elif step == UPGRADE:
            self.upgrade()
        elif step == CUT:
            self.request.shutdown(socket.SHUT_RDWR)
        elif step == HEAR:
            self.server.log.put(self.hear())
        elif isinstance(step, threading.Event):
            assert step.wait(WAIT_S)
        elif step == HOLD:
            self.wait_until_gone()
            self.server.log.put(f"gone {path}")
        else:
            self.request.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.request.close()

    def upgrade(self) -> None:
        lines = f"Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: {accept_key(self.key)}\r\n"
        self.wfile.write(f"HTTP/1.1 101 Ok\r\n{lines}Sec-WebSocket-Protocol: streamapp.v1\r\n\r\n".encode())
        self.socket = Protocol(SERVER, max_size=None)
        self.heard: list[Frame] = []

    def hear(self) -> str:
        """Return the next message, or what ended the WebSocket."""
        assert self.socket is not None
        while not self.heard:
            if not (content := self.rfile.read1(65536)):
                return "gone"
            self.socket.receive_data(content)
            self.heard += [frame for frame in self.socket.events_received() if isinstance(frame, Frame)]
        frame = self.heard.pop(0)
        return f"close {Close.parse(frame.data).code}" if frame.opcode is Opcode.CLOSE else bytes(frame.data).decode()

    def wait_until_gone(self) -> None:
        try:
            assert self.rfile.read(1 if self.socket is None else -1) == b"" or self.socket is not None
        except ConnectionResetError:
            pass


Serve = Callable[..., Server]


@contextmanager
def serving() -> Iterator[Serve]:
    """Start a server for `**{path: steps}`; steps given without a path answer /stream."""
    servers: list[Server] = []

    def start(*steps: bytes | str, **answers: list[Any]) -> Server:
        server = Server({"/stream": list(steps), **{f"/{name}": steps for name, steps in answers.items()}})
        servers.append(server)
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}).start()
        return server

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()
