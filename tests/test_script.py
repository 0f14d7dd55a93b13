"""A handler's own script: what it prints, how it is served, and how it ends."""

import itertools
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import PIL.Image
import pytest
from tests.loggers import restored_loggers
from tests.processes import read_until
from tests.waiting import WAIT_S

from streamapp.cli.script import run_script, serve_script
from streamapp.runpod.handlers import handler_app
from streamapp.settings import get_settings

Job = dict[str, Any]
ASKED = {
    "rp_api_host": "localhost",
    "rp_api_port": 8000,
    "rp_api_concurrency": 1,
    "rp_log_level": None,
    "rp_debugger": None,
}
SCRIPT = """
import sys
from streamapp import runpod

def handler(job):
    yield "first"
    if job["input"] == "wait":
        sys.stdin.read()
    while job["input"] == "endless":
        yield {"more": True}
    yield "last"

runpod.serverless.start({"handler": handler, "return_aggregate_stream": True})
"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Work in a folder with a script; what is set up in this process is undone."""
    (tmp_path / "handler.py").write_text(SCRIPT)
    monkeypatch.chdir(tmp_path)
    get_settings.cache_clear()
    with restored_loggers():
        yield tmp_path
    get_settings.cache_clear()


@contextmanager
def started(*arguments: str, **environment: str) -> Iterator["subprocess.Popen[str]"]:
    process = subprocess.Popen(
        [sys.executable, "-u", "handler.py", *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, **environment},
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def run(handler: Callable[[Job], Any], value: Any = 3, *, lists: bool = False, is_generator: bool = True) -> int:
    app = handler_app({"handler": handler, "return_aggregate_stream": lists}, name="handler")
    return run_script(app, {"id": "local_test", "input": value}, ASKED, is_generator=is_generator)


def printed(capsys: pytest.CaptureFixture[str]) -> list[Any]:
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


# once


def counts(job: Job) -> Iterator[Job]:
    for n in range(job["input"]):
        yield {"n": n}


async def counts_on_loop(job: Job) -> AsyncIterator[Job]:
    for n in range(job["input"]):
        yield {"n": n}


def returns(job: Job) -> Job:
    return {"n": job["input"]}


async def returns_on_loop(job: Job) -> Job:
    return {"n": job["input"]}


@pytest.mark.parametrize("handler", [counts, counts_on_loop])
def test_each_item_is_printed_and_then_their_list_where_that_is_the_result(
    handler: Callable[[Job], Any], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(handler, 2) == 0
    assert printed(capsys) == [{"n": 0}, {"n": 1}]
    assert run(handler, 2, lists=True) == 0
    assert printed(capsys) == [{"n": 0}, {"n": 1}, [{"n": 0}, {"n": 1}]]


@pytest.mark.parametrize("handler", [returns, returns_on_loop])
def test_what_is_returned_is_printed_once(handler: Callable[[Job], Any], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(handler) == 0
    assert printed(capsys) == [{"n": 3}]


def test_text_that_no_terminal_takes_is_printed_all_the_same(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(lambda job: "ü\ud800") == 0
    assert capsys.readouterr().out == '"ü\ufffd"\n'


def test_images_are_saved(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(lambda job: {"image": PIL.Image.new("RGB", (4, 4))}) == 0
    (shown,) = printed(capsys)
    with PIL.Image.open(folder / shown["image"]) as image:
        assert image.size == (4, 4)


def raises(job: Job) -> Iterator[str]:
    yield "first"
    raise ValueError("no such model")


@pytest.mark.parametrize("handler", [raises, lambda job: {"error": "no such model"}])
def test_a_failure_is_told_on_stderr_and_ends_with_1(
    handler: Callable[[Job], Any], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(handler, lists=True) == 1
    told = capsys.readouterr()
    assert "no such model" in told.err.splitlines()[-1]
    assert "no such model" not in told.out


def test_an_item_is_printed_before_the_next_is_made() -> None:
    with started("--test_input", '{"input": "wait"}') as process:
        assert read_until(process.stdout, "first") == '"first"\n'
        assert process.communicate("", timeout=WAIT_S)[0] == '"last"\n["first", "last"]\n'


def test_ctrl_c_cancels_the_job(folder: Path) -> None:
    def handler(job: Job) -> Iterator[int]:
        os.kill(os.getpid(), signal.SIGINT)
        try:
            yield from itertools.count()
        finally:
            (folder / "closed").touch()

    assert run(handler) == 130
    assert (folder / "closed").exists()


def test_a_reader_that_has_left_ends_it_without_a_traceback() -> None:
    with started("--test_input", '{"input": "endless"}') as process:
        read_until(process.stdout, "first")
        assert process.stdout is not None
        process.stdout.close()
        process.stdout = None
        assert process.communicate(timeout=WAIT_S)[1] == ""
        assert process.returncode == 1


def test_on_a_terminal_without_unicode_it_is_escaped() -> None:
    handler = 'from streamapp import runpod\nrunpod.serverless.start({"handler": lambda job: "\\u00fc"})\n'
    Path("handler.py").write_text(handler)
    with started("--test_input", '{"input": 1}', PYTHONIOENCODING="ascii") as process:
        assert process.communicate(timeout=WAIT_S)[0] == '"\\u00fc"\n'


def test_ctrl_c_ends_with_130_and_no_traceback() -> None:
    with started("--test_input", '{"input": "endless"}') as process:
        read_until(process.stdout, "first")
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=WAIT_S)
        assert (process.returncode, "Traceback" in err) == (130, False)


# served


def test_the_handler_is_served_until_a_signal() -> None:
    with started("--rp_serve_api", "--rp_api_port", "0") as process:
        url = read_until(process.stdout, "docs:").split()[1].removesuffix("/docs")
        home = httpx.get(url, headers={"Accept": "text/html"}, timeout=WAIT_S)
        assert home.headers["Location"] == "/playground"
        answer = httpx.post(f"{url}/stream", json="x", headers={"Accept": "application/json"}, timeout=WAIT_S)
        assert answer.status_code == 200
        process.terminate()
        assert process.wait(WAIT_S) == -signal.SIGTERM


def test_a_port_in_use_is_told_in_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    app = handler_app({"handler": returns}, name="handler")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        asked = {**ASKED, "rp_api_port": port, "rp_api_concurrency": 4, "rp_debugger": True, "rp_log_level": "WARN"}
        assert serve_script(app, asked) == 1
    told = capsys.readouterr().err
    assert f"cannot listen on localhost:{port}: the port is in use" in told
    assert "--rp_api_concurrency is without effect" in told


def test_other_machines_are_let_in_only_with_a_key(capsys: pytest.CaptureFixture[str]) -> None:
    app = handler_app({"handler": returns}, name="handler")
    assert serve_script(app, {**ASKED, "rp_api_host": "0.0.0.0"}) == 1
    assert "STREAMAPP_API_KEY=<secret>, or write streamapp serve" in capsys.readouterr().err
