"""The command line: commands that end by themselves run in this process, servers and Ctrl-C in one of their own."""

import itertools
import json
import logging
import os
import re
import shlex
import signal
import socket
import ssl
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
import pytest
from PIL import Image
from tests.loggers import restored_loggers
from tests.nursery import Forked
from tests.processes import read_until
from tests.scripted_server import END, Serve, answer, block, chunk, head
from tests.waiting import WAIT_S
from typer.testing import CliRunner, Result

from streamapp.cli.main import Project, cli, read_arguments, set_up_logging
from streamapp.errors import InvalidInput
from streamapp.settings import get_settings

APP = """
import threading
import time
from pathlib import Path

import PIL.Image
from starlette.responses import StreamingResponse

import streamapp

PICTURE = PIL.Image.new("RGB", (8, 8), "red")


class Painter(streamapp.App):
    def setup(self):
        print("loaded")

    @streamapp.endpoint("/stream")
    def stream(self, stream: streamapp.Stream, color: str = "red", total: int = 2):
        for step in range(1, total + 1):
            stream.log(f"step {step}")
            stream.preview(PICTURE, step=step, total=total)
        return {"image": PICTURE, "color": color}

    @streamapp.endpoint("/endless")
    def endless(self, stream: streamapp.Stream, says: str = ""):
        print("begun", flush=True)
        if says:
            stream.log(says)
        try:
            for step in range(10**9):
                stream.progress(step)
                time.sleep(0.01)
        except streamapp.Cancelled:
            Path("cancelled").touch()
            raise

    @streamapp.endpoint("/deaf")
    def deaf(self):
        print("begun", flush=True)
        threading.Event().wait()

    @streamapp.endpoint("/size/{name}")
    def size(self, name: str, image: streamapp.Image):
        return {"name": name, "size": [image.width, image.height]}

    @streamapp.endpoint("/double")
    def double(self, n: int):
        return {"double": 2 * n}

    @streamapp.endpoint("/own")
    def own(self) -> StreamingResponse:
        return StreamingResponse(iter(['data: {"n": 1}\\n\\n']), media_type="text/event-stream")

    @streamapp.endpoint("/hostile")
    def hostile(self) -> StreamingResponse:
        file = 'data: {"url": "data:text/plain;base64,aGk=", "content_type": "text/plain"}\\n\\n'
        return StreamingResponse(iter([file]), media_type="text/event-stream", headers={"X-Streamapp-Job-Id": ".."})

    @streamapp.endpoint("/fail")
    def fail(self):
        raise ValueError("no")


class Broken(Painter):
    def setup(self):
        raise OSError("no model")
"""
HALTING = """
import itertools, os, signal, streamapp

class Halting(streamapp.App):
    @streamapp.endpoint("/")
    def halt(self, stream: streamapp.Stream):
        os.kill(os.getpid(), signal.SIGINT)
        for step in itertools.count():
            stream.progress(step)
"""
IMPORTS = "import signal, sys\nprint('begun', file=sys.stderr, flush=True)\nsignal.pause()\n"
COMMANDS = ("image", "serve", "run", "call", "exec", "env", "worker", "new")


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Work in a folder with an app; what a command sets up in this process is undone."""
    (tmp_path / "app.py").write_text(APP)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", sys.path[:])
    get_settings.cache_clear()
    with restored_loggers():
        yield tmp_path
    get_settings.cache_clear()


def invoke(*arguments: str) -> Result:
    result = CliRunner().invoke(cli, arguments)
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result


def refused(*arguments: str) -> str:
    result = invoke(*arguments)
    assert result.exit_code == 1
    assert result.stdout == ""
    *before, line = result.stderr.splitlines()
    assert all(" INFO importing " in told for told in before)
    return line


@contextmanager
def started(*arguments: str, **environment: str) -> Iterator[Forked]:
    process = Forked(*arguments, env={**os.environ, **environment})
    try:
        yield process
    finally:
        process.kill()
        process.communicate()
        process.close()


@contextmanager
def serving(*arguments: str, **environment: str) -> Iterator[tuple[str, Forked]]:
    with started("serve", *arguments, "--port", "0", **environment) as process:
        url = read_until(process.stdout, "docs:").split()[1].removesuffix("/docs")
        yield url, process


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    source = tmp_path_factory.mktemp("server") / "app.py"
    source.write_text(APP)
    with serving(f"{source}:Painter") as (url, _):
        yield url


def interrupted_until_it_ends(process: Forked) -> tuple[str, str]:
    """Press Ctrl-C again and again; return what the process printed then."""
    while True:
        process.send_signal(signal.SIGINT)
        try:
            return process.communicate(timeout=0.2)
        except subprocess.TimeoutExpired:
            continue


def test_the_version_is_shown() -> None:
    assert invoke("--version").stdout.startswith("streamapp 0.")


def test_it_runs_as_a_module() -> None:
    command = [sys.executable, "-m", "streamapp", "--version"]
    assert subprocess.run(command, capture_output=True, check=True, timeout=WAIT_S).stdout.startswith(b"streamapp 0.")


def test_without_a_command_the_commands_are_listed() -> None:
    shown = invoke().output
    assert all(command in shown for command in COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
def test_each_command_has_help(command: str) -> None:
    result = invoke(command, "--help")
    assert result.exit_code == 0
    assert f" {command} [OPTIONS]" in result.stdout


# serve


def test_serve_says_what_it_serves_and_ends_by_sigterm() -> None:
    with started("serve", "app.py:Painter", "--port", "0") as process:
        line = read_until(process.stdout, "painter: ")
        url = line.split()[1].removesuffix("/stream")
        assert read_until(process.stdout, "curl").startswith(f"curl -N {url}/stream")
        assert httpx.get(f"{url}/health", timeout=WAIT_S).is_success
        process.send_signal(signal.SIGTERM)
        assert process.wait(WAIT_S) == -signal.SIGTERM
        assert process.stderr is not None
        assert "setup of painter took" in process.stderr.read()


def test_serve_says_at_once_what_it_imports(folder: Path) -> None:
    (folder / "slow.py").write_text(IMPORTS)
    with started("serve", "slow.py:Slow", "app.py:Painter") as process:
        assert process.stderr is not None
        assert process.stderr.readline().endswith(" INFO importing slow.py:Slow, app.py:Painter\n")
        assert process.stderr.readline() == "begun\n"


def test_serve_ends_by_ctrl_c_without_a_traceback() -> None:
    with serving("app.py:Painter") as (_, process):
        read_until(process.stderr, "setup of painter")
        process.send_signal(signal.SIGINT)
        assert process.wait(WAIT_S) == 130
        assert process.stderr is not None
        assert "Traceback" not in process.stderr.read()


@pytest.mark.parametrize("command", [("serve", "app.py"), ("run", "app.py", "/stream")], ids=["serve", "run"])
def test_ctrl_c_while_an_app_is_imported_shows_no_traceback(folder: Path, command: tuple[str, ...]) -> None:
    (folder / "app.py").write_text(IMPORTS)
    with started(*command) as process:
        read_until(process.stderr, "begun")
        process.send_signal(signal.SIGINT)
        assert process.wait(WAIT_S) == 130
        assert process.stderr is not None
        assert process.stderr.read().strip() in ("", "Aborted!")


def test_ctrl_c_while_the_command_itself_is_imported_shows_no_traceback(folder: Path) -> None:
    (folder / "typer.py").write_text(IMPORTS)
    command = [sys.executable, "-c", "import streamapp_command; streamapp_command.main()"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        read_until(process.stderr, "begun")
        process.send_signal(signal.SIGINT)
        assert process.communicate(timeout=WAIT_S)[1] == ""
        assert process.returncode == -signal.SIGINT


def test_a_client_that_was_uninstalled_with_its_own_package_is_told_of() -> None:
    """Both packages hold its files: pip asks nobody before it removes what is another's, too."""
    code = "import sys, streamapp_command; sys.modules['streamapp_client'] = None; streamapp_command.main()"
    asking = ["call", "http://127.0.0.1:1", "/stream"]
    done = subprocess.run([sys.executable, "-c", code, *asking], capture_output=True, text=True, timeout=WAIT_S)
    assert done.returncode == 1
    assert "pip install --force-reinstall --no-deps streamapp-server" in done.stderr
    assert "Traceback" not in done.stderr


