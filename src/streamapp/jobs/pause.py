"""Let an iterator say that it has nothing yet, where jobs take turns: others go on meanwhile, and nothing is emitted.

What a language model makes for many readers takes a step for all of them. Who asks before there is something for it
could wait for several: until its prompt is read, or a place is free.
"""

from contextvars import ContextVar
from typing import Any

_takes_turns: ContextVar[bool] = ContextVar("streamapp_takes_turns", default=False)


class Pause(dict[str, Any]):
    """Stand in the place of an item that is not there yet.

    It is a dict, with what the iterator's items have and nothing in it: code between the iterator and the worker may
    take it for one.
    """


def enter_turns() -> None:
    """Let what runs in this context pause; called by a worker whose jobs take turns."""
    _takes_turns.set(True)


def takes_turns() -> bool:
    """Say whether what runs in this context takes turns with others, and so may pause."""
    return _takes_turns.get()
