"""A child process that is started anew when a source file changes."""

import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.waiting import WAIT_S

from streamapp.serve.reload import keep_running

CHILD = "import os, signal, sys; os.write(int(sys.argv[1]), b'{name}\\n'); {then}"
WAITS = "signal.pause()"


@pytest.fixture(autouse=True)
def keep_signal_handler() -> Iterator[None]:
    before = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, before)


class Scene:
    """A folder with a child's source, the pipe that the child writes its name to, and what was logged."""

    def __init__(self, folder: Path, caplog: pytest.LogCaptureFixture) -> None:
        self.source = folder / "child.py"
        self.reading, self.fd = os.pipe()
        self._caplog = caplog

    def write(self, name: str, then: str = WAITS) -> None:
        self.source.write_text(CHILD.format(name=name, then=then))

    def child(self) -> str:
        """Wait for the next child's name."""
        name = b""
        while not name.endswith(b"\n"):
            name += os.read(self.reading, 1)
        return name.decode().strip()

    def logged(self, text: str) -> None:
        """Wait for a line of the log."""
        deadline = time.monotonic() + WAIT_S
        while text not in self._caplog.text:
            assert time.monotonic() < deadline, self._caplog.text
            time.sleep(0.01)

    def play(
        self, *acts: Callable[[], object], stop_timeout_s: float = WAIT_S, by: int = signal.SIGTERM
    ) -> list[object]:
        """Keep the child running, do one thing after another beside it, then end it by a signal."""
        done: list[object] = []

        def act() -> None:
            try:
                done.extend(act() for act in acts)
            finally:
                os.kill(os.getpid(), by)

        thread = threading.Thread(target=act)
        command = [sys.executable, str(self.source), str(self.fd)]
        with pytest.raises(KeyboardInterrupt):
            thread.start()
            keep_running(command, [self.source.parent], fd=self.fd, stop_timeout_s=stop_timeout_s)
        thread.join(WAIT_S)
        return done


@pytest.fixture
def scene(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> Iterator[Scene]:
    caplog.set_level(logging.INFO, "streamapp")
    scene = Scene(tmp_path, caplog)
    yield scene
    os.close(scene.reading)
    os.close(scene.fd)


def test_a_change_starts_the_child_anew(scene: Scene) -> None:
    scene.write("first")
    assert scene.play(scene.child, lambda: scene.write("second"), scene.child) == ["first", None, "second"]
    scene.logged("starting anew: child.py changed")


def test_a_child_that_ended_is_told_once_and_waits_for_a_change(scene: Scene, caplog: pytest.LogCaptureFixture) -> None:
    scene.write("broken", "sys.exit(3)")
    ended = "the app ended with exit code 3; waiting for a change"
    scene.play(scene.child, lambda: scene.logged(ended), lambda: scene.write("mended"), scene.child)
    assert caplog.text.count(ended) == 1


def says(word: str) -> str:
    return f"os.write(int(sys.argv[1]), b'{word}\\n')"


def test_a_child_that_does_not_end_is_killed(scene: Scene) -> None:
    scene.write("stuck", f"signal.signal(signal.SIGTERM, signal.SIG_IGN); {says('deaf')}; {WAITS}")
    scene.play(scene.child, scene.child, stop_timeout_s=0.1)
    scene.logged("did not end within 0.1 s and is killed")


def test_ctrl_c_ends_the_child(scene: Scene) -> None:
    then = f"signal.signal(signal.SIGTERM, lambda *_: ({says('ended')}, sys.exit())); {says('listening')}; {WAITS}"
    scene.write("first", then)
    scene.play(scene.child, scene.child, by=signal.SIGINT)
    assert scene.child() == "ended"


def test_ctrl_c_in_a_terminal_is_not_for_a_child_that_imports(scene: Scene) -> None:
    scene.write("first", "os.write(int(sys.argv[1]), b'%d\\n' % signal.getsignal(signal.SIGINT)); signal.pause()")
    assert scene.play(scene.child, scene.child) == ["first", str(int(signal.SIG_IGN))]


def test_a_second_ctrl_c_does_not_wait_for_a_child_that_does_not_end(scene: Scene) -> None:
    again = "signal.signal(signal.SIGTERM, lambda *_: os.kill(os.getppid(), signal.SIGINT))"
    scene.write("first", f"{again}; {says('deaf')}; [signal.pause() for _ in iter(int, 1)]")
    scene.play(scene.child, scene.child, by=signal.SIGINT, stop_timeout_s=3600)
