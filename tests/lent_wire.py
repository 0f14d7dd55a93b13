"""What a server lends for a WebSocket, played by a test."""

from typing import Any


class FakeWire:
    """Take what is sent; paused as the test says, or by whatever is sent."""

    fills = False

    def __init__(self) -> None:
        self.sent: list[Any] = []
        self.unsent_bytes = 0
        self.on_writable: Any = None
        self.on_ended: Any = None
        self.is_open = True

    @property
    def is_paused(self) -> bool:
        return self.unsent_bytes > 0

    def send_frame(self, frame: bytes) -> None:
        self.sent.append(frame)
        self.unsent_bytes = len(frame) if self.fills else self.unsent_bytes

    def close(self, code: int = 1000, reason: str = "") -> None:
        self.sent.append((code, reason))

    def abort(self) -> None:
        self.sent.append("abort")
