"""Call functions in threads that never keep the process from ending, and that user code cannot use up.

The event loop's own pool is everybody's: a few dozen calls that block there, of an endpoint's `asyncio.to_thread`, and
nothing else gets a thread. At its end Python waits for that pool without limit. So images are encoded in `pool`, and
user code that may block gets a thread of its own; all of them are daemons.
"""

import asyncio
import contextvars
import os
import queue
import threading
from collections.abc import Callable
from concurrent.futures import Executor, Future
from contextlib import suppress
from functools import partial
from typing import Any, ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


class DaemonPool(Executor):
    """Run calls in up to `most` daemon threads, made as they are needed. Thread-safe.

    Divergence: not a ThreadPoolExecutor, whose threads Python joins before it exits.
    """

    def __init__(self, most: int, name: str) -> None:
        self._most = most
        self._name = name
        self._calls: queue.SimpleQueue[tuple[Future[Any], Callable[[], Any]] | None] = queue.SimpleQueue()
        self._idle = threading.Semaphore(0)
        self._lock = threading.Lock()
        self._threads: list[threading.Thread] = []

    def submit(self, function: Callable[P, T], /, *arguments: P.args, **named: P.kwargs) -> Future[T]:
        """Queue a call; never blocks."""
        future: Future[T] = Future()
        self._calls.put((future, partial(function, *arguments, **named)))
        if not self._idle.acquire(blocking=False):
            with self._lock:
                if len(self._threads) < self._most:
                    name = f"{self._name}-{len(self._threads)}"
                    thread = threading.Thread(target=self._work, name=name, daemon=True)
                    self._threads.append(thread)
                    thread.start()
        return future

    def shutdown(self, wait: bool = False, *, cancel_futures: bool = False) -> None:
        """Let the threads end when they have done what is queued; waits for none of them."""
        with self._lock:
            for _ in self._threads:
                self._calls.put(None)
            self._threads.clear()

    def _work(self) -> None:
        while self._perform_next():
            self._idle.release()

    def _perform_next(self) -> bool:
        """Wait for a call and perform it; False when there will be none. A frame of its own lets go of the call."""
        item = self._calls.get()
        if item is None:
            return False
        future, call = item
        with suppress(Exception):  # of the callbacks of a future that was waited for: they have logged it
            _perform(future, call)
        return True


def _perform(future: Future[Any], call: Callable[[], Any]) -> None:
    if not future.set_running_or_notify_cancel():
        return
    try:
        result = call()
    except BaseException as error:  # it is the caller's, who gets it from the future
        future.set_exception(error)
    else:
        future.set_result(result)


#: for what the server itself does off the loop: encoding, decoding, files
pool = DaemonPool(min(32, (os.cpu_count() or 1) + 4), "streamapp")


async def in_pool(function: Callable[P, T], /, *arguments: P.args, **named: P.kwargs) -> T:
    """Call a function in the server's own pool, in a copy of this context. A caller that is cancelled does not wait."""
    call = partial(contextvars.copy_context().run, function, *arguments, **named)
    return await asyncio.get_running_loop().run_in_executor(pool, call)


async def in_own_thread(name: str, function: Callable[P, T], /, *arguments: P.args, **named: P.kwargs) -> T:
    """Call a function that may block for ever, user code, in a new thread. A caller that is cancelled does not wait."""
    future: Future[T] = Future()
    call = partial(contextvars.copy_context().run, function, *arguments, **named)
    threading.Thread(target=_perform, args=(future, call), name=name, daemon=True).start()
    return await asyncio.wrap_future(future)


async def ends_within(timeout_s: float, waiting: "asyncio.Future[Any]") -> bool:
    """Wait for a task of user code; False, and it is cancelled but not waited for any longer, when it has not ended.

    A task may swallow its cancellation, so `asyncio.timeout` could wait for ever. What it raised, it is asked for.
    """
    done, _ = await asyncio.wait({waiting}, timeout=max(0, timeout_s))
    if not done:
        waiting.cancel()
    return bool(done)