def test_ctrl_c_twice_ends_serve_without_a_traceback(folder: Path) -> None:
    with serving("app.py:Painter") as (url, process), started("call", url, "/endless"):
        read_until(process.stdout, "begun")
        _, printed = interrupted_until_it_ends(process)
        assert "Traceback" not in printed
        assert process.returncode in (130, -signal.SIGINT)


def test_serve_ends_with_3_when_setup_raises() -> None:
    result = invoke("serve", "app.py:Broken", "--port", "0")
    assert result.exit_code == 3
    assert "OSError: no model" in result.stderr


def test_serve_reads_pyproject_when_no_app_is_named(folder: Path) -> None:
    (folder / "pyproject.toml").write_text('[tool.streamapp]\napps = ["app.py:Broken"]\nhost = "::1"\nport = 1\n')
    result = invoke("serve", "--port", "0")
    assert result.exit_code == 3
    assert result.stdout.startswith("broken: http://[::1]:")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "invalid_input: name an app: streamapp serve path/to/app.py:Class"),
        ("[tool.streamapp]\nport = 1", "invalid_input: name an app: streamapp serve path/to/app.py:Class"),
        ("[tool", "invalid_input: pyproject.toml: "),
        ('[tool.streamapp]\napps = ["app.py"]\nprt = 1', "[tool.streamapp]: prt: Extra inputs are not permitted"),
        (
            "[tool.streamapp.endpoints.a]\ngpus = 1",
            "[tool.streamapp]: endpoints.a: there is no 'gpus'; write 'gpu'",
        ),
        (
            "[tool.streamapp.endpoints.'a b']",
            "[tool.streamapp]: endpoints.a b.[key]: 'a b' is no endpoint id",
        ),
        ("[tool.streamapp.endpoints.a]\napp = 'nowhere.py'", "definition_error: there is no file 'nowhere.py'"),
        ("[tool.streamapp]\nendpoints = {}", "invalid_input: name an app"),
    ],
)
def test_serve_says_what_is_wrong_in_pyproject(folder: Path, text: str, said: str) -> None:
    (folder / "pyproject.toml").write_text(text)
    assert refused("serve").startswith(said)


ENDPOINTS = """
[tool.streamapp.endpoints.a]
app = "app.py:Painter"
gpu = "16 GB"

[tool.streamapp.endpoints.b]
app = "app.py:Painter"
"""


