"""Watch the event loop from a thread, and name the `async def` endpoint that keeps it from running."""

import asyncio
import math
import sys
import threading
import traceback
from collections.abc import Callable
from types import CodeType, FrameType

from ..process.logs import logger

_DEBUGGERS = {"bdb", "pdb", "pydevd", "_pydevd_bundle", "debugpy", "pudb", "IPython"}


class LoopWatchdog:
    """Name the `async def` endpoint that keeps the event loop from running, and end what is blocked for good.

    A thread asks the loop for a sign of life; when none comes within `limit_s`, it looks for an endpoint's code on
    the loop's stack, and logs what it finds, once per block. After `stuck_s` nobody can be helped any more but by a
    new process.

    Args:
        codes: the endpoints' code objects, and what to call them.
        on_stuck: called, in the watching thread, until it returns True, once per block. Not while a debugger stands
            there.
    """

    def __init__(
        self,
        codes: dict[CodeType, str],
        *,
        limit_s: float = 1.0,
        stuck_s: float = math.inf,
        on_stuck: Callable[[], bool] = lambda: True,
    ) -> None:
        self._codes = codes
        self._limit_s = limit_s
        self._stuck_s = stuck_s
        self._on_stuck = on_stuck
        self._stop = threading.Event()
        self._alive = threading.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._loop_thread = 0
        self._thread = threading.Thread(target=self._watch, name="loop-watchdog", daemon=True)

    def start(self) -> None:
        """Start watching the running loop."""
        self._loop = asyncio.get_running_loop()
        self._loop_thread = threading.get_ident()
        self._thread.start()

    def stop(self) -> None:
        """Stop watching."""
        self._stop.set()

    def _watch(self) -> None:
        assert self._loop is not None
        while not self._stop.wait(self._limit_s / 2):
            self._alive.clear()
            try:
                self._loop.call_soon_threadsafe(self._alive.set)
            except RuntimeError:  # the loop is closed
                return
            if not self._alive.wait(self._limit_s) and self._loop.is_running():
                self._wait_for_its_end()

    def _wait_for_its_end(self) -> None:
        # In a thread of its own: the handlers' lock may be what the loop waits for.
        threading.Thread(target=self._report, name="loop-report", daemon=True).start()
        blocked_s, is_told = self._limit_s, False
        # Counted in waits of this thread's, not by the clock: a process that was stopped for an hour (SIGSTOP, a
        # machine that slept), or a call that kept the GIL, has kept this thread as well.
        while self._is_still_blocked():
            blocked_s += self._limit_s
            if blocked_s >= self._stuck_s and not is_told and not self._is_in_debugger():
                is_told = self._on_stuck()

    def _is_still_blocked(self) -> bool:
        assert self._loop is not None
        return not self._alive.wait(self._limit_s) and self._loop.is_running() and not self._stop.is_set()

    def _stack(self) -> list[FrameType]:
        """Return the loop's frames, innermost first; none when its thread has ended."""
        frame = sys._current_frames().get(self._loop_thread)
        return [] if frame is None else [found for found, _ in traceback.walk_stack(frame)]

    def _is_in_debugger(self) -> bool:
        names = (str(frame.f_globals.get("__name__")).partition(".")[0] for frame in self._stack())
        return any(name in _DEBUGGERS for name in names)

    def _report(self) -> None:
        stack = self._stack()
        if not stack:
            return
        names = [self._codes[frame.f_code] for frame in stack if frame.f_code in self._codes]
        where = f"async endpoint {names[0]}" if names else "code on the event loop"
        place = f"{stack[0].f_code.co_filename}:{stack[0].f_lineno}"
        logger.warning(
            "%s blocks the event loop for more than %.1f s at %s: no stream moves meanwhile; make the endpoint `def`, "
            "or await asyncio.to_thread(...)",
            where,
            self._limit_s,
            place,
        )
