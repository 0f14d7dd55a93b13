"""Define what a call asks of its shell, and how it waits before it tries again; knows no sockets.

A call is a generator: it yields steps, is sent what came of each, and returns its value. `_client.py` performs the
steps over blocking connections, `_async_client.py` over asynchronous ones; all that is decided is decided here,
in `_stream.py` and in `_calls.py`, once.
"""

import math
import random
import time
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

import httpx

from ._errors import DeadlineExceeded
from ._models import Event

_FIRST_WAIT_S = 0.1
_LONGEST_WAIT_S = 5.0
_LEAST_S = 0.001  # of waits that a server asked to be none, and of timeouts: 0 would make a socket not wait at all
# A server that cannot be reached at all is more often a wrong address than one about to come up.
_CONNECT_PATIENCE_S = 2.0


@dataclass(frozen=True, slots=True)
class Send:
    """Send a request; gives the `httpx.Response`, whose body has been read only if its status is an error."""

    method: str
    path: str
    headers: Mapping[str, str] = field(default_factory=dict)
    content: bytes | None = None
    read_s: float = 45.0


@dataclass(frozen=True, slots=True)
class Read:
    """Read on in the last answer; gives the next bytes, None at the end.

    Attributes:
        read_s: how long to wait, where that is another time than its request had.
    """

    read_s: float | None = None


@dataclass(frozen=True, slots=True)
class Rest:
    """Wait, so long at most, until there is room for the next event of a session; gives whether there is."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Sleep:
    """Wait."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Tell:
    """Call the user's function; an asynchronous shell awaits what it returns."""

    callback: Callable[[Any], Any]
    value: Any


T = TypeVar("T")
Step = Send | Read | Rest | Sleep | Tell | Event
Call = Generator[Step, Any, T]


class Deadline:
    """Hold a call to its time.

    Args:
        timeout_s: what the caller gave; None is without limit.
    """

    def __init__(self, timeout_s: float | None = None) -> None:
        self._timeout_s = math.inf if timeout_s is None else timeout_s
        self._ends_at = time.monotonic() + self._timeout_s

    def within(self, seconds: float) -> float:
        """Return `seconds`, or what is left where that is less."""
        return max(_LEAST_S, min(seconds, self._ends_at - time.monotonic()))

    def check(self, what: str, job_id: str | None = None) -> None:
        """Raise DeadlineExceeded when the time has passed."""
        if time.monotonic() >= self._ends_at:
            subject = what if job_id is None else f"job {job_id}"
            raise DeadlineExceeded(f"{subject} did not end within timeout_s={self._timeout_s:g}", job_id=job_id)


@dataclass(slots=True)
class Reach:
    """Remember whether the server has ever answered; the calls of a client share it."""

    is_proven: bool = False


class Patience:
    """Decide how long to wait before the next try, and when to give up.

    The waits grow twofold from 0.1 s, or from the server's `retry:`, up to 5 s, and each is drawn from 0 up to that
    ("full jitter"): clients that lost the same server come back spread out.
    Source: https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/

    Args:
        seconds: how long to go on trying without any progress.
        reach: whether the server has answered before.
        clock: seconds that rise.
        draw: a number between its two arguments.
    """

    def __init__(
        self,
        seconds: float,
        reach: Reach | None = None,
        *,
        clock: Callable[[], float] = time.monotonic,
        draw: Callable[[float, float], float] = random.uniform,
    ) -> None:
        self._seconds = seconds
        self._reach = reach or Reach()
        self._clock = clock
        self._draw = draw
        self._failing_since: float | None = None
        self._answered_at = 0.0
        self._tries = 0
        self._longest_s = _LONGEST_WAIT_S

    def shorten(self, longest_s: float) -> None:
        """Let the waits grow up to so long only: less than ever."""
        self._longest_s = min(longest_s, _LONGEST_WAIT_S)

    def answered(self) -> None:
        """Take note of an answer's beginning."""
        self._reach.is_proven = True
        self._answered_at = self._clock()

    def heard(self) -> None:
        """Take note of a sign of life, which is progress where the connection outlives the longest wait."""
        if self._clock() - self._answered_at > _LONGEST_WAIT_S:
            self.renew()

    def renew(self) -> None:
        """Take note of progress."""
        self._failing_since, self._tries = None, 0

    def wait_s(
        self, error: Exception | None, *, retry_ms: int | None = None, retry_after: float | None = None
    ) -> float | None:
        """Return how long to wait after a failure; None when the patience is spent.

        Args:
            error: what failed; None for a stream that ended before its job.
            retry_ms: the reconnection time that the server asked for.
            retry_after: how long it said, in seconds, that it will refuse.
        """
        now = self._clock()
        if self._failing_since is None:
            self._failing_since = now
        first_s = _FIRST_WAIT_S if retry_ms is None else max(_LEAST_S, retry_ms / 1000)
        wait = self._draw(0, min(max(self._longest_s, first_s), first_s * 2.0 ** min(self._tries, 100)))
        self._tries += 1
        wait += retry_after or 0
        is_new = (
            isinstance(error, httpx.ConnectError | httpx.ConnectTimeout | httpx.ProxyError)
            and not self._reach.is_proven
        )
        limit = min(self._seconds, _CONNECT_PATIENCE_S) if is_new else self._seconds
        return wait if now + wait - self._failing_since < limit else None
