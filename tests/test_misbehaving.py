"""User code that misbehaves is contained: the server says the truth, serves the others, and ends when it is told to.

Each app of misbehaving.py is served in a process of its own. How long an end takes is measured by `make chaos`.
"""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.nursery import Forked
from tests.processes import read_until
from tests.waiting import WAIT_S, until

APPS = Path(__file__).with_name("misbehaving.py")

# Most cases end by this: a second on a free machine, which leaves `drain_s` + 5 s where the sin is bounded by it.
BY_SIGTERM = (-signal.SIGTERM, 128 + signal.SIGTERM)  # in order, or by the last resort
QUICK = {"STREAMAPP_DRAIN_S": "0.5", "STREAMAPP_STUCK_S": "1"}


class Sinning:
    """A server with an app that sins."""

    def __init__(self, process: Forked, url: str) -> None:
        self.process = process
        self.url = url
        self.port = int(url.rpartition(":")[2])
        self.clients: list[socket.socket] = []

    def get(self, path: str) -> httpx.Response:
        return httpx.get(self.url + path, timeout=WAIT_S)

    def call(self, path: str, **body: Any) -> Any:
        return httpx.post(self.url + path, json=body, timeout=WAIT_S).json()

    def heard(self, word: str) -> str:
        """Wait until the app has said a word."""
        return read_until(self.process.stdout, word)

    def send(self, path: str, **body: Any) -> socket.socket:
        """Send a request; read nothing."""
        content = json.dumps(body)
        return self.send_raw(
            f"POST {path} HTTP/1.1\r\nHost: test\r\nContent-Type: application/json\r\n"
            f"Content-Length: {len(content)}\r\n\r\n{content}"
        )

    def send_raw(self, request: str) -> socket.socket:
        client = socket.create_connection(("127.0.0.1", self.port), timeout=WAIT_S)
        self.clients.append(client)
        client.sendall(request.encode())
        return client

    def end(self, number: int = signal.SIGTERM) -> int:
        """Tell the server to end, and wait until it has; return its exit code."""
        self.process.send_signal(number)
        return self.process.wait(WAIT_S)

    def log(self) -> str:
        """Return what an ended server has written to stderr."""
        return self.process.stderr.read()


@contextmanager
def sinning(app: str, *, waits: bool = True, **environment: str) -> Iterator[Sinning]:
    command = ("serve", f"{APPS}:{app}", "--port", "0", "--no-playground")
    process = Forked(*command, env={**os.environ, **QUICK, **environment})
    served = None
    try:
        line = read_until(process.stdout, "http://127.0.0.1:")
        served = Sinning(process, next(word for word in line.split() if word.startswith("http://")).rsplit("/", 1)[0])
        if waits:
            until(lambda: served.get("/ready").is_success)
        yield served
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)  # and its children
        process.close()
        for client in served.clients if served else ():
            client.close()


def read_all(client: socket.socket) -> bytes:
    received = b""
    with suppress(ConnectionResetError):
        while chunk := client.recv(65_536):
            received += chunk
    return received


def read_to(client: socket.socket, word: bytes) -> bytes:
    received = b""
    while word not in received and (chunk := client.recv(65_536)):
        received += chunk
    return received


# Logging


@pytest.mark.parametrize("app", ["FilterRaises", "ClosesStderr"])
def test_logging_that_raises_costs_its_line_and_nothing_else(app: str) -> None:
    with sinning(app) as served:
        assert served.call("/sin") == "done"
        assert [served.call("/ok") for _ in range(3)] == ["ok"] * 3
        assert (served.get("/health").status_code, served.get("/ready").status_code) == (200, 200)
        assert served.end() == -signal.SIGTERM
        assert served.heard("torn down")


def test_readers_hear_of_the_end_though_a_log_handler_never_returns() -> None:
    """The thread hangs there at the end of the first job, as it would in the app's own code: the same limits count."""
    with sinning("HandlerBlocks", STREAMAPP_TIMEOUT_S="1") as served:
        first, second = served.send("/sin"), served.send("/ok")  # at once: the limits count from the first one's start
        assert b'"done"' in read_to(first, b'"done"')
        assert b'"worker_stuck"' in read_all(second)
        assert served.process.wait(WAIT_S) == 70


