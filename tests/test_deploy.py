"""What the pages on deployment show is taken by the programs that it is for, and a server behind it streams."""

import json
import os
import re
import shlex
import shutil
import socket
import ssl
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
import trustme
import typer.main
from tests import processes
from tests.dockerfiles import BIN, check_compose, lint, needs_linters
from tests.documentation.blocks import blocks_of
from tests.fal_packages import needs
from tests.waiting import WAIT_S, until

from streamapp.chutes.imports import load_served
from streamapp.cli.dockerfile import dockerfile
from streamapp.cli.image import image_of
from streamapp.cli.main import cli
from streamapp.settings import Settings
from streamapp_client import Client

PAGES = {page.name: page.read_text() for page in (Path(__file__).parent.parent / "docs" / "deploy").glob("*.md")}
KEY = "a-key-of-ours"
APP = """
import threading
from fastapi import Request
import streamapp

class Relay(streamapp.App):
    def setup(self):
        self.gate, self.ended = threading.Semaphore(0), 0

    @streamapp.endpoint("/stream")
    def stream(self, stream: streamapp.Stream):
        for n in range(3):
            while not self.gate.acquire(timeout=0.01):
                stream.check()
            yield {"n": n}

    @streamapp.endpoint("/endless")
    def endless(self, stream: streamapp.Stream):
        try:
            for n in range(100_000_000):
                stream.check()
                yield {"n": n}
        finally:
            self.ended += 1

    @streamapp.endpoint("/open")
    async def open(self, events: int = 1) -> None:
        self.gate.release(events)

    @streamapp.endpoint("/ended")
    async def how_many_have_ended(self) -> int:
        return self.ended

    @streamapp.endpoint("/seen")
    async def seen(self, request: Request):
        yield [str(request.base_url), request.client.host]

    @streamapp.realtime("/realtime")
    def double(self, n: int) -> dict[str, int]:
        return {"n": 2 * n}
"""


def files(page: str) -> dict[str, str]:
    """Return what a page shows as files, by their names."""
    return {block.title: block.text for block in blocks_of(PAGES[page]) if block.title}


def shell(page: str) -> list[str]:
    return [line for block in blocks_of(PAGES[page]) if block.language == "sh" for line in block.text.splitlines()]


def test_every_block_is_a_file_or_commands() -> None:
    shown = [block for text in PAGES.values() for block in blocks_of(text)]
    assert [block for block in shown if block.language not in ("", "sh") and not block.title] == []
    assert {page: sorted(files(page)) for page in PAGES if files(page)} == {
        "compose.md": ["Caddyfile", "compose.yaml"],
        "image.md": ["Dockerfile", "app.py"],
        "kubernetes.md": ["words.yaml"],
        "proxies.md": ["/etc/caddy/Caddyfile", "/etc/nginx/conf.d/app.conf"],
        "systemd.md": ["streamapp.service", "streamapp@.service"],
    }


def test_every_command_of_ours_is_one() -> None:
    lines = [line for page in PAGES for line in shell(page)]
    ours = [found[1] for line in lines if (found := re.match(r"(?:[A-Z_]+=\S+ )*streamapp (.*)", line))]
    assert len(ours) == 4
    commands = typer.main.get_group(cli).commands
    for name, *arguments in map(shlex.split, ours):
        commands[name].make_context(name, arguments)


@pytest.mark.parametrize("page", PAGES)
def test_every_setting_that_is_named_is_one(page: str) -> None:
    named = set(re.findall(r"\bSTREAMAPP_([A-Z_]+)", PAGES[page])) - {"PERSISTENT_DIR", "SDXL_MODEL", "PORT"}
    assert {name.lower() for name in named} <= {*Settings.model_fields}


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("timeout_s", "`STREAMAPP_TIMEOUT_S` (600 s)"),
        ("drain_s", "`STREAMAPP_DRAIN_S` (30 s)"),
        ("keep_alive_s", "`STREAMAPP_KEEP_ALIVE_S` (5 s)"),
        ("heartbeat_s", "every 10 s (`STREAMAPP_HEARTBEAT_S`)"),
        ("max_queue", "64 jobs wait for the inference thread"),
        ("max_body_bytes", "64 MiB (`STREAMAPP_MAX_BODY_BYTES`)"),
        ("max_input_bytes", "512 MiB\n(`STREAMAPP_MAX_INPUT_BYTES`)"),
        ("max_files_bytes", "4 GiB in all\n(`STREAMAPP_MAX_FILES_BYTES`"),
    ],
)
def test_the_settings_are_what_the_pages_say(name: str, shown: str) -> None:
    assert shown in PAGES["index.md"] + PAGES["proxies.md"]
    value = int(re.findall(r"\d+", shown)[0])
    units = {"max_body_bytes": 2**20, "max_input_bytes": 2**20, "max_files_bytes": 2**30}
    assert Settings.model_fields[name].default == value * units.get(name, 1)


