"""Process a list, or a file of any size, in chunks, and tell of each.

    streamapp serve apps/dataset/app.py

`/process_stream` is that of Chutes' guide. `/process_file` reads a file record by record, in constant memory.

Environment:
    STREAMAPP_TEXT_SENTIMENT: as in apps/text; that model tells on request how each record feels.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal

from pydantic import BaseModel, Field, field_validator

import streamapp
from streamapp.errors import InvalidInput

from .feelings import Feelings
from .records import Format, Record, format_of, records
from .tally import Tally

_MOST_CHARACTERS = 4 * 1024 * 1024  # of a list, whose results come once more at the end, twice as long each
_CHUNK_BYTES = 4 * 1024 * 1024  # after which a chunk of a file ends, however many records it has
_RESULT_BYTES = 256 * 1024  # the same where its results are told
_MOST_ERRORS = 100
_FELT = 64  # records of a chunk where a model reads them: others' turns wait for that long

Event = dict[str, Any]
Feel = Callable[[list[str]], list[str]]


class ListInput(BaseModel):
    """Hold a list, and say how many items are done at a time."""

    data: list[str] = Field(max_length=100_000, examples=[["one", "two", "three"]])
    chunk_size: int = Field(default=10, ge=1, le=10_000)

    @field_validator("data")
    @classmethod
    def _is_small(cls, data: list[str]) -> list[str]:
        if (size := sum(map(len, data))) > _MOST_CHARACTERS:
            raise ValueError(
                f"expected at most {_MOST_CHARACTERS} characters in all, got {size}; send a file to /process_file"
            )
        return data


class FileInput(BaseModel):
    """Name a file of records, and say what of them is wanted."""

    file: streamapp.LargeFile = Field(
        description="JSON Lines, CSV, or a record a line; one that was uploaded may be large."
    )
    format: Literal["auto"] | Format = Field(default="auto", description="By its name, its type, or its first bytes.")
    field: str = Field(
        default="text", max_length=1000, description="Where of an object, or in which column, the text is."
    )
    chunk_size: int = Field(default=10_000, ge=100, le=50_000, description="Records of a progress event.")
    results: bool = Field(default=False, description="Tell the result of each record.")
    sentiment: bool = Field(default=False, description="Tell how records feel.")
    state: str = Field(default="", max_length=8192, description="Of the last progress event of a run that was cut.")


class Dataset(streamapp.App):
    """Process a list, or a file of any size, in chunks: the result of each item, and a summary of all."""

    title = "Datasets in chunks"
    max_running = 4
    requirements = ["torch", "transformers"]

    def setup(self) -> None:
        """Load the model; not when it is first asked for, as a job may not load while another app's setup does."""
        self._feelings = Feelings()

    @streamapp.endpoint("/process_stream")
    def process_stream(self, input: ListInput) -> Iterator[Event]:
        """Process a list in chunks; all results come once more at the end."""
        tally, results = Tally(), list[Event]()
        total = len(input.data)
        for begin in range(0, total, input.chunk_size):
            done = _results(tally, input.data[begin : begin + input.chunk_size])
            results += done
            progress = {"processed": tally.processed, "total": total, "progress": tally.processed / total}
            yield {"type": "progress", **progress, "chunk_results": done}
        complete = {"type": "complete", "processed": total, "total": total, "progress": 1.0}
        yield {**complete, "all_results": results, "summary": tally.summary()}

    @streamapp.endpoint("/process_file", timeout_s=6 * 3600)
    def process_file(self, input: FileInput) -> Iterator[Event]:
        """Process a file record by record; what is wrong with one is told, and the rest goes on."""
        size = input.file.size
        tally = Tally.of(input.state, size, has_feelings=input.sentiment) if input.state else Tally(size=size)
        with input.file.open() as file:
            asked = None if input.format == "auto" else input.format
            format = format_of(file, input.file.file_name or "", input.file.content_type, asked)
            reading = records(file, format, input.field, tally.place)
            feel = self._feelings.of if input.sentiment else _unfelt
            yield from _processed(reading, tally, input, feel)
        if tally.failed and not tally.processed:
            raise InvalidInput(f"none of the {tally.failed} records could be read; the first errors say why")
        total = tally.processed + tally.failed
        yield {
            "type": "complete",
            "status": "completed_with_errors" if tally.failed else "completed",
            **{"processed": tally.processed, "failed": tally.failed, "total": total, "progress": 1.0},
            "summary": tally.summary(),
        }


def _unfelt(texts: Sequence[str]) -> list[str]:
    return []


def _processed(reading: Iterator[Record], tally: Tally, input: FileInput, feel: Feel) -> Iterator[Event]:
    """Yield an event for each chunk, and before it one for each record that could not be read, up to 100 in all."""
    most_bytes = _RESULT_BYTES if input.results else _CHUNK_BYTES
    most = min(input.chunk_size, _FELT) if input.sentiment else input.chunk_size
    texts, count, begin = list[str](), 0, tally.offset
    for text, problem, end, line in reading:
        tally.offset, tally.line = end, line
        count += 1
        if text is not None:
            texts.append(text)
        elif problem:
            tally.failed += 1
            if tally.failed <= _MOST_ERRORS:
                yield {"type": "error", "line": line, "error": problem}
        if count >= most or end - begin >= most_bytes:
            yield _progress(tally, texts, input, feel(texts))
            texts, count, begin = [], 0, end
    if count:
        yield _progress(tally, texts, input, feel(texts))


def _progress(tally: Tally, texts: list[str], input: FileInput, feelings: list[str]) -> Event:
    if input.results:
        results = _results(tally, texts, feelings)
        for result, label in zip(results, feelings, strict=False):  # of the records none has one, or each
            result["sentiment"] = label
        told = {"chunk_results": results}
    else:
        tally.add(texts, feelings)
        told = {}
    return {
        **{"type": "progress", "processed": tally.processed, "failed": tally.failed, "total": None},
        **{"progress": tally.offset / tally.size, "bytes": tally.offset, "total_bytes": tally.size},
        **told,
        "state": tally.state(),
    }


def _results(tally: Tally, texts: list[str], feelings: Sequence[str] = ()) -> list[Event]:
    return [
        {"original": text, "processed": text.upper(), "length": len(text), "hash": hashed.hex()[:8]}
        for text, hashed in zip(texts, tally.add(texts, feelings), strict=True)
    ]
