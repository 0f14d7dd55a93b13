"""What Runpod's workers say of a job, as ours read it."""

import json
from typing import Any

import pytest

from streamapp.runpod.reports import handler_error, progress_event

TRACE = 'Traceback (most recent call last):\n  File "/app/handler.py"'
RAISED = {"error_type": "<class 'builtins.ValueError'>", "error_message": "no such seed", "hostname": "h"}


@pytest.mark.parametrize(
    ("value", "told"),
    [
        ("half", {"message": "half"}),
        ({"message": "half", "step": 1, "total": 2}, {"message": "half", "step": 1, "total": 2}),
        ({"percent": 5, "step": "first", "total": True}, {"message": '{"percent": 5, "step": "first", "total": true}'}),
        ({"message": {"a": 1}}, {"message": '{"message": {"a": 1}}'}),
        (None, {"message": "null"}),
        ([1, "é"], {"message": '[1, "é"]'}),
    ],
)
def test_a_progress_is_what_was_told_and_what_of_it_ours_show(value: Any, told: dict[str, Any]) -> None:
    event = progress_event(value)
    assert (event.kind, event.json()) == ("progress", {**told, "output": value})


def test_a_text_is_the_error_as_it_is() -> None:
    error = handler_error("image too large", debug=False)
    assert (error.message, error.detail, error.status_code) == ("image too large", "image too large", 500)


def test_an_error_that_is_no_text_is_told_as_json() -> None:
    assert handler_error({"code": 7}, debug=False).message == '{"code": 7}'


@pytest.mark.parametrize("text", ["[1]", "{}", '{"error": 1}', "{", "1", "[" * 100_000])
def test_what_only_looks_like_what_a_handler_raised_is_a_text(text: str) -> None:
    assert handler_error(text, debug=False).message == text


def test_what_a_handler_raised_is_told_by_its_name_and_to_runpods_clients_without_the_traceback() -> None:
    error = handler_error(json.dumps({**RAISED, "error_traceback": TRACE}), debug=False)
    assert error.message == "ValueError: no such seed"
    assert json.loads(error.detail) == RAISED


def test_in_debug_the_traceback_is_left_in() -> None:
    text = json.dumps({**RAISED, "error_traceback": TRACE})
    assert handler_error(text, debug=True).detail == text
    of_generator = f"handler: no such seed \ntraceback: {TRACE}"
    assert handler_error(of_generator, debug=True).detail == of_generator


def test_what_a_generator_raised_is_told_without_the_traceback() -> None:
    error = handler_error(f"handler: no such seed \ntraceback: {TRACE}", debug=False)
    assert (error.message, error.detail) == ("handler: no such seed", "handler: no such seed")
