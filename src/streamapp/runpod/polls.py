"""Answer a poll of a job's stream: all that is new, as soon as there is something, and the end when all was taken.

Who polls has one position in the job's log, which moves when the answer has been written to the client: one that hung
up before gets the same again. Of several who poll at once each item comes to one. With `?cursor=` the position is the
client's own, and nothing moves.

What Runpod's clients need: a final state comes with an empty `stream` only, since some of them do not look at the items
beside it; each item has an `output`; no answer takes longer than the ten seconds that their requests may.

Divergence: CANCELLED and TIMED_OUT are told once, and from then on FAILED: `runpod`'s own loop for Python does not end
at the first, and that of Runpod's tutorial at neither. An item that is a preview, or has a name of the app's own, says
so under `event`.
"""

import asyncio
import json
import re
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple
from weakref import WeakKeyDictionary

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from ..errors import MalformedRequest
from ..http.connection import Connection
from ..jobs.events import ATTEMPT, Event
from ..jobs.job import Job
from ..settings import Settings
from .answers import failure_of, state_of

if TYPE_CHECKING:
    from ..jobs.subscriber import Subscriber

#: items in one answer; what is beyond comes with the next
_MOST_BYTES = 10 * 1024 * 1024
_ITEMS = ("output", "preview")
_TOLD_ONCE = ("CANCELLED", "TIMED_OUT")
_CURSOR = re.compile(r"([0-9]{1,9})\.([0-9]{1,18})")
_HEADERS = [(b"content-type", b"application/json"), (b"cache-control", b"no-store")]


class Position:
    """Hold how far a job's stream has been polled.

    Attributes:
        n: the place in the log of what was taken last.
        turn: held by the poll that is being answered.
        tells_end: nobody has been told yet how the job has ended.
    """

    __slots__ = ("n", "tells_end", "turn")

    def __init__(self, n: int = 0) -> None:
        self.n = n
        self.turn = asyncio.Lock()
        self.tells_end = True


class Positions:
    """Know the position of each job that is polled, as long as the job is kept."""

    def __init__(self) -> None:
        self._of: WeakKeyDictionary[Job, Position] = WeakKeyDictionary()

    def of(self, job: Job) -> Position:
        """Return the position that all who poll a job share."""
        return self._of.setdefault(job, Position())


class _Page(NamedTuple):
    """Hold what one answer has of a stream."""

    items: Sequence[Event]
    n: int
    skipped: int = 0
    is_last: bool = False


