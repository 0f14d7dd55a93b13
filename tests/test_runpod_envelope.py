"""What Runpod's clients send to begin a job."""

import json
from typing import Any

import pytest
from starlette.requests import Request
from starlette.types import Message

from streamapp.errors import MalformedRequest, PayloadTooLarge
from streamapp.runpod.endpoints import Endpoint
from streamapp.runpod.envelope import MOST_BYTES, Envelope, read_envelope

DAY_S = 24 * 60 * 60
NOTHING = Endpoint()


async def read(body: Any, operation: str = "run", said: Endpoint = NOTHING) -> Envelope:
    chunks = [body] if isinstance(body, bytes) else [json.dumps(body).encode()]

    async def receive() -> Message:
        return {"type": "http.request", "body": chunks.pop(), "more_body": bool(chunks)}

    return await read_envelope(Request({"type": "http", "method": "POST", "headers": []}, receive), operation, said)


async def asked(policy: Any, said: Endpoint = NOTHING) -> dict[str, Any]:
    return (await read({"input": {}, "policy": policy}, said=said)).asks


@pytest.mark.parametrize("value", [{}, {"a": [1, 2.5, "é", None]}, [], "text", 0, None, False])
async def test_the_input_is_what_stands_under_input(value: Any) -> None:
    envelope = await read({"input": value, "else": 1})
    assert (json.loads(envelope.input), envelope.asks) == (value, {"ttl_s": DAY_S})


async def test_a_large_input_is_written_in_a_thread() -> None:
    assert len((await read({"input": "x" * 2_000_000})).input) == 2_000_002


@pytest.mark.parametrize("body", [b"", b"nonsense", [], {}, {"INPUT": 1}, {"prompt": "x"}, b'{"input":', b"\xff"])
async def test_what_is_no_envelope_is_refused(body: Any) -> None:
    with pytest.raises(MalformedRequest, match=r'expected (a JSON object|\{"input": \.\.\.\})'):
        await read(body)


@pytest.mark.parametrize("key", ["webhook", "webhookV2", "s3Config"])
async def test_what_is_not_to_be_had_is_refused_unless_it_is_empty(key: str) -> None:
    with pytest.raises(MalformedRequest, match=f"^{key}: "):
        await read({"input": {}, key: "https://example.com/hook"})
    assert all([await read({"input": {}, key: nothing}) for nothing in (None, "")])


@pytest.mark.parametrize(("operation", "most"), MOST_BYTES.items())
async def test_a_body_is_as_large_as_runpod_takes_it(operation: str, most: int) -> None:
    frame = len(b'{"input":""}')
    assert await read(b'{"input":"%b"}' % (b"x" * (most - frame)), operation)
    with pytest.raises(PayloadTooLarge, match=f"larger than {most} bytes, which is what /{operation} takes"):
        await read(b'{"input":"%b"}' % (b"x" * (most - frame + 1)), operation)


# Policies


async def test_a_policy_says_how_long_a_job_may_run_and_be_kept_and_whether_it_waits() -> None:
    policy = {"executionTimeout": 5000, "ttl": 10_000, "lowPriority": True, "else": 1}
    assert await asked(policy) == {"timeout_s": 5, "ttl_s": 10, "is_low_priority": True}
    most = {"executionTimeout": 7 * DAY_S * 1000, "ttl": 7.0 * DAY_S * 1000, "lowPriority": False}
    assert await asked(most) == {"timeout_s": 7 * DAY_S, "ttl_s": 7 * DAY_S}


@pytest.mark.parametrize("policy", [None, {}, {"executionTimeout": None, "ttl": None, "lowPriority": None}])
async def test_without_a_policy_a_job_is_let_go_of_after_a_day(policy: Any) -> None:
    assert await asked(policy) == {"ttl_s": DAY_S}


@pytest.mark.parametrize(
    ("policy", "said"),
    [
        ([], r'policy: expected an object such as {"ttl": 60000}, got \[\]'),
        ("x", 'got "x"'),
        ({"executionTimeout": 4999}, "policy.executionTimeout: expected milliseconds, 5000 to 604800000, got 4999"),
        ({"executionTimeout": 604_800_001}, "got 604800001"),
        ({"executionTimeout": "5000"}, 'got "5000"'),
        ({"executionTimeout": True}, "got true"),
        ({"ttl": 9999}, "policy.ttl: expected milliseconds, 10000 to 604800000, got 9999"),
        ({"ttl": -1}, "got -1"),
        ({"ttl": 10**30}, "got 1"),
        ({"lowPriority": 1}, "policy.lowPriority: expected true or false, got 1"),
        ({"lowPriority": "true"}, 'got "true"'),
    ],
)
async def test_a_bad_policy_is_refused_in_words(policy: Any, said: str) -> None:
    with pytest.raises(MalformedRequest, match=said):
        await asked(policy)


async def test_what_the_deployment_says_is_the_default_and_the_most() -> None:
    said = Endpoint(execution_timeout_s=60, ttl_s=120)
    assert await asked(None, said) == {"timeout_s": 60, "ttl_s": 120}
    assert await asked({"executionTimeout": 5000, "ttl": 10_000}, said) == {"timeout_s": 5, "ttl_s": 10}
    with pytest.raises(MalformedRequest, match="expected milliseconds, 5000 to 60000, got 60001"):
        await asked({"executionTimeout": 60_001}, said)