# Files that others read


def test_the_dockerfile_that_is_shown_is_the_one_that_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", sys.path[:])
    shown = files("image.md")
    Path("app.py").write_text(shown["app.py"])
    written = dockerfile(image_of(["app.py"], ["app.py"], [load_served("app.py")], Path()))
    here = f"FROM python:{sys.version_info.major}.{sys.version_info.minor}-slim"
    assert written == re.sub("^FROM .+", here, shown["Dockerfile"], flags=re.MULTILINE)


@needs_linters
def test_docker_takes_its_files(tmp_path: Path) -> None:
    assert lint(files("image.md")["Dockerfile"], "DL3013") == ""
    (tmp_path / "compose.yaml").write_text(files("compose.md")["compose.yaml"])
    assert check_compose(tmp_path / "compose.yaml") == ""


@needs_linters
def test_kubernetes_takes_its_manifests(tmp_path: Path) -> None:
    (tmp_path / "words.yaml").write_text(files("kubernetes.md")["words.yaml"])
    command = [str(BIN / "kubernetes-validate"), "--strict", str(tmp_path / "words.yaml")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=WAIT_S, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("INFO") == 4
    (tmp_path / "words.yaml").write_text(files("kubernetes.md")["words.yaml"].replace("httpGet:", "http:"))
    assert subprocess.run(command, capture_output=True, timeout=WAIT_S, check=False).returncode


@pytest.mark.parametrize(
    ("page", "file", "grace", "before"),
    [
        ("compose.md", "compose.yaml", r"stop_grace_period: (\d+)s", 0),
        ("systemd.md", "streamapp.service", r"TimeoutStopSec=(\d+)", 0),
        ("systemd.md", "streamapp@.service", r"TimeoutStopSec=(\d+)", 0),
        ("kubernetes.md", "words.yaml", r"terminationGracePeriodSeconds: (\d+)", 5),
    ],
)
def test_whoever_ends_the_server_waits_for_its_drain(page: str, file: str, grace: str, before: int) -> None:
    (waits_s,) = re.findall(grace, files(page)[file])
    assert int(waits_s) > before + Settings().drain_s + 5


needs_systemd = needs(
    shutil.which("systemd-analyze") is not None, "systemd-analyze is missing: run `make test` as root"
)


@needs_systemd
@pytest.mark.parametrize("unit", files("systemd.md"))
def test_systemd_takes_its_units(unit: str, tmp_path: Path) -> None:
    program = tmp_path / "streamapp"
    program.symlink_to(sys.executable)
    text = (
        files("systemd.md")[unit].replace("/srv/app/.venv/bin/streamapp", str(program)).replace("User=app", "User=root")
    )
    (tmp_path / unit.replace("@", "@0")).write_text(text)
    command = ["systemd-analyze", "verify", str(tmp_path / unit.replace("@", "@0"))]
    done = subprocess.run(command, capture_output=True, text=True, timeout=WAIT_S, check=False)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


# Proxies before a real server

PROBED = re.compile(r"^ +(\w+)Probe:.*\n +httpGet:\n +path: (\S+)$", re.MULTILINE)


@dataclass
class Behind:
    """A server behind a proxy: by what URL each is reached."""

    url: str
    server: str

    def direct(self, path: str, **data: int) -> object:
        headers = {"Authorization": f"Key {KEY}"}
        return httpx.post(self.server + path, json=data, headers=headers, timeout=WAIT_S).json()


@dataclass
class Place:
    """Where a proxy runs: its folder, its port, its certificate, and the server's port."""

    folder: Path
    port: int
    certificate: Path
    key: Path
    server: int


def start_nginx(place: Place) -> list[str]:
    shown = files("proxies.md")["/etc/nginx/conf.d/app.conf"]
    shown = shown.replace("listen 443 ssl", f"listen 127.0.0.1:{place.port} ssl").replace(
        "app.example.org", "localhost"
    )
    shown = shown.replace("127.0.0.1:8000", f"127.0.0.1:{place.server}")
    shown = re.sub(r"(ssl_certificate +)\S+;", rf"\1{place.certificate};", shown)
    shown = re.sub(r"(ssl_certificate_key +)\S+;", rf"\1{place.key};", shown)
    kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    temporary = "".join(f"{kind}_temp_path {place.folder}/{kind};" for kind in kinds)
    around = f"daemon off; master_process off; pid {place.folder}/pid; error_log stderr; events {{}}"
    (place.folder / "nginx.conf").write_text(f"{around}\nhttp {{ access_log off; {temporary}\n{shown} }}")
    return ["nginx", "-p", str(place.folder), "-c", str(place.folder / "nginx.conf")]


def start_caddy(place: Place, shown: str = files("proxies.md")["/etc/caddy/Caddyfile"]) -> list[str]:
    mine = f"https://localhost:{place.port} {{\n\tbind 127.0.0.1\n\ttls {place.certificate} {place.key}\n"
    shown = shown.replace("app.example.org {\n", mine).replace("127.0.0.1:8000", f"127.0.0.1:{place.server}")
    (place.folder / "Caddyfile").write_text(f"{{\n\tadmin off\n\tauto_https disable_redirects\n}}\n{shown}")
    return ["caddy", "run", "--config", str(place.folder / "Caddyfile"), "--adapter", "caddyfile"]


STARTED: Mapping[str, Callable[[Place], list[str]]] = {"nginx": start_nginx, "caddy": start_caddy}
PROXIES = [
    pytest.param(name, marks=needs(shutil.which(name) is not None, f"no {name}: run `make test` as root"))
    for name in STARTED
]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("relay")
    (folder / "app.py").write_text(APP)
    env = {**os.environ, "STREAMAPP_API_KEY": KEY}
    with processes.serving("app.py", env=env, folder=folder) as (url, _):
        yield url


@pytest.fixture(scope="module", params=PROXIES)
def behind(request: pytest.FixtureRequest, server: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Behind]:
    """Run a proxy as its page has it, but for names, ports and certificates."""
    folder = tmp_path_factory.mktemp(request.param)
    authority = trustme.CA()
    issued = authority.issue_cert("localhost")
    place = Place(folder, processes.free_port(), folder / "chain.pem", folder / "key.pem", processes.port_of(server))
    place.certificate.write_bytes(b"".join(blob.bytes() for blob in issued.cert_chain_pems))
    place.key.write_bytes(issued.private_key_pem.bytes())
    authority.cert_pem.write_to_path(folder / "ca.pem")
    home = {**os.environ, "HOME": str(folder), "XDG_DATA_HOME": str(folder), "XDG_CONFIG_HOME": str(folder)}
    command = STARTED[request.param](place)
    with ExitStack() as ending, pytest.MonkeyPatch.context() as patch, (folder / "log").open("w") as log:
        process = subprocess.Popen(command, env=home, stdout=log, stderr=log)
        ending.callback(process.communicate)
        ending.callback(process.kill)
        until(lambda: is_listening(place.port) or process.poll() is not None)
        assert process.poll() is None, (folder / "log").read_text()
        patch.setenv("SSL_CERT_FILE", str(folder / "ca.pem"))
        yield Behind(f"https://localhost:{place.port}", server)


def is_listening(port: int) -> bool:
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) == 0


