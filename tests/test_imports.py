"""The order of rooms and files, and what importing them costs: read from the source, not from what happens to run."""

import ast
import os
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

import httpx
import pytest
from tests.own_coverage import own_tests
from tests.processes import serving
from tests.waiting import WAIT_S

import streamapp

SOURCE = Path(streamapp.__file__).parent
# docs/architecture.md: a file imports only those before it, of its own room or of one before. A room that is one
# folder deeper (`fal.toolkit`, `runpod.serverless`) counts as one file.
ORDER = (
    "later",
    *("process.logs", "process.threads", "process.ending", "process.forks"),
    *("text", "errors", "budget", "places", "jsontext", "settings", "media", "largefile", "addresses", "fetch"),
    *(
        "jobs.content",
        "jobs.events",
        "jobs.packing",
        "jobs.log",
        "jobs.pace",
        "jobs.delivery",
        "jobs.subscriber",
        "jobs.channel",
    ),
    *("jobs.pause", "jobs.inbox", "jobs.stream", "jobs.job", "jobs.store", "jobs.jobs"),
    *("stores.folder", "stores.files"),
    *("generics", "endpoint", "session", "serving", "app", "forms", "inputs", "loading", "aliases"),
    *("schedulers", "pipelines", "diffusion"),
    *("llm.extra", "llm.generation", "llm.text", "llm.sampling", "llm.cache", "llm.batching", "llm.continuous"),
    *("llm.tokenstream", "llm.chat", "llm.engine", "llm.named"),
    *("workers.results", "workers.worker", "workers.capture", "workers.binding", "workers.sessions"),
    *("workers.modes", "workers.turns", "workers.thread", "workers.tasks", "workers.production", "workers.watchdog"),
    *("runtime", "follow"),
    *("http.frames", "http.call", "http.outputs", "http.answer", "http.connection"),
    *("http.handling", "http.response", "http.broadcast", "http.tokens", "http.middleware", "http.sites"),
    *("http.metrics", "http.route", "http.openapi", "http.openapi31", "http.face", "http.routes", "http.file_routes"),
    *("http.pages", "http.playground", "http.docs"),
    *("sockets.wire", "sockets.own_frames", "sockets.fal_frames"),
    *("sockets.outgoing", "sockets.live", "sockets.conversation", "sockets.fal_socket", "sockets.own_socket"),
    *("sockets.realtime", "sockets.raw"),
    *("sockets.outbox", "sockets.rooms"),
    *("webrtc.pieces", "webrtc.datasocket", "webrtc.film", "webrtc.offers"),
    *("webrtc.bounds", "webrtc.peer", "webrtc.signalling"),
    *("fal.exceptions", "fal.container", "fal.ref", "fal.app", "fal.toolkit", "fal.tokens", "fal.over_socket"),
    *("fal.api", "fal.environment"),
    *("runpod.ids", "runpod.endpoints", "runpod.schema", "runpod.apps", "runpod.progress", "runpod.outcomes"),
    *("runpod.handlers", "runpod.runner", "runpod.logger", "runpod.absent", "runpod.imports", "runpod.loading"),
    *("runpod.local", "runpod.serverless", "runpod.pods", "runpod.pool", "runpod.plane", "runpod.environment"),
    *("runpod.places", "runpod.envelope", "runpod.answers", "runpod.polls", "runpod.api", "runpod.unprefixed"),
    *("openai.asked", "openai.errors", "openai.requests", "openai.upstream", "openai.text", "openai.images"),
    *("openai.speech", "openai.declared", "openai.models", "openai.answers", "openai.handlers", "openai.api"),
    "openai.face",
    *("chutes.image", "chutes.selector", "chutes.home", "chutes.crossed", "chutes.answers", "chutes.cords"),
    *("chutes.apps", "chutes.chute", "chutes.imports"),
    *("serve.pages", "serve.build", "serve.certificates", "serve.reload", "serve.connections"),
    *("serve.incoming", "serve.websockets", "serve.server"),
    *("testing.transport", "testing.client", "testing.pipeline", "testing.fal"),
    *("cli.banner", "cli.requirements", "cli.dockerfile", "cli.image", "cli.scaffold"),
    *("cli.terminal", "cli.run_once", "cli.main", "cli.script", "cli.background"),
)
WITH_THREADS = {
    *("sockets.rooms", "chutes.home", "http.metrics"),
    *("llm.engine", "llm.continuous", "llm.tokenstream"),
    *("process.threads", "process.ending", "process.forks", "stores.files", "addresses"),
    *("jobs.pace", "jobs.delivery", "jobs.channel", "jobs.inbox", "jobs.stream"),
    *("workers.capture", "workers.sessions", "workers.worker", "workers.thread", "workers.tasks"),
    *("workers.production", "workers.watchdog", "diffusion"),
}
# Whose code `from streamapp import App, endpoint` runs: the more there are, the later an app's tests begin.
OF_AN_APP = {
    *("annotated_doc", "annotated_types", "anyio", "fastapi", "idna", "opentelemetry", "pybase64", "pydantic"),
    *("pydantic_core", "python_multipart", "starlette", "typing_extensions", "typing_inspection"),
    "sniffio",  # anyio's, where it is installed
    *("cython_runtime", "msgpack"),  # the first is what the second's C tells of itself
}
# What `streamapp serve` runs besides, up to its first answer: the more there are, the later that comes.
OF_A_SERVER = {
    *("click", "dotenv", "httptools", "shellingham", "typer", "uvicorn", "uvloop", "watchfiles", "websockets", "yaml"),
}
# What of ours an app that does without is served without.
ELSEWHERE = {"chutes.chute", "fal.toolkit", "llm", "runpod.serverless", "testing", "webrtc"}
ELSEWHERE |= {"openai.api", "openai.declared", "openai.requests", "serve.certificates", "diffusion"}
APP = """
import sys
from streamapp import App, endpoint

class Loaded(App):
    @endpoint("/loaded")
    def loaded(self) -> list[str]:
        return [*sys.modules]
"""
WHOLE_PACKAGES = {"fal.toolkit", "runpod.serverless"}
NO_MODULES = {"playground", "shims"}  # the page, and what is loaded into other interpreters


