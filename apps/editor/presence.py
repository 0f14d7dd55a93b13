"""Know who is in a document, and where: what Yjs calls awareness.

A socket speaks for one client, the first that it names: what it repeats of others is left out, so nobody moves or
removes somebody else. Of two sockets that name the same client the first counts, and the second when that has gone:
one that comes back before the server has noticed that it had left.

Each thing that a client says bears a number, and what bears none higher than before is old news to the others; so is
what a client says first when it comes back. By the rules of awareness it says the same with a higher number if it is
told that it has gone, and so it is.
"""

from typing import NamedTuple

from pydantic_core import from_json

from streamapp import Member, Room
from streamapp.errors import InvalidInput

from .wire import Kind, Reader, buffer, number

_MOST_BYTES = 4096  # of what one client says of itself
_MOST_CLIENTS = 1000  # of whom a message tells
_GONE = "null"


class Said(NamedTuple):
    """What was said of a client, as JSON, and the number of that."""

    client: int
    clock: int
    state: str


class Presence:
    """Hold what each member of a document says of itself."""

    def __init__(self) -> None:
        self._said: dict[Member, Said] = {}
        self._news: dict[int, Said] = {}

    def say(self, member: Member, content: bytes) -> bool:
        """Take in what a member says; return whether there is news for all.

        Raises:
            InvalidInput: it is no update of an awareness, or too much.
        """
        for said in _read(content):
            if member not in self._said and said.state != _GONE:
                self._said[member] = said
                member.send(_write([said._replace(state=_GONE)]))
            if member in self._said and self._said[member].client == said.client:
                _check(said.state)
                self._said[member] = said
                self._note(said)
        return bool(self._news)

    def leave(self, member: Member) -> bool:
        """Forget a member; return whether there is news for all."""
        if (said := self._said.pop(member, None)) is not None:
            self._note(said._replace(state=_GONE))
        return bool(self._news)

    def _note(self, said: Said) -> None:
        """Note what is now known of a client: what the first says that speaks for it, else that it has gone."""
        named = (each for each in self._said.values() if each.client == said.client)
        self._news[said.client] = next(named, said)

    def tell(self, room: Room) -> None:
        """Tell all what is new, in one message, as each client of `y-websocket` sends back each.

        Who has said it hears it, too: such a client gives up a connection on which nothing came for 30 s.
        """
        news, self._news = self._news, {}
        room.broadcast(_write(list(news.values())), keep=False)

    def all(self) -> bytes:
        """Return the message that tells of everybody."""
        return _write(list({said.client: said for said in reversed(self._said.values())}.values()))


def _write(said: list[Said]) -> bytes:
    entries = [number(client) + number(clock) + buffer(state.encode()) for client, clock, state in said]
    return number(Kind.AWARENESS) + buffer(number(len(entries)) + b"".join(entries))


def _read(content: bytes) -> list[Said]:
    reader = Reader(content)
    if (count := reader.number()) > _MOST_CLIENTS:
        raise InvalidInput(f"Expected to hear of at most {_MOST_CLIENTS} clients, got {count}")
    said = [Said(reader.number(), reader.number(), reader.text()) for _ in range(count)]
    reader.end()
    return said


def _check(state: str) -> None:
    if len(state) > _MOST_BYTES:
        raise InvalidInput(f"Expected at most {_MOST_BYTES} characters about a client, got {len(state)}")
    try:
        said = from_json(state, allow_inf_nan=False)
    except ValueError as error:
        raise InvalidInput(f"Expected JSON about a client: {error}") from None
    if not isinstance(said, dict | None):
        raise InvalidInput(f"Expected an object about a client, or null, got {state[:50]}")