def ask(behind: Behind, **headers: str) -> httpx.Client:
    context = ssl.create_default_context(cafile=os.environ["SSL_CERT_FILE"])
    key = {"Authorization": f"Key {KEY}"}
    return httpx.Client(base_url=behind.url, headers={**key, **headers}, verify=context, timeout=WAIT_S)


def test_the_probes_of_kubernetes_are_answered(server: str) -> None:
    manifest = files("kubernetes.md")["words.yaml"]
    probed = dict(PROBED.findall(manifest))
    assert probed == {"startup": "/_streamapp/health", "liveness": "/_streamapp/health"}
    assert httpx.get(server + probed["liveness"], timeout=WAIT_S).status_code == 200
    (code,) = re.findall(r"^ +- (import .*)$", manifest, re.MULTILINE)
    asks = [sys.executable, "-c", code.replace("http://127.0.0.1:8000", server)]
    with_key, with_another = ({**os.environ, "STREAMAPP_API_KEY": key} for key in (KEY, "another"))
    assert subprocess.run(asks, env=with_key, timeout=WAIT_S, check=False).returncode == 0
    assert subprocess.run(asks, env=with_another, capture_output=True, timeout=WAIT_S, check=False).returncode == 1


@pytest.mark.parametrize("accept", ["text/event-stream", "application/x-ndjson"])
def test_a_stream_arrives_event_by_event(behind: Behind, accept: str) -> None:
    """Each event is let go on when the one before has been read: a proxy that collected them would never bring any."""
    with ask(behind, Accept=accept) as client:
        behind.direct("/open")
        found = []
        with client.stream("GET", "/stream") as response:  # by POST Caddy 2.6.2 cuts some, as its page says
            for line in response.iter_lines():
                if line.startswith(('data: {"n"', '{"n"')):
                    found.append(json.loads(line.removeprefix("data: "))["n"])
                    if len(found) < 3:
                        behind.direct("/open")
    assert found == [0, 1, 2]


