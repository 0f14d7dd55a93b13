"""What tests share: nothing blocks the loop, a clock to put forward, a server of raw bytes, apps that are served."""

import logging
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from blockbuster import blockbuster_ctx
from hypothesis import settings
from tests import sampling
from tests.at_work import Gate
from tests.namespace import own_network  # noqa: F401 - a fixture
from tests.sampling import pytest_addoption, pytest_terminal_summary, pytest_testnodedown  # noqa: F401 - hooks
from tests.scripted_server import Serve, serving
from tests.served import failing, gated, inputs, kinds, results  # noqa: F401 - fixtures
from tests.tabs import browser, contents, playground, sdxl  # noqa: F401 - fixtures
from tests.torchless import pytest_pycollect_makemodule, pytest_runtest_call, pytest_runtest_setup  # noqa: F401 - hooks

from streamapp.jobs.events import Event

# Several threads of torch wait for each other by spinning: four times the work, where others want the cores too.
os.environ.setdefault("OMP_NUM_THREADS", "1")
settings.register_profile("any machine", deadline=None)  # a slow one is no failure
settings.load_profile("any machine")
# Half of the whole time. Begun last, one of them would run alone.
SLOWEST = {
    *("test_playground.py", "test_js_client.py", "test_fal_client.py", "test_fal_js.py", "test_tiny_model.py"),
    *("test_fal_realtime.py", "test_runpod_worker.py", "test_runpod_client.py", "test_webrtc_browser.py"),
    *("test_docs.py", "test_docs_guides.py"),
}


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what the sample has not, and begin with the slowest files."""
    sampling.pytest_collection_modifyitems(config, items)
    items.sort(key=lambda item: item.path.name not in SLOWEST)


@pytest.fixture(autouse=True, scope="session")
def nothing_blocks_the_loop() -> Iterator[None]:
    """Fail a test in which code below a function of ours blocks an event loop."""
    with blockbuster_ctx("streamapp") as blockbuster:
        # It looks for a package that is not there, and threads that do so at a time wait a moment for each other.
        lock = blockbuster.functions["threading.Lock.acquire"]
        lock.can_block_in("httpcore/_synchronization.py", {"current_async_library"})
        # Its own: it takes a lock whenever a thread comes to a file for the first time.
        lock.can_block_in("coverage/collector.py", {"lock_data"})
        yield


@pytest.fixture(autouse=True, scope="session")
def children_hear_ctrl_c() -> None:
    """Give started processes the usual SIGINT: a shell that runs the tests in the background has them ignore it."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def logging_as_it_was() -> Iterator[None]:
    """Undo what a command that a test has run does to the loggers: later tests of the process count their lines."""
    loggers = [logging.getLogger(name) for name in ("streamapp", "uvicorn")]
    before = [(logger.level, logger.propagate, logger.handlers) for logger in loggers]
    yield
    for logger, (level, propagate, handlers) in zip(loggers, before, strict=True):
        logger.setLevel(level)
        logger.propagate, logger.handlers = propagate, handlers


@pytest.fixture(autouse=True)
def no_server_was_told_to_end() -> Iterator[None]:
    """Have sse-starlette forget that a test has told a server of this process to end: it would end all its streams."""
    yield
    status = getattr(sys.modules.get("sse_starlette.sse"), "AppStatus", None)
    if status is not None:
        status.should_exit = False


@pytest.fixture
def advance(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Put `time.monotonic` forward by some seconds, and with it every deadline, the loop's timers included."""
    real, passed = time.monotonic, [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: real() + sum(passed))
    return passed.append


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Start a server that plays answers as they are written down."""
    with serving() as start:
        yield start


Interrupting = Callable[[Callable[[], None]], Event]


@pytest.fixture
def interrupted_by() -> Interrupting:
    """Make an event in the midst of whose emission the garbage collector runs a finalizer."""

    def interrupted_by(finalizer: Callable[[], None]) -> Event:
        class Interrupted(Event):
            @property
            def kind(self) -> Any:
                finalizer()
                return "output"

            @kind.setter
            def kind(self, kind: str) -> None: ...

        return Interrupted("output", b"1")

    return interrupted_by


@pytest.fixture
def gate() -> Iterator[Gate]:
    """Keep the endpoints that run it; at the end of the test all go on."""
    gate = Gate()
    yield gate
    gate.opened.set()