@pytest.mark.parametrize(
    ("apps", "options"), [("", ()), ('[tool.streamapp]\napps = ["app.py:Painter"]\n', ("--reload",))]
)
def test_serve_reads_endpoints_from_pyproject(folder: Path, apps: str, options: tuple[str, ...]) -> None:
    (folder / "pyproject.toml").write_text(apps + ENDPOINTS)
    assert shown("serve", "--port", "0", *options) == [
        "painter: http://",
        "runpod endpoint a: http:// (GPU 16 GB)",
        "runpod endpoint b: http://",
    ]


def test_an_endpoint_may_name_an_app_that_is_served(folder: Path) -> None:
    named = '[tool.streamapp]\napps = ["app.py:Painter"]\nendpoints.a.app = "painter"\n'
    (folder / "pyproject.toml").write_text(named)
    assert shown("serve", "--port", "0") == ["painter: http://", "runpod endpoint a: http://"]


def test_serve_reads_no_endpoints_where_the_command_line_names_an_app(folder: Path) -> None:
    (folder / "pyproject.toml").write_text(ENDPOINTS)
    assert shown("serve", "app.py:Painter", "--port", "0") == ["painter: http://"]


def shown(*command: str) -> list[str]:
    """Return what a server shows of apps and endpoints, their URLs as far as they are always the same."""
    with started(*command) as process:
        assert process.stdout is not None
        lines = list(itertools.takewhile(lambda line: not line.startswith("playground"), process.stdout))
        process.send_signal(signal.SIGTERM)
        process.wait(WAIT_S)
    return [re.sub(r"http://\S+( http://\S+)*", "http://", line.strip()) for line in lines]


def test_serve_without_an_app_and_without_pyproject_says_what_to_write() -> None:
    assert "[tool.streamapp]" in refused("serve")


@pytest.mark.parametrize(
    ("app", "said"),
    [
        ("nowhere.py:X", "there is no file 'nowhere.py'"),
        ("app.py:Nobody", "there is no 'Nobody' in app.py; the apps in it: app.py:Painter, app.py:Broken"),
        ("app.py:PICTURE", "app.py:PICTURE is no app"),
        ("app.py", "there are 2 apps in app.py; write one of app.py:Painter, app.py:Broken"),
    ],
)
def test_an_app_that_cannot_be_had_is_told_in_a_line(app: str, said: str) -> None:
    assert said in refused("serve", app)


def test_what_the_users_module_raises_is_shown_with_its_traceback(folder: Path) -> None:
    (folder / "raising.py").write_text("import streamapp\n1 / 0\n")
    result = invoke("serve", "raising.py:X")
    assert result.exit_code == 1
    assert [line for line in result.stderr.splitlines() if "File" in line] == [
        f'  File "{folder}/raising.py", line 2, in <module>'
    ]
    assert result.stderr.endswith("ZeroDivisionError: division by zero\n")


def test_a_module_that_exits_is_told_in_a_line(folder: Path) -> None:
    (folder / "script.py").write_text("raise SystemExit(3)")
    said = refused("serve", "script.py")
    assert "script.py: exits, with 3, while it is imported; " in said
    assert refused("run", "script.py", "/stream") == said


def test_a_port_that_there_is_not_is_refused() -> None:
    assert "Invalid value for '--port'" in invoke("serve", "app.py", "--port", "65536").stderr


def test_workers_are_refused_with_the_reason() -> None:
    assert "one process holds the model" in refused("serve", "app.py:Painter", "--workers", "4")


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "box.example"])
def test_other_machines_are_let_in_only_with_a_key_or_no_auth(host: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "STREAMAPP_API_KEY=<secret>" in refused("serve", "nowhere.py", "--host", host)
    assert "no file" in refused("serve", "nowhere.py", "--host", host, "--no-auth")
    monkeypatch.setenv("STREAMAPP_API_KEY", "secret")
    get_settings.cache_clear()
    assert "no file" in refused("serve", "nowhere.py", "--host", host)


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "localhost"])
def test_this_machine_needs_no_key(host: str) -> None:
    assert "no file" in refused("serve", "nowhere.py", "--host", host)


def test_a_wrong_setting_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STREAMAPP_MAX_QUEUE", "many")
    monkeypatch.setenv("STREAMAPP_DRAIN_S", "-1")
    said = (
        "definition_error: STREAMAPP_MAX_QUEUE: expected an integer, 1 or more, got 'many'; "
        "STREAMAPP_DRAIN_S: expected a number, 0 or more, got '-1'"
    )
    assert refused("serve", "nowhere.py") == refused("serve", "nowhere.py", "--reload") == said
    assert refused("run", "nowhere.py", "/stream") == said
    assert refused("serve", "nowhere.py", "--host", "0.0.0.0") == said


def test_what_kubernetes_makes_of_a_services_name_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STREAMAPP_PORT", "tcp://10.0.0.1:80")
    monkeypatch.setenv("STREAMAPP_SERVICE_HOST", "10.0.0.1")
    assert "no file" in refused("serve", "nowhere.py")


def test_a_list_in_the_settings_may_be_one_plain_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STREAMAPP_CORS_ORIGINS", "https://example.org")
    monkeypatch.setenv("STREAMAPP_TRUSTED_PROXIES", "10.0.0.1")
    assert invoke("serve", "app.py:Broken", "--port", "0").exit_code == 3  # it came as far as to the app's own mistake


def test_a_list_in_the_settings_that_is_none_is_told_in_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STREAMAPP_CORS_ORIGINS", '["https://example.org')
    said = refused("serve", "app.py:Painter")
    assert "STREAMAPP_CORS_ORIGINS: expected a JSON list, or names with commas between them" in said


