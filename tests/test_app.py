"""App classes: names, options, the endpoints they collect; no HTTP."""

import contextvars
import inspect
import math
from pathlib import Path
from typing import Any

import pytest

import streamapp
from streamapp.app import RequestContext, derive_app_name, description_of, enter_request, is_app_class, title_of
from streamapp.errors import DefinitionError
from streamapp.loading import load_app


class Base(streamapp.App):
    @streamapp.endpoint("/first")
    def first(self) -> int:
        return 1

    @streamapp.endpoint("/second")
    def second(self) -> int:
        return 2

    def unmarked(self) -> int:
        return 3


def paths(app: type[streamapp.App]) -> list[str]:
    return [spec.path for spec in app.endpoints()]


def test_the_help_explains_every_class_option_with_its_default() -> None:
    explained = inspect.getdoc(streamapp.App) or ""
    options = {name: getattr(streamapp.App, name) for name in streamapp.App.__annotations__}
    assert [name for name, default in options.items() if f" {name} = {default!r}" not in explained] == []
    assert "name=" in explained


def test_endpoints_come_in_the_order_of_their_definition_base_classes_first() -> None:
    class Derived(Base):
        @streamapp.endpoint("/a")
        def a(self) -> int:
            return 0

    assert paths(Derived) == ["/first", "/second", "/a"]


def test_a_derived_class_replaces_an_endpoint() -> None:
    class Derived(Base):
        @streamapp.endpoint("/other")
        def first(self) -> int:
            return 1

    assert paths(Derived) == ["/other", "/second"]


def test_a_derived_class_takes_an_endpoint_away_by_overriding_it_without_a_mark() -> None:
    class Derived(Base):
        def first(self) -> int:
            return 1

    assert paths(Derived) == ["/second"]


def test_a_decorator_that_hides_an_endpoint_is_refused() -> None:
    def hiding(function: Any) -> Any:
        return lambda *args: function(*args)

    class Hidden(streamapp.App):
        @hiding
        @streamapp.endpoint("/x")
        def x(self) -> int:
            return 1

    with pytest.raises(DefinitionError, match=r"Hidden\.x: the decorator above hides it; write @functools\.wraps"):
        Hidden.endpoints()


def test_a_method_may_know_an_endpoint_without_hiding_it() -> None:
    @streamapp.endpoint("/x")
    def function(self: Any) -> int:
        return len(late)

    class Other(Base):
        def other(self) -> Any:
            return function(self), late

    assert paths(Other) == ["/first", "/second"]
    late = "what is not set when the class is looked through"


def test_a_mixin_brings_endpoints() -> None:
    class Mixin:
        @streamapp.endpoint("/mixed")
        def mixed(self) -> int:
            return 0

    class Mixed(Mixin, streamapp.App): ...

    assert paths(Mixed) == ["/mixed"]


def test_an_app_without_an_endpoint_is_told_what_to_write() -> None:
    class Empty(streamapp.App): ...

    with pytest.raises(
        DefinitionError, match=r'Empty has no endpoint; mark a method with @streamapp.endpoint\("/stream"'
    ):
        Empty.endpoints()


@pytest.mark.parametrize("path", ["/first", "/first/"])
def test_two_endpoints_on_a_path_are_refused(path: str) -> None:
    class Twice(Base):
        @streamapp.endpoint(path)
        def third(self) -> int:
            return 3

    with pytest.raises(DefinitionError, match=f"first and third are both at '{path}'; change one path"):
        Twice.endpoints()


def test_an_init_of_its_own_is_refused_in_favour_of_setup() -> None:
    with pytest.raises(DefinitionError, match=r"overrides __init__, .* write setup\(self\) instead"):

        class Eager(streamapp.App):
            def __init__(self) -> None: ...


def test_an_init_from_a_mixin_is_refused_as_well() -> None:
    class Mixin:
        def __init__(self) -> None: ...

    with pytest.raises(DefinitionError, match="overrides __init__"):

        class Eager(Mixin, streamapp.App): ...


