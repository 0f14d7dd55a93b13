"""One AsyncClient on several event loops: each has connections of its own, which are closed with it."""

import asyncio
import gc
import threading
from typing import Any

import pytest
from tests.scripted_server import END, HOLD, Serve, answer, block, head

from streamapp_client import AsyncClient, NotFound

KEPT = answer(b"7").replace(b"Connection: close\r\n", b"")


def runs(client: AsyncClient) -> Any:
    return asyncio.run(client.run("/echo"))


def test_a_client_serves_one_run_of_asyncio_after_another(serve: Serve) -> None:
    """In which httpx would fail: "Event loop is closed"."""
    client = AsyncClient(serve(echo=[KEPT, HOLD]).url)

    assert [runs(client) for _ in range(3)] == [7, 7, 7]


def test_the_end_of_a_loop_closes_its_connections(serve: Serve) -> None:
    server = serve(echo=[KEPT, HOLD])
    client = AsyncClient(server.url)

    runs(client)

    assert server.saw(2) == ["POST /echo", "gone /echo"]


def test_a_loop_that_is_closed_by_hand_is_in_nobodys_way(serve: Serve) -> None:
    client = AsyncClient(serve(echo=[answer(b"7")]).url)

    for _ in range(3):
        loop = asyncio.new_event_loop()
        assert loop.run_until_complete(client.run("/echo")) == 7
        loop.close()


def test_connections_are_shared_by_the_calls_of_a_loop(serve: Serve) -> None:
    client = AsyncClient(serve(echo=[answer(b"7")]).url)

    async def ask() -> None:
        assert await asyncio.gather(*[client.run("/echo") for _ in range(5)]) == [7] * 5
        assert len({id(await client._connections.here()) for _ in range(3)}) == 1
        await client.aclose()

    asyncio.run(ask())


def test_loops_in_several_threads_do_not_meet(serve: Serve) -> None:
    client = AsyncClient(serve(echo=[answer(b"7")]).url)
    results: list[Any] = []
    threads = [threading.Thread(target=lambda: results.append(runs(client))) for _ in range(4)]

    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert results == [7] * 4


def test_a_stream_that_a_loop_left_open_does_not_disturb_the_next(serve: Serve) -> None:
    server = serve(head(), block("preview", 1), HOLD, echo=[answer(b"7")])
    client = AsyncClient(server.url)

    async def leave() -> Any:
        return await anext(await client.stream("/stream"))

    assert asyncio.run(leave()).data == 1
    assert runs(client) == 7
    server.sees("gone /stream")


def test_streams_submissions_and_files_work_on_each_loop(serve: Serve) -> None:
    server = serve(head(), block("output", 1), END, file=[answer(b"x")], gone=[answer(b"", "404 Not Found")])
    client = AsyncClient(server.url)

    async def ask() -> list[Any]:
        events = [event.data async for event in await client.stream("/stream")]
        with pytest.raises(NotFound):
            await client.download("/gone")
        return [*events, await client.download("/file")]

    assert [asyncio.run(ask()) for _ in range(2)] == [[1, b"x"]] * 2


def test_a_client_that_is_let_go_of_hangs_up(serve: Serve) -> None:
    server = serve(echo=[KEPT, HOLD])

    async def ask() -> list[str]:
        await AsyncClient(server.url).run("/echo")
        gc.collect()
        return await asyncio.to_thread(server.saw, 2)

    assert asyncio.run(ask()) == ["POST /echo", "gone /echo"]


def test_a_closed_client_stays_closed_on_every_loop(serve: Serve) -> None:
    client = AsyncClient(serve(echo=[answer(b"7")]).url)
    runs(client)
    asyncio.run(client.aclose())

    with pytest.raises(RuntimeError, match="the client has been closed"):
        runs(client)


@pytest.mark.parametrize("name", ["run", "stream", "submit", "subscribe", "download"])
def test_without_asyncio_it_says_what_to_write(name: str) -> None:
    """As under trio: what awaits there is driven by another loop."""
    call = getattr(AsyncClient("http://127.0.0.1:9"), name)("/x")

    with pytest.raises(RuntimeError, match=r"AsyncClient runs on asyncio.*trio\.to_thread\.run_sync"):
        call.send(None)


def test_a_client_that_was_never_used_closes_anywhere() -> None:
    with pytest.raises(StopIteration):
        AsyncClient("http://127.0.0.1:9").aclose().send(None)
