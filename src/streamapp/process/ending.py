"""End the process, in order or, when user code keeps it from that, in bounded time.

After an orderly shutdown there is still much that can hang: callbacks of `atexit`, threads that Python joins, children
that multiprocessing waits for. `LastResort` waits beside all that and ends the process when its time is over.
"""

import asyncio
import atexit
import faulthandler
import math
import os
import queue
import signal
import sys
import threading
import time
from contextlib import suppress

from .logs import logger

_CLOSE_S = 0.5
_GOODBYE_S = 0.5  # for the callbacks of `atexit`, when there is no more time
# After that, until a thread of C's ends the process: some code has the GIL and never gives it.
_GIL_S = 0.5


class LastResort:
    """End the process at a deadline: a thread that waits until it is armed.

    `arm` may be called in a signal handler and from any thread; the earliest deadline counts. Where nothing of Python's
    runs any more, the exit code is 1, and the stacks of all threads are on stderr.
    """

    def __init__(self) -> None:
        self._orders: queue.SimpleQueue[tuple[float, int] | None] = queue.SimpleQueue()
        self._at = math.inf
        threading.Thread(target=self._wait, name="last-resort", daemon=True).start()

    def arm(self, within_s: float, code: int) -> None:
        """End the process with `code` unless it has ended by itself within so many seconds."""
        at = time.monotonic() + within_s
        if at < self._at:
            self._at = at
            self._orders.put((at, code))
            # Not a thread of Python's: it ends what keeps the GIL as well, a regular expression that runs away.
            with suppress(RuntimeError):  # there may be too many threads for one more
                faulthandler.dump_traceback_later(within_s + _GOODBYE_S + _GIL_S, exit=True, file=2)

    def disarm(self) -> None:
        """Let the process go on: it has something else to do. For good."""
        if self._at < math.inf:
            faulthandler.cancel_dump_traceback_later()
        self._orders.put(None)

    def _wait(self) -> None:
        order = self._orders.get()
        while order is not None:
            at, code = order
            if (left_s := at - time.monotonic()) <= 0:
                return end_process(code, "the process does not come to an end by itself: the app keeps it from that")
            with suppress(queue.Empty):
                order = self._orders.get(timeout=left_s)


def end_process(code: int, why: str = "") -> None:
    """End at once, after the callbacks of `atexit` had a moment; from any thread. Does not return."""
    try:
        goodbye = threading.Thread(target=_say_goodbye, args=[why], name="goodbye", daemon=True)
        goodbye.start()
        goodbye.join(_GOODBYE_S)
    finally:  # there may be too many threads for one more
        os._exit(code)


def _say_goodbye(why: str) -> None:
    if why:
        logger.critical(why)
    _run_exit_callbacks()


def _run_exit_callbacks() -> None:
    """Do what Python does at its end: `atexit`, which flushes logs and deletes temporary folders, and the streams."""
    processes = sys.modules.get("concurrent.futures.process")
    if processes is not None:  # no callback of `atexit`: the workers of its pools would live on
        processes._python_exit()
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with suppress(Exception):  # closed, or nobody reads it
            stream.flush()


def leave_by(number: int) -> None:
    """End as the signal ends a process that does not handle it; before that `atexit` runs, as it does after Ctrl-C.

    Does not return, unless the program has a handler of its own for the signal.
    """
    if signal.getsignal(number) is signal.SIG_DFL:
        _run_exit_callbacks()
    signal.raise_signal(number)


def close_loop(loop: asyncio.AbstractEventLoop) -> None:
    """Cancel what is left on a loop, which is not running, and close it; blocks for a second at most.

    asyncio itself would wait without limit: for tasks that swallow their cancellation, and for the threads of the pool
    that user code shares.
    """
    tasks = asyncio.all_tasks(loop)
    for task in tasks:
        task.cancel()
    if tasks and loop.run_until_complete(asyncio.wait(tasks, timeout=_CLOSE_S))[1]:
        logger.warning("tasks of the app's do not end; they are left behind")
    generators = loop.create_task(loop.shutdown_asyncgens())
    loop.run_until_complete(asyncio.wait({generators}, timeout=_CLOSE_S))
    loop.close()
