"""Find out what input a handler takes: the schema that its module gives to `rp_validator.validate`, as a JSON schema.

    validated = validate(job["input"], SCHEMA)      # SCHEMA = {"prompt": {"type": str, "required": True}, ...}

The call is found in the source, of the handler's module or of one in its folder that it imports, and the schema is what
that module has by the name: nothing of the user's is called. There is none where nobody calls the validator, where
several mean different ones, and where it could take no input that is JSON: then people write the JSON themselves. What
the constraints allow, which are functions, the handler says.
"""

import ast
import importlib.util
import inspect
import json
import sys
import types
import typing
from collections.abc import Iterator, Mapping
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from types import ModuleType, NoneType
from typing import Any

from ..process.logs import logger

_VALIDATOR = "rp_validator"
_NUMBER = {"type": "number"}
_INTEGER = {"type": "integer"}
_JSON: dict[Any, dict[str, Any]] = {
    str: {"type": "string"},
    bool: {"type": "boolean"},
    int: _INTEGER,
    float: _NUMBER,
    list: {"type": "array", "items": {}},
    dict: {"type": "object", "additionalProperties": True},
    NoneType: {"type": "null"},
}
_RUNS = (ast.Call, ast.Await, ast.NamedExpr, ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)


def schema_of(module: ModuleType | None) -> dict[str, Any] | None:
    """Return the JSON schema of a handler's input; None where its module, if it has one, does not say any."""
    if module is None:
        return None
    found: list[Any] = []
    try:
        for each in _own_modules(module):
            for schema in _schemas_in(each):
                if not any(schema is other or schema == other for other in found):
                    found.append(schema)
        return _json_schema(found[0]) if len(found) == 1 else None
    except Exception:  # the user's values, and source that is not there or no schema: the handler works without a form
        logger.debug("no form for %s", module.__name__, exc_info=True)
        return None


# The calls


def _own_modules(module: ModuleType) -> Iterator[ModuleType]:
    """Yield a module, and those in its folder that it imports, and they."""
    folder = Path(module.__file__ or "").resolve().parent
    left, seen = [module], {module.__name__}
    while left:
        yield (one := left.pop())
        for name in _imported(inspect.getsource(one), one.__package__):
            other = sys.modules.get(name)
            if other is not None and name not in seen and _is_below(folder, other):
                left.append(other)
            seen.add(name)


def _is_below(folder: Path, module: ModuleType) -> bool:
    """Say whether a module is found from a folder by its name: what is installed may be below it as well."""
    file = Path(getattr(module, "__file__", None) or "").resolve()
    if file.suffix != ".py" or not file.is_relative_to(folder):
        return False
    parts = [part for part in file.relative_to(folder).with_suffix("").parts if part != "__init__"]
    return module.__name__.split(".")[-len(parts) :] == parts


@lru_cache(maxsize=64)
def _imported(source: str, package: str | None) -> tuple[str, ...]:
    """Return all that a module of a package may import; what the handlers of one folder share is read once."""
    names: list[str] = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = importlib.util.resolve_name("." * node.level + (node.module or ""), package)
            names += [base, *(f"{base}.{alias.name}" for alias in node.names)]
    return tuple(names)


def _schemas_in(module: ModuleType) -> Iterator[Any]:
    """Yield what a module has its input validated by; what goes for a part of the input says nothing of the whole."""
    source = inspect.getsource(module)
    if "validate" not in source:
        return
    tree = ast.parse(source)
    names = set(_names_of_validate(tree))
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and ast.unparse(node.func) in names:
            words = {word.arg: word.value for word in node.keywords}
            given, schema = [*node.args, *(words[name] for name in ("raw_input", "schema") if name in words)]
            if not _is_part(given):
                yield _value_of(schema, tree, vars(module))


def _names_of_validate(tree: ast.Module) -> Iterator[str]:
    """Yield how a module may call the validator: `validate`, `rp_validator.validate`, or as it has named either."""
    for node in ast.walk(tree):
        match node:
            case ast.ImportFrom(module=str(module)) if module.split(".")[-1] == _VALIDATOR:
                yield from (alias.asname or alias.name for alias in node.names if alias.name == "validate")
            case ast.ImportFrom(names=names) | ast.Import(names=names):
                validators = [alias for alias in names if alias.name.split(".")[-1] == _VALIDATOR]
                yield from (f"{alias.asname or alias.name}.validate" for alias in validators)
            case ast.Attribute(attr="validate", value=ast.Attribute(attr="rp_validator")):
                yield ast.unparse(node)


def _is_part(given: ast.expr) -> bool:
    match given:
        case (
            ast.Subscript(slice=ast.Constant(key))
            | ast.Call(func=ast.Attribute(attr="get"), args=[ast.Constant(key), *_])
        ):
            return bool(key != "input")
    return False


def _value_of(node: ast.expr, tree: ast.Module, names: Mapping[str, Any]) -> Any:
    """Return what an expression stands for: a name, one of a module, or a dict that is written out."""
    match node:
        case ast.Name(name) if name in names:
            return names[name]
        case ast.Name(name):  # a function has it
            (value,) = _assigned(name, tree)
            return _value_of(value, tree, names)
        case ast.Attribute(value, attribute):
            return getattr(_value_of(value, tree, names), attribute)
        case ast.Dict() if not _runs(node):
            return eval(compile(ast.Expression(node), "<schema>", "eval"), {**names})
    raise ValueError(f"{ast.unparse(node)} is known only when the handler runs")


def _assigned(name: str, tree: ast.Module) -> Iterator[ast.expr]:
    for node in ast.walk(tree):
        match node:
            case (
                ast.Assign(targets=[ast.Name(target)], value=value)
                | ast.AnnAssign(target=ast.Name(target), value=ast.expr() as value)
            ) if target == name:
                yield value


def _runs(node: ast.AST) -> bool:
    """Say whether to evaluate an expression would call something; what a lambda holds is not evaluated."""
    if isinstance(node, ast.Lambda):
        return False
    return isinstance(node, _RUNS) or any(map(_runs, ast.iter_child_nodes(node)))


# The schema


def _json_schema(schema: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Say in JSON schema what the validator takes: it refuses keys that it does not know."""
    needed = [name for name, rules in schema.items() if rules["required"] or "default" not in rules]
    return {
        "type": "object",
        "properties": {name: _field(rules) for name, rules in schema.items()},
        **({"required": needed} if needed else {}),
        "additionalProperties": False,
    }


def _field(rules: Mapping[str, Any]) -> dict[str, Any]:
    """Describe one field: of its type, or of that of its default, which the validator takes as well."""
    kinds = [_JSON[cls] for cls in dict.fromkeys(_classes(rules["type"]))]
    preset = {}
    if "default" in rules:
        with suppress(TypeError, ValueError):  # no JSON: the handler alone can give it
            preset = {"default": json.loads(json.dumps(rules["default"], allow_nan=False))}
            kinds.append(_JSON.get(type(rules["default"]), kinds[0]))
    members = [
        kind for n, kind in enumerate(kinds) if kind not in kinds[:n] and (kind is not _INTEGER or _NUMBER not in kinds)
    ]
    return {**(members[0] if len(members) == 1 else {"anyOf": members}), **preset}


def _classes(type_: Any) -> Iterator[Any]:
    """Yield the classes that `isinstance` would look for."""
    if isinstance(type_, tuple):
        for each in type_:
            yield from _classes(each)
    elif isinstance(type_, types.UnionType) or typing.get_origin(type_) is typing.Union:
        yield from typing.get_args(type_)
    else:
        yield type_
