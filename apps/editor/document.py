"""Hold the documents that are open: of each the text, the people in it, and the journal that is written of it.

All of a document is the event loop's. An edit is told to the others at once, and written within a moment. What is lost
between, as the process was killed, the clients that have it send again: whoever connects is asked for what is not known
here.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import TypeVar

from streamapp import Member, Room
from streamapp.errors import InvalidInput, PayloadTooLarge, StorageFull

from .journal import Journal
from .plain import Cursor, Delete, Insert, Said
from .presence import Presence
from .store import Edit, Store
from .text import Change, SharedText, Unsound
from .updates import Place, Update, read_update, taken_apart
from .wire import Kind, Step, read_message, read_state, sync

MOST_DOCUMENTS = 1000
MOST_BYTES = 2 * 2**20  # of a document, with its history
_LARGE = 16 * 2**10  # what takes the loop too long to read
_PRESENCE_S = 0.05  # all news of that time are told at once
_RATE = 200  # messages a second
Read = TypeVar("Read")


class Document:
    """Hold one document.

    Attributes:
        people: who is there, and where, of those in `room`.
        room: who has it open in Yjs.
        plain: who has it open by `plain`.
    """

    def __init__(self, name: str, store: Store, reading: asyncio.Lock, text: SharedText, edits: list[Edit]) -> None:
        self.people = Presence()
        self.room = Room(history=0, presence=False, takes=bytes, max_messages_per_s=_RATE)
        self.plain = Room(history=0, presence=False, takes=Said, max_messages_per_s=_RATE)
        self._name, self._store, self._reading = name, store, reading
        self._text = text
        self._bytes = sum(len(edit.content) for edit in edits)
        version = edits[-1].version if edits else 0
        self.journal = Journal(name, store, version, whole=self._whole, on_lost=self._lose)
        self._behind: set[Member] = set()
        self._turn = asyncio.Lock()
        self._telling: asyncio.TimerHandle | None = None

    def __str__(self) -> str:
        return str(self._text)

    async def serve(self, member: Member) -> None:
        """Speak with a member of `room` until it leaves."""
        member.send(sync(Step.STATE, self._text.state))
        member.send(self.people.all())
        try:
            async for message in member:
                await self._hear(member, message)
        finally:
            if self.people.leave(member):
                self._tell_presence_soon()

    async def _hear(self, member: Member, message: bytes) -> None:
        if len(message) > 2 * MOST_BYTES:  # not the room's: at its code 1009 clients of Yjs send the same again
            raise _too_large()
        kind, step, content = read_message(message)
        if kind is Kind.ASK_AWARENESS:
            member.send(self.people.all())
        elif kind is Kind.AWARENESS:
            if self.people.say(member, content):
                self._tell_presence_soon()
        elif step is Step.STATE:
            await self._read(read_state, content)
            async with self._turn:
                member.send(sync(Step.MISSING, self._text.since(content)))
        else:
            await self._merge(member, step, content)

    def _tell_presence_soon(self) -> None:
        if self._telling is None:
            self._telling = asyncio.get_running_loop().call_later(_PRESENCE_S, self._tell_presence)

    def _tell_presence(self) -> None:
        self._telling = None
        self.people.tell(self.room)

    async def _merge(self, member: Member, step: Step, content: bytes) -> None:
        """Take in an update; where it needs edits that are not there, ask for them."""
        update = await self._read(read_update, content)
        async with self._turn:
            if self._text.lacks_for(update):
                if step is Step.MISSING:
                    raise InvalidInput("Expected all edits that are missing here, got some that need others")
                member.send(sync(Step.STATE, self._text.state))
                return
            if update.brings:
                self._make_room(len(content))
            if places := self._text.splits(update):
                await self._part(places, content, member)
                return
            try:
                change = self._text.merge(update, content, says_places=bool(self.plain.members))
            except Unsound:
                await self._read_again()
                raise
            self._tell(change, member)

    async def _read(self, read: Callable[[bytes], Read], data: bytes) -> Read:
        """Read what a client has sent; much of it beside the loop, one after the other: threads are for all."""
        if len(data) <= _LARGE:
            return read(data)
        async with self._reading:
            return await asyncio.to_thread(read, data)

    async def _part(self, places: set[Place], content: bytes, member: Member) -> None:
        """Take in an update that comes between halves of characters: in a copy of the text that has the halves."""
        whole = self._whole()
        text, update, content = await asyncio.to_thread(_parted, whole, places, content)
        change = text.merge(update, content)
        if change is not None:
            self._text = text
            self.journal.begin_anew()
            self._tell(change, member)
            self.plain.broadcast(self._state())

    async def serve_plain(self, member: Member) -> None:
        """Speak with a member of `plain` until it leaves."""
        own = {"session_id": member.id}
        member.send(self._state())
        self.plain.broadcast({"type": "user_joined", **own}, exclude=member)
        try:
            async for said in member:
                if isinstance(said, Cursor):
                    cursor = {"type": "cursor_update", **own, "position": said.position}
                    self.plain.broadcast(cursor, exclude=member, key=member.id)
                else:
                    await self._replace(member, said.operation)
        finally:
            self._behind.discard(member)
            self.plain.broadcast({"type": "user_left", **own}, exclude=member)

    def _state(self) -> dict[str, object]:
        return {"type": "document_state", "doc_id": self._name, "content": str(self), "version": self.journal.version}

    async def _replace(self, author: Member, operation: Insert | Delete) -> None:
        """Make an edit where its author says, and answer when it is on the disk.

        An author says no version. Once others' edits were sent to it, what it says next may be older than these: it is
        answered with the text, and has that of all others whatever it had made of it.
        """
        try:
            async with self._turn:
                if operation.text:
                    self._make_room(len(operation.text.encode()))
                self._tell(self._text.replace(operation.start, operation.end, operation.text), author)
            await self.journal.written()
        except (InvalidInput, PayloadTooLarge) as error:
            author.send({"type": "error", "error": str(error)})
            self._behind.add(author)
        if author in self._behind:
            author.send(self._state(), key="state")
        else:
            author.send({"type": "ack", "version": self.journal.version})

    def _tell(self, change: Change | None, author: Member) -> None:
        """Write a change down, and tell the others."""
        if change is None:
            return
        self.journal.append(change.update)
        self._bytes += len(change.update)
        self.room.broadcast(sync(Step.UPDATE, change.update), exclude=author, keep=False)
        self._behind.update(member for member in self.plain.members if member is not author)
        told = {"type": "operation", "version": self.journal.version, "author": author.id}
        for operation in change.places:
            self.plain.broadcast({**told, "operation": operation}, exclude=author, keep=False)

    def _make_room(self, size: int) -> None:
        """See that a document that grows by so many bytes is not too large.

        Raises:
            PayloadTooLarge: it would be.
        """
        if self._bytes + size > MOST_BYTES:
            self._bytes = len(self._whole())
        if self._bytes + size > MOST_BYTES:
            raise _too_large()

    def _whole(self) -> bytes:
        return self._text.since()

    async def _read_again(self) -> None:
        await self.journal.written()
        self._text, _ = await asyncio.to_thread(_load, self._store, self._name)

    def _lose(self) -> None:
        for member in self.room.members + self.plain.members:
            member.close(1011, "the edits could not be written")


def _load(store: Store, name: str) -> tuple[SharedText, list[Edit]]:
    """Read a document, in a thread: a large one takes a while to make."""
    edits = store.load(name)
    return SharedText(edit.content for edit in edits), edits


def _too_large() -> PayloadTooLarge:
    return PayloadTooLarge(f"A document has at most {MOST_BYTES} bytes, with its history; begin another")


def _parted(whole: bytes, places: set[Place], content: bytes) -> tuple[SharedText, Update, bytes]:
    content = taken_apart(content, places)
    return SharedText([taken_apart(whole, places)]), read_update(content), content


class _Opened:
    """A document that is open, or being read, and how many have it."""

    def __init__(self, document: "asyncio.Task[Document]") -> None:
        self.document, self.users = document, 0

    @property
    def is_lost(self) -> bool:
        """Say whether nobody else may have it, as it could not be read or written."""
        document = self.document
        return document.done() and (document.exception() is not None or document.result().journal.is_lost)


class Documents:
    """Open documents by name: each once, and no longer than somebody has it."""

    def __init__(self, store: Store) -> None:
        self._store, self._reading = store, asyncio.Lock()
        self._opened: dict[str, _Opened] = {}
        self._freeing: set[asyncio.Task[None]] = set()

    def __len__(self) -> int:
        return len(self._opened)

    @asynccontextmanager
    async def open(self, name: str) -> AsyncIterator[Document]:
        """Have a document for the length of an `async with`.

        Raises:
            StorageFull: it is not there, and there are too many.
        """
        opened = self._opened.get(name)
        if opened is None or opened.is_lost:
            opened = self._opened[name] = _Opened(asyncio.create_task(self._read(name)))
        opened.users += 1
        try:
            yield await asyncio.shield(opened.document)
        finally:
            opened.users -= 1
            if not opened.users:  # in a task of its own: this one may be cancelled, and is not to be kept from its end
                freeing = asyncio.create_task(self._free(name, opened))
                self._freeing.add(freeing)
                freeing.add_done_callback(self._freeing.discard)

    async def _read(self, name: str) -> Document:
        if name not in self._store.names and len(self._store.names) >= MOST_DOCUMENTS:
            raise StorageFull(f"There are {MOST_DOCUMENTS} documents, and no room for another")
        return Document(name, self._store, self._reading, *await asyncio.to_thread(_load, self._store, name))

    async def _free(self, name: str, opened: _Opened) -> None:
        if opened.document.done() and not opened.is_lost:
            await opened.document.result().journal.close()
        if not opened.users and self._opened.get(name) is opened:
            del self._opened[name]

    async def close(self) -> None:
        """Wait until what nobody has open any more is written."""
        while self._freeing:
            await asyncio.wait(self._freeing)
