"""What a handler's own script is asked for, and how it ends where that cannot be done."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from tests.loggers import restored_loggers
from tests.waiting import WAIT_S

from streamapp.runpod import progress
from streamapp.runpod.local import run_as_script
from streamapp.runpod.logger import RunPodLogger

SCRIPT = """
import sys
from streamapp import runpod

def handler(job):
    yield [job["id"], job["input"], sys.argv[1:]]

runpod.serverless.start({"handler": handler})
"""
UPDATES = """
from streamapp.runpod.serverless import progress_update, register_fitness_check, start

@register_fitness_check
def check():
    print("checked")

def handler(job):
    progress_update(job, "halfway")
    yield "done"

start({"handler": handler})
"""
REAL_PACKAGE = """
class serverless:
    def register_fitness_check(check):
        check()

    def progress_update(job, progress):
        print(job, progress)

    def start(config):
        print(list(config["handler"]({"id": "a", "input": 5})))
"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "handler.py").write_text(SCRIPT)
    with restored_loggers():
        yield tmp_path


@pytest.fixture
def level() -> Iterator[RunPodLogger]:
    logger = RunPodLogger()
    before = logger.level
    yield logger
    logger.level = before


def run(*arguments: str, **environment: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "handler.py", *arguments],
        capture_output=True,
        text=True,
        timeout=WAIT_S,
        check=False,
        env={**os.environ, **environment},
    )


def ended(monkeypatch: pytest.MonkeyPatch, *arguments: str, config: Any = None) -> Any:
    """Start in this process; return the code or the words that it ends with."""
    monkeypatch.setattr(sys, "argv", ["my handler.py", *arguments])
    with pytest.raises(SystemExit) as end:
        run_as_script({"handler": str} if config is None else config)
    return end.value.code


def test_a_test_input_is_run_once() -> None:
    ran = run("--test_input", '{"input": {"n": 5}}', "--mine", "a")
    assert (ran.returncode, ran.stdout) == (0, '["local_test", {"n": 5}, ["--mine", "a"]]\n')


