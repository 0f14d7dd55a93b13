"""The cases: one module each, in the order in which they run and are shown."""

from collections.abc import Mapping
from typing import Protocol

from ..figures import Figure
from ..servers import MODELS, PEERS, QUEUES, SOCKETS, Peer, Served
from . import (
    broadcast,
    cancel,
    deaf,
    idle,
    inference,
    litserve_script,
    llm,
    many_streams,
    one_stream,
    previews,
    realtime,
    runpod,
    sigterm,
    startup,
    thousands,
)


class Case(Protocol):
    """What a case's module holds.

    Attributes:
        FIGURES: what it measures, a column of its table each.
        NEEDS_FRESH_SERVER: what ran before would change the figures.
    """

    TITLE: str
    FIGURES: dict[str, Figure]
    NEEDS_FRESH_SERVER: bool

    def measure(self, served: Served, *, is_quick: bool) -> dict[str, float]:
        """Measure one round."""


CASES: dict[str, Case] = {
    "one_stream": one_stream,
    "litserve_script": litserve_script,
    "many_streams": many_streams,
    "thousands": thousands,
    "previews": previews,
    "cancel": cancel,
    "deaf": deaf,
    "sigterm": sigterm,  # ends the server; the only one after it that takes the same server needs no answers
    "idle": idle,
    "inference": inference,
    "startup": startup,
    "runpod": runpod,
    "broadcast": broadcast,
    "realtime": realtime,
    "llm": llm,
}
#: a case that has peers of its own is run when it is named
BY_NAME = {"llm"}
_SERVED_BY = {
    "llm": MODELS,
    "runpod": QUEUES,
    "broadcast": SOCKETS,
    "realtime": {name: peer for name, peer in SOCKETS.items() if name != "broadcaster"},
}


def peers_of(case: str) -> Mapping[str, Peer]:
    """Return the servers that a case measures."""
    return _SERVED_BY.get(case, PEERS)
