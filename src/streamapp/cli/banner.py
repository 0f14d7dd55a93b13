"""Say at the start of a server what it serves: the URLs of each app, the pages to open, and a request to copy."""

import json
import math
import shlex
from typing import Any

from fastapi import FastAPI

from ..http.playground import PAGE_PATH
from ..runpod.apps import QueueApp
from ..runpod.endpoints import own_ids
from ..runpod.pool import PoolApp
from ..runtime import ServedApp

_FILES = {"image": "image.png", "audio": "audio.wav", "video": "video.mp4", "file": "file"}


def shown_address(host: str, port: int) -> str:
    """Return what a caller on this machine writes for a host that is listened on, and its port."""
    shown = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(host) or (f"[{host}]" if ":" in host else host)
    return f"{shown}:{port}"


def describe_server(api: FastAPI, host: str, port: int, *, scheme: str = "http") -> str:
    """Return a line for each app and page, and a curl command for the first app's first stream."""
    address = f"{scheme}://{shown_address(host, port)}"
    first, *others = api.state.runtime.served
    lines = [_urls(address, first, ""), *(_urls(address, served, f"/{served.name}") for served in others)]
    lines += [
        f"runpod endpoint {endpoint_id}: {address}/v2/{endpoint_id}" + (needs and f" ({needs})")
        for endpoint_id, (_, needs) in _queues(api).items()
    ]
    lines += [
        f'a worker of {served.name}: eval "$(streamapp worker --runpod {served.name} --url {address})"'
        for served in (first, *others)
        if isinstance(served.app, PoolApp)
    ]
    pages = [f"page: {address}/"] if type(first.app).page_folder() else []
    pages += [f"page of {each.name}: {address}/{each.name}/" for each in others if type(each.app).page_folder()]
    pages += [f"playground: {address}{PAGE_PATH}"] if api.state.has_playground else []
    examples = [*_curl(api, address), *_session(api, address), *_runpod(api, address)]
    return "\n".join([*lines, *pages, f"docs: {address}/docs", *examples, ""])


def _urls(address: str, served: ServedApp, prefix: str) -> str:
    urls = [address + prefix + spec.path for spec in served.endpoints]
    urls += [_of_socket(address) + prefix + spec.path for spec in served.session_specs]
    return f"{served.name}: " + " ".join(urls)


def _of_socket(address: str) -> str:
    return "ws" + address.removeprefix("http")


def _session(api: FastAPI, address: str) -> list[str]:
    """Return what speaks to the first app's first session of inputs, from the package that serves it."""
    served = api.state.runtime.served[0]
    spec = next((spec for spec in served.session_specs if spec.mode != "raw" and "{" not in spec.path), None)
    if spec is None:
        return []
    key = "?_token=$STREAMAPP_API_KEY" if api.state.runtime.settings.api_key else ""
    document = api.state.describe(spec.path)
    schema = document["paths"][spec.path]["x-fal-protocol"]["input"]
    example = json.dumps(_example_input(schema, document["components"]["schemas"]), ensure_ascii=False)
    return [f'websockets "{_of_socket(address)}{spec.path}{key}"  # then type {example}']


def _curl(api: FastAPI, address: str) -> list[str]:
    served = api.state.runtime.served[0]
    specs = [spec for spec in served.endpoints if "{" not in spec.path]
    if not specs:
        return []
    path = min(specs, key=lambda spec: spec.kind != "stream").path
    example, files = _example_of(api, served, path), _files_of(api, served, path)
    if not files:
        return [f"curl -N {address}{path}{_headers(api, 'Key')} -d {_quoted(example)}"]
    texts = {name: each if isinstance(each, str) else json.dumps(each) for name, each in example.items()}
    parts = {**texts, **{name: f"@{file}" for name, file in files.items()}}
    form = " ".join(f"-F {shlex.quote(f'{name}={part}')}" for name, part in parts.items())
    return [f"curl -N {address}{path}{_key(api, 'Key')} {form}"]


def _runpod(api: FastAPI, address: str) -> list[str]:
    """Return what calls the first endpoint that is of Runpod's kind, or that the deployment has named by an id."""
    if not (queues := _queues(api)):
        return []
    endpoint_id, (served, _) = next(iter(queues.items()))
    body = {"input": _example_of(api, served, own_ids(type(served.app))[served.name].path)}
    return [
        f"export RUNPOD_ENDPOINT_BASE_URL={address}/v2  # for runpod.Endpoint({json.dumps(endpoint_id)})",
        f"curl {address}/v2/{endpoint_id}/runsync{_headers(api, 'Bearer')} -d {_quoted(body)}",
    ]


