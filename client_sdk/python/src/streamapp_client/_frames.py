"""Turn the bytes of a WebSocket into messages, and back; knows no sockets. The one module that needs websockets.

Source: RFC 6455. Pings are answered here. No compression is offered: what is large are images, which have their own.
"""

from base64 import b64encode
from hashlib import sha1

from ._decoder import MAX_BYTES
from ._errors import NotSent

try:
    from websockets.frames import BINARY, CLOSE, CONT, TEXT, Frame
    from websockets.protocol import CLIENT, OPEN, Protocol
except ImportError:  # the extra `realtime` is not installed; all the rest works without it
    Protocol = None  # type: ignore[assignment, misc]

_GUID = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_ABNORMAL = 1006


def check_installed() -> None:
    """Raise NotSent where sessions cannot be opened."""
    if Protocol is None:
        raise NotSent('websockets is not installed; write: pip install "streamapp-client[realtime]"')


def accept_of(key: str) -> str:
    """Return what a server answers to a `Sec-WebSocket-Key`."""
    return b64encode(sha1(f"{key}{_GUID}".encode(), usedforsecurity=False).digest()).decode()


class Frames:
    """Hold one connection, from behind its handshake to its end.

    Attributes:
        closed_by: the code and the reason that it was closed with; None while it is open.
    """

    def __init__(self) -> None:
        self.closed_by: tuple[int, str] | None = None
        self._protocol = Protocol(CLIENT, max_size=MAX_BYTES)
        self._pieces: list[bytes] = []

    def receive(self, chunk: bytes) -> list[bytes]:
        """Take the next bytes, and return the messages that they complete."""
        self._protocol.receive_data(chunk)
        messages = []
        for frame in self._protocol.events_received():
            assert isinstance(frame, Frame)
            if frame.opcode is CLOSE:
                self._end()
            elif frame.opcode in (TEXT, BINARY, CONT):
                self._pieces.append(bytes(frame.data))
                if frame.fin:
                    messages.append(b"".join(self._pieces))
                    self._pieces.clear()
        if self._protocol.parser_exc is not None:
            self._end()
        return messages

    def _end(self) -> None:
        received, error = self._protocol.close_rcvd, self._protocol.parser_exc
        self.closed_by = (received.code, received.reason) if received is not None else (_ABNORMAL, str(error))

    def send(self, message: bytes) -> None:
        """Frame a message of text."""
        if self._protocol.state is OPEN:
            self._protocol.send_text(message)

    def close(self) -> None:
        """Say that this side leaves."""
        if self._protocol.state is OPEN:
            self._protocol.send_close(1000)

    def to_send(self) -> bytes:
        """Return what is to be written now: pongs, too."""
        return b"".join(self._protocol.data_to_send())
