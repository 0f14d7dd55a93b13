"""A proxy that leads all that is asked for to one server, whatever its name, and notes what that was."""

import socket
import socketserver
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress


class Proxy(socketserver.ThreadingTCPServer):
    """Take plain requests and CONNECT; `asked` tells them in order. With a `refusal` each is answered by it."""

    daemon_threads = True

    def __init__(self, target: str, refusal: bytes) -> None:
        super().__init__(("127.0.0.1", 0), Tunnel)
        self.url = f"http://127.0.0.1:{self.server_address[1]}"
        self.asked: list[str] = []
        self.target = ("127.0.0.1", int(target.rpartition(":")[2]))
        self.refusal = refusal


class Tunnel(socketserver.StreamRequestHandler):
    """Serve one connection: one request, or one tunnel."""

    server: Proxy

    def handle(self) -> None:
        first = self.rfile.readline()
        method, url, _ = first.decode().split()
        self.server.asked.append(f"{method} {url}")
        lines = [*iter(self.rfile.readline, b"\r\n")]
        if self.server.refusal:
            self.wfile.write(self.server.refusal)
            return
        with socket.create_connection(self.server.target) as upstream:
            if method == "CONNECT":
                self.wfile.write(b"HTTP/1.1 200 Connected\r\n\r\n")
            else:
                path = "/" + url.split("/", 3)[3]
                upstream.sendall(f"{method} {path} HTTP/1.1\r\n".encode() + b"".join(lines) + b"\r\n")
            threading.Thread(target=self.send_on, args=(upstream,), daemon=True).start()
            with suppress(OSError):
                while data := upstream.recv(65536):
                    self.wfile.write(data)
            self.request.shutdown(socket.SHUT_RD)

    def send_on(self, upstream: socket.socket) -> None:
        with suppress(OSError, ValueError):  # closed in the other thread
            while data := self.rfile.read1():
                upstream.sendall(data)
            upstream.shutdown(socket.SHUT_WR)


StartProxy = Callable[..., Proxy]


@contextmanager
def leading() -> Iterator[StartProxy]:
    """Start proxies to the server at a URL."""
    proxies: list[Proxy] = []

    def start(target: str, refusal: bytes = b"") -> Proxy:
        proxies.append(Proxy(target, refusal))
        threading.Thread(target=proxies[-1].serve_forever, kwargs={"poll_interval": 0.01}).start()
        return proxies[-1]

    yield start
    for proxy in proxies:
        proxy.shutdown()
        proxy.server_close()
