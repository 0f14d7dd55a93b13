"""Keep a child that user code forks from holding what is the server's.

A fork copies every descriptor and signal handler: a stream that ended stays open for its reader as long as the child
lives, the port stays taken after the server's end, and SIGTERM starts a drain in a process that serves nobody. In the
child each of the server's descriptors is put to /dev/null, which keeps its number from being used again, and signals
do what they do by default. A child that was forked on the event loop ends when it comes back to it.
"""

import asyncio
import os
import select
import signal
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from functools import lru_cache

Descriptors = Callable[[], Iterable[int]]

_ENDING = {signal.SIGTERM, signal.SIGINT}

_held: list[Descriptors] = []
_loops: dict[int, asyncio.AbstractEventLoop] = {}  # by the thread that runs it
_masks: dict[int, set[signal.Signals]] = {}  # by thread: what it blocked before it began to fork


@contextmanager
def held_here(descriptors: Descriptors) -> Iterator[None]:
    """Keep descriptors to this process: a child that is forked meanwhile gets none of them, and the default signals.

    Args:
        descriptors: called in the child, by the thread that forked.
    """
    _register()
    _held.append(descriptors)
    try:
        yield
    finally:
        _held.remove(descriptors)


@contextmanager
def looping_here(loop: asyncio.AbstractEventLoop) -> Iterator[None]:
    """Keep the loop that this thread runs to this process: a child that comes back to it ends."""
    _register()
    _loops[threading.get_ident()] = loop
    try:
        yield
    finally:
        del _loops[threading.get_ident()]


@lru_cache(maxsize=1)
def _register() -> None:
    os.register_at_fork(before=_hold_signals, after_in_parent=_release_signals, after_in_child=_let_go)


def _hold_signals() -> None:
    """Keep a signal from the child until its handlers are in place: Python drops what comes before."""
    _masks[threading.get_ident()] = {*map(signal.Signals, signal.pthread_sigmask(signal.SIG_BLOCK, _ENDING))}


def _release_signals() -> None:
    signal.pthread_sigmask(signal.SIG_SETMASK, _masks.pop(threading.get_ident()))


def _let_go() -> None:  # pragma: no cover - in a child, whose lines nobody counts
    try:
        if _held:
            _drop()
        if threading.get_ident() in _loops:
            _end_at(_loops[threading.get_ident()])
        _loops.clear()
    finally:
        _release_signals()


def _drop() -> None:  # pragma: no cover - in a child, whose lines nobody counts
    null = os.open(os.devnull, os.O_RDWR)
    for descriptors in _held:
        for descriptor in descriptors():
            if descriptor >= 0:
                os.dup2(null, descriptor, inheritable=False)
    os.close(null)
    _held.clear()
    signal.set_wakeup_fd(-1)  # it wakes the loop of the parent
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)


def _end_at(loop: asyncio.AbstractEventLoop) -> None:  # pragma: no cover - in a child, whose lines nobody counts
    """End this child when it comes back to the loop, and have that hear nothing until then.

    Both processes wait at one and the same epoll: what the child takes from there is lost to the parent.
    """
    if hasattr(select, "epoll"):  # a kqueue does not go on to a child
        of_uvloop = getattr(loop, "_get_backend_id", None)
        waits_at = of_uvloop() if of_uvloop else loop._selector.fileno()  # type: ignore[attr-defined]
        with select.epoll() as nothing:
            os.dup2(nothing.fileno(), waits_at, inheritable=False)
    loop.call_soon(os._exit, 0)


class ending_forks:
    """End a child that comes out of the block: it was forked inside, and would go on as a second server.

    What raised SystemExit decides the exit code; `atexit` is the parent's. A class, since a job that takes turns enters
    it in each of them: a generator would take five times as long.
    """

    __slots__ = ("_process",)

    def __enter__(self) -> None:
        self._process = os.getpid()

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if os.getpid() != self._process:  # pragma: no cover - in a child
            with suppress(Exception):
                sys.stdout.flush()
                sys.stderr.flush()
            os._exit(_code_of(error))


def _code_of(error: BaseException | None) -> int:  # pragma: no cover - in a child
    if isinstance(error, SystemExit):
        return error.code if isinstance(error.code, int) else int(error.code is not None)
    return int(error is not None)
