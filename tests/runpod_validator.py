"""What the real `rp_validator` and ours say to the same inputs, for an interpreter that has both: prints pairs."""

import copy
import json
import sys
from typing import Any

from runpod.serverless.utils import rp_validator as theirs

from streamapp.runpod.serverless.utils import rp_validator as ours

NUMBER = {"type": int, "required": True}
OPTIONAL = {"type": str, "required": False, "default": "none"}
SMALL = {"type": int, "required": False, "default": 1, "constraints": lambda value: value < 3}

CASES: list[tuple[Any, Any]] = [
    ({"number": 5}, {"number": NUMBER}),
    ({"number": 5, "text": "given"}, {"number": NUMBER, "text": OPTIONAL}),
    ({"number": 5}, {"number": NUMBER, "text": OPTIONAL}),
    ({}, {"number": NUMBER}),
    ({"number": "five"}, {"number": NUMBER}),
    ({"number": 5.0}, {"number": NUMBER}),
    ({"number": True}, {"number": NUMBER}),
    ({"number": None}, {"number": NUMBER}),
    ({"number": 5, "more": 1}, {"number": NUMBER}),
    ({"more": 1, "still": 2}, {"number": NUMBER}),
    ({"number": 2}, {"number": SMALL}),
    ({"number": 3}, {"number": SMALL}),
    ({}, {"number": SMALL}),
    ({"share": 1}, {"share": {"type": float, "required": True}}),
    ({"share": 1.5}, {"share": {"type": float, "required": True}}),
    ({"share": "1.5"}, {"share": {"type": float, "required": True}}),
    ({"share": True}, {"share": {"type": float, "required": True}}),
    ({"either": 1}, {"either": {"type": (int, str), "required": True}}),
    ({"either": []}, {"either": {"type": (int, str), "required": True}}),
    ({}, {"none": {"type": type(None), "required": False, "default": None}}),
    ({"none": None}, {"none": {"type": str, "required": False, "default": None}}),
    ({"number": 5}, {"number": {"required": True}}),
    ({"number": 5}, {"number": {"type": int}}),
    ({}, {"number": {"type": int, "required": False}}),
    ({}, {"number": {}}),
    ({"number": 5}, {"number": "not JSON"}),
    ({"number": 5}, {}),
    ({}, {}),
    ({"nested": {"a": 1}}, {"nested": {"type": dict, "required": True}}),
    ({"nested": [1, 2]}, {"nested": {"type": list, "required": True, "constraints": lambda value: len(value) == 2}}),
    ({"nested": (1, 2)}, {"nested": {"type": list, "required": True}}),
    ({"number": 5}, {"number": {"type": int, "required": True, "constraints": lambda value: 1 / 0}}),
    ({"number": 5}, {"number": {"type": int, "required": True, "constraints": "not callable"}}),
    ({"number": 5}, {"number": {"type": "int", "required": True}}),
    ({"number": 5}, {"number": {"type": int, "required": True, "unknown": 1}}),
    ([], {"number": SMALL}),
    ("number", {"number": NUMBER}),
    (None, {"number": NUMBER}),
]


def said(validator: Any, raw: Any, schema: Any) -> str:
    """Return what a validator returns, or raises, and what it leaves of the input."""
    raw, schema = copy.deepcopy((raw, schema))
    try:
        answer = repr(validator.validate(raw, schema))
    except Exception as error:  # whatever the real one raises is what is compared
        answer = f"{type(error).__name__}: {error}"
    return f"{answer}; {raw}"


if __name__ == "__main__":
    sys.stdout.write(json.dumps([[said(each, *case) for each in (theirs, ours)] for case in CASES]))