@pytest.mark.parametrize(
    ("class_name", "app_name"),
    [
        ("MyGoodApp", "my-good-app"),
        ("ONNXModel", "o-n-n-x-model"),
        ("SAM3DStreamApp", "s-a-m-d-stream-app"),
        ("HTTPServer", "h-t-t-p-server"),
        ("GPT4oMini", "g-p-t-mini"),
        ("MyApp2", "my-app"),
        ("MyAPP", "my-a-p-p"),
        ("ABTest", "a-b-test"),
        ("SD3", "s-d"),
        ("My_App", "my-app"),
        ("myApp", "app"),
        ("_Hidden", "hidden"),
        ("Größe", "gr"),
        ("my_app", "my-app"),
        ("_my__app_", "my-app"),
        ("model_2", "model-2"),
        ("lowercase", "lowercase"),
        ("größe", "größe"),
    ],
)
def test_the_name_in_urls_is_derived_as_fal_does(class_name: str, app_name: str) -> None:
    """What fal 1.83.0 makes of them."""
    assert derive_app_name(class_name) == app_name


def test_a_name_can_be_given() -> None:
    class Keyword(streamapp.App, name="given"): ...

    class Attribute(streamapp.App):
        app_name = "written"

    class Derived(Keyword): ...

    assert [cls.app_name for cls in (Keyword, Attribute, Derived)] == ["given", "written", "derived"]


@pytest.mark.parametrize("name", ["My App", "a/b", "{x}", "a?b"])
def test_a_name_that_is_no_part_of_a_url_is_refused(name: str) -> None:
    with pytest.raises(DefinitionError, match="is a part of URLs; write letters, digits, - and _"):
        type("Named", (streamapp.App,), {"app_name": name})


def test_the_options_of_fal_are_kept_for_deployment() -> None:
    class Hosted(streamapp.App, keep_alive=300):
        machine_type = "GPU-A100"
        requirements = ["torch"]

    class Derived(Hosted, min_concurrency=1): ...

    assert (Derived.host_kwargs, Derived.machine_type) == ({"keep_alive": 300, "min_concurrency": 1}, "GPU-A100")
    assert streamapp.App.host_kwargs == {}


def test_setup_and_teardown_are_optional() -> None:
    app: Any = Base()
    assert (app.setup(), app.teardown()) == (None, None)


def test_the_other_hooks_are_optional_too() -> None:
    app: Any = Base()
    assert (app.handle_exit(), app.health(), app.current_request) == (None, {"version": "unknown"}, None)
    with pytest.raises(NotImplementedError):
        app.provide_hints()


@pytest.mark.parametrize(
    ("preference", "read"),
    [
        (b'{"expiration_duration_seconds": 60}', {"expiration_duration_seconds": 60}),
        (b"[]", None),
        (b"[" * 10_000, None),
    ],
)
def test_a_request_is_told_by_its_headers(preference: bytes, read: Any) -> None:
    request = RequestContext(b"x-fal-request-id:1\nx-fal-object-lifecycle-preference:" + preference, "/stream")
    assert (request.request_id, request.endpoint, request.lifecycle_preference) == ("1", "/stream", read)
    assert RequestContext(b"", "/").lifecycle_preference is None


def test_the_current_request_is_that_of_its_context() -> None:
    request = RequestContext(b"", "/")
    context = contextvars.copy_context()
    context.run(enter_request, request)
    app: Any = Base()
    assert (context.run(lambda: app.current_request), app.current_request) == (request, None)


def test_only_subclasses_are_apps() -> None:
    assert is_app_class(Base)
    assert not any(is_app_class(value) for value in (streamapp.App, Base(), int, None))


def test_a_limit_can_be_a_class_keyword_and_one_in_the_class_goes_before_it() -> None:
    class Limited(streamapp.App, request_timeout=5, max_multiplexing=2):
        max_multiplexing = 3

    assert (Limited.request_timeout, Limited.max_multiplexing) == (5, 3)


@pytest.mark.parametrize(
    "option", ["max_queue", "request_timeout", "request_start_timeout", "max_running", "max_multiplexing"]
)
@pytest.mark.parametrize("wrong", [0, "16", math.nan])
def test_a_limit_that_is_none_is_refused_where_the_class_is_written(option: str, wrong: Any) -> None:
    with pytest.raises(DefinitionError, match=f"expected {option} to be a number, more than 0, got {wrong!r}"):
        type("Limited", (streamapp.App,), {option: wrong})


