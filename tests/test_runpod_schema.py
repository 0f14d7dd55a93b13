"""What input a handler takes is read from the schema that it validates by."""

import itertools
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from streamapp.loading import _import_file
from streamapp.runpod.schema import schema_of

IMPORT = "from runpod.serverless.utils.rp_validator import validate\n"
PROMPT = {"type": "object", "properties": {"prompt": {"type": "string"}}, "required": ["prompt"]}
SCHEMA = 'SCHEMA = {"prompt": {"type": str, "required": True}}\n'
CALL = "def handler(job):\n    return validate(job['input'], SCHEMA)\n"
NUMBERS = itertools.count()


@pytest.fixture(autouse=True)
def validator(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let `import runpod` find a validator, whose place alone counts here."""
    names = ("runpod", "runpod.serverless", "runpod.serverless.utils", "runpod.serverless.utils.rp_validator")
    modules = [ModuleType(name) for name in names]
    for module, below in itertools.pairwise(modules):
        setattr(module, below.__name__.rpartition(".")[2], below)
    vars(modules[-1])["validate"] = None
    for module in modules:
        monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.setattr(sys, "path", sys.path[:])


def read(folder: Path, source: str, **others: str) -> dict[str, Any] | None:
    """Return what is read from a handler's source; `others` are modules beside it."""
    for name, text in others.items():
        place = folder / f"{name.replace('__', '/')}.py"
        place.parent.mkdir(exist_ok=True)
        place.write_text(text)
    file = folder / f"handler_{next(NUMBERS)}.py"
    file.write_text(source)
    return schema_of(_import_file(file))


def field(folder: Path, rules: str) -> Any:
    schema = read(folder, f'{IMPORT}SCHEMA = {{"x": {{{rules}}}}}\n{CALL}')
    return schema and schema["properties"]["x"]


@pytest.mark.parametrize(
    "source",
    [
        IMPORT + SCHEMA + CALL,
        f"from runpod.serverless.utils.rp_validator import validate as check\n{SCHEMA}{CALL}".replace(
            " validate(", " check("
        ),
        f"from runpod.serverless.utils import rp_validator\n{SCHEMA}{CALL}".replace(
            "validate(", "rp_validator.validate("
        ),
        f"import runpod.serverless.utils.rp_validator as v\n{SCHEMA}{CALL}".replace("validate(", "v.validate("),
        f"import runpod\n{SCHEMA}{CALL}".replace("validate(", "runpod.serverless.utils.rp_validator.validate("),
        f"{IMPORT}{SCHEMA}def handler(job):\n    validate(schema=SCHEMA, raw_input=job.get('input', {{}}))",
        f"{IMPORT}def handler(job):\n    return validate(job['input'], {SCHEMA.removeprefix('SCHEMA = ').strip()})",
        f"{IMPORT}def handler(job):\n    {SCHEMA}    return validate(job['input'], SCHEMA)",
        f"{IMPORT}class Own:\n    {SCHEMA}def handler(job):\n    return validate(job['input'], Own.SCHEMA)",
        f"{IMPORT}{SCHEMA}{CALL}def other(job):\n    return validate(job['input'], SCHEMA)",
        f"{IMPORT}{SCHEMA}{CALL}def other(job):\n    return validate(job['input']['part'], {{}})",
    ],
)
def test_the_schema_is_found_however_the_validator_is_called(tmp_path: Path, source: str) -> None:
    assert read(tmp_path, source) == {**PROMPT, "additionalProperties": False}


def test_a_schema_of_a_module_beside_the_handler_is_found(tmp_path: Path) -> None:
    source = f"{IMPORT}from schemas_beside import SCHEMA\n{CALL}"
    assert read(tmp_path, source, schemas_beside=SCHEMA) == {**PROMPT, "additionalProperties": False}


def test_a_call_in_a_module_beside_the_handler_is_found(tmp_path: Path) -> None:
    checks = f"{IMPORT}import tools_of_it.schemas\ndef check(given):\n    validate(given, tools_of_it.schemas.SCHEMA)"
    others = {"tools_of_it__checks": checks, "tools_of_it__schemas": SCHEMA, "tools_of_it____init__": ""}
    source = "import json\nfrom tools_of_it.checks import check\ndef handler(job):\n    check(job['input'])"
    assert read(tmp_path, source, **others) == {**PROMPT, "additionalProperties": False}


def test_a_call_in_the_same_package_is_found(tmp_path: Path) -> None:
    checks = f"{IMPORT}{SCHEMA}def check(given):\n    validate(given, SCHEMA)"
    package = tmp_path / "package_of_it"
    package.mkdir()
    assert read(package, "from . import checks", checks=checks, __init__="") == {
        **PROMPT,
        "additionalProperties": False,
    }


@pytest.mark.parametrize(
    ("rules", "described"),
    [
        ("'type': int, 'required': True", {"type": "integer"}),
        ("'type': float, 'required': False, 'default': 7", {"type": "number", "default": 7}),
        ("'type': bool, 'required': False, 'default': False", {"type": "boolean", "default": False}),
        ("'type': list, 'required': False, 'default': [1]", {"type": "array", "items": {}, "default": [1]}),
        ("'type': dict, 'required': True", {"type": "object", "additionalProperties": True}),
        ("'type': (int, float), 'required': True", {"type": "number"}),
        ("'type': (str, list), 'required': True", {"anyOf": [{"type": "string"}, {"type": "array", "items": {}}]}),
        ("'type': str | None, 'required': True", {"anyOf": [{"type": "string"}, {"type": "null"}]}),
        (
            "'type': __import__('typing').Optional[str], 'required': True",
            {"anyOf": [{"type": "string"}, {"type": "null"}]},
        ),
        (
            "'type': int, 'required': False, 'default': None",
            {"anyOf": [{"type": "integer"}, {"type": "null"}], "default": None},
        ),
        (
            "'type': str, 'required': False, 'default': 0",
            {"anyOf": [{"type": "string"}, {"type": "integer"}], "default": 0},
        ),
        (
            "'type': int, 'required': False, 'default': 1, 'constraints': lambda x: x > 0",
            {"type": "integer", "default": 1},
        ),
        ("'type': float, 'required': False, 'default': float('inf')", {"type": "number"}),
        ("'type': str, 'required': False, 'default': object()", {"type": "string"}),
    ],
)
def test_a_field_is_described_as_the_validator_takes_it(tmp_path: Path, rules: str, described: Any) -> None:
    assert field(tmp_path, rules) == described


def test_a_field_without_a_default_is_required_whatever_it_says(tmp_path: Path) -> None:
    source = f"{IMPORT}SCHEMA = {{'x': {{'type': int, 'required': False}}}}\n{CALL}"
    assert (read(tmp_path, source) or {})["required"] == ["x"]


def test_a_schema_without_fields_takes_nothing(tmp_path: Path) -> None:
    closed = {"type": "object", "properties": {}, "additionalProperties": False}
    assert read(tmp_path, f"{IMPORT}SCHEMA = {{}}\n{CALL}") == closed


@pytest.mark.parametrize(
    "source",
    [
        "def handler(job): ...",
        f"{SCHEMA}def validate(given, schema): ...\n{CALL}",
        f"{IMPORT}{SCHEMA}{CALL}def other(job):\n    validate(job['input'], {{}})",
        f"{IMPORT}def handler(job):\n    validate(job['input']['part'], {{}})",
        f"{IMPORT}def handler(job):\n    validate(job['input'], job['schema'])",
        f"{IMPORT}def handler(job):\n    validate(job['input'], made())",
        f"{IMPORT}def handler(job, schema):\n    validate(job['input'], schema)",
        f"{IMPORT}def handler(job):\n    validate(job['input'], {{'x': {{'type': str, 'default': made()}}}})",
        f"{IMPORT}def handler(job):\n    validate(job['input'])",
        f"{IMPORT}SCHEMA = []\n{CALL}",
        f"{IMPORT}SCHEMA = {{'x': '{{}}'}}\n{CALL}",
        f"{IMPORT}SCHEMA = {{'x': {{'type': str}}}}\n{CALL}",
        f"{IMPORT}SCHEMA = {{'x': {{'required': True}}}}\n{CALL}",
        f"{IMPORT}SCHEMA = {{'x': {{'type': 'str', 'required': True}}}}\n{CALL}",
        f"{IMPORT}SCHEMA = {{'x': {{'type': tuple, 'required': True}}}}\n{CALL}",
        f"{IMPORT}SCHEMA = {{'x': {{'type': list[str], 'required': True}}}}\n{CALL}",
    ],
)
def test_where_it_is_not_clear_there_is_none(tmp_path: Path, source: str) -> None:
    assert read(tmp_path, source) is None


def test_what_is_installed_below_the_handlers_folder_is_not_looked_at(tmp_path: Path) -> None:
    libraries = tmp_path / "lib"
    libraries.mkdir()
    (libraries / "installed_below.py").write_text(f"{IMPORT}{SCHEMA}{CALL}")
    sys.path.insert(0, str(libraries))
    assert read(tmp_path, "import installed_below") is None


@pytest.mark.parametrize("module", [None, ModuleType("made")])
def test_where_there_is_no_source_there_is_none(module: ModuleType | None) -> None:
    assert schema_of(module) is None
