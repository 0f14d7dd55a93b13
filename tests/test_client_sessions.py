"""Sessions of both Python clients over real sockets: a server of raw bytes plays its side as it is written down.

What is said is held by `test_client_dialogue.py`; here is what holds for tasks, threads, connections and leaving.
"""

import asyncio
import gc
import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any

import pytest
from tests.leading_proxy import leading
from tests.scripted_server import CUT, HEAR, HOLD, THEN, UPGRADE, Serve, answer, closing, refusal
from tests.waiting import WAIT_S, until

from streamapp_client import (
    AsyncClient,
    AsyncSession,
    Cancelled,
    Client,
    ConnectionFailed,
    DeadlineExceeded,
    InvalidInput,
    NotFound,
    NotSent,
    PayloadTooLarge,
    Session,
    SessionEnded,
    StreamInterrupted,
    Unavailable,
    UnexpectedAnswer,
)

SESSION = {"type": "session", "job_id": "j1", "key": "k", "received": 0, "resume_s": 10}
OPEN = [UPGRADE, HEAR, SESSION]


def event(name: str, data: Any, number: int = 2) -> dict[str, Any]:
    return {"type": "event", "event": name, "id": f"j1:1.{number}", "data": data}


DONE = [event("done", {"job_id": "j1", "status": "succeeded"}, 9), closing(1000)]
FAILED = event("input_error", {**refusal("invalid_input", "no x", detail=[]), "input": 1})
CANCEL = "POST /jobs/j1/cancel"


def session_of(serve: Serve, *steps: Any, **options: Any) -> Session[Any]:
    return Client(serve(*OPEN, *steps).url, **options).connect("/stream")


# Sending and reading


def test_inputs_go_out_while_events_come_in(serve: Serve) -> None:
    server = serve(*OPEN, HEAR, event("preview", 1), event("output", 2, 3), HEAR, event("output", 3, 4), *DONE)
    with Client(server.url).connect("/stream") as session:
        assert (session.job_id, session.send({"a": b"x"})) == ("j1", 1)
        assert [next(session).name, session.recv()] == ["preview", 2]
        session.finish()
        assert [(event.name, event.data, event.id) for event in session] == [("output", 3, "j1:1.4")]
        assert session.result == 3
    said = server.saw(4)
    assert said[0] == "GET /stream"
    assert said[1].startswith('{"type":"open","resume_s":10,"key":"')
    assert json.loads(said[2]) == {"type": "input", "n": 1, "data": {"a": "data:application/octet-stream;base64,eA=="}}
    assert said[3] == '{"type":"finish"}'


async def test_the_asynchronous_client_does_the_same(serve: Serve) -> None:
    server = serve(*OPEN, HEAR, event("preview", 1), event("output", 2, 3), HEAR, event("output", 3, 4), *DONE)
    async with AsyncClient(server.url) as client, client.connect("/stream") as session:
        assert (session.job_id, await session.send({"a": 1})) == ("j1", 1)
        assert [(await anext(session)).name, await session.recv()] == ["preview", 2]
        await session.finish()
        assert [event.data async for event in session] == [3]
        assert (session.result, session.reconnects) == (3, 0)


def test_recv_passes_over_what_is_no_output_and_raises_for_an_input_that_failed(serve: Serve) -> None:
    session = session_of(serve, event("progress", {"step": 1}), FAILED, event("token", "a"), *DONE)
    with pytest.raises(InvalidInput, match="no x") as caught:
        session.recv()
    assert (caught.value.data["input"], caught.value.job_id) == (1, "j1")
    assert session.recv() == "a"
    with pytest.raises(SessionEnded, match="no more outputs"):
        session.recv()


def test_who_iterates_hears_of_a_failed_input_as_an_event(serve: Serve) -> None:
    assert [event.name for event in session_of(serve, FAILED, *DONE)] == ["input_error"]


def test_done_is_the_result_of_all_inputs(serve: Serve) -> None:
    session = session_of(serve, HEAR, HEAR, event("log", {}), event("output", 3), *DONE)
    session.send(1)
    assert session.done() == 3


