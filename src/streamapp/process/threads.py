"""Call functions in threads that never keep the process from ending, and that user code cannot use up.

The event loop's own pool is everybody's: a few dozen calls that block there, of an endpoint's `asyncio.to_thread`, and
nothing else gets a thread. At its end Python waits for that pool without limit. So images are encoded in `encoders`,
and user code that may block gets a thread of its own; all of them are daemons.
"""

import asyncio
import contextvars
import math
import os
import queue
import threading
import time
from collections.abc import Callable
from concurrent.futures import Executor, Future
from contextlib import suppress
from functools import partial
from typing import Any, ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")

# After that a call counts as lost, and its thread is replaced: user code that encodes may hang.
_HANGS_S = 5.0


class DaemonPool(Executor):
    """Run calls in up to `most` daemon threads, made as they are needed, besides those in which a call hangs.
    Thread-safe.

    Divergence: not a ThreadPoolExecutor, whose threads Python joins before it exits.
    """

    def __init__(self, most: int, name: str) -> None:
        self._most = most
        self._name = name
        self._calls: queue.SimpleQueue[tuple[Future[Any], Callable[[], Any]] | None] = queue.SimpleQueue()
        self._idle = threading.Semaphore(0)
        self._lock = threading.Lock()
        self._since: dict[threading.Thread, float] = {}  # when each began what it is at; `inf` when it waits
        self._started = 0

    def submit(self, function: Callable[P, T], /, *arguments: P.args, **named: P.kwargs) -> Future[T]:
        """Queue a call; never blocks."""
        future: Future[T] = Future()
        self._calls.put((future, partial(function, *arguments, **named)))
        if not self._idle.acquire(blocking=False):
            with self._lock:
                if self._working() < self._most:
                    thread = threading.Thread(target=self._work, name=f"{self._name}-{self._started}", daemon=True)
                    self._since[thread] = time.monotonic()
                    self._started += 1
                    thread.start()
        return future

    def _working(self) -> int:
        """Count the threads on which a call can still hope; under the lock."""
        hangs_since = time.monotonic() - _HANGS_S
        return sum(since > hangs_since for thread, since in self._since.items())

    def shutdown(self, wait: bool = False, *, cancel_futures: bool = False) -> None:
        """Let the threads end when they have done what is queued; waits for none of them."""
        with self._lock:
            for _ in self._since:
                self._calls.put(None)
            self._since.clear()

    def _work(self) -> None:
        while self._perform_next():
            self._idle.release()

    def _perform_next(self) -> bool:
        """Wait for a call and perform it; False when there will be none. A frame of its own lets go of the call."""
        thread = threading.current_thread()
        self._since[thread] = math.inf
        item = self._calls.get()
        if item is None:
            return False
        self._since[thread] = time.monotonic()
        future, call = item
        with suppress(Exception):  # of the callbacks of a future that was waited for: they have logged it
            _perform(future, call)
        return True


def _perform(future: Future[Any], call: Callable[[], Any]) -> None:
    if not future.set_running_or_notify_cancel():
        return
    try:
        result = call()
    except StopIteration as error:  # asyncio's futures refuse it, and whoever awaits one would never hear of the end
        future.set_exception(RuntimeError("the call raised StopIteration").with_traceback(error.__traceback__))
    except BaseException as error:  # it is the caller's, who gets it from the future
        future.set_exception(error)
    else:
        future.set_result(result)


_MOST = min(32, (os.cpu_count() or 1) + 4)
#: for what the server itself does off the loop: decoding, files
pool = DaemonPool(_MOST, "streamapp")
#: for what coroutines emit and return: it may run code of the app's, which the server's own must not wait for
encoders = DaemonPool(_MOST, "encoder")


async def in_pool(function: Callable[P, T], /, *arguments: P.args, **named: P.kwargs) -> T:
    """Call a function in the server's own pool, in a copy of this context. A caller that is cancelled does not wait."""
    call = partial(contextvars.copy_context().run, function, *arguments, **named)
    return await asyncio.get_running_loop().run_in_executor(pool, call)


async def in_encoder(function: Callable[P, T], /, *arguments: P.args, **named: P.kwargs) -> T:
    """Do as `in_pool` does, in the pool for encoding."""
    call = partial(contextvars.copy_context().run, function, *arguments, **named)
    return await asyncio.get_running_loop().run_in_executor(encoders, call)


async def in_own_thread(name: str, function: Callable[P, T], /, *arguments: P.args, **named: P.kwargs) -> T:
    """Call a function that may block for ever, user code, in a new thread. A caller that is cancelled does not wait."""
    future = begin_in_own_thread(name, function, *arguments, **named)
    return await asyncio.wrap_future(future)


def begin_in_own_thread(name: str, function: Callable[P, T], /, *arguments: P.args, **named: P.kwargs) -> Future[T]:
    """Do as `in_own_thread` does, without waiting."""
    future: Future[T] = Future()
    call = partial(contextvars.copy_context().run, function, *arguments, **named)
    try:
        threading.Thread(target=_perform, args=(future, call), name=name, daemon=True).start()
    except RuntimeError:  # there may be too many, or Python is ending
        if not _spare:
            raise
        thread = _spare.pop()
        thread.put(future, call)
        future.add_done_callback(lambda _: _spare.append(thread))
    return future


def is_main_thread() -> bool:
    """Say whether this is the thread in which Python hears signals."""
    return threading.current_thread() is threading.main_thread()


class OneThread:
    """Run calls one after another in one daemon thread, which ends with `end`, or when this is let go of.

    For code that has to stay in the thread in which it began, as a generator within `torch.inference_mode()`.
    """

    def __init__(self, name: str) -> None:
        self._calls: queue.SimpleQueue[tuple[Future[Any], Callable[[], Any]] | None] = queue.SimpleQueue()
        threading.Thread(target=_perform_all, args=(self._calls,), name=name, daemon=True).start()

    def submit(self, function: Callable[P, T], /, *arguments: P.args, **named: P.kwargs) -> Future[T]:
        """Queue a call; never blocks."""
        future: Future[T] = Future()
        self.put(future, partial(function, *arguments, **named))
        return future

    def put(self, future: Future[T], call: Callable[[], T]) -> None:
        """Queue a call whose future there is already; never blocks."""
        self._calls.put((future, call))

    def end(self) -> None:
        """Have the thread end when it has done what is queued."""
        self._calls.put(None)

    def __del__(self) -> None:
        self.end()


def _perform_all(calls: "queue.SimpleQueue[tuple[Future[Any], Callable[[], Any]] | None]") -> None:
    while (call := calls.get()) is not None:
        _perform(*call)
        del call  # what it holds may be large, and the next may be long in coming


async def ends_within(timeout_s: float, waiting: "asyncio.Future[Any]") -> bool:
    """Wait for a task of user code; False, and it is cancelled but not waited for any longer, when it has not ended.

    A task may swallow its cancellation, so `asyncio.timeout` could wait for ever. What it raised, it is asked for.
    """
    done, _ = await asyncio.wait({waiting}, timeout=max(0, timeout_s))
    if not done:
        waiting.cancel()
    return bool(done)


_spare: list[OneThread] = []


def keep_spare(count: int) -> None:
    """Have threads for so many calls of `begin_in_own_thread` at a time when no more can be started.

    For what is to run while Python ends: Python 3.12 starts none any more when callbacks of `atexit` run.
    """
    while len(_spare) < count:
        _spare.append(OneThread("spare"))
