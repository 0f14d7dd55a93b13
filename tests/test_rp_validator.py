"""The validator answers what Runpod's answers, and changes nothing."""

import copy
from typing import Any

import pytest
from tests.validator_cases import CASES, Case

from streamapp.runpod.serverless.utils.rp_validator import validate


def raising(value: Any) -> bool:
    raise ValueError(value)


@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
def test_it_answers_as_the_real_one(case: Case) -> None:
    answer = validate(case.input, case.schema)
    assert answer == case.answer
    assert repr(answer) == repr(case.answer)  # 7 is 7.0, and True is 1


@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
def test_neither_the_input_nor_the_schema_is_changed(case: Case) -> None:
    given, schema = copy.deepcopy(case.input), copy.deepcopy(case.schema)
    validate(case.input, case.schema)
    assert (case.input, case.schema) == (given, schema)


def test_a_default_that_a_handler_adds_to_is_as_it_was_in_the_next_job() -> None:
    schema = {"tags": {"type": list, "required": False, "default": ["a"]}}
    validate({}, schema)["validated_input"]["tags"].append("b")
    assert validate({}, schema) == {"validated_input": {"tags": ["a"]}}


@pytest.mark.parametrize(
    ("given", "schema", "error"),
    [
        (None, {}, "Expected the input to be a dictionary, not <class 'NoneType'>."),
        ([1], {}, "Expected the input to be a dictionary, not <class 'list'>."),
        ({}, None, "Schema error, expected a dictionary, not <class 'NoneType'>."),
        ({"n": 1}, {"n": {"required": True}}, "Schema error, missing type for n."),
        ({}, {"n": None}, "Schema error, n is not a dictionary."),
        ({"n": 1}, {"n": {"type": "int", "required": True}}, "Schema error, the type of n is not a type: 'int'."),
        ({"n": []}, {"n": {"type": list[int], "required": True}}, "the type of n is not a type: list[int]."),
        ({"n": 1}, {"n": {"type": int, "required": True, "constraints": 5}}, "constraints of n are not a function."),
        ({"n": 1}, {"n": {"type": int, "required": True, "constraints": raising}}, "n does not meet the constraints."),
        ({}, {"n": {"type": int, "required": True, "constraints": lambda n: n > 1}}, "n is a required input."),
        ({"n": 10**400}, {"n": {"type": float, "required": True}}, "n is too large."),
    ],
)
def test_what_the_real_one_ends_with_an_exception_is_an_error_in_words(given: Any, schema: Any, error: str) -> None:
    assert any(said.endswith(error) for said in validate(given, schema)["errors"])
