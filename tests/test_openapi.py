"""The OpenAPI document: inputs, results, and the events of streams as `itemSchema`."""

import dataclasses
import inspect
import json
import math
import re
from collections.abc import AsyncIterator, Generator, Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

import PIL.Image
import pytest
from fastapi import Body, File, Form, Header, UploadFile
from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel
from starlette.responses import StreamingResponse
from starlette.testclient import TestClient
from starlette.websockets import WebSocket
from tests.served import blocks, finished, submit

import streamapp
from streamapp.jobs.events import KINDS

ERRORS = ["400", "401", "403", "404", "413", "422", "429", "503", "504"]


class Size(BaseModel):
    """How large."""

    width: int = Field(1024, ge=64, description="in pixels")


class Prompt(BaseModel):
    model_config = ConfigDict(json_schema_extra={"examples": [{"prompt": "a red circle"}]})

    prompt: str = Field(description="what to draw", examples=["a cat"])
    size: Size = Size()
    image: streamapp.Image | None = None


class Node(BaseModel):
    name: str
    children: list["Node"] = []


class Drawn(BaseModel):
    size: Size
    root: Node


class PictureInput(BaseModel):
    name: str


class Error(BaseModel):
    """A class of the app's own that is called as the framework's."""

    mine: int


class Arbitrary(BaseModel):
    model_config = ConfigDict(arbitrary_types_allowed=True)

    picture: PIL.Image.Image | None = None
    n: int = 0


class Painter(streamapp.App):
    """Paint."""

    version = "1.2.3"

    @streamapp.endpoint("/stream")
    def stream(self, input: Prompt) -> Iterator[Drawn]:
        """Paint a picture.

        And show it.
        """
        yield Drawn(size=Size(), root=Node(name="x"))

    @streamapp.endpoint("/documents/{name:path}")
    def document(self, name: str, zoom: float = 1, agent: str = Header("")) -> Size:
        return Size()

    @streamapp.endpoint("/own", media_type="application/x-ndjson")
    async def own(self, a: Error, b: int) -> AsyncIterator[Error]:
        yield a

    @streamapp.endpoint("/response")
    def response(self) -> StreamingResponse:
        return StreamingResponse(iter(()))

    @streamapp.endpoint("/upload")
    def upload(self, file: UploadFile, note: Annotated[str, Body()] = "") -> dict[str, PIL.Image.Image]:
        return {}

    @streamapp.endpoint("/arbitrary")
    def arbitrary(self, input: Arbitrary) -> PIL.Image.Image:
        raise NotImplementedError

    @streamapp.endpoint("/untyped")
    def untyped(self, prompt, steps=20):  # type: ignore[no-untyped-def]
        return prompt


class Second(streamapp.App):
    @streamapp.endpoint("/stream")
    def stream(self, input: Prompt) -> Iterator[Prompt]:
        yield input


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    described: dict[str, Any] = streamapp.compile_app(Painter).openapi()
    return described


def resolve(document: dict[str, Any], schema: dict[str, Any]) -> dict[str, Any]:
    """Follow a reference within the document."""
    if "$ref" not in schema:
        return schema
    found: Any = document
    for part in schema["$ref"].removeprefix("#/").split("/"):
        found = found[part]
    return dict(found)


def stream_events(document: dict[str, Any], method: str, path: str = "/stream") -> dict[str, dict[str, Any]]:
    """Return the schema of each event's data by its name."""
    content = document["paths"][path][method]["responses"]["200"]["content"]
    events = content["text/event-stream"]["itemSchema"]["anyOf"]
    return {event["properties"]["event"]["const"]: event["properties"]["data"]["contentSchema"] for event in events}


@pytest.mark.parametrize("apps", [(Painter,), (Painter, Second)])
def test_every_reference_resolves(apps: tuple[type[streamapp.App], ...]) -> None:
    document = streamapp.compile_app(*apps).openapi()
    references = re.findall(r'"\$ref": "([^"]+)"', json.dumps(document))
    assert len(references) > 10
    for reference in references:
        assert resolve(document, {"$ref": reference})


