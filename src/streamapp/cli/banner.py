"""Say at the start of a server what it serves: the URLs of each app, the pages to open, and a request to copy."""

import json
import shlex
from typing import Any

from fastapi import FastAPI

from ..http.playground import PAGE_PATH
from ..runtime import ServedApp

_EXAMPLES = {"string": "hello", "integer": 1, "number": 1.0, "boolean": True, "array": [], "object": {}}


def shown_address(host: str, port: int) -> str:
    """Return what a caller on this machine writes for a host that is listened on, and its port."""
    shown = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(host) or (f"[{host}]" if ":" in host else host)
    return f"{shown}:{port}"


def describe_server(api: FastAPI, host: str, port: int, *, scheme: str = "http") -> str:
    """Return a line for each app and page, and a curl command for the first app's first stream."""
    address = f"{scheme}://{shown_address(host, port)}"
    first, *others = api.state.runtime.served
    lines = [_urls(address, first, ""), *(_urls(address, served, f"/{served.name}") for served in others)]
    pages = [f"playground: {address}{PAGE_PATH}"] if api.state.has_playground else []
    return "\n".join([*lines, *pages, f"docs: {address}/docs", *_curl(api, address, first), ""])


def _urls(address: str, served: ServedApp, prefix: str) -> str:
    return f"{served.name}: " + " ".join(address + prefix + spec.path for spec in served.endpoints)


def _curl(api: FastAPI, address: str, served: ServedApp) -> list[str]:
    specs = [spec for spec in served.endpoints if "{" not in spec.path]
    if not specs:
        return []
    path = min(specs, key=lambda spec: spec.kind != "stream").path
    key = ' -H "Authorization: Key $STREAMAPP_API_KEY"' if api.state.runtime.settings.api_key else ""
    document = api.openapi()
    schema = document["paths"][path]["post"]["requestBody"]["content"]["application/json"]["schema"]
    example = _example_input(schema, document["components"]["schemas"])
    body = shlex.quote(json.dumps(example, ensure_ascii=False))
    return [f"curl -N {address}{path}{key} -H 'Content-Type: application/json' -d {body}"]


def _example_input(schema: dict[str, Any], schemas: dict[str, Any]) -> Any:
    """Return an input that an endpoint takes: values for the fields that it, or a union's first member, requires."""
    if "$ref" in schema:
        return _example_input(schemas[schema["$ref"].rpartition("/")[2]], schemas)
    if members := schema.get("anyOf") or schema.get("oneOf"):
        example = _example_input(members[0], schemas)
        told_by = schema.get("discriminator")
        return example if told_by is None else {told_by["propertyName"]: next(iter(told_by["mapping"])), **example}
    if schema.get("type") != "object":
        return _example(schema)
    return {name: _example(schema["properties"][name]) for name in schema.get("required", ())}


def _example(schema: dict[str, Any]) -> Any:
    choices = schema.get("examples") or schema.get("enum") or [schema.get("const", schema.get("minimum"))]
    return _EXAMPLES.get(schema.get("type", "string")) if choices[0] is None else choices[0]