# Threads


@pytest.mark.parametrize("thread", ["inference", "deadlines"])
def test_a_thread_that_ends_is_noticed(thread: str) -> None:
    with sinning("KillsThread", STREAMAPP_DRAIN_S="2") as served:
        running = served.send("/slow", steps=10_000)
        assert running.recv(4096)
        waiting = served.send("/ok")
        served.send("/sin", thread=thread)
        assert b"event: error" in read_all(running)
        assert waiting.recv(4096)  # answered, or refused: the first exception may have ended the first job alone
        with suppress(httpx.TransportError):  # it has ended already
            until(lambda: served.get("/health").status_code == 503)
            assert served.get("/ready").status_code == 503
        assert served.process.wait(WAIT_S) == 70


def test_the_loops_pool_is_the_apps_own_affair() -> None:
    with sinning("FillsPool") as served:
        blocked = [served.send("/sin") for _ in range(40)]
        assert all(client.recv(4096) for client in blocked)
        assert served.call("/image")["content_type"] == "image/png"
        with httpx.stream("POST", served.url + "/previews", json={}, timeout=WAIT_S) as previews:
            assert "image/jpeg" in previews.read().decode()
        assert served.call("/slow/cancel") == "heard"
        pixel = served.call("/image")["url"]
        assert served.call("/size", image=pixel) == 8
        assert served.end() == -signal.SIGTERM
        assert served.heard("torn down")
        assert all(b"draining" in read_all(client) for client in blocked)


def test_ctrl_c_ends_a_server_whose_pool_is_blocked() -> None:
    with sinning("FillsPool") as served:
        blocked = [served.send("/sin") for _ in range(20)]
        assert all(client.recv(4096) for client in blocked)
        assert served.end(signal.SIGINT) == 130


def test_a_job_that_never_returns_ends_the_process() -> None:
    with sinning("NeverReturns", STREAMAPP_TIMEOUT_S="0.5") as served:
        assert served.call("/sin")["error"]["code"] == "deadline_exceeded"
        assert served.process.wait(WAIT_S) == 70


@pytest.mark.parametrize(("app", "word"), [("NeverReturns", "stuck"), ("EncodingHangs", "encoding")])
def test_what_never_returns_does_not_keep_the_process(app: str, word: str) -> None:
    with sinning(app) as served:
        client = served.send("/sin")
        served.heard(word)
        assert served.end() == -signal.SIGTERM
        assert b'"code":"draining"' in read_all(client)


def test_a_result_that_cannot_be_encoded_holds_up_no_other_job() -> None:
    with sinning("EncodingHangs", STREAMAPP_TIMEOUT_S="1.5") as served:
        hanging = [served.send("/sin") for _ in range(3)]
        assert served.call("/ok") == "ok"
        assert all(client.recv(4096).startswith(b"HTTP/1.1 504") for client in hanging)
        assert served.end() == -signal.SIGTERM


@pytest.mark.long
def test_results_that_cannot_be_encoded_leave_threads_for_the_others() -> None:
    with sinning("EncodingHangs", STREAMAPP_TIMEOUT_S="3") as served:
        for path in ["/sin"] * 3 + ["/async_sin"] * 40:
            served.send(path)
        served.heard("encoding")
        until(lambda: served.call("/async_image").get("content_type") == "image/png")
        until(lambda: served.call("/image").get("content_type") == "image/png")
        assert served.end() == -signal.SIGTERM


# Hooks


@pytest.mark.parametrize("app", ["ExitHangs", "ExitSwallows", "ExitBlocks"])
def test_the_drain_goes_on_while_handle_exit_hangs(app: str) -> None:
    with sinning(app, STREAMAPP_DRAIN_S="3") as served:
        running = served.send("/slow", steps=10)
        assert running.recv(4096)
        served.process.send_signal(signal.SIGTERM)
        served.heard("exit heard")
        assert served.get("/ready").json() == {"ready": False, "reason": "draining"}
        assert served.call("/ok")["error"]["code"] == "draining"
        assert b"data: 9" in read_all(running)
        assert served.process.wait(WAIT_S) == -signal.SIGTERM
        assert served.heard("torn down")