def test_the_document_is_of_the_version_that_knows_streams(document: dict[str, Any]) -> None:
    assert document["openapi"] == "3.2.0"
    assert document["info"] == {"title": "painter", "version": "1.2.3", "description": "Paint."}


def test_each_app_has_its_title_and_description_and_without_them_its_name() -> None:
    class Titled(Second):
        """Words, *one by one*."""

        title = "Words"

    document = streamapp.compile_app(Titled, Second).openapi()
    assert document["info"] == {"title": "Words", "version": "unknown", "description": "Words, *one by one*."}
    assert document["tags"] == [
        {"name": "titled", "summary": "Words", "description": "Words, *one by one*."},
        {"name": "second", "summary": "second"},
    ]
    assert streamapp.compile_app(Second).openapi()["info"] == {"title": "second", "version": "unknown"}


class Speaker(streamapp.App):
    @streamapp.endpoint("/stream")
    def speak(self) -> Iterator[str]:
        yield ""

    @streamapp.endpoint("/count")
    def count(self) -> Generator[int, None, Size]:
        yield 1
        return Size()


def test_the_result_of_a_stream_is_described_beside_its_events() -> None:
    paths = streamapp.compile_app(Speaker).openapi()["paths"]
    spoken, counted = (paths[path]["post"]["responses"]["200"] for path in ("/stream", "/count"))
    assert spoken["content"]["application/json"]["schema"] == {"type": "string"}
    assert spoken["description"] == "The stream of events, or its result: the text of all outputs, joined."
    assert counted["content"]["application/json"]["schema"] == {"$ref": "#/components/schemas/Size"}
    assert counted["content"]["application/x-ndjson"]["itemSchema"] == {"type": "integer"}


def test_a_body_keeps_descriptions_examples_and_limits(document: dict[str, Any]) -> None:
    body = document["paths"]["/stream"]["post"]["requestBody"]
    schema = resolve(document, body["content"]["application/json"]["schema"])
    assert body["required"] is True
    assert schema["examples"] == [{"prompt": "a red circle"}]
    assert schema["properties"]["prompt"]["description"] == "what to draw"
    assert schema["properties"]["prompt"]["examples"] == ["a cat"]
    size = resolve(document, schema["properties"]["size"])
    assert size["properties"]["width"] == {
        "default": 1024,
        "description": "in pixels",
        "minimum": 64,
        "title": "Width",
        "type": "integer",
    }


def test_a_form_is_as_good_as_json(document: dict[str, Any]) -> None:
    content = document["paths"]["/upload"]["post"]["requestBody"]["content"]
    assert set(content) == {"application/json", "multipart/form-data"}


def test_a_body_of_which_all_has_defaults_may_be_left_out(document: dict[str, Any]) -> None:
    assert document["paths"]["/arbitrary"]["post"]["requestBody"]["required"] is False
    assert document["paths"]["/untyped"]["post"]["requestBody"]["required"] is True


def test_a_get_stream_takes_its_input_from_the_query(document: dict[str, Any]) -> None:
    parameters = document["paths"]["/stream"]["get"]["parameters"]
    assert [(p["name"], p["in"], p["required"]) for p in parameters] == [
        ("prompt", "query", True),
        ("size", "query", False),
        ("image", "query", False),
    ]
    assert "requestBody" not in document["paths"]["/stream"]["get"]


class Square(BaseModel):
    kind: Literal["square"] = "square"
    width: int
    name: str = ""


class Circle(BaseModel):
    kind: Literal["circle"] = "circle"
    radius: int
    name: str = ""


@dataclasses.dataclass
class Plain:
    width: int


def described(
    annotation: Any, default: Any = inspect.Parameter.empty
) -> tuple[Any, list[tuple[str, bool]], bool, bool]:
    """Describe an endpoint with one parameter: its body, its query, whether it must be there and may be a form."""

    def stream(self: Any, input: Any) -> Iterator[Any]:
        yield input

    stream.__annotations__["input"] = annotation
    if default is not inspect.Parameter.empty:
        stream.__defaults__ = (default,)
    app = type("One", (streamapp.App,), {"stream": streamapp.endpoint("/one")(stream)})
    methods = streamapp.compile_app(app).openapi()["paths"]["/one"]
    body = methods["post"]["requestBody"]
    query = [(parameter["name"], parameter["required"]) for parameter in methods["get"]["parameters"]]
    schema = body["content"]["application/json"]["schema"]
    return schema, query, body["required"], "multipart/form-data" in body["content"]


