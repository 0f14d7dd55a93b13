"""Describe endpoints in OpenAPI 3.2: inputs, results, and the events of streams as `itemSchema`.

FastAPI describes what it fills itself; the input that `inputs` reads and the events are added here.
"""

import itertools
import math
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import PydanticUserError, TypeAdapter
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaMode, JsonSchemaValue
from starlette.routing import BaseRoute, Route

from ..endpoint import EndpointSpec
from ..jobs.events import ABOUT_STREAM, KINDS, TERMINAL
from ..media import File
from ..session import SIGNALLING, SessionSpec

OPENAPI_VERSION = "3.2.0"
#: on what a POST asks for: by which clients of other protocols it can be asked for as well, and what they are told
CLIENTS = "x-streamapp-clients"
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
_STATUS: dict[str, Any] = {
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
        "properties": {
            "step": {"type": "number"},
            "total": {"type": ["number", "null"]},
            "message": {"type": "string"},
            "output": {"description": "what a handler has told by Runpod's progress_update"},
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
_TIME = {"type": ["number", "null"], "description": "seconds since 1970"}
_STATE = {
    "type": "object",
    "required": ["job_id", "status", "endpoint", "position", "created_at", "started_at", "finished_at"],
    "properties": {
        **_STATUS["properties"],
        "endpoint": {"type": "string"},
        "created_at": _TIME,
        "started_at": _TIME,
        "finished_at": _TIME,
        "last_event_id": {"type": "string"},
        **ERROR_SCHEMA["properties"],
    },
}
_ERRORS = {
    "400": "The request cannot be read: its JSON or form, a header, an event id.",
    "401": "The API key is missing or wrong.",
    "403": "A page of another web site asks, or the server is called by another's name.",
    "404": "What is asked for is not there: the job of Last-Event-ID, or what the app looks for.",
    "413": "The body is too large.",
    "422": "The input is invalid.",
    "429": "The queue is full; come back after Retry-After.",
    "503": "The server takes no jobs now.",
    "504": "The job ran, or waited for its turn, too long.",
}
_JOB_ERRORS = {
    "401": _ERRORS["401"],
    "403": _ERRORS["403"],
    "404": "There is no such job, or it is no longer kept.",
    "422": _ERRORS["422"],
}
_NOTHING_LEFT = {"description": "The job is over, and nothing is behind Last-Event-ID: an EventSource stops."}
_GET_ORDER = (
    "The first block is `job`, unless it goes on behind Last-Event-ID; the last one is `done`, `error` or `cancelled`."
)
_OPENED = "Open it as a WebSocket."
_BY_WEBRTC = "Or by WebRTC: its offer is answered at `{}`."
_HOW_TO_OFFER = (
    'The offer of a connection with one data channel, "streamapp.v1", and one video that is received, when all '
    "candidates are gathered. The channel speaks as the session's WebSocket does."
)
# Blocks of a GET stream that have a name without `_events=named`, too.
_NAMED = ABOUT_STREAM | TERMINAL | {"job"}


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
    #: by the names of faces: what their clients have to know to ask for it
    clients: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class DescribedSession:
    """Name what the description of a session at one path needs.

    Attributes:
        adapter: of what an input must be.
        app: the name of the app that has it.
    """

    route: str
    spec: SessionSpec
    adapter: TypeAdapter[Any]
    app: str

    @property
    def messages(self) -> DescribedEndpoint:
        """Return the endpoint whose input and items its messages would be."""
        return DescribedEndpoint(self.route, self.spec.inputs, self.adapter, None, None)


def build_openapi(
    app: FastAPI, endpoints: Iterable[DescribedEndpoint], sessions: Iterable[DescribedSession] = ()
) -> dict[str, Any]:
    """Return the OpenAPI document of `app`."""
    document = _describe(app, app.routes, endpoints, sessions)
    for path, answers in _job_answers().items():
        (operation,) = document["paths"][path].values()
        operation["responses"] = {**answers, **{status: _error(told) for status, told in _JOB_ERRORS.items()}}
    for path, operation in ((path, part) for path, item in document["paths"].items() for part in item.values()):
        if "responses" in operation:
            _name_path_parameters(operation, path)
    return _shortly(document)


def describe_places(
    app: FastAPI, endpoints: Iterable[DescribedEndpoint], sessions: Iterable[DescribedSession] = ()
) -> dict[str, Any]:
    """Return the part of the document that tells of some endpoints and sessions alone: it takes a tenth of the time."""
    asked = list(endpoints)
    paths = {endpoint.route for endpoint in asked}
    routes = [route for route in app.routes if isinstance(route, Route) and route.path_format in paths]
    return _describe(app, routes, asked, sessions)


def _describe(
    app: FastAPI,
    routes: Iterable[BaseRoute],
    endpoints: Iterable[DescribedEndpoint],
    sessions: Iterable[DescribedSession],
) -> dict[str, Any]:
    document = get_openapi(
        title=app.title,
        version=app.version,
        openapi_version=OPENAPI_VERSION,
        description=app.description,
        tags=app.openapi_tags,
        routes=[*routes],
    )
    schemas = document.setdefault("components", {}).setdefault("schemas", {})
    described, opened = list(endpoints), list(sessions)
    *kinds, definitions = _generate([*described, *(session.messages for session in opened)])
    schemas.update({**definitions, _ERROR_NAME: ERROR_SCHEMA})
    parts = zip(*kinds, strict=True)
    for endpoint, (taken, item, result) in zip(described, parts, strict=False):
        for method, operation in document["paths"][endpoint.route].items():
            _describe_input(operation, method, endpoint, taken, schemas)
            operation["responses"] = _answers(endpoint.spec, item, result, method)
            if endpoint.clients and method == "post":
                operation[CLIENTS] = endpoint.clients
    for session, (taken, item, _) in zip(opened, parts, strict=True):
        document["paths"][session.route] = _opening(session, taken, item)
        if session.spec.mark.webrtc:
            document["paths"][session.route.rstrip("/") + SIGNALLING] = _signalling(session)
    return {name: _finite(part) for name, part in document.items()}


def _finite(part: Any) -> Any:
    """Return a part without what JSON has no word for: a default or a limit that is infinite, or no number."""
    if isinstance(part, list):
        return [_finite(each) for each in part if _is_finite(each)]
    if isinstance(part, dict):
        return {name: _finite(each) for name, each in part.items() if _is_finite(each)}
    return part


def _is_finite(part: Any) -> bool:
    return not isinstance(part, float) or math.isfinite(part)


def _name_path_parameters(operation: dict[str, Any], path: str) -> None:
    """Add the parameters of a path that a route reads from the request itself, of which FastAPI does not know."""
    known = {each["name"] for each in operation.get("parameters", ()) if each["in"] == "path"}
    missing = [each for each in _path_parameters(path) if each["name"] not in known]
    if missing:
        operation["parameters"] = [*operation.get("parameters", ()), *missing]


def _shortly(document: dict[str, Any]) -> dict[str, Any]:
    """Return a document in which no schema has its module in its name, as pydantic calls several of one name.

    Of a served file's module that would be its whole path.
    """
    schemas = document["components"]["schemas"]
    short = {name: name.rpartition("__")[2] for name in schemas}
    counts = Counter(short.values())
    taken = {name for name in schemas if counts[short[name]] == 1}
    names = {}
    for name in schemas:
        numbered = (f"{short[name]}{n}" for n in itertools.count(2))
        free = (each for each in itertools.chain([short[name]], numbered) if each not in taken)
        names[name] = name if name in taken else next(free)
        taken.add(names[name])
    document["components"]["schemas"] = {names[name]: schema for name, schema in schemas.items()}
    refs = {_REF.format(model=name): _REF.format(model=new) for name, new in names.items() if name != new}
    return _with_refs(document, refs) if refs else document


def _with_refs(part: Any, refs: Mapping[str, str]) -> Any:
    if isinstance(part, list):
        return [_with_refs(each, refs) for each in part]
    if isinstance(part, dict):
        return {name: _with_refs(each, refs) for name, each in part.items()}
    return refs.get(part, part) if isinstance(part, str) else part


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
        form = ["multipart/form-data"] if objects else []
        others = [*form, "application/json"] if _has_upload(objects) else ["application/json", *form]
        kinds = [*declared, *others]
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


def _has_upload(members: Iterable[dict[str, Any]]) -> bool:
    """Say whether files of a form, or bytes, are in an input: JSON has neither, and a form is named before it."""
    fields = [field for member in members for field in member.get("properties", {}).values()]
    return any("contentMediaType" in part or part.get("format") == "binary" for each in fields for part in _in(each))


def _in(field: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield a field, what it may be, and what is in it where it is a list."""
    yield field
    for part in (*field.get("anyOf", ()), field.get("items")):
        if isinstance(part, dict):
            yield from _in(part)


def _opening(session: DescribedSession, taken: dict[str, Any], item: dict[str, Any]) -> dict[str, Any]:
    """Describe a session, for which OpenAPI has no word: as the GET that opens it, and by fal's `x-fal-protocol`.

    Divergence: fal has a POST beside it that nothing answers, which pages would show as an endpoint.
    """
    spec, mark = session.spec, session.spec.mark
    kind = "websocket" if mark.is_raw else "realtime"
    protocol: dict[str, Any] = {
        "type": kind,
        "operationId": spec.name,
        "config": {
            "buffering": mark.buffering,
            "sessionTimeout": mark.session_timeout,
            "maxBatchSize": mark.max_batch_size,
        },
    }
    if not mark.is_raw:
        protocol |= {"contentType": mark.content_type, "realtimeMode": spec.mode, "input": taken, "output": item}
    words = [
        spec.description,
        _OPENED,
        _BY_WEBRTC.format(session.route.rstrip("/") + SIGNALLING) if mark.webrtc else "",
    ]
    return {
        "x-fal-protocol": protocol,
        "get": {
            "tags": [session.app],
            "summary": spec.summary,
            "description": "\n\n".join(filter(None, words)),
            "operationId": _operation_id(session, kind),
            "parameters": _path_parameters(session.route),
            "responses": {"101": {"description": "The socket is open."}}
            | {status: _error(_ERRORS[status]) for status in ("401", "403", "503")},
        },
    }


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
    nothing_left = {}
    if spec.kind == "stream":
        told = "The stream of events, or its result" + (": the text of all outputs, joined." if spec.joins else ".")
        content = {**_stream_content(item, method), "application/x-ndjson": {"itemSchema": item}, **content}
        answer = {"description": told, "content": content}
        if method == "get":
            answer["description"] += f" {_GET_ORDER}"
            nothing_left = {"204": _NOTHING_LEFT}
    elif spec.kind == "response":
        answer = {"description": "A response of the endpoint's own."}
    return {"200": answer, **nothing_left, **{status: _error(told) for status, told in _ERRORS.items()}}


def _job_answers() -> dict[str, dict[str, Any]]:
    """Return what the routes of jobs by id answer, by their paths."""
    state = {"application/json": {"schema": _STATE}}
    unfinished = "The job has not ended; its result comes when it has."
    streamed = {"description": f"The events of the job. {_GET_ORDER}", "content": _stream_content({}, "get")}
    return {
        "/jobs/{job_id}": {"200": {"description": "How far the job is.", "content": state}},
        "/jobs/{job_id}/result": {
            "200": {"description": "The result. What failed the job has the status that it had."},
            "409": _error(unfinished),
        },
        "/jobs/{job_id}/events": {"200": streamed, "204": _NOTHING_LEFT, "400": _error(_ERRORS["400"])},
        "/jobs/{job_id}/cancel": {"202": {"description": "The job is over, or about to be.", "content": state}},
    }


def _signalling(session: DescribedSession) -> dict[str, Any]:
    """Describe what comes before a session by WebRTC: which servers help, and an offer."""
    text = {"type": "string"}
    server = {
        "type": "object",
        "properties": {"urls": {"type": "array", "items": text}, "username": text, "credential": text},
        "required": ["urls"],
    }
    about = {"tags": [session.app], "parameters": _path_parameters(session.route)}
    refusals = {status: _error(_ERRORS[status]) for status in ("401", "403")}
    return {
        "get": about
        | {
            "summary": "Ask for the servers that help to find the way.",
            "operationId": _operation_id(session, "ice_servers"),
            "responses": {"200": _json({"ice_servers": {"type": "array", "items": server}})} | refusals,
        },
        "post": about
        | {
            "summary": f"Open it by WebRTC: {session.spec.summary}",
            "description": _HOW_TO_OFFER,
            "operationId": _operation_id(session, "webrtc"),
            "requestBody": {"required": True} | _json({"type": {"const": "offer"}, "sdp": text}),
            "responses": {"200": _json({"type": {"const": "answer"}, "sdp": text})}
            | refusals
            | {status: _error(_ERRORS[status]) for status in ("422", "503")},
        },
    }


def _operation_id(session: DescribedSession, kind: str) -> str:
    spec = session.spec
    return f"{spec.name}_{kind}{session.route.removesuffix(spec.path).replace('/', '_')}"


def _path_parameters(route: str) -> list[dict[str, Any]]:
    names = re.findall(r"{(\w+)}", route)
    return [{"name": name, "in": "path", "required": True, "schema": {"type": "string"}} for name in names]


def _json(properties: dict[str, Any]) -> dict[str, Any]:
    schema = {"type": "object", "properties": properties, "required": [*properties]}
    return {"description": "JSON.", "content": {"application/json": {"schema": schema}}}


def _error(told: str) -> dict[str, Any]:
    return {"description": told, "content": {"application/json": {"schema": _ERROR_REF}}}


def _stream_content(item: dict[str, Any], method: str) -> dict[str, Any]:
    data = {"output": item, **_EVENT_DATA}
    around = () if method == "get" else ("opening", "end")
    events = [
        _event(kind, data[kind], is_named=method == "post" or kind in _NAMED)
        for kind, traits in KINDS.items()
        if kind in data and traits.meaning not in around
    ]
    # anyOf: most blocks of a GET stream have no name, by which oneOf could tell them apart.
    return {"text/event-stream": {"itemSchema": {"anyOf": events}}}


def _event(kind: str, schema: dict[str, Any], *, is_named: bool) -> dict[str, Any]:
    name: dict[str, Any] = {"const": kind}
    data = {"type": "string", "contentMediaType": "application/json", "contentSchema": schema}
    return {
        "type": "object",
        "title": kind,
        "required": ["event", "data"] if is_named else ["data"],
        "properties": {
            "event": name if is_named else {**name, "description": "with _events=named only"},
            "id": {"type": "string"},
            **({"retry": {"type": "integer", "description": "ms"}} if kind == "job" else {}),
            "data": data,
        },
    }
