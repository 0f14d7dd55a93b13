"""Calls of Runpod's own Python client, for its own interpreter: all at once, as it sleeps a second before each poll.

Prints `{name: what came of it}`; what it raised as `{"raised": its class, "text": ...}`.
"""

import base64
import json
import os
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import runpod

runpod.api_key = os.environ["RUNPOD_KEY"]
PATIENCE_S = 100
ITEMS, TOKENS, ANSWERS = (runpod.Endpoint(name) for name in ("runpod_items", "runpod_tokens", "runpod_answers"))
MEGABYTES = base64.b64encode(os.urandom(4_000_000)).decode()


CALLS: dict[str, Callable[[], Any]] = {}


def call(function: Callable[[], Any]) -> Callable[[], Any]:
    """Have a function called."""
    return CALLS.setdefault(function.__name__, function)


@call
def stream() -> Any:
    job = ITEMS.run({"input": {"items": 4}})
    return [list(job.stream()), job.status(), job.output()]


@call
def output() -> Any:
    job = ITEMS.run({"items": 2})
    return [job.output(timeout=PATIENCE_S), job.status()]


@call
def stream_without_aggregate() -> Any:
    job = TOKENS.run({"tokens": 2})
    return [[item["token"] for item in job.stream()], job.status(), job.output()]


@call
def anything() -> Any:
    job = ITEMS.run({"yields": json.loads(os.environ["ANYTHING"])})
    return [list(job.stream()), job.output()]


@call
def returns() -> Any:
    job = ANSWERS.run({"answer": {"a": 1}})
    return [list(job.stream()), job.status(), job.output()]


@call
def run_sync() -> Any:
    return [ITEMS.run_sync({"items": 2}), ANSWERS.run_sync({"answer": [1, "two"]}), TOKENS.run_sync({"tokens": 2})]


@call
def empty_input() -> Any:
    """The client wraps an empty one twice."""
    return ANSWERS.run_sync({"input": {}})


@call
def raises() -> Any:
    job = ITEMS.run({"items": 2, "raises": "a plain reason"})
    return [list(job.stream()), job.status(), job.output(), state(job)]


@call
def yields_an_error() -> Any:
    job = ITEMS.run({"items": 2, "error": "No base64_image provided in input"})
    return [list(job.stream()), job.status(), job.output(), state(job)]


@call
def answers_with_an_error() -> Any:
    job = ANSWERS.run({"raises": 5})  # which the validator refuses
    return [job.output(timeout=PATIENCE_S), job.status(), state(job)]


@call
def answer_raises() -> Any:
    job = ANSWERS.run({"raises": "a plain reason"})
    return [job.output(timeout=PATIENCE_S), job.status(), state(job)]


@call
def cancelled() -> Any:
    job = TOKENS.run({"tokens": 1, "until": "/nowhere", "cancelled": os.environ["CANCELLED"]})
    items = job.stream()
    first = next(items)
    told = job.cancel()
    return [first["token"], told["status"], [*items][-1:] in ([], [{"waits": True}]), state(job)["status"]]


@call
def cancelled_in_the_queue() -> Any:
    holding = ITEMS.run({"items": 0, "until": "/nowhere"})
    waiting = ITEMS.run({"items": 1})
    told = [waiting.cancel()["status"], holding.cancel()["status"]]
    return [told, list(waiting.stream()), state(waiting)["status"]]


@call
def megabytes() -> Any:
    return ANSWERS.run_sync({"answer": MEGABYTES}) == MEGABYTES


@call
def megabytes_in_items() -> Any:
    return [len(item["data"]) for item in ITEMS.run({"items": 4, "size": 3_000_000}).stream()]


@call
def too_many_megabytes() -> Any:
    return ANSWERS.run({"answer": MEGABYTES * 2})


@call
def health() -> Any:
    return ITEMS.health()


@call
def wrong_key() -> Any:
    return runpod.Endpoint("runpod_items", api_key="another").run({"items": 1})


@call
def unknown_endpoint() -> Any:
    return runpod.Endpoint("nowhere").run({"items": 1})


@call
def unknown_job() -> Any:
    return state(ITEMS.run({"items": 0}), "11111111-1111-4111-8111-111111111111-u1")


@call
def job_of_another_endpoint() -> Any:
    return state(ITEMS.run({"items": 0}), ANSWERS.run({}).job_id)


@call
def app_streams() -> Any:
    job = runpod.Endpoint("fal-calls").run({"steps": 3})
    return [list(job.stream()), job.status(), job.output()]


@call
def app_answers() -> Any:
    picture = "data:image/png;base64," + os.environ["PICTURE"]
    return runpod.Endpoint("fal-calls--size").run_sync({"image_url": picture})


@call
def app_draws() -> Any:
    return list(runpod.Endpoint("fal-calls--draw--stream").run({"any": 1}).stream())[-1]


@call
def app_shows_previews() -> Any:
    gate = Path(os.environ["GATE"])
    items = runpod.Endpoint("previews").run({"until": str(gate)}).stream()
    first = next(items)
    gate.touch()
    return [first, *items]


@call
def app_fails() -> Any:
    job = runpod.Endpoint("fal-calls--fails").run({"any": 1})
    return [list(job.stream()), job.status(), state(job)]


@call
def app_is_given_what_it_does_not_take() -> Any:
    return runpod.Endpoint("fal-calls--size").run({"image_url": 5})


def state(job: Any, job_id: str = "") -> Any:
    """Ask for the whole answer of /status, of which the client returns a part."""
    answer = job.rp_client.get(f"{job.endpoint_id}/status/{job_id or job.job_id}")
    return {name: answer[name] for name in ("status", "error", "output") if name in answer}


def outcome(function: Callable[[], Any]) -> Any:
    try:
        return function()
    except Exception as error:  # whatever the client raises is what is tested
        return {"raised": type(error).__name__, "text": str(error)}


if __name__ == "__main__":
    with ThreadPoolExecutor(len(CALLS)) as pool:
        outcomes = dict(zip(CALLS, pool.map(outcome, CALLS.values()), strict=True))
    sys.stdout.write(json.dumps(outcomes, default=str))