@pytest.mark.parametrize(("app", "word"), [("SetupHangs", "setup"), ("AsyncSetupHangs", "setup")])
def test_a_setup_that_hangs_does_not_keep_the_process(app: str, word: str) -> None:
    with sinning(app, waits=False) as served:
        served.heard(word)
        assert served.get("/health").status_code == 200
        assert served.get("/ready").json()["reason"].endswith("starting")
        waiting = served.send("/ok")
        until(lambda: 'kind="sync"} 1.0' in served.get("/metrics").text)
        assert served.end() == -signal.SIGTERM
        assert b'"code":"draining"' in read_all(waiting)


@pytest.mark.parametrize("app", ["TeardownHangs", "AsyncTeardownSwallows"])
def test_a_teardown_that_hangs_does_not_keep_the_process(app: str) -> None:
    with sinning(app) as served:
        assert served.call("/ok") == "ok"
        assert served.end() == -signal.SIGTERM
        assert "did not end; its teardown is left out" in served.log()


def test_a_health_hook_that_hangs_is_not_healthy() -> None:
    with sinning("HealthHangs") as served:
        answer = served.get("/health")
        assert answer.status_code == 503
        assert "health() did not answer" in answer.json()["detail"]
        assert served.call("/ok") == "ok"
        assert served.end() == -signal.SIGTERM


# The loop


@pytest.mark.parametrize(
    ("app", "request_line", "word"),
    [("LoopSpins", "POST /sin", "spinning"), ("HealthBlocks", "GET /health", "health")],
)
def test_a_loop_that_is_blocked_for_good_ends_the_process(app: str, request_line: str, word: str) -> None:
    with sinning(app) as served:
        served.send_raw(f"{request_line} HTTP/1.1\r\nHost: test\r\nContent-Length: 0\r\n\r\n")
        served.heard(word)
        assert served.process.wait(WAIT_S) == 70
        log = served.log()
        assert log.count("blocks the event loop") == 1
        assert "the event loop is blocked for good" in log


@pytest.mark.parametrize(("app", "word"), [("LoopSpins", "spinning"), ("RegexRunsAway", "matching")])
def test_sigterm_ends_a_server_whose_loop_is_blocked(app: str, word: str) -> None:
    with sinning(app, STREAMAPP_STUCK_S="600") as served:
        served.send("/sin")
        served.heard(word)
        assert served.end() != 0


def test_a_loop_that_is_blocked_for_a_while_is_told_once_and_goes_on() -> None:
    with sinning("LoopSpins", STREAMAPP_STUCK_S="60") as served:
        assert served.call("/short") == "back"
        assert served.call("/ok") == "ok"
        assert served.end() == -signal.SIGTERM
        assert served.log().count("blocks the event loop") == 1


def test_a_server_that_was_stopped_for_a_while_is_not_taken_for_blocked() -> None:
    with sinning("LoopSpins", STREAMAPP_STUCK_S="1.5") as served:
        served.process.send_signal(signal.SIGSTOP)
        with suppress(httpx.TimeoutException):
            httpx.get(served.url + "/ready", timeout=4)
        served.process.send_signal(signal.SIGCONT)
        assert served.call("/ok") == "ok"
        assert served.end() == -signal.SIGTERM


def test_a_task_that_swallows_its_cancellation_does_not_keep_the_process() -> None:
    with sinning("SwallowsCancel") as served:
        client = served.send("/sin")
        assert client.recv(4096)
        assert served.call("/ok") == "ok"
        assert served.end() == -signal.SIGTERM
        assert b'"code":"draining"' in read_all(client)


def test_what_a_job_has_left_behind_does_not_keep_a_single_run_from_its_result() -> None:
    command = [sys.executable, "-m", "streamapp", "run", f"{APPS}:LeavesBehind", "/sin"]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=WAIT_S, check=False)
    assert (ended.stdout.splitlines()[-1], ended.returncode) == ('"done"', 0)


