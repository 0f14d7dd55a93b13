"""Run a chute's `async` code on a loop of its own, in a thread of its own, so that code that blocks holds up nobody.

What was written for Chutes calls models within `async def`. On the server's loop that would stop every stream, its
own among them, for as long as the model takes; here it stops the chute's other `async` code, as it does there. A
coroutine crosses by `run_on`, which waits for it on the caller's loop, an iterator by `Items`, and a blocking caller,
which is the inference thread in `setup` and `teardown`, by `Home.call`.

Whatever is cancelled on one side is cancelled on the other, and waited for until it has returned: its cleanup runs
where it ran. Who waits is cancelled a second time at the end of the process alone.

Divergence: this module uses `threading`, for the one thread.
"""

import asyncio
import math
import threading
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import suppress
from typing import Any, NamedTuple, Self

import anyio

from ..errors import Cancelled, StreamAppError
from ..jobs.pause import Pause
from ..process.forks import looping_here
from ..process.logs import logger
from ..workers.results import close

_LONGEST_S = 1e6  # that a timer can be given on every system
_ANSWER_S = 5.0  # for a loop to give a sign of life
_LEFTOVERS_S = 1.0  # that tasks may take to end when the chute has


Watch = Callable[[], asyncio.TimerHandle]


class Outcome(NamedTuple):
    """Hold what a coroutine has returned, or raised."""

    value: Any
    error: BaseException | None


class Crossing:
    """Run a coroutine on another loop, from the one that makes this, in a copy of the caller's context.

    Attributes:
        came: done, on the caller's loop, with the `Outcome`.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, coroutine: Coroutine[Any, Any, Any]) -> None:
        self._here, self._there = asyncio.get_running_loop(), loop
        self._coroutine = coroutine
        self._task: asyncio.Task[Outcome] | None = None
        self._is_cancelled = False
        self.came: asyncio.Future[Outcome] = self._here.create_future()
        try:
            loop.call_soon_threadsafe(self._begin)
        except RuntimeError:  # it is closed
            coroutine.close()
            raise StreamAppError("the chute has ended, and runs nothing more") from None

    def cancel(self) -> None:
        """Cancel the coroutine where it runs, once: its cleanup may wait. Without effect on one that has ended."""
        if self._is_cancelled:
            return
        self._is_cancelled = True
        with suppress(RuntimeError):  # the loop is closed
            self._there.call_soon_threadsafe(self._stop)

    def _begin(self) -> None:
        self._task = self._there.create_task(_outcome(self._coroutine))
        self._task.add_done_callback(self._tell)

    def _stop(self) -> None:
        assert self._task is not None  # this was called behind `_begin`
        self._task.cancel()

    def _tell(self, task: "asyncio.Task[Outcome]") -> None:
        self._coroutine.close()  # cancelled before its first step it would warn of not having been awaited
        outcome = Outcome(None, asyncio.CancelledError()) if task.cancelled() else task.result()
        with suppress(RuntimeError):  # the loop is closed, and with it is gone who waited
            self._here.call_soon_threadsafe(self._settle, outcome)

    def _settle(self, outcome: Outcome) -> None:
        if not self.came.done():
            self.came.set_result(outcome)


async def _outcome(coroutine: Coroutine[Any, Any, Any]) -> Outcome:
    """Return what a coroutine raises, too: SystemExit would stop the loop if its task ended with it."""
    try:
        return Outcome(await coroutine, None)
    except asyncio.CancelledError:
        raise
    except BaseException as error:  # raised where it is waited for
        return Outcome(None, error)


async def run_on(loop: asyncio.AbstractEventLoop, coroutine: Coroutine[Any, Any, Any]) -> Any:
    """Run a coroutine on another loop, and return what it returns, or raise what it raises."""
    return await _came_of(Crossing(loop, coroutine))


async def _came_of(crossing: Crossing, watch: Watch | None = None) -> Any:
    """Wait for what has crossed."""
    try:
        value, error = await asyncio.shield(crossing.came)
    except asyncio.CancelledError:
        await _stop(crossing, watch)
        raise
    try:
        if error is not None:
            raise error
        return value
    finally:
        del error, crossing  # its traceback holds this frame


async def _stop(crossing: Crossing, watch: Watch | None) -> None:
    """Cancel what has crossed, and wait until it has returned; what its cleanup raises is nobody's, so it is logged.

    Starlette's streams are cancelled by anyio, which does so at each step of the loop: its shield is for that.

    Args:
        watch: begins here, and ends when it has returned.
    """
    crossing.cancel()
    timer = None if watch is None else watch()
    try:
        with anyio.CancelScope(shield=True):
            _, error = await asyncio.shield(crossing.came)
    finally:
        if timer is not None:
            timer.cancel()
    if error is not None and not isinstance(error, asyncio.CancelledError | Cancelled):
        logger.error("code of a chute was cancelled, and failed at its end", exc_info=error)


class _Valve:
    """Let one item through at a time. It knows nothing of its reader, so that one that is let go of can be noticed.

    Attributes:
        item: on the reader's loop: done with the next item, or with `_END`.
    """

    def __init__(self, there: asyncio.AbstractEventLoop) -> None:
        self._here, self._there = asyncio.get_running_loop(), there
        self.item: asyncio.Future[Any] = self._here.create_future()
        self._wanted: asyncio.Future[None] | None = None

    async def go_through(self, items: AsyncIterator[Any]) -> None:
        """Give each item, and wait until another is wanted: code behind a `yield` runs when its item was taken.

        A `Pause` is none. A cancelled iterator that yields all the same, having caught that, is closed.
        """
        task = asyncio.current_task()
        assert task is not None
        try:
            async for item in items:
                if task.cancelling():
                    return
                if isinstance(item, Pause):
                    await asyncio.sleep(item.for_s)
                    continue
                self._wanted = self._there.create_future()
                self._here.call_soon_threadsafe(self.give, item)
                await self._wanted
        finally:
            await close(items)

    def give(self, item: Any) -> None:
        """Put an item, or the end, where the reader finds it."""
        if not self.item.done():
            self.item.set_result(item)

    def ask(self) -> None:
        """Have the next item be made."""
        self.item = self._here.create_future()
        with suppress(RuntimeError):  # the loop is closed; the crossing has its end
            self._there.call_soon_threadsafe(self._open)

    def _open(self) -> None:
        if self._wanted is not None and not self._wanted.done():
            self._wanted.set_result(None)


_END = object()


class Items:
    """Go through an iterator that runs on another loop, in one task there: each item is made when it is asked for.

    An `AsyncIterator`, which `aclose` closes; one that is let go of closes itself.

    Args:
        watch: begins when it is closed, and ends when that is done.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, items: AsyncIterator[Any], watch: Watch | None = None) -> None:
        self._watch = watch
        valve = self._valve = _Valve(loop)
        self._crossing = Crossing(loop, valve.go_through(items))
        self._crossing.came.add_done_callback(lambda came: valve.give(_END))
        self._is_taken = False  # the item that the valve has let through last
        self._ahead: list[Any] = []

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Any:
        return self._ahead.pop() if self._ahead else await self._next()

    async def first(self) -> Any:
        """Wait for the first item, which comes again as the first; None where there is none.

        Raises:
            Exception: what came instead of it.
        """
        try:
            self._ahead = [await self._next()]
        except StopAsyncIteration:
            return None
        except BaseException:  # who waited was cancelled: nobody else will close it
            await self.aclose()
            raise
        return self._ahead[0]

    async def _next(self) -> Any:
        valve, came = self._valve, self._crossing.came
        if self._is_taken:
            self._is_taken = False
            valve.ask()
            if came.done():
                valve.give(_END)
        item = await asyncio.shield(valve.item)
        if item is not _END:
            self._is_taken = True
            return item
        error = (await came).error
        if error is not None:
            raise error
        raise StopAsyncIteration

    async def aclose(self) -> None:
        """Have the iterator closed where it runs, and wait for that."""
        if not self._crossing.came.done():
            await _stop(self._crossing, self._watch)

    def __del__(self) -> None:
        crossing: Crossing | None = getattr(self, "_crossing", None)  # None where the chute had ended already
        if crossing is not None and not crossing.came.done():
            crossing.cancel()