def test_a_port_in_use_is_told_in_a_line() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        said = refused("serve", "app.py:Painter", "--port", str(port))
    assert said == f"invalid_input: cannot listen on 127.0.0.1:{port}: the port is in use; choose another"


def test_an_address_that_is_not_ours_is_told_in_a_line() -> None:
    assert "cannot listen on 192.0.2.1:0: " in refused(
        "serve", "app.py:Painter", "--host", "192.0.2.1", "--no-auth", "--port", "0"
    )


def test_reload_serves_new_code_at_the_same_port_and_ends_open_streams(folder: Path) -> None:
    with serving("app.py:Painter", "--reload") as (url, process), started("call", url, "/endless") as stream:
        read_until(process.stdout, "begun")
        (folder / "app.py").write_text(APP.replace("2 * n", "20 * n"))
        read_until(process.stderr, "starting anew: app.py changed")
        assert stream.wait(WAIT_S) == 1
        assert stream.stderr is not None
        assert "draining" in stream.stderr.read()
        read_until(process.stdout, "painter: ")
        assert httpx.post(f"{url}/double", json={"n": 1}, timeout=WAIT_S).json() == {"double": 20}
        process.send_signal(signal.SIGTERM)
        assert process.wait(WAIT_S) == 130


def test_with_reload_too_a_file_beside_the_app_stands_for_no_package_of_the_servers(folder: Path) -> None:
    (folder / "typer.py").write_text("raise ValueError('no typer')")
    with serving("app.py:Painter", "--reload") as (url, process):
        assert httpx.get(f"{url}/health", timeout=WAIT_S).is_success
        process.send_signal(signal.SIGTERM)
        process.wait(WAIT_S)


def raised(*options: str, **environment: str) -> str:
    """Return what `call` says of an endpoint that fails."""
    with serving("app.py:Painter", *options, **environment) as (url, process):
        said = invoke("call", url, "/fail").stderr
        process.send_signal(signal.SIGTERM)  # killed, it would leave its child behind
        process.wait(WAIT_S)
    return said


def test_reload_tells_callers_what_an_app_raised() -> None:
    said = raised("--reload")
    assert 'raise ValueError("no")\nValueError: no\n' in said
    assert said.splitlines()[-1] == "endpoint_failed: endpoint /painter/fail failed with ValueError: no"


def test_debug_is_asked_for_by_the_option_or_the_variable_and_refused_by_either() -> None:
    assert "Traceback" in raised("--debug")
    assert "Traceback" in raised(STREAMAPP_DEBUG="true")
    assert "Traceback" not in raised("--reload", "--no-debug")
    assert "Traceback" not in raised("--reload", STREAMAPP_DEBUG="false")


def test_debug_before_other_machines_is_warned_about() -> None:
    said = invoke("serve", "app.py:Broken", "--host", "0.0.0.0", "--no-auth", "--port", "0", "--debug").stderr
    assert "WARNING --debug tells other machines" in said
    assert "--debug" not in invoke("serve", "app.py:Broken", "--port", "0", "--debug").stderr


def test_serve_with_tls_says_how_to_trust_it(folder: Path) -> None:
    with serving("app.py:Painter", "--tls", "--tls-dir", "tls") as (url, process):
        bundle = shlex.split(read_until(process.stdout, "SSL_CERT_FILE"))[1].partition("=")[2]
        host = shlex.split(read_until(process.stdout, "FAL_RUN_HOST"))[1].partition("=")[2]
        assert url.startswith("https://")
        assert f"https://{host}" == f"{url}/run"
        trusting = ssl.create_default_context(cafile=bundle)
        assert httpx.get(f"{url}/health", timeout=WAIT_S, verify=trusting).is_success


def test_reload_keeps_tls() -> None:
    with serving("app.py:Painter", "--tls", "--tls-dir", "tls", "--reload") as (url, process):
        bundle = shlex.split(read_until(process.stdout, "SSL_CERT_FILE"))[1].partition("=")[2]
        trusting = ssl.create_default_context(cafile=bundle)
        assert httpx.get(f"{url}/health", timeout=WAIT_S, verify=trusting).is_success
        process.send_signal(signal.SIGTERM)
        process.wait(WAIT_S)


def test_tls_without_its_extra_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "streamapp.serve.certificates", None)
    assert 'pip install "streamapp-server[tls]"' in refused("serve", "app.py:Painter", "--port", "0", "--tls")


@pytest.mark.parametrize("level", ["debug", "info"])
def test_no_line_of_the_log_has_the_key_at_any_level(tmp_path: Path, level: str) -> None:
    (tmp_path / "app.py").write_text(APP)
    key = {"Authorization": "Key s3cret"}
    upgrade = {"Connection": "upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13", "Sec-WebSocket-Key": "x"}
    app = f"{tmp_path / 'app.py'}:Painter"
    with serving(app, "--log-level", level, STREAMAPP_API_KEY="s3cret") as (url, process):
        with httpx.Client(base_url=url, timeout=WAIT_S, follow_redirects=True) as client:
            for query in (
                "_token=s3cret",
                "a=1&_token=s3cret&_input={",
                "%5Ftoken=s3cret",
                f"_token=s3cret{1000 * '&'}",
            ):
                for path in ("/stream", "/fail", "/no", "/jobs/x", "/playground/", "/queue/me/painter/stream", "/docs"):
                    with suppress(httpx.RemoteProtocolError):  # of a stream that failed
                        client.get(f"{path}?{query}")
                        client.post(f"{path}?{query}", json={})
                client.get(f"/stream?{query}", headers=upgrade)
            client.post("/double", json={"n": "s"}, headers=key)
            client.get("/stream", headers=key | upgrade)
        process.send_signal(signal.SIGTERM)
        logged = "".join(process.communicate(timeout=WAIT_S))
    assert "s3cret" not in logged
    assert ("GET /stream?a=1&_input=" in logged) == (level == "debug")


