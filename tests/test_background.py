"""Apps that are served from their own process: by a script that blocks, and beside what runs there."""

import asyncio
import gc
import logging
import os
import signal
import socket
import subprocess
import sys
import threading
import weakref
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from sse_starlette import EventSourceResponse
from tests.at_work import Gate
from tests.loggers import restored_loggers
from tests.processes import port_of, read_until
from tests.waiting import WAIT_S, until

import streamapp
from streamapp.errors import DefinitionError, InvalidInput, SetupFailed
from streamapp.serving import Serving
from streamapp.settings import get_settings
from streamapp_client import Client

SCRIPT = """
import sys
import streamapp

class Counter(streamapp.App):
    def setup(self):
        if sys.argv[1:] == ["fails"]:
            raise ValueError("no model")

    def teardown(self):
        print("torn down", flush=True)

    @streamapp.endpoint("/stream")
    def stream(self, steps: int = 3):
        yield from range(steps)

if __name__ == "__main__":
    if sys.argv[1:] == ["beside"]:
        serving = Counter.serve(port=0, block=False)
        serving.wait_ready()
        print(serving, flush=True)
    else:
        Counter.serve(port=0)
    print("goes on")
"""


class Counter(streamapp.App):
    @streamapp.endpoint("/stream")
    def stream(self, steps: int = 3) -> Iterator[int]:
        yield from range(steps)


class Kept(streamapp.App):
    """Has a job that goes on until the test lets it, and says when it is torn down."""

    gate: Gate
    is_torn_down = False

    def teardown(self) -> None:
        type(self).is_torn_down = True

    @streamapp.endpoint("/stream")
    def stream(self) -> Iterator[str]:
        yield "first"
        self.gate()
        yield "last"


@pytest.fixture(autouse=True)
def settings_as_they_were() -> Iterator[None]:
    """Forget the settings of this environment, and what is set up to log."""
    with restored_loggers():
        yield
    get_settings.cache_clear()


def beside(app: type[streamapp.App], **options: Any) -> Serving:
    return app.serve(**{"port": 0, "block": False, **options})


def ask(serving: Serving, path: str = "/stream") -> str:
    return httpx.post(serving.url + path, json={}, timeout=WAIT_S).text


def read(serving: Serving) -> list[Any]:
    """Return the outputs of a stream, and how it has ended."""
    with Client(serving.url).stream("/stream") as events:
        outputs = [event.data for event in events]
    return [*outputs, events.result and "done"]


@contextmanager
def script(folder: Path, *arguments: str, **environment: str) -> Iterator["subprocess.Popen[str]"]:
    (folder / "counter.py").write_text(SCRIPT)
    process = subprocess.Popen(
        [sys.executable, "-u", "counter.py", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=folder,
        env={**os.environ, **environment},
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


# in a script


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, -signal.SIGTERM), (signal.SIGINT, 130)])
def test_a_script_serves_until_a_signal_as_the_command_does(number: int, code: int, tmp_path: Path) -> None:
    with script(tmp_path) as process:
        url = read_until(process.stdout, "docs:").split()[1].removesuffix("/docs")
        assert "data: 2" in httpx.post(f"{url}/stream", json={}, timeout=WAIT_S).text
        process.send_signal(number)
        printed, log = process.communicate(timeout=WAIT_S)
    assert (process.returncode, "torn down" in printed, "goes on" in printed) == (code, True, False)
    assert "draining" in log
    assert "Traceback" not in log


def test_a_script_whose_app_cannot_be_set_up_ends_as_the_command_does(tmp_path: Path) -> None:
    with script(tmp_path, "fails") as process:
        _, log = process.communicate(timeout=WAIT_S)
    assert process.returncode == 3
    assert "ValueError: no model" in log


