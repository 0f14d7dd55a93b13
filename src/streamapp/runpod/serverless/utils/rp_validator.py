"""Check a job's input by a schema of Runpod's: `{name: {"type", "required", "default", "constraints"}}`.

Answers what the real one answers, text by text, and its order of errors. That includes its oddity: where a value is of
the default's type, neither its `type` nor its `constraints` are looked at.

Divergence: the schema stays as it is, also where a rule is written in JSON or a default is a list that a handler adds
to; and what would be an exception of the real one's is an error in words.
"""

import copy
import json
from collections.abc import Callable, Iterator
from typing import Any

UNEXPECTED_INPUT_ERROR = "Unexpected input. {} is not a valid input option."
MISSING_REQUIRED_ERROR = "{} is a required input."
MISSING_DEFAULT_ERROR = "Schema error, missing default value for {}."
MISSING_TYPE_ERROR = "Schema error, missing type for {}."
INVALID_TYPE_ERROR = "{} should be {} type, not {}."
CONSTRAINTS_ERROR = "{} does not meet the constraints."
SCHEMA_ERROR = "Schema error, {} is not a dictionary."
# Ours, where the real one ends with an exception.
_INPUT_ERROR = "Expected the input to be a dictionary, not {}."
_WHOLE_SCHEMA_ERROR = "Schema error, expected a dictionary, not {}."
_RULE_TYPE_ERROR = "Schema error, the type of {} is not a type: {}."
_RULE_CONSTRAINTS_ERROR = "Schema error, the constraints of {} are not a function."
_NUMBER_ERROR = "{} is too large."


def validate(raw_input: Any, schema: Any) -> dict[str, Any]:
    """Return `{"validated_input": ...}`, with defaults in it, or `{"errors": [...]}`; neither argument is changed."""
    if not isinstance(raw_input, dict):
        return {"errors": [_INPUT_ERROR.format(type(raw_input))]}
    if not isinstance(schema, dict):
        return {"errors": [_WHOLE_SCHEMA_ERROR.format(type(schema))]}
    validated = raw_input.copy()
    rules = {key: _read(rule) for key, rule in schema.items()}
    errors = [UNEXPECTED_INPUT_ERROR.format(key) for key in raw_input if key not in schema]
    errors += [SCHEMA_ERROR.format(key) for key, rule in rules.items() if not isinstance(rule, dict)]
    for key, rule in rules.items():
        errors += _complete(key, rule if isinstance(rule, dict) else {}, validated)
    for key, rule in rules.items():
        errors += _check(key, rule, validated) if isinstance(rule, dict) else ()
    return {"errors": errors} if errors else {"validated_input": validated}


def _read(rule: Any) -> Any:
    """Return what a rule says, which may be written in JSON; JSON that is no dictionary says nothing."""
    if not isinstance(rule, str | bytes | bytearray):
        return rule
    try:
        read = json.loads(rule)
    except ValueError:
        return rule
    return read if isinstance(read, dict) else {}


def _complete(key: str, rule: dict[str, Any], validated: dict[str, Any]) -> Iterator[str]:
    """Put the default in the place of what was left out."""
    if "type" not in rule:
        yield MISSING_TYPE_ERROR.format(key)
    if "required" not in rule:
        yield MISSING_REQUIRED_ERROR.format(key)
    elif key in validated:
        return
    elif rule["required"]:
        yield MISSING_REQUIRED_ERROR.format(key)
    elif "default" in rule:
        default = rule["default"]
        validated[key] = copy.deepcopy(default) if isinstance(default, dict | list | set) else default
    else:
        yield MISSING_DEFAULT_ERROR.format(key)


def _check(key: str, rule: dict[str, Any], validated: dict[str, Any]) -> Iterator[str]:
    if key in validated and "type" in rule:
        if rule["type"] is float and type(validated[key]) is int:
            try:
                validated[key] = float(validated[key])
            except OverflowError:
                yield _NUMBER_ERROR.format(key)
                return
        if "default" in rule and isinstance(validated[key], type(rule["default"])):
            return
        yield from _check_type(key, rule["type"], validated[key])
    if "constraints" in rule:
        yield from _check_constraints(key, rule["constraints"], validated.get(key))


def _check_type(key: str, expected: Any, value: Any) -> Iterator[str]:
    try:
        is_expected = isinstance(value, expected)
    except TypeError:
        yield _RULE_TYPE_ERROR.format(key, repr(expected))
    else:
        if not is_expected:
            yield INVALID_TYPE_ERROR.format(key, expected, type(value))


def _check_constraints(key: str, meets: Callable[[Any], Any], value: Any) -> Iterator[str]:
    if not callable(meets):
        yield _RULE_CONSTRAINTS_ERROR.format(key)
        return
    try:
        is_met = bool(meets(value))
    except Exception:  # the schema's own function, with a value that it does not expect, None for what was left out
        is_met = False
    if not is_met:
        yield CONSTRAINTS_ERROR.format(key)
