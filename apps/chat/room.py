"""Hold a room: who is there, what was said, and the answer that is being given.

What the model answers is asked for one answer at a time: what is said to it meanwhile is for the next one. An answer
goes to the members piece by piece, numbered; who comes in its midst gets the text so far, and then the pieces behind
it. All of it happens on the loop, and no step waits for a member.

A member says, in JSON, one of

    {"type": "user_message", "message": "Hello!"}
    {"type": "typing", "typing": true}
    {"type": "cancel", "id": "..."}                    without the id whatever answer is being given
    {"type": "ping"}

and hears, by `type`,

    system               first: you, members, model, history, of which the last may be an answer so far, session_id
    joined, left         member: {"id", "name"}
    user_message         id, author, content
    user_typing          id of the person, typing
    ai_typing            id of the answer that begins or ends, typing
    ai_message_partial   id, token, the next piece, seq, which one it is
    ai_message_complete  id, content, state: "whole", "stopped", or "failed" with an error
    pong                 timestamp
    error                the error shape of streamapp; a bad message ends nothing

Of the query `key` is 32 to 64 letters and digits that nobody else knows, and makes the id: who comes back with it is
the same person. `after` is the last message that it has whole, with all before; if the room still knows it
(`is_resumed`) the history begins behind it. In a conversation of Chutes' guide each `ai_message_partial` has all of the
text so far, too, as `content`, and the query `session_id` goes on with it.
"""

import asyncio
import hashlib
import logging
import re
import time
from collections import deque
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from secrets import token_hex
from typing import Annotated, Any, Literal, NamedTuple

from fastapi import WebSocket
from pydantic import BaseModel, Field, StringConstraints

import streamapp
from streamapp.errors import StreamAppError, describe

from .model import Turn

logger = logging.getLogger("streamapp.chat")

MODEL_NAME = "Eliza"
MOST_SAID = 2000  # characters of a message, so that a history is small
_MOST_KEPT = 100  # messages
_MOST_GIVEN = 40  # messages, to the model
_MOST_ANSWERED = 8000  # characters
_LINGER_S = 10.0  # an answer goes on for so long when all have left: one may only reload its page

Ask = Callable[[Sequence[Turn]], AsyncGenerator[str]]
Answers = Literal["mentions", "always"]


class UserMessage(BaseModel):
    """Say something to the room."""

    type: Literal["user_message"]
    message: Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=MOST_SAID)]


class Typing(BaseModel):
    """Tell the others that one writes, or does so no more."""

    type: Literal["typing"]
    typing: bool = False


class Cancel(BaseModel):
    """Stop the answer; where its id is said, no other one, which has begun meanwhile."""

    type: Literal["cancel"]
    id: str | None = None


class Ping(BaseModel):
    """Ask for a `pong`."""

    type: Literal["ping"]


Saying = Annotated[UserMessage | Typing | Cancel | Ping, Field(discriminator="type")]


class Person(NamedTuple):
    """Name one of those who talk."""

    id: str
    name: str


@dataclass
class Message:
    """Hold what was said; of an answer, the pieces that have come."""

    id: str
    role: Literal["user", "assistant"]
    author: Person
    pieces: list[str] = field(default_factory=list)
    state: Literal["whole", "coming", "stopped", "failed"] = "whole"
    error: str | None = None

    @property
    def content(self) -> str:
        """Return the text so far."""
        return "".join(self.pieces)

    @property
    def told(self) -> dict[str, Any]:
        """Return it as members hear it."""
        told = {"id": self.id, "role": self.role, "author": self.author._asdict(), "content": self.content}
        return {**told, "seq": len(self.pieces), "state": self.state, "error": self.error}


