"""The JavaScript client: its own tests against real servers and in Chromium, its types, its package, its README."""

import gzip
import json
import os
import re
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import httpx
import pytest
from tests.chromium import CHROMIUM
from tests.cutting_proxy import CuttingProxy, OpeningsCuttingProxy, cutting, running
from tests.waiting import LONG_S, WAIT_S, until

TESTS = Path(__file__).parent
PACKAGE = TESTS.parent / "client_sdk" / "js"
README = (PACKAGE / "README.md").read_text()
WITH_WEBSOCKETS = {"NODE_OPTIONS": "--experimental-websocket"}  # which Node 20 has not by itself
IS_CI = "CI" in os.environ  # where nothing may be missing
IS_INSTALLED = (PACKAGE / "node_modules" / ".installed").exists()

pytestmark = [
    pytest.mark.timeout(LONG_S),
    pytest.mark.skipif(not IS_INSTALLED and not IS_CI, reason="the npm packages are missing; run `make test`"),
]


@pytest.fixture(scope="module", autouse=True)
def built() -> None:
    """Build the package, which checks its types."""
    run("npm", "run", "build")


def run(*command: str, **environment: str) -> str:
    """Run a command in the package, and return what it prints."""
    done = subprocess.run(
        command, cwd=PACKAGE, env={**os.environ, **environment}, capture_output=True, text=True, timeout=LONG_S
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@contextmanager
def serving(app: Path, **environment: str) -> Iterator[int]:
    """Serve an app in a process of its own, and yield its port."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = int(listener.getsockname()[1])
    command = [sys.executable, str(app), str(port)]
    process = subprocess.Popen(command, env={**os.environ, **environment}, stdout=subprocess.DEVNULL)
    try:
        until(lambda: is_ready(port))
        yield port
    finally:
        process.kill()
        process.wait()


def is_ready(port: int) -> bool:
    try:
        return httpx.get(f"http://127.0.0.1:{port}/ready", timeout=WAIT_S).is_success
    except httpx.TransportError:
        return False


@pytest.fixture(scope="module")
def servers() -> Iterator[tuple[dict[str, str], CuttingProxy]]:
    """Start what the JavaScript tests call; give where it is, and the proxy of the numbers."""
    with ExitStack() as stack:
        numbers = stack.enter_context(serving(TESTS / "apps" / "numbered.py"))
        origins = json.dumps([f"http://127.0.0.1:{numbers}"])
        painter = stack.enter_context(serving(TESTS / "pages" / "app.py", STREAMAPP_CORS_ORIGINS=origins))
        proxy = stack.enter_context(cutting(numbers, cut=1))
        # Chromium drops what it has not handed out when a connection is reset: cut each time, streams may starve there.
        half = stack.enter_context(cutting(numbers, cut=0.8))
        openings = stack.enter_context(running(OpeningsCuttingProxy(numbers, most=75)))
        cut_painter = stack.enter_context(cutting(painter, cut=0.5, most_bytes=5000))
        urls = {
            "STREAMAPP_URL": numbers,
            "STREAMAPP_CUTTING_URL": proxy.port,
            "STREAMAPP_HALF_CUTTING_URL": half.port,
            "STREAMAPP_OPENINGS_CUTTING_URL": openings.port,
            "STREAMAPP_PAINTER_URL": painter,
            "STREAMAPP_CUTTING_PAINTER_URL": cut_painter.port,
        }
        yield {name: f"http://127.0.0.1:{port}" for name, port in urls.items()}, proxy


def node_test(*names: str, **environment: str) -> str:
    return run("node", "--test", "--test-reporter=tap", *(f"test/{name}.test.js" for name in names), **environment)


def test_the_decoder_passes_the_byte_fixtures_and_faults_are_met() -> None:
    node_test("decoder", "json", "patience", "faults")


def test_key_and_input_go_to_no_other_server() -> None:
    node_test("origins")


def test_sessions_lose_and_double_nothing_whatever_the_server_does() -> None:
    node_test("session", "peer", **WITH_WEBSOCKETS)


@pytest.mark.long
def test_engines_that_lack_bodies_or_signals_are_served() -> None:
    node_test("engines", **WITH_WEBSOCKETS)


def test_streams_and_jobs_behave_as_the_python_clients_do(servers: tuple[dict[str, str], CuttingProxy]) -> None:
    node_test("stream", "job", "connect", **servers[0], **WITH_WEBSOCKETS)


@pytest.mark.long
def test_a_thousand_cuts_lose_double_and_move_no_event(servers: tuple[dict[str, str], CuttingProxy]) -> None:
    urls, proxy = servers
    node_test("cuts", **urls, **WITH_WEBSOCKETS)
    assert proxy.cuts >= 1000


@pytest.mark.skipif(CHROMIUM is None and not IS_CI, reason="chromium is missing; run `make test` as root")
@pytest.mark.long
def test_the_pages_work_in_chromium(servers: tuple[dict[str, str], CuttingProxy]) -> None:
    node_test("pages", CHROMIUM=str(CHROMIUM), **servers[0])


@pytest.mark.parametrize("page", ["eventsource.html", "fetch.html"])
def test_the_pages_of_the_readme_are_those_that_are_tested(page: str) -> None:
    assert (TESTS / "pages" / page).read_text() in README


def test_the_examples_of_the_readme_have_the_right_types() -> None:
    """Each `js` block is a module of its own; what it uses without a declaration is declared here."""
    client = 'declare const client: import("streamapp-client").Client;\n'
    folder = PACKAGE / "dist" / "readme"
    folder.mkdir(exist_ok=True)
    blocks = re.findall(r"```(?:js|jsx)\n(.*?)```", README, re.DOTALL)
    assert len(blocks) > 5
    for number, block in enumerate(blocks):
        head = f"{DECLARED}\n" + ("" if "client = " in block else client)
        (folder / f"example{number}.tsx").write_text(f"{head}{block}\nexport {{}};\n")
    (folder / "tsconfig.json").write_text(json.dumps({"compilerOptions": README_OPTIONS}))
    try:
        run("npx", "tsc", "--project", str(folder))
    finally:
        shutil.rmtree(folder)


DECLARED = "declare const show: any, canvas: HTMLCanvasElement, video: HTMLVideoElement, picture: File;"
README_OPTIONS = {
    "target": "es2024",
    "module": "nodenext",
    "jsx": "react-jsx",
    "noEmit": True,
    "strict": True,
    "noImplicitAny": False,
    "lib": ["es2024", "dom", "dom.iterable"],
}


def test_the_package_is_what_registries_and_bundlers_expect() -> None:
    run("npx", "publint", "--strict")
    run("npx", "attw", "--pack", "--profile", "esm-only")


def test_the_package_contains_what_the_readme_says() -> None:
    packed = json.loads(run("npm", "pack", "--dry-run", "--json", "--ignore-scripts"))
    files = {file["path"] for entry in packed for file in entry["files"]}
    modules = {"index", "react"}
    assert files >= {"LICENSE", "README.md", "package.json"}
    assert {file for file in files if file.endswith(".js")} == {f"dist/{module}.js" for module in modules}
    assert {f"dist/{module}.d.ts" for module in modules} <= files
    assert all(file.endswith((".js", ".d.ts", ".js.map")) for file in files if file.startswith("dist/"))
    assert not json.loads((PACKAGE / "package.json").read_text()).get("dependencies")


def test_the_core_is_small() -> None:
    assert len(gzip.compress((PACKAGE / "dist" / "index.js").read_bytes())) <= 12 * 1024


def test_a_bundler_leaves_out_what_is_not_used() -> None:
    source = 'import { SSEDecoder } from "streamapp-client"; console.log(SSEDecoder)'
    bundle = subprocess.run(
        ["npx", "esbuild", "--bundle", "--minify", "--format=esm"],
        cwd=PACKAGE,
        input=source,
        capture_output=True,
        text=True,
        check=True,
        timeout=WAIT_S,
    ).stdout
    assert "Idempotency-Key" not in bundle
