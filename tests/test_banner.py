"""What a server says when it starts."""

import json
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
from fastapi import Body, Form, UploadFile, WebSocket
from pydantic import BaseModel, ConfigDict, Field, SecretStr

import streamapp
from streamapp.cli.banner import describe_server, shown_address
from streamapp.runpod.apps import QueueApp
from streamapp.runpod.endpoints import Endpoint
from streamapp.runpod.pool import pool_app
from streamapp.serve.build import compile_app
from streamapp.settings import Settings
from streamapp.testing import TestClient


class PaintInput(BaseModel):
    prompt: str = Field(examples=["a red circle's edge"])
    style: Literal["oil", "ink"]
    width: int = Field(ge=64)
    count: int
    caption: str
    sharp: bool
    strokes: list[int]
    seed: int = 0


class Paint(streamapp.App):
    @streamapp.endpoint("/")
    def paint(self, input: PaintInput) -> None: ...

    @streamapp.endpoint("/stream")
    def stream(self, input: PaintInput, stream: streamapp.Stream) -> dict[str, Any]:
        return input.model_dump()


class Shown(streamapp.App):
    @streamapp.endpoint("/pages/{page}")
    def show(self, page: int) -> None: ...


def said(*apps: type[streamapp.App], host: str = "127.0.0.1", settings: Settings | None = None) -> list[str]:
    return describe_server(compile_app(*apps, settings=settings), host, 8000).splitlines()


def test_each_app_has_a_line_with_its_urls() -> None:
    lines = said(Paint, Shown)
    assert lines[0] == "paint: http://127.0.0.1:8000/ http://127.0.0.1:8000/stream"
    assert lines[1] == "shown: http://127.0.0.1:8000/shown/pages/{page}"
    assert lines[2] == "playground: http://127.0.0.1:8000/playground"
    assert lines[3] == "docs: http://127.0.0.1:8000/docs"


def test_a_playground_that_is_off_is_not_named() -> None:
    assert "playground" not in describe_server(compile_app(Paint, playground=False), "127.0.0.1", 8000)


def test_an_apps_own_page_is_shown_first(tmp_path: Path) -> None:
    (tmp_path / "index.html").touch()
    first, second = (type(name, (Shown,), {"static": tmp_path}) for name in ("First", "Second"))
    assert [line for line in said(first, Shown, second) if line.startswith("p")] == [
        "page: http://127.0.0.1:8000/",
        "page of second: http://127.0.0.1:8000/second/",
        "playground: http://127.0.0.1:8000/playground",
    ]


def test_the_curl_line_calls_the_first_stream_with_an_input_that_it_takes() -> None:
    words = shlex.split(said(Paint)[-1])
    assert words[:3] == ["curl", "-N", "http://127.0.0.1:8000/stream"]
    with TestClient(Paint) as client, client.stream("/stream", json.loads(words[-1])) as stream:
        list(stream)
        assert stream.result == {
            "prompt": "a red circle's edge",
            "style": "oil",
            "width": 64,
            "count": 1,
            "caption": "hello",
            "sharp": True,
            "strokes": [],
            "seed": 0,
        }


class Frame(BaseModel):
    width: int = Field(gt=0)
    hung_in: "Frame | None"


class BoundInput(BaseModel):
    text: str = Field(min_length=10)
    code: str = Field(min_length=2, max_length=3)
    mood: float = Field(gt=0, lt=1)
    share: float = Field(lt=1)
    age: float = Field(le=0.5)
    size: int = Field(gt=5)
    tags: list[str] = Field(min_length=2)
    frame: Frame
    known: bool | None


def test_the_curl_line_keeps_to_bounds_and_fills_what_is_nested() -> None:
    class Bound(streamapp.App):
        @streamapp.endpoint("/stream")
        def stream(self, input: BoundInput) -> Iterator[Any]:
            yield input

    example = json.loads(shlex.split(said(Bound)[-1])[-1])
    given = BoundInput.model_validate(example)
    assert given.text == "hello hello"
    assert given.frame == Frame(width=1, hung_in=None)
    assert given.tags == ["hello", "hello"]


class FiledInput(BaseModel):
    image: streamapp.Image
    size: int
    shown: streamapp.File = Field(examples=["https://example.org/a.csv"])


def test_the_curl_line_sends_a_file_that_is_required_by_a_form() -> None:
    class Filed(streamapp.App):
        @streamapp.endpoint("/stream")
        def stream(self, input: FiledInput) -> Iterator[Any]:
            yield input.size

    class Uploaded(streamapp.App):
        @streamapp.endpoint("/")
        def run(self, file: UploadFile, note: str) -> None: ...

    form = "curl -N http://127.0.0.1:8000/stream -F image=@image.png -F size=1 -F shown=https://example.org/a.csv"
    assert said(Filed)[-1] == form
    keyed = said(Uploaded, settings=Settings(api_key="secret"))[-1]
    assert keyed.endswith('-H "Authorization: Key $STREAMAPP_API_KEY" -F file=@file -F note=hello')


class Oil(BaseModel):
    style: Literal["oil"] = "oil"
    strokes: int


class Ink(BaseModel):
    style: Literal["ink"]
    width: int


class Chalk(BaseModel):
    model_config = ConfigDict(json_schema_extra={"examples": [{"width": 7}]})

    width: int | None = None


