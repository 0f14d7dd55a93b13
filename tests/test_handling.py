"""What endpoints raise, answered by the app's own exception handlers, or by the HTTPException itself."""

import gc
import logging
import weakref
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Annotated, Any

import fastapi
import pytest
import starlette.exceptions
from fastapi import Depends, FastAPI, Request
from fastapi.exceptions import RequestValidationError
from pydantic import TypeAdapter, ValidationError
from starlette.requests import Request as StarletteRequest
from starlette.responses import JSONResponse, Response
from starlette.testclient import TestClient
from tests.served import ASYNC, finished, names, runtime_of, serving, shape

import streamapp
from streamapp.errors import InvalidInput
from streamapp.http.handling import handled, invalid_input, plain_answer
from streamapp.jobs.job import Job


class Refused(Exception):
    pass


class Filtered(Refused):
    pass


class TooMany(InvalidInput):
    pass


def refusing() -> None:
    raise Filtered("by a dependency")


RAISED: dict[str, Callable[[], BaseException]] = {
    "refused": lambda: Refused("no"),
    "filtered": lambda: Filtered("no"),
    "too many": lambda: TooMany("no"),
    "value": lambda: ValueError("no"),
    "exit": lambda: SystemExit("no"),
    "402": lambda: fastapi.HTTPException(402, "pay"),
    "404": lambda: starlette.exceptions.HTTPException(404),
    "500": lambda: fastapi.HTTPException(500, "broken"),
    "204": lambda: fastapi.HTTPException(204, headers={"X-More": "1"}),
    "304": lambda: starlette.exceptions.HTTPException(304, headers={"ETag": "x"}),
    "307": lambda: fastapi.HTTPException(307, headers={"Location": "/there"}),
    "302": lambda: starlette.exceptions.HTTPException(302, headers={"Location": "/there"}),
    "202": lambda: fastapi.HTTPException(202, {"later": [float("nan")]}),
    "199": lambda: fastapi.HTTPException(199),
    "999": lambda: fastapi.HTTPException(999),
}


class Raising(streamapp.App):
    """Endpoints of all kinds that raise what they are asked to."""

    @streamapp.endpoint("/value")
    def value(self, what: str) -> int:
        raise RAISED[what]()

    @streamapp.endpoint("/async-value")
    async def async_value(self, what: str) -> int:
        raise RAISED[what]()

    @streamapp.endpoint("/generator")
    def generator(self, what: str) -> Iterator[int]:
        raise RAISED[what]()
        yield 1

    @streamapp.endpoint("/async-generator")
    async def async_generator(self, what: str) -> AsyncIterator[int]:
        raise RAISED[what]()
        yield 1

    @streamapp.endpoint("/response")
    def response(self, what: str) -> Response:
        raise RAISED[what]()

    @streamapp.endpoint("/late")
    def late(self, what: str) -> Iterator[int]:
        yield 1
        raise RAISED[what]()

    @streamapp.endpoint("/dependent")
    def dependent(self, given: Annotated[None, Depends(refusing)]) -> int:
        return 1

    def leaving() -> None:  # type: ignore[misc]
        raise fastapi.HTTPException(307, headers={"Location": "/there"})

    def breaking() -> None:  # type: ignore[misc]
        raise ValueError("by a dependency")

    @streamapp.endpoint("/leaving-dependency")
    def leaving_dependency(self, given: Annotated[None, Depends(leaving)]) -> int:
        return 1

    @streamapp.endpoint("/breaking-dependency")
    def breaking_dependency(self, given: Annotated[None, Depends(breaking)]) -> int:
        return 1


KINDS = ["/value", "/async-value", "/generator", "/async-generator", "/response"]


async def tell(request: Request, error: Exception) -> Response:
    """Say by whom an error was handled, of which request."""
    return JSONResponse([type(error).__name__, str(error), request.url.path, await request.json()], 418)


@pytest.fixture
def client() -> Iterator[TestClient]:
    with serving(Raising) as client:
        client.follow_redirects = False
        yield client


def on(client: TestClient, key: Any, handler: Any = tell) -> None:
    assert isinstance(client.app, FastAPI)
    client.app.add_exception_handler(key, handler)


def posted(client: TestClient, path: str, what: str, **options: Any) -> Any:
    return client.post(path, json={"what": what}, **options)


