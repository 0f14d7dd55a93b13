"""Put types in the place of the type variables of generic classes: in `class Child(Base[Prompt])`, `Prompt` for `T`.

`typing.get_type_hints` gives the annotations of an inherited method as its own class has them, with the variables, and
pydantic takes a variable for its bound: the fields of `Prompt` would be lost. Variables of a method's own are left to
pydantic.
"""

import sys
import typing
from collections.abc import Callable
from functools import reduce
from operator import or_
from types import SimpleNamespace, UnionType
from typing import Annotated, Any, TypeVar

from .errors import DefinitionError


def resolve_variables(hints: dict[str, Any], cls: type, *, base: type) -> dict[str, Any]:
    """Return the annotations of a method that `cls` has from its base class `base`, or defines itself.

    Raises:
        DefinitionError: no class says which type a variable is; says what to write.
        NameError, TypeError: one says it by a name that is not known.
    """
    types = _types_in(cls, base)

    def given(variable: Any) -> Any:
        return _with_types(types[variable], left_open) if variable in types else left_open(variable)

    def left_open(variable: Any) -> Any:
        between = (each for each in cls.__mro__ if issubclass(each, base))
        generic = next((each for each in between if variable in getattr(each, "__parameters__", ())), None)
        if generic is None:
            return variable
        if getattr(variable, "has_default", bool)():  # PEP 696; one of `typing`'s has none before Python 3.13
            return variable.__default__
        raise DefinitionError(
            f"{cls.__qualname__} does not say which type {variable.__name__} of {generic.__qualname__} is; write "
            f"class {'Child' if generic is cls else cls.__name__}({generic.__name__}[...]) with a type in the brackets"
        )

    return {name: _with_types(annotation, given) for name, annotation in hints.items()}


def _types_in(cls: type, base: type) -> dict[Any, Any]:
    """Return what the variables of `base` are in its subclass `cls`, which may be variables of its own."""
    found: dict[Any, Any] = {}
    for written in () if cls is base else vars(cls).get("__orig_bases__", cls.__bases__):
        origin = typing.get_origin(written) or written
        if not (isinstance(origin, type) and issubclass(origin, base)):
            continue
        arguments = [_evaluated(argument, cls) for argument in typing.get_args(written)]
        own = dict(zip(getattr(origin, "__parameters__", ()), arguments, strict=False))
        found = {**_types_through(origin, own, base), **found}
    return found


def _types_through(origin: type, own: dict[Any, Any], base: type) -> dict[Any, Any]:
    if origin is base:
        return own
    above = _types_in(origin, base)
    return {variable: _with_types(type_, lambda each: own.get(each, each)) for variable, type_ in above.items()}


def _evaluated(argument: Any, cls: type) -> Any:
    """Return a type that may be, or hold, a string that names one of the module of `cls`."""
    names = vars(sys.modules[cls.__module__])
    return typing.get_type_hints(SimpleNamespace(__annotations__={"x": argument}), names, include_extras=True)["x"]


def _with_types(annotation: Any, type_of: Callable[[Any], Any]) -> Any:
    if isinstance(annotation, TypeVar):
        return type_of(annotation)
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if model := getattr(annotation, "__pydantic_generic_metadata__", None):  # a class, and no alias; `M[T]` may be `M`
        origin, arguments = model["origin"] or annotation, model["args"] or model["parameters"]
    if origin is Annotated:
        arguments = arguments[:1]
    types = tuple(_with_types(argument, type_of) for argument in arguments)
    if types == arguments:
        return annotation
    if origin is Annotated:
        return Annotated[(*types, *annotation.__metadata__)]
    return reduce(or_, types) if origin is UnionType else origin[types]
