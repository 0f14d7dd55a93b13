"""Count the sessions under way in one process, of which there may be so many.

A session is one WebSocket of an app's: realtime ones, which are jobs, and those that methods get themselves. Most of
the time they do nothing, so they stand in no queue; but each has its place.
"""

from collections.abc import Callable, Hashable
from typing import NamedTuple, NoReturn

from .errors import SHUTTING_DOWN, Draining, Unavailable

_COME_BACK_S = 5
# One network may have this share of all places, once so many are taken: as of connections.
_NETWORK_SHARE, _CROWDED_SHARE = 0.5, 0.75


class PlacesStatistics(NamedTuple):
    """Describe the sessions at one moment."""

    #: how many there are, by the app's name and "realtime", "websocket" or "webrtc"
    taken: dict[tuple[str, str], int]
    #: sessions refused because there were too many
    refused: int


class Places:
    """Hold a process's sessions. On the loop, but for `leave`, which any thread may call.

    Args:
        most: how many there may be.
        is_open: anybody may come, without a key: then one network may not take all.
    """

    def __init__(self, most: int, *, is_open: bool = False) -> None:
        self.most = most
        self._is_open = is_open
        self._taken: dict[Hashable, tuple[str, str, str, Callable[[], None] | None]] = {}
        self._refused = 0
        self._is_draining = False

    def __len__(self) -> int:
        return len(self._taken)

    def check(self, network: str = "") -> None:
        """Raise where no place can be had now: for a handshake, before its session is made.

        Raises:
            Unavailable: all are taken, or one network has half of them, and the others are nearly taken.
            Draining: none is given any more.
        """
        if self._is_draining:
            raise Draining(SHUTTING_DOWN)
        if len(self._taken) >= self.most:
            self._refuse(f"all {self.most} places of sessions are taken (STREAMAPP_MAX_SESSIONS); connect again later")
        is_crowded = len(self._taken) >= self.most * _CROWDED_SHARE
        if network and self._is_open and is_crowded:  # only then are they worth counting
            held = sum(network == other for _, _, other, _ in list(self._taken.values()))
            if held >= self.most * _NETWORK_SHARE:
                self._refuse(
                    f"your address has half of all {self.most} places of sessions, and the others are nearly taken; "
                    "end some first"
                )

    def _refuse(self, says: str) -> NoReturn:
        self._refused += 1
        raise Unavailable(says, retry_after_s=_COME_BACK_S)

    def take(
        self, holder: Hashable, *, app: str, kind: str, network: str = "", end: Callable[[], None] | None = None
    ) -> None:
        """Take a place until `leave`; raises as `check` does.

        Args:
            kind: "realtime", "websocket", or "webrtc" of who has yet to say which session it wants.
            network: where it comes from; "" of who has no share, as this machine, or a caller with a name.
            end: called on the loop when a drain begins; what has none hears of it by its job.
        """
        self.check(network)
        self._taken[holder] = (app, kind, network, end)

    def leave(self, holder: Hashable) -> None:
        """Give a place back; again is without effect."""
        self._taken.pop(holder, None)

    def begin_drain(self) -> None:
        """Give no more places, and have those end that asked to be told; again is without effect."""
        if self._is_draining:
            return
        self._is_draining = True
        for _, _, _, end in list(self._taken.values()):
            if end is not None:
                end()

    def statistics(self) -> PlacesStatistics:
        """Return the figures."""
        taken: dict[tuple[str, str], int] = {}
        for app, kind, _, _ in list(self._taken.values()):
            taken[app, kind] = taken.get((app, kind), 0) + 1
        return PlacesStatistics(taken, self._refused)
