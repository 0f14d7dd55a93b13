"""The handle on a server that runs beside its caller: the server is what its futures say."""

import os
import threading
from concurrent.futures import Future
from contextlib import suppress

import pytest
from tests.waiting import WAIT_S, until

from streamapp.errors import SetupFailed, StreamAppError
from streamapp.serving import Serving, run_within


class Beside:
    """A server that has begun: its futures, and the handle on it.

    Args:
        ends_with: its exit code, when it is asked to end; None has it go on.
    """

    def __init__(self, *, ends_with: int | None = 0, patience_s: float = WAIT_S) -> None:
        self.ready: Future[None] = Future()
        self.ended: Future[int] = Future()
        self.asked = threading.Semaphore(0)
        self._ends_with = ends_with
        self.serving = Serving(
            "counter", "http://here", ready=[self.ready], ended=self.ended, end=self._end, patience_s=patience_s
        )

    def _end(self) -> None:
        self.asked.release()
        if self._ends_with is not None:
            self.ended.set_result(self._ends_with)

    def fail(self) -> None:
        self.ready.set_exception(SetupFailed("setup of counter failed", trace="in line 3"))


def test_it_says_where_it_serves_and_how_far_it_is() -> None:
    beside = Beside()
    assert repr(beside.serving) == "<Serving counter at http://here: starting>"
    beside.ready.set_result(None)
    assert repr(beside.serving) == "<Serving counter at http://here: ready>"
    beside.serving.stop()
    assert repr(beside.serving) == "<Serving counter at http://here: stopped>"


def test_what_is_told_to_end_is_stopping_until_it_has_ended() -> None:
    beside = Beside(ends_with=None, patience_s=0)
    with pytest.raises(TimeoutError, match="server of counter does not end: code of the app's"):
        beside.serving.stop()
    assert (beside.serving.state, beside.serving.is_over) == ("stopping", False)
    beside.ended.set_result(0)
    assert (beside.serving.state, beside.serving.is_over) == ("stopped", True)


def test_a_process_that_was_forked_from_the_servers_neither_stops_it_nor_waits_for_it() -> None:
    beside = Beside(ends_with=None)
    child = os.fork()
    if child == 0:
        with suppress(BaseException):
            beside.serving.stop()
            with pytest.raises(StreamAppError, match="is that of the process which this one was forked from"):
                beside.serving.wait_ready()
            os._exit(0 if not beside.asked.acquire(blocking=False) else 1)
        os._exit(2)
    until(lambda: os.waitpid(child, os.WNOHANG) == (child, 0))


def test_what_ends_by_itself_has_failed() -> None:
    beside = Beside()
    beside.ended.set_result(0)
    beside.serving.stop()
    assert beside.serving.state == "failed"
    assert not beside.asked.acquire(blocking=False)


def test_an_end_that_is_out_of_order_is_a_failure() -> None:
    code, raises = Beside(ends_with=70), Beside(ends_with=None, patience_s=0)
    code.serving.stop()
    with pytest.raises(TimeoutError):
        raises.serving.stop()
    raises.ended.set_exception(ValueError())
    assert {code.serving.state, raises.serving.state} == {"failed"}


def test_who_waits_hears_why_a_setup_has_failed_as_often_as_is_asked() -> None:
    beside = Beside()
    beside.fail()
    for _ in range(2):
        with pytest.raises(SetupFailed, match="setup of counter failed") as caught:
            beside.serving.wait_ready()
        assert caught.value.__notes__ == ["in line 3"]
    assert beside.serving.state == "failed"


def test_who_waits_hears_of_an_end_before_the_apps_are_ready() -> None:
    beside = Beside()
    beside.serving.stop()
    with pytest.raises(StreamAppError, match="the server of counter has ended"):
        beside.serving.wait_ready()


def test_a_block_waits_until_the_apps_are_ready_and_stops_the_server() -> None:
    beside = Beside()
    beside.ready.set_result(None)
    with beside.serving as serving:
        assert serving.state == "ready"
    assert serving.is_over


def test_a_block_whose_app_cannot_be_set_up_stops_the_server_and_raises() -> None:
    beside = Beside()
    beside.fail()
    with pytest.raises(SetupFailed), beside.serving:
        pytest.fail("the block was entered")
    assert beside.serving.is_over


async def test_an_async_block_holds_up_no_loop() -> None:
    beside = Beside()
    beside.ready.set_result(None)
    async with beside.serving as serving:
        assert serving.state == "ready"
    assert serving.is_over


async def test_an_async_block_whose_app_cannot_be_set_up_stops_the_server_and_raises() -> None:
    beside = Beside()
    beside.fail()
    with pytest.raises(SetupFailed):
        async with beside.serving:
            pytest.fail("the block was entered")
    assert beside.serving.is_over


def test_code_of_the_server_does_not_wait_for_its_end() -> None:
    beside = Beside(ends_with=None)

    def serve() -> int:
        beside.serving.stop()
        return 7

    served: Future[int] = Future()
    threading.Thread(target=lambda: served.set_result(run_within(serve))).start()
    assert served.result(WAIT_S) == 7
    assert beside.serving.state == "stopping"