def references(*names: str) -> list[dict[str, str]]:
    return [{"$ref": f"#/components/schemas/{name}"} for name in names]


def test_a_single_parameter_with_fields_is_described_as_the_whole_body() -> None:
    (plain,) = references("Plain")
    assert described(Annotated[Plain, "one"]) == (plain, [("width", True)], True, True)


def test_members_of_a_union_have_their_fields_in_the_query() -> None:
    query = [("kind", False), ("width", False), ("name", False), ("radius", False)]
    assert described(Square | Circle) == ({"anyOf": references("Square", "Circle")}, query, True, True)


def test_members_that_are_told_by_a_field_require_it() -> None:
    schema, query, is_required, _ = described(Annotated[Square | Circle, Field(discriminator="kind")])
    assert (schema["oneOf"], query[0], is_required) == (references("Square", "Circle"), ("kind", True), True)


def test_of_what_is_left_to_a_default_nothing_is_required() -> None:
    schema = {"anyOf": [*references("Plain"), {"type": "null"}], "default": None}
    assert described(Plain | None, None) == (schema, [("width", False)], False, True)


def test_a_form_that_fastapi_reads_is_described_beside_the_input() -> None:
    class Formed(streamapp.App):
        @streamapp.endpoint("/beside")
        def beside(
            self, input: Plain, file: Annotated[UploadFile, File()], note: Annotated[str, Form()] = ""
        ) -> None: ...

        @streamapp.endpoint("/fields")
        def fields(self, input: Annotated[Square, Form()], file: Annotated[UploadFile, File()]) -> None: ...

    paths = streamapp.compile_app(Formed).openapi()["paths"]
    found = {path: paths[path]["post"]["requestBody"]["content"] for path in ("/beside", "/fields")}
    schemas = [content["multipart/form-data"]["schema"] for content in found.values()]
    assert [[*schema["properties"]] for schema in schemas] == [
        ["width", "file", "note"],
        ["kind", "width", "name", "file"],
    ]
    assert [schema["required"] for schema in schemas] == [["width", "file"], ["width", "file"]]


def test_what_has_no_fields_is_described_by_its_name() -> None:
    schema = {"type": "array", "items": {"type": "integer"}}
    assert described(Annotated[list[int], Body()]) == (schema, [("input", True)], True, False)
    assert described(Plain | list[int])[1:] == ([("width", False), ("input", False)], True, True)
    key, *others = described(list[int])
    assert (key, others) == (references("StreamInput")[0], [[("input", True)], True, True])


def test_what_fastapi_fills_is_described_beside_it(document: dict[str, Any]) -> None:
    operation = document["paths"]["/documents/{name}"]["post"]
    assert [(p["name"], p["in"]) for p in operation["parameters"]] == [("name", "path"), ("agent", "header")]
    assert list(resolve(document, operation["requestBody"]["content"]["application/json"]["schema"])["properties"]) == [
        "zoom"
    ]


def test_the_docstring_describes_the_endpoint(document: dict[str, Any]) -> None:
    operation = document["paths"]["/stream"]["post"]
    assert (operation["summary"], operation["description"]) == ("Paint a picture.", "Paint a picture.\n\nAnd show it.")


def test_a_stream_describes_its_events(document: dict[str, Any]) -> None:
    events = stream_events(document, "post")
    assert list(events) == ["output", "preview", "progress", "log", "lagged", "restarted", "error", "cancelled"]
    drawn = resolve(document, events["output"])
    assert set(drawn["properties"]) == {"size", "root"}
    node = resolve(document, drawn["properties"]["root"])
    assert resolve(document, node["properties"]["children"]["items"]) == node
    assert set(resolve(document, events["error"])["properties"]) == {"error", "detail", "error_type"}


