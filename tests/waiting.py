"""How long tests wait: the one place for limits that end a test which hangs, and decide nothing else.

They are a hundred times what a wait takes on a machine that does nothing else, so that neither a slow nor a busy one
comes near them. `timeout` in pyproject.toml, which ends whatever waits elsewhere, is longer than `WAIT_S`.
"""

import time
from collections.abc import Callable

WAIT_S = 120.0
# For what is long by itself: a browser, npm, a thousand cut connections, a training.
LONG_S = 1200.0


def until(is_true: Callable[[], bool]) -> None:
    """Wait for a condition that nothing tells of: one of another process."""
    deadline = time.monotonic() + WAIT_S
    while not is_true():
        assert time.monotonic() < deadline, "the condition did not come true in time"
        time.sleep(0.01)
