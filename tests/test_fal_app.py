"""What stands for `fal.app`: an app that its own script serves, and fal's marks of sessions."""

import signal
import subprocess
import sys
import types
import typing
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import WebSocket
from pydantic import BaseModel
from tests.waiting import WAIT_S

import streamapp.fal as fal
from streamapp.errors import DefinitionError
from streamapp.fal.app import endpoint
from streamapp.session import SessionSpec, inspect_session

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


def realtime(function: Callable[..., Any], **options: Any) -> SessionSpec:
    """Mark a copy of a function, and return what was made of it."""
    copied = types.FunctionType(function.__code__, function.__globals__, function.__name__)
    copied.__annotations__ = function.__annotations__
    return inspect_session(fal.realtime("/realtime", **options)(copied))


def input_type(spec: SessionSpec) -> Any:
    return typing.get_args(spec.inputs.parameters[0].annotation)[0]


class Input(BaseModel):
    prompt: str


class Other(BaseModel):
    text: str


def draw(self: Any, input: Input) -> dict[str, str]:
    return {"prompt": input.prompt}


def take(self, anything):  # type: ignore[no-untyped-def]
    return anything


async def talk(self: Any, inputs: AsyncIterator[Input]) -> AsyncIterator[dict[str, str]]:
    async for input in inputs:
        yield {"prompt": input.prompt}


def test_realtime_marks_what_an_annotation_describes() -> None:
    assert realtime(draw).inputs.parameters[0].annotation is Input
    assert (realtime(draw).mode, realtime(talk).mode) == ("unary", "bidi")
    assert input_type(realtime(talk)) is Input
    assert (endpoint, fal.realtime) == (fal.endpoint, fal.app.realtime)


@pytest.mark.parametrize("function", [draw, talk])
def test_a_modal_goes_before_the_annotation(function: Any) -> None:
    spec = realtime(function, input_modal=Other, output_modal=Other)
    assert (input_type(spec), spec.output_type) == (Other, Other)
    assert (input_type(realtime(function, input_modal=None)), realtime(function, output_modal=None).output_type) == (
        Any,
        Any,
    )


def test_a_method_without_an_annotation_takes_each_input_as_it_comes() -> None:
    assert input_type(realtime(take)) is Any
    assert input_type(realtime(take, input_modal=Other)) is Other


def test_all_options_of_realtime_are_kept() -> None:
    options: dict[str, Any] = {"buffering": 5, "session_timeout": 2.0, "content_type": "application/json"}
    mark: Any = realtime(draw, **options, encode_message=repr, decode_message=str).mark
    assert {name: getattr(mark, name) for name in options} == options
    assert (mark.encode, mark.decode) == (repr, str)


@pytest.mark.parametrize("function", [None, 1, staticmethod(draw)])
def test_what_is_no_method_is_no_realtime_endpoint(function: Any) -> None:
    with pytest.raises(DefinitionError, match="marks a function"):
        fal.realtime("/realtime")(function)


def test_an_endpoint_may_get_the_socket_itself() -> None:
    class Sockets(fal.App):
        @fal.endpoint("/ws", is_websocket=True)
        async def on(self, websocket: WebSocket) -> None: ...

    assert [spec.mode for spec in Sockets.session_specs()] == ["raw"]