# exec and env


def test_exec_runs_a_script_with_its_own_options_in_an_environment_that_points_here(folder: Path) -> None:
    (folder / "script.py").write_text("import os, sys; print(os.environ['STREAMAPP_URL'], sys.argv[1:])")
    with started("exec", "--url", "http://127.0.0.1:7", sys.executable, "script.py", "--url", "x") as process:
        assert process.communicate(timeout=WAIT_S)[0] == "http://127.0.0.1:7 ['--url', 'x']\n"


def test_the_exit_code_of_the_script_is_that_of_exec() -> None:
    with started("exec", "--", sys.executable, "-c", "raise SystemExit(7)") as process:
        assert process.wait(WAIT_S) == 7


def test_a_signal_to_exec_reaches_the_script() -> None:
    code = "import signal; print('waits', flush=True); signal.pause()"
    with started("exec", "--", sys.executable, "-c", code) as process:
        read_until(process.stdout, "waits")
        process.send_signal(signal.SIGTERM)
        assert process.wait(WAIT_S) == -signal.SIGTERM


def test_exec_says_in_a_line_that_there_is_no_such_command() -> None:
    assert "cannot run no-such-command: No such file" in refused("exec", "no-such-command")


def test_a_shell_reads_what_env_prints() -> None:
    shown = invoke("env", "--url", "http://127.0.0.1:7").stdout
    script = f"{shown}\nprintf '%s' \"$STREAMAPP_URL $FAL_KEY\""
    read = subprocess.run(["sh", "-c", script], capture_output=True, text=True, check=True)
    assert read.stdout.startswith("http://127.0.0.1:7 ")


@pytest.mark.parametrize("command", ["exec", "env"])
def test_exec_and_env_refuse_what_is_no_url(command: str) -> None:
    result = invoke(command, "--url", "localhost:8000", *(["true"] if command == "exec" else []))
    assert result.exit_code == 2
    assert "Expected a URL" in result.output


# worker


def in_shell(script: str, **environment: str) -> str:
    command = ["sh", "-c", script]
    read = subprocess.run(command, capture_output=True, text=True, check=True, env={**os.environ, **environment})
    return read.stdout


def test_an_endpoint_whose_jobs_run_elsewhere_is_served_and_a_shell_reads_what_its_workers_need(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("STREAMAPP_WORKER_SECRET", "s3 cret")
    with serving("--runpod", "first", "--runpod", "second", "app.py:Painter") as (url, _):
        shown = invoke("worker", "--runpod", "second", "--url", url).stdout
        take, key = in_shell(f'{shown}\nprintf \'%s|%s\' "$RUNPOD_WEBHOOK_GET_JOB" "$RUNPOD_AI_API_KEY"').split("|")
        assert (take, key) == (f"{url}/v2/second/job-take/$ID?gpu=any", "s3 cret")
        httpx.post(f"{url}/second/stream", json={"n": 1}, headers={"Prefer": "respond-async"}, timeout=WAIT_S)
        job = httpx.get(take.replace("$ID", "a"), headers={"Authorization": key}, timeout=WAIT_S).json()
        assert job["input"] == {"n": 1}
        assert "serve it with --runpod third" in refused("worker", "--runpod", "third", "--url", url)


def test_a_container_reads_what_its_worker_needs_without_quotes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STREAMAPP_WORKER_SECRET", "s3cret")
    lines = invoke("worker", "--runpod", "a", "--url", "http://127.0.0.1:9", "--env-file").stdout.splitlines()
    told = dict(line.split("=", 1) for line in lines if not line.startswith("#"))
    assert told["RUNPOD_WEBHOOK_PING"] == "http://127.0.0.1:9/v2/a/ping/$RUNPOD_POD_ID?gpu=any"
    assert "# nobody answers at http://127.0.0.1:9 now" in lines


def test_a_certificate_that_is_not_trusted_is_told_from_a_server_that_is_not_there(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("STREAMAPP_WORKER_SECRET", "s3cret")
    with serving("--runpod", "a", "--tls", "--tls-dir", "tls") as (url, _):
        assert (
            f"# the certificate of {url} is not trusted here; set SSL"
            in invoke("worker", "--runpod", "a", "--url", url).stdout
        )


@pytest.mark.parametrize(
    ("secret", "arguments", "said"),
    [
        ("", ["--runpod", "a"], "STREAMAPP_WORKER_SECRET: expected a key, got a blank one"),
        (None, ["--runpod", "a"], "set STREAMAPP_WORKER_SECRET to what the server has"),
        ("s3cret", ["--runpod", "a b"], "the name 'a b' is a part of URLs"),
    ],
)
def test_worker_says_what_it_needs(
    monkeypatch: pytest.MonkeyPatch, secret: str | None, arguments: list[str], said: str
) -> None:
    if secret is not None:
        monkeypatch.setenv("STREAMAPP_WORKER_SECRET", secret)
    assert said in refused("worker", *arguments)


@pytest.mark.parametrize(
    ("body", "said"), [(b"{}", "HTTP 404; is it a streamapp server?"), (b'{"error": {"message": "no"}}', ": no")]
)
def test_worker_asks_the_server_whether_it_has_such_an_endpoint(
    monkeypatch: pytest.MonkeyPatch, serve: Serve, body: bytes, said: str
) -> None:
    monkeypatch.setenv("STREAMAPP_WORKER_SECRET", "s3cret")
    server = serve(**{"v2/a/ping/none": [answer(body, "404 Not Found")]})
    assert said in refused("worker", "--runpod", "a", "--url", server.url)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--runpod", "a"], "write STREAMAPP_WORKER_SECRET=<secret>"),
        (["--runpod", "a b"], "the name 'a b' is a part of URLs"),
        (["app.py:Painter", "--runpod", "painter"], "--runpod painter: an app of that name is served"),
    ],
)
def test_serve_refuses_an_endpoint_whose_jobs_cannot_run_elsewhere(arguments: list[str], said: str) -> None:
    assert said in refused("serve", *arguments)


