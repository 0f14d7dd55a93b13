"""Have many sockets hear each other: what a member says goes to all, and none of them waits for another.

All of a room happens on the event loop, and no step of it waits: who joins gets the history and is a member in one go,
and so hears everything once, in order. A message is encoded once, framed once, and written at once to each member that
keeps up. For one that does not it waits in the member's outbox, which is bounded; what happens when that is full the
app says: the member has to leave, or misses the oldest.

A member's id is its own. One that was asked for and is taken gets something behind it that nobody can guess, so two
sockets are two members, and none takes another's place. Whether a client is still there its pongs say, for which the
server looks, and not that something was sent to it.
"""

import asyncio
import threading
import time
from collections import OrderedDict, deque
from collections.abc import AsyncIterator, Callable, Collection, Iterable, Iterator, Mapping
from concurrent.futures import Future
from contextlib import asynccontextmanager, suppress
from functools import partial
from secrets import token_hex
from typing import Any, Literal, NamedTuple, get_args
from weakref import WeakValueDictionary

from fastapi.exceptions import RequestValidationError
from pydantic import TypeAdapter, ValidationError
from starlette.types import Message
from starlette.websockets import WebSocket, WebSocketDisconnect, WebSocketState

from ..errors import DefinitionError, InvalidInput, QueueFull, StreamAppError, describe
from ..http.handling import invalid_input
from ..jsontext import read_json
from ..settings import MIB
from ..text import whole
from .outbox import Backlog, Rate, Said
from .raw import RawSession, session_of
from .wire import size_of

WhenFull = Literal["evict", "conflate"]
WhenTooFast = Literal["close", "drop"]

_MAX_ID = 128
_BEHIND_S = 1.0  # for a member that talks to take what it was sent before
_LAST_S = 5.0  # for a member whose code has returned to take what it was sent
_MOST_KEPT, _MOST_KEPT_BYTES = 1000, 16 * MIB  # of rooms without members
_LOOP_S = 30.0  # for the loop to take what another thread says


