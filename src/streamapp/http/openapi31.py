"""Say the OpenAPI document in version 3.1, for generators of clients: few of them know 3.2 yet.

What 3.1 has no word for is said in prose, or by the word that tools have for it: the events of a stream are a text, as
they come, and an app's title is `x-displayName`.

Divergence: where openapi-python-client stumbles less is said than could be. A body has one media type, as it sends all
at once: the first. No object is a default. Schemas of one title have none, as it makes titles the names of classes; one
whose class would have another's name has a number.
"""

import itertools
import re
from collections import Counter
from collections.abc import Iterator
from typing import Any

OPENAPI_3_1 = "3.1.0"
_STREAMS = {
    "text/event-stream": "Server-sent events. What is in each says /openapi.json, of OpenAPI 3.2.",
    "application/x-ndjson": "A line of JSON for each output. What is in each says /openapi.json, of OpenAPI 3.2.",
}
_UPLOAD = {"type": "string", "contentMediaType": "application/octet-stream"}
_DATA = ("const", "default", "enum", "example", "examples")  # of a schema; what is in them is none
_NAMED = ("properties", "$defs", "patternProperties")


def to_openapi_3_1(document: dict[str, Any]) -> dict[str, Any]:
    """Return the document of `build_openapi` in OpenAPI 3.1; that one stays as it is."""
    schemas = _told_apart({name: _schema(each) for name, each in document["components"]["schemas"].items()})
    return {
        **document,
        "openapi": OPENAPI_3_1,
        "paths": {path: _path(item) for path, item in document["paths"].items()},
        "components": {**document["components"], "schemas": schemas},
        "tags": [
            {"x-displayName" if name == "summary" else name: each for name, each in tag.items()}
            for tag in document["tags"]
        ],
    }


def _told_apart(schemas: dict[str, Any]) -> dict[str, Any]:
    titles = Counter(str(schema.get("title")) for schema in schemas.values())
    taken: set[str] = set()
    apart = {}
    for name, schema in schemas.items():
        rest = {key: part for key, part in schema.items() if key != "title" or titles[str(part)] == 1}
        called = str(rest.get("title", name))
        title = next(each for each in _numbered(called) if _class_name(each) not in taken)
        taken.add(_class_name(title))
        apart[name] = rest if title == called else {**rest, "title": title}
    return apart


def _numbered(called: str) -> Iterator[str]:
    return itertools.chain([called], (f"{called}{n}" for n in itertools.count(2)))


def _class_name(called: str) -> str:
    """Return what is left of a title in the name of a class."""
    return re.sub(r"[\W_]", "", called).lower()


def _schema(schema: Any) -> Any:
    """Return a schema whose uploads have the format, too, by which OpenAPI 3.0 knew them: generators still do."""
    if isinstance(schema, list):
        return [_schema(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    copy = {name: _part(name, each) for name, each in schema.items() if name != "default" or not isinstance(each, dict)}
    return {**copy, "format": "binary"} if _UPLOAD.items() <= copy.items() else copy


def _part(name: str, part: Any) -> Any:
    if name in _NAMED and isinstance(part, dict):
        return {each: _schema(schema) for each, schema in part.items()}
    return part if name in _DATA else _schema(part)


def _path(item: dict[str, Any]) -> dict[str, Any]:
    return {name: _operation(part) if "responses" in part else part for name, part in item.items()}


def _operation(operation: dict[str, Any]) -> dict[str, Any]:
    changed: dict[str, Any] = {"responses": {status: _filled(each) for status, each in operation["responses"].items()}}
    if "parameters" in operation:
        changed["parameters"] = [{**each, "schema": _schema(each["schema"])} for each in operation["parameters"]]
    if "requestBody" in operation:
        body = _filled(operation["requestBody"])
        changed["requestBody"] = {**body, "content": dict(itertools.islice(body["content"].items(), 1))}
    return {**operation, **changed}


def _filled(part: dict[str, Any]) -> dict[str, Any]:
    """Return an answer, or a body, with all that may be in it."""
    if "content" not in part:
        return part
    return {**part, "content": {kind: _content(kind, told) for kind, told in part["content"].items()}}


def _content(kind: str, told: dict[str, Any]) -> dict[str, Any]:
    if "itemSchema" in told:
        return {"schema": {"type": "string", "description": _STREAMS[kind]}}
    return {name: _schema(each) if name == "schema" else each for name, each in told.items()}