def test_every_kind_that_is_sent_is_described(document: dict[str, Any]) -> None:
    """But `started`, which is in no endpoint's stream, and `input_error`, which is a session's."""
    assert KINDS.keys() - set(stream_events(document, "get")) == {"started", "input_error"}


def test_a_get_stream_has_the_job_and_its_end_as_well(document: dict[str, Any]) -> None:
    events = stream_events(document, "get")
    assert set(events) - set(stream_events(document, "post")) == {"job", "done"}


def test_ndjson_is_the_items_alone(document: dict[str, Any]) -> None:
    content = document["paths"]["/own"]["post"]["responses"]["200"]["content"]
    assert resolve(document, content["application/x-ndjson"]["itemSchema"])["title"] == "Error"


def test_a_class_called_error_is_not_mistaken_for_ours(document: dict[str, Any]) -> None:
    errors = document["paths"]["/own"]["post"]["responses"]["422"]["content"]["application/json"]["schema"]
    assert set(resolve(document, errors)["properties"]) == {"error", "detail", "error_type"}
    item = stream_events(document, "post", "/own")["output"]
    assert set(resolve(document, item)["properties"]) == {"mine"}


def test_a_value_describes_its_result_and_its_errors(document: dict[str, Any]) -> None:
    responses = document["paths"]["/documents/{name}"]["post"]["responses"]
    assert list(responses) == ["200", *ERRORS]
    assert resolve(document, responses["200"]["content"]["application/json"]["schema"])["title"] == "Size"


@pytest.mark.parametrize("method", ["get", "post"])
def test_a_response_of_the_endpoints_own_is_left_open(document: dict[str, Any], method: str) -> None:
    assert "content" not in document["paths"]["/response"][method]["responses"]["200"]


@pytest.mark.parametrize("path", ["/arbitrary", "/upload", "/untyped"])
def test_what_pydantic_cannot_describe_is_anything(document: dict[str, Any], path: str) -> None:
    assert document["paths"][path]["post"]["responses"]["200"]["content"]["application/json"]["schema"] == {}


def test_a_default_or_limit_that_json_has_no_word_for_is_left_out_and_the_rest_is_described() -> None:
    class Endless(streamapp.App):
        @streamapp.endpoint("/endless")
        def endless(self, most: Annotated[float, Field(ge=0, le=math.inf, examples=[1, math.nan])] = math.inf) -> int:
            return 1

    answer = TestClient(streamapp.compile_app(Endless)).get("/openapi.json")
    field = answer.json()["components"]["schemas"]["EndlessInput"]["properties"]["most"]
    assert field == {"type": "number", "minimum": 0, "examples": [1], "title": "Most"}


def test_a_field_without_a_schema_leaves_the_others_described(document: dict[str, Any]) -> None:
    body = document["paths"]["/arbitrary"]["post"]["requestBody"]["content"]["application/json"]["schema"]
    assert resolve(document, body)["properties"]["n"]["type"] == "integer"


def test_with_several_apps_each_is_described_at_its_name_and_ids_are_unique() -> None:
    document = streamapp.compile_app(Painter, Second).openapi()
    assert {"/stream", "/painter/stream", "/second/stream"} < set(document["paths"])
    ids = [operation["operationId"] for methods in document["paths"].values() for operation in methods.values()]
    assert len(ids) == len(set(ids))


def test_with_one_app_its_paths_are_described_once(document: dict[str, Any]) -> None:
    assert "/painter/stream" not in document["paths"]


class Filed(BaseModel):
    video: Path
    more: list[Path] | None = None
    raw: bytes = b""


class Filing(streamapp.App):
    @streamapp.endpoint("/path")
    def path(self) -> Path:
        return Path()

    @streamapp.endpoint("/bytes")
    def bytes(self) -> dict[str, bytes]:
        return {}

    @streamapp.endpoint("/model")
    def model(self, path: Path = Path()) -> Filed:
        return Filed(video=Path())

    @streamapp.endpoint("/file")
    def file(self) -> streamapp.File:
        return streamapp.File(b"")