@pytest.mark.parametrize("wrong", [None, 1.5, True])
def test_how_many_run_is_a_whole_number(wrong: Any) -> None:
    with pytest.raises(DefinitionError, match="expected max_running to be an int, got"):
        type("Limited", (streamapp.App,), {"max_running": wrong})


# Its page


def app_in(folder: Path, static: str) -> type[streamapp.App]:
    """Return an app whose file is in a folder."""
    (folder / "app.py").write_text(f"import streamapp\nclass Paged(streamapp.App):\n    static = {static!r}\n")
    return load_app(f"{folder}/app.py")


def page_in(folder: Path) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "index.html").touch()
    return folder


def test_a_page_is_looked_for_beside_the_class_that_names_it(tmp_path: Path) -> None:
    class Derived(app_in(tmp_path, "page")):  # type: ignore[misc]
        pass

    assert (page_in(tmp_path / "page"), Base.page_folder()) == (Derived.page_folder(), None)


@pytest.mark.parametrize("is_text", [True, False])
def test_the_whole_path_of_a_page_may_be_said(tmp_path: Path, is_text: bool) -> None:
    page = page_in(tmp_path / "page")
    assert type("Paged", (Base,), {"static": str(page) if is_text else page}).page_folder() == page  # type: ignore[attr-defined]


def test_a_page_is_not_inherited_where_the_class_says_none(tmp_path: Path) -> None:
    class Derived(app_in(tmp_path, "nowhere")):  # type: ignore[misc]
        static = None

    assert Derived.page_folder() is None


def test_an_endpoint_may_be_called_static() -> None:
    class Own(streamapp.App):
        @streamapp.endpoint("/static")
        def static(self) -> int:  # type: ignore[override]
            return 1

    assert (Own.page_folder(), paths(Own)) == (None, ["/static"])


def test_a_folder_without_a_page_is_refused(tmp_path: Path) -> None:
    app = app_in(tmp_path, "page")
    (tmp_path / "page").mkdir()
    with pytest.raises(DefinitionError, match=r"Paged: static = 'page' .* beside app\.py write page/index\.html"):
        app.page_folder()


@pytest.mark.parametrize("static", [".", "..", "", "../app"])
@pytest.mark.parametrize("has_page", [True, False])
def test_a_page_is_not_to_show_the_apps_source(tmp_path: Path, static: str, has_page: bool) -> None:
    (tmp_path / "app").mkdir()
    for folder in [tmp_path, tmp_path / "app"] if has_page else []:
        (folder / "index.html").write_text("page")
    with pytest.raises(DefinitionError, match=r"would serve app\.py as well; give the page a folder of its own"):
        app_in(tmp_path / "app", static).page_folder()


def test_the_page_of_a_class_without_a_file_has_a_whole_path() -> None:
    nowhere: Any = type("Typed", (Base,), {"static": "page", "__module__": "typed"})
    with pytest.raises(DefinitionError, match="the class's file, and it has none; write the whole path"):
        nowhere.page_folder()


def test_a_page_is_a_folder() -> None:
    wrong: Any = type("Wrong", (Base,), {"static": 7})
    with pytest.raises(DefinitionError, match="Wrong: expected static to be a folder, got 7"):
        wrong.page_folder()


# What people read of an app


def test_the_title_is_what_the_app_says_else_its_name() -> None:
    class Titled(Base):
        title = "Words, one by one"

    class Emptied(Titled):
        title = ""

    class Called(Base):
        @streamapp.endpoint("/title")
        def title(self) -> str:  # type: ignore[override]
            return "an endpoint of that name"

    assert [title_of(app) for app in (Titled, Base, Emptied, Called)] == [
        "Words, one by one",
        "base",
        "emptied",
        "called",
    ]


def test_a_title_that_is_no_text_is_refused() -> None:
    with pytest.raises(DefinitionError, match="Numbered: expected title to be a text, got 5"):
        type("Numbered", (Base,), {"title": 5})


def test_the_description_is_the_apps_own_docstring_or_that_of_its_users_base() -> None:
    class Described(Base):
        """Say more.

        Much more.
        """

    class Derived(Described): ...

    assert description_of(Described) == description_of(Derived) == "Say more.\n\nMuch more."


def test_the_docstring_of_app_itself_describes_no_app() -> None:
    assert (description_of(Base), description_of(streamapp.App)) == ("", "")
