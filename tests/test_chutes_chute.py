"""What is written of a chute, and what is said of what cannot be."""

from collections.abc import Callable
from typing import Any

import pytest

from streamapp.chutes import Chute
from streamapp.chutes.selector import NodeSelector
from streamapp.errors import DefinitionError


async def helper(self: Any, number: int) -> int:
    return number * int(self.factor)


def of_nobody(number: int) -> int:
    return number


def declared() -> Chute:
    """Return a chute with one cord."""
    chute = Chute(username="me", name="own")

    @chute.cord()
    async def double(self: Any, number: int) -> int:
        return 2 * number

    return chute


def test_what_was_written_stays_readable() -> None:
    selector = NodeSelector(gpu_count=1)
    assert (Chute(name="own", tagline=None, readme=None).tagline, Chute(name="own").readme) == ("", "")
    chute = Chute("me", "own", None, tagline="A line", readme="# Text", node_selector=selector, revision="abc")
    assert (chute.username, chute.name, chute.image) == ("me", "own", None)
    assert (chute.tagline, chute.readme, chute.node_selector) == ("A line", "# Text", selector)
    assert (chute.revision, chute.shutdown_after_seconds) == ("abc", 300)


def test_a_decorated_function_is_given_back_as_it_is() -> None:
    chute = Chute(name="own")

    async def run(self: Any) -> None: ...

    assert (
        chute.cord()(run) is chute.on_startup()(run) is chute.on_shutdown()(run) is chute.websocket("/ws")(run) is run
    )


def test_its_app_is_made_once_and_has_the_chutes_name() -> None:
    chute = declared()
    app = chute.__streamapp_app__()
    assert app is chute.__streamapp_app__()
    assert (app.app_name, app.__name__) == ("own", "Own")


@pytest.mark.parametrize(
    ("said", "path"),
    [
        ({"public_api_path": "/public", "path": "/own"}, "/public"),
        ({"path": "/own"}, "/own"),
        ({"path": "/own", "stream": False, "provision_timeout": 60, "pass_chute": True}, "/own"),
        ({}, "/run"),
    ],
)
def test_a_cord_is_at_its_public_path_else_at_its_own_else_at_its_name(said: dict[str, Any], path: str) -> None:
    chute = Chute(name="own")

    @chute.cord(**said)
    async def run(self: Any) -> None: ...

    assert [spec.path for spec in chute.__streamapp_app__().endpoints()] == [path]


async def test_functions_of_its_module_are_its_methods() -> None:
    chute = declared()
    chute.__dict__["factor"] = 3  # as `self.factor = 3` of a hook does it
    assert await chute.helper(2) == 6


async def test_cords_are_its_methods() -> None:
    assert await declared().double(2) == 4


def test_what_is_set_on_it_stays_and_goes_before_a_function() -> None:
    chute = declared()
    chute.__dict__["helper"] = "mine"
    assert chute.helper == "mine"


@pytest.mark.parametrize("name", ["log_error", "of_nobody"])
def test_what_is_missing_says_what_to_write(name: str) -> None:
    with pytest.raises(AttributeError, match=f"set it in @chute.on_startup.*{name}.self, .*test_chutes_chute.py"):
        getattr(declared(), name)


def test_of_a_chute_without_functions_it_says_so_as_well() -> None:
    with pytest.raises(AttributeError, match="in the file of the chute"):
        getattr(Chute(name="own"), "anything")  # noqa: B009 - mypy knows `anything` by `__getattr__`


@pytest.mark.parametrize(("name", "advice"), [("job", "write a cord"), ("get", "write @chute.cord")])
def test_what_chutes_own_has_besides_says_what_to_write_instead(name: str, advice: str) -> None:
    with pytest.raises(AttributeError, match=advice):
        getattr(declared(), name)


def test_it_has_no_special_methods_of_its_module() -> None:
    assert not hasattr(declared(), "__fspath__")
    assert not hasattr(Chute.__new__(Chute), "helper")


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ({}, "letters, digits"),
        ({"name": "two words"}, "letters, digits"),
        ({"name": "own", "concurrency": 0}, "from 1 on"),
        ({"name": "own", "tag_line": "x"}, "did you mean 'tagline'"),
        ({"name": "own", "colour": "x"}, "has no 'colour'; what it has: username, name, "),
    ],
)
def test_a_chute_that_cannot_be_is_refused(said: dict[str, Any], message: str) -> None:
    with pytest.raises(DefinitionError, match=message):
        Chute(**said)


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ({"path": "run"}, 'starts with "/"'),
        ({"method": "PUT"}, "write POST or GET"),
        ({"passthrough": True}, "streamapp.Upstream"),
        ({"public_path": "/run"}, "did you mean 'public_api_path'"),
    ],
)
def test_a_cord_that_cannot_be_is_refused(said: dict[str, Any], message: str) -> None:
    with pytest.raises(DefinitionError, match=message):
        Chute(name="own").cord(**said)


@pytest.mark.parametrize(
    ("decorator", "written"),
    [
        (lambda chute, run: chute.cord(run), r"@chute\.cord\(\)"),
        (lambda chute, run: chute.cord("/run"), r"@chute\.cord\(public_api_path='/run'\)"),
        (lambda chute, run: chute.on_startup(run), r"@chute\.on_startup\(\)"),
        (lambda chute, run: chute.on_shutdown(run), r"@chute\.on_shutdown\(\)"),
        (lambda chute, run: chute.websocket(run), r'@chute\.websocket\("/ws"\)'),
    ],
)
def test_a_decorator_without_parentheses_is_refused(decorator: Callable[[Chute, Any], Any], written: str) -> None:
    async def run(self: Any) -> None: ...

    with pytest.raises(DefinitionError, match=f"got .*run.*; write {written}"):
        decorator(Chute(name="own"), run)
