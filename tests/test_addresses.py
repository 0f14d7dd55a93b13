"""Hosts' names and addresses: what is public, and look-ups that hang, which nobody else waits for."""

import asyncio
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import pytest
from tests.waiting import WAIT_S

from streamapp import addresses
from streamapp.addresses import is_loopback, is_public_address, look_up, network_of
from streamapp.errors import Unavailable


@pytest.mark.parametrize("address", ["93.184.216.34", "1.1.1.1", "2606:4700:4700::1111"])
def test_public_addresses(address: str) -> None:
    assert is_public_address(address)


@pytest.mark.parametrize(
    "address",
    [
        "192.0.0.192",  # Oracle's metadata service
        "168.63.129.16",  # Azure's
        "224.0.0.1",
        "255.255.255.255",
        "::ffff:8.8.8.8",
        "64:ff9b::7f00:1",  # NAT64
        "2002:7f00:1::",  # 6to4
        "2001:0:7f00:1::",  # Teredo
        "fd00::1",
        "fec0::1",
        "fe80::1%eth0",
        "ff02::1",
        "2001:db8::1",
    ],
)
def test_other_addresses_are_not_public(address: str) -> None:
    assert not is_public_address(address)


@pytest.mark.parametrize(
    ("host", "name"),
    [
        ("203.0.113.7", "203.0.113.7"),
        ("::ffff:203.0.113.7", "203.0.113.7"),
        ("2001:db8::1", "20010db800000000"),
        ("2001:db8::2:1:1", "20010db800000000"),
        ("2001:db8:0:1::1", "20010db800000001"),
        ("fe80::1%eth0", "fe80000000000000"),
        *((host, "") for host in ("127.0.0.1", "127.9.9.9", "::1", "::ffff:127.0.0.1", "", "testclient", "unknown")),
    ],
)
def test_an_address_counts_as_what_one_subscriber_has(host: str, name: str) -> None:
    assert network_of(host) == name


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.0.1", "::1", "::ffff:127.0.0.1", "localhost"])
def test_names_of_this_machine(host: str) -> None:
    assert is_loopback(host)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.0.1", "::ffff:1.2.3.4", "localhost.example.org", ""])
def test_others_are_not_this_machine(host: str) -> None:
    assert not is_loopback(host)


class Nameserver:
    """Answer for every name at once, but for those that end in `hole`, until it is opened."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.opened = threading.Event()

    def getaddrinfo(self, host: bytes, port: None, **_: Any) -> list[Any]:
        self.asked.append(host.decode())
        if host.rstrip(b".").endswith(b"hole"):
            assert self.opened.wait(WAIT_S)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, 0)) for address in ("1.1.1.1", "1.1.1.1")]


@pytest.fixture
def nameserver(monkeypatch: pytest.MonkeyPatch) -> Iterator[Nameserver]:
    nameserver = Nameserver()
    monkeypatch.setattr("streamapp.addresses.socket.getaddrinfo", nameserver.getaddrinfo)
    monkeypatch.setattr(addresses, "_look_ups", addresses._LookUps())
    yield nameserver
    nameserver.opened.set()


async def looking(count: int, name: str) -> list[asyncio.Task[list[str]]]:
    """Begin to look up names, and wait until the system is asked for those that it is."""
    tasks = [asyncio.create_task(look_up(name.format(n).encode())) for n in range(count)]
    await asyncio.sleep(0)
    return tasks


async def test_each_address_is_returned_once(nameserver: Nameserver) -> None:
    assert await look_up(b"example.com") == ["1.1.1.1"]


async def test_names_that_hang_keep_nobody_elses_waiting(nameserver: Nameserver) -> None:
    """A pool of the usual size has six threads on two cores: as many requests would make all downloads wait."""
    hanging = [task for n in range(4) for task in await looking(25, f"{{}}.domain{n}.hole")]
    assert await look_up(b"example.com") == ["1.1.1.1"]
    assert await asyncio.to_thread(lambda: 1) == 1  # nor does the pool of user code
    assert not any(task.done() for task in hanging)
    nameserver.opened.set()
    assert await asyncio.gather(*hanging) == [["1.1.1.1"]] * 100


async def test_names_of_one_domain_take_few_of_the_places(
    nameserver: Nameserver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(addresses, "_MOST_OF_DOMAIN", 2)
    hanging = [*await looking(3, "{}.evil.hole"), *await looking(2, "{}.evil.hole.")]
    assert await look_up(b"other.example") == ["1.1.1.1"]
    assert nameserver.asked == ["0.evil.hole", "1.evil.hole", "other.example"]
    nameserver.opened.set()  # and the others have their turn
    assert await asyncio.gather(*hanging) == [["1.1.1.1"]] * 5


async def test_a_name_is_looked_up_once_at_a_time(nameserver: Nameserver) -> None:
    waiting = await looking(3, "same.hole")
    waiting[0].cancel()
    with suppress(asyncio.CancelledError):
        await waiting[0]
    nameserver.opened.set()
    assert await asyncio.gather(*waiting[1:]) == [["1.1.1.1"]] * 2
    assert nameserver.asked == ["same.hole"]
    await look_up(b"same.hole")
    assert len(nameserver.asked) == 2


async def test_nobody_waits_for_a_name_longer_than_its_deadline(
    nameserver: Nameserver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(addresses, "_ANSWERS_S", 0.05)
    with pytest.raises(TimeoutError, match="looked up for 0.05 s without an answer"):
        await look_up(b"black.hole")


async def test_a_wait_for_a_place_is_not_the_names_fault(
    nameserver: Nameserver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(addresses, "_MOST", 1)
    (hanging,) = await looking(1, "black.hole")
    monkeypatch.setattr(addresses, "_ANSWERS_S", 0.05)
    with pytest.raises(Unavailable, match="too many names are being looked up") as refused:
        await look_up(b"example.com")
    assert refused.value.retryable
    nameserver.opened.set()
    await hanging


Fails = Callable[[int], None]


@pytest.fixture
def fails(monkeypatch: pytest.MonkeyPatch) -> Fails:
    def fails(code: int) -> None:
        def getaddrinfo(*arguments: Any, **options: Any) -> None:
            raise socket.gaierror(code, "no")

        monkeypatch.setattr("streamapp.addresses.socket.getaddrinfo", getaddrinfo)

    return fails


async def test_a_name_for_which_no_nameserver_answers_may_be_found_later(fails: Fails) -> None:
    fails(socket.EAI_AGAIN)
    with pytest.raises(TimeoutError, match="no nameserver has answered"):
        await look_up(b"example.com")


async def test_a_name_that_is_not_there_is_not(fails: Fails) -> None:
    fails(socket.EAI_NONAME)
    with pytest.raises(socket.gaierror):
        await look_up(b"example.com")
    assert not addresses._look_ups._under_way
