"""Hold what a room says: a message, encoded once for all; what of it a member has still to take; how fast one may talk.

Pure values, used on the loop. What happens when there is too much of something is the room's.
"""

import time
from collections import OrderedDict
from collections.abc import Iterator
from functools import cached_property
from typing import Any

from starlette.types import Message as Asgi

from ..jobs.events import to_event
from ..text import whole
from .wire import Message


class Said:
    """Hold one message, encoded once for all who hear it."""

    def __init__(self, message: Any, key: str | None = None) -> None:
        if isinstance(message, bytes | bytearray | memoryview):
            self.message = Message(bytes(message), is_text=False)
        else:
            self.message = Message(whole(message).encode() if isinstance(message, str) else to_event(message).data)
        self.key = key

    @cached_property
    def frame(self) -> bytes:
        """Return it as a whole frame."""
        return self.message.frame

    @cached_property
    def asgi(self) -> Asgi:
        """Return it as ASGI has it."""
        return self.message.asgi

    @property
    def size(self) -> int:
        """Return its bytes."""
        return len(self.message.content)


class Backlog:
    """Hold messages in order, of those with one key the newest, and say when they are too many or too large.

    Attributes:
        size: the bytes of all.
    """

    def __init__(self, most: int, most_bytes: int) -> None:
        self._most, self._most_bytes = most, most_bytes
        self._said: OrderedDict[object, Said] = OrderedDict()
        self.size = 0

    def __len__(self) -> int:
        return len(self._said)

    def __iter__(self) -> Iterator[Said]:
        return iter(self._said.values())

    @property
    def is_over(self) -> bool:
        """Say whether there is more than there may be; one message may be larger than all bytes."""
        return len(self) > self._most or (self.size > self._most_bytes and len(self) > 1)

    def add(self, said: Said) -> None:
        """Put a message at the end, in the place of one with its key."""
        place: object = said if said.key is None else said.key
        before = self._said.pop(place, None)
        self.size += said.size - (0 if before is None else before.size)
        self._said[place] = said

    def take(self) -> Said:
        """Return the oldest, and forget it."""
        _, said = self._said.popitem(last=False)
        self.size -= said.size
        return said


class Rate:
    """Say whether one more message is within so many a second; a second's worth may come at once."""

    def __init__(self, per_s: float) -> None:
        self._per_s = per_s
        self._most = max(1.0, per_s)
        self._left, self._at = self._most, time.monotonic()

    def allows(self) -> bool:
        """Count a message."""
        now = time.monotonic()
        self._left = min(self._most, self._left + (now - self._at) * self._per_s)
        self._at = now
        if self._left < 1:
            return False
        self._left -= 1
        return True