@pytest.mark.parametrize(
    ("annotation", "example"),
    [
        (Chalk, {"width": 7}),
        (Annotated[Oil | Ink, Field(discriminator="style")], {"style": "oil", "strokes": 1}),
        (Ink | Oil | None, {"style": "ink", "width": 1}),
        (Annotated[list[int], Body()], []),
        (Annotated[Ink, Form()], {"style": "ink", "width": 1}),
        (Annotated[str, Body(media_type="text/plain")], "hello"),
        (list[int], {"input": []}),
    ],
)
def test_the_curl_line_gives_what_a_single_parameter_takes(annotation: Any, example: Any) -> None:
    def stream(self: Any, input: Any) -> Iterator[Any]:
        yield input

    stream.__annotations__["input"] = annotation
    app = type("Painted", (streamapp.App,), {"stream": streamapp.endpoint("/stream")(stream)})
    assert json.loads(shlex.split(said(app)[-1])[-1]) == example


def test_the_curl_line_takes_the_key_from_the_environment() -> None:
    line = said(Paint, settings=Settings(api_key="secret"))[-1]
    assert "secret" not in line
    words = subprocess.run(
        f"printf '%s\\n' {line}", shell=True, env={"STREAMAPP_API_KEY": "k"}, capture_output=True, text=True, check=True
    )
    assert "Authorization: Key k" in words.stdout.splitlines()


def test_an_app_whose_paths_have_parameters_gets_no_curl_line() -> None:
    assert said(Shown)[-1].startswith("docs:")


@pytest.mark.parametrize(
    ("host", "address"),
    [("0.0.0.0", "127.0.0.1:8000"), ("::", "[::1]:8000"), ("::1", "[::1]:8000"), ("box.example", "box.example:8000")],
)
def test_the_urls_can_be_opened(host: str, address: str) -> None:
    assert said(Paint, host=host)[0].split()[1] == f"http://{address}/"


def test_a_server_with_a_certificate_is_shown_with_https() -> None:
    lines = describe_server(compile_app(Shown), "127.0.0.1", 8443, scheme="https").splitlines()
    assert lines[-1] == "docs: https://127.0.0.1:8443/docs"


@pytest.mark.parametrize(
    ("host", "address"), [("0.0.0.0", "127.0.0.1:1"), ("::", "[::1]:1"), ("::2", "[::2]:1"), ("gpu", "gpu:1")]
)
def test_the_shown_address_can_be_called(host: str, address: str) -> None:
    assert shown_address(host, 1) == address


class Echo(QueueApp):
    def run_job(self, job: dict[str, Any]) -> Any:
        return job["input"]


def test_an_app_of_runpods_kind_is_shown_with_what_its_clients_need() -> None:
    lines = said(Paint, Echo)
    assert lines[2] == "runpod endpoint echo: http://127.0.0.1:8000/v2/echo"
    assert lines[-2:] == [
        'export RUNPOD_ENDPOINT_BASE_URL=http://127.0.0.1:8000/v2  # for runpod.Endpoint("echo")',
        "curl http://127.0.0.1:8000/v2/echo/runsync -H 'Content-Type: application/json' -d '{\"input\": {}}'",
    ]


def test_an_endpoint_is_shown_with_what_it_needs_by_its_own_id_alone() -> None:
    named = {"a": Endpoint(app="echo", gpu="16 GB", image="me/echo:1"), "paint": Endpoint()}
    api = compile_app(Echo, Paint, endpoints=named)
    lines = describe_server(api, "127.0.0.1", 8000).splitlines()
    assert [line for line in lines if line.startswith("runpod")] == [
        "runpod endpoint a: http://127.0.0.1:8000/v2/a (GPU 16 GB, image me/echo:1)",
        "runpod endpoint paint: http://127.0.0.1:8000/v2/paint",
    ]


def test_the_line_for_runpods_clients_gives_the_first_endpoint_what_it_takes_with_the_key() -> None:
    api = compile_app(Echo, Paint, settings=Settings(api_key="secret"), endpoints={"p": Endpoint(app="paint")})
    words = shlex.split(describe_server(api, "127.0.0.1", 8000).splitlines()[-1])
    assert words[:4] == ["curl", "http://127.0.0.1:8000/v2/p/runsync", "-H", "Authorization: Bearer $STREAMAPP_API_KEY"]
    assert json.loads(words[-1])["input"]["prompt"] == "a red circle's edge"


def test_an_endpoint_whose_jobs_run_elsewhere_is_shown_with_what_makes_a_worker_of_it() -> None:
    api = compile_app(pool_app("mine"), settings=Settings(worker_secret=SecretStr("s3cret")))
    worker = 'a worker of mine: eval "$(streamapp worker --runpod mine --url http://127.0.0.1:8000)"'
    assert worker in describe_server(api, "127.0.0.1", 8000).splitlines()


def test_sessions_are_shown_with_what_speaks_to_one() -> None:
    class Live(streamapp.App):
        @streamapp.realtime("/live")
        def live(self, prompt: str) -> None: ...

        @streamapp.websocket("/chat/{room}")
        async def chat(self, socket: WebSocket, room: str) -> None: ...

    api = compile_app(Live, settings=Settings(api_key=SecretStr("secret")))
    lines = describe_server(api, "127.0.0.1", 8000, scheme="https").splitlines()
    assert lines[0] == "live: wss://127.0.0.1:8000/live wss://127.0.0.1:8000/chat/{room}"
    example = json.dumps({"prompt": "hello"})
    assert lines[-1] == f'websockets "wss://127.0.0.1:8000/live?_token=$STREAMAPP_API_KEY"  # then type {example}'