def test_a_script_lets_nobody_in_without_a_key(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        Counter.serve(host="0.0.0.0")
    assert ended.value.code == 1
    assert "host='0.0.0.0' lets other machines in, and no key guards the server; set STRE" in capsys.readouterr().err


def test_a_script_reads_the_deployments_settings(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("STREAMAPP_DRAIN_S", "soon")
    with pytest.raises(SystemExit) as ended:
        Counter.serve()
    assert ended.value.code == 1
    assert "STREAMAPP_DRAIN_S" in capsys.readouterr().err


def test_a_script_that_goes_on_and_ends_ends_its_server_in_order(tmp_path: Path) -> None:
    with script(tmp_path, "beside") as process:
        printed, log = process.communicate(timeout=WAIT_S)
    assert process.returncode == 0
    assert "<Serving counter at http://127.0.0.1:" in printed
    assert "goes on\ntorn down\n" in printed
    assert "Traceback" not in log


def test_where_a_loop_runs_it_does_not_block_the_whole_of_it() -> None:
    async def blocking() -> None:
        Counter.serve(block=True)

    with pytest.raises(InvalidInput, match="block=True would hold up the event loop that runs here"):
        asyncio.run(blocking())


def test_it_blocks_only_where_signals_are_heard() -> None:
    with ThreadPoolExecutor(1) as other, pytest.raises(InvalidInput, match="write block=False, and stop"):
        other.submit(Counter.serve).result(WAIT_S)


# beside other code


def test_at_a_prompt_it_does_not_block(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "ps1", ">>> ", raising=False)
    with Counter.serve(port=0) as serving:
        assert "data: 2" in ask(serving)


def test_what_setup_has_loaded_is_let_go_of_at_the_end() -> None:
    class Model: ...

    class Loaded(Counter):
        model: "weakref.ref[Model]"

        def setup(self) -> None:
            self.loaded = Model()
            self.loaded.__dict__["itself"] = self.loaded
            type(self).model = weakref.ref(self.loaded)

    with beside(Loaded) as serving:
        ask(serving)
        assert Loaded.model() is not None
    assert Loaded.model() is None


async def test_where_a_loop_runs_it_serves_beside_it() -> None:
    async with Counter.serve(port=0) as serving, httpx.AsyncClient() as client:
        answer = await client.post(f"{serving.url}/stream", json={}, timeout=WAIT_S)
    assert "data: 2" in answer.text
    assert serving.state == "stopped"


def test_it_leaves_the_process_as_it_is() -> None:
    def marks() -> list[Any]:
        handlers = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
        return [*handlers, gc.get_threshold(), gc.get_freeze_count(), sys.getswitchinterval()]

    before = marks()
    with beside(Counter) as serving:
        ask(serving)
        assert marks() == before


def test_several_serve_at_a_time() -> None:
    with beside(Counter) as one, beside(Kept) as other:
        assert one.url != other.url
        assert "data: 2" in ask(one)
        assert httpx.get(f"{other.url}/ready").status_code == 200


def test_several_apps_are_served_together() -> None:
    with streamapp.serve_apps(Kept, Counter, port=0, block=False) as serving:
        assert "data: 2" in ask(serving, "/counter/stream")
        assert serving.name == "kept, counter"


def test_an_apps_own_method_may_be_called_serve() -> None:
    class Dinner(streamapp.App):
        @streamapp.endpoint("/serve")
        def serve(self) -> str:  # type: ignore[override]
            return "soup"

    with streamapp.serve_apps(Dinner, port=0, block=False) as serving:
        assert ask(serving, "/serve") == '"soup"'


def test_one_after_another_has_the_same_port() -> None:
    with beside(Counter) as first:
        pass
    for app in (Counter, Kept):
        with beside(app, port=port_of(first.url)) as serving:
            assert serving.url == first.url


def test_an_app_that_is_served_anew_takes_its_servers_place(caplog: pytest.LogCaptureFixture) -> None:
    before = beside(Counter)

    class Again(streamapp.App, name="counter"):
        @streamapp.endpoint("/stream")
        def stream(self) -> Iterator[str]:
            yield "anew"

    with beside(Again, port=port_of(before.url)) as serving:
        assert "anew" in ask(serving)
    assert before.state == "stopped"
    assert f"counter is served anew at {before.url}; the server before that ends first" in caplog.text


def test_a_port_that_another_app_of_the_process_has_is_told_with_its_name() -> None:
    with beside(Counter) as serving, pytest.raises(InvalidInput, match="this process serves counter there; stop"):
        beside(Kept, port=port_of(serving.url))


def test_a_port_that_somebody_else_has_is_told() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(InvalidInput, match=f"cannot listen on 127.0.0.1:{port}: the port is in use"):
            beside(Counter, port=port)


def test_what_keeps_an_app_from_being_served_is_raised() -> None:
    class Empty(streamapp.App): ...

    with pytest.raises(DefinitionError, match="Empty has no endpoint"):
        beside(Empty)
    with pytest.raises(InvalidInput, match="write no_auth=True to let everybody in"):
        beside(Counter, host="0.0.0.0")
    with pytest.raises(InvalidInput, match="port=99999: Input should be less than or equal to 65535"):
        beside(Counter, port=99999)


def test_a_setup_that_fails_is_raised_and_frees_the_port(caplog: pytest.LogCaptureFixture) -> None:
    class Broken(Counter):
        def setup(self) -> None:
            raise ValueError("no model")

    serving = beside(Broken)
    with pytest.raises(SetupFailed, match="setup of broken failed with ValueError") as caught:
        serving.wait_ready()
    assert "no model" in caught.value.__notes__[0]
    until(lambda: serving.is_over)
    assert serving.state == "failed"
    with beside(Counter, port=port_of(serving.url)) as again:
        assert again.url == serving.url


def test_a_stream_that_is_read_has_its_end_while_the_server_stops(gate: Gate) -> None:
    Kept.gate, Kept.is_torn_down = gate, False
    with ThreadPoolExecutor(2) as others:
        serving = beside(Kept)
        reading = others.submit(read, serving)
        gate.wait()
        stopping = others.submit(serving.stop)
        until(lambda: serving.state == "stopping")
        gate.opened.set()
        stopping.result(WAIT_S)
    assert reading.result(WAIT_S) == ["first", "last", "done"]
    assert Kept.is_torn_down


def test_it_is_stopped_from_any_thread_and_as_often_as_one_likes() -> None:
    serving = beside(Counter)
    serving.wait_ready()
    with ThreadPoolExecutor(4) as others:
        for stopped in [others.submit(serving.stop) for _ in range(4)]:
            stopped.result(WAIT_S)
    serving.stop()
    assert serving.state == "stopped"
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port_of(serving.url)))