async def test_done_is_the_result_of_all_inputs_for_tasks_too(serve: Serve) -> None:
    async with AsyncClient(serve(*OPEN, HEAR, event("output", 3), *DONE).url).connect("/stream") as session:
        assert await session.done() == 3


def test_outputs_are_of_the_type_that_was_asked_for(serve: Serve) -> None:
    client = Client(serve(*OPEN, event("output", "1"), event("output", "2", 3), *DONE).url)
    with client.connect("/stream", output=int) as session:
        assert [session.recv() + 1, *session.outputs()] == [2, 2]


async def test_outputs_of_tasks_are_of_the_type_that_was_asked_for(serve: Serve) -> None:
    client = AsyncClient(serve(*OPEN, event("output", "1"), event("output", "2", 3), *DONE).url)
    async with client.connect("/stream", output=int) as session:
        assert await session.recv() + 1 == 2
        assert [output async for output in session.outputs()] == [2]
        with pytest.raises(SessionEnded):
            await session.recv()


def test_one_thread_may_send_while_another_reads(serve: Serve) -> None:
    session = session_of(serve, HEAR, event("output", 1), HEAR, *DONE)
    with ThreadPoolExecutor() as pool:
        reading = pool.submit(list, session)
        session.send(1)
        session.finish()
        assert [event.data for event in reading.result(WAIT_S)] == [1]


async def test_a_read_that_is_cancelled_takes_no_event_along(serve: Serve) -> None:
    gate = threading.Event()
    async with AsyncClient(serve(*OPEN, gate, event("output", 1), *DONE).url).connect("/stream") as session:
        reading = asyncio.create_task(session.recv())
        await asyncio.sleep(0)
        reading.cancel()
        gate.set()
        assert await session.recv() == 1


def test_a_send_waits_until_the_server_has_taken_over_what_was_sent(serve: Serve) -> None:
    gate = threading.Event()
    session = session_of(serve, *[HEAR] * 64, gate, {"type": "received", "n": 64}, HEAR, HOLD)
    with session, ThreadPoolExecutor() as pool:
        for n in range(64):
            session.send(n)
        last = pool.submit(session.send, 64)
        assert not last.done()
        gate.set()
        assert last.result(WAIT_S) == 65


async def test_who_never_reads_is_told_so_instead_of_waiting_for_ever(
    serve: Serve, advance: Callable[[float], None]
) -> None:
    server = serve(*OPEN, *[event("output", n, n + 2) for n in range(1025)], HOLD)
    async with AsyncClient(server.url).connect("/stream") as session:
        await asyncio.to_thread(until, lambda: session._line._inbox.is_full)
        for n in range(64):
            await session.send(n)
        sending = asyncio.create_task(session.send(64))
        await asyncio.sleep(0)
        advance(46)
        with pytest.raises(NotSent, match="nobody has read .* for 45 s"):
            await sending


def test_a_session_that_nobody_reads_comes_back_before_the_server_gives_it_up(serve: Serve) -> None:
    known = {**SESSION, "resume_s": 0.02}
    outputs = [event("output", n, n + 2) for n in range(1024)]
    server = serve(UPGRADE, HEAR, known, *outputs, HOLD, THEN, UPGRADE, HEAR, known, *DONE)
    with Client(server.url).connect("/stream") as session:
        server.sees('{"type":"resume","job_id":"j1","key":"k","last_event_id":"j1:1.1025"}')
        assert [event.data for event in session] == list(range(1024))


def test_none_is_an_input_like_any_other(serve: Serve) -> None:
    server = serve(*OPEN, HEAR, *DONE)
    Client(server.url).connect("/stream").send(None)
    assert server.saw(3)[2] == '{"type":"input","n":1,"data":null}'


def test_images_of_events_are_downloaded(serve: Serve) -> None:
    session = session_of(serve, event("output", {"image": "data:image/png;base64,AA=="}), *DONE)
    with pytest.raises(Exception, match="Expected a PNG"):
        next(session).image()


# Connections that are lost


