"""Threads that never keep the process, and that user code cannot use up."""

import asyncio
import contextvars
import ctypes
import threading
from concurrent.futures import Future

import pytest
from tests.waiting import WAIT_S

from streamapp.process import threads
from streamapp.process.threads import (
    DaemonPool,
    OneThread,
    begin_in_own_thread,
    ends_within,
    in_own_thread,
    in_pool,
    is_main_thread,
    keep_spare,
)

word: contextvars.ContextVar[str] = contextvars.ContextVar("word", default="")


def test_a_pool_runs_as_many_calls_at_once_as_it_has_threads() -> None:
    pool, gate, reached = DaemonPool(2, "two"), threading.Event(), threading.Semaphore(0)

    def call(n: int) -> tuple[int, str]:
        reached.release()
        assert gate.wait(WAIT_S)
        return n, threading.current_thread().name

    futures = [pool.submit(call, n) for n in range(4)]
    for _ in range(2):
        assert reached.acquire(timeout=WAIT_S)
    assert not reached.acquire(blocking=False)
    gate.set()
    results = [future.result(WAIT_S) for future in futures]
    assert [n for n, _ in results] == [0, 1, 2, 3]
    assert {name for _, name in results} <= {"two-0", "two-1"}
    pool.shutdown()


def test_an_idle_thread_is_used_again() -> None:
    pool = DaemonPool(8, "again")
    names = set()
    for _ in range(5):
        done: Future[str] = pool.submit(lambda: threading.current_thread().name)
        names.add(done.result(WAIT_S))
        until_idle(pool)
    assert names == {"again-0"}
    pool.shutdown()


def until_idle(pool: DaemonPool) -> None:
    """Take the sign that a thread gives when it has nothing to do, and give it back."""
    assert pool._idle.acquire(timeout=WAIT_S)
    pool._idle.release()


def test_the_threads_are_daemons_and_end_when_the_pool_is_shut_down() -> None:
    pool = DaemonPool(1, "ends")
    thread = pool.submit(threading.current_thread).result(WAIT_S)
    assert thread.daemon
    pool.shutdown()
    thread.join(WAIT_S)
    assert not thread.is_alive()


def test_a_call_gives_its_exception_to_who_waits_and_the_thread_goes_on() -> None:
    pool = DaemonPool(1, "raises")

    def leave() -> None:
        raise SystemExit

    with pytest.raises(SystemExit):
        pool.submit(leave).result(WAIT_S)
    assert pool.submit(lambda: 1).result(WAIT_S) == 1
    pool.shutdown()


def test_a_call_that_hangs_does_not_count_and_others_get_a_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    pool, gate = DaemonPool(1, "hangs"), threading.Event()
    hanging = pool.submit(gate.wait, WAIT_S)
    monkeypatch.setattr(threads, "_HANGS_S", 0)
    assert pool.submit(lambda: 1).result(WAIT_S) == 1
    gate.set()
    assert hanging.result(WAIT_S)
    pool.shutdown()


def test_what_is_sent_into_a_call_ends_that_call_alone() -> None:
    """Libraries do so to end what takes too long."""
    pool, began = DaemonPool(1, "told"), threading.Event()

    def work_on() -> None:
        began.set()
        while True:
            pass

    working = pool.submit(work_on)
    assert began.wait(WAIT_S)
    thread = next(thread for thread in threading.enumerate() if thread.name == "told-0")
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread.ident or 0), ctypes.py_object(SystemExit))
    with pytest.raises(SystemExit):
        working.result(WAIT_S)
    assert pool.submit(threading.current_thread).result(WAIT_S) is thread
    pool.shutdown()


def test_a_call_that_was_cancelled_in_the_queue_is_not_made() -> None:
    pool, gate = DaemonPool(1, "cancels"), threading.Event()
    blocking = pool.submit(gate.wait, WAIT_S)
    never = pool.submit(pytest.fail, "it was made")
    assert never.cancel()
    gate.set()
    assert blocking.result(WAIT_S)
    assert pool.submit(lambda: 1).result(WAIT_S) == 1
    pool.shutdown()


async def test_calls_see_the_callers_context() -> None:
    word.set("here")
    assert await in_pool(word.get) == "here"
    assert await in_own_thread("own", word.get) == "here"


async def test_a_thread_of_ones_own_has_a_name_and_keeps_no_process() -> None:
    thread = await in_own_thread("of-its-own", threading.current_thread)
    assert (thread.name, thread.daemon) == ("of-its-own", True)


def test_calls_of_one_thread_run_in_it_and_it_ends_when_it_is_let_go_of() -> None:
    one = OneThread("mine")
    used = {one.submit(threading.current_thread).result(WAIT_S) for _ in range(3)}
    with pytest.raises(ZeroDivisionError):
        one.submit(lambda: 1 / 0).result(WAIT_S)
    del one
    (thread,) = used
    thread.join(WAIT_S)
    assert (thread.name, thread.daemon, thread.is_alive()) == ("mine", True, False)


async def test_what_a_call_raises_is_raised_here() -> None:
    def fail() -> None:
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        await in_own_thread("fails", fail)


async def test_stop_iteration_is_raised_as_another_error_which_a_future_can_hold() -> None:
    with pytest.raises(RuntimeError, match="StopIteration"):
        await in_own_thread("stops", next, iter(()))


async def test_a_caller_that_is_cancelled_does_not_wait_for_the_thread() -> None:
    gate = threading.Event()
    calling = asyncio.create_task(in_own_thread("blocked", gate.wait, WAIT_S))
    await asyncio.sleep(0)
    calling.cancel()
    with pytest.raises(asyncio.CancelledError):
        await calling
    gate.set()


async def test_what_does_not_end_in_time_is_cancelled_and_left() -> None:
    swallowed = asyncio.Event()

    async def swallow() -> None:
        try:
            await asyncio.sleep(WAIT_S)
        except asyncio.CancelledError:
            swallowed.set()
            await asyncio.sleep(0)

    task = asyncio.create_task(swallow())
    assert not await ends_within(0.01, task)
    await swallowed.wait()
    await task
    assert await ends_within(-1, task)  # it has ended: no time is needed to see it


def test_where_no_thread_can_be_started_a_spare_one_runs_the_call(monkeypatch: pytest.MonkeyPatch) -> None:
    """As Python 3.12 starts none while callbacks of `atexit` run."""
    keep_spare(1)

    def refuse(thread: threading.Thread) -> None:
        raise RuntimeError("can't create new thread at interpreter shutdown")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    for _ in range(2):  # it is spare again
        assert not begin_in_own_thread("late", is_main_thread).result(WAIT_S)
    monkeypatch.setattr(threads, "_spare", [])
    with pytest.raises(RuntimeError, match="can't create new thread"):
        begin_in_own_thread("late", is_main_thread)
    assert is_main_thread()