@pytest.mark.parametrize("path", KINDS)
def test_a_handler_answers_for_what_an_endpoint_raises(client: TestClient, path: str) -> None:
    on(client, Refused)
    answer = posted(client, path, "refused")
    assert (answer.status_code, answer.json()) == (418, ["Refused", "no", path, {"what": "refused"}])
    assert len(answer.headers["X-Streamapp-Job-Id"]) == 32


@pytest.mark.parametrize(
    ("key", "what"),
    [
        (Refused, "filtered"),
        (Exception, "value"),
        (500, "value"),
        (402, "402"),
        (starlette.exceptions.HTTPException, "402"),
        (fastapi.HTTPException, "307"),
        (307, "307"),
        (TooMany, "too many"),
        (InvalidInput, "too many"),
    ],
)
def test_a_handler_is_found_by_status_and_by_the_nearest_class(client: TestClient, key: Any, what: str) -> None:
    on(client, key)
    assert posted(client, "/value", what).json()[0] == type(RAISED[what]()).__name__
    on(client, type(RAISED[what]()), lambda request, error: Response("nearer"))
    assert posted(client, "/value", what).text == "nearer" or isinstance(key, int)


@pytest.mark.parametrize(
    ("key", "what", "status"),
    [
        (Filtered, "refused", 500),
        (500, "500", 500),
        (Exception, "402", 402),
        (Exception, "too many", 422),
        (BaseException, "exit", 500),
        (404, "402", 402),
    ],
)
def test_what_no_handler_is_for_is_told_in_the_one_shape(client: TestClient, key: Any, what: str, status: int) -> None:
    on(client, key)
    assert shape(posted(client, "/value", what))[0] == status


def test_a_404_of_the_endpoint_is_not_taken_for_a_path_that_is_not_served(client: TestClient) -> None:
    assert posted(client, "/value", "404").json()["detail"] == "Not Found"


def test_a_handler_may_be_a_function_or_an_object(client: TestClient) -> None:
    class Handler:
        async def __call__(self, request: Request, error: Exception) -> Response:
            return Response("by an object")

    on(client, Refused, Handler())
    on(client, Filtered, lambda request, error: Response("in a thread"))
    assert posted(client, "/value", "refused").text == "by an object"
    assert posted(client, "/value", "filtered").text == "in a thread"


def test_after_the_start_of_a_stream_an_error_is_an_event(client: TestClient) -> None:
    on(client, Refused)
    assert names(posted(client, "/late", "refused").text) == ["output", "error"]
    assert names(client.get("/generator", params={"what": "refused"}).text) == ["job", "error"]


def test_a_job_that_runs_on_keeps_the_plain_error(client: TestClient) -> None:
    on(client, Refused)
    job_id = posted(client, "/value", "refused", headers=ASYNC).json()["job_id"]
    finished(client, job_id)
    assert shape(client.get(f"/jobs/{job_id}/result")) == (500, "endpoint_failed")


@pytest.mark.parametrize("failure", [KeyError, SystemExit])
def test_a_handler_that_fails_is_told_and_logged(
    client: TestClient, caplog: pytest.LogCaptureFixture, failure: type[BaseException]
) -> None:
    def fail(request: Request, error: Exception) -> Response:
        raise failure("secret")

    on(client, Refused, fail)
    with caplog.at_level(logging.ERROR, "streamapp"):
        answer = posted(client, "/value", "refused")
    assert shape(answer) == (500, "endpoint_failed")
    assert answer.json()["detail"].startswith(f"the exception handler failed with {failure.__name__}")
    assert any("the exception handler for Refused failed" in message for message in caplog.messages)


@pytest.mark.parametrize("returned", [{"not": "a response"}, None])
def test_a_handler_that_returns_no_response_leaves_the_one_shape(client: TestClient, returned: Any) -> None:
    on(client, Refused, lambda request, error: returned)
    assert shape(posted(client, "/value", "refused")) == (500, "endpoint_failed")


def test_a_handler_answers_for_dependencies_as_well(client: TestClient) -> None:
    on(client, Refused)
    on(client, Exception)
    assert client.post("/dependent", json={}).json()[:2] == ["Filtered", "by a dependency"]
    assert client.post("/breaking-dependency", json={}).json()[:2] == ["ValueError", "by a dependency"]


