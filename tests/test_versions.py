"""The compatibility promise: what a version sent is still sent and read, and its clients and server still get on.

tests/versions/ has, of each version, what its server sent over a real socket, and, of the last one, its packages.
"""

import json
import os
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Iterator
from typing import Any

import pytest
from tests.cutting_proxy import CuttingProxy, running
from tests.processes import port_of, serving
from tests.scripted_server import END, HEAR, UPGRADE, answer, chunk, closing
from tests.scripted_server import serving as scripting
from tests.versions.__main__ import APP, ENVIRONMENT, PACKAGES, VERSIONS
from tests.versions.recording import KEY, differences, lacks, read, record
from tests.versions.surface import surface
from tests.waiting import LONG_S

from streamapp_client import ApiError, Client

SDK = VERSIONS.parent.parent / "client_sdk" / "js"
RECORDED = sorted(path.name for path in VERSIONS.iterdir() if (path / "wire.json").exists())
LAST = max(RECORDED, key=lambda version: [int(part) for part in version.split(".")])
SERVER_WHEEL, CLIENT_WHEEL, TARBALL = (VERSIONS / LAST / name.format(LAST) for name in PACKAGES)
NODE = ["node", "--experimental-websocket", "--no-warnings"]  # which Node 20 needs for sessions

needs_npm = pytest.mark.skipif(
    not (SDK / "node_modules" / ".installed").exists() and "CI" not in os.environ,
    reason="the npm packages are missing; run `make test`",
)
pytestmark = pytest.mark.timeout(LONG_S)


def recording_of(version: str) -> dict[str, Any]:
    return dict(json.loads((VERSIONS / version / "wire.json").read_text()))


def run(*command: str, **environment: str) -> Any:
    """Return what a command prints as JSON."""
    done = subprocess.run(command, env={**os.environ, **environment}, capture_output=True, text=True, timeout=LONG_S)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


# What a version sent


@pytest.mark.parametrize("version", RECORDED)
def test_the_server_sends_all_that_a_version_sent(version: str) -> None:
    noted = recording_of(version)
    requests = [exchange["request"] for exchange in noted["exchanges"]]
    frames = [turn["frame"] for turn in noted["session"] if turn["from"] == "client"]
    with serving(str(APP), env={**os.environ, **ENVIRONMENT}) as (url, _):
        assert differences(noted, record(port_of(url), requests, frames)) == []


@pytest.mark.parametrize(
    ("noted", "new"),
    [
        ({"a": 1}, {"a": 1, "b": 2}),
        ([{"data": {}}], [{"data": {"more": 1}}]),
        ({"error": {"message": "No."}}, {"error": {"message": "No, since it is full."}}),
    ],
)
def test_more_fields_and_other_words_for_people_break_nobody(noted: Any, new: Any) -> None:
    assert lacks(noted, new) == []


@pytest.mark.parametrize(
    ("noted", "new"),
    [
        ({"a": 1}, {}),
        ({"a": 1}, {"a": "1"}),
        ({"a": 1}, None),
        ([1, 2], [1]),
        ([1], [1, 2]),
        ({"status": 200}, {"status": 201}),
        ({"error": {"message": "No."}}, {"error": {"message": ""}}),
        ({"error": {"code": "a"}}, {"error": {"code": "b"}}),
    ],
)
def test_what_would_break_somebody_is_found(noted: Any, new: Any) -> None:
    assert len(lacks(noted, new)) == 1


PING = "event: ping\ndata: {}\n\n"


@pytest.mark.parametrize(("before", "now", "is_fine"), [("", PING, True), ("event: log\n", "event: line\n", False)])
def test_events_of_a_new_name_may_come_and_those_that_came_must_come(before: str, now: str, is_fine: bool) -> None:
    noted, new = recording_of(LAST), recording_of(LAST)
    told = new["exchanges"][0]["answer"]
    assert before in told["body"]
    told["body"] = told["body"].replace(before, now, 1)
    assert (differences(noted, new) == []) is is_fine


@pytest.mark.parametrize("version", RECORDED)
def test_code_written_for_a_version_finds_all_its_names(version: str) -> None:
    """What was deprecated for a minor version and goes is taken out of the recordings by the same commit."""
    assert gone(json.loads((VERSIONS / version / "surface.json").read_text()), surface()) == []


