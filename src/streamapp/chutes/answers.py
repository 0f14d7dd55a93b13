"""Send what a cord answers by itself as it made it: what it yields as it comes, or a `Response`.

Chutes sends yields as they are, without a type, and its gateway calls all of them server-sent events. Here the first
item is waited for, so that a failure before it is an HTTP error, and says what the stream is: events that the app has
framed go out as `text/event-stream`, other text as text, and values as events of ours. What has no framing of its own
is cut when it fails; in a stream of events the failure is its last event.

Of a `Response` the headers that are the connection's, and those that would open the app to pages of other sites
(`Access-Control-*`, which is what STREAMAPP_CORS_ORIGINS says), are left out.
"""

import asyncio
import contextvars
import re
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import suppress
from functools import lru_cache
from typing import Any, Self

import anyio
from starlette.background import BackgroundTask
from starlette.concurrency import iterate_in_threadpool, run_in_threadpool
from starlette.datastructures import Headers
from starlette.responses import Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from ..errors import describe
from ..http.call import accepted
from ..jobs.events import Event, encode, to_event, to_event_at_once
from ..jobs.pause import Pause
from ..jobs.stream import current_stream
from ..media import Publisher, publisher_here
from ..process.logs import logger
from ..process.threads import OneThread, in_encoder
from ..workers.results import close_now
from .home import Home, Items

SSE = "text/event-stream"
LINES = "application/x-ndjson"
_FRAMED = re.compile(r"\ufeff?(?:(?:data|event|id|retry):|:[^\n]*\n\n)")
_OWN_HEADERS = re.compile(rb"connection|keep-alive|transfer-encoding|access-control-.*", re.I)
_RAW_ERROR = b"\n\nevent: error\ndata: %b\n\n"  # the event before it may not have ended
_NONE = object()  # in the place of a first item
_NO_BUFFER = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}


Failure = Callable[[Exception], bytes]


def is_framed(item: Any) -> bool:
    """Say whether a piece of text begins server-sent events that the app has framed itself."""
    text = item.decode(errors="replace") if isinstance(item, bytes) else item
    return isinstance(text, str) and _FRAMED.match(text) is not None


class Framing:
    """Turn the items of one stream into its bytes.

    Args:
        declared: the cord's content type.
        first: the first item, which decides where that says nothing.
        publisher: the job's, which keeps its files.
    """

    def __init__(self, declared: str | None, first: Any, publisher: Publisher | None = None) -> None:
        is_text = isinstance(first, str | bytes)
        self._is_raw = is_text and (declared != SSE or is_framed(first))
        if declared not in (None, SSE):
            self.media_type = str(declared)
        elif not self._is_raw or is_framed(first):
            self.media_type = SSE
        else:
            self.media_type = "text/plain" if isinstance(first, str) else "application/octet-stream"
        self._request: Scope | None = None
        self._publisher = publisher

    def use(self, scope: Scope) -> None:
        """Frame values as lines where a request prefers that; what none waits for has its job to tell of a failure."""
        if "app" in scope:
            self._request = scope
        if not self._is_raw and [*accepted(Headers(scope=scope).get("accept", ""))] == [LINES]:
            self.media_type = LINES

    def __call__(self, item: Any) -> bytes:
        """Frame an item; blocks for as long as its media take to encode."""
        raw = self._as_it_is(item)
        return self._told(to_event(item, self._publisher)) if raw is None else raw

    async def on_loop(self, item: Any) -> bytes:
        """Do the same; the loop does not wait while it is encoded."""
        raw = self._as_it_is(item)
        if raw is not None:
            return raw
        event = to_event_at_once(item, self._publisher)
        return self._told(await in_encoder(to_event, item, self._publisher) if event is None else event)

    def _as_it_is(self, item: Any) -> bytes | None:
        if isinstance(item, str | bytes) and (self._is_raw or is_framed(item)):
            return item.encode() if isinstance(item, str) else item
        return None

    def _told(self, event: Event) -> bytes:
        if self.media_type == SSE:
            return b"event: %b\ndata: %b\n\n" % (event.name.encode(), event.data)
        return event.data + b"\n"

    def failure(self, error: BaseException) -> bytes:
        """Return what tells of a failure in the stream; nothing where it has no place for that."""
        if self._request is None:
            return b""
        debug: bool = self._request["app"].state.runtime.settings.debug
        report = describe(error, where=f"endpoint {self._request['path']}", debug=debug)
        told = encode(report.body)
        if self.media_type == SSE:
            return _RAW_ERROR % told if self._is_raw else b"event: error\ndata: %b\n\n" % told
        return told + b"\n" if self.media_type == LINES else b""


