"""Stream one production to everybody who asks: server-sent events that can be resumed within its history.

The run, its log and its readers' positions are `workers/production`'s. It has no job that clients could ask about or
cancel, so neither the job's block nor its header is sent; a reader that comes back says by `Last-Event-ID` what it has.
"""

import math
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from ..errors import DefinitionError, MalformedRequest
from ..jobs.events import Event, EventId, encode, parse_event_id
from ..jobs.job import Job
from ..settings import Settings
from ..workers.production import Production
from . import frames
from .answer import ReadingResponse
from .call import Call
from .response import REMAINDER_EXTENSION, SSE_HEADERS, EventStreamResponse


class Broadcast(Production):
    """Share what one producer makes among many readers: it starts with the first and stops after the last.

        def setup(self):
            self.ticks = streamapp.Broadcast(self.produce, history=100)

        @streamapp.endpoint("/ticks")
        async def stream(self) -> Response:
            return self.ticks.response()

    A slow reader gets newer previews later, misses the oldest of what it cannot keep up with, and is told so by an
    event `lagged`; it delays nobody. What the producer raises ends the stream of each reader; the next one starts a run
    anew.

    Args:
        produce: a generator function, `def` or `async def`, that may take a `stream: Stream`.
        history: how many lasting events who comes late gets first.
        linger_s: how long it goes on when its last reader has left.
        idle_s: a stream that had no event for so long ends with `event: timeout`; never where None.
    """

    def __init__(
        self,
        produce: Callable[..., Any],
        *,
        history: int = 100,
        idle_s: float | None = 30.0,
        linger_s: float = 10.0,
    ) -> None:
        super().__init__(produce, history=history, linger_s=linger_s)
        if idle_s is not None and idle_s <= 0:
            raise DefinitionError(f"Broadcast: expected idle_s in seconds, more than 0, or None, got {idle_s!r}")
        self._idle_s = idle_s

    def response(self) -> ReadingResponse:
        """Return what an endpoint answers with, GET or POST: the history, then what comes, as server-sent events."""
        return _BroadcastResponse(self, self._settings, math.inf if self._idle_s is None else self._idle_s)

    def place_of(self, last_event_id: str) -> tuple[Job, int]:
        """Return the run that a reader gets, and the place behind which it starts; on the loop."""
        last, event_id = self._job, _event_id_of(last_event_id)
        if last is not None and event_id is not None and event_id.job_id == last.id and _goes_on(last, event_id.place):
            return last, event_id.place
        job = self.begin()
        return job, self.beginning_of(job)


def _event_id_of(last_event_id: str) -> EventId | None:
    """Return the id that a reader has seen last; None for one of whoever was here before."""
    try:
        return parse_event_id(last_event_id)
    except MalformedRequest:
        return None


def _goes_on(job: Job, place: int) -> bool:
    """Say whether a reader that has a run up to a place gets the rest of it: where that failed, once."""
    ending = job.channel.terminal
    if ending is not None and ending.kind != "done":
        return ending.kind == "error" and place < ending.n
    return place <= job.channel.last_n


class _BroadcastResponse(ReadingResponse):
    def __init__(self, broadcast: Broadcast, settings: Settings, idle_s: float) -> None:
        self.status_code = 200
        self.background = None
        self.raw_headers = [*SSE_HEADERS]
        self._broadcast = broadcast
        self._settings = settings
        self._idle_s = idle_s

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the stream; returns when it has ended or the client has left, or at once when the server goes on."""
        remainder = scope.get("extensions", {}).get(REMAINDER_EXTENSION)
        if remainder is not None and self.outlasts_app:
            remainder.append(partial(self._run, scope, send))
        else:
            await self._run(scope, send, receive, None)

    def _run(self, scope: Scope, send: Send, receive: Receive, send_body: Send | None) -> Coroutine[Any, Any, None]:
        call = Call.of(scope)
        job, after = self._broadcast.place_of(call.last_event_id)
        ending = job.channel.terminal
        if ending is not None and after == ending.n:
            return Response(status_code=204)(scope, receive, send)  # the one answer that stops an EventSource
        response = _Reading(job, self._settings, after=after, call=call, idle_s=self._idle_s)
        response.raw_headers = self.raw_headers
        return response._run(scope, send, receive, send_body)


class _Reading(EventStreamResponse):
    """Stream from a place of a run on; of the job that the run is, the client hears nothing."""

    def __init__(self, job: Job, settings: Settings, *, after: int, call: Call, idle_s: float) -> None:
        super().__init__(job, settings, after=after, is_get=call.is_get, is_named=call.is_named, takes_over=False)
        self._idle_s = self._left_s = idle_s

    def _opening(self, events: list[Event]) -> bytes:
        return b"" if events else frames.OPEN_SSE

    @property
    def _wait_s(self) -> float:
        return min(self._settings.heartbeat_s, self._left_s)

    def _frame(self, events: list[Event]) -> bytes:
        self._left_s = self._idle_s
        return super()._frame(events)

    def _deliver(self, events: list[Event]) -> bool:
        self._left_s = self._idle_s
        return super()._deliver(events)

    def _farewell(self) -> bytes | None:
        self._left_s -= self._wait_s
        return frames.sse_timeout(encode({"idle_s": self._idle_s})) if self._left_s <= 0 else None
