"""What tests share: no call of ours may block the loop, a clock that can be put forward, a server of raw bytes."""

import signal
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from blockbuster import blockbuster_ctx
from tests.scripted_server import Serve, serving

from streamapp.events import Event


@pytest.fixture(autouse=True, scope="session")
def nothing_blocks_the_loop() -> Iterator[None]:
    """Fail a test in which code below a function of ours blocks an event loop."""
    with blockbuster_ctx("streamapp"):
        yield


@pytest.fixture(autouse=True, scope="session")
def children_hear_ctrl_c() -> None:
    """Give started processes the usual SIGINT: a shell that runs the tests in the background has them ignore it."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture
def advance(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Put `time.monotonic` forward by some seconds, and with it every deadline, the loop's timers included."""
    real, passed = time.monotonic, [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: real() + sum(passed))
    return passed.append


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Start a server that plays answers as they are written down."""
    with serving() as start:
        yield start


Interrupting = Callable[[Callable[[], None]], Event]


@pytest.fixture
def interrupted_by() -> Interrupting:
    """Make an event in the midst of whose emission the garbage collector runs a finalizer."""

    def interrupted_by(finalizer: Callable[[], None]) -> Event:
        class Interrupted(Event):
            @property
            def kind(self) -> Any:
                finalizer()
                return "output"

            @kind.setter
            def kind(self, kind: str) -> None: ...

        return Interrupted("output", b"1")

    return interrupted_by
