"""What stands for `fal.app`: an app that its own script serves, and what is refused of it."""

import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.waiting import WAIT_S

import streamapp.fal as fal
from streamapp.errors import DefinitionError
from streamapp.fal.app import endpoint

SCRIPT = """
import streamapp.fal as fal

class Painter(fal.App):
    colour = "red"

    @fal.endpoint("/")
    def paint(self) -> str:
        return self.colour

if __name__ == "__main__":
    Painter.colour = "blue"
    fal.wrap_app(Painter, keep_alive=300)(exposed_port=0)
"""


LOCAL = """
import streamapp.fal as fal

def local():
    class Painter(fal.App): ...
    return Painter

fal.wrap_app(local())()
"""


def test_a_script_serves_its_app_as_it_is_until_a_signal(tmp_path: Path) -> None:
    (tmp_path / "painter.py").write_text(SCRIPT)
    command = [sys.executable, "painter.py"]
    with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            url = process.stdout.readline().rpartition(" ")[2].strip()
            assert httpx.post(url, timeout=WAIT_S).json() == "blue"
        finally:
            process.terminate()
        assert process.wait(WAIT_S) == -signal.SIGTERM


def test_a_script_that_cannot_be_served_says_why(tmp_path: Path) -> None:
    ran = subprocess.run(
        [sys.executable, "-c", LOCAL], cwd=tmp_path, capture_output=True, text=True, timeout=WAIT_S, check=False
    )
    assert ran.returncode == 1
    assert "there is no 'local.<locals>.Painter' in __main__" in " ".join(ran.stderr.split())


@pytest.mark.parametrize("given", [fal.App, int, "Painter", None])
def test_what_is_no_app_is_not_served(given: Any) -> None:
    with pytest.raises(DefinitionError, match=r"Expected a subclass of fal\.App, got .*; write fal\.wrap_app"):
        fal.wrap_app(given)


def test_realtime_is_refused_with_what_to_do_instead() -> None:
    assert endpoint is fal.endpoint
    with pytest.raises(DefinitionError, match=r"@realtime\('/rt'\): websockets are not served; stream with yield"):

        class Sockets(fal.App):
            @fal.realtime("/rt", buffering=5)  # type: ignore[untyped-decorator]
            def on(self) -> None: ...
