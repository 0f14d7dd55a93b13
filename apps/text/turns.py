"""Let others go on within a long call: `generate` of transformers' makes a summary in one, for seconds on a CPU.

The call has a thread of its own, which goes on only while the inference thread waits for it: the two take turns, so
that one job at a time is on a model, as ever. Where jobs do not take turns it is called as it is.
"""

import contextvars
import threading
from collections.abc import Callable, Generator
from concurrent.futures import Future
from contextvars import ContextVar
from typing import TypeVar

from streamapp import Pause
from streamapp.jobs.pause import takes_turns

T = TypeVar("T")

_rest: ContextVar[Callable[[], None] | None] = ContextVar("rest", default=None)


class _Left(BaseException):
    """End a call whose job goes on no more."""


def rest() -> None:
    """Let other jobs go on, where this is called within `by_turns`; a long call calls it now and then."""
    give_away = _rest.get()
    if give_away is not None:
        give_away()


def by_turns(call: Callable[[], T]) -> Generator[Pause, None, T]:
    """Yield wherever `call` rests, and return what it returns; closed before, it ends the call where it rests."""
    if not takes_turns():
        return call()
    given, given_back = threading.Semaphore(0), threading.Semaphore(0)
    outcome: Future[T] = Future()
    has_left = False

    def give_away() -> None:
        given_back.release()
        given.acquire()
        if has_left:
            raise _Left

    def work() -> None:
        given.acquire()
        _rest.set(give_away)
        try:
            outcome.set_result(call())
        except BaseException as error:  # raised where the result is asked for
            outcome.set_exception(error)
        finally:
            given_back.release()

    run = contextvars.copy_context().run
    thread = threading.Thread(target=run, args=(work,), name="by-turns", daemon=True)
    thread.start()
    try:
        while True:
            given.release()
            given_back.acquire()
            if outcome.done():
                break
            yield Pause()
    finally:
        has_left = True
        given.release()
        thread.join()
    return outcome.result()