def test_pyproject_may_name_endpoints_whose_jobs_run_elsewhere(folder: Path) -> None:
    (folder / "pyproject.toml").write_text("[tool.streamapp.endpoints.a]")
    assert "fetch the jobs of a," in refused("serve")


# run and call


def test_run_prints_the_result_and_saves_its_media() -> None:
    result = invoke("run", "app.py:Painter", "/stream", "color=blue", "total:=3", "--out", "pictures")
    assert result.exit_code == 0
    assert json.loads(result.stdout) == {"image": "pictures/image.png", "color": "blue"}
    with Image.open("pictures/image.png") as image:
        assert image.size == (8, 8)
    with Image.open("pictures/preview-003.jpg") as preview:
        assert preview.size == (8, 8)
    lines = result.stderr.splitlines()
    assert {"loaded", "step 1", "step 3", "saved pictures/preview-003.jpg", "saved pictures/image.png"} <= set(lines)


def test_run_saves_no_previews_when_told_so() -> None:
    invoke("run", "app.py:Painter", "/stream", "--no-previews")
    assert os.listdir("out") == ["image.png"]


def test_run_ends_with_1_when_the_job_fails() -> None:
    result = invoke("run", "app.py:Painter", "/fail")
    assert (result.exit_code, result.stdout) == (1, "")
    assert "ValueError: no" in result.stderr
    assert result.stderr.splitlines()[-1].startswith("endpoint_failed: endpoint /painter/fail failed with ValueError")


def test_run_says_what_is_wrong_with_the_input() -> None:
    assert refused("run", "app.py:Painter", "/double", "n=x").startswith("invalid_input: n: Input should be a valid")


def test_run_says_what_endpoints_there_are() -> None:
    assert "it has /stream, /endless" in refused("run", "app.py:Painter", "/nowhere")


def test_a_result_that_cannot_be_written_is_told_in_a_line() -> None:
    with open("/dev/full", "w") as full:
        command = [sys.executable, "-m", "streamapp", "run", "app.py:Painter", "/double", "n=1"]
        run = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, timeout=WAIT_S, check=False)
    assert (run.returncode, run.stderr.splitlines()[-1]) == (1, "[Errno 28] No space left on device")
    assert "Traceback" not in run.stderr


def test_run_says_where_it_cannot_save(folder: Path) -> None:
    (folder / "taken").touch()
    result = invoke("run", "app.py:Painter", "/stream", "--out", "taken", "--no-previews")
    assert result.exit_code == 1
    assert "'taken'" in result.stderr.splitlines()[-1]


def test_a_handler_that_was_written_for_runpod_is_run_by_its_file(folder: Path) -> None:
    handler = "from streamapp import runpod\ndef handler(job):\n    runpod.serverless.progress_update(job, 'begun')\n"
    start = 'if __name__ == "__main__":\n    runpod.serverless.start({"handler": handler})\n'
    (folder / "handler.py").write_text(f"{handler}    return job['input']\n{start}")
    result = invoke("run", "handler.py", "/stream", "n:=1")
    assert json.loads(result.stdout) == {"n": 1}
    assert result.stderr == "begun\n"


def test_a_file_that_was_written_for_chutes_is_run_as_it_stands(folder: Path) -> None:
    chute = 'from chutes.chute import Chute\nchute = Chute(username="me", name="words")\n\n@chute.cord(stream=True)\n'
    (folder / "words.py").write_text(f"{chute}async def words(self, text: str):\n    yield {{'word': text}}\n")
    assert json.loads(invoke("run", "words.py", "/words", "text=one").stdout) == {"word": "one"}
    (folder / "none.py").write_text("from chutes.chute import Chute")
    assert 'write chute = Chute(name="...")' in invoke("run", "none.py", "/words").stderr


def test_ctrl_c_cancels_a_run() -> None:
    with started("run", "app.py:Painter", "/endless") as process:
        read_until(process.stderr, "begun")
        process.send_signal(signal.SIGINT)
        assert process.wait(WAIT_S) == 130
        assert process.communicate() == ("", "")
    assert Path("cancelled").exists()


def test_after_a_run_that_ctrl_c_has_cancelled_ctrl_c_is_what_it_was(folder: Path) -> None:
    (folder / "halting.py").write_text(HALTING)
    before = signal.getsignal(signal.SIGINT)
    assert CliRunner().invoke(cli, ["run", "halting.py", "/"]).exit_code == 130
    assert signal.getsignal(signal.SIGINT) is before


