"""No test asserts how many seconds something takes, which says more of the machine than of the code.

Time is asserted as an order, a count or a ratio in the same run; how long things take, benchmarks/ measures. There is
no exception.
"""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

TESTS = Path(__file__).parent
PYTHON = sorted(TESTS.glob("test_*.py"))
JAVASCRIPT = sorted((TESTS.parent / "client_sdk" / "js" / "test").glob("*.js"))
CLOCKS = {"monotonic", "perf_counter", "process_time", "thread_time", "time", "monotonic_ns", "perf_counter_ns"}


def is_clock(node: ast.AST) -> bool:
    """Say whether this asks a clock: `time.monotonic()`, or `loop.time()`."""
    match node:
        case ast.Call(func=ast.Attribute(attr=name) | ast.Name(id=name), args=[]):
            return name in CLOCKS
    return False


def is_duration(node: ast.AST, durations: set[str]) -> bool:
    """Say whether this is a span of time: a difference to what a clock says, or a name or a call for one."""
    match node:
        case ast.BinOp(op=ast.Div(), left=left, right=right):  # a ratio of two is a number
            return is_duration(left, durations) and not is_duration(right, durations)
        case ast.BinOp(op=ast.Sub(), left=left, right=right) if is_clock(left) or is_clock(right):
            return True
        case ast.Name(id=name) | ast.Call(func=ast.Name(id=name)) if name in durations:
            return True
    return any(is_duration(child, durations) for child in ast.iter_child_nodes(node))


def is_number(node: ast.AST) -> bool:
    """Say whether this is written as a number, or calculated of such."""
    return all(not isinstance(part, ast.Name | ast.Call | ast.Attribute) for part in ast.walk(node))


def named_durations(tree: ast.AST) -> set[str]:
    """Return the names that are given a span of time, and the functions that return one."""
    found: set[str] = set()
    for _ in range(3):  # a name may be given another's
        for node in ast.walk(tree):
            match node:
                case (
                    ast.Assign(targets=[ast.Name(id=name)], value=value)
                    | ast.NamedExpr(target=ast.Name(id=name), value=value)
                ) if is_duration(value, found):
                    found.add(name)
                case ast.FunctionDef(name=name) if any(
                    isinstance(part, ast.Return) and part.value is not None and is_duration(part.value, found)
                    for part in ast.walk(node)
                ):
                    found.add(name)
                case ast.Expr(
                    value=ast.Call(func=ast.Attribute(value=ast.Name(id=name), attr="append"), args=[value])
                ) if is_duration(value, found):
                    found.add(name)
    return found


def compared_with_seconds(source: str) -> Iterator[tuple[str, int]]:
    """Yield the functions and lines in which a span of time is compared with a number."""
    tree = ast.parse(source)
    durations = named_durations(tree)
    for function in ast.walk(tree):
        if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef):
            for node in ast.walk(function):
                if isinstance(node, ast.Compare):
                    sides = [node.left, *node.comparators]
                    for pair in zip(sides, sides[1:], strict=False):
                        if any(is_duration(side, durations) for side in pair) and any(map(is_number, pair)):
                            yield function.name, node.lineno


def test_no_test_compares_a_span_of_time_with_a_number() -> None:
    found = {path.name: [*compared_with_seconds(path.read_text())] for path in PYTHON}
    assert {name: places for name, places in found.items() if places} == {}


def test_no_test_reads_a_clock_in_another_process() -> None:
    """What it prints would be a span of time that cannot be seen here."""
    clock = re.compile(r"\b(perf_counter|process_time|monotonic)(_ns)?\(\)")
    others = [path for path in PYTHON if path != Path(__file__)]
    assert [path.name for path in others if any(clock.search(text) for text in texts(path))] == []


def texts(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value


def test_no_test_of_the_javascript_client_compares_a_span_of_time_with_a_number() -> None:
    compared = re.compile(r"(now\(\) - \w+|\b(elapsed|took)\w*) *[<>]=? *[\d_]+")
    assert [path.name for path in JAVASCRIPT if compared.search(path.read_text())] == []


@pytest.mark.parametrize(
    "statement",
    [
        "assert time.monotonic() - started < 8",
        "assert 8 > time.monotonic() - started",
        "took_s = time.perf_counter() - started\n    assert took_s < 2 * (0.2 + 1)",
        "times = []\n    times.append(time.process_time() - started)\n    assert 0 < min(times) < 0.6",
        "assert loop.time() - started >= 0.5",
    ],
)
def test_such_a_comparison_is_found(statement: str) -> None:
    assert [name for name, _ in compared_with_seconds(f"def test_it():\n    {statement}\n")]


@pytest.mark.parametrize(
    "statement",
    [
        "assert time.monotonic() < deadline",
        "took_s = time.time() - started\n    assert 0 <= told_s <= took_s",
        "first = time.monotonic() - started\n    second = time.monotonic() - started\n    assert first / second < 30",
        "assert count < 3",
    ],
)
def test_an_order_and_a_ratio_are_not(statement: str) -> None:
    assert [*compared_with_seconds(f"def test_it():\n    {statement}\n")] == []