@pytest.mark.long
def test_prints_under_a_lock_stop_nobody() -> None:
    """The reader takes nothing: the job prints on, and the loop, which wants the same lock, answers."""
    with sinning("PrintsUnderLock") as served:
        reading = threading.Thread(target=read_all_lines, args=[served.process.stderr], daemon=True)
        reading.start()
        served.send("/sin")
        served.heard("printed")
        assert served.get("/health").json()["console"] == "free"
        assert served.end() == -signal.SIGTERM
        reading.join()


def read_all_lines(lines: Any) -> None:
    for _ in lines:
        pass


# The loop, stopped


@pytest.mark.parametrize("how", ["exit", "callback", "handler", "stop"])
def test_what_stops_the_loop_ends_neither_the_server_nor_its_jobs(how: str) -> None:
    with sinning("StopsLoop") as served:
        running = served.send("/slow", steps=20)
        assert running.recv(4096)
        assert served.call("/sin", how=how) == "done"
        assert served.call("/ok") == "ok"
        assert b"data: 19" in read_all(running)
        assert served.end() == -signal.SIGTERM
        assert served.heard("torn down")
        assert "the app has stopped the event loop" in served.log()


def test_a_task_that_interrupts_the_server_ends_it_in_order() -> None:
    with sinning("StopsLoop") as served:
        running = served.send("/slow", steps=10)
        assert running.recv(4096)
        assert served.call("/sin", how="interrupt") == "done"
        assert b"data: 9" in read_all(running)
        assert served.process.wait(WAIT_S) == 130
        assert served.heard("torn down")


def test_a_dependency_that_exits_fails_its_request() -> None:
    with sinning("StopsLoop") as served:
        answer = httpx.post(served.url + "/depends", json={}, timeout=WAIT_S)
        assert (answer.status_code, served.call("/ok")) == (500, "ok")
        assert served.end() == -signal.SIGTERM


def test_code_that_cancels_all_tasks_does_not_cancel_the_server() -> None:
    with sinning("CancelsAll") as served:
        served.send("/sin")
        assert served.heard("cancelled")
        assert [served.call("/ok") for _ in range(3)] == ["ok"] * 3
        assert served.end() == -signal.SIGTERM
        assert served.heard("torn down")


@pytest.mark.parametrize(
    "app",
    ["ExitExits", "AsyncExitExits", "ExitStopsIteration", "ExitCancelsAll", "TeardownCancelsAll", "AsyncTeardownExits"],
)
def test_a_hook_that_ends_more_than_itself_does_not_break_off_the_end(app: str) -> None:
    with sinning(app, STREAMAPP_DRAIN_S="20") as served:
        assert served.call("/ok") == "ok"
        assert served.end() == -signal.SIGTERM
        assert served.heard("torn down")


def test_an_async_setup_that_exits_has_failed() -> None:
    with sinning("AsyncSetupExits", waits=False) as served:
        assert served.process.wait(WAIT_S) == 3


@pytest.mark.parametrize("how", ["exit", "ignore", "loop"])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signals_that_the_app_has_taken_end_the_server_all_the_same(how: str, number: int) -> None:
    with sinning("TakesSignals") as served:
        assert served.call("/sin", how=how) == "done"
        lines = iter(served.process.stderr)
        assert [name for name in ("SIGINT", "SIGTERM") if any(f"the app has taken {name}" in line for line in lines)]
        assert served.end(number) in (-number, 128 + number)
        assert served.heard("torn down")


def test_a_loop_that_was_blocked_for_good_during_setup_ends_the_process_after_it() -> None:
    with sinning("HealthBlocksInSetup", waits=False) as served:
        served.heard("setup")
        served.send_raw("GET /health HTTP/1.1\r\nHost: test\r\n\r\n")
        assert served.process.wait(WAIT_S) == 70


@pytest.mark.parametrize("stuck_s", ["1", "600"])
def test_a_process_without_a_thread_to_spare_ends_too(stuck_s: str) -> None:
    with sinning("NoThreads", STREAMAPP_STUCK_S=stuck_s) as served:
        served.send("/sin")
        served.heard("spinning")
        assert served.end() == 70


# The way in and out


