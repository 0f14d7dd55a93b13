"""What a handler's result says of its job, and its failure, in this process and in workers elsewhere."""

import json
from typing import Any

import pytest
from starlette.exceptions import HTTPException

from streamapp.errors import HandlerError, QueueFull, describe
from streamapp.runpod.outcomes import describe_failure, error_in, error_text, read_failure, read_returned

TRACE = 'Traceback (most recent call last):\n  File "/app/handler.py"'


@pytest.mark.parametrize(
    ("returned", "value", "error", "refreshes"),
    [
        ({"a": 1}, {"a": 1}, None, False),
        ({"a": 1, "error": "bad"}, {"a": 1}, "bad", False),
        ({"a": 1, "error": None}, {"a": 1}, None, False),
        ({"error": {"code": 1}}, None, '{"code": 1}', False),
        ({"refresh_worker": True}, None, None, True),
        ({"a": 1, "refresh_worker": False}, {"a": 1}, None, False),
        ({}, None, None, False),
        ([], [], None, False),
        (False, False, None, False),
        ("error", "error", None, False),
    ],
)
def test_a_dict_says_of_the_job_and_the_worker_what_it_has_besides(
    returned: Any, value: Any, error: str | None, refreshes: bool
) -> None:
    before = returned.copy() if isinstance(returned, dict) else returned
    read = read_returned(returned)
    assert (read.value, read.error and read.error.message, read.refreshes) == (value, error, refreshes)
    assert returned == before


@pytest.mark.parametrize("item", [{"error": ""}, {"error": None}, {}, "error", ["error"], None, {"errors": 1}])
def test_an_item_without_an_error_is_an_item(item: Any) -> None:
    assert error_in(item) is None


def test_an_error_that_is_no_text_is_told_as_json() -> None:
    told = [error_in({"error": error}) for error in ({"code": 5, "why": "zu groß"}, ["a"], 3, {1})]
    assert [error and error.message for error in told] == ['{"code": 5, "why": "zu groß"}', '["a"]', "3", "{1}"]


def test_a_failure_is_told_as_runpod_does(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RUNPOD_POD_ID", "pod-1")
    report = describe_failure(ValueError("no seed"), where="endpoint /a/stream", debug=False)
    assert (report.status_code, report.message) == (500, "endpoint /a/stream failed with ValueError: no seed")
    assert report.detail == {
        "error_type": "<class 'ValueError'>",
        "error_message": "no seed",
        "hostname": "unknown",
        "worker_id": "pod-1",
        "runpod_version": "1.12.0",
    }


def test_the_error_of_a_job_is_that_object_as_json_or_the_text() -> None:
    raised = describe_failure(ValueError("no seed"), where="it", debug=False)
    assert json.loads(error_text(raised))["error_message"] == "no seed"
    assert error_text(describe(HandlerError("no image"))) == "no image"


def test_in_debug_a_failure_has_its_traceback_as_runpod_does() -> None:
    try:
        raise ValueError("no seed")
    except ValueError as error:
        report = describe_failure(error, where="endpoint /a/stream", debug=True)
    assert 'raise ValueError("no seed")' in report.detail["error_traceback"] == report.traceback


class Unreadable(Exception):
    def __str__(self) -> str:
        raise RuntimeError


def test_an_exception_that_cannot_be_read_is_told_by_its_type() -> None:
    assert describe_failure(Unreadable(), where="it", debug=False).message == "it failed with Unreadable: "


@pytest.mark.parametrize(
    ("error", "status"),
    [(QueueFull("full"), 429), (HTTPException(418, "teapot"), 418), (RuntimeError("CUDA out of memory"), 503)],
)
def test_what_says_more_is_told_as_ever(error: Exception, status: int) -> None:
    report = describe_failure(error, where="it", debug=False)
    assert (report.status_code, isinstance(report.detail, str)) == (status, True)


def failed(error: Any, *, debug: bool = False) -> tuple[str, Any]:
    read = read_failure(error, where="endpoint /ep/stream", debug=debug)
    assert (read.status_code, read.code) == (500, "endpoint_failed")
    return read.message, read.detail


def test_a_text_is_the_error_as_it_is() -> None:
    assert failed("image too large") == ("image too large", "image too large")


@pytest.mark.parametrize("text", ["[1]", "{}", '{"error": 1}', "{", "1", "[" * 100_000])
def test_what_only_looks_like_what_a_handler_raised_is_a_text(text: str) -> None:
    assert failed(text)[0] == text


@pytest.mark.parametrize("name", ["<class 'ValueError'>", "<class 'app.errors.ValueError'>", "ValueError"])
def test_what_a_handler_raised_is_told_without_its_traceback(name: str) -> None:
    raised = {"error_type": name, "error_message": "no such seed", "hostname": "h"}
    told = failed(json.dumps({**raised, "error_traceback": TRACE}))
    assert told == ("endpoint /ep/stream failed with ValueError: no such seed", raised)


def test_in_debug_the_traceback_is_left_in() -> None:
    raised = {"error_type": "<class 'ValueError'>", "error_traceback": TRACE}
    assert failed(json.dumps(raised), debug=True) == ("endpoint /ep/stream failed with ValueError: ", raised)
    of_generator = f"handler: no such seed \ntraceback: {TRACE}"
    assert failed(of_generator, debug=True)[0] == of_generator


def test_what_a_generator_raised_is_told_without_the_traceback() -> None:
    assert failed(f"handler: no such seed \ntraceback: {TRACE}")[0] == "handler: no such seed"