class PollResponse(Response):
    """Answer with what is new in a job's stream.

    Args:
        cursor: the client's own position; the one that all share when None.
        wait_s: how long to wait for something new.
    """

    def __init__(self, job: Job, settings: Settings, positions: Positions, *, cursor: str | None, wait_s: float):
        self.job = job
        self.status_code = 200
        self.background = None
        self._settings = settings
        self._is_own = cursor is not None
        self._position = positions.of(job) if cursor is None else Position(_place(job, cursor))
        self._wait_s = wait_s
        self._reader: Subscriber | None = None
        self._patience: asyncio.Timeout | None = None
        self.raw_headers = [*_HEADERS, (b"x-streamapp-job-id", job.id.encode())]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Wait for news, and send them."""
        until = time.monotonic() + self._wait_s
        connection = Connection(
            scope, receive, send, send_timeout_s=self._settings.send_timeout_s, on_disconnect=self._leave
        )
        try:
            await self._poll(connection, until)
        except OSError:  # the client does not read (TimeoutError), or has left (what servers of ASGI 2.4 raise)
            await connection.abort()
        finally:
            connection.listener.cancel()

    async def _poll(self, connection: Connection, until: float) -> None:
        position = self._position
        if not await self._has_turn(until):  # who polls as well gets what is new
            if not connection.listener.done():
                await self._send(connection, _Page((), position.n))
            return
        try:
            if not connection.listener.done():
                page = await self._page(position.n, until)
            if not connection.listener.done():
                await self._send(connection, page)
        finally:
            position.turn.release()

    async def _has_turn(self, until: float) -> bool:
        """Wait for a turn; False when the time is over, or the client has left."""
        try:
            async with asyncio.timeout(max(0, until - time.monotonic())) as self._patience:
                await self._position.turn.acquire()
        except TimeoutError:
            return False
        finally:
            self._patience = None
        return True

    def _leave(self) -> None:
        if self._reader is not None:
            self._reader.close()
        elif self._patience is not None and not self._patience.expired():
            self._patience.reschedule(0)

    async def _page(self, after: int, until: float) -> _Page:
        """Wait until there is an item, or the end, and return what there is."""
        job = self.job
        reader = self._reader = job.attach(after=after)
        skipped = 0
        try:
            while True:
                events = reader.take()
                skipped += sum(event.json()["skipped"] for event in events if event.kind == "lagged")
                # What a lost attempt has brought does not count any more.
                items = [event for event in events if event.kind in _ITEMS and event.n > job.attempt_began]
                if items:
                    taken = _within(items)
                    n = reader.n if len(taken) == len(items) else taken[-1].n
                    return _Page(taken, n, skipped)
                ending = job.channel.terminal
                if ending is not None and reader.n >= ending.n:
                    return _Page((), reader.n, skipped, is_last=True)
                left_s = until - time.monotonic()
                if left_s <= 0 or reader.is_closed:
                    return _Page((), reader.n, skipped)
                await reader.wait(left_s)
        finally:
            job.channel.events(after=reader.n, shows_previews=True)  # who polls counts as watching, until the next poll
            job.detach(reader)

    async def _send(self, connection: Connection, page: _Page) -> None:
        """Send an answer, and move behind it unless the client has left before it was written."""
        body = self._body(page)
        await connection.start(self.status_code, [*self.raw_headers, (b"content-length", b"%d" % len(body))])
        await connection.write(body)
        await asyncio.sleep(0)  # that a client has left is told by the loop
        if not connection.listener.done():
            self._position.n = page.n
            self._position.tells_end &= not page.is_last
        await connection.end(b"")

    def _body(self, page: _Page) -> bytes:
        told: dict[str, Any] = {"status": self._state(page)}
        if page.skipped:
            told["lagged"] = {"skipped": page.skipped}
        if self._is_own:
            told["cursor"] = f"{page.n // ATTEMPT + 1}.{page.n % ATTEMPT}"
        if page.is_last and told["status"] != "CANCELLED" and (error := failure_of(self.job)) is not None:
            told["error"] = error
        written = json.dumps(told, separators=(",", ":")).encode()
        return b'%b,"stream":[%b]}' % (written[:-1], b",".join(map(_item, page.items)))

    def _state(self, page: _Page) -> str:
        if not page.is_last:
            return "IN_QUEUE" if self.job.status == "queued" and not page.items else "IN_PROGRESS"
        state = state_of(self.job)
        is_told = not self._is_own and not self._position.tells_end
        return "FAILED" if is_told and state in _TOLD_ONCE else state


def _within(items: Sequence[Event]) -> Sequence[Event]:
    """Return as many as one answer may have, and one in any case."""
    size = 0
    for count, item in enumerate(items):
        size += len(item.data)
        if count and size > _MOST_BYTES:
            return items[:count]
    return items


def _item(event: Event) -> bytes:
    name = b"" if event.name == "output" else b',"event":"%b"' % event.name.encode()
    return b'{"output":%b%b}' % (event.data, name)


def _place(job: Job, cursor: str) -> int:
    """Return the place that a cursor names in a job's log; the beginning where it names none."""
    if cursor in ("", "0"):
        return 0
    match = _CURSOR.fullmatch(cursor)
    n = (int(match[1]) - 1) * ATTEMPT + int(match[2]) if match else -1
    if not 0 <= n <= job.channel.last_n:
        raise MalformedRequest(
            f'cursor: expected the "cursor" of an earlier answer about this job, or nothing to begin with, '
            f"got {cursor[:40]!r}"
        )
    return n