@pytest.mark.parametrize("cut", [CUT, closing(1011)])
def test_a_socket_that_is_cut_is_opened_again_and_nothing_is_lost(serve: Serve, cut: Any) -> None:
    again: list[Any] = [UPGRADE, HEAR, {**SESSION, "received": 1}, HEAR, HEAR, event("output", "b", 3), *DONE]
    server = serve(*OPEN, HEAR, HEAR, event("output", "a"), cut, THEN, *again)
    session = Client(server.url).connect("/stream")
    session.send("a")
    session.send("b")
    session.finish()
    assert [event.data for event in session] == ["a", "b"]
    assert session.reconnects == 1
    said = server.saw(8)[5:]
    assert said[0] == '{"type":"resume","job_id":"j1","key":"k","last_event_id":"j1:1.2"}'
    assert said[1:] == ['{"type":"input","n":2,"data":"b"}', '{"type":"finish"}']


def test_a_lost_session_says_so_to_who_reads_and_to_who_sends(serve: Serve) -> None:
    session = session_of(serve, HEAR, CUT, patience_s=0)
    session.send(1)
    for _ in range(2):
        with pytest.raises(StreamInterrupted, match="j1 broke off"):
            next(session)
    with pytest.raises(StreamInterrupted):
        session.send(2)


def test_a_socket_that_falls_silent_is_opened_again(serve: Serve) -> None:
    server = serve(*OPEN, HOLD, THEN, UPGRADE, HEAR, SESSION, event("output", 1), *DONE)
    session = Client(server.url, silence_s=0.05).connect("/stream")
    assert ([event.data for event in session], session.reconnects) == ([1], 1)


def test_a_server_that_does_not_read_keeps_nobody_from_leaving(serve: Serve) -> None:
    gate = threading.Event()
    server = serve(*OPEN, gate)
    with Client(server.url).connect("/stream") as session:
        session.send("x" * (15 << 20))
    server.sees(CANCEL)
    gate.set()


def test_a_server_that_is_full_is_asked_again(serve: Serve) -> None:
    full = answer(json.dumps(refusal("unavailable", retryable=True)).encode(), "503 Service Unavailable")
    server = serve(full, THEN, *OPEN, *DONE)
    assert list(Client(server.url).connect("/stream")) == []
    with pytest.raises(Unavailable):
        Client(serve(full).url, patience_s=0).connect("/stream")


def test_who_waits_too_long_is_told_so_and_the_job_is_cancelled(serve: Serve, advance: Callable[[float], None]) -> None:
    gate = threading.Event()
    server = serve(*OPEN, gate, {"type": "ping"}, HOLD)
    session = Client(server.url).connect("/stream", timeout_s=60)
    advance(61)
    gate.set()
    with pytest.raises(DeadlineExceeded, match="timeout_s=60"):
        next(session)
    server.sees(CANCEL)


# Refusals


def test_a_refusal_of_the_handshake_raises_its_class(serve: Serve) -> None:
    with pytest.raises(NotFound):
        Client(serve(answer(b"{}", "404 Not Found")).url).connect("/stream")


def test_what_is_no_session_names_the_call(serve: Serve) -> None:
    with pytest.raises(UnexpectedAnswer, match=r"write client.run\(...\)"):
        Client(serve(answer(b"{}")).url).connect("/stream")


def threads() -> set[threading.Thread]:
    gc.collect()
    return {thread for thread in threading.enumerate() if thread.name == "streamapp-session"}


def test_who_is_refused_has_no_thread_left(serve: Serve) -> None:
    before = threads()
    with pytest.raises(NotFound):
        Client(serve(answer(b"{}", "404 Not Found")).url).connect("/stream")
    assert threads() <= before


def test_a_session_that_failed_has_no_thread_left_when_it_is_let_go_of(serve: Serve) -> None:
    """The error that it keeps would hold it, were it the one that was raised."""
    before = threads()
    session = session_of(serve, CUT, patience_s=0)
    with suppress(StreamInterrupted):
        list(session)
    assert threads() > before
    del session
    until(lambda: threads() <= before)