def test_ctrl_c_twice_ends_a_run_whose_code_does_not_come_back() -> None:
    with started("run", "app.py:Painter", "/deaf") as process:
        read_until(process.stderr, "begun")
        assert interrupted_until_it_ends(process) == ("", "")
        assert process.returncode == 130


# call


def test_call_prints_the_result_and_saves_previews_and_media(server: str) -> None:
    result = invoke("call", server, "/stream", "color=blue")
    printed = json.loads(result.stdout)
    picture = Path(printed["image"])
    assert printed["color"] == "blue"
    assert picture.parent.parent == Path("out")
    assert len(picture.parent.name) == 32
    assert picture.exists()
    assert (picture.parent / "preview-002.jpg").exists()
    assert "step 2" in result.stderr.splitlines()


def test_call_prints_the_value_of_an_endpoint_that_does_not_stream(server: str) -> None:
    Image.new("RGB", (4, 2)).save("photo.png")
    result = invoke("call", server, "/size/photo/", "image=@photo.png")
    assert json.loads(result.stdout) == {"name": "photo", "size": [4, 2]}


def test_call_reads_the_stream_of_a_response_that_the_endpoint_made_itself(server: str) -> None:
    assert json.loads(invoke("call", server, "/own").stdout) == {"n": 1}


def test_call_saves_the_files_of_a_stream_that_is_no_job_in_the_folder_itself(serve: Serve) -> None:
    body = b'data: {"url": "data:text/plain;base64,aGk=", "content_type": "text/plain"}\n\n'
    foreign = serve(answer(body, content_type="text/event-stream"), **{"openapi.json": [answer(b"{}")]})
    assert json.loads(invoke("call", foreign.url, "/stream").stdout) == "out/result.txt"


def test_call_saves_nothing_outside_of_its_folder_whatever_id_the_server_gives(server: str, folder: Path) -> None:
    assert json.loads(invoke("call", server, "/hostile").stdout) == "out/result.txt"
    assert not (folder / "result.txt").exists()


@pytest.mark.parametrize(
    ("path", "said"),
    [("/double", "invalid_input: body.n: Field required"), ("/fail", "endpoint_failed: "), ("/nowhere", "not_found: ")],
)
def test_call_tells_errors_in_a_line(server: str, path: str, said: str) -> None:
    assert refused("call", server, path).startswith(said)


def test_call_says_when_nobody_answers() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    assert refused("call", f"http://127.0.0.1:{port}", "/stream").startswith("connection_failed: No answer from")


def test_call_sends_the_key(folder: Path) -> None:
    with serving("app.py:Painter", STREAMAPP_API_KEY="secret") as (url, _):
        assert refused("call", url, "/stream").startswith("unauthorized: ")
        assert invoke("call", url, "/double", "n=2", "--key", "secret").exit_code == 0
        assert invoke("call", url, "/stream", "--key", "secret").exit_code == 0


@pytest.mark.parametrize(
    ("name", "data", "shown"),
    [
        ("log", "a line", 'log: "a line"'),
        ("log", {"message": 5}, "5"),
        ("progress", 0.5, "progress: 0.5"),
        ("progress", {"step": "x"}, 'progress: {"step": "x"}'),
        ("preview", {"step": 1, "total": "x"}, ""),
    ],
)
def test_call_shows_the_events_of_other_servers_as_they_are(serve: Serve, name: str, data: Any, shown: str) -> None:
    server = serve(head(), block(name, data), block("output", 7, 2), END, **{"openapi.json": [answer(b"[]")]})
    result = invoke("call", server.url, "/stream")
    assert (result.stdout, shown in result.stderr) == ("7\n", True)


@pytest.mark.parametrize(
    "document",
    [
        *(b"[]", b"{}", b"nonsense", b"[" * 100_000, b'{"paths": 5}', b'{"paths": {"/stream": 5}}'),
        b'{"paths": {"(.*)+$": {"post": {"responses": {"200": {"content": {"application/json": {}}}}}}}}',
        b'{"paths": {"/stream": {"post": {"responses": {"201": {}}}}}}',
    ],
)
def test_call_streams_where_the_description_does_not_say(serve: Serve, document: bytes) -> None:
    server = serve(head(), block("output", 7), END, **{"openapi.json": [answer(document)]})
    assert invoke("call", server.url, "/stream").stdout == "7\n"


@pytest.mark.parametrize(("value", "shown"), [('"\\ud800"', '"?"\n'), ("NaN", "NaN\n")])
def test_call_prints_what_is_odd(serve: Serve, value: str, shown: str) -> None:
    event = chunk(f"event: output\ndata: {value}\n\n")
    result = invoke("call", serve(head(), event, END, **{"openapi.json": [answer(b"{}")]}).url, "/stream")
    assert result.stdout == shown


@pytest.mark.skipif(sys.version_info >= (3, 13), reason="Python writes JSON as deeply nested as it reads")
def test_call_says_in_a_line_what_is_nested_too_deeply_to_be_printed(serve: Serve) -> None:
    depth = 700 if sys.version_info < (3, 12) else 1200  # which is read, but not written
    event = chunk(f"event: output\ndata: {'[' * depth}{']' * depth}\n\n")
    server = serve(head(), event, END, **{"openapi.json": [answer(b"{}")]})
    assert refused("call", server.url, "/stream") == "Expected JSON, got some that is nested too deeply"