def test_paths_and_bytes_of_results_are_described_as_the_files_that_they_become() -> None:
    document = streamapp.compile_app(Filing).openapi()
    told = {
        path: operations["post"]["responses"]["200"]["content"]["application/json"]["schema"]
        for path, operations in document["paths"].items()
        if path in ("/path", "/bytes", "/file")
    }
    files = [told["/path"], told["/bytes"]["additionalProperties"], told["/file"]]
    assert [file["ui"] for file in files] == [{"field": "file"}] * 3
    assert files[0]["properties"] == files[1]["properties"] == files[2]["properties"]
    filed = document["components"]["schemas"]["Filed"]["properties"]
    assert filed["video"]["properties"].keys() == told["/file"]["properties"].keys()
    assert filed["more"]["anyOf"][0]["items"]["ui"] == {"field": "file"}
    assert filed["raw"]["format"] == "binary"
    assert document["components"]["schemas"]["ModelInput"]["properties"]["path"]["format"] == "path"


@pytest.mark.parametrize(
    ("kind", "field"), [(streamapp.Video, "video"), (streamapp.Audio, "audio"), (streamapp.Image, "image")]
)
def test_media_are_told_apart_for_whoever_shows_them(kind: Any, field: str) -> None:
    class Taking(streamapp.App):
        @streamapp.endpoint("/")
        def take(self, media: kind) -> str:
            return "taken"

    schema = streamapp.compile_app(Taking).openapi()["components"]["schemas"]["TakeInput"]["properties"]["media"]
    assert schema["ui"] == {"field": field}


def test_results_are_written_by_the_names_that_the_document_promises() -> None:
    class Named(BaseModel):
        model_config = ConfigDict(alias_generator=to_camel)
        image_url: str
        file_size: Annotated[int, Field(serialization_alias="bytes")] = 0

    class Naming(streamapp.App):
        @streamapp.endpoint("/value")
        def value(self) -> Named:
            return Named(imageUrl="x")

        @streamapp.endpoint("/stream")
        def stream(self) -> Iterator[list[Named]]:
            yield [Named(imageUrl="x")]

    with TestClient(streamapp.compile_app(Naming)) as client:
        schema = client.get("/openapi.json").json()["components"]["schemas"]["Named"]
        assert [*schema["properties"]] == [*client.post("/value").json()] == ["imageUrl", "bytes"]
        (line,) = client.post("/stream", headers={"Accept": "application/x-ndjson"}).text.splitlines()
        assert json.loads(line) == [{"imageUrl": "x", "bytes": 0}]


def test_one_model_that_is_input_and_result_has_two_sides() -> None:
    document = streamapp.compile_app(Second).openapi()
    body = document["paths"]["/stream"]["post"]["requestBody"]["content"]["application/json"]["schema"]
    sides = [resolve(document, side) for side in (body, stream_events(document, "post")["output"])]
    plain_uri = json.dumps({"format": "uri", "type": "string"})
    taken, given = (json.dumps(side["properties"]["image"], sort_keys=True) for side in sides)
    assert (taken.count(plain_uri), given.count(plain_uri)) == (2, 1)  # alone, or in an object; only in an object


@pytest.mark.parametrize(
    ("method", "path", "statuses"),
    [
        ("get", "/stream", ["200", "204", *ERRORS]),
        ("post", "/stream", ["200", *ERRORS]),
        ("post", "/response", ["200", *ERRORS]),
        ("get", "/jobs/{job_id}", ["200", "401", "403", "404", "422"]),
        ("get", "/jobs/{job_id}/result", ["200", "409", "401", "403", "404", "422"]),
        ("get", "/jobs/{job_id}/events", ["200", "204", "400", "401", "403", "404", "422"]),
        ("post", "/jobs/{job_id}/cancel", ["202", "401", "403", "404", "422"]),
    ],
)
def test_every_route_tells_its_errors_in_the_one_shape(
    document: dict[str, Any], method: str, path: str, statuses: list[str]
) -> None:
    answers = document["paths"][path][method]["responses"]
    assert list(answers) == statuses
    for status in statuses:
        if status >= "400":
            schema = resolve(document, answers[status]["content"]["application/json"]["schema"])
            assert set(schema["properties"]) == {"error", "detail", "error_type"}


