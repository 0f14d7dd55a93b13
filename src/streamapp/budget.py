"""Bound the bytes that the inputs of all requests take together, and those of one caller: half of that.

A `Share` is one request's: it grows as the body comes, as media are fetched and as JSON is read, and is given back when
the request is answered and its job has let go of its arguments. Nothing is reserved for what is only announced.
"""

from collections import deque
from collections.abc import Callable, Hashable

from .errors import PayloadTooLarge, Unavailable

#: is told of bytes before they are kept, and may refuse them
Take = Callable[[int], None]
#: in the scope of a request: its `Share`
SHARE = "streamapp.share"
_RETRY_AFTER_S = 5
_SETTING = "STREAMAPP_MAX_INPUT_BYTES"


def uncounted(size: int) -> None:
    """Take bytes of an input that no request has brought."""


class Budget:
    """Count bytes; on the loop, but that a holder may let go of a share in any thread.

    Args:
        most: for all callers together.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._by_payer: dict[str, int] = {}
        self._used = 0
        # Appended to in any thread, also by a finalizer in the midst of this: no lock would do.
        self._gone: deque[tuple[Share, Hashable]] = deque()

    @property
    def used(self) -> int:
        """Return the bytes that are in use."""
        self._collect()
        return self._used

    def share(self, payer: str, holder: Hashable) -> "Share":
        """Return a request's share of it, without a byte in it yet, for a first holder."""
        return Share(self, payer, holder)

    def _collect(self) -> None:
        while self._gone:
            share, holder = self._gone.popleft()
            share.holders.discard(holder)
            if share.size and not share.holders:
                self._add(share, -share.size)

    def _take(self, share: "Share", size: int) -> None:
        self._collect()
        if not share.holders:  # nobody keeps what is left of a body that was not read
            return
        most, of_payer = self._most // 2, self._by_payer.get(share.payer, 0)
        if share.size + size > most:
            raise PayloadTooLarge(
                f"the input takes more than {most} bytes, with its media and its values: half of {_SETTING}"
            )
        if of_payer + size > most:
            raise Unavailable(
                f"your other requests hold {of_payer - share.size} bytes of inputs, and one caller may hold {most}: "
                f"half of {_SETTING}; send this one again when one of them has ended",
                retry_after_s=_RETRY_AFTER_S,
            )
        if self._used + size > self._most:
            raise Unavailable(
                f"the inputs of all requests hold {self._used} of {self._most} bytes ({_SETTING}); send it again later",
                retry_after_s=_RETRY_AFTER_S,
            )
        self._add(share, size)

    def _add(self, share: "Share", size: int) -> None:
        share.size += size
        self._used += size
        left = self._by_payer.pop(share.payer, 0) + size
        if left:
            self._by_payer[share.payer] = left


class Share:
    """Hold what one request has taken of a budget.

    Attributes:
        payer: whose they are: a caller, or an address.
        holders: who keeps what it is for; when none is left, the bytes are given back.
    """

    __slots__ = ("_budget", "holders", "payer", "size")

    def __init__(self, budget: Budget, payer: str, holder: Hashable) -> None:
        self._budget = budget
        self.payer = payer
        self.holders = {holder}
        self.size = 0

    def take(self, size: int) -> None:
        """Take more bytes.

        Raises:
            PayloadTooLarge: this request alone would have more than a caller may.
            Unavailable: there are none left for the caller, or for anybody.
        """
        self._budget._take(self, size)

    def give_back(self, size: int) -> None:
        """Take so many bytes less, of those that were taken: what a session had of an input. On the loop."""
        if self.size:  # else all of them are given back already
            self._budget._add(self, -size)

    def let_go(self, holder: Hashable) -> None:
        """Say that a holder keeps nothing of it any more; again is without effect. In any thread."""
        if self.size:
            self._budget._gone.append((self, holder))
        else:  # as most are; a job is a holder only of what has some
            self.holders.discard(holder)