class ChatRoom:
    """One room.

    Args:
        ask: gets the history, gives the answer in pieces; closed when nobody wants the rest.
        answers: when the model answers in a room of several: where it is mentioned, or always.
        repeats: each piece of an answer comes with all before it, as the clients of Chutes' guide want it.
    """

    def __init__(self, name: str, ask: Ask, *, answers: Answers = "mentions", repeats: bool = False) -> None:
        self.name = name
        self._ask = ask
        self._answers = answers
        self._repeats = repeats
        self._began = token_hex(4)
        self._count = 0
        self._messages: deque[Message] = deque(maxlen=_MOST_KEPT)
        self._people: dict[str, tuple[Person, int]] = {}
        self._members = streamapp.Room(
            history=0,
            outbox=1024,
            presence=False,
            takes=Saying,
            max_messages_per_s=10,
            when_too_fast="drop",
            max_message_bytes=256 * 1024,
        )
        self._is_asked = False
        self._coming = ""
        self._answering: asyncio.Task[None] | None = None
        self._leaving: asyncio.TimerHandle | None = None

    @property
    def is_empty(self) -> bool:
        """Say whether nobody is there."""
        return not self._people

    @property
    def is_blank(self) -> bool:
        """Say whether nobody is there, and nothing was said."""
        return self.is_empty and not self._messages

    async def serve(self, socket: WebSocket, *, key: str, name: str, after: str = "") -> None:
        """Have somebody in the room until it leaves; with a socket that was accepted it is there at once.

        Args:
            key: what nobody else knows, and makes the person's id: who comes back with it is the same.
            after: the last message that the client has whole, with all before it.
        """
        person = Person(hashlib.sha256(f"{self.name} {key}".encode()).hexdigest()[:16], name)
        async with self._members.join(socket) as member:
            self._enter(person, member)
            try:
                member.send(self._welcome(person, key, after))
                async for said in member:
                    self._hear(person, member, said)
            finally:
                self._leave(person)

    def _enter(self, person: Person, member: streamapp.Member) -> None:
        if self._leaving is not None:
            self._leaving.cancel()
        before, sockets = self._people.get(person.id, (None, 0))
        self._people[person.id] = person, sockets + 1
        if person != before:
            self._members.broadcast({"type": "joined", "member": person._asdict()}, exclude=member)

    def _leave(self, person: Person) -> None:
        now, sockets = self._people.pop(person.id)
        if sockets > 1:
            self._people[person.id] = now, sockets - 1
            return
        self._members.broadcast({"type": "left", "member": now._asdict()})
        if self.is_empty:
            self._leaving = asyncio.get_running_loop().call_later(_LINGER_S, self._abandon)

    def _welcome(self, person: Person, key: str, after: str) -> dict[str, Any]:
        has, first = self._number(after), self._count - len(self._messages) + 1
        return {
            "type": "system",
            "message": f"Connected to chat session {key}",
            "session_id": key,
            "you": person._asdict(),
            "model": {"name": MODEL_NAME, "answers": self._answers},
            "members": [each._asdict() for each, _ in self._people.values()],
            "history": [message.told for message in self._messages if self._number(message.id) > has],
            "is_resumed": 0 < has and first <= has + 1,
        }

    def _number(self, id: str) -> int:
        """Return the place of a message, 0 of one that is none of this room's."""
        began, _, number = id.partition("-")
        return int(number) if began == self._began and number.isdecimal() and len(number) < 16 else 0

    def _hear(self, person: Person, member: streamapp.Member, said: Any) -> None:
        match said:
            case UserMessage():
                message = self._add("user", person, said.message)
                self._members.broadcast({"type": "user_message", **message.told})
                if self._calls_the_model(said.message):
                    self._is_asked = True
                    self._answer_next()
            case Typing():
                told = {"type": "user_typing", "id": person.id, "typing": said.typing}
                self._members.broadcast(told, exclude=member, key=f"typing {person.id}")
            case Cancel(id=id) if id in (None, self._coming):
                self._stop()
            case Ping():
                member.send({"type": "pong", "timestamp": time.time()})

    def _add(self, role: Literal["user", "assistant"], author: Person, *pieces: str) -> Message:
        self._count += 1
        message = Message(f"{self._began}-{self._count}", role, author, [*pieces])
        self._messages.append(message)
        return message

    def _calls_the_model(self, text: str) -> bool:
        is_called = re.search(rf"(?<!\w)@{MODEL_NAME}\b", text, re.IGNORECASE) is not None
        return is_called or len(self._people) == 1 or self._answers == "always"

    # The answer.

    def _answer_next(self) -> None:
        """Begin an answer where one is asked for, and none is being given."""
        if self._answering is not None or not self._is_asked:
            return
        self._is_asked = False
        said = [*self._messages][-_MOST_GIVEN:]
        turns = [Turn(role=each.role, name=_name_in(each), content=each.content[:4000]) for each in said]
        message = self._add("assistant", Person("", MODEL_NAME))
        message.state, self._coming = "coming", message.id
        self._members.broadcast({"type": "ai_typing", "typing": True, "id": message.id})
        self._answering = asyncio.create_task(self._answer(message, turns))
        self._answering.add_done_callback(lambda task: self._end(message, task))

    async def _answer(self, message: Message, turns: Sequence[Turn]) -> None:
        async with aclosing(self._ask(turns)) as pieces:
            left = _MOST_ANSWERED
            async for piece in pieces:
                message.pieces.append(piece[:left])
                self._tell_piece(message)
                left -= len(piece)
                if left <= 0:
                    break

    def _tell_piece(self, message: Message) -> None:
        told = {"type": "ai_message_partial", "id": message.id, "seq": len(message.pieces), "token": message.pieces[-1]}
        if self._repeats:
            self._members.broadcast({**told, "content": message.content}, key="partial")
        else:
            self._members.broadcast(told)

    def _end(self, message: Message, answering: "asyncio.Task[None]") -> None:
        if answering.cancelled():
            message.state = "stopped"
        elif (error := answering.exception()) is not None:
            message.state, message.error = "failed", describe(error, where="the answer").message
            if not isinstance(error, StreamAppError):
                logger.error("an answer in a room failed", exc_info=error)
        else:
            message.state = "whole"
        self._members.broadcast({"type": "ai_typing", "typing": False, "id": message.id})
        self._members.broadcast({"type": "ai_message_complete", **message.told})
        message.pieces[:] = [message.content]
        self._answering = None
        self._answer_next()

    def _abandon(self) -> None:
        self._is_asked = False
        self._stop()

    def _stop(self) -> None:
        if self._answering is not None:
            self._answering.cancel()


def _name_in(message: Message) -> str:
    return message.author.name if message.role == "user" else ""
