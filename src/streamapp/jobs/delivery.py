"""Serve throughput: who has the processor now, the producer or the loop, and who is served past its own task.

Nothing here decides what a reader gets, nor in which order: without this module every event would come once and in
order as well, later or at a higher cost.

- The producer waits a moment until its first event is sent, and gives the GIL up after a wake-up (`Turns`).
- A sleeping reader gets an event that comes alone from where it was emitted (`Delivery`).
- A reader that took in bulk lets events pile up before it takes again (`Delivery.rest`).
"""

import asyncio
import threading
import time
from collections.abc import Callable
from typing import TypeAlias

from .events import Event

# A tight producer holds the GIL and starves the loop that it has just woken. Giving the GIL up after a wake-up, at most
# this often, costs no throughput.
_YIELD_EVERY_S = 0.001
# At the very first event that is too little: the loop has several system calls to make until it is sent, and waits for
# the GIL after each. The producer waits for the first reader instead, at most this long: on a loaded machine the first
# event comes after 2 ms instead of 6.
_FIRST_SENT_S = 0.002
# A sleeping reader gets an event that comes alone from where it was emitted, without a turn of the loop for its task.
# What follows sooner than this goes by way of the task, and so in one piece with all that has piled up by then.
_DELIVER_EVERY_S = 0.001
# A reader that took this many at once is behind a producer that does not pause. Each time it asks again the two hand
# the GIL over, from core to core, which costs more than the events that have come: it lets them pile up first. A stream
# of 200 000 took a third of the processor time less, and 1 400 switches of threads instead of 5 400.
BULK = 32
_REST_S = 0.001

Deliver: TypeAlias = Callable[[list[Event]], bool]


class Turns:
    """Give the loop its turn, where a producer would keep it from running.

    No lock guards this: a reference is read and written in one piece, and what is read too late costs a moment, as
    every wait here has an end of its own. Producers make `first_sent` and let go of it; readers set it.

    Attributes:
        first_sent: there while a producer waits until its first event is sent.
    """

    __slots__ = ("_yielded_at", "first_sent")

    def __init__(self) -> None:
        self.first_sent: threading.Event | None = None
        self._yielded_at = time.monotonic()

    def await_first_sent(self) -> None:
        """Have the next `give_way` wait until a reader has sent the first event."""
        self.first_sent = threading.Event()

    def tell_sent(self) -> None:
        """Let the producer go on: a reader has sent its first event."""
        first_sent = self.first_sent
        if first_sent is not None:
            first_sent.set()

    def give_way(self) -> None:
        """Give the GIL up, so that the loop can run; in the producer's thread, without the lock."""
        first_sent = self.first_sent
        if first_sent is not None:
            first_sent.wait(_FIRST_SENT_S)
            self.first_sent = None
        elif (now := time.monotonic()) - self._yielded_at > _YIELD_EVERY_S:
            self._yielded_at = now
            time.sleep(0)

    def owes_a_turn(self) -> bool:
        """Say whether the loop is due, where nobody sleeps: readers cannot run while a producer awaits nothing else."""
        return time.monotonic() - self._yielded_at > _YIELD_EVERY_S

    async def give_turn(self) -> None:
        """Give the loop a turn, from a producer that runs on it."""
        await asyncio.sleep(0)
        self._yielded_at = time.monotonic()


class Delivery:
    """Serve one reader past its task, while that sleeps; on the loop.

    Attributes:
        deliver: takes events while the reader sleeps on, where its task has given such a thing.
        served_at: when the reader was served last, or went to sleep.
        refused: what could not be delivered at once; the task gets it, before anything newer.
        is_behind: the reader took in bulk when it took last.
    """

    __slots__ = ("deliver", "is_behind", "refused", "served_at")

    def __init__(self) -> None:
        self.deliver: Deliver | None = None
        self.served_at = 0.0
        self.refused: list[Event] | None = None
        self.is_behind = False

    def is_due(self, waiter: asyncio.Future[None] | None) -> bool:
        """Say whether what is new is to be delivered now, which then counts as served; else it is left to the task.

        Args:
            waiter: what the task waits for; once that is done, the task has something to take first.
        """
        now = time.monotonic()
        if self.deliver is None or now - self.served_at < _DELIVER_EVERY_S or waiter is None or waiter.done():
            return False
        self.served_at = now
        return True

    async def rest(self, waiter: asyncio.Future[None]) -> None:
        """Let events pile up for a moment, unless something ends the wait before."""
        timer = asyncio.get_running_loop().call_later(_REST_S, end_wait, waiter)
        try:
            await waiter
        finally:
            timer.cancel()


def end_wait(waiter: asyncio.Future[None] | None) -> None:
    """End a wait, where there is one that goes on."""
    if waiter is not None and not waiter.done():
        waiter.set_result(None)