def test_what_is_known_of_a_job_is_described(kinds: TestClient) -> None:
    paths = kinds.get("/openapi.json").json()["paths"]
    job = submit(kinds, "/generator")
    finished(kinds, job)
    described = paths["/jobs/{job_id}"]["get"]["responses"]["200"]["content"]["application/json"]["schema"]
    told = kinds.get(f"/jobs/{job}").json()
    assert set(described["required"]) <= told.keys() <= described["properties"].keys()


@pytest.mark.parametrize("path", ["/stream", "/jobs/{job_id}/events"])
def test_the_blocks_of_a_get_stream_have_no_name_but_those_about_the_job(document: dict[str, Any], path: str) -> None:
    answer = document["paths"][path]["get"]["responses"]["200"]
    assert re.search("first block is `job`.* last one is `done`", answer["description"])
    events = answer["content"]["text/event-stream"]["itemSchema"]["anyOf"]
    named = {event["title"] for event in events if "event" in event["required"]}
    assert named == {"job", "lagged", "restarted", "done", "error", "cancelled"}
    assert [event["title"] for event in events if "retry" in event["properties"]] == ["job"]


def test_each_block_of_a_post_stream_has_a_name(document: dict[str, Any]) -> None:
    events = document["paths"]["/stream"]["post"]["responses"]["200"]["content"]["text/event-stream"]["itemSchema"]
    assert all(event["required"] == ["event", "data"] for event in events["anyOf"])


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_the_blocks_that_are_sent_are_those_that_are_described(kinds: TestClient, method: str) -> None:
    document = kinds.get("/openapi.json").json()
    content = document["paths"]["/generator"][method.lower()]["responses"]["200"]["content"]
    shapes = [set(event["required"]) for event in content["text/event-stream"]["itemSchema"]["anyOf"]]
    sent = blocks(kinds.request(method, "/generator").text)
    assert all(any(shape <= block.keys() for shape in shapes) for block in sent)
    assert all(("event" in block) == (method == "POST") for block in sent[1:-1])


def test_two_classes_of_one_name_are_told_apart_without_the_modules_that_they_are_in() -> None:
    class Picture(streamapp.App):
        @streamapp.endpoint("/picture")
        def picture(self, size: int) -> int:  # whose input is PictureInput
            return size

        @streamapp.endpoint("/other")
        def other(self, input: PictureInput) -> str:
            return input.name

    document = streamapp.compile_app(Picture).openapi()
    bodies = [document["paths"][path]["post"]["requestBody"]["content"] for path in ("/picture", "/other")]
    names = [body["application/json"]["schema"]["$ref"].rpartition("/")[2] for body in bodies]
    assert sorted(names) == ["PictureInput", "PictureInput2"]
    assert "__" not in "".join(document["components"]["schemas"])


def test_what_a_route_reads_of_its_path_itself_is_a_parameter_of_it() -> None:
    app = streamapp.compile_app(Sessions)
    app.add_api_route("/models/{name:path}", lambda: None)
    parameters = app.openapi()["paths"]["/models/{name}"]["get"]["parameters"]
    assert parameters == [{"name": "name", "in": "path", "required": True, "schema": {"type": "string"}}]


# Over HTTP


def test_the_page_and_the_document_are_there(kinds: TestClient) -> None:
    assert "swagger" in kinds.get("/docs").text
    assert kinds.get("/openapi.json").json() == kinds.get("/openapi.json").json()


def test_a_body_that_comes_as_it_is_has_the_type_that_is_declared_or_is_json() -> None:
    class Raw(streamapp.App):
        @streamapp.endpoint("/raw")
        def raw(self, data: Annotated[bytes, Body(media_type="application/octet-stream")]) -> int:
            return len(data)

    post = streamapp.compile_app(Raw).openapi()["paths"]["/raw"]["post"]
    assert list(post["requestBody"]["content"]) == ["application/octet-stream", "application/json"]


