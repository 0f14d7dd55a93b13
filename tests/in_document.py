"""What the tests of the editor share: somebody with a copy of a document, who speaks as y-websocket does."""

from contextlib import ExitStack
from typing import Any

from apps.editor.wire import Kind, Reader, Step, buffer, number, read_message, sync
from pycrdt import Doc, Text
from starlette.testclient import TestClient, WebSocketTestSession


def said_of(client: int, clock: int, state: str) -> bytes:
    """Return the message that tells of one client."""
    return number(Kind.AWARENESS) + buffer(number(1) + number(client) + number(clock) + buffer(state.encode()))


class Peer:
    """Somebody who edits a document, with a connection or without.

    Attributes:
        people: what was said of whom.
    """

    def __init__(self, server: TestClient, name: str = "d") -> None:
        self.doc: Doc[Text] = Doc()
        self.text = self.doc.get("content", type=Text)
        self.people: dict[int, str] = {}
        self.socket: WebSocketTestSession | None = None
        self._server, self._path = server, f"/documents/{name}"
        self._open = ExitStack()
        self._is_told = False
        self.doc.observe(lambda event: self._send(event.update))

    def __str__(self) -> str:
        return str(self.text)

    def __enter__(self) -> "Peer":
        self.socket = self._open.enter_context(self._server.websocket_connect(self._path))
        return self.settle()

    def __exit__(self, *_: Any) -> None:
        self.socket = None
        self._open.close()

    def write(self, at: int, text: str, *, instead: int = 0) -> None:
        """Write at a place of the text, from 0 to 1000, in the place of so many characters."""
        content = str(self)
        begin = at * len(content) // 1000
        before, gone = (len(part.encode()) for part in (content[:begin], content[begin : begin + instead]))
        with self.doc.transaction():
            del self.text[before : before + gone]
            self.text.insert(before, text)

    def settle(self) -> "Peer":
        """Take what has come; all of it stands before the answer to a question."""
        assert self.socket is not None
        self.socket.send_bytes(sync(Step.STATE, self.doc.get_state()))
        while self._hear(self.socket.receive_bytes()) is not Step.MISSING:
            pass
        return self

    def hear_of(self, client: int) -> str:
        """Wait for news of somebody; return what is said."""
        assert self.socket is not None
        self.people.pop(client, None)
        while client not in self.people:
            self._hear(self.socket.receive_bytes())
        return self.people[client]

    def _hear(self, data: bytes) -> Step | None:
        kind, step, content = read_message(data)
        if kind is Kind.AWARENESS:
            reader = Reader(content)
            for _ in range(reader.number()):
                client, _ = reader.number(), reader.number()
                self.people[client] = reader.text()
            return None
        if step is Step.STATE:
            self._say(sync(Step.MISSING, self.doc.get_update(content)))
        else:
            self._is_told = True
            self.doc.apply_update(content)
            self._is_told = False
        return step

    def _send(self, update: bytes) -> None:
        if self.socket is not None and not self._is_told:
            self._say(sync(Step.UPDATE, update))

    def _say(self, message: bytes) -> None:
        assert self.socket is not None
        self.socket.send_bytes(message)
