"""Who watches the event loop: it names the endpoint that blocks it."""

import asyncio
import logging
import threading
from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest
from tests.at_work import wait_for_thread
from tests.waiting import WAIT_S

from streamapp.workers.watchdog import LoopWatchdog

wait_for_its_thread = partial(wait_for_thread, "loop-watchdog")


@pytest.fixture
def warned(caplog: pytest.LogCaptureFixture) -> Iterator[threading.Semaphore]:
    """Count the warnings of the watchdog."""

    class Counter(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            count.release()

    count, handler = threading.Semaphore(0), Counter(logging.WARNING)
    logging.getLogger("streamapp").addHandler(handler)
    yield count
    logging.getLogger("streamapp").removeHandler(handler)


def block(watchdog: LoopWatchdog, warned: threading.Semaphore, again: threading.Event) -> None:
    watchdog.start()
    assert warned.acquire(timeout=WAIT_S)
    again.wait(0.05)  # longer than the watchdog's patience: it warns once per block


@pytest.mark.parametrize(
    ("codes", "named"), [({block.__code__: "/x (App.x)"}, "async endpoint /x (App.x)"), ({}, "code on the event loop")]
)
async def test_the_watchdog_names_the_endpoint_that_blocks_the_loop(
    warned: threading.Semaphore, caplog: pytest.LogCaptureFixture, codes: dict[Any, str], named: str
) -> None:
    watchdog = LoopWatchdog(codes, limit_s=0.02)
    block(watchdog, warned, threading.Event())
    watchdog.stop()
    (message,) = caplog.messages
    assert message.startswith(f"{named} blocks the event loop for more than 0.0 s at ")
    assert "await asyncio.to_thread(...)" in message
    await asyncio.to_thread(wait_for_its_thread)


async def test_a_loop_that_moves_is_not_reported(warned: threading.Semaphore) -> None:
    watchdog = LoopWatchdog({}, limit_s=4)
    watchdog.start()
    await asyncio.sleep(2.1)  # it has looked once
    watchdog.stop()
    await asyncio.to_thread(wait_for_its_thread)
    assert not warned.acquire(blocking=False)


@pytest.mark.parametrize("is_closed", [True, False])
def test_the_watchdog_ends_with_its_loop(warned: threading.Semaphore, is_closed: bool) -> None:
    loop = asyncio.new_event_loop()
    watchdog = LoopWatchdog({}, limit_s=0.1)

    async def start() -> None:
        watchdog.start()

    runner = threading.Thread(target=loop.run_until_complete, args=(start(),))
    runner.start()
    runner.join(WAIT_S)
    if is_closed:
        loop.close()
    else:
        assert not warned.acquire(timeout=0.2)  # nobody is left to be blocked
        watchdog.stop()
    wait_for_its_thread()
    loop.close()


BLOCK = """
def block(watchdog, told, seconds, once_more_s, wait_for_its_thread):
    watchdog.start()
    told.acquire(timeout=seconds)
    told.acquire(timeout=once_more_s)
    watchdog.stop()
    wait_for_its_thread()
"""


@pytest.mark.parametrize(("module", "seconds", "told"), [("app", WAIT_S, ["loop-watchdog"]), ("pdb", 0.2, [])])
async def test_a_loop_that_is_blocked_for_good_is_told_of_once_but_not_in_a_debugger(
    module: str, seconds: float, told: list[str]
) -> None:
    is_told, threads = threading.Semaphore(0), list[str]()

    def tell() -> bool:
        threads.append(threading.current_thread().name)
        is_told.release()
        return True

    names: dict[str, Any] = {"__name__": module}  # what a debugger's frames are known by
    exec(BLOCK, names)
    watchdog = LoopWatchdog({}, limit_s=0.01, stuck_s=0.02, on_stuck=tell)
    names["block"](watchdog, is_told, seconds, 0.1, wait_for_its_thread)
    assert threads == told


def test_a_loop_whose_thread_has_ended_is_not_reported(caplog: pytest.LogCaptureFixture) -> None:
    LoopWatchdog({})._report()
    assert caplog.messages == []