def test_call_shows_the_traceback_that_a_server_tells(serve: Serve) -> None:
    error = {"code": "endpoint_failed", "message": "no", "retryable": False, "traceback": "Traceback: app.py\n"}
    server = serve(
        answer(json.dumps({"error": error}).encode(), "500 Internal Server Error"), **{"openapi.json": [answer(b"{}")]}
    )
    assert invoke("call", server.url, "/stream").stderr == "Traceback: app.py\nendpoint_failed: no\n"


def test_call_refuses_the_url_of_another_server_as_a_path(serve: Serve) -> None:
    other = serve()
    said = refused("call", serve(**{"openapi.json": [answer(b"{}")]}).url, f"{other.url}/stream", "--key", "secret")
    assert said.startswith("not_sent: Expected a path like")
    assert other.requests == []


def test_call_refuses_a_key_with_a_line_end() -> None:
    assert refused("call", "http://127.0.0.1:9", "/x", "--key", "secret\n").startswith("not_sent: Expected a key")


def test_who_says_nothing_serves_at_port_8000_of_this_machine_alone() -> None:
    assert (Project().host, Project().port) == ("127.0.0.1", 8000)


@pytest.mark.parametrize("url", ["127.0.0.1:8000", "http://[::1", "http://", "ftp://x", "", "http://x:port"])
def test_call_refuses_what_is_no_url(url: str) -> None:
    result = invoke("call", url, "/stream")
    assert result.exit_code == 2
    assert "Expected a URL like http://127.0.0.1:8000" in result.stderr


def test_ctrl_c_cancels_the_job_of_a_call(folder: Path) -> None:
    with serving("app.py:Painter") as (url, server), started("call", url, "/endless", "says=going") as process:
        read_until(process.stderr, "going")  # it knows its job: else this would end when nobody has come back for it
        process.send_signal(signal.SIGINT)
        assert process.wait(WAIT_S) == 130
        read_until(server.stderr, "cancelled: /painter/endless")


# new


def test_new_writes_an_app_that_runs() -> None:
    result = invoke("new", "my-app")
    assert result.stdout == "wrote my-app/; next:\n\n  cd my-app\n  streamapp serve --reload\n"
    run = invoke("run", "my-app/app.py", "/stream", "steps=3")
    assert json.loads(run.stdout) == {"image": "out/image.png"}


def test_new_refuses_a_folder_that_is_there() -> None:
    invoke("new", "my-app")
    assert "my-app is there already" in refused("new", "my-app")


# image


def test_image_prints_a_dockerfile_whatever_the_app_prints(folder: Path) -> None:
    (folder / "app.py").write_text(f"print('hello')\n{APP}")
    result = invoke("image", "app.py:Painter")
    first, *_, last = result.stdout.splitlines()
    assert first == "# Written by `streamapp image app.py:Painter`; no key is in it:"
    assert last == 'CMD ["streamapp", "serve", "app.py:Painter", "--host", "0.0.0.0", "--port", "8000"]'
    assert "hello" in result.stderr


def test_image_writes_a_compose_file_into_a_file(folder: Path) -> None:
    assert invoke("image", "app.py:Painter", "--compose", "--out", "compose.yaml").stdout == ""
    assert (folder / "compose.yaml").read_text().startswith("services:\n  painter:\n")


def test_image_reads_pyproject_when_no_app_is_named(folder: Path) -> None:
    text = "[tool.streamapp]\napps = ['app.py:Painter']\n[tool.streamapp.endpoints]\nelsewhere = {}\npainter = {}"
    (folder / "pyproject.toml").write_text(text)
    assert 'CMD ["streamapp", "serve", "--host"' in invoke("image").stdout


def test_image_makes_none_of_endpoints_whose_jobs_run_elsewhere(folder: Path) -> None:
    (folder / "pyproject.toml").write_text("[tool.streamapp.endpoints]\nelsewhere = {}")
    assert "name an app" in refused("image")


def test_image_says_why_it_needs_what_the_app_imports(folder: Path) -> None:
    (folder / "app.py").write_text("import no_such_module")
    result = invoke("image", "app.py")
    assert (result.exit_code, result.stdout) == (1, "")
    assert "No module named 'no_such_module'" in result.stderr
    assert result.stderr.endswith("run this where what it needs is installed\n")


# Arguments and logging


def test_arguments_are_text_json_or_files(folder: Path) -> None:
    (folder / "note.txt").write_text("hi")
    arguments = ["a=1=2", "b:=[1, null]", "c=@note.txt", "d="]
    data = {"a": "1=2", "b": [1, None], "c": "data:text/plain;base64,aGk=", "d": ""}
    assert read_arguments(arguments) == data


@pytest.mark.parametrize("argument", ["", "a", "=1", "a:={", "a=@nowhere.png", "a b=1"])
def test_another_form_of_argument_is_refused(argument: str) -> None:
    with pytest.raises(InvalidInput):
        read_arguments([argument])


def test_logs_are_one_short_line_each_and_not_repeated(capsys: pytest.CaptureFixture[str]) -> None:
    set_up_logging("info")
    set_up_logging("info")
    logging.getLogger("streamapp").info("job %s", 1)
    logging.getLogger("streamapp").debug("hidden")
    (line,) = capsys.readouterr().err.splitlines()
    assert line[2] == line[5] == ":"
    assert line[8:] == " INFO job 1"


def test_logs_show_no_key(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STREAMAPP_API_KEY", "a-key-of-ours")
    set_up_logging("info")
    for name in ("streamapp", "uvicorn"):
        logging.getLogger(name).warning("GET /stream?key=%s", "a-key-of-ours")
    assert capsys.readouterr().err.count("?key=a-k...\n") == 2