def test_a_client_that_was_cut_comes_back_and_misses_nothing(behind: Behind) -> None:
    with ask(behind) as client:
        behind.direct("/open")
        with client.stream("GET", "/stream") as response:
            block = next(block for block in blocks(response.iter_lines()) if any('"n"' in line for line in block))
        (last,) = (line.removeprefix("id: ") for line in block if line.startswith("id:"))
        behind.direct("/open", events=2)
        rest = client.get("/stream", headers={"Last-Event-ID": last, "Accept": "text/event-stream"}).text
    assert [json.loads(data)["n"] for data in re.findall(r'^data: (\{"n".*)$', rest, re.MULTILINE)] == [1, 2]


def blocks(lines: Iterator[str]) -> Iterator[list[str]]:
    """Yield server-sent events, each with its lines."""
    block: list[str] = []
    for line in lines:
        if line:
            block.append(line)
        else:
            yield block
            block = []


def test_a_client_that_leaves_ends_its_job(behind: Behind) -> None:
    before = behind.direct("/ended")
    with ask(behind) as client, client.stream("POST", "/endless", json={}) as response:
        next(line for line in response.iter_lines() if '"n"' in line)
    until(lambda: behind.direct("/ended") != before)


def test_an_upload_of_any_size_comes_through_and_back(behind: Behind) -> None:
    content = os.urandom(3_000_000)
    with ask(behind) as client:
        answer = client.post("/rest/files/upload", content=content)
        url = answer.raise_for_status().json()["access_url"]
        assert url.startswith(behind.url)
        assert client.get(url).content == content


def test_a_session_goes_on_through_it(behind: Behind) -> None:
    with Client(behind.url, KEY).connect("/realtime") as session:
        for n in (1, 2, 3):
            session.send({"n": n})
            assert session.recv() == {"n": 2 * n}


def test_the_server_sees_who_calls_and_by_what_name_and_believes_no_caller(behind: Behind) -> None:
    forged = {f"X-Forwarded-{name}": "evil" for name in ("Prefix", "Host", "Proto", "For")}
    with ask(behind, **forged, Accept="application/json") as client:
        assert client.get("/seen").json() == [f"{behind.url}/", "127.0.0.1"]


def test_a_connection_that_the_server_has_closed_is_used_by_no_proxy() -> None:
    shown = files("proxies.md")
    waits = [re.findall(r"keepalive(?:_timeout)? (\d+)s", text) for text in shown.values()]
    assert waits == [["4"], ["4"]]
    assert Settings().keep_alive_s > 4


def test_compose_has_the_same_caddyfile_but_for_the_servers_name() -> None:
    shown = files("compose.md")["Caddyfile"].replace("words:8000", "127.0.0.1:8000")
    assert shown == files("proxies.md")["/etc/caddy/Caddyfile"]
