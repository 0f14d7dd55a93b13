"""Describe endpoints in OpenAPI 3.2: inputs, results, and the events of streams as `itemSchema`.

FastAPI describes what it fills itself; the input that `inputs` reads and the events are added here.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel, PydanticUserError, TypeAdapter
from pydantic.json_schema import PydanticInvalidForJsonSchema, models_json_schema

from .endpoint import EndpointSpec

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
_EVENT_DATA: dict[str, dict[str, Any]] = {
    "preview": {
        "type": "object",
        "properties": {"image": _MEDIA, "step": {"type": "integer"}, "total": {"type": "integer"}},
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
        "properties": {"message": {"type": "string"}, "level": {"type": "string"}, "source": {"type": "string"}},
    },
    "lagged": {"type": "object", "properties": {"skipped": {"type": "integer"}}},
}
ERROR_SCHEMA: dict[str, Any] = {
    "title": "Error",
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
            },
        },
        "detail": {"description": "the message; for invalid input the list of errors"},
        "error_type": {"type": "string"},
    },
}
_ERROR_REF = {"$ref": "#/components/schemas/Error"}
_ERRORS = {
    "422": "The input is invalid.",
    "429": "The queue is full; come back after Retry-After.",
    "503": "The server takes no jobs now.",
}


@dataclass(frozen=True, slots=True)
class DescribedEndpoint:
    """Name what the description of one route needs."""

    route: str
    spec: EndpointSpec
    model: type[BaseModel]


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
    schemas["Error"] = ERROR_SCHEMA
    described = list(endpoints)
    models = list(dict.fromkeys(endpoint.model for endpoint in described))
    references, definitions = models_json_schema([(model, "validation") for model in models], ref_template=_REF)
    schemas.update(definitions.get("$defs", {}))
    for endpoint in described:
        for method, operation in document["paths"].get(endpoint.route, {}).items():
            _describe_input(operation, method, references[endpoint.model, "validation"], schemas)
            _describe_answers(operation, endpoint.spec)
    return document


def _describe_input(operation: dict[str, Any], method: str, reference: dict[str, Any], schemas: dict[str, Any]) -> None:
    schema = schemas[reference["$ref"].rpartition("/")[2]] if "$ref" in reference else reference
    if method == "post":
        content = {"application/json": {"schema": reference}}
        operation["requestBody"] = {"required": bool(schema.get("required")), "content": content}
        return
    required = schema.get("required", [])
    operation.setdefault("parameters", []).extend(
        {"name": name, "in": "query", "required": name in required, "schema": part}
        for name, part in schema.get("properties", {}).items()
    )


def _describe_answers(operation: dict[str, Any], spec: EndpointSpec) -> None:
    item = _schema_of(spec.item_type)
    if spec.kind == "stream":
        content: dict[str, Any] = {
            "text/event-stream": {"itemSchema": {"oneOf": [_event("output", item), *_common_events()]}},
            "application/x-ndjson": {"itemSchema": item},
        }
    else:
        content = {"application/json": {"schema": item}}
    operation["responses"] = {
        "200": {"description": "The stream of events." if spec.kind == "stream" else "The result.", "content": content},
        **{
            status: {"description": text, "content": {"application/json": {"schema": _ERROR_REF}}}
            for status, text in _ERRORS.items()
        },
    }


def _common_events() -> list[dict[str, Any]]:
    events = [_event(name, schema) for name, schema in _EVENT_DATA.items()]
    return [*events, _event("error", _ERROR_REF), _event("cancelled", _ERROR_REF)]


def _event(name: str, schema: dict[str, Any]) -> dict[str, Any]:
    data = {"type": "string", "contentMediaType": "application/json", "contentSchema": schema}
    return {
        "type": "object",
        "title": name,
        "required": ["data"],
        "properties": {"event": {"const": name}, "id": {"type": "string"}, "data": data},
    }


def _schema_of(annotation: Any) -> dict[str, Any]:
    """Return the JSON schema of an annotation; anything when it has none."""
    try:
        return TypeAdapter(annotation).json_schema(mode="serialization")
    except (PydanticUserError, PydanticInvalidForJsonSchema, TypeError):
        return {}