def modules() -> dict[str, list[Path]]:
    """Return the files of each module: one, or all of a package that counts as one."""
    found: dict[str, list[Path]] = {}
    for path in sorted(SOURCE.rglob("*.py")):
        parts = path.relative_to(SOURCE).with_suffix("").parts
        if NO_MODULES & {*parts[:-1]}:
            continue
        name = next((p for p in WHOLE_PACKAGES if ".".join(parts).startswith(p)), ".".join(parts))
        if name in WHOLE_PACKAGES or parts[-1] not in ("__init__", "__main__"):
            found.setdefault(name, []).append(path)
    return found


MODULES = modules()
ROOMS = {name.rpartition(".")[0] for name in ORDER} - {""}

pytestmark = pytest.mark.whole


def tree(module: str) -> ast.Module:
    """Return the source of a module."""
    return ast.Module([statement for path in MODULES[module] for statement in ast.parse(path.read_text()).body], [])


def imported(module: str) -> set[str]:
    """Return what a module imports: our own by their place below `streamapp.`, with a dot before, others by name."""
    found: set[str] = set()
    for path in MODULES[module]:
        package = path.relative_to(SOURCE).parent.parts
        for node in ast.walk(ast.parse(path.read_text())):
            match node:
                case ast.Import():
                    found |= {alias.name.partition(".")[0] for alias in node.names}
                case ast.ImportFrom(level=0, module=str(name)):
                    found.add(name.partition(".")[0])
                case ast.ImportFrom():
                    base = [*package[: len(package) - node.level + 1], *(node.module or "").split(".")]
                    found |= {_place(".".join(filter(None, base)), alias.name) for alias in node.names}
    return found - {f".{module}", ""}


def _place(base: str, name: str) -> str:
    """Return the module that `from base import name` reads."""
    for whole in WHOLE_PACKAGES:
        if base.startswith(whole) or f"{base}.{name}".strip(".") == whole:
            return f".{whole}"
    dotted = f"{base}.{name}".strip(".")
    if dotted in MODULES:
        return f".{dotted}"
    return f".{base}" if base in MODULES else ""  # what a package's own `__init__` says


def in_fresh_interpreter(code: str) -> str:
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=WAIT_S
    ).stdout


def test_every_module_has_its_place_in_the_order() -> None:
    assert set(MODULES) == set(ORDER)


def test_a_room_stands_in_one_piece() -> None:
    rooms = [name.rpartition(".")[0] or "top" for name in ORDER]
    pieces = [room for n, room in enumerate(rooms) if n == 0 or rooms[n - 1] != room]
    assert [room for room in pieces if room != "top"] == list(dict.fromkeys(r for r in pieces if r != "top"))


@pytest.mark.parametrize("module", MODULES)
def test_a_module_imports_only_modules_before_it(module: str) -> None:
    ours = {name.removeprefix(".") for name in imported(module) if name.startswith(".")}
    assert ours - set(ORDER[: ORDER.index(module)]) == set()
    assert "streamapp" not in imported(module)