class Room:
    """Join sockets of `@websocket` methods: what is broadcast goes to all of its members.

        class Chat(streamapp.App):
            room = streamapp.Room()

            @streamapp.websocket("/chat")
            async def chat(self, socket: WebSocket, name: str = "somebody"):
                async with self.room.join(socket, about={"name": name}) as member:
                    async for message in member:
                        self.room.broadcast({"from": name, "message": message}, exclude=member)

    `broadcast` and `Member.send` may be called in any thread, all else is the loop's.

    Args:
        history: how many of the newest messages who joins is sent first; of all together half of `outbox_bytes`.
        outbox: messages that may wait for a member that is slow to take them.
        outbox_bytes: their bytes.
        when_full: what happens when more would wait: "evict" closes the member's socket (1013), "conflate" leaves out
            the oldest and tells the member `{"type": "lagged", "skipped": n}`.
        presence: tell the others of who comes and goes, `{"type": "joined", "member": {"id": ...}}` and `left`.
        takes: what members send: a type to check JSON against, `str` for text as it is, `bytes` for binary messages.
            When `Any` a text is any JSON, and a binary message is as it is.
        max_messages_per_s: of one member; a second's worth may come at once. Without limit when None.
        when_too_fast: what happens to who sends more: "close" closes the socket (1008), "drop" leaves messages out.
        max_message_bytes: of one message of a member (1009); the deployment's when None.
    Raises:
        DefinitionError: an option is none of these, or the outbox has no room for the history twice.
    """

    def __init__(
        self,
        *,
        history: int = 100,
        outbox: int = 256,
        outbox_bytes: int = 4 * MIB,
        when_full: WhenFull = "evict",
        presence: bool = True,
        takes: Any = Any,
        max_messages_per_s: float | None = None,
        when_too_fast: WhenTooFast = "close",
        max_message_bytes: int | None = None,
    ) -> None:
        least = max(1, 2 * history)
        if history < 0 or outbox < least:
            raise DefinitionError(
                f"Room(history={history}, outbox={outbox}): who joins has the history to take, and then what comes "
                f"meanwhile; write outbox={least} or more"
            )
        _check_choice("when_full", when_full, get_args(WhenFull))
        _check_choice("when_too_fast", when_too_fast, get_args(WhenTooFast))
        _check_positive(
            outbox_bytes=outbox_bytes, max_messages_per_s=max_messages_per_s, max_message_bytes=max_message_bytes
        )
        self._history = Backlog(history, outbox_bytes // 2)
        self._most_kept = history
        self._outbox = outbox, outbox_bytes
        self._evicts = when_full == "evict"
        self._presence = presence
        self._takes = takes
        self._adapter: TypeAdapter[Any] = TypeAdapter(takes)
        self._rate = max_messages_per_s
        self._closes = when_too_fast == "close"
        self._max_bytes = max_message_bytes
        self._members: dict[str, Member] = {}
        self._loop: asyncio.AbstractEventLoop | None = None
        self._lock = threading.Lock()  # for threads that speak before the room has a loop
        self._when_empty: Callable[[Room], None] | None = None

    @property
    def members(self) -> "list[Member]":
        """Return who is there, in the order in which they came."""
        return list(self._members.values())

    @asynccontextmanager
    async def join(
        self, socket: WebSocket, *, id: str | None = None, about: Mapping[str, Any] | None = None
    ) -> "AsyncIterator[Member]":
        """Be a member for the length of an `async with`; a socket that was not accepted yet is accepted.

        Nothing comes between the history that a member is sent, its membership, and what the block does first.

        Args:
            id: the member's, where nobody has it; else its id begins with it. Random when None.
            about: what the others are told of it.
        Raises:
            InvalidInput: the id is empty or longer than 128 characters.
        """
        session = session_of(socket)
        if id is not None and not 0 < len(id) <= _MAX_ID:
            raise InvalidInput(f"Expected an id of 1 to {_MAX_ID} characters, got {len(id)}")
        if socket.application_state is WebSocketState.CONNECTING:
            await socket.accept()
        member = Member(self, session, socket, id=self._free_id(id), about=dict(about or {}))
        try:
            try:
                self._admit(member)
                yield member
            finally:
                self._let_go(member)
            await member._write_rest()
        finally:
            member._stop()

    def _free_id(self, asked: str | None) -> str:
        if asked is None:
            return token_hex(16)
        return whole(asked) if whole(asked) not in self._members else f"{whole(asked)}-{token_hex(16)}"

    def _admit(self, member: "Member") -> None:
        self._belong_to(asyncio.get_running_loop())
        if self._presence:
            self._deliver(_presence("joined", member))
        for said in self._history:
            member._put(said)
        self._members[member.id] = member

    def _let_go(self, member: "Member") -> None:
        if self._members.get(member.id) is member:
            del self._members[member.id]
            if self._presence:
                self._deliver(_presence("left", member))
            self._note_empty()

    def _note_empty(self) -> None:
        if not self._members and self._when_empty is not None:
            self._when_empty(self)

    def broadcast(
        self,
        message: Any,
        *,
        exclude: "Member | Iterable[Member] | None" = None,
        key: str | None = None,
        keep: bool = True,
    ) -> None:
        """Send something to all members: what has a JSON form, a text as it is, or bytes.

        In a thread of its own it blocks until the loop has taken it.

        Args:
            exclude: who does not get it: one member, several, or nobody.
            key: where a member, or the history, has an unread message with the same key, this one replaces it.
            keep: it is history for those who join later.
        Raises:
            NotEncodable: it has no form on the wire.
            DefinitionError: who is excluded is no member.
        """
        excluded = (exclude,) if isinstance(exclude, Member) else _members(exclude or ())
        self._on_loop(partial(self._say, Said(message, key), excluded, keep))

    def _say(self, said: Said, excluded: "Collection[Member]", keep: bool) -> None:
        if keep and self._most_kept:
            self._history.add(said)
            while self._history.is_over:
                self._history.take()
        self._deliver(said, excluded)
        self._note_empty()

    def _deliver(self, said: Said, excluded: "Collection[Member]" = ()) -> None:
        """Give a message to each member; who cannot take it any more has left before the others hear of that."""
        news = deque([(said, excluded)])
        while news:
            said, excluded = news.popleft()
            lost = [member for member in self._members.values() if member not in excluded and not member._put(said)]
            for member in lost:
                del self._members[member.id]
                member.close(1013, "the messages were not read in time")
                if self._presence:
                    news.append((_presence("left", member), ()))

    def _on_loop(self, act: Callable[[], None]) -> None:
        """Do something on the loop: now where this is it; in another thread wait for it."""
        try:
            running = asyncio.get_running_loop()
        except RuntimeError:  # a thread without one
            running = None
        if running is not None and (running is self._loop or not self._members):
            self._belong_to(running)
            act()
        elif not self._do_early(act):
            assert self._loop is not None
            acted: Future[None] = Future()
            with suppress(RuntimeError):  # the loop is closed, and nobody is there any more
                self._loop.call_soon_threadsafe(_act_for, acted, act)
                if running is None:
                    acted.result(timeout=_LOOP_S)

    def _do_early(self, act: Callable[[], None]) -> bool:
        """Do something where nobody has been there yet; returns whether that is so."""
        with self._lock:
            if self._loop is None:
                act()
                return True
        return False

    def _belong_to(self, loop: asyncio.AbstractEventLoop) -> None:
        if self._loop is not loop:
            with self._lock:
                self._loop = loop

    async def _read(self, message: Message) -> Any:
        """Return what a member says.

        Raises:
            ValueError, StreamAppError: it is not what the room takes.
        """
        content: str | bytes = message["text"] if message.get("bytes") is None else message["bytes"]
        if self._takes in (str, bytes):
            if not isinstance(content, self._takes):
                raise InvalidInput(f"Expected a {'text' if self._takes is str else 'binary'} message")
            return content
        if isinstance(content, bytes) and self._takes is Any:
            return content
        data = content.encode() if isinstance(content, str) else content
        return await read_json(data, self._adapter.validate_json)


class Member:
    """One socket in a room; go through it by `async for` for what its client says.

    What is no JSON, or not what the room takes, is answered with `{"type": "error", "error": ...}`, and left out.

    Attributes:
        id: nobody else's in the room.
        about: what the others are told of it.
        socket: sends what is to be waited for; that may overtake what is broadcast.
    """

    def __init__(
        self, room: Room, session: RawSession, socket: WebSocket, *, id: str, about: Mapping[str, Any]
    ) -> None:
        self.id, self.about, self.socket = id, about, socket
        self._room = room
        self._session = session
        self._wire = session.wire
        self._unread = Backlog(*room._outbox)
        self._skipped = 0
        self._rate = None if room._rate is None else Rate(room._rate)
        self._is_too_fast = self._is_leaving = False
        self._news: asyncio.Future[None] | None = None
        self._caught_up: asyncio.Future[None] | None = None
        self._writer: asyncio.Task[None] | None = None
        if self._wire is None:
            self._writer = asyncio.create_task(self._write())
        else:
            session.writers.append(self._flush)

    def __repr__(self) -> str:
        return f"<Member {self.id}>"

    @property
    def description(self) -> dict[str, Any]:
        """Return what the others are told of it."""
        return {**self.about, "id": self.id}

    def send(self, message: Any, *, key: str | None = None) -> None:
        """Send something to this member alone, in order with what is broadcast, and as `Room.broadcast` does it."""
        self._room._on_loop(partial(self._deliver, Said(message, key)))

    def _deliver(self, said: Said) -> None:
        if not self._put(said):
            self.close(1013, "the messages were not read in time")

    def close(self, code: int = 1000, reason: str = "") -> None:
        """Close the member's socket: going through it ends, as if the client had left. Again is without effect."""
        self._session.end(code, reason)

    def __aiter__(self) -> "Member":
        return self

    async def __anext__(self) -> Any:
        """Return what the client says next."""
        while self.socket.client_state is WebSocketState.CONNECTED:
            if self._unread and self._room._evicts:
                await self._catch_up()
            message = await self.socket.receive()
            if message["type"] == "websocket.receive" and self._is_allowed(message):
                try:
                    return await self._room._read(message)
                except ValidationError as error:
                    self._refuse(invalid_input(RequestValidationError(error.errors(include_url=False))))
                except StreamAppError as error:
                    self._refuse(error)
        raise StopAsyncIteration

    async def _catch_up(self) -> None:
        """Wait for the client to take what it was sent, a while: what it says itself shall not make it leave."""
        caught_up = self._caught_up = asyncio.get_running_loop().create_future()
        await self._session.unless_over(lambda: asyncio.wait({caught_up}, timeout=_BEHIND_S))

    def _is_allowed(self, message: Message) -> bool:
        room = self._room
        if room._max_bytes is not None and size_of(message) > room._max_bytes:
            self.close(1009, f"a message is larger than {room._max_bytes} bytes")
            return False
        was_too_fast, self._is_too_fast = self._is_too_fast, self._rate is not None and not self._rate.allows()
        if self._is_too_fast and room._closes:
            self.close(1008, f"more than {room._rate:g} messages a second")
        elif self._is_too_fast and not was_too_fast:
            self._refuse(QueueFull(f"more than {room._rate:g} messages a second; those that are too many are left out"))
        return not self._is_too_fast

    def _refuse(self, error: StreamAppError) -> None:
        self.send({"type": "error", **describe(error).body})

    def _put(self, said: Said) -> bool:
        """Write a message, or keep it until the client has taken others; False when the member has to leave."""
        if self._is_leaving:
            return True  # it has left already
        wire = self._wire
        if self._session.is_over or (wire is not None and not wire.is_open):
            return False
        if wire is not None and not self._unread and not wire.is_paused:
            wire.send_frame(said.frame)
            return True
        self._unread.add(said)
        _tell(self._news)
        if self._room._evicts:
            return not self._unread.is_over
        while self._unread.is_over:
            self._unread.take()
            self._skipped += 1
        return True

    def _next(self) -> Said:
        """Return what is to be written next."""
        if self._skipped:
            skipped, self._skipped = self._skipped, 0
            return Said({"type": "lagged", "skipped": skipped})
        return self._unread.take()

    def _flush(self) -> None:
        """Write what the client takes now."""
        wire = self._wire
        assert wire is not None
        while self._unread and (self._is_leaving or not wire.is_paused):
            wire.send_frame(self._next().frame)
        if not self._unread:
            _tell(self._caught_up)

    async def _write(self) -> None:
        """Write what there is, where the server lends no wire: in a task, as each message may have to wait."""
        with suppress(WebSocketDisconnect):
            while self._unread or not self._is_leaving:
                if self._unread:
                    await self._session.send(self._next().asgi)
                else:
                    _tell(self._caught_up)
                    self._news = asyncio.get_running_loop().create_future()
                    await self._news

    async def _write_rest(self) -> None:
        """Write what is left, when the code that had the socket has returned."""
        self._is_leaving = True
        _tell(self._news)
        if self._session.is_over:
            return
        if (writer := self._writer) is None:
            self._flush()  # to the wire, which keeps it before the close
        else:
            await self._session.unless_over(lambda: asyncio.wait({writer}, timeout=_LAST_S))

    def _stop(self) -> None:
        self._is_leaving = True
        if self._writer is not None:
            self._writer.cancel()
        else:
            self._session.writers.remove(self._flush)


class Rooms:
    """Make rooms by name, `rooms["lobby"]`: each once, and again when the last who had it has left.

    What was said in one outlasts its last member by `keep_s`, so that it is still there for one that reloads its page.
    Of names that anybody makes up little is kept: 1,000 rooms and 16 MiB in all, those that were left last. Any thread
    may ask.

    Args:
        keep_s: how long a room without members keeps its history, from when the last has left, or something was said.
        options: those of each `Room`.
    Raises:
        DefinitionError: one of them is none.
    """

    def __init__(self, *, keep_s: float = 60.0, **options: Any) -> None:
        if keep_s < 0:
            raise DefinitionError(f"Rooms(keep_s={keep_s!r}): expected seconds, 0 or more")
        self._make = partial(Room, **options)
        self._make()
        self._keep_s = keep_s
        self._lock = threading.Lock()
        self._rooms: WeakValueDictionary[str, Room] = WeakValueDictionary()
        self._kept: OrderedDict[str, _Kept] = OrderedDict()
        self._kept_bytes = 0

    def __getitem__(self, name: str) -> Room:
        """Return the room of a name."""
        with self._lock:  # two threads that ask at once get the same
            self._forget_old()
            room = self._rooms.get(name)
            if room is None:
                room = self._rooms[name] = self._make()
                room._when_empty = partial(self._keep, name)
            return room

    def __len__(self) -> int:
        """Return how many there are, with those that are kept."""
        return len(self._names())

    def __iter__(self) -> Iterator[str]:
        """Iterate over their names."""
        return iter(self._names())

    def __contains__(self, name: object) -> bool:
        """Say whether there is one of a name; to ask makes none."""
        return name in self._names()

    def _names(self) -> list[str]:
        with self._lock:
            self._forget_old()
            return list(self._rooms)

    def _keep(self, name: str, room: Room) -> None:
        """Hold a room, in any thread, that has no members now."""
        kept = _Kept(room, room._history.size, time.monotonic() + self._keep_s)
        with self._lock:
            self._forget(name)
            if kept.size:
                self._kept[name] = kept
                self._kept_bytes += kept.size
            self._forget_old()

    def _forget(self, name: str) -> None:
        if (kept := self._kept.pop(name, None)) is not None:
            self._kept_bytes -= kept.size

    def _forget_old(self) -> None:
        now = time.monotonic()
        while self._kept:
            name, oldest = next(iter(self._kept.items()))
            if oldest.until > now and len(self._kept) <= _MOST_KEPT and self._kept_bytes <= _MOST_KEPT_BYTES:
                return
            self._forget(name)


class _Kept(NamedTuple):
    """A room without members, or which had none: what its history took then, and until when it is kept."""

    room: Room
    size: int
    until: float


def _members(excluded: "Iterable[Member]") -> "tuple[Member, ...]":
    members = tuple(excluded)
    if not all(isinstance(each, Member) for each in members):
        raise DefinitionError(
            f"Room.broadcast(exclude=...): expected a member, as join gives it, or several, got {excluded!r}"
        )
    return members


def _presence(kind: Literal["joined", "left"], member: Member) -> Said:
    return Said({"type": kind, "member": member.description})


def _tell(waiting: asyncio.Future[None] | None) -> None:
    if waiting is not None and not waiting.done():
        waiting.set_result(None)


def _act_for(waiting: "Future[None]", act: Callable[[], None]) -> None:
    try:
        act()
    finally:
        waiting.set_result(None)


def _check_choice(name: str, got: Any, choices: Collection[str]) -> None:
    if got not in choices:
        raise DefinitionError(f"Room({name}={got!r}): expected {' or '.join(map(repr, choices))}")


def _check_positive(**options: float | None) -> None:
    for name, got in options.items():
        if got is not None and got <= 0:
            raise DefinitionError(f"Room({name}={got!r}): expected more than 0")