def gone(was: Any, now: Any, place: str = "") -> list[str]:
    """Return what is no longer there: names, and what they stood for."""
    if isinstance(was, list):
        return [f"{place}: {name}" for name in was if name not in now]
    if not isinstance(was, dict):
        return [] if was == now else [f"{place}: {was} is now {now}"]
    missing = [f"{place}: {name}" for name in was if name not in now]
    return missing + [lost for name in was if name in now for lost in gone(was[name], now[name], f"{place}/{name}")]


@pytest.mark.parametrize("now", [{"a": {"f": ["x"]}}, {"a": {"f": ["x", "z"], "g": []}}, {"a": {"g": [], "f": ["y"]}}])
def test_a_name_or_a_parameter_that_has_gone_is_found(now: Any) -> None:
    assert gone({"a": {"f": ["x", "y"], "g": []}}, now) != []


# What the clients make of it

STREAMS = ["stream", "stream-fails"]
VALUES = ["value", "value-fails", "invalid", "not-found", "unauthorized", "job-result", "endless-result"]


@pytest.fixture(params=RECORDED)
def recorded(request: pytest.FixtureRequest) -> Iterator[tuple[str, dict[str, Any]]]:
    """Play what a version sent, each answer at the path of its name; give the URL, and what is to be read there."""
    recording = recording_of(request.param)
    answers = {exchange["request"]["name"]: exchange["answer"] for exchange in recording["exchanges"]}
    steps = [HEAR if turn["from"] == "client" else turn["frame"] for turn in recording["session"]]
    events = [turn["frame"] for turn in recording["session"] if turn["frame"]["type"] == "event"]
    said = [[frame["event"], frame["id"], frame["data"]] for frame in events if frame["event"] != "done"]
    with scripting() as start:
        server = start(
            **{name: [played(answers[name])] for name in [*STREAMS, *VALUES]}, session=[UPGRADE, *steps, closing(1000)]
        )
        yield server.url, {name: what_to_read(answers[name]) for name in [*STREAMS, *VALUES]} | {"session": said}


def played(noted: dict[str, Any]) -> bytes:
    """Return an answer as it was on the wire."""
    headers = "".join(f"{name}: {value}\r\n" for name, value in noted["headers"].items() if name != "content-type")
    kind, status = noted["headers"]["content-type"], f"{noted['status']} -"
    if not kind.startswith("text/event-stream"):
        return answer(noted["body"].encode(), status, kind, headers)
    head = (
        f"HTTP/1.1 {status}\r\nContent-Type: {kind}\r\n{headers}Connection: close\r\nTransfer-Encoding: chunked\r\n\r\n"
    )
    return head.encode() + chunk(noted["body"]) + (END if noted["is_whole"] else b"")


def what_to_read(noted: dict[str, Any]) -> list[Any]:
    """Return the events of a stream, or the value, and the code of the error that it ends with."""
    told = read(noted)
    if not isinstance(told, list):
        return [told] if noted["status"] == 200 else [told["error"]["code"]]
    events = [[block["event"], block["id"], block["data"]] for block in told]
    return events if noted["is_whole"] else [*events[:-1], events[-1][2]["error"]["code"]]


def test_the_python_client_reads_what_a_version_sent(recorded: tuple[str, dict[str, Any]]) -> None:
    url, expected = recorded
    assert read_by_python(Client(url, patience_s=0)) == expected


def read_by_python(client: Client) -> dict[str, list[Any]]:
    found: dict[str, list[Any]] = {name: [] for name in [*STREAMS, *VALUES, "session"]}
    for name in [*STREAMS, *VALUES]:
        try:
            if name in VALUES:
                found[name].append(client.run(f"/{name}", {}))
            else:
                found[name].extend([event.name, event.id, event.data] for event in client.stream(f"/{name}", {}))
        except ApiError as error:
            found[name].append(error.code)
    with client.connect("/session") as session:
        session.send({"x": 1})
        for event in session:
            found["session"].append([event.name, event.id, event.data])
            if event.name == "output":
                session.send({"x": 13})
            else:
                session.finish()
    return found


@needs_npm
def test_the_javascript_client_reads_what_a_version_sent(
    recorded: tuple[str, dict[str, Any]], javascript_client: str
) -> None:
    url, expected = recorded
    script = str(VERSIONS / "reads.mjs")
    assert run(*NODE, script, javascript_client, url, ",".join(STREAMS), ",".join(VALUES)) == expected