def test_a_request_that_is_still_being_sent_has_the_drains_time() -> None:
    with sinning("KeepsFiles", STREAMAPP_DRAIN_S="30") as served:
        begun = served.call("/rest/storage/upload/initiate", content_type="image/png", file_name="x.png")
        sent = threading.Event()

        def body() -> Iterator[bytes]:
            yield b"x" * 1000
            served.process.send_signal(signal.SIGTERM)
            until(lambda: served.get("/ready").status_code == 503)
            for _ in range(15):
                time.sleep(0.1)  # longer than a reader that takes nothing is waited for
                yield b"x" * 1000
            sent.set()

        length = {"Content-Length": str(16_000), "Content-Type": "image/png"}
        put = httpx.put(begun["upload_url"], content=body(), headers=length, timeout=WAIT_S)
        assert (put.status_code, sent.is_set()) == (200, True)
        assert served.process.wait(WAIT_S) == -signal.SIGTERM


def test_a_request_that_is_never_sent_whole_is_cut_when_the_drain_is_over() -> None:
    with sinning("KeepsFiles") as served:
        served.send_raw("POST /ok HTTP/1.1\r\nHost: test\r\nContent-Length: 100\r\n\r\n{")
        until(lambda: served.get("/ready").is_success)
        assert served.end() == -signal.SIGTERM


@pytest.mark.parametrize("path", ["/process", "/async_process"])
def test_a_stream_ends_for_its_reader_though_a_forked_child_lives(path: str) -> None:
    with sinning("Forks") as served:
        client = served.send(path)
        received = read_all(client)
        assert b"event: error" in received
        child = int(received.partition(b"data: ")[2].partition(b"\n")[0])
        os.kill(child, 0)  # it lives
        assert served.end() in BY_SIGTERM  # Python waits for it, and we for Python only a while
        os.kill(child, 0)
        with socket.create_server(("127.0.0.1", served.port)):
            pass  # the port is free


def test_children_of_all_kinds_do_their_work() -> None:
    with sinning("Forks") as served:
        assert served.call("/pool") not in (served.process.pid, 0)
        assert served.call("/raw") == 7
        assert served.call("/falls_through") == 0
        assert served.call("/async_falls_through") == 0
        assert served.call("/async_goes_on") == 0
        assert served.get("/health").json()["child"] == 0
        assert served.call("/signals") == -signal.SIGTERM
        assert served.call("/ok") == "ok"
        assert served.end() in BY_SIGTERM
        assert served.heard("torn down")


def test_a_child_that_setup_forks_does_not_wait_for_jobs() -> None:
    with sinning("SetupForks") as served:
        assert served.call("/child") == 0
        assert served.end() == -signal.SIGTERM


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, -signal.SIGTERM), (signal.SIGINT, 130)])
def test_callbacks_of_atexit_run_whatever_the_signal(number: int, code: int) -> None:
    with sinning("AtExit") as served:
        assert served.end(number) == code
        assert served.heard("atexit")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("app", ["AtExitHangs", "ThreadStays"])
def test_what_python_would_wait_for_does_not_keep_the_process(app: str, number: int) -> None:
    with sinning(app) as served:
        assert served.call("/ok") == "ok"
        assert served.end(number) in (128 + number, -number)


def test_a_setup_that_fails_ends_the_process_though_the_loops_pool_is_blocked() -> None:
    with sinning("SetupFails", waits=False) as served:
        assert served.process.wait(WAIT_S) == 3


def test_the_folder_of_a_killed_server_is_deleted_by_the_next(tmp_path: Path) -> None:
    with sinning("KeepsFiles", TMPDIR=str(tmp_path)) as killed, sinning("KeepsFiles", TMPDIR=str(tmp_path)) as living:
        for served in (killed, living):
            assert "/files/" in served.call("/sin")["url"]
        left, kept = sorted(tmp_path.glob("streamapp-files-*"), key=os.path.getmtime)
        killed.process.kill()
        killed.process.wait(WAIT_S)
        assert left.exists()
        with sinning("KeepsFiles", TMPDIR=str(tmp_path)) as following:
            following.call("/sin")
            assert (left.exists(), kept.exists()) == (False, True)
            assert following.end() == -signal.SIGTERM
        assert living.end() == -signal.SIGTERM
        assert [*tmp_path.glob("streamapp-files-*")] == []