class RawStream(StreamingResponse):
    """Send the items of a stream, each as its framing says."""

    def __init__(self, framing: Framing, body: Any) -> None:
        super().__init__(body, media_type=framing.media_type, headers=_NO_BUFFER)
        self._framing = framing

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send it."""
        self._framing.use(scope)
        if self._framing.media_type == LINES:
            self.headers["content-type"] = LINES
        await super().__call__(scope, receive, send)


async def stream_of(items: Items, declared: str | None) -> Response:
    """Return the answer that goes through the items of an async iterator; the first is waited for."""
    framing = Framing(declared, await items.first(), publisher_here())
    return RawStream(framing, _framed(items, framing))


async def _framed(items: Items, framing: Framing) -> AsyncIterator[bytes]:
    try:
        async for item in items:
            yield await framing.on_loop(item)
    except Exception as error:
        if told := framing.failure(error):
            yield told
        raise
    finally:
        await items.aclose()


def stream_of_sync(items: Iterator[Any], declared: str | None) -> Response:
    """Do the same with an iterator that blocks, all of which runs in one thread of its own; blocks for the first item.

    Divergence: Starlette would make each item in another thread, and what a generator has entered there, torch's modes
    for example, would hold for none, and stay where it was entered.
    """
    thread, items = OneThread(f"items-{current_stream().job_id}"), _Stepping(items)
    first = thread.submit(next, items, _NONE).result()
    framing = Framing(declared, None if first is _NONE else first, publisher_here())
    return RawStream(framing, _framed_in(thread, first, items, framing))


async def _framed_in(thread: OneThread, item: Any, items: "_Stepping", framing: Framing) -> AsyncIterator[bytes]:
    try:
        while item is not _NONE:
            yield await framing.on_loop(item)
            item = await asyncio.shield(asyncio.wrap_future(thread.submit(next, items, _NONE)))
    except Exception as error:
        if told := framing.failure(error):
            yield told
        raise
    finally:
        closing = thread.submit(items.close)
        thread.end()
        with anyio.CancelScope(shield=True):
            await asyncio.shield(asyncio.wrap_future(closing))


class _Stepping:
    """Go through an iterator, and wait where it pauses; in whichever thread, in the context of the job that made it."""

    def __init__(self, items: Iterator[Any]) -> None:
        self._items = items
        self._stream = current_stream()
        self._context = contextvars.copy_context()

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Any:
        while isinstance(item := self._context.run(next, self._items), Pause):
            self._stream.pause(item.for_s)
        return item

    def close(self) -> None:
        self._context.run(close_now, self._items)


def _again(first: Any, items: Iterator[Any]) -> Iterator[Any]:
    """Go through an iterator whose first item was taken; close it in the end."""
    try:
        if first is not _NONE:
            yield first
        yield from items
    finally:
        close_now(items)


async def passed_on(response: Response, home: Home, failure: Failure) -> Response:
    """Return a `Response` of the app's such that its code runs at home; its first piece is waited for.

    Args:
        failure: makes an event of what its iterator raises behind that, where it is a stream of events.
    Raises:
        Exception: what its iterator raised before that.
    """
    body: Any = getattr(response, "body_iterator", None)
    iterator = _blocking(body)
    items = None if body is None or iterator is not None else home.items(body)
    if iterator is not None:
        first = await run_in_threadpool(next, iterator, _NONE)
    else:
        first = None if items is None else await items.first()
    _take_headers(response)
    content_type = response.headers.get("content-type", "").partition(";")[0]
    if content_type in ("", "text/plain") and is_framed(first):
        content_type = SSE
        response.headers["content-type"] = f"{SSE}; charset=utf-8"
    tell = failure if content_type == SSE else _cut
    if iterator is not None:
        pieces = _passed_sync(_again(first, iterator), tell)
        response.body_iterator = iterate_in_threadpool(pieces)  # type: ignore[attr-defined]
    elif items is not None:
        response.body_iterator = _passed(items, tell)  # type: ignore[attr-defined]
    if body is not None:
        for name, value in _NO_BUFFER.items():
            response.headers.setdefault(name, value)
    if response.background is not None:
        response.background = BackgroundTask(_run_at_home, home, response.background)
    return response


def failing_of(path: str, *, debug: bool) -> Failure:
    """Return what makes an event of what the iterator of an endpoint's `Response` has raised."""

    def failure(error: Exception) -> bytes:
        with suppress(LookupError):  # in its job's context nobody but that waits for it, and hears of it there
            current_stream()
            return b""
        return _RAW_ERROR % encode(describe(error, where=f"endpoint {path}", debug=debug).body)

    return failure


def _cut(error: Exception) -> bytes:
    return b""


async def _passed(items: Items, failure: Failure) -> AsyncIterator[Any]:
    try:
        async for item in items:
            yield item
    except Exception as error:
        if told := failure(error):
            yield told
        raise
    finally:
        await items.aclose()


def _passed_sync(items: Iterator[Any], failure: Failure) -> Iterator[Any]:
    try:
        yield from items
    except Exception as error:
        if told := failure(error):
            yield told
        raise


def _blocking(body: Any) -> Any:
    """Return the iterator that Starlette goes through in threads; None where it does not."""
    if getattr(body, "ag_code", None) is not iterate_in_threadpool.__code__ or body.ag_frame is None:
        return None
    return iter(body.ag_frame.f_locals["iterator"])


async def _run_at_home(home: Home, tasks: BackgroundTask) -> None:
    await home.run(tasks())


def _take_headers(response: Response) -> None:
    taken = [name for name, _ in response.raw_headers if _OWN_HEADERS.fullmatch(name)]
    response.raw_headers = [pair for pair in response.raw_headers if pair[0] not in taken]
    response.__dict__.pop("_headers", None)  # which Starlette has made of them
    if any(name.startswith(b"access-control-") for name in taken):
        _warn_of_cors()


@lru_cache(maxsize=1)
def _warn_of_cors() -> None:
    logger.warning("Access-Control-* headers of a cord are left out; which pages may ask, STREAMAPP_CORS_ORIGINS says")


def typed(result: Any, declared: str | None) -> Any:
    """Return a cord's value as the answer of the content type that it declares; other values as they are."""
    if declared is None or not isinstance(result, str | bytes):
        return result
    if declared == "application/json" and isinstance(result, str):
        return result
    return Response(result, media_type=declared)
