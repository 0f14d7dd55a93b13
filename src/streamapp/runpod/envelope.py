"""Read what Runpod's clients send to /run and /runsync: an input in an envelope, and what they ask of its job."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from pydantic_core import to_json
from starlette.requests import Request

from ..errors import MalformedRequest, PayloadTooLarge
from ..http.file_routes import json_object
from ..jsontext import LARGE_BYTES
from ..process.threads import in_pool
from .endpoints import MOST_S, Endpoint

#: as Runpod documents it, for each operation
MOST_BYTES = {"run": 10 * 1024 * 1024, "runsync": 20 * 1024 * 1024}
KEPT_S = {"run": 30 * 60.0, "runsync": 60.0}
_TTL_S = 24 * 3600.0
_ABSENT = {
    "webhook": "webhooks are not sent yet; ask at status/{id}, or read stream/{id}",
    "webhookV2": "webhooks are not sent yet; ask at status/{id}, or read stream/{id}",
    "s3Config": "outputs are not put into a bucket; files in them are at URLs of this server, or inline",
}


class Envelope(NamedTuple):
    """Hold what was sent: the input as JSON, and the fields of a `JobRequest` that the policy sets."""

    input: bytes
    asks: dict[str, Any]


async def read_envelope(request: Request, operation: str, said: Endpoint) -> Envelope:
    """Read a request's body.

    Args:
        said: what the deployment says of the endpoint.
    Raises:
        MalformedRequest: it is no envelope, or asks for what is not to be had.
        PayloadTooLarge: it is larger than Runpod takes.
    """
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > MOST_BYTES[operation]:
            raise PayloadTooLarge(
                f"the body is larger than {MOST_BYTES[operation]} bytes, which is what /{operation} takes; "
                "upload large files, and send their URLs"
            )
    request._body = bytes(body)
    envelope = await json_object(request)
    for key, reason in _ABSENT.items():
        if envelope.get(key):
            raise MalformedRequest(f"{key}: {reason}")
    if "input" not in envelope:
        raise MalformedRequest('expected {"input": ...}, got no "input"; its value is what the endpoint takes')
    given = envelope["input"]
    written = await in_pool(to_json, given) if len(body) > LARGE_BYTES else to_json(given)
    return Envelope(written, _asked(envelope.get("policy"), said))


def _asked(policy: Any, said: Endpoint) -> dict[str, Any]:
    if policy is None:
        policy = {}
    if not isinstance(policy, Mapping):
        raise MalformedRequest(f'policy: expected an object such as {{"ttl": 60000}}, got {_shown(policy)}')
    asks: dict[str, Any] = {}
    timeout_s = _seconds(policy, "executionTimeout", 5000, said.execution_timeout_s)
    if timeout_s is not None:
        asks["timeout_s"] = timeout_s
    asks["ttl_s"] = _seconds(policy, "ttl", 10_000, said.ttl_s) or _TTL_S
    is_low = policy.get("lowPriority")
    if not isinstance(is_low, bool | None):
        raise MalformedRequest(f"policy.lowPriority: expected true or false, got {_shown(is_low)}")
    return {**asks, "is_low_priority": True} if is_low else asks


def _seconds(policy: Mapping[str, Any], name: str, least_ms: int, most_s: float | None) -> float | None:
    """Return what a policy asks for, else what the deployment says, which is also the most that may be asked for."""
    given = policy.get(name)
    if given is None:
        return most_s
    most_ms = int((most_s or MOST_S) * 1000)
    is_number = isinstance(given, int | float) and not isinstance(given, bool)
    if not is_number or not least_ms <= given <= most_ms:
        raise MalformedRequest(f"policy.{name}: expected milliseconds, {least_ms} to {most_ms}, got {_shown(given)}")
    return float(given) / 1000


def _shown(value: Any) -> str:
    return to_json(value).decode()[:80]