def test_another_machine_is_reached_by_the_proxy_of_the_environment(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    with leading() as start:
        between = start(serve(*OPEN, event("output", 1), *DONE).url)
        for name in ("http_proxy", "no_proxy"):
            monkeypatch.delenv(name.upper(), raising=False)
            monkeypatch.setenv(name, between.url if name == "http_proxy" else "")
        assert Client("http://gpu.example/base/").connect("http://gpu.example/stream").done() == 1
    assert between.asked == ["GET http://gpu.example/stream"]


async def test_a_server_that_is_not_there_is_a_connection_that_failed(serve: Serve) -> None:
    with pytest.raises(ConnectionFailed):
        await AsyncClient("http://127.0.0.1:1", patience_s=0).connect("/stream")


def test_another_servers_path_is_not_asked() -> None:
    with pytest.raises(NotSent, match="which is not on"):
        Client("http://127.0.0.1:1").connect("https://example.org/x")


def test_no_redirect_leads_a_session_to_another_server(serve: Serve) -> None:
    other = serve(*OPEN, HOLD)
    moved = answer(b"", "307 Temporary Redirect", headers=f"Location: {other.url}/stream\r\n")
    with pytest.raises(UnexpectedAnswer, match="which gets no input of yours"):
        Client(serve(moved).url).connect("/stream")
    assert other.log.empty()


def test_a_redirect_of_the_same_server_is_followed(serve: Serve) -> None:
    moved = answer(b"", "307 Temporary Redirect", headers="Location: /stream/\r\n")
    server = serve(**{"stream": [moved], "stream/": [*OPEN, *DONE]})
    assert list(Client(server.url, "secret").connect("/stream")) == []
    assert [headers["Authorization"] for headers, _ in server.requests] == ["Key secret"] * 2


# Leaving


def test_leaving_early_cancels_the_job_and_closes_the_socket(serve: Serve) -> None:
    server = serve(*OPEN, HEAR, HEAR)
    with Client(server.url).connect("/stream") as session:
        pass
    assert server.saw(5)[2:] == [CANCEL, '{"type":"cancel"}', "close 1000"]
    with pytest.raises(SessionEnded):
        session.send(1)
    with pytest.raises(SessionEnded):
        session.recv()


async def test_a_task_that_leaves_early_cancels_the_job(serve: Serve) -> None:
    server = serve(*OPEN, HEAR, HEAR)
    async with AsyncClient(server.url).connect("/stream") as session:
        pass
    assert (await asyncio.to_thread(server.saw, 5))[2:] == [CANCEL, '{"type":"cancel"}', "close 1000"]
    assert [event async for event in session] == []
    with pytest.raises(SessionEnded):
        await session.send(1)


def test_letting_go_of_a_session_cancels_its_job_and_ends_its_thread(serve: Serve) -> None:
    server = serve(*OPEN, HOLD)
    session = Client(server.url).connect("/stream")
    thread = session._thread._thread
    del session
    gc.collect()
    server.sees(CANCEL)
    until(lambda: not thread.is_alive())


async def test_letting_go_of_a_session_of_a_loop_cancels_its_job(serve: Serve) -> None:
    server = serve(*OPEN, HOLD)
    session = await AsyncClient(server.url).connect("/stream")
    del session
    gc.collect()
    await asyncio.to_thread(server.sees, CANCEL)


def test_an_input_that_is_too_large_for_the_server_ends_the_session_at_once(serve: Serve) -> None:
    server = serve(*OPEN, HEAR, closing(1009))
    session = Client(server.url).connect("/stream")
    session.send("large")
    with pytest.raises(PayloadTooLarge):
        session.recv()
    server.sees(CANCEL)


def test_a_thread_that_reads_hears_that_another_has_left(serve: Serve) -> None:
    session = session_of(serve, HOLD)
    with ThreadPoolExecutor() as pool:
        reading = pool.submit(list, session)
        session.close()
        session.close()
        assert reading.result(WAIT_S) == []


def test_closing_the_client_leaves_its_sessions(serve: Serve) -> None:
    server = serve(*OPEN, HOLD)
    with Client(server.url) as client:
        session = client.connect("/stream")
    server.sees(CANCEL)
    assert list(session) == []


async def test_closing_the_asynchronous_client_leaves_its_sessions(serve: Serve) -> None:
    server = serve(*OPEN, HOLD)
    async with AsyncClient(server.url) as client:
        session = await client.connect("/stream")
    await asyncio.to_thread(server.sees, CANCEL)
    assert [event async for event in session] == []


async def test_who_is_cancelled_while_a_session_opens_leaves_nothing(serve: Serve) -> None:
    server = serve(UPGRADE, HEAR, HEAR, HEAR)
    opening = asyncio.ensure_future(AsyncClient(server.url).connect("/stream").__aenter__())
    assert "open" in (await asyncio.to_thread(server.saw, 2))[1]
    opening.cancel()
    with pytest.raises(asyncio.CancelledError):
        await opening
    assert await asyncio.to_thread(server.saw, 2) == ['{"type":"cancel"}', "close 1000"]


async def test_a_session_that_was_cancelled_before_it_began_to_open_has_ended(serve: Serve) -> None:
    session = AsyncClient(serve(*OPEN, HOLD).url).connect("/stream")
    opening = asyncio.ensure_future(session.__aenter__())
    while session._line._task is None:  # noqa: ASYNC110 - what it waits for is the loop's next turn
        await asyncio.sleep(0)
    opening.cancel()
    session._line._task.cancel()
    with pytest.raises(SessionEnded):
        await session.recv()


def test_the_end_of_a_loop_leaves_its_sessions(serve: Serve) -> None:
    server = serve(*OPEN, HEAR, HEAR)

    async def leave_open() -> AsyncSession[Any]:
        return await AsyncClient(server.url).connect("/stream")

    session = asyncio.run(leave_open())
    server.sees("close 1000")
    assert session.job_id == "j1"


def test_cancel_ends_the_job_and_who_reads_hears_of_it(serve: Serve) -> None:
    cancelled: dict[str, Any] = {
        "job_id": "j1",
        "status": "cancelled",
        "position": 0,
        "created_at": 0,
        "started_at": None,
    }
    told = threading.Event()
    server = serve(*OPEN, told, event("cancelled", refusal("cancelled", "gone")), closing(1000))
    server.answers[CANCEL.split()[1]] = [answer(json.dumps({**cancelled, "finished_at": 1}).encode())]
    with Client(server.url).connect("/stream") as session:
        assert session.cancel().status == "cancelled"
        told.set()
        with pytest.raises(Cancelled, match="gone"):
            next(session)


async def test_a_session_is_opened_once(serve: Serve) -> None:
    async with AsyncClient(serve(*OPEN, HOLD).url).connect("/stream") as session:
        with pytest.raises(RuntimeError, match="opened once"):
            await session


async def test_a_closed_client_opens_no_session() -> None:
    client = AsyncClient("http://127.0.0.1:1")
    await client.aclose()
    with pytest.raises(RuntimeError, match="closed"):
        await client.connect("/stream")


async def test_a_session_that_is_not_open_says_how_to_open_it(serve: Serve) -> None:
    session = AsyncClient("http://127.0.0.1:1").connect("/stream")
    with pytest.raises(RuntimeError, match="async with"):
        await session.recv()
    await session.aclose()


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_the_end_of_a_process_leaves_its_sessions(serve: Serve, host: str) -> None:
    """At that time no name is looked up any more: the socket tells it."""
    server = serve(*OPEN, HEAR)
    url = server.url.replace("127.0.0.1", host)
    code = f"from streamapp_client import Client; session = Client('{url}').connect('/stream')"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=WAIT_S)
    server.sees('{"type":"cancel"}')


@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_a_forked_process_leaves_its_parents_session_alone(serve: Serve) -> None:
    server = serve(*OPEN, HEAR, *DONE)
    session = Client(server.url).connect("/stream")
    if (child := os.fork()) == 0:
        try:
            session.close()
            status = 1
            try:
                session.send(1)
            except SessionEnded:
                status = 0
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    session.finish()
    assert list(session) == []
    assert CANCEL not in server.saw(3)
