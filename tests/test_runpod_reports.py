"""What Runpod's workers say of a job, as ours read it."""

import json
from typing import Any

import pytest

from streamapp.runpod.reports import handler_error, progress_event

TRACE = 'Traceback (most recent call last):\n  File "/app/handler.py"'


@pytest.mark.parametrize(
    ("value", "told"),
    [
        ("half", {"message": "half"}),
        ({"message": "half", "step": 1, "total": 2}, {"message": "half", "step": 1, "total": 2}),
        ({"message": "half", "step": 0.5, "total": "2"}, {"message": "half", "step": 0.5, "total": None}),
        ({"percent": 5, "step": "first", "total": 2}, {"message": '{"percent":5,"step":"first","total":2}'}),
        ({"message": {"a": 1}, "step": True}, {"message": '{"message":{"a":1},"step":true}'}),
        (None, {"message": "null"}),
        ([1, "é"], {"message": '[1,"é"]'}),
    ],
)
def test_a_progress_is_what_was_told_and_what_of_it_ours_show(value: Any, told: dict[str, Any]) -> None:
    event = progress_event(value)
    assert (event.kind, event.json()) == ("progress", {**told, "output": value})


def failed(error: Any, *, debug: bool = False) -> tuple[str, Any]:
    read = handler_error(error, where="endpoint /ep/stream", debug=debug)
    assert (read.status_code, read.code) == (500, "endpoint_failed")
    return read.message, read.detail


def test_a_text_is_the_error_as_it_is() -> None:
    assert failed("image too large") == ("image too large", "image too large")


def test_an_error_that_is_no_text_is_told_as_json() -> None:
    assert failed({"code": 7})[0] == '{"code": 7}'


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
