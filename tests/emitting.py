"""What tests of the channel and of its parts share: producers in threads, readers that sleep."""

import asyncio
import sys
import threading
import traceback
from collections.abc import Callable
from typing import Any

import pytest
from tests.waiting import WAIT_S

from streamapp.errors import ErrorReport
from streamapp.jobs.channel import Channel
from streamapp.jobs.events import Event, to_event
from streamapp.jobs.subscriber import Subscriber
from streamapp.settings import Settings

Advance = Callable[[float], None]
STOPPED = ErrorReport(499, "cancelled", "the job was cancelled")


def channel_with(*, awaits_owner: bool = False, **bounds: Any) -> Channel:
    return Channel(Settings(**bounds), awaits_owner=awaits_owner)


def put(channel: Channel, *values: Any, waits: bool = False) -> None:
    """Emit, as it may be done on the loop: without waiting."""
    for value in values:
        channel.emit(to_event(value), waits=waits)


def numbers(events: list[Event]) -> list[int]:
    return [event.n for event in events]


def payloads(events: list[Event]) -> list[Any]:
    return [event.json() for event in events]


class Producer(threading.Thread):
    """Run `work` in a thread and keep what it raised."""

    def __init__(self, work: Callable[[], Any]) -> None:
        super().__init__(daemon=True)
        self.work = work
        self.raised: BaseException | None = None
        self.start()

    def run(self) -> None:
        try:
            self.work()
        except BaseException as error:
            self.raised = error

    @property
    def waits(self) -> bool:
        """Say whether the thread is inside `Condition.wait`."""
        stack = traceback.walk_stack(sys._current_frames().get(self.ident or 0))
        return any(frame.f_code is threading.Condition.wait.__code__ for frame, _ in stack)


async def until(condition: Callable[[], bool]) -> None:
    for _ in range(int(WAIT_S / 0.001)):
        if condition():
            return
        await asyncio.sleep(0.001)
    raise AssertionError("it did not happen")


async def asleep(reader: Subscriber, deliver: Callable[[list[Event]], bool] | None = None) -> "asyncio.Task[bool]":
    """Return a task in which the reader sleeps."""
    task = asyncio.create_task(reader.wait(WAIT_S, deliver))
    await asyncio.sleep(0)
    return task


def count_wake_ups(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Return the list of what comes to the running loop from other threads."""
    loop, calls = asyncio.get_running_loop(), []
    call_soon_threadsafe = loop.call_soon_threadsafe

    def counted(*args: Any, **kwargs: Any) -> Any:
        calls.append(args)
        return call_soon_threadsafe(*args, **kwargs)

    monkeypatch.setattr(loop, "call_soon_threadsafe", counted)
    return calls


def into(delivered: list[Any], *, takes: bool = True) -> Callable[[list[Event]], bool]:
    """Return what takes events, or refuses them."""

    def deliver(events: list[Event]) -> bool:
        delivered.extend(payloads(events) if takes else [])
        return takes

    return deliver


def names(events: list[Event]) -> list[str]:
    return [event.name for event in events]
