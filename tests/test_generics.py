"""Generic classes: which types stand in the place of their variables in a class that is served."""

import dataclasses
from collections.abc import Callable, Iterator
from typing import Annotated, Any, Generic, Literal, Optional, TypeVar

import pytest
import typing_extensions
from pydantic import BaseModel

import streamapp
from streamapp.endpoint import EndpointSpec
from streamapp.errors import DefinitionError
from streamapp.testing import TestClient

S = TypeVar("S")
T = TypeVar("T")
Out = TypeVar("Out")
Bound = TypeVar("Bound", bound="Prompt")
Preset = typing_extensions.TypeVar("Preset", default=float)


class Prompt(BaseModel):
    prompt: str = ""


class Painting(Prompt):
    steps: int = 1


class Wrapped(BaseModel, Generic[T]):
    value: T


@dataclasses.dataclass
class Plain(Generic[T]):
    value: T


class Base(streamapp.App, Generic[T, Out]):
    @streamapp.endpoint("/run")
    def run(self, input: T) -> Iterator[Out]:
        yield from ()


class Middle(Base[list[S], S], Generic[S]):
    """Give one variable by the other."""


class Mixin(Generic[T]):
    @streamapp.endpoint("/mixed")
    def mixed(self, input: T) -> T:
        return input


class Both(Mixin[int], Base[str, bytes]):
    """Have the same variable stand for two types."""


class Unnamed(Both):
    """Say nothing more."""


class Quoted(Base["Prompt", "list[Painting]"]):
    """Name what may be defined further down."""


def spec_of(cls: type[streamapp.App], path: str = "/run") -> EndpointSpec:
    return next(spec for spec in cls.endpoints() if spec.path == path)


def types_of(cls: type[streamapp.App], path: str = "/run") -> tuple[Any, Any]:
    spec = spec_of(cls, path)
    return spec.parameters[0].annotation, spec.item_type


def test_a_subclass_gives_the_types_of_inputs_and_outputs() -> None:
    class Child(Base[Painting, Prompt]): ...

    assert types_of(Child) == (Painting, Prompt)


def test_two_subclasses_have_endpoints_of_their_own() -> None:
    class One(Base[int, Prompt]): ...

    class Other(Base[str, Prompt]): ...

    assert [types_of(cls)[0] for cls in (One, Other)] == [int, str]


def test_types_pass_through_several_levels() -> None:
    class Child(Middle[Prompt]): ...

    class Grandchild(Child): ...

    assert types_of(Child) == types_of(Grandchild) == (list[Prompt], Prompt)


def test_a_variable_stands_for_what_each_base_class_is_given() -> None:
    assert types_of(Both) == types_of(Unnamed) == (str, bytes)
    assert types_of(Both, "/mixed") == types_of(Unnamed, "/mixed") == (int, int)


def test_types_may_be_named_in_quotes() -> None:
    assert types_of(Quoted) == (Prompt, list[Painting])


def test_a_type_is_given_wherever_its_variable_stands() -> None:
    class Everywhere(streamapp.App, Generic[T]):
        @streamapp.endpoint("/run")
        def run(
            self,
            items: list[T],
            named: dict[str, T],
            several: tuple[T, ...],
            maybe: T | None,
            older: Optional[T],  # noqa: UP045
            annotated: list[Annotated[T | None, "kept"]],
            model: Wrapped[T],
            nested: list[Wrapped[list[T]]],
            plain: Plain[T],
            kind: type[T],
        ) -> None: ...

    class Child(Everywhere[Prompt]): ...

    assert {parameter.name: parameter.annotation for parameter in spec_of(Child).parameters} == {
        "items": list[Prompt],
        "named": dict[str, Prompt],
        "several": tuple[Prompt, ...],
        "maybe": Prompt | None,
        "older": Optional[Prompt],  # noqa: UP045
        "annotated": list[Annotated[Prompt | None, "kept"]],
        "model": Wrapped[Prompt],
        "nested": list[Wrapped[list[Prompt]]],
        "plain": Plain[Prompt],
        "kind": type[Prompt],
    }


def test_other_types_stay_as_they_are() -> None:
    class Child(Mixin[Prompt], streamapp.App):
        @streamapp.endpoint("/run")
        def run(self, a: Literal["T"], b: Wrapped[int], c: Callable[[int], str], d: Bound, e: list[Bound]) -> None: ...

    assert [parameter.annotation for parameter in spec_of(Child).parameters] == [
        *(Literal["T"], Wrapped[int], Callable[[int], str], Bound, list[Bound])  # type: ignore[valid-type]
    ]


@pytest.mark.parametrize(
    ("cls", "message"),
    [
        (Base, r"Base does not say which type T of Base is; write class Child\(Base\[...\]\)"),
        (Middle, r"Middle does not say which type S of Middle is; write class Child\(Middle\[...\]\)"),
    ],
)
def test_a_generic_class_is_not_served_itself(cls: type[streamapp.App], message: str) -> None:
    with pytest.raises(DefinitionError, match=rf"@endpoint\('/run'\) on Base.run: {message}"):
        cls.endpoints()


def test_a_subclass_that_gives_no_type_is_told_what_to_write() -> None:
    class Child(Middle): ...  # type: ignore[type-arg]

    with pytest.raises(
        DefinitionError, match=r"Child does not say .* S of Middle is; write class Child\(Middle\[...\]\)"
    ):
        Child.endpoints()


def test_a_bound_is_no_type_that_was_given() -> None:
    class Bounded(streamapp.App, Generic[Bound]):
        @streamapp.endpoint("/run")
        def run(self, input: Bound) -> None: ...

    class Child(Bounded): ...  # type: ignore[type-arg]

    with pytest.raises(DefinitionError, match="which type Bound"):
        Child.endpoints()


def test_a_name_that_is_not_known_is_told() -> None:
    class Child(Base["Missing", int]): ...  # type: ignore[name-defined]

    with pytest.raises(DefinitionError, match="name 'Missing' is not defined"):
        Child.endpoints()


def test_a_variable_that_nobody_gives_is_its_default() -> None:
    class Defaulted(streamapp.App, Generic[T, Preset]):
        @streamapp.endpoint("/run")
        def run(self, first: T, input: Preset) -> None: ...

    class Child(Defaulted[int]): ...

    class Bare(Mixin[int], Defaulted): ...  # type: ignore[type-arg]

    assert [parameter.annotation for parameter in spec_of(Child).parameters] == [int, float]
    with pytest.raises(DefinitionError, match="which type T of .*Defaulted is"):
        Bare.endpoints()


def test_a_class_may_be_served_that_leaves_only_defaults_open() -> None:
    class Defaulted(streamapp.App, Generic[Preset]):
        @streamapp.endpoint("/run")
        def run(self, input: Preset) -> None: ...

    assert types_of(Defaulted)[0] is float


def test_no_field_of_a_given_type_is_lost() -> None:
    class Echo(streamapp.App, Generic[Bound]):
        @streamapp.endpoint("/run")
        def run(self, input: Bound) -> Bound:
            return input

    class Child(Echo[Painting]): ...

    with TestClient(Child) as client:
        assert client.run("/run", {"prompt": "a", "steps": 3}) == {"prompt": "a", "steps": 3}
