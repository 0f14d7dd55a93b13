"""The playground's sources: their rooms in one order, and nothing in them that is of no use."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[1] / "src/streamapp/playground/source"
# A room imports what is in rooms behind it, and nothing of those before it.
ROOMS = ("", "stage", "panels", "form", "show", "parts", "runs")
FILES = {
    path.relative_to(SOURCE).with_suffix("").as_posix(): path.read_text()
    for folder in ROOMS
    for path in (SOURCE / folder).glob("*.ts*")
    if path.suffix in {".ts", ".tsx"} and not path.name.endswith(".config.ts") and path.stem != "licenses"
}
STYLES = {path.relative_to(SOURCE).as_posix(): path.read_text() for path in SOURCE.glob("[!n]*/*.css")}
# Not written in a class of ours: the form's library has them.
FOREIGN = {"rjsf-field-error", "checkboxes", "array-item-list"}


def imports(module: str) -> Iterator[str]:
    for path in re.findall(r'(?:from|import\(|import) ?"(\.[^"]+)"', FILES[module]):
        found = ((SOURCE / module).parent / path).resolve().relative_to(SOURCE).as_posix()
        if found in FILES:
            yield found


def place(module: str) -> int:
    return ROOMS.index(module.rpartition("/")[0])


def test_rooms_import_only_those_behind_them() -> None:
    assert not [(one, other) for one in FILES for other in imports(one) if place(other) < place(one)]


def test_no_files_import_each_other_in_a_circle() -> None:
    left = {module: set(imports(module)) for module in FILES}
    while free := {module for module, needed in left.items() if not needed & left.keys()}:
        left = {module: needed for module, needed in left.items() if module not in free}
    assert not left


def test_each_class_with_a_style_is_one_that_something_has() -> None:
    source = " ".join(FILES.values())
    known = set(re.findall(r"[\w-]+", source)) | FOREIGN
    begun = {name for name in known if name.endswith("-")}  # `of-${kind}`
    styles = [SOURCE / "style.css", *(SOURCE / path for path in STYLES)]
    bare = re.sub(r"/\*.*?\*/|\"[^\"]*\"|url\([^)]*\)", "", " ".join(path.read_text() for path in styles), flags=re.S)
    styled = {
        name for selector in re.findall(r"([^{};]+)\{", bare) for name in re.findall(r"\.([a-z][\w-]*)", selector)
    }
    assert not {name for name in styled - known if not name.startswith(tuple(begun))}


@pytest.mark.parametrize("path", STYLES)
def test_colours_and_sizes_of_type_are_those_of_the_page(path: str) -> None:
    """They stand at the top of style.css, in light and in dark, and are looked at there together."""
    text = re.sub(
        r"url\([^)]*\)|linear-gradient\(to right, #440154[^)]*\)", "", STYLES[path]
    )  # a picture; the scale of numbers
    assert not re.findall(r"#[0-9a-fA-F]{3,8}\b|rgba?\(|light-dark\(|font-size:", text)
    assert not [font for font in re.findall(r"font: ?([^;}]+)", text) if not re.match(r"(var\(--\w+\)|inherit)", font)]
