"""The document in OpenAPI 3.1: valid, without what only 3.2 knows, and such that a generator makes a client of it."""

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import httpx
import pytest
from fastapi import Body
from pydantic import BaseModel
from starlette.testclient import TestClient
from tests.apps.contents import Contents
from tests.apps.described import Described
from tests.fal_packages import APPS, environment, needs
from tests.processes import serving
from tests.waiting import WAIT_S

import streamapp
from streamapp.http.openapi31 import to_openapi_3_1
from streamapp.loading import apps_in, load_module

ROOT = Path(__file__).parent.parent
PYTHON = ROOT / "tests" / ".venvs" / "openapi" / "bin" / "python"
KEY = "secret"
# Prints what is wrong with each of the documents that come as lines.
VALIDATE = """
import json, sys
from openapi_spec_validator import OpenAPIV31SpecValidator
for line in sys.stdin:
    document = json.loads(line)
    for error in OpenAPIV31SpecValidator(document).iter_errors():
        print(document["info"]["title"], str(error).splitlines()[0])
"""

needs_openapi = needs(PYTHON.exists(), "the packages about OpenAPI are missing; run `make test`")


def older(app: type[streamapp.App]) -> dict[str, Any]:
    return to_openapi_3_1(streamapp.compile_app(app).openapi())


def body_of(document: dict[str, Any], path: str) -> dict[str, Any]:
    return document["paths"][path]["post"]["requestBody"]["content"]  # type: ignore[no-any-return]


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    return older(Described)


def test_the_document_says_that_it_is_of_3_1_and_that_of_3_2_stays_as_it_is() -> None:
    newer = streamapp.compile_app(Described).openapi()
    before = json.dumps(newer)
    assert to_openapi_3_1(newer)["openapi"] == "3.1.0"
    assert json.dumps(newer) == before


def test_a_stream_is_a_text_and_its_result_has_its_schema(document: dict[str, Any]) -> None:
    content = document["paths"]["/count"]["post"]["responses"]["200"]["content"]
    assert [told["schema"]["type"] for told in content.values()] == ["string", "string", "integer"]
    assert "itemSchema" not in json.dumps(document)


def test_the_title_of_an_app_is_there_for_those_who_show_it(document: dict[str, Any]) -> None:
    assert document["tags"] == [{"name": "described", "x-displayName": "What is described"}]


def test_a_body_is_json_and_one_with_uploads_a_form(document: dict[str, Any]) -> None:
    assert list(body_of(document, "/draw")) == ["application/json"]
    assert list(body_of(document, "/sized")) == ["multipart/form-data"]
    assert document["components"]["schemas"]["SizedInput"]["properties"]["file"]["format"] == "binary"


def test_a_list_of_files_is_sent_by_a_form_as_well() -> None:
    assert list(body_of(older(Contents), "/sent")) == ["multipart/form-data"]


def test_a_body_that_is_no_json_keeps_its_type() -> None:
    class Raw(streamapp.App):
        @streamapp.endpoint("/raw")
        def raw(self, data: Annotated[bytes, Body(media_type="application/octet-stream")]) -> int:
            return len(data)

    assert list(body_of(older(Raw), "/raw")) == ["application/octet-stream"]


def test_no_object_is_a_default_and_a_field_may_be_called_so() -> None:
    class Odd(BaseModel):
        default: dict[str, int] = {"a": 1}
        properties: int = 1

    class Odds(streamapp.App):
        @streamapp.endpoint("/odd")
        def odd(self, input: Odd) -> int:
            return input.properties

    fields = older(Odds)["components"]["schemas"]["Odd"]["properties"]
    assert list(fields) == ["default", "properties"]
    assert "default" not in fields["default"]
    assert fields["properties"]["default"] == 1


def test_schemas_of_one_title_are_told_apart_by_their_names() -> None:
    schemas = older(Contents)["components"]["schemas"]
    assert "title" not in schemas["PictureInput"]
    assert "title" not in schemas["PictureInput2"]
    assert schemas["Camera"]["title"] == "Camera"


class Tree(BaseModel):
    kids: list["Tree"] = []


def test_no_two_schemas_come_to_the_name_of_one_class() -> None:
    """Of `Tree-Input`, what is taken of it, and `TreeInput`, what an endpoint takes, generators make one name."""

    class Trees(streamapp.App):
        @streamapp.endpoint("/tree")
        def tree(self, tree: Tree, depth: int = 1) -> Tree:
            return tree

    schemas = older(Trees)["components"]["schemas"]
    assert [schemas[name].get("title") for name in ("Tree-Input", "Tree-Output", "TreeInput")] == [
        None,
        None,
        "TreeInput2",
    ]


def test_it_is_served_with_the_server_that_a_proxy_has_named(document: dict[str, Any]) -> None:
    assert TestClient(streamapp.compile_app(Described)).get("/openapi-3.1.json").json() == document
    proxied = TestClient(streamapp.compile_app(Described), root_path="/proxied")
    assert proxied.get("/proxied/openapi-3.1.json").json()["servers"] == [{"url": "/proxied"}]


# Those who read it


def problems(*documents: dict[str, Any]) -> list[str]:
    lines = "\n".join(map(json.dumps, documents))
    command = [str(PYTHON), "-c", VALIDATE]
    ran = subprocess.run(command, input=lines, capture_output=True, text=True, timeout=WAIT_S, check=True)
    return ran.stdout.splitlines()


@needs_openapi
def test_the_document_is_valid(document: dict[str, Any]) -> None:
    assert problems(document) == []


@needs_openapi
@pytest.mark.long
def test_those_of_all_apps_here_are_valid() -> None:
    files = [
        *ROOT.glob("apps/*/app.py"),
        *(APPS / f"{name}.py" for name in ("contents", "fal_sessions", "openai_text", "painter")),
    ]
    apps = [app for file in sorted(files) for app in apps_in(load_module(str(file)))]
    assert len(apps) > 10
    assert problems(*map(older, apps)) == []


@pytest.fixture(scope="module")
def called(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    """Generate a client from what a server with a key says, and call the server by it."""
    folder = tmp_path_factory.mktemp("client")
    variables = {**environment(), "STREAMAPP_API_KEY": KEY}
    with serving(f"{APPS / 'described.py'}:Described", env=variables) as (url, _):
        said = httpx.get(f"{url}/openapi-3.1.json", headers={"Authorization": f"Key {KEY}"}, timeout=WAIT_S)
        (folder / "openapi.json").write_bytes(said.raise_for_status().content)
        (folder / "options.yml").write_text("post_hooks: []\n")  # which would format it
        options = ["--path=openapi.json", "--output-path=generated", "--meta=none", "--config=options.yml"]
        yield {
            "said": printed(str(PYTHON), "-m", "openapi_python_client", "generate", *options, folder=folder),
            **json.loads(printed(str(PYTHON), str(ROOT / "tests/openapi_calls.py"), str(folder), url, env=variables)),
        }


def printed(*command: str, env: dict[str, str] | None = None, folder: Path | None = None) -> str:
    ran = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, timeout=WAIT_S)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return ran.stdout


@needs_openapi
@pytest.mark.parametrize(
    ("name", "outcome"),
    [
        ("said", "Generating generated\n"),  # and no warning
        ("drawn", [2**63 + 1, "Square", "b"]),
        ("sized", 5),
        ("events", ["output", "output"]),
        ("result", 1),
        ("refused", "to is negative"),
        ("unauthorized", "unauthorized"),
    ],
)
def test_a_generated_client_calls_the_server(called: dict[str, Any], name: str, outcome: Any) -> None:
    assert called[name] == outcome
