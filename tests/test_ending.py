"""The end of the process in bounded time; what comes after it is tried in processes of their own."""

import asyncio
import atexit
import os
import signal
import subprocess
import sys
import textwrap
import threading
from typing import Any

import pytest
from tests.waiting import WAIT_S

from streamapp.process import ending
from streamapp.process.ending import LastResort, close_loop, end_process, leave_by


class Ended(BaseException):
    """Stands for the end of the process."""


@pytest.fixture
def exits(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Note the exit codes instead of ending."""
    codes: list[int] = []

    def leave(code: int) -> None:
        codes.append(code)
        raise Ended

    monkeypatch.setattr(os, "_exit", leave)
    monkeypatch.setattr(atexit, "_run_exitfuncs", lambda: None)
    monkeypatch.setattr(ending.faulthandler, "dump_traceback_later", lambda *_, **__: None)  # type: ignore[attr-defined]
    return codes


def test_the_end_is_told_and_has_the_code(exits: list[int], caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(Ended):
        end_process(7, "why")
    assert (exits, caplog.messages) == ([7], ["why"])


def test_a_signal_with_the_programs_own_handler_is_left_to_it(exits: list[int]) -> None:
    heard: list[int] = []
    before = signal.signal(signal.SIGTERM, lambda number, frame: heard.append(number))
    try:
        leave_by(signal.SIGTERM)
    finally:
        signal.signal(signal.SIGTERM, before)
    assert heard == [signal.SIGTERM]


def test_of_several_deadlines_the_earliest_counts(monkeypatch: pytest.MonkeyPatch, exits: list[int]) -> None:
    ended: list[int] = []
    told = threading.Event()

    def end(code: int, why: str) -> None:
        ended.append(code)
        told.set()

    monkeypatch.setattr(ending, "end_process", end)
    last = LastResort()
    last.arm(WAIT_S, 1)
    last.arm(0.05, 2)
    last.arm(WAIT_S, 3)
    assert told.wait(WAIT_S)
    assert ended == [2]


def test_a_process_that_goes_on_is_let_live(exits: list[int]) -> None:
    for seconds in (0.01, WAIT_S):
        last = LastResort()
        last.arm(seconds, 1) if seconds == WAIT_S else None
        last.disarm()
    for thread in threading.enumerate():
        if thread.name == "last-resort":
            thread.join(WAIT_S)
            assert not thread.is_alive()
    assert exits == []


def run(code: str, **options: Any) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-c", textwrap.dedent(code)]
    return subprocess.run(command, capture_output=True, text=True, timeout=WAIT_S, check=False, **options)


def test_atexit_runs_before_the_signal_ends_the_process() -> None:
    ended = run(
        """
        import atexit, signal
        from streamapp.process.ending import leave_by
        atexit.register(print, "atexit")
        leave_by(signal.SIGTERM)
        """
    )
    assert (ended.stdout, ended.returncode) == ("atexit\n", -signal.SIGTERM)


@pytest.mark.parametrize(
    ("hanging", "code"),
    [("time.sleep(3600)", 9), ("re.match('(a+)+$', 'a' * 60 + 'b')", 1)],
    ids=["a wait", "what keeps the GIL"],
)
def test_the_last_resort_ends_what_hangs(hanging: str, code: int) -> None:
    ended = run(
        f"""
        import atexit, re, time
        from streamapp.process.ending import LastResort
        atexit.register(time.sleep, 3600)
        LastResort().arm(0.1, 9)
        {hanging}
        """
    )
    assert ended.returncode == code
    assert "does not come to an end by itself" in ended.stderr or "Timeout" in ended.stderr


async def swallow() -> None:
    while True:
        try:
            await asyncio.sleep(WAIT_S)
        except asyncio.CancelledError:
            pass


@pytest.mark.parametrize("is_stubborn", [False, True])
def test_a_loop_is_closed_whatever_is_left_on_it(
    is_stubborn: bool, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(ending, "_CLOSE_S", 0.05)
    loop = asyncio.new_event_loop()
    task = loop.create_task(swallow() if is_stubborn else asyncio.sleep(WAIT_S))
    loop.call_soon(loop.stop)
    loop.run_forever()
    close_loop(loop)
    assert loop.is_closed()
    assert task.cancelled() is not is_stubborn
    assert caplog.messages == (["tasks of the app's do not end; they are left behind"] if is_stubborn else [])
    task._log_destroy_pending = False  # type: ignore[attr-defined]  # asyncio would tell of it again


def test_an_empty_loop_is_closed() -> None:
    loop = asyncio.new_event_loop()
    close_loop(loop)
    assert loop.is_closed()


def test_where_no_thread_can_be_had_the_end_comes_all_the_same(
    exits: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    def start(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", start)
    with pytest.raises(Ended):
        end_process(7)
    assert exits == [7]
