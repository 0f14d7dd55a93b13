"""The environment that sends fal's clients to a server, read by real interpreters; test_fal_*.py make real calls."""

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
from tests.fal_packages import needs_node
from tests.waiting import WAIT_S

from streamapp.fal.environment import SHIMS, shim_variables, tls_variables

URL = "http://127.0.0.1:8000"


def run(*command: str, url: str = URL, **environment: str) -> str:
    environment = {**os.environ, **environment}
    return subprocess.run(
        command,
        env={**environment, **shim_variables(url, environment)},
        capture_output=True,
        text=True,
        check=True,
        timeout=WAIT_S,
    ).stdout


@pytest.mark.parametrize(
    ("environment", "key"),
    [
        ({}, "local:local"),
        ({"FAL_KEY": "of-fal"}, "of-fal"),
        ({"FAL_KEY": "of-fal", "STREAMAPP_API_KEY": "ours"}, "ours"),
    ],
)
def test_the_servers_key_goes_before_a_key_of_fals(environment: dict[str, str], key: str) -> None:
    assert shim_variables(URL, environment)["FAL_KEY"] == key


def test_paths_and_options_that_are_set_are_kept() -> None:
    variables = shim_variables(URL, {"PYTHONPATH": os.pathsep.join(["/a", "/b"]), "NODE_OPTIONS": "--trace-warnings"})
    assert variables["PYTHONPATH"].split(os.pathsep) == [str(SHIMS), "/a", "/b"]
    assert variables["NODE_OPTIONS"].endswith("/fal.mjs --trace-warnings")


def test_setting_them_twice_changes_nothing() -> None:
    variables = shim_variables(URL + "/", {})
    assert shim_variables(URL, variables) == variables


def test_an_untouched_client_is_told_whom_to_trust_and_whom_to_call() -> None:
    variables = tls_variables("127.0.0.1:8443", {}, bundle=Path("/tls/bundle.pem"), authority=Path("/tls/ca.pem"))
    assert variables == {
        "SSL_CERT_FILE": "/tls/bundle.pem",
        "REQUESTS_CA_BUNDLE": "/tls/bundle.pem",
        "NODE_EXTRA_CA_CERTS": "/tls/ca.pem",
        "FAL_RUN_HOST": "127.0.0.1:8443/run",
        "FAL_QUEUE_RUN_HOST": "127.0.0.1:8443/queue",
        "FAL_WS_RUN_HOST": "127.0.0.1:8443/ws",
    }


@pytest.mark.parametrize("name", ["http_proxy", "HTTPS_PROXY", "ALL_PROXY"])
@pytest.mark.parametrize("url", [URL, "http://localhost:8000", "https://[::1]:8000"])
def test_where_there_is_a_proxy_a_server_on_this_machine_is_excepted(name: str, url: str) -> None:
    host = url.split("//")[1].removesuffix(":8000")
    variables = shim_variables(url, {name: "http://proxy:3128", "NO_PROXY": "example.org"})
    assert variables["NO_PROXY"] == variables["no_proxy"] == f"{host.strip('[]')},example.org"
    tls = tls_variables(f"{host}:8443", {name: "http://proxy:3128"}, bundle=Path("b"), authority=Path("a"))
    assert tls["no_proxy"] == host.strip("[]")


@pytest.mark.parametrize(("url", "proxy"), [("https://gpu.example", "http://proxy:3128"), (URL, "")])
def test_else_nothing_is_excepted(url: str, proxy: str) -> None:
    assert "NO_PROXY" not in shim_variables(url, {"HTTPS_PROXY": proxy, "NO_PROXY": "example.org"})


def test_python_imports_fal_client_with_our_urls() -> None:
    names = ("RUN_URL_FORMAT", "QUEUE_URL_FORMAT", "REALTIME_URL_FORMAT", "REST_URL", "CDN_URL")
    code = f"from fal_client import client; print(*[getattr(client, name) for name in {names}])"
    assert run(sys.executable, "-c", code).split() == [
        f"{URL}/run/",
        f"{URL}/queue/",
        "ws://127.0.0.1:8000/run/",
        f"{URL}/rest",
        f"{URL}/rest",
    ]


def test_a_sitecustomize_that_was_there_still_runs(tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text("greeting = 'hello'")
    shown = run(sys.executable, "-c", "import sitecustomize as s; print(s.greeting)", PYTHONPATH=str(tmp_path))
    assert shown == "hello\n"


def test_what_is_not_fals_is_imported_as_ever() -> None:
    assert run(sys.executable, "-c", "import json.tool; print(json.tool.__name__)") == "json.tool\n"


class Echo(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        is_chunked = "transfer-encoding" in self.headers
        size = int(self.rfile.readline(), 16) if is_chunked else int(self.headers.get("content-length", 0))
        body = self.rfile.read(size).decode()
        answer = f"{self.command} {self.path} {body}".encode()
        self.send_response(200)
        self.send_header("content-length", str(len(answer)))
        self.send_header("connection", "close")
        self.end_headers()
        self.wfile.write(answer)

    do_POST = do_GET
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: object) -> None: ...


@pytest.fixture(scope="module")
def echo() -> Iterator[str]:
    with HTTPServer(("127.0.0.1", 0), Echo) as server:
        threading.Thread(target=server.serve_forever).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@needs_node
@pytest.mark.parametrize(
    ("request_", "arrived"),
    [
        ("'https://fal.run/me/app/stream?a=1'", "GET /run/me/app/stream?a=1 "),
        ("new URL('https://queue.fal.run/me/app')", "GET /queue/me/app "),
        ("'https://rest.fal.ai/tokens/', {method: 'POST', body: 'x'}", "POST /rest/tokens/ x"),
        ("new Request('https://fal.run/me/app', {method: 'POST', body: 'y'})", "POST /run/me/app y"),
        ("process.env.STREAMAPP_URL + '/own'", "GET /own "),
    ],
)
def test_node_fetches_from_us_what_it_would_from_fal(echo: str, request_: str, arrived: str) -> None:
    code = f"fetch({request_}).then(r => r.text()).then(console.log)"
    assert run("node", "-e", code, url=echo, NODE_OPTIONS="").rstrip("\n") == arrived


@needs_node
def test_nodes_web_sockets_are_ours_too() -> None:
    code = "console.log(new WebSocket('wss://fal.run/me/app/realtime?t=1').url); process.exit()"
    shown = run("node", "-e", code, NODE_OPTIONS="--experimental-websocket")
    assert shown == "ws://127.0.0.1:8000/run/me/app/realtime?t=1\n"


@needs_node
def test_a_node_without_web_sockets_is_told_how_to_have_them() -> None:
    code = "delete globalThis.WebSocket; await import(process.env.SHIM); queueMicrotask(() => new WebSocket('wss://x'))"
    env = {"PATH": os.environ["PATH"], "SHIM": (SHIMS / "fal.mjs").as_uri()}
    command = ["node", "--input-type=module", "-e", code]
    ended = subprocess.run(command, env=env, capture_output=True, text=True, timeout=WAIT_S, check=False)
    assert ended.returncode != 0
    assert "NODE_OPTIONS=--experimental-websocket" in ended.stderr
