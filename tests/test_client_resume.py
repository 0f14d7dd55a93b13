"""Both clients against the real server: connections that are cut, jobs without a reader, leaving, deadlines."""

import asyncio
import gc
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import pytest
from PIL import Image
from tests.cutting_proxy import CuttingProxy, OpeningsCuttingProxy, cutting, running
from tests.waiting import WAIT_S, until

from streamapp_client import (
    AsyncClient,
    Client,
    ConnectionFailed,
    DeadlineExceeded,
    EndpointFailed,
    JobStatus,
    NotFound,
    StreamInterrupted,
    UnexpectedAnswer,
)
from streamapp_client._steps import Patience

APP = Path(__file__).parent / "apps" / "numbered.py"


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    """Serve the numbers in a process of their own."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = int(listener.getsockname()[1])
    process = subprocess.Popen([sys.executable, str(APP), str(port)])
    try:
        until(lambda: is_ready(port))
        yield port
    finally:
        process.kill()
        process.wait()


@pytest.fixture
def url(port: int) -> str:
    return f"http://127.0.0.1:{port}"


def is_ready(port: int) -> bool:
    try:
        return httpx.get(f"http://127.0.0.1:{port}/ready", timeout=WAIT_S).is_success
    except httpx.TransportError:
        return False


def numbers(events: list[Any]) -> list[int]:
    return [event.data["n"] for event in events]


# Sessions that are cut before their clients hear that they are open


async def test_sessions_whose_opening_is_cut_take_each_input_once(port: int, url: str) -> None:
    before = await asyncio.to_thread(Client(url).run, "/count")
    with running(OpeningsCuttingProxy(port, most=75)) as proxy:
        async with AsyncClient(f"http://127.0.0.1:{proxy.port}") as client:

            async def talk() -> None:
                session = client.connect("/tally")
                opening = asyncio.ensure_future(session.__aenter__())
                await asyncio.sleep(0)
                for n in range(3):  # they go with the first message
                    await session.send(n)
                await session.finish()
                await opening
                told = [(output["n"], output["input"]) async for output in session.outputs()]
                assert told == [(n, n // 2) for n in range(6)]

            await asyncio.gather(*(talk() for _ in range(50)))
    assert proxy.cuts == 75
    assert await asyncio.to_thread(Client(url).run, "/count") == before + 50


# Streams that are cut


@pytest.mark.long
async def test_streams_cut_anywhere_lose_double_and_move_nothing(port: int, url: str) -> None:
    """Before the head, in it, in an event, before the last chunk; by FIN and by RST."""
    before = await asyncio.to_thread(Client(url).run, "/count")
    reconnects = 0
    with cutting(port, cut=1) as proxy:
        async with AsyncClient(f"http://127.0.0.1:{proxy.port}") as client:

            async def read() -> int:
                stream = await client.stream("/numbers", {"n": 100, "large": 600})
                assert numbers([event async for event in stream]) == list(range(100))
                assert stream.result["n"] == 99
                return stream.reconnects

            for _ in range(5):
                reconnects += sum(await asyncio.gather(*(read() for _ in range(10))))
        assert proxy.cuts > 20
    assert reconnects > 20
    assert await asyncio.to_thread(Client(url).run, "/count") == before + 50


def test_the_blocking_client_resumes_too(port: int, url: str) -> None:
    with cutting(port, cut=1, seed=2) as proxy, Client(f"http://127.0.0.1:{proxy.port}") as client:
        for _ in range(5):
            assert numbers(list(client.stream("/numbers", {"n": 100, "large": 600}))) == list(range(100))
    assert proxy.cuts


def test_a_call_whose_answer_is_lost_is_made_again(port: int, url: str) -> None:
    client = Client(url)
    before = client.run("/count")
    with cutting(port, cut=0.8, most_bytes=100, seed=3) as proxy, Client(f"http://127.0.0.1:{proxy.port}") as cut:
        assert [cut.run("/echo", {"value": n}) for n in range(5)] == list(range(5))
    assert proxy.cuts
    assert client.run("/count") >= before + 5


def test_a_lost_stream_is_given_up_when_its_job_is_gone(url: str) -> None:
    with pytest.raises(NotFound):
        Client(url).job("0" * 32).events()


def test_without_patience_a_cut_stream_is_interrupted(port: int) -> None:
    with cutting(port, cut=1, most_bytes=301, seed=5) as proxy:
        client = Client(f"http://127.0.0.1:{proxy.port}", patience_s=0)
        with pytest.raises((StreamInterrupted, ConnectionFailed)):
            list(client.stream("/numbers", {"n": 100}))


def test_the_waits_grow_and_end() -> None:
    now = [0.0]
    patience = Patience(10, clock=lambda: now[0], draw=lambda low, high: high)
    assert [patience.wait_s(None) for _ in range(8)] == [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5, 5]
    now[0] = 9
    assert patience.wait_s(None) is None
    patience.renew()
    assert patience.wait_s(None, retry_ms=2000) == 2
    assert patience.wait_s(None, retry_ms=2000, retry_after=3) == 4 + 3


def test_a_server_that_was_never_reached_is_given_up_sooner() -> None:
    now = [0.0]
    patience = Patience(10, clock=lambda: now[0], draw=lambda low, high: high)
    refused = httpx.ConnectError("refused")
    assert patience.wait_s(refused) == 0.1
    now[0] = 2
    assert patience.wait_s(refused) is None


# Other formats


LINES, TEXT = "application/x-ndjson", "text/plain"


def test_lines_and_text_are_events_without_a_name(url: str) -> None:
    client = Client(url)
    lines = [(event.name, event.data) for event in client.stream("/lines", accept=LINES)]
    assert lines == [("message", {"n": 1}), ("message", "zwei\n")]
    assert "".join(event.data for event in client.stream("/text", accept=TEXT)) == "Grüße 🙂"


def test_even_an_endpoint_of_lines_can_be_read_as_events(url: str) -> None:
    """Only those can be resumed."""
    assert [event.name for event in Client(url).stream("/lines")] == ["output", "output"]


def test_a_line_that_tells_an_error_raises(url: str) -> None:
    with pytest.raises(EndpointFailed):
        list(Client(url).stream("/lines", {"fails": True}, accept=LINES))


def test_lines_that_are_cut_cannot_be_resumed(port: int) -> None:
    with cutting(port, cut=1, most_bytes=2000, seed=4) as proxy:
        client = Client(f"http://127.0.0.1:{proxy.port}")
        with pytest.raises(StreamInterrupted):
            list(client.stream("/numbers", {"n": 1000}, accept=LINES))


# Jobs without a reader


def test_a_submitted_job_is_followed_by_its_handle(url: str) -> None:
    job = Client(url).submit("/steps", {"n": 4})
    assert job.result(timeout_s=WAIT_S) == 3
    assert job.status().status == "succeeded"
    events = list(job.events())
    assert [event.data for event in events if event.name == "output"] == [0, 1, 2, 3]
    assert [event.data for event in job.events(after=events[-2].id)] == [3]


def test_a_cancelled_job_says_so(url: str) -> None:
    job = Client(url).submit("/sleep", {"seconds": 60})
    assert job.cancel().status == "cancelled"
    assert job.status().error is not None


def test_the_result_of_a_job_that_takes_too_long_is_not_waited_for(url: str) -> None:
    job = Client(url).submit("/sleep", {"seconds": 60})
    with pytest.raises(DeadlineExceeded, match="timeout_s=0.2"):
        job.result(timeout_s=0.2)
    assert job.cancel().is_over


def test_subscribe_tells_states_and_logs_and_returns_the_result(url: str) -> None:
    updates: list[JobStatus] = []
    assert Client(url).subscribe("/steps", on_update=updates.append, logs=True) == 2
    lines = [line["message"] for update in updates for line in update.logs]
    assert lines == ["step 0", "step 1", "step 2"]
    assert updates[-1].status == "succeeded"


def test_a_subscription_is_one_request_and_one_stream(url: str) -> None:
    client, updates, sent = Client(url), list[JobStatus](), list[str]()
    client._http.event_hooks = {
        "request": [lambda request: sent.append(f"{request.method} {request.url.raw_path.decode()}")]
    }
    assert client.subscribe("/steps", {"n": 100}, on_update=updates.append, logs=True) == 99
    assert sent == ["POST /steps", f"GET /jobs/{updates[0].id}/events?_events=all&_events=named"]
    states = list(dict.fromkeys(update.status for update in updates))
    assert states[-2:] == ["running", "succeeded"]
    assert updates[-1] == client.job(updates[0].id).status()


def test_a_subscription_over_connections_that_are_cut_tells_each_line_and_state_once(port: int) -> None:
    with cutting(port, cut=0.8, most_bytes=3000, seed=7) as proxy:
        for _ in range(5):
            updates: list[JobStatus] = []
            client = Client(f"http://127.0.0.1:{proxy.port}")
            assert client.subscribe("/steps", {"n": 50}, on_update=updates.append, logs=True) == 49
            lines = [line["message"] for update in updates for line in update.logs]
            assert lines == [f"step {n}" for n in range(50)]
            states = [update.status for update in updates if not update.logs]
            assert states == sorted(set(states), key=["queued", "running", "succeeded"].index)
    assert proxy.cuts


async def test_the_asynchronous_client_does_the_same(url: str) -> None:
    updates: list[JobStatus] = []

    async def note(status: JobStatus) -> None:
        updates.append(status)

    async with AsyncClient(url) as client:
        assert await client.run("/echo", {"value": [1]}) == [1]
        job = await client.submit("/steps")
        assert await job.result(timeout_s=WAIT_S) == 2
        assert (await job.status()).is_over
        assert [event.data async for event in await job.events() if event.name == "output"] == [0, 1, 2]
        assert await client.subscribe("/steps", on_update=note, logs=True) == 2
        assert (await (await client.submit("/sleep", {"seconds": 60})).cancel()).status == "cancelled"
        with pytest.raises(NotFound):
            await client.download("/nowhere")
    assert updates[-1].is_over


# Leaving


def status_of(url: str, job_id: str | None) -> str:
    return Client(url).job(str(job_id)).status().status


async def test_a_cancelled_task_cancels_its_job(url: str) -> None:
    async with AsyncClient(url) as client:
        stream = await client.stream("/numbers", {"n": 1_000_000})
        await anext(stream)

        async def read() -> None:
            async for _ in stream:
                await asyncio.sleep(0)

        task = asyncio.create_task(read())
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await stream.aclose()
        await asyncio.to_thread(until, lambda: status_of(url, stream.job_id) == "cancelled")


async def test_letting_go_of_an_asynchronous_stream_cancels_its_job(url: str) -> None:
    async with AsyncClient(url) as client:
        stream = await client.stream("/numbers", {"n": 1_000_000})
        await anext(stream)
        job_id = stream.job_id
        del stream
        gc.collect()
        await asyncio.to_thread(until, lambda: status_of(url, job_id) == "cancelled")


def test_a_stream_out_of_time_is_cancelled(url: str, advance: Callable[[float], None]) -> None:
    stream = Client(url).stream("/numbers", {"n": 1_000_000}, timeout_s=600)
    advance(601)
    with pytest.raises(DeadlineExceeded, match="timeout_s=600"):
        list(stream)
    until(lambda: status_of(url, stream.job_id) == "cancelled")


# Sessions


@pytest.mark.parametrize("path", ["/turns", "/both"])
async def test_a_session_over_connections_that_are_cut_takes_each_input_and_gives_each_output_once(
    port: int, path: str
) -> None:
    with cutting(port, cut=0.8, most_bytes=9000, seed=5) as proxy:
        async with AsyncClient(f"http://127.0.0.1:{proxy.port}", patience_s=WAIT_S) as client:
            reconnects = await asyncio.gather(*[over_cuts(client, path) for _ in range(4)])
    assert sum(reconnects) > 0


async def over_cuts(client: AsyncClient, path: str) -> int:
    async with client.connect(path) as session:

        async def send_all() -> None:
            for n in range(100):
                await session.send({"n": n, "text": "ä" * n})
            await session.finish()

        sending = asyncio.create_task(send_all())
        assert [output["n"] async for output in session.outputs()] == list(range(100))
        await sending
        return session.reconnects


def test_a_blocking_session_over_connections_that_are_cut_is_whole_too(port: int) -> None:
    with cutting(port, cut=0.8, most_bytes=6000, seed=6) as proxy:
        client = Client(f"http://127.0.0.1:{proxy.port}", patience_s=WAIT_S)
        for _ in range(4):
            with client.connect("/turns") as session:
                for n in range(100):
                    session.send({"n": n})
                session.finish()
                assert [output["n"] for output in session.outputs()] == list(range(100))
    assert proxy.cuts


class CutAt(CuttingProxy):
    """Cut the first connection of each path `?cut={way},{n}` when n bytes have gone that way; others are left alone."""

    def __init__(self, target: int) -> None:
        super().__init__(target, seed=0, cut=0, most_bytes=0)
        self._were_cut: set[bytes] = set()

    async def _forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        first = await reader.readline()
        _, _, cut = first.partition(b"?cut=")
        where = cut.partition(b" ")[0]
        way, n = where.split(b",") if where and where not in self._were_cut else (b"", b"0")
        self._were_cut.add(where)
        answers, requests = await asyncio.open_connection("127.0.0.1", self._target)
        ways = [(reader, requests, b"sent", first), (answers, writer, b"read", b"")]
        pumps = [
            asyncio.create_task(_pass_on(source, to, int(n) if name == way else 1 << 60, begun))
            for source, to, name, begun in ways
        ]
        try:
            await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for pump in pumps:
                pump.cancel()
            for end in (writer, requests):
                end.transport.abort()
            await asyncio.sleep(0)


async def _pass_on(source: asyncio.StreamReader, to: asyncio.StreamWriter, left: int, begun: bytes) -> None:
    """Pass on so many bytes, or all."""
    with suppress(OSError):
        data = begun or await source.read(65536)
        while data:
            to.write(data[:left])
            await to.drain()
            left -= len(data)
            if left <= 0:
                return
            data = await source.read(65536)


@pytest.mark.long
@pytest.mark.parametrize(("way", "bytes_of_it"), [("sent", 600), ("read", 1200)])
async def test_a_session_that_is_cut_at_any_byte_of_either_way_is_whole(port: int, way: str, bytes_of_it: int) -> None:
    with running(CutAt(port)) as proxy:
        async with AsyncClient(f"http://127.0.0.1:{proxy.port}", patience_s=WAIT_S) as client:
            turns = asyncio.Semaphore(20)

            async def talk(n: int) -> int:
                async with turns, client.connect(f"/both?cut={way},{n}") as session:
                    for each in range(3):
                        await session.send({"n": each})
                    await session.finish()
                    assert [output["n"] async for output in session.outputs()] == [0, 1, 2]
                    return session.reconnects

            assert sum(await asyncio.gather(*map(talk, range(bytes_of_it)))) > 100


def test_a_proxy_that_lets_no_upgrade_pass_is_named(url: str, port: int) -> None:
    """As nginx does unless it is told otherwise: its request to the server is in HTTP/1.0."""
    with running(Plain(port)) as proxy, pytest.raises(UnexpectedAnswer, match="a proxy on the way"):
        Client(f"http://127.0.0.1:{proxy.port}").connect("/turns")


class Plain(CuttingProxy):
    """Take the upgrade out of each request."""

    def __init__(self, target: int) -> None:
        super().__init__(target, seed=0, cut=0, most_bytes=0)

    async def _forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        lines = (await reader.readuntil(b"\r\n\r\n")).split(b"\r\n")
        answers, requests = await asyncio.open_connection("127.0.0.1", self._target)
        requests.write(b"\r\n".join(line for line in lines if b"pgrade" not in line).replace(b"/1.1", b"/1.0", 1))
        writer.write(await answers.read())
        for end in (writer, requests):
            end.close()
            await end.wait_closed()


def test_leaving_a_session_cancels_its_job(url: str) -> None:
    client = Client(url)
    with client.connect("/turns") as session:
        session.send({"n": 1})
        assert session.recv() == {"n": 1, "text": ""}
    assert status_of(url, session.job_id) == "cancelled"


async def test_a_finished_session_ends_well(url: str) -> None:
    async with AsyncClient(url).connect("/turns") as session:
        await session.send({"n": 1})
        assert await session.done() == {"n": 1, "text": ""}
    assert await asyncio.to_thread(status_of, url, session.job_id) == "succeeded"


# Inputs


def test_images_paths_bytes_and_files_become_data_uris(url: str, tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes(b"abc")
    with path.open("rb") as file:
        values = [Image.new("RGB", (1, 1)), path, b"abc", file, {1}, JobStatusModel()]
        sent = Client(url).run("/echo", {"value": values})
    assert sent[0].startswith("data:image/png;base64,")
    assert sent[1:] == [
        "data:text/plain;base64,YWJj",
        "data:application/octet-stream;base64,YWJj",
        sent[1],
        [1],
        {"a": 1},
    ]
    with pytest.raises(TypeError, match="got object"):
        Client(url).run("/echo", {"value": object()})


class JobStatusModel:
    """Dumps itself, as pydantic's models do."""

    def model_dump(self, **options: Any) -> dict[str, int]:
        return {"a": 1}


def test_importing_the_package_takes_next_to_nothing_beside_httpx_which_it_needs() -> None:
    """Counted in modules: of others' packages Pillow, which reads images, and of websockets what frames messages."""
    code = "import httpx, sys; before = {*sys.modules}; import streamapp_client; print(*{*sys.modules} - before)"
    added = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True).stdout.split()
    others = {name.partition(".")[0] for name in added} - {"streamapp_client"}
    assert others - sys.stdlib_module_names <= {"PIL", "websockets"}
    assert len(added) < 120
