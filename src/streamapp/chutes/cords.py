"""Run one cord for the jobs of its endpoint, and answer with what comes of it in its own form."""

import asyncio
import inspect
from collections.abc import AsyncIterator, Callable, Generator, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from pydantic import BaseModel
from pydantic_core import from_json
from starlette.responses import Response

from ..errors import Cancelled
from ..jobs.pause import Pause
from ..jobs.stream import OwnLoopStream, Stream, current_stream, enter_stream
from ..workers.results import close, close_now, is_iterator
from .answers import LINES, failing_of, passed_on, stream_of, stream_of_sync, typed
from .crossed import crossed
from .home import Home

STREAM = "streamapp_stream"  # the parameter of a method that gets its job's stream
JSON = {"application/json", LINES, "application/jsonl"}
TEXT = "text/plain"
_CANCEL_S = 1.0  # for what a job's end cancels to hear of it


class Served(Protocol):
    """Be the app of a chute while it is served."""

    home: Home
    is_debug: bool


@dataclass(frozen=True, slots=True)
class Cord:
    """Hold what was written in `@chute.cord(...)`.

    Attributes:
        path: where it is served.
        method: GET or POST; what answers GET answers POST as well.
        stream: it was said to be a stream; it is one also where it yields.
        others: all else that was written, as Chutes has it.
    """

    function: Callable[..., Any]
    path: str
    method: str = "POST"
    stream: bool = False
    input_schema: Any = None
    output_content_type: str | None = None
    others: Mapping[str, Any] = field(default_factory=dict)

    @property
    def where(self) -> str:
        """Return where it was written, for messages."""
        return f"@chute.cord({self.path!r}) on {self.function.__qualname__}"

    @property
    def content_type(self) -> str | None:
        """Return the bare content type."""
        said = self.output_content_type
        return None if said is None else said.partition(";")[0].strip().lower()


class CordRun:
    """Run one cord for the jobs of its endpoint.

    Args:
        dumped: the parameters that take a validated model as a dict.
    """

    def __init__(self, chute: Any, cord: Cord, dumped: set[str]) -> None:
        self._chute = chute
        self._cord = cord
        self._function = cord.function
        self._content_type = cord.content_type
        self._dumped = dumped

    async def emit(self, app: Served, given: dict[str, Any]) -> None:
        """Emit what an `async` cord yields, from where it runs."""
        mine = self._taken(given)
        mine.pop(STREAM, None)
        await app.home.run(self._emit_at_home(mine))

    def emit_sync(self, app: Served, given: dict[str, Any]) -> Generator[Any, None, Any]:
        """Yield what a `def` cord yields."""
        items = iter(self._function(self._chute, **self._dumped_of(given)))
        try:
            while True:
                try:
                    item = next(items)
                except StopIteration as stop:
                    return stop.value
                yield self._value(item)
        finally:
            close_now(items)

    async def answer(self, app: Served, given: dict[str, Any]) -> Any:
        """Answer with what an `async` cord returns, or with what it yields as it comes."""
        mine = self._taken(given)
        if inspect.isasyncgenfunction(self._function):
            return await stream_of(app.home.items(self._items(mine)), self._content_type)
        return await self._told(app, await app.home.run(called(self._function, self._chute, mine)))

    def answer_sync(self, app: Served, given: dict[str, Any]) -> Any:
        """Do the same for a `def` cord; what of it is a loop's comes back to be awaited."""
        result = self._function(self._chute, **self._dumped_of(given))
        if isinstance(result, Response) or hasattr(result, "__aiter__"):
            return self._told(app, result)
        if is_iterator(result):
            return stream_of_sync(result, self._content_type)
        return typed(result, self._content_type)

    async def _told(self, app: Served, result: Any) -> Any:
        if isinstance(result, Response):
            return await passed_on(result, app.home, failing_of(self._cord.path, debug=app.is_debug))
        if is_iterator(result):
            result = _stepping(result)
        if hasattr(result, "__aiter__"):
            return await stream_of(app.home.items(result), self._content_type)
        return typed(result, self._content_type)

    def _taken(self, given: dict[str, Any]) -> dict[str, Any]:
        """Return arguments as they are used on the chute's loop."""
        return {name: crossed(value) for name, value in self._dumped_of(given).items()}

    def _dumped_of(self, given: dict[str, Any]) -> dict[str, Any]:
        return {
            name: value.model_dump() if name in self._dumped and isinstance(value, BaseModel) else value
            for name, value in given.items()
        }

    # On the chute's loop.

    async def _emit_at_home(self, given: dict[str, Any]) -> None:
        stream = _own_stream()
        assert stream is not None
        items = self._items(given)
        try:
            async for item in items:
                pauses = isinstance(item, Pause)
                rest = asyncio.sleep(item.for_s) if pauses else stream.begin_aemit(self._value(item))
                if rest is not None:
                    await rest
        except Cancelled:  # the job's end is about to cancel this task as well: not in the midst of its cleanup
            await asyncio.sleep(_CANCEL_S)
            raise
        finally:
            await close(items)

    def _items(self, given: dict[str, Any]) -> AsyncIterator[Any]:
        named = {name: OwnLoopStream.of(v) if isinstance(v, Stream) else v for name, v in given.items()}
        if inspect.isasyncgenfunction(self._function):
            items: AsyncIterator[Any] = self._function(self._chute, **named)
            return items
        return _gone_through(called(self._function, self._chute, named))

    def _value(self, item: Any) -> Any:
        """Return what a cord yields as an event's value: Chutes' own are text, of JSON where the cord says so."""
        if isinstance(item, bytes) and self._content_type == TEXT:
            return item.decode(errors="replace")
        if isinstance(item, str | bytes) and self._content_type in JSON:
            try:
                return from_json(item)
            except ValueError:  # text after all
                return item
        return item


async def called(function: Callable[..., Any], chute: Any, given: dict[str, Any]) -> Any:
    """Call a function on the chute's loop, where its job's stream is another one."""
    _own_stream()
    named = {name: OwnLoopStream.of(value) if isinstance(value, Stream) else value for name, value in given.items()}
    result = function(chute, **named)
    while inspect.isawaitable(result):
        result = await result
    return result


async def _gone_through(coroutine: Any) -> AsyncIterator[Any]:
    """Go through what a coroutine returns."""
    items = await coroutine
    async for item in items if hasattr(items, "__aiter__") else _stepping(items):
        yield item


async def _stepping(items: Iterator[Any]) -> AsyncIterator[Any]:
    """Go through a blocking iterator on the chute's loop, which is there to be blocked."""
    for item in items:
        yield item


def _own_stream() -> OwnLoopStream | None:
    """Make the job's stream one for this loop; None in a session, which is no job."""
    try:
        stream = OwnLoopStream.of(current_stream())
    except LookupError:
        return None
    enter_stream(stream)
    return stream
