"""The network of a test file's own: what is on it, and that it is left."""

import socket
import subprocess
import sys
from collections.abc import Iterator

import pytest
from tests.waiting import WAIT_S

CONNECT = "import socket, sys; socket.create_connection((sys.argv[1], int(sys.argv[2])), timeout=60).close()"


@pytest.fixture(scope="module")
def outside() -> Iterator[int]:
    """Listen on the machine's own loopback; gives the port."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield int(listener.getsockname()[1])


def test_what_is_outside_is_not_reached(outside: int, own_network: str) -> None:
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", outside), timeout=WAIT_S)


def test_what_is_started_there_is_there(own_network: str) -> None:
    with socket.create_server((own_network, 0)) as listener:
        port = str(listener.getsockname()[1])
        subprocess.run([sys.executable, "-c", CONNECT, own_network, port], check=True, timeout=WAIT_S)
        listener.accept()[0].close()