@pytest.fixture(scope="module")
def javascript_client(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Bundle the client's sources, in a place of its own."""
    file = tmp_path_factory.mktemp("sdk") / "index.mjs"
    command = ["npx", "esbuild", "src/index.ts", "--bundle", "--format=esm", f"--outfile={file}"]
    subprocess.run(command, cwd=SDK, check=True, capture_output=True, timeout=LONG_S)
    return str(file)


# Clients and servers of two versions

COUNTED = [{"count": step, "text": "ä€🙂"} for step in range(2)]
CAME = {
    "stream": [
        ["preview", {"image": {"url": "data:image/png;base64,"}, "step": 1, "total": 2}],
        ["progress", {"step": 1, "total": 2, "message": "counting"}],
        ["log", {"message": "begun", "level": "INFO", "source": "app"}],
        ["plan", {"steps": 2}],
        *(["output", step] for step in COUNTED),
    ],
    "result": COUNTED[-1],
    "resumed": True,
    "value": {"doubled": 4},
    "job": [COUNTED[-1], "succeeded", ["preview", "progress", "log", "plan", "output", "output"]],
    "session": [{"doubled": 2}, "endpoint_failed", {"doubled": 6}],
    "errors": ["invalid_input", "not_found", "unauthorized", "endpoint_failed", "endpoint_failed", "cancelled"],
}
CAME_IN_PYTHON = {**CAME, "asynchronous": [*COUNTED, {"doubled": 2}]}
Urls = tuple[str, str]


class OftenCutting(CuttingProxy):
    """Cut every connection, each behind as many bytes: no stream of 200 events comes through in one piece."""

    def _draw_cut(self) -> int:
        return self._most_bytes


def served(python: str | None = None, **environment: str) -> Iterator[Urls]:
    """Serve the app; give its URL, and that of a network before it which cuts."""
    with (
        serving(str(APP), env={**os.environ, "STREAMAPP_API_KEY": KEY, **environment}, python=python) as (url, _),
        running(OftenCutting(port_of(url), seed=1, cut=1, most_bytes=3000)) as proxy,
    ):
        yield url, f"http://127.0.0.1:{proxy.port}"


@pytest.fixture(scope="module")
def new_server() -> Iterator[Urls]:
    yield from served()


@pytest.fixture(scope="module")
def old_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Urls]:
    """Serve the app by the last version's wheel, with what is installed here for the sources."""
    folder = tmp_path_factory.mktemp("server")
    with zipfile.ZipFile(SERVER_WHEEL) as wheel:
        wheel.extractall(folder)
    yield from served(sys.executable, PYTHONPATH=str(folder))


@pytest.fixture(scope="module")
def old_javascript_client(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("package")
    with tarfile.open(TARBALL) as package:
        package.extractall(folder, filter="data")
    return str(folder / "package" / "dist" / "index.js")


def by_python(path: str, urls: Urls) -> dict[str, Any]:
    """Call by the client in a folder or wheel."""
    came = dict(run(sys.executable, str(VERSIONS / "calls.py"), *urls, KEY, PYTHONPATH=path))
    assert came.pop("client").startswith(path)
    return came


def by_javascript(file: str, urls: Urls) -> dict[str, Any]:
    came = dict(run(*NODE, str(VERSIONS / "calls.mjs"), file, *urls, KEY))
    assert came.pop("client") == file
    return came


def test_the_last_versions_python_client_calls_this_server(new_server: Urls) -> None:
    assert by_python(str(CLIENT_WHEEL), new_server) == CAME_IN_PYTHON


def test_this_python_client_calls_the_last_versions_server(old_server: Urls) -> None:
    assert by_python(str(VERSIONS.parent.parent / "client_sdk" / "python" / "src"), old_server) == CAME_IN_PYTHON


@needs_npm
def test_the_last_versions_javascript_client_calls_this_server(new_server: Urls, old_javascript_client: str) -> None:
    assert by_javascript(old_javascript_client, new_server) == CAME


@needs_npm
def test_this_javascript_client_calls_the_last_versions_server(old_server: Urls, javascript_client: str) -> None:
    assert by_javascript(javascript_client, old_server) == CAME


def test_the_packages_of_the_last_version_are_kept_and_no_others() -> None:
    kept = {path for path in VERSIONS.glob("*/*") if path.suffix != ".json"}
    assert kept == {SERVER_WHEEL, CLIENT_WHEEL, TARBALL}
