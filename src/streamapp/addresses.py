"""Look hosts up, and tell which addresses are this machine's, the public internet's, or one caller's.

The system is asked (`/etc/hosts`, what nsswitch names, DNS), and such a call cannot be ended: where a nameserver keeps
silent it takes 20 s and more. So each has a thread of its own, for which nobody waits longer than `_ANSWERS_S`. Who
owns a domain can make all its names as slow as they like; these take few of the places that there are.

Divergence: this module uses `threading`, for one lock: look-ups end in their threads, and begin on several loops.
"""

import asyncio
import ipaddress
import socket
import threading
from collections import Counter
from functools import lru_cache
from typing import TYPE_CHECKING

from .errors import Unavailable
from .process.threads import begin_in_own_thread

if TYPE_CHECKING:
    from concurrent.futures import Future

_GLOBAL_UNICAST = ipaddress.ip_network("2000::/3")
# Public for `ipaddress` (Python 3.11.7), but the metadata services of Oracle's and Azure's machines.
_METADATA = (ipaddress.ip_network("192.0.0.0/24"), ipaddress.ip_network("168.63.129.16"))
# glibc asks the second nameserver when the first has said nothing for 5 s.
_ANSWERS_S = 10.0
_MOST = 512  # under way at once: a thread that waits takes 30 kB, and a descriptor
_MOST_OF_DOMAIN = 32
_LOOK_S = 0.05  # for a place


def is_public_address(address: str) -> bool:
    """Tell whether an IP address belongs to the public internet.

    Of IPv6 only global unicast without 6to4 counts: mapped, NAT64 and tunnel addresses carry an IPv4 address
    that may be private.
    """
    ip = ipaddress.ip_address(address)
    if isinstance(ip, ipaddress.IPv6Address):
        return ip in _GLOBAL_UNICAST and ip.is_global and ip.sixtofour is None
    return ip.is_global and not ip.is_multicast and not any(ip in network for network in _METADATA)


def address_in(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """Return the address that a text is, that of IPv4 where IPv6 stands for it; None for a name."""
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address


@lru_cache(maxsize=64)
def is_loopback(host: str) -> bool:
    """Say whether a host is this machine, by an address or by its name."""
    address = address_in(host)
    return host == "localhost" if address is None else address.is_loopback


@lru_cache(maxsize=4096)
def network_of(host: str) -> str:
    """Return as what a host counts where all have their share: an IPv4 address, a /64 of IPv6, which one machine may
    have as a whole; "" for this machine, and for what is no address.
    """
    address = address_in(host)
    if address is None or address.is_loopback:
        return ""
    return str(address) if address.version == 4 else address.packed[:8].hex()


async def look_up(host: bytes) -> list[str]:
    """Return a host's addresses, as the system sorts them.

    Raises:
        TimeoutError: nobody has said in time what they are.
        Unavailable: the places for look-ups are all taken, or those for names of this domain.
        OSError, ValueError: there is no such host.
    """
    try:
        async with asyncio.timeout(_ANSWERS_S):
            while (looking := _look_ups.begin(host)) is None:  # noqa: ASYNC110 - places are given free in threads
                await asyncio.sleep(_LOOK_S)
            return await asyncio.shield(asyncio.wrap_future(looking))
    except TimeoutError:
        if looking is None:
            raise Unavailable("too many names are being looked up; try again", retry_after_s=1) from None
        raise TimeoutError(f"the host's name was looked up for {_ANSWERS_S:g} s without an answer") from None
    except socket.gaierror as error:
        if error.errno == socket.EAI_AGAIN:  # the system has given up asking
            raise TimeoutError("no nameserver has answered for the host's name") from error
        raise


class _LookUps:
    """Ask for names, for each once at a time. Any thread may call."""

    def __init__(self) -> None:
        self._under_way: dict[bytes, Future[list[str]]] = {}
        self._of_domain: Counter[bytes] = Counter()
        self._lock = threading.Lock()  # for both

    def begin(self, host: bytes) -> "Future[list[str]] | None":
        """Return the look-up of a name, which may be under way; None while there is no place for it."""
        domain = b".".join(host.rstrip(b".").rsplit(b".", 2)[-2:])
        with self._lock:
            if (looking := self._under_way.get(host)) is not None:
                return looking
            if len(self._under_way) >= _MOST or self._of_domain[domain] >= _MOST_OF_DOMAIN:
                return None
            looking = self._under_way[host] = begin_in_own_thread("look-up", _addresses, host)
            self._of_domain[domain] += 1
        looking.add_done_callback(lambda _: self._end(host, domain))
        return looking

    def _end(self, host: bytes, domain: bytes) -> None:
        with self._lock:
            del self._under_way[host]
            self._of_domain[domain] -= 1
            if not self._of_domain[domain]:
                del self._of_domain[domain]


_look_ups = _LookUps()


def _addresses(host: bytes) -> list[str]:
    found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(sockaddr[0]) for *_, sockaddr in found))
