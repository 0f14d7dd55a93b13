"""Let an iterator say that it has nothing yet: nothing is emitted, and where jobs take turns others go on meanwhile.

What a language model makes for many readers takes a step for all of them. Who asks before there is something for it
could wait for several: until its prompt is read, or a place is free. Who tries again what has failed, or asks another
server again and again, knows how long there will be nothing: it has no turn for so long, and the thread is not its own.
"""

from contextvars import ContextVar
from typing import Any, Self

_takes_turns: ContextVar[bool] = ContextVar("streamapp_takes_turns", default=False)


class Pause(dict[str, Any]):
    """Stand in the place of an item that is not there yet: `yield streamapp.Pause.lasting(2)` waits for two seconds.

    It is a dict, with what the iterator's items have and nothing in it: code between the iterator and the worker may
    take it for one.

    Attributes:
        for_s: for how long the iterator is not asked again. The job's end is heard at once meanwhile.
    """

    for_s: float = 0.0

    @classmethod
    def lasting(cls, for_s: float) -> Self:
        """Return one of so many seconds, in which jobs that take turns with this one go on."""
        pause = cls()
        pause.for_s = for_s
        return pause


def enter_turns() -> None:
    """Let what runs in this context pause; called by a worker whose jobs take turns."""
    _takes_turns.set(True)


def takes_turns() -> bool:
    """Say whether what runs in this context takes turns with others, and so may pause."""
    return _takes_turns.get()
