"""A Client in processes that are forked: each has connections of its own, and streams stay where they were begun."""

import os
from collections.abc import Callable
from typing import Any

import pytest
from tests.scripted_server import END, HOLD, Serve, answer, block, head

from streamapp_client import Client

KEPT = answer(b"7").replace(b"Connection: close\r\n", b"")

# As gunicorn and DataLoader do; Python 3.12 warns, as the server of the test has threads.
pytestmark = pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")


def forked(act: Callable[[], Any]) -> int:
    """Return the status with which a child ends that does this."""
    if (process_id := os.fork()) == 0:
        try:
            status = 0 if act() else 1
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(process_id, 0)[1])


def test_a_child_has_connections_of_its_own(serve: Serve) -> None:
    """On that of its parent the answers would go to whoever reads first."""
    server = serve(echo=[KEPT, HOLD])
    client = Client(server.url, patience_s=0)
    client.run("/echo")

    assert forked(lambda: client.run("/echo") == 7) == 0
    assert server.saw(3) == ["POST /echo", "POST /echo", "gone /echo"]
    client.close()
    server.sees("gone /echo")


def test_a_child_of_a_closed_client_has_a_closed_client(serve: Serve) -> None:
    client = Client(serve(echo=[answer(b"7")]).url)
    client.close()

    def fails() -> bool:
        with pytest.raises(RuntimeError, match="closed"):
            client.run("/echo")
        return True

    assert forked(fails) == 0


def test_a_child_that_ends_does_not_cancel_its_parents_stream(serve: Serve) -> None:
    server = serve(head(), block("progress", 1), block("output", 2), END)
    stream = Client(server.url).stream("/stream")

    def ends() -> bool:
        stream.close()
        return True

    assert forked(ends) == 0
    assert [event.data for event in stream] == [1, 2]
    assert server.saw(1) == ["POST /stream"]
    assert server.log.empty()
