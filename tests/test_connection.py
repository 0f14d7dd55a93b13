"""Connections: sending in time, writing at once, and ending without a word."""

import asyncio
from typing import Any

import pytest
from tests.asgi_client import Client
from tests.waiting import WAIT_S

from streamapp.http.connection import Connection


def connected(client: Client, *, is_direct: bool = False, send_timeout_s: float = WAIT_S) -> Connection:
    left: list[bool] = []
    return Connection(
        client.scope,
        client.receive,
        client.send,
        send_timeout_s=send_timeout_s,
        on_disconnect=lambda: left.append(True),
        send_body=client.send if is_direct else None,
    )


async def ended(client: Client, connection: Connection) -> Client:
    client.leave()
    await connection.listener
    return client


def bodies(client: Client) -> list[tuple[bytes, bool]]:
    return [(message["body"], message["more_body"]) for message in client.sent]


async def test_a_client_that_leaves_is_heard_of_whatever_else_it_sends() -> None:
    client, heard = Client(), asyncio.Event()
    client.messages = [{"type": "http.request", "body": b"", "more_body": False}]
    connection = Connection(client.scope, client.receive, client.send, send_timeout_s=1, on_disconnect=heard.set)
    client.leave()
    assert (await connection.disconnect())["type"] == "http.disconnect"
    assert heard.is_set()


async def test_a_large_body_is_sent_in_pieces_that_a_slow_client_can_take() -> None:
    client = Client()
    connection = connected(client)
    await connection.start(200, [(b"a", b"b")])
    await connection.write(b"x" * 65_537)
    assert client.sent.pop(0) == {"type": "http.response.start", "status": 200, "headers": [(b"a", b"b")]}
    assert [(len(body), more) for body, more in bodies(client)] == [(65_536, True), (1, True)]
    await ended(client, connection)


@pytest.mark.parametrize("unsent_bytes", [0, 1])
async def test_a_piece_is_sent_whether_or_not_others_wait(unsent_bytes: int) -> None:
    client = Client()
    client.unsent_bytes = unsent_bytes
    connection = connected(client)
    await connection.write(b"a")
    await connection.end(b"b")
    assert bodies(client) == [(b"a", True), (b"b", False)]
    await ended(client, connection)


async def test_a_large_end_is_sent_in_pieces_too() -> None:
    client = Client()
    connection = connected(client)
    await connection.end(b"x" * 70_000)
    assert [(len(body), more) for body, more in bodies(client)] == [(65_536, True), (4_464, True), (0, False)]
    await ended(client, connection)


async def test_a_client_that_does_not_read_is_waited_for_as_long_as_it_may() -> None:
    client = Client()
    client.is_stuck_at = "http.response.body"
    connection = connected(client, send_timeout_s=0.01)
    with pytest.raises(TimeoutError):
        await connection.write(b"a")
    await ended(client, connection)


async def test_what_can_be_written_at_once_goes_past_the_server_as_a_chunk() -> None:
    client = Client()
    client.unsent_bytes = 0
    connection = connected(client, is_direct=True)
    assert connection.write_at_once(b"hello")
    assert connection.write_at_once(b"")  # which would end the body
    assert client.written == b"5\r\nhello\r\n"
    await ended(client, connection)


@pytest.mark.parametrize("why", ["middleware", "foreign server", "HTTP/1.0", "closed", "behind", "large"])
async def test_what_may_not_be_written_at_once_is_left(why: str) -> None:
    client: Any = Client(lends_transport=why != "foreign server")
    client.unsent_bytes = int(why == "behind")
    client.scope["http_version"] = "1.0" if why == "HTTP/1.0" else "1.1"
    connection = connected(client, is_direct=why != "middleware")
    if why == "closed":
        client.close()
    assert not connection.write_at_once(b"x" * (65_537 if why == "large" else 1))
    assert client.written == b""
    await ended(client, connection)


async def test_a_failed_body_is_cut_without_its_end_when_the_client_could_read_why() -> None:
    client = Client()
    connection = connected(client)
    await connection.fail()
    assert (bodies(client), client.ended_by) == ([(b"", True)], ["close", "abort"])


async def test_a_client_that_stays_after_the_cut_is_aborted() -> None:
    client = Client()
    client.stays_open = True
    connection = connected(client, send_timeout_s=0.01)
    await connection.fail()
    assert client.ended_by == ["close", "abort"]
    await connection.listener


async def test_a_connection_that_is_ended_has_been_seen_off_by_the_server() -> None:
    """Else uvicorn logs an error: "ASGI callable returned without completing response"."""
    client = Client()
    connection = connected(client)
    await connection.abort()
    assert connection.listener.done()


async def test_under_a_foreign_server_nothing_is_cut() -> None:
    client = Client(lends_transport=False)
    connection = connected(client)
    await connection.fail()
    await connection.abort()
    assert (client.sent, client.ended_by) == ([], [])
    await ended(client, connection)