@pytest.mark.parametrize("room", sorted(ROOMS))
def test_a_rooms_door_does_nothing_but_pass_names_on(room: str) -> None:
    body = ast.parse((SOURCE / room.replace(".", "/") / "__init__.py").read_text()).body
    done = [node for node in body if not (isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING")]
    assert all(isinstance(node, ast.Expr | ast.ImportFrom | ast.Assign) for node in done)


@pytest.mark.parametrize("module", MODULES)
def test_every_module_has_tests_of_its_own(module: str) -> None:
    assert own_tests(module).exists()


def attributes(cls: ast.ClassDef) -> set[str]:
    """Return what a class keeps: what its methods assign to `self`, and what it declares."""
    assigned = {
        node.attr
        for node in ast.walk(cls)
        if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store) and ast.unparse(node.value) == "self"
    }
    declared = [node for node in cls.body if isinstance(node, ast.AnnAssign)]
    return assigned | {ast.unparse(node.target) for node in declared if "ClassVar" not in ast.unparse(node.annotation)}


@pytest.mark.parametrize("module", MODULES)
def test_a_class_with_more_than_fifteen_attributes_says_why(module: str) -> None:
    """State is complexity too: such a class has two reasons to change, or a good one to be as it is."""
    for cls in ast.walk(tree(module)):
        if isinstance(cls, ast.ClassDef) and len(attributes(cls)) > 15:
            assert "More than 15 attributes: " in (ast.get_docstring(cls) or ""), cls.name


@pytest.mark.parametrize("module", MODULES)
def test_threads_are_used_where_they_cannot_be_avoided(module: str) -> None:
    if {"threading", "queue", "_thread", "multiprocessing"} & imported(module):
        assert module in WITH_THREADS


@pytest.mark.parametrize("module", MODULES)
def test_torch_is_imported_where_models_run(module: str) -> None:
    if {"torch", "diffusers", "transformers"} & imported(module):
        assert module == "diffusion" or module.startswith("llm.")


@pytest.mark.parametrize("module", MODULES)
def test_aiortc_is_imported_by_one_room(module: str) -> None:
    if {"aiortc", "aioice", "av"} & imported(module):
        assert module.startswith("webrtc.")


@pytest.mark.parametrize("module", MODULES)
def test_nothing_is_imported_inside_a_function(module: str) -> None:
    functions = [node for node in ast.walk(tree(module)) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
    inside = [node for function in functions for node in ast.walk(function)]
    assert not any(isinstance(node, ast.Import | ast.ImportFrom) for node in inside)


@pytest.mark.parametrize("module", [name for name in ORDER if name.startswith(("jobs.", "workers."))] + ["runtime"])
def test_jobs_workers_and_the_runtime_know_neither_http_nor_metrics_nor_fal(module: str) -> None:
    known = imported(module)
    assert not any(name.startswith((".http.", ".fal.", ".serve.")) for name in known)
    if module != "workers.binding":  # which says to files at which URL the client reached the server
        assert known & {"starlette", "fastapi", "prometheus_client"} == set()


def test_importing_streamapp_imports_nothing() -> None:
    """What it costs in seconds `python -m benchmarks --case startup` measures, beside the peers."""
    imported = newly_imported("import streamapp")
    assert others(imported) == set()
    assert {name for name in imported if name.startswith("streamapp")} == {"streamapp", "streamapp.later"}


def test_an_apps_names_import_no_package_besides_these() -> None:
    assert others(newly_imported("from streamapp import App, endpoint")) <= OF_AN_APP


def test_all_names_import_no_torch() -> None:
    heavy = {"torch", "diffusers", "transformers", "numpy", "typer", "rich", "httpx", "PIL"}
    assert heavy & newly_imported("from streamapp import *") == set()


def test_a_server_imports_up_to_its_first_answer_no_package_and_no_room_that_its_app_does_without(
    tmp_path: Path,
) -> None:
    (tmp_path / "app.py").write_text(APP)
    with serving(f"{tmp_path / 'app.py'}:Loaded", env={**os.environ}, python=sys.executable) as (url, _):
        loaded = set(httpx.post(f"{url}/loaded", json={}, timeout=WAIT_S).json())
    assert others(loaded) - {"streamapp_file"} <= OF_AN_APP | OF_A_SERVER  # the app's folder is called so
    assert "pydantic.v1" not in loaded  # 12 ms, which FastAPI's routes with parameters cost
    assert not {name for name in loaded if name.removeprefix("streamapp.").startswith(tuple(ELSEWHERE))}


def newly_imported(statement: str) -> set[str]:
    code = f"import sys; before = {{*sys.modules}}; {statement}; print(*{{*sys.modules}} - before)"
    return {*in_fresh_interpreter(code).split()}


def others(modules: Iterable[str]) -> set[str]:
    """Return the packages of others that modules are of."""
    names = {name.partition(".")[0] for name in modules if not name.startswith("_")}
    return names - sys.stdlib_module_names - {"streamapp", "streamapp_command"}
