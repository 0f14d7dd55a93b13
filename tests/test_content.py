"""Bytes and paths that an endpoint answers with: what becomes a file, and which files are given away."""

import io
import os
from collections import OrderedDict, deque
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import PIL.Image
import pytest
from pydantic import BaseModel, ConfigDict, Field, PlainSerializer, RootModel, computed_field, field_serializer
from pydantic.dataclasses import dataclass as pydantic_dataclass
from tests.pictures import PNG, PNG_URI, Keeping

from streamapp.errors import NotEncodable
from streamapp.jobs.content import holds_path, is_plain, persistent_folder
from streamapp.jobs.events import Output, Preview, encode, to_event, to_event_at_once
from streamapp.media import File

PIXELS = PIL.Image.new("RGB", (2, 1))
HELLO = {"url": "data:text/plain;base64,aGVsbG8=", "content_type": "text/plain", "file_name": "a.txt", "file_size": 5}


@pytest.fixture
def hello(tmp_path: Path) -> Path:
    """A file below the folder for temporary files."""
    path = tmp_path / "a.txt"
    path.write_text("hello")
    return path


@pytest.fixture
def outside(monkeypatch: pytest.MonkeyPatch, hello: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file that is in none of the folders."""
    elsewhere = str(tmp_path_factory.mktemp("temporary"))
    monkeypatch.setattr("tempfile.tempdir", elsewhere)
    monkeypatch.setenv("STREAMAPP_PERSISTENT_DIR", elsewhere)
    monkeypatch.delenv("FAL_PERSISTENT_DIR", raising=False)
    return hello


class Out(BaseModel):
    model_config = ConfigDict(extra="allow", arbitrary_types_allowed=True)
    video: Path = Field(alias="theVideo")
    text: str = ""
    any: Any = None
    file: File | None = None

    @computed_field  # type: ignore[prop-decorator]
    @property
    def name(self) -> str:
        return self.video.name


class Serialized(BaseModel):
    path: Path

    @field_serializer("path")
    def name_of(self, path: Path) -> str:
        return path.name


@dataclass
class Plain:
    path: Path
    n: int = 1


class Anything(BaseModel):
    value: Any


def materialized(value: Any) -> Any:
    """Return a value with lists in the place of iterators."""
    match value:
        case dict():
            return {key: materialized(item) for key, item in value.items()}
        case list() | Iterator():
            return [materialized(item) for item in value]
        case Anything():
            return Anything(value=materialized(value.value))
    return value


@pydantic_dataclass
class Aliased:
    path: Annotated[Path, Field(serialization_alias="thePath")]


@pytest.mark.parametrize("value", [1, None, "a", {"a": [{"b": 1.5}, [True]]}, [], list(range(20)), {"a": [1] * 20}])
def test_what_is_json_alone_is_plain(value: Any) -> None:
    assert is_plain(value)
    assert not holds_path(value)


@pytest.mark.parametrize("value", [b"", (1,), {"a": [{"b": b""}]}, [*range(20), Path()], File(b""), {"a": object()}])
def test_what_holds_more_than_json_is_not(value: Any) -> None:
    assert not is_plain(value)


class PlainModel(BaseModel):
    text: str
    n: Annotated[int | None, Field(ge=0)] = None
    mode: Literal["a", "b"] = "a"
    many: dict[str, list[float]] = {}


class Computed(BaseModel):
    text: str = ""

    @computed_field  # type: ignore[prop-decorator]
    @property
    def file(self) -> Any:
        return File(b"x")


class Marked(BaseModel):
    text: Annotated[str, PlainSerializer(lambda text: File(text.encode()))]


def test_a_model_of_plain_fields_is_plain() -> None:
    assert is_plain({"a": [PlainModel(text="a")]})
    assert to_event(PlainModel(text="é")).json() == {"text": "é", "n": None, "mode": "a", "many": {}}


@pytest.mark.parametrize("value", [Out, Computed(), Marked(text="x"), Serialized(path=Path()), RootModel[Any](1)])
def test_a_model_of_which_more_is_written_is_not(value: Any) -> None:
    assert not is_plain(value)


def test_what_a_model_makes_of_its_fields_is_kept_as_the_job_wants_it() -> None:
    publisher = Keeping(inline_bytes=-1)
    assert to_event(Computed(), publisher).json()["file"]["url"] == publisher.url
    assert to_event(Marked(text="x"), publisher).json()["text"]["url"] == publisher.url


def test_a_field_that_is_not_what_it_is_declared_as_is_written_all_the_same() -> None:
    text: Any = PIL.Image.new("RGB", (1, 1))
    model = PlainModel.model_construct(text=text)
    with pytest.warns(UserWarning, match="serialized value may not be as expected"):
        assert to_event(model).json()["text"]["content_type"] == "image/png"


# Bytes


@pytest.mark.parametrize("data", [b"x", bytearray(b"x"), memoryview(b"x"), io.BytesIO(b"x")])
def test_bytes_are_a_file_wherever_they_stand(data: Any) -> None:
    file = File(b"x").as_json()
    assert to_event(data).json() == file
    assert to_event(OrderedDict(a=[{"b": (data,)}], c={b"x"})).json() == {"a": [{"b": [file]}], "c": [file]}
    assert to_event(deque([data])).json() == [file]
    assert to_event(Output([data])).json() == [file]


def test_bytes_of_an_image_are_an_image() -> None:
    told = to_event({"image": PNG}).json()["image"]
    assert (told["url"], told["content_type"], told["width"], told["height"]) == (PNG_URI, "image/png", 6, 4)


def test_bytes_are_kept_as_the_job_wants_its_files() -> None:
    publisher = Keeping(inline_bytes=-1)
    assert to_event([b"x"], publisher).json()[0]["url"] == publisher.url
    assert publisher.kept == [File(b"x")]


def test_bytes_of_a_model_or_a_dataclass_are_written_as_it_says() -> None:
    class Bytes(BaseModel):
        model_config = ConfigDict(ser_json_bytes="base64")
        data: bytes

    class Text(BaseModel):
        data: bytes

    assert to_event([Bytes(data=b"\xff"), Text(data=b"a")]).json() == [{"data": "_w=="}, {"data": "a"}]


# Paths


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda path: path, HELLO),
        (lambda path: {"a": [path], "text": str(path)}, {"a": [HELLO], "text": str}),
        (lambda path: {"a": ({path},)}, {"a": [[HELLO]]}),
        (lambda path: {"a": deque([path])}, {"a": [HELLO]}),
        (lambda path: Output(path), HELLO),
        (lambda path: Output({"a": path}, "token"), {"a": HELLO}),
        (lambda path: Preview({"a": path}, step=1), {"a": HELLO, "step": 1, "total": None}),
    ],
)
def test_a_path_is_the_files_content_and_a_string_stays_one(hello: Path, make: Any, told: Any) -> None:
    expected = {key: str(hello) if item is str else item for key, item in told.items()}
    assert to_event(make(hello)).json() == expected


def test_a_path_in_a_model_is_too_and_all_else_is_as_the_model_writes_it(hello: Path) -> None:
    out = Out(theVideo=hello, text=str(hello), any=[{"a": hello}], file=File(b"x"), more=hello)
    assert to_event({"out": out}).json() == {
        "out": {
            "theVideo": HELLO,
            "text": str(hello),
            "any": [{"a": HELLO}],
            "file": File(b"x").as_json(),
            "more": HELLO,
            "name": "a.txt",
        }
    }


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda path: Serialized(path=path), {"path": "a.txt"}),
        (lambda path: RootModel[list[Path]]([path]), [HELLO]),
        (lambda path: Plain(path), {"path": HELLO, "n": 1}),
        (lambda path: [Aliased(path)], [{"thePath": HELLO}]),
        (lambda path: Out(theVideo=path, any=Plain(path)), {"theVideo": HELLO, "any": {"path": HELLO, "n": 1}}),
        (lambda path: Out(theVideo=path, any=RootModel[dict[str, Path]]({"a": path})), {"any": {"a": HELLO}}),
    ],
)
def test_so_it_is_in_all_that_has_fields(hello: Path, make: Any, told: Any) -> None:
    value = to_event(make(hello)).json()
    assert value == told or {key: value[key] for key in told} == told


def test_a_path_of_an_image_has_its_size(tmp_path: Path) -> None:
    (tmp_path / "image").write_bytes(PNG)
    told = to_event(tmp_path / "image", Keeping()).json()
    assert (told["content_type"], told["width"], told["file_name"]) == ("image/png", 6, "image")


def test_a_relative_path_counts_from_where_the_process_is(hello: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(hello.parent)
    assert to_event(Path("a.txt")).json() == HELLO


# Large files


def large(path: Path, start: bytes = b"") -> Path:
    path.write_bytes(start + bytes(2**20 + 1))
    return path


@pytest.mark.parametrize(
    ("name", "start", "content_type"),
    [("a.mp4", b"", "video/mp4"), ("a", b"OggS", "audio/ogg"), ("a", b"", "application/octet-stream")],
)
def test_a_large_file_goes_into_the_store_without_being_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, start: bytes, content_type: str
) -> None:
    path, publisher = large(tmp_path / name, start), Keeping()
    size = path.stat().st_size
    monkeypatch.setattr(Path, "read_bytes", None)
    described = {"content_type": content_type, "file_name": name, "file_size": size}
    assert to_event([path], publisher).json() == [{"url": publisher.url, **described}]
    assert publisher.kept == [path]


@pytest.mark.parametrize("publisher", [None, Keeping(url=None), Keeping(inline_bytes=float("inf"))])
def test_a_large_file_that_is_not_kept_is_inline(tmp_path: Path, publisher: Keeping | None) -> None:
    assert to_event(large(tmp_path / "a"), publisher).json()["url"].startswith("data:")


def test_a_large_image_is_kept_with_its_size(tmp_path: Path) -> None:
    publisher = Keeping()
    assert to_event(large(tmp_path / "a.png", PNG), publisher).json()["width"] == 6
    assert isinstance(publisher.kept[0], File)


# Dataclasses of the standard library


@dataclass
class Labelled:
    image_url: Annotated[Any, Field(alias="imageUrl")]
    n: Annotated[int, Field(ge=0)] = 0


@dataclass
class Around:
    item: Labelled


@dataclass
class Unresolved:
    n: "Nowhere"  # type: ignore[name-defined]  # noqa: F821


def test_a_dataclass_is_written_by_its_aliases_wherever_it_stands(hello: Path) -> None:
    told = {"imageUrl": "u", "n": 0}
    assert to_event(Labelled("u")).json() == told
    assert to_event({"a": [Labelled("u"), Around(Labelled("u"))]}).json() == {"a": [told, {"item": told}]}
    assert to_event(Anything(value=Labelled(hello))).json() == {"value": {"imageUrl": HELLO, "n": 0}}
    assert to_event(Unresolved(1)).json() == {"n": 1}


# Iterators, which can be taken apart once


@pytest.mark.parametrize(
    "given",
    [
        lambda: iter([PIXELS, "a"]),
        lambda: {"a": [map(str, (1, 2)), (image for image in (PIXELS, PIXELS))]},
        lambda: Anything(value={"a": iter([PIXELS])}),
    ],
)
def test_what_an_iterator_gives_comes_whole_although_it_is_too_much_to_be_encoded_at_once(given: Any) -> None:
    value = given()
    assert to_event_at_once(value) is None
    assert to_event(value).data == to_event(materialized(given())).data


def test_files_of_an_iterator_are_given(hello: Path) -> None:
    assert to_event(path for path in [hello]).json() == [HELLO]


# What is not given away


def test_on_the_loop_no_file_is_read(hello: Path) -> None:
    for value in (hello, {"a": [hello]}, Plain(hello), Preview({"a": hello})):
        assert to_event_at_once(value) is None


def test_a_file_of_another_folder_is_refused_and_what_to_write_is_said(outside: Path) -> None:
    with pytest.raises(NotEncodable, match=r"a\.txt is no file below /apps/mine, .*write streamapp.File.from_path"):
        to_event({"a": outside}, Keeping(folder=Path("/apps/mine")))


def test_files_of_the_apps_own_folder_and_those_kept_for_long_are_given(
    outside: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert to_event(outside, Keeping(folder=outside.parent.resolve())).json() == HELLO
    for variable in ("STREAMAPP_PERSISTENT_DIR", "FAL_PERSISTENT_DIR"):
        with monkeypatch.context() as patched:
            patched.setenv(variable, str(outside.parent))
            assert to_event(outside).json() == HELLO


def test_a_link_is_where_it_leads_to(outside: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("app").resolve()
    (folder / "link").symlink_to(outside)
    (folder / "up").symlink_to(outside.parent)
    for path in (folder / "link", folder / "up" / "a.txt", folder / ".." / outside.parent.name / "a.txt"):
        with pytest.raises(NotEncodable, match="is no file below"):
            to_event(path, Keeping(folder=folder))


def test_what_is_no_file_is_said_to_be_none(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    for path, problem in (
        (tmp_path / "none.mp4", r"no file at .*none\.mp4: No such file"),
        (tmp_path, "is a folder; answer with its files"),
        (tmp_path / "pipe", "is no file below"),
        (tmp_path / "loop", "no file at .*loop"),
    ):
        with pytest.raises(NotEncodable, match=problem):
            to_event({"a": path})


def test_what_is_written_of_errors_and_states_gives_no_file_away(hello: Path) -> None:
    assert encode({"a": hello, "b": b"x"}) == b'{"a":"%b","b":"eA=="}' % str(hello).encode()


@pytest.mark.parametrize("value", [1, "a", {"a": b"x"}, [File(b"x")], Plain, RootModel[int](1), object()])
def test_other_values_have_no_path(value: Any) -> None:
    assert not holds_path(value)


def test_what_is_kept_for_long_is_in_the_users_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("STREAMAPP_PERSISTENT_DIR", raising=False)
    assert persistent_folder().endswith("/.cache/streamapp")


def test_what_has_no_end_may_hold_a_path() -> None:
    circle: list[Any] = []
    circle.append(circle)
    assert holds_path(circle)
