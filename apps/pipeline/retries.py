"""Try again what has failed, later and later, and deliver nothing twice.

What is tried again streams: it has delivered some items when it fails. Begun anew it would deliver them once more, so
each new run is told how many there were, and goes on behind them.
"""

import logging
import random
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from typing import TypeVar

from streamapp import Pause, current_stream
from streamapp.errors import ErrorReport, describe

logger = logging.getLogger("streamapp.pipeline")

_LONGEST_S = 60.0
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Backoff:
    """Say how often something is tried again, and when: after a second, after two, after four.

    Args:
        max_retries: runs behind the first one, whether or not they come further than it.
        delay_s: before the first of them, twice as long before each next one, a minute at most. Of each up to a half is
            taken off at random, so that those that failed together do not come back together.
    """

    max_retries: int = 3
    delay_s: float = 1.0

    def before(self, attempt: int) -> float:
        """Return the seconds to wait before the retry of this number, from 1."""
        longest_s = min(_LONGEST_S, self.delay_s * 2.0 ** (attempt - 1))
        return longest_s * random.uniform(0.5, 1)


@dataclass(frozen=True, slots=True)
class Retry:
    """Tell that a run has failed, and that there will be another.

    Attributes:
        attempt: which retry that will be, from 1.
        report: what may be told of the error. Not the error itself: its traceback would hold tensors meanwhile.
        error_type: the name of its class.
        delay_s: when it will be.
    """

    attempt: int
    report: ErrorReport
    error_type: str
    delay_s: float


def retrying(
    run: Callable[[int], Iterator[T]], backoff: Backoff, *, where: str
) -> Generator[T | Retry | Pause, None, None]:
    """Yield what a run yields; where it fails a `Retry`, a pause, and what the next run yields behind that.

    The pause leaves the inference thread to other jobs, and ends with the job. What no run helps against, and
    `Cancelled`, pass at once; so does the last run's error.

    Args:
        run: begins anew, behind as many items as it is told were delivered. A run that makes the same items each time,
            and never pauses, need not know how: `lambda delivered: islice(make(), delivered, None)`.
        where: what it is, for the log and the callers.
    """
    delivered = attempt = 0
    items: Iterator[T] | None = None
    try:
        while True:
            try:
                if items is None:
                    items = run(delivered)
                item = next(items)
            except StopIteration:
                return
            except Exception as error:
                report = describe(error, where=where)
                if attempt == backoff.max_retries or not is_retryable(error, report):
                    raise
                _close(items)
                attempt += 1
                items, delay_s = None, backoff.before(attempt)
                logger.warning("%s failed; retry %d in %.1f s", named(where), attempt, delay_s, exc_info=error)
                retry = Retry(attempt, report, type(error).__name__, delay_s)
            else:
                delivered += not isinstance(item, Pause)
                yield item  # outside of what is tried: an error of the reader's is none of the run
                continue
            yield retry
            yield Pause.lasting(retry.delay_s)
    finally:
        _close(items)


def named(where: str) -> str:
    """Return what the log calls it: with the job, where one runs here."""
    try:
        return f"{where} of job {current_stream().job_id}"
    except LookupError:
        return where


def is_retryable(error: Exception, report: ErrorReport) -> bool:
    """Tell whether another try may help: connections, time, a full GPU, and what says so of itself."""
    return report.retryable or isinstance(error, ConnectionError | TimeoutError)


def _close(items: Iterator[object] | None) -> None:
    close = getattr(items, "close", None)
    if close is not None:
        close()
