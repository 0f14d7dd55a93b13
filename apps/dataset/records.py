"""Read the records of a file one after another, with no more of it in memory than one of them.

A file is plain lines, JSON Lines, or CSV. Each record says where the next one begins, so that reading goes on there
later. What is wrong with one is its own affair: the next begins behind the next line end.

Divergence: a JSON array is refused. Where one of its items ends can only be known by reading all before it, so nothing
could go on in the middle of one.
"""

import csv
import re
from codecs import BOM_UTF8, BOM_UTF16_BE, BOM_UTF16_LE
from collections.abc import Iterator
from typing import Any, BinaryIO, Literal, NamedTuple

from pydantic_core import from_json

from streamapp.errors import InvalidInput

Format = Literal["lines", "jsonl", "csv"]

MAX_RECORD_BYTES = 1024 * 1024
_HEAD_BYTES = 4096
_BY_NAME: dict[str, Format] = {
    **dict.fromkeys(("jsonl", "ndjson"), "jsonl"),
    **dict.fromkeys(("txt", "log"), "lines"),
    **dict.fromkeys(("csv", "tsv", "tab"), "csv"),  # of the latter two is said what to make of them
}
_BY_TYPE: dict[str, Format] = {
    **dict.fromkeys(("application/x-ndjson", "application/jsonl", "application/x-jsonlines"), "jsonl"),
    **dict.fromkeys(("text/csv", "text/tab-separated-values"), "csv"),
}
_OTHERS = {
    b"\x1f\x8b": "gzip: unpack it before, by gunzip",
    b"PK\x03\x04": "a zip archive: unpack it before, by unzip",
    b"\xfd7zXZ": "xz: unpack it before, by unxz",
    b"BZh9": "bzip2: unpack it before, by bunzip2",
    b"\x28\xb5\x2f\xfd": "Zstandard: unpack it before, by unzstd",
    b"PAR1\x15": "Parquet: write its rows as CSV or JSON Lines",
    b"ARROW1\0\0": "Arrow: write its rows as CSV or JSON Lines",
    b"\xd0\xcf\x11\xe0": "of an old Office: save it as CSV",
    b"%PDF-": "a PDF: write its text a record a line, by pdftotext",
    BOM_UTF16_LE: "in UTF-16: write it in UTF-8, by iconv -t UTF-8",
    BOM_UTF16_BE: "in UTF-16: write it in UTF-8, by iconv -t UTF-8",
}
_ARRAY = re.compile(rb'\s*\[\s*[{\["]')


class Record(NamedTuple):
    """Be a record, or what is wrong with it, or an empty line.

    Attributes:
        text: None where something is wrong, or the line is empty.
        end: the byte of the file where the next one begins.
        line: its last line, from 1.
    """

    text: str | None
    problem: str
    end: int
    line: int


class Place(NamedTuple):
    """Say where a record begins: the byte, and how many lines there are before it."""

    offset: int = 0
    line: int = 0


def format_of(file: BinaryIO, name: str, content_type: str, asked: Format | None = None) -> Format:
    """Return what a file is: what is asked for, else by its name, its content type, or its first bytes.

    Raises:
        InvalidInput: it is none of what can be read here; says what to make of it.
    """
    file.seek(0)
    head = file.read(_HEAD_BYTES)
    for begin, told in _OTHERS.items():
        if head.startswith(begin):
            raise InvalidInput(f"the file is {told}")
    if asked is not None:
        return asked
    named = _BY_NAME.get(name.rpartition(".")[2].lower()) or _BY_TYPE.get(
        content_type.partition(";")[0].strip().lower()
    )
    if named is not None:
        return named
    head = head.removeprefix(BOM_UTF8)
    if _ARRAY.match(head):
        raise InvalidInput(
            "the file is a JSON array, of which no part can be read alone: write a record a line, by jq -c '.[]'"
        )
    return "jsonl" if head.lstrip()[:1] == b"{" else "lines"


def records(file: BinaryIO, format: Format, field: str, begin: Place = Place()) -> Iterator[Record]:
    """Read records from a place on.

    Args:
        field: where of an object, or in which column of CSV, the text is.
    Raises:
        InvalidInput: CSV has no such column; none begins at that place.
    """
    if begin.offset:
        file.seek(begin.offset - 1)
        if file.read(1) != b"\n" and file.read(1):
            raise InvalidInput(f"state: no record of this file begins at its byte {begin.offset}; send the same file")
    if format == "csv":
        yield from _read_csv(file, field, begin)
        return
    for raw, end, line in _lines(file, begin):
        if raw is None:
            yield Record(None, f"longer than {MAX_RECORD_BYTES} bytes", end, line)
            continue
        if raw.isspace():
            yield Record(None, "", end, line)
            continue
        try:
            bare = raw.rstrip(b"\r\n")
            text = bare.decode() if format == "lines" else _text_in(from_json(bare), field)
        except ValueError as error:
            yield Record(None, _told(error), end, line)
        else:
            yield Record(text, "", end, line)


