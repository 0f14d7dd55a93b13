"""Describe endpoints in OpenAPI 3.2: inputs, results, and the events of streams as `itemSchema`.

FastAPI describes what it fills itself; the input that `inputs` reads and the events are added here.
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import PydanticUserError, TypeAdapter
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaMode, JsonSchemaValue

from ..endpoint import EndpointSpec
from ..jobs.events import KINDS
from ..media import File

OPENAPI_VERSION = "3.2.0"
_REF = "#/components/schemas/{model}"

_MEDIA = {
    "type": "object",
    "required": ["url", "content_type"],
    "properties": {
        "url": {"type": "string", "description": "a data URI, or a URL of this server"},
        "content_type": {"type": "string"},
        "width": {"type": "integer"},
        "height": {"type": "integer"},
    },
}
_STATUS = {
    "type": "object",
    "required": ["job_id", "status"],
    "properties": {
        "job_id": {"type": "string"},
        "status": {"type": "string"},
        "position": {"type": "integer", "description": "jobs before this one in the queue"},
    },
}
ERROR_SCHEMA: dict[str, Any] = {
    "type": "object",
    "required": ["error", "detail", "error_type"],
    "properties": {
        "error": {
            "type": "object",
            "required": ["code", "message", "retryable"],
            "properties": {
                "code": {"type": "string"},
                "message": {"type": "string"},
                "retryable": {"type": "boolean"},
                "traceback": {"type": "string", "description": "where the app raised it; only with --debug"},
            },
        },
        "detail": {"description": "the message; for invalid input the list of errors"},
        "error_type": {"type": "string"},
    },
}
_ERROR_NAME = "streamapp.Error"  # a class of the app's own can be called Error, but not this
_ERROR_REF = {"$ref": _REF.format(model=_ERROR_NAME)}
# By kind, in which order `events.KINDS` says; what an output is the endpoint says.
_EVENT_DATA: dict[str, dict[str, Any]] = {
    "preview": {
        "type": "object",
        "properties": {
            "image": _MEDIA,
            "step": {"type": "integer"},
            "total": {"type": "integer"},
            "key": {"type": "string", "description": "which of several previews side by side this one replaces"},
        },
    },
    "progress": {
        "type": "object",
        "required": ["step"],
        "properties": {
            "step": {"type": "integer"},
            "total": {"type": ["integer", "null"]},
            "message": {"type": "string"},
        },
    },
    "log": {
        "type": "object",
        "properties": {
            "message": {"type": "string"},
            "level": {"type": "string"},
            "source": {"type": "string"},
            "timestamp": {"type": "string", "format": "date-time"},
        },
    },
    "lagged": {"type": "object", "properties": {"skipped": {"type": "integer"}}},
    "restarted": {"type": "object", "properties": {"attempt": {"type": "integer"}}},
    "error": _ERROR_REF,
    "cancelled": _ERROR_REF,
    "job": _STATUS,
    "done": _STATUS,
}
_ERRORS = {
    "401": "The API key is missing or wrong.",
    "422": "The input is invalid.",
    "429": "The queue is full; come back after Retry-After.",
    "503": "The server takes no jobs now.",
}


@dataclass(frozen=True, slots=True)
class DescribedEndpoint:
    """Name what the description of one route needs."""

    route: str
    spec: EndpointSpec
    adapter: TypeAdapter[Any]
    #: the parameter that is the whole input
    whole: str | None
    #: what the body is, where that is said
    media_type: str | None


def build_openapi(app: FastAPI, endpoints: Iterable[DescribedEndpoint]) -> dict[str, Any]:
    """Return the OpenAPI document of `app`."""
    document = get_openapi(
        title=app.title,
        version=app.version,
        openapi_version=OPENAPI_VERSION,
        description=app.description,
        routes=app.routes,
    )
    schemas = document.setdefault("components", {}).setdefault("schemas", {})
    described = list(endpoints)
    inputs, items, results, definitions = _generate(described)
    schemas.update({**definitions, _ERROR_NAME: ERROR_SCHEMA})
    for endpoint, taken, item, result in zip(described, inputs, items, results, strict=True):
        for method, operation in document["paths"][endpoint.route].items():
            _describe_input(operation, method, endpoint, taken, schemas)
            operation["responses"] = _answers(endpoint.spec, item, result, method)
    for operations in document["paths"].values():
        for operation in operations.values():
            if "422" in operation["responses"]:  # FastAPI's own, of the routes that are not endpoints
                operation["responses"]["422"] = _error("422")
    return document


class _Lenient(GenerateJsonSchema):
    """Describe what has no JSON schema as anything, instead of leaving the whole document out.

    Paths and bytes in a result are described as the files that they become (`jobs/content`).
    """

    _fields = 0  # how many models and dataclasses are around what is described

    def handle_invalid_for_json_schema(self, schema: Any, error_info: str) -> JsonSchemaValue:
        return {}

    def generate_inner(self, schema: Any) -> JsonSchemaValue:
        described = super().generate_inner(schema)
        is_path = self.mode == "serialization" and described.get("format") == "path"
        return TypeAdapter(File).json_schema(mode="serialization") if is_path else described

    def bytes_schema(self, schema: Any) -> JsonSchemaValue:
        is_file = self.mode == "serialization" and not self._fields
        return TypeAdapter(File).json_schema(mode="serialization") if is_file else super().bytes_schema(schema)

    def model_fields_schema(self, schema: Any) -> JsonSchemaValue:
        with self._within_fields():
            return super().model_fields_schema(schema)

    def dataclass_args_schema(self, schema: Any) -> JsonSchemaValue:
        with self._within_fields():
            return super().dataclass_args_schema(schema)

    @contextmanager
    def _within_fields(self) -> Iterator[None]:
        self._fields += 1
        try:
            yield
        finally:
            self._fields -= 1


def _generate(
    described: list[DescribedEndpoint],
) -> tuple[list[dict[str, Any]], list[dict[str, Any]], list[dict[str, Any]], dict[str, Any]]:
    """Return the schemas of inputs, items and results, and what they refer to; in one go, so that names are unique."""
    kinds: list[tuple[JsonSchemaMode, list[TypeAdapter[Any]]]] = [
        ("validation", [endpoint.adapter for endpoint in described]),
        ("serialization", [_adapter(endpoint.spec.item_type) for endpoint in described]),
        ("serialization", [_adapter(endpoint.spec.result_type) for endpoint in described]),
    ]
    asked = [((kind, n), mode, adapter) for kind, (mode, all_) in enumerate(kinds) for n, adapter in enumerate(all_)]
    schemas, shared = TypeAdapter.json_schemas(asked, ref_template=_REF, schema_generator=_Lenient)
    inputs, items, results = ([schemas[(kind, n), mode] for (k, n), mode, _ in asked if k == kind] for kind in range(3))
    return inputs, items, results, shared.get("$defs", {})


def _adapter(annotation: Any) -> TypeAdapter[Any]:
    try:
        return TypeAdapter(annotation)
    except (PydanticUserError, TypeError):  # a PIL image, say: encoded all the same, but unknown to pydantic
        return TypeAdapter(Any)


def _describe_input(
    operation: dict[str, Any], method: str, endpoint: DescribedEndpoint, taken: dict[str, Any], schemas: dict[str, Any]
) -> None:
    for form in operation.pop("requestBody", {}).get("content", {}).values():  # which FastAPI reads beside
        taken = _side_by_side(taken, form["schema"], schemas)
    members = [member for member in _members(taken, schemas) if member.get("type") != "null"]
    objects = [member for member in members if member.get("type") == "object"]
    has_default = endpoint.adapter.get_default_value() is not None
    if method == "post":
        declared = [] if endpoint.media_type is None else [endpoint.media_type]
        kinds = [*declared, "application/json", *(["multipart/form-data"] if objects else [])]
        operation["requestBody"] = {
            "required": not has_default and all(member.get("required") for member in objects),
            "content": {kind: {"schema": taken} for kind in kinds},
        }
        return
    needed = set.intersection(*(set(m.get("required", ()) if m in objects else [endpoint.whole]) for m in members))
    operation.setdefault("parameters", []).extend(
        {"name": name, "in": "query", "required": name in needed and not has_default, "schema": part}
        for name, part in _parts(members, endpoint.whole).items()
    )


def _members(schema: dict[str, Any], schemas: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield the members of a union, or what is none; those that are told by a field require it, for all its default."""
    if "$ref" in schema:
        yield from _members(schemas[schema["$ref"].rpartition("/")[2]], schemas)
    elif members := schema.get("anyOf") or schema.get("oneOf") or schema.get("allOf"):
        told_by = [schema["discriminator"]["propertyName"]] if "discriminator" in schema else []
        for member in (found for each in members for found in _members(each, schemas)):
            yield {**member, "required": [*member.get("required", ()), *told_by]}
        if "properties" in schema:  # beside `allOf`
            yield schema
    else:
        yield schema