def _queues(api: FastAPI) -> dict[str, tuple[ServedApp, str]]:
    """Return the endpoints to be shown to Runpod's users by their ids: the app of each, and what its workers need."""
    apps = {served.name: served for served in api.state.runtime.served}
    said = api.state.runpod_endpoints
    queues = {own_id: (apps[endpoint.app or own_id], endpoint.needs) for own_id, endpoint in said.items()}
    named = {served.name for served, _ in queues.values()}
    others = {n: (s, "") for n, s in apps.items() if isinstance(s.app, QueueApp) and n not in named}
    return queues | others


def _headers(api: FastAPI, scheme: str) -> str:
    return f"{_key(api, scheme)} -H 'Content-Type: application/json'"


def _key(api: FastAPI, scheme: str) -> str:
    return f' -H "Authorization: {scheme} $STREAMAPP_API_KEY"' if api.state.runtime.settings.api_key else ""


def _quoted(body: Any) -> str:
    return shlex.quote(json.dumps(body, ensure_ascii=False))


def _example_of(api: FastAPI, served: ServedApp, path: str) -> Any:
    document = api.state.describe(_place_of(api, served, path))
    return _example_input(_schema_of(api, served, path), document["components"]["schemas"])


def _place_of(api: FastAPI, served: ServedApp, path: str) -> str:
    return path if served is api.state.runtime.served[0] else f"/{served.name}{path}".rstrip("/")


def _schema_of(api: FastAPI, served: ServedApp, path: str) -> dict[str, Any]:
    place = _place_of(api, served, path)
    content = api.state.describe(place)["paths"][place]["post"]["requestBody"]["content"]
    schema: dict[str, Any] = content["application/json"]["schema"]
    return schema


def _files_of(api: FastAPI, served: ServedApp, path: str) -> dict[str, str]:
    """Return the fields that require a file, which a form sends, and how one may be called."""
    schema = _schema_of(api, served, path)
    schemas = api.state.describe(_place_of(api, served, path))["components"]["schemas"]
    body = schemas.get(schema.get("$ref", "").rpartition("/")[2], schema)
    required = {name: body["properties"][name] for name in body.get("required", ()) if "properties" in body}
    return {name: file for name, field in required.items() if (file := _file_of(field))}


def _file_of(field: dict[str, Any]) -> str:
    if field.get("examples"):
        return ""
    is_upload = "contentMediaType" in field or field.get("format") == "binary"
    return "file" if is_upload else _FILES.get(field.get("ui", {}).get("field"), "")


def _example_input(schema: dict[str, Any], schemas: dict[str, Any]) -> Any:
    """Return an input that an endpoint takes; of one that takes any JSON an empty object."""
    return _example(schema, schemas) if schema.keys() - {"title", "description"} else {}


def _example(schema: dict[str, Any], schemas: dict[str, Any], within: tuple[str, ...] = ()) -> Any:
    """Return what a schema takes: its first example or choice, else what it requires, within its bounds.

    Args:
        within: the definitions that it is in; none of them is gone into again.
    """
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        return None if name in within else _example(schemas[name], schemas, (*within, name))
    choices = schema.get("examples") or schema.get("enum") or [schema.get("const")]
    if choices[0] is not None:
        return choices[0]
    if members := schema.get("anyOf") or schema.get("oneOf"):
        example = _example(members[0], schemas, within)
        told_by = schema.get("discriminator")
        return example if told_by is None else {told_by["propertyName"]: next(iter(told_by["mapping"])), **example}
    match schema.get("type", "string"):
        case "object":
            required = {name: schema["properties"][name] for name in schema.get("required", ())}
            return {name: _example(field, schemas, within) for name, field in required.items()}
        case "array":
            return [_example(schema.get("items", {}), schemas, within)] * schema.get("minItems", 0)
        case "string":
            shortest, longest = schema.get("minLength", 0), schema.get("maxLength")
            return " ".join(["hello"] * (1 + shortest // 6))[:longest].ljust(shortest, "!")
        case "integer" | "number" as kind:
            return _number(schema, 1 if kind == "integer" else 1.0)
        case kind:
            return True if kind == "boolean" else None


def _number(schema: dict[str, Any], one: float) -> float:
    """Return a number within bounds: the lowest where that is said, else one as it is where that is."""
    above, most = schema.get("exclusiveMinimum"), schema.get("maximum", schema.get("exclusiveMaximum", math.inf))
    lowest: float = schema.get("minimum", min(one, most) if above is None else min(above + one, (above + most) / 2))
    return lowest - one if lowest == schema.get("exclusiveMaximum") else lowest