def _lines(file: BinaryIO, begin: Place) -> Iterator[tuple[bytes | None, int, int]]:
    """Yield each line, where it ends, and its number; None for one that is too long, of which nothing is kept."""
    offset, line = begin
    file.seek(offset)
    while raw := file.readline(MAX_RECORD_BYTES + 1):
        line += 1
        offset += len(raw)
        if len(raw) > MAX_RECORD_BYTES:
            while raw[-1] != 10 and (raw := file.readline(MAX_RECORD_BYTES)):
                offset += len(raw)
            yield None, offset, line
        else:
            yield raw if line > 1 else raw.removeprefix(BOM_UTF8), offset, line


def _text_in(value: Any, field: str) -> str:
    text = value.get(field) if isinstance(value, dict) else value
    if isinstance(text, str):
        return text
    if isinstance(value, dict):
        came = f"got {type(text).__name__}" if field in value else f"got the fields {', '.join(value)[:100] or '-'}"
        raise ValueError(f"expected a text in the field {field!r}, {came}")
    raise ValueError(f"expected a text, or an object with the field {field!r}; got {type(value).__name__}")


def _told(error: ValueError) -> str:
    if isinstance(error, UnicodeDecodeError):
        return f"no UTF-8: the byte 0x{error.object[error.start]:02x} at {error.start}"
    return re.sub(r" at line 1 (column \d+)$", r" at \1", str(error))[:200]  # the event says which line it is


class _CsvLines:
    """Give `csv` the lines of a file; say where the one after the last that it took begins."""

    def __init__(self, file: BinaryIO, begin: Place) -> None:
        self.place = begin
        #: where the record begins that is read: with line ends in quotes it could be of any length
        self.begin = begin.offset
        self._lines = _lines(file, begin)

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        raw, *place = next(self._lines)
        self.place = Place(*place)
        if raw is None or self.place.offset - self.begin > MAX_RECORD_BYTES:
            raise csv.Error(f"longer than {MAX_RECORD_BYTES} bytes")
        return raw.decode(errors="surrogateescape")  # a column that nobody asks for need not be UTF-8


def _read_csv(file: BinaryIO, field: str, begin: Place) -> Iterator[Record]:
    lines = _CsvLines(file, Place())
    column, columns = _column(lines, field)
    lines = _CsvLines(file, max(begin, lines.place))
    csv.field_size_limit(max(csv.field_size_limit(), MAX_RECORD_BYTES))  # the process's own; by default an eighth
    rows = csv.reader(lines, strict=True)
    while True:
        lines.begin = lines.place.offset
        text, problem = None, ""
        try:
            if row := next(rows):  # else it is an empty line
                text = _text_of(row, column, columns)
        except StopIteration:
            return
        except UnicodeEncodeError as error:
            problem = f"no UTF-8: the byte 0x{ord(error.object[error.start]) - 0xDC00:02x} at {error.start}"
        except csv.Error as error:
            rows = csv.reader(lines, strict=True)  # which knows of no quote that the other one found open
            problem = _said(error)
        yield Record(text, problem, *lines.place)


def _column(lines: _CsvLines, field: str) -> tuple[int, int]:
    """Return which column a field is, and how many there are."""
    try:
        names = next(csv.reader(lines, strict=True), [])
    except csv.Error as error:
        raise InvalidInput(
            f"the first line of the CSV, which has the columns' names, cannot be read: {_said(error)}"
        ) from None
    if field in names:
        return names.index(field), len(names)
    came = f"expected a column {field!r} in the first line of the CSV, got {', '.join(names)[:200]!r}"
    other = next((mark for mark in ";\t|" if len(names) == 1 and mark in names[0]), None)
    raise InvalidInput(f"{came}: its columns are parted by {other!r}; write commas" if other else came)


def _said(error: csv.Error) -> str:
    """Return what is wrong, in words for callers: of a lone carriage return Python speaks of how it opens files."""
    if "new-line character" in str(error):
        return "a carriage return ends no line; write line feeds, by tr '\\r' '\\n'"
    return str(error)


def _text_of(row: list[str], column: int, columns: int) -> str:
    if len(row) <= column:
        raise csv.Error(f"expected {columns} columns, got {len(row)}")
    row[column].encode()
    return row[column]