def _side_by_side(one: dict[str, Any], other: dict[str, Any], schemas: dict[str, Any]) -> dict[str, Any]:
    """Return an object that has the fields of both."""
    members = [*_members(one, schemas), *_members(other, schemas)]
    properties = {name: part for member in members for name, part in member.get("properties", {}).items()}
    required = [name for member in members for name in member.get("required", ())]
    return {"type": "object", "properties": properties, "required": required}


def _parts(members: list[dict[str, Any]], whole: str | None) -> dict[str, Any]:
    """Return the fields that an input has in a query: those of all members, and one for what has no fields."""
    found: dict[str, list[Any]] = {}
    for member in members:
        for name, part in member.get("properties", {whole: member} if whole else {}).items():
            if part not in found.setdefault(name, []):
                found[name].append(part)
    return {name: parts[0] if len(parts) == 1 else {"anyOf": parts} for name, parts in found.items()}


def _answers(spec: EndpointSpec, item: dict[str, Any], result: dict[str, Any], method: str) -> dict[str, Any]:
    content = {"application/json": {"schema": result}}
    answer: dict[str, Any] = {"description": "The result.", "content": content}
    if spec.kind == "stream":
        told = "The stream of events, or its result" + (": the text of all outputs, joined." if spec.joins else ".")
        answer = {"description": told, "content": _stream_content(item, method) | content}
    elif spec.kind == "response":
        answer = {"description": "A response of the endpoint's own."}
    return {"200": answer, **{status: _error(status) for status in _ERRORS}}


def _error(status: str) -> dict[str, Any]:
    return {"description": _ERRORS[status], "content": {"application/json": {"schema": _ERROR_REF}}}


def _stream_content(item: dict[str, Any], method: str) -> dict[str, Any]:
    data = {"output": item, **_EVENT_DATA}
    around = () if method == "get" else ("opening", "end")
    events = [
        _event(kind, data[kind]) for kind, traits in KINDS.items() if kind in data and traits.meaning not in around
    ]
    return {
        # anyOf: the blocks of a GET stream have no name, by which oneOf could tell them apart.
        "text/event-stream": {"itemSchema": {"anyOf": events}},
        "application/x-ndjson": {"itemSchema": item},
    }


def _event(name: str, schema: dict[str, Any]) -> dict[str, Any]:
    data = {"type": "string", "contentMediaType": "application/json", "contentSchema": schema}
    return {
        "type": "object",
        "title": name,
        "required": ["data"],
        "properties": {"event": {"const": name}, "id": {"type": "string"}, "data": data},
    }
