"""Answer for a job as OpenAI does: with a stream of its chunks, or one document.

A stream goes by `EventStreamResponse`: slow readers, those who leave, and the drain are as for any other. What fails
before its first event is an HTTP error; later a chunk says so, and the connection breaks off, without `[DONE]`.

Divergence: what is written has no ids, and cannot be resumed: its clients never do. The job's own events can be.
"""

from collections.abc import Callable
from contextlib import suppress
from typing import Any

from starlette.responses import Response

from ..errors import StreamAppError, describe
from ..http.connection import Connection
from ..http.response import ErrorResponse, EventStreamResponse, ResultResponse
from ..jobs.events import ABOUT_STREAM, Event, terminal
from ..jobs.job import Job
from ..jobs.subscriber import Subscriber
from ..process.threads import in_encoder
from ..settings import Settings
from .asked import Asked
from .errors import block_of

_DONE = b"data: [DONE]\n\n"


def answer_for(job: Job, asked: Asked, settings: Settings) -> Response:
    """Return the answer to a request whose job this is."""
    if asked.answer is not None:
        return asked.answer(job, settings)
    return ToldStream(job, settings, asked) if asked.streams else ToldResult(job, settings, asked)


async def _told(asked: Asked, tell: Callable[..., Any], given: Any) -> Any:
    return await in_encoder(tell, given) if asked.encodes_media else tell(given)


class ToldStream(EventStreamResponse):
    """Stream what a job's events are told as."""

    def __init__(self, job: Job, settings: Settings, asked: Asked) -> None:
        super().__init__(job, settings, outlasts_app=True, shows_previews=asked.shows_previews())
        self._asked = asked
        self._begun: bytes | None = None  # what the first events are told as
        self._undelivered: tuple[int, bytes] = 0, b""  # how many of the next events are told already, and as what
        self.raw_headers.append((b"x-request-id", job.id.encode()))

    async def _hold(self, subscriber: Subscriber) -> list[Event]:
        """Return the first events; what cannot be told of them is a failure before the beginning."""
        events = await super()._hold(subscriber)
        try:
            self._begun = await self._body(events) if events else None
        except StreamAppError as error:
            return [terminal("error", describe(error))]
        return events

    async def _stream(self, connection: Connection, subscriber: Subscriber, events: list[Event]) -> None:
        await connection.start(self.status_code, self.raw_headers)
        self._connection = connection
        deliver = None if self._asked.encodes_media else self._deliver
        if opening := self._opening(events):
            await connection.write(opening)
        while not subscriber.is_closed:
            if events:
                if any(event.kind in ABOUT_STREAM for event in events):  # which has no place in this format
                    return await connection.abort()
                begun, self._begun = self._begun, None
                try:
                    body = await self._body(events) if begun is None else begun
                except StreamAppError as error:
                    await connection.write(block_of(describe(error)))
                    return await connection.fail()
                if events[-1].kind == "done":
                    return await connection.end(body)
                if body:
                    await connection.write(body)
                if events[-1].is_terminal:
                    return await connection.fail()
                events.clear()
                subscriber.shows_previews = self._asked.shows_previews()
            if subscriber.is_dropped:
                return await connection.abort()
            if not await subscriber.wait(self._settings.heartbeat_s, deliver):
                await connection.write(self._heartbeat())
            events = subscriber.take()

    def _deliver(self, events: list[Event]) -> bool:
        """Write what events that have come while the stream waits are told as, if that can be done at once."""
        if any(event.kind in ABOUT_STREAM for event in events):
            return False
        told: list[bytes] = []
        with suppress(Exception):  # which the task meets again, where it can be told
            told.extend(map(self._asked.telling.told, events))
        body = b"".join(told)
        is_written = len(told) == len(events) and self._connection.write_at_once(body)
        self._undelivered = (0, b"") if is_written else (len(told), body)
        return is_written

    async def _body(self, events: list[Event]) -> bytes:
        telling = self._asked.telling
        (number, body), self._undelivered = self._undelivered, (0, b"")
        left = [event for event in events[number:] if not event.is_terminal]
        blocks = [body, *[await _told(self._asked, telling.told, event) for event in left]]
        last = events[-1]
        if last.kind == "done":
            blocks.append(await _told(self._asked, telling.ended, self.job))
            if self._asked.says_done:
                blocks.append(_DONE)
        elif last.error is not None:
            blocks.append(block_of(last.error))
        return b"".join(blocks)


class ToldResult(ResultResponse):
    """Answer with the document that a job comes to."""

    def __init__(self, job: Job, settings: Settings, asked: Asked) -> None:
        super().__init__(job, settings, outlasts_app=True)
        self._asked = asked

    async def _result(self) -> Response:
        try:
            response: Response = await _told(self._asked, self._asked.telling.whole, self.job)
        except StreamAppError as error:
            return ErrorResponse(describe(error), {"X-Streamapp-Job-Id": self.job.id})
        response.headers.update({"X-Streamapp-Job-Id": self.job.id, "X-Request-Id": self.job.id})
        return response
