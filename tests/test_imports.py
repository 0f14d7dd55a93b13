"""The order of the modules, and what importing them costs: read from the source, not from what happens to run."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.waiting import WAIT_S

import streamapp

SOURCE = Path(streamapp.__file__).parent
# Design, section 5, and where the modules that it does not name have their place: a module imports only ones before it.
ORDER = (
    *("logs", "threads", "ending", "forks"),  # the process: its log, its threads, its end, its children
    *("errors", "settings", "media", "fetch", "files", "events", "wire"),  # values
    *("exceptions", "toolkit"),  # fal's names for them
    *("log", "pace", "delivery", "subscriber", "channel", "stream", "capture", "job", "store", "jobs"),  # what happened
    *("results", "worker", "inference", "tasks", "watchdog"),  # who runs it
    *("container", "endpoint", "app", "inputs", "diffusion"),  # definition
    *("call", "answer", "connection", "response", "middleware", "metrics", "openapi", "page"),  # transport
    *("binding", "runtime", "routes", "realtime", "file_routes"),  # jobs and files over HTTP
    *("face", "fal_api", "runpod_api"),  # other protocols
    *("compile", "server", "app_client"),  # assembly
    # the command line, and tests
    *("loading", "local", "banner", "reload", "scaffold", "terminal", "pointing", "certificates", "cli", "testing"),
)
OUTSIDE = {"__init__", "__main__"}  # they import whatever they pass on
WITH_THREADS = {
    *("threads", "ending", "forks", "files", "pace", "delivery", "channel", "stream", "capture", "store"),
    *("worker", "inference", "tasks", "watchdog", "diffusion"),
}
# Whose code `import streamapp` runs: the more there are, the later a server starts.
IMPORTED = {
    *("PIL", "annotated_doc", "annotated_types", "anyio", "click", "dotenv", "fastapi", "httpx", "idna"),
    *("opentelemetry", "prometheus_client", "pybase64", "pydantic", "pydantic_core", "pydantic_settings", "pygments"),
    *("python_multipart", "rich", "starlette", "typing_extensions", "typing_inspection"),
}
PACKAGES = {path.parent.name for path in SOURCE.glob("*/__init__.py")}
MODULES = sorted({path.stem for path in SOURCE.glob("*.py") if path.stem not in OUTSIDE} | PACKAGES)

pytestmark = pytest.mark.whole


def tree(module: str) -> ast.Module:
    """Return a module's source, or that of all modules of a package."""
    paths = sorted((SOURCE / module).rglob("*.py")) if module in PACKAGES else [SOURCE / f"{module}.py"]
    return ast.Module([statement for path in paths for statement in parsed(path).body], [])


def parsed(path: Path) -> ast.Module:
    """Return a source whose imports name modules as they are named from the top; -1 is inside of its own package."""
    found = ast.parse(path.read_text())
    depth = len(path.relative_to(SOURCE).parts) - 1
    for node in ast.walk(found):
        if isinstance(node, ast.ImportFrom) and node.level:
            node.level = node.level - depth if node.level > depth else -1
    return found


def imported(node: ast.AST) -> Iterator[str]:
    """Yield what is imported below `node`: our own modules with a leading dot, others by their first name."""
    for found in ast.walk(node):
        match found:
            case ast.Import():
                yield from (alias.name.partition(".")[0] for alias in found.names)
            case ast.ImportFrom(level=0, module=str(module)):
                yield module.partition(".")[0]
            case ast.ImportFrom(level=1, module=str(module)):
                yield f".{module}"
            case ast.ImportFrom(level=1):
                yield from (f".{alias.name}" for alias in found.names if not alias.name.startswith("__"))


def in_fresh_interpreter(code: str) -> str:
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=WAIT_S
    ).stdout


def test_every_module_has_its_place_in_the_order() -> None:
    assert set(MODULES) - set(ORDER) == set()


@pytest.mark.parametrize("module", MODULES)
def test_a_module_imports_only_modules_before_it(module: str) -> None:
    ours = {name.removeprefix(".") for name in imported(tree(module)) if name.startswith(".")}
    assert ours - set(ORDER[: ORDER.index(module)]) == set()
    assert "streamapp" not in imported(tree(module))


@pytest.mark.parametrize("module", MODULES)
def test_threads_are_used_where_they_cannot_be_avoided(module: str) -> None:
    if {"threading", "queue", "_thread", "multiprocessing"} & set(imported(tree(module))):
        assert module in WITH_THREADS


@pytest.mark.parametrize("module", MODULES)
def test_torch_is_imported_by_one_module(module: str) -> None:
    if {"torch", "diffusers", "transformers"} & set(imported(tree(module))):
        assert module == "diffusion"


@pytest.mark.parametrize("module", [*MODULES, *sorted(OUTSIDE)])
def test_nothing_is_imported_inside_a_function(module: str) -> None:
    functions = [node for node in ast.walk(tree(module)) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
    assert {function.name: list(imported(function)) for function in functions if [*imported(function)]} == {}


@pytest.mark.parametrize("module", [*ORDER[ORDER.index("log") : ORDER.index("container")], "runtime"])
def test_jobs_and_the_runtime_know_neither_http_nor_metrics_nor_fal(module: str) -> None:
    others = {"starlette", "fastapi", "prometheus_client", ".metrics", ".fal_api", ".routes", ".response", ".answer"}
    if module in MODULES:
        assert set(imported(tree(module))) & others == set()


def test_importing_streamapp_imports_no_torch() -> None:
    heavy = {"torch", "diffusers", "transformers", "numpy", "typer"}
    assert in_fresh_interpreter(f"import sys, streamapp; print({heavy} & {{*sys.modules}})") == "set()\n"


def test_importing_streamapp_imports_no_package_besides_these() -> None:
    """What it costs in seconds `python -m benchmarks --case startup` measures, beside the peers."""
    code = "import sys; before = {*sys.modules}; import streamapp; print(*{*sys.modules} - before)"
    names = {name.partition(".")[0] for name in in_fresh_interpreter(code).split() if not name.startswith("_")}
    assert names - sys.stdlib_module_names - {"streamapp"} <= IMPORTED