@pytest.mark.parametrize("path", ["/value", "/generator"])
def test_what_was_raised_is_not_kept_beyond_its_answer(
    client: TestClient, path: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.CRITICAL, "streamapp")  # pytest keeps what is logged
    seen: list[weakref.ref[Exception]] = []
    jobs: list[Job] = []
    runtime_of(client).observers.append(jobs.append)
    on(client, Refused, lambda request, error: seen.append(weakref.ref(error)))
    posted(client, path, "refused")
    posted(client, "/late", "refused")
    posted(client, path, "value")
    assert [job.raised for job in jobs] == [None] * 3
    gc.collect()
    assert [error() for error in seen] == [None]


# HTTPExceptions that are no errors


@pytest.mark.parametrize("path", KINDS)
@pytest.mark.parametrize(
    ("what", "body", "header"),
    [
        ("204", "", ("x-more", "1")),
        ("304", "", ("etag", "x")),
        ("307", '{"detail":"Temporary Redirect"}', ("location", "/there")),
        ("302", '{"detail":"Found"}', ("location", "/there")),
        ("202", '{"detail":{"later":[null]}}', ("content-type", "application/json")),
    ],
)
def test_an_http_exception_that_is_no_error_is_the_answer(
    client: TestClient, path: str, what: str, body: str, header: tuple[str, str]
) -> None:
    answer = posted(client, path, what)
    assert (str(answer.status_code), answer.text, answer.headers[header[0]]) == (what, body, header[1])
    assert body or "content-type" not in answer.headers


@pytest.mark.parametrize("what", ["199", "999"])
def test_a_status_that_http_does_not_have_is_a_mistake(client: TestClient, what: str) -> None:
    assert shape(posted(client, "/value", what)) == (500, "endpoint_failed")


def test_a_job_has_no_answer_to_keep_of_an_exception_that_is_no_error(client: TestClient) -> None:
    """A redirect of `/jobs/{id}/result` would lead its reader away from what failed."""
    job_id = posted(client, "/value", "307", headers=ASYNC).json()["job_id"]
    finished(client, job_id)
    assert "no error; return a Response" in client.get(f"/jobs/{job_id}/result").json()["detail"]


def test_an_http_exception_of_a_dependency_is_the_answer_as_well(client: TestClient) -> None:
    answer = client.post("/leaving-dependency")
    assert (answer.status_code, answer.headers["location"]) == (307, "/there")


def test_what_is_told_may_be_no_unicode() -> None:
    answer = plain_answer(fastapi.HTTPException(203, "half of \ud83d"))
    assert answer is not None
    assert bytes(answer.body).decode() == '{"detail":"half of \ufffd"}'


async def test_outside_of_an_app_there_are_no_handlers() -> None:
    request = StarletteRequest({"type": "http"})
    assert await handled(request, Refused()) is None
    assert plain_answer(Refused()) is None


def test_what_is_wrong_with_an_input_echoes_little_of_it() -> None:
    errors: list[dict[str, object]] = [
        {"type": "t", "loc": ("body", "x" * 300), "msg": "no", "input": value, "ctx": {"given": value}}
        for value in (1, b"bytes", [1, 2], "é" * 300, "\ud800")
    ]
    told = invalid_input(RequestValidationError(errors))
    assert told.message == f"body.{'x' * 200}...: no"
    assert isinstance(told.detail, list)
    inputs = [1, "<binary 5 bytes>", "<list of 2 items>", "é" * 200 + "...", "\\ud800"]
    assert [(e["input"], e["ctx"]["given"]) for e in told.detail] == [(given, given) for given in inputs]


def test_of_an_upload_that_came_as_json_it_is_told_how_to_send_it() -> None:
    with pytest.raises(ValidationError) as raised:
        TypeAdapter(fastapi.UploadFile).validate_python("a.csv")
    told = invalid_input(RequestValidationError(raised.value.errors()))
    assert told.message == "expected a file in a form, multipart/form-data: curl -F name=@path"


def test_of_an_input_that_is_wrong_as_a_whole_no_place_is_told() -> None:
    error = RequestValidationError([{"type": "json_invalid", "loc": (), "msg": "Invalid JSON", "input": "{"}])
    assert str(invalid_input(error)) == "Invalid JSON"


def test_of_many_errors_the_first_are_told() -> None:
    errors = [{"type": "t", "loc": (n,), "msg": "no", "input": n} for n in range(1000)]
    detail = invalid_input(RequestValidationError(errors)).detail
    assert isinstance(detail, list)
    assert [e["loc"] for e in detail] == [[n] for n in range(100)]
