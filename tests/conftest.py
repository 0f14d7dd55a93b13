"""What all tests share: no call of ours may block the loop, and a clock that can be put forward."""

import time
from collections.abc import Iterator

import pytest
from blockbuster import blockbuster_ctx


@pytest.fixture(autouse=True)
def nothing_blocks_the_loop() -> Iterator[None]:
    """Fail the test when code below a function of ours blocks an event loop."""
    with blockbuster_ctx("streamapp"):
        yield


class Clock:
    """Put `time.monotonic` forward, and with it every deadline, the loop's timers included."""

    def __init__(self) -> None:
        self._real = time.monotonic
        self._ahead_s = 0.0

    def __call__(self) -> float:
        """Return the time as `time.monotonic` does."""
        return self._real() + self._ahead_s

    def advance(self, seconds: float) -> None:
        """Let `seconds` pass."""
        self._ahead_s += seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(time, "monotonic", clock)
    return clock
