"""Errors as OpenAI tells them."""

import json
from typing import Any

import pytest
from fastapi.exceptions import RequestValidationError
from tests.served import serving

import streamapp
from streamapp.errors import (
    Draining,
    EndpointFailed,
    InvalidInput,
    JobCancelled,
    MalformedRequest,
    ModelNotFound,
    QueueFull,
    StreamAppError,
    Unauthorized,
    describe,
)
from streamapp.http.handling import invalid_input
from streamapp.llm.generation import wrong
from streamapp.openai.asked import refusal
from streamapp.openai.errors import answer_of, block_of
from streamapp.openai.requests import read_chat


def told(error: StreamAppError) -> tuple[int, dict[str, Any], str | None]:
    answer = answer_of(describe(error), {"X-Streamapp-Job-Id": "1"})
    assert answer.headers["X-Streamapp-Job-Id"] == "1"
    return answer.status_code, json.loads(bytes(answer.body))["error"], answer.headers.get("x-should-retry")


@pytest.mark.parametrize(
    ("error", "status", "type_", "code", "retry"),
    [
        (Unauthorized("no"), 401, "authentication_error", "invalid_api_key", None),
        (MalformedRequest("no"), 400, "invalid_request_error", "malformed_request", None),
        (ModelNotFound("no"), 404, "invalid_request_error", "model_not_found", None),
        (QueueFull("no", retry_after_s=3), 429, "rate_limit_error", "rate_limit_exceeded", "true"),
        (Draining("no"), 503, "server_error", "draining", "true"),
        (EndpointFailed("no"), 500, "server_error", "endpoint_failed", "false"),
        (JobCancelled("no"), 499, "invalid_request_error", "cancelled", None),
    ],
)
def test_an_error_has_openais_shape(
    error: StreamAppError, status: int, type_: str, code: str, retry: str | None
) -> None:
    answered, body, retries = told(error)
    assert (answered, body["type"], body["code"], retries) == (status, type_, code, retry)
    assert body["message"] == "no"


def test_a_prompt_that_is_too_long_has_openais_code() -> None:
    _, body, _ = told(wrong("messages", "1 to 9 tokens", 10, type="context_length_exceeded"))
    assert (body["code"], body["param"]) == ("context_length_exceeded", "messages")
    detail = {"message": "no", "type": "invalid_request_error", "param": "messages", "code": body["code"]}
    _, of_another_server, _ = told(InvalidInput("no", detail=detail))
    assert of_another_server == detail
    assert told(InvalidInput("x", detail=[{"type": "value_error"}]))[1]["code"] == "invalid_input"


def test_a_full_queue_says_when_to_come_back() -> None:
    assert answer_of(describe(QueueFull("no", retry_after_s=3)), {}).headers["retry-after"] == "3"


@pytest.mark.parametrize(
    ("error", "param", "message"),
    [
        (invalid_input(refusal("messages.0.content", "expected text")), "messages.0.content", "expected text"),
        (InvalidInput("x", detail=[{"loc": ["stop"], "msg": "stop: up to 16"}]), "stop", "stop: up to 16"),
        (InvalidInput("top_p: expected 0 to 1"), "top_p", "top_p: expected 0 to 1"),
        (wrong("top_k", "a number", "x"), "top_k", "top_k: expected a number, got 'x'"),
        (InvalidInput("of my own", detail=["of", "my", "own"]), None, "of my own"),
        (InvalidInput("the prompt is too long"), None, "the prompt is too long"),
        (ModelNotFound("no such"), "model", "no such"),
        (MalformedRequest("model: no such"), None, "model: no such"),
    ],
)
def test_what_is_wrong_in_an_input_is_named(error: StreamAppError, param: str | None, message: str) -> None:
    _, body, _ = told(error)
    assert body["param"] == param
    assert body["message"].endswith(message) and body["message"].count(f"{param}: ") <= 1


@pytest.mark.parametrize(
    ("place", "param"),
    [(("body", "stop", "list[str]", 0), "stop.0"), (("body", "prompt", "str"), "prompt"), (("body",), None)],
)
def test_a_field_is_named_without_what_was_tried(place: tuple[Any, ...], param: str | None) -> None:
    error = invalid_input(RequestValidationError([{"type": "t", "loc": place, "msg": "wrong", "input": 1}]))
    _, body, _ = told(error)
    assert (body["param"], body["message"]) == (param, "wrong" if param is None else f"{param}: wrong")


@pytest.mark.parametrize(
    ("asked", "param", "message"),
    [
        (
            {"messages": [{"role": "user", "content": [{"type": "text", "text": 5}]}]},
            "messages.0.content.0.text",
            "string",
        ),
        ({"messages": [{"role": "user", "content": 5}]}, "messages.0.content", "string"),
        ({"messages": ["hi"]}, "messages.0", "dictionary"),
    ],
)
def test_of_the_forms_that_a_value_may_have_the_nearest_is_told(asked: Any, param: str, message: str) -> None:
    with pytest.raises(RequestValidationError) as raised:
        read_chat(asked)
    _, body, _ = told(invalid_input(raised.value))
    assert (body["param"], body["message"]) == (param, f"{param}: Input should be a valid {message}")


def test_what_a_server_behind_says_of_an_input_is_passed_on() -> None:
    said = {"message": "too long", "type": "x", "param": "messages", "code": "context_length_exceeded"}
    _, body, _ = told(InvalidInput("too long", detail=said))
    assert body == {**said, "type": "invalid_request_error"}


def test_an_error_of_a_job_has_its_id_as_clients_read_it() -> None:
    headers = answer_of(describe(EndpointFailed("no")), {"X-Streamapp-Job-Id": "1"}).headers
    assert headers["X-Request-Id"] == "1"
    assert "X-Request-Id" not in answer_of(describe(Unauthorized("no")), {}).headers


def test_an_error_in_a_stream_is_a_block_of_its_own() -> None:
    block = block_of(describe(EndpointFailed("no")))
    assert json.loads(block.removeprefix(b"data: "))["error"]["message"] == "no"
    assert block.endswith(b"}\n\n")


class Teller(streamapp.App):
    openai = streamapp.OpenAI(text="llm")

    @streamapp.endpoint("/hello")
    def hello(self, name: str) -> str:
        return name

    @streamapp.endpoint("/v1/{kind}/own")
    def own(self, kind: int) -> int:
        return kind

    @streamapp.endpoint("/v1/all/{rest:path}")
    def all(self, rest: str, kind: int) -> int:
        return kind


def test_only_openais_paths_tell_errors_so() -> None:
    openais = ("/v1/completions", "/v1/embeddings", "/v1/", "/teller/v1/responses", "/v2/teller/openai/v1/responses")
    others = ("/hello", "/v1/a/own", "/teller/v1/a/own/", "/v1/all/b/c", "/v1x", "/nowhere/v1/embeddings")
    with serving(Teller) as client:
        told = {path: "param" in client.post(path, json={}).json()["error"] for path in (*openais, *others)}
    assert [path for path, is_openais in told.items() if is_openais] == list(openais)


def test_a_wrong_key_is_told_so_at_paths_that_nothing_is_at() -> None:
    with serving(Teller, api_key="secret") as client:
        refused = client.post("/v1/embeddings", json={}).json()["error"]
    assert (refused["type"], refused["code"]) == ("authentication_error", "invalid_api_key")
