"""Inputs and schemas for `rp_validator.validate`, each with what the real one of runpod 1.12.0 answers."""

from typing import Any, NamedTuple


class Case(NamedTuple):
    """Hold arguments of `validate`, and its answer."""

    input: Any
    schema: Any
    answer: dict[str, Any]


def ok(**validated: Any) -> dict[str, Any]:
    return {"validated_input": validated}


def wrong(*errors: str) -> dict[str, Any]:
    return {"errors": list(errors)}


TEXT = {"type": str, "required": True}
STEPS = {"type": int, "required": False, "default": 20, "constraints": lambda steps: 0 < steps < 100}
SCALE = {"type": float, "required": True, "constraints": lambda scale: scale is not None and scale > 1}
PLACEHOLDER = {"type": str, "required": False, "default": None}

CASES = {
    "all there": Case({"prompt": "x", "steps": 5}, {"prompt": TEXT, "steps": STEPS}, ok(prompt="x", steps=5)),
    "a default": Case({"prompt": "x"}, {"prompt": TEXT, "steps": STEPS}, ok(prompt="x", steps=20)),
    "no input, no schema": Case({}, {}, ok()),
    "a required one missing": Case({}, {"prompt": TEXT}, wrong("prompt is a required input.")),
    "one that is not known": Case(
        {"prompt": "x", "seed": 1, "b": 2},
        {"prompt": TEXT},
        wrong(
            "Unexpected input. seed is not a valid input option.", "Unexpected input. b is not a valid input option."
        ),
    ),
    "another type": Case(
        {"prompt": 5}, {"prompt": TEXT}, wrong("prompt should be <class 'str'> type, not <class 'int'>.")
    ),
    "None for a text": Case(
        {"prompt": None}, {"prompt": TEXT}, wrong("prompt should be <class 'str'> type, not <class 'NoneType'>.")
    ),
    "None where it is the default": Case({"note": None}, {"note": PLACEHOLDER}, ok(note=None)),
    "a text where None is the default": Case({"note": "x"}, {"note": PLACEHOLDER}, ok(note="x")),
    "a number where None is the default": Case(
        {"note": 5}, {"note": PLACEHOLDER}, wrong("note should be <class 'str'> type, not <class 'int'>.")
    ),
    "an int for a float": Case({"scale": 7}, {"scale": SCALE}, ok(scale=7.0)),
    "a float": Case({"scale": 7.5}, {"scale": SCALE}, ok(scale=7.5)),
    "a bool for a float": Case(
        {"scale": True},
        {"scale": SCALE},
        wrong("scale should be <class 'float'> type, not <class 'bool'>.", "scale does not meet the constraints."),
    ),
    "a text for a float": Case(
        {"scale": "7"},
        {"scale": {"type": float, "required": True}},
        wrong("scale should be <class 'float'> type, not <class 'str'>."),
    ),
    "a bool for an int": Case({"steps": True}, {"steps": {"type": int, "required": True}}, ok(steps=True)),
    "a float for an int": Case(
        {"steps": 5.0},
        {"steps": {"type": int, "required": True}},
        wrong("steps should be <class 'int'> type, not <class 'float'>."),
    ),
    "a broken constraint": Case({"scale": 0.5}, {"scale": SCALE}, wrong("scale does not meet the constraints.")),
    "a broken constraint of one with a default, which is not looked at": Case(
        {"steps": 1000}, {"steps": STEPS}, ok(steps=1000)
    ),
    "a broken constraint of one missing": Case(
        {}, {"scale": SCALE}, wrong("scale is a required input.", "scale does not meet the constraints.")
    ),
    "another type than the default's, and a constraint": Case(
        {"steps": 5.5}, {"steps": STEPS}, wrong("steps should be <class 'int'> type, not <class 'float'>.")
    ),
    "several types": Case({"size": 5.5}, {"size": {"type": (int, float), "required": True}}, ok(size=5.5)),
    "none of several types": Case(
        {"size": "x"},
        {"size": {"type": (int, float), "required": True}},
        wrong("size should be (<class 'int'>, <class 'float'>) type, not <class 'str'>."),
    ),
    "a union": Case(
        {"size": []},
        {"size": {"type": int | None, "required": True}},
        wrong("size should be int | None type, not <class 'list'>."),
    ),
    "lists and dicts": Case(
        {"a": [1], "b": {"c": 2}},
        {"a": {"type": list, "required": True}, "b": {"type": dict, "required": True}},
        ok(a=[1], b={"c": 2}),
    ),
    "a default missing": Case(
        {}, {"note": {"type": str, "required": False}}, wrong("Schema error, missing default value for note.")
    ),
    "no default, but a value": Case({"note": "x"}, {"note": {"type": str, "required": False}}, ok(note="x")),
    "a type missing": Case(
        {}, {"note": {"required": True}}, wrong("Schema error, missing type for note.", "note is a required input.")
    ),
    "required missing": Case({"note": "x"}, {"note": {"type": str}}, wrong("note is a required input.")),
    "required missing, and the value": Case(
        {}, {"note": {"type": str, "default": "x"}}, wrong("note is a required input.")
    ),
    "nothing in a rule": Case(
        {}, {"note": {}}, wrong("Schema error, missing type for note.", "note is a required input.")
    ),
    "a rule in JSON": Case({}, {"note": '{"type": "str", "required": false, "default": "x"}'}, ok(note="x")),
    "a value for a rule in JSON": Case(
        {"note": "y"}, {"note": '{"type": "str", "required": false, "default": "x"}'}, ok(note="y")
    ),
    "a rule that is a text": Case(
        {"note": "y"},
        {"note": "text"},
        wrong(
            "Schema error, note is not a dictionary.",
            "Schema error, missing type for note.",
            "note is a required input.",
        ),
    ),
    "a rule that is a text, and no value": Case(
        {},
        {"note": "text"},
        wrong(
            "Schema error, note is not a dictionary.",
            "Schema error, missing type for note.",
            "note is a required input.",
        ),
    ),
    "a rule that is a list in JSON": Case(
        {"note": "y"}, {"note": "[1]"}, wrong("Schema error, missing type for note.", "note is a required input.")
    ),
    "much that is wrong at once": Case(
        {"x": 1, "prompt": 5, "scale": "a"},
        {
            "steps": {"type": int, "required": True},
            "prompt": TEXT,
            "scale": {"type": float, "required": True, "constraints": lambda scale: False},
        },
        wrong(
            "Unexpected input. x is not a valid input option.",
            "steps is a required input.",
            "prompt should be <class 'str'> type, not <class 'int'>.",
            "scale should be <class 'float'> type, not <class 'str'>.",
            "scale does not meet the constraints.",
        ),
    ),
    "a name that is no text": Case({5: 1}, {5: {"type": int, "required": True}}, {"validated_input": {5: 1}}),
    "a class of one's own": Case(
        {"n": 1}, {"n": {"type": object, "required": True, "constraints": lambda n: n == 1}}, ok(n=1)
    ),
    "a default that is of another type": Case(
        {}, {"n": {"type": int, "required": False, "default": "many"}}, ok(n="many")
    ),
    "NaN for a float": Case(
        {"n": "nan"},
        {"n": {"type": float, "required": True}},
        wrong("n should be <class 'float'> type, not <class 'str'>."),
    ),
    "a large int for a float": Case({"n": 10**20}, {"n": {"type": float, "required": True}}, ok(n=1e20)),
    "a required one with a default": Case(
        {}, {"n": {"type": int, "required": True, "default": 5}}, wrong("n is a required input.")
    ),
    "required as a number": Case({}, {"n": {"type": int, "required": 0, "default": 5}}, ok(n=5)),
    "a constraint that returns no bool": Case(
        {"n": 5},
        {"n": {"type": int, "required": True, "constraints": lambda n: []}},
        wrong("n does not meet the constraints."),
    ),
    "a constraint for what was left out": Case(
        {},
        {"n": {"type": int, "required": False, "constraints": lambda n: n is None}},
        wrong("Schema error, missing default value for n."),
    ),
}