class Home:
    """Be the loop, and the thread, of one chute's `async` code.

    Args:
        stuck_s: behind the end of a job whose code has not returned, after which the loop has to give a sign of life.
        on_stuck: called, on the loop of whoever waits for that code, when it gives none: nothing will unblock it.
    """

    def __init__(self, name: str, *, stuck_s: float = math.inf, on_stuck: Callable[[], None] | None = None) -> None:
        self.name = name
        self._stuck_s = min(stuck_s, _LONGEST_S)
        self._on_stuck = on_stuck
        self.loop = asyncio.new_event_loop()
        self._is_ending = False
        self._thread = threading.Thread(target=self._work, name=f"chute-{name}", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    async def run(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        """Run a coroutine here; wait for it on another loop."""
        return await _came_of(Crossing(self.loop, coroutine), self._watch)

    def items(self, items: AsyncIterator[Any]) -> Items:
        """Go through an iterator here; called on another loop."""
        return Items(self.loop, items, self._watch)

    def _watch(self) -> asyncio.TimerHandle:
        """Look, if what is cancelled does not return, whether this loop still runs."""
        return asyncio.get_running_loop().call_later(self._stuck_s, self._ask)

    def _ask(self) -> None:
        answers: list[bool] = []
        with suppress(RuntimeError):  # it is closed
            self.loop.call_soon_threadsafe(answers.append, True)
            asyncio.get_running_loop().call_later(_ANSWER_S, self._judge, answers)

    def _judge(self, answers: list[bool]) -> None:
        if not answers and self._on_stuck is not None:
            self._on_stuck()

    def call(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        """Run a coroutine here; block until it has returned."""
        value, error = asyncio.run_coroutine_threadsafe(_outcome(coroutine), self.loop).result()
        try:
            if error is not None:
                raise error
            return value
        finally:
            del error  # its traceback holds this frame

    def end(self, timeout_s: float) -> bool:
        """Cancel what still runs, and end the thread; False where it has not ended in time. Blocks."""
        self._is_ending = True
        with suppress(RuntimeError):  # it is closed
            self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    # The thread.

    def _work(self) -> None:
        with looping_here(self.loop):
            asyncio.set_event_loop(self.loop)
            while not self._is_ending:
                try:
                    self.loop.run_forever()
                except BaseException as error:  # SystemExit, of a task that the chute's code has begun
                    logger.error("code of the chute %s has ended its loop, which goes on", self.name, exc_info=error)
            self._end_leftovers()
            self.loop.close()

    def _end_leftovers(self) -> None:
        leftovers = asyncio.all_tasks(self.loop)
        for task in leftovers:
            task.cancel()
        try:
            if leftovers:
                self.loop.run_until_complete(asyncio.wait(leftovers, timeout=_LEFTOVERS_S))
            self.loop.run_until_complete(self.loop.shutdown_asyncgens())
        except BaseException as error:  # of a task that ends with SystemExit
            logger.error("code of the chute %s failed at its end", self.name, exc_info=error)
