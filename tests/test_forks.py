"""What a forked child has of the server: none of its sockets, and signals that end it. It becomes no second one."""

import asyncio
import os
import signal
import socket
import sys
from collections.abc import Callable
from typing import Any

import pytest

from streamapp.process.forks import ending_forks, held_here, looping_here


def in_child(work: Callable[[], int]) -> int:
    """Fork; return the exit code of the child, which is what `work` returns there."""
    child = os.fork()
    if child == 0:
        code = 99
        try:
            code = work()
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def test_a_child_has_none_of_the_descriptors_and_their_numbers_stay_taken() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener, held_here(lambda: [listener.fileno(), -1]):
        kept = os.fstat(listener.fileno())

        def work() -> int:
            held = os.fstat(listener.fileno())
            return int(os.path.samestat(held, kept)) or int(not os.path.samestat(held, os.stat(os.devnull)))

        assert in_child(work) == 0
        assert os.path.samestat(os.fstat(listener.fileno()), kept)


def test_a_child_is_ended_by_signals_as_any_process_is() -> None:
    before = signal.signal(signal.SIGTERM, lambda *_: None)
    try:
        with held_here(list):

            def work() -> int:
                os.kill(os.getpid(), signal.SIGTERM)
                return 1

            assert in_child(work) == -signal.SIGTERM
            assert signal.pthread_sigmask(signal.SIG_BLOCK, []) == set()
    finally:
        signal.signal(signal.SIGTERM, before)


def test_a_child_of_a_process_that_serves_nothing_is_left_alone() -> None:
    before = signal.signal(signal.SIGTERM, signal.SIG_IGN)
    try:
        with held_here(list):
            pass

        def work() -> int:
            os.kill(os.getpid(), signal.SIGTERM)
            return 5

        assert in_child(work) == 5
    finally:
        signal.signal(signal.SIGTERM, before)


def leave(code: Any) -> None:
    sys.exit(code)


def fail(code: Any) -> None:
    raise ValueError(code)


@pytest.mark.parametrize(
    ("end", "code", "expected"),
    [(leave, 7, 7), (leave, None, 0), (leave, "a message", 1), (fail, None, 1), (int, 0, 0)],
)
def test_a_child_that_comes_out_of_an_endpoint_ends(end: Callable[[Any], Any], code: Any, expected: int) -> None:
    child = -1
    with ending_forks():
        child = os.fork()
        if child == 0:
            end(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == expected


@pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt()])
def test_in_the_process_itself_errors_go_on(error: BaseException) -> None:
    with pytest.raises(type(error)), ending_forks():
        raise error


def test_a_child_that_comes_back_to_the_loop_it_was_forked_on_ends() -> None:
    async def fork() -> int:
        child = os.fork()
        if child == 0:
            await asyncio.sleep(0)
            os._exit(99)
        return child

    loop = asyncio.new_event_loop()
    with looping_here(loop):
        child = loop.run_until_complete(fork())
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    loop.close()