def test_the_file_is_read_where_nothing_else_is_given(folder: Path) -> None:
    (folder / "test_input.json").write_text('\ufeff{"id": "mine", "input": "ü"}', "utf-8")
    assert run().stdout == '["mine", "ü", []]\n'
    assert run("--test_input", '{"input": 0}').stdout == '["local_test", 0, []]\n'


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "there is no test_input.json in "),
        (("--test_input", '{"input'), "--test_input: expected JSON: "),
        (("--test_input", ""), "--test_input: expected JSON: "),
        (("--test_input", "[" * 100_000), "--test_input: expected JSON: "),
        (("--test_input", '{"input": "\udcff"}'), "--test_input: expected JSON: "),
        (("--test_input", '{"input": "\\ud800"}'), "--test_input: expected JSON: "),
        (("--test_input", '{"prompt": "x"}'), '--test_input: expected {"input": ...}, got {"prompt": "x"}'),
        (("--test_input", '{"input": null}'), '--test_input: expected {"input": ...}'),
        (("--test_input", "{}"), '--test_input: expected {"input": ...}'),
        (("--test_input", "[1]"), '--test_input: expected {"input": ...}'),
    ],
)
def test_what_is_no_job_is_told_in_a_line(
    arguments: tuple[str, ...], said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert ended(monkeypatch, *arguments).startswith(said)


@pytest.mark.parametrize("content", [b"\xff", b"{", b"[]", b""])
def test_a_file_that_holds_no_job_is_named(content: bytes, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "test_input.json").write_bytes(content)
    assert ended(monkeypatch).startswith("test_input.json: ")


@pytest.mark.parametrize(("given", "told"), [("7", "7"), ('"a"', "a"), ("null", "local_test"), ('""', "local_test")])
def test_a_job_may_have_an_id(
    given: str, told: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ("--test_input", f'{{"input": 5, "id": {given}}}')
    assert ended(monkeypatch, *arguments, config={"handler": lambda job: job["id"]}) == 0
    assert capsys.readouterr().out == f'"{told}"\n'


def test_words_go_to_stderr_and_the_code_is_1() -> None:
    ran = run()
    assert (ran.returncode, ran.stdout) == (1, "")
    assert "there is no test_input.json" in ran.stderr


@pytest.mark.parametrize("config", [{}, {"handler": None}, [], None, "handler"])
def test_a_config_without_a_handler_says_what_to_write(config: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["handler.py", "--test_input", '{"input": 1}'])
    with pytest.raises(SystemExit, match="handler"):
        run_as_script(config)


def test_the_arguments_are_in_the_config_and_no_longer_in_argv(
    monkeypatch: pytest.MonkeyPatch, level: RunPodLogger
) -> None:
    config: dict[str, Any] = {"handler": str}
    arguments = ("--mine", "--rp_log_level", "warn", "--test_input", '{"input": 5}')
    assert ended(monkeypatch, *arguments, config=config) == 0
    assert sys.argv == ["my handler.py", "--mine"]
    assert config["rp_args"]["test_input"] == {"id": "local_test", "input": 5}
    assert (config["rp_args"]["rp_api_port"], level.level) == (8000, "WARN")


@pytest.mark.parametrize("arguments", [("--rp_log_level", "loud"), ("--rp_api_port", "65536"), ("--test_input",)])
def test_a_wrong_argument_is_told_with_the_usage(arguments: tuple[str, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    assert ended(monkeypatch, *arguments) == 2


def test_help_is_shown(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert ended(monkeypatch, "--help") == 0
    assert "--rp_serve_api" in capsys.readouterr().out


def test_realtime_is_refused_with_what_to_do_instead(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RUNPOD_REALTIME_PORT", "8080")
    assert "write --rp_serve_api instead" in ended(monkeypatch, "--test_input", '{"input": 5}')


def test_a_script_that_is_to_fetch_jobs_is_run_by_the_real_package(folder: Path) -> None:
    (folder / "runpod.py").write_text(REAL_PACKAGE)
    ran = run("--rp_log_level", "INFO", RUNPOD_WEBHOOK_GET_JOB="http://127.0.0.1/job-take/$ID?a=b")
    assert (ran.returncode, ran.stdout) == (0, "[['a', 5, ['--rp_log_level', 'INFO']]]\n")


def test_checks_and_updates_of_a_script_that_fetches_jobs_go_to_the_real_package(folder: Path) -> None:
    (folder / "runpod.py").write_text(REAL_PACKAGE)
    (folder / "handler.py").write_text(UPDATES)
    ran = run(RUNPOD_WEBHOOK_GET_JOB="http://127.0.0.1/job-take/$ID?a=b")
    assert ran.stdout.splitlines() == ["checked", "{'id': 'a', 'input': 5} halfway", "['done']"]


def test_the_real_package_is_given_the_config_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[Any] = []
    real = SimpleNamespace(start=started.append, progress_update=print)
    monkeypatch.setenv("RUNPOD_WEBHOOK_GET_JOB", "http://127.0.0.1/job-take/$ID?a=b")
    monkeypatch.setitem(sys.modules, "runpod", SimpleNamespace(serverless=real))
    monkeypatch.setattr(progress, "elsewhere", None)
    assert ended(monkeypatch, config={"handler": str}) is None
    assert (started, progress.elsewhere) == ([{"handler": str}], print)


def test_a_server_counts_before_all_else(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("RUNPOD_WEBHOOK_GET_JOB", "http://127.0.0.1/job-take/$ID?a=b")
    monkeypatch.setenv("RUNPOD_REALTIME_PORT", "8080")
    arguments = ("--rp_serve_api", "--rp_api_host", "0.0.0.0", "--rp_api_port", "0", "--test_input", '{"input": 5}')
    assert ended(monkeypatch, *arguments) == 1
    assert "--rp_api_host 0.0.0.0 lets other machines in" in " ".join(capsys.readouterr().err.split())


def test_without_the_real_package_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RUNPOD_WEBHOOK_GET_JOB", "http://127.0.0.1/job-take/$ID?a=b")
    monkeypatch.setitem(sys.modules, "runpod", None)
    assert "pip install runpod" in ended(monkeypatch)


def test_a_test_input_counts_before_jobs_to_be_fetched() -> None:
    ran = run("--test_input", '{"input": 5}', RUNPOD_WEBHOOK_GET_JOB="http://127.0.0.1/job-take/$ID?a=b")
    assert ran.stdout == '["local_test", 5, []]\n'