def test_a_form_is_named_before_json_where_there_is_what_json_has_not() -> None:
    class Forms(streamapp.App):
        @streamapp.endpoint("/sized")
        def sized(self, more: list[UploadFile] | None = None) -> int:
            return len(more or ())

        @streamapp.endpoint("/text")
        def text(self, text: str) -> str:
            return text

    paths = streamapp.compile_app(Forms).openapi()["paths"]
    firsts = [next(iter(paths[path]["post"]["requestBody"]["content"])) for path in ("/sized", "/text")]
    assert firsts == ["multipart/form-data", "application/json"]


# Sessions


class Sessions(streamapp.App):
    app_name = "sessions"

    @streamapp.realtime("/realtime", buffering=2, session_timeout=5)
    def draw(self, input: Prompt) -> Drawn:
        """Draw each."""
        raise NotImplementedError

    @streamapp.realtime("/talk")
    async def talk(self, inputs: AsyncIterator[Size]) -> AsyncIterator[dict[str, int]]:
        async for _ in inputs:
            yield {}

    @streamapp.websocket("/rooms/{name}/{seat:int}")
    async def room(self, socket: WebSocket, name: str, seat: int) -> None:
        """Sit in a room."""


def test_a_session_is_described_as_what_opens_it_and_as_fal_has_it() -> None:
    document = streamapp.compile_app(Sessions).openapi()
    told = document["paths"]["/realtime"]
    assert told["x-fal-protocol"] == {
        "type": "realtime",
        "operationId": "draw",
        "config": {"buffering": 2, "sessionTimeout": 5, "maxBatchSize": 1},
        "contentType": "application/msgpack",
        "realtimeMode": "unary",
        "input": {"$ref": "#/components/schemas/Prompt"},
        "output": {"$ref": "#/components/schemas/Drawn"},
    }
    assert told["get"]["summary"] == "Draw each."
    assert "101" in told["get"]["responses"]
    assert {"Prompt", "Drawn", "Node"} <= {*document["components"]["schemas"]}
    assert document["paths"]["/talk"]["x-fal-protocol"]["input"] == {"$ref": "#/components/schemas/Size"}


class Filmed(streamapp.App):
    @streamapp.realtime("/film/{name}", webrtc=True)
    def film(self, input: Prompt) -> Drawn:
        """Film each."""
        raise NotImplementedError


def test_a_session_by_webrtc_is_described_beside_its_socket() -> None:
    paths = streamapp.compile_app(Filmed).openapi()["paths"]
    assert "`/film/{name}/webrtc`" in paths["/film/{name}"]["get"]["description"]
    told = paths["/film/{name}/webrtc"]
    assert told["post"]["requestBody"]["content"]["application/json"]["schema"]["required"] == ["type", "sdp"]
    assert {*told["post"]["responses"]} == {"200", "401", "403", "422", "503"}
    assert "ice_servers" in told["get"]["responses"]["200"]["content"]["application/json"]["schema"]["properties"]
    assert [parameter["name"] for parameter in told["post"]["parameters"]] == ["name"]


def test_a_raw_session_is_described_with_its_path() -> None:
    told = streamapp.compile_app(Sessions).openapi()["paths"]["/rooms/{name}/{seat}"]
    assert told["x-fal-protocol"]["type"] == "websocket"
    assert [parameter["name"] for parameter in told["get"]["parameters"]] == ["name", "seat"]


def test_sessions_of_several_apps_are_described_where_they_are() -> None:
    document = streamapp.compile_app(Painter, Sessions).openapi()
    assert document["paths"]["/sessions/talk"]["get"]["tags"] == ["sessions"]
    assert "/talk" not in document["paths"]
    operations = [o for item in document["paths"].values() for o in item.values() if "operationId" in o]
    assert len({o["operationId"] for o in operations if "tags" in o}) == len([o for o in operations if "tags" in o])


def test_a_document_without_sessions_says_nothing_of_fal() -> None:
    assert "x-fal-protocol" not in json.dumps(streamapp.compile_app(Painter).openapi())