@pytest.mark.parametrize("path", ["/thread", "/loop"])
def test_a_job_that_stops_its_server_ends_as_it_would(path: str) -> None:
    class Ending(streamapp.App):
        serving: Serving

        @streamapp.endpoint("/thread")
        def thread(self) -> str:
            self.serving.stop()
            return "bye"

        @streamapp.endpoint("/loop")
        async def loop(self) -> str:
            self.serving.stop()
            return "bye"

    Ending.serving = serving = beside(Ending)
    assert ask(serving, path) == '"bye"'
    serving.stop()
    assert serving.state == "stopped"


def test_a_setup_and_a_teardown_that_stop_their_server_do_not_wait_for_its_end() -> None:
    class Ending(Kept):
        gate = Gate()
        serving: Serving

        def setup(self) -> None:
            self.gate()
            self.serving.stop()

        def teardown(self) -> None:
            self.serving.stop()
            super().teardown()

    Ending.serving = serving = beside(Ending)
    Ending.gate.opened.set()
    serving.stop()
    assert Ending.is_torn_down


def test_streams_of_sse_starlette_go_on_when_another_server_has_stopped() -> None:
    class Sent(streamapp.App):
        @streamapp.endpoint("/sent")
        async def sent(self) -> EventSourceResponse:
            async def events() -> Any:
                for n in range(3):
                    await asyncio.sleep(0)
                    yield {"data": f"n{n}"}

            return EventSourceResponse(events())

    for _ in range(2):
        with beside(Sent) as serving:
            assert "n2" in ask(serving, "/sent")


def test_it_logs_to_stderr_where_nothing_is_set_up(capsys: pytest.CaptureFixture[str]) -> None:
    root = logging.getLogger()
    handlers, root.handlers = root.handlers, []
    try:
        with beside(Counter, log_level="info") as serving:
            ask(serving)
    finally:
        root.handlers = handlers
    assert "setup of counter took" in capsys.readouterr().err


def test_where_logging_is_set_up_it_has_the_level_that_is_asked_for(caplog: pytest.LogCaptureFixture) -> None:
    handlers = logging.getLogger("streamapp").handlers
    with beside(Counter, log_level="info"):
        pass
    assert "setup of counter took" in caplog.text
    assert logging.getLogger("streamapp").handlers == handlers


def test_the_environment_is_read_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    with beside(Counter) as serving:
        assert httpx.post(f"{serving.url}/stream", json={}).status_code == 200
    monkeypatch.setenv("STREAMAPP_API_KEY", "secret")
    with beside(Counter) as serving:
        assert httpx.post(f"{serving.url}/stream", json={}).status_code == 401


def test_threads_of_a_server_that_has_stopped_are_gone() -> None:
    with beside(Counter) as serving:
        ask(serving)
    left = {thread.name for thread in threading.enumerate()}
    until(lambda: "serve-counter" not in {thread.name for thread in threading.enumerate()})
    assert "inference-counter" not in left
